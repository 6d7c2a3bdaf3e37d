"""From a config to Python objects."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, get_type_hints

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import ConfigDict, ValidationError, create_model
from torch import Tensor, nn

from gradflow.errors import ConfigError, choose_from
from gradflow.models.initialize import initialize
from gradflow.models.network import InputNoise, Network
from gradflow.models.parts import Parts
from gradflow.rng import stream
from gradflow.runs.config import FACTORS, Config, explain
from gradflow.tasks.task import Task
from gradflow.training.budget import Budget
from gradflow.training.remedy import Remedy

Factory = Callable[[str, dict[str, Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Pieces:
    """What one run is made of."""

    task: Task
    network: Network
    make_optimizer: Callable[..., Any]
    schedule: Callable[[int, int], float]
    budget: Budget
    remedies: list[Remedy]


def build(config: Config) -> Pieces:
    """The task, the initialised network on the CPU, and how it is trained.

    Raises:
        ConfigError: for what `check_keys` refuses, and for parts that do not go together.
    """
    pieces = assemble(config)

    def sample() -> Tensor:
        data = pieces.task.load(Path(config.paths.data), config.seed, torch.device("cpu"))
        return data.train(0)[0]

    init, activation = factory("init", config.init), factory("activation", config.activation)
    recurrent_init = factory("recurrent_init", config.recurrent_init) if config.recurrent_init else None
    initialize(pieces.network, init, stream(config.seed, "init"), activation, sample, recurrent_init)
    return pieces


def prepare_data(configs: Iterable[Config]) -> list[str]:
    """See to it, once per data set, that the data are there; what is wrong, one line each."""
    faults: list[str] = []
    for config in {(repr(config.task), config.paths.data): config for config in configs}.values():
        try:
            make("task", config.task).prepare(Path(config.paths.data))
        except ConfigError as error:
            faults += error.lines
    return faults


def check_keys(config: Config) -> list[str]:
    """Compare each factor's keys and values with the parameters of the Python definition it names."""
    return [fault for name, node in factors(config).items() for fault in check_node(name, node)]


def factors(config: Config) -> dict[str, dict[str, Any]]:
    """Every node of a config that names a Python definition, by its key."""
    nodes = {name: node for name in FACTORS if (node := getattr(config, name)) is not None}
    return nodes | {f"remedy.{name}": node for name, node in config.remedy.items()}


def check_node(name: str, node: dict[str, Any]) -> list[str]:
    """`check_keys` for one factor."""
    try:
        keys, model = _signature(node["_target_"])
    except LookupError as error:
        return [f"{name}._target_={node['_target_']}: {error.args[0]}"]
    given = {key: value for key, value in node.items() if not (key.startswith("_") and key.endswith("_"))}
    if model is not None:
        try:
            model.model_validate(given)
        except ValidationError as error:
            return explain(error, given, f"{name}.", keys)
        return []
    return [
        f"{name}.{key}={value}: unknown key; {choose_from(key, keys)}"
        for key, value in given.items()
        if keys and key not in keys
    ]


@cache
def _signature(target: str) -> tuple[list[str], Any]:
    """The keys that a definition takes from a config file, and the model that checks their values.

    Parameters before a `/` are given by gradflow. A definition from elsewhere, without hints we can read, is checked
    for its keys alone.
    """
    try:
        function = pydoc.locate(target)
    except pydoc.ErrorDuringImport as error:
        raise LookupError(f"cannot be imported ({error.value!r})") from error
    if not callable(function):
        raise LookupError("no such Python definition; a module of yours must be installed or in the working folder")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return [], None
    own = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    keys = [p.name for p in own]
    if not target.startswith("gradflow."):
        return keys, None
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in own}
    return keys, create_model("Keys", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def factory(name: str, node: dict[str, Any]) -> Callable[..., Any]:
    """The definition a node names with the node's values filled in, to be called many times.

    Hydra decides whether a config may name it; its wrapper, which would decide anew at every call, is taken off.
    """
    wrapped = make(name, {**node, "_partial_": True})
    return partial(wrapped.func, *wrapped.args, **wrapped.keywords)


def make(name: str, node: dict[str, Any], *given: Any) -> Any:
    """Call the definition a node names; mistakes come back in its own words."""
    try:
        return instantiate(node, *given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError):
            raise ConfigError(first_line(cause)) from error
        raise ConfigError(f"{name}: {first_line(error)}") from error


def assemble(config: Config) -> Pieces:
    """The same uninitialised, on the current device."""
    task = smoothed(make("task", config.task), config)
    return Pieces(
        task,
        make_network(config, task),
        partial(make, "optimizer", config.optimizer),
        factory("scheduler", config.scheduler),
        budget(config, task),
        [make(f"remedy.{name}", node, config.seed) for name, node in config.remedy.items()],
    )


def smoothed(task: Task, config: Config) -> Task:
    """The task with the config's label smoothing."""
    return task.with_label_smoothing(config.label_smoothing) if config.label_smoothing else task


def make_network(config: Config, task: Task, factory: Factory = factory) -> Network:
    """The uninitialised network, on the current device.

    Args:
        factory: as `factory`; one that remembers serves those who make many.
    """
    width = config.width if isinstance(config.width, int) else tuple(config.width)
    parts = Parts(
        config.depth,
        width,
        factory("activation", config.activation),
        factory("norm", config.norm),
        factory("skip", config.skip),
        config.dropout,
        config.alpha_dropout,
        factory("cell", config.cell) if config.cell is not None else None,
        task.every_step,
    )
    network: Network = called("model", factory("model", config.model), task.input_shape, task.outputs, parts)
    if config.input_noise:
        network.stem = nn.Sequential(InputNoise(config.input_noise), network.stem)
    return network


def called(name: str, definition: Callable[..., Any], *given: Any) -> Any:
    """Call a definition that `factory` has found; mistakes come back in its own words, as from `make`."""
    try:
        return definition(*given)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(first_line(error)) from error
    except Exception as error:
        raise ConfigError(f"{name}: {type(error).__name__}: {first_line(error)}") from error


def budget(config: Config, task: Task) -> Budget:
    """How long a run trains.

    Raises:
        ConfigError: for epochs of a task that has none.
    """
    trainer = config.trainer
    total = trainer.max_steps
    if trainer.max_epochs is not None:
        if task.steps_per_epoch is None:
            raise ConfigError(
                f"trainer.max_epochs={trainer.max_epochs}: task={task.name} draws fresh data at every step and has no "
                "epochs: set trainer.max_epochs=null and trainer.max_steps, or task.train_size to a number"
            )
        total = trainer.max_epochs * task.steps_per_epoch
    if trainer.stop_when_solved and task.solved is None:
        raise ConfigError(
            f"trainer.stop_when_solved=true: task={task.name} has no criterion of being solved: set it to false"
        )
    return Budget(
        total,
        trainer.log_every_n_steps,
        trainer.val_every_n_steps,
        trainer.checkpoint_every_n_steps,
        until_solved=trainer.stop_when_solved,
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
