"""Which run is meant by a path, an id, or the beginning of one."""

from pathlib import Path

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.locate import folder_of, runs_dir, runs_of, sweeps_dir


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", str(tmp_path / "runs"))
    for name in ("0123abcdef00", "0123abcdef11", "99aabbccddee", ".replaced"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    return tmp_path / "runs"


def test_a_run_is_found_by_its_folder_its_id_or_its_beginning(runs):
    for asked in (runs / "99aabbccddee", "99aabbccddee", "99", "9"):
        assert folder_of(Path(asked)) == runs / "99aabbccddee"
    assert folder_of(Path("0123abcdef1")) == runs / "0123abcdef11"
    assert folder_of(Path("99"), runs) == runs / "99aabbccddee"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("0123", "0123: 2 runs in .* begin like this: 0123abcdef00, 0123abcdef11"),
        ("99aabbccddef", "no such folder, and no run in .* has this id; did you mean '99aabbccddee'?"),
        ("nothing", "no such folder, and no run in .* has this id; give a run's"),
    ],
)
def test_what_is_no_run_or_several_is_told_with_the_nearest(runs, asked, told):
    with pytest.raises(ConfigError, match=told):
        folder_of(Path(asked))


def test_records_are_where_a_plan_says_or_in_the_folder_itself(records, monkeypatch):
    records.add()
    assert runs_of(records.sweep()) == records.runs
    assert runs_of(records.runs) == records.runs
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        runs_of(Path("nowhere"))
    assert (runs_dir(), sweeps_dir()) == (Path("runs"), Path("sweeps"))
    monkeypatch.setenv("GRADFLOW_SWEEPS_DIR", "elsewhere")
    assert sweeps_dir() == Path("elsewhere")
