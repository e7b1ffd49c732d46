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
    wants = (
        (grow, np.exp(wide)),
        (np.where(abs(wide) < 0.01, small, grow - wide), grow),
        (1 / (1 + np.exp(-wide)), np.exp(-abs(wide)) / (1 + np.exp(-abs(wide))) ** 2),
    )

    @jax.jit
    def run(x, low):
        three = expm1, exp_excess, sigmoid
        return [jax.vmap(jax.value_and_grad(f))(x) for f in three], log1mexp(low)

    gots, of_low = run(x, x[x < 0])
    for (got, steep), (value, slope) in zip(gots, wants, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-5)
        np.testing.assert_allclose(steep, slope, rtol=1e-5)
    want = np.where(low < -1, np.log1p(-np.exp(low)), np.log(-np.expm1(low)))
    np.testing.assert_allclose(of_low, want, rtol=1e-5)
