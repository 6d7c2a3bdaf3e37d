"""Long short-term memory, with and without a forget gate, peepholes and coupled gates.

Shapes: B batch, T time, F features, G = gates · H, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import Several
from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros
from gradflow.models.cells.chrono import check_chrono, chrono_bias
from gradflow.models.cells.recurrent_norms import Kind, step_norm
from gradflow.models.layers import Role


def lstm(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    forget_bias: float = 1.0,
    forget_gate: bool = True,
    peephole: bool = False,
    coupled: bool = False,
    chrono: Several | None = None,
    recurrent_norm: Kind = "none",
) -> Cell:
    """c_t = f_t ⊙ c_{t−1} + i_t ⊙ g_t, h_t = o_t ⊙ tanh(c_t), with i, f, o = σ(W x_t + U h_{t−1} + b) and g = tanh(…)
    of the same form (Hochreiter & Schmidhuber 1997; the forget gate f is Gers, Schmidhuber & Cummins 2000).

    Through the memory c alone a gradient is multiplied by f_t at every step, and by nothing else. The plain cell goes
    through torch's fused kernel.

    Args:
        forget_bias: b_f to begin with. 1 as Jozefowicz, Zaremba & Sutskever 2015 recommend: σ(1) = 0.73 of a memory is
            then left after a step, and 0.5 with 0, which is torch.nn.LSTM's, roughly.
        forget_gate: false is the cell of 1997, f = 1: the constant error carousel, through which a gradient neither
            vanishes nor explodes. Its squashing functions are tanh here; the paper's are logistic ones scaled to (−2,
            2) for g and (−1, 1) for h, that is 2 tanh(z/2) and tanh(c/2). Gradients are exact here, not truncated.
        peephole: whether gates see the memory too, each unit its own: i and f add w ⊙ c_{t−1}, o adds w ⊙ c_t (Gers &
            Schmidhuber 2000). The weights w begin at 0, so that the cell begins as one without.
        coupled: i = 1 − f: what is let in replaces what is forgotten (Greff et al. 2017, 'CIFG').
        chrono: T_max, in steps: b_f = log u with u ~ U[1, T_max − 1], and b_i = −b_f (Tallec & Ollivier 2018); null for
            `forget_bias`.
        recurrent_norm: 'layer' or 'batch': of W x, of U h, all gates together, and of c_t where h_t is made of it (Ba
            et al. 2016, supplement; Cooijmans et al. 2017, section 3), step by step; see `step_norm`.

    Raises:
        ValueError: for another activation than tanh, or keys that do not go together.
    """
    brings_its_own("lstm", activation)
    if not forget_gate:
        for key, value, without in (
            ("coupled", coupled, False),
            ("chrono", chrono, None),
            ("forget_bias", forget_bias, 1.0),
        ):
            if value != without:
                raise ValueError(
                    f"cell.{key}={str(value).lower()} is a matter of the forget gate, which cell.forget_gate=false "
                    f"leaves out: use cell.forget_gate=true, or leave cell.{key} as it is"
                )
    if chrono is not None and forget_bias != 1.0:
        raise ValueError(
            f"cell.chrono={chrono} draws the forget gate's biases, so that cell.forget_bias={forget_bias:g} has no "
            "effect: leave out one of them"
        )
    check_chrono(chrono)
    names = [name for name in "ifgo" if not (name == "f" and not forget_gate) and not (name == "i" and coupled)]
    return LSTM(features, width, "".join(names), peephole, forget_bias, chrono, recurrent_norm)


class LSTM(Cell):
    """See `lstm`.

    Weights: input [G, F], recurrent [G, H], bias [G], the parts in the order of `names`; peephole weights [gates, H]
    in the same order without g.

    Args:
        names: of the parts that are computed, some of 'ifgo': without i it is 1 − f, without f it is 1.
        peephole, forget_bias, chrono, recurrent_norm: see `lstm`.
    """

    state_names = ("h", "c")

    def __init__(
        self,
        features: int,
        width: int,
        names: str,
        peephole: bool,
        forget_bias: float,
        chrono: int | None,
        recurrent_norm: Kind,
    ) -> None:
        super().__init__(features, width)
        self.names, self.inputs = names, len(names) * width
        self.forget_bias, self.chrono, self.recurrent_norm = forget_bias, chrono, recurrent_norm
        self.input_weight, self.recurrent_weight = zeros(self.inputs, features), zeros(self.inputs, width)
        self.bias = zeros(self.inputs)
        self.peephole_weight = zeros(len(names) - 1, width) if peephole else None
        self.input_norm, self.state_norm = (step_norm(recurrent_norm, self.inputs) for _ in range(2))
        self.memory_norm = step_norm(recurrent_norm, width)
        self.memory_bias = None if recurrent_norm == "none" else zeros(width)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            c = state[1]
            part = self._parts(z_BG, state, time)
            candidate = torch.tanh(part["g"])
            if "f" not in part:
                c = c + torch.sigmoid(part["i"]) * candidate
            else:
                f = torch.sigmoid(part["f"])
                c = f * c + (torch.sigmoid(part["i"]) if "i" in part else 1 - f) * candidate
            o = part["o"] if self.peephole_weight is None else part["o"] + self.peephole_weight[-1] * c
            return torch.sigmoid(o) * torch.tanh(self.memory_norm(c, time, self.memory_bias)), c

        return linear(x_BTF, self.input_weight, self.bias if self.recurrent_norm == "none" else None), step

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # inductor cannot lower the CPU's kernel when it is called by itself
    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        if self.names != "ifgo" or self.peephole_weight is not None or self.recurrent_norm != "none":
            return None
        weights = [self.input_weight, self.recurrent_weight, self.bias, torch.zeros_like(self.bias)]
        start = [part[None] for part in state]
        train = torch.is_grad_enabled()  # without it cuDNN keeps nothing to go back with
        h_BTH, h_1BH, c_1BH = torch.lstm(x_BTF, start, weights, True, 1, 0.0, train, False, True)
        return h_BTH, (h_1BH[0], c_1BH[0])

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        if "f" not in self.names:
            return None
        return torch.sigmoid(self._parts(z_BG, state, time, count=False)["f"])

    def matrices(self) -> Iterator[Matrix]:
        roles: list[Role] = ["map" if name == "g" else "gate" for name in self.names]
        recurrent: list[Role] = ["recurrent"] * len(roles)
        yield from gates(self.input_weight, self.bias, tuple(roles))
        yield from gates(self.recurrent_weight, None, tuple(recurrent))

    def reset(self, generator: Generator) -> None:
        bias = self._split(self.bias.detach())
        if "f" not in bias:
            return
        if self.chrono is None:
            bias["f"].fill_(self.forget_bias)
            return
        chrono_bias(bias["f"], self.chrono, generator)
        if "i" in bias:
            bias["i"].copy_(-bias["f"])

    def _parts(self, z_BG: Tensor, state: State, time: int, count: bool = True) -> dict[str, Tensor]:
        """What the non-linearities act on, but for the output gate's peephole, which sees the state after the step."""
        h, c = state
        u_BG = linear(h, self.recurrent_weight)
        part = self._split(self.input_norm(z_BG, time, self.bias, count) + self.state_norm(u_BG, time, None, count))
        if self.peephole_weight is not None:
            for name, weight in zip(self.names.replace("g", "")[:-1], self.peephole_weight[:-1], strict=True):
                part[name] = part[name] + weight * c
        return part

    def _split(self, parts: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, parts.chunk(len(self.names), -1), strict=True))
