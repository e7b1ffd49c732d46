import functools

import jax
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import functions, interpreted
from scipy import optimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression

from logitlab import transforms
from logitlab.numerics._isotonic import pool_violators
from logitlab.transforms import binary_calibrators, calibrate, calibrators

calls = functions(calibrators, binary_calibrators)
CLASSES = [
    transforms.fit_temperature,
    transforms.fit_vector_scaling,
    transforms.fit_matrix_scaling,
]
BINARY = [
    transforms.fit_platt,
    transforms.fit_isotonic,
    transforms.fit_histogram_binning,
]


def draw(seed, *shape, scale=3.0):
    """Logits that are ``scale`` times too sure, and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape) * 2
    y = (z + rng.gumbel(size=shape)).argmax(-1)
    return z * scale, y


def draw_binary(seed, n, ties=False):
    rng = np.random.default_rng(seed)
    s = rng.normal(size=n) * 4
    return (s.round(0) if ties else s), (rng.uniform(size=n) < expit(s / 3)) * 1


@pytest.mark.sampled
@pytest.mark.parametrize("case", goldens.cases("calibrators"))
def test_golden(x64, case):
    z, y, s, t, query = goldens.arrays(
        case, "logits", "labels", "scores", "binary_labels", "query"
    )
    want = case["outputs"]

    @interpreted
    def run(z, s, query):
        platt, isotonic = transforms.fit_platt(s, t), transforms.fit_isotonic(s, t)
        probs = lambda s, fit: jax.nn.sigmoid(calibrate(s, fit))  # noqa: E731
        return {
            "temperature": transforms.fit_temperature(z, y).temperature,
            "platt_a": platt.a,
            "platt_b": platt.b,
            "platt_prob_at_query": probs(query, platt),
            "isotonic_fitted": probs(s, isotonic),
            "isotonic_at_query": probs(query, isotonic),
        }

    got = run(z, s, query)
    assert got.keys() == want.keys()
    for name, value in got.items():
        # The solvers of scikit-learn stop at a tolerance.
        rtol = 1e-9 if "isotonic" in name else 1e-5
        np.testing.assert_allclose(value, want[name], rtol, 1e-9, err_msg=name)


def nll(z, y):
    return -log_softmax(z, -1)[np.arange(len(y)), y].mean()


def test_temperature_is_the_best(x64):
    z, y = draw(0, 400, 5)
    fit = calls.fit_temperature(z, y)
    slope = lambda t: ((softmax(z / t, -1) - np.eye(5)[y]) * z).sum(-1).mean()  # noqa: E731
    want = optimize.brentq(slope, 0.5, 20, xtol=1e-14, rtol=1e-14)
    np.testing.assert_allclose(fit.temperature, want, 1e-11)
    assert not fit.at_bound
    np.testing.assert_allclose(calls.calibrate(z, fit), z / want, 1e-11)
    # In the logits' units, whatever these are, and without their offset.
    for scale in (1e-3, 1e3):
        scaled = calls.fit_temperature(z * scale + 7, y).temperature
        np.testing.assert_allclose(scaled, want * scale, 1e-8)
    single = calls.fit_temperature(z.astype("f4"), y)
    np.testing.assert_allclose(single.temperature, want, 1e-5)
    moved = calls.fit_temperature(z.T, y, axis=0)
    np.testing.assert_allclose(moved.temperature, want, 1e-11)
    where = np.array([[True, True, False, True, True]])
    hidden = calls.fit_temperature(z, y, where=where).temperature
    kept = y != 2
    short = calls.fit_temperature(z[kept][:, where[0]], y[kept] - (y[kept] > 2))
    np.testing.assert_allclose(hidden, short.temperature, 1e-9)
    assert (calls.calibrate(z, fit, where=where)[:, 2] == -np.inf).all()


def test_temperature_at_its_bounds():
    z = np.float32([[3, 0, 1], [0, 2, 0]])
    for labels, end in (([0, 1], -10), ([1, 0], 10)):
        fit = calls.fit_temperature(z, np.array(labels))
        assert fit.at_bound
        np.testing.assert_allclose(fit.temperature, np.exp(end), 1e-5)
    nothing = calls.fit_temperature(z, np.array([0, 1]), mask=np.zeros(2, bool))
    flat = calls.fit_temperature(np.ones((2, 3), "f4"), np.array([0, 1]))
    empty = calls.fit_temperature(z[:0], np.zeros(0, int))
    for fit in (nothing, flat, empty):
        assert fit.temperature == 1
        assert fit.at_bound
    sure = np.float32([[60, 0]] * 3 + [[0, 60]])  # three of four are right
    got = calls.fit_temperature(sure, np.zeros(4, int)).temperature
    np.testing.assert_allclose(got, 60 / np.log(3), 1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("fit", CLASSES[1:])
def test_likelihood_has_no_slope_left(x64, fit):
    z, y = draw(1, 300, 3)
    z = z * [1, 0.5, 2] + [1, 0, -1]
    penalties = dict(lam=0.3, mu=0.1) if fit is transforms.fit_matrix_scaling else {}
    found = getattr(calls, fit.__name__)(z, y, **penalties)
    assert not found.at_bound
    assert found.slope < 1e-9

    got = calls.calibrate(z, found)
    error = (softmax(got, -1) - np.eye(3)[y]) / len(y)
    bias, slopes = error.sum(0), (error * z).sum(0)
    if penalties:
        off = np.where(np.eye(3), 0, found.kernel)
        slopes = z.T @ error + 2 * 0.3 * off / 6
        bias = bias + 2 * 0.1 * found.bias / 3
    np.testing.assert_allclose(slopes, 0, atol=2e-9)
    np.testing.assert_allclose(bias, 0, atol=2e-9)
    first = found.kernel if fit is transforms.fit_matrix_scaling else found.scale
    want = z @ first if first.ndim == 2 else z * first
    np.testing.assert_allclose(got, want + found.bias, 1e-12)
    assert nll(got, y) < nll(z / calls.fit_temperature(z, y).temperature, y)
    single = getattr(calls, fit.__name__)(z.astype("f4"), y, **penalties)
    assert nll(calls.calibrate(z.astype("f4"), single), y) < nll(got, y) + 1e-5


def test_separable_labels_are_at_a_bound():
    z, y = np.float32([[2, 0], [0, 1], [1, 0]]), np.array([0, 1, 0])
    assert calls.fit_vector_scaling(z, y).at_bound
    nothing = calls.fit_vector_scaling(z, y, mask=np.zeros(3, bool))
    np.testing.assert_array_equal(nothing.scale, 1)
    np.testing.assert_array_equal(nothing.bias, 0)
    assert nothing.at_bound
    nothing = calls.fit_matrix_scaling(z, y, mask=np.zeros(3, bool))
    np.testing.assert_array_equal(nothing.kernel, np.eye(2))
    # Platt's targets are never 0 and 1.
    assert not calls.fit_platt(np.float32([-1, 1]), np.array([0, 1])).at_bound


def test_platt(x64):
    s, y = draw_binary(2, 200)
    fit = calls.fit_platt(s, y)
    n = y.sum()
    target = np.where(y, (n + 1) / (n + 2), 1 / (200 - n + 2))
    p = expit(calls.calibrate(s, fit))
    np.testing.assert_allclose((p - target).sum(), 0, atol=1e-6)
    np.testing.assert_allclose(((p - target) * s).sum(), 0, atol=1e-6)
    far = calls.fit_platt(s * 1e6 + 1e8, y)
    np.testing.assert_allclose(far.a * 1e6, fit.a, 1e-6)
    mask = np.zeros(200, bool)
    assert calls.fit_platt(s, y, mask=mask)[:2] == (-1, 0)


@pytest.mark.parametrize("ties", [False, True])
def test_isotonic_matches_scikit_learn(x64, ties):
    s, y = draw_binary(3, 150, ties)
    mask = np.arange(150) < 120
    theirs = IsotonicRegression(out_of_bounds="clip").fit(s[:120], y[:120])
    query = np.concatenate([np.linspace(-15, 15, 61), s])
    fit = calls.fit_isotonic(
        np.where(mask, s, np.nan), np.where(mask, y, -1), mask=mask
    )
    got = expit(calls.calibrate(query, fit))
    np.testing.assert_allclose(got, theirs.predict(query), 1e-9, 1e-12)
    none = calls.fit_isotonic(s, y, mask=np.zeros(150, bool))
    assert (calls.calibrate(query, none) == 0).all()


def test_pooling_of_any_sequence(x64):
    rng = np.random.default_rng(4)
    for v in (rng.normal(size=50), -np.arange(20.0), np.arange(20.0), np.ones(5)):
        w = rng.uniform(0.5, 2, v.size)
        means, blocks = interpreted(pool_violators)(v, w)
        at = np.arange(v.size)
        want = IsotonicRegression().fit(at, v, w).predict(at)
        np.testing.assert_allclose(means, want, 1e-9, 1e-12)
        assert (np.diff(blocks) == (np.diff(means) > 0)).all()


def test_a_hundred_thousand_scores():
    s, y = draw_binary(5, 10**5)
    s = s.astype("f4")
    fit = transforms.fit_isotonic(s, y)
    want = IsotonicRegression().fit_transform(s.astype("f8"), y)
    np.testing.assert_allclose(fit.probs, np.sort(want), 1e-5, 1e-7)


@pytest.mark.parametrize("fit", CLASSES + BINARY)
def test_no_examples_decide_nothing(fit):
    z = np.zeros((0, 3) if fit in CLASSES else 0, "f4")
    fitted = getattr(calls, fit.__name__)(z, np.zeros(0, int))
    new = np.float32([-1, 0, 2])
    got = calls.calibrate(new, fitted)
    if fit in CLASSES or fit is transforms.fit_platt:
        np.testing.assert_array_equal(got, new)
        assert fitted.at_bound
    elif fit is transforms.fit_isotonic:
        np.testing.assert_array_equal(got, 0)
    else:  # the middle of each bin
        at = np.floor(15 * expit(new))
        np.testing.assert_allclose(expit(got), (at + 0.5) / 15, 1e-6)


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_histogram(x64, binning):
    s, y = draw_binary(6, 200)
    fit = calls.fit_histogram_binning(s, y, bins=6, binning=binning)
    steps = np.arange(1, 6) / 6
    edges = logit(steps) if binning == "width" else np.quantile(s, steps)
    np.testing.assert_allclose(fit.edges, edges, 1e-12, 1e-15)
    at = np.digitize(s, edges)
    want = np.array([y[at == b].mean() for b in range(6)])
    np.testing.assert_allclose(fit.probs, want, 1e-12)
    p = expit(calls.calibrate(s, fit))
    np.testing.assert_allclose(p, want[at], 1e-9)
    one = calls.fit_histogram_binning(s[:1], y[:1], bins=4)
    empty = np.arange(4) != np.digitize(expit(s[0]), [0.25, 0.5, 0.75])
    middles = np.array([0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(one.probs[empty], middles[empty])


@pytest.mark.sampled
@pytest.mark.parametrize("fit", CLASSES + BINARY)
def test_fits_of_groups_are_one_program(fit):
    """Bootstrap samples by masks: each equals the fit of what its mask keeps."""
    if fit in CLASSES:
        z, y = draw(7, 60, 3)
    else:
        z, y = draw_binary(7, 60)
    z, masks = z.astype("f4"), np.random.default_rng(8).uniform(size=(2, 60)) < 0.7
    more = dict(lam=1.0, mu=1.0) if fit is transforms.fit_matrix_scaling else {}
    one = functools.partial(fit, z, y, **more)
    all_of_them = interpreted(jax.vmap(lambda mask: one(mask=mask)))(masks)
    apply = interpreted(jax.vmap(lambda c: calibrate(z, c)))(all_of_them)
    for mask, got in zip(masks, apply, strict=True):
        alone = getattr(calls, fit.__name__)(z[mask], y[mask], **more)
        want = calls.calibrate(z, alone)
        if fit in CLASSES:  # up to what a softmax does not see
            got, want = (np.exp(log_softmax(a, -1)) for a in (got, want))
        np.testing.assert_allclose(got, want, 2e-3, 1e-4)


def test_calibrated_logits_have_slopes(x64):
    z, s = draw(10, 3)[0], np.linspace(-2, 2, 7)
    bias, end = np.array([0.3, -1.0, 0.0]), (True, 0.0)
    kernel = draw(11, 3, 3)[0]
    jac = jax.jacobian(lambda z, c: calibrate(z, c))
    for calibrator, want in (
        (transforms.TemperatureCalibrator(np.float64(2.5), False), np.eye(3) / 2.5),
        (transforms.VectorCalibrator(bias + 2, bias, *end), np.diag(bias + 2)),
        (transforms.MatrixCalibrator(kernel, bias, *end), kernel.T),
    ):
        got = interpreted(jac)(z, calibrator)
        np.testing.assert_allclose(got, want, 1e-12)
    slope = interpreted(jax.vmap(jax.grad(calibrate), (0, None)))
    platt = transforms.PlattCalibrator(np.float64(-1.7), np.float64(0.2), *end)
    np.testing.assert_allclose(slope(s, platt), 1.7, 1e-12)
    # Linear in the probability, so that the slope is that over p (1 - p).
    risen = transforms.IsotonicCalibrator(np.array([-3.0, 3]), np.array([0.2, 0.8]))
    p = 0.5 + 0.1 * s
    np.testing.assert_allclose(slope(s, risen), 0.1 / (p * (1 - p)), 1e-12)


@pytest.mark.parametrize("fit", CLASSES + BINARY)
def test_no_label_is_nan(fit):
    z, y = draw(9, 20, 2) if fit in CLASSES else draw_binary(9, 20)
    bad = np.where(np.arange(20) == 3, -1, y)
    found = getattr(calls, fit.__name__)(z.astype("f4"), bad)
    assert np.isnan(calls.calibrate(z.astype("f4"), found)).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z, y: transforms.fit_temperature(z, y + 3), ValueError, "labels outsi"),
        (
            lambda z, y: transforms.fit_temperature(z, y[:1]),
            ValueError,
            "labels has sh",
        ),
        (
            lambda z, y: transforms.fit_matrix_scaling(z, y, lam=-1.0),
            ValueError,
            "lam is -1.0, expected at least 0",
        ),
        (lambda z, y: transforms.fit_platt(z[:, 0], y + 1), ValueError, "other than 0"),
        (lambda z, y: transforms.fit_isotonic(y, y), TypeError, "logits has dtype int"),
        (
            lambda z, y: transforms.fit_histogram_binning(z[:, 0], y, bins=0),
            ValueError,
            "bins is 0, expected at least 1",
        ),
        (
            lambda z, y: transforms.fit_histogram_binning(z[:, 0], y, bins=None),
            TypeError,
            "bins is None, expected a Python integer of at least 1",
        ),
        (
            lambda z, y: transforms.fit_histogram_binning(z[:, 0], y, binning="x"),
            ValueError,
            "binning is 'x', expected 'width' or 'mass'",
        ),
        (lambda z, y: calibrate(z, 2.0), TypeError, "calibrator is of type float"),
        (
            lambda z, y: calibrate(z, transforms.VectorCalibrator(y, y, True, 0.0)),
            ValueError,
            r"logits has shape \(2, 3\), expected \[..., 2\]",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3), "f4"), np.array([0, 1]))
