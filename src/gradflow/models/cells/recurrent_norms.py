"""Normalisations inside a recurrence, one step at a time: of an input's part, of a state's part, of an LSTM's memory.

Shapes: B batch, T steps seen so far, G units.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

Kind = Literal["none", "layer", "batch"]

EPS, MOMENTUM = 1e-5, 0.1  # torch's defaults for both kinds
BATCH_SCALE = 0.1


def step_norm(kind: Kind, *sizes: int) -> nn.Module:
    """N(z, time, shift, count) of z_BG at one step, with a learnt scale γ_G and the shift_G that it is given.

    Cells normalise W x and U h each by itself before they add them, with the cell's bias as the only shift. What a skip
    through time adds to W x is normalised with it.

    Args:
        kind: 'none': z itself, the shift being left to whoever made z, for whom it costs nothing.
            'layer': each example over its units, γ = 1 at first (Ba, Kiros & Hinton 2016, supplement, for LSTM and
            GRU; for a simple recurrent network their eq. 4 normalises the sum W x + U h instead).
            'batch': each unit over the batch, γ = 0.1 at first, so that tanh is not saturated (Cooijmans et al. 2017,
            sections 3 and 4). Every step has its own running mean and variance, which evaluation uses; steps beyond the
            longest sequence that was seen in training use those of its last.
        sizes: units that are normalised together; G is their sum. 'batch' takes every unit alone.

    Raises:
        ValueError: for layer normalisation of a single unit; 'batch' in training, for a batch of one example.
    """
    if kind == "none":
        return NoNorm()
    if kind == "batch":
        return StepBatchNorm(sum(sizes))
    if min(sizes) < 2:
        raise ValueError(
            "cell.recurrent_norm=layer of 1 unit would leave nothing of it, a value minus itself being 0: use a larger "
            "width, or cell.recurrent_norm=none"
        )
    return StepLayerNorm(sizes)


class NoNorm(nn.Module):
    """z itself."""

    def forward(self, z_BG: Tensor, time: int, shift_G: Tensor | None = None, count: bool = True) -> Tensor:
        return z_BG


class StepLayerNorm(nn.Module):
    """Each example over its units, group by group; the same at every step."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.ones(sum(sizes)))

    def forward(self, z_BG: Tensor, time: int, shift_G: Tensor | None = None, count: bool = True) -> Tensor:
        if len(self.sizes) == 1:
            return functional.layer_norm(z_BG, self.sizes, self.weight, shift_G, EPS)
        groups, scales = z_BG.split_with_sizes(self.sizes, -1), self.weight.split_with_sizes(self.sizes)
        shifts = [None] * len(self.sizes) if shift_G is None else shift_G.split_with_sizes(self.sizes)
        normalized = [
            functional.layer_norm(z, scale.shape, scale, shift, EPS)
            for z, scale, shift in zip(groups, scales, shifts, strict=True)
        ]
        return torch.cat(normalized, -1)


class StepBatchNorm(_BatchNorm):
    """Each unit over the batch, with statistics of its own at every step.

    Buffers running_mean and running_var are [T, G]: a row is added when a training sequence first reaches its step.
    Under DDP batch and statistics are those of each process's own share.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, units: int) -> None:
        super().__init__(units, EPS, MOMENTUM, affine=False)
        self.weight = nn.Parameter(torch.full((units,), BATCH_SCALE))
        self.register_buffer("running_mean", torch.zeros(1, units))
        self.register_buffer("running_var", torch.ones(1, units))

    def forward(self, z_BG: Tensor, time: int = 0, shift_G: Tensor | None = None, count: bool = True) -> Tensor:
        """N(z); in training, `count` says whether this is a step of a forward pass, and not merely a look at it."""
        if not self.training:
            row = min(time, len(self.running_mean) - 1)
            mean, variance = self.running_mean[row], self.running_var[row]
            return functional.batch_norm(z_BG, mean, variance, self.weight, shift_G, False, 0.0, EPS)
        if len(z_BG) == 1:
            raise ValueError(
                "cell.recurrent_norm=batch needs task.batch_size of at least 2, but it is 1: one value has no "
                "variance; use cell.recurrent_norm=layer"
            )
        if count:
            self._count(z_BG.detach().to(self.running_mean.dtype), time)
        return functional.batch_norm(z_BG, None, None, self.weight, shift_G, True, 0.0, EPS)

    @torch.no_grad()
    def _count(self, z_BG: Tensor, time: int) -> None:
        missing = time + 1 - len(self.running_mean)
        if missing > 0:  # new tensors, so that whoever keeps the old ones can put them back
            self.running_mean = torch.cat([self.running_mean, self.running_mean.new_zeros(missing, self.num_features)])
            self.running_var = torch.cat([self.running_var, self.running_var.new_ones(missing, self.num_features)])
        variance, mean = torch.var_mean(z_BG, 0)
        self.running_mean[time].lerp_(mean, MOMENTUM)
        self.running_var[time].lerp_(variance, MOMENTUM)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("running_mean", "running_var"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, getattr(self, name).new_empty(len(saved), self.num_features))
        super()._load_from_state_dict(state_dict, prefix, *rest)
