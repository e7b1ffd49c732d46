import ast
import functools
import importlib
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
from logitlab.losses.catalogue import CATALOGUE

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
# Arguments that a Shapes line does not name, for the functions that need some.
OTHERS = {
    "adaptive_weight": dict(scale=20.0),
    "awr_loss": dict(temperature=0.5),
    "bag_loss": dict(num_bags=3),
    "cluster_likelihood": dict(num_clusters=3),
    "comp_sum_bayes_risk": dict(tau=1.0),
    "compose_teacher_logits": dict(weight=2.0),
    "confidence_penalised_ce": dict(lam=0.5),
    "cqr_calibrate": dict(alpha=0.1),
    "deep_nngp": dict(activation="erf", depth=2),
    "deep_ntk": dict(activation="erf", depth=2),
    "dpa_loss": dict(name="ORPO"),
    "duality_gap": dict(tau=0.1),
    "expected_accepted_length": dict(gamma=4),
    "f_dpo_loss": dict(f_divergence="forward_kl"),
    "hconsistency_bound": dict(tau=1.0, num_classes=3),
    "hconsistency_transform": dict(tau=1.0, num_classes=3),
    "hilbert_estimate": dict(power=2),
    "hl_gauss_loss": dict(vmin=-1.0, vmax=1.0),
    "hl_gauss_probs": dict(vmin=-1.0, vmax=1.0, num_bins=4),
    "huber_pinball_loss": dict(width=0.1),
    "inpo_loss": dict(eta=0.5, tau=0.2),
    "krr_limit": dict(ridge=1.0, alpha=0.5),
    "krr_predict": dict(ridge=1.0),
    "krr_self_distill": dict(ridge=1.0),
    "length_weights": dict(lam=0.1, max_length=10),
    "meco_update": dict(gamma=0.5),
    "minimizability_gap": dict(tau=1.0),
    "nash_md_pg_loss": dict(beta=0.1),
    "nce_loss": dict(log_z=0.0),
    "omd_target": dict(eta=0.5, tau=0.2),
    "optimal_temperature": dict(rho=0.1),
    "overlong_penalty": dict(max_len=20, cache=5),
    "poly_n_loss": dict(eps=(1.0, 0.5)),
    "psr_nsr_advantages": dict(kind="weighted"),
    "self_distill_mse": dict(alpha=0.5),
    "shrinkage_factors": dict(ridge=1.0, alpha=0.5, steps=4),
    "speculative_speedup": dict(gamma=4, draft_cost=0.1),
    "spherical_stats_loss": dict(num_classes=3),
    "tempnet_robust_loss": dict(rho=0.1),
    "top_k_logits": dict(k=3),
    "two_hot_loss": dict(vmin=-1.0, vmax=1.0),
    "two_hot_probs": dict(vmin=-1.0, vmax=1.0, num_atoms=4),
    "utility_update": dict(learning_rate=0.1),
    "xpo_loss": dict(alpha=0.1),
}
# Functions whose arguments are more than independent arrays; their own tests call them.
OWN_TESTS = {
    "accidental_hits": "ids are integers",
    "adaptive_full_log_probs": "takes a list of tails",
    "adaptive_log_prob": "takes a list of tails",
    "adaptive_predict": "takes a list of tails",
    "adaptive_softmax": "takes a list of tails",
    "aggregate_labels": "the number of bags is static",
    "aggregate_ridge": "the number of bags is static",
    "bag_loss": "the number of bags is static",
    "bco_loss": "is_desirable is bool",
    "cluster_likelihood": "cluster ids are integers",
    "clustering_accuracy": "predictions are integers",
    "conflict_ratio": "relations are integers",
    "dirichlet_responsibilities": "takes a key",
    "disco_loss": "group ids are integers",
    "drpo_loss": "group ids are integers",
    "ensloss": "takes a key",
    "ensloss_derivatives": "takes a key",
    "fit_density_classifier": "is_desirable is bool",
    "fit_presto": "the number of classes is static",
    "fused_linear_distillation": "takes a head",
    "gaussian_nb_linear": "takes a state",
    "gaussian_nb_logits": "takes a state",
    "gaussian_nb_update": "takes a state",
    "hierarchical_softmax": "takes a tree",
    "instance_loss": "bags are segments",
    "interpolated_aggregate_loss": "bags are segments",
    "kto_loss": "is_desirable is bool",
    "ld_sequence_log_prob": "tokens are integers",
    "leaf_smoother": "leaves are integers",
    "linear_label_loss": "takes a loss",
    "linear_loss": "takes a loss",
    "list_mle": "rankings are permutations",
    "makd": "the number of classes is static",
    "margin_calibrated_cross_entropy": "classes are masked",
    "mnl_optimal_allocation": "runs on the host",
    "multiclass_ensloss": "takes a key",
    "non_transitivity_ratio": "relations are integers",
    "pld_resample": "takes a key",
    "presto_lambda_max": "the number of classes is static",
    "presto_logits": "takes a fit",
    "rankseg_rma": "the shape follows the mode",
    "sampled_softmax": "takes a key",
    "sequence_log_prob": "tokens are integers",
    "sequence_nll": "tokens are integers",
    "shift_for_next_token": "tokens are integers",
    "speculative_sample": "takes a key",
    "spherical_output_stats": "takes a state",
    "spherical_output_update": "takes a state",
    "token_log_prob": "tokens are integers",
    "two_level_softmax": "takes a layout",
    "vcg_payments": "runs on the host",
    "vq_centroids": "codes are integers",
    "vq_codebook_loss": "codes are integers",
    "vq_label_log_probs": "codes are integers",
    "vq_loss": "codes are integers",
    "wpo_weights": "tokens are integers",
}


def shapes_line(function) -> str | None:
    """What the docstring says after ``Shapes:``, on one line."""
    found = re.search(r"Shapes: (.+?)(\n\s*\n|$)", function.__doc__ or "", re.DOTALL)
    return found and " ".join(found[1].split())


def parse(line):
    """``a [..., C], b [] -> [C + 1]`` to ([(a, [..., C]), (b, [])], [[C + 1]])."""
    arguments, result = line.split("->")
    tidy = lambda dims: [d.strip() for d in dims.split(",") if d.strip()]  # noqa: E731
    arguments = re.findall(r"(\w+) \[([^]]*)\]", arguments)
    results = re.findall(r"\[(.*?)\]", result)
    return [(name, tidy(dims)) for name, dims in arguments], list(map(tidy, results))


def build(line, batch, sizes=(), seed=0):
    """Random arguments of the shapes in ``line``, and the shapes of the results."""
    rng = np.random.default_rng(seed)
    sizes = dict(sizes)
    lengths = itertools.count(5)

    def shape(dims):
        sizes.update({d: next(lengths) for d in dims if d.isalpha() and d not in sizes})
        known = [batch if d == "..." else (eval(d, {}, sizes),) for d in dims]
        return sum(known, ())

    def draw(name, dims):
        size = shape(dims)
        if name in ("where", "mask", "alloc"):
            return rng.uniform(size=size) < 0.8
        if name in ("labels", "choice", "actions") and "C" not in dims:
            return rng.integers(0, sizes.get("C", 2), size)
        if name in ("labels", "probs") and dims and dims[-1] == "C":
            return rng.dirichlet(np.ones(size[-1]), size[:-1]).astype("f4")
        if name in ("probs", "levels"):
            return np.sort(rng.uniform(size=size).ravel()).reshape(size).astype("f4")
        return rng.normal(size=size).astype("f4")

    arguments, results = parse(line)
    drawn = {name: draw(name, dims) for name, dims in arguments}
    return drawn, [shape(dims) for dims in results]


def check_shapes(function, line=None, **others):
    """Traces ``function`` as its ``Shapes:`` line says, for three batch ranks."""
    line = line or shapes_line(function)
    batches = ((), (3,), (2, 3)) if "..." in line else ((),)
    for batch in [(3,)] if "[B, C, ...]" in line else batches:  # images have pixels
        arguments, want = build(line, batch, others)
        got = jax.eval_shape(functools.partial(function, **others), **arguments)
        got = [a.shape for a in jax.tree.leaves(got)]
        assert got == want, f"{line} with batch {batch}"


def test_import_is_light():
    code = "import logitlab, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    modules = set(run.stdout.decode().split())
    assert HEAVY & {name.split(".")[0] for name in modules} == set()
    assert "scipy.optimize" not in modules  # as slow as jax itself
    assert not run.stderr


@pytest.mark.parametrize(
    ("module", "name"), PUBLIC, ids=lambda v: getattr(v, "__name__", v)
)
def test_public_names(module, name):
    thing = getattr(module, name)
    assert inspect.getdoc(thing), "no docstring"
    assert not name.startswith("_")
    assert thing.__module__.startswith(module.__name__)
    if module is logitlab.links or name in CATALOGUE:
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
        package = ".".join(init.parent.relative_to(ROOT.parent).parts)
        files = {path.stem for path in init.parent.iterdir()}
        assert not files & set(importlib.import_module(package).__all__), package


def test_the_light_group_needs_little():
    # scipy comes with jax.
    allowed = {
        "jax",
        "numpy",
        "scipy",
        "optax",
        "chex",
        "logitlab",
    } | sys.stdlib_module_names
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
    if shapes_line(getattr(module, name)) and name not in OWN_TESTS
]


@pytest.mark.parametrize("function", WITH_SHAPES)
def test_shapes(function):
    check_shapes(function, **OTHERS.get(function.__name__, {}))


def test_shapes_of_distributions():
    line = "logits [..., C], labels [..., C], where [..., C] -> [...]"
    check_shapes(logitlab.losses.cross_entropy, line)


def test_the_shapes_parser():
    line = "a [..., C], b [C, 2], labels [...] -> ([], [..., D, C + 1])"
    arguments, want = build(line, (3,))
    assert [x.shape for x in arguments.values()] == [(3, 5), (5, 2), (3,)]
    assert want == [(), (3, 6, 6)]
    with pytest.raises(AssertionError, match="with batch"):
        check_shapes(logitlab.numerics.logsumexp, "logits [..., C] -> [..., C]")


def test_version():
    setup = (ROOT.parent / "setup.py").read_text()
    assert f'version="{logitlab.__version__}"' in setup


@pytest.mark.parametrize("folder", ["logitlab", "experiments"])
def test_nothing_that_is_read_is_run(folder):
    forbidden = {"eval", "exec", "compile", "__import__"}
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in (ROOT.parent / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", None)
                assert name not in forbidden, f"{path}:{node.lineno}"
                allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
                assert not allowed, f"{path}:{node.lineno}"
            names = [a.name for a in getattr(node, "names", [])]
            names += [getattr(node, "module", None) or ""]
            assert not modules & set(names), f"{path}:{getattr(node, 'lineno', 0)}"
