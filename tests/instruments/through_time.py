"""References that know nothing of the instruments: torch's own cells step by step, and gradflow's cells by hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from gradflow.models import activations, initializers
from gradflow.models.initialize import initialize
from gradflow.models.recurrence import Recurrence

CELLS = sorted(file.stem for file in (Path(__file__).parents[2] / "conf" / "cell").glob("*.yaml"))
STEPWISE: dict[type, type] = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torch_layer(kind: type, features: int = 3, width: int = 5, **options: Any) -> Any:
    """An nn.RNN, nn.LSTM or nn.GRU in float64, larger weights than by default."""
    module = kind(features, width, **{"batch_first": True, **options}).double()
    with torch.no_grad():
        for place, parameter in enumerate(module.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=place) / 2)
    return module


def unrolled(module: Any, x_BTF: Tensor) -> tuple[Tensor, dict[str, list[list[Tensor]]]]:
    """Outputs, and per layer the parts of every state in the order of time: [part][time]."""
    states: dict[str, list[list[Tensor]]] = {}
    for layer in range(module.num_layers):
        outputs = []
        for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: 1 + module.bidirectional]:
            cell = STEPWISE[type(module)](x_BTF.shape[-1], module.hidden_size, bias=module.bias).double()
            weights = {name: getattr(module, name + suffix) for name in dict(cell.named_parameters())}
            zeros = x_BTF.new_zeros(len(x_BTF), module.hidden_size)
            state: Any = (zeros, zeros) if isinstance(module, nn.LSTM) else zeros
            order = range(x_BTF.shape[1])
            seen: dict[int, Any] = {}
            for time in reversed(order) if "reverse" in suffix else order:
                state = torch.func.functional_call(cell, weights, (x_BTF[:, time], state))
                seen[time] = state if isinstance(state, tuple) else (state,)
            states[suffix] = [[seen[time][part] for time in order] for part in range(len(seen[0]))]
            outputs.append(torch.stack(states[suffix][0], 1))
        x_BTF = torch.cat(outputs, -1)
    return x_BTF, states


def gradient_norms(loss: Tensor, states: list[Tensor]) -> Tensor:
    """[T, B] by plain autograd."""
    found = torch.autograd.grad(loss, states, retain_graph=True, allow_unused=True)
    flat = [torch.zeros_like(h) if g is None else g for g, h in zip(found, states, strict=True)]
    return torch.stack([(torch.view_as_real(g) if g.is_complex() else g).flatten(1).norm(dim=1) for g in flat])


def make_cell(name: str, features: int, width: int) -> Any:
    """A cell of gradflow as its YAML has it."""
    keys = yaml.safe_load((Path(__file__).parents[2] / "conf" / "cell" / f"{name}.yaml").read_text())
    module, _, function = keys.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), function)(features, width, activations.tanh, **keys)


def own_layers(name: str, *reverse: bool, width: int = 6) -> nn.Sequential:
    """Layers of one cell, filled as a run would fill them."""
    layers = [Recurrence(make_cell(name, 3 if i == 0 else width, width), reverse=r) for i, r in enumerate(reverse)]
    net = nn.Sequential(*layers)
    initialize(
        net,
        initializers.glorot_uniform,
        torch.Generator().manual_seed(0),
        recurrent_init=initializers.orthogonal,
    )
    return net.double()


def unrolled_cells(net: nn.Sequential, x_BTF: Tensor) -> tuple[Tensor, list[list[list[Tensor]]]]:
    """Outputs, and [layer][part][time] of every state, by the cells' own step."""
    states = []
    for layer in net:
        cell: Any = layer.cell
        x = x_BTF.flip(1) if layer.reverse else x_BTF
        z, step = cell.begin(x)
        state, seen = cell.start(x), []
        for time in range(x.shape[1]):
            state = step(z[:, time], state, time)
            seen.append(state)
        out = cell.read(torch.stack([state[0] for state in seen], 1), x)
        in_order = seen[::-1] if layer.reverse else seen
        states.append([[state[part] for state in in_order] for part in range(len(seen[0]))])
        x_BTF = out.flip(1) if layer.reverse else out
    return x_BTF, states


def last(out_BTH: Tensor) -> Tensor:
    return out_BTH[:, -1].square().mean()


def every_step(out_BTH: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 2.0, out_BTH.shape[1], dtype=out_BTH.dtype)
    return (out_BTH.sin() * weights[None, :, None]).mean()


LOSSES: list[Callable[[Tensor], Tensor]] = [last, every_step]


class Driven(nn.Module):
    """A stranger's recurrent layer that keeps the observers' contract: state ↦ step(state, x_t) from a first state."""

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], start: Tensor) -> None:
        super().__init__()
        self.observer: Any = None
        self.step = step
        self.start = nn.Parameter(torch.view_as_real(start).clone() if start.is_complex() else start.clone())
        self.complex = start.is_complex()

    def forward(self, x_BTF: Tensor) -> Tensor:
        start = torch.view_as_complex(self.start) if self.complex else self.start
        state, out = start.expand(len(x_BTF), -1), []
        for time, x in enumerate(x_BTF.unbind(1)):
            state = self.step(state, x)
            if self.observer is not None and ((time + 1) % self.observer.every == 0 or time + 1 == x_BTF.shape[1]):
                (state,) = self.observer(time, (state,))
            out.append(state)
        return torch.stack(out, 1)
