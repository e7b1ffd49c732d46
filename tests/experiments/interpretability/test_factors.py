import jax
import numpy as np
from harness.interpreter import interpreted

from experiments.interpretability import _networks, factors


def test_attributions_of_a_linear_model():
    """Of three logits: the input times what the label's weights have over the mean."""
    model = _networks.Recipe((), 3, 1).model
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)).astype("f4"), rng.integers(0, 3, 5)
    params = interpreted(model.init)(jax.random.key(0), x)
    kernel = params["params"]["head"]["kernel"]
    want = x * (kernel[:, y] - kernel.mean(1, keepdims=True)).T
    got = interpreted(lambda p: factors.attributions(model, p, x, y))(params)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_tables_and_references():
    x, y = factors.table("wine")
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    found = factors.references(x, y, 0, 3)
    assert set(found) == {"logistic", "forest", "boosted"}
    assert all(i.shape == (13,) and (i >= 0).all() for i in found.values())


def test_bad_configs_are_refused(refused):
    name = "interpretability:factors"
    refused(name, "weight", 0.5, r"expected 0 and config.weight \(0.5\) among them")
    refused(name, "share", 0.6, r"expected in \(0, 0.5\]")
    refused(name, "sets", ("iris",), "iris")
