"""The door: ``python -m experiments.main --config=configs/X.py[:variant] --workdir=DIR``.

Every entry of the config can be set: ``--config.optim.learning_rate=0.01``. The same
command again goes on where the last one stopped.
"""

import importlib
import logging
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything the run leaves.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
    """Builds the study that the config names, and runs it."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    config = CONFIG.value
    # orbax tells of every file it touches; what matters to a user is raised.
    logging.getLogger("absl").setLevel(logging.WARNING)
    import jax

    jax.config.update("jax_enable_x64", config.x64)  # before anything is traced
    from logitlab import report, train

    module = importlib.import_module(f"experiments.{config.experiment}")
    try:
        study = module.build(config)
        workdir = pathlib.Path(WORKDIR.value)
        results = train.run_study(study, config, workdir)
        verdicts = report.conclude(study, results, config, workdir)
        print(report.verdict_table(verdicts))
        print(f"\nReport: {workdir / 'report.html'}")
    except (ValueError, train.NonFiniteLoss, train.WorkdirError) as error:
        sys.exit(f"error: {error}")
    except train.Interrupted as signal:
        print(f"{signal}; the same command goes on from here", file=sys.stderr)
        sys.exit(signal.exit_code)


def run():
    """Parses the flags first, so that a typo is one line and no traceback."""
    app.run(main)


if __name__ == "__main__":
    run()
