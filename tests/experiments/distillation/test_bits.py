import jax
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.distillation import bits as bits_study
from experiments.distillation._networks import start
from logitlab import metrics, models, report
from logitlab.train import ArmResult


def params_of(rng, shapes):
    return {
        name: {
            "kernel": rng.normal(size=shape).astype("f4"),
            "bias": rng.normal(size=shape[1]).astype("f4"),
        }
        for name, shape in shapes.items()
    }


def test_quantized_weights_lie_on_a_grid():
    params = params_of(np.random.default_rng(0), dict(hidden_0=(9, 8), head=(8, 3)))
    for part, touched in (("all", ("hidden_0", "head")), ("last", ("head",))):
        for bits in (2, 3, 8):
            got = bits_study.quantize(params, bits, part)
            for name, arrays in params.items():
                w, q = arrays["kernel"], got[name]["kernel"]
                np.testing.assert_array_equal(got[name]["bias"], arrays["bias"])
                if name not in touched:
                    np.testing.assert_array_equal(q, w)
                    continue
                step = np.abs(w).max() / (2**bits - 1) * 2
                places = np.clip(
                    np.round(w / step), -(2 ** (bits - 1)), 2**bits // 2 - 1
                )
                inner = np.abs(w) < np.abs(w).max()  # that one lies between two places
                np.testing.assert_allclose(q[inner], (step * places)[inner], rtol=1e-6)
                assert np.abs(q - w).max() <= step / 2 * 1.0001


def test_the_start_is_normal():
    params = start(jax.random.key(0), models.MLP((300,), 2), np.zeros((1, 400), "f4"))
    layer = params["hidden_0"]
    np.testing.assert_allclose(layer["kernel"].std(), (2 / 400) ** 0.5, rtol=0.01)
    np.testing.assert_allclose(metrics.weight_kurtosis(layer["kernel"]), 3, atol=0.05)
    np.testing.assert_array_equal(layer["bias"], 0)
    assert params["head"]["kernel"].shape == (300, 2)


def config_of(**changes):
    config = get_config("bits")
    small = dict(widths=(4, 4), batch_size=8, steps=2)
    config.update_from_flattened_dict(
        {k.replace("__", "."): v for k, v in (small | changes).items()}
    )
    return config


def test_what_every_arm_minimises():
    arms = bits_study.build(config_of()).arms
    rng = np.random.default_rng(0)
    params = params_of(rng, dict(hidden_0=(64, 4), hidden_1=(4, 4), head=(4, 10)))
    batch = {"x": rng.normal(size=(8, 64)).astype("f4"), "y": np.arange(8)}

    def loss(name):
        return interpreted(lambda p, b: arms[name].loss(p, b, None))(params, batch)

    def nll(bits=None):
        model = models.MLP((4, 4), 10)

        @interpreted
        def apply(params, x):
            used = bits_study.quantize(params, bits) if bits else params
            return model.apply({"params": used}, x)

        logits = apply(params, batch["x"]).astype("f8")
        return logits, np.log(np.exp(logits).sum(-1)) - logits[
            np.arange(8), np.arange(8)
        ]

    np.testing.assert_allclose(loss("plain"), nll()[1], rtol=1e-5)
    costs = []
    for name in ("hidden_1", "head"):
        w = params[name]["kernel"].ravel().astype("f8")
        z = (w - w.mean()) / w.std(ddof=1)
        costs.append(0.015 * ((z**4).mean() - 1.8) ** 2 + (z**3).mean() ** 2)
    np.testing.assert_allclose(loss("even") - loss("plain"), np.mean(costs), rtol=1e-3)
    several = [nll(bits) for bits in (8, 4, 2)]
    own = sum(values for _, values in several)
    np.testing.assert_allclose(loss("unguided"), own, rtol=1e-5)
    logs = [z - np.log(np.exp(z).sum(-1, keepdims=True)) for z, _ in several]
    kl = sum(
        (np.exp(p) * (p - q)).sum(-1) for p, q in zip(logs, logs[1:], strict=False)
    )
    want = several[0][1] + (several[1][1] + several[2][1] + kl) / 2
    np.testing.assert_allclose(loss("guided"), want, rtol=1e-4)


def test_what_is_evaluated():
    run = bits_study.build(config_of()).arms["plain"]
    data = run.data(jax.random.key(0))
    assert [len(data[part]["y"]) for part in ("train", "test")] == [1000, 797]
    params = interpreted(run.init)(jax.random.key(0))
    got = interpreted(run.evaluate)(params, data)
    assert {"full", "last/2", "all/8", "divergence", "kurtosis/head"} <= got.keys()
    apply = interpreted(models.MLP((4, 4), 10).apply)
    logits = apply({"params": params}, data["test"]["x"])
    right = (np.argmax(logits, -1) == data["test"]["y"]).mean()
    np.testing.assert_allclose(float(got["full"]), right, rtol=1e-5)
    np.testing.assert_allclose(float(got["all/8"]), right, atol=0.02)
    assert float(got["divergence"]) > 0


def result(**values):
    row = {"arm": "a", "seed": "0", "step": "0"}
    return ArmResult("a", (0,), [row | {k: str(v) for k, v in values.items()}])


@pytest.mark.parametrize(("kurtosis", "two", "wrong"), [(1.9, 0.97, 0), (2.1, 0.95, 3)])
def test_claims_can_fail(kurtosis, two, wrong):
    layers = {"kurtosis/hidden_1": 1.8, "kurtosis/head": kurtosis}
    results = {
        "plain": result(full=0.976, **{"last/2": 0.943, "all/2": 0.943}),
        "even": result(full=0.975, **{"last/2": two, "all/2": two}, **layers),
        "guided": result(divergence=0.1),
        "unguided": result(divergence=0.2),
    }
    verdicts = report.judge(bits_study.build(config_of()).claims, results)
    verdicts = [v.verdict for v in verdicts]
    assert verdicts.count("not reproduced") == wrong
    assert verdicts.count("reproduced") == 5 - wrong


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train", 0, "config.train is 0"),
        ("pick", ("guide",), "config.pick has no 'guide'; did you mean guided"),
        ("bits", (1, 2), "config.bits is"),
        ("guidance.bits", (2, 8), "config.guidance.bits is"),
        ("guidance.bits", (8, 5), r"config.guidance.bits\[-1\] is 5"),
        ("tolerances.gain_at", 5, "config.tolerances.gain_at is 5"),
    ],
)
def test_what_cannot_be_run_is_not_built(key, value, message):
    with pytest.raises(ValueError, match=message):
        bits_study.build(config_of(**{key.replace(".", "__"): value}))


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:bits")
    assert len(done.verdicts) == 5
    assert done.figures == ["all", "guidance", "last", "weights"]
