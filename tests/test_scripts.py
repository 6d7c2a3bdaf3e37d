"""The scripts, as a person runs them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gradflow.resources import conf_dir
from gradflow.sweeps.grid import ask

ROOT = Path(__file__).parents[1]
LETTERS = {"healthy": "", "stagnant": "s", "vanishing": "v", "exploding": "x", "dead": "d", "diverged": "!"}
LETTERS |= {"saturated": "b", "rank_collapse": "r"}
QUICK = ("task=digits", "depth=2", "width=8", "init=he_normal", "trainer.max_steps=5", "hardware=cpu")
NORMS, SHOWN = ("batch", "none"), ("sigmoid", "maxout")


def test_the_study_has_every_activation_and_a_skip_where_one_can_follow_a_sum(compose):
    """21 activations; with norm none and batch, and skip none and residual where the activation can follow a sum."""
    asked = ask(compose, ["+sweep=study", *QUICK, f"norm={','.join(NORMS)}"])
    cells = [cell.overrides for cell in asked.cells]
    found = {(words["activation"], words["norm"], words["skip"]) for words in map(by_key, cells)}
    every = {file.stem for file in (conf_dir() / "activation").glob("*.yaml")}
    follow = every - {"crelu", "maxout", "swiglu"}
    assert (len(cells), len(every)) == (78, 21)
    assert found == {
        (activation, norm, skip)
        for norm in NORMS
        for skip, those in (("none", every), ("residual", follow))
        for activation in those
    }


def by_key(cell: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in cell)


@pytest.fixture
def fewer(tmp_path) -> Path:
    """A folder whose 'study' is gradflow's own with two of its activations."""
    content = OmegaConf.to_container(OmegaConf.load(conf_dir() / "sweep" / "study.yaml"))
    walked = zip(*content["zip"].values(), strict=True)
    columns = [column for column in walked if column[0] in SHOWN]
    content["zip"] = dict(zip(content["zip"], map(list, zip(*columns, strict=True)), strict=True))
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    OmegaConf.save(content, tmp_path / "conf" / "sweep" / "study.yaml")
    return tmp_path / "conf"


def test_the_study_prints_one_line_per_activation_and_one_column_per_cell(tmp_path, fewer, monkeypatch, capsys):
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("GRADFLOW_SWEEPS_DIR", str(tmp_path / "sweeps"))
    words = [*QUICK, f"norm={','.join(NORMS)}", "logger.mode=disabled", "instruments.every_n_steps=1"]
    monkeypatch.setattr("sys.argv", ["scripts/study.py", "--config-dir", str(fewer), "-j", "1", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "study.py"), run_name="__main__")
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    results = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*/result.json")]
    shown = {}
    for result in results:
        labels, accuracy = result["labels"], result["metrics"].get("test/accuracy")
        figure = "" if accuracy is None else f"{100 * accuracy:.0f}"
        shown[labels["activation"], labels["norm"], labels["skip"]] = figure + LETTERS[result["verdict"]]
    activations = {activation for activation, *_ in shown}
    assert (len(shown), activations) == (6, set(SHOWN))
    columns = [(norm, skip) for norm in NORMS for skip in ("none", "residual")]
    table = said.out.rpartition("depth 2")[2]
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    for activation in activations:
        assert lines[activation] == [shown.get((activation, *column), "·") for column in columns]
    assert lines["maxout"].count("·") == 2, "maxout cannot follow a sum"
    assert "v vanishing" in table
