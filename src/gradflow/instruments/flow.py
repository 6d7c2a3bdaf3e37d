"""What was measured while a model learned, and the way to watch one in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradflow.instruments.blocks import Block, find_blocks
from gradflow.instruments.grad_norm import GradNorm, Row
from gradflow.instruments.ratio import GradientRatio, gradient_ratio


@dataclass(frozen=True)
class Measurement:
    """One step's numbers: `values` has one per row; `suffix` tells what was done to the gradient first."""

    step: int
    rows: list[Row]
    suffix: str
    values: np.ndarray


class Flow:
    """The gradient's flow through a model, block by block and step by step.

    `step` counts the optimiser's updates made before the gradient was measured: step 0 is the network as initialised.
    Numbers stay on the training device until somebody reads them; then all that are new come over in one copy.

    Attributes:
        blocks: what is watched, from `find_blocks`.
        measurements: what has been read so far.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[str] | None = None) -> None:
        self.blocks = find_blocks(model, blocks)
        self.measurements: list[Measurement] = []
        self._waiting: list[tuple[int, list[Row], str, Tensor]] = []
        self._norms: WeakKeyDictionary[Optimizer, GradNorm | None] = WeakKeyDictionary()
        self._whole: GradNorm | None = None
        self.measured_by_hand = False

    def of(self, optimizer: Optimizer) -> GradNorm | None:
        """The norms of those watched parameters that `optimizer` updates; None if it updates none of them."""
        if optimizer not in self._norms:
            updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
            kept = [Block(b.name, b.index, tuple(p for p in b.parameters if id(p) in updated)) for b in self.blocks]
            kept = [block for block in kept if block.parameters]
            self._norms[optimizer] = GradNorm(kept, optimizer.param_groups) if kept else None
        return self._norms[optimizer]

    def add(self, step: int, rows: list[Row], values: Tensor, suffix: str = "") -> None:
        """Keep numbers [rows] that were measured at `step`, on whatever device they are."""
        self._waiting.append((step, rows, suffix, values))

    def measure(self, step: int) -> None:
        """Measure the gradients that the parameters hold now, e.g. between `backward()` and clipping.

        Inside `watch`, what the optimiser then receives is measured as 'grad_norm_clipped'.
        """
        self.measured_by_hand = True
        if self._whole is None:
            self._whole = GradNorm(self.blocks)
        self.add(step, self._whole.rows, self._whole())

    def flush(self) -> list[Measurement]:
        """Bring over what is new, in one copy, and return it."""
        if not self._waiting:
            return []
        device = self._waiting[0][3].device
        flat = torch.cat([values.detach().to(device).double() for *_, values in self._waiting]).cpu().numpy()
        ends = np.cumsum([len(values) for *_, values in self._waiting])[:-1]
        new = [
            Measurement(step, rows, suffix, values)
            for (step, rows, suffix, _), values in zip(self._waiting, np.split(flat, ends), strict=True)
        ]
        self._waiting.clear()
        self.measurements += new
        return new

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every number as a row: step, block (index or None), name, quantity, value."""
        self.flush()
        for each in self.measurements:
            yield from flat_rows(each)

    def norms(self, quantity: str = "grad_norm") -> tuple[np.ndarray, np.ndarray]:
        """(steps [S], values [S, L]): a quantity of all L blocks at each of S logged steps, NaN where absent."""
        self.flush()
        watched = [block for block in self.blocks if block.index is not None]
        column = {block.name: i for i, block in enumerate(watched)}
        steps = sorted({each.step for each in self.measurements})
        place = {step: i for i, step in enumerate(steps)}
        values = np.full((len(steps), len(watched)), np.nan)
        for row in self.rows():
            if row["quantity"] == quantity and row["name"] in column:
                values[place[row["step"]], column[row["name"]]] = row["value"]
        return np.array(steps, dtype=np.int64), values

    def ratio(self) -> GradientRatio:
        """First block's gradient ÷ last block's, geometric mean over the logged steps."""
        _, values = self.norms()
        if values.shape[1] < 2:  # nothing to compare with
            return GradientRatio(None, len(values), int((values == 0).sum()), int((~np.isfinite(values)).sum()))
        return gradient_ratio(values[:, 0], values[:, -1])

    def __repr__(self) -> str:
        watched = sum(block.index is not None for block in self.blocks)
        if not self.measurements and not self._waiting:
            return f"Flow({watched} blocks, nothing measured yet)"
        ratio = self.ratio()
        shown = "unknown" if ratio.value is None else f"{ratio.value:.1e}"
        return f"Flow({watched} blocks, {ratio.steps} steps, gradient of first ÷ last block {shown})"


def divide(norms: Tensor, scale: Tensor | float) -> Tensor:
    """Norms without a factor that was on the gradients; −1, 'no gradient', stays as it is."""
    return torch.where(norms == -1.0, norms, norms / scale)


def flat_rows(measurement: Measurement) -> Iterator[dict[str, Any]]:
    """One row per number; a block whose parameters had no gradient has none."""
    for row, value in zip(measurement.rows, measurement.values, strict=True):
        if value != -1.0:
            quantity = row.quantity.replace("grad_norm", f"grad_norm{measurement.suffix}", 1)
            yield {
                "step": measurement.step,
                "block": row.block,
                "name": row.name,
                "quantity": quantity,
                "value": float(value),
            }


def _once_after(closure: Callable[[], Any], look: Callable[[], None]) -> Callable[[], Any]:
    """An optimiser's closure that looks at the gradients after its first evaluation."""
    looked = False

    def evaluate() -> Any:
        nonlocal looked
        loss = closure()
        if not looked:
            looked = True
            look()
        return loss

    return evaluate


@contextmanager
def watch(model: nn.Module, *, every_n_steps: int = 1, blocks: Sequence[str] | None = None) -> Iterator[Flow]:
    """Watch the gradients of `model` in a plain PyTorch training loop.

    At every `every_n_steps`-th step of any optimiser that updates parameters of `model`, the gradients are measured
    as the optimiser receives them: after unscaling by a `GradScaler`, after all-reduce, and after clipping; with
    `step(closure)`, those of the closure's first evaluation. For
    the norms before clipping call `flow.measure(step)` between `backward()` and clipping instead.

    Args:
        model: any module; nothing is added to it.
        every_n_steps: 1 measures each step.
        blocks: paths of modules to watch, as for `find_blocks`.

    Yields:
        The flow, which can be read at any time, also after the loop.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch(model) as flow:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(2, 4)).mean().backward()
        ...         optimizer.step()
        >>> steps, norms = flow.norms()
        >>> steps.tolist(), norms.shape
        ([0, 1, 2], (3, 2))
    """
    if every_n_steps < 1:
        raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
    flow = Flow(model, blocks)
    taken: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()

    def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        norm = flow.of(optimizer)
        if norm is None:
            return None
        step = taken.get(optimizer, 0)
        taken[optimizer] = step + 1

        def look() -> None:
            scale = getattr(optimizer, "grad_scale", None)  # set by a GradScaler for optimisers that unscale themselves
            values = norm() if scale is None else divide(norm(), scale)
            flow.add(step, norm.rows, values, "_clipped" if flow.measured_by_hand else "")

        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if step % every_n_steps == 0 and closure is None:
            look()
        flow.measured_by_hand = False
        if step % every_n_steps == 0 and closure is not None:
            after = _once_after(closure, look)
            return ((args[0], after, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": after})
        return None

    handle = register_optimizer_step_pre_hook(before_step)
    try:
        yield flow
    finally:
        handle.remove()
        flow.flush()
