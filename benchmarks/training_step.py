"""What a training step costs: gradflow's loop and its gradient norms beside a bare PyTorch loop and plain Lightning.

    python benchmarks/training_step.py [--depth 10 --width 64 --batch 64 --steps 400 --repeats 7 --device cpu]

All train the same network on the same batches with one CPU thread. The contenders take turns, so that whatever else
the machine does falls on all of them; the figures are the median of the repeats, as a ratio to the bare loop of the
same turn, with the smallest and largest ratio beside it. On a machine that others use too, whose speed changes within a
turn, the ratio of the quickest turns says more.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from gradflow.instruments.gradient_flow import GradientFlow
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

CHEAP = {"grad_norm": 10, "delta_norm": 50, "update_ratio": 100, "weight_norm": 200, "activation_stats": 50}
CHEAP |= {"derivative_chain": 50, "loss_curve": 1}  # conf/instruments/cheap.yaml
OPTIONS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("depth", 10), ("width", 64), ("batch", 64), ("steps", 400), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    task = digits(batch_size=args.batch)
    contenders: dict[str, Callable[[], float]] = {
        "bare PyTorch loop": partial(bare, args, task),
        "gradflow, no instrument": partial(ours, args, task, None),
        "gradflow, cheap (what a run has unless told otherwise)": partial(ours, args, task, CHEAP),
        "gradflow, grad_norm every 10th step": partial(ours, args, task, {"grad_norm": 10}),
        "gradflow, grad_norm every step": partial(ours, args, task, {"grad_norm": 1}),
        "Lightning as usual: automatic, self.log, DataLoader": partial(usual, args, task),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(args.repeats + 1):
        for name, run in contenders.items():
            took = run()
            if turn:  # the first turn warms up
                seconds[name].append(took / args.steps)
    print(f"depth {args.depth}, width {args.width}, batch {args.batch}, {args.steps} steps, {args.repeats} repeats")
    versions = f"torch {torch.__version__}, lightning {lightning.__version__}, Python {platform.python_version()}"
    print(f"{versions}, one thread{card(args.device)}")
    print("\n| loop | ms per step | ratio to the bare loop (min–max) | ratio of the quickest turns |")
    print("| --- | ---: | ---: | ---: |")
    base = seconds["bare PyTorch loop"]
    for name, took in seconds.items():
        ratios = [a / b for a, b in zip(took, base, strict=True)]
        middle, quickest = statistics.median(ratios), min(took) / min(base)
        shown = f"{middle:.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {quickest:.2f}"
        print(f"| {name} | {1000 * statistics.median(took):.3f} | {shown} |")


def network(args: argparse.Namespace) -> torch.nn.Module:
    net = mlp((1, 8, 8), 10, Parts(args.depth, args.width, activations.relu, norms.none, skips.none))
    initialize(net, initializers.he_normal, stream(0, "init"))
    return net


def bare(args: argparse.Namespace, task: object) -> float:
    """The least that has to be done."""
    net = network(args).to(args.device)
    data = task.load(Path(), 0, args.device)  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    began = time.perf_counter()
    for step in range(args.steps):
        x, y = data.train(step)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    wait(args.device)
    return time.perf_counter() - began


def ours(args: argparse.Namespace, task: object, instruments: dict[str, int] | None) -> float:
    """gradflow's own loop; validation is left out."""
    budget = Budget(args.steps, log_every=10, val_every=args.steps + 1, checkpoint_every=args.steps + 1)
    load = lambda device, rank, world: task.load(Path(), 0, device, rank, world)  # type: ignore[attr-defined]  # noqa: E731
    learner = Learner(network(args), task, load, partial(sgd, lr=0.01, momentum=0.9), constant, budget)  # type: ignore[arg-type]
    callbacks = [GradientFlow(clipped=False, instruments=instruments)] if instruments else []
    trainer = Trainer(max_epochs=-1, callbacks=callbacks, limit_val_batches=0, accelerator=args.device.type, **OPTIONS)
    wait(args.device)
    began = time.perf_counter()
    trainer.fit(learner)
    wait(args.device)
    return time.perf_counter() - began


class Usual(LightningModule):
    """What one would write first."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def usual(args: argparse.Namespace, task: object) -> float:
    data = task.load(Path(), 0, args.device)  # type: ignore[attr-defined]
    split = data.splits["train"]
    examples = TensorDataset(data.to_input(split.x, torch.float32).cpu(), split.y.cpu())
    loader = DataLoader(examples, batch_size=args.batch, shuffle=True, drop_last=True)
    trainer = Trainer(max_steps=args.steps, max_epochs=-1, accelerator=args.device.type, **OPTIONS)
    began = time.perf_counter()
    trainer.fit(Usual(network(args)), loader)
    wait(args.device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def card(device: torch.device) -> str:
    return f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""


if __name__ == "__main__":
    main()
