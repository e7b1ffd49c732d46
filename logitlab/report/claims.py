"""Claims of a paper, the numbers we got, and the verdict on each."""

import collections
import dataclasses
import json
import math
import os
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from logitlab.train.files import write_file

Outcome = Literal["reproduced", "not reproduced", "not tested"]

# Nobody has produced the answer to an open question yet, so nobody can reproduce it.
_QUESTION_WORDS = {"reproduced": "confirmed", "not reproduced": "not confirmed"}


@dataclasses.dataclass(frozen=True)
class Claim:
    """One sentence of a paper, with the number that decides it.

    Give ``at_least``, ``at_most`` or both, or else ``equals`` (with ``within``). The
    bounds are inclusive and come from the config: they are decided before the run.

    Attributes:
      text: what is claimed, one sentence.
      paper: the paper's number and where it stands, "100 % (figure 6)".
      ours: results -> our number, one per seed or a single one. May ask for an arm
        that was not run; may return nothing, or only NaN, if there is no number.
      at_least: the smallest number that passes.
      at_most: the largest number that passes.
      equals: the number to meet, ``|ours - equals| <= within``.
      within: how far ``equals`` may be missed.
      unit: printed after the numbers.
      format: how a number is printed, as in ``format(0.5, ".3g")``.
      needs: arms without which the claim is not tested.
      every_seed: whether each seed has to pass; if not, their median decides.
      question: an open question of ours, no claim of the paper's; it is judged
        alike, counted apart, and confirmed or not, rather than reproduced.

    Raises:
      ValueError: a field makes no sense by itself or with the others.
    """

    text: str
    paper: str
    ours: Callable[[Mapping[str, Any]], float | np.ndarray]
    at_least: float | None = None
    at_most: float | None = None
    equals: float | None = None
    within: float = 0.0
    unit: str = ""
    format: str = ".3g"
    needs: tuple[str, ...] = ()
    every_seed: bool = True
    question: bool = False

    def __post_init__(self):
        bounds = {name: getattr(self, name) for name in ("at_least", "at_most")}
        for name, value in {**bounds, "equals": self.equals}.items():
            if value is not None and not math.isfinite(value):
                self._refuse(name, f"is {value}, expected a finite number or None")
        if not (math.isfinite(self.within) and self.within >= 0):
            self._refuse("within", f"is {self.within}, expected 0 or more")
        if self.equals is None:
            if self.within:
                self._refuse("within", "stands without equals")
            if self.at_least is None and self.at_most is None:
                self._refuse("at_least", "is missing, and so are at_most and equals")
            if None not in bounds.values() and self.at_least > self.at_most:
                self._refuse("at_least", f"{self.at_least} > at_most {self.at_most}")
        elif any(value is not None for value in bounds.values()):
            self._refuse("equals", "cannot stand beside at_least or at_most")
        if isinstance(self.needs, str):
            self._refuse("needs", f"is the string {self.needs!r}, expected a tuple")
        try:
            format(0.5, self.format)
        except ValueError as error:
            self._refuse("format", f"{self.format!r} prints no float: {error}")

    def _refuse(self, field: str, why: str):
        raise ValueError(f"claim {self.text!r}: {field} {why}")

    @property
    def tolerance(self) -> str:
        """What passes, in words: ``at least 0.9 in every seed``."""
        if self.equals is not None:
            words = f"equal to {self._exact(self.equals)}"
            if self.within:
                words = f"{self._exact(self.equals)} ± {self._exact(self.within)}"
        elif self.at_most is None:
            words = f"at least {self._exact(self.at_least)}"
        elif self.at_least is None:
            words = f"at most {self._exact(self.at_most)}"
        else:
            words = f"{self._exact(self.at_least)} to {self._exact(self.at_most)}"
        return f"{words} in {'every seed' if self.every_seed else 'the median'}"

    def passes(self, value: float) -> bool:
        """Whether one number is within the bounds; NaN never is."""
        if self.equals is not None:
            return abs(value - self.equals) <= self.within
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high

    def _exact(self, value: float) -> str:
        """A number of the config as ours are printed, except that it is not rounded."""
        comma = "," if "," in self.format else ""
        if self.format.endswith("%"):
            return f"{100 * value:{comma}.12g}%"
        return _with_unit(f"{value:{comma}.12g}", self.unit)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim; plain data, which claims.json holds.

    Attributes:
      text: the claim.
      paper: the paper's number.
      ours: our numbers, one per seed; NaN where a seed gave none.
      median: over the seeds that gave a number; NaN if none did.
      spread: the smallest and the largest of these.
      tolerance: what passes, in words.
      verdict: "reproduced", "not reproduced" or "not tested".
      preliminary: one seed or quick settings: no last word.
      reason: why it was not tested, or which numbers failed.
      unit: as in the claim.
      format: as in the claim.
      question: as in the claim.
    """

    text: str
    paper: str
    ours: list[float]
    median: float
    spread: tuple[float, float]
    tolerance: str
    verdict: Outcome
    preliminary: bool = False
    reason: str = ""
    unit: str = ""
    format: str = ".3g"
    question: bool = False

    @property
    def label(self) -> str:
        """The verdict as readers see it, "reproduced (preliminary)"."""
        if self.verdict == "not tested":
            return self.verdict
        words = _QUESTION_WORDS[self.verdict] if self.question else self.verdict
        return f"{words} (preliminary)" if self.preliminary else words

    @property
    def measured(self) -> str:
        """Our numbers as readers see them, "0.95 [0.93, 0.96] over 3 seeds"."""
        known = [value for value in self.ours if not math.isnan(value)]
        if not known:
            return "–"
        median, low, high = (
            format(value, self.format) for value in (self.median, *self.spread)
        )
        if len(self.ours) == 1:
            return _with_unit(median, self.unit)
        seeds = f"{len(self.ours)} seeds"
        if len(known) < len(self.ours):
            seeds = f"{len(known)} of {seeds}"
        return f"{_with_unit(median, self.unit)} [{low}, {high}] over {seeds}"


def judge(
    claims: Sequence[Claim], results: Mapping[str, Any], *, preliminary: bool = False
) -> list[Verdict]:
    """Judges every claim by the results there are, in the order of the claims.

    A claim is not tested if one of the arms it needs or asks for was not run, or if
    no seed gave a number. Every other error of a claim's function is raised: a metric
    with a wrong name is a mistake, not a result.

    Args:
      claims: what to judge.
      results: arm name -> result of that arm, for the arms that were run.
      preliminary: whether the settings were quick ones. A claim that read an arm with
        a single seed is preliminary in any case.

    Returns:
      One verdict per claim.

    Raises:
      ValueError: a claim's function returned an array with more than one axis.
    """
    return [_judge(claim, results, preliminary) for claim in claims]


def outcome(verdicts: Sequence[Verdict]) -> str:
    """The verdicts in one line: ``5 of 7 claims reproduced, 1 not reproduced, ...``."""
    claims = [v for v in verdicts if not v.question]
    questions = [v for v in verdicts if v.question]
    parts = []
    if claims:
        parts.append(_tally(claims, "claim", *_QUESTION_WORDS))
    if questions:
        parts.append(_tally(questions, "open question", *_QUESTION_WORDS.values()))
    tested = [v for v in verdicts if v.verdict != "not tested"]
    early = sum(v.preliminary for v in tested)
    if early:
        number = "all" if early == len(tested) else early
        parts.append(f"{number} preliminary")
    return "; ".join(parts) or "no claims"


def write_claims(verdicts: Sequence[Verdict], path: str | os.PathLike) -> None:
    """Writes claims.json, whole or not at all.

    Strict JSON, which has neither NaN (null here) nor infinities (strings here).
    """
    rows = [_encode(dataclasses.asdict(verdict)) for verdict in verdicts]
    text = json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, f"{text}\n")


def read_claims(path: str | os.PathLike) -> list[Verdict]:
    """Reads back what :func:`write_claims` wrote."""
    rows = json.loads(pathlib.Path(path).read_text("utf-8"))
    return [
        Verdict(
            **{
                **row,
                "ours": [_decode(value) for value in row["ours"]],
                "median": _decode(row["median"]),
                "spread": tuple(_decode(value) for value in row["spread"]),
            }
        )
        for row in rows
    ]


class _NotRun(KeyError):
    """An arm that was not run: the one error that excuses a claim."""


class _Arms(Mapping):
    """The results, knowing a missing arm from other errors, and what was read."""

    def __init__(self, results: Mapping[str, Any]):
        self._results = results
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._results:
            raise _NotRun(name)
        self.read.add(name)
        return self._results[name]

    def __contains__(self, name: object) -> bool:
        return name in self._results  # to ask is not to read

    def __iter__(self):
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


def _judge(claim: Claim, results: Mapping[str, Any], preliminary: bool) -> Verdict:
    arms = _Arms(results)
    missing = [name for name in claim.needs if name not in arms]
    values = np.zeros(0)
    if not missing:
        try:
            values = np.atleast_1d(np.asarray(claim.ours(arms), np.float64))
        except _NotRun as error:
            missing = [error.args[0]]
    if values.ndim != 1:
        raise ValueError(
            f"claim {claim.text!r}: ours has shape {values.shape}, expected one number "
            "per seed, (seeds,), or a single one, ()"
        )
    known = values[~np.isnan(values)].tolist()
    if missing:
        verdict, reason = "not tested", f"not run: {', '.join(missing)}"
    elif not known:
        verdict, reason = "not tested", "no seed gave a number"
    else:
        verdict, reason = _decide(claim, values.tolist())
    read = arms.read.union(name for name in claim.needs if name in arms)
    single = any(len(results[name].seeds) == 1 for name in read)
    return Verdict(
        text=claim.text,
        paper=claim.paper,
        ours=values.tolist(),
        median=statistics.median(known) if known else math.nan,
        spread=(min(known), max(known)) if known else (math.nan, math.nan),
        tolerance=claim.tolerance,
        verdict=verdict,
        preliminary=preliminary or single,
        reason=reason,
        unit=claim.unit,
        format=claim.format,
        question=claim.question,
    )


def _decide(claim: Claim, values: list[float]) -> tuple[Outcome, str]:
    """The verdict, and for a failure the numbers, rounded less than the table does."""
    if claim.every_seed:
        failed = [value for value in values if not claim.passes(value)]
        if not failed:
            return "reproduced", ""
        shown = ["no number" if math.isnan(v) else f"{v:.6g}" for v in failed]
        if len(shown) > 8:
            shown = [*shown[:6], "..."]
        return (
            "not reproduced",
            f"{len(failed)} of {len(values)} outside: {', '.join(shown)}",
        )
    # A seed without a number may lie anywhere: the median has to pass at both ends.
    ends = [
        statistics.median(end if math.isnan(value) else value for value in values)
        for end in (-math.inf, math.inf)
    ]
    if all(claim.passes(median) for median in ends):
        return "reproduced", ""
    lost = sum(math.isnan(value) for value in values)
    if lost:
        return "not reproduced", f"{lost} of {len(values)} gave no number"
    return "not reproduced", f"the median is {ends[0]:.6g}"


def _tally(verdicts: list[Verdict], noun: str, yes: str, no: str) -> str:
    counts = collections.Counter(v.verdict for v in verdicts)
    nouns = noun if len(verdicts) == 1 else f"{noun}s"
    parts = [f"{counts['reproduced']} of {len(verdicts)} {nouns} {yes}"]
    for key, words in (("not reproduced", no), ("not tested", "not tested")):
        if counts[key]:
            parts.append(f"{counts[key]} {words}")
    return ", ".join(parts)


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number


def _encode(value: Any) -> Any:
    """NaN to null, infinities to strings, everything else as it is."""
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _decode(value: float | str | None) -> float:
    return math.nan if value is None else float(value)
