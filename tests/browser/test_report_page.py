"""The page in a real browser: its tables sort by click and by key, numbers as numbers."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from gradflow.results.publish import publish
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser(required):
    required(CHROMIUM.exists(), str(CHROMIUM))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def page(browser, records):
    """A page with ratios of every size; afterwards nothing may have been said on the console or asked of a network."""
    ratios = {2: 1.0, 10: 2e-8, 30: 1.6e-25, 100: 0.0, 4: 30.0, 5: None}
    for depth, ratio in ratios.items():
        state = "missing" if ratio is None else "completed"
        records.add(depth=depth, ratio=ratio, accuracy=depth / 200, state=state, verdict="healthy")
    records.add(depth=7, ratio=5e-3, accuracy=7 / 200, verdict="<script>alert(1)</script>")
    folder = records.sweep("<b>bold</b>")
    opened = browser.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(publish(collect(folder), folder).page.as_uri())
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    opened.close()


def column(page, number: int, table: str = "results") -> list[str]:
    return page.locator(f"#{table} tbody tr td:nth-child({number})").all_inner_texts()


def sorting(page, number: int) -> str | None:
    return page.locator(f"#results th:nth-child({number})").get_attribute("aria-sort")


RATIOS = ["0", "1.6e-25", "2.0e-08", "5.0e-03", "1.0e+00", "3.0e+01"]


def test_a_click_sorts_by_number_and_a_second_one_turns_it_round(page):
    assert column(page, 1) == ["2", "4", "5", "7", "10", "30", "100"]
    button = page.get_by_role("button", name="gradient ratio").first
    button.click()
    assert column(page, 3) == [*RATIOS, "–"]
    assert column(page, 1) == ["100", "30", "10", "7", "2", "4", "5"]
    assert sorting(page, 3) == "ascending"
    button.click()
    assert column(page, 3) == [*reversed(RATIOS), "–"]  # what has no value is last either way
    assert sorting(page, 3) == "descending"
    button.click()
    assert column(page, 3) == [*RATIOS, "–"]


def test_the_keyboard_sorts_too(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "test accuracy"
    page.keyboard.press("Enter")
    assert column(page, 2) == ["0.010", "0.020", "0.035", "0.050", "0.150", "0.500", "–"]
    page.keyboard.press("Space")
    assert column(page, 2) == ["0.500", "0.150", "0.050", "0.035", "0.020", "0.010", "–"]


def test_words_sort_as_words_and_one_column_at_a_time(page):
    page.get_by_role("button", name="gradient ratio").first.click()
    page.get_by_role("button", name="verdict").first.click()
    assert column(page, 4) == ["<script>alert(1)</script>", *["healthy"] * 5, "missing"]
    assert (sorting(page, 3), sorting(page, 4)) == (None, "ascending")


def test_the_two_tables_sort_apart(page):
    page.locator("#runs").get_by_role("button", name="depth").click()
    page.locator("#runs").get_by_role("button", name="depth").click()
    assert column(page, 2, "runs") == ["100", "30", "10", "7", "5", "4", "2"]
    assert column(page, 1) == ["2", "4", "5", "7", "10", "30", "100"]


def test_hostile_words_are_shown_as_words(page):
    assert page.locator("h1").inner_text() == "<b>bold</b>"
    assert page.title() == "<b>bold</b> · gradflow"
    assert page.locator("h1 b").count() == 0


def test_a_memory_horizon_sorts_by_its_steps_and_what_has_none_comes_last(browser, records):
    for cell, reach in (("lstm", None), ("rnn", 9), ("gru", 37.25), (None, None)):
        path = records.add(model="recurrent" if cell else "esn", cell=cell)
        time = {"steps": 100, "first": None, "last": {"step": 9, "memory_horizon_1%": reach}} if cell else None
        why = None if cell else "the reservoir is not trained"
        known = json.loads((path / "result.json").read_text())
        write_json(path / "result.json", {**known, "time": time, "no_gradient": why})
    folder = records.sweep()
    opened = browser.new_page()
    opened.goto(publish(collect(folder), folder).page.as_uri())
    opened.get_by_role("button", name="memory horizon").first.click()
    assert column(opened, 4) == ["9", "37", "≥ 100", "no gradient"]
    opened.get_by_role("button", name="memory horizon").first.click()
    assert column(opened, 4) == ["≥ 100", "37", "9", "no gradient"]
    opened.close()
