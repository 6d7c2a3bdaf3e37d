"""How much of a run's series the page can hold: so many numbers, shared out among curves and heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TOTAL = 7_500_000  # bytes, compressed, of the details of all runs: a page of 10,000 runs stays below 20 MB
MOST = 6_500  # of one run: a page of 300 runs stays below 8 MB
LEAST = 300  # of one run, however many there are: then the page grows
LIVE = 100_000  # of one run that is sent by a server
FIXED = 150  # of a run besides its series: config, diagnosis, cost, which resemble those of the run before
PER_NUMBER = 1.6  # 1.3 to 1.5 measured: a few digits and a comma


def numbers(runs: int) -> int:
    """How many numbers of each run's series go into a page of so many runs.

    >>> numbers(100), numbers(10_000), numbers(1_000_000)
    (3968, 375, 93)
    """
    return in_bytes(min(MOST, max(LEAST, TOTAL // max(1, runs))))


def in_bytes(size: int) -> int:
    """How many numbers fit into so many compressed bytes of one run."""
    return int((size - FIXED) / PER_NUMBER)


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of the places 0 … count − 1, evenly spread, the first and the last among them.

    >>> evenly(9, 3).tolist(), evenly(3, 5).tolist(), evenly(5, 1).tolist()
    ([0, 4, 8], [0, 1, 2], [0])
    """
    if count <= most:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, max(most, 1))).astype(np.int64))


def shares(needs: Sequence[int], total: int) -> list[int]:
    """Share out `total`: equally, but nobody gets more than is needed, and what is left over goes to the others.

    >>> shares([10, 100, 100], 110)
    [10, 50, 50]
    """
    given, left = [0] * len(needs), total
    for done, place in enumerate(sorted(range(len(needs)), key=lambda place: needs[place])):
        given[place] = min(needs[place], left // (len(needs) - done))
        left -= given[place]
    return given


def shape(rows: int, columns: int, most: int) -> tuple[int, int]:
    """(rows, columns) of a smaller grid of at most `most` cells, as near to square as the grid allows; at least its
    two ends in each direction.

    >>> shape(100, 1000, 400), shape(4, 1000, 400), shape(3, 3, 400)
    ((20, 20), (4, 100), (3, 3))
    """
    if rows * columns <= most:
        return rows, columns
    side = max(2, math.isqrt(most))
    few_rows = min(rows, side)
    few_columns = min(columns, max(2, most // few_rows))
    return min(rows, max(2, most // few_columns)), few_columns
