"""Which choices tell the runs of a sweep apart, and in which words."""

from __future__ import annotations

from collections.abc import Collection as Collected
from collections.abc import Iterable
from itertools import chain
from typing import Any

from gradflow.runs.planfile import RECIPE, Collection

PARTS = {"cell", "recurrent_init", *RECIPE}  # choices that can appear together as 'recipe'
FIRST = ("task", "task.length", "model", "depth", "width")
LAST = ("network", "recipe")
# What a reader must see even where it differs from network to network: what was learned and on what.
ALWAYS_TOLD = ("task", "hardware")


def planned(collection: Collection) -> dict[str, dict[str, Any]]:
    """The labels of every planned run. Where any has a recurrent cell, all have 'network': the cell's word, or the
    model's where there is no cell, as in an echo state network."""
    runs = collection.planned
    if not any(labels.get("cell") for labels in runs.values()):
        return runs
    return {run_id: {**labels, "network": network(labels)} for run_id, labels in runs.items()}


def network(labels: dict[str, Any]) -> str:
    """One word for what learns: 'lstm', 'esn', 'mlp'."""
    return str(labels.get("network") or labels.get("cell") or labels["model"])


def varying(runs: Collected[dict[str, Any]]) -> list[str]:
    """Choices that tell runs apart, other than seeds and what another choice implies; 'depth' if none does.

    Several parts of a recipe appear as 'recipe'. What goes with the network is left out beside 'network'; what of it
    is not the network itself is in `with_the_network`.
    """
    chosen = differing(runs)
    if _tells_networks(runs, chosen):
        chosen = [key for key in chosen if key == "network" or _always(key) or not follows(key, "network", runs)]
    else:
        chosen = [key for key in chosen if key != "network"]
    words = [key for key in chosen if key in PARTS]
    drop = words if len(words) > 1 else ["recipe"]  # several of them appear together as 'recipe'
    chosen = [key for key in chosen if key not in drop and not implied(key, runs)]
    if "recipe" in chosen and follows("network", "recipe", runs):
        chosen = [key for key in chosen if key != "network"]
    return sorted(chosen, key=lambda key: (key not in FIRST, key in LAST)) or ["depth"]


def with_the_network(runs: Collected[dict[str, Any]]) -> list[str]:
    """What a table over networks does not show in a column of its own, though it is no part of the network: e.g.
    'optimizer.lr: 0.001 (lstm, gru), 0.0001 (irnn)', where each network has its own."""
    chosen = differing(runs)
    if not _tells_networks(runs, chosen):
        return []
    told = []
    for key in chosen:
        part = key.partition(".")[0] in {"network", "model", "recipe", *PARTS}
        if part or _always(key) or not follows(key, "network", runs) or implied(key, runs):
            continue
        by_value: dict[Any, dict[str, None]] = {}
        for labels in runs:
            if labels.get(key) is not None:  # an echo state network that is solved for has no learning rate
                by_value.setdefault(labels[key], {})[labels["network"]] = None
        if len(by_value) > 1:
            told.append(f"{key}: " + ", ".join(f"{value} ({', '.join(words)})" for value, words in by_value.items()))
    return told


def pooled(groups: Iterable[Collected[dict[str, Any]]], runs: Collected[dict[str, Any]]) -> list[str]:
    """Choices other than the seed in which runs of one group differ."""
    found = {key for group in groups for key in differing(group)} - {"recipe"}
    if _tells_networks(runs, found):
        found = {key for key in found if key == "network" or not follows(key, "network", runs)}
    else:
        found -= {"network"}
    return sorted(key for key in found if not implied(key, runs))


def implied(key: str, runs: Collected[dict[str, Any]]) -> bool:
    """Whether a value such as 'norm.eps' or 'hardware.precision' follows from the word before its first dot."""
    factor, dot, _ = key.partition(".")
    return bool(dot) and follows(key, factor, runs)


def follows(key: str, word: str, runs: Collected[dict[str, Any]]) -> bool:
    """Whether runs that share the one label share the other."""
    pairs = {(labels.get(word), labels.get(key)) for labels in runs}
    return len({value for value, _ in pairs}) == len(pairs)


def differing(runs: Collected[dict[str, Any]]) -> list[str]:
    """Keys with more than one value, other than those of seeds, in the order of the labels."""
    first: dict[str, Any] = next(iter(runs), {})
    found: set[str] = set()
    for labels in runs:
        found.update(dict(first.items() ^ labels.items()))  # in C: ten thousand runs have half a million labels
    told = [key for key in keys(runs) if key in found and not is_seed(key)]
    return [key for key in told if len({labels.get(key) for labels in runs}) > 1]  # a key may be None, or not there


def keys(runs: Collected[dict[str, Any]]) -> list[str]:
    """Of all labels, in the order of the runs."""
    return list(dict.fromkeys(chain.from_iterable(runs)))


def seeds(runs: Collected[dict[str, Any]]) -> list[str]:
    """Keys that say which repetition a run is."""
    return [key for key in keys(runs) if is_seed(key)]


def is_seed(key: str) -> bool:
    """Whether a key says which of several repetitions a run is, and nothing else."""
    return key == "seed" or key.endswith("split_seed")


def _tells_networks(runs: Collected[dict[str, Any]], found: Collected[str]) -> bool:
    return "network" in found and any(labels.get("cell") for labels in runs)


def _always(key: str) -> bool:
    return key.partition(".")[0] in ALWAYS_TOLD
