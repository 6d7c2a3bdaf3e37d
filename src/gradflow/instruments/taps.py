"""What passes through a network's blocks and activations while `torch.func.vmap` runs it for K models at once.

Inside `vmap` a hook is given what looks like one model's tensor, through which autograd's hooks cannot be reached;
`_Tap` gets hold of the tensor of all K behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import Instrument, first
from gradflow.instruments.observer import modules_of_blocks, tensor_of
from gradflow.instruments.slopes import Pass, by_element, may_widen


class Taps:
    """Hooks that are there within `with`.

    Args:
        model: the one of K models whose modules are called.
        blocks: what is watched.
        instruments: those that look inside, at `activated` or `delta`.
        called: activations that the model calls when it runs alone. Under `vmap` it may call others: no kernel of a
            whole sequence has a form over several models.

    Attributes:
        outputs: (block, h [K, …]) of each call of a block, where one looks at `delta`: differentiate the losses by h.
        passes: of each call of an activation the first examples' z [K, examples, …].

    Raises:
        ValueError: if an activation is not the same function of every element, or has numbers of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block],
        instruments: Sequence[Instrument],
        called: Collection[nn.Module],
    ) -> None:
        self.outputs: list[tuple[Block, Tensor]] = []
        self.passes: list[Pass] = []
        self._model, self._blocks = model, blocks
        looking = [i for i in instruments if i.looks("activated")]
        self._examples = max((i.examples for i in looking), default=0)
        self._called = called if looking else ()
        self._delta = any(i.looks("delta") for i in instruments)
        self._handles: list[RemovableHandle] = []
        self._at: Block | None = None
        mixing = [activation for activation in self._called if not by_element(activation)]
        if mixing:
            raise ValueError(f"{type(mixing[0]).__name__} is watched in one network at a time")

    def __enter__(self) -> Taps:
        inside = dict(modules_of_blocks(self._model, self._blocks))
        for block in self._blocks:
            if block.module is not None:
                self._handles.append(block.module.register_forward_hook(self._block_hook(block)))
        for activation in self._called:
            self._handles.append(activation.register_forward_pre_hook(self._activation_hook(inside)))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _block_hook(self, block: Block) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            self._at = block
            if not self._delta or tensor_of(output) is None:
                return None
            if not isinstance(output, Tensor):
                raise ValueError(f"block {block.name} gives more than one tensor")
            return _Tap.apply(output, lambda h: self.outputs.append((block, h)))

        return hook

    def _activation_hook(self, inside: dict[nn.Module, Block]) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            z, block = tensor_of(inputs), inside.get(module, self._at)
            if z is not None and block is not None:
                z = first(z.detach(), self._examples)
                z = z.float() if may_widen(module, z) else z.clone()
                _Tap.apply(z, lambda z_K: self.passes.append(Pass(block, module, z_K.detach())))

        return hook


class _Tap(torch.autograd.Function):
    """The identity, which under `vmap` tells `sink` the tensor of all models [K, …]."""

    @staticmethod
    def forward(tensor: Tensor, sink: Callable[[Tensor], None]) -> Tensor:  # noqa: ARG004
        raise RuntimeError("a network that does not run under vmap, or does not depend on the model, is not tapped")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(_: Any, in_dims: Any, tensor: Tensor, sink: Callable[[Tensor], None]) -> tuple[Tensor, int]:
        tensor = tensor.movedim(in_dims[0], 0)
        sink(tensor)
        return tensor, 0
