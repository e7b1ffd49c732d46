"""Judges claims by the results of a study."""

import collections
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from logitlab.report.claims import WORDS, Claim, Outcome, Verdict


def judge(
    claims: Sequence[Claim],
    results: Mapping[str, Any],
    *,
    preliminary: bool = False,
    smoke: bool = False,
    chosen_seed: str = "",
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
      smoke: whether the run was only to see that everything runs; then no claim is
        judged, though the numbers are shown.
      chosen_seed: how the first seed was chosen, if it was chosen by what it gives.

    Returns:
      One verdict per claim.

    Raises:
      ValueError: a claim's function returned an array with more than one axis, or
        another number of numbers than there are seeds.
    """
    return [_judge(claim, results, preliminary, smoke, chosen_seed) for claim in claims]


def outcome(verdicts: Sequence[Verdict]) -> str:
    """The verdicts in one line, each kind by itself.

    As in ``5 of 7 claims of papers reproduced, 1 undecided, ...; 2 of 2 own
    expectations met``.
    """
    parts = []
    judged = [v for v in verdicts if v.verdict != "not judged"]
    for kind, (one, several, yes, no) in WORDS.items():
        counted = [v for v in judged if v.kind == kind]
        if counted:
            noun = one if len(counted) == 1 else several
            parts.append(_tally(counted, noun, yes, no))
    tested = [v for v in judged if v.verdict != "not tested"]
    early = sum(v.preliminary for v in tested)
    if early:
        number = "all" if early == len(tested) else early
        parts.append(f"{number} preliminary")
    parts += dict.fromkeys(
        f"chosen seed: {v.chosen_seed}" for v in tested if v.chosen_seed
    )
    if left := len(verdicts) - len(judged):
        parts.append(f"{left} {'claim' if left == 1 else 'claims'} not judged: smoke")
    return "; ".join(parts) or "no claims"


class _NotRun(KeyError):
    """An arm that was not run: the one error that makes a claim "not tested"."""


class _Arms(Mapping):
    """The results, with an error of its own for missing arms, and a record of reads."""

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


def _judge(
    claim: Claim, results, preliminary: bool, smoke: bool, chosen_seed: str
) -> Verdict:
    arms = _Arms(results)
    missing = [name for name in claim.needs if name not in arms]
    values = np.zeros(0)
    if not missing:
        try:
            values = np.atleast_1d(np.asarray(claim.ours(arms), np.float64))
        except _NotRun as error:
            missing = [error.args[0]]
    read = arms.read.union(name for name in claim.needs if name in arms)
    seeds = {len(results[name].seeds) for name in read}
    known = values[~np.isnan(values)].tolist()
    _check_seeds(claim, values, seeds)
    if missing:
        verdict, reason = "not tested", f"not run: {', '.join(missing)}"
    elif smoke:
        verdict, reason = "not judged", ""
    elif not known:
        verdict, reason = "not tested", "no seed gave a number"
    else:
        verdict, reason = _decide(claim, values.tolist())
    mean, error = _mean_and_error(known)
    return Verdict(
        text=claim.text,
        paper=claim.paper,
        reference=claim.reference,
        ours=values.tolist(),
        over=claim.over,
        median=statistics.median(known) if known else math.nan,
        spread=(min(known), max(known)) if known else (math.nan, math.nan),
        mean=mean,
        error=error,
        passed=sum(map(claim.passes, known)),
        tolerance=claim.tolerance(len(values)),
        verdict=verdict,
        preliminary=preliminary or 1 in seeds,
        reason=reason,
        unit=claim.unit,
        format=claim.format,
        question=claim.question,
        chosen_seed=chosen_seed,
    )


def _check_seeds(claim: Claim, values: np.ndarray, seeds: set[int]):
    """One number for each seed, unless there is none or one by nature."""
    expected = {1} if claim.over == "all" else seeds or {values.size}
    if values.ndim == 1 and (np.isnan(values).all() or {values.size} == expected):
        return
    words = "one number for all seeds, ()"
    if claim.over != "all":
        counts = " and ".join(map(str, sorted(expected)))
        words = f"one number for each seed, ({counts},); over={claim.over!r}"
    raise ValueError(
        f"claim {claim.text!r}: ours has shape {values.shape}, expected {words}"
    )


def _mean_and_error(known: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, NaN where there is none."""
    if not known:
        return math.nan, math.nan
    with np.errstate(invalid="ignore"):  # infinities of both signs have none
        mean = float(np.mean(known))
    if len(known) < 2 or not math.isfinite(mean):
        return mean, math.nan
    return mean, float(np.std(known, ddof=1) / len(known) ** 0.5)


def _decide(claim: Claim, values: list[float]) -> tuple[Outcome, str]:
    """The verdict, and for a failure the numbers, rounded less than the table does."""
    passed = [claim.passes(value) for value in values]
    lost = sum(math.isnan(value) for value in values)
    if claim.over == "mean":
        return _decide_mean(claim, values, lost)
    if claim.over == "share":
        if sum(passed) >= claim.share * len(values):
            return "reproduced", ""
        return "not reproduced", f"{sum(passed)} of {len(values)} pass"
    if claim.over == "median":
        # A seed without a number may lie anywhere: both ends have to pass.
        ends = [
            statistics.median(end if math.isnan(value) else value for value in values)
            for end in (-math.inf, math.inf)
        ]
        if all(claim.passes(median) for median in ends):
            return "reproduced", ""
        if lost:
            return "not reproduced", f"{lost} of {len(values)} gave no number"
        return "not reproduced", f"the median is {ends[0]:.6g}"
    failed = [v for v, passes in zip(values, passed, strict=True) if not passes]
    if not failed:
        return "reproduced", ""
    shown = ["no number" if math.isnan(v) else f"{v:.6g}" for v in failed]
    if claim.over == "all":
        return "not reproduced", f"it is {shown[0]}"
    if len(shown) > 8:
        shown = [*shown[:6], "..."]
    return (
        "not reproduced",
        f"{len(failed)} of {len(values)} outside: {', '.join(shown)}",
    )


def _decide_mean(claim: Claim, values: list[float], lost: int) -> tuple[Outcome, str]:
    if lost:  # they may lie anywhere
        return "not reproduced", f"{lost} of {len(values)} gave no number"
    mean, error = _mean_and_error(values)
    known = f"{mean:.6g}" if math.isnan(error) else f"{mean:.6g} ± {error:.2g}"
    # With a single seed there is no standard error, and the mean decides alone.
    if any(abs(mean - bound) < error for bound in claim.bounds):
        return "undecided", f"{known} is within one standard error of the bound"
    if claim.passes(mean):
        return "reproduced", ""
    return "not reproduced", f"the mean is {known}"


def _tally(verdicts: list[Verdict], noun: str, yes: str, no: str) -> str:
    counts = collections.Counter(v.verdict for v in verdicts)
    parts = [f"{counts['reproduced']} of {len(verdicts)} {noun} {yes}"]
    words = {"not reproduced": no, "undecided": "undecided", "not tested": "not tested"}
    parts += [f"{counts[key]} {word}" for key, word in words.items() if counts[key]]
    return ", ".join(parts)
