"""Latching one bit as the level of a neuron, with inputs that are to be learnt."""

from __future__ import annotations

import torch
from torch import Tensor

from gradflow.checked import NonNegative, Positive, Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.objectives import SquaredError


def latch_level(
    *,
    length: Several = 20,
    signal_steps: Several = 3,
    noise: NonNegative = 0.2,
    level: Positive = 0.8,
    batch_size: Several = 2,
    train_size: Several | None = None,
    val_size: Several = 100,
    test_size: Several = 100,
    data_seed: Seed = 0,
) -> Generated:
    """Hold one bit, told in the first steps, at ±0.8 while noise comes in (Bengio, Simard & Frasconi 1994, figure 2).

    x is [B, T, 2·L + 1]. The first 2·L features are one-hot in class and step for the L = `signal_steps` first steps
    and 0 afterwards: weights of them are the inputs h_1 … h_L of either class that the paper trains. The last feature
    is the noise, 0 during the signal. The target is ±level, the loss the squared error at the last step; 'wrong' is the
    share of sequences that end on the wrong side of 0 (or, which a tanh cannot, beyond twice the level).

    Classes take turns, so that a batch of 2 has one of each. For the paper's own neuron: `model=recurrent_state
    cell=latch_neuron width=1`. `task=latch` is the same problem with fixed inputs and a cross-entropy.

    The paper's noise is "of variance" 0.2, but its figure 2(b) comes out only if 0.2 is the standard deviation. When a
    run has converged it does not say; here the task counts as solved if more than 92 of 100 validation sequences are
    right, with which the figure's frequencies come out.

    Args:
        length: T, in steps.
        signal_steps: L, that tell the class.
        noise: standard deviation in the steps after these.
        level: of the target.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set; null: fresh noise at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if the signal is longer than the sequence.
    """
    if signal_steps > length:
        raise ValueError(
            f"task.signal_steps={signal_steps} exceeds task.length={length}: set task.signal_steps to {length} or less"
        )

    def draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        label_B = torch.arange(count, device=device) % 2
        x_BTF = torch.zeros(count, steps, 2 * signal_steps + 1, device=device)
        time = torch.arange(signal_steps, device=device)
        x_BTF[torch.arange(count, device=device)[:, None], time, label_B[:, None] * signal_steps + time] = 1
        rest = (count, steps - signal_steps)
        x_BTF[:, signal_steps:, -1] = noise * torch.randn(rest, generator=generator, device=device)
        return x_BTF, (level * (2.0 * label_B - 1)).unsqueeze(-1)

    return Generated(
        name="latch_level",
        outputs=1,
        features=2 * signal_steps + 1,
        lengths=(length, length),
        draw=draw,
        objective=SquaredError(tolerance=level),
        guess=Guess(level**2, 0.0),
        solved=Criterion("wrong", 0.07, at_most=True),
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )
