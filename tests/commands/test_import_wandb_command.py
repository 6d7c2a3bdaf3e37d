"""What a person is told of an import; that records are right is in tests/runs/test_wandb_import.py."""

import pytest

from gradflow.errors import ConfigError
from gradflow.runs import wandb_import
from gradflow.runs.wandb_import import Imported


@pytest.fixture
def wandb(monkeypatch):
    """Stands for the project at W&B: notes what it was asked, and gives two runs, one of them there before."""
    asked = []

    def pull(*words):
        asked.append(words)
        words[5]("digits mlp relu")
        return Imported(["a"], ["b"], {f"wandb-{i}": "it is running" for i in range(7)})

    monkeypatch.setattr(wandb_import, "pull", pull)
    monkeypatch.setenv("WANDB_API_KEY", "5ec2e7" * 6 + "abcd")
    return asked


def test_what_was_imported_is_told_and_what_was_left_out(typed, tmp_path, wandb):
    words = ["--filter", "optimizer.lr=0.1", "--filter", "group=g", "--metric", "test_acc:test/accuracy"]
    words += ["--metric", "loss", "--label", "task=cifar10"]
    said = typed("import-wandb", "team/project", *words)
    runs = tmp_path / "runs"
    assert said.code == 0
    assert said.out == f"  digits mlp relu\n{runs}: 1 runs imported from team/project, 1 there before\n"
    lines = said.err.splitlines()
    assert lines[0] == "gradflow: wandb-0 left out: it is running"
    assert lines[-1] == "gradflow: 2 more left out"
    filters = {"config.optimizer-lr.value": 0.1, "group": "g"}
    metrics = {"test_acc:test/accuracy": ("test_acc", "test/accuracy"), "loss": ("loss", "loss")}
    assert wandb[0][:5] == ("team/project", runs, filters, metrics, {"task": "cifar10"})
    assert typed("import-wandb", "team/project", "--runs", tmp_path / "other").code == 0
    assert wandb[1][1] == tmp_path / "other"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["project"], "import-wandb project: must be ENTITY/PROJECT, as in the address of its page"),
        (["a/b/c"], "import-wandb a/b/c: must be ENTITY/PROJECT, as in the address of its page"),
        (["a/b", "--filter", "depth"], "--filter depth: must be key=value, e.g. depth=10 or group=quickstart"),
        (["a/b", "--label", "task"], "--label task: must be key=value, e.g. task=cifar10"),
        (["a/b"], "import-wandb: no W&B API key found; run 'wandb login', or set WANDB_API_KEY"),
    ],
)
def test_what_cannot_be_done_is_one_line(typed, monkeypatch, words, line):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    said = typed("import-wandb", *words)
    assert (said.code, said.out, said.err) == (2, "", f"gradflow: {line}\n")


def test_where_the_server_does_not_answer_one_line_says_so(typed, monkeypatch):
    def nobody(*_):
        raise ConfigError("import-wandb a/b: W&B did not give its runs: connection refused")

    monkeypatch.setenv("WANDB_API_KEY", "5ec2e7" * 6 + "abcd")
    monkeypatch.setattr(wandb_import, "pull", nobody)
    said = typed("import-wandb", "a/b")
    assert (said.code, said.err) == (2, "gradflow: import-wandb a/b: W&B did not give its runs: connection refused\n")
