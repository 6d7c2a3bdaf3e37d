"""Summaries of scores in strata: runs of one technique, a stratum for each task and setting.

Each takes *blocks*: arrays of shape (…, strata, runs), all strata of a block with equally many runs, and gives an array
of shape (…). So one function serves the runs themselves and thousands of resamples of them. Where all strata have
equally many runs the figures are those of rliable (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Blocks = Sequence[Array]
Summary = Callable[[Blocks], Array]


def pooled(blocks: Blocks) -> Array:
    """All runs of all strata along one axis, in ascending order: (…, runs)."""
    flat = [block.reshape(*block.shape[:-2], -1) for block in blocks]
    return np.sort(np.concatenate(flat, axis=-1), axis=-1)


def iqm(blocks: Blocks) -> Array:
    """Interquartile mean: of all runs without the lowest and the highest quarter, each rounded down to whole runs."""
    ordered = pooled(blocks)
    count = ordered.shape[-1]
    cut = count // 4
    return np.asarray(ordered[..., cut : count - cut].mean(axis=-1))


def median(blocks: Blocks) -> Array:
    """Of all runs."""
    ordered = pooled(blocks)
    count = ordered.shape[-1]
    return np.asarray((ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2)


def mean(blocks: Blocks) -> Array:
    """Mean over strata of each one's mean."""
    return _stratum_means(blocks).mean(axis=-1)  # type: ignore[no-any-return]


def median_of_means(blocks: Blocks) -> Array:
    """Median over strata of each one's mean."""
    return np.asarray(np.median(_stratum_means(blocks), axis=-1))


def optimality_gap(blocks: Blocks) -> Array:
    """How far scores fall short of 1, what is above 1 counted as 1; smaller is better."""
    return 1.0 - mean([np.minimum(block, 1.0) for block in blocks])


def share_above(tau: float) -> Summary:
    """The share of runs with a score above τ: one point of a performance profile."""
    return lambda blocks: mean([(block > tau).astype(np.float64) for block in blocks])


def _stratum_means(blocks: Blocks) -> Array:
    return np.concatenate([block.mean(axis=-1) for block in blocks], axis=-1)
