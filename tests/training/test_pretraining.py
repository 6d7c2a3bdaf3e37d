"""Greedy layer-wise pre-training: against a loop in bare PyTorch, against PCA, level by level, and after a restart."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import plain
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.nn import functional

from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.tasks.digits import digits
from gradflow.training import remedies, schedulers
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner, Progress
from gradflow.training.optimizers import adam, adamw, sgd
from gradflow.training.pretraining import LayerwisePretraining

pytestmark = pytest.mark.filterwarnings("ignore")
TASK, NOWHERE, CPU = digits(), Path("unused"), torch.device("cpu")
TOTAL, LEVELS = 43, 4  # 22 steps of pre-training, in parts of 5, 6, 5, 6
CUTS = [0, 5, 11, 16, 22]
MOMENTUM = partial(sgd, lr=0.05, momentum=0.9, weight_decay=1e-2)
OBJECTIVES = ["autoencoder", "supervised"]


def learner(net: Network, *more_remedies: Any, objective: str = "autoencoder", **options: Any) -> Learner:
    return Learner(
        net,
        TASK,
        lambda device, rank, world: TASK.load(NOWHERE, 0, device, rank, world),
        options.pop("make", MOMENTUM),
        options.pop("schedule", schedulers.constant),
        Budget(TOTAL, options.pop("log", 1), options.pop("val", 10**6), 10**6),
        [remedies.layerwise_pretraining(0, objective=objective), *more_remedies],
    )


def fit(module: Learner, folder: Path, *callbacks: Callback, **options: Any) -> None:
    names = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger", "use_distributed_sampler")
    quiet = {**dict.fromkeys(names, False), "num_sanity_val_steps": 0, "max_epochs": -1}
    trainer = Trainer(accelerator="cpu", devices=1, callbacks=list(callbacks), default_root_dir=folder, **quiet)
    trainer.fit(module, weights_only=True, **options)


def trained(module: Learner) -> list[Progress]:
    return [figure for figure in module.figures if figure.split in ("pretrain", "train")]


def prepared(net: Network, objective: str, input_shape: tuple[int, ...], share: float = 0.5, total: int = 40) -> Any:
    remedy = remedies.layerwise_pretraining(0, objective=objective, share=share)
    task = SimpleNamespace(input_shape=input_shape, outputs=3, loss=functional.cross_entropy)
    remedy.prepare(net, task, total)
    return remedy.pretraining


class AtEachStage(Callback):
    """What the learner holds when a stage begins."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Learner, *_: Any) -> None:
        if pl_module.steps_done in CUTS:
            self.seen[pl_module.steps_done] = copy.deepcopy(pl_module.state_dict())


# --- against a loop by hand -------------------------------------------------------------------------------------


def by_hand(net: Network, maps: nn.ModuleList, objective: str, factor: Callable[[int], float]) -> list[float]:
    """Bengio et al. 2007 in bare PyTorch: an optimiser for each level, then one for everything."""
    batches, levels, seen = TASK.load(NOWHERE, 0, CPU).train, [net.stem, *net.blocks], []

    def train(parts: list[nn.Module], maps: list[nn.Module], steps: range, loss_of: Callable[..., Any]) -> None:
        own = [p for part in parts for p in part.parameters()]
        groups = [
            {"params": [p for p in own if p.ndim > 1], "weight_decay": 1e-2},
            {"params": [p for p in own if p.ndim == 1] + [p for part in maps for p in part.parameters()]},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, fused=True)
        for step in steps:
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * factor(step)
            optimizer.zero_grad()
            loss = loss_of(*batches(step))
            loss.backward()
            optimizer.step()
            seen.append(loss.item())

    for level in range(LEVELS):

        def loss_of(x: torch.Tensor, y: torch.Tensor, level: int = level) -> torch.Tensor:
            with torch.no_grad():
                for below in levels[:level]:
                    x = below(x)
            made = functional.linear(levels[level](x), maps[level].weight, maps[level].bias)
            if objective == "supervised":
                return functional.cross_entropy(made, y)
            return functional.mse_loss(made, x.flatten(1))

        train([levels[level]], [maps[level]], range(CUTS[level], CUTS[level + 1]), loss_of)
    train([net], [], range(CUTS[-1], TOTAL), lambda x, y: functional.cross_entropy(net(x), y))
    return seen


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm1d], ids=["plain", "batch norm"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_bit_for_bit(tmp_path, objective, norm):
    """Every loss and the final weights, the warm-up and the cosine of fine-tuning included."""
    net = plain.network(norm=norm)
    other = copy.deepcopy(net)
    module = learner(net, remedies.warmup(0, steps=3), objective=objective, schedule=schedulers.cosine)
    maps = copy.deepcopy(module.pretraining.maps)
    fit(module, tmp_path)
    left = TOTAL - CUTS[-1] - 3

    def factor(step: int) -> float:
        k = step - CUTS[-1]
        return 1.0 if k < 0 else (k + 1) / 4 if k < 3 else (1 + math.cos(math.pi * ((k - 3) / left))) / 2

    expected = by_hand(other, maps, objective, factor)
    assert [figure.values["loss"] for figure in trained(module)] == expected
    for ours, theirs in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


MAKERS = {
    "momentum": MOMENTUM,
    "adam": partial(adam, lr=0.01, weight_decay=0.1),
    "adamw": partial(adamw, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("make", MAKERS)
def test_only_what_is_trained_moves(tmp_path, make, objective):
    """A level and its map in its own stage, exactly; then the network, and no map. Of batch normalisation, the levels
    above keep even their statistics."""
    net, watched = plain.network(norm=nn.BatchNorm1d), AtEachStage()
    module = learner(net, remedies.clip_norm(0), objective=objective, make=MAKERS[make])
    fit(module, tmp_path, watched)
    states = [watched.seen[cut] for cut in CUTS] + [module.state_dict()]
    levels = ["network.stem.", *(f"network.blocks.{i}." for i in range(LEVELS - 1))]
    parameters = dict(module.named_parameters())
    for stage in range(LEVELS):
        before, after = states[stage], states[stage + 1]
        mine = (levels[stage], f"pretraining.maps.{stage}.")
        for name, value in after.items():
            same = torch.equal(value, before[name])
            if name in parameters:
                assert same != name.startswith(mine), (stage, name)
            elif not name.startswith(tuple(levels[: stage + 1])):
                assert same, (stage, name)
    for name in parameters:
        assert torch.equal(states[-2][name], states[-1][name]) == name.startswith("pretraining."), name


# --- objectives -------------------------------------------------------------------------------------------------


def test_a_linear_autoencoder_reaches_what_pca_leaves():
    """Its smallest mean squared error is the sum of the variances that the first k principal components leave, ÷ d
    (Baldi & Hornik 1989)."""
    generator = stream(0, "pca")
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.3, 0.1])
    x = x @ torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    x = x - x.mean(0)
    net = Network(nn.Linear(6, 2), [nn.Linear(2, 2)], nn.Linear(2, 3)).double()
    plain.fill(net, gain=1.0)
    pretraining = prepared(net, "autoencoder", (6,)).double()
    optimizer = torch.optim.LBFGS(
        [*net.stem.parameters(), *pretraining.maps[0].parameters()], max_iter=500, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = pretraining.loss(net, 0, x, x)
        loss.backward()
        return loss

    at_first = closure().item()
    optimizer.step(closure)
    variances = torch.linalg.svdvals(x).square() / len(x)
    left = variances[2:].sum().item() / 6
    assert closure().item() == pytest.approx(left, rel=1e-6)
    assert at_first > 3 * left


class Pool(nn.Module):
    """A convolution that halves height and width."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x).relu()


class EverySecond(nn.Module):
    """A linear map of every second token."""

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.map = nn.Linear(features_in, features_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x[:, ::2]).relu()


class MeanOverPositions(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2) if x.ndim == 4 else x.mean(1)


class Patches(nn.Module):
    """Images to tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).transpose(1, 2)


def images() -> Network:
    """Levels with 2×7×6 → 4×4×3 → 5×2×2 → 6 elements."""
    blocks = [Pool(4, 5), nn.Sequential(MeanOverPositions(), nn.Linear(5, 6))]
    return Network(Pool(2, 4), blocks, nn.Linear(6, 3)).double()


def tokens() -> Network:
    """Levels with 7×2 → 4×4 → 2×5 elements."""
    return Network(EverySecond(2, 4), [EverySecond(4, 5)], nn.Sequential(MeanOverPositions(), nn.Linear(5, 3))).double()


CASES = {"images": (images, (2, 7, 6)), "tokens": (tokens, (7, 2))}


def batch(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(8, *shape, generator=stream(0, "x"), dtype=torch.float64)
    return x, torch.arange(8) % 3


@pytest.mark.parametrize("case", CASES)
def test_the_autoencoder_s_loss(case):
    """Nearest interpolation to the input's size, then a 1×1 convolution; a vector goes back to all elements."""
    make, shape = CASES[case]
    net = make()
    plain.fill(net)
    x, y = batch(shape)
    pretraining = prepared(net, "autoencoder", shape).double()
    for level, module in enumerate([net.stem, *net.blocks]):
        h, weight = module(x), pretraining.maps[level].weight
        if h.ndim == 2:
            expected = (h @ weight.T).unflatten(1, x.shape[1:])
        elif h.ndim == 4:
            expected = functional.conv2d(functional.interpolate(h, x.shape[2:]), weight[:, :, None, None])
        else:
            nearest = [i * h.shape[1] // x.shape[1] for i in range(x.shape[1])]
            expected = h[:, nearest] @ weight.T
        found = pretraining.loss(net, level, batch(shape)[0], y)
        torch.testing.assert_close(found, (expected - x).square().mean(), rtol=1e-12, atol=0)
        x = h.detach()


@pytest.mark.parametrize("case", CASES)
def test_the_supervised_loss(case):
    """The task's loss of a linear map of the mean over positions; its gradient reaches this level and map alone."""
    make, shape = CASES[case]
    net = make()
    plain.fill(net)
    x, y = batch(shape)
    pretraining = prepared(net, "supervised", shape).double()
    h = x
    for level, module in enumerate([net.stem, *net.blocks]):
        h = module(h)
        mean = h.mean((2, 3)) if h.ndim == 4 else h.mean(1) if h.ndim == 3 else h
        found = pretraining.loss(net, level, x, y)
        expected = functional.cross_entropy(mean @ pretraining.maps[level].weight.T, y)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        found.backward()
        reached = {id(p) for p in [*net.parameters(), *pretraining.parameters()] if p.grad is not None}
        assert reached == {id(p) for part in (module, pretraining.maps[level]) for p in part.parameters()}
        net.zero_grad()
        pretraining.zero_grad()


def test_maps_are_drawn_with_the_variance_of_their_fan_in_from_a_stream_of_their_own():
    """Var W = 1/fan_in within five standard errors, biases 0; by (seed, level), whatever else was drawn."""
    net = plain.network(300, width=400, depth=2)
    maps = prepared(net, "autoencoder", (300,)).maps
    for each in maps:
        count = each.weight.numel()
        assert each.weight.var().item() == pytest.approx(1 / each.in_features, rel=5 * math.sqrt(2 / count))
        assert not each.bias.any()
    torch.rand(3)
    again = prepared(net, "autoencoder", (300,)).maps
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(maps, again, strict=True))
    assert not torch.equal(maps[1].weight, maps[2].weight)


# --- preparation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "share", "depth", "steps"), [(40, 0.5, 3, 20), (43, 0.5, 3, 22), (1000, 0.1, 29, 100), (11, 0.99, 9, 10)]
)
def test_stages_cover_the_share_evenly_and_leave_a_step_to_fine_tune(total, share, depth, steps):
    stages = prepared(plain.network(depth=depth), "autoencoder", (64,), share, total).stages
    assert len(stages) == depth + 1
    assert [step for s in stages for step in range(s.start, s.stop)] == list(range(steps))
    lengths = {s.stop - s.start for s in stages}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1


@pytest.mark.parametrize("share", [0.0, 0.07])
def test_a_level_without_a_step_is_refused(share):
    told = rf"^remedy\.layerwise_pretraining\.share={share}: {round(share * 40)} of 40 steps .*lower depth$"
    with pytest.raises(ValueError, match=told):
        prepared(plain.network(), "autoencoder", (64,), share)


def test_an_image_that_becomes_tokens_cannot_be_reconstructed_linearly():
    net = Network(nn.Sequential(Patches(), nn.Linear(2, 4)), [nn.Linear(4, 4)], nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"^remedy\.layerwise_pretraining\.objective=autoencoder: [^\n]+$") as caught:
        prepared(net, "autoencoder", (2, 5, 6))
    for part in ("level 0", "[30, 4]", "[2, 5, 6]", "use remedy.layerwise_pretraining.objective=supervised"):
        assert part in str(caught.value)
    assert len(prepared(net, "supervised", (2, 5, 6)).maps) == 2


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_preparing_needs_no_memory_and_changes_nothing(objective):
    """On the meta device, as a plan is checked; and on the CPU without a trace in statistics or generators."""
    with torch.device("meta"):
        there = plain.network(norm=nn.BatchNorm1d, dropout=0.1)
        maps = prepared(there, objective, (64,)).maps
    assert {p.device.type for p in maps.parameters()} == {"meta"}
    net = plain.network(norm=nn.BatchNorm1d, dropout=0.1)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    here = prepared(net, objective, (64,)).maps
    assert [p.shape for p in here.parameters()] == [p.shape for p in maps.parameters()]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_two_kinds_of_pre_training_are_refused():
    with pytest.raises(ValueError, match="two kinds of pre-training"):
        learner(plain.network(), LayerwisePretraining(0, "supervised", 0.5))


# --- in a run ---------------------------------------------------------------------------------------------------


def test_what_is_logged(tmp_path):
    """At each interval and where a stage ends: the mean loss of one objective, with its level; 'train' only after."""
    each, rare = (learner(plain.network(), log=log) for log in (1, 4))
    fit(each, tmp_path)
    fit(rare, tmp_path)
    losses = [figure.values["loss"] for figure in trained(each)]
    ends = sorted({*range(4, TOTAL, 4), *CUTS[1:], TOTAL})
    assert [figure.step for figure in trained(rare)] == ends
    for start, figure in zip([0, *ends], trained(rare), strict=False):
        level = next((k for k in range(LEVELS) if figure.step <= CUTS[k + 1]), None)
        assert figure.split == ("train" if level is None else "pretrain")
        assert figure.values.get("level") == level
        part = losses[start : figure.step]
        assert figure.values["loss"] == pytest.approx(sum(part) / len(part), rel=1e-12)
    names = [*(f"pretraining level {k}" for k in range(LEVELS)), "fine-tuning"]
    cuts = zip([*CUTS], [*CUTS[1:], TOTAL], strict=True)
    assert rare.stages == [
        {"name": name, "start": start, "stop": stop} for name, (start, stop) in zip(names, cuts, strict=True)
    ]


def test_divergence_in_pre_training_is_dated_to_the_step(tmp_path):
    net = plain.network()
    with torch.no_grad():
        net.blocks[1][0].weight.fill_(torch.nan)
    module = learner(net, log=4)
    fit(module, tmp_path)
    assert module.diverged_at == CUTS[2]
    assert [figure.step for figure in module.figures] == [4, 5, 8, 11]


class SaveAt(Callback):
    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_start(self, trainer: Trainer, pl_module: Learner, *_: Any) -> None:
        if pl_module.steps_done == self.step:
            trainer.save_checkpoint(self.file)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("saved", [5, 8, 16, 22, 28], ids=lambda step: f"step {step}")
def test_a_restart_goes_on_as_if_nothing_had_happened(tmp_path, saved, make):
    """In the middle of a level, between two, where fine-tuning starts, and in it; with dropout and batch statistics."""
    file = tmp_path / "saved.ckpt"

    def run(*callbacks: Callback, **options: Any) -> Learner:
        torch.manual_seed(len(callbacks))
        acting = [remedies.clip_norm(0), remedies.gradient_noise(0, eta=1e-4), remedies.warmup(0, steps=4)]
        net = plain.network(norm=nn.BatchNorm1d, dropout=0.1)
        module = learner(net, *acting, make=MAKERS[make], log=4, val=10)
        fit(module, tmp_path, *callbacks, **options)
        return module

    whole = run(SaveAt(saved, file))
    assert file.exists()
    resumed = run(ckpt_path=file)
    assert resumed.figures == [figure for figure in whole.figures if figure.step > saved]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
