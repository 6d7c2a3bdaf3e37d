"""What `gradflow diagnose` shows."""

import json
import re

import pytest
from rich.console import Console

from gradflow.diagnosis.thresholds import overridden
from gradflow.errors import ConfigError
from gradflow.results import diagnoses


def shown(found):
    console = Console(width=200, record=True, highlight=False, file=open("/dev/null", "w"))  # noqa: SIM115
    for each in diagnoses.to_rich(found):
        console.print(each, markup=False)
    return console.export_text()


@pytest.fixture
def ill(records):
    return records.add(norms={s: [1e-9, 1e-4, 1.0] for s in (0, 10, 20)}, accuracy=0.5)


def test_one_run_in_full(ill):
    text = shown(diagnoses.of(ill))
    assert "verdict: vanishing\n" in text
    assert re.search(
        r"gradient ratio first ÷ last block +1e-09 +0.001 +blocks.00 ÷ blocks.02\n", text.replace(" \n", "\n")
    )
    assert "signs were looked for and not found: gradient_zero" in text
    assert "could not be looked for: " in text
    assert "cure: residual connections: He et al. 2016  [skip=preact_residual]" in text


def test_a_sweep_in_a_line_per_run_in_the_order_of_the_plan(ill, records):
    records.add(norms={0: [1.0, 1.0]}, accuracy=0.9, seed=1)
    records.add(state="missing", seed=2)
    found = diagnoses.of(records.sweep())
    assert [case.diagnosis.verdict for case in found.cases] == ["vanishing", "healthy"]
    first, second = (line for line in shown(found).splitlines() if "digits" in line)
    assert "gradient ratio first ÷ last block 1e-09, threshold 0.001 (blocks.00 ÷ blocks.02)" in first
    assert second.rstrip().endswith("healthy")


def test_json_of_one_run_is_an_object_and_of_many_a_list(ill, records):
    told = json.loads(diagnoses.to_json(diagnoses.of(ill)))
    assert (told["verdict"], told["run_id"]) == ("vanishing", ill.name)
    assert set(told["signs"][0]) == {"verdict", "name", "what", "value", "threshold", "where"}
    assert told["signs"][0]["name"] == "gradient_ratio"
    assert told["cures"][0]["overrides"] == ["skip=preact_residual"]
    many = json.loads(diagnoses.to_json(diagnoses.of(records.sweep())))
    assert [each["verdict"] for each in many] == ["vanishing"]


def test_an_old_record_is_judged_anew_by_other_thresholds(ill, tmp_path):
    (tmp_path / "mine.yaml").write_text("gradient_ratio_low: 1.0e-12\ngradient_tiny: 1.0e-12\n")
    (case,) = diagnoses.of(ill, overridden(tmp_path / "mine.yaml")).cases
    assert (case.diagnosis.verdict, case.diagnosis.signs) == ("healthy", ())


def test_a_run_that_goes_on_is_told_to(records):
    path = records.add(state="failed", norms={0: [1e-9, 1.0], 10: [1e-9, 1.0]})
    text = shown(diagnoses.of(path))
    assert "verdict: vanishing, so far: the run is failed" in text


def test_what_cannot_be_read_is_a_problem_among_many_and_a_mistake_alone(ill, records):
    (ill / "gradflow.parquet").write_bytes(b"no table")
    records.add(seed=1)
    found = diagnoses.of(records.sweep())
    assert len(found.cases) == 1
    assert found.problems[0].startswith(f"{ill / 'gradflow.parquet'}: cannot be read")
    with pytest.raises(ConfigError, match="cannot be read"):
        diagnoses.of(ill)
