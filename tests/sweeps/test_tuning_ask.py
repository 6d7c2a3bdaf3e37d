"""From words to a search: what is refused before any trial, what tells searches apart, and what is frozen."""

import pytest
from searching_here import LR, TINY, Here

from gradflow.errors import ConfigError
from gradflow.runs.identity import run_id
from gradflow.sweeps.plan import Refused
from gradflow.sweeps.tuning.ask import make_search
from gradflow.sweeps.tuning.search import read_search, write_search
from gradflow.sweeps.tuning.settings import read_words


@pytest.fixture
def here(compose, tmp_path):
    return Here(compose, tmp_path)


REFUSED = [
    (["activation=relu,tanh", "tune.per=activation"], "tune: nothing to search"),
    ([LR, "tune.per=activation"], "tune.per=activation: is not among what is typed; write its values, e.g. activation"),
    ([LR, "activation=relu", "tune.per=activation"], "activation=relu: tune.per=activation needs choices"),
    ([LR, "width=interval(1,9)", "tune.per=width"], "tune.per=width needs choices, e.g. width=A,B"),
    ([LR, "tune.trials=0"], "tune.trials=0: should be greater than or equal to 1"),
    ([LR, "tune.trails=3"], "tune.trails=3: unknown key; allowed:"),
    ([LR, "tune.sampler=tpee"], "tune.sampler=tpee: unknown value; allowed: cmaes, grid, qmc, random, tpe; did you"),
    ([LR, "tune=learning_rat"], "tune=learning_rat: unknown value; allowed: default, learning_rate; did you mean"),
    ([LR, "tune.sampler=tpe,random"], "tune.sampler=tpe,random: takes one value"),
    ([LR, "tune.seeds=[0,0]"], "names one twice"),
    ([LR, "tune.sampler=cmaes"], "tune.sampler=cmaes: needs two keys with numbers; there are 1; use tpe"),
    ([LR, "tune.sampler=grid"], "tune.sampler=grid: optimizer.lr=tag(log,interval(1e-3,1)) has no end of values"),
    ([LR, "tune.metric=test/loss"], "the test split is for the final table alone; write val/loss"),
    ([LR, "tune.metric=val/accuracy"], "tune.metric=val/accuracy: unknown value; allowed: cost/parameters"),
    ([LR, "tune.metric=cost/parameters"], "needs a figure beside costs, e.g. val/loss"),
    ([LR, "tune.metric=[val/loss,cost/parameters]", "tune.pruner=asha"], "tune.pruner=asha: goes with one metric"),
    ([LR, "width=1,2", "tune.metric=[val/loss,cost/parameters]", "tune.sampler=cmaes"], "cmaes: goes with one metric"),
    ([LR, "seed=3"], "seed=3: a search has several seeds; write tune.seeds=[3]"),
    ([LR, "seed=1,2"], "seed=1,2: is nothing to search; its runs have tune.seeds"),
    ([LR, "logger.mode=offline,disabled"], "logger.mode=offline,disabled: is nothing to search"),
    ([LR, "tune.name=a/b"], "tune.name=a/b: must be a plain folder name"),
    (["model.norm_position=pre,post"], "model.norm_position=pre,post: changes nothing in a run"),
    ([LR, "model.norm_position=pre,post", "tune.per=model.norm_position"], "norm_position=post' are the same runs"),
    ([LR, "activation=relu,tanh", "init=he_normal,orthogonal,identity", "tune.per=[activation,init]",
      "tune.zip=[activation,init]"], "tune.zip: the lists differ in length (activation 2, init 3)"),
    ([LR, "activation=relu,tanh", "tune.per=activation", "tune.zip=init"], "tune.zip=init: must be one of tune.per"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "line"), REFUSED, ids=[" ".join(words)[-60:] for words, _ in REFUSED])
def test_what_cannot_be_searched_is_said_in_a_line(here, words, line):
    with pytest.raises((ConfigError, Refused)) as refused:
        here.ask(*words)
    error = refused.value
    lines = error.lines if isinstance(error, ConfigError) else [fault.line for fault in error.faults]
    assert line in lines[0]
    assert not (here.folder / "sweeps").exists()


def test_techniques_whose_figures_differ_are_not_compared(compose, tmp_path):
    words = LR, "task=gaussian_teacher,digits", "tune.per=task", "hardware=cpu", f"paths.sweeps={tmp_path}"
    with pytest.raises(ConfigError, match="tune: the figures of task=digits and gaussian_teacher cannot be compared"):
        make_search(compose, read_words(compose, words), "")


def test_every_corner_of_every_technique_s_space_is_checked(here):
    """A gain that one of two cells lacks, a share beyond 1, a width that no group norm divides."""
    with pytest.raises(Refused) as refused:
        here.ask("optimizer.momentum=0,0.9", "optimizer=sgd,adam", "tune.per=optimizer")
    assert refused.value.faults[0].line.startswith("optimizer.momentum=0: unknown key; allowed:")
    with pytest.raises(Refused) as refused:
        here.ask("dropout=interval(0,1)")
    assert refused.value.faults[0].line == "dropout=1.0: should be less than 1"
    with pytest.raises(Refused) as refused:
        here.ask("depth=interval(1,4)")
    assert refused.value.faults[0].line == "depth=interval(1,4): must be whole numbers; write depth=int(interval(1,4))"
    with pytest.raises(Refused) as refused:
        here.ask(LR, "width=8,9,16", "norm=group", "norm.groups=4")
    assert [len(fault.cells) for fault in refused.value.faults] == [1]
    assert "width=9" in refused.value.faults[0].cells[0]


def test_techniques_multiply_out_or_are_walked_together(here):
    words = LR, "activation=relu,tanh", "init=he_normal,glorot_normal", "norm=none,layer"
    search, _ = here.ask(*words, "tune.per=[activation,init,norm]", "tune.zip=[activation,init]")
    assert [technique.name for technique in search.techniques] == [
        "activation=relu init=he_normal norm=none",
        "activation=relu init=he_normal norm=layer",
        "activation=tanh init=glorot_normal norm=none",
        "activation=tanh init=glorot_normal norm=layer",
    ]
    assert [technique.slug for technique in search.techniques][:2] == ["relu-he_normal-none", "relu-he_normal-layer"]
    assert len(here.ask(*words, "tune.per=activation,init,norm")[0].techniques) == 8


def test_a_trial_s_config_is_what_its_overrides_compose(here, compose):
    words = LR, "optimizer=sgd,adam", "width=[4],[6]", "remedy=none,[clip_norm,clip_value]", "activation=relu,tanh"
    search, _ = here.ask(*words, "tune.per=activation")
    params = {"optimizer.lr": 0.0123456, "optimizer": "adam", "width": "[6]", "remedy": "[clip_norm,clip_value]"}
    config = search.config(search.techniques[1], params, 7)
    overrides = search.overrides(search.techniques[1], params, 7)
    searched = "optimizer.lr=0.01235", "optimizer=adam", "width=[6]", "remedy=[clip_norm,clip_value]"
    assert {"activation=tanh", *searched, "seed=7"} <= set(overrides)
    assert run_id(compose.config(overrides)) == run_id(config)
    assert (config.optimizer["lr"], config.width, list(config.remedy)) == (0.01235, [6], ["clip_norm", "clip_value"])


def test_a_file_brings_a_space_that_words_replace(here):
    search, _ = here.ask("tune=learning_rate", "activation=relu,tanh", "tune.per=activation")
    assert (search.trials, [d.text for d in search.dimensions]) == (15, ["tag(log,interval(1e-4,1))"])
    search, _ = here.ask("tune=learning_rate", "optimizer.lr=0.1,0.2", "tune.trials=3")
    assert (search.trials, [d.words for d in search.dimensions]) == (3, [("0.1", "0.2")])


def test_fresh_seeds_are_none_that_a_trial_used(here):
    search, _ = here.ask(LR, "tune.seeds=[0,1001]", "tune.final_seeds=3")
    assert search.fresh == [1000, 1002, 1003]


def test_another_search_or_sweep_in_the_folder_is_left_alone(here):
    here.ask(LR, "tune.name=one", "tune.trials=4")
    with pytest.raises(ConfigError, match=r"is another search \(sampler was tpe, not random\); choose another name"):
        here.ask(LR, "tune.name=one", "tune.sampler=random")
    with pytest.raises(ConfigError, match=r"is another search \(space was optimizer.lr=.*, not optimizer.lr=0.1,0.2\)"):
        here.ask("optimizer.lr=0.1,0.2", "tune.name=one")
    with pytest.raises(ConfigError, match=r"tune.trials=3: 4 were planned; it can be raised, not lowered"):
        here.ask(LR, "tune.name=one", "tune.trials=3")
    (here.folder / "sweeps" / "two").mkdir()
    (here.folder / "sweeps" / "two" / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tune.name=two: .*/two is another sweep's; choose another name"):
        here.ask(LR, "tune.name=two")


def test_names_of_searches_differ_where_they_do(here):
    one, folder = here.ask(LR)
    assert here.ask(LR, "tune.trials=50", "tune.final_seeds=5")[1] == folder
    assert here.ask(LR, "tune.seed=1")[1] != folder
    assert here.ask("optimizer.lr=interval(1e-3,1)")[1] != folder
    assert one.asked["words"] == sorted([*TINY, *here.paths])


def test_a_search_is_read_back_as_it_was_written(here):
    search, folder = here.ask(LR, "width=2,4", "activation=relu,tanh", "tune.per=activation")
    write_search(folder, search)
    assert read_search(folder) == search
