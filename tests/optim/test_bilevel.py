import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import optim


def toy(size):
    """min ½‖x - y2‖² + ½‖y1 - 1‖², y of least ½‖y1‖² - x y1 + 1 y2, all sums 0."""

    def center(x, y):
        share = (x.sum() + sum(a.sum() for a in y)) / (3 * size)
        return x - share, tuple(a - share for a in y)

    return optim.BilevelProblem(
        upper=lambda x, y: ((x - y[1]) ** 2).sum() / 2 + ((y[0] - 1) ** 2).sum() / 2,
        lower=lambda x, y: (y[0] ** 2).sum() / 2 - x @ y[0] + y[1].sum(),
        constraint=lambda x, y: (x.sum() + y[0].sum() + y[1].sum())[None],
        project=center,
        equality=True,
    )


def test_the_optimum_of_the_toy():
    size = 10
    problem = toy(size)
    one = jnp.ones(size)
    step = functools.partial(
        optim.lv_hba_step, problem=problem, alpha=0.03, eta=0.03, beta=0.05
    )

    @quick_jit
    def run():
        start = optim.lv_hba_init(one, (one, one), problem)
        return jax.lax.fori_loop(0, 6000, lambda _, s: step(s), start)

    state = run()
    assert state.step == 6000
    np.testing.assert_allclose(state.x, -0.3, atol=0.015)
    np.testing.assert_allclose(state.y[0], 0.7, atol=0.02)
    np.testing.assert_allclose(state.y[1], -0.4, atol=0.02)
    np.testing.assert_allclose(state.multipliers, -1, atol=0.02)
    total = state.x.sum() + sum(a.sum() for a in state.y)
    np.testing.assert_allclose(total, 0, atol=1e-4)


def reference(state, a=0.01, b=0.02, e=0.01, g1=10.0, g2=1.0, c=0.5, p=0.3):
    """One step of the toy, written out with its gradients."""
    k, x, (y1, y2), (t1, t2), lam, z = state
    n1 = t1 - e * (t1 - x + lam + (t1 - y1) / g1)
    n2 = t2 - e * (1 + lam + (t2 - y2) / g1)
    new = lam + e * ((x + t1 + t2).sum() - (lam - z) / g2)
    ck = c * (k + 1) ** p
    dx = (x - y2) / ck - y1 + n1 - new
    d1 = (y1 - 1) / ck + y1 - x - (y1 - n1) / g1
    d2 = (y2 - x) / ck + 1 - (y2 - n2) / g1
    x, y1, y2 = x - a * dx, y1 - a * d1, y2 - a * d2
    share = (x + y1 + y2).sum() / (3 * x.size)
    z = z + b * (new - z) / g2
    return k + 1, x - share, (y1 - share, y2 - share), (n1, n2), new, z


@pytest.mark.usefixtures("x64")
def test_a_step_is_that_of_the_paper():
    problem, rng = toy(3), np.random.default_rng(0)
    draw = lambda: rng.normal(size=3)  # noqa: E731
    x, *rest = problem.project(draw(), (draw(), draw()))
    state = optim.LVHBAState(
        4, x, rest[0], (draw(), draw()), rng.normal(size=1), rng.normal(size=1)
    )
    got = interpreted(lambda s: optim.lv_hba_step(s, problem))(state)
    for a, b in zip(
        jax.tree.leaves(got), jax.tree.leaves(reference(state)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_inequalities_have_multipliers_from_zero_on():
    """y is to be near x, at most 1; the upper problem wants y = 3."""
    problem = optim.BilevelProblem(
        upper=lambda x, y: (y - 3) ** 2 + 0.01 * x**2,
        lower=lambda x, y: (y - x) ** 2,
        constraint=lambda x, y: (y - 1)[None],
        project=lambda x, y: (x, jnp.minimum(y, 1)),
    )
    start = optim.lv_hba_init(jnp.float32(0), jnp.float32(0), problem)
    step = lambda _, s: optim.lv_hba_step(s, problem, alpha=0.05, eta=0.05)  # noqa: E731
    state = quick_jit(lambda s: jax.lax.fori_loop(0, 2000, step, s))(start)
    np.testing.assert_allclose(state.y, 1, atol=1e-3)
    assert state.multipliers >= 0
    assert state.x.dtype == np.float32


def test_errors():
    problem = toy(2)
    state = optim.lv_hba_init(jnp.ones(2), (jnp.ones(2), jnp.ones(2)), problem)
    for name in ("alpha", "gamma2", "radius"):
        with pytest.raises(ValueError, match=f"{name} is 0, expected positive"):
            optim.lv_hba_step(state, problem, **{name: 0})
    with pytest.raises(ValueError, match="power is 0.5, expected in"):
        optim.lv_hba_step(state, problem, power=0.5)
    bad = problem._replace(constraint=lambda x, y: x.sum())
    with pytest.raises(ValueError, match=r"the constraint has shape \(\)"):
        optim.lv_hba_init(jnp.ones(2), (jnp.ones(2), jnp.ones(2)), bad)
