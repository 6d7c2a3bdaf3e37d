"""conf/diagnosis.yaml, and a person's own."""

import re
from dataclasses import fields

import pytest

from gradflow.diagnosis.thresholds import Thresholds, overridden, read, thresholds, told
from gradflow.errors import ConfigError
from gradflow.resources import conf_dir


def test_every_threshold_is_in_the_file_with_a_meaning_and_a_source_and_none_is_there_for_nothing():
    assert list(told()) == [field.name for field in fields(Thresholds)]
    assert all(len(each.meaning) > 10 and len(each.source) > 8 for each in told().values())
    code = "\n".join(file.read_text() for file in (conf_dir().parent / "src/gradflow/diagnosis").rglob("*.py"))
    assert [name for name in told() if not re.search(rf"\b(t|limits)\.{name}\b", code)] == []


def test_the_values_that_readers_of_tables_know():
    limits = thresholds()
    assert (limits.gradient_ratio_low, limits.gradient_ratio_high, limits.chance_errors) == (1e-3, 1e3, 3.0)


@pytest.mark.parametrize("text", ["gradient_ratio_low: 1e-5", "gradient_ratio_low: {value: 1.0e-5, source: mine}"])
def test_an_own_file_overrides_what_it_names(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert overridden(file).gradient_ratio_low == 1e-5
    assert overridden(file).gradient_ratio_high == thresholds().gradient_ratio_high


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "gradient_ratio_lo: 1",
            "gradient_ratio_lo: unknown threshold; allowed: .*; did you mean 'gradient_ratio_low'",
        ),
        ("zero_share: {valu: 1}", "zero_share.valu: unknown key; allowed: .*; did you mean 'value'"),
        ("zero_share: 1.5", "zero_share=1.5: should be less than or equal to 1"),
        ("gradient_huge: -1", "gradient_huge=-1: should be greater than 0"),
        ("gradient_huge: many", "gradient_huge=many: should be a valid number"),
        ("gradient_huge: true", "gradient_huge=True: should be a valid number"),
        ("gradient_huge: .inf", "gradient_huge=inf: should be a finite number"),
        ("gradient_huge: null", "gradient_huge=None: should be a valid number"),
        ("[1, 2]", "holds no thresholds"),
        ("a: [", "not YAML"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_the_file(tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        overridden(file)
    (line,) = caught.value.lines
    assert re.match(rf"{re.escape(str(file))}: {said}", line)


def test_several_mistakes_are_told_at_once_and_an_empty_file_changes_nothing(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("a: 1\nb: 2\n")
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert len(caught.value.lines) == 2
    file.write_text("# nothing\n")
    assert overridden(file) == thresholds()
    with pytest.raises(ConfigError, match="no such file"):
        read(tmp_path / "none.yaml")
