"""Lyapunov exponents of a driven recurrent network: the rates at which neighbouring states part.

The exponents say on average over time what becomes of a small change of the state: below 0 it dies out, and with it the
gradient, above 0 it grows, and the gradient explodes.

Shapes: T time, B examples, k exponents, N real numbers in a layer's whole state.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.autograd import forward_ad

from gradflow.instruments.layers_in_time import State, TimeLayer, find_time_layers, observing, replaced
from gradflow.instruments.probing import probing

WARM_UP = 0.1  # share of the steps in which tangent vectors turn towards the directions that grow fastest


@dataclass(frozen=True)
class Exponents:
    """Of one layer.

    Attributes:
        layer: whose.
        values: [B, k], per step, natural logarithm, largest first, for each example's own input.
        steps: over how many they were averaged.
    """

    layer: TimeLayer
    values: np.ndarray
    steps: int

    def mean(self) -> np.ndarray:
        """[k] over the examples."""
        values: np.ndarray = self.values.mean(0)
        return values


def lyapunov(
    module: nn.Module, x: Tensor, k: int = 1, *, warm_up: float = WARM_UP, generator: Generator | None = None
) -> list[Exponents]:
    """The k largest Lyapunov exponents of every recurrent layer, driven by what a batch makes of its input.

    k tangent vectors are carried along exactly (forward-mode differentiation) and made orthonormal again by a QR
    decomposition after every step; the exponents are the mean logarithms of R's diagonal (Benettin et al. 1980). The
    state is the whole one, h and c together for an LSTM.

    A layer above depends on the one below but not the other way round, so that the Jacobian of all states together is
    block triangular, and the network's exponents are those of its layers together.

    A copy of the module in float64 and in evaluation mode is used: a dynamical system with dropout has no exponents.

    Args:
        module: is called as `module(x)`.
        x: a batch; its first dimension is that of examples (the second for torch.nn layers with batch_first=False).
        k: exponents per layer; at most as many as the smallest layer's state has numbers.
        warm_up: the share of steps that do not count.
        generator: on the CPU, draws the first tangent vectors; a fixed one unless given.

    Raises:
        ValueError: what `find_time_layers` and `observing` refuse, if k is too large, or for a layer with connections
            that skip steps, whose state is more than the latest one.
        NotImplementedError: by torch, if an operation has no forward-mode derivative.
    """
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    if not 0 <= warm_up < 1:
        raise ValueError(f"warm_up={warm_up}: must be at least 0 and below 1")
    twin = copy.deepcopy(module).double().eval()
    layers = [layer for layer in find_time_layers(twin) if layer.no_gradient is None]
    for layer in layers:
        if getattr(layer.module, "skip_time", 0):
            raise ValueError(
                f"lyapunov: '{layer.name}' has model.skip_time={layer.module.skip_time}, so that its "
                "latest state alone does not decide the next: leave 'lyapunov' out, or use model.skip_time=0"
            )
    x = x.detach().double() if x.is_floating_point() else x.detach()
    axis = int(all(isinstance(layer.module, nn.RNNBase) and not layer.module.batch_first for layer in layers))
    examples = x.repeat_interleave(k, axis if x.dim() > 1 else 0)
    tangents = _Tangents(k, generator or torch.Generator().manual_seed(0))
    with (
        warnings.catch_warnings(),
        probing(twin),
        torch.no_grad(),
        forward_ad.dual_level(),
        _inputs_without_tangents(layers),
        observing(layers, 1, tangents),
    ):
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)  # torch's own use of it
        twin(examples)
    return [Exponents(layer, *tangents.exponents(layer, warm_up)) for layer in layers if layer.index in tangents.logs]


class _Tangents:
    """A callback for `observing`: a layer's states come with tangents, and go with orthonormal ones."""

    def __init__(self, k: int, generator: Generator) -> None:
        self.k, self.generator = k, generator
        self.logs: dict[int, list[Tensor]] = {}

    def __call__(self, layer: TimeLayer, time: int, state: State) -> State:
        pairs = [forward_ad.unpack_dual(part) for part in state]  # type: ignore[no-untyped-call]
        if layer.index not in self.logs:
            self.logs[layer.index] = []
            matrix_BNk = self._first(layer, [pair.primal for pair in pairs])
        else:
            tangents = [torch.zeros_like(p) if t is None else t for p, t in pairs]
            matrix_BNk = torch.cat([_flat(tangent, self.k) for tangent in tangents], 1)
        q_BNk, r_Bkk = torch.linalg.qr(matrix_BNk)
        self.logs[layer.index].append(r_Bkk.diagonal(dim1=1, dim2=2).abs().log())
        found, start = [], 0
        for primal, _ in pairs:
            size = _flat(primal, self.k).shape[1]
            tangent = _like(q_BNk[:, start : start + size], primal)
            found.append(forward_ad.make_dual(primal, tangent))  # type: ignore[no-untyped-call]
            start += size
        return tuple(found)

    def exponents(self, layer: TimeLayer, warm_up: float) -> tuple[np.ndarray, int]:
        logs_TBk = torch.stack(self.logs[layer.index][1:]) if len(self.logs[layer.index]) > 1 else None
        if logs_TBk is None:
            raise ValueError("lyapunov: needs sequences of at least two steps")
        counted = logs_TBk[int(len(logs_TBk) * warm_up) :]
        return counted.mean(0).sort(-1, descending=True).values.cpu().numpy(), len(counted)

    def _first(self, layer: TimeLayer, primals: Sequence[Tensor]) -> Tensor:
        parts = [_flat(primal, self.k) for primal in primals]
        examples, size = len(parts[0]), sum(part.shape[1] for part in parts)
        if size < self.k:
            raise ValueError(f"k={self.k} exponents: the state of '{layer.name}' has only {size} numbers")
        return torch.randn(examples, size, self.k, generator=self.generator, dtype=torch.float64).to(primals[0].device)


def _flat(part: Tensor, k: int) -> Tensor:
    """[B·k, …] as [B, N, k], complex numbers as two real ones."""
    real = torch.view_as_real(part) if part.is_complex() else part
    return real.reshape(len(part) // k, k, -1).transpose(1, 2)


def _like(tangent_BNk: Tensor, primal: Tensor) -> Tensor:
    """The inverse of `_flat`."""
    rows = tangent_BNk.transpose(1, 2)
    if not primal.is_complex():
        return rows.reshape(primal.shape).to(primal.dtype)
    return torch.view_as_complex(rows.reshape(*primal.shape, 2).to(primal.real.dtype).contiguous())


@contextmanager
def _inputs_without_tangents(layers: Sequence[TimeLayer]) -> Iterator[None]:
    """Inside, every layer takes its input as given: the tangents that a layer below carries end there."""
    with ExitStack() as stack:
        for layer in layers:
            if isinstance(layer.module, nn.RNNBase):
                stack.enter_context(replaced(layer.cell, "begin", _first_primal(layer.cell.begin)))
            else:
                handle = layer.module.register_forward_pre_hook(lambda _, args: tuple(map(_primal, args)))
                stack.callback(handle.remove)
        yield


def _first_primal(begin: Any) -> Any:
    return lambda x: begin(_primal(x))


def _primal(value: Any) -> Any:
    return forward_ad.unpack_dual(value).primal if isinstance(value, Tensor) else value  # type: ignore[no-untyped-call]
