"""Four ways to show the same image to a network.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

View = Literal["image", "flat", "sequence", "rows"]


def viewed(x_BCHW: Tensor, view: View) -> Tensor:
    """The same numbers in another order of axes; nothing is copied where the layout in memory allows it.

    Args:
        x_BCHW: images.
        view: 'image' leaves them [B, C, H, W]; 'flat' gives [B, C·H·W], channel by channel and row by row; 'sequence'
            gives [B, H·W, C], one pixel per time step in row-major order (sequential MNIST: Le, Jaitly & Hinton 2015,
            section 4.2); 'rows' gives [B, H, C·W], one row per time step, channel by channel (noise-padded CIFAR-10:
            Chang et al. 2019).
    """
    if view == "flat":
        return x_BCHW.flatten(1)
    if view == "sequence":
        return x_BCHW.flatten(2).transpose(1, 2)
    if view == "rows":
        return x_BCHW.transpose(1, 2).flatten(2)
    return x_BCHW


def viewed_shape(image_shape: tuple[int, int, int], view: View) -> tuple[int, ...]:
    """The shape of one example after `viewed`.

    >>> [viewed_shape((3, 32, 32), view) for view in ("image", "flat", "sequence", "rows")]
    [(3, 32, 32), (3072,), (1024, 3), (32, 96)]
    """
    channels, height, width = image_shape
    if view == "flat":
        return (channels * height * width,)
    if view == "sequence":
        return height * width, channels
    if view == "rows":
        return height, channels * width
    return image_shape
