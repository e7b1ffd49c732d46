"""Why do margin losses move chosen and rejected answers the same way?

Answers of a pair share most of their tokens, so that the gradients of their
log-probabilities point the same way: a step that raises one raises the other, or lowers
both. A small language model with pairs that differ in one token and share what follows
shows how this entanglement grows with the shared tokens and which of them it is made
of, and that gradients scaled to one length for each answer undo it.

Source: A Common Pitfall of Margin-based Language Model Alignment, Yuan et al. 2024,
arXiv:2410.13828.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.curves import drawn, with_finals
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import losses, report, sequences, theory
from logitlab.train import Compute, Study

START = "start"  # the model before training
UPDATES = {"dpo": "DPO", "normalised": "normalised DPO"}
CONTEXT = 2  # tokens that the next one depends on
PROTOTYPE = {"dpo_0": 1.0, "normalised_0": 1.0, "dpo_6": 0.69, "normalised_6": 1.0}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    trained = {
        f"{update}_{suffix}": (update, suffix)
        for suffix in config.train.suffixes
        for update in UPDATES
    }
    row = [
        report.Panel("chosen", "chosen log-prob., change (nats)"),
        report.Panel("rejected", "rejected log-prob., change (nats)"),
    ]
    against = dict(across="tokens shared after the one that differs", arms=[START])
    return Study(
        arms={START: Compute(functools.partial(_diagnostics, config))}
        | {
            name: Compute(functools.partial(_trained, update, suffix, config))
            for name, (update, suffix) in trained.items()
        },
        figures={
            "cosine": report.trends(
                {n: f"cosine/{n}" for n in config.suffixes},
                label="cosine of both gradients",
                **against,
            ),
            "ratio": report.trends(
                {n: f"ratio/{n}" for n in config.suffixes},
                label="inner product / smaller square",
                bound=(1.0, "from here on both answers move the same way"),
                **against,
            ),
            "tokens": report.trends(
                {n: f"token/{n}" for n in range(1 + config.suffixes[-1])},
                label="cosine of both tokens' gradients",
                across="tokens after the one that differs",
                arms=[START],
            ),
            "training": drawn(
                report.panels([row], log_steps=False, arms=list(trained)),
                range(config.train.steps + 1),
            ),
        },
        claims=_claims(config),
        labels={START: "before training"}
        | {
            name: f"{UPDATES[update]}, {suffix} shared tokens"
            for name, (update, suffix) in trained.items()
        },
        title="Gradient entanglement of chosen and rejected answers",
        summary=(
            f"A network of tanh units on the last two of {config.model.tokens} tokens; "
            f"{config.pairs} pairs of answers that differ in their first token only. "
            f"Training descends all pairs at once with steps of "
            f"{config.train.learning_rate:g} and beta = {config.beta:g}."
        ),
        captions={
            "cosine": "Means over the pairs of each seed.",
            "ratio": "The paper's diagnostic: trouble above 1.",
            "tokens": "Tokens at the same place of both answers; at 0 they differ.",
            "training": "Means over the pairs, less what they were at the start.",
        },
    )


def _check(config):
    for name in ("suffixes", "train.suffixes"):
        suffixes = tuple(config.train.suffixes if "." in name else config.suffixes)
        if not suffixes or sorted(set(suffixes)) != list(suffixes) or suffixes[0] < 0:
            raise ValueError(
                f"config.{name} is {suffixes}, expected numbers of tokens, 0 or more, "
                "in increasing order"
            )
    if config.model.tokens < 2:
        raise ValueError(
            f"config.model.tokens is {config.model.tokens}, expected at least 2"
        )
    for name, value in (("pairs", config.pairs), ("train.steps", config.train.steps)):
        if value < 1:
            raise ValueError(f"config.{name} is {value}, expected at least 1")


def init(key: jax.Array, tokens: int, embedding: int, hidden: int) -> dict:
    """Parameters of the language model, normal with variance 1 over fan-in."""
    shapes = {
        "embedding": (tokens, embedding),
        "hidden": (CONTEXT * embedding, hidden),
        "out": (hidden, tokens),
    }
    keys = jax.random.split(key, len(shapes))
    params = {
        name: jax.random.normal(key, shape) / jnp.sqrt(shape[0])
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return params | {"embedding": params["embedding"] * jnp.sqrt(tokens)}


def log_prob(params: dict, answer: dict) -> jax.Array:
    """Log-probability of an answer: of its tokens after the first two, the prompt.

    Shapes: tokens [2 + T], mask [T] -> []
    """
    tokens, logits = answer["tokens"], _logits(params, answer)
    return sequences.sequence_log_prob(logits, tokens[CONTEXT:], mask=answer["mask"])


def _logits(params, answer):
    tokens = answer["tokens"]
    seen = params["embedding"][jnp.stack([tokens[:-2], tokens[1:-1]], 1)]
    hidden = jnp.tanh(seen.reshape(len(seen), -1) @ params["hidden"])
    return hidden @ params["out"]


def token_products(params: dict, pair: tuple) -> tuple[jax.Array, jax.Array]:
    """Inner products of the gradients of both answers' tokens, and their cosines.

    Shapes: tokens [2 + T] of each -> [T, T], [T, T]

    Where gradients are 0 so are cosines. Masks are not looked at.
    """

    def rows(answer):
        def each(params):
            logits = _logits(params, answer)
            return sequences.token_log_prob(logits, answer["tokens"][CONTEXT:])

        tree = jax.jacrev(each)(params)
        parts = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)]
        return jnp.concatenate(parts, 1)

    chosen, rejected = map(rows, pair)
    inner = chosen @ rejected.T
    norms = [jnp.linalg.norm(g, axis=1) for g in (chosen, rejected)]
    size = norms[0][:, None] * norms[1][None]
    return inner, inner / jnp.where(size > 0, size, 1)


def draw_pairs(
    key: jax.Array, pairs: int, suffix: jax.Array, longest: int, tokens: int
) -> tuple:
    """Chosen and rejected answers, which share all tokens but the first.

    Answers have the length of the longest: the mask says what follows the suffix.
    """
    keys = jax.random.split(key, 4)
    prompt = jax.random.randint(keys[0], (pairs, CONTEXT), 0, tokens)
    chosen = jax.random.randint(keys[1], (pairs, 1), 0, tokens)
    rejected = (chosen + jax.random.randint(keys[2], (pairs, 1), 1, tokens)) % tokens
    shared = jax.random.randint(keys[3], (pairs, longest), 0, tokens)
    mask = jnp.tile(jnp.arange(1 + longest) <= suffix, (pairs, 1))
    return tuple(
        {"tokens": jnp.concatenate([prompt, first, shared], 1), "mask": mask}
        for first in (chosen, rejected)
    )


def _grads(params, pair):
    return tuple(jax.grad(log_prob)(params, answer) for answer in pair)


def _log_probs(params, pairs):
    return tuple(jax.vmap(log_prob, (None, 0))(params, answers) for answers in pairs)


def _start(config, suffix, key):
    model = config.model
    sizes = (model.tokens, model.embedding, model.hidden)
    longest = max(*config.suffixes, *config.train.suffixes)
    return _problem(sizes, config.pairs, longest, suffix, key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _problem(sizes, pairs, longest, suffix, key):
    """The same model and prompts for every suffix and update."""
    keys = jax.random.split(key)
    drawn = draw_pairs(keys[1], pairs, suffix, longest, sizes[0])
    return init(keys[0], *sizes), drawn


def _diagnostics(config, key):
    values = {}
    for suffix in config.suffixes:
        params, pairs = _start(config, suffix, key)
        found = _of_pairs(params, pairs, config.beta, config.small_step)
        values |= {f"{name}/{suffix}": value for name, value in found.items()}
    return values | _of_tokens(params, pairs)  # of the longest answers


@jax.jit
def _of_tokens(params, pairs):
    """Mean cosines of tokens at the same place, and what shared ones carry."""
    inner, cosines = jax.vmap(token_products, (None, 0))(params, pairs)
    length = cosines.shape[1]
    same = cosines.mean(0)[jnp.arange(length), jnp.arange(length)]
    along = jnp.trace(inner[:, 1:, 1:], axis1=1, axis2=2)
    return {f"token/{place}": same[place] for place in range(length)} | {
        "carried": along.sum() / inner.sum()
    }


@jax.jit
def _of_pairs(params, pairs, beta, size):
    """Means of the diagnostics, and how far first order is from a step's outcome."""
    ref = _log_probs(params, pairs)
    coefficients = theory.margin_coefficients(losses.dpo_loss, *ref, *ref, beta=beta)

    def one(pair, up, down):
        grads = _grads(params, pair)
        found = theory.entanglement_diagnostics(*grads, up, down)
        moved = jax.tree.map(
            lambda p, good, bad: p + size * (up * good - down * bad), params, *grads
        )
        want = jnp.stack([found["chosen_change"], found["rejected_change"]])
        got = jnp.stack([log_prob(moved, a) - log_prob(params, a) for a in pair]) / size
        return {
            "cosine": found["cosine"],
            "ratio": found["ratio"],
            "off": jnp.abs(got - want).max() / jnp.abs(want).max(),
        }

    found = jax.vmap(one)(pairs, *coefficients)
    return {
        name: values.max() if name == "off" else values.mean()
        for name, values in found.items()
    }


def _trained(update, suffix, config, key):
    params, pairs = _start(config, suffix, key)
    train = config.train
    curves = _train(
        update, train.steps, params, pairs, config.beta, train.learning_rate
    )
    up, down = (jnp.diff(curves[name]) for name in ("chosen", "rejected"))
    return with_finals(curves) | {"parted": ((up > 0) & (down < 0)).mean()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(update, steps, params, pairs, beta, rate):
    """Mean log-probabilities after each step, less those at the start."""
    ref = _log_probs(params, pairs)

    def dpo(params):
        return losses.dpo_loss(*_log_probs(params, pairs), *ref, beta=beta).mean()

    def normalised(params):
        coefficients = theory.margin_coefficients(
            losses.dpo_loss, *_log_probs(params, pairs), *ref, beta=beta
        )
        return theory.pairwise_normalized_gradient(_grads, params, pairs, coefficients)

    gradient = {"dpo": jax.grad(dpo), "normalised": normalised}[update]

    def numbers(params):
        means = [
            (now - before).mean()
            for now, before in zip(_log_probs(params, pairs), ref, strict=True)
        ]
        return dict(zip(("chosen", "rejected"), means, strict=True))

    return descended(gradient, params, optax.sgd(rate), steps=steps, measure=numbers)[1]


def _claims(config):
    bounds, suffixes = config.tolerances, config.suffixes
    few, many = suffixes[0], suffixes[-1]
    claims = [
        report.Claim(
            text="what a step does is predicted to first order",
            reference="closed form: exact for small steps",
            ours=lambda r: np.max([r[START].final(f"off/{n}") for n in suffixes], 0),
            at_most=bounds.first_order,
            unit="relative error, the largest",
            needs=(START,),
        )
    ]
    claims += [
        report.Claim(
            text=f"gradients are more alike with {b} shared tokens than with {a}",
            reference=stated(
                "entanglement grows with what answers share",
                "-0.07, 0.15 and 0.67 for 0, 1 and 6",
            ),
            ours=lambda r, a=a, b=b: (
                r[START].final(f"cosine/{b}") - r[START].final(f"cosine/{a}")
            ),
            at_least=0.0,
            over="mean",
            unit="of the cosine",
            needs=(START,),
        )
        for a, b in zip(suffixes, suffixes[1:], strict=False)
    ]
    shared = range(1, 1 + many)
    claims.append(
        report.Claim(
            text="the tokens that differ have gradients less alike than any shared one",
            reference=stated("contrasting tokens are not what entangles the gradients"),
            ours=lambda r: (
                np.min([r[START].final(f"token/{place}") for place in shared], 0)
                - r[START].final("token/0")
            ),
            above=0.0,
            over="mean",
            unit="of the cosine",
            needs=(START,),
        )
    )
    for suffix in config.train.suffixes:
        for update in UPDATES:
            name = f"{update}_{suffix}"
            entangled = update == "dpo" and suffix == many and suffix != few
            limits = dict(at_least=1.0)
            if entangled:
                limits = dict(at_most=bounds.dpo_parted, over="mean")
            number = PROTOTYPE.get(name)
            claims.append(
                report.Claim(
                    text=(
                        f"{UPDATES[update]} with {suffix} shared tokens raises chosen "
                        "and lowers rejected answers "
                        + (
                            "in a part of the steps only"
                            if entangled
                            else "in each step"
                        )
                    ),
                    reference=prototype(f"{number:g}" if number else "no number"),
                    ours=lambda r, name=name: r[name].final("parted"),
                    unit="of the steps",
                    needs=(name,),
                    **limits,
                )
            )
    return claims
