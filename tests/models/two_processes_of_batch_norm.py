"""What `test_norms` runs as two processes: `python two_processes_of_batch_norm.py FILE`, with torch's variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradflow.models import norms
from gradflow.rng import stream

WIDTH = 6
# layout, and how many examples each of the two processes has
CASES = {
    "vectors": ("vectors", (4, 4)),
    "tokens": ("tokens", (2, 2)),
    "images": ("images", (2, 2)),
    "uneven": ("vectors", (3, 5)),
    "one each": ("vectors", (1, 1)),
}
SHAPES = {"vectors": (WIDTH,), "tokens": (3, WIDTH), "images": (WIDTH, 4, 3)}


def batch(case: str) -> Tensor:
    """The whole batch, whose halves have very different statistics."""
    layout, counts = CASES[case]
    x = torch.randn(sum(counts), *SHAPES[layout], generator=stream(0, case), dtype=torch.float64)
    x[counts[0] :] = 3 * x[counts[0] :] + 2
    return x


def network(layout: str, norm: Callable[[], nn.Module]) -> nn.Module:
    """map → norm → tanh → map → norm, so that gradients pass through one norm's statistics into the other's."""
    maps = [nn.Conv2d(WIDTH, WIDTH, 1) if layout == "images" else nn.Linear(WIDTH, WIDTH) for _ in range(2)]
    net = nn.Sequential(maps[0], norm(), nn.Tanh(), maps[1], norm()).double()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0.3, 1, generator=stream(1, "parameters"))
    return net


def pass_through(net: nn.Module, x: Tensor, share: float) -> dict[str, Any]:
    """Two steps' forward passes and the second's gradients, of a loss that is the sum over examples times a share."""
    x.requires_grad_()
    net(x.detach() + 1)
    out = net(x)
    weights = torch.linspace(-1, 1, out[0].numel(), dtype=out.dtype).view(out.shape[1:])
    (share * (out * weights + out.square() * weights.square()).tanh().sum()).backward()
    return {
        "output": out.detach(),
        "input": x.grad,
        "gradients": [p.grad for p in net.parameters()],
        "statistics": list(net.buffers()),
    }


def everything(rank: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for case, (layout, counts) in CASES.items():
        mine = batch(case).split(counts)[rank].clone()
        net = DistributedDataParallel(network(layout, partial(norms.batch, WIDTH, sync=True)), broadcast_buffers=False)
        found[case] = pass_through(net, mine, share=2.0)  # DDP divides the sum of both by 2
    apart = network("vectors", partial(norms.batch, WIDTH))
    found["apart"] = pass_through(apart, batch("vectors").split(4)[rank].clone(), share=1.0)
    if rank == 0:
        norms.batch(WIDTH, sync=True).eval()(torch.ones(2, WIDTH))
    found["evaluated alone"] = {"done": True} if rank == 0 else {}
    norm = norms.batch(WIDTH, sync=True)
    x = batch("vectors").split(4)[rank].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found["autocast"] = {"input": x, "output": norm(x).detach(), "mean": norm.running_mean}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["RANK"] = os.environ["LOCAL_RANK"]
    torch.distributed.init_process_group("gloo")
    torch.save(everything(int(os.environ["RANK"])), sys.argv[1])
    torch.distributed.destroy_process_group()
