"""From a person's words to a search: every technique's space is checked at its corners before any trial."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from gradflow.errors import ConfigError, choose_from
from gradflow.runs.compose import Composer
from gradflow.runs.planfile import PLAN
from gradflow.runs.record import Unreadable
from gradflow.sweeps.plan import Refused
from gradflow.sweeps.tuning.corners import check_effect, compose_corners, measured, preflight_corners
from gradflow.sweeps.tuning.search import (
    FILE,
    FOLDER,
    Search,
    Technique,
    difference,
    read_search,
)
from gradflow.sweeps.tuning.settings import Asked, Tune
from gradflow.sweeps.tuning.space import Dimension, choice, read_dimension

NOT_SEARCHED = ("seed", "paths", "logger", "instruments")


def make_search(composer: Composer, asked: Asked, command: str) -> tuple[Search, Path]:
    """The search that a person's words ask for, and the sweep's folder. Nothing is written.

    One that is written there already goes on as it was, whatever has become of config files.

    Raises:
        ConfigError: for words that cannot be searched, and a folder that holds something else.
        Refused: for corners of the space that cannot run.
    """
    tune = asked.tune
    base, dimensions, axes = _sorted(composer, asked)
    _check(tune, dimensions)
    told = _identity(tune, base, dimensions)
    name = tune.name or f"tune-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]}"
    combinations = _combinations(tune, axes)
    techniques = [
        Technique(" ".join(words) or "all", slug, words, {})
        for words, slug in zip(combinations, _slugs(combinations), strict=True)
    ]
    grid = _grid_size(dimensions) if tune.sampler == "grid" else tune.trials
    trials = min(tune.trials, grid)
    folder = _folder(composer, base, name)
    before = _before(folder, name, told, trials)
    if before is not None:
        return replace(before, trials=trials, final_seeds=tune.final_seeds, command=command), folder
    corners = compose_corners(composer, base, techniques, dimensions)
    faults = preflight_corners(corners, here=asked.launcher.kind == "local")
    if faults:
        raise Refused(faults, len(corners))
    for technique in techniques:
        for template in technique.templates.values():
            template["logger"]["group"] = template["logger"]["group"] or name
    metrics, needs = measured(tune, corners)
    search = Search(
        name=name,
        command=command,
        asked=told,
        runs_dir=Path(corners[0].config.paths.runs),
        base=base,
        per=tune.per,
        dimensions=dimensions,
        techniques=techniques,
        metrics=metrics,
        at=tune.at,
        trials=trials,
        sampler=tune.sampler,
        pruner=tune.pruner,
        seeds=tune.seeds,
        final_seeds=tune.final_seeds,
        seed=tune.seed,
        needs=needs,
    )
    check_effect(search)
    return search, folder


def _folder(composer: Composer, base: list[str], name: str) -> Path:
    """The sweep's. What is not about folders may be wrong, and is told later with all else that is."""
    try:
        paths = composer.config(base).paths
    except ConfigError:
        keys = {word: composer.parse([word])[0].key_or_group for word in base}
        paths = composer.config([word for word, key in keys.items() if key.startswith("paths.")]).paths
    return Path(paths.sweeps) / name


def _before(folder: Path, name: str, told: dict[str, Any], trials: int) -> Search | None:
    """The search that the folder holds, if it is the one that is asked for."""
    try:
        before = read_search(folder)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    if before is None:
        if (folder / PLAN).exists():
            raise ConfigError(f"tune.name={name}: {folder} is another sweep's; choose another name")
        return None
    others = difference(told, before.asked)
    if others:
        where = folder / FOLDER / FILE
        raise ConfigError(f"tune.name={name}: {where} is another search ({others[0]}); choose another name")
    if trials < before.trials:
        raise ConfigError(f"tune.trials={trials}: {before.trials} were planned; it can be raised, not lowered")
    return before


# --- the space ---------------------------------------------------------------------------------------------------


def _sorted(composer: Composer, asked: Asked) -> tuple[list[str], list[Dimension], dict[str, list[str]]]:
    """The words that are the same for all, the searched keys, and the words of each key of `tune.per`."""
    base: list[str] = []
    searched: dict[str, Dimension] = {}
    axes: dict[str, list[str]] = {}
    last = {override.get_key_element(): override for override in composer.parse(asked.words)}
    for key, override in last.items():  # of two words for one key the later one counts, as in Hydra
        line = str(override.input_line)
        if override.is_delete() and override.is_sweep_override():
            raise ConfigError(f"{line}: what is deleted has no values to search")
        if key in asked.tune.per:
            axes[key] = _axis(composer, override)
        elif not override.is_sweep_override():
            base.append(line)
        elif key.split(".")[0] in NOT_SEARCHED:
            way_out = "; its runs have tune.seeds" if key == "seed" else ""
            raise ConfigError(f"{line}: is nothing to search{way_out}")
        else:
            searched[key] = read_dimension(composer, override)
    typed_seed = [word for word in base if word.startswith("seed=")]
    if typed_seed:
        raise ConfigError(f"{typed_seed[0]}: a search has several seeds; write tune.seeds=[{typed_seed[0][5:]}]")
    absent = [key for key in asked.tune.per if key not in axes]
    if absent:
        example = f"write its values, e.g. {absent[0]}=A,B"
        raise ConfigError(f"tune.per={absent[0]}: is not among what is typed; {example}")
    if not searched:
        raise ConfigError("tune: nothing to search; e.g. 'optimizer.lr=tag(log,interval(1e-4,1))'")
    return base, list(searched.values()), {key: axes[key] for key in asked.tune.per}


def _axis(composer: Composer, override: Override) -> list[str]:
    line, key = str(override.input_line), override.get_key_element()
    if not override.is_discrete_sweep():
        raise ConfigError(f"{line}: tune.per={key} needs choices, e.g. {key}=A,B")
    words = choice(composer, override).words
    return [f"{key}={word}" for word in words]


def _combinations(tune: Tune, axes: dict[str, list[str]]) -> list[list[str]]:
    """The words of each technique: axes multiply out, those of `tune.zip` are walked together as one."""
    strange = [key for key in tune.zip if key not in axes]
    if strange:
        raise ConfigError(f"tune.zip={strange[0]}: must be one of tune.per; {choose_from(strange[0], axes)}")
    lengths = {key: len(axes[key]) for key in tune.zip}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {count}" for key, count in lengths.items())
        raise ConfigError(f"tune.zip: the lists differ in length ({said})")
    columns = [list(column) for column in zip(*(axes[key] for key in tune.zip), strict=True)]
    rest = [[[word] for word in words] for key, words in axes.items() if key not in tune.zip]
    parts = itertools.product(*([columns] if columns else []), *rest)
    return [list(itertools.chain.from_iterable(part)) for part in parts]


def _slugs(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Names for files: values alone, letters and digits, no two the same."""
    slugs: list[str] = []
    for words in combinations:
        values = "-".join(word.partition("=")[2] for word in words)
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", values).strip("-.") or "all"
        slugs.append(slug if slug not in slugs else f"{slug}-{len(slugs)}")
    return slugs


def _grid_size(dimensions: Sequence[Dimension]) -> int:
    size = 1
    for dimension in dimensions:
        size *= len(dimension.points() or [])
    return size


def _identity(tune: Tune, base: list[str], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """What makes two searches the same one, whatever their budget."""
    values = tune.model_dump(include={"per", "zip", "sampler", "pruner", "metric", "at", "seeds", "seed"})
    return {**values, "words": sorted(base), "space": {d.key: d.text for d in dimensions}}


def _check(tune: Tune, dimensions: Sequence[Dimension]) -> None:
    """Samplers, pruners and metrics that do not go together."""
    several = tune.metric is not None and len(tune.metric) > 1
    if several and tune.pruner != "none":
        raise ConfigError(f"tune.pruner={tune.pruner}: goes with one metric; there are {len(tune.metric or [])}")
    if several and tune.sampler == "cmaes":
        raise ConfigError("tune.sampler=cmaes: goes with one metric; allowed with several: grid, qmc, random, tpe")
    numbers = [d for d in dimensions if d.kind != "choice"]
    if tune.sampler == "cmaes" and len(numbers) < 2:
        raise ConfigError(f"tune.sampler=cmaes: needs two keys with numbers; there are {len(numbers)}; use tpe")
    endless = [d for d in dimensions if d.points() is None]
    if tune.sampler == "grid" and endless:
        way_out = f"write choices or {endless[0].key}=range(START,STOP,STEP)"
        raise ConfigError(f"tune.sampler=grid: {endless[0].key}={endless[0].text} has no end of values; {way_out}")
    for name in tune.metric or []:
        if name.startswith("test/"):
            validation = name.replace("test/", "val/", 1)
            raise ConfigError(f"tune.metric={name}: the test split is for the final table alone; write {validation}")
    if all(name.startswith("cost/") for name in tune.metric or ["val/"]):
        raise ConfigError(f"tune.metric={','.join(tune.metric or [])}: needs a figure beside costs, e.g. val/loss")
