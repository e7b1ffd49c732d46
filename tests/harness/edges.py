"""The checks at the edges: extremes, hidden classes, masked examples, odd sizes."""

import jax
import numpy as np

from harness.cases import (
    BIG,
    FLOAT_MAX,
    applies_to,
    assert_same,
    is_float,
    map_arrays,
    take_classes,
)
from harness.interpreter import interpreted
from logitlab import numerics


def torture(case, rng):
    """Named logits; those that hold -inf come last."""
    shape, edge = case.shape, case.row.where
    sign = rng.choice([-1.0, 1.0], shape)
    order = rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1)
    one = np.arange(shape[-1]) == 0
    yield "zeros", np.zeros(shape)
    yield "1e4 everywhere", np.full(shape, 1e4)
    yield "+-1e4", 1e4 * sign
    yield "1e4 for one class", 1e4 * one + np.zeros(shape)
    yield "+-1e30", BIG * sign
    yield "1e30 everywhere", np.full(shape, BIG)
    yield "-1e30 everywhere", np.full(shape, -BIG)
    yield "1e30 for one class", BIG * one + np.zeros(shape)
    yield "tiny", 1e-30 * sign
    yield "ties at the top", np.where(order < 2, 3.0, order - 9.0)
    if edge and case.classes is not None:
        yield "one -inf", np.where(one, -np.inf, sign)
        yield "all but one -inf", np.where(one, 1.0, -np.inf) + np.zeros(shape)
        yield "-inf everywhere", np.full(shape, -np.inf)
        yield "-inf beside 1e30", np.where(one, -np.inf, BIG * sign)


def check_torture(case):
    """Finite wherever float64 says that float32 could be, and never NaN."""
    # One number for a set is a sum on the way to a mean: room for it to be one.
    room = 0.99 * FLOAT_MAX / (np.prod(case.shape) if case.row.kind == "batch" else 1)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        for name, z in torture(case, rng):
            args = case.with_logits(case.args(seed), z)
            (values, grad), (want, slope) = case.run(args), case.run64(args)
            assert not np.isnan(values).any(), f"{name}: NaN in {values}"
            assert not np.isnan(grad).any(), f"{name}: NaN in the gradient\n{grad}"
            possible = np.abs(want) < room
            lost = possible & ~np.isfinite(values)
            assert not lost.any(), f"{name}: {values[lost]} instead of {want[lost]}"
            off = np.abs(values[possible] - want[possible])
            size = 1 + np.abs(want[possible])
            if case.row.kind == "batch":  # large numbers may cancel in a set
                size += 1e-4 * np.abs(z[np.isfinite(z)]).max(initial=0)
            assert (off <= 1e-3 * size).all(), f"{name}: {values}, truly {want}"
            lost = (np.abs(slope) < room) & ~np.isfinite(grad)
            assert not lost.any(), f"{name}: gradient\n{grad}\ninstead of\n{slope}"
            if case.row.kind != "elementwise":
                assert (grad[np.isneginf(z)] == 0).all(), (
                    f"{name}: gradient at -inf\n{grad}"
                )
            if name == "-inf everywhere" and case.row.kind == "example":
                assert (values == 0).all(), f"every class hidden costs {values}"
                assert (grad == 0).all(), f"every class hidden slopes {grad}"


def check_sizes(case):
    """One class, and a batch without examples.

    A loss may say that it needs two classes, an objective of a set that it needs a set.
    """
    batches = []
    if case.row.kind != "batch" or _accepts(case, (0, *case.shape[1:])):
        batches.append(case.args(0, shape=(0, *case.shape[1:])))
    if case.classes is not None and _accepts(case, (*case.shape[:-1], 1)):
        batches.append(case.args(0, shape=(*case.shape[:-1], 1)))
    results = [case.quick(args) for args in batches]
    for args, (values, grad) in zip(batches, results, strict=True):
        assert np.isfinite(values).all(), f"logits {args[0].shape}: {values}"
        assert np.isfinite(grad).all(), f"logits {args[0].shape}: gradient {grad}"


def _accepts(case, shape):
    try:
        jax.eval_shape(case.traced, case.args(0, shape=shape))
    except ValueError:
        return False
    return True


def _hideable(case, args):
    """Arguments in which the last class is nobody's label and has no mass."""
    last = case.classes - 1
    if case.takes_label:
        y = np.asarray(args[case.label_at()])
        args = case.with_labels(args, np.where(y == last, 0, y))

    def without_mass(a):
        if a.ndim < 2 or a.shape[-1] != case.classes or not is_float(a) or a.min() < 0:
            return a
        mass = a.sum(-1, keepdims=True, dtype=np.float64)
        if np.abs(mass - 1).max() > 1e-5:
            return a
        a = np.where(np.arange(case.classes) == last, 0, a.astype(np.float64))
        return (a / a.sum(-1, keepdims=True)).astype(args[0].dtype)

    return args[:1] + map_arrays(without_mass, args[1:])


@applies_to(lambda case: case.row.where and case.classes is not None)
def check_where(case):
    """Hiding a class is deleting it, whatever number stands there."""
    c = case.classes
    args = _hideable(case, case.args(4))
    z = np.asarray(args[0])
    where = np.broadcast_to(np.arange(c) < c - 1, case.shape)
    fewer = map_arrays(lambda a: take_classes(a, np.arange(c - 1), c), args)
    want, slope = case.run(fewer)

    def compare(got, what):
        values, grad = got
        if values.shape[-1:] == (c,):  # one for each logit, or for each class
            assert np.isfinite(values).all(), f"{what}: {values}"
            values = values[..., :-1]
        assert_same((values, grad[..., :-1]), (want, slope), case.row.rtol, what)
        assert (grad[..., -1] == 0).all(), f"{what}: gradient {grad[..., -1]}"

    for junk in (0.0, np.nan, np.inf, BIG):
        spoilt = case.with_logits(args, np.where(where, z, junk))
        compare(case.run(spoilt, where=where), f"where, over logits of {junk}")
    if case.row.kind != "elementwise":
        compare(case.run(case.with_logits(args, np.where(where, z, -np.inf))), "-inf")
    if case.takes_label:  # the label hidden: a number or inf, its limit for a slope
        hidden = case.with_labels(args, np.full(case.shape[:-1], c - 1))
        values, grad = case.run(hidden, where=where)
        assert not np.isnan(values).any(), f"label hidden: {values}"
        assert np.isfinite(grad).all(), f"label hidden: gradient\n{grad}"
    nothing = case.with_logits(args, np.full(case.shape, np.nan))
    values, grad = case.run(nothing, where=where & False)
    assert np.isfinite(values).all(), f"all classes hidden: {values}"
    assert (grad == 0).all(), f"all classes hidden: gradient\n{grad}"
    if case.row.kind == "example":
        assert (values == 0).all(), f"all classes hidden: {values}"


def _leaves_out(case):
    """Whether a row takes a mask, or a label that a mask over its losses hides."""
    labelled = case.row.kind == "example" and case.takes_label
    return case.row.tokens or case.row.kind == "batch" or labelled


@applies_to(_leaves_out)
def check_mask(case):
    """An example left out is an example deleted, a label of -100 behind it included."""
    if case.row.tokens:
        _check_token_mask(case)
        return
    keep = np.arange(case.examples) != 1
    args = case.args(5)
    if case.row.kind == "batch":

        def spoil(a):
            if a.ndim == 0 or a.shape[0] != case.examples:
                return a
            rows = keep.reshape(-1, *(1,) * (a.ndim - 1))
            junk = np.nan if is_float(a) else -100
            return a if a.dtype == bool else np.where(rows, a, junk).astype(a.dtype)

        values, grad = case.run(map_arrays(spoil, args), mask=keep)
        assert np.isfinite(values).all(), f"NaN behind the mask: {values}"
        assert np.isfinite(grad).all(), f"NaN behind the mask: gradient\n{grad}"
        assert (grad[~keep] == 0).all(), f"gradient of a masked example\n{grad[~keep]}"
        if not case.has_key:
            fewer = map_arrays(
                lambda a: a[keep] if a.ndim and a.shape[0] == case.examples else a, args
            )
            want, slope = case.run(fewer)
            got = case.run(args, mask=keep)
            if values.shape == (case.examples, *want.shape[1:]):  # one per example
                assert (values[~keep] == 0).all(), f"what is left out costs {values}"
                values, got = values[keep], (got[0][keep], got[1])
            assert_same((values, grad[keep]), (want, slope), case.row.rtol, "mask, NaN")
            assert_same((got[0], got[1][keep]), (want, slope), case.row.rtol, "mask")
        values, grad = case.run(args, mask=keep & False)
        assert np.isfinite(values).all(), f"empty mask: {values}"
        assert (grad == 0).all(), f"empty mask: gradient\n{grad}"
    else:
        at = case.label_at()
        want, slope = case.run(args)
        keep = np.broadcast_to(keep.reshape(-1, *(1,) * (want.ndim - 1)), want.shape)
        spoilt = case.with_labels(args, np.where(keep, np.asarray(args[at]), -100))

        def masked(z, rest):
            values = case.loss(z, *rest)
            return numerics.masked_mean(values, keep), values

        run = interpreted(jax.grad(masked, has_aux=True))
        grad, values = run(spoilt[0], spoilt[1:])
        assert np.isnan(values[~keep]).all(), (
            f"under jit a label of -100 costs {values[~keep]}, expected NaN"
        )
        assert_same(
            (values[keep], grad),
            (want[keep], np.where(keep[..., None], slope, 0) / keep.sum()),
            case.row.rtol,
            "masked mean",
        )


def _check_token_mask(case):
    """A token left out is a token deleted; a sequence without any costs nothing."""
    args, (rows, columns) = case.args(5), case.shape
    row, column = np.arange(rows) != 1, np.arange(columns) != 1
    keep = row[:, None] & column

    def delete(a):
        a = take_classes(a, np.flatnonzero(column), columns)
        return a[row] if a.ndim and a.shape[0] == rows else a

    def spoil(a):
        if not is_float(a) or a.ndim == 0 or a.shape[0] != rows:
            return a
        return np.where(keep if a.ndim == 2 else row, a, np.nan).astype(a.dtype)

    want = case.run(map_arrays(delete, args))
    kept = {"elementwise": keep, "sequence": row}.get(case.row.kind)
    for what, given in {"mask": args, "mask, NaN": map_arrays(spoil, args)}.items():
        values, grad = case.run(given, mask=keep)
        assert (grad[~keep] == 0).all(), f"{what}: gradient of a masked token\n{grad}"
        if kept is not None:
            assert (values[~kept] == 0).all(), (
                f"{what}: what is left out costs {values}"
            )
            values = values[kept].reshape(want[0].shape)
        grad = grad[keep].reshape(want[1].shape)
        assert_same((values, grad), want, case.row.rtol, what)
    values, grad = case.run(args, mask=keep & False)
    assert (values == 0).all(), f"empty mask: {values}"
    assert (grad == 0).all(), f"empty mask: gradient\n{grad}"
