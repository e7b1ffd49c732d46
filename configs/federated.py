r"""Training on clients that keep their data.

python -m experiments.main --config=configs/federated.py:tails --workdir=runs/tails

Variants, after a colon (`--config=configs/federated.py:skew`):
  skew         label skew of three strengths: FedLD beside FedAvg, FedProx and FedAdam
               (the default): minutes
  skew_cancer  the same with tumors in the place of digits: a minute
  tails        a long tail over clients, fixed frames and realigned heads: a minute
  exploration  gradients guided by where clients explored: a minute
  smoke        seconds; for tests
Expected of `skew`: FedLD 16 points behind FedAvg at the strongest skew. Of
`skew_cancer`: no difference. Of `tails`: all but single angles of a frame in one seed.
Of `exploration`: no rounds saved.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "skew") -> ConfigDict:
    return base.choose("federated", variant, VARIANTS, SMOKE)


def _skew(config):
    config.rows = "digits"
    config.seeds, config.train = 5, 1000
    config.sizes = (40, 80, 120, 160, 200)
    config.strengths = (10.0, 1.0, 0.1)  # of the Dirichlet distribution, weak to strong
    config.width, config.learning_rate, config.momentum = 64, 0.1, 0.0
    config.rounds, config.local_steps, config.batch_size = 60, 10, 16
    config.points = 20
    config.penalty, config.share = 0.1, 0.8
    config.proximal, config.server_rate = 0.1, 0.03
    config.tolerances = dict(ahead=0.0)


def _skew_cancer(config):
    _skew(config)
    config.experiment = "federated.skew"
    config.rows, config.train, config.width = "breast_cancer", 400, 16
    config.sizes = (20, 40, 60, 80, 100)
    config.data = dict(data_dir="")  # where TFDS keeps its data


def _skew_smoke(config):
    config.train, config.sizes, config.strengths = 100, (5, 8), (1.0, 0.1)
    config.width, config.rounds, config.local_steps, config.points = 4, 2, 2, 1
    config.batch_size = 4


def _tails(config):
    config.seeds, config.train = 5, 1400
    config.sizes = (30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
    config.concentration, config.imbalance, config.few = 0.5, 20.0, 3
    config.width, config.dim, config.scale = 128, 64, 10.0
    config.frame_steps, config.frame_rate = 2000, 1e-3  # of the head in training
    config.frame = dict(dim=64, sparsity=0.6, steps=10_000)
    config.learning_rate, config.momentum = 0.03, 0.5
    config.rounds, config.local_steps, config.batch_size = 60, 20, 8
    config.points = 10
    config.tolerances = dict(angle=0.04, correlation=0.8, cost=2.0)


def _tails_smoke(config):
    config.train, config.sizes, config.dim, config.width = 300, (5, 8), 10, 8
    config.frame_steps, config.frame.dim, config.frame.steps = 1, 30, 1
    config.rounds, config.local_steps, config.points = 2, 2, 1


def _exploration(config):
    config.seeds, config.train = 5, 1000
    config.clients, config.classes, config.participation = 10, 2, 0.2
    config.explorers, config.explore_steps = 5, 300
    config.width, config.learning_rate, config.batch_size = 64, 0.1, 16
    config.rounds, config.local_steps, config.last = 100, 10, 10
    config.share = 0.85  # of FedAvg's accuracy in its last rounds
    config.tolerances = dict()


def _exploration_smoke(config):
    config.train, config.clients, config.participation = 100, 5, 0.4
    config.explorers, config.explore_steps, config.width = 2, 2, 4
    config.rounds, config.local_steps, config.last = 2, 2, 1


VARIANTS = dict(
    skew=_skew, skew_cancer=_skew_cancer, tails=_tails, exploration=_exploration
)
SMOKE = dict(
    skew=_skew_smoke,
    skew_cancer=_skew_smoke,
    tails=_tails_smoke,
    exploration=_exploration_smoke,
)
