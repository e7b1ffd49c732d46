"""What ``checkered_regression`` claims, by variant."""

import math

import numpy as np

from logitlab import report


def _claim(text, paper, ours, *needs, **bounds):
    return report.Claim(text=text, paper=paper, ours=ours, needs=needs, **bounds)


def _mean(arm, metric):
    return lambda r: r[arm].final(metric).mean()


def _at(arm, metric, step, over_seeds=np.mean):
    """The mean over the seeds, or another number of theirs, at a step."""
    return lambda r: over_seeds(r[arm][metric][r[arm].steps == int(step)])


def _lead(arm, other):
    """How far ahead on the test rows, for each seed."""
    return lambda r: r[arm].final("test/accuracy") - r[other].final("test/accuracy")


def _saddle(config):
    t, claims = config.tolerances, []
    claims.append(
        _claim(
            "from zero, gradient descent stays where it is",
            "log 2 = 0.6931 (spec: exactly)",
            lambda r: abs(r["gd_zero"]["train/loss"] - math.log(2)).max(0),
            "gd_zero",
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
                "50 %",
                _mean(arm, "test/accuracy"),
                arm,
                equals=0.5,
                within=t.half_within,
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
                    f"{t[arm][i]:g} (mean of 10 seeds, pilot)",
                    _mean(arm, metric),
                    arm,
                    equals=t[arm][i],
                    within=t[f"{fixed}{name}_within"],
                )
            )
    claims.append(
        _claim(
            "a fixed reference is never worse than the reference itself",
            "F(end) <= F(reference) (theory)",
            lambda r: (
                r["reference"].final("train/loss") - r["xgd_fixed"].final("train/loss")
            ),
            "reference",
            "xgd_fixed",
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
            "not in the paper: ours",
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
            "95.3 % against 71 % after 10 epochs (pilot)",
            lambda r: (
                r["m3"].final("train/accuracy").mean()
                - r["m1"].final("train/accuracy").mean()
            ),
            "m1",
            "m3",
            at_least=config.tolerances.board_gain,
            unit="train accuracy, means",
        ),
    ]


def _checkerboard(config):
    t = config.tolerances
    ten = 10 * config.data.rows
    claims = [
        _claim(
            f"train accuracy of {m} factors after 10 epochs",
            f"{want:.1%} (mean, pilot)",
            _at(f"m{m}", "train/accuracy", ten),
            f"m{m}",
            equals=want,
            within=t.within,
        )
        for m, want in sorted(t.after_10.items())
    ]
    claims.append(
        _claim(
            "train accuracy of 3 factors after 100 epochs",
            "98.0 % (mean, pilot)",
            _at("m3", "train/accuracy", config.steps),
            "m3",
            equals=t.after_100,
            within=t.within,
        )
    )
    for m in (3, 20):
        claims.append(
            _claim(
                f"the best seed of {m} factors fits its data after 10 epochs",
                "99 % on its one data set (note of 2022, figure 2)",
                _at(f"m{m}", "train/accuracy", ten, np.max),
                f"m{m}",
                at_least=t.best,
            )
        )
    claims.append(
        _claim(
            "20 restarts in one program take no longer than one MLP as accurate",
            "not in the paper: ours",
            lambda r: np.median(
                r["fit_checkered"].final("fit/seconds")
                / r["fit_mlp"].final("fit/seconds")
            ),
            "fit_checkered",
            "fit_mlp",
            at_most=t.fit_time,
            unit="times its time, without compiling, median",
            question=True,
        )
    )
    return claims


def _rock_paper_scissors(config):
    t = config.tolerances
    claims = [
        _claim(
            "Bradley-Terry, which is transitive, ends at a coin's loss",
            "log 2 = 0.6931 (figure 3)",
            lambda r: r["bradley_terry"].final("train/loss"),
            "bradley_terry",
            equals=math.log(2),
            within=t.log2_within,
        )
    ]
    for step, want in sorted(t.means.items(), key=lambda item: int(item[0])):
        claims.append(
            _claim(
                f"mean loss of the smooth XOR at step {step}",
                f"{want:.3f} (pilot, by the figure's setting)",
                _at("smooth_xor", "train/loss", step),
                "smooth_xor",
                equals=want,
                within=t.within,
            )
        )
    claims.append(
        _claim(
            "every seed of the smooth XOR learns the cycle",
            "below 0.3 (figure 3)",
            lambda r: r["smooth_xor"].final("train/loss"),
            "smooth_xor",
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
                "not in the paper: ours",
                _lead(f"m{lines}_lines{lines}", f"m1_lines{lines}"),
                f"m1_lines{lines}",
                f"m{lines}_lines{lines}",
                at_least=t.gain,
                every_seed=False,
                unit="test accuracy",
                question=True,
            )
        )
        claims.append(
            _claim(
                f"and the best seed of ten sees through {lines} fans",
                "not in the paper: ours",
                lambda r, a=f"m{lines}_lines{lines}": r[a].final("test/accuracy").max(),
                f"m{lines}_lines{lines}",
                at_least=t.best,
                question=True,
            )
        )
    return claims


def _tabular(config):
    return [
        _claim(
            f"checkered regression with {m} factors is about as accurate as {words}",
            "not in the paper: ours",
            _lead(f"m{m}", other),
            f"m{m}",
            other,
            at_least=-config.tolerances.within,
            every_seed=False,
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
            "97 to 100 % (pilot)",
            lambda r: r["m2"].final("train/accuracy"),
            "m2",
            at_least=t.fits,
        ),
        _claim(
            "which one factor cannot",
            "29 % at p=23 (pilot)",
            lambda r: r["m1"].final("train/accuracy"),
            "m1",
            at_most=t.cannot,
        ),
        _claim(
            "and yet do not find the addition behind it",
            "test accuracy at chance or slightly above (pilot)",
            lambda r: r["m2"].final("test/accuracy"),
            "m2",
            at_most=t.chance + t.slightly,
        ),
    ]


def _convergence(config):
    return [
        _claim(
            "the mean excess over the reference stays below the theorem's bound",
            "theorem 4.2",
            lambda r: r["gap"].final("worst"),
            "gap",
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
    smoke=_default,
)
