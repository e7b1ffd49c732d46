"""Features, caps and logits of one program: compilers may compute a logit twice.

The two differ in their last digits, so that no rule may rest on a top that is equal to
itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import heads, links, metrics
from logitlab.links import factored

pytestmark = pytest.mark.optimized
N = 16


def layer_norm(x, g, b):
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) * jax.lax.rsqrt(v + 1e-6) * g[None] + b[None]


PRODUCERS = {
    "layer norm": layer_norm,
    "centred": lambda x, g, b: (x - x.mean(-1, keepdims=True)) * 8 + b[None],
    "cap": lambda x, g, b: 60 * jnp.tanh(x * g[None] / 60) + b[None],
}
TRANSFORMS = {"none": None, "cap": lambda z: 90 * jnp.tanh(z / 90) + 0.1 * z}


def draw(classes):
    """Rows whose label leads by more and more, up to about 80."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, classes)).astype("f4"), rng.integers(0, classes, N)
    x[np.arange(N), y] += np.linspace(2, 9.5, N)
    g = rng.uniform(5, 7, classes).astype("f4")
    return x, y, g, rng.normal(size=classes).astype("f4")


@pytest.mark.sampled
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("classes", [100, 10])
def test_streamed_statistics(producer, transform, classes):
    x, y, g, b = draw(classes)
    eye, bias = np.eye(classes, dtype="f4"), b[::-1].copy()
    make, change = PRODUCERS[producer], TRANSFORMS[transform]

    def stats(x, chunk):
        out = heads.linear_label_stats(
            make(x, g, b), eye, y, bias=bias, transform=change, vocab_chunk=chunk
        )
        return -out.log_prob, out.entropy

    def both(x, chunk=None):
        values, pull = jax.vjp(lambda x: stats(x, chunk), x)
        one, zero = jnp.ones(N, x.dtype), jnp.zeros(N, x.dtype)
        return (*values, *pull((one, zero)), *pull((zero, one)))

    with jax.enable_x64(True):  # of the same float32 numbers
        wide = [a.astype("f8") for a in (g, b, bias)]
        z, entropy, *slopes = _oracle(x, y, make, change, wide)
        gap = np.where(
            np.arange(classes) == y[:, None], -np.inf, z - z[np.arange(N), y][:, None]
        )
        want = np.log1p(np.exp(gap).sum(-1))
        assert want.min() < 1e-7
    for chunk in (None, classes // 3):
        got = jax.jit(both, static_argnums=1)(x, chunk)
        # The logits' own rounding, 4e-6 at 80, is an error in the exponent.
        for a, b_ in zip(got, (want, entropy, *slopes), strict=True):
            a = np.asarray(a, "f8")
            scale = np.abs(b_) if b_.ndim == 1 else np.abs(b_).max(-1, keepdims=True)
            assert (np.abs(a - b_) <= 5e-5 * scale).all(), np.abs(a - b_) / scale


def _oracle(x, y, make, change, wide):
    """Logits, entropies, and the slopes of losses and entropies, in float64."""
    g, b, bias = wide

    def logits(x):
        z = make(x, g, b) + bias[None]
        return z if change is None else change(z)

    def values(x):
        z = logits(x)
        classes = z.shape[-1]
        label = jnp.arange(classes)[None] == y[:, None]
        top = z[jnp.arange(N), y][:, None]
        d = jnp.where(label, 0, z - top)  # every label leads
        e = jnp.where(label, 0, jnp.exp(d))
        total = jnp.log1p(e.sum(-1))
        return total, total - (e * d).sum(-1) / (1 + e.sum(-1))

    @interpreted
    def run(x):
        (_, entropy), pull = jax.vjp(values, x)
        one, zero = jnp.ones(N), jnp.zeros(N)
        return logits(x), entropy, *pull((one, zero)), *pull((zero, one))

    return run(x.astype("f8"))


def test_links_and_metrics():
    x, y, g, b = draw(10)
    logits = lambda x: layer_norm(x, g, b)  # noqa: E731
    z = interpreted(logits)(x)
    for alpha in (1.2, 1.5, 2.0):
        sparse = lambda x, a=alpha: links.entmax(logits(x) / 30, alpha=a)  # noqa: E731
        with jax.enable_x64(True):
            want = interpreted(sparse)(x.astype("f8"))
        np.testing.assert_allclose(jnp.exp(jax.jit(sparse)(x)), np.exp(want), atol=2e-6)
    np.testing.assert_array_equal(
        jax.jit(lambda x: metrics.rank_error(logits(x), y))(x), np.zeros(N)
    )
    np.testing.assert_array_equal(
        jax.jit(lambda x: metrics.softmax_collapse_rows(logits(x)))(x),
        interpreted(metrics.softmax_collapse_rows)(z),
    )


@pytest.mark.parametrize("classes", [10])
def test_sums_of_factors(classes):
    """From log-probabilities that are the exact ones of the same program."""
    x, _, g, b = draw(classes)

    def log_p(x):
        z = layer_norm(x, g, b)
        lead = jnp.argmax(z, -1)[:, None] == jnp.arange(classes)[None]
        d = jnp.where(lead, 0, z - z.max(-1, keepdims=True))
        return d - jnp.log1p(jnp.where(lead, 0, jnp.exp(d)).sum(-1, keepdims=True))

    def both(x):
        return factored._sum_log_probs(jnp.stack([log_p(x), log_p(x[:, ::-1])]))

    with jax.enable_x64(True):
        g, b = g.astype("f8"), b.astype("f8")
        want = interpreted(both)(x.astype("f8"))
    g, b = g.astype("f4"), b.astype("f4")
    np.testing.assert_allclose(jax.jit(both)(x), want, rtol=2e-5)
