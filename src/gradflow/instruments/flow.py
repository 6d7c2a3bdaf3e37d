"""What was measured while a model learned, and the way to watch one in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradflow.instruments.blocks import Block, find_blocks
from gradflow.instruments.instrument import ABSENT, Reading, Row
from gradflow.instruments.panel import Choice, make_instruments
from gradflow.instruments.ratio import GradientRatio, gradient_ratio
from gradflow.instruments.session import Session


@dataclass(frozen=True)
class Measurement:
    """One step's numbers of one instrument: `values` has one per row."""

    step: int
    rows: Sequence[Row]
    values: np.ndarray


class Flow:
    """The gradient's flow through a model, block by block and step by step.

    `step` counts the optimiser's updates made before the gradient was measured: step 0 is the network as initialised.
    Numbers stay on the training device until somebody reads them; then all that are new come over in one copy.

    Args:
        model: any module.
        blocks: paths of modules to watch, as for `find_blocks`.
        instruments: as for `make_instruments`.
        every_n_steps: between two measurements of an instrument that has no interval of its own.
        loss_scale: the factor of automatic mixed precision at this moment.
        clipped: whether something may clip the gradients.

    Attributes:
        measurements: what has been read so far.
        session: leads the instruments.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[str] | None = None,
        instruments: Choice = ("grad_norm",),
        every_n_steps: int = 1,
        loss_scale: Callable[[], Tensor | float] = lambda: 1.0,
        clipped: bool = False,
    ) -> None:
        found = find_blocks(model, blocks)
        self.measurements: list[Measurement] = []
        self._waiting: list[tuple[int, Sequence[Row], Tensor]] = []
        self.measured_by_hand = False
        self.session = Session(
            model,
            found,
            make_instruments(instruments, every_n_steps, clipped),
            self._keep,
            find_order=blocks is None and all(block.index is not None for block in found),
            loss_scale=loss_scale,
        )

    @property
    def blocks(self) -> list[Block]:
        """What is watched: numbered by the order in which they ran, once they have."""
        return self.session.blocks

    def _keep(self, step: int, reading: Reading) -> None:
        self._waiting.append((step, reading.rows, reading.values))

    def measure(self, step: int) -> None:
        """Measure the gradients that the parameters hold now, e.g. between `backward()` and clipping.

        Inside `watch`, what the optimiser then receives is measured as 'grad_norm_clipped'.
        """
        self.measured_by_hand = True
        self.session.by_hand(step)

    def loss(self, value: Tensor) -> None:
        """Tell the instruments the loss of this step (several add up), e.g. just before `value.backward()`."""
        self.session.loss(value)

    def flush(self) -> list[Measurement]:
        """Bring over what is new, in one copy, and return it."""
        if not self._waiting:
            return []
        device = self._waiting[0][2].device
        each = [values.detach() for *_, values in self._waiting]
        if {(values.dtype, values.device) for values in each} != {(torch.float64, device)}:
            each = [values.to(device).double() for values in each]
        flat = torch.cat(each).cpu().numpy()
        ends = list(accumulate((len(values) for values in each), initial=0))
        new = [
            Measurement(step, rows, flat[start:stop])
            for (step, rows, _), (start, stop) in zip(self._waiting, pairwise(ends), strict=True)
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
        steps = sorted({m.step for m in self.measurements if any(row.quantity == quantity for row in m.rows)})
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


def flat_rows(measurement: Measurement) -> Iterator[dict[str, Any]]:
    """One row per number that is there."""
    for row, value in zip(measurement.rows, measurement.values, strict=True):
        if value != ABSENT:
            yield {
                "step": measurement.step,
                "block": row.block,
                "name": row.name,
                "quantity": row.quantity,
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
def watch(
    model: nn.Module,
    *,
    every_n_steps: int = 1,
    blocks: Sequence[str] | None = None,
    instruments: Choice = ("grad_norm",),
    scaler: torch.amp.GradScaler | None = None,
) -> Iterator[Flow]:
    """Watch the gradients of `model` in a plain PyTorch training loop.

    At every `every_n_steps`-th step of any optimiser that updates parameters of `model`, the gradients are measured
    as the optimiser receives them: after unscaling by a `GradScaler`, after all-reduce, and after clipping; with
    `step(closure)`, those of the closure's first evaluation. For
    the norms before clipping call `flow.measure(step)` between `backward()` and clipping instead.

    Under DDP and FSDP every process must watch: numbers are those of all processes together.

    Args:
        model: any module; what is attached to it during a watched step is gone after it. A compiled one runs its
            watched steps uncompiled if an instrument looks inside.
        every_n_steps: 1 measures each step.
        blocks: paths of modules to watch, as for `find_blocks`.
        instruments: a preset ('cheap', 'full'), a list of names, or intervals by name: see `make_instruments`.
        scaler: the loop's GradScaler, for instruments that look inside: its factor is on what comes backward.

    Yields:
        The flow, which can be read at any time, also after the loop.

    Raises:
        ValueError: for an interval below 1, or an unknown instrument.

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

    def factor() -> Tensor | float:
        return 1.0 if scaler is None or scaler._scale is None else scaler._scale

    flow = Flow(model, blocks, instruments, every_n_steps, factor)
    session = flow.session
    under_way: WeakKeyDictionary[Optimizer, tuple[Any, bool]] = WeakKeyDictionary()

    def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if session.part(optimizer) is None:
            return None
        by_hand, flow.measured_by_hand = flow.measured_by_hand, False

        def look() -> None:
            scale = getattr(optimizer, "grad_scale", None)  # set by a GradScaler for optimisers that unscale themselves
            step = session.steps_taken(optimizer)
            update = session.before(optimizer, step, 1.0 if scale is None else scale, clipped=by_hand)
            under_way[optimizer] = (update, by_hand)

        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            look()
            return None
        after = _once_after(closure, look)
        return ((args[0], after, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": after})

    def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer in under_way:
            session.after(optimizer, *under_way.pop(optimizer))

    handles = [register_optimizer_step_pre_hook(before_step), register_optimizer_step_post_hook(after_step)]
    session.begin()
    try:
        yield flow
    finally:
        for handle in handles:
            handle.remove()
        session.end()
        flow.flush()
