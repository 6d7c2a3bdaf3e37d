"""What every generated task has in common: seeds, shares of processes, lengths, fixed sets, and what a guess scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gradflow.tasks.adding import adding
from gradflow.tasks.copying import copying
from gradflow.tasks.draws import BLOCK
from gradflow.tasks.generated import Generated, block_lengths
from gradflow.tasks.latch import latch
from gradflow.tasks.latch_level import latch_level
from gradflow.tasks.mackey_glass import MOMENTS, mackey_glass
from gradflow.tasks.multiplication import multiplication
from gradflow.tasks.narma10 import MEAN, narma10
from gradflow.tasks.parity import parity
from gradflow.tasks.task import Data, Task
from gradflow.tasks.temporal_order import temporal_order
from gradflow.tasks.two_sequence import two_sequence

NOWHERE, CPU = Path("unused"), torch.device("cpu")
SMALL = {"batch_size": 8, "val_size": 150, "test_size": 320}

# every task in every convention: how it is made small, and what the best guess answers
FIXED: dict[str, Callable[..., Generated]] = {
    "adding urnn": lambda **keys: adding(length=30, **keys),
    "copying urnn": lambda **keys: copying(length=15, **keys),
    "copying delayed_marker": lambda **keys: copying(length=15, convention="delayed_marker", **keys),
    "temporal_order pascanu2013 2": lambda **keys: temporal_order(length=20, **keys),
    "temporal_order pascanu2013 3": lambda **keys: temporal_order(length=20, symbols=3, **keys),
    "latch": lambda **keys: latch(length=12, **keys),
    "latch_level": lambda **keys: latch_level(length=12, **keys),
    "parity": lambda **keys: parity(length=9, **keys),
    "mackey_glass": lambda **keys: mackey_glass(length=60, washout=10, **keys),
    "mackey_glass 84": lambda **keys: mackey_glass(length=60, washout=10, horizon=84, squash=True, delay=30, **keys),
    "narma10": lambda **keys: narma10(length=60, washout=10, **keys),
}
VARIABLE: dict[str, Callable[..., Generated]] = {
    "adding hochreiter1997": lambda **keys: adding(length=40, convention="hochreiter1997", **keys),
    "adding pascanu2013": lambda **keys: adding(length=40, convention="pascanu2013", **keys),
    "multiplication": lambda **keys: multiplication(length=40, **keys),
    "copying variable": lambda **keys: copying(length=15, variable=True, **keys),
    "temporal_order hochreiter1997 2": lambda **keys: temporal_order(length=40, convention="hochreiter1997", **keys),
    "temporal_order hochreiter1997 3": lambda **keys: temporal_order(
        length=40, convention="hochreiter1997", symbols=3, **keys
    ),
    "two_sequence": lambda **keys: two_sequence(length=40, **keys),
    "two_sequence noisy": lambda **keys: two_sequence(length=40, noise="noisy", signal_steps=1, **keys),
    "parity variable": lambda **keys: parity(length=20, variable=True, **keys),
}
TASKS = FIXED | VARIABLE
every_task = pytest.mark.parametrize("name", TASKS)
fixed_task = pytest.mark.parametrize("name", FIXED)
variable_task = pytest.mark.parametrize("name", VARIABLE)


def load(name: str, seed: int = 0, rank: int = 0, world: int = 1, **keys: object) -> Data:
    return TASKS[name](**{**SMALL, **keys}).load(NOWHERE, seed, CPU, rank, world)


def equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def split_of(data: Data, split: str, most: int = 500) -> list[tuple[Tensor, Tensor]]:
    return [data.evaluation(split, *part, torch.float32) for part in data.slices(split, most)]


# --- shapes ---------------------------------------------------------------------------------------------------


@every_task
def test_a_batch_is_what_the_task_says_it_is(name):
    task: Task = TASKS[name](**SMALL)
    assert (task.name, task.train_size, task.steps_per_epoch) == (name.split()[0], None, None)
    longest, features = task.input_shape
    data = task.load(NOWHERE, 0, CPU)
    for x, y in [data.train(step, dtype) for step in range(6) for dtype in (torch.float32, torch.float64)]:
        assert x.shape[0::2] == (8, features)
        assert x.shape[1] <= longest
        outputs = torch.zeros(8, *([x.shape[1]] if task.every_step else []), task.outputs)
        assert task.regression_targets(y).shape == outputs.shape
        assert task.regression_targets(y).dtype == torch.float32
        assert task.loss(outputs, y).shape == ()
        assert {"loss", task.metric} <= set(task.score(outputs, y))
        assert task.solved is None or task.solved.figure in task.score(outputs, y)
    assert data.train(3, torch.float64)[0].dtype == torch.float64
    assert torch.equal(data.train(3, torch.float64)[0].float(), data.train(3)[0])


@every_task
def test_the_perfect_answer_has_no_error(name):
    """Targets as outputs, or a tall peak over the right class: every sequence is right, and the task is solved."""
    task = TASKS[name](**SMALL)
    _, y = task.load(NOWHERE, 0, CPU).evaluation("val", 0, 50, torch.float32)
    outputs = task.regression_targets(y) * (1 if task.metric in ("mse", "nmse") else 100)
    values = {figure: (total / 50).item() for figure, total in task.score(outputs, y).items()}
    assert values["loss"] == pytest.approx(0, abs=1e-6)
    assert values.get("accuracy", 1) == 1
    assert values.get("wrong", 0) == 0
    assert task.solved is None or task.solved.met(values)


# --- seeds ----------------------------------------------------------------------------------------------------


@every_task
def test_a_batch_depends_on_seed_and_step_alone(name):
    """In order, backwards, and asked of a fresh object (a restart): always the same batch, and never the same twice."""
    forwards, backwards = load(name), load(name)
    seen = [forwards.train(step) for step in range(5)]
    for step in reversed(range(5)):
        assert equal(backwards.train(step), seen[step])
        assert equal(load(name).train(step), seen[step])
        assert not any(equal(seen[step], seen[other]) for other in range(step))
        assert not equal(load(name, seed=1).train(step), seen[step])


@every_task
def test_nothing_touches_torch_s_own_generator(name):
    state = torch.get_rng_state()
    data = load(name)
    data.train(0)
    data.evaluation("val", 0, 10, torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


@every_task
@pytest.mark.parametrize("world", [2, 4])
def test_processes_partition_the_global_batch(name, world):
    for step in (0, 3):
        x, y = load(name).train(step)
        for rank in range(world):
            assert equal(load(name, rank=rank, world=world).train(step), (x[rank::world], y[rank::world]))


def test_a_batch_that_does_not_divide_among_the_processes_is_refused():
    with pytest.raises(ValueError, match=r"task\.batch_size=8 does not divide among 3 processes"):
        load("latch", world=3)


@every_task
def test_validation_and_test_are_the_same_for_every_run_and_differ_from_each_other(name):
    a, b, other = load(name), load(name, seed=7), load(name, data_seed=1)
    for split, size in (("val", 150), ("test", 320)):
        parts = split_of(a, split)
        assert a.size(split) == size == sum(len(x) for x, _ in parts)
        assert all(equal(one, two) for one, two in zip(parts, split_of(b, split), strict=True))
        assert not equal(other.evaluation(split, 0, 50, torch.float32), a.evaluation(split, 0, 50, torch.float32))
    val, test = (a.evaluation(split, 0, 50, torch.float32)[0] for split in ("val", "test"))
    assert val.shape != test.shape or not torch.equal(val, test)


@every_task
def test_an_example_does_not_depend_on_how_its_split_is_cut(name):
    data = load(name)
    by_itself = [data.evaluation("test", k, k + 1, torch.float32) for k in (0, 1, 99, 100, 199, 319)]
    for most in (30, 64, 500):
        examples = {}
        for start, stop in data.slices("test", most):
            x, y = data.evaluation("test", start, stop, torch.float32)
            assert len(x) == len(y) == stop - start <= most
            examples |= {start + k: (x[k], y[k]) for k in range(len(x))}
        assert list(examples) == list(range(320))
        for k, (x, y) in zip((0, 1, 99, 100, 199, 319), by_itself, strict=True):
            assert equal(examples[k], (x[0], y[0]))


# --- lengths --------------------------------------------------------------------------------------------------


@variable_task
def test_every_length_occurs_in_training_and_the_range_is_kept(name):
    task = TASKS[name](**SMALL)
    shortest, longest = task.lengths
    data = task.load(NOWHERE, 0, CPU)
    seen = {data.train(step)[0].shape[1] for step in range(12 * (longest - shortest + 1))}
    assert shortest < longest
    assert seen == set(range(shortest, longest + 1))


@variable_task
def test_the_length_of_a_batch_is_the_run_s_own(name):
    """Ranks agree on it; another seed draws others."""
    lengths = {seed: [load(name, seed=seed).train(step)[0].shape[1] for step in range(30)] for seed in (0, 1)}
    assert lengths[0] != lengths[1]
    assert lengths[0] == [load(name, rank=1, world=2).train(step)[0].shape[1] for step in range(30)]


@variable_task
def test_evaluation_s_lengths_are_spread_evenly(name):
    task = TASKS[name](**{**SMALL, "test_size": 10_000})
    shortest, longest = task.lengths
    lengths = block_lengths(task.lengths, 10_000)
    assert len(lengths) == 10_000 // BLOCK
    counts = [lengths.count(steps) for steps in range(shortest, longest + 1)]
    assert sum(counts) == len(lengths)
    assert max(counts) - min(counts) <= 1
    data = task.load(NOWHERE, 0, CPU)
    assert all(stop - start <= BLOCK for start, stop in data.slices("test", 500))
    assert data.evaluation("test", 9_950, 10_000, torch.float32)[0].shape[:2] == (50, lengths[-1])


@fixed_task
def test_one_length_is_evaluated_in_batches_as_large_as_asked_for(name):
    assert load(name).slices("test", 200) == [(0, 200), (200, 320)]


# --- fixed training sets --------------------------------------------------------------------------------------


@fixed_task
def test_a_fixed_set_repeats_in_another_order_and_is_the_same_for_every_run(name):
    """Two epochs of 20 whole batches hold the same 160 sequences; another run orders them otherwise."""
    task = TASKS[name](**SMALL, train_size=160)
    assert task.steps_per_epoch == 20

    def epoch(data: Data, first: int) -> list[tuple[bytes, bytes]]:
        batches = [data.train(first + k) for k in range(20)]
        return [(x.numpy().tobytes(), y.numpy().tobytes()) for xs, ys in batches for x, y in zip(xs, ys, strict=True)]

    data, other = task.load(NOWHERE, 0, CPU), task.load(NOWHERE, 1, CPU)
    first, second, others = epoch(data, 0), epoch(data, 20), epoch(other, 0)
    assert sorted(first) == sorted(second) == sorted(others)
    assert first != second
    assert first != others
    x, y = data.evaluation("train", 0, 160, torch.float32)
    assert sorted(first) == sorted((a.numpy().tobytes(), b.numpy().tobytes()) for a, b in zip(x, y, strict=True))
    assert data.size("train") == 160
    assert not equal((x[:50], y[:50]), data.evaluation("val", 0, 50, torch.float32))


@fixed_task
def test_processes_partition_a_batch_of_a_fixed_set(name):
    x, y = load(name, train_size=40).train(7)
    for rank in range(2):
        assert equal(load(name, train_size=40, rank=rank, world=2).train(7), (x[rank::2], y[rank::2]))


def test_what_cannot_be_fixed_is_refused_in_one_line():
    for make in (VARIABLE[name] for name in ("adding pascanu2013", "copying variable", "parity variable")):
        with pytest.raises(ValueError, match=r"task\.train_size=100 needs sequences of one length.*null") as caught:
            make(train_size=100, batch_size=8)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"task\.batch_size=8 exceeds the 7 training examples"):
        latch(batch_size=8, train_size=7)


def test_endless_data_have_no_size():
    with pytest.raises(ValueError, match=r"task=latch has no end of training examples: set task\.train_size"):
        load("latch").size("train")


@every_task
def test_label_smoothing_is_refused_in_one_line(name):
    task = TASKS[name]()
    assert task.with_label_smoothing(0.0) is task
    with pytest.raises(ValueError, match=rf"label_smoothing=0\.1 .*task={task.name}.*set label_smoothing=0"):
        task.with_label_smoothing(0.1)


# --- what a guess scores --------------------------------------------------------------------------------------


def guess(name: str, task: Generated, y: Tensor) -> Tensor:
    """The best answer that does not look at the input, found apart from the task's closed forms where that is easy."""
    if task.metric == "accuracy":
        return torch.zeros(len(y), task.outputs).index_fill(1, torch.tensor(0), 1.0)  # always the first class
    if task.name == "copying":  # blanks for certain, then eight symbols alike
        outputs = torch.full((*y.shape, 9), -1e9)
        outputs[:, :-10, 0] = 0
        outputs[:, -10:, 1:] = 0
        return outputs
    if name == "mackey_glass 84":
        return torch.full_like(y, MOMENTS[30, True][0])
    means = {"mackey_glass": MOMENTS[17, False][0], "narma10": MEAN, "adding urnn": 1.0, "latch_level": 0.0}
    return torch.full_like(y, means.get(name, 0.5) if name != "multiplication" else multiplication_mean(40))


def multiplication_mean(length: int) -> float:
    first = 0.1 + 0.9 / (length // 2 - 2)
    return first / 2 + (1 - first) / 4


@every_task
def test_a_guess_scores_chance_and_its_error_is_as_large_as_it_is_said_to_be(name):
    """Over 4,000 sequences: within 4 standard errors, whose size is right to 10 % where squares are averaged."""
    count = 1_000 if "mackey" in name else 4_000
    task = TASKS[name](**{**SMALL, "test_size": count})
    data = task.load(NOWHERE, 0, CPU)
    scores = torch.stack(
        [
            task.score(outputs[None], one[None])[task.metric]
            for _, y in split_of(data, "test")
            for outputs, one in zip(guess(name, task, y), y, strict=True)
        ]
    )
    assert len(scores) == count
    error = task.chance_error(count)
    assert abs(scores.mean().item() - task.chance) <= 4 * error + 1e-6
    assert task.chance_error(4 * count) == pytest.approx(error / 2)
    if name != "copying variable":  # its baseline differs from length to length, but is exact for the split as a whole
        assert scores.std().item() == pytest.approx(error * math.sqrt(count), rel=0.1, abs=1e-6)
