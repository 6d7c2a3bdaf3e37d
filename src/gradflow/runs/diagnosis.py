"""The verdict on a run, with the number and the threshold behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# The first block's gradient three orders of magnitude below (above) the last block's: with one learning rate for all
# blocks, the last would move a thousand times as far as the first.
VANISHING = 1e-3
EXPLODING = 1e3
# Standard errors of a guess's test figure within which a better one is no evidence of learning.
CHANCE_ERRORS = 3.0

VERDICTS = ("healthy", "stagnant", "vanishing", "exploding", "dead", "diverged", "unwatched")


@dataclass(frozen=True)
class Sign:
    """One reason: `value` was on the wrong side of `threshold`."""

    verdict: str
    what: str
    value: float
    threshold: float


def diagnose(result: dict[str, Any]) -> tuple[str, list[Sign]]:
    """The verdict on a result, and every sign that speaks for it or another.

    'diverged': the loss stopped being finite. 'dead': the first block's gradient was exactly zero at most logged
    steps. 'vanishing', 'exploding': the gradient ratio is beyond its threshold. 'stagnant': the gradient flows, but
    the test figure is no better than chance by `CHANCE_ERRORS` of `guess_error`. 'unwatched': nothing was measured.

    Args:
        result: the content of `result.json`. Read here: 'diverged_at', 'gradient', 'metrics', 'metric', 'chance',
            'larger_is_better', 'test_size', 'outputs'.
    """
    signs: list[Sign] = []
    gradient, metrics = result.get("gradient") or {}, result["metrics"]
    if result.get("diverged_at") is not None:
        signs.append(Sign("diverged", "step with a non-finite loss", result["diverged_at"], 0))
    if gradient.get("steps"):
        share = gradient["zero_steps"] / gradient["steps"]
        if share > 0.5:
            signs.append(Sign("dead", "share of steps with a first block's gradient of exactly zero", share, 0.5))
        ratio = gradient.get("ratio")
        if ratio is not None and 0 < ratio < VANISHING:
            signs.append(Sign("vanishing", "gradient ratio first ÷ last block", ratio, VANISHING))
        if ratio is not None and ratio > EXPLODING:
            signs.append(Sign("exploding", "gradient ratio first ÷ last block", ratio, EXPLODING))
    figure, error = metrics.get(result["metric"]), guess_error(result)
    if figure is not None and error is not None:
        better = 1 if result["larger_is_better"] else -1
        threshold = result["chance"] + better * CHANCE_ERRORS * error
        if better * (figure - threshold) < 0:
            signs.append(Sign("stagnant", result["metric"].replace("/", " "), figure, threshold))
    for verdict in ("diverged", "dead", "vanishing", "exploding"):
        if any(sign.verdict == verdict for sign in signs):
            return verdict, signs
    if not gradient.get("steps"):
        return "unwatched", signs
    return ("stagnant" if signs else "healthy"), signs


def guess_error(result: dict[str, Any]) -> float | None:
    """The standard error of what guessing scores on a test split of n = 'test_size' examples; None: not known.

    Accuracy: each answer is right with probability p = 'chance', so that the share of right ones varies by
    √(p (1 − p) / n).

    Mean squared error: the mean predictor's is the mean of n · k squares, k = 'outputs', of targets with variance
    c = 'chance'. Of a Gaussian target, y² has mean c and variance 2 c², so that their mean varies by c √(2 / (n k)).
    This takes outputs to be independent, and c to be exact; `gaussian_teacher` sets it by N training examples, which
    makes the square of the error larger by the factor 1 + n / N.

    A metric that is neither has no error known here, and a run judged by it is never called stagnant.
    """
    chance, count = result["chance"], result["test_size"]
    if result["metric"] == "test/accuracy":
        return math.sqrt(chance * (1 - chance) / count)
    if result["metric"] == "test/mse":
        return float(chance * math.sqrt(2 / (count * result["outputs"])))
    return None
