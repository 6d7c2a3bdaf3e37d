"""The same numbers in six formats, whatever words are among them."""

import csv
import html.parser
import io
import re
import shutil
import subprocess

import pytest
import typst
from rich.console import Console

from gradflow.commands.table import show
from gradflow.results import formats
from gradflow.results.formats.markdown import escape
from gradflow.results.memory import Told
from gradflow.results.statistics.interval import Interval
from gradflow.results.table import Head, Line, Table, Wanted, make_table
from gradflow.runs.planfile import collect

HOSTILE = r"100%_a & b #1 $x^2$ {c} ~ \d | <script>alert(1)</script> 'q' " + '"r" é – Größe [x](y) *z* @a =1'


def about(mean, half, count):
    """A mean and Student's interval."""
    return Interval(mean, None if half is None else mean - half, None if half is None else mean + half, count, True)


@pytest.fixture
def table(records):
    for depth, ratio in ((2, 0.31), (10, 1.1e-25)):
        for seed, accuracy in enumerate((0.9512, 0.9312, 0.9768)):
            records.add(depth=depth, seed=seed, accuracy=accuracy / depth, ratio=ratio, verdict="vanishing")
    records.add(depth=30, state="missing")
    return make_table(collect(records.sweep()))


@pytest.fixture
def pivoted(records):
    """Depth × activation × norm with several statistics, cells that lack runs, a best one and one tied with it."""
    for activation, norm, base in (("relu", "none", 0.6), ("relu", "batch", 0.63), ("tanh", "none", 0.2)):
        for depth in (4, 40):
            for seed, noise in enumerate((-0.04, 0.01, 0.02)):
                state = (
                    "diverged" if (activation, depth) == ("tanh", 40) or (norm, seed) == ("batch", 0) else "completed"
                )
                own = 0.01 * (seed + depth) * (norm == "batch")
                labels = {"activation": activation, "norm": norm, "depth": depth, "seed": seed}
                records.add(state=state, accuracy=base + noise - own, **labels)
    wanted = Wanted(rows=["depth"], cols=["activation", "norm"], values=["metric"], statistics=["mean", "median"])
    return make_table(collect(records.sweep("two words")), None, wanted)


def test_markdown(table):
    assert formats.to_markdown(table).splitlines()[:5] == [
        "| depth | test accuracy | gradient ratio | verdict | runs |",
        "| --- | ---: | ---: | --- | --- |",
        "| 2 | **0.477 ± 0.028** | 3.1e-01 | vanishing | 3/3 |",
        "| 10 | 0.095 ± 0.006 | 1.1e-25 | vanishing | 3/3 |",
        "| 30 | missing | – | missing | 0/1 |",
    ]


def test_latex(table):
    text = formats.to_latex(table)
    head, _, body = text.partition("\\toprule\n")
    assert head.splitlines()[0].startswith(r"% needs \usepackage{booktabs,siunitx,graphicx}")
    assert head.splitlines()[1] == r"\begin{table}"
    assert r"\begin{tabular}{lS[table-format=1.3(2)]S[table-format=1.1e-2]ll}" in head
    assert body.splitlines()[1:5] == [
        r"\midrule",
        r"2 & \bfseries 0.477 +- 0.028 & 3.1e-1 & vanishing & 3/3 \\",
        r"10 & 0.095 +- 0.006 & 1.1e-25 & vanishing & 3/3 \\",
        r"30 & {missing} & {--} & missing & 0/1 \\",
    ]
    assert r"95 \% Student t interval over the seeds" in body
    assert "1 of 7 runs have no result" in body


class Cells(html.parser.HTMLParser):
    """The words of each cell of each row of the body, and every element seen."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.seen: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "caption"):
            self.words = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.words)

    def handle_data(self, data):
        self.words += data


def cells_of(text):
    parser = Cells()
    parser.feed(text)
    return parser


def terminal(table, width=200):
    with io.StringIO() as out:
        Console(file=out, width=width).print(formats.to_rich(table))
        return out.getvalue()


def test_every_format_shows_the_same_numbers(table):
    """What one shows the others show, but that CSV has it in full."""
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(table))))
    markdown = [line.strip("| ").split(" | ") for line in formats.to_markdown(table).splitlines()[2:5]]
    body = formats.to_latex(table).partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    latex = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()]
    page = cells_of(formats.to_html(table)).rows[1:4]
    typ = [line.strip().strip(",") for line in formats.to_typst(table).splitlines() if '/3"' in line or '/1"' in line]
    for row, line, shown, set_, web, source in zip(rows, table.lines, markdown, latex, page, typ, strict=True):
        assert row["depth"] == shown[0] == set_[0] == web[0]
        assert row["runs"] == shown[4] == set_[4] == web[4]
        mean = line.values["metric"]
        if isinstance(mean, Told):
            assert (row["test/accuracy"], row["test/accuracy n"], row["test/accuracy lacking"]) == ("", "0", "missing")
            assert (shown[1], set_[1], web[1]) == ("missing", "{missing}", "missing")
            continue
        figures = [float(row[f"test/accuracy{end}"]) for end in ("", " low", " high", " n")]
        assert figures == [mean.value, mean.low, mean.high, mean.count]  # in full
        words = f"{mean.value:.3f} ± {mean.half:.3f}"
        assert shown[1].strip("*") == words == web[1]
        assert set_[1].removeprefix(r"\bfseries ") == words.replace("±", "+-")
        assert words in terminal(table)
        assert f'"{words}"'.replace(" ", "\u00a0") in source
        assert (
            float(set_[2]) == float(shown[2]) == float(web[2]) == pytest.approx(float(row["gradient_ratio"]), rel=0.05)
        )


def test_a_pivoted_table_is_the_same_in_every_format(pivoted):
    """Its header of three lines, what does not enter, and the marks."""
    tied = {column for line in pivoted.lines for column, mark in line.marks.items() if mark == "tied"}
    assert {line.lacking.get("relu · batch · metric mean") for line in pivoted.lines} == {"1d"}
    assert tied
    assert cells_of(formats.to_html(pivoted)).rows[:3] == [
        ["depth", "relu", "tanh"],
        ["norm none", "batch", "norm none"],
        ["mean", "median"] * 3,
    ]
    head, *_ = formats.to_markdown(pivoted).splitlines()
    assert head.split(" | ")[1:3] == ["relu · norm none · mean", "relu · norm none · median"]
    row = list(csv.DictReader(io.StringIO(formats.to_csv(pivoted))))[1]
    assert row["depth"] == "40"
    assert row["tanh · norm none · test/accuracy mean lacking"] == "diverged 3/3"
    assert row["relu · batch · test/accuracy mean lacking"] == "1d"
    latex = formats.to_latex(pivoted)
    assert r" & \multicolumn{4}{c}{relu} & \multicolumn{2}{c}{tanh} \\" + "\n" + r"\cmidrule(lr){2-5}" in latex
    for written in (formats.to_markdown(pivoted), terminal(pivoted)):
        assert "¹ᵈ" in written
        assert "†" in written
    assert terminal(pivoted).count("*") == sum(m == "best" for line in pivoted.lines for m in line.marks.values())
    for line in pivoted.lines:
        for value in line.values.values():
            for written in (formats.to_markdown(pivoted), formats.to_html(pivoted), terminal(pivoted, 300)):
                words = formats.text(value)
                assert (words if written.startswith("<") or "───" in written else escape(words)) in written
            assert formats.text(value).replace(" ", "\u00a0") in formats.to_typst(pivoted)


def test_the_step_and_the_seconds_of_an_equal_comparison_head_their_columns_in_every_format(records, validated):
    validated({100: (1.0, 0.25), 200: (2.0, 0.5)}, 2.25, **{"trainer.max_time": "00:00:00:02"})
    validated({100: (0.1, 0.5), 200: (0.2, 0.75), 300: (0.3, 0.875)}, 0.3, seed=1, **{"trainer.max_time": None})
    table = make_table(collect(records.sweep()), ["trainer.max_time"])
    heads = "val accuracy at step 200", "val accuracy at 0.3 s"
    row = next(csv.DictReader(io.StringIO(formats.to_csv(table))))
    assert (row[heads[0]], row[f"{heads[1]}"], row[f"{heads[1]} n"]) == ("0.5", "", "0")
    assert f"| {heads[0]} | {heads[1]} |" in formats.to_markdown(table)
    assert r"0.750 & 0.875 & 300" in formats.to_latex(table).replace(r"\bfseries ", "")
    assert r"{\shortstack[r]{val \\ accuracy \\ at \\ 0.3 \\ s}}" in formats.to_latex(table)
    words = terminal(table, 150).split()
    assert words.count("200") == 2  # above its column, and the steps of the first run
    assert "1 of 2 had none by then" in formats.to_markdown(table)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (0.0, "0"),
        (1.6e-25, "1.6e-25"),
        (about(0.95, 0.021, 3), "0.950 ± 0.021"),
        (about(0.95, None, 1), "0.950"),
        (about(1234.56, 7.89, 3), "1234.6 ± 7.9"),
        (about(123456.7, 0.2, 3), "123457 ± 0"),
        (about(-0.25, 0.0, 2), "-0.250 ± 0.000"),
        (about(0.002, 0.5, 2), "0.002 ± 0.500"),
        (Interval(0.5, 0.25, 0.625, 3), "0.500 [0.250, 0.625]"),
        (Interval(0.5, None, None, 1), "0.500"),
        (Interval(0.001, 0.0, 0.012, 3), "0.001 [0.000, 0.012]"),
        (Interval(1e-5, 5e-6, 2e-5, 3), "1.0e-05 [5.0e-06, 2.0e-05]"),
        ("healthy 2/3", "healthy 2/3"),
    ],
    ids=str,
)
def test_a_value_as_a_person_reads_it(value, told):
    assert formats.text(value) == told


# --- hostile words ------------------------------------------------------------------------------------------------


def hostile_table() -> Table:
    lines = [
        Line({"activation": word, "x": x}, {"metric": about(0.5, 0.1, 2), "gradient_ratio": 0.0, "verdict": word})
        for word, x in ((HOSTILE, None), ("b", True), ("b", 2))
    ]
    columns = ["metric", "gradient_ratio", "verdict"]
    heads = {"metric": Head(HOSTILE, (HOSTILE,), HOSTILE)}
    return Table(HOSTILE, ["activation", "x"], columns, HOSTILE, lines, [HOSTILE, "a ÷ √2"], heads)


def test_markdown_takes_hostile_words_as_they_are():
    text = formats.to_markdown(hostile_table())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows] == [6] * 5
    first = re.split(r"(?<!\\)\|", rows[2])[1].strip()
    assert re.sub(r"\\(.)", r"\1", first) == HOSTILE
    assert not re.search(r"(?<!\\)[<\[*$]", text.replace("± ", ""))


def test_csv_cells_come_back_as_they_were():
    rows = list(csv.reader(io.StringIO(formats.to_csv(hostile_table()))))
    assert rows[0][2] == HOSTILE
    assert [(row[0], row[1]) for row in rows[1:]] == [(HOSTILE, ""), ("b", "True"), ("b", "2")]
    assert {len(row) for row in rows} == {8}


@pytest.mark.parametrize("word", ["=1+1", "+1", "-x", "@SUM(A1)", "\t=1"])
def test_no_word_is_a_formula_to_a_spreadsheet(word):
    table = Table("t", ["a"], ["m"], "m", [Line({"a": word}, {"m": about(-0.5, 0.1, 2)})], [])
    (row,) = list(csv.reader(io.StringIO(formats.to_csv(table))))[1:]
    assert (row[0], row[1]) == (f"'{word}", "-0.5")  # a number stays one


def test_html_takes_hostile_words_as_they_are():
    parser = cells_of(formats.to_html(hostile_table()))
    assert set(parser.seen) == {"table", "caption", "thead", "tr", "th", "tbody", "td", "tfoot", "small", "br"}
    assert HOSTILE in parser.rows[2]
    assert "<script" not in formats.to_html(hostile_table())


def test_a_terminal_is_commanded_by_no_word(capsys):
    word = "a\x1b]0;owned\x07b\u202ec [bold]d[/bold]\nnext"
    line = Line({"a": word}, {"m": word})
    show(Console(width=200), Table(word, ["a"], ["m"], "m", [line], [word]))
    said = capsys.readouterr().out
    assert not set(said) & {"\x1b", "\x07", "\u202e"}
    assert said.count("[bold]d[/bold] next") == 4


def compiled(source, folder):
    """The text of a typst document's page."""
    (folder / "page.typ").write_text(source, encoding="utf-8")
    pdf = typst.compile(str(folder / "page.typ"))
    assert pdf.startswith(b"%PDF")
    shown = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True, check=True)
    return shown.stdout.decode().replace("\u00a0", " ")


def test_a_typst_table_compiles_and_shows_its_numbers(required, pivoted, tmp_path):
    required(shutil.which("pdftotext") is not None, "pdftotext")
    page = compiled("#set page(width: 40cm)\n" + formats.to_typst(pivoted), tmp_path)
    for line in pivoted.lines:
        for value in line.values.values():
            assert formats.text(value) in page
    assert "two words" in page


def test_typst_takes_hostile_words_as_they_are(required, tmp_path):
    required(shutil.which("pdftotext") is not None, "pdftotext")
    page = compiled("#set page(width: 90cm)\n" + formats.to_typst(hostile_table()), tmp_path)
    assert page.count("<script>alert(1)</script>") == 6


@pytest.fixture
def pdflatex(required, tmp_path):
    """Compiles a table, with the packages that its first line names alone, and returns the text that TeX set."""
    required(shutil.which("pdflatex") is not None, "pdflatex")

    def compile_(*tables: str) -> str:
        (needed,) = {re.match(r"% needs (\\usepackage\{\S+\}),", table)[1] for table in tables}
        head = f"\\documentclass{{article}}\n{needed}\n\\begin{{document}}\n"
        (tmp_path / "paper.tex").write_text(head + "\n".join(tables) + "\\end{document}\n", encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
        )
        errors = [line for line in done.stdout.splitlines() if line.startswith(("!", "Overfull"))]
        assert (done.returncode, errors) == (0, [])
        if shutil.which("pdftotext") is None:
            return ""
        shown = subprocess.run(["pdftotext", "-raw", "paper.pdf", "-"], cwd=tmp_path, capture_output=True, text=True)
        return shown.stdout

    return compile_


def test_latex_tables_compile_and_show_their_numbers(pdflatex, table, pivoted):
    """Also one that is wider than the text, which is scaled to it."""
    page = pdflatex(formats.to_latex(table), formats.to_latex(pivoted))
    for each in (table, pivoted):
        for line in each.lines:
            for value in line.values.values():
                if isinstance(value, Interval) and page:
                    assert re.sub(r"[\s[]+", "", formats.text(value)) in re.sub(r"[\s[]+", "", page)


def test_any_word_in_a_latex_table_compiles(pdflatex):
    words = [*"\\&%$#_{}~^<>|\"'`·÷±√–é[]≥≤−τ²½ⁿ†Ω中\x1b", HOSTILE, "*", "[1]", "a\nb"]
    tables = [
        Table(word, ["a"], ["verdict"], word, [Line({"a": word}, {"verdict": word})] * 2, [word, "x"]) for word in words
    ]
    pdflatex("\\clearpage\n".join(formats.to_latex(table) for table in tables))


def test_the_files_of_a_real_sweep_hold_its_table(baseline, pdflatex):
    table = make_table(collect(baseline.folder))
    for name, write in (("md", formats.to_markdown), ("csv", formats.to_csv), ("tex", formats.to_latex)):
        assert (baseline.folder / f"results.{name}").read_text() == write(table)
    pdflatex((baseline.folder / "results.tex").read_text())


@pytest.mark.parametrize(
    ("values", "spec", "in_latex"),
    [
        ([about(0.847, 0.0214, 3)], "S[table-format=1.3(2)]", ["0.847 +- 0.021"]),
        (
            [about(0.847, 1.0214, 3), about(-12.0, 0.5, 2)],
            "S[table-format=-2.3(4)]",
            ["0.847 +- 1.021", "-12.000 +- 0.500"],
        ),
        ([about(754.0, None, 1)], "S[table-format=3.0]", ["754"]),
        ([about(2.5e-4, 1e-6, 3)], "r", [r"\(2.5\times10^{-4} \pm 1.0\times10^{-6}\)"]),
        ([Interval(0.5, 0.25, 0.75, 3)], "r", [r"\(0.500\;[0.250, 0.750]\)"]),
        ([1.1e-25, 0.0], "S[table-format=1.1e-2]", ["1.1e-25", "0"]),
        ([Told("≥ 200", 200.0), Told("20 (20–21)", 20.0)], "r", [r"\(\geq\) 200", "20 (20–21)"]),
    ],
)
def test_figures_of_one_form_are_aligned_by_siunitx(values, spec, in_latex):
    table = Table("t", ["a"], ["m"], "m", [Line({"a": i}, {"m": value}) for i, value in enumerate(values)], [])
    text = formats.to_latex(table)
    assert rf"\begin{{tabular}}{{l{spec}}}" in text
    for i, words in enumerate(in_latex):
        assert rf"{i} & {words} \\" in text


def test_the_terminal_s_table_is_whole_however_many_columns(capsys):
    """No number is cut and no column dropped where the terminal is narrower than the table."""
    columns = [f"figure_{i}" for i in range(12)]
    line = Line({"a": "word"}, {name: about(1234.5 + i, 0.25, 3) for i, name in enumerate(columns)})
    show(Console(width=60), Table("t", ["a"], columns, "m", [line], []))
    said = capsys.readouterr().out
    for i, name in enumerate(columns):
        assert name in said
        assert f"{1234.5 + i:.1f} ± 0.2" in said
