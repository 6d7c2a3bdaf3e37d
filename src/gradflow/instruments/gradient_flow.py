"""The Lightning callback that watches the gradient flow of any LightningModule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer

from gradflow.instruments.flow import Flow, Measurement, divide
from gradflow.instruments.grad_norm import GradNorm

LOGGED_BLOCKS = 100  # a dashboard with more charts than this becomes unusable; the flow itself keeps every block


class GradientFlow(Callback):
    """Measures the norm of the gradient of every block, as `Trainer(callbacks=[GradientFlow()])`.

    Norms are taken after AMP's unscaling and after DDP's all-reduce, before clipping ('grad_norm') and, where
    something may clip, after it ('grad_norm_clipped'). They go to the trainer's loggers as
    'gradflow/grad_norm/<block>', and stay in `flow` to be read: `callback.flow.norms()`, `callback.flow.ratio()`.

    Args:
        every_n_steps: optimiser steps between measurements; the trainer's `log_every_n_steps` unless set.
        blocks: paths of modules to watch, as for `find_blocks`; all of them unless set.
        loss_scale: a power of two. Gradients below float32's smallest number (1e-45) are lost before any instrument
            can see them; with a scale, every logged step differentiates loss × scale once more, beside the training
            step and without changing it, and divides the norms by the scale, which is exact. Not for float16.
        clipped: whether to measure after clipping too; None finds out from the trainer and the module.

    Raises:
        ValueError: if `every_n_steps` is not positive or `loss_scale` is not a power of two.
    """

    flow: Flow

    def __init__(
        self,
        every_n_steps: int | None = None,
        blocks: Sequence[str] | None = None,
        loss_scale: float | None = None,
        clipped: bool | None = None,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
        if loss_scale is not None and not (loss_scale > 0 and math.frexp(loss_scale)[0] == 0.5):
            raise ValueError(f"loss_scale={loss_scale}: must be a power of two, so that dividing it out is exact")
        self.every_n_steps, self.blocks, self.loss_scale, self.clipped = every_n_steps, blocks, loss_scale, clipped
        self._probe: dict[int, Tensor] = {}
        self._probe_used = False
        self._taken: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._due = False
        self._handles: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.loss_scale is not None and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError("loss_scale does not go with float16 (precision=16-mixed), which it would overflow")
        self.flow = Flow(pl_module, self.blocks)
        self._taken.clear()
        self._every = self.every_n_steps or int(getattr(trainer, "log_every_n_steps", 0)) or 1
        clips = self.clipped if self.clipped is not None else _may_clip(trainer, pl_module)
        if clips:
            self._handles = [o.register_step_post_hook(self._after_step) for o in trainer.optimizers]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self.loss_scale is not None and any(
            self._step_of(trainer, o) % self._every == 0 for o in trainer.optimizers
        ):
            if self._probe_used:
                self._probe, self._probe_used = {}, False
            watched = [p for block in self.flow.blocks for p in block.parameters]
            for parameter, gradient in zip(watched, _scaled_gradients(loss, watched, self.loss_scale), strict=True):
                if gradient is not None:  # those of accumulated batches add up
                    before = self._probe.get(id(parameter))
                    self._probe[id(parameter)] = gradient if before is None else before + gradient

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        norm = self.flow.of(optimizer)
        self._step = self._step_of(trainer, optimizer)
        self._taken[optimizer] = self._step + 1
        self._due = norm is not None and self._step % self._every == 0
        if norm is None or not self._due:
            return
        if self.loss_scale is not None and self._probe:
            values = divide(norm([self._probe.get(id(p)) for p in norm.parameters]), self.loss_scale)
            self._probe_used = True
        else:
            values = divide(norm(), _still_scaled_by(trainer, optimizer))
        self.flow.add(self._step, norm.rows, values)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._log(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _step_of(self, trainer: Trainer, optimizer: Optimizer) -> int:
        """How many updates an optimiser has made: Lightning's count is of all optimisers together."""
        return self._taken.get(optimizer, trainer.global_step // max(1, len(trainer.optimizers)))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        norm: GradNorm | None = self.flow.of(optimizer)
        if self._due and norm is not None:
            self.flow.add(self._step, norm.rows, norm(), "_clipped")
        self._due = False

    def _log(self, trainer: Trainer) -> None:
        for measurement in self.flow.flush():
            scalars = logged_scalars(measurement)
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=measurement.step)


def logged_scalars(measurement: Measurement) -> dict[str, float]:
    """What a dashboard gets of one measurement: whole blocks, at most `LOGGED_BLOCKS`, evenly spread."""
    whole = [
        (f"gradflow/grad_norm{measurement.suffix}/{row.name}", float(value))
        for row, value in zip(measurement.rows, measurement.values, strict=True)
        if row.quantity == "grad_norm" and value != -1.0
    ]
    return dict(whole[:: math.ceil(len(whole) / LOGGED_BLOCKS)] if len(whole) > LOGGED_BLOCKS else whole)


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
