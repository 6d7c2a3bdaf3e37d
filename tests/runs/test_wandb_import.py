"""Runs at W&B become records here: a real run, logged online by the real client to a stand-in of W&B's server on the
loopback (`wandb_stand_in.py`), and read back by `wandb.Api`."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from wandb_stand_in import Kept, StandIn

from gradflow.diagnosis.thresholds import thresholds
from gradflow.errors import ConfigError
from gradflow.results import diagnoses
from gradflow.results.survey import survey
from gradflow.results.table import make_table
from gradflow.runs.compose import composer
from gradflow.runs.execute import execute
from gradflow.runs.planfile import collect
from gradflow.runs.record import read
from gradflow.runs.stop import Stop
from gradflow.runs.wandb_history import NOT_LOGGED
from gradflow.runs.wandb_import import filters_of, labels_of, metrics_of, pull
from gradflow.runs.wandb_logger import dismiss

KEY = "5ec2e7" * 6 + "abcd"
WORDS = ("depth=3", "width=8", "activation=sigmoid", "trainer.max_steps=40", "trainer.val_every_n_steps=20")
PROJECT = "somebody/gradflow"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Has three runs in one project: one of ours with its record in `server.runs_here`, one of other software, and one
    that is running."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, StandIn() as stand_in:
        patch.setenv("WANDB_BASE_URL", stand_in.url)
        patch.setenv("WANDB_API_KEY", KEY)
        with composer() as compose:
            common = "hardware.device=cpu", "logger.mode=online", "logger.group=g", f"paths.runs={folder}"
            config = compose.config([*WORDS, *common, "logger.wait_seconds=120"])
        outcome = execute(config, [], Stop())
        assert outcome.state == "completed", outcome.error
        dismiss()
        stand_in.here = folder / outcome.run_id
        foreign = Kept("gradflow", [{"_step": s, "loss": 1 / (s + 1), "val/acc": "NaN"} for s in range(3)], 0)
        foreign.config = {"lr": {"value": 0.1}, "model": {"value": {"name": "vit", "layers": 12}}, "seed": {"value": 3}}
        foreign.summary = {"loss": 0.25, "test_acc": 0.75, "_runtime": 10.0, "_step": 2, "note": "x", "nan": "NaN"} | {
            "a:b:c": 0.5
        }
        foreign.title = "<script> & co"
        stand_in.runs["foreign/1"] = foreign
        stand_in.runs["alive"] = Kept("gradflow", [], None, summary={"loss": 1.0})
        yield stand_in


@pytest.fixture(autouse=True)
def _speaks_with_it(server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def rows(path: Path, name: str) -> list[tuple]:
    table = pq.read_table(path / f"{name}.parquet").to_pylist()
    return sorted((tuple(row.values()) for row in table), key=str)


def test_a_run_of_ours_comes_back_as_it_was(server, tmp_path):
    done = pull(PROJECT, tmp_path, filters_of(["group=g", "depth=3"]))
    assert (done.new, done.there, done.skipped) == ([server.here.name], [], {})
    ours, back = read(server.here), read(tmp_path / server.here.name)
    assert back.result == ours.result
    assert (back.state, back.labels, back.status["title"]) == (ours.state, ours.labels, ours.status["title"])
    assert back.status["imported"] == f"{PROJECT}/{server.here.name}"
    assert rows(back.path, "metrics") == rows(ours.path, "metrics")
    kept, whole = rows(back.path, "gradflow"), rows(ours.path, "gradflow")
    assert set(kept) <= set(whole)
    left_out = {row[4] for row in set(whole) - set(kept) if row[1] is not None}
    assert all(quantity.startswith(NOT_LOGGED) or "/" in quantity for quantity in left_out)
    config, before = (yaml.safe_load((each.path / "config.yaml").read_text()) for each in (back, ours))
    assert {**config, "paths": None} == {**before, "paths": None}
    assert survey(tmp_path).runs_dir == tmp_path


def test_a_run_of_other_software_gets_labels_from_its_config_and_metrics_from_its_summary(server, tmp_path):
    done = pull(
        PROJECT, tmp_path, metrics=metrics_of(["test_acc:test/accuracy"]), labels={"task": "digits", "depth": 12}
    )
    assert done.new == [server.here.name, "wandb-foreign_1"]
    assert done.skipped == {"wandb-alive": "it is running"}
    record = read(tmp_path / "wandb-foreign_1")
    assert record.state == "completed"
    assert record.result["metrics"] == {"test/accuracy": 0.75}
    assert (record.result["metric"], record.result["larger_is_better"]) == ("test/accuracy", True)
    wanted = {"lr": 0.1, "model.name": "vit", "model.layers": 12, "seed": 3, "source": PROJECT, "task": "digits"}
    wanted |= {"depth": 12, "recipe": "gradflow"}
    assert record.labels.items() >= wanted.items()
    assert record.result["cost"]["train_seconds"] == 10.0
    metrics = pq.read_table(record.path / "metrics.parquet").to_pylist()
    assert [(r["step"], r["value"]) for r in metrics if r["name"] == "loss"] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert all(math.isnan(row["value"]) for row in metrics if row["name"] == "acc")


def test_whether_less_is_better_hangs_on_what_the_metric_is_and_not_on_what_it_is_called(server, tmp_path):
    labels = labels_of(["day=2026-01-31", "lr=1e-4", "note=a: b", "model=@x", "rate=.nan"])
    pull(PROJECT, tmp_path, metrics=metrics_of(["loss:test/score", "a:b:c"]), labels=labels)
    record = read(tmp_path / "wandb-foreign_1")
    assert record.result["metrics"] == {"test/score": 0.25, "a:b:c": 0.5}  # a key with a colon is one
    assert (record.result["metric"], record.result["larger_is_better"]) == ("test/score", False)
    wanted = {"day": "2026-01-31", "lr": 1e-4, "note": "a: b", "model": "@x", "rate": ".nan"}
    assert record.labels.items() >= wanted.items()
    with pytest.raises(ConfigError, match="two of the metrics would be called x"):
        metrics_of(["a:x", "x"])
    with pytest.raises(ConfigError, match="a is asked for twice"):
        metrics_of(["a:x", "a:y"])


def test_it_is_not_judged_again_since_not_all_that_is_judged_was_given_to_wandb(server, tmp_path):
    pull(PROJECT, tmp_path, filters_of(["group=g"]))
    (case,) = diagnoses.of(tmp_path / server.here.name).cases
    assert case.diagnosis.verdict == case.record.result["verdict"]
    assert [asdict(sign) for sign in case.diagnosis.signs] == case.record.result["signs"] != []
    assert (case.diagnosis.clear, case.diagnosis.unmeasured) == ((), ())
    with pytest.raises(ConfigError, match=r"--thresholds: .* was imported from W&B"):
        diagnoses.of(tmp_path / server.here.name, thresholds())


def test_a_filter_by_a_label_that_no_run_has_names_the_nearest(server, tmp_path):
    with pytest.raises(ConfigError, match=r"--filter depht: no run of .* fits; allowed: .* did you mean 'depth'"):
        pull(PROJECT, tmp_path, filters_of(["depht=3"]))
    assert pull(PROJECT, tmp_path, filters_of(["depth=99"])).new == []


def test_a_metric_of_several_names_in_one_task_is_told(server, tmp_path):
    pull(PROJECT, tmp_path, metrics=metrics_of(["test_acc"]), labels={"task": "digits"})
    notes = make_table(collect(tmp_path)).notes
    assert "digits: the metric of 1 run is test/accuracy, of 1 run is test_acc" in notes


def test_nothing_that_is_there_is_changed(server, tmp_path):
    mine = tmp_path / server.here.name
    mine.mkdir()
    (mine / "status.json").write_text("mine")
    done = pull(PROJECT, tmp_path, filters_of(["group=g"]))
    assert (done.new, done.there) == ([], [server.here.name])
    assert [file.read_text() for file in mine.iterdir()] == ["mine"]


def test_a_metric_that_a_run_has_not_is_told(tmp_path):
    done = pull(PROJECT, tmp_path, metrics=metrics_of(["accuracy"]))
    assert done.skipped["wandb-foreign_1"] == "its summary has no accuracy, but a:b:c, loss, test_acc"


@pytest.mark.parametrize("fault", ["no such project", "refused", "nobody"])
def test_what_the_server_does_not_give_is_one_line(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(server, "refuses", fault == "refused")
    if fault == "nobody":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        monkeypatch.setattr("gradflow.runs.wandb_import.PATIENCE", 1)
    project = "somebody/other" if fault == "no such project" else PROJECT
    with pytest.raises(ConfigError, match=f"import-wandb {project}: W&B did not give its runs: ") as caught:
        pull(project, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert KEY not in str(caught.value)


def test_the_summary_holds_no_folder_of_this_machine(server):
    kept = json.dumps(server.runs[server.here.name].summary) + json.dumps(server.runs[server.here.name].config)
    assert str(server.here.parent) not in kept
    assert KEY not in kept
