"""Names that were public before they moved or changed still resolve, with a warning."""

import importlib
import json
import pathlib

import pytest

from logitlab import losses
from logitlab._renamed import RENAMED

OLD = json.loads((pathlib.Path(__file__).parent / "old_names.json").read_text())


@pytest.mark.parametrize("room", OLD)
def test_no_public_name_is_lost(room):
    module = importlib.import_module(f"logitlab.{room}")
    for name in OLD[room]:
        if name in module.__all__:
            getattr(module, name)
            continue
        new = RENAMED[room][name]
        with pytest.warns(DeprecationWarning, match=rf"{name} is now logitlab\.{new}"):
            found = getattr(module, name)
        home, _, new_name = new.rpartition(".")
        home = importlib.import_module(f"logitlab.{home}")
        assert new_name in home.__all__, new
        assert found is getattr(home, new_name)
        assert name not in dir(module)


def test_the_warning_points_at_the_caller():
    with pytest.warns(DeprecationWarning, match="kd is now") as caught:
        losses.kd  # noqa: B018
    assert [warning.filename for warning in caught] == [__file__]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(
        AttributeError, match=r"'logitlab\.losses' has no attribute 'k'"
    ):
        importlib.import_module("logitlab.losses").k  # noqa: B018
