"""Processors of logits, compiled for TPUs: each chip has its rows to itself."""

import jax
import jax.numpy as jnp
import pytest
from harness import tpus

from logitlab import transforms

pytestmark = tpus.MARKS
ROWS, WORDS = 8, 32768  # on each chip


def _processors():
    vocab = dict(vocab_size=WORDS)
    return {
        "suppress": transforms.suppress(**vocab, decay=0.5),
        "repetition_penalty": transforms.repetition_penalty(1.3, **vocab),
        "presence_penalty": transforms.presence_penalty(0.5, **vocab),
        "frequency_penalty": transforms.frequency_penalty(0.2, **vocab),
        "no_repeat_ngrams": transforms.no_repeat_ngrams(3, max_length=128),
        "min_length": transforms.min_length(2, end=0),
        "add_bias": transforms.add_bias(jnp.zeros(WORDS)),
        "ban_tokens": transforms.ban_tokens([1, 2]),
        "allow_tokens": transforms.allow_tokens([*range(100)]),
        "divide_by_temperature": transforms.divide_by_temperature(0.7),
        "top_k": transforms.top_k(50),
        "typical_p": transforms.typical_p(0.99),
        "top_p": transforms.top_p(0.95),
        "min_p": transforms.min_p(0.01),
    }


def _program(chips, processor):
    mesh = tpus.one_chip() if chips == 1 else tpus.mesh_of(chips)
    rows = ("data", "model")[: len(mesh.axis_names)]
    state = jax.eval_shape(lambda: processor.init(chips * ROWS))
    spread = lambda a: tpus.spread(mesh, a.shape, a.dtype, rows)  # noqa: E731
    return tpus.compiled(
        processor.apply,
        tpus.spread(mesh, (chips * ROWS, WORDS), jnp.bfloat16, rows),
        tpus.spread(mesh, (chips * ROWS, 1), jnp.int32, rows),
        jax.tree.map(spread, state),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*_processors()])
def test_one_processor(name):
    program = _program(1, _processors()[name])
    assert tpus.temporaries(program) <= 4 * 4 * ROWS * WORDS  # four float32 arrays


@pytest.mark.parametrize("chips", [4, pytest.param(256, marks=pytest.mark.slow)])
def test_a_chain_sends_nothing(chips):
    program = _program(chips, transforms.chain(*_processors().values()))
    assert not tpus.largest(program)
    assert tpus.temporaries(program) <= 6 * 4 * ROWS * WORDS
