"""The same numbers in Markdown, CSV, LaTeX and on a terminal, whatever words are among them."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from rich.console import Console

from gradflow.commands.table import show
from gradflow.results import formats
from gradflow.results.estimate import Estimate
from gradflow.results.table import Line, Table, make_table
from gradflow.runs.planfile import collect

HOSTILE = r"100%_a & b #1 $x^2$ {c} ~ \d | <script>alert(1)</script> 'q' " + '"r" é – Größe'


@pytest.fixture
def table(records):
    for depth, ratio in ((2, 0.31), (10, 1.1e-25)):
        for seed, accuracy in enumerate((0.9512, 0.9312, 0.9768)):
            records.add(depth=depth, seed=seed, accuracy=accuracy / depth, ratio=ratio, verdict="vanishing")
    records.add(depth=30, state="missing")
    return make_table(collect(records.sweep()))


def test_markdown(table):
    assert formats.to_markdown(table).splitlines()[:5] == [
        "| depth | test accuracy | gradient ratio | verdict | runs |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| 2 | 0.477 ± 0.028 | 3.1e-01 | vanishing | 3/3 |",
        "| 10 | 0.095 ± 0.006 | 1.1e-25 | vanishing | 3/3 |",
        "| 30 | – | – | missing | 0/1 |",
    ]


def test_latex(table):
    text = formats.to_latex(table)
    head, _, body = text.partition("\\toprule\n")
    assert head.startswith("\\begin{table}\n")
    assert r"\begin{tabular}{lrrll}" in head
    assert body.splitlines()[:5] == [
        r"depth & test accuracy & gradient ratio & verdict & runs \\",
        r"\midrule",
        r"2 & \(0.477 \pm 0.028\) & \(3.1\times10^{-1}\) & vanishing & 3/3 \\",
        r"10 & \(0.095 \pm 0.006\) & \(1.1\times10^{-25}\) & vanishing & 3/3 \\",
        r"30 & -- & -- & missing & 0/1 \\",
    ]
    assert r"95 \% Student t interval over the seeds" in head
    assert "1 of 7 runs have no result" in head


def test_every_format_shows_the_same_numbers(table):
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(table))))
    markdown = [line.strip("| ").split(" | ") for line in formats.to_markdown(table).splitlines()[2:5]]
    body = formats.to_latex(table).partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    latex = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()]
    with io.StringIO() as out:
        Console(file=out, width=100).print(formats.to_rich(table))
        terminal = out.getvalue()
    assert [row["depth"] for row in rows] == [m[0] for m in markdown] == [cells[0] for cells in latex]
    for row, line, shown, set_ in zip(rows, table.lines, markdown, latex, strict=True):
        mean = line.values["metric"]
        if mean is None:
            assert (row["test/accuracy"], row["test/accuracy n"], shown[1], set_[1]) == ("", "0", "–", "--")
            continue
        figures = float(row["test/accuracy"]), float(row["test/accuracy low"]), float(row["test/accuracy high"])
        assert figures == (mean.mean, mean.mean - mean.half, mean.mean + mean.half)  # in full
        assert shown[1] == f"{mean.mean:.3f} ± {mean.half:.3f}"
        assert set_[1] == rf"\({mean.mean:.3f} \pm {mean.half:.3f}\)"
        assert shown[1] in terminal
        ratio = float(row["gradient_ratio"])
        assert float(shown[2]) == pytest.approx(ratio, rel=0.05)
        mantissa, exponent = re.fullmatch(r"\\\((.+)\\times10\^\{(.+)\}\\\)", set_[2]).groups()
        assert float(f"{mantissa}e{exponent}") == float(shown[2])
        assert row["runs"] == shown[4] == set_[4]


def test_the_step_and_the_seconds_of_an_equal_comparison_head_their_columns_in_every_format(records, validated):
    validated({100: (1.0, 0.25), 200: (2.0, 0.5)}, 2.25, **{"trainer.max_time": "00:00:00:02"})
    validated({100: (0.1, 0.5), 200: (0.2, 0.75), 300: (0.3, 0.875)}, 0.3, seed=1, **{"trainer.max_time": None})
    table = make_table(collect(records.sweep()), ["trainer.max_time"])
    heads = "val accuracy at step 200", "val accuracy at 0.3 s"
    row = next(csv.DictReader(io.StringIO(formats.to_csv(table))))
    assert (row[heads[0]], row[f"{heads[1]}"], row[f"{heads[1]} n"]) == ("0.5", "", "0")
    assert f"| {heads[0]} | {heads[1]} |" in formats.to_markdown(table)
    assert r"\(0.750\) & \(0.875\) & \(300\)" in formats.to_latex(table)
    assert f" & {heads[0]} & {heads[1]} & steps & cost/train\\_seconds & " in formats.to_latex(table)
    with io.StringIO() as out:
        Console(file=out, width=150).print(formats.to_rich(table))
        words = out.getvalue().split()
    assert words.count("200") == 2  # above its column, and the steps of the first run
    assert "1 of 2 had none by then" in formats.to_markdown(table)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (0.0, "0"),
        (1.6e-25, "1.6e-25"),
        (Estimate(0.95, 0.021, 3), "0.950 ± 0.021"),
        (Estimate(0.95, None, 1), "0.950"),
        (Estimate(1234.56, 7.89, 3), "1234.6 ± 7.9"),
        (Estimate(123456.7, 0.2, 3), "123457 ± 0"),
        (Estimate(-0.25, 0.0, 2), "-0.250 ± 0.000"),
        ("healthy 2/3", "healthy 2/3"),
    ],
    ids=str,
)
def test_a_value_as_a_person_reads_it(value, told):
    assert formats.text(value) == told


def hostile_table() -> Table:
    lines = [
        Line({"activation": word, "x": x}, {"metric": Estimate(0.5, 0.1, 2), "gradient_ratio": 0.0, "verdict": word})
        for word, x in ((HOSTILE, None), ("b", True), ("b", 2))
    ]
    return Table(
        HOSTILE, ["activation", "x"], ["metric", "gradient_ratio", "verdict"], HOSTILE, lines, [HOSTILE, "a ÷ √2"]
    )


def test_markdown_cells_keep_their_bars_and_backslashes_to_themselves():
    rows = [line for line in formats.to_markdown(hostile_table()).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows] == [6] * 5
    first = re.split(r"(?<!\\)\|", rows[2])[1].strip()
    assert first.replace("\\|", "|").replace("\\\\", "\\") == HOSTILE


def test_csv_cells_come_back_as_they_were():
    rows = list(csv.reader(io.StringIO(formats.to_csv(hostile_table()))))
    assert rows[0][2] == HOSTILE
    assert [(row[0], row[1]) for row in rows[1:]] == [(HOSTILE, ""), ("b", "True"), ("b", "2")]
    assert {len(row) for row in rows} == {8}


@pytest.fixture
def pdflatex(required, tmp_path):
    """Compiles a table, with booktabs alone, and returns the text that TeX set."""
    required(shutil.which("pdflatex") is not None, "pdflatex")

    def compile_(table: str) -> str:
        head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        (tmp_path / "paper.tex").write_text(head + table + "\\end{document}\n", encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
        )
        errors = [line for line in done.stdout.splitlines() if line.startswith("!")]
        assert (done.returncode, errors) == (0, [])
        assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
        return done.stdout

    return compile_


def test_a_latex_table_compiles_with_booktabs_alone(pdflatex, table):
    assert "Output written on paper.pdf (1 page" in pdflatex(formats.to_latex(table))


@pytest.mark.parametrize("word", [*"\\&%$#_{}~^<>|\"'`·÷±√–é", "Ω", HOSTILE], ids=str)
def test_any_word_in_a_latex_table_compiles(pdflatex, word):
    table = Table(word, ["a"], ["verdict"], word, [Line({"a": word}, {"verdict": word})], [word])
    pdflatex(formats.to_latex(table))


def test_the_files_of_a_real_sweep_hold_its_table(baseline, pdflatex):
    table = make_table(collect(baseline.folder))
    for name, write in (("md", formats.to_markdown), ("csv", formats.to_csv), ("tex", formats.to_latex)):
        assert (baseline.folder / f"results.{name}").read_text() == write(table)
    pdflatex((baseline.folder / "results.tex").read_text())


@pytest.mark.parametrize(
    ("value", "shown", "in_latex"),
    [
        (Estimate(0.847, 0.0214, 3), "0.847 ± 0.021", r"\(0.847 \pm 0.021\)"),
        (Estimate(2.5e-4, 1e-6, 3), "2.5e-04 ± 1.0e-06", r"\(2.5\times10^{-4} \pm 1.0\times10^{-6}\)"),
        (Estimate(0.0, 0.0, 2), "0.000 ± 0.000", r"\(0.000 \pm 0.000\)"),
        (Estimate(754.0, None, 1), "754", r"\(754\)"),
    ],
)
def test_small_means_keep_their_digits_and_counts_are_whole(value, shown, in_latex):
    assert formats.text(value) == shown
    table = Table("t", ["a"], ["m"], "m", [Line({"a": 1}, {"m": value})], [])
    assert in_latex in formats.to_latex(table)


def test_the_terminal_s_table_is_whole_however_many_columns(capsys):
    """No number is cut and no column dropped where the terminal is narrower than the table."""
    columns = [f"figure_{i}" for i in range(12)]
    line = Line({"a": "word"}, {name: Estimate(1234.5 + i, 0.25, 3) for i, name in enumerate(columns)})
    show(Console(width=60), Table("t", ["a"], columns, "m", [line], []))
    said = capsys.readouterr().out
    for i, name in enumerate(columns):
        assert name in said
        assert f"{1234.5 + i:.1f} ± 0.2" in said
