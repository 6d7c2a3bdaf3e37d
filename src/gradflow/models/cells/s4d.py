"""The diagonal state-space model S4D of Gu, Goel, Gupta & Ré 2022.

Shapes: B batch, T time, F features, G channels, N/2 complex states of each channel, P steps of a block, H units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.functional import linear, pad

from gradflow.checked import Positive
from gradflow.models.cell import Cell, Matrix, State, Step, gates, zeros
from gradflow.models.parts import units_in
from gradflow.models.scan import scan

Even = Annotated[int, Field(ge=2, multiple_of=2)]
Spectrum = Literal["lin", "inv"]
BLOCK = 128  # steps at most; on a CPU blocks of 16 take three times as long, and the FFT twice


def s4d(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    state_size: Even = 64,
    spectrum: Spectrum = "lin",
    dt_min: Positive = 0.001,
    dt_max: Positive = 0.1,
) -> Cell:
    """Each channel u of W x_t + b drives a linear system of its own, c′ = A c + u, h = 2 Re(C c) + D u, with N/2
    complex states that stand for N conjugate ones, sampled with a step Δ under a zero-order hold:

        c_t = e^{ΔA} c_{t−1} + A⁻¹(e^{ΔA} − 1) u_t

    The output is φ(h_t), φ the network's activation (Gu, Goel, Gupta & Ré 2022). Re A < 0 whatever is learnt, so that
    |e^{ΔA}| < 1. What mixes channels in the paper, a linear map after φ, is W here, before: the same in a stack of
    layers. A, C, D and the channels' Δ are learnt; B is 1, which C makes up for. `init` fills W; C begins with
    E|C|² = 1 and D from N(0, 1), as in the authors' code.

    Args:
        state_size: N, states per channel.
        spectrum: of A at the start, n = 0 … N/2 − 1: 'lin', −½ + iπn (S4D-Lin); 'inv', −½ + i(N/π)(N/(2n+1) − 1)
            (S4D-Inv).
        dt_min, dt_max: Δ begins log-uniformly between them: a channel remembers about 2/Δ steps.

    Raises:
        ValueError: if dt_min exceeds dt_max.
    """
    if dt_min > dt_max:
        raise ValueError(
            f"cell.dt_min={dt_min} is more than cell.dt_max={dt_max}: give the smaller first, e.g. 0.001 and 0.1"
        )
    return S4D(features, width, activation(), state_size, spectrum, dt_min, dt_max)


class S4D(Cell):
    """See `s4d`. Real parameters: W [G, F], b [G]; ln Δ [G]; ln −Re A and Im A [G, N/2]; C [G, N/2, 2]; D [G].

    The state is h [B, G], what a step gives, and the memory c, complex [B, G, N/2], from which alone the next state
    follows. h comes first because whole sequences of c, N times as large, are never laid out.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")
    linear: ClassVar[bool] = True

    def __init__(
        self,
        features: int,
        width: int,
        activation: nn.Module,
        state_size: int = 64,
        spectrum: Spectrum = "lin",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__(features, width)
        self.inputs = units_in(activation, width)
        self.activation, self.pairs, self.spectrum, self.steps = activation, state_size // 2, spectrum, (dt_min, dt_max)
        self.input_weight, self.bias = zeros(self.inputs, features), zeros(self.inputs)
        self.step_size, self.feedthrough = zeros(self.inputs), zeros(self.inputs)
        self.not_decayed = ("decay", "frequency")  # by the optimiser: towards 0 they would forget their time scales
        self.decay, self.frequency = zeros(self.inputs, self.pairs), zeros(self.inputs, self.pairs)
        self.output_weight = zeros(self.inputs, self.pairs, 2)

    def sampled(self) -> tuple[Tensor, Tensor, Tensor]:
        """ΔA, A⁻¹(e^{ΔA} − 1) and C, complex [G, N/2]."""
        a = torch.complex(-self.decay.exp(), self.frequency)
        scaled = self.step_size.exp()[:, None] * a
        return scaled, torch.expm1(scaled) / a, torch.view_as_complex(self.output_weight)

    def start(self, x_BTF: Tensor) -> State:
        batch, kind = len(x_BTF), self.bias.dtype.to_complex()
        return x_BTF.new_zeros(batch, self.inputs), x_BTF.new_zeros(batch, self.inputs, self.pairs, dtype=kind)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        scaled, drive, c = self.sampled()
        eigenvalues = scaled.exp()

        def step(z_BG: Tensor, state: State, time: int) -> State:
            memory = torch.addcmul(drive * z_BG.unsqueeze(-1), eigenvalues, state[1])
            return self.feedthrough * z_BG + 2 * (c * memory).sum(-1).real, memory

        return linear(x_BTF, self.input_weight, self.bias).to(self.bias.dtype), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        """Blocks of P steps as products of matrices, and a scan over the blocks' last states."""
        batch, steps = x_BTF.shape[:2]
        flat = torch.addmm(self.bias.unsqueeze(-1), self.input_weight, x_BTF.flatten(0, 1).T).to(self.bias.dtype)
        u_GBT = flat.view(-1, batch, steps)
        memory = state[1].transpose(0, 1)
        length = steps // -(-steps // BLOCK)
        whole = steps - steps % length
        pieces = []
        with _full_precision(u_GBT):
            for begin, stop, block in ((0, whole, length), (whole, steps, steps - whole)):
                if begin < stop:
                    h_GBT, memory = self._blocks(u_GBT[:, :, begin:stop], memory, block)
                    pieces.append(h_GBT)
        h_BTG = (pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)).permute(1, 2, 0)
        return h_BTG, (h_BTG[:, -1], memory.transpose(0, 1))

    def read(self, h_BTH: Tensor, x_BTF: Tensor) -> Tensor:
        out: Tensor = self.activation(h_BTH)
        return out

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("map",))

    def reset(self, generator: Generator) -> None:
        n = torch.arange(self.pairs, dtype=torch.float64)
        size = 2 * self.pairs
        frequency = math.pi * n if self.spectrum == "lin" else size / math.pi * (size / (2 * n + 1) - 1)
        low, high = (math.log(step) for step in self.steps)
        with torch.no_grad():
            self.decay.fill_(math.log(0.5))
            self.frequency.copy_(frequency.expand_as(self.frequency))
            self.step_size.uniform_(low, high, generator=generator)
            self.output_weight.normal_(0, math.sqrt(0.5), generator=generator)
            self.feedthrough.normal_(generator=generator)

    def _blocks(self, u_GBT: Tensor, memory_GBN: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """h [G, B, T] and the last memory, for T a multiple of `block`."""
        batch, steps = u_GBT.shape[1:]
        count = steps // block
        scaled, drive, c = self.sampled()
        times = torch.arange(block + 1, dtype=self.bias.dtype, device=self.bias.device)
        powers_GNP = (scaled.unsqueeze(-1) * times).exp()
        answer_GP = 2 * ((c * drive).unsqueeze(-1) * powers_GNP[..., :-1]).sum(1).real
        answer_GP = torch.cat([answer_GP[:, :1] + self.feedthrough.unsqueeze(-1), answer_GP[:, 1:]], -1)
        u = u_GBT.reshape(-1, batch * count, block)

        gathered = torch.view_as_real((drive.unsqueeze(-1) * powers_GNP[..., :-1].flip(-1)).transpose(1, 2))
        ends = torch.bmm(u, gathered.flatten(2)).view(-1, batch, count, self.pairs, 2)
        after = scan(powers_GNP[..., -1].unsqueeze(1), torch.view_as_complex(ends), memory_GBN)
        before = torch.view_as_real(torch.cat([memory_GBN.unsqueeze(2), after[:, :, :-1]], 2))

        recalled = torch.view_as_real((c.unsqueeze(-1) * powers_GNP[..., 1:]).conj().resolve_conj())
        remembered = torch.bmm(before.reshape(-1, batch * count, 2 * self.pairs), 2 * recalled.mT.flatten(1, 2))
        h = torch.baddbmm(remembered, u, _toeplitz(answer_GP))
        if h.requires_grad and not torch.compiler.is_compiling():
            # the gradient comes as [B, T, G], which torch.bmm would copy matrix by matrix: a third of the whole time
            h.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        return h.view(-1, batch, steps), after[:, :, -1]


def _full_precision(x: Tensor) -> AbstractContextManager[object]:
    """No autocast: products of many steps' worth of numbers keep the precision that a scan step by step has."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _toeplitz(k_GP: Tensor) -> Tensor:
    """[G, P, P] with k_{q−p} in row p and column q ≥ p, and 0 before."""
    size = k_GP.shape[-1]
    return pad(k_GP, (size - 1, 0)).unfold(-1, size, 1).flip(1)
