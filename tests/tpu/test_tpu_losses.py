"""Value and gradient of every loss, compiled for TPUs: memory and traffic."""

import jax
import jax.numpy as jnp
import pytest
from harness import properties, tpus
from harness.cases import case_of
from harness.meshes import spec_like
from jax.sharding import PartitionSpec as P

from logitlab.losses.catalogue import CATALOGUE

# Of the label, of it and a link, of a teacher, of each logit, of pairs, of tokens.
QUICK = (
    "cross_entropy",
    "focal_loss",
    "kd_loss",
    "js_divergence",
    "sigmoid_cross_entropy",
    "dpo_loss",
    "ppo_clip_loss",
)
pytestmark = tpus.MARKS


def _cases():
    for name, row in CATALOGUE.items():
        for chips in (4, 16, 256) if name in properties.SAMPLES else (4,):
            marks = [pytest.mark.slow] * (chips != 4 or name not in QUICK)
            yield pytest.param(row, chips, id=f"{name}-{chips}", marks=marks)


def _is_bounded(row):
    """Whether the benchmark of costs holds it to one array of logits on CPU."""
    plain = row.kind == "example" and len(row.shape) == 2
    return plain and not (row.cost or row.gathers)


@pytest.mark.parametrize(("row", "chips"), [*_cases()])
def test_memory_and_traffic(row, chips):
    """In bfloat16, with examples and classes over the chips.

    Nothing of the logits' size moves, and what holds one array of float32 logits on CPU
    does here, beside some numbers for each example.
    """
    case, mesh = case_of(row), tpus.mesh_of(chips)
    side, bounded = mesh.shape["data"], _is_bounded(row)
    if case.classes is None:
        shape, spec = (256 * chips, *case.shape[1:]), P(("data", "model"))
    else:
        rows, classes = (4096, 16384) if bounded else (128, 256)
        shape = (side * rows, *case.shape[1:-1], side * classes)
        spec = P("data", *[None] * (len(shape) - 2), "model")
    drawn = shape[:-1] if case.two else shape
    arrays = jax.eval_shape(
        lambda key: tuple(row.make(key, drawn, jnp.bfloat16)), jax.random.key(0)
    )
    if case.two:  # both scores of a pair are one argument
        arrays = (jax.ShapeDtypeStruct(shape, jnp.bfloat16), *arrays[2:])
    program = tpus.compiled(
        case.value_and_grad,
        tuple(
            tpus.spread(mesh, a.shape, a.dtype, *spec_like(a, shape, spec))
            for a in arrays
        ),
    )
    local = arrays[0].size // chips
    moved = {kind: n for kind, n in tpus.largest(program).items() if n >= local}
    assert row.gathers or not moved, f"moves logits-sized arrays: {moved}"
    if bounded:
        held = tpus.temporaries(program) / (4 * local)
        assert held < 1.01, f"holds {held:.2f} arrays of logits"
