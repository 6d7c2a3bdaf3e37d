"""Rank processes that gradflow starts itself: watched, ended with whoever started them, and never started twice."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gradflow.runs.compose import composer
from gradflow.runs.execute import execute
from gradflow.runs.identity import run_id
from gradflow.runs.stop import Stop

RUN = (
    *("activation=gated", "depth=2", "width=8", "hardware.device=cpu", "hardware.precision=64", "logger.mode=disabled"),
    *("trainer.max_steps=60", "trainer.log_every_n_steps=5", "trainer.val_every_n_steps=20"),
    *("trainer.checkpoint_every_n_steps=10", "instruments.every_n_steps=5"),
)
TWO = ("trainer=ddp", "trainer.devices=2")


def commands(above: int) -> dict[int, list[str]]:
    """The command lines of all processes below one."""
    parents, words = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
    below = {above}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: words[pid] for pid in below - {above}}


def ranks(above: int) -> dict[int, Path]:
    """Rank processes below one, each with the file that it writes to."""
    found = {}
    for pid, words in commands(above).items():
        if "rank" in words:
            with suppress(OSError):
                found[pid] = Path(os.readlink(f"/proc/{pid}/fd/1"))
    return found


def alive(pid: int) -> bool:
    with suppress(OSError):
        return "(python" in Path(f"/proc/{pid}/stat").read_text() and "Z" not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.fixture
def show_of_one(own: Path, importable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence) -> Any:
    """What a run shows that one process trains."""
    (tmp_path / "gate").touch()
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))

    def show(*words: str) -> Any:
        with composer(str(own / "conf")) as compose:
            config = compose.config([*RUN, *words, f"paths.runs={tmp_path}/runs"])
        assert execute(config, [], Stop()).state == "completed"
        return evidence(tmp_path / "runs" / run_id(config))

    return show


def status(path: Path) -> dict[str, Any]:
    with suppress(OSError):
        return json.loads((path / "status.json").read_text())
    return {}


def test_a_rank_that_is_killed_fails_the_run_and_ranks_leave_with_whoever_started_them(new_shell, own, wait_until):
    shell, words = new_shell(), ("train", *RUN, *TWO, "--config-dir", str(own / "conf"))

    def under_way(attempt: int) -> tuple[Any, dict[int, Path], Path]:
        process = shell.start(*words)
        wait_until(lambda: [path for path in shell.runs.glob("*") if status(path).get("attempt") == attempt])
        (path,) = shell.runs.iterdir()
        wait_until(lambda: status(path)["step"] >= 10 * attempt)  # it has a checkpoint, and goes on from it
        return process, ranks(process.pid), path

    process, started, path = under_way(1)
    assert sorted(file.name for file in started.values()) == ["log-rank-1.txt", "log.txt"]
    (victim,) = (pid for pid, file in started.items() if file.name == "log-rank-1.txt")
    os.kill(victim, signal.SIGKILL)
    done = shell.end(process)
    assert (done.returncode, "rank 1 of 2 died (signal 9)" in done.stderr) == (1, True), done.stderr
    assert status(path)["state"] == "failed"
    assert "rank 1 of 2 died (signal 9)" in status(path)["error"]
    assert not any(map(alive, started))

    process, started, path = under_way(2)
    process.kill()
    wait_until(lambda: not any(map(alive, started)))
    assert (status(path)["state"], status(path)["error"]) == ("preempted", None)


def test_a_sweep_of_such_runs_starts_their_processes_and_nothing_else(
    new_shell, own, wait_until, show_of_one, evidence
):
    """One warm worker, two cells of two processes each, stopped in the second."""
    shell = new_shell()
    words = ("sweep", "sweep.name=pairs", *RUN, *TWO, "seed=0,1", "-j", "1", "--config-dir", str(own / "conf"))
    seen: dict[int, list[str]] = {}
    process = shell.start(*words, DAWDLE="0.1")

    def second_is_under_way() -> bool:
        for pid, words in commands(process.pid).items():
            seen.setdefault(pid, words)  # one that has ended has none any more
        return len([path for path in shell.runs.glob("*") if status(path).get("step", 0) > 0]) == 2

    wait_until(second_is_under_way)
    process.send_signal(signal.SIGTERM)
    done = shell.end(process)
    assert done.returncode == 143, done.stderr
    assert not any(map(alive, seen))
    found = {status(path)["state"]: path for path in shell.runs.iterdir() if not path.name.startswith(".")}
    assert sorted(found) == ["completed", "preempted"]
    assert [folder.name for folder in shell.sweeps.iterdir()] == ["pairs"]
    assert len([words for words in seen.values() if "rank" in words]) == 4
    others = [words for words in seen.values() if "rank" not in words]
    assert not any("sweep" in words or "train" in words for words in others)
    assert all((path / "log-rank-1.txt").exists() for path in found.values())
    seed = status(found["completed"])["labels"]["seed"]
    evidence(found["completed"]).shows(show_of_one(f"seed={seed}"), rel=1e-10)
