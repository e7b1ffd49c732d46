"""What does it cost to make generated training data more diverse?

Models of docstrings, code and comments each write short texts, which are to train a
classifier of the three. Tokens that were used often are suppressed, the temperature is
raised, or both: texts become more diverse, and fewer of them are what they were asked
to be. An oracle that has seen real texts then replaces their labels.

Source: Increasing Diversity While Maintaining Accuracy, Chung et al. 2023,
arXiv:2306.04140.
"""

import functools
import platform

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import once_per_key
from experiments.common.references import BOUND, stated
from experiments.decoding import _text
from logitlab import metrics, report, transforms
from logitlab.train import Compute, Study

PLAIN, SUPPRESSED, HOT, TOGETHER = "plain", "suppressed", "hot", "together"
LABELS = {
    PLAIN: "as they are",
    SUPPRESSED: "suppression",
    HOT: "temperature",
    TOGETHER: "both",
}
MEASURES = {
    "distinct": "distinct 3-grams",
    "vendi": "Vendi score",
    "bleu": "self-BLEU",
    "right": "labels that are right",
    "trained": "accuracy of a classifier trained on them",
    "relabeled": "the same after the oracle's labels",
}


def build(config) -> Study:
    """The study; nothing here draws, writes or prints."""
    _check(config)
    oracle = once_per_key(functools.partial(_oracle, config))
    arms = {
        name: Compute(lambda key, n=name: _measure(config, n, key, oracle(key)))
        for name in LABELS
    }
    return Study(
        arms=arms,
        figures={
            "accuracy": report.ranking(
                {name: MEASURES[name] for name in ("right", "trained", "relabeled")}
            ),
            "diversity": report.ranking({"distinct": MEASURES["distinct"]}),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Diverse training data, and the labels that it costs",
        summary=(
            f"Docstrings, code and comments of {config.text.modules} modules of the "
            f"standard library of Python {platform.python_version()}. Models count up "
            f"to {config.order} characters; {config.texts} texts of {config.length} "
            f"characters for each class in {config.rounds} rounds, after each of which "
            f"all characters so far are counted. Suppression by up to "
            f"{config.strength:g} for {config.top_k} characters, temperature "
            f"{config.temperature:g}. Classifiers are linear in counts of pairs of "
            "characters and tested on real texts."
        ),
        captions={
            "accuracy": "Share of right labels, and accuracy on real texts.",
            "diversity": "Distinct 3-grams over all 3-grams of the generated texts.",
        },
        table=lambda results: [
            {"texts": LABELS[name]}
            | {label: float(arm.final(m).mean()) for m, label in MEASURES.items()}
            for name, arm in results.items()
        ],
    )


def _check(config):
    if config.texts % config.rounds or config.rounds < 2:
        raise ValueError(
            f"config.rounds is {config.rounds}, expected at least 2, a divisor of "
            f"config.texts, {config.texts}"
        )
    if not config.temperature > 1:
        raise ValueError(
            f"config.temperature is {config.temperature}, expected above 1"
        )


@functools.cache
def _models(modules, held_out, vocabulary, order):
    text = _text.load(modules, held_out, vocabulary)
    fits = [
        transforms.fit_ngram_prior(text.train[kind], vocabulary, order=order)
        for kind in _text.KINDS
    ]
    return text, fits


def pairs(texts: np.ndarray, vocabulary: int) -> np.ndarray:
    """Logarithms of the counts of pairs of neighbors in each text [N, V * V]."""
    codes = texts[:, :-1] * vocabulary + texts[:, 1:]
    rows = np.zeros((len(texts), vocabulary**2), np.float32)
    np.add.at(rows, (np.arange(len(texts))[:, None], codes), 1)
    return np.log1p(rows)


def _real(rng, parts, many, length):
    """Real texts of each kind from random places, and their labels."""
    texts = [
        np.stack(
            [part[s : s + length] for s in rng.integers(0, len(part) - length, many)]
        )
        for part in (parts[kind] for kind in _text.KINDS)
    ]
    return np.concatenate(texts), np.repeat(np.arange(len(texts)), many)


def _fit(config, texts, labels):
    """A classifier: texts -> labels."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=config.inverse_penalty, max_iter=config.iterations)
    model.fit(pairs(texts, config.text.vocabulary), labels)
    return lambda texts: model.predict(pairs(texts, config.text.vocabulary))


def _oracle(config, key):
    """A classifier of real texts, and real texts of other modules with their labels."""
    text, _ = _models(**config.text, order=config.order)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    seen = _real(rng, text.train, config.real, config.length)
    return _fit(config, *seen), _real(rng, text.held_out, config.real, config.length)


def _measure(config, name, key, oracle):
    label_of, (real, real_labels) = oracle
    text, fits = _models(**config.text, order=config.order)
    texts, labels = _generate(config, name, jax.random.fold_in(key, 1), text, fits)
    said = label_of(texts)
    mended = np.asarray(transforms.label_replace(labels, said))
    x = pairs(texts, config.text.vocabulary)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    classes = len(_text.KINDS)
    some = np.arange(0, len(texts), max(1, len(texts) // config.compared))
    return {
        "distinct": metrics.distinct_n(texts, 3),
        "vendi": float(metrics.vendi_score(x @ x.T)),
        "bleu": metrics.self_bleu(texts[some]),
        "right": np.mean(said == labels),
        "trained": np.mean(_fit(config, texts, labels)(real) == real_labels),
        "relabeled": np.mean(_fit(config, texts, mended)(real) == real_labels)
        if len(set(mended.tolist())) == classes
        else np.nan,
        "oracle": np.mean(label_of(real) == real_labels),
    }


def _generate(config, name, key, text, fits):
    """Texts of every kind, in rounds between which all characters are counted."""
    vocabulary, many = config.text.vocabulary, config.texts // config.rounds
    texts, labels = [], []
    for label, (kind, fit) in enumerate(zip(_text.KINDS, fits, strict=True)):
        counts = jnp.zeros(vocabulary)
        rng = np.random.default_rng(label)
        real = text.train[kind]
        for i in range(config.rounds):
            own = jax.random.fold_in(key, label * config.rounds + i)
            starts = rng.integers(0, len(real) - config.order, many)
            prompts = np.stack([real[s : s + config.order - 1] for s in starts])
            strength = config.strength if name in (SUPPRESSED, TOGETHER) else 0.0
            temperature = config.temperature if name in (HOT, TOGETHER) else 1.0
            new = _write(
                own,
                fit,
                prompts,
                counts,
                strength,
                temperature,
                config.top_k,
                config.length,
            )
            counts = transforms.update_counts(counts, new.reshape(-1))
            texts.append(np.asarray(new))
            labels += [label] * many
    return np.concatenate(texts), np.array(labels)


@functools.partial(jax.jit, static_argnums=(6, 7))
def _write(key, fit, prompts, counts, strength, temperature, top_k, length):
    """Texts [B, length], in which what was counted before is suppressed."""
    bias = transforms.suppression_bias(counts, strength=strength, top_k=top_k)
    processor = transforms.chain(
        transforms.add_bias(bias), transforms.divide_by_temperature(temperature)
    )
    texts, _ = _text.sample(key, _text.language_model(fit), processor, prompts, length)
    return texts


def _claims(config):
    bounds = config.tolerances

    def change(name, metric):
        return lambda r: r[name].final(metric) - r[PLAIN].final(metric)

    def ratio(name, metric):
        return lambda r: r[name].final(metric) / r[PLAIN].final(metric)

    said = stated("both make data more diverse, and lower the accuracy of labels")
    claims = []
    for name in (SUPPRESSED, HOT):
        needs = (name, PLAIN)
        claims += [
            report.Claim(
                text=f"{LABELS[name]} makes the texts more diverse",
                reference=said,
                ours=ratio(name, "distinct"),
                at_least=bounds.diverse,
                unit="times the distinct 3-grams",
                needs=needs,
            ),
            report.Claim(
                text=f"fewer texts are what they were asked to be: {LABELS[name]}",
                reference=said,
                ours=change(name, "right"),
                at_most=bounds.wrong,
                unit="of the labels",
                needs=needs,
            ),
            report.Claim(
                text=(
                    "with the oracle's labels the classifier is as good as on "
                    f"undiversified texts: {LABELS[name]}"
                ),
                reference=stated("relabeling lifts accuracy by 14.4 points"),
                ours=lambda r, n=name: (
                    r[n].final("relabeled") - r[PLAIN].final("trained")
                ),
                at_least=bounds.recovers,
                over="mean",
                unit="of the real texts",
                needs=needs,
            ),
        ]
    return [
        *claims,
        report.Claim(
            text="the oracle's labels are better than those that were asked for: both",
            reference=BOUND,
            ours=lambda r: (
                r[TOGETHER].final("relabeled") - r[TOGETHER].final("trained")
            ),
            above=0.0,
            over="mean",
            unit="of the real texts",
            needs=(TOGETHER,),
        ),
    ]
