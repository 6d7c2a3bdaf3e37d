"""Nothing is deleted unless it was shown, and asked for."""

import re

from gradflow.commands.gc import amount


def test_what_may_be_deleted_is_shown_first_and_deleted_on_demand(typed, records):
    path = records.add()
    assert typed("gc").out == f"{records.runs}: nothing to delete\n"
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "last.ckpt").write_bytes(bytes(1_500_000))
    said = typed("gc")
    assert said.out.splitlines() == [
        "checkpoints of runs that are done: 1, 1.5 MB",
        f"  {path / 'checkpoints'}  1.5 MB",
        "to delete all of it, 1.5 MB: add --delete",
    ]
    assert (path / "checkpoints").is_dir()
    said = typed("gc", records.runs, "--delete")
    assert (said.code, said.out.splitlines()[-1]) == (0, "freed 1.5 MB")
    assert not (path / "checkpoints").exists()
    assert (path / "result.json").exists()


def test_orphans_need_plans(typed, records):
    orphan = records.add()
    assert typed("gc", "--orphans").code == 2
    records.add(seed=1, state="missing")
    records.planned = records.planned[1:]
    records.sweep()
    assert f"  {orphan}  " in typed("gc", "--orphans").out
    assert typed("gc", "--orphans", "--sweeps", records.runs).code == 2
    assert typed("gc", "--orphans", "--delete").code == 0
    assert not orphan.exists()


def test_of_many_the_first_are_listed(typed, records):
    for i in range(12):
        (records.runs / ".replaced" / f"abc-{i:02}").mkdir(parents=True)
    said = typed("gc")
    assert "records moved aside by --rerun: 12, 0 bytes" in said.out
    assert len(re.findall(r"abc-\d+", said.out)) == 10
    assert "  … and 2 more" in said.out


def test_bytes_in_words():
    assert [amount(n) for n in (0, 999, 1000, 999_949, 2e9, 3e15)] == [
        *("0 bytes", "999 bytes", "1.0 kB", "999.9 kB", "2.0 GB", "3000000.0 GB")
    ]
