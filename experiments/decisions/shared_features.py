"""What do bandits save that learn their common features together?

In each of several tasks one arm of eight is played. Rewards are linear in features that
all tasks share, and that are one of thirty candidates. Tasks test the candidates on the
rewards of all, each on its own rewards, or know which is right.

Source: Provable General Function Class Representation Learning in Multitask Bandits and
MDPs, Lu et al. 2022, arXiv:2205.15701.
"""

import functools

import jax
import jax.numpy as jnp

from experiments.common.references import prototype
from logitlab import estimators, report
from logitlab.train import Compute, Study

KNOWN, JOINT, ALONE = "known", "joint", "independent"
LABELS = {
    KNOWN: "features known",
    JOINT: "learned by all tasks (GFUCB)",
    ALONE: "learned by each task alone",
}


def build(config) -> Study:
    """The study; nothing here plays, writes or prints."""
    _check(config)
    return Study(
        arms={
            name: Compute(functools.partial(regrets, config, name)) for name in LABELS
        },
        figures={
            "regret": report.trends(
                {t: f"regret/{t}" for t in config.marks},
                label="regret of a task",
                across="rounds",
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Bandits that learn their common features together",
        summary=(
            f"{config.tasks} tasks with {config.arms} arms, {config.inputs} inputs and "
            f"{config.features} features, the hyperbolic tangent of one of "
            f"{config.candidates} random matrices; noise of deviation "
            f"{config.noise:g}, {config.rounds} rounds, a mean over {config.plays} "
            "plays in each seed. All arms of the study see the same tasks and noise."
        ),
        captions={"regret": "What the best arms would have given more, up to a round."},
    )


def _check(config):
    if min(config.tasks, config.candidates, config.features, config.plays) < 1:
        raise ValueError(
            f"config.tasks is {config.tasks}, config.candidates {config.candidates}, "
            f"config.features {config.features}, config.plays {config.plays}; expected "
            "at least 1 of each"
        )
    if config.arms < 2:
        raise ValueError(f"config.arms is {config.arms}, expected at least 2")
    marks = tuple(config.marks)
    if sorted(set(marks)) != list(marks) or marks[-1:] != (config.rounds,):
        raise ValueError(
            f"config.marks is {marks}, expected growing numbers to config.rounds, "
            f"{config.rounds}"
        )
    if marks[0] < 1:
        raise ValueError(f"config.marks begins with {marks[0]}, expected at least 1")


def regrets(config, name: str, key: jax.Array) -> dict:
    """Regret of a task up to each mark; a key draws the same for every arm."""
    sizes = tuple(
        config[size]
        for size in ("tasks", "candidates", "arms", "inputs", "features", "rounds")
    )
    keys = jax.random.split(key, config.plays)
    lost = played(name, sizes, keys, config.noise, config.scale).mean(0)
    return {f"regret/{t}": lost[:t].sum() for t in config.marks}


@functools.partial(jax.jit, static_argnums=(0, 1))
def played(name, sizes, keys, noise, scale) -> jax.Array:
    """What plays lost in each round, a mean over tasks [plays, rounds]."""
    tasks, candidates, arms, inputs, dim, rounds = sizes

    def play(key):
        matrix_key, head_key, rounds_key = jax.random.split(key, 3)
        matrices = jax.random.normal(matrix_key, (candidates, dim, inputs))
        heads = jax.random.normal(head_key, (tasks, dim))

        def one_round(state, key):
            x_key, noise_key = jax.random.split(key)
            x = jax.random.normal(x_key, (tasks, arms, inputs))
            every = jnp.tanh(jnp.einsum("lki,mai->lmak", matrices, x))
            means = jnp.einsum("mak,mk->ma", every[0], heads)  # the first is right
            contexts = every[:1] if name == KNOWN else every
            arm = estimators.gfucb_select(
                state, contexts, noise=noise, scale=scale, shared=name != ALONE
            )
            mean = jnp.take_along_axis(means, arm[:, None], 1)[:, 0]
            # Every arm has noise of its own, so that choices do not change the others'.
            drawn = noise * jax.random.normal(noise_key, (tasks, arms))
            reward = mean + jnp.take_along_axis(drawn, arm[:, None], 1)[:, 0]
            state = estimators.gfucb_update(state, contexts, arm, reward)
            return state, (means.max(1) - mean).mean()

        state = estimators.gfucb_init(tasks, 1 if name == KNOWN else candidates, dim)
        return jax.lax.scan(one_round, state, jax.random.split(rounds_key, rounds))[1]

    return jax.vmap(play)(keys)


def _claims(config):
    last, share = f"regret/{config.rounds}", config.tolerances.share
    return [
        report.Claim(
            text="who knows the features has the least regret",
            reference=prototype("3.2 against 6.1 of tasks that learn them together"),
            ours=lambda r: r[JOINT].final(last) - r[KNOWN].final(last),
            above=0.0,
            over="mean",
            unit="less",
            needs=(KNOWN, JOINT),
        ),
        report.Claim(
            text="tasks that learn the features together have less regret than each "
            "alone",
            reference=prototype("6.1 against 9.2, 0.66 of it"),
            ours=lambda r: r[JOINT].final(last) / r[ALONE].final(last),
            at_most=share,
            over="mean",
            unit="of the regret alone",
            needs=(JOINT, ALONE),
        ),
        *(
            report.Claim(
                text=f"regret of a task, {LABELS[name]}",
                reference=prototype(f"{regret:g}"),
                ours=lambda r, name=name: r[name].final(last),
                equals=regret,
                within=config.tolerances.prototype,
                over="mean",
                needs=(name,),
            )
            for name, regret in ((KNOWN, 3.2), (JOINT, 6.1), (ALONE, 9.2))
        ),
    ]
