"""A run of a pack is the run that it would be alone."""

from __future__ import annotations

import json
import math
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from gradflow.runs import execute as execution
from gradflow.runs import packed
from gradflow.runs.execute import Outcome, execute
from gradflow.runs.identity import run_id
from gradflow.runs.packed import train_pack
from gradflow.runs.stop import Stop
from gradflow.training import pack_trial
from gradflow.training.pack import Stack

BUDGET = ("trainer.max_steps=12", "trainer.val_every_n_steps=6", "trainer.log_every_n_steps=4")
EVERY = {"delta_norm": 3, "activation_stats": 2, "derivative_chain": 3, "update_ratio": 6, "weight_norm": 6}
WATCHED = ("instruments=cheap", "instruments.every_n_steps=3", "instruments.time_every_n_steps=null")
WATCHED += tuple(f"instruments.measure.{name}={every}" for name, every in EVERY.items())
DOUBLE = "hardware.precision=64"
FAR = "task=adding", "task.length=12", "task.batch_size=8", "task.val_size=32", "task.test_size=32", "width=6"
# Words that all members share, and words of each.
ALIKE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "seeds": ((), ()),
    "learning rates": ((), ("optimizer.lr=0.02", "optimizer.lr=0.2")),
    "momenta": (("optimizer.momentum=0.5",), ("optimizer.momentum=0.9", "optimizer.nesterov=false")),
    "nesterov": (("optimizer.momentum=0.9", "optimizer.nesterov=true"), ("optimizer.lr=0.02", "optimizer.lr=0.01")),
    "weight decay": ((), ("optimizer.weight_decay=0.1", "optimizer.weight_decay=0.01")),
    "no momentum": (("optimizer.momentum=0",), ()),
    "adam": (("optimizer=adam",), ("optimizer.lr=0.01", "optimizer.betas=[0.5,0.9]")),
    "adam that decays": (("optimizer=adam", "optimizer.weight_decay=0.1"), ("optimizer.eps=1e-4",)),
    "adamw": (("optimizer=adamw",), ("optimizer.weight_decay=0.3", "optimizer.lr=0.01")),
    "rmsprop": (("optimizer=rmsprop",), ("optimizer.decay=0.5", "optimizer.lr=0.01")),
    "rmsprop, centred": (("optimizer=rmsprop", "optimizer.centered=true", "optimizer.momentum=0.5"), ()),
    "adagrad": (("optimizer=adagrad",), ("optimizer.lr=0.05", "optimizer.initial_accumulator=0.1")),
    "schedules": (("scheduler=cosine",), ("scheduler=step", "scheduler=cosine")),
    "inits": ((), ("init=glorot_normal", "init=orthogonal", "init=lsuv")),
    "gains": (("init=he_normal",), ("init.gain=1.0", "init.gain=2.0")),
    "clipping": (("remedy=clip_norm",), ("remedy.clip_norm.max_norm=0.1", "remedy.clip_norm.max_norm=0.5")),
    "clipping by value": (("remedy=clip_value", "remedy.clip_value.max_value=0.01"), ()),
    "adaptive clipping": (("remedy=agc",), ()),
    "gradient noise": (("remedy=gradient_noise",), ("remedy.gradient_noise.eta=0.1",)),
    "warm-up and clipping": (("remedy=[warmup,clip_norm]", "remedy.warmup.steps=5"), ()),
    "label smoothing": (("label_smoothing=0.1",), ()),
    "tanh": (("activation=tanh", "depth=4"), ()),
    "prelu": (("activation=prelu",), ()),
    "maxout": (("activation=maxout",), ()),
    "batch norm": (("norm=batch",), ()),
    "layer norm": (("norm=layer",), ()),
    "residual": (("skip=residual", "norm=layer"), ()),
    "rezero": (("skip=rezero",), ()),
    "highway": (("skip=highway",), ()),
    "convnet": (("model=convnet", "width=4"), ()),
    "resnet": (("model=resnet", "depth=3", "width=4", "norm=batch", "skip=residual"), ()),
    "resnet, group norm": (("model=resnet", "depth=3", "width=4", "norm=group", "norm.groups=2", "skip=residual"), ()),
    "rnn": ((*FAR, "model=recurrent", "cell=rnn"), ("recurrent_init=identity",)),
    "rnn, probed through time": ((*FAR, "model=recurrent", "cell=rnn", "instruments.time_every_n_steps=4"), ()),
    "irnn": ((*FAR, "model=recurrent", "cell=irnn", "remedy=clip_norm"), ()),
    "lstm": ((*FAR, "model=recurrent", "cell=lstm"), ()),
    "gru": ((*FAR, "model=recurrent", "cell=gru"), ()),
    "minimal gated unit": ((*FAR, "model=recurrent", "cell=minimal_gated_unit"), ()),
}


@pytest.fixture
def stacked(monkeypatch) -> list[int]:
    """Stacks whatever it costs; the number of members of each update that was made together."""
    made = []

    def update(stack: Stack, step: int) -> None:
        made.append(len(stack.learners))
        real(stack, step)

    real = Stack.update
    monkeypatch.setattr(Stack, "update", update)
    monkeypatch.setattr(pack_trial, "_pays", lambda *_: True)
    return made


@pytest.fixture
def members(configure, tmp_path):
    """Configs of a pack below a folder: of seeds 0 and 1, and of each own word."""

    def make(folder: str, words: tuple[str, ...], own: tuple[str, ...] = ()):
        common = (*BUDGET, *words)
        each = [("seed=0",), ("seed=1",), *((word, f"seed={i}") for i, word in enumerate(own, 2))]
        return [configure(*common, *own_words, f"paths.runs={tmp_path / folder}") for own_words in each]

    return make


def together(configs, stop: Stop | None = None) -> dict[str, Outcome]:
    ended: dict[str, Outcome] = {}
    jobs = [(config, []) for config in configs]
    train_pack(jobs, stop or Stop(), lambda config, outcome: ended.update({run_id(config): outcome}))
    return ended


def path_of(config) -> Path:
    return Path(config.paths.runs) / run_id(config)


def assert_alike(ours, theirs, rel: float) -> None:
    """Two records' evidence; rounding apart."""
    for series in ("metrics", "gradflow"):
        rows, others = getattr(ours, series), getattr(theirs, series)
        assert [{**row, "value": 0} for row in rows] == [{**row, "value": 0} for row in others]
        values, wanted = [row["value"] for row in rows], [row["value"] for row in others]
        assert values == pytest.approx(wanted, rel=rel, abs=1e-9, nan_ok=True)
    assert ours.result["verdict"] == theirs.result["verdict"]
    assert ours.result["steps"] == theirs.result["steps"]


@pytest.mark.parametrize("case", ALIKE)
def test_a_member_has_the_numbers_of_the_run_alone(case, members, evidence, stacked):
    """The first member, of which all cases have the like, is compared in one of them."""
    words, own = ALIKE[case]
    configs = members("pack", (DOUBLE, *WATCHED, *words), own)
    ended = together(configs)
    assert {outcome.state for outcome in ended.values()} == {"completed"}, ended
    assert stacked
    assert max(stacked) == len(configs)
    pairs = list(zip(configs, members("alone", (DOUBLE, *WATCHED, *words), own), strict=True))
    for config, alone in pairs if case == "seeds" else pairs[1:]:
        assert execute(alone, [], Stop()).state == "completed"
        assert_alike(evidence(path_of(config)), evidence(path_of(alone)), rel=1e-5)


def test_in_float32_they_agree_to_its_digits(members, evidence, stacked):
    configs = members("pack", ("depth=10", "width=16", *WATCHED))
    together(configs)
    assert stacked
    for config, alone in zip(configs, members("alone", ("depth=10", "width=16", *WATCHED)), strict=True):
        execute(alone, [], Stop())
        assert_alike(evidence(path_of(config)), evidence(path_of(alone)), rel=1e-3)


def test_sequences_of_several_lengths_are_stacked_where_they_have_one(members, evidence, stacked):
    words = "task=temporal_order", "task.convention=hochreiter1997", "task.length=100", "task.batch_size=4", DOUBLE
    words += "task.val_size=8", "task.test_size=8", "model=recurrent", "cell=rnn", "width=4", *WATCHED
    own = tuple(f"optimizer.lr={0.01 * i}" for i in range(1, 5))
    configs = members("pack", words, own)
    assert {outcome.state for outcome in together(configs).values()} == {"completed"}
    for config, alone in zip(configs, members("alone", words, own), strict=True):
        execute(alone, [], Stop())
        assert_alike(evidence(path_of(config)), evidence(path_of(alone)), rel=1e-5)


def test_one_that_diverges_is_recorded_and_harms_nobody(members, evidence, stacked):
    words, own = (DOUBLE, "optimizer.momentum=0", "activation=linear", *WATCHED), ("optimizer.lr=1e200",)
    configs = members("pack", words, own)
    states = [outcome.state for outcome in together(configs).values()]
    assert sorted(states) == ["completed", "completed", "diverged"]
    assert {2, 3} <= set(stacked)  # it left, and the others went on together
    for config, alone in zip(configs, members("alone", words, own), strict=True):
        execute(alone, [], Stop())
        ours, theirs = evidence(path_of(config)), evidence(path_of(alone))
        assert ours.result["state"] == theirs.result["state"]
        assert ours.result["diverged_at"] == theirs.result["diverged_at"]
        assert [row["step"] for row in ours.gradflow] == [row["step"] for row in theirs.gradflow]
        if ours.result["state"] == "completed":
            assert_alike(ours, theirs, rel=1e-5)


def test_one_that_fails_has_its_traceback_and_harms_nobody(members, monkeypatch, stacked):
    real = execution.build

    def build(config):
        if config.seed == 1:
            raise RuntimeError("no such thing")
        return real(config)

    monkeypatch.setattr(execution, "build", build)
    configs = members("pack", (), ("init=glorot_normal",))
    ended = together(configs)
    assert [ended[run_id(config)].state for config in configs] == ["completed", "failed", "completed"]
    assert ended[run_id(configs[1])].error == "RuntimeError: no such thing"
    assert "Traceback" in json.loads((path_of(configs[1]) / "status.json").read_text())["error"]
    assert max(stacked) == 2


def test_a_stop_is_granted_by_all_and_they_go_on_where_they_were(members, evidence, monkeypatch, stacked):
    stop, real = Stop(), Stack.differentiate

    def differentiate(stack, *batches):
        if len(stacked) == 4:
            stop.request()
        return real(stack, *batches)

    monkeypatch.setattr(Stack, "differentiate", differentiate)
    configs = members("pack", (DOUBLE, *WATCHED))
    assert {outcome.state for outcome in together(configs, stop).values()} == {"preempted"}
    reached = [json.loads((path_of(config) / "status.json").read_text())["step"] for config in configs]
    assert all(0 < step < 12 for step in reached)
    for config in configs:
        saved = torch.load(path_of(config) / "checkpoints" / "last.ckpt", weights_only=True)
        tensors = [each for each in tree_leaves(saved) if isinstance(each, torch.Tensor)]
        assert any(each.ndim == 2 for each in tensors)
        assert all(each.untyped_storage().nbytes() == each.nbytes for each in tensors)  # and nothing of its neighbours
    assert {outcome.state for outcome in together(configs).values()} == {"completed"}
    for config, alone in zip(configs, members("alone", (DOUBLE, *WATCHED)), strict=True):
        execute(alone, [], Stop())
        assert_alike(evidence(path_of(config)), evidence(path_of(alone)), rel=1e-5)
        assert json.loads((path_of(config) / "result.json").read_text())["cost"]["attempts"] == 2


def test_what_cannot_be_watched_in_several_at_once_is_watched_one_by_one(members, stacked, caplog):
    caplog.set_level("INFO", logger="gradflow")
    configs = members("pack", ("activation=prelu", *WATCHED))
    assert {outcome.state for outcome in together(configs).values()} == {"completed"}
    assert "2 runs are watched one by one: PReLU is watched in one network at a time" in caplog.text
    assert 0 < len(stacked) < 12  # the other steps are made together


def test_networks_that_only_seem_alike_take_turns(members, evidence, monkeypatch, stacked, caplog):
    """What is compared at the first step that is made together is each member's own gradient."""
    monkeypatch.setattr(packed, "graph_key", lambda *_: "the same")
    own = ("activation=tanh",)
    configs = members("pack", (DOUBLE,), own)
    together(configs)
    assert not stacked
    assert "in the stack" in caplog.text
    for config, alone in zip(configs, members("alone", (DOUBLE,), own), strict=True):
        execute(alone, [], Stop())
        assert evidence(path_of(config)) == evidence(path_of(alone))


def test_modules_that_draw_have_their_own_numbers(members, evidence, monkeypatch, stacked):
    """Where the plan cannot know of them, such as a person's own: here it is told that dropout is like the rest."""
    monkeypatch.setattr(packed, "graph_key", lambda *_: "the same")
    words, own = ("dropout=0.3", *WATCHED), ("dropout=0.0",)
    configs = members("pack", words, own)
    together(configs)
    assert not stacked
    for config, alone in zip(configs, members("alone", words, own), strict=True):
        execute(alone, [], Stop())
        assert evidence(path_of(config)) == evidence(path_of(alone))


def test_what_does_not_pay_takes_turns_bit_for_bit(members, evidence, monkeypatch, stacked, caplog):
    monkeypatch.setattr(pack_trial, "_pays", lambda *_: False)
    configs = members("pack", WATCHED)
    together(configs)
    assert "times as long as one after another" in caplog.text
    assert not stacked
    for config, alone in zip(configs, members("alone", WATCHED), strict=True):
        execute(alone, [], Stop())
        assert evidence(path_of(config)) == evidence(path_of(alone))


def test_a_trial_that_something_disturbed_is_made_again(members, monkeypatch, stacked):
    pays = iter([False, False, True])
    monkeypatch.setattr(pack_trial, "_pays", lambda *_: next(pays))
    together(members("pack", ()))
    assert max(stacked) == 2


def test_where_memory_does_not_suffice_the_stacks_are_halved(members, evidence, monkeypatch, stacked):
    real = Stack.differentiate

    def differentiate(stack, *batches):
        if len(stack.learners) > 2:
            raise torch.OutOfMemoryError("no room")
        return real(stack, *batches)

    monkeypatch.setattr(Stack, "differentiate", differentiate)
    own = ("init=orthogonal", "init=glorot_normal")
    configs = members("pack", (DOUBLE,), own)
    assert {outcome.state for outcome in together(configs).values()} == {"completed"}
    assert set(stacked) == {2}
    for config, alone in zip(configs, members("alone", (DOUBLE,), own), strict=True):
        execute(alone, [], Stop())
        assert_alike(evidence(path_of(config)), evidence(path_of(alone)), rel=1e-5)


def test_every_member_has_a_wandb_run_of_its_own(members):
    configs = members("pack", ("logger.mode=offline",))
    together(configs)
    for config in configs:
        (folder,) = (path_of(config) / "wandb").glob("offline-run-*")
        assert folder.name.endswith(run_id(config))
        (file,) = folder.glob("*.wandb")
        content = file.read_bytes()
        assert b"train/loss" in content
        assert b"verdict" in content


def test_watching_many_in_turns_leaves_torch_as_it_was(members):
    """Observers come and go in no order; the stance that they set is the whole process's."""
    together(members("pack", ("hardware.compile=false", "instruments=full", "instruments.every_n_steps=2")))
    x = torch.ones(2)
    torch._dynamo.utils.counters.clear()
    torch.compile(lambda x: x + 1, backend="eager")(x)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_the_time_of_a_pack_is_shared_out_among_its_members(members, stacked):
    configs = members("pack", WATCHED, ("optimizer.lr=0.01", "optimizer.lr=0.02"))
    began = time.monotonic()
    together(configs)
    whole = time.monotonic() - began
    costs = [json.loads((path_of(config) / "result.json").read_text())["cost"] for config in configs]
    assert all(0 < cost["train_seconds"] < whole / 2 for cost in costs)
    assert sum(cost["train_seconds"] for cost in costs) < whole
    assert all(a <= b for cost in costs for (_, a), (_, b) in pairwise(cost["clock"]))


def test_their_turns_are_announced_and_progress_is_told(members):
    configs, turns, told = members("pack", ()), [], []
    train_pack(
        [(config, []) for config in configs],
        Stop(),
        lambda *_: None,
        lambda name, step, total, loss: told.append((name, step, total, loss)),
        lambda config: turns.append(run_id(config)),
    )
    names = {run_id(config) for config in configs}
    assert set(turns) == names
    assert any(a != b for a, b in pairwise(turns))
    assert {name for name, *_ in told} <= names
    assert all(0 < step <= total == 12 for _, step, total, _ in told)
    assert all(math.isnan(loss) or loss > 0 for *_, loss in told)
