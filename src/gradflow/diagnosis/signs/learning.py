"""Signs of what the network learned, and of the course of its loss."""

from __future__ import annotations

from gradflow.diagnosis.evidence import Evidence
from gradflow.diagnosis.sign import Check, Sign
from gradflow.diagnosis.thresholds import Thresholds


def loss_nonfinite(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """The loss stopped being finite."""
    if evidence.diverged_at is None:
        return []
    step = int(evidence.diverged_at)
    return [Sign("diverged", "loss_nonfinite", "step with a non-finite loss", step, 0, f"step {step}")]


def metric_at_chance(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """No better than a guess by `chance_errors` standard errors; a task whose error is not known is never judged."""
    figure, chance, error = evidence.figure, evidence.chance, evidence.chance_error
    if figure is None or chance is None or error is None:
        return None
    better = 1 if evidence.larger_is_better else -1
    threshold = chance + better * t.chance_errors * error
    if better * (figure - threshold) >= 0:
        return []
    return [Sign("stagnant", "metric_at_chance", evidence.metric.replace("/", " "), figure, threshold)]


def loss_never_falls(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Where it is at the end, it was at the start."""
    curve = evidence.curve
    if curve is None:
        return None
    if curve.falls >= t.loss_fall:
        return []
    return [Sign("stagnant", "loss_never_falls", "fall of the loss over the run", curve.falls, t.loss_fall)]


def loss_stops_early(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """It falls a little and stops, high up, while most of training is still to come."""
    curve = evidence.curve
    if curve is None:
        return None
    early = curve.stops_after < t.loss_stop_share and t.loss_fall <= curve.falls < t.loss_stop_fall
    if not early:
        return []
    what = f"share of training after which the loss stops falling, by {100 * curve.falls:.0f} % of its start"
    where = f"step {curve.stagnates_at}"
    return [Sign("stagnant", "loss_stops_early", what, curve.stops_after, t.loss_stop_share, where)]


def loss_irregular(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """A learning curve that goes up nearly as much as down."""
    curve = evidence.curve
    if curve is None:
        return None
    if curve.irregularity <= t.loss_irregular:
        return []
    what = "upward share of the smoothed loss's movement"
    return [Sign("vanishing", "loss_irregular", what, curve.irregularity, t.loss_irregular)]


def loss_spike(evidence: Evidence, t: Thresholds) -> list[Sign] | None:
    """Jumps of the loss that come back."""
    curve = evidence.curve
    if curve is None:
        return None
    high = [spike for spike in curve.spikes if spike.times > t.loss_spike]
    if not high:
        return []
    top = max(high, key=lambda spike: spike.times)
    what = f"loss ÷ its running median at the largest of {len(high)} spikes"
    return [Sign("exploding", "loss_spike", what, top.times, t.loss_spike, f"step {top.step}")]


CHECKS: tuple[Check, ...] = (
    loss_nonfinite,
    metric_at_chance,
    loss_never_falls,
    loss_stops_early,
    loss_irregular,
    loss_spike,
)
