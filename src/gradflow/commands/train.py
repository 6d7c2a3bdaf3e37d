"""`gradflow train`: one run."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.runs.config import Config
    from gradflow.runs.execute import Outcome
    from gradflow.runs.stop import Stop


SUMMARY = "train one run"
HELP = """Train one run and write its record to runs/<run id>.

  gradflow train depth=30 activation=sigmoid task=digits trainer.max_steps=500
  gradflow train experiment=mnist_mlp logger.mode=disabled
  gradflow train --cfg job depth=30           print the config instead

Typed again, a run that has a result is not trained again, and one that was stopped goes on.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.overrides(command)
    command.add_argument("--cfg", choices=["job"], help="print the config and leave")
    command.add_argument("--resolve", action="store_true", help="with --cfg: fill in interpolations")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """One run."""
    from gradflow.runs.compose import composer, resolve

    with composer(options.config_dir) as compose:
        if options.cfg:
            from omegaconf import OmegaConf

            shown = compose.untyped(options.overrides)
            resolve(shown)  # keys and types are checked here too
            print(OmegaConf.to_yaml(shown, resolve=options.resolve), end="")
            return OK
        config = compose.config(options.overrides)
    from gradflow.runs.credentials import check_logger
    from gradflow.runs.identity import run_id
    from gradflow.runs.pairs import questioned
    from gradflow.runs.ranks import follows, launched, processes
    from gradflow.runs.record import is_done
    from gradflow.runs.stop import Stop
    from gradflow.runs.wandb_agent import tell_agent

    path = Path(config.paths.runs) / run_id(config)
    if follows(config):
        return _follow(config, options.overrides)
    of_several = processes(config) > 1 and launched() is not None  # who decide together
    if is_done(path) and not of_several:
        tell_agent(path, config)
        print("trained before:")
        return _tell_result(path, hint=bool(config.instruments.intervals()))
    check_logger(config)
    _check_one(config)
    for note in questioned(config):
        print(f"note: {note}", file=sys.stderr)
    stop = Stop()
    with stop.on_signals():
        outcome = _train_with_bar(config, options.overrides, stop)
    if outcome.state == "preempted":
        print(f"stopped; its checkpoint is in {path}. To go on: {usage.typed_again(typed)}", file=sys.stderr)
        return 128 + int(stop.signal or signal.SIGTERM)
    if outcome.state == "busy":
        print(f"gradflow: {path}: another process is training this run at the moment", file=sys.stderr)
        return FAILED
    if outcome.state == "failed":
        print(f"gradflow: {outcome.error}", file=sys.stderr)
        if outcome.recorded:
            print(f"  traceback: {path / 'status.json'}", file=sys.stderr)
        return FAILED
    return _tell_result(path)


def _follow(config: Config, overrides: list[str]) -> int:
    """Train this process's share; the process of rank 0 sees to the rest, and tells of it."""
    import gradflow.lightning  # noqa: F401 - before anything that imports torch: it is quick
    from gradflow.runs.execute import execute
    from gradflow.runs.preflight import preflight
    from gradflow.runs.stop import Stop

    faults = preflight(config)
    if faults:
        raise ConfigError(*faults)
    stop = Stop()
    with stop.on_signals():
        outcome = execute(config, overrides, stop)
    if outcome.state == "preempted":
        return 128 + int(stop.signal or signal.SIGTERM)
    if outcome.state == "failed":
        print(f"gradflow: {outcome.error}", file=sys.stderr)
    return FAILED if outcome.state in ("busy", "failed") else OK


def _check_one(config: Config) -> None:
    """Refuse a run that cannot start."""
    import gradflow.lightning  # noqa: F401 - before anything that imports torch: it is quick
    from gradflow.runs.build import prepare_data
    from gradflow.runs.preflight import preflight

    faults = preflight(config) or prepare_data([config])
    if faults:
        raise ConfigError(*faults)


def _train_with_bar(config: Config, overrides: list[str], stop: Stop) -> Outcome:
    """Train with a progress bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gradflow.runs.identity import labels, title

    words = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}")
    console = Console(highlight=False, stderr=True)
    with Progress(
        *words, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title(labels(config)), total=None, loss="starting")
        from gradflow.runs.execute import execute

        def advance(step: int, total: int, loss: float) -> None:
            bar.update(task, completed=step, total=total, loss=f"loss {loss:.4g}")

        outcome = execute(config, overrides, stop, advance)
    return outcome


def _tell_result(path: Path, hint: bool = False) -> int:
    """A finished run in a few lines; `hint` says what to do where it was trained without instruments."""
    from gradflow.results.formats import text
    from gradflow.runs.record import read

    record = read(path)
    assert record is not None
    assert record.result is not None
    result = record.result
    figures = [f"{name} {value:.4g}" for name, value in result["metrics"].items()]
    ratio = (result.get("gradient") or {}).get("ratio")
    print(f"{result['state']}: {result['title']}")
    print(f"  verdict {result['verdict']}, gradient ratio first ÷ last block {text(ratio)}")
    if figures:
        print(f"  {', '.join(figures)} after {result['steps']} steps")
    elif result["diverged_at"] is not None:
        print(f"  the loss stopped being finite at step {result['diverged_at']}")
    for line in _tell_time(result):
        print(f"  {line}")
    for sign in result["signs"]:
        print(f"  {sign['verdict']}: {sign['what']} {sign['value']:.3g} (threshold {sign['threshold']:.3g})")
    print(f"  record: {path}")
    if hint and not result.get("gradient"):
        print(f"  it was trained without instruments; to measure its gradients, delete {path} and train it again")
    return OK


def _tell_time(result: dict[str, Any]) -> Iterator[str]:
    """What a result says of memory: whether the task is solved, and how far back the gradient reaches."""
    solved = result.get("solved")
    if solved is not None:
        when = "not met" if solved["step"] is None else f"first met at step {solved['step']}"
        name = result["metric"].replace("/", " ")
        yield f"solved when validation {solved['criterion']}: {when}; without memory {name} is {result['chance']:.4g}"
    if result.get("no_gradient"):
        yield str(result["no_gradient"])
    if result.get("time"):
        for moment in ("first", "last"):
            probe = result["time"][moment]
            if "memory_horizon_1%" not in probe:
                continue  # it is zero at the last step, or was not measured
            horizon = probe["memory_horizon_1%"]
            reach = f"over all {probe['steps']} steps" if horizon is None else f"for {horizon:.1f} steps back"
            yield f"gradient through time at step {probe['step']}: above 1 % of the last step's {reach}"
