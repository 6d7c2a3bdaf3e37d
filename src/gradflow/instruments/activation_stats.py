"""What activations give: their mean and variance, and how many are saturated or dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row
from gradflow.instruments.wide import present, wide, widened

MARGIN = 0.05  # of the range between the asymptotes
FAR = (-1e6, -1e4, 1e4, 1e6)  # a function that still moves between the outer two and the inner two has no asymptote
STILL = 1e-3  # of the range
ROOM = 2**22  # numbers that wait to be counted together


class ActivationStats(Instrument):
    """Of the outputs h = φ(z) of a block's activations, over examples, units and positions together:
    `activation_mean` and `activation_variance`; `activation_saturated`, the share within 5 % of the range of one of
    φ's two asymptotes (Glorot & Bengio 2010, section 3); and `activation_dead`, the share of units with φ′(z) = 0
    exactly for every example and position in each of the last `window` measurements (Maas, Hannun & Ng 2013; Lu et al.
    2020).

    Where a block has several activations their elements and units are counted together. Only the first `examples` of a
    batch, of all processes together, are looked at; batches of one update add up, and every process must run the same
    activations.
    φ(−∞) and φ(∞) are found numerically; an activation that has none on one side, as ReLU, or the same on both, cannot
    be saturated, and a block of only such ones has no row. A unit is a feature of z: along axis 1 of images (4 axes or
    more), along the last axis otherwise; an activation module that is called several times within a block has the same
    units each time. There is no row for the dead until `window` measurements have been made.

    Args:
        window: measurements in all of which a dead unit has been silent.
    """

    looks_at_members = True

    def __init__(self, window: int = 5) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window={window}: must be at least 1")
        self.window = window
        self._rows: list[Row] = []
        self._names: dict[nn.Module, str] = {}
        self._range: WeakKeyDictionary[nn.Module, _Range] = WeakKeyDictionary()
        self._waiting: list[_Given] = []
        self._room = ROOM
        self._numbers: list[Tensor] = []
        self._places: list[str] = []
        self._alive: dict[str, Tensor] = {}
        self._silent: dict[str, Tensor] = {}
        self._made: dict[str, Tensor] = {}

    def bind(self, model: nn.Module, blocks: list[Block]) -> None:
        super().bind(model, blocks)
        self._names = {module: name for name, module in model.named_modules()}
        quantities = [f"activation_{word}" for word in ("mean", "variance", "saturated", "dead")]
        self._rows = [Row(block.name, block.index, quantity) for quantity in quantities for block in blocks]

    @torch.no_grad()
    def activated(self, block: Block, activation: nn.Module, z: Tensor, h: Tensor, slope: Tensor) -> None:
        if h.numel():
            self._waiting.append(_Given(block.name, activation, self._range_of(activation, z), h, slope))
            self._room -= h.numel() + slope.numel()
            if self._room < 0:
                self._count()

    def _count(self) -> None:
        """Put what is waiting into few numbers, all of one shape at once."""
        waiting, self._waiting, self._room = self._waiting, [], ROOM
        alike: dict[tuple[Any, ...], list[_Given]] = {}
        for each in waiting:
            alike.setdefault((each.h.shape, each.slope.shape, each.h.dtype, each.h.device), []).append(each)
        for (shape, *_), group in alike.items():
            kind = wide(group[0].h.device)
            h_KN = torch.stack([each.h for each in group]).flatten(1)
            h_KN = h_KN if h_KN.dtype == torch.float64 else h_KN.float()
            middle, reach, bounded = (
                torch.stack([getattr(each.within, f) for each in group])[:, None]
                for f in ("middle", "reach", "bounded")
            )
            mean = h_KN.mean(1, dtype=kind)
            squares = (h_KN - mean[:, None].to(h_KN.dtype)).pow_(2).sum(1, dtype=kind)
            far = (h_KN - middle).abs_().div_(reach)  # comparing takes longer than this
            saturated = far.clamp_max_(1).floor_().sum(1, dtype=kind)
            count = torch.full_like(mean, shape.numel())
            self._numbers.append(torch.stack([count, mean, squares, saturated, bounded[:, 0].to(kind) * count]))
            self._places += [each.name for each in group]
            slope = torch.stack([each.slope for each in group])
            unit = 2 if slope.ndim >= 5 else slope.ndim - 1
            others = [axis for axis in range(1, slope.ndim) if axis != unit]
            alive = (slope.abs().amax(others) if others else slope.flatten(1)) != 0
            for each, here in zip(group, alive, strict=True):
                key = f"{each.name}|{self._names.get(each.activation, '')}|{len(here)}"
                self._alive[key] = self._alive[key] | here.to(self._alive[key].device) if key in self._alive else here

    @torch.no_grad()
    def inside(self, scale: Tensor | float) -> Reading | None:
        self._count()
        numbers, places, self._numbers, self._places = self._numbers, self._places, [], []
        if not numbers:
            return None
        device = numbers[0].device
        n, mean, squares, saturated, bounded = torch.cat([each.to(device) for each in numbers], 1)
        place = {block.name: i for i, block in enumerate(self.blocks)}
        block_E = torch.tensor([place[name] for name in places], device=device)

        def of_blocks(values_ZE: Tensor) -> Tensor:
            """Sums [Z, blocks], of all processes."""
            zeros = torch.zeros(len(values_ZE), len(place), dtype=values_ZE.dtype, device=device)
            return ranks.total(zeros.index_add(1, block_E, values_ZE))

        n_all, sum_all, saturated, bounded = of_blocks(torch.stack([n, n * mean, saturated, bounded]))
        mean_all = sum_all / n_all
        (squares_all,) = of_blocks((squares + n * (mean - mean_all[block_E]).square())[None])
        values = [mean_all, squares_all / n_all, saturated / bounded]
        known = [n_all > 0, n_all > 0, bounded > 0]
        found = [torch.where(here, present(value), ABSENT) for here, value in zip(known, values, strict=True)]
        return Reading(self._rows, torch.cat([*found, self._dead(device)]))

    def _dead(self, device: torch.device) -> Tensor:
        """[B] the share of units that have been silent throughout the window."""
        keys, alive = zip(*sorted(self._alive.items()), strict=True)
        self._alive = {}
        sizes = [len(each) for each in alive]
        here = ranks.largest(torch.cat([each.to(device) for each in alive]).int())
        nothing = torch.zeros((), dtype=here.dtype, device=device)
        before = [self._silent.get(key, nothing.expand(size)) for key, size in zip(keys, sizes, strict=True)]
        silent = torch.where(here > 0, 0, torch.cat([each.to(device) for each in before]) + 1)
        made = torch.stack([self._made.get(key, nothing).to(device) for key in keys]) + 1
        self._silent = {**self._silent, **dict(zip(keys, torch.split(silent, sizes), strict=True))}
        self._made = {**self._made, **dict(zip(keys, made.unbind(), strict=True))}
        places = {block.name: i for i, block in enumerate(self.blocks)}
        place_A = torch.tensor([places[key.split("|")[0]] for key in keys], device=device)
        sizes_A = torch.tensor(sizes, device=device)
        dead, units = torch.zeros(2, len(places), dtype=wide(device), device=device)
        dead = dead.index_add(0, place_A.repeat_interleave(sizes_A), (silent >= self.window).to(dead.dtype))
        units = units.index_add(0, place_A, torch.where(made >= self.window, sizes_A, 0).to(units.dtype))
        return torch.where(units > 0, dead / units, ABSENT)

    def _range_of(self, activation: nn.Module, z: Tensor) -> _Range:
        """Found once for each module, unless it learns."""
        known = self._range.get(activation)
        if known is None or known.learnt or known.middle.device != z.device:
            learnt = next(activation.parameters(), None) is not None
            known = self._range[activation] = _Range.of(asymptotes(activation, z), learnt)
        return known

    def state_dict(self) -> dict[str, Any]:
        """For how many measurements each unit has been silent, of how many."""
        return {"silent": dict(self._silent), "made": dict(self._made)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._silent, self._made = dict(state["silent"]), dict(state["made"])


@torch.no_grad()
def asymptotes(activation: nn.Module, z: Tensor) -> Tensor:
    """φ(−∞) and φ(∞) [2], measured at ±1e6 and on z's device; infinite unless both exist and differ.

    Draws no random numbers, and copies nothing to the host.

    Args:
        activation: φ.
        z: a batch of what it is applied to, for its shape and type.

    >>> asymptotes(nn.Tanh(), torch.zeros(2, 3)), asymptotes(nn.ReLU(), torch.zeros(2, 3))
    (tensor([-1.,  1.]), tensor([-inf, inf]))
    """
    points = torch.tensor(FAR, dtype=z.dtype, device=z.device)
    shape = (1, *z.shape[1:]) if z.ndim > 1 else (1,)
    batch = points.view(-1, *[1] * (len(shape) - 1)).expand(len(FAR), *shape[1:]).clone()
    with torch.random.fork_rng([z.device] if z.is_cuda else []):
        h = type(activation).forward(activation, batch).reshape(len(FAR), -1)
    low, high = h.amin(1), h.amax(1)
    far = (low + high) / 2
    reach = far[3] - far[0]
    moves = torch.stack([far[1] - far[0], far[2] - far[3], *(high - low)]).abs().amax()
    exist = h.isfinite().all() & (reach != 0) & (moves <= STILL * reach.abs())
    return torch.where(exist, far[[0, 3]], torch.tensor([-torch.inf, torch.inf], dtype=h.dtype, device=h.device))


@dataclass(frozen=True, eq=False)
class _Range:
    """Where an activation's outputs lie: the middle, how far from it saturation begins (∞: nowhere), 1 if anywhere,
    and whether it learns."""

    middle: Tensor
    reach: Tensor
    bounded: Tensor
    learnt: bool

    @classmethod
    def of(cls, ends: Tensor, learnt: bool) -> _Range:
        low, high = ends
        bounded = ends.isfinite().all()
        middle = torch.where(bounded, (low + high) / 2, 0.0)
        return cls(middle, (0.5 - MARGIN) * (high - low).abs(), widened(bounded), learnt)


@dataclass(frozen=True, eq=False)
class _Given:
    """One call of an activation in the block called `name`."""

    name: str
    activation: nn.Module
    within: _Range
    h: Tensor
    slope: Tensor
