"""What cannot run is found before anything trains, and said in one line."""

import pytest
import torch

from gradflow.errors import ConfigError
from gradflow.runs.build import build, check_keys
from gradflow.runs.pairs import questioned
from gradflow.runs.preflight import preflight


@pytest.fixture
def config(compose):
    return lambda *overrides: compose.config(list(overrides))


IMPOSSIBLE = [
    (["skip=residual", "depth=2", "width=[8,4]"], ["skip.shortcut=zero_pad", "from 8 to 4", "skip=none"]),
    (["depth=3", "width=[8,4]"], ["2 numbers for depth=3"]),
    (["optimizer.momentum=0.0", "optimizer.nesterov=true"], ["optimizer.nesterov=true needs optimizer.momentum"]),
    (["task.batch_size=2000"], ["task.batch_size=2000 exceeds the 1077 training examples"]),
    (["norm=batch", "task.batch_size=1"], ["norm=batch", "task.batch_size"]),
    (["hardware.precision=16-mixed", "instruments.loss_scale=1024.0"], ["instruments.loss_scale", "16-mixed"]),
    # Lightning would take bfloat16 instead, and the record would say what is not so.
    (["hardware.precision=16-mixed", "hardware.device=cpu"], ["hardware.precision=16-mixed", "cpu"]),
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
    (["init=orthogonal", "init.gain=-1"], ["init.gain=-1: should be greater than 0", "activation"]),
    (["scheduler=step", "scheduler.factor=-1"], ["scheduler.factor=-1: should be greater than or equal to 0"]),
    (["scheduler=step", "scheduler.milestones=[2]"], ["scheduler.milestones", "2: should be less than or equal to 1"]),
    (["remedy=warmup", "remedy.warmup.steps=-1"], ["remedy.warmup.steps=-1: should be greater than or equal to 0"]),
    (["remedy=clip_norm", "remedy.clip_norm.max_norm=0"], ["remedy.clip_norm.max_norm=0: should be greater than 0"]),
    (["alpha_dropout=0.1"], ["alpha_dropout=0.1", "activation=selu"]),
    (["activation=selu", "dropout=0.1", "alpha_dropout=0.1"], ["dropout=0.1 and alpha_dropout=0.1", "one of them"]),
    (["init=fixup", "norm=batch", "skip=fixup_scalar"], ["init=fixup", "norm=batch", "norm=none"]),
    (["init=fixup", "skip=rezero"], ["init=fixup", "skip=rezero would never learn"]),
    (["init=zero_last"], ["init=zero_last", "skip=none would never learn"]),
    (["init=zero_last", "skip=residual", "norm=spectral"], ["init=zero_last", "norm=spectral divides"]),
    (["init=lsuv", "norm=spectral"], ["init=lsuv", "norm=spectral undoes"]),
    (["skip=deepnorm"], ["skip=deepnorm", "norm=layer"]),
    (["skip=dense", "depth=10000"], ["skip=dense", "more than 16384", "fewer blocks"]),
    (["skip=highway", "activation=maxout", "depth=2", "width=[8,4]"], ["skip=highway", "from 8 to 4", "one width"]),
    (["skip=residual", "activation=maxout"], ["activation=maxout", "preact_residual"]),
    (["activation=crelu", "width=63"], ["activation=crelu", "63"]),
    (["activation=maxout", "activation.pieces=3", "skip=preact_residual"], ["maxout", "64", "3"]),
    (["norm=group", "norm.groups=7"], ["norm.groups=7 does not divide 64"]),
    (["norm=instance"], ["norm=instance", "norm=layer"]),
    (["model=convnet", "task.view=flat"], ["model=convnet", "task.view=image"]),
    (["model=resnet", "depth=10"], ["depth=10", "multiple of 3", "ResNet-20"]),
    (["model=transformer_encoder", "model.heads=5"], ["model.heads=5", "width=64"]),
    (["model=transformer_encoder", "model.patch=3"], ["model.patch=3", "8×8"]),
    (["model=transformer_encoder", "skip=preact_residual"], ["skip=residual", "model.norm_position=pre"]),
    (["skip=deepnorm", "norm=layer", "model.norm_position=pre"], ["norm_position=pre", "norm_position=null"]),
    (["model=convnet", "model.kernel_size=31"], ["model.kernel_size=31 wraps", "model.padding=zero"]),
    (["remedy=warmup", "trainer.max_steps=10"], ["remedy.warmup.steps=100", "trainer.max_steps"]),
    (["model=resnet", "skip=highway"], ["skip=highway", "one width"]),
    (["model=transformer_encoder", "skip=dense"], ["skip=dense", "transformer_encoder"]),
    (["model=transformer_encoder", "task.view=flat"], ["transformer_encoder", "task.view=image or sequence"]),
    (["skip=residual", "model.norm_position=post"], ["model.norm_position=post", "null"]),
    (["task=gaussian_teacher", "label_smoothing=0.1"], ["label_smoothing=0.1", "gaussian_teacher"]),
    (["remedy=layerwise_pretraining", "trainer.max_steps=10"], ["remedy.layerwise_pretraining.share"]),
    (["init=he_normal", "init.gain=activation", "activation._target_=torch.nn.GELU"], ["init.gain=activation", "GELU"]),
    (["model.bias=yes_please"], ["model.bias=yes_please: should be a valid boolean"]),
]


@pytest.mark.parametrize(("overrides", "told"), IMPOSSIBLE, ids=[" ".join(o) for o, _ in IMPOSSIBLE])
def test_what_cannot_run_is_refused_in_one_line(config, overrides, told):
    lines = preflight(config(*overrides))
    assert any(all(part in line for part in told) for line in lines), lines
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dropout=1.0", ["dropout=1.0: should be less than 1"]),
        ("input_noise=-1", ["input_noise=-1: should be greater than or equal to 0"]),
        ("hardware.precision=16", ["hardware.precision=16: unknown value", "allowed: 16-mixed, 32"]),
        ("hardware.device=gpu", ["hardware.device=gpu: unknown value", "allowed: auto, cpu, cuda, mps"]),
    ],
)
def test_a_number_or_word_out_of_bounds_is_refused_in_one_line(config, override, told):
    with pytest.raises(ConfigError) as caught:
        config(override)
    (line,) = caught.value.lines
    assert [part for part in told if part not in line] == []


QUESTIONABLE = [
    (["activation=selu", "init=lecun_normal", "dropout=0.1"], "alpha_dropout"),
    (["activation=selu"], "init=lecun_normal"),
    (["activation=selu", "init=lecun_normal", "norm=batch"], "norm=batch"),
    (["init=delta_orthogonal"], "model=mlp has none"),
    (["skip=deepnorm", "norm=layer"], "init=deepnorm"),
    (["init=deepnorm"], "skip=deepnorm"),
    (["skip=fixup_scalar"], "init=fixup"),
    (["model=resnet"], "norm=batch skip=residual"),
    (["model=transformer_encoder"], "no residual connections"),
    (["remedy=layerwise_pretraining", "trainer.max_time=00:00:10:00"], "left for fine-tuning"),
    (["remedy=layerwise_pretraining", "skip=rezero"], "objective=supervised"),
    (["norm=scaled_weight_standardization", "init=sparse"], "undoes init=sparse"),
    (["norm=scaled_weight_standardization", "activation=tanh"], "norm.gain is that of ReLU"),
    (["skip=rezero", "norm=batch"], "without normalisation"),
]


@pytest.mark.parametrize(("overrides", "told"), QUESTIONABLE, ids=[" ".join(o) for o, _ in QUESTIONABLE])
def test_what_seldom_means_what_a_person_wants_runs_with_a_word(config, overrides, told):
    assert preflight(config(*overrides)) == []
    (line,) = questioned(config(*overrides))
    assert told in line


def test_the_methods_in_full_raise_no_question(config):
    for words in (
        ["activation=selu", "init=lecun_normal", "alpha_dropout=0.05"],
        ["model=convnet", "init=delta_orthogonal", "activation=tanh"],
        ["skip=deepnorm", "init=deepnorm", "norm=layer", "model=transformer_encoder"],
        ["skip=fixup_scalar", "init=fixup", "model=resnet"],
    ):
        assert (preflight(config(*words)), questioned(config(*words))) == ([], [])


def test_every_factor_is_checked(config):
    faults = check_keys(config("+norm.a=1", "+skip.b=1", "optimizer.lr=-1", "remedy=warmup", "remedy.warmup.steps=-1"))
    assert [fault.partition("=")[0] for fault in faults] == [
        "norm.a",
        "skip.b",
        "optimizer.lr",
        "remedy.warmup.steps",
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
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_budget_counts_epochs_in_steps_where_they_are_set(config):
    assert build(config("trainer.max_steps=7")).budget.total == 7
    assert build(config("trainer.max_steps=7", "trainer.max_epochs=3")).budget.total == 3 * (1077 // 64)
