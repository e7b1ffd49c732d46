import functools
import typing

import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, draw
from harness.interpreter import interpreted

from logitlab.transforms import diff_sort
from logitlab.transforms.sorting import Distribution, Network

DISTRIBUTIONS = typing.get_args(Distribution)
NETWORKS = typing.get_args(Network)


@pytest.mark.parametrize("case", cases("diffsort"))
def test_golden(x64, case):
    values, probe = arrays(case, "vectors", "probe")
    sort = functools.partial(diff_sort, **case["params"])
    got = interpreted(sort)(values)
    grad = interpreted(jax.grad(lambda x: (probe * sort(x).permutation).sum()))(values)
    close(got.values, case["outputs"]["sorted"])
    close(got.permutation, case["outputs"]["permutation"])
    close(grad, case["outputs"]["grad_vectors_of_sum_probe_times_permutation"])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_steep_networks_sort(x64, network, size):
    x = draw(size, 3, size)
    got = interpreted(functools.partial(diff_sort, network=network, steepness=1e12))(x)
    np.testing.assert_allclose(got.values, np.sort(x), atol=1e-9)
    np.testing.assert_allclose(
        got.permutation, np.eye(size)[np.argsort(np.argsort(x))], atol=1e-9
    )


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_permutations_are_doubly_stochastic(distribution):
    x = draw(0, 4, 6).astype("f4")
    x[1] = 0.5  # ties
    for network in NETWORKS:
        soft = interpreted(
            functools.partial(
                diff_sort, network=network, steepness=3.0, distribution=distribution
            )
        )(x)
        assert (soft.permutation >= 0).all()
        for axis in (-1, -2):
            np.testing.assert_allclose(soft.permutation.sum(axis), 1, rtol=1e-6)
        np.testing.assert_allclose(soft.values[1], 0.5, rtol=1e-6)
        np.testing.assert_allclose(
            soft.values, np.einsum("bi,bij->bj", x, soft.permutation), atol=1e-5
        )


def test_by_hand():
    np.testing.assert_allclose(diff_sort([1.0, 0.0]).values, [0.25, 0.75])
    assert interpreted(diff_sort)(np.float32([3])).permutation == 1


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_small_shares_are_exact(distribution):
    """Those of a value far above the other, whose complements are 1."""
    if distribution in ("logistic", "logistic_phi", "gaussian"):
        gaps = [1.0, 5, 9]
    else:
        gaps = [1.0, 1e4, 1e10, 1e30]
    for gap in gaps:
        x = np.float32([0, gap])
        sort = functools.partial(diff_sort, distribution=distribution)
        run = interpreted(
            jax.value_and_grad(lambda x, sort=sort: sort(x).permutation[0, 1])
        )
        with jax.enable_x64(True):
            want = run(x.astype("f8"))
        got = run(x)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-37)


def test_extremes():
    for distribution in DISTRIBUTIONS:
        x = np.float32([1e30, -1e30, 0, 0, 1e-30])
        value, grad = interpreted(
            jax.value_and_grad(
                lambda x, d=distribution: diff_sort(x, distribution=d).permutation[0, 0]
            )
        )(x)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    assert diff_sort(np.ones(3, "bfloat16")).values.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diff_sort(1.0), r"values has shape \(\)"),
        (lambda: diff_sort([1.0], network="bubble"), "network is 'bubble'"),
        (lambda: diff_sort([1.0], distribution="normal"), "distribution is 'normal'"),
        (lambda: diff_sort([1.0], steepness=0), "steepness is 0, expected above 0"),
        (lambda: diff_sort([1.0], art_lambda=1.0), "art_lambda is 1.0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
