"""From words to cells: every one checked before anything trains."""

import hashlib

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.compose import composer
from gradflow.runs.identity import run_id
from gradflow.runs.preflight import preflight
from gradflow.sweeps import launch
from gradflow.sweeps.grid import ask
from gradflow.sweeps.plan import Refused, check, make_plan


@pytest.fixture
def named(tmp_path):
    """A composer with one more named sweep, of a test's own text."""
    stack = []

    def add(text: str):
        (tmp_path / "conf" / "sweep").mkdir(parents=True)
        (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(text)
        stack.append(composer(str(tmp_path / "conf")))
        return stack[0].__enter__()

    yield add
    for opened in stack:
        opened.__exit__(None, None, None)


def typed(*words: str):
    with composer() as compose:
        return make_plan(compose, list(words), "again")


def faults_of(*words: str) -> dict[str, list[str]]:
    with pytest.raises(Refused) as caught:
        typed(*words)
    return {fault.line: fault.cells for fault in caught.value.faults}


# --- cells ------------------------------------------------------------------------------------------------------


def test_a_grid_is_the_product_of_its_axes_in_the_order_typed():
    plan, configs, *_ = typed("depth=2,3", "activation=relu,tanh", "width=8", "seed=range(2)")
    assert [run.overrides for run in plan.runs] == [
        [f"depth={d}", f"activation={a}", "width=8", f"seed={s}"]
        for d in (2, 3)
        for a in ("relu", "tanh")
        for s in (0, 1)
    ]
    assert [run.run_id for run in plan.runs] == [run_id(configs[run.run_id]) for run in plan.runs]
    assert {run.labels["width"] for run in plan.runs} == {8}


def test_a_glob_takes_every_file_of_a_group():
    plan, *_ = typed("norm=glob(?a*)", "init=glob(he_*)")
    assert [(r.labels["norm"], r.labels["init"]) for r in plan.runs] == [
        (norm, init) for norm in ("batch", "layer") for init in ("he_normal", "he_uniform")
    ]


def test_the_same_cell_asked_for_twice_is_one_run():
    plan, *_ = typed("optimizer.lr=1,1.0", "seed=0,1,0", "norm=none")
    assert [run.overrides for run in plan.runs] == [
        ["optimizer.lr=1", "seed=0", "norm=none"],
        ["optimizer.lr=1", "seed=1", "norm=none"],
    ]


def test_the_quickstart_has_thirty_cells_of_five_recipes():
    plan, _, folder, _ = typed("+sweep=quickstart")
    assert (plan.name, folder.name, len(plan.runs)) == ("quickstart", "quickstart", 30)
    recipes = [
        *("sigmoid · fan_in_uniform", "tanh · glorot_uniform", "relu · he_normal"),
        *("relu · he_normal · batch", "relu · he_normal · preact_residual"),
    ]
    assert {(r.labels["recipe"], r.labels["depth"], r.labels["seed"]) for r in plan.runs} == {
        (recipe, depth, seed) for recipe in recipes for depth in (2, 10, 30) for seed in (0, 1)
    }
    assert {(r.labels["width"], r.labels["optimizer.lr"], r.labels["scheduler"]) for r in plan.runs} == {
        (64, 0.1, "cosine")
    }
    assert {r.config["logger"]["group"] for r in plan.runs} == {"quickstart"}


GRID_AND_ZIP = """
name: mine
overrides: [width=8, optimizer.lr=0.5]
grid:
  depth: 2,3
  seed: [0, 1]
zip:
  activation: [relu, tanh]
  init: [he_normal, glorot_normal]
"""


def test_a_named_sweep_multiplies_its_grid_and_walks_its_zip_together(named):
    plan, _, folder, _ = make_plan(named(GRID_AND_ZIP), ["+sweep=mine"], "")
    assert (plan.name, folder.name) == ("mine", "mine")
    assert [tuple(r.labels[k] for k in ("activation", "init", "depth", "seed")) for r in plan.runs] == [
        (activation, init, depth, seed)
        for activation, init in (("relu", "he_normal"), ("tanh", "glorot_normal"))
        for depth in (2, 3)
        for seed in (0, 1)
    ]
    assert {(r.labels["width"], r.labels["optimizer.lr"]) for r in plan.runs} == {(8, 0.5)}


@pytest.mark.parametrize(
    ("own", "count", "seen"),
    [
        (["depth=5"], 4, {"depth": {5}, "width": {8}}),
        (["depth=5,6,7"], 12, {"depth": {5, 6, 7}}),
        (["width=4"], 8, {"width": {4}, "optimizer.lr": {0.5}}),
        (["init=he_uniform"], 8, {"init": {"he_uniform"}, "activation": {"relu", "tanh"}}),
        (["activation=sigmoid", "init=he_uniform"], 4, {"activation": {"sigmoid"}}),
        (["norm=batch"], 8, {"norm": {"batch"}, "depth": {2, 3}}),
    ],
    ids=str,
)
def test_words_on_the_command_line_replace_keys_of_a_named_sweep(named, own, count, seen):
    plan, *_ = make_plan(named(GRID_AND_ZIP), ["+sweep=mine", *own], "")
    assert len(plan.runs) == count
    assert {key: {run.labels[key] for run in plan.runs} for key in seen} == seen
    suffix = hashlib.sha256(" ".join(own).encode()).hexdigest()[:6]
    assert plan.name == f"mine-{suffix}"  # another sweep, with its own folder


def test_an_altered_sweep_may_be_given_its_name(named):
    compose = named(GRID_AND_ZIP)
    assert make_plan(compose, ["+sweep=mine", "depth=5", "sweep.name=five"], "")[0].name == "five"
    assert make_plan(compose, ["+sweep=mine", "sweep.name=five"], "")[0].name == "five"
    orders = [["+sweep=mine", "depth=5", "width=4"], ["+sweep=mine", "width=4", "depth=5"]]
    assert len({make_plan(compose, words, "")[0].name for words in orders}) == 1


def test_a_sweep_without_a_name_is_named_after_its_words_in_any_order():
    words = [["depth=2,3", "seed=1"], ["seed=1", "depth=2,3"], ["depth=2,3", "seed=1", "paths.data=elsewhere"]]
    one, *same = (typed(*each)[0].name for each in [*words, ["depth=2,4", "seed=1"]])
    *same, other = same
    assert one.startswith("sweep-")
    assert set(same) == {one} != {other}


# --- grids beside each other, keys together, conditions -------------------------------------------------------------


def words_of(asked) -> list[str]:
    return [" ".join(cell.overrides) for cell in asked.cells]


@pytest.mark.parametrize(
    ("words", "cells"),
    [
        (
            ["activation=relu,tanh", "init=he_normal,glorot_normal", "seed=0,1", "sweep.zip=[activation,init]"],
            [
                *("activation=relu init=he_normal seed=0", "activation=relu init=he_normal seed=1"),
                *("activation=tanh init=glorot_normal seed=0", "activation=tanh init=glorot_normal seed=1"),
            ],
        ),
        (
            ["depth=2,3", "seed=range(2)", "width=4,8", "norm=none,batch", "sweep.zip=[[depth,width],[seed,norm]]"],
            [
                *("depth=2 width=4 seed=0 norm=none", "depth=2 width=4 seed=1 norm=batch"),
                *("depth=3 width=8 seed=0 norm=none", "depth=3 width=8 seed=1 norm=batch"),
            ],
        ),
        (["norm=glob(?a*)", "optimizer.lr=1,2", "sweep.zip=[norm,optimizer.lr]"], [
            "norm=batch optimizer.lr=1", "norm=layer optimizer.lr=2",
        ]),
        (["depth=2,3,2", "seed=1"], ["depth=2 seed=1", "depth=3 seed=1"]),
    ],
    ids=str,
)  # fmt: skip
def test_choices_of_keys_in_a_zip_are_walked_together(words, cells):
    with composer() as compose:
        assert words_of(ask(compose, words)) == cells


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["depth=2,3", "width=4,8,16", "sweep.zip=[depth,width]"], ["sweep.zip=[depth,width]", "depth 2, width 3"]),
        (["depth=2,3", "sweep.zip=[depth,wdith]"], ["'wdith' has no choices here"]),
        (["depth=2,3", "width=4,8", "sweep.zip=[depth,wdith]"], ["'wdith' has no", "did you mean 'width'?"]),
        (["depth=2,3", "sweep.zip=depth"], ["sweep.zip=depth: must list keys", "sweep.zip=[activation,init]"]),
        (["depth=2,3", "sweep.zip=[depth]"], ["sweep.zip=[depth]: must list keys"]),
        (["depth=2,3", "seed=0,1", "sweep.zip=[[depth,seed],[seed,depth]]"], ["stands there twice"]),
        (["depth=2,3", "sweep.where=depth >"], ["sweep.where=depth >: cannot be read"]),
        (["depth=2,3", "sweep.were=depth"], ["sweep.were=depth: unknown key", "did you mean 'sweep.where'?"]),
    ],
    ids=str,
)
def test_a_zip_or_condition_that_means_nothing_is_refused(words, told):
    with composer() as compose, pytest.raises(ConfigError) as caught:
        ask(compose, words)
    assert [part for part in told if part not in str(caught.value)] == []


def test_cells_that_a_condition_drops_are_never_checked():
    words = ["norm=none,batch", "task.batch_size=1,8", "depth=2,60", "activation=relu,rleu", "width=8"]
    wanted = ["sweep.where=not (norm=='batch' and task.batch_size==1)", "sweep.where=depth<50 and activation!='rleu'"]
    plan, configs, _, cells = typed(*words, *wanted)
    assert [(run.labels["norm"], run.labels["task.batch_size"]) for run in plan.runs] == [
        ("none", 1), ("none", 8), ("batch", 8),
    ]  # fmt: skip
    assert ({run.labels["depth"] for run in plan.runs}, cells) == ({2}, 3)
    with composer() as compose:
        quoted = [f'{word.partition("=")[0]}="{word.partition("=")[2]}"' for word in wanted]  # as Hydra would have it
        assert words_of(ask(compose, [*words, *quoted])) == words_of(ask(compose, words))
        assert ask(compose, [*words, *quoted]).name == plan.name != ask(compose, words).name
    assert all(check([("", config)], preflight) == [] for config in configs.values())


def test_a_condition_on_a_cell_that_cannot_be_composed_looks_at_what_was_typed():
    with pytest.raises(Refused) as caught:  # of rleu's depth nothing was typed: it is told, not dropped
        typed("activation=relu,rleu", "sweep.where=depth==3")
    assert caught.value.faults[0].cells == ["activation=rleu"]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("depht==2", "'depht' is a name in no cell; allowed: .*; did you mean 'depth'"),
        ("norm > 3", "a word ..none.. cannot be compared with a number"),
        ("depth > 50", "sweep.where=depth > 50: leaves none of 2 cells"),
    ],
)
def test_a_condition_that_goes_wrong_in_a_cell_is_told_once(where, told):
    with pytest.raises(ConfigError, match=told) as caught:
        typed("depth=2,3", f"sweep.where={where}")
    assert len(caught.value.lines) == 1


SEVERAL = """
name: mine
overrides: [width=8, optimizer.lr=0.5]
where: width < 100
grid: {depth: '2,3'}
grids:
  - overrides: [activation=tanh, optimizer.lr=0.1]
    grid: {depth: '3,4', seed: [0, 1]}
    where: not (depth == 4 and seed == 1)
  - zip: {depth: [2, 5], norm: [none, batch]}
"""


def test_grids_of_a_sweep_follow_each_other_and_equal_cells_are_one(named):
    plan, _, folder, cells = make_plan(named(SEVERAL), ["+sweep=mine"], "")
    keys = ("depth", "activation", "seed", "norm", "optimizer.lr", "width")
    assert [tuple(run.labels[key] for key in keys) for run in plan.runs] == [
        (2, "relu", 0, "none", 0.5, 8),
        (3, "relu", 0, "none", 0.5, 8),
        (3, "tanh", 0, "none", 0.1, 8),
        (3, "tanh", 1, "none", 0.1, 8),
        (4, "tanh", 0, "none", 0.1, 8),
        (5, "relu", 0, "batch", 0.5, 8),
    ]
    assert (folder.name, cells) == ("mine", 7)


def test_words_on_the_command_line_hold_for_every_grid_of_a_sweep(named):
    plan, *_ = make_plan(named(SEVERAL), ["+sweep=mine", "depth=7", "sweep.where=activation=='tanh'"], "")
    assert [(run.labels["depth"], run.labels["seed"]) for run in plan.runs] == [(7, 0), (7, 1)]


def test_named_sweeps_follow_each_other(named, tmp_path):
    compose = named("name: mine\ngrid: {depth: '2,3'}\noverrides: [width=8]\n")
    other = "name: other\ngrid: {depth: '3,9'}\noverrides: [width=8]\nwhere: depth > 3\n"
    (tmp_path / "conf" / "sweep" / "other.yaml").write_text(other)
    plan, _, folder, _ = make_plan(compose, ["+sweep=mine,other"], "")
    assert ([run.labels["depth"] for run in plan.runs], folder.name) == ([2, 3, 9], "mine+other")
    assert make_plan(compose, ["+sweep=mine,other", "width=4"], "")[0].name.startswith("mine+other-")


# --- what is refused --------------------------------------------------------------------------------------------


def test_each_fault_is_one_line_with_all_its_cells():
    faults = faults_of("activation=relu,rleu,tanhh", "seed=0,1,-1")
    assert [line.partition(": ")[0] for line in faults] == ["seed=-1", "activation=rleu", "activation=tanhh"]
    by_key = {line.partition(":")[0]: cells for line, cells in faults.items()}
    assert by_key["seed=-1"] == ["activation=relu seed=-1"]
    assert by_key["activation=rleu"] == [f"activation=rleu seed={seed}" for seed in (0, 1, -1)]


def test_a_typo_in_a_key_is_a_fault_of_every_cell():
    faults = faults_of("dpeth=2,3", "seed=0,1")
    assert sorted(len(cells) for cells in faults.values()) == [2, 2]
    assert all("did you mean 'depth'?" in line for line in faults)


def test_cells_that_differ_only_in_their_seed_are_built_once_and_all_told():
    with composer() as compose:
        plan, configs, *_ = make_plan(compose, ["skip=residual", "depth=2", "width=[8,4],8", "seed=range(3)"], "")
    built = []

    def count(config):
        built.append(config)
        return preflight(config)

    (fault,) = check(((" ".join(run.overrides), configs[run.run_id]) for run in plan.runs), count)
    assert fault.cells == [f"skip=residual depth=2 width=[8,4] seed={seed}" for seed in range(3)]
    assert "from 8 to 4" in fault.line
    assert len(built) == 2


def test_a_plan_of_a_thousand_cells_is_whole(tmp_path):
    words = ["seed=range(500)", "depth=1,2", f"paths.runs={tmp_path / 'runs'}", f"paths.sweeps={tmp_path / 'sweeps'}"]
    with composer() as compose:
        prepared = launch.prepare(compose, words, "again")
    assert len(prepared.plan.runs) == len(prepared.missing) == 1000
    assert len({run.run_id for run in prepared.plan.runs}) == 1000
    assert {(run.config["seed"], run.config["depth"]) for run in prepared.plan.runs} == {
        (seed, depth) for seed in range(500) for depth in (1, 2)
    }


def test_nothing_is_written_for_a_plan_that_is_refused(tmp_path):
    words = ["depth=2,3", "width=[8,4]", f"paths.runs={tmp_path / 'runs'}", f"paths.sweeps={tmp_path / 'sweeps'}"]
    with composer() as compose, pytest.raises(Refused) as caught:
        launch.prepare(compose, words, "again")
    assert str(caught.value) == "1 of 2 cells cannot run"
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "key": ("name: mine\ngird: {depth: '2,3'}\n", "gird", "did you mean 'grid'?"),
    "unequal zip": ("zip:\n  norm: [none, batch]\n  init: [he_normal]\n", "norm 2, init 1", "differ in length"),
    "grid of wrong type": ("grid: [depth]\n", "grid", "should be a valid dictionary"),
    "zip of wrong type": ("zip: {depth: 3}\n", "zip.depth", "should be a valid list"),
    "key of a further grid": ("grids: [{gird: {depth: '2,3'}}]\n", "grids", "did you mean 'grid'?"),
    "unequal zip of a further grid": ("grids: [{zip: {norm: [none], init: []}}]\n", "norm 1, init 0", "differ"),
    "overrides of wrong type": ("overrides: width=8\n", "overrides", "should be a valid list"),
}


@pytest.mark.parametrize(("text", "where", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_sweep_file_is_told_with_the_file(named, text, where, told):
    with pytest.raises(ConfigError) as caught:
        make_plan(named(text), ["+sweep=mine"], "")
    (line,) = caught.value.lines
    assert "sweep/mine.yaml" in line
    assert where in line
    assert told in line


@pytest.mark.parametrize("text", ["grid: {dpeth: '2,3'}\n", "zip: {dpeth: [2, 3]}\n", "overrides: [dpeth=2]\n"])
def test_a_misspelt_choice_inside_a_sweep_file_is_told_like_a_typed_one(named, text):
    with pytest.raises(Refused) as caught:
        make_plan(named(text), ["+sweep=mine"], "")
    assert all("unknown key" in f.line and "did you mean 'depth'?" in f.line for f in caught.value.faults)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["+sweep=quikstart"], ["+sweep=quikstart: unknown value", "did you mean 'quickstart'?"]),
        (["depth=2", "sweep.nmae=x"], ["sweep.nmae=x: unknown key", "did you mean 'sweep.name'?"]),
        (["depth=2", "sweep.name=a/b"], ["sweep.name=a/b", "plain folder name"]),
        (["depth=2", "sweep.name='..'"], ["sweep.name=..", "plain folder name"]),
        (["depth=2,", "seed=1"], ["depth=2,", "cannot be read"]),
        (["activation=glob(zz*)"], ["activation=glob(zz*): matches nothing", "allowed: celu"]),
    ],
    ids=str,
)
def test_words_that_mean_no_sweep_are_refused(words, told):
    with composer() as compose, pytest.raises(ConfigError) as caught:
        ask(compose, words)
    assert [part for part in told if part not in str(caught.value)] == []
