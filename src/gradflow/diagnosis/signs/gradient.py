"""Signs of the gradient through depth."""

from __future__ import annotations

import numpy as np

from gradflow.diagnosis.evidence import Evidence, Series
from gradflow.diagnosis.loss_curve import running_median
from gradflow.diagnosis.sign import Check, Sign
from gradflow.diagnosis.thresholds import Thresholds

HISTOGRAM = "grad_histogram/"


def gradient_ratio(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Early blocks' gradients orders of magnitude below, or above, late ones."""
    norms = evidence.quantities.get("grad_norm")
    ratio = norms.ratio() if norms is not None else (evidence.gradient or {}).get("ratio")
    if ratio is None:
        return None
    what, where = "gradient ratio first ÷ last block", _span(evidence, norms)
    if 0 < ratio < t.gradient_ratio_low:
        return [Sign("vanishing", "gradient_ratio", what, ratio, t.gradient_ratio_low, where)]
    if ratio > t.gradient_ratio_high:
        return [Sign("exploding", "gradient_ratio", what, ratio, t.gradient_ratio_high, where)]
    return []


def gradient_zero(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Exactly zero, not merely tiny, at most steps after the first; of a gradient that has underflowed see below."""
    found = _zeros(evidence)
    if found is None:
        return None
    share, where, underflow = found
    if share <= t.zero_share or (underflow is not None and underflow < t.gradient_ratio_low):
        return []
    what = "share of steps with a first block's gradient of exactly zero"
    return [Sign("dead", "gradient_zero", what, share, t.zero_share, where)]


def gradient_underflow(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Zero as well, but because it vanished: the blocks that still have a gradient fall away to below
    `gradient_ratio_low` of the last block's before it is zero, where dead units cut it off at once."""
    found = _zeros(evidence)
    if found is None or evidence.quantities.get("grad_norm") is None:
        return None
    share, where, underflow = found
    if share <= t.zero_share or underflow is None or underflow >= t.gradient_ratio_low:
        return []
    what = "share of steps with a first block's gradient of exactly zero after vanishing in the blocks behind it"
    return [Sign("vanishing", "gradient_underflow", what, share, t.zero_share, where)]


def gradient_tiny(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Not zero, but too small to change a weight of order one in float32."""
    norms = evidence.quantities.get("grad_norm")
    ends = None if norms is None else norms.ends()
    if norms is None or ends is None:
        return None
    first, last = (_geometric_mean(norms.values[:, end]) for end in ends)
    if first is None or last is None or not 0 < first < t.gradient_tiny <= last:
        return []
    what = "norm of the first block's gradient"
    return [Sign("vanishing", "gradient_tiny", what, first, t.gradient_tiny, evidence.block(ends[0]))]


def gradient_subnormal(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Elements on the edge of underflow, told apart from those that are exactly zero."""
    counts = {name: series for name, series in evidence.quantities.items() if name.startswith(HISTOGRAM)}
    if not counts:
        return None
    steps = np.unique(np.concatenate([series.steps for series in counts.values()]))
    small, total = np.zeros((2, len(steps), len(evidence.blocks)))
    for name, series in counts.items():  # empty bins have no row
        row, values = np.searchsorted(steps, series.steps), np.nan_to_num(series.values)
        total[row] += values
        if name == HISTOGRAM + "subnormal":
            small[row] += values
    shares = Series(steps, np.divide(small, total, out=np.full_like(total, np.nan), where=total > 0)).late()
    worst = _largest(shares)
    if worst is None or not shares[worst] > t.subnormal_share:
        return []
    what = "share of gradient elements below float32's smallest normal number"
    where = evidence.block(worst)
    return [Sign("vanishing", "gradient_subnormal", what, float(shares[worst]), t.subnormal_share, where)]


def gradient_nonfinite(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """A gradient that is infinite or undefined, at some step."""
    norms, counts = evidence.quantities.get("grad_norm"), evidence.quantities.get(HISTOGRAM + "nonfinite")
    if norms is None and counts is None:
        return None
    broken = [] if norms is None else [(int(step), b) for step, b in _where(norms, np.isinf(norms.values))]
    broken += [] if counts is None else [(int(step), b) for step, b in _where(counts, counts.values > 0)]
    if not broken:
        return []
    step, block = min(broken)
    steps = len({each for each, _ in broken})
    what = "logged steps with an infinite or undefined gradient"
    where = f"first at step {step}, {evidence.block(block)}"
    return [Sign("diverged", "gradient_nonfinite", what, float(steps), 0.0, where)]


def signal_ratio(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The back-propagated signal ∂L/∂output itself, whatever the weights make of it."""
    deltas = evidence.quantities.get("delta_norm")
    ratio = None if deltas is None else deltas.ratio()
    if ratio is None:
        return None
    if not 0 < ratio < t.signal_ratio_low:
        return []
    what = "ratio of ‖∂L/∂output‖, first ÷ last block"
    return [Sign("vanishing", "signal_ratio", what, ratio, t.signal_ratio_low, _span(evidence, deltas))]


def slope_chain(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The chain rule's product of derivatives: small where each factor is, as the sigmoid's are."""
    slopes = evidence.quantities.get("slope")
    if slopes is None:
        return None
    known = slopes.late()
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return None
    mean = 0.0 if (known <= 0).any() else float(np.exp(np.log(known).mean()))
    if mean > t.slope_low:
        return []
    product = mean ** len(known)
    what = f"mean |φ′| of a block (product over {len(known)} blocks {product:.2g})"
    return [Sign("vanishing", "slope_chain", what, mean, t.slope_low, None)]


def jacobian_chain(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The factor by which blocks together shrink or stretch a small change: √χ per block, multiplied."""
    squares = evidence.quantities.get("jacobian_s2_mean")
    if squares is None:
        return None
    known = squares.late()
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    product = 0.0 if (known <= 0).any() else float(np.exp(0.5 * np.log(known).sum()))
    what = f"product over {len(known)} blocks of the root of the Jacobian's mean squared singular value"
    if product < t.jacobian_low:
        return [Sign("vanishing", "jacobian_chain", what, product, t.jacobian_low)]
    if product > t.jacobian_high:
        return [Sign("exploding", "jacobian_chain", what, product, t.jacobian_high)]
    return []


def gradient_huge(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Large in all blocks alike, which no ratio between them shows."""
    whole = evidence.whole.get("grad_norm")
    size = None if whole is None else _geometric_mean(whole.values[:, 0])
    if size is None:
        return None
    if size <= t.gradient_huge:
        return []
    return [Sign("exploding", "gradient_huge", "norm of the whole gradient", size, t.gradient_huge)]


def gradient_growth(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Growing over training."""
    whole = evidence.whole.get("grad_norm")
    if whole is None:
        return None
    norms = whole.values[np.isfinite(whole.values[:, 0]), 0]
    if len(norms) < 5:
        return None
    tenth = max(1, len(norms) // 10)
    early, late = float(np.median(norms[:tenth])), float(np.median(norms[-tenth:]))
    if not (early > 0 and late / early > t.gradient_growth):
        return []
    what = "norm of the whole gradient, end ÷ start of training"
    return [Sign("exploding", "gradient_growth", what, late / early, t.gradient_growth)]


def gradient_spike(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Cliffs: single steps far above both the average one and those around them. Where a loss has been learned away,
    the gradient of a hard batch is many times its neighbours', and no cliff; nor is a beginning from which it falls."""
    whole = evidence.whole.get("grad_norm")
    if whole is None:
        return None
    finite = np.isfinite(whole.values[:, 0])
    steps, norms = whole.steps[finite], whole.values[finite, 0]
    if len(norms) < 5:
        return None
    usual = np.maximum((norms.sum() - norms) / (len(norms) - 1), running_median(norms, max(5, len(norms) // 10)))
    times = np.divide(norms, usual, out=np.ones_like(norms), where=usual > 0)
    worst = int(times.argmax())
    if not times[worst] > t.gradient_spike:
        return []
    count = int((times > t.gradient_spike).sum())
    what = f"norm of the whole gradient ÷ the average one, at the largest of {count} spikes"
    where = f"step {steps[worst]}"
    return [Sign("exploding", "gradient_spike", what, float(times[worst]), t.gradient_spike, where)]


def gradient_clipped(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Clipping that takes nearly all of it, at nearly all steps."""
    before, after = evidence.whole.get("grad_norm"), evidence.whole.get("grad_norm_clipped")
    if before is None or after is None:
        return None
    steps, here, there = np.intersect1d(before.steps, after.steps, return_indices=True)
    kept = _ratio(after.values[there, 0], before.values[here, 0])
    if kept is None:
        return None
    if not 0 < kept < t.clipped_low:
        return []
    what = "share of the gradient's norm that clipping leaves"
    return [Sign("exploding", "gradient_clipped", what, kept, t.clipped_low, f"{len(steps)} logged steps")]


CHECKS: tuple[Check, ...] = (
    gradient_ratio,
    gradient_zero,
    gradient_underflow,
    gradient_tiny,
    gradient_subnormal,
    gradient_nonfinite,
    signal_ratio,
    slope_chain,
    jacobian_chain,
    gradient_huge,
    gradient_growth,
    gradient_spike,
    gradient_clipped,
)


# --- parts ----------------------------------------------------------------------------------------------------


def _zeros(evidence: Evidence) -> tuple[float, str | None, float | None] | None:
    """(share of steps after step 0 with a first block's gradient of exactly zero, its name, at these steps the smallest
    gradient of a block that has one ÷ the last block's, median); None if no such step was logged."""
    norms = evidence.quantities.get("grad_norm")
    if norms is None:
        told = evidence.gradient or {}
        return (told.get("zero_steps", 0) / told["steps"], None, None) if told.get("steps") else None
    known = np.flatnonzero((~np.isnan(norms.values)).any(axis=0))
    if not len(known):
        return None
    first, last = known[0], known[-1]
    later = (norms.steps > 0) & np.isfinite(norms.values[:, first]) & np.isfinite(norms.values[:, last])
    if not later.any():
        return None
    zero = later & (norms.values[:, first] == 0)
    share = float(zero.sum() / later.sum())
    smallest = []
    for row in norms.values[zero]:
        positive = row[np.isfinite(row) & (row > 0)]
        if len(positive) and row[last] > 0:
            smallest.append(float(positive.min() / row[last]))
    return share, evidence.block(int(first)), float(np.median(smallest)) if smallest else None


def _span(evidence: Evidence, series: Series | None) -> str | None:
    ends = None if series is None else series.ends()
    return None if ends is None else f"{evidence.block(ends[0])} ÷ {evidence.block(ends[1])}"


def _geometric_mean(values: np.ndarray) -> float | None:
    """Of those that are positive and finite; 0 where all that are finite are zero."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if len(positive):
        return float(f"{10.0 ** np.mean(np.log10(positive)):.12g}")
    return 0.0 if len(finite) else None


def _ratio(above: np.ndarray, below: np.ndarray) -> float | None:
    both = np.isfinite(above) & np.isfinite(below) & (above > 0) & (below > 0)
    return float(f"{10.0 ** np.mean(np.log10(above[both] / below[both])):.12g}") if both.any() else None


def _largest(values: np.ndarray) -> int | None:
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def _where(series: Series, hit: np.ndarray) -> list[tuple[int, int]]:
    rows, columns = np.nonzero(hit)
    return list(zip(series.steps[rows].tolist(), columns.tolist(), strict=True))
