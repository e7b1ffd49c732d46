"""How many labels does a latent model of unlabeled data save?

A factor model, whose posterior mean is what least squares sees of the data, against
ridge regression on the data themselves; and a mixture of Gaussians, with one count of
labels for each component, against logistic regression. Excess risks of the regressions
are exact, for the covariance of the data is known.

Source: On the Provable Advantage of Unsupervised Pretraining, Ge et al. 2023,
arXiv:2303.01566.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import once_per_key
from experiments.common.references import prototype
from logitlab import estimators, report
from logitlab.train import Compute, Study

PRETRAINED, DIRECT = "pretrained", "direct"
LABELS = {PRETRAINED: "a latent model first", DIRECT: "labels alone"}
PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)  # of the best of which ridge regression is


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    _check(config)
    factor, mixture = config.factor, config.mixture
    measured = once_per_key(functools.partial(measure, config=config))
    most = factor.unlabeled[-1]
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in LABELS
        },
        figures={
            "factor": report.trends(
                {n: f"excess/{most}/{n}" for n in factor.labeled},
                label=f"excess risk, {most} without labels",
                across="examples with labels",
                log=True,
                log_across=True,
            ),
            "few": report.trends(
                {n: f"excess/{factor.unlabeled[0]}/{n}" for n in factor.labeled},
                label=f"excess risk, {factor.unlabeled[0]} without labels",
                across="examples with labels",
                log=True,
                log_across=True,
            ),
            "mixture": report.trends(
                {n: f"error/{n}" for n in mixture.labeled},
                label=f"test error, {mixture.unlabeled} without labels",
                across="examples with labels",
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Latent models of unlabeled data, and the labels that they save",
        summary=(
            f"Factors: {factor.dimension} features, {factor.rank} factors, noise of "
            f"{factor.noise:g}; ridge regression has the best of {len(PENALTIES)} "
            f"penalties, by its true risk. Mixture: {mixture.components} clouds in "
            f"{mixture.dimension} dimensions at distance {mixture.distance:g} from 0, "
            "classes by turns."
        ),
        captions={
            "factor": "Many examples without labels: the model of them is exact.",
            "few": "Few examples without labels: what their model misses stays.",
            "mixture": "Counts of labels in the components of the mixture.",
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: excess risks are small")
    factor, mixture = config.factor, config.mixture
    for name, values in (
        ("factor.unlabeled", factor.unlabeled),
        ("factor.labeled", factor.labeled),
        ("mixture.labeled", mixture.labeled),
    ):
        if sorted(set(values)) != list(values) or len(values) < 2 or values[0] < 1:
            raise ValueError(
                f"config.{name} is {tuple(values)}, expected two numbers, growing"
            )
    if not 1 <= factor.rank < factor.dimension:
        raise ValueError(
            f"config.factor.rank is {factor.rank}, expected 1 to "
            f"{factor.dimension - 1}, below config.factor.dimension"
        )


def measure(key: jax.Array, config) -> dict[str, dict]:
    """What comes out with and without the latent model."""
    factor_key, mixture_key = jax.random.split(key)
    found: dict[str, dict] = {name: {} for name in LABELS}
    factor, mixture = config.factor, config.mixture
    sizes = factor.dimension, factor.rank, factor.unlabeled[-1], factor.labeled[-1]
    for m in factor.unlabeled:
        for n in factor.labeled:
            risks = excess_risks(sizes, factor_key, m, n, factor.noise)
            for name, value in zip(LABELS, risks, strict=True):
                found[name][f"excess/{m}/{n}"] = value
    sizes = (
        mixture.components,
        mixture.dimension,
        mixture.unlabeled,
        mixture.labeled[-1],
        mixture.test,
    )
    errors = mixture_errors(
        sizes, mixture_key, mixture.distance, jnp.asarray(mixture.labeled)
    )
    for name, values in zip(LABELS, errors, strict=True):
        found[name] |= {
            f"error/{n}": v for n, v in zip(mixture.labeled, values, strict=True)
        }
    return found


@functools.partial(jax.jit, static_argnums=0)
def excess_risks(sizes, key, unlabeled, labeled, noise) -> tuple:
    """Excess risks over the best predictor: of the latent model, and of ridge."""
    dimension, rank, most, many = sizes
    keys = jax.random.split(key, 5)
    a = 2 * jax.random.normal(keys[0], (dimension, rank)) / np.sqrt(dimension)
    b = jax.random.normal(keys[1], (rank,))
    b = b / jnp.linalg.norm(b)

    def draw(key, rows):
        z_key, x_key, y_key = jax.random.split(key, 3)
        z = jax.random.normal(z_key, (rows, rank))
        x = z @ a.T + noise * jax.random.normal(x_key, (rows, dimension))
        return x, z @ b + 0.3 * jax.random.normal(y_key, (rows,))

    covariance = a @ a.T + noise**2 * jnp.eye(dimension)
    best = jnp.linalg.solve(covariance, a @ b)

    def excess(w, offset):
        gap = w - best
        return gap @ covariance @ gap + offset**2

    x, _ = draw(keys[2], most)
    model = estimators.ppca_fit(x, rank=rank, mask=jnp.arange(most) < unlabeled)
    x, y = draw(keys[3], many)
    keep = jnp.arange(many) < labeled
    w, offset = least_squares(estimators.ppca_encode(model, x), y, keep, 1e-9)
    # The posterior mean is linear in the features, and so is what is made of it.
    spread = jnp.square(model.loadings).sum(0) + model.variance
    linear = model.loadings @ (w / spread)
    pretrained = excess(linear, offset - linear @ model.mean)

    def ridge(penalty):
        return excess(*least_squares(x, y, keep, penalty * dimension))

    return pretrained, jax.lax.map(ridge, jnp.asarray(PENALTIES)).min()


def least_squares(x, y, keep, penalty) -> tuple[jax.Array, jax.Array]:
    """Weights and offset of a ridge regression, the offset without a penalty."""
    x, y = jnp.where(keep[:, None], x, 0), jnp.where(keep, y, 0)
    middle, level = x.sum(0) / keep.sum(), y.sum() / keep.sum()
    gaps = jnp.where(keep[:, None], x - middle[None], 0)
    gram = gaps.T @ gaps + penalty * jnp.eye(x.shape[1])
    w = jnp.linalg.solve(gram, gaps.T @ y)
    return w, level - middle @ w


@functools.partial(jax.jit, static_argnums=0)
def mixture_errors(sizes, key, distance, labeled) -> tuple:
    """Test errors for each number of labels: counts in components, and logistic."""
    components, dimension, unlabeled, many, test = sizes
    keys = jax.random.split(key, 5)
    means = jax.random.normal(keys[0], (components, dimension))
    means = distance * means / jnp.linalg.norm(means, axis=1, keepdims=True)

    def draw(key, rows):
        k_key, x_key = jax.random.split(key)
        k = jax.random.randint(k_key, (rows,), 0, components)
        return means[k] + jax.random.normal(x_key, (rows, dimension)), k % 2

    x, _ = draw(keys[1], unlabeled)
    model = estimators.gmm_fit(
        x, components=components, key=keys[2], covariance="spherical"
    )
    x, y = draw(keys[3], many)
    new, truth = draw(keys[4], test)
    shares = jax.nn.softmax(estimators.gmm_logits(model, x))
    new_shares = jax.nn.softmax(estimators.gmm_logits(model, new))

    def one(n):
        keep = jnp.arange(many) < n
        # One count of labels for each component, and half an example of each class.
        counts = jnp.where(keep[:, None], shares, 0).T @ jax.nn.one_hot(y, 2) + 0.5
        table = counts / counts.sum(1, keepdims=True)
        direct = estimators.fit_logistic(
            x, y, num_classes=2, l2=1 / keep.sum(), mask=keep, tol=1e-6
        )
        guesses = new_shares @ table, estimators.linear_logits(direct, new)
        return tuple(jnp.mean(g.argmax(-1) != truth) for g in guesses)

    return jax.lax.map(one, labeled)


def _claims(config):
    bounds, factor, mixture = config.tolerances, config.factor, config.mixture
    both = tuple(LABELS)
    claims = []
    for m in factor.unlabeled:
        few = [n for n in factor.labeled if n <= bounds.few]
        if m < bounds.many or not few:
            continue
        claims.append(
            report.Claim(
                text=f"{m} without labels: the latent model is ahead with at most "
                f"{bounds.few} labels",
                reference=prototype(".053 against .133 and more, 10000 without labels"),
                ours=lambda r, m=m, few=few: np.min(
                    [
                        r[DIRECT].final(f"excess/{m}/{n}")
                        - r[PRETRAINED].final(f"excess/{m}/{n}")
                        for n in few
                    ],
                    0,
                ),
                above=0.0,
                over="mean",
                unit="less excess risk where it is least",
                needs=both,
            )
        )
    most, least = factor.unlabeled[-1], factor.unlabeled[0]
    steep = [n for n in factor.labeled if n >= bounds.steep]
    last = factor.labeled[-1]

    def slope(results):
        rows = [results[PRETRAINED].final(f"excess/{most}/{n}").mean() for n in steep]
        return np.polyfit(np.log(steep), np.log(rows), 1)[0]

    if len(steep) > 1:
        claims.append(
            report.Claim(
                text=f"its excess risk falls like one over the labels, from {steep[0]}",
                reference="theorem: O(1 / n) beside what the latent model misses",
                ours=slope,
                equals=-1.0,
                within=bounds.slope,
                over="all",
                unit="is the slope of the mean in logarithms",
                needs=(PRETRAINED,),
            )
        )
    return [
        *claims,
        report.Claim(
            text=f"{least} without labels and {last} with: it is no longer ahead",
            reference=prototype(".0089 against .0076"),
            ours=lambda r: (
                r[PRETRAINED].final(f"excess/{least}/{last}")
                / r[DIRECT].final(f"excess/{least}/{last}")
            ),
            at_least=bounds.meets,
            over="mean",
            unit="times the excess risk of ridge regression",
            needs=both,
        ),
        *(
            report.Claim(
                text=f"mixture, {n} labels: counts in components err less",
                reference=prototype(numbers),
                ours=report.ahead(f"error/{n}", DIRECT, PRETRAINED),
                above=0.0,
                over="mean",
                unit="less error",
                needs=both,
            )
            for n, numbers in zip(
                mixture.labeled,
                (".11 against .25", ".033 against .118", ".031 against .086"),
                strict=False,
            )
        ),
    ]
