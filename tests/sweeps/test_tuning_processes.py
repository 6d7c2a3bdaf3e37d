"""`gradflow tune` as a person types it: worker processes killed and stopped in the middle, and the table in the end."""

import json
import os
import signal

import pytest
from searching_here import LR, TINY

from gradflow.runs.planfile import read_plan
from gradflow.sweeps.tuning.desk import trials_of
from gradflow.sweeps.tuning.final import best_trial
from gradflow.sweeps.tuning.journal import open_studies
from gradflow.sweeps.tuning.search import read_search

WORDS = (
    *(
        "tune",
        *TINY,
        LR,
        "activation=gated,tanh",
        "tune.per=activation",
        "tune.trials=3",
        "tune.final_seeds=2",
        "tune.name=two",
    ),
    *("trainer.max_steps=60", "trainer.val_every_n_steps=20", "trainer.checkpoint_every_n_steps=20"),
)


@pytest.fixture(scope="module")
def shell(new_shell):
    return new_shell()


def under_way(shell) -> list[dict]:
    statuses = [json.loads(file.read_text()) for file in shell.runs.glob("*/status.json")]
    gated = [status for status in statuses if status["labels"]["activation"] == "own_activations.Gated"]
    return [s for s in gated if s["state"] == "running" and s["step"] > 0]


def trials(shell) -> dict[str, list]:
    folder = shell.sweeps / "two"
    search = read_search(folder)
    return {name: trials_of(study) for name, study in open_studies(folder, search).items()}


def test_a_worker_killed_and_a_search_stopped_lose_no_trial_and_make_none_twice(shell, own, typed_here, wait_until):
    words = (*WORDS, "--config-dir", own / "conf")
    process = shell.start(*words, "-j", "2")
    killed = wait_until(lambda: under_way(shell))[0]
    os.kill(killed["pid"], signal.SIGKILL)
    again = wait_until(lambda: [s for s in under_way(shell) if s["run_id"] == killed["run_id"] and s["attempt"] == 2])
    assert again[0]["pid"] != killed["pid"]
    process.send_signal(signal.SIGINT)
    stopped = shell.end(process)
    assert stopped.returncode == 130, stopped.stderr
    assert "a worker process died (signal 9); its trial goes on in the next one" in stopped.stdout
    assert "stopped. To go on: gradflow tune depth=1" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    before = trials(shell)
    waiting = [t for each in before.values() for t in each if t.state.name == "RUNNING"]
    assert [t.user_attrs["worker"] for t in waiting] == [None] * len(waiting)
    assert waiting

    shell.gate.touch()
    done = typed_here(shell, *words, "-j", "1")
    assert done.returncode == 0, done.stderr
    after = trials(shell)
    assert {name: [t.state.name for t in each] for name, each in after.items()} == {
        f"activation={name}": ["COMPLETE"] * 3 for name in ("gated", "tanh")
    }
    for name, each in before.items():
        assert [t.params for t in after[name]][: len(each)] == [t.params for t in each]
    runs = [id_ for each in after.values() for t in each for id_ in t.user_attrs["run_ids"]]
    assert len(set(runs)) == 6
    assert sum(t.user_attrs.get("attempts", 1) for each in after.values() for t in each) == 7  # one died once


def test_the_table_in_the_end_is_of_the_best_settings_on_fresh_seeds(shell, own, typed_here):
    """The last command of the test before has trained them; typed again, it only shows what was found."""
    records = {file: file.stat().st_mtime_ns for file in shell.runs.glob("*/*.json")}
    shown = typed_here(shell, *WORDS, "--config-dir", own / "conf")
    assert shown.returncode == 0, shown.stderr
    assert {file: file.stat().st_mtime_ns for file in shell.runs.glob("*/*.json")} == records
    assert "two: 2 techniques × 3 trials, 6 done before, 0 to make" in shown.stdout
    assert "best settings on seeds 1000 to 1001: 4 runs, 0 to train" in shown.stdout

    folder = shell.sweeps / "two"
    search, plan = read_search(folder), read_plan(folder)
    best = {name: best_trial(study, search) for name, study in open_studies(folder, search).items()}
    words = {"own_activations.Gated": "activation=gated", "tanh": "activation=tanh"}
    found = {(words[run.labels["activation"]], run.labels["seed"]): run.labels["optimizer.lr"] for run in plan.runs}
    assert found == {
        (name, seed): float(f"{trial.params['optimizer.lr']:.4g}")
        for name, trial in best.items()
        for seed in (1000, 1001)
    }
    table = (folder / "tune" / "table.csv").read_text().splitlines()
    assert table[0].startswith("activation,optimizer.lr,test/mse,test/mse low,test/mse high,test/mse n")
    assert [line.split(",")[0] for line in table[1:]] == ["own_activations.Gated", "tanh"]
    assert all(line.split(",")[5] == "2" for line in table[1:])
    assert {"best.csv", "best.md", "history.png", "history.svg", "importance-gated.png"} <= {
        file.name for file in (folder / "tune").iterdir()
    }
    status = typed_here(shell, "status", folder)
    assert "completed" in status.stdout


def test_what_cannot_be_searched_is_said_in_a_line(shell, typed_here):
    refused = typed_here(shell, "tune", *TINY, LR, "tune.metric=test/mse")
    assert refused.returncode == 2
    assert refused.stderr == (
        "gradflow: tune.metric=test/mse: the test split is for the final table alone; write val/mse\n"
    )
    impossible = typed_here(shell, "tune", *TINY, "dropout=interval(0,1)")
    assert impossible.returncode == 2
    assert "1 of 2 cells cannot run" in impossible.stderr
    assert "dropout=1.0: should be less than 1" in impossible.stderr
