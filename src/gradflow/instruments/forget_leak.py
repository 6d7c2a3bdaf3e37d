"""How much of the constant error carousel is left: the product of forget gates over time.

Along c_t = f_t ⊙ c_{t−1} + … the gradient is multiplied by f_t and nothing else (Hochreiter & Schmidhuber 1997 had
f = 1; Gers et al. 2000 made it a gate).

Shapes: T time, B examples, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradflow.instruments.layers_in_time import TimeLayer, find_time_layers, observing, replaced
from gradflow.instruments.probing import probing


@dataclass(frozen=True)
class ForgetLeak:
    """Of one layer with gates that say what share of its memory a step keeps.

    Attributes:
        layer: whose.
        times: [T] in the sequence's own order, ascending.
        log10: [T] of what a unit remembered before step t, the share that is left after the last step, through the
            gates alone: the median over units and examples of log₁₀ ∏ f over step t and all steps after it. At the
            first step it is the product over the whole sequence.
    """

    layer: TimeLayer
    times: np.ndarray
    log10: np.ndarray


def forget_leak(
    module: nn.Module, forward: Callable[[], object], *, layers: Sequence[TimeLayer] | None = None
) -> list[ForgetLeak]:
    """The product of forget gates of every layer that has some.

    These are an `nn.LSTM`'s forget gates, an `nn.GRU`'s update gates, and what a layer's `cell.leak` gives.

    Args:
        module: any module with recurrent layers; random generators and buffers stay as they are.
        forward: calls the module on a batch, once; what it returns is not looked at.
        layers: only these.

    Raises:
        ValueError: what `find_time_layers` and `observing` refuse.
    """
    watched = list(find_time_layers(module) if layers is None else layers)
    kept: dict[int, list[Tensor]] = {}
    with probing(module), torch.no_grad(), ExitStack() as stack:
        for layer in watched:
            if layer.no_gradient is None and hasattr(layer.cell, "leak"):
                begin = _noting(layer.cell, kept.setdefault(layer.index, []))
                stack.enter_context(replaced(layer.cell, "begin", begin))
        stack.enter_context(observing(watched, 1, lambda *_: None))
        forward()
    return [_product(layer, kept[layer.index]) for layer in watched if kept.get(layer.index)]


def _noting(cell: Any, kept: list[Tensor]) -> Callable[[Tensor], Any]:
    """`cell.begin`, with a step that notes its leak."""
    original = cell.begin

    def begin(x: Tensor) -> Any:
        z, step = original(x)
        return z, partial(note, step)

    def note(step: Any, z: Tensor, state: Any, time: int) -> Any:
        leak = cell.leak(z, state, time)
        if leak is not None:
            kept.append(leak.double().log10())
        return step(z, state, time)

    return begin


def _product(layer: TimeLayer, logs: list[Tensor]) -> ForgetLeak:
    """Steps in the order in which the layer makes them."""
    log_TBH = torch.stack(logs)
    left = log_TBH.flip(0).cumsum(0).flatten(1).quantile(0.5, dim=1)
    in_order = left if layer.reverse else left.flip(0)
    return ForgetLeak(layer, np.arange(len(logs)), in_order.cpu().numpy())
