"""What optax's tests ask of its losses, asked of ours: one adapter a definition.

Shapes, axes, hidden classes, gradients and edge cases, for every definition that both
libraries have; optax's own numbers are the reference on ordinary logits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from logitlab import losses


def integers(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1])


def distribution(rng, shape):
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype("f4")


def hits(rng, shape):
    return rng.integers(0, 2, shape).astype("f4")


def logits(rng, shape):
    return 3 * rng.normal(size=shape).astype("f4")


# definition: (labels, optax's call, our call); those that take axis and where last.
WITH_AXIS = {
    "softmax_cross_entropy": (
        distribution,
        optax.losses.softmax_cross_entropy,
        losses.cross_entropy,
    ),
    "softmax_cross_entropy_with_integer_labels": (
        integers,
        optax.losses.softmax_cross_entropy_with_integer_labels,
        losses.cross_entropy,
    ),
    "poly_loss_cross_entropy": (
        distribution,
        optax.losses.poly_loss_cross_entropy,
        lambda z, q, **options: losses.poly1_loss(z, q, eps=2.0, **options),
    ),
}
PLAIN = {
    "safe_softmax_cross_entropy": (
        distribution,
        optax.losses.safe_softmax_cross_entropy,
        losses.cross_entropy,
    ),
    "kl_divergence": (
        logits,
        lambda z, t: optax.losses.kl_divergence(
            jax.nn.log_softmax(z), jax.nn.softmax(t)
        ),
        lambda z, t: losses.kd_loss(z, t, temperature=1.0),
    ),
    "kl_divergence_with_log_targets": (
        logits,
        lambda z, t: optax.losses.kl_divergence_with_log_targets(
            jax.nn.log_softmax(z), jax.nn.log_softmax(t)
        ),
        lambda z, t: losses.kd_loss(z, t, temperature=1.0),
    ),
    "generalized_kl_divergence": (
        logits,
        lambda z, t: optax.losses.generalized_kl_divergence(
            jax.nn.log_softmax(z), jax.nn.softmax(t)
        ),
        lambda z, t: losses.kd_loss(z, t, temperature=1.0),
    ),
    "sigmoid_binary_cross_entropy": (
        hits,
        optax.losses.sigmoid_binary_cross_entropy,
        losses.sigmoid_cross_entropy,
    ),
    "sigmoid_focal_loss": (
        hits,
        lambda z, t: optax.losses.sigmoid_focal_loss(z, t, alpha=0.25, gamma=1.5),
        lambda z, t: losses.sigmoid_focal_loss(z, t, alpha=0.25, gamma=1.5),
    ),
    "multiclass_hinge_loss": (
        integers,
        optax.losses.multiclass_hinge_loss,
        losses.multiclass_hinge_loss,
    ),
    "multiclass_perceptron_loss": (
        integers,
        optax.losses.multiclass_perceptron_loss,
        lambda z, y: losses.multiclass_hinge_loss(z, y, margin=0.0),
    ),
    "multiclass_sparsemax_loss": (
        integers,
        lambda z, y: optax.losses.multiclass_sparsemax_loss(
            z.reshape(-1, z.shape[-1]), y.reshape(-1)
        ).reshape(y.shape),
        lambda z, y: losses.fenchel_young_loss(z, y, alpha=2.0),
    ),
}


def both(theirs, ours, z, labels):
    """Values and gradients of the two."""

    def run(loss):
        @interpreted
        def pulled(z):
            values, pull = jax.vjp(lambda z: loss(z, labels), z)
            return values, *pull(jnp.ones_like(values))

        return pulled(z)

    return run(theirs), run(ours)


def close(got, want):
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (4, 1), (3, 200)], ids=str)
@pytest.mark.parametrize("name", [*WITH_AXIS, *PLAIN])
def test_values_and_gradients(name, shape):
    make, theirs, ours = (WITH_AXIS | PLAIN)[name]
    rng = np.random.default_rng(0)
    z = logits(rng, shape)
    want, got = both(theirs, ours, z, make(rng, shape))
    close(got, want)


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize("name", WITH_AXIS)
def test_axes_and_hidden_classes(name, axis):
    make, theirs, ours = WITH_AXIS[name]
    rng = np.random.default_rng(1)
    z, labels = logits(rng, (3, 4, 5)), make(rng, (3, 4, 5))
    z = np.moveaxis(z, -1, axis)
    shown = np.moveaxis(np.broadcast_to(np.arange(5) < 4, (3, 4, 5)), -1, axis)
    if labels.ndim == 3:
        labels = np.moveaxis(labels, -1, axis)
    else:
        labels = np.minimum(labels, 3)
    for options in (dict(axis=axis), dict(axis=axis, where=shown)):
        want, got = both(
            lambda z, y, o=options: theirs(z, y, **o),
            lambda z, y, o=options: ours(z, y, **o),
            z,
            labels,
        )
        if "where" in options and labels.ndim == 3:  # optax hides terms of the sum
            got, want = got[:1], want[:1]
            want = [ours(np.where(shown, z, -np.inf), labels * shown, axis=axis)]
            got = [ours(z, labels * shown, **options)]
        close(got, want)


def test_cross_entropy_of_impossible_classes():
    """A class without mass may have a logit of -inf; one with mass costs inf."""
    z = np.float32([[1, -np.inf, 0], [-np.inf, 0, 0]])
    q = np.float32([[0.5, 0, 0.5], [1, 0, 0]])
    value, (grad,) = jax.value_and_grad(
        lambda z: losses.cross_entropy(z[:1], q[:1]).sum(), argnums=(0,)
    )(z)
    np.testing.assert_allclose(value, np.log(1 + np.e) - 0.5, rtol=1e-6)
    assert np.isfinite(grad).all()
    assert losses.cross_entropy(z[1], q[1]) == np.inf


def test_cross_entropy_of_one_hot_labels_is_that_of_integers():
    rng = np.random.default_rng(2)
    z, y = logits(rng, (6, 7)), rng.integers(0, 7, 6)
    hot = np.eye(7, dtype="f4")[y]
    close(
        [losses.cross_entropy(z, hot)],
        [optax.losses.softmax_cross_entropy_with_integer_labels(z, y)],
    )


def test_poly_with_no_polynomial_is_cross_entropy():
    rng = np.random.default_rng(3)
    z, q = logits(rng, (6, 7)), distribution(rng, (6, 7))
    np.testing.assert_allclose(
        losses.poly1_loss(z, q, eps=0.0), losses.cross_entropy(z, q), rtol=1e-6
    )


def test_focal_without_focus_is_cross_entropy():
    rng = np.random.default_rng(4)
    z, t = logits(rng, (6, 7)), hits(rng, (6, 7))
    got = losses.sigmoid_focal_loss(z, t, alpha=None, gamma=0.0)
    np.testing.assert_allclose(got, losses.sigmoid_cross_entropy(z, t), rtol=1e-6)


def test_sigmoid_cross_entropy_far_out():
    """Where the wrong side is certain it grows like the logit; the right side fades."""
    z = np.float32([1e30, -1e30, 80, -80])
    np.testing.assert_allclose(
        losses.sigmoid_cross_entropy(z, np.float32([0, 1, 1, 0])),
        [1e30, 1e30, np.exp(-80), np.exp(-80)],
        rtol=1e-5,
    )


def test_hinge_and_perceptron_have_no_loss_beyond_their_margins():
    z, y = np.float32([[3, 1, 0], [1.5, 1, 0], [0, 1, 0]]), np.zeros(3, int)
    np.testing.assert_allclose(losses.multiclass_hinge_loss(z, y), [0, 0.5, 2])
    np.testing.assert_allclose(
        losses.multiclass_hinge_loss(z, y, margin=0.0), [0, 0, 1]
    )


def test_sparsemax_loss_is_zero_from_a_margin_of_one_on():
    z, y = np.float32([[1, 0, 0], [9, 0, 0], [0, 0, 0]]), np.zeros(3, int)
    got = losses.fenchel_young_loss(z, y, alpha=2.0)
    np.testing.assert_allclose(got, [0, 0, 1 / 3], rtol=1e-6)
