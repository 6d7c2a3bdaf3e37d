"""Likeness of gradients against cosines taken one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from watched import Checkpointed, batches, network, numbers, of, sgd, train, under

from gradflow import GradientFlow
from gradflow.instruments.blocks import Block, find_blocks
from gradflow.instruments.flow import Flow, watch
from gradflow.instruments.gradient_similarity import GradientSimilarity
from gradflow.instruments.instrument import ABSENT, Part, Update


def every(steps: int) -> GradientSimilarity:
    made = GradientSimilarity()
    made.every = steps
    return made


def correlations(model: nn.Sequential, x: Tensor, y: Tensor) -> dict[str, float]:
    """Each example alone through the network, its gradient at every block's output, cosines pair by pair."""
    gradients: dict[str, list[Tensor]] = {b.name: [] for b in find_blocks(model)}
    for i in range(len(x)):
        h, outputs = x[i : i + 1], {}
        for name, module in model.named_children():
            h = outputs[name] = module(h)
        loss = functional.cross_entropy(h, y[i : i + 1])
        for name, found in gradients.items():
            found.append(torch.autograd.grad(loss, outputs[name], retain_graph=True)[0].flatten())
    return {name: mean_of_pairs(found) for name, found in gradients.items()}


def mean_of_pairs(vectors: list[Tensor]) -> float:
    n = len(vectors)
    pairs = [functional.cosine_similarity(vectors[i], vectors[j], dim=0) for i in range(n) for j in range(i)]
    return torch.stack(pairs).mean().item()


def gradients_of(steps: int, **options: Any) -> list[dict[str, Tensor]]:
    """Flat gradients of every block, and all, at each step."""
    model, found = network(), []
    optimizer = sgd(model)
    for x, y in batches(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        each = {b.name: torch.cat([p.grad.flatten().clone() for p in b.parameters]) for b in find_blocks(model)}
        found.append({**each, "all": torch.cat(list(each.values()))})
        optimizer.step()
    return found


def cosines(steps: int) -> dict[int, dict[str, float]]:
    seen = gradients_of(steps)
    return {
        s: {k: functional.cosine_similarity(seen[s - 1][k], g, dim=0).item() for k, g in seen[s].items()}
        for s in range(1, steps)
    }


# --- between examples -----------------------------------------------------------------------------------------


def test_correlation_example_by_example():
    found = numbers(train(network(), ["gradient_similarity"], batches(2)))
    assert of(found, "gradient_correlation") == pytest.approx(correlations(network(), *batches(1)[0]), rel=1e-10)


def test_accumulated_batches_are_averaged():
    found = numbers(train(network(), ["gradient_similarity"], batches(2), accumulate=2))
    a, b = (correlations(network(), *batch) for batch in batches(2))
    assert of(found, "gradient_correlation") == pytest.approx({k: (a[k] + b[k]) / 2 for k in a}, rel=1e-10)


def test_equal_examples_are_alike_and_opposite_ones_opposed():
    """A linear network under losses ±x: pairs of one sign have cosine 1, of different signs −1."""
    model = nn.Linear(3, 4, bias=False).double()
    x = torch.ones(4, 3, dtype=torch.float64)
    sign = torch.tensor([1.0, 1, 1, -1], dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=["gradient_similarity"]) as flow:
        (model(x).sum(1) * sign).mean().backward()
        optimizer.step()
    assert list(of(numbers(flow), "gradient_correlation").values()) == pytest.approx([(6 - 6) / 12], abs=1e-12)


def test_relu_networks_shatter_gradients():
    """Balduzzi et al. 2017: the correlation decays with the distance from the loss; a linear network's does not."""
    torch.manual_seed(0)

    def by_block(activation: type[nn.Module]) -> list[float]:
        layers = [[nn.Linear(64, 64, bias=False), activation()] for _ in range(20)]
        model = nn.Sequential(*[m for pair in layers for m in pair], nn.Linear(64, 1))
        for layer in model[::2]:
            nn.init.normal_(layer.weight, std=(2 / 64 if activation is nn.ReLU else 1 / 64) ** 0.5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, instruments=["gradient_similarity"]) as flow:
            model(torch.randn(32, 64)).mean().backward()
            optimizer.step()
        return list(of(numbers(flow), "gradient_correlation").values())

    straight, rectified = by_block(nn.Identity), by_block(nn.ReLU)
    assert straight == pytest.approx([1.0] * 21)
    assert rectified[-1] == pytest.approx(1.0)
    assert rectified[0] < rectified[10] < rectified[18] < 1


# --- between steps --------------------------------------------------------------------------------------------


def test_cosine_of_successive_steps():
    found = numbers(train(network(), ["gradient_similarity"], batches(5)))
    assert of(found, "gradient_cosine", 0) == {}
    for step, expected in cosines(5).items():
        assert of(found, "gradient_cosine", step) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("interval", [2, 3])
def test_between_intervals_only_the_step_before_is_used(interval):
    found = numbers(train(network(), [every(interval)], batches(7)))
    assert {step for step, *_ in found} == set(range(0, 7, interval))
    expected = cosines(7)
    for step in range(interval, 7, interval):
        assert of(found, "gradient_cosine", step) == pytest.approx(expected[step], rel=1e-10)


def test_the_step_before_is_not_looked_into():
    instrument = every(3)
    assert [instrument.due(s) for s in range(6)] == [True, False, True, True, False, True]
    assert [instrument.sees(s) for s in range(6)] == [True, False, False, True, False, False]


def read(instrument: GradientSimilarity, gradients: list[Tensor | None], step: int) -> list[float] | None:
    parameters = [nn.Parameter(torch.zeros(3)) for _ in gradients] if not instrument.blocks else None
    if parameters is not None:
        instrument.bind(nn.Module(), [Block(str(i), i, (p,)) for i, p in enumerate(parameters)])
    for block, gradient in zip(instrument.blocks, gradients, strict=True):
        block.parameters[0].grad = gradient
    reading = instrument.before_clipping(Update(step, Part(instrument.blocks)))
    return None if reading is None else reading.values.tolist()


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-38, 1e30])
def test_no_scale(size):
    """Gradients far below 1e-22, whose squares float32 does not know."""
    instrument = GradientSimilarity()
    assert read(instrument, [torch.tensor([3.0, 4.0, 0.0]) * size, torch.tensor([0.0, 0.0, 5.0]) * size], 0) is None
    found = read(instrument, [torch.tensor([4.0, 3.0, 0.0]), torch.tensor([0.0, 0.0, 5.0])], 1)
    assert found == pytest.approx([24 / 25, 1.0, 49 / 50], rel=1e-6)


def test_what_is_zero_or_missing_is_absent():
    instrument = GradientSimilarity()
    ones = torch.ones(3)
    read(instrument, [ones, ones, None, torch.zeros(3)], 0)
    assert read(instrument, [ones, None, ones, ones], 1) == pytest.approx(
        [1.0, ABSENT, ABSENT, ABSENT, 3 / (6 * 9) ** 0.5]
    )


def test_steps_that_do_not_follow_each_other_are_not_compared():
    instrument = GradientSimilarity()
    read(instrument, [torch.ones(3)], 0)
    assert read(instrument, [torch.ones(3)], 2) is None
    assert read(instrument, [torch.ones(3)], 3) == pytest.approx([1.0, 1.0])


def test_two_optimisers():
    """Each compares what it updates; neither disturbs the other."""
    model = network()
    optimizers = [torch.optim.SGD(model[:3].parameters(), lr=0.5), torch.optim.SGD(model[3:].parameters(), lr=0.5)]
    seen = []
    with watch(model, instruments=["gradient_similarity"]) as flow:
        for x, y in batches(3):
            model.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            seen.append(
                {b.name: torch.cat([p.grad.flatten().clone() for p in b.parameters]) for b in find_blocks(model)}
            )
            for optimizer in optimizers:
                optimizer.step()
    found = numbers(flow)
    for step in (1, 2):
        for name, gradient in seen[step].items():
            expected = functional.cosine_similarity(seen[step - 1][name], gradient, dim=0).item()
            assert found[step, name, "gradient_cosine"] == pytest.approx(expected, rel=1e-10)


def test_a_restart_goes_on_with_the_same_numbers():
    """Stopped after step 2, whose gradient step 3 is compared with."""
    model, data = network(), batches(6)
    optimizer = sgd(model)

    def go_on(instrument: GradientSimilarity, steps: range) -> dict[Any, float]:
        flow = Flow(model, instruments=[instrument])
        for step in steps:
            flow.session.begin(step)
            optimizer.zero_grad()
            functional.cross_entropy(model(data[step][0]), data[step][1]).backward()
            update = flow.session.before(optimizer, step)
            optimizer.step()
            flow.session.after(optimizer, update)
        flow.session.end()
        return numbers(flow)

    before, after = every(3), every(3)
    found = go_on(before, range(3))
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    found |= go_on(after, range(3, 6))
    assert found == numbers(train(network(), [every(3)], batches(6)))


def test_nothing_is_kept_where_the_next_step_is_not_due():
    model, instrument = network(), every(3)
    train(model, [instrument], batches(4))
    assert instrument.state_dict() == {}
    train(network(), [instrument], batches(3))
    assert set(instrument.state_dict()["before"]) == {f"{b}/{i}" for b in ("0", "3", "5") for i in (0, 1)}


# --- ways of training -----------------------------------------------------------------------------------------


def test_a_scaler_s_factor_changes_nothing():
    data = batches(4, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    found = numbers(train(network(torch.float32), ["gradient_similarity"], data, scaler=scaler))
    assert found == pytest.approx(numbers(train(network(torch.float32), ["gradient_similarity"], data)), rel=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_network(reentrant):
    found = numbers(train(Checkpointed(reentrant), ["gradient_similarity"], batches(3)))
    expected = numbers(train(network(), ["gradient_similarity"], batches(3)))
    assert found == pytest.approx(under("net", expected), rel=1e-10)


def test_a_compiled_network():
    expected = numbers(train(network(), ["gradient_similarity"], batches(3)))
    found = numbers(train(torch.compile(network(), backend="aot_eager"), ["gradient_similarity"], batches(3)))
    assert found == pytest.approx(under("_orig_mod", expected), rel=1e-10)


def test_training_is_the_same_bit_for_bit():
    models = network(dropout=0.5), network(dropout=0.5)
    for model, instruments in zip(models, ([], [every(2)]), strict=True):
        torch.manual_seed(0)
        train(model, instruments, batches(4))
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


class Learner(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network(torch.float32)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self)


def test_a_lightning_checkpoint_keeps_the_gradient(tmp_path):
    """Epochs of two steps; step 4 is compared with the last step of a run that ended there."""
    data = DataLoader(
        [each for x, y in batches(2, dtype=torch.float32) for each in zip(x, y, strict=True)], batch_size=8
    )
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}

    def fit(steps: int, path: Any = None) -> Any:
        callback = GradientFlow(instruments=[every(2)])
        trainer = Trainer(max_steps=steps, callbacks=[callback], enable_checkpointing=False, **options)
        trainer.fit(Learner(), data, ckpt_path=path)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return numbers(callback.flow)

    whole = fit(6)
    first, rest = fit(4), fit(6, tmp_path / "4.ckpt")
    assert (4, "all", "gradient_cosine") in rest
    assert first | rest == pytest.approx(whole, rel=1e-6)
