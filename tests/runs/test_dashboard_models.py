"""What would be sent to W&B: valid for the library's own models, the same every time, of keys that runs really log."""

import json
import random
from pathlib import Path

import pytest
from wandb_workspaces.reports.v2 import interface as wr
from wandb_workspaces.reports.v2 import internal as report_models
from wandb_workspaces.workspaces import interface as ws
from wandb_workspaces.workspaces import internal as workspace_models

from gradflow.results.choices import planned, varying
from gradflow.runs.dashboards.judged import judged
from gradflow.runs.dashboards.models import as_json, report_view, workspace_view
from gradflow.runs.dashboards.report import report
from gradflow.runs.dashboards.subject import general, subject_of
from gradflow.runs.dashboards.workspace import workspace
from gradflow.runs.execute import execute
from gradflow.runs.planfile import collect
from gradflow.runs.stop import Stop
from gradflow.runs.wandb_file import records as records_of

HOSTILE = "<script>alert('x')</script> | \"it's\" 50%"


def views(subject, table="| a |", command="gradflow sweep", entity="team", project="p"):
    made = report(subject, "2 runs", {"digits": table}, command)
    return [workspace_view(workspace(subject), entity, project), report_view(made, entity, project, "7")]


def of_folder(folder):
    collection = collect(folder)
    return subject_of(collection.name, planned(collection), varying, judged(collection))


@pytest.fixture
def subject(records):
    for depth in (2, 40):
        for activation in ("relu", "tanh"):
            records.add(depth=depth, activation=activation)
    records.add(task=HOSTILE, activation=HOSTILE)
    return of_folder(records.sweep())


def dumped(model):
    """Of a text that it reads, the library adds that nobody has commented on it."""
    return _without(model.model_dump(by_alias=True, exclude_none=True), "inlineComments")


def _without(value, name):
    if isinstance(value, dict):
        return {key: _without(inner, name) for key, inner in value.items() if key != name}
    return [_without(inner, name) for inner in value] if isinstance(value, list) else value


def test_the_workspace_is_valid_for_the_library_and_comes_back_from_it_as_it_was(subject):
    view, _ = views(subject)
    read = workspace_models.WorkspaceViewspec.model_validate_json(view.spec)
    assert dumped(read) == dumped(view.model.spec)
    again = ws.Workspace._from_model(view.model)
    assert again.name == "gradflow hand"
    assert dumped(again._to_model()) == dumped(view.model)
    kinds = {type(panel) for section in again.sections for panel in section.panels}
    assert kinds == {
        *(wr.BarPlot, wr.LinePlot, wr.ScatterPlot, wr.ParallelCoordinatesPlot, wr.ParameterImportancePlot),
        *(wr.MediaBrowser, wr.MarkdownPanel),
    }


def test_the_report_is_valid_for_the_library_and_comes_back_from_it_as_it_was(subject):
    _, view = views(subject)
    read = report_models.Spec.model_validate_json(view.spec)
    assert dumped(read) == dumped(view.model.spec)
    assert not any(isinstance(block, report_models.UnknownBlock) for block in read.blocks)
    for block in read.blocks:
        if isinstance(block, report_models.PanelGrid):
            grid = wr.PanelGrid._from_model(block)
            assert {type(panel) for panel in grid.panels}.isdisjoint({wr.UnknownPanel})
            for runs in grid.runsets:
                assert (runs.entity, runs.project) == ("team", "p")
                runs.entity = runs.project = ""  # with them the library asks W&B for the project's number
            assert dumped(grid._to_model())["metadata"]["panelBankSectionConfig"] == dumped(
                block.metadata.panel_bank_section_config
            )


def test_it_is_the_same_however_the_dice_fall(subject):
    random.seed(1)
    once = as_json(views(subject))
    random.seed(2)
    assert as_json(views(subject)) == once
    ids = [found["__id__"] for found in _all(json.loads(once)) if "__id__" in found]
    assert len(ids) == len(set(ids)) > 40
    assert {len(id_) for id_ in ids} == {11}


def test_what_came_from_a_config_stays_a_value(subject):
    workspace_sent, report_sent = (json.loads(view.spec) for view in views(subject))
    filters = [found["filters"] for found in _all(report_sent) if found.get("filterFormat") == "filterV2"]
    tasks = [
        one["value"] for both in filters for one in both if one["key"] == {"section": "config", "name": "task.value"}
    ]
    assert {word for (word,) in tasks} == {"digits", HOSTILE}
    ids = [one["value"] for both in filters for one in both if one["key"]["name"] == "name"]
    assert all(len(value) == 5 for value in ids)
    assert len(workspace_sent["section"]["runSets"][0]["filters"]["filters"][0]["value"]) == 5


def _all(value):
    """Every mapping inside."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _all(inner)


# --- panels show what runs log ----------------------------------------------------------------------------------


def logged(runs: Path):
    """The keys of real offline runs: of their config, their summary and their history. Of a picture W&B keeps parts,
    such as 'heat_map/grad_norm.path'."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = {"config": set(), "summary": set(), "history": set()}
    for file in runs.rglob("*.wandb"):
        for _, content in records_of(file.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            parts = {
                "config": [*record.run.config.update, *record.config.update],
                "summary": record.summary.update,
                "history": record.history.item,
            }
            for kind, items in parts.items():
                found[kind] |= {(item.key or ".".join(item.nested_key)).partition(".")[0] for item in items}
    return found


def shown(spec):
    """The keys that panels, columns and groups of a spec name, of the config, the summary and the history."""
    found = {"config": set(), "summary": set(), "history": set()}

    def add(accessor):
        section, _, key = accessor.partition(":")
        if section != "run":
            found[section].add(key.removesuffix(".value"))

    for part in _all(spec):
        config = part.get("config") if "viewType" in part else None
        for column in part.get("columnPinned", {}):
            add(column)
        for key in part.get("grouping", []):
            add(f"{key['section']}:{key['name']}")
        if not isinstance(config, dict):
            continue
        if "groupBy" in config:
            add(f"config:{config['groupBy']}")
        for axis in ("xAxis", "yAxis", "zAxis"):
            if ":" in config.get(axis, ""):
                add(config[axis])
        for column in config.get("columns", []):
            add(column["accessor"])
        if "targetKey" in config:
            found["summary"].add(config["targetKey"])
        history = part["viewType"] in ("Run History Line Plot", "Media Browser")
        found["history" if history else "summary"] |= {*config.get("metrics", []), *config.get("mediaKeys", [])}
    return found


@pytest.fixture
def real(configure, tmp_path):
    """Two short runs with W&B offline: a network of ten blocks, and a recurrent one."""
    common = ("logger.mode=offline", "trainer.max_steps=6", "trainer.val_every_n_steps=3", "width=8")
    adding = ("task=adding", "task.length=8", "task.val_size=20", "task.test_size=20", "model=recurrent", "cell=lstm")
    for words in (("depth=10", "instruments.every_n_steps=2"), (*adding, "instruments.time_every_n_steps=2")):
        assert execute(configure(*words, *common), [], Stop()).state == "completed"
    return tmp_path / "runs"


def test_panels_name_only_keys_that_runs_log(real):
    """Of a folder of runs, and in general; W&B draws a panel of a key that nobody logs as an empty one."""
    known = logged(real)
    assert {"depth", "task-length"} <= known["config"]
    for view in (*views(of_folder(real)), workspace_view(workspace(general()), "team", "p")):
        for kind, keys in shown(json.loads(view.spec)).items():
            assert keys, kind
            assert keys - known[kind] == set(), kind
