"""Whether a cell agrees with what was published."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from gradflow.papers.paper import Published
from gradflow.results.statistics.interval import Interval

Verdict = Literal["agrees", "differs", "run at reduced scale", "one seed", "not run"]
RULE = (
    "agrees: the published figure, give or take its tolerance, lies in the 95 % interval of ours; only cells that are "
    "run by the paper's own protocol are judged"
)


def verdict(ours: Interval | None, published: float, block: Published, reduced: bool) -> Verdict:
    """Of one cell.

    Args:
        reduced: whether its runs depart from the paper's protocol.
    """
    if ours is None:
        return "not run"
    if reduced:
        return "run at reduced scale"
    if ours.low is None or ours.high is None:
        return "one seed"
    slack = tolerance(published) if block.tolerance is None else block.tolerance
    return "agrees" if ours.low - slack <= published <= ours.high + slack else "differs"


def tolerance(published: float) -> float:
    """Half a unit of the last digit that was printed.

    >>> tolerance(8.75), tolerance(97.0), tolerance(5.3e-5)
    (0.005, 0.05, 5e-07)
    """
    exponent = Decimal(repr(published)).as_tuple().exponent
    assert isinstance(exponent, int)
    return 0.5 * 10.0**exponent
