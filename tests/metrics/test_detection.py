import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close

from logitlab import metrics


@pytest.mark.parametrize("case", cases("eps_mmd"))
def test_golden(x64, case):
    inputs = arrays(case)
    by_size = {
        len(inputs[f"{name}_features"]): inputs[f"{name}_features"]
        for name in ("reference", "test")
    }
    options = dict(case["params"])
    got = metrics.kernel_mmd_score(
        inputs["reference_eps"],
        inputs["test_eps"],
        features=lambda v: jnp.asarray(by_size[len(v)]),
        floor=options.pop("epsilon"),
        **options,
    )
    close(got, case["outputs"]["mmd2_per_test_point"])


def test_plain_kernel_and_its_bandwidth(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(70, 3)), rng.normal(size=(5, 3))
    between = lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1)  # noqa: E731
    apart = between(a, a)[np.triu_indices(70, 1)]
    near = [np.exp(-between(x, a) / np.median(apart)) for x in (a, b)]
    want = near[0].mean() - 2 * near[1].mean(-1) + 1
    np.testing.assert_allclose(metrics.kernel_mmd_score(a, b), want, rtol=1e-9)


def test_kernel_at_the_edges():
    one = np.zeros((1, 2), "f4")
    far = np.float32([[0, 0], [1e19, 0], [1e30, 0]])
    np.testing.assert_array_equal(metrics.kernel_mmd_score(one, far), [0, 2, 2])
    same = np.zeros((3, 2), "f4")
    np.testing.assert_array_equal(metrics.kernel_mmd_score(same, same), np.zeros(3))
    offset = np.float32([[1e4, 0], [1e4 + 1, 0]])  # no inner products
    moved = metrics.kernel_mmd_score(offset, offset, sigma=1.0)
    still = metrics.kernel_mmd_score(offset - offset[0], offset - offset[0], sigma=1.0)
    np.testing.assert_array_equal(moved, still)


def test_scores_of_a_normal_distribution():
    """Of variance v at time 0 the score is known at every time, and so is its mean."""
    v, x = 0.25, jnp.full((4000, 2), 0.5)

    def mean_at(t):
        return jnp.exp(-t * t * 19.9 / 4 - t * 0.05)

    def score(x, t):
        return -x / (1 + mean_at(t) ** 2 * (v - 1))

    keys = jax.random.split(jax.random.key(0), 2)
    a, b = (metrics.expected_perturbation_score(score, x, key) for key in keys)
    times = np.arange(1, 21) / 1000
    m = np.asarray(mean_at(times))
    want = np.mean(-m * 0.5 / (1 + m**2 * (v - 1)))
    error = np.std(a) / np.sqrt(a.size)
    assert abs(a.mean() - want) < 4 * error
    assert np.abs(a - b).max() > error  # another key, other noise
    noise = np.sqrt(1 - m**2) / (1 + m**2 * (v - 1))
    np.testing.assert_allclose(np.std(a), np.sqrt((noise**2).sum()) / 20, rtol=0.05)
    few = metrics.expected_perturbation_score(
        score, x, keys[0], num_steps=1, t_max=1e-6
    )
    np.testing.assert_allclose(few, -x / v, rtol=0.01, atol=0.01)


def test_errors():
    x, key = np.zeros((3, 2), "f4"), jax.random.key(0)
    with pytest.raises(ValueError, match="num_steps is 0"):
        metrics.expected_perturbation_score(lambda x, t: x, x, key, num_steps=0)
    with pytest.raises(ValueError, match="t_max is 2, expected in"):
        metrics.expected_perturbation_score(lambda x, t: x, x, key, t_max=2)
    with pytest.raises(ValueError, match=r"score_fn returns shape \(3,\)"):
        metrics.expected_perturbation_score(lambda x, t: x[:, 0], x, key)
    with pytest.raises(ValueError, match=r"test \(3, 1\), expected"):
        metrics.kernel_mmd_score(x, x[:, :1])
    with pytest.raises(ValueError, match="come together"):
        metrics.kernel_mmd_score(x, x, sigma0=1.0)
    with pytest.raises(ValueError, match="sigma is 0, expected positive"):
        metrics.kernel_mmd_score(x, x, sigma=0)
