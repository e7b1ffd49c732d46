"""What a study says: claims and verdicts, figures, the page that shows them."""

from logitlab.report.claims import (
    Claim,
    Verdict,
    judge,
    outcome,
    read_claims,
    write_claims,
)
from logitlab.report.comparisons import (
    differences,
    frontier,
    intervals,
    ranking,
    trends,
)
from logitlab.report.conclusion import conclude
from logitlab.report.figures import Panel, curves, panels, save, small_multiples
from logitlab.report.maps import Map, Sheet, probability_maps, surfaces
from logitlab.report.page import text_table, verdict_table, write_page

__all__ = [
    "Claim",
    "Map",
    "Panel",
    "Sheet",
    "Verdict",
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
    "save",
    "small_multiples",
    "surfaces",
    "text_table",
    "trends",
    "verdict_table",
    "write_claims",
    "write_page",
]
