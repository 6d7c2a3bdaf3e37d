"""What a paper file may hold, and which runs it stands for; every file of `conf/paper` is a paper that can be run."""

import pytest
import yaml

from gradflow.errors import ConfigError
from gradflow.papers.paper import PROVENANCE, Paper, load, names
from gradflow.papers.runs import ask_paper
from gradflow.runs.cells import Cells
from gradflow.runs.preflight import Preflight
from gradflow.sweeps.plan import check

PAPERS = names()


def test_cells_are_those_of_the_axes_that_exist(paper):
    assert paper.cells() == [
        *(("sigmoid", "2"), ("sigmoid", "10"), ("sigmoid", "30"), ("relu", "2"), ("relu", "10")),
        *(("maxmin", "2"), ("maxmin", "10"), ("maxmin", "30")),
    ]
    assert paper.wanted("full") == paper.cells()[:5]  # what gradflow has not is shown and never run
    assert paper.wanted("small") == [("sigmoid", "2"), ("sigmoid", "10"), ("relu", "2"), ("relu", "10")]
    assert paper.look(("relu", "10")) == {"net": "relu", "depth": 10}


def test_of_the_same_key_the_last_override_counts(paper):
    own = ["task=digits", "width=8", "hardware.device=cpu", "activation=sigmoid", "init=glorot_normal"]
    assert sorted(paper.overrides_of(("sigmoid", "2"), "full")) == sorted([*own, "depth=2", "trainer.max_steps=300"])
    adjusted = [*own, "depth=10", "trainer.max_steps=300", "optimizer.lr=0.02"]
    assert sorted(paper.overrides_of(("sigmoid", "10"), "full")) == sorted(adjusted)
    small = [*own, "depth=10", "trainer.max_steps=100", "optimizer.lr=0.1"]
    assert sorted(paper.overrides_of(("sigmoid", "10"), "small")) == sorted(small)


def test_printed_figures_are_found_by_cell(paper):
    printed = paper.printed("error")
    assert {key: number for key, (number, _) in printed.items()} == {
        ("sigmoid", "2"): 11.5,
        ("sigmoid", "10"): 90.0,
        ("maxmin", "2"): 2.5,
        ("relu", "2"): 7.0,
    }
    assert printed["relu", "2"][1].provenance == "M"
    assert paper.printed("learned") == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tittle": "x"}, "tittle=x: unknown key; allowed: about, adjust,"),
        ({"year": "2001"}, "year=2001: should be a valid integer"),
        ({"full": {"seeds": 0}}, "full.seeds=0: should be greater than or equal to 1"),
        ({"where": "dept > 2"}, "where=dept > 2: 'dept' is no axis; allowed: depth, net; did you mean 'depth'?"),
        ({"where": "depth >"}, "where=depth >: cannot be read"),
        ({"axes": {"net": {"a b": []}}}, "'a b' must be a number or a plain word"),
        ({"small": {"seeds": 1, "where": "depth > 99"}}, "small.where=depth > 99: leaves no cell"),
        (
            {"published": [{"measure": "eror", "provenance": "V", "figures": {"relu": {2: 1}}}]},
            "measure 'eror' is unknown; allowed: error, learned; did you mean 'error'?",
        ),
        (
            {"published": [{"measure": "error", "provenance": "V", "figures": {"relu": {7: 1}}}]},
            "(relu,7) is no cell; the axes are net, depth",
        ),
        (
            {"published": [{"measure": "error", "provenance": "V", "figures": {"relu": {30: 1}}}]},
            "(relu,30) is left out by where=",
        ),
        (
            {"published": [{"measure": "error", "provenance": "V", "figures": {"relu": {2: "7 %"}}}]},
            "published.error(relu,2)=7 %: must be a number",
        ),
        ({"published": [{"measure": "error", "provenance": "X", "figures": {}}]}, "allowed: C, D, M, V, V2"),
        ({"claims": [{"claim": "error(relu,2)", "says": "a", "source": "b"}]}, "'error(relu, 2)' compares nothing"),
        ({"claims": [{"claim": "error(relu) > 1", "says": "a", "source": "b"}]}, "(relu) is no cell"),
        ({"figure": {"x": "dept"}}, "figure.x=dept: is no axis; allowed: depth, net"),
        ({"measures": {"error": {"label": "e"}}}, "needs either a figure or a quantity"),
        ({"measures": {"error": {"label": "e", "figure": "a", "at": 1, "last": 2}}}, "exclude each other"),
        ({"measures": {"error": {"label": "e", "figure": "a", "convert": "y + 1"}}}, "'y' has no meaning here"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_line(content, tmp_path, change, told):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "mine.yaml").write_text(yaml.safe_dump(content | change, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        load("mine", str(tmp_path))
    assert any(told in line and line.startswith("paper/mine.yaml") for line in caught.value.lines), caught.value.lines


def test_an_unknown_paper_names_the_nearest(content, tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "birch2001.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert load("birch2001", str(tmp_path)) == Paper.model_validate(content)
    with pytest.raises(ConfigError, match=r"paper brich2001: unknown; .*did you mean 'birch2001'\?"):
        load("brich2001", str(tmp_path))
    with pytest.raises(ConfigError, match="unknown"):
        load("../task/mnist")
    (tmp_path / "paper" / "broken.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(ConfigError, match=r"paper/broken.yaml, line 2: not YAML"):
        load("broken", str(tmp_path))


def shallow(overrides):
    """What can be built can be built deeper; ten thousand blocks take minutes."""
    deep = [word for word in overrides if word.startswith("depth=") and int(word.removeprefix("depth=")) > 24]
    return [*(word for word in overrides if word not in deep), *(["depth=24"] if deep else [])]


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_can_be_run_at_both_scales(compose, name):
    paper = load(name)
    assert paper.claims
    assert paper.protocol
    assert paper.small.why
    assert paper.small.minutes is not None
    assert {block.provenance for block in paper.published} <= set(PROVENANCE)
    in_small = set(paper.wanted("small"))
    judged = [all(key in in_small for _, key in claimed.cells()) for claimed in paper.claimed()]
    assert any(judged), "no claim can be judged at the small scale"
    cells, preflight = Cells(compose), Preflight()
    for scale in ("full", "small"):
        asked, ran = ask_paper(compose, name, paper, scale, ["hardware=cpu"], 1)
        configs = [(" ".join(cell.overrides), cells.config(shallow(cell.overrides))) for cell in asked.cells]
        faults = check(configs, preflight.check, preflight.structure)
        assert [fault.line for fault in faults] == []
        assert scale == "small" or not any(each.differs for each in ran.cells)
