import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import toy
from harness.interpreter import interpreted

from logitlab import metrics, optim
from logitlab.train import TrainState, init_state, make_step
from logitlab.train.feeds import sample_feed


def test_one_step_is_the_textbook_one():
    optimizer = optax.sgd(0.1)
    init = interpreted(lambda key: init_state(toy.init, optimizer, key))
    state, batch = init(jax.random.key(0)), interpreted(toy.data)(jax.random.key(1))
    batch = batch["train"]
    new, value = jax.jit(make_step(toy.loss, optimizer))(state, batch)
    residual = batch["x"] @ state.params["w"] - batch["y"]
    np.testing.assert_allclose(value, (residual**2).mean(), rtol=1e-6)
    expected = state.params["w"] - 0.1 * 2 * (residual @ batch["x"]) / 10
    np.testing.assert_allclose(new.params["w"], expected, rtol=1e-5)
    assert new.step == 1


def test_rows_behind_the_mask_do_not_exist():
    optimizer = optax.sgd(0.1)
    state = init_state(toy.init, optimizer, jax.random.key(0))
    batch = toy.data(jax.random.key(1))["train"]
    step = jax.jit(make_step(toy.loss, optimizer))
    kept = jax.tree.map(lambda a: a[:6], batch)
    poisoned = jax.tree.map(lambda a: a.at[6:].set(jnp.nan), batch)
    mask = jnp.arange(10) < 6
    masked, value = step(state, poisoned | {"mask": mask})
    expected, expected_value = step(state, kept)
    np.testing.assert_allclose(masked.params["w"], expected.params["w"], rtol=1e-6)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)


def test_each_step_draws_its_own_randomness():
    def noisy(params, batch, key):
        return params["w"][0] * 0 + jax.random.uniform(key, batch["y"].shape)

    optimizer = optax.sgd(0.1)
    step = make_step(noisy, optimizer)
    state = init_state(toy.init, optimizer, jax.random.key(0))
    batch = toy.data(jax.random.key(1))["train"]
    state1, first = step(state, batch)
    _, second = step(state1, batch)
    _, again = step(state, batch)
    assert first != second
    assert first == again


def test_an_optimizer_may_start_at_random_and_show_it_to_the_loss():
    def optimizer(key):
        return optim.xgd(0.1, reference=optim.random_point(key), refresh_every=2)

    def loss(params, batch, key, reference):
        del key
        pull = (params["w"] - reference["w"])[None]
        return ((batch["x"] * pull) ** 2).sum(-1)

    keys = jax.random.split(jax.random.key(0), 2)
    states = [init_state(toy.init, optimizer, key) for key in keys]
    first, second = (state.opt_state.reference["w"] for state in states)
    assert not np.allclose(first, second)
    step = jax.jit(
        make_step(loss, optimizer, from_optimizer=lambda state: state.reference)
    )
    batch, state = toy.data(keys[0])["train"], states[0]
    pull = state.params["w"] - first
    want = state.params["w"] - 0.1 * 2 * (batch["x"] ** 2).mean(0) * pull
    state, _ = step(state, batch)
    np.testing.assert_allclose(state.params["w"], want, rtol=1e-5)
    np.testing.assert_array_equal(state.opt_state.reference["w"], first)
    state, _ = step(state, batch)
    np.testing.assert_array_equal(state.opt_state.reference["w"], state.params["w"])


def test_seeds_side_by_side_draw_an_order_only_when_due():
    feed = sample_feed(2)
    data = {"x": jnp.arange(10)}

    def orders(key):
        state = TrainState(jnp.int32(4), (), (), key, jnp.int32(0))
        batch, carry = feed.batch(data, state, 0, feed.start(data, state))
        late = state._replace(step=jnp.int32(5))
        return batch["x"], feed.batch(data, late, 1, carry)[1]

    keys = jax.random.split(jax.random.key(0), 3)
    text = str(jax.make_jaxpr(jax.vmap(lambda k: orders(k)[1]))(keys))
    assert "cond[" in text  # not a select between two computed orders
    got = jax.jit(jax.vmap(orders))(keys)
    each = [interpreted(orders)(key) for key in keys]
    for a, b in zip(got, zip(*each, strict=True), strict=True):
        np.testing.assert_array_equal(a, np.stack(b))
    assert sorted(got[1][0].tolist()) == list(range(10))


def in_floats(dtype, tree):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def stepped(loss, batch=None, optimizer=None, steps=1, dtype=jnp.float32, **settings):
    """State and last value after a few steps."""
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    init = lambda key: in_floats(dtype, toy.init(key))  # noqa: E731
    state = init_state(init, optimizer, jax.random.key(0))
    if batch is None:
        batch = in_floats(dtype, toy.data(jax.random.key(1))["train"])
    step = jax.jit(make_step(loss, optimizer, **settings))
    for _ in range(steps):
        state, value = step(state, batch)
    return state, value


def tokens_of(params, batch, key):
    return jnp.repeat(toy.loss(params, batch, key)[:, None], 7, 1)


def pair(sums, counts):
    return lambda params, batch, key: (
        sums(toy.loss(params, batch, key)),
        counts(batch["y"]),
    )


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda *given: toy.loss(*given).mean(), r"shape \(\)"),
        (lambda *given: 0.0, "float"),
        (lambda *given: {"loss": toy.loss(*given)}, "dict"),
        (tokens_of, r"shape \({rows}, 7\)"),
        (lambda *given: toy.loss(*given)[:, None], r"shape \({rows}, 1\)"),
        (lambda *given: toy.loss(*given)[:3], r"shape \(3,\)"),
        (pair(jnp.sum, jnp.ones_like), r"\(shape \(\), shape \({rows},\)\)"),
        (pair(jnp.sin, jnp.size), r"\(shape \({rows},\), int\)"),
        (pair(jnp.sin, lambda y: {"y": y}), r"\(shape \({rows},\), dict\)"),
        (lambda *given: (toy.loss(*given),) * 3, r"\(shape \({rows},\), shape .*"),
    ],
)
def test_a_loss_of_another_shape_is_refused(loss, found, accumulate):
    rows = 10 // accumulate
    found = found.replace("{rows}", str(rows))
    message = rf"loss returned {found} for a batch of {rows} rows, expected losses of "
    with pytest.raises(ValueError, match=message + rf"shape \({rows},\), one for each"):
        stepped(loss, accumulate=accumulate)


def test_losses_that_are_no_floats_are_refused():
    with pytest.raises(TypeError, match="what loss returned has dtype int32, expected"):
        stepped(lambda params, batch, key: jnp.arange(10))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (jnp.ones((10, 3), bool), ValueError, r"shape \(10, 3\), expected \(10,\)"),
        (jnp.ones(9, bool), ValueError, r"have \[9, 10\] rows, not one size"),
        (jnp.ones((), bool), ValueError, r"have \[10\] rows, not one size"),
        (jnp.ones(10), TypeError, "mask of the batch has dtype float32, expected bool"),
    ],
)
def test_masks_are_of_rows(mask, error, message):
    batch = toy.data(jax.random.key(1))["train"] | {"mask": mask}
    with pytest.raises(error, match=message):
        stepped(toy.loss, batch)


@pytest.mark.sampled
@pytest.mark.parametrize("accumulate", [1, 3])
def test_sums_and_counts(accumulate):
    """Counts of every dtype, none at all, and NaN behind a count of 0."""
    counts = np.array([3, 0, 1, 5, 2, 7, 0, 1, 1, 4])
    batch = toy.data(jax.random.key(1))["train"]
    poison = jnp.where(counts == 0, jnp.nan, 0)

    def loss(made):
        def pairs(params, batch, key):
            sums = toy.loss(params, batch, key) * batch["n"] + batch["poison"]
            return metrics.Mean(sums, made(batch["n"]))

        return pairs

    weight = jnp.float32(counts / counts.sum())

    def expected(params):
        return (toy.loss(params, batch, None) * weight).sum()

    start = init_state(toy.init, optax.sgd(0.1), jax.random.key(0)).params
    want, grads = jax.value_and_grad(expected)(start)
    given = batch | {"n": jnp.asarray(counts), "poison": poison}
    for made in (jnp.int8, jnp.uint16, jnp.float32, jnp.bfloat16, lambda n: n / 8):
        scale = 8 if made(jnp.int32(1)) < 1 else 1
        state, value = stepped(loss(made), given, accumulate=accumulate)
        np.testing.assert_allclose(value, scale * want, rtol=1e-6)
        moved = (start["w"] - state.params["w"]) / 0.1 / scale
        np.testing.assert_allclose(moved, grads["w"], rtol=1e-5)
    nothing = given | {"n": jnp.zeros(10, jnp.int32)}
    state, value = stepped(loss(jnp.int32), nothing, accumulate=accumulate)
    assert value == 0
    np.testing.assert_array_equal(state.params["w"], start["w"])
    unknown = given | {"n": jnp.where(jnp.asarray(counts) == 5, jnp.nan, 1.0)}
    assert np.isnan(stepped(loss(jnp.float32), unknown, accumulate=accumulate)[1])


def test_counts_are_constants():
    def loss(params, batch, key):
        losses = toy.loss(params, batch, key)
        return losses, 1 + losses  # as weights that the model gives

    batch = toy.data(jax.random.key(1))["train"]
    start = init_state(toy.init, optax.sgd(0.1), jax.random.key(0)).params
    total = (1 + toy.loss(start, batch, None)).sum()
    grads = jax.grad(lambda p: toy.loss(p, batch, None).sum() / total)(start)
    for accumulate in (1, 3):
        state, _ = stepped(loss, accumulate=accumulate)
        moved = (start["w"] - state.params["w"]) / 0.1
        np.testing.assert_allclose(moved, grads["w"], rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_means_that_fit_do_not_overflow(accumulate):
    big = jnp.float32([3e38, 2e38, 3e38, 3e38])
    batch = {"x": jnp.ones((4, 3)), "y": big}

    def losses(params, batch, key):
        return batch["y"] + 0 * params["w"].sum()

    def pairs(params, batch, key):
        return losses(params, batch, key), jnp.int32(batch["x"].sum(-1))

    _, value = stepped(losses, batch, accumulate=accumulate)
    np.testing.assert_allclose(value, 2.75e38, rtol=1e-6)
    _, value = stepped(pairs, batch, accumulate=accumulate)
    np.testing.assert_allclose(value, 2.75e38 / 3, rtol=1e-6)


def test_gradients_of_16_bits_are_added_up_in_more():
    """In bfloat16 a sum of 1s stalls at 256."""

    def loss(params, batch, key):
        return batch["x"].astype(jnp.bfloat16) @ params["w"]

    init = {"w": jnp.zeros(1, jnp.bfloat16)}
    sgd = optax.sgd(1.0)
    state = init_state(lambda key: init, sgd, jax.random.key(0))
    x = jnp.where(jnp.arange(2048) % 2, 1.0, 0.5)[:, None]
    state, _ = jax.jit(make_step(loss, sgd, accumulate=1024))(state, {"x": x})
    assert state.params["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(state.params["w"], -0.75)


def plain_steps(optimizer, steps):
    """What a user of optax writes."""
    start = init_state(toy.init, optax.sgd(0.1), jax.random.key(0)).params
    batch = toy.data(jax.random.key(1))["train"]
    params, batch = in_floats(jnp.float64, (start, batch))

    def mean(params):
        return toy.loss(params, batch, None).mean()

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(mean)(params)
        extra = dict(value=value, grad=grad, value_fn=mean)
        updates, state = optimizer.update(grad, state, params, **extra)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def plateau():
    return optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.2)


WANTING = {
    "reduce_on_plateau": lambda: optax.chain(optax.adam(0.1), plateau()),
    "polyak_sgd": optax.polyak_sgd,
    "momo": lambda: optax.contrib.momo(0.1),
    "lbfgs": lambda: optax.lbfgs(memory_size=3),
    "MultiSteps": lambda: optax.MultiSteps(
        optax.chain(optax.sgd(0.01), plateau()), 2
    ).gradient_transformation(),
    "mechanize": lambda: optax.contrib.mechanize(
        optax.chain(optax.sgd(0.1), plateau())
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", WANTING)
def test_transformations_that_want_the_value(name, accumulate, x64):
    optimizer = WANTING[name]()
    want = optax.with_extra_args_support(optimizer)
    if name == "MultiSteps":  # optax says that it takes no extra arguments; it does
        want = optax.GradientTransformationExtraArgs(*optimizer)
    steps = 3 if name == "lbfgs" else 6  # after which it is at the minimum
    params, plain = plain_steps(want, steps)
    settings = dict(optimizer=optimizer, accumulate=accumulate, dtype=jnp.float64)
    state, _ = stepped(toy.loss, steps=steps, **settings)
    near = dict(rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state.params["w"], params["w"], **near)
    if name == "reduce_on_plateau":
        assert state.opt_state[1].scale < 1
        np.testing.assert_array_equal(state.opt_state[1].scale, plain[1].scale)


def test_a_transformation_gets_the_arguments_that_it_names():
    def update(updates, state, params=None, *, value):
        return jax.tree.map(lambda g: g * 0 + value, updates), state

    optimizer = optax.GradientTransformationExtraArgs(lambda p: (), update)
    state, value = stepped(toy.loss, optimizer=optimizer)
    start = init_state(toy.init, optimizer, jax.random.key(0))
    np.testing.assert_allclose(state.params["w"], start.params["w"] + value, rtol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda rate, decay: optax.sgd(rate, momentum=decay),
        lambda rate, decay: optax.adamw(rate, b1=decay, weight_decay=decay),
    ],
)
def test_numpy_scalars_decide_no_dtype(optimizer, x64):
    rate, decay = np.float64(0.1), np.float64(0.9)

    def loss(params, batch, key):
        return np.float64(2) * toy.loss(params, batch, key)

    scalars = optimizer(rate, decay)
    start = init_state(toy.init, scalars, jax.random.key(0))
    state, _ = stepped(loss, optimizer=scalars, steps=2, accumulate=2)
    want = [leaf.dtype for leaf in jax.tree.leaves(start)]
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == want
    plain = optimizer(float(rate), float(decay))
    expected, _ = stepped(loss, optimizer=plain, steps=2)
    np.testing.assert_allclose(state.params["w"], expected.params["w"], rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_extra_arguments_are_of_the_whole_batch(accumulate):
    seen = []

    def update(updates, state, params=None, *, rows, square, **extra):
        seen.append((rows, extra.keys()))
        return jax.tree.map(jnp.zeros_like, updates), state + square(params)

    def extra_args(params, batch, key):
        assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return {
            "rows": batch["x"].shape[0],
            "square": lambda p: ((p["w"] - params["w"] + 1) ** 2).sum(),
        }

    optimizer = optax.GradientTransformationExtraArgs(lambda p: jnp.zeros(()), update)
    state, _ = stepped(
        toy.loss, optimizer=optimizer, accumulate=accumulate, extra_args=extra_args
    )
    assert state.opt_state == 3
    assert seen[0] == (10, {"value", "grad", "value_fn"})


def test_extra_arguments_need_all_devices_rows():
    with pytest.raises(ValueError, match="extra_args needs the whole batch"):
        make_step(toy.loss, optax.sgd(0.1), extra_args=dict, axis_name="data")
