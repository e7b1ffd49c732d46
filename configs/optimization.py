r"""Optimizers that know what a logit is, schedules, searches, soups, bilevel problems.

python -m experiments.main --config=configs/optimization.py --workdir=runs/optimization

Variants, after a colon (`--config=configs/optimization.py:blocks`):
  spike         a learning rate that is suddenly 1000 times too large, and a cap on
                updates by the ghost radius (the default)
  fingerprint   how far a step may go at temperatures of 1/4 to 8, in units of it
  perceptron    steps that separate 1000 points, exact integers
  oracle_calls  gradients in the logits that surrogates need
  refinement    learning-rate schedules, and one refined by the last run's gradients
  autolrs       a search for the learning rate while training
  big_batch     large batches, and three remedies
  blocks        which block of coordinates is next
  bilevel       a constrained toy, and weights of examples with flipped labels
  soups         averages of fine-tuned models
  smoke         seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "spike") -> ConfigDict:
    return base.choose("optimization", variant, VARIANTS, SMOKE)


def _spike(config):
    config.seeds = 3
    config.train, config.width, config.batch_size = 1437, 128, 64
    config.rates, config.factor = (1e-4, 1e-3, 1e-2), 1000.0
    config.steps, config.spike_at, config.target_r = 200, 50, 1.0
    config.evaluate_at = (0, 25, 50, 55, 60, 75, 100, 150, 200)
    config.tolerances = dict(plain=0.25, capped=0.9)


def _spike_smoke(config):
    config.train, config.width, config.steps, config.spike_at = 100, 4, 3, 1
    config.rates, config.evaluate_at = (1e-3,), (0, 3)


def _fingerprint(config):
    config.seeds = 3
    config.train, config.widths = 1437, (128, 128)
    config.batch_size, config.learning_rate, config.steps = 256, 1e-2, 120
    config.temperatures = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    config.probe, config.lengths, config.inflation = 300, 120, 2.0
    config.tolerances = dict(spread=0.75, safe=1.0)


def _fingerprint_smoke(config):
    config.train, config.widths, config.steps = 100, (4,), 2
    config.temperatures, config.probe, config.lengths = (0.5, 2.0), 20, 8
    config.batch_size = 16


def _perceptron(config):
    config.x64, config.seeds = True, 1
    config.points = 1000
    config.normalized = dict(sizes=(100.0, 10.0, 1.0, 0.1), steps=(2, 2, 16, 157))
    config.plain = dict(sizes=(100.0, 10.0, 1.0), steps=(308, 729, 7313))
    config.limits = (3, 301)  # perceptrons, normalized and not
    config.most = 20_000


def _perceptron_smoke(config):
    config.points, config.most = 10, 50
    config.normalized = dict(sizes=(100.0,), steps=(2,))
    config.plain = dict(sizes=(100.0,), steps=(5,))


def _oracle_calls(config):
    config.seeds = 2
    config.train, config.target = 1400, 0.1
    config.sizes, config.inner = (4.0, 10.0, 40.0), (10, 100)
    config.rates = (1.0, 3.0, 10.0, 30.0, 100.0)
    config.calls, config.descent = 130, 400
    config.monotone = 4.0  # sizes up to which the surrogate is a bound
    config.tolerances = dict(rise=1e-5)  # rounding of float32


def _oracle_calls_smoke(config):
    config.train, config.sizes, config.inner, config.rates = 50, (4.0,), (1, 2), (1.0,)
    config.calls = config.descent = 3


def _refinement(config):
    config.seeds = 5
    config.sets = dict(breast_cancer=32, digits=128)  # rows of a batch
    config.epochs = 100
    config.peaks = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    config.smoothing = 0.1
    config.tolerances = dict(early=2.0, first=0.9)  # of the median norm; of the peak


def _refinement_smoke(config):
    config.sets, config.epochs = dict(breast_cancer=128), 2
    config.peaks = (0.1, 1.0)


def _autolrs(config):
    config.seeds = 3
    config.data = dict(data_dir="")  # of MNIST-1D
    config.train, config.width, config.batch_size = 4000, 64, 64
    config.bounds, config.grid = (1e-4, 1e-1), 10
    config.search_steps, config.candidates, config.stages = 100, 10, 1
    config.every, config.target = 50, 0.6  # training loss
    config.tolerances = dict(times=1.0)


def _autolrs_smoke(config):
    config.train, config.width, config.batch_size = 50, 4, 8
    config.grid, config.search_steps, config.candidates, config.stages = 2, 3, 2, 1
    config.every = 3


def _big_batch(config):
    config.seeds = 3
    config.data = dict(data_dir="")  # of MNIST-1D
    config.train, config.width = 4000, 64
    config.small, config.large, config.ghost = 32, 1024, 32
    config.epochs, config.learning_rate, config.momentum = 20, 0.05, 0.9
    config.clip, config.points = 5.0, 12
    config.tolerances = dict(closed=0.5, fit=0.95)  # points; R²


def _big_batch_smoke(config):
    config.train, config.width, config.small, config.large = 64, 4, 8, 32
    config.ghost, config.epochs, config.points = 8, 1, 3


def _blocks(config):
    config.x64, config.seeds = True, 3
    config.rows, config.features, config.density = 300, 200, 0.1
    config.scales, config.decay = (1e-2, 1e2), 1.0
    config.block, config.updates = 5, 500
    config.rules = ("random", "cyclic", "gs", "gsl", "gsd", "gsq")
    config.tolerances = dict(rounding=1e-9)


def _blocks_smoke(config):
    config.rows, config.features, config.block, config.updates = 20, 10, 2, 5


def _bilevel(config):
    config.seeds = 3
    config.toy = dict(size=100, steps=20_000)
    config.cleaning = dict(
        train=300, held_out=130, flipped=0.4, decay=0.01, steps=5000, alpha=1.0
    )
    config.tolerances = dict(distance=0.0311, auc=0.8)


def _bilevel_smoke(config):
    config.toy = dict(size=4, steps=3)
    config.cleaning.update(train=30, held_out=20, steps=3)


def _soups(config):
    config.seeds = 5
    config.pretrain, config.tune, config.held_out = 300, 700, 300
    config.width, config.batch_size, config.first_rate = 128, 64, 1e-3
    config.first_steps, config.steps = 300, 300
    config.rates, config.smoothings = (3e-4, 1e-3, 3e-3, 1e-2), (0.0, 0.1, 0.2)
    config.tolerances = dict(share=0.8, below=10.0)  # points


def _soups_smoke(config):
    config.pretrain, config.tune, config.held_out, config.width = 40, 40, 40, 4
    config.first_steps, config.steps, config.batch_size = 2, 2, 8
    config.rates, config.smoothings = (1e-3, 1e-2), (0.0,)


VARIANTS = dict(
    spike=_spike,
    fingerprint=_fingerprint,
    perceptron=_perceptron,
    oracle_calls=_oracle_calls,
    refinement=_refinement,
    autolrs=_autolrs,
    big_batch=_big_batch,
    blocks=_blocks,
    bilevel=_bilevel,
    soups=_soups,
)
SMOKE = dict(
    spike=_spike_smoke,
    fingerprint=_fingerprint_smoke,
    perceptron=_perceptron_smoke,
    oracle_calls=_oracle_calls_smoke,
    refinement=_refinement_smoke,
    autolrs=_autolrs_smoke,
    big_batch=_big_batch_smoke,
    blocks=_blocks_smoke,
    bilevel=_bilevel_smoke,
    soups=_soups_smoke,
)
