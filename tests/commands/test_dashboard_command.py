"""What a person is told by `gradflow dashboard` without a server; what goes over the wire is in
tests/runs/test_dashboard_server.py."""

import json
import os
import subprocess
import sys

import pytest

from gradflow.commands import dashboard


@pytest.fixture
def sweep(records):
    for depth in (2, 3):
        for activation in ("relu", "tanh"):
            records.add(depth=depth, activation=activation, accuracy=0.5 + depth / 10)
    return records.sweep()


def test_a_dry_run_shows_the_workspace_and_the_report(typed, sweep):
    said = typed("dashboard", sweep, "--project", "p", "--entity", "team", "--dry-run")
    assert (said.code, said.err) == (0, "")
    shown = json.loads(said.out)
    assert list(shown) == ["workspace", "report"]
    for view in shown.values():
        assert view["displayName"] == "gradflow hand"
    assert (shown["workspace"]["entity"], shown["workspace"]["project"]) == ("team", "p")
    blocks = shown["report"]["spec"]["blocks"]
    (table,) = (block["content"] for block in blocks if "| depth |" in block.get("content", ""))
    assert "0.700" in table
    assert "gradflow sweep depth=2,3" in said.out


def test_without_a_folder_it_is_a_general_workspace(typed, tmp_path):
    said = typed("dashboard", "--project", "p", "--dry-run", "--out", tmp_path / "spec.json")
    assert (said.code, said.out) == (0, f"{tmp_path / 'spec.json'}\n")
    shown = json.loads((tmp_path / "spec.json").read_text())
    assert list(shown) == ["workspace"]
    assert shown["workspace"]["displayName"] == "gradflow"


def test_another_process_writes_the_same_bytes(typed, sweep, tmp_path):
    words = ["dashboard", str(sweep), "--project", "p", "--dry-run"]
    own = {"PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    other = subprocess.run(
        [sys.executable, "-m", "gradflow", *words], env={**os.environ, **own}, capture_output=True, check=True
    )
    assert other.stdout.decode() == typed(*words).out


def test_what_varies_before_any_run_has_ended_is_judged_by_the_plan(typed, sweep, records, configure):
    """Of a sweep that has just been planned, with nothing but configs."""
    from gradflow.runs.planfile import Plan, PlannedRun, write_plan

    config = configure("task=adding", "model=recurrent", "cell=lstm").model_dump(mode="json")
    labels = {"task": "adding", "model": "recurrent", "cell": "lstm", "recipe": "lstm", "depth": 1, "seed": 0}
    write_plan(
        records.sweeps / "new", Plan("new", "gradflow sweep", records.runs, [PlannedRun("a", [], labels, config)])
    )
    said = typed("dashboard", records.sweeps / "new", "--project", "p", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert '"final/test/mse"' in said.out
    assert '"final/test/accuracy"' not in said.out


def test_without_an_account_one_line_points_to_the_page(typed, sweep, tmp_path):
    said = typed("dashboard", sweep, "--project", "p")
    assert (said.code, said.out) == (2, "")
    way_out = f"run 'wandb login'. Without an account: gradflow report {sweep}"
    assert said.err == f"gradflow: dashboard: no W&B API key found; {way_out}\n"


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_without_the_extra_one_line_says_what_to_install(typed, sweep, monkeypatch, words):
    monkeypatch.setattr(dashboard, "find_spec", lambda _: None)
    said = typed("dashboard", sweep, "--project", "p", *words)
    assert (said.code, said.out) == (2, "")
    what = "wandb-workspaces is not installed; pip install 'gradflow[dashboard]'"
    assert said.err == f"gradflow: dashboard: {what}\n"


def test_mistakes_in_what_was_typed_are_said(typed, sweep, tmp_path):
    assert typed("dashboard", sweep).code == 2
    said = typed("dashboard", sweep, "--project", "p", "--out", tmp_path / "spec.json")
    assert (said.code, said.err) == (2, "gradflow: --out: where --dry-run writes; add --dry-run, or leave --out away\n")
    out = tmp_path / "no" / "spec.json"
    said = typed("dashboard", sweep, "--project", "p", "--dry-run", "--out", out)
    assert (said.code, said.err) == (2, f"gradflow: --out {out}: cannot be written: No such file or directory\n")
    for project in ("a/b", "", "u?", 129 * "x"):
        said = typed("dashboard", sweep, "--project", project, "--dry-run")
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"gradflow: --project {project}: must be a W&B project: 1 to 128 characters")
    said = typed("dashboard", tmp_path / "nowhere", "--project", "p", "--dry-run")
    assert said.code == 2
    assert "no such folder" in said.err


def test_each_task_has_a_table_of_its_own(typed, records):
    records.add(task="digits", depth=2, accuracy=0.25)
    records.add(task="mnist", depth=2, accuracy=0.75)
    said = typed("dashboard", records.sweep(), "--project", "p", "--dry-run")
    blocks = json.loads(said.out)["report"]["spec"]["blocks"]
    tables = [block["content"] for block in blocks if "test accuracy" in block.get("content", "")]
    assert ["0.250" in table for table in tables] == [True, False]
    assert ["0.750" in table for table in tables] == [False, True]
