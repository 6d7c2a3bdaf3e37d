"""The corners of a search's space: composed, checked and measured before any trial."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from gradflow.errors import ConfigError, choose_from
from gradflow.runs.cells import Cells
from gradflow.runs.compose import Composer
from gradflow.runs.config import Config
from gradflow.runs.identity import run_id
from gradflow.sweeps.plan import Faults, Refused, check
from gradflow.sweeps.tuning.search import Metric, Needs, Search, Technique, fill
from gradflow.sweeps.tuning.settings import Tune
from gradflow.sweeps.tuning.space import Dimension

COSTS = ("train_seconds", "parameters")
MOST_TEMPLATES = 2000  # composed configs: techniques × choices of files


@dataclass(frozen=True)
class Corner:
    """A run at the edge of a technique's space."""

    technique: str
    words: list[str]
    config: Config

    def __str__(self) -> str:
        return " ".join(self.words)


def compose_corners(
    composer: Composer, base: list[str], techniques: list[Technique], dimensions: list[Dimension]
) -> list[Corner]:
    """Fill in every technique's templates, and give the corners of its space.

    Raises:
        Refused: for those that cannot be composed.
    """
    files = [[d.word(word) for word in d.words] for d in dimensions if d.group]
    chosen = [list(words) for words in itertools.product(*files)]
    if len(techniques) * len(chosen) > MOST_TEMPLATES:
        raise ConfigError(
            f"tune: {len(techniques)} techniques × {len(chosen)} choices of files are more than {MOST_TEMPLATES}"
        )
    plain = [d for d in dimensions if not d.group]
    cells = Cells(composer)
    corners: list[Corner] = []
    faults: dict[str, list[str]] = {}
    total = 0
    for technique in techniques:
        for words in chosen:
            seen: list[tuple[dict[str, Any], Corner]] = []
            for params in _corners(plain):
                total += 1
                typed = [*base, *technique.words, *words, *(d.word(params[d.key]) for d in plain)]
                try:
                    seen.append((params, Corner(technique.name, typed, cells.config(typed))))
                except ConfigError as error:
                    for line in error.lines:
                        faults.setdefault(_with_hint(line, dimensions), []).append(" ".join(typed))
            corners += [corner for _, corner in seen]
            if seen:
                technique.templates[" ".join(words)] = _template(composer, plain, seen)
    if faults:
        raise Refused([Faults(line, where) for line, where in faults.items()], total)
    return corners


def _template(
    composer: Composer, plain: Sequence[Dimension], seen: Sequence[tuple[dict[str, Any], Corner]]
) -> dict[str, Any]:
    """A config into which values can be set: a resolved one where that gives every corner, else, where some value is
    made from another, one whose interpolations are still to be filled in."""
    config = seen[0][1].config
    template = config.model_dump()
    if any(fill(template, plain, params, {}) != corner.config for params, corner in seen):
        unresolved = OmegaConf.to_container(composer.untyped(seen[0][1].words), resolve=False)
        assert isinstance(unresolved, dict)
        template = {str(key): value for key, value in unresolved.items()} | {"paths": config.paths.model_dump()}
    return template


def _corners(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """All keys at their first value, all at their last, and each choice in turn."""
    first = {d.key: d.corners()[0] for d in dimensions}
    seen = [first, {d.key: d.corners()[-1] for d in dimensions}]
    for dimension in (d for d in dimensions if d.kind == "choice"):
        seen += [{**first, dimension.key: word} for word in dimension.words[1:-1]]
    return [params for i, params in enumerate(seen) if params not in seen[:i]]


def _with_hint(line: str, dimensions: Sequence[Dimension]) -> str:
    """A number with a point where a whole one is wanted: how to write that."""
    key = line.partition("=")[0]
    for dimension in dimensions:
        if dimension.key == key and dimension.kind == "float" and "integer" in line:
            return f"{key}={dimension.text}: must be whole numbers; write {key}=int({dimension.text})"
    return line


def check_effect(search: Search) -> None:
    """Techniques that are the same runs, and keys that change no run, would be a search for nothing."""
    first = {d.key: d.corners()[0] for d in search.dimensions}
    seed = search.seeds[0]
    runs = {t.name: run_id(search.config(t, first, seed)) for t in search.techniques}
    for one, other in itertools.combinations(runs, 2):
        if runs[one] == runs[other]:
            raise ConfigError(f"tune.per: '{one}' and '{other}' are the same runs")
    for dimension in search.dimensions:
        other_end = {**first, dimension.key: dimension.corners()[-1]}
        if all(run_id(search.config(t, other_end, seed)) == runs[t.name] for t in search.techniques):
            raise ConfigError(f"{dimension.key}={dimension.text}: changes nothing in a run")


def preflight_corners(corners: list[Corner], here: bool) -> list[Faults]:
    from gradflow.runs.preflight import Preflight

    preflight = Preflight(here)
    return check(((str(corner), corner.config) for corner in corners), preflight.check, preflight.structure)


def measured(tune: Tune, corners: list[Corner]) -> tuple[list[Metric], Needs]:
    """What is optimised and which way, and what the runs need.

    Raises:
        ConfigError: for an unknown metric, and techniques whose figures cannot be compared.
    """
    import torch

    from gradflow.runs.build import assemble

    distinct = {repr((c.config.task, c.config.trainer, c.config.label_smoothing)): c.config for c in reversed(corners)}
    with torch.device("meta"):
        pieces = [assemble(config) for config in distinct.values()]
    tasks = {(each.task.metric, each.task.larger_is_better): each.task for each in pieces}
    if len(tasks) > 1:
        names = " and ".join(sorted({task.name for task in tasks.values()}))
        raise ConfigError(f"tune: the figures of task={names} cannot be compared with each other")
    ((metric, larger),) = tasks
    known = {"val/loss": False, f"val/{metric}": larger} | {f"cost/{name}": False for name in COSTS}
    asked = tune.metric or [f"val/{metric}"]
    for name in asked:
        if name not in known:
            raise ConfigError(f"tune.metric={name}: unknown value; {choose_from(name, known)}")
    configs = [corner.config for corner in corners]
    nodes = max(each.trainer.num_nodes for each in configs)
    if nodes > 1:
        raise ConfigError(f"trainer.num_nodes={nodes}: the runs of a search have one node each")
    needs = Needs(
        threads=max(each.hardware.threads * each.trainer.devices for each in configs),
        devices=max(each.trainer.devices for each in configs),
        gpu=any(each.hardware.device in ("auto", "cuda") for each in configs),
        steps=max(each.budget.total for each in pieces),
        first=min(each.budget.val_every for each in pieces),
    )
    return [Metric(name, known[name]) for name in asked], needs
