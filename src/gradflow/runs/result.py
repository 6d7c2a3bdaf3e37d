"""What a run showed, as it stands in `result.json`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc
import torch

from gradflow.diagnosis.evidence import from_tables
from gradflow.diagnosis.verdict import diagnose
from gradflow.instruments.ratio import GradientRatio, gradient_ratio
from gradflow.lightning import Trainer
from gradflow.models.network import Network
from gradflow.runs.build import Pieces
from gradflow.runs.config import Config
from gradflow.runs.environment import hardware_name
from gradflow.runs.identity import labels, run_id, title
from gradflow.runs.recorder import Recorder
from gradflow.runs.time_watch import SUMMARIES
from gradflow.tasks.task import Task
from gradflow.training.learner import Learner


def result_of(config: Config, pieces: Pieces, learner: Learner, recorder: Recorder, trainer: Trainer) -> dict[str, Any]:
    """What the run showed. All but 'cost' is the same, bit for bit, whenever the run is repeated on one machine."""
    diverged = learner.diverged_at is not None
    ratio = _ratio(recorder)
    device = trainer.strategy.root_device
    result: dict[str, Any] = {
        "run_id": run_id(config),
        "state": "diverged" if diverged else "completed",
        "title": title(labels(config)),
        "labels": labels(config),
        "steps": learner.steps_done,
        "diverged_at": learner.diverged_at,
        "stages": learner.stages,
        "metric": f"test/{pieces.task.metric}",
        "larger_is_better": pieces.task.larger_is_better,
        "outputs": pieces.task.outputs,
        "chance": pieces.task.chance,
        "chance_error": pieces.task.chance_error(learner.data.size("test")),
        "solved": _solved(pieces.task, recorder),
        "test_size": learner.data.size("test"),
        "metrics": {
            name: value
            for name, value in sorted(recorder.final.items())
            if math.isfinite(value) and name != "pretrain/level"
        },
        "gradient": None
        if ratio is None
        else {"ratio": ratio.value, **{k: v for k, v in asdict(ratio).items() if k != "value"}},
        "no_gradient": no_gradient(pieces.network),
        "time": _time(recorder),
    }
    diagnosis = diagnose(from_tables(result, recorder.gradflow.table(), recorder.metrics.table()))
    return result | {
        "verdict": diagnosis.verdict,
        "signs": [asdict(sign) for sign in diagnosis.signs],
        "cost": {
            "device": str(device),
            "hardware": hardware_name(str(device)),
            "attempts": recorder.status["attempt"],
            "train_seconds": recorder.train_seconds,
            "steps_per_second": learner.steps_done / recorder.train_seconds if recorder.train_seconds else None,
            "clock": recorder.clock,
            "parameters": sum(p.numel() for p in pieces.network.parameters() if p.requires_grad),
            "peak_memory_bytes": _peak_memory(device),
        },
    }


def _ratio(recorder: Recorder) -> GradientRatio | None:
    """First block ÷ last block, from the record's own rows, so that it holds across restarts.

    Steps at which either has no gradient, as in layer-wise pre-training, say nothing about it.
    """
    table = recorder.gradflow.table().to_pydict()
    norms: dict[tuple[int, int], float] = {
        (step, block): value
        for step, block, quantity, value in zip(
            table["step"], table["block"], table["quantity"], table["value"], strict=True
        )
        if quantity == "grad_norm" and block is not None
    }
    if not norms:
        return None
    last = max(block for _, block in norms)
    if last == 0:  # one block: there is nothing to compare it with
        return GradientRatio(None, len(norms), sum(value == 0 for value in norms.values()), 0)
    steps = sorted(step for step, block in norms if block == 0 and (step, last) in norms)
    return gradient_ratio([norms[step, 0] for step in steps], [norms[step, last] for step in steps])


def _solved(task: Task, recorder: Recorder) -> dict[str, Any] | None:
    """When the task's own criterion was first met on the validation split."""
    if task.solved is None:
        return None
    values: dict[int, dict[str, float]] = {}
    for row in recorder.metrics.table().to_pylist():
        if row["split"] == "val":
            values.setdefault(row["step"], {})[row["name"]] = row["value"]
    met = [step for step, figures in sorted(values.items()) if task.solved.met(figures)]
    return {"criterion": str(task.solved), "step": met[0] if met else None}


def _time(recorder: Recorder) -> dict[str, Any] | None:
    """What the first and the last probe of the time axis say of block 0, of its forward direction where it has two.

    A horizon is null where the gradient never fell so far within the sequence.
    """
    table = recorder.gradflow.table()
    probes: dict[int, dict[str, Any]] = {}
    rows = table.filter(pc.equal(table["block"], 0)).to_pylist()
    names = {row["name"] for row in rows if row["time"] is not None}
    layer = max(names, default=None)  # '….forward' sorts after '….backward'
    for row in (row for row in rows if row["name"] == layer):
        probe = probes.setdefault(row["step"], {})
        if row["time"] is not None:
            probe["steps"] = max(probe.get("steps", 0), row["time"] + 1)
        elif row["quantity"].startswith(SUMMARIES):
            probe[row["quantity"]] = row["value"]
    measured = {step: {"step": step, **probe} for step, probe in probes.items() if "steps" in probe}
    if not measured:
        return None
    for probe in measured.values():
        for name in probe:
            if name.startswith("memory_horizon") and probe[name] >= probe["steps"]:
                probe[name] = None
    return {"first": measured[min(measured)], "last": measured[max(measured)]}


def no_gradient(network: Network) -> str | None:
    """Why no gradient flows through time, where a network says so."""
    said = [
        str(module.no_gradient) for module in network.modules() if isinstance(getattr(module, "no_gradient", None), str)
    ]
    return said[0] if said else None


def _peak_memory(device: torch.device) -> int | None:
    """Of the GPU's allocations in this attempt; None on a CPU, where a warm worker's memory is not one run's."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
