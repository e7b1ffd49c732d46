import jax
import numpy as np
import pytest
from harness import goldens
from harness.derivatives import check_derivatives, value_and_grad
from harness.interpreter import functions
from harness.quickly import quick_jit
from scipy.special import log_softmax, logsumexp, softmax

from logitlab import metrics
from logitlab.metrics import estimation

calls = functions(estimation)
compiled = quick_jit  # singular values are not interpreted


def draw(seed, *shape, scale=2.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def normalized(z, phi, eta=5.0, subtract_min=True):
    if phi > eta:
        return softmax(z, -1)
    v = 1 + z + z**2 / 2
    v = v - v.min(-1, keepdims=True) if subtract_min else v
    return v / v.sum(-1, keepdims=True)


def score(z, p=4.0, **options):
    q = normalized(z, -log_softmax(z, -1).mean(), **options)
    return (q**p).mean() ** (1 / p)


@pytest.mark.parametrize("case", goldens.cases("mano"))
def test_mano_golden(x64, case):
    (z,), params, want = goldens.arrays(case, "logits"), case["params"], case["outputs"]
    size = params["batch_size"]
    criterion = calls.mano_criterion(z)
    goldens.close(criterion.value, want["criterion"])
    assert (criterion.value > params["eta"]) == (want["branch"] == "softmax")
    goldens.close(calls.softrun(z, eta=params["eta"]), want["normalized"])
    branches = {"score": params["eta"], "score_taylor": np.inf, "score_softmax": 0.0}
    for name, eta in branches.items():
        got = calls.mano_score(z, p=params["p"], eta=eta, batch_size=size)
        goldens.close(got, want[name], 1e-6)  # float32 on their side
    q = normalized(z, float(criterion.value)) ** params["p"]
    parts = [q[i : i + size].mean() for i in range(0, len(z), size)]
    got = calls.mano_score(z, p=params["p"], batch_size=size)
    goldens.close(got, np.mean(np.power(parts, 1 / params["p"])), 1e-12)


@pytest.mark.parametrize("eta", [0.0, np.inf])
@pytest.mark.parametrize("subtract_min", [True, False])
def test_mano_matches_its_formula(x64, eta, subtract_min):
    z, options = draw(0, 7, 4), dict(eta=eta, subtract_min=subtract_min)
    want = score(z, 3.0, **options)
    got = calls.mano_score(z, p=3.0, **options)
    np.testing.assert_allclose(got, want, 1e-12)
    np.testing.assert_allclose(calls.mano_score(z.T, p=3.0, axis=0, **options), want)
    mask, where = np.arange(7) != 2, np.array([[True, True, False, True]])
    few = np.where(mask[:, None], z, np.nan)
    got = calls.mano_score(few, mask=mask, where=where, **options)
    np.testing.assert_allclose(got, score(z[mask][:, where[0]], **options), 1e-12)
    got = calls.mano_score(few, mask=mask, batch_size=4, **options)
    q = normalized(z[mask], -log_softmax(z[mask], -1).mean(), **options)
    parts = [(q[i : i + 4] ** 4).mean() ** 0.25 for i in (0, 4)]
    np.testing.assert_allclose(got, np.mean(parts), 1e-12)
    check_derivatives(lambda z: metrics.mano_score(z, p=3.0, **options), z, order=1)


def test_mano_adds_up_over_batches(x64):
    z = draw(1, 10, 5)
    whole = calls.mano_criterion(z)
    total = calls.mano_criterion(z[:3]) + calls.mano_criterion(z[3:])
    np.testing.assert_allclose(total.value, -log_softmax(z, -1).mean(), 1e-12)
    parts = [calls.mano_powers(a, criterion=whole) for a in (z[:3], z[3:])]
    np.testing.assert_allclose((parts[0] + parts[1]).value ** 0.25, score(z), 1e-12)


def test_mano_edges():
    flat = np.full((2, 3), 0.7, "f4")
    assert (calls.softrun(flat) == 0).all()
    assert calls.mano_score(flat) == 0
    np.testing.assert_allclose(calls.softrun(flat, subtract_min=False), 1 / 3, 1e-6)
    assert (metrics.mano_score(flat), *jax.grad(metrics.mano_score)(flat).ravel()) == (
        (0,) * 7
    )
    np.testing.assert_allclose(calls.mano_criterion(flat).value, np.log(3), 1e-6)
    one = np.float32([[3.0]])
    assert calls.mano_score(one, subtract_min=False) == 1
    assert calls.mano_criterion(one).value == 0
    assert calls.mano_score(flat, mask=np.zeros(2, bool)) == 0
    assert np.isnan(calls.mano_criterion(flat, mask=np.zeros(2, bool)).value)
    hidden = calls.softrun(np.float32([[-np.inf] * 3, [1, 2, -np.inf]]))
    np.testing.assert_array_equal(hidden[0], 0)
    for size in (1e4, 1e30):  # the square of the second is not representable
        z = np.float32([[size, -size, 0], [0, size / 2, size]])
        want = normalized(z.astype("f8"), 0.0)
        np.testing.assert_allclose(calls.softrun(z, eta=np.inf), want, 1e-5)
        value, grad = jax.value_and_grad(metrics.mano_score)(z, eta=np.inf)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    # Confident rows keep their small entries.
    confident = np.float32([[40, 0, 1]])
    np.testing.assert_allclose(
        calls.softrun(confident), softmax(confident.astype("f8"), -1), 1e-5
    )
    half = np.float16([[300, 1, 0]])  # its square is beyond float16
    want = normalized(half.astype("f8"), 0.0)
    np.testing.assert_allclose(calls.softrun(half, eta=1e3), want, 1e-5)


@pytest.mark.parametrize("case", goldens.cases("accuracy_estimation"))
def test_scores_golden(x64, case):
    (z,), want = goldens.arrays(case, "target_logits"), case["outputs"]
    goldens.close(compiled(metrics.nuclear_norm_score)(z), want["nuclear_norm"])
    for t in (1, 2):
        got = calls.mde_score(z, temperature=float(t))
        goldens.close(got, want[f"mde_T{t}"])
        goldens.close(np.log(got), want[f"log_mde_T{t}"])


def test_scores_match_their_formulas(x64):
    z, f = draw(2, 9, 4), draw(3, 9, 6) + 10
    mask, where = np.arange(9) != 4, np.array([[True, False, True, True]])
    hidden = np.where(mask[:, None], z, np.nan)
    p = softmax(z[mask][:, where[0]], -1)
    got = calls.entropy_score(hidden, mask=mask, where=where).value
    np.testing.assert_allclose(got, (p * np.log(p)).sum(-1).mean(), 1e-12)
    score = compiled(metrics.nuclear_norm_score)
    got = score(hidden, mask=mask, where=where)
    want = np.linalg.svd(p, compute_uv=False).sum() / np.sqrt(3 * 8)
    np.testing.assert_allclose(got, want, 1e-12)
    energy = -logsumexp(z[mask][:, where[0]], -1)
    got = calls.mde_score(hidden, mask=mask, where=where)
    np.testing.assert_allclose(got, logsumexp(energy) - energy.mean(), 1e-12)
    blind = np.where(mask[:, None], f, np.nan)
    means = calls.class_means(blind, hidden, mask=mask)
    y, f = z[mask].argmax(-1), f[mask]
    want = sum(
        (y == c).sum() * ((f[y == c].mean(0) - f.mean(0)) ** 2).sum() for c in set(y)
    )
    np.testing.assert_allclose(calls.dispersion_score(means), np.log(want / 3), 1e-10)
    parts = calls.class_means(f[:3], z[mask][:3]) + calls.class_means(
        f[3:], z[mask][3:]
    )
    for a, b in zip(parts, means, strict=True):
        np.testing.assert_allclose(a, b, 1e-12)


def test_slopes(x64):
    """Of the scores that no golden file has: closed forms, or differences."""
    z, f = draw(4, 9, 4), draw(5, 9, 3)
    p = softmax(z, -1)
    value, slope = value_and_grad(lambda z: metrics.mano_criterion(z).value, z)
    np.testing.assert_allclose(value, -log_softmax(z, -1).mean(), 1e-12)
    np.testing.assert_allclose(slope, (p - 1 / 4) / 9, 1e-10, 1e-15)
    value, slope = value_and_grad(lambda z: metrics.entropy_score(z).value, z)
    each = (p * np.log(p)).sum(-1, keepdims=True)
    np.testing.assert_allclose(value, each.mean(), 1e-12)
    np.testing.assert_allclose(slope, p * (np.log(p) - each) / 9, 1e-10, 1e-15)
    value, slope = value_and_grad(metrics.mde_score, z)
    energy = -logsumexp(z, -1)
    np.testing.assert_allclose(value, logsumexp(energy) - energy.mean(), 1e-12)
    want = -(softmax(energy) - 1 / 9)[:, None] * p
    np.testing.assert_allclose(slope, want, 1e-10, 1e-15)
    for of in (
        lambda f: metrics.dispersion_score(metrics.class_means(f, z)),
        lambda z: metrics.softrun(z, criterion=0.0),
        lambda z: metrics.softrun(z, criterion=9.0),
        lambda z: metrics.mano_powers(z, criterion=0.0, p=3.0).value,
    ):
        check_derivatives(of, f, order=1)
    # A row without classes is left out.
    empty = np.vstack([z, np.full((1, 4), -np.inf)])
    np.testing.assert_allclose(calls.mde_score(empty), value, 1e-12)
    assert np.isnan(calls.mde_score(np.vstack([z, np.full((1, 4), np.nan)])))


def test_scores_at_the_edges():
    flat, none = np.zeros((5, 3), "f4"), np.zeros(5, bool)
    score = compiled(metrics.nuclear_norm_score)
    np.testing.assert_allclose(score(flat), 1 / 3, 1e-6)
    np.testing.assert_allclose(
        score(flat + np.float32([[40, 0, 0]])), 3**-0.5, 1e-6
    )  # of rank one
    assert score(flat, mask=none) == 0
    np.testing.assert_allclose(calls.mde_score(flat), np.log(5), 1e-6)
    assert calls.mde_score(flat, mask=none) == 0
    assert calls.mde_score(flat[:0]) == 0
    same = calls.class_means(np.ones((5, 2), "f4"), flat)
    assert calls.dispersion_score(same) == -np.inf
    one = calls.class_means(np.ones((5, 2), "f4"), flat[:, :1])
    assert calls.dispersion_score(one) == -np.inf
    # Energies of 1e4, which a softmax over the examples has to survive.
    far = np.float32([[1e4, 0], [1e4 + 1, 0]])
    np.testing.assert_allclose(calls.mde_score(far), np.log1p(np.e) - 0.5, 1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: metrics.mde_score(z, temperature=0.0), "temperature is 0.0"),
        (lambda z: metrics.class_means(z[0], z), "features has shape"),
        (lambda z: metrics.dispersion_score(metrics.Mean(z, z)), "means has shapes"),
        (lambda z: metrics.mano_score(z, p=0.0), "p is 0.0, expected positive"),
        (lambda z: metrics.mano_score(z, batch_size=0), "batch_size is 0, expected"),
        (lambda z: metrics.softrun(z, mask=np.ones(3, bool)), "mask has shape"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3), "f4"))
