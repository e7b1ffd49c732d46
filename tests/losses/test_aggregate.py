import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import close
from harness.interpreter import interpreted

from logitlab import estimators, targets
from logitlab.losses import aggregate

IDS = np.array([0, 0, 1, 1, 1, 3])


# One program each: called eagerly, every operation compiles on its own.
bag_loss = interpreted(aggregate.bag_loss, static_argnames=("num_bags", "kind"))
instance_loss = interpreted(
    aggregate.instance_loss, static_argnames=("num_bags", "kind")
)
interpolated = interpreted(
    aggregate.interpolated_aggregate_loss, static_argnames=("num_bags", "kind")
)
ridge = interpreted(estimators.aggregate_ridge)


def test_hand_check():
    f, y, ids = np.float32([0, 1, 2, 3]), np.float32([1, 2]), np.array([0, 0, 1, 1])
    args = f, y, ids, 2
    assert bag_loss(*args, kind="identity").mean() == 0.25
    assert instance_loss(*args, kind="identity").mean() == 0.5
    got = interpolated(*args, kind="identity", rho=0.2)
    np.testing.assert_allclose(got.mean(), 0.3, rtol=1e-6)


def test_against_float64():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(6, 3)) * 3, rng.dirichlet(np.ones(3), 4)
    p = np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True))
    bags = [a == IDS for a in range(4)]
    args = z.astype("f4"), y.astype("f4"), IDS
    bag = [-(y[a] * np.log(p[m].mean(0))).sum() if m.any() else 0
           for a, m in enumerate(bags)]  # fmt: skip
    one = [-(y[a] * np.log(p[m])).sum(-1).mean() if m.any() else 0
           for a, m in enumerate(bags)]  # fmt: skip
    close(bag_loss(*args), bag, 1e-5)
    close(instance_loss(*args, 4), one, 1e-5)
    s, q = z[:, 0], y[:, 0]
    sig = 1 / (1 + np.exp(-s))
    bag = [-q[a] * np.log(sig[m].mean()) - (1 - q[a]) * np.log((1 - sig[m]).mean())
           if m.any() else 0 for a, m in enumerate(bags)]  # fmt: skip
    args = s.astype("f4"), q.astype("f4"), IDS
    close(bag_loss(*args, kind="sigmoid"), bag, 1e-5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("margin", [-80, -20, 20, 80])
def test_exact(x64, margin):
    """Two confident examples of one bag."""
    y, ids = jnp.float32([[1, 0]]), jnp.array([0, 0])
    f = lambda z: bag_loss(z, y, ids)[0]  # noqa: E731
    z = np.array([[margin, 0], [margin + 1, 0]])
    value, grad = jax.jit(jax.value_and_grad(f))(z.astype("f4"))
    miss, p = 1 / (1 + np.exp(z[:, 0])), 1 / (1 + np.exp(-z[:, 0]))
    want = -np.log1p(-miss.mean()) if margin > 0 else -np.log(p.mean())
    close(value, want, 1e-5)
    close(grad[:, 0], -p * miss / p.sum(), 1e-5)


def test_edges():
    f = jax.jit(jax.value_and_grad(lambda z, y, i: bag_loss(z, y, i).sum()))
    y, ids = np.float32([[1, 0, 0], [0.5, 0.5, 0]]), np.array([0, 0, 1])
    for z in ([1e30, -1e30, 0], [1e30] * 3, [-1e30, 0, 1e30], [-np.inf] * 3):
        value, grad = f(np.float32([z] * 3), y, ids)
        assert not np.isnan(value)
        assert np.isfinite(grad).all()
    value, grad = f(np.float32([[-np.inf, 0, 0]] * 3), y, ids)
    assert value == np.inf
    assert np.isfinite(grad).all()
    # A mask, an id without a bag and an empty bag: selected out.
    z = np.random.default_rng(1).normal(size=(3, 3)).astype("f4")
    full = bag_loss(z[:2], y, ids[:2])
    assert full[1] == 0
    got = bag_loss(z * [[1], [1], [np.nan]], y, ids, mask=ids == 0)
    np.testing.assert_array_equal(got, full)
    got = bag_loss(z, y, np.array([0, 0, -1]))
    np.testing.assert_array_equal(got, full)
    # An infinite part without weight.
    args = (
        np.float32([[0, -np.inf], [0, 1]]),
        np.float32([[0.5, 0.5]]),
        np.array([0, 0]),
    )
    got = interpolated(*args, rho=0.0)
    np.testing.assert_array_equal(got, bag_loss(*args))
    assert np.isfinite(got).all()
    assert instance_loss(*args)[0] == np.inf


def test_ridge(x64):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=4)
    ids = np.arange(12) // 3
    theta = ridge(x, ids, y, 0.3)
    f = lambda w: interpolated(  # noqa: E731
        x @ w, y, ids, kind="identity", rho=0.3
    ).sum()
    assert np.abs(jax.grad(f)(theta)).max() < 1e-12


def test_errors():
    z, y, ids = np.zeros((2, 3), "f4"), np.zeros((1, 3), "f4"), np.array([0, 0])
    with pytest.raises(ValueError, match="rho is 2"):
        aggregate.interpolated_aggregate_loss(z, y, ids, rho=2)
    with pytest.raises(ValueError, match="kind is 'mse'"):
        aggregate.bag_loss(z, y, ids, kind="mse")
    with pytest.raises(ValueError, match="num_bags is 2"):
        aggregate.bag_loss(z, y, ids, 2)
    with pytest.raises(ValueError, match="segment_ids has shape"):
        aggregate.bag_loss(z, y, ids[:1])


def test_a_batch_without_bags_or_examples():
    for loss in (bag_loss, instance_loss, interpolated):
        for kind, tail in (("softmax", (4,)), ("sigmoid", ()), ("identity", ())):
            for examples, bags in ((0, 0), (3, 0), (0, 2)):
                z, y = np.zeros((examples, *tail), "f4"), np.ones((bags, *tail), "f4")
                got = loss(z, y, np.zeros(examples, int), kind=kind)
                np.testing.assert_array_equal(got, np.zeros(bags))
    assert targets.aggregate_labels(np.zeros(3), np.zeros(3, int), 0).shape == (0,)
    ids = np.array([0, 255], np.uint8)  # of 256 bags, which uint8 cannot count
    y = np.arange(256, dtype="f4")
    got = aggregate.bag_loss(np.float32([0, 255]), y, ids, kind="identity")
    np.testing.assert_array_equal(got, 0)
