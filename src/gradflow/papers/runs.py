"""From a paper to the runs of a sweep, and from a sweep's folder back to the cells of its paper."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.errors import ConfigError
from gradflow.papers.paper import Key, Paper
from gradflow.runs.identity import labels, run_id
from gradflow.runs.record import Unreadable, load_json, write_json

if TYPE_CHECKING:
    from gradflow.runs.compose import Composer
    from gradflow.sweeps.grid import Asked

FILE = "paper.json"  # in the sweep's folder
# What says nothing of a protocol: the seed is an axis of its own, the recipe joins others, hardware is at hand or not.
NO_PROTOCOL = ("seed", "recipe", "hardware", "hardware.device", "hardware.threads", "hardware.compile")
Differs = dict[str, tuple[Any, Any]]  # key → value here, value in the paper's protocol


@dataclass(frozen=True)
class Ran:
    """One cell as it was planned.

    Attributes:
        runs: ids, one for each seed.
        differs: what its config has otherwise than the paper's own protocol.
    """

    key: Key
    runs: list[str]
    differs: Differs


@dataclass(frozen=True)
class PaperRuns:
    """What a sweep's folder says of a paper: `paper.json`.

    Attributes:
        scale: 'full' or 'small'.
        seeds: of each cell.
    """

    paper: str
    scale: str
    seeds: int
    cells: list[Ran]

    @property
    def by_cell(self) -> dict[Key, list[str]]:
        return {ran.key: ran.runs for ran in self.cells}


def sweep_name(paper: str, scale: str) -> str:
    return f"paper-{paper}-{scale}"


def ask_paper(
    composer: Composer, name: str, paper: Paper, scale: str, typed: Sequence[str], seeds: int | None = None
) -> tuple[Asked, PaperRuns]:
    """The runs of a paper at a scale.

    Args:
        typed: a person's own overrides, of every run, after the paper's; and where the runs are trained and kept.
        seeds: instead of the scale's.

    Raises:
        ConfigError: for words that cannot be read, or that choose what the paper's axes do.
    """
    from gradflow.runs.cells import Cells
    from gradflow.sweeps.grid import Asked, Cell, ask

    said = ask(composer, typed)
    own = said.cells[0].overrides
    if len(said.cells) > 1:
        raise ConfigError(f"paper run {name}: {' '.join(typed)}: one value each; the grid is the paper's own")
    if any(_key(text) == "seed" for text in own):
        raise ConfigError(f"paper run {name}: seed: each cell has seeds 0, 1, …; write --seeds N for another number")
    count = seeds or paper.scale(scale).seeds
    quiet = ["logger.mode=disabled"] if scale == "small" else []
    composed = Cells(composer)
    cells, ran = [], []
    for key in paper.wanted(scale):
        words = _last([*quiet, *paper.overrides_of(key, scale), *own])
        each = [[*words, f"seed={seed}"] for seed in range(count)]
        cells += [Cell(overrides) for overrides in each]
        configs = [composed.config(overrides) for overrides in each]
        theirs = composed.config([*_last(paper.overrides_of(key, "full")), "seed=0"])
        ran.append(Ran(key, [run_id(config) for config in configs], differing(labels(configs[0]), labels(theirs))))
    words = [f"paper={name}", f"paper.scale={scale}", *said.words, f"paper.grid={_digest(cells)}"]
    asked = Asked(sweep_name(name, scale), words, said.launcher, said.paths, cells)
    return asked, PaperRuns(name, scale, count, ran)


def differing(here: dict[str, Any], theirs: dict[str, Any]) -> Differs:
    """The choices in which a run departs from the paper's protocol."""
    keys = [key for key in {**here, **theirs} if key not in NO_PROTOCOL]
    return {key: (here.get(key), theirs.get(key)) for key in keys if here.get(key) != theirs.get(key)}


def write_runs(folder: Path, runs: PaperRuns) -> None:
    """Write `paper.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, asdict(runs))


def read_runs(folder: Path) -> PaperRuns | None:
    """What `paper.json` says, or None where there is none.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        values = load_json(folder / FILE)
        if values is None:
            return None
        cells = [
            Ran(tuple(each["key"]), list(each["runs"]), {key: (a, b) for key, (a, b) in each["differs"].items()})
            for each in values["cells"]
        ]
        return PaperRuns(str(values["paper"]), str(values["scale"]), int(values["seeds"]), cells)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / FILE}: not what `gradflow paper run` writes ({error!r}); run it again") from None


def _last(words: Iterable[str]) -> list[str]:
    """Of the same key only the last."""
    return list({_key(text): text for text in words}.values())


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _digest(cells: Sequence[Any]) -> str:
    """Of the grid: where its file changes, the plan is made anew."""
    return hashlib.sha256(json.dumps([cell.overrides for cell in cells]).encode()).hexdigest()[:8]
