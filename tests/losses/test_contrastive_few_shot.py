import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, draw
from harness.interpreter import functions, interpreted

from logitlab import losses, metrics
from logitlab.losses.contrastive import few_shot
from logitlab.transforms import prototypes

calls = functions(few_shot)


@pytest.mark.parametrize("case", cases("proto_triplet"))
def test_golden_prototypes(x64, case):
    support, query, labels, query_labels, known = arrays(
        case, "support", "query", "support_labels", "query_labels", "prototypes"
    )
    way, margin = case["params"]["way"], case["params"]["margin"]
    close(prototypes(support, labels, way), known.T)

    def loss(query, support):
        kernel = prototypes(support, labels, way)
        return losses.proto_triplet_loss(
            query, query_labels, kernel, margin=margin
        ).mean()

    value, grads = interpreted(jax.value_and_grad(loss, (0, 1)))(query, support)
    close(value, case["outputs"]["loss"])
    close(grads[0], case["outputs"]["grad_query"])
    close(grads[1], case["outputs"]["grad_support"])


@pytest.mark.parametrize("case", cases("icnn"))
def test_golden_neighbors(x64, case):
    e, labels = arrays(case, "features", "labels")
    options = dict(k=case["params"]["k"], neighbors=case["params"]["ipc"])
    value, grad = interpreted(
        jax.value_and_grad(lambda e: losses.icnn_loss(e, labels, **options))
    )(e)
    close(value, case["outputs"]["loss"])
    close(grad, case["outputs"]["grad_features"])
    score = interpreted(lambda e: metrics.icnn_score(e, labels, **options))(e)
    close(score, case["outputs"]["score"])


def test_one_class_has_no_negative():
    e, kernel = draw(0, 3, 4).astype("f4"), draw(1, 4, 1).astype("f4")
    value, grad = interpreted(
        jax.value_and_grad(
            lambda e: losses.proto_triplet_loss(e, [0] * 3, kernel).sum()
        )
    )(e)
    assert value == 0
    assert not grad.any()
    assert np.isnan(calls.proto_triplet_loss(e, np.array([0, -1, 0]), kernel)[1])


def test_queries_far_away():
    kernel = draw(1, 4, 3).astype("f4")
    for x in (np.full((2, 4), 1e30, "f4"), np.zeros((2, 4), "f4")):
        loss = interpreted(
            jax.value_and_grad(
                lambda e: losses.proto_triplet_loss(e, [0, 2], kernel).sum()
            )
        )
        value, grad = loss(x)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()


def test_errors():
    e = np.zeros((3, 4), "f4")
    with pytest.raises(
        ValueError, match=r"kernel has shape \(3, 4\), expected \[D, C\]"
    ):
        losses.proto_triplet_loss(e, [0, 1, 2], e)
    with pytest.raises(ValueError, match="outside"):
        losses.proto_triplet_loss(e, [0, 1, 2], np.zeros((4, 2), "f4"))
    with pytest.raises(ValueError, match="k is 0, expected at least 1"):
        losses.icnn_loss(e, [0, 1, 2], k=0)
