"""The temporal convolutional network: dilated causal convolutions in residual blocks.

Shapes: B batch, T time, F features.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from gradflow.checked import Several
from gradflow.models.assemble import MeanOverPositions, closing
from gradflow.models.layers import Branch, Causal, Conv1d, Linear, Map, attach
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.recurrent import LastStates
from gradflow.models.units import LayerUnit, Order, Position

CONVOLUTIONS = 2  # of a block
MOST_PAST = 2**16  # steps that a convolution may look back; it is padded with as many zeros


def tcn(
    input_shape: tuple[int, ...],
    outputs: int,
    parts: Parts,
    /,
    *,
    kernel_size: Several = 7,
    period: Several | None = None,
    readout: Literal["last", "mean"] = "last",
    encoder: bool | None = None,
    bias: bool = True,
    norm_position: Position | None = None,
) -> Network:
    """`depth` blocks of two dilated causal convolutions each, and a linear head (Bai, Kolter & Koltun 2018, section 3).

    Block l's convolutions look at every 2^l-th step, so that an output sees `receptive_field` steps and no later one.
    `skip=residual skip.shortcut=projection norm=weight_norm` is the paper's φ(x + F(x)) with F made of convolution,
    weight normalisation, φ and dropout, twice (figure 1 b: F ends with an activation, unlike the branches of
    `resnet`), and a 1×1 convolution on the shortcut where the number of channels changes. It trained 8 blocks of 25
    channels with kernels of 7 on sequential MNIST, which are the defaults here.

    Args:
        input_shape: [steps, features] of one example.
        outputs: units of the head.
        parts: what blocks are made of; `width` counts channels.
        kernel_size: taps of every convolution.
        period: blocks after which the dilation begins again at 1, as in van den Oord et al. 2016 (section 2.1: 10);
            null: never, as in the paper.
        readout: what the head sees where the task wants one output: the 'last' step, or the 'mean' over all steps.
        encoder: whether a linear map takes each step's features to `width` before block 0; null: where a skip begins
            with norm and activation, or needs as many features before as after. The paper has none.
        bias: whether convolutions have one; the head always does.
        norm_position: see `mlp`.

    Raises:
        ValueError: if an example is no sequence, a convolution looks back too far, or parts do not go together.
    """
    if len(input_shape) != 2:
        raise ValueError(
            f"model=tcn needs sequences, but an example has shape {list(input_shape)}: "
            "set task.view=sequence, or choose a task of sequences, such as task=adding"
        )
    past = (kernel_size - 1) * 2 ** (min(parts.depth, period or parts.depth) - 1)
    if past > MOST_PAST:
        raise ValueError(
            f"model=tcn with depth={parts.depth} and model.kernel_size={kernel_size} would look back {past} steps in "
            "one convolution: use fewer blocks, or set model.period, after which the dilation begins again at 1"
        )
    widths, features = parts.widths(), input_shape[1]

    def unit(index: int, width_in: int) -> TemporalUnit:
        dilation = 2 ** (index % (period or parts.depth))
        convolution = partial(Conv1d, kernel_size=kernel_size, dilation=dilation, bias=bias)
        return TemporalUnit(
            parts,
            index,
            parts.depth,
            width_in,
            widths[index],
            [convolution] * CONVOLUTIONS,
            partial(Linear, bias=bias),
            position=norm_position or "pre",
        )

    stem: nn.Module = nn.Identity()
    now = features
    if _needs_encoder(parts, unit(0, features)) if encoder is None else encoder:
        now = widths[0]
        stem = linear = Linear(features, now, bias)
        attach(parts.norm(now), linear)  # a normalisation of weights goes onto every map
    blocks: list[nn.Module] = []
    for index in range(parts.depth):
        blocks.append(parts.skip(unit(index, now)))
        now = getattr(blocks[-1], "width_out", now)
    ending: list[nn.Module | None] = []
    if getattr(blocks[0], "preactivated", False):
        ending, now = closing(parts, now)
    if not parts.every_step:
        ending.append(MeanOverPositions() if readout == "mean" else LastStates())
    head = nn.Sequential(*(module for module in ending if module is not None), Linear(now, outputs))
    network = Network(stem, blocks, head)
    network.any_length, network.has_states = True, False
    return network


def receptive_field(kernel_size: int, depth: int, period: int | None = None) -> int:
    """Steps that an output depends on, the present among them: 1 + 2(k − 1)(2^L − 1) where `period` is null.

    >>> receptive_field(kernel_size=7, depth=8)
    3061
    """
    dilations = (1 << index % (period or depth) for index in range(depth))
    return 1 + CONVOLUTIONS * (kernel_size - 1) * sum(dilations)


class TemporalUnit(LayerUnit):
    """A unit of causal convolutions, in tokens [B, T, F].

    A bare branch ends with an activation like a whole layer (Bai et al. 2018, figure 1 b), and another one follows the
    addition. Shortcuts and gates are linear maps of each step by itself, that is 1×1 convolutions.
    """

    def branch(self, order: Order, *, normalized: bool = True, scalar_biases: bool = False) -> Branch:
        if order == "bare":
            self._units_of_a_sum(self.parts.activation())
            order = "layer"
        return super().branch(order, normalized=normalized, scalar_biases=scalar_biases)

    def gate(self, *, pointwise: bool = True) -> Map:
        return super().gate(pointwise=True)

    def _placed(self, linear: Map) -> nn.Module:
        return Causal(linear) if isinstance(linear, Conv1d) else linear


def _needs_encoder(parts: Parts, unit: TemporalUnit) -> bool:
    """Whether a skip cannot begin with the features of the input."""
    try:
        return getattr(parts.skip(unit), "preactivated", False)
    except ValueError:  # if the width is not to blame, it comes again
        return True
