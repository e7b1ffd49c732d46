"""Interpreted programs give what compiled ones give, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from harness.interpreter import interpreted

Z = np.float32([[0.5, -1.5, 3.0, 0.25], [-0.75, 2.0, 0.0, 1.0], [7.5, 0.1, -0.2, 0.3]])
SPECIAL = np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 3e38, 1e-37])


def arithmetic(z, y):
    p = abs(z) + 0.5
    return [
        [f(z) for f in (jnp.exp, jnp.expm1, jnp.tanh, jnp.sin, jnp.cos, lax.logistic)],
        [f(p) for f in (jnp.log, jnp.log1p, jnp.sqrt, lax.rsqrt, jnp.square)],
        [
            f(z)
            for f in (jnp.floor, jnp.ceil, jnp.sign, jnp.isfinite, lax.erf, lax.erfc)
        ],
        [p**z, z**3, z**-2, 1 / p, z % 0.7, -z, z - p, z > p, z != p, y // 2, -y % 3],
        [jnp.clip(z, -1, 1), lax.clamp(-1.0, z, 1.0), jnp.where(z > 0, z, p)],
        [~(z > 0) & (z < 1) | (z >= 2) | (z <= -2), y & 1, lax.div(-y, jnp.array(2))],
        [
            lax.select_n(y[1, 0], z, p, 2 * p, 3 * z),
            (z * 3).astype(int),
            z.astype(jnp.bfloat16) * 3,
        ],
        [f(p) for f in (lax.lgamma, lax.digamma)],
        [lax.erf_inv(z / 8), lax.rem(z, p), lax.rem(-y, jnp.array(2)), y ^ 5, y << 2],
        [jnp.round(2 * z), lax.round(2 * z), lax.shift_right_logical(-y, 3)],
        lax.bitcast_convert_type(z, jnp.uint32 if z.dtype == "f4" else jnp.uint64),
    ]


def shapes(z, y):
    return [
        [f(z, axis=-1) for f in (jnp.sum, jnp.max, jnp.min, jnp.argmax, jnp.sort)],
        [f(z, axis=0) for f in (jnp.cumsum, jnp.cumprod, lax.cummax, lax.cummin)],
        [lax.cumlogsumexp(z, 1, reverse=True), lax.cumsum(z, 1, reverse=True)],
        [f(z > 0, axis=1) for f in (jnp.any, jnp.all, jnp.sum, jnp.max)],
        [f(y) for f in (jnp.max, jnp.min, jnp.sum)],
        [z.T, z.reshape(2, 6), z[:, None], z[1:, ::2], z[:, ::-1], jnp.split(z, 2, 1)],
        [jnp.concatenate([z, z], 1), jnp.pad(z, 1), z @ z.T, lax.top_k(z, 2)],
        [
            lax.pad(z, z[0, 0], [(2, -1, 1), (-1, 0, 2)]),
            lax.pad(z, 0.0, [(0, 0, 0)] * 2),
            lax.pad(z[:0], 0.0, [(2, -1, 1), (0, 0, 0)]),
        ],
        [jnp.take_along_axis(z, y, 1), z.at[0].add(1), jnp.arange(5.0), jnp.eye(3)],
    ]


def indexing(z, y):
    rows, far = jnp.array([2, 0, 2]), jnp.array([1, 7, -9])
    pick = jax.vmap(lambda row, i: row[i])
    modes = "clip", "fill", "promise_in_bounds"
    return [
        [z.at[:, y[:, 0]].get(mode=mode) for mode in modes],
        [z.at[far].get(mode=mode) for mode in ("clip", "fill")],
        [
            z[rows],
            z[rows, y[:, 0]],
            z[:, rows],
            z[0, 1],
            pick(z, y),
            z[rows][:, None, rows],
        ],
        [z.at[rows].add(1), z.at[rows, y[:, 0]].max(2), z.at[:, rows].mul(3)],
        [z.at[far].set(z, mode=mode) for mode in ("clip", "drop")],
        [jnp.take_along_axis(z, i, 1) for i in (y, far[:, None])],
        [jnp.take_along_axis(z[:0], y[:0], 1)],
        [z[:0].at[rows].add(1, mode="drop"), z.at[rows[:0]].add(1)],
        [jax.grad(lambda z: (jnp.take_along_axis(z, y, 1) ** 3).sum())(z)],
        [jax.vmap(lambda a, i: a.at[i].min(-5))(z, y), y[far], jnp.argsort(-z, 0)],
        [lax.dynamic_slice(z, (y[0, 0], 9), (2, 2)), lax.sort((z > 0, z), num_keys=2)],
        [lax.dynamic_update_slice(z, z[:1, :2], (y[1, 0], y[0, 0]))],
        [
            jax.ops.segment_sum(z, rows, 3),
            jax.ops.segment_max(z, rows, 4),
            jnp.argmin(z, 1),
        ],
    ]


def control(z, y):
    def body(carry, row):
        return carry + row.sum(), (carry, row * carry)

    return [
        lax.scan(body, 1.0, z),
        lax.scan(body, 1.0, z, reverse=True),
        lax.scan(body, 1.0, z[:0]),
        lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * z), (0, z)),
        [lax.switch(i, [jnp.sin, jnp.cos, jnp.tanh], z) for i in range(3)],
        lax.switch(y[0, 0] + 7, [jnp.sin, jnp.cos, jnp.tanh], z),
        jax.grad(lambda z: jax.checkpoint(jax.nn.softplus)(z).sum())(z),
        jax.grad(lambda z: lax.map(jax.nn.logsumexp, z).sum())(z),
        jax.hessian(lambda z: jax.nn.logsumexp(z))(z[0]),
        jax.jvp(lambda z: jnp.prod(z, -1), (z,), (1 + z,)),
        lax.reshape(z, (2, 6), (1, 0)),
        lax.platform_dependent(z, tpu=jnp.sin, cpu=jnp.cos, default=jnp.tanh),
        lax.platform_dependent(z, tpu=jnp.sin, default=jnp.tanh),
    ]


def randomness(key):
    first, second = jax.random.split(key)
    many = jax.vmap(lambda key: jax.random.bits(key, (2, 3), "uint8"))
    return [
        jax.random.normal(first, (3,)),
        jax.random.permutation(second, 5),
        jax.random.bits(first, (2, 5)),
        jax.random.gumbel(second),
        many(jax.random.split(first, 2)),
        second,
    ]


@pytest.mark.parametrize("function", [arithmetic, shapes, indexing, control])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_interpreting_is_compiling(function, dtype):
    with jax.enable_x64(dtype == "f8"):
        arguments = Z.astype(dtype), np.array([[0], [3], [1]])
        got = jax.tree.leaves(interpreted(function)(*arguments))
        want = jax.tree.leaves(jax.jit(function)(*arguments))
        for a, b in zip(got, want, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            a, b = np.asarray(a, "f8"), np.asarray(b, "f8")
            tiny = 1e-12 if dtype == "f8" else 1e-6
            np.testing.assert_allclose(a, b, rtol=tiny, atol=tiny)


def test_extremes():
    def run(a):
        a, b = a[None], a[:, None]
        pairs = [f(a, b) for f in (jnp.add, jnp.multiply, jnp.maximum, lax.pow)]
        ones = [f(a) for f in (jnp.exp, jnp.log1p, jnp.expm1, lax.logistic, jnp.sign)]
        sums = [f(a) for f in (jnp.sum, jnp.max, jnp.min, lax.cummax)]
        return pairs, ones, sums, a[:0].sum(), a[:0].max(initial=0)

    got, want = (jax.tree.leaves(f(run)(SPECIAL)) for f in (interpreted, jax.jit))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_keys_stay_keys(kind):
    key = jax.random.key(0, impl=kind)
    *got, again = interpreted(randomness)(key)
    *want, second = jax.jit(randomness)(key)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert again == second
