"""`watch` in plain PyTorch loops: several optimisers, AMP, clipping; and how a flow is read."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradflow
from gradflow import watch
from gradflow.instruments.flow import Flow


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def loss(net: nn.Module, step: int = 0) -> Tensor:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return net(x).square().mean()


def by_autograd(net: nn.Sequential, step: int = 0) -> list[float]:
    """The norm of each linear layer's gradient, from `torch.autograd.grad`."""
    linears = [net[0], net[2], net[4]]
    return [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss(net, step), [*m.parameters()])]).norm().item()
        for m in linears
    ]


def sgd(net: nn.Module, **options: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.3, **options)


def train(net: nn.Sequential, steps: int, optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """A plain loop; the norms that autograd gives before each step."""
    expected = []
    for step in range(steps):
        expected.append(by_autograd(net, step))
        optimizer.zero_grad()
        loss(net, step).backward()
        optimizer.step()
    return expected


def test_a_plain_loop_against_autograd():
    net = model()
    with watch(net) as flow:
        expected = train(net, 5, sgd(net))
    steps, values = flow.norms()
    assert steps.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_watching_does_not_change_the_training():
    alone, watched = model(), model()
    train(alone, 5, sgd(alone, momentum=0.9))
    with watch(watched):
        train(watched, 5, sgd(watched, momentum=0.9))
    assert all(torch.equal(p, q) for p, q in zip(alone.parameters(), watched.parameters(), strict=True))


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (10, [0])])
def test_every_n_steps(every, expected):
    net = model()
    with watch(net, every_n_steps=every) as flow:
        reference = train(net, 7, sgd(net))
    steps, values = flow.norms()
    assert steps.tolist() == expected
    np.testing.assert_allclose(values, np.array(reference)[expected], rtol=1e-12)


def test_every_n_steps_must_be_positive():
    with pytest.raises(ValueError, match="every_n_steps=0"), watch(model(), every_n_steps=0):
        pass


def test_several_optimizers():
    """Each is measured at its own steps, for the parameters that it updates; one of another model not at all."""
    net, stranger = model(), model()
    first = torch.optim.SGD(net[:3].parameters(), lr=0.1)
    last = torch.optim.Adam(net[4].parameters(), lr=0.1)
    other = torch.optim.SGD(stranger.parameters(), lr=0.1)
    expected = []
    with watch(net) as flow:
        for step in range(4):
            net.zero_grad()
            row = by_autograd(net, step)
            loss(net, step).backward()
            loss(stranger, step).backward()
            other.step()
            first.step()
            if step % 2:
                last.step()
            expected.append(row)
    steps, values = flow.norms()
    assert steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(values[:, :2], np.array(expected)[:, :2], rtol=1e-12)
    np.testing.assert_allclose(values[:2, 2], np.array(expected)[[1, 3], 2], rtol=1e-12)  # its own steps 0 and 1
    assert np.isnan(values[2:, 2]).all()


def test_an_optimizer_that_takes_the_place_of_another_in_memory_is_another():
    """Optimisers made anew each time, as in layer-wise training, get the memory, and so the id, of earlier ones."""
    net, expected = model(), []
    with watch(net) as flow:
        for i in range(30):
            place = (0, 2, 4)[i % 3]
            loss(net).backward()
            torch.optim.SGD(net[place].parameters(), lr=0.0).step()
            expected.append((0, str(place)))
    assert [(m.step, m.rows[0].name) for m in flow.measurements] == expected


@pytest.mark.parametrize("fused", [False, True])
def test_a_float16_scaler_s_factor_is_taken_off(fused):
    """GradScaler unscales before the optimiser's step, or, for a fused optimiser, inside it."""
    net = model().float()
    reference, x = copy.deepcopy(net).double(), torch.randn(8, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with watch(net) as flow:
        scaler.scale(net(x).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    reference(x.double()).square().mean().backward()
    expected = [torch.cat([p.grad.flatten() for p in reference[i].parameters()]).norm().item() for i in (0, 2, 4)]
    np.testing.assert_allclose(flow.norms()[1], [expected], rtol=1e-5)


def test_the_hook_sees_what_the_optimizer_receives_after_clipping():
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(net) as flow:
        loss(net).backward()
        total = nn.utils.clip_grad_norm_(net.parameters(), 1e-3).item()
        optimizer.step()
    assert total > 1e-2
    (all_of_it,) = [row["value"] for row in flow.rows() if (row["name"], row["quantity"]) == ("all", "grad_norm")]
    assert all_of_it == pytest.approx(1e-3 * total / (total + 1e-6), rel=1e-9)


def test_measure_reads_the_gradient_before_clipping():
    net = model()
    flow, expected = Flow(net), by_autograd(net)
    loss(net).backward()
    flow.measure(7)
    nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    steps, values = flow.norms()
    assert steps.tolist() == [7]
    np.testing.assert_allclose(values[0], expected, rtol=1e-12)


def test_measure_inside_watch_is_not_overwritten_by_the_clipped_gradient():
    """As `watch` advises: for the norms before clipping call `flow.measure(step)` between backward and clipping."""
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    expected = by_autograd(net)
    with watch(net) as flow:
        loss(net).backward()
        flow.measure(0)
        nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
        optimizer.step()
    np.testing.assert_allclose(flow.norms()[1], [expected], rtol=1e-12)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_measured_after_the_block(fails):
    """Also when the loop inside raises."""
    net = model()
    optimizer, flow = sgd(net), None
    try:
        with watch(net) as flow:
            train(net, 2, optimizer)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    train(net, 3, optimizer)
    assert flow is not None
    assert flow.norms()[0].tolist() == [0, 1]


def test_two_watches_at_once():
    net = model()
    optimizer = sgd(net)
    with watch(net) as outer:
        train(net, 1, optimizer)
        with watch(net, blocks=["4", "0"]) as inner:
            train(net, 2, optimizer)
    assert outer.norms()[1].shape == (3, 3)
    np.testing.assert_array_equal(inner.norms()[1], outer.norms()[1][1:][:, [2, 0]])


def test_rows_and_ratio():
    """Every number as a row, blocks without a gradient left out; the ratio is that of the outermost blocks."""
    net = model()
    flow = Flow(net)
    net[2].requires_grad_(False)
    for step in range(3):
        net.zero_grad()
        loss(net, step).backward()
        flow.measure(step)
    rows = list(flow.rows())
    assert [row["name"] for row in rows[:3]] == ["0", "4", "all"]
    assert [row["block"] for row in rows[:3]] == [0, 2, None]
    assert {row["quantity"] for row in rows} == {"grad_norm", "grad_rms", "grad_max"}
    expected = np.array([[m.norm().item() for m in _gradients(net, step)] for step in range(3)])
    steps, values = flow.norms()
    assert steps.tolist() == [0, 1, 2]
    np.testing.assert_allclose(values[:, [0, 2]], expected, rtol=1e-12)
    assert np.isnan(values[:, 1]).all()
    ratio = flow.ratio()
    assert ratio.steps == 3
    assert ratio.value == pytest.approx(np.exp(np.log(expected[:, 0] / expected[:, 1]).mean()), rel=1e-9)


def _gradients(net: nn.Sequential, step: int) -> list[Tensor]:
    parts = [torch.autograd.grad(loss(net, step), [*net[i].parameters()]) for i in (0, 4)]
    return [torch.cat([g.flatten() for g in part]) for part in parts]


def test_reading_in_between_loses_and_repeats_nothing():
    net = model()
    optimizer, seen = sgd(net), []
    with watch(net) as flow:
        for _ in range(3):
            train(net, 2, optimizer)
            seen.append([measurement.step for measurement in flow.flush()])
    assert seen == [[0, 1], [2, 3], [4, 5]]
    assert flow.flush() == []
    assert flow.norms()[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_package_offers_them_by_name():
    assert gradflow.watch is watch
    assert gradflow.Flow is Flow
    with pytest.raises(AttributeError, match="no attribute 'wacht'"):
        _ = gradflow.wacht


def test_no_block_has_parameters():
    """Only stem and head do: there is no first and last block to compare, and that is no error."""
    net = nn.Module()
    net.stem, net.blocks, net.head = nn.Linear(4, 3), nn.ModuleList([nn.ReLU()]), nn.Linear(3, 1)
    flow = Flow(net)
    net.head(net.blocks[0](net.stem(torch.ones(2, 4)))).mean().backward()
    flow.measure(0)
    assert [row["name"] for row in flow.rows()] == ["stem", "head", "all"] * 3  # norm, root mean square, largest
    assert flow.norms()[1].shape == (1, 0)
    assert flow.ratio().value is None


@pytest.mark.parametrize("by_name", [False, True])
def test_a_closure_s_first_gradients_are_those_measured(by_name):
    """`step(closure)` computes the gradients inside the step, LBFGS several times: the first are of these weights."""
    net = model()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)
    expected = by_autograd(net)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(net)
        value.backward()
        return value

    with watch(net) as flow:
        optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    steps, values = flow.norms()
    assert steps.tolist() == [0]
    np.testing.assert_allclose(values[0], expected, rtol=1e-12)


def test_one_block_has_nothing_to_be_compared_with():
    net = nn.Sequential(nn.Linear(4, 1)).double()
    with watch(net) as flow:
        loss(net).backward()
        torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert flow.ratio().value is None
    assert flow.ratio().steps == 1
