"""A run put together and looked at once, before anything trains."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gradflow.errors import ConfigError
from gradflow.models.network import Network
from gradflow.models.weights import Weight, weights
from gradflow.runs.build import Factory, Pieces, assemble, called, factory
from gradflow.runs.config import Config
from gradflow.runs.sizes import EXAMPLES, REHEARSED, Sizes, measure
from gradflow.tasks.task import Task
from gradflow.training.optimizers import parameter_groups
from gradflow.training.remedy import the_loss, the_pretraining

# What conf/model/recurrent.yaml brings; of cells that fill their recurrent weights themselves it says nothing.
STANDS_FOR_ITSELF = {"_target_": "gradflow.models.initializers.orthogonal", "gain": 1.0}
META_BLOCK = (
    1.5e-3  # seconds that a block of depth takes on the meta device, where torch decomposes operators in Python
)
CPU_SPEED = 2e10  # floating-point operations a second of one core
CPU_NUMBERS = 2**24  # more weights, or more kept for the way back, would take memory worth counting
META_FIRST = 5e-3  # of stem and head


def rehearse(config: Config) -> tuple[Pieces, Tensor]:
    """Put a run together on the meta device and pass one batch through it.

    Returns:
        Its pieces, uninitialised, and the network's output.

    Raises:
        ConfigError, ValueError, TypeError, RuntimeError: for parts that do not go together.
    """
    with torch.device("meta"):
        pieces = assemble(config)
        out, _ = passed(pieces.network, pieces.task)
        for remedy in pieces.remedies:
            remedy.prepare(pieces.network, pieces.task, pieces.budget.total)
        the_pretraining(pieces.remedies)
        the_loss(pieces.remedies)
    pieces.make_optimizer(parameter_groups(pieces.network))
    pieces.schedule(0, pieces.budget.total)
    check_inits(config, all(w.role != "recurrent" for w in weights(pieces.network)))
    return pieces, out


def passed(network: Network, task: Task) -> tuple[Tensor, Sizes]:
    """Pass a batch through a network, and see whether what comes out is what the task wants."""
    if not network.any_length and task.shortest is not None:
        raise ConfigError(
            f"task={task.name} has sequences of {task.shortest} to {task.input_shape[0]} "
            "steps, but this model takes one length: use model=recurrent, tcn or esn"
        )
    out, sizes = measure(network, task)
    steps = min(REHEARSED[-1], task.input_shape[0]) if network.any_length else task.input_shape[0]
    wanted = (steps, task.outputs) if task.every_step else (task.outputs,)
    if out.shape[1:] != wanted:
        raise ConfigError(
            f"the network's output has shape {tuple(out.shape)}, but the task needs {task.outputs} outputs"
            + (" at every step of a sequence: use model=recurrent, tcn or esn" if task.every_step else "")
        )
    return out, sizes


def check_inits(config: Config, fills_itself: bool, factory: Factory = factory) -> None:
    """Let the initialisers fill a small weight each.

    Args:
        fills_itself: whether the network has no weights from states to states that an initialiser would fill.

    Raises:
        ConfigError, ValueError, TypeError: in their own words.
    """
    activation = factory("activation", config.activation)
    if config.recurrent_init is not None:
        if config.recurrent_init != STANDS_FOR_ITSELF and fills_itself:
            name = config.recurrent_init["_target_"].rpartition(".")[2]
            raise ConfigError(
                f"recurrent_init={name} reaches no weight of this cell, whose recurrent weights are part of its "
                "definition: leave recurrent_init=orthogonal, which stands for it, or use another cell"
            )
        square = Weight(torch.empty(3, 3), role="recurrent", activation=activation)
        called("recurrent_init", factory("recurrent_init", config.recurrent_init), square, torch.Generator())
    last = Weight(torch.empty(3, 3), role="head", activation=activation)
    called("init", factory("init", config.init), last, torch.Generator())


def on(device: str) -> AbstractContextManager[Any]:
    """Where tensors are made; of the CPU, where they are made anyway, torch would ask at every call."""
    return torch.device(device) if device == "meta" else nullcontext()


def where(config: Config, task: Task) -> str:
    """The device on which a network is looked at: the CPU where that is quicker.

    An operator takes the CPU microseconds on a few small examples, and the meta device a fraction of a millisecond. A
    definition from elsewhere stays on the meta device: on real memory it might do anything.
    """
    nodes = (config.task, config.model, config.cell, config.activation, config.norm, config.skip)
    if not all(str(node["_target_"]).startswith("gradflow.") for node in nodes if node is not None):
        return "meta"
    width = config.width if isinstance(config.width, int) else max(config.width)
    places, pairs_of_places = 1, 0
    if not config.model["_target_"].endswith((".mlp", ".recurrent", ".tcn", ".esn")):
        places = math.prod(task.input_shape[1:] if len(task.input_shape) == 3 else task.input_shape[:1])
        pairs_of_places = places**2 if len(task.input_shape) == 2 else 0
    weights_of_blocks = config.depth * width**2
    operations = EXAMPLES * (18 * weights_of_blocks * places + 4 * width * config.depth * pairs_of_places)
    kept = EXAMPLES * config.depth * (8 * width * places + 8 * pairs_of_places)
    small = max(weights_of_blocks, kept, width * math.prod(task.input_shape)) <= CPU_NUMBERS
    return "cpu" if small and operations / CPU_SPEED < META_BLOCK * config.depth + META_FIRST else "meta"
