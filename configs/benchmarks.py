r"""Speed, as ratios measured side by side in one process.

python -m experiments.main --config=configs/benchmarks.py:loop --workdir=runs/benchmark

Variants, after a colon:
  loop       what the training loop, its seeds, checkpoints, logs and the import cost;
             about five minutes
  losses     time and memory of every loss beside optax's cross-entropy, 4096 x 32000:
             about ten minutes and 4 GB
  spherical  a step of a spherical head against the number of classes; two minutes and
             2 GB; OPENBLAS_NUM_THREADS=1 before the command, unless the machine is idle
  distillation  time and memory of every distillation loss beside a divergence written
             by hand, 2048 x 32000: about ten minutes and 6 GB
  heads      linear heads that hold no logits beside dense ones, 4096 tokens, width 512,
             131072 classes: about half an hour and 10 GB; beside tokamax if installed
  evaluation  calibration error, AUROC and the fit of a temperature beside NumPy, from
             1000000 x 100 logits: two minutes and 5 GB
  attacks    Auto-PGD in three norms beside the gradients that it takes; seconds
  processors  one step of processors of logits beside the plain formula, 64 x 131072:
             two minutes and 1 GB
  growth     how time and memory grow with classes, seeds, parameters and points of a
             sweep, as exponents; five minutes and 3 GB
Expected on an idle machine: of `spherical` and `evaluation` every bound is kept. Of
`loop` all but two: a step takes 1.3 to 1.5 times its products, and the import 0.3 s
beyond JAX. Of `distillation` most: KD and what is made of it take 0.8 to 1.5 times the
divergence, Jensen-Shannon and skewed reverse KL about 1.6, standardised logits 2, DIST,
which also correlates across examples, 4.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "loop") -> ConfigDict:
    return base.choose(
        "benchmarks", variant, VARIANTS, SMOKE, seeds=1, nonfinite="stop"
    )


def _loop(config):
    config.repeats = 7  # of each measurement; the median counts
    config.step = dict(p=113, widths=(200, 200), train_fraction=0.4, steps=40)
    config.many = dict(p=31, widths=(128, 128), train_fraction=0.8, steps=400, seeds=8)
    config.upkeep = dict(p=31, widths=(128, 128), train_fraction=0.8, steps=3000)
    config.upkeep.save_every = 0.5
    config.tolerances = dict(
        checkpoints=0.03,
        logs=0.01,
        step_over_products=1.3,
        seeds_over_sequence=1.05,  # eight seeds against eight runs, one after another
        seeds_over_one=2.0,  # and against a single run, where they go side by side
        import_seconds=0.15,
    )


def _losses(config):
    config.repeats = 3
    config.losses = ()  # names in the catalogue; none: all that a large shape suits
    config.shape = (4096, 32_000)
    config.most_memory = 10.0  # of the logits; what needs more is not timed
    config.tolerances = dict(
        label_time=1.3, label_memory=0.01, whole_time=1.3, whole_memory=1.0
    )


def _distillation(config):
    config.repeats = 3
    # Names in the catalogue, `_standardized` after them to standardise the logits
    # first; none: all.
    config.losses = ()
    config.shape = (2048, 32_000)
    config.tolerances = dict(time=1.5)


def _heads(config):
    config.repeats = 2
    config.heads = ()  # names in experiments/benchmarks/heads.py; none: all
    config.shape, config.dtype = (4096, 512, 131_072), "float32"
    config.tolerances = dict(
        blocks_time=1.0,
        blocks_memory=1 / 12,  # arrays of the logits
        chunks_time=1.25,
        chunks_memory=1 / 8,
        float32=1e-5,
        bfloat16=2e-2,
    )


def _evaluation(config):
    config.repeats = 5
    config.numbers = ("calibration_error", "auroc", "temperature")
    config.shape = (1_000_000, 100)
    config.tolerances = dict(time=1.0, difference=1e-4)


def _attacks(config):
    config.repeats, config.rows, config.steps = 7, 1000, 100
    config.widths = (128, 128)
    config.eps = dict(inf=0.1, l2=0.5, l1=2.0)
    config.tolerances = dict(time=2.0)


def _processors(config):
    config.repeats = 5
    config.processors = (
        "divide_by_temperature",
        "add_bias",
        "min_p",
        "presence_penalty",
        "repetition_penalty",
        "top_k",
        "top_p",
        "typical_p",
    )
    config.shape = (64, 131_072)
    config.tolerances = dict(elementwise=1.2, sort=1.0)


def _growth(config):
    config.repeats = 5
    config.losses = (  # names in the catalogue; the last four sort
        "cross_entropy",
        "focal_loss",
        "label_smoothing_loss",
        "weston_watkins_loss",
        "kd_loss",
        "nkd_loss",
        "dist_loss",
        "topk_hinge_loss",
        "fenchel_young_loss",
        "uld_loss",
        "lovasz_softmax_loss",
    )
    config.rows, config.width = 256, 64
    config.classes = (1000, 4000, 16_000, 64_000)
    config.head_classes = (4096, 16_384, 65_536, 262_144)
    config.seeds_together = (1, 2, 4, 8)
    config.parameters = (2**20, 2**22, 2**24, 2**26)
    config.points = (1, 2, 4, 8)
    config.training = dict(p=31, widths=(128, 128), train_fraction=0.8, steps=100)
    config.tolerances = dict(time=1.15, memory=1.02)


def _spherical(config):
    config.repeats = 7
    config.x64 = True  # for `exact`; what is timed is float32
    config.classes = (10_000, 100_000, 1_000_000)
    config.width, config.rows = 64, 32
    config.learning_rate = 1e-3
    # In each turn; the factored ones are many, so that caches are warm for most.
    config.steps, config.dense_steps, config.stabilize_every = 1000, 1, 100
    config.exact = dict(
        classes=50, width=6, rows=8, steps=50, learning_rate=0.02, dtype="float64"
    )
    config.tolerances = dict(
        longest_over_shortest=1.5,
        dense_over_factored=100.0,  # of the most classes
        temporary_over_kernel=0.01,  # the same
        difference=1e-12,
    )


def _loop_smoke(config):
    config.repeats, config.step.steps = 1, 2
    for part in (config.step, config.many, config.upkeep):
        part.p, part.widths = 7, (8, 8)
    config.many.steps, config.many.seeds = 4, 2
    config.upkeep.steps, config.upkeep.save_every = 20, 0.0


def _losses_smoke(config):
    config.repeats, config.shape = 1, (8, 50)
    config.losses = ("cross_entropy", "focal_loss")


def _distillation_smoke(config):
    config.repeats, config.shape, config.losses = 1, (8, 50), ("nkd_loss",)


def _heads_smoke(config):
    config.repeats, config.shape, config.heads = 1, (8, 4, 64), ("cross_entropy",)


def _evaluation_smoke(config):
    config.repeats, config.shape = 1, (50, 4)


def _attacks_smoke(config):
    config.repeats, config.rows, config.steps, config.widths = 1, 4, 1, (4,)
    config.eps = dict(l1=2.0)


def _processors_smoke(config):
    config.repeats, config.shape = 1, (2, 50)
    config.processors = ("divide_by_temperature", "top_p")


def _growth_smoke(config):
    config.repeats, config.losses, config.rows, config.width = 1, ("kd_loss",), 4, 4
    config.classes = config.head_classes = config.parameters = (8, 32)
    config.seeds_together = config.points = (1, 2)
    config.training.update(p=7, widths=(8, 8), steps=2)


def _spherical_smoke(config):
    config.repeats, config.classes, config.width, config.rows = 1, (50, 400), 4, 3
    config.steps, config.stabilize_every, config.exact.steps = 6, 3, 5


VARIANTS = dict(
    loop=_loop,
    losses=_losses,
    spherical=_spherical,
    heads=_heads,
    distillation=_distillation,
    evaluation=_evaluation,
    attacks=_attacks,
    processors=_processors,
    growth=_growth,
)
SMOKE = dict(
    loop=_loop_smoke,
    losses=_losses_smoke,
    spherical=_spherical_smoke,
    heads=_heads_smoke,
    distillation=_distillation_smoke,
    evaluation=_evaluation_smoke,
    attacks=_attacks_smoke,
    processors=_processors_smoke,
    growth=_growth_smoke,
)
