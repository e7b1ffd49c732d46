"""What jax and optax alone have to run: losses, links, a fused and a sharded head."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

jax.config.update("jax_num_cpu_devices", 8)
# Whether a program is there to run is asked here, not how fast it is.
jax.config.update("jax_disable_most_optimizations", True)

from logitlab import heads, links, losses  # noqa: E402
from logitlab.losses.catalogue import CATALOGUE  # noqa: E402


def check_loss(row):
    """Value and gradient of a loss, compiled, are finite."""
    arrays = row.make(jax.random.key(0), row.shape, jnp.float32)

    def total(*arrays):
        return sum(a.sum() for a in jax.tree.leaves(row.loss(*arrays, **row.hyper))[:1])

    found = jax.jit(jax.value_and_grad(total))(*arrays)
    for array in found:
        np.testing.assert_equal(np.isfinite(array).all(), True)


def check_links():
    """The gradient of a loss behind each link is finite."""
    z, y = jnp.arange(12.0).reshape(2, 6) / 7, jnp.array([0, 1])

    def of_factors(z):
        return links.checkered(jnp.stack([z, -z, z], -2))

    plain = links.stablemax, links.taylor_softmax, links.spherical_softmax
    for link in (*plain, links.entmax, of_factors):  # none hides the label

        def total(z, link=link):
            return losses.cross_entropy(link(z), y).sum()

        slope = jax.jit(jax.grad(total))(z)
        np.testing.assert_equal(np.isfinite(slope).all(), True)


def check_heads():
    """A fused head and one on eight devices give what the logits do."""
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (8, 6))
    kernel = jax.random.normal(keys[1], (6, 16))
    labels = jax.random.randint(keys[2], (8,), 0, 16)
    cross_entropy = losses.cross_entropy

    def agrees(head, *arrays):
        got = jax.jit(jax.value_and_grad(lambda *a: head(*a).sum(), (0, 1)))(*arrays)
        for one, other in zip(jax.tree.leaves(got), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    expected = jax.tree.leaves(
        jax.value_and_grad(lambda h, k: cross_entropy(h @ k, labels).sum(), (0, 1))(
            hidden, kernel
        )
    )
    agrees(lambda h, k: heads.linear_loss(cross_entropy, h, k, labels), hidden, kernel)
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    agrees(
        lambda h, k: heads.fused_linear_cross_entropy(h, k, labels, axis_name="model"),
        jax.device_put(hidden, NamedSharding(mesh, P("data"))),
        jax.device_put(kernel, NamedSharding(mesh, P(None, "model"))),
    )


def main(part: int = 0, parts: int = 1) -> int:
    """Checks a part of the losses, and the heads with the first; 1 if any fails."""
    rows, failed = list(CATALOGUE.values())[part::parts], 0
    for row in rows:
        try:
            check_loss(row)
        except Exception as error:
            failed += 1
            print(f"{row.name}: {type(error).__name__}: {error}")
    if part == 0:
        check_links()
        check_heads()
    print(f"jax {jax.__version__}: {len(rows) - failed} losses pass, {failed} fail")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
