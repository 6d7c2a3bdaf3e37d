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
    for seed, state in enumerate(("failed", "preempted", "running")):
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
            for folder in filter(Path.is_dir, map(Path, words[6:])):
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


def test_without_a_key_nothing_is_tried_and_one_line_says_so(typed, logged, wandb, monkeypatch, tmp_path):
    """The key of another server is none: of `wandb login --host`, W&B keeps host and port."""
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:8080")
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    for name in ("api.wandb.ai", "127.0.0.1"):
        file.write_text(f"machine {name}\n  login user\n  password {KEY}\n")
        assert typed("wandb-sync").code == 2
    file.unlink()
    said = typed("wandb-sync")
    assert said.code == 2
    assert said.err == "gradflow: wandb-sync: no W&B API key found; run 'wandb login', or set WANDB_API_KEY\n"
    assert wandb.given == []

    file.write_text(f"machine 127.0.0.1:8080\n  login user\n  password {KEY}\n")
    assert typed("wandb-sync").code == 0
    assert len(wandb.given) == 1


def test_project_and_account_are_handed_on_and_the_key_is_shown_nowhere(typed, records, logged, wandb):
    folder = records.sweep()
    dry = typed("wandb-sync", folder, "--dry-run")
    assert (dry.code, wandb.given) == (0, [])
    said = typed("wandb-sync", folder, "--project", "other", "--entity", "team")
    assert wandb.given[0][6:10] == ["--project", "other", "--entity", "team"]
    assert KEY not in said.out + said.err + str(wandb.given)
    assert not any(KEY.encode() in file.read_bytes() for file in records.runs.rglob("*") if file.is_file())


def test_another_project_gets_all_of_it_too(typed, records, logged, wandb):
    for project, sent in (("P1", 1), ("P1", 1), ("P2", 2), (None, 2)):
        said = typed("wandb-sync", *(["--project", project] if project else []))
        assert (said.code, len(wandb.given)) == (0, sent)
    said = typed("wandb-sync", "--project", "a/b")
    why = "must be a W&B project: 1 to 128 characters, none of / \\ # ? % :"
    assert (said.code, said.err) == (2, f"gradflow: --project a/b: {why}\n")


def test_a_second_process_does_not_send_the_same_again(typed, records, logged, wandb):
    with alone(records.runs):
        said = typed("wandb-sync")
    assert (said.code, wandb.given) == (1, [])
    assert said.err == f"gradflow: {records.runs}: another process is uploading its runs\n"
