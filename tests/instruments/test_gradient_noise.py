"""Noise and signal of gradients against gradients of single examples, one backward pass each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import Checkpointed, batches, network, numbers, of, train, under

from gradflow.instruments import gradient_noise
from gradflow.instruments.blocks import find_blocks
from gradflow.instruments.flow import Flow, watch
from gradflow.instruments.gradient_noise import GradientNoise
from gradflow.rng import stream


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=stream(0, "noise"), dtype=torch.float64)


def filled(model: nn.Module) -> nn.Module:
    generator = stream(0, "weights")
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / max(1, p[0].numel()) ** 0.5)
    return model


def look(model: nn.Module, loss: Callable[[], Tensor], examples: int = 32) -> dict[str, dict[str, float]]:
    """Both quantities by block, of one step."""
    instrument = GradientNoise()
    instrument.examples = examples
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=[instrument]) as flow:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    found = numbers(flow)
    return {quantity: of(found, quantity) for quantity in ("gradient_snr", "gradient_noise_scale")}


def explicit(model: nn.Module, losses: Tensor, batch: int | None = None) -> dict[str, dict[str, float]]:
    """From the gradient of each example's own loss."""
    blocks = find_blocks(model)
    gradients = [
        torch.autograd.grad(each, list(model.parameters()), retain_graph=True, allow_unused=True) for each in losses
    ]
    place = {id(p): i for i, p in enumerate(model.parameters())}
    traces: dict[str, tuple[Tensor, Tensor]] = {}
    for block in blocks:
        rows = torch.stack([torch.cat([g[place[id(p)]].flatten() for p in block.parameters]) for g in gradients])
        traces[block.name] = estimates(rows)
    traces["all"] = tuple(sum(pair) for pair in zip(*traces.values(), strict=True))
    count = len(losses) if batch is None else batch
    return {
        "gradient_snr": {name: (count * signal / trace).item() for name, (trace, signal) in traces.items()},
        "gradient_noise_scale": {n: (trace / signal).item() for n, (trace, signal) in traces.items() if signal > 0},
    }


def estimates(rows: Tensor) -> tuple[Tensor, Tensor]:
    trace = rows.var(0, correction=1).sum()
    return trace, rows.mean(0).square().sum() - trace / len(rows)


def agree(model: nn.Module, x: Tensor, criterion: Callable[[Tensor], Tensor] | None = None, rel: float = 1e-9) -> None:
    """`criterion`: one loss per example."""
    each = criterion or (lambda h: (h.flatten(1) - 1).square().sum(1))
    expected = explicit(model, each(model(x)))
    found = look(model, lambda: each(model(x)).mean())
    for quantity, by_block in expected.items():
        assert found[quantity] == pytest.approx(by_block, rel=rel)


# --- against the gradients of single examples -----------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [3, 200], ids=["by gradients", "by products"])
def test_linear_layers(bias, width):
    model = filled(nn.Sequential(nn.Linear(5, width, bias), nn.Tanh(), nn.Linear(width, 300, bias)))
    agree(model, noise(12, 5))


@pytest.mark.parametrize("width", [3, 200], ids=["by gradients", "by products"])
def test_sequences(width):
    """A map applied at every position of [examples, time, features]."""
    agree(filled(nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))), noise(4, 6, width))


def test_long_sequences_are_reduced_at_once(monkeypatch):
    monkeypatch.setattr(gradient_noise, "KEPT", 10)
    monkeypatch.setattr(gradient_noise, "CHUNK", 50)
    agree(filled(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))), noise(7, 6, 4))


CONVOLUTIONS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(2, 3, 3), (9,)),
    (nn.Conv2d(2, 3, 3, padding=1), (5, 6)),
    (nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), bias=False), (7, 5)),
    (nn.Conv2d(2, 4, 3, dilation=2, padding="same"), (6, 5)),
    (nn.Conv2d(2, 4, 2, padding="valid"), (4, 5)),
    (nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 5)),
    (nn.Conv2d(4, 8, 3, groups=4, stride=2), (5, 5)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (4, 5)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (4, 5)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate", stride=2), (5, 5)),
    (nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=(0, 1, 1)), (3, 4, 3)),
]


@pytest.mark.parametrize("chunk", [2**22, 100])
@pytest.mark.parametrize(("layer", "size"), CONVOLUTIONS, ids=lambda v: repr(v)[:70])
def test_convolutions(layer, size, chunk, monkeypatch):
    monkeypatch.setattr(gradient_noise, "CHUNK", chunk)
    agree(filled(nn.Sequential(layer, nn.Tanh())), noise(6, layer.in_channels, *size))


def test_a_convolutional_network():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 3),
    )
    y = torch.arange(8) % 3
    agree(filled(model), noise(8, 1, 8, 8), lambda h: functional.cross_entropy(h, y, reduction="none"))


class Recurrent(nn.Module):
    """One linear map called at every time step, and one block of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x_BTF: Tensor) -> Tensor:
        h = x_BTF.new_zeros(len(x_BTF), 4)
        for x in x_BTF.unbind(1):
            h = torch.tanh(self.cell(torch.cat([x, h], 1)))
        return self.head(h)


def test_a_map_that_is_called_at_every_step():
    agree(filled(Recurrent()), noise(5, 7, 2))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 6), nn.Linear(6, 4, bias=False), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.second(torch.tanh(self.first(x))))


def test_a_block_of_several_maps():
    model = filled(nn.Sequential(Residual(), Residual(), nn.Linear(4, 2)))
    x = noise(9, 4)

    def losses() -> Tensor:
        return (model(x) - 1).square().sum(1)

    gradients = [torch.autograd.grad(each, list(model[1].parameters()), retain_graph=True) for each in losses()]
    trace, signal = estimates(torch.stack([torch.cat([g.flatten() for g in each]) for each in gradients]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=["gradient_noise"], blocks=["0", "1", "2"]) as flow:
        losses().mean().backward()
        optimizer.step()
    assert numbers(flow)[0, "1", "gradient_snr"] == pytest.approx((9 * signal / trace).item(), rel=1e-9)


def test_frozen_parameters_do_not_count():
    model = filled(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    model[0].bias.requires_grad_(False)
    x = noise(8, 5)
    losses = (model(x) - 1).square().sum(1)
    rows = torch.stack([torch.autograd.grad(each, model[0].weight, retain_graph=True)[0].flatten() for each in losses])
    trace, signal = estimates(rows)
    found = look(model, lambda: (model(x) - 1).square().sum(1).mean())
    assert found["gradient_snr"]["0"] == pytest.approx((8 * signal / trace).item(), rel=1e-9)


# --- what the estimates estimate ------------------------------------------------------------------------------


def test_without_bias():
    """A linear model on Gaussian data: averages over many batches are tr Σ and |G|² themselves."""
    features, n, true = 3, 8, torch.tensor([[1.0, -0.5, 0.25]], dtype=torch.float64)
    model, x = nn.Linear(features, 1, bias=False).double(), noise(4000, n, features)
    with torch.no_grad():
        model.weight.zero_()
    # ℓ = ½(w·x − y)², y = w*·x + ε: g = −x y, E g = −w*, E‖g‖² = (F + 2)|w*|² + F
    y = x @ true.T + torch.randn(4000, n, 1, generator=stream(1, "ε"), dtype=torch.float64)
    instrument = GradientNoise()
    instrument.bind(model, find_blocks(model))
    (block,) = instrument.blocks
    found = []
    for i in range(4000):
        handle = (h := model(x[i])).register_hook(lambda d, i=i: instrument.mapped(block, model, x[i], d))
        (0.5 * (h - y[i]).square()).mean().backward()
        handle.remove()
        found.append(instrument._estimates()[0])
        instrument._passes.clear()
    trace, signal = torch.stack(found).mean(0)
    square = true.square().sum().item()
    assert signal.item() == pytest.approx(square, rel=0.05)
    assert trace.item() == pytest.approx((features + 2) * square + features - square, rel=0.05)


def test_a_signal_below_zero_has_an_snr_and_no_scale():
    """Opposite gradients: their mean is 0, so that |G|² is estimated below 0."""
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    found = look(model, lambda: model(x).mean())
    assert found["gradient_snr"]["model"] == pytest.approx(2 * -0.5)
    assert found["gradient_noise_scale"] == {}


def test_equal_examples_and_one_example_are_absent():
    model = nn.Linear(2, 1).double()
    one = torch.ones(1, 2, dtype=torch.float64)
    assert look(model, lambda: model(one).mean()) == {"gradient_snr": {}, "gradient_noise_scale": {}}


def test_only_the_first_examples_but_the_whole_batch_s_ratio():
    model, x = filled(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))), noise(20, 5)
    expected = explicit(model, (model(x[:6]) - 1).square().sum(1), batch=20)
    found = look(model, lambda: (model(x) - 1).square().sum(1).mean(), examples=6)
    assert found["gradient_snr"] == pytest.approx(expected["gradient_snr"], rel=1e-9)


def test_a_sum_of_losses_gives_the_same_ratios():
    found = []
    for reduce in (torch.mean, torch.sum):
        model, x = filled(nn.Linear(5, 3)), noise(8, 5)
        found.append(look(model, lambda m=model, x=x, r=reduce: r((m(x) - 1).square().sum(1)))["gradient_snr"])
    assert found[1] == pytest.approx(found[0], rel=1e-10)


@pytest.mark.parametrize("size", [1e-30, 1e-19, 1e15])
def test_no_scale(size):
    """In float32, where the square of 1e-30 is 0."""
    layers = [nn.Sequential(nn.Linear(5, 200), nn.Tanh(), nn.Linear(200, 3)) for _ in range(2)]
    found = []
    for model, factor in zip(layers, (1.0, size), strict=True):
        filled(model).float()
        x = noise(8, 5).float()
        found.append(look(model, lambda m=model, x=x, f=factor: (m(x).square().sum(1) * f).mean())["gradient_snr"])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_convolution_that_is_called_twice_is_absent():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv1d(2, 2, 3, padding=1), nn.Linear(10, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(self.conv(x)).flatten(1))

    model, x = filled(Twice()), noise(4, 2, 5)
    found = look(model, lambda: model(x).square().mean())
    assert set(found["gradient_snr"]) == {"head", "all"}


# --- ways of training -----------------------------------------------------------------------------------------


def test_accumulated_batches():
    """tr Σ and |G|² of two batches are averaged; N counts both."""
    model = network()
    pairs = {}
    for x, y in batches(2):
        losses = functional.cross_entropy(model(x), y, reduction="none")
        for block in find_blocks(model):
            rows = torch.stack(
                [
                    torch.cat([g.flatten() for g in torch.autograd.grad(each, block.parameters, retain_graph=True)])
                    for each in losses
                ]
            )
            pairs.setdefault(block.name, []).append(torch.stack(estimates(rows)))
    means = {name: torch.stack(each).mean(0) for name, each in pairs.items()}
    found = numbers(train(network(), ["gradient_noise"], batches(2), accumulate=2))
    expected = {name: (16 * signal / trace).item() for name, (trace, signal) in means.items()}
    whole = torch.stack(list(means.values())).sum(0)
    assert of(found, "gradient_snr") == pytest.approx({**expected, "all": (16 * whole[1] / whole[0]).item()}, rel=1e-9)


def test_a_scaler_s_factor_changes_nothing():
    data = batches(3, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    found = numbers(train(network(torch.float32), ["gradient_noise"], data, scaler=scaler))
    assert found == pytest.approx(numbers(train(network(torch.float32), ["gradient_noise"], data)), rel=1e-4)


def test_under_autocast():
    """bfloat16 has 8 bits."""
    data = batches(1, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = numbers(train(network(torch.float32), ["gradient_noise"], data))
    assert found == pytest.approx(numbers(train(network(torch.float32), ["gradient_noise"], data)), rel=0.1, abs=0.1)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_network(reentrant):
    found = numbers(train(Checkpointed(reentrant), ["gradient_noise"], batches(2)))
    expected = numbers(train(network(), ["gradient_noise"], batches(2)))
    assert found == pytest.approx(under("net", expected), rel=1e-10)


def test_a_compiled_network():
    expected = numbers(train(network(), ["gradient_noise"], batches(2)))
    found = numbers(train(torch.compile(network(), backend="aot_eager"), ["gradient_noise"], batches(2)))
    assert found == pytest.approx(under("_orig_mod", expected), rel=1e-10)


def test_training_is_the_same_bit_for_bit():
    models, after = (network(dropout=0.5), network(dropout=0.5)), []
    for model, instruments in zip(models, ([], ["gradient_noise"]), strict=True):
        torch.manual_seed(0)
        train(model, instruments, batches(4))
        after.append(torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    assert torch.equal(*after)


def test_the_sum_of_all_parts_is_the_step_s_gradient_under_batch_normalisation():
    """Examples are coupled, but what is taken for theirs adds up to the gradient: ‖ḡ‖² = |G|² + tr Σ/n."""
    model = filled(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)))
    instrument = GradientNoise()
    flow: Any = Flow(model, instruments=[instrument])
    flow.session.begin(0)
    (model(noise(8, 5)) - 1).square().sum(1).mean().backward()
    trace, signal = instrument._estimates()[0]
    flow.session.end()
    whole = sum(p.grad.square().sum() for p in model[0].parameters())
    assert (signal + trace / 8).item() == pytest.approx(whole.item(), rel=1e-9)
