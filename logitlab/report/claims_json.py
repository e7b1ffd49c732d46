"""Reads and writes verdicts as JSON."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import Any

from logitlab.report.claims import Verdict
from logitlab.train.files import as_path, write_file


def write_claims(verdicts: Sequence[Verdict], path: str | os.PathLike) -> None:
    """Writes claims.json, whole or not at all.

    Strict JSON, which has neither NaN (null here) nor infinities (strings here).
    """
    rows = [_encode(dataclasses.asdict(verdict)) for verdict in verdicts]
    text = json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, f"{text}\n")


def read_claims(path: str | os.PathLike) -> list[Verdict]:
    """Reads back what :func:`write_claims` wrote."""
    rows = json.loads(as_path(path).read_text("utf-8"))
    return [
        Verdict(
            **{
                **row,
                "ours": [_decode(value) for value in row["ours"]],
                "spread": tuple(_decode(value) for value in row["spread"]),
                **{name: _decode(row[name]) for name in ("median", "mean", "error")},
            }
        )
        for row in rows
    ]


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
