"""`gradflow dashboard`: a W&B workspace and a report, as code."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.runs.wandb_project import check_project
from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.runs.dashboards.panels import Report
    from gradflow.runs.dashboards.subject import Subject
    from gradflow.runs.planfile import Collection

SUMMARY = "make or update a W&B workspace, and a report of a sweep"
HELP = """Make a W&B workspace of the choices that a sweep varies, and a W&B report with its table. What is there
already under the same name is updated. Needs gradflow[dashboard] and an account; without one: gradflow report.

  gradflow dashboard --project P                      a general workspace, for any runs
  gradflow dashboard sweeps/quickstart --project P    of a sweep, with a report
  gradflow dashboard sweeps/quickstart --project P --dry-run --out spec.json
"""


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", nargs="?", type=Path, metavar="DIR", help=f"{usage.DIRECTORY}; none: a general one")
    command.add_argument("--project", required=True, metavar="NAME", help="the W&B project")
    command.add_argument("--entity", metavar="NAME", help="the account or team (default: WANDB_ENTITY, or its own)")
    command.add_argument("--dry-run", action="store_true", help="write what would be sent as JSON, and send nothing")
    command.add_argument("--out", type=Path, metavar="FILE", help="where --dry-run writes (default: the terminal)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Make or update them, or say what would be sent."""
    if options.out is not None and not options.dry_run:
        raise ConfigError("--out: where --dry-run writes; add --dry-run, or leave --out away")
    check_project(options.project, f"--project {options.project}")
    if find_spec("wandb_workspaces") is None:
        raise ConfigError("dashboard: wandb-workspaces is not installed; pip install 'gradflow[dashboard]'")
    options.entity = options.entity or os.environ.get("WANDB_ENTITY")
    subject, report = _what(options.folder)
    if options.dry_run:
        return _write(options, subject, report)
    return _send(options, subject, report)


def _write(options: argparse.Namespace, subject: Subject, report: Report | None) -> int:
    from gradflow.runs.dashboards.models import as_json, report_view, workspace_view
    from gradflow.runs.dashboards.workspace import workspace
    from gradflow.runs.record import write_bytes

    where = (options.entity or "", options.project)
    views = [workspace_view(workspace(subject), *where)]
    views += [] if report is None else [report_view(report, *where)]
    if options.out is None:
        print(as_json(views), end="")
    else:
        try:
            write_bytes(options.out, as_json(views).encode())
        except OSError as error:
            raise ConfigError(f"--out {options.out}: cannot be written: {error.strerror or error}") from None
        print(options.out)
    return OK


def _send(options: argparse.Namespace, subject: Subject, report: Report | None) -> int:
    from gradflow.runs.credentials import has_wandb_key

    alone = f"gradflow report {options.folder or 'DIR'}"
    no_account = ConfigError(f"dashboard: no W&B API key found; run 'wandb login'. Without an account: {alone}")
    if not has_wandb_key():
        raise no_account
    from gradflow.runs.dashboards.models import report_view, workspace_view
    from gradflow.runs.dashboards.server import NoAccount, Refused, Server
    from gradflow.runs.dashboards.workspace import workspace

    try:
        server = Server(options.entity, options.project)
        where = (server.entity, server.project)
        views = [workspace_view(workspace(subject), *where)]
        views += [] if report is None else [report_view(report, *where, server.project_id)]
        for view in views:
            put = server.put(view)
            print(f"{view.kind} {put.title!r} {'made' if put.made else 'updated'}: {put.url}", flush=True)
    except NoAccount:
        raise no_account from None
    except Refused as error:
        print(f"gradflow: W&B: {error}", file=sys.stderr)
        return FAILED
    return OK


def _what(folder: Path | None) -> tuple[Subject, Report | None]:
    """What a dashboard is about, and the report of a folder."""
    from gradflow.runs.dashboards.judged import judged
    from gradflow.runs.dashboards.subject import general, subject_of

    if folder is None:
        return general(), None
    from gradflow.results.choices import planned, varying
    from gradflow.results.status import summary
    from gradflow.runs.dashboards.report import report
    from gradflow.runs.planfile import collect

    collection = collect(folder)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    group = None if collection.command is None else collection.name
    subject = subject_of(collection.name, planned(collection), varying, judged(collection), group)
    return subject, report(subject, summary(collection), _tables(collection, subject.tasks), collection.command)


def _tables(collection: Collection, tasks: tuple[str, ...]) -> dict[str, str]:
    """Of each task its results, in Markdown: figures of different tasks have no mean."""
    from gradflow.results.formats import to_markdown
    from gradflow.results.table import make_table
    from gradflow.runs.record import Found

    tables = {}
    for task in tasks:
        own = {run_id: labels for run_id, labels in collection.planned.items() if labels["task"] == task}
        records = {run_id: record for run_id, record in collection.found.records.items() if run_id in own}
        tables[task] = to_markdown(make_table(replace(collection, planned=own, found=Found(records))))
    return tables
