"""torch.nn's own recurrent layers, driven so that somebody can look at their states.

Shapes: T time, B batch, F features, G numbers per step of all gates, H hidden units, L layers · directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.rnn import PackedSequence

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, int], State]
Look = Callable[[int, int, State], State]  # (place among the module's layers, time, state) → state


class TorchCell:
    """One layer, in one direction, of an `nn.RNN`, `nn.LSTM` or `nn.GRU`: its equations, with the module's weights.

    Args:
        module: whose parameters are read at every call.
        layer: 0 is nearest the input.
        reverse: whether it runs from the last step to the first.

    Raises:
        ValueError: if an LSTM projects its states.
    """

    def __init__(self, module: nn.RNNBase, layer: int, reverse: bool) -> None:
        if module.proj_size:
            raise ValueError(
                f"nn.LSTM(proj_size={module.proj_size}): projected states cannot be watched; use proj_size=0 "
                "and a linear map after the layer"
            )
        self.module, self.reverse = module, reverse
        self.suffix = f"_l{layer}{'_reverse' if reverse else ''}"
        self.state_names = ("h", "c") if isinstance(module, nn.LSTM) else ("h",)

    def begin(self, x_TBF: Tensor) -> tuple[Tensor, Step]:
        """The inputs' part z_TBG of all steps (or z_BTG of x_BTF), and the function of one step."""
        weight, bias = self._weight("weight_hh"), self._bias("bias_hh")

        def step(z_BG: Tensor, state: State, time: int) -> State:
            return self._update(z_BG, linear(state[0], weight, bias), state)

        return linear(x_TBF, self._weight("weight_ih"), self._bias("bias_ih")), step

    def fast(self, x_TBF: Tensor, state: State) -> tuple[Tensor, State]:
        """Every h_TBH and the last state, by torch's fused kernel."""
        module = self.module
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if module.bias else ("weight_ih", "weight_hh")
        weights = [self._weight(name) for name in names]
        first = [part[None] for part in state]
        rest = (weights, module.bias, 1, 0.0, module.training, False, False)
        if isinstance(module, nn.LSTM):
            h_TBH, h_1BH, c_1BH = torch.lstm(x_TBF, first, *rest)
            return h_TBH, (h_1BH[0], c_1BH[0])
        if isinstance(module, nn.GRU):
            h_TBH, h_1BH = torch.gru(x_TBF, first[0], *rest)
        else:
            run = torch.rnn_tanh if module.nonlinearity == "tanh" else torch.rnn_relu
            h_TBH, h_1BH = run(x_TBF, first[0], *rest)
        return h_TBH, (h_1BH[0],)

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        """An LSTM's forget gate; a GRU's update gate, which by torch's convention is what a step keeps."""
        if not isinstance(self.module, nn.LSTM | nn.GRU):
            return None
        units = slice(self.module.hidden_size, 2 * self.module.hidden_size)
        bias = self._bias("bias_hh")
        recurrent = linear(state[0], self._weight("weight_hh")[units], None if bias is None else bias[units])
        return torch.sigmoid(z_BG[..., units] + recurrent)

    def _update(self, z_BG: Tensor, r_BG: Tensor, state: State) -> State:
        module = self.module
        if isinstance(module, nn.LSTM):
            i, f, g, o = (z_BG + r_BG).chunk(4, -1)
            c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        if isinstance(module, nn.GRU):
            (z_r, z_u, z_n), (r_r, r_u, r_n) = z_BG.chunk(3, -1), r_BG.chunk(3, -1)
            new = torch.tanh(z_n + torch.sigmoid(z_r + r_r) * r_n)
            return (new + torch.sigmoid(z_u + r_u) * (state[0] - new),)
        function = torch.tanh if module.nonlinearity == "tanh" else torch.relu
        return (function(z_BG + r_BG),)

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = getattr(self.module, name + self.suffix)
        return weight

    def _bias(self, name: str) -> Tensor | None:
        return self._weight(name) if self.module.bias else None


def cells_of(module: nn.RNNBase) -> list[TorchCell]:
    """One per layer and direction, in the order of the module's own final states."""
    directions = (False, True) if module.bidirectional else (False,)
    return [TorchCell(module, layer, reverse) for layer in range(module.num_layers) for reverse in directions]


def observed(module: nn.RNNBase, cells: Sequence[TorchCell], every: int, look: Look) -> Callable[..., Any]:
    """A function to put in place of `module.forward`: the same numbers but for rounding.

    Layers run one after another: by the fused kernel in segments of `every` steps, or step by step where `every` is 1.
    Dropout between layers draws what torch's CPU kernel would draw.

    Args:
        module: whose weights and settings are used.
        cells: from `cells_of`.
        every: steps between two looks; the last state of a sequence is always looked at.
        look: told the cell's place, the time in the sequence's own order, and the state; gives the state to go on with.
    """

    def forward(*args: Any, **named: Any) -> Any:
        x, hx = args[0] if args else named["input"], args[1] if len(args) > 1 else named.get("hx")
        if isinstance(x, PackedSequence):
            raise ValueError("packed sequences cannot be watched through time: pass the padded tensor instead")
        batched = x.dim() == 3
        x_TBF = (x.transpose(0, 1) if module.batch_first else x) if batched else x.unsqueeze(1)
        starts = _starts(cells, x_TBF, hx, batched)
        directions = 2 if module.bidirectional else 1
        last: list[State] = []
        for place in range(0, len(cells), directions):
            if place and module.dropout and module.training:
                x_TBF = dropout(x_TBF.contiguous(), module.dropout)
            outputs = []
            for each in range(place, place + directions):
                out_TBH, state = _drive(cells[each], x_TBF, starts[each], every, each, look)
                outputs.append(out_TBH)
                last.append(state)
            x_TBF = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        out = (x_TBF.transpose(0, 1) if module.batch_first else x_TBF) if batched else x_TBF.squeeze(1)
        ends = [torch.stack(parts) if batched else torch.stack(parts).squeeze(1) for parts in zip(*last, strict=True)]
        return out, (tuple(ends) if isinstance(module, nn.LSTM) else ends[0])

    return forward


def _starts(cells: Sequence[TorchCell], x_TBF: Tensor, hx: Any, batched: bool) -> list[State]:
    """The state before the first step of every cell."""
    if hx is None:
        zeros = x_TBF.new_zeros(x_TBF.shape[1], cells[0].module.hidden_size)
        return [(zeros,) * len(cell.state_names) for cell in cells]
    parts_LBH = [part if batched else part.unsqueeze(1) for part in (hx if isinstance(hx, tuple) else (hx,))]
    return list(zip(*(part.unbind(0) for part in parts_LBH), strict=True))


def _drive(cell: TorchCell, x_TBF: Tensor, state: State, every: int, place: int, look: Look) -> tuple[Tensor, State]:
    steps = len(x_TBF)
    x = x_TBF.flip(0) if cell.reverse else x_TBF
    pieces: list[Tensor] = []

    def seen(done: int, state: State) -> State:
        return look(place, steps - done if cell.reverse else done - 1, state)

    if every == 1:
        z_TBG, step = cell.begin(x)
        for time, z_BG in enumerate(z_TBG.unbind(0)):
            state = seen(time + 1, step(z_BG, state, time))
            pieces.append(state[0])
        out_TBH = torch.stack(pieces)
    else:
        for start in range(0, steps, every):
            h_TBH, state = cell.fast(x[start : start + every], state)
            state = seen(start + len(h_TBH), state)
            pieces += [h_TBH[:-1], state[0][None]]
        out_TBH = torch.cat(pieces)
    return (out_TBH.flip(0) if cell.reverse else out_TBH), state
