r"""Estimators and decisions, each tested where the answer is known.

python -m experiments.main --config=configs/estimation.py --workdir=runs/quantiles

Variants, after a colon (`--config=configs/estimation.py:quantiles`):
  quantiles       quantiles of five models of diabetes, combined and calibrated (the
                  default)
  deep_kernels    infinitely wide and deep networks, on Dirichlet data
  feedback        clicks of which some are at random, drawn by their loss
  forests         effective parameters of forests, at points seen and not seen
  auctions        positions of ads that compete for one click
  smoke           seconds; for tests
Expected of `quantiles`: weights for each model and pair of levels are ahead of the best
model and of the average, those for each patient are not. Of `forests`: half to a
thirteenth of the effective parameters at test points, mostly fewer still far from what
is learned.
Of `feedback` and `auctions`: all that is claimed.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "quantiles") -> ConfigDict:
    return base.choose("estimation", variant, VARIANTS, SMOKE)


def _quantiles(config):
    config.seeds = 10  # splits of the patients
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
    config.seeds, config.x64 = 5, True
    config.alphas_2 = ((1.0, 2.0), (2.0, 1.0))
    config.alphas_3 = ((0.5, 0.5, 2.5), (2.5, 0.1, 0.5))
    config.prior = 0.4  # of the first class
    config.rows, config.test = (50, 150, 500), 1000
    # Deep enough for the slopes at 1: distances of 1e-5 are told apart.
    config.kernels = dict(
        optimal=dict(activation_2="2d_opt", activation_3="3d_opt", depth=60),
        sine=dict(activation_2="sine_1", activation_3="sine_2.676", depth=100),
        erf=dict(activation_2="erf", depth=120),
    )
    config.power = dict(rows=500, depths=(10, 17, 24))
    config.relu = dict(rows=60, test=20, depths=(2000, 50_000))
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
    config.seeds = 6
    config.num_users, config.num_items, config.rank = 500, 300, 8
    config.sharpness = 3.0  # deviation of the log-odds that a user likes an item by
    config.liked, config.noise, config.wanted = 24, 0.3, 8
    config.factors, config.pool, config.k = 16, 5, 20
    config.learning_rate, config.weight_decay = 1e-2, 1e-2
    config.warm_up, config.epochs = 5, 30
    config.temperatures, config.temperature = (0.1, 0.3, 1.0), 0.1
    config.tolerances = dict(
        cleaner=2.0,  # points
        ahead=0.0,
        cost=0.0,
    )


def _feedback_smoke(config):
    config.num_users, config.num_items, config.factors = 10, 40, 2
    config.liked, config.wanted, config.k = 10, 4, 5
    config.temperatures, config.epochs, config.warm_up = (0.1,), 3, 1


def _forests(config):
    config.seeds, config.x64 = 6, True
    config.train = dict(diabetes=300, digits=400)
    config.trees, config.leaf = (1, 3, 10, 30, 100), 5
    config.neighbors = (1, 5, 25)
    config.tolerances = dict(
        exact=1e-5,
        forest=0.6,  # parameters per example
        unseen=0.9,  # of the parameters at training points
        farther=1.0,
    )


def _forests_smoke(config):
    config.train = dict(diabetes=40, digits=30)
    config.trees, config.neighbors = (1, 3), (5,)


def _auctions(config):
    config.x64 = True
    config.advertisers, config.positions, config.k = 8, 4, 4
    config.small = dict(advertisers=4, positions=3, k=3, instances=40)
    config.instances, config.bidders, config.grid = 60, 25, 16
    config.spreads = (0.5, 1.0, 2.0)  # of the utilities of advertisers
    config.reports = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)  # bids over values
    config.cascade = dict(ads=6, most=6, tried=4, instances=40)
    config.tolerances = dict(
        exact=1e-6,
        gain=0.0,
        ahead=0.02,  # of the welfare
        revenue=0.0,
        promised=0.03,
    )


def _auctions_smoke(config):
    config.small.instances, config.instances, config.bidders = 2, 2, 2
    config.grid, config.reports, config.cascade.instances = 4, (0.5, 1.0), 2


VARIANTS = dict(
    quantiles=_quantiles,
    deep_kernels=_deep_kernels,
    feedback=_feedback,
    forests=_forests,
    auctions=_auctions,
)
SMOKE = dict(
    quantiles=_quantiles_smoke,
    deep_kernels=_deep_kernels_smoke,
    feedback=_feedback_smoke,
    forests=_forests_smoke,
    auctions=_auctions_smoke,
)
