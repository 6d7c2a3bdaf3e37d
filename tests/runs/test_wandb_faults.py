"""A run never stops for W&B, whatever its server does: the real client against a stand-in of the server on the loopback
(`wandb_stand_in.py`). What is missing in the end is sent by `gradflow wandb-sync`'s upload."""

import json
import logging
import os
import threading

import pytest
from wandb_stand_in import StandIn

from gradflow.runs.claim import claim
from gradflow.runs.compose import composer
from gradflow.runs.execute import execute
from gradflow.runs.record import read
from gradflow.runs.stop import Stop
from gradflow.runs.wandb_file import FILE_HEADER, attempts
from gradflow.runs.wandb_logger import dismiss
from gradflow.runs.wandb_marks import is_uploaded
from gradflow.runs.wandb_sync import pending, upload

STEPS = [0, 10, 20, 30, 40]
QUICK = {
    f"WANDB_X_{what}_{name}": value
    for what in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    for name, value in (
        ("RETRY_MAX", "1"),
        ("RETRY_WAIT_MIN_SECONDS", "0.1"),
        ("RETRY_WAIT_MAX_SECONDS", "0.2"),
        ("TIMEOUT_SECONDS", "1"),
    )
}


@pytest.fixture
def server(monkeypatch):
    with StandIn() as stand_in:
        for name, value in {**QUICK, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.2"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WANDB_BASE_URL", stand_in.url)
        monkeypatch.setenv("WANDB_API_KEY", "5ec2e7" * 6 + "abcd")
        yield stand_in
    dismiss()


@pytest.fixture
def train(configure, evidence, tmp_path):
    """Trains the run of 40 steps; gives its record's folder and what it shows."""

    def go(*words, halfway=lambda: None):
        config = configure("trainer.max_steps=40", "trainer.val_every_n_steps=20", "logger.images=1", *words)

        def judge(step, figures):
            if step == 20:
                halfway()
            return False

        outcome = execute(config, [], Stop(), judge=judge)
        assert outcome.state == "completed", outcome.error
        (path,) = (tmp_path / "runs").iterdir()
        return path, evidence(path)

    return go


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, evidence):
    folder = tmp_path_factory.mktemp("undisturbed")
    with composer() as compose:
        words = "depth=2", "width=8", "hardware.device=cpu", "logger.mode=disabled", f"paths.runs={folder}"
        config = compose.config([*words, "trainer.max_steps=40", "trainer.val_every_n_steps=20"])
    execute(config, [], Stop())
    (path,) = folder.iterdir()
    return evidence(path)


def arrived(server: StandIn) -> list[int]:
    return [row["_step"] for run in server.runs.values() for row in run.history]


@pytest.mark.parametrize("fault", [429, 500, "drop", "hang"])
def test_a_server_that_fails_halfway_and_for_good(server, train, undisturbed, wait_until, caplog, fault):
    def fail() -> None:
        wait_until(lambda: server.runs)  # its client is up
        server.fault = fault

    with caplog.at_level(logging.WARNING, "gradflow"):
        path, shown = train("logger.mode=online", "logger.wait_seconds=4", halfway=fail)
    assert shown == undisturbed
    assert server.faults > 0
    assert f"gradflow wandb-sync {path}" in caplog.text
    assert len(caplog.records) == 1
    (file,) = attempts(path)
    assert not is_uploaded(file)
    assert arrived(server) == []

    server.fault = None
    dismiss()
    server.runs[path.name].history += [{"_step": step} for step in STEPS[:2]]  # a longer run would have got so far
    assert pending(path.parent).files == {path.name: [file]}
    assert upload(pending(path.parent), [].append) == []
    assert arrived(server) == STEPS
    assert server.runs[path.name].summary["state"] == "completed"
    assert pending(path.parent).files == {}


def test_a_connection_that_breaks_and_comes_back(server, train, undisturbed, wait_until, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_X_FILE_STREAM_RETRY_MAX", "50")
    monkeypatch.setenv("WANDB_X_GRAPHQL_RETRY_MAX", "50")

    def repair() -> None:
        wait_until(lambda: server.faults > 1)
        server.fault = None

    def fail() -> None:
        wait_until(lambda: server.runs)
        server.fault = "drop"
        threading.Thread(target=repair, daemon=True).start()

    path, shown = train("logger.mode=online", "logger.wait_seconds=60", halfway=fail)
    assert shown == undisturbed
    assert arrived(server) == STEPS
    assert caplog.text == ""
    assert all(map(is_uploaded, attempts(path)))
    assert pending(path.parent).files == {}


def test_a_server_that_is_not_there(server, train, undisturbed, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    path, shown = train("logger.mode=online", "logger.wait_seconds=60")
    assert shown == undisturbed
    assert "not all of" in caplog.text
    (file,) = attempts(path)
    assert file.parent.name.startswith("offline-run-")
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert upload(pending(path.parent), [].append) == []
    assert arrived(server) == STEPS


@pytest.mark.parametrize("when", ["halfway", "before it has begun"])
def test_a_client_that_dies(server, train, undisturbed, monkeypatch, caplog, when):
    """Not even the process that speaks with W&B is needed: what it has not written is uploaded from the record."""
    from gradflow.runs import wandb_logger

    monkeypatch.setenv("WANDB_MARK", "1")  # a process of this test's own

    def kill() -> None:
        os.kill(wandb_logger._writer._process.pid, 9)

    if when == "halfway":
        path, shown = train("logger.mode=offline", "logger.wait_seconds=60", halfway=kill)
        assert wandb_logger.DIED in caplog.text
    else:
        server.fault = "hang"
        path, shown = train("logger.mode=online", "logger.wait_seconds=0.1")
        server.fault = None
    assert shown == undisturbed
    assert "the record is whole" in caplog.text

    dismiss()
    said: list[str] = []
    assert upload(pending(path.parent), said.append) == [], said
    assert arrived(server) == STEPS
    (run,) = server.runs.values()
    result = read(path).result
    assert (run.summary["state"], run.exit_code) == ("completed", 0)
    assert run.summary["final/test/accuracy"] == result["metrics"]["test/accuracy"]
    assert json.loads(run.summary["record"])["result"]["signs"] == result["signs"]
    made = json.loads((path / "environment.json").read_text())
    assert run.summary["environment/torch"] == made["packages"]["torch"]
    assert run.summary["environment/threads"] == made["threads"]
    assert pending(path.parent).files == {}


def test_a_run_that_has_gone_on_meanwhile_is_left_alone(server, train):
    """Its new attempt has the same W&B run and no rows yet: it would be taken for one that was never written."""
    path, _ = train("logger.mode=offline", "logger.wait_seconds=60")
    dismiss()
    (file,) = attempts(path)
    os.truncate(file, FILE_HEADER)
    found = pending(path.parent)
    assert found.short == {path.name: [path.name]}
    said: list[str] = []
    with claim(path):
        assert upload(found, said.append) == [path.name]
        assert attempts(path) == [file]
    assert any("is being trained again" in line for line in said)
    assert server.runs == {}
    assert upload(pending(path.parent), said.append) == [], said
    assert arrived(server) == STEPS
