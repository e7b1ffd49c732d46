"""Training: from a study's arms to metrics, checkpoints and results."""

from typing import TYPE_CHECKING

from logitlab import _lazy

with _lazy.train_extra(__name__):
    from logitlab.train._feeding import DataError
    from logitlab.train.config import arm_configs, log_points, pick
    from logitlab.train.files import WorkdirError
    from logitlab.train.forecast import dry_run
    from logitlab.train.loop import NonFiniteLoss
    from logitlab.train.program import build_program
    from logitlab.train.progress import Interrupted
    from logitlab.train.results import ArmResult
    from logitlab.train.runner import run_study
    from logitlab.train.step import TrainState, advance, init_state, make_step
    from logitlab.train.study import Compute, Run, Stream, Study

__all__ = [
    "ArmResult",
    "Compute",
    "DataError",
    "Interrupted",
    "NonFiniteLoss",
    "Run",
    "Stream",
    "Study",
    "TrainState",
    "WorkdirError",
    "advance",
    "arm_configs",
    "build_program",
    "dry_run",
    "init_state",
    "log_points",
    "make_step",
    "pick",
    "run_study",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
