"""What `gradflow diagnose` shows: one run with all its signs, or a line for each run of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from gradflow.diagnosis.evidence import from_record
from gradflow.diagnosis.sign import Sign
from gradflow.diagnosis.thresholds import Thresholds
from gradflow.diagnosis.verdict import Diagnosis, diagnose
from gradflow.errors import ConfigError
from gradflow.results.formats import COLOURS
from gradflow.results.neighbours import beside, with_cures
from gradflow.runs.identity import title
from gradflow.runs.planfile import PLAN, collect
from gradflow.runs.record import Record, Unreadable, read


@dataclass(frozen=True)
class Case:
    """One run and its diagnosis."""

    record: Record
    diagnosis: Diagnosis


@dataclass(frozen=True)
class Diagnoses:
    """Of what was asked for.

    Attributes:
        cases: in the order of the plan.
        single: whether one run was asked for, which is then shown in full.
        problems: what could not be read, a line each.
    """

    cases: list[Case]
    single: bool
    problems: list[str]


def of(folder: Path, limits: Thresholds | None = None) -> Diagnoses:
    """The diagnoses of one run's folder, or of every run of a sweep or of a folder of runs.

    Args:
        limits: those of conf/diagnosis.yaml unless given.

    Raises:
        ConfigError: if it holds no runs, or a single run cannot be read.
    """
    if (folder / "status.json").exists() and not (folder / PLAN).exists():
        try:
            record = read(folder)
        except Unreadable as error:
            raise ConfigError(str(error)) from None
        assert record is not None
        found = _judged(record, limits)
        return Diagnoses([Case(record, with_cures(found, record, *beside(record)))], True, [])
    collection = collect(folder)
    cases, problems = [], list(collection.found.problems)
    for run_id in collection.planned:
        record = collection.found.records.get(run_id)
        if record is not None:
            try:
                cases.append(Case(record, _judged(record, limits)))
            except ConfigError as error:
                problems += error.lines
    return Diagnoses(cases, False, problems)


def _judged(record: Record, limits: Thresholds | None) -> Diagnosis:
    """Made anew, but of an imported record as it came: W&B was not given all that signs are looked for in.

    Raises:
        ConfigError: where it cannot be made.
    """
    if not record.imported or record.result is None:
        return diagnose(from_record(record.path), limits)
    if limits is not None:
        raise ConfigError(f"--thresholds: {record.run_id} was imported from W&B, which has not all that is judged")
    return Diagnosis(str(record.result["verdict"]), tuple(Sign(**sign) for sign in record.result["signs"]))


def to_json(found: Diagnoses) -> str:
    """An object for one run, a list of them for many."""
    told = [_told(case) for case in found.cases]
    return json.dumps(told[0] if found.single else told, indent=1, ensure_ascii=False, allow_nan=False)


def to_rich(found: Diagnoses) -> Iterator[Any]:
    """For a terminal."""
    if found.single:
        yield from _in_full(found.cases[0])
        return
    table = _table("run", "what", "verdict", "decided by")
    for case in found.cases:
        sign = case.diagnosis.decisive
        table.add_row(case.record.run_id, title(case.record.labels), _verdict(case), "" if sign is None else str(sign))
    yield table


def _in_full(case: Case) -> Iterator[Any]:
    diagnosis, record = case.diagnosis, case.record
    yield Text(title(record.labels), style="bold")
    yield Text.assemble("verdict: ", _verdict(case), _state(record))
    if diagnosis.signs:
        table = _table("sign of", "what", "value", "threshold", "where")
        table.columns[2].justify = table.columns[3].justify = "right"
        for sign in diagnosis.signs:
            shown = sign.what, number(sign.value), number(sign.threshold), sign.where or ""
            table.add_row(Text(sign.verdict, style=COLOURS.get(sign.verdict, "")), *map(Text, shown))
        yield table
    if record.imported:
        yield "judged where it was trained, before it was imported; what W&B was not given cannot be looked at again"
    else:
        yield f"{len(diagnosis.clear)} signs were looked for and not found{_listed(diagnosis.clear)}"
    if diagnosis.unmeasured:
        yield f"{len(diagnosis.unmeasured)} could not be looked for{_listed(diagnosis.unmeasured)}"
    for cure in diagnosis.cures:
        typed = f"  [{' '.join(cure.overrides)}]" if cure.overrides else ""
        yield Text(f"cure: {cure}{typed}")


def number(value: float) -> str:
    return f"{value:.3g}"


def _verdict(case: Case) -> Text:
    return Text(case.diagnosis.verdict, style=COLOURS.get(case.diagnosis.verdict, ""))


def _state(record: Record) -> str:
    done = record.state in ("completed", "diverged")
    return "" if done else f", so far: the run is {record.state}, and what is judged is what it has written by now"


def _listed(names: tuple[str, ...]) -> str:
    return f": {', '.join(names)}" if names else ""


def _table(*headers: str) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(Text(header), overflow="fold")
    return table


def _told(case: Case) -> dict[str, Any]:
    diagnosis = case.diagnosis
    return {
        "run_id": case.record.run_id,
        "state": case.record.state,
        "title": title(case.record.labels),
        "verdict": diagnosis.verdict,
        "signs": [_sign(sign) for sign in diagnosis.signs],
        "clear": list(diagnosis.clear),
        "unmeasured": list(diagnosis.unmeasured),
        "cures": [asdict(cure) for cure in diagnosis.cures],
    }


def _sign(sign: Sign) -> dict[str, Any]:
    return asdict(sign)
