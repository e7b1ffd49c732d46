import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.distillation import companions
from logitlab import losses, report
from logitlab.train import ArmResult

CONFIG = get_config("companions")


def lib(name, *arrays, **hyper):
    return interpreted(functools.partial(getattr(losses, name), **hyper))(*arrays)


def batch():
    rng = np.random.default_rng(0)
    logits = {
        name: jnp.asarray(rng.normal(size=(6, 4)), "f4")
        for name in ("own", "other", "teacher", "assistant")
    }
    return logits.pop("own"), logits.pop("other"), logits | {"y": jnp.arange(6) % 4}


def parts(name, outputs, rows):
    objective = functools.partial(companions.objective, CONFIG.methods[name])
    return interpreted(objective)(outputs, rows)


def test_objectives_are_sums_of_the_librarys_losses():
    own, other, rows = batch()
    ce = lib("cross_entropy", own, rows["y"])
    kd = {
        name: lib("kd_loss", own, rows[name], temperature=4.0)
        for name in ("teacher", "assistant")
    }
    labels, told = parts("dgkd", (own, other), rows)
    np.testing.assert_allclose(labels, 0.1 * ce, rtol=1e-5)
    np.testing.assert_allclose(
        told, 0.45 * (kd["teacher"] + kd["assistant"]), rtol=1e-5
    )
    _, told = parts("ctkd", (own, jnp.float32(4.0)), rows)
    np.testing.assert_allclose(told, 0.9 * kd["teacher"], rtol=1e-5)
    labels, told = parts("mutual", (own, other), rows)
    np.testing.assert_allclose(
        labels, ce + lib("cross_entropy", other, rows["y"]), rtol=1e-5
    )
    want = lib("kd_loss", own, other) + lib("kd_loss", other, own)
    np.testing.assert_allclose(told, want, rtol=1e-5)


def test_fellows_do_not_move_each_other():
    own, other, rows = batch()

    def told(own, other):
        return companions.objective(CONFIG.methods.mutual, (own, other), rows)[1].sum()

    grads = interpreted(jax.grad(told, (0, 1)))(own, other)
    for logits, fellow, grad in ((own, other, grads[0]), (other, own, grads[1])):
        q, p = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (logits, fellow))
        np.testing.assert_allclose(grad, q - p, atol=1e-6)


def test_the_temperature_ascends():
    optimizer = companions._against_the_student(CONFIG)
    params = {"network": {"w": jnp.ones(2)}, "temperature": jnp.ones(())}
    grads = {"network": {"w": jnp.ones(2)}, "temperature": jnp.float32(2.0)}

    def step(state, _):
        params, inner = state
        change, inner = optimizer.update(grads, inner, params)
        return (optax.apply_updates(params, change), inner), change

    def run():
        return jax.lax.scan(step, (params, optimizer.init(params)), None, 102)[1]

    change = jax.jit(run)()
    assert change["temperature"][0] == 0
    # Half of the ramp is half of the strength; momentum is left out by differences.
    alone = change["temperature"][1:] - 0.9 * change["temperature"][:-1]
    assert float(alone[49]) == pytest.approx(0.05 * 2 * 0.5, rel=1e-4)
    assert float(alone[100]) == pytest.approx(0.05 * 2, rel=1e-4)
    assert (change["network"]["w"] < 0).all()


def result(accuracy, **columns):
    rows = [
        {"arm": "a", "seed": str(seed), "step": "0", "test/accuracy": str(value)}
        | {name: str(values[seed]) for name, values in columns.items()}
        for seed, value in enumerate(accuracy)
    ]
    return ArmResult("a", range(len(accuracy)), rows)


@pytest.mark.parametrize(
    ("lead", "verdict"), [(3, "reproduced"), (-1, "not reproduced")]
)
def test_claims_can_fail(lead, verdict):
    base = np.array([0.5, 0.6, 0.7])
    results = {"ce": result(base), "mutual": result(base + lead / 100)}
    results["born_3"] = result(base, **{"test/ensemble": base + lead / 100})
    verdicts = {v.text: v for v in report.judge(companions._claims(CONFIG), results)}
    assert len(verdicts) == 9
    judged = [v for v in verdicts.values() if v.verdict != "not tested"]
    assert [v.verdict for v in judged] == [verdict] * 2
    np.testing.assert_allclose([v.mean for v in judged], lead)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("methods.kd.way", "alon", "has no 'alon'; did you mean alone"),
        ("methods.kd.divergence", "kl", "config.methods.kd.divergence"),
        ("methods.kd.learns_from", ("teach",), "has no 'teach'"),
        ("methods.ctkd.learns_from", (), "ctkd.learns_from is empty"),
        ("before.first.learns_from", "second", "config.before.first.learns_from"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:companions", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:companions")
    assert done.figures == ["gains"]
