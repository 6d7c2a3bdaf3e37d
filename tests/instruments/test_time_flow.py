"""The gradient through time of strangers' models, in Lightning and in plain loops."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradflow.instruments.time_flow import TimeFlow
from gradflow.instruments.time_grad import time_gradient
from gradflow.instruments.watch_time import watch_time

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 6


class Stranger(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(2, 6, num_layers=2, batch_first=True)
        self.readout = nn.Linear(6, 1)

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.readout(self.rnn(batch[0])[0][:, -1]), batch[1])

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3)


class ByHand(Stranger):
    """Manual optimisation: two forward and backward passes, and one update."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor]) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        for _ in range(2):
            self.manual_backward(self.loss(batch) / 2)
        optimizer.step()


def data(count: int = STEPS) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(8, 20, 2, generator=generator), torch.randn(8, 1, generator=generator)] for _ in range(count)]


def fit(module: LightningModule, folder: Path, *callbacks: TimeFlow, count: int = STEPS, **options: Any) -> None:
    options = {"logger": False, "precision": "64-true", "max_epochs": 1, "accelerator": "cpu", "devices": 1, **options}
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=list(callbacks), default_root_dir=folder, **quiet, **options)
    trainer.fit(module, DataLoader(data(count), batch_size=None))


def expected(every: int, steps: list[int]) -> list[np.ndarray]:
    """Norms of the upper layer before the given steps of a plain loop."""
    module, found = Stranger().double(), []
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for step, batch in enumerate(data()):
        batch = [part.double() for part in batch]
        if step in steps:
            found.append(time_gradient(module, lambda b=batch: module.loss(b), every=every).curve("rnn_l1").norms)
        optimizer.zero_grad()
        module.loss(batch).backward()
        optimizer.step()
    return found


@pytest.mark.parametrize("kind", [Stranger, ByHand])
@pytest.mark.parametrize("every", [1, 8])
def test_every_measured_step_and_a_training_that_stays_the_same(tmp_path, kind, every):
    plain, watched, flow = kind(), kind(), TimeFlow(every_n_steps=2, every=every)
    fit(plain, tmp_path)
    fit(watched, tmp_path, flow)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)
    assert [each.step for each in flow.measurements] == [0, 2, 4]
    assert "forward" not in vars(watched.rnn)
    factor = 0.5 if kind is ByHand else 1.0  # the first of two backward passes
    for each, norms in zip(flow.measurements, expected(every, [0, 2, 4]), strict=True):
        np.testing.assert_allclose(each.gradient.curve("rnn_l1").norms, factor * norms, rtol=1e-9)
    parts = {curve.part for curve in flow.measurements[0].gradient.curves}
    assert parts == ({"h", "c"} if every == 1 else {"h"})


def test_scalars_go_to_the_loggers(tmp_path):
    flow, logger = TimeFlow(every_n_steps=3, every=1), CSVLogger(tmp_path)
    fit(Stranger(), tmp_path, flow, logger=logger)
    logger.save()
    rows = list(csv.DictReader((Path(logger.log_dir) / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [0, 3]
    gradient = flow.measurements[1].gradient
    curve, memory = gradient.curve("rnn_l0"), gradient.curve("rnn_l0", "c")
    named = {name.rpartition("/")[2]: value for name, value in rows[1].items() if "/rnn_l0/" in name}
    assert float(named["horizon"]) == pytest.approx(max(curve.horizon().steps, memory.horizon().steps))
    assert float(named["decay"]) == pytest.approx(max(curve.decay().rate, memory.decay().rate))
    assert float(named["last"]) == pytest.approx(np.median(curve.norms[-1]))
    assert 0 < curve.horizon().steps <= 20


def test_accumulated_batches_are_measured_once_per_update(tmp_path):
    flow = TimeFlow(every_n_steps=1)
    fit(Stranger(), tmp_path, flow, accumulate_grad_batches=3)
    assert [each.step for each in flow.measurements] == [0, 1]
    assert flow.measurements[0].gradient.curve("rnn_l1").norms.shape == (2, 8)


def test_layers_are_left_as_they_were_after_an_error(tmp_path):
    class Failing(Stranger):
        def training_step(self, batch: list[Tensor]) -> Tensor:
            super().training_step(batch)
            raise ZeroDivisionError

    module = Failing()
    with pytest.raises(ZeroDivisionError):
        fit(module, tmp_path, TimeFlow())
    assert "forward" not in vars(module.rnn)


def test_a_plain_loop():
    module = Stranger().double()
    other = copy.deepcopy(module)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.3) for net in (module, other)]
    with watch_time(module, every_n_steps=2, every=8) as measurements:
        for batch in data():
            batch = [part.double() for part in batch]
            for net, optimizer in zip((module, other), optimizers, strict=True):  # one of them is not watched
                optimizer.zero_grad()
                net.loss(batch).backward()
                optimizer.step()
    assert [each.step for each in measurements] == [0, 2, 4]
    for each, norms in zip(measurements, expected(8, [0, 2, 4]), strict=True):
        np.testing.assert_allclose(each.gradient.curve("rnn_l1").norms, norms, rtol=1e-9)
    assert "forward" not in vars(module.rnn)


def test_refusals(tmp_path):
    for options in ({"every_n_steps": 0}, {"every": 0}):
        with pytest.raises(ValueError, match="=0: must be at least 1"):
            TimeFlow(**options)
        with pytest.raises(ValueError, match="=0: must be at least 1"), watch_time(Stranger(), **options):
            pass
