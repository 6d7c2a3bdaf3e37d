"""How far from the machine's limit a training step is: operations and bytes per second beside what the machine can do.

    python benchmarks/limits.py [--device cpu --threads 1 --repeats 3 --seconds 0.3 --members 64]
    python benchmarks/limits.py --widths 16 32 --skip lstm resnet

First the machine: a product of two matrices 2048 × 2048 in float32, products of many small matrices in one call, and a
copy of 256 MB (read and written: 512 MB). Then training steps, each forward, cross-entropy, backward and SGD with
momentum on one batch that stays where it is: an MLP of 10 blocks on inputs of 8 × 8 whose width is its batch size, by
itself; as many of it as `--members` says with stacked weights, written by hand with `torch.baddbmm`; the same by
gradflow's `pack_forward`; an LSTM (width 128, batch 64, 100 steps); ResNet-20 on 128 images of CIFAR-10's shape.

FLOPs are those of linear maps and convolutions, counted by torch's `FlopCounterMode` in one real step, with fused
kernels off where they hide them. Bytes are those of the parameters alone: read forward and backward, the gradient
written, and the update's reads of p, g, m and writes of p, m, thus 8 × 4 bytes each; activations are left out. The
roofline is max(FLOPs / rate of the large product, bytes / rate of the copy): no step is sooner, but for parameters that
stay in a cache. All take turns, so that whatever else the machine does falls on all of them; figures are medians of the
repeats with the smallest and largest, shares and ratios are to the machine's own rates in the same turn.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.layers import Linear
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.rng import stream
from gradflow.training.pack_forward import forward

Step = Callable[[], None]
Made = tuple[Step, int, int]  # a step, the parameters it trains, the networks it trains
LARGE, SMALL, COPIED = 2048, (16, 32, 64), 1 << 26  # sides of matrices; numbers
BYTES_PER_PARAMETER = 8 * 4
LR, MOMENTUM = 0.01, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", 1), ("repeats", 3), ("members", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=0.3, help="the least that a step is timed for")
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 32, 64, 128])
    parser.add_argument("--skip", nargs="*", default=[], choices=["lstm", "resnet"])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    machine, steps = limits(args), training_steps(args)
    seconds: dict[str, list[float]] = {name: [] for name in (*machine, *steps)}
    contenders = {name: run for name, (run, *_) in (*machine.items(), *steps.items())}
    for _ in range(args.repeats):
        for name, run in contenders.items():
            seconds[name].append(timed(run, args))
    card = torch.cuda.get_device_name() if args.device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{card}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"{args.threads} thread(s), float32, {args.repeats} repeats\n")
    print("| the machine | rate (min–max) | |\n| --- | ---: | --- |")
    rates = {name: [amount / 1e9 / s for s in seconds[name]] for name, (_, amount, _) in machine.items()}
    for name, (_, _, unit) in machine.items():
        print(f"| {name} | {spread(rates[name])} | {unit} |")
    show(steps, seconds, rates)
    print(f"\ncommand: {shlex.join(['python', 'benchmarks/limits.py', *sys.argv[1:]])}")


def show(steps: dict[str, Made], seconds: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    product, *_, copy = rates.values()
    print(
        "\n| step | MFLOP | MB | ms (min–max) | ms per network | GFLOP/s | % of the large product (min–max) | ", end=""
    )
    print("roofline, ms | time ÷ roofline (min–max) |\n| --- |" + " ---: |" * 8)
    for name, (step, parameters, networks) in steps.items():
        flops, size, took = counted(step) / 1e9, parameters * BYTES_PER_PARAMETER / 1e9, seconds[name]
        share = [100 * flops / s / peak for s, peak in zip(took, product, strict=True)]
        least = [max(flops / peak, size / rate) for peak, rate in zip(product, copy, strict=True)]
        ratio = [s / roof for s, roof in zip(took, least, strict=True)]
        middle = statistics.median(took)
        print(f"| {name} | {1e3 * flops:,.1f} | {1e3 * size:,.1f} | {spread([1e3 * s for s in took], 3)} ", end="")
        print(f"| {1e3 * middle / networks:.3f} | {flops / middle:.1f} | {spread(share)} ", end="")
        print(f"| {1e3 * statistics.median(least):.3f} | {spread(ratio)} |", flush=True)


def limits(args: argparse.Namespace) -> dict[str, tuple[Step, float, str]]:
    """What the machine can do: a call, its operations or bytes, and the unit of 10⁹ of them per second."""
    filled = partial(torch.randn, device=args.device)
    a, b = filled(LARGE, LARGE), filled(LARGE, LARGE)
    found: dict[str, tuple[Step, float, str]] = {}
    found[f"product of {LARGE}³"] = (partial(torch.mm, a, b, out=torch.empty_like(a)), 2.0 * LARGE**3, "GFLOP/s")
    for w in SMALL:
        a, b, k = filled(args.members, w, w), filled(args.members, w, w), args.members
        found[f"{k} products of {w}³"] = (partial(torch.bmm, a, b, out=torch.empty_like(a)), 2.0 * k * w**3, "GFLOP/s")
    a = filled(COPIED)
    return found | {"copy": (partial(torch.empty_like(a).copy_, a), 2.0 * 4 * COPIED, "GB/s")}


def training_steps(args: argparse.Namespace) -> dict[str, Made]:
    found, k = {}, args.members
    for w in args.widths:
        net = mlp((1, 8, 8), 10, Parts(10, w, activations.relu, norms.none, skips.none))
        found[f"MLP, width {w}"] = alone(net, (w, 1, 8, 8), args)
        found[f"{k} MLPs, width {w}, baddbmm"] = together(net, w, args, by_hand)
        found[f"{k} MLPs, width {w}, pack_forward"] = together(net, w, args, by_gradflow)
    if "lstm" not in args.skip:
        found["LSTM, width 128, T = 100"] = alone(Lstm(), (64, 100, 1), args)
    if "resnet" not in args.skip:
        net = resnet((3, 32, 32), 10, Parts(9, 16, activations.relu, norms.batch, skips.residual))
        found["ResNet-20"] = alone(net, (128, 3, 32, 32), args)
    return found


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.readout = nn.LSTM(1, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[0][:, -1])


def alone(net: nn.Module, shape: tuple[int, ...], args: argparse.Namespace) -> Made:
    """The least that has to be done."""
    if not isinstance(net, Lstm):
        initialize(net, initializers.he_normal, stream(0, "init"))
    net.to(args.device)
    x, y = torch.randn(shape, device=args.device), torch.randint(0, 10, shape[:1], device=args.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(net(x), y).backward()
        optimizer.step()

    return step, sum(p.numel() for p in net.parameters()), 1


def together(
    net: nn.Module, batch: int, args: argparse.Namespace, way: Callable[..., Callable[[Tensor], Tensor]]
) -> Made:
    """Members that start alike and have batches of their own."""
    k = args.members
    weights = {id(p): p.detach().expand(k, *p.shape).clone().requires_grad_() for p in net.parameters()}
    stacked, outputs = list(weights.values()), way(net, weights)
    memory = [torch.zeros_like(p) for p in stacked]
    x = torch.randn(k, batch, 1, 8, 8, device=args.device)
    y = torch.randint(0, 10, (k * batch,), device=args.device)

    def step() -> None:
        loss = cross_entropy(outputs(x).flatten(0, 1), y, reduction="sum") / batch
        gradients = torch.autograd.grad(loss, stacked)
        with torch.no_grad():
            torch._foreach_mul_(memory, MOMENTUM)
            torch._foreach_add_(memory, gradients)
            torch._foreach_add_(stacked, memory, alpha=-LR)

    return step, sum(p.numel() for p in stacked), k


def by_hand(net: nn.Module, weights: dict[int, Tensor]) -> Callable[[Tensor], Tensor]:
    *hidden, head = ((weights[id(m.bias)], weights[id(m.weight)]) for m in net.modules() if isinstance(m, Linear))

    def outputs(x: Tensor) -> Tensor:
        x = x.flatten(2)
        for bias, weight in hidden:
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT).relu()
        return torch.baddbmm(head[0].unsqueeze(1), x, head[1].mT)

    return outputs


def by_gradflow(net: nn.Module, weights: dict[int, Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: forward(net, x, lambda parameter: weights[id(parameter)])


def counted(step: Step) -> int:
    """FLOPs of one step; kernels for whole sequences, which hide theirs, are off."""
    off = {"enabled": False}
    with (
        warnings.catch_warnings(action="ignore"),
        torch.backends.mkldnn.flags(**off),
        torch.backends.cudnn.flags(**off),
        FlopCounterMode(display=False) as counter,
    ):
        step()
    return counter.get_total_flops()


def timed(run: Step, args: argparse.Namespace) -> float:
    """Seconds of a call: of twice as many calls each time, until they take long enough."""
    calls = 1
    while True:
        wait(args.device)
        began = time.perf_counter()
        for _ in range(calls):
            run()
        wait(args.device)
        took = time.perf_counter() - began
        if took >= args.seconds and calls > 1:  # the first calls warm up
            return took / calls
        calls *= 2


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
