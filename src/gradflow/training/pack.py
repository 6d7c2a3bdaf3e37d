"""Learners whose networks have one graph, trained as one network with an axis of members.

A small network leaves a processor idle: its step is a hundred calls of a few microseconds' work each. K of them in one
call each take little longer than one, up to the width at which the products themselves fill the processor.

Shapes: K members, B batch; a parameter [K, …].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import Optimizer

from gradflow.instruments.taps import Taps
from gradflow.training.learner import Learner
from gradflow.training.pack_forward import forward, is_plain
from gradflow.training.remedies import ClipNorm
from gradflow.training.remedy import Remedy
from gradflow.training.stacked_updates import UPDATES, Group, Whole, beside


class Stack:
    """K learners as one: their parameters, buffers and optimiser states become parts of tensors [K, …].

    The learners keep their modules and optimisers, whose tensors are views of these: what one of them does by itself
    (a step, an evaluation, a checkpoint) sees what the stack has done, and the other way round.

    Args:
        learners: that are being trained on one device, by the same kind of optimiser, with states of the same kind;
            their networks differ in numbers alone, their tasks in nothing that the loss depends on.

    Raises:
        ValueError: if the learners do not match, or the optimiser is none that is known here.
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        self.learners = list(learners)
        self._first, self._task = learners[0].network, learners[0].task
        self._optimizers: list[Optimizer] = [raw_optimizer(learner) for learner in learners]
        kinds = {type(optimizer) for optimizer in self._optimizers}
        if len(kinds) > 1 or (kind := kinds.pop()) not in UPDATES:
            raise ValueError("optimisers of different kinds, or of one that is not known")
        self._change = UPDATES[kind]
        members = [dict(learner.network.named_parameters()) for learner in learners]
        same = {tuple((name, p.shape, p.dtype, p.requires_grad) for name, p in each.items()) for each in members}
        if len(same) > 1:
            raise ValueError("networks of different shapes")
        self._own = members
        self.parameters: dict[str, Tensor] = {}
        with torch.no_grad():
            self._buffers = _stack_buffers([learner.network for learner in learners])
            self._groups = self._stack_groups()
            updated = {name for group in self._groups for name in group.states}
            for name in members[0]:
                if name not in updated:
                    self._stack_parameters([name])
        self._of = {id(p): self.parameters[name] for name, p in members[0].items()}
        self._by_hand = is_plain(self._first)
        self._gradients: dict[str, Tensor] = {}
        self._placed: list[Whole] = []
        self.deltas: tuple[Tensor | None, ...] = ()
        self._acting = [i for i, r in enumerate(learners[0].remedies) if _overrides(r, "gradients")]
        self._updating = any(_overrides(r, "updated") for learner in learners for r in learner.remedies)

    def _stack_parameters(self, names: list[str]) -> Tensor:
        """Parameters of one type as parts of one tensor [K, N], which is given back."""
        tensors = [[own[name].detach() for name in names] for own in self._own]
        whole, parts = slab(tensors)
        for name, part in zip(names, parts, strict=True):
            for k, own in enumerate(self._own):
                own[name].data = part[k]
            self.parameters[name] = part.requires_grad_(self._own[0][name].requires_grad)
        return whole

    def _stack_groups(self) -> list[Group]:
        """What the optimisers remember, and their numbers, group by group."""
        names = {id(p): name for name, p in self._own[0].items()}
        groups = []
        for g, first in enumerate(self._optimizers[0].param_groups):
            theirs = [optimizer.param_groups[g] for optimizer in self._optimizers]
            named = [names[id(parameter)] for parameter in first["params"]]
            kinds = {self._own[0][name].dtype for name in named}
            alike = [[name for name in named if self._own[0][name].dtype == kind] for kind in kinds]
            for together in alike:
                groups.append(self._stack_group(theirs, together))
        return groups

    def _stack_group(self, theirs: list[dict[str, Any]], names: list[str]) -> Group:
        parameters = self._stack_parameters(names)
        gradient, places = slab([[own[name].detach() for name in names] for own in self._own])
        states = [
            [optimizer.state.get(own[name], {}) for name in names]
            for optimizer, own in zip(self._optimizers, self._own, strict=True)
        ]
        kinds = [
            [{key for key, value in state.items() if isinstance(value, Tensor)} for state in each] for each in states
        ]
        if any(each != kinds[0] for each in kinds):
            raise ValueError("optimisers in different states")
        keys = dict(zip(names, kinds[0], strict=True))
        found: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        whole: dict[str, Tensor] = {}
        for key in sorted(set().union(*keys.values())):
            having = [i for i, name in enumerate(names) if key in keys[name]]
            whole[key], parts = slab([[each[i][key] for i in having] for each in states])
            for i, part in zip(having, parts, strict=True):
                found[names[i]][key] = part
                for k, each in enumerate(states):
                    each[i][key] = part[k]
        same = all(keys[name] == set(whole) for name in names)
        together = Whole(parameters, whole, gradient, dict(zip(names, places, strict=True)))
        return Group(theirs, found, together if same else None)

    def losses(self, x_KB: Tensor, y_KB: Tensor, tapped: bool = False) -> Tensor:
        """[K]: of one batch each, with its graph; if `tapped`, by `vmap`, within which hooks are called."""
        task, network = self._task, self._first

        if self._by_hand and not tapped:
            outputs = forward(network, x_KB, lambda parameter: self._of[id(parameter)])
            found: Tensor = vmap(task.loss)(outputs, y_KB)
            return found

        def of_one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return task.loss(functional_call(network, (parameters, buffers), (x,)), y)

        losses: Tensor = vmap(of_one, randomness="error")(self.parameters, self._buffers, x_KB, y_KB)
        return losses

    def differentiate(self, x_KB: Tensor, y_KB: Tensor, taps: Taps | None = None) -> Tensor:
        """The losses [K], detached; their gradients are kept for `act` and `update`.

        Args:
            taps: to look inside the networks, which then have `deltas`.
        """
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        with taps or nullcontext():
            losses = self.losses(x_KB, y_KB, taps is not None)
        tapped = [h for _, h in taps.outputs] if taps is not None else []
        found = torch.autograd.grad(losses.sum(), [*trained.values(), *tapped], allow_unused=True)
        self._gradients = {n: g for n, g in zip(trained, found, strict=False) if g is not None}
        self._place()
        self.deltas = found[len(trained) :]
        return losses.detach()

    @torch.no_grad()
    def _place(self) -> None:
        """Put the gradients of a whole group side by side."""
        self._placed = []
        for group in self._groups:
            if group.whole is not None and group.whole.places.keys() <= self._gradients.keys():
                for name, place in group.whole.places.items():
                    self._gradients[name] = place.copy_(self._gradients[name])
                self._placed.append(group.whole)

    @contextmanager
    def kept_buffers(self, if_done: bool = True) -> Iterator[None]:
        """Running statistics are afterwards as before; unless `if_done` only where there was an exception."""
        kept = {name: buffer.clone() for name, buffer in self._buffers.items()}
        done = False
        try:
            yield
            done = True
        finally:
            for name, buffer in self._buffers.items() if if_done or not done else ():
                buffer.copy_(kept[name])

    def gradients_of(self, k: int) -> dict[str, Tensor]:
        """One member's, by name."""
        return {name: gradient[k] for name, gradient in self._gradients.items()}

    def by_parameter(self, k: int | None = None) -> dict[int, Tensor]:
        """The gradients [K, …], by the ids of the first learner's parameters; or those of learner k."""
        gradients = self._gradients if k is None else self.gradients_of(k)
        return {id(p): gradients[name] for name, p in self._own[k or 0].items() if name in gradients}

    def hand_out(self) -> None:
        """Give each learner's parameters their gradients."""
        for k, own in enumerate(self._own):
            for name, parameter in own.items():
                gradient = self._gradients.get(name)
                parameter.grad = None if gradient is None else gradient[k]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """What optimisers do with the gradients."""
        for group in self._groups:
            whole = group.whole
            if whole is not None and whole in self._placed:
                self._change(group, whole.parameters, whole.gradient, whole.states)
                continue
            for name, state in group.states.items():
                if name in self._gradients:
                    self._change(group, self.parameters[name], self._gradients[name], state)
        if self._updating:
            for learner in self.learners:
                for remedy in learner.remedies:
                    remedy.updated(step)

    @torch.no_grad()
    def act(self, step: int) -> None:
        """What remedies do with the gradients."""
        if not self._acting:
            return
        acting = [[learner.remedies[place] for place in self._acting] for learner in self.learners]
        clips = [[remedy for remedy in remedies if isinstance(remedy, ClipNorm)] for remedies in acting]
        if clips == acting:
            for alike in zip(*clips, strict=True):
                self._clip([remedy.max_norm for remedy in alike])
            return
        self.hand_out()
        for remedies, own in zip(acting, self._own, strict=True):
            trained = [p for p in own.values() if p.requires_grad]
            for remedy in remedies:
                remedy.gradients(trained, step)

    def _clip(self, bounds: list[float]) -> None:
        """`ClipNorm` of each member."""
        squares = sum(g.double().square().reshape(len(g), -1).sum(1) for g in self._gradients.values())
        assert isinstance(squares, Tensor)
        factors = (torch.tensor(bounds, device=squares.device) / squares.sqrt()).clamp(max=1.0)
        factors = factors.to(next(iter(self._gradients.values())).dtype)
        for whole in self._placed:
            whole.gradient.mul_(beside(factors, whole.gradient))
        placed = {name for whole in self._placed for name in whole.places}
        self._gradients |= {n: g * beside(factors, g) for n, g in self._gradients.items() if n not in placed}


def slab(tensors: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Of each of K members' several tensors, copies side by side: [K, N], and its parts [K, …]: views."""
    whole = torch.stack([torch.cat([tensor.reshape(-1) for tensor in each]) for each in tensors])
    shapes = [tensor.shape for tensor in tensors[0]]
    parts = torch.split(whole, [shape.numel() for shape in shapes], 1)
    return whole, [part.view(len(tensors), *shape) for part, shape in zip(parts, shapes, strict=True)]


def raw_optimizer(learner: Learner) -> Optimizer:
    """Torch's own, out of Lightning's wrapper."""
    optimizer: Any = learner.optimizers()
    return optimizer.optimizer  # type: ignore[no-any-return]


def known(optimizer: Optimizer) -> bool:
    """Whether a `Stack` knows how it updates."""
    return type(optimizer) in UPDATES


def begun(optimizer: Optimizer) -> bool:
    """Whether it has all that it will remember: most optimisers begin that at their first step."""
    plain = isinstance(optimizer, torch.optim.SGD)
    groups = [group for group in optimizer.param_groups if not (plain and group["momentum"] == 0)]
    return all(optimizer.state.get(p) for group in groups for p in group["params"])


def _overrides(remedy: Remedy, hook: str) -> bool:
    return getattr(type(remedy), hook) is not getattr(Remedy, hook)


def _stack_buffers(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    stacked = {}
    for name, _ in networks[0].named_buffers():
        owner, _, key = name.rpartition(".")
        modules = [network.get_submodule(owner) for network in networks]
        whole = torch.stack([getattr(module, key) for module in modules])
        for k, module in enumerate(modules):
            module._buffers[key] = whole[k]
        stacked[name] = whole
    return stacked
