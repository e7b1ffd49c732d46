r"""Distillation: what a teacher, an older model or the model itself can teach.

python -m experiments.main --config=configs/distillation.py:flips --workdir=runs/flips

Variants, after a colon (`--config=configs/distillation.py:flips`):
  flips         an update with more classes: negative flips against accuracy; a
                minute, needs scikit-learn
  kernel_ridge  kernel ridge regression fitted to its own predictions, in closed form:
                seconds
  bits          weights for few bits: kurtosis (EQ-Net), guidance; two minutes, needs
                scikit-learn
  sid           a one-step generator from a denoiser, all in closed form; one minute
Expected of `flips`: flips fall as the bias grows, from 5.4 to 2.0 %, but so does the
accuracy, at b = 1 by one point; distillation keeps accuracy at the same bias, 13 points
of it at b = 4, and flips are no fewer at b = 1 and 2. Of `kernel_ridge`: every verdict
is `reproduced`; with true targets the ratios of the factors overshoot, so that not
every step is sparser than the one before. Of `bits`: the kurtosis falls from 2.96 to
2.02 and from 2.62 to 1.87, and two bits gain 1.45 points without the first matrix and
2.4 with it, so that two of five verdicts miss by little. Of `sid`: with one pixel
alpha = 1.2 and 2 diverge and alpha = 0 is no sooner than 0.5; with 16 pixels all find
the data, and one seed in 25 has then been thrown off again by Adam.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "digits") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}, expected one of {', '.join(VARIANTS)}")
    config = ConfigDict()
    config.experiment, config.variant = "distillation", variant
    config.preliminary = False
    config.seed, config.seeds, config.seeds_by = 0, 5, "auto"
    config.x64 = False
    config.parallel, config.mesh, config.nonfinite = "jit", dict(data=1), "end"
    config.sharding, config.accumulate, config.precision = (), 1, ""
    config.checkpoint = dict(every_seconds=60.0, keep=1)
    config.tensorboard = False
    VARIANTS[variant](config)
    return config.lock()


def _flips(config):
    config.experiment, config.seeds = "negative_flips", 12
    config.train, config.old_classes = 600, 5
    config.widths = (8,)
    config.steps, config.batch_size = 600, 128
    config.learning_rate, config.weight_decay = 5e-3, 1e-2
    config.focal = dict(alpha=1.0, beta=5.0, temperature=5.0)
    config.methods = dict(  # weights of the old model and of the new one
        bias=dict(label="bias alone", old=0.0, new=0.0, kind="kl"),
        mpt=dict(label="margin-preserving", old=1.0, new=1.0, kind="kl"),
        mpt_lm=dict(label="margin-preserving, logits", old=0.4, new=0.4, kind="lm"),
        pct=dict(label="positive-congruent", old=1.0, new=0.0, kind="kl"),
    )
    config.biases = dict(
        bias=(0.0, 1.0, 2.0, 4.0),
        mpt=(0.0, 1.0, 2.0, 4.0),
        mpt_lm=(0.0, 1.0, 2.0, 4.0),
        pct=(0.0,),
    )
    config.tolerances = dict(
        falls=0.001,  # flips, from one margin to the next
        wins=10 / 12,
        wins_at=1.0,
        behind=0.0,  # of margin-preserving training, at the same margin
        accuracy_lost=0.0,
    )


def _kernel_ridge(config):
    config.experiment, config.x64, config.seeds = "kernel_ridge", True, 5
    config.x = tuple(i / 10 for i in range(11))
    config.y = (
        0.38476636465198066,
        1.2333967683416893,
        1.33232242218057,
        0.6920159488889518,
        -0.29756145531871736,
        -0.24189291901377769,
        -0.7964485769175675,
        -0.9616480167034174,
        -0.49672509509916934,
        -0.3469066003991437,
        0.5589512650600734,
    )
    config.points = 101  # of the grid on [0, 1]
    config.kernel_rate, config.ridge = 80.0, 0.2
    config.alphas, config.steps, config.many = (0.0, 0.25, 0.35), 6, 200
    # Validation sets drawn by seed, for the share that needs no search.
    config.validation = dict(points=50, noise=0.5, grid=101)
    config.tolerances = dict(
        published=5e-6,  # half of the last digit
        limit=1e-10,
        search=1e-12,
        sparser=-1e-12,
    )


def _bits(config):
    config.experiment, config.seeds = "few_bits", 16
    config.pick = ("plain", "even", "guided", "unguided")
    config.train, config.widths = 1000, (128, 128)
    config.steps, config.batch_size = 600, 128
    config.learning_rate, config.weight_decay = 3e-3, 1e-2
    config.regularizer = dict(kurtosis_target=1.8, kurt_rate=0.015, skew_rate=1.0)
    config.bits = (2, 3, 4, 8)
    config.guidance = dict(bits=(8, 4, 2), weight=0.5, temperature=1.0, clip=1.0)
    config.tolerances = dict(
        kurtosis_within=0.2,
        accuracy_within=0.002,
        gain=0.015,
        gain_at=2,
        kl_ratio=1.0,
    )


def _sid(config):
    config.experiment, config.seeds = "one_step_generator", 5
    config.data = dict(mean=1.5, deviation=0.6)
    config.start = (0.2, -1.0)  # deviation and mean of the generator
    config.alphas = (0.0, 0.5, 1.0, 1.2, 2.0)
    config.after = (100, 250, 500, 1000, 2000, 4000)
    config.pixels = (1, 16)  # of a sample, independent of each other
    config.batch_size, config.learning_rate = 256, 1e-2
    config.noise = dict(largest=0.8, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    config.identity_draws = 1_000_000
    config.tolerances = dict(identity=0.01, arrived=0.01, spreads=2.0)


VARIANTS = dict(
    flips=_flips,
    kernel_ridge=_kernel_ridge,
    bits=_bits,
    sid=_sid,
)
