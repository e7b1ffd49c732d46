"""What the scaling study claims, by variant."""

import numpy as np

from experiments.common.references import prototype, stated
from experiments.scaling import _laws as laws
from experiments.scaling import _points as at
from logitlab import report

IDENTITY = "validation/identity_error"


def claims_of(config, points) -> list:
    """The claims of a variant; those that lack a tolerance are not made."""
    claims = [_identity(config, points)]
    if config.variant in ("links", "temperature"):
        return claims + _links(config, points)
    if config.variant == "classes":
        return claims + _classes(config, points)
    claims = [*_monotone(points), *_held_out(config, points), *claims]
    claims += _parts(config, points) + _exponents(config, points)
    return [*claims, *_prototype(config, points)]


def _claim(text, ours, points, **more):
    needs = tuple(point.arm for point in points)
    return report.Claim(text=text, ours=ours, needs=needs, **more)


def _each_seed(points, results, metric, number):
    """``number`` of one seed's [points], for every seed."""
    return [number(column) for column in at.finals(points, results, metric).T]


def _identity(config, points):
    return _claim(
        "error-entropy + self-alignment - log confidence is the cross-entropy",
        lambda r: at.finals(points, r, IDENTITY).max(0),
        points,
        reference="identity (arXiv:2510.04067)",
        at_most=config.tolerances.identity,
        unit="nats apart in any run",
    )


def _monotone(points):
    claims, ladder = [], at.ladder(points)
    for what, along, fixed in (("parameters", "N", "tokens"), ("data", "D", "width")):
        groups = at.by(ladder, fixed).values()

        def worst(r, groups=tuple(groups)):
            return np.max(
                [
                    (at.finals(g[1:], r) / at.finals(g[:-1], r)).max(0)
                    for g in (sorted(g, key=lambda p: p.flops) for g in groups)
                ],
                0,
            )

        other = "D" if along == "N" else "N"
        claims.append(
            _claim(
                f"cross-entropy falls with {what} at every {other}",
                worst,
                ladder,
                paper="falls at every step (arXiv:2001.08361, figure 1)",
                at_most=1.0,
                unit="of the next smaller run's, at worst",
            )
        )
    return claims


def _held_out(config, points):
    t, claims = config.tolerances, []
    for point in (p for p in points if p.held_out):
        seen = at.ladder(points)

        def law_error(r, p=point):
            actual = at.finals([p], r)[0]
            found = at.fitted(points, r, config.fit)
            guess = [law.loss(p.parameters, p.tokens) for law in found]
            return np.array(guess) / actual - 1

        name = f"H={point.width}, D={at.amount(point.tokens)}"
        claims.append(
            _claim(
                f"the law fitted to smaller runs predicts that of {name}",
                law_error,
                [*seen, point],
                reference=prototype("-0.3 % and -2.1 %, H=512 and D=2M"),
                equals=0.0,
                within=t.law_within,
                format=".1%",
            )
        )
        column = [p for p in seen if p.tokens == point.tokens]
        if not column:
            continue

        def power_error(r, p=point, column=tuple(column)):
            sizes = [other.without_embedding for other in column]

            def guess(ends):
                c, alpha = laws.fit_power_law(sizes, ends)
                return np.exp(c - alpha * np.log(p.without_embedding))

            actual = at.finals([p], r)[0]
            guesses = _each_seed(column, r, at.CE, guess)
            return np.abs(np.array(guesses) / actual - 1)

        claims.append(
            _claim(
                f"a power law in N (no embedding) misses {name} by twice that",
                power_error,
                [*column, point],
                reference=prototype("9.6 % too low"),
                at_least=t.power_misses_by,
                format=".1%",
            )
        )
    return claims


def _parts(config, points):
    """What R^2 and the slopes of the parts say, over all amounts of data."""
    columns = list(at.by(at.ladder(points), "tokens").values())

    def over_columns(number, merge):
        return lambda r: merge([number(column, r) for column in columns], 0)

    def r2(column, results, metric):
        sizes = [point.parameters for point in column]
        return np.array(
            _each_seed(
                column, results, metric, lambda v: laws.slope_and_r2(sizes, v)[1]
            )
        )

    entropy, *others = at.COMPONENTS.values()

    def apart(column, results):
        return np.abs(r2(column, results, entropy) - r2(column, results, at.CE))

    def ahead(column, results):
        best = np.max([r2(column, results, other) for other in others], 0)
        return r2(column, results, entropy) - best

    paper = "R² .977, .945 of CE, .02 to .2 of the others (arXiv:2510.04067)"
    return [
        _claim(
            "log error-entropy is as linear in log N as log cross-entropy is",
            over_columns(apart, np.max),
            at.ladder(points),
            paper=paper,
            at_most=config.tolerances.r2_within,
            unit="of R² apart, at the worst D",
        ),
        _claim(
            "and more so than self-alignment and confidence",
            over_columns(ahead, np.min),
            at.ladder(points),
            paper=paper,
            at_least=0.0,
            unit="of R² ahead, at the worst D",
        ),
        _claim(
            "the share of error-entropy falls as models grow, at every D",
            over_columns(_share_slope, np.max),
            at.ladder(points),
            reference=stated("falls in large language models", "it rises"),
            at_most=0.0,
            unit="of log EE/CE per log N, the largest slope",
        ),
    ]


def _share_slope(column, results):
    """Of log(EE / CE) on log N, for every seed."""
    sizes = [point.parameters for point in column]
    entropy = at.finals(column, results, at.COMPONENTS["error-entropy"])
    shares = entropy / at.finals(column, results)
    return np.array([laws.slope_and_r2(sizes, share)[0] for share in shares.T])


def _exponents(config, points):
    t, ladder = config.tolerances, at.ladder(points)
    claims = []
    for name in ("alpha", "beta"):

        def spread(r, name=name):
            found = [
                [
                    getattr(law, name)
                    for law in at.fitted(chosen, r, config.fit, which=n)
                ]
                for chosen, n in at.subsets(points, config.fit).values()
            ]
            return np.ptp(found, axis=0)

        claims.append(
            _claim(
                f"{name} does not depend on which sizes are fitted or how N is counted",
                spread,
                ladder,
                reference=prototype("from 0.37 to 0.78") if name == "alpha" else "",
                at_most=t.exponent_spread,
                unit="apart over four fits",
                question=True,
            )
        )
    return claims


def _prototype(config, points):
    """Against an earlier implementation, of which the config has the losses."""
    t, ladder = config.tolerances, at.ladder(points)
    if "prototype" not in t:
        return []
    widths = sorted({point.width for point in ladder})

    def theirs(point):
        if point.held_out:
            return t.prototype[point.arm][0]
        column = t.prototype[f"d{at.amount(point.tokens)}"]
        return column[widths.index(point.width)]

    reference = np.array([theirs(point) for point in points])
    claims = [
        _claim(
            "every run ends where the prototype's did, on another Python's text",
            lambda r: np.abs(at.finals(points, r).T / reference - 1).max(1),
            points,
            reference=prototype("26 runs, one seed"),
            at_most=t.prototype_within,
            format=".1%",
        )
    ]
    for name in ("alpha", "beta"):
        claims.append(
            _claim(
                f"{name} of all runs is the prototype's",
                lambda r, name=name: [
                    getattr(law, name) for law in at.fitted(points, r, config.fit)
                ],
                ladder,
                reference=prototype(f"{t[name]:g}"),
                equals=t[name],
                within=t.exponent_spread,
            )
        )
    claims.append(
        _claim(
            "the best size grows with compute as in large language models",
            lambda r: [
                law.beta / (law.alpha + law.beta)
                for law in at.fitted(points, r, config.fit)
            ],
            ladder,
            paper="N ~ C^0.46 (arXiv:2203.15556, approach 3)",
            equals=t.best_size_exponent,
            within=t.exponent_spread,
            question=True,
        )
    )
    return claims


def _links(config, points):
    """Against the softmax, the first series."""
    claims, (first, *others) = [], at.by(points, "series")
    group = at.by(points, "series")
    for series in others:
        for name in ("alpha", "beta"):

            def moved(r, series=series, name=name):
                mine, base = (
                    [getattr(law, name) for law in at.fitted(group[s], r, config.fit)]
                    for s in (series, first)
                )
                return np.abs(np.subtract(mine, base))

            claims.append(
                _claim(
                    f"{name} under {series} is that under {first}",
                    moved,
                    [*group[first], *group[series]],
                    at_most=config.tolerances.exponent_moves,
                    unit="apart",
                    question=True,
                )
            )

        def slopes_apart(r, series=series):
            largest = max(p.tokens for p in points)
            found = []
            for s in (series, first):
                column = [p for p in group[s] if p.tokens == largest]
                sizes = [p.parameters for p in column]
                found.append(
                    _each_seed(
                        column,
                        r,
                        at.CE,
                        lambda v, sizes=sizes: laws.slope_and_r2(sizes, v)[0],
                    )
                )
            return np.abs(np.subtract(*found))

        claims.append(
            _claim(
                f"the slope of log CE on log N under {series} is that under {first}",
                slopes_apart,
                [*group[first], *group[series]],
                at_most=config.tolerances.slope_moves,
                unit="apart, at the largest D",
                question=True,
            )
        )
    return claims


def _classes(config, points):
    return [
        _claim(
            f"with {series.removeprefix('C=')} classes the share of error-entropy "
            "falls as models grow",
            lambda r, column=tuple(column): _share_slope(column, r),
            column,
            reference=stated("falls in large language models (arXiv:2510.04067)"),
            at_most=config.tolerances.share,
            unit="of log EE/CE per log N",
            question=True,
        )
        for series, column in at.by(points, "series").items()
    ]
