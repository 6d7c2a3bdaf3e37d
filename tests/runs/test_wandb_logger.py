"""What W&B gets, read back from the transaction log of real offline runs: the same as the record, and no secret."""

import json
import math
import os
import signal
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from gradflow.errors import ConfigError
from gradflow.runs import wandb_keys as keys
from gradflow.runs.config import validate
from gradflow.runs.execute import execute
from gradflow.runs.record import read
from gradflow.runs.stop import Stop
from gradflow.runs.wandb_logger import make_logger

BLOCK = 32_768  # bytes; W&B's log has LevelDB's format: no record's part crosses a block
HEADER = b":W&B\xe1\xbe"
FULL, LAST = 1, 4  # kinds of part that end a record


def records_of(file: Path) -> Iterator[Any]:
    """The protobuf records of a log; one that was cut off by a kill ends it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data[:6] == HEADER
    at, whole = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        if len(part) < length:
            return
        assert zlib.crc32(part, zlib.crc32(bytes([kind]))) == checksum
        at += 7 + length
        whole += part
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


class Log:
    """One W&B run as a server would see it."""

    def __init__(self, file: Path) -> None:
        self.id = self.group = self.name = None
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        for record in records_of(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.id, self.group, self.name = record.run.run_id, record.run.run_group, record.run.display_name
                self.config |= self._values(record.run.config.update)
            elif kind == "config":
                self.config |= self._values(record.config.update)
            elif kind == "summary":
                self.summary |= self._values(record.summary.update)
            elif kind == "history":
                self.history.append(self._values(record.history.item))

    @staticmethod
    def _values(items: Any) -> dict[str, Any]:
        """Pictures come in parts: those are put together again."""
        found: dict[str, Any] = {}
        for item in items:
            *path, last = item.nested_key or [item.key]
            into = found
            for part in path:
                into = into.setdefault(part, {})
            into[last] = json.loads(item.value_json)
        return found


def logs(path: Path) -> list[Log]:
    return [Log(file) for file in sorted(path.glob("wandb/offline-run-*/run-*.wandb"))]


def figures(shown: Any) -> dict[int, dict[str, float]]:
    """Step → name → value, as a record of two blocks has them and its W&B history must."""
    found: dict[int, dict[str, float]] = {}
    for row in shown.metrics:
        found.setdefault(row["step"], {})[f"{row['split']}/{row['name']}"] = row["value"]
    for row in shown.gradflow:
        quantity, step = row["quantity"], found.setdefault(row["step"], {})
        if "/" in quantity or quantity in ("grad_rms", "grad_max", "loss", "weight_near_zero"):
            continue
        if row["block"] is not None:
            step[f"gradflow/{quantity}/{row['block']:02d}"] = row["value"]
        elif quantity in ("grad_norm", "delta_norm", "update_ratio") and row["name"] in ("stem", "head", "all"):
            step[f"gradflow/{quantity}/{row['name']}"] = row["value"]
    for step in found.values():
        if "gradflow/grad_norm/00" in step:
            step["gradflow/gradient_ratio"] = step["gradflow/grad_norm/00"] / step["gradflow/grad_norm/01"]
    return {step: named for step, named in found.items() if named}


def own_figures(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name[0] != "_" and not isinstance(value, dict)}


def pictures(row: dict[str, Any]) -> dict[str, str]:
    return {name: value["_type"] for name, value in row.items() if isinstance(value, dict) and name[0] != "_"}


def test_each_run_of_a_process_is_its_own_wandb_run_under_its_run_id(baseline):
    for run_id in baseline.run_ids:
        (log,) = logs(baseline.shell.runs / run_id)
        assert (log.id, log.group) == (run_id, "four")
        assert log.name == json.loads((baseline.shell.runs / run_id / "status.json").read_text())["title"]
    assert len(set(baseline.run_ids)) == 4


def test_config_history_and_summary_are_whole(baseline, evidence):
    for run_id in baseline.run_ids:
        path = baseline.shell.runs / run_id
        (log,), shown = logs(path), evidence(path)
        config = {name: value for name, value in log.config.items() if name != "_wandb"}
        assert {keys.label_of(name): value for name, value in config.items()} == shown.result["labels"]
        assert not any("." in name for name in config)

        steps = [row["_step"] for row in log.history]
        assert steps == sorted(set(steps))
        assert {row["_step"]: own_figures(row) for row in log.history} == figures(shown)
        assert {"train/loss", "val/accuracy", "gradflow/grad_norm/00"} <= set(log.history[steps.index(20)])
        assert [row["_step"] for row in log.history if keys.HEAT_MAP in row] == [10, 25, 40, 60]
        assert pictures(log.history[-1]) == {keys.HEAT_MAP: "image-file", keys.BLOCK_NORMS: "histogram"}
        image = log.history[-1][keys.HEAT_MAP]
        (folder,) = path.glob("wandb/offline-run-*/files")
        assert (folder / image["path"]).stat().st_size == image["size"] < 20_000
        assert "gradient norm" in image["caption"]

        assert log.summary["state"] == "completed"
        assert log.summary["verdict"] == shown.result["verdict"]
        assert {n: log.summary[f"final/{n}"] for n in shown.result["metrics"]} == shown.result["metrics"]
        assert log.summary["gradient/ratio"] == shown.result["gradient"]["ratio"]
        assert log.summary["steps"] == 60
        for sign in shown.result["signs"]:
            assert log.summary[f"diagnosis/{sign['name']}/threshold"] == sign["threshold"]
        kept = json.loads(log.summary["record"])["result"]
        assert {name: value for name, value in kept.items() if name != "cost"} == {
            name: value for name, value in shown.result.items() if name != "format"
        }
        made = json.loads((path / "environment.json").read_text())
        assert log.summary["environment/torch"] == made["packages"]["torch"]
        assert log.summary["environment/python"] == made["python"]
        if made["code"]:
            assert log.summary["environment/git_commit"] == made["code"]["commit"]
        assert log.summary["cost/parameters"] == kept["cost"]["parameters"]


def test_no_secret_of_the_environment_is_in_any_file(baseline, secrets):
    files = [file for folder in (baseline.shell.runs, baseline.folder) for file in folder.rglob("*") if file.is_file()]
    assert {".wandb", ".log", ".json", ".yaml", ".parquet", ".html"} <= {file.suffix for file in files}
    for name, secret in secrets.items():
        for file in files:
            with suppress(FileNotFoundError):  # another process's test was just writing it: it has its own name now
                assert secret.encode() not in file.read_bytes(), (name, file)
        assert secret not in baseline.output


def test_a_killed_run_keeps_its_log_and_goes_on_as_the_same_wandb_run(
    new_shell, grid, baseline, evidence, own, monkeypatch, wait_until
):
    shell = new_shell()
    words = [word for word in grid if not word.startswith(("sweep.", "seed"))]
    process = shell.start("train", *words, "seed=1", "logger.mode=offline", DAWDLE="0.05")
    path = shell.runs / baseline.run_ids[1]
    wait_until(lambda: (path / "checkpoints" / "last.ckpt").exists())
    wait_until(lambda: len(logs(path)[0].history) > 3 or process.poll() is not None)
    assert read(path).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    shell.end(process)
    assert read(path).state == "stale"
    (log,) = logs(path)
    expected = figures(evidence(baseline.shell.runs / path.name))
    assert {keys.label_of(name) for name in log.config} >= set(
        evidence(baseline.shell.runs / path.name).result["labels"]
    )
    assert [row["_step"] for row in log.history[:4]] == [0, 5, 10, 15]
    for row in log.history[:4]:
        assert own_figures(row) == expected[row["_step"]]
    assert log.summary["state"] == "running"

    monkeypatch.syspath_prepend(str(own))
    config = validate(yaml.safe_load((path / "config.yaml").read_text()))
    outcome = execute(config, [], Stop())
    assert outcome.state == "completed", outcome.error
    assert evidence(path) == evidence(baseline.shell.runs / path.name)
    first, second = logs(path)
    assert first.id == second.id == path.name
    steps = [row["_step"] for row in (*first.history, *second.history)]
    assert steps == sorted(set(steps)), "a step is logged once, however the attempts met"
    assert {row["_step"]: own_figures(row) for row in (*first.history, *second.history)} == expected
    assert second.summary["state"] == "completed"


@pytest.mark.parametrize("project", ["a/b", "", "ü?*", 129 * "x"])
def test_a_project_that_wandb_would_refuse_is_refused_before_training(configure, project):
    with pytest.raises(ConfigError, match=r"^logger.project=.*: must be a W&B project: 1 to 128 characters, none of /"):
        configure(f"logger.project='{project}'")


def test_disabled_means_no_logger_and_no_files(configure, tmp_path):
    assert make_logger(configure("logger.mode=disabled"), tmp_path / "x") is None
    assert not (tmp_path / "x").exists()


def test_what_instruments_report_at_the_end_of_a_chunk_of_steps_all_arrives(configure):
    """W&B drops what comes for an earlier step: norms of steps 3, 6, 9 must not push out the probes of 0, 5, 10."""
    config = configure(
        *("task=adding", "task.length=12", "task.val_size=20", "task.test_size=20", "model=recurrent", "cell=lstm"),
        *("instruments=time", "instruments.every_n_steps=3", "instruments.time_every_n_steps=5"),
        *("trainer.log_every_n_steps=7", "logger.mode=offline"),
    )
    assert execute(config, [], Stop()).state == "completed"
    (path,) = Path(config.paths.runs).iterdir()
    (log,) = logs(path)
    steps = [row["_step"] for row in log.history]
    assert steps == sorted(steps)
    seen = {row["_step"]: set(row) for row in log.history}
    assert [s for s in seen if "gradflow/jacobian_decay/00" in seen[s]] == [0, 5, 10, 15, 20]
    assert [s for s in seen if "gradflow/grad_norm/00" in seen[s]] == [0, 3, 6, 9, 12, 15, 18]
    assert {"gradflow/forget_leak/00", "gradflow/lyapunov_1/00"} <= seen[10]
    assert pictures(log.history[-1]).items() >= {keys.TIME_HEAT_MAP: "image-file"}.items()


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_wandb_hears_how_a_run_ended_when_it_did_not_complete(configure, importable, state):
    change = ["activation=broken"] if state == "failed" else ["activation=linear", "depth=4", "optimizer.lr=0.1"]
    config = configure(*change, "logger.mode=offline", config_dir=importable / "conf")
    outcome = execute(config, [], Stop())
    assert outcome.state == state
    (log,) = logs(Path(config.paths.runs) / outcome.run_id)
    assert (log.id, log.summary["state"]) == (outcome.run_id, state)
    if state == "diverged":
        assert log.summary["verdict"] == "diverged"
        assert math.isfinite(log.summary["diverged_at"])
