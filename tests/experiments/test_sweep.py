import pathlib

import numpy as np
import pytest

from configs.sweep import get_config
from experiments import sweep
from experiments.classification import noise
from logitlab import report, train
from logitlab.train import program

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)  # where configs are named from
    return get_config("smoke")


def changed(config, **entries):
    with config.unlocked():
        config.update(entries)
    return config.lock()


@pytest.mark.slow
def test_points_of_a_sweep_are_the_runs_they_name(config, tmp_path, monkeypatch):
    made = []
    for_all = program._Advance._for_all
    monkeypatch.setattr(
        program._Advance, "_for_all", lambda *a: made.append(for_all(*a)) or made[-1]
    )
    study = sweep.build(config)
    names = ["ce_50 learning_rate=0.03", "ce_50 learning_rate=0.1"]
    assert list(study.arms) == names
    results = train.run_study(study, config, tmp_path / "sweep", quiet=True)
    assert len(made) == 1  # one program for both
    assert made[0] is not None

    base = sweep._with(
        sweep._base(config), {"optim.learning_rate": 0.1, "pick": ("ce",)}
    )
    plain = noise.build(base)
    expected = train.run_study(plain, base, tmp_path / "plain", quiet=True)["ce_50"]
    got = results[names[1]]
    assert got["test/accuracy"].shape[1] == 2
    np.testing.assert_allclose(
        got["train/accuracy"], expected["train/accuracy"], atol=2e-3
    )
    table = study.table(results)
    means = [row["test/accuracy mean"] for row in table]
    assert means == sorted(means, reverse=True)
    assert table[0]["learning_rate"] == "0.1"
    report.conclude(study, results, config, tmp_path / "sweep")
    assert (tmp_path / "sweep/table.csv").read_text().startswith("arm,learning_rate,")
    assert (tmp_path / "sweep/figures/points.png").stat().st_size > 5000


def test_grids_and_random_points(config):
    fields = (("optim.learning_rate", (0.1, 1.0)), ("batch_size", (32, 64, 128)))
    study = sweep.build(changed(config, fields=fields))
    assert len(study.arms) == 6
    ats = {run.at for run in study.arms.values()}
    assert len(ats) == 3  # a batch size is a shape
    random = changed(
        config,
        points=50,
        fields=(
            ("optim.learning_rate", "log", 1e-4, 1.0),
            ("optim.sgd.momentum", "uniform", 0.5, 0.9),
            ("optim.name", "choice", ("sgd", "adam")),
        ),
    )
    points = sweep._random(random)
    assert points == sweep._random(random)
    rates = np.log10([p["optim.learning_rate"] for p in points])
    assert ((rates > -4) & (rates < 0)).all()
    assert abs(rates.mean() + 2) < 0.5
    assert all(0.5 < p["optim.sgd.momentum"] < 0.9 for p in points)
    assert {p["optim.name"] for p in points} == {"sgd", "adam"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (dict(base="configs/swep.py"), "'configs/swep.py': there is no config file"),
        (dict(base="configs/sweep.py"), "which is a sweep itself"),
        (
            dict(base="configs/loss_comparison.py:noise"),
            "configs/loss_comparison.py is now configs/classification.py",
        ),
        (dict(x64=True), "config.x64 is True, but .* has False"),
        (dict(fields=(("optim.lr", (0.1,)),)), "has no 'optim.lr'; did you mean"),
        (dict(fields=(("epochs", ("many",)),)), "epochs: .*str"),
        (dict(fields=(("epochs", 3),)), r"expected \(entry, values\) of a grid"),
        (dict(points=3), "expected of a random search"),
        (dict(arms=("cee_50",)), "config.arms has no 'cee_50'; did you mean ce_50"),
        (dict(best_by="most"), "config.best_by has no 'most'"),
    ],
)
def test_what_is_wrong_with_a_sweep(config, entries, message):
    with pytest.raises(ValueError, match=message):
        sweep.build(changed(config, **entries))
