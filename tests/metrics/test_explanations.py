import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted

from logitlab import metrics
from logitlab.metrics.explanations import METHODS

KEY = jax.random.key(0)
SLOPES = ("vanilla_gradient", "smoothgrad", "c_lime")


def explain(f, x, **settings):
    run = functools.partial(metrics.explain, f, key=KEY, **settings)
    return interpreted(run)(x)


def product(z):
    return z[:, 0] * z[:, 1] + 2 * z[:, 2]


def curved(z):
    return jnp.tanh(z[:, 0] * z[:, 1]) + jnp.sin(z).sum(-1) + z[:, 3] ** 2 * z[:, 2]


@pytest.mark.parametrize("case", cases("lfa_kernels"))
def test_golden(x64, case):
    x, masks = arrays(case, "x", "masks")
    got = metrics.shapley_kernel_weights(masks)
    close(got, case["outputs"]["shapley_weights"], 1e-12)
    inner = np.array(case["outputs"]["shapley_weights"]) < 1e6
    close(got[inner], np.array(case["outputs"]["shapley_weights"])[inner], 1e-12)
    got = metrics.exponential_kernel_weights(
        masks, x[0], width=case["params"]["kernel_width"]
    )
    want = np.array(case["outputs"]["exponential_weights"])
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_linear_models_are_recovered(method):
    rng = np.random.default_rng(0)
    w, x, base = (rng.normal(size=(2, 3)).astype("f4") for _ in range(3))
    run = dict(method=method, baseline=base, samples=100)
    got = explain(lambda z: (z * w[None]).sum((1, 2)) + 80, x, **run)
    want = w if method in SLOPES else w * (x - base)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    loss = functools.partial(metrics.lfa_error, key=KEY, **run)
    model = lambda z: (z * w[None]).sum((1, 2)) + 80  # noqa: E731
    fitted = interpreted(lambda w: loss(model, w, x))(want)
    other = interpreted(lambda w: loss(model, w, x))(want + 0.5)
    assert fitted < 1e-3 * other


def test_methods_by_hand():
    """f(z) = z1 z2 + 2 z3 at ones."""
    x = np.ones(3, "f4")
    want = dict(
        vanilla_gradient=[1, 1, 2],
        grad_times_input=[1, 1, 2],
        integrated_gradients=[0.5, 0.5, 2],
        occlusion=[1, 1, 2],
        kernel_shap=[0.5, 0.5, 2],
    )
    for method, weights in want.items():
        got = explain(product, x, method=method, samples=100)
        np.testing.assert_allclose(got, weights, rtol=1e-5, err_msg=method)
    # least squares over all eight sets, the weights of LIME by the number of features
    masks = np.array(list(itertools.product((0, 1), repeat=3)), float)
    root = np.exp(-(3 - masks.sum(1)) / 2)
    design = np.concatenate([masks, np.ones((8, 1))], 1)
    values = masks[:, 0] * masks[:, 1] + 2 * masks[:, 2]
    lime = np.linalg.lstsq(root[:, None] * design, root * values, rcond=None)[0][:3]
    got = explain(product, x, method="lime", samples=8)
    np.testing.assert_allclose(got, lime, rtol=1e-5)


def test_shapley_values_of_all_orders():
    x = np.float32(np.random.default_rng(1).normal(size=4))
    want = np.zeros(4)
    with jax.enable_x64(True):
        for order in itertools.permutations(range(4)):
            z = np.zeros(4)
            for i in order:
                before, z = z, np.where(np.arange(4) == i, x, z)
                want[i] += curved(jnp.stack([z, before])) @ np.array([1, -1])
    want /= math.factorial(4)
    got = explain(curved, x, method="kernel_shap", samples=16)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_sums_are_those_of_the_model():
    """Where 1e6 for infinity leaves an error of half in float32."""
    x = np.float32(np.random.default_rng(1).normal(size=12))
    ends = curved(np.stack([x, 0 * x]))
    for method, samples in (("kernel_shap", 200), ("integrated_gradients", 500)):
        got = explain(curved, x, method=method, samples=samples)
        np.testing.assert_allclose(got.sum(), ends[0] - ends[1], rtol=1e-4)


def test_sampled_sets_of_features_have_the_kernel_of_shapley():
    from logitlab.metrics.explanations import _shapley_draws

    masks = np.asarray(_shapley_draws(KEY, 5, 4000))
    sizes = masks.sum(1)
    weights = np.array([1 / (k * (5 - k)) for k in range(1, 5)])
    want = weights / weights.sum()
    got = np.bincount(sizes, minlength=6) / len(masks)
    np.testing.assert_allclose(got, [0, *want, 0], atol=0.03)
    np.testing.assert_array_equal(masks[:2000], ~masks[2000:])
    np.testing.assert_allclose(masks.mean(0), 0.5, atol=1e-6)


def test_chunks_change_nothing():
    x = np.float32(np.random.default_rng(1).normal(size=4))
    for method in METHODS:
        run = dict(method=method, samples=10)
        whole = explain(curved, x, **run)
        small = explain(curved, x, chunk=3, **run)
        np.testing.assert_allclose(small, whole, rtol=1e-4, atol=1e-5, err_msg=method)


def test_c_lime_approaches_smoothgrad():
    x = np.float32(np.random.default_rng(1).normal(size=4))
    smooth = explain(curved, x, method="smoothgrad", samples=4000)
    gaps = [
        np.abs(explain(curved, x, method="c_lime", samples=n) - smooth).max()
        for n in (100, 4000)
    ]
    assert gaps[1] < 0.02
    assert gaps[1] < gaps[0]


@pytest.mark.parametrize("method", METHODS)
def test_each_is_the_best_in_its_neighborhood(method):
    """No step in any direction lowers the loss: the slope there is 0."""
    x = np.float32(np.random.default_rng(1).normal(size=4))
    run = dict(method=method, samples=60)
    found = explain(curved, x, **run)
    loss = interpreted(
        lambda w: metrics.lfa_error(curved, w, x, key=KEY, **run), static_argnames=()
    )
    start = loss(found)
    for direction in np.eye(4, dtype="f4"):
        if method == "kernel_shap":  # the sum is held
            direction = direction - 0.25
        for step in (0.1, -0.1):
            assert loss(found + step * direction) > start


def test_a_model_that_is_sure_is_explained():
    def sure(z):
        return 80 + z @ np.float32([1, 2, 3])

    x = np.ones(3, "f4")
    for method in METHODS:
        got = explain(sure, x, method=method, samples=200)
        np.testing.assert_allclose(got, [1, 2, 3], rtol=2e-3, err_msg=method)


def test_dtypes_and_batches():
    x = jnp.ones(3, jnp.bfloat16)
    assert metrics.explain(product, x, method="occlusion").dtype == jnp.float32
    with jax.enable_x64(True):
        got = explain(product, np.ones(3), method="lime", samples=50)
        assert got.dtype == np.float64
    rows = np.float32(np.random.default_rng(0).normal(size=(3, 4)))
    run = functools.partial(metrics.explain, curved, method="occlusion", chunk=2)
    many = interpreted(jax.vmap(run))(rows)
    one = interpreted(run)(rows[1])
    np.testing.assert_allclose(many[1], one, rtol=1e-5)
    single = explain(lambda z: 3 * z[:, 0], np.ones(1, "f4"), method="kernel_shap")
    np.testing.assert_allclose(single, [3])


def test_bad_input():
    x, explain = np.ones(3, "f4"), metrics.explain
    with pytest.raises(ValueError, match="method is 'shap', expected one of"):
        explain(product, x, method="shap")
    with pytest.raises(
        TypeError, match="key is None, expected a key of jax.random for"
    ):
        explain(product, x, method="lime")
    with pytest.raises(ValueError, match=r"f returns shape \(2, 3\) for 2 points"):
        explain(lambda z: z, x, method="occlusion")
    with pytest.raises(TypeError, match="x has dtype int"):
        explain(product, np.ones(3, int), method="occlusion")
    occlude = functools.partial(explain, product, x, method="occlusion")
    for bad, message in (
        (dict(samples=0), "samples is 0, expected at least 1"),
        (dict(chunk=0), "chunk is 0, expected at least 1"),
        (dict(baseline=np.ones(2)), r"baseline has shape \(2,\), expected \(\) or"),
        (dict(sigma=-1), "sigma is -1, expected at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            occlude(**bad)
    with pytest.raises(ValueError, match="width is 0, expected positive"):
        explain(product, x, method="lime", key=KEY, width=0)
    with pytest.raises(ValueError, match=r"attributions has shape \(2,\), expected"):
        metrics.lfa_error(product, np.ones(2), x, method="occlusion")
    with pytest.raises(ValueError, match=r"x has shape \(2,\), expected \(3,\)"):
        metrics.exponential_kernel_weights(x[None], np.ones(2))
