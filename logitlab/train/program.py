"""The compiled programs of one arm, over all its seeds and devices."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab.metrics import Mean
from logitlab.train import mesh as meshes
from logitlab.train import step as steps
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
      data: the training data that ``advance`` takes, unless it is streamed.
      place: puts stacked batches from the host on the devices.
      stream: where the training data come from, if they are streamed.
    """

    init: Callable[[], steps.TrainState]
    advance: Callable
    evaluate: Callable[[Any], dict[str, np.ndarray]]
    data: Any
    place: Callable
    stream: Stream | None


def build_program(
    run: Run,
    seeds: Sequence[int],
    mesh: Mesh,
    *,
    seeds_by: str = "auto",
    parallel: str = "jit",
    skip_nonfinite: bool = False,
) -> Program:
    """Compiles nothing yet; places the data and wires the functions of a run.

    Args:
      run: what to train.
      seeds: one training each, all in one program.
      mesh: has an axis ``data``, over which the rows of a batch are spread.
      seeds_by: ``map`` runs them one after another, ``vmap`` side by side; ``auto`` is
        ``map`` on CPUs, where one run keeps the machine busy, else ``vmap``.
      parallel: ``jit`` over the mesh, or ``pmap`` over its devices.
      skip_nonfinite: steps that are not finite are skipped, and end nothing.

    Raises:
      ValueError: a setting or a batch size outside its range, or a mesh for pmap with
        other axes than ``data``.
    """
    if parallel not in PARALLEL:
        raise ValueError(f"parallel is {parallel!r}, expected one of {PARALLEL}")
    if seeds_by not in SEEDS_BY:
        raise ValueError(f"seeds_by is {seeds_by!r}, expected one of {SEEDS_BY}")
    if seeds_by == "auto":
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        seeds_by = "map" if on_cpu else "vmap"
    if parallel == "pmap" and mesh.shape["data"] != mesh.size:
        raise ValueError(
            f"mesh is {dict(mesh.shape)}, but pmap knows the axis data alone"
        )
    over = _seed_map(seeds_by)
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    init_keys, data_keys = keys, jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys)

    own_data = callable(run.data)
    data = dict(jax.jit(jax.vmap(run.data))(data_keys) if own_data else run.data)
    row_axis = 1 if own_data else 0
    stream = data.pop("train") if isinstance(data["train"], Stream) else None
    held = meshes.shard_rows(data, mesh, axis=row_axis)
    # Under pmap every device has all rows, and cuts out its own.
    spread = meshes.shard_rows if parallel == "jit" else meshes.replicate_rows
    train = data.get("train")
    if stream is None:
        if run.batch_size is None:
            train = meshes.pad_rows(train, mesh.shape["data"], axis=row_axis)
        train = spread(train, mesh, axis=row_axis)
    feed = _feed(run, stream, train, row_axis)

    if parallel == "jit":
        feed = _spread(feed, mesh)
    else:
        feed = _own_share(feed, mesh.shape["data"])
    step = steps.make_step(
        run.loss,
        run.optimizer,
        from_optimizer=run.from_optimizer,
        axis_name=None if parallel == "jit" else "data",
        skip_nonfinite=skip_nonfinite,
    )
    advance_one = steps.advance(step, feed, stops=not skip_nonfinite)

    def advance(state, data, n):
        if own_data and stream is None:
            return over(advance_one)(state, data, n)
        return over(lambda state, n: advance_one(state, data, n))(state, n)

    everywhere = NamedSharding(mesh, P())
    if parallel == "jit":
        dispatch = jax.jit(advance, donate_argnums=0, out_shardings=everywhere)
    else:
        mapped = jax.pmap(
            lambda state, data, n, place: advance(state, data, n),
            axis_name="data",
            in_axes=(None, None, None, 0),  # pmap asks for at least one mapped argument
            out_axes=None,
            devices=list(mesh.devices.flat),
        )
        places = jnp.arange(mesh.size)

        def dispatch(state, data, n):
            return mapped(state, data, n, places)

    @jax.jit
    def evaluate(params, held):
        if own_data:
            return over(run.evaluate)(params, held)
        return over(lambda params: run.evaluate(params, held))(params)

    def init():
        # Apart, so that arms which differ in their optimiser alone, by the length of
        # its schedule for instance, share what takes long to compile.
        draw = over(lambda key: steps.init_params(run.init, key))
        params = jax.jit(draw, out_shardings=everywhere)(init_keys)

        def make(key, params):
            return steps.init_state(lambda _: params, run.optimizer, key)

        return jax.jit(over(make), out_shardings=everywhere)(init_keys, params)

    return Program(
        init=init,
        advance=dispatch,
        evaluate=lambda params: _numbers(evaluate(params, held)),
        data=train,
        place=lambda batches: spread(batches, mesh, axis=1),
        stream=stream,
    )


def _seed_map(seeds_by):
    if seeds_by == "vmap":
        return jax.vmap
    return lambda fn: lambda *args: jax.lax.map(lambda a: fn(*a), args)


def _feed(run, stream, train, row_axis):
    if stream is not None:
        if run.batch_size is not None:
            raise ValueError("batch_size is set, but a stream brings its own batches")
        return steps.stream_feed()
    if run.batch_size is None:
        return steps.whole_feed()
    rows = jax.tree.leaves(train)[0].shape[row_axis]
    if not 1 <= run.batch_size <= rows:
        raise ValueError(f"batch_size is {run.batch_size}, expected 1 to {rows} rows")
    return steps.sample_feed(run.batch_size)


def _spread(feed, mesh):
    """Batches go over the mesh's ``data`` axis, where their size allows."""

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
