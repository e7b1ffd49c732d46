"""Which prompts are worth the answers that they cost?

A group whose answers are all right or all wrong teaches GRPO nothing. VADE keeps a beta
distribution of the success on each prompt, forgets old answers, and takes the prompts
whose draws promise the most variance: first in a simulation of skills that grow where a
group teaches something, then for a policy that learns to add from rewards.

Source: VADE 2025, arXiv:2511.18902; gain and decays are inferred from its abstract.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.claims import ahead
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from experiments.policy_gradient import _answers
from experiments.policy_gradient.groups import task_of
from logitlab import losses, metrics, report, rl
from logitlab.train import Compute, Study

METHODS = {
    "uniform": "prompts at random",
    "count": "Beta, without forgetting",
    "vade": "VADE: Beta, forgetting",
    "oracle": "known success",
}
LEARNERS = ("uniform", "vade")  # of what a policy can know
STARTS = {
    "scratch": "from scratch",
    "warm": "shown answers before",
    "entropy": "paid for entropy",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    world, learner = config.simulation, config.learner
    window = world.steps // config.windows
    ends = [window * (i + 1) for i in range(config.windows)]
    decays = dict(decay_sample=config.decay_sample, decay_global=config.decay_global)

    def simulated(method, key):
        share = informative(
            method,
            key,
            count=world.prompts,
            batch=world.batch,
            rollouts=world.rollouts,
            steps=world.steps,
            mean=world.mean,
            deviation=world.deviation,
            gain=world.gain,
            drift=world.drift,
            **decays,
        )
        values = {f"share/{end}": share[end - window : end].mean() for end in ends}
        values["share/early"] = share[: config.early].mean()
        values["share/later"] = share[config.early :].mean()
        return values

    def learned(start, method, key):
        accuracy, mixed = accuracies(
            task_of(learner),
            method,
            key,
            prompts=learner.prompts,
            rollouts=learner.rollouts,
            points=learner.points,
            every=_every(learner),
            rate=learner.learning_rate,
            eps=learner.eps,
            entropy=learner.entropy if start == "entropy" else 0.0,
            warm=learner.warm if start == "warm" else 0,
            **decays,
        )
        return {
            f"accuracy/{n}": a for n, a in zip(_steps(learner), accuracy, strict=True)
        } | {f"mixed/{n}": m for n, m in zip(_steps(learner)[1:], mixed, strict=True)}

    return Study(
        arms={name: Compute(functools.partial(simulated, name)) for name in METHODS}
        | {
            f"{start}_{name}": Compute(functools.partial(learned, start, name))
            for start in STARTS
            for name in LEARNERS
        },
        figures={
            "share": report.trends(
                {end: f"share/{end}" for end in ends},
                label="groups that teach (share)",
                across=f"step (means over the {window} before)",
            ),
            "accuracy": report.trends(
                {n: f"accuracy/{n}" for n in _steps(learner)},
                label="probability of the right answer",
                across="update",
            ),
            "mixed": report.trends(
                {n: f"mixed/{n}" for n in _steps(learner)[1:]},
                label="groups that teach (share)",
                across=f"update (means over the {_every(learner)} before)",
            ),
        },
        claims=_claims(config),
        labels=METHODS
        | {
            f"{start}_{name}": f"{METHODS[name]}, {words}"
            for start, words in STARTS.items()
            for name in LEARNERS
        },
        title="Which prompts to answer",
        summary=(
            f"Simulation: {world.prompts} prompts, skills N({world.mean:g}, "
            f"{world.deviation:g}²), groups of {world.rollouts}, {world.batch} an "
            f"update; a group with right and wrong answers adds {world.gain:g} to the "
            f"skill, every update {world.drift:g} to all. Policy: sums modulo "
            f"{learner.task.base}^{learner.task.digits}, {learner.prompts} prompts "
            f"with {learner.rollouts} answers an update, GRPO; from scratch, or after "
            f"{learner.warm} updates that were shown right answers, or from scratch "
            f"with {learner.entropy:g} times the entropy of every digit as a reward. "
            "All have the same number of answers."
        ),
        captions={
            "share": "Simulation: groups with both right and wrong answers.",
            "accuracy": "Policy: exact, over all prompts.",
            "mixed": "Policy: groups with both right and wrong answers.",
        },
    )


def _every(learner):
    return learner.steps // learner.points


def _steps(learner):
    return [_every(learner) * i for i in range(learner.points + 1)]


def _check(config):
    world, learner = config.simulation, config.learner
    if not 1 <= world.batch <= world.prompts:
        raise ValueError(
            f"config.simulation.batch is {world.batch}, expected 1 to {world.prompts}"
        )
    if config.windows < 1 or world.steps % config.windows:
        raise ValueError(
            f"config.windows is {config.windows}, expected a divisor of "
            f"config.simulation.steps, {world.steps}"
        )
    if not 0 < config.early < world.steps:
        raise ValueError(
            f"config.early is {config.early}, expected 1 to {world.steps - 1}"
        )
    if learner.points < 2 or learner.steps % learner.points:
        raise ValueError(
            f"config.learner.points is {learner.points}, expected a divisor of "
            f"config.learner.steps, {learner.steps}, from 2 on"
        )
    if learner.warm < 0:
        raise ValueError(f"config.learner.warm is {learner.warm}, expected 0 or more")
    task_of(learner)


def choose(
    method: str,
    state: rl.BetaSampler,
    key: jax.Array,
    batch: int,
    rates: jax.Array | None = None,
) -> jax.Array:
    """Indices of the next prompts; ``rates`` are for the one that knows them."""
    if method == "oracle":
        return jax.lax.top_k(rl.variance_gain(rates), batch)[1]
    if method == "uniform":
        return jax.random.permutation(key, state.alpha.shape[0])[:batch]
    return rl.beta_sampler_select(state, key, batch)


def _decays(method, decay_sample, decay_global):
    kept = method == "count"  # it forgets nothing
    return dict(
        decay_sample=1.0 if kept else decay_sample,
        decay_global=1.0 if kept else decay_global,
    )


@functools.partial(
    jax.jit,
    static_argnums=0,
    static_argnames=(
        "count", "batch", "rollouts", "steps", "decay_sample", "decay_global"
    ),
)  # fmt: skip
def informative(
    method: str,
    key: jax.Array,
    *,
    count: int,
    batch: int,
    rollouts: int,
    steps: int,
    mean: float,
    deviation: float,
    gain: float,
    drift: float,
    decay_sample: float,
    decay_global: float,
) -> jax.Array:
    """Share of the groups with right and wrong answers at each step, [steps]."""
    decays = _decays(method, decay_sample, decay_global)
    keys = jax.random.split(key)

    def step(state, key):
        skill, sampler = state
        first, second = jax.random.split(key)
        rates = jax.nn.sigmoid(skill)
        at = choose(method, sampler, first, batch, rates)
        draws = jax.random.bernoulli(second, rates[at][:, None], (batch, rollouts))
        right = draws.sum(-1)
        mixed = (right > 0) & (right < rollouts)
        skill = skill.at[at].add(gain * mixed) + drift
        sampler = rl.beta_sampler_update(sampler, at, right, rollouts, **decays)
        return (skill, sampler), mixed.mean()

    skill = mean + deviation * jax.random.normal(keys[0], (count,))
    start = skill, rl.beta_sampler_init(count)
    return jax.lax.scan(step, start, jax.random.split(keys[1], steps))[1]


@functools.partial(
    jax.jit,
    static_argnums=(0, 1),
    static_argnames=(
        "prompts", "rollouts", "points", "every", "warm", "decay_sample",
        "decay_global",
    ),
)  # fmt: skip
def accuracies(
    task: _answers.Addition,
    method: str,
    key: jax.Array,
    *,
    prompts: int,
    rollouts: int,
    points: int,
    every: int,
    rate: float,
    eps: float,
    entropy: float,
    warm: int,
    decay_sample: float,
    decay_global: float,
) -> tuple[jax.Array, jax.Array]:
    """Probability of the right answer before training and at each point after.

    The policy is shown the right answers for the first ``warm`` updates, which come
    before; then it has rewards alone, and ``entropy`` for each nat of a digit. The
    second result is the share of groups that taught something, between the points.
    """
    decays = _decays(method, decay_sample, decay_global)
    every_prompt, keys = task.prompts(), jax.random.split(key)
    optimizer = optax.adam(rate)

    def update(state, key):
        params, inner, sampler = state
        first, second = jax.random.split(key)
        at = choose(method, sampler, first, prompts)
        batch = {name: rows[at] for name, rows in every_prompt.items()}

        def loss(params):
            old = jax.lax.stop_gradient(params)
            each, r = _answers.group_losses(
                task,
                rl.group_advantages,
                params,
                batch,
                second,
                old,
                rollouts=rollouts,
                clip_low=eps,
                clip_high=eps,
            )
            sure = metrics.neg_entropy_score(
                task.logits(params, batch["x"], batch["y"])
            )
            return each.mean() + entropy * sure.mean(), r.sum(-1).astype(jnp.int32)

        grads, right = jax.grad(loss, has_aux=True)(params)
        change, inner = optimizer.update(grads, inner)
        sampler = rl.beta_sampler_update(sampler, at, right, rollouts, **decays)
        mixed = (right > 0) & (right < rollouts)
        return (optax.apply_updates(params, change), inner, sampler), mixed.mean()

    def stretch(state, keys):
        state, mixed = jax.lax.scan(update, state, keys)
        return state, (success(state[0]), mixed.mean())

    def success(params):
        mean = _answers.success(task, params, every_prompt)
        return mean.sum / mean.count

    def shown(params, key):
        at = jax.random.permutation(key, len(every_prompt["x"]))[:prompts]
        x, y = every_prompt["x"][at], every_prompt["y"][at]
        return losses.cross_entropy(task.logits(params, x, y), y).mean()

    params, _ = descended(
        jax.grad(shown),
        task.init(keys[0]),
        optimizer,
        batches=jax.random.split(jax.random.fold_in(keys[0], 1), warm),
    )
    sampler = rl.beta_sampler_init(len(every_prompt["x"]))
    stretches = jax.random.split(keys[1], (points, every))
    start = params, optimizer.init(params), sampler
    _, (after, mixed) = jax.lax.scan(stretch, start, stretches)
    return jnp.append(success(params), after), mixed


def _claims(config):
    t, steps = config.tolerances, _steps(config.learner)
    half = steps[len(steps) // 2]

    def compared(text, arm, other, metric, at_least, reference, unit="of the groups"):
        return ahead(
            text,
            metric,
            arm,
            other,
            reference=reference,
            at_least=at_least,
            over="mean",
            unit=f"{unit} more",
        )

    def mean_share(arm):
        return sum(arm.final(f"mixed/{n}") for n in steps[1:]) / len(steps[1:])

    def known(results):
        """How far knowing the success is ahead, when that is the least."""
        gains = [
            report.ahead(f"share/{when}", "oracle", "vade")(results)
            for when in ("early", "later")
        ]
        return report.smallest_mean(gains)

    return [
        *[
            compared(
                f"VADE finds more groups that teach {words}",
                "vade",
                "uniform",
                f"share/{when}",
                t[when],
                prototype(numbers),
            )
            for when, words, numbers in (
                ("early", f"in the first {config.early} steps", "0.657 against 0.545"),
                ("later", f"after step {config.early}", "0.529 against 0.487"),
            )
        ],
        report.Claim(
            text="to know the success would find more, early and later",
            reference=prototype("0.908 and 0.651 against 0.657 and 0.529"),
            ours=known,
            at_least=t.oracle,
            over="mean",
            unit="of the groups more",
            needs=("oracle", "vade"),
        ),
        compared(
            "to forget old answers helps later",
            "vade",
            "count",
            "share/later",
            t.forgetting,
            prototype("0.529 against 0.513"),
        ),
        *[
            compared(
                f"a policy that adds, {words}, is better with it at step {half}",
                f"{start}_vade",
                f"{start}_uniform",
                f"accuracy/{half}",
                t.accuracy,
                stated("faster learning"),
                unit="probability of the right answer",
            )
            for start, words in STARTS.items()
        ],
        *[
            report.Claim(
                text=f"it finds more groups that teach a policy {words}",
                reference=stated("more informative groups"),
                ours=lambda r, start=start: (
                    mean_share(r[f"{start}_vade"]) - mean_share(r[f"{start}_uniform"])
                ),
                at_least=t.mixed,
                over="mean",
                unit="of the groups more, over all updates",
                needs=(f"{start}_vade", f"{start}_uniform"),
            )
            for start, words in STARTS.items()
        ],
    ]
