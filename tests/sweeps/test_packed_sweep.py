"""`launcher=packed`: worker processes that train several runs at once."""

import json
import os
import signal

import pytest

WORDS = (
    *("sweep", "sweep.name=many", "depth=2", "width=8", "seed=range(6)", "hardware.device=cpu", "trainer.max_steps=60"),
    *("trainer.val_every_n_steps=30", "trainer.checkpoint_every_n_steps=10", "logger.mode=disabled", "-j", "2"),
)


def figures(runs):
    """The test loss of each run."""
    found = {path.name: json.loads((path / "result.json").read_text()) for path in sorted(runs.iterdir())}
    return {name: result["metrics"]["test/loss"] for name, result in found.items()}


def test_a_worker_that_is_killed_loses_nothing_and_what_it_was_on_is_tried_again_alone(new_shell, own, wait_until):
    shell = new_shell()
    words = (*WORDS, "activation=gated", "launcher=packed", "--config-dir", str(own / "conf"))
    process = shell.start(*words)

    def under_way():
        found = [json.loads(file.read_text()) for file in shell.runs.glob("*/status.json")]
        return found if len(found) == 6 else None

    statuses = wait_until(under_way)
    workers = {status["pid"] for status in statuses}
    assert len(workers) == 2  # three runs each
    killed = statuses[0]["pid"]
    os.kill(killed, signal.SIGKILL)
    shell.gate.touch()
    done = shell.end(process)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trying again") == 3
    attempts = [json.loads((path / "result.json").read_text())["cost"]["attempts"] for path in shell.runs.iterdir()]
    assert sorted(attempts) == [1, 1, 1, 2, 2, 2]
    logs = [(path / "log.txt").read_text() for path in shell.runs.iterdir()]
    assert sum(log.count("--- ") for log in logs) == 9

    plain = new_shell()
    plain.gate.touch()
    assert plain.run(*WORDS, "activation=gated", "--config-dir", str(own / "conf")).returncode == 0
    ours, theirs = figures(shell.runs), figures(plain.runs)
    assert list(ours) == list(theirs)
    assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-4)
