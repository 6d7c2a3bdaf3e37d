"""Moments, saturated and dead shares of activations, counted by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import batches, fill, network, numbers, of, train

from gradflow.instruments.activation_stats import ActivationStats, asymptotes
from gradflow.models import activations
from gradflow.rng import stream

INF = math.inf


def total(h: Tensor, _: Tensor) -> Tensor:
    return h.sum()


STILL = {"make_optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.0), "criterion": total}


def seen(activation: nn.Module, z: Tensor, window: int = 1, calls: int = 1) -> dict[str, float]:
    """What it says of an activation that is given z, at the last of some calls; the loss is a sum."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.given, self.phi = nn.Parameter(z.clone()), activation

        def forward(self, x: Tensor) -> Tensor:
            return self.phi(self.given + 0 * x)

    instrument = ActivationStats(window=window)
    data = [(torch.zeros((), dtype=z.dtype), torch.zeros(1))] * calls
    flow = train(nn.Sequential(Given()), [instrument], data, blocks=["0"], **STILL)
    return {what: value for (step, _, what), value in numbers(flow).items() if step == calls - 1}


# --- asymptotes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Sigmoid(), (0, 1)),
        (nn.Tanh(), (-1, 1)),
        (nn.Hardtanh(-2.0, 3.0), (-2, 3)),
        (nn.ReLU6(), (0, 6)),
        (nn.Softsign(), (-1, 1)),
        (nn.Hardsigmoid(), (0, 1)),
        (nn.ReLU(), (-INF, INF)),
        (nn.ReLU(inplace=True), (-INF, INF)),
        (nn.ELU(), (-INF, INF)),
        (nn.GELU(), (-INF, INF)),
        (nn.SiLU(), (-INF, INF)),
        (nn.PReLU(3), (-INF, INF)),
        (nn.RReLU(), (-INF, INF)),
        (nn.GLU(1), (-INF, INF)),
        (nn.Tanhshrink(), (-INF, INF)),
        (nn.LogSigmoid(), (-INF, INF)),
        (activations.linear(), (-INF, INF)),
        (activations.sigmoid(), (0, 1)),
        (activations.tanh(), (-1, 1)),
        (activations.softsign(), (-1, 1)),
        (activations.hard_sigmoid(), (0, 1)),
        (activations.swiglu(), (-INF, INF)),
    ],
    ids=str,
)
def test_asymptotes(module, expected):
    for z in (torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.float64)):
        shaped = z[:, :3] if isinstance(module, nn.PReLU) else z
        if isinstance(module, nn.PReLU) and z.dtype == torch.float64:
            module = copy.deepcopy(module).double()
        assert asymptotes(module, shaped).tolist() == pytest.approx(expected, abs=2e-4)


class Of(nn.Module):
    derivative_bound = 1.0

    def __init__(self, phi) -> None:
        super().__init__()
        self.phi = phi

    def forward(self, z: Tensor) -> Tensor:
        return self.phi(z)


@pytest.mark.parametrize(
    ("phi", "bounded"),
    [
        (torch.sin, False),
        (lambda z: torch.exp(-z.square()), False),
        (lambda z: z.sign() * torch.log1p(z.abs()), False),
        (torch.atan, True),
        (lambda z: -torch.tanh(z), True),
        (lambda z: torch.sigmoid(z) + z.clamp(-1, 1), True),
    ],
    ids=["no limit", "one limit", "logarithm", "atan", "falling", "steps"],
)
def test_asymptotes_of_other_functions(phi, bounded):
    """A function that goes on growing, however slowly, has none; one with the same limit on both sides no range."""
    ends = asymptotes(Of(phi), torch.zeros(1, 2, dtype=torch.float64))
    assert ends.isfinite().all() == bounded
    if bounded:
        points = torch.tensor([-1e6, 1e6], dtype=torch.float64)
        assert torch.equal(ends, phi(points))


def test_finding_them_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    asymptotes(nn.RReLU(), torch.zeros(2, 3))
    assert torch.equal(torch.get_rng_state(), before)


# --- moments and saturation -----------------------------------------------------------------------------------


def by_hand(h: Tensor, low: float, high: float) -> tuple[float, float, float]:
    margin = 0.05 * (high - low)
    saturated = ((h <= low + margin) | (h >= high - margin)).double().mean()
    return h.mean().item(), h.var(correction=0).item(), saturated.item()


def test_against_a_plain_forward_pass():
    data = batches(3)
    found = numbers(train(network(), ["activation_stats"], data))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    for step, (x, y) in enumerate(data):
        h = torch.sigmoid(model[0](x))
        relu = functional.relu(model[3](h))
        mean, variance, saturated = by_hand(h.detach(), 0, 1)
        assert of(found, "activation_mean", step) == pytest.approx({"0": mean, "3": relu.mean().item()}, rel=1e-12)
        assert of(found, "activation_variance", step) == pytest.approx(
            {"0": variance, "3": relu.var(correction=0).item()}, rel=1e-12
        )
        assert of(found, "activation_saturated", step) == {"0": saturated}
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("phi", "low", "high"), [(nn.Sigmoid(), 0, 1), (nn.Tanh(), -1, 1), (nn.Hardtanh(-2, 1), -2, 1), (nn.ReLU6(), 0, 6)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated(phi, low, high, dtype):
    z = 3 * torch.randn(20, 50, generator=stream(0, "z"), dtype=torch.float64).to(dtype)
    found = seen(phi, z)
    mean, variance, saturated = by_hand(phi(z).double(), low, high)
    assert found["activation_saturated"] == saturated
    assert found["activation_mean"] == pytest.approx(mean, rel=1e-5)
    assert found["activation_variance"] == pytest.approx(variance, rel=1e-5)


def test_a_variance_far_below_the_mean_is_not_lost():
    """σ(12 ± 1e-3) has mean 1 and variance 4e-17."""
    z = 12 + 1e-3 * torch.randn(20, 50, generator=stream(0, "z"), dtype=torch.float64)
    h = torch.sigmoid(z)
    assert seen(nn.Sigmoid(), z)["activation_variance"] == pytest.approx(h.var(correction=0).item(), rel=1e-6)


def test_several_activations_of_a_block_are_weighted_by_their_elements():
    """Also over batches of one update: as if all outputs stood in one vector; only bounded ones can be saturated."""
    model = nn.Sequential(
        nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid()),
        nn.Linear(4, 3),
    ).double()
    fill(model)
    data = batches(2)
    found = numbers(train(model, ["activation_stats"], data, accumulate=2, blocks=["0"]))
    fill(model)
    tanh, relu, sigmoid = (torch.cat([model[0][: k + 1](x) for x, _ in data]).detach() for k in (1, 3, 5))
    every = torch.cat([h.flatten() for h in (tanh, relu, sigmoid)])
    saturated = by_hand(tanh, -1, 1)[2] * tanh.numel() + by_hand(sigmoid, 0, 1)[2] * sigmoid.numel()
    assert of(found, "activation_mean")["0"] == pytest.approx(every.mean().item(), rel=1e-12)
    assert of(found, "activation_variance")["0"] == pytest.approx(every.var(correction=0).item(), rel=1e-12)
    share = saturated / (tanh.numel() + sigmoid.numel())
    assert of(found, "activation_saturated")["0"] == pytest.approx(share, rel=1e-12)


def test_only_the_first_examples_are_looked_at():
    instrument = ActivationStats()
    instrument.examples = 3
    ((x, y),) = batches(1)
    found = of(numbers(train(network(), [instrument], [(x, y)])), "activation_mean")
    assert found["0"] == pytest.approx(torch.sigmoid(network()[0](x[:3])).mean().item(), rel=1e-12)


# --- dead units -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"), [((6, 8), 1), ((6, 3, 8), 2), ((6, 8, 3, 2), 1), ((6, 8, 2, 2, 2), 1)], ids=str
)
def test_units_are_features(shape, axis):
    """Axis 1 of images, the last otherwise: two of eight have a negative pre-activation everywhere."""
    z = torch.randn(shape, generator=stream(0, "z"))
    z.movedim(axis, 0)[:2] = -1.0
    z.movedim(axis, 0)[2:].flatten(1)[:, 0] = 1.0
    z.movedim(axis, 0)[2:].select(1, 0).fill_(1.0)
    assert seen(nn.ReLU(), z)["activation_dead"] == 2 / 8


@pytest.mark.parametrize("window", [1, 2, 3])
def test_dead_only_after_a_whole_window(window):
    z = torch.tensor([[-1.0, 1.0]])
    for calls in range(1, 5):
        found = seen(nn.ReLU(), z, window, calls)
        assert found.get("activation_dead") == (0.5 if calls >= window else None)


def test_a_unit_that_speaks_once_in_the_window_is_alive():
    """Unit 0 is silent throughout, unit 1 speaks at step 3, unit 2 always; of two batches of an update one suffices."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.phi = nn.Parameter(torch.ones(())), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.phi(self.scale * x)

    def data(first: bool):
        return [
            (torch.tensor([[-1.0, 1.0 if step == 3 and first else -1.0, 1.0]]), torch.zeros(1)) for step in range(8)
        ]

    pairs = [each for both in zip(data(True), data(False), strict=True) for each in both]
    for batches_, accumulate in ((data(True), 1), (pairs, 2)):
        found = numbers(
            train(nn.Sequential(Given()), [ActivationStats(3)], batches_, accumulate=accumulate, blocks=["0"], **STILL)
        )
        shares = [found.get((step, "0", "activation_dead")) for step in range(8)]
        third = pytest.approx(1 / 3)
        assert shares[:2] == [None, None]
        assert shares[2:] == [pytest.approx(2 / 3), third, third, third, pytest.approx(2 / 3), pytest.approx(2 / 3)]


def test_a_saturated_sigmoid_is_dead_once_its_slope_is_exactly_zero():
    z = torch.tensor([[40.0, 5.0]])
    assert torch.sigmoid(z)[0, 0] == 1
    assert seen(nn.Sigmoid(), z)["activation_dead"] == 0.5


def test_a_restart_goes_on_with_the_window():
    """Cut after three of five measurements."""
    model = network()
    model[3].bias.data[0] = -100
    whole, first, second = ActivationStats(), ActivationStats(), ActivationStats()
    expected = numbers(train(model, [whole], batches(5), **STILL))
    train(model, [first], batches(5)[:3], **STILL)
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(state)
    found = numbers(train(model, [second], batches(5)[3:], **STILL))
    assert of(found, "activation_dead", 0) == {}
    assert of(found, "activation_dead", 1) == of(expected, "activation_dead", 4)
    assert of(expected, "activation_dead", 4)["3"] >= 1 / 6
    assert whole.state_dict()["made"] == second.state_dict()["made"]


def test_the_window_must_be_positive():
    with pytest.raises(ValueError, match="window=0: must be at least 1"):
        ActivationStats(window=0)
