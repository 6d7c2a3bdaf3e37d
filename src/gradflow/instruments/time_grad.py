"""‖∂L/∂h_t‖: how much of the loss's gradient reaches each step of a sequence.

The gradient is the total one: every way in which the loss depends on the state after step t, through the step's own
output and through all later steps. A gradient with respect to the outputs of a fused layer lacks the later steps. For
an LSTM's memory, ∂L/∂c_t is that of back-propagation through time as it is usually written: h_t hangs on c_t.

Shapes: S measured times, B examples, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from gradflow.instruments.layers_in_time import TimeLayer, find_time_layers, observing
from gradflow.instruments.probing import probing
from gradflow.instruments.states_in_time import Sightings, reasons
from gradflow.instruments.time_curve import TimeCurve, TimeCurves, differentiated, norms_of, safe_norms

UNREACHED = "the loss does not depend on its states, or no gradient was asked for"


def time_gradient(
    module: nn.Module,
    loss: Callable[[], Tensor],
    *,
    every: int = 1,
    layers: Sequence[TimeLayer] | None = None,
) -> TimeCurves:
    """‖∂L/∂h_t‖ of every recurrent layer and example, measured beside the training.

    Random generators, buffers such as running statistics, parameters' `grad` and the module's mode stay as they are.
    Norms below what float32 can hold are measured a second time with the loss multiplied by 2¹⁰⁰.

    Args:
        module: any module with recurrent layers; see `find_time_layers`.
        loss: calls the module on a batch and gives a scalar. A mean over B examples makes every norm B times smaller
            than that of the example's own loss.
        every: steps from one measured state to the next. With more than 1 only 'h' is measured, since fused kernels do
            not let the other parts' gradients be seen.
        layers: only these; all of them unless given.

    Raises:
        ValueError: if there is no recurrent layer, or what `observing` refuses.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> lstm, x = torch.nn.LSTM(3, 8, batch_first=True), torch.randn(4, 20, 3)
        >>> measured = time_gradient(lstm, lambda: lstm(x)[0][:, -1].square().sum())
        >>> measured.curve("rnn", "c").norms.shape
        (20, 4)
    """
    watched = list(find_time_layers(module) if layers is None else layers)
    states = Sightings(first_only=every > 1)
    with probing(module):
        with observing(watched, every, states):
            value = loss()
        curves, without = [], reasons(watched)
        seen = states.sequences(watched)
        usable = [each for each in seen if value.requires_grad and all(t.requires_grad for t in each[3])]
        groups, missing = [each[3] for each in usable], set[int]()
        norms = safe_norms(lambda factor: differentiated(value, groups, factor, missing)) if groups else []
    for place, (layer, part, times, _) in enumerate(usable):
        if place not in missing:
            curves.append(_curve(layer, part, times, norms[place]))
    reached = {curve.layer.index for curve in curves}
    without.update({layer.name: UNREACHED for layer, *_ in seen if layer.index not in reached})
    return TimeCurves(curves, without)


class TimeGradientHooks:
    """‖∂L/∂h_t‖ measured in the ordinary backward pass of a training step, by hooks on the states.

    `start`, a forward and a backward pass, `finish`. Between the two, layers run in segments of `every` steps; the
    numbers of the training step stay the same but for rounding, and nothing is copied to the host before `finish`.

    If a module is called several times before the backward pass, each call's steps follow those of the one before, as
    where a decoder calls a layer step by step; only examples of the first call's batch size count. Passes that begin
    after the first backward pass, such as those of accumulated batches, are not measured. Gradients of several
    backward passes through the same states add up.

    Args:
        module: any module with recurrent layers.
        every: see `time_gradient`. 16 costs next to nothing.

    Raises:
        ValueError: what `find_time_layers` and `observing` refuse.
    """

    def __init__(self, module: nn.Module, every: int = 16) -> None:
        if every < 1:
            raise ValueError(f"every={every}: must be at least 1")
        self.layers, self.every = find_time_layers(module), every
        self._stack: ExitStack | None = None

    @property
    def running(self) -> bool:
        return self._stack is not None

    def start(self) -> None:
        """Look at all that goes through the layers from here on."""
        self.stop()
        self._gradients: dict[int, Tensor] = {}
        self._hooked: set[int] = set()
        self._states = Sightings(first_only=self.every > 1, each=self._hook)
        self._stack = ExitStack()
        self._stack.enter_context(observing(self.layers, self.every, self._states))

    def stop(self) -> None:
        """Leave the layers as they were."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def finish(self, scale: Tensor | float = 1.0) -> TimeCurves:
        """What has been seen since `start`; ends it.

        Args:
            scale: by which the loss was multiplied, as a `GradScaler` does; divided out.
        """
        self.stop()
        curves, without = [], reasons(self.layers)
        for layer, part, times, tensors in self._states.sequences(self.layers):
            found = [self._gradients.get(id(t)) for t in tensors]
            if not any(g is not None for g in found):
                without[layer.name] = UNREACHED
                continue
            norms = norms_of([torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)])
            divisor = scale.to(norms.device, norms.dtype) if isinstance(scale, Tensor) else scale
            curves.append(_curve(layer, part, times, norms / divisor))
        self._states, self._gradients = Sightings(), {}
        return TimeCurves(curves, without)

    def _hook(self, state: Tensor) -> bool:
        """Whether a state is watched."""
        if self._gradients or not state.requires_grad:
            return False
        name = id(state)
        if name in self._hooked:  # a state that a step left as it was
            return True
        self._hooked.add(name)

        def keep(gradient: Tensor) -> None:
            before = self._gradients.get(name)
            self._gradients[name] = gradient.detach() if before is None else before + gradient.detach()

        state.register_hook(keep)  # type: ignore[no-untyped-call]
        return True


def _curve(layer: TimeLayer, part: str, times: list[int], norms_SB: Tensor) -> TimeCurve:
    return TimeCurve(layer, part, np.array(times, dtype=np.int64), norms_SB.detach().cpu().numpy())
