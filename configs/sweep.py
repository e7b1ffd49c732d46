r"""A grid or a random search over the entries of another config.

python -m experiments.main --config=configs/sweep.py --workdir=runs/sweep

Every point is an arm of one study: resumed like any other, and with `--share` taken by
whichever process or machine that works on the same workdir is free. Points that differ
in floats alone train in one compiled program, where the experiment only calculates with
them. Ends in a table, best point first, and a figure. Another sweep, say

    --config.base=configs/grokking.py:smoke --config.x64=True --config.arms="('exact',)"
    --config.fields="(('optim.learning_rate', (0.001, 0.003, 0.01)),)"

Variants, after a colon:
  grid    learning rate and width for three losses on half-wrong digits; three minutes
  random  the learning rate and the momentum of one of them, sixteen points
  smoke   seconds; for tests
Expected of `grid`: the cross-entropy gets 0.90 right with the smallest learning rate,
less with each larger one, and is at chance with 1.0; the other two stay above 0.92 from
0.1 on.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "grid") -> ConfigDict:
    return base.choose("sweep", variant, VARIANTS, SMOKE, seeds=3, mesh=dict(data=-1))


def _grid(config):
    config.experiment = "sweep"
    config.base = "configs/classification.py:noise"
    config.set = (("noise.rates", (0.5,)), ("pick", ("ce", "gce", "mae")))
    config.arms = ()  # of the base; none: all
    # (entry, values) of a grid; of a random search (entry, "choice", values) or
    # (entry, "uniform" or "log", low, high).
    config.fields = (
        ("optim.learning_rate", (0.03, 0.1, 0.3, 1.0)),
        ("model.MLP.widths", ((32,), (128,))),
    )
    config.points = 0  # of a random search; 0: the whole grid
    config.metric, config.best_by = "test/accuracy", "max"


def _random(config):
    _grid(config)
    config.arms, config.points = ("gce_50",), 16
    config.fields = (
        ("optim.learning_rate", "log", 0.01, 3.0),
        ("optim.sgd.momentum", "uniform", 0.0, 0.95),
    )


def _grid_smoke(config):
    config.arms = ("ce_50",)
    config.set += (("epochs", 1),)
    config.fields = (("optim.learning_rate", (0.03, 0.1)),)


VARIANTS = dict(grid=_grid, random=_random)
SMOKE = dict(grid=_grid_smoke)
