"""The page: whole without a network, and no word of a record can be more than a word."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from gradflow.results.publish import publish
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"


class Page(HTMLParser):
    """Tags with their attributes, the texts of table cells, and all text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(dict(attrs)["id"], [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text += data
            if {"td", "th"} & set(self._inside):
                self._table[-1][-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def page_of(folder) -> Page:
    return Page(publish(collect(folder), folder).page.read_text(encoding="utf-8"))


def test_the_page_shows_the_table_the_picture_and_every_run(records):
    for depth, ratio in ((2, 0.5), (10, 1.6e-25)):
        for seed in (0, 1):
            norms = {0: [ratio] + [1.0] * (depth - 1)}
            records.add(depth=depth, seed=seed, accuracy=0.9 - depth / 100 + seed / 50, ratio=ratio, norms=norms)
    records.add(depth=30, state="missing")
    records.add(depth=30, seed=1, state="failed", error="Traceback (most recent call last)\nValueError: five")
    page = page_of(records.sweep("hand", "gradflow sweep depth=2,10,30 'seed=range(2)'"))
    assert "6 runs: 4 completed, 1 failed, 1 missing" in page.text
    assert "gradflow sweep depth=2,10,30 'seed=range(2)'" in page.text
    assert page.tables["results"] == [
        ["depth", "test accuracy", "gradient ratio", "verdict", "runs"],
        ["2", "0.890 ± 0.127", "5.0e-01", "healthy", "2/2"],
        ["10", "0.810 ± 0.127", "1.6e-25", "healthy", "2/2"],
        ["30", "–", "–", "failed 1/2, missing 1/2", "0/2"],
    ]
    assert page.tables["runs"][0] == [
        *("run", "depth", "seed", "state", "metric", "gradient ratio", "verdict", "seconds")
    ]
    assert page.tables["runs"][4] == ["0" * 11 + "3", "10", "1", "completed", "0.820", "1.6e-25", "healthy", "1.5"]
    assert [row[3] for row in page.tables["runs"][5:]] == ["missing", "failed"]
    assert ("ValueError: five") in [attributes.get("title") for _, attributes in page.tags]
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2  # the heat map and the gradient by block
    assert base64.b64decode(sources[0].partition("base64,")[2]).startswith(b"\x89PNG")
    assert "2 of 6 runs have no result" in page.text


def test_the_page_compares_at_equal_steps_and_at_equal_time(records, validated):
    for device, seconds in (("cpu", 8.0), ("cuda", 0.5)):
        curve = {100: (seconds / 2, 0.25), 200: (seconds, 0.75)}
        validated(curve, seconds, accuracy=0.5, hardware=f"{device} 32", **{"hardware.device": device})
    page = page_of(records.sweep())
    head, cpu, cuda = page.tables["results"]
    assert head[:4] == ["hardware", "test accuracy", "val accuracy at step 200", "val accuracy at 0.5 s"]
    assert (cpu[:4], cuda[:4]) == (["cpu 32", "0.500", "0.750", "–"], ["cuda 32", "0.500", "0.750", "0.750"])
    assert page.tables["runs"][0][1] == "hardware"
    assert "1 of 2 had none by then" in page.text


def test_a_hostile_word_stays_a_word_wherever_it_comes_from(records):
    words = {"activation": HOSTILE, "optimizer.lr": HOSTILE, "task": f"a {HOSTILE}"}
    records.add(norms={0: [1.0, 1.0]}, verdict=HOSTILE, **words)
    records.add(state="failed", error=f"Traceback\n{HOSTILE}")
    broken = records.add(seed=2)
    (broken / "status.json").write_text("{")
    alien = records.add(seed=3)
    status = json.loads((alien / "status.json").read_text())
    write_json(alien / "status.json", {**status, "title": HOSTILE})
    page = page_of(records.sweep(HOSTILE.replace("/", ""), f"gradflow sweep '{HOSTILE}'"))
    assert (page.count("script"), page.count("img")) == (1, 2)  # the page's own
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.text
    assert HOSTILE in [attributes.get("title") for _, attributes in page.tags]
    assert str(broken / "status.json") in page.text


def test_the_page_needs_no_network(baseline):
    html = (baseline.folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"(?i)(?:https?:)?//[\w.-]+\.\w+", re.sub(r"base64,[^\"]*", "", html)) == []
    page = Page(html)
    loads = [a[name] for tag, a in page.tags for name in ("src", "href", "srcset", "action", "data") if a.get(name)]
    assert all(source.startswith("data:image/png;base64,") for source in loads)
    assert len(loads) == 3  # the heat map, the gradient by block and the learning curves
    assert page.count("link") == page.count("iframe") == 0
    assert "@import" not in html
    assert "url(" not in html


def test_everything_is_published_into_one_folder_and_again_without_change(records):
    records.add(norms={0: [1.0, 2.0]})
    folder = records.sweep()
    published = publish(collect(folder), folder)
    pictures = [f"{name}.{kind}" for name in ("heatmap", "gradient_by_block") for kind in ("png", "svg")]
    names = ["results.csv", "results.md", "results.tex", *pictures, "report.html"]
    assert [file.name for file in published.files] == names
    before = {name: (folder / name).read_bytes() for name in names}
    assert all(before.values())
    publish(collect(folder), folder)
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_a_new_run_is_in_the_picture_when_it_is_published_again(records):
    records.add(norms={0: [1.0, 2.0]})
    folder = records.sweep()
    publish(collect(folder), folder)
    before = (folder / "heatmap.png").read_bytes()
    records.add(activation="tanh", norms={0: [1.0, 2.0]})
    records.sweep()
    publish(collect(folder), folder)
    assert (folder / "heatmap.png").read_bytes() != before


@pytest.mark.parametrize("state", ["missing", "failed"])
def test_a_sweep_without_any_result_has_a_page_all_the_same(records, state):
    records.add(state=state)
    page = page_of(records.sweep())
    assert page.tables["results"][1][1:] == ["–", "–", state, "0/1"]
    assert page.count("img") == 0


def test_the_page_shows_the_time_axis_and_its_pictures(records, recurrent, remembered):
    profile = {0: [0.1, 0.5, 1.0], 20: [0.9, 0.9, 1.0]}
    for cell, reach in (("lstm", None), ("rnn", 12)):
        solved = {"solved": {"criterion": "mse ≤ 0.05", "step": 20 if cell == "lstm" else None}}
        recurrent(profile, {10: 0.2, 20: 0.04}, remembered(reach) | solved, cell=cell)
    reservoir = {"no_gradient": "the reservoir is not trained: no gradient flows through time", "solved": None}
    recurrent(None, {10: 0.2, 20: 0.18}, reservoir | {"verdict": "gradient-free"}, cell=None)
    folder = records.sweep()
    names = [file.name for file in publish(collect(folder), folder).files]
    assert names[3:-1] == ["time_gradient.png", "time_gradient.svg", "curves.png", "curves.svg"]
    page = page_of(folder)
    assert page.tables["results"] == [
        ["network", "test mse", "chance", "solved", "memory horizon", "verdict", "runs"],
        ["lstm", "0.040", "0.167", "step 20", "≥ 100", "healthy", "1/1"],
        ["rnn", "0.040", "0.167", "no", "12", "healthy", "1/1"],
        ["esn", "0.180", "0.167", "–", "no gradient", "gradient-free", "1/1"],
    ]
    assert page.tables["runs"][0][3:7] == ["state", "metric", "solved", "memory horizon"]
    assert page.tables["runs"][3][3:7] == ["completed", "0.180", "–", "no gradient"]
    assert [attributes["alt"].split(",")[0] for tag, attributes in page.tags if tag == "img"] == [
        "Norm of the gradient with respect to the state of the first block at every step of a sequence",
        "Validation metric over training steps",
    ]
    assert any("gradient-free" in (attributes.get("class") or "") for _, attributes in page.tags)


def test_a_hostile_network_stays_a_word(records, recurrent, remembered):
    recurrent({0: [0.1, 1.0]}, {10: 0.2, 20: 0.1}, remembered(3), cell=HOSTILE)
    why = {"solved": {"criterion": HOSTILE, "step": None}, "no_gradient": HOSTILE}
    recurrent(None, {10: 0.2, 20: 0.1}, why, cell="lstm")
    page = page_of(records.sweep())
    assert (page.count("script"), page.count("img")) == (1, 2)
    assert HOSTILE in page.text
