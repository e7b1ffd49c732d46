import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import draw
from harness.interpreter import interpreted

from logitlab import losses
from logitlab.targets import label_pairs, multi_similarity_pairs
from logitlab.weights import gpw_weights
from logitlab.weights.pairs import Kind

LABELS = np.array([0, 0, 1, 0, 1, 2, 1, 0])
KINDS = typing.get_args(Kind)
M, ALPHA, BETA, BASE = 0.3, 2.0, 20.0, 0.4
HYPER = dict(margin=M, alpha=ALPHA, beta=BETA, base=BASE)


def total(s, pairs, kind):
    """The sum of the losses, written as their definition is."""
    p, n = pairs

    def sums(x, where):
        return jnp.where(where, x, 0).sum(-1)

    if kind == "multi_similarity":
        pull = jnp.log1p(sums(jnp.exp(-ALPHA * (s - BASE)), p)) / ALPHA
        return (pull + jnp.log1p(sums(jnp.exp(BETA * (s - BASE)), n)) / BETA).sum()
    if kind == "contrastive":
        return (sums(1 - s, p) + sums(jax.nn.relu(s - M), n)).sum()
    if kind == "triplet":
        x = s[:, None] - s[:, :, None] + M
        return jnp.where(p[:, :, None] & n[:, None], jax.nn.relu(x), 0).sum()
    if kind == "binomial_deviance":
        pull = sums(jnp.log1p(jnp.exp(-ALPHA * (s - BASE))), p)
        push = sums(jnp.log1p(jnp.exp(BETA * (s - BASE))), n)
        return (
            pull / jnp.maximum(p.sum(-1), 1) + push / jnp.maximum(n.sum(-1), 1)
        ).sum()
    some = p.any(-1) & n.any(-1)
    far, near = (jnp.where(some, sums(jnp.exp(x), w), 1) for x, w in ((-s, p), (s, n)))
    return jnp.where(some, jax.nn.relu(jnp.log(far) + jnp.log(near) + M), 0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_slopes(x64, kind):
    s = np.tanh(draw(0, 8, 8))
    pairs = label_pairs(LABELS)
    for chosen in (pairs, multi_similarity_pairs(s, LABELS)):
        got = interpreted(
            lambda s, chosen=chosen: gpw_weights(s, chosen, kind=kind, **HYPER)
        )(s)
        want = np.abs(jax.grad(total)(s, chosen, kind))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_those_of_the_loss_itself(x64):
    """References that are axes: each anchor is its similarities."""
    s = np.tanh(draw(1, 8, 8))
    pairs = label_pairs(LABELS)

    def loss(s):
        options = dict(pairs=pairs, reference=jnp.eye(8), similarity="dot")
        return losses.multi_similarity_loss(s, None, **options).sum()

    np.testing.assert_allclose(
        gpw_weights(s, pairs, kind="multi_similarity"),
        np.abs(jax.grad(loss)(s)),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_edges(kind):
    """Extreme similarities, and what is left out, are finite and 0."""
    s = np.array([[1e30, -1e30, 1e30], [80, -80, np.nan], [-80, 80, 0]], "f4")
    labels, mask = np.array([0, 0, 1]), np.array([True, True, True])
    s[1, 2] = 3
    assert np.isfinite(gpw_weights(s, label_pairs(labels), kind=kind)).all()
    mask[2], s[:, 2], s[2] = False, np.nan, np.nan
    got = np.asarray(gpw_weights(s, label_pairs(labels, mask=mask), kind=kind))
    assert np.isfinite(got).all()
    assert not got[2].any()
    assert not got[:, 2].any()
    none = label_pairs([0, 1, 2], mask=~mask)
    assert not np.asarray(gpw_weights(s, none, kind=kind)).any()


def test_errors():
    s, pairs = jnp.zeros((3, 3)), label_pairs([0, 1, 2])
    with pytest.raises(ValueError, match="kind is 'hinge', expected one of"):
        gpw_weights(s, pairs, kind="hinge")
    with pytest.raises(ValueError, match="alpha is 0, expected above 0"):
        gpw_weights(s, pairs, kind="multi_similarity", alpha=0)
    with pytest.raises(ValueError, match=r"pairs.positive has shape \(2, 2\)"):
        gpw_weights(s, label_pairs([0, 1]), kind="triplet")
