"""What Hydra's grammar says of a key that is searched."""

import pytest

from gradflow.errors import ConfigError
from gradflow.sweeps.tuning.space import read_dimension


@pytest.fixture
def read(compose):
    return lambda text: read_dimension(compose, compose.parse([text])[0])


@pytest.mark.parametrize(
    ("text", "kind", "low", "high", "step", "log"),
    [
        ("optimizer.lr=interval(0,1)", "float", 0.0, 1.0, None, False),
        ("optimizer.lr=tag(log,interval(1e-4,1))", "float", 1e-4, 1.0, None, True),
        ("depth=int(interval(2,10))", "int", 2, 10, None, False),
        ("width=tag(log,int(interval(8,512)))", "int", 8, 512, None, True),
        ("width=range(16,65,16)", "int", 16, 64, 16, False),
        ("width=range(64,15,-16)", "int", 16, 64, 16, False),
        ("dropout=range(0,0.5,0.1)", "float", 0.0, 0.4, 0.1, False),
    ],
)
def test_numbers(read, text, kind, low, high, step, log):
    found = read(text)
    assert (found.kind, found.step, found.log) == (kind, step, log)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_choice_keeps_what_each_word_stands_for(read):
    found = read("remedy=none,[clip_norm,warmup],clip_value")
    assert found.words == ("none", "[clip_norm,warmup]", "clip_value")
    assert found.values == ("none", ["clip_norm", "warmup"], "clip_value")
    assert found.group
    assert found.word("[clip_norm,warmup]") == "remedy=[clip_norm,warmup]"
    momentum = read("optimizer.momentum=choice(0,0.9)")
    assert (momentum.words, momentum.values, momentum.group) == (("0", "0.9"), (0, 0.9), False)
    assert read("norm=glob(*_norm)").words == ("weight_norm",)


def test_numbers_are_such_as_a_person_would_write(read):
    rate = read("optimizer.lr=tag(log,interval(1e-4,0.99999))")
    assert rate.word(0.0331415926535) == "optimizer.lr=0.03314"
    assert rate.value(0.99999) == 0.99999  # never beyond the interval
    assert read("dropout=range(0,0.5,0.1)").value(0.30000000000000004) == 0.3


def test_a_grid_has_the_points_that_can_be_suggested(read):
    assert read("width=range(16,65,16)").points() == [16, 32, 48, 64]
    assert read("dropout=range(0,0.35,0.1)").points() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert read("depth=int(interval(2,4))").points() == [2, 3, 4]
    assert read("optimizer.lr=interval(0,1)").points() is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("activation=interval(0,1)", "activation is a choice between files and has no numbers; write activation=A,B,C"),
        ("optimizer.lr=interval(1,1)", "must go from a number to a greater one"),
        ("optimizer.lr=interval(2,1)", "must go from a number to a greater one"),
        ("optimizer.lr=tag(log,interval(0,1))", "a logarithmic interval must begin above 0"),
        ("optimizer.lr=tag(linear,interval(0,1))", "tag 'linear' says nothing here; allowed: log"),
        ("width=tag(log,range(1,100))", "steps are even, not logarithmic; write width=tag(log,interval(LOW,HIGH))"),
        ("width=range(1,2)", "has 1 values; a search needs at least two"),
        ("width=range(1,9,0)", "must not be zero"),
        ("activation=glob(nothing*)", "matches nothing"),
    ],
)
def test_what_cannot_be_searched_is_said_in_a_line(read, text, line):
    with pytest.raises(ConfigError) as refused:
        read(text)
    (said,) = refused.value.lines
    assert said.startswith(f"{text}: ")
    assert line in said
