"""A run that ends at the first validation that meets its task's criterion, also where it is killed just then."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import plain
import pytest
import torch
from lightning.pytorch import Trainer

from gradflow.cli import main
from gradflow.runs.preflight import preflight
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.digits import digits
from gradflow.training import schedulers
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd

pytestmark = pytest.mark.filterwarnings("ignore")
LATCH = (
    *("task=latch", "task.length=8", "model=recurrent", "width=8", "optimizer=adam", "optimizer.lr=0.02"),
    *("trainer.val_every_n_steps=20", "instruments=none", "logger.mode=disabled", "hardware.device=cpu"),
)


@pytest.fixture
def solved_at(tmp_path, monkeypatch):
    """(updates made, first that solved it, task's own test figures) of a run of `LATCH` with more words."""
    monkeypatch.chdir(tmp_path)

    def train(*words: str) -> dict:
        before = set(Path("runs").glob("*/result.json"))
        with pytest.raises(SystemExit) as caught:
            main(["train", *LATCH, *words])
        assert caught.value.code == 0
        (file,) = set(Path("runs").glob("*/result.json")) - before
        return json.loads(file.read_text())

    return train


def test_it_ends_when_the_task_is_solved_and_is_tested_as_ever(solved_at):
    whole = solved_at("trainer.max_steps=400")
    early = solved_at("trainer.max_steps=400", "trainer.stop_when_solved=true")
    first = whole["solved"]["step"]
    assert whole["steps"] == 400
    assert 0 < first < 400
    assert (early["steps"], early["solved"], early["state"]) == (first, whole["solved"], "completed")
    exact = solved_at(f"trainer.max_steps={first}")
    assert early["metrics"] == exact["metrics"]  # it is the run of so many steps, bit for bit


def test_one_that_is_never_solved_makes_all_its_steps(solved_at):
    assert solved_at("trainer.max_steps=20", "trainer.stop_when_solved=true", "optimizer.lr=1e-9")["steps"] == 20


def test_a_task_without_a_criterion_is_refused(compose):
    faults = preflight(compose.config(["task=digits", "trainer.stop_when_solved=true"]))
    assert faults == ["trainer.stop_when_solved=true: task=digits has no criterion of being solved: set it to false"]


def learner(total: int) -> Learner:
    task = replace(digits(), solved=Criterion("accuracy", 0.0, at_most=False))  # at the first validation
    return Learner(
        plain.network(),
        task,
        lambda device, rank, world: task.load(Path("unused"), 0, device, rank, world),
        partial(sgd, lr=0.1, momentum=0.9, weight_decay=0.0),
        schedulers.constant,
        Budget(total, 1, 5, 100, until_solved=True),
    )


def fit(module: Learner, folder: Path, checkpoint: Path | None = None) -> Trainer:
    names = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger", "use_distributed_sampler")
    quiet = {**dict.fromkeys(names, False), "num_sanity_val_steps": 0, "max_epochs": -1}
    trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **quiet)
    trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    return trainer


def test_one_that_is_killed_after_it_was_solved_trains_no_further(tmp_path):
    module = learner(30)
    trainer = fit(module, tmp_path)
    assert module.steps_done == 5
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = learner(30)
    fit(again, tmp_path, tmp_path / "last.ckpt")
    assert again.steps_done == 5
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
