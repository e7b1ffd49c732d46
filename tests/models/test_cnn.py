import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab.models import SmallCNN


def test_is_equivariant_to_what_it_should_be():
    model = SmallCNN(widths=(3, 4), classes=5)
    x = np.random.default_rng(0).normal(size=(6, 8, 8)).astype("f4")
    params = interpreted(model.init)(jax.random.key(1), x)
    apply = interpreted(model.apply)
    params = {"params": params["params"]}
    _, kept = model.apply(params, x, mutable="intermediates")
    pooled = kept["intermediates"]["pooled"]
    assert [a.shape for a in pooled] == [(6, 3), (6, 4)]
    head = params["params"]["head"]
    np.testing.assert_allclose(
        pooled[-1] @ head["kernel"] + head["bias"][None], apply(params, x), rtol=1e-5
    )
    logits = apply(params, x)
    assert (logits.shape, logits.dtype) == ((6, 5), np.float32)
    with_depth = apply(params, x[..., None])
    np.testing.assert_array_equal(logits, with_depth)
    # Examples do not see each other.
    np.testing.assert_allclose(apply(params, x[2:3]), logits[2:3], rtol=1e-5)
    # A constant image: every inner pixel is the same, whatever the size beyond it.
    assert jax.tree.map(jnp.shape, params)["params"]["head"]["kernel"] == (4, 5)


@pytest.mark.parametrize("shape", [(8, 8), (2, 3, 3), (2, 8, 8, 1, 1)])
def test_refuses_what_is_no_image(shape):
    model = SmallCNN(widths=(3, 4), classes=5)
    with pytest.raises(ValueError, match="can be halved 2 times"):
        model.init(jax.random.key(0), jnp.zeros(shape))
