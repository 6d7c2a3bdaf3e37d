"""‖Δw‖/‖w‖ of the step that was taken, by copies made in the loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from watched import batches, network, numbers, of, train

from gradflow.instruments.flow import watch
from gradflow.instruments.update_ratio import UpdateRatio

OPTIMIZERS = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1),
}


def norm(tensors) -> float:
    return torch.cat([t.detach().flatten() for t in tensors]).norm().item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_against_copies(name):
    data = batches(4)
    found = numbers(train(network(), ["update_ratio"], data, make_optimizer=OPTIMIZERS[name], every_n_steps=2))
    model = network()
    optimizer = OPTIMIZERS[name](model)
    for step, (x, y) in enumerate(data):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        moved = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
        wanted = {n: norm(moved[i : i + 2]) / norm(before[i : i + 2]) for n, i in (("0", 0), ("3", 2), ("5", 4))}
        wanted["all"] = norm(moved) / norm(before)
        assert of(found, "update_ratio", step) == pytest.approx(wanted if step % 2 == 0 else {}, rel=1e-12)


def test_clipped_updates_are_those_after_clipping():
    model, ((x, y),) = network(), batches(1)
    before = norm(model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, instruments=["grad_norm", "update_ratio"]) as flow:
        functional.cross_entropy(model(x), y).backward()
        flow.measure(0)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
    assert of(numbers(flow), "update_ratio")["all"] == pytest.approx(1e-3 / before, rel=1e-4)
    assert of(numbers(flow), "grad_norm")["all"] > 0.1


def test_weights_of_zero_have_no_ratio_and_frozen_ones_zero():
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double()
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    found = of(numbers(train(model, ["update_ratio"], batches(1))), "update_ratio")
    assert set(found) == {"0", "all"}
    still = train(
        network(), ["update_ratio"], batches(1), make_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.0)
    )
    assert set(of(numbers(still), "update_ratio").values()) == {0.0}


def test_two_optimizers_each_move_their_own():
    model, ((x, y),) = network(), batches(1)
    optimizers = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.SGD(model[5].parameters(), 0.0)]
    with watch(model, instruments=["update_ratio"]) as flow:
        functional.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
    rows = [(row["name"], row["value"] > 0) for row in flow.rows()]
    assert rows == [("0", True), ("all", True), ("5", False), ("all", False)]


def test_a_step_that_the_scaler_skips_has_none_and_leaves_nothing_behind():
    """An infinite gradient: the optimiser is not called. The next step's ratio is that step's alone."""
    model, data = network(torch.float32), batches(2, dtype=torch.float32)
    scaler, instrument = torch.amp.GradScaler("cpu", init_scale=4.0), UpdateRatio()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watch(model, instruments=[instrument], scaler=scaler) as flow:
        for i, (x, y) in enumerate(data):
            optimizer.zero_grad()
            scaler.scale(functional.cross_entropy(model(x), y)).backward()
            if i == 0:
                model[0].weight.grad[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
    plain = network(torch.float32)
    functional.cross_entropy(plain(data[1][0]), data[1][1]).backward()
    wanted = 0.5 * norm(p.grad for p in plain.parameters()) / norm(plain.parameters())
    found = numbers(flow)
    assert {step for step, *_ in found} == {0}
    assert of(found, "update_ratio")["all"] == pytest.approx(wanted, rel=1e-5)
    assert not instrument._before
