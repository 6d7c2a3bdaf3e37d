"""The temporal convolutional network: causality, receptive field, and torch.nn's convolutions put together by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gradflow.instruments.blocks import find_blocks
from gradflow.instruments.flow import watch
from gradflow.instruments.gradient_noise import GradientNoise
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.layers import Causal, Conv1d
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.tcn import receptive_field, tcn
from gradflow.models.weights import weights
from gradflow.resources import conf_dir
from gradflow.rng import stream

PAPER = partial(skips.residual, shortcut="projection")


def build(
    depth: int = 3,
    width: int | tuple[int, ...] = 5,
    skip: Callable = PAPER,
    norm: Callable = norms.none,
    activation: Callable = activations.tanh,
    init: Callable = initializers.he_normal,
    every_step: bool = True,
    features: int = 2,
    steps: int = 40,
    dropout: float = 0.0,
    **keys: Any,
) -> Network:
    parts = Parts(depth, width, activation, norm, skip, dropout, every_step=every_step)
    network = tcn((steps, features), 3, parts, **keys)
    initialize(network, init, stream(0, "init"), activation, lambda: inputs(16, 40, features))
    network.double()
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=stream(1), dtype=p.dtype))
    return network


def inputs(batch: int = 2, steps: int = 40, features: int = 2) -> Tensor:
    return torch.randn(batch, steps, features, generator=stream(0, "x"), dtype=torch.float64)


# --- what an output sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel_size", "depth", "period"), [(2, 3, None), (3, 3, None), (4, 1, None), (2, 5, 2)])
def test_an_output_sees_the_receptive_field_and_no_later_step(kernel_size, depth, period):
    """1 + 2(k − 1)(2^L − 1) steps, the present among them, by the gradient of every output."""
    seen = receptive_field(kernel_size, depth, period)
    if period is None:
        assert seen == 1 + 2 * (kernel_size - 1) * (2**depth - 1)
    else:
        assert seen == 1 + 2 * (kernel_size - 1) * (1 + 2 + 1 + 2 + 1)
    steps = seen + 5
    network = build(depth, kernel_size=kernel_size, period=period, steps=steps)
    x = inputs(1, steps).requires_grad_()
    out = network(x)[0].sum(1)
    for t in (0, 3, seen - 1, steps - 1):
        (gradient,) = torch.autograd.grad(out[t], x, retain_graph=True)
        depends = gradient[0].abs().sum(1) > 0
        expected = [max(0, t - seen + 1) <= s <= t for s in range(steps)]
        assert depends.tolist() == expected, t


SKIPS = sorted(file.stem for file in (conf_dir() / "skip").glob("*.yaml"))


@pytest.mark.parametrize("skip", SKIPS)
def test_no_skip_lets_an_output_see_the_future(skip):
    """Nor a norm, but that of a batch and `instance`, which average over steps."""
    norm = norms.layer if skip == "deepnorm" else norms.rms
    network = build(2, skip=getattr(skips, skip), norm=norm, kernel_size=3).eval()
    x = inputs()
    later = x.clone()
    later[:, 20:] = 5.0
    assert torch.equal(network(x)[:, :20], network(later)[:, :20])
    assert not torch.equal(network(x)[:, 20:], network(later)[:, 20:])


def test_a_prefix_has_the_outputs_of_the_whole():
    network = build(kernel_size=3)
    x = inputs()
    assert network.any_length
    assert not network.has_states
    torch.testing.assert_close(network(x[:, :7]), network(x)[:, :7], rtol=1e-12, atol=1e-12)


# --- against torch.nn ---------------------------------------------------------------------------------------------


class ByHand(nn.Module):
    """Bai et al. 2018, figure 1 b and section 3, of torch's own modules: padded on both sides, the surplus cut off."""

    def __init__(self, features: int, widths: list[int], outputs: int, k: int, dropout: float, normalized: bool):
        super().__init__()
        self.convolutions, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        wrap = parametrizations.weight_norm if normalized else lambda convolution: convolution
        for level, width in enumerate(widths):
            before, d = [features, *widths][level], 2**level
            for channels in (before, width):
                convolution = nn.Conv1d(channels, width, k, padding=(k - 1) * d, dilation=d)
                self.convolutions.append(wrap(convolution))
            self.shortcuts.append(wrap(nn.Conv1d(before, width, 1)) if before != width else nn.Identity())
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(widths[-1], outputs)

    def forward(self, x_BTF: Tensor) -> Tensor:
        h = x_BTF.transpose(1, 2)
        steps = h.shape[2]
        for level, shortcut in enumerate(self.shortcuts):
            branch = h
            for place in (0, 1):
                convolved = self.convolutions[2 * level + place](branch)[:, :, :steps]
                branch = self.drop(torch.relu(convolved))
            h = torch.relu(shortcut(h) + branch)
        return self.head(h.transpose(1, 2))


@pytest.mark.parametrize("normalized", [True, False], ids=["weight norm", "bare"])
@pytest.mark.parametrize("widths", [(4, 4, 4), (3, 5, 4)], ids=str)
def test_outputs_and_gradients_are_those_of_torch_s_convolutions(normalized, widths):
    norm = norms.weight_norm if normalized else norms.none
    ours = build(3, widths, norm=norm, activation=activations.relu, kernel_size=3)
    theirs = ByHand(2, list(widths), 3, 3, 0.0, normalized).double()
    pairs_of_maps = match(ours, theirs, normalized)
    x = inputs()
    y, expected = ours(x), theirs(x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(y.shape, generator=stream(2), dtype=y.dtype)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    for mine, other in pairs_of_maps:
        torch.testing.assert_close(mine.grad, other.grad.view_as(mine), rtol=1e-10, atol=1e-12)


def match(ours: Network, theirs: ByHand, normalized: bool) -> list[tuple[Tensor, Tensor]]:
    """Give the other network our parameters; the pairs of them."""
    mine: list[nn.Module] = []
    other: list[nn.Module] = []
    for level, block in enumerate(ours.blocks):
        mine += block.branch.maps
        other += theirs.convolutions[2 * level : 2 * level + 2]
        if not isinstance(block.shortcut, nn.Identity):
            mine.append(next(m for m in block.shortcut.modules() if isinstance(m, nn.Linear)))
            other.append(theirs.shortcuts[level])
    mine.append(ours.head[-1])
    other.append(theirs.head)
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for a, b in zip(mine, other, strict=True):
            if normalized and hasattr(b, "parametrizations"):
                found.append((a.reparametrization.gain, b.parametrizations.weight.original0))
                found.append((a.weight, b.parametrizations.weight.original1))
            else:
                found.append((a.weight, b.weight))
            found.append((a.bias, b.bias))
        for p, q in found:
            q.copy_(p.view_as(q))
    assert len(found) == len(list(ours.parameters())) == len(list(theirs.parameters()))
    return found


@pytest.mark.parametrize(
    ("features", "outputs", "depth", "width", "kernel_size", "parameters"),
    [(2, 1, 8, 24, 8, 70e3), (10, 9, 8, 10, 8, 13e3), (1, 10, 8, 25, 7, 66e3)],
    ids=["adding 600", "copying 1000", "sequential mnist"],
)
def test_has_as_many_parameters_as_the_paper_s(features, outputs, depth, width, kernel_size, parameters):
    """Tables 1 and 2 have 70K for adding and 66K for sequential MNIST; the 16K of copying are those of all models, and
    8 blocks of 10 channels with kernels of 8 have 13K."""
    parts = Parts(depth, width, activations.relu, norms.weight_norm, PAPER)
    count = sum(p.numel() for p in tcn((20, features), outputs, parts, kernel_size=kernel_size).parameters())
    assert count == pytest.approx(parameters, rel=0.03)


@pytest.mark.parametrize("skip", [skips.none, PAPER])
def test_dropout_follows_every_activation_of_a_branch(skip):
    """Figure 1 b; `skip=none` is the same block without its shortcut."""
    network = build(2, skip=skip, dropout=0.5, norm=norms.weight_norm)
    for block in network.blocks:
        assert [type(m).__name__ for m in block.branch] == ["Causal", "Elementwise", "Dropout"] * 2
    without = build(2, skip=skip, norm=norms.weight_norm)
    without.load_state_dict(network_state(network, without))
    x = inputs()
    torch.testing.assert_close(network.eval()(x), without(x), rtol=0, atol=0)


def network_state(network: Network, like: Network) -> dict[str, Tensor]:
    return dict(zip(like.state_dict(), network.state_dict().values(), strict=True))


def test_the_last_step_or_the_mean_of_all():
    x = inputs()
    every = build(2)(x)
    torch.testing.assert_close(build(2, every_step=False)(x), every[:, -1])
    torch.testing.assert_close(build(2, every_step=False, readout="mean")(x), every.mean(1))


def test_the_dilation_doubles_or_begins_again():
    def dilations(**keys: Any) -> list[int]:
        return [m.dilation[0] for m in build(5, **keys).modules() if isinstance(m, Conv1d)]

    assert dilations() == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16]
    assert dilations(period=2) == [1, 1, 2, 2, 1, 1, 2, 2, 1, 1]


# --- its parts ----------------------------------------------------------------------------------------------------


def test_an_encoder_where_a_skip_needs_one():
    """A block that begins with norm and activation would take the inputs for features."""
    encoded = {skip: not isinstance(build(2, 5, getattr(skips, skip), norms.layer).stem, nn.Identity) for skip in SKIPS}
    needs = {"preact_residual", "scaled_residual", "skipinit", "dense", "highway"}
    assert {skip for skip, has in encoded.items() if has} == needs
    assert isinstance(build(2, 5, partial(skips.residual, shortcut="identity")).stem, nn.Linear)
    assert isinstance(build(2, 5, encoder=True).stem, nn.Linear)
    with pytest.raises(ValueError, match="goes from 2 to 5 units"):
        build(2, 5, skips.highway, encoder=False)


def test_a_dense_block_keeps_what_it_read():
    network = build(2, 5, skips.dense, norms.layer, kernel_size=3)
    h = network.stem(inputs())
    first = network.blocks[0](h)
    assert torch.equal(first[..., :5], h)
    assert first.shape[-1] == 10


@pytest.mark.parametrize("init", ["identity", "delta_orthogonal"])
def test_the_present_is_a_kernel_s_last_tap(init):
    """What these initialisers put at the centre of an image's kernel."""
    network = build(3, 5, skips.none, init=getattr(initializers, init), kernel_size=4, encoder=True)
    for module in network.modules():
        if isinstance(module, Conv1d):
            assert (module.weight[:, :, :-1] == 0).all()
            eye = torch.eye(5, dtype=torch.float64)
            torch.testing.assert_close(module.weight[:, :, -1] @ module.weight[:, :, -1].T, eye, rtol=1e-6, atol=1e-6)
    if init == "identity":
        causal = next(m for m in network.modules() if isinstance(m, Causal))
        x = inputs(features=5)
        torch.testing.assert_close(causal(x), x + causal.convolution.bias)


def test_places_and_fans_of_weights():
    network = build(2, 5, kernel_size=4)
    found = [(w.role, w.fan_in, w.layers, w.last) for w in weights(network)]
    first = [("shortcut", 2, 1, False), ("block", 8, 2, False), ("block", 20, 2, True)]
    assert found == [*first, ("block", 20, 2, False), ("block", 20, 2, True), ("head", 5, 1, False)]


def test_lsuv_gives_every_convolution_unit_variance():
    parts = Parts(3, 6, activations.relu, norms.none, PAPER, every_step=True)
    network, x = tcn((40, 2), 3, parts, kernel_size=3).double(), 3 * inputs(16)
    initialize(network, initializers.lsuv, stream(0, "init"), activations.relu, lambda: x)
    variances: list[float] = []
    for module in network.modules():
        if isinstance(module, Conv1d):
            module.register_forward_hook(lambda _, __, out: variances.append(out.var().item()))
    network(x)
    assert len(variances) == 6
    assert variances == pytest.approx([1.0] * 6, abs=0.1)


def test_the_noise_of_its_gradients_is_that_of_single_examples():
    """An instrument that unfolds the inputs of convolutions, against one backward pass per example."""
    network, x = build(2, 4, skips.none, kernel_size=3), inputs(6)

    def losses() -> Tensor:
        return (network(x).flatten(1) - 1).square().sum(1)

    instrument = GradientNoise()
    with watch(network, instruments=[instrument]) as flow:
        losses().mean().backward()
        torch.optim.SGD(network.parameters(), lr=0.0).step()
    found = {row["name"]: row["value"] for row in flow.rows() if row["quantity"] == "gradient_noise_scale"}
    for block in find_blocks(network):
        gradients = [torch.autograd.grad(each, list(block.parameters), retain_graph=True) for each in losses()]
        rows = torch.stack([torch.cat([g.flatten() for g in each]) for each in gradients])
        trace = rows.var(0).sum()
        assert found[block.name] == pytest.approx((trace / (rows.mean(0).square().sum() - trace / 6)).item(), rel=1e-8)


# --- what does not go together ------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "widths": ({"width": (3, 4)}, r"width lists 2 numbers for depth=3 blocks"),
    "depth": ({"depth": 20}, r"depth=20 and model.kernel_size=7 would look back 3145728 steps.*set model.period"),
    "maxout": ({"activation": activations.maxout}, "activation=maxout changes the number of units"),
    "shortcut": ({"width": (5, 4, 3), "skip": skips.residual}, "goes from 5 to 4 units: use skip.shortcut=projection"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_refuses(name):
    keys, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        build(**keys)


@pytest.mark.parametrize("shape", [(8,), (1, 8, 8)], ids=str)
def test_needs_sequences(shape):
    parts = Parts(2, 4, activations.relu, norms.none, skips.none)
    with pytest.raises(ValueError, match=r"model=tcn needs sequences.*set task.view=sequence"):
        tcn(shape, 2, parts)
