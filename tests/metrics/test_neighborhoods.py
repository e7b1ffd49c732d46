import functools

import jax
import numpy as np
import pytest
from harness.goldens import draw
from harness.interpreter import interpreted

from logitlab.metrics import icnn_score

LABELS = np.array([0, 0, 1, 0, 1, 2, 1, 2])


def score(e, **options):
    options.setdefault("labels", LABELS)
    return interpreted(functools.partial(icnn_score, **options))(e)


def test_separated_classes_score_higher():
    e = draw(0, 8, 3).astype("f4")
    apart = e + 50 * np.eye(3, dtype="f4")[LABELS]
    assert score(apart, k=1) > score(e, k=1) + 0.1


def test_few_neighbors():
    """As many as there are less one, and then gamma is 1."""
    e = np.float32([[0], [1], [3]])
    got = score(e, labels=np.array([0, 0, 1]), k=4)
    # The only neighbor of 0 is 1, at 1/3 of the way to the other class: 1/3. That of 1
    # is 0, at 1/2. That of 3 is of the other class, and the farthest: lambda_d is 1.
    np.testing.assert_allclose(got, ((1 - (1 / 3 + 1 / 2) / 2 + 1) / 2 + 1) / 2, 1e-5)
    assert score(e[:1], labels=np.array([0])) == 1
    assert np.isfinite(score(e[:2], labels=np.array([0, 1])))


def test_prototypes_as_neighbors():
    e, r = draw(1, 8, 3).astype("f4"), draw(2, 5, 3).astype("f4")
    known = dict(reference=r, reference_labels=np.array([0, 1, 2, 0, 1]), k=2)
    plain, without = score(e, **known), score(e, drop_first=True, **known)
    assert 0 < without <= 1
    assert plain != without


@pytest.mark.parametrize(
    "scale", [0.0, 1e-30, 1e19, 1e30], ids=["zeros", "1e-30", "1e19", "1e30"]
)
def test_extremes(scale):
    e = (draw(3, 8, 3) * scale).astype("f4")
    value, grad = interpreted(jax.value_and_grad(lambda e: icnn_score(e, LABELS)))(e)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_errors():
    e = np.zeros((8, 3), "f4")
    with pytest.raises(ValueError, match="k is 0"):
        icnn_score(e, LABELS, k=0)
    with pytest.raises(ValueError, match=r"shapes \(8, 3\), \(7,\)"):
        icnn_score(e, LABELS[:7])
    with pytest.raises(ValueError, match="reference_labels is None"):
        icnn_score(e, LABELS, reference=e)
    with pytest.raises(ValueError, match="needs reference, which is None"):
        icnn_score(e, LABELS, reference_labels=LABELS)
