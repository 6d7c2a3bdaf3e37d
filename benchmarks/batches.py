"""Images per second of batches alone: gradflow's resident tensors beside torchvision's transforms and a DataLoader.

    python benchmarks/batches.py [--batches 200 --batch 128 --workers 2 --repeats 3 --threads 1 --data DIR]
    python benchmarks/batches.py --device cuda --images MNIST

Nothing is trained: a batch is made and let go. CIFAR-10 is augmented (4 pixels of zeros around, a random crop of 32,
half of the images mirrored), MNIST is plain; both are standardised and shuffled. gradflow keeps the training split as
one uint8 tensor in memory and makes a batch of it by `TrainBatches`, in this process; each turn is an epoch of its own,
whose draw is in the time. The peer is what one writes with torchvision: an image at a time through ToTensor and
Normalize, for CIFAR-10 after RandomCrop and RandomHorizontalFlip, by a DataLoader with persistent worker processes.
They are started, and what they have made ahead is taken, before the clock starts. `--batches 0` times an epoch's worth.
With `--device cuda` both deliver there: gradflow's tensors are resident on the GPU, and the peer pins its memory and
copies without waiting; the clock is read when the GPU is done.

The two take turns, so that whatever else the machine does falls on both; the first turn warms up. Figures are medians
with the smallest and largest; the ratio is gradflow's rate over the peer's of the same turn. `--threads` are those of
this process; a worker has one. The data folder is GRADFLOW_DATA_DIR's unless `--data` says otherwise. 'Asked for' is
the bar that the project has set itself; nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from gradflow.tasks import cifar10, mnist
from gradflow.tasks.resident import Standardization
from gradflow.tasks.task import Task
from gradflow.tasks.torchvision_data import _open

AHEAD = 2  # batches that a worker makes ahead, torch's default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batches", 200), ("batch", 128), ("workers", 2), ("repeats", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GRADFLOW_DATA_DIR", "data")))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--images", nargs="+", choices=["CIFAR-10", "MNIST"], default=["CIFAR-10", "MNIST"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {args.threads} thread(s) here, ", end="")
    print(f"{args.workers} workers of one thread, {args.batches or 'all'} batches of {args.batch}, ", end="")
    print(f"{args.repeats} repeats{card(args.device)}\n")
    print("| images | gradflow, images/s (min–max) | DataLoader, images/s (min–max) | ratio (min–max) | asked for |")
    print("| --- | ---: | ---: | ---: | ---: |")
    augment: list[Callable[..., object]] = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    if "CIFAR-10" in args.images:
        task = cifar10.cifar10(batch_size=args.batch, augment=True)
        compare("CIFAR-10, augmented", task, loader(args, datasets.CIFAR10, augment, cifar10.STANDARDIZE), args, "6")
    if "MNIST" in args.images:
        task = mnist.mnist(batch_size=args.batch)
        compare("MNIST, plain", task, loader(args, datasets.MNIST, [], mnist.STANDARDIZE), args, "")
    print(f"\ncommand: {shlex.join(['python', 'benchmarks/batches.py', *sys.argv[1:]])}")


def loader(
    args: argparse.Namespace,
    dataset: Callable[..., object],
    augment: list[Callable[..., object]],
    standardize: Standardization,
) -> DataLoader[list[Tensor]]:
    """What one writes with torchvision."""
    normalize = [transforms.ToTensor(), transforms.Normalize(standardize.mean, standardize.std)]
    make = partial(dataset, transform=transforms.Compose([*augment, *normalize]))
    return DataLoader(
        _open(make, args.data, train=True),  # unpacks a read-only folder elsewhere, as gradflow does
        batch_size=args.batch,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        prefetch_factor=AHEAD,
        persistent_workers=True,
        pin_memory=args.device.type == "cuda",
    )


def compare(name: str, task: Task, batches: DataLoader[list[Tensor]], args: argparse.Namespace, bar: str) -> None:
    """One row of the table."""
    data = task.load(args.data, 0, args.device)
    epoch = task.steps_per_epoch or 0
    theirs = endless(batches, args.device)
    rates: dict[str, list[float]] = {"gradflow": [], "DataLoader": []}
    for turn in range(args.repeats + 1):
        steps = count(turn * epoch)
        taken = {"gradflow": rate(lambda: data.train(next(steps)), args.batches or epoch, args.device)}  # noqa: B023
        for _ in range(AHEAD * args.workers):
            next(theirs)
        taken["DataLoader"] = rate(lambda: next(theirs), args.batches or len(batches), args.device)
        time.sleep(1.0)  # until the workers have made their batches ahead and leave the cores alone
        if turn:  # the first turn warms up
            for way, value in taken.items():
                rates[way].append(value)
    ratios = [mine / peer for mine, peer in zip(rates["gradflow"], rates["DataLoader"], strict=True)]
    columns = [spread(rates["gradflow"], ",.0f"), spread(rates["DataLoader"], ",.0f"), spread(ratios, ".1f")]
    print(f"| {name} | {' | '.join(columns)} | {bar} |", flush=True)


def endless(batches: DataLoader[list[Tensor]], device: torch.device) -> Iterator[list[Tensor]]:
    while True:
        for batch in batches:
            yield [part.to(device, non_blocking=True) for part in batch]


def rate(batch: Callable[[], tuple[Tensor, Tensor] | list[Tensor]], batches: int, device: torch.device) -> float:
    """Images per second of so many batches."""
    wait(device)
    images, began = 0, time.perf_counter()
    for _ in range(batches):
        images += len(batch()[1])
    wait(device)
    return images / (time.perf_counter() - began)


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def card(device: torch.device) -> str:
    return f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""


if __name__ == "__main__":
    main()
