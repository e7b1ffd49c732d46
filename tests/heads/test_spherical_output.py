import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, close
from harness.interpreter import functions

from logitlab import heads, losses

CASES = cases("spherical_update")
LOSSES = {
    "spherical_z_loss": dict(a=0.7, b=1.5),
    "spherical_softmax_loss": dict(eps=0.1),  # near 0 it bends like 1 / eps
    "taylor_softmax_loss": {},
    "spherical_mse_loss": {},
}

init = jax.jit(heads.spherical_output_init)
dense = jax.jit(heads.spherical_output_dense)
stats = jax.jit(heads.spherical_output_stats)
update = jax.jit(heads.spherical_output_update)
refresh = jax.jit(heads.spherical_output_refresh)
stabilize = jax.jit(heads.stabilize)


def consistent(state, rtol=1e-10):
    """What is carried along is what it stands for."""
    w = dense(state)
    close(state.q, w.T @ w, rtol)
    close(state.w_bar, w.sum(0), rtol)
    close(state.u @ state.u_inv, np.eye(len(state.u)), rtol)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factored", [True, False])
def test_golden(x64, case, factored):
    given = {name: np.asarray(value) for name, value in case["inputs"].items()}
    out, eta = case["outputs"], case["params"]["learning_rate"]
    state = init(np.asarray(out["w"]))
    if factored:  # theirs, whose U is no identity
        state = state._replace(**{name: given[name] for name in ("v", "u", "omega")})
        state = refresh(state)
    close(dense(state), out["w"])
    batch = given["hidden"], given["targets"]
    for a, name in zip(
        stats(state, *batch), ("target_out", "sum_sq", "sum"), strict=True
    ):
        close(a, out[name])
    grads = tuple(given[f"grad_{name}"] for name in ("target", "sq", "sum"))
    state, grad_hidden = update(state, *batch, grads, learning_rate=eta)
    close(grad_hidden, out["grad_hidden"])
    close(dense(state), out["new_w"])
    consistent(state)


def start(dtype):
    w = np.random.default_rng(0).normal(size=(50, 6)) / 6**0.5
    return w.astype(dtype)


def batches(steps, rows, width, classes, dtype):
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(steps, rows, width)).astype(dtype)
    return hidden, rng.integers(0, classes, (steps, rows))


@functools.partial(jax.jit, static_argnames=("name", "every"))
def train_factored(w, data, name, eta, decay, every=None):
    of_stats = functools.partial(
        heads.spherical_stats_loss, num_classes=len(w), loss=name, **LOSSES[name]
    )

    def step(carry, batch):
        state, count = carry
        numbers = heads.spherical_output_stats(state, *batch)
        grads = jax.grad(lambda n: of_stats(*n).sum())(numbers)
        state, grad = heads.spherical_output_update(
            state, *batch, grads, learning_rate=eta, weight_decay=decay
        )
        if every is not None:
            due = count % every == 0
            state = jax.lax.cond(due, heads.stabilize, lambda state: state, state)
        return (state, count + 1), (of_stats(*numbers), grad)

    (state, _), trace = jax.lax.scan(step, (heads.spherical_output_init(w), 1), data)
    return state, trace


@functools.partial(jax.jit, static_argnames="name")
def train_dense(w, data, name, eta, decay):
    loss_fn = functools.partial(getattr(losses, name), **LOSSES[name])

    def step(w, batch):
        hidden, labels = batch

        def total(w, hidden):
            each = loss_fn(hidden @ w.T, labels)
            return each.sum(), each

        grad = jax.grad(total, argnums=(0, 1), has_aux=True)
        (grad_w, grad_hidden), each = grad(w, hidden)
        return w - eta * (grad_w + decay * w), (each, grad_hidden)

    return jax.lax.scan(step, w, data)


@pytest.mark.sampled
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("rows", "decay", "every"),
    [(8, 0.0, None), (3, 0.1, None), (8, 0.1, 7)],
    ids=["many rows", "few rows and decay", "stabilised"],
)
def test_fifty_steps_equal_those_of_the_dense_head(x64, name, rows, decay, every):
    """8 rows of width 6 invert A itself, 3 rows a system of 3; targets repeat."""
    w, data = start(jnp.float64), batches(50, rows, 6, 50, jnp.float64)
    eta = 2e-3 if name == "spherical_mse_loss" else 0.02
    want, (each, grad) = train_dense(w, data, name, eta, decay)
    state, trace = train_factored(w, data, name, eta, decay, every)
    assert np.abs(want - w).max() > 0.05
    got = dense(state)
    assert np.abs(got - want).max() < 1e-12
    close(trace[0], each, 1e-11)
    close(trace[1], grad, 1e-11)
    consistent(state)


@pytest.mark.sampled
@pytest.mark.parametrize("name", LOSSES)
def test_fifty_steps_in_float32(name):
    w, data = start(jnp.float32), batches(50, 8, 6, 50, jnp.float32)
    eta = 2e-3 if name == "spherical_mse_loss" else 0.02
    want, _ = train_dense(w, data, name, eta, 0.0)
    state, _ = train_factored(w, data, name, eta, 0.0)
    assert {a.dtype for a in state} == {jnp.dtype("float32")}
    close(dense(state), want, 1e-5)


def test_refresh_removes_the_drift():
    w, data = start(jnp.float32), batches(3000, 8, 6, 50, jnp.float32)
    state, _ = train_factored(w, data, "spherical_z_loss", 0.05, 0.0, 100)
    drifted = np.abs(state.q - dense(state).T @ dense(state)).max()
    state = refresh(state)
    left = np.abs(state.q - dense(state).T @ dense(state)).max()
    assert left < 1e-6 * np.abs(state.q).max()
    assert drifted > 3 * left


@pytest.mark.parametrize(
    ("sigma", "moved"),
    [
        ([1.0, 1.0, 1.9, 0.6, 1.0, 1.2], 0),
        ([1.0, 1.0, 1.9, 0.1, 1.0, 1.2], 1),
        ([9.0, 1.0, 1.9, 0.0, 1.0, 1.2], 2),  # no inverse before
        ([9.0, 1.0, 3.0, 0.1, 1.0, 1.2], 6),  # more than a third: everything
    ],
)
def test_stabilize(x64, sigma, moved):
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2)]
    state = init(rng.normal(size=(20, 6)))._replace(
        u=bases[0] * sigma @ bases[1], omega=rng.normal(size=6)
    )
    w = dense(state)
    state = state._replace(q=w.T @ w, w_bar=w.sum(0))
    after = stabilize(state)
    close(dense(after), w, 1e-13)
    consistent(after, 1e-12)
    singular = np.linalg.svd(after.u, compute_uv=False)
    assert ((singular >= 0.5) & (singular <= 2)).all()
    rank = np.linalg.matrix_rank(after.v - state.v, tol=1e-8)
    assert rank == moved
    assert bool((after.omega == 0).all()) == (moved == 6)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["spherical_z_loss", "spherical_mse_loss"])
def test_v_is_updated_in_place(name):
    """No temporary has a row per class, in a step or in a loop of them."""
    classes, width = 100_003, 8
    w = jnp.ones((classes, width))
    data = batches(5, 4, width, classes, jnp.float32)
    of_stats = functools.partial(
        heads.spherical_stats_loss, num_classes=classes, loss=name
    )

    def step(state, batch):
        numbers = heads.spherical_output_stats(state, *batch)
        loss, grads = jax.value_and_grad(lambda n: of_stats(*n).sum())(numbers)
        state, _ = heads.spherical_output_update(
            state, *batch, grads, learning_rate=0.1
        )
        return state, loss

    def loop(state, data):
        return jax.lax.scan(step, state, data)

    for function, given in ((step, [a[0] for a in data]), (loop, data)):
        program = jax.jit(function, donate_argnums=0).lower(init(w), given).compile()
        memory = program.memory_analysis()
        assert memory.temp_size_in_bytes < classes
        assert memory.alias_size_in_bytes >= w.nbytes


def test_stabilize_copies_nothing_where_all_is_well():
    w = jnp.ones((100_003, 8))
    program = jax.jit(heads.stabilize, donate_argnums=0).lower(init(w)).compile()
    # What is there is for the turn of the loop that refactors.
    assert program.memory_analysis().alias_size_in_bytes >= w.nbytes
    copies = [line for line in program.as_text().splitlines() if "copy(" in line]
    assert not [line for line in copies if "100003,8" in line.split("copy(")[0]]


def test_masked_rows_are_not_looked_at(x64):
    rng = np.random.default_rng(0)
    state = init(rng.normal(size=(7, 3)))
    h, k, grads = (
        rng.normal(size=(4, 3)),
        np.array([1, 5, 1, 0]),
        rng.normal(size=(3, 4)),
    )
    keep = np.array([True, False, True, False])
    few = update(state, h[keep], k[keep], tuple(grads[:, keep]), learning_rate=0.1)
    h[~keep], k[~keep], grads[:, ~keep] = np.nan, [-100, 99], np.nan
    for f in (update, functions(heads).spherical_output_update):
        after, grad = f(state, h, k, tuple(grads), learning_rate=0.1, mask=keep)
        close(dense(after), dense(few[0]), 1e-14)
        close(grad[keep], few[1], 1e-14)
        assert (grad[~keep] == 0).all()
        consistent(after)
    for number in stats(state, h, k, mask=keep):
        assert (number[~keep] == 0).all()


def test_16_bit_features():
    state = init(jnp.ones((7, 3), jnp.bfloat16))
    h, grads = jnp.ones((2, 3), jnp.bfloat16), tuple(jnp.ones((3, 2), jnp.bfloat16))
    assert {a.dtype for a in stats(state, h, jnp.zeros(2, int))} == {np.dtype("f4")}
    state, grad = update(state, h, jnp.zeros(2, int), grads, learning_rate=0.1)
    assert {a.dtype for a in state} == {np.dtype("f4")}
    assert grad.dtype == jnp.bfloat16


@pytest.mark.sampled
@pytest.mark.parametrize("name", LOSSES)
def test_stats_losses_are_those_of_all_scores(x64, name):
    z = np.random.default_rng(0).normal(size=(5, 9)) + 1
    y = np.arange(5)
    got = heads.spherical_stats_loss(
        z[y, y], (z**2).sum(1), z.sum(1), num_classes=9, loss=name, **LOSSES[name]
    )
    close(got, getattr(losses, name)(z, y, **LOSSES[name]), 1e-12)


def test_equal_scores_have_no_deviation():
    for score in (0.0, 0.1, 1e4):
        z = np.full(1000, score, "f4")
        numbers = z[0], (z**2).sum(), z.sum()
        loss = functools.partial(heads.spherical_stats_loss, num_classes=1000)
        np.testing.assert_allclose(loss(*numbers), np.log(2), rtol=1e-6)
        grads = jax.grad(loss, argnums=(0, 1, 2))(*numbers)
        np.testing.assert_array_equal(grads, 0)


def test_bad_targets():
    state = init(jnp.ones((7, 3)))
    h, grads = jnp.ones((2, 3)), tuple(jnp.ones((3, 2)))
    for bad in (7, -1):
        k = jnp.array([0, bad])
        message = rf"targets outside \[0, 7\): \[{bad}\]"
        if bad > 0:
            with pytest.raises(ValueError, match=message):
                heads.spherical_output_stats(state, h, k)
            with pytest.raises(ValueError, match=message):
                heads.spherical_output_update(state, h, k, grads, learning_rate=0.1)
        score = stats(state, h, k)[0]
        assert np.isnan(score).tolist() == [False, True]
        after, _ = update(state, h, k, grads, learning_rate=0.1)
        assert np.isnan(dense(after)).all()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("hidden", np.ones((2, 4)), ValueError, r"\(2, 4\), expected \[M, 3\]"),
        ("hidden", np.ones(3), ValueError, r"hidden has shape \(3,\)"),
        ("hidden", np.ones((2, 3), int), TypeError, "hidden has dtype int"),
        ("targets", np.zeros(3, int), ValueError, r"\(3,\), expected \(2,\) or"),
        ("targets", np.zeros(2), TypeError, "targets has dtype float.*, expected"),
        ("grads", np.ones((2, 2)), ValueError, "grads has 2 arrays"),
        (
            "grads",
            np.ones((3, 1)),
            ValueError,
            r"grads\[0\] has shape \(1,\), expected",
        ),
        ("mask", np.ones(2), TypeError, "mask has dtype float32, expected bool"),
        ("mask", np.ones(3, bool), ValueError, r"\(3,\), expected \(2,\)"),
    ],
)
def test_errors(name, value, error, message):
    given = dict(
        hidden=jnp.ones((2, 3)),
        targets=jnp.zeros(2, int),
        grads=tuple(jnp.ones((3, 2))),
    )
    value = jnp.asarray(value)
    given[name] = tuple(value) if name == "grads" else value
    with pytest.raises(error, match=message):
        heads.spherical_output_update(init(jnp.ones((7, 3))), **given, learning_rate=1)


def test_errors_of_the_others():
    with pytest.raises(ValueError, match=r"w has shape \(3,\), expected \[C, d\]"):
        heads.spherical_output_init(jnp.ones(3))
    with pytest.raises(TypeError, match="w has dtype int32"):
        heads.spherical_output_init(jnp.ones((3, 2), jnp.int32))
    state = init(jnp.ones((7, 3)))
    with pytest.raises(ValueError, match="low is 0"):
        heads.stabilize(state, low=0)
    with pytest.raises(ValueError, match=r"high is 0.9"):
        heads.stabilize(state, high=0.9)
    with pytest.raises(ValueError, match="loss is 'mse', expected one of"):
        heads.spherical_stats_loss(0.0, 1.0, 1.0, num_classes=3, loss="mse")
    with pytest.raises(ValueError, match="num_classes is 0"):
        heads.spherical_stats_loss(0.0, 1.0, 1.0, num_classes=0)
    with pytest.raises(ValueError, match=r"shapes \(\), \(1,\), \(\)"):
        heads.spherical_stats_loss(0.0, jnp.ones(1), 1.0, num_classes=3)
