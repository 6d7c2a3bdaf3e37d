"""The transformer's encoder, over patches of an image or the pixels of a sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.checked import Several
from gradflow.models.assemble import MeanOverPositions
from gradflow.models.layers import Branch, Linear, Map, acts_on_activations, attach
from gradflow.models.network import Network
from gradflow.models.parts import Parts, units_in
from gradflow.models.skips import DeepNorm
from gradflow.models.units import Order, Position, Shortcut

SINUSOID_BASE = 10_000  # Vaswani et al. 2017, section 3.5


def transformer_encoder(
    input_shape: tuple[int, ...],
    outputs: int,
    parts: Parts,
    /,
    *,
    heads: Several = 4,
    patch: Several = 4,
    expansion: Several = 4,
    bias: bool = True,
    norm_position: Position | None = None,
) -> Network:
    """A linear embedding with sinusoidal positions, `depth` encoder layers, the mean over tokens, a linear head.

    A block is one layer of Vaswani et al. 2017, section 3.1: self-attention and a feed-forward network, each inside its
    own skip. `norm_position=post` with `skip=residual norm=layer` is the paper's LN(x + F(x)); 'pre' is x + F(LN(x))
    with one more norm before the head (Xiong et al. 2020, figure 1), whatever the skip; `skip=deepnorm` has its own.

    Args:
        input_shape: an image [channels, height, width] is cut into patches, a sequence [steps, features] is taken
            step by step.
        outputs: units of the head.
        parts: what blocks are made of; the activation is the feed-forward network's.
        heads: of the attention; must divide the width.
        patch: side of a patch in pixels; must divide height and width.
        expansion: width of the feed-forward network as a multiple of the model's.
        bias: whether linear maps have one; the head always does.
        norm_position: 'pre' (meant by null) or 'post'.

    Raises:
        ValueError: if a number does not divide, widths differ, or parts do not go together.
    """
    width = parts.width if isinstance(parts.width, int) else _one(parts.widths())
    if width % heads:
        raise ValueError(f"model.heads={heads} does not divide width={width}: choose a divisor")
    position: Position = norm_position or "pre"
    linear = partial(Linear, bias=bias)

    def block(index: int) -> nn.Module:
        def unit(place: int, make: Callable[[], Sublayer]) -> SublayerUnit:
            return SublayerUnit(parts, 2 * index + place, 2 * parts.depth, width, position, make, linear)

        attention = partial(Attention, width, heads, linear, parts.norm)
        feed_forward = partial(FeedForward, width, expansion * width, linear, parts)
        skips = [parts.skip(unit(0, attention)), parts.skip(unit(1, feed_forward))]
        if any(skip.width_out != width for skip in skips):
            raise ValueError("skip=dense makes blocks wider, which model=transformer_encoder cannot: use skip=residual")
        return nn.Sequential(*skips)

    blocks = [block(index) for index in range(parts.depth)]
    brings_its_own = isinstance(blocks[0][0], DeepNorm)  # type: ignore[index]
    ending = [parts.norm(width)] if position == "pre" and not brings_its_own else []
    ending = [norm for norm in ending if acts_on_activations(norm)]
    head = nn.Sequential(*ending, MeanOverPositions(), Linear(width, outputs))
    return Network(_stem(input_shape, patch, width, linear), blocks, head)


class SublayerUnit:
    """A unit of one sub-layer, attention or feed-forward, in tokens [B, T, F].

    The order of the parts inside is the sub-layer's own; `position` says where the norm is: before the sub-layer or
    after the addition.
    """

    changes_shape = False

    def __init__(
        self,
        parts: Parts,
        index: int,
        count: int,
        width: int,
        position: Position,
        make: Callable[[], Sublayer],
        linear: Callable[..., Linear],
    ) -> None:
        self.parts, self.index, self.count, self.position = parts, index, count, position
        self.width_in = self.width_out = width
        self.make, self.linear = make, linear

    def branch(self, order: Order, *, normalized: bool = True, scalar_biases: bool = False) -> Branch:
        if scalar_biases:
            raise ValueError("skip=fixup_scalar is for layers of maps and activations: use skip=rezero or skipinit")
        sublayer = self.make()
        norm = self._norm() if normalized and self.position == "pre" else None
        return Branch([norm, sublayer, self.parts.drop()], sublayer.maps)

    def after_sum(self, order: Order) -> nn.Module:
        return (self._norm() if self.position == "post" else None) or nn.Identity()

    def norm_after(self) -> nn.Module:
        return self.parts.norm(self.width_out)

    def shortcut(self, kind: Shortcut, *, normalized: bool = True) -> nn.Module:
        if kind != "projection_everywhere":
            return nn.Identity()
        linear = self.linear(self.width_in, self.width_out)
        linear.role = "shortcut"
        attach(self.parts.norm(self.width_out), linear)  # one of weights; others have their place in the sub-layer
        return linear

    def halve(self) -> nn.Module:
        return nn.Identity()

    def gate(self, *, pointwise: bool = False) -> Map:
        linear = self.linear(self.width_in, self.width_out, bias=True)
        linear.role = "gate"
        return linear

    def _norm(self) -> nn.Module | None:
        norm = self.parts.norm(self.width_out)
        return norm if acts_on_activations(norm) else None


class Sublayer(nn.Module):
    """What a branch of the encoder holds.

    Attributes:
        maps: the linear maps that carry its signal, in order.
    """

    maps: tuple[Map, ...]


class Attention(Sublayer):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2): [B, T, F] to the same.

    Queries, keys, values and output have a map each, so that initialisers see each with its own fans.
    """

    def __init__(self, width: int, heads: int, linear: Callable[..., Linear], norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = linear(width, width), linear(width, width)
        self.value, self.out = linear(width, width), linear(width, width)
        self.query.role = self.key.role = "query_key"
        for each in (self.query, self.key, self.value, self.out):
            attach(norm(width), each)
        self.maps = (self.value, self.out)

    def forward(self, x_BTF: Tensor) -> Tensor:
        q, k, v = (
            each(x_BTF).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        mixed: Tensor = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(Sublayer):
    """map → activation → map, each token alone (Vaswani et al. 2017, eq. 2): [B, T, F] to the same."""

    def __init__(self, width: int, hidden: int, linear: Callable[..., Linear], parts: Parts) -> None:
        super().__init__()
        self.activation = parts.activation()
        self.first = linear(width, units_in(self.activation, hidden))
        self.second = linear(hidden, width)
        for each in (self.first, self.second):
            attach(parts.norm(width), each)
        self.drop = parts.drop() or nn.Identity()
        self.maps = (self.first, self.second)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.drop(self.activation(self.first(x))))  # type: ignore[no-any-return]


class Patches(nn.Module):
    """Images [B, C, H, W] to flattened patches [B, T, C·side²], row by row."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return functional.unfold(x, self.side, stride=self.side).transpose(1, 2)


class Positions(nn.Module):
    """x + the sinusoids of Vaswani et al. 2017, section 3.5: even features sine, odd ones cosine."""

    table: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        place = torch.arange(tokens, dtype=torch.float64)[:, None]
        pair = torch.arange(width, dtype=torch.float64) // 2
        angle = place * torch.exp(-math.log(SINUSOID_BASE) * 2 * pair / width)
        odd = torch.arange(width) % 2 == 1
        table = torch.where(odd, angle.cos(), angle.sin())
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


def _stem(input_shape: tuple[int, ...], patch: int, width: int, linear: Callable[[int, int], Linear]) -> nn.Module:
    if len(input_shape) == 3:
        channels, height, side = input_shape
        if height % patch or side % patch:
            raise ValueError(f"model.patch={patch} does not divide an image of {height}×{side}: choose a divisor")
        tokens, features = (height // patch) * (side // patch), channels * patch**2
        return nn.Sequential(Patches(patch), linear(features, width), Positions(tokens, width))
    if len(input_shape) == 2:
        tokens, features = input_shape
        return nn.Sequential(linear(features, width), Positions(tokens, width))
    raise ValueError(
        f"model=transformer_encoder needs images or sequences, but an example has shape {list(input_shape)}: "
        "set task.view=image or sequence, or choose an image task"
    )


def _one(widths: list[int]) -> int:
    if len(set(widths)) > 1:
        raise ValueError(f"width={widths}: model=transformer_encoder has one width for all blocks; give one number")
    return widths[0]
