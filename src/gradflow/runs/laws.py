"""Which law of the theory each block of a network obeys, read off the network itself, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gradflow.models import skips
from gradflow.models.assemble import MeanOverPositions
from gradflow.models.initializers import delta_orthogonal, lsuv, orthogonal
from gradflow.models.layers import Branch, Conv2d, Linear, Map, Reparametrization
from gradflow.models.network import InputNoise, Network
from gradflow.models.norms import BatchNorm, GroupNorm, InstanceNorm, RMSNorm, StandardizedWeight, WeightNorm
from gradflow.models.norms import SpectralNorm as Spectral
from gradflow.models.units import ScalarBias
from gradflow.models.weights import Weight, weights
from gradflow.runs.phis import Known
from gradflow.runs.variances import Variances, spectral, variances
from gradflow.theory import laws, norms
from gradflow.theory.law import Law

FEW = 16  # features of a group below which its statistics fluctuate too much
Init = Callable[[Weight, torch.Generator], None]


@dataclass(frozen=True)
class Described:
    """A network as theory sees it.

    Attributes:
        stem: its law.
        blocks: the law of each.
        head: from the last block's output to the network's.
        fans: fan_in of each block's last map.
        widths: features of the stem's output, and of every block's but the last.
        orthogonal: whether weights are.
        biases: whether maps have one.
        variances: of the last block's first map, as drawn; with a normalisation of weights, as used.
        input_noise: variance of what is added to inputs.
        plain: whether blocks are layers without norm and dropout, which have a fixed point of their own.
        parameters: whether the theory covers the parameters' gradients too.
        notes: what is assumed, a sentence each.
    """

    stem: Law
    blocks: list[Law]
    head: Law
    fans: list[int]
    widths: list[int]
    orthogonal: bool
    biases: bool
    variances: Variances
    input_noise: float
    plain: bool
    parameters: bool
    notes: list[str]


def describe(
    network: Network,
    init: Init,
    known: Known,
    activation: Callable[[], nn.Module],
    skip: dict[str, Any],
    batch: int,
) -> Described:
    """Read a network.

    Args:
        network: on any device; its weights' values do not matter.
        init: its initialiser, which is not `lsuv` (see `gradflow.runs.prediction`).
        known: its activation.
        activation: makes it.
        skip: the config's, with the numbers that skips begin with.
        batch: examples in a training step.

    Raises:
        ValueError: in a sentence that says why no law fits.
    """
    reader = _Reader(network, init, known, activation, skip, batch)
    blocks = [reader.block(block) for block in network.blocks]
    stem = reader.stem(network.stem)
    maps = [_maps(block) for block in network.blocks]
    if reader.convolutional:
        reader.notes.append("positions of an image are taken to be alike")
    if any(isinstance(module, RMSNorm | GroupNorm | BatchNorm) for module in network.modules()):
        reader.notes.append("gradients of norms' own scales and shifts are left out of the parameters'")
    first = maps[-1][0]
    return Described(
        stem,
        blocks,
        reader.head(network.head),
        [reader.weight(row[-1]).fan_in for row in maps],
        [row[0].weight.shape[1] for row in maps],
        getattr(init, "func", init) in (orthogonal, delta_orthogonal, lsuv),
        first.bias is not None,
        reader.variances(first),
        sum(module.std**2 for module in network.modules() if isinstance(module, InputNoise)),
        all(isinstance(law, laws.Plain) and law == laws.Plain(law.phi, law.sigma_w2, law.sigma_b2, law.kinks)
            for law in blocks),
        not reader.convolutional,
        list(dict.fromkeys(reader.notes)),
    )  # fmt: skip


class _Reader:
    """What is needed to read one block after the other."""

    def __init__(
        self, network: Network, init: Init, known: Known, activation: Any, skip: dict[str, Any], batch: int
    ) -> None:
        self.init, self.known, self.skip, self.batch = init, known, skip, batch
        self.notes: list[str] = [known.note] if known.note else []
        self.blocks = network.blocks
        self.convolutional = any(isinstance(module, Conv2d) for module in network.modules())
        self._weights = {id(weight.tensor): weight for weight in weights(network, activation)}
        self._variances: dict[tuple[Any, ...], Variances] = {}

    def weight(self, linear: Map) -> Weight:
        return self._weights[id(linear.weight)]

    def variances(self, linear: Map) -> Variances:
        """Those with which a map begins, after any normalisation of its weights."""
        weight = self.weight(linear)
        shape = tuple(weight.tensor.shape)
        key = (
            shape,
            weight.bias is None,
            weight.role,
            weight.branches,
            weight.layers,
            weight.last,
            weight.scale is None,
        )
        if key not in self._variances:
            units, meta = shape[0], torch.device("meta")
            bias = None if weight.bias is None else torch.empty(units, device=meta)
            scale = None if weight.scale is None else torch.empty(weight.scale.shape, device=meta)
            bare = replace(weight, tensor=torch.empty(shape, device=meta), bias=bias, scale=scale)
            self._variances[key] = variances(self.init, bare)
        found = self._variances[key]
        if found.measured:
            self.notes.append("σ_w² is measured from a sample of the initialiser")
        norm = linear.reparametrization
        if norm is None or isinstance(norm, WeightNorm):  # it begins as it is drawn
            return found
        if isinstance(norm, StandardizedWeight):
            return replace(found, sigma_w2=norm.gamma**2)
        if isinstance(norm, Spectral):
            self.notes.append("a spectral norm is that of a random matrix, after the iterations that it begins with")
            return replace(found, sigma_w2=spectral(self.init, shape[0], weight.fan_in, norm.iterations))
        raise ValueError(f"{type(norm).__name__} normalises weights in a way that theory here does not know")

    def stem(self, stem: nn.Module) -> Law:
        """A whole layer, or a linear map alone."""
        (linear,) = (module for module in stem.modules() if isinstance(module, Linear | Conv2d))
        found = self.variances(linear)
        if not any(isinstance(module, Branch) for module in stem.modules()):
            return laws.Linear(found.sigma_w2, found.sigma_b2)
        (branch,) = (module for module in stem.modules() if isinstance(module, Branch))
        return laws.Plain(**self._layers(branch, "layer"))

    def head(self, head: nn.Module) -> Law:
        """A linear map, behind an activation where blocks have none at their end."""
        inside = [module for module in head.modules() if not list(module.children())]
        linear = inside[-1]
        if not isinstance(linear, Linear):
            raise ValueError("its head does not end with a linear map")
        found = self.variances(linear)
        if found.sigma_w2 == 0:
            raise ValueError("the head begins as zero, so that at the first step no gradient reaches any block")
        kinds = [_kind(module) for module in inside if not isinstance(module, MeanOverPositions)]
        if kinds == ["map"]:
            return laws.Linear(found.sigma_w2, found.sigma_b2)
        rates = [module.p for module in inside if isinstance(module, nn.Dropout)]
        return laws.PreactResidual(
            self.known.phi,
            found.sigma_w2,
            found.sigma_b2,
            self.known.kinks,
            norm=self._norm(inside),
            keep=1 - max(rates, default=0.0),
            shortcut_scale=0.0,
        )

    def block(self, block: nn.Module) -> Law:
        word = type(block).__name__
        if isinstance(block, skips.Plain):
            return laws.Plain(**self._layers(block.branch, "layer"))
        if isinstance(block, skips.GatedShortcut):
            raise ValueError("with skip=gated_shortcut the gates' σ(W x + b) depend on what they multiply")
        carried = list(getattr(block, "shortcut", nn.Identity()).modules())
        if any(isinstance(module, nn.Dropout) for module in carried):
            raise ValueError("with skip.dropout units of the shortcuts are left out at random, at every step others")
        if any(isinstance(module, Linear | Conv2d) for module in carried):
            raise ValueError("a linear map on a shortcut mixes the units that it carries")
        if not all(isinstance(module, nn.Identity) for module in carried):
            raise ValueError("a shortcut between blocks of unlike shapes mixes units that are not alike")
        if isinstance(block, skips.Residual):
            scales: dict[str, Any] = {"branch_scale": block.scale, "shortcut_scale": block.shortcut_scale}
            if block.preactivated:
                return laws.PreactResidual(**self._layers(block.branch, "preactivation"), **scales)
            return laws.Residual(**self._bare(block.branch), **scales)
        if isinstance(block, skips.LearntScale):
            alpha = self.skip.get("alpha", 0.0)
            alpha = len(self.blocks) ** -0.5 if alpha == skips.DEPTH else float(alpha)
            if block.preactivated:
                return laws.PreactResidual(**self._layers(block.branch, "preactivation"), branch_scale=alpha)
            return laws.ReZero(**self._layers(block.branch, "layer"), alpha=alpha)
        if isinstance(block, skips.FixupScalar):
            return laws.Residual(**self._bare(block.branch))
        if isinstance(block, skips.Highway):
            gate, layers = self.variances(block.gate), self._layers(block.branch, "layer")
            return laws.Highway(
                **layers, gate_bias=float(self.skip.get("gate_bias", -2.0)), gate_sigma_w2=gate.sigma_w2
            )
        if isinstance(block, skips.DeepNorm):
            norm = block.norm
            if not isinstance(norm, RMSNorm) and not (isinstance(norm, GroupNorm) and norm.num_groups == 1):
                raise ValueError("skip=deepnorm is covered with norm=layer and norm=rms")
            mean = not isinstance(norm, RMSNorm)
            layers = self._layers(block.branch, "layer")
            return laws.DeepNorm(**layers, alpha=block.alpha, subtract_mean=mean, eps=float(norm.eps))
        if isinstance(block, skips.Dense):
            raise ValueError("with skip=dense a block reads all blocks before it, of widths that grow")
        if isinstance(block, skips.StochasticDepth):
            raise ValueError("with skip=stochastic_depth whole blocks are left out at random, at every step others")
        raise ValueError(f"theory here does not know blocks such as {word}")

    def _bare(self, branch: Branch) -> dict[str, Any]:
        if self.known.moments is not None:
            raise ValueError(f"activation={self.known.moments.kind} after an addition is no function of the sum")
        return self._layers(branch, "bare")

    def _layers(self, branch: Branch, order: str) -> dict[str, Any]:
        """The fields that all laws share."""
        kinds = [_kind(module) for module in branch if not isinstance(module, ScalarBias)]
        alone = [kind for kind in kinds if kind not in ("norm", "drop")]
        count = len(branch.maps)
        pattern = {
            "layer": ["map", "phi"] * count,
            "bare": [*["map", "phi"] * (count - 1), "map"],
            "preactivation": ["phi", "map"] * count,
        }[order]
        if alone != pattern:
            raise ValueError("its blocks are not made of maps and activations in an order that theory here knows")
        if "norm" in kinds and order == "layer" and kinds.index("norm") > kinds.index("phi"):
            raise ValueError("model.norm_position=post normalises what is no longer Gaussian")
        for linear in branch.maps:
            if isinstance(linear, Conv2d) and linear.padding_mode == "zeros" and max(linear.kernel_size) > 1:
                raise ValueError(
                    "with zero padding the signal leaks at the borders of images: use model.padding=circular"
                )
        found = [self.variances(linear) for linear in branch.maps]
        norm = self._norm(list(branch))
        rates = {module.p for module in branch if isinstance(module, nn.Dropout)}
        if found[-1].sigma_w2 == 0:
            norm = norms.NoNorm()  # nothing comes of the branch, whatever it would be divided by
        return {
            "phi": self.known.phi,
            "sigma_w2": found[0].sigma_w2 if count == 1 else tuple(each.sigma_w2 for each in found),
            "sigma_b2": found[0].sigma_b2,
            "kinks": self.known.kinks,
            "norm": norm,
            "keep": 1 - max(rates, default=0.0),
            "maps": count,
            "centred": any(isinstance(linear.reparametrization, StandardizedWeight) for linear in branch.maps),
        }

    def _norm(self, modules: list[nn.Module]) -> norms.Norm:
        found = [module for module in modules if _kind(module) == "norm"]
        of_moments = self.known.moments
        if not found:
            return of_moments or norms.NoNorm()
        norm = found[0]
        if isinstance(norm, BatchNorm):
            if self.convolutional:
                raise ValueError("norm=batch over the positions of images, which are correlated, is not covered")
            if of_moments is not None:
                raise ValueError(f"norm=batch is not covered with activation={of_moments.kind}")
            return norms.BatchNorm(self.batch)
        if isinstance(norm, InstanceNorm):
            raise ValueError("norm=instance divides by the deviation over positions, which are correlated")
        if isinstance(norm, GroupNorm) and norm.num_groups > 1:
            if norm.num_channels // norm.num_groups < FEW:
                raise ValueError(f"norm=group with fewer than {FEW} features in a group fluctuates too much")
            self.notes.append("groups of features are taken to be large")
        if isinstance(norm, GroupNorm | RMSNorm):
            if of_moments is not None:
                return replace(of_moments, eps=float(norm.eps))
            return norms.LayerNorm(float(norm.eps))
        raise ValueError(f"{type(norm).__name__} is no normalisation that theory here knows")


def _maps(block: nn.Module) -> tuple[Map, ...]:
    return block.branch.maps  # type: ignore[union-attr,return-value]


def _kind(module: nn.Module) -> str:
    """The word for a module of a branch."""
    if isinstance(module, Linear | Conv2d):
        return "map"
    if isinstance(module, nn.AlphaDropout):
        raise ValueError("alpha_dropout sets units to a value other than 0, which theory here does not follow")
    if isinstance(module, nn.Dropout):
        return "drop"
    if isinstance(module, BatchNorm | GroupNorm | InstanceNorm | RMSNorm):
        return "norm"
    assert not isinstance(module, Reparametrization)
    return "phi"
