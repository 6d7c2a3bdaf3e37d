"""The residual networks for CIFAR."""

from __future__ import annotations

from functools import partial

from gradflow.models.assemble import MeanOverPositions, assemble
from gradflow.models.layers import Conv2d
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.units import LayerUnit

STAGES = 3


def resnet(input_shape: tuple[int, ...], outputs: int, parts: Parts, /, *, bias: bool = False) -> Network:
    """The 6n + 2 layers of He et al. 2016, section 4.2: a 3×3 stem, three stages of n blocks of two 3×3 convolutions,
    the mean over positions, a linear head.

    A block is two layers: `depth=9` is ResNet-20, 15, 21, 27 and 54 are ResNet-32, 44, 56 and 110. With `width=16` the
    stages have 16, 32 and 64 channels; the first convolution of the second and third halves the size.
    `skip=residual` is the paper's (shortcut A, or B with `skip.shortcut=projection`), `skip=none` its plain twin,
    `skip=preact_residual` that of He et al. 2016b.

    Args:
        input_shape: [channels, height, width] of one example.
        outputs: units of the head.
        parts: what blocks are made of; `width` is that of the first stage, or one number per block.
        bias: whether convolutions have one; normalisation, which follows each in the paper, would undo it.

    Raises:
        ValueError: if the input is no image, the blocks do not make three equal stages, or parts do not go together.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f"model=resnet needs images, but an example has shape {list(input_shape)}: set task.view=image, or choose "
            "an image task"
        )
    if parts.depth % STAGES:
        raise ValueError(
            f"depth={parts.depth}: model=resnet has three equal stages, so that depth, its number of blocks, must be a "
            "multiple of 3; 9 is ResNet-20"
        )
    per_stage = parts.depth // STAGES
    if isinstance(parts.width, int):
        widths = [parts.width * 2 ** (index // per_stage) for index in range(parts.depth)]
    else:
        widths = parts.widths()
    convolution = partial(Conv2d, bias=bias)

    def unit(index: int, width_in: int) -> LayerUnit:
        stride = 2 if index and index % per_stage == 0 else 1
        maps = [partial(convolution, stride=stride), convolution]
        project = partial(convolution, kernel_size=1, stride=stride)
        return LayerUnit(parts, index, parts.depth, width_in, widths[index], maps, project, stride)

    return assemble(parts, input_shape[0], widths[0], outputs, convolution, unit, [], [MeanOverPositions()])
