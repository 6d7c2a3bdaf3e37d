"""The verdict on a run, with the number and the threshold behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The first block's gradient three orders of magnitude below (above) the last block's: with one learning rate for all
# blocks, the last would move a thousand times as far as the first.
VANISHING = 1e-3
EXPLODING = 1e3
# Standard errors of a guess's test figure within which a better one is no evidence of learning.
CHANCE_ERRORS = 3.0

VERDICTS = ("healthy", "stagnant", "vanishing", "exploding", "dead", "diverged", "gradient-free", "unwatched")


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
    the test figure is no better than chance by `CHANCE_ERRORS` standard errors of chance; a task whose error is not
    known is never called stagnant. 'gradient-free': it learned, and its recurrent part without a gradient, as an echo
    state network does. 'unwatched': nothing was measured.

    Args:
        result: the content of `result.json`. Read here: 'diverged_at', 'gradient', 'metrics', 'metric', 'chance',
            'chance_error', 'larger_is_better', 'no_gradient'.
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
    figure, error = metrics.get(result["metric"]), result.get("chance_error")
    if figure is not None and error is not None:
        better = 1 if result["larger_is_better"] else -1
        threshold = result["chance"] + better * CHANCE_ERRORS * error
        if better * (figure - threshold) < 0:
            signs.append(Sign("stagnant", result["metric"].replace("/", " "), figure, threshold))
    for verdict in ("diverged", "dead", "vanishing", "exploding"):
        if any(sign.verdict == verdict for sign in signs):
            return verdict, signs
    if result.get("no_gradient"):
        return ("stagnant" if signs else "gradient-free"), signs
    if not gradient.get("steps"):
        return "unwatched", signs
    return ("stagnant" if signs else "healthy"), signs
