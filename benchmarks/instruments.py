"""What looking costs: the same run with instruments off and on, beside wandb.watch and a callback with `.item()`.

    python benchmarks/instruments.py [--depth 50 --width 256 --batch 256 --steps 100 --repeats 7 --threads 1]

Every contender trains the same network on the same batches with gradflow's own loop. They take turns; a figure is the
median over the turns of the CPU time of the whole run, as a ratio to the run without instruments of the same turn, with
the smallest and largest ratio beside it. CPU time, because other work on the machine does not lengthen it; with one
thread it is what the run takes on an idle core. `--each` lists every instrument by itself, due at every step.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
import wandb
from lightning.pytorch import Callback, LightningModule, Trainer

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.instruments.names import NAMES, PRESETS
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.rng import stream
from gradflow.runs.execute import quiet
from gradflow.tasks.digits import digits
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.schedulers import constant

OPTIONS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


class Naive(Callback):
    """What one would write first: one number at a time."""

    def __init__(self, every: int) -> None:
        self.every, self.kept = every, []  # type: ignore[var-annotated]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_step % self.every == 0:
            self.kept.append({n: p.grad.norm().item() for n, p in pl_module.named_parameters() if p.grad is not None})


class WandbWatch(Callback):
    """`wandb.watch(log="gradients")`, W&B offline; a log call at each step that it watches sends what it collected."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert wandb.run is not None
        self.network: torch.nn.Module = pl_module.network  # type: ignore[assignment]
        wandb.watch(self.network, log="gradients", log_freq=self.every)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_step % self.every == 0:
            wandb.log({"step": trainer.global_step})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wandb.unwatch(self.network)


def flow(choice: Mapping[str, int]) -> GradientFlow:
    return GradientFlow(clipped=False, instruments=choice)


def every(name: str, steps: int) -> dict[str, int]:
    return dict.fromkeys(PRESETS[name], steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("depth", 50), ("width", 256), ("batch", 256), ("steps", 100), ("repeats", 7), ("threads", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--each", action="store_true", help="every instrument by itself, due at every step")
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    contenders: dict[str, Callable[[], Callback | None]] = {"instruments off": lambda: None}
    if args.each:
        contenders |= {f"{name}, every step": partial(flow, {name: 1}) for name in NAMES}
    else:
        contenders |= {
            "grad_norm, every step": partial(flow, {"grad_norm": 1}),
            "grad_norm, every 10th": partial(flow, {"grad_norm": 10}),
            "cheap, every 50th": partial(flow, every("cheap", 50)),
            "full, every 50th": partial(flow, every("full", 50)),
            "`.item()` per parameter, every step": partial(Naive, 1),
            "`.item()` per parameter, every 50th": partial(Naive, 50),
            "wandb.watch gradients, every step": partial(WandbWatch, 1),
            "wandb.watch gradients, every 50th": partial(WandbWatch, 50),
        }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_SILENT"] = "true"
        wandb.init(mode="offline", dir=folder, settings=wandb.Settings(console="off", disable_git=True))
        seconds = measure(args, contenders)
        wandb.finish()
    print(
        f"depth {args.depth}, width {args.width}, batch {args.batch}, {args.steps} steps, {args.repeats} repeats, "
        f"{args.threads} thread(s); torch {torch.__version__}, lightning {lightning.__version__}, "
        f"wandb {wandb.__version__}, Python {platform.python_version()}"
    )
    print("\n| watched by | ms per step | added to the run (min–max) |\n| --- | ---: | ---: |")
    base = seconds["instruments off"]
    for name, took in seconds.items():
        added = [100 * (a / b - 1) for a, b in zip(took, base, strict=True)]
        middle = statistics.median(added)
        spread = f"{min(added):+.1f} to {max(added):+.1f}"
        print(f"| {name} | {1000 * statistics.median(took):.2f} | {middle:+.1f} % ({spread}) |")


def measure(args: argparse.Namespace, contenders: dict[str, Callable[[], Callback | None]]) -> dict[str, list[float]]:
    """CPU seconds per step of every contender in every turn; each turn begins with another one."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(args.repeats + 1):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            took = train(args, contenders[name]())
            if turn:  # the first turn warms up
                seconds[name].append(took / args.steps)
    return seconds


def train(args: argparse.Namespace, callback: Callback | None) -> float:
    task = digits(batch_size=args.batch)
    net = mlp((1, 8, 8), 10, Parts(args.depth, args.width, activations.tanh, norms.none, skips.none))
    initialize(net, initializers.glorot_uniform, stream(0, "init"))
    budget = Budget(args.steps, log_every=10, val_every=args.steps + 1, checkpoint_every=args.steps + 1)
    learner = Learner(
        net,
        task,
        lambda device, rank, world: task.load(Path(), 0, device, rank, world),
        partial(sgd, lr=0.01, momentum=0.9),  # type: ignore[arg-type]
        constant,
        budget,
    )
    trainer = Trainer(max_epochs=-1, callbacks=[callback] if callback else [], limit_val_batches=0, **OPTIONS)
    began = time.process_time()
    trainer.fit(learner)
    return time.process_time() - began


if __name__ == "__main__":
    main()
