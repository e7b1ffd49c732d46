"""How claims name what their numbers are compared with, if it is in no paper."""

from logitlab.report.claims import PROTOTYPE

BOUND = "a bound of our own"


def prototype(numbers: str) -> str:
    """Numbers of an earlier implementation of ours, which is not in this repository."""
    return f"{PROTOTYPE}: {numbers}"


def stated(what: str, numbers: str = "") -> str:
    """What the paper says without a number, and the prototype's numbers, if any."""
    said = f"the paper says so without a number: {what}"
    return f"{said}; {prototype(numbers)}" if numbers else said
