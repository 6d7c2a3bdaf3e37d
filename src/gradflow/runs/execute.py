"""Train one run: from a config to a record."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from gradflow.diagnosis.evidence import from_tables
from gradflow.diagnosis.verdict import diagnose
from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.instruments.ratio import GradientRatio, gradient_ratio
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.runs import prediction, series
from gradflow.runs.build import Pieces, build
from gradflow.runs.claim import Claim, Lost, claim
from gradflow.runs.config import Config
from gradflow.runs.environment import environment, switches
from gradflow.runs.hardware import PRECISIONS, compiled, device_of, missing_hardware, set_switches
from gradflow.runs.identity import labels, run_id, title
from gradflow.runs.record import Unreadable, is_done, read, write_bytes, write_json
from gradflow.runs.recorder import Judge, PrunedRun, Recorder, newest_checkpoint
from gradflow.runs.stop import InterruptedRun, Stop
from gradflow.runs.time_watch import SUMMARIES, TimeWatch
from gradflow.runs.wandb_logger import finish, make_logger
from gradflow.tasks.task import Task
from gradflow.training.learner import Learner

OnProgress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: 'completed', 'diverged', 'preempted', 'failed', 'pruned', 'done' before or by another, or
    'busy' elsewhere."""

    run_id: str
    state: str
    error: str | None = None
    seconds: float = 0.0
    recorded: bool = True  # False where not even the record could be written


def execute(
    config: Config,
    overrides: list[str],
    stop: Stop,
    on_progress: OnProgress | None = None,
    judge: Judge | None = None,
) -> Outcome:
    """Train a run that has no result yet, from its newest checkpoint if there is one.

    Never raises for what goes wrong inside the run: that is written to its record, and told by the outcome.

    Args:
        config: resolved.
        overrides: what the person typed, kept beside it.
        stop: granted at the next step boundary.
        on_progress, judge: see `Recorder`.
    """
    name = run_id(config)
    path = Path(config.paths.runs) / name
    began = time.monotonic()
    try:
        with claim(path) as mine:
            if mine is None:
                return Outcome(name, "busy")
            if is_done(path):
                return Outcome(name, "done")
            status = _open_record(path, config, overrides)
            state, error = "failed", None
            try:
                state = _train(mine, config, status, stop, on_progress, judge)
            except InterruptedRun:
                state = "preempted"
            except PrunedRun:
                state = "pruned"
            except Lost:
                state = "busy"
            except Exception as fault:  # noqa: BLE001 - one run's fault, whatever it is, must not end its neighbours
                error = "".join(traceback.format_exception(fault))
            finally:
                finish(state)
            if state in ("busy", "done"):
                return Outcome(name, state, seconds=time.monotonic() - began)
            write_json(path / "status.json", {**status, "state": state, "heartbeat": time.time(), "error": error})
            return Outcome(name, state, _last_line(error), time.monotonic() - began)
    except OSError as fault:  # the record itself cannot be written
        return Outcome(name, "failed", f"{path}: {fault.strerror or fault}", time.monotonic() - began, recorded=False)


def _open_record(path: Path, config: Config, overrides: list[str]) -> dict[str, Any]:
    """Write what is known before training, and say that it runs."""
    if (path / "result.json").exists():  # one that cannot be read; kept for whoever wants to know why
        os.replace(path / "result.json", path / "result.json.unreadable")
    for unfinished in (*path.glob(".*.json.*"), *path.glob(".*.parquet.*"), *path.glob("checkpoints/.*.ckpt")):
        unfinished.unlink()  # a process was killed in the middle of writing it
    write_bytes(path / "config.yaml", _yaml(config.model_dump()))
    write_bytes(path / "overrides.yaml", _yaml(overrides))
    status = {
        "run_id": path.name,
        "state": "running",
        "attempt": _attempts(path) + 1,
        "title": title(labels(config)),
        "group": config.logger.group,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job_id": _job_id(),
        "started": time.time(),
        "heartbeat": time.time(),
        "step": 0,
        "error": None,
        "labels": labels(config),
    }
    write_json(path / "status.json", status)
    return status


def _job_id() -> str | None:
    """Slurm's, as it writes it: '12_3' in an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _train(
    mine: Claim,
    config: Config,
    status: dict[str, Any],
    stop: Stop,
    on_progress: OnProgress | None,
    judge: Judge | None,
) -> str:
    path = mine.path
    quiet()
    fault = missing_hardware(config)  # the plan may have been checked on another machine
    if fault:
        raise ValueError(fault)
    set_switches(config.hardware)
    torch.manual_seed(stream(config.seed, "global").initial_seed())  # for modules from elsewhere that draw from it
    pieces = build(config)
    learner = _learner(pieces, config)
    checkpoint = newest_checkpoint(path) if series.readable(path) else None
    first_step = checkpoint[1] if checkpoint else 0
    watched = config.instruments.intervals()
    flow = (
        GradientFlow(loss_scale=config.instruments.loss_scale, clipped=bool(config.remedy), instruments=watched)
        if watched
        else None
    )
    write_json(path / "environment.json", {**environment(), **switches()})
    of_time = config.instruments.time_every_n_steps or config.instruments.time_segments
    flows = pieces.network.any_length and _no_gradient(pieces.network) is None
    watch = TimeWatch(config.instruments) if of_time and flows else None
    if flow is not None or watch is not None:
        prediction.write(path, config, pieces)
    recorder = Recorder(mine, status, first_step, flow, watch, stop, on_progress, judge)
    logger = make_logger(config, path)
    trainer = Trainer(
        accelerator=device_of(config.hardware),
        devices=1,
        precision=PRECISIONS[config.hardware.precision],
        max_epochs=-1,
        max_time=config.trainer.max_time,
        callbacks=[each for each in (flow, watch, recorder) if each is not None],
        logger=logger if logger is not None else False,
        default_root_dir=path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    if config.hardware.precision == "64":
        learner.double()  # before a checkpoint is loaded, not after as Lightning does
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.fit(learner, ckpt_path=checkpoint[0] if checkpoint else None, weights_only=True)
    if learner.diverged_at is None:
        trainer.test(learner, verbose=False)
    recorder.collect(trainer, learner)
    recorder.write_series()
    result = _result(config, pieces, learner, recorder, trainer)
    if logger is not None:
        _summarize(logger, result)
    if not mine.commit(path / "result.json", result):
        return "done"
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return str(result["state"])


def _learner(pieces: Pieces, config: Config) -> Learner:
    folder = Path(config.paths.data)
    kind: Callable[..., Learner] = Learner
    if getattr(pieces.network, "closed_form", None) is not None:
        from gradflow.training.closed_form import ClosedFormLearner

        kind = ClosedFormLearner
    return kind(
        pieces.network,
        pieces.task,
        lambda device, rank, world: pieces.task.load(folder, config.seed, device, rank, world),
        pieces.make_optimizer,
        pieces.schedule,
        pieces.budget,
        pieces.remedies,
        compiled(pieces.network) if config.hardware.compile else None,
    )


def _result(config: Config, pieces: Pieces, learner: Learner, recorder: Recorder, trainer: Trainer) -> dict[str, Any]:
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
        "no_gradient": _no_gradient(pieces.network),
        "time": _time(recorder),
    }
    diagnosis = diagnose(from_tables(result, recorder.gradflow.table(), recorder.metrics.table()))
    return result | {
        "verdict": diagnosis.verdict,
        "signs": [asdict(sign) for sign in diagnosis.signs],
        "cost": {
            "device": str(device),
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


def _no_gradient(network: Network) -> str | None:
    """Why no gradient flows through time, where a network says so."""
    said = [
        str(module.no_gradient) for module in network.modules() if isinstance(getattr(module, "no_gradient", None), str)
    ]
    return said[0] if said else None


def _summarize(logger: Logger, result: dict[str, Any]) -> None:
    flat = {key: result[key] for key in ("state", "verdict", "steps", "diverged_at")}
    flat |= {f"final/{name}": value for name, value in result["metrics"].items()}
    flat |= {f"gradient/{name}": value for name, value in (result["gradient"] or {}).items()}
    flat |= {f"cost/{name}": value for name, value in result["cost"].items() if name != "clock"}
    if result["solved"] is not None:
        flat["solved_at_step"] = result["solved"]["step"]
    last = (result["time"] or {}).get("last", {})
    flat |= {f"time/{name}": value for name, value in last.items() if name != "step"}
    flat |= {"chance": result["chance"], "no_gradient": result["no_gradient"]}
    logger.experiment.summary.update(flat)  # type: ignore[attr-defined]


def _peak_memory(device: torch.device) -> int | None:
    """Of the GPU's allocations in this attempt; None on a CPU, where a warm worker's memory is not one run's."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def _attempts(path: Path) -> int:
    try:
        earlier = read(path)
    except Unreadable:
        return 0
    return int(earlier.status.get("attempt", 0)) if earlier else 0


def _last_line(error: str | None) -> str | None:
    return error.strip().splitlines()[-1] if error else None


def _yaml(values: Any) -> bytes:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()


def quiet() -> None:
    """Lightning's and torch's advice is for their own users; a run's record says what there is to say."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*(dataloader|num_workers|LeafSpec|_register_pytree).*")
    # TF32 is chosen by hardware.precision, either way; see `gradflow.runs.hardware.set_switches`
    warnings.filterwarnings("ignore", message=r".*(TensorFloat32 tensor cores|control TF32 behavior).*")
