"""How many examples does naive Bayes need, and how many logistic regression?

On a mixture of two Gaussians, whose error is known in closed form, with ever more
features; and on digits with ever more examples of each class.

Source: Revisiting Discriminative vs. Generative Classifiers, arXiv:2302.02334.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import datasets
from experiments.common.claims import least_ahead
from experiments.common.references import stated
from logitlab import estimators, metrics, report
from logitlab.train import Compute, Study

BAYES, LOGISTIC = "naive_bayes", "logistic"


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    _check(config)
    mixture, shots = config.mixture, tuple(config.digits.shots)
    target = f"{mixture.target:g}"
    return Study(
        arms={
            name: Compute(lambda key, name=name: _values(name, key, config))
            for name in (BAYES, LOGISTIC)
        },
        figures={
            "samples": report.trends(
                {n: f"samples/{n}" for n in mixture.features},
                label=f"examples for an error below {target}",
                across="features",
                log=True,
                log_across=True,
            ),
            "digits": report.trends(
                {n: f"accuracy/{n}" for n in shots},
                label="test accuracy",
                across="digits of each class to learn from",
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels={BAYES: "naive Bayes", LOGISTIC: "logistic regression"},
        title="Naive Bayes and logistic regression with few examples",
        summary=(
            "Gaussian naive Bayes with a variance that the classes share, and logistic "
            f"regression with L2 (C = {config.inverse_penalty:g}), both linear. "
            f"Mixture: the first size at which the mean error of {mixture.repeats} "
            f"training sets is below {target}; sizes grow by {mixture.growth - 1:.0%}, "
            "classes are balanced, and a method that fails with "
            f"{mixture.most} has no number. "
            f"Digits: mean of {config.digits.repeats} training sets."
        ),
        captions={
            "samples": "Mixture of two Gaussians: examples needed against features.",
            "digits": "Digits, pixels divided by 16: two regimes.",
        },
    )


def _check(config):
    mixture, digits = config.mixture, config.digits
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: var_eps is below float32")
    if not mixture.features or any(n < 2 or n % 2 for n in mixture.features):
        raise ValueError(
            f"config.mixture.features is {tuple(mixture.features)}, expected even "
            "numbers: half of the features are noisy"
        )
    if not 0 < mixture.target < 0.5:
        raise ValueError(
            f"config.mixture.target is {mixture.target}, expected between 0 and 0.5"
        )
    if mixture.growth <= 1 or mixture.most < 2:
        raise ValueError(
            f"config.mixture.growth is {mixture.growth}, config.mixture.most "
            f"{mixture.most}; expected above 1 and at least 2"
        )
    if not digits.shots or min(digits.shots) < 1:
        raise ValueError(
            f"config.digits.shots is {tuple(digits.shots)}, expected 1 and more"
        )
    if not 0 < digits.test < 1797:
        raise ValueError(f"config.digits.test is {digits.test}, expected 1 to 1796")
    if config.inverse_penalty <= 0:
        raise ValueError(
            f"config.inverse_penalty is {config.inverse_penalty}, expected above 0"
        )


def _values(method, key, config):
    mixture_key, digit_key = jax.random.split(key)
    settings = dict(
        inverse_penalty=config.inverse_penalty,
        steps=config.steps,
        var_eps=config.var_eps,
    )
    mixture = {k: v for k, v in config.mixture.items() if k != "features"}
    shots = config.digits.shots
    accuracies = _digit_accuracies(method, digit_key, config.digits, settings)
    values = {f"accuracy/{n}": a for n, a in zip(shots, accuracies, strict=True)}
    for n in config.mixture.features:
        fresh = jax.random.fold_in(mixture_key, n)
        values[f"samples/{n}"] = samples_needed(method, fresh, n, **mixture, **settings)
    return values


def fit(
    method: str,
    x: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    *,
    classes: int,
    inverse_penalty: float,
    steps: int,
    var_eps: float,
) -> estimators.LinearClassifier:
    """A linear classifier of the rows in ``mask``."""
    if method == BAYES:
        state = estimators.gaussian_nb_init(classes, x.shape[1], dtype=x.dtype)
        state = estimators.gaussian_nb_update(state, x, labels, mask=mask)
        w, b = estimators.gaussian_nb_linear(state, var_eps=var_eps)
        return estimators.LinearClassifier(w.T, b, jnp.zeros(()), jnp.zeros((), int))
    l2 = 1 / (inverse_penalty * mask.sum())
    return estimators.fit_logistic(
        x, labels, num_classes=classes, l2=l2, mask=mask, max_steps=steps, tol=1e-6
    )


def mixture_error(fit: estimators.LinearClassifier, scale: jax.Array) -> jax.Array:
    r"""Error of a linear classifier on N(-1, scale^2) against N(1, scale^2).

    .. math:: \frac{1}{2} \sum_{s = \pm 1} \Phi\big(-(\sum_f w_f + s b) /
        \sqrt{\sum_f w_f^2 \sigma_f^2}\big)
    """
    w, b = fit.kernel[:, 1] - fit.kernel[:, 0], fit.bias[1] - fit.bias[0]
    spread = jnp.sqrt(jnp.sum(jnp.square(w * scale)))
    spread = jnp.where(spread > 0, spread, 1)
    margins = jnp.stack([w.sum() + b, w.sum() - b])
    return jax.scipy.stats.norm.cdf(-margins / spread).mean()


@functools.partial(
    jax.jit,
    static_argnums=(0, 2),
    static_argnames=("repeats", "most", "growth", "steps"),
)
def samples_needed(
    method: str,
    key: jax.Array,
    features: int,
    *,
    target: float,
    repeats: int,
    most: int,
    growth: float,
    **settings,
) -> jax.Array:
    """The first training size whose mean error is below the target, or NaN."""
    sizes = training_sizes(most, growth)
    rows, grid = int(sizes[-1]), jnp.asarray(sizes)
    labels = jnp.arange(rows) % 2  # the first m rows are balanced, for all even m
    scale = jnp.where(jnp.arange(features) < features // 2, features**0.5, 1.0)
    noise = jax.random.normal(key, (repeats, rows, features))
    x = (2.0 * labels - 1)[None, :, None] + noise * scale[None, None]

    def error(size):
        mask = jnp.arange(rows) < size

        def one(x):
            params = fit(method, x, labels, mask, classes=2, **settings)
            return mixture_error(params, scale)

        return jax.lax.map(one, x).mean()

    def above(state):
        place, last = state
        return (last >= target) & (place < len(grid))

    def following(state):
        place, _ = state
        return place + 1, error(grid[place])

    place, last = jax.lax.while_loop(above, following, (0, jnp.inf))
    return jnp.where(last < target, grid[place - 1], jnp.nan)


def training_sizes(most: int, growth: float) -> np.ndarray:
    """Even numbers up to ``most``, each about ``growth`` times the one before.

    >>> training_sizes(12, 1.5)
    array([ 2,  4,  6,  8, 12])
    """
    sizes, size = [], 2
    while size <= most:
        sizes.append(size)
        size = max(size + 2, 2 * round(size * growth / 2))
    return np.array(sizes)


def _digit_accuracies(method, key, config, settings):
    x, y = datasets.digits(centered=False)
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    rng = np.random.default_rng(seed)
    most, draws = max(config.shots), []
    for _ in range(config.repeats):
        order = rng.permutation(len(y))
        test, pool = np.split(order, [config.test])
        rows = [pool[y[pool] == digit][:most] for digit in range(10)]
        if min(map(len, rows)) < most:
            raise ValueError(
                f"config.digits.shots has {most}, but config.digits.test leaves "
                f"{min(map(len, rows))} examples of a digit"
            )
        draws.append((np.stack(rows, 1).ravel(), test))  # each digit in turn
    train, test = map(np.stack, zip(*draws, strict=True))
    return _accuracies(
        method,
        *(jnp.asarray(a) for a in (x[train], y[train], x[test], y[test])),
        jnp.asarray(config.shots),
        **settings,
    )


@functools.partial(jax.jit, static_argnums=0, static_argnames="steps")
def _accuracies(method, x, y, test_x, test_y, shots, **settings):
    """Mean over the draws, one for each number of examples."""

    def one(case):
        shot, x, y, test_x, test_y = case
        mask = jnp.arange(len(y)) < 10 * shot
        params = fit(method, x, y, mask, classes=10, **settings)
        right = metrics.accuracy(estimators.linear_logits(params, test_x), test_y)
        return right.sum / right.count

    def draws(shot):
        return jax.lax.map(lambda part: one((shot, *part)), (x, y, test_x, test_y))

    return jax.lax.map(draws, shots).mean(1)


def _claims(config):
    bounds, both = config.tolerances, (BAYES, LOGISTIC)
    features, shots = sorted(config.mixture.features), config.digits.shots
    few = [n for n in shots if n <= bounds.few]
    many = [n for n in shots if n >= bounds.many]

    def samples(results, method):
        return np.stack([results[method].final(f"samples/{n}") for n in features])

    def growth(method):
        return lambda r: samples(r, method)[-1] / samples(r, method)[0]

    def leads(first, second, shots):
        return least_ahead([f"accuracy/{n}" for n in shots], first, second)

    claims = []
    if len(features) > 1:
        span = f"from {features[0]} to {features[-1]} features"
        claims = [
            report.Claim(
                text=f"naive Bayes needs hardly more examples {span}",
                reference="theorem: O(log n)",
                ours=growth(BAYES),
                at_most=bounds.flat,
                unit="times as many",
                needs=(BAYES,),
            ),
            report.Claim(
                text=f"logistic regression needs several times as many {span}",
                reference="theorem: O(n)",
                ours=growth(LOGISTIC),
                at_least=bounds.ratio,
                unit="times as many",
                needs=(LOGISTIC,),
            ),
            report.Claim(
                text="its examples grow in proportion",
                reference="theorem: O(n)",
                ours=lambda r: _slope(features, samples(r, LOGISTIC)),
                at_least=bounds.slope,
                unit="examples per feature",
                needs=(LOGISTIC,),
            ),
        ]
    if few:
        claims.append(
            report.Claim(
                text=f"with at most {bounds.few} digits of a class naive Bayes leads",
                reference=stated("two regimes"),
                ours=leads(BAYES, LOGISTIC, few),
                at_least=bounds.few_ahead,
                format=".2%",
                needs=both,
            )
        )
    if many:
        claims.append(
            report.Claim(
                text=f"with at least {bounds.many} logistic regression leads",
                reference=stated("two regimes"),
                ours=leads(LOGISTIC, BAYES, many),
                at_least=bounds.many_ahead,
                format=".2%",
                needs=both,
            )
        )
    return claims


def _slope(features, samples):
    """Of the least-squares line through each seed's counts; NaN if one is missing."""
    x = np.asarray(features, float)
    x = x - x.mean()
    return (x[:, None] * (samples - samples.mean(0))).sum(0) / np.square(x).sum()
