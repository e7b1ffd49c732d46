r"""Losses against each other on data where they differ, with error bars.

python -m experiments.main --config=configs/classification.py --workdir=runs/losses

Variants, after a colon (`--config=configs/classification.py:hl_gauss`):
  noise      comp-sum and robust losses on digits with wrong labels (the default):
             two minutes
  ensloss    a random loss at each step against BCE and the hinge, breast cancer with
             flipped labels; two minutes
  hl_gauss   classification against regression of a value with heavy-tailed errors
  value_learning  the same of a value learned by bootstrapping: HL-Gauss, two-hot and
             C51; one minute, needs scikit-learn
  aggregate  means of labels over bags, private ones too: between bags and instances;
             seconds
  multilabel  labels that occur together: a hybrid loss and its parts; half a minute
  gru_svm    rows of digits as sequences: squared hinge against cross-entropy; two
             minutes, needs scikit-learn
  utility    logits as utilities of answers: the largest expected gain against the
             largest utility; seconds
  tempnet    characters of Python: a temperature for each context against the best
             single one; half a minute
  few_shot   naive Bayes and logistic regression on trained features, from two
             examples of a class on; half a minute, needs scikit-learn
  depict     clusters of digits in three stages, with balanced targets; two minutes,
             needs scikit-learn
  presto     rare classes: shrinking towards proportional odds against none and all;
             five minutes
  meco       the likelihood (MECO) against noise contrast (NCE) for an unnormalised
             model; half a minute
  dice       masks of the largest expected Dice or IoU against a threshold; one minute
  breast_cancer  logistic regression against a tree and SVMs, three times ten folds;
             half a minute, needs scikit-learn
  naive_bayes    how many examples naive Bayes needs, and logistic regression; one
             minute, needs scikit-learn
  ldr        a temperature for every example (ALDR-KL) against one for all and
             cross-entropy, digits with wrong labels; two minutes
  anyloss    F1 and balanced accuracy trained for (AnyLoss), rare positives; half a
             minute
  dsc        Dice, Tversky and self-adjusting losses against cross-entropy, rare
             positives; half a minute
  spherical  losses of sums and squares of the logits (Z-loss, Taylor and spherical
             softmax) on digits and on the next word; three minutes
  equity     weights for images that look unlike the others (DatasetEquity); half a
             minute, needs scikit-learn
  reweighting  weights by the losses of a batch, with exact labels and with wrong ones;
             half a minute
  smoke      seconds; for tests
Pick your own of the losses below: `--config.pick="('ce', 'focal', 'js')"`, and other
data: `--config.data.name=wine`, or any name of TFDS.
Expected of `noise`: with 80 % of the labels redrawn the generalised cross-entropy is 19
points ahead of the cross-entropy, and so is the absolute error, against expectation. Of
`meco` and `breast_cancer`: everything that was expected. Of `dice`: all but the two on
maps of at most 10 pixels, where RMA loses up to 0.1 of the expected Dice. Of
`naive_bayes`: all but the lead of naive Bayes on few digits, which logistic regression
has from 2 of each class on. Of `ensloss`: no lead. Of `ldr`: wrong labels get the
larger temperatures in every setting, but test accuracy gains at 60 % only, and with
weight decay it is behind. Of `anyloss`: all gains, and none over a threshold that is
chosen after training. Of `dsc`: the F1 of the losses of a batch, not of those of each
example. Of `reweighting`: what the paper says; a larger learning rate gives more. Of
`spherical`: the Z-loss is ahead of its relatives on words and level with the softmax.
Of `equity`: the rare cluster gains, and so do all images together. Of `aggregate`:
everything. Of `value_learning`: HL-Gauss and C51 ahead of regression and of two-hot, by
less than was asked where rewards have no errors. Of `multilabel`: 1.7 points of macro
F1 for the hybrid loss, from its weights alone. Of `few_shot`: the lead of logistic
regression, on two examples of a class too. Of `tempnet`: nothing but duality;
temperatures of the robust loss make all contexts equally certain, which costs 0.2 nats
of a character. Of `utility`: 3 points over the largest utility; the fitted temperature
matters with 300 answers, not with 2000. Of `gru_svm`: no difference at equal tuning,
and 36 points at rates in the paper's ratio. Of `depict`: half a point over the head it
starts from, 7 behind k-means of pixels.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "noise") -> ConfigDict:
    return base.choose("classification", variant, VARIANTS, SMOKE)


def _noise(config):
    config.data = dict(name="digits", features="unit")  # or "standard"
    config.data.data_dir = ""  # where TFDS keeps its data
    config.losses = dict(
        ce=dict(label="cross-entropy (τ = 1)", name="cross_entropy"),
        sum_exp=dict(label="comp-sum, τ = 0.7", name="comp_sum_loss", tau=0.7),
        comp_sum_15=dict(label="comp-sum, τ = 1.5", name="comp_sum_loss", tau=1.5),
        gce=dict(
            label="generalised CE, q = 0.7", name="generalized_cross_entropy", q=0.7
        ),
        mae=dict(label="absolute error (τ = 2)", name="comp_sum_loss", tau=2.0),
        focal=dict(label="focal, γ = 2", name="focal_loss", gamma=2.0),
        poly=dict(label="Poly-1, ε = 1", name="poly1_loss", eps=1.0),
        smooth=dict(label="label smoothing, 0.1", name="label_smoothing_loss", eps=0.1),
        js=dict(label="generalised Jensen-Shannon", name="js_label_noise_loss"),
        sce=dict(label="symmetric CE", name="symmetric_cross_entropy"),
        nce=dict(label="normalised CE", name="normalized_cross_entropy"),
        bi_tempered=dict(
            label="bi-tempered", name="bi_tempered_logistic_loss", t1=0.7, t2=1.5
        ),
        hinge=dict(label="hinge (Crammer-Singer)", name="multiclass_hinge_loss"),
        brier=dict(label="Brier", name="brier_loss"),
    )
    config.pick = ("ce", "sum_exp", "comp_sum_15", "gce", "mae")
    # "uniform" redraws among all classes, "symmetric" among the others.
    config.noise = dict(kind="uniform", rates=(0.0, 0.4, 0.8))
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
    config.data = dict(data_dir="")
    config.rates, config.train, config.features, config.seeds = (0.2,), 455, 30, 20
    config.widths, config.running = (512, 512), 0.9  # momentum of the batch norm
    config.learning_rate, config.momentum = 0.01, 0.9
    config.epochs, config.batch_size = 60, 64
    config.tolerances = dict(gains=3.0, tie=1.0)  # points


def _hl_gauss(config):
    config.data = dict(name="digits", features="unit", data_dir="")
    config.noise = dict(degrees=2.0, scales=(0.0, 1.0, 2.0))  # Student's t
    config.bins = dict(vmin=-5.0, vmax=15.0, count=51, sigma_ratio=0.75)
    config.widths = (128, 128)
    config.learning_rate, config.epochs, config.batch_size = 1e-3, 60, 64
    config.tolerances = dict(error_over_mse=0.7)


def _presto(config):
    config.x64, config.seeds = True, 10
    config.samples, config.features = 2500, 10
    config.intercepts = ((0.0, 3.0, 5.0), (0.0, 3.5, 5.5), (0.0, 4.0, 6.0))
    config.folds = 5
    config.penalties = 20  # from the largest that matters to a hundredth of it
    config.tolerances = dict(wins=0.8)


def _ensloss_smoke(config):
    config.epochs, config.widths, config.rates = 1, (8,), (0.2,)


def _noise_smoke(config):
    config.epochs = 1
    config.noise.rates, config.pick = (0.8,), ("ce", "gce")


def _meco(config):
    config.x64 = True
    config.distances = (2.0, 4.0, 6.0, 8.0)
    config.population = dict(
        step=0.1,
        within=0.1,
        cap=20_000,
        points=2001,  # of the grid that integrates
        beyond=12.0,  # how far the grid goes beyond both means
    )
    config.sampled = dict(distance=8.0, batch=32, chains=64, gamma=0.1, step=0.1)
    config.sampled.after = (10, 20, 50, 100, 200, 500, 1000, 2000)
    config.tolerances = dict(
        slower_at=(2.0, 4.0),
        slower_by=(5.0, 100.0),
        never_from=6.0,
        early_step=50,
        early_error=0.2,
        early_ratio=3.0,
        floor_ratio=1.5,
    )


def _dice(config):
    config.image = (28, 28)
    config.bases = (1.01, 1.05, 1.1, 1.2)
    config.draws = 1000
    config.small = dict(pixels=(2, 4, 6, 8, 10), maps=50)  # against all masks
    config.timing = dict(pixels=(2**14, 2**19), repeats=3)
    config.tolerances = dict(
        gains=0.1,
        gains_at=(1.05, 1.1),
        behind=0.0,
        worst_gap=0.005,
        mean_gap=0.005,
        growth=1.3,  # exponent of the time
    )


def _breast_cancer(config):
    config.x64 = True
    config.seeds = 3  # each draws its own folds
    config.folds = 10
    config.inverse_penalty, config.steps = 1.0, 500  # of the logistic regression
    config.tolerances = dict(
        logistic=(0.97, 0.985),
        over_tree=0.03,
        tie=0.01,  # logistic regression and the scaled SVM
        over_unscaled=0.03,
        agrees=1e-4,  # largest difference of a probability from scikit-learn's
    )


def _naive_bayes(config):
    config.x64 = True
    config.mixture = dict(
        features=(20, 50, 100, 200), target=0.02, repeats=8, most=600, growth=1.1
    )
    config.digits = dict(shots=(1, 2, 3, 5, 10, 20, 50, 100), test=500, repeats=5)
    config.inverse_penalty, config.steps, config.var_eps = 1.0, 200, 1e-9
    config.tolerances = dict(
        flat=2.0,
        slope=0.7,
        ratio=3.0,
        few=3,
        many=50,
        few_ahead=0.0,
        many_ahead=0.01,
    )


def _hl_gauss_smoke(config):
    config.epochs, config.noise.scales, config.widths = 1, (0.0, 2.0), (16,)


def _presto_smoke(config):
    config.samples, config.features, config.penalties = 200, 2, 3
    config.intercepts = ((0.0, 1.5, 3.0),)


def _meco_smoke(config):
    config.distances, config.population.points = (1.0, 2.0), 401
    config.sampled.after, config.sampled.chains = (1, 50), 4


def _dice_smoke(config):
    config.image, config.bases, config.draws = (12, 12), (1.1,), 50
    config.small.pixels, config.small.maps = (3,), 3
    config.timing.pixels = (64, 256)
    config.tolerances.gains_at = (1.1,)


def _breast_cancer_smoke(config):
    config.folds = 3


def _naive_bayes_smoke(config):
    config.mixture.features, config.mixture.repeats = (4, 10), 1
    config.digits.shots, config.digits.repeats, config.steps = (1, 50), 1, 60


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


VARIANTS = dict(
    noise=_noise,
    ensloss=_ensloss,
    hl_gauss=_hl_gauss,
    presto=_presto,
    meco=_meco,
    dice=_dice,
    breast_cancer=_breast_cancer,
    naive_bayes=_naive_bayes,
    ldr=_ldr,
    anyloss=_anyloss,
    dsc=_dsc,
    spherical=_spherical,
    equity=_equity,
    reweighting=_reweighting,
)
SMOKE = dict(
    noise=_noise_smoke,
    ensloss=_ensloss_smoke,
    hl_gauss=_hl_gauss_smoke,
    presto=_presto_smoke,
    meco=_meco_smoke,
    dice=_dice_smoke,
    breast_cancer=_breast_cancer_smoke,
    naive_bayes=_naive_bayes_smoke,
    ldr=_ldr_smoke,
    anyloss=_anyloss_smoke,
    dsc=_dsc_smoke,
    spherical=_spherical_smoke,
    equity=_equity_smoke,
    reweighting=_reweighting_smoke,
)


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


VARIANTS |= dict(
    value_learning=_value_learning,
    aggregate=_aggregate,
    multilabel=_multilabel,
    gru_svm=_gru_svm,
    utility=_utility,
    tempnet=_tempnet,
    few_shot=_few_shot,
    depict=_depict,
)
SMOKE |= dict(
    value_learning=_value_learning_smoke,
    aggregate=_aggregate_smoke,
    multilabel=_multilabel_smoke,
    gru_svm=_gru_svm_smoke,
    utility=_utility_smoke,
    tempnet=_tempnet_smoke,
    few_shot=_few_shot_smoke,
    depict=_depict_smoke,
)
