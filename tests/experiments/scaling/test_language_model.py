import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import tpus

from configs.language_model import get_config
from experiments.common import studies
from experiments.scaling import _text
from experiments.scaling import language_model as lm
from logitlab import losses, train
from logitlab.train.forecast import _stacked
from logitlab.train.mesh import make_mesh
from logitlab.train.runner import program_of


def config_of(variant, **changes):
    config = get_config(variant)
    config.update_from_flattened_dict(
        {key.replace("__", "."): value for key, value in changes.items()}
    )
    return config


def first_batch(run):
    return next(run.data["train"].batches(0))


def test_smoke_run(run_study):
    done = run_study("language_model:laptop")
    decoder = done.results["decoder"]
    assert decoder.steps.tolist() == [0, 1, 2]
    bits, nll = (decoder.final(name) for name in (lm.BITS, "validation/nll"))
    np.testing.assert_allclose(bits * np.log(2), nll, rtol=1e-6)
    # An untrained head is near uniform, up to its luck with the few frequent bytes.
    np.testing.assert_allclose(decoder["validation/nll"][0], np.log(256), atol=0.2)
    assert 2 < done.results["bigram"]["bits_per_byte"][0] < 8


def test_windows_depend_on_the_step_alone():
    run = studies.build(get_config("smoke")).arms["decoder"]
    stream = run.data["train"]
    from_start = stream.batches(0)
    batches = [next(from_start)["tokens"] for _ in range(3)]
    np.testing.assert_array_equal(next(stream.batches(2))["tokens"], batches[2])
    assert len({batch.tobytes() for batch in batches}) == 3
    assert (batches[0].shape, batches[0].dtype) == ((8, 17), np.int32)
    (text,) = _text.corpus(get_config("smoke").data).train
    assert all(bytes(row.tolist()) in text for row in batches[0])


def test_two_bytes_are_a_token():
    text = np.frombuffer(b"\x01\x02\xff\x00", np.uint8)
    assert _text.tokens_of(text, 1).tolist() == [1, 2, 255, 0]
    assert _text.tokens_of(text, 2).tolist() == [258, 65280]


@pytest.mark.parametrize(
    ("head", "name"), [("label", "focal_loss"), ("rows", "multi_margin_loss")]
)
def test_any_loss_trains_through_the_head(head, name):
    """The row's mean of the loss of logits that the model itself makes."""
    config = config_of("smoke", head=head, loss__name=name)
    run = studies.build(config).arms["decoder"]
    model, tokens = lm._model(config.model, config.data), first_batch(run)["tokens"]

    @jax.jit
    def both(key):
        params = run.init(key)
        logits = model.apply({"params": params}, tokens[:, :-1])
        whole = getattr(losses, name)(logits, tokens[:, 1:]).mean(-1)
        return run.loss(params, {"tokens": jnp.asarray(tokens)}, key), whole

    got, want = both(jax.random.key(0))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(loss__name="focal_los"), "has no 'focal_los'; did you mean focal_loss"),
        (dict(head="labels"), "config.head has no 'labels'; did you mean label"),
        (dict(model__dtype="float61"), "config.model.dtype has no 'float61'"),
        (dict(data__context=0), "config.data.context is 0, expected at least 1"),
        (dict(data__bytes_per_token=3), "bytes_per_token is 3, expected 1 or 2"),
        (dict(data__folder="/nowhere"), "/nowhere has no Python source"),
        (
            dict(preference="dpo_loss", divergence="forward_kl"),
            "config.preference is 'dpo_loss' and config.divergence 'forward_kl'",
        ),
        (dict(preference="dpo_los"), "has no 'dpo_los'; did you mean dpo_loss"),
    ],
    ids=str,
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        studies.build(config_of("smoke", **changes))


def test_dry_run_on_the_devices_at_hand():
    """Parameters spread over both axes of a mesh, by the rules of the pod."""
    rules = importlib.import_module("configs.language_model").FULLY_SHARDED
    config = get_config("smoke")
    with config.unlocked():
        config.mesh, config.sharding = dict(data=4, model=2), rules
    study = studies.build(config)
    (needs,) = train.dry_run(study, config).values()
    shapes = jax.eval_shape(study.arms["decoder"].init, jax.random.key(0))
    size = sum(4 * a.size for a in jax.tree.leaves(shapes))
    scales = sum(
        4 * a.size
        for path, a in jax.tree_util.tree_leaves_with_path(shapes)
        if "scale" in jax.tree_util.keystr(path)
    )
    assert needs.parameters == (size - scales) / 8 + scales
    assert needs.optimizer == pytest.approx(2 * needs.parameters, abs=16)
    assert {"all-gather", "all-reduce"} <= needs.collectives.keys()


def test_the_pods_model_has_a_billion_parameters():
    run = studies.build(get_config("v5e_256")).arms["decoder"]
    shapes = jax.eval_shape(run.init, jax.random.key(0))
    assert 1e9 < sum(a.size for a in jax.tree.leaves(shapes)) < 1.1e9
    assert shapes["embedding"].shape == (65_536, 2048)


def test_a_student_learns_from_a_teacher_that_learns_the_text():
    """The loss of dense logits; the teacher gets no gradient from the student."""
    config = get_config("distill-smoke")
    arm = train.arm_configs(config)["distilled"]
    run = studies.build(config).arms["distilled"]
    tokens = first_batch(run)["tokens"]
    student, teacher = (lm._model(c, arm.data) for c in (arm.model, arm.teacher))

    def dense(params):
        x, y = tokens[:, :-1], tokens[:, 1:]
        z = student.apply({"params": params["student"]}, x)
        t = teacher.apply({"params": params["teacher"]}, x)
        kd = losses.kd_loss(z, jax.lax.stop_gradient(t))
        return (kd + losses.cross_entropy(t, y)).mean()

    @jax.jit
    def both(key):
        params = run.init(key)
        fused = lambda p: run.loss(p, {"tokens": jnp.asarray(tokens)}, key).mean()  # noqa: E731
        return [jax.value_and_grad(f)(params) for f in (fused, dense)]

    (got, grads), (want, want_grads) = both(jax.random.key(0))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_a_policy_learns_from_pairs_against_a_reference():
    """DPO of dense logits over the second half; the reference learns the text."""
    config = get_config("prefer-smoke")
    arm = train.arm_configs(config)["preferred"]
    run = studies.build(config).arms["preferred"]
    batch = jax.tree.map(jnp.asarray, first_batch(run))
    half = arm.data.context // 2
    same = batch["tokens"] == batch["rejected"]
    assert same[:, : half + 1].all()
    assert not same[:, half + 1 :].all(1).any()
    network = lm._model(arm.model, arm.data)

    def dense(params):
        def logps(own, tokens):
            z = network.apply({"params": params[own]}, tokens[:, :-1])
            return -losses.cross_entropy(z, tokens[:, 1:])

        mine, theirs = (
            [logps(own, batch[k])[:, half:].sum(-1) for k in ("tokens", "rejected")]
            for own in ("student", "teacher")
        )
        dpo = losses.dpo_loss(*mine, *jax.lax.stop_gradient(theirs))
        return (dpo - logps("teacher", batch["tokens"]).mean(-1)).mean()

    @jax.jit
    def both(key):
        params = run.init(key)
        fused = lambda p: run.loss(p, batch, key).mean()  # noqa: E731
        return [jax.value_and_grad(f)(params) for f in (fused, dense)]

    (got, grads), (want, want_grads) = both(jax.random.key(0))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    parts = {"validation": jax.tree.map(jnp.asarray, run.data["validation"])}
    share = jax.jit(lambda key: run.evaluate(run.init(key), parts)[lm.PREFERRED])
    assert 0 <= share(jax.random.key(0)).value <= 1


class TestPod:
    pytestmark = [*tpus.MARKS, pytest.mark.slow]

    @pytest.mark.parametrize(
        "beside",
        [dict(), dict(divergence="forward_kl"), dict(preference="dpo_loss")],
        ids=["alone", "teacher", "pairs"],
    )
    def test_a_step_fits_and_moves_no_logits(self, beside):
        config = config_of("v5e_256", **beside)
        run = studies.build(config).arms["decoder"]
        mesh = make_mesh(config.mesh.to_dict(), tpus.devices(256))
        program = program_of(run, config, mesh, {}, shapes_only=True)
        compiled = program.compile(
            program.state, program.place(_stacked(program.stream))
        )
        memory = compiled.memory_analysis()
        peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        assert peak < (6e9 if beside else 4e9)  # of 16 GB
        # Float32 parameters and both moments, all of them spread over all chips.
        shapes = jax.eval_shape(run.init, jax.random.key(0))
        count = sum(a.size for a in jax.tree.leaves(shapes))
        assert memory.argument_size_in_bytes < 1.1 * 3 * 4 * count / 256
        # Each device has 4 rows of 2048 tokens and a quarter of the vocabulary.
        logits = (4 * 2048) * (65_536 // 4)
        assert max(tpus.largest(compiled).values()) < logits / 2
        assert 8 * count * 256 * 2048 / 256 < program.step_flops()
        if not beside:
            assert program.step_flops() < 2.5e13
