"""The plain deep convolutional network of mean-field theory."""

from __future__ import annotations

from functools import partial
from typing import Literal

from gradflow.checked import Several
from gradflow.models.assemble import MeanOverPositions, assemble
from gradflow.models.layers import Conv2d
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.units import LayerUnit, Position


def convnet(
    input_shape: tuple[int, ...],
    outputs: int,
    parts: Parts,
    /,
    *,
    kernel_size: Several = 3,
    padding: Literal["circular", "zero"] = "circular",
    stages: Several = 1,
    stem_stride: Several = 2,
    bias: bool = True,
    norm_position: Position | None = None,
) -> Network:
    """A convolutional stem, `depth` blocks of one convolution each, the mean over positions, a linear head.

    With circular padding every position is like every other, which is what makes the mean-field theory of Xiao et al.
    2018 exact (section 2.1); with tanh and `init=delta_orthogonal` it trained there at 10,000 layers.

    Args:
        input_shape: [channels, height, width] of one example.
        outputs: units of the head.
        parts: what blocks are made of; `width` counts channels.
        kernel_size: of every convolution; odd.
        padding: 'circular' or 'zero'.
        stages: equally long runs of blocks; the first convolution of each after the first halves the size.
        stem_stride: of the stem's convolution; 2 quarters the work of all blocks (the paper reduces its inputs so).
        bias: whether convolutions have one.
        norm_position: see `mlp`.

    Raises:
        ValueError: if the input is no image, or parts do not go together.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f"model=convnet needs images, but an example has shape {list(input_shape)}: set task.view=image, or choose "
            "an image task"
        )
    smallest = min(input_shape[1:])
    for stride in (stem_stride, *[2] * (stages - 1), 1):
        if padding == "circular" and kernel_size // 2 > smallest:
            raise ValueError(
                f"model.kernel_size={kernel_size} wraps more than once around an image of {smallest} pixels: choose a "
                "smaller one, or model.padding=zero"
            )
        smallest = -(-smallest // stride)
    if stages > parts.depth:
        raise ValueError(f"model.stages={stages} exceeds depth={parts.depth}: a stage has at least one block")
    convolution = partial(Conv2d, kernel_size=kernel_size, padding=padding, bias=bias)
    widths, position = parts.widths(), norm_position or "pre"

    def unit(index: int, width_in: int) -> LayerUnit:
        starts_stage = index > 0 and index * stages // parts.depth != (index - 1) * stages // parts.depth
        stride = 2 if starts_stage else 1
        return LayerUnit(
            parts,
            index,
            parts.depth,
            width_in,
            widths[index],
            [partial(convolution, stride=stride)],
            partial(convolution, kernel_size=1, stride=stride),
            stride,
            position,
        )

    stem = partial(convolution, stride=stem_stride)
    return assemble(parts, input_shape[0], widths[0], outputs, stem, unit, [], [MeanOverPositions()], position)
