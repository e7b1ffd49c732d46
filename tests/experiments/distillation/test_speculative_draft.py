import jax
import numpy as np
import pytest

from configs.distillation import get_config
from experiments.distillation import speculative_draft
from logitlab import report
from logitlab.train import ArmResult


def test_characters_are_coded_by_how_frequent_they_are():
    text = speculative_draft.load(modules=2, vocabulary=5, held_out=0.25)
    codes = np.concatenate(text)
    assert abs(len(text.held_out) - len(codes) / 4) < 1
    counts = np.bincount(codes, minlength=5)
    assert (np.diff(counts[:4]) <= 0).all()
    assert counts[4] > 0  # all the others


def test_windows_are_followed_by_what_comes_next():
    codes = np.arange(50, dtype=np.int32)
    seen, following = speculative_draft._windows(jax.random.key(0), codes, 4, 200)
    np.testing.assert_array_equal(seen, following[:, None] + np.arange(-4, 0)[None])
    assert set(np.unique(following)) == set(range(4, 50))


def networks(rng):
    """A target of 3 characters and a draft of 1, over 3 of them."""

    def dense(rows, columns):
        kernel, bias = rng.normal(size=(rows, columns)), rng.normal(size=columns)
        return {"kernel": kernel, "bias": bias}

    def network(inputs):
        return {"hidden": dense(inputs, 4), "feature": dense(4, 3)}

    shared = {"embedding": rng.normal(size=(3, 2)), "head": dense(3, 3)}
    return network(6), network(2), shared


def softmax_of(network, shared, characters):
    """In NumPy, for one context."""
    seen = len(network["hidden"]["kernel"]) // shared["embedding"].shape[1]
    x = shared["embedding"][list(characters[-seen:])].ravel()
    layers = network["hidden"], network["feature"], shared["head"]
    shapes = (lambda a: np.maximum(a, 0), np.tanh, np.exp)
    for layer, shape in zip(layers, shapes, strict=True):
        x = shape(x @ layer["kernel"] + layer["bias"])
    return x / x.sum()


@pytest.mark.usefixtures("x64")
def test_what_is_measured_is_the_mean_of_its_law():
    """Accepted drafts of a round of two, summed over all drafts."""
    target, draft, shared = networks(np.random.default_rng(0))
    start = (2, 0, 1)
    p, q = (softmax_of(n, shared, start) for n in (target, draft))
    rate = np.minimum(p, q).sum()
    mean = rate
    for token in range(3):
        then = (*start[1:], token)
        next_p, next_q = (softmax_of(n, shared, then) for n in (target, draft))
        mean += min(p[token], q[token]) * np.minimum(next_p, next_q).sum()
    both = {"network": target, "shared": shared}
    contexts = np.tile(np.array(start), (20_000, 1))
    got, got_rate = jax.jit(speculative_draft._measure, static_argnums=4)(
        jax.random.key(1), draft, both, contexts, 2
    )
    assert got_rate == pytest.approx(rate)
    assert got == pytest.approx(mean, abs=4 * (0.7 / 20_000) ** 0.5)


@pytest.mark.usefixtures("x64")
def test_the_outcomes_of_a_round_are_the_targets_law(monkeypatch):
    key = jax.random.key(0)
    assert speculative_draft.outcome_error(key, vocabulary=3, gamma=2) < 1e-12
    # The enumeration can fail: replacements drawn from the target itself are wrong.
    monkeypatch.setattr(
        speculative_draft.decisions,
        "residual_distribution",
        lambda q, p: jax.nn.softmax(p),
    )
    assert speculative_draft.outcome_error(key, vocabulary=3, gamma=2) > 1e-3


def result(label, values):
    row = {f"accepted/{n}": str(v) for n, v in values.items()} | {"off": "1e-15"}
    return ArmResult(label, (0,), [{"arm": label, "seed": "0", "step": "0"} | row])


@pytest.mark.parametrize(("hard", "expected"), [(2.0, 0), (2.8, 3)])
def test_claims_can_fail(hard, expected):
    steps = (500, 1000, 2000, 4000)
    curves = {
        "joint": (2.6, 2.8, 2.9, 2.95),
        "logits": (2.5, 2.7, 2.8, 2.9),
        "features": (2.4, 2.6, 2.8, 2.85),
        "hard": (1.5, 1.6, hard - 0.01, hard),
    }
    results = {
        n: result(n, dict(zip(steps, v, strict=True))) for n, v in curves.items()
    }
    results["lossless"] = result("lossless", {})
    study = speculative_draft.build(get_config("speculative_draft"))
    verdicts = report.judge(study.claims, results)
    assert len(verdicts) == 10
    failed = [v for v in verdicts if v.verdict == "not reproduced"]
    assert len(failed) == expected
    assert all("learned from the text" in v.text for v in failed)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("draft.after", (500, 500), "config.draft.after is"),
        ("draft.context", 13, "config.draft.context is 13, expected 1 to"),
        ("text.held_out", 1.0, "config.text.held_out is 1"),
        ("gamma", 0, "config.gamma is 0"),
        ("objectives.hard.labels", 0.0, "config.objectives.hard is nothing"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:speculative_draft", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:speculative_draft")
    first, *_ = done.verdicts.values()
    assert first.verdict == "reproduced"
    assert [len(v.ours) for v in done.verdicts.values()] == [2] * 10
    assert done.figures == ["accepted"]
