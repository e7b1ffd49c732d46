import ast
import functools
import inspect
import itertools
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import logitlab

ROOT = pathlib.Path(logitlab.__file__).parent
HEAVY = {
    "flax",
    "grain",
    "IPython",
    "matplotlib",
    "ml_collections",
    "orbax",
    "pandas",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "tqdm",
}
PUBLIC = [
    (module, name)
    for module in (getattr(logitlab, name) for name in logitlab.__all__)
    for name in module.__all__
]
# Hyper-parameters without a default, for the functions that have some.
REQUIRED = {}


def shapes_line(function) -> str | None:
    """What the docstring says after ``Shapes:``, on one line."""
    found = re.search(r"Shapes: (.+?)(\n\s*\n|$)", function.__doc__ or "", re.DOTALL)
    return found and " ".join(found[1].split())


def parse(line):
    """``a [..., C], b [...] -> ([], [C])`` to ([(a, [..., C]), (b, [...])], result)."""
    arguments, result = line.split("->")
    arguments = re.findall(r"(\w+) \[([^]]*)\]", arguments)
    shapes = [
        dims.split(",") if dims else [] for dims in re.findall(r"\[(.*?)\]", result)
    ]
    tidy = lambda dims: [d.strip() for d in dims if d.strip()]  # noqa: E731
    arguments = [(name, tidy(dims.split(","))) for name, dims in arguments]
    return arguments, [tidy(dims) for dims in shapes], result.strip().startswith("(")


def build(line, batch, seed=0):
    """Random arguments of the shapes in ``line``, and the shapes of the result."""
    rng = np.random.default_rng(seed)
    sizes = {}
    lengths = itertools.count(5)

    def shape(dims):
        sizes.update({d: next(lengths) for d in dims if d.isalpha() and d not in sizes})
        spelled = {"...": batch, **{d: (n,) for d, n in sizes.items()}}
        return sum((spelled[d] if d in spelled else (int(d),) for d in dims), ())

    def draw(name, dims):
        size = shape(dims)
        if name in ("where", "mask"):
            return rng.uniform(size=size) < 0.8
        if name == "labels" and "C" not in dims:
            return rng.integers(0, sizes.get("C", 2), size)
        if name == "labels":
            return rng.dirichlet(np.ones(size[-1]), size[:-1]).astype("f4")
        return rng.normal(size=size).astype("f4")

    arguments, results, several = parse(line)
    drawn = {name: draw(name, dims) for name, dims in arguments}
    results = [shape(dims) for dims in results]
    return drawn, results if several else results[0]


def check_shapes(function, line=None, **hyper):
    """Runs ``function`` on what its ``Shapes:`` line says, for three batch ranks."""
    line = line or shapes_line(function)
    for batch in ((), (3,), (2, 3)) if "..." in line else ((),):
        arguments, want = build(line, batch)
        got = jax.jit(functools.partial(function, **hyper))(**arguments)
        got = [a.shape for a in got] if isinstance(want, list) else got.shape
        assert got == want, f"{line} with batch {batch}"


def test_import_is_light():
    code = "import logitlab, sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert HEAVY & set(run.stdout.decode().split()) == set()
    assert not run.stderr


@pytest.mark.parametrize(
    ("module", "name"), PUBLIC, ids=lambda v: getattr(v, "__name__", v)
)
def test_public_names(module, name):
    thing = getattr(module, name)
    assert inspect.getdoc(thing), "no docstring"
    assert not name.startswith("_")
    assert thing.__module__.startswith(module.__name__)
    if module in (logitlab.losses, logitlab.links):
        text = inspect.getdoc(thing)
        assert "Source:" in text
        assert ".. math::" in text
        assert shapes_line(thing)


def test_all_is_complete():
    for module in (getattr(logitlab, name) for name in logitlab.__all__):
        for name, thing in vars(module).items():
            if inspect.isfunction(thing) or inspect.isclass(thing):
                ours = thing.__module__.startswith(module.__name__)
                assert name in module.__all__ or name.startswith("_") or not ours, name


def test_no_file_shadows_a_function():
    for init in set(ROOT.rglob("__init__.py")) - {ROOT / "__init__.py"}:
        files = {path.stem for path in init.parent.iterdir()}
        for node in ast.parse(init.read_text()).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
                assert not files & set(ast.literal_eval(node.value)), init


def test_the_light_group_needs_little():
    allowed = {"jax", "numpy", "optax", "chex", "logitlab"} | sys.stdlib_module_names
    for name in logitlab.__all__:
        path = ROOT / name
        for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            for node in ast.walk(ast.parse(file.read_text())):
                used = []
                if isinstance(node, ast.Import):
                    used = [alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom):
                    used = [node.module]
                assert {module.split(".")[0] for module in used} <= allowed, file


WITH_SHAPES = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module, name in PUBLIC
    if shapes_line(getattr(module, name))
]


@pytest.mark.parametrize("function", WITH_SHAPES)
def test_shapes(function):
    check_shapes(function, **REQUIRED.get(function.__name__, {}))


def test_shapes_of_distributions():
    line = "logits [..., C], labels [..., C], where [..., C] -> [...]"
    check_shapes(logitlab.losses.cross_entropy, line)


def test_the_shapes_parser():
    arguments, want = build(
        "a [..., C], b [C, 2], labels [...] -> ([], [..., D])", (3,)
    )
    assert [x.shape for x in arguments.values()] == [(3, 5), (5, 2), (3,)]
    assert want == [(), (3, 6)]
    with pytest.raises(AssertionError, match="with batch"):
        check_shapes(logitlab.numerics.logsumexp, "logits [..., C] -> [..., C]")


def test_version():
    setup = (ROOT.parent / "setup.py").read_text()
    assert f'version="{logitlab.__version__}"' in setup
