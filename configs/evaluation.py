r"""Numbers about predictions, and what they are worth.

python -m experiments.main --config=configs/evaluation.py --workdir=runs/accuracy

Variants, after a colon (`--config=configs/evaluation.py:accuracy`):
  accuracy   estimates of accuracy without labels on corrupted digits (the default): a
             minute
  smoke      seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "accuracy") -> ConfigDict:
    return base.choose("evaluation", variant, VARIANTS, SMOKE)


def _accuracy(config):
    config.seeds = 4
    config.kinds = (
        "gaussian_noise",
        "impulse_noise",
        "blur",
        "contrast",
        "brightness",
        "shift",
        "rotation",
        "occlusion",
    )
    config.severities = (1, 2, 3, 4, 5)
    config.train, config.labeled = 900, 400  # the other 497 digits are corrupted
    config.width = 64
    config.training = dict(learning_rate=0.1, steps=3000, batch_size=64)
    config.projection = dict(learning_rate=0.1, steps=50, batch_size=128)
    config.confident = 5.0  # the criterion from which on a model counts as confident
    config.tolerances = dict(
        pooled=0.6,  # rank correlation of MaNo over all sets
        monotone=0.5,  # share of corruptions whose severities it orders
        taylor=0.3,  # rank correlation of the Taylor branch of confident sets
        lead=0.0,  # of MaNo over the best other estimate
    )


def _accuracy_smoke(config):
    config.kinds, config.severities, config.seeds = ("contrast", "blur"), (1, 5), 1
    config.train, config.width, config.training.steps = 300, 16, 100
    config.projection.steps = 5


VARIANTS = dict(accuracy=_accuracy)
SMOKE = dict(accuracy=_accuracy_smoke)
