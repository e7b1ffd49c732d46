"""Reports of studies: claims and verdicts, figures, and the HTML page."""

from typing import TYPE_CHECKING

from logitlab import _lazy

with _lazy.train_extra(__name__):
    from logitlab.report.claims import Claim, Verdict, ahead, smallest_mean
    from logitlab.report.claims_json import read_claims, write_claims
    from logitlab.report.comparisons import (
        differences,
        frontier,
        intervals,
        ranking,
        trends,
    )
    from logitlab.report.conclusion import conclude
    from logitlab.report.evaluation import (
        reliability_diagram,
        risk_coverage_curves,
        score_histograms,
    )
    from logitlab.report.figures import Panel, curves, panels, save, small_multiples
    from logitlab.report.judging import judge, outcome
    from logitlab.report.maps import Map, Sheet, probability_maps, surfaces
    from logitlab.report.page import text_table, verdict_table, write_page

__all__ = [
    "Claim",
    "Map",
    "Panel",
    "Sheet",
    "Verdict",
    "ahead",
    "conclude",
    "curves",
    "differences",
    "frontier",
    "intervals",
    "judge",
    "outcome",
    "panels",
    "probability_maps",
    "ranking",
    "read_claims",
    "reliability_diagram",
    "risk_coverage_curves",
    "save",
    "score_histograms",
    "small_multiples",
    "smallest_mean",
    "surfaces",
    "text_table",
    "trends",
    "verdict_table",
    "write_claims",
    "write_page",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
