"""Networks of plain linear maps, called with the weights of K members at once.

`torch.func.vmap` can do this to any network, and takes two to three times as long where layers are small: its rules
split a map into a product and a sum, and go through every view anew. Shapes: K members, B batch, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradflow.models.activation import Elementwise
from gradflow.models.layers import Branch, Linear
from gradflow.models.network import Network
from gradflow.models.skips import Plain, Residual

Of = Callable[[Tensor], Tensor]  # a parameter → that of all members [K, …]
CHAINS = (nn.Sequential, Branch, nn.ModuleList)


def is_plain(module: nn.Module) -> bool:
    """Whether `forward` knows it and everything in it."""
    if type(module) is Linear:
        return module.reparametrization is None and module.bias is not None
    if type(module) is nn.Flatten:
        return module.start_dim == 1
    known = type(module) in (Network, Plain, Elementwise, nn.Identity, *CHAINS)
    known |= type(module) is Residual and module.scale == module.shortcut_scale == 1
    return known and all(map(is_plain, module.children()))


def forward(module: nn.Module, x: Tensor, of: Of) -> Tensor:
    """What `is_plain` says yes to, of x [K, B, …]."""
    if isinstance(module, Linear):
        return torch.baddbmm(of(module.bias).unsqueeze(1), x, of(module.weight).mT)
    if isinstance(module, nn.Flatten):
        return x.flatten(2)
    if isinstance(module, Network):
        for part in (module.stem, *module.blocks, module.head):
            x = forward(part, x, of)
        return x
    if isinstance(module, Plain):
        return forward(module.after, forward(module.branch, x, of), of)
    if isinstance(module, Residual):
        return forward(module.after, forward(module.shortcut, x, of) + forward(module.branch, x, of), of)
    if isinstance(module, nn.Sequential | nn.ModuleList):
        for part in module:
            x = forward(part, x, of)
        return x
    out: Tensor = module(x)
    return out
