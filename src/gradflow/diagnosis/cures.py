"""What would help: from runs that differ in little, from theory, and where neither says anything from the literature.

Labels are those of `gradflow.runs.identity.labels`: one flat word or number per choice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradflow.diagnosis.advice import MOST, Cure, advice

HEALTHY = ("healthy", "gradient-free")
# Choices that can be a cure; what is learned, how large the network is and for how long it trains is not one.
CURABLE = (
    *("activation", "init", "recurrent_init", "norm", "skip", "cell", "remedy", "optimizer", "scheduler"),
    *("dropout", "alpha_dropout", "input_noise", "label_smoothing"),
)
IGNORED = ("seed", "recipe", "network")  # joined from others, or an average's own
FOLLOWS = {"model.norm_position": "norm"}  # has no effect without one


@dataclass(frozen=True)
class Neighbour:
    """A run of the same sweep: its labels, verdict and figure; no figure if it diverged."""

    labels: Mapping[str, Any]
    verdict: str
    figure: float | None


def cures(
    own: Neighbour,
    others: Sequence[Neighbour] = (),
    prediction: Mapping[str, Any] | None = None,
    *,
    metric: str = "metric",
    larger_is_better: bool = True,
    place: str = "this sweep",
    through_time: bool = False,
) -> tuple[Cure, ...]:
    """What fits a run, the best first: what its neighbours show, then what theory predicts; general advice only where
    there is neither. Nothing for a run that needs none.

    Args:
        own: the run.
        others: runs beside it; it may be among them.
        prediction: as in prediction.json: 'cures', each with key, value, instead, chi and chi_instead.
        metric: of the figures, such as 'test/accuracy'.
        place: what to call where `others` are from.
        through_time: whether the gradient is lost over time steps, not over blocks.
    """
    if own.verdict in (*HEALTHY, "unwatched"):
        return ()
    shown = from_sweep(own, others, metric=metric, larger_is_better=larger_is_better, place=place)
    said = from_theory(prediction)
    merged = []
    for cure in shown:
        theory = next((each for each in said if each.overrides == cure.overrides), None)
        if theory is not None:
            said.remove(theory)
            cure = replace(cure, why=f"{theory.why}; {cure.why}", source="sweep and theory")
        merged.append(cure)
    found = (*merged, *said)
    return found or advice(own.verdict, own.labels, through_time=through_time)


def from_sweep(
    own: Neighbour, others: Sequence[Neighbour], *, metric: str, larger_is_better: bool, place: str = "this sweep"
) -> list[Cure]:
    """Changes of exactly one choice after which runs of the same seeds are mostly healthy and score better: the best
    value of each choice, the best `MOST` of them. Where no change of one choice does it, the best of those of the
    fewest, as in a sweep that varies several together. Figures are means over the seeds that both have."""
    mine = _factors(own.labels)
    rows: dict[tuple[tuple[str, ...], str], dict[Any, Neighbour]] = {}
    texts: dict[tuple[tuple[str, ...], str], tuple[str, tuple[str, ...]]] = {}
    same = {own.labels.get("seed"): own}
    for other in others:
        theirs = _factors(other.labels)
        differing = tuple(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name))
        seed = other.labels.get("seed")
        if not differing:
            same.setdefault(seed, other)
        elif all(name in CURABLE for name in differing):
            change, overrides = _change(own.labels, other.labels, differing)
            key = differing, change
            texts[key] = change, overrides
            rows.setdefault(key, {})[seed] = other
    best: dict[tuple[str, ...], Cure] = {}
    for key, seeds in rows.items():
        cure = _cure(texts[key], same, seeds, metric, larger_is_better, place)
        if cure is not None and (key[0] not in best or _better(cure, best[key[0]], larger_is_better)):
            best[key[0]] = cure
    fewest = min((len(differing) for differing in best), default=0)
    kept = [cure for differing, cure in best.items() if len(differing) == fewest]
    kept.sort(key=lambda cure: cure.figure or 0.0, reverse=larger_is_better)
    return kept[: MOST if fewest == 1 else 1]


def from_theory(prediction: Mapping[str, Any] | None) -> list[Cure]:
    """Those of a prediction that applies, e.g. 'he_normal instead of glorot_uniform: χ₁ 1.00 instead of 0.50'."""
    if not prediction or not prediction.get("applies"):
        return []
    found = []
    for each in prediction.get("cures") or ():
        change = _words(str(each["key"]), each["value"], each["instead"])
        why = f"χ₁ {float(each['chi']):.2f} instead of {float(each['chi_instead']):.2f}"
        found.append(Cure(change, why, "theory", (f"{each['key']}={each['value']}",)))
    return found[:MOST]


# --- parts ----------------------------------------------------------------------------------------------------


def _factors(labels: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Labels by the choice they belong to."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in labels.items():
        name = FOLLOWS.get(key, key.partition(".")[0])
        if key.endswith("split_seed") or name in IGNORED:
            continue
        parts.setdefault(name, {})[key] = value
    return parts


def _change(own: Mapping[str, Any], other: Mapping[str, Any], differing: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    words, typed = [], []
    for name in differing:
        if own.get(name) != other.get(name):
            words.append(_words(name, other.get(name), own.get(name)))
            value = str(other.get(name)).lower() if other.get(name) is None else other.get(name)
            typed.append(f"{name}=[{','.join(str(value).split(' + '))}]" if name == "remedy" else f"{name}={value}")
        else:
            keys = [k for k in {**own, **other} if k.partition(".")[0] == name and own.get(k) != other.get(k)]
            words += [_words(key, other.get(key), own.get(key)) for key in keys]
            typed += [f"{key}={other.get(key)}" for key in keys]
    return " and ".join(words), tuple(typed)


def _words(key: str, new: Any, old: Any) -> str:
    """'he_normal instead of glorot_uniform'; numbers, and words that say nothing alone, with their key."""
    bare = isinstance(new, str) and isinstance(old, str) and "none" not in (new, old)
    return f"{new} instead of {old}" if bare else f"{key} {_plain(new)} instead of {_plain(old)}"


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _cure(
    told: tuple[str, tuple[str, ...]],
    same: Mapping[Any, Neighbour],
    seeds: Mapping[Any, Neighbour],
    metric: str,
    larger_is_better: bool,
    place: str,
) -> Cure | None:
    both = [seed for seed in same if seed in seeds]
    if not both:
        return None
    verdicts = Counter(seeds[seed].verdict in HEALTHY for seed in both)
    after = [figure for seed in both if (figure := seeds[seed].figure) is not None]
    if verdicts[True] <= verdicts[False] or len(after) < len(both):
        return None
    before = [figure for seed in both if (figure := same[seed].figure) is not None]
    new = math.fsum(after) / len(after)
    name, averaged = metric.rpartition("/")[2], f" (mean of {len(both)} seeds)" if len(both) > 1 else ""
    if not before:
        said = f"it reached {name} {_figure(new)}, where this diverged{averaged}"
    else:
        old = math.fsum(before) / len(before)
        if not (new > old if larger_is_better else new < old):
            return None
        verb = "raised" if larger_is_better else "lowered"
        said = f"it {verb} {name} from {_figure(old)} to {_figure(new)}{averaged}"
    return Cure(told[0], f"in {place} {said}", "sweep", told[1], new)


def _figure(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= abs(value) < 100 else f"{value:.2g}"


def _better(cure: Cure, than: Cure, larger_is_better: bool) -> bool:
    assert cure.figure is not None
    assert than.figure is not None
    return cure.figure > than.figure if larger_is_better else cure.figure < than.figure
