"""Every page beside the code: its code, commands, links and generated parts."""

import contextlib
import importlib
import importlib.util
import io
import os
import pathlib
import re
import shlex
import shutil
import types

import jax
import pytest
from absl.testing import flagsaver

from experiments import main
from experiments.common import pages, studies
from logitlab import report, train

ROOT = pages.ROOT
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in pages.pages()
}
each_page = pytest.mark.parametrize("page", TEXTS)
FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.M)
BLOCKS = [
    pytest.param(language, block, id=f"{page}-{i}")
    for page, text in TEXTS.items()
    for i, (language, block) in enumerate(FENCED.findall(text))
]
PYTHON = [
    block
    for block in BLOCKS
    # A first line such as "# configs/mine.py" makes it a file: see test_readme.py.
    if block.values[0] == "python" and not re.match(r"# \w+/\w+\.py\n", block.values[1])
]


def commands():
    """Every command of a ``bash`` block, without its comment, once."""
    found = {}
    for block in BLOCKS:
        language, text = block.values
        if language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                for command in re.split(r" && | +#.*", line):
                    found[" ".join(command.split())] = None
    return [command for command in found if command]


STUDIES = [c for c in commands() if c.startswith("python -m experiments.main ")]
OTHERS = [c for c in commands() if c not in STUDIES]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """As the pages' commands are typed."""
    monkeypatch.chdir(ROOT)


def test_blocks_are_python_or_bash():
    assert {block.values[0] for block in BLOCKS} == {"python", "bash"}


@pytest.mark.parametrize(("language", "block"), PYTHON)
def test_code_runs_and_prints_what_it_says(language, block):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {"__name__": "__main__"})
    lines = printed.getvalue().splitlines()
    for said in re.findall(r"^print\(.*\)  # (.+)$", block, re.M):
        assert said in lines


@each_page
def test_generated_parts_are_up_to_date(page):
    assert pages.replaced(TEXTS[page]) == TEXTS[page], (
        "write them anew: python -m experiments.common.pages"
    )


def test_every_generated_part_is_shown_once():
    shown = [name for text in TEXTS.values() for name in pages.shown(text)]
    assert sorted(shown) == sorted(pages.parts())


def anchors(text):
    """The fragments by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@each_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if link.startswith("https://arxiv.org/abs/"):
            continue
        target, _, fragment = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        if fragment:
            assert fragment in anchors(path.read_text("utf-8")), link


def rooms():
    """Folders that a user enters: packages, and what is run from the repository."""
    found = [path.parent for path in (ROOT / "logitlab").glob("*/__init__.py")]
    families = [path.parent for path in (ROOT / "experiments").glob("*/__init__.py")]
    tops = ["logitlab", "experiments", "configs", "colabs", "tests"]
    helpers = [ROOT / "experiments/common"]
    return [ROOT / top for top in tops] + [
        room for room in found + families if room not in helpers
    ]


def test_every_family_of_studies_is_in_the_table():
    text = (ROOT / "experiments/README.md").read_text()
    for page in sorted((ROOT / "experiments").glob("*/README.md")):
        if page.parent.name != "results":
            assert f"| [`{page.parent.name}`](" in text, page.parent.name


def test_every_room_has_a_page():
    missing = [room for room in rooms() if not (room / "README.md").is_file()]
    assert not missing


def test_the_page_of_a_room_names_every_function():
    for path in (ROOT / "logitlab").glob("*/__init__.py"):
        room = path.parent.name
        named = {*re.findall(r"\w+", TEXTS[f"logitlab/{room}/README.md"])}
        public = importlib.import_module(f"logitlab.{room}").__all__
        functions = {name for name in public if name[0].islower()}
        assert functions <= named, f"{room}: {sorted(functions - named)}"


@pytest.fixture
def parsed(monkeypatch, tmp_path_factory):
    """The config of a command's arguments, as its flags make it."""
    data = tmp_path_factory.getbasetemp() / "tfds"  # the same for all tests
    monkeypatch.setenv("TFDS_DATA_DIR", str(data))

    def parse(arguments):
        with flagsaver.flagsaver():
            config = main.parse(["main", *arguments])
            assert main.WORKDIR.value or main.DRY_RUN.value
            return config

    return parse


def arguments_of(command):
    return shlex.split(command)[3:]


def small(command):
    """The arguments that matter to the config, of a variant's smoke form."""
    path, overrides = "", []
    for argument in arguments_of(command):
        if argument.startswith("--config="):
            path = argument.removeprefix("--config=")
        elif argument.startswith("--config."):
            overrides.append(argument)
    path, _, variant = path.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    variant = (variant or next(iter(module.VARIANTS))).removesuffix("-smoke")
    form = f"{variant}-smoke" if variant in module.SMOKE else "smoke"
    return (f"--config={path}:{form}", *overrides)


@pytest.mark.parametrize("command", STUDIES)
def test_studies_build(command, parsed):
    config = parsed(arguments_of(command))
    with jax.enable_x64(config.x64):
        assert studies.build(config).arms


@pytest.mark.slow
@pytest.mark.parametrize("arguments", sorted({small(c) for c in STUDIES}), ids=str)
def test_studies_run(arguments, parsed, tmp_path):
    config = parsed([*arguments, f"--workdir={tmp_path}"])
    config.update_from_flattened_dict({"mesh.data": 1})
    with jax.enable_x64(config.x64):
        study = studies.build(config)
        results = train.run_study(study, config, tmp_path, quiet=True)
        report.conclude(study, results, config, tmp_path)
    assert (tmp_path / "report.html").is_file()


def extras():
    facts = {}
    setuptools = types.SimpleNamespace(setup=facts.update, find_packages=lambda **_: [])
    text = (ROOT / "setup.py").read_text("utf-8")
    text = text.replace("from setuptools import find_packages, setup", "")
    exec(text, {"__file__": str(ROOT / "setup.py"), **vars(setuptools)})
    return facts["extras_require"]


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_name_what_there_is(command):
    words = shlex.split(command)
    match words:
        case ["pip", "install", "-e", target]:
            extra = re.fullmatch(r"\.\[([a-z-]+)\]", target)  # pip 23 finds no "_"
            assert extra is not None
            assert extra[1] in extras()
        case ["python", "-m", "pytest", *rest]:
            check_pytest(rest)
        case ["python", "-m", "sphinx", *_, source, _]:
            assert (ROOT / source / "conf.py").is_file()
        case ["python", "-m", module]:
            assert importlib.util.find_spec(module) is not None
        case ["ruff" | "mypy", *_]:
            assert shutil.which(words[0])
        case ["python3", "-m", "venv", _] | ["source", _]:
            pass  # whoever runs this test has done it
        case [path, *_]:
            assert os.access(ROOT / path, os.X_OK)


def check_pytest(arguments):
    paths = [word for word in arguments if "/" in word]
    assert all((ROOT / path).exists() for path in paths)
    if "-m" in arguments:
        assert arguments[arguments.index("-m") + 1] in ("slow", "tpu")  # strict
    if "-k" in arguments:
        word = arguments[arguments.index("-k") + 1]
        files = (ROOT / "tests").rglob("test_*.py")
        named = any(re.search(rf"{word}", f.read_text("utf-8")) for f in files)
        assert named, f"no test has {word!r} in its name"


def test_no_placeholder_is_left():
    notebooks = [p.read_text("utf-8") for p in pathlib.Path("colabs").glob("*.ipynb")]
    for text in [*TEXTS.values(), *notebooks, (ROOT / "setup.py").read_text("utf-8")]:
        assert not re.search(r"OWNER|TODO|example\.com|<your", text)
