"""The learner that solves for a read-out: equal to reservoirpy's and NumPy's fit, chosen on validation, restartable."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from reservoirpy import nodes

from gradflow import GradientFlow
from gradflow.models import activations, initializers, norms, skips
from gradflow.models import esn as models
from gradflow.models.esn import EchoState, esn
from gradflow.models.initialize import initialize
from gradflow.models.parts import Parts
from gradflow.rng import stream
from gradflow.tasks.digits import digits
from gradflow.tasks.narma10 import narma10
from gradflow.tasks.task import Task
from gradflow.training import remedies, schedulers
from gradflow.training.budget import Budget
from gradflow.training.closed_form import ClosedFormLearner
from gradflow.training.learner import Learner
from gradflow.training.optimizers import sgd

pytestmark = pytest.mark.filterwarnings("ignore")
NOWHERE, CPU = Path("unused"), torch.device("cpu")
NARMA = narma10(length=120, washout=20, batch_size=4, val_size=10, test_size=10)
DIGITS = digits(view="rows", batch_size=64)


def network(task: Task, width: int = 30, **keys: Any) -> EchoState:
    parts = Parts(1, width, activations.tanh, norms.none, skips.none, every_step=task.every_step)
    made = esn(task.input_shape, task.outputs, parts, **keys)
    initialize(made, initializers.glorot_normal, stream(0, "init"))
    return made.double()  # so that other people's float64 has the same states


def learner(
    task: Task, net: EchoState, total: int = 12, val: int = 6, kind: type = ClosedFormLearner, **more: Any
) -> Any:
    def load(device: torch.device, rank: int, world: int) -> Any:
        return task.load(NOWHERE, 0, device, rank, world)

    return kind(
        net, task, load, lambda groups: sgd(groups, lr=0.1), schedulers.constant, Budget(total, 1, val, 5), **more
    )


def fit(module: Learner, folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    names = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger", "use_distributed_sampler")
    quiet = {**dict.fromkeys(names, False), "num_sanity_val_steps": 0, "max_epochs": -1}
    ckpt = options.pop("ckpt_path", None)
    trainer = Trainer(
        accelerator="cpu", devices=1, callbacks=list(callbacks), default_root_dir=folder, **quiet, **options
    )
    trainer.fit(module, ckpt_path=ckpt, weights_only=True)
    return trainer


def figures(module: Learner, split: str) -> dict[int, dict[str, float]]:
    return {figure.step: figure.values for figure in module.figures if figure.split == split}


def reservoirpy_s(task: Task, net: EchoState, steps: int) -> tuple[np.ndarray, np.ndarray, Callable[[Any], np.ndarray]]:
    """States and targets [examples, …] of the first `steps` batches, after the washout; and states of one sequence."""
    r = net.blocks[0]
    weights = {"W": r.recurrent.numpy(), "Win": r.input_weight.numpy(), "bias": r.bias.numpy()}

    def run(x: Any) -> np.ndarray:
        return nodes.Reservoir(**weights, lr=r.leak, activation="tanh").run(x.double().numpy())

    data, seen, wanted = task.load(NOWHERE, 0, CPU), [], []
    for step in range(steps):
        x, y = data.train(step, torch.float64)
        targets = task.regression_targets(y).double().numpy()
        for one, target in zip(x, targets, strict=True):
            states = run(one)
            seen.append(states[task.washout :] if task.every_step else states[-1:])
            wanted.append(target[task.washout :] if task.every_step else target[None])
    return np.concatenate(seen), np.concatenate(wanted), run


@pytest.mark.parametrize("task", [NARMA, DIGITS], ids=lambda task: task.name)
def test_the_read_out_is_reservoirpy_s(task: Task, tmp_path: Path) -> None:
    net = network(task, leak=0.7, bias=0.3, regularization=[1e-3])
    module = learner(task, net, total=6, val=3)
    fit(module, tmp_path)
    states, targets, _ = reservoirpy_s(task, net, 6)
    reference = nodes.Ridge(ridge=1e-3).fit(states, targets)
    np.testing.assert_allclose(net.head.weight.detach().numpy(), reference.Wout.T, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(net.head.bias.detach().numpy(), reference.bias, rtol=1e-8, atol=1e-8)
    error = ((states @ reference.Wout + reference.bias - targets) ** 2).mean()
    assert figures(module, "train")[6]["regression_mse"] == pytest.approx(error, rel=1e-8)


@pytest.mark.parametrize("task", [NARMA, DIGITS], ids=lambda task: task.name)
def test_the_best_lambda_on_the_validation_split_is_chosen(task: Task, tmp_path: Path) -> None:
    values = [1e-6, 1e-1, 1e2, 1e6]
    net = network(task, regularization=values)
    module = learner(task, net, total=6, val=6)
    trainer = fit(module, tmp_path)
    data = task.load(NOWHERE, 0, CPU)
    x, y = data.evaluation("val", 0, data.size("val"), torch.float64)
    scored = {}
    for value in values:
        outputs = net.answer(x, *module.ridge.solve(value))
        scored[value] = float(task.score(outputs, y)[task.metric]) / data.size("val")
    best = (max if task.larger_is_better else min)(scored, key=lambda value: scored[value])
    assert len(set(scored.values())) > 2
    assert figures(module, "train")[6]["regularization"] == best
    assert figures(module, "val")[6][task.metric] == pytest.approx(scored[best], rel=1e-12)
    trainer.test(module, verbose=False)
    xt, yt = data.evaluation("test", 0, data.size("test"), torch.float64)
    wanted = float(task.score(net(xt), yt)[task.metric]) / data.size("test")
    assert figures(module, "test")[6][task.metric] == pytest.approx(wanted, rel=1e-12)


def test_it_learns(tmp_path: Path) -> None:
    """Digits row by row, one epoch: far beyond chance (0.1); NARMA-10 beyond the mean (1)."""
    image = learner(DIGITS, network(DIGITS, 100, read="window", window=8), total=16, val=16)
    fit(image, tmp_path)
    assert figures(image, "val")[16]["accuracy"] > 0.9
    wave = learner(NARMA, network(NARMA, 50, spectral_radius=0.95, input_scaling=0.1), total=16, val=16)
    fit(wave, tmp_path)
    assert figures(wave, "val")[16]["nmse"] < 0.5


def test_washout_is_the_longer_of_the_task_s_and_the_model_s(tmp_path: Path) -> None:
    for washout, counted in ((0, 100), (50, 70)):
        module = learner(NARMA, network(NARMA, washout=washout), total=2, val=2)
        fit(module, tmp_path)
        assert float(module.ridge.count) == 2 * 4 * counted


def test_sequences_in_parts_give_the_same_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learner(NARMA, network(NARMA, washout=33), total=3, val=3)
    fit(whole, tmp_path)
    monkeypatch.setattr(models, "AT_ONCE", 4 * 30 * 17)
    parts = learner(NARMA, network(NARMA, washout=33), total=3, val=3)
    fit(parts, tmp_path)
    for name, buffer in whole.ridge.named_buffers():
        torch.testing.assert_close(dict(parts.ridge.named_buffers())[name], buffer, rtol=1e-10, atol=1e-10)
    assert figures(parts, "val")[3]["nmse"] == pytest.approx(figures(whole, "val")[3]["nmse"], rel=1e-6)


class SaveAt(Callback):
    """Saves before a chunk, as the recorder does, and stops if told to."""

    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.steps_done == self.step:
            trainer.save_checkpoint(self.file)
            raise KilledError


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [5, 6, 10])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(at: int, tmp_path: Path) -> None:
    whole = learner(NARMA, network(NARMA))
    fit(whole, tmp_path).test(whole, verbose=False)
    killed = learner(NARMA, network(NARMA))
    with pytest.raises(KilledError):
        fit(killed, tmp_path, SaveAt(at, tmp_path / "a.ckpt"))
    resumed = learner(NARMA, network(NARMA))
    fit(resumed, tmp_path, ckpt_path=tmp_path / "a.ckpt").test(resumed, verbose=False)
    assert resumed.steps_done == 12
    later = [figure for figure in whole.figures if figure.step > at]
    assert resumed.figures == later
    assert len(later) >= 3
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name


def test_examples_after_the_last_validation_are_in_the_test(tmp_path: Path) -> None:
    module = learner(NARMA, network(NARMA), total=4, val=100)
    trainer = fit(module, tmp_path, limit_val_batches=0)
    assert not figures(module, "val")
    trainer.test(module, verbose=False)
    weight, _ = module.ridge.solve(1e-7)  # the first of the list, where no validation chose
    torch.testing.assert_close(module.network.head.weight.detach(), weight)
    assert 0 < figures(module, "test")[4]["nmse"] < 1


def test_states_that_overflow_end_the_run(tmp_path: Path) -> None:
    """A linear reservoir with a radius of 10³ passes the largest float64 in a hundred steps."""
    net = network(NARMA, topology="ring", spectral_radius=1e3)
    net.blocks[0].activation = activations.linear()
    module = learner(NARMA, net)
    trainer = fit(module, tmp_path)
    assert module.diverged_at == 0
    assert trainer.should_stop
    assert not module.figures


def test_nothing_moves_along_a_gradient_and_the_instruments_stand_by(tmp_path: Path) -> None:
    net = network(NARMA)
    drawn = copy.deepcopy(dict(net.blocks.named_buffers()))
    flow = GradientFlow(1)
    module = learner(NARMA, net, total=3, val=3)
    fit(module, tmp_path, flow)
    assert flow.flow.measurements == []
    assert all(torch.equal(drawn[name], buffer) for name, buffer in net.blocks.named_buffers())
    assert net.head.weight.grad is None


def test_remedies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set remedy=none, or model\.readout=sgd"):
        learner(NARMA, network(NARMA), remedies=[remedies.clip_norm(0)])


def test_a_read_out_by_sgd_is_the_ordinary_learner_s(tmp_path: Path) -> None:
    net = network(DIGITS, readout="sgd")
    drawn = net.blocks[0].recurrent.clone()
    module = learner(DIGITS, net, total=40, val=40, kind=Learner)
    fit(module, tmp_path)
    losses = [figure.values["loss"] for figure in module.figures if figure.split == "train"]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    assert torch.equal(net.blocks[0].recurrent, drawn)
