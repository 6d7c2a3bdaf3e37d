"""Single changes of a network that would keep its gradient, by theory alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.parts import Parts
from gradflow.runs import pairs
from gradflow.runs.build import Pieces, factory
from gradflow.runs.config import Config
from gradflow.runs.expected import expected
from gradflow.runs.identity import labels
from gradflow.theory.law import Signal

MOST = 5
BLOCKS = 2  # of the network that is put together for each candidate: its last one is gone through again and again
TIMES = 30  # at most
SETTLED = 1e-3  # change of χ₁ from one block to the next
BETTER = 0.5  # a cure leaves at most this share of |ln χ₁|
GOOD = 0.02  # |ln χ₁| per block that needs no cure
# By factor, in the order in which equals are told.
CANDIDATES: dict[str, dict[str, Callable[..., Any]]] = {
    "init": {
        "he_normal": initializers.he_normal,
        "lecun_normal": initializers.lecun_normal,
        "glorot_normal": initializers.glorot_normal,
        "orthogonal": initializers.orthogonal,
    },
    "norm": {"layer": norms.layer, "batch": norms.batch},
    "skip": {
        "preact_residual": skips.preact_residual,
        "scaled_residual": skips.scaled_residual,
        "highway": skips.highway,
    },
    "activation": {"relu": activations.relu, "tanh": activations.tanh, "selu": activations.selu},
}


def cures(config: Config, found: dict[str, Any], pieces: Pieces) -> list[dict[str, Any]]:
    """Changes of one factor that at least halve |ln χ₁|, best first; nothing where there is nothing to cure.

    Args:
        config: of the network.
        found: what is predicted of it.
        pieces: its own.
    """
    chi = found["chi"]
    if chi is None or chi <= 0 or abs(math.log(chi)) < GOOD:
        return []
    made = [
        {"key": key, "value": value, "instead": instead, "chi": other, "chi_instead": chi}
        for key, value, instead, other in _tried(config, found, pieces)
        if other > 0 and abs(math.log(other)) <= BETTER * abs(math.log(chi))
    ]
    return sorted(made, key=lambda cure: round(abs(math.log(cure["chi"])), 2))[:MOST]


def _tried(config: Config, found: dict[str, Any], pieces: Pieces) -> Iterator[tuple[str, str | float, Any, float]]:
    """(key, value, what it is instead of, χ₁) of every candidate that the theory covers."""
    told, critical = labels(config), found["critical_sigma_w2"]
    if told["init"] == "mean_field" and critical is not None:
        yield "init.sigma_w2", float(f"{critical:.4g}"), told["init.sigma_w2"], 1.0
    chosen = {name: factory(name, getattr(config, name)) for name in ("model", *CANDIDATES)}
    for key, values in CANDIDATES.items():
        for value, definition in values.items():
            if told[key] == value:
                continue
            node = {"_target_": f"{definition.__module__}.{definition.__name__}"}
            if pairs.refused(config.model_copy(update={key: node})):
                continue
            if value == "scaled_residual":
                definition = partial(definition, branch_scale=config.depth**-0.5)
            other = _chi(config, {**chosen, key: definition}, config.skip if key != "skip" else node, pieces)
            if other is not None:
                yield key, value, told[key], other


def _chi(config: Config, chosen: dict[str, Any], skip: dict[str, Any], pieces: Pieces) -> float | None:
    """χ₁ of a block far from the input; None where theory or the parts refuse."""
    width, task = config.width if isinstance(config.width, int) else config.width[-1], pieces.task
    activation, norm = chosen["activation"], chosen["norm"]
    parts = Parts(BLOCKS, width, activation, norm, chosen["skip"], config.dropout, every_step=task.every_step)
    word = str(labels(config)["activation"])
    try:
        with torch.device("meta"):
            network = chosen["model"](task.input_shape, task.outputs, parts)
        described, start = expected(network, chosen["init"], activation, word, skip, task.batch_size)
    except ValueError:
        return None
    batched = getattr(described.blocks[-1], "norm", None).__class__.__name__ == "BatchNorm"
    now = start if batched else Signal(start.p, 1.0, start.mean)  # of one example: no double integrals
    chi = 0.0
    for _ in range(min(config.depth, TIMES)):
        try:
            step = described.blocks[-1].step(now)
        except ValueError:  # the signal has died, or has grown without bound
            break
        settled, chi, now = abs(step.chi - chi) < SETTLED, step.chi, step.signal
        if settled:
            break
    return chi
