"""The compiled programs of one arm over all its seeds and devices."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab.metrics import Mean
from logitlab.train import feeds
from logitlab.train import mesh as meshes
from logitlab.train import step as steps
from logitlab.train._costs import products
from logitlab.train.study import Run, Stream

PARALLEL = ("jit", "pmap")
SEEDS_BY = ("auto", "map", "vmap")


@dataclasses.dataclass(frozen=True)
class Program:
    """What the loop calls. Every array has a leading axis over the seeds.

    Attributes:
      init: () -> state.
      advance: (state, data, n) -> (state, loss), ``n`` [seeds]; donates the state.
      evaluate: params -> named numbers, each [seeds], on the host.
      example: () -> ones in the place of what ``evaluate`` returns, before anything is
        compiled.
      keep_best: (state, better) -> state whose ``best`` are the params of the seeds
        that got better, bool [seeds].
      data: the training data that ``advance`` takes, unless it is streamed.
      place: puts stacked batches from the host on the devices.
      stream: where the training data come from, if they are streamed.
      state: shapes and shardings of a state.
      compile: (state, data) -> the executable that ``advance`` calls for such arrays,
        or shapes of them.
      step_flops: () -> floating-point operations of a step on one device, all seeds:
        the compiler's count, in which a loop inside the loss counts once, or that of
        the step's matrix products, if it is more; after ``compile``, or the first
        ``advance``.
    """

    init: Callable[[], steps.TrainState]
    advance: Callable
    evaluate: Callable[[Any], dict[str, np.ndarray]]
    example: Callable[[], dict[str, np.ndarray]]
    keep_best: Callable
    data: Any
    place: Callable
    stream: Stream | None
    state: steps.TrainState
    compile: Callable[[Any, Any], jax.stages.Compiled]
    step_flops: Callable[[], float]


def build_program(
    run: Run,
    seeds: Sequence[int],
    mesh: Mesh,
    *,
    seeds_by: str = "auto",
    parallel: str = "jit",
    sharding: meshes.Rules = (),
    accumulate: int = 1,
    precision: str | None = None,
    skip_nonfinite: bool = False,
    shared: dict | None = None,
    shapes_only: bool = False,
) -> Program:
    """Places a run's data and builds its functions; compilation is lazy.

    Args:
      run: what to train.
      seeds: one training each, all in one program.
      mesh: has an axis ``data``, over which the rows of a batch are spread.
      seeds_by: ``map`` runs them one after another, ``vmap`` side by side; ``auto`` is
        ``map`` on CPUs, where one run keeps the machine busy, else ``vmap``.
      parallel: ``jit`` over the mesh, or ``pmap`` over its devices.
      sharding: rules by which names the parameters are spread, see
        :func:`logitlab.train.mesh.rule_shardings`; the optimizer's state follows.
      accumulate: parts of a batch that go one after another, see
        :func:`logitlab.train.make_step`.
      precision: dtype of the computation, see there.
      skip_nonfinite: steps that are not finite are skipped, and end nothing.
      shared: where runs with the same ``at`` find each other's programs, and runs in a
        row with the same function ``data`` what it drew; one for all calls with the
        same settings.
      shapes_only: draw and place nothing, in a program that is to be compiled and not
        to be run; ``data`` are then shapes, and the devices need not be there.

    Raises:
      ValueError: a setting or a batch size outside its range, a rule that does not fit,
        or, for pmap, rules, several processes, or a mesh with other axes than ``data``.
    """
    seeds_by = check_settings(mesh, seeds_by, parallel, sharding)
    shared = {} if shared is None else shared
    layout = _Layout(mesh, parallel, _seed_map(seeds_by))
    data = _place_data(run, seeds, layout, shared, shapes_only)
    feed = _make_feed(run, data, layout)

    def advance_as(run, state, train, n):
        step = steps.make_step(
            run.loss,
            run.optimizer,
            from_optimizer=run.from_optimizer,
            axis_name=None if parallel == "jit" else "data",
            skip_nonfinite=skip_nonfinite,
            accumulate=accumulate,
            precision=precision,
            inputs=run.inputs,
            untrained=run.untrained,
            extra_args=run.extra_args,
        )
        advance_one = steps.advance(step, feed, stops=not skip_nonfinite)
        if data.own and data.stream is None:
            return layout.over(advance_one)(state, train, n)
        return layout.over(lambda state, n: advance_one(state, train, n))(state, n)

    init, shapes, placed = _make_init(run, seeds, layout, sharding)
    compiled_for = functools.partial(_compile_advance, layout, placed)
    dispatch = _Advance(run, advance_as, compiled_for, layout.everywhere, shared)
    evaluate = _make_evaluate(run, data, layout)
    keep_best = _make_keep_best(placed.best)
    # The compiler counts a loop's body once: a step, and with it one seed of `map`.
    loops = accumulate * (len(seeds) if seeds_by == "map" else 1)
    return Program(
        init=init,
        advance=dispatch,
        evaluate=lambda params: _numbers(evaluate(params, data.held)),
        example=lambda: _numbers(
            jax.tree.map(
                lambda a: np.ones(a.shape, a.dtype),
                evaluate.eval_shape(shapes.params, data.held),
            )
        ),
        keep_best=lambda state, better: state._replace(
            best=keep_best(state.best, state.params, np.asarray(better))
        ),
        data=data.train,
        place=layout.place_batches,
        stream=data.stream,
        state=jax.tree.map(meshes.lying, shapes, placed),
        compile=dispatch.compile,
        step_flops=lambda: float(
            np.fmax(loops * dispatch.flops, dispatch.compiled.products / mesh.size)
        ),
    )


def check_settings(mesh, seeds_by, parallel, sharding):
    """Raises for settings that do not fit; returns ``seeds_by`` with auto resolved."""
    if parallel not in PARALLEL:
        raise ValueError(f"parallel is {parallel!r}, expected one of {PARALLEL}")
    if seeds_by not in SEEDS_BY:
        raise ValueError(f"seeds_by is {seeds_by!r}, expected one of {SEEDS_BY}")
    if "data" not in mesh.shape:
        raise ValueError(f"mesh is {dict(mesh.shape)}, expected an axis data")
    if parallel == "pmap":
        _check_pmap(mesh, sharding)
    if seeds_by != "auto":
        return seeds_by
    return "map" if mesh.devices.flat[0].platform == "cpu" else "vmap"


def _check_pmap(mesh, sharding):
    if mesh.shape["data"] != mesh.size:
        raise ValueError(
            f"mesh is {dict(mesh.shape)}, but pmap knows the axis data alone"
        )
    if sharding:
        raise ValueError(f"sharding is {sharding}, but pmap has parameters everywhere")
    if jax.process_count() > 1:
        raise ValueError(
            f"parallel is 'pmap', which is for one process; there are "
            f"{jax.process_count()}: use 'jit'"
        )


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Devices and seeds of a run; ``over`` maps a function of one seed over all."""

    mesh: Mesh
    parallel: str
    over: Callable

    @property
    def everywhere(self) -> NamedSharding:
        """The replicated sharding."""
        return NamedSharding(self.mesh, P())

    def place_batches(self, batches):
        """Puts stacked batches from the host on the devices."""
        if self.parallel == "pmap":
            return meshes.replicate_rows(batches, self.mesh)
        return meshes.join_rows(batches, self.mesh, axis=1)


class _Data(NamedTuple):
    """A run's data on the devices.

    Attributes:
      train: what batches are drawn from, unless they are streamed.
      held: all data that are not streamed, for ``evaluate``.
      stream: where batches come from, if they are streamed.
      own: whether each seed has its own, on a leading axis.
      row_axis: the axis of the examples.
    """

    train: Any
    held: Any
    stream: Stream | None
    own: bool
    row_axis: int


def _place_data(run, seeds, layout, shared, shapes_only):
    own, mesh = callable(run.data), layout.mesh
    axis = 1 if own else 0
    pad = functools.partial(meshes.pad_rows, multiple=mesh.shape["data"], axis=axis)
    data = _drawn(run.data, seeds, shared, shapes_only) if own else run.data
    data = dict(data)
    stream = data.pop("train") if isinstance(data["train"], Stream) else None
    if shapes_only:
        data = jax.eval_shape(lambda data: data, data)
        pad = functools.partial(jax.eval_shape, pad)
    held = meshes.shard_rows(data, mesh, axis=axis)
    train = data.get("train")
    if stream is None:
        # What batches are drawn from must be at hand wherever they go; and under pmap
        # every device cuts its own rows out of all.
        everyone = layout.parallel == "pmap" or run.batch_size is not None
        if run.batch_size is None:
            train = pad(train)
        spread = meshes.replicate_rows if everyone else meshes.shard_rows
        train = spread(train, mesh, axis=axis)
    return _Data(train, held, stream, own, axis)


def _drawn(data, seeds, shared, shapes_only):
    """Each seed's own data, stacked; cached for the next run with the same function."""
    if shared.get("drawn", (None,))[0] is not data:
        keys = [jax.random.fold_in(jax.random.key(seed), 1) for seed in seeds]
        draw, keys = jax.vmap(data), jnp.stack(keys)
        drawn = jax.eval_shape(draw, keys) if shapes_only else jax.jit(draw)(keys)
        shared["drawn"] = data, drawn
    return shared["drawn"][1]


def _make_init(run, seeds, layout, rules):
    """The function that makes the initial state, its shapes and its shardings."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    draw = layout.over(lambda key: steps.init_params(run.init, key))

    @layout.over
    def make(key, params):
        return steps.init_state(
            lambda _: params,
            run.optimizer,
            key,
            keep_best=run.best is not None,
            untrained=run.untrained,
        )

    shapes = jax.eval_shape(lambda keys: make(keys, draw(keys)), keys)
    placed = _state_shardings(shapes, layout.mesh, rules)

    def init():
        here = meshes.place(keys, layout.everywhere)
        # Apart, so that arms which differ in their optimizer alone, by the length of
        # its schedule for instance, share what takes long to compile.
        params = jax.jit(draw, out_shardings=placed.params)(here)
        return jax.jit(make, out_shardings=placed)(here, params)

    return init, shapes, placed


def _state_shardings(shapes, mesh, rules):
    """Shardings of a state: parameters by rule, the optimizer's state like them."""
    everywhere = NamedSharding(mesh, P())
    if not rules:
        return jax.tree.map(lambda _: everywhere, shapes)
    params = meshes.rule_shardings(shapes.params, mesh, rules, lead=1)
    return steps.TrainState(
        step=everywhere,
        params=params,
        opt_state=meshes.rule_shardings(
            shapes.opt_state, mesh, rules, lead=1, strict=False
        ),
        key=everywhere,
        skipped=everywhere,
        best=params if jax.tree.leaves(shapes.best) else (),
    )


class _Compiled(NamedTuple):
    """What to call, the executable, and the operations of its matrix products."""

    call: Callable
    executable: jax.stages.Compiled
    products: float


class _Advance:
    """The ``advance`` of a program: compiled at its first call, its flops counted.

    Runs with the same ``at`` use what the first of them compiled.
    """

    def __init__(self, run, advance_as, compiled_for, everywhere, shared):
        self._run, self._advance_as, self._compiled_for = run, advance_as, compiled_for
        self._everywhere, self._shared = everywhere, shared
        self._call = self.compiled = None

    def __call__(self, state, data, n):
        args = state, data, meshes.place(np.asarray(n, np.int32), self._everywhere)
        if self._call is None:
            self._compile(args)
        return self._call(*args)

    def compile(self, state, data):
        """The executable for arrays, or shapes, like these."""
        n = jax.ShapeDtypeStruct(state.step.shape, np.int32)
        self._compile((state, data, meshes.place(n, self._everywhere)))
        return self.compiled.executable

    def _compile(self, args):
        # A NumPy scalar is a number here too, and its 64 bits decide no dtype.
        run, values = (
            self._run,
            {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in self._run.values.items()
            },
        )
        if run.at is not None:
            shapes = [(a.shape, a.dtype, a.sharding) for a in jax.tree.leaves(args)]
            key = run.at, str(shapes)
            if key not in self._shared:
                self._shared[key] = self._for_all((*args, values))
            if self._shared[key] is not None:
                self.compiled = compiled = self._shared[key]
                self._call = lambda *args: compiled.call(*args, values)
                return
        plain = functools.partial(self._advance_as, run)
        self.compiled = self._compiled_for(plain, args)
        self._call = self.compiled.call

    def _for_all(self, args):
        """One program for all values, if the run accepts traced ones."""

        def advance(state, data, n, values):
            return self._advance_as(self._run.at(values), state, data, n)

        try:
            return self._compiled_for(advance, args)
        except TypeError:  # of JAX, where a traced value should be a number
            return None

    @functools.cached_property
    def flops(self) -> float:
        executable = self.compiled.executable
        return (executable.cost_analysis() or {}).get("flops", math.nan)


def _compile_advance(layout, placed, advance, args):
    """Compiles ``advance`` for ``args``."""
    if layout.parallel == "jit":
        spread = (placed, layout.everywhere)
        jitted = jax.jit(advance, donate_argnums=0, out_shardings=spread)
        traced = jitted.trace(*args)
        compiled = traced.lower().compile()
        return _Compiled(compiled, compiled, products(traced.jaxpr.jaxpr))
    mapped = jax.pmap(
        lambda place, *args: advance(*args),
        axis_name="data",
        in_axes=(0, *[None] * len(args)),  # pmap asks for a mapped argument
        out_axes=None,
        devices=list(layout.mesh.devices.flat),
    )
    places = jnp.arange(layout.mesh.size)
    compiled = mapped.lower(places, *args).compile()
    return _Compiled(functools.partial(compiled, places), compiled, math.nan)


def _make_evaluate(run, data, layout):
    @functools.partial(jax.jit, out_shardings=layout.everywhere)
    def evaluate(params, held):
        if data.own:
            return layout.over(run.evaluate)(params, held)
        return layout.over(lambda params: run.evaluate(params, held))(params)

    return evaluate


def _make_keep_best(placed):
    @functools.partial(jax.jit, donate_argnums=0, out_shardings=placed)
    def keep_best(best, params, better):
        def choose(old, new):
            return jnp.where(jnp.expand_dims(better, range(1, new.ndim)), new, old)

        return jax.tree.map(choose, best, params)

    return keep_best


def _seed_map(seeds_by):
    if seeds_by == "vmap":
        return jax.vmap
    return lambda fn: lambda *args: jax.lax.map(lambda a: fn(*a), args)


def _make_feed(run, data, layout):
    """The feed of a run, its batches sharded over devices."""
    feed = _whole_batches(run, data)
    if layout.parallel == "jit":
        return _spread(feed, layout.mesh)
    return _own_share(feed, layout.mesh.shape["data"])


def _whole_batches(run, data):
    if data.stream is not None:
        if run.batch_size is not None:
            raise ValueError("batch_size is set, but a stream brings its own batches")
        return feeds.stream_feed()
    if run.batch_size is None:
        return feeds.whole_feed()
    rows = jax.tree.leaves(data.train)[0].shape[data.row_axis]
    if not 1 <= run.batch_size <= rows:
        raise ValueError(f"batch_size is {run.batch_size}, expected 1 to {rows} rows")
    return feeds.sample_feed(run.batch_size)


def _spread(feed, mesh):
    """Shards batches over the mesh's ``data`` axis, where their size allows."""

    def batch(data, state, i, carry):
        rows, carry = feed.batch(data, state, i, carry)
        if all(a.shape[0] % mesh.shape["data"] == 0 for a in jax.tree.leaves(rows)):
            spread = NamedSharding(mesh, P("data"))
            rows = jax.lax.with_sharding_constraint(rows, spread)
        return rows, carry

    return feed._replace(batch=batch)


def _own_share(feed, ways):
    """Inside ``pmap`` each device cuts its rows out of the batch that all have."""

    def batch(data, state, i, carry):
        rows, carry = feed.batch(data, state, i, carry)
        rows = meshes.pad_rows(rows, ways)

        def cut(a):
            size = a.shape[0] // ways
            start = jax.lax.axis_index("data") * size
            return jax.lax.dynamic_slice_in_dim(a, start, size)

        return jax.tree.map(cut, rows), carry

    return feed._replace(batch=batch)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, np.ndarray]:
    out = {}
    for name, value in jax.device_get(dict(metrics)).items():
        if isinstance(value, Mean):
            with np.errstate(invalid="ignore"):  # nothing counted: NaN
                value = value.sum / value.count
        if np.ndim(value) != 1:
            raise ValueError(
                f"evaluate returned {name!r} with shape {np.shape(value)[1:]} for each "
                "seed, expected a scalar or a Mean of scalars"
            )
        out[name] = np.asarray(value)
    return out
