"""What a training step of every recurrent cell costs: the fast way through a sequence, and the same cell step by step.

    python benchmarks/recurrent_step.py [--lengths 100 784 --width 128 --batch 128 --repeats 5 --threads 1]
    python benchmarks/recurrent_step.py --device cuda --cells lru mingru s4d lstm gru --lengths 784
    python benchmarks/recurrent_step.py --cells lru mingru rnn --lengths 100 --repeats 3

Every cell of conf/cell, with the keys that stand there, as one layer between inputs of one feature and a head of ten
classes on the last state: forward, cross-entropy, backward, SGD. The yardstick is the same around torch.nn.LSTM. 'step
by step' is what an instrument that looks at every state makes of a layer; cells without a fused kernel or a scan always
go that way. The contenders take turns, so that whatever else the machine does falls on all of them; the figures are
medians of the turns, and a ratio is one of two times of the same turn. On a GPU a turn is a step too, and the clock is
read when the GPU is done.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hydra
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gradflow.models import activations, initializers
from gradflow.models.cell import Cell, State
from gradflow.models.initialize import initialize
from gradflow.models.layers import Linear
from gradflow.models.recurrence import Recurrence
from gradflow.models.recurrent import LastStates
from gradflow.rng import stream

CELLS = Path(__file__).parents[1] / "conf" / "cell"
YARDSTICK = "torch.nn.LSTM"
FEATURES, CLASSES = 1, 10


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, {args.threads} thread(s)"
    print(f"width {args.width}, batch {args.batch}, {args.repeats} repeats, {versions}{card(args.device)}")
    for steps in args.lengths:
        contenders = {(YARDSTICK, "fast"): trainer(Yardstick(args.width), steps, args)}
        for name in args.cells:
            for way in ways(made(name, args.width)):
                contenders[name, way] = trainer(network(name, args.width, way), steps, args)
        show(steps, measure(contenders, args))


def arguments() -> argparse.Namespace:
    names = sorted(file.stem for file in CELLS.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 128), ("batch", 128), ("repeats", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 784])
    parser.add_argument("--cells", nargs="+", choices=names, metavar="CELL", default=names, help=", ".join(names))
    return parser.parse_args()


def measure(
    contenders: dict[tuple[str, str], Callable[[], None]], args: argparse.Namespace
) -> dict[tuple[str, str], list[float]]:
    """Seconds of one training step, turn by turn."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for turn in range(args.repeats + 1):
        for key, step in contenders.items():
            wait(args.device)
            began = time.perf_counter()
            step()
            wait(args.device)
            if turn:  # the first turn warms up
                seconds[key].append(time.perf_counter() - began)
    return seconds


def show(steps: int, seconds: dict[tuple[str, str], list[float]]) -> None:
    """One table, fastest cell first."""
    base = seconds[YARDSTICK, "fast"]
    rows = []
    for name in {name for name, _ in seconds}:
        fast, slow = seconds.get((name, "fast")), seconds.get((name, "step by step"))
        best = fast or slow
        rows.append((statistics.median(best), name, best, fast, slow))
    print(f"\nT = {steps}\n")
    print("| cell | training steps per second | time, torch.nn.LSTM = 1 (min–max) | step by step / fast (min–max) |")
    print("| --- | ---: | ---: | ---: |")
    for middle, name, best, fast, slow in sorted(rows, key=lambda row: row[:2]):
        gain = ratio(slow, fast) if fast and slow else "" if fast else "only step by step"
        print(f"| {name} | {1 / middle:.2f} | {ratio(best, base)} | {gain} |")


def ratio(times: list[float], others: list[float]) -> str:
    ratios = [a / b for a, b in zip(times, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


# --- the contenders -------------------------------------------------------------------------------------------------


class Yardstick(nn.Module):
    """What one would write first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(FEATURES, width, batch_first=True), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class EveryStep:
    """Looks at each state and leaves it as it is."""

    every = 1

    def __call__(self, time: int, state: State) -> State:
        return state


def made(name: str, width: int) -> Cell:
    keys = OmegaConf.to_container(OmegaConf.load(CELLS / f"{name}.yaml"))
    factory = hydra.utils.get_method(keys.pop("_target_"))
    return partial(factory, **keys)(FEATURES, width, activations.tanh)


def ways(cell: Cell) -> list[str]:
    x = torch.zeros(1, 2, FEATURES)
    return ["step by step"] if cell.fast(x, cell.start(x)) is None else ["fast", "step by step"]


def network(name: str, width: int, way: str) -> nn.Module:
    layer = Recurrence(made(name, width))
    if way == "step by step":
        layer.observer = EveryStep()
    net = nn.Sequential(layer, LastStates(), Linear(width, CLASSES))
    initialize(net, initializers.glorot_uniform, stream(0, "init"), recurrent_init=initializers.orthogonal)
    return net


def trainer(net: nn.Module, steps: int, args: argparse.Namespace) -> Callable[[], None]:
    net.to(args.device)
    x = torch.randn(args.batch, steps, FEATURES, generator=stream(0, "x")).to(args.device)
    y = torch.randint(CLASSES, (args.batch,), generator=stream(0, "y")).to(args.device)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def card(device: torch.device) -> str:
    return f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""


if __name__ == "__main__":
    main()
