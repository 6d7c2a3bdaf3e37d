"""What a network remembers, as columns of a table: the score without memory, when it was beaten, how far back the
gradient reaches."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = ("chance", "solved", "memory_horizon")
SMALL = 0.01  # below this, a figure is written with an exponent
HORIZON = "memory_horizon_1%"

Result = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """A value in words, and the number it is sorted by; None comes last."""

    text: str
    value: float | None = None

    @property
    def exact(self) -> float | str:
        """The number in full where the words are nothing but it, or a bound below which it lies; else the words."""
        try:
            float(self.text.removeprefix("< "))
        except ValueError:
            return self.text
        return self.text if self.value is None else self.value

    def __str__(self) -> str:
        return self.text


def told_number(number: float) -> Told:
    """A number that is known without an interval, to three decimals or, where it is small, two digits."""
    return Told(f"{number:.1e}" if 0 < abs(number) < SMALL else f"{number:.3f}", number)


def shown_columns(runs: Iterable[dict[str, Any]], results: Sequence[Result]) -> list[str]:
    """Those of `COLUMNS` that say something of these runs.

    Args:
        runs: the labels of the planned runs: with a cell among them there is a time axis before anything has run.
        results: of the runs that have one.
    """
    criterion = any(result.get("solved") for result in results)
    timed = any(labels.get("cell") for labels in runs)
    timed = timed or any(result.get("time") or result.get("no_gradient") for result in results)
    columns = ["chance"] if timed or criterion else []
    columns += ["solved"] if criterion or (timed and not results) else []
    return columns + (["memory_horizon"] if timed else [])


def value(column: str, results: Sequence[Result]) -> Told | None:
    """One of `COLUMNS` for the results of a row."""
    return {"chance": chance, "solved": solved, "memory_horizon": memory_horizon}[column](results)


def chance(results: Sequence[Result]) -> Told | None:
    """What is scored without memory; None where no result says so."""
    known = [float(result["chance"]) for result in results if result.get("chance") is not None]
    return told_number(math.fsum(known) / len(known)) if known else None


def solved(results: Sequence[Result]) -> Told | None:
    """'step 1400', the mean over seeds; '2/3 at 1400' where not all did; 'no'; None for a task without criterion."""
    steps = [result["solved"]["step"] for result in results if result.get("solved")]
    reached = [int(step) for step in steps if step is not None]
    if not steps:
        return None
    if not reached:
        return Told("no")
    mean = math.fsum(reached) / len(reached)
    return Told(
        f"step {mean:.0f}" if len(reached) == len(steps) else f"{len(reached)}/{len(steps)} at {mean:.0f}", mean
    )


def memory_horizon(results: Sequence[Result]) -> Told | None:
    """'37', the median over seeds, with its range '37 (31–44)' where they differ; '≥ 200' where the gradient never
    fell so low; 'no gradient' where none flows; None for a network without a time axis."""
    reaches = [reach for result in results if (reach := horizon(result)) is not None]
    if not reaches:
        return Told("no gradient") if any(result.get("no_gradient") for result in results) else None
    ordered = sorted(reaches, key=lambda reach: (reach.value, reach.text))
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    median = statistics.fmean(reach.value for reach in middle if reach.value is not None)
    never = "≥ " if any(reach.text.startswith("≥") for reach in middle) else ""
    ends = "" if ordered[0].text == ordered[-1].text else f" ({ordered[0]}–{ordered[-1]})"
    return Told(f"{never}{_steps(median)}{ends}", median)


def horizon(result: Result) -> Told | None:
    """How far back the gradient of block 0 reached in one run, at the last measurement: '37', or '≥ 200'."""
    time = result.get("time") or {}
    last = time.get("last")
    if not last or HORIZON not in last:
        return None
    reach, steps = last[HORIZON], last.get("steps", time.get("steps"))
    if reach is None:
        return None if steps is None else Told(f"≥ {steps}", float(steps))
    return Told(_steps(reach), float(reach))


def notes(columns: Sequence[str], results: Sequence[Result]) -> list[str]:
    """What a reader must know of these columns."""
    told = []
    if "chance" in columns:
        told.append("chance: what is scored without using the input, or without memory of it")
    criteria = sorted({result["solved"]["criterion"] for result in results if result.get("solved")})
    if "solved" in columns and criteria:
        told.append(
            f"solved: first validation with {' or '.join(criteria)}; mean step of the seeds that got there, "
            "k/n where only k of n did"
        )
    if "memory_horizon" in columns:
        told.append(
            "memory horizon: steps back from the last at which the gradient with respect to the first block's state "
            "(the part of it that reaches furthest: an LSTM's h or c) has fallen below 1 % of its size at the last "
            "step, at the end of training; median over seeds (range)"
        )
    return told


def _steps(count: float) -> str:
    return f"{count:.0f}" if count >= 10 or float(count).is_integer() else f"{count:.1f}"
