"""The loss of every step that is measured."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from watched import batches, network, numbers, train

from gradflow.instruments.flow import watch


def losses(flow) -> dict[int, float]:
    found = numbers(flow)
    assert all(key[1:] == ("all", "loss") for key in found)
    return {step: value for (step, *_), value in found.items()}


def by_hand(accumulate: int = 1) -> list[float]:
    model, data, found = network(), batches(6), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    for at in range(0, 6, accumulate):
        optimizer.zero_grad()
        loss = sum(functional.cross_entropy(model(x), y) for x, y in data[at : at + accumulate]) / accumulate
        found.append(loss.item())
        loss.backward()
        optimizer.step()
    return found


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_between_measurements_are_forgotten(every, accumulate):
    flow = train(network(), ["loss_curve"], batches(6), accumulate=accumulate, every_n_steps=every)
    wanted = dict(list(enumerate(by_hand(accumulate)))[::every])
    assert losses(flow) == pytest.approx(wanted, rel=1e-12)


def test_it_holds_no_graph_and_survives_changes_in_place():
    model, ((x, y),) = network(), batches(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=["loss_curve"]) as flow:
        loss = functional.cross_entropy(model(x), y)
        flow.loss(loss)
        value = loss.item()
        loss.backward()
        loss.data.zero_()
        optimizer.step()
    assert losses(flow) == {0: value}


def test_of_a_loop_that_does_not_tell_there_is_nothing():
    model, ((x, y),) = network(), batches(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=["loss_curve"]) as flow:
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert losses(flow) == {}


def test_two_optimizers_after_one_backward_report_it_once():
    model, ((x, y),) = network(), batches(1)
    optimizers = [torch.optim.SGD(model[i].parameters(), lr=0.1) for i in (0, 5)]
    with watch(model, instruments=["loss_curve"]) as flow:
        loss = functional.cross_entropy(model(x), y)
        flow.loss(loss)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert [row["value"] for row in flow.rows()] == [loss.item()]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_not_a_number_is_shown(value):
    """Minus infinity, which stands for an absent row, as NaN."""

    def broken(h: Tensor, _: Tensor) -> Tensor:
        return h.sum() * 0 + value

    assert losses(train(network(), ["loss_curve"], batches(1), criterion=broken)) == pytest.approx(
        {0: math.inf if value > 0 else math.nan}, nan_ok=True
    )
