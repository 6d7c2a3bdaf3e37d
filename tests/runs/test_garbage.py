"""What may be deleted, what may not, and that only this is."""

import json
import os
import time
from pathlib import Path

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.claim import claim
from gradflow.runs.garbage import (
    CHECKPOINTS,
    MOVED_ASIDE,
    ORPHANS,
    TEMPORARY,
    UPLOADED,
    delete,
    garbage,
)
from gradflow.runs.record import read_all, write_json

OLD = time.time() - 7200


def put(path: Path, size: int = 10, when: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    if when is not None:
        os.utime(path, (when, when))
    return path


def found(records, **options) -> dict[str, set[str]]:
    below: dict[str, set[str]] = {}
    for item in garbage(records.runs, records.sweeps, **options):
        below.setdefault(item.category, set()).add(str(item.path.relative_to(records.runs.parent)))
    return below


def test_a_sound_folder_has_nothing_to_delete(records):
    records.add(norms={0: [1.0]})
    open_ = records.add(seed=1, state="preempted")
    put(open_ / "checkpoints" / "last.ckpt", when=OLD)
    put(open_ / "log.txt", when=OLD)
    put(open_ / ".lock", when=OLD)
    put(open_ / ".owner", when=OLD)
    put(open_ / "result.json.unreadable", when=OLD)
    put(open_ / "wandb" / "offline-run-1" / "run-1.wandb", when=OLD)
    assert found(records) == found(records, uploaded_days=0, orphans=False) == {}


def test_records_moved_aside_and_checkpoints_of_done_runs_may_go(records):
    done, open_ = records.add(), records.add(seed=1, state="failed")
    put(done / "checkpoints" / "last.ckpt", 1000)
    put(done / "checkpoints" / ".17.ckpt", 500, OLD)
    put(open_ / "checkpoints" / "last.ckpt")
    put(records.runs / ".replaced" / "abc-1" / "status.json", 30)
    put(records.runs / ".replaced" / "abc-1" / "checkpoints" / "last.ckpt", 70)
    assert found(records) == {
        MOVED_ASIDE: {"runs/.replaced/abc-1"},
        CHECKPOINTS: {f"runs/{done.name}/checkpoints"},
    }
    sizes = [item.size for item in garbage(records.runs, records.sweeps)]
    assert sizes == [100, 1500]


def test_what_killed_writers_left_may_go_once_nobody_can_be_writing_it(records):
    path = records.add(state="preempted")
    left = (".status.json.k3j9x_2a", "..result.json.abcdefgh.ijklmnop", ".metrics.parquet.abcdefgh", "..owner.abcdefgh")
    for name in (*left, "checkpoints/.1234.ckpt"):
        put(path / name, when=OLD)
    put(path / ".config.yaml.abcdefgh")  # of just now
    for name in (".config.settings", ".notes", ".lock", "status.json.abcdefgh"):  # a person's own, or no temporary name
        put(path / name, when=OLD)
    put(records.sweeps / "s" / ".plan.json.abcdefgh", when=OLD)
    put(records.sweeps / "s" / "slurm" / ".submission-1.json.abcdefgh", when=OLD)
    expected = {f"runs/{path.name}/{name}" for name in (*left, "checkpoints/.1234.ckpt")}
    expected |= {"sweeps/s/.plan.json.abcdefgh", "sweeps/s/slurm/.submission-1.json.abcdefgh"}
    assert found(records) == {TEMPORARY: expected}


def test_uploaded_offline_folders_go_only_when_asked_for_and_old_and_all_of_a_run(records):
    """Half of a run could still be sent to another project, as if it were all of it."""
    gone, new, half = records.add(), records.add(seed=1), records.add(seed=2)
    long_ago = OLD - 86400 * 10
    for path, marks in ((gone, (long_ago, long_ago)), (new, (long_ago, OLD)), (half, (long_ago, None))):
        for number, marked in enumerate(marks):
            put(path / "wandb" / f"offline-run-{number}" / "run-x.wandb", when=OLD - 86400 * 20)
            if marked:
                put(path / "wandb" / f"offline-run-{number}" / "run-x.wandb.synced", when=marked)
    assert found(records) == {}
    expected = {f"runs/{gone.name}/wandb/offline-run-{number}" for number in range(2)}
    assert found(records, uploaded_days=5) == {UPLOADED: expected}


def test_records_in_no_plan_go_only_when_asked_for_and_trials_of_a_search_are_none(records):
    planned, orphan, trial = records.add(), records.add(seed=1), records.add(seed=2)
    status = json.loads((trial / "status.json").read_text())
    write_json(trial / "status.json", {**status, "group": "search"})
    put(records.sweeps / "search" / "tune" / "journal.log")
    with pytest.raises(ConfigError, match="holds no plan, so that every record would be one"):
        found(records, orphans=True)
    records.planned = records.planned[:1]
    folder = records.sweep()
    assert found(records) == {}
    assert found(records, orphans=True) == {ORPHANS: {f"runs/{orphan.name}"}}
    assert planned.is_dir()
    put(folder / "plan.json")
    with pytest.raises(ConfigError, match="truncated or not JSON"):
        found(records, orphans=True)


def test_nothing_of_a_run_under_way_is_found_or_deleted(records):
    locked, heard = records.add(), records.add(seed=1, state="running")
    for path in (locked, heard):
        put(path / "checkpoints" / "last.ckpt")
        put(path / ".status.json.abcdefgh", when=OLD)
    before = garbage(records.runs, records.sweeps)
    with claim(locked):
        assert found(records) == {}
        assert [delete(item) for item in before if item.run == locked] == [0, 0]
    assert (locked / "checkpoints").is_dir()
    assert sum(delete(item) for item in before) == 20
    assert not (locked / "checkpoints").exists()
    assert (heard / "checkpoints").is_dir()


def test_deleting_frees_what_was_said_and_leaves_the_rest(records):
    done, orphan = records.add(accuracy=0.75), records.add(seed=1)
    put(done / "checkpoints" / "last.ckpt", 1000)
    put(records.runs / ".replaced" / "abc-1" / "status.json", 30)
    records.planned = records.planned[:1]
    records.sweep()
    items = garbage(records.runs, records.sweeps, orphans=True)
    assert sum(delete(item) for item in items) == sum(item.size for item in items)
    assert not orphan.exists()
    assert found(records, orphans=True) == {}
    whole = read_all(records.runs)
    assert {run_id: r.result["metrics"]["test/accuracy"] for run_id, r in whole.records.items()} == {done.name: 0.75}
    assert [delete(item) for item in items if item.run == orphan] == [0]  # gone already
