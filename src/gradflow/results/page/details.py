"""All that the page tells of one run: its series, its diagnosis, and what its record says of it in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from gradflow.diagnosis.evidence import from_tables
from gradflow.diagnosis.verdict import Diagnosis, diagnose
from gradflow.results.neighbours import prediction, with_cures
from gradflow.results.page import series
from gradflow.results.page.about import about
from gradflow.results.page.pack import rounded
from gradflow.results.page.shown import series_of
from gradflow.runs.record import DONE, Record


@dataclass(frozen=True)
class Planned:
    """What a sweep says of a run beside its record.

    Attributes:
        labels, overrides, config: of the plan; the last two empty where there is none.
        more: words to type behind the overrides, such as --config-dir.
        beside: records to find cures in, by run id.
        place: what to call where they are from.
        anew: whether its signs are looked for anew, which says what was not found and costs ten milliseconds; else they
            are those of its result.
    """

    labels: dict[str, Any]
    overrides: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    more: list[str] = field(default_factory=list)
    beside: dict[str, Record] = field(default_factory=dict)
    place: str = "this sweep"
    anew: bool = True


def details(record: Record | None, planned: Planned, most: int) -> dict[str, Any]:
    """A run's details, as JSON can hold them.

    Args:
        record: None for a run that has none yet.
        most: numbers of its series that may be in it.
    """
    words = about(record, planned.labels, planned.overrides, planned.config, planned.more)
    if record is None:
        return {**words, **series_of(series.Measured(), None, most), "diagnosis": None, "problems": []}
    problems: list[str] = []
    gradflow, metrics = (_series(record.path / f"{name}.parquet", problems) for name in ("gradflow", "metrics"))
    said = prediction(record.path)
    return {
        **words,
        **series_of(series.measured(gradflow, metrics), said, most),
        "diagnosis": _diagnosis(record, planned, gradflow, metrics),
        "problems": problems,
    }


def _diagnosis(
    record: Record, planned: Planned, gradflow: pa.Table | None, metrics: pa.Table | None
) -> dict[str, Any] | None:
    """The verdict with its signs: those of the result once there is one, else of what there is by now."""
    result, done = record.result or {}, record.state in DONE
    anew = not done or (planned.anew and not record.imported)  # W&B was not given all that is judged
    if anew:
        if gradflow is None and metrics is None and not done:
            return None
        found = diagnose(from_tables(result, gradflow, metrics))
    else:
        found = Diagnosis(str(result["verdict"]))
    if done:
        found = Diagnosis(str(result["verdict"]), found.signs, found.clear, found.unmeasured)
    cured = with_cures(found, record, planned.beside, planned.place)
    signs = result.get("signs", []) if done else [asdict(sign) for sign in found.signs]
    return {
        "verdict": found.verdict,
        "so_far": not done,
        "signs": [
            {"of": sign["verdict"], **{key: sign.get(key) for key in ("name", "what", "value", "threshold", "where")}}
            for sign in rounded(signs)
        ],
        "clear": list(found.clear),
        "unmeasured": list(found.unmeasured),
        "looked": anew,
        "cures": [
            {"text": str(cure), "overrides": list(cure.overrides), "source": cure.source} for cure in cured.cures
        ],
    }


def _series(file: Path, problems: list[str]) -> pa.Table | None:
    try:
        return series.read(file)
    except (OSError, pa.ArrowException) as error:
        problems.append(f"{file.name}: cannot be read ({str(error).splitlines()[0]})")
        return None
