"""What goes wrong on real machines, done to real sweeps: nothing is lost, nothing is counted twice.

The outcome is always compared with a sweep that nobody disturbed, bit for bit.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

KILLS = 100


@pytest.fixture
def shell(new_shell):
    return new_shell()


@pytest.fixture
def same(evidence, baseline):
    """Asserts that a folder of runs holds what the undisturbed one holds, and nothing else."""

    def check(runs: Path) -> None:
        assert sorted(path.parent.name for path in runs.glob("*/result.json")) == sorted(baseline.run_ids)
        for run_id in baseline.run_ids:
            assert evidence(runs / run_id) == evidence(baseline.shell.runs / run_id)

    return check


@pytest.fixture
def mounted(tmp_path, required):
    """Mounts a small file system in memory; its size may be changed by mounting it again."""
    folder = tmp_path / "mount"
    folder.mkdir()

    def mount(options: str) -> Path:
        again = ["-o", f"remount,{options}"] if os.path.ismount(folder) else ["-t", "tmpfs", "-o", options, "tmpfs"]
        done = subprocess.run(["mount", *again, str(folder)], capture_output=True, text=True)
        required(done.returncode == 0, f"the right to mount ({done.stderr.strip()})")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def workers(pid: int, runs: Path) -> list[int]:
    """The worker processes of a sweep: forked from the server that it has started, or from one that is dead."""
    found = {grandchild for child in children(pid) for grandchild in children(child)}
    for file in runs.glob("*/status.json"):
        with suppress(OSError, ValueError):
            status = json.loads(file.read_text())
            # The process may be gone, and its number another's by now: one that was not given this folder is let alone.
            given = Path(f"/proc/{status['pid']}/environ").read_bytes().split(b"\0")
            if status["state"] == "running" and os.fsencode(f"GRADFLOW_RUNS_DIR={runs}") in given:
                found.add(status["pid"])
    return sorted(found)


def commits(runs: Path) -> dict[str, tuple[int, int]]:
    """Which file each kept result is: another inode or time would be another result."""
    found = {}
    for file in runs.glob("*/result.json"):
        with suppress(FileNotFoundError):
            found[file.parent.name] = (file.stat().st_ino, file.stat().st_mtime_ns)
    return found


def test_a_hundred_kills_lose_nothing_and_count_nothing_twice(shell, grid, baseline, same):
    """Of workers, of the server that they are forked from, and of the sweep itself, which is then typed again. Most
    come within half a second; after some pauses there are checkpoints to go on from."""
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled", f"launcher.max_attempts={KILLS}")
    chance = random.Random(20261125)
    killed, kept = Counter(), {}
    process = shell.start(*words, DAWDLE="0.1")
    while killed.total() < KILLS and len(kept) < len(baseline.run_ids):
        time.sleep(6 if killed.total() % 30 == 29 else chance.uniform(0.02, 0.4))
        for run_id, which in commits(shell.runs).items():
            assert kept.setdefault(run_id, which) == which
        if process.poll() is not None:
            process = shell.start(*words, DAWDLE="0.1")
        victims = {
            "worker": workers(process.pid, shell.runs),
            "server": [c for c in children(process.pid) if children(c)],
        }
        kind = chance.choices(["worker", "server", "sweep"], [94, 3, 3])[0]
        pids = [process.pid] if kind == "sweep" and victims["worker"] else victims.get(kind, [])
        if pids:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed[kind] += 1
    assert killed.total() == KILLS
    assert min(killed["worker"], killed["server"], killed["sweep"]) > 0
    shell.gate.touch()
    shell.end(process)
    done = shell.run(*words)
    assert done.returncode == 0, done.stderr
    same(shell.runs)
    after = commits(shell.runs)
    assert {run_id: after[run_id] for run_id in kept} == kept
    assert (shell.sweeps / "four" / "results.csv").read_text() == (baseline.folder / "results.csv").read_text()


def test_a_full_disk_stops_a_sweep_with_a_message_and_room_lets_it_go_on(shell, grid, baseline, mounted, same):
    folder = mounted("size=256k")
    folders = {"GRADFLOW_RUNS_DIR": str(folder / "runs"), "GRADFLOW_SWEEPS_DIR": str(folder / "sweeps")}
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled")
    shell.gate.touch()
    full = shell.run(*words, **folders)
    assert full.returncode == 1
    assert "No space left on device" in full.stdout + full.stderr
    assert "Traceback" not in full.stderr
    kept = commits(folder / "runs")
    mounted("size=64m")
    done = shell.run(*words, **folders)
    assert done.returncode == 0, done.stderr
    same(folder / "runs")
    assert {run_id: which for run_id, which in commits(folder / "runs").items() if run_id in kept} == kept


def test_records_that_cannot_be_written_fail_in_a_line_each_and_the_others_are_trained(
    shell, grid, baseline, mounted, same
):
    """One record is read-only; with its file system writable again the same command trains it."""
    folder = mounted("size=1m")
    path = shell.runs / baseline.run_ids[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(folder, target_is_directory=True)
    mounted("ro")
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled")
    shell.gate.touch()
    refused = shell.run(*words)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stdout
    assert "Traceback" not in refused.stderr
    assert len(commits(shell.runs)) == 3
    mounted("rw")
    done = shell.run(*words)
    assert done.returncode == 0, done.stderr
    same(shell.runs)


def test_damaged_files_cost_time_and_nothing_else(shell, grid, baseline, same, wait_until):
    """The newest checkpoint of one run, both of another, the series of a third; a result that was cut off."""
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled")
    process = shell.start(*words)
    ids = baseline.run_ids
    wait_until(lambda: all((shell.runs / run_id / "checkpoints" / "previous.ckpt").exists() for run_id in ids[:2]))
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).returncode == 143
    newest = shell.runs / ids[0] / "checkpoints" / "last.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    for file in (shell.runs / ids[1] / "checkpoints").glob("*.ckpt"):
        file.write_bytes(b"\0" * 5000)
    shutil.copytree(baseline.shell.runs / ids[2], shell.runs / ids[2])
    (shell.runs / ids[2] / "result.json").write_text('{"format": 1, "run_id"')
    shutil.copytree(shell.runs / ids[0], shell.runs / ids[3], dirs_exist_ok=True)  # another run's files, and damaged
    (shell.runs / ids[3] / "metrics.parquet").write_bytes(b"PAR1 no more")
    shell.gate.touch()
    done = shell.run(*words)
    assert done.returncode == 0, done.stderr
    same(shell.runs)


def test_a_clock_that_jumps_back_two_days_changes_nothing(shell, grid, baseline, same, wait_until, required, tmp_path):
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    required(library is not None, "libfaketime")
    jump = tmp_path / "clock"
    jump.write_text("+2d\n")
    fake = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(jump), "FAKETIME_NO_CACHE": "1"}
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled")
    fake |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    process = shell.start(*words, **fake, DAWDLE="0.1")
    wait_until(lambda: len(list(shell.runs.glob("*/checkpoints/last.ckpt"))) == 2)
    status = json.loads(next(shell.runs.glob("*/status.json")).read_text())
    assert status["heartbeat"] > time.time() + 86400  # it did believe in the day after tomorrow
    told = shell.run("status", shell.sweeps / "four")
    assert "2 running" in told.stdout
    assert told.stdout.count("clock?") == 2
    jump.write_text("+0\n")  # in the middle of both runs
    time.sleep(1)
    process.kill()
    shell.end(process)
    shell.gate.touch()
    wait_until(
        lambda: not any(json.loads(f.read_text())["state"] == "running" for f in shell.runs.glob("*/status.json"))
    )
    done = shell.run(*words)
    assert done.returncode == 0, done.stderr
    same(shell.runs)


def test_two_sweeps_that_share_cells_train_each_once(shell, grid, baseline, same, wait_until):
    """Two plans of which each has half of the other's runs, on the same folder at the same time."""
    words = *(word for word in grid if not word.startswith(("sweep.", "seed"))), "-j", "2", "logger.mode=disabled"
    one = shell.start("sweep", "sweep.name=one", "seed=0,1,2", *words)
    two = shell.start("sweep", "sweep.name=two", "seed=3,2,1", *words)
    wait_until(lambda: len(list(shell.runs.glob("*/status.json"))) >= 3)
    shell.gate.touch()
    for process in (one, two):
        done = shell.end(process)
        assert done.returncode == 0, done.stderr
    same(shell.runs)
    assert {json.loads(f.read_text())["attempt"] for f in shell.runs.glob("*/status.json")} == {1}
