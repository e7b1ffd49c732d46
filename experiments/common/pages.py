"""The generated parts of README pages, each between its marks.

``python -m experiments.common.pages`` writes them anew.
"""

import functools
import pathlib
import re

from experiments.common import papers, verdicts
from logitlab.losses import catalogue

ROOT = pathlib.Path(__file__).parents[2]
_MARKED = r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- /generated -->)"


def pages() -> list[pathlib.Path]:
    """Every page of documentation that stands beside the code."""
    folders = ("logitlab", "experiments", "configs", "colabs", "tests")
    rooms = [path for f in folders for path in (ROOT / f).rglob("README.md")]
    return [ROOT / "README.md", *sorted(rooms), *sorted(ROOT.glob(".github/**/*.md"))]


@functools.cache
def parts() -> dict[str, str]:
    """Every generated part, by the name in its mark."""
    more = {"catalogue": catalogue.page() + "\n", "papers": papers.table()}
    return verdicts.tables() | more


def shown(page: str) -> list[str]:
    """Names of the parts that a page has marks for."""
    return [name for _, name, _, _ in re.findall(_MARKED, page, re.S)]


def replaced(page: str) -> str:
    """The page with every part as it should be."""
    return re.sub(
        _MARKED, lambda found: found[1] + parts()[found[2]] + found[4], page, flags=re.S
    )


if __name__ == "__main__":
    for path in pages():
        path.write_text(replaced(path.read_text("utf-8")), "utf-8")
