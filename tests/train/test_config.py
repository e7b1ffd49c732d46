import pytest
from ml_collections import ConfigDict

from logitlab import losses, train
from logitlab.train import config as configs


def base():
    config = ConfigDict(dict(steps=10, optim=dict(rate=0.1, adam=dict(b2=0.9))))
    config.arms = dict(
        plain={},
        fast=dict(optim=dict(rate=1.0)),
        slow=dict(optim=dict(adam=dict(b2=0))),
    )
    return config.lock()


def test_pick():
    assert train.pick(losses, "cross_entropy").func is losses.cross_entropy
    with pytest.raises(
        ValueError, match="no 'cross_entrop'; did you mean cross_entropy"
    ):
        train.pick(losses, "cross_entrop")


def test_arms_lay_their_entries_over_the_common_ones():
    arms = train.arm_configs(base())
    assert {name: arm.optim.rate for name, arm in arms.items()} == {
        "plain": 0.1,
        "fast": 1.0,
        "slow": 0.1,
    }
    assert "arms" not in arms["plain"]


def test_arms_share_nothing():
    """ConfigDict copies are shallow; what one arm nests must not reach another."""
    config = base()
    arms = train.arm_configs(config)
    assert arms["slow"].optim.adam.b2 == 0
    assert arms["plain"].optim.adam.b2 == arms["fast"].optim.adam.b2 == 0.9
    assert config.optim.adam.b2 == 0.9


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (dict(stepps=3), "config.arms.bad.*stepps"),
        (dict(steps="many"), "config.arms.bad"),
    ],
)
def test_arms_cannot_invent_keys_or_types(arm, message):
    config = base()
    with config.unlocked():
        config.arms = dict(bad=arm)
    with pytest.raises(ValueError, match=message):
        train.arm_configs(config)


def test_differences_name_dotted_keys():
    before = {"a": 1, "b": {"c": 2, "d": 3}, "gone": {}}
    after = {"a": 1, "b": {"c": 5, "d": 3}, "new": None}
    assert configs.differences(before, after) == [
        "b.c: 2 there, 5 here",
        "gone: {} there, '(absent)' here",
        "new: '(absent)' there, None here",
    ]
    assert configs.differences(before, before) == []
    lines = configs.differences(
        {"a": 1, "variant": "x", "experiment": "e"},
        {"a": 2, "variant": "y", "experiment": "f"},
    )
    assert [line.split(":")[0] for line in lines] == ["experiment", "variant", "a"]


def test_json_reads_back_without_differences():
    import json

    config = ConfigDict(
        dict(widths=(128, 64), eps=1e-25, name="x", nested=dict(a=True))
    )
    text = configs.to_json(config)
    assert configs.differences(json.loads(text), json.loads(text)) == []
    assert json.loads(text)["widths"] == [128, 64]


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_log_points(steps):
    points = train.log_points(steps, 10)
    assert points == sorted(set(points))
    assert points[0] == 0
    assert points[-1] == steps
    if steps == 1000:
        ratios = [b / a for a, b in zip(points[15:], points[16:], strict=False)]
        assert max(ratios) < 1.3
