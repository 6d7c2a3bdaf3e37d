"""Signs of the units and of what comes out of the blocks."""

from __future__ import annotations

import numpy as np

from gradflow.diagnosis.evidence import Evidence
from gradflow.diagnosis.sign import Check, Sign
from gradflow.diagnosis.thresholds import Thresholds


def units_dead(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Units of a block that do nothing for any example seen lately, as a ReLU's whose input is always negative."""
    found = _largest(evidence, "activation_dead")
    if found is None:
        return None
    share, where = found
    if share >= t.dead_block:
        return []
    what = "share of a block's units that are dead"
    return [Sign("dead", "units_dead", what, share, t.dead_units, where)] if share > t.dead_units else []


def block_dead(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """So many of them that nothing gets through the block."""
    found = _largest(evidence, "activation_dead")
    if found is None:
        return None
    share, where = found
    what = "share of a block's units that are dead, nearly all"
    return [Sign("dead", "block_dead", what, share, t.dead_block, where)] if share >= t.dead_block else []


def units_saturated(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Units at the flat ends of a bounded activation."""
    found = _largest(evidence, "activation_saturated")
    if found is None:
        return None
    share, where = found
    if share <= t.saturated_units:
        return []
    what = "share of a block's units that are saturated"
    return [Sign("saturated", "units_saturated", what, share, t.saturated_units, where)]


def outputs_alike(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """All examples leave the last block in one direction."""
    found = _of_last(evidence, "output_cosine")
    if found is None:
        return None
    cosine, where = found
    if cosine <= t.output_cosine:
        return []
    what = "mean cosine between the outputs for different examples"
    return [Sign("rank_collapse", "outputs_alike", what, cosine, t.output_cosine, where)]


def rank_low(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The last block's outputs span hardly more than one direction."""
    found = _of_last(evidence, "effective_rank")
    if found is None:
        return None
    rank, where = found
    if rank >= t.effective_rank:
        return []
    return [Sign("rank_collapse", "rank_low", "effective rank of the outputs", rank, t.effective_rank, where)]


CHECKS: tuple[Check, ...] = (units_dead, block_dead, units_saturated, outputs_alike, rank_low)


def _largest(evidence: Evidence, quantity: str) -> tuple[float, str] | None:
    """The block with the largest share, late in training."""
    series = evidence.quantities.get(quantity)
    late = np.array([np.nan]) if series is None else series.late()
    if not np.isfinite(late).any():
        return None
    worst = int(np.nanargmax(late))
    return float(late[worst]), evidence.block(worst)


def _of_last(evidence: Evidence, quantity: str) -> tuple[float, str] | None:
    """The last block that was measured, late in training."""
    series = evidence.quantities.get(quantity)
    late = np.array([np.nan]) if series is None else series.late()
    known = np.flatnonzero(np.isfinite(late))
    if not len(known):
        return None
    return float(late[known[-1]]), evidence.block(int(known[-1]))
