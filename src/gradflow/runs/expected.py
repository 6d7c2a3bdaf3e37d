"""A network at initialisation as theory expects it: the laws of its blocks, and the signal that enters the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from gradflow.models.initializers import LSUV_TOLERANCE, lsuv
from gradflow.models.network import Network
from gradflow.runs.laws import Described, Init, describe
from gradflow.runs.phis import known
from gradflow.theory.law import Law, Signal
from gradflow.theory.laws import stem


def expected(
    network: Network, init: Init, activation: Callable[[], nn.Module], word: str, skip: dict[str, Any], batch: int
) -> tuple[Described, Signal]:
    """A network, and the signal at its stem's output for standardised inputs.

    Args:
        network: on any device; its weights' values do not matter.
        init: its initialiser.
        activation: makes its activation.
        word: the activation's.
        skip: the config's, with the numbers that skips begin with.
        batch: examples in a training step.

    Raises:
        ValueError: in a sentence that says why theory does not apply.
    """
    if not isinstance(network, Network):
        raise ValueError("the network is not one of gradflow's")
    described = describe(network, init, known(activation(), word), activation, skip, batch)
    square = 1.0 + described.input_noise
    if _function(init) is not lsuv:
        return described, stem(described.stem, square)
    return _unit_variance(described, square, init)


def _unit_variance(described: Described, square: float, init: Init) -> tuple[Described, Signal]:
    """With the weights that `lsuv` leaves: each map divided so that its outputs have variance 1, unless they have it
    within the tolerance."""
    tolerance = getattr(init, "keywords", {}).get("tolerance", LSUV_TOLERANCE)

    def divided(law: Any, signal: Signal) -> Law:
        q = law.step(signal).q
        if abs(q - 1) <= tolerance or q == 0:
            return law  # type: ignore[no-any-return]
        if getattr(law, "maps", 1) > 1:
            raise ValueError("init=lsuv is covered for blocks of one map")
        gate = {"gate_sigma_w2": law.gate_sigma_w2 / q} if hasattr(law, "gate_sigma_w2") else {}
        return replace(law, sigma_w2=law.sigma_w2 / q, **gate)  # type: ignore[no-any-return]

    first = divided(described.stem, Signal(square))
    start = signal = stem(first, square)
    blocks = []
    for law in described.blocks:
        blocks.append(divided(law, signal))
        signal = blocks[-1].step(signal).signal
    drawn = replace(described.variances, sigma_w2=float(getattr(blocks[-1], "sigma_w2")))  # noqa: B009
    return replace(described, stem=first, blocks=blocks, variances=drawn), start


def _function(init: Callable[..., Any]) -> Callable[..., Any]:
    return init.func if isinstance(init, partial) else init
