"""What instruments are shown of a network, at which steps, and that nothing is left in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradflow import watch
from gradflow.instruments.blocks import Block, find_blocks, in_order
from gradflow.instruments.instrument import Instrument
from gradflow.instruments.observer import Observer
from gradflow.models import activations


class Witness(Instrument):
    """Writes down whatever it is shown."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.every = every
        self.seen: list[tuple[Any, ...]] = []

    def output(self, block: Block, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.seen.append(("output", block.name, output.clone()))

    def activated(self, block: Block, activation: nn.Module, z: Tensor, h: Tensor, slope: Tensor) -> None:
        self.seen.append(("activated", block.name, z, h, slope))

    def delta(self, block: Block, gradient: Tensor) -> None:
        self.seen.append(("delta", block.name, gradient.clone()))

    def mapped(self, block: Block, module: nn.Module, x: Tensor, gradient: Tensor) -> None:
        self.seen.append(("mapped", block.name, x, gradient.clone()))

    def of(self, moment: str) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.seen if each[0] == moment]


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Sigmoid(), nn.Linear(3, 1)).double()


def once(model: nn.Module, x: Tensor, *instruments: Instrument) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=list(instruments)):
        model(x).square().mean().backward()
        optimizer.step()
        assert hooks(model) or not any(i.due(1) for i in instruments)
    assert hooks(model) == 0


def test_outputs_activations_and_gradients_against_autograd():
    model, x, witness = net(), torch.randn(8, 4, dtype=torch.float64), Witness()
    states = [x]
    for module in model:
        states.append(module(states[-1]))
    gradients = torch.autograd.grad(states[-1].square().mean(), states[1:])
    once(model, x, witness)
    assert [name for name, _ in witness.of("output")] == ["0", "2", "4"]
    for place, (_, output) in zip((1, 3, 5), witness.of("output"), strict=True):
        torch.testing.assert_close(output, states[place], rtol=0, atol=0)
    for place, (name, gradient) in zip((5, 3, 1), witness.of("delta"), strict=True):
        assert name == str(place - 1)
        torch.testing.assert_close(gradient, gradients[place - 1], rtol=1e-12, atol=0)
    (first, z, h, slope), (second, *_, slope_2) = witness.of("activated")
    assert (first, second) == ("0", "2")  # those after which they come
    torch.testing.assert_close(z, states[1])
    torch.testing.assert_close(h, states[1].tanh())
    torch.testing.assert_close(slope, 1 - states[1].tanh() ** 2, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(slope_2, states[4] * (1 - states[4]), rtol=1e-12, atol=1e-15)
    for place, (_, seen, gradient) in zip((4, 2, 0), witness.of("mapped"), strict=True):
        torch.testing.assert_close(seen, states[place], rtol=0, atol=0)
        torch.testing.assert_close(gradient, gradients[place], rtol=1e-12, atol=0)


def test_at_most_so_many_examples():
    model, witness = net(), Witness()
    witness.examples = 3
    once(model, torch.randn(8, 4, dtype=torch.float64), witness)
    assert {len(z) for _, z, *_ in witness.of("activated")} == {3}
    assert {(len(x), len(g)) for _, x, g in witness.of("mapped")} == {(3, 3)}
    assert {len(g) for _, g in witness.of("delta")} == {8}


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_part_is_seen_once(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            half = checkpoint(self.inner[:3], x, use_reentrant=reentrant)
            return self.inner[3:](half)

    plain, model, x = Witness(), Witness(), torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    once(net(), x, plain)
    once(Checkpointed(), x, model)
    for moment in ("output", "activated", "delta", "mapped"):
        expected = sorted(plain.of(moment), key=lambda each: each[0])
        found = sorted(model.of(moment), key=lambda each: each[0])
        assert [name for name, *_ in found] == [f"inner.{name}" for name, *_ in expected]
        for (_, *these), (_, *those) in zip(expected, found, strict=True):
            for a, b in zip(these, those, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_evaluation_is_not_seen():
    model, witness, x = net(), Witness(), torch.randn(8, 4, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=[witness]):
        with torch.no_grad():
            model(x)
        model(x).sum().backward()
        optimizer.step()
    assert len(witness.of("output")) == 3


def test_hooks_are_there_only_at_steps_that_are_due():
    model, witness, x = net(), Witness(every=3), torch.randn(8, 4, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    there = []
    with watch(model, instruments=[witness]):
        for _ in range(7):
            there.append(hooks(model) > 0)
            model(x).sum().backward()
            optimizer.step()
    assert there == [True, False, False, True, False, False, True]
    assert len(witness.of("output")) == 9


def test_activations_in_place_and_of_random_slope():
    """The pre-activation is that of before; the training's random numbers are those of an unwatched one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3), nn.RReLU(), nn.Linear(3, 1))
    x, witness = torch.randn(8, 4), Witness()
    z = model[0](x).detach()
    torch.manual_seed(1)
    expected = model(x).detach()
    torch.manual_seed(1)
    outputs = []
    handle = model.register_forward_hook(lambda *given: outputs.append(given[-1].detach()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=[witness]):
        model(x).sum().backward()
        optimizer.step()
    handle.remove()
    assert torch.equal(outputs[0], expected)
    assert torch.equal(witness.of("activated")[0][1], z)
    assert torch.equal(witness.of("activated")[0][3], (z > 0).float())
    assert witness.of("output")[0][1].min() < 0  # before the change in place


def test_an_activation_belongs_to_the_block_around_it():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(4, 5), nn.Linear(5, 1)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 10), activations.swiglu()) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    witness = Witness()
    once(Whole(), torch.randn(8, 4), witness)
    assert [name for name, *_ in witness.of("activated")] == ["blocks.00", "blocks.01"]
    assert [name for name, *_ in witness.of("output")] == ["stem", "blocks.00", "blocks.01", "head"]
    _, z, _, slope = witness.of("activated")[0]
    z = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(activations.swiglu()(z).sum(), z)
    torch.testing.assert_close(slope, expected)


# --- compiled networks ----------------------------------------------------------------------------------------


def test_a_compiled_network_runs_uncompiled_only_while_it_is_looked_into():
    from torch._dynamo.testing import CompileCounterWithBackend

    model, witness = net(), Witness(every=4)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)  # a graph break would raise
    x, optimizer = torch.randn(8, 4, dtype=torch.float64), torch.optim.SGD(model.parameters(), lr=0.1)
    plain = net()
    other = torch.optim.SGD(plain.parameters(), lr=0.1)
    with watch(compiled, instruments=["grad_norm", witness]) as flow:
        for _ in range(8):
            for each, its in ((compiled, optimizer), (plain, other)):
                its.zero_grad()
                each(x).square().mean().backward()
                its.step()
    assert counter.frame_count == 1
    assert len(witness.of("output")) == 6  # three blocks at steps 0 and 4
    assert flow.norms()[0].tolist() == list(range(8))
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    torch._dynamo.reset()


# --- the order of execution -----------------------------------------------------------------------------------


class Backwards(nn.Module):
    """Its layers stand in the source in the opposite order."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle, self.first = nn.Linear(3, 1), nn.Linear(3, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def test_blocks_are_numbered_by_the_order_in_which_they_run():
    model, x = Backwards(), torch.randn(8, 4)
    assert [b.name for b in find_blocks(model)] == ["last", "middle", "first"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model) as flow:
        for _ in range(2):
            model(x).square().mean().backward()
            optimizer.step()
    assert [(b.name, b.index) for b in flow.blocks] == [("first", 0), ("middle", 1), ("last", 2)]
    assert {(row["name"], row["block"]) for row in flow.rows() if row["block"] is not None} == {
        ("first", 0),
        ("middle", 1),
        ("last", 2),
    }


def test_blocks_that_a_person_names_keep_their_order():
    model, x = Backwards(), torch.randn(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, blocks=["last", "first"]) as flow:
        model(x).square().mean().backward()
        optimizer.step()
    assert [(b.name, b.index) for b in flow.blocks] == [("last", 0), ("first", 1)]


def test_what_never_runs_as_a_module_stays_behind_its_neighbour():
    """`nn.MultiheadAttention` uses its output map's weights without calling it."""
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x, optimizer = torch.randn(4, 5, 8), torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model) as flow:
        model(x).square().mean().backward()
        optimizer.step()
    assert [b.name for b in flow.blocks] == ["self_attn", "self_attn.out_proj", "norm1", "linear1", "linear2", "norm2"]
    a, b = Block("a", 0, ()), Block("b", 1, ())
    assert [block.name for block in in_order([a, b], [])] == ["a", "b"]


def test_an_observer_without_anything_to_see_attaches_nothing():
    model = net()
    observer = Observer(model, find_blocks(model), [])
    observer.attach([])
    assert hooks(model) == 0
