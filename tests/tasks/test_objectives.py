"""Losses and scores of generated tasks, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gradflow.tasks.objectives import CrossEntropy, NormalizedSquaredError, SquaredError, StepwiseCrossEntropy


def nats(logits: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[label]


def values(score: dict[str, torch.Tensor]) -> dict[str, float]:
    assert all(value.dtype == torch.float64 and value.shape == () for value in score.values())
    return {name: value.item() for name, value in score.items()}


def test_squared_error_and_who_is_wrong():
    """Errors 0.03, −0.05 and 0.041: only the first is below 0.04; NaN never is."""
    y = torch.tensor([[1.0], [2.0], [3.0]]).double()
    outputs = y + torch.tensor([[0.03], [-0.05], [0.041]]).double()
    objective = SquaredError(tolerance=0.04)
    total = 0.03**2 + 0.05**2 + 0.041**2
    assert objective.loss(outputs, y).item() == pytest.approx(total / 3)
    assert values(objective.score(outputs, y)) == pytest.approx({"loss": total, "mse": total, "wrong": 2})
    assert objective.score(outputs.fill_(math.nan), y)["wrong"] == 3
    assert (objective.metric, objective.larger_is_better) == ("mse", False)
    assert torch.equal(objective.targets(y, 1), y)


def test_one_output_that_is_off_makes_a_sequence_wrong():
    score = SquaredError(tolerance=0.1).score(torch.tensor([[0.0, 0.2], [0.05, 0.05]]), torch.zeros(2, 2))
    assert values(score) == pytest.approx({"loss": 0.0225, "mse": 0.0225, "wrong": 1})


def test_normalised_squared_error_is_a_mean_over_steps_and_a_sum_over_sequences():
    outputs = torch.tensor([[[1.0], [2.0], [0.0]], [[0.0], [0.0], [3.0]]])
    objective, y = NormalizedSquaredError(variance=0.5), torch.zeros(2, 3, 1)
    assert values(objective.score(outputs, y)) == pytest.approx({"loss": 5 / 3 + 3, "nmse": 2 * (5 / 3 + 3)})
    assert objective.loss(outputs, y).item() == pytest.approx((5 / 3 + 3) / 2)


def test_cross_entropy_of_one_label():
    logits, y = [[2.0, 0.0, -1.0], [0.5, 0.5, 1.0]], torch.tensor([0, 1])
    total = sum(nats(row, int(label)) for row, label in zip(logits, y, strict=True))
    objective, outputs = CrossEntropy(), torch.tensor(logits)
    assert objective.loss(outputs.double(), y).item() == pytest.approx(total / 2)
    assert values(objective.score(outputs, y)) == pytest.approx({"loss": total, "accuracy": 1})
    assert objective.targets(y, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert (objective.metric, objective.larger_is_better) == ("accuracy", True)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_cross_entropy_at_every_step(kind):
    """Two sequences of three steps, of which the last two are recalled: one with both right, one with one."""
    y = torch.tensor([[0, 1, 0], [0, 1, 1]], dtype=kind)
    logits = [[[0.0, 3.0], [0.0, 1.0], [2.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 4.0]]]
    totals = [
        sum(nats(row, int(label)) for row, label in zip(rows, labels, strict=True)) / 3
        for rows, labels in zip(logits, y, strict=True)
    ]
    objective, outputs = StepwiseCrossEntropy(recalled=2), torch.tensor(logits)
    assert objective.loss(outputs.double(), y).item() == pytest.approx(sum(totals) / 2)
    expected = {"loss": sum(totals), "cross_entropy": sum(totals), "accuracy": 1.5, "wrong": 1}
    assert values(objective.score(outputs, y)) == pytest.approx(expected)
    assert objective.targets(y, 2).tolist() == [[[1, 0], [0, 1], [1, 0]], [[1, 0], [0, 1], [0, 1]]]
    assert objective.targets(y, 2).is_floating_point()
