"""What can be asked of `gradflow table`, and what it says to what makes no sense."""

import pytest

from gradflow.cli import main
from gradflow.results import formats
from gradflow.results.kinds.aggregate import make_aggregate
from gradflow.results.kinds.asked import Asked
from gradflow.results.table import Wanted, make_table
from gradflow.runs.planfile import collect


@pytest.fixture
def table(capsys):
    """Types `gradflow table …`: exit code, what was said, and what was said of mistakes."""

    def type_(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["table", *map(str, words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return int(caught.value.code or 0), said.out, said.err

    return type_


@pytest.fixture
def sweep(records):
    for task in ("digits", "mnist"):
        for depth in (2, 40):
            for activation, accuracy in (("relu", 0.7), ("tanh", 0.6)):
                for seed in range(3):
                    shown = accuracy - depth / 100 + 0.01 * ((seed * 7 + depth + len(task)) % 5)
                    records.add(task=task, depth=depth, activation=activation, seed=seed, accuracy=shown)
    return records.sweep()


PIVOT = ("--rows", "task,depth", "--cols", "activation", "--value", "test/accuracy", "--stat", "iqm")


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_a_file_is_in_the_format_of_its_name(table, sweep, tmp_path, suffix):
    file = tmp_path / f"results{suffix}"
    assert table(sweep, *PIVOT, "--out", file) == (0, f"{file}\n", "")
    wanted = Wanted(["task", "depth"], ["activation"], ["test/accuracy"], ["iqm"])
    expected = formats.WRITERS[formats.SUFFIXES[suffix]](make_table(collect(sweep), None, wanted))
    assert file.read_text() == expected == table(sweep, *PIVOT, "--format", formats.SUFFIXES[suffix])[1]


@pytest.mark.parametrize("kind", ["results", "pairs", "aggregate", "ranks", "profiles"])
def test_every_kind_is_shown(table, sweep, kind):
    code, said, _ = table(sweep, "--kind", kind)
    assert code == 0
    assert "relu" in said
    assert "tanh" in said


def test_runs_can_be_chosen_and_techniques_named(table, sweep):
    words = (
        "--kind",
        "aggregate",
        "--by",
        "activation",
        "--rows",
        "depth",
        "--reference",
        "mnist=0.8",
        "--format",
        "csv",
    )
    said = table(sweep, *words, "--where", "task=mnist")[1]
    assert [line.split(",")[:2] for line in said.splitlines()[1:]] == [
        *(["2", "relu"], ["2", "tanh"], ["40", "relu"], ["40", "tanh"])
    ]
    both = make_aggregate(collect(sweep), Asked(["activation"], ["depth"], references={"mnist": 0.8}))
    assert table(sweep, *words)[1] == formats.to_csv(both) != said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rows", "dpeth"], "--rows dpeth: unknown; allowed: activation, depth, "),
        (["--cols", "nrom"], "--cols nrom: unknown; "),
        (["--value", "test/acuracy"], "--value test/acuracy: unknown; "),
        (["--stat", "men"], "--stat men: unknown; allowed: iqm, mean, median, range; did you mean 'mean'?"),
        (["--kind", "pairs", "--by", "actvation"], "--by actvation: unknown; "),
        (["--kind", "pairs", "--cols", "depth"], "--cols: has no meaning for --kind pairs, only for results"),
        (["--reference", "mnist=1"], "--reference: has no meaning for --kind results, only for aggregate and profiles"),
        (["--kind", "ranks", "--value", "metric,val/loss"], "--value metric,val/loss: --kind ranks is of one figure"),
        (
            ["--kind", "aggregate", "--reference", "minst=1"],
            "--reference minst: unknown task; allowed: digits, mnist; ",
        ),
        (["--kind", "aggregate", "--reference", "mnist=x"], "--reference mnist=x: must be TASK=NUMBER"),
        (["--kind", "aggregate", "--reference", "mnist"], "--reference mnist: must be TASK=NUMBER"),
        (["--out", "x.pdf"], "--out x.pdf: no format is known by .pdf; allowed: .csv, .html, .md, .tex, .typ"),
        (["--out", "x.md", "--format", "csv"], "--out x.md: says md, but --format csv"),
        (["--out", "nowhere/x.md"], "--out nowhere/x.md: no folder nowhere"),
        (["--where", "depth=3"], "--where depth=3: no such run; allowed: 2, 40"),
        (["--kind", "profile"], "did you mean 'profiles'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_leaves_with_2_and_a_line(table, sweep, words, told):
    code, said, err = table(sweep, *words)
    assert (code, said) == (2, "")
    assert told in err
