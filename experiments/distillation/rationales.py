"""Should a student also be pushed away from a teacher's wrong explanations?

A teacher explains two-digit additions by writing the ones, the carry and the tens, and
some of its explanations are corrupted. Those whose answer most of them share count as
good, the others as bad. A student learns the answers, the good explanations, and to
find the bad ones unlikely; a discriminator says how much each explanation counts.

Source: QCRD, Wang et al. 2025, arXiv:2405.13014. A summary of it is what this follows:
the student's own earlier explanations are not among the bad ones, and the discriminator
is a logistic regression on trigrams.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.common.claims import ahead
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import losses, models, report, sequences
from logitlab.train import Compute, Study

LABELS_ALONE, ALL, POSITIVE = "labels", "all", "positive"
UNIFORM, QUALITY, RULES = "uniform", "quality", "rules"
LABELS = {
    LABELS_ALONE: "answers alone",
    ALL: "every explanation",
    POSITIVE: "good ones",
    UNIFORM: "good and bad ones",
    QUALITY: "good and bad, by quality",
    RULES: "one explanation",
}
TRAINED = (LABELS_ALONE, ALL, POSITIVE, UNIFORM, QUALITY)
TICKS = ("answers\nalone", "every\none", "good", "good\nand bad", "by\nquality")
EXPLANATION, ANSWER = 4, 3  # digits: ones, carry, tens, hundreds; hundreds, tens, ones


class Sums(NamedTuple):
    """Additions, their answers, and the teacher's explanations.

    Attributes:
      questions: digits [N, 4] of two numbers.
      answers: digits [N, 3].
      told: explanations [N, J, 4], as the teacher gives them.
      right: those without a mistake [N, 4].
    """

    questions: jax.Array
    answers: jax.Array
    told: jax.Array
    right: jax.Array


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if config.train + config.test > 10_000:
        raise ValueError(
            f"config.train and config.test are {config.train} and {config.test}, "
            "expected 10,000 at most together"
        )
    if not 0 < config.corrupted < 1:
        raise ValueError(
            f"config.corrupted is {config.corrupted}, expected between 0 and 1"
        )
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, name)) for name in TRAINED
        }
        | {RULES: Compute(functools.partial(_rules, config))},
        figures={
            "unlikely": report.intervals(
                {"seen": TRAINED},
                TICKS,
                "bad_nll",
                label="nats per digit of bad ones",
                across="what is learned from",
            ),
            "digits": report.intervals(
                {"seen": TRAINED},
                TICKS,
                "digits",
                label="right digits of new answers",
                across="what is learned from",
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Good and bad explanations of additions",
        summary=(
            f"{config.train} additions of two numbers of two digits, each explained "
            f"{config.explanations} times; {config.corrupted:.0%} of that has a wrong "
            f"digit. {config.test} other additions are the test. One network writes "
            "answers or explanations, digit after digit."
        ),
        captions={
            "unlikely": "Cross-entropy per digit of explanations that most others of "
            "their addition contradict.",
            "digits": "Share of right digits in the answers of new additions.",
        },
    )


def explained(questions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Answers [..., 3] and explanations [..., 4] of additions [..., 4]."""
    a, b, c, d = jnp.moveaxis(questions, -1, 0)
    ones, carry = (b + d) % 10, (b + d) // 10
    tens = a + c + carry
    high, low = tens // 10, tens % 10
    return jnp.stack([high, low, ones], -1), jnp.stack([ones, carry, low, high], -1)


def answer_of(explanation: jax.Array) -> jax.Array:
    """The number that an explanation [..., 4] ends in, as one integer."""
    ones, _, low, high = jnp.moveaxis(explanation, -1, 0)
    return 100 * high + 10 * low + ones


def corrupt(key: jax.Array, explanations: jax.Array, share: float) -> jax.Array:
    """Explanations [..., 4] of which a share has another digit somewhere."""
    which_key, place_key, digit_key = jax.random.split(key, 3)
    lead = explanations.shape[:-1]
    wrong = jax.random.bernoulli(which_key, share, lead)
    place = jax.random.randint(place_key, lead, 0, EXPLANATION)
    more = jax.random.randint(digit_key, lead, 1, 10)
    at = jax.nn.one_hot(place, EXPLANATION, dtype=bool) & wrong[..., None]
    return jnp.where(at, (explanations + more[..., None]) % 10, explanations)


def draw(key, config) -> tuple[Sums, Sums]:
    """Additions to learn from and others, none of them twice."""
    order_key, told_key = jax.random.split(key)
    order = jax.random.permutation(order_key, 10_000)[: config.train + config.test]
    questions = order[:, None] // 10 ** jnp.arange(3, -1, -1)[None] % 10
    answers, right = explained(questions)
    many = (len(order), config.explanations, EXPLANATION)
    told = corrupt(told_key, jnp.broadcast_to(right[:, None], many), config.corrupted)
    sums = Sums(questions, answers, told, right)
    return tuple(
        jax.tree.map(lambda a, part=part: a[part], sums)
        for part in (slice(config.train), slice(config.train, None))
    )


def shared_by_most(told: jax.Array) -> jax.Array:
    """Which explanations [N, J] end in the answer that most of them end in."""
    answers = answer_of(told)
    votes = (answers[:, :, None] == answers[:, None]).sum(-1)
    most = jnp.take_along_axis(answers, votes.argmax(1)[:, None], 1)
    return answers == most


def trigrams(questions: jax.Array, told: jax.Array) -> jax.Array:
    """Trigrams [..., 4] of digits as written below each other, as places of a table."""
    a, b, c, d = jnp.moveaxis(questions, -1, 0)
    ones, carry, low, high = jnp.moveaxis(told, -1, 0)
    rows = [(b, d, ones), (d, ones, carry), (a, c, low), (c, low, high)]
    places = [i * 1000 + 100 * x + 10 * y + z for i, (x, y, z) in enumerate(rows)]
    return jnp.stack(places, -1)


def _judged(key, sums, good, steps):
    """Probability [N, J] that an explanation is good, of a logistic regression."""
    questions = jnp.broadcast_to(sums.questions[:, None], sums.told.shape)
    fake = corrupt(key, sums.told, 1.0)
    seen = trigrams(questions, sums.told)
    rows = jnp.concatenate([seen, trigrams(questions, fake)], 1)
    labels = jnp.concatenate([good, jnp.zeros_like(good)], 1).astype("float32")

    def loss(w):
        z = w[rows].sum(-1)
        return optax.losses.sigmoid_binary_cross_entropy(z, labels).mean()

    start = jnp.zeros(4000)
    w, _ = descended(jax.grad(loss), start, optax.adamw(0.1), steps=steps)
    return jax.nn.sigmoid(w[seen].sum(-1))


def _values(config, name, key):
    draw_key, key = jax.random.split(key)
    train, test = draw(draw_key, config)
    return _trained(
        key,
        train,
        test,
        name=name,
        width=config.width,
        steps=(config.steps, config.batch_size, config.discriminator_steps),
        learning_rate=config.learning_rate,
        beta=config.beta,
        margin=config.margin,
    )


@functools.partial(jax.jit, static_argnames=("name", "width", "steps"))
def _trained(key, train, test, *, name, width, steps, learning_rate, beta, margin):
    """What a student knows of answers and explanations, seen and new."""
    steps, batch_size, judge_steps = steps
    model = models.MLP((width, width), 10)
    init_key, batch_key, judge_key, bad_key = jax.random.split(key, 4)
    good = shared_by_most(train.told)
    quality = _judged(judge_key, train, good, judge_steps)

    def nll(params, questions, digits, task):
        """Mean cross-entropy [...] of digits [..., T] after questions [..., 4]."""
        logits = model.apply(params, _inputs(questions, digits, task))
        return sequences.mean_token_nll(logits, digits)

    def loss(params, rows):
        mine = jax.tree.map(lambda a: a[rows], train)
        cost = nll(params, mine.questions, mine.answers, 0)
        if name == LABELS_ALONE:
            return cost.mean() / 2
        asked = jnp.broadcast_to(mine.questions[:, None], mine.told.shape)
        told = nll(params, asked, mine.told, 1)
        if name == ALL:
            return (cost + told.mean(-1)).mean() / 2
        kept = good[rows]
        found = quality[rows] if name == QUALITY else None
        contrast = losses.qcrd_loss(
            told,
            told,
            positive_quality=found,
            negative_quality=found,
            beta=0.0 if name == POSITIVE else beta,
            margin=margin,
            positive_mask=kept,
            negative_mask=~kept,
        )
        return (cost + contrast).mean() / 2

    size = len(train.questions)
    batches = jax.vmap(lambda k: jax.random.permutation(k, size)[:batch_size])(
        jax.random.split(batch_key, steps)
    )
    start = model.init(init_key, _inputs(train.questions, train.answers, 0))
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    params, _ = descended(jax.grad(loss), start, optax.adam(rate), batches=batches)

    asked = jnp.broadcast_to(train.questions[:, None], train.told.shape)
    told = nll(params, asked, train.told, 1)
    fresh = corrupt(bad_key, test.right, 1.0)
    written = _written(model, params, test.questions)
    wrong = (train.told != train.right[:, None]).any(-1)
    return {
        "bad_nll": told.mean(where=~good),
        "good_nll": told.mean(where=good),
        "new_bad_nll": nll(params, test.questions, fresh, 1).mean(),
        "new_right_nll": nll(params, test.questions, test.right, 1).mean(),
        "digits": (written == test.answers).mean(),
        "answers": (written == test.answers).all(-1).mean(),
        "quality_right": quality.mean(where=~wrong),
        "quality_wrong": quality.mean(where=wrong),
        "good_that_are_wrong": wrong.mean(where=good),
    }


def _inputs(questions, digits, task):
    """One-hot inputs [..., T, D] for each digit: question, task, digits before it."""
    many, width = digits.shape[-1], EXPLANATION
    padded = jnp.pad(digits, [(0, 0)] * (digits.ndim - 1) + [(0, width - many)])
    before = jnp.arange(width)[None] < jnp.arange(many)[:, None]
    before = before.reshape((1,) * (digits.ndim - 1) + before.shape)
    seen = jnp.where(before, padded[..., None, :], -1)
    flat = (*digits.shape, -1)
    question = jax.nn.one_hot(questions, 10).reshape(*digits.shape[:-1], 1, -1)
    place = jnp.eye(2 * width)[task * width + jnp.arange(many)]
    return jnp.concatenate(
        [
            jnp.broadcast_to(question, (*digits.shape, question.shape[-1])),
            jnp.broadcast_to(place, (*digits.shape, 2 * width)),
            jax.nn.one_hot(seen, 10).reshape(flat),
        ],
        -1,
    )


def _written(model, params, questions):
    """The likeliest answer [N, 3], digit after digit."""
    digits = jnp.zeros((len(questions), ANSWER), questions.dtype)
    for place in range(ANSWER):
        logits = model.apply(params, _inputs(questions, digits, 0))
        digits = digits.at[:, place].set(logits[:, place].argmax(-1))
    return digits


def _rules(config, key):
    """Slopes of the loss in the cross-entropy of a bad explanation."""
    del key

    def slope(nll, quality):
        return jax.grad(
            lambda bad: losses.qcrd_loss(
                jnp.ones(1),
                bad[None],
                negative_quality=jnp.array([quality]),
                beta=config.beta,
                margin=config.margin,
            )
        )(jnp.array(nll))

    margin = config.margin
    return {
        "beyond": jnp.abs(slope(margin + 0.1, 0.0)),
        "within": -slope(margin - 0.1, 0.0),
        "certain": jnp.abs(slope(margin - 0.1, 1.0)),
    }


def _claims(config):
    bounds = config.tolerances
    return [
        report.Claim(
            text="a bad explanation beyond the margin has no gradient, nor has one "
            "that the discriminator is sure of",
            reference="closed form: the hinge is flat, the weight is 0",
            ours=lambda r: r[RULES].final("beyond") + r[RULES].final("certain"),
            at_most=0.0,
            needs=(RULES,),
        ),
        report.Claim(
            text="within the margin its cross-entropy is raised, with a slope of beta",
            reference="closed form: the weight of the hinge",
            ours=lambda r: r[RULES].final("within"),
            equals=config.beta,
            within=1e-6,
            needs=(RULES,),
        ),
        ahead(
            "pushing away from bad explanations makes them less likely",
            "bad_nll",
            UNIFORM,
            POSITIVE,
            reference=stated("the student learns to tell bad rationales"),
            at_least=bounds.unlikely,
            unit="nats per digit",
            over="mean",
        ),
        ahead(
            "also bad explanations of new additions",
            "new_bad_nll",
            UNIFORM,
            POSITIVE,
            reference=stated("the student learns to tell bad rationales"),
            at_least=0.0,
            unit="nats per digit",
            over="mean",
        ),
        ahead(
            "it costs no answers",
            "digits",
            UNIFORM,
            POSITIVE,
            reference=stated("contrastive distillation is ahead of positive only"),
            at_least=-bounds.cost,
            unit="points of the digits",
            scale=100,
            over="mean",
        ),
        ahead(
            "nor does it with weights by quality",
            "digits",
            QUALITY,
            POSITIVE,
            reference=stated("weights by quality are ahead of none"),
            at_least=-bounds.cost,
            unit="points of the digits",
            scale=100,
            over="mean",
        ),
        ahead(
            "good explanations help with the answers",
            "digits",
            POSITIVE,
            LABELS_ALONE,
            reference=stated("rationales are ahead of labels alone"),
            at_least=0.0,
            unit="points of the digits",
            scale=100,
            over="mean",
        ),
        report.Claim(
            text="the discriminator thinks more of right explanations than of wrong",
            reference=stated("the discriminator tells the quality of rationales"),
            ours=lambda r: (
                r[QUALITY].final("quality_right") - r[QUALITY].final("quality_wrong")
            ),
            at_least=bounds.tells,
            over="mean",
            unit="apart",
            needs=(QUALITY,),
        ),
    ]
