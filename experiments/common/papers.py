"""The index of papers: what implements each of them, and which study tests it.

Everything is read from where it stands: the catalogue's rows, the ``Source:`` of every
public function, the ``Source:`` of every study, and the kept verdicts.
"""

import collections
import dataclasses
import importlib
import inspect
import re

import logitlab
from experiments.common import studies, verdicts
from logitlab.losses.catalogue import CATALOGUE

# A study tests all sources of its module, but for these families and variants.
TESTED = {
    "checkered": ("2309.15298",),
    "checkered:checkerboard": ("2309.15298", "Achab 2022"),
    "classification:ensloss": ("EnsLoss, ICML 2025",),
    "classification:noise": ("2304.07288", "1805.07836"),
    "distillation:digits": (
        *("1503.02531", "2203.08679", "2205.10536", "2303.13005"),
        *("2403.01427", "2411.08937", "2506.12542"),
    ),
    "distillation:mnist1d": (
        *("1503.02531", "2203.08679", "2205.10536", "2303.13005"),
        *("2403.01427", "2506.12542"),
    ),
    "distillation:scales": ("1503.02531", "2403.01427"),
    "distillation:vocabularies": ("2402.12030", "2505.13893"),
    "distillation:self_knowledge": ("2303.13005",),
    "distillation:cnn": ("1503.02531", "2303.13005"),
    "distillation:vit": ("1503.02531", "2303.13005"),
}
TITLES = {  # arXiv id or title -> a title that says more, or that others use
    "1301.3781": "Mikolov et al. 2013",
    "1412.2007": "Jean et al. 2015",
    "2306.04140": "Increasing Diversity While Maintaining Accuracy, Chung et al. 2023",
    "2510.09354": "Think Logit, Zhang et al. 2025",
    "2506.03309": "position auctions",
    "2510.18855": "masked importance weights",
    "2206.00364": "EDM, Karras et al. 2022",
    "2307.09288": "Llama 2, Touvron et al. 2023",
    "2410.10989": "Liger-Kernel, Hsu et al. 2024",
    "Faletto and Bien, ICML 2023": "PRESTO, Faletto and Bien, ICML 2023",
    (
        "Predicting Rare Events by Shrinking Towards Proportional Odds, Faletto and "
        "Bien, ICML 2023"
    ): "PRESTO, Faletto and Bien, ICML 2023",
    "RankSEG, Dai and Li, JMLR 24 (2023)": "RankSEG, Dai and Li 2023",
    (
        'the algorithm is that of Johnson 2013, "A dynamic programming algorithm for '
        'the fused lasso and L0-segmentation"'
    ): "Johnson 2013",
}
_ID = r"\d{4}\.\d{4,5}|cs/\d{7}"


@dataclasses.dataclass
class Paper:
    """One line of the index.

    Attributes:
      title: authors and year, as far as the sources name them.
      arxiv: the id, or empty.
      functions: public names, such as "losses.kd_loss".
      variants: studies with kept results, such as "distillation:digits".
    """

    title: str = ""
    arxiv: str = ""
    functions: list[str] = dataclasses.field(default_factory=list)
    variants: list[str] = dataclasses.field(default_factory=list)


def papers() -> list[Paper]:
    """Every paper that a function or a kept study names, by title."""
    found: dict[str, Paper] = collections.defaultdict(Paper)

    def meet(text):
        for title, arxiv in cited(text):
            title = TITLES.get(arxiv or title, title)
            paper = found[arxiv or title]
            paper.title, paper.arxiv = paper.title or title, arxiv
            yield paper

    for row in CATALOGUE.values():  # their titles come first
        for paper in meet(row.source):
            room = row.loss.__module__.split(".")[1]
            paper.functions.append(f"{room}.{row.name}")
    for name in _kept():
        module = importlib.import_module(f"experiments.{_experiment(name)}")
        for paper in meet(_source(module.__doc__)):
            key = paper.arxiv or paper.title
            family = name.partition(":")[0]
            if key in TESTED.get(name, TESTED.get(family, (key,))):
                paper.variants.append(name)
    for room in (*logitlab.__all__, "data", "models"):
        module = importlib.import_module(f"logitlab.{room}")
        for name in module.__all__:
            for paper in meet(_source(getattr(module, name).__doc__)):
                rowed = name in CATALOGUE and not paper.arxiv  # the row names it better
                if not rowed and f"{room}.{name}" not in paper.functions:
                    paper.functions.append(f"{room}.{name}")
    named = [paper for paper in found.values() if paper.functions or paper.variants]
    return sorted(named, key=lambda paper: (paper.title.lower(), paper.arxiv))


def table() -> str:
    """The index as a markdown table, every cell filled."""
    header = ["paper", "arXiv", "functions", "configuration", "verdicts", "results"]
    lines = [header, ["---"] * len(header)]
    for paper in papers():
        link = f"[{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
        functions = ", ".join(f"`{name}`" for name in paper.functions)
        lines.append(
            [
                paper.title,
                link if paper.arxiv else "not on arXiv",
                functions or "the study alone",
                _each(paper, lambda name: f"`{name}`"),
                _each(paper, verdicts.summary),
                _each(
                    paper, lambda name: f"[results](results/{name.replace(':', '/')})"
                ),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cited(text: str) -> list[tuple[str, str]]:
    """(title, arXiv id) of each paper that a source names; the id may be empty."""
    found = []
    for item in text.split(";"):
        parts = re.findall(rf"(.*?)arXiv:({_ID})", item)
        found += [(_title(title), arxiv) for title, arxiv in parts]
        if not parts and re.search(r"\b(19|20)\d\d\b", item):
            found.append((_title(item), ""))
    return found


def _title(text):
    """Without what the paper is cited for, and where its code is."""
    text = re.sub(r"^[\s,.]*(and |also |or )?", "", text)
    text = re.sub(r"^(details|inferred from the abstract) of\s*", "", text)
    text = re.sub(r"^([a-z][^A-Z0-9,:]*[,:] )+(?=[A-Z])", "", text)
    text = re.sub(r", github\.com.*", "", text)
    return text.strip(" ,.(")


def _each(paper, show):
    return "<br>".join(map(show, paper.variants)) or "no study"


def _kept():
    paths = studies.RESULTS.glob("*/*/claims.json")
    return sorted(
        ":".join(path.parent.relative_to(studies.RESULTS).parts) for path in paths
    )


def _experiment(name):
    family, _, variant = name.partition(":")
    module = importlib.import_module(f"configs.{family}")
    return module.get_config(variant).experiment


def _source(doc):
    match = re.search(
        r"^Sources?: (.*?)(?:\n\s*\n|\Z)", inspect.cleandoc(doc or ""), re.S | re.M
    )
    return " ".join(match[1].split()) if match else ""
