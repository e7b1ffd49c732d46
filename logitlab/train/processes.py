"""Multi-process coordination: initialization, barriers, agreement."""

import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from logitlab.train.files import WorkdirError

_NOTE = 4096  # bytes of what the first process tells in one go
_SILENCE = 40  # seconds without a heartbeat, after which a process counts as dead


def join(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> bool:
    """Joins the other processes of this run, before JAX looks for devices.

    With nothing given, the environment says whether there are others: a Cloud TPU pod,
    a SLURM step or an Open MPI job of several tasks, or ``JAX_COORDINATOR_ADDRESS``.

    Args:
      coordinator: ``host:port`` of process 0, to be reached from all.
      count: how many processes there are.
      index: which one this is, from 0 on.

    Returns:
      Whether it joined; False where this process is alone.

    Raises:
      ValueError: only some of the three are given, or ``index`` is out of range.
    """
    given = {"coordinator": coordinator, "count": count, "index": index}
    if all(value is None for value in given.values()):
        if not _expected():
            return False
        _initialize()
        return True
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} missing: coordinator, count and index are given "
            f"together, came {given}"
        )
    assert index is not None
    assert count is not None
    if not 0 <= index < count:
        raise ValueError(f"index is {index}, expected 0 to {count - 1}")
    _initialize(coordinator, count, index)
    return True


def _initialize(*given):
    # JAX would keep SIGTERM to itself, for those who ask it at every step.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(*given, heartbeat_timeout_seconds=_SILENCE)


@contextlib.contextmanager
def naming_who_died() -> Iterator[None]:
    """Leaves JAX the time to say which process died, where an exchange fails for that.

    What fails then says that a connection closed, not whose. A little later the
    heartbeats are missed, and JAX ends this process with the number of the other one.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(
            f"process {jax.process_index()}: {str(error).splitlines()[0]}\n"
            f"waiting up to {_SILENCE} s to hear whether another process has died",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(_SILENCE + 20)  # missed heartbeats are looked for now and then
        raise


def _expected():
    """Whether the environment names other processes."""
    known = os.environ.get
    if known("JAX_COORDINATOR_ADDRESS"):
        return True
    # Of the step, not of the job: a batch script itself is one task of many.
    several = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    if any(int(known(name) or 1) > 1 for name in several):
        return True
    # JAX sets it where it finds chips: the compiler for them may be there without any.
    platforms = jax.config.jax_platforms or ""
    return "tpu" in platforms and importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def agree(values: Sequence[int]) -> np.ndarray:
    """All-gathers values, [processes, values]; a collective of all processes."""
    mine = np.asarray(values, np.int32)
    if jax.process_count() == 1:
        return mine[None]
    return np.asarray(multihost_utils.process_allgather(mine))


def barrier(name: str) -> None:
    """Waits until every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def in_first(action: Callable[[], Any]) -> Any:
    """The JSON value of ``action()``, which runs in the first process alone.

    Raises:
      ValueError, WorkdirError: where ``action`` does, with its message, in all
        processes; other errors as ``WorkdirError`` in the others.
    """
    if jax.process_count() == 1:
        return action()
    said, error = {}, None
    if is_first():
        try:
            said = {"value": action()}
        except Exception as caught:  # the others would wait for ever
            kind = "ValueError" if type(caught) is ValueError else "WorkdirError"
            said, error = {kind: str(caught)}, caught
    said = _told(said)
    if error is not None:
        raise error
    if "ValueError" in said:
        raise ValueError(said["ValueError"])
    if "WorkdirError" in said:
        raise WorkdirError(said["WorkdirError"])
    return said["value"]


def _told(said):
    """Broadcasts a JSON value from the first process."""
    note = json.dumps(said).encode()
    rounds = agree([-(-len(note) // _NOTE)])[0, 0]
    padded = np.zeros(rounds * _NOTE, np.uint8)
    if is_first():
        padded[: len(note)] = np.frombuffer(note, np.uint8)
    told = np.asarray(multihost_utils.broadcast_one_to_all(padded))
    return json.loads(told.astype(np.uint8).tobytes().rstrip(b"\0"))
