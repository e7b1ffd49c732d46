import jax
import numpy as np
from harness.interpreter import interpreted

from configs.decisions import get_config
from experiments.decisions import transfer

LINE = 1 - np.abs(np.arange(9)[:, None] - np.arange(9)[None]) / 10


def test_tasks_at_equal_distances():
    assert transfer.equidistant(50, 1).tolist() == [24]
    assert transfer.equidistant(9, 3).tolist() == [1, 4, 7]
    for k in range(1, 11):
        assert len(set(transfer.equidistant(50, k).tolist())) == k


def test_performance_is_of_the_best_so_far():
    orders = np.array([[4, 0, 8], [0, 4, 8]])
    means = LINE.mean(1)
    got = transfer.after("random", LINE, 0.1, 3, orders)
    np.testing.assert_allclose(got[0], (means[4] + means[0]) / 2)
    np.testing.assert_allclose(got[2], LINE[[0, 4, 8]].max(0).mean())
    assert transfer.greedy(LINE, 1) == means.max()
    np.testing.assert_allclose(
        transfer.after("equidistant", LINE, 0.1, 3, orders)[2],
        LINE[[1, 4, 7]].max(0).mean(),
    )
    chosen = transfer.after("mbtl", LINE, 0.1, 3, orders)
    assert (np.diff(chosen) >= 0).all()
    assert (chosen <= transfer.greedy(LINE, 3) + 0.02).all()


def test_drawn_performances_are_best_at_home():
    config = get_config("transfer-smoke")
    got = interpreted(lambda key: transfer.drawn(config, 0.05, key))(jax.random.key(0))
    assert got.shape == (6, 6)
    assert (got.argmax(1) == np.arange(6)).all()
    drop = np.diagonal(got)[:, None] - got
    apart = np.abs(np.arange(6)[:, None] - np.arange(6)[None])
    assert (
        (drop >= 0.05 * 0.7 * apart - 1e-6) & (drop <= 0.05 * 1.3 * apart + 1e-6)
    ).all()


def test_images_turn_about_their_middle():
    x = np.arange(16, dtype="f4")[None]
    quarter = interpreted(transfer.turn)(x, np.float32(90))
    image = quarter.reshape(4, 4)
    rotations = [np.rot90(x.reshape(4, 4), k) for k in (1, 3)]
    assert any(np.allclose(image, r, atol=1e-3) for r in rotations)
    np.testing.assert_allclose(
        interpreted(transfer.turn)(x, np.float32(0)), x, atol=1e-4
    )


def test_bad_configs_are_refused(refused):
    name = "decisions:transfer"
    refused(name, "steps", 51, "config.steps is 51, expected 1 to config.tasks, 50")
    refused(name, "digits.rows", 900, "config.digits.rows is 900, expected 1 to half")
    refused(name, "draws", 0, "config.draws is 0, expected at least 1")


def test_end_to_end(run_study):
    done = run_study("decisions:transfer", seeds=1)
    assert done.figures == ["transfer_0_01", "transfer_digits"]
    best = done.results["oracle"].final("0.01/1")
    for arm in done.results.values():
        assert (arm.final("0.01/1") <= best + 1e-9).all()
