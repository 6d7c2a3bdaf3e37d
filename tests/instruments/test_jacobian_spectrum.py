"""Singular values of Jacobians against explicit ones, closed forms and random-matrix theory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import Checkpointed, batches, network, numbers, train, under

from gradflow.instruments import lanczos
from gradflow.instruments.flow import watch
from gradflow.instruments.jacobian_spectrum import QUANTITIES, JacobianSpectrum, approximated, decomposed
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.rng import stream

Five = dict[str, float]


def noise(*shape: int, name: str = "noise") -> Tensor:
    return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)


def filled(model: nn.Module, gain: float = 1.0) -> nn.Module:
    generator = stream(0, "weights")
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(gain * torch.randn(p.shape, generator=generator, dtype=torch.float64) / p[0].numel() ** 0.5)
    return model


def look(model: nn.Module, *inputs: Any, instrument: JacobianSpectrum | None = None, **options: Any) -> dict[str, Five]:
    """The five numbers of every row, of one step on these inputs."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(model, instruments=[instrument or JacobianSpectrum()], **options) as flow:
        output = model(*inputs)
        (output[0] if isinstance(output, tuple) else output).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    found: dict[str, Five] = {}
    for (_, name, quantity), value in numbers(flow).items():
        found.setdefault(name, {})[quantity] = value
    return found


def five(jacobian: Tensor) -> Five:
    s = torch.linalg.svdvals(jacobian.double())
    values = s.max(), s.min(), s.max() / s.min(), s.square().mean(), s.square().var(correction=0)
    return dict(zip(QUANTITIES, [v.item() for v in values], strict=True))


def explicit(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∂f/∂x at the first example, by torch.func."""
    return torch.func.jacrev(lambda one: function(one[None])[0].flatten())(x[0]).flatten(1)


def same(found: Five, expected: Five, rel: float = 1e-9) -> None:
    """Numbers that are rounding need only be rounding."""
    if expected["jacobian_condition"] > 1e12:
        assert found["jacobian_condition"] > 1e12
        found = {**found, "jacobian_condition": expected["jacobian_condition"]}
    assert found == pytest.approx(expected, rel=rel, abs=1e-12)


# --- exact ----------------------------------------------------------------------------------------------------


def test_blocks_and_network_against_jacrev():
    model, ((x, _),) = network(), batches(1)
    found, h = look(model, x), x
    assert list(found) == ["0", "3", "5", "all"]
    for name, module in model.named_children():
        if name in found:
            same(found[name], five(explicit(module, h)))
        h = module(h)
    same(found["all"], five(explicit(model, x)))


def test_named_blocks():
    """Blocks of several modules: their Jacobians multiply to the network's."""
    model = filled(nn.Sequential(*[nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)]))
    x = noise(4, 6)
    found = look(model, x, blocks=["0", "1", "2"])
    same(found["1"], five(explicit(model[1], model[0](x))))
    product, h = torch.eye(6, dtype=torch.float64), x
    for block in model:
        product, h = explicit(block, h) @ product, block(h)
    same(found["all"], five(product), rel=1e-8)


def test_an_orthogonal_linear_network_is_an_isometry():
    net = mlp((16,), 16, Parts(10, 16, activations.linear, norms.none, skips.none))
    initialize(net, initializers.orthogonal, stream(0, "init"))
    for name, found in look(net, noise(4, 16).float()).items():
        expected = dict(zip(QUANTITIES, (1.0, 1.0, 1.0, 1.0, 0.0), strict=True))
        assert found == pytest.approx(expected, abs=2e-5), name


@pytest.mark.parametrize("width", [64, 256, 600], ids=["exact", "formed", "products"])
def test_a_gaussian_linear_layer_follows_marchenko_and_pastur(width):
    """Mean 1, variance 1, s up to 2 for N → ∞; Hutchinson's vectors leave a few percent."""
    model = filled(nn.Linear(width, width, bias=False))
    found = look(model, noise(2, width))["model"]
    assert found["jacobian_s2_mean"] == pytest.approx(1, abs=0.1)
    assert found["jacobian_s2_variance"] == pytest.approx(1, abs=0.25)
    assert found["jacobian_s_max"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("depth", [2, 4])
def test_a_product_of_gaussians_has_a_variance_of_its_depth(depth):
    """Pennington et al. 2017, equation 17 with φ linear: σ²_JJᵀ = L."""
    model = filled(nn.Sequential(*[nn.Linear(400, 400, bias=False) for _ in range(depth)]))
    found = look(model, noise(2, 400))["all"]
    assert found["jacobian_s2_mean"] == pytest.approx(1, abs=0.1)
    assert found["jacobian_s2_variance"] == pytest.approx(depth, rel=0.25)


@pytest.mark.parametrize(("m", "n"), [(3, 7), (7, 3), (100, 40), (40, 100)])
def test_rectangular_maps_have_as_many_singular_values_as_their_short_side(m, n):
    model, x = filled(nn.Linear(m, n)), noise(2, m)
    same(look(model, x)["model"], five(model.weight.detach()))


def test_a_dead_unit_makes_the_condition_infinite():
    model = filled(nn.Sequential(nn.Sequential(nn.Linear(5, 5), nn.ReLU())))
    with torch.no_grad():
        model[0][0].bias[2] = -100
    found = look(model, noise(3, 5), blocks=["0"])["0"]
    assert found["jacobian_s_min"] == 0
    assert found["jacobian_condition"] == float("inf")


def test_numbers_that_are_not_finite_are_nan():
    model = filled(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    expected = five(model[1].weight.detach())
    found = look(model, noise(3, 4))
    assert all(value != value for value in found["0"].values())
    same(found["1"], expected)


# --- approximate ----------------------------------------------------------------------------------------------


def with_singular_values(values: Tensor, name: str = "u") -> Tensor:
    n = len(values)
    u, v = (torch.linalg.qr(noise(n, n, name=f"{name}{i}"))[0] for i in range(2))
    return u @ torch.diag(values) @ v


SPECTRA = {
    "flat": torch.ones(100),
    "two values": torch.cat([torch.ones(60), torch.full((40,), 3.0)]),
    "one large": torch.cat([torch.linspace(0.5, 1, 99), torch.tensor([10.0])]),
    "tiny": torch.linspace(1, 2, 100) * 1e-25,
    "huge": torch.linspace(1, 2, 100) * 1e20,
    "half of them zero": torch.cat([torch.zeros(50), torch.linspace(1, 2, 50)]),
}


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_formed_jacobian_has_exact_moments_and_bounds_of_extremes(kind, dtype):
    values = SPECTRA[kind].double()
    found = approximated(with_singular_values(values).to(dtype)[None], 24)[0].tolist()
    expected = five(torch.diag(values))
    top = expected["jacobian_s_max"]
    near = 1e-6 if dtype == torch.float64 else 2e-3  # of the largest: an eigenvalue's rounding, 1e-7, is one of √1e-7
    assert found[0] == pytest.approx(top, rel=0.02)
    assert found[0] <= top * (1 + near)
    assert expected["jacobian_s_min"] - near * top <= found[1] <= expected["jacobian_s_min"] + 0.05 * top
    assert found[3] == pytest.approx(expected["jacobian_s2_mean"], rel=1e-5)
    assert found[4] == pytest.approx(expected["jacobian_s2_variance"], rel=1e-4, abs=1e-5 * top**4)


def test_several_jacobians_at_once():
    matrices = torch.stack([with_singular_values(torch.linspace(1, 2 + i, 70).double(), str(i)) for i in range(3)])
    together = approximated(matrices, 24)
    for one, found in zip(matrices, together, strict=True):
        assert found.tolist() == pytest.approx(approximated(one[None], 24)[0].tolist(), rel=1e-6)
        assert found[0].item() == pytest.approx(decomposed(one[None])[0, 0].item(), rel=0.01)


def test_zero_jacobians():
    for found in (approximated(torch.zeros(2, 70, 80), 12), decomposed(torch.zeros(2, 7, 8))):
        assert (found[:, [0, 1, 3, 4]] == 0).all()
        assert found[:, 2].isposinf().all()


@pytest.mark.parametrize("size", [1, 5, 40])
def test_lanczos_is_exact_once_it_has_made_all_steps(size):
    a = noise(size, size)
    a = a @ a.T
    eigenvalues = torch.linalg.eigvalsh(a)
    start = lanczos.signs(3, size, a.device, a.dtype)
    top, bottom, mean, second = lanczos.spectrum(lambda v: v @ a, start, size + 10)
    assert top.item() == pytest.approx(eigenvalues[-1].item(), rel=1e-10)
    assert bottom.item() == pytest.approx(eigenvalues[0].item(), rel=1e-6, abs=1e-10)
    products = start @ a
    assert mean.item() == pytest.approx(((products * start).sum(-1) / size).mean().item(), rel=1e-12)
    assert second.item() == pytest.approx((products.square().sum(-1) / size).mean().item(), rel=1e-12)


def test_lanczos_stops_where_the_space_is_exhausted():
    """Two eigenvalues: two steps span all there is; the others must add nothing."""
    a = with_singular_values(torch.cat([torch.full((30,), 2.0), torch.full((20,), 5.0)]).double())
    a = a @ a.T
    top, bottom, *_ = lanczos.spectrum(lambda v: v @ a, lanczos.signs(2, 50, a.device, a.dtype), 20)
    assert top.item() == pytest.approx(25, rel=1e-9)
    assert bottom.item() == pytest.approx(4, rel=1e-9)


def test_hutchinson_s_estimates_are_right_on_average():
    a = noise(30, 30)
    a = a @ a.T
    start = lanczos.signs(20000, 30, a.device, a.dtype)
    *_, mean, second = lanczos.spectrum(lambda v: v @ a, start, 1)
    assert mean.item() == pytest.approx(a.trace().item() / 30, rel=0.01)
    assert second.item() == pytest.approx(a.square().sum().item() / 30, rel=0.02)


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "mlp": (nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 50), nn.GELU()), (40,)),
    "inplace": (
        nn.Sequential(nn.Linear(30, 30), nn.LeakyReLU(0.3, inplace=True), nn.Linear(30, 30), nn.ReLU(True)),
        (30,),
    ),
    "convolution": (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4).eval(), nn.SiLU()), (3, 5, 4)),
    "attention": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True), (6, 8)),
    "lstm": (nn.LSTM(4, 6, batch_first=True), (7, 4)),
    "group norm": (nn.Sequential(nn.Conv1d(2, 6, 3), nn.GroupNorm(2, 6), nn.Softplus()), (2, 9)),
}


def first_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        output = module(x * 1)  # one of them works in place
        return output[0] if isinstance(output, tuple) else output

    return call


@pytest.mark.parametrize("kind", MODULES)
def test_the_three_ways_agree(kind):
    """On one block: decomposed, formed, and by products with as many steps as there are dimensions."""
    module, shape = MODULES[kind]
    block = filled(copy.deepcopy(module))
    model = nn.Sequential(block)
    x = noise(3, *shape)
    ways = {
        "exact": JacobianSpectrum(exact=1000, formed=1000),
        "formed": JacobianSpectrum(exact=0, formed=1000, steps=60),
        "products": JacobianSpectrum(exact=0, formed=0, steps=120, probes=60),
    }
    found = {name: look(model, x, instrument=i, blocks=["0"])["0"] for name, i in ways.items()}
    still = copy.deepcopy(block).eval()
    jacobian = torch.autograd.functional.jacobian(lambda one: first_of(still)(one[None])[0].flatten(), x[0]).flatten(1)
    same(found["exact"], five(jacobian), rel=1e-7)
    for way in ("formed", "products"):
        assert found[way]["jacobian_s_max"] == pytest.approx(found["exact"]["jacobian_s_max"], rel=1e-4)
        assert found[way]["jacobian_s_min"] == pytest.approx(found["exact"]["jacobian_s_min"], rel=1e-3, abs=1e-4)
    for quantity in ("jacobian_s2_mean", "jacobian_s2_variance"):
        assert found["formed"][quantity] == pytest.approx(found["exact"][quantity], rel=1e-9)
        assert found["products"][quantity] == pytest.approx(found["exact"][quantity], rel=0.25)


def test_a_wide_stem_by_products():
    """12 steps and 4 vectors, as by default."""
    model = nn.Sequential(filled(nn.Linear(3000, 200)))
    found, expected = look(model, noise(2, 3000))["0"], five(model[0].weight.detach())
    assert found["jacobian_s_max"] == pytest.approx(expected["jacobian_s_max"], rel=0.01)
    assert found["jacobian_s_max"] <= expected["jacobian_s_max"] * (1 + 1e-9)
    assert found["jacobian_s_min"] >= expected["jacobian_s_min"] * (1 - 1e-9)
    assert found["jacobian_s2_mean"] == pytest.approx(expected["jacobian_s2_mean"], rel=0.02)


# --- what a block is called with ------------------------------------------------------------------------------


class Masked(nn.Module):
    """Called with a mask by keyword, and with one that is alike for all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=torch.float64) < 0
        return self.attention(x, src_mask=causal, src_key_padding_mask=padding)


def test_a_block_that_changes_its_input_counts_with_what_it_made_of_it():
    model = nn.Sequential(filled(nn.Sequential(nn.Hardtanh(-1, 1, inplace=True), nn.Linear(4, 4), nn.Tanh())))
    x = 3 * noise(2, 4)
    changed = x.clamp(-1, 1)
    jacobian = explicit(model[0][1:], changed) @ torch.diag((changed[0].abs() < 1).double())
    same(look(model, x.clone(), blocks=["0"])["0"], five(jacobian))


def test_masks_are_kept():
    model, x = filled(Masked()), noise(3, 5, 8)
    padding = torch.tensor([[False, False, False, True, True]] + 2 * [5 * [False]])
    found = look(model, x, padding, instrument=JacobianSpectrum(exact=100), blocks=["attention"])

    def first(one: Tensor) -> Tensor:
        return model(one[None], padding[:1])[0].flatten()

    expected = five(torch.autograd.functional.jacobian(first, x[0]).flatten(1))
    same(found["attention"], expected, rel=1e-7)
    assert found["all"]["jacobian_s_max"] == pytest.approx(expected["jacobian_s_max"], rel=1e-7)


def test_an_embedding_s_network_has_no_spectrum_but_its_blocks_have():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    assert set(look(model, torch.arange(15).view(5, 3) % 10)) == {"2"}


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear, self.head = nn.Bilinear(3, 3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bilinear(x, x + 1))


def test_a_block_of_two_inputs_is_absent():
    assert set(look(TwoInputs(), torch.ones(4, 3))) == {"head", "all"}


def test_examples_along_another_axis_are_absent():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][-1])

    assert set(look(Model(), torch.ones(6, 2, 3))) == {"head"}


def test_a_block_that_cannot_run_again_is_left_out_with_one_warning():
    class Moody(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            if self.calls > 1:
                raise RuntimeError("not now")
            return super().forward(x)

    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Moody(3, 3)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        instrument, optimizer = JacobianSpectrum(), torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, instruments=[instrument], blocks=["0", "1"]) as flow:
            for _ in range(3):
                Moody.calls = 0
                model(torch.ones(4, 3)).sum().backward()
                optimizer.step()
    said = [str(each.message) for each in caught]
    assert said == [f"jacobian_spectrum leaves '{name}' out: not now" for name in ("all", "1")]
    assert {name for _, name, _ in numbers(flow)} == {"0"}


def test_the_network_inside_a_module_that_is_not_called():
    """As a LightningModule: blocks have the names that they have in the network."""

    class Learner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp((5,), 3, Parts(2, 8, activations.tanh, norms.none, skips.none))

    learner = Learner()
    initialize(learner.net, initializers.he_normal, stream(0, "init"))
    ((x, _),) = batches(1, dtype=torch.float32)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.0)
    with watch(learner, instruments=["jacobian_spectrum"]) as flow:
        learner.net(x).square().mean().backward()
        optimizer.step()
    expected = five(explicit(learner.net, x))
    found = {quantity: value for (_, name, quantity), value in numbers(flow).items() if name == "all"}
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_list_of_blocks_is_no_network():
    model = Normalised()
    assert set(look(model, torch.ones(4, 6) + torch.arange(4)[:, None], blocks=["blocks.*"])) >= {"blocks.0", "all"}


def test_of_many_blocks_some_are_taken():
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(40)])
    found = look(model, torch.ones(4, 3), instrument=JacobianSpectrum(most_blocks=5))
    assert list(found) == ["0", "10", "20", "29", "39", "all"]


# --- no trace -------------------------------------------------------------------------------------------------


class Normalised(nn.Module):
    """Statistics of the batch before and inside the blocks."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), norm(6), nn.Tanh()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d,
        norms.batch,
        lambda n: nn.BatchNorm1d(n, momentum=None),
        lambda n: nn.BatchNorm1d(n, track_running_stats=False),
        lambda n: nn.BatchNorm1d(n, affine=False),
    ],
    ids=["torch", "ours", "cumulative", "untracked", "without parameters"],
)
def test_batch_normalisation_keeps_the_batch_s_statistics(norm):
    model, x = filled(Normalised(norm)), 3 * noise(16, 6) + 1
    before = copy.deepcopy(dict(model.named_buffers()))
    reference = copy.deepcopy(model)
    reference(x)
    found = look(model, x, blocks=["blocks.*"])
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name]), name
        assert not torch.equal(buffer, before[name])
    modules = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert all(m.training and "running_mean" in m._buffers for m in modules)

    h, held = x, []
    for block in model.blocks:
        z = block[0](h)
        held.append((z.mean(0).detach(), z.var(0, correction=0).detach()))
        h = torch.tanh(functional.batch_norm(z, None, None, block[1].weight, block[1].bias, True))

    def fixed(h: Tensor, i: int) -> Tensor:
        block = model.blocks[i]
        z = functional.batch_norm(block[0](h), *held[i], block[1].weight, block[1].bias, False)
        return torch.tanh(z)

    same(found["blocks.0"], five(explicit(lambda h: fixed(h, 0), x)), rel=1e-7)
    same(found["all"], five(explicit(lambda h: fixed(fixed(fixed(h, 0), 1), 2), x)), rel=1e-7)


def test_training_is_the_same_bit_for_bit():
    """Dropout, batch normalisation, stochastic depth: parameters, buffers, chance, modes and hooks."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
            self.second = nn.RReLU()
            self.last = nn.Sequential(nn.Linear(8, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.second(self.first(x)))

    model = filled(Model()).float()
    models, after = (copy.deepcopy(model), copy.deepcopy(model)), []
    data = batches(5, dtype=torch.float32)
    for each, instruments in zip(models, ([], [JacobianSpectrum(), JacobianSpectrum(exact=0, formed=0)]), strict=True):
        torch.manual_seed(0)
        train(each, instruments, data, blocks=["first", "last"])
        after.append(torch.get_rng_state())
    assert torch.equal(*after)
    for (name, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for module in models[1].modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_nobody_else_s_hook_fires():
    """Neither those of other instruments nor a user's; all are there again afterwards."""
    model, calls = network(), []
    handle = model[3].register_forward_hook(lambda *_: calls.append(1))
    model[3].register_full_backward_hook(lambda *_: calls.append(2))
    others = ["delta_norm", "activation_stats", "gradient_similarity", "gradient_noise", "effective_rank"]
    alone = numbers(train(network(), others, batches(3)))
    assert not calls
    together = numbers(train(model, ["jacobian_spectrum", *others], batches(3)))
    assert calls == [1, 2] * 3
    assert {k: v for k, v in together.items() if not k[2].startswith("jacobian")} == alone
    handle.remove()
    assert len(model[3]._backward_hooks) == 1


# --- ways of training -----------------------------------------------------------------------------------------


def test_dropout_is_off():
    ((x, _),) = batches(1)
    expected = look(network(), x)
    for name, found in look(network(dropout=0.5), x).items():
        same(found, expected[name])


def test_accumulated_batches_count_with_their_first():
    found = numbers(train(network(), ["jacobian_spectrum"], batches(2), accumulate=2))
    assert found == pytest.approx(numbers(train(network(), ["jacobian_spectrum"], batches(1))), rel=1e-12)


def test_a_scaler_and_autocast():
    """Jacobians are taken in float32; only inputs of later blocks are bfloat16's."""
    data = batches(2, dtype=torch.float32)
    expected = numbers(train(network(torch.float32), ["jacobian_spectrum"], data))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    assert numbers(train(network(torch.float32), ["jacobian_spectrum"], data, scaler=scaler)) == pytest.approx(
        expected, rel=1e-4
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = numbers(train(network(torch.float32), ["jacobian_spectrum"], data))
    assert found == pytest.approx(expected, rel=0.1)
    for name in ("0", "all"):
        assert found[0, name, "jacobian_s_max"] == pytest.approx(expected[0, name, "jacobian_s_max"], rel=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_network(reentrant):
    found = numbers(train(Checkpointed(reentrant), ["jacobian_spectrum"], batches(2)))
    expected = numbers(train(network(), ["jacobian_spectrum"], batches(2)))
    assert found == pytest.approx(under("net", expected), rel=1e-9)


def test_a_compiled_network():
    expected = numbers(train(network(), ["jacobian_spectrum"], batches(2)))
    found = numbers(train(torch.compile(network(), backend="aot_eager"), ["jacobian_spectrum"], batches(2)))
    assert found == pytest.approx(under("_orig_mod", expected), rel=1e-9)


def test_our_networks_need_no_warning():
    """A convolution, a residual network with batch norm and dropout: every row is there."""
    parts = Parts(4, 8, activations.relu, norms.batch, skips.preact_residual, dropout=0.1)
    net = mlp((5,), 3, parts)
    initialize(net, initializers.he_normal, stream(0, "init"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = look(net, noise(8, 5).float())
    assert set(found) == {"stem", "blocks.00", "blocks.01", "blocks.02", "blocks.03", "head", "all"}
