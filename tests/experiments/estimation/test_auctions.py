import numpy as np
import pytest

from experiments.estimation import auctions

RHO, V = np.array([[0.0, 1.0], [0.5, -0.5]]), np.array([1.0, 2.0])


def test_allocations():
    only = np.array([[False, False], [True, False]])
    np.testing.assert_allclose(auctions.welfare(only, RHO, V), 1.244919, rtol=1e-6)
    np.testing.assert_allclose(auctions.best_of_all(RHO, V, 2), 1.244919, rtol=1e-6)
    both = auctions.separable(RHO, V, 2)  # 1.24 + .73 against 1 / 2 + .76
    np.testing.assert_array_equal(both, [[False, True], [True, False]])
    np.testing.assert_allclose(auctions.welfare(both, RHO, V), 1.120872, rtol=1e-6)


def test_best_cascade():
    values, probs = np.array([1.0, 0.9, 0.1]), np.array([0.1, 1.0, 0.5])
    best, ads = auctions.best_cascade(values, probs, 1)
    assert (best, ads) == (0.9, (1,))
    best, ads = auctions.best_cascade(values, probs, 2)
    assert ads == (0, 1)  # the dearest first, although it is clicked rarely
    np.testing.assert_allclose(best, 0.1 + 0.9 * 0.9)
    np.testing.assert_allclose(auctions.listed(ads, values, probs), best, rtol=1e-6)


def test_payment_of_one_ad():
    # One ad and one position: clicked by half of the users if its value is above .5,
    # and pays that reserve, whatever its value.
    paid = auctions._myerson_payment(np.zeros((1, 1)), np.array([0.8]), 1, 0, 8)
    np.testing.assert_allclose(paid, 0.25)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reports", (0.5, 0.9), "config.reports is"),
        ("reports", (1.0, 0.9), "config.reports is"),
        ("k", 5, "config.k and config.small.k are 5 and 3"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("estimation:auctions", key, value, message)


def test_end_to_end(run_study):
    done = run_study("estimation:auctions")
    assert done.figures == ["cascade", "misreports", "welfare"]
    verdicts = list(done.verdicts.values())
    for verdict in (verdicts[0], verdicts[1], verdicts[6]):
        assert verdict.verdict == "reproduced", verdict.text
