"""What `test_watching_two_processes` trains, alone or as one of two processes: `python two_processes_watching.py FILE`.

The processes find each other by torch's usual variables (MASTER_ADDR, MASTER_PORT, LOCAL_RANK, WORLD_SIZE).
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from watched import Numbers, batches, network, numbers, sgd

from gradflow.instruments.flow import Flow, watch
from gradflow.instruments.names import PRESETS

WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
GLOBAL_BATCH, STEPS = 16, 6


def plain(model: nn.Module) -> nn.Module:
    return model


def sharded(model: nn.Module) -> nn.Module:
    """FSDP2: 7, 6 and 3 rows of weights are shared out unevenly."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    for i in (0, 3, 5):
        fully_shard(model[i], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def train(wrap: Callable[[nn.Module], nn.Module], accumulate: int = 1, twins: bool = False) -> dict[str, Any]:
    """Watched by everything; `twins` see the same examples, all of them."""
    model = wrap(network())
    optimizer = sgd(model)
    with watch(model, instruments=PRESETS["full"]) as flow:
        for i, (x, y) in enumerate(batches(STEPS, GLOBAL_BATCH)):
            last = i % accumulate == accumulate - 1
            if i % accumulate == 0:
                optimizer.zero_grad()
            if not twins:
                x, y = x[RANK::WORLD], y[RANK::WORLD]
            with nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync():
                loss = functional.cross_entropy(model(x), y) / accumulate
                flow.loss(loss)
                loss.backward()
            if last:
                optimizer.step()
    return {"rows": without_prefix(numbers(flow)), "restart": restart(model, flow, wrap)}


def without_prefix(found: Numbers) -> Numbers:
    """Names as they are without DDP."""
    return {(step, name.removeprefix("module."), quantity): value for (step, name, quantity), value in found.items()}


def restart(model: nn.Module, flow: Flow, wrap: Callable[[nn.Module], nn.Module]) -> Numbers:
    """What the weights' norms are for a new process that is given the weights and the instrument's state."""
    (before,) = (i for i in flow.session.instruments if i.name == "weight_norm")
    state = copy.deepcopy(before.state_dict())
    assert all(type(tensor) is torch.Tensor for tensors in state["initial"].values() for tensor in tensors)
    again = Flow(model, instruments=["weight_norm"])
    (after,) = again.session.instruments
    after.load_state_dict({"initial": {b.name: state["initial"][b.name] for b in again.blocks}})
    again.measure(STEPS)
    return without_prefix(numbers(again))


def everything() -> dict[str, dict[str, Any]]:
    if WORLD == 1:
        return {"whole": train(plain), "accumulated": train(plain, accumulate=2)}
    return {
        "ddp": train(DistributedDataParallel),
        "ddp_accumulated": train(DistributedDataParallel, accumulate=2),
        "ddp_twins": train(DistributedDataParallel, twins=True),
        "fsdp": train(sharded),
        "fsdp_accumulated": train(sharded, accumulate=2),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["RANK"] = str(RANK)
    dist.init_process_group("gloo")
    torch.save(everything(), sys.argv[1])
    dist.destroy_process_group()
