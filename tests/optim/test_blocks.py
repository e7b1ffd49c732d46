import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import optim

RULES = ("random", "cyclic", "gs", "gsl", "gsd", "gsq")


def quadratic(seed=0, size=12):
    """A function with scales from 0.1 to 10 and its minimum."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size)) * np.geomspace(0.1, 10, size)[:, None]
    h, b = root @ root.T + 0.1 * np.eye(size), rng.normal(size=size)
    return h, b, lambda x: x @ h @ x / 2 - b @ x


@pytest.mark.sampled(4)
@pytest.mark.parametrize("update", ["gradient", "matrix"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.usefixtures("x64")
def test_progress_is_what_is_guaranteed(rule, update):
    h, b, value = quadratic()
    found = interpreted(
        functools.partial(
            optim.bcd_minimize,
            lambda x: h @ x - b,
            rule=rule,
            update=update,
            blocks=np.arange(12).reshape(4, 3),
            iters=30,
            key=jax.random.key(0),
            value_fn=value,
        )
    )(h, np.zeros(12))
    assert found.values.shape == (31,)
    falls = -np.diff(found.values)
    assert (falls >= found.progress - 1e-9 * np.abs(found.values[1:])).all()
    assert (found.progress >= 0).all()
    if update == "matrix":  # of a quadratic function the guarantee is exact
        np.testing.assert_allclose(falls, found.progress, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(value(found.x), found.values[-1])


@pytest.mark.usefixtures("x64")
def test_rules_choose_as_their_scores_say():
    h, b, _ = quadratic()
    blocks = np.arange(12).reshape(4, 3)
    g = b.reshape(4, 3)
    tops = np.array([np.linalg.eigvalsh(h[np.ix_(i, i)])[-1] for i in blocks])
    inverses = [np.linalg.inv(h[np.ix_(i, i)]) for i in blocks]
    scores = {
        "gs": np.linalg.norm(g, axis=1),
        "gsl": np.linalg.norm(g, axis=1) / np.sqrt(tops),
        "gsd": (g**2 / np.diag(h).reshape(4, 3)).sum(1),
        "gsq": [v @ m @ v for v, m in zip(g, inverses, strict=True)],
    }
    for rule, score in scores.items():
        found = interpreted(
            lambda h, rule=rule: optim.bcd_minimize(
                *(lambda x: h @ x - b, h, np.zeros(12)),
                rule=rule,
                blocks=blocks,
                iters=1,
            )
        )(h)
        assert found.blocks[0] == np.argmax(score), rule


def test_ties_and_blocks_that_are_constant():
    h = jnp.diag(jnp.float32([0, 1, 1]))
    run = functools.partial(
        optim.bcd_minimize,
        *(lambda x: h @ x - jnp.float32([9, 1, 1]), h, jnp.zeros(3)),
        blocks=jnp.array([[0], [1], [2]]),
        iters=3,
    )
    for rule in ("gs", "gsl", "gsq"):
        for update in ("gradient", "matrix"):
            found = interpreted(lambda r=rule, u=update: run(rule=r, update=u))()
            assert found.blocks[:2].tolist() == [1, 2]
            np.testing.assert_allclose(found.x, [0, 1, 1], rtol=1e-6)
            assert found.values.shape == (0,)


@pytest.mark.usefixtures("x64")
def test_a_forest_is_solved_as_a_dense_system():
    rng = np.random.default_rng(0)
    for many, trees in ((1, 1), (2, 2), (30, 1), (40, 3)):
        parents = [rng.integers(0, v) for v in range(trees, many)]
        names = rng.permutation(many)
        edges = np.stack([np.arange(trees, many), parents], 1).astype(int)
        edges = names[edges]
        off = rng.normal(size=len(edges))
        a = np.zeros((many, many))
        a[edges[:, 0], edges[:, 1]] = a[edges[:, 1], edges[:, 0]] = off
        diag = np.abs(a).sum(0) + 0.1 + rng.random(many)
        rhs = rng.normal(size=many)
        got = interpreted(functools.partial(optim.tree_solve, edges))(diag, off, rhs)
        np.testing.assert_allclose(
            got, np.linalg.solve(a + np.diag(diag), rhs), rtol=1e-10, atol=1e-12
        )


def test_errors():
    one, h = np.ones(2, "f4"), np.eye(2, dtype="f4")
    call = functools.partial(optim.bcd_minimize, lambda x: x, h, one, iters=1)
    for options, message in (
        (dict(blocks=[[2]]), "blocks reach 2"),
        (dict(blocks=[0, 1]), r"expected ints \[K, S\]"),
        (dict(blocks=[[0]], rule="greedy"), "rule is 'greedy'"),
        (dict(blocks=[[0]], update="newton"), "update is 'newton'"),
        (dict(blocks=[[0]], rule="random"), "key is None"),
    ):
        with pytest.raises(ValueError, match=message):
            call(**options)
    with pytest.raises(ValueError, match="hess_bound"):
        optim.bcd_minimize(lambda x: x, one, one, blocks=[[0]], iters=1)
    with pytest.raises(ValueError, match="edges close a cycle"):
        optim.tree_solve([[0, 1], [1, 2], [2, 0]], np.ones(3), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="edges reach 5"):
        optim.tree_solve([[0, 5]], np.ones(2), np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match="for 1 edges"):
        optim.tree_solve([[0, 1]], np.ones(2), np.ones(2), np.ones(2))
