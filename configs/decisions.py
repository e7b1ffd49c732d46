r"""Small problems of deciding whose regret can be computed.

python -m experiments.main --config=configs/decisions.py --workdir=runs/value_gradient

Variants, after a colon (`--config=configs/decisions.py:grouped_actions`):
  value_gradient   a model too small for its state, trained by what a value asks (the
                   default)
  grouped_actions  one estimate for several actions, by the number of samples
  shared_features  bandits that learn their common features together, or each alone
  transfer         which of fifty tasks to train on, so that all of them profit
  smoke            seconds; for tests
Expected: VaGraM has a lower error of the value and a higher one of the state than
squared errors; clusters and single actions cross at about 200 samples; a bandit that
learns features with others has 0.57 of the regret alone; MBTL is above tasks at random
after every task, and behind equal distances on a steep line for most of the way.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "value_gradient") -> ConfigDict:
    return base.choose("decisions", variant, VARIANTS, SMOKE)


def _value_gradient(config):
    config.seeds = 20
    config.relevant, config.distractors, config.distractor_scale = 4, 12, 3.0
    config.rank, config.learning_rate, config.steps = 2, 1e-2, 1500
    config.train, config.test = 1000, 1000
    config.marks = 12  # evaluations


def _value_gradient_smoke(config):
    config.steps, config.marks, config.train, config.test = 20, 2, 40, 40


def _grouped_actions(config):
    config.runs, config.noise, config.within = 400, 1.0, 0.15
    config.actions, config.clusters = 64, 8
    config.groups = (4, 8, 16, 32, 64)
    config.samples = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    config.between = (128, 2048)  # samples, where the curves are to cross
    config.tolerances = dict(prototype=0.03)  # of a regret


def _grouped_actions_smoke(config):
    config.runs, config.samples, config.between = 10, (64, 2048), (64, 2048)
    config.groups = (8, 64)


def _shared_features(config):
    config.tasks, config.candidates, config.arms = 8, 30, 8
    config.inputs, config.features, config.noise = 6, 2, 0.5
    config.rounds, config.marks, config.plays = 120, (10, 20, 40, 80, 120), 20
    config.scale = 1.0  # of confidence sets
    config.tolerances = dict(
        share=0.8,  # of the regret of tasks that learn alone
        prototype=1.0,  # away from its regrets, whose constants are inferred
    )


def _shared_features_smoke(config):
    config.rounds, config.marks, config.plays = 6, (3, 6), 2
    config.candidates = 4


def _transfer(config):
    config.seeds = 10
    config.tasks, config.steps, config.draws = 50, 10, 100
    config.mean, config.swing, config.turns, config.noise = 0.6, 0.3, 3.0, 0.05
    config.slopes = (0.01, 0.03)  # performance lost from a task to the next
    config.spread = (0.7, 1.3)  # of a loss, around the slope
    # Digits, classified by ridge regression, turned by each of the angles in testing.
    config.digits = dict(rows=600, ridge=10.0, angle=90.0, tasks=37, slope=0.05)
    config.tolerances = dict(oracle=0.9, equidistant=0.02)


def _transfer_smoke(config):
    config.tasks, config.steps, config.draws, config.slopes = 6, 2, 2, (0.01,)
    config.digits.update(rows=50, tasks=5)


VARIANTS = dict(
    value_gradient=_value_gradient,
    grouped_actions=_grouped_actions,
    shared_features=_shared_features,
    transfer=_transfer,
)
SMOKE = dict(
    value_gradient=_value_gradient_smoke,
    grouped_actions=_grouped_actions_smoke,
    shared_features=_shared_features_smoke,
    transfer=_transfer_smoke,
)
