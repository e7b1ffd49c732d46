import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, close
from harness.interpreter import functions, interpreted

from logitlab import targets
from logitlab.losses import regression_as_classification as rac

rac = functions(rac)


@pytest.mark.parametrize("case", cases("hl_gauss"))
def test_hl_gauss_golden(x64, case):
    z, t = np.asarray(case["inputs"]["logits"]), np.asarray(case["inputs"]["target"])
    hyper, out = case["params"], case["outputs"]
    edges = np.linspace(hyper["vmin"], hyper["vmax"], hyper["num_bins"] + 1)
    centres = (edges[1:] + edges[:-1]) / 2

    @interpreted
    def everything(z):
        q = targets.hl_gauss_probs(t, **hyper)
        loss = lambda z: rac.hl_gauss_loss(z, t, **hyper)  # noqa: E731
        return {
            "probs": q,
            "loss": loss(z),
            "grad_logits": jax.grad(lambda z: loss(z).sum())(z),
            "decoded_target": targets.categorical_value(jnp.log(q), centres),
            "decoded_logits": targets.categorical_value(z, centres),
        }

    for name, value in everything(z).items():
        close(value, out[name])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("categorical_projection"))
def test_projection_golden(x64, case):
    inputs, params, out = case["inputs"], case["params"], case["outputs"]
    if "two_hot" in out:
        close(
            targets.two_hot_probs(np.asarray(inputs["target"]), **params),
            out["two_hot"],
        )
        return
    args = {k: np.asarray(v) for k, v in inputs.items()}
    got = targets.categorical_projection(
        args["shifted_atoms"], args["probs"], args["atoms"]
    )
    close(got, out["projected"])
    z = np.linspace(-1, 2, params["num_atoms"])
    loss = rac.c51_loss(
        z, args["probs"], args["reward"], args["discount"], args["atoms"]
    )
    close(loss, -(np.asarray(out["projected"]) * jax.nn.log_softmax(z)).sum())


def test_projection_keeps_the_mean(x64):
    rng = np.random.default_rng(0)
    atoms = np.sort(rng.normal(size=7))
    p = rng.dirichlet(np.ones(4), 3)
    s = rng.uniform(atoms[0], atoms[-1], (3, 4))
    q = targets.categorical_projection(s, p, atoms)
    close(q.sum(-1), np.ones(3), 1e-12)
    close((q * atoms[None]).sum(-1), (p * s).sum(-1), 1e-12)
    # The end of an episode: everything is the reward.
    end = targets.categorical_projection(0 * s + 100, p, atoms)
    close(end, np.eye(7)[[6] * 3])


def test_two_hot_decodes_exactly(x64):
    t = np.linspace(-12, 12, 49)
    q = targets.two_hot_probs(t, vmin=-10.0, vmax=10.0, num_atoms=51)
    close(q @ np.linspace(-10, 10, 51), np.clip(t, -10, 10), 1e-13)
    assert ((np.asarray(q) > 0).sum(-1) <= 2).all()


def test_targets_outside_the_range():
    t = np.float32([-3e38, -2, 2, 3e38])
    for probs, n in (
        (targets.hl_gauss_probs, "num_bins"),
        (targets.two_hot_probs, "num_atoms"),
    ):
        q = np.asarray(probs(t, vmin=-1.0, vmax=1.0, **{n: 5}))
        np.testing.assert_array_equal(q[0], q[1])
        np.testing.assert_array_equal(q[2], q[3])
        np.testing.assert_allclose(q.sum(-1), 1, rtol=1e-6)
    q = targets.hl_gauss_probs(np.float32(-10), vmin=-10.0, vmax=10.0, num_bins=51)
    assert 0 < q[6] < 1e-10 * q[0]  # the far tail is not a rounding error


@pytest.mark.parametrize("margin", [-80, -20, 0, 20, 80])
def test_exact(x64, margin):
    z = np.array([margin, 0, -1.0])
    f = lambda z: rac.two_hot_loss(z, z[0] * 0 - 1, vmin=-1.0, vmax=1.0)  # noqa: E731
    value, grad = jax.jit(jax.value_and_grad(f))(z.astype("f4"))
    a, b = np.exp(-margin), np.exp(-margin - 1)
    close(value, np.log1p(a + b), 1e-5)
    p = np.exp(z - np.logaddexp.reduce(z))
    close(grad, np.array([-(a + b) / (1 + a + b), p[1], p[2]]), 1e-5)


def test_edges():
    hyper = dict(vmin=0.0, vmax=1.0)
    f = lambda z: rac.hl_gauss_loss(z, np.float32(0.2), **hyper)  # noqa: E731
    step = jax.jit(jax.value_and_grad(f))
    for z in ([3e38, -3e38, 0], [3e38] * 3, [-3e38] * 3):
        value, grad = step(np.float32(z))
        assert not np.isnan(value)
        assert np.isfinite(grad).all()
    z = np.float32([0, -np.inf, 0])
    assert rac.two_hot_loss(z, np.float32(0), **hyper) == np.log(np.float32(2))
    assert rac.two_hot_loss(z, np.float32(0.5), **hyper) == np.inf
    assert f(np.float32([-np.inf] * 3)) == 0
    half = rac.hl_gauss_loss(jnp.zeros((3, 2), jnp.bfloat16), np.zeros(2, "f4"), axis=0,
                             **hyper)  # fmt: skip
    assert half.dtype == jnp.float32
    assert half.shape == (2,)
    # Targets get no gradient.
    g = jax.grad(lambda t: rac.two_hot_loss(jnp.arange(3.0), t, **hyper))(0.3)
    assert g == 0


def test_errors():
    z = np.zeros(3, "f4")
    with pytest.raises(ValueError, match="vmax is 0.0, expected .* above vmin, 1.0"):
        rac.hl_gauss_loss(z, 0.5, vmin=1.0, vmax=0.0)
    with pytest.raises(ValueError, match="num_bins is 4"):
        rac.hl_gauss_loss(z, 0.5, vmin=0.0, vmax=1.0, num_bins=4)
    with pytest.raises(ValueError, match="sigma_ratio is 0"):
        targets.hl_gauss_probs(0.5, vmin=0.0, vmax=1.0, num_bins=4, sigma_ratio=0)
    with pytest.raises(ValueError, match="num_atoms is 1"):
        targets.two_hot_probs(0.5, vmin=0.0, vmax=1.0, num_atoms=1)
    with pytest.raises(ValueError, match="target has shape"):
        rac.two_hot_loss(z, np.zeros(3, "f4"), vmin=0.0, vmax=1.0)
    with pytest.raises(ValueError, match="increasing"):
        targets.categorical_projection(z, z, np.float32([1, 0]))
    with pytest.raises(ValueError, match="support has shape"):
        targets.categorical_value(z, np.zeros(2, "f4"))
