"""Skip connections. Each is a function that wraps a layer from `width_in` to `width_out` units."""

from __future__ import annotations

from torch import Tensor, nn


def none(layer: nn.Module, width_in: int, width_out: int, /) -> nn.Module:
    """The layer alone."""
    return layer


def residual(layer: nn.Module, width_in: int, width_out: int, /) -> nn.Module:
    """x + layer(x), the identity shortcut of He et al. 2016 (eq. 1), taken around a whole layer.

    Nothing follows the addition, so that the gradient reaches every block undiminished: ∂L/∂x = ∂L/∂y (1 + …)
    (He et al. 2016b, eq. 5).

    Raises:
        ValueError: if the width changes, because an identity has no way to change it.
    """
    if width_in != width_out:
        raise ValueError(
            f"skip=residual needs equal widths, but a block goes from {width_in} to {width_out} units: "
            "choose one width for all blocks, or skip=none"
        )
    return Residual(layer)


class Residual(nn.Module):
    """x ↦ x + layer(x)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)  # type: ignore[no-any-return]
