"""A search written down before its first trial, like the plan of a sweep: editing a config file afterwards changes
nothing in it."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from gradflow.runs.compose import resolve
from gradflow.runs.config import Config
from gradflow.runs.record import Unreadable, load_json, write_json
from gradflow.sweeps.tuning.space import Dimension

FOLDER, FILE = "tune", "tune.json"
FRESH = 1000  # the first of the seeds that no trial used
Params = Mapping[str, Any]  # what Optuna suggests: of a choice the word, of numbers the number


@dataclass(frozen=True)
class Metric:
    """What is optimised: a figure of the validation split, 'val/…', or a cost, 'cost/…'."""

    name: str
    larger_is_better: bool

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """In Optuna's words."""
        return "maximize" if self.larger_is_better else "minimize"


@dataclass(frozen=True)
class Technique:
    """One of the things to be compared, tuned by itself.

    Attributes:
        name: its choices, e.g. 'activation=relu norm=batch'; the name of its study.
        slug: the same for a file's name.
        words: its overrides.
        templates: composed configs before interpolation, by the words of the searched groups' choices, joined by a
            space.
    """

    name: str
    slug: str
    words: list[str]
    templates: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Needs:
    """What its runs need of a machine, for `allot`, and how long they are, for pruners.

    Attributes:
        threads: CPU threads of a run.
        devices: GPUs of a run.
        gpu: whether any run may use one.
        steps: of the longest run.
        first: the step of the first validation.
    """

    threads: int
    devices: int
    gpu: bool
    steps: int
    first: int


@dataclass(frozen=True)
class Search:
    """See `conf/tune/default.yaml`.

    Attributes:
        asked: what tells one search from another: a folder holds one.
        command: what to type to go on.
        runs_dir: where the records are.
        base: overrides that are the same for all runs.
    """

    name: str
    command: str
    asked: dict[str, Any]
    runs_dir: Path
    base: list[str]
    per: list[str]
    dimensions: list[Dimension]
    techniques: list[Technique]
    metrics: list[Metric]
    at: str
    trials: int
    sampler: str
    pruner: str
    seeds: list[int]
    final_seeds: int
    seed: int
    needs: Needs

    @property
    def weighed(self) -> bool:
        """Whether several metrics are weighed against each other."""
        return len(self.metrics) > 1

    @property
    def fresh(self) -> list[int]:
        """Seeds of the final table: none that a trial used, or the choice among trials would have seen them."""
        unused = (seed for seed in itertools.count(FRESH) if seed not in self.seeds)
        return list(itertools.islice(unused, self.final_seeds))

    def config(self, technique: Technique, params: Params, seed: int) -> Config:
        """Of one run of a trial."""
        files = [d.word(params[d.key]) for d in self.dimensions if d.group]
        values = {"seed": seed, "paths.runs": str(self.runs_dir)}
        return fill(technique.templates[" ".join(files)], self.dimensions, params, values)

    def overrides(self, technique: Technique, params: Params, seed: int) -> list[str]:
        """What one would type to train one run of a trial."""
        searched = [d.word(params[d.key]) for d in self.dimensions]
        return [*self.base, *technique.words, *searched, f"seed={seed}"]


def fill(
    template: Mapping[str, Any], dimensions: Iterable[Dimension], params: Params, more: Mapping[str, Any]
) -> Config:
    """A template with what was suggested for keys that choose no file, and a few values more.

    Raises:
        ConfigError: for what does not make a config.
    """
    config = OmegaConf.create(copy.deepcopy(dict(template)))
    plain = {d.key.lstrip("+"): d.value(params[d.key]) for d in dimensions if not d.group}
    for key, value in {**plain, **more}.items():
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    return resolve(config)


def write_search(folder: Path, search: Search) -> None:
    """Into the sweep's folder."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    values = asdict(search) | {"runs_dir": os.path.relpath(search.runs_dir, folder)}
    write_json(folder / FOLDER / FILE, values)


def read_search(folder: Path) -> Search | None:
    """The search in a sweep's folder, or None.

    Raises:
        Unreadable: if there is one that cannot be read.
    """
    file = folder / FOLDER / FILE
    values = load_json(file)
    if values is None:
        return None
    values.pop("format")
    try:
        made = Search(**values)
        dimensions = [Dimension(**d) for d in values["dimensions"]]
        return replace(
            made,
            runs_dir=Path(os.path.normpath(folder / values["runs_dir"])),
            dimensions=[replace(d, words=tuple(d.words), values=tuple(d.values)) for d in dimensions],
            techniques=[Technique(**each) for each in values["techniques"]],
            metrics=[Metric(**each) for each in values["metrics"]],
            needs=Needs(**values["needs"]),
        )
    except (TypeError, KeyError) as error:
        raise Unreadable(f"{file}: not a gradflow search ({error!r})") from None


def difference(asked: Mapping[str, Any], before: Mapping[str, Any]) -> Sequence[str]:
    """What is asked for otherwise than before, a phrase each."""
    return [
        f"{key} was {_said(before.get(key))}, not {_said(value)}"
        for key, value in asked.items()
        if before.get(key) != value
    ]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={inner}" for key, inner in value.items()) or "nothing"
    return ",".join(map(str, value)) or "nothing" if isinstance(value, list) else str(value)
