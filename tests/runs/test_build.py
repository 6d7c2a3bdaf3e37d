"""What cannot run is found before anything trains, and said in one line."""

import pytest
import torch

from gradflow.runs.build import build, check_keys, preflight


@pytest.fixture
def config(compose):
    return lambda *overrides: compose.config(list(overrides))


IMPOSSIBLE = [
    (["skip=residual", "depth=2", "width=[8,4]"], ["skip=residual", "from 8 to 4", "skip=none"]),
    (["depth=3", "width=[8,4]"], ["2 numbers for depth=3"]),
    (["optimizer.momentum=0.0", "optimizer.nesterov=true"], ["optimizer.nesterov=true needs optimizer.momentum"]),
    (["task.batch_size=2000"], ["task.batch_size=2000 exceeds the 1077 training examples"]),
    (["norm=batch", "task.batch_size=1"], ["norm=batch", "task.batch_size"]),
    (["trainer.precision=16-mixed", "instruments.loss_scale=1024.0"], ["instruments.loss_scale", "16-mixed"]),
    # Lightning would take bfloat16 instead, and the record would say what is not so.
    (["trainer.precision=16-mixed", "trainer.accelerator=cpu"], ["trainer.precision=16-mixed", "cpu"]),
    (["activation._target_=gradflow.models.activations.rleu"], ["activation._target_=", "no such Python definition"]),
    (["activation._target_=nowhere.at_all"], ["activation._target_=nowhere.at_all", "no such Python definition"]),
    (["activation._target_=torch.nn"], ["activation._target_=torch.nn", "no such Python definition"]),
    (["activation._target_=torch.nn.Softplus", "+activation.betta=2"], ["activation.betta=2: unknown key", "'beta'"]),
    (["+optimizer.nestrov=true"], ["optimizer.nestrov=true: unknown key", "did you mean 'nesterov'?"]),
    (["+activation.slope=0.1"], ["activation.slope=0.1: unknown key", "allowed: nothing"]),
    (["~optimizer.lr", "init=orthogonal", "optimizer=sgd"], ["optimizer.lr", "missing"]),
    (["optimizer.lr=0"], ["optimizer.lr=0: should be greater than 0"]),
    (["optimizer.lr=-0.1"], ["optimizer.lr=-0.1: should be greater than 0"]),
    (["optimizer.lr=fast"], ["optimizer.lr=fast: should be a valid number"]),
    (["optimizer.lr=true"], ["optimizer.lr=true: should be a valid number"]),
    (["optimizer.momentum=1.0"], ["optimizer.momentum=1.0: should be less than 1"]),
    (["optimizer.nesterov=1"], ["optimizer.nesterov=1: should be a valid boolean"]),
    (["optimizer=adam", "optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]", "at least 2 items"]),
    (["optimizer=adam", "optimizer.betas=[0.9,1.5]"], ["optimizer.betas", "1.5", "less than 1"]),
    (["task.batch_size=0"], ["task.batch_size=0: should be greater than or equal to 1"]),
    (["task.batch_size=64.0"], ["task.batch_size=64.0: should be a valid integer"]),
    (["task.split_seed=-1"], ["task.split_seed=-1: should be greater than or equal to 0"]),
    (["norm=batch", "norm.eps=0"], ["norm.eps=0: should be greater than 0"]),
    (["norm=batch", "norm.momentum=1.5"], ["norm.momentum=1.5: should be less than or equal to 1"]),
    (["init=orthogonal", "init.gain=-1"], ["init.gain=-1: should be greater than 0"]),
    (["scheduler=step", "scheduler.factor=-1"], ["scheduler.factor=-1: should be greater than or equal to 0"]),
    (["scheduler=step", "scheduler.milestones=[2]"], ["scheduler.milestones", "2: should be less than or equal to 1"]),
    (["scheduler.warmup_steps=-1"], ["scheduler.warmup_steps=-1: should be greater than or equal to 0"]),
    (["model.bias=yes_please"], ["model.bias=yes_please: should be a valid boolean"]),
]


@pytest.mark.parametrize(("overrides", "told"), IMPOSSIBLE, ids=[" ".join(o) for o, _ in IMPOSSIBLE])
def test_what_cannot_run_is_refused_in_one_line(config, overrides, told):
    lines = preflight(config(*overrides))
    assert any(all(part in line for part in told) for line in lines), lines
    assert not any("\n" in line for line in lines)


def test_every_factor_is_checked(config):
    faults = check_keys(config("+norm.a=1", "+skip.b=1", "optimizer.lr=-1", "scheduler.warmup_steps=-1"))
    assert [fault.partition("=")[0] for fault in faults] == [
        "norm.a",
        "skip.b",
        "optimizer.lr",
        "scheduler.warmup_steps",
    ]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_small_batch_is_refused_only_where_it_cannot_be_normalised(config, batch_size):
    assert preflight(config(f"task.batch_size={batch_size}")) == []
    assert len(preflight(config("norm=batch", f"task.batch_size={batch_size}"))) == (batch_size == 1)


def test_preflight_takes_no_memory_for_a_network_no_machine_could_hold(config):
    assert preflight(config("depth=4", "width=1000000")) == []  # 16 TB of weights


def test_the_same_seed_builds_the_same_network_whatever_torch_drew_before(config):
    first = build(config("depth=2", "width=8", "seed=3")).network.state_dict()
    torch.rand(5)
    before = torch.get_rng_state()
    second = build(config("depth=2", "width=8", "seed=3")).network.state_dict()
    other = build(config("depth=2", "width=8", "seed=4")).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_budget_counts_epochs_in_steps_where_they_are_set(config):
    assert build(config("trainer.max_steps=7")).budget.total == 7
    assert build(config("trainer.max_steps=7", "trainer.max_epochs=3")).budget.total == 3 * (1077 // 64)
