r"""Losses against each other on data where they differ, with error bars.

python -m experiments.main --config=configs/loss_comparison.py --workdir=runs/losses

Variants, after a colon (`--config=configs/loss_comparison.py:hl_gauss`):
  noise      comp-sum and robust losses on digits with wrong labels (the default):
             about three minutes
  ensloss    a random loss at each step against BCE and the hinge, breast cancer with
             wrong labels
  hl_gauss   classification against regression of a value with heavy-tailed errors
  smoke      seconds; for tests
Pick your own: `--config.losses.poly="{'name': 'poly1_loss', 'epsilon': 2.0}"` adds one
to the first two; `--config.data.name=wine` and any other TFDS name change the data.
Expected of `noise`: at 80 % wrong labels the generalised cross-entropy is 10 points and
more ahead of the cross-entropy, which is ahead of the mean absolute error.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "noise") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}, expected one of {', '.join(VARIANTS)}")
    config = ConfigDict()
    config.experiment, config.variant = "loss_comparison", variant
    config.preliminary = False
    config.seed, config.seeds, config.seeds_by = 0, 5, "auto"
    config.x64 = False
    config.parallel, config.mesh, config.nonfinite = "jit", dict(data=1), "end"
    config.checkpoint = dict(every_seconds=60.0, keep=1)
    config.tensorboard = False
    VARIANTS[variant](config)
    return config.lock()


def _noise(config):
    config.data = dict(name="digits", data_dir="")  # "": where TFDS keeps its data
    config.losses = dict(
        ce=dict(label="cross-entropy (τ = 1)", name="cross_entropy"),
        sum_exp=dict(label="comp-sum, τ = 0.7", name="comp_sum_loss", tau=0.7),
        comp_sum_15=dict(label="comp-sum, τ = 1.5", name="comp_sum_loss", tau=1.5),
        gce=dict(label="generalised CE, q = 0.7", name="generalized_ce_loss", q=0.7),
        mae=dict(label="absolute error (τ = 2)", name="comp_sum_loss", tau=2.0),
    )
    config.noise = dict(kind="symmetric", rates=(0.0, 0.4, 0.8))
    config.model = dict(name="MLP")
    config.model.MLP = dict(widths=(64,), activation="tanh")
    config.model.SmallCNN = dict(widths=(16, 32))
    config.optim = dict(name="sgd", learning_rate=0.1)
    config.optim.sgd = dict(momentum=0.9)
    config.optim.adam = dict(b1=0.9)
    config.epochs, config.batch_size = 60, 64
    config.tolerances = dict(
        gce_gains=0.10,  # accuracy over the cross-entropy, at most noise
        ce_gains=0.05,  # accuracy of the cross-entropy over the absolute error, there
        clean_within=0.02,  # accuracy that separates tau = 1 and 1.5 without noise
        mae_behind=0.0,  # tau = 2 is not ahead without noise
    )


def _ensloss(config):
    _noise(config)
    config.data.name = "breast_cancer"
    config.losses = dict(
        bce=dict(label="cross-entropy", name="cross_entropy"),
        hinge=dict(label="hinge", name="multiclass_hinge"),
        ensloss=dict(label="EnsLoss", name="ensloss"),
    )
    config.noise.rates = (0.0, 0.2)
    config.model.MLP = dict(widths=(512, 512), activation="relu")
    config.optim.learning_rate = 0.01
    config.tolerances = dict(gains=0.03)


def _hl_gauss(config):
    config.experiment = "value_regression"
    config.data = dict(name="digits", data_dir="")
    config.noise = dict(degrees=2.0, scales=(0.0, 1.0, 2.0))  # Student's t
    config.bins = dict(vmin=-5.0, vmax=15.0, count=51, sigma_ratio=0.75)
    config.widths = (128, 128)
    config.learning_rate, config.epochs, config.batch_size = 1e-3, 60, 64
    config.tolerances = dict(error_over_mse=0.7)


def _smoke(config):
    _noise(config)
    config.preliminary = True
    config.seeds, config.epochs = 2, 1
    config.noise.rates = (0.0, 0.8)
    for name in ("sum_exp", "comp_sum_15"):
        del config.losses[name]


VARIANTS = dict(noise=_noise, ensloss=_ensloss, hl_gauss=_hl_gauss, smoke=_smoke)
