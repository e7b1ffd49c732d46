import jax
import numpy as np
import pytest

from configs.checkered import VARIANTS, get_config
from experiments.checkered import _computed
from experiments.checkered import study as checkered
from logitlab.train import Run, init_state, make_step


def config_of(variant, **changes):
    config = get_config(variant)
    with config.unlocked():
        for key, value in changes.items():
            config.update_from_flattened_dict({key.replace("__", "."): value})
    return config


@pytest.mark.sampled
@pytest.mark.parametrize("variant", [*VARIANTS, "smoke"])
def test_every_arm_takes_a_step(variant, data_folder):
    config = config_of(variant, data__data_dir=data_folder, data__test_rows=50)
    study = checkered.build(config)
    claimed = {arm for claim in study.claims for arm in claim.needs}
    assert claimed <= study.arms.keys() or variant == "smoke"  # which leaves some out
    assert study.figures.keys() <= study.captions.keys()
    runs = {name: arm for name, arm in study.arms.items() if isinstance(arm, Run)}
    for name, run in runs.items():
        key = jax.random.key(0)
        data = jax.eval_shape(run.data, key) if callable(run.data) else run.data
        state = jax.eval_shape(lambda k, r=run: init_state(r.init, r.optimizer, k), key)
        step = make_step(run.loss, run.optimizer, from_optimizer=run.from_optimizer)
        new, loss = jax.eval_shape(step, state, data["train"])
        assert jax.tree.structure(new) == jax.tree.structure(state), name
        assert loss.shape == ()
        numbers = jax.eval_shape(run.evaluate, new.params, data)
        assert {"train/loss", "test/accuracy"} <= numbers.keys()
        assert run.evaluate_at[-1] == run.steps


@pytest.mark.slow
def test_cross_gradients_leave_zero_and_gradients_do_not():
    arms = {
        **checkered.build(config_of("references", data__rows=60)).arms,
        **checkered.build(config_of("saddle", data__rows=60)).arms,
    }
    key = jax.random.key(1)
    moved = {}
    for name in ("gd_zero", "xgd_fixed", "dirichlet", "xgd_every"):
        run = arms[name]
        state = init_state(run.init, run.optimizer, key)
        assert not any(np.any(a) for a in jax.tree.leaves(state.params)), name
        step = make_step(run.loss, run.optimizer, from_optimizer=run.from_optimizer)
        new, _ = jax.jit(step)(state, run.data(key)["train"])
        moved[name] = any(np.any(a) for a in jax.tree.leaves(new.params))
    assert moved == dict(gd_zero=False, xgd_fixed=True, dirichlet=True, xgd_every=True)


@pytest.mark.slow
def test_the_reference_is_the_one_that_is_trained_with():
    study = checkered.build(config_of("saddle", data__rows=60))
    run, key = study.arms["xgd_fixed"], jax.random.key(3)
    state = init_state(run.init, run.optimizer, key)
    parts = run.data(jax.random.fold_in(key, 1))
    want = run.evaluate(state.opt_state.reference, parts)["train/loss"]
    got = study.arms["reference"].values(key)["train/loss"]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_start_on_the_saddle_warns():
    with pytest.warns(UserWarning, match="'gd_random' starts its 2 factors at zero"):
        checkered.build(config_of("saddle", model__scale=0.0))
    # one factor has no saddle, and a cross-gradient walks past it
    config = config_of("saddle", model__factors=1, model__scale=0.0)
    checkered.build(config)
    checkered.build(config_of("saddle", model__scale=0.0, method="xgd"))


def test_the_gap_is_that_of_the_theorem():
    gap, bound = _computed._gap(jax.random.key(0), 50, 0.2, 30)
    assert (gap <= bound).all()
    # the first step does not know of later ones
    other, more = _computed._gap(jax.random.key(0), 50, 0.2, 1)
    np.testing.assert_allclose([gap[0], bound[0]], [other[0], more[0]], rtol=1e-5)
    t = np.arange(1, 31)  # and the bound is D B times a function of the step
    shape = (1 + np.cumsum(1 / t)) / (2 * np.cumsum(1 / np.sqrt(t)))
    np.testing.assert_allclose(bound / bound[0], shape, rtol=1e-5)


@pytest.mark.slow
def test_the_fit_is_good_and_timed():
    config = config_of("checkerboard", fit__restarts=4, fit__epochs=10)
    with config.unlocked():
        config.fit.repeats, config.fit.most_epochs = 1, 50
        config.data.lines = config.fit.factors = 2
    arms = _computed.fit_arms(config)
    ours, theirs = (
        arms[n].values(jax.random.key(0)) for n in ("fit_checkered", "fit_mlp")
    )
    assert ours["fit/error"] < 0.25
    assert ours["fit/seconds"] > 0
    assert ours["fit/seconds_to_compile"] > 0
    assert theirs["fit/seconds"] > 0


def test_an_mlp_has_as_many_parameters(data_folder):
    config = config_of("digits", data__data_dir=data_folder)
    arms = checkered.build(config).arms

    def size(name):
        params = jax.eval_shape(arms[name].init, jax.random.key(0))
        return sum(a.size for a in jax.tree.leaves(params))

    for m in (2, 3):
        assert abs(size(f"mlp{m}") / size(f"m{m}") - 1) < 0.05
    assert size("m2") == 2 * size("logistic") == 2 * 10 * 65


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__name": "xr"}, "config.data.name has no 'xr'; did you mean xor"),
        ({"model__name": "chckered"}, "config.model.name has no 'chckered'"),
        ({"method": "xdg"}, "config.method has no 'xdg'; did you mean xgd"),
        ({"xgd__reference": "random"}, "config.xgd.reference has no 'random'"),
        ({"method": "xgd", "model__name": "mlp"}, "expected config.model.name"),
        ({"model__factors": 0}, "factors is 0"),
        ({"data__rows": 0}, "config.data.rows is 0"),
        ({"data__test_rows": 0}, "config.data.test_rows is 0"),
    ],
)
def test_errors(changes, message):
    config = config_of("saddle", **changes)
    with config.unlocked():
        config.arms = {"one": {}}
    with pytest.raises(ValueError, match=message):
        start(config)


def start(config):
    run = checkered.build(config).arms["one"]
    return run.init(jax.random.key(0)), run.data(jax.random.key(0))


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("checkered:default")
    for name in ("trajectories", "regions", "tangent"):
        assert (done.workdir / f"figures/{name}.png").stat().st_size > 10_000
    stays = done.verdicts["from zero, gradient descent stays where it is"]
    assert stays.verdict == "reproduced"
