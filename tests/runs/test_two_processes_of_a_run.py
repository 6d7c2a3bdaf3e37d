"""Two real processes (gloo) train a run: with the numbers of one, and agreeing on how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import two_process_runs
from two_process_runs import ALIKE, Outcome

Numbers = dict[tuple[Any, ...], float]
# of float64; Adam's square roots and a batch's moments enlarge its rounding
EXACT = {name: 1e-5 if name == "float32" else 1e-10 for name in ALIKE}


class Trained:
    """How runs ended in each process, and their records."""

    def __init__(self, folder: Path, ended: list[dict[str, list[Outcome]]]) -> None:
        self.folder, self.ended = folder, ended

    def states(self, name: str) -> list[tuple[str, ...]]:
        return [tuple(outcome.state for outcome in ranks[name]) for ranks in self.ended]

    def path(self, name: str, below: str = "") -> Path:
        return self.folder / below / "runs" / self.ended[0][name][0].run_id

    def json(self, name: str, file: str) -> dict[str, Any]:
        return json.loads((self.path(name) / file).read_text())

    def numbers(self, name: str, series: str) -> Numbers:
        rows = pq.read_table(self.path(name) / f"{series}.parquet").to_pylist()
        return {tuple(value for key, value in row.items() if key != "value"): row["value"] for row in rows}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("alone")
    return Trained(folder, [two_process_runs.everything(folder)])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, in_two_processes: Callable[..., list[Any]]) -> Trained:
    folder = tmp_path_factory.mktemp("pair")
    return Trained(folder, in_two_processes(two_process_runs.__file__, folder, 280))


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_show_what_one_shows(alone, pair, name):
    """Row for row: losses, scores, and every number of the gradient's flow."""
    state = "diverged" if name == "diverging" else "completed"
    assert (alone.states(name), pair.states(name)) == ([(state,)], [(state,), (state,)])
    for series in ("metrics", "gradflow"):
        expected, found = alone.numbers(name, series), pair.numbers(name, series)
        assert found == pytest.approx(expected, rel=EXACT[name], abs=1e-14, nan_ok=True)
        assert expected or name == "diverging"
    ours, theirs = alone.json(name, "result.json"), pair.json(name, "result.json")
    for key in ("state", "steps", "diverged_at", "stages", "verdict", "chance", "solved"):
        assert ours[key] == theirs[key]
    assert theirs["metrics"] == pytest.approx(ours["metrics"], rel=EXACT[name])
    assert (ours["labels"]["hardware.devices"], theirs["labels"]["hardware.devices"]) == (1, 2)
    assert ours["run_id"] != theirs["run_id"]


def test_the_time_axis_is_measured(pair):
    """By probes and in training steps; the comparison above must not be of nothing."""
    found = pair.numbers("lstm", "gradflow")
    assert {key[0] for key in found if key[3] is not None and key[4] == "time_grad_h"} == {0, 4, 8, 10, 12, 16, 20}


def test_a_wish_that_reaches_one_process_stops_both_and_the_run_goes_on_as_if_nothing_had_been(pair, evidence):
    """Before a chunk of steps, and within an evaluation; units and blocks are dropped bit for bit the same."""
    assert pair.states("stopped") == [("preempted", "preempted", "completed")] * 2
    assert evidence(pair.path("stopped")) == evidence(pair.path("undisturbed", "undisturbed"))
    assert pair.json("stopped", "result.json")["cost"]["attempts"] == 3


def test_rank_0_asks_the_judge_for_both(pair):
    assert pair.states("pruned") == [("pruned",), ("pruned",)]
    status = pair.json("pruned", "status.json")
    assert (status["state"], status["error"]) == ("pruned", None)
    assert not (pair.path("pruned") / "result.json").exists()


def test_the_clock_ends_both_at_one_step(pair):
    assert pair.states("timed") == [("completed",), ("completed",)]
    assert 0 < pair.json("timed", "result.json")["steps"] < 1_000_000


@pytest.mark.parametrize("state", ["done", "busy"])
def test_neither_trains_what_is_trained_already_or_elsewhere(pair, state):
    assert pair.states(state) == [(state,), (state,)]
    assert pair.ended[0][state][0].seconds == 0.0


def test_what_fails_on_one_is_told_in_the_record(pair):
    """Not that the other one is gone, which is all that rank 0 sees by itself."""
    assert pair.states("failing") == [("failed",), ("failed",)]
    error = pair.json("failing", "status.json")["error"]
    assert error.startswith("on rank 1 of 2:\nTraceback")
    assert pair.ended[0]["failing"][0].error == "ArithmeticError: no such neuron on this machine"


def test_processes_that_were_given_different_runs_train_neither(pair):
    assert pair.states("at odds") == [("failed",), ("failed",)]
    for ended in pair.ended:
        assert "given different configs" in ended["at odds"][0].error
        assert not pair.path("at odds").exists()
