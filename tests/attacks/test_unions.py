import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import attacks, metrics
from logitlab.attacks import Attack

X = np.float32([[0.7, 0.3], [0.2, 0.8], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
Y = np.array([0, 1, 0, 0, 0])  # the fourth is wrong from the start


def logits_fn(x):
    return x


def found(moves, broken=None):
    """Attacks that moved mass from the label to the other class."""
    moves = np.float32(moves)
    inputs = X + moves[:, None] * np.where(Y == 0, [[-1], [-1]], [[1], [1]]).T
    inputs[:, 1] = 1 - inputs[:, 0]
    wrong = inputs.argmax(-1) != Y if broken is None else broken
    return Attack(inputs.astype("f4"), moves, wrong, np.ones(5, bool))


WEAK = found([0.1, 0.1, 0.3, 0.05, 0.0])
STRONG = found([0.3, 0.2, 0.2, 0.0, 0.05])


def union(many, **options):
    """As a function of the inputs alone."""
    return interpreted(lambda x: attacks.strongest(many, logits_fn, x, Y, **options))(X)


def odds(inputs):
    return np.where(Y == 0, 1, -1) * (inputs[:, 1] - inputs[:, 0])


def test_the_worst_of_each():
    for many in ([WEAK, STRONG], jax.tree.map(lambda *a: np.stack(a), WEAK, STRONG)):
        both = union(many)
        want = np.where(
            [[True], [True], [False], [False], [True]], STRONG.inputs, WEAK.inputs
        )
        np.testing.assert_array_equal(both.inputs, want)
        np.testing.assert_array_equal(both.broken, [True, False, False, True, False])
        np.testing.assert_allclose(both.losses, odds(want), 1e-5)
    # The inputs take part: an attack that moved the wrong way is worth nothing.
    alone = union([found([-0.1] * 5, broken=np.zeros(5, bool))])
    np.testing.assert_array_equal(alone.inputs, X)
    np.testing.assert_array_equal(alone.broken, X.argmax(-1) != Y)


def test_flags_are_kept():
    flagged = WEAK._replace(broken=np.array([False] * 4 + [True]))
    more = STRONG._replace(finite=np.array([True, False, True, True, True]))
    both = union([flagged, more])
    np.testing.assert_array_equal(both.broken, [True, False, False, True, True])
    np.testing.assert_array_equal(both.inputs[4], WEAK.inputs[4])
    np.testing.assert_array_equal(both.finite, more.finite)


def test_masks():
    mask = np.array([True, False, True, True, False])
    hidden = WEAK._replace(inputs=np.where(mask[:, None], WEAK.inputs, np.nan))
    both = union([hidden, STRONG], mask=mask)
    np.testing.assert_array_equal(both.inputs[~mask], X[~mask])
    np.testing.assert_array_equal(both.broken, [True, False, False, True, False])
    assert both.losses[1] == 0


def test_union_accuracy():
    broken = jnp.stack([WEAK.broken, STRONG.broken])
    assert float(metrics.union_accuracy(broken)) == np.float32(0.6)
    mask = np.array([True, True, False, False, True])
    got = metrics.union_accuracy(broken, mask=mask)
    assert (int(got.sum), int(got.count)) == (2, 3)
    with pytest.raises(TypeError, match="broken has dtype int"):
        metrics.union_accuracy(broken.astype(int))
    with pytest.raises(ValueError, match=r"broken has shape \(5,\), expected \[K, B\]"):
        metrics.union_accuracy(broken[0])


def test_max_of_attacks():
    x = np.float32([[1, 5, 2], [3, 4, 2]])
    np.testing.assert_array_equal(interpreted(attacks.max_of_attacks)(x), [3, 5, 2])
    slope = interpreted(jax.grad(lambda x: attacks.max_of_attacks(x).sum()))(x)
    np.testing.assert_array_equal(slope, [[0, 1, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match=r"losses has shape \(0, 3\)"):
        attacks.max_of_attacks(x[:0])


def test_errors():
    with pytest.raises(ValueError, match="attacks is empty"):
        attacks.strongest([], logits_fn, X, Y)
    with pytest.raises(
        ValueError, match=r"inputs of shape \(5, 2\), expected .*\(4, 2"
    ):
        attacks.strongest([WEAK], logits_fn, X[:4], Y[:4])
