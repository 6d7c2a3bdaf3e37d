"""A teacher network to be learned from Gaussian inputs."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from gradflow.checked import NonNegative, Seed, Several
from gradflow.rng import stream
from gradflow.tasks.regression import Regression
from gradflow.tasks.resident import Split, Splits

EVALUATED = 2_048  # examples in each of val and test: 10 outputs' error of a guess is then known to 1 %
TANH_POWER = 0.3942944903978409  # E tanh² z, z ~ N(0, 1)


def gaussian_teacher(
    *,
    inputs: Several = 64,
    outputs: Several = 10,
    teacher_depth: Several = 1,
    teacher_width: Several = 64,
    noise: NonNegative = 0.0,
    train_size: Several = 8_192,
    batch_size: Several = 128,
    teacher_seed: Seed = 0,
) -> Regression:
    """Predict y, what a fixed random network makes of x ~ N(0, I), from x.

    With one layer the teacher is linear and its inputs are white, for which deep linear networks' learning has a
    closed form (Saxe, McClelland & Ganguli 2014, section 1). With more it is a tanh network that a student network
    is to imitate, as in the statistical mechanics of learning (Gardner & Derrida 1989; Saad & Solla 1995).

    The teacher has no biases and is odd, so that targets have mean 0 and none is subtracted: a linear teacher is
    learned exactly without biases. Each output is divided by its root mean square over the training split, so that
    predicting the mean scores 1 there. With noise σ nothing can be expected to score below σ² / (1 + σ²).

    2,048 examples each are for validation and test. They and the teacher are functions of `teacher_seed`; the run's
    seed orders the batches.

    Args:
        inputs: numbers per example.
        outputs: numbers to predict.
        teacher_depth: weight layers of the teacher; 1 is linear, each further one is behind a layer of tanh units.
        teacher_width: units in each hidden layer of the teacher; of no effect at depth 1.
        noise: σ, the standard deviation of noise on the labels, of all splits, in units of the teacher's own.
        train_size: training examples.
        batch_size: examples per step.
        teacher_seed: of teacher and data.
    """

    def read(_: Path) -> Splits:
        weights = _teacher(inputs, outputs, teacher_depth, teacher_width, teacher_seed)
        sizes = {"train": train_size, "val": EVALUATED, "test": EVALUATED}
        x = {name: _normal((size, inputs), teacher_seed, "x", name) for name, size in sizes.items()}
        y = _unit_power({name: _apply(weights, x[name]) for name in sizes})
        if noise:
            label_noise = {name: _normal(y[name].shape, teacher_seed, "noise", name) for name in sizes}
            y = _unit_power({name: y[name] + noise * label_noise[name] for name in sizes})
        return {name: Split(x[name].float(), y[name].float()) for name in sizes}

    return Regression(
        name="gaussian_teacher",
        inputs=inputs,
        outputs=outputs,
        train_size=train_size,
        batch_size=batch_size,
        prepare=lambda _: None,
        read=read,
    )


def _teacher(inputs: int, outputs: int, depth: int, width: int, seed: int) -> list[Tensor]:
    """Gaussian weights [fan out, fan in] that give every layer's sums a variance of 1."""
    sizes = [inputs, *[width] * (depth - 1), outputs]
    powers = [1.0, *[TANH_POWER] * (depth - 1)]  # mean square of what each layer is given
    return [
        _normal((fan_out, fan_in), seed, "weights", layer) / math.sqrt(fan_in * power)
        for layer, (fan_in, fan_out, power) in enumerate(zip(sizes[:-1], sizes[1:], powers, strict=True))
    ]


def _apply(weights: list[Tensor], x: Tensor) -> Tensor:
    for weight in weights[:-1]:
        x = torch.tanh(x @ weight.T)
    return x @ weights[-1].T


def _unit_power(y: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every split divided by each output's root mean square over the training split."""
    scale = y["train"].square().mean(0).sqrt()
    return {name: part / scale for name, part in y.items()}


def _normal(shape: tuple[int, ...], seed: int, *name: object) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=stream(seed, "gaussian_teacher", *name))
