"""Truncated backpropagation against torch.nn's layers cut by hand, its memory, and what it refuses."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sequences
import torch
from torch import Tensor, nn

from gradflow.models import activations, norms
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.tasks.adding import adding
from gradflow.tasks.copying import copying
from gradflow.tasks.narma10 import narma10
from gradflow.training import remedies
from gradflow.training.remedy import Remedy

pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = ["tbptt", "horizon"]
CLOSE = {"rtol": 1e-10, "atol": 1e-14}


def squares(every_step: bool, washout: int = 0) -> SimpleNamespace:
    """The mean squared error, of the steps after the washout where every step has an output."""

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        first = washout if every_step else 0
        return (outputs[:, first:] - y[:, first:]).square().mean()

    return SimpleNamespace(every_step=every_step, washout=washout, loss=loss)


def by_remedy(remedy: Remedy, net: Network, task: Any, x: Tensor, y: Tensor) -> tuple[float, dict[str, Tensor]]:
    """The sum of the parts' values, and the gradients they leave, as the learner takes them."""
    remedy.prepare(net, task, 10)
    net.zero_grad()
    value = 0.0
    for part in remedy.losses(net, task, x, y):
        part.backward()
        value += part.item()
    return value, {name: p.grad.clone() for name, p in net.named_parameters()}


def whole(net: Network, task: Any, x: Tensor, y: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Backpropagation through all of time."""
    net.zero_grad()
    loss = task.loss(net(x), y)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in net.named_parameters()}


def by_hand(
    net: Network, cell: str, x: Tensor, y: Tensor, start_of: Callable[[int], int], washout: int
) -> dict[str, Tensor]:
    """The gradient of the mean squared error of all outputs after the washout, each of which goes back to its own
    `start_of` by itself: torch.nn's layers without gradient up to there, and with it from there on."""
    theirs, head = sequences.twin(net, cell), sequences.copies(list(net.head.parameters()))
    steps = x.shape[1]
    for t in range(washout, steps):
        start, state = start_of(t), None
        if start:
            with torch.no_grad():
                _, state = theirs(x[:, :start])
        h, _ = theirs(x[:, start : t + 1], state)
        error = nn.functional.linear(h[:, -1], *head) - y[:, t]
        (error.square().mean() / (steps - washout)).backward()
    return sequences.gradients_of(net, theirs, head)


# --- an output at every step ----------------------------------------------------------------------------------

GRIDS = [(4, 4, 12, 0), (4, 4, 13, 0), (2, 6, 13, 0), (3, 3, 11, 5), (2, 4, 14, 7), (1, 3, 9, 4), (5, 10, 12, 11)]


@pytest.mark.parametrize(("k1", "k2", "steps", "washout"), GRIDS)
@pytest.mark.parametrize(("cell", "depth"), [("rnn", 1), ("lstm", 2)])
def test_each_output_goes_back_as_far_as_its_window(cell, depth, k1, k2, steps, washout):
    """Windows end at the last step and every k1 steps before it, and go back k2 steps from where they end."""
    net, task = sequences.network(cell, depth=depth, every_step=True), squares(True, washout)
    x, y = sequences.data(2, steps, every_step=True)

    def start_of(t: int) -> int:
        stop = steps - k1 * ((steps - 1 - t) // k1)
        return max(0, stop - k2)

    value, found = by_remedy(remedies.tbptt(0, k1=k1, k2=k2), net, task, x, y)
    expected = by_hand(net, cell, x, y, start_of, washout)
    torch.testing.assert_close(found, expected, **CLOSE)
    full_value, full = whole(net, task, x, y)
    assert value == pytest.approx(full_value, rel=1e-12)
    recurrent = "blocks.0.branch.0.cell.recurrent_weight"
    assert not torch.allclose(found[recurrent], full[recurrent], rtol=1e-3)  # what is cut off is not nothing


@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_horizon_goes_back_exactly_so_far_from_every_output(cell, horizon):
    net, task = sequences.network(cell, depth=2, every_step=True), squares(True)
    x, y = sequences.data(2, 9, every_step=True)
    value, found = by_remedy(remedies.horizon(0, steps=horizon), net, task, x, y)
    expected = by_hand(net, cell, x, y, lambda t: max(0, t + 1 - horizon), 0)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert value == pytest.approx(whole(net, task, x, y)[0], rel=1e-12)


@pytest.mark.parametrize("every_step", [False, True], ids=["one output", "every step"])
@pytest.mark.parametrize(
    "remedy",
    [remedies.tbptt(0, k1=4, k2=12), remedies.tbptt(0, k1=5, k2=15), remedies.horizon(0, steps=12)],
    ids=["k2 = T", "k2 > T", "horizon = T"],
)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_far_enough_back_is_the_whole_gradient(cell, remedy, every_step):
    net, task = sequences.network(cell, depth=2, every_step=every_step), squares(every_step, 3)
    x, y = sequences.data(2, 12, every_step=every_step)
    value, found = by_remedy(remedy, net, task, x, y)
    full_value, full = whole(net, task, x, y)
    assert value == full_value
    torch.testing.assert_close(found, full, rtol=1e-12, atol=0)


@pytest.mark.parametrize("every_step", [False, True], ids=["one output", "every step"])
@pytest.mark.parametrize("cell", sequences.CELLS)
def test_every_cell_goes_on_from_the_state_of_the_window_before(cell, every_step):
    """The loss is that of the whole sequence, which no other state would give; the gradient is another one."""
    net, task = sequences.network(cell, width=6, depth=2, every_step=every_step), squares(every_step)
    x, y = sequences.data(2, 15, every_step=every_step)
    full_value, full = whole(net, task, x, y)
    for remedy in (remedies.tbptt(0, k1=4, k2=4), remedies.tbptt(0, k1=2, k2=4), remedies.horizon(0, steps=3)):
        value, found = by_remedy(remedy, net, task, x, y)
        assert value == pytest.approx(full_value, rel=1e-9)
        assert any(not torch.allclose(g, full[name], rtol=1e-6) for name, g in found.items())


def test_a_loss_that_weighs_steps_in_its_own_way_is_cut_and_not_changed():
    """Only the last three steps count, as cross-entropy with a class to be ignored would have it; k1 ends amid them."""
    net, x = sequences.network(every_step=True), sequences.data(2, 10, every_step=True)[0]
    y = torch.full((3, 10), -100)
    y[:, 7:] = torch.randint(0, 2, (3, 3), generator=stream(0, "labels"))

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten())

    task = SimpleNamespace(every_step=True, washout=0, loss=loss)
    value, found = by_remedy(remedies.tbptt(0, k1=2, k2=4), net, task, x, y)
    theirs, head = sequences.twin(net, "rnn"), sequences.copies(list(net.head.parameters()))
    for t in (7, 8, 9):
        start = {7: 4, 8: 6, 9: 6}[t]
        with torch.no_grad():
            _, state = theirs(x[:, :start])
        h, _ = theirs(x[:, start : t + 1], state)
        (nn.functional.cross_entropy(nn.functional.linear(h[:, -1], *head), y[:, t]) / 3).backward()
    torch.testing.assert_close(found, sequences.gradients_of(net, theirs, head), **CLOSE)
    assert value == pytest.approx(whole(net, task, x, y)[0], rel=1e-12)


# --- one output at the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "remedy", [remedies.tbptt(0, k1=2, k2=4), remedies.horizon(0, steps=4)], ids=["tbptt", "horizon"]
)
@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_one_output_goes_back_from_the_last_step(cell, readout, remedy):
    """A head that reads the mean over all steps reads the first ones as constants."""
    net, task = sequences.network(cell, depth=2, readout=readout), squares(False)
    x, y = sequences.data(2, 11)
    value, found = by_remedy(remedy, net, task, x, y)
    theirs, head = sequences.twin(net, cell), sequences.copies(list(net.head.parameters()))
    with torch.no_grad():
        before, state = theirs(x[:, :7])
    after, _ = theirs(x[:, 7:], state)
    read = torch.cat([before, after], 1).mean(1) if readout == "mean" else after[:, -1]
    loss = (nn.functional.linear(read, *head) - y).square().mean()
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-12)
    assert value == pytest.approx(whole(net, task, x, y)[0], rel=1e-12)
    torch.testing.assert_close(found, sequences.gradients_of(net, theirs, head), **CLOSE)


# --- memory, noise, what is left behind -----------------------------------------------------------------------


def most_kept(run: Callable[[], object], shape: tuple[int, ...]) -> int:
    """The largest number of tensors of a shape that autograd holds at once for backward passes."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def pack(tensor: Tensor) -> Kept:
        nonlocal most
        kept = Kept(tensor)
        if tuple(tensor.shape) == shape:
            alive.add(kept)
            most = max(most, len(alive))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        run()
    return most


@pytest.mark.parametrize("every_step", [False, True], ids=["one output", "every step"])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (2, 6)])
def test_no_more_than_k2_steps_of_graph_exist_at_once(k1, k2, every_step):
    """States kept for the way back, of a cell that goes step by step: as many as in a whole sequence of k2 steps."""
    batch, width = 3, 5
    net = sequences.network(every_step=every_step, activation=activations.sigmoid, width=width)
    task, remedy = squares(every_step), remedies.tbptt(0, k1=k1, k2=k2)

    def kept(steps: int, run: Callable[[Any, Any], object]) -> int:
        x, y = sequences.data(2, steps, batch, every_step=every_step)
        return most_kept(lambda: run(x, y), (batch, width))

    short = kept(k2, lambda x, y: whole(net, task, x, y))
    assert kept(40, lambda x, y: by_remedy(remedy, net, task, x, y)) == short
    assert kept(40, lambda x, y: whole(net, task, x, y)) > 5 * short


@pytest.mark.parametrize("every_step", [False, True], ids=["one output", "every step"])
def test_the_network_is_left_as_it_was(every_step):
    """No state is carried on to the next batch or to an evaluation, not even if a step is given up midway."""
    net, task = sequences.network("lstm", every_step=every_step), squares(every_step)
    x, y = sequences.data(2, 12, every_step=every_step)
    before, remedy = net(x), remedies.tbptt(0, k1=2, k2=4)
    torch.testing.assert_close(by_remedy(remedy, net, task, x, y), by_remedy(remedy, net, task, x, y), rtol=0, atol=0)
    next(iter(remedy.losses(net, task, x, y)))
    assert all(layer.carry is None for layer in sequences.layers(net))
    assert torch.equal(net(x), before)


def test_the_expectation_of_zoneout_is_cut_like_any_other_state():
    """In evaluation mode, where nothing is drawn, so that windows and whole sequences can be compared."""
    net, task = sequences.network("lstm", every_step=True, zoneout=[0.3, 0.5]).eval(), squares(True)
    x, y = sequences.data(2, 12, every_step=True)
    value, found = by_remedy(remedies.tbptt(0, k1=3, k2=12), net, task, x, y)
    full_value, full = whole(net, task, x, y)
    assert value == full_value
    torch.testing.assert_close(found, full, rtol=1e-12, atol=0)
    value, cut = by_remedy(remedies.tbptt(0, k1=3, k2=6), net, task, x, y)
    assert value == pytest.approx(full_value, rel=1e-12)
    name = "blocks.0.branch.0.cell.recurrent_weight"
    assert not torch.allclose(cut[name], full[name], rtol=1e-3)


# --- under the learner ----------------------------------------------------------------------------------------

TASKS = {
    "one output": lambda: adding(length=12, batch_size=4, val_size=4, test_size=4),
    "every step": lambda: copying(length=4, batch_size=4, val_size=4, test_size=4),
    "every step, washout": lambda: narma10(length=24, washout=7, batch_size=4, val_size=4, test_size=4),
}


@pytest.mark.parametrize(
    "remedy", [remedies.tbptt(0, k1=3, k2=6), remedies.horizon(0, steps=5)], ids=["tbptt", "horizon"]
)
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("name", TASKS)
def test_a_step_of_training(tmp_path, name, cell, remedy):
    """The update is lr times the sum of the parts' gradients, and the loss reported that of the whole sequence."""
    task = TASKS[name]()
    net = sequences.network(cell, task.input_shape[1], task.outputs, every_step=task.every_step)
    other = copy.deepcopy(net)
    module = sequences.learn(net, task, [remedy], tmp_path)
    x, y = task.load(tmp_path, 0, torch.device("cpu")).train(0, torch.float64)
    value, gradients = by_remedy(remedy, other, task, x, y)
    (found,) = sequences.losses(module)
    assert found == pytest.approx(whole(other, task, x, y)[0], rel=1e-9)
    assert found == pytest.approx(value, rel=1e-9)
    for (key, p), old in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), old.detach() - 0.5 * gradients[key], rtol=1e-12, atol=1e-15)


# --- refusals -------------------------------------------------------------------------------------------------

REFUSED = {
    "no recurrent layer": (
        lambda: Network(nn.Flatten(), [nn.Linear(12, 4)], nn.Linear(4, 2)),
        "this network has no recurrent layer: use model=recurrent, or leave remedy=tbptt out",
    ),
    "bidirectional": (lambda: sequences.network(width=4, bidirectional=True), "use model.bidirectional=false"),
    "skip_time": (lambda: sequences.network(skip_time=2), "use model.skip_time=0"),
    "batch": (lambda: sequences.network(depth=2, norm=norms.batch), "use norm=layer"),
    "instance": (lambda: sequences.network(depth=2, norm=norms.instance), "use norm=layer"),
    "recurrent_norm": (
        lambda: sequences.network("lstm", cell_keys={"recurrent_norm": "batch"}),
        "use cell.recurrent_norm=layer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_window_cannot_see_is_refused_in_a_line(name):
    make, way_out = REFUSED[name]
    with torch.device("meta"):  # where a plan is checked
        net = make()
    for remedy, key in ((remedies.tbptt(0), "tbptt"), (remedies.horizon(0), "horizon")):
        with pytest.raises(ValueError) as error:
            remedy.prepare(net, squares(True), 10)
        assert way_out.replace("tbptt", key) in str(error.value)
        assert str(error.value).startswith(f"remedy.{key}")
        assert "\n" not in str(error.value)


def test_layer_norm_between_and_inside_layers_is_not_refused():
    """It looks at one step at a time."""
    net = sequences.network("lstm", depth=2, norm=norms.layer, every_step=True, cell_keys={"recurrent_norm": "layer"})
    x, y = sequences.data(2, 12, every_step=True)
    value, _ = by_remedy(remedies.tbptt(0, k1=3, k2=6), net, squares(True), x, y)
    assert value == pytest.approx(whole(net, squares(True), x, y)[0], rel=1e-12)


def test_k2_that_is_no_multiple_of_k1_is_refused():
    with pytest.raises(ValueError, match=r"^remedy\.tbptt\.k2=7 is no multiple of remedy\.tbptt\.k1=3: .*k2=9$"):
        remedies.tbptt(0, k1=3, k2=7)
