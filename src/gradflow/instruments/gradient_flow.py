"""The Lightning callback that watches the gradient flow of any LightningModule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradflow.instruments.flow import Flow, Measurement
from gradflow.instruments.instrument import ABSENT, Update
from gradflow.instruments.panel import Choice, make_instruments
from gradflow.lightning import Callback, LightningModule, Trainer, is_overridden

# A dashboard with thousands of charts becomes unusable: so many blocks of grad_norm, and of each other quantity, get
# one. The flow itself, and a run's record, keep every block.
LOGGED_BLOCKS, LOGGED_OTHERS = 100, 16
NOT_LOGGED = ("grad_rms", "grad_max", "loss")


class GradientFlow(Callback):
    """Watches the gradient flow of any LightningModule, as `Trainer(callbacks=[GradientFlow()])`.

    Norms are taken after AMP's unscaling and after DDP's all-reduce, before clipping ('grad_norm') and, where
    something may clip, after it ('grad_norm_clipped'). They go to the trainer's loggers as
    'gradflow/grad_norm/<block>', and stay in `flow` to be read: `callback.flow.norms()`, `callback.flow.ratio()`,
    `gradflow.diagnose(callback.flow)`.

    Args:
        every_n_steps: optimiser steps between measurements; the trainer's `log_every_n_steps` unless set.
        blocks: paths of modules to watch, as for `find_blocks`; all of them unless set.
        loss_scale: a power of two. Gradients below float32's smallest number (1e-45) are lost before any instrument
            can see them; with a scale, every logged step differentiates loss × scale once more, beside the training
            step and without changing it, and divides the norms by the scale, which is exact. Not for float16.
        clipped: whether to measure after clipping too; None finds out from the trainer and the module.
        instruments: a preset ('cheap', 'full'), a list of names, or intervals by name: see `make_instruments`.

    Raises:
        ValueError: if `every_n_steps` is not positive, `loss_scale` is not a power of two, or an instrument is unknown.
    """

    flow: Flow

    def __init__(
        self,
        every_n_steps: int | None = None,
        blocks: Sequence[str] | None = None,
        loss_scale: float | None = None,
        clipped: bool | None = None,
        instruments: Choice = ("grad_norm",),
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
        if loss_scale is not None and not (loss_scale > 0 and math.frexp(loss_scale)[0] == 0.5):
            raise ValueError(f"loss_scale={loss_scale}: must be a power of two, so that dividing it out is exact")
        make_instruments(instruments, every_n_steps or 1)
        self.every_n_steps, self.blocks, self.loss_scale, self.clipped = every_n_steps, blocks, loss_scale, clipped
        self.instruments = instruments
        self._probe: dict[int, Tensor] = {}
        self._probe_used = self._begun = False
        self._update: tuple[Optimizer, Update | None] | None = None
        self._restored: dict[str, Any] = {}
        self._handles: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if self.loss_scale is not None and scaler is not None:
            raise ValueError("loss_scale does not go with float16 (precision=16-mixed), which it would overflow")
        every = self.every_n_steps or int(getattr(trainer, "log_every_n_steps", 0)) or 1
        clips = self.clipped if self.clipped is not None else _may_clip(trainer, pl_module)
        self.flow = Flow(
            pl_module,
            self.blocks,
            self.instruments,
            every,
            loss_scale=lambda: 1.0 if scaler is None or scaler._scale is None else scaler._scale,
            clipped=clips,
        )
        for instrument in self.flow.session.instruments:
            if instrument.name in self._restored:
                instrument.load_state_dict(self._restored[instrument.name])
        self._restored, self._begun = {}, False
        self._handles = [o.register_step_post_hook(self._after_step) for o in trainer.optimizers]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self._begun:  # only now does Lightning's count of a resumed run stand
            self._begun = True
            first = trainer.optimizers[0] if trainer.optimizers else None
            self.flow.session.begin(0 if first is None else self._step_of(trainer, first))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self.flow.loss(loss.detach() / self.flow.session.loss_scale())  # a scaler has multiplied it by now
        if self.loss_scale is not None and any(self._norms_due(self._step_of(trainer, o)) for o in trainer.optimizers):
            if self._probe_used:
                self._probe, self._probe_used = {}, False
            watched = [p for block in self.flow.blocks for p in block.parameters]
            for parameter, gradient in zip(watched, _scaled_gradients(loss, watched, self.loss_scale), strict=True):
                if gradient is not None:  # those of accumulated batches add up
                    before = self._probe.get(id(parameter))
                    self._probe[id(parameter)] = gradient if before is None else before + gradient

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        step, session = self._step_of(trainer, optimizer), self.flow.session
        if self.loss_scale is not None and self._probe:
            update = session.before(optimizer, step, self.loss_scale, self._probe)
            self._probe_used = True
        else:
            update = session.before(optimizer, step, _still_scaled_by(trainer, optimizer))
        self._update = optimizer, update

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._log(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.flow.session.end()
        self._log(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if hasattr(self, "flow"):
            self.flow.session.end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:
        """What the instruments must remember, by their names."""
        if not hasattr(self, "flow"):
            return {}
        states = {instrument.name: instrument.state_dict() for instrument in self.flow.session.instruments}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = dict(state_dict)

    def _step_of(self, trainer: Trainer, optimizer: Optimizer) -> int:
        """How many updates an optimiser has made: Lightning's count is of all optimisers together."""
        return self.flow.session.steps_taken(optimizer, trainer.global_step // max(1, len(trainer.optimizers)))

    def _norms_due(self, step: int) -> bool:
        return any(i.due(step) for i in self.flow.session.instruments if i.name == "grad_norm")

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._update is not None and self._update[0] is optimizer:
            self.flow.session.after(*self._update)
        self._update = None

    def _log(self, trainer: Trainer) -> None:
        for measurement in self.flow.flush():
            scalars = logged_scalars(measurement)
            for logger in trainer.loggers if scalars else ():
                logger.log_metrics(scalars, step=measurement.step)


def logged_scalars(measurement: Measurement) -> dict[str, float]:
    """What a dashboard gets of one measurement: of each quantity so many blocks, evenly spread.

    Norms of parameter groups, root mean squares, largest elements and histograms stay in the flow and the record.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for row, value in zip(measurement.rows, measurement.values, strict=True):
        if value != ABSENT and "/" not in row.quantity and not row.quantity.startswith(NOT_LOGGED):
            key = f"gradflow/{row.quantity}/{row.name}"
            found.setdefault(row.quantity, []).append((key, float(value)))
    scalars: dict[str, float] = {}
    for quantity, whole in found.items():
        most = LOGGED_BLOCKS if quantity.startswith("grad_norm") else LOGGED_OTHERS
        scalars.update(whole[:: math.ceil(len(whole) / most)])
    return scalars


def _may_clip(trainer: Trainer, module: LightningModule) -> bool:
    return (
        bool(trainer.gradient_clip_val)
        or not module.automatic_optimization
        or is_overridden("configure_gradient_clipping", module)
        or is_overridden("on_before_optimizer_step", module)
    )


def _scaled_gradients(loss: Tensor, watched: Sequence[Tensor], scale: float) -> list[Tensor | None]:
    """∂(loss × scale)/∂θ of the watched parameters, averaged over processes as DDP averages gradients."""
    gradients: list[Tensor | None] = list(
        torch.autograd.grad(loss * scale, watched, retain_graph=True, allow_unused=True)
    )
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world = torch.distributed.get_world_size()
        for gradient in gradients:
            if gradient is not None and world > 1:
                torch.distributed.all_reduce(gradient)
                gradient.div_(world)
    return gradients


def _still_scaled_by(trainer: Trainer, optimizer: Optimizer) -> Tensor | float:
    """Fused optimisers unscale float16 gradients inside their step; until then the scaler's factor is on them."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        return scaler._scale  # type: ignore[no-any-return]
    return 1.0
