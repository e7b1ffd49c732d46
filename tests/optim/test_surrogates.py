import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import losses, optim


def problem(x, labels):
    return lambda w: x @ w, lambda z: losses.cross_entropy(z, labels)


@pytest.mark.parametrize("case", cases("sso_step"))
@pytest.mark.usefixtures("x64")
def test_golden(case):
    x, labels, w = arrays(case, "x", "labels", "W0")
    settings, want = case["params"], case["outputs"]
    logits_fn, loss_fn = problem(x, labels)
    step = interpreted(
        functools.partial(
            optim.sso_step,
            logits_fn=logits_fn,
            loss_fn=loss_fn,
            eta=settings["stepsize"] / 2,
            inner_steps=settings["m"],
            init_step=settings["inner_init_step"],
            armijo_c=settings["armijo_c"],
            backtrack=settings["backtrack"],
            expand=settings["expand"],
        )
    )
    for i in range(settings["outer_steps"]):
        w, info = step(w)
        close(info.loss, want["mean_ce"][i])
        close(w, want["W"][i])
        assert info.surrogate < 0
    close(loss_fn(logits_fn(w)).mean(), want["mean_ce"][-1])


def draw(seed=0, many=12, features=4, classes=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(many, features))
    return x, rng.integers(0, classes, many), rng.normal(size=(features, classes))


@pytest.mark.usefixtures("x64")
def test_one_inner_step_of_sgd_is_gradient_descent():
    x, labels, w = draw()
    logits_fn, loss_fn = problem(x, labels)
    grad = jax.grad(lambda w: loss_fn(logits_fn(w)).mean())(w)
    for divergence in ("euclidean", "kl"):
        got, info = optim.sso_step(
            *(w, logits_fn, loss_fn),
            eta=0.7,
            inner_steps=1,
            inner=optax.sgd(0.3),
            divergence=divergence,
        )
        np.testing.assert_allclose(got, w - 0.3 * grad, rtol=1e-12)
        assert info.steps == 1


@pytest.mark.usefixtures("x64")
def test_the_surrogate_is_a_bound_and_exact_with_kl():
    rng = np.random.default_rng(0)
    start, z = 3 * rng.normal(size=(2, 20, 5))
    labels = rng.integers(0, 5, 20)
    slopes = jax.grad(lambda z: losses.cross_entropy(z, labels).sum())(start)
    change = losses.cross_entropy(z, labels) - losses.cross_entropy(start, labels)
    bound = functools.partial(optim.target_surrogate, z, start, slopes)
    assert (bound(eta=2.0) >= change).all()
    np.testing.assert_allclose(bound(eta=1.0, divergence="kl"), change, atol=1e-12)
    for divergence in ("euclidean", "kl"):
        same = optim.target_surrogate(
            start, start, slopes, eta=2.0, divergence=divergence
        )
        np.testing.assert_allclose(same, 0, atol=1e-15)


def test_a_gradient_of_zero_leaves_all_where_it_was():
    x, _, w = draw()
    w = w.astype("f4")
    got, info = optim.sso_step(
        w, lambda w: x.astype("f4") @ w, lambda z: 0 * z.sum(-1), eta=1.0
    )
    np.testing.assert_array_equal(got, w)
    assert info.steps == 0


def test_one_program_in_a_chain():
    """The inner loop, its line search with it, is inside one compiled program."""
    x, labels, w = draw()
    x, w = x.astype("f4"), w.astype("f4")
    logits_fn, loss_fn = problem(x, labels)
    optimizer = optax.chain(optim.surrogate_descent(2.0, inner_steps=20))

    @quick_jit
    def run(w):
        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(
                jnp.zeros_like(w),
                state,
                w,
                logits_fn=logits_fn,
                logit_loss_fn=loss_fn,
            )
            return (optax.apply_updates(w, updates), state), state[0].info.loss

        return jax.lax.scan(step, (w, optimizer.init(w)), None, 5)

    lowered = run.lower(w)
    assert "callback" not in lowered.as_text()
    (_, state), values = lowered.compile()(w)
    assert state[0].calls == 5
    assert (np.diff(values) < 0).all()


def test_errors():
    z = np.ones((2, 3), "f4")
    with pytest.raises(ValueError, match=r"logit_grads has shape \(2, 2\)"):
        optim.target_surrogate(z, z, z[:, :2], eta=1.0)
    with pytest.raises(ValueError, match="eta is 0, expected positive"):
        optim.target_surrogate(z, z, z, eta=0)
    with pytest.raises(ValueError, match="divergence is 'l1'"):
        optim.target_surrogate(z, z, z, eta=1, divergence="l1")
    call = functools.partial(optim.sso_step, z, lambda z: z, lambda z: z.sum(-1), eta=1)
    with pytest.raises(ValueError, match="inner is 'newton'"):
        call(inner="newton")
    with pytest.raises(ValueError, match="armijo_c is 1, expected a number in"):
        call(armijo_c=1)
    with pytest.raises(ValueError, match="inner_steps is 0"):
        call(inner_steps=0)
    with pytest.raises(ValueError, match=r"loss_fn returned shape \(\)"):
        optim.sso_step(z, lambda z: z, lambda z: z.sum(), eta=1.0)
    with pytest.raises(ValueError, match="needs params"):
        optim.surrogate_descent(1.0).update(
            z, None, logits_fn=lambda z: z, logit_loss_fn=lambda z: z
        )
