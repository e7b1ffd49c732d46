"""The 8 x 8 digits as small studies use them: split, start, and once for each seed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Digits(NamedTuple):
    """Images without their mean, [N, 64], and digits, [N]: to learn from and to test.

    Attributes:
      x: of training.
      y: their digits.
      test_x: the others.
      test_y: their digits.
    """

    x: jax.Array
    y: jax.Array
    test_x: jax.Array
    test_y: jax.Array


def images() -> tuple[jax.Array, jax.Array]:
    """All 1797 images, pixels from 0 to 1 less the mean image, and their digits."""
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    x = x / 16
    return jnp.asarray(x - x.mean(0), jnp.float32), jnp.asarray(y, jnp.int32)


def divide(key: jax.Array, x: jax.Array, y: jax.Array, train: int) -> Digits:
    """A random part of ``train`` rows, and the others."""
    order = jax.random.permutation(key, len(y))
    mine, others = order[:train], order[train:]
    return Digits(x[mine], y[mine], x[others], y[others])


def check_train(train: int) -> None:
    """Refuses a number of training images that leaves none to test."""
    if not 1 <= train < 1797:
        raise ValueError(f"config.train is {train}, expected 1 to 1796 of 1797 digits")


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


def once_per_key(make):
    """The value of a function of a key, made once for each key."""
    made = {}

    def get(key):
        name = jax.random.key_data(key).tobytes()
        if name not in made:
            made[name] = make(key)
        return made[name]

    return get
