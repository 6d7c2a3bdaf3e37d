"""By how much each block, and the whole network, stretches a small change of its input: singular values of Jacobians.

Shapes: K Jacobians of one size, M numbers in one example's input, N in its output.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.instruments import lanczos, ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row, spread
from gradflow.instruments.rerun import Call, Unfit, gram_product, hold_statistics, rerunning, rows
from gradflow.instruments.wide import wide

QUANTITIES = tuple(f"jacobian_{each}" for each in ("s_max", "s_min", "condition", "s2_mean", "s2_variance"))
WHOLE = "all"
REFUSALS = (Unfit, RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
NUMBERS = 2**18  # in a Jacobian that is formed; 64 times as many in one that is decomposed, which has a short side


class JacobianSpectrum(Instrument):
    """Singular values s of ∂(block output)/∂(block input) per block, and of ∂(output)/∂(input) of the network as 'all'.

    - `jacobian_s_max`, `jacobian_s_min`: the largest and smallest of the min(M, N) singular values;
    - `jacobian_condition`: their ratio, infinite if the smallest is 0, as in a block with a dead ReLU;
    - `jacobian_s2_mean`, `jacobian_s2_variance`: of s², over the min(M, N) singular values. For square Jacobians these
      are (1/N) tr JJᵀ, mean-field theory's χ^depth, and σ²_JJᵀ of Pennington, Schoenholz & Ganguli 2017, sections 2.2
      and 2.4: a Gaussian linear layer of variance 1/N has mean 1 and variance 1, an orthogonal one variance 0.

    At the first example of the first batch of an update (mean over processes), with the parameters before the update
    and without dropout, stochastic depth and other chance. Batch normalisation keeps the statistics of the whole batch:
    the example's own share in them, of order 1/batch size, is not differentiated. Autocast is off.

    - If min(M, N) ≤ `exact` (of the network 2·`exact`), J is formed by one batched backward pass and decomposed in
      float64.
    - Else if N ≤ `formed` and M·N ≤ 2^18, J is formed, and the moments are exact but for float32's rounding. The
      extremes are Lanczos' (`lanczos.spectrum`, `steps` + 4 steps): s_max is a lower bound, s_min an upper
      one, and so is the condition number a lower one. s_max is usually right within a percent, s_min not if singular
      values crowd near 0.
    - Else J is only multiplied with: `probes` random vectors, the same at every step, and `steps` steps. The moments
      are then Hutchinson's estimates from those vectors, the extremes bounds as before.

    Singular values below 1e-7 of the largest are float32's rounding, so that a condition number beyond 1e7 says no more
    than 'singular', as is a layer normalisation; below 1e-45 they are lost altogether.

    'all' is the innermost module that holds all blocks and is called itself.

    Of more than `most_blocks` blocks, that many are taken, evenly spread, with the first and the last. A block that is
    called several times counts with its first call, one that changes its input in place with what it made of that.
    Absent: a block whose input is no single floating-point tensor [examples, …] (an embedding; a network with one has
    no 'all' either), or has examples along another axis (batch_first=False); a module that cannot be called again or
    differentiated (twice, for products), of which a warning tells once; everything under FSDP, where no process can run
    a block alone.
    """

    def __init__(
        self, most_blocks: int = 8, exact: int = 64, formed: int = 512, probes: int = 4, steps: int = 12
    ) -> None:
        super().__init__()
        self.most_blocks, self.exact, self.formed, self.probes, self.steps = most_blocks, exact, formed, probes, steps
        self._watched: list[str] = []
        self._calls: dict[str, Call | None] = {}
        self._warned: set[str] = set()
        self._sharded = False

    def bind(self, model: nn.Module, blocks: list[Block]) -> None:
        super().bind(model, blocks)
        self._sharded = ranks.is_sharded(model)
        if not self._watched:
            self._watched = spread([block.name for block in blocks if block.module is not None], self.most_blocks)
            self.beside = [] if self._sharded else [Block(WHOLE, None, (), _holder(model, blocks))]

    def output(self, block: Block, inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._sharded:
            return
        if block.name in self._calls or not (block.name in self._watched or any(block is b for b in self.beside)):
            return
        assert block.module is not None
        try:
            self._calls[block.name] = Call.of(block.module, inputs, output)
        except Unfit:
            self._calls[block.name] = None

    def inside(self, scale: Tensor | float) -> Reading | None:
        calls = {name: call for name, call in self._calls.items() if call is not None}
        self._calls = {}
        places = [(b.name, b.index) for b in self.blocks if b.name in self._watched]
        places += [(block.name, None) for block in self.beside]
        if not calls or not places:
            return None
        found = self._spectra(calls)
        device = next(iter(found.values())).device if found else torch.device("cpu")
        absent = torch.full((len(QUANTITIES),), ABSENT, dtype=wide(device), device=device)
        values = torch.stack([found.get(name, absent).to(device) for name, _ in places])
        return Reading([Row(*place, kind) for place in places for kind in QUANTITIES], ranks.mean(values).flatten())

    def _spectra(self, calls: dict[str, Call]) -> dict[str, Tensor]:
        """By name: the five numbers."""
        found: dict[str, Tensor] = {}
        formed: dict[tuple[bool, torch.Size, torch.device], list[tuple[str, Tensor]]] = {}
        with rerunning(calls.values()):
            for name in sorted(calls, key=lambda name: name != WHOLE):  # whose statistics serve the blocks too
                call = calls[name]
                inputs, outputs = call.input.numel(), call.shape.numel()
                exact = min(inputs, outputs) <= self.exact * (2 if name == WHOLE else 1)
                try:
                    hold_statistics(call)
                    size = inputs * outputs // (64 if exact else 1)
                    if outputs <= max(self.formed, 2 * self.exact) and size <= NUMBERS:
                        jacobian = rows(call)
                        formed.setdefault((exact, jacobian.shape, jacobian.device), []).append((name, jacobian))
                    else:
                        found[name] = self._by_products(call)
                except REFUSALS as error:
                    if name not in self._warned:
                        warnings.warn(f"jacobian_spectrum leaves '{name}' out: {error}", stacklevel=2)
                    self._warned.add(name)
        for (exact, *_), group in formed.items():
            jacobians = torch.stack([jacobian for _, jacobian in group])
            values = decomposed(jacobians) if exact else approximated(jacobians, self.steps + 4)
            found.update(zip((name for name, _ in group), values, strict=True))
        return found

    def _by_products(self, call: Call) -> Tensor:
        apply, size = gram_product(call, self.probes)
        device = call.input.device
        start = lanczos.signs(self.probes, size, device, wide(device))
        return _numbers(*lanczos.spectrum(apply, start, self.steps))


def decomposed(jacobians_KNM: Tensor) -> Tensor:
    """[K, 5]: the five numbers from a singular value decomposition in float64."""
    wider = jacobians_KNM.to(wide(jacobians_KNM.device))
    finite_K = wider.isfinite().all(-1).all(-1)
    s_KR = torch.linalg.svdvals(torch.where(finite_K[:, None, None], wider, 0.0))  # refuses what is not finite
    rounding = torch.finfo(s_KR.dtype).eps * max(wider.shape[-2:])  # of the decomposition: a zero row is not exactly 0
    s_KR = torch.where(s_KR <= rounding * s_KR.amax(-1, keepdim=True), 0.0, s_KR)
    mean, variance = s_KR.square().mean(-1), s_KR.square().var(-1, correction=0)
    s_max, s_min = s_KR.amax(-1), s_KR.amin(-1)
    numbers = torch.stack([s_max, s_min, _condition(s_max, s_min), mean, variance], -1)
    return torch.where(finite_K[:, None], numbers, torch.nan)


def approximated(jacobians_KNM: Tensor, steps: int) -> Tensor:
    """[K, 5]: exact moments, and extremes by Lanczos' method."""
    j = jacobians_KNM.float() if jacobians_KNM.dtype in (torch.float16, torch.bfloat16) else jacobians_KNM
    j = j.mT if j.shape[-2] > j.shape[-1] else j
    largest_K = j.abs().amax((-2, -1))
    j = j / torch.where(largest_K == 0, 1.0, largest_K)[:, None, None]
    kind = wide(j.device)
    a_KNN = j @ j.mT
    size = a_KNN.shape[-1]
    start = lanczos.signs(1, size, a_KNN.device, a_KNN.dtype).expand(len(j), 1, size)
    top, bottom, _, _ = lanczos.spectrum(lambda v: v @ a_KNN, start, steps)
    mean = a_KNN.diagonal(dim1=-2, dim2=-1).mean(-1, dtype=kind)
    second = torch.linalg.vector_norm(a_KNN, dim=(-2, -1)).to(kind).square() / size
    unit = largest_K.to(kind).square()
    return _numbers(top * unit, bottom * unit, mean * unit, second * unit.square())


def _numbers(top: Tensor, bottom: Tensor, mean: Tensor, second: Tensor) -> Tensor:
    """[…, 5] from the largest and smallest eigenvalue, mean and mean square of s²."""
    s_max, s_min = top.sqrt(), bottom.sqrt()
    return torch.stack([s_max, s_min, _condition(s_max, s_min), mean, (second - mean.square()).clamp(min=0)], -1)


def _condition(s_max: Tensor, s_min: Tensor) -> Tensor:
    """Infinite for the zero matrix too, such as that of a network whose units are all dead."""
    return torch.where(s_min == 0, torch.inf, s_max / s_min)


def _holder(model: nn.Module, blocks: Sequence[Block]) -> nn.Module:
    """The innermost module that holds all blocks and is called itself, not just a list of others."""
    wanted = {id(block.module) for block in blocks if block.module is not None}
    found, size = model, sum(1 for _ in model.modules())
    for module in model.modules():
        inside = {id(each) for each in module.modules()}
        if len(inside) <= size and wanted <= inside and not isinstance(module, nn.ModuleList | nn.ModuleDict):
            found, size = module, len(inside)
    return found
