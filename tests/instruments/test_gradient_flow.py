"""`GradientFlow` in Lightning on modules that know nothing of gradflow, against plain autograd."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradflow import GradientFlow
from gradflow.instruments.flow import Measurement
from gradflow.instruments.gradient_flow import LOGGED_BLOCKS, logged_scalars
from gradflow.instruments.instrument import ABSENT, Row
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.rng import stream

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS, BATCH = 6, 8


class Stranger(LightningModule):
    """Three linear layers under two names, trained automatically by SGD."""

    def __init__(self, lr: float = 0.2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh())
        self.readout = nn.Linear(6, 1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 2)
        self.lr = lr

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.readout(self.encoder(x)), y)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def layers(self) -> dict[str, nn.Module]:
        return {"encoder.0": self.encoder[0], "encoder.2": self.encoder[2], "readout": self.readout}


class Manual(Stranger):
    """One optimiser, its step taken by hand, clipped by hand."""

    clip = 0.01

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor]) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")
        optimizer.step()


class Two(Manual):
    """Two optimisers after one backward; the second steps at every `wait`-th batch only."""

    wait = 1

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=self.lr) for part in (self.encoder, self.readout)]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        first, second = self.optimizers()
        for optimizer in (first, second):
            optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        first.step()
        if batch_idx % self.wait == 0:
            second.step()


def data(count: int = STEPS) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(BATCH, width, generator=generator) for width in (5, 1)] for _ in range(count)]


def fit(module: LightningModule, flow: GradientFlow, folder: Path, count: int = STEPS, **options: Any) -> Trainer:
    options = {"logger": False, "log_every_n_steps": 1, "precision": "64-true", "max_epochs": 1, **options}
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=1, callbacks=[flow], default_root_dir=folder, **quiet, **options)
    trainer.fit(module, DataLoader(data(count), batch_size=None))
    return trainer


def norm_of(gradients: Iterable[Tensor]) -> float:
    return torch.cat([g.flatten() for g in gradients]).norm().item()


def expected(start: Stranger, count: int = STEPS, accumulate: int = 1, clip: float | None = None) -> np.ndarray:
    """[step, before or after clipping, layer] from a loop in plain PyTorch, in float64."""
    module = copy.deepcopy(start).double()
    optimizer, rows = torch.optim.SGD(module.parameters(), lr=module.lr), []
    batches = [[part.double() for part in batch] for batch in data(count)]
    for at in range(0, count, accumulate):
        losses = [module.loss(batch) for batch in batches[at : at + accumulate]]
        parameters = list(module.parameters())
        gradients = dict(zip(parameters, torch.autograd.grad(sum(losses) / accumulate, parameters), strict=True))
        row = [[norm_of(gradients[p] for p in layer.parameters()) for layer in module.layers().values()]]
        if clip is not None:
            factor = min(1.0, clip / (norm_of(gradients.values()) + 1e-6))
            gradients = {p: factor * g for p, g in gradients.items()}
        row.append([norm_of(gradients[p] for p in layer.parameters()) for layer in module.layers().values()])
        for p in parameters:
            p.grad = gradients[p]
        optimizer.step()
        rows.append(row)
    return np.array(rows)


def total(flow: GradientFlow, quantity: str) -> list[float]:
    return [row["value"] for row in flow.flow.rows() if row["name"] == "all" and row["quantity"] == quantity]


# --- automatic and manual optimisation ------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("loss_scale", [None, 2.0**100])
def test_automatic_optimisation(tmp_path, accumulate, loss_scale):
    """A stranger's module, no logger, one epoch; gradients of accumulated batches are the average's gradient."""
    module, flow = Stranger(), GradientFlow(loss_scale=loss_scale)
    reference = expected(module, accumulate=accumulate)[:, 0]
    fit(module, flow, tmp_path, accumulate_grad_batches=accumulate)
    steps, values = flow.flow.norms()
    assert [block.name for block in flow.flow.blocks] == list(module.layers())
    assert steps.tolist() == list(range(STEPS // accumulate))
    np.testing.assert_allclose(values, reference, rtol=1e-11)
    assert {row["quantity"] for row in flow.flow.rows()} == {"grad_norm", "grad_rms", "grad_max"}  # nothing clips


def test_clipping_by_the_trainer(tmp_path):
    """'grad_norm' is what came, 'grad_norm_clipped' what is left: all together the value clipped to."""
    module, flow = Stranger(), GradientFlow()
    reference = expected(module, clip=0.01)
    fit(module, flow, tmp_path, gradient_clip_val=0.01)
    np.testing.assert_allclose(flow.flow.norms()[1], reference[:, 0], rtol=1e-11)
    np.testing.assert_allclose(flow.flow.norms("grad_norm_clipped")[1], reference[:, 1], rtol=1e-11)
    assert min(total(flow, "grad_norm")) > 0.05
    assert total(flow, "grad_norm_clipped") == pytest.approx([0.01] * STEPS, rel=1e-4)


def test_manual_optimisation_clipped_by_hand(tmp_path):
    """Who clips before the step leaves no moment in which to see the gradient as it came."""
    module, flow = Manual(), GradientFlow()
    reference = expected(module, clip=module.clip)
    fit(module, flow, tmp_path)
    for quantity in ("grad_norm", "grad_norm_clipped"):
        steps, values = flow.flow.norms(quantity)
        assert steps.tolist() == list(range(STEPS))
        np.testing.assert_allclose(values, reference[:, 1], rtol=1e-11)


@pytest.mark.parametrize("loss_scale", [None, 2.0**100])
def test_two_optimizers(tmp_path, loss_scale):
    """A step counts that optimiser's own updates, so that each step has all blocks, and the outermost have a ratio."""
    module, flow = Two(), GradientFlow(loss_scale=loss_scale)
    reference = expected(module)[:, 0]
    fit(module, flow, tmp_path)
    steps, values = flow.flow.norms()
    assert steps.tolist() == list(range(STEPS))
    np.testing.assert_allclose(values, reference, rtol=1e-11)
    assert flow.flow.ratio().value == pytest.approx(np.exp(np.log(reference[:, 0] / reference[:, 2]).mean()), rel=1e-9)


def test_the_scaled_loss_serves_both_optimizers(tmp_path):
    """Gradients that float32 cannot hold are recovered for the second to step after one backward too."""

    class Faint(Two):
        def loss(self, batch: list[Tensor]) -> Tensor:
            return 2.0**-149 * super().loss(batch)

    module, flow = Faint(), GradientFlow(loss_scale=2.0**100)
    reference = expected(module, count=1)[0, 0]
    fit(module, flow, tmp_path, precision="32-true", count=1)
    found = {row["name"]: row["value"] for row in flow.flow.rows() if row["quantity"] == "grad_norm"}
    assert [found[name] for name in module.layers()] == pytest.approx(reference.tolist(), rel=1e-5, abs=0)


@pytest.mark.parametrize("every", [1, 2])
def test_an_optimizer_that_steps_more_rarely_is_measured_too(tmp_path, every):
    """The second optimiser steps at batches 0, 3, 6, 9: `every_n_steps` counts each optimiser's own steps."""
    module, flow = Two(), GradientFlow(every_n_steps=every)
    module.wait = 3
    fit(module, flow, tmp_path, count=12)
    seen = [row["name"] for row in flow.flow.rows() if row["quantity"] == "grad_norm"]
    assert seen.count("encoder.0") == 12 / every
    assert seen.count("readout") == 4 / every


def test_every_n_steps_is_the_trainer_s_unless_set(tmp_path):
    for given, expected_steps in ((None, [0, 4, 8]), (5, [0, 5])):
        flow = GradientFlow(every_n_steps=given)
        fit(Stranger(), flow, tmp_path, count=10, log_every_n_steps=4)
        assert flow.flow.norms()[0].tolist() == expected_steps


def test_watching_does_not_change_the_training(tmp_path):
    """Bit for bit, with the loss scaled for the instrument, with clipping measured, or without any."""
    weights = []
    for flow in (GradientFlow(every_n_steps=10**6), GradientFlow(), GradientFlow(loss_scale=2.0**100, clipped=True)):
        module = Stranger()
        fit(module, flow, tmp_path, precision="32-true", gradient_clip_val=0.05)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_blocks_by_name(tmp_path):
    module, flow = Stranger(), GradientFlow(blocks=["readout", "encoder"])
    reference = expected(module)[:, 0]
    fit(module, flow, tmp_path)
    encoder = np.sqrt((reference[:, :2] ** 2).sum(1))
    np.testing.assert_allclose(flow.flow.norms()[1], np.stack([reference[:, 2], encoder], 1), rtol=1e-11)


def test_parameter_groups(tmp_path):
    class Grouped(Stranger):
        def configure_optimizers(self) -> Any:
            both = {"weights": [2], "biases": [1]}
            groups = [{"name": n, "params": [p for p in self.parameters() if p.ndim in d]} for n, d in both.items()]
            return torch.optim.SGD(groups, lr=self.lr)

    module, flow = Grouped(), GradientFlow()
    start = copy.deepcopy(module).double()
    fit(module, flow, tmp_path, count=1)
    loss = start.loss([part.double() for part in data(1)[0]])
    gradients = torch.autograd.grad(loss, [start.encoder[0].weight, start.encoder[0].bias])
    found = {(row["name"], row["quantity"]): row["value"] for row in flow.flow.rows()}
    assert found["encoder.0", "grad_norm/weights"] == pytest.approx(gradients[0].norm().item(), rel=1e-11)
    assert found["encoder.0", "grad_norm/biases"] == pytest.approx(gradients[1].norm().item(), rel=1e-11)
    squares = found["group.weights", "grad_norm"] ** 2 + found["group.biases", "grad_norm"] ** 2
    assert found["all", "grad_norm"] == pytest.approx(math.sqrt(squares), rel=1e-12)


# --- numbers too small for their type -------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_float16_norms_are_unscaled(tmp_path, fused):
    """`GradScaler` at 1,024, on the CPU: norms agree with autograd under autocast to float16's precision."""

    class Half(Stranger):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr, fused=fused)

    module, flow = Half(), GradientFlow(clipped=True)
    reference = expected(module, count=3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    fit(module, flow, tmp_path, count=3, precision=None, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() == 1024
    np.testing.assert_allclose(flow.flow.norms()[1], reference[:, 0], rtol=1e-2)
    np.testing.assert_allclose(flow.flow.norms("grad_norm_clipped")[1], flow.flow.norms()[1], rtol=1e-6)


def test_a_float16_overflow_is_not_a_finite_norm(tmp_path):
    """A factor of 2²⁴ makes the loss infinite; the scaler skips the steps and halves it until it fits."""
    flow = GradientFlow()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    fit(Stranger(), flow, tmp_path, count=20, precision=None, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    values = flow.flow.norms()[1]
    skipped = round(math.log2(2.0**24 / scaler.get_scale()))
    assert 0 < skipped < 20
    assert (~np.isfinite(values)).any(1).tolist() == [True] * skipped + [False] * (20 - skipped)


class Deep(LightningModule):
    """A hundred sigmoid blocks inside a stranger's module; with Glorot's variance each is a factor of about 1/4."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp((5,), 1, Parts(100, 64, activations.sigmoid, norms.none, skips.none))
        initialize(self.net, initializers.glorot_uniform, stream(0, "init"))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("loss_scale", [None, 2.0**100])
def test_a_hundred_sigmoid_blocks(tmp_path, loss_scale):
    """With the loss scaled every block agrees with float64 within 1 %; without, the early ones are truly lost."""
    module = Deep()
    reference = copy.deepcopy(module).double()
    reference.training_step([part.double() for part in data(1)[0]]).backward()
    exact = np.array([norm_of(p.grad for p in block.parameters()) for block in reference.net.blocks])
    assert exact[0] < 1e-55  # float32 ends at 1e-45
    flow = GradientFlow(loss_scale=loss_scale)
    fit(module, flow, tmp_path, count=1, precision="32-true")
    ((*values,),) = flow.flow.norms()[1]
    lost = [all((p.grad == 0).all() for p in block.parameters()) for block in module.net.blocks]
    assert lost == sorted(lost, reverse=True)
    assert 20 < sum(lost) < 40
    if loss_scale is None:
        assert [value == 0 for value in values] == lost
        assert flow.flow.ratio().value == 0
    else:
        np.testing.assert_allclose(values, exact, rtol=0.01)
        assert flow.flow.ratio().value == pytest.approx(exact[0] / exact[-1], rel=0.02, abs=0)


@pytest.mark.parametrize("loss_scale", [3.0, 0.0, -2.0, 1.5, math.inf, math.nan])
def test_a_loss_scale_that_cannot_be_divided_out_exactly_is_refused(loss_scale):
    with pytest.raises(ValueError, match="must be a power of two"):
        GradientFlow(loss_scale=loss_scale)


def test_a_loss_scale_is_refused_with_float16(tmp_path):
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match="loss_scale does not go with float16"):
        fit(Stranger(), GradientFlow(loss_scale=2.0), tmp_path, precision=None, plugins=[plugin])


@pytest.mark.parametrize("every", [0, -1])
def test_every_n_steps_must_be_positive(every):
    with pytest.raises(ValueError, match=f"every_n_steps={every}: must be at least 1"):
        GradientFlow(every_n_steps=every)


# --- what is left behind --------------------------------------------------------------------------------------


def test_loggers_get_every_measured_step(tmp_path):
    """Through a real logger: one row per step, the numbers of the flow."""
    flow, logger = GradientFlow(every_n_steps=2), CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    fit(Stranger(), flow, tmp_path, logger=logger, gradient_clip_val=0.01)
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row.get("gradflow/grad_norm/readout")]
    assert [int(row["step"]) for row in rows] == [0, 2, 4]
    _, values = flow.flow.norms()
    for i, name in enumerate(("encoder.0", "encoder.2", "readout")):
        assert [float(row[f"gradflow/grad_norm/{name}"]) for row in rows] == pytest.approx(values[:, i], rel=1e-6)
    assert {"gradflow/grad_norm/all", "gradflow/grad_norm_clipped/all"} <= set(rows[0])


@pytest.mark.parametrize("blocks", [3, LOGGED_BLOCKS, LOGGED_BLOCKS + 1, 1000])
def test_a_dashboard_gets_at_most_a_hundred_blocks(blocks):
    """Evenly spread from the first on; no absent ones, no groups within blocks."""
    rows = [Row(str(i), i, "grad_norm_clipped") for i in range(blocks)]
    extra = [Row("gone", None, "grad_norm_clipped"), Row("0", 0, "grad_norm_clipped/weights")]
    values = np.array([*range(1, blocks + 1), ABSENT, 5.0])
    scalars = logged_scalars(Measurement(0, rows + extra, values))
    assert len(scalars) <= LOGGED_BLOCKS
    apart = set(np.diff(list(scalars.values())))
    assert len(apart) == 1
    assert scalars["gradflow/grad_norm_clipped/0"] == 1
    assert apart == {1.0} or blocks > LOGGED_BLOCKS


def test_hooks_are_gone_after_the_fit_and_a_second_fit_begins_anew(tmp_path):
    flow, module = GradientFlow(), Stranger()
    trainer = fit(module, flow, tmp_path, gradient_clip_val=0.01)
    first = flow.flow
    before = len(list(first.rows()))
    trainer.optimizers[0].step()
    assert len(list(first.rows())) == before
    assert not trainer.optimizers[0]._optimizer_step_post_hooks
    fit(module, flow, tmp_path, count=2)
    assert flow.flow.norms()[0].tolist() == [0, 1]
    assert len(list(first.rows())) == before
