import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.grokking import VARIANTS, get_config
from experiments.grokking import study as grokking
from logitlab import report
from logitlab.metrics import Mean
from logitlab.train import ArmResult, arm_configs, init_state, make_step
from logitlab.train.config import flat

SEEDS = (10, 11, 12)
NEVER = np.inf


@pytest.mark.sampled
@pytest.mark.parametrize("variant", [*VARIANTS, "smoke"])
@pytest.mark.usefixtures("x64")
def test_every_arm_fits_together(variant):
    config = get_config(variant)
    study = grokking.build(config)
    assert study.arms.keys() == set(config.arms.keys()) == study.labels.keys()
    assert len(set(study.labels.values())) == len(study.labels)
    assert study.captions.keys() == study.figures.keys()
    assert study.claims or variant in ("figure2", "figure4")
    key = jax.random.key(0)
    for name, arm in arm_configs(config).items():
        run = study.arms[name]
        data = jax.eval_shape(run.data, key)
        rows = data["train"]["y"].shape
        assert rows[0] == pytest.approx(
            arm.train_fraction * (rows[0] + data["test"]["y"].shape[0]), abs=1
        )
        start = functools.partial(init_state, run.init, run.optimizer)
        state = jax.eval_shape(start, key)
        # Under x64 nothing may widen unless the config says so: a step keeps all types.
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(state.params)}
        assert dtypes == {jnp.dtype(arm.model.param_dtype)}
        losses = jax.eval_shape(run.loss, state.params, data["train"], key)
        assert (losses.shape, losses.dtype) == (rows, arm.loss.dtype)
        step = make_step(run.loss, run.optimizer)
        after, loss = jax.eval_shape(step, state, data["train"])
        assert loss.shape == ()
        assert jax.tree.map(_aval, after) == jax.tree.map(_aval, state)
        numbers = jax.eval_shape(run.evaluate, state.params, data)
        for value in numbers.values():
            parts = value if isinstance(value, Mean) else (value,)
            assert [part.shape for part in parts] == [()] * len(parts)
        assert {"train/accuracy", *run.show} <= numbers.keys()
        assert (run.steps, run.evaluate_at[-1]) == (arm.steps, arm.steps)


def _aval(leaf):
    return leaf.shape, leaf.dtype


@pytest.mark.parametrize("variant", [*VARIANTS, "smoke"])
def test_arms_set_what_they_name_and_nothing_else(variant):
    config = get_config(variant)
    common = {k: v for k, v in config.items() if k != "arms"}
    arms = arm_configs(config)
    for name, overrides in config.arms.items():
        assert flat(arms[name]) == {**flat(common), **flat(overrides)}
    # A ConfigDict shares what its source shared: one override would change two arms.
    sections = list(itertools.chain(_sections(config), *map(_sections, arms.values())))
    assert len({id(section) for section in sections}) == len(sections)


def _sections(config):
    for value in config.values():
        if isinstance(value, ConfigDict):
            yield value
            yield from _sections(value)


def test_weight_decay_is_of_one_arm():
    decays = {
        name: arm.optim.adamw.weight_decay
        for name, arm in arm_configs(get_config("study")).items()
    }
    assert {name for name, decay in decays.items() if decay} == {"weight_decay"}


@pytest.mark.parametrize("variant", [*VARIANTS, "smoke"])
def test_configs_are_locked(variant):
    config = get_config(variant)
    assert config.variant == {"smoke": "quick"}.get(variant, variant)
    assert config.preliminary == (variant != "study")
    for section in [config, *_sections(config), *arm_configs(config).values()]:
        with pytest.raises((AttributeError, KeyError), match="lrr"):
            section.lrr = 1
    with pytest.raises(TypeError):
        config.steps = "many"


def test_an_unknown_variant_lists_those_there_are():
    with pytest.raises(ValueError, match=", ".join(VARIANTS)):
        get_config("quik")


@pytest.mark.usefixtures("x64")
def test_each_arm_computes_in_its_own_precision():
    arms = arm_configs(get_config("study"))

    def costs(name, margin):
        """Loss, and gradients of the label's logit and of the other one."""
        scores, loss_of = grokking._loss(arms[name])
        z, y = np.float32([[margin, 0]]), np.zeros(1, np.int32)
        for kind in (jax.eval_shape(scores, z), jax.eval_shape(loss_of, z, y)):
            assert kind.dtype == arms[name].loss.dtype
        value, grads = jax.jit(
            jax.value_and_grad(lambda z: loss_of(z, y).sum().astype(jnp.float32))
        )(z)
        return value, *grads[0]

    loss, label, other = costs("ce16", 9)  # 1 + exp(-9) is 1 in float16
    assert loss == label == 0 < other
    assert costs("ce16", 20) == (0, 0, 0)  # and exp(-20) is 0
    assert costs("ce_bf16", 9)[:2] == (0, 0)
    truth = np.log1p(np.exp(-9.0))
    for name, rtol in (("exact", 1e-6), ("ce32", 1e-2), ("ce64", 1e-6)):
        np.testing.assert_allclose(costs(name, 9)[0], truth, rtol=rtol)
    assert costs("ce32", 20)[:2] == (0, 0)
    loss, label, other = costs("exact", 20)
    np.testing.assert_allclose([loss, other, -label], np.exp(-20.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task.name", "modula", "did you mean modular?"),
        ("model.name", "MPL", "did you mean MLP?"),
        ("model.param_dtype", "int32", "did you mean float16, bfloat16, float32,"),
        ("loss.library", "optx", "did you mean optax?"),
        ("loss.name", "hinge_loss", "expected a loss that takes logits and integer"),
        ("loss.name", "softmax_cross_entropy", "expected a loss that takes logits"),
        ("loss.dtype", "float33", "did you mean float32,"),
        ("train_fraction", 0.001, "leaves 0 for training"),
        ("evaluate_per_decade", 0, "per_decade 0"),
        ("arms.perp.steps", -1, "steps is -1"),
        ("x64", False, "loss.dtype is float64, expected config.x64 to be True"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_what_cannot_be_run_is_not_built(key, value, message):
    config = get_config("quick")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=re.escape(message)):
        grokking.build(config)


# What the claims say of results whose verdict one can work out by hand.


def arm(**columns):
    """Results at steps 0, 10, 20, ...; each metric has a number per step, or seeds."""
    tables = {
        name.replace("__", "/"): np.atleast_2d(np.asarray(values, float).T).T
        for name, values in columns.items()
    }
    seeds = next(iter(tables.values())).shape[1]
    rows = [
        {"arm": "a", "seed": str(SEEDS[j]), "step": str(10 * i)}
        | {name: str(table[i, j]) for name, table in tables.items()}
        for i in range(len(next(iter(tables.values()))))
        for j in range(seeds)
    ]
    return ArmResult("a", SEEDS[:seeds], rows)


def reaches(*steps):
    """A metric that is 0 before a step and 1 from it on, for each seed."""
    return (10 * np.arange(10)[:, None] >= np.array(steps)).astype(float)


@pytest.fixture(scope="module")
def claims():
    with jax.enable_x64(True):
        return grokking.build(get_config("study")).claims


def verdict(claims, text, **results):
    (claim,) = [claim for claim in claims if text in claim.text]
    (verdict,) = report.judge([claim], results)
    return verdict.verdict, verdict.ours


@pytest.mark.parametrize(
    ("memorised", "generalised", "expected"),
    [
        (50, 40, "reproduced"),
        (40, 40, "reproduced"),
        (40, 50, "not reproduced"),
        (NEVER, 50, "reproduced"),  # it generalises all the same
        (40, NEVER, "not reproduced"),
        (NEVER, NEVER, "not reproduced"),
    ],
)
def test_delay(claims, memorised, generalised, expected):
    perp = arm(train__accuracy=reaches(memorised), test__accuracy=reaches(generalised))
    got = verdict(claims, "by the time that it memorises (perp)", perp=perp)
    assert got == (expected, [float(expected == "reproduced")])


def test_every_seed_has_to_pass(claims):
    perp = arm(train__accuracy=reaches(50, 50, 50), test__accuracy=reaches(40, 50, 60))
    got = verdict(claims, "by the time that it memorises (perp)", perp=perp)
    assert got == ("not reproduced", [1, 1, 0])


@pytest.mark.parametrize("text", ["float32 collapses later", "float64 collapses later"])
@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        (20, 60, ("reproduced", [40])),
        (20, NEVER, ("reproduced", [np.inf])),
        (20, 20, ("not reproduced", [0])),
        (NEVER, 60, ("not reproduced", [-np.inf])),
        (NEVER, NEVER, ("not tested", [np.nan])),
    ],
)
def test_collapse_order(claims, text, early, late, expected):
    names = ("ce16", "ce32") if "32" in text else ("ce32", "ce64")
    steps = dict(zip(names, (early, late), strict=True))
    results = {n: arm(train__collapse=reaches(step)) for n, step in steps.items()}
    np.testing.assert_equal(verdict(claims, text, **results), expected)


@pytest.mark.parametrize(
    ("text", "name", "passes", "fails"),
    [
        ("StableMax generalises", "stablemax", [0.1, 0.9], [0.1, 0.89]),
        ("float32 does not", "ce32", [0.1, 0.3, 0.2], [0.1, 0.31, 0.2]),
        ("float64 does not", "ce64", [0.1, 0.3], [0.1, 0.31]),
        ("generalises once float32", "exact", [0.1, 0.95], [0.1, 0.5]),
    ],
)
def test_generalisation(claims, text, name, passes, fails):
    for values, expected in ((passes, "reproduced"), (fails, "not reproduced")):
        results = {name: arm(test__accuracy=values)}
        got = verdict(claims, text, **results)
        assert got == (expected, [max(values)])


def test_collapse_in_float16(claims):
    whole = arm(train__collapse=[0, 0.5, 1], grad_norm=[1, 0.1, 0])
    partly = arm(train__collapse=[0, 1, 0.99], grad_norm=[1, 0, 1e-30])
    for ce16, expected in ((whole, "reproduced"), (partly, "not reproduced")):
        assert verdict(claims, "every row of the training", ce16=ce16)[0] == expected
        assert verdict(claims, "then exactly zero", ce16=ce16)[0] == expected


@pytest.mark.parametrize(
    ("alignment", "norm", "aligned", "grows"),
    [(0.61, 6, True, True), (1.0, 5.9, True, False), (0.59, 9, False, True)],
)
def test_naive_loss_minimisation(claims, alignment, norm, aligned, grows):
    stablemax = arm(alignment=[0, 0.8, alignment], weight_norm=[3, 2, norm])
    words = {True: "reproduced", False: "not reproduced"}
    text = "naive loss minimisation late"
    assert verdict(claims, text, stablemax=stablemax) == (words[aligned], [alignment])
    text = "its weights grow"
    assert verdict(claims, text, stablemax=stablemax) == (words[grows], [norm / 3])


@pytest.mark.parametrize(
    ("text", "other"),
    [("as far as in float64", "ce64"), ("as far as StableMax", "stablemax")],
)
def test_questions_of_how_far(claims, text, other):
    for exact, best, expected in (
        ([0.1, 0.5, 0.25], [0.1, 0.25, 0.125], "reproduced"),
        ([0.1, 0.25], [0.5, 0.25], "not reproduced"),
        ([0.1, 0.25], [0.1, 0.25], "reproduced"),
    ):
        results = {"exact": arm(test__accuracy=exact), other: arm(test__accuracy=best)}
        got = verdict(claims, text, **results)
        assert got == (expected, [max(exact) - max(best)])


@pytest.mark.parametrize(
    ("collapsed", "zeros", "expected"),
    [(0.5, 0, "reproduced"), (0.49, 0, "not reproduced"), (1, 0.01, "not reproduced")],
)
def test_question_of_collapse_without_zeros(claims, collapsed, zeros, expected):
    exact = arm(train__collapse=[0, collapsed], train__zero_loss=[0, zeros])
    got = verdict(claims, "none costs exactly zero", exact=exact)
    assert got == (expected, [float(expected == "reproduced")])


def test_questions_are_ours_and_claims_are_the_papers(claims):
    for claim in claims:
        assert claim.question == (not claim.cited)
        assert claim.needs


@pytest.mark.usefixtures("x64")
def test_claims_of_arms_that_are_not_there_are_left_out():
    smoke = grokking.build(get_config("smoke"))
    assert not [claim for claim in smoke.claims if "float32" in claim.text[:30]]
    assert all(set(claim.needs) <= smoke.arms.keys() for claim in smoke.claims)
