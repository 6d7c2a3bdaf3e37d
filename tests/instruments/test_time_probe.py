"""What a run records of the flow through time."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from through_time import make_cell, noise
from torch import Tensor, nn

from gradflow.instruments.time_grad import time_gradient
from gradflow.instruments.time_probe import QUANTITIES, TimeProbe
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.parts import Parts
from gradflow.models.recurrent import recurrent
from gradflow.runs.series import GRADFLOW


def network(cell: str = "lstm", dropout: float = 0.0, **options) -> nn.Module:
    parts = Parts(2, 6, activations.tanh, norms.none, skips.none, dropout, cell=lambda f, w, _: make_cell(cell, f, w))
    net = recurrent((12, 3), 2, parts, **options)
    initialize(net, initializers.glorot_uniform, torch.Generator().manual_seed(0))
    return net.double()


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, y)


def batch(count: int = 20) -> tuple[Tensor, Tensor]:
    return noise(count, 12, 3), torch.arange(count) % 2


def values(rows: list[dict], quantity: str, name: str) -> list[float]:
    return [row["value"] for row in rows if row["quantity"] == quantity and row["name"] == name]


def test_every_quantity_in_the_form_of_the_record():
    net = network()
    rows = TimeProbe(net, loss, QUANTITIES, exponents=2).measure(40, *batch())
    table = pa.table({name: [row[name] for row in rows] for name in GRADFLOW.names}, schema=GRADFLOW)
    assert len(table) == len(rows)
    assert {(row["step"], row["block"], row["name"]) for row in rows} == {(40, 0, "blocks.00"), (40, 1, "blocks.01")}
    timed = {row["quantity"] for row in rows if row["time"] is not None}
    parts = {f"time_grad_{part}{suffix}" for part in "hc" for suffix in ("", "_q10", "_q90")}
    assert timed == parts | {"time_jacobian", "time_jacobian_c", "forget_leak"}
    slopes = {f"{name}_decay{suffix}" for name in ("time", "jacobian") for suffix in ("", "_low", "_high")}
    horizons = {"memory_horizon_1%", "memory_horizon_0.1%"}
    assert {row["quantity"] for row in rows if row["time"] is None} == slopes | horizons | {"lyapunov_1", "lyapunov_2"}
    for quantity in timed:
        times = [r["time"] for r in rows if r["quantity"] == quantity and r["block"] == 1]
        assert times == list(range(12))
    assert all(math.isfinite(row["value"]) for row in rows)


def test_gradients_are_of_each_examples_own_loss():
    """So that their size does not depend on how many are probed."""
    net, (x, y) = network(), batch()
    rows = TimeProbe(net, loss, ["time_grad"], examples=5).measure(0, x, y)
    each = [
        time_gradient(net, lambda i=i: loss(net(x[i : i + 1]), y[i : i + 1])).curve("blocks.00").norms for i in range(5)
    ]
    alone = np.concatenate(each, 1)
    np.testing.assert_allclose(values(rows, "time_grad_h", "blocks.00"), np.median(alone, 1), rtol=1e-9)
    np.testing.assert_allclose(values(rows, "time_grad_h_q10", "blocks.00"), np.quantile(alone, 0.1, axis=1), rtol=1e-9)
    low, rate, high = (values(rows, f"time_decay{s}", "blocks.00")[0] for s in ("_low", "", "_high"))
    assert low < rate < high


def test_a_bidirectional_network_has_a_curve_for_each_direction():
    rows = TimeProbe(network("gru", bidirectional=True), loss, ["time_grad"]).measure(0, *batch())
    assert {row["name"] for row in rows} == {f"blocks.0{i}.{way}" for i in (0, 1) for way in ("forward", "backward")}
    back = values(rows, "time_grad_h", "blocks.01.backward")
    assert back[0] > back[-1] > 0
    ahead = values(rows, "time_grad_h", "blocks.01.forward")
    assert ahead[-1] > ahead[0] > 0


def test_training_goes_on_as_if_nobody_had_looked():
    trained = []
    for looks in (False, True):
        net = network(dropout=0.3)
        optimizer, probe = torch.optim.SGD(net.parameters(), lr=0.5), TimeProbe(net, loss, QUANTITIES)
        torch.manual_seed(7)
        for step in range(3):
            x, y = batch()
            optimizer.zero_grad()
            if looks:
                probe.measure(step, x, y)
            loss(net(x), y).backward()
            optimizer.step()
        trained.append([p.detach() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))


def test_a_horizon_that_is_not_reached_is_the_length_of_the_sequence():
    net = network("rnn")
    with torch.no_grad():
        for block in net.blocks:
            for name, parameter in block.named_parameters():
                parameter.copy_(torch.eye(6)) if "recurrent" in name else parameter.mul_(1e-3)
    rows = TimeProbe(net, loss, ["time_grad"]).measure(0, *batch())
    assert values(rows, "memory_horizon_1%", "blocks.01") == [12.0]


class ReadFromMemory(nn.Module):
    """c_t = 0.9 c_{t−1} + x_t and h_t = 2 c_t, which the next step does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.observer: Any = None
        self.cell = SimpleNamespace(state_names=("h", "c"))
        self.share = nn.Parameter(torch.tensor(0.9))

    def forward(self, x: Tensor) -> Tensor:
        c, out = torch.zeros_like(x[:, 0]), []
        for time in range(x.shape[1]):
            c = self.share * c + x[:, time]
            h = 2 * c
            if self.observer is not None:
                h, c = self.observer(time, (h, c))
            out.append(h)
        return torch.stack(out, 1)[:, -1]


def test_the_part_of_a_state_that_remembers_decides():
    net = ReadFromMemory().double()
    x, y = noise(8, 100, 3), torch.arange(8) % 2
    rows = TimeProbe(net, loss, ["time_grad", "jacobian_time"]).measure(0, x, y)
    assert values(rows, "time_grad_h", "model")[:-1] == [0.0] * 99
    assert values(rows, "memory_horizon_1%", "model") == pytest.approx([math.log(100) / -math.log(0.9)], rel=1e-6)
    for quantity in ("time_decay", "jacobian_decay"):
        assert values(rows, quantity, "model") == pytest.approx([math.log(0.9)], rel=1e-6)


def test_a_reservoir_has_a_reason_instead_of_numbers():
    class Reservoir(nn.Module):
        no_gradient = "not trained"

        def forward(self, x: Tensor) -> Tensor:
            return x

    net = nn.Sequential(Reservoir(), nn.Flatten(), nn.Linear(36, 2)).double()
    probe = TimeProbe(net, loss, QUANTITIES)
    assert probe.without == {"0": "not trained"}
    assert probe.measure(0, *batch()) == []


def test_refusals():
    with pytest.raises(ValueError, match="no quantity is called 'grad'; choose of time_grad, jacobian_time"):
        TimeProbe(network(), loss, ["grad"])
    with pytest.raises(ValueError, match=r"instruments\.examples=0"):
        TimeProbe(network(), loss, examples=0)
    with pytest.raises(ValueError, match="no recurrent layer"):
        TimeProbe(nn.Linear(2, 2), loss)
