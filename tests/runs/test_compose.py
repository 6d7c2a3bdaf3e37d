"""From overrides to a config: what is wrong is said with its key, its value, what is allowed and the nearest match."""

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from gradflow.errors import ConfigError

TOP = "allowed: activation, alpha_dropout,"

# (what is typed, what the message must hold)
MISTAKES = [
    ("dpeth=3", ["dpeth=3: unknown key", TOP, "did you mean 'depth'?"]),
    ("+dpeth=3", ["dpeth=3: unknown key", TOP, "did you mean 'depth'?"]),
    ("+typo=1", ["typo=1: unknown key", TOP]),
    ("defaults=[]", ["defaults=[]: unknown key", TOP]),
    ("optimizer.lrr=1", ["optimizer.lrr=1: unknown key", "did you mean 'optimizer.lr'?"]),
    ("optmizer.lr=1", ["optmizer.lr=1: unknown key", "did you mean 'optimizer'?"]),
    ("~optimizer.lrr", ["~optimizer.lrr: unknown key", "did you mean 'optimizer.lr'?"]),
    ("optimizer={lrr: 1}", ["optimizer={lrr: 1}: unknown key", "allowed: ", "momentum", "did you mean '"]),
    ("trainer.max_stesp=3", ["trainer.max_stesp=3: unknown key", "did you mean 'trainer.max_steps'?"]),
    ("+trainer.max_stesp=3", ["trainer.max_stesp=3: unknown key", "did you mean 'max_steps'?"]),
    ("+paths.run=x", ["paths.run=x: unknown key", "allowed: data, runs, sweeps", "did you mean 'runs'?"]),
    ("activation=rleu", ["activation=rleu: unknown value", "linear, maxout", "did you mean 'relu'?"]),
    ("trainer=dflt", ["trainer=dflt: unknown value", "allowed: ddp, default", "did you mean 'default'?"]),
    ("experiment=mnist_mpl", ["experiment=mnist_mpl: unknown value", "did you mean 'mnist_mlp'?"]),
    ("optimizer=null", ["optimizer=null: unknown value", "allowed: adagrad, adam, adamw, rmsprop, sgd"]),
    ("~optimizer", ["~optimizer: unknown value", "allowed: adagrad, adam, adamw, rmsprop, sgd"]),
    ("logger.mode=offlin", ["logger.mode=offlin: unknown value", "allowed: disabled, offline", "mean 'offline'?"]),
    ("hardware.precision=33", ["hardware.precision=33: unknown value", "bf16-mixed, tf32", "did you mean '32'?"]),
    ("depth=-1", ["depth=-1: should be greater than or equal to 1"]),
    ("depth=0", ["depth=0: should be greater than or equal to 1"]),
    ("depth=2.5", ["depth=2.5: should be a valid integer"]),
    ("depth=deep", ["depth=deep: should be a valid integer"]),
    ("depth=true", ["depth=true: should be a valid integer"]),
    ("depth=null", ["depth=null: should be a valid integer"]),
    ("~depth", ["depth: missing"]),
    ("width=0", ["width=0: should be greater than or equal to 1"]),
    ("width=[8,true]", ["width=[8, True]: should be a valid integer"]),
    ("width=[]", ["width=[]:", "at least 1 item"]),
    ("seed=-1", ["seed=-1: should be greater than or equal to 0"]),
    ("seed=9223372036854775808", ["seed=9223372036854775808: should be less than"]),
    ("trainer.max_steps=true", ["trainer.max_steps=true: should be a valid integer"]),
    ("trainer.max_time=10", ["trainer.max_time=10: must look like DD:HH:MM:SS"]),
    ("hardware.threads=0", ["hardware.threads=0: should be greater than or equal to 1"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan: ", "finite"]),
    ("optimizer.lr=inf", ["optimizer.lr=inf: ", "finite"]),
    ("instruments.loss_scale=3", ["instruments.loss_scale=3: must be a power of two"]),
    ("instruments.loss_scale=0", ["instruments.loss_scale=0: must be a power of two"]),
    ("instruments.loss_scale=-2.0", ["instruments.loss_scale=-2.0: must be a power of two"]),
    ("instruments.loss_scale=inf", ["instruments.loss_scale=inf: must be "]),
    ("logger.tags=one", ["logger.tags=one: should be a valid list"]),
    ("paths.runs=3", ["paths.runs=3: should be a valid string"]),
    ("paths.runs=${nowhere}", ["paths.runs", "'nowhere' not found"]),
    ("activation._target_=null", ["activation", "needs a _target_"]),
    ("depth=1,2", ["depth=1,2: several values make a sweep", "gradflow sweep"]),
    ("seed=range(3)", ["seed=range(3): several values make a sweep"]),
    ("activation=glob(*)", ["activation=glob(*): several values make a sweep"]),
    ("+sweep=quickstart", ["+sweep=quickstart: unknown key for one run"]),
    ("hydra.run.dir=x", ["hydra.run.dir=x: unknown key", TOP]),
    ("+hydra.verbose=true", ["+hydra.verbose=true: unknown key", TOP]),
    ("hydra/launcher=basic", ["hydra/launcher=basic: unknown key", TOP]),
    (
        "remedy=clip_nrom",
        ["remedy=clip_nrom: unknown value;", "allowed: activation_l1", "did you mean 'clip_norm'?"],
    ),
    ("remedy=[agc,clip_nrom]", ["remedy=[agc,clip_nrom]: unknown value 'clip_nrom';", "did you mean 'clip_norm'?"]),
    ("remedy=[[agc]]", ["remedy=[[agc]]: unknown value", "allowed: activation_l1, agc,"]),
    ("remedy=[agc,warmup,agc]", ["remedy=[agc,warmup,agc]: 'agc' stands there twice"]),
    ("remedy=[agc,none,warmup]", ["'none' stands alone", "remedy=none or remedy=[agc,warmup]"]),
    ("remedy=null", ["remedy=null: unknown value", "did you mean 'none'?"]),
    ("remedy=[agc],none", ["remedy=[agc],none: several values make a sweep"]),
    ("remedy.agc.eps=1", ["remedy.agc.eps=1: remedy 'agc' is not chosen; choose it with remedy=agc"]),
    ("~remedy.agc", ["~remedy.agc: remedy 'agc' is not chosen"]),
    ("activation=[relu]", ["activation=[relu]: "]),
    ("depth", ["depth: cannot be read", "key=value"]),
    ("depth=[3", ["depth=[3: cannot be read", "literally"]),
    ("=3", ["=3:", "key"]),
]


@pytest.mark.parametrize(("typed", "told"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_refused_in_one_line_that_helps(compose, typed, told):
    with pytest.raises(ConfigError) as caught:
        compose.config([typed])
    (line,) = caught.value.lines
    assert [part for part in told if part not in line] == []
    assert "_dummy" not in line


def test_every_mistake_is_told_at_once(compose):
    with pytest.raises(ConfigError) as caught:
        compose.config(["activation=rleu", "norm=bacth", "depth=1,2"])
    assert [line.partition(":")[0] for line in caught.value.lines] == ["activation=rleu", "norm=bacth", "depth=1,2"]


def test_seed_zero_is_a_seed_and_no_seed_splits_the_data_anew(compose):
    config = compose.config(["seed=0"])
    assert (config.seed, config.task["split_seed"]) == (0, 0)
    assert compose.config(["seed=7"]).task["split_seed"] == 0


# --- groups that are lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ([], []),
        (["remedy=none"], []),
        (["remedy=[]"], []),
        (["remedy=[none]"], []),
        (["remedy=agc"], ["agc"]),
        (["remedy=[warmup,clip_norm,agc]"], ["warmup", "clip_norm", "agc"]),
        (["remedy=[agc,clip_norm,warmup]"], ["agc", "clip_norm", "warmup"]),
        (["remedy=[agc]", "remedy=[]"], []),
        (["remedy=[]", "remedy=[agc]"], ["agc"]),
        (["remedy=[agc,warmup]", "~remedy.agc"], ["warmup"]),
    ],
    ids=str,
)
def test_remedies_stand_in_the_order_in_which_they_were_typed(compose, typed, names):
    chosen = compose.config(typed).remedy
    assert list(chosen) == names
    assert [node["_target_"].rpartition(".")[2] for node in chosen.values()] == names


def test_a_remedy_s_keys_are_set_below_its_name(compose):
    typed = ["remedy=[warmup,clip_norm]", "remedy.clip_norm.max_norm=0.5", "remedy.warmup={steps: 7}"]
    chosen = compose.config(typed).remedy
    assert (chosen["clip_norm"]["max_norm"], chosen["warmup"]["steps"]) == (0.5, 7)


def test_a_key_of_a_remedy_that_is_not_among_those_chosen_says_how_to_choose_it(compose):
    with pytest.raises(ConfigError, match=r"^remedy\.agc\.eps=1: .* choose it with remedy=\[warmup,clip_norm,agc\]$"):
        compose.config(["remedy=[warmup,clip_norm]", "remedy.agc.eps=1"])


# --- the same as Hydra ------------------------------------------------------------------------------------------

SAME = [
    ["depth=3", "seed=5", "width=[8,4,2]"],
    ["task.split_seed=7", "task.batch_size=32"],
    ["optimizer=adam", "optimizer.betas=[0.8,0.9]", "optimizer.eps=1e-9"],
    ["optimizer.momentum=0.5", "optimizer=sgd"],
    ["depth=3", "depth=4"],
    ["+optimizer.extra=1", "++trainer.max_steps=7", "++trainer.new=a"],
    ["~optimizer.momentum", "~task.split_seed"],
    ["trainer={max_steps: 5}", "optimizer={lr: 0.5}"],
    ["logger.tags=[a,b]", "logger.group='two words'", "logger.entity=null"],
    ["experiment=vanishing_sigmoid", "depth=4"],
    ["experiment=mnist_mlp", "task=digits", "norm=layer"],
    ["experiment=cifar10_mlp", "task.augment=false", "optimizer.lr=1"],
    ["scheduler=step", "scheduler.milestones=[0.1]", "scheduler.factor=0.5"],
    ["paths.runs=${paths.data}/x", "width=${depth}"],
    ["instruments=none", "instruments.every_n_steps=3"],
    ["remedy=[clip_norm,warmup]", "remedy.warmup.steps=3"],
    ["experiment=mnist_mlp", "remedy=[agc]"],
]


@pytest.mark.parametrize("overrides", SAME, ids=" ".join)
def test_the_config_is_the_one_that_hydra_composes(compose, overrides):
    ours, theirs = compose.untyped(overrides), hydra_compose("train", overrides=overrides)
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
    assert OmegaConf.to_container(ours, resolve=True) == OmegaConf.to_container(theirs, resolve=True)
    # what was set on it has left no trace in the compositions that are kept
    assert compose.untyped(overrides) == ours
    assert OmegaConf.to_yaml(compose.untyped([])) == OmegaConf.to_yaml(hydra_compose("train"))


@pytest.mark.parametrize(
    ("typed", "cells"),
    [
        (["depth=2,3", "seed=4"], [["depth=2", "seed=4"], ["depth=3", "seed=4"]]),
        (["seed=range(3)"], [["seed=0"], ["seed=1"], ["seed=2"]]),
        (["seed=range(4,0,-2)"], [["seed=4"], ["seed=2"]]),
        (["scheduler=glob(*)"], [["scheduler=constant"], ["scheduler=cosine"], ["scheduler=step"]]),
        (["scheduler=glob(*,exclude=step)"], [["scheduler=constant"], ["scheduler=cosine"]]),
        (["remedy=[clip_norm],[agc,warmup],none"], [["remedy=[clip_norm]"], ["remedy=[agc,warmup]"], ["remedy=none"]]),
        (["width=[8,4],[4,2]"], [["width=[8,4]"], ["width=[4,2]"]]),
        (["+task.a=choice(1,2)"], [["+task.a=1"], ["+task.a=2"]]),
        (["depth=1,2", "seed=0,1"], [[f"depth={d}", f"seed={s}"] for d in (1, 2) for s in (0, 1)]),
    ],
    ids=str,
)
def test_choices_ranges_and_globs_multiply_out_in_order(compose, typed, cells):
    assert list(compose.expand(typed)) == cells


@pytest.mark.parametrize(
    ("typed", "told"), [("norm=glob(zz*)", ["norm=glob(zz*)", "allowed: batch"]), ("depth=interval(0,1)", ["interval"])]
)
def test_a_grid_that_cannot_be_walked_is_refused(compose, typed, told):
    with pytest.raises(ConfigError) as caught:
        list(compose.expand([typed]))
    assert [part for part in told if part not in str(caught.value)] == []


def test_data_and_record_folders_come_from_the_environment(compose, monkeypatch):
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", "elsewhere")
    monkeypatch.delenv("GRADFLOW_DATA_DIR", raising=False)
    paths = compose.config([]).paths
    assert (paths.runs, paths.sweeps, paths.data) == ("elsewhere", "sweeps", "data")


# --- instruments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("instruments=none", {}),
        ("instruments=grad_norm", {"grad_norm": 10}),
        ("instruments=grad_norm instruments.every_n_steps=3", {"grad_norm": 3}),
        ("instruments.measure=[grad_norm,delta_norm]", {"grad_norm": 10, "delta_norm": 10}),
        ("instruments.measure={grad_norm:2,mine.Own:5}", {"grad_norm": 2, "mine.Own": 5}),
        ("instruments=grad_norm instruments.measure.delta_norm=7", {"grad_norm": 10, "delta_norm": 7}),
    ],
)
def test_a_list_or_intervals_of_instruments(compose, words, expected):
    assert compose.config(words.split()).instruments.intervals() == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("instruments.measure=[grad_nrm]", "no instrument is called 'grad_nrm'; allowed: .* did you mean 'grad_norm'"),
        ("instruments.measure.grad_norm=0", "instruments.measure.grad_norm=0: should be greater than or equal to 1"),
        ("instruments=none instruments.measure=[grad_norm]", "no interval; set instruments.every_n_steps"),
        ("instruments=chep", "did you mean 'cheap'"),
    ],
)
def test_what_is_wrong_with_instruments(compose, words, said):
    with pytest.raises(ConfigError, match=said):
        compose.config(words.split())
