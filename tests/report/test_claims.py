import json
import math
import types

import numpy as np
import pytest

from logitlab.report import (
    Claim,
    judge,
    outcome,
    read_claims,
    write_claims,
)
from logitlab.train.files import write_file


def arm(*values):
    """Stands in for an ArmResult: one point, a seed for each value."""
    return types.SimpleNamespace(seeds=tuple(range(len(values))), last=list(values))


def claim(arm="ortho", **fields):
    if not {"at_least", "at_most", "equals"} & fields.keys():
        fields["at_least"] = 0.9
    ours = fields.pop("ours", lambda results: results[arm].last)
    return Claim("It groks.", "100 % (figure 6)", ours, **fields)


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
    ],
)
def test_bounds_are_inclusive(bounds, value, passes):
    for rule in (True, False):
        got = verdict(value, value, every_seed=rule, **bounds)
        assert got.verdict == ("reproduced" if passes else "not reproduced")


@pytest.mark.parametrize("bound", [dict(at_least=0), dict(at_most=0), dict(equals=0)])
def test_nan_never_passes(bound):
    assert not claim(**bound).passes(math.nan)
    assert verdict(0, math.nan, 0, **bound).verdict == "not reproduced"


def test_every_seed_or_the_median():
    assert verdict(0.95, 0.8, 0.97).verdict == "not reproduced"
    got = verdict(0.95, 0.8, 0.97, every_seed=False)
    assert got.verdict == "reproduced"
    assert (got.median, got.spread, got.ours) == (0.95, (0.8, 0.97), [0.95, 0.8, 0.97])
    assert verdict(0.95, 0.8, every_seed=False).verdict == "not reproduced"  # 0.875


def test_a_lost_seed_counts_against_the_median():
    lost = math.nan
    bounds = dict(at_least=0.4, at_most=0.6, every_seed=False)
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
    assert verdict(0.8996, 0.8996, every_seed=False).reason == "the median is 0.8996"
    assert verdict(1.0, 1.0).reason == ""
    many = verdict(*(0.5 + 0.001 * i for i in range(100)))
    assert many.reason.startswith("100 of 100 outside: 0.5, 0.501, ")
    assert many.reason.endswith("0.505, ...")  # not all hundred


def test_one_number_for_all_seeds():
    got = judge(
        [claim(ours=lambda results: np.mean(results["ortho"].last))],
        {"ortho": arm(0.9, 1.0)},
    )[0]
    assert (got.verdict, got.ours, got.measured) == ("reproduced", [0.95], "0.95")
    assert not got.preliminary  # two seeds stand behind it


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
    assert judge([claim(ours=lambda r: [len(r)])], results)[0].ours == [1.0]


@pytest.mark.parametrize("values", [(), (math.nan,), (math.nan, math.nan)])
def test_no_numbers(values):
    for rule in (True, False):
        got = verdict(*values, every_seed=rule)
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
        (dict(equals=3, every_seed=False), "equal to 3 in the median"),
        (dict(equals=0.5, within=0.1, format=".0%"), "50% ± 10% in every seed"),
        (dict(at_most=5000, format=",.0f"), "at most 5,000 in every seed"),
    ],
)
def test_tolerance_in_words(fields, tolerance):
    assert claim(**fields).tolerance == tolerance
    assert verdict(1, **fields).tolerance == tolerance


def test_measured_in_words():
    assert verdict(0.941, 0.96, format=".1%").measured == (
        "95.0% [94.1%, 96.0%] over 2 seeds"
    )
    got = verdict(4800, 5200, 5000, at_most=1e4, unit="steps", format=",.0f")
    assert got.measured == "5,000 steps [4,800, 5,200] over 3 seeds"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(at_least=None), "at_least is missing, and so are at_most and equals"),
        (dict(at_least=2, at_most=1), "at_least 2 > at_most 1"),
        (dict(at_least=1, equals=1), "equals cannot stand beside"),
        (dict(at_most=1, equals=1), "equals cannot stand beside"),
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


def test_outcome():
    yes, no, untested = verdict(1, 1), verdict(0, 0), verdict()
    early, question = verdict(1), verdict(1, 1, question=True)
    assert outcome([]) == "no claims"
    assert outcome([yes]) == "1 of 1 claim reproduced"
    assert outcome([yes, no, untested, yes]) == (
        "2 of 4 claims reproduced, 1 not reproduced, 1 not tested"
    )
    assert outcome([early, untested]) == (
        "1 of 2 claims reproduced, 1 not tested; all preliminary"
    )
    assert outcome([early, yes]) == "2 of 2 claims reproduced; 1 preliminary"
    assert outcome([no, question, verdict(0, 0, question=True)]) == (
        "0 of 1 claim reproduced, 1 not reproduced; "
        "1 of 2 open questions confirmed, 1 not confirmed"
    )


def test_claims_json(tmp_path):
    path = tmp_path / "run" / "claims.json"  # the folder is made
    numbers = [1.5, math.nan, math.inf, -math.inf]
    last = verdict(0.1 + 0.2, question=True, unit="°")
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
