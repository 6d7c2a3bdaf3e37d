"""From a config to Python objects, and the check of that before anything trains."""

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
from gradflow.instruments.panel import make_instruments
from gradflow.models.initialize import initialize
from gradflow.models.network import InputNoise, Network
from gradflow.models.parts import Parts
from gradflow.models.weights import Weight, weights
from gradflow.rng import stream
from gradflow.runs import pairs
from gradflow.runs.config import FACTORS, Config, explain
from gradflow.runs.hardware import missing_hardware
from gradflow.tasks.task import Task
from gradflow.training.budget import Budget
from gradflow.training.optimizers import parameter_groups
from gradflow.training.remedy import Remedy, the_loss, the_pretraining

# What conf/model/recurrent.yaml brings; of cells that fill their recurrent weights themselves it says nothing.
STANDS_FOR_ITSELF = {"_target_": "gradflow.models.initializers.orthogonal", "gain": 1.0}
REHEARSED = 4  # steps of a sequence that a network of any length is checked with


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


def preflight(config: Config) -> list[str]:
    """Build a run on torch's meta device, which has shapes but no memory, and pass one batch through it.

    Returns:
        What is wrong, one line each; empty if the run can start.
    """
    faults = check_keys(config) or pairs.refused(config)
    if faults:
        return faults
    try:
        rehearse(config)
    except ConfigError as error:
        return list(error.lines)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        # what torch or a definition from elsewhere says of parts that do not fit: the person's to mend, not a crash
        return [_first_line(error)]
    if config.hardware.precision == "16-mixed" and config.instruments.loss_scale is not None:
        return ["instruments.loss_scale does not go with hardware.precision=16-mixed: float16 would overflow"]
    try:
        make_instruments(config.instruments.intervals(), 1)
    except ConfigError as error:
        return list(error.lines)
    missing = missing_hardware(config)
    return [missing] if missing else []


def rehearse(config: Config) -> tuple[Pieces, Tensor]:
    """Put a run together on the meta device and pass one batch through it.

    Returns:
        Its pieces, uninitialised, and the network's output for a batch of two examples.

    Raises:
        ConfigError, ValueError, TypeError, RuntimeError: for parts that do not go together.
    """
    with torch.device("meta"):
        pieces = assemble(config)
        batch = torch.empty(min(2, pieces.task.batch_size), *pieces.task.input_shape)
        if pieces.network.any_length:
            batch = batch[:, :REHEARSED]
        elif pieces.task.shortest is not None:
            raise ConfigError(
                f"task={pieces.task.name} has sequences of {pieces.task.shortest} to {pieces.task.input_shape[0]} "
                "steps, but this model takes one length: use model=recurrent or model=esn"
            )
        out: Tensor = pieces.network(batch)
        for remedy in pieces.remedies:
            remedy.prepare(pieces.network, pieces.task, pieces.budget.total)
        the_pretraining(pieces.remedies)
        the_loss(pieces.remedies)
    positions = batch.shape[1:2] if pieces.task.every_step else ()
    if out.shape != (len(batch), *positions, pieces.task.outputs):
        raise ConfigError(
            f"the network's output has shape {tuple(out.shape)}, but the task needs {pieces.task.outputs} outputs"
            + (" at every step of a sequence: use model=recurrent or model=esn" if positions else "")
        )
    pieces.make_optimizer(parameter_groups(pieces.network))
    pieces.schedule(0, pieces.budget.total)
    activation = factory("activation", config.activation)
    if config.recurrent_init is not None:
        if config.recurrent_init != STANDS_FOR_ITSELF and all(w.role != "recurrent" for w in weights(pieces.network)):
            name = config.recurrent_init["_target_"].rpartition(".")[2]
            raise ConfigError(
                f"recurrent_init={name} reaches no weight of this cell, whose recurrent weights are part of its "
                "definition: leave recurrent_init=orthogonal, which stands for it, or use another cell"
            )
        square = Weight(torch.empty(3, 3), role="recurrent", activation=activation)
        _make("recurrent_init", config.recurrent_init, square, torch.Generator())
    _make("init", config.init, Weight(torch.empty(3, 3), role="head", activation=activation), torch.Generator())
    return pieces, out


def prepare_data(configs: Iterable[Config]) -> list[str]:
    """See to it, once per data set, that the data are there; what is wrong, one line each."""
    faults: list[str] = []
    for config in {(repr(config.task), config.paths.data): config for config in configs}.values():
        try:
            _make("task", config.task).prepare(Path(config.paths.data))
        except ConfigError as error:
            faults += error.lines
    return faults


def check_keys(config: Config) -> list[str]:
    """Compare each factor's keys and values with the parameters of the Python definition it names."""
    faults: list[str] = []
    nodes = {name: node for name in FACTORS if (node := getattr(config, name)) is not None}
    nodes |= {f"remedy.{name}": node for name, node in config.remedy.items()}
    for name, node in nodes.items():
        try:
            keys, model = _signature(node["_target_"])
        except LookupError as error:
            faults.append(f"{name}._target_={node['_target_']}: {error.args[0]}")
            continue
        given = {key: value for key, value in node.items() if not (key.startswith("_") and key.endswith("_"))}
        if model is not None:
            try:
                model.model_validate(given)
            except ValidationError as error:
                faults += explain(error, given, f"{name}.", keys)
        elif keys:
            faults += [
                f"{name}.{key}={value}: unknown key; {choose_from(key, keys)}"
                for key, value in given.items()
                if key not in keys
            ]
    return faults


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
    wrapped = _make(name, {**node, "_partial_": True})
    return partial(wrapped.func, *wrapped.args, **wrapped.keywords)


def _make(name: str, node: dict[str, Any], *given: Any) -> Any:
    """Call the definition a node names; mistakes come back in its own words."""
    try:
        return instantiate(node, *given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError):
            raise ConfigError(_first_line(cause)) from error
        raise ConfigError(f"{name}: {_first_line(error)}") from error


def assemble(config: Config) -> Pieces:
    """The same uninitialised, on the current device."""
    task: Task = _make("task", config.task)
    if config.label_smoothing:
        task = task.with_label_smoothing(config.label_smoothing)
    activation, norm, skip = (factory(name, getattr(config, name)) for name in ("activation", "norm", "skip"))
    width = config.width if isinstance(config.width, int) else tuple(config.width)
    parts = Parts(
        config.depth,
        width,
        activation,
        norm,
        skip,
        config.dropout,
        config.alpha_dropout,
        factory("cell", config.cell) if config.cell is not None else None,
        task.every_step,
    )
    network: Network = _make("model", config.model, task.input_shape, task.outputs, parts)
    if config.input_noise:
        network.stem = nn.Sequential(InputNoise(config.input_noise), network.stem)
    trainer = config.trainer
    total = trainer.max_steps
    if trainer.max_epochs is not None:
        if task.steps_per_epoch is None:
            raise ConfigError(
                f"trainer.max_epochs={trainer.max_epochs}: task={task.name} draws fresh data at every step and has no "
                "epochs: set trainer.max_epochs=null and trainer.max_steps, or task.train_size to a number"
            )
        total = trainer.max_epochs * task.steps_per_epoch
    return Pieces(
        task,
        network,
        partial(_make, "optimizer", config.optimizer),
        factory("scheduler", config.scheduler),
        Budget(total, trainer.log_every_n_steps, trainer.val_every_n_steps, trainer.checkpoint_every_n_steps),
        [_make(f"remedy.{name}", node, config.seed) for name, node in config.remedy.items()],
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
