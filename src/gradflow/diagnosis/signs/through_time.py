"""Signs of the gradient through time, at the last probe."""

from __future__ import annotations

import math

from gradflow.diagnosis.evidence import Evidence
from gradflow.diagnosis.over_time import TimeAxis
from gradflow.diagnosis.sign import Check, Sign
from gradflow.diagnosis.thresholds import Thresholds


def memory_horizon(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The gradient fades long before the sequence begins; of stacked layers the one that reaches furthest counts."""
    reaches = [(axis.horizon / axis.length, axis) for axis in evidence.time if axis.horizon is not None]
    if not reaches:
        return None
    share, axis = max(reaches, key=lambda each: each[0])
    if share >= t.horizon_share:
        return []
    what = f"share of the {axis.length} time steps over which the gradient stays above 1 %"
    where = f"{axis.name}, {axis.horizon:.1f} steps back, step {axis.step}"
    return [Sign("vanishing", "memory_horizon", what, share, t.horizon_share, where)]


def time_ratio(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The first time step's gradient orders of magnitude below, or above, the last one's."""
    ratios = [(ratio, axis, part) for axis in evidence.time for part, ratio in axis.ratios.items()]
    if not ratios:
        return None
    ratio, axis, part = max(ratios, key=lambda each: each[0])
    what = f"ratio of ‖∂L/∂{part}‖, first ÷ last time step"
    if ratio < t.time_ratio_low:
        return [Sign("vanishing", "time_ratio", what, ratio, t.time_ratio_low, _where(axis))]
    if ratio > t.time_ratio_high:
        return [Sign("exploding", "time_ratio", what, ratio, t.time_ratio_high, _where(axis))]
    return []


def time_decay(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The rate, significantly different from zero, at which influence fades or grows per time step."""
    rates = [(found, axis) for axis in evidence.time if (found := _rate(axis)) is not None]
    if not rates:
        return None
    (low, rate, high), axis = max(rates, key=lambda each: each[0][1])
    lowest, highest = (math.log(limit) / axis.length for limit in (t.time_ratio_low, t.time_ratio_high))
    what = "slope of the gradient's logarithm per time step back"
    if rate < lowest and high < 0:
        return [Sign("vanishing", "time_decay", what, rate, lowest, _where(axis))]
    if rate > highest and low > 0:
        return [Sign("exploding", "time_decay", what, rate, highest, _where(axis))]
    return []


def lyapunov(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """States that part (chaos): the largest Lyapunov exponent, over the length of the sequence."""
    known = [(axis.numbers["lyapunov_1"], axis) for axis in evidence.time if "lyapunov_1" in axis.numbers]
    if not known:
        return None
    exponent, axis = max(known, key=lambda each: each[0])
    highest = math.log(t.time_ratio_high) / axis.length
    if exponent <= highest:
        return []
    return [Sign("exploding", "lyapunov", "largest Lyapunov exponent per time step", exponent, highest, _where(axis))]


CHECKS: tuple[Check, ...] = (memory_horizon, time_ratio, time_decay, lyapunov)


def _rate(axis: TimeAxis) -> tuple[float, float, float] | None:
    """(low, rate, high) of the Jacobian's decay where it was measured, else of the gradient's."""
    for name in ("jacobian_decay", "time_decay"):
        rate = axis.numbers.get(name)
        if rate is not None:
            return axis.numbers.get(f"{name}_low", rate), rate, axis.numbers.get(f"{name}_high", rate)
    return None


def _where(axis: TimeAxis) -> str:
    return f"{axis.name}, {axis.length} time steps, step {axis.step}"
