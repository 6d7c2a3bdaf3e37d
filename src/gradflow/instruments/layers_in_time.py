"""The recurrent layers of any module, and the way to look at their states while a sequence goes through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from gradflow.instruments.blocks import _network
from gradflow.instruments.torch_recurrent import State, TorchCell, cells_of, observed


@dataclass(frozen=True)
class TimeLayer:
    """One recurrent layer in one direction of time.

    Attributes:
        index: place among the recurrent layers, in the order of `named_modules`, which is mostly that of execution.
        name: its block's name where it is the block's only one, e.g. 'blocks.03', else with '.forward' or '.backward';
            outside of blocks the module's path, for torch.nn's layers with torch's own suffix, e.g. 'rnn_l0_reverse'.
        block: the block's index in a network with a `stem`, `blocks` and a `head`; None elsewhere.
        module: what is called with the sequence.
        part: place among the module's layers and directions; 0 where the module is one layer.
        reverse: whether it runs from the last step to the first.
        state_names: one word per part of its state, 'h' first.
        cell: the layer's `begin`, `leak` …, if it has any.
        no_gradient: why no gradient flows through time, in words; None where it does.
    """

    index: int
    name: str
    block: int | None
    module: nn.Module
    part: int
    reverse: bool
    state_names: tuple[str, ...]
    cell: Any
    no_gradient: str | None


Callback = Callable[[TimeLayer, int, State], State | None]


def find_time_layers(module: nn.Module) -> list[TimeLayer]:
    """Every recurrent layer inside a module.

    These are `nn.RNN`, `nn.LSTM` and `nn.GRU` (each layer and direction of them by itself), modules with an attribute
    `observer` that is called as `observer(time, state) -> state` after every `observer.every`-th step, and modules
    with a text `no_gradient`, which says why they have no gradient in time.

    Raises:
        ValueError: if there is none, or an LSTM projects its states.
    """
    found: list[TimeLayer] = []
    for path, each in module.named_modules():
        if isinstance(each, nn.RNNBase):
            many = each.num_layers > 1 or each.bidirectional
            for part, cell in enumerate(cells_of(each)):
                name = (path or "rnn") + (cell.suffix if many else "")
                found.append(TimeLayer(0, name, None, each, part, cell.reverse, cell.state_names, cell, None))
        elif _can_be_observed(each) or isinstance(getattr(each, "no_gradient", None), str):
            own = getattr(each, "cell", None)
            names = tuple(getattr(own, "state_names", ("h",)))
            reverse, reason = bool(getattr(each, "reverse", False)), getattr(each, "no_gradient", None)
            found.append(TimeLayer(0, path or "model", None, each, 0, reverse, names, own, reason))
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no recurrent layer: nn.RNN, nn.LSTM, nn.GRU and modules with an `observer` "
            "can be watched through time"
        )
    return [replace(layer, index=index) for index, layer in enumerate(_named_by_block(module, found))]


@contextmanager
def observing(layers: Sequence[TimeLayer], every: int, callback: Callback) -> Iterator[None]:
    """Inside, `callback(layer, time, state)` sees states of `layers` as sequences go through them.

    It may return another state, which takes the place of the one it saw: from there on and in the layer's output.
    What the layers compute stays the same but for rounding. Afterwards every module is as it was.

    Args:
        layers: from `find_time_layers`; those without a gradient in time are left out.
        every: steps from one look to the next; the last state of a sequence is always seen. With 1 layers run step by
            step, with more the fused kernels run in segments: 10 to 30 steps cost next to nothing.
        callback: gets `time` in the sequence's own order, 0 first, also from a reversed layer.

    Raises:
        ValueError: if `every` is not positive; when called, for a packed sequence.
    """
    if every < 1:
        raise ValueError(f"every={every}: must be at least 1")
    with ExitStack() as stack:
        for module in dict.fromkeys(layer.module for layer in layers if layer.no_gradient is None):
            own = [layer for layer in layers if layer.module is module]
            if isinstance(module, nn.RNNBase):
                forward = observed(module, [layer.cell for layer in own], every, _Look(own, callback))
                stack.enter_context(replaced(module, "forward", forward))
            else:
                stack.enter_context(replaced(module, "observer", _Observer(own[0], every, callback)))
        yield


@contextmanager
def replaced(thing: object, name: str, value: object) -> Iterator[None]:
    """Inside, an instance's attribute is another; afterwards it is what it was, or absent if it was the class's."""
    own = vars(thing)
    before, there = own.get(name), name in own
    own[name] = value
    try:
        yield
    finally:
        if there:
            own[name] = before
        else:
            del own[name]


class _Observer:
    def __init__(self, layer: TimeLayer, every: int, callback: Callback) -> None:
        self.layer, self.every, self.callback = layer, every, callback

    def __call__(self, time: int, state: State) -> State:
        found = self.callback(self.layer, time, state)
        return state if found is None else found


class _Look:
    def __init__(self, layers: Sequence[TimeLayer], callback: Callback) -> None:
        self.layers, self.callback = layers, callback

    def __call__(self, place: int, time: int, state: State) -> State:
        found = self.callback(self.layers[place], time, state)
        return state if found is None else found


def _can_be_observed(module: nn.Module) -> bool:
    """`observer` is also a word of torch's quantisation, where it is a module."""
    if not hasattr(module, "observer"):
        return False
    observer = module.observer
    return observer is None or (hasattr(observer, "every") and not isinstance(observer, nn.Module | Tensor))


def _named_by_block(module: nn.Module, layers: list[TimeLayer]) -> list[TimeLayer]:
    whole = _network(module)
    if whole is None:
        return layers
    owner = {id(each): index for index, block in enumerate(whole.blocks) for each in block.modules()}
    digits = max(2, len(str(len(whole.blocks) - 1)))
    inside = [owner.get(id(layer.module)) for layer in layers]
    count = Counter(inside)
    directions = Counter((block, layer.reverse) for block, layer in zip(inside, layers, strict=True))
    renamed = []
    for block, layer in zip(inside, layers, strict=True):
        if block is not None:
            name = f"blocks.{block:0{digits}d}"
            if count[block] > 1:
                alone = directions[block, layer.reverse] == 1
                name += f".{'backward' if layer.reverse else 'forward'}" if alone else f".{layer.name}"
            layer = replace(layer, name=name, block=block)
        renamed.append(layer)
    return renamed


__all__ = ["Callback", "State", "TimeLayer", "TorchCell", "find_time_layers", "observing", "replaced"]
