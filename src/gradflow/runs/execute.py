"""Train one run: from a config to a record."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.lightning import Trainer
from gradflow.rng import stream
from gradflow.runs import prediction, series
from gradflow.runs.build import Pieces, build
from gradflow.runs.claim import Claim, Lost, claim
from gradflow.runs.config import Config
from gradflow.runs.environment import environment, switches
from gradflow.runs.hardware import PRECISIONS, compiled, device_of, missing_hardware, set_switches
from gradflow.runs.identity import labels, run_id, title
from gradflow.runs.lockstep import Judge, Lockstep, PrunedRun
from gradflow.runs.placement import where
from gradflow.runs.ranks import launched, processes
from gradflow.runs.record import Unreadable, is_done, read, write_bytes, write_json
from gradflow.runs.recorder import PACKED_HEARTBEAT, PACKED_REST, Recorder, newest_checkpoint
from gradflow.runs.result import no_gradient, result_of
from gradflow.runs.stop import InterruptedRun, Stop
from gradflow.runs.time_watch import TimeWatch
from gradflow.runs.together import ALONE, Together, joined, meeting_place
from gradflow.runs.wandb_logger import finish, make_logger
from gradflow.runs.wandb_summary import summary
from gradflow.training.learner import Learner

OnProgress = Callable[[int, int, float], None]
Joins = Callable[[Learner, GradientFlow | None], Callable[[], float]]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: 'completed', 'diverged', 'preempted', 'failed', 'pruned', 'done' before or by another, or
    'busy' elsewhere."""

    run_id: str
    state: str
    error: str | None = None
    seconds: float = 0.0
    recorded: bool = True  # False where not even the record could be written
    died: bool = False  # one of several processes that trained it was killed, which may not happen again


def execute(
    config: Config,
    overrides: list[str],
    stop: Stop,
    on_progress: OnProgress | None = None,
    judge: Judge | None = None,
) -> Outcome:
    """Train a run that has no result yet, from its newest checkpoint if there is one.

    Never raises for what goes wrong inside the run: that is written to its record, and told by the outcome.

    A run of several processes is trained by this one and its like, if `srun` or `torchrun` has started them; else by
    processes that are started here.

    Args:
        config: resolved.
        overrides: what the person typed, kept beside it.
        stop: granted at the next step boundary.
        on_progress: see `Recorder`.
        judge: see `Lockstep`.
    """
    if processes(config) == 1 or missing_hardware(config):  # which is then what the record says
        return attempt(config, overrides, stop, on_progress, judge)
    outside = launched()
    if outside is None:
        from gradflow.runs.rank_processes import train

        return train(config, overrides, stop, on_progress, judge)
    began, name = time.monotonic(), run_id(config)
    try:
        store = meeting_place(outside.address, outside.rank, outside.world)
        on_gpus = device_of(config.hardware) == "cuda"
        with joined(store, outside.rank, outside.world, outside.local, on_gpus) as together:
            if len(set(together.everyone(name))) > 1:
                error = f"the {outside.world} processes were given different configs: start all by one command"
                return Outcome(name, "failed", error, recorded=False)
            return attempt(config, overrides, stop, on_progress, judge, together)
    except RuntimeError as fault:
        error = f"the {outside.world} processes cannot meet at {outside.address}: {_last_line(str(fault))}"
        return Outcome(name, "failed", error, time.monotonic() - began, recorded=False)


def attempt(
    config: Config,
    overrides: list[str],
    stop: Stop,
    on_progress: OnProgress | None = None,
    judge: Judge | None = None,
    together: Together = ALONE,
    joins: Joins | None = None,
) -> Outcome:
    """This process's part in training a run: see `execute`. Rank 0 claims and writes the record.

    Args:
        joins: told of what learns and of its instrument before it trains; gives the run's clock. See
            `gradflow.runs.packed`.
    """
    name = run_id(config)
    path = Path(config.paths.runs) / name
    began = time.monotonic()
    try:
        with claim(path) if together.leads else nullcontext() as mine:
            state = together.first("busy" if together.leads and mine is None else "done" if is_done(path) else None)
            if state is not None:
                return Outcome(name, state)
            status = _open_record(path, config, overrides) if mine is not None else None
            state, error = "failed", None
            try:
                state = _train(path, mine, config, status, stop, on_progress, judge, together, joins)
            except InterruptedRun:
                state = "preempted"
            except PrunedRun:
                state = "pruned"
            except Lost:
                state = "busy"
            except Exception as fault:  # noqa: BLE001 - one run's fault, whatever it is, must not end its neighbours
                together.tell_fault("".join(traceback.format_exception(fault)))
                error = together.first_fault() or "".join(traceback.format_exception(fault))
            finally:
                finish(state)
            if status is not None and state not in ("busy", "done"):
                write_json(path / "status.json", {**status, "state": state, "heartbeat": time.time(), "error": error})
            return Outcome(name, state, _last_line(error), time.monotonic() - began)
    except OSError as fault:  # the record itself cannot be written
        error = f"{path}: {fault.strerror or fault}"
        together.tell_fault(error)
        return Outcome(name, "failed", error, time.monotonic() - began, recorded=False)
    except RuntimeError as fault:
        if together.leads:
            raise
        error = together.first_fault() or f"rank 0 is gone: {fault}"
        return Outcome(name, "failed", _last_line(error), time.monotonic() - began, recorded=False)


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
    path: Path,
    mine: Claim | None,
    config: Config,
    status: dict[str, Any] | None,
    stop: Stop,
    on_progress: OnProgress | None,
    judge: Judge | None,
    together: Together,
    joins: Joins | None,
) -> str:
    quiet()
    fault = missing_hardware(config)  # the plan may have been checked on another machine
    if fault:
        raise ValueError(fault)
    set_switches(config.hardware)
    torch.manual_seed(stream(config.seed, "global").initial_seed())  # for modules from elsewhere that draw from it
    pieces = build(config)
    learner = _learner(pieces, config)
    checkpoint = together.first(newest_checkpoint(path) if mine is not None and series.readable(path) else None)
    first_step = checkpoint[1] if checkpoint else 0
    watched = config.instruments.intervals()
    flow = (
        GradientFlow(loss_scale=config.instruments.loss_scale, clipped=bool(config.remedy), instruments=watched)
        if watched
        else None
    )
    of_time = config.instruments.time_every_n_steps or config.instruments.time_segments
    network = pieces.network
    flows = network.any_length and network.has_states and no_gradient(network) is None
    watch = TimeWatch(config.instruments, together) if of_time and flows else None
    recorder: Recorder | None = None
    log = None
    if mine is not None:
        assert status is not None
        write_json(path / "environment.json", {**environment(), **switches()})
        if flow is not None or watch is not None:
            prediction.write(path, config, pieces)
        log = make_logger(config, path)
        recorder = Recorder(mine, status, first_step, flow, watch, stop, on_progress, judge, together, log)
    if joins is not None:
        clock = joins(learner, flow)
        if recorder is not None:
            recorder.heartbeat, recorder.rest, recorder.clock_of_run = PACKED_HEARTBEAT, PACKED_REST, clock
    keeper = recorder or Lockstep(path, first_step, stop, together=together)
    trainer = Trainer(
        **where(config, pieces, together),
        precision=PRECISIONS[config.hardware.precision],
        max_epochs=-1,
        max_time=config.trainer.max_time,
        callbacks=[each for each in (flow, watch, keeper) if each is not None],
        logger=False,
        default_root_dir=path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    # Its handler of SIGTERM would end the run in the middle of a record, and, in one of several processes, wait inside
    # the handler for the others. Whoever wants to hear of signals listens by `Stop`.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if config.hardware.precision == "64":
        learner.double()  # before a checkpoint is loaded, not after as Lightning does
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.fit(learner, ckpt_path=checkpoint[0] if checkpoint else None, weights_only=True)
    if learner.diverged_at is None:
        trainer.test(learner, verbose=False)
    keeper.collect(trainer, learner)
    state = None
    if recorder is not None:
        recorder.write_series()
        result = result_of(config, pieces, learner, recorder, trainer)
        if log is not None:
            made = {**environment(), **switches()}
            log.summarize(summary(result, config, pieces.task.steps_per_epoch, made))
        state = str(result["state"]) if recorder.mine.commit(path / "result.json", result) else "done"
        if state != "done":
            shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return str(together.first(state))


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
    warnings.filterwarnings("ignore", message=r".*(Grad strides do not match|nn.functional.all_reduce is deprecated).*")
    warnings.filterwarnings("ignore", message=r".*(dataloader|num_workers|LeafSpec|_register_pytree).*")
    # TF32 is chosen by hardware.precision, either way; see `gradflow.runs.hardware.set_switches`
    warnings.filterwarnings("ignore", message=r".*(TensorFloat32 tensor cores|control TF32 behavior).*")
