import html.parser
import math
import re

import numpy as np
import pytest

from logitlab.report import Verdict, verdict_table, write_page

EVIL = "<script>alert('1 & 2')</script>\""
PNG = b"\x89PNG\r\n\x1a\n not much of a picture"


def verdict(word="reproduced", **fields):
    defaults = dict(
        text="It groks.",
        paper="100 % (figure 6)",
        reference="",
        ours=[0.94, 0.96],
        over="every",
        median=0.95,
        spread=(0.94, 0.96),
        mean=0.95,
        error=0.01,
        passed=2,
        tolerance="at least 0.9 in every seed",
    )
    if word == "not tested":
        defaults |= dict(ours=[], median=math.nan, spread=(math.nan, math.nan))
    return Verdict(verdict=word, **(defaults | fields))


@pytest.fixture
def write(tmp_path):
    def write(**fields):
        figure = tmp_path / "a.png"
        figure.write_bytes(PNG)
        defaults = dict(
            title="Grokking",
            summary="What was done.",
            verdicts=[verdict()],
            figures={"accuracy": figure},
            config_json="{}",
            environment={"jax": "0.10.2"},
            arms=[{"arm": "plain", "test/accuracy": 0.5}],
        )
        path = tmp_path / "report.html"
        write_page(path, **(defaults | fields))
        return path.read_text("utf-8")

    return write


class Page(html.parser.HTMLParser):
    """Tags in order, text, and whether every tag is closed by its own end."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_everything_is_on_the_page(write):
    verdicts = [
        verdict(),
        verdict("not reproduced", reason="1 of 2 outside: 0.8", preliminary=True),
        verdict("not tested", reason="not run: ortho"),
        verdict(question=True),
        verdict(paper="", reference="an earlier prototype of ours: 0.9"),
        verdict(paper="", reference="a bound of our own"),
        verdict("undecided", paper="", reference="theorem 1", over="mean"),
    ]
    text = write(
        verdicts=verdicts,
        captions={"accuracy": "Solid is test."},
        summary="First.\n\nSecond.",
        config_json='{"seed": 7}',
    )
    page = Page(text)
    assert page.open == []
    assert text.startswith("<!DOCTYPE html>")
    for words in [
        "1 of 3 claims of papers reproduced, 1 not reproduced, 1 not tested",
        "1 of 1 comparison with a prototype of ours met",
        "1 of 1 own expectation met",
        "✓ reproduced",
        "✗ not reproduced (preliminary)",
        "○ not tested",
        "✓ confirmed",
        "open question",
        "own expectation",
        "an earlier prototype of ours: 0.9",
        "~ undecided",
        "100 % (figure 6)",
        "0.95 [0.94, 0.96] over 2 seeds",
        "at least 0.9 in every seed",
        "1 of 2 outside: 0.8",
        "not run: ortho",
        "Solid is test.",
        "0.10.2",
        '{"seed": 7}',
    ]:
        assert words in page.text
    assert "details" in page.tags
    assert page.text.count("Second.") == 1
    assert ("class", "summary") in page.attributes
    assert "prefers-color-scheme: dark" in text


def test_the_page_needs_nothing_else(write):
    text = write()
    page = Page(text)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources == ["data:image/png;base64,iVBORw0KGgogbm90IG11Y2ggb2YgYSBwaWN0dXJl"]
    assert not {"script", "link", "iframe"} & {*page.tags}
    assert "url(" not in text
    assert "@import" not in text


def test_everything_is_escaped(write, tmp_path):
    figure = tmp_path / "b.png"
    figure.write_bytes(PNG)
    fields = dict(text=EVIL, paper=EVIL, tolerance=EVIL, reason=EVIL, unit=EVIL)
    text = write(
        title=EVIL,
        summary=EVIL,
        verdicts=[verdict("not reproduced", **fields)],
        figures={EVIL: figure, "named": figure},
        captions={"named": EVIL},
        config_json=EVIL,
        environment={EVIL: EVIL},
        arms=[{EVIL: EVIL}],
    )
    page = Page(text)
    assert "<script" not in text
    assert {*page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div"),
        *("table", "thead", "tbody", "tr", "th", "td", "span", "figure", "img"),
        *("figcaption", "details", "summary", "pre"),
    }
    assert page.open == []
    assert page.text.count(EVIL) == 15
    assert ("alt", EVIL) in page.attributes  # its quote did not end the attribute


def test_table_of_arms(write):
    rows = [
        {"arm": "plain", "accuracy": np.float32(0.123456), "steps": np.int64(60000)},
        {"arm": "ortho", "accuracy": math.nan, "steps": None, "grokked": True},
        {"arm": "third", "loss": np.inf},
    ]
    text = write(arms=rows, verdicts=[], figures={}, environment={})
    cells = re.findall(r"<t[hd]\b([^>]*)>(.*?)</t[hd]>", text)
    table = [("number" in attributes, cell) for attributes, cell in cells]
    assert [cell for _, cell in table] == [
        *("arm", "accuracy", "steps", "grokked", "loss"),
        *("plain", "0.1235", "60000", "–", "–"),
        *("ortho", "–", "–", "True", "–"),
        *("third", "–", "–", "–", "inf"),
    ]
    assert [number for number, _ in table] == [False, True, True, False, True] * 4


def test_empty_sections_are_left_out(write):
    text = write(arms=[], verdicts=[], figures={}, environment={}, summary="")
    assert re.findall("<h2>(.*?)</h2>", text) == ["Config"]
    assert "no claims" in text


def test_failed_write_leaves_the_old_page(write, tmp_path):
    old = write()
    with pytest.raises(FileNotFoundError):
        write(title="New", figures={"gone": tmp_path / "gone.png"})
    assert (tmp_path / "report.html").read_text("utf-8") == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "report.html"]


LONG = [
    verdict(text="Without the radial part of the gradient there is no delay. " * 3),
    verdict("not reproduced", reason="1 of 2 outside: 0.8", preliminary=True),
    verdict("not tested", reason="not run: ortho", paper=""),
]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_verdict_table_fits(width):
    lines = verdict_table(LONG, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "1 of 2 claims of papers" in lines[lines.index("") + 1]
    (rule,) = (line for line in lines if set(line) == {"-", " "})
    gaps = [i for i, character in enumerate(rule) if character == " "]
    for line in lines[: lines.index("")]:  # nothing is written between the columns
        assert all(line[i : i + 1] in ("", " ") for i in gaps)


def test_verdict_table_loses_nothing():
    lines = verdict_table(LONG, 90).splitlines()
    start = lines[1].index("--  --") + 4
    end = start + lines[1][start:].index(" ")
    column = " ".join(line[start:end].strip() for line in lines[2:-2])
    assert " ".join(LONG[0].text.split()) in " ".join(column.split())


def test_verdict_table_is_as_narrow_as_its_text():
    assert verdict_table([verdict()], 200).splitlines() == [
        "verdict       claim      reference         ours"
        "                            tolerance",
        "------------  ---------  ----------------  "
        "------------------------------  --------------------------",
        "✓ reproduced  It groks.  100 % (figure 6)  "
        "0.95 [0.94, 0.96] over 2 seeds  at least 0.9 in every seed",
        "",
        "1 of 1 claim of a paper reproduced",
    ]
    assert verdict_table([], 80).endswith("no claims")
    assert max(map(len, verdict_table(LONG, 10).splitlines())) == 5 * 8 + 4 * 2


def test_verdict_table_asks_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(len, verdict_table(LONG).splitlines())) <= 70
