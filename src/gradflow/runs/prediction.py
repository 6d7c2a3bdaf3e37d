"""What theory says of a run's gradients before it is trained. See `gradflow.theory` for what it computes."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradflow.runs.build import Pieces, assemble, factory
from gradflow.runs.config import Config
from gradflow.runs.cures import cures
from gradflow.runs.errors_alike import alike_at_the_end
from gradflow.runs.expected import expected
from gradflow.runs.identity import labels, science
from gradflow.runs.laws import Described
from gradflow.runs.record import write_json
from gradflow.runs.time_prediction import through_time
from gradflow.tasks.task import Task
from gradflow.theory.critical import critical_sigma_w2
from gradflow.theory.finite_width import finite_width
from gradflow.theory.fixed_point import fixed_point
from gradflow.theory.law import Signal
from gradflow.theory.laws import Plain
from gradflow.theory.profile import Profile, propagate
from gradflow.theory.response import Phi, is_homogeneous

FILE = "prediction.json"
NARROW = -1.0  # log10 of the share of the gradient along the signal from which on it is told
CRITICAL = 2e-3  # |χ₁ − 1| below which gradients change by less than a factor of e in 1000 blocks
IRRELEVANT = ("optimizer", "scheduler", "remedy", "trainer", "hardware", "label_smoothing", "seed")
SETTLED = 1e-6  # change of χ₁ from one block to the next
NOT_COVERED = {
    "transformer_encoder": "attention mixes tokens by weights that depend on the tokens themselves",
    "resnet": "its convolutions are padded with zeros, so that the signal leaks at the borders of images",
    "tcn": "its convolutions are padded with zeros before the first step, and blocks see ever farther back",
    "esn": "an echo state network is not trained by gradients through its blocks",
}
FOUND = ("chi", "q", "c", "xi_c", "xi_q", "xi_gradient", "trainable_depth", "phase", "sigma_w2", "sigma_b2")
BY_BLOCK = ("delta", "grad", "log10_delta", "log10_grad", "band")

_known: dict[str, dict[str, Any]] = {}  # a worker trains many runs that differ in their seed alone


def predict(config: Config, pieces: Pieces | None = None) -> dict[str, Any]:
    """The gradient in every block at initialisation, and what would bring it nearer to the last block's.

    Args:
        config: of the run.
        pieces: what it is made of, where that is known already.

    Returns:
        What a record's prediction.json holds, with numbers that are not finite, or not known, as None:
        applies, and why_not in a sentence if not;
        chi: χ₁, the factor of a block on the expected squared gradient, where the signal has settled or, if it does
            not, in the last block; q and c there, see `gradflow.theory.fixed_point`;
        xi_c, xi_q, xi_gradient: depth scales in blocks; trainable_depth: 6 ξ_c;
        phase: 'ordered', 'critical' or 'chaotic', of blocks whose signal settles;
        sigma_w2, sigma_b2: of the last block's weights and biases; critical_sigma_w2: with which χ₁ = 1;
        delta, grad: ‖∂L/∂x_l‖ of each block's output and ‖∂L/∂(W_l, b_l)‖ over a batch, relative to the last block's,
            root mean squares over draws of the weights; log10_delta, log10_grad: the same without underflow;
        band: the standard deviation of ln‖∂L/∂x_l‖ over draws of the weights;
        through_time: of recurrent networks, what happens in a step of time;
        assumptions: sentences; cures: key, value, instead, chi, chi_instead of single changes, best first.
    """
    key = _key(config)
    if key not in _known:
        _known[key] = _predict(config, pieces)
    return _known[key]


def write(path: Path, config: Config, pieces: Pieces) -> None:
    """Put prediction.json into a record. Whatever goes wrong in the theory is no fault of the run."""
    try:
        found = predict(config, pieces)
    except Exception as error:  # noqa: BLE001 - a definition from elsewhere may do anything when it is looked at
        found = _nothing(f"the theory failed ({type(error).__name__}: {error})")
    write_json(path / FILE, found)


def _predict(config: Config, pieces: Pieces | None) -> dict[str, Any]:
    word = str(labels(config)["model"])
    if config.cell is not None and word not in NOT_COVERED:
        found = _nothing("its blocks are recurrent layers, whose gradient theory follows through time")
        try:
            return found | through_time(config, assemble(config) if pieces is None else pieces)
        except ValueError as error:
            return found | {"why_not": f"its blocks are recurrent layers, and {error}"}
    if word in NOT_COVERED:
        return _nothing(NOT_COVERED[word])
    try:
        with torch.device("meta"):
            pieces = assemble(config) if pieces is None else pieces
        init, activation = factory("init", config.init), factory("activation", config.activation)
        name, batch = str(labels(config)["activation"]), pieces.task.batch_size
        described, signal = expected(pieces.network, init, activation, name, config.skip, batch)
        found = _found(described, signal, batch, pieces.task)
    except ValueError as error:
        return _nothing(str(error))
    return found | {"cures": cures(config, found, pieces)}


def _found(described: Described, signal: Signal, batch: int, task: Task) -> dict[str, Any]:
    laws = described.blocks
    options: dict[str, Any] = {"widths": described.fans, "biases": described.biases, "batch": batch}
    profile = propagate(laws, signal, **options)
    if described.parameters and task.chance_error(1) is not None and task.metric == "accuracy":
        p, c = 10.0 ** float(np.clip(profile.log10_p[-1], -250, 250)), float(profile.c[-1])
        alike = alike_at_the_end(described.head, Signal(p, c), task.outputs)
        profile = propagate(laws, signal, gradient_correlation=alike, **options)
    log10_grad = profile.log10_grad if described.parameters else None
    last = laws[-1]
    own: dict[str, Any] = {
        "chi": float(profile.chi[-1]),
        "q": float(profile.q[-1]),
        "c": float(profile.c[-1]),
        "sigma_w2": described.variances.sigma_w2,
        "sigma_b2": described.variances.sigma_b2,
    }
    if described.plain and isinstance(last, Plain) and isinstance(last.sigma_w2, float):
        point = fixed_point(last.phi, last.sigma_w2, last.sigma_b2, last.kinks)
        own |= {key: getattr(point, key) for key in ("q", "c", "chi", "xi_c", "xi_q", "xi_gradient")}
        own |= {"trainable_depth": point.trainable_depth, "phase": phase(point.chi)}
        own["band"] = _band(described, last, float(profile.q[0]))
        own["critical_sigma_w2"] = _critical(last.phi, last.sigma_b2, last.kinks)
    elif len(laws) > 2 and abs(profile.chi[-2] - profile.chi[-3]) < SETTLED:
        own["chi"] = float(profile.chi[-2])  # over a normalised batch the last block sees gradients of another kind
        own |= {"phase": phase(own["chi"]), "xi_gradient": _scale(own["chi"])}
    delta = {"delta": profile.delta, "log10_delta": profile.log10_delta}
    grad = {} if log10_grad is None else {"grad": profile.grad, "log10_grad": log10_grad}
    notes = [
        "layers are wide, their weights independent, and the gradient independent of the forward pass",
        "inputs are standardised",
        *([] if log10_grad is None else [
            "how alike two examples' gradients are, which add up to the parameters', is an average over labels"]),
        *_too_narrow(described, profile),
        *described.notes,
    ]  # fmt: skip
    empty = dict.fromkeys((*FOUND, *BY_BLOCK, "critical_sigma_w2", "through_time"))
    shown = _plain({**empty, **own, **delta, **grad})
    return {"applies": True, "why_not": None, **shown, "assumptions": notes, "cures": []}


def _too_narrow(described: Described, profile: Profile) -> list[str]:
    """For rectifiers without norms and biases x·∂L/∂x is the same at every depth (Euler): the gradient along a signal,
    a share 1/n of it all at the end, grows towards the input as the signal shrinks. Where the signal has a mean, which
    adds up from block to block, that is faster than the rest of the gradient, and no width of practice is infinite.
    """
    phi = getattr(described.blocks[-1], "phi", None)
    if phi is None or not is_homogeneous(phi):
        return []
    share = profile.log10_p[-1] - profile.log10_p - 2 * profile.log10_delta - math.log10(described.widths[-1])
    largest = float(share[np.isfinite(share)].max(initial=-math.inf))
    if largest < NARROW:
        return []
    factor = math.sqrt(1 + 10 ** min(largest, 300))
    return [
        f"at this width the gradient along the signal itself makes it larger than predicted, by up to ×{factor:.2g}"
    ]


def _band(described: Described, law: Plain, q: float) -> Any:
    """Of Gaussian weights; orthogonal ones scatter less, by how much is not known."""
    if described.orthogonal or not isinstance(law.sigma_w2, float) or any(each != law for each in described.blocks):
        return None
    start = q if math.isinf(fixed_point(law.phi, law.sigma_w2, law.sigma_b2, law.kinks).q) else None
    widths = [*described.widths, described.widths[-1]]
    return finite_width(law.phi, law.sigma_w2, law.sigma_b2, widths, q=start, kinks=law.kinks).std / 2


def phase(chi: float) -> str:
    """In which gradients vanish, stay or explode."""
    if abs(chi - 1) < CRITICAL:
        return "critical"
    return "ordered" if chi < 1 else "chaotic"


def _nothing(why_not: str) -> dict[str, Any]:
    empty = dict.fromkeys((*FOUND, *BY_BLOCK, "critical_sigma_w2", "through_time"))
    return {"applies": False, "why_not": why_not, **empty, "assumptions": [], "cures": []}


@lru_cache(maxsize=1024)
def _critical(phi: Phi, sigma_b2: float, kinks: tuple[float, ...]) -> float | None:
    try:
        return critical_sigma_w2(phi, sigma_b2, kinks)
    except ValueError:
        return None


def _scale(chi: float) -> float:
    """ξ_∇."""
    return math.inf if chi <= 0 or abs(chi - 1) < 1e-9 else -1 / math.log(chi)


def _key(config: Config) -> str:
    """What a prediction depends on."""
    values = {name: value for name, value in science(config).items() if name not in IRRELEVANT}
    return json.dumps({**values, "init": config.init}, sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    """For JSON: arrays as lists, and None for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
