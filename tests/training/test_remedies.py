"""Each remedy against its paper's equation, in float64, and in the order in which it was named."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from types import SimpleNamespace

import plain
import pytest
import torch
import yaml
from torch import nn

from gradflow.models.network import Network
from gradflow.resources import conf_dir
from gradflow.rng import stream
from gradflow.training import remedies, schedulers
from gradflow.training.remedy import Remedy

TASK = SimpleNamespace(input_shape=(5,), outputs=3)


def network() -> Network:
    """With gradients of many sizes, in float64; the last bias has none."""
    net = plain.network(5, 3, 2, 6, norm=nn.LayerNorm).double()
    generator = stream(0, "gradients")
    for i, p in enumerate(net.parameters()):
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 10.0 ** (i % 5 - 3)
    net.head.bias.grad = None
    return net


def gradients(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def act(remedy: Remedy, net: Network, step: int = 0) -> dict[str, torch.Tensor]:
    """The gradients after it."""
    remedy.prepare(net, TASK, 100)
    remedy.gradients(list(net.parameters()), step)
    return gradients(net)


# --- clipping -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5, 1.5])
def test_clip_norm(share):
    """Pascanu et al. 2013, algorithm 1: the norm of all together becomes the threshold where it was above it."""
    net = network()
    before = gradients(net)
    norm = math.sqrt(sum(g.square().sum().item() for g in before.values()))
    after = act(remedies.clip_norm(0, max_norm=share * norm), net)
    for name, g in before.items():
        torch.testing.assert_close(after[name], g * min(1.0, share), rtol=1e-12, atol=0)
    assert net.head.bias.grad is None


def test_clip_norm_where_squares_overflow_float32():
    """1e25² is no float32, but the gradient has a direction, and clipped it has the norm asked for."""
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3e25, -4e25])
    remedies.clip_norm(0, max_norm=1.0).gradients([p], 0)
    torch.testing.assert_close(p.grad, torch.tensor([0.6, -0.8]))


def test_clip_norm_leaves_nothing_finite_of_what_is_not():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([1.0, math.nan])
    remedies.clip_norm(0).gradients([p], 0)
    assert not p.grad.isfinite().any()


def test_clip_norm_of_zero_is_zero():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.zeros(2)
    remedies.clip_norm(0).gradients([p], 0)
    assert torch.equal(p.grad, torch.zeros(2))


def test_clip_value():
    net = network()
    before = gradients(net)
    after = act(remedies.clip_value(0, max_value=0.3), net)
    for name, g in before.items():
        expected = [min(0.3, max(-0.3, value)) for value in g.flatten().tolist()]
        assert after[name].flatten().tolist() == expected
    assert any(g.abs().max() > 0.3 for g in before.values())


@pytest.mark.parametrize("convolutional", [False, True])
def test_agc(convolutional):
    """Brock et al. 2021, eq. 3, one unit after another: ‖G_i‖ / max(‖W_i‖, ε) ≤ λ; head and vectors untouched."""
    clip_factor, eps = 0.05, 0.02
    net = network()
    if convolutional:
        net.blocks[0] = nn.Conv2d(2, 4, 3).double()
        generator = stream(0, "kernel")
        net.blocks[0].weight.grad = 0.1 * torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    weights = [p for part in (net.stem, net.blocks) for p in part.parameters() if p.ndim >= 2]
    with torch.no_grad():
        weights[0][2].zero_()  # a unit that starts at 0 can move all the same
        weights[1][1] *= 1e-3
    weights[-1].grad[3].zero_()
    before, changed = gradients(net), 0
    after = act(remedies.agc(0, clip_factor=clip_factor, eps=eps), net)
    for name, p in net.named_parameters():
        if p.grad is None:
            continue
        if name.startswith("head") or p.ndim < 2:
            assert torch.equal(after[name], before[name])
            continue
        for w, g, found in zip(p.detach(), before[name], after[name], strict=True):
            w_norm = max(math.sqrt(sum(x * x for x in w.flatten().tolist())), eps)
            g_norm = math.sqrt(sum(x * x for x in g.flatten().tolist()))
            factor = clip_factor * w_norm / g_norm if g_norm / w_norm > clip_factor else 1.0
            torch.testing.assert_close(found, g * factor, rtol=1e-12, atol=0)
            changed += factor < 1
    units = sum(len(w) for w in weights)
    assert 0 < changed < units


# --- noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "eta", "gamma"), [(0, 0.01, 0.55), (9, 0.3, 0.55), (99, 1.0, 1.0)])
def test_noise(step, eta, gamma):
    """Neelakantan et al. 2015, eq. 1: mean 0, variance η/(1+t)^γ, within five standard errors of 200,000 draws."""
    count = 200_000
    p = nn.Parameter(torch.zeros(count, dtype=torch.float64))
    p.grad = torch.full((count,), 7.0, dtype=torch.float64)
    remedies.gradient_noise(3, eta=eta, gamma=gamma).gradients([p], step)
    noise = p.grad - 7.0
    variance = eta / (1 + step) ** gamma
    assert abs(noise.mean().item()) < 5 * math.sqrt(variance / count)
    assert noise.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / count))


def test_noise_is_a_function_of_seed_and_step_alone():
    """Two processes, or a run that goes on after a restart, add the same; torch's generator is not touched."""
    nets = [network() for _ in range(5)]
    before, state = gradients(nets[0]), torch.get_rng_state()
    here, there = remedies.gradient_noise(3), remedies.gradient_noise(3)
    act(here, nets[0], step=4)
    first, second = act(here, nets[1], step=5), act(there, nets[2], step=5)
    assert all(torch.equal(first[name], second[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), state)
    others = act(there, nets[3], step=6), act(remedies.gradient_noise(4), nets[4], step=5)
    for name, g in before.items():
        drawn = [found[name] - g for found in (first, *others)]
        assert len({tuple(noise.flatten().tolist()) for noise in drawn}) == 3
    noises = torch.cat([(first[name] - g).flatten() for name, g in before.items()])
    assert len(noises.unique()) == len(noises)  # no two parameters get the same
    assert "head.bias" not in first


# --- order ----------------------------------------------------------------------------------------------------


def test_remedies_act_in_the_order_in_which_they_are_named():
    """Clipped after the noise the norm is the threshold; noise after clipping adds to it what it adds to anything."""
    threshold = 0.5
    clip, noise = remedies.clip_norm(0, max_norm=threshold), remedies.gradient_noise(0, eta=0.3)

    def flat(first: Remedy, second: Remedy) -> torch.Tensor:
        net = network()
        act(first, net)
        return torch.cat([g.flatten() for g in act(second, net).values()])

    g = torch.cat([g.flatten() for g in gradients(network()).values()])
    added = torch.cat([g.flatten() for g in act(noise, network()).values()]) - g
    torch.testing.assert_close(flat(clip, noise), g * threshold / g.norm() + added, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(flat(noise, clip), (g + added) * threshold / (g + added).norm(), rtol=1e-9, atol=1e-12)


# --- warm-up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
def test_warm_up(name, steps):
    """The first `steps` steps rise in equal parts, and the schedule runs its whole course over the rest."""
    schedule, total = getattr(schedulers, name), 40
    warmed = remedies.warmup(0, steps=steps).schedule(schedule)
    factors = [warmed(step, total) for step in range(total)]
    assert factors[: steps + 1] == pytest.approx([(k + 1) / (steps + 1) for k in range(steps + 1)], rel=1e-12)
    assert factors[steps:] == [schedule(step, total - steps) for step in range(total - steps)]


@pytest.mark.parametrize("total", [1, 3, 4])
def test_a_run_of_nothing_but_warm_up(total):
    warmed = remedies.warmup(0, steps=4).schedule(schedulers.cosine)
    assert [warmed(k, total) for k in range(total)] == pytest.approx([0.2, 0.4, 0.6, 0.8][:total])


def test_other_remedies_leave_the_schedule_alone():
    for name in ("clip_norm", "clip_value", "agc", "gradient_noise", "layerwise_pretraining"):
        assert getattr(remedies, name)(0).schedule(schedulers.cosine) is schedulers.cosine


# --- files ----------------------------------------------------------------------------------------------------

FILES = [file for group in ("remedy", "scheduler") for file in sorted((Path(conf_dir()) / group).glob("*.yaml"))]


@pytest.mark.parametrize("file", [file for file in FILES if file.stem != "none"], ids=lambda file: file.stem)
def test_config_files_have_every_key_with_its_default(file):
    keys = yaml.safe_load(file.read_text())
    module = {"remedy": remedies, "scheduler": schedulers}[file.parent.name]
    assert keys.pop("_target_") == f"{module.__name__}.{file.stem}"
    parameters = inspect.signature(getattr(module, file.stem)).parameters.values()
    assert keys == {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    if file.parent.name == "remedy":
        assert file.read_text().startswith(f"# @package remedy.{file.stem}\n")
