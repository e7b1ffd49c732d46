import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import tempnet


def test_counts_make_distributions_that_know_their_text():
    table, text = tempnet.counted(2, 32)
    np.testing.assert_allclose(np.exp(table).sum(-1), 1)
    cost = -table[text[:-2], text[1:-1], text[2:]].mean()
    assert cost < 0.7 * np.log(32)


def test_rows_are_contexts_of_the_text():
    config = get_config("tempnet-smoke")
    text = np.random.default_rng(0).integers(4, size=1000)
    table = np.arange(64.0).reshape(4, 4, 4)
    rows = tempnet.rows_of(jax.random.key(0), table, text, config)
    assert rows.z.shape == (100, 4)
    a, b = (rows.z[:, 0] // 16).astype(int), (rows.z[:, 0] // 4 % 4).astype(int)
    seen = {*zip(text, text[1:], text[2:])}  # noqa: B905
    assert {*zip(a, b, rows.y, strict=True)} <= seen
    assert rows.batches.max() < 100


def test_the_loss_at_its_best_temperature_is_the_worst_case():
    z = np.random.default_rng(1).normal(size=(20, 8))
    assert tempnet.duality_gap(z, 0.5) < 1e-9


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shares", (1.0,), "config.shares is"),
        ("tau_max", 0.5, "config.tau_max 0.5"),
        ("steps", 0, "config.steps 0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:tempnet", key, value, message)
