"""Watching a folder: until all is done, and reading again only what can have changed."""

import json
import threading
import time

import pytest

from gradflow.commands import status as command
from gradflow.results.survey import Survey
from gradflow.runs.record import write_json


@pytest.fixture
def ends_by_itself(records, monkeypatch):
    """A sweep of two runs, the second of which is done after a while; gives its folder."""
    monkeypatch.setattr(command, "EVERY", 0.05)
    done, other = records.add(), records.add(seed=1, state="running")
    result = json.loads((done / "result.json").read_text())

    def end():
        time.sleep(0.5)
        write_json(other / "result.json", {**result, "run_id": other.name})

    ending = threading.Thread(target=end)
    ending.start()
    yield records.sweep()
    ending.join()


def test_elsewhere_than_on_a_terminal_each_change_is_a_line(typed, ends_by_itself):
    said = typed("status", ends_by_itself, "--watch")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == ["2 runs: 1 completed, 1 running", "2 runs: 2 completed"]


def test_on_a_terminal_it_is_redrawn_in_place_and_the_last_state_stays(typed, ends_by_itself, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    said = typed("status", ends_by_itself, "--watch")
    assert said.code == 0
    assert "1 running" in said.out
    assert said.out.count("\x1b[2K") > 5  # lines that were wiped out
    assert "2 runs: 2 completed" in said.out.splitlines()[-1]


def test_ctrl_c_leaves_it_with_the_state_of_the_moment(typed, records, monkeypatch):
    records.add(state="running")

    def interrupted(self: Survey) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "EVERY", 0.0)
    folder = records.sweep()
    look, looked = Survey.look, []
    monkeypatch.setattr(Survey, "look", lambda self: interrupted(self) if looked else (look(self), looked.append(1)))
    said = typed("status", folder, "--watch")
    assert said.code == 0
    assert said.out.count("1 runs: 1 running") == 2


def test_what_is_done_is_not_watched(typed, records):
    records.add()
    said = typed("status", records.sweep(), "--watch")
    assert (said.code, said.out) == (0, "1 runs: 1 completed\n")
