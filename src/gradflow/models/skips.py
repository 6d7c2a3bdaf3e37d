"""Skip connections. Each is a function that puts one together around a unit (see `units`)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gradflow.checked import BelowOne, NonNegative, Positive, Share
from gradflow.models.layers import Branch, Map, acts_on_activations
from gradflow.models.units import Order, ScalarBias, Shortcut, Unit

MOST_FEATURES = 16_384  # that a dense skip's block may give: at 64 a block, the stem's and those of 255 blocks
DEPTH: Literal["1/sqrt(depth)"] = "1/sqrt(depth)"
Gate = Literal["exclusive", "shortcut_only"]


class Block(nn.Module):
    """What a skip makes of a unit.

    Attributes:
        width_out: features of its output.
        preactivated: whether it begins with a normalisation and an activation of its input, so that the stem must not
            end with them and the head must begin with them.
        residual: whether something goes around its branch.
        branch: its layers.
    """

    preactivated: bool = False
    residual: bool = True
    branch: Branch

    def __init__(self, width_out: int) -> None:
        super().__init__()
        self.width_out = width_out


def none(unit: Unit, /) -> Block:
    """The layers alone."""
    return Plain(unit)


def residual(unit: Unit, /, *, shortcut: Shortcut = "zero_pad") -> Block:
    """φ(x + F(x)), the activation after the addition (He et al. 2016, eq. 1 and figure 2).

    Args:
        shortcut: how x changes its shape where F does: 'zero_pad' takes every second position and pads new features
            with zeros (option A, the paper's for CIFAR), 'projection' a linear map (option B), 'identity' refuses.
            'projection_everywhere' is a linear map in every block, 1×1 for images, with the block's norm after it
            (option C; the "1×1 conv shortcut" of He et al. 2016b, section 3.1), so that nothing is carried unchanged.

    Raises:
        ValueError: if the shortcut cannot span the change, or the activation changes the number of units.
    """
    return Residual(unit, "bare", shortcut)


def preact_residual(unit: Unit, /, *, shortcut: Shortcut = "zero_pad") -> Block:
    """x + F(x) with norm and activation before each map (He et al. 2016b, eqs. 3 and 5, figure 1b).

    Nothing follows the addition: ∂L/∂x_l = ∂L/∂x_L (1 + ∂/∂x_l ΣF), so that the gradient reaches every block. The first
    shortcut carries the stem's bare map, as in the analysis of De & Smith 2020; He et al. 2016b (section 3.3) apply the
    first norm and activation before the two paths part.

    Args:
        shortcut: see `residual`.
    """
    return Residual(unit, "preactivation", shortcut)


def scaled_residual(
    unit: Unit,
    /,
    *,
    branch_scale: Positive | Literal["1/sqrt(depth)"] = DEPTH,
    shortcut_scale: NonNegative = 1.0,
    shortcut: Shortcut = "zero_pad",
) -> Block:
    """λ x + β F(x), pre-activated.

    Args:
        branch_scale: β; '1/sqrt(depth)' is 1/√L for L skip connections, under which the signal and the gradient stay
            bounded whatever the depth (Hayou et al. 2021, section 3).
        shortcut_scale: λ; other than 1, the gradient through the shortcuts is multiplied by λ^L (He et al. 2016b,
            eq. 8).
        shortcut: see `residual`.
    """
    scale = unit.count**-0.5 if branch_scale == DEPTH else float(branch_scale)
    return Residual(unit, "preactivation", shortcut, scale, shortcut_scale)


def scaled_shortcut(
    unit: Unit,
    /,
    *,
    shortcut_scale: NonNegative = 0.5,
    branch_scale: Positive = 0.5,
    dropout: BelowOne = 0.0,
    shortcut: Shortcut = "zero_pad",
) -> Block:
    """φ(λ D(x) + β F(x)), the activation after the addition (He et al. 2016b, section 3.1, figure 2 b and f).

    `residual` with its shortcut scaled by a constant or by dropout; `scaled_residual` is the pre-activated one. With
    F = 0 and no activation the gradient of the first block is λ^L times that of the last (eq. 8). The defaults are the
    paper's "frozen gating", the only constants other than 1 with which its ResNet-110 trained.

    Args:
        shortcut_scale: λ.
        branch_scale: β.
        dropout: share of the carried units set to zero while training; those that stay are divided by the share that
            stays, so that the shortcut's expected scale is λ. (The paper's dropout has expectation 1 − dropout: give λ
            that value.)
        shortcut: see `residual`.

    Raises:
        ValueError: see `residual`.
    """
    block = Residual(unit, "bare", shortcut, float(branch_scale), float(shortcut_scale))
    if dropout:
        block.shortcut = nn.Sequential(block.shortcut, nn.Dropout(dropout))
    return block


def gated_shortcut(
    unit: Unit,
    /,
    *,
    gate: Gate = "exclusive",
    gate_bias: float = -6.0,
    shortcut: Shortcut = "zero_pad",
) -> Block:
    """A residual block with a gate g(x) = σ(W x + b) on its shortcut (He et al. 2016b, section 3.1, figure 2 c and d).
    W is a 1×1 convolution; of vectors and tokens, a linear map.

    'exclusive': φ(g(x) F(x) + (1 − g(x)) x), which is `highway` with a bare branch and the activation after the sum.
    'shortcut_only': φ(F(x) + (1 − g(x)) x). Where the block changes shape, x is what `shortcut` makes of it and the
    gate's convolution has the block's stride. The gate has no norm.

    Args:
        gate: which of the two.
        gate_bias: b to begin with; the more negative, the closer the shortcut is to an identity; −6 is the best in
            the paper's table 1, for both gates.
        shortcut: see `residual`.

    Raises:
        ValueError: see `residual`.
    """
    return GatedShortcut(unit, gate, gate_bias, shortcut)


def rezero(unit: Unit, /, *, alpha: float = 0.0, shortcut: Shortcut = "zero_pad") -> Block:
    """x + α F(x) with one learnt number α per skip (Bachlechner et al. 2021, eq. 1).

    Args:
        alpha: to begin with; 0 makes every block the identity.
        shortcut: see `residual`.
    """
    return LearntScale(unit, "layer", shortcut, alpha)


def skipinit(
    unit: Unit,
    /,
    *,
    alpha: float | Literal["1/sqrt(depth)"] = 0.0,
    shortcut: Shortcut = "zero_pad",
) -> Block:
    """x + α F(x), pre-activated, with a learnt number α at the end of each branch: what batch normalisation does for
    a residual network's initialisation, without it (De & Smith 2020, section 3).

    Args:
        alpha: to begin with: 0, or '1/sqrt(depth)' for 1/√L.
        shortcut: see `residual`.
    """
    return LearntScale(unit, "preactivation", shortcut, unit.count**-0.5 if alpha == DEPTH else float(alpha))


def fixup_scalar(unit: Unit, /, *, shortcut: Shortcut = "zero_pad") -> Block:
    """φ(x + s F(x) + b): the scalars of Fixup (Zhang et al. 2019, section 3.1 and figure 1, right).

    One learnt number is added before every linear map and every activation and after the branch, and one multiplies
    the branch. Stem and head have none: their own biases do for them. To be used with `init=fixup`, whose rules 1 and 2
    it completes.

    Args:
        shortcut: see `residual`.
    """
    return FixupScalar(unit, shortcut)


def highway(unit: Unit, /, *, gate_bias: float = -2.0) -> Block:
    """T(x) H(x) + (1 − T(x)) x with T(x) = σ(W_T x + b_T) (Srivastava et al. 2015, eq. 3).

    Args:
        gate_bias: b_T to begin with; negative, so that the block mostly carries x (section 2.2: −1, −3 …).

    Raises:
        ValueError: if the block changes shape: a gate mixes equals.
    """
    if unit.changes_shape:
        raise ValueError(
            f"skip=highway mixes x and H(x), but a block goes from {unit.width_in} to {unit.width_out} units or "
            "changes size: choose one width for all blocks and one stage"
        )
    return Highway(unit, gate_bias)


def dense(unit: Unit, /) -> Block:
    """[x, F(x)]: every block reads what all blocks before it gave (Huang et al. 2017, eq. 2); `width` is the growth
    rate k. The order is the paper's, norm → activation → map; where the size halves, x is averaged.

    Raises:
        ValueError: if a block would give more than 16,384 features.
    """
    return Dense(unit)


def stochastic_depth(unit: Unit, /, *, survival: Share = 0.5, shortcut: Shortcut = "zero_pad") -> Block:
    """φ(x + b F(x)), b one with probability p_l and else zero, for a whole batch; p_l F(x) at evaluation (Huang et al.
    2016, eqs. 2, 4, 5). b is drawn anew at every step from torch's global generator.

    A dropped branch is multiplied by zero, not left out: its gradient is a zero, its batch norm's running statistics
    move, and no time is saved.

    Args:
        survival: p_L of the last block; p_l falls to it linearly from 1 (eq. 4; 0.5 as in section 4).
        shortcut: see `residual`.
    """
    return StochasticDepth(unit, survival, shortcut)


def deepnorm(unit: Unit, /) -> Block:
    """N(α x + F(x)) with α = L^¼ for L skip connections and no norm inside F (Wang et al. 2022, figure 2).

    An encoder of N layers has L = 2N of them: α = (2N)^¼. To be used with `init=deepnorm`.
    """
    return DeepNorm(unit)


class Plain(Block):
    """F(x), and what follows where a sum would be."""

    residual = False

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit.width_out)
        self.branch = unit.branch("layer")
        self.after = unit.after_sum("layer")

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.branch(x))  # type: ignore[no-any-return]


class Residual(Block):
    """after(λ·shortcut(x) + β·branch(x))."""

    def __init__(
        self, unit: Unit, order: Order, shortcut: Shortcut, scale: float = 1.0, shortcut_scale: float = 1.0
    ) -> None:
        super().__init__(unit.width_out)
        self.preactivated = order == "preactivation"
        self.shortcut = unit.shortcut(shortcut, normalized=not self.preactivated)
        self.branch = unit.branch(order)
        self.after = unit.after_sum(order)
        self.scale, self.shortcut_scale = scale, shortcut_scale

    def forward(self, x: Tensor) -> Tensor:
        carried, added = self.shortcut(x), self.branch(x)
        if self.shortcut_scale != 1:
            carried = self.shortcut_scale * carried
        return self.after(carried + (added if self.scale == 1 else self.scale * added))  # type: ignore[no-any-return]


class LearntScale(Block):
    """after(shortcut(x) + α·branch(x))."""

    def __init__(self, unit: Unit, order: Order, shortcut: Shortcut, alpha: float) -> None:
        super().__init__(unit.width_out)
        self.preactivated = order == "preactivation"
        self.shortcut = unit.shortcut(shortcut, normalized=not self.preactivated)
        self.branch = unit.branch(order)
        self.after = unit.after_sum(order)
        self.alpha = nn.Parameter(torch.full((), float(alpha)))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.shortcut(x) + self.alpha * self.branch(x))  # type: ignore[no-any-return]


class FixupScalar(Block):
    """φ(shortcut(x) + s·branch(x) + b), with scalar biases inside the branch."""

    def __init__(self, unit: Unit, shortcut: Shortcut) -> None:
        super().__init__(unit.width_out)
        self.shortcut = unit.shortcut(shortcut)
        self.branch = unit.branch("bare", scalar_biases=True)
        self.scale = nn.Parameter(torch.ones(()))
        self.bias = ScalarBias()
        self.after = unit.after_sum("bare")

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.bias(self.shortcut(x) + self.scale * self.branch(x)))  # type: ignore[no-any-return]


class Highway(Block):
    """T·H + (1 − T)·x."""

    def __init__(self, unit: Unit, gate_bias: float) -> None:
        super().__init__(unit.width_out)
        self.branch = unit.branch("layer")
        self.gate: Map = unit.gate()
        assert self.gate.bias is not None
        nn.init.constant_(self.gate.bias, gate_bias)
        self.after = unit.after_sum("layer")

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.gate(x))
        return self.after(x + t * (self.branch(x) - x))  # type: ignore[no-any-return]


class GatedShortcut(Block):
    """φ(F + (1 − g)·shortcut(x)), or φ(g·F + (1 − g)·shortcut(x)) where the gate is exclusive."""

    def __init__(self, unit: Unit, gate: Gate, gate_bias: float, shortcut: Shortcut) -> None:
        super().__init__(unit.width_out)
        self.exclusive = gate == "exclusive"
        self.shortcut = unit.shortcut(shortcut)
        self.branch = unit.branch("bare")
        self.gate: Map = unit.gate(pointwise=True)
        assert self.gate.bias is not None
        nn.init.constant_(self.gate.bias, gate_bias)
        self.after = unit.after_sum("bare")

    def forward(self, x: Tensor) -> Tensor:
        g, carried, added = torch.sigmoid(self.gate(x)), self.shortcut(x), self.branch(x)
        if self.exclusive:
            added = g * added
        return self.after(carried - g * carried + added)  # type: ignore[no-any-return]


class Dense(Block):
    """[x, F(x)]."""

    preactivated = True

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit.width_in + unit.width_out)
        if self.width_out > MOST_FEATURES:
            raise ValueError(
                f"skip=dense: block {unit.index} of {unit.count} would give {self.width_out} features, more than "
                f"{MOST_FEATURES}: use fewer blocks or a smaller width, which is the growth rate"
            )
        self.halve = unit.halve()
        self.branch = unit.branch("preactivation")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.halve(x), self.branch(x)], dim=-1 if x.ndim == 3 else 1)


class StochasticDepth(Block):
    """φ(x + b·F(x))."""

    def __init__(self, unit: Unit, survival: float, shortcut: Shortcut) -> None:
        super().__init__(unit.width_out)
        self.shortcut = unit.shortcut(shortcut)
        self.branch = unit.branch("bare")
        self.after = unit.after_sum("bare")
        self.survival = 1 - (unit.index + 1) / unit.count * (1 - survival)

    def forward(self, x: Tensor) -> Tensor:
        added = self.branch(x)
        kept = (torch.rand((), device=x.device) < self.survival).to(x.dtype) if self.training else self.survival
        return self.after(self.shortcut(x) + kept * added)  # type: ignore[no-any-return]


class DeepNorm(Block):
    """N(α·x + F(x))."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit.width_out)
        self.shortcut = unit.shortcut("projection", normalized=False)
        self.branch = unit.branch("layer", normalized=False)
        self.norm = unit.norm_after()
        if not acts_on_activations(self.norm):
            raise ValueError("skip=deepnorm normalises the sum: choose norm=layer, or another that acts on activations")
        self.alpha = unit.count**0.25

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.alpha * self.shortcut(x) + self.branch(x))  # type: ignore[no-any-return]
