"""Small networks of torch's own modules, so that what is tested here is the training and not the models."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from gradflow.models.network import Network
from gradflow.rng import stream


def network(
    inputs: int = 64,
    outputs: int = 10,
    depth: int = 3,
    width: int = 16,
    activation: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] = nn.Identity,
    gain: float = 2.0,
    dropout: float = 0.0,
) -> Network:
    """A multi-layer perceptron with weights N(0, gain / fan_in), the same whenever it is made."""

    def layer(fan_in: int) -> nn.Module:
        return nn.Sequential(nn.Linear(fan_in, width), norm(width), activation(), nn.Dropout(dropout))

    made = Network(
        nn.Sequential(nn.Flatten(), layer(inputs)), [layer(width) for _ in range(depth)], nn.Linear(width, outputs)
    )
    fill(made, gain)
    return made


def fill(module: nn.Module, gain: float = 2.0) -> None:
    """Weights N(0, gain / fan_in), biases 0, from a generator of its own."""
    generator = stream(0, "init")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, math.sqrt(gain / parameter[0].numel()), generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
