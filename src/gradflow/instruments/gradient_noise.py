"""How much the gradients of single examples differ, against the gradient they have in common.

Shapes: K maps of one kind, n examples, T positions or calls, P numbers into a map and Q out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row, first
from gradflow.instruments.wide import wide, widened

KEPT = 2**16  # numbers: a sequence that is longer is reduced at once instead of beside others of its shape
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHUNK = 2**22  # numbers of per-example gradients and patches that exist at the same time


class GradientNoise(Instrument):
    """`gradient_snr` and `gradient_noise_scale` of every block and of all together.

    With g_i the gradient of example i's loss, G = E[g] and Σ the covariance of g,

    - `gradient_noise_scale` = tr Σ/|G|², in examples: the batch size at which noise and signal are equally large,
      'simple noise scale' of McCandlish et al. 2018, equation 2.9. Batches far below it waste steps, far above it
      examples.
    - `gradient_snr` = N·|G|²/tr Σ: signal to noise (of energy, not amplitude) of the step's own gradient, which is a
      mean over all N examples of the update, in all batches and processes. It is N/noise scale, but may be negative.

    Both from the first n = `examples` (32) of each batch, without bias: tr Σ ≈ n/(n−1)·(mean‖g_i‖² − ‖ḡ‖²) and |G|² ≈
    ‖ḡ‖² − tr Σ/n, ḡ the mean of the same n; each averaged over batches and processes. Where tr Σ/n exceeds |G|² by far,
    a single step tells the sign of |G|² hardly better than a coin: average 1/`gradient_snr` over steps, or raise
    `examples`.

    Over the parameters of linear maps and convolutions (weights and biases that are trained; a normalised weight counts
    as it is used), not over others, as of normalisations or recurrent cells. Gradients of single examples are never
    kept: those of n small inputs follow from inner products, ⟨g_i, g_j⟩ = Σ_tu ⟨x_it, x_ju⟩·⟨d_it, d_ju⟩ (for T = 1
    Goodfellow 2015; Rochette et al. 2019); where more positions make the n·T × n·T products dearer than the gradients
    themselves, these are formed, a few at a time. A convolution's input is unfolded, its groups are maps beside each
    other.

    Axis 0 is taken for examples. The loss is a mean over them, or a sum: only ratios are given, so a common factor does
    not matter. Batch normalisation couples examples: g_i is then what goes through example i's own
    activations, whosever loss it serves; these still sum to the whole gradient.

    Absent: of fewer than two examples; noise scale where the estimate of |G|² is not positive; of blocks with a
    convolution or long sequences (more than 2^16 numbers into a linear map) whose map is called twice in one pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passes: dict[str, dict[int, _Pass]] = {}

    def delta(self, block: Block, gradient: Tensor) -> None:
        if gradient.ndim:
            self._pass(block).batch = gradient.shape[0]

    def mapped(self, block: Block, module: nn.Module, x: Tensor, gradient: Tensor) -> None:
        x, gradient = first(x, self.examples), first(gradient, self.examples)
        if not (module.weight.requires_grad and x.ndim > 1 and len(x) == len(gradient) > 1 and gradient.numel()):
            return
        seen, key = self._pass(block), id(module)
        bias = module.bias is not None and bool(module.bias.requires_grad)
        if isinstance(module, nn.Linear):
            x_nTP, d_nTQ = (t.reshape(len(t), -1, t.shape[-1]) for t in (x, gradient))
            if x.ndim == 2 or x.numel() <= KEPT:
                seen.kept.setdefault(key, (bias, []))[1].append(
                    (widened(x_nTP), d_nTQ.to(wide(d_nTQ.device), copy=True))
                )
                return
            squares, square = _sums(x_nTP[None], d_nTQ[None], bias)
            seen.sums.append((len(x), squares[0], square[0]))
        elif isinstance(module, CONVOLUTIONS) and x.ndim == len(module.kernel_size) + 2:
            seen.sums.append((len(x), *_convolution(module, x, gradient, bias)))
        seen.calls[key] = seen.calls.get(key, 0) + 1

    @torch.no_grad()
    def inside(self, scale: Tensor | float) -> Reading | None:
        if not self._passes:
            return None
        noise_L, signal_L = ranks.mean(self._estimates()).unbind(1)
        here = noise_L != ABSENT
        counts = [sum(p.batch for p in self._passes.get(b.name, {}).values()) for b in self.blocks]
        counts.append(min((c for c in counts if c), default=0))
        self._passes = {}
        count_R = torch.tensor(counts, dtype=noise_L.dtype, device=noise_L.device) * ranks.world()
        noise_R, signal_R = (
            torch.cat([v, torch.where(here.any(), torch.where(here, v, 0.0).sum(), ABSENT)[None]])
            for v in (noise_L, signal_L)
        )
        known_R = (noise_R != ABSENT) & ~(noise_R <= 0)
        snr_R = torch.where(known_R & (count_R > 0), count_R * signal_R / noise_R, ABSENT)
        scale_R = torch.where(known_R & ~(signal_R <= 0), noise_R / signal_R, ABSENT)
        places = [*((block.name, block.index) for block in self.blocks), ("all", None)]
        rows = [Row(*place, kind) for kind in ("gradient_snr", "gradient_noise_scale") for place in places]
        return Reading(rows, torch.cat([snr_R, scale_R]))

    def _pass(self, block: Block) -> _Pass:
        task: int = torch._C._current_graph_task_id()  # tells one backward pass from the next
        return self._passes.setdefault(block.name, {}).setdefault(task, _Pass())

    def _estimates(self) -> Tensor:
        """[L, 2]: tr Σ and |G|² of each block; `ABSENT` where nothing is known."""
        sums: list[tuple[int, float, int, Tensor]] = []  # block, weight, examples, (Σ‖g‖², ‖Σg‖²)
        alike: dict[tuple[torch.Size, torch.Size, bool, torch.device], list[tuple[int, float, Tensor, Tensor]]] = {}
        refused: list[int] = []
        for place, block in enumerate(self.blocks):
            passes = self._passes.get(block.name, {})
            measured = [p for p in passes.values() if p.kept or p.sums]
            for each in measured:
                refused += [place] if any(calls > 1 for calls in each.calls.values()) else []
                for bias, calls in each.kept.values():
                    n = min(len(x) for x, _ in calls)
                    x, d = calls[0] if len(calls) == 1 else (torch.cat([c[i][:n] for c in calls], 1) for i in (0, 1))
                    weight = (each.batch or n) ** 2 / len(measured)
                    alike.setdefault((x.shape, d.shape, bias, x.device), []).append((place, weight, x, d))
                for n, squares, square in each.sums:
                    sums.append((place, (each.batch or n) ** 2 / len(measured), n, torch.stack([squares, square])))
        for (shape, _, bias, _), maps in alike.items():
            n = shape[0]
            found = _sums(torch.stack([m[2] for m in maps]), torch.stack([m[3] for m in maps]), bias)
            sums += [(*m[:2], n, pair) for m, pair in zip(maps, torch.stack(found, 1), strict=True)]
        device = self.blocks[0].parameters[0].device if not sums else sums[0][3].device
        total = torch.zeros(len(self.blocks), 2, dtype=wide(device), device=device)
        known = torch.zeros(len(self.blocks), dtype=torch.bool)
        if sums:
            places, weights, numbers = zip(*(s[:3] for s in sums), strict=True)
            n_, weight = torch.tensor([numbers, weights], dtype=total.dtype, device=device)
            squares, square = torch.stack([s[3].to(device) for s in sums], 1)
            noise = (squares - square / n_) / (n_ - 1)
            signal = square / n_.square() - noise / n_
            total.index_add_(0, torch.tensor(places, device=device), weight[:, None] * torch.stack([noise, signal], 1))
            known[list(places)] = True
        known[refused] = False
        return torch.where(known.to(device)[:, None], total, ABSENT)


@dataclass
class _Pass:
    """What one backward pass showed of one block.

    Attributes:
        batch: examples, 0 if unknown.
        kept: by map: whether it has a bias, and inputs [n, T, P] and gradients [n, T, Q] of every call.
        sums: n, Σ‖g_i‖² and ‖Σg_i‖² of maps that were reduced at once.
        calls: of each of the latter.
    """

    batch: int = 0
    kept: dict[int, tuple[bool, list[tuple[Tensor, Tensor]]]] = field(default_factory=dict)
    sums: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    calls: dict[int, int] = field(default_factory=dict)


def _sums(x_KnTP: Tensor, d_KnTQ: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """([K], [K]): Σ_i ‖g_i‖² and ‖Σ_i g_i‖², g_i = Σ_t d_it (x_it, 1)ᵀ, by whichever way is cheaper."""
    k, n, t, p = x_KnTP.shape
    q = d_KnTQ.shape[-1]
    if n * t * (p + q) > p * q:
        pairs = [_by_gradients(x, d, bias, (1, t, p, q), _beside) for x, d in zip(x_KnTP, d_KnTQ, strict=True)]
        return torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])
    x, d = widened(x_KnTP).flatten(1, 2), widened(d_KnTQ).flatten(1, 2)
    products = (x @ x.mT + float(bias)) * (d @ d.mT)
    own = products.view(k, n, t, n, t).diagonal(dim1=1, dim2=3)
    return own.sum((1, 2, 3)), products.sum((1, 2))


Rows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _beside(x_nTP: Tensor, d_nTQ: Tensor) -> tuple[Tensor, Tensor]:
    return x_nTP[None], d_nTQ[None]


def _by_gradients(
    x: Tensor, d: Tensor, bias: bool, shape_GTPQ: tuple[int, int, int, int], rows: Rows
) -> tuple[Tensor, Tensor]:
    """The same two numbers of G maps beside each other, all together, from the gradients themselves.

    Args:
        x, d: input and gradient of n examples.
        bias: whether the maps have one.
        shape_GTPQ: what `rows` makes of them.
        rows: gives [G, n, T, P] and [G, n, T, Q] for some of the examples.
    """
    kind = wide(x.device)
    unit_x, unit_d = (torch.where(u == 0, 1.0, u) for u in (x.abs().amax(), d.abs().amax()))
    narrow = torch.promote_types(torch.promote_types(x.dtype, d.dtype), torch.float32)
    x, d = x.to(narrow) / unit_x, d.to(narrow) / unit_d
    g, t, p, q = shape_GTPQ
    step = max(1, CHUNK // (g * p * (t + q)))
    weight, offset = x.new_zeros(g, q, p), x.new_zeros(g, q)
    by_weight, by_bias = x.new_zeros((), dtype=kind), x.new_zeros((), dtype=kind)
    for each in range(0, len(x), step):
        x_GnTP, d_GnTQ = rows(x[each : each + step], d[each : each + step])
        weights, offsets = d_GnTQ.mT @ x_GnTP, d_GnTQ.sum(2)
        by_weight = by_weight + _square(weights, kind)
        by_bias = by_bias + _square(offsets, kind)
        weight += weights.sum(1)
        offset += offsets.sum(1)
    unit_d, unit_x = unit_d.to(kind).square(), unit_x.to(kind).square()
    bias_too = unit_d * float(bias)
    return (
        by_weight * unit_d * unit_x + by_bias * bias_too,
        _square(weight, kind) * unit_d * unit_x + _square(offset, kind) * bias_too,
    )


def _square(tensor: Tensor, kind: torch.dtype) -> Tensor:
    square: Tensor = torch.linalg.vector_norm(tensor, dtype=kind).square()
    return square


def _convolution(module: Any, x: Tensor, gradient: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """Of a convolution of any number of axes: as a linear map of the patches under its kernel."""
    groups, axes = module.groups, len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode

    def rows(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        n = len(x)
        x = functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        for axis, each in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True), 2):
            size, stride, dilation = each
            x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        x = x.reshape(n, groups, -1, *x.shape[2:])  # examples, groups, channels, places …, kernel …
        x = x.movedim(2, 2 + axes).flatten(2, 1 + axes).flatten(3)
        return x.transpose(0, 1), d.reshape(n, groups, -1, x.shape[2]).mT.transpose(0, 1)

    inputs = module.weight[0].numel()
    shape = groups, gradient[0, 0].numel(), inputs, module.out_channels // groups
    return _by_gradients(x, gradient, bias, shape, rows)
