"""What can be asked of `gradflow paper`, with real runs of a small paper."""

import json

import pytest
import yaml

from gradflow.cli import main
from gradflow.papers.paper import names

PAPER = {
    **{"title": "On depth", "authors": "Ash", "year": 2001, "venue": "Woods", "shows": "Table 1", "about": "Depth"},
    "protocol": ["SGD for 40 updates."],
    "overrides": [
        *("task=digits", "width=8", "trainer.max_steps=40", "trainer.val_every_n_steps=40", "instruments=none"),
        *("hardware.device=cpu", "logger.mode=disabled", "activation=sigmoid"),
    ],
    "axes": {"depth": {1: ["depth=1"], 12: ["depth=12"]}},
    "measures": {
        "error": {"figure": "test/accuracy", "convert": "100 * (1 - x)", "label": "test error"},
        "loss": {"figure": "train/loss", "label": "training loss"},
    },
    "published": [{"measure": "error", "provenance": "V", "figures": {1: 60, 12: 90}}],
    "claims": [{"claim": "error(12) > error(1)", "says": "Depth hurts.", "source": "Table 1"}],
    "full": {"seeds": 2},
    "small": {"seeds": 2, "minutes": 0.1, "overrides": ["trainer.max_steps=20"], "why": "Half of it."},
    "figure": {"x": "depth"},
}


@pytest.fixture
def paper(capsys, tmp_path, monkeypatch):
    """Types `gradflow paper …`: exit code, what was said, and what was said of mistakes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "paper").mkdir(parents=True)
    (tmp_path / "own" / "paper" / "ash2001.yaml").write_text(yaml.safe_dump(PAPER, sort_keys=False))

    def type_(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["paper", *map(str, words), "--config-dir", "own"])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return int(caught.value.code or 0), said.out, said.err

    return type_


def test_all_papers_are_listed_one_s_own_among_them(paper):
    code, said, _ = paper("list")
    assert code == 0
    assert all(name in said for name in (*names(), "ash2001"))


def test_a_paper_is_shown(paper):
    code, said, _ = paper("show", "ash2001")
    assert code == 0
    for words in ("On depth", "SGD for 40 updates.", "Depth hurts.", "full: 2 cells × 2 seeds = 4 runs", "Half of it."):
        assert words in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "ahs2001"], "paper ahs2001: unknown; allowed:"),
        (["show"], "paper show: which one? allowed:"),
        (["list", "ash2001"], "takes no name"),
        (["show", "ash2001", "depth=2"], "overrides have a meaning for 'run' only"),
        (["table", "ash2001", "--seeds", "3"], "--seeds: has a meaning for 'gradflow paper run' only"),
        (["run", "ash2001", "--format", "md"], "--format: has a meaning for 'gradflow paper table' only"),
        (["table", "ash2001", "depth=2"], "only paths.sweeps=DIR has a meaning here"),
        (["table", "ash2001", "--out", "a.docx"], "no format is known by .docx"),
        (["table", "ash2001", "--out", "a.md", "--format", "csv"], "says md, but --format csv"),
        (["table", "ash2001", "--out", "no/a.md"], "no folder no"),
        (["run", "ash2001", "seed=1"], "write --seeds N"),
        (["run", "ash2001", "depth=2,3"], "one value each"),
        (["run", "ash2001", "--where", "dept > 2"], "'dept' is no axis; allowed: depth; did you mean 'depth'?"),
        (["run", "ash2001", "--where", "depth > 99"], "leaves none of 2 cells"),
        (["run", "ash2001", "activation=sigmiod"], "did you mean 'sigmoid'?"),
    ],
)
def test_a_mistake_is_told_in_one_line(paper, words, told):
    code, _, errors = paper(*words)
    assert code == 2
    assert errors.startswith("gradflow: ")
    assert told in errors, errors
    assert len(errors.splitlines()) == 1


def test_a_paper_is_run_and_its_table_printed(paper, tmp_path):
    code, said, _ = paper("table", "ash2001")
    assert code == 0
    assert "training loss: no figure was published of it, and nothing has been run" in said
    assert "nothing was run yet: gradflow paper run ash2001 --scale small" in said
    code, said, _ = paper("run", "ash2001", "-j", 1, "--scale", "small", "--where", "depth == 1")
    assert code == 0
    assert "4 runs, 0 done before, 2 to train, 2 not asked for" in said
    assert paper("run", "ash2001", "--dry-run")[0] == 0
    assert not (tmp_path / "sweeps" / "paper-ash2001-full").exists()
    assert "not run" in said
    code, said, _ = paper("run", "ash2001", "-j", 1, "--scale", "small")
    assert code == 0
    assert "4 runs, 2 done before, 2 to train" in said
    assert "trainer.max_steps: 20 instead of 40" in said
    ran = json.loads((tmp_path / "sweeps" / "paper-ash2001-small" / "paper.json").read_text())
    assert [each["key"] for each in ran["cells"]] == [["1"], ["12"]]
    assert all((tmp_path / "runs" / i / "result.json").exists() for each in ran["cells"] for i in each["runs"])
    assert paper("run", "ash2001", "--plan")[0] == 0  # a full scale that is only planned hides no result
    code, table, _ = paper("table", "ash2001")
    assert code == 0
    assert said.endswith(table + said[said.rindex("runs:  ") :])  # `run` ends with it
    code, said, _ = paper("table", "ash2001", "--out", "page.md")
    assert (code, said.split()) == (0, ["page.md", "page.png"])
    assert "![Ash 2001, Table 1: published beside ours](page.png)" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "page.png").stat().st_size > 5000
    code, said, _ = paper("run", "ash2001", "--dry-run")
    assert code == 0
    assert "4 runs, 0 done before, 4 to train" in said  # the full scale is another sweep
