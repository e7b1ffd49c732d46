r"""What online learners lose against the best in hindsight.

python -m experiments.main --config=configs/online.py --workdir=runs/drift

Variants, after a colon (`--config=configs/online.py:bandit`):
  drift       guessing the next gradient, for losses that move (the default): half a
              minute
  groups      predictions that are good for every one of overlapping groups
  bandit      estimates far below zero: log-barrier against exponential weights
  contextual  ten digits as the arms of a bandit, explored by a network's predictions:
              two minutes
  smoke       seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "drift") -> ConfigDict:
    return base.choose("online", variant, VARIANTS, SMOKE)


def _drift(config):
    config.seeds = 20
    config.horizons = (1000, 4000, 16_000)
    config.sigmas, config.turns = (0.25, 0.5, 1.0), (1, 4, 16, 64, 256)
    config.offset = 56.0  # 10 D² L² + 4 G²: a disc of radius 1, gradients up to 2
    config.tolerances = dict(stops=1.1, exponent=0.15, jumps=2.0)


def _drift_smoke(config):
    config.horizons, config.sigmas, config.turns = (10, 40), (0.5,), (1,)


def _groups(config):
    config.seeds = 10
    config.rounds, config.dimension, config.groups = 10_000, 10, 5
    config.share, config.noise, config.ridge = 0.4, 0.1, 1.0
    config.tolerances = dict(largest=0.5)


def _groups_smoke(config):
    config.rounds, config.groups, config.dimension = 30, 2, 2


def _bandit(config):
    config.seeds, config.repeats = 5, 20
    config.horizons, config.shifts = (1000, 4000, 16_000), (0.0, 1.0, 2.0)
    config.arms, config.best, config.others = 10, 0.2, (0.3, 0.7)
    config.tolerances = dict(
        growth=(1.8, 2.5),  # for four times the rounds
        learns=0.5,  # of the regret of even chances
        breaks=2.0,  # times the log-barrier's regret
    )


def _bandit_smoke(config):
    config.horizons, config.shifts, config.repeats = (10, 40), (0.0, 1.0), 2


def _contextual(config):
    config.seeds, config.rounds, config.marks = 5, 5000, 5
    config.width, config.rates = 32, (0.1, 0.3, 1.0)
    config.seed = 100  # others than those of a trial whose best settings were the last
    config.gammas = (100.0, 300.0, 1000.0, 3000.0, 10_000.0)
    config.shares = (0.0, 0.001, 0.003, 0.01, 0.03)


def _contextual_smoke(config):
    config.rounds, config.marks, config.width = 10, 2, 4
    config.gammas, config.shares, config.rates = (10.0,), (0.1,), (0.1,)


VARIANTS = dict(drift=_drift, groups=_groups, bandit=_bandit, contextual=_contextual)
SMOKE = dict(
    drift=_drift_smoke,
    groups=_groups_smoke,
    bandit=_bandit_smoke,
    contextual=_contextual_smoke,
)
