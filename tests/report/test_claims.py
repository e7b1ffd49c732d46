import json
import math
import types

import numpy as np
import pytest

from logitlab.report import (
    Claim,
    ahead,
    judge,
    outcome,
    read_claims,
    smallest_mean,
    write_claims,
)
from logitlab.train.files import write_file


def arm(*values):
    """Stands in for an ArmResult: one point, a seed for each value."""
    return types.SimpleNamespace(seeds=tuple(range(len(values))), last=list(values))


def claim(arm="ortho", **fields):
    if not {"at_least", "at_most", "equals", "above"} & fields.keys():
        fields["at_least"] = 0.9
    fields = {
        "ours": lambda results: results[arm].last,
        "paper": "100 % (figure 6)",
        **fields,
    }
    return Claim("It groks.", **fields)


def verdict(*values, preliminary=False, **fields):
    return judge([claim(**fields)], {"ortho": arm(*values)}, preliminary=preliminary)[0]


@pytest.mark.parametrize(
    ("bounds", "value", "passes"),
    [
        (dict(at_least=0.9), 0.9, True),
        (dict(at_least=0.9), np.nextafter(0.9, 0), False),
        (dict(at_least=0.0), 0.0, True),
        (dict(at_most=0.0), 0.0, True),
        (dict(at_most=0.2), np.nextafter(0.2, 1), False),
        (dict(at_least=1, at_most=2), 1, True),
        (dict(at_least=1, at_most=2), 2, True),
        (dict(at_least=1, at_most=2), 2.1, False),
        (dict(at_least=1, at_most=1), 1, True),
        (dict(equals=3), 3, True),
        (dict(equals=3), 3.0000001, False),
        (dict(equals=0.5, within=0.25), 0.75, True),
        (dict(equals=0.5, within=0.25), 0.25, True),
        (dict(equals=0.5, within=0.25), 0.7500001, False),
        (dict(at_least=0.9), math.inf, True),
        (dict(at_least=0.9, at_most=5), math.inf, False),
        (dict(at_most=0.9), -math.inf, True),
        (dict(equals=3, within=1), math.inf, False),
        (dict(above=0.0), 0.0, False),
        (dict(above=0.0), np.nextafter(0, 1), True),
        (dict(above=0.0), -1.0, False),
    ],
)
def test_bounds_are_inclusive(bounds, value, passes):
    expected = "reproduced" if passes else "not reproduced"
    for over in ("every", "median", "mean"):
        assert verdict(value, value, over=over, **bounds).verdict == expected
    got = verdict(value, value, over="share", share=1, **bounds)
    assert (got.verdict, got.passed) == (expected, 2 * passes)
    one = claim(over="all", ours=lambda results: value, **bounds)
    assert judge([one], {"ortho": arm(1, 2)})[0].verdict == expected


@pytest.mark.parametrize(
    "bound", [dict(at_least=0), dict(at_most=0), dict(equals=0), dict(above=-1)]
)
def test_nan_never_passes(bound):
    assert not claim(**bound).passes(math.nan)
    assert verdict(0, math.nan, 0, **bound).verdict == "not reproduced"
    lost = verdict(0, math.nan, 0, over="mean", **bound)
    assert (lost.verdict, lost.mean) == ("not reproduced", 0)
    assert lost.reason == "1 of 3 gave no number"
    most = dict(over="share", **bound)
    assert verdict(0, math.nan, 0, share=2 / 3, **most).verdict == "reproduced"
    assert verdict(0, math.nan, 0, share=0.7, **most).verdict == "not reproduced"


def test_the_mean_states_its_error_and_does_not_hang_on_less_than_one():
    gains = 3.0, 1.0, 5.0, 3.0  # 3 ± sqrt(8 / 3) / 2
    got = verdict(*gains, over="mean", at_least=2, unit="points")
    assert (got.verdict, got.mean, got.ours) == ("reproduced", 3, list(gains))
    np.testing.assert_allclose(got.error, np.sqrt(8 / 3) / 2)
    assert (got.median, got.spread, got.passed) == (3, (1, 5), 3)
    assert got.measured == "3 ± 0.82 points over 4 seeds"
    assert got.tolerance == "at least 2 points in the mean over 4 seeds"
    near = [dict(at_least=2.5), dict(at_least=3.5), dict(at_most=3), dict(above=3)]
    near += [dict(equals=3), dict(equals=5, within=2), dict(at_least=0, at_most=3.5)]
    for bounds in near:
        got = verdict(*gains, over="mean", **bounds)
        assert (got.verdict, got.label) == ("undecided", "undecided")
        assert got.reason == "3 ± 0.82 is within one standard error of the bound"
    for bounds in (dict(at_least=4), dict(at_most=2), dict(equals=1, within=0.5)):
        got = verdict(*gains, over="mean", **bounds)
        assert (got.verdict, got.reason) == ("not reproduced", "the mean is 3 ± 0.82")
    # Without a spread there is nothing to be within: the bound itself passes.
    assert verdict(1, 1, over="mean", at_least=1).verdict == "reproduced"
    alone = verdict(1, over="mean", at_least=2)
    assert (alone.label, alone.reason) == (
        "not reproduced (preliminary)",
        "the mean is 1",
    )
    assert math.isnan(alone.error)


def test_a_share_of_the_seeds():
    got = verdict(1, 0, 2, 3, over="share", share=0.75, above=0, unit="points")
    assert (got.verdict, got.passed, got.reason) == ("reproduced", 3, "")
    assert got.measured == "1.5 points [0, 3] over 4 seeds, 3 of which pass"
    assert got.tolerance == "above 0 points in at least 75% of 4 seeds"
    got = verdict(1, 0, 0, 3, over="share", share=0.75, above=0)
    assert (got.verdict, got.reason) == ("not reproduced", "2 of 4 pass")


def test_every_seed_or_the_median():
    assert verdict(0.95, 0.8, 0.97).verdict == "not reproduced"
    got = verdict(0.95, 0.8, 0.97, over="median")
    assert got.verdict == "reproduced"
    assert (got.median, got.spread, got.ours) == (0.95, (0.8, 0.97), [0.95, 0.8, 0.97])
    assert verdict(0.95, 0.8, over="median").verdict == "not reproduced"  # 0.875


def test_a_lost_seed_counts_against_the_median():
    lost = math.nan
    bounds = dict(at_least=0.4, at_most=0.6, over="median")
    assert verdict(0.5, lost, 0.5, **bounds).verdict == "reproduced"
    assert verdict(0.5, lost, 0.7, **bounds).verdict == "not reproduced"  # 0.5 or 0.7
    assert verdict(0.5, lost, 0.3, **bounds).verdict == "not reproduced"  # 0.3 or 0.5
    got = verdict(0.5, lost, **bounds)  # anything
    assert (got.verdict, got.reason) == ("not reproduced", "1 of 2 gave no number")
    assert got.median == 0.5


def test_reason_shows_what_rounding_would_hide():
    got = verdict(0.8996, 0.95, math.nan)
    assert got.measured == "0.925 [0.9, 0.95] over 2 of 3 seeds"
    assert got.reason == "2 of 3 outside: 0.8996, no number"
    assert verdict(0.8996, 0.8996, over="median").reason == "the median is 0.8996"
    assert verdict(1.0, 1.0).reason == ""
    many = verdict(*(0.5 + 0.001 * i for i in range(100)))
    assert many.reason.startswith("100 of 100 outside: 0.5, 0.501, ")
    assert many.reason.endswith("0.505, ...")  # not all hundred


def test_a_number_for_each_seed_or_one_by_nature():
    def mean(results):
        return np.mean(results["ortho"].last)

    results = {"ortho": arm(0.9, 1.0)}
    got = judge([claim(over="all", ours=mean)], results)[0]
    assert (got.verdict, got.ours, got.measured) == ("reproduced", [0.95], "0.95")
    assert got.tolerance == "at least 0.9 over all seeds"
    assert not got.preliminary  # two seeds stand behind it
    failed = judge([claim(over="all", ours=mean, at_least=1)], results)[0]
    assert failed.reason == "it is 0.95"
    for over in ("every", "median", "mean"):
        with pytest.raises(ValueError, match=r"shape \(1,\), expected .*\(2,\); over="):
            judge([claim(over=over, ours=mean)], results)
    with pytest.raises(ValueError, match=r"shape \(2,\), expected one number for all"):
        judge([claim(over="all")], results)
    both = claim(ours=lambda r: r["ortho"].last, needs=("ortho", "more"))
    with pytest.raises(ValueError, match=r"expected one number .* \(2 and 3,\)"):
        judge([both], {**results, "more": arm(1, 2, 3)})


def test_ahead_seed_by_seed():
    one, two = (
        types.SimpleNamespace(seeds=(0, 1), final=lambda name, a=a: np.array(a))
        for a in ([0.5, 0.75], [0.25, 1.0])
    )
    results = {"a": one, "b": two}
    np.testing.assert_array_equal(ahead("m", "a", "b")(results), [0.25, -0.25])
    ours = ahead("m", "a", "b", scale=100, times=0.5)
    np.testing.assert_array_equal(ours(results), [37.5, 25])
    got = judge([claim(ours=ours, at_least=20)], results)[0]
    assert (got.verdict, got.ours) == ("reproduced", [37.5, 25])


def test_the_hardest_case_keeps_its_seeds():
    rows = [[1.0, 2.0], [5.0, -4.0], [0.0, 2.0]]
    np.testing.assert_array_equal(smallest_mean(rows), [5, -4])


def test_missing_arms():
    results = {"plain": arm(0.1, 0.2)}
    asked, needed, both = judge(
        [claim(), claim("plain", needs=("plain", "ortho")), claim(needs=("a", "b"))],
        results,
    )
    assert (asked.verdict, asked.reason) == ("not tested", "not run: ortho")
    assert (needed.verdict, needed.reason) == ("not tested", "not run: ortho")
    assert both.reason == "not run: a, b"
    assert asked.ours == []
    assert asked.measured == "–"
    assert math.isnan(asked.median)
    assert np.isnan(asked.spread).all()
    # Asking whether an arm is there is no error, and no reason.
    optional = claim(ours=lambda r: r["ortho"].last if "ortho" in r else [])
    assert judge([optional], results)[0].reason == "no seed gave a number"
    assert judge([claim(ours=lambda r: [len(r)] * 2)], results)[0].ours == [1.0] * 2


@pytest.mark.parametrize("values", [(), (math.nan,), (math.nan, math.nan)])
def test_no_numbers(values):
    for over in ("every", "median", "mean", "all"):
        got = verdict(*values, over=over)
        assert (got.verdict, got.reason) == ("not tested", "no seed gave a number")


def test_other_errors_propagate():
    def wrong_metric(results):
        return {"test/accuracy": 1}[results["ortho"] and "test/acuracy"]

    with pytest.raises(KeyError, match="acuracy"):
        judge([claim(ours=wrong_metric)], {"ortho": arm(1)})
    with pytest.raises(ZeroDivisionError):
        judge([claim(ours=lambda results: 1 / 0)], {})
    with pytest.raises(ValueError, match=r"shape \(2, 1\), expected"):
        judge([claim(ours=lambda results: np.ones((2, 1)))], {})


def test_preliminary():
    assert verdict(1, 1).label == "reproduced"
    assert verdict(1, 1, preliminary=True).label == "reproduced (preliminary)"
    assert verdict(0, 1, preliminary=True).label == "not reproduced (preliminary)"
    assert verdict(1).label == "reproduced (preliminary)"  # one seed
    assert verdict(preliminary=True).label == "not tested"
    needs = claim(ours=lambda results: 1.0, needs=("ortho",))
    assert judge([needs], {"ortho": arm(1)})[0].preliminary


def test_a_smoke_run_judges_nothing():
    got = judge([claim()], {"ortho": arm(1, 1)}, preliminary=True, smoke=True)[0]
    assert (got.verdict, got.label) == ("not judged", "not judged: smoke")
    assert got.reason == ""
    assert got.ours == [1, 1]
    assert outcome([got]) == "1 claim not judged: smoke"
    assert outcome([got, got]) == "2 claims not judged: smoke"


def test_a_chosen_seed_is_said_to_be_chosen():
    results, why = {"ortho": arm(1, 1)}, "the fastest of three"
    got = judge([claim()], results, chosen_seed=why)[0]
    assert got.label == "reproduced (chosen seed)"
    early = judge([claim()], results, preliminary=True, chosen_seed=why)[0]
    assert early.label == "reproduced (preliminary, chosen seed)"
    assert outcome([got, got]) == (
        "2 of 2 claims of papers reproduced; chosen seed: the fastest of three"
    )
    assert judge([claim()], results)[0].label == "reproduced"


@pytest.mark.parametrize(
    ("fields", "kind", "yes", "no"),
    [
        (dict(), "paper", "reproduced", "not reproduced"),
        (
            dict(reference="theorem 4.2"),
            "paper",
            "reproduced",
            "not reproduced",
        ),
        (
            dict(paper="", reference="theorem: O(log n)"),
            "theorem",
            "confirmed",
            "not confirmed",
        ),
        (
            dict(paper="", reference="identity"),
            "theorem",
            "confirmed",
            "not confirmed",
        ),
        (
            dict(paper="", reference="an earlier prototype of ours: 3"),
            "prototype",
            "met",
            "not met",
        ),
        (
            dict(
                paper="",
                reference="the paper says so without a number: it is ahead; "
                "an earlier prototype of ours: 3",
            ),
            "prototype",
            "met",
            "not met",
        ),
        (
            dict(paper="", reference="the paper says so without a number: ahead"),
            "own",
            "met",
            "not met",
        ),
        (dict(paper="", reference="a bound of our own"), "own", "met", "not met"),
        (dict(question=True), "question", "confirmed", "not confirmed"),
        (
            dict(paper="", question=True),
            "question",
            "confirmed",
            "not confirmed",
        ),
    ],
)
def test_kinds_of_references(fields, kind, yes, no):
    assert claim(**fields).kind == kind
    assert verdict(1, 1, **fields).kind == kind
    assert verdict(1, 1, **fields).label == yes
    assert verdict(0, 0, **fields).label == no


def test_what_is_cited():
    assert claim().cited == "100 % (figure 6)"
    assert claim(reference="ours: 3").cited == "100 % (figure 6); ours: 3"
    assert claim(paper="", reference="ours: 3").cited == "ours: 3"
    assert claim(paper="", question=True).cited == ""


def test_open_questions():
    assert verdict(1, 1, question=True).label == "confirmed"
    assert verdict(1, 1, question=True).verdict == "reproduced"
    assert verdict(1, question=True).label == "confirmed (preliminary)"
    assert verdict(0, 0, question=True).label == "not confirmed"
    assert verdict(question=True).label == "not tested"


@pytest.mark.parametrize(
    ("fields", "tolerance"),
    [
        (dict(at_least=0.9), "at least 0.9 in every seed"),
        (dict(at_most=0.99955), "at most 0.99955 in every seed"),  # not rounded to 1
        (dict(at_least=1, at_most=2, unit="bits"), "1 bits to 2 bits in every seed"),
        (dict(equals=3, over="median"), "equal to 3 in the median over 3 seeds"),
        (dict(above=3, over="mean"), "above 3 in the mean over 3 seeds"),
        (
            dict(above=0, over="share", share=14 / 16, unit="points"),
            "above 0 points in at least 87.5% of 3 seeds",
        ),
        (dict(equals=0.5, within=0.1, format=".0%"), "50% ± 10% in every seed"),
        (dict(at_least=-0.0, format=".2%"), "at least 0% in every seed"),
        (dict(at_most=5000, format=",.0f"), "at most 5,000 in every seed"),
    ],
)
def test_tolerance_in_words(fields, tolerance):
    assert claim(**fields).tolerance(3) == tolerance
    assert verdict(1, 1, 1, **fields).tolerance == tolerance


def test_measured_in_words():
    assert verdict(0.941, 0.96, format=".1%").measured == (
        "95.0% [94.1%, 96.0%] over 2 seeds"
    )
    got = verdict(4800, 5200, 5000, at_most=1e4, unit="steps", format=",.0f")
    assert got.measured == "5,000 steps [4,800, 5,200] over 3 seeds"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(at_least=None), "at_least is missing, and so are at_most, equals and "),
        (dict(at_least=2, at_most=1), "at_least 2 > at_most 1"),
        (dict(at_least=1, equals=1), "equals cannot stand beside"),
        (dict(at_most=1, equals=1), "equals cannot stand beside at_most"),
        (dict(at_most=1, above=0), "above cannot stand beside at_most"),
        (dict(equals=1, above=0), "equals cannot stand beside above"),
        (dict(above=math.inf), "above is inf"),
        (dict(at_least=1, over="each"), "over is 'each', expected one of every, "),
        (dict(at_least=1, over="share"), "share is None, expected above 0"),
        (dict(at_least=1, over="share", share=1.5), "share is 1.5, expected"),
        (dict(at_least=1, share=0.5), 'share stands without over="share"'),
        (dict(at_least=1, paper=""), "reference is empty, and so is paper"),
        (dict(at_least=math.nan), "at_least is nan"),
        (dict(at_most=math.inf), "at_most is inf"),
        (dict(equals=math.nan), "equals is nan"),
        (dict(equals=1, within=-1), "within is -1"),
        (dict(equals=1, within=math.nan), "within is nan"),
        (dict(at_least=1, within=0.1), "within stands without equals"),
        (dict(at_least=1, needs="ortho"), "needs is the string 'ortho'"),
        (dict(at_least=1, format="d"), "format 'd' prints no float"),
    ],
)
def test_senseless_claims(fields, message):
    with pytest.raises(ValueError, match=f"It groks.*{message}"):
        claim(**fields)


def test_outcome_counts_each_kind_apart():
    yes, no, untested = verdict(1, 1), verdict(0, 0), verdict()
    early, question = verdict(1), verdict(1, 1, question=True)
    own = dict(paper="", reference="a bound of our own")
    before = dict(paper="", reference="an earlier prototype of ours: 1")
    proved = dict(paper="", reference="theorem: it is 1")
    assert outcome([]) == "no claims"
    assert outcome([yes]) == "1 of 1 claim of a paper reproduced"
    assert outcome([yes, no, untested, yes]) == (
        "2 of 4 claims of papers reproduced, 1 not reproduced, 1 not tested"
    )
    assert outcome([early, untested]) == (
        "1 of 2 claims of papers reproduced, 1 not tested; all preliminary"
    )
    assert outcome([early, yes]) == "2 of 2 claims of papers reproduced; 1 preliminary"
    assert outcome([no, question, verdict(0, 0, question=True)]) == (
        "0 of 1 claim of a paper reproduced, 1 not reproduced; "
        "1 of 2 open questions confirmed, 1 not confirmed"
    )
    between = verdict(1, 3, over="mean", at_least=2)
    assert outcome([between, verdict(1, 1, **own), verdict(0, 0, **own), yes]) == (
        "1 of 2 claims of papers reproduced, 1 undecided; "
        "1 of 2 own expectations met, 1 not met"
    )
    assert outcome([verdict(1, 1, **proved)]) == "1 of 1 theorem confirmed"
    assert outcome([verdict(1, 1, **before), verdict(1, 1, **own)]) == (
        "1 of 1 comparison with a prototype of ours met; 1 of 1 own expectation met"
    )


def test_claims_json(tmp_path):
    path = tmp_path / "run" / "claims.json"  # the folder is made
    numbers = [1.5, math.nan, math.inf, -math.inf]
    last = verdict(0.1 + 0.2, 1, question=True, unit="°", over="mean")
    verdicts = [verdict(*numbers), verdict(), last]
    write_claims(verdicts, path)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    rows = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert rows[0]["ours"] == [1.5, None, "inf", "-inf"]
    assert rows[1]["median"] is None
    assert "°" in path.read_text("utf-8")
    got = read_claims(path)
    np.testing.assert_array_equal(got[0].ours, numbers)
    assert repr(got) == repr(verdicts)  # NaN is not equal to NaN, but looks like it
    assert got[2] == last


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "claims.json"
    write_file(path, b"old")

    def full(descriptor):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space"):
            write_claims([verdict(1, 1)], path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]  # no draft stays behind
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
