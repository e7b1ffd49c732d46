import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, close
from harness.interpreter import functions, interpreted

from logitlab import estimators, losses, metrics
from logitlab.losses import quantile

quantile = functions(quantile)

CASES = cases("quantile_aggregation")


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    pred, target, levels = (np.asarray(v) for v in case["inputs"].values())
    out, width = case["outputs"], case["params"]["huber_alpha"]

    @interpreted
    def everything(pred):
        pinball = lambda q: quantile.pinball_loss(q, target, levels)  # noqa: E731
        huber = lambda q: quantile.huber_pinball_loss(  # noqa: E731
            q, target, levels, width=width
        )
        penalty = quantile.crossing_penalty(pred, margin=case["params"]["margin"])
        return {
            "pinball": pinball(pred),
            "grad_pinball": jax.grad(lambda q: pinball(q).sum())(pred),
            "huber_pinball_mean": huber(pred).mean(),
            "grad_huber_sum": jax.grad(lambda q: huber(q).sum())(pred),
            "margin_penalty": penalty.mean(),
            "min_max_sweep": estimators.monotone_sweep(pred),
            "cummax": estimators.monotone_cummax(pred),
            "average_cummin_cummax": estimators.monotone_average(pred),
            "isotonic": estimators.monotone_isotonic(pred),
            "pava_mask_output": estimators.monotone_isotonic(pred),
            "calibration_error": jnp.abs(
                metrics.coverage(pred, target) - levels
            ).mean(),
        }

    for name, value in everything(pred).items():
        close(value, out[name])
    if "interval_score_per_pair" in out:
        scores = np.asarray(interpreted(quantile.interval_score)(pred, target, levels))
        close(scores.mean(0), out["interval_score_per_pair"])
        total = (scores * 2 * levels[None, : scores.shape[-1]]).sum(-1)
        total += np.abs(target - pred[:, levels.size // 2])
        close(
            interpreted(quantile.weighted_interval_score)(pred, target, levels), total
        )


def test_sorting_never_hurts(x64):
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(500, 7)), rng.normal(size=500)
    levels = np.linspace(0.1, 0.9, 7)
    loss = interpreted(lambda q: quantile.pinball_loss(q, target, levels).sum(-1))
    before = loss(pred)
    for order in (estimators.monotone_sort, estimators.monotone_isotonic):
        after = interpreted(order)(pred)
        assert (np.diff(after, axis=-1) >= 0).all()
        assert (loss(after) <= before + 1e-12).all()
    assert (loss(estimators.monotone_sweep(pred)) > before + 1e-9).any()
    np.testing.assert_allclose(
        estimators.monotone_isotonic(pred).sum(-1), pred.sum(-1), atol=1e-12
    )


def test_isotonic_derivative_averages():
    jacobian = interpreted(jax.jacrev(estimators.monotone_isotonic))(
        jnp.float32([3, 1, 2, 7])
    )
    want = np.zeros((4, 4))
    want[:3, :3], want[3, 3] = 1 / 3, 1
    np.testing.assert_allclose(jacobian, want, atol=1e-6)
    big = jax.jit(estimators.monotone_isotonic)(np.float32([1e30, -1e30, 1e30]))
    np.testing.assert_array_equal(big, np.float32([0, 0, 1e30]))


def test_aggregation(x64):
    rng = np.random.default_rng(1)
    base = rng.normal(size=(5, 3, 4))
    for kind, spec in (
        ("coarse", "k,nkq->nq"), ("medium", "kq,nkq->nq"), ("fine", "kjq,nkj->nq")
    ):  # fmt: skip
        w = rng.normal(size=(3, 4, 4)[: {"coarse": 1, "medium": 2, "fine": 3}[kind]])
        p = np.exp(w)
        p /= p.sum((0, 1) if kind == "fine" else 0, keepdims=True)
        got = estimators.quantile_aggregation(base, w, kind=kind)
        close(got, np.einsum(spec, p, base))
        local = np.broadcast_to(w, (5, *w.shape))
        close(estimators.quantile_aggregation(base, local, kind=kind), got)


def test_conformal():
    scores = np.arange(1, 20, dtype="f4")[::-1]
    assert estimators.cqr_calibrate(scores, 0.05) == 19  # 20 * 0.95 is 19
    assert estimators.cqr_calibrate(scores, 0.5) == 10
    assert estimators.cqr_calibrate(scores, 0.04) == np.inf
    got = estimators.cqr_scores(*np.float32([[0, 0], [1, 1], [-2, 0.5]]))
    np.testing.assert_array_equal(got, [2, -0.5])


def test_edges():
    levels = np.float32([0.1, 0.9])
    f = lambda q, y: quantile.pinball_loss(q, y, levels).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(f)(jnp.zeros(2), 0.0), [-0.1, -0.9])  # a tie
    grad = jax.grad(f)(np.float32([1e30, -1e30]), np.float32(1e30))
    assert np.isfinite(grad).all()
    assert quantile.crossing_penalty(np.float32([1])) == 0
    with pytest.raises(ValueError, match="levels is"):
        losses.pinball_loss(np.zeros(2, "f4"), 0.0, np.float32([0, 1]))
    with pytest.raises(ValueError, match="symmetric"):
        losses.interval_score(np.zeros(2, "f4"), 0.0, np.float32([0.2, 0.9]))
    with pytest.raises(ValueError, match="width is 0"):
        quantile.huber_pinball_loss(np.zeros(2, "f4"), 0.0, levels, width=0)
    with pytest.raises(ValueError, match="alpha is 1"):
        estimators.cqr_calibrate(np.zeros(2, "f4"), 1)
