"""What a person is told of an upload; that it arrives is in tests/runs/test_wandb_sync.py."""

import shlex
from pathlib import Path

import pytest

from gradflow.runs import wandb_sync
from gradflow.runs.wandb_sync import alone

KEY = "5ec2e7" * 6 + "abcd"


@pytest.fixture
def logged(records):
    """Three runs with a file of W&B each, one of them running; gives the first two."""
    for seed, state in enumerate(("completed", "preempted", "running")):
        folder = records.add(seed=seed, state=state) / "wandb" / "offline-run-1"
        folder.mkdir(parents=True)
        (folder / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    return [run.run_id for run in records.planned[:2]]


@pytest.fixture
def wandb(monkeypatch):
    """Stands for `wandb sync`: marks the folders whose names hold a word of `reached`, and notes what it was given."""

    class Wandb:
        def __init__(self):
            self.given, self.reached = [], [""]

        def run(self, words, tell):
            self.given.append(words)
            tell("wandb: [sync] Loaded credentials for http://somewhere from WANDB_API_KEY.")
            for folder in map(Path, words[6:]):
                if any(word in str(folder) for word in self.reached):
                    (folder / "run-x.wandb.synced").touch()

    made = Wandb()
    monkeypatch.setattr(wandb_sync, "_run", made.run)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return made


def test_what_is_new_is_uploaded_once(typed, records, logged, wandb):
    said = typed("wandb-sync")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"{records.runs}: run 000000000002 may be running and can be uploaded later",
        f"{records.runs}: 2 runs to upload, 2 attempts",
        "[sync] Loaded credentials for http://somewhere from WANDB_API_KEY.",
        f"{records.runs}: 2 runs uploaded",
    ]
    assert wandb.given[0][2:6] == ["wandb", "sync", "--include-online", "--yes"]
    said = typed("wandb-sync", records.runs)
    assert said.out.splitlines()[1:] == [f"{records.runs}: nothing new to upload"]
    assert len(wandb.given) == 1


def test_what_did_not_arrive_is_named_with_the_command_that_goes_on(typed, records, logged, wandb):
    wandb.reached = [logged[0]]
    said = typed("wandb-sync", records.runs)
    assert said.code == 1
    again = shlex.join(["gradflow", "wandb-sync", str(records.runs)])
    assert said.err == f"gradflow: run {logged[1]} not uploaded; to try again: {again}\n"
    wandb.reached = [""]
    assert typed("wandb-sync", records.runs).code == 0
    assert [logged[0] in " ".join(words) for words in wandb.given] == [True, False]


def test_without_a_key_nothing_is_tried_and_one_line_says_so(typed, logged, wandb, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    said = typed("wandb-sync")
    assert said.code == 2
    assert said.err == "gradflow: wandb-sync: no W&B API key found; run 'wandb login', or set WANDB_API_KEY\n"
    assert wandb.given == []


def test_project_and_account_are_handed_on_and_the_key_is_shown_nowhere(typed, records, logged, wandb):
    folder = records.sweep()
    dry = typed("wandb-sync", folder, "--dry-run")
    assert (dry.code, wandb.given) == (0, [])
    said = typed("wandb-sync", folder, "--project", "other", "--entity", "team")
    assert wandb.given[0][6:10] == ["--project", "other", "--entity", "team"]
    assert KEY not in said.out + said.err + str(wandb.given)
    assert not any(KEY.encode() in file.read_bytes() for file in records.runs.rglob("*") if file.is_file())


def test_a_second_process_does_not_send_the_same_again(typed, records, logged, wandb):
    with alone(records.runs):
        said = typed("wandb-sync")
    assert (said.code, wandb.given) == (1, [])
    assert said.err == f"gradflow: {records.runs}: another process is uploading its runs\n"
