import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.distillation import _students, aspects, few_examples
from logitlab import losses, report, transforms
from logitlab.train import ArmResult


def config_of(variant, data_folder, **changes):
    config = get_config(variant)
    with config.unlocked():
        config.data.data_dir = data_folder
        config.update_from_flattened_dict(
            {key.replace("__", "."): value for key, value in changes.items()}
        )
    return config


def test_no_class_keeps_its_place_among_foreign_names():
    keys = jax.random.split(jax.random.key(0), 50)
    draw = jax.vmap(lambda key: few_examples.foreign_names(key, 5))
    names = interpreted(draw)(keys)
    np.testing.assert_array_equal(np.sort(names, 1), np.tile(np.arange(5), (50, 1)))
    assert (names != np.arange(5)).all()
    assert len({tuple(row) for row in names}) > 10


def test_cosine():
    a, b = (
        {"x": jnp.array([3.0]), "y": jnp.array([4.0])},
        {"x": jnp.array([2.0]), "y": jnp.array([0.0])},
    )
    assert interpreted(few_examples.cosine)(a, b) == pytest.approx(0.6)


def test_the_papers_example():
    want = {
        "plain/wrong": 0.11049,
        "plain/right": 0.29971,
        "standardized/wrong": 0.03985,
        "standardized/right": 0.0,
    }
    got = interpreted(few_examples._toy)(jax.random.key(0))
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert float(got[name]) == pytest.approx(value, abs=1e-5)


def batch():
    rng = np.random.default_rng(0)
    main, aux, teacher = (jnp.asarray(rng.normal(size=(6, 4)), "f4") for _ in range(3))
    return main, aux, {"y": jnp.arange(6) % 4, "teacher": teacher}


def parts(method, variant="digits"):
    main, aux, rows = batch()
    entry = get_config(variant).methods[method]
    terms = few_examples._terms(method, entry)
    objective = functools.partial(few_examples._objective, terms)
    return interpreted(objective)((main, aux), rows)


def lib(name, *arrays, **hyper):
    return interpreted(functools.partial(getattr(losses, name), **hyper))(*arrays)


def test_objectives_are_sums_of_the_librarys_losses():
    main, aux, rows = batch()
    t, y = rows["teacher"], rows["y"]
    ce = lib("cross_entropy", main, y)
    labels, teacher = parts("kd")
    np.testing.assert_allclose(labels, 0.1 * ce, rtol=1e-6)
    want = 0.9 * lib("kd_loss", main, t, temperature=4.0)
    np.testing.assert_allclose(teacher, want, rtol=1e-6)
    np.testing.assert_allclose(parts("kd_unscaled")[1], want / 16, rtol=1e-6)
    labels, teacher = parts("bkl_two")
    np.testing.assert_allclose(labels, ce, rtol=1e-6)
    want = lib("binary_kl", aux, t, temperature=2.0)
    np.testing.assert_allclose(teacher, want, rtol=1e-6)
    # A loss of the batch is the same number for each row.
    want = lib("dist_loss", main, t, beta=2.0, gamma=2.0, temperature=4.0)
    np.testing.assert_allclose(parts("dist_4")[1], np.full(6, want), rtol=1e-6)
    # USKD's weak head is the second one, without a teacher.
    labels, teacher = parts("uskd", variant="self_knowledge")
    want = ce + lib("uskd_loss", main, aux, y, alpha=0.1, beta=0.1, mu=0.1)
    np.testing.assert_allclose(labels, want, rtol=1e-6)
    assert not teacher.any()


def test_a_term_of_standardized_logits():
    main, _, rows = batch()
    shape = interpreted(transforms.standardize_logits)
    want = lib("gld_loss", shape(main), shape(rows["teacher"]), k=3)
    got = parts("gld_less", variant="vocabularies")[1]
    np.testing.assert_allclose(got, np.full(6, 10 * want), rtol=1e-5)


@pytest.mark.parametrize("variant", ["cnn", "vit"])
def test_students_with_a_weak_head(variant, data_folder):
    config = config_of(variant, data_folder)
    model = _students.network(config.student, 10)
    x = some_rows(3)["x"]
    variables = interpreted(model.init)(jax.random.key(0), x)
    main, weak = interpreted(model.apply)(variables, x)
    assert main.shape == weak.shape == (3, 10)
    # The weak head moves the stages that it sees, and no later one.
    slopes = interpreted(jax.grad(lambda v: model.apply(v, x)[1].sum()))(variables)
    moved = {
        name: float(np.abs(flat(part)).max())
        for name, part in slopes["params"]["network"].items()
    }
    late = {"cnn": "Conv_1", "vit": "units_in_1"}[variant]
    early = {"cnn": "Conv_0", "vit": "units_in_0"}[variant]
    assert moved[late] == moved["head"] == 0 < moved[early]


def test_the_weighted_cross_entropy_in_numpy():
    main, _, rows = (jax.tree.map(np.asarray, part) for part in batch())
    p, q = (
        np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (rows["teacher"], main)
    )
    label = (np.arange(6), rows["y"])
    want = -p[label] * np.log(q[label])
    np.testing.assert_allclose(parts("weighted")[1], want, rtol=1e-5)


def test_losses_with_another_gradient():
    params = {"w": jnp.array([1.0, 2.0])}
    grads = {"w": jnp.array([-3.0, 5.0])}

    def losses_of(params):
        return _students._with_gradient(params["w"] ** 2, params, grads)

    np.testing.assert_array_equal(losses_of(params), [1, 4])
    got = jax.grad(lambda p: losses_of(p).mean())(params)
    np.testing.assert_allclose(got["w"], grads["w"])


def some_rows(count=8):
    rng = np.random.default_rng(1)
    arrays = rng.normal(size=(count, 64)), 9 * rng.normal(size=(count, 10))
    x, teacher = (jnp.asarray(a, jnp.float32) for a in arrays)
    return {"x": x, "y": jnp.arange(count) % 10, "teacher": teacher}


def flat(tree):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])


def test_aligned_gradients_do_not_work_against_the_labels(data_folder):
    study, rows = few_examples.build(config_of("digits", data_folder)), some_rows()
    params = interpreted(study.arms["ce"].init)(jax.random.key(0))

    def grad(arm):
        loss = study.arms[arm].loss
        return flat(interpreted(jax.grad(lambda p: loss(p, rows, None).mean()))(params))

    labels, both = grad("ce"), grad("bkl_two")
    teacher = both - labels
    against = min(labels @ teacher, 0) / (labels @ labels)
    want = both - against * labels
    np.testing.assert_allclose(grad("bkl_aligned"), want, atol=1e-5)


def test_where_the_gradients_disagree(data_folder):
    study, rows = few_examples.build(config_of("digits", data_folder)), some_rows()
    arm = study.arms["conflict_0.005"]
    params = interpreted(arm.init)(jax.random.key(0))
    held = {"train": rows, "test": rows}
    numbers = interpreted(arm.evaluate)(params, held)
    # In the last layer: outer products of features and slopes of the logits.
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    x, t = np.asarray(rows["x"], np.float64), np.asarray(rows["teacher"], np.float64)
    hidden = p["hidden_0"]
    h = np.maximum(x @ hidden["kernel"] + hidden["bias"], 0)
    z = h @ p["heads"]["main"]["kernel"] + p["heads"]["main"]["bias"]
    softmax = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    slopes = softmax - np.eye(10)[rows["y"]], 2 * (sigmoid(z / 2) - sigmoid(t / 2))
    a, b = (np.append(np.ravel(h.T @ s), s.sum(0)) for s in slopes)
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert float(numbers["cosine/head"]) == pytest.approx(cosine, abs=1e-5)
    assert -1 <= numbers["cosine/trunk"] <= 1


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_students_share_rows_and_starts(data_folder):
    study = few_examples.build(config_of("digits", data_folder))
    arms = {name: arm for name, arm in study.arms.items() if "conflict" not in name}
    assert len({id(arm.data) for arm in study.arms.values()}) == 1
    key = jax.random.key(0)
    starts = {str(jax.eval_shape(arm.init, key)) for arm in arms.values()}
    assert len(starts) == 1
    assert set(study.captions) == set(study.figures)
    assert {n for c in study.claims for n in c.needs} <= set(study.arms)


def test_arms_of_a_sweep_share_a_program(data_folder):
    study = few_examples.build(config_of("scales", data_folder))
    kinds = {name: study.arms[name].at for name in study.arms if name != "toy"}
    assert kinds["kd_0.1"] is kinds["kd_10"] is not kinds["mse_10"]
    assert len(kinds) == 10
    assert study.arms["kd_10"].values == {"scale": 10.0}


def test_right_answers():
    truth = aspects.truths({"even": (0, 2), "last": (3,)}, 4)
    np.testing.assert_array_equal(truth, [[1, 0], [0, 0], [1, 0], [0, 1]])
    questions = get_config("aspects").questions.to_dict()
    assert len(questions) == 10
    answers = np.asarray(aspects.truths(questions, 10))
    assert len({tuple(row) for row in answers}) == 10  # they tell the digits apart
    spelled = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
    ]
    with_e = tuple(i for i, word in enumerate(spelled) if "e" in word)
    assert questions["has_a_letter_e_in_its_name"] == with_e


def result(accuracy, **columns):
    columns |= {"test/accuracy": accuracy}
    rows = [
        {"arm": "a", "seed": str(seed), "step": "0"}
        | {name: str(values[seed]) for name, values in columns.items()}
        for seed in range(len(accuracy))
    ]
    return ArmResult("a", range(len(accuracy)), rows)


@pytest.mark.parametrize(
    ("lead", "verdict"), [(3, "reproduced"), (1, "not reproduced")]
)
def test_claims_can_fail(lead, verdict):
    config, base = get_config("digits"), np.array([0.5, 0.6, 0.7])
    results = {"ce": result(base), "nkd": result(base + lead / 100)}
    claims = few_examples.claims(config, results)
    gained, won = report.judge(claims, results)[1:]
    assert gained.verdict == verdict
    assert gained.mean == pytest.approx(lead)
    assert (won.verdict, won.passed) == ("reproduced", 3)
    for judged in (gained, won):
        np.testing.assert_allclose(judged.ours, [lead] * 3)


def test_one_seed_in_many_does_not_make_a_gain():
    config, base = get_config("digits"), np.array([0.5, 0.6, 0.7])
    results = {"ce": result(base), "nkd": result(base + [0.1, 0.0, 0.0])}
    gained, won = report.judge(few_examples.claims(config, results), results)[1:]
    assert (gained.verdict, won.verdict) == ("undecided", "not reproduced")
    assert gained.reason == "3.33333 ± 3.3 is within one standard error of the bound"
    assert (won.passed, won.reason) == (1, "1 of 3 pass")  # a tie is no win


def test_table_is_ordered_by_accuracy():
    results = {"ce": result([0.5, 0.6]), "kd": result([0.6, 0.6])}
    first, last = _students.table("ce")(results)
    assert (first["accuracy"], last["accuracy"]) == ("60.00", "55.00")
    assert (first["gain"], first["standard error"]) == ("+5.00", "5.00")
    assert (first["seeds won"], last["seeds won"]) == ("1/2", "0/2")


@pytest.mark.parametrize(
    ("variant", "change", "message"),
    [
        ("digits", {"data__seen": 2000}, "config.data has seen=2000, known=1000"),
        ("digits", {"scales": (0.0,)}, "config.scales is"),
        ("digits", {"methods__kd__heads": 3}, "config.methods.kd.heads is 3"),
        ("digits", {"methods__kd__aligned": True}, "kd.aligned asks for two heads"),
        (
            "aspects",
            {"methods__soft__answers": "sof"},
            "has no 'sof'; did you mean soft",
        ),
        ("aspects", {"questions__is_even": (0, 10)}, "config.questions.is_even is"),
    ],
)
def test_what_cannot_be_run_is_not_built(variant, change, message, data_folder):
    config = config_of(variant, data_folder, **change)
    module = aspects if variant == "aspects" else few_examples
    with pytest.raises(ValueError, match=message):
        module.build(config)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"kdd": {"weight": 1.0}}, "terms has no 'kdd'; did you mean"),
        ({"kd_loss": {"weight": 1.0, "temp": 2.0}}, "kd_loss has no 'temp'"),
        ({"makd_loss": {"weight": 1.0}}, "has 'makd_loss', which takes aspects"),
    ],
)
def test_what_is_no_term_is_refused(terms, message):
    config = get_config("digits")
    with config.unlocked():
        config.methods.kd.terms = terms
    with pytest.raises(ValueError, match=message):
        few_examples._terms("kd", config.methods.kd)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:digits", smoke=True)
    assert {v.label for v in done.verdicts.values()} == {"not judged: smoke"}
    assert done.figures == ["gains"]
