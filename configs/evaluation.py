r"""What a model's probabilities, sets, scores and estimates are worth.

python -m experiments.main --config=configs/evaluation.py --workdir=runs/calibration

Variants, after a colon (`--config=configs/evaluation.py:accuracy`):
  calibration  calibrators and conformal sets of an overconfident network on digits
               (the default): two minutes
  accuracy     estimates of accuracy without labels on corrupted digits: a minute
  graphs       errors of a graph network on unlabeled graphs: two minutes
  multiplicity  what equally good models predict of breast cancer: two minutes
  selection    which lines of a batch a character model should train on: two minutes
  smoke        seconds; for tests
Expected of `calibration`: the sets of every calibrator hold the label of 89 to 91 % of
the images. The temperature lowers the calibration error of a split, but does not halve
it, as the error of 500 images is biased upwards. Of `graphs` and `multiplicity`: all
that is claimed. Of `selection`: nothing, lines at random do better than those of UDS.
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


def _graphs(config):
    # Errors go from 5 to 50 %; the width is the best of 16, 32 and 64 for other seeds.
    config.graph = dict(
        nodes=400, classes=4, p_in=0.04, p_out=0.006, features=32, noise=1.5
    )
    config.noise = (0.0, 1.1, 2.2, 3.3, 4.5)  # deviation of what features gain
    config.rewired = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # share of the edges
    config.width = 64
    config.training = dict(learning_rate=5e-3, weight_decay=5e-4, epochs=200)
    config.retraining = dict(max_epochs=200, min_epochs=5, margin=0.01)
    config.slower = 0.2  # of the learning rate, in an arm of its own
    config.tolerances = dict(every=0.5, mean=0.6, slow=150)


def _graphs_smoke(config):
    config.graph.nodes, config.width, config.training.epochs = 40, 8, 20
    config.noise, config.rewired, config.retraining.max_epochs = (0, 3), (0, 0.5), 10


def _multiplicity(config):
    config.seeds, config.x64 = 20, True
    config.rare, config.common = 40, 160  # patients that are learned from
    config.asked = 50  # patients of each group about whom models are asked
    config.flipped = (0.0, 0.1, 0.2)  # share of the labels
    config.epsilons = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # nats above the best
    config.delta = 0.1  # from which on two probabilities differ
    config.group_epsilon, config.group_flipped = 0.01, 0.1  # where groups are compared
    config.tolerances = dict(
        grows=0.0,  # ambiguity, from the first epsilon to the last
        p_value=0.05,
        flips=0.0,  # more ambiguity with more of them
    )


def _multiplicity_smoke(config):
    config.epsilons, config.flipped = (0.01, 0.05), (0.1,)
    config.rare, config.common, config.asked = 10, 30, 5


def _selection(config):
    config.text = dict(modules=60, length=33)
    config.pool = dict(size=4096, duplicates=0.3, originals=32, noise=0.1, held_out=512)
    config.batch_size, config.keep = 32, 8  # of which a quarter is trained on
    config.model = dict(window=8, embedding=16, width=64)
    config.learning_rate = 1e-2
    config.after = (100, 200, 400, 600, 800, 1000)  # steps, where losses are measured
    # The weight of diversity selects fewer duplicates than 0.1 and 0.3 do, with another
    # seed; the learning rate is the best of 1e-3, 3e-3 and 1e-2 for lines at random.
    config.alpha = 1.0
    config.uds = dict(buffer=256, time_samples=4, vocab_samples=32)
    config.tolerances = dict(
        duplicates=0.0,  # fewer than in the pool
        ahead=0.0,  # nats
        seeds=0.8,  # of which UDS is ahead
    )


def _selection_smoke(config):
    config.text.modules, config.after = 20, (2, 4)
    config.pool.update(size=64, originals=4, held_out=16)
    config.model.width = 8


VARIANTS = dict(
    calibration=_calibration,
    accuracy=_accuracy,
    graphs=_graphs,
    multiplicity=_multiplicity,
    selection=_selection,
)
SMOKE = dict(
    calibration=_calibration_smoke,
    accuracy=_accuracy_smoke,
    graphs=_graphs_smoke,
    multiplicity=_multiplicity_smoke,
    selection=_selection_smoke,
)
