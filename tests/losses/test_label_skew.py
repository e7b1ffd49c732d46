import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import functions, interpreted

from logitlab.losses.imbalance import label_skew

calls = functions(label_skew)


@pytest.mark.parametrize("case", cases("fedld_margin"))
def test_golden(case, x64):
    logits, labels = arrays(case, "logits", "labels")

    def mean(z):
        return label_skew.margin_control_loss(
            z, labels, penalty=case["params"]["penalty"], per_example=False
        ).mean()

    value, grad = interpreted(jax.value_and_grad(mean))(logits)
    close(value, case["outputs"]["loss"])
    close(grad, case["outputs"]["grad_logits"])


def test_norms_of_examples_and_of_the_batch(x64):
    z, y = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 2, 1, 1])
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    nll, square = -np.log(p[np.arange(4), y]), (p**2).sum(1)
    got = calls.margin_control_loss(z, y, penalty=0.3)
    np.testing.assert_allclose(got, nll + 0.3 * np.log1p(square), rtol=1e-12)
    there = np.array([True, False, True, True])
    z[1] = np.nan
    got = calls.margin_control_loss(z, y, penalty=0.3, per_example=False, mask=there)
    want = nll + 0.3 * np.log1p(square[there].sum())
    np.testing.assert_allclose(got[there], want[there], rtol=1e-12)


def test_hidden_and_extreme():
    nothing = np.float32([[-np.inf, -np.inf], [1e30, -1e30]])
    value_and_grad = interpreted(
        jax.value_and_grad(lambda z: label_skew.margin_control_loss(z, [0, 0]).sum())
    )
    value, grad = value_and_grad(nothing)
    np.testing.assert_allclose(value, 0.1 * np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(grad, 0)
    with pytest.raises(ValueError, match=r"mask has shape \(3,\)"):
        calls.margin_control_loss(nothing, np.array([0, 0]), mask=np.ones(3, bool))
