"""Which parameters belong to which block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import Tensor, nn


@dataclass(frozen=True)
class Block:
    """Some parameters that are watched together.

    Attributes:
        name: the module's path, e.g. 'blocks.03'; indices are zero-padded so that names sort in order.
        index: place among the blocks, 0 nearest the input; None for a stem or head, which are watched beside them.
        parameters: those of the module and its children, without duplicates.
        module: where to look inside; None for parameters alone.
        whole: whether what is inside the module belongs to the block too.
    """

    name: str
    index: int | None
    parameters: tuple[Tensor, ...]
    module: nn.Module | None = None
    whole: bool = True


def find_blocks(model: nn.Module, names: Sequence[str] | None = None) -> list[Block]:
    """The blocks of any module, each trained parameter in at most one of them.

    Args:
        model: any module.
        names: paths of modules, in order; a pattern such as 'encoder.layers.*' stands for all that match.
            Without names: if some module has a `stem`, a list of `blocks` and a `head`, these; else every module
            that owns parameters itself, in the order of `named_modules`, until `in_order` knows that of execution.

    Raises:
        ValueError: if a name matches no module, or nothing has parameters.
    """
    taken: set[int] = set()

    def block(name: str, index: int | None, module: nn.Module, recurse: bool = True) -> Block:
        own = [p for p in module.parameters(recurse) if p.requires_grad and p.numel() and id(p) not in taken]
        taken.update(map(id, own))
        return Block(name, index, tuple(own), module, recurse)

    if names is not None:
        found = _numbered([block(name, None, module) for name, module in _named(model, names)])
    elif (whole := _network(model)) is not None:
        digits = max(2, len(str(len(whole.blocks) - 1)))
        found = [block("stem", None, whole.stem)]
        found += [block(f"blocks.{i:0{digits}d}", i, module) for i, module in enumerate(whole.blocks)]
        found += [block("head", None, whole.head)]
    else:
        owners = [
            (name, module) for name, module in model.named_modules() if any(True for _ in module.parameters(False))
        ]
        found = _numbered([block(name or "model", None, module, recurse=False) for name, module in owners])
    found = [each for each in found if each.parameters]
    if not found:
        raise ValueError("nothing to watch: the model has no parameters that require a gradient")
    return found


def in_order(blocks: Sequence[Block], ran: Sequence[Block]) -> list[Block]:
    """Blocks that `find_blocks` numbered by their place in the source, numbered by the order in which they ran first.

    One that did not run as a module, such as the output map inside `nn.MultiheadAttention`, follows the one that stands
    before it in the source. Blocks without an index stay as they are.
    """
    place: dict[str, int] = {}
    for block in ran:
        place.setdefault(block.name, len(place))
    keys: dict[str, tuple[int, int]] = {}
    before = -1
    for block in blocks:
        if block.index is not None:
            keys[block.name] = (place[block.name], 0) if block.name in place else (before, 1)
            before = keys[block.name][0]
    numbered = sorted((block for block in blocks if block.index is not None), key=lambda block: keys[block.name])
    rest = [block for block in blocks if block.index is None]
    return [replace(block, index=i) for i, block in enumerate(numbered)] + rest


def _numbered(blocks: list[Block]) -> list[Block]:
    """Those that have parameters, indexed in their order."""
    kept = [each for each in blocks if each.parameters]
    return [replace(each, index=i) for i, each in enumerate(kept)]


def _named(model: nn.Module, names: Sequence[str]) -> list[tuple[str, nn.Module]]:
    modules = dict(model.named_modules())
    chosen: dict[str, nn.Module] = {}
    for wanted in names:
        matches = [name for name in modules if name and fnmatchcase(name, wanted)]
        if not matches:
            raise ValueError(f"blocks={list(names)!r}: no module is called '{wanted}'; there are: {', '.join(modules)}")
        chosen.update((name, modules[name]) for name in matches)
    return list(chosen.items())


class _Whole(nn.Module):
    """For the type checker: what `_network` looks for."""

    stem: nn.Module
    blocks: nn.ModuleList
    head: nn.Module


def _network(model: nn.Module) -> _Whole | None:
    for module in model.modules():
        parts = [getattr(module, part, None) for part in ("stem", "blocks", "head")]
        if all(isinstance(part, nn.Module) for part in parts) and isinstance(parts[1], nn.ModuleList | nn.Sequential):
            return module  # type: ignore[return-value]
    return None
