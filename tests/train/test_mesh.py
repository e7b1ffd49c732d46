import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from logitlab.train import mesh as meshes


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ({"data": -1}, (8,)),
        ({"data": 1}, (1,)),
        ({"data": -1, "model": 2}, (4, 2)),
        ({"data": 2, "model": -1}, (2, 4)),
        ({"data": 2, "model": 2}, (2, 2)),
    ],
)
def test_sizes(axes, shape):
    mesh = meshes.make_mesh(axes)
    assert mesh.axis_names == tuple(axes)
    assert mesh.devices.shape == shape


@pytest.mark.parametrize(
    "axes",
    [{"data": 9}, {"data": 0}, {"data": -1, "model": 3}, {"data": -1, "model": -1}],
)
def test_impossible_sizes(axes):
    with pytest.raises(ValueError, match="for the 8 devices there are"):
        meshes.make_mesh(axes)


def test_rows_are_spread_where_they_divide():
    mesh = meshes.make_mesh({"data": -1})
    tree = {"x": np.zeros((16, 3)), "odd": np.zeros((5, 2)), "scalar": np.zeros(())}
    placed = meshes.shard_rows(tree, mesh)
    assert placed["x"].sharding.spec == P("data")
    assert placed["odd"].sharding.is_fully_replicated
    assert placed["scalar"].sharding.is_fully_replicated
    stacked = meshes.shard_rows({"x": np.zeros((2, 16, 3))}, mesh, axis=1)
    assert stacked["x"].sharding.spec == P(None, "data")


@pytest.mark.parametrize("axis", [0, 1])
def test_padding_hides_behind_the_mask(axis):
    x = jnp.moveaxis(jnp.ones((5, 2)), 0, axis)
    batch = meshes.pad_rows({"x": x}, 4, axis=axis)
    assert batch["x"].shape[axis] == 8
    np.testing.assert_array_equal(batch["mask"].sum(axis), 5)
    assert batch["mask"].shape == x.shape[: axis + 1][:-1] + (8,)
    already = {"x": x, "mask": jnp.zeros(x.shape[: axis + 1], bool)}
    assert not meshes.pad_rows(already, 4, axis=axis)["mask"].any()
    assert meshes.pad_rows({"x": x}, 5, axis=axis).keys() == {"x"}


def test_rows_that_disagree():
    with pytest.raises(ValueError, match=r"have \[4, 5\] rows"):
        meshes.pad_rows({"x": jnp.zeros(4), "y": jnp.zeros(5)}, 2)


def test_keys_are_placed_too():
    mesh = meshes.make_mesh({"data": -1})
    keys = jax.random.split(jax.random.key(0), 8)
    assert meshes.shard_rows(keys, mesh).sharding.spec == P("data")


TREE = {"Dense_0": {"kernel": np.zeros((3, 4, 6)), "bias": np.zeros((3, 6))}}


def test_rules_are_found_by_name():
    mesh = meshes.make_mesh({"data": 4, "model": 2})
    rules = (("Dense_./kernel$", ("data", "model")), ("bias|kernel", ()))
    placed = meshes.rule_shardings(TREE, mesh, rules, lead=1)["Dense_0"]
    assert placed["kernel"].spec == P(None, "data", "model")
    assert placed["bias"].is_fully_replicated


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("kernel", ("heads",)), r"'kernel' names axes \['heads'\], the mesh has"),
        (("kernel", (None, "data")), r"does not fit Dense_0/kernel of shape \(4, 6\)"),
        (("bias", (None, "model")), r"does not fit Dense_0/bias of shape \(6,\)"),
    ],
)
def test_rules_that_do_not_fit(rule, message):
    mesh = meshes.make_mesh({"data": 4, "model": 2})
    with pytest.raises(ValueError, match=message):
        meshes.rule_shardings(TREE, mesh, [rule], lead=1)
    if "heads" not in message:
        loose = meshes.rule_shardings(TREE, mesh, [rule], lead=1, strict=False)
        assert all(s.is_fully_replicated for s in jax.tree.leaves(loose))


def test_a_rule_without_parameters():
    meshes.check_rules([{"w": 0}, TREE], [("w", ()), ("kernel", ())])
    with pytest.raises(ValueError, match=r"'ker' matches no .*; there are \['w'\]"):
        meshes.check_rules([{"w": 0}], [("ker", ())])
