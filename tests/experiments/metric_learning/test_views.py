import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.metric_learning import _views, temperatures


def test_neighbors_vote_by_their_similarity():
    reference = jnp.float32([[1, 0], [0.8, 0.6], [0, 1]])
    votes = _views.neighbor_votes(
        jnp.float32([[2, 0]]), reference, np.array([0, 1, 1]), k=2, classes=3
    )
    want = [[1, np.exp(-0.2 / _views.TEMPERATURE), 0]]
    np.testing.assert_allclose(votes, want, rtol=1e-5)


def test_views_of_a_signal_are_moved_scaled_and_noisy():
    x = np.zeros((200, 40), np.float32)
    x[:, 20] = 10.0
    view = np.asarray(_views.signal_view(jax.random.key(0), x))
    peaks = view.argmax(-1)
    assert {*peaks.tolist()} == {*range(15, 26)}
    assert 6 < view.max(-1).min() < 8 < 12 < view.max(-1).max() < 14
    assert 0.15 < view[:, :10].std() < 0.25


def test_views_of_an_image_go_through_every_kind():
    x = np.random.default_rng(0).random((6, 64), np.float32)
    shifted = _views.image_view(jax.random.key(0), x, ("shift",))
    both = _views.image_view(jax.random.key(0), x, ("shift", "contrast"))
    assert shifted.shape == both.shape == (6, 64)
    assert (shifted != x).any(-1).all()
    assert (np.ptp(both, -1) < np.ptp(shifted, -1)).all()  # paler


def test_rank_correlation_is_spearmans():
    from scipy import stats

    a, b = np.random.default_rng(0).normal(size=(2, 30))
    got = temperatures.rank_correlation(jnp.float32(a), jnp.float32(a + b))
    want = stats.spearmanr(a, a + b).statistic
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("study", "key", "value", "message"),
    [
        ("sorting", "objectives", ("groko",), "did you mean groco"),
        ("temperatures", "kinds", (0, 3), "config.kinds is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, study, key, value, message):
    refused(f"metric_learning:{study}", key, value, message)


@pytest.mark.slow
@pytest.mark.parametrize("study", ["sorting", "temperatures"])
def test_end_to_end(run_study, study):
    assert run_study(f"metric_learning:{study}").figures == ["neighbors"]
