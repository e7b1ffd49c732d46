r"""What latent models, frozen features and learned halfspaces are worth.

python -m experiments.main --config=configs/representations.py --workdir=runs/latent

Variants, after a colon (`--config=configs/representations.py:halfspace`):
  latent     labels that a model of unlabeled data saves (the default): a minute
  probe      layers of a language model, by the modules that its text comes from
  halfspace  a halfspace from partly wrong labels, and a test of what that relies on
  smoke      seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "latent") -> ConfigDict:
    return base.choose("representations", variant, VARIANTS, SMOKE)


def _latent(config):
    config.seeds, config.x64 = 10, True
    config.factor = dict(
        dimension=50,
        rank=3,
        noise=0.7,
        unlabeled=(100, 1000, 10_000),
        labeled=(20, 50, 200, 1000),
    )
    config.mixture = dict(
        components=4,
        dimension=20,
        distance=3.0,
        unlabeled=4000,
        labeled=(10, 40, 160),
        test=4000,
    )
    config.tolerances = dict(
        few=200,  # labels, with at most which the latent model is ahead
        many=1000,  # examples without labels, from which on it is
        steep=50,  # labels, from which on the slope is fitted
        slope=0.25,
        meets=0.8,  # times ridge regression's, with many labels and few others
    )


def _latent_smoke(config):
    config.factor.update(dimension=4, rank=1, unlabeled=(20, 40), labeled=(5, 10))
    config.mixture.update(
        components=2, dimension=2, unlabeled=30, labeled=(5, 10), test=20
    )


def _halfspace(config):
    config.seeds = 20
    config.rows, config.dimension, config.flipped = 20_000, 10, 0.1
    config.cluster, config.freedom = 0.03, 5.0
    config.steps, config.starts, config.l2 = 150, 3, 1e-4
    config.tolerances = dict(near=0.01, decides=0.95)


def _halfspace_smoke(config):
    config.rows, config.dimension, config.steps, config.starts = 100, 2, 3, 1


def _probe(config):
    config.seeds = 3
    config.classes, config.candidates, config.windows = 10, 40, 100
    config.length, config.train = 48, 4000
    config.width, config.layers, config.heads = 48, 2, 4
    config.learning_rate, config.batch_size, config.steps = 3e-3, 16, 600
    config.points = 4
    config.buckets, config.grams = 20_000, (3, 5)
    config.tolerances = dict(points=2.0)


def _probe_smoke(config):
    config.classes, config.candidates, config.windows = 2, 3, 10
    config.length, config.train, config.width, config.layers = 8, 32, 8, 1
    config.steps, config.points, config.buckets = 2, 1, 50


VARIANTS = dict(latent=_latent, probe=_probe, halfspace=_halfspace)
SMOKE = dict(latent=_latent_smoke, probe=_probe_smoke, halfspace=_halfspace_smoke)
