"""Can one example teach what a network already knows, but does not show?

A network reads digits well, and answers in a format that earns nothing: of six formats
the verifier takes one, and the network prefers the others. Reinforcement learning with
a single image, answered 128 times an update, is to bring out what it knows of all.

Source: One-shot RLVR, Wang et al. 2025, arXiv:2504.20571.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import splits
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import losses, metrics, report, rl, sequences
from logitlab.train import Run, Study
from logitlab.train.config import arm_configs, log_points

CLASSES, RIGHT = 10, 0  # of digits; the format that the verifier takes


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    configs, parts = arm_configs(config), splits(**config.data)
    return Study(
        arms={name: _run(arm, parts) for name, arm in configs.items()},
        figures={
            "success": report.panels(
                [
                    [
                        report.Panel("test/success", "success", also="train/success"),
                        report.Panel("test/format", "share right", also="test/class"),
                    ]
                ],
                arms=[name for name in configs if name != "gradient"],
                across="update",
            ),
        },
        claims=_claims(config),
        labels={name: arm.label for name, arm in configs.items()},
        title="Reinforcement learning from one example",
        summary=(
            f"{config.data.name}; a policy of two tokens, a format of {config.formats} "
            f"and a class. Its base is trained to know the class, and gives the right "
            "format with a few percent. Each seed has its own base and its own image, "
            f"of which every update draws {config.groups} groups of "
            f"{config.rollouts} answers. Success is the exact probability of the right "
            "format with the right class."
        ),
        captions={
            "success": (
                "Left: success on new images, solid, and on the one image, dashed. "
                "Right: format, solid, and class, dashed, on new images: what the "
                "reward brings out, and what was known before. The policy gradient "
                "alone, which is not drawn, lies on the curves of one-shot RLVR."
            ),
        },
    )


def _check(config):
    if config.formats < 2 or config.formats > CLASSES:
        raise ValueError(
            f"config.formats is {config.formats}, expected 2 to {CLASSES}, the tokens"
        )
    if config.rollouts < 2 or config.groups < 1:
        raise ValueError(
            f"config.rollouts is {config.rollouts}, config.groups {config.groups}; "
            "expected at least 2 and 1"
        )
    if config.base.features < 1 or config.base.steps < 0:
        raise ValueError(
            f"config.base has {config.base.features} features and {config.base.steps} "
            "steps, expected at least 1 and 0"
        )


def features(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Random rectified features of about unit length, x [..., P] -> [..., D]."""
    x = x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
    return (2 / weights.shape[1]) ** 0.5 * jax.nn.relu(x @ weights)


def policy_logits(heads: dict, seen: jax.Array) -> jax.Array:
    """Of the format, -inf where there is none, and class: [N, D] -> [N, 2, 10]."""
    z = _linear(heads["format"], seen)
    rest = jnp.full((len(z), CLASSES - z.shape[1]), -jnp.inf)
    return jnp.stack([jnp.concatenate([z, rest], 1), _linear(heads["class"], seen)], 1)


def _linear(head, seen):
    return seen @ head["kernel"] + head["bias"][None]


def _base(config, x, y, key):
    """A network trained for the class alone, that prefers other formats."""
    weights = jax.random.normal(key, (x.shape[1], config.base.features), jnp.float32)
    seen = features(weights, x)

    def zeros(tokens):
        return {
            "kernel": jnp.zeros((seen.shape[1], tokens), jnp.float32),
            "bias": jnp.zeros(tokens, jnp.float32),
        }

    def loss(head):
        return losses.cross_entropy(_linear(head, seen), y).mean()

    adam = optax.adam(config.base.learning_rate)
    head, _ = descended(jax.grad(loss), zeros(CLASSES), adam, steps=config.base.steps)
    format_ = zeros(config.formats)
    format_["bias"] = format_["bias"].at[RIGHT].set(-config.base.preference)
    heads = {"format": format_, "class": head}
    return {"weights": weights, "base": heads, "policy": jax.tree.map(jnp.copy, heads)}


def _run(config, parts) -> Run:
    train, test = (
        {"x": p["x"].reshape(len(p["x"]), -1), "y": p["y"]}
        for p in (parts["train"], parts["test"])
    )

    def one_image(key):
        row = jax.random.randint(key, (), 0, len(train["y"]))
        copies = config.groups * config.rollouts
        return {
            "train": {k: jnp.repeat(a[row][None], copies, 0) for k, a in train.items()},
            "test": test,
        }

    def loss(params, batch, key):
        fixed = jax.lax.stop_gradient(params)
        seen = features(fixed["weights"], batch["x"])
        z, ref = (policy_logits(h, seen) for h in (params["policy"], fixed["base"]))
        tokens = jax.random.categorical(key, jax.lax.stop_gradient(z))
        right = (tokens == _right(batch["y"])).all(-1).astype(z.dtype)
        grouped = right.reshape(config.groups, config.rollouts)
        each = losses.rlvr_loss(
            z,
            tokens,
            jax.lax.stop_gradient(sequences.token_log_prob(z, tokens)),
            sequences.token_log_prob(ref, tokens),
            rl.group_advantages(grouped, eps=1e-6).ravel(),
            **config.loss,
        )
        return each.mean(-1)

    def evaluate(params, parts):
        numbers = {}
        for name in ("test", "train"):
            x, y = (parts[name][k] for k in "xy")
            z = policy_logits(params["policy"], features(params["weights"], x))
            probs = jnp.exp(sequences.token_log_prob(z, _right(y)))
            numbers[f"{name}/success"] = metrics.mean_of(probs.prod(-1))
            if name == "test":
                numbers["test/format"] = metrics.mean_of(probs[:, 0])
                numbers["test/class"] = metrics.mean_of(probs[:, 1])
                numbers["test/entropy"] = metrics.mean_of(
                    -losses.confidence_penalty(z, beta=1.0)
                )
        return numbers

    return Run(
        init=functools.partial(_base, config, train["x"], train["y"]),
        loss=loss,
        data=one_image,
        optimizer=optax.sgd(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=log_points(config.steps, config.evaluate_per_decade),
        show=("train/success", "test/success"),
    )


def _right(y):
    """The rewarded tokens, [N, 2]."""
    return jnp.stack([jnp.full_like(y, RIGHT), y], -1)


def _claims(config):
    t = config.tolerances

    def after(results):
        """What new images gain once the image itself has nearly all it will get."""
        arm = results["rlvr"]
        seen, new = arm["train/success"], arm["test/success"]
        done = np.argmax(seen >= t.saturated * seen[-1], 0)
        return new[-1] - new[done, np.arange(seen.shape[1])]

    alone = (
        ("entropy", "entropy alone", prototype("0.034 to 0.049")),
        ("entropy_100", "100 times the entropy", ""),
    )
    return [
        report.Claim(
            text="the base shows little of what it knows",
            reference=prototype("0.034"),
            ours=lambda r: r["rlvr"]["test/success"][0],
            at_most=t.before,
            unit="success on new images",
            needs=("rlvr",),
        ),
        report.Claim(
            text="one image brings it out",
            paper="36.0 to 73.6 % on MATH500 (abstract)",
            reference=prototype("0.846"),
            ours=lambda r: r["rlvr"].final("test/success"),
            at_least=t.after,
            unit="success on new images",
            needs=("rlvr",),
        ),
        report.Claim(
            text="new images gain on after the one image is learned",
            reference=stated("post-saturation generalisation"),
            ours=after,
            at_least=t.gains_on,
            unit=f"success gained from {t.saturated:.0%} of the image's own on",
            needs=("rlvr",),
        ),
        report.Claim(
            text="without entropy and divergence it is about as good",
            reference=stated("the policy gradient is what matters"),
            ours=report.ahead("test/success", "rlvr", "gradient"),
            equals=0.0,
            within=t.ablation_within,
            unit="success lost",
            needs=("rlvr", "gradient"),
        ),
        *[
            report.Claim(
                text=f"{words}, without any reward, raises it",
                reference=reference,
                ours=lambda r, arm=arm: (
                    r[arm].final("test/success") - r[arm]["test/success"][0]
                ),
                at_least=t.entropy_gains,
                unit="success gained",
                needs=(arm,),
                question=arm == "entropy_100",
            )
            for arm, words, reference in alone
        ],
        *[
            report.Claim(
                text=f"but not far: {words}",
                reference=reference,
                ours=lambda r, arm=arm: r[arm].final("test/success"),
                at_most=t.entropy_most,
                unit="success on new images",
                needs=(arm,),
                question=arm == "entropy_100",
            )
            for arm, words, reference in alone
        ],
    ]
