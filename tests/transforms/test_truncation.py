import numpy as np
import pytest
from harness.interpreter import interpreted
from scipy.special import softmax

from logitlab import transforms

NONE = np.full((6, 1), -1)


def draw(seed=0):
    return (np.random.default_rng(seed).normal(size=(6, 40)) * 3).astype("f4")


def run(make, value, z):
    """With the hyper-parameter traced."""

    def apply(value, z):
        processor = make(value)
        return processor.apply(z, NONE, processor.init(6))[0]

    return interpreted(apply)(np.asarray(value), z)


def best(scores, weights, budget):
    """Marks of the fewest entries whose weights reach the budget, by sorting."""
    order = np.argsort(-scores, -1, kind="stable")
    before = np.cumsum(np.take_along_axis(weights, order, -1), -1)
    before -= np.take_along_axis(weights, order, -1)
    kept = np.zeros(scores.shape, bool)
    np.put_along_axis(kept, order, before < budget, -1)
    return kept


@pytest.mark.parametrize(
    "value", [0.3, 0.9, np.float32([0.1, 0.5, 0.9, 0.99, 0.2, 0.7])]
)
def test_against_a_sort(value):
    z = draw()
    p = softmax(z.astype(float), -1)
    budget = np.broadcast_to(value, 6)[:, None]
    entropy = -np.sum(p * np.log(p), -1, keepdims=True)
    off = np.abs(-np.log(p) - entropy)
    for make, kept in (
        (transforms.top_p, best(z, p, budget)),
        (transforms.typical_p, best(-off, p, budget)),
        (transforms.min_p, p >= budget * p.max(-1, keepdims=True)),
    ):
        np.testing.assert_array_equal(run(make, value, z), np.where(kept, z, -np.inf))


@pytest.mark.parametrize("k", [1, 7, np.array([1, 2, 3, 40, 50, 6])])
def test_the_k_best(k):
    z = draw()
    rank = np.argsort(np.argsort(-z, -1), -1)
    want = np.where(rank < np.broadcast_to(k, 6)[:, None], z, -np.inf)
    np.testing.assert_array_equal(run(transforms.top_k, k, z), want)


def test_nothing_to_cut():
    """Bits stay; ties stay together; hidden tokens stay hidden; all may be hidden."""
    z = draw()
    z[0, :20] = -np.inf
    z[1] = -np.inf
    z[2, 0] = 1e30
    for make in (transforms.top_p, transforms.typical_p):
        np.testing.assert_array_equal(run(make, 1.0, z), z)
    np.testing.assert_array_equal(run(transforms.top_k, 40, z), z)
    for make in (transforms.top_p, transforms.min_p, transforms.typical_p):
        got = run(make, 0.5, z)
        assert (got[:, 0] == z[:, 0])[[0, 1, 2]].all()
        assert np.isnan(got).sum() == 0
        assert (got[2] > -np.inf).sum() == 1
    tied = np.float32([[1, 0.0, -0.0, -1]] * 6)
    for make, value in ((transforms.top_k, 2), (transforms.top_p, 0.7)):
        np.testing.assert_array_equal(
            run(make, value, tied), np.where(tied >= 0, tied, -np.inf)
        )


def test_sixteen_and_sixty_four_bits(x64):
    z = draw()
    wide = run(transforms.top_p, 0.8, z.astype(float))
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide, run(transforms.top_p, 0.8, z))
    half = z.astype("bfloat16")
    got = run(transforms.top_p, 0.8, half)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, run(transforms.top_p, 0.8, half.astype("f4")))


def test_bad_arguments():
    for make in (transforms.top_p, transforms.min_p, transforms.typical_p):
        for p in (0.0, 1.5):
            with pytest.raises(ValueError, match=rf"p is {p}, expected in \(0, 1\]"):
                make(p)
    with pytest.raises(ValueError, match="k is 0, expected at least 1"):
        transforms.top_k(0)
    wrong = transforms.top_p(np.float32([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"p has shape \(2,\)"):
        wrong.apply(draw(), NONE, wrong.init(6))
