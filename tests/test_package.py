import ast
import functools
import importlib
import inspect
import itertools
import pathlib
import pickle
import pkgutil
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import logitlab
from logitlab.losses.catalogue import CATALOGUE
from logitlab.targets import Pairs

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
    "advflyp_loss": dict(temperature=0.1),
    "angle_norm_logits": dict(scale=10.0),
    "anneal_sigma": dict(sigma_max=0.5, sigma_min=0.1, steps=10),
    "ardae_loss": dict(sigma=0.5),
    "awr_loss": dict(temperature=0.5),
    "bag_loss": dict(num_bags=3),
    "calibration_bins": dict(bins=4),
    "cluster_likelihood": dict(num_clusters=3),
    "comp_sum_bayes_risk": dict(tau=1.0),
    "compose_teacher_logits": dict(weight=2.0),
    "confidence_penalized_cross_entropy": dict(lam=0.5),
    "conformal_threshold": dict(alpha=0.1),
    "cosine_logits": dict(scale=10.0),
    "cqr_calibrate": dict(alpha=0.1),
    "dae_score": dict(sigma=0.5),
    "deep_nngp": dict(activation="erf", depth=2),
    "deep_ntk": dict(activation="erf", depth=2),
    "denoising_reconstruction_loss": dict(sigma=0.5),
    "denoising_score_matching_loss": dict(sigma=0.5),
    "discrepancy_bounds": dict(delta=0.1),
    "dpa_loss": dict(name="ORPO"),
    "duality_gap": dict(tau=0.1),
    "empirical_bernstein": dict(draws=10, alpha=0.1),
    "empirical_multiplicity": dict(epsilon=0.1, delta=0.1),
    "expected_accepted_length": dict(gamma=4),
    "f_dpo_loss": dict(f_divergence="forward_kl"),
    "fenchel_young_max_loss": dict(max_fun=logitlab.numerics.logsumexp),
    "gpw_weights": dict(kind="triplet"),
    "groco_loss": dict(negatives=3),
    "group_order_bce_loss": dict(negatives=2),
    "hconsistency_bound": dict(tau=1.0, num_classes=3),
    "hconsistency_transform": dict(tau=1.0, num_classes=3),
    "hilbert_estimate": dict(power=2),
    "hl_gauss_loss": dict(vmin=-1.0, vmax=1.0),
    "hl_gauss_probs": dict(vmin=-1.0, vmax=1.0, num_bins=4),
    "huber_pinball_loss": dict(width=0.1),
    "infonce_loss": dict(temperature=0.1),
    "inpo_loss": dict(eta=0.5, tau=0.2),
    "inverse_gap_weighting": dict(gamma=10.0),
    "kl_dro_loss": dict(r=0.5),
    "kl_dro_weights": dict(r=0.5),
    "krr_limit": dict(ridge=1.0, alpha=0.5),
    "krr_predict": dict(ridge=1.0),
    "krr_self_distill": dict(ridge=1.0),
    "length_weights": dict(lam=0.1, max_length=10),
    "local_neighborhood_aggregate": dict(degree=3),
    "log_barrier_policy": dict(eta=0.5),
    "mano_powers": dict(criterion=5.0),
    "mart_loss": dict(beta=5.0),
    "mbtl_acquisition": dict(slope=0.1, kappa=1.0),
    "meco_update": dict(gamma=0.5),
    "minimizability_gap": dict(tau=1.0),
    "nash_md_pg_loss": dict(beta=0.1),
    "nce_loss": dict(log_z=0.0),
    "normalized_softmax_loss": dict(temperature=0.1),
    "ntxent_loss": dict(temperature=0.1),
    "noprop_block_loss": dict(snr_diff=0.5, steps=4),
    "off_policy_mask": dict(threshold=0.5),
    "omd_target": dict(eta=0.5, tau=0.2),
    "optimal_temperature": dict(rho=0.1),
    "overlong_penalty": dict(max_len=20, cache=5),
    "poly_n_loss": dict(eps=(1.0, 0.5)),
    "predictive_ambiguity": dict(delta=0.1),
    "project_l1_box": dict(eps=1.0),
    "psr_nsr_advantages": dict(kind="weighted"),
    "score_from_x0": dict(alpha=0.5, h=0.75),
    "self_distill_mse_loss": dict(alpha=0.5),
    "shrinkage_factors": dict(ridge=1.0, alpha=0.5, steps=4),
    "simclr_ntxent_loss": dict(temperature=0.1),
    "smoothed_lipschitz": dict(sigma=0.5),
    "smoothed_zero_one_loss": dict(sigma=0.5),
    "speculative_speedup": dict(gamma=4, draft_cost=0.1),
    "spherical_stats_loss": dict(num_classes=3),
    "supcon_loss": dict(temperature=0.1),
    "target_surrogate": dict(eta=1.0),
    "tempnet_robust_loss": dict(rho=0.1),
    "test_halfspace": dict(sigma=0.1),
    "top_k_logits": dict(k=3),
    "trades_loss": dict(beta=6.0),
    "tweedie_gamma": dict(shape=4.0),
    "tweedie_gaussian": dict(variance=0.5),
    "tweedie_poisson": dict(zeta=0.1),
    "two_hot_loss": dict(vmin=-1.0, vmax=1.0),
    "two_hot_probs": dict(vmin=-1.0, vmax=1.0, num_atoms=4),
    "utility_update": dict(learning_rate=0.1),
    "viable_prediction_range": dict(epsilon=0.1),
    "x0_from_score": dict(alpha=0.5, h=0.75),
    "xpo_loss": dict(alpha=0.1),
}
# Functions whose arguments are more than independent arrays; their own tests call them.
OWN_TESTS = {
    "accidental_hits": "ids are integers",
    "ada_normal_hedge_probs": "takes a state",
    "ada_normal_hedge_update": "takes a state",
    "adaptive_full_log_probs": "takes a list of tails",
    "adaptive_log_prob": "takes a list of tails",
    "adaptive_predict": "takes a list of tails",
    "adaptive_softmax": "takes a list of tails",
    "aggregate_labels": "the number of bags is static",
    "aggregate_ridge": "the number of bags is static",
    "bag_loss": "the number of bags is static",
    "batch_hard_pairs": "similarities are square without reference labels",
    "bco_loss": "is_desirable is bool",
    "bifurcate": "actions are floats",
    "certify_lvm": "takes maps",
    "clopper_pearson": "counts are integers",
    "cluster_by_correlation_stability": "takes a key",
    "cluster_likelihood": "cluster ids are integers",
    "clustering_accuracy": "predictions are integers",
    "compositional_dro_update": "takes a state",
    "concatenated_distance_covariance_penalty": "takes any number of attributes",
    "conflict_ratio": "relations are integers",
    "contractive_reconstruction_loss": "takes a model",
    "corrupt_images": "takes a key",
    "decorrelation_loss": "takes a key",
    "dirichlet_responsibilities": "takes a key",
    "disco_loss": "group ids are integers",
    "distance_weighted_pairs": "takes a key",
    "dlr_targeted_loss": "targets are integers",
    "drm_loss": "domains are integers",
    "draft_tree_mask": "parents are integers",
    "drpo_loss": "group ids are integers",
    "ensloss": "takes a key",
    "ensloss_derivatives": "takes a key",
    "equal_opportunity": "groups are integers",
    "estimate_grouped_model": "states are integers",
    "fairness_regularized_loss": "groups are integers",
    "fit_atc": "errors are bool",
    "fit_density_classifier": "is_desirable is bool",
    "fit_histogram_binning": "labels are 0 or 1",
    "fit_isotonic": "labels are 0 or 1",
    "fit_logistic": "the number of classes is static",
    "fit_platt": "labels are 0 or 1",
    "fit_presto": "the number of classes is static",
    "fit_scaled_ncx2": "errors are positive",
    "fused_linear_distillation": "takes a head",
    "gaussian_nb_linear": "takes a state",
    "gaussian_nb_logits": "takes a state",
    "gaussian_nb_update": "takes a state",
    "gfucb_select": "takes a state",
    "gfucb_update": "takes a state",
    "gmm_fit": "takes a key",
    "gmm_log_likelihood": "takes a fit",
    "gmm_logits": "takes a fit",
    "gp_posterior_errors": "takes a key",
    "gram_deviation": "weights are positive",
    "group_difference_logits": "groups are integers",
    "group_jsd": "groups are integers",
    "group_mdp": "transitions are distributions",
    "group_means": "groups are integers",
    "grouping_objective": "transitions are distributions",
    "groupwise_predictor": "groups are bool",
    "hierarchical_softmax": "takes a tree",
    "implicit_score_matching_loss": "takes a model",
    "instance_loss": "bags are segments",
    "interpolated_aggregate_loss": "bags are segments",
    "joint_distance_covariance_penalty": "takes any number of attributes",
    "kl_matching_score": "takes templates",
    "kto_loss": "is_desirable is bool",
    "label_replace": "labels are integers",
    "ld_sequence_log_prob": "tokens are integers",
    "leaf_smoother": "leaves are integers",
    "learn_halfspace": "takes a key",
    "learn_sample_weights": "takes a key",
    "lebed_score": "takes a network",
    "linear_label_loss": "takes a loss",
    "linear_logits": "takes a fit",
    "linear_loss": "takes a loss",
    "linear_probe": "the number of classes is static",
    "list_mle_distillation_loss": "rankings are permutations",
    "makd_loss": "the number of classes is static",
    "map_at_r": "a reference needs labels",
    "margin_calibrated_cross_entropy": "classes are masked",
    "mbtl_select": "runs on the host",
    "mean_token_nll": "tokens are integers",
    "memory_push": "takes a state",
    "mnl_optimal_allocation": "runs on the host",
    "multi_similarity_pairs": "similarities are square without reference labels",
    "multiclass_ensloss": "takes a key",
    "neg_log_ncx2_cdf": "parameters are positive",
    "ngram_counts": "takes counts of a text",
    "ngram_log_probs": "takes counts of a text",
    "ngram_prior_logits": "matched is bool",
    "nested_groupings": "runs on the host",
    "non_transitivity_ratio": "relations are integers",
    "normalized_mutual_information": "clusters are integers",
    "pair_loss": "takes a loss",
    "personal_loss_resample": "takes a key",
    "ppca_encode": "takes a fit",
    "ppca_fit": "the rank is static",
    "ppca_log_likelihood": "takes a fit",
    "presto_lambda_max": "the number of classes is static",
    "presto_logits": "takes a fit",
    "private_aggregate_labels": "takes a key",
    "prototypes": "the number of classes is static",
    "r_precision": "a reference needs labels",
    "rankseg_rma": "the shape follows the mode",
    "recall_at_k": "a reference needs labels",
    "rff_cross_covariance": "takes a key",
    "sample_projection_dpp": "takes a key",
    "sample_volume": "takes a key",
    "sampled_softmax": "takes a key",
    "sequence_log_prob": "tokens are integers",
    "shift_for_next_token": "tokens are integers",
    "speculative_candidates": "takes a key",
    "speculative_sample": "takes a key",
    "sliced_score_matching_loss": "takes a model",
    "speculative_tree": "takes a key",
    "spherical_output_stats": "takes a state",
    "spherical_output_update": "takes a state",
    "structure_discrepancy": "nodes are integers",
    "suppress_logits": "counts are at least 0",
    "suppression_bias": "counts are at least 0",
    "tester_learner": "takes a key",
    "token_log_prob": "tokens are integers",
    "two_level_softmax": "takes a layout",
    "uer_loss": "replay_mask is bool",
    "uf_index": "groups are integers",
    "union_accuracy": "broken is bool",
    "update_counts": "tokens are integers",
    "value_gradient": "takes a function",
    "value_iteration": "transitions are distributions",
    "vcg_payments": "runs on the host",
    "vq_centroids": "codes are integers",
    "vq_codebook_loss": "codes are integers",
    "vq_label_log_probs": "codes are integers",
    "vq_loss": "codes are integers",
    "weighted_least_squares": "weights are positive",
    "worst_group_loss": "groups are integers",
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
        if name == "pairs":
            positive = rng.uniform(size=size) < 0.5
            return Pairs(positive, ~positive)
        if name in ("where", "alloc") or name.endswith("mask"):
            return rng.uniform(size=size) < 0.8
        choices = name.endswith("labels") or name in ("choice", "actions")
        if choices and "C" not in dims:
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
    """Traces ``function`` as its ``Shapes:`` line says, without and with batch axes."""
    line = line or shapes_line(function)
    batches = ((), (2, 3)) if "..." in line else ((),)
    for batch in [(3,)] if "[B, C, ...]" in line else batches:  # images have pixels
        arguments, want = build(line, batch, others)
        got = jax.eval_shape(functools.partial(function, **others), **arguments)
        got = [a.shape for a in jax.tree.leaves(got)]
        assert got == want, f"{line} with batch {batch}"


def test_import_is_light():
    code = """
import sys
import logitlab
print(*sys.modules)
from logitlab import losses
print(*sys.modules)
for name in losses.__all__:
    getattr(losses, name)
print(*sys.modules)
for room in logitlab.__all__:
    getattr(logitlab, room)
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not run.stderr
    bare, room, losses, whole = map(
        set, map(str.split, run.stdout.decode().splitlines())
    )
    ours = {name for name in room if name.startswith("logitlab")}
    assert ours - {"logitlab._lazy"} == {"logitlab", "logitlab.losses"}
    assert not bare & {"jax", "logitlab.losses"}
    assert "optax" not in losses
    assert HEAVY & {name.split(".")[0] for name in whole} == set()
    assert "scipy.optimize" not in whole  # as slow as jax itself
    assert "logitlab.losses._rows" not in whole  # only the catalogue imports it


def test_lazy_names_are_like_others():
    """In lists, in pickles and for the import statement; a typo gets the near name."""
    assert dir(logitlab) == sorted([*logitlab.__all__, "__version__"])
    for room in logitlab.__all__:
        module = getattr(logitlab, room)
        assert room == "sequences" or dir(module) == sorted(module.__all__), room
    loss = logitlab.losses.cross_entropy
    assert pickle.loads(pickle.dumps(loss)) is loss
    found = {}
    exec("from logitlab.losses import *", found)
    assert set(logitlab.losses.__all__) <= set(found)
    assert logitlab.losses.catalogue.CATALOGUE is CATALOGUE
    with pytest.raises(AttributeError) as error:
        logitlab.losses.cros_entropy  # noqa: B018
    assert error.value.obj is logitlab.losses  # Python suggests from its dir


def test_families_list_what_they_define():
    """The table that losses are imported by, and ``help`` prints, is true."""
    source = (ROOT / "losses/__init__.py").read_text()
    listed = set()
    for family, (about, names) in logitlab.losses._FAMILIES.items():
        module = importlib.import_module(f"logitlab.losses.{family}")
        assert sorted(names.split()) == sorted(module.__all__)
        assert f"from logitlab.losses.{family} import *\n" in source  # for checkers
        assert f"\n{family}: {about}\n" in logitlab.losses.__doc__
        listed |= {family}
    found = pkgutil.iter_modules([str(ROOT / "losses")])
    public = {module.name for module in found if not module.name.startswith("_")}
    assert public - listed == {"catalogue"}
    assert len(logitlab.losses.__doc__.splitlines()) < 120  # a page of help


def test_modules_hold_no_arrays():
    """One that is first imported under ``jit`` would keep a tracer."""
    loaded = [m for name, m in sys.modules.items() if name.startswith("logitlab.")]
    assert_none(
        f"{module.__name__}.{name}"
        for module in loaded
        for name, value in vars(module).items()
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    )


def test_signatures_print_as_written():
    """``ArrayLike``, not the dozen types that it stands for."""
    assert_none(
        f"{module.__name__}.{name}{inspect.signature(thing)}"
        for module, name in PUBLIC
        if inspect.isfunction(thing := getattr(module, name))
        for parameter in inspect.signature(thing).parameters.values()
        if not isinstance(parameter.annotation, str)
    )


def test_keywords_are_written_out():
    """Only names that the caller chooses, or options of its own function, are open."""
    hidden = {
        f"{module.__name__}.{name}"
        for module, name in PUBLIC
        if inspect.isfunction(thing := getattr(module, name))
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.kind is inspect.Parameter.VAR_KEYWORD
    }
    assert hidden == {
        "logitlab.numerics.check_devices",
        "logitlab.theory.margin_coefficients",
    }


@pytest.mark.parametrize(
    ("room", "missing"),
    [("models", "flax"), ("report", "ml_collections"), ("train", "ml_collections")],
)
def test_a_room_names_the_extra_that_it_needs(monkeypatch, room, missing):
    for name in list(sys.modules):
        if re.match(r"logitlab\.(models|report|train)(\.|$)", name):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # as though not installed
    needs = rf"logitlab\.{room} needs {missing}: pip install 'logitlab\[train\]'$"
    with pytest.raises(ModuleNotFoundError, match=needs):
        importlib.import_module(f"logitlab.{room}")


def assert_none(problems):
    """Shows all that is wrong, not only the first."""
    problems = list(problems)
    assert not problems, "\n".join(problems)


def documented(module, name):
    """What a public name lacks, in words."""
    thing = getattr(module, name)
    text = inspect.getdoc(thing) or ""
    if not text:
        yield "no docstring"
    if name.startswith("_"):
        yield "begins with an underscore"
    # A room may offer a loss that its functions go with.
    if not thing.__module__.startswith((module.__name__, "logitlab.losses")):
        yield f"comes from {thing.__module__}"
    if module is logitlab.links or name in CATALOGUE:
        for part in ("Source:", ".. math::"):
            if part not in text:
                yield f"no {part} in its docstring"
        if not shapes_line(thing):
            yield "no Shapes line in its docstring"


def test_public_names_are_documented():
    assert len(PUBLIC) > 400
    assert_none(
        f"{module.__name__}.{name}: {problem}"
        for module, name in PUBLIC
        for problem in documented(module, name)
    )


def test_golden_files_of_rows_are_there():
    folder = ROOT.parent / "tests/golden"
    assert_none(
        f"{row.name}: no {row.golden}.json"
        for row in CATALOGUE.values()
        if row.golden and not (folder / f"{row.golden}.json").exists()
    )


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
        names = getattr(importlib.import_module(package), "__all__", ())
        assert not files & set(names), package


def test_the_light_group_needs_little():
    # scipy comes with jax.
    allowed = {
        "jax",
        "numpy",
        "scipy",
        "optax",
        "logitlab",
    } | sys.stdlib_module_names
    for name in logitlab.__all__:
        for file in files_of(name):
            for node in ast.walk(ast.parse(file.read_text())):
                used = []
                if isinstance(node, ast.Import):
                    used = [alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom):
                    used = [node.module]
                assert {module.split(".")[0] for module in used} <= allowed, file


LOW_TO_HIGH = [  # each may import what stands before it
    "numerics",
    "weights",
    "targets",
    "sequences",
    "links",
    "metrics",
    "transforms",
    "decisions",
    "attacks",
    "theory",
    "rl",
    "losses",
    "heads",
    "optim",
    "estimators",
    "models",
    "data",
    "train",
    "report",
]


def imported(node):
    """The rooms of logitlab that a statement imports from."""
    names = [alias.name for alias in getattr(node, "names", [])]
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{name}" for name in names]
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "logitlab" and part[1:]}


def files_of(room):
    path = ROOT / room
    return path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]


def imports_of(file):
    """The import statements of a module that run when it is imported."""
    for node in ast.parse(file.read_text("utf-8")).body:
        yield from node.body if isinstance(node, ast.With) else [node]


def test_imports_go_down():
    assert_none(
        f"{file}:{node.lineno} imports {higher}"
        for at, room in enumerate(LOW_TO_HIGH)
        for file in files_of(room)
        for node in imports_of(file)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for higher in set(LOW_TO_HIGH[at + 1 :]) & imported(node)
    )


def test_shapes_lines_are_true():
    functions = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module, name in PUBLIC
        if name not in OWN_TESTS and shapes_line(getattr(module, name))
    }
    assert len(functions) > 200
    wrong = []
    for name, function in functions.items():
        try:
            check_shapes(function, **OTHERS.get(function.__name__, {}))
        except Exception as error:  # whatever a function raises, the others go on
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert_none(wrong)


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


def test_nothing_that_is_read_is_run():
    forbidden = {"eval", "exec", "compile", "__import__"}
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    folders = ROOT, ROOT.parent / "experiments"
    for path in itertools.chain(*(folder.rglob("*.py") for folder in folders)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", None)
                assert name not in forbidden, f"{path}:{node.lineno}"
                allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
                assert not allowed, f"{path}:{node.lineno}"
            names = [a.name for a in getattr(node, "names", [])]
            names += [getattr(node, "module", None) or ""]
            assert not modules & set(names), f"{path}:{getattr(node, 'lineno', 0)}"
