"""How alike the gradients of two examples are that a classifier at initialisation sends back into its blocks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradflow.theory.law import Law, Signal

DRAWS, WITHIN = 512, 24  # of what logits have in common, and of the rest for each


def alike_at_the_end(head: Law, signal: Signal, classes: int) -> float:
    """E g·g′ / E‖g‖² of two examples at the last block's output.

    Args:
        head: from there to the logits.
        signal: there.
        classes: K.
    """
    step = head.step(signal)
    size, together = step.back @ np.array(
        [1.0, _errors(float(f"{step.signal.p:.6g}"), round(step.signal.c, 6), classes)]
    )
    return float(np.clip(together / size, -1.0, 1.0)) if size > 0 else 0.0


@lru_cache(maxsize=1024)
def _errors(q: float, c: float, classes: int) -> float:
    """E e·e′ / E‖e‖² of two examples' errors e = softmax(z) − y, for independent labels y that are all as frequent and
    logits N(0, q) of correlation c.

    z = √c u + √(1 − c) v with u common to all examples; given u the expectation is ‖E p‖² − 1/K ≥ 0. It differs much
    from one draw of the head, and so of u, to the next: what is returned is typical, its geometric mean over u, and not
    the mean, which few draws with large logits dominate.
    """
    random, share = np.random.default_rng(0), min(max(c, 0.0), 1.0)
    u, v = random.standard_normal((DRAWS, 1, classes)), random.standard_normal((DRAWS, WITHIN, classes))
    p = _softmax(np.sqrt(min(q, 1e12)) * (np.sqrt(share) * u + np.sqrt(1 - share) * v))
    mean, square = p.mean(1), np.square(p).sum(2).mean(1)
    of_mean = np.square(mean).sum(1)
    unbiased = (WITHIN * of_mean - square) / (WITHIN - 1) - 1 / classes
    together = np.exp(np.log(np.maximum(unbiased, 1e-12)).mean()) if share > 0 else 0.0
    return float(together / (square.mean() + 1 - 2 / classes))


def _softmax(z: np.ndarray) -> np.ndarray:
    grown: np.ndarray = np.exp(z - z.max(-1, keepdims=True))
    shares: np.ndarray = grown / grown.sum(-1, keepdims=True)
    return shares
