"""Runs of model=tcn: what trains, what is refused in a line that says what to change, and what is questioned."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from gradflow.errors import ConfigError
from gradflow.resources import conf_dir
from gradflow.runs import pairs
from gradflow.runs.build import build
from gradflow.runs.preflight import preflight
from gradflow.training.optimizers import parameter_groups

SMALL = ("model=tcn", "depth=2", "width=8", "model.kernel_size=3", "hardware=cpu", "task.batch_size=3")
TASK = ("task=adding", "task.length=12", "task.val_size=10", "task.test_size=10")
ERRORS = (ConfigError, ValueError, TypeError, RuntimeError, NotImplementedError)


def words(group: str) -> list[str]:
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


@pytest.mark.usefixtures("_definitions_once")
@pytest.mark.parametrize("skip", words("skip"))
def test_every_norm_and_init_goes_with_every_skip_or_is_refused(compose, node, skip):
    """One step of training; what is refused says what to change."""
    base = compose.config([*SMALL, *TASK])
    trained = 0
    for norm, init in itertools.chain(
        itertools.product(words("norm"), ["he_normal"]), itertools.product(["layer"], words("init"))
    ):
        nodes = {"skip": node("skip", skip), "norm": node("norm", norm), "init": node("init", init)}
        config = base.model_copy(update=nodes)
        lines = pairs.refused(config)
        if not lines:
            try:
                pieces = build(config)
                x, y = pieces.task.load(Path(), 0, torch.device("cpu")).train(0)
                loss = pieces.task.loss(pieces.network(x), y)
                optimizer = pieces.make_optimizer(parameter_groups(pieces.network))
            except ERRORS as error:
                lines = [str(error)]
            else:
                loss.backward()
                optimizer.step()
                assert loss.isfinite()
                assert all(p.grad is not None and p.grad.isfinite().all() for p in pieces.network.parameters())
                trained += 1
        assert all(any(way in line for way in ("use ", "choose ", "set ", "needs ")) for line in lines), lines
    assert trained >= 16


@pytest.mark.parametrize("task", ["adding", "copying", "sequential_mnist", "permuted_mnist", "parity", "narma10"])
def test_tasks_of_sequences_pass_preflight(compose, task):
    """One output for each sequence, or one at every step: preflight looks at its shape."""
    assert preflight(compose.config(["model=tcn", f"task={task}", "hardware=cpu"])) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=digits"], "model=tcn needs sequences, but an example has shape [1, 8, 8]: set task.view=sequence"),
        ([*TASK, "cell=lstm"], "cell=lstm has no effect in model=tcn: use model=recurrent"),
        ([*TASK, "recurrent_init=identity"], "recurrent_init has no effect in model=tcn"),
        ([*TASK, "remedy=tbptt"], "this network has no recurrent layer: use model=recurrent"),
        ([*TASK, "skip=residual", "init=zero_last"], "use skip=preact_residual, or another init"),
    ],
    ids=str,
)
def test_what_does_not_go_with_it_is_refused_in_one_line(compose, overrides, said):
    (line,) = preflight(compose.config(["hardware=cpu", "model=tcn", *overrides]))
    assert said in line


def test_a_network_that_sees_less_than_a_sequence_is_questioned(compose):
    """A kernel of 3 and 2 blocks see 13 steps."""

    def notes(length: int) -> list[str]:
        config = compose.config([*SMALL, "task=adding", f"task.length={length}", "skip=residual"])
        return pairs.questioned(config)

    assert notes(13) == []
    (note,) = notes(14)
    assert "sees 13 steps, but sequences have 14" in note


def test_norms_over_steps_and_plain_networks_are_questioned(compose):
    config = compose.config([*SMALL, *TASK, "norm=instance"])
    assert [any(word in note for word in ("future", "plain network")) for note in pairs.questioned(config)] == [
        True
    ] * 2
