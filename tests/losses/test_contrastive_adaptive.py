import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, draw
from harness.interpreter import interpreted

from logitlab import losses
from logitlab.transforms import normalize


@pytest.mark.parametrize("case", cases("amcl_simclr"))
def test_golden(x64, case):
    z1, z2, w1, b1, w2, b2 = arrays(
        case, "z1", "z2", "phi_w1", "phi_b1", "phi_w2", "phi_b2"
    )
    params, outputs = case["params"], case["outputs"]
    bounds = dict(min_temperature=params["tau_min"], max_temperature=params["tau_max"])

    def phi(z, w1):
        hidden = jax.nn.relu(normalize(z) @ w1 + b1[None, None])
        return hidden @ w2 + b2[None, None]

    def loss(z1, z2, w1):
        return losses.amcl_simclr_loss(
            z1,
            z2,
            phi(z1, w1),
            phi(z2, w1),
            beta=params["beta"],
            negatives=params["topk"],
            **bounds,
        ).mean()

    value, grads = interpreted(jax.value_and_grad(loss, (0, 1, 2)))(z1, z2, w1)
    close(value, outputs["loss"])
    for grad, name in zip(grads, ("z1", "z2", "phi_w1"), strict=True):
        close(grad, outputs[f"grad_{name}"])
    tau = losses.adaptive_temperature(phi(z1, w1), phi(z2, w1), **bounds)
    close(tau, outputs["tau_positive"])


def test_alone_there_are_no_negatives():
    e, keys = draw(0, 1, 2, 3).astype("f4"), draw(1, 1, 2, 4).astype("f4")
    value, grad = interpreted(
        jax.value_and_grad(
            lambda e: losses.amcl_simclr_loss(e, e, keys, keys, beta=0.0).sum()
        )
    )(e)
    tau = losses.adaptive_temperature(keys, keys)
    np.testing.assert_allclose(value, -np.sum(1 / tau), rtol=1e-5)
    assert np.isfinite(grad).all()


def test_temperatures_stay_within_their_bounds():
    keys = 1e10 * draw(0, 8, 3).astype("f4")
    tau = losses.adaptive_temperature(
        keys, -keys[::-1], min_temperature=0.1, max_temperature=0.5
    )
    assert (tau >= 0.1).all()
    assert (tau <= 0.5).all()


def test_errors():
    e, keys = np.zeros((3, 2, 4), "f4"), np.zeros((3, 2, 5), "f4")
    for call, message in (
        (
            lambda: losses.amcl_simclr_loss(e[0], e[0], keys, keys),
            r"embeddings has shape \(2, 4\)",
        ),
        (lambda: losses.amcl_simclr_loss(e, e[:2], keys, keys), "other_embeddings has"),
        (lambda: losses.amcl_simclr_loss(e, e, keys[:2], keys), "keys has shape"),
        (
            lambda: losses.amcl_simclr_loss(e, e, keys, keys, negatives=0),
            "negatives is 0",
        ),
        (
            lambda: losses.amcl_simclr_loss(e, e, keys, keys, min_temperature=0.0),
            "min_temperature is 0.0, expected above 0",
        ),
        (
            lambda: losses.adaptive_temperature(keys, keys, min_temperature=3.0),
            "max_temperature is 2.0, expected at least min_temperature, 3.0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
