"""Can a language model lose its norms, and is attribution exact without them?

A small transformer learns bytes of the standard library, and is then fine-tuned: with
its norms, while they are made constant one after another, and with all of them constant
at once. What is left of the second is folded into its linear layers. In a network with
norms what a part adds to a logit is not what is lost without it, since the last norm
then divides by less; in one without them the two are the same.

Source: Transformers don't need LayerNorm at inference time, arXiv:2507.02559.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import curves
from experiments.common.keys import once_per_key
from experiments.common.references import BOUND
from logitlab import data, losses, metrics, models, report
from logitlab.train import Compute, Study

ARMS = {
    "control": "with norms",
    "gradual": "one norm after another",
    "at_once": "all norms at once",
}
POINTS = 20  # of the curves
HELD = 16  # windows whose logits are attributed


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    pretrained = once_per_key(functools.partial(_pretrained, config))
    steps = _points(config)
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, pretrained, name))
            for name in ARMS
        },
        figures={
            "loss": curves.drawn(
                report.panels(
                    [[report.Panel("nats", "validation loss, nats")]], log_steps=False
                ),
                steps,
            )
        },
        claims=_claims(config),
        labels=ARMS,
        title="A transformer without norms, and what its parts write",
        summary=(
            f"{config.model.layers} layers of {config.model.width}, windows of "
            f"{config.data.context} bytes, {config.steps} steps of training and "
            f"{config.tuning} of fine-tuning on batches of {config.batch_size}. The "
            f"first norm turns constant at step {config.removal.start}, the last at "
            f"{_schedule(config, 'gradual').end}."
        ),
        captions={
            "loss": (
                "In fine-tuning, on the same windows. The first point is after one "
                "step."
            )
        },
    )


def _check(config):
    for name in ("steps", "tuning", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")
    end = _schedule(config, "gradual").end
    if end >= config.tuning:
        raise ValueError(
            f"config.tuning is {config.tuning}, expected more than {end}, where the "
            "last norm has turned constant"
        )


def _schedule(config, name):
    removal = config.removal
    if name == "at_once":
        return models.LnRemovalSchedule(
            config.model.layers, start=removal.start, gaps=(0, 0, 0), last=(0, 0)
        )
    return models.LnRemovalSchedule(
        config.model.layers,
        start=removal.start,
        gaps=tuple(removal.gaps),
        last=tuple(removal.last),
    )


def _points(config):
    """Steps after which the loss is measured."""
    return sorted(
        {1 + round(i * (config.tuning - 1) / POINTS) for i in range(POINTS + 1)}
    )


def transformer(config, norms):
    """The model with norms, with ones that may be constant, or without."""
    return models.CausalTransformer(
        256, 256, context=config.data.context, norms=norms, **config.model
    )


@functools.cache
def _text(folder):
    return data.standard_library_bytes(folder or None)


def windows(key, text, count, context):
    """Random windows of a text, [count, context + 1]."""
    start = jax.random.randint(key, (count,), 0, len(text) - context)
    return text[start[:, None] + jnp.arange(context + 1)[None]].astype(jnp.int32)


def nats(logits, tokens):
    """Mean loss of the next bytes."""
    return losses.cross_entropy(logits, tokens[:, 1:]).mean()


def _held(config, count):
    text = jnp.asarray(_text(config.data.folder).validation)
    return windows(jax.random.key(0), text, count, config.data.context)


def _pretrained(config, key):
    """Parameters of the model with norms."""
    init_key, data_key = jax.random.split(key)
    model = transformer(config, "layer")
    params = jax.jit(model.init)(init_key, jnp.zeros((1, 2), jnp.int32))["params"]
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(
            optax.warmup_cosine_decay_schedule(
                0, config.learning_rate, min(100, config.steps // 3), config.steps
            )
        ),
    )

    def loss(params, stats, tokens):
        return nats(model.apply({"params": params}, tokens[:, :-1]), tokens), stats

    return _trained(config, data_key, params, {}, optimizer, loss, [config.steps])[0]


def measured_stats(config, params, key, passes=100):
    """Running averages of the norms of a model as it is."""
    model = transformer(config, "fake")
    text = jnp.asarray(_text(config.data.folder).train)
    schedule = _schedule(config, "gradual")

    @jax.jit
    def run(params, text):
        tokens = windows(key, text, 2, config.data.context)
        stats = model.init(key, tokens[:, :-1])["stats"]

        def look(stats, at):
            own = jax.random.fold_in(key, at)
            tokens = windows(own, text, config.batch_size, config.data.context)
            variables = {"params": params, "stats": stats}
            _, changed = model.apply(variables, tokens[:, :-1], mutable="stats")
            return changed["stats"], None

        return jax.lax.scan(look, schedule(stats, -1), jnp.arange(passes))[0]

    return run(params, text)


def _values(config, pretrained, name, key):
    params = pretrained(jax.random.fold_in(key, 0))
    tune_key, stats_key = jax.random.split(jax.random.fold_in(key, 1))
    held = _held(config, config.data.tests)
    fake = name != "control"
    model = transformer(config, "fake" if fake else "layer")
    values, stats, flags = {}, {}, None
    if fake:
        stats = measured_stats(config, params, stats_key)
        flags = _schedule(config, name)

    @jax.jit
    def measure(params, stats):
        variables = {"params": params, "stats": stats} if fake else {"params": params}
        return nats(model.apply(variables, held[:, :-1]), held)

    if name == "at_once":  # before anything is learned
        bare = flags(stats, config.tuning)
        values["cold"] = measure(params, bare)

    ordinary = jnp.arange(config.data.context)[None] > 0

    def loss(params, stats, tokens):
        x = tokens[:, :-1]
        if not fake:
            return nats(model.apply({"params": params}, x), tokens), stats
        logits, changed = model.apply(
            {"params": params, "stats": stats}, x, mutable=("stats", "intermediates")
        )
        (residual,) = changed["intermediates"]["residual"]
        penalty = losses.residual_std_loss(
            residual, target_mask=jnp.broadcast_to(ordinary, x.shape)
        )
        return nats(logits, tokens) + config.std_weight * penalty, changed["stats"]

    params, stats, curve = _trained(
        config,
        tune_key,
        params,
        stats,
        _tuner(config),
        loss,
        _points(config),
        flags=flags,
        measure=measure,
    )
    values |= curves.with_finals({"nats": np.array(curve)})
    some = held[:HELD, :-1]
    if name == "control":
        values["nmae"] = attributed(model, params, some, held[:HELD, 1:])
    if name == "gradual":
        stats = flags(stats, config.tuning)
        folded = models.fold_layer_norm(params, stats)
        plain = transformer(config, "none")
        frozen = model.apply({"params": params, "stats": stats}, some)
        bare = plain.apply({"params": folded}, some)
        values["folded"] = jnp.abs(bare - frozen).max() / jnp.abs(frozen).max()
        values["nmae"] = taken_away(plain, folded, some, held[:HELD, 1:])
    return values


def _tuner(config):
    rate = optax.cosine_decay_schedule(config.tuning_rate, config.tuning, 0.5)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01)
    )


def _trained(
    config, key, params, stats, optimizer, loss, points, *, flags=None, measure=None
):
    """Parameters and statistics at the last point, and what is measured at all."""
    text = jnp.asarray(_text(config.data.folder).train)

    def step(carry, at):
        params, stats, state, text = carry
        own = jax.random.fold_in(key, at)
        tokens = windows(own, text, config.batch_size, config.data.context)
        stats = stats if flags is None else flags(stats, at)
        slope = jax.grad(loss, has_aux=True)
        grads, stats = slope(params, stats, tokens)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), stats, state, text), None

    @functools.partial(jax.jit, static_argnames="steps")
    def run(carry, start, *, steps):
        return jax.lax.scan(step, carry, start + jnp.arange(steps))[0]

    carry, curve, before = (params, stats, optimizer.init(params), text), [], 0
    for point in points:
        carry = run(carry, before, steps=point - before)
        if measure is not None:
            curve.append(float(measure(*carry[:2])))
        before = point
    return *carry[:2], curve


def attributed(model, params, tokens, answers):
    """How far attributions are from direct effects in a network with norms."""
    parts = models.residual_parts(model, {"params": params}, tokens)
    stacked = jnp.stack(list(parts.values()))
    settings = dict(scale=params["head_norm"]["scale"], tokens=answers, epsilon=1e-6)
    found, effects = (
        function(stacked, params["head"]["kernel"], residual=stacked.sum(0), **settings)
        for function in (metrics.direct_logit_attribution, metrics.direct_effect)
    )
    whole = jax.tree.map(jnp.sum, metrics.attribution_nmae(found, effects))
    return whole.value


def taken_away(model, params, tokens, answers):
    """The same of one without: here the logits are computed again without each part."""
    parts = models.residual_parts(model, {"params": params}, tokens)
    stacked = jnp.stack(list(parts.values()))
    kernel = params["head"]["kernel"]
    found = metrics.direct_logit_attribution(  # the kernel has taken in the centering
        stacked, kernel, std=1.0, tokens=answers
    )
    stream = stacked.sum(0)

    def logits(stream):
        z = stream @ kernel + params["head"]["bias"]
        return jnp.take_along_axis(z, answers[..., None], -1)[..., 0]

    effects = jnp.stack([logits(stream) - logits(stream - part) for part in stacked])
    return jax.tree.map(jnp.sum, metrics.attribution_nmae(found, effects)).value


def _claims(config):
    bounds = config.tolerances

    def gap(arm, metric="nats"):
        return lambda r: r[arm].final(metric) - r["control"].final("nats")

    return [
        report.Claim(
            text="a network that lost its norms one by one predicts nearly as well",
            paper="0.03 to 0.07 nats worse (GPT-2 of four sizes)",
            ours=gap("gradual"),
            at_most=bounds.gap,
            unit="nats worse than with norms",
            needs=("control", "gradual"),
        ),
        report.Claim(
            text="to lose all at once, without learning to, costs far more",
            reference=BOUND,
            ours=lambda r: (
                gap("at_once", "cold")(r) / np.maximum(gap("gradual")(r), 1e-3)
            ),
            at_least=bounds.times,
            unit="times as much, at least",
            needs=("control", "gradual", "at_once"),
        ),
        report.Claim(
            text="all at once and then fine-tuned is worse than one by one",
            ours=lambda r: r["at_once"].final("nats") - r["gradual"].final("nats"),
            above=0.0,
            over="mean",
            unit="nats worse",
            needs=("gradual", "at_once"),
            question=True,
        ),
        report.Claim(
            text="with norms attributions miss what parts do",
            reference=BOUND,
            ours=lambda r: r["control"].final("nmae"),
            at_least=bounds.before,
            unit="of the effects",
            needs=("control",),
        ),
        report.Claim(
            text="without norms they are what parts do",
            reference="identity: the head is linear",
            ours=lambda r: r["gradual"].final("nmae"),
            at_most=bounds.after,
            unit="of the effects",
            needs=("gradual",),
        ),
        report.Claim(
            text="the folded network computes what the constant norms did",
            reference="identity: a constant is folded",
            ours=lambda r: r["gradual"].final("folded"),
            at_most=bounds.folded,
            unit="of the largest logit off",
            needs=("gradual",),
        ),
    ]
