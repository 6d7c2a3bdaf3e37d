"""What the page tells of a run is what its record holds."""

import json
import math
import shlex

import numpy as np
import pytest
import yaml

from gradflow.diagnosis.evidence import from_record
from gradflow.diagnosis.verdict import diagnose
from gradflow.results.page.about import command_without_secrets
from gradflow.results.page.details import Planned, details
from gradflow.results.page.pack import encoded
from gradflow.results.page.series import BROKEN, ZERO, measured
from gradflow.results.page.shown import series_of
from gradflow.runs.record import read, write_json
from gradflow.runs.series import GRADFLOW, METRICS, Series

ALL = 10**9  # numbers: nothing is thinned
NORMS = {0: [1e-30, 0.25, 4.0], 10: [0.0, math.inf, 2.0], 20: [3.0, 0.5, 123.456]}


def write(path, gradflow=(), metrics=()):
    for name, schema, rows in (("gradflow", GRADFLOW, gradflow), ("metrics", METRICS, metrics)):
        if rows:
            series = Series(path / f"{name}.parquet", schema)
            for row in rows:
                series.add(**row)
            series.write()


def told(path, most=ALL, **planned):
    record = read(path)
    found = details(record, Planned(record.labels, **planned), most)
    return json.loads(encoded(found))


def losses(split, name, values):
    return [{"step": s, "epoch": 0, "split": split, "name": name, "value": v} for s, v in values.items()]


def test_curves_are_the_logged_figures(records):
    path = records.add()
    train, val = {10: 2.0, 20: 1 / 3, 30: math.nan}, {20: 0.5, 30: 0.125}
    write(path, metrics=losses("train", "loss", train) + losses("val", "acc", val) + losses("test", "acc", {30: 0.7}))
    assert told(path)["curves"] == [
        {"name": "train/loss", "steps": [10, 20, 30], "values": [2, 0.3333, None]},
        {"name": "val/acc", "steps": [20, 30], "values": [0.5, 0.125]},
    ]


def test_the_heat_map_holds_every_norm_and_says_what_has_no_logarithm(records):
    heat, *others = told(records.add(norms=NORMS))["heat"]
    assert others == []
    assert (heat["quantity"], heat["steps"], heat["blocks"], heat["zero"]) == (
        "grad_norm",
        [0, 10, 20],
        [0, 1, 2],
        ZERO,
    )
    shown = np.array(heat["log10"], dtype=float)
    norms = np.array(list(NORMS.values())).T
    usable = np.isfinite(norms) & (norms > 0)
    assert shown[usable] == pytest.approx(np.log10(norms[usable]), abs=5e-4)
    assert (shown[0, 1], shown[1, 1]) == (ZERO, BROKEN)


def test_a_block_that_is_not_trained_is_null(records, staged):
    path = staged([("block 0", 0, 1), ("all", 1, 2)], {0: [1.0, None], 1: [10.0, 100.0]})
    assert told(path)["heat"][0]["log10"] == [[0, 1], [None, 2]]


def test_a_long_series_is_thinned_to_its_ends_and_says_so(records):
    random = np.random.default_rng(0)
    norms = {step: random.lognormal(size=40).tolist() for step in range(0, 2000, 10)}
    path = records.add(norms=norms)
    write(path, metrics=losses("train", "loss", {s: 1.0 + s for s in range(1, 500)}))
    whole, thin = told(path), told(path, most=200)
    assert (whole["thinned"], thin["thinned"]) == (False, True)
    heat, curve = thin["heat"][0], thin["curves"][0]
    assert (heat["steps"][0], heat["steps"][-1], heat["blocks"][0], heat["blocks"][-1]) == (0, 1990, 0, 39)
    assert (curve["steps"][0], curve["steps"][-1]) == (1, 499)
    assert sum(map(len, heat["log10"])) + 2 * len(curve["steps"]) <= 200
    for row, block in zip(heat["log10"], heat["blocks"], strict=True):
        for value, step in zip(row, heat["steps"], strict=True):
            assert value == pytest.approx(math.log10(norms[step][block]), abs=5e-3)


def test_theory_is_as_large_as_the_measurement_at_the_last_block(records):
    path = records.add(norms={0: [1e-4, 1e-2, 100.0], 5: [1.0, 1.0, 1.0]})
    line = [-8.0, -4.0, 0.0]
    write_json(path / "prediction.json", {"applies": True, "log10_grad": line, "log10_delta": None, "cures": []})
    assert told(path)["theory"] == [{"quantity": "grad_norm", "log10": [-6, -2, 2], "why": None}]
    write_json(path / "prediction.json", {"applies": True, "log10_grad": line[1:]})
    assert told(path)["theory"][0]["why"] == "the prediction is of 2 blocks, and 3 were measured"
    write_json(path / "prediction.json", {"applies": False, "why_not": "highway blocks gate"})
    assert told(path)["theory"] == [{"quantity": "grad_norm", "log10": None, "why": "highway blocks gate"}]
    (path / "prediction.json").unlink()
    assert "no prediction" in told(path)["theory"][0]["why"]


def test_a_thinned_theory_keeps_the_blocks_of_the_heat_map(records):
    path = records.add(norms={0: [10.0**-block for block in range(99, -1, -1)]})
    write_json(path / "prediction.json", {"applies": True, "log10_grad": [-float(b) for b in range(99, -1, -1)]})
    thin = told(path, most=30)
    assert len(thin["heat"][0]["blocks"]) < 100
    assert thin["theory"][0]["log10"] == [row[0] for row in thin["heat"][0]["log10"]]


def test_time_maps_are_over_time_steps_and_training_steps(records, recurrent, remembered):
    profiles = {0: [1e-3, 1e-2, 0.0], 20: ([0.1, 0.5, 1.0], [0.01, 0.1, 1.0], [1.0, 1.0, 1.0])}
    path = recurrent(profiles, None, remembered(3))
    through = {"exponent": -math.log(10), "chi": 0.01}
    write_json(path / "prediction.json", {"applies": False, "why_not": "one block", "through_time": through})
    found = told(path)
    names = [(each["layer"], each["quantity"]) for each in found["time"]]
    assert names == [(f"blocks.{b}", f"time_grad_{part}") for b in (0, 1) for part in "ch"]  # no quantiles
    first = found["time"][1]
    assert (first["steps"], first["times"]) == ([0, 20], [0, 1, 2])
    assert first["log10"] == [[-3, -1], [-2, pytest.approx(math.log10(0.5), abs=5e-4)], [ZERO, 0]]
    assert found["time_theory"]["blocks.0"]["log10"] is None  # nothing to compare it with at the last step
    assert "first layer alone" in found["time_theory"]["blocks.1"]["why"]


def test_theory_through_time_falls_by_its_exponent(records, recurrent, remembered):
    path = recurrent({0: [1.0, 1.0, 1.0, 10.0]}, None, remembered(3))
    write_json(path / "prediction.json", {"applies": False, "through_time": {"exponent": -math.log(100)}})
    assert told(path)["time_theory"]["blocks.0"] == {"log10": [-5, -3, -1, 1], "why": None}


def test_histograms_are_those_of_the_first_and_the_last_step(records):
    path = records.add()
    rows = []
    for step in (0, 50, 100):
        for block in range(5):
            for kind, count in (("-3", 5), ("-1", 7 + block), ("zero", 2)):
                row = {"step": step, "block": block, "name": f"blocks.{block}", "value": float(count)}
                rows.append(row | {"quantity": f"grad_histogram/{kind}"})
    write(path, gradflow=rows)
    found = told(path)["histograms"]
    assert [(each["step"], each["block"]) for each in found] == [(s, b) for s in (0, 100) for b in (0, 2, 4)]
    assert (found[1]["edges"], found[1]["counts"], found[1]["zero"]) == ([-3, -2, -1, 0], [5, 0, 9], 2)
    assert {each["scale"] for each in found} == {"log2"}
    assert told(records.add())["histograms"] == []


def test_the_diagnosis_is_that_of_gradflow_diagnose(records):
    path = records.add(norms={step: [1e-9, 1e-4, 1.0] for step in range(0, 50, 10)}, verdict="vanishing", ratio=1e-9)
    found, judged = told(path)["diagnosis"], diagnose(from_record(path))
    assert found["verdict"] == "vanishing" == judged.verdict
    assert (found["clear"], found["unmeasured"]) == (list(judged.clear), list(judged.unmeasured))
    assert found["looked"]
    assert not found["so_far"]


def test_signs_come_from_the_result_with_their_thresholds(records):
    path = records.add(verdict="dead")
    sign = {"verdict": "dead", "name": "block_dead", "what": "share", "value": 0.987654, "threshold": 0.4, "where": "b"}
    write_json(path / "result.json", json.loads((path / "result.json").read_text()) | {"signs": [sign]})
    shown = {"of": "dead", "name": "block_dead", "what": "share", "value": 0.9877, "threshold": 0.4, "where": "b"}
    for anew in (True, False):
        assert told(path, anew=anew)["diagnosis"]["signs"] == [shown]
    assert not told(path, anew=False)["diagnosis"]["looked"]


def test_cures_come_from_the_runs_beside_it(records):
    path = records.add(activation="sigmoid", accuracy=0.1, verdict="vanishing", ratio=1e-9)
    beside = {name: read(records.add(activation=name, accuracy=0.9)) for name in ("relu",)}
    cure, *_ = told(path, beside=beside)["diagnosis"]["cures"]
    assert (cure["source"], cure["overrides"]) == ("sweep", ["activation=relu"])
    assert "from 0.10 to 0.90" in cure["text"]


def test_a_run_under_way_is_judged_by_what_it_has_written(records):
    path = records.add(state="running", norms={0: [1e-12, 1.0], 10: [1e-12, 1.0]})
    found = told(path)
    assert found["state"] == "running"
    assert found["diagnosis"]["so_far"]
    assert {sign["name"] for sign in found["diagnosis"]["signs"]} >= {"gradient_ratio"}
    assert told(records.add(state="running"))["diagnosis"] is None  # nothing is written yet


def test_the_command_can_be_typed_again(records):
    path = records.add()
    words = ["depth=3", "remedy=[clip_norm,warmup]", "name=it's", "x=$HOME `rm`"]
    (path / "overrides.yaml").write_text(yaml.safe_dump(words))
    found = told(path, more=["--config-dir", "my conf"])
    assert shlex.split(found["command"]) == ["gradflow", "train", *words, "--config-dir", "my conf"]
    assert found["overrides"] == words


def test_a_config_is_flat_and_keeps_no_secret_and_no_path(records):
    config = {
        "activation": {"_target_": "gradflow.models.activations.relu", "slope": 0.1},
        "task": {"_target_": "mine.task", "api_key": "5ec2e7", "hf": {"auth_token": "hunter2"}, "size": [1, 2]},
        "paths": {"runs": "/home/somebody"},
        "depth": 3,
        "cell": None,
    }
    path = records.add()
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    expected = {"activation": "relu", "activation.slope": 0.1, "task": "mine.task", "task.api_key": "•••"}
    expected |= {"task.hf.auth_token": "•••", "task.size": "[1,2]", "depth": 3, "cell": None}
    assert told(path)["config"] == told(records.add(), config=config)["config"] == expected


def test_a_secret_that_was_typed_is_not_told(records):
    path = records.add()
    (path / "overrides.yaml").write_text(yaml.safe_dump(["task.api_key=hunter 2", "model.tokens=3"]))
    found = told(path)
    assert found["overrides"] == ["task.api_key=•••", "model.tokens=3"]
    assert "hunter" not in json.dumps(found)
    typed = "gradflow sweep 'task.api_key=hunter 2' depth=2,3"
    assert shlex.split(command_without_secrets(typed)) == ["gradflow", "sweep", "task.api_key=•••", "depth=2,3"]
    for command in ("gradflow sweep 'seed=range(3)'", "an unclosed ' quote", None):
        assert command_without_secrets(command) == command


def test_of_the_environment_only_named_words_are_told(records):
    path = records.add()
    whole = {"python": "3.11", "packages": {"torch": "2", "evil": "1"}, "code": {"commit": "abc", "dirty": True}}
    write_json(path / "environment.json", whole | {"WANDB_API_KEY": "5ec2e7", "cpu": "a processor"})
    assert told(path)["environment"] == {
        **{"python": "3.11", "cpu": "a processor", "torch": "2", "git_commit": "abc", "git_dirty": True}
    }


def test_an_error_is_told_by_its_last_lines(records):
    lines = [f"line {i}" for i in range(100)]
    found = told(records.add(state="failed", error="\n".join(lines)))
    assert found["error"].splitlines() == lines[-30:]
    assert told(records.add())["error"] is None


def test_a_run_without_a_record_has_its_command_and_config():
    labels = {"task": "digits", "model": "mlp", "recipe": "relu", "depth": 2, "seed": 1}
    found = json.loads(encoded(details(None, Planned(labels, ["seed=1"], {"depth": 2}), ALL)))
    assert (found["state"], found["command"], found["config"]) == ("missing", "gradflow train seed=1", {"depth": 2})
    assert found["title"] == "digits mlp relu depth 2 seed 1"
    assert (found["curves"], found["heat"], found["diagnosis"]) == ([], [], None)


@pytest.mark.parametrize("content", [b"", b"PAR1 broken PAR1"])
def test_a_series_that_cannot_be_read_is_named_and_the_rest_is_told(records, content):
    path = records.add(norms=NORMS)
    (path / "metrics.parquet").write_bytes(content)
    found = told(path)
    assert [line.split(":")[0] for line in found["problems"]] == ["metrics.parquet"]
    assert len(found["heat"]) == 1


def test_no_series_is_no_series():
    found = series_of(measured(None, None), None, ALL)
    assert (found["thinned"], found["time_theory"], found["curves"], found["heat"]) == (False, None, [], [])
