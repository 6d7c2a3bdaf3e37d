"""Every file of `conf/` stands for something that can be built, and every experiment runs."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from gradflow.resources import conf_dir
from gradflow.runs.build import prepare_data
from gradflow.runs.compose import HIDDEN_GROUPS
from gradflow.runs.config import FACTORS
from gradflow.runs.execute import execute
from gradflow.runs.identity import labels
from gradflow.runs.preflight import Preflight, preflight
from gradflow.runs.stop import Stop
from gradflow.sweeps.plan import check, make_plan
from gradflow.tasks import torchvision_data
from gradflow.tasks.resident import Split


def files(group: str) -> list[str]:
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


GROUPS = sorted(f.name for f in conf_dir().iterdir() if f.is_dir() and f.name not in HIDDEN_GROUPS)
# What a file needs beside it: half of a method, or a layout other than the default model's.
COMPANIONS = {
    ("init", "fixup"): ["skip=fixup_scalar"],
    ("init", "zero_last"): ["skip=residual"],
    ("skip", "deepnorm"): ["norm=layer"],
    ("norm", "instance"): ["model=convnet"],
    ("remedy", "omega"): ["cell=rnn"],
    ("remedy", "gradient_flossing"): ["cell=rnn"],
    ("model", "recurrent_state"): ["width=4"],
}
SEQUENCES = ["task=temporal_order", "model=recurrent"]  # for groups, and remedies, of the time axis
RECURRENT = (
    "copying",
    "mackey_glass",
    "narma10",
    "multiplication",
    "two_sequence",
    "memory_capacity",
    "delayed_xor",
)  # tasks for such models alone
OF_TIME = ("tbptt", "horizon", "omega", "recurrent_l1", "recurrent_l2", "spectral_clipping", "gradient_flossing")
VALUES = [(group, value) for group in GROUPS for value in files(group)]


def test_the_groups_of_the_folder_are_those_that_hydra_knows(compose):
    assert compose.groups() == {group: files(group) for group in GROUPS}
    assert set(FACTORS) < set(GROUPS)


@pytest.mark.parametrize(("group", "value"), VALUES, ids=["=".join(pair) for pair in VALUES])
def test_every_file_composes_resolves_and_can_be_built(compose, group, value):
    config = compose.config([*companions(group, value), f"{group}={value}"])
    assert without_a_gpu(preflight(config)) == []
    if group in FACTORS:  # the file, its definition and its row in a table are one word
        assert getattr(config, group)["_target_"].rpartition(".")[2] == value
        typed = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{value}.yaml"))
        assert set(getattr(config, group)) == set(typed.get(group, typed))
    if group == "remedy" and value != "none":
        assert config.remedy[value]["_target_"] == f"gradflow.training.remedies.{value}"


@pytest.mark.parametrize("name", files("sweep"))
def test_every_sweep_plans_and_all_of_its_cells_can_be_built(compose, name):
    plan, configs, *_ = make_plan(compose, [f"+sweep={name}"], "")
    assert plan.name == name
    shallow = [c.model_copy(update={"depth": min(c.depth, 6)}) for c in configs.values()]  # deeper blocks are alike
    together = Preflight()
    faults = check((("", config) for config in shallow), together.check, together.structure)
    assert without_a_gpu([fault.line for fault in faults]) == []
    assert len(plan.runs) == len(configs)


def companions(group: str, value: str) -> list[str]:
    chosen = COMPANIONS.get((group, value), [])
    if group in ("cell", "recurrent_init") or value in OF_TIME:
        return [*SEQUENCES, *chosen]
    if value in ("recurrent", "recurrent_state", "esn", "tcn"):
        return [*SEQUENCES[:1], *chosen]
    recurrent = group == "task" and value in RECURRENT
    return [*chosen, "model=recurrent"] if recurrent else chosen


def without_a_gpu(faults: list[str]) -> list[str]:
    """What is wrong but for a GPU that this machine has not."""
    return [line for line in faults if torch.cuda.is_available() or not line.startswith("hardware.device=cuda")]


@pytest.fixture
def _scored_on_few(monkeypatch):
    """Real images, and 256 of each split to be scored: all 15,000 take a deep network on a CPU a minute."""
    whole = torchvision_data.read

    def read(*arguments):
        splits = whole(*arguments)
        return splits | {name: Split(splits[name].x[:256], splits[name].y[:256]) for name in ("val", "test")}

    monkeypatch.setattr(torchvision_data, "read", read)


@pytest.mark.usefixtures("_scored_on_few")
@pytest.mark.parametrize("name", files("experiment"))
def test_every_experiment_runs_for_a_step(compose, data_dir, tmp_path, name):
    typed = [f"experiment={name}", "trainer.max_steps=1", "logger.mode=disabled"]
    whole = compose.config(typed[:1])
    unwarmed = {"remedy.warmup.steps": 0} if "warmup" in whole.remedy else {}  # a step is too short a run to warm up
    typed += [f"{key}={value}" for key, value in unwarmed.items()]
    config = compose.config([*typed, f"paths.data={data_dir}", f"paths.runs={tmp_path}"])
    assert prepare_data([config]) == []
    outcome = execute(config, typed, Stop())
    assert outcome.state == "completed", outcome.error
    result = json.loads((tmp_path / outcome.run_id / "result.json").read_text())
    assert result["labels"] == labels(whole) | {"trainer.max_steps": 1} | unwarmed
    assert result["steps"] == 1
    assert (result["gradient"] or {"steps": 1})["steps"] == 1
    assert bool(result["gradient"]) != bool(result["no_gradient"])
    assert {figure.partition("/")[0] for figure in result["metrics"]} == {"train", "val", "test"}
