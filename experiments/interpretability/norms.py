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
HELD = 16  # windows whose logits are attributed


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    pretrained = once_per_key(_pretrained(config))
    steps = _points(config)
    return Study(
        arms={name: Compute(_arm(config, pretrained, name)) for name in ARMS},
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
        captions={"loss": ("In fine-tuning, on the same windows of other files.")},
    )


def _check(config):
    for name in ("steps", "tuning", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")
    if config.tuning % config.every:
        raise ValueError(
            f"config.tuning is {config.tuning}, expected a multiple of config.every "
            f"({config.every})"
        )
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
    return [*range(0, config.tuning + 1, config.every)]


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


def _batches(config, key, at, text):
    own = jax.random.fold_in(key, at)
    return windows(own, text, config.batch_size, config.data.context)


def _trainer(config, loss, optimizer, flags=None):
    """A program that trains for some steps: state, key, first step, text -> state.

    The state is parameters, statistics of the norms and the optimizer's own.
    """

    @functools.partial(jax.jit, static_argnames="steps")
    def run(state, key, first, text, *, steps):
        def step(state, at):
            params, stats, own = state
            stats = stats if flags is None else flags(stats, at)
            tokens = _batches(config, key, at, text)
            grads, stats = jax.grad(loss, has_aux=True)(params, stats, tokens)
            updates, own = optimizer.update(grads, own, params)
            return (optax.apply_updates(params, updates), stats, own), None

        return jax.lax.scan(step, state, first + jnp.arange(steps))[0]

    return run


def _pretrained(config):
    """A function of a key: parameters of a model with norms that has been trained."""
    model, steps = transformer(config, "layer"), config.steps
    warm = min(100, steps // 3)
    rate = optax.warmup_cosine_decay_schedule(0, config.learning_rate, warm, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def loss(params, stats, tokens):
        return nats(model.apply({"params": params}, tokens[:, :-1]), tokens), stats

    init, train = jax.jit(model.init), _trainer(config, loss, optimizer)

    def made(key):
        init_key, data_key = jax.random.split(key)
        params = init(init_key, jnp.zeros((1, 2), jnp.int32))["params"]
        state = params, {}, optimizer.init(params)
        text = jnp.asarray(_text(config.data.folder).train)
        return train(state, data_key, 0, text, steps=steps)[0]

    return made


def _look(config, passes=100):
    """A program: running averages of the norms of a model as it is."""
    model, schedule = transformer(config, "fake"), _schedule(config, "gradual")

    @jax.jit
    def run(params, key, text):
        first = _batches(config, key, passes, text)
        stats = model.init(key, first[:1, :-1])["stats"]

        def look(stats, at):
            tokens = _batches(config, key, at, text)
            variables = {"params": params, "stats": stats}
            _, changed = model.apply(variables, tokens[:, :-1], mutable="stats")
            return changed["stats"], None

        return jax.lax.scan(look, schedule(stats, -1), jnp.arange(passes))[0]

    return run


def _arm(config, pretrained, name):
    """A function of a key: what fine-tuning leaves. Its programs serve all seeds."""
    fake = name != "control"
    model = transformer(config, "fake" if fake else "layer")
    flags = _schedule(config, name) if fake else None
    rate = optax.cosine_decay_schedule(config.tuning_rate, config.tuning, 0.5)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01)
    )

    def loss(params, stats, tokens):
        x, variables = tokens[:, :-1], {"params": params, "stats": stats}
        if not fake:
            return nats(model.apply({"params": params}, x), tokens), stats
        logits, changed = model.apply(variables, x, mutable=("stats", "intermediates"))
        (residual,) = changed["intermediates"]["residual"]
        ordinary = jnp.broadcast_to(jnp.arange(x.shape[1])[None] > 0, x.shape)
        penalty = losses.residual_std_loss(residual, target_mask=ordinary)
        return nats(logits, tokens) + config.std_weight * penalty, changed["stats"]

    @jax.jit
    def measure(params, stats, held):
        variables = {"params": params} | ({"stats": stats} if fake else {})
        return nats(model.apply(variables, held[:, :-1]), held)

    look, train = _look(config), _trainer(config, loss, optimizer, flags)
    tuned = jax.jit(lambda params: optimizer.init(params))

    def values(key):
        params = pretrained(jax.random.fold_in(key, 0))
        tune_key, look_key = jax.random.split(jax.random.fold_in(key, 1))
        text = _text(config.data.folder)
        held = windows(
            jax.random.key(0),
            jnp.asarray(text.validation),
            config.data.tests,
            config.data.context,
        )
        text, found = jnp.asarray(text.train), {}
        stats = look(params, look_key, text) if fake else {}
        if name == "at_once":  # before anything is learned
            found["cold"] = measure(params, flags(stats, config.tuning), held)
        state, curve = (params, stats, tuned(params)), []
        for at in _points(config):
            if at:
                first = at - config.every
                state = train(state, tune_key, first, text, steps=config.every)
            curve.append(float(measure(*state[:2], held)))
        params, stats, _ = state
        found |= curves.with_finals({"nats": np.array(curve)})
        some = held[:HELD]
        if name == "control":
            found["nmae"] = attributed(model, params, some[:, :-1], some[:, 1:])
        if name == "gradual":
            stats = flags(stats, config.tuning)
            found |= without_norms(config, params, stats, some[:, :-1], some[:, 1:])
        return found

    return values


def without_norms(config, params, stats, tokens, answers):
    """How far the folded network is from the one with constants, and attributions."""
    folded = models.fold_layer_norm(params, stats)
    plain, fake = transformer(config, "none"), transformer(config, "fake")
    frozen = fake.apply({"params": params, "stats": stats}, tokens)
    bare = plain.apply({"params": folded}, tokens)
    return {
        "folded": jnp.abs(bare - frozen).max() / jnp.abs(frozen).max(),
        "nmae": taken_away(plain, folded, tokens, answers),
    }


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
        z = stream @ kernel + params["head"]["bias"][None, None]
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
            paper="0.014 to 0.067 nats worse (GPT-2 of four sizes, OpenWebText)",
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
