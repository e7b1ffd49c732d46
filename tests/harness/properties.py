"""What every catalogue row promises, as checks that a row which lies does not pass.

A check takes a ``Case`` (a row and its compiled programs) and raises AssertionError.
Programs are few: one per dtype and shape, called with many values. Beside each check
stands which rows it is about, if not all.
"""

import functools
import importlib.util
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from harness import edges, meshes
from harness.cases import (
    PRODUCERS,
    SCALED,
    applies,
    applies_to,
    assert_exact,
    assert_same,
    case_of,
    error,
    is_float,
    is_key,
    made,
    map_arrays,
    quick_jit,
    take_classes,
    to_float64,
    wide,
)
from harness.interpreter import interpreted
from logitlab import links

# --- numbers: the same everywhere, and right


def check_result(case):
    """Shape and dtype of what comes back, for float32 and bfloat16."""
    shapes = {"example": case.shape[:-1], "elementwise": case.shape}
    shapes["sequence"] = case.shape[:-1] if case.row.tokens else case.shape[:1]
    shape = case.shape[:-1] if case.two else shapes.get(case.row.kind)
    for dtype in ("float32", "bfloat16"):
        args = case.args(0, dtype)
        values, grad = case.call(args)
        assert values.dtype == np.float32, f"{dtype} logits give {values.dtype}"
        assert grad.dtype == dtype, f"{dtype} logits get a {grad.dtype} gradient"
        if shape is not None:
            assert values.shape == shape, f"values {values.shape}, expected {shape}"
        rounding = 2**-8 if dtype == "bfloat16" else 0  # of a gradient in that dtype
        values, grad = case.run(args)
        values64, grad64 = case.run64(args)
        assert error(values, values64) <= case.row.rtol, (
            f"{dtype}: value is off by {error(values, values64):.3g}"
        )
        assert error(grad, grad64) <= case.row.rtol + rounding, (
            f"{dtype}: gradient is off by {error(grad, grad64):.3g}"
        )


def check_eager(case):
    """jit = eager; the value only, for a gradient traces the logits in either."""
    args = case.args(1)
    off = error(case.loss(*args), case.run(args)[0])
    assert off <= case.row.rtol, f"eager: value is off by {off:.3g}"


def check_gradient(case):
    """Gradient against differences of the value, its derivative against its own.

    Along directions in which all logits take part, each by another share.
    """
    args = to_float64(case.args(2))
    z, h = args[0], 1e-5
    grad = case.run64(args)[1]
    directions = np.random.default_rng(0).normal(size=(3, *z.shape))
    with jax.enable_x64(True):
        first, second = map(np.asarray, _second_order(case)(args, directions))
    assert np.isfinite(second).all(), "second derivatives are not finite"
    slopes = (directions * grad).sum(tuple(range(1, 1 + z.ndim)))
    scale = 1 + np.abs(grad).max()
    np.testing.assert_allclose(
        first,
        slopes,
        rtol=1e-8,
        atol=1e-8 * scale,
        err_msg="forward mode is not reverse mode",
    )
    if case.row.surrogate:
        return
    for direction, slope, hv in zip(directions, slopes, second, strict=True):
        up, down = (
            case.run64(case.with_logits(args, z + step * direction)) for step in (h, -h)
        )
        values, grads = ((a - b) / (2 * h) for a, b in zip(up, down, strict=True))
        assert abs(slope - values.sum()) <= 1e-6 * scale, (
            f"gradient {slope:.9g}, central difference {values.sum():.9g}"
        )
        if case.row.smooth:
            assert np.abs(hv - grads).max() <= 1e-5 * (1 + np.abs(grads).max()), (
                f"second derivative\n{hv}\ndifference of gradients\n{grads}"
            )


# Functions of what the model itself drew, whose slopes are meant.
FOLLOWED = {"ref_sample_logps", "teacher_denoised"}


def _other_models(case):
    """Where the arguments are that another model computed."""
    names = [*inspect.signature(case.row.loss).parameters]
    names = names[case.two :]  # both scores of a pair are one argument
    return [
        at
        for at, (name, a) in enumerate(zip(names, case.args(0), strict=False))
        if name.startswith(("teacher", "ref_", "old_", "prev_"))
        and name not in FOLLOWED
        and is_float(a)
    ]


@applies_to(_other_models)
def check_constant(case):
    """Teachers, references and older policies get no gradient."""
    args, where = case.args(0), _other_models(case)

    @interpreted
    def slopes(*others):
        def total(others):
            known = dict(enumerate(args)) | dict(zip(where, others, strict=True))
            return case.loss(*(known[at] for at in range(len(args)))).sum()

        return jax.grad(total)(others)

    for at, slope in zip(where, slopes(*(args[at] for at in where)), strict=True):
        assert not slope.any(), f"argument {at} is another model's and gets a gradient"


def _second_order(case):
    @interpreted
    def run(args, directions):
        def first(z):
            return case.loss(z, *args[1:]).sum()

        def along(v):
            return jax.jvp(first, args[:1], (v,))[1]

        def curved(v):
            return jax.jvp(jax.grad(first), args[:1], (v,))[1]

        return jax.vmap(along)(directions), jax.vmap(curved)(directions)

    return run


def check_shift(case):
    """Shift invariance where declared, and its absence where declared absent."""
    moved = 0
    for seed in range(3):
        args = to_float64(case.args(seed))
        shift = np.random.default_rng(seed).normal(size=(*args[0].shape[:-1], 1)) * 10
        values, grad = case.run64(args)
        got = case.run64(case.with_logits(args, args[0] + shift))
        if case.row.shift_invariant:
            assert_same(got, (values, grad), 1e-8, "logits shifted")
            sums = np.abs(grad.sum(-1)).max(initial=0)
            assert sums <= 1e-10 * (1 + np.abs(grad).max()), (
                f"slopes of a shift-invariant loss add up to {sums:.3g}"
            )
        moved = max(moved, error(got[0], values))
    if not case.row.shift_invariant:
        assert moved > 1e-6, (
            "declared shift_invariant=False, but a shift changes nothing"
        )


@applies_to(lambda case: case.row.convex)
def check_convex(case):
    """Below its chords and above its tangents."""
    for seed in range(6):
        args = to_float64(case.args(seed))
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, *args[0].shape)) * 10.0 ** rng.uniform(-1, 1)
        t = rng.uniform(0.1, 0.9)
        at = [
            case.run64(case.with_logits(args, z)) for z in (a, b, t * a + (1 - t) * b)
        ]
        (fa, grad), (fb, _), (fm, _) = at
        slack = 1e-9 * (1 + np.abs(fa) + np.abs(fb))
        assert (fm <= t * fa + (1 - t) * fb + slack).all(), "above a chord"
        rise = (grad * (b - a)).sum()
        assert (fb - fa).sum() >= rise - slack.sum(), "below a tangent"


@applies_to(lambda case: case.row.lower is not None or case.row.upper is not None)
def check_bounds(case):
    """No value outside the declared bounds, at any scale."""
    lower = -np.inf if case.row.lower is None else case.row.lower
    upper = np.inf if case.row.upper is None else case.row.upper
    slack = 1e-5 * (1 + max(abs(b) for b in (lower, upper, 0) if np.isfinite(b)))
    for seed in range(8):
        args = case.args(seed)
        z = np.asarray(args[0]) * np.float32(10.0 ** (seed % 4 - 1))
        values, _ = case.run(case.with_logits(args, z))
        assert (values >= lower - slack).all(), f"{values.min()} is below {lower}"
        assert (values <= upper + slack).all(), f"{values.max()} is above {upper}"


@applies_to(lambda case: case.row.symmetric and case.classes is not None)
def check_permutation(case):
    """Classes have no order."""
    args = case.args(3)
    order = np.random.default_rng(0).permutation(case.classes)
    moved = map_arrays(lambda a: take_classes(a, order, case.classes), args)
    if case.takes_label:
        y = np.asarray(args[case.label_at()])
        moved = case.with_labels(moved, np.argsort(order)[y])
    values, grad = case.run(args)
    if values.shape[-1:] == case.shape[-1:]:  # one for each logit, or for each class
        values = values[..., order]
    assert_same(
        case.run(moved), (values, grad[..., order]), case.row.rtol, "classes permuted"
    )


def _has_only_labels(case):
    """One label for each logit or for each example, and no other argument."""
    elementwise = case.row.kind == "elementwise"
    return len(case.args(0)) == 2 and (elementwise or case.takes_label)


@applies_to(lambda case: case.row.proper and _has_only_labels(case))
def check_proper(case):
    """Minimal at the probabilities."""
    rng = np.random.default_rng(0)
    args = to_float64(case.args(0))
    if case.row.kind == "elementwise":
        q = rng.uniform(0.05, 0.95, args[0].shape)
        z, weights = np.log(q / (1 - q)), (1 - q, q)
    else:
        q = rng.dirichlet(np.full(case.classes, 2.0), case.shape[:-1])
        z, weights = np.log(q), np.moveaxis(q, -1, 0)

    def risk(z):
        total = slope = 0
        for label, weight in enumerate(weights):
            labels = np.full(args[1].shape, label, args[1].dtype)
            values, grad = case.run64((z, labels))
            total += (weight * values).sum()
            slope += (
                weight if weight.shape == grad.shape else weight[..., None]
            ) * grad
        return total, slope

    best, slope = risk(z)
    assert np.abs(slope).max() < 1e-8, f"risk at the probabilities slopes {slope}"
    for scale in (1e-2, 0.3, 3):
        other, _ = risk(z + scale * rng.normal(size=z.shape))
        assert other > best, f"risk {other} off the probabilities, {best} at them"


# --- exactness


MARGINS = (-80, -60, -30, -17, -5, -1, 0, 1, 5, 12, 17, 20, 30, 50, 70, 80)


def confident(case, seed=0):
    """Arguments whose logits are sure of a class by each of the margins, in blocks.

    Where labels are integers it is the margin of the label; teachers are sure of the
    same class, of another one, or of none.
    """
    rng = np.random.default_rng(seed)
    n = max(case.examples, 1)
    margins = np.resize(MARGINS, -(-len(MARGINS) // n) * n).reshape(-1, n)
    for at, block in enumerate(margins):
        args = case.args(seed)
        if case.row.tokens:  # log-probabilities, of which none is positive
            z = -(10.0 ** rng.uniform(-8, 1.9, case.shape))
        elif case.classes is None or case.row.kind == "elementwise":
            z = rng.choice(MARGINS, case.shape) * rng.uniform(0.9, 1, case.shape)
        else:
            y = np.arange(n) % case.classes
            z = _sure_of(case, y, block, rng)
            if case.takes_label:
                args = case.with_labels(args, y)
            other = (y + at) % case.classes
            teacher = _sure_of(case, other, rng.permutation(np.abs(block)), rng)
            args = args[:1] + map_arrays(
                lambda a, t=teacher: t.astype(a.dtype) if _is_teacher(case, a) else a,
                args[1:],
            )
        yield block, case.with_logits(args, z)


def _sure_of(case, y, margins, rng):
    """Logits of which ``y`` is ahead of the next class by the margins."""
    z = rng.uniform(-3, 0, case.shape)
    y = np.broadcast_to(y.reshape(-1, *(1,) * (z.ndim - 2)), z.shape[:-1])[..., None]
    margins = np.broadcast_to(margins.reshape(-1, *(1,) * (z.ndim - 1)), y.shape)
    np.put_along_axis(z, (y + 1) % case.classes, 0.0, -1)
    np.put_along_axis(z, y, margins, -1)
    return z


def _is_teacher(case, a):
    """Another array of logits: no distribution, nor anything else without a sign."""
    return is_float(a) and a.shape == case.shape and a.min(initial=0) < 0


@applies_to(lambda case: not case.row.inexact)
def check_exact(case):
    """Right in every digit for margins from -80 to 80, value and gradient."""
    rtol = max(1e-5, case.row.rtol)
    for block, args in confident(case):
        want = case.run64(args)
        assert_exact(case.run(args), want, rtol, f"margins {block}", case.examples)


def check_fused(case):
    """As exact for logits that the same program computes, by all kinds of producers."""
    rtol = max(case.row.rtol, 1e-5)
    producers = {"scaled": SCALED} if case.row.tokens else PRODUCERS
    for name, producer in producers.items():
        for _, args in [*confident(case, 1)][:: -1 if case.row.inexact else 2]:
            z = made(args[0], producer)
            want = case.run(case.with_logits(args, z))
            got = wide(case.optimized(tuple(args), producer))
            text = f"{name} in the same program"
            if case.row.inexact:
                assert_same(got, want, rtol, text)
            else:
                assert_exact(got, want, rtol, text, case.examples)


# --- transforms


def check_transforms(case):
    """vmap, scan and remat give the numbers of a loop."""
    many = [case.args(seed) for seed in range(3)]
    want = _loop(case, many)

    @interpreted
    def run(stacked):
        first = jax.tree.map(lambda a: a[0], stacked)

        @jax.checkpoint
        def loss(z):
            return case.loss(z, *first[1:])

        values, pull = jax.vjp(loss, first[0])
        return {
            "vmap": jax.vmap(case.traced)(stacked),
            "scan": jax.lax.map(case.traced, stacked),
            "remat": (values, *pull(jnp.ones_like(values))),
        }

    results = run(_stack(many))
    want["remat"] = tuple(a[0] for a in want["loop"])
    for name, got in results.items():
        assert_same(got, want.get(name, want["loop"]), case.row.rtol, name)


def check_devices(case):
    """shard_map, pmap and an exported program give the numbers of a loop.

    In one program, for then the compiler finds that their bodies are the same.
    """
    many = [case.args(seed) for seed in range(2)]
    want, stacked = _loop(case, many)["loop"], _stack(many)
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))
    across = jax.pmap(case.traced, devices=jax.devices()[:2])
    exported = _exported(case, many[0])

    def local(program):
        @functools.partial(
            jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P("data")
        )
        def run(stacked):
            pair = program(jax.tree.map(lambda a: a[0], stacked))
            return jax.tree.map(lambda a: a[None], pair)

        return run

    @quick_jit
    def run(stacked):
        return {
            "shard_map": local(case.traced)(stacked),
            "pmap": across(stacked),
            "export": local(exported)(stacked),
        }

    for name, got in run(stacked).items():
        assert_same(wide(got), want, case.row.rtol, name)


def _exported(case, args):
    """Value and gradient as a program that was written down and read again."""
    at = [i for i, a in enumerate(args) if is_key(a)]  # travel as plain integers

    def data(args):
        return tuple(
            jax.random.key_data(a) if i in at else a for i, a in enumerate(args)
        )

    def program(args):
        return case.traced(
            tuple(
                jax.random.wrap_key_data(a) if i in at else a
                for i, a in enumerate(args)
            )
        )

    exported = jax.export.export(jax.jit(program))(data(args))
    if importlib.util.find_spec("flatbuffers"):  # what serializing needs
        exported = jax.export.deserialize(exported.serialize())
    return lambda args: exported.call(data(args))


def _loop(case, many):
    return {"loop": tuple(map(np.stack, zip(*map(case.run, many), strict=True)))}


def _stack(many):
    return jax.tree.map(lambda *a: jnp.stack(a), *many)


# --- links


LINK_NAMES = tuple(
    name
    for name in links.__all__
    if not name.startswith(("checkoid", "checkered_"))  # no class logits come of these
)


def one_array(name):
    """A link as a function of class logits alone; two factors are made of them."""
    if name != "checkered":
        return getattr(links, name)
    return lambda z: links.checkered(jnp.stack([z, z[..., ::-1]], -2))


@functools.cache
def _link(name):
    """Output of a link, and what it makes of a gradient that arrives there."""

    link = one_array(name)

    @quick_jit
    def run(z, arriving):
        out, pull = jax.vjp(link, z)
        return out, *pull(arriving)

    return run


def linked(case, name, args):
    """The link's logits, then values and gradient of the loss of them.

    By the chain rule, as autodiff does it, from one program for each loss and each
    link instead of one for each pair.
    """
    z = np.asarray(args[0])
    out = _link(name)(z, np.zeros_like(z))[0]
    values, arriving = case.call(case.with_logits(args, out))
    return wide((out, values, _link(name)(z, arriving)[1]))


def _takes_links(case):
    return case.row.kind == "example" and case.row.shift_invariant and case.row.where


@applies_to(_takes_links)
def check_links(case):
    """Every link in front of the loss: finite, or inf where a probability is 0."""
    rng = np.random.default_rng(0)
    inputs = [("random", scale * rng.normal(size=case.shape)) for scale in (0.3, 1, 5)]
    inputs += list(edges.torture(case, rng))
    for link in LINK_NAMES:
        for what, z in inputs:
            args = case.with_logits(case.args(0), z)
            out, values, grad = linked(case, link, args)
            text = f"{link} of {what} logits"
            assert not np.isnan(out).any(), f"{text}: {out}"
            assert not np.isnan(values).any(), f"{text}: values {values}"
            assert not np.isnan(grad).any(), f"{text}: gradient\n{grad}"
            if what == "random" and np.isfinite(out).all():
                assert np.isfinite(values).all(), f"{text}: values {values}"
                assert np.isfinite(grad).all(), f"{text}: gradient\n{grad}"


# What every row is held to on each run, and what costs a compilation or more for each
# row: by default the latter are for one row of each kind.
GROUPS = {
    "numbers": {
        "result": check_result,
        "gradient": check_gradient,
        "constant": check_constant,
        "shift": check_shift,
        "convex": check_convex,
        "bounds": check_bounds,
        "permutation": check_permutation,
        "proper": check_proper,
        "exact": check_exact,
        "fused": check_fused,
        "links": check_links,
    },
    "edges": {
        "torture": edges.check_torture,
        "sizes": edges.check_sizes,
        "where": edges.check_where,
        "mask": edges.check_mask,
    },
}
HEAVY = {
    "transforms": {
        "eager": check_eager,
        "transforms": check_transforms,
        "devices": check_devices,
    },
    "sharded": {
        "auto": meshes.check_auto,
        "explicit": meshes.check_explicit,
    },
}


# Of each kind of loss one whose programs are small.
SAMPLES = {
    "cross_entropy",
    "gspo_token_loss",
    "nca_loss",
    "nce_loss",
    "sigmoid_cross_entropy",
}


def checks_of(case, group):
    """The checks of a group that are about the row, by name."""
    checks = (GROUPS | HEAVY)[group]
    return {name: check for name, check in checks.items() if applies(check, case)}


def failures(row, groups=(*GROUPS, *HEAVY), skipped=()):
    """The checks that the row does not pass, by name, with what they raise."""
    case, found = case_of(row), {}
    for group in groups:
        for name, check in checks_of(case, group).items():
            try:
                if name not in skipped:
                    check(case)
            except Exception as e:  # a loss that raises is a loss that fails
                found[name] = e
    return found


def assert_passes(row, group, skipped=()):
    """Runs all checks of a group that are about the row, then names those it fails."""
    if found := failures(row, [group], skipped):
        raise ExceptionGroup(f"{row.name} fails {', '.join(found)}", [*found.values()])
