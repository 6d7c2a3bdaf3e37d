"""φ(z) and φ′(z) of the activations that a forward pass went through: few calls for many modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.instruments.blocks import Block

ALONE = (nn.GLU, nn.PReLU)  # one mixes features, the other may have a slope for each
ELEMENTWISE = (
    *(nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.ReLU, nn.ReLU6),
    *(nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Mish, nn.Softplus, nn.Softshrink, nn.Softsign),
    *(nn.Tanh, nn.Tanhshrink, nn.Threshold),
)


def is_activation(module: nn.Module) -> bool:
    """One of torch's activations, or any module that says its `derivative_bound`, as gradflow's do."""
    return isinstance(module, (*ELEMENTWISE, *ALONE)) or hasattr(module, "derivative_bound")


@dataclass(frozen=True, eq=False)
class Pass:
    """One call of an activation: the block that it belongs to, and what the first examples gave it."""

    block: Block
    activation: nn.Module
    z: Tensor


def evaluated(passes: Sequence[Pass]) -> Iterator[tuple[Pass, Tensor, Tensor]]:
    """(pass, h, slope) of each, in their order: h = φ(z), slope = φ′(z), or Σ_j ∂h_j/∂z_i where features are mixed.

    Activations that are the same function element by element are evaluated in one call. Random ones draw numbers of
    their own; torch's generators are left as they are.
    """
    groups: dict[Any, list[int]] = {}
    for i, each in enumerate(passes):
        groups.setdefault((*_function(each.activation, i), each.z.dtype, each.z.device), []).append(i)
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for members in groups.values():
        zs = [passes[i].z for i in members]
        if len(members) == 1:
            found[members[0]] = _differentiated(passes[members[0]].activation, zs[0])
            continue
        sizes = [z.numel() for z in zs]
        both = _differentiated(passes[members[0]].activation, torch.cat([z.flatten() for z in zs]))
        h, slope = (torch.split(each, sizes) for each in both)
        found |= {i: (h[k].view_as(zs[k]), slope[k].view_as(zs[k])) for k, i in enumerate(members)}
    for i, each in enumerate(passes):
        yield each, *found[i]


def may_widen(activation: nn.Module, z: Tensor) -> bool:
    """Whether half numbers can be differentiated in float32: not if the activation's own parameters are half."""
    half = (torch.float16, torch.bfloat16)
    return z.dtype in half and not any(p.dtype in half for p in activation.parameters())


def _differentiated(activation: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    # A checkpoint around the activation counts what its forward pass saves, which this is not part of.
    unsaved = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    with torch.enable_grad(), unsaved, torch.random.fork_rng([z.device] if z.is_cuda else []):
        z = z.detach().requires_grad_()
        h = type(activation).forward(activation, z + 0)  # not a leaf: an activation may work in place
        (slope,) = torch.autograd.grad(h.sum(), z)
    return h.detach(), slope


def by_element(activation: nn.Module) -> bool:
    """Whether it does the same to every element, and has no numbers of its own."""
    elementwise = isinstance(activation, ELEMENTWISE) or hasattr(activation, "phi")
    return elementwise and next(activation.parameters(), None) is None and not activation._buffers


def _function(activation: nn.Module, alone: int) -> tuple[Any, ...]:
    """Equal for modules that are the same function element by element; `alone` tells all others apart."""
    if not by_element(activation):
        return (alone,)
    own = {k: v for k, v in vars(activation).items() if not k.startswith("_")}
    return type(activation), repr(sorted(own.items(), key=lambda item: item[0]))
