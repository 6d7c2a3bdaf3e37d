"""The verdict on anybody's own model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from gradflow.diagnosis.cures import Neighbour, cures
from gradflow.diagnosis.evidence import from_rows
from gradflow.diagnosis.thresholds import overridden
from gradflow.diagnosis.verdict import IN_TIME, Diagnosis
from gradflow.diagnosis.verdict import diagnose as judge


class HasRows(Protocol):
    """Such as a `gradflow.Flow`."""

    def rows(self) -> Iterable[Mapping[str, Any]]: ...


def diagnose(
    flow: HasRows | Iterable[Mapping[str, Any]],
    *,
    losses: Sequence[float] | Mapping[int, float] | tuple[Sequence[int], Sequence[float]] | None = None,
    figure: float | None = None,
    chance: float | None = None,
    chance_error: float | None = None,
    larger_is_better: bool = True,
    metric: str = "metric",
    thresholds: str | Path | None = None,
) -> Diagnosis:
    """What is wrong with the gradients of a model that was watched by `GradientFlow` or `gradflow.watch`.

    Only what was measured is judged: of the gradient norms alone whether they vanish, explode or are zero; with
    `losses` also the course of the loss; with `figure` and `chance` also whether anything was learned.

    Args:
        flow: `callback.flow`, what `watch` yielded, the callback itself, or rows: each a mapping with step, block
            (index or None), name, quantity, value and, for a time axis, time.
        losses: the training loss: one per step, {step: loss}, or (steps, losses).
        figure: what the model scored on data it has not seen, such as an accuracy.
        chance: what a guess scores.
        chance_error: the standard error of a guess's figure, e.g. √(p(1 − p)/n) for an accuracy p on n examples.
        larger_is_better: of `figure`.
        metric: its name.
        thresholds: a file that overrides some of conf/diagnosis.yaml.

    Raises:
        TypeError: if `flow` has no rows.
        ConfigError: for a mistake in the file of thresholds.
        ValueError: if losses and steps are not equally many.

    Example:
        >>> rows = [{"step": s, "block": b, "name": f"layers.{b}", "quantity": "grad_norm", "value": 10.0 ** (b - 5)}
        ...         for s in range(10) for b in range(6)]
        >>> diagnose(rows).verdict
        'vanishing'
    """
    inner = flow if hasattr(flow, "rows") else getattr(flow, "flow", flow)
    rows = inner.rows() if hasattr(inner, "rows") else inner
    if not isinstance(rows, Iterable):
        raise TypeError(f"diagnose needs a Flow or rows, not {type(flow).__name__}")
    evidence = from_rows(
        rows,
        losses=losses,
        figure=figure,
        chance=chance,
        chance_error=chance_error,
        larger_is_better=larger_is_better,
        metric=metric,
    )
    found = judge(evidence, None if thresholds is None else overridden(Path(thresholds)))
    time = found.decisive is not None and found.decisive.name in IN_TIME
    return replace(found, cures=cures(Neighbour({}, found.verdict, figure), through_time=time))
