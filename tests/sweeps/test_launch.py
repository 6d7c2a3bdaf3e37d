"""A plan is frozen: the same words find it again, and it goes on as it was planned."""

import json
import time

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.compose import composer
from gradflow.runs.planfile import PLAN, read_plan
from gradflow.runs.record import write_json
from gradflow.sweeps.launch import prepare
from gradflow.sweeps.plan import Refused
from gradflow.sweeps.way_out import way_out

WORDS = ["depth=2,3", "width=8", "activation=mine", "hardware=cpu", "logger.mode=disabled"]
MINE = "_target_: gradflow.models.activations.leaky_relu\nslope: {}\n"


@pytest.fixture
def conf(tmp_path):
    """A person's own folder of config files, and a way to change what one of them says."""
    folder = tmp_path / "conf"
    (folder / "activation").mkdir(parents=True)

    def slope(value: float) -> None:
        (folder / "activation" / "mine.yaml").write_text(MINE.format(value))

    slope(0.1)
    return folder, slope


@pytest.fixture
def again(conf, tmp_path):
    """Types the same words once more."""

    def type_again(*more: str, **options):
        paths = [f"paths.{name}={tmp_path / name}" for name in ("runs", "sweeps")]
        with composer(str(conf[0])) as compose:
            return prepare(compose, [*WORDS, *paths, *more], "again", **options)

    return type_again


def end(prepared, run, state="completed", heartbeat=None):
    """A record that says how a run ended."""
    path = prepared.plan.runs_dir / run.run_id
    path.mkdir(parents=True, exist_ok=True)
    status = {"run_id": run.run_id, "state": state, "labels": run.labels, "host": "elsewhere"}
    write_json(path / "status.json", {**status, "heartbeat": time.time() if heartbeat is None else heartbeat})
    if state in ("completed", "diverged"):
        parts = {"metrics": {}, "metric": "test/accuracy", "steps": 10, "verdict": "healthy"}
        cost = {"device": "cpu", "hardware": "a CPU", "train_seconds": 1.0}
        write_json(path / "result.json", {**status, **parts, "cost": cost})
    return path


def slopes(prepared) -> set[float]:
    return {run.config["activation"]["slope"] for run in prepared.plan.runs}


def test_the_same_words_in_any_order_find_their_plan_and_nothing_is_composed_or_written(again, monkeypatch):
    first = again()
    file = first.folder / PLAN
    before = (file.read_bytes(), file.stat().st_ino)
    assert (first.frozen, len(first.missing), first.plan.words) == (False, 2, read_plan(first.folder).words)
    monkeypatch.setattr("gradflow.sweeps.launch.plan_of", None)
    monkeypatch.setattr("gradflow.runs.preflight.Preflight.check", None)
    second = again()
    assert (second.frozen, second.plan, second.notes, second.missing) == (True, first.plan, [], first.missing)
    assert (second.threads, second.devices, second.wants_gpu) == (first.threads, first.devices, first.wants_gpu)
    assert (file.read_bytes(), file.stat().st_ino) == before


def test_changed_config_files_change_nothing_in_a_plan_under_way(again, conf):
    first = again()
    end(first, first.plan.runs[0])
    conf[1](0.3)
    second = again()
    (note,) = second.notes
    assert note.startswith("config files have changed since this plan was written on 2")
    assert "--replan takes the changes" in note
    assert (slopes(second), [run.run_id for run in second.missing]) == ({0.1}, [first.plan.runs[1].run_id])
    anew = again(replan=True)
    assert (slopes(anew), len(anew.missing), anew.replaced, anew.frozen, anew.notes) == ({0.3}, 2, 2, False, [])
    assert again().notes == []


def test_a_finished_plan_is_planned_anew_where_config_files_have_changed(again, conf):
    first = again()
    for run, state in zip(first.plan.runs, ("completed", "diverged"), strict=True):
        end(first, run, state)
    finished = again()
    assert (finished.frozen, finished.missing) == (True, [])
    conf[1](0.3)
    anew = again()
    assert (anew.frozen, slopes(anew), len(anew.missing), anew.replaced) == (False, {0.3}, 2, 2)


def test_other_words_have_a_plan_of_their_own(again):
    first, other = again(), again("seed=1")
    assert first.folder != other.folder
    assert read_plan(first.folder) == first.plan


def test_a_plan_goes_on_where_its_files_lie_now(again, tmp_path):
    first = again()
    end(first, first.plan.runs[0])
    (tmp_path / "runs").rename(tmp_path / "moved")
    second = again(f"paths.runs={tmp_path / 'moved'}")
    assert (second.frozen, second.folder, len(second.missing)) == (True, first.folder, 1)
    assert {run.config["paths"]["runs"] for run in second.plan.runs} == {str(tmp_path / "moved")}
    assert read_plan(first.folder).runs_dir == second.plan.runs_dir == tmp_path / "moved"
    assert len(again().missing) == 2  # and no record is where the first were
    assert [run.run_id for run in second.plan.runs] == [run.run_id for run in first.plan.runs]


def test_what_this_machine_lacks_is_told_of_a_frozen_plan_too(again, monkeypatch):
    again()
    monkeypatch.setattr("gradflow.runs.preflight.missing_hardware", lambda _: "no such machine")
    with pytest.raises(Refused) as caught:
        again()
    assert [(fault.line, len(fault.cells)) for fault in caught.value.faults] == [("no such machine", 2)]
    assert again("launcher=slurm").launcher.kind == "slurm"  # runs that are trained elsewhere ask there


def test_a_plan_of_a_gradflow_with_other_keys_does_not_go_on(again):
    folder = again().folder
    text = (folder / PLAN).read_text()
    (folder / PLAN).write_text(text.replace('"input_noise"', '"noise_of_inputs"'))
    with pytest.raises(ConfigError, match=r"plan\.json: planned by a gradflow that knew other keys .*--replan"):
        again()
    assert len(again(replan=True).missing) == 2


def test_nothing_is_written_where_nothing_is_to_be(again, tmp_path):
    prepared = again(write=False)
    assert len(prepared.missing) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf"]


def test_an_unreadable_plan_is_planned_anew(again):
    first = again()
    (first.folder / PLAN).write_text('{"format": 1, "na')
    assert again().plan.runs == first.plan.runs
    assert read_plan(first.folder).runs == first.plan.runs


def test_each_missing_run_has_a_state_and_some_can_be_chosen_by_it(again):
    prepared = again("seed=range(4)")
    one, two, three, four, five, *_ = prepared.plan.runs
    end(prepared, one)
    end(prepared, two, "failed")
    end(prepared, three, "preempted")
    end(prepared, four, "running", heartbeat=1.0)
    (prepared.plan.runs_dir / five.run_id).mkdir()
    (prepared.plan.runs_dir / five.run_id / "status.json").write_text("{")
    after = again("seed=range(4)")
    states = [after.states[run.run_id] for run in after.missing]
    assert states == ["failed", "preempted", "stale", "unreadable", "missing", "missing", "missing"]
    assert [run.run_id for run in after.only("failed").missing] == [two.run_id]
    assert [run.run_id for run in after.only("preempted", "stale").missing] == [three.run_id, four.run_id]


# --- again ------------------------------------------------------------------------------------------------------


def test_a_run_that_is_trained_again_leaves_its_record_aside(again):
    first = again()
    one, two = first.plan.runs
    for number in (1, 2):
        path = end(first, one)
        (path / "mine.txt").write_text(str(number))
        prepared = again(rerun=[one.run_id[:6]])
        assert (prepared.states[one.run_id], prepared.states[two.run_id]) == ("rerun", "missing")
        assert [run.run_id for run in prepared.only("rerun").missing] == [one.run_id]
        assert not path.exists()
        aside = first.plan.runs_dir / ".replaced" / f"{one.run_id}-{number}"
        assert (aside / "mine.txt").read_text() == str(number)
        assert json.loads((aside / "result.json").read_text())["run_id"] == one.run_id
        assert sorted(file.name for file in aside.iterdir()) == [".lock", "mine.txt", "result.json", "status.json"]


def test_a_dry_run_moves_no_record(again):
    first = again()
    path = end(first, first.plan.runs[0])
    assert again(rerun=[path.name], write=False).states[path.name] == "rerun"
    assert (path / "result.json").exists()


def test_a_run_under_way_is_not_moved(again):
    first = again()
    path = end(first, first.plan.runs[0], "running")
    write_json(path / ".owner", {"host": "elsewhere", "pid": 1, "token": "theirs"})
    with pytest.raises(ConfigError, match=rf"--rerun {path.name}: is being trained at this moment"):
        again(rerun=[path.name])
    assert (path / "status.json").exists()


@pytest.mark.parametrize("word", ["nothing", "", "z"])
def test_an_id_that_is_no_run_s_is_refused(again, word):
    first = again()
    with pytest.raises(ConfigError, match=f"--rerun {word}: no run of this plan"):
        again(rerun=[word])
    near = first.plan.runs[0].run_id
    wrong = ("0" if near[0] != "0" else "1") + near[1:]
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        again(rerun=[wrong])


# --- impossible cells -------------------------------------------------------------------------------------------


def test_the_way_out_of_a_refusal_leads_out(again):
    grid = ["norm=none,batch,layer", "task.batch_size=1,8"]
    with pytest.raises(Refused) as caught:
        again(*grid)
    assert caught.value.way_out == "not (norm=='batch' and task.batch_size==1)"
    assert str(caught.value) == "2 of 12 cells cannot run"
    assert len(again(*grid, f"sweep.where={caught.value.way_out}").missing) == 10
    assert way_out([{"a": 1}], [[0]]) is None


# --- where it runs ----------------------------------------------------------------------------------------------


def test_words_on_where_runs_are_trained_are_no_part_of_the_plan(again):
    here, there = again("launcher.jobs=3"), again("launcher=slurm", "launcher.time=90", write=False)
    assert (here.launcher.kind, here.launcher.jobs) == ("local", 3)
    assert (there.launcher.kind, there.launcher.time) == ("slurm", "90")
    assert here.plan == there.plan
    assert there.frozen
    with pytest.raises(ConfigError, match=r"launcher\.jbos"):
        again("launcher.jbos=3")
