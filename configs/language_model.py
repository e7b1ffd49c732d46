r"""A decoder language model, from a laptop to a pod.

python -m experiments.main --config=configs/language_model.py \
    --workdir=runs/language_model

Variants, after a colon (`--config=configs/language_model.py:v5e_256`):
  laptop      bytes of Python's standard library: minutes on two cores
  distill     a smaller decoder alone, and beside a larger one that teaches it
  prefer      DPO: pairs of how the text goes on and what stands elsewhere, against a
              reference that learns the text beside it
  v5e_256     a billion parameters over pairs of bytes, context 2048, bfloat16, spread
              with the optimizer's state over 256 TPU v5e. Before paying for it:
                python -m experiments.main --dry_run --topology=v5e:16x16 \
                    --config=configs/language_model.py:v5e_256
  smoke       seconds; for tests
Any loss of the library trains it: --config.loss.name=focal_loss; one that needs more of
a row than the probability of its label takes --config.head=rows as well. Another text
is a data set of TFDS with documents: --config.data.dataset=c4/en, and
--config.data.data_dir=gs://BUCKET/PATH where it was prepared.
Expected of `laptop`: fewer bits for a byte than the counts of pairs of bytes need.
Source: LLaMA, Touvron et al. 2023, arXiv:2302.13971.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base


def get_config(variant: str = "laptop") -> ConfigDict:
    return base.choose(
        "scaling",
        variant,
        VARIANTS,
        SMOKE,
        common=_common,
        seeds=1,
        mesh=dict(data=-1),
        nonfinite="stop",
    )


def _common(config):
    config.experiment = "scaling.language_model"
    config.evaluate_per_decade = 3
    config.data = dict(bytes_per_token=1, context=128, windows=128, ahead=8, seed=0)
    config.data.folder = placeholder(str)  # of the standard library; by default ours
    config.data.dataset = placeholder(str)  # of TFDS, in place of that library
    config.data.data_dir = placeholder(str)  # of TFDS
    config.model = dict(width=128, layers=4, heads=4, kv_heads=2, hidden=344)
    config.model.update(tied=True, rotary_base=10_000.0, dtype="float32", remat=False)
    config.teacher = config.model.copy_and_resolve_references()
    config.divergence = ""  # of the model from a teacher that learns beside it, if any
    config.preference = ""  # a loss of pairs, against a reference that learns beside it
    config.loss = dict(name="cross_entropy")  # of logitlab.losses, and its settings
    config.head = "label"  # what the loss needs: probabilities of labels, or whole rows
    config.optim = dict(learning_rate=3e-3, warmup=0.05, b1=0.9, b2=0.95)
    config.optim.update(weight_decay=0.1, clip=1.0)
    config.batch_size, config.steps = 16, 400
    config.label = ""
    config.arms = dict(decoder={})
    config.judged, config.tolerances = "decoder", dict(below_bigram=0.0)


def _laptop(config):
    del config  # what all variants begin with


def _distill(config):
    small = dict(width=64, layers=2, heads=4, kv_heads=2, hidden=168)
    config.model.update(small)
    config.arms = dict(alone={}, distilled=dict(divergence="forward_kl"))
    config.judged = "distilled"


def _prefer(config):
    config.arms = dict(preferred=dict(preference="dpo_loss"))
    config.judged, config.tolerances = "preferred", dict(preferred=0.6)


# Of a parameter, the name and where its dimensions lie. Layers are stacked in front.
FULLY_SHARDED = (
    ("embedding", ("model", "data")),
    ("(query|key|value|gate|up)/kernel", (None, "data", "model")),
    ("(out|down)/kernel", (None, "model", "data")),
)


def _v5e_256(config):
    config.data.update(bytes_per_token=2, context=2048, windows=256)
    config.model.update(width=2048, layers=20, heads=16, kv_heads=4, hidden=5632)
    config.model.update(dtype="bfloat16", remat=True)
    config.teacher = config.model.copy_and_resolve_references()
    config.mesh, config.sharding = dict(data=64, model=4), FULLY_SHARDED
    config.optim.update(learning_rate=3e-4, warmup=0.02)
    config.batch_size, config.steps = 256, 20_000
    config.judged = ""  # nobody has run it yet


def _small(config):
    config.data.update(context=16, windows=8, ahead=2)
    config.model.update(width=16, layers=2, heads=2, kv_heads=1, hidden=32)
    config.batch_size, config.steps = 8, 2


def _small_distill(config):
    _small(config)
    config.arms = dict(distilled=config.arms.distilled)
    config.model.layers = 1
    config.teacher.update(width=24, layers=1, heads=2, kv_heads=1, hidden=32)


def _small_prefer(config):
    _small(config)
    config.model.layers = 1
    config.teacher = config.model.copy_and_resolve_references()


VARIANTS = dict(laptop=_laptop, distill=_distill, prefer=_prefer, v5e_256=_v5e_256)
SMOKE = dict(laptop=_small, distill=_small_distill, prefer=_small_prefer)
