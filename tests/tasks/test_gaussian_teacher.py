"""Learning a teacher network: what its data are, what solves it, and what a guess scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gradflow.tasks.gaussian_teacher import EVALUATED, TANH_POWER, _apply, _teacher, gaussian_teacher
from gradflow.tasks.task import Task

NOWHERE, CPU = Path("unused"), torch.device("cpu")
SIZE = 8_192


def data(**keys: object) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    splits = gaussian_teacher(**keys).read(NOWHERE)  # type: ignore[arg-type]
    return {name: (split.x.double(), split.y.double()) for name, split in splits.items()}


def least_squares(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.linalg.lstsq(x, y).solution


def test_facts_known_before_any_data_is_made():
    task: Task = gaussian_teacher(inputs=5, outputs=3, train_size=100, batch_size=8)
    assert (task.name, task.input_shape, task.outputs, task.steps_per_epoch) == ("gaussian_teacher", (5,), 3, 12)
    assert (task.metric, task.larger_is_better, task.chance) == ("mse", False, 1.0)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"task\.batch_size=101 exceeds the 100 training examples"):
        gaussian_teacher(train_size=100, batch_size=101)


# --- the data -------------------------------------------------------------------------------------------------


def test_sizes():
    shapes = {name: (tuple(x.shape), tuple(y.shape)) for name, (x, y) in data(train_size=500).items()}
    sizes = {"train": 500, "val": EVALUATED, "test": EVALUATED}
    assert shapes == {name: ((size, 64), (size, 10)) for name, size in sizes.items()}
    assert EVALUATED == 2048


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_inputs_are_white(split):
    """Mean 0 and covariance I within 5 standard errors: of a mean 1/√n, of a variance √(2/n), of a covariance 1/√n."""
    x, _ = data()[split]
    error = 1 / math.sqrt(len(x))
    assert x.mean(0).abs().max() < 5 * error
    covariance = x.T @ x / len(x)
    assert (covariance.diagonal() - 1).abs().max() < 5 * math.sqrt(2) * error
    assert (covariance - covariance.diagonal().diag()).abs().max() < 5 * error


def test_splits_share_no_example():
    splits = data()
    inputs = {name: {row.numpy().tobytes() for row in x} for name, (x, _) in splits.items()}
    assert len(set.union(*inputs.values())) == SIZE + 2 * EVALUATED


OPTIONS = [{}, {"noise": 0.5}, {"teacher_depth": 3}, {"teacher_depth": 2, "noise": 1.0}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_targets_have_mean_square_1_on_the_training_split_and_chance_is_what_the_mean_scores(options):
    """Guessing 0 scores exactly 1 on the training split, the training mean 1 within 5 standard errors on any."""
    task, splits = gaussian_teacher(**options), data(**options)
    y = splits["train"][1]
    torch.testing.assert_close(y.square().mean(0), torch.ones(10).double(), rtol=0, atol=1e-6)
    assert y.mean(0).abs().max() < 5 / math.sqrt(len(y))
    for _, targets in splits.values():
        score = task.score(y.mean(0).expand_as(targets), targets)["mse"] / len(targets)
        error = math.sqrt(2 / (10 * len(targets)) + 2 / (10 * SIZE))
        assert abs(score.item() - task.chance) < 5 * error


def test_only_the_teacher_s_seed_decides_the_data():
    """Not the run's, which orders them; not `train_size`, up to the scale of the targets."""
    a, again, b = data(), data(), data(teacher_seed=1)
    for split in a:
        assert torch.equal(a[split][1], again[split][1])
        assert not torch.equal(a[split][0], b[split][0])
    runs = [gaussian_teacher().load(NOWHERE, seed, CPU) for seed in (0, 1)]
    assert torch.equal(runs[0].splits["train"].x, runs[1].splits["train"].x)
    assert not torch.equal(runs[0].train(0)[0], runs[1].train(0)[0])
    fewer = data(train_size=2_000)
    assert torch.equal(fewer["test"][0], a["test"][0])
    ratio = fewer["test"][1] / a["test"][1]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


# --- what solves it -------------------------------------------------------------------------------------------


def test_least_squares_learns_a_linear_teacher_without_biases():
    splits = data()
    weights = least_squares(*splits["train"])
    for x, y in splits.values():
        assert (x @ weights - y).square().mean() < 1e-10


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_with_noise_least_squares_reaches_the_floor(noise):
    """σ² / (1 + σ²) on fresh data, larger by the factor 1 + d / (N − d − 1) of least squares with d Gaussian inputs."""
    splits = data(noise=noise)
    x, y = splits["test"]
    found = (x @ least_squares(*splits["train"]) - y).square().mean().item()
    floor = noise**2 / (1 + noise**2)
    expected = floor * (1 + 64 / (SIZE - 64 - 1))
    error = expected * math.sqrt(2 / y.numel() + 2 / (10 * SIZE))
    assert abs(found - expected) < 5 * error


def test_a_deep_teacher_is_not_linear_but_odd():
    """The best linear map leaves a share that is not explained; the teacher's own weights explain all."""
    splits = data(teacher_depth=3)
    x, y = splits["test"]
    assert (x @ least_squares(*splits["train"]) - y).square().mean() > 0.05
    weights = _teacher(64, 10, 3, 64, 0)
    found = _apply(weights, x)
    found *= (y * found).sum(0) / found.square().sum(0)
    assert (found - y).square().mean() < 1e-10
    torch.testing.assert_close(_apply(weights, -x), -_apply(weights, x))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_layer_s_sums_have_a_variance_of_about_1(depth):
    """By a teacher so wide that its own draw hardly matters, given fresh inputs."""
    weights = _teacher(400, 400, depth, 400, 0)
    x = torch.randn(2_000, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert len(weights) == depth
    for layer in range(1, depth + 1):
        assert _apply(weights[:layer], x).square().mean().item() == pytest.approx(1, abs=0.05)


def test_the_power_of_tanh_by_quadrature():
    """E tanh² z over a standard Gaussian, by the trapezium rule, which is exact here to rounding."""
    z = np.linspace(-12, 12, 4_001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    assert np.trapezoid(np.tanh(z) ** 2 * density, z) == pytest.approx(TANH_POWER, abs=1e-14)


# --- loss, score and batches ----------------------------------------------------------------------------------


def test_loss_and_score_by_hand():
    """Squared error, mean over batch and outputs; the score sums it over examples, so that batches can be added up."""
    outputs, y = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    task = gaussian_teacher()
    assert task.loss(outputs, y).item() == (1 + 0 + 4 + 9) / 4
    score = task.score(outputs, y)
    assert {name: value.item() for name, value in score.items()} == {"loss": 7.0, "mse": 7.0}
    assert all(value.dtype == torch.float64 for value in score.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_loss_of_other_number_types_is_taken_where_precision_is_larger(dtype):
    """The gradient is that of the equation, 2 (output − y) / (B k), in the outputs' own type."""
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    y = torch.ones(4, 3)
    loss = gaussian_teacher().loss(outputs, y)
    loss.backward()
    exact = outputs.detach().double() - 1
    assert loss.item() == pytest.approx(exact.square().mean().item(), rel=1e-6)
    torch.testing.assert_close(outputs.grad, (2 * exact / 12).to(dtype))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_batches_are_examples_of_the_split_split_among_processes(world):
    whole = gaussian_teacher(batch_size=32).load(NOWHERE, 0, CPU)
    train = whole.splits["train"]
    row = {x.numpy().tobytes(): n for n, x in enumerate(train.x)}
    for step in (0, 255, 256, 700):
        x, y = whole.train(step)
        assert (x.shape, y.shape) == ((32, 64), (32, 10))
        found = [row[example.numpy().tobytes()] for example in x]
        assert len(set(found)) == 32
        assert torch.equal(y, train.y[found])
        for rank in range(world):
            part = gaussian_teacher(batch_size=32).load(NOWHERE, 0, CPU, rank, world).train(step)
            assert torch.equal(part[0], x[rank::world])
            assert torch.equal(part[1], y[rank::world])


def test_evaluation_is_in_order_and_of_the_type_asked_for():
    loaded = gaussian_teacher().load(NOWHERE, 0, CPU)
    x, y = loaded.evaluation("val", 100, 110, torch.float64)
    assert x.dtype == torch.float64
    assert torch.equal(x.float(), loaded.splits["val"].x[100:110])
    assert torch.equal(y, loaded.splits["val"].y[100:110])


def test_label_smoothing_is_refused_in_one_line_unless_it_is_0():
    task = gaussian_teacher()
    assert task.with_label_smoothing(0.0) is task
    with pytest.raises(ValueError) as caught:
        task.with_label_smoothing(0.1)
    assert str(caught.value) == (
        "label_smoothing=0.1 needs classes, but task=gaussian_teacher is regression: set label_smoothing=0"
    )


def test_the_error_of_a_guess_is_that_of_squares_of_gaussians():
    """Of many test splits of one example each, the mean predictor's error deviates by √(2 / k) from one to another."""
    task = gaussian_teacher(outputs=4, train_size=20_000)
    y = data(outputs=4, train_size=20_000)["train"][1]
    squares = y.square().mean(1)
    assert squares.std().item() == pytest.approx(task.chance_error(1), rel=0.2)  # outputs of one teacher correlate
    assert task.chance_error(100) == pytest.approx(math.sqrt(2 / 400))
    assert task.regression_targets(y) is y
