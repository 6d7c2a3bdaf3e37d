"""What is seen inside several networks at once is what each shows by itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from gradflow.instruments.flow import Flow
from gradflow.instruments.members import MembersUpdate

MODELS = 3
CHEAP = {"grad_norm": 2, "delta_norm": 2, "activation_stats": 1, "derivative_chain": 3, "update_ratio": 2}
CHEAP |= {"weight_norm": 4, "loss_curve": 1}


class Twice(nn.Module):
    """A block that calls its activation twice, once in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Linear(5, 5), nn.Linear(5, 5), nn.ReLU(inplace=True)

    def forward(self, x):
        return x + self.act(self.second(self.act(self.first(x))))


class Net(nn.Module):
    """Of a stem, blocks and a head, with ends beside saturation, dead units and a norm with running statistics."""

    def __init__(self, seed: int, activation: type[nn.Module] = nn.Tanh) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Linear(4, 5)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), activation()), Twice()])
        self.head = nn.Linear(5, 2)
        with torch.no_grad():
            self.blocks[1].first.bias[0] = -100.0  # a unit that is silent
            self.blocks[0][0].weight *= 10  # and some that saturate

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def loss_of(model, x):
    return model(x).square().mean()


def batch(step: int, k: int) -> torch.Tensor:
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(100 * step + k), dtype=torch.float64)


def flows(models, instruments, clipped=False) -> list[Flow]:
    return [Flow(model, instruments=instruments, clipped=clipped) for model in models]


def optimizers(models) -> list[torch.optim.Optimizer]:
    return [torch.optim.SGD(model.parameters(), lr=0.1 * (k + 1)) for k, model in enumerate(models)]


def clip(gradients) -> None:
    for gradient in gradients:
        gradient.clamp_(-0.01, 0.01)


def alone(steps: int, instruments=CHEAP, clipped=False) -> list[Flow]:
    models = [Net(k).double() for k in range(MODELS)]
    told = flows(models, instruments, clipped)
    for k, (model, flow, optimizer) in enumerate(zip(models, told, optimizers(models), strict=True)):
        flow.session.begin()
        for step in range(steps):
            optimizer.zero_grad()
            loss = loss_of(model, batch(step, k))
            flow.loss(loss)
            loss.backward()
            update = flow.session.before(optimizer, step)
            if clipped:
                clip([p.grad for p in model.parameters()])
            optimizer.step()
            flow.session.after(optimizer, update)
        flow.session.end()
    return told


def together(steps: int, instruments=CHEAP, clipped=False, first_alone: int = 1) -> list[Flow]:
    models = [Net(k).double() for k in range(MODELS)]
    told, each = flows(models, instruments, clipped), optimizers(models)
    sessions = [flow.session for flow in told]
    for step in range(steps):
        if step < first_alone:
            assert sessions[0].needs(step) == "inside"
            for k, (model, session) in enumerate(zip(models, sessions, strict=True)):
                session.begin(step)
                each[k].zero_grad()
                loss = loss_of(model, batch(step, k))
                told[k].loss(loss)
                loss.backward()
                update = session.before(each[k], step)
                if clipped:
                    clip([p.grad for p in model.parameters()])
                each[k].step()
                session.after(each[k], update)
                session.end()
            continue
        assert sessions[0].needs(step) == "members"
        parameters = {
            name: torch.stack([dict(m.named_parameters())[name].detach() for m in models]).requires_grad_()
            for name, _ in models[0].named_parameters()
        }
        buffers = {
            name: torch.stack([dict(m.named_buffers())[name] for m in models]) for name, _ in models[0].named_buffers()
        }
        update = MembersUpdate(sessions, each, step)
        x_KB = torch.stack([batch(step, k) for k in range(MODELS)])

        def of_one(parameters, buffers, x):
            return functional_call(models[0], (parameters, buffers), (x,)).square().mean()

        if update.taps is None:
            losses = vmap(of_one)(parameters, buffers, x_KB)
        else:
            with update.taps:
                losses = vmap(of_one)(parameters, buffers, x_KB)
        outputs = [] if update.taps is None else [h for _, h in update.taps.outputs]
        found = torch.autograd.grad(losses.sum(), [*parameters.values(), *outputs])
        gradients = dict(zip(parameters, found, strict=False))

        def by_parameter(k=None, gradients=gradients):
            named = dict(models[k or 0].named_parameters())
            return {id(named[n]): g if k is None else g[k] for n, g in gradients.items()}

        update.before(by_parameter(), by_parameter, found[len(parameters) :])
        if clipped:
            clip(gradients.values())
        update.clipped(by_parameter())
        with torch.no_grad():
            for k, model in enumerate(models):
                for name, parameter in model.named_parameters():
                    parameter -= each[k].param_groups[0]["lr"] * gradients[name][k]
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name][k])
        update.after()
        for k, session in enumerate(sessions):
            session.passed(each[k], step, losses[k : k + 1], {step: update.seen[k]})
            assert session.steps_taken(each[k]) == step + 1
    return told


def assert_alike(ours: list[Flow], theirs: list[Flow]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        rows, wanted = list(one.rows()), list(other.rows())
        assert [{**row, "value": 0} for row in rows] == [{**row, "value": 0} for row in wanted]
        assert [r["value"] for r in rows] == pytest.approx([r["value"] for r in wanted], rel=1e-9, abs=1e-12)


def test_every_row_of_every_model_is_there_in_its_place():
    ours = together(13)
    assert_alike(ours, alone(13))
    quantities = {row["quantity"] for row in ours[0].rows()}
    assert {
        "delta_norm",
        "activation_saturated",
        "activation_dead",
        "slope_chain",
        "update_ratio",
        "loss",
    } <= quantities
    dead = [row["value"] for row in ours[0].rows() if row["quantity"] == "activation_dead"]
    assert max(dead) > 0  # the silent unit, after a window of measurements by several at once


def test_norms_after_clipping_come_where_they_would():
    ours = together(5, clipped=True)
    assert_alike(ours, alone(5, clipped=True))
    assert any(row["quantity"] == "grad_norm_clipped" for row in ours[0].rows())


def test_what_they_remember_goes_back_to_each():
    told = together(9)
    states = [next(i for i in f.session.instruments if i.name == "activation_stats").state_dict() for f in told]
    assert states[0]["made"].keys() == {"blocks.00|blocks.0.2|5", "blocks.01|blocks.1.act|5"}
    for one, other in itertools.pairwise(states):
        assert {key: int(made) for key, made in one["made"].items()} == dict.fromkeys(one["made"], 9)
        assert one["silent"].keys() == other["silent"].keys()
    silent = states[0]["silent"]["blocks.01|blocks.1.act|5"]
    assert silent.shape == (5,)  # of one model


@pytest.mark.parametrize("name", ["jacobian_spectrum", "gradient_similarity", "effective_rank", "gradient_noise"])
def test_what_cannot_look_at_several_at_once_asks_for_one(name):
    session = Flow(Net(0), instruments={name: 2, "grad_norm": 1}).session
    session.begin()
    assert session.needs(0) == session.needs(2) == "inside"
    session.end()


def test_an_activation_with_numbers_of_its_own_is_refused():
    models = [Net(k, nn.PReLU) for k in range(2)]
    told, each = flows(models, {"activation_stats": 1}), optimizers(models)
    for k, (model, flow) in enumerate(zip(models, told, strict=True)):
        flow.session.begin()
        loss_of(model, torch.ones(3, 4)).backward()
        flow.session.after(each[k], flow.session.before(each[k], 0))
        flow.session.end()
    with pytest.raises(ValueError, match="PReLU is watched in one network at a time"):
        MembersUpdate([flow.session for flow in told], each, 1)


def test_hooks_are_gone_afterwards():
    models = [Net(k) for k in range(2)]
    told, each = flows(models, {"activation_stats": 1, "delta_norm": 1}), optimizers(models)
    told[0].session.begin()
    loss_of(models[0], torch.ones(3, 4)).backward()
    told[0].session.after(each[0], told[0].session.before(each[0], 0))
    told[0].session.end()
    update = MembersUpdate([flow.session for flow in told], each, 1)
    assert update.taps is not None
    with update.taps:
        assert any(m._forward_hooks or m._forward_pre_hooks for m in models[0].modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in models[0].modules())
