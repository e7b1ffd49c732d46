import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.preference import get_config
from experiments.preference import keywords
from logitlab.data.degraded_answers import degrade


def test_answers_have_different_key_tokens():
    config, counts = get_config("keywords"), jnp.array([1, 6, 3])
    tokens = np.asarray(keywords.draw(jax.random.key(0), counts, config)["tokens"])
    assert tokens.max() < config.tokens
    keys = [[t for t in row if t < config.key_tokens] for row in tokens.tolist()]
    assert [len(row) for row in keys] == [1, 6, 3]
    assert all(len(set(row)) == len(row) for row in keys)


def test_key_tokens_are_taken_out_as_phrases_are():
    config = get_config("keywords")
    answers = keywords.draw(jax.random.key(1), jnp.array([4, 4, 5, 1]), config)
    for level in range(config.levels + 1):
        levels = jnp.full(4, level)
        found = keywords.degraded(answers, levels, config)
        for row, left, mask in zip(
            answers["tokens"].tolist(), *map(np.asarray, found.values()), strict=True
        ):
            phrases = [[token] for token in row if token < config.key_tokens]
            want = degrade(row, phrases, level, config.levels)
            assert left[mask].tolist() == want
            assert mask[: len(want)].all()


@pytest.mark.usefixtures("x64")
def test_log_probabilities_and_means_of_states():
    config = get_config("keywords-smoke")
    params = keywords.init(jax.random.key(0), config)
    w = {name: np.asarray(array, np.float64) for name, array in params.items()}
    tokens, none = [3, 9, 4], config.tokens
    total, states = 0.0, []
    for at in range(4):
        seen = [none] * 3 + tokens[:at]
        h = np.tanh(w["embedding"][seen[-3:]].ravel() @ w["hidden"])
        states.append(h)
        if at < 3:
            z = h @ w["out"]
            total += z[tokens[at]] - np.log(np.exp(z).sum())
    answers = {"tokens": jnp.array([[*tokens, 7]]), "mask": jnp.arange(4)[None] < 3}
    logp, pooled = keywords.read(params, answers)
    np.testing.assert_allclose(logp, [total], rtol=1e-6)
    np.testing.assert_allclose(pooled[0], np.mean(states[1:], 0), rtol=1e-6)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:keywords", seeds=1)
    assert done.figures == ["levels", "score"]
    assert all(np.isfinite(v.ours).all() for v in done.verdicts.values())


def test_what_cannot_be_run_is_not_built(refused):
    refused("preference:keywords", "gammas", (0.1, 1.0), "expected 0, which is DPO")
    refused("preference:keywords", "most", 9, "expected growing numbers of key tokens")
