"""What `test_two_processes` trains, alone or as one of several processes: `python two_processes.py FILE`.

The processes find each other by torch's usual variables (MASTER_ADDR, MASTER_PORT, LOCAL_RANK, WORLD_SIZE).
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from gradflow import GradientFlow
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initializers import initialize
from gradflow.models.mlp import mlp
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.tasks.digits import digits
from gradflow.training import schedulers
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner, clipper
from gradflow.training.optimizers import sgd

WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
GLOBAL_BATCH, STEPS = 16, 5


def network(depth: int, activation: str, init: str) -> Network:
    made = mlp((1, 8, 8), 10, depth, 32, getattr(activations, activation), norms.none, skips.none)
    initialize(made, getattr(initializers, init), stream(0, "init"))
    return made


class Stranger(LightningModule):
    """Automatic optimisation over an ordinary DataLoader, shared out among the processes in order."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x.to(next(self.parameters()).dtype)), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Any]:
        x = torch.randn(GLOBAL_BATCH * STEPS, 1, 8, 8, generator=stream(0, "x"))
        y = torch.randint(0, 10, (len(x),), generator=stream(0, "y"))
        data = TensorDataset(x, y)
        return DataLoader(
            data, batch_size=GLOBAL_BATCH // WORLD, sampler=DistributedSampler(data, WORLD, RANK, shuffle=False)
        )


def fit(module: LightningModule, flow: GradientFlow, folder: Path, **options: Any) -> dict[str, Any]:
    names = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger")
    how = {"strategy": "ddp", "devices": WORLD} if WORLD > 1 else {"devices": 1}
    quiet = {**dict.fromkeys(names, False), "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    trainer = Trainer(accelerator="cpu", callbacks=[flow], default_root_dir=folder, **how, **quiet, **options)
    trainer.fit(module)
    assert trainer.world_size == WORLD
    rows = {(row["step"], row["name"], row["quantity"]): row["value"] for row in flow.flow.rows()}
    return {"rows": rows, "weights": torch.cat([p.detach().flatten() for p in module.parameters()])}


def stranger(folder: Path) -> dict[str, Any]:
    flow = GradientFlow(every_n_steps=1)
    options = {"max_epochs": 1, "precision": "64-true", "gradient_clip_val": 0.05}
    return fit(Stranger(network(3, "tanh", "glorot_uniform")), flow, folder, **options)


def faint(folder: Path) -> dict[str, Any]:
    """A hundred sigmoid blocks, whose first gradients only the scaled loss can show."""
    flow = GradientFlow(every_n_steps=1, loss_scale=2.0**100)
    return fit(Stranger(network(100, "sigmoid", "glorot_uniform")), flow, folder, max_steps=1)


def learner(folder: Path) -> dict[str, Any]:
    task = digits(batch_size=GLOBAL_BATCH)
    module = Learner(
        network(3, "relu", "he_normal"),
        task,
        lambda device, rank, world: task.load(folder, 0, device, rank, world),
        partial(sgd, lr=0.1, momentum=0.9, weight_decay=1e-3),
        partial(schedulers.cosine, warmup_steps=3),
        Budget(total=20, log_every=1, val_every=10, checkpoint_every=1000),
        clipper(0.5, "norm"),
    )
    flow = GradientFlow(every_n_steps=2)
    found = fit(module, flow, folder, max_epochs=-1, precision="64-true")
    return {**found, "figures": [(f.step, f.split, name, v) for f in module.figures for name, v in f.values.items()]}


def everything(folder: Path) -> dict[str, dict[str, Any]]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {each.__name__: each(folder) for each in (stranger, faint, learner)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(everything(Path(sys.argv[1]).parent), sys.argv[1])
