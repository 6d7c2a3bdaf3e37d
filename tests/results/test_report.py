"""The page: whole without a network, the numbers of its records, and no word of a record can be more than a word."""

import base64
import csv
import gzip
import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from gradflow.results import report
from gradflow.results.page import parts, thin
from gradflow.results.page.pack import packed
from gradflow.results.publish import publish
from gradflow.results.table import make_table
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json
from gradflow.runs.series import METRICS, Series

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;<!--"
SEPARATORS = "\u2028\u2029"  # which older JavaScript takes for the end of a line


class Page(HTMLParser):
    """The page as a browser takes it apart: its tags, boot data, and the parts unpacked."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(html)
        self.boot = json.loads(self._scripts["boot"])
        packed = {
            name[5:]: gzip.decompress(base64.b64decode(s)) for name, s in self._scripts.items() if name[:5] == "part:"
        }
        self.plotly = packed.pop("plotly")
        self.parts = {name: json.loads(text) for name, text in packed.items()}
        self.details = {
            k: v for name, part in self.parts.items() if name.startswith("details-") for k, v in part.items()
        }

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") if tag == "script" else None
        if self._script:
            self._scripts[self._script] = ""

    def handle_data(self, data):
        if self._script:
            self._scripts[self._script] += data

    def handle_endtag(self, tag):
        self._script = None if tag == "script" else self._script

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def column(self, key):
        """One value per run, None where there is none."""
        found = next(column for column in self.parts["runs"]["columns"] if column["key"] == key)
        return found.get("data") or [None if code < 0 else found["values"][code] for code in found["codes"]]

    def texts(self):
        return [[cell["t"] for cell in row] for row in self.parts["table"]["rows"]]


def page_of(folder) -> Page:
    return Page(publish(collect(folder), folder).page.read_text(encoding="utf-8"))


def plain_of(folder) -> Page:
    """Without the pictures, which take a while to draw."""
    collection = collect(folder)
    return Page(report.render(collection, make_table(collection), []))


def test_the_page_shows_the_table_the_pictures_and_every_run(records):
    for depth, ratio in ((2, 0.5), (10, 1.6e-25)):
        for seed in (0, 1):
            norms = {0: [ratio] + [1.0] * (depth - 1)}
            records.add(depth=depth, seed=seed, accuracy=0.9 - depth / 100 + seed / 50, ratio=ratio, norms=norms)
    records.add(depth=30, state="missing")
    records.add(depth=30, seed=1, state="failed", error="Traceback (most recent call last)\nValueError: five")
    folder = records.sweep("hand", "gradflow sweep depth=2,10,30 'seed=range(2)'")
    page = page_of(folder)
    assert (page.boot["title"], page.boot["summary"]) == ("hand", "6 runs: 4 completed, 1 failed, 1 missing")
    assert page.boot["command"] == "gradflow sweep depth=2,10,30 'seed=range(2)'"
    assert page.texts()[0][:1] == ["2"]
    assert page.texts()[0][1].startswith("0.890 ± 0.127")
    assert [row[2:] for row in page.texts()[:2]] == [["5.0e-01", "healthy", "2/2"], ["1.6e-25", "healthy", "2/2"]]
    assert page.texts()[2][3:] == ["failed 1/2, missing 1/2", "0/2"]
    with open(folder / "results.csv") as file:
        rows = list(csv.reader(file))[1:3]
    assert [float(row[1]) for row in rows] == [row[1]["v"] for row in page.parts["table"]["rows"][:2]]
    assert page.parts["runs"]["id"] == [f"{i:012x}" for i in range(6)]
    assert page.column("metric") == [0.88, 0.9, 0.8, 0.82, None, None]
    assert page.column("gradient_ratio") == [0.5, 0.5, 1.6e-25, 1.6e-25, None, None]
    assert page.column("state")[4:] == ["missing", "failed"]
    assert page.column("error")[5] == "ValueError: five"
    assert set(page.details) == set(page.parts["runs"]["id"])
    assert page.details["0" * 12]["heat"][0]["log10"] == [[-0.301], [0]]
    assert [picture["title"] for picture in page.boot["pictures"]] == [
        report.HEADINGS[name][0] for name in ("heatmap", "gradient_by_block")
    ]
    assert base64.b64decode(page.boot["pictures"][0]["png"]).startswith(b"\x89PNG")
    assert any("2 of 6 runs have no result" in note for note in page.boot["notes"])


def test_every_part_is_told_by_its_stamp_and_every_run_by_its_chunk(records, monkeypatch):
    monkeypatch.setattr(parts, "CHUNK", 2000)
    for i in range(8):
        records.add(seed=i // 2, depth=2 + i % 2)
    page = plain_of(records.sweep())
    assert set(page.boot["parts"]) == set(page.parts)
    assert {"runs", "table", "factors", "effects", "comparisons-depth"} < set(page.parts)
    chunks = page.parts["runs"]["chunk"]
    assert chunks == sorted(chunks)
    assert len(set(chunks)) > 1
    for run_id, chunk in zip(page.parts["runs"]["id"], chunks, strict=True):
        assert run_id in page.parts[f"details-{chunk}"]


def test_the_page_compares_at_equal_steps_and_at_equal_time(records, validated):
    for device, seconds in (("cpu", 8.0), ("cuda", 0.5)):
        curve = {100: (seconds / 2, 0.25), 200: (seconds, 0.75)}
        validated(curve, seconds, accuracy=0.5, hardware=f"{device} 32", **{"hardware.device": device})
    page = plain_of(records.sweep())
    head = [header["text"] for header in page.parts["table"]["headers"]]
    assert head[:4] == ["hardware", "test accuracy", "val accuracy at step 200", "val accuracy at 0.5 s"]
    cpu, cuda = page.texts()
    assert (cpu[0], cpu[2], cuda[0], cuda[2]) == ("cpu 32", "0.750", "cuda 32", "0.750")
    assert cuda[3].startswith("0.750")
    assert page.column("hardware") == ["cpu 32", "cuda 32"]


def test_a_hostile_word_stays_a_word_wherever_it_comes_from(records):
    words = {"activation": HOSTILE, "optimizer.lr": HOSTILE, "task": f"a {HOSTILE}{SEPARATORS}"}
    records.add(norms={0: [1.0, 1.0]}, verdict=HOSTILE, **words)
    records.add(state="failed", error=f"Traceback\n{HOSTILE}")
    broken = records.add(seed=2)
    (broken / "status.json").write_text("{")
    alien = records.add(seed=3)
    status = json.loads((alien / "status.json").read_text())
    write_json(alien / "status.json", {**status, "title": HOSTILE})
    (alien / "overrides.yaml").write_text(json.dumps([HOSTILE]))
    folder = records.sweep(HOSTILE.replace("/", ""), f"gradflow sweep '{HOSTILE}'")
    harmless = plain_of(records.sweep("harmless"))
    page = plain_of(folder)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]  # the page's own, and no other
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.column("activation")
    assert HOSTILE in page.column("title")
    assert HOSTILE in page.column("error")
    assert HOSTILE in page.details[alien.name]["command"].replace("'\"'\"'", "'")
    assert page.boot["title"] == HOSTILE.replace("/", "")
    assert str(broken / "status.json") in page.boot["problems"][0]
    html = report.render(collect(folder), make_table(collect(folder)), [])
    assert not set(SEPARATORS) & set(html)
    assert "alert('x')</script>" not in html


def test_the_page_needs_no_network(baseline):
    page = Page((baseline.folder / "report.html").read_text(encoding="utf-8"))
    loads = [a[name] for tag, a in page.tags for name in ("src", "href", "srcset", "action", "data") if a.get(name)]
    assert [source for source in loads if not source.startswith(("data:", "#"))] == []
    assert page.count("iframe") == page.count("object") == page.count("embed") == 0
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert b"plotly.js" in page.plotly[:300]


def test_a_real_run_is_told_to_the_digit(baseline):
    """A sweep that was trained: every logged number of its parquet files is in the page, and its results' own."""
    page = Page((baseline.folder / "report.html").read_text(encoding="utf-8"))
    assert list(page.details) == baseline.run_ids
    for run_id, found in page.details.items():
        path = baseline.shell.runs / run_id
        result = json.loads((path / "result.json").read_text())
        metrics = pq.read_table(path / "metrics.parquet").to_pylist()
        for curve in found["curves"]:
            rows = [row for row in metrics if f"{row['split']}/{row['name']}" == curve["name"]]
            assert [row["step"] for row in rows] == curve["steps"]
            assert [row["value"] for row in rows] == pytest.approx(curve["values"], rel=1e-3)
        rows = pq.read_table(path / "gradflow.parquet").to_pylist()
        for heat in found["heat"]:
            norms = [r for r in rows if r["quantity"] == heat["quantity"] and r["block"] is not None]
            assert len(norms) == sum(map(len, heat["log10"])) > 0
            for row in norms:
                shown = heat["log10"][heat["blocks"].index(row["block"])][heat["steps"].index(row["step"])]
                assert shown == pytest.approx(math.log10(row["value"]), abs=5e-4)
        assert found["metrics"] == pytest.approx(result["metrics"], rel=1e-5)
        assert found["diagnosis"]["verdict"] == result["verdict"]
        assert [sign["name"] for sign in found["diagnosis"]["signs"]] == [sign["name"] for sign in result["signs"]]
        assert found["cost"]["parameters"] == pytest.approx(result["cost"]["parameters"], rel=1e-3)
        assert found["config"]["seed"] == result["labels"]["seed"]


def test_no_secret_is_in_a_page(baseline, secrets):
    page = Page((baseline.folder / "report.html").read_text(encoding="utf-8"))
    text = json.dumps([page.boot, page.parts])
    assert [name for name, secret in secrets.items() if secret in text] == []
    assert str(baseline.shell.runs) not in text


def test_everything_is_published_into_one_folder_and_again_without_change(records):
    records.add(norms={0: [1.0, 2.0]})
    folder = records.sweep()
    published = publish(collect(folder), folder)
    names = [file.name for file in published.files]
    assert {"results.csv", "results.md", "results.tex", "heatmap.png", "heatmap.svg", "report.html"} <= set(names)
    before = {name: (folder / name).read_bytes() for name in names}
    assert all(before.values())
    publish(collect(folder), folder)
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_pictures_drawn_by_other_processes_are_those_drawn_here(records, tmp_path):
    records.add(norms={0: [1.0, 2.0], 10: [1.0, 3.0]})
    collection = collect(records.sweep())
    here, there = (publish(collection, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert [file.name for file in there.files] == [file.name for file in here.files]
    assert {file.name for file in there.files} >= {"heatmap.png", "heatmap.svg"}
    for mine, other in zip(here.files, there.files, strict=True):
        assert mine.read_bytes() == other.read_bytes(), mine.name


def test_the_same_records_give_the_same_bytes_elsewhere_and_in_several_processes(records, tmp_path, monkeypatch):
    for seed in range(6):
        norms = {step: [0.1 * (seed + 1), 2.0, 3.0] for step in range(0, 100, 10)}
        records.add(seed=seed, depth=2 + seed % 2, accuracy=seed / 10, norms=norms)
    folder = records.sweep()
    collection = collect(folder)
    first = report.render(collection, make_table(collection), [])
    other = tmp_path / "elsewhere"
    for name in ("runs", "sweeps"):
        shutil.copytree(tmp_path / name, other / name)
    moved = collect(other / "sweeps" / folder.name)
    monkeypatch.setattr(parts, "MANY", 1)
    counted = []
    again = report.render(moved, make_table(moved), [], lambda *count: counted.append(count), workers=2)
    assert again == first
    assert counted == [(done, 6) for done in range(1, 7)]


def test_a_new_run_is_in_the_page_when_it_is_published_again(records):
    records.add(norms={0: [1.0, 2.0]})
    folder = records.sweep()
    before = page_of(folder)
    records.add(activation="tanh", norms={0: [1.0, 2.0]})
    after = page_of(records.sweep())
    assert len(after.details) == len(before.details) + 1
    assert after.boot["stamp"] != before.boot["stamp"]
    assert after.boot["pictures"] != before.boot["pictures"]


@pytest.mark.parametrize("state", ["missing", "failed"])
def test_a_sweep_without_any_result_has_a_page_all_the_same(records, state):
    records.add(state=state)
    page = page_of(records.sweep())
    assert page.texts()[0][-2:] == [state, "0/1"]
    assert page.boot["pictures"] == []
    assert "effects" not in page.parts  # there is nothing to say


def test_the_page_shows_the_time_axis_and_its_pictures(records, recurrent, remembered):
    profile = {0: [0.1, 0.5, 1.0], 20: [0.9, 0.9, 1.0]}
    for cell, reach in (("lstm", None), ("rnn", 12)):
        solved = {"solved": {"criterion": "mse ≤ 0.05", "step": 20 if cell == "lstm" else None}}
        recurrent(profile, {10: 0.2, 20: 0.04}, remembered(reach) | solved, cell=cell)
    reservoir = {"no_gradient": "the reservoir is not trained: no gradient flows through time", "solved": None}
    recurrent(None, {10: 0.2, 20: 0.18}, reservoir | {"verdict": "gradient-free"}, cell=None)
    page = page_of(records.sweep())
    heads = [header["text"] for header in page.parts["table"]["headers"]]
    assert heads == ["network", "test mse", "chance", "solved", "memory horizon", "verdict", "runs"]
    assert [row[0] for row in page.texts()] == page.column("network") == ["lstm", "rnn", "esn"]
    assert [row[3:6] for row in page.texts()] == [
        ["step 20", "≥ 100", "healthy"],
        ["no", "12", "healthy"],
        ["–", "no gradient", "gradient-free"],
    ]
    titles = [picture["title"] for picture in page.boot["pictures"]]
    assert {report.HEADINGS["time_gradient"][0], report.HEADINGS["curves"][0]} <= set(titles)
    maps = page.details["0" * 12]["time"]
    assert next(m for m in maps if (m["layer"], m["quantity"]) == ("blocks.0", "time_grad_h"))["log10"] == [
        [-1, pytest.approx(math.log10(0.9), abs=5e-4)],
        [pytest.approx(math.log10(0.5), abs=5e-4), pytest.approx(math.log10(0.9), abs=5e-4)],
        [0, 0],
    ]


def test_a_page_of_many_runs_stays_small(records):
    """16 runs with noise in every digit, thinned as those of so many are, and what they take times so many."""
    random = np.random.default_rng(0)
    for seed in range(16):
        norms = {step: random.lognormal(0, 5, 40).tolist() for step in range(0, 1000, 25)}
        path = records.add(seed=seed, depth=40, norms=norms, accuracy=random.uniform(), ratio=random.lognormal())
        series = Series(path / "metrics.parquet", METRICS)
        for step in range(0, 1000, 10):
            series.add(step=step, epoch=0, split="train", name="loss", value=random.lognormal())
        series.write()
        (path / "overrides.yaml").write_text(json.dumps([f"seed={seed}", "depth=40", "trainer.max_steps=1000"]))
        config = {f"group{i % 9}": {f"key{i}": i} for i in range(90)} | {"seed": seed}
        (path / "config.yaml").write_text(json.dumps(config))
    collection = collect(records.sweep())
    table = make_table(collection)
    html = report.render(collection, table, [])
    rest = len(html) - sum(map(len, re.findall(r'id="part:(?:details-\d+|runs)">([\w+/=]*)<', html)))
    rest += 5 * comparisons_size() + 2_500_000  # five factors and the pictures
    for runs, megabytes in ((300, 8), (10_000, 20)):
        tasks = parts.Tasks(collection, parts.plan_of(collection), thin.numbers(runs))
        chunks, made = parts.in_chunks(list(collection.planned), parts.all_details(tasks))
        columns = json.dumps(parts.part("runs", collection, table, chunks))
        each = (sum(len(packed(part)) for part in made.values()) + len(packed(columns.encode()))) / 16
        assert rest + runs * each < megabytes * 1e6
        assert each > 500  # and the room is used


def comparisons_size() -> int:
    """Of a factor's comparisons with as many pairs of runs as are listed."""
    from gradflow.results.page.analysis import MOST_PAIRS

    random = np.random.default_rng(1)
    pairs = [
        {"run_a": f"{random.integers(2**48):012x}", "run_b": f"{random.integers(2**48):012x}", "a": a, "b": b}
        for a, b in random.uniform(size=(MOST_PAIRS, 2)).round(6).tolist()
    ]
    return len(packed(json.dumps(pairs).encode()))
