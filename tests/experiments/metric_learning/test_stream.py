import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.metric_learning import stream


def test_two_classes_come_at_a_time_and_each_image_once():
    y = np.arange(400) % 10
    x = jnp.arange(400.0)[:, None]
    parts = stream.divided(jax.random.key(1), x, y, per_class=30, batch_size=20)
    train, test = (
        {k: np.asarray(a) for k, a in parts[name].items()} for name in ("train", "test")
    )
    assert train["x"].shape == (20, 15, 1)
    for step in range(15):
        task = step // 3
        assert set(train["y"][:, step]) <= {2 * task, 2 * task + 1}
    seen = np.concatenate([train["x"].ravel(), test["x"].ravel()])
    assert sorted(seen) == list(range(400))
    assert np.bincount(train["y"].ravel()).tolist() == [30] * 10
    assert np.bincount(test["y"]).tolist() == [10] * 10
    pairs = {(int(a) % 10, int(b)) for a, b in zip(
        train["x"].ravel(), train["y"].ravel(), strict=True)}  # fmt: skip
    assert len(pairs) == 10  # digits are renamed one to one
    assert [a for a, _ in sorted(pairs, key=lambda p: p[1])] != list(range(10))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("per_class", 174, "config.per_class is 174, expected 1 to 173"),
        ("batch_size", 7, "config.batch_size is 7"),
        ("memories", (), "config.memories is"),
        ("memories", (9, 20), "config.memories is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("metric_learning:stream", key, value, message)


def test_a_method_that_there_is_not(refused):
    refused("metric_learning:stream", "learning_rates", {"ewc": 0.1}, "ewc")


def test_end_to_end(run_study):
    done = run_study("metric_learning:stream")
    assert done.figures == ["accuracy", "bias"]
    for arm in done.results.values():
        assert ((arm.final("bias") >= 0) & (arm.final("bias") <= 1)).all()
    memory = done.results["uer_10"].arrays["memory"]
    assert (np.asarray(memory["seen"]) == 50).all()  # every example went by
