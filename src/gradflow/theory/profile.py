"""From the law of each block to the whole network: how large signals and gradients are at every depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradflow.theory.law import Array, Law, Population, Signal, Step

SAME = 1e-10  # two signals closer than this, relatively, are one
RANGE = 100.0  # log10 p is kept within ±this; activations are scale-free far beyond where that matters


@dataclass(frozen=True, eq=False)
class Profile:
    """Predictions for L blocks, each [L] and indexed by block; block 0 is next to the stem.

    What may leave the range of float64 in a deep network is kept as a decimal logarithm; `delta`, `grad`, `p` and `q`
    are 10 to that, and may be 0 or ∞.

    Attributes:
        log10_p: of E x_l² per unit, after each block.
        log10_q: of E z_l² of the last map's pre-activations.
        c: correlation E x x′/p of two examples after each block.
        chi: E‖∂L/∂x_{l−1}‖² / E‖∂L/∂x_l‖².
        log10_delta: of the r.m.s. ‖∂L/∂x_l‖ relative to that at the last block's output, so 0 at L − 1.
        log10_delta_stem: the same at the stem's output, x_{−1}.
        log10_grad: of the r.m.s. norm of all of block l's weight and bias gradients relative to the last block's; nan
            where the last block's is 0, as with a branch multiplied by 0.
    """

    log10_p: Array
    log10_q: Array
    c: Array
    chi: Array
    log10_delta: Array
    log10_delta_stem: float
    log10_grad: Array

    @property
    def p(self) -> Array:
        return _power(self.log10_p)

    @property
    def q(self) -> Array:
        return _power(self.log10_q)

    @property
    def delta(self) -> Array:
        return _power(self.log10_delta)

    @property
    def grad(self) -> Array:
        return _power(self.log10_grad)


def propagate(
    laws: Sequence[Law],
    signal: Signal,
    widths: int | Sequence[int] = 1,
    *,
    biases: bool = True,
    batch: int = 1,
    gradient_correlation: float = 0.0,
) -> Profile:
    """Forward through the laws of all blocks, and back.

    Args:
        laws: of block 0 … L−1. Equal laws at signals that have converged are computed once.
        signal: at the stem's output; see `gradflow.theory.laws.stem`.
        widths: fan_in of the maps of each block, or one number for all. It decides how weights' gradients compare with
            biases', and blocks of unlike widths; the blocks' own δ does not depend on it.
        biases: whether maps have biases, whose gradients then count in `grad`.
        batch: examples in the mean over which ∂L/∂W is taken. 1: the r.m.s. over single examples.
        gradient_correlation: κ = E g·g′/E‖g‖² of two examples at the last block's output. 0, since the errors of a
            network at initialisation are those of a guess: labels of two examples differ without regard to the network.

    Returns:
        The profile.

    Raises:
        ValueError: if there are no laws, or not as many widths.

    >>> from gradflow.theory.laws import Plain
    >>> import torch
    >>> he = propagate([Plain(torch.relu, 2.0)] * 1000, Signal(1.0))
    >>> xavier = propagate([Plain(torch.relu, 1.0)] * 1000, Signal(1.0))
    >>> round(float(he.log10_delta[0]), 9) + 0.0, round(float(xavier.log10_delta[0]), 3)
    (0.0, -150.364)
    """
    count = len(laws)
    fans = [widths] * count if isinstance(widths, int) else list(widths)
    if not count or len(fans) != count:
        raise ValueError(f"{count} laws and {len(fans)} widths: there must be at least one law, and a width for each")
    if batch < 1:
        raise ValueError(f"batch={batch}: must be at least 1")
    steps, log10_p, log10_q = _forward(laws, signal)
    state, scale = np.array([1.0, gradient_correlation]), 0.0  # [2] or [2, N], times 10**scale
    delta, grad, chi = np.zeros(count), np.zeros(count), np.zeros(count)
    before = 1.0
    for index in range(count - 1, -1, -1):
        step, norm = steps[index], _mean(state)[0]
        delta[index] = _log10(norm) + scale
        if step.paths is None:
            local = _mean(state)
            state = step.back @ local
        else:
            through = step.paths.slope * (state if state.ndim == 2 else state[:, None])
            local = through.mean(1)
            state = step.paths.carried * through + (step.back @ local)[:, None]
        both = fans[index] * (step.weight @ local) + (step.bias @ local if biases else 0.0)
        grad[index] = _log10((both[0] + (batch - 1) * both[1]) / batch) + scale
        before = _mean(state)[0]
        chi[index] = before / norm if norm > 0 else 0.0
        if before > 0:
            state, scale = state / before, scale + math.log10(before)
    stem = scale if before > 0 else -math.inf
    with np.errstate(invalid="ignore"):
        relative = (grad - grad[-1]) / 2
    return Profile(
        np.array(log10_p),
        np.array(log10_q),
        np.array([step.signal.c for step in steps]),
        chi,
        delta / 2,
        stem / 2,
        relative,
    )


def _forward(laws: Sequence[Law], signal: Signal) -> tuple[list[Step], list[float], list[float]]:
    """(what each block does, log10 p after it, log10 q in it)."""
    steps: list[Step] = []
    log10_p: list[float] = []
    log10_q: list[float] = []
    known: dict[Law, tuple[Signal, Step]] = {}
    offset = 0.0  # log10 of the true p over that of `signal`
    for law in laws:
        signal, offset = _rescaled(signal, offset)
        at, step = known.get(law, (None, None))
        if at is None or step is None or not _same(at, signal):
            step = law.step(signal)
            known[law] = signal, step
        steps.append(step)
        log10_p.append(_log10(step.signal.p) + offset)
        log10_q.append(_log10(step.q) + offset)
        signal = step.signal
    return steps, log10_p, log10_q


def _same(a: Signal, b: Signal) -> bool:
    return (
        a.population is None
        and b.population is None
        and abs(a.p - b.p) <= SAME * b.p
        and abs(a.c - b.c) <= SAME
        and abs(a.mean - b.mean) <= SAME * math.sqrt(b.p)
    )


def _rescaled(signal: Signal, offset: float) -> tuple[Signal, float]:
    """The signal with p brought into range, and what is then missing from its logarithm."""
    if signal.p == 0:
        return signal, offset
    true = math.log10(signal.p) + offset
    target = min(max(true, -RANGE), RANGE)
    shift = target - math.log10(signal.p)
    if abs(shift) < 1e-9:
        return signal, offset
    root = 10 ** (shift / 2)
    crowd = signal.population
    moved = replace(
        signal,
        p=10**target,
        mean=signal.mean * root,
        population=None if crowd is None else Population(crowd.values * root, crowd.turn),
    )
    return moved, true - target


def _mean(state: Array) -> Array:
    return state if state.ndim == 1 else state.mean(1)


def _log10(x: float) -> float:
    return math.log10(x) if x > 0 else -math.inf


def _power(x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(10.0**x, dtype=np.float64)
