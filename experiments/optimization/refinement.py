"""Which learning-rate schedule is best, and does a finished run know a better one?

Logistic regression by stochastic gradient descent, with the best peak of a grid for
each schedule; then the schedule that the gradient norms of the linear decay suggest.
All schedules and peaks of a seed are one program.

Source: When, Why and How Much? Defazio et al. 2023, arXiv:2310.07831.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import digits
from experiments.common.references import stated
from logitlab import losses, optim, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

LABELS = {
    "linear": "linear decay",
    "cosine": "cosine",
    "root": "1 / √t",
    "step": "three steps",
    "refined": "refined",
}
NAMES = tuple(LABELS)[:4]
SETS = ("breast_cancer", "digits")


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.sets:
        check_name(name, SETS, "config.sets")
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, _program(config, name)))
            for name in config.sets
        },
        figures={
            "losses": report.trends(
                {place: f"loss/{name}" for place, name in enumerate(LABELS)},
                label="final loss over linear decay's",
                log=True,
                across=", ".join(f"{i}: {v}" for i, v in enumerate(LABELS.values())),
                bound=(1.0, "linear decay"),
            )
        },
        claims=_claims(config),
        labels={name: name.replace("_", " ") for name in config.sets},
        title="Learning-rate schedules, and one refined",
        summary=(
            f"Logistic regression, {config.epochs} epochs of SGD, the best of "
            f"{len(config.peaks)} peak learning rates for each schedule by the final "
            "training loss. The refined schedule is made of the gradient norms of the "
            "run by linear decay at its best peak."
        ),
        captions={"losses": "Each by the best of its peaks; a dot for each seed."},
    )


def _rows(name):
    """Standardized features with a constant, [N, D], and labels."""
    if name == "digits":
        x, y = digits()
    else:
        from sklearn import datasets

        x, y = datasets.load_breast_cancer(return_X_y=True)
        x = (x - x.mean(0)) / x.std(0)
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


def schedules(steps: int) -> dict[str, jax.Array]:
    """Arrays [steps] of which the largest number is 1, by name."""
    t = jnp.arange(steps)
    share = t / steps
    return {
        "linear": jax.vmap(optim.linear_decay(1.0, steps))(t),
        "cosine": (1 + jnp.cos(jnp.pi * share)) / 2,
        "root": 1 / jnp.sqrt(1.0 + t),
        "step": 0.1 ** jnp.floor(share * 10 / 3).clip(0, 2),
    }


def _program(config, name):
    """A compiled function of a key: the final losses of all schedules and peaks."""
    x, y = _rows(name)
    batch, classes = config.sets[name], 10 if name == "digits" else 2
    each = len(y) // batch
    steps = config.epochs * each
    peaks = jnp.asarray(config.peaks, jnp.float32)

    def loss(w, x, y):
        return losses.cross_entropy(x @ w, y).mean()

    def trained(at, rates):
        """Final loss, and the norms of all gradients."""
        optimizer = optax.chain(
            optim.record_grad_norm(steps), optax.sgd(optim.schedule_from_array(rates))
        )

        def step(carry, at):
            w, state = carry
            updates, state = optimizer.update(jax.grad(loss)(w, x[at], y[at]), state, w)
            return (optax.apply_updates(w, updates), state), None

        start = jnp.zeros((x.shape[1], classes))
        (w, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), at)
        return jnp.nan_to_num(loss(w, x, y), nan=jnp.inf), state[0].norms

    @jax.jit
    def run(key):
        orders = jax.vmap(lambda k: jax.random.permutation(k, len(y)))(
            jax.random.split(key, config.epochs)
        )
        train = functools.partial(
            trained, orders[:, : each * batch].reshape(steps, batch)
        )
        shapes = jnp.stack([schedules(steps)[n] for n in NAMES])
        rates = peaks[None, :, None] * shapes[:, None]
        ends, norms = jax.vmap(jax.vmap(train))(rates)
        best = ends[0].argmin()
        refined = optim.refine_schedule(norms[0, best], smoothing=config.smoothing)
        again, _ = jax.vmap(train)(peaks[:, None] * refined[None])
        return ends.min(1), again.min(), refined, norms[0, best]

    return run


def _values(config, run, key):
    ends, again, refined, norms = jax.tree.map(np.asarray, run(key))
    found = dict(zip(NAMES, ends, strict=True)) | {"refined": again}
    ranks = {n: 1 + (ends < e).sum() for n, e in zip(NAMES, ends, strict=True)}
    early = norms[: max(1, len(norms) // 50)].mean() / np.median(norms)
    return {
        **{f"loss/{n}": value / ends[0] for n, value in found.items()},
        **{f"rank/{n}": float(rank) for n, rank in ranks.items()},
        "early": early,
        "first": refined[0],
        "end": ends[0],
    }


def _claims(config):
    sets = tuple(config.sets)

    def rank(results, name):
        return np.mean([results[s].final(f"rank/{name}") for s in sets], 0)

    claims = [
        report.Claim(
            text=f"{LABELS[a]} ranks no worse than {LABELS[b]}",
            reference=stated("linear decay, then cosine, 1 / √t and steps"),
            ours=lambda r, a=a, b=b: rank(r, b) - rank(r, a),
            at_least=0.0,
            over="mean",
            unit="ranks better of four, mean of the sets",
            needs=sets,
        )
        for a, b in zip(NAMES, NAMES[1:], strict=False)
    ]
    for name in sets:
        claims += [
            report.Claim(
                text=f"early gradients are large, {name}",
                question=True,
                ours=lambda r, n=name: r[n].final("early"),
                at_least=config.tolerances.early,
                unit="times the median norm, in the first 2 % of the steps",
                needs=(name,),
            ),
            report.Claim(
                text=f"the refined schedule warms up, {name}",
                reference="a closed form: weights are inverse squares of norms",
                ours=lambda r, n=name: r[n].final("first"),
                at_most=config.tolerances.first,
                unit="of the peak is the first learning rate",
                needs=(name,),
            ),
            report.Claim(
                text=f"refined, the final loss is no higher than with decay, {name}",
                reference=stated("refinement helps further on most problems"),
                ours=lambda r, n=name: r[n].final("loss/refined"),
                at_most=1.0,
                over="mean",
                unit="of the loss by linear decay",
                needs=(name,),
            ),
        ]
    return claims
