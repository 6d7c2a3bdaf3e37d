"""What `test_two_processes_of_a_run` trains, alone or as one of two processes: `python two_process_runs.py FILE`.

The processes find each other by torchrun's variables; every run is one call of `execute`.
"""

from __future__ import annotations

import math
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from gradflow.runs.claim import claim
from gradflow.runs.compose import composer
from gradflow.runs.config import Config
from gradflow.runs.execute import Outcome, execute
from gradflow.runs.identity import run_id
from gradflow.runs.lockstep import Judge
from gradflow.runs.stop import Stop

WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
SMALL = (
    *("depth=3", "width=16", "hardware.device=cpu", "hardware.precision=64", "logger.mode=disabled"),
    *("trainer.max_steps=20", "trainer.log_every_n_steps=5", "trainer.val_every_n_steps=10"),
    *("trainer.checkpoint_every_n_steps=8", "instruments.every_n_steps=4"),
    *("instruments.measure=[grad_norm,delta_norm,update_ratio,weight_norm,activation_stats,derivative_chain]",),
)
ADDING = ("task=adding", "task.length=20", "task.val_size=100", "task.test_size=100", "depth=1", "width=8")
TIME = ("instruments.time_every_n_steps=10", "instruments.time_segments=5")
# What one process and two must train alike.
ALIKE: dict[str, tuple[str, ...]] = {
    "mlp": ("remedy=[clip_norm,warmup]", "remedy.warmup.steps=10", "remedy.clip_norm.max_norm=0.5"),
    "float32": ("model=resnet", "norm=layer", "skip=residual", "width=8", "hardware.precision=32", "task.augment=true"),
    "convnet": ("model=convnet", "norm=group", "width=8", "optimizer=adam"),
    "lstm": (*ADDING, *TIME, "model=recurrent", "cell=lstm"),
    "batch norm": ("norm=batch", "norm.sync=true", "init=lsuv"),
    "pre-trained": ("remedy=[layerwise_pretraining,clip_norm]",),
    "truncated": (*ADDING, "model=recurrent", "cell=gru", "remedy=tbptt", "remedy.tbptt.k1=5", "remedy.tbptt.k2=10"),
    "omega": (*ADDING, "model=recurrent", "cell=rnn", "remedy=omega"),
    "reservoir": ("task=narma10", "model=esn", "model.readout=sgd", "depth=1"),
    "diverging": ("optimizer.lr=1e8", "activation=linear"),
}
# Drawn anew in every process: dropped units, and blocks of which one process may leave out what the other does not.
DRAWN = ("skip=stochastic_depth", "dropout=0.3", "norm=batch", "trainer.max_steps=40")
IN_A_SECOND = ("trainer.max_time=00:00:00:01", "trainer.max_steps=1000000")


class FailsOnRankOne(torch.nn.ReLU):
    """Works where it is looked at before training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if RANK == 1 and x.device.type != "meta" and torch.distributed.is_initialized():
            raise ArithmeticError("no such neuron on this machine")
        return super().forward(x)


class StopAt(Stop):
    """Somebody's wish to stop, come when the run has looked up `looks` times."""

    def __init__(self, looks: float) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def configured(folder: Path, *words: str) -> Config:
    with composer() as compose:
        paths = (f"paths.runs={folder}/runs", f"paths.sweeps={folder}/sweeps")
        return compose.config([*SMALL, *paths, *words, f"trainer.devices={WORLD}"])


def train(config: Config, stop: Stop | None = None, judge: Judge | None = None) -> Outcome:
    return execute(config, [], stop or Stop(), judge=judge)


def everything(folder: Path) -> dict[str, list[Outcome]]:
    """How every run ended, in this process; their records are in `folder`."""
    ended = {name: [train(configured(folder, *words))] for name, words in ALIKE.items()}
    if WORLD > 1:
        ended |= together(folder)
    return ended


def together(folder: Path) -> dict[str, list[Outcome]]:
    """What several processes must agree on."""
    mlp = configured(folder, *ALIKE["mlp"])
    ended = {"undisturbed": [train(configured(folder / "undisturbed", *DRAWN))]}
    drawn = configured(folder, *DRAWN)
    # rank 1 alone is told to stop: before a chunk, and then, having no patience, while it evaluates
    ended["stopped"] = [train(drawn, StopAt(3 if RANK == 1 else math.inf))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradflow.runs.lockstep.PATIENCE", -1.0 if RANK == 1 else 1e9)
        ended["stopped"] += [train(drawn, StopAt(3 if RANK == 1 else math.inf)), train(drawn)]
    ended["pruned"] = [train(configured(folder, "seed=1"), judge=(lambda step, _: step >= 10) if RANK == 0 else None)]
    ended["timed"] = [train(configured(folder, *IN_A_SECOND))]
    ended["done"] = [train(mlp)]
    busy = configured(folder, "seed=2")
    with claim(Path(busy.paths.runs) / run_id(busy)) if RANK == 0 else nullcontext():
        ended["busy"] = [train(busy)]
    own = configured(folder, f"seed={3 + RANK}")
    ended["at odds"] = [train(own)]
    failing = configured(folder, "activation._target_=two_process_runs.FailsOnRankOne")
    ended["failing"] = [train(failing)]
    return ended


if __name__ == "__main__":
    os.environ["RANK"] = str(RANK)
    torch.save(everything(Path(sys.argv[1]).parent), sys.argv[1])
