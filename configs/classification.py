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

from configs import _classification_papers, base


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


VARIANTS = dict(
    noise=_noise,
    ensloss=_ensloss,
    hl_gauss=_hl_gauss,
    presto=_presto,
    meco=_meco,
    dice=_dice,
    breast_cancer=_breast_cancer,
    naive_bayes=_naive_bayes,
    **_classification_papers.VARIANTS,
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
    **_classification_papers.SMOKE,
)
