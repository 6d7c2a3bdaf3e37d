"""The plan on disk: what was planned is what is read back, wherever the folders are moved."""

import json
import shutil

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.planfile import PLAN, Plan, PlannedRun, collect, read_plan, write_plan
from gradflow.runs.record import FORMAT


def test_a_plan_comes_back_as_it_was_written(tmp_path):
    labels = {"depth": 2, "lr": 0.1, "note": None, "ok": True}
    run = PlannedRun("0" * 12, ["depth=2", "x='a b'"], labels, {"a": [1, {}]})
    plan = Plan("größe", "gradflow sweep 'x=a b'", tmp_path / "runs", [run, run])
    write_plan(tmp_path / "sweeps" / "s", plan)
    assert read_plan(tmp_path / "sweeps" / "s") == plan
    assert read_plan(tmp_path) is None


def test_runs_and_sweeps_can_be_moved_together(records, tmp_path):
    records.add(accuracy=0.25)
    folder = records.sweep()
    shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    moved = tmp_path.with_name("moved") / folder.relative_to(tmp_path)
    shutil.rmtree(records.runs)
    assert collect(moved).found.records["0" * 12].result["metrics"]["test/accuracy"] == 0.25
    assert collect(folder).found.records == {}


def test_the_same_plan_written_again_leaves_the_file_alone(records):
    records.add()
    folder = records.sweep()
    before = (folder / PLAN).stat()
    records.sweep()
    assert (folder / PLAN).stat().st_ino == before.st_ino
    records.add(seed=1)
    records.sweep()
    assert (folder / PLAN).stat().st_ino != before.st_ino
    assert len(read_plan(folder).runs) == 2


UNREADABLE = {
    "cut off": ('{"format": 1, "name": "x"', "truncated or not JSON"),
    "alien": ('{"plan": []}', "not a gradflow file"),
    "newer": (json.dumps({"format": FORMAT + 1}), "newer gradflow"),
    "without runs": (json.dumps({"format": FORMAT, "name": "x"}), "not a gradflow plan"),
    "strange runs": (json.dumps({"format": FORMAT, "runs": ["a"]}), "not a gradflow plan"),
}


@pytest.mark.parametrize(("text", "told"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_plan_that_cannot_be_read_is_told_by_name_and_can_be_written_anew(records, text, told):
    records.add()
    folder = records.sweep()
    (folder / PLAN).write_text(text)
    with pytest.raises(ConfigError) as caught:
        collect(folder)
    assert str(folder / PLAN) in str(caught.value)
    assert told in str(caught.value)
    records.sweep()
    assert len(collect(folder).planned) == 1


def test_a_folder_of_runs_and_one_run_are_collections_too(records):
    one, two = records.add(accuracy=0.1), records.add(accuracy=0.2, seed=1)
    runs = collect(records.runs)
    assert list(runs.planned) == [one.name, two.name]
    assert (runs.name, runs.command) == ("runs", None)
    single = collect(two)
    assert list(single.planned) == [two.name]
    assert single.planned[two.name]["seed"] == 1


def test_what_thousands_of_runs_share_is_written_once(tmp_path):
    runs = []
    for i in range(2000):
        config = {"task": {"_target_": "a.b", "n": [1, 2]}, "depth": i % 3, "seed": i, "rate": 1.0 if i % 2 else 1}
        labels = {"depth": i % 3, "seed": i, "flag": bool(i % 2)} | ({"cell": "lstm"} if i % 5 == 0 else {})
        cost = {"operations": 1e20 * (i % 3), "memory": None, "steps": 5} if i % 7 else None
        runs.append(PlannedRun(f"{i:012x}", [f"depth={i % 3}", f"seed={i}"], labels, config, cost))
    plan = Plan("many", "again", tmp_path / "runs", runs, ["seed=range(2000)"], 5.0, "abc")
    write_plan(tmp_path, plan)
    text = (tmp_path / PLAN).read_text()
    assert text.count("a.b") == 1
    assert len(text) < 120 * len(runs)
    found = read_plan(tmp_path)
    assert found == plan
    assert [list(run.labels) for run in found.runs] == [list(run.labels) for run in runs]
    assert [type(run.config["rate"]) for run in found.runs[:2]] == [int, float]
    assert [type(run.labels["flag"]) for run in found.runs[:2]] == [bool, bool]


def test_the_time_of_a_plan_is_when_it_was_first_made(tmp_path):
    for made in (1.0, 2.0):
        write_plan(tmp_path, Plan("s", "again", tmp_path, [PlannedRun("0" * 12, [], {}, {})], [], made, "abc"))
    assert read_plan(tmp_path).made == 1.0
    write_plan(tmp_path, Plan("s", "again", tmp_path, [PlannedRun("0" * 12, [], {}, {})], [], 3.0, "changed"))
    assert read_plan(tmp_path).made == 3.0
