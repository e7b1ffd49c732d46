r"""What logits are worth at decoding time, and heads of huge vocabularies.

python -m experiments.main --config=configs/decoding.py --workdir=runs/decoding

Variants, after a colon (`--config=configs/decoding.py:style`):
  guidance    how much a small tuned model should guide a large one: a strength, or a
              matched divergence (the default): a minute
  style       n-grams of a style added to a model's logits: a minute
  diversity   suppressed tokens and higher temperatures in generated training data, and
              the labels that they cost: two minutes
  codebook    which words may share an output vector: four minutes
  correction  sampled softmax with and without log Q: a minute
  smoke       seconds; for tests
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "guidance") -> ConfigDict:
    return base.choose("decoding", variant, VARIANTS, SMOKE)


def _text(config):
    config.text = dict(modules=80, held_out=20, vocabulary=96)


def _guidance(config):
    _text(config)
    config.seeds = 3
    config.orders = (6, 3)  # of the large and of the small models
    config.characters = 4000
    config.alphas = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    config.tolerances = dict(gain=0.05, root=1e-6)


def _guidance_smoke(config):
    config.text.update(modules=2, held_out=2, vocabulary=40)
    config.orders, config.characters, config.seeds = (3, 2), 40, 1


def _style(config):
    _text(config)
    config.seeds = 3
    config.order = 6
    config.strengths = (0.0, 0.1, 0.25, 0.5, 1.0)
    config.texts, config.steps = 4, 1500
    config.tolerances = dict(style=0.9, base=1.0, collapse=0.5)


def _style_smoke(config):
    config.text.update(modules=2, held_out=1, vocabulary=40)
    config.order, config.texts, config.steps, config.seeds = 3, 1, 12, 1


def _diversity(config):
    _text(config)
    config.text.vocabulary = 64
    config.seeds = 3
    config.order, config.length = 5, 80
    config.texts, config.rounds = 300, 10  # of each class
    # Of characters: the original's 7.5 for words would forbid the commonest ones.
    config.strength, config.top_k, config.temperature = 2.0, 20, 1.3
    config.real, config.compared = 600, 150
    config.inverse_penalty, config.iterations = 0.1, 200
    config.tolerances = dict(diverse=1.05, wrong=0.0, recovers=0.0)


def _diversity_smoke(config):
    config.text.update(modules=3, held_out=3, vocabulary=24)
    config.order, config.length, config.texts, config.rounds = 2, 10, 6, 2
    config.real, config.seeds = 10, 1


def _codebook(config):
    config.seeds = 3
    config.modules, config.words = 60, 2048
    config.shares = (64, 16, 4)  # words for each vector
    config.methods = ("random", "frequency", "kmeans")
    config.context, config.width, config.features = 3, 64, 32
    config.learning_rate, config.batch_size, config.steps = 3e-3, 128, 1500
    config.tolerances = dict(ahead=0.3, identity=1e-5)


def _codebook_smoke(config):
    config.modules, config.words, config.shares = 2, 64, (16,)
    config.methods, config.seeds = ("random", "frequency"), 1
    config.width = config.features = 4
    config.batch_size, config.steps = 8, 3


def _correction(config):
    config.seeds = 3
    config.classes, config.sampled = 2000, 64
    config.learning_rate, config.batch_size, config.steps = 0.05, 256, 6000
    config.tolerances = dict(corrected=0.03, plain=1.0, top=0.1)


def _correction_smoke(config):
    config.classes, config.sampled = 50, 8
    config.batch_size, config.steps, config.seeds = 8, 20, 1


VARIANTS = dict(
    guidance=_guidance,
    style=_style,
    diversity=_diversity,
    codebook=_codebook,
    correction=_correction,
)
SMOKE = dict(
    guidance=_guidance_smoke,
    style=_style_smoke,
    diversity=_diversity_smoke,
    codebook=_codebook_smoke,
    correction=_correction_smoke,
)
