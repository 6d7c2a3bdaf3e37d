"""Echo state networks.

Shapes: B batch, T time, F features, Z what the read-out sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gradflow.checked import Count, NonNegative, Positive, Several
from gradflow.models import skips
from gradflow.models.layers import Linear
from gradflow.models.network import Network
from gradflow.models.parts import Parts, units_in
from gradflow.models.reservoir import Reservoir, Topology
from gradflow.models.ridge import ReadOut, Ridge, linear

AboveZero = Annotated[float, Field(gt=0, le=1)]
Regularization = Annotated[list[NonNegative], Field(min_length=1)]
Read = Literal["last", "mean", "window"]

REGULARIZATION = [1e-7, 1e-5, 1e-3, 1e-1, 1e1, 1e3]
AT_ONCE = 2**22  # states that exist at the same time, unless a gradient to the read-out needs them all


def esn(
    input_shape: tuple[int, ...],
    outputs: int,
    parts: Parts,
    /,
    *,
    spectral_radius: NonNegative = 0.9,
    leak: AboveZero = 1.0,
    input_scaling: Positive = 1.0,
    layer_scaling: Positive = 1.0,
    bias: NonNegative = 0.2,
    connectivity: AboveZero = 0.1,
    topology: Topology = "random",
    read: Read = "last",
    window: Several = 10,
    reads_input: bool = False,
    washout: Count = 0,
    readout: Literal["ridge", "sgd"] = "ridge",
    regularization: Regularization = REGULARIZATION,
) -> EchoState:
    """`depth` reservoirs of `width` units, each fed by the one before, and a linear read-out of the states of all.

    One reservoir is the echo state network of Jaeger 2001, several are the deep one of Gallicchio, Micheli & Pedrelli
    2017. Reservoirs are drawn and not trained: no gradient flows through time, so that none can vanish.

    Args:
        input_shape: [steps, features] of one sequence.
        outputs: of the read-out.
        parts: `activation` is the reservoirs'; tanh in the literature. `every_step` asks for outputs at every step.
        spectral_radius: of W itself, as in reservoirpy and in Lukoševičius 2012; that of (1 − a) I + a W, which decides
            whether zero input is forgotten (Jaeger 2001), is nearer to 1. See `Reservoir.doubts`.
        leak: a; 1 for none, less for slower units.
        input_scaling: the input's weights are uniform up to it.
        layer_scaling: the largest singular value of the weights from one reservoir to the next.
        bias: the reservoirs' biases are uniform up to it. Without one, tanh units are odd in their input.
        connectivity: share of non-zero weights in W; 1 is dense. Other topologies have their own.
        topology: 'random', 'ring' or 'orthogonal'; see `Reservoir`.
        read: of a sequence that has one output: the 'last' state, the 'mean' of all after the washout, or the 'window'
            of the last `window` states, joined, the oldest first.
        window: states that are joined; only for that.
        reads_input: whether the read-out sees the input beside the states.
        washout: first steps whose states are not used, since they remember that the reservoir began at 0: by the
            read-out's fit where there are outputs at every step, and by the mean, which has one state at least.
        readout: 'ridge' solves for the read-out in closed form, 'sgd' trains it like any other layer.
        regularization: of 'ridge': the λ of `Ridge` to choose from on the validation split.

    Raises:
        ValueError: if the input is no sequence or is too short, or parts make no sense here.
    """
    if len(input_shape) != 2:
        raise ValueError(
            f"model=esn needs sequences, but an example has shape {list(input_shape)}: set task.view=sequence, or "
            "choose a task with a time axis"
        )
    steps, features = input_shape
    _check_parts(parts)

    _check_reading(read, window, washout, steps, parts.every_step)
    make = partial(
        Reservoir,
        spectral_radius=spectral_radius,
        leak=leak,
        input_scaling=input_scaling,
        bias=bias,
        connectivity=connectivity,
        topology=topology,
    )
    reservoirs: list[Reservoir] = []
    for width in parts.widths():
        below = reservoirs[-1].units if reservoirs else None
        norm = layer_scaling if below else None
        reservoirs.append(make(below or features, width, parts.activation(), input_norm=norm))
    seen = sum(r.units for r in reservoirs) + (features if reads_input else 0)
    return EchoState(
        reservoirs,
        seen * (window if read == "window" else 1),
        outputs,
        read=read,
        window=window,
        reads_input=reads_input,
        washout=washout,
        every_step=parts.every_step,
        regularization=regularization if readout == "ridge" else None,
    )


class EchoState(Network):
    """Reservoirs as blocks, a read-out as head.

    Args:
        reservoirs: the first nearest the input.
        seen: numbers that the read-out sees.
        outputs: that it gives.
        read, window, reads_input, washout: see `esn`.
        every_step: whether forward gives [B, T, outputs], not [B, outputs].
        regularization: λ to choose from if the read-out is solved for in closed form; None if it is trained.

    Attributes:
        closed_form: what solves for the read-out's weights, for `ClosedFormLearner`; None if they are trained.
    """

    any_length = True

    def __init__(
        self,
        reservoirs: Sequence[Reservoir],
        seen: int,
        outputs: int,
        *,
        read: Read = "last",
        window: int = 1,
        reads_input: bool = False,
        washout: int = 0,
        every_step: bool = False,
        regularization: Sequence[float] | None = None,
    ) -> None:
        solved = regularization is not None
        super().__init__(nn.Identity(), reservoirs, ReadOut(seen, outputs) if solved else Linear(seen, outputs))
        self.read, self.window, self.reads_input, self.washout = read, window, reads_input, washout
        self.every_step = every_step
        self.regularization = tuple(regularization or ())
        self.closed_form = Ridge(seen, outputs) if solved else None

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        first = self.blocks[0]
        assert isinstance(first, Reservoir)
        return first.input_weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        made = [self.head(z) for z in self.read_states(x)]
        return torch.cat(made, dim=1) if self.every_step else made[0]

    def answer(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """What `forward` would give if the read-out had this weight [outputs, Z] and bias [outputs]."""
        made = [linear(z, weight, bias) for z in self.read_states(x)]
        return torch.cat(made, dim=1) if self.every_step else made[0]

    def read_states(self, x_BTF: Tensor) -> Iterator[Tensor]:
        """What the read-out sees, without gradient: once [B, Z]; or, for outputs at every step, [B, steps, Z] of one
        part of the sequence after another, so that the states of a long one never exist all at once.
        """
        x_BTF = self.stem(x_BTF).detach()
        reading = None if self.every_step else _Reading(self.read, self.window, self.washout, x_BTF.shape[1])
        before: list[Tensor | None] = [None] * len(self.blocks)
        for x in torch.split(x_BTF, self._steps_at_once(len(x_BTF)), dim=1):
            h, seen = x, []
            for index, reservoir in enumerate(self.blocks):
                h = reservoir(h, before[index])
                before[index] = h[:, -1]
                seen.append(h)
            z = torch.cat([x.to(h), *seen] if self.reads_input else seen, dim=-1)
            if reading is None:
                yield z
            else:
                reading.add(z)
        if reading is not None:
            yield reading.result()

    def _steps_at_once(self, batch: int) -> int:
        units = sum(reservoir.units for reservoir in self.blocks if isinstance(reservoir, Reservoir))
        return max(1, AT_ONCE // (batch * units))


class _Reading:
    """One vector per sequence [B, Z] from its states, which come in parts [B, steps, states]."""

    def __init__(self, read: Read, window: int, washout: int, steps: int) -> None:
        self.read, self.washout, self.steps = read, min(washout, steps - 1), steps
        self.kept = {"last": 1, "window": window, "mean": 0}[read]
        self._passed = 0
        self._tail: list[Tensor] = []
        self._sum: Tensor | None = None

    def add(self, z: Tensor) -> None:
        if self.read == "mean":
            part = z[:, max(0, self.washout - self._passed) :].sum(1)
            self._sum = part if self._sum is None else self._sum + part
            self._passed += z.shape[1]
        else:
            self._tail = [torch.cat([*self._tail, z[:, -self.kept :]], dim=1)[:, -self.kept :]]

    def result(self) -> Tensor:
        if self._sum is not None:
            return self._sum / (self.steps - self.washout)
        tail = self._tail[0]  # of a sequence shorter than the window: before it began, the state was 0
        return nn.functional.pad(tail, (0, 0, self.kept - tail.shape[1], 0)).flatten(1)


def _check_parts(parts: Parts) -> None:
    """A reservoir is drawn for its spectral radius, which normalisation, skips and dropout would change."""
    if not isinstance(parts.norm(1), nn.Identity):
        raise ValueError("model=esn has reservoirs that are not trained, which no norm goes with: set norm=none")
    if getattr(parts.skip, "func", parts.skip) is not skips.none:
        raise ValueError("model=esn joins the states of its reservoirs, which no skip goes around: set skip=none")
    if parts.drop() is not None:
        raise ValueError("model=esn drops no units, since its reservoirs are not trained: set dropout=alpha_dropout=0")
    activation = parts.activation()
    name = type(activation).__name__.lower()
    if units_in(activation, 2) != 2:
        raise ValueError(f"activation={name} takes several units for one, a reservoir's takes one: use activation=tanh")
    if any(True for _ in activation.parameters()):
        raise ValueError(f"activation={name} is trained, but the reservoirs of model=esn are not: use activation=tanh")


def _check_reading(read: Read, window: int, washout: int, steps: int, every_step: bool) -> None:
    if washout >= steps:
        raise ValueError(f"model.washout={washout} leaves nothing of sequences of {steps} steps: choose fewer")
    if every_step and read != "last":
        raise ValueError(
            f"model.read={read} gives one output per sequence, but the task wants one per step: set model.read=last"
        )
    if read == "window" and window > steps:
        raise ValueError(f"model.window={window} exceeds the {steps} steps of a sequence: choose fewer")
