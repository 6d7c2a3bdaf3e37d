"""The two-sequence problem."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from gradflow.checked import NonNegative, Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.latch import signal_then_noise
from gradflow.tasks.objectives import CrossEntropy


def two_sequence(
    *,
    noise: Literal["noiseless", "noisy"] = "noiseless",
    length: Several = 100,
    signal_steps: Several = 3,
    variance: NonNegative = 0.2,
    batch_size: Several = 32,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Tell two classes by the first elements of a long sequence (Hochreiter & Schmidhuber 1997, experiment 3).

    x is [B, T, 1]: the first N = `signal_steps` elements are +1 or −1, by the class, the others Gaussian with mean 0.
    Lengths are random between T and T + T/10. The paper's task 3a is 'noiseless', in what tells the class; in its
    task 3b, 'noisy', noise of the same variance is added to that as well. Two classes, each half of the sequences.

    The paper trains one output to 1 and 0 and asks for an error below 0.2; here there are two outputs, a
    cross-entropy, and the task counts as solved at an accuracy of 99 %. Nobody can tell more than Φ(√(N/variance)) of
    noisy sequences, which is 98.7 % at N = 1: where that is below 99 %, the task is never called solved.

    Args:
        noise: whether the informative elements are noisy as well.
        length: T, in steps.
        signal_steps: N; the paper has 3 and 1.
        variance: of the noise.
        batch_size: sequences per step; fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation and test.

    Raises:
        ValueError: if the signal is longer than the sequence.
    """
    if signal_steps > length:
        raise ValueError(
            f"task.signal_steps={signal_steps} exceeds task.length={length}: set task.signal_steps to {length} or less"
        )
    deviation = math.sqrt(variance)
    on_signal = deviation if noise == "noisy" else 0.0
    possible = NormalDist().cdf(math.sqrt(signal_steps) / on_signal) if on_signal else 1.0
    return Generated(
        name="two_sequence",
        outputs=2,
        features=1,
        lengths=(length, length + length // 10),
        draw=lambda count, steps, generator: signal_then_noise(
            count, steps, signal_steps, deviation, on_signal, generator
        ),
        objective=CrossEntropy(),
        guess=Guess.of_classes(2),
        solved=Criterion("accuracy", 0.99, at_most=False) if possible > 0.99 else None,
        batch_size=batch_size,
        train_size=None,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )
