"""What a run leaves on disk: never half written, never silently dropped, one writer at a time."""

import json
import os
import stat
import threading

import pytest

from gradflow.errors import ConfigError
from gradflow.results.status import counts
from gradflow.results.table import make_table
from gradflow.runs.planfile import collect
from gradflow.runs.record import FORMAT, is_done, read, write_bytes, write_json

# --- writing --------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "status.json"
    write_json(file, {"step": 1})
    write_json(file, {"step": 2, "word": "Größe"})
    assert json.loads(file.read_text(encoding="utf-8")) == {"format": FORMAT, "step": 2, "word": "Größe"}
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_file_has_the_rights_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_where_a_write_fails_the_old_content_stays_and_nothing_else(tmp_path, monkeypatch, step):
    file = tmp_path / "result.json"
    write_bytes(file, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_number_that_json_has_not_is_refused_before_the_file_is_touched(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["x"] == 1


def test_a_reader_sees_one_version_or_the_next_at_any_moment(tmp_path):
    file, seen, stop = tmp_path / "f", set(), threading.Event()
    versions = [bytes([48 + i]) * 200_000 for i in range(4)]
    write_bytes(file, versions[0])

    def look() -> None:
        while not stop.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(60):
        write_bytes(file, versions[i % 4])
    stop.set()
    reader.join()
    assert seen <= set(versions)
    assert len(seen) > 1


# --- reading what is damaged ------------------------------------------------------------------------------------

DAMAGED = {
    "result cut off": ("result.json", lambda text: text[: len(text) // 2], "truncated or not JSON"),
    "status cut off": ("status.json", lambda text: text[:-3], "truncated or not JSON"),
    "empty": ("result.json", "", "truncated or not JSON"),
    "not an object": ("result.json", "[1, 2]", "not a gradflow file"),
    "alien object": ("status.json", '{"epoch": 3}', "not a gradflow file"),
    "alien format": ("status.json", '{"format": "parquet"}', "not a gradflow file"),
    "alien status": ("status.json", json.dumps({"format": 1, "state": "fine"}), "not a gradflow status"),
    "newer": ("result.json", lambda text: json.dumps({**json.loads(text), "format": FORMAT + 1}), "newer gradflow"),
    "another run's": (
        "result.json",
        lambda text: json.dumps({**json.loads(text), "run_id": "0" * 12 + "f"}),
        "not the result of this run",
    ),
    "result without figures": (
        "result.json",
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k in ("format", "run_id", "state")}),
        "not the result of this run",
    ),
    "not utf-8": ("result.json", b'{"format": 1, "\xff": 0}', "cannot be read"),
}


@pytest.mark.parametrize(("name", "damage", "told"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_told_by_name_and_never_counted(records, name, damage, told):
    good, bad = records.add(accuracy=0.25, seed=0), records.add(accuracy=0.75, seed=1)
    folder = records.sweep()
    file = bad / name
    content = damage(file.read_text()) if callable(damage) else damage
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    collection = collect(folder)
    assert list(collection.found.records) == [good.name]
    (problem,) = collection.found.problems
    assert str(file) in problem
    assert told in problem
    assert "skipped" in problem
    assert counts(collection) == {"completed": 1, "missing": 1}
    (line,) = make_table(collection).lines
    assert (line.values["metric"].value, line.values["metric"].count) == (0.25, 1)
    assert line.values["runs"] == "1/2"
    assert not is_done(bad)


@pytest.mark.parametrize(
    ("gone", "told"),
    [("status.json", "missing, though the run has a result"), ("result.json", "missing, though the run is completed")],
)
def test_half_a_record_is_told_by_name(records, gone, told):
    path = records.add()
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, "state": "completed"})
    (path / gone).unlink()
    collection = collect(records.sweep())
    assert collection.found.records == {}
    assert collection.found.problems == [f"{path / gone}: {told}; skipped"]
    assert not is_done(path)


def test_a_folder_that_is_not_there_or_empty_is_a_missing_run(records):
    records.add()
    records.add(state="missing")
    empty = records.add(state="missing", seed=1)
    empty.mkdir()
    collection = collect(records.sweep())
    assert counts(collection) == {"completed": 1, "missing": 2}
    assert collection.found.problems == []
    assert read(empty) is None


def test_files_and_hidden_folders_among_the_runs_are_none(records):
    records.add()
    (records.runs / "notes.txt").write_text("mine")
    (records.runs / ".cache").mkdir()
    (records.runs / "somebody-elses").mkdir()
    collection = collect(records.runs)
    assert len(collection.found.records) == 1
    assert collection.found.problems == []


@pytest.mark.parametrize("make", ["nothing", "empty", "file"])
def test_a_folder_that_holds_no_runs_is_refused(tmp_path, make):
    folder = tmp_path / "x"
    if make == "empty":
        folder.mkdir()
    if make == "file":
        folder.write_text("")
    with pytest.raises(ConfigError, match=str(folder)):
        collect(folder)
