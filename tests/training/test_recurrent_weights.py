"""Penalties and bounds on the weights from states to states."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sequences
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gradflow.models.network import Network
from gradflow.tasks.adding import adding
from gradflow.tasks.copying import copying
from gradflow.training import remedies
from gradflow.training.learner import Learner
from gradflow.training.remedy import Remedy

pytestmark = pytest.mark.filterwarnings("ignore")
TASK = SimpleNamespace(every_step=False, washout=0, loss=lambda outputs, y: (outputs - y).square().mean())
CELLS = {"rnn": 1, "irnn": 1, "gru": 3, "lstm": 4}  # matrices from states to states


def recurrent(net: Network) -> dict[str, Tensor]:
    """The parameters that hold weights from states to states, found by their names."""
    return {name: p for name, p in net.named_parameters() if name.endswith(("recurrent_weight", "skip_weight"))}


def gradients(net: Network) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def acted(remedy: Remedy, net: Network) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradients of a loss before and after it."""
    remedy.prepare(net, TASK, 10)
    x, y = sequences.data(2, 6)
    net.zero_grad()
    TASK.loss(net(x), y).backward()
    before = gradients(net)
    remedy.gradients(list(net.parameters()), 0)
    return before, gradients(net)


# --- penalties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip_time", [0, 2])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["recurrent_l1", "recurrent_l2"])
def test_a_penalty_is_the_derivative_of_its_formula(name, cell, skip_time):
    """λ Σ|u| and λ/2 Σu², by autograd, on the recurrent weights of both layers and on nothing else."""
    net = sequences.network(cell, depth=2, skip_time=skip_time)
    before, after = acted(getattr(remedies, name)(0, weight=0.3), net)
    held = recurrent(net)
    assert len(held) == (4 if skip_time else 2)
    penalty = sum(0.3 * (p.abs().sum() if name == "recurrent_l1" else p.square().sum() / 2) for p in held.values())
    slopes = dict(zip(held, torch.autograd.grad(penalty, list(held.values())), strict=True))
    for key, g in before.items():
        torch.testing.assert_close(after[key], g + slopes.get(key, 0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["recurrent_l1", "recurrent_l2"])
def test_what_gets_no_gradient_gets_no_penalty(name):
    net, remedy = sequences.network("lstm"), getattr(remedies, name)(0)
    remedy.prepare(net, TASK, 10)
    remedy.gradients(list(net.parameters()), 0)
    assert gradients(net) == {}


def test_l2_acts_as_weight_decay_of_the_same_size():
    """torch's SGD with a decay of 0.2 on the recurrent weights alone."""
    net = sequences.network("lstm")
    other = copy.deepcopy(net)
    remedy = remedies.recurrent_l2(0, weight=0.2)
    x, y = sequences.data(2, 6)
    groups = [
        {"params": list(recurrent(other).values()), "weight_decay": 0.2},
        {"params": [p for name, p in other.named_parameters() if name not in recurrent(other)]},
    ]
    ours, theirs = torch.optim.SGD(net.parameters(), lr=0.1), torch.optim.SGD(groups, lr=0.1)
    remedy.prepare(net, TASK, 10)
    for _ in range(5):
        for each, optimizer in ((net, ours), (other, theirs)):
            optimizer.zero_grad()
            TASK.loss(each(x), y).backward()
            if each is net:
                remedy.gradients(list(net.parameters()), 0)
            optimizer.step()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-15)


# --- singular values ------------------------------------------------------------------------------------------


def clipped(matrix: Tensor, largest: float) -> Tensor:
    left, values, right = torch.linalg.svd(matrix)
    return left @ torch.diag(values.clamp(max=largest)) @ right


@pytest.mark.parametrize("cell", CELLS)
def test_singular_values_above_the_bound_become_the_bound(cell):
    """Each gate's matrix against its singular value decomposition; nothing else moves."""
    net, count = sequences.network(cell, depth=2, skip_time=2), CELLS[cell]
    with torch.no_grad():
        for p in recurrent(net).values():
            p.mul_(1.7)
            p[0].zero_()  # some singular value is 0
    before = copy.deepcopy(net)
    remedy = remedies.spectral_clipping(0, max_singular_value=0.9)
    remedy.prepare(net, TASK, 10)
    remedy.updated(0)
    held = recurrent(net)
    assert len(held) == 4
    for name, old in before.named_parameters():
        found = net.get_parameter(name)
        if name not in held:
            assert torch.equal(found, old)
            continue
        gates = count if name.endswith("recurrent_weight") else len(old) // 5
        for gate, was in zip(found.chunk(gates), old.chunk(gates), strict=True):
            assert gate.shape == (5, 5)
            torch.testing.assert_close(gate, clipped(was, 0.9), rtol=1e-10, atol=1e-12)
            assert torch.linalg.matrix_norm(was, 2) > 0.9
            assert torch.linalg.matrix_norm(gate, 2).item() == pytest.approx(0.9, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_within_the_bound_stay_bit_for_bit(dtype):
    """By many bounds: the root of a bound's square is not the bound for some of them."""
    net = sequences.network("lstm", dtype=dtype)
    before = {name: p.clone() for name, p in recurrent(net).items()}
    largest = max(torch.linalg.matrix_norm(gate, 2).item() for p in before.values() for gate in p.chunk(4))
    for wider in torch.linspace(1.0001, 3, 50).tolist():
        remedy = remedies.spectral_clipping(0, max_singular_value=wider * largest)
        remedy.prepare(net, TASK, 10)
        remedy.updated(0)
        assert all(torch.equal(p, before[name]) for name, p in recurrent(net).items()), wider


def test_in_float32_the_bound_holds_to_its_rounding():
    net = sequences.network("rnn", width=64, dtype=torch.float32)
    (weight,) = recurrent(net).values()
    with torch.no_grad():
        weight.mul_(5)
    expected = clipped(weight.detach().double(), 1.0)
    remedy = remedies.spectral_clipping(0)
    remedy.prepare(net, TASK, 10)
    remedy.updated(0)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=2e-5)
    remedy.updated(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, rel=2e-6)


def test_weights_that_are_not_finite_are_left_to_the_learner_to_find():
    net = sequences.network("rnn")
    (weight,) = recurrent(net).values()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    before, remedy = weight.detach().clone(), remedies.spectral_clipping(0)
    remedy.prepare(net, TASK, 10)
    remedy.updated(0)
    assert torch.equal(weight.nan_to_num(nan=7.0), before.nan_to_num(nan=7.0))


# --- under the learner ----------------------------------------------------------------------------------------

TASKS = {
    "one output": adding(length=8, batch_size=4, val_size=4, test_size=4),
    "every step": copying(length=3, batch_size=4, val_size=4, test_size=4),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_step_of_training(tmp_path, cell, name):
    """First the penalty, then the update, then the bound."""
    task = TASKS[name]
    net = sequences.network(cell, task.input_shape[1], task.outputs, every_step=task.every_step)
    other = copy.deepcopy(net)
    acting = [remedies.recurrent_l1(0, weight=0.2), remedies.spectral_clipping(0, max_singular_value=0.7)]
    sequences.learn(net, task, acting, tmp_path)
    x, y = task.load(Path(tmp_path), 0, torch.device("cpu")).train(0, torch.float64)
    task.loss(other(x), y).backward()
    for key, old in other.named_parameters():
        held = key.endswith("recurrent_weight")
        moved = old.detach() - 0.5 * (old.grad + (0.2 * old.detach().sign() if held else 0))
        if held:
            moved = torch.cat([clipped(gate, 0.7) for gate in moved.chunk(CELLS[cell])])
        torch.testing.assert_close(net.get_parameter(key).detach(), moved, rtol=1e-10, atol=1e-12)


class SaveAt(Callback):
    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.steps_done == self.step:
            trainer.save_checkpoint(self.file)


@pytest.mark.parametrize(
    "acting",
    [
        ["tbptt", "recurrent_l1", "recurrent_l2", "spectral_clipping"],
        ["omega", "recurrent_l2", "spectral_clipping"],
    ],
    ids=lambda names: names[0],
)
def test_remedies_of_the_time_axis_keep_nothing_that_a_restart_would_miss(tmp_path, acting):
    """Ten steps are five, a checkpoint, and five more, bit for bit."""
    task, file = TASKS["every step"], tmp_path / "saved.ckpt"
    keys = {"tbptt": {"k1": 2, "k2": 4}}

    def run(**options: Any) -> Learner:
        net = sequences.network("rnn", task.input_shape[1], task.outputs, every_step=True)
        made = [getattr(remedies, name)(0, **keys.get(name, {})) for name in acting]
        return sequences.learn(net, task, made, tmp_path, steps=10, lr=0.1, **options)

    whole = run(callbacks=[SaveAt(5, file)])
    resumed = run(ckpt_path=file)
    assert resumed.figures == whole.figures[5:]
    for p, q in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(p, q)


# --- refusals -------------------------------------------------------------------------------------------------


def test_a_bound_on_what_a_cell_does_not_use_as_it_is_is_refused_in_a_line():
    net = sequences.network("antisymmetric_rnn")
    with pytest.raises(ValueError, match=r"^remedy\.spectral_clipping .* cell=antisymmetric_rnn .*W − Wᵀ.* out$"):
        remedies.spectral_clipping(0).prepare(net, TASK, 10)
    remedies.recurrent_l2(0).prepare(net, TASK, 10)


@pytest.mark.parametrize("cell", ["exprnn", "indrnn", "lru", "s4d", "mingru", "minlstm"])
def test_cells_without_a_matrix_from_states_to_states_are_refused(cell):
    net = sequences.network(cell, width=6)
    for name in ("recurrent_l1", "recurrent_l2", "spectral_clipping"):
        with pytest.raises(ValueError, match="this network has none"):
            getattr(remedies, name)(0).prepare(net, TASK, 10)


@pytest.mark.parametrize("name", ["recurrent_l1", "recurrent_l2", "spectral_clipping"])
def test_a_network_without_such_weights_is_refused_in_a_line(name):
    with torch.device("meta"):
        net = Network(nn.Flatten(), [nn.Linear(12, 4)], nn.Linear(4, 2))
        fine = sequences.network("lstm")
    remedy = getattr(remedies, name)(0)
    remedy.prepare(fine, TASK, 10)
    with pytest.raises(
        ValueError, match=rf"^remedy\.{name} acts on .*, but this network has none: .*remedy={name} out$"
    ):
        remedy.prepare(net, TASK, 10)
