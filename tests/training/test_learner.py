"""The Learner under Lightning, on digits, against a training loop in bare PyTorch: bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import plain
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from gradflow import GradientFlow
from gradflow.models.network import Network
from gradflow.tasks.digits import digits
from gradflow.tasks.resident import Split, TrainBatches
from gradflow.tasks.task import TaskData
from gradflow.training import remedies, schedulers
from gradflow.training.budget import Budget
from gradflow.training.learner import EVALUATION_BATCH, Learner, Slices
from gradflow.training.optimizers import sgd

pytestmark = pytest.mark.filterwarnings("ignore")
TASK, NOWHERE, CPU = digits(), Path("unused"), torch.device("cpu")
STEPS = 20
MOMENTUM = {"lr": 0.2, "momentum": 0.9, "weight_decay": 1e-3}


def network(norm: Callable[[int], nn.Module] = nn.Identity, dropout: float = 0.0) -> Network:
    return plain.network(norm=norm, dropout=dropout)


def learner(
    net: Network, total: int = STEPS, log: int = 1, val: int = 10**6, save: int = 10**6, **more: Any
) -> Learner:
    return Learner(
        net,
        TASK,
        lambda device, rank, world: TASK.load(NOWHERE, 0, device, rank, world),
        partial(sgd, **{**MOMENTUM, **more.pop("optimizer", {})}),
        more.pop("schedule", schedulers.constant),
        Budget(total, log, val, save),
        **more,
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


def losses(module: Learner, split: str = "train") -> list[float]:
    return [figure.values["loss"] for figure in module.figures if figure.split == split]


def bare_loop(
    net: Network,
    steps: int = STEPS,
    factor: Callable[[int], float] = lambda _: 1.0,
    clip: Callable[[list[nn.Parameter]], object] = lambda _: None,
) -> list[float]:
    """What a person writes without Lightning: the loss of each step, and `net` trained."""
    batches, parameters = TASK.load(NOWHERE, 0, CPU).train, list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": MOMENTUM["weight_decay"]},
        {"params": [p for p in parameters if p.ndim == 1]},
    ]
    optimizer = torch.optim.SGD(groups, lr=MOMENTUM["lr"], momentum=MOMENTUM["momentum"], fused=True)
    seen = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = MOMENTUM["lr"] * factor(step)
        x, y = batches(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        clip(parameters)
        optimizer.step()
        seen.append(loss.item())
    return seen


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# --- training -------------------------------------------------------------------------------------------------


def by_norm(parameters: list[nn.Parameter]) -> None:
    """Pascanu et al. 2013, algorithm 1, in float64."""
    norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters))
    if norm >= 0.5:
        for p in parameters:
            p.grad.mul_(0.5 / norm)


CLIPS = {
    "no clipping": ([], lambda _: None),
    "norm": ([remedies.clip_norm(0, max_norm=0.5)], by_norm),
    "value": (
        [remedies.clip_value(0, max_value=0.01)],
        lambda parameters: nn.utils.clip_grad_value_(parameters, 0.01),
    ),
}


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm1d], ids=["plain", "batch norm"])
@pytest.mark.parametrize("clip", CLIPS)
def test_bit_for_bit(tmp_path, clip, norm):
    """Losses of 20 steps and final weights, with momentum, decay, clipping, batch statistics."""
    ours, by_hand = CLIPS[clip]
    net = network(norm)
    other = copy.deepcopy(net)
    module = learner(net, remedies=ours)
    fit(module, tmp_path)
    assert losses(module) == bare_loop(other, clip=by_hand)
    assert same_weights(net, other)
    assert module.steps_done == STEPS
    assert module.diverged_at is None
    assert module.stages == []


def test_clipping_changes_the_losses():
    """So that the test above can tell."""
    seen = [bare_loop(network(), clip=by_hand) for _, by_hand in CLIPS.values()]
    assert seen[0] != seen[1] != seen[2] != seen[0]


@pytest.mark.parametrize("log", [3, 20, 7])
def test_the_logged_loss_is_the_mean_since_the_last_time(tmp_path, log):
    net = network()
    each = bare_loop(copy.deepcopy(net))
    module = learner(net, log=log)
    fit(module, tmp_path)
    ends = [*range(log, STEPS, log), STEPS]
    assert [figure.step for figure in module.figures if figure.split == "train"] == ends
    means = [sum(each[end - (end % log or log) : end]) / (end % log or log) for end in ends]
    assert losses(module) == pytest.approx(means, rel=1e-14)


def test_the_schedule_and_the_warm_up_set_each_step_s_rate(tmp_path):
    """Goyal et al. 2017: 1/5, 2/5 … 4/5 of the first rate, then the cosine over the 16 steps that are left."""
    net = network()
    other = copy.deepcopy(net)
    module = learner(net, schedule=partial(schedulers.cosine, final_factor=0.1), remedies=[remedies.warmup(0, steps=4)])
    fit(module, tmp_path)

    def factor(step: int) -> float:
        if step < 4:
            return (step + 1) / 5
        return 0.1 + (1 - 0.1) * (1 + math.cos(math.pi * ((step - 4) / 16))) / 2

    assert losses(module) == bare_loop(other, factor=factor)


def test_what_computes_the_outputs_can_be_given(tmp_path):
    """As a module, for training and evaluation alike, and it leaves no trace in checkpoints."""

    class Counted(nn.Module):
        """Stands in for a compiled network: a module around it."""

        def __init__(self, inner: Network) -> None:
            super().__init__()
            self.inner, self.calls = inner, []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls.append(self.inner.training)
            return self.inner(x)

    net = network(nn.BatchNorm1d)
    other, counted = copy.deepcopy(net), Counted(net)
    module = learner(net, val=10, forward=counted)
    trainer = fit(module, tmp_path)
    trainer.test(module, verbose=False)
    assert losses(module) == bare_loop(other)
    assert counted.calls == [True] * 10 + [False] + [True] * 10 + [False] + [False]
    assert module.state_dict().keys() == {f"network.{name}" for name in net.state_dict()}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_validation_and_the_instrument_leave_the_training_alone(tmp_path, dropout):
    """Nor do they draw from the generator that dropout draws from."""
    alone, watched = network(nn.BatchNorm1d, dropout), network(nn.BatchNorm1d, dropout)
    quiet, busy = learner(alone), learner(watched, val=3)
    torch.manual_seed(5)
    fit(quiet, tmp_path)
    torch.manual_seed(5)
    fit(busy, tmp_path, GradientFlow(every_n_steps=2))
    assert losses(quiet) == losses(busy)
    assert same_weights(alone, watched)


def test_the_instrument_sees_the_gradient_before_and_after_clipping(tmp_path):
    """At every step asked for, across chunks; 'all' after clipping is the value clipped to, where more came."""
    net, flow, came = network(), GradientFlow(every_n_steps=3), []
    bare_loop(copy.deepcopy(net), clip=lambda parameters: came.append(nn.utils.clip_grad_norm_(parameters, 0.5).item()))
    fit(learner(net, remedies=[remedies.clip_norm(0, max_norm=0.5)]), tmp_path, flow)
    found = {
        quantity: {r["step"]: r["value"] for r in flow.flow.rows() if r["name"] == "all" and r["quantity"] == quantity}
        for quantity in ("grad_norm", "grad_norm_clipped")
    }
    steps = range(0, STEPS, 3)
    assert found["grad_norm"] == pytest.approx({step: came[step] for step in steps}, rel=1e-5)
    assert found["grad_norm_clipped"] == pytest.approx({step: min(0.5, came[step]) for step in steps}, rel=1e-5)
    assert max(came) > 0.5
    assert {"grad_norm/weights", "grad_norm_clipped/vectors"} <= {row["quantity"] for row in flow.flow.rows()}


# --- divergence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [1, 5, 16])
@pytest.mark.parametrize("broken", [0, 7, 12])
def test_divergence_is_dated_to_the_step(tmp_path, broken, log):
    """An infinite learning rate at one step makes the next step's loss the first that is not finite."""
    module = learner(network(), total=40, log=log, schedule=lambda step, _: math.inf if step == broken else 1.0)
    fit(module, tmp_path)
    assert module.diverged_at == broken + 1
    assert [figure.step for figure in module.figures] == list(range(log, broken + 2, log))
    assert module.steps_done == (broken + 1) // log * log + log  # no further than the next look at the losses


def test_divergence_at_the_first_step_and_no_scores_after_it(tmp_path):
    net = network()
    with torch.no_grad():
        net.head.weight.fill_(torch.nan)
    module = learner(net, log=4, val=4)
    fit(module, tmp_path)
    assert module.diverged_at == 0
    assert module.figures == []


def test_an_exploding_run_diverges_where_the_bare_loop_does(tmp_path):
    net = network()
    each = bare_loop(copy.deepcopy(net), steps=60, factor=lambda _: 1e8)
    first = next(step for step, loss in enumerate(each) if not math.isfinite(loss))
    module = learner(net, total=60, log=10, schedule=lambda *_: 1e8)
    fit(module, tmp_path)
    assert module.diverged_at == first


# --- evaluation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm1d], ids=["plain", "batch norm"])
def test_scores_are_those_of_the_whole_split_in_evaluation_mode(tmp_path, norm):
    net = network(norm)
    module = learner(net, val=10)
    trainer = fit(module, tmp_path)
    assert [figure.step for figure in module.figures if figure.split == "val"] == [10, 20]
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(losses(module, "val")[-1], rel=1e-6)
    trainer.test(module, verbose=False)
    data = TASK.load(NOWHERE, 0, CPU)
    found = {figure.split: figure.values for figure in module.figures}
    for split in ("val", "test"):
        x, y = data.evaluation(split, 0, 360, torch.float32)
        with torch.no_grad():
            outputs = net.eval()(x)
        assert found[split]["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, y).item(), rel=1e-6)
        assert found[split]["accuracy"] == (outputs.argmax(1) == y).sum().item() / 360


@pytest.mark.parametrize("count", [1, EVALUATION_BATCH - 1, EVALUATION_BATCH, EVALUATION_BATCH + 1, 10_000])
def test_slices_cover_a_split_once(count):
    split = Split(torch.zeros(count, 1), torch.zeros(count))
    data = TaskData(TrainBatches(split, 1, 0, torch.Tensor.to), {"val": split}, torch.Tensor.to)
    slices = Slices(data.slices("val", EVALUATION_BATCH))
    seen = [i for start, stop in slices for i in range(start, stop)]
    assert seen == list(range(count))
    assert len(list(slices)) == len(slices)
    assert all(stop - start <= EVALUATION_BATCH for start, stop in slices)


# --- restarts -------------------------------------------------------------------------------------------------


class SaveAt(Callback):
    """Saves a checkpoint before a chunk, as gradflow's recorder does, and goes on."""

    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_start(self, trainer: Trainer, pl_module: Learner, *_: Any) -> None:
        if pl_module.steps_done == self.step:
            trainer.save_checkpoint(self.file)


ACTING = [
    partial(remedies.gradient_noise, eta=0.001),
    remedies.agc,
    remedies.clip_norm,
    partial(remedies.warmup, steps=9),
]


@pytest.mark.parametrize("saved", [8, 10, 16, 28], ids=lambda step: f"step {step}")
def test_a_restart_goes_on_as_if_nothing_had_happened(tmp_path, saved):
    """Figures, weights and gradient norms from there on, with dropout and remedies; also where a checkpoint falls
    between two looks at the losses (8, 16, 28), whose mean is of all steps since the last one."""
    file = tmp_path / "saved.ckpt"

    def run(*callbacks: Callback, **options: Any) -> tuple[Learner, GradientFlow]:
        torch.manual_seed(len(callbacks))  # a restart's own seed decides nothing
        acting = [make(0) for make in ACTING]
        module = learner(network(nn.BatchNorm1d, 0.1), total=30, log=10, val=16, remedies=acting)
        flow = GradientFlow(every_n_steps=4)
        fit(module, tmp_path, flow, *callbacks, **options)
        return module, flow

    whole, watched = run(SaveAt(saved, file))
    assert file.exists()
    resumed, again = run(ckpt_path=file)
    assert resumed.figures == [figure for figure in whole.figures if figure.step > saved]
    assert same_weights(resumed.network, whole.network)
    rows = [row for row in watched.flow.rows() if row["step"] >= saved]
    assert list(again.flow.rows()) == rows
