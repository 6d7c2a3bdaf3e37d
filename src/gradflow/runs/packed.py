"""Several runs in one process, their steps made together.

Every run of a pack is what it would be alone: its own Lightning loop, instruments, record, checkpoints and W&B run, in
a greenlet of its own. Before each step it lets the others go on, and when all stand before the same step, those whose
networks have one graph make it as one (`gradflow.training.pack`). So a run that diverges, ends or is stopped leaves
without harm to the rest, and where stacking does not pay, or is wrong, the runs take turns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.instruments.members import MembersUpdate, Seen
from gradflow.runs.build import first_line
from gradflow.runs.config import Config
from gradflow.runs.execute import Outcome, attempt
from gradflow.runs.graph import graph_key
from gradflow.runs.identity import labels, run_id
from gradflow.runs.stop import Stop
from gradflow.runs.wandb_logger import many_at_once
from gradflow.training.learner import Learner, Shared
from gradflow.training.pack import Stack, begun, known, raw_optimizer
from gradflow.training.pack_batches import PackBatches
from gradflow.training.pack_trial import better_apart

_say = logging.getLogger("gradflow")
LONGEST_CHUNK = 64  # steps: Lightning's cost per chunk counts for each member
Batches = tuple[Tensor, Tensor]
Made = tuple[Tensor, dict[int, Seen]]  # the losses of a run's next steps [n], and what its instruments saw
OnOutcome = Callable[[Config, Outcome], None]


class Member:
    """One run of a pack, as the pack and the run see each other.

    Attributes:
        step: the one before which it stands.
        until: the step before which it must be asked again, if it need not do this one itself.
        turns: that it has had, as far as they are counted.
        needs: what the step must show to its instruments; see `Session.needs`.
        seconds, since: of its earlier turns and shares, and when the turn under way began.
        looks_with_others: whether what its instruments see inside its network can be seen in several at once.
        generators: states of torch's global generators in its turn; None once it is known to draw nothing from them.
    """

    def __init__(self, config: Config, overrides: list[str], hub: greenlet) -> None:
        self.config, self.overrides, self.hub = config, overrides, hub
        self.key = graph_key(labels(config), config.model_dump())
        self.learner: Learner | None = None
        self.flow: GradientFlow | None = None
        self.step, self.until, self.turns, self.needs = 0, 1, 0, "inside"
        self.greenlet: greenlet | None = None
        self.generators: list[Tensor] | None = None
        self.seconds, self.since = 0.0, time.monotonic()
        self.looks_with_others = True
        self._ready = False
        self._may_be: bool | None = None

    def joins(self, learner: Learner, flow: GradientFlow | None) -> Callable[[], float]:
        """Told by the run before it trains; its clock, which goes on in its own turns and by its share of what is made
        together."""
        self.learner, self.flow = learner, flow
        learner.packed, learner.longest_chunk = self._packed, LONGEST_CHUNK
        return lambda: self.seconds + time.monotonic() - self.since

    def _packed(self, step: int, end: int) -> Shared | None:
        """In the run's greenlet: let the others go on; what they have done of the steps up to `end` when it is this
        one's turn."""
        assert self.learner is not None
        self.step, self.needs = step, self.needs_at(step)
        self.until = self._until(step, end)
        session = None if self.flow is None else self.flow.flow.session
        if session is not None:
            session.end()  # hooks would see what the pack does with this network
        with _default_dtype(torch.float32):  # for others' turns; Lightning changes it within a step in float64
            made: Made | None = self.hub.switch(self)
        if made is None:
            if session is not None:
                session.begin(step)
            return None
        losses, seen = made
        if session is None:
            return Shared(losses)
        passed, optimizer = session.passed, raw_optimizer(self.learner)
        return Shared(losses, lambda count: passed(optimizer, step, losses[:count], seen))

    def _until(self, step: int, end: int) -> int:
        assert self.learner is not None
        if self.learner.asks_every_step or self.needs == "inside":
            return step + 1
        return next((later for later in range(step + 1, end) if self.needs_at(later) == "inside"), end)

    def needs_at(self, step: int) -> str:
        """What a step must show to the run's instruments; see `Session.needs`."""
        if self.flow is None:
            return ""
        needs = self.flow.flow.session.needs(step)
        alone = self.flow.loss_scale is not None or not self.looks_with_others
        return "inside" if needs == "members" and alone else needs

    @property
    def ready(self) -> bool:
        """Whether its steps can be made with others': from its second step on, since optimisers begin at the first."""
        if not self._ready and self._may_be is not False:
            learner = self.learner
            assert learner is not None
            optimizer = raw_optimizer(learner)
            if self._may_be is None:
                self._may_be = learner.is_plain and known(optimizer)
            self._ready = self._may_be and begun(optimizer)
            self.dtype = next(learner.network.parameters()).dtype
        return self._ready


@dataclass
class _Group:
    """Members of one key.

    Attributes:
        most: how many are stacked at once; 1: none.
    """

    most: int
    stacks: list[tuple[list[Member], Stack, PackBatches]] = field(default_factory=list)


def train_pack(
    jobs: Sequence[tuple[Config, list[str]]],
    stop: Stop,
    on_outcome: OnOutcome,
    on_progress: Callable[[str, int, int, float], None] | None = None,
    entering: Callable[[Config], None] | None = None,
) -> None:
    """Train several runs at once; see `gradflow.runs.execute.execute`.

    Args:
        jobs: configs and what was typed for them.
        stop: granted by each run at its next step.
        on_outcome: told of each run as it ends.
        on_progress: told (run id, step, total steps, loss).
        entering: told whose turn begins, as long as it speaks with the outside: where its output goes, say.
    """
    _Pack(stop, on_outcome, on_progress, entering).run(jobs)


class _Pack:
    def __init__(
        self,
        stop: Stop,
        on_outcome: OnOutcome,
        on_progress: Callable[[str, int, int, float], None] | None,
        entering: Callable[[Config], None] | None,
    ) -> None:
        self._stop, self._on_outcome, self._on_progress = stop, on_outcome, on_progress
        self._entering = entering
        self._groups: dict[str, _Group] = {}

    def run(self, jobs: Sequence[tuple[Config, list[str]]]) -> None:
        hub = getcurrent()
        waiting: list[Member] = []
        for config, overrides in jobs:
            member = Member(config, overrides, hub)
            member.greenlet = greenlet(self._whole_run)
            waiting += self._switch(member, member)
        for member in waiting:
            if member.key is not None:
                self._groups.setdefault(member.key, _Group(0)).most += 1
        while waiting:
            step = min(member.step for member in waiting)
            now = [member for member in waiting if member.step == step]
            waiting = [member for member in waiting if member.step != step]
            for member, made in self._make(now, step):
                waiting += self._switch(member, made)

    def _whole_run(self, member: Member) -> Outcome:
        """In a greenlet."""
        name, tell = run_id(member.config), self._on_progress
        on_progress = None if tell is None else partial(tell, name)
        with many_at_once():
            return attempt(member.config, member.overrides, self._stop, on_progress, joins=member.joins)

    def _switch(self, member: Member, value: Any) -> list[Member]:
        """Let a run go on: [it], standing before its next step; [] once it has ended."""
        assert member.greenlet is not None
        if self._entering is not None:
            self._entering(member.config)
        if member.generators is not None:
            _put_generators(member.generators)
        member.since = time.monotonic()
        answer = member.greenlet.switch(value)
        member.seconds += time.monotonic() - member.since
        if not member.greenlet.dead:
            self._look_whether_it_draws(member)
            return [member]
        for group in self._groups.values():
            group.stacks = [each for each in group.stacks if member not in each[0]]
        self._on_outcome(member.config, answer)
        return []

    def _look_whether_it_draws(self, member: Member) -> None:
        """A module that draws from torch's global generators does so at its first step: its run then has states of its
        own, and makes its steps alone."""
        if member.generators is None and member.turns:
            return
        now = _generators()
        if member.turns == 1 and member.generators is not None:  # it has made its first step
            if all(map(torch.equal, now, member.generators)):
                member.generators, member.turns = None, 2
                return
            member.key = None
        member.generators, member.turns = now, member.turns + 1

    # --- steps made together --------------------------------------------------------------------------------------

    def _make(self, now: list[Member], step: int) -> list[tuple[Member, Made | None]]:
        """Step `step` of all who stand before it; None for those who are to make it themselves."""
        keys = list(dict.fromkeys(member.key for member in now))
        made: list[tuple[Member, Made | None]] = []
        for key in keys:
            theirs = [member for member in now if member.key == key]
            group = None if key is None else self._groups[key]
            inside = any(member.needs == "inside" for member in theirs)
            if group is None or group.most < 2 or len(theirs) < 2 or inside or self._stop.requested:
                made += [(member, None) for member in theirs]
                continue
            ready = [member for member in theirs if member.ready]
            for start in range(0, len(ready), group.most):
                some, began = ready[start : start + group.most], time.monotonic()
                with _default_dtype(ready[0].dtype):  # as Lightning has it within a step: generated data take it
                    made += self._together(group, some, step)
                for member in some:
                    member.seconds += (time.monotonic() - began) / len(some)
            made += [(member, None) for member in theirs if member not in ready]
        return made

    def _together(self, group: _Group, members: list[Member], step: int) -> list[tuple[Member, Made | None]]:
        """Step `step`, and those after it that need nobody in between."""
        alone: list[tuple[Member, Made | None]] = [(member, None) for member in members]
        losses: list[Tensor] = []
        seen: dict[int, list[Seen]] = {}
        try:
            stacked = self._stack(group, members, step) if len(members) > 1 else None
            if stacked is None:
                return alone
            stack, batches_of = stacked
            for now in range(step, min(member.until for member in members)):
                batches = None if losses and self._stop.requested else batches_of(now)
                if batches is None:
                    break
                for member in members if now > step else ():
                    _learner(member).set_rates(raw_optimizer(_learner(member)), now)
                loss_K = self._step(members, stack, batches, now, seen)
                if loss_K is None:
                    break
                losses.append(loss_K)
        except torch.OutOfMemoryError:
            group.most //= 2
            group.stacks.clear()
        if not losses:
            return alone
        losses_Kn = torch.stack(losses, 1)
        return [(m, (losses_Kn[k], {s: each[k] for s, each in seen.items()})) for k, m in enumerate(members)]

    def _step(
        self, members: list[Member], stack: Stack, batches: Batches, step: int, seen: dict[int, list[Seen]]
    ) -> Tensor | None:
        """One update, whose losses come back and of which `seen` is told; None, and nothing done, if what looks inside
        must do so in one network at a time."""
        update = None
        if members[0].needs_at(step) != "members":
            loss_K = stack.differentiate(*batches)
        else:
            try:
                with stack.kept_buffers(if_done=False):
                    update = _watched(members, step)
                    loss_K = stack.differentiate(*batches, update.taps)
                    update.before(stack.by_parameter(), stack.by_parameter, stack.deltas)
            except torch.OutOfMemoryError:
                raise
            except (ValueError, RuntimeError) as error:
                _say.info("%d runs are watched one by one: %s", len(members), first_line(error))
                for member in members:
                    member.looks_with_others = False
                return None
        stack.act(step)
        if update is not None:
            update.clipped(stack.by_parameter())
        stack.update(step)
        if update is not None:
            update.after()
            seen[step] = update.seen
        return loss_K

    def _stack(self, group: _Group, members: list[Member], step: int) -> tuple[Stack, PackBatches] | None:
        """That of these members and their batches, made and checked anew if it is not there."""
        for theirs, stack, batches_of in group.stacks:
            if theirs == members:
                return stack, batches_of
        group.stacks = [each for each in group.stacks if not set(each[0]) & set(members)]
        learners = [_learner(member) for member in members]
        batches_of = PackBatches(learners, step)
        batches = batches_of(step)
        if batches is None:
            return None
        try:
            stack = Stack(learners)
            fault = better_apart(stack, *batches)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:  # what torch says where a module has no form over members
            fault = first_line(error)
        if fault is not None:
            group.most = 1
            if self._entering is not None:
                self._entering(members[0].config)
            _say.warning("%d runs take turns instead of being stacked: %s", len(members), fault)
            return None
        group.stacks.append((members, stack, batches_of))
        return stack, batches_of


def _watched(members: list[Member], step: int) -> MembersUpdate:
    flows = [member.flow for member in members if member.flow is not None]
    optimizers = [raw_optimizer(_learner(member)) for member in members]
    return MembersUpdate([flow.flow.session for flow in flows], optimizers, step)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(kept)


def _generators() -> list[Tensor]:
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *gpus]


def _put_generators(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


def _learner(member: Member) -> Learner:
    assert member.learner is not None
    return member.learner
