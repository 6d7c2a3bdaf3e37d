"""Mean ranks of techniques over blocks, and which of them the blocks can tell apart.

Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets": Friedman's test asks whether any
technique differs, Nemenyi's critical difference which two do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradflow.results.statistics.paired import LEVEL, doubled_ranks


@dataclass(frozen=True)
class Ranks:
    """Techniques over blocks.

    Attributes:
        mean: rank of each technique, 1 the best, ties sharing their mean rank, averaged over blocks.
        blocks: how many.
        chi2, p: Friedman's statistic, corrected for ties, and its p by the χ² distribution of k − 1 degrees; None where
            all are tied in every block.
        critical: two techniques whose mean ranks are closer than this cannot be told apart (Nemenyi, at 0.05).
        groups: places of techniques that cannot be told apart, each group as large as it can be, the best first.
    """

    mean: list[float]
    blocks: int
    chi2: float | None
    p: float | None
    critical: float
    groups: list[list[int]]


def rank(scores: Sequence[Sequence[float]]) -> Ranks:
    """Rank techniques within each block.

    Args:
        scores: blocks × techniques, larger is better; two techniques or more.
    """
    blocks, count = len(scores), len(scores[0])
    ranks = np.asarray([doubled_ranks([-score for score in row]) for row in scores]) / 2
    mean = ranks.mean(axis=0)
    chi2, p = _friedman(ranks)
    critical = studentized_range(count) / math.sqrt(2) * math.sqrt(count * (count + 1) / (6 * blocks))
    return Ranks([float(m) for m in mean], blocks, chi2, p, critical, _groups(mean.tolist(), critical))


def _friedman(ranks: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[float | None, float | None]:
    from scipy.special import chdtrc

    blocks, count = ranks.shape
    ties = sum(
        float(size**3 - size) for row in ranks for size in np.unique(row, return_counts=True)[1].astype(np.float64)
    )
    correction = 1 - ties / (blocks * (count**3 - count))
    if correction <= 0:
        return None, None
    sums = ranks.sum(axis=0)
    chi2 = (12 / (blocks * count * (count + 1)) * float((sums**2).sum()) - 3 * blocks * (count + 1)) / correction
    return chi2, float(chdtrc(count - 1, chi2))


def studentized_range(count: int, level: float = LEVEL) -> float:
    """The upper quantile of the range of `count` standard normal variables: q(1 − level; count, ∞).

    P(range < q) = k ∫ φ(z) [Φ(z) − Φ(z − q)]^(k−1) dz, solved for q by bisection; SciPy's `studentized_range` has the
    same, and takes half a second to import.
    """
    from scipy.special import ndtr

    z = np.linspace(-9.0, 9.0, 3601)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    step = float(z[1] - z[0])
    low, high = 0.0, 20.0
    for _ in range(60):
        q = (low + high) / 2
        below = count * step * float((density * (ndtr(z) - ndtr(z - q)) ** (count - 1)).sum())
        low, high = (q, high) if below < 1 - level else (low, q)
    return (low + high) / 2


def _groups(mean: list[float], critical: float) -> list[list[int]]:
    order = sorted(range(len(mean)), key=mean.__getitem__)
    groups: list[list[int]] = []
    for begin in range(len(order)):
        members = [place for place in order[begin:] if mean[place] - mean[order[begin]] < critical]
        if not groups or members[-1] != groups[-1][-1]:
            groups.append(members)
    return groups
