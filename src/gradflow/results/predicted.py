"""What theory said of a run at its start, as it stands in its record, beside what was measured.

Predictions are relative to the last block. Shapes: L blocks.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.runs.record import Record, Unreadable, load_json

FILE = "prediction.json"
OF = {"delta_norm": "log10_delta", "grad_norm": "log10_grad"}  # what is predicted of what is measured


@dataclass(frozen=True)
class Prediction:
    """Of one network, whatever its seed.

    Attributes:
        why_not: why there is none, in one sentence; None where theory applies.
        log10: by the measured quantity, log10 of its prediction relative to the last block, [L].
        band: the deviation of ln(norm) from one draw of the weights to another, [L]; None where it is not known.
    """

    why_not: str | None
    log10: dict[str, np.ndarray]
    band: np.ndarray | None


@dataclass(frozen=True)
class Deviation:
    """Where measurement and prediction are furthest apart: `factor` = measured ÷ predicted at `block`."""

    factor: float
    block: int

    def __str__(self) -> str:
        """'×1.3 at block 12', or '÷1.3' where less was measured than predicted."""
        sign, size = ("×", self.factor) if self.factor >= 1 else ("÷", 1 / self.factor)
        number = f"{size:.2f}" if size < 10 else f"{size:.3g}"
        return f"{sign}{number} at block {self.block}"


def of_group(group: list[Record]) -> Prediction | None:
    """That of runs that differ in their seed alone; None if no record holds one."""
    for run in group:
        try:
            values = load_json(run.path / FILE)
        except Unreadable:
            continue
        if values is not None:
            return _read(values)
    return None


def anchored(log10: np.ndarray, measured: np.ndarray) -> np.ndarray | None:
    """A prediction in the units of what was measured: log10, equal to it at the last block that was; None if none was.

    Args:
        log10: predicted, relative to the last block, [L].
        measured: log10 of what was measured, [L]; what is not finite is left out.
    """
    if len(log10) != len(measured):
        return None
    usable = np.flatnonzero(np.isfinite(measured) & np.isfinite(log10))
    if not usable.size:
        return None
    last = usable[-1]
    placed: np.ndarray = log10 + (measured[last] - log10[last])
    return placed


def deviation(log10: np.ndarray, measured: np.ndarray) -> Deviation | None:
    """The largest one over the blocks, once both agree at the last; see `anchored`."""
    placed = anchored(log10, measured)
    if placed is None:
        return None
    apart = np.where(np.isfinite(measured) & np.isfinite(placed), measured - placed, 0.0)
    block = int(np.abs(apart).argmax())
    exponent = float(apart[block])
    return Deviation(10.0**exponent if abs(exponent) < 300 else math.copysign(math.inf, exponent), block)


def caption(prediction: Prediction | None, letters: int, lines: int = 3) -> list[str]:
    """Why there is no prediction, on so many lines of so many letters; nothing where there is one, or no record."""
    if prediction is None or prediction.why_not is None:
        return []
    return textwrap.wrap(f"no theory: {prediction.why_not}", letters, max_lines=lines, placeholder=" …")


def _read(values: dict[str, Any]) -> Prediction:
    if not values.get("applies"):
        return Prediction(str(values.get("why_not") or "not covered"), {}, None)
    log10 = {name: np.array(values[key], dtype=float) for name, key in OF.items() if values.get(key) is not None}
    band = values.get("band")
    return Prediction(None, log10, None if band is None else np.array(band, dtype=float))
