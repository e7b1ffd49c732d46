import jax
import numpy as np

from logitlab.numerics import exp_excess, expm1, log1mexp, sigmoid


def test_special_functions():
    """Values and slopes against formulas that do not cancel, in float64."""
    x = np.float32(
        [-80, -40, -17, -3, -1, -0.1, -1e-3, -1e-9, 1e-9, 1e-3, 0.5, 1, 9, 60]
    )
    wide, low = x.astype("f8"), x[x < 0].astype("f8")
    grow = np.expm1(wide)
    small = wide**2 / 2 * (1 + wide / 3 * (1 + wide / 4 * (1 + wide / 5)))
    for f, value, slope in (
        (expm1, grow, np.exp(wide)),
        (exp_excess, np.where(abs(wide) < 0.01, small, grow - wide), grow),
        (
            sigmoid,
            1 / (1 + np.exp(-wide)),
            np.exp(-abs(wide)) / (1 + np.exp(-abs(wide))) ** 2,
        ),
    ):
        got, steep = jax.vmap(jax.value_and_grad(f))(x)
        np.testing.assert_allclose(got, value, rtol=1e-5)
        np.testing.assert_allclose(steep, slope, rtol=1e-5)
    want = np.where(low < -1, np.log1p(-np.exp(low)), np.log(-np.expm1(low)))
    np.testing.assert_allclose(log1mexp(x[x < 0]), want, rtol=1e-5)
