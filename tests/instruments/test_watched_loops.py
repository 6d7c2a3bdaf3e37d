"""Instruments that look inside the network agree with themselves in every way of training, and leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from watched import SEVEN, Numbers, batches, fill, network, numbers, sgd, train

from gradflow import GradientFlow
from gradflow.instruments.flow import watch

QUANTITIES = {
    "delta_norm": {"delta_norm"},
    "update_ratio": {"update_ratio"},
    "weight_norm": {"weight_norm", "weight_change", "weight_near_zero"},
    "activation_stats": {"activation_mean", "activation_variance", "activation_saturated", "activation_dead"},
    "derivative_chain": {"slope", "slope_chain"},
    "loss_curve": {"loss"},
}


@pytest.fixture(scope="module")
def plain() -> Numbers:
    """Six ordinary steps."""
    return numbers(train(network(), SEVEN, batches(6)))


def renamed(found: Numbers, name: Callable[[str], str]) -> Numbers:
    return {(step, name(block), quantity): value for (step, block, quantity), value in found.items()}


def test_every_quantity_is_there(plain):
    found = {quantity for *_, quantity in plain}
    assert {each for each in found if not each.startswith("grad_histogram/")} == set().union(*QUANTITIES.values())
    assert any(each.startswith("grad_histogram/-") for each in found)


# --- ways of training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_batches_are_one_batch(plain, parts):
    """The same six batches in parts: every number but rounding."""
    data = [(x[i::parts], y[i::parts]) for x, y in batches(6) for i in range(parts)]
    assert numbers(train(network(), SEVEN, data, accumulate=parts)) == pytest.approx(plain, rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_s_factor_leaves_no_trace(fused):
    """2¹³, in float32: bit for bit. A fused optimiser unscales inside its step."""
    data = batches(6, dtype=torch.float32)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, fused=fused)

    without = numbers(train(network(torch.float32), SEVEN, data, make_optimizer=optimizer))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    found = numbers(train(network(torch.float32), SEVEN, data, scaler=scaler, make_optimizer=optimizer))
    assert found == pytest.approx(without, rel=1e-6, abs=1e-12)


def test_under_autocast_numbers_are_those_of_float32_roughly():
    """bfloat16 has 8 bits: everything but histograms within a few percent."""
    expected = numbers(train(network(torch.float32), SEVEN, batches(2, dtype=torch.float32)))
    with torch.autocast("cpu", torch.bfloat16):
        found = numbers(train(network(torch.float32), SEVEN, batches(2, dtype=torch.float32)))

    def smooth(all_of_them: Numbers) -> Numbers:
        return {
            k: v for k, v in all_of_them.items() if k[0] == 0 and not k[2].startswith(("grad_hist", "activation_s"))
        }

    assert smooth(found) == pytest.approx(smooth(expected), rel=0.06, abs=1e-3)


def test_half_activations_with_half_parameters_of_their_own():
    """A learnt slope in bfloat16 cannot be applied to float32."""
    model = nn.Sequential(nn.Linear(5, 6), nn.PReLU(6), nn.Linear(6, 3)).bfloat16()
    found = numbers(train(model, SEVEN, batches(1, dtype=torch.bfloat16)))
    assert {"slope", "activation_mean", "delta_norm"} <= {quantity for *_, quantity in found}


class Checkpointed(nn.Module):
    """Parts of the network compute once more in the backward pass instead of keeping what they need."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = network(), reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.net[:3], x.requires_grad_(), use_reentrant=self.reentrant)
        h = checkpoint(self.net[3:5], h, use_reentrant=self.reentrant)
        return self.net[5](h)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_checkpointing(reentrant, accumulate):
    expected = numbers(train(network(), SEVEN, batches(6), accumulate=accumulate))
    found = numbers(train(Checkpointed(reentrant), SEVEN, batches(6), accumulate=accumulate))
    assert renamed(found, lambda name: name.removeprefix("net.")) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(plain, backend):
    """Steps that are watched inside run uncompiled, with the same numbers; the others run as one graph."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    model = torch.compile(network(), backend=backend, fullgraph=True)
    found = numbers(train(model, SEVEN, batches(6), every_n_steps=2))
    expected = {key: value for key, value in plain.items() if key[0] % 2 == 0 and key[2] != "activation_dead"}
    found = renamed(found, lambda name: name.removeprefix("_orig_mod."))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_place_relu(dtype):
    data = batches(6, dtype=dtype)
    found = [numbers(train(network(dtype, inplace), SEVEN, data)) for inplace in (True, False)]
    assert found[0] == found[1]


def test_one_activation_module_for_all_layers():
    """As if each had its own: an activation outside every block belongs to the block before it."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3)])
            self.phi = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.maps[2](self.phi(self.maps[1](self.phi(self.maps[0](x)))))

    apart = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    shared = Shared().double()
    for model in (apart, shared):
        fill(model)
    expected = renamed(numbers(train(apart, SEVEN, batches(6))), lambda n: n if n == "all" else f"maps.{int(n) // 2}")
    assert numbers(train(shared, SEVEN, batches(6))) == pytest.approx(expected, rel=1e-12)


def test_an_evaluation_in_between_is_not_seen(plain):
    model, data = network(), batches(6)
    optimizer = sgd(model)
    with watch(model, instruments=SEVEN) as flow:
        for x, y in data:
            optimizer.zero_grad()
            with torch.no_grad():
                model(100 * x)
            loss = functional.cross_entropy(model(x), y)
            flow.loss(loss)
            loss.backward()
            with torch.no_grad():
                model(100 * x)
            optimizer.step()
    assert numbers(flow) == plain


# --- traces ---------------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """Draws random numbers: dropout, and a slope that is drawn anew for every element."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 16), nn.Linear(16, 3)
        self.drop, self.phi = nn.Dropout(0.3), nn.RReLU(inplace=True)
        fill(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.drop(self.phi(self.one(x))))


@pytest.mark.parametrize("instruments", [[name] for name in SEVEN] + [SEVEN], ids=lambda names: "+".join(names)[:20])
def test_training_is_the_same_bit_for_bit(instruments):
    """Weights after six steps, and what would be drawn next."""
    after = []
    for watched in ([], instruments):
        torch.manual_seed(3)
        model = Noisy()
        train(model, watched, batches(6, dtype=torch.float32), every_n_steps=2)
        after.append((torch.cat([p.detach().flatten() for p in model.parameters()]), torch.get_rng_state()))
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(after[0][0], after[1][0])
    assert torch.equal(after[0][1], after[1][1])


def test_intervals_of_their_own(plain):
    found = numbers(train(network(), {"delta_norm": 2, "derivative_chain": 3}, batches(6)))
    assert {key: value for key, value in plain.items() if key[2] == "delta_norm" and key[0] % 2 == 0} | {
        key: value for key, value in plain.items() if key[2].startswith("slope") and key[0] % 3 == 0
    } == found


# --- Lightning ------------------------------------------------------------------------------------------------


class Lit(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network(torch.float32)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return sgd(self)


def fit(module: Lit, flow: GradientFlow, folder: Path, data: list[Any], **options: Any) -> Numbers:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "max_epochs": 1}
    options = {"enable_checkpointing": False, **quiet, **options}
    ckpt_path = options.pop("ckpt_path", None)
    trainer = Trainer(accelerator="cpu", devices=1, callbacks=[flow], default_root_dir=folder, **options)
    trainer.fit(module, DataLoader(data, batch_size=None), ckpt_path=ckpt_path, weights_only=True)
    if options["enable_checkpointing"]:
        trainer.save_checkpoint(folder / "last.ckpt")
    return renamed(numbers(flow.flow), lambda name: name.removeprefix("net."))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_in_lightning(tmp_path, accumulate):
    expected = numbers(train(network(), SEVEN, batches(6), accumulate=accumulate))
    flow = GradientFlow(every_n_steps=1, instruments=SEVEN)
    options = {"precision": "64-true", "accumulate_grad_batches": accumulate}
    found = fit(Lit(), flow, tmp_path, batches(6), **options)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)  # weights begin as float32


@pytest.mark.filterwarnings("ignore")
def test_lightning_s_scaler(tmp_path):
    """float16 with a factor of 2¹⁰ on the loss, to float16's precision."""
    data = batches(2, dtype=torch.float32)
    expected = numbers(train(network(torch.float32), SEVEN, data))
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
    found = fit(Lit(), GradientFlow(every_n_steps=1, instruments=SEVEN), tmp_path, data, plugins=[plugin])
    for quantity in ("loss", "delta_norm", "slope", "slope_chain", "activation_mean", "update_ratio", "weight_norm"):
        wanted = {key: value for key, value in expected.items() if key[2] == quantity}
        assert {key: value for key, value in found.items() if key[2] == quantity} == pytest.approx(wanted, rel=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_a_restart_in_lightning(tmp_path):
    """Six steps, or three and three: the change since initialisation, and the window of dead units, go on."""
    module = Lit()
    module.net[3].bias.data[0] = -100
    start = copy.deepcopy(module)
    whole = fit(module, GradientFlow(every_n_steps=1, instruments=SEVEN), tmp_path, batches(6, dtype=torch.float32))
    options = {"enable_checkpointing": True}
    data = batches(6, dtype=torch.float32)
    fit(start, GradientFlow(every_n_steps=1, instruments=SEVEN), tmp_path, data[:3], **options)
    again = GradientFlow(every_n_steps=1, instruments=SEVEN)
    found = fit(Lit(), again, tmp_path, data[3:], ckpt_path=tmp_path / "last.ckpt", max_epochs=2)
    assert found == {key: value for key, value in whole.items() if key[0] >= 3}
    assert found[5, "3", "activation_dead"] >= 1 / 6
