"""From our own words to the objects of wandb-workspaces, and to the very JSON that it sends.

wandb-workspaces draws the ids of panels and run sets at random. Here they follow from the names, so that the same sweep
gives the same JSON, byte for byte, and what is sent again changes nothing that has not changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wandb_workspaces import expr
from wandb_workspaces.reports.v2 import interface as wr
from wandb_workspaces.reports.v2 import internal as report_models
from wandb_workspaces.workspaces import interface as ws
from wandb_workspaces.workspaces import internal as workspace_models

from gradflow.runs.dashboards import panels as ours

WORKSPACE, REPORT = "project-view", "runs"  # what W&B calls their types
KINDS = {WORKSPACE: "workspace", REPORT: "report"}  # what people do
COLUMNS, ROWS = 3, 4  # of panels on one page of a section
GRID = 24  # columns of a report's grid
HEIGHT = 8  # of a panel in it, in its rows
MOST_RUNS = 100  # drawn in one panel; W&B's own 10 hides most of a sweep


@dataclass(frozen=True)
class View:
    """What W&B keeps: a workspace and a report differ in little but their type.

    Attributes:
        name: W&B's own, which appears in a workspace's address.
        title: what people see.
        model: the library's.
    """

    type: str
    name: str
    title: str
    description: str
    model: workspace_models.View | report_models.ReportViewspec

    @property
    def kind(self) -> str:
        return KINDS[self.type]

    @property
    def spec(self) -> str:
        """JSON, as the library writes it."""
        return str(self.model.spec.model_dump_json(by_alias=True, exclude_none=True))


def workspace_view(made: ours.Workspace, entity: str, project: str) -> View:
    """The model of a workspace."""
    settings = ws.WorkspaceSettings(max_runs=MOST_RUNS)
    runs = ws.RunsetSettings(pinned_columns=[f"{axis.section}:{_key(axis)}" for axis in made.columns])
    sections = [_section(section, f"{made.name}/{section.title}") for section in made.sections]
    view = ws.Workspace(
        entity=entity, project=project, name=made.name, sections=sections, settings=settings, runset_settings=runs
    )
    name = f"nw-{_id(made.name)}-v"  # the form of the names that W&B's page gives
    view._internal_name, view._internal_runset_id = name, _id(f"{made.name}/runs")
    view._stashed_filters_v2, view._stashed_filter_string = _filters(made.runs, ()), ""
    return View(WORKSPACE, name, made.name, "", view._to_model())


def report_view(made: ours.Report, entity: str, project: str, project_id: str | None = None) -> View:
    """The model of a report.

    Args:
        project_id: W&B's own number for the project, which only its server knows; None in a dry run.
    """
    blocks: list[Any] = [wr.TableOfContents()]
    blocks += [_block(block, made, f"{made.title}/{place}") for place, block in enumerate(made.blocks)]
    report = wr.Report(
        project=project, entity=entity, title=made.title, description=made.description, blocks=blocks, width="fluid"
    )
    model = report._to_model()  # type: ignore[no-untyped-call]
    where = report_models.Project(name=project, entity_name=entity, id=project_id)
    for block in model.spec.blocks:
        if isinstance(block, report_models.PanelGrid):
            for runs in block.metadata.run_sets:
                runs.project = where
    return View(REPORT, _id(made.title), made.title, made.description, model)


def as_json(views: Sequence[View]) -> str:
    """All that would be sent, for people and for `diff`."""
    shown = {
        view.kind: {
            **json.loads(view.model.model_dump_json(by_alias=True, exclude_none=True, exclude={"spec"})),
            "name": view.name,
            "spec": json.loads(view.spec),
        }
        for view in views
    }
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def _section(section: ours.Section, path: str) -> ws.Section:
    shown = [_panel(panel, f"{path}/{panel.title}") for panel in section.panels]
    rows = min(ROWS, -(-len(shown) // COLUMNS))
    layout = ws.SectionLayoutSettings(columns=COLUMNS, rows=rows)
    return ws.Section(name=section.title, panels=shown, is_open=section.opened, layout_settings=layout)


def _block(block: ours.Block, made: ours.Report, path: str) -> Any:
    match block:
        case ours.Heading(text, 1):
            return wr.H1(text)
        case ours.Heading(text, _):
            return wr.H2(text)
        case ours.Words(text):
            return wr.P(text)
        case ours.Markdown(text):
            return wr.MarkdownBlock(text)
        case ours.Code(text):
            return wr.CodeBlock(text, language="yaml")
        case ours.Grid(runs, panels):
            grid = [_panel(panel, f"{path}/{panel.title}") for panel in panels]
            for panel, layout in zip(grid, _layouts(len(grid)), strict=True):
                panel.layout = layout
            return wr.PanelGrid(runsets=[_run_set(runs, made, path)], panels=grid)


def _run_set(runs: ours.RunSet, made: ours.Report, path: str) -> wr.Runset:
    groups = [f"{axis.section}.{axis.key}" for axis in runs.by]
    run_set = wr.Runset(name=runs.name, groupby=groups)
    run_set._id = _id(f"{path}/runs")
    run_set._stashed_filters_v2, run_set._stashed_filter_string = _filters(made.runs, runs.where), ""
    return run_set


def _layouts(count: int) -> Iterator[wr.Layout]:
    """Three panels in a row; two, or one, share its width."""
    across = min(count, COLUMNS)
    width = GRID // max(across, 1)
    for place in range(count):
        yield wr.Layout(x=width * (place % across), y=HEIGHT * (place // across), w=width, h=HEIGHT)


def _panel(panel: ours.Panel, path: str) -> Any:
    made = _drawn(panel)
    made._id = _id(path)
    return made


def _drawn(panel: ours.Panel) -> Any:
    match panel:
        case ours.Bars(title, metrics, by, over):
            return wr.BarPlot(
                title=title,
                metrics=list(metrics),
                groupby=None if by is None else wr.Config(by),
                groupby_aggfunc=over,
                groupby_rangefunc="minmax" if over == "mean" else "none",
                max_runs_to_show=MOST_RUNS,
                max_bars_to_show=MOST_RUNS,
            )
        case ours.Lines(title, metrics, by, log):
            return wr.LinePlot(
                title=title,
                y=list(metrics),
                log_y=log or None,
                title_x="step",
                groupby=None if by is None else wr.Config(by),
                groupby_aggfunc=None if by is None else "mean",
                groupby_rangefunc=None if by is None else "minmax",
                max_runs_to_show=MOST_RUNS,
            )
        case ours.Scatter(title, x, y, colour):
            return wr.ScatterPlot(
                title=title,
                x=_metric(x),
                y=_metric(y),
                z=None if colour is None else _metric(colour),
                log_x=x.log or None,
                log_y=y.log or None,
                log_z=(colour is not None and colour.log) or None,
            )
        case ours.Parallel(title, axes):
            columns = [
                wr.ParallelCoordinatesPlotColumn(metric=_metric(axis), display_name=axis.title, log=axis.log or None)
                for axis in axes
            ]
            return wr.ParallelCoordinatesPlot(title=title, columns=columns)
        case ours.Importance(_, metric):
            return wr.ParameterImportancePlot(with_respect_to=metric)
        case ours.Pictures(title, pictures):
            return wr.MediaBrowser(title=title, media_keys=list(pictures), num_columns=COLUMNS)
        case ours.Note(_, markdown):
            return wr.MarkdownPanel(markdown=markdown)


def _metric(axis: ours.Axis) -> wr.Config | wr.SummaryMetric:
    return wr.Config(axis.key) if axis.section == "config" else wr.SummaryMetric(axis.key)


def _key(axis: ours.Axis) -> str:
    """As a column of the runs table."""
    return f"{axis.key}.value" if axis.section == "config" else axis.key


def _filters(runs: ours.Which, where: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """W&B's ids of runs are gradflow's. A config key is asked for as W&B's own page does, by `KEY.value`.

    The library's interface takes filters as Python in a string, which a word with quotes in it breaks.
    """
    found = [expr.Metric("ID").isin(list(runs.ids))] if runs.ids else []
    found += [expr.Metric("Group").isin([runs.group])] if runs.group else []
    found += [expr.Config(f"{key}.value").isin([word]) for key, word in where]
    tree = expr.Filters(op="AND", filters=[one.to_model() for one in found])
    return dict(expr.filters_tree_to_v2(tree))


def _id(path: str) -> str:
    """Eleven letters and digits, as many as W&B's own ids have."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    number = int.from_bytes(hashlib.sha256(path.encode()).digest()[:16], "big")
    made = ""
    for _ in range(11):
        number, digit = divmod(number, len(digits))
        made += digits[digit]
    return made
