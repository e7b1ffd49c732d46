"""Checkpoints of one arm, through Orbax."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """Saves in the background, keeps the newest few, restores exactly.

    Beside the arrays goes ``meta``, a small JSON value: what the host remembers.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        """Makes the folder if need be; ``keep`` checkpoints stay."""
        if keep < 1:
            raise ValueError(f"checkpoint.keep is {keep}, expected at least 1")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True, create=True
        )
        self._manager = ocp.CheckpointManager(
            pathlib.Path(folder).absolute(), options=options
        )

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Copies the state off the devices, and writes it while the run goes on."""
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
        )
        if step == self._manager.latest_step():
            return  # a run is deterministic: the same step is the same state
        self._manager.save(step, args=args, force=True)

    def latest(self) -> tuple[int, dict] | None:
        """Step and meta of the newest checkpoint, ``None`` without one."""
        step = self._manager.latest_step()
        if step is None:
            return None
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return step, self._manager.restore(step, args=args)["meta"]

    def restore(self, step: int, like: Any = None) -> Any:
        """The state saved at ``step``, with the types and shardings of ``like``."""
        abstract = None
        if like is not None:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args)["state"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
