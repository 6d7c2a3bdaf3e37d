"""What the runs beside a run say would help it."""

import pytest

from gradflow.diagnosis.evidence import from_record
from gradflow.diagnosis.verdict import diagnose
from gradflow.results.neighbours import beside, with_cures
from gradflow.runs.record import read, write_json

ILL = {"ratio": 1e-9, "accuracy": 0.11, "verdict": "vanishing", "init": "glorot_uniform"}


def cures(path):
    record = read(path)
    return [str(cure) for cure in with_cures(diagnose(from_record(path)), record, *beside(record)).cures]


@pytest.fixture
def sweep(records):
    """An ill run with two seeds, the same with another init, and a run of another sweep that is better still."""
    path = records.add(**ILL)
    records.add(**{**ILL, "accuracy": 0.13, "seed": 1})
    for seed, accuracy in enumerate((0.94, 0.96)):
        records.add(accuracy=accuracy, seed=seed)
    records.sweep()
    planned, records.planned = records.planned, []
    records.planned = [*planned]
    records.add(**{**ILL, "ratio": 1.0, "verdict": "healthy", "norm": "batch", "accuracy": 0.99})
    return path


def test_the_sweep_that_a_run_is_of_is_found_beside_the_folder_of_runs(sweep):
    assert cures(sweep) == [
        "he_normal instead of glorot_uniform: in this sweep it raised accuracy from 0.12 to 0.95 (mean of 2 seeds)"
    ]


def test_of_several_sweeps_that_have_it_all_runs_count(sweep, records):
    records.sweep("wider")
    found = cures(sweep)
    assert found[0].startswith(
        "norm batch instead of none: in the sweeps hand, wider it raised accuracy from 0.11 to 0.99"
    )
    assert len(found) == 2


def test_without_a_sweep_the_folder_of_runs_counts(sweep, records):
    (records.sweeps / "hand" / "plan.json").unlink()
    assert cures(sweep)[0].startswith("norm batch instead of none: in this folder of runs it raised")


def test_a_prediction_in_the_record_is_told_with_it_and_a_broken_one_is_not(sweep):
    said = {"key": "init", "value": "he_normal", "instead": "glorot_uniform", "chi": 1.0, "chi_instead": 0.5}
    write_json(sweep / "prediction.json", {"applies": True, "cures": [said]})
    assert cures(sweep) == [
        "he_normal instead of glorot_uniform: χ₁ 1.00 instead of 0.50; "
        "in this sweep it raised accuracy from 0.12 to 0.95 (mean of 2 seeds)"
    ]
    (sweep / "prediction.json").write_text("{")
    assert "χ" not in cures(sweep)[0]


def test_sweeps_are_looked_for_where_the_environment_and_the_config_say(sweep, records, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (records.sweeps).rename(elsewhere)
    text = (elsewhere / "hand" / "plan.json").read_text()
    assert '"../../runs"' in text  # a sweep names its runs from its own folder
    assert "in this folder of runs" in cures(sweep)[0]
    monkeypatch.setenv("GRADFLOW_SWEEPS_DIR", str(elsewhere))
    assert "in this sweep" in cures(sweep)[0]
    monkeypatch.delenv("GRADFLOW_SWEEPS_DIR")
    (sweep / "config.yaml").write_text(f"paths: {{sweeps: {elsewhere}}}")
    assert "in this sweep" in cures(sweep)[0]


def test_a_run_of_another_metric_is_no_neighbour(records):
    path = records.add(**ILL)
    other = records.add()
    known = read(other).result
    write_json(other / "result.json", {**known, "metric": "test/mse", "metrics": {"test/mse": 0.9}})
    assert cures(path)[0].startswith("residual connections")
