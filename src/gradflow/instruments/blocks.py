"""Which parameters belong to which block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn


@dataclass(frozen=True)
class Block:
    """Some parameters that are watched together.

    Attributes:
        name: the module's path, e.g. 'blocks.03'; indices are zero-padded so that names sort in order.
        index: place among the blocks, 0 nearest the input; None for a stem or head, which are watched beside them.
        parameters: those of the module and its children, without duplicates.
    """

    name: str
    index: int | None
    parameters: tuple[Tensor, ...]


def find_blocks(model: nn.Module, names: Sequence[str] | None = None) -> list[Block]:
    """The blocks of any module, each trained parameter in at most one of them.

    Args:
        model: any module.
        names: paths of modules, in order; a pattern such as 'encoder.layers.*' stands for all that match.
            Without names: if some module has a `stem`, a list of `blocks` and a `head`, these; else every module
            that owns parameters itself, in the order of `named_modules`, which is mostly that of execution.

    Raises:
        ValueError: if a name matches no module, or nothing has parameters.
    """
    taken: set[int] = set()

    def block(name: str, index: int | None, module: nn.Module, recurse: bool = True) -> Block:
        own = [p for p in module.parameters(recurse) if p.requires_grad and p.numel() and id(p) not in taken]
        taken.update(map(id, own))
        return Block(name, index, tuple(own))

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


def _numbered(blocks: list[Block]) -> list[Block]:
    """Those that have parameters, indexed in their order."""
    kept = [each for each in blocks if each.parameters]
    return [Block(each.name, i, each.parameters) for i, each in enumerate(kept)]


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
