r"""Where a logit comes from: norms, features, training examples, contexts.

python -m experiments.main --config=configs/interpretability.py --workdir=runs/explained

Variants, after a colon (`--config=configs/interpretability.py:influence`):
  norms         a transformer loses its norms, and attribution becomes exact (the
                default): five minutes
  explanations  eight explanations of a logit, each in the neighborhood of the others
  influence     which training examples a prediction comes from, and what happens
                without them
  factors       features that good models agree on, taught to a small one
  in_context    what one layer of linear attention learns
  smoke         seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "norms") -> ConfigDict:
    return base.choose("interpretability", variant, VARIANTS, SMOKE)


def _norms(config):
    config.seeds = 1
    config.data = dict(folder="", context=64, tests=64)
    config.model = dict(width=32, layers=2, heads=4)
    config.batch_size, config.steps, config.tuning, config.every = 16, 1000, 300, 20
    config.learning_rate, config.tuning_rate = 3e-3, 1e-3
    config.removal = dict(start=20, gaps=(10, 10, 10), last=(10, 20))
    config.std_weight = 0.1
    config.tolerances = dict(
        gap=0.05,  # nats
        times=10.0,  # of the gradual removal's gap
        before=0.01,  # NMAE
        after=1e-5,  # rounding
        folded=1e-5,
    )


def _norms_smoke(config):
    config.data.update(context=8, tests=2)
    config.model.update(width=8, layers=1, heads=2)
    config.batch_size, config.steps, config.tuning, config.every = 2, 3, 8, 4
    config.removal = dict(start=1, gaps=(1, 1, 1), last=(1, 1))


def _explanations(config):
    config.seeds, config.x64 = 2, True
    config.train, config.inputs = 1200, 6
    config.widths, config.steps = (64,), 300
    config.samples, config.growing = 2000, (250, 1000, 4000)
    config.sigma, config.width = 0.1, 1.0
    config.tolerances = dict(
        cosine=0.99,
        exact=1e-6,
        recovered=1e-3,
        near=1.05,  # times the least loss of a row
        slope=0.15,  # of -1/2
    )


def _explanations_smoke(config):
    config.train, config.inputs, config.widths, config.steps = 100, 1, (4,), 5
    config.samples, config.growing = 80, (70, 90)


def _influence(config):
    config.seeds = 5
    config.train, config.queries, config.removed = 1000, 24, 6
    config.widths, config.steps, config.decay = (64,), 300, 1e-3  # 4810 parameters
    config.dampings = (0.1, 1.0, 10.0)  # over the mean eigenvalue of a layer
    config.draws, config.share, config.chunk = 4, 0.1, 250
    config.tolerances = dict(correlation=0.9)


def _influence_smoke(config):
    config.train, config.queries, config.removed = 60, 3, 1
    config.widths, config.steps, config.draws, config.chunk = (4,), 5, 1, 40


def _factors(config):
    config.seeds = 10
    config.sets, config.share, config.trees = ("breast_cancer", "wine"), 0.1, 100
    config.width, config.steps, config.learning_rate = 16, 300, 1e-2
    config.weights, config.weight = (0.0, 0.03, 0.1, 0.3, 1.0), 0.1
    config.tolerances = dict(agreement=0.6, points=1.0)


def _factors_smoke(config):
    config.sets, config.trees, config.width, config.steps = ("wine",), 2, 4, 5
    config.weights = (0.0, 0.1)


def _in_context(config):
    config.seeds = 3
    config.examples, config.features, config.noise = 20, 5, 0.5
    config.steps, config.batch_size, config.learning_rate = 5000, 256, 1e-2
    config.test, config.test_batches = 10_000, 40
    config.tolerances = dict(
        isotropic=0.03, covariance=0.05, off_diagonal=0.02, risk=0.01
    )


def _in_context_smoke(config):
    config.steps, config.batch_size, config.test, config.test_batches = 5, 8, 20, 2


VARIANTS = dict(
    norms=_norms,
    explanations=_explanations,
    influence=_influence,
    factors=_factors,
    in_context=_in_context,
)
SMOKE = dict(
    norms=_norms_smoke,
    explanations=_explanations_smoke,
    influence=_influence_smoke,
    factors=_factors_smoke,
    in_context=_in_context_smoke,
)
