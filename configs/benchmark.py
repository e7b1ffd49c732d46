r"""Speed, as ratios measured side by side in one process.

python -m experiments.main --config=configs/benchmark.py:loop --workdir=runs/benchmark

Variants, after a colon:
  loop       what the training loop, its seeds and the import cost; about three minutes
  spherical  a step of a spherical head against the number of classes; about a minute,
             2 GB
Expected of both on an idle machine: the four verdicts of the table are `reproduced`.
"""

from ml_collections import ConfigDict

VARIANTS = ("loop", "spherical")


def get_config(variant: str = "loop") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}, expected one of {', '.join(VARIANTS)}")
    config = ConfigDict()
    config.experiment, config.variant = "benchmark", variant
    config.preliminary = False
    config.seed, config.seeds, config.seeds_by = 0, 1, "auto"
    config.x64 = False
    config.parallel, config.mesh, config.nonfinite = "jit", dict(data=1), "stop"
    config.checkpoint = dict(every_seconds=60.0, keep=1)
    config.tensorboard = False
    config.repeats = 7  # of each measurement; the median counts
    if variant == "spherical":
        return _spherical(config)
    config.step = dict(p=113, widths=(200, 200), train_fraction=0.4, steps=40)
    config.many = dict(p=31, widths=(128, 128), train_fraction=0.8, steps=400, seeds=8)
    config.tolerances = dict(
        step_over_products=1.3,
        seeds_over_sequence=1.05,  # eight seeds against eight runs, one after another
        seeds_over_one=2.0,  # and against a single run, where they go side by side
        import_seconds=0.15,
    )
    return config.lock()


def _spherical(config):
    config.experiment = "benchmark_spherical"
    config.x64 = True  # for `exact`; what is timed is float32
    config.classes = (10_000, 100_000, 1_000_000)
    config.width, config.rows = 64, 32
    config.learning_rate = 1e-3
    config.steps, config.dense_steps = 100, 1  # in each turn
    config.exact = dict(
        classes=50, width=6, rows=8, steps=50, learning_rate=0.02, dtype="float64"
    )
    config.tolerances = dict(
        longest_over_shortest=1.5,
        dense_over_factored=100.0,  # of the most classes
        temporary_over_kernel=0.01,  # the same
        difference=1e-12,
    )
    return config.lock()
