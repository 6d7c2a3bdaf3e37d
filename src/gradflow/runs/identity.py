"""Which run a config is: its id, and the words for it in a table."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gradflow.runs.config import FACTORS, NUMBERS, Config
from gradflow.runs.planfile import RECIPE
from gradflow.runs.ranks import processes

BUDGET = ("max_steps", "max_epochs", "max_time")
NO_NORM = "gradflow.models.norms.none"
ECHO_STATE = "gradflow.models.esn.esn"
Label = str | int | float | bool | None


def science(config: Config) -> dict[str, Any]:
    """The part of a config that changes the numbers: task, model, factors, remedies, optimiser, budget, hardware, seed.

    Left out are where files lie and what is logged and watched. Hardware is in: it is a factor to compare, and under
    a wall-clock budget it decides how far a run gets. Its 'devices' are the processes of all machines: sums over a
    batch round differently in each number of parts. Remedies are a list: they act in the order in which they stand.
    """
    values = config.model_dump()
    if values["trainer"]["max_epochs"] is not None:
        values["trainer"]["max_steps"] = None  # what has no effect must not tell equal runs apart
    if "norm_position" in values["model"] and values["norm"]["_target_"] == NO_NORM:
        values["model"]["norm_position"] = None
    model = values["model"]
    if model["_target_"] == ECHO_STATE:
        if model["readout"] == "ridge":  # solved for: nothing is initialised or optimised
            values |= {"optimizer": None, "scheduler": None, "init": None}
        if model["read"] != "window":
            model["window"] = None
        if model["topology"] != "random":
            model["connectivity"] = None
    return {
        **{name: values[name] for name in (*FACTORS, *NUMBERS) if values[name] is not None},
        "remedy": [{"name": name, **node} for name, node in values["remedy"].items()],
        "trainer": {name: values["trainer"][name] for name in BUDGET} | _ends_early(config),
        "hardware": {**values["hardware"], "devices": processes(config)},
    }


def _ends_early(config: Config) -> dict[str, bool]:
    """Part of the budget only where it is asked for."""
    return {"stop_when_solved": True} if config.trainer.stop_when_solved else {}


def run_id(config: Config) -> str:
    """Twelve hexadecimal digits: the SHA-256 of the scientific part in canonical form.

    Keys are sorted and whole floats written as integers, so that `lr: 1` and `lr: 1.0` are the same run.
    """
    text = json.dumps(_canonical(science(config)), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def labels(config: Config) -> dict[str, Label]:
    """One flat word or number per choice: {'activation': 'relu', 'optimizer': 'sgd', 'optimizer.lr': 0.05, …}.

    A factor's word is the last part of its `_target_`, or the whole of one outside gradflow, so that two definitions
    never share a word; 'recipe' joins cell, activation, inits, norm and skip.
    """
    flat: dict[str, Label] = {}
    for name, value in science(config).items():
        if name != "remedy":
            _flatten(name, value, flat)
    for name, node in config.remedy.items():
        _flatten(f"remedy.{name}", node, flat)
    flat["remedy"] = " + ".join(str(flat.pop(f"remedy.{name}")) for name in config.remedy) or "none"
    hardware, several = config.hardware, f"{world} × " if (world := processes(config)) > 1 else ""
    flat["hardware"] = f"{several}{hardware.device} {hardware.precision}" + (" compiled" if hardware.compile else "")
    flat["recipe"] = " · ".join(str(flat[name]) for name in RECIPE if flat.get(name, "none") != "none")
    return flat


def title(labels: dict[str, Any]) -> str:
    """A run's name for people, e.g. 'digits mlp sigmoid · fan_in_uniform depth 30 seed 0' or 'adding lstm length 100
    depth 1 seed 0': a cell's own parts are not those of the factors' words."""
    if "cell" in labels or labels["model"] == "esn":
        length = f" length {labels['task.length']}" if "task.length" in labels else ""
        return f"{labels['task']} {labels.get('cell', 'esn')}{length} depth {labels['depth']} seed {labels['seed']}"
    return f"{labels['task']} {labels['model']} {labels['recipe']} depth {labels['depth']} seed {labels['seed']}"


def _flatten(name: str, value: Any, into: dict[str, Label]) -> None:
    if isinstance(value, dict):
        if "_target_" in value:
            target = str(value["_target_"])
            into[name] = target.rpartition(".")[2] if target.startswith("gradflow.") else target
        for key, inner in value.items():
            if key != "_target_":
                _flatten(f"{name}.{key}", inner, into)
    elif isinstance(value, list):
        into[name] = ",".join(map(str, value))
    else:
        into[name] = value


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
