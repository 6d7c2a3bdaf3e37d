"""What the agent of a W&B sweep gets of its trials: `gradflow train` as the agent starts it, with the real client
against a stand-in of W&B's server on the loopback (`wandb_stand_in.py`)."""

import pytest
from wandb_stand_in import StandIn

from gradflow.cli import main
from gradflow.runs.record import read
from gradflow.runs.wandb_import import pull
from gradflow.runs.wandb_logger import dismiss

PROJECT = "of_the_sweep"


@pytest.fixture
def agent(monkeypatch, tmp_path):
    """Sets the environment of a trial, as `wandb agent` does, and gives the server."""
    with StandIn() as server:
        file = tmp_path / "parameters.yaml"
        file.write_text("wandb_version: 1\ndepth: {value: 2}\noptimizer.lr: {value: 0.1}\n")
        environment = {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": "5ec2e7" * 6 + "abcd",
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.2",
            "WANDB_SWEEP_ID": "sweep123",
            "WANDB_SWEEP_PARAM_PATH": str(file),
            "WANDB_PROJECT": PROJECT,
            "WANDB_ENTITY": "somebody",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server
    dismiss()


def test_each_trial_appears_under_the_agents_id_even_if_it_was_trained_before(agent, monkeypatch, tmp_path):
    words = ["depth=2", "optimizer.lr=0.1", "width=8", "trainer.max_steps=20", "hardware.device=cpu"]
    words += ["logger.mode=online", "logger.wait_seconds=120", f"paths.runs={tmp_path / 'runs'}"]
    for trial in ("aaaa1111", "bbbb2222"):
        monkeypatch.setenv("WANDB_RUN_ID", trial)
        with pytest.raises(SystemExit) as left:
            main(["train", *words])
        assert not left.value.code
    (path,) = (tmp_path / "runs").iterdir()
    record = read(path)
    assert record.status["attempt"] == 1
    assert set(agent.runs) == {"aaaa1111", "bbbb2222"}
    first, second = agent.runs.values()
    for run in (first, second):
        assert (run.project, run.exit_code, run.summary["state"]) == (PROJECT, 0, "completed")
        assert run.summary["final/test/accuracy"] == record.result["metrics"]["test/accuracy"]
        named = {name: each["value"] for name, each in run.config.items() if name in ("depth", "activation")}
        assert named == {"depth": 2, "activation": "relu"}
        assert [name for name in run.config if "lr" in name] == ["optimizer.lr"]
    own = [[{k: v for k, v in row.items() if isinstance(v, float)} for row in run.history] for run in (first, second)]
    assert [row["_step"] for row in first.history] == [row["_step"] for row in second.history] == [0, 10, 20]
    for rows in zip(*own, strict=True):
        one, other = ({k: v for k, v in row.items() if k[0] != "_"} for row in rows)
        assert one == other

    done = pull(f"somebody/{PROJECT}", tmp_path / "imported")
    assert (done.new, done.there, done.skipped) == ([path.name], [path.name], {})
    assert read(tmp_path / "imported" / path.name).result == record.result
