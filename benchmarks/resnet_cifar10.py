"""Images per second of ResNet-20 and plain-56 on CIFAR-10: gradflow beside a bare PyTorch loop of the same net.

    python benchmarks/resnet_cifar10.py [--epochs 2 --repeats 3 --batch 128 --precisions 32 tf32 bf16-mixed]

Both train the same network on the same batches, which lie on the device and are cropped and flipped there; gradflow
measures the gradient norm of every block at every 10th step. The contenders take turns, the first turn warms up; the
figures are medians of the repeats, and ratios to the bare loop of the same turn with their smallest and largest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import lightning
import torch
from lightning.pytorch import Trainer
from torch import nn

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.rng import stream
from gradflow.runs.execute import quiet
from gradflow.runs.hardware import PRECISIONS
from gradflow.tasks.cifar10 import cifar10
from gradflow.tasks.task import TaskData
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.schedulers import constant

NETS = {"ResNet-20": (9, skips.residual), "plain-56": (27, skips.none)}
RATE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, help="instead of epochs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precisions", nargs="+", default=["32", "tf32", "bf16-mixed"], choices=list(PRECISIONS))
    args = parser.parse_args()
    quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = cifar10(batch_size=args.batch, augment=True)
    data = task.load(args.data, 0, device)
    steps = args.steps or args.epochs * task.steps_per_epoch
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    torch.set_num_threads(1)
    print(f"{name}; torch {torch.__version__}, lightning {lightning.__version__}; batch {args.batch}, {steps} steps")
    print("\n| net | precision | loop | images/s | ratio to the bare loop (min–max) | validation accuracy |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for (net, (depth, skip)), precision in ((n, p) for n in NETS.items() for p in args.precisions):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        make = partial(network, depth, skip)
        contenders: dict[str, Callable[[], tuple[float, nn.Module]]] = {
            "bare PyTorch loop": partial(bare, make, data, device, precision, steps),
            "gradflow, grad_norm every 10th step": partial(ours, make, task, data, precision, steps),
        }
        rates: dict[str, list[float]] = {loop: [] for loop in contenders}
        accuracy = {}
        for turn in range(args.repeats + 1):
            for loop, run in contenders.items():
                seconds, trained = run()
                if turn:
                    rates[loop].append(args.batch * steps / seconds)
                accuracy[loop] = validate(trained, data, device)
        for loop, rate in rates.items():
            ratios = [mine / theirs for mine, theirs in zip(rate, rates["bare PyTorch loop"], strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            rate_shown = f"{statistics.median(rate):,.0f}"
            print(f"| {net} | {precision} | {loop} | {rate_shown} | {spread} | {accuracy[loop]:.3f} |", flush=True)


def network(depth: int, skip: Callable[..., skips.Block]) -> nn.Module:
    net = resnet((3, 32, 32), 10, Parts(depth, 16, activations.relu, norms.batch, skip))
    initialize(net, initializers.he_normal, stream(0, "init"))
    return net


def bare(
    make: Callable[[], nn.Module], data: TaskData, device: torch.device, precision: str, steps: int
) -> tuple[float, nn.Module]:
    """The least that has to be done."""
    net = make().to(device)
    optimizer = torch.optim.SGD(net.parameters(), **RATE)
    wait(device)
    began = time.perf_counter()
    for step in range(steps):
        x, y = data.train(step)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else nullcontext():
            loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    wait(device)
    return time.perf_counter() - began, net


def ours(
    make: Callable[[], nn.Module], task: object, data: TaskData, precision: str, steps: int
) -> tuple[float, nn.Module]:
    """gradflow's own loop; validation is left out."""
    budget = Budget(steps, log_every=10, val_every=steps + 1, checkpoint_every=steps + 1)
    net = make()
    learner = Learner(net, task, lambda *_: data, partial(sgd, **RATE), constant, budget)  # type: ignore[arg-type]
    trainer = Trainer(
        max_epochs=-1,
        precision=PRECISIONS[precision],
        callbacks=[GradientFlow(10, clipped=False)],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    wait(data.splits["val"].y.device)
    began = time.perf_counter()
    trainer.fit(learner)
    wait(data.splits["val"].y.device)
    return time.perf_counter() - began, net


@torch.no_grad()
def validate(net: nn.Module, data: TaskData, device: torch.device) -> float:
    net.to(device).eval()
    right = 0
    for start in range(0, len(data.splits["val"]), 1000):
        x, y = data.evaluation("val", start, start + 1000, torch.float32)
        right += int((net(x).argmax(-1) == y).sum())
    return right / len(data.splits["val"])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
