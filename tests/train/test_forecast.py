import re

import jax
import jax.numpy as jnp
import optax
import pytest
from harness import toy, tpus

from logitlab import train
from logitlab.train import forecast
from logitlab.train._costs import collectives, products
from logitlab.train.mesh import make_mesh
from logitlab.train.runner import program_of

# A loop whose length stands beside it, as on CPU, and one whose condition says it, as
# on TPU; inside of that a reduction that starts and ends apart.
HLO = """\
HloModule jit_f

%half (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %all-reduce.1 = f32[8]{0} all-reduce(%x), replica_groups=[1,2]<=[2], to_apply=%add
}

%at_most (p.1: (s32[], bf16[4,8])) -> pred[] {
  %c = s32[]{:T(128)} constant(5)
  %i = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %c), direction=LT
}

%gather (p.2: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %y = bf16[2,8]{1,0:T(8,128)(2,1)} get-tuple-element(%p.2), index=1
  %all-gather-start = (bf16[2,8]{1,0}, bf16[4,8]{1,0}) all-gather-start(%y)
  %all-gather-done = bf16[4,8]{1,0} all-gather-done(%all-gather-start)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %while.1 = (s32[], f32[8]{0}) while(%t), condition=%going, body=%half, KNOWN
  %while.2 = (s32[], bf16[4,8]{1,0}) while(%u), condition=%at_most, body=%gather
  ROOT %reduce-scatter = f32[4]{0} reduce-scatter(%a), dimensions={0}, to_apply=%add
}
""".replace("KNOWN", 'backend_config={"known_trip_count":{"n":"3"}}')


def test_collectives_in_loops():
    assert {c.kind: (c.times, c.bytes, c.sizes) for c in collectives(HLO)} == {
        "all-reduce": (3, 32, (8, 8)),
        "all-gather": (5, 64, (16, 16, 32)),
        "reduce-scatter": (1, 32, (8, 4)),
    }


def test_products_in_loops():
    def f(x, k):
        def body(carry, row):
            return carry + jax.lax.cond(
                row[0] > 0, lambda: (row @ k).sum(), lambda: (k @ k).sum()
            ), None

        return jax.lax.scan(body, 0.0, x)[0]

    jaxpr = jax.make_jaxpr(f)(jnp.ones((5, 4)), jnp.ones((4, 4))).jaxpr
    assert products(jaxpr) == 5 * 2 * 4 * 4 * 4


def planned(config, **entries):
    with config.unlocked():
        config.update(entries)
    return config


def linear(width, classes, **changes):
    """Softmax regression, whose needs are known."""
    data = {"train": {"x": jnp.ones((8, width)), "y": jnp.zeros(8, jnp.int32)}}

    def loss(params, batch, key):
        del key
        logits = batch["x"] @ params["kernel"]
        return jax.nn.logsumexp(logits, -1) - logits[:, 0]

    settings = dict(
        init=lambda key: {"kernel": jnp.zeros((width, classes))},
        loss=loss,
        data=data,
        optimizer=optax.sgd(0.1, momentum=0.9),
        evaluate=lambda params, data: {},
    )
    return toy.run(**settings | changes)


def test_needs_of_a_step(config):
    """Nothing is allocated: parameters and the optimizer's state are 8 GB in all."""
    width, classes = 1024, 2**20
    study = train.Study({"a": linear(width, classes), "b": train.Compute(lambda k: {})})
    rules = (("kernel", (None, "model")),)
    planned(config, seeds=1, mesh=dict(data=4, model=2), sharding=rules)
    before = {id(a) for a in jax.live_arrays()}
    (name, needs), *more = train.dry_run(study, config).items()
    assert (name, more) == ("a", [])
    made = [a.nbytes for a in jax.live_arrays() if id(a) not in before]
    assert sum(made) < 2**20
    half = 4 * width * classes // 2
    assert (needs.parameters, needs.optimizer) == (half, half)
    assert needs.data == 8 * (width + 1) * 4 // 4
    assert needs.peak >= 2 * half + needs.temporaries
    assert needs.collectives["all-reduce"][1] == pytest.approx(half, rel=1e-6)
    # Forward and the gradient of the kernel; the update is less than they are.
    assert 1 <= needs.operations / (2 * 2 * 8 * width * classes / 8) < 2
    assert needs.seconds == {}


STREAMED = {
    "train": train.Stream(
        lambda step: iter([{"x": jnp.ones((4, 3)), "y": jnp.ones(4)}]), ahead=2
    )
}


@pytest.mark.sampled
@pytest.mark.parametrize(
    "changes", [dict(batch_size=4), dict(data=STREAMED, evaluate=None)]
)
def test_the_step_is_that_of_a_run(config, changes):
    """Of data that each seed draws for itself, and of streamed batches."""
    planned(config, mesh=dict(data=2))
    texts = []
    for shapes_only in (True, False):
        program = program_of(
            toy.run(**changes),
            config,
            make_mesh({"data": 2}),
            {},
            shapes_only=shapes_only,
        )
        data = program.data
        if program.stream is not None:
            data = program.place(forecast._stacked(program.stream))
        text = program.compile(program.state, data).as_text()
        # Where in Python an operation came from depends on what was traced before.
        text = re.sub(r"\nFileNames\n.*?\n(?=(?:%|ENTRY))", "", text, flags=re.S)
        texts.append(re.sub(r", metadata={[^}]*}", "", text))
    assert texts[0] == texts[1]
    assert "ENTRY" in texts[0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (dict(mesh=dict(data=99)), r"mesh is \{'data': 99\}, .* the 8 devices"),
        (dict(sharding=(("v", ()),)), "'v' matches no parameter; there are"),
        (
            dict(sharding=(("w", ()), (".", ()))),
            "sharding rules 'w' and '.' both match w; expected one rule",
        ),
    ],
    ids=str,
)
def test_bad_input_is_found_before_anything_is_compiled(config, entries, message):
    def loss(*_):
        raise AssertionError("the loss was traced")

    study = train.Study({"a": toy.run(loss=loss)})
    with pytest.raises(ValueError, match=message) as raised:
        train.dry_run(study, planned(config, **entries))
    assert "\n" not in str(raised.value)


def test_a_topology_needs_the_compiler(config, monkeypatch):
    monkeypatch.setattr("logitlab.train._hardware.has_tpu_compiler", lambda: False)
    study = train.Study({"a": toy.run()})
    with pytest.raises(ValueError, match=r"'v5e:2x2', which needs the .*tpu-aot"):
        train.dry_run(study, config, topology="v5e:2x2")


class TestTopology:
    pytestmark = tpus.MARKS

    @pytest.mark.parametrize("name", ["v5e:3x5", "v9:2x2", "pod"])
    def test_unknown(self, config, name):
        with pytest.raises(
            ValueError, match=f"topology is '{name}', expected"
        ) as error:
            train.dry_run(train.Study({"a": toy.run()}), config, topology=name)
        assert "\n" not in str(error.value)

    def test_a_mesh_that_it_does_not_fill(self, config):
        planned(config, mesh=dict(data=8))
        study = train.Study({"a": toy.run()})
        with pytest.raises(ValueError, match="for the 4 devices there are"):
            train.dry_run(study, config, topology="v5e:2x2")

    def test_needs(self, config):
        run = linear(512, 32768)
        planned(config, seeds=1, mesh=dict(data=4))
        (needs,) = train.dry_run(
            train.Study({"a": run}), config, topology="v5e:2x2"
        ).values()
        size = 4 * 512 * 32768
        assert (needs.device, needs.mesh) == ("TPU v5 lite", {"data": 4})
        assert (needs.parameters, needs.optimizer) == (size, size)
        assert needs.collectives["all-reduce"][1] == pytest.approx(size, rel=1e-3)
        assert 1 <= needs.operations / (2 * 2 * 8 * 512 * 32768 / 4) < 2
        assert needs.seconds["operations"] == needs.operations / 197e12
        assert needs.seconds["memory"] == needs.traffic / 819e9
