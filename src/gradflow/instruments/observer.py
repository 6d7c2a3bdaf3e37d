"""Hooks that let instruments see inside a network during one training step, and are gone after it.

Forward passes without gradients (evaluation) are not seen. A checkpointed part of a network (torch.utils.checkpoint)
runs forwards twice: it is counted once, in the pass through which the gradient flows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradflow.instruments import probing, ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import Instrument, Named, first
from gradflow.instruments.slopes import Pass, evaluated, is_activation, may_widen

ROOM = 2**22  # pre-activations that wait to be looked at together
MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Observer:
    """Attaches and removes the hooks.

    Args:
        model: any module.
        blocks: what is watched.
        instruments: those that may look inside.

    Attributes:
        order: blocks in the order in which they began, where `attach` was asked for it.
        called: the activations that somebody has been told of; None before the first time that any might have been.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[Block], instruments: Sequence[Instrument]) -> None:
        self.model, self.blocks, self.instruments = model, list(blocks), list(instruments)
        self.order: list[Block] = []
        self.called: set[nn.Module] | None = None
        self._handles: list[RemovableHandle] = []
        self._uncompiled = self._listens = False
        self._passed: set[int] = set()
        self._at: Block | None = None
        self._passes: list[Pass] = []
        self._told: list[Instrument] = []
        self._room = ROOM
        self._inside = dict(modules_of_blocks(model, self.blocks))

    def attach(self, due: Sequence[Instrument], order: bool = False) -> None:
        """Let the instruments that are due see what follows.

        Args:
            due: those among `instruments`.
            order: whether to note the order in which blocks run.
        """
        self.detach()
        self._passed.clear()
        self.order, self._at = [], None
        self._listens = False
        see = {m: [i for i in due if i.looks(m)] for m in ("output", "activated", "delta", "mapped")}
        if not (order or any(see.values())):
            return
        self._run_uncompiled()
        self._listens = bool(see["activated"])
        for block in self.blocks:
            if block.module is not None:
                if order:
                    self._handles.append(block.module.register_forward_pre_hook(self._order_hook(block)))
                self._hook_block(block.module, self._block_hook(block, see["output"], see["delta"]))
        for instrument in see["output"]:
            for block in instrument.beside:
                if block.module is not None:
                    self._hook_block(block.module, self._block_hook(block, [instrument], [], watched=False))
        if see["activated"] or see["mapped"]:
            for module in self.model.modules():
                if see["activated"] and is_activation(module):
                    examples = ranks.share(max(i.examples for i in see["activated"]))
                    self._handles.append(
                        module.register_forward_pre_hook(self._activation_hook(see["activated"], examples))
                    )
                elif see["mapped"] and isinstance(module, MAPS) and module in self._inside:
                    self._hook(module, self._map_hook(see["mapped"], max(i.examples for i in see["mapped"])))

    def tell(self) -> None:
        """Show the instruments the activations that have been passed since the last call."""
        passes, self._passes, self._room = self._passes, [], ROOM
        if self._handles and self._listens:
            self.called = (self.called or set()) | {each.activation for each in passes}
        for each, h, slope in evaluated(passes):
            for instrument in self._told:
                instrument.activated(each.block, each.activation, each.z, h, slope)

    def detach(self) -> None:
        """Leave the network as it was."""
        self._passes = []
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._uncompiled:
            self._uncompiled = False
            _compile_again()

    # --- hooks ----------------------------------------------------------------------------------------------------

    def _hook(self, module: nn.Module, hook: Any) -> None:
        self._handles.append(module.register_forward_hook(hook))

    def _hook_block(self, module: nn.Module, hook: Any) -> None:
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _order_hook(self, block: Block) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            # a checkpoint computes its parts once more from the last on
            if torch._C._current_graph_task_id() == -1 and not probing.under_way():
                self.order.append(block)

        return hook

    def _block_hook(
        self, block: Block, outputs: list[Instrument], deltas: list[Instrument], watched: bool = True
    ) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            if watched:
                self._at = block
            h = tensor_of(output)
            if h is None or not self._counts(module):
                return
            for instrument in outputs:
                instrument.output(block, (*inputs, Named(named)) if named else inputs, h.detach())
            if deltas and h.requires_grad:
                h.register_hook(lambda gradient: _tell(gradient, block))  # type: ignore[no-untyped-call]

        def _tell(gradient: Tensor, block: Block) -> None:
            for instrument in deltas:
                instrument.delta(block, gradient.detach())

        return hook

    def _activation_hook(self, instruments: list[Instrument], examples: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            z = tensor_of(inputs)
            if z is None or not self._counts(module):
                return
            block = self._inside.get(module, self._at)
            if block is not None:
                z = first(z.detach(), examples)
                self._passes.append(Pass(block, module, z.float() if may_widen(module, z) else z.clone()))
                self._told, self._room = instruments, self._room - z.numel()
                if self._room < 0:
                    self.tell()

        return hook

    def _map_hook(self, instruments: list[Instrument], examples: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if not self._counts(module) or not output.requires_grad:
                return
            block, x = self._inside[module], first(inputs[0].detach(), examples).clone()

            def tell(gradient: Tensor) -> None:
                for instrument in instruments:
                    instrument.mapped(block, module, x, first(gradient.detach(), examples))

            output.register_hook(tell)  # type: ignore[no-untyped-call]

        return hook

    def _counts(self, module: nn.Module) -> bool:
        """Whether this pass is one through which the gradient flows."""
        if not torch.is_grad_enabled() or probing.under_way():
            return False
        if torch._C._current_graph_task_id() != -1:  # inside a backward pass: a checkpoint computes once more
            return id(module) not in self._passed
        self._passed.add(id(module))
        return True

    def _run_uncompiled(self) -> None:
        """Hooks break a compiled graph, or are left out of it: this one step runs without it."""
        if "torch._dynamo" in sys.modules:
            self._uncompiled = True
            _do_not_compile()


# Torch has one stance for the whole process, and several models may be watched in turns: the first of their observers
# changes it, and the last puts it back.
_observers = 0
_stance: Any = None


def _do_not_compile() -> None:
    global _observers, _stance
    if _observers == 0:
        _stance = torch.compiler.set_stance("force_eager")
    _observers += 1


def _compile_again() -> None:
    global _observers, _stance
    _observers -= 1
    if _observers == 0:
        _stance.__exit__(None, None, None)
        _stance = None


def modules_of_blocks(model: nn.Module, blocks: Sequence[Block]) -> Iterator[tuple[nn.Module, Block]]:
    """Every module that lies inside a block, with the innermost such block."""
    sizes = sorted(
        ((sum(1 for _ in b.module.modules()), i, b) for i, b in enumerate(blocks) if b.module is not None),
        key=lambda each: (-each[0], each[1]),
    )
    for _, _, block in sizes:
        assert block.module is not None
        for module in block.module.modules() if block.whole else [block.module]:
            yield module, block


def tensor_of(value: Any) -> Tensor | None:
    """The first floating-point tensor of what a module is given or gives."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for each in value:
            found = tensor_of(each)
            if found is not None:
                return found
    return None
