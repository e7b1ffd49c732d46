import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.evaluation import selection

POOL = ConfigDict(dict(size=200, duplicates=0.3, originals=5, noise=0.1, held_out=40))


def test_lines_of_a_text():
    lines = selection.text_lines(10, 33)
    assert lines.shape[1] == 33
    assert lines.min() >= 0
    assert lines.max() < selection.VOCABULARY
    assert len(np.unique(lines, axis=0)) == len(lines)
    assert (lines[:, 0] > 0).all()  # no indentation


def test_what_a_pool_is_made_of():
    text = selection.text_lines(10, 33)
    got = selection.draw(jax.random.key(3), text, POOL)
    assert np.bincount(got.kinds).tolist() == [120, 60, 20]
    plain, alike, noise = (got.pool[got.kinds == kind] for kind in range(3))
    known = {line.tobytes() for line in text[: len(text) * 4 // 5]}
    assert {line.tobytes() for line in plain} <= known
    assert not {line.tobytes() for line in got.held_out} & known
    assert not {line.tobytes() for line in noise} & known
    apart = (alike[:, None] != alike[None]).sum(-1)
    assert ((apart <= 2).sum(1) > 2).all()  # each is close to others
    again = selection.draw(jax.random.key(3), text, POOL)
    np.testing.assert_array_equal(got.pool, again.pool)


def test_a_text_that_is_too_short():
    with pytest.raises(ValueError, match="too few"):
        selection.draw(jax.random.key(0), selection.text_lines(10, 33)[:100], POOL)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("after", (2, 1), "config.after is"),
        ("keep", 32, "config.keep is 32"),
        ("pool.noise", 0.7, "config.pool.noise 0.7"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:selection", key, value, message)


@pytest.mark.slow  # one program for each selection takes long to compile
def test_end_to_end(run_study):
    done = run_study("evaluation:selection")
    assert done.figures == ["loss", "shares"]
    for name, arm in done.results.items():
        assert (arm["loss/4"] < arm["loss/2"]).all(), name  # it learns
        assert (arm["duplicates"] + arm["noise"] <= 1).all()
    whole = done.results["all"]
    assert (np.abs(whole["duplicates"] - 0.3) < 0.2).all()
