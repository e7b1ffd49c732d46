"""What the study of checkered regression claims, by variant."""

import math

from experiments.common.references import prototype
from logitlab import report


def _claim(text, ours, *needs, **more):
    return report.Claim(text=text, ours=ours, needs=needs, **more)


def _final(arm, metric):
    return lambda r: r[arm].final(metric)


def _at(arm, metric, step):
    """The number of each seed at a step."""
    return lambda r: r[arm][metric][r[arm].steps == int(step)][0]


def _saddle(config):
    t, claims = config.tolerances, []
    claims.append(
        _claim(
            "from zero, gradient descent stays where it is",
            lambda r: abs(r["gd_zero"]["train/loss"] - math.log(2)).max(0),
            "gd_zero",
            reference="closed form: zero is a saddle, of loss log 2 = 0.6931",
            at_most=t.log2_within,
            unit="nats from log 2, at any step",
        )
    )
    for arm in ("gd_zero", "logistic"):
        claims.append(
            _claim(
                "and gets half of the rows right"
                if arm == "gd_zero"
                else "so does logistic regression, on average",
                _final(arm, "test/accuracy"),
                arm,
                reference="closed form: 50 %, as no line separates the classes",
                equals=0.5,
                within=t.half_within,
                over="mean",
            )
        )
    words = dict(
        gd_random="gradient descent from random points",
        xgd_fixed="cross-gradients by a fixed random reference, from zero",
        xgd_refreshed="refreshed every 50 steps",
        xgd_every="refreshed at every step",
    )
    for arm, text in words.items():
        fixed = "fixed_" if arm == "xgd_fixed" else ""
        for i, (metric, name) in enumerate(
            (("train/loss", "loss"), ("test/accuracy", "accuracy"))
        ):
            claims.append(
                _claim(
                    f"{text}: {name}",
                    _final(arm, metric),
                    arm,
                    reference=prototype(f"{t[arm][i]:g}, mean of 10 seeds"),
                    equals=t[arm][i],
                    within=t[f"{fixed}{name}_within"],
                    over="mean",
                )
            )
    claims.append(
        _claim(
            "a fixed reference is never worse than the reference itself",
            report.ahead("train/loss", "reference", "xgd_fixed"),
            "reference",
            "xgd_fixed",
            reference="theorem: F(end) <= F(reference)",
            at_least=0.0,
            unit="nats lower",
        )
    )
    return claims


def _references(config):
    words = {
        arm: config.arms[arm].label
        for arm in ("point_0_3", "point_1", "point_3", "dirichlet")
    }
    return [
        _claim(
            f"cross-gradients leave the saddle: {text}",
            lambda r, arm=arm: math.log(2) - r[arm].final("train/loss"),
            arm,
            at_least=config.tolerances.leaves,
            unit="nats below log 2",
            question=True,
        )
        for arm, text in words.items()
    ]


def _default(config):
    return [
        *_saddle(config),
        _claim(
            "three factors see the checkerboard that one does not",
            report.ahead("train/accuracy", "m3", "m1"),
            "m1",
            "m3",
            reference=prototype("95.3 % against 71 % after 10 epochs"),
            at_least=config.tolerances.board_gain,
            over="mean",
            unit="train accuracy",
        ),
    ]


def _checkerboard(config):
    t = config.tolerances
    ten = 10 * config.data.rows
    claims = [
        _claim(
            f"train accuracy of {m} factors after 10 epochs",
            _at(f"m{m}", "train/accuracy", ten),
            f"m{m}",
            reference=prototype(f"{want:.1%}, mean"),
            equals=want,
            within=t.within,
            over="mean",
        )
        for m, want in sorted(t.after_10.items())
    ]
    claims.append(
        _claim(
            "train accuracy of 3 factors after 100 epochs",
            _at("m3", "train/accuracy", config.steps),
            "m3",
            reference=prototype("98.0 %, mean"),
            equals=t.after_100,
            within=t.within,
            over="mean",
        )
    )
    for m in (3, 20):
        claims.append(
            _claim(
                f"the best seed of {m} factors fits its data after 10 epochs",
                _at(f"m{m}", "train/accuracy", ten),
                f"m{m}",
                paper="99 % on its one data set (Achab 2022, figure 2)",
                at_least=t.best,
                over="share",
                share=1 / config.seeds,
            )
        )
    claims.append(
        _claim(
            "20 restarts in one program take no longer than one MLP as accurate",
            lambda r: (
                r["fit_checkered"].final("fit/seconds")
                / r["fit_mlp"].final("fit/seconds")
            ),
            "fit_checkered",
            "fit_mlp",
            at_most=t.fit_time,
            over="median",
            unit="times its time, without compiling",
            question=True,
        )
    )
    return claims


def _rock_paper_scissors(config):
    t = config.tolerances
    claims = [
        _claim(
            "Bradley-Terry, which is transitive, ends at a coin's loss",
            _final("bradley_terry", "train/loss"),
            "bradley_terry",
            paper="log 2 = 0.6931 (figure 3)",
            equals=math.log(2),
            within=t.log2_within,
        )
    ]
    for step, want in sorted(t.means.items(), key=lambda item: int(item[0])):
        claims.append(
            _claim(
                f"mean loss of the smooth XOR at step {step}",
                _at("smooth_xor", "train/loss", step),
                "smooth_xor",
                reference=prototype(f"{want:.3f}, in the setting of figure 3"),
                equals=want,
                within=t.within,
                over="mean",
            )
        )
    claims.append(
        _claim(
            "every seed of the smooth XOR learns the cycle",
            _final("smooth_xor", "train/loss"),
            "smooth_xor",
            paper="below 0.3 (figure 3)",
            at_most=t.all_below,
        )
    )
    return claims


def _multiclass(config):
    t, claims = config.tolerances, []

    for lines in (2, 3):
        claims.append(
            _claim(
                f"{lines} factors of three classes beat one on {lines} fans",
                report.ahead(
                    "test/accuracy", f"m{lines}_lines{lines}", f"m1_lines{lines}"
                ),
                f"m1_lines{lines}",
                f"m{lines}_lines{lines}",
                at_least=t.gain,
                over="median",
                unit="test accuracy",
                question=True,
            )
        )
        claims.append(
            _claim(
                f"and the best seed of ten sees through {lines} fans",
                _final(f"m{lines}_lines{lines}", "test/accuracy"),
                f"m{lines}_lines{lines}",
                at_least=t.best,
                over="share",
                share=1 / config.seeds,
                question=True,
            )
        )
    return claims


def _tabular(config):
    return [
        _claim(
            f"checkered regression with {m} factors is about as accurate as {words}",
            report.ahead("test/accuracy", f"m{m}", other),
            f"m{m}",
            other,
            at_least=-config.tolerances.within,
            over="median",
            unit="test accuracy",
            question=True,
        )
        for m in (2, 3)
        for other, words in (
            ("logistic", "logistic regression"),
            (f"mlp{m}", "an MLP of as many parameters"),
        )
    ]


def _modular(config):
    t = config.tolerances
    return [
        _claim(
            "two factors fit the training part of the table",
            _final("m2", "train/accuracy"),
            "m2",
            reference=prototype("97 to 100 %"),
            at_least=t.fits,
        ),
        _claim(
            "which one factor cannot",
            _final("m1", "train/accuracy"),
            "m1",
            reference=prototype("29 % at p=23"),
            at_most=t.cannot,
        ),
        _claim(
            "and yet do not find the addition behind it",
            _final("m2", "test/accuracy"),
            "m2",
            reference=prototype("test accuracy at chance or slightly above"),
            at_most=t.chance + t.slightly,
        ),
    ]


def _convergence(config):
    return [
        _claim(
            "the mean excess over the reference stays below the theorem's bound",
            _final("gap", "worst"),
            "gap",
            reference="theorem 4.2",
            at_most=config.tolerances.bound,
            unit="of the bound, at any step",
        )
    ]


CLAIMS = dict(
    default=_default,
    saddle=_saddle,
    references=_references,
    rock_paper_scissors=_rock_paper_scissors,
    checkerboard=_checkerboard,
    multiclass=_multiclass,
    breast_cancer=_tabular,
    digits=_tabular,
    modular=_modular,
    convergence=_convergence,
)
