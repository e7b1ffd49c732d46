"""Losses that take no plain logits, held to what their adapted rows say."""

import jax
import numpy as np
import pytest
from harness import properties
from harness.adapted_rows import REVERSE_ONLY, ROWS, SKIPPED

from logitlab.losses import catalogue


@pytest.mark.optimized
@pytest.mark.parametrize("group", properties.GROUPS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_property(row, group):
    reverse_only = {"gradient"} if row.name in REVERSE_ONLY else set()
    properties.assert_passes(row, group, SKIPPED.get(row.name, set()) | reverse_only)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r.name in REVERSE_ONLY], ids=lambda row: row.name
)
def test_gradient_in_reverse_mode(row):
    with jax.enable_x64(True):
        z, y = (np.asarray(a) for a in row.make(jax.random.key(0), (4, 5), "f8"))
        total = jax.jit(jax.value_and_grad(lambda z: row.loss(z, y).sum()))
        slope = total(z)[1]
        step = np.random.default_rng(0).normal(size=z.shape)
        up, down = (total(z + s * 1e-5 * step)[0] for s in (1, -1))
        np.testing.assert_allclose((slope * step).sum(), (up - down) / 2e-5, rtol=1e-7)


def test_rows_do_not_contradict_themselves():
    assert not catalogue.problems(ROWS)
