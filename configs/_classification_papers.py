"""Variants of ``classification`` that ask one paper's question each."""


def _ldr(config):
    config.train, config.seeds = 1437, 10
    config.losses = dict(
        ce=dict(label="cross-entropy", name="cross_entropy"),
        gce=dict(
            label="generalized CE, q = 0.7", name="generalized_cross_entropy", q=0.7
        ),
        ldr=dict(label="LDR-KL", name="ldr_kl_loss", lam=1.0, margin=0.1),
        aldr=dict(
            label="ALDR-KL", name="aldr_kl_loss", lam0=1.0, margin=0.1, alpha=2.0
        ),
    )
    config.losses.ldr.normalize = "softplus_mean"
    config.pick = ("ce", "gce", "ldr", "aldr")
    config.noises = dict(
        clean=dict(
            label="all right", kind="uniform", rate=0.0, pilot="0.980 against 0.973"
        ),
        uniform_60=dict(
            label="60 % redrawn", kind="uniform", rate=0.6, pilot="0.879 against 0.851"
        ),
        uniform_80=dict(
            label="80 % redrawn", kind="uniform", rate=0.8, pilot="0.703 against 0.626"
        ),
        cyclic_40=dict(
            label="40 % the next digit",
            kind="cyclic",
            rate=0.4,
            pilot="0.734 against 0.691",
        ),
    )
    config.decays = (0.0, 5e-3)
    config.widths, config.epochs, config.batch_size = (64, 64), 60, 64
    config.learning_rate, config.momentum = 0.1, 0.9
    config.tolerances = dict(gains=2.0)  # points


def _ldr_smoke(config):
    config.train, config.epochs, config.widths = 128, 1, (8,)
    config.pick, config.decays = ("ce", "aldr"), (0.0,)
    del config.noises.uniform_60, config.noises.cyclic_40


def _gaussians(config):
    config.seeds = 20
    config.rates, config.features = (0.1, 0.05), 2
    config.tuning, config.test = 8192, 20_000
    config.learning_rate, config.steps, config.batch_size = 0.05, 600, 512


def _anyloss(config):
    _gaussians(config)
    config.scale, config.scales = 73.0, (2.0, 5.0, 10.0, 25.0, 50.0, 73.0)
    config.flat = (5.0, 10.0, 25.0, 50.0, 73.0)
    config.pilots = ("0.442 against 0.313", "0.329 against 0.148")  # for each rate
    config.tolerances = dict(f1=0.08, balanced=0.1, close=0.02, spread=0.02)


def _dsc(config):
    _gaussians(config)
    config.smooth = 1.0
    config.alphas, config.alpha, config.inside = (
        (0.0, 0.01, 0.1, 0.3, 0.6, 1.0),
        0.01,
        0.6,
    )
    config.prices = (0.1, 0.3, 0.5, 0.7, 0.9)
    config.tolerances = dict(f1=0.05, close=0.02)


def _gaussians_smoke(config):
    config.tuning, config.test, config.steps, config.batch_size = 128, 64, 2, 64
    config.rates = (0.1,)


def _anyloss_smoke(config):
    _gaussians_smoke(config)
    config.scales, config.flat, config.pilots = (5.0, 73.0), (5.0, 73.0), ("none",)


def _dsc_smoke(config):
    _gaussians_smoke(config)
    config.alphas, config.prices = (0.0, 0.01, 0.6), (0.3, 0.5)


def _spherical(config):
    config.digits = dict(
        train=1437, widths=(64,), epochs=40, batch_size=64, learning_rate=1e-3
    )
    config.words = dict(modules=60, vocabulary=512, width=32)
    config.words.update(batches=480, batch_size=128, validation=20_000, test=30_000)
    config.words.update(learning_rates=(5e-3, 2e-2), steps=800)
    config.offsets = (0.0, 4.0, 16.0)  # b of the Z-loss
    config.tolerances = dict(digits=1.0, words=2.0, beats=0.0, offset=0.0)  # points


def _spherical_smoke(config):
    config.digits.update(train=128, widths=(8,), epochs=1)
    config.words.update(modules=4, vocabulary=20, width=4, batches=2)
    config.words.update(batch_size=16, validation=30, test=30)
    config.words.update(learning_rates=(1e-2,), steps=2)
    config.offsets = (0.0, 4.0)


def _equity(config):
    config.clusters, config.share, config.seeds = 5, 0.02, 40
    config.train, config.test = 800, 500
    config.settings = dict(  # eta and gamma
        released=(1.0, 5.0),
        other_5=(0.5, 5.0),
        other_2=(0.3, 2.0),
        strongest=(0.0, 5.0),
    )
    config.released, config.strongest = "released", "strongest"
    config.widths, config.learning_rate = (64,), 1e-3
    config.steps, config.batch_size = 300, 64
    config.tolerances = dict(rare=0.0, all=1.0)  # points


def _equity_smoke(config):
    config.train, config.test, config.steps, config.widths = 100, 100, 2, (8,)


def _reweighting(config):
    config.x64 = True  # errors come down to what float32 cannot tell from 0
    config.features, config.batch_size, config.seeds = 20, 64, 20
    config.learning_rate, config.steps = 0.05, 50
    config.r, config.first, config.fall = 0.4, 10.0, 25
    config.temperatures = (0.1, 0.2, 0.4, 1.0, 4.0)
    config.rates = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    config.wrong = dict(share=0.1, deviation=5.0)
    config.tolerances = dict(faster=0.699, reversal=0.301)  # log10 of 5 and of 2


def _reweighting_smoke(config):
    config.steps, config.features, config.batch_size = 2, 3, 8
    config.temperatures, config.rates = (0.4, 1.0), (0.05, 0.1)


def _value_learning(config):
    config.seeds, config.train = 6, 1300
    config.stay, config.discount = 0.6, 0.8
    config.noise = dict(degrees=2.0, scales=(0.0, 1.0))  # Student's t
    config.bins = dict(vmin=-8.0, vmax=8.0, count=51, sigma_ratio=0.75)
    config.widths, config.learning_rate, config.copy_rate = (64,), 3e-3, 0.02
    config.steps, config.batch_size = 1000, 64
    config.tolerances = dict(error_over_mse=0.8)


def _value_learning_smoke(config):
    config.steps, config.widths, config.noise.scales = 3, (8,), (1.0,)


def _aggregate(config):
    config.seeds, config.features, config.deviation = 30, 50, 1.0
    config.rhos = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    # Bags, their size, and the rho that was best in the prototype.
    config.settings = ((60, 5, 0.2), (200, 5, 0.05), (400, 2, 0.1))
    # The best size is near 1 + 8 features clip^2 / (samples budget^2), 8 for 0.5.
    config.private = dict(
        samples=2000,
        sizes=(1, 2, 5, 10, 20, 50, 100),
        best=10,
        clip=3.0,
        budgets=(0.5, 1.0, 4.0),
        rho=1.0,
    )
    config.tolerances = dict(gain=5.0)  # percent of the error


def _aggregate_smoke(config):
    config.features, config.rhos = 4, (0.0, 0.2, 1.0)
    config.settings = ((20, 2, 0.2), (40, 2, 0.2))
    config.private.update(samples=20, sizes=(1, 10, 20), budgets=(0.5, 4.0))


def _multilabel(config):
    config.seeds, config.train, config.test = 10, 1000, 4000
    config.blocks, config.correlation, config.most = (4, 4, 3), 0.6, 0.4
    config.features, config.noise = 20, 0.3
    config.width, config.embedding = 64, 32
    config.learning_rate, config.steps, config.batch_size = 3e-3, 600, 64
    config.coefficients = dict(correlations=0.1, contrast=0.1)
    config.margin = 0.5
    config.tolerances = dict(macro=3.0, micro=1.0)  # points


def _multilabel_smoke(config):
    config.train, config.test, config.steps, config.width = 64, 64, 3, 8


def _gru_svm(config):
    config.seeds, config.train, config.held = 5, 1000, 300
    config.hidden, config.c = 32, 0.5
    config.learning_rates = (3e-3, 1e-2, 3e-2)
    config.steps, config.batch_size = 300, 32
    config.tolerances = dict(alike=2.0, ahead=10.0)  # points


def _gru_svm_smoke(config):
    config.steps, config.hidden, config.learning_rates = 2, 4, (1e-2,)


def _utility(config):
    config.seeds, config.features = 10, 8
    config.train, config.held, config.test = (300, 2000), 300, 300
    config.bit_utility, config.spike, config.spike_from = 0.5, 3.0, 1.5
    config.width, config.learning_rate = 64, 3e-3
    config.steps, config.batch_size = 500, 64
    config.tolerances = dict(over_map=1.0, step=1e-6)  # points


def _utility_smoke(config):
    config.train, config.held, config.test = (20, 30), 10, 10
    config.steps, config.width = 2, 8


def _tempnet(config):
    config.modules, config.vocabulary = 60, 64
    config.shares = (0.74, 0.4, 0.6)  # rho over log V; the first as for GPT-2
    config.tau_min, config.tau_max, config.grid = 0.25, 4.0, 41
    config.hidden, config.learning_rate = 32, 1e-2
    config.train, config.test = 20_000, 10_000
    config.steps, config.batch_size = 600, 128
    config.tolerances = dict(gap=1e-6)


def _tempnet_smoke(config):
    config.modules, config.shares, config.grid, config.hidden = 3, (0.74,), 3, 8
    config.train, config.test, config.steps = 100, 100, 2


def _few_shot(config):
    config.seed, config.seeds = 100, 20
    config.seen, config.width = (0, 1, 2, 3, 4), 64
    config.learning_rate, config.steps, config.batch_size = 3e-3, 400, 64
    config.shots, config.test = (2, 3, 5, 10, 20, 50, 100), 350
    config.inverse_penalty, config.fit_steps, config.var_eps = 1.0, 100, 1e-6
    config.tolerances = dict(few=3, many=50, few_ahead=0.0, many_ahead=1.0)  # points


def _few_shot_smoke(config):
    config.shots, config.width, config.steps, config.fit_steps = (2, 50), 8, 2, 5


def _depict(config):
    config.seed, config.seeds = 100, 5
    config.hidden, config.dropout = 64, 0.1
    config.hidden_weight, config.batch_size = 0.1, 64
    config.learning_rate, config.last_rate = 2e-3, 3e-4
    config.epochs = dict(first=30, second=40, third=30)
    config.tolerances = dict(over_pixels=3.0, lose=0.2)  # points; a share of the seeds


def _depict_smoke(config):
    config.epochs = dict(first=1, second=1, third=1)
    config.seeds, config.batch_size, config.hidden = 1, 800, 8


VARIANTS = dict(
    ldr=_ldr,
    anyloss=_anyloss,
    dsc=_dsc,
    spherical=_spherical,
    equity=_equity,
    reweighting=_reweighting,
    value_learning=_value_learning,
    aggregate=_aggregate,
    multilabel=_multilabel,
    gru_svm=_gru_svm,
    utility=_utility,
    tempnet=_tempnet,
    few_shot=_few_shot,
    depict=_depict,
)
SMOKE = dict(
    ldr=_ldr_smoke,
    anyloss=_anyloss_smoke,
    dsc=_dsc_smoke,
    spherical=_spherical_smoke,
    equity=_equity_smoke,
    reweighting=_reweighting_smoke,
    value_learning=_value_learning_smoke,
    aggregate=_aggregate_smoke,
    multilabel=_multilabel_smoke,
    gru_svm=_gru_svm_smoke,
    utility=_utility_smoke,
    tempnet=_tempnet_smoke,
    few_shot=_few_shot_smoke,
    depict=_depict_smoke,
)
