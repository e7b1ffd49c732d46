import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from scipy.special import logsumexp

from logitlab import attacks
from logitlab.attacks import policies

calls = functions(policies)


def test_by_hand():
    z = calls.bifurcate(np.float32([0.3, 0.0]))
    np.testing.assert_allclose(z, [[-0.3, 0.3], [0, 0]], 1e-6)
    got = calls.group_difference_logits(z, np.arange(2), np.array([1, 1]))
    np.testing.assert_allclose(got, [-0.6, 0], 1e-6)
    z = calls.bifurcate(np.float64([[2.0]]), threshold=0.5, scale=3.0)
    np.testing.assert_allclose(z, [[[-4.5, 4.5]]], 1e-6)
    z = calls.bifurcate(np.float32(1e30), scale=2.0)
    np.testing.assert_array_equal(z, np.float32([-2e30, 2e30]))


@pytest.mark.parametrize("aggregate", ["max", "logsumexp", "mean"])
def test_groups(x64, aggregate):
    z, ids = np.random.default_rng(0).normal(size=(4, 6)), np.array([0, 1, 2, 0, 1, 1])
    source = np.array([0, 1, 2, 1])
    how = {"max": np.max, "logsumexp": logsumexp, "mean": np.mean}[aggregate]
    want = [how(r[ids != g]) - how(r[ids == g]) for r, g in zip(z, source, strict=True)]
    kind = dict(aggregate=aggregate)
    got = calls.group_difference_logits(z, ids, source, **kind)
    np.testing.assert_allclose(got, want, 1e-12)
    where = np.array([True, True, True, True, False, True])
    got = calls.group_difference_logits(z.T, ids, source, axis=0, **kind)
    np.testing.assert_allclose(got, want, 1e-12)
    hidden = np.where(where, z, np.nan)
    got = calls.group_difference_logits(hidden, ids, source, where=where[None], **kind)
    want = calls.group_difference_logits(z[:, where], ids[where], source, **kind)
    np.testing.assert_allclose(got, want, 1e-12)
    nowhere = calls.group_difference_logits(z, ids, source + 3, **kind)
    assert (nowhere == np.inf).all()


def test_a_policy_is_driven_over_its_threshold(x64):
    states, weights = np.array([[0.6, 0.3], [0.1, 0.2]]), np.array([1.0, -1.0])

    def logits_fn(states):
        return attacks.bifurcate(states @ weights)

    labels, ids = np.array([1, 0]), np.arange(2)

    @interpreted
    def attack(states):
        return attacks.pgd(
            logits_fn,
            states,
            labels,
            loss=lambda z, y: attacks.group_difference_logits(z, ids, y),
            eps=np.array([0.1, 0.2]),
            steps=3,
            bounds=None,
        )

    found = attack(states)
    np.testing.assert_array_equal(found.broken, [False, True])
    # 2 (theta - a) on the side of the clean decision, at the corner of the ball.
    np.testing.assert_allclose(found.losses, [-0.2, 0.6], 1e-12)


def test_errors():
    z, ids, source = np.zeros((2, 3), "f4"), np.arange(3), np.zeros(2, int)
    for call, message in [
        (lambda: attacks.bifurcate(z, scale=0), "scale is 0, expected above 0"),
        (
            lambda: attacks.group_difference_logits(z, ids, source, aggregate="min"),
            "aggregate is 'min', expected 'max', 'logsumexp' or 'mean'",
        ),
        (
            lambda: attacks.group_difference_logits(z, ids[:2], source),
            r"group_ids has shape \(2,\), expected \(3,\)",
        ),
        (
            lambda: attacks.group_difference_logits(z, ids, 0),
            r"source_group has shape \(\), expected \(2,\)",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
