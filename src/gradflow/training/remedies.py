"""Remedies, by the names of their config files. Each is a function of the run's seed that makes a `Remedy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_

from gradflow.checked import BelowOne, Count, NonNegative, Positive, Several
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.training.activation_penalty import ActivationPenalty
from gradflow.training.flossing import Flossing, FlossingThroughout
from gradflow.training.omega import Omega
from gradflow.training.pretraining import LayerwisePretraining
from gradflow.training.recurrent_weights import Penalty, SpectralClipping
from gradflow.training.remedy import Remedy, Schedule
from gradflow.training.truncation import Truncation

if TYPE_CHECKING:
    from gradflow.tasks.task import Task


def clip_norm(seed: int, /, *, max_norm: Positive = 1.0) -> Remedy:
    """g ← g · max_norm / ‖g‖ where the norm of all gradients together exceeds `max_norm` (Pascanu, Mikolov & Bengio
    2013, algorithm 1).

    The norm is taken in float64: an exploding gradient whose squares overflow float32 is clipped, not set to zero.

    Args:
        max_norm: 1 as in the paper's experiments (section 4.1).
    """
    return ClipNorm(max_norm)


def clip_value(seed: int, /, *, max_value: Positive = 1.0) -> Remedy:
    """Each element of the gradient into [−max_value, max_value] (Mikolov 2012, as told by Pascanu et al. 2013,
    section 3.2). The direction of the gradient changes.

    Args:
        max_value: 1 as in the experiments of Arjovsky, Shah & Bengio 2016.
    """
    return _ClipValue(max_value)


def agc(seed: int, /, *, clip_factor: Positive = 0.01, eps: Positive = 1e-3) -> Remedy:
    """Adaptive gradient clipping, unit by unit (Brock, De, Smith & Simonyan 2021, eq. 3):
    G_i ← λ · (‖W_i‖* / ‖G_i‖) · G_i where ‖G_i‖ / ‖W_i‖* > λ, with ‖W_i‖* = max(‖W_i‖, ε).

    A unit is a row of a weight [fan_out, fan_in, *kernel], its norm taken over all but the first axis. The last linear
    map is left alone, as in the paper (section 4.1): the head and the temporary maps of pre-training. So are vectors
    and scalars, for which eq. 3 names no unit; other implementations clip each of them as one.

    Args:
        clip_factor: λ; 0.01 as in the paper for batches of 4,096, more for smaller ones.
        eps: ε, so that a weight that starts at 0 can move; 10⁻³ as in the paper.
    """
    return _AdaptiveClip(clip_factor, eps)


def gradient_noise(seed: int, /, *, eta: NonNegative = 0.01, gamma: NonNegative = 0.55) -> Remedy:
    """g ← g + N(0, σ_t²) with σ_t² = η / (1 + t)^γ at step t = 0, 1, … (Neelakantan et al. 2015, eq. 1).

    The noise is a function of (seed, step) alone on each kind of device, and the same in every process: a restart
    needs no state, and replicas stay equal. What gets no gradient gets no noise.

    Args:
        eta: η, a variance; the smallest of the paper's 0.01, 0.3 and 1.
        gamma: γ; 0.55 as in the paper.
    """
    return _GradientNoise(seed, eta, gamma)


def warmup(seed: int, /, *, steps: Count = 100) -> Remedy:
    """The learning rate rises in equal parts to the schedule's first value, then the schedule runs over the steps
    that are left (Goyal et al. 2017, section 2.2, "gradual warm-up").

    Step k < `steps` has the factor (k + 1) / (steps + 1). After pre-training it counts from where fine-tuning starts.

    Args:
        steps: 0 for none; 100, a fifth of the default budget. A run that is not longer is refused.
    """
    return _WarmUp(steps)


def layerwise_pretraining(
    seed: int, /, *, objective: Literal["autoencoder", "supervised"] = "autoencoder", share: BelowOne = 0.5
) -> Remedy:
    """Greedy training of one level at a time, the stem first, then each block; then of everything by backpropagation
    (Bengio, Lamblin, Popovici & Larochelle 2007; with restricted Boltzmann machines Hinton, Osindero & Teh 2006; of
    recurrent levels Schmidhuber 1992, the 'multi-level hierarchy'). See `LayerwisePretraining`.

    Args:
        objective: 'autoencoder' reconstructs a level's input from its output ("deep net, auto-associator
            pre-training" of Bengio et al. 2007, table 2), 'supervised' does the task from its output ("supervised
            pre-training", ibid.).
        share: of the run's steps, for all levels together, so that runs with and without it have the same budget.
    """
    return LayerwisePretraining(seed, objective, share)


def tbptt(seed: int, /, *, k1: Several = 50, k2: Several = 50) -> Remedy:
    """Truncated backpropagation through time: every k1 steps, the loss of the last k1 outputs goes back k2 steps
    (BPTT(k2; k1) of Williams & Peng 1990; Sutskever 2013, section 2.8.6). One update per batch; see `Truncation`.

    Tasks with one output per sequence have one loss, at the end, which goes back k2 steps whatever k1 is.

    Args:
        k1: steps between two losses.
        k2: steps that each of them goes back, a multiple of k1. k2 = k1 cuts sequences into windows that do not
            overlap, and processes each step once; k2 = n · k1 does so up to n + 1 times.

    Raises:
        ValueError: if k2 is no multiple of k1.
    """
    if k2 % k1:
        raise ValueError(
            f"remedy.tbptt.k2={k2} is no multiple of remedy.tbptt.k1={k1}: choose one, e.g. k2={-(-k2 // k1) * k1}"
        )
    return Truncation("tbptt", k1, k2)


def horizon(seed: int, /, *, steps: Several = 10) -> Remedy:
    """The gradient of each step's loss goes back exactly `steps` steps: BPTT(steps; 1) of Williams & Peng 1990, which
    they call truncated BPTT(steps). One update per batch; see `Truncation`.

    What is learnt from a distance is known exactly, which `tbptt` with k1 > 1 blurs. The price is a window of `steps`
    steps for every output; a task with one output per sequence has but one.

    Args:
        steps: 1 sends no gradient from a state to the one before it.
    """
    return Truncation("horizon", 1, steps)


def omega(seed: int, /, *, alpha: NonNegative = 4.0) -> Remedy:
    """α Ω is added to the loss, a soft constraint by which the gradient keeps its norm as it goes back through time
    (Pascanu, Mikolov & Bengio 2013, eqs. 9 and 10). For cell=rnn and cell=irnn; see `Omega`.

    Args:
        alpha: α; 4 as in the paper's experiment on temporal order, where gradients are clipped too:
            remedy=[omega,clip_norm].
    """
    return Omega(alpha)


def activation_l1(seed: int, /, *, weight: NonNegative = 1e-3) -> Remedy:
    """λ Σ|h| is added to the loss: sparse activations, and ReLUs that cannot grow without bound (Glorot, Bordes &
    Bengio 2011, section 4). See `ActivationPenalty`.

    Args:
        weight: λ; 10⁻³ as in the paper, for three layers of 1,000 units. The sum grows with width and depth.
    """
    return ActivationPenalty(weight)


def gradient_flossing(
    seed: int,
    /,
    *,
    exponents: Several = 10,
    before: Count = 100,
    every: Count = 0,
    weight: NonNegative = 1.0,
    sequences: Several = 1,
    steps: Several | None = None,
    warm_up: BelowOne = 0.3,
) -> Remedy:
    """The first Lyapunov exponents of the recurrent cell are pushed to zero, before training, throughout it, or both:
    the gradient then neither vanishes nor explodes along as many directions (Engelken 2023). For cell=rnn and
    cell=irnn; see `Flossing`.

    Args:
        exponents: k, at most the units of a layer; cost grows with its square. 75 of 80 units in the author's example.
        before: updates of Σ_i λ_i² alone that go before training, of the run's own; 500 in the author's example.
        every: afterwards, the loss is added to the task's at every step that this divides; 0: never.
        weight: of Σ_i λ_i² in that sum; no published value.
        sequences: of each batch that are followed; one as in the author's program, since exponents hardly differ from
            one sequence to another.
        steps: of each sequence that are followed, the first ones; 55 in the author's example. null: all.
        warm_up: the share of these steps that does not count; 16 of 55 in the author's example.

    Raises:
        ValueError: if it would do nothing.
    """
    if not before and not every:
        raise ValueError(
            "remedy.gradient_flossing.before=0 and remedy.gradient_flossing.every=0 together do nothing: set one of "
            "them, or leave remedy=gradient_flossing out"
        )
    if every:
        return FlossingThroughout(seed, exponents, before, sequences, steps, warm_up, every=every, weight=weight)
    return Flossing(seed, exponents, before, sequences, steps, warm_up)


def recurrent_l1(seed: int, /, *, weight: NonNegative = 1e-4) -> Remedy:
    """g ← g + λ sign(U) for the weights U from states to states, of every gate: the penalty λ Σ|u|. With small weights
    it keeps their singular values below 1, so that gradients cannot explode, and vanish (Pascanu, Mikolov & Bengio
    2013, section 3.1).

    Args:
        weight: λ. No published default; it is added to the mean gradient of a batch.
    """
    return Penalty("recurrent_l1", weight, 1)


def recurrent_l2(seed: int, /, *, weight: NonNegative = 1e-4) -> Remedy:
    """g ← g + λ U for the weights U from states to states, of every gate: the penalty λ/2 ‖U‖². Otherwise as
    `recurrent_l1`.

    Args:
        weight: λ, which acts as optimizer.weight_decay does, on fewer weights. No published default.
    """
    return Penalty("recurrent_l2", weight, 2)


def spectral_clipping(seed: int, /, *, max_singular_value: Positive = 1.0) -> Remedy:
    """After each update, singular values above the bound become the bound, in every matrix from states to states: one
    for each gate of a cell.

    The largest singular value, not the spectral radius, is what bounds a gradient: with cell=rnn it must vanish where
    σ_max(U) < 1/γ and cannot explode unless σ_max(U) > 1/γ, γ = max |φ′| (Pascanu, Mikolov & Bengio 2013, section 2.1).
    A radius below 1 leaves room for both. In cells with gates the bound holds for each matrix, not for the whole step.

    Args:
        max_singular_value: 1 is 1/γ for tanh and ReLU; for the sigmoid it is 4.
    """
    return SpectralClipping(max_singular_value)


@dataclass
class ClipNorm(Remedy):
    """See `clip_norm`."""

    max_norm: float

    def gradients(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        given = _given(parameters)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(given, 2, dtype=_wide(given[0]))))
        torch._foreach_mul_(given, (self.max_norm / norm).clamp(max=1.0).to(given[0].dtype))


@dataclass
class _ClipValue(Remedy):
    max_value: float

    def gradients(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        clip_grad_value_(parameters, self.max_value)


@dataclass
class _AdaptiveClip(Remedy):
    clip_factor: float
    eps: float
    _weights: list[nn.Parameter] = field(init=False, default_factory=list)

    def prepare(self, network: Network, task: Task, total: int) -> None:
        self._weights = [p for part in (network.stem, network.blocks) for p in part.parameters() if p.ndim >= 2]

    def gradients(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        for weight in self._weights:
            if weight.grad is not None:
                allowed = self.clip_factor * _unit_norms(weight.detach()).clamp(min=self.eps)
                weight.grad.mul_((allowed / _unit_norms(weight.grad)).clamp(max=1.0).to(weight.dtype))


@dataclass
class _GradientNoise(Remedy):
    seed: int
    eta: float
    gamma: float

    def gradients(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        deviation = (self.eta / (1 + step) ** self.gamma) ** 0.5
        given = _given(parameters)
        generator = torch.Generator(given[0].device)
        generator.manual_seed(stream(self.seed, "gradient noise", step).initial_seed())
        for gradient in given:
            noise = torch.randn(gradient.shape, generator=generator, device=gradient.device, dtype=gradient.dtype)
            gradient.add_(noise, alpha=deviation)


@dataclass
class _WarmUp(Remedy):
    steps: int

    def prepare(self, network: Network, task: Task, total: int) -> None:
        if self.steps >= total:
            raise ValueError(
                f"remedy.warmup.steps={self.steps} is not below the run's {total} steps, which would never reach the "
                "learning rate: choose fewer, or a larger trainer.max_steps"
            )

    def schedule(self, schedule: Schedule) -> Schedule:
        def warmed(step: int, total: int) -> float:
            left = max(1, total - self.steps)
            if step < self.steps:
                return (step + 1) / (self.steps + 1) * schedule(0, left)
            return schedule(step - self.steps, left)

        return warmed


def _given(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _unit_norms(weight: Tensor) -> Tensor:
    """Of a tensor [fan_out, …]: the norm of each unit's part, [fan_out, 1, …]."""
    axes = tuple(range(1, weight.ndim))
    norms: Tensor = torch.linalg.vector_norm(weight, dim=axes, keepdim=True, dtype=_wide(weight))
    return norms


def _wide(x: Tensor) -> torch.dtype:
    """Where the square of an exploding or vanishing gradient still has a value; Apple's GPUs have no float64."""
    return torch.float32 if x.device.type == "mps" else torch.float64
