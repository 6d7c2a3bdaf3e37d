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

import plain
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from gradflow import GradientFlow
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.tasks.digits import digits
from gradflow.training import remedies, schedulers
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.remedy import Remedy

WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
GLOBAL_BATCH, STEPS = 16, 5


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


def fit(
    module: LightningModule,
    flow: GradientFlow,
    folder: Path,
    *callbacks: Callback,
    strategy: str = "ddp",
    ckpt_path: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    names = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger")
    how = {"strategy": strategy, "devices": WORLD} if WORLD > 1 else {"devices": 1}
    quiet = {**dict.fromkeys(names, False), "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    trainer = Trainer(
        accelerator="cpu", callbacks=[flow, *callbacks], default_root_dir=folder, **how, **quiet, **options
    )
    trainer.fit(module, ckpt_path=ckpt_path, weights_only=True)
    assert trainer.world_size == WORLD
    rows = {(row["step"], row["name"], row["quantity"]): row["value"] for row in flow.flow.rows()}
    return {"rows": rows, "weights": torch.cat([p.detach().flatten() for p in module.parameters()])}


def stranger(folder: Path) -> dict[str, Any]:
    flow = GradientFlow(every_n_steps=1)
    options = {"max_epochs": 1, "precision": "64-true", "gradient_clip_val": 0.05}
    return fit(Stranger(plain.network(activation=nn.Tanh, gain=1.0)), flow, folder, **options)


def faint(folder: Path) -> dict[str, Any]:
    """A hundred sigmoid blocks, whose first gradients only the scaled loss can show."""
    flow = GradientFlow(every_n_steps=1, loss_scale=2.0**100)
    return fit(Stranger(plain.network(depth=100, activation=nn.Sigmoid, gain=1.0)), flow, folder, max_steps=1)


def learns(net: Network, acting: list[Remedy], folder: Path) -> Learner:
    task = digits(batch_size=GLOBAL_BATCH)
    return Learner(
        net,
        task,
        lambda device, rank, world: task.load(folder, 0, device, rank, world),
        partial(sgd, lr=0.1, momentum=0.9, weight_decay=1e-3),
        schedulers.cosine,
        Budget(total=20, log_every=1, val_every=10, checkpoint_every=1000),
        acting,
    )


def shown(module: Learner) -> list[tuple[int, str, str, float]]:
    return [(f.step, f.split, name, value) for f in module.figures for name, value in f.values.items()]


def learner(folder: Path) -> dict[str, Any]:
    """Noise, adaptive clipping, clipping and warm-up must do the same in every process."""
    acting = [remedies.gradient_noise(0, eta=1e-4), remedies.agc(0, clip_factor=0.1)]
    acting += [remedies.clip_norm(0, max_norm=0.5), remedies.warmup(0, steps=3)]
    module = learns(plain.network(), acting, folder)
    found = fit(module, GradientFlow(every_n_steps=2), folder, max_epochs=-1, precision="64-true")
    return {**found, "figures": shown(module)}


def pretrained(folder: Path) -> dict[str, Any]:
    """DDP must be told that a step may leave parameters without a gradient."""
    module = learns(plain.network(), [remedies.layerwise_pretraining(0), remedies.clip_norm(0)], folder)
    unused = "ddp_find_unused_parameters_true"
    found = fit(module, GradientFlow(every_n_steps=2), folder, strategy=unused, max_epochs=-1, precision="64-true")
    return {**found, "figures": shown(module)}


class SaveAt(Callback):
    """Saves a checkpoint before the chunk that begins at a step, and notes what each process would draw there."""

    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_start(self, trainer: Trainer, pl_module: Learner, *_: Any) -> None:
        if pl_module.steps_done == self.step:
            self.drawn = torch.get_rng_state()
            trainer.save_checkpoint(self.file)


def dropped(folder: Path) -> dict[str, Any]:
    """Dropout: a run, and one that goes on from the middle of it."""
    save = SaveAt(10, folder / f"half_of_{WORLD}.ckpt")
    whole = fit(learns(plain.network(dropout=0.5), [], folder), GradientFlow(), folder, save, max_epochs=-1)
    torch.manual_seed(99)
    again = learns(plain.network(dropout=0.5), [], folder)
    resumed = fit(again, GradientFlow(), folder, ckpt_path=save.file, max_epochs=-1)
    return {"weights": whole["weights"], "resumed": resumed["weights"], "drawn": save.drawn}


def everything(folder: Path) -> dict[str, dict[str, Any]]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {each.__name__: each(folder) for each in (stranger, faint, learner, pretrained, dropped)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(everything(Path(sys.argv[1]).parent), sys.argv[1])
