import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, draw
from harness.interpreter import interpreted

from logitlab import losses

NAMES = (
    "adv_image_features",
    "adv_image_features_frozen",
    "clean_image_features",
    "text_features",
)


@pytest.mark.parametrize("case", cases("advflyp"))
def test_golden(x64, case):
    params, outputs = case["params"], case["outputs"]
    rows = arrays(case, *NAMES)
    temperature = 1 / params["logit_scale"]

    def loss(adversarial, clean, feature_weight, logit_weight):
        return losses.advflyp_loss(
            adversarial,
            rows[1],
            clean,
            rows[3],
            temperature=temperature,
            feature_weight=feature_weight,
            logit_weight=logit_weight,
        ).mean()

    weights = params["lambda_feat"], params["lambda_logit"]
    value, grads = interpreted(jax.value_and_grad(loss, (0, 1)))(
        rows[0], rows[2], *weights
    )
    close(value, outputs["loss"])
    close(grads[0], outputs["grad_adv_image_features"])
    close(grads[1], outputs["grad_clean_image_features"])
    plain = interpreted(loss)(rows[0], rows[2], 0.0, 0.0)
    close(plain, outputs["infonce"])
    close(
        interpreted(loss)(rows[0], rows[2], 1.0, 0.0) - plain,
        outputs["feat_frozen"] + outputs["feat_clean"],
    )
    close(
        interpreted(loss)(rows[0], rows[2], 0.0, 1.0) - plain,
        outputs["kl_frozen"] + outputs["kl_clean"],
    )


def test_the_first_step_is_plain_contrastive_learning():
    """Where the tuned model is the original and images are clean."""
    e, texts = draw(0, 2, 5, 4).astype("f4")

    def loss(a, weight):
        return losses.advflyp_loss(
            a, e, e, texts, temperature=0.5, feature_weight=weight, logit_weight=weight
        ).sum()

    for a, b in zip(
        *(interpreted(jax.value_and_grad(loss))(e, w) for w in (1.0, 0.0)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_errors():
    e = np.zeros((3, 4), "f4")
    with pytest.raises(ValueError, match=r"clean_embeddings has shape \(2, 4\)"):
        losses.advflyp_loss(e, e, e[:2], e, temperature=1.0)
    with pytest.raises(ValueError, match="temperature is 0, expected above 0"):
        losses.advflyp_loss(e, e, e, e, temperature=0)
    with pytest.raises(ValueError, match=r"embeddings has shape \(4,\)"):
        losses.advflyp_loss(e[0], e, e, e, temperature=1.0)
