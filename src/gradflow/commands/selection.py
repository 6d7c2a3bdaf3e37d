"""Some of a folder's runs, in the words of a person."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradflow.errors import ConfigError, choose_from

if TYPE_CHECKING:
    from gradflow.runs.planfile import Collection

HELP = "only these runs: task=mnist,depth=40 or a condition, e.g. \"depth > 10 and norm == 'none'\""
EQUAL = re.compile(r"([\w.]+)=([^=].*)?")


def select(collection: Collection, text: str | None) -> Collection:
    """The runs that a condition wants: choices that are to be equal, as in a config, or an expression as in
    `sweep.where`; all of them without one.

    Raises:
        ConfigError: if it cannot be read, names what no run has, or wants no run.
    """
    if text is None:
        return collection
    found = [EQUAL.fullmatch(word.strip()) for word in text.split(",")]
    if all(found):
        planned = _equal(collection, [(match[1], match[2] or "") for match in found if match])
    else:
        planned = _expression(collection, text)
    if not planned:
        raise ConfigError(f"--where {text}: wants none of the {len(collection.planned)} runs")
    records = {run_id: record for run_id, record in collection.found.records.items() if run_id in planned}
    return replace(collection, planned=planned, found=replace(collection.found, records=records))


def _equal(collection: Collection, pairs: list[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    from gradflow.results.choices import planned
    from gradflow.results.statistics.runs import plain

    runs = planned(collection)
    for key, wanted in pairs:
        known = {name for labels in runs.values() for name in labels}
        if key not in known:
            raise ConfigError(f"--where {key}={wanted}: no run has the choice '{key}'; {choose_from(key, known)}")
        values = {plain(labels.get(key)) for labels in runs.values()}
        runs = {run_id: labels for run_id, labels in runs.items() if plain(labels.get(key)) == wanted}
        if not runs:
            raise ConfigError(f"--where {key}={wanted}: no such run; {choose_from(wanted, values)}")
    return {run_id: collection.planned[run_id] for run_id in runs}


def _expression(collection: Collection, text: str) -> dict[str, dict[str, Any]]:
    from gradflow.sweeps.where import Wanted, Where

    def unknown(name: str) -> Any:
        raise LookupError(name)

    condition, wanted = Where(text, "--where"), Wanted()
    kept = {run_id: each for run_id, each in collection.planned.items() if wanted.keeps([condition], each, unknown)}
    wanted.finish()
    return kept
