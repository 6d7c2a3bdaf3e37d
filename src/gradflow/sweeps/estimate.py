"""What a sweep will cost: operations and memory by counting, time from runs that were trained before on this hardware.

A run's operations are those of matrix products and convolutions: one way forward, and twice as much for the way back.
Its memory is that of parameters, gradients, the optimiser's state and what is kept for the way back, for each process;
neither the data nor what the libraries take for themselves is in it. Time is never made up: without an earlier run to
go by it is not known.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.runs.config import Config, Hardware
from gradflow.runs.planfile import PlannedRun
from gradflow.runs.ranks import processes
from gradflow.runs.record import DONE

if TYPE_CHECKING:
    from gradflow.runs.preflight import Preflight
    from gradflow.sweeps.launch import Prepared

NUMBER = {"64": 8}  # bytes of a parameter; 4 in every other precision
KEPT = {"64": 2.0, "bf16-mixed": 0.5, "16-mixed": 0.5}  # bytes kept for the way back, in those of float32
BACK = 2  # times the operations of the way forward: gradients of inputs and of weights
# The labels that decide how long a step takes, whatever the values of others.
STRUCTURE = ("task", "model", "cell", "activation", "norm", "skip", "depth", "width", "hardware")
LIKE = ("task", "model")  # what has one pace per operation
IGNORED = ("task.split_seed", "hardware", "hardware.device")  # the name of what a run was trained on is in its cost


class Estimator:
    """Operations, memory and steps of runs: {"operations": …, "memory": bytes, "steps": …}, None where not known.

    Configs with one network had better come one after another.
    """

    def __init__(self, preflight: Preflight) -> None:
        self._preflight = preflight
        self._states: dict[str, float | None] = {}
        self._known: dict[Any, dict[str, Any] | None] = {}

    def __call__(self, config: Config) -> dict[str, Any] | None:
        from gradflow.runs.build import budget

        trainer, key = config.trainer, self._preflight.structure(config)
        whole = (key, repr(config.optimizer), trainer.max_steps, trainer.max_epochs, processes(config))
        precision = config.hardware.precision
        if (whole, precision) not in self._known:
            found = self._preflight.sizes(config)
            if found is None:
                self._known[whole, precision] = None
                return None
            task, sizes = found.task, found.sizes
            steps, batch = budget(config, task).total, task.batch_size
            state = self._state(config.optimizer)
            numbers = sizes.parameters * NUMBER.get(precision, 4)
            kept = sizes.activations * -(-batch // processes(config)) + sizes.fixed
            self._known[whole, precision] = {
                "operations": sizes.operations * batch * steps * (1 if found.solved else 1 + BACK),
                "memory": None if state is None else round(numbers * (2 + state) + kept * KEPT.get(precision, 1.0)),
                "steps": steps,
            }
        return self._known[whole, precision]

    def _state(self, node: dict[str, Any]) -> float | None:
        """Numbers that an optimiser keeps for each parameter, seen on a small one; None if it takes other ones only."""
        key = repr(node)
        if key not in self._states:
            self._states[key] = _state(node)
        return self._states[key]


@dataclass(frozen=True)
class Summary:
    """A plan in few numbers. Of runs that have no result yet, but for `runs` and `done`.

    Attributes:
        operations: floating-point operations of all.
        memory: bytes of the largest.
        seconds: of training, one run after another, of those of which the time is known.
        timed: how many these are.
        counted: of how many the operations are known.
    """

    runs: int
    done: int
    operations: float
    memory: int | None
    seconds: float
    timed: int
    counted: int


def summary(prepared: Prepared, times: Mapping[str, float | None] | None = None) -> Summary:
    """What is left to train and what it will cost.

    Args:
        times: what `expected` gives, if it is known already: it reads every record.
    """
    missing = prepared.missing
    known = [run.estimate for run in missing if run.estimate is not None]
    known_times = expected(prepared) if times is None else times
    timed = [seconds for seconds in known_times.values() if seconds is not None]
    return Summary(
        len(prepared.plan.runs),
        len(prepared.plan.runs) - len(prepared.states),
        sum(estimate["operations"] for estimate in known),
        max((estimate["memory"] for estimate in known if estimate["memory"] is not None), default=None),
        sum(timed),
        len(timed),
        len(known),
    )


def expected(prepared: Prepared) -> dict[str, float | None]:
    """Seconds of training of each missing run by its id, where earlier runs tell.

    A run of the same structure tells most; else those of the same task and model, by their pace per operation. On this
    machine its own hardware counts; for a cluster that of the records, if all have the same.
    """
    paces = _Paces(prepared.plan.runs, _records(prepared.plan.runs_dir), prepared.launcher.kind == "slurm")
    return {run.run_id: paces.seconds(run) for run in prepared.missing}


class _Paces:
    """Seconds per step of what was trained before."""

    def __init__(self, runs: Sequence[PlannedRun], records: Iterable[Mapping[str, Any]], elsewhere: bool) -> None:
        listed = list(records)
        self._here = {} if elsewhere else _hardware_here(runs)
        names = {str(record["cost"]["hardware"]) for record in listed}
        self._everywhere = names.pop() if elsewhere and len(names) == 1 else None
        operations = {
            _structure(run.labels): run.estimate["operations"] / run.estimate["steps"]
            for run in runs
            if run.estimate is not None
        }
        self._by_structure: dict[Any, list[float]] = {}
        self._by_operation: dict[Any, list[float]] = {}
        for record in listed:
            labels, pace = record["labels"], record["cost"]["train_seconds"] / record["steps"]
            name, key = record["cost"]["hardware"], _structure(labels)
            self._by_structure.setdefault((name, key), []).append(pace)
            if operations.get(key):
                self._by_operation.setdefault((name, _like(labels)), []).append(pace / operations[key])

    def seconds(self, run: PlannedRun) -> float | None:
        name = self._everywhere or self._here.get(str(run.labels.get("hardware.device")))
        if run.estimate is None or name is None:
            return None
        same = self._by_structure.get((name, _structure(run.labels)))
        if same:
            return float(statistics.median(same) * run.estimate["steps"])
        alike = self._by_operation.get((name, _like(run.labels)))
        return float(statistics.median(alike) * run.estimate["operations"]) if alike else None


def _hardware_here(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """What 'cpu', 'cuda', 'auto' … are on this machine."""
    from gradflow.runs.environment import hardware_name
    from gradflow.runs.hardware import device_of

    asked = {node["device"]: Hardware.model_validate(node) for run in runs if (node := run.config.get("hardware"))}
    return {word: hardware_name(device_of(hardware)) for word, hardware in asked.items()}


def _records(runs_dir: Path) -> Iterable[Mapping[str, Any]]:
    """Results that say how long they took, and on what."""
    for file in runs_dir.glob("*/result.json"):
        try:
            result = json.loads(file.read_bytes())
            cost = result["cost"]
            if result["state"] in DONE and result["steps"] and cost["train_seconds"] and cost["hardware"]:
                result["labels"]["task"]
                yield result
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of what cannot be read, `gradflow status` tells


def _structure(labels: Mapping[str, Any]) -> Any:
    parts = [(key, value) for key, value in labels.items() if key.partition(".")[0] in STRUCTURE and key not in IGNORED]
    whether = [bool(labels.get(key)) for key in ("dropout", "alpha_dropout", "input_noise", "label_smoothing")]
    return (tuple(sorted(parts, key=str)), labels.get("optimizer"), labels.get("remedy"), *whether)


def _like(labels: Mapping[str, Any]) -> Any:
    hardware = [(key, value) for key, value in labels.items() if key.startswith("hardware.") and key not in IGNORED]
    return (*(labels.get(key) for key in LIKE), tuple(sorted(hardware, key=str)))


def _state(node: dict[str, Any]) -> float | None:
    import torch
    from torch import nn

    from gradflow.runs.build import make
    from gradflow.training.optimizers import parameter_groups

    tiny = nn.Linear(2, 2)
    try:
        optimizer = make("optimizer", node, parameter_groups(tiny))
        for parameter in tiny.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    except Exception:  # noqa: BLE001 - whatever one from elsewhere says of four weights, it is no fault of the plan
        return None
    held = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    return sum(each.numel() for each in held if each.ndim) / sum(p.numel() for p in tiny.parameters())
