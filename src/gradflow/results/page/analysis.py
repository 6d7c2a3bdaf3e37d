"""The parts that compare techniques: the metric and the gradient ratio by factor, effects, and paired comparisons.

The figures are those of `gradflow.results.statistics`; here they are arranged and kept within bounds.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gradflow.results import choices, memory
from gradflow.results.estimate import mean_interval
from gradflow.results.page.columns import factors, metric_of
from gradflow.results.page.pack import rounded
from gradflow.results.page.thin import evenly
from gradflow.results.statistics.compare import comparisons
from gradflow.results.statistics.effects import effects
from gradflow.results.statistics.interval import Interval
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

MOST_TECHNIQUES = 40  # lines of a figure
MOST_WORDS = 12  # on an axis
MOST_POINTS = 20_000  # of all figures by factor
MOST_LEVELS = 24  # of a factor whose levels are compared in pairs: 276 comparisons
MOST_PAIRS = 5_000  # of runs, listed one by one, of one factor
FEWEST_PAIRS = 10  # of one comparison
ALL = "all runs"  # where one factor varies alone
DIGITS = 6
ENDED = ("diverged", "failed")

Runs = list[tuple[dict[str, Any], Record]]  # labels, and the record of a run that has ended


@dataclass(frozen=True)
class _Pair:
    """A figure: `by` is '' where nothing but `x` varies."""

    x: str
    by: str


def factors_part(collection: Collection) -> dict[str, Any]:
    """The part `factors`: for every pair of factors that fits a figure, the metric, the gradient ratio and, of networks
    with a time axis, the memory horizon over the one for each level of the other, with 95 % intervals (the horizon: its
    range), and how many runs diverged or failed. Tasks are never mixed."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    done: dict[tuple[str, str], Runs] = {}
    failed: dict[str, Runs] = {}
    for run_id, own in choices.planned(collection).items():
        task, record = str(own.get("task", "")), collection.found.records.get(run_id)
        tasks.setdefault(task, []).append(own)
        if record is not None and record.result is not None:
            done.setdefault((task, record.result["metric"]), []).append((own, record))
        elif record is not None and record.state in ENDED:
            failed.setdefault(task, []).append((own, record))
    for task, metric in done:  # a run that failed has no metric: it counts beside each of its task's
        done[task, metric] += failed.get(task, [])
    series: list[dict[str, Any]] = []
    points = left_out = 0
    for (task, metric), runs in done.items():
        names = [name for name in factors(tasks[task]) if name != "task"]
        levels = {name: list(dict.fromkeys(own.get(name) for own in tasks[task])) for name in names}
        for pair in _pairs(names, levels):
            if points > MOST_POINTS:
                left_out += 1
                continue
            made = list(_series(pair, task, metric, runs, names, levels))
            points += sum(len(each["points"]) for each in made)
            series += made
    return {"series": series, "left_out": left_out}


def _pairs(names: Sequence[str], levels: dict[str, list[Any]]) -> list[_Pair]:
    """Numbers on the axis before words, whole recipes and networks before their parts."""
    along = [name for name in names if len(levels[name]) > 1 and _is_number(levels[name])]
    along += [name for name in names if name not in along and 1 < len(levels[name]) <= MOST_WORDS]
    by = [name for name in names if 1 < len(levels[name]) <= MOST_TECHNIQUES]
    by.sort(key=lambda name: (_is_number(levels[name]), name not in ("recipe", "network")))
    found = [_Pair(x, other) for x in along for other in by if other != x]
    return found or [_Pair(x, "") for x in along]


def _is_number(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _series(
    pair: _Pair, task: str, metric: str, runs: Runs, names: Sequence[str], levels: dict[str, list[Any]]
) -> Iterator[dict[str, Any]]:
    groups: dict[Any, dict[Any, Runs]] = {}
    for own, record in runs:
        groups.setdefault(own.get(pair.by), {}).setdefault(own.get(pair.x), []).append((own, record))
    order = levels[pair.x]
    order = sorted(order) if _is_number(order) else order
    about = next(record.result for _, record in runs if record.result)
    better = "larger" if about.get("larger_is_better", True) else "smaller"
    others = [name for name in names if name not in (pair.x, pair.by)]
    for technique in levels.get(pair.by, [None]):
        found = groups.get(technique, {})
        if not found:
            continue
        pooled = [name for name in others if any(len({own.get(name) for own, _ in g}) > 1 for g in found.values())]
        head: dict[str, Any] = {"task": task, "metric": metric, "better": better, "chance": about.get("chance")}
        head |= {"x": pair.x, "by": pair.by, "pooled": pooled}
        head["technique"] = ALL if not pair.by else _word(technique)
        for value, point in (("metric", _metric), ("gradient_ratio", _ratio), ("memory_horizon", _horizon)):
            made = [{"x": _axis(x), **at} for x in order if x in found and (at := point(found[x])) is not None]
            if made:
                yield {**head, "value": value, "points": made}


def _metric(runs: Runs) -> dict[str, Any] | None:
    """The mean of those that completed, as in the table, and how many of how many did not; `mean` None where none
    did."""
    results = [record.result for _, record in runs if record.result]
    point = _point(mean_interval([value for result in results if (value := metric_of(result)) is not None]))
    states = Counter(record.state for _, record in runs if record.state in ENDED)
    if not states:
        return point
    ended = ", ".join(f"{count} of {len(runs)} {state}" for state, count in states.items())
    return {**(point or {"mean": None, "low": None, "high": None, "n": 0}), "ended": ended}


def _ratio(runs: Runs) -> dict[str, Any] | None:
    """The geometric mean, and the interval of the mean logarithm; 0 without an interval where any is exactly zero. A
    run that diverged has one, of what came before."""
    ratios = [(record.result.get("gradient") or {}).get("ratio") for _, record in runs if record.result]
    known = [float(ratio) for ratio in ratios if ratio is not None]
    if not known:
        return None
    if min(known) <= 0:
        return {"mean": 0, "low": None, "high": None, "n": len(known)}
    return _point(mean_interval([math.log(ratio) for ratio in known]), _exp)


def _horizon(runs: Runs) -> dict[str, Any] | None:
    """The median in time steps, as in the table, between the shortest and the longest. `least`: which of the three are
    lower bounds, '≥ 200', as the gradient never fell so low; not there where none is."""
    told = [memory.horizon(record.result) for _, record in runs if record.result]
    found = sorted((reach.value, "≥" in reach.text) for reach in told if reach is not None and reach.value is not None)
    if not found:
        return None
    steps, bounds = zip(*found, strict=True)
    middle = bounds[(len(found) - 1) // 2 : len(found) // 2 + 1]
    least = [name for name, are in (("mean", middle), ("low", bounds[:1]), ("high", bounds[-1:])) if any(are)]
    point = {"mean": statistics.median(steps), "low": steps[0], "high": steps[-1], "n": len(steps)}
    return {**point, "least": least} if least else point


def _point(found: Interval | None, turned: Callable[[float], float | None] = float) -> dict[str, Any] | None:
    """`turned`: what makes the figure of what was averaged."""
    if found is None:
        return None
    mean, low, high = (None if each is None else turned(each) for each in (found.value, found.low, found.high))
    point: dict[str, Any] = rounded({"mean": mean, "low": low, "high": high, "n": found.count}, DIGITS)
    return point


def _exp(value: float) -> float | None:
    """None for what is too large for a float."""
    return math.exp(value) if value < 700 else None


def _word(level: Any) -> str:
    return "null" if level is None else str(level).lower() if isinstance(level, bool) else str(level)


def _axis(level: Any) -> Any:
    return level if isinstance(level, int | float) and not isinstance(level, bool) else _word(level)


# --- effects and comparisons ----------------------------------------------------------------------------------


def effects_part(collection: Collection) -> list[dict[str, Any]]:
    """The part `effects`: what changed the most, the largest first."""
    return [rounded(asdict(effect), DIGITS) for effect in effects(collection)]


def compared(collection: Collection) -> list[str]:
    """The factors whose levels are compared in pairs."""
    labels = list(choices.planned(collection).values())
    levels = {name: len({run.get(name) for run in labels}) for name in factors(labels) if name != "task"}
    return [name for name, count in levels.items() if 1 < count <= MOST_LEVELS]


def comparisons_part(collection: Collection, factor: str) -> list[dict[str, Any]]:
    """The part `comparisons-FACTOR`. Where there are too many pairs of runs, some of each comparison are listed, evenly
    chosen; its figures are of all of them, `count` says how many there are."""
    found = comparisons(collection, factor)
    most = max(FEWEST_PAIRS, MOST_PAIRS // max(1, len(found)))
    parts = []
    for comparison in found:
        kept = [comparison.pairs[place] for place in evenly(len(comparison.pairs), most)]
        whole = {
            key: value for key, value in vars(comparison).items() if key not in ("pairs", "difference", "improvement")
        }
        whole |= {"difference": asdict(comparison.difference), "improvement": asdict(comparison.improvement)}
        parts.append(
            rounded({**whole, "pairs": [asdict(pair) for pair in kept], "count": len(comparison.pairs)}, DIGITS)
        )
    return parts
