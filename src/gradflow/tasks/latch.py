"""Latching one bit."""

from __future__ import annotations

import torch
from torch import Tensor

from gradflow.checked import NonNegative, Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import integers
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.objectives import CrossEntropy


def latch(
    *,
    length: Several = 50,
    signal_steps: Several = 3,
    noise: NonNegative = 0.2,
    batch_size: Several = 32,
    train_size: Several | None = None,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Keep one bit, told in the first steps, while noise comes in (Bengio, Simard & Frasconi 1994, section II).

    x is [B, T, 1]: +1 or −1, by the class, for `signal_steps` steps, then Gaussian noise. Two classes, each half of
    the sequences. Bengio et al. train the values of the first three inputs by gradient descent, and one tanh neuron
    to ±0.8 at the end; here the weights that read the input take that part, and the loss is a cross-entropy.

    Their figure 2(b) has noise "of variance" 0.2, but it comes out only if 0.2 is the standard deviation.

    Args:
        length: T, in steps.
        signal_steps: that tell the class.
        noise: standard deviation in the steps after these.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if the signal is longer than the sequence.
    """
    if signal_steps > length:
        raise ValueError(
            f"task.signal_steps={signal_steps} exceeds task.length={length}: set task.signal_steps to {length} or less"
        )
    return Generated(
        name="latch",
        outputs=2,
        features=1,
        lengths=(length, length),
        draw=lambda count, steps, generator: signal_then_noise(count, steps, signal_steps, noise, 0.0, generator),
        objective=CrossEntropy(),
        guess=Guess.of_classes(2),
        solved=Criterion("accuracy", 0.99, at_most=False),
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def signal_then_noise(
    count: int, steps: int, signal_steps: int, noise: float, signal_noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """x [count, steps, 1] and labels [count]: class 1 begins with +1, class 0 with −1.

    Args:
        count, steps: shape.
        signal_steps: that tell the class.
        noise: standard deviation of what follows them.
        signal_noise: standard deviation of what is added to them.
        generator: draws on its device.
    """
    y_B = integers(0, 2, (count,), generator)
    x_BTF = torch.randn((count, steps, 1), generator=generator, device=generator.device)
    x_BTF[:, :signal_steps] *= signal_noise
    x_BTF[:, :signal_steps] += (2.0 * y_B - 1).view(-1, 1, 1)
    x_BTF[:, signal_steps:] *= noise
    return x_BTF, y_B
