r"""What a model's probabilities, sets and scores are worth, where the truth is known.

python -m experiments.main --config=configs/evaluation.py --workdir=runs/calibration

Variants, after a colon (`--config=configs/evaluation.py:calibration`):
  calibration  calibrators and conformal sets of an overconfident network on digits
               (the default): two minutes
  smoke        seconds; for tests
Expected of `calibration`: the sets of every calibrator hold the label of 89 to 91 % of
the images. The temperature lowers the calibration error of a split, but does not halve
it, as the error of 500 images is biased upwards.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "calibration") -> ConfigDict:
    return base.choose("evaluation", variant, VARIANTS, SMOKE)


def _calibration(config):
    config.train = 300  # images; of the others each split takes three equal parts
    config.widths, config.learning_rate, config.steps = (128, 128), 3e-3, 300
    config.calibrators = ("none", "temperature", "platt", "isotonic")
    config.splits = 50  # of the held-out images, for the mean coverage of a seed
    config.alpha, config.bins = 0.1, 15
    config.tolerances = dict(
        overconfident=0.02,  # calibration error before
        halved=0.5,  # of it left by the temperature
        coverage=0.01,  # away from 1 - alpha
    )


def _calibration_smoke(config):
    config.widths, config.steps, config.splits = (16,), 40, 2
    config.calibrators = ("none", "temperature")


VARIANTS = dict(calibration=_calibration)
SMOKE = dict(calibration=_calibration_smoke)
