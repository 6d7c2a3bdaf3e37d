"""What looking through time costs: of a training step of a fused LSTM, as a share.

    python benchmarks/time_probe.py [--steps 100 784 --width 128 --batch 128 --repeats 7 --device cpu]

Everything is in one process with one CPU thread unless `--threads` says otherwise. The contenders take turns, so that
whatever else the machine does falls on all of them; the figures are medians of the repeats, as a ratio to the plain
training step of the same turn, with the smallest and largest ratio beside it. A probe is run beside a training step:
its ratio is what it adds to one, and a k-th of it is what it adds on average where every k-th step is probed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gradflow.instruments.time_grad import TimeGradientHooks
from gradflow.instruments.time_probe import TimeProbe

SEGMENTS = (10, 16, 28)
PROBED = 16  # examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 784], help="lengths of the sequences")
    for name, default in (("width", 128), ("batch", 128), ("repeats", 7), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"LSTM, H = {args.width}, batch {args.batch}, {args.repeats} repeats, {args.threads} threads")
    print(f"torch {torch.__version__}, Python {platform.python_version()}{card(args.device)}")
    for steps in args.steps:
        compare(steps, args)


def compare(steps: int, args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    model = Model(args.width).to(args.device)
    x, y = torch.randn(args.batch, steps, 1, device=args.device), torch.randint(10, (args.batch,), device=args.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    plain = partial(train, model, optimizer, x, y)
    contenders: dict[str, tuple[Callable[[], object], bool]] = {"plain": (plain, False)}
    for every in SEGMENTS:
        hooks = TimeGradientHooks(model, every)
        contenders[f"training step, seen at every {every}th time step"] = (partial(seen, hooks, plain), False)
    for name in ("time_grad", "forget_leak", "jacobian_time", "lyapunov"):
        probe = TimeProbe(model, nn.functional.cross_entropy, [name], examples=PROBED)
        contenders[f"probe of {PROBED} examples: {name}"] = (partial(probe.measure, 0, x, y), True)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(args.repeats + 1):
        for name, (run, _) in contenders.items():
            wait(args.device)
            began = time.perf_counter()
            run()
            wait(args.device)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - began)
    print(f"\nT = {steps}: a plain training step takes {1000 * statistics.median(seconds['plain']):.1f} ms\n")
    print("| what | ratio to the plain step (min–max) | added, every step | added, each 50th |")
    print("| --- | ---: | ---: | ---: |")
    for name, (_, beside) in contenders.items():
        if name == "plain":
            continue
        ratios = [a / b for a, b in zip(seconds[name], seconds["plain"], strict=True)]
        middle = statistics.median(ratios)
        more = middle if beside else middle - 1
        print(f"| {name} | {middle:.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {more:+.0%} | {more / 50:+.1%} |")


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn, self.readout = nn.LSTM(1, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[0][:, -1])


def train(model: Model, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def seen(hooks: TimeGradientHooks, plain: Callable[[], None]) -> object:
    hooks.start()
    plain()
    return hooks.finish()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def card(device: torch.device) -> str:
    return f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""


if __name__ == "__main__":
    main()
