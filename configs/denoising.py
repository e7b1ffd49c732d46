r"""What scores and denoisers learn, against oracles that are known exactly.

python -m experiments.main --config=configs/denoising.py --workdir=runs/denoising

Variants, after a colon (`--config=configs/denoising.py:noprop`):
  denoising       denoisers learned from noisy data alone, behind Gaussian, gamma and
                  Poisson noise (the default): two minutes
  autoencoders    the score that autoencoders know, and samples drawn with it: two
                  minutes
  early_stopping  when a denoiser that sees few clean data should stop: a minute
  noprop          blocks that denoise the label, each trained without the others
  smoke           seconds; for tests
Expected of `denoising`: errors 3 to 10 % above the oracle's, and on 1400 images of
digits more than an affine map has. Of `autoencoders`: all that is claimed but the
mean of the samples in one seed. Of `early_stopping`: all. Of `noprop`: 97 % of the
digits, with no gain from depth, and on MNIST-1D a loss.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "denoising") -> ConfigDict:
    return base.choose("denoising", variant, VARIANTS, SMOKE)


def _denoising(config):
    config.seeds = 3
    config.train, config.test, config.images = 50_000, 20_000, 1400
    config.learning_rate, config.batch_size = 3e-3, 512
    config.annealing = 0.75  # share of the steps in which the noise on top shrinks
    net = dict(widths=(128, 128), steps=4000)
    config.noises = dict(
        gaussian_3=dict(
            kind="gaussian",
            level=0.3,
            label="Gaussian, deviation 0.3",
            annealed=(0.2, 0.05),
            **net,
        ),
        gaussian_6=dict(
            kind="gaussian",
            level=0.6,
            label="Gaussian, deviation 0.6",
            annealed=(0.2, 0.05),
            **net,
        ),
        gamma=dict(
            kind="gamma",
            level=10.0,
            label="gamma, shape 10",
            annealed=(0.1, 0.03),
            widths=(64, 64),
            steps=4000,
        ),
        poisson=dict(
            kind="poisson",
            level=0.05,
            label="Poisson, 2 to 20 counts",
            annealed=(1.0, 0.5),
            widths=(64, 64),
            steps=4000,
        ),
        digits=dict(
            kind="digits",
            level=0.3,
            label="Gaussian, digits",
            annealed=(1.0, 0.3),
            widths=(256, 256),
            steps=400,
        ),
    )
    config.tolerances = dict(
        above=1.12,  # times the oracle's squared error
        below=0.99,  # which sampling does to 20000 test points
        nearer=0.5,  # of the distance from the posterior mean
    )


def _denoising_smoke(config):
    config.train, config.test, config.images = 200, 200, 300
    config.batch_size = 32
    config.noises = dict(gaussian_3=config.noises.gaussian_3)
    config.noises.gaussian_3.widths, config.noises.gaussian_3.steps = (8,), 20


def _autoencoders(config):
    config.seeds = 3
    config.sigmas, config.fitted = (0.3, 0.2, 0.1, 0.05, 0.025), 0.3
    config.slope = (0.1, 0.05, 0.025)  # well below the modes' deviation, 0.5
    config.train, config.grid = 50_000, 601
    config.widths, config.learning_rate = (64, 64), 3e-3
    config.batch_size, config.steps = 512, 3000
    config.walk = dict(chains=4000, steps=300, step=0.6)
    config.tolerances = dict(slope=0.3, fitted=0.1, moments=0.05)


def _autoencoders_smoke(config):
    config.sigmas, config.slope, config.fitted = (0.3, 0.2), (0.3, 0.2), 0.3
    config.train, config.grid, config.widths, config.steps = 200, 31, (8,), 20
    config.batch_size = 32
    config.walk.update(chains=20, steps=5)


def _early_stopping(config):
    config.rows, config.test = (100, 400, 1600), 4000
    config.times, config.width = (0.05, 1.5), 512
    config.learning_rate, config.steps, config.points = 0.3, 3000, 25
    config.tolerances = dict(
        rises=1.1,  # times the least risk, at both ends
        monotone=1e-6,  # rounding
    )


def _early_stopping_smoke(config):
    config.rows, config.test, config.width = (20, 40), 50, 16
    config.steps, config.points = 20, 4


def _noprop(config):
    config.seeds = 3
    config.sets, config.train = ("digits", "mnist1d"), 1400
    config.data = dict(data_dir="")  # of MNIST-1D
    config.blocks, config.width, config.eta = 10, 128, 0.1
    config.learning_rate, config.weight_decay = 1e-3, 1e-3
    config.batch_size, config.steps = 128, 1500
    config.tolerances = dict(accuracy=0.95, gain=0.0)


def _noprop_smoke(config):
    config.sets, config.train = ("digits",), 300
    config.blocks, config.width, config.steps, config.batch_size = 2, 8, 5, 32


VARIANTS = dict(
    denoising=_denoising,
    autoencoders=_autoencoders,
    early_stopping=_early_stopping,
    noprop=_noprop,
)
SMOKE = dict(
    denoising=_denoising_smoke,
    autoencoders=_autoencoders_smoke,
    early_stopping=_early_stopping_smoke,
    noprop=_noprop_smoke,
)
