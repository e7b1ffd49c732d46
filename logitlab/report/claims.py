"""Claims of a paper, and the verdict on each, as data and in words."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

Outcome = Literal[
    "reproduced", "not reproduced", "undecided", "not tested", "not judged"
]
Kind = Literal["paper", "theorem", "prototype", "own", "question"]

# How a reference begins that anybody can check without an experiment.
_PROOFS = ("theorem", "closed form", "definition", "identity")

# What a reference holds that gives numbers of earlier code of ours.
PROTOTYPE = "an earlier prototype of ours"

# For each kind: one, several, what became of it, what did not. Nobody has produced the
# answer to an open question yet, so nobody can reproduce it.
WORDS: dict[Kind, tuple[str, str, str, str]] = {
    "paper": ("claim of a paper", "claims of papers", "reproduced", "not reproduced"),
    "theorem": ("theorem", "theorems", "confirmed", "not confirmed"),
    "prototype": (
        "comparison with a prototype of ours",
        "comparisons with a prototype of ours",
        "met",
        "not met",
    ),
    "own": ("own expectation", "own expectations", "met", "not met"),
    "question": ("open question", "open questions", "confirmed", "not confirmed"),
}


class _Sourced:
    """Source of a reference, for claims and verdicts."""

    paper: str
    reference: str
    question: bool

    @property
    def kind(self) -> Kind:
        """Where the reference comes from; each kind is counted apart.

        An open ``question``; otherwise a number in a ``paper``; otherwise a
        ``theorem``, if ``reference`` begins with that word or with "closed form",
        "definition" or "identity"; a ``prototype``, if it gives numbers of "an earlier
        prototype of ours"; otherwise an expectation of our ``own``.
        """
        if self.question:
            return "question"
        if self.paper:
            return "paper"
        if self.reference.startswith(_PROOFS):
            return "theorem"
        return "prototype" if PROTOTYPE in self.reference else "own"

    @property
    def cited(self) -> str:
        """The paper's number and the other reference, as far as there are any."""
        return "; ".join(filter(None, (self.paper, self.reference)))


@dataclasses.dataclass(frozen=True)
class Claim(_Sourced):
    """One sentence of a paper, or of ours, with the numbers that decide it.

    Give ``at_least``, ``at_most`` or both, or else ``equals`` (with ``within``) or
    ``above``. The bounds come from the config: they are decided before the run.

    What has to be within them is said by ``over``: the number of ``every`` seed, the
    ``median`` or the ``mean`` over the seeds, or the numbers of a ``share`` of the
    seeds. ``all`` is for what is one number by nature, however many seeds there are: a
    fit across arms, a rank, a test statistic. A mean that is less than one standard
    error away from a bound decides nothing.

    Attributes:
      text: what is claimed, one sentence.
      ours: results -> our number for each seed of the arms that it reads; a single one
        with ``over="all"``. May ask for an arm that was not run; may return nothing, or
        only NaN, if there is no number.
      paper: a number and where it stands in a paper, "100 % (figure 6)"; or empty.
      reference: where else the number or the direction comes from: a theorem, a closed
        form, an earlier prototype of ours; begins as :attr:`kind` says.
      at_least: the smallest number that passes.
      at_most: the largest number that passes.
      equals: the number to meet, ``|ours - equals| <= within``.
      within: how far ``equals`` may be missed.
      above: the number to exceed.
      over: "every", "median", "mean", "share" or "all".
      share: of the seeds that have to pass, with ``over="share"``.
      unit: printed after the numbers.
      format: how a number is printed, as in ``format(0.5, ".3g")``.
      needs: arms without which the claim is not tested.
      question: an open question of ours; it is judged alike, counted apart, and
        confirmed or not, rather than reproduced.

    Raises:
      ValueError: a field makes no sense by itself or with the others.
    """

    text: str
    ours: Callable[[Mapping[str, Any]], float | np.ndarray]
    paper: str = ""
    reference: str = ""
    at_least: float | None = None
    at_most: float | None = None
    equals: float | None = None
    within: float = 0.0
    above: float | None = None
    over: Literal["every", "median", "mean", "share", "all"] = "every"
    share: float | None = None
    unit: str = ""
    format: str = ".3g"
    needs: tuple[str, ...] = ()
    question: bool = False

    def __post_init__(self):
        ends = {name: getattr(self, name) for name in ("at_least", "at_most")}
        alone = {name: getattr(self, name) for name in ("equals", "above")}
        for name, value in {**ends, **alone}.items():
            if value is not None and not math.isfinite(value):
                self._refuse(name, f"is {value}, expected a finite number or None")
        given = [name for name, value in {**ends, **alone}.items() if value is not None]
        if not given:
            self._refuse("at_least", "is missing, and so are at_most, equals and above")
        for name in alone:
            if name in given and len(given) > 1:
                others = " and ".join(other for other in given if other != name)
                self._refuse(name, f"cannot stand beside {others}")
        if None not in ends.values() and self.at_least > self.at_most:
            self._refuse("at_least", f"{self.at_least} > at_most {self.at_most}")
        if not (math.isfinite(self.within) and self.within >= 0):
            self._refuse("within", f"is {self.within}, expected 0 or more")
        if self.within and self.equals is None:
            self._refuse("within", "stands without equals")
        ways = ("every", "median", "mean", "share", "all")
        if self.over not in ways:
            self._refuse("over", f"is {self.over!r}, expected one of {', '.join(ways)}")
        if self.over == "share":
            if self.share is None or not 0 < self.share <= 1:
                self._refuse("share", f"is {self.share}, expected above 0, at most 1")
        elif self.share is not None:
            self._refuse("share", 'stands without over="share"')
        if not (self.paper or self.reference or self.question):
            self._refuse("reference", "is empty, and so is paper: ask a question")
        if isinstance(self.needs, str):
            self._refuse("needs", f"is the string {self.needs!r}, expected a tuple")
        try:
            format(0.5, self.format)
        except ValueError as error:
            self._refuse("format", f"{self.format!r} prints no float: {error}")

    def _refuse(self, field: str, why: str):
        raise ValueError(f"claim {self.text!r}: {field} {why}")

    def tolerance(self, seeds: int = 0) -> str:
        """What passes, in words: ``at least 2 points in the mean over 16 seeds``.

        Args:
          seeds: how many there are; 0 if this is not known.
        """
        if self.equals is not None:
            words = f"equal to {self._exact(self.equals)}"
            if self.within:
                words = f"{self._exact(self.equals)} ± {self._exact(self.within)}"
        elif self.above is not None:
            words = f"above {self._exact(self.above)}"
        elif self.at_most is None:
            words = f"at least {self._exact(self.at_least)}"
        elif self.at_least is None:
            words = f"at most {self._exact(self.at_most)}"
        else:
            words = f"{self._exact(self.at_least)} to {self._exact(self.at_most)}"
        if self.over == "every":
            return f"{words} in every seed"
        if self.over == "all":
            return f"{words} over all seeds"
        number = f"{seeds} seeds" if seeds else "the seeds"
        if self.over == "share":
            return f"{words} in at least {100 * self.share:.4g}% of {number}"
        return f"{words} in the {self.over} over {number}"

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest number that pass; infinite where there is none.

        ``above`` itself does not pass.
        """
        if self.equals is not None:
            return self.equals - self.within, self.equals + self.within
        low = self.above if self.at_least is None else self.at_least
        return (
            -math.inf if low is None else low,
            math.inf if self.at_most is None else self.at_most,
        )

    def passes(self, value: float) -> bool:
        """Whether one number is within the bounds; NaN never is."""
        if self.equals is not None:
            return abs(value - self.equals) <= self.within
        low, high = self.bounds
        return low <= value <= high and value != self.above

    def _exact(self, value: float) -> str:
        """A number of the config as ours are printed, but not rounded, and no -0."""
        comma = "," if "," in self.format else ""
        if self.format.endswith("%"):
            return f"{100 * value + 0.0:{comma}.12g}%"
        return _with_unit(f"{value + 0.0:{comma}.12g}", self.unit)


@dataclasses.dataclass(frozen=True)
class Verdict(_Sourced):
    """The outcome of a claim, as plain data for claims.json.

    Attributes:
      text: the claim.
      paper: as in the claim.
      reference: as in the claim.
      ours: our numbers, one per seed, NaN where a seed gave none; a single one over
        "all".
      over: what was judged, as in the claim.
      median: over the seeds that gave a number; NaN if none did.
      spread: the smallest and the largest of these.
      mean: of these.
      error: the mean's standard error; NaN for fewer than two.
      passed: how many of them are within the bounds.
      tolerance: what passes, in words.
      verdict: "reproduced", "not reproduced", "undecided" (a mean within one standard
        error of a bound), "not tested", or "not judged" after a smoke run.
      preliminary: one seed or quick settings: no last word.
      reason: why it was not tested or decided, or which numbers failed.
      unit: as in the claim.
      format: as in the claim.
      question: as in the claim.
      chosen_seed: how the first seed was chosen, if it was chosen by what it gives.
    """

    text: str
    paper: str
    reference: str
    ours: list[float]
    over: str
    median: float
    spread: tuple[float, float]
    mean: float
    error: float
    passed: int
    tolerance: str
    verdict: Outcome
    preliminary: bool = False
    reason: str = ""
    unit: str = ""
    format: str = ".3g"
    question: bool = False
    chosen_seed: str = ""

    @property
    def label(self) -> str:
        """The verdict as readers see it, "reproduced (preliminary, chosen seed)"."""
        if self.verdict == "not judged":
            return "not judged: smoke"
        if self.verdict == "not tested":
            return self.verdict
        yes, no = WORDS[self.kind][2:]
        known = {"reproduced": yes, "not reproduced": no}
        words = known.get(self.verdict, self.verdict)
        marks = ["preliminary"] if self.preliminary else []
        marks += ["chosen seed"] if self.chosen_seed else []
        return f"{words} ({', '.join(marks)})" if marks else words

    @property
    def measured(self) -> str:
        """Our numbers as readers see them, "0.95 [0.93, 0.96] over 3 seeds".

        The median, and the smallest and the largest; for a claim over the mean, the
        mean and its standard error.
        """
        known = [value for value in self.ours if not math.isnan(value)]
        if not known:
            return "–"
        if len(self.ours) == 1:
            return _with_unit(format(self.median, self.format), self.unit)
        seeds = f"{len(self.ours)} seeds"
        if len(known) < len(self.ours):
            seeds = f"{len(known)} of {seeds}"
        if self.over == "mean":
            mean = format(self.mean, self.format)
            error = format(self.error, _two_digits(self.format))
            return f"{_with_unit(f'{mean} ± {error}', self.unit)} over {seeds}"
        median, low, high = (
            format(value, self.format) for value in (self.median, *self.spread)
        )
        words = f"{_with_unit(median, self.unit)} [{low}, {high}] over {seeds}"
        if self.over == "share":
            return f"{words}, {self.passed} of which pass"
        return words


def ahead(
    metric: str, arm: str, other: str, *, scale: float = 1.0, times: float = 1.0
) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """Difference of two arms' final metrics, seed by seed, for a claim's ``ours``.

    Args:
      metric: whose final numbers are compared.
      arm: the one that should be ahead.
      other: the one that it is compared with.
      scale: of the difference, 100 for points.
      times: what of the other's number is taken off. That a mean is at most half of
        another is that ``times=0.5`` leaves a mean of at most 0.

    Returns:
      results -> ``scale * (arm - times * other)``, one number per seed.
    """
    return lambda results: (
        scale * (results[arm].final(metric) - times * results[other].final(metric))
    )


def smallest_mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The row whose mean is the smallest: the hardest case, with all of its seeds.

    Shapes: rows [cases, seeds] -> [seeds]
    """
    rows = np.asarray(rows)
    return rows[rows.mean(1).argmin()]


def _two_digits(spec: str) -> str:
    """The format of a standard error beside a number of this format."""
    return ".2g" if spec.endswith("g") and "," not in spec else spec


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number
