r"""What a model's probabilities, sets, scores and estimates are worth.

python -m experiments.main --config=configs/evaluation.py --workdir=runs/calibration

Variants, after a colon (`--config=configs/evaluation.py:accuracy`):
  calibration     calibrators and conformal sets of an overconfident network on digits
                  (the default): two minutes
  accuracy        estimates of accuracy without labels on corrupted digits: a minute
  graphs          errors of a graph network on unlabeled graphs: two minutes
  multiplicity    what equally good models predict of breast cancer: two minutes
  selection       lines of a batch that a character model should train on: two minutes
  gerrymandering  penalties of unfairness to groups, or to their intersections
  worst_group     the loss of the worst of two groups, against penalties
  sampling        points at which to measure a function, independent or repelling
  bits            the inductive bias that an error needs, by dimension, and on digits
  smoke           seconds; for tests
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


def _gerrymandering(config):
    config.agreement, config.features = 1.5, 0.6  # what they add to the log-odds
    config.widths, config.learning_rate, config.batch_size = (32,), 1e-2, 256
    config.steps, config.test = 600, 20_000
    config.weights = (3.0, 10.0, 30.0)  # of the penalties; claims are on the last
    config.tolerances = dict(
        groups=0.1,  # gap between the groups of one attribute
        apart=0.4,  # gap between intersections without a penalty
        left=0.8,  # of it by penalties of each attribute
        cut=0.25,  # by those of both
    )


def _gerrymandering_smoke(config):
    config.steps, config.test, config.batch_size = 20, 400, 64
    config.weights = (30.0,)


def _worst_group(config):
    config.seeds = 10
    config.rows, config.test = (1000, 100), 20_000  # of each group
    config.features, config.distance, config.angle = 5, 2.0, 75.0
    config.learning_rate, config.steps = 0.05, 1000
    config.kinds = ("gap", "variance", "group_mean")
    config.weights, config.weight = (0.1, 0.2, 0.4), 0.2  # all; in the claims
    config.tolerances = dict(drop=5.0)  # points of the accuracy of all


def _worst_group_smoke(config):
    config.kinds, config.weights = ("gap",), (0.2,)
    config.test, config.steps = 500, 100


def _sampling(config):
    config.x64 = True
    config.dimension, config.grid = 10, 2000
    config.points, config.draws = (10, 15, 20, 40, 100), 100
    config.functions, config.quantile = ("exp", "abs", "runge"), 0.95
    config.tolerances = dict(
        merged=(3.0, 2.0),  # largest over smallest: inverse Gram matrices, errors
        identity=1e-10,
    )


def _sampling_smoke(config):
    config.dimension, config.grid, config.draws = 3, 50, 5
    config.points, config.functions = (3, 6), ("abs",)


def _bits(config):
    config.x64 = True
    config.dimensions, config.errors = (2, 5, 10, 20), (0.1, 0.2, 0.4)
    config.train, config.test, config.samples = 100, 50, 200
    config.digits = dict(
        train=300, test=100, networks=50, width=64, steps=1000, learning_rate=1e-3
    )
    config.multiples = (0.5, 1.0, 2.0, 4.0)  # of the networks' median error
    config.tolerances = dict(
        fitted=0.01,  # mean squared error of the digits to fit
        median=0.1,  # nats away from log 2
    )


def _bits_smoke(config):
    config.dimensions, config.errors, config.samples = (2, 5), (0.2,), 20
    config.train, config.test = 20, 10
    config.digits.networks, config.digits.steps, config.digits.width = 5, 20, 8
    config.digits.train, config.digits.test = 50, 20
    config.multiples = (1.0,)


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
    gerrymandering=_gerrymandering,
    worst_group=_worst_group,
    sampling=_sampling,
    bits=_bits,
    selection=_selection,
)
SMOKE = dict(
    calibration=_calibration_smoke,
    accuracy=_accuracy_smoke,
    graphs=_graphs_smoke,
    multiplicity=_multiplicity_smoke,
    gerrymandering=_gerrymandering_smoke,
    worst_group=_worst_group_smoke,
    sampling=_sampling_smoke,
    bits=_bits_smoke,
    selection=_selection_smoke,
)
