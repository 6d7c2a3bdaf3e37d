"""What a run said, wherever it stands."""

import json
import re
import threading
import time

import pytest

from gradflow.runs.record import write_json

ERROR = "Traceback (most recent call last):\n  File x, line 3\nRuntimeError: no such neuron\n"


def says(path, **changes):
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, **changes})


@pytest.fixture
def failed(records):
    records.add()
    path = records.add(seed=1, state="failed", error=ERROR)
    (path / "log.txt").write_text("".join(f"line {i}\n" for i in range(300)))
    return path


def test_the_error_comes_first_and_then_the_end_of_the_log(typed, failed):
    said = typed("logs", failed.name, "-n", 2)
    assert (said.code, said.err) == (0, "")
    heading, *rest = said.out.splitlines()
    assert heading.startswith(f"{failed.name} digits relu · he_normal seed 1: failed, attempt 1 on elsewhere, step 7")
    log = f"--- {failed / 'log.txt'}, the last 2 of 300 lines"
    assert rest == [*ERROR.splitlines(), log, "line 298", "line 299"]
    assert typed("logs", failed.name).out.count("line ") == 101  # that of the traceback among them


def test_a_run_is_named_by_its_folder_its_beginning_or_a_sweep_it_is_of(typed, records, failed):
    folder = records.sweep()
    for words in ((failed,), (failed.name, folder), (failed.name, records.runs)):
        assert ERROR in typed("logs", *words).out
    assert typed("logs", "0000", folder).code == 2  # both begin like this


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("00000000000", r"00000000000: 2 runs in \S+ begin like this: 000000000000, 000000000001"),
        ("100000000001", r"no run in \S+ has this id; did you mean '000000000001'\?"),
    ],
)
def test_a_run_that_is_not_there_leaves_with_2_and_the_nearest(typed, failed, word, told):
    said = typed("logs", word)
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert re.search(told, line)


def test_a_folder_without_a_run_and_a_record_that_cannot_be_read_are_told(typed, records, failed):
    said = typed("logs", records.runs)
    assert (said.code, said.err.count("holds no run")) == (2, 1)
    (failed / "status.json").write_text("{")
    said = typed("logs", failed.name)
    assert (said.code, said.err.count("truncated or not JSON")) == (2, 1)


def test_a_run_without_a_log_says_so(typed, records):
    path = records.add()
    said = typed("logs", path.name)
    assert said.code == 0
    assert f"--- {path / 'log.txt'}: not there" in said.out


def test_slurms_log_is_named_for_a_run_of_a_sweep_wherever_that_is_asked(typed, records, failed):
    folder = records.sweep("cluster")
    tasks, arrays = [[failed.name]], [{"job_id": "12", "first": 0, "count": 1}]
    (folder / "slurm" / "logs").mkdir(parents=True)
    write_json(
        folder / "slurm" / "submission-1.json", {"number": 1, "submitted": 0.0, "tasks": tasks, "arrays": arrays}
    )
    log = folder / "slurm" / "logs" / "12_0.log"
    log.write_text("killed\n")
    says(failed, group="cluster", job_id="12_0")
    for words in ((failed.name,), (failed.name, folder)):
        said = typed("logs", *words)
        assert f"--- Slurm's log: {log}\n" in said.out
        assert "Slurm job 12_0" in said.out


def test_a_run_under_way_is_followed_to_its_end(typed, records):
    path = records.add(state="running")
    log = path / "log.txt"
    log.write_text("first\n")

    def go_on():
        for word in ("second", "third"):
            time.sleep(0.3)
            with log.open("a") as file:
                file.write(f"{word}\n")
        says(path, state="preempted")

    running = threading.Thread(target=go_on)
    running.start()
    said = typed("logs", path.name, "--follow")
    running.join()
    assert said.out.splitlines()[1:] == [f"--- {log}", "first", "second", "third", "--- the run is preempted"]
