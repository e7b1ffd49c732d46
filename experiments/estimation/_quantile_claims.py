"""What the study of combined quantiles claims, and how its arms are called."""

import numpy as np

from experiments.common.references import prototype, stated
from logitlab import report

SINGLE = {
    "linear": "linear",
    "forest": "forest",
    "neighbors": "nearest neighbors",
    "boosted": "boosted trees",
    "network": "network",
}
AVERAGE, FINE, LOCAL = "average", "fine", "local"
CALIBRATED = (*SINGLE, AVERAGE)
WIS = "score"


def claims_of(config, chances):
    """The claims of a config, for intervals of these chances."""
    bounds = config.tolerances

    def best(results):
        return report.smallest_mean([results[name].final(WIS) for name in SINGLE])

    def farthest(how, place, chance):
        def ours(results):
            rows = [results[name].final(f"{how}/{place}") for name in CALIBRATED]
            return rows[int(np.abs(np.mean(rows, 1) - chance).argmax())]

        return ours

    def lowest(how, place):
        return lambda r: report.smallest_mean(
            [r[name].final(f"{how}/{place}") for name in CALIBRATED]
        )

    claims = [
        report.Claim(
            text="weights per model and pair of levels score as the best model does "
            "or better",
            reference=stated("aggregation is ahead of each base model"),
            ours=lambda r: best(r) - r[FINE].final(WIS),
            at_least=bounds.ahead,
            over="mean",
            unit="lower",
            needs=(*SINGLE, FINE),
        ),
        report.Claim(
            text="and as their average does or better",
            reference=stated("learned weights are ahead of the average"),
            ours=report.ahead(WIS, AVERAGE, FINE),
            at_least=bounds.ahead,
            over="mean",
            unit="lower",
            needs=(AVERAGE, FINE),
        ),
        report.Claim(
            text="weights for each patient are ahead of the same for all",
            reference=stated(
                "local fine weights have the best average of 34 data sets"
            ),
            ours=report.ahead(WIS, FINE, LOCAL),
            at_least=bounds.ahead,
            over="mean",
            unit="lower",
            needs=(FINE, LOCAL),
        ),
        *(
            report.Claim(
                text=f"{words} never raises the summed pinball loss",
                reference="theorem: rearranged quantiles are nearer to the outcome",
                ours=lambda r, name=name: r["order"].final(f"{name}/most"),
                at_most=bounds.rises,
                unit="at most",
                needs=("order",),
            )
            for name, words in (("sort", "sorting"), ("isotonic", "an isotonic fit"))
        ),
        report.Claim(
            text="a sweep from the middle outwards can raise it",
            reference=prototype("in 1051 of 4000 random cases"),
            ours=lambda r: r["order"].final("sweep/share"),
            at_least=bounds.sweep,
            format=".1%",
            unit="of the cases",
            needs=("order",),
        ),
    ]
    for place, chance in enumerate(chances[:2]):
        nominal = chance / 100
        claims += [
            report.Claim(
                text=f"CQR covers {chance:.0f} %, for the model that is farthest off",
                reference="theorem: at least that, and at most 1/(n + 1) more",
                ours=farthest("cqr", place, nominal),
                equals=nominal,
                within=bounds.coverage,
                over="mean",
                format=".1%",
                needs=CALIBRATED,
            ),
            report.Claim(
                text=f"CV+ for {chance:.0f} % covers at least "
                f"{100 - 2 * (100 - chance):.0f} %",
                reference="theorem: 1 - 2 alpha, of Barber et al. 2021",
                ours=lowest("cv", place),
                at_least=1 - 2 * (1 - nominal),
                over="mean",
                format=".1%",
                needs=CALIBRATED,
            ),
            report.Claim(
                text=f"and {chance:.0f} % in fact, for the model that is farthest off",
                reference=stated("CV+ covers nearly as it should"),
                ours=farthest("cv", place, nominal),
                equals=nominal,
                within=bounds.coverage,
                over="mean",
                format=".1%",
                needs=CALIBRATED,
            ),
        ]
    return claims
