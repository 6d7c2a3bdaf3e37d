"""The verdict: which of the signs decides.

In this order; the first that applies is the verdict, and all signs are listed whatever it is.

1. `diverged`: the loss stopped being finite.
2. What the gradient itself shows over the whole of training, whether or not the network learned: `dead` (the first
   block's gradient is exactly zero), `vanishing` (its ratio to the last block's, or an underflow), `exploding` (the
   ratio, or clipping that has to take away nearly all of it at nearly all steps).
3. States that a network may live with, and that are its verdict only where it *suffers*: `dead` (a block without
   living units), `exploding` (a gradient that is huge in all blocks, which depends on the unit of the loss),
   `vanishing` and `exploding` through time, `saturated`, `rank_collapse`, and `vanishing` of the signal alone (the
   parameters of unlike blocks, such as a convolution and a linear head, have gradients that do not compare, but
   ∂L/∂output does), which comes last since the others name its cause. A network suffers when its figure has not made
   half of the way (`skill_low`) from a guess to a perfect one, when it has not met its task's own criterion, or when
   its loss never falls; where no figure is known, when its loss has not fallen by half (`loss_stop_fall`). Where none
   of this is known, as of a stranger's gradients alone, it is taken to suffer.
4. `unwatched`: no gradient was measured where it can be judged. `stagnant`: the gradient flows and the figure is no
   better than a guess (or, where there is no figure, the loss never falls). `gradient-free`: it learned, and its
   recurrent part without a gradient, as an echo state network does. Else `healthy`.

A saturated sigmoid network whose gradient has vanished is therefore `vanishing`, with the saturated units among its
signs: they are the cause, and the vanished gradient is why it does not learn out of them. The same units with a ratio
that is still in bounds make it `saturated`, if it suffers. A dead block comes before saturation and collapse since both
follow from it; saturation before collapse, since outputs at the bounds of their range are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradflow.diagnosis.advice import Cure
from gradflow.diagnosis.evidence import Evidence
from gradflow.diagnosis.sign import Sign
from gradflow.diagnosis.signs import CHECKS
from gradflow.diagnosis.thresholds import Thresholds, thresholds

# (name of the sign, its verdict), in the order in which they decide
AT_ONCE = (
    ("loss_nonfinite", "diverged"),
    ("gradient_zero", "dead"),
    ("gradient_ratio", "vanishing"),
    ("gradient_underflow", "vanishing"),
    ("gradient_ratio", "exploding"),
    ("gradient_clipped", "exploding"),
)
IF_IT_SUFFERS = (
    ("block_dead", "dead"),
    ("gradient_huge", "exploding"),
    ("memory_horizon", "vanishing"),
    ("time_ratio", "vanishing"),
    ("time_ratio", "exploding"),
    ("units_saturated", "saturated"),
    ("outputs_alike", "rank_collapse"),
    ("rank_low", "rank_collapse"),
    ("signal_ratio", "vanishing"),
)
IN_TIME = ("memory_horizon", "time_ratio")
LEARNED_NOTHING = ("metric_at_chance", "loss_never_falls")


@dataclass(frozen=True)
class Diagnosis:
    """A verdict with its reasons; printed, it is a small report.

    Attributes:
        verdict: of `VERDICTS`.
        signs: all that were found, the deciding one first.
        clear: names of the signs that were looked for and not found.
        unmeasured: names of those for which the evidence is missing.
        cures: what fits, the best first.
    """

    verdict: str
    signs: tuple[Sign, ...] = ()
    clear: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    cures: tuple[Cure, ...] = field(default=())

    @property
    def decisive(self) -> Sign | None:
        """The sign that the verdict rests on; None for a verdict that rests on none."""
        return self.signs[0] if self.signs and self.signs[0].verdict == self.verdict else None

    def __str__(self) -> str:
        lines = [f"verdict: {self.verdict}"]
        lines += [f"  {sign.verdict}: {sign}" for sign in self.signs]
        lines.append(f"  {len(self.clear)} signs were looked for and not found, {len(self.unmeasured)} not measured")
        lines += [f"  cure: {cure}" for cure in self.cures]
        return "\n".join(lines)

    __repr__ = __str__


def diagnose(evidence: Evidence, limits: Thresholds | None = None) -> Diagnosis:
    """The verdict on a run, and every sign that speaks for it or for another.

    Args:
        evidence: from `from_record`, `from_tables` or `from_rows`.
        limits: those of conf/diagnosis.yaml unless given.

    >>> from gradflow.diagnosis.evidence import Evidence
    >>> diagnose(Evidence(gradient={"ratio": 1e-6, "steps": 50, "zero_steps": 0})).verdict
    'vanishing'
    """
    limits = limits or thresholds()
    found: list[Sign] = []
    clear, unmeasured = [], []
    for name, check in CHECKS.items():
        signs = check(evidence, limits)
        if signs is None:
            unmeasured.append(name)
        elif signs:
            found += signs
        else:
            clear.append(name)
    verdict, decisive = _decide(evidence, found, unmeasured, limits)
    rest = sorted((sign for sign in found if sign is not decisive), key=lambda sign: sign.verdict != verdict)
    return Diagnosis(verdict, (*([decisive] if decisive else []), *rest), tuple(clear), tuple(unmeasured))


def _decide(
    evidence: Evidence, signs: Sequence[Sign], unmeasured: Sequence[str], limits: Thresholds
) -> tuple[str, Sign | None]:
    by_name = {(sign.name, sign.verdict): sign for sign in signs}
    for key in (*AT_ONCE, *(IF_IT_SUFFERS if _suffers(evidence, signs, limits) else ())):
        if key in by_name:
            return key[1], by_name[key]
    at_chance = by_name.get(("metric_at_chance", "stagnant"))
    if at_chance is None and "metric_at_chance" in unmeasured and evidence.figure is None:
        at_chance = by_name.get(("loss_never_falls", "stagnant"))
    if evidence.no_gradient:
        return ("stagnant", at_chance) if at_chance else ("gradient-free", None)
    if not evidence.watched():
        return "unwatched", None
    return ("stagnant", at_chance) if at_chance else ("healthy", None)


def _suffers(evidence: Evidence, signs: Sequence[Sign], limits: Thresholds) -> bool:
    if any(sign.name in LEARNED_NOTHING for sign in signs) or evidence.solved is False:
        return True
    if evidence.solved:
        return False
    skill, curve = evidence.skill(), evidence.curve
    if skill is not None:
        return skill < limits.skill_low
    return curve is None or curve.falls < limits.loss_stop_fall
