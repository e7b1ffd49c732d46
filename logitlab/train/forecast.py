"""What the step of an arm will need, before anything is trained or paid for."""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from logitlab.train import mesh as meshes
from logitlab.train._costs import collectives, local_bytes
from logitlab.train._hardware import (
    BANDWIDTHS,
    PEAKS,
    published,
    topology_devices,
    uncached,
)
from logitlab.train.runner import check, program_of
from logitlab.train.study import Run, Study


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a step of an arm needs on each device, for all its seeds together.

    Attributes:
      device: the kind of the devices.
      mesh: their axes.
      parameters: bytes.
      optimizer: bytes of the optimizer's state.
      data: bytes of what batches are drawn from, or of the batches that are at hand.
      temporaries: bytes beyond arguments and results.
      peak: bytes of arguments, results and temporaries together.
      collectives: kind -> how many, and the bytes of what goes into them or comes out,
        whichever is more.
      operations: floating-point operations, see ``step_flops`` of
        :func:`logitlab.train.build_program`.
      traffic: bytes read and written, by the compiler's count, in which a loop counts
        once, and what stays on the chip counts too.
      seconds: "operations" and "memory" -> the time that these take at the chip's
        published peaks; empty for devices that have none.
    """

    device: str
    mesh: Mapping[str, int]
    parameters: int
    optimizer: int
    data: int
    temporaries: int
    peak: int
    collectives: Mapping[str, tuple[int, int]]
    operations: float
    traffic: float
    seconds: Mapping[str, float]


def dry_run(study: Study, config, *, topology: str | None = None) -> dict[str, Needs]:
    """What a step of each arm needs on a device, from the compiled program.

    Use it before a run on many or on costly devices. The step is the one that
    :func:`run_study` executes, compiled for shapes: no parameters are allocated, no
    data placed, nothing is written. Arms without training are left out.

    Args:
      study: what would be run.
      config: the locked config that made it, see :func:`run_study`.
      topology: a slice of TPUs to compile for, such as ``v5e:16x16``; it needs no TPU,
        but the extra ``tpu-aot``. None takes the devices at hand.

    Raises:
      ValueError: before anything is compiled: there is no such topology, it or the
        devices at hand do not fill the mesh, or a setting is out of its range.

    >>> import jax.numpy as jnp
    >>> import ml_collections
    >>> import optax
    >>> from logitlab import losses, train
    >>> run = train.Run(
    ...     init=lambda key: jnp.zeros((64, 10)),
    ...     loss=lambda params, batch, key: losses.cross_entropy(
    ...         batch["x"] @ params, batch["y"]
    ...     ),
    ...     data={"train": {"x": jnp.ones((32, 64)), "y": jnp.zeros(32, jnp.int32)}},
    ...     optimizer=optax.adam(0.1),
    ...     evaluate=lambda params, data: {},
    ...     steps=1,
    ... )
    >>> config = ml_collections.ConfigDict(
    ...     {
    ...         "seed": 0,
    ...         "seeds": 1,
    ...         "seeds_by": "auto",
    ...         "mesh": {"data": 1},
    ...         "parallel": "jit",
    ...         "nonfinite": "stop",
    ...         "checkpoint": {"keep": 1},
    ...     }
    ... )
    >>> needs = train.dry_run(train.Study({"linear": run}), config)
    >>> needs["linear"].parameters, needs["linear"].optimizer
    (2560, 5124)
    """
    devices = None if topology is None else topology_devices(topology)
    mesh = meshes.make_mesh(config.mesh.to_dict(), devices)
    check(study, config, mesh)
    shared: dict = {}
    with uncached() if topology is not None else contextlib.nullcontext():
        return {
            name: _needs(program_of(run, config, mesh, shared, shapes_only=True), mesh)
            for name, run in study.arms.items()
            if isinstance(run, Run)
        }


def _needs(program, mesh):
    data = program.data
    if program.stream is not None:
        data = program.place(_stacked(program.stream))
    compiled = program.compile(program.state, data)
    moved: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for one in collectives(compiled.as_text()):
        times, size = moved[one.kind]
        moved[one.kind] = times + one.times, size + one.times * one.bytes
    memory, device = compiled.memory_analysis(), mesh.devices.flat[0]
    operations = program.step_flops()
    traffic = (compiled.cost_analysis() or {}).get("bytes accessed", float("nan"))
    rates = {
        "operations": (operations, published(PEAKS, device)),
        "memory": (traffic, published(BANDWIDTHS, device)),
    }
    return Needs(
        device=device.device_kind,
        mesh=dict(mesh.shape),
        parameters=local_bytes(program.state.params),
        optimizer=local_bytes(program.state.opt_state),
        data=local_bytes(data),
        temporaries=memory.temp_size_in_bytes,
        peak=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        collectives=dict(moved),
        operations=operations,
        traffic=traffic,
        seconds={name: n / rate for name, (n, rate) in rates.items() if rate},
    )


def _stacked(stream):
    """Shapes of the batches that go to the devices in one dispatch."""
    first = next(iter(stream.batches(0)))

    def stack(a):
        return jnp.broadcast_to(a, (stream.ahead, *a.shape))

    return jax.eval_shape(lambda batch: jax.tree.map(stack, batch), first)
