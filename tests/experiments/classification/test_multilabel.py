import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import multilabel


def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    given, true = (rng.random((2, 50, 11)) < 0.3).astype(int)
    given[3] = true[3] = 0
    got = multilabel.scores(given > 0, true)
    want = {
        "macro_f1": metrics.f1_score(true, given, average="macro"),
        "micro_f1": metrics.f1_score(true, given, average="micro"),
        "hamming": metrics.hamming_loss(true, given),
        "jaccard": metrics.jaccard_score(
            true, given, average="samples", zero_division=1.0
        ),
    }
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6)


def test_labels_are_as_rare_and_correlated_as_asked():
    config = get_config("multilabel")
    mixing = np.zeros((11, config.features), np.float32)
    _, t = multilabel.draw(jax.random.key(0), config, 20_000, mixing)
    shares = np.sort(np.asarray(t).mean(0))[::-1]
    np.testing.assert_allclose(shares, 0.4 / np.arange(1, 12), atol=0.012)
    corr = np.corrcoef(np.asarray(t).T)
    assert corr[:4, 4:].max() < 0.05 < corr[:4, :4].min()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("blocks", (4, 4), "config.blocks is"), ("most", 0.0, "config.most is 0.0")],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:multilabel", key, value, message)
