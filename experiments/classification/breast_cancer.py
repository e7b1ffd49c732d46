"""Is logistic regression as good as a decision tree or an SVM on breast cancer?

Stratified folds, another division for each seed. Our logistic regression minimises our
cross-entropy with L2, all folds in one program; the other models are scikit-learn's, as
is a logistic regression to check ours by.

Source: The Power Of Simplicity, Arshad et al. 2023, arXiv:2306.02449.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import BOUND
from experiments.common.threads import one_blas_thread
from logitlab import estimators, report
from logitlab.train import ArmResult, Compute, Study

OURS, THEIRS = "logistic", "sklearn_logistic"
LABELS = {
    OURS: "logistic regression",
    THEIRS: "logistic regression (scikit-learn)",
    "tree": "decision tree",
    "svm": "SVM, standardised features",
    "svm_unscaled": "SVM, features as they are",
}
TICKS = ("logistic", "logistic\n(scikit-learn)", "tree", "SVM", "SVM,\nunscaled")


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: solvers are compared")
    if config.folds < 2:
        raise ValueError(f"config.folds is {config.folds}, expected at least 2")
    if config.inverse_penalty <= 0:
        raise ValueError(
            f"config.inverse_penalty is {config.inverse_penalty}, expected above 0"
        )
    if config.steps < 1:
        raise ValueError(f"config.steps is {config.steps}, expected at least 1")
    return Study(
        arms={
            name: Compute(lambda key, name=name: _values(name, key, config))
            for name in LABELS
        },
        figures={"accuracy": _accuracy},
        claims=_claims(config.tolerances),
        labels=LABELS,
        title="Logistic regression, trees and SVMs on breast cancer",
        summary=(
            f"{config.folds} stratified folds, divided anew for each seed; 569 tumours "
            "of 30 features, standardised by what is trained on, except where the "
            "features are left as they are. Tree and SVMs have scikit-learn's settings."
        ),
        captions={
            "accuracy": (
                "Accuracy on the held-out fold. Folds share training data, so that the "
                "intervals are too narrow."
            )
        },
    )


def fold_probabilities(x, labels, train, *, inverse_penalty, steps) -> jax.Array:
    """Probability of class 1 for every row, one row of them for each row of ``train``.

    Shapes: x [N, D], labels [N], train [F, N] -> [F, N]
    """

    def one(train):
        count = train.sum()
        mean = x.mean(0, where=train[:, None])
        scale = x.std(0, where=train[:, None])
        z = (x - mean[None]) / jnp.where(scale > 0, scale, 1)[None]
        l2 = 1 / (inverse_penalty * count)
        fit = estimators.fit_logistic(
            z, labels, num_classes=2, l2=l2, mask=train, max_steps=steps
        )
        return jax.nn.softmax(estimators.linear_logits(fit, z))[:, 1]

    return jax.lax.map(one, train)


_fold_probabilities = jax.jit(fold_probabilities, static_argnames="steps")


def _values(name, key, config):
    from sklearn import datasets, model_selection

    x, y = datasets.load_breast_cancer(return_X_y=True)
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    folds = model_selection.StratifiedKFold(
        config.folds, shuffle=True, random_state=seed
    )
    test = np.zeros((config.folds, len(y)), bool)
    for row, (_, held_out) in zip(test, folds.split(x, y), strict=True):
        row[held_out] = True
    if name == OURS:
        probs = _fold_probabilities(
            jnp.asarray(x),
            jnp.asarray(y),
            jnp.asarray(~test),
            inverse_penalty=config.inverse_penalty,
            steps=config.steps,
        )
        guesses = np.asarray(probs) > 0.5
        extra = {"probability": _held_out(np.asarray(probs), test)}
    else:
        model = _sklearn_model(name, seed, config.inverse_penalty)
        guesses, extra = np.zeros(test.shape, bool), {}
        probs = np.zeros(test.shape)
        for row, held_out in enumerate(test):
            with one_blas_thread():
                model.fit(x[~held_out], y[~held_out])
            guesses[row, held_out] = model.predict(x[held_out])
            if name == THEIRS:
                probs[row, held_out] = model.predict_proba(x[held_out])[:, 1]
        if name == THEIRS:
            extra = {"probability": _held_out(probs, test)}
    right = ((guesses == y) & test).sum(1) / test.sum(1)
    return {"accuracy": right.mean(), "fold_accuracy": right, **extra}


def _held_out(values, test):
    """For each example the value from the fold in which it was held out."""
    return np.where(test, values, 0).sum(0)


def _sklearn_model(name, seed, inverse_penalty):
    from sklearn import linear_model, pipeline, preprocessing, svm, tree

    def scaled(model):
        return pipeline.make_pipeline(preprocessing.StandardScaler(), model)

    if name == THEIRS:
        return scaled(
            linear_model.LogisticRegression(
                C=inverse_penalty, tol=1e-9, max_iter=10_000
            )
        )
    if name == "tree":
        return tree.DecisionTreeClassifier(random_state=seed)
    return scaled(svm.SVC()) if name == "svm" else svm.SVC()


def _accuracy(results):
    folds = {name: _folds(arm) for name, arm in results.items()}
    draw = report.intervals(
        {"accuracy": tuple(LABELS)},
        TICKS,
        "accuracy",
        label="accuracy on the held-out fold",
        dots="folds",
    )
    return draw(folds)


def _folds(arm):
    """The result with folds in the place of seeds."""
    values = np.asarray(arm.arrays["fold_accuracy"]).ravel()
    rows = [
        {"arm": "", "seed": str(i), "step": "0", "accuracy": str(value)}
        for i, value in enumerate(values)
    ]
    return ArmResult(arm.label, range(len(values)), rows)


def _claims(bounds):
    low, high = bounds.logistic

    def mean(arm):
        return lambda r: r[arm].final("accuracy")

    def ahead(other):
        def ours(results):
            gap = report.ahead("accuracy", OURS, other)(results)
            return np.round(gap, 12) + 0.0  # means of the same folds: no -1e-16

        return ours

    def disagreement(results):
        ours, theirs = (results[arm].arrays["probability"] for arm in (OURS, THEIRS))
        return np.abs(np.asarray(ours) - np.asarray(theirs)).max(1)

    return [
        report.Claim(
            text="logistic regression is right for nearly all tumours",
            paper="97.28 % (abstract)",
            ours=mean(OURS),
            at_least=low,
            at_most=high,
            format=".2%",
            needs=(OURS,),
        ),
        report.Claim(
            text="it is ahead of a decision tree",
            paper="3.55 points (abstract)",
            ours=ahead("tree"),
            at_least=bounds.over_tree,
            format=".2%",
            needs=(OURS, "tree"),
        ),
        report.Claim(
            text="it is ahead of an SVM that sees features as they are",
            paper="0.84 points ahead of an SVM (abstract)",
            ours=ahead("svm_unscaled"),
            at_least=bounds.over_unscaled,
            format=".2%",
            needs=(OURS, "svm_unscaled"),
        ),
        report.Claim(
            text="with standardised features the SVM is its equal",
            ours=ahead("svm"),
            equals=0.0,
            within=bounds.tie,
            format=".2%",
            needs=(OURS, "svm"),
            question=True,
        ),
        report.Claim(
            text="our logistic regression gives scikit-learn's probabilities",
            reference=BOUND,
            ours=disagreement,
            at_most=bounds.agrees,
            unit="largest difference",
            needs=(OURS, THEIRS),
        ),
    ]
