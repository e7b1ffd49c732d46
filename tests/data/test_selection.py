import jax
import numpy as np
import pytest
from harness import goldens
from harness.quickly import quick_jit

from logitlab import data


def state_of(case):
    keys = "sign_vocab", "index_vocab", "sign_time", "index_time"
    projection = data.Projection(*goldens.arrays(case, *keys))
    memory = goldens.arrays(case, "memory")[0]
    dim = case["params"]["r_time"] * case["params"]["r_vocab"]
    buffer = data.buffer_init(max(len(memory), 1) + 3, dim)
    if len(memory):
        buffer = data.buffer_push(buffer, memory)
    return data.UdsState(projection, buffer)


@pytest.mark.parametrize("case", goldens.cases("uds"))
def test_golden(x64, case):
    (x,), params, want = goldens.arrays(case, "logits"), case["params"], case["outputs"]
    state = state_of(case)

    @quick_jit
    def run(x, state):
        rows = data.project_logits(x, state.projection)
        return (
            rows,
            data.buffer_mean_distance(state.buffer, rows),
            data.uds_select(x, state, k=params["k"], alpha=params["alpha"]),
        )

    rows, diversity, found = run(x, state)
    # The original code computes in float32.
    goldens.close(rows, want["projection"], 1e-6)
    goldens.close(diversity, want["diversity"], 1e-6)
    goldens.close(found.scores, want["score"], 1e-6)
    assert sorted(found.indices.tolist()) == want["selected_sorted"]
    # NumPy's own transform is exact.
    vocab, time = state.projection[:2], state.projection[2:]
    v, t = x.shape[-1], x.shape[-2]
    a = np.fft.fft(x * vocab[0], axis=-1).real[..., vocab[1].astype(int)]
    b = np.fft.fft(a * time[0][:, None], axis=-2).real[:, time[1].astype(int)]
    exact = b * np.sqrt(v / params["r_vocab"]) * np.sqrt(t / params["r_time"])
    goldens.close(rows, exact.reshape(len(x), -1), 1e-12)
    # The selected ones, and no others, are remembered.
    old, new = state.buffer, found.state.buffer
    assert new.size == old.size + params["k"]
    kept = np.asarray(new.rows)[int(old.size) : int(new.size)]
    np.testing.assert_array_equal(kept, np.asarray(rows)[np.asarray(found.indices)])


def test_projection_keeps_norms_on_average():
    x = np.random.default_rng(0).normal(size=(3, 6, 10)).astype("f4")

    @quick_jit
    def run(keys):
        def one(key):
            projection = data.init_projection(key, 8, 10, time_samples=4)
            return data.project_logits(x, projection, normalize=True)

        return jax.vmap(one)(keys)

    rows = np.asarray(run(jax.random.split(jax.random.key(0), 400)))
    assert rows.shape == (400, 3, 4 * 128)
    # A squared cosine is 1/2 on average, but 1 at the first place and half way.
    tokens = np.where(np.arange(10) % 5 == 0, 2, 1)
    times = np.where(np.arange(6) % 4 == 0, 2, 1)[:, None]
    want = (x**2 * tokens * times).sum((1, 2))
    np.testing.assert_allclose((rows**2).sum(-1).mean(0), want, rtol=0.1)


def test_masked_positions_do_not_count(x64):
    x = np.random.default_rng(1).normal(size=(3, 6, 7))
    mask = np.arange(6)[None] < np.array([[6], [4], [2]])
    hidden = np.where(mask[..., None], x, np.nan)
    zeros = np.where(mask[..., None], x, 0)
    projection = data.init_projection(jax.random.key(0), 9, 7, vocab_samples=5)
    state = data.UdsState(projection, data.buffer_init(4, 8 * 5))
    run = quick_jit(data.uds_select, static_argnames="k")
    got = run(hidden, state, k=2, mask=mask, alpha=1.0)
    want = run(zeros, state, k=2, alpha=1.0)
    np.testing.assert_allclose(got.scores, want.scores, 1e-10)
    norms = [np.linalg.svd(a, compute_uv=False).sum() for a in zeros]
    np.testing.assert_allclose(got.scores, norms, 1e-10)  # an empty buffer is near all
    slope = jax.grad(lambda x: data.uds_select(x, state, k=1).scores.sum())(x)
    assert (slope == 0).all()


def test_slope_of_the_projection(x64):
    """It is linear: the reverse mode is its transpose."""
    x, d = np.random.default_rng(3).normal(size=(2, 5, 7))
    projection = data.init_projection(jax.random.key(1), 9, 7, vocab_samples=5)
    v = np.random.default_rng(4).normal(size=projection.time_indices.size * 5)

    @quick_jit
    def run(x, d):
        value, pull = jax.vjp(lambda x: data.project_logits(x, projection), x)
        return value @ v, pull(v)[0], data.project_logits(d, projection) @ v

    value, slope, along = run(x, d)
    np.testing.assert_allclose(np.vdot(slope, x), value, 1e-10)
    np.testing.assert_allclose(np.vdot(slope, d), along, 1e-10)


def test_buffer_is_first_in_first_out():
    def rows(*values):
        return np.float32(values)[:, None]

    push = quick_jit(lambda buffer, rows: data.buffer_push(buffer, rows))
    buffer = data.buffer_init(3, 1)
    assert data.buffer_mean_distance(buffer, rows(7)) == 0
    for values, held in (((1, 2), {1, 2}), ((3, 4), {2, 3, 4}), ((5, 6, 7), {5, 6, 7})):
        buffer = push(buffer, rows(*values))
        assert set(np.asarray(buffer.rows)[: int(buffer.size), 0]) == held
    want = np.abs(np.array([5, 6, 7]) - 4).mean()
    np.testing.assert_allclose(data.buffer_mean_distance(buffer, rows(4)), want)
    mask = np.array([True, False])
    kept = data.buffer_push(data.buffer_init(3, 1), rows(1, np.nan), mask=mask)
    assert kept.size == 1
    assert np.asarray(kept.rows).ravel().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: data.init_projection(None, 0, 3),
            "length is 0, expected at least 1",
        ),
        (lambda s: data.buffer_init(0, 3), "size is 0, expected at least 1"),
        (lambda s: data.buffer_push(s.buffer, np.zeros((3, 4))), "rows has shape"),
        (lambda s: data.buffer_push(s.buffer, np.zeros((1, 5))), "rows has shape"),
        (lambda s: data.buffer_mean_distance(s.buffer, np.zeros(4)), "rows has shape"),
        (
            lambda s: data.project_logits(np.zeros((7, 3), "f4"), s.projection),
            r"logits has shape \(7, 3\), expected \[..., up to 6, 3\]",
        ),
        (
            lambda s: data.uds_select(np.zeros((5, 6, 3), "f4"), s, k=3),
            r"k is 3, expected in \[1, 2\]",
        ),
        (lambda s: data.uds_select(np.zeros((6, 3), "f4"), s, k=1), "logits has shape"),
    ],
)
def test_bad_arguments(call, message):
    projection = data.init_projection(
        jax.random.key(0), 6, 3, time_samples=2, vocab_samples=2
    )
    with pytest.raises(ValueError, match=message):
        call(data.UdsState(projection, data.buffer_init(2, 4)))
