"""Real processes that train together, beside one process with as many devices."""

import csv
import io
import json
import socket

import jax
import numpy as np

from harness import others
from logitlab.train import checkpoints

SCRIPT = """
import json, os, signal, sys, time
settings = json.loads(sys.argv[1])
import jax
jax.config.update("jax_num_cpu_devices", settings["devices"] // settings["count"])
jax.config.update("jax_enable_x64", True)
import numpy as np
from ml_collections import ConfigDict
from logitlab import data, metrics, train
from logitlab.train import loop, processes
if settings["count"] > 1:
    processes.join(settings["address"], settings["count"], settings["index"])
assert jax.device_count() == settings["devices"]
from harness import toy

workdir = settings["workdir"]
batches = data.stream("wine", "train", 16, seed=0, data_dir=settings["data"])

def wine_init(key):
    return {"kernel": 0.01 * jax.random.normal(key, (13, 4))}

def wine_loss(params, batch, key):
    scores = jax.nn.log_softmax(batch["x"] / 100.0 @ params["kernel"])
    return -scores[jax.numpy.arange(len(scores)), batch["y"]]

streamed = toy.run(
    init=wine_init, loss=wine_loss, data={"train": train.Stream(batches, ahead=4)},
    evaluate=lambda params, data: {"norm": metrics.tree_norm(params)},
)
toys = toy.run(batch_size=8, evaluate_at=range(21), best="loss", patience=9)
study = train.Study({
    "streamed": streamed,
    "toy": toys,
    "closed form": train.Compute(lambda key: {"half": 0.5, "line": np.arange(3.0)}),
})
config = ConfigDict(settings["config"]).lock()
append = loop.Logs.append

def or_a_signal(self, rows, timing=None):
    if rows[0]["arm"] == "toy" and rows[0]["step"] == settings["stop_at"]:
        number = settings["signals"].get(str(jax.process_index()))
        if number is not None:
            os.kill(os.getpid(), number)
    append(self, rows, timing)

loop.Logs.append = or_a_signal
if jax.process_index() == settings["slow"]:
    draw = streamed.data["train"].batches
    def slowly(step):
        for batch in draw(step):
            time.sleep(0.2)
            yield batch
    streamed.data["train"] = train.Stream(slowly, ahead=4)
if jax.process_index() == settings["fast_clock"]:
    monotonic = time.monotonic
    time.monotonic = lambda: 50 * monotonic()
try:
    results = train.run_study(study, config, workdir, quiet=True)
except train.Interrupted as stopped:
    sys.exit(stopped.exit_code)
except (train.WorkdirError, ValueError) as error:
    sys.exit(str(error))
print(json.dumps({"steps": results["toy"].steps.tolist()}))
"""


def free_port():
    with socket.socket() as there:
        there.bind(("localhost", 0))
        return there.getsockname()[1]


def start(count, *, configs=None, **settings):
    """``count`` processes of the script, with a config or one each.

    ``signals`` are what processes, by number, get when the second arm comes to the step
    ``stop_at``; process ``slow`` waits for each batch that it reads, and the clock of
    process ``fast_clock`` runs fifty times as fast.
    """
    usual = dict(devices=4, stop_at=-1, signals={}, slow=-1, fast_clock=-1)
    address = f"localhost:{free_port()}"
    settings = usual | settings | {"count": count, "address": address}
    configs = configs or [settings.pop("config")] * count
    return [
        others.start(SCRIPT, json.dumps(settings | {"index": i, "config": config}))
        for i, config in enumerate(configs)
    ]


def end(started):
    """Exit codes, outputs and errors of processes that end."""
    said = [process.communicate(timeout=300) for process in started]
    codes = [process.returncode for process in started]
    return codes, [out for out, _ in said], [err for _, err in said]


def table(workdir):
    text = (workdir / "metrics.csv").read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def same(workdir, other, rtol=1e-11):
    """The same rows and parameters, to rounding."""
    rows, others = table(workdir), table(other)
    assert len(rows) == len(others)
    for row, expected in zip(rows, others, strict=True):
        assert row.keys() == expected.keys()
        for name in row:
            if name == "arm" or not expected[name]:
                assert row[name] == expected[name]
            else:
                a, b = float(row[name]), float(expected[name])
                np.testing.assert_allclose(a, b, rtol=rtol)
    for arm, part in [("streamed", "params"), ("toy", "params"), ("toy", "best")]:
        step = max(int(f.name) for f in (other / "checkpoints" / arm).iterdir())
        got, expected = (
            checkpoints.read(folder / "checkpoints" / arm, step, part)
            for folder in (workdir, other)
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 100),
            got,
            expected,
        )
