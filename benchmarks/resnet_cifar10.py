"""Images per second of ResNet-20 and plain-56 on CIFAR-10: gradflow beside a bare PyTorch loop of the same net.

    python benchmarks/resnet_cifar10.py [--epochs 2 --repeats 3 --batch 128 --precisions 32 tf32 bf16-mixed]
    python benchmarks/resnet_cifar10.py --nets ResNet-20 --precisions 32 --steps 20 --threads 2    # on two CPU cores

All train the same network. The bare loop and gradflow have the same batches, which lie on the device and are cropped
and flipped there; gradflow measures the gradient norm of every block at every 10th step. The plain DataLoader loop is
what one writes with torchvision: RandomCrop, RandomHorizontalFlip, ToTensor and Normalize in `--workers` processes of
one thread each, which are started, and have made their first batches, before its clock starts. The contenders take
turns, the first turn warms up; the figures are medians of the repeats, and ratios of the same turn with their smallest
and largest. `--threads` are those of torch in this process. Without `--data` GRADFLOW_DATA_DIR says where the data are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path

import lightning
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.rng import stream
from gradflow.runs.execute import quiet
from gradflow.runs.hardware import PRECISIONS, keep_memory
from gradflow.tasks.cifar10 import STANDARDIZE, cifar10
from gradflow.tasks.task import TaskData
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd
from gradflow.training.schedulers import constant

OURS = "gradflow, grad_norm every 10th step"
NETS = {"ResNet-20": (9, skips.residual), "plain-56": (27, skips.none)}
RATE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GRADFLOW_DATA_DIR", "data")))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, help="instead of epochs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--precisions", nargs="+", default=["32", "tf32", "bf16-mixed"], choices=list(PRECISIONS))
    args = parser.parse_args()
    quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = cifar10(batch_size=args.batch, augment=True)
    data = task.load(args.data, 0, device)
    steps = args.steps or args.epochs * task.steps_per_epoch
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {args.threads} thread(s)"
    torch.set_num_threads(args.threads)
    keep_memory()  # as in every process of gradflow; the others have it too
    print(f"{name}; torch {torch.__version__}, lightning {lightning.__version__}; batch {args.batch}, {steps} steps")
    print("\n| net | precision | loop | images/s | to the bare loop (min–max) | gradflow to it | validation accuracy |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for net, precision in ((net, precision) for net in args.nets for precision in args.precisions):
        depth, skip = NETS[net]
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        make = partial(network, depth, skip)
        contenders: dict[str, Callable[[], tuple[float, nn.Module]]] = {
            "bare PyTorch loop": partial(bare, make, data, device, precision, steps),
            "plain DataLoader loop": partial(usual, make, args, device, precision, steps),
            OURS: partial(ours, make, task, data, precision, steps),
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
            to_bare, of_ours = spread(rate, rates["bare PyTorch loop"]), spread(rates[OURS], rate)
            shown = f"{statistics.median(rate):,.0f} | {to_bare} | {of_ours}"
            print(f"| {net} | {precision} | {loop} | {shown} | {accuracy[loop]:.3f} |", flush=True)


def spread(rates: list[float], others: list[float]) -> str:
    ratios = [mine / theirs for mine, theirs in zip(rates, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


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


def usual(
    make: Callable[[], nn.Module], args: argparse.Namespace, device: torch.device, precision: str, steps: int
) -> tuple[float, nn.Module]:
    """What one writes with torchvision and a DataLoader."""
    words = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    words.append(transforms.Normalize(STANDARDIZE.mean, STANDARDIZE.std))
    loader = DataLoader(
        datasets.CIFAR10(args.data, train=True, transform=transforms.Compose(words)),
        batch_size=args.batch,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=device.type == "cuda",
    )
    net = make().to(device)
    optimizer = torch.optim.SGD(net.parameters(), **RATE)
    batches, done = iter(loader), 0
    first = [next(batches)]
    wait(device)
    began = time.perf_counter()
    while done < steps:
        for x, y in chain(first, batches):
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else nullcontext():
                loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
        first, batches = [], iter(loader) if done < steps else batches
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
