import jax
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from scipy.special import softmax

from logitlab import losses, transforms

rooms = functions(transforms)
ensemble_logits, standardize_logits = rooms.ensemble_logits, rooms.standardize_logits


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape) * 2


def test_standardising_forgets_scale_and_offset(x64):
    z = draw(0, 3, 5)
    got = standardize_logits(z)
    np.testing.assert_allclose(standardize_logits(7 * z - 3), got, rtol=1e-6)
    want = (z - z.mean(-1, keepdims=True)) / (1e-7 + z.std(-1, keepdims=True, ddof=1))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    wide = standardize_logits(z, ddof=0)
    np.testing.assert_allclose(wide, got * np.sqrt(5 / 4), rtol=1e-6)
    assert np.abs(got).max() <= 4 / np.sqrt(5)
    s, t = draw(1, 4, 5), draw(2, 4, 5)
    loss = lambda s: losses.kd_loss(s, t, standardize=True).sum()  # noqa: E731
    grad = interpreted(jax.grad(loss))(s)
    np.testing.assert_allclose(grad.sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose((s * grad).sum(-1), 0, atol=1e-6)


def test_standardising_at_the_edges():
    run = interpreted(jax.value_and_grad(lambda z: (standardize_logits(z) ** 3).sum()))
    for z in ([2, 2, 2], [0, 0, 0], [7]):
        value, grad = run(np.float32(z))
        assert value == 0
        assert (grad == 0).all()
    big = float(np.finfo("f4").max)
    for scale in (1e-30, 1, 1e30, big):
        got = standardize_logits(np.float32([1, 0, -1]) * np.float32(scale), eps=0.0)
        np.testing.assert_allclose(got, [1, 0, -1], rtol=1e-6, atol=2e-7)
        assert np.isfinite(run(np.float32([1, 0.5, -1]) * np.float32(scale))[1]).all()
    far = standardize_logits(np.float32([1001, 1000, 999]))
    np.testing.assert_allclose(far, [1, 0, -1], rtol=1e-5, atol=2e-7)
    where = np.array([True, True, False, True])
    hidden = standardize_logits(np.float32([3, 1, np.nan, -1]), where=where)
    np.testing.assert_allclose(
        hidden[where], standardize_logits(np.float32([3, 1, -1]))
    )
    assert hidden[2] == -np.inf
    assert (standardize_logits(np.full(2, -np.inf, "f4")) == -np.inf).all()


def test_the_papers_example():
    """The wrong ranking looks better than the right one at another scale."""
    t, wrong, right = np.float32([[3, 2.5, 0], [2.5, 3, 0], [6, 5, 0]])
    plain = [losses.kd_loss(s, t, temperature=2.0) for s in (wrong, right)]
    np.testing.assert_allclose(plain, [0.11049, 0.29971], atol=1e-5)
    better = [
        losses.kd_loss(s, t, temperature=2.0, standardize=True) for s in (wrong, right)
    ]
    np.testing.assert_allclose(better, [0.03985, 0], atol=1e-5)


def test_ensembles(x64):
    z = draw(0, 3, 4, 5)
    mean = softmax(ensemble_logits(z, temperature=2.0) / 2, -1)
    np.testing.assert_allclose(mean, softmax(z / 2, -1).mean(0), rtol=1e-12)
    w = np.array([1.0, 0, 3])
    mean = softmax(ensemble_logits(z, weights=w), -1)
    want = np.tensordot(w / 4, softmax(z, -1), 1)
    np.testing.assert_allclose(mean, want, rtol=1e-12)
    by_logit = ensemble_logits(z, mode="logit", weights=w)
    np.testing.assert_allclose(by_logit, np.tensordot(w / 4, z, 1), rtol=1e-12)
    sure = ensemble_logits(np.float32([[40, 0], [40, 0]]))
    np.testing.assert_allclose(sure, [-4.248354e-18, -40], rtol=1e-5)
    hidden = np.array([[0, -np.inf], [0, 0]])
    np.testing.assert_allclose(softmax(ensemble_logits(hidden)), [0.75, 0.25])
    assert ensemble_logits(hidden, mode="logit")[1] == -np.inf
    spare = ensemble_logits(np.array([[0.0, 1], [np.nan, 0]])[:1], weights=np.ones(1))
    np.testing.assert_allclose(softmax(spare), softmax([0.0, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: standardize_logits(z, ddof=2), "ddof is 2"),
        (lambda z: standardize_logits(z, eps=-1.0), "eps is -1.0"),
        (lambda z: ensemble_logits(z[0]), r"logits has shape \(3,\)"),
        (lambda z: ensemble_logits(z, mode="x"), "mode is 'x'"),
        (lambda z: ensemble_logits(z, temperature=0.0), "temperature is 0.0"),
        (lambda z: ensemble_logits(z, weights=np.ones(3, "f4")), "weights has shape"),
        (
            lambda z: transforms.ensemble_logits(z, weights=np.zeros(2, "f4")),
            "not all 0",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3), np.float32))
