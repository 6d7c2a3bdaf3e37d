"""Recurrent networks: layers in both directions, read-outs, norms and skips between layers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.cells.gru import gru
from gradflow.models.cells.lstm import lstm
from gradflow.models.cells.rnn import rnn
from gradflow.models.initialize import initialize
from gradflow.models.layers import Linear
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.recurrence import Bidirectional, Recurrence
from gradflow.models.recurrent import LastStates, recurrent
from gradflow.models.weights import weights
from gradflow.rng import stream

B, T, F, H, K = 3, 7, 4, 6, 2
CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def drawn(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=stream(0, name, *shape), dtype=torch.float64)


def build(
    cell: Callable = lstm,
    depth: int = 2,
    width: int | tuple[int, ...] = H,
    *,
    norm: Callable = norms.none,
    skip: Callable = skips.none,
    every_step: bool = False,
    features: int = F,
    dropout: float = 0.0,
    **keys,
) -> Network:
    """A float64 network, its biases not at their starting values either."""
    parts = Parts(depth, width, activations.tanh, norm, skip, dropout, cell=cell, every_step=every_step)
    network = recurrent((T, features), K, parts, **keys).double()
    initialize(network, initializers.glorot_uniform, stream(0, "init"), activations.tanh)
    with torch.no_grad():
        for path, p in network.named_parameters():
            if p.ndim < 2:
                p.add_(0.3 * drawn(*p.shape, name=path))
    return network


def layers(network: nn.Module) -> list[Recurrence]:
    return [module for module in network.modules() if isinstance(module, Recurrence)]


def gradients(out: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((out * drawn(*out.shape, name="weights of the loss")).sum(), of))


def refused(message: str, **keys) -> None:
    with pytest.raises(ValueError) as caught:
        build(**keys)
    assert str(caught.value) == message


# against torch


def like_torch(network: Network, name: str, bidirectional: bool) -> nn.RNNBase:
    """torch's layers with the network's weights."""
    units = H // 2 if bidirectional else H
    theirs = TORCH[name](F, units, 2, batch_first=True, bidirectional=bidirectional).double()
    suffixes = [f"l{layer}{way}" for layer in range(2) for way in (("", "_reverse") if bidirectional else ("",))]
    with torch.no_grad():
        for layer, suffix in zip(layers(network), suffixes, strict=True):
            cell = layer.cell
            second = torch.zeros_like(cell.bias)
            if name == "gru":
                second[2 * units :] = cell.candidate_bias
            for key, value in (
                ("weight_ih", cell.input_weight),
                ("weight_hh", cell.recurrent_weight),
                ("bias_ih", cell.bias),
                ("bias_hh", second),
            ):
                getattr(theirs, f"{key}_{suffix}").copy_(value)
    return theirs


class Looker:
    every = 1

    def __call__(self, time, state):
        return state


@pytest.mark.parametrize("step_by_step", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_layers_on_layers_are_those_of_torch(name, bidirectional, step_by_step):
    """Outputs, and gradients with respect to inputs and every weight, under the same head."""
    network = build(CELLS[name], bidirectional=bidirectional)
    for layer in layers(network):
        layer.observer = Looker() if step_by_step else None
    theirs, x = like_torch(network, name, bidirectional), drawn(B, T, F).requires_grad_()
    states, (*_,) = theirs(x)
    head = network.head[1]
    last = states[:, -1]
    if bidirectional:
        last = torch.cat([states[:, -1, : H // 2], states[:, 0, H // 2 :]], 1)
    out, expected = network(x), last @ head.weight.T + head.bias
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    mine = gradients(out, x, *(layer.cell.input_weight for layer in layers(network)))
    mine += gradients(network(x), *(layer.cell.recurrent_weight for layer in layers(network)))
    mine += gradients(network(x), *(layer.cell.bias for layer in layers(network)))
    others = dict(theirs.named_parameters())
    wanted = [x]
    for kind in ("weight_ih", "weight_hh", "bias_ih"):
        wanted += [value for path, value in others.items() if path.startswith(kind)]
    for one, other in zip(mine, gradients(expected, *wanted), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_last_states_of_both_directions_are_torchs_final_states(name):
    """Each direction's own last: that of the backward cell is at the first step."""
    network = build(CELLS[name], bidirectional=True)
    theirs, x = like_torch(network, name, True), drawn(B, T, F)
    final = theirs(x)[1]
    final = final[0] if name == "lstm" else final
    pooled = network.head[0](network.blocks[1](network.blocks[0](x)))
    torch.testing.assert_close(pooled, torch.cat([final[2], final[3]], 1), rtol=0, atol=1e-12)


# read-outs


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("skip", ["none", "residual"])
def test_shapes(bidirectional, skip):
    x = drawn(B, T, F)
    for readout in ("last", "mean"):
        network = build(readout=readout, bidirectional=bidirectional, skip=getattr(skips, skip))
        assert network(x).shape == (B, K)
        every = build(readout=readout, bidirectional=bidirectional, skip=getattr(skips, skip), every_step=True)
        assert every(x).shape == (B, T, K)
        assert network(x[:, :2]).shape == (B, K)  # any length will do


def test_readouts():
    x = drawn(B, T, F)
    trunk = nn.Sequential(*build().blocks)
    h = trunk(x)
    for network, pooled in (
        (build(readout="last"), h[:, -1]),
        (build(readout="mean"), h.mean(1)),
        (build(every_step=True), h),
    ):
        head = network.head[1]
        torch.testing.assert_close(network(x), pooled @ head.weight.T + head.bias, rtol=0, atol=1e-12)


def test_last_states():
    x = drawn(B, T, H).requires_grad_()
    assert torch.equal(LastStates()(x), x[:, -1])
    found = LastStates(2)(x)
    assert torch.equal(found[:, :4], x[:, -1, :4])
    assert torch.equal(found[:, 4:], x[:, 0, 4:])
    expected = torch.zeros_like(x)
    expected[:, -1, :4] = 1
    expected[:, 0, 4:] = 1
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], expected)


# between layers


@pytest.mark.parametrize(
    ("encoder", "skip", "encoded"),
    [(None, "none", False), (None, "residual", True), (None, "highway", True), (True, "none", True)],
)
def test_encoder(encoder, skip, encoded):
    """Where a skip needs as many features before as after, unless somebody says otherwise."""
    network = build(skip=getattr(skips, skip), encoder=encoder)
    assert isinstance(network.stem, Linear if encoded else nn.Identity)
    assert layers(network)[0].cell.features == (H if encoded else F)
    if encoded:
        assert network.stem.weight.shape == (H, F)


def test_a_partial_skip_is_a_skip():
    """As the config makes them, with keys."""
    assert isinstance(build(skip=partial(skips.highway, gate_bias=-1.0)).stem, Linear)
    assert isinstance(build(skip=partial(skips.none)).stem, nn.Identity)


@pytest.mark.parametrize("position", [None, "pre", "post"])
@pytest.mark.parametrize("skip", ["none", "residual", "highway", "rezero"])
def test_norms_and_skips_between_layers(skip, position):
    """N inside the skip before the layer, or after the addition, written out."""
    network = build(gru, norm=norms.layer, skip=getattr(skips, skip), norm_position=position, encoder=True)
    x = drawn(B, T, F)
    h = network.stem(x)
    for block in network.blocks:
        (layer,) = layers(block)
        (norm,) = (module for module in block.modules() if isinstance(module, nn.GroupNorm))

        def normalize(z: Tensor, norm: nn.Module = norm) -> Tensor:
            deviation = z - z.mean(-1, keepdim=True)
            variance = deviation.square().mean(-1, keepdim=True)
            return deviation / (variance + 1e-5).sqrt() * norm.weight + norm.bias

        branch = layer(h if position == "post" else normalize(h))
        if skip == "residual":
            h = h + branch
        elif skip == "highway":
            share = torch.sigmoid(h @ block.gate.weight.T + block.gate.bias)
            h = share * branch + (1 - share) * h
        elif skip == "rezero":
            h = h + block.alpha * branch
        else:
            h = branch
        if position == "post":
            h = normalize(h)
    head = network.head[1]
    torch.testing.assert_close(network(x), h[:, -1] @ head.weight.T + head.bias, rtol=0, atol=1e-12)


def test_deepnorm_normalises_the_sum():
    """N(L^¼ h + F(h)) for L layers."""
    network, x = build(gru, norm=norms.layer, skip=skips.deepnorm), drawn(B, T, F)
    h = network.stem(x)
    for block in network.blocks:
        h = block.norm(2**0.25 * h + layers(block)[0](h))
    torch.testing.assert_close(network(x), network.head(h), rtol=0, atol=1e-12)


def test_stochastic_depth_takes_a_share_of_each_layer():
    """At evaluation h + p_l F(h), p_l falling from 1 to ½ over the layers."""
    network, x = build(gru, skip=skips.stochastic_depth).eval(), drawn(B, T, F)
    h = network.stem(x)
    for block, share in zip(network.blocks, (0.75, 0.5), strict=True):
        h = h + share * layers(block)[0](h)
    torch.testing.assert_close(network(x), network.head(h), rtol=0, atol=1e-12)


def test_gates_and_projections_on_the_shortcuts_around_layers():
    """(1 − g) h + F(h), and S h + F(h), where no shape changes."""
    for skip in (
        partial(skips.gated_shortcut, gate="shortcut_only", gate_bias=0.5),
        partial(skips.residual, shortcut="projection_everywhere"),
    ):
        network, x = build(gru, skip=skip), drawn(B, T, F)
        h = network.stem(x)
        for block in network.blocks:
            if hasattr(block, "gate"):
                carried = h / (1 + torch.exp(h @ block.gate.weight.T + block.gate.bias))
            else:
                carried = h @ block.shortcut.weight.T + block.shortcut.bias
            h = carried + layers(block)[0](h)
        torch.testing.assert_close(network(x), network.head(h), rtol=0, atol=1e-12)


def test_rezero_begins_as_the_encoder_alone():
    parts = Parts(3, H, activations.tanh, norms.none, skips.rezero, cell=lstm)
    network = recurrent((T, F), K, parts).double()
    initialize(network, initializers.glorot_uniform, stream(0, "init"), activations.tanh)
    x = drawn(B, T, F)
    torch.testing.assert_close(network(x), network.head(network.stem(x)), rtol=0, atol=0)


def test_widths_of_their_own():
    """With a projection where a skip needs one."""
    network = build(depth=3, width=(4, 8, 6))
    assert [(layer.cell.features, layer.cell.width) for layer in layers(network)] == [(F, 4), (4, 8), (8, 6)]
    projected = build(depth=2, width=(4, 6), skip=partial(skips.residual, shortcut="projection"))
    x = drawn(B, T, F)
    first, second = projected.blocks
    h = projected.stem(x)
    h = h + layers(first)[0](h)
    expected = h @ second.shortcut.weight.T + second.shortcut.bias + layers(second)[0](h)
    torch.testing.assert_close(second(first(projected.stem(x))), expected, rtol=0, atol=1e-12)


def test_dropout_follows_every_layer():
    """While training, at the layer's output and not inside the recurrence."""
    network, x = build(depth=1, dropout=0.5, every_step=True), drawn(64, T, F)
    states = layers(network)[0](x)
    torch.manual_seed(0)
    out = network.blocks[0](x)
    dropped = out == 0
    assert abs(float(dropped.double().mean()) - 0.5) < 5 * 0.5 / out.numel() ** 0.5
    torch.testing.assert_close(out[~dropped], 2 * states[~dropped], rtol=0, atol=1e-12)
    torch.testing.assert_close(network.eval().blocks[0](x), states, rtol=0, atol=0)


def test_layers_get_their_keys():
    network = build(bidirectional=True, skip_time=3, zoneout=[0.05, 0.5])
    for block in network.blocks:
        (both,) = (module for module in block.modules() if isinstance(module, Bidirectional))
        assert [layer.reverse for layer in (both.ahead, both.back)] == [False, True]
        for layer in (both.ahead, both.back):
            assert layer.skip_time == 3
            assert layer.zoneout == (0.05, 0.5)
            assert layer.cell.width == H // 2
    assert [layer.zoneout for layer in layers(build(zoneout=0.1))] == [(0.1, 0.1)] * 2
    assert [layer.zoneout for layer in layers(build(gru, zoneout=0.1))] == [(0.1,)] * 2
    assert [layer.zoneout for layer in layers(build(zoneout=0.0))] == [()] * 2


# initialisation


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_init_fills_the_weights_from_states_to_states_and_init_the_others(name):
    """Those of skips through time among them; biases stay at what the cell makes of them."""

    def mark(number: float) -> Callable:
        return lambda weight, _: weight.tensor.fill_(number)

    parts = Parts(2, H, activations.tanh, norms.layer, skips.highway, cell=CELLS[name])
    network = recurrent((T, F), K, parts, bidirectional=True, skip_time=2)
    initialize(network, mark(1.0), stream(0, "init"), activations.tanh, recurrent_init=mark(2.0))
    for path, parameter in network.named_parameters():
        if parameter.ndim == 2:
            to_states = path.endswith(("recurrent_weight", "skip_weight"))
            assert (parameter == (2.0 if to_states else 1.0)).all(), path


def test_init_fills_all_of_them_without_a_recurrent_init():
    network = build()
    initialize(network, lambda weight, _: weight.tensor.fill_(1.0), stream(0, "init"))
    assert all((p == 1).all() for p in network.parameters() if p.ndim == 2)


@pytest.mark.parametrize("name", CELLS)
def test_places(name):
    """Every weight once: stem, head, a skip's gate, and a cell's gate by gate."""
    network = build(CELLS[name], skip=skips.highway)
    found = list(weights(network, activations.tanh))
    count = sum(weight.tensor.numel() for weight in found)
    assert count == sum(p.numel() for p in network.parameters() if p.ndim >= 2)
    places = [weight.role for weight in found]
    gates = {"rnn": 0, "lstm": 3, "gru": 2}[name]
    assert places.count("stem") == places.count("head") == 1
    assert places.count("gate") == 2 * gates + 2  # and those of the two highway skips
    assert places.count("block") == 2
    assert places.count("recurrent") == 2 * (gates + 1)
    for weight in found:
        if weight.role == "recurrent":
            assert weight.tensor.shape == (H, H)


def test_the_forget_gates_bias_survives_initialisation():
    """Whatever the initialiser does to biases."""
    parts = Parts(1, H, activations.tanh, norms.none, skips.none, cell=lstm)
    network = recurrent((T, F), K, parts)
    initialize(network, partial(initializers.mean_field, sigma_b2=1.0), stream(0, "init"), activations.tanh)
    i, f, g, o = layers(network)[0].cell.bias.detach().chunk(4)
    assert (f == 1).all()
    assert not i.any()
    assert not o.any()
    assert g.all()


# refusals


def test_no_sequence():
    parts = Parts(1, H, activations.tanh, norms.none, skips.none, cell=lstm)
    with pytest.raises(ValueError) as caught:
        recurrent((1, 28, 28), K, parts)
    assert str(caught.value) == (
        "model=recurrent needs sequences, but an example has shape [1, 28, 28]: set task.view=sequence, or choose a "
        "task of sequences, such as task=adding"
    )


def test_no_cell():
    with pytest.raises(ValueError, match=r"model=recurrent needs a cell: choose one, e\.g\. cell=lstm"):
        recurrent((T, F), K, Parts(1, H, activations.tanh, norms.none, skips.none))


@pytest.mark.parametrize("skip", ["preact_residual", "scaled_residual", "skipinit", "fixup_scalar", "dense"])
def test_skips_that_need_an_activation_of_their_own(skip):
    refused(
        "a recurrent layer has no activation to put before it: use skip=residual (with model.norm_position=pre), "
        "highway or rezero",
        skip=getattr(skips, skip),
    )


@pytest.mark.parametrize("norm", ["weight_norm", "spectral", "scaled_weight_standardization"])
def test_norms_of_weights(norm):
    refused(
        "this norm acts on the weights of linear maps and convolutions, not on those of recurrent cells: use "
        "norm=layer, or a norm inside the cell, e.g. cell.recurrent_norm=layer",
        norm=getattr(norms, norm),
    )


def test_an_odd_width_in_two_directions():
    refused("model.bidirectional=true halves width=7: give an even number", width=7, bidirectional=True)


def test_zoneout_for_a_state_that_is_not_there():
    refused(
        "model.zoneout=[0.1, 0.2] has 2 numbers, but the cell's state has 1 (h): give one number, or one for each",
        cell=gru,
        zoneout=[0.1, 0.2],
    )


def test_skips_over_a_change_of_width():
    refused(
        "skip.shortcut=zero_pad cannot span a layer that goes from 4 to 6 units: use skip.shortcut=projection, "
        "model.encoder=true with one width for all layers, or skip=none",
        width=(4, 6),
        skip=skips.residual,
    )
    refused(
        "skip.shortcut=identity cannot span a layer that goes from 3 to 6 units: use skip.shortcut=projection, "
        "model.encoder=true with one width for all layers, or skip=none",
        features=3,
        encoder=False,
        skip=partial(skips.residual, shortcut="identity"),
    )
    with pytest.raises(ValueError, match="skip=highway mixes x and H"):
        build(width=(4, 6), skip=skips.highway)
