import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.federated import get_config
from experiments.common import studies
from experiments.common.ranks import rank_correlation
from experiments.federated import _clients as clients
from experiments.federated import skew, tails

LABELS = jnp.arange(400) % 10


def test_clients_hold_what_they_were_dealt():
    key, sizes = jax.random.key(0), (3, 20, 30)
    mixtures = np.zeros((3, 10), "f4")
    mixtures[0, 4] = mixtures[1, 7] = 1
    mixtures[2, :2] = 0.5
    rows, kept = clients.deal(key, LABELS, jnp.array(mixtures), sizes)
    np.testing.assert_array_equal(kept.sum(1), sizes)
    assert all(
        len({*r[k].tolist()}) == k.sum() for r, k in zip(rows, kept, strict=True)
    )
    counts = np.asarray(clients.counts_of(LABELS[rows], kept))
    assert (counts[0, 4], counts[1, 7], counts[2, 2:].sum()) == (3, 20, 0)
    # A class has 40 rows, and no client gets another's in their place.
    kept = clients.deal(key, LABELS, jnp.array(mixtures), (3, 60, 30))[1]
    np.testing.assert_array_equal(kept.sum(1), [3, 40, 30])


def test_mixtures_follow_the_prior_and_the_concentration():
    prior = jnp.arange(1, 11) / 55
    few, many = (
        clients.dirichlet_mixtures(jax.random.key(0), 2000, prior, c)
        for c in (0.1, 100)
    )
    np.testing.assert_allclose(few.mean(0), prior, atol=0.02)
    np.testing.assert_allclose(many, prior[None] + jnp.zeros_like(many), atol=0.1)
    assert few.max(1).mean() > 0.6


def test_conflicts_and_ranks():
    updates = {
        "a": jnp.float32([[1.0], [1], [-1]]),
        "b": jnp.float32([[0], [0.5], [0]]),
    }
    total, pairs = interpreted(skew.conflicting)(updates)
    assert (total, pairs) == (2, 3)
    a, b = jnp.float32([3, 1, 2, 2]), jnp.float32([30, 5, 10, 10])
    np.testing.assert_allclose(rank_correlation(a, b), 1, rtol=1e-6)
    np.testing.assert_allclose(rank_correlation(a, -b), -1, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skew", "skew_cancer", "tails", "exploration"])
def test_end_to_end(run_study, name):
    done = run_study(f"federated:{name}", seeds=1)
    assert all(np.isfinite(v.ours).all() for v in done.verdicts.values())
    if name == "exploration":
        same = done.verdicts["guidance of ones is FedAvg, bit for bit"]
        assert same.verdict == "reproduced"


def test_personal_heads_stay_and_the_rest_is_the_servers(first_step):
    config = get_config("tails-smoke")
    config.local_steps = 1  # so that a step is a round
    state, loss, numbers = first_step(studies.build(config).arms[tails.TRAINED])
    assert np.isfinite(loss)
    for name in ("net", "head"):
        for leaf in jax.tree.leaves(state.params[name]):
            np.testing.assert_allclose(leaf, leaf[:1] + np.zeros_like(leaf), rtol=1e-6)
    kernels = np.asarray(state.params["own"]["kernel"])
    assert np.abs(kernels[0] - kernels[1]).max() > 0
    assert {"plain/all", "aligned/few", "own/local", "correlation"} <= set(numbers)


def test_bad_configs_are_refused(refused):
    for name in ("skew", "tails"):
        refused(f"federated:{name}", "sizes", (0, 3), "expected rows of two clients")
        refused(
            f"federated:{name}", "rounds", 0, "config.rounds is 0, expected at least"
        )
    refused(
        "federated:skew", "strengths", (0.1, 1.0), "expected falling concentrations"
    )
    refused("federated:skew", "rows", "iris", "config.rows has no 'iris'")
    refused("federated:skew_cancer", "train", 569, "expected 1 to 568 of 569 rows of")
    refused("federated:tails", "few", 0, "config.few is 0, expected 1 to 9")
    refused(
        "federated:exploration", "explorers", 11, "expected 1 to config.clients, 10"
    )
    refused("federated:exploration", "last", 101, "expected at most config.rounds, 100")
