import functools

import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, draw
from harness.interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses.contrastive import sorting
from logitlab.transforms import cosine_similarities, diff_sort

calls = functions(sorting)


def options(case):
    params = case["params"]
    return dict(
        negatives=params["topk_neg"],
        steepness=params["steepness"],
        stop_gradient=params["stop_grad"],
    )


@pytest.mark.parametrize("case", cases("groco"))
def test_golden(x64, case):
    (views,) = arrays(case, "views")
    loss = functools.partial(losses.groco_loss, **options(case))
    value, grad = interpreted(jax.value_and_grad(lambda e: loss(e).mean()))(
        views.swapaxes(0, 1)
    )
    close(value, case["outputs"]["loss"])
    close(grad.swapaxes(0, 1), case["outputs"]["grad_views"])


@pytest.mark.parametrize("case", cases("groco"))
def test_golden_by_parts(x64, case):
    """Every anchor's similarities in order, sorted, and the cross-entropies of that."""
    (views,), chosen = arrays(case, "views"), options(case)
    costs = []
    for v, view in enumerate(views):
        s = np.asarray(cosine_similarities(view))
        near = [
            np.sort(np.delete(row, i))[-chosen["negatives"] :]
            for i, row in enumerate(s)
        ]
        same = [np.diag(cosine_similarities(view, o)) for o in np.delete(views, v, 0)]
        x = np.concatenate([near, np.sort(np.stack(same, -1), -1)], -1)
        soft = diff_sort(x, steepness=chosen["steepness"]).permutation
        costs.append(
            losses.group_order_bce_loss(soft, negatives=chosen["negatives"]).mean()
        )
    close(np.mean(costs), case["outputs"]["loss"])


def test_all_similarities_equal():
    """Nothing to choose between, and still a slope."""
    e = np.ones((5, 2, 3), "f4") + 1e-3 * draw(0, 5, 2, 3).astype("f4")
    value, grad = interpreted(
        jax.value_and_grad(lambda e: losses.groco_loss(e, negatives=3).mean())
    )(e)
    assert np.isfinite(value)
    assert np.abs(grad).max() > 0


def test_only_the_first_views_are_positives(x64):
    e = draw(1, 6, 3, 4)
    got = calls.groco_loss(e, negatives=2, positive_views=2)
    pairs = calls.groco_loss(e[:, :2], negatives=2)
    # The third view alone: its positives are the others, and it is nobody's.
    cosines = [np.asarray(cosine_similarities(e[:, 2], e[:, v])) for v in (2, 0, 1)]
    near = [np.sort(np.delete(row, i))[-2:] for i, row in enumerate(cosines[0])]
    same = np.sort(np.stack([np.diag(c) for c in cosines[1:]], -1), -1)
    soft = diff_sort(np.concatenate([near, same], -1)).permutation
    third = calls.group_order_bce_loss(soft, negatives=2).mean(-1)
    np.testing.assert_allclose(got, (2 * pairs + third) / 3, rtol=1e-12)
    one = calls.groco_loss(e[:, :2], negatives=2, positive_views=1)
    assert np.isfinite(one).all()


def test_what_is_missing_counts_as_opposite(x64):
    e = draw(2, 5, 2, 3)
    keep = np.arange(5) < 3
    got = calls.groco_loss(e, negatives=3, mask=keep)
    assert (got[:3] > 0).all()
    assert not got[3:].any()
    two = calls.groco_loss(e[:3], negatives=2)
    assert np.abs(got[:3] - two).max() > 1e-3  # another network


def test_extremes():
    for x in (np.zeros((4, 2, 3)), np.sign(draw(3, 4, 2, 3)) * 1e30):
        for kind in ("cauchy", "logistic"):
            loss = functools.partial(
                losses.groco_loss, negatives=2, distribution=kind, steepness=1e3
            )
            run = jax.value_and_grad(lambda e, loss=loss: loss(e).sum())
            value, grad = interpreted(run)(x.astype("f4"))
            assert np.isfinite(value)
            assert np.isfinite(grad).all()


def test_errors():
    e = np.zeros((4, 2, 3), "f4")
    for call, message in (
        (lambda: losses.groco_loss(e[0]), r"embeddings has shape \(2, 3\)"),
        (lambda: losses.groco_loss(e[:, :1]), "of two views or more"),
        (
            lambda: losses.groco_loss(e, negatives=4),
            "negatives is 4, expected at most 3",
        ),
        (lambda: losses.groco_loss(e, negatives=0), "negatives is 0"),
        (
            lambda: losses.groco_loss(e, negatives=2, positive_views=3),
            "positive_views is 3, expected at most 2",
        ),
        (
            lambda: losses.group_order_bce_loss(np.eye(3, dtype="f4"), negatives=4),
            "negatives is 4, expected at most 3",
        ),
        (lambda: losses.group_order_bce_loss(e[0, 0], negatives=1), "has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
