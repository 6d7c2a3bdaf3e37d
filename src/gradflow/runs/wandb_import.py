"""Records from runs at Weights & Biases, so that a table can mix them with those trained here.

A run that gradflow has logged comes back as it was: its result, from the summary; its config; losses, metrics and what
was measured, from its history. What W&B was not given is not there again: blocks that have no chart of their own,
histograms, the gradient of every time step; so it is not judged again. A run of other software becomes a record whose
labels are its config, and whose metrics are numbers of its summary.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gradflow.errors import ConfigError, choose_from
from gradflow.runs import wandb_keys as keys
from gradflow.runs.record import write_bytes, write_json
from gradflow.runs.series import GRADFLOW, METRICS, Series
from gradflow.runs.wandb_history import SUMMARIES

SPLITS = ("train", "val", "test", "pretrain")
PATIENCE = 20  # seconds for an answer of the server
NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # as W&B writes them
LOWER_IS_BETTER = re.compile(r"loss|error|(^|[^a-z])err([^a-z]|$)|mse|mae|nll|perplexity", re.IGNORECASE)
MEASURED = {keys.plain(name): name for name in SUMMARIES}


@dataclass
class Imported:
    """Run ids by what became of them; `skipped` has the reason."""

    new: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def pull(
    project: str,
    runs: Path,
    filters: dict[str, Any] | None = None,
    metrics: Mapping[str, tuple[str, str]] | None = None,
    labels: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Imported:
    """Make a record of each run of a project that has none, and has ended.

    Args:
        project: 'ENTITY/PROJECT'.
        runs: the folder of runs; nothing that is there is changed.
        filters: as `filters_of` makes them.
        metrics: of other software's runs, the summary's keys that count, as `metrics_of` makes them, the one to compare
            by first.
        labels: of other software's runs, beside those of their config, which they replace.
        tell: given each run's title, once its record is there.

    Raises:
        ConfigError: where the server does not answer, refuses, or has no such project; where no run fits a filter
            because none has such a label.
    """
    done, fits = Imported(), False
    runs.mkdir(parents=True, exist_ok=True)
    for run in _asked(project, lambda: iter(_api().runs(project, filters=filters or {}, order="+created_at"))):
        fits = True
        kept = _result_of(run)
        name = kept["result"]["run_id"] if kept else f"wandb-{re.sub(r'[^A-Za-z0-9_-]', '_', str(run.id))}"
        if (runs / name).exists():
            done.there.append(name)
            continue
        if kept is None and run.state != "finished":
            done.skipped[name] = f"it is {run.state}"
            continue
        try:
            result = kept["result"] if kept else _foreign(run, name, project, metrics or {}, labels or {})
        except ConfigError as error:
            done.skipped[name] = error.lines[0]
            continue
        folder = runs / f".{name}.importing"  # a record is there as a whole or not at all
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            _write(folder, run, project, result, kept or {})
            folder.rename(runs / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        done.new.append(name)
        if tell is not None:
            tell(str(result["title"]))
    if not fits and filters:
        _check_labels(project, filters)
    return done


def filters_of(words: Iterable[str]) -> dict[str, Any]:
    """W&B's filters from 'key=value' words: a label (`depth=10`, `optimizer.lr=0.1`), or group, state, tag.

    Raises:
        ConfigError: for a word without '='.

    >>> filters_of(["optimizer.lr=0.1", "group=quickstart"])
    {'config.optimizer-lr.value': 0.1, 'group': 'quickstart'}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"--filter {word}: must be key=value, e.g. depth=10 or group=quickstart")
        own = {"group": "group", "state": "state", "tag": "tags"}
        found[own.get(name, f"config.{keys.config_key(name)}.value")] = _plain(text)
    return found


def labels_of(words: Iterable[str]) -> dict[str, Any]:
    """Labels from 'key=value' words.

    Raises:
        ConfigError: for a word without '='.

    >>> labels_of(["task=cifar10", "seed=3", "lr=1e-4", "day=2026-01-31", "widths=[8,4]"])
    {'task': 'cifar10', 'seed': 3, 'lr': 0.0001, 'day': '2026-01-31', 'widths': '[8,4]'}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"--label {word}: must be key=value, e.g. task=cifar10")
        found[name] = _plain(text)
    return found


def metrics_of(words: Iterable[str]) -> dict[str, tuple[str, str]]:
    """What 'KEY:NAME' words ask for: by word, the key and what to call it.

    Raises:
        ConfigError: for two of one key, or of one name.

    >>> metrics_of(["test_acc:test/accuracy", "loss"])
    {'test_acc:test/accuracy': ('test_acc', 'test/accuracy'), 'loss': ('loss', 'loss')}
    """
    found: dict[str, tuple[str, str]] = {}
    for word in words:
        key, _, name = word.partition(":")
        if any(key == other for other, _ in found.values()):
            raise ConfigError(f"--metric {word}: {key} is asked for twice; name it once")
        if any(called == (name or key) for _, called in found.values()):
            raise ConfigError(f"--metric {word}: two of the metrics would be called {name or key}; give each its own")
        found[word] = key, name or key
    return found


def _plain(text: str) -> Any:
    """A number, a truth or nothing where it is one; else the text itself."""
    try:
        value = yaml.safe_load(text)
        value = float(value) if isinstance(value, str) else value  # 1e-4, which is a word to YAML
    except (yaml.YAMLError, ValueError):
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text
    return value if value is None or isinstance(value, int | float) else text


def _check_labels(project: str, filters: dict[str, Any]) -> None:
    """That the project's first run has the labels that are asked for."""
    first = next(_asked(project, lambda: iter(_api().runs(project, per_page=1))), None)
    known = {} if first is None else {f"config.{name}.value": name for name in first.config}
    wrong = [name for name in filters if name.startswith("config.") and name not in known]
    if known and wrong:
        label = wrong[0].removeprefix("config.").removesuffix(".value")
        raise ConfigError(f"--filter {label}: no run of {project} fits; {choose_from(label, known.values())}")


def _api() -> Any:
    import wandb

    return wandb.Api(timeout=PATIENCE)


def _asked(project: str, ask: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """What the server has, with its faults as one line."""
    import wandb

    try:
        yield from ask()
    except (wandb.errors.Error, ConnectionError, TimeoutError, ValueError, TypeError) as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(f"import-wandb {project}: W&B did not give its runs: {said[:200]}") from None


def _result_of(run: Any) -> dict[str, Any] | None:
    """{"result", "config", "steps_per_epoch"} that gradflow has put into a summary; None for other software's run.

    The agent of a W&B sweep gives a run an id of its own; the result has the run id, which becomes a folder's name.
    """
    text = run.summary_metrics.get(keys.RECORD)
    try:
        kept = json.loads(text) if isinstance(text, str) else None
        own = kept is not None and re.fullmatch(r"[0-9a-f]{12}", kept["result"]["run_id"]) is not None
        return kept if own else None
    except (ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, run: Any, project: str, result: dict[str, Any], kept: dict[str, Any]) -> None:
    metrics, gradflow = Series(folder / "metrics.parquet", METRICS), Series(folder / "gradflow.parquet", GRADFLOW)
    per_epoch = kept.get("steps_per_epoch")
    for row in run.scan_history(use_cache=False):
        step = int(row["_step"])
        for key, value in row.items():
            number = _number(value)
            if number is None or key.startswith(("_", "heat_map/", "histogram/")):
                continue
            section, _, rest = key.partition("/")
            if section == "gradflow":
                if measured := _measured(rest):
                    gradflow.add(step=step, value=number, **measured)
            elif not kept or section in SPLITS:
                split, name = (section, rest) if rest else ("train", key)
                epoch = max(0, step - 1) // per_epoch if per_epoch else 0
                metrics.add(step=step, epoch=epoch, split=split, name=name, value=number)
    metrics.write()
    gradflow.write()
    paths = {"runs": str(folder.parent), "sweeps": "sweeps", "data": "data"}
    config = {**kept["config"], "paths": paths} if kept else dict(run.config)
    write_bytes(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    write_bytes(folder / "overrides.yaml", b"[]\n")
    status = {
        "run_id": result["run_id"],
        "state": result["state"],
        "attempt": 1,
        "title": result["title"],
        "group": run.group,
        "host": None,
        "pid": None,
        "job_id": None,
        "started": None,
        "heartbeat": time.time(),
        "step": result["steps"],
        "error": None,
        "labels": result["labels"],
        "imported": f"{project}/{run.id}",
    }
    write_json(folder / "status.json", status)
    write_json(folder / "result.json", {name: value for name, value in result.items() if name != "format"})


def _measured(rest: str) -> dict[str, Any] | None:
    """Block, name, quantity and time of a history key below 'gradflow/'; None for what was made of several.

    >>> _measured("grad_norm/07")
    {'block': 7, 'name': 'blocks.07', 'time': None, 'quantity': 'grad_norm'}
    """
    quantity, _, place = rest.rpartition("/")
    number, _, direction = place.partition("_")
    quantity = MEASURED.get(quantity, quantity)
    time_step = 0 if quantity == "forget_leak" else None
    if number.isdigit():
        name = f"blocks.{number}" + (f".{direction}" if direction else "")
        return {"block": int(number), "name": name, "time": time_step, "quantity": quantity}
    if quantity and place in keys.WHOLE:
        return {"block": None, "name": place, "time": None, "quantity": quantity}
    return None


def _foreign(
    run: Any, name: str, project: str, metrics: Mapping[str, tuple[str, str]], labels: Mapping[str, Any]
) -> dict[str, Any]:
    """The result of a run of other software.

    Raises:
        ConfigError: if its summary has none of the metrics asked for, or no number at all.
    """
    summary = {key: number for key, value in run.summary_metrics.items() if (number := _number(value)) is not None}
    figures = {key: value for key, value in summary.items() if key[0] != "_" and math.isfinite(value)}
    # a key of W&B's may have a colon itself
    asked = {
        word if word in figures else key: word if word in figures else name for word, (key, name) in metrics.items()
    }
    missing = [key for key in asked if key not in figures]
    if missing or not figures:
        has = ", ".join(sorted(figures)[:10]) or "no number"
        raise ConfigError(f"its summary has no {missing[0] if missing else 'metric'}, but {has}")
    shown = {called: figures[key] for key, called in asked.items()} or figures
    first = next(iter(asked), None) or _likely(figures)
    own: dict[str, Any] = {"task": project.rpartition("/")[2], "model": "imported", "depth": 0, "seed": 0}
    own |= dict.fromkeys(("activation", "init", "norm", "skip"), "none") | _flat(dict(run.config))
    if not isinstance(own.get("recipe"), str):
        own["recipe"] = str(run.group or project.rpartition("/")[2])  # seeds of one config stand in one row
    own |= {"source": project, **labels}
    seconds = summary.get("_runtime")
    steps = int(summary.get("_step", 0))
    return {
        "run_id": name,
        "state": "completed",
        "title": str(run.name),
        "labels": own,
        "steps": steps,
        "diverged_at": None,
        "stages": [],
        "metric": asked.get(first, first),
        "larger_is_better": not LOWER_IS_BETTER.search(first),  # by its own name, whatever it is called here
        "outputs": None,
        "chance": None,
        "chance_error": None,
        "solved": None,
        "test_size": None,
        "metrics": shown,
        "gradient": None,
        "no_gradient": None,
        "time": None,
        "verdict": "not measured",
        "signs": [],
        "cost": {
            "device": None,
            "attempts": 1,
            "train_seconds": seconds,
            "steps_per_second": steps / seconds if seconds else None,
        },
    }


def _likely(figures: dict[str, float]) -> str:
    """The summary's number to compare by, where nobody has said: a test's, a validation's, or the first."""
    for word in ("test.*acc", "test", "val.*acc", "val", "acc"):
        found = [key for key in figures if re.search(word, key, re.IGNORECASE)]
        if found:
            return found[0]
    return next(iter(figures))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted labels; what is neither a word nor a number becomes its text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            found[f"{prefix}{name}"] = str(value)
        else:
            plain = value is None or isinstance(value, str | int | float)
            listed = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            found[f"{prefix}{name}"] = value if plain else listed
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return NUMBERS.get(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
