"""How the networks of several studies start."""

import jax
import jax.numpy as jnp


def start(key: jax.Array, model, x: jax.Array) -> dict:
    """Parameters: kernels from normals of variance 2 / inputs, biases 0.

    PyTorch's uniform start has a kurtosis of 1.8 before any training, this one 3.
    """
    shapes = jax.eval_shape(model.init, key, x[:1])["params"]
    keys = jax.random.split(key, len(shapes))

    def layer(key, arrays):
        shape = arrays["kernel"].shape
        kernel = jax.random.normal(key, shape) * (2 / shape[0]) ** 0.5
        return {"kernel": kernel, "bias": jnp.zeros(shape[1])}

    pairs = zip(keys, shapes.items(), strict=True)
    return {name: layer(key, arrays) for key, (name, arrays) in pairs}
