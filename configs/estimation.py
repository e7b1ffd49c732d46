r"""Estimators and decisions, each tested where the answer is known.

python -m experiments.main --config=configs/estimation.py --workdir=runs/quantiles

Variants, after a colon (`--config=configs/estimation.py:quantiles`):
  quantiles       quantiles of five models of diabetes, combined and calibrated (the
                  default)
  deep_kernels    infinitely wide and deep networks, on Dirichlet data
  feedback        clicks of which some are at random, drawn by their loss
  smoke           seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "quantiles") -> ConfigDict:
    return base.choose("estimation", variant, VARIANTS, SMOKE)


def _quantiles(config):
    config.seeds = 20  # splits of the patients
    config.levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    config.train, config.folds = 300, 5  # the other 142 are the test
    config.trees, config.leaf, config.neighbors, config.stages = 100, 5, 30, 60
    config.network = dict(widths=(32,), learning_rate=1e-2, steps=50)
    # Rates and steps are the best of a few for two splits of other seeds.
    config.combination = dict(learning_rate=0.1, steps=300, margin=0.0, crossing=1.0)
    config.local = dict(widths=(64, 64), learning_rate=1e-3, steps=50)
    config.cases = 4000  # random quantiles that are put in order
    config.tolerances = dict(
        ahead=0.0,  # in the weighted interval score
        rises=1e-5,  # rounding of a pinball loss
        sweep=0.05,  # share of the cases that a sweep makes worse
        coverage=0.03,  # away from the nominal one
    )


def _quantiles_smoke(config):
    config.levels = (0.1, 0.5, 0.9)
    config.train, config.folds = 60, 2
    config.trees, config.stages, config.cases = 3, 2, 50
    config.network.steps = config.combination.steps = config.local.steps = 5
    config.local.widths = (4,)


def _deep_kernels(config):
    config.seeds, config.x64 = 10, True
    config.alphas_2 = ((1.0, 2.0), (2.0, 1.0))
    config.alphas_3 = ((0.5, 0.5, 2.5), (2.5, 0.1, 0.5))
    config.prior = 0.4  # of the first class
    config.rows, config.test = (100, 300, 1000), 1000
    # Deep enough for the slopes at 1: distances of 1e-7 are resolved.
    config.kernels = dict(
        optimal=dict(activation_2="2d_opt", activation_3="3d_opt", depth=60),
        sine=dict(activation_2="sine_1", activation_3="sine_2.676", depth=150),
        erf=dict(activation_2="erf", depth=150),
    )
    config.power = dict(rows=500, depths=(10, 14, 18, 24))
    config.relu = dict(rows=60, test=100, depths=(2000, 10_000, 50_000))
    config.tolerances = dict(
        alike=1.0,  # points, either way
        over_nearest_2=3.0,  # points
        over_nearest_3=0.0,
        over_majority=5.0,
        nearer=0.0,
        agree=0.99,
        not_yet=0.9,
    )


def _deep_kernels_smoke(config):
    config.rows, config.test = (5, 20), 10
    for name in config.kernels:
        config.kernels[name].depth = 5
    config.power.rows, config.power.depths = 10, (2, 5)
    config.relu.rows, config.relu.test, config.relu.depths = 5, 5, (5, 20)


def _feedback(config):
    config.seeds = 10
    config.num_users, config.num_items, config.rank = 500, 300, 8
    config.sharpness = 3.0  # deviation of the log-odds that a user likes an item by
    config.liked, config.noise, config.wanted = 24, 0.3, 8
    config.factors, config.pool, config.k = 16, 5, 20
    config.learning_rate, config.weight_decay = 1e-2, 1e-2
    config.warm_up, config.epochs = 5, 40
    config.temperatures, config.temperature = (0.03, 0.1, 0.3, 1.0), 0.1
    config.tolerances = dict(
        cleaner=2.0,  # points
        ahead=0.0,
        cost=0.0,
    )


def _feedback_smoke(config):
    config.num_users, config.num_items, config.factors = 10, 40, 2
    config.liked, config.wanted, config.k = 10, 4, 5
    config.temperatures, config.epochs, config.warm_up = (0.1,), 3, 1


VARIANTS = dict(
    quantiles=_quantiles,
    deep_kernels=_deep_kernels,
    feedback=_feedback,
)
SMOKE = dict(
    quantiles=_quantiles_smoke,
    deep_kernels=_deep_kernels_smoke,
    feedback=_feedback_smoke,
)
