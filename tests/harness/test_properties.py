"""The checks of the catalogue reject rows that lie, each by the check meant for it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness import cases, meshes, properties
from logitlab import numerics
from logitlab.losses import _rows as rows
from logitlab.losses import comp_sums

HONEST = rows.Row(
    comp_sums.cross_entropy,
    kind="example",
    make=rows.class_labels,
    source="softmax collapse, Prieto et al. 2025, arXiv:2501.04697",
    definition="paper",
    convex=True,
    calibrated=True,
    proper=True,
    label_only=True,
)
SEQUENCES = dict(
    kind="sequence",
    make=lambda key, shape, dtype: (
        jax.random.normal(key, shape, dtype),
        jnp.arange(1, shape[0] + 1, dtype=dtype),
    ),
    shift_invariant=False,
    lower=None,
    calibrated=False,
    proper=False,
    label_only=False,
    where=False,
    tokens=True,
)
MEAN = dict(kind="batch", convex=True, calibrated=True, proper=False, label_only=False)


@pytest.mark.parametrize("group", [*properties.GROUPS, *properties.HEAVY])
def test_an_honest_row_passes(group):
    assert not properties.failures(HONEST, [group])


def test_an_honest_batch_row_passes():
    def mean(logits, labels, *, axis=-1, where=None, mask=None):
        if mask is not None:
            logits = jnp.where(mask[:, None], logits, 0)
            labels = jnp.where(mask, labels, 0)
        losses = numerics.label_nll(logits, labels, axis=axis, where=where)
        return numerics.masked_mean(losses, mask)

    row = dataclasses.replace(HONEST, loss=mean, **MEAN)
    assert not properties.failures(row)


def test_an_honest_elementwise_row_passes():
    def bce(logits, labels, *, axis=-1, where=None):
        z = numerics.promote_to_float32(logits)
        if where is not None:
            z = jnp.where(where, z, 0)
        losses = numerics.label_nll(jnp.stack([jnp.zeros_like(z), z], -1), labels)
        return losses if where is None else jnp.where(where, losses, 0)

    row = dataclasses.replace(
        HONEST,
        loss=bce,
        kind="elementwise",
        make=rows.binary_labels,
        shift_invariant=False,
        label_only=False,
    )
    found = properties.failures(row, ["numbers", "edges"])
    assert not found


def test_an_honest_row_of_sequences_passes():
    def nll(logps, weights, *, mask=None):
        keep = numerics.check_mask(mask, logps.shape)
        logps = jnp.where(keep, numerics.promote_to_float32(logps), 0)
        weights = jnp.where(keep.any(-1), numerics.promote_to_float32(weights), 0)
        return -weights * logps.sum(-1)

    row = dataclasses.replace(HONEST, loss=nll, **SEQUENCES)
    assert not properties.failures(row, ["numbers", "edges"])


def _pairs(key, shape, dtype):
    return tuple(3 * jax.random.normal(key, (2, *shape), dtype))


PAIR = dict(kind="pair", make=_pairs, shape=(6,), where=False, symmetric=False)
PAIR |= dict(calibrated=False, proper=False, label_only=False)
FOUR = PAIR | dict(make=lambda *a: (*_pairs(*a), *_pairs(*a)))


def test_an_honest_pair_row_passes():
    def logistic(chosen, rejected):
        x = numerics.promote_to_float32(rejected) - numerics.promote_to_float32(chosen)
        return jax.nn.softplus(x)

    row = dataclasses.replace(HONEST, loss=logistic, **PAIR)
    assert not properties.failures(row)


def _nll(logits, labels, axis=-1, where=None):
    return numerics.label_nll(logits, labels, axis=axis, where=where)


def _scores(logits, labels):
    return jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]


def gathers(logits, labels, *, axis=-1, where=None):
    top = jnp.sort(numerics.prepare_logits(logits, axis=axis, where=where), -1)
    return _nll(logits, labels, axis, where) + 0 * jnp.where(top > 0, top, 0).sum(-1)


def offset_matters(logits, labels, *, axis=-1, where=None):
    norm = numerics.logsumexp(logits, axis=axis, where=where)
    return _nll(logits, labels, axis, where) + 1e-3 * jnp.where(norm > 0, norm, 0)


def rounds(logits, labels, *, axis=-1, where=None):
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    return jax.nn.logsumexp(z, -1) - _scores(z, labels)


def leaks(logits, labels, *, axis=-1, where=None):
    where = jnp.ones(logits.shape, bool) if where is None else where
    total = jnp.log(jnp.sum(jnp.exp(logits - jnp.max(logits)) * where, -1))
    return total - _scores(logits, labels) + jnp.max(logits)


def leaks_slope(logits, labels, *, axis=-1, where=None):
    squares = jnp.where(logits > 0, jnp.sqrt(logits), 0)  # half a double where
    squares = squares if where is None else jnp.where(where, squares, 0)
    return _nll(logits, labels, axis, where) + squares.sum(-1)


def multiplies(logits, labels, *, axis=-1, where=None, mask=None):
    mask = jnp.ones(labels.shape, bool) if mask is None else mask
    losses = _nll(logits, jnp.maximum(labels, 0), axis, where)
    return (losses * mask).sum() / jnp.maximum(mask.sum(), 1)


def ignores_mask(logits, labels, *, axis=-1, where=None, mask=None):
    return _nll(logits, labels, axis, where).mean()


def multiplies_tokens(logps, weights, *, mask=None):
    keep = numerics.check_mask(mask, logps.shape)
    return -weights * (logps * keep).sum(-1)


def counts_all_tokens(logps, weights, *, mask=None):
    logps = jnp.where(numerics.check_mask(mask, logps.shape), logps, 0)
    return -weights * logps.mean(-1)


def clamps_labels(logits, labels, *, axis=-1, where=None):
    return _nll(logits, jnp.clip(labels, 0, logits.shape[axis] - 1), axis, where)


def stops(logits, labels, *, axis=-1, where=None):
    nll = _nll(logits, labels, axis, where)
    return jax.lax.stop_gradient(jnp.exp(-nll)) * nll


@jax.custom_vjp
def reverse_only(logits, labels):
    return _nll(logits, labels)


reverse_only.defvjp(
    lambda z, y: (_nll(z, y), (jax.nn.softmax(z), y)),
    lambda kept, g: (g[..., None] * (kept[0] - jax.nn.one_hot(kept[1], 5)), None),
)


def overflows(logits, labels, *, axis=-1, where=None):
    return jnp.log(jnp.exp(logits).sum(-1)) - _scores(logits, labels)


def bounded(logits, labels, *, axis=-1, where=None):
    return -jnp.expm1(-_nll(logits, labels, axis, where))


def favours_first(logits, labels, *, axis=-1, where=None):
    nll = _nll(logits, labels, axis, where)
    return jnp.where(labels == 0, 2, 1) * nll


def halves(logits, labels, *, axis=-1, where=None):
    return jax.nn.softplus(_scores(logits.astype(jnp.bfloat16), labels))


def trusts_the_top(logits, labels, *, axis=-1, where=None):
    """Exact, as long as the largest score is the largest score to the last bit."""
    top = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    e = jnp.exp(logits - top)
    others = jnp.where(e < 1, e, 0).sum(-1)
    return jnp.log1p(others) - (_scores(logits, labels) - top[..., 0])


def looks(logits, labels, *, axis=-1, where=None):
    nll = _nll(logits, labels, axis, where)
    return nll if isinstance(labels, jax.core.Tracer) else nll + 1


def follows_its_reference(chosen, rejected, ref_chosen, ref_rejected):
    gap = numerics.promote_to_float32(rejected) - numerics.promote_to_float32(chosen)
    return jax.nn.softplus(gap + (ref_chosen - ref_rejected).astype(gap.dtype))


def sees_the_chosen_only(chosen, rejected):
    stopped = jax.lax.stop_gradient(numerics.promote_to_float32(rejected))
    return jax.nn.softplus(stopped - numerics.promote_to_float32(chosen))


def mixes_examples(logits, labels, *, axis=-1, where=None):
    nll = _nll(logits, labels, axis, where)
    return nll - jnp.mean(nll)  # one example, one loss


LIARS = [
    (gathers, "sharded", "auto", "moves logits-sized", {}),
    (offset_matters, "numbers", "shift", "shifted", {}),
    (bounded, "numbers", "shift", "changes nothing", dict(shift_invariant=False)),
    (rounds, "numbers", "exact", "margins", {}),
    (leaks, "edges", "where", "where", {}),
    (leaks_slope, "edges", "torture", "NaN in the gradient", {}),
    (multiplies, "edges", "mask", "NaN behind the mask", MEAN),
    (ignores_mask, "edges", "mask", "NaN behind the mask", MEAN),
    (multiplies_tokens, "edges", "mask", "NaN", SEQUENCES),
    (counts_all_tokens, "edges", "mask", "mask: value", SEQUENCES),
    (clamps_labels, "edges", "mask", "expected NaN", {}),
    (mixes_examples, "edges", "mask", "masked mean", {}),
    (stops, "numbers", "gradient", "central difference", {}),
    (reverse_only, "numbers", "gradient", "forward-mode", {}),
    (overflows, "edges", "torture", "NaN in the gradient", {}),
    (bounded, "numbers", "convex", "above a chord", {}),
    (bounded, "numbers", "bounds", "is above", dict(upper=0.5)),
    (bounded, "numbers", "bounds", "is below", dict(lower=0.5)),
    (bounded, "numbers", "proper", "slopes", {}),
    (favours_first, "numbers", "permutation", "permuted", {}),
    (halves, "numbers", "result", "give bfloat16", {}),
    (looks, "transforms", "eager", "eager", {}),
    (trusts_the_top, "numbers", "fused", "in the same program", {}),
    (sees_the_chosen_only, "numbers", "gradient", "central difference", PAIR),
    (follows_its_reference, "numbers", "constant", "argument 1 is", FOUR),
]


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("loss", "group", "check", "message", "fields"),
    [pytest.param(*liar, id=f"{liar[0].__name__}-{liar[2]}") for liar in LIARS],
)
def test_a_row_that_lies_fails(loss, group, check, message, fields):
    row = dataclasses.replace(HONEST, loss=loss, **fields)
    with pytest.raises(Exception, match=message):
        properties.checks_of(cases.case_of(row), group)[check](cases.case_of(row))


def test_a_failure_names_every_check_that_fails():
    row = dataclasses.replace(HONEST, loss=bounded, upper=0.5)
    with pytest.raises(ExceptionGroup, match="convex, bounds, proper, exact") as raised:
        properties.assert_passes(row, "numbers")
    assert len(raised.value.exceptions) == 4
    with pytest.raises(ExceptionGroup, match="fails convex, proper"):
        properties.assert_passes(row, "numbers", skipped={"bounds"})


def test_only_checks_that_apply_are_run():
    case = cases.case_of(HONEST)
    assert {"convex", "proper", "exact"} <= set(properties.checks_of(case, "numbers"))
    pair = cases.case_of(dataclasses.replace(HONEST, loss=sees_the_chosen_only, **PAIR))
    assert set(properties.checks_of(pair, "edges")) == {"torture", "sizes"}


def test_links_go_by_the_chain_rule():
    case = cases.case_of(HONEST)
    z, labels = case.args(0)
    for name in ("stablemax", "checkered"):
        link = properties.one_array(name)

        def composed(z, link=link):
            return case.loss(link(z), labels)

        values, pull = jax.vjp(jax.jit(composed), z)
        _, *got = properties.linked(case, name, (z, labels))
        want = (values, *pull(jnp.ones_like(values)))
        cases.assert_same(got, want, 1e-6, name)


def test_logits_traffic_reads_tuples_and_sizes():
    hlo = """
      %a = f32[4,24]{1,0} all-gather(%p), dimensions={1}
      %b = (f32[4]{0}, bf16[4,48]{1,0}) all-reduce-start(%q, %r)
      %c = f32[] all-reduce(%s)
      %d = f32[4,24]{1,0} add(%all-gather.1, %t)
    """
    assert meshes.logits_traffic(hlo, 96) == [
        "all-gather of [4,24]",
        "all-reduce of [4,48]",
    ]


def test_error_does_not_overlook_nan_and_inf():
    one = np.ones(2)
    assert cases.error(one, one) == 0
    assert cases.error([1, np.nan], one) == np.inf
    assert cases.error([1, np.inf], one) == np.inf
    assert cases.error([1, np.inf], [1, np.inf]) == 0
    assert cases.error([1, np.inf], [1, -np.inf]) == np.inf
    assert cases.error(one, np.ones(3)) == np.inf
