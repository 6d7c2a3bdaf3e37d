"""‖∂h_T/∂h_t‖_F: how far the last state remembers earlier ones, whatever the loss.

Shapes: S measured times, B examples, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor, nn

from gradflow.instruments.layers_in_time import TimeLayer, find_time_layers, observing
from gradflow.instruments.probing import probing
from gradflow.instruments.states_in_time import Sightings, reasons
from gradflow.instruments.time_curve import TimeCurve, TimeCurves, differentiated, safe_norms

VECTORS = 4  # random ones per example; a median over 16 examples averages out most of what they leave


def time_jacobian(
    module: nn.Module,
    forward: Callable[[], object],
    *,
    vectors: int | None = VECTORS,
    generator: Generator | None = None,
    layers: Sequence[TimeLayer] | None = None,
) -> TimeCurves:
    """The Frobenius norm of the Jacobian from the state after each step to the top layer's last state.

    For every layer, the last state is that of the last layer that runs in the same direction of time. Its Jacobian is
    the total one, through the layers between and, for an LSTM's 'c', through h_t. A complex state counts as its real
    and imaginary parts. Examples must not influence each other, as they do under batch normalisation while training.

    By vector–Jacobian products: with random signs v, E‖Jᵀv‖² = ‖J‖_F² (Hutchinson's estimator).

    Args:
        module: any module with recurrent layers; random generators and buffers stay as they are.
        forward: calls the module on a batch; what it returns is not looked at.
        vectors: random ones per example; None takes every basis vector, which is exact and costs a backward pass for
            each unit of the last state.
        generator: on the CPU; a fixed one unless given.
        layers: only these.

    Returns:
        `decay()` of its curves is the rate per step at which memory fades; for a linear recurrence it tends to the
        logarithm of the spectral radius.

    Raises:
        ValueError: what `find_time_layers` and `observing` refuse, or if `vectors` is not positive.
    """
    if vectors is not None and vectors < 1:
        raise ValueError(f"vectors={vectors}: must be at least 1, or null for all basis vectors")
    watched = list(find_time_layers(module) if layers is None else layers)
    draw = generator or torch.Generator().manual_seed(0)
    states = Sightings()
    with probing(module):
        with observing(watched, 1, states):
            forward()
        seen = states.sequences(watched)
        last: dict[bool, Tensor] = {}
        for layer, part, _, tensors in seen:
            if part == layer.state_names[0]:
                last[layer.reverse] = tensors[0 if layer.reverse else -1]
        curves = []
        for reverse, top in last.items():
            mine = [each for each in seen if each[0].reverse == reverse and all(t.requires_grad for t in each[3])]
            groups = [each[3] for each in mine]
            squares = [torch.zeros((), dtype=torch.float64)] * len(mine)
            for v in _random(top, vectors, draw) if vectors is not None else _basis(top):
                norms = safe_norms(partial(_products, top, v, groups)) if groups else []
                squares = [total.to(norm.device) + norm.square() for total, norm in zip(squares, norms, strict=True)]
            for (layer, part, times, _), total in zip(mine, squares, strict=True):
                mean = total / (vectors or 1)
                curves.append(TimeCurve(layer, part, np.array(times, dtype=np.int64), mean.sqrt().cpu().numpy()))
    curves.sort(key=lambda curve: curve.layer.index)
    return TimeCurves(curves, reasons(watched))


def _products(top: Tensor, v: Tensor, groups: list[list[Tensor]], factor: float) -> list[list[Tensor]]:
    return differentiated(top, groups, v * factor)


def _random(top: Tensor, vectors: int, generator: Generator) -> Iterator[Tensor]:
    shape = torch.view_as_real(top).shape if top.is_complex() else top.shape
    real = top.real.dtype if top.is_complex() else top.dtype
    for _ in range(vectors):
        signs = (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(top.device, real)
        yield torch.view_as_complex(signs) if top.is_complex() else signs


def _basis(top: Tensor) -> Iterator[Tensor]:
    numbers = top[0].numel()
    for each in range(numbers):
        for unit in (1.0, 1j) if top.is_complex() else (1.0,):
            v = torch.zeros_like(top, memory_format=torch.contiguous_format)
            v.view(len(top), numbers)[:, each] += unit
            yield v
