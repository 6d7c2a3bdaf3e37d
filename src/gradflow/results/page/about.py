"""What a record says of a run in words: its config, how to run it again, where it ran, what went wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gradflow.results.page.pack import rounded
from gradflow.runs.identity import title
from gradflow.runs.record import Record, Unreadable, load_json

ERROR_LINES = 30
SECRET = re.compile(r"api_?key|secret|passw(or)?d|credential|(^|[._])token$", re.IGNORECASE)
HIDDEN = "•••"
LEFT_OUT = ("paths",)  # of a config: where files lie on somebody's machine
ENVIRONMENT = ("python", "platform", "cpu", "cores", "gpus", "cuda", "threads", "deterministic_algorithms")
PACKAGES = ("gradflow", "torch", "lightning", "numpy")


def about(
    record: Record | None,
    labels: dict[str, Any],
    overrides: Sequence[str],
    config: dict[str, Any],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """The words of a run.

    Args:
        record: None for a run that has none yet.
        labels, overrides, config: of the plan; what was typed for the record comes before its overrides, its config
            before that of the record, which is slow to read.
        more: words to type behind the overrides, such as --config-dir.
    """
    status = {} if record is None else record.status
    result = (record.result if record is not None else None) or {}
    typed = [_masked(word) for word in (_overrides(record.path) if record is not None else []) or overrides]
    whole = config or ({} if record is None else _yaml(record.path / "config.yaml") or {})
    error = str(status.get("error") or "").strip()
    cost = {key: value for key, value in (result.get("cost") or {}).items() if key != "clock"}
    return {
        "state": "missing" if record is None else record.state,
        "title": str(status.get("title") or _title(labels)),
        "config": rounded(_flat(whole), 8),
        "overrides": typed,
        "command": shlex.join(["gradflow", "train", *typed, *more]) if typed else None,
        "attempts": status.get("attempt"),
        "host": status.get("host"),
        "error": "\n".join(error.splitlines()[-ERROR_LINES:]) or None,
        "metrics": rounded(result.get("metrics") or {}, 6),
        "cost": rounded(cost),
        "environment": {} if record is None else _environment(record.path),
    }


def command_without_secrets(command: str | None) -> str | None:
    """What was typed, with '•••' for the value of a key that says it is a secret."""
    try:
        words = shlex.split(command or "")
    except ValueError:  # not a shell's
        return command
    masked = [_masked(word) for word in words]
    return command if masked == words else shlex.join(masked)


def _masked(word: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}={HIDDEN}" if equals and _secret(key) else word


def _title(labels: dict[str, Any]) -> str:
    return title(labels) if {"task", "model", "recipe", "depth", "seed"} <= set(labels) else ""


def _environment(path: Path) -> dict[str, Any]:
    """A few words of environment.json, each named here: whatever else may be in it stays there."""
    try:
        whole = load_json(path / "environment.json")
    except Unreadable:
        return {}
    if whole is None:
        return {}
    found = {key: whole[key] for key in ENVIRONMENT if key in whole}
    found |= {name: version for name, version in (whole.get("packages") or {}).items() if name in PACKAGES}
    return found | {
        f"git_{key}": value for key, value in (whole.get("code") or {}).items() if key in ("commit", "dirty")
    }


def _overrides(path: Path) -> list[str]:
    said = _yaml(path / "overrides.yaml")
    return [str(word) for word in said] if isinstance(said, list) else []


def _yaml(file: Path) -> Any:
    """What a YAML file holds; None where there is none that can be read."""
    try:
        return yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """A config as 'optimizer.lr': 0.1; a `_target_` as its own word under the key of what it makes."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key not in LEFT_OUT:
            _flatten(str(key), value, flat)
    return {key: HIDDEN if _secret(key) and value is not None else value for key, value in flat.items()}


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "_target_":
                target = str(inner)
                into[name] = target.rpartition(".")[2] if target.startswith("gradflow.") else target
            else:
                _flatten(f"{name}.{key}", inner, into)
    elif isinstance(value, list | tuple):
        into[name] = "[" + ",".join(map(str, value)) + "]"
    else:
        into[name] = value


@cache
def _secret(key: str) -> bool:
    return SECRET.search(key) is not None
