"""Learners whose networks have one graph, trained as one network with an axis of members.

A small network leaves a processor idle: its step is a hundred calls of a few microseconds' work each. K of them in one
call each take little longer than one, up to the width at which the products themselves fill the processor.

Shapes: K members, B batch; a parameter [K, …].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import Optimizer

from gradflow.training.learner import Learner
from gradflow.training.remedies import ClipNorm
from gradflow.training.remedy import Remedy
from gradflow.training.stacked_updates import UPDATES, Group, beside


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
            for name, parameter in members[0].items():
                whole = torch.stack([each[name].detach() for each in members])
                for k, each in enumerate(members):
                    each[name].data = whole[k]
                self.parameters[name] = whole.requires_grad_(parameter.requires_grad)
            self._buffers = _stack_buffers([learner.network for learner in learners])
            self._groups = self._stack_states()
        self._gradients: dict[str, Tensor] = {}
        self._acting = [i for i, r in enumerate(learners[0].remedies) if _overrides(r, "gradients")]
        self._updating = any(_overrides(r, "updated") for learner in learners for r in learner.remedies)

    def _stack_states(self) -> list[Group]:
        """What the optimisers remember, and their numbers, group by group."""
        names = {id(p): name for name, p in self._own[0].items()}
        groups = []
        for g, first in enumerate(self._optimizers[0].param_groups):
            theirs = [optimizer.param_groups[g] for optimizer in self._optimizers]
            states: dict[str, dict[str, Tensor]] = {}
            for parameter in first["params"]:
                name = names[id(parameter)]
                each = [o.state.get(own[name], {}) for o, own in zip(self._optimizers, self._own, strict=True)]
                given = [{key for key, value in state.items() if isinstance(value, Tensor)} for state in each]
                if any(keys != given[0] for keys in given):
                    raise ValueError("optimisers in different states")
                states[name] = {}
                for key in sorted(given[0]):
                    whole = torch.stack([state[key] for state in each])
                    for k, state in enumerate(each):
                        state[key] = whole[k]
                    states[name][key] = whole
            groups.append(Group(theirs, states))
        return groups

    def losses(self, x_KB: Tensor, y_KB: Tensor) -> Tensor:
        """[K]: of one batch each, with its graph."""
        task, network = self._task, self._first

        def of_one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return task.loss(functional_call(network, (parameters, buffers), (x,)), y)

        losses: Tensor = vmap(of_one, randomness="error")(self.parameters, self._buffers, x_KB, y_KB)
        return losses

    def differentiate(self, x_KB: Tensor, y_KB: Tensor) -> Tensor:
        """The losses [K], detached; their gradients are kept for `hand_out` and `update`."""
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        losses = self.losses(x_KB, y_KB)
        found = torch.autograd.grad(losses.sum(), list(trained.values()), allow_unused=True)
        # fused optimisers go through memory as it lies, and a gradient may lie transposed
        self._gradients = {n: g.contiguous() for n, g in zip(trained, found, strict=True) if g is not None}
        return losses.detach()

    @contextmanager
    def kept_buffers(self) -> Iterator[None]:
        """Running statistics are afterwards as before."""
        kept = {name: buffer.clone() for name, buffer in self._buffers.items()}
        try:
            yield
        finally:
            for name, buffer in self._buffers.items():
                buffer.copy_(kept[name])

    def gradients_of(self, k: int) -> dict[str, Tensor]:
        """One member's, by name."""
        return {name: gradient[k] for name, gradient in self._gradients.items()}

    def hand_out(self) -> None:
        """Give each learner's parameters their gradients."""
        for k, own in enumerate(self._own):
            for name, parameter in own.items():
                gradient = self._gradients.get(name)
                parameter.grad = None if gradient is None else gradient[k]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """What remedies and optimisers do with the gradients."""
        if self._acting:
            self._act(step)
        for group in self._groups:
            for name, state in group.states.items():
                if name in self._gradients:
                    self._change(group, self.parameters[name], self._gradients[name], state)
        if self._updating:
            for learner in self.learners:
                for remedy in learner.remedies:
                    remedy.updated(step)

    def _act(self, step: int) -> None:
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
        given = list(self._gradients.values())
        squares = sum(g.double().square().flatten(1).sum(1) for g in given)
        assert isinstance(squares, Tensor)
        factors = (torch.tensor(bounds, device=squares.device) / squares.sqrt()).clamp(max=1.0)
        for gradient in given:
            gradient.mul_(beside(factors.to(gradient.dtype), gradient))


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
