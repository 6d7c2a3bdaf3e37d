"""Runs that are trained anew: their records are moved aside, never deleted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import count
from pathlib import Path

from gradflow.errors import ConfigError
from gradflow.runs.claim import OWNER, claim
from gradflow.runs.garbage import REPLACED
from gradflow.runs.planfile import PlannedRun


def chosen(runs: Sequence[PlannedRun], asked: Sequence[str]) -> list[str]:
    """The ids that are meant, each by itself or by as much of its beginning as no other run of the plan has.

    Raises:
        ConfigError: one line for each that is no run of the plan, or several.
    """
    ids = [run.run_id for run in runs]
    found, faults = [], []
    for word in asked:
        begun = [run_id for run_id in ids if run_id.startswith(word)] if word else []
        if len(begun) == 1:
            found.append(begun[0])
        elif begun:
            faults.append(f"--rerun {word}: {len(begun)} runs of this plan begin like this")
        else:
            near = get_close_matches(word, ids, n=1, cutoff=0.5)
            faults.append(f"--rerun {word}: no run of this plan" + (f"; did you mean {near[0]}?" if near else ""))
    if faults:
        raise ConfigError(*faults)
    return list(dict.fromkeys(found))


def set_aside(runs_dir: Path, run_id: str) -> Path | None:
    """Move a run's record to `.replaced/ID-N` beside it; None where there is no record.

    Raises:
        ConfigError: if the run is being trained at this moment.
        OSError: if it cannot be moved.
    """
    path = runs_dir / run_id
    if not path.is_dir():
        return None
    with claim(path) as mine:
        if mine is None:
            raise ConfigError(f"--rerun {run_id}: is being trained at this moment; nothing was moved")
        aside = runs_dir / REPLACED
        aside.mkdir(exist_ok=True)
        target = next(place for n in count(1) if not (place := aside / f"{run_id}-{n}").exists())
        os.rename(path, target)
        with suppress(FileNotFoundError):
            (target / OWNER).unlink()
    return target
