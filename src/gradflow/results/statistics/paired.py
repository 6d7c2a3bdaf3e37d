"""Is there a difference between pairs? The test that so many pairs allow, and Holm's correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
EXACT_UP_TO = 50  # pairs; beyond, the normal approximation of the signed-rank sum is good to three digits
SIGNED_RANK, APPROXIMATE, STUDENT = (
    "Wilcoxon signed-rank (exact)",
    "Wilcoxon signed-rank (normal approximation)",
    "paired t",
)


@dataclass(frozen=True)
class Tested:
    """A two-sided test of paired differences.

    Attributes:
        test: its name.
        p: None where the pairs cannot tell: fewer than two, or all differences equal and not 0.
    """

    test: str
    p: float | None


def paired_test(differences: Sequence[float], comparisons: int = 1) -> Tested:
    """Test whether paired differences are centred on 0.

    The signed-rank test supposes least, but the smallest p that n pairs can give it is 2^(1−n): of 5 seeds none can be
    significant. So it is used where that could pass Holm's first step, 2^(1−n) ≤ 0.05 ∕ comparisons (6 pairs for one
    comparison, 8 for six); with fewer pairs the t test is, which supposes that differences are normal.
    The choice depends on the number of pairs alone, never on what they say.

    Args:
        differences: of each pair.
        comparisons: how many tests are corrected together.
    """
    values = cleaned(differences)
    if 2.0 ** (1 - len(values)) <= LEVEL / comparisons:
        return signed_rank(values)
    return Tested(STUDENT, _paired_t(values))


def signed_rank(differences: Sequence[float]) -> Tested:
    """Wilcoxon's signed-rank test; pairs without difference are left out, ties share their mean rank.

    Exact, also with ties: the distribution of the rank sum over all signs, each as likely, given the sizes.
    """
    values = [value for value in cleaned(differences) if value != 0]
    exact = len(values) <= EXACT_UP_TO
    if not values:
        return Tested(SIGNED_RANK, 1.0)
    ranks = doubled_ranks([abs(value) for value in values])
    positive = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    total = sum(ranks)
    lower = min(positive, total - positive)
    if not exact:
        spread = math.sqrt(sum(rank * rank for rank in ranks) / 4)  # of doubled ranks: Var = Σ r²/4
        return Tested(APPROXIMATE, math.erfc((total / 2 - lower) / spread / math.sqrt(2)))
    ways = [0] * (total + 1)  # signs by the sum of the ranks of the positive ones
    ways[0] = 1
    reach = 0
    for rank in ranks:
        reach += rank
        for at in range(reach, rank - 1, -1):
            ways[at] += ways[at - rank]
    return Tested(SIGNED_RANK, min(1.0, 2 * sum(ways[: lower + 1]) / 2 ** len(values)))


def doubled_ranks(sizes: Sequence[float]) -> list[int]:
    """Twice the rank of each, the smallest first; equal ones share the mean of their ranks, so that twice is whole.

    >>> doubled_ranks([0.3, 0.1, 0.3])
    [5, 2, 5]
    """
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    ranks = [0] * len(sizes)
    begin = 0
    while begin < len(order):
        end = begin
        while end + 1 < len(order) and sizes[order[end + 1]] == sizes[order[begin]]:
            end += 1
        for place in order[begin : end + 1]:
            ranks[place] = begin + end + 2
        begin = end + 1
    return ranks


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): p of the i-th smallest times the number of tests from it on, never falling.
    A test without p is not counted.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    highest = 0.0
    for step, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - step) * p))
        corrected[place] = highest
    return corrected


def effect_size(differences: Sequence[float]) -> float | None:
    """Cohen's d_z: the mean difference over the standard deviation of differences; None where these do not vary."""
    values = cleaned(differences)
    deviation = _deviation(values)
    return None if not deviation else math.fsum(values) / len(values) / deviation


def cleaned(differences: Sequence[float]) -> list[float]:
    """Without the rounding of floats: 0.95 − 0.9 and 0.96 − 0.91 are one difference, which they are not in binary.
    Digits below 1e-12 of the largest difference, or of 1 where all are smaller, go."""
    largest = max(map(abs, differences), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return list(differences)
    digits = 12 - max(0, math.ceil(math.log10(largest)))
    return [round(value, digits) for value in differences]


def _paired_t(differences: Sequence[float]) -> float | None:
    """p of Student's t test of the mean difference."""
    count = len(differences)
    if count > 1 and not any(differences):
        return 1.0
    deviation = _deviation(differences)
    if not deviation:
        return None
    from scipy.special import stdtr

    t = abs(math.fsum(differences) / count) / deviation * math.sqrt(count)
    return 2 * float(stdtr(count - 1, -t))


def _deviation(values: Sequence[float]) -> float | None:
    """With n − 1; None of fewer than two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    if all(value == values[0] for value in values):
        return 0.0
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
