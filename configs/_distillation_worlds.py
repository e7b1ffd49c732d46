"""Variants of ``distillation`` that do not teach digits by a loss."""


def _flips(config):
    config.seed, config.seeds = 100, 40
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
        at=1.0,  # the margin that is compared with no treatment
        fewer=0.0,
        behind=0.0,  # of margin-preserving training, at the same margin
        accuracy_lost=0.0,
    )


def _aligndistil(config):
    config.seeds = 20
    config.tokens, config.length = 12, 8
    config.reward, config.noise, config.beta = 0.1, 0.1, 0.1
    config.scale = 2.0  # tables differ more than language models: 20 there
    config.weights = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    config.batch_size, config.learning_rate = 16, 0.05
    config.after = (25, 50, 100, 200, 400)
    config.tolerances = dict(
        theorem=1e-5, sooner=2.0, reward=0.0, falls=0.01, explodes=1.5
    )


def _kernel_ridge(config):
    config.x64, config.seeds = True, 5
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
    config.seeds = 16
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


def _bit_widths(config):
    config.seeds = 8
    config.train, config.widths = 1000, (64, 64)
    config.steps, config.batch_size = 400, 128
    config.learning_rate, config.weight_decay = 3e-3, 1e-2
    config.bits = (2, 3, 4, 6, 8)
    config.weight, config.clip = 0.5, 1.0
    config.tolerances = dict(
        lost=1.0,  # points of the most bits
        trained=1.5,  # points ahead in the fewest bits
        grids=0.0,
    )


def _sid(config):
    config.seeds = 20
    config.data = dict(mean=1.5, deviation=0.6)
    config.start = (0.2, -1.0)  # deviation and mean of the generator
    config.alphas = (0.0, 0.5, 1.0, 1.2, 2.0)
    config.after = (100, 250, 500, 1000, 2000, 4000, 6000)
    config.pixels = (1, 16)  # of a sample, independent of each other
    config.batch_size, config.learning_rate = 256, 1e-2
    config.noise = dict(largest=0.8, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    config.identity_draws = 1_000_000
    config.tolerances = dict(identity=0.01, arrived=0.01, spreads=2.0)
    config.tolerances.sooner = 0.75  # of the seeds: 2 % have as many by chance


def _sid_mixture(config):
    config.seeds = 20
    config.data = dict(modes=6, radius=1.0, deviation=0.15)
    config.generator_steps = (1, 4)
    config.widths, config.sigma_data = (32, 32), 0.7
    config.pretrained = 1000  # steps of the fake denoiser on data
    config.after = (250, 500, 1000, 2000, 4000, 6000)
    config.batch_size, config.samples = 128, 2000
    config.fake_rate, config.learning_rate, config.average = 1e-3, 3e-4, 0.995
    config.alpha, config.largest_noise, config.sigma_init = 1.0, 0.8, 2.5
    config.tolerances = dict(nearer=0.0)


def _speculative_draft(config):
    config.seeds = 3
    config.text = dict(modules=60, vocabulary=80, held_out=0.1)
    config.target = dict(context=12, hidden=256, steps=3000)
    config.draft = dict(context=4, hidden=128, after=(500, 1000, 2000, 4000))
    config.embedding, config.features = 16, 192  # shared by the two
    config.learning_rate, config.batch_size = 2e-3, 256
    config.objectives = dict(
        joint=_objective("logits and features", logits=0.1, features=1.0),
        logits=_objective("logits alone", logits=0.1),
        features=_objective("features alone", features=1.0),
        hard=_objective("the text alone", labels=1.0),
    )
    config.pick = ("joint", "logits", "features", "hard")
    config.gamma, config.contexts = 5, 16_000
    config.lossless = dict(vocabulary=3, gamma=3)  # all outcomes of a round
    config.tolerances = dict(
        lossless=1e-12,
        falls=0.03,  # accepted tokens, noise of the measurement
        joint_ahead=0.0,
        over_hard=0.2,
    )


def _objective(label, *, logits=0.0, features=0.0, labels=0.0):
    return dict(label=label, logits=logits, features=features, labels=labels)


def _rationales(config):
    config.seeds = 10
    config.train, config.test, config.explanations = 200, 500, 5
    config.corrupted = 0.3  # share of the explanations
    config.width, config.learning_rate = 128, 3e-3
    config.steps, config.batch_size, config.discriminator_steps = 500, 40, 100
    config.beta, config.margin = 0.2, 3.0
    config.tolerances = dict(
        unlikely=0.1,  # nats per digit
        cost=1.0,  # points of the digits
        tells=0.1,  # of the probability of being good
    )


def _flips_smoke(config):
    config.steps, config.methods.mpt_lm.kind = 3, "kl"


def _aligndistil_smoke(config):
    config.after, config.weights = (2, 3), (0.0, 0.5, 1.0)
    config.tokens, config.length = 3, 2


def _kernel_ridge_smoke(config):
    config.validation.points = 20


def _bits_smoke(config):
    config.steps, config.widths, config.bits = 2, (4,), (2,)
    config.guidance.bits, config.pick = (8, 2), ("even", "guided")


def _bit_widths_smoke(config):
    config.steps, config.widths, config.bits = 2, (4,), (2, 3, 8)
    config.train, config.batch_size = 50, 8


def _sid_smoke(config):
    config.after, config.identity_draws = (5, 20), 1000


def _sid_mixture_smoke(config):
    config.after, config.pretrained, config.samples = (1, 2), 2, 20
    config.widths, config.batch_size, config.generator_steps = (2,), 4, (1, 2)


def _speculative_draft_smoke(config):
    config.text.modules, config.contexts, config.batch_size = 3, 64, 16
    config.target.hidden, config.draft.hidden, config.features = 16, 8, 8
    config.target.steps, config.draft.after = 10, (5, 10)


def _rationales_smoke(config):
    config.train, config.test, config.width = 20, 10, 4
    config.steps, config.batch_size, config.discriminator_steps = 3, 5, 3


VARIANTS = dict(
    flips=_flips,
    aligndistil=_aligndistil,
    kernel_ridge=_kernel_ridge,
    bits=_bits,
    bit_widths=_bit_widths,
    sid=_sid,
    rationales=_rationales,
    sid_mixture=_sid_mixture,
    speculative_draft=_speculative_draft,
)
SMOKE = dict(
    flips=_flips_smoke,
    aligndistil=_aligndistil_smoke,
    kernel_ridge=_kernel_ridge_smoke,
    bits=_bits_smoke,
    bit_widths=_bit_widths_smoke,
    sid=_sid_smoke,
    rationales=_rationales_smoke,
    sid_mixture=_sid_mixture_smoke,
    speculative_draft=_speculative_draft_smoke,
)
