"""A person's own config folder: read like gradflow's own, and refused like a typed word where it is wrong."""

import json
from pathlib import Path

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.compose import composer
from gradflow.runs.execute import execute
from gradflow.runs.stop import Stop

TOP = "allowed: activation, alpha_dropout,"


@pytest.fixture
def write(tmp_path: Path):
    """Writes files of a person's config folder and returns it."""

    def write(**files: str) -> str:
        for name, text in files.items():
            file = tmp_path / "own" / f"{name.replace('__', '/')}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return str(tmp_path / "own")

    return write


FILES = [
    ("# @package _global_\ndpeth: 3\n", ["dpeth=3: unknown key", TOP, "did you mean 'depth'?"]),
    (
        "# @package _global_\ntrainer:\n  max_stesp: 3\n",
        ["trainer.max_stesp=3: unknown key", "did you mean 'max_steps'?"],
    ),
    (
        "# @package _global_\ndefaults:\n  - override /activation: rleu\n",
        ["'activation/rleu'", "allowed: celu, crelu", "did you mean 'relu'?"],
    ),
    (
        "# @package _global_\ndefaults:\n  - override /activaton: relu\n",
        ["activaton", "allowed: activation, ", "did you mean 'activation'?"],
    ),
    (
        "# @package _global_\ndefaults:\n  - /activaton: relu\n",
        ["activaton", "allowed: activation, ", "did you mean 'activation'?"],
    ),
    ("# @package _global_\ndepth: [1\n", ["experiment/mine.yaml", "line 3"]),
    ("depth: 3\n", ["experiment={'depth': 3}: unknown key"]),  # without its @package line
]


@pytest.mark.parametrize(
    ("text", "told"), FILES, ids=["key", "nested", "value", "override", "group", "syntax", "package"]
)
def test_a_mistake_in_an_experiment_file_is_refused_like_a_typed_one(write, text, told):
    with composer(write(experiment__mine=text)) as compose, pytest.raises(ConfigError) as caught:
        compose.config(["experiment=mine"])
    (line,) = caught.value.lines
    assert [part for part in told if part not in line] == []


def test_own_files_are_listed_beside_gradflows_and_may_replace_them(write):
    folder = write(activation__glu="_target_: torch.nn.GLU\n", optimizer__sgd="_target_: a.b\nlr: 5\n")
    with composer() as compose:
        before = compose.groups()["activation"]
    with composer(folder) as compose:
        assert compose.groups()["activation"] == sorted([*before, "glu"])
        config = compose.config(["activation=glu"])
        assert config.activation == {"_target_": "torch.nn.GLU"}
        assert config.optimizer == {"_target_": "a.b", "lr": 5}
    with composer() as compose:
        assert compose.groups()["activation"] == before


@pytest.mark.parametrize("name", ["plain", "with space", "a,b", "(1)", "k=v", "it's", 'a"b', "größe", "[x]", "#1"])
def test_an_own_folder_may_have_any_name(tmp_path, name):
    (tmp_path / name / "activation").mkdir(parents=True)
    (tmp_path / name / "activation" / "gelu.yaml").write_text("_target_: torch.nn.GELU\n")
    with composer(str(tmp_path / name)) as compose:
        assert compose.config(["activation=gelu"]).activation == {"_target_": "torch.nn.GELU"}


def test_an_own_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"), composer(str(tmp_path / "nowhere")):
        pass


def test_an_activation_of_torch_is_one_yaml_file_and_trains(own, configure, tmp_path):
    config = configure("activation=gelu", config_dir=own / "conf")
    outcome = execute(config, ["activation=gelu"], Stop())
    assert outcome.state == "completed", outcome.error
    result = json.loads((tmp_path / "runs" / outcome.run_id / "result.json").read_text())
    assert result["labels"]["activation"] == "torch.nn.GELU"
    assert result["labels"]["recipe"] == "torch.nn.GELU · he_normal"
    assert result["steps"] == 20
    losses = result["metrics"]["train/loss"]
    assert 0 < losses < 3
