"""Other processes that run what the tests run."""

import os
import pathlib
import subprocess
import sys
import textwrap

from harness.quickly import FLAGS

TESTS = pathlib.Path(__file__).parents[1]
ROOT = TESTS.parent
LONG = """
    import sys
    from harness import toy
    from ml_collections import ConfigDict
    from logitlab import train

    config = ConfigDict(json.loads(sys.argv[2])).lock()
    steps = int(sys.argv[3])
    run = toy.run(steps=steps, evaluate_at=range(0, steps + 1, 5), batch_size=4)
    train.run_study(train.Study({"a": run}), config, sys.argv[1])
"""


def environment():
    """Of a process that imports what the tests can, and compiles as they do."""
    path = os.pathsep.join([str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": FLAGS,
    }


def start(code, *arguments):
    """A process that can import what the tests can."""
    return subprocess.Popen(
        [sys.executable, "-c", "import json\n" + textwrap.dedent(code), *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends_well(process, seconds=300):
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()  # one that hangs would be found by the tests that follow
    assert process.returncode == 0, errors
