"""The runs beside a run, and what they say would help it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from gradflow.diagnosis.cures import Neighbour, cures
from gradflow.diagnosis.verdict import IN_TIME, Diagnosis
from gradflow.runs.planfile import PLAN, Plan, read_plan
from gradflow.runs.record import Record, Unreadable, load_json, read_all

PREDICTION = "prediction.json"


def with_cures(diagnosis: Diagnosis, record: Record, beside: dict[str, Record], place: str) -> Diagnosis:
    """A diagnosis with the cures that fit: from runs beside it, from the prediction in its record, else in general.

    Args:
        record: the run's.
        beside: records to compare it with, by run id; it may be among them.
        place: what to call where they are from.
    """
    result = record.result or {}
    metric = str(result.get("metric", "metric"))
    decisive = diagnosis.decisive
    return replace(
        diagnosis,
        cures=cures(
            Neighbour(record.labels, diagnosis.verdict, (result.get("metrics") or {}).get(metric)),
            [
                each
                for run_id, other in beside.items()
                if run_id != record.run_id and (each := _neighbour(other, metric))
            ],
            prediction(record.path),
            metric=metric,
            larger_is_better=bool(result.get("larger_is_better", True)),
            place=place,
            through_time=decisive is not None and decisive.name in IN_TIME,
        ),
    )


def beside(record: Record) -> tuple[dict[str, Record], str]:
    """The runs of the sweeps that a run belongs to, and what to call them; where it belongs to none, those of its
    folder."""
    plans = [plan for folder in _sweeps(record) if (plan := _plan(folder, record)) is not None]
    if not plans:
        return read_all(record.path.resolve().parent).records, "this folder of runs"
    ids = dict.fromkeys(run.run_id for plan in plans for run in plan.runs)
    words = "this sweep" if len(plans) == 1 else f"the sweeps {', '.join(plan.name for plan in plans)}"
    return read_all(record.path.resolve().parent, list(ids)).records, words


def prediction(path: Path) -> dict[str, Any] | None:
    """What theory says of a run, where it has written it down."""
    try:
        return load_json(path / PREDICTION)
    except Unreadable:
        return None


def _neighbour(record: Record, metric: str) -> Neighbour | None:
    if record.result is None or record.result.get("metric") != metric:
        return None
    completed = record.state == "completed"
    figure = record.result["metrics"].get(metric) if completed else None
    return Neighbour(record.labels, str(record.result["verdict"]), figure)


def _sweeps(record: Record) -> list[Path]:
    """Where sweeps may lie: as the environment says, as the run's config said, and beside the folder of runs."""
    runs = record.path.resolve().parent
    named = [os.environ.get("GRADFLOW_SWEEPS_DIR"), _said(record.path / "config.yaml")]
    folders = dict.fromkeys([*(Path(name).resolve() for name in named if name), runs.parent / "sweeps"])
    return [file.parent for folder in folders if folder.is_dir() for file in sorted(folder.glob(f"*/{PLAN}"))]


def _said(file: Path) -> str | None:
    try:
        return str(yaml.safe_load(file.read_text(encoding="utf-8"))["paths"]["sweeps"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def _plan(folder: Path, record: Record) -> Plan | None:
    try:
        plan = read_plan(folder)
    except Unreadable:
        return None
    mine = plan is not None and plan.runs_dir.resolve() == record.path.resolve().parent
    return plan if mine and plan is not None and any(run.run_id == record.run_id for run in plan.runs) else None
