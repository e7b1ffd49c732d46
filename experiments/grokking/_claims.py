"""What the paper claims of grokking, and what we ask."""

import numpy as np

from experiments.common.references import stated
from logitlab import report


def claims(bounds) -> list[report.Claim]:
    """All claims, whichever arms there are."""
    return [
        *_generalisation(bounds),
        *_collapse(bounds),
        *_delays(bounds),
        *_naive_loss_minimisation(bounds),
        *_questions(bounds),
    ]


def _best(arm):
    return np.nanmax(arm["test/accuracy"], 0)


def _generalisation(bounds):
    return [
        report.Claim(
            text="StableMax generalises without regularisation",
            paper="above 95 % test accuracy at p=113 (figure 1)",
            ours=lambda r: _best(r["stablemax"]),
            at_least=bounds.groks,
            needs=("stablemax",),
        ),
        *(
            report.Claim(
                text=f"softmax cross-entropy in float{bits} does not, all else equal",
                paper="stays at chance at p=113 (figure 1)",
                ours=lambda r, arm=f"ce{bits}": _best(r[arm]),
                at_most=bounds.stays_below,
                needs=(f"ce{bits}",),
            )
            for bits in (32, 64)
        ),
        *(
            report.Claim(
                text=f"nor does it in {dtype}",
                ours=lambda r, arm=arm: _best(r[arm]),
                at_most=bounds.stays_below,
                needs=(arm,),
                question=True,
            )
            for dtype, arm in (("float16", "ce16"), ("bfloat16", "ce_bf16"))
        ),
    ]


def _collapse(bounds):
    def step(results, arm):
        return results[arm].first_step("train/collapse", bounds.collapsed)

    def later(early, late):
        """How many steps later; infinite if the late one never collapses."""

        def ours(results):
            with np.errstate(invalid="ignore"):  # neither ever does: no number
                return step(results, late) - step(results, early)

        return ours

    return [
        report.Claim(
            text="in float16 every row of the training set collapses",
            paper="collapse fraction 1 (figure 2)",
            ours=lambda r: r["ce16"].final("train/collapse"),
            at_least=1.0,
            needs=("ce16",),
        ),
        report.Claim(
            text="and the gradient is then exactly zero",
            paper="0 (section 3)",
            ours=lambda r: r["ce16"].final("grad_norm"),
            equals=0.0,
            needs=("ce16",),
        ),
        *(
            report.Claim(
                text=text,
                paper="the narrower the type, the earlier (figure 2)",
                ours=later(early, late),
                at_least=1.0,
                unit="steps later",
                needs=(early, late),
            )
            for text, early, late in (
                ("float32 collapses later than float16", "ce16", "ce32"),
                ("float64 collapses later than float32, or never", "ce32", "ce64"),
            )
        ),
        report.Claim(
            text="float16, of more bits than bfloat16, collapses later than it",
            ours=later("ce_bf16", "ce16"),
            at_least=1.0,
            unit="steps later",
            needs=("ce_bf16", "ce16"),
            question=True,
        ),
    ]


def _delays(bounds):
    def by_then(arm):
        """The best test accuracy up to memorization, or to the end without it."""

        def ours(results):
            memorised = results[arm]["train/accuracy"] >= bounds.memorised
            until = np.cumsum(np.maximum.accumulate(memorised, 0), 0) <= 1
            return np.nanmax(np.where(until, results[arm]["test/accuracy"], np.nan), 0)

        return ours

    return [
        report.Claim(
            text=f"perpGrad has generalised by the time that it memorises ({arm})",
            paper="no grokking delay (figure 6)",
            ours=by_then(arm),
            at_least=bounds.groks,
            unit="test accuracy by then",
            needs=(arm,),
        )
        for arm in ("perp", "perp113", "transformer_perp", "mlp_perp")
    ]


def _naive_loss_minimisation(bounds):
    return [
        report.Claim(
            text="StableMax still follows naive loss minimisation late in training",
            paper="cosine of descent and weights about 0.8 (figure 4)",
            ours=lambda r: r["stablemax"].final("alignment"),
            equals=bounds.alignment,
            within=bounds.alignment_within,
            needs=("stablemax",),
        ),
        report.Claim(
            text="and its weights grow",
            reference=stated("growing weight norm"),
            ours=lambda r: (
                r["stablemax"].final("weight_norm") / r["stablemax"]["weight_norm"][0]
            ),
            at_least=bounds.weights_grow,
            unit="times the norm at the start",
            needs=("stablemax",),
        ),
    ]


def _questions(bounds):
    return [
        report.Claim(
            text="softmax cross-entropy generalises once float32 computes it exactly",
            ours=lambda r: _best(r["exact"]),
            at_least=bounds.groks,
            needs=("exact",),
            question=True,
        ),
        *(
            report.Claim(
                text=text,
                ours=lambda r, other=other: _best(r["exact"]) - _best(r[other]),
                at_least=0.0,
                unit="test accuracy",
                needs=("exact", other),
                question=True,
            )
            for text, other in (
                ("computed exactly, it gets as far as in float64", "ce64"),
                ("and as far as StableMax", "stablemax"),
            )
        ),
        report.Claim(
            text="its rows count as collapsed in float32, yet none costs exactly zero",
            ours=lambda r: (
                (r["exact"].final("train/collapse") >= bounds.collapsed)
                & (r["exact"].final("train/zero_loss") == 0)
            ).astype(float),
            equals=1.0,
            needs=("exact",),
            question=True,
        ),
    ]
