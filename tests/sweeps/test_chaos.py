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

KILLS = 16
OTHERS = {4: "server", 8: "sweep", 11: "server", 14: "sweep"}  # all others are of workers


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
    """Mounts small file systems in memory, by name; the size of one may be changed by mounting it again."""
    folders = set()

    def mount(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        folders.add(folder)
        again = ["-o", f"remount,{options}"] if os.path.ismount(folder) else ["-t", "tmpfs", "-o", options, "tmpfs"]
        done = subprocess.run(["mount", *again, str(folder)], capture_output=True, text=True)
        required(done.returncode == 0, f"the right to mount ({done.stderr.strip()})")
        return folder

    yield mount
    for folder in filter(os.path.ismount, folders):
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


def test_many_kills_lose_nothing_and_count_nothing_twice(shell, grid, baseline, typed_here, same):
    """Of workers, of the server that they are forked from, and of the sweep itself, which is then typed again. Most
    come within half a second; after some pauses there are checkpoints to go on from."""
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled", f"launcher.max_attempts={KILLS}")
    chance = random.Random(20261125)
    killed, kept = Counter(), {}
    process = shell.start(*words, DAWDLE="0.1")
    while killed.total() < KILLS and len(kept) < len(baseline.run_ids):
        time.sleep(6 if killed.total() % 6 == 5 else chance.uniform(0.02, 0.4))
        for run_id, which in commits(shell.runs).items():
            assert kept.setdefault(run_id, which) == which
        if process.poll() is not None:
            process = shell.start(*words, DAWDLE="0.1")
        victims = {
            "worker": workers(process.pid, shell.runs),
            "server": [c for c in children(process.pid) if children(c)],
        }
        kind = OTHERS.get(killed.total(), "worker")
        pids = [process.pid] if kind == "sweep" and victims["worker"] else victims.get(kind, [])
        if pids:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed[kind] += 1
    assert killed.total() == KILLS
    assert (killed["server"], killed["sweep"]) == (2, 2)
    shell.gate.touch()
    shell.end(process)
    done = typed_here(shell, *words)
    assert done.returncode == 0, done.stderr
    same(shell.runs)
    after = commits(shell.runs)
    assert {run_id: after[run_id] for run_id in kept} == kept
    assert (shell.sweeps / "four" / "results.csv").read_text() == (baseline.folder / "results.csv").read_text()


def test_a_full_disk_and_a_record_that_cannot_be_written_are_told_in_lines_and_the_others_are_trained(
    shell, grid, baseline, mounted, typed_here, same
):
    """First nothing has room; then, with room, one record is read-only; then the same command trains what is left."""
    disk = mounted("disk", "size=144k")  # four records take some 170
    runs = disk / "runs"
    folders = {"GRADFLOW_RUNS_DIR": str(runs), "GRADFLOW_SWEEPS_DIR": str(disk / "sweeps")}
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled")
    shell.gate.touch()
    full = typed_here(shell, *words, **folders)
    assert full.returncode == 1
    assert "No space left on device" in full.stdout + full.stderr
    assert "Traceback" not in full.stderr
    kept = commits(runs)
    assert len(kept) < 4

    mounted("disk", "size=64m")
    path = next(runs / run_id for run_id in baseline.run_ids if run_id not in kept)
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(mounted("record", "size=1m"), target_is_directory=True)
    mounted("record", "ro")
    refused = typed_here(shell, *words, **folders)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stdout
    assert "Traceback" not in refused.stderr
    assert len(commits(runs)) == 3

    mounted("record", "rw")
    done = typed_here(shell, *words, **folders)
    assert done.returncode == 0, done.stderr
    same(runs)
    assert {run_id: which for run_id, which in commits(runs).items() if run_id in kept} == kept


def test_a_clock_that_jumps_back_two_days_and_damaged_files_cost_time_and_nothing_else(
    shell, grid, baseline, typed_here, same, wait_until, required, tmp_path
):
    """The newest checkpoint of one run, both of another, the series of a third; a result that was cut off."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    required(library is not None, "libfaketime")
    jump = tmp_path / "clock"
    jump.write_text("+2d\n")
    fake = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(jump), "FAKETIME_CACHE_DURATION": "1"}
    words = ("sweep", *grid, "-j", "2", "logger.mode=disabled")
    fake |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    process = shell.start(*words, **fake, DAWDLE="0.3")
    ids = baseline.run_ids

    def written(name: str) -> bool:
        return all((shell.runs / run_id / "checkpoints" / name).exists() for run_id in ids[:2])

    wait_until(lambda: written("last.ckpt"))
    status = json.loads(next(shell.runs.glob("*/status.json")).read_text())
    assert status["heartbeat"] > time.time() + 86400  # it did believe in the day after tomorrow
    told = shell.run("status", shell.sweeps / "four")
    assert "2 running" in told.stdout
    assert told.stdout.count("clock?") == 2
    jump.write_text("+0\n")  # in the middle of both runs
    time.sleep(1.2)
    wait_until(lambda: written("previous.ckpt"))
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
    done = typed_here(shell, *words)
    assert done.returncode == 0, done.stderr
    same(shell.runs)
