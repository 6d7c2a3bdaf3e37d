"""Signs of the weights: who moves, and where to."""

from __future__ import annotations

import numpy as np

from gradflow.diagnosis.evidence import Evidence, Series
from gradflow.diagnosis.sign import Check, Sign
from gradflow.diagnosis.thresholds import Thresholds


def update_ratio(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Late blocks are updated by much of their size and early ones hardly."""
    updates = evidence.quantities.get("update_ratio")
    ends = None if updates is None else updates.ends()
    ratio = None if updates is None else updates.ratio()
    if ends is None or ratio is None:
        return None
    if not ratio < t.update_ratio_low:
        return []
    what, where = "relative size of the updates, first ÷ last block", _ends(evidence, ends)
    return [Sign("vanishing", "update_ratio", what, ratio, t.update_ratio_low, where)]


def weight_change(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Late parameters have changed a lot since initialisation and early ones barely."""
    changes = evidence.quantities.get("weight_change")
    ends = None if changes is None else changes.ends()
    if changes is None or ends is None:
        return None
    first, last = (_at_last(changes, end) for end in ends)
    if first is None or last is None or last < t.weight_change_late or not first / last < t.weight_change_low:
        return []
    what, where = f"change of the weights, first ÷ last block (which changed by {last:.2g})", _ends(evidence, ends)
    return [Sign("vanishing", "weight_change", what, first / last, t.weight_change_low, where)]


def weight_norm(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Weights that collapse towards zero, or grow out of bounds."""
    norms = evidence.quantities.get("weight_norm")
    if norms is None or len(norms.steps) < 2:
        return None
    first, last = norms.values[0], norms.values[-1]
    known = np.flatnonzero(np.isfinite(first) & np.isfinite(last) & (first > 0))
    if not len(known):
        return None
    ratios = last[known] / first[known]
    low, high = int(ratios.argmin()), int(ratios.argmax())
    what, found = "norm of a block's weights, end ÷ start", []
    if ratios[low] < t.weight_norm_low:
        where = evidence.block(int(known[low]))
        found.append(Sign("vanishing", "weight_norm", what, float(ratios[low]), t.weight_norm_low, where))
    if ratios[high] > t.weight_norm_high:
        where = evidence.block(int(known[high]))
        found.append(Sign("exploding", "weight_norm", what, float(ratios[high]), t.weight_norm_high, where))
    return found


def weights_near_zero(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Nearly all weights of a block are near zero by the end, and were not at the start."""
    shares = evidence.quantities.get("weight_near_zero")
    if shares is None or len(shares.steps) < 2:
        return None
    first, last = shares.values[0], shares.values[-1]
    grown = np.flatnonzero(np.isfinite(first) & np.isfinite(last) & (last > t.weights_near_zero) & (last > first))
    if not len(grown):
        return []
    worst = int(grown[last[grown].argmax()])
    what, where = "share of a block's weights near zero", evidence.block(worst)
    return [Sign("vanishing", "weights_near_zero", what, float(last[worst]), t.weights_near_zero, where)]


CHECKS: tuple[Check, ...] = (update_ratio, weight_change, weight_norm, weights_near_zero)


def _at_last(series: Series, block: int) -> float | None:
    known = series.values[np.isfinite(series.values[:, block]), block]
    return float(known[-1]) if len(known) else None


def _ends(evidence: Evidence, ends: tuple[int, int]) -> str:
    return f"{evidence.block(ends[0])} ÷ {evidence.block(ends[1])}"
