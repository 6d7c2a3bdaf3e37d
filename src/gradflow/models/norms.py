"""Normalisations. Each is a function of the number of features that makes a module.

One kind acts on activations, as vectors [B, F], tokens [B, T, F] or images [B, C, H, W]; the other on the weights of
the linear map before it (a `Reparametrization`), for which the number of features is of no account.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from gradflow.checked import Positive, Several, Share
from gradflow.models.layers import Reparametrization
from gradflow.models.synchronized import batch_moments, in_several_processes

GAIN_RELU = math.sqrt(2 / (1 - 1 / math.pi))


def none(width: int, /) -> nn.Module:
    """No normalisation."""
    return nn.Identity()


def batch(width: int, /, *, eps: Positive = 1e-5, momentum: Share = 0.1, sync: bool = False) -> nn.Module:
    """Batch normalisation: each feature over the batch and all positions (Ioffe & Szegedy 2015, algorithm 1).

    Args:
        eps: added to the variance; torch's default.
        momentum: weight of the newest batch in the running statistics used at evaluation; torch's default.
        sync: under DDP, whether the batch is that of all processes together, or each process's own share.
    """
    return BatchNorm(width, eps, momentum, sync)


def layer(width: int, /, *, eps: Positive = 1e-5) -> nn.Module:
    """Layer normalisation: all features of an example, with all positions of an image, each token for itself (Ba,
    Kiros & Hinton 2016, eq. 3); scale and shift per feature.

    Args:
        eps: added to the variance; torch's default.
    """
    return GroupNorm(width, 1, eps)


def group(width: int, /, *, groups: Several = 8, eps: Positive = 1e-5) -> nn.Module:
    """Group normalisation: as `layer`, but each of several groups of features for itself (Wu & He 2018, eq. 7).

    Args:
        groups: must divide the width; the paper's 32 suits widths of 256 and more, 8 suits those of CIFAR networks.
        eps: added to the variance; torch's default.

    Raises:
        ValueError: if the groups do not divide the width; at the first forward pass, if a group is but one value.
    """
    if width % groups:
        raise ValueError(f"norm.groups={groups} does not divide {width} features: choose a divisor, or another width")
    return GroupNorm(width, groups, eps)


def instance(width: int, /, *, eps: Positive = 1e-5) -> nn.Module:
    """Instance normalisation: each feature of each example over its positions (Ulyanov et al. 2016, eq. 4).

    Args:
        eps: added to the variance; torch's default.

    Raises:
        ValueError: at the first forward pass, if there is but one position.
    """
    return InstanceNorm(width, eps)


def rms(width: int, /, *, eps: Positive = 1e-6) -> nn.Module:
    """Root-mean-square normalisation: as `layer`, but nothing is subtracted (Zhang & Sennrich 2019, eq. 4).

    Args:
        eps: added to the mean square; small enough not to matter in float32.
    """
    return RMSNorm(width, eps)


def weight_norm(width: int, /) -> nn.Module:
    """w = g v / ‖v‖ for each unit, g and v learnt (Salimans & Kingma 2016, eq. 2); g begins as ‖v‖, so that the
    network begins as initialised."""
    return WeightNorm()


def scaled_weight_standardization(width: int, /, *, gain: Positive = GAIN_RELU, eps: Positive = 1e-4) -> nn.Module:
    """Ŵ = γ · g (W − μ) / (σ √N) over the N inputs of each unit, g learnt from 1 (Brock et al. 2021, eq. 1).

    Args:
        gain: γ, 1/√Var φ(z) for z ~ N(0, 1): √(2/(1 − 1/π)) for ReLU (section 3); 1 for a linear network.
        eps: smallest N σ² divided by, as in the paper's appendix D.
    """
    return StandardizedWeight(gain, eps)


def spectral(width: int, /, *, iterations: Several = 1, eps: Positive = 1e-12) -> nn.Module:
    """W / σ₁(W), the largest singular value estimated by power iteration (Miyato et al. 2018, eq. 8, algorithm 1).

    Kernels are matrices [units, fan_in]. The estimate starts from 15 iterations and goes on at every training step.

    Args:
        iterations: per training step; 1 as in the paper.
        eps: smallest norm divided by.
    """
    return SpectralNorm(iterations, eps)


class BatchNorm(_BatchNorm):
    """Batch normalisation of vectors, tokens and images."""

    def __init__(self, width: int, eps: float, momentum: float, sync: bool) -> None:
        super().__init__(width, eps=eps, momentum=momentum)
        self.sync = sync

    def _check_input_dim(self, input: Tensor) -> None:
        """Any layout will do."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.sync and in_several_processes():
            return self._over_processes(x)
        if self.training and x.numel() == self.num_features:
            raise ValueError("norm=batch needs task.batch_size of at least 2, but it is 1: one value has no variance")
        flat = x.flatten(0, 1) if x.ndim == 3 else x
        return super().forward(flat).view_as(x)

    def _over_processes(self, x: Tensor) -> Tensor:
        rows = x.movedim(1, -1).flatten(0, -2) if x.ndim == 4 else x.flatten(0, -2)
        mean, variance, count = batch_moments(rows.to(self.weight.dtype))  # autocast's may be narrower
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            weight = self.momentum or 0.0
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(variance * count / (count - 1), weight)
        y = (rows - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        y = y.to(x.dtype)
        if x.ndim != 4:
            return y.view_as(x)
        return y.view(x.shape[0], *x.shape[2:], -1).movedim(-1, 1)


class GroupNorm(nn.GroupNorm):
    """Group normalisation, over the positions of images too, and of each token alone."""

    def __init__(self, width: int, groups: int, eps: float) -> None:
        super().__init__(groups, width, eps)

    def forward(self, x: Tensor) -> Tensor:
        if self.num_channels == self.num_groups and math.prod(x.shape[2:] if x.ndim == 4 else ()) == 1:
            raise ValueError(
                f"norm of {self.num_channels} features in {self.num_groups} groups would leave one value in each, and "
                "a value minus itself is 0: choose fewer norm.groups, or a larger width"
            )
        if x.ndim == 3:
            return super().forward(x.flatten(0, 1)).view_as(x)
        return super().forward(x)


class InstanceNorm(nn.GroupNorm):
    """As many groups as features, over positions."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, width, eps)

    def forward(self, x: Tensor) -> Tensor:
        positions = x.shape[1] if x.ndim == 3 else math.prod(x.shape[2:])
        if positions < 2:
            raise ValueError(
                "norm=instance needs several positions per feature, but there is one here: a value minus itself is 0; "
                "use norm=layer, or a model with images or tokens"
            )
        return super().forward(x.transpose(1, 2)).transpose(1, 2) if x.ndim == 3 else super().forward(x)


class RMSNorm(nn.Module):
    """x / √(mean square + eps) · γ."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        scale = torch.rsqrt(x.square().mean((1, 2, 3), keepdim=True) + self.eps)
        return x * scale * self.weight[:, None, None]


class WeightNorm(Reparametrization):
    """g v / ‖v‖."""

    def attach(self, weight: Tensor) -> None:
        self.gain = nn.Parameter(torch.ones(len(weight)))

    def reset(self, weight: Tensor) -> None:
        self.gain.copy_(_norms(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * _per_unit(self.gain / _norms(weight), weight)


class StandardizedWeight(Reparametrization):
    """γ g (W − μ) / (σ √N)."""

    def __init__(self, gamma: float, eps: float) -> None:
        super().__init__()
        self.gamma, self.eps = gamma, eps

    def attach(self, weight: Tensor) -> None:
        self.gain = nn.Parameter(torch.ones(len(weight)))

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        variance, mean = torch.var_mean(rows, 1, correction=0)
        scale = self.gamma * self.gain * torch.rsqrt((variance * rows.shape[1]).clamp(min=self.eps))
        return (weight - _per_unit(mean, weight)) * _per_unit(scale, weight)


class SpectralNorm(Reparametrization):
    """W / (uᵀ W v)."""

    u: Tensor
    v: Tensor

    def __init__(self, iterations: int, eps: float) -> None:
        super().__init__()
        self.iterations, self.eps = iterations, eps

    def attach(self, weight: Tensor) -> None:
        rows = weight.flatten(1)
        self.register_buffer("u", rows.new_full((rows.shape[0],), rows.shape[0] ** -0.5))
        self.register_buffer("v", rows.new_full((rows.shape[1],), rows.shape[1] ** -0.5))

    def reset(self, weight: Tensor) -> None:
        rows = weight.flatten(1)
        self.u.copy_(functional.normalize(rows.sum(1), dim=0, eps=self.eps))  # W times a vector that favours none
        self._iterate(rows, 15)

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        if self.training:
            self._iterate(rows, self.iterations)
        u, v = self.u.clone(), self.v.clone()  # the next step overwrites them before this one is differentiated
        return weight / torch.dot(u, torch.mv(rows, v))

    @torch.no_grad()
    def _iterate(self, rows: Tensor, times: int) -> None:
        for _ in range(times):
            self.v.copy_(functional.normalize(torch.mv(rows.T, self.u), dim=0, eps=self.eps))
            self.u.copy_(functional.normalize(torch.mv(rows, self.v), dim=0, eps=self.eps))


def _norms(weight: Tensor) -> Tensor:
    """‖·‖₂ of each unit's weights."""
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms


def _per_unit(values: Tensor, weight: Tensor) -> Tensor:
    return values.view(-1, *[1] * (weight.ndim - 1))
