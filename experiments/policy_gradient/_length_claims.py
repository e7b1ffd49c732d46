"""What ``length_rewards`` claims and draws."""

import numpy as np

from experiments.common.references import prototype, stated
from logitlab import report
from logitlab.report import figures
from logitlab.report.legends import add_legends

_DEFINED = {
    "grpo": {
        0.2: (1.055, 0.935, 0.734),
        0.8: (1.518, 0.918, -0.083),
        1.0: (1.632, 0.859, -0.429),
    },
    "drpo": {0.1: (0.952, 0.047, 0.0003), 1.0: (0.457, 0.338, 0.205)},
}
_SHORTER = {10.0: 0.752, 0.5: 0.679, 0.2: 0.565, 0.1: 0.499}


def arm(kind: str, method: str, knob: float) -> str:
    """Name of the arm."""
    return f"{kind}_{method}_{knob:g}"


def claims(config) -> list[report.Claim]:
    """The signs, the order of the lengths, and what they cost."""
    return [*_signs(config), *_lengths(config), *_costs(config)]


def _signs(config):
    t, group, found = config.tolerances, config.group, []

    def of(method, knob):
        names = [f"{method}/{knob:g}/{length}" for length in group.lengths]
        return lambda r: np.stack([r["weights"].final(name) for name in names])

    def off(method, knob):
        want = np.array(_DEFINED[method][knob])[:, None]
        return lambda r: np.abs(of(method, knob)(r) - want).max(0)

    words = {"grpo": "GRPO's advantages at α =", "drpo": "DRPO's weights at λ ="}
    for method, knobs in (("grpo", group.alphas), ("drpo", group.lams)):
        found += [
            report.Claim(
                text=f"{words[method]} {knob:g}",
                reference=f"definition: {', '.join(map(str, _DEFINED[method][knob]))}",
                ours=off(method, knob),
                at_most=t.digits,
                unit="largest difference",
                needs=("weights",),
            )
            for knob in knobs
            if knob in _DEFINED[method]
        ]
    worst, least = max(group.alphas), min(group.lams)
    found += [
        report.Claim(
            text=f"a penalty of α = {worst:g} pushes a long right answer down",
            reference="definition: -0.429",
            ours=lambda r: of("grpo", worst)(r).min(0),
            at_most=0.0,
            unit="advantage",
            needs=("weights",),
        ),
        report.Claim(
            text="DRPO pushes no right answer down",
            reference="definition: 0.0003",
            ours=lambda r: of("drpo", least)(r).min(0),
            at_least=0.0,
            unit="weight",
            needs=("weights",),
        ),
    ]
    return found


def _lengths(config):
    t, lams = config.tolerances, sorted(config.lams, reverse=True)
    names = [arm("table", "drpo", lam) for lam in lams]
    known = [f"{_SHORTER[lam]} (λ = {lam:g})" for lam in lams if lam in _SHORTER]

    def shorter(results):
        lengths = [results[name].final("length") for name in names]
        return report.smallest_mean(-np.diff(lengths, axis=0))

    found = [
        report.Claim(
            text="right answers get shorter with every smaller λ",
            reference=stated("shorter", ", ".join(known)),
            ours=shorter,
            at_least=t.shorter_by,
            over="mean",
            unit="of the longest, the smallest step",
            needs=tuple(names),
        )
    ]
    found += [
        report.Claim(
            text=f"and no fewer at λ = {lam:g}",
            reference=prototype("at least 0.995"),
            ours=lambda r, name=name: r[name].final("accuracy"),
            at_least=t.accurate,
            over="mean",
            unit="accuracy",
            needs=(name,),
        )
        for lam, name in zip(lams, names, strict=True)
    ]
    return found


def _costs(config):
    t, found = config.tolerances, []
    alpha, lam = max(config.alphas), t.costs_at
    cost = {
        "table": "a length penalty costs accuracy where prompts share nothing",
        "shared": "and where they share the logits, at whatever length",
    }
    for kind, text in cost.items():
        ours, theirs = arm(kind, "drpo", lam), arm(kind, "grpo", alpha)
        found.append(
            report.Claim(
                text=f"{text}: DRPO at λ = {lam:g} against α = {alpha:g}",
                paper="-1.1 % against -4.3 % (abstract, GSM8K)",
                ours=report.ahead("accuracy", ours, theirs),
                at_least=t.costs,
                unit="accuracy ahead",
                needs=(ours, theirs),
                over="median",
                question=kind == "shared",
            )
        )
    drpo = [arm("shared", "drpo", lam) for lam in config.lams]
    grpo = [arm("shared", "grpo", alpha) for alpha in config.alphas]

    def above(results):
        """At GRPO's lengths, if DRPO's span them: how far its frontier is above."""
        points = sorted(
            (mean(results, n, "length"), mean(results, n, "accuracy")) for n in drpo
        )
        length, accuracy = np.array(points).T
        gaps = [
            np.interp(mean(results, n, "length"), length, accuracy)
            - mean(results, n, "accuracy")
            for n in grpo
            if length[0] <= mean(results, n, "length") <= length[-1]
        ]
        return np.min(gaps) if gaps else np.nan

    found.append(
        report.Claim(
            text="at equal length DRPO is more accurate where prompts share the logits",
            reference=stated("shorter at less loss of accuracy (GSM8K, 1.5B)"),
            ours=above,
            at_least=0.0,
            over="all",
            unit="accuracy above GRPO's settings, by interpolation, least",
            needs=(*drpo, *grpo),
            question=True,
        )
    )
    return found


def mean(results, name: str, metric: str) -> float:
    """Over the seeds, in the end."""
    return float(results[name].final(metric).mean())


def draw(config, results):
    """Length against lambda, each prompt by itself; accuracy against length, shared."""
    import matplotlib

    with matplotlib.rc_context(figures._LOOK):
        figure = figures._figure((3.5, 2.8), 2, 1, None)
        left, right = figure.subplots(1, 2)
        _lengths_by_lambda(left, config, results)
        entries = _frontiers(right, config, results)
        note = "small dots: seeds; the rest: their means"
        add_legends(figure, [(right, entries)], note)
    return figure


def _lengths_by_lambda(axes, config, results):
    names = {lam: arm("table", "drpo", lam) for lam in sorted(config.lams)}
    there = {lam: name for lam, name in names.items() if name in results}
    _points(axes, results, there.values(), 0, list(there), "length")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    for alpha in (min(config.alphas), max(config.alphas)):
        name = arm("table", "grpo", alpha)
        if name in results:
            y = mean(results, name, "length")
            axes.axhline(y, color=figures.PALETTE[1], linewidth=1, linestyle=":")
            axes.annotate(
                f"GRPO, α = {alpha:g}",
                (0, y),
                xycoords=("axes fraction", "data"),
                xytext=(3, -9),
                textcoords="offset points",
                fontsize=7.5,
                color=figures.PALETTE[1],
            )
    axes.set_title("a table for each prompt")
    axes.set_xlabel("λ: the smaller, the more length matters")
    axes.set_ylabel("length of right answers\n(share of the longest)")


def _frontiers(axes, config, results):
    rows = (
        ("drpo", "DRPO, by λ", sorted(config.lams), (3, -10, "left")),
        ("grpo", "GRPO with a length penalty, by α", config.alphas, (-4, 3, "right")),
    )
    entries = []
    for place, (method, words, knobs, (right, up, side)) in enumerate(rows):
        names = {knob: arm("shared", method, knob) for knob in knobs}
        there = {knob: name for knob, name in names.items() if name in results}
        if not there:
            continue
        x = [mean(results, name, "length") for name in there.values()]
        line = _points(axes, results, there.values(), place, x, "accuracy")
        entries.append((line, words))
        named = []
        for knob, at in zip(there, x, strict=True):
            if all(abs(at - other) > 0.05 for other in named):
                named.append(at)
                axes.annotate(
                    f"{knob:g}",
                    (at, mean(results, there[knob], "accuracy")),
                    xytext=(right, up),
                    textcoords="offset points",
                    ha=side,
                    fontsize=7.5,
                    color=figures.PALETTE[place],
                )
        before = results[next(iter(there.values()))]
        start = before["length"][0].mean(), before["accuracy"][0].mean()
    if entries:
        cross = axes.plot(*start, "x", color="black", markersize=7, zorder=4)[0]
        entries.append((cross, "before"))
    axes.set_title("one table for all")
    axes.set_xlabel("length of right answers (share of the longest)")
    axes.set_ylabel("accuracy")
    return entries


def _points(axes, results, names, place, x, metric):
    """Means joined by a line, at these places, with every seed in sight."""
    style, names = figures.style(place), list(names)
    for name, at in zip(names, x, strict=True):
        values = results[name].final(metric)
        across = np.full(len(values), at)
        if metric == "accuracy":
            across = results[name].final("length")
        look = dict(color=style.color, alpha=0.4, markersize=4)
        axes.plot(across, values, ".", **look)
    y = [mean(results, name, metric) for name in names]
    look = dict(color=style.color, marker="os"[place], markersize=5, linewidth=1.2)
    return axes.plot(x, y, linestyle=style.line, **look)[0]
