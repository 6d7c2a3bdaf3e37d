"""Evidence made of rows, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradflow.diagnosis.evidence import Evidence, from_rows
from gradflow.diagnosis.sign import Sign
from gradflow.diagnosis.signs import CHECKS
from gradflow.diagnosis.thresholds import thresholds

Values = Sequence[Sequence[float | None]] | np.ndarray


def of_blocks(quantity: str, values: Values, every: int = 10) -> list[dict[str, Any]]:
    """Rows of one quantity: values [S, L], a step every so many; None: no row."""
    return [
        {"step": every * s, "block": b, "name": f"blocks.{b:02d}", "quantity": quantity, "value": value}
        for s, row in enumerate(values)
        for b, value in enumerate(row)
        if value is not None
    ]


def of_all(quantity: str, values: Sequence[float], every: int = 10) -> list[dict[str, Any]]:
    """Rows of the whole network."""
    return [
        {"step": every * s, "block": None, "name": "all", "quantity": quantity, "value": value}
        for s, value in enumerate(values)
    ]


def sign(name: str, rows: list[dict[str, Any]] | Evidence) -> list[Sign] | None:
    """What one check finds, by the thresholds of conf/diagnosis.yaml."""
    evidence = rows if isinstance(rows, Evidence) else from_rows(rows)
    return CHECKS[name](evidence, thresholds())
