"""Filling the weights of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradflow.models.initializers import LSUV_TOLERANCE, lsuv
from gradflow.models.layers import Conv1d, Map, Reparametrization
from gradflow.models.weights import Weight, weights


def initialize(
    network: nn.Module,
    init: Callable[[Weight, Generator], None],
    generator: Generator,
    activation: Callable[[], nn.Module] = nn.Identity,
    sample: Callable[[], Tensor] | None = None,
    recurrent_init: Callable[[Weight, Generator], None] | None = None,
) -> None:
    """Fill every weight of `network`, in the order of its parameters.

    A module with a method `reset(generator)` then fills what no initialiser reaches: a cell's gate biases, a reservoir.

    Args:
        network: lives on the CPU, where the generator does.
        init: one of `initializers`, or another function with the same two arguments.
        generator: the only source of randomness: the same generator gives the same weights.
        activation: makes the network's activation.
        sample: gives a batch of training data, for `lsuv`.
        recurrent_init: fills the weights from states to states instead; `init` unless given.

    Raises:
        ValueError: if `lsuv` has no data.
    """
    with torch.no_grad():
        for weight in weights(network, activation):
            fill = recurrent_init if weight.role == "recurrent" and recurrent_init is not None else init
            fill(weight, generator)
        for module in network.modules():
            reset = getattr(module, "reset", None)
            if callable(reset) and not isinstance(module, Reparametrization):
                reset(generator)
            if isinstance(module, Map) and module.reparametrization is not None:
                module.reparametrization.reset(module.weight)
        tolerance = _tolerance(init)
        if tolerance is not None:
            if sample is None:
                raise ValueError("init=lsuv needs a batch of data to look at")
            unit_variance(network, sample(), tolerance)


def unit_variance(network: nn.Module, x: Tensor, tolerance: float) -> None:
    """Divide each map's weight by the deviation of its outputs for a batch x, first to last, in one forward pass.

    The variance is that of all outputs together, as in Mishkin & Matas 2016. A map whose output is constant is left.
    Batch normalisation takes the batch's own statistics, as it will in training. Modes, running statistics and torch's
    global generator stay as they are.
    """
    with _hooks(network, partial(_divide, tolerance)), _nothing_drawn_or_counted(network):
        network(x.to(next(network.parameters()).dtype))


def _divide(tolerance: float, module: nn.Module, _: Any, out: Tensor) -> Tensor | None:
    assert isinstance(module, Map)
    variance = float(out.double().var())
    if not math.isfinite(variance) or variance == 0 or abs(variance - 1) <= tolerance:
        return None
    module.weight.div_(math.sqrt(variance))
    if module.reparametrization is not None:
        module.reparametrization.reset(module.weight)
    if module.bias is None:
        return out / math.sqrt(variance)
    positions = out.ndim - 2 if out.ndim == 4 or isinstance(module, Conv1d) else 0  # those of tokens come before units
    shift = module.bias.view(-1, *[1] * positions)  # a gate's bias stays as it is
    return (out - shift) / math.sqrt(variance) + shift


@contextmanager
def _hooks(network: nn.Module, hook: Callable[..., Tensor | None]) -> Iterator[None]:
    handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, Map)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _nothing_drawn_or_counted(network: nn.Module) -> Iterator[None]:
    """Evaluation, but for batch normalisation, whose running statistics are put back afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    counts = [(buffer, buffer.clone()) for module in network.modules() for buffer in _running(module)]
    for module, _ in modes:
        module.training = isinstance(module, _BatchNorm)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for buffer, before in counts:
            buffer.copy_(before)


def _running(module: nn.Module) -> list[Tensor]:
    return list(module.buffers(recurse=False)) if isinstance(module, _BatchNorm) else []


def _tolerance(init: Callable[..., None]) -> float | None:
    """That of `lsuv`, which alone looks at data after the weights are drawn; None for every other initialiser."""
    function, keywords = (init.func, init.keywords) if isinstance(init, partial) else (init, {})
    return float(keywords.get("tolerance", LSUV_TOLERANCE)) if function is lsuv else None
