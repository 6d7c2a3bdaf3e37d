"""The probability that a run of one technique beats a run of another, as rliable defines it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.resample import DRAWS, percentiles, picks, stream
from gradflow.results.statistics.summary import Array


def probability_of_improvement(better: Sequence[Sequence[float]], worse: Sequence[Sequence[float]]) -> Interval:
    """P(X > Y), a tie counted half, averaged over strata, with the percentile interval of a stratified bootstrap.

    Agarwal et al. 2021, section 4.3: within a stratum the Mann–Whitney statistic U ∕ (n m). Runs are not paired here;
    each technique's are drawn again on their own.

    Args:
        better, worse: scores of X and of Y in the same strata, larger is better; none empty.
    """
    wins: dict[tuple[int, int], list[Array]] = {}
    for x, y in zip(better, worse, strict=True):
        difference = np.asarray(x)[:, None] - np.asarray(y)[None, :]
        wins.setdefault((len(x), len(y)), []).append((np.sign(difference) + 1) / 2)
    strata = len(better)
    value = sum(float(matrix.mean()) for same in wins.values() for matrix in same) / strata
    count = sum(map(len, better)) + sum(map(len, worse))
    if all(size == (1, 1) for size in wins):
        return Interval(value, None, None, count)
    random = stream()
    drawn = np.zeros(DRAWS)
    for (n, m), same in wins.items():
        stack = np.stack(same)  # strata × n × m
        often_x, often_y = _often(random, len(same), n), _often(random, len(same), m)
        drawn += np.einsum("srm,srm->r", often_x @ stack, often_y) / (n * m)
    return Interval(value, *percentiles(drawn / strata), count)


def _often(random: np.random.RandomState, strata: int, runs: int) -> Array:
    """How often each run is drawn: (strata, draws, runs)."""
    chosen = picks(random, (strata * DRAWS, runs), runs)
    flat = chosen + runs * np.arange(strata * DRAWS)[:, None]
    often = np.bincount(flat.ravel(), minlength=strata * DRAWS * runs)
    return often.reshape(strata, DRAWS, runs).astype(np.float64)
