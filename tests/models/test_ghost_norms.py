import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted
from harness.quickly import quick_jit
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import models


@pytest.mark.parametrize("case", cases("ghost_batch_norm"))
@pytest.mark.usefixtures("x64")
def test_golden_ghost_batch_norm(case):
    (x,), want, settings = arrays(case, "x"), case["outputs"], case["params"]
    norm = models.GhostBatchNorm(
        settings["ghost_size"], 1 - settings["momentum_new"], settings["eps"]
    )
    start = {
        "params": {"scale": jnp.ones(x.shape[1]), "bias": jnp.zeros(x.shape[1])},
        "batch_stats": {"mean": np.zeros(x.shape[1]), "var": np.ones(x.shape[1])},
    }

    @interpreted
    def both(x):
        y, new = norm.apply(start, x, train=True, mutable=["batch_stats"])
        return y, new["batch_stats"], norm.apply(start | new, x)

    y, stats, later = both(x)
    close(y, want["y_train"])
    close(stats["mean"], want["running_mean"])
    close(stats["var"], want["running_var"])
    close(later, want["y_eval"])


def train(norm):
    def normalized(x):
        start = norm.init(jax.random.key(0), x)
        return norm.apply(start, x, train=True, mutable=["batch_stats"])

    return normalized


def test_one_part_is_batch_norm():
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype("f4")
    ours = models.GhostBatchNorm(6, 0.9)
    theirs = nn.BatchNorm(momentum=0.9, use_running_average=False)
    got, _ = interpreted(train(ours))(x)
    want = interpreted(lambda x: theirs.init_with_output(jax.random.key(0), x)[0])(x)
    np.testing.assert_allclose(got, want, atol=1e-5)
    half, _ = jax.eval_shape(train(ours), x.astype("bfloat16"))
    assert half.dtype == "bfloat16"


def test_whole_parts_on_a_device_need_no_others():
    norm, x = models.GhostBatchNorm(2), np.arange(48, dtype="f4").reshape(16, 3) ** 2
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    placed = jax.device_put(x, NamedSharding(mesh, P("data")))
    compiled = quick_jit(lambda x: train(norm)(x)[0]).lower(placed).compile()
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert word not in compiled.as_text()
    np.testing.assert_allclose(
        compiled(placed), interpreted(train(norm))(x)[0], atol=1e-5
    )


def test_errors():
    x = np.ones((6, 2), "f4")
    for size, message in ((1, "ghost_size is 1"), (4, "6 rows do not divide into")):
        norm = models.GhostBatchNorm(size)
        with pytest.raises(ValueError, match=message):
            norm.init(jax.random.key(0), x, train=True)
    with pytest.raises(ValueError, match="momentum is 1, expected in"):
        models.GhostBatchNorm(2, 1).init(jax.random.key(0), x)
