"""The check of a config before anything trains: it is put together and one batch passes through its network.

Of thousands of cells most differ only in numbers that no shape depends on. A network is put together once for all cells
that have it; what depends on other parts, on their values and on the budget, is checked once for each that is new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from gradflow.errors import ConfigError
from gradflow.instruments.panel import make_instruments
from gradflow.models.network import Network
from gradflow.models.weights import weights
from gradflow.runs import pairs
from gradflow.runs.build import (
    budget,
    called,
    check_node,
    factors,
    factory,
    first_line,
    make,
    make_network,
    smoothed,
)
from gradflow.runs.config import Config
from gradflow.runs.hardware import missing_hardware
from gradflow.runs.rehearse import check_inits, on, passed, where
from gradflow.runs.sizes import Sizes
from gradflow.tasks.task import Task
from gradflow.training.optimizers import parameter_groups
from gradflow.training.remedy import Remedy, the_loss, the_pretraining

# What torch or a definition from elsewhere says of parts that do not fit: the person's to mend, not a crash.
FAULTS = (ValueError, TypeError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Rehearsal:
    """What the network of some cells is, seen once.

    Attributes:
        fills_itself: whether it has no weights from states to states that `recurrent_init` would fill, if there is one.
        solved: whether its read-out is solved for, so that no gradient flows.
    """

    task: Task
    sizes: Sizes
    fills_itself: bool
    solved: bool


def preflight(config: Config) -> list[str]:
    """Put a run together and pass one batch through its network, without memory worth counting.

    Returns:
        What is wrong, one line each; empty if the run can start.
    """
    return Preflight().check(config)


class Preflight:
    """Checks many configs. Those with one network had better come one after another: only the last is kept.

    Args:
        here: whether the runs will be trained on this machine, which must then have what they ask for.
    """

    def __init__(self, here: bool = True) -> None:
        self._here = here
        self._known: dict[Any, list[str]] = {}
        self._made: dict[Any, Any] = {}
        self._rehearsals: dict[str, Rehearsal | list[str]] = {}
        self._network: Network | None = None
        self._kept, self._device = "", "meta"  # whose it is, and where

    def check(self, config: Config) -> list[str]:
        """See `preflight`."""
        faults = self.check_keys(config) or pairs.refused(config)
        if faults:
            return faults
        rehearsal = self._rehearsal(config)
        if isinstance(rehearsal, list):
            return rehearsal
        try:
            total = budget(config, rehearsal.task).total
        except ConfigError as error:
            return list(error.lines)
        faults = (
            self._remedies(config, rehearsal.task, total)
            or self._optimizer(config)
            or self._schedule(config, total)
            or self._inits(config, rehearsal)
        )
        if faults:
            return faults
        if config.hardware.precision == "16-mixed" and config.instruments.loss_scale is not None:
            return ["instruments.loss_scale does not go with hardware.precision=16-mixed: float16 would overflow"]
        intervals = config.instruments.intervals()
        faults = self._once(("instruments", repr(intervals)), lambda: make_instruments(intervals, 1))
        return faults or self.hardware(config)

    def structure(self, config: Config) -> str:
        """The same for configs with the same network on the same task."""
        task = config.task
        if str(task["_target_"]).startswith("gradflow."):
            task = {key: value for key, value in task.items() if key != "split_seed"}
        parts = (config.model, config.cell, config.activation, config.norm, config.skip, config.depth, config.width)
        shares = (config.dropout, config.alpha_dropout, config.input_noise, config.label_smoothing)
        return repr((task, *parts, *map(bool, shares), config.recurrent_init is not None))

    def sizes(self, config: Config) -> Rehearsal | None:
        """The network, seen once; None for what cannot be put together."""
        if self.check_keys(config) or pairs.refused(config):
            return None
        found = self._rehearsal(config)
        return None if isinstance(found, list) else found

    def check_keys(self, config: Config) -> list[str]:
        """See `gradflow.runs.build.check_keys`."""
        faults = []
        for name, node in factors(config).items():
            key = ("keys", name, repr(node))
            if key not in self._known:
                self._known[key] = check_node(name, node)
            faults += self._known[key]
        return faults

    # --- the network --------------------------------------------------------------------------------------------

    def _rehearsal(self, config: Config) -> Rehearsal | list[str]:
        key = self.structure(config)
        if key not in self._rehearsals:
            try:
                self._rehearsals[key] = self._rehearse(config, key)
            except ConfigError as error:
                self._rehearsals[key] = list(error.lines)
            except FAULTS as error:
                self._rehearsals[key] = [first_line(error)]
        return self._rehearsals[key]

    def _rehearse(self, config: Config, key: str) -> Rehearsal:
        task = self._task(config)
        network = self._build(config, task, key)
        with on(self._device):
            sizes = passed(network, task)[1]
        asked = config.recurrent_init is not None
        fills_itself = asked and all(weight.role != "recurrent" for weight in weights(network))
        return Rehearsal(task, sizes, fills_itself, getattr(network, "closed_form", None) is not None)

    def _build(self, config: Config, task: Task, key: str) -> Network:
        """The network, unless it is the one at hand."""
        if self._network is None or self._kept != key:
            self._network = None  # not two at a time
            self._device = where(config, task)
            with on(self._device):
                self._network = make_network(config, task, self._factory)
            self._kept = key
        return self._network

    # --- what else there is -------------------------------------------------------------------------------------

    def _remedies(self, config: Config, task: Task, total: int) -> list[str]:
        if not config.remedy:
            return []
        key, structure = ("remedies", repr(config.remedy)), self.structure(config)

        def made() -> list[Remedy]:
            nodes = {f"remedy.{name}": node for name, node in config.remedy.items()}
            return [called(name, self._factory(name, node), config.seed) for name, node in nodes.items()]

        def prepared() -> None:
            remedies = made()
            if self._made[key]:
                network = self._build(config, task, structure)
                with on(self._device):
                    for remedy in remedies:
                        remedy.prepare(network, task, total)
            the_pretraining(remedies)
            the_loss(remedies)

        def looked() -> None:
            self._made[key] = any(type(remedy).prepare is not Remedy.prepare for remedy in made())

        # one that does not look at the network is checked once for all of them
        faults = self._once(key, looked)
        return faults or self._once((*key, total, structure if self._made[key] else None), prepared)

    def _optimizer(self, config: Config) -> list[str]:
        node = config.optimizer
        if str(node["_target_"]).startswith("gradflow."):  # takes any parameters
            tiny = nn.Linear(2, 2, device="meta")
            return self._once(("optimizer", repr(node)), lambda: make("optimizer", node, parameter_groups(tiny)))
        key = self.structure(config)

        def made() -> None:
            network = self._build(config, self._task(config), key)
            make("optimizer", node, parameter_groups(network))

        return self._once(("optimizer", repr(node), key), made)

    def _schedule(self, config: Config, total: int) -> list[str]:
        node = config.scheduler
        return self._once(("scheduler", repr(node), total), lambda: self._factory("scheduler", node)(0, total))

    def _inits(self, config: Config, rehearsal: Rehearsal) -> list[str]:
        words = (repr(config.init), repr(config.recurrent_init), repr(config.activation), rehearsal.fills_itself)
        return self._once(("init", *words), lambda: check_inits(config, rehearsal.fills_itself, self._factory))

    def hardware(self, config: Config) -> list[str]:
        """What a run asks for that this machine has not, if it will be trained here."""
        if not self._here:
            return []
        key = ("hardware", repr(config.hardware), repr(config.trainer), config.task.get("batch_size"))
        if key not in self._known:
            missing = missing_hardware(config)
            self._known[key] = [missing] if missing else []
        return self._known[key]

    # --- memory -------------------------------------------------------------------------------------------------

    def _once(self, key: Any, attempt: Callable[[], Any]) -> list[str]:
        """What is wrong with something that many cells share."""
        if key not in self._known:
            try:
                attempt()
                self._known[key] = []
            except ConfigError as error:
                self._known[key] = list(error.lines)
            except FAULTS as error:
                self._known[key] = [first_line(error)]
        return self._known[key]

    def _task(self, config: Config) -> Task:
        key = ("task", repr(config.task))
        if key not in self._made:
            self._made[key] = make("task", config.task)
        return smoothed(self._made[key], config)

    def _factory(self, name: str, node: dict[str, Any]) -> Callable[..., Any]:
        key = (name, repr(node))
        if key not in self._made:
            self._made[key] = factory(name, node)
        return self._made[key]  # type: ignore[no-any-return]
