"""The one layer that blocks are made of."""

from __future__ import annotations

from torch import Tensor, nn


class Linear(nn.Linear):
    """`torch.nn.Linear` that leaves its weights to gradflow's initialisers.

    torch's own constructor draws from the global generator; this one draws nothing and zeroes the bias.
    """

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Layer(nn.Module):
    """linear → norm → activation, the order of Ioffe & Szegedy 2015, section 3.2.

    Maps [batch, width_in] to [batch, width_out].
    """

    def __init__(self, linear: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(x)))  # type: ignore[no-any-return]
