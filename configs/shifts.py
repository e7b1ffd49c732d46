r"""What holds when the test data are not the training data.

python -m experiments.main --config=configs/shifts.py:stable --workdir=runs/stable

Variants, after a colon:
  stable          weights of examples against correlations that do not last (the
                  default)
  smoke           seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "stable") -> ConfigDict:
    return base.choose("shifts", variant, VARIANTS, SMOKE)


def _stable(config):
    config.seeds, config.rows, config.test = 5, 250, 2000
    config.rates, config.test_rate = (0.95, 0.85, 0.75, 0.65), 0.1
    config.stable, config.spurious = 5, 5
    config.shared, config.bend, config.noise = 0.5, 0.3, 1.0
    config.steps, config.learning_rate, config.l2 = 200, 0.1, 0.0
    config.fit_steps = 300


def _stable_smoke(config):
    config.rows, config.test, config.steps, config.fit_steps = 20, 20, 2, 2


VARIANTS = dict(stable=_stable)
SMOKE = dict(stable=_stable_smoke)
