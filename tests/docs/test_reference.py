"""The API reference has every public name, once."""

import importlib
import importlib.util
import pathlib
import re

import pytest

import logitlab
from logitlab import losses

DOCS = pathlib.Path(logitlab.__file__).parent / "docs"


@pytest.fixture(scope="module")
def conf():
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_room_has_a_page(conf):
    rooms = {path.parent.name for path in DOCS.parent.glob("*/__init__.py")}
    assert {*conf.ROOMS} == rooms | {"sequences"}
    assert {*conf.ROOMS} <= conf.pages().keys()


def test_every_loss_is_documented_once(conf):
    text = "".join(conf.pages().values())
    shown = re.findall(r"autofunction:: logitlab\.losses\.(\w+)", text)
    assert sorted(shown) == sorted(losses.__all__)


def test_a_page_leads_to_every_page(conf):
    index = (DOCS / "index.rst").read_text("utf-8")
    lists = re.findall(r"^   (\w+)$", conf.pages()["losses"], re.M)
    pages = {name for name in conf.pages() if not name.startswith("losses_")}
    assert {*re.findall(r"^   api/(\w+)$", index, re.M)} == pages
    assert {*lists} == conf.pages().keys() - pages


def test_sections_of_one_paragraph_are_fields(conf):
    lines = ["Shapes: x [D] -> []", "", "Numerics: below 1e-5", "up to 80", "", "x: y"]
    conf.mark_fields(None, "function", "f", None, None, lines)
    assert lines[0] == ":Shapes: x [D] -> []"
    assert lines[2:] == [":Numerics: below 1e-5", "  up to 80", "", "x: y"]
