"""From a paper to a sweep's runs, and back."""

import pytest

from gradflow.errors import ConfigError
from gradflow.papers.runs import FILE, PaperRuns, Ran, ask_paper, differing, read_runs, sweep_name, write_runs
from gradflow.runs.identity import run_id


def test_every_wanted_cell_has_a_run_per_seed(compose, paper):
    asked, ran = ask_paper(compose, "birch2001", paper, "full", [])
    assert asked.name == sweep_name("birch2001", "full") == "paper-birch2001-full"
    assert len(asked.cells) == 5 * 3
    assert [each.key for each in ran.cells] == paper.wanted("full")
    configs = [compose.config(cell.overrides) for cell in asked.cells]
    assert [run_id(config) for config in configs] == [i for each in ran.cells for i in each.runs]
    assert [config.seed for config in configs] == [0, 1, 2] * 5
    assert not any(each.differs for each in ran.cells)


def test_what_a_reduced_scale_has_otherwise_is_found_by_comparing_configs(compose, paper):
    asked, ran = ask_paper(compose, "birch2001", paper, "small", [])
    assert len(asked.cells) == 4 * 2
    differs = {each.key: each.differs for each in ran.cells}
    assert differs["relu", "2"] == {"trainer.max_steps": (100, 300), "optimizer.lr": (0.1, 0.01)}
    assert differs["relu", "10"] == {"trainer.max_steps": (100, 300), "optimizer.lr": (0.1, 0.02)}


def test_a_persons_own_words_come_last_and_are_a_deviation_unless_they_change_nothing(compose, paper):
    typed = ["trainer.max_steps=50", "hardware.threads=2", "launcher.jobs=1", "paths.runs=elsewhere"]
    asked, ran = ask_paper(compose, "birch2001", paper, "full", typed, seeds=1)
    assert {config.paths.runs for config in (compose.config(cell.overrides) for cell in asked.cells)} == {"elsewhere"}
    assert asked.launcher == ["launcher.jobs=1"]
    assert ran.seeds == 1
    assert all(each.differs == {"trainer.max_steps": (50, 300)} for each in ran.cells)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["seed=3"], "write --seeds N for another number"),
        (["width=4,8"], "one value each; the grid is the paper's own"),
        (["widht=4"], "did you mean 'width'"),
    ],
)
def test_words_that_make_no_sense_are_refused(compose, paper, typed, told):
    with pytest.raises(ConfigError, match=told):
        ask_paper(compose, "birch2001", paper, "full", typed)


def test_another_grid_is_another_plan(compose, paper):
    words = [ask_paper(compose, "a", each, "full", [])[0].words for each in (paper, paper)]
    assert words[0] == words[1]
    other = paper.model_copy(update={"overrides": [*paper.overrides, "width=9"]})
    assert ask_paper(compose, "a", other, "full", [])[0].words != words[0]


def test_the_folder_keeps_which_runs_are_of_which_cell(tmp_path):
    ran = PaperRuns("a", "small", 2, [Ran(("relu", "2"), ["r0", "r1"], {"optimizer.lr": (0.1, None)})])
    assert read_runs(tmp_path) is None
    write_runs(tmp_path / "s", ran)
    assert read_runs(tmp_path / "s") == ran
    assert ran.by_cell == {("relu", "2"): ["r0", "r1"]}
    (tmp_path / "s" / FILE).write_text('{"format": 1, "paper": "a"}')
    with pytest.raises(ConfigError, match="run it again"):
        read_runs(tmp_path / "s")


def test_hardware_and_seeds_are_no_deviation():
    here = {"seed": 1, "hardware": "cpu 32", "hardware.device": "cpu", "hardware.precision": "32", "depth": 2}
    assert differing(here, here | {"seed": 0, "hardware": "cuda 32", "hardware.device": "cuda"}) == {}
    assert differing(here, here | {"hardware.precision": "64", "new": 1}) == {
        "hardware.precision": ("32", "64"),
        "new": (None, 1),
    }
