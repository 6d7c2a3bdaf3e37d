"""The page as gradflow writes and serves it, in a real browser: from records, with ten thousand runs, and live."""

import json
import threading

import pytest
import synthetic_page
from playwright.sync_api import expect
from watched_page import Watched

from gradflow.results.publish import publish
from gradflow.results.serve import Server
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json


@pytest.fixture
def open_page(browser):
    """Opens pages; afterwards nothing may have been said on their consoles or asked of a network."""
    opened = []

    def start(address, *local):
        watched = Watched(browser.new_page(), local or ("file:", "data:", "blob:"))
        opened.append(watched)
        return watched.open(address)

    yield start
    for watched in opened:
        watched.check()
        watched.page.close()


def column(page, number: int) -> list[str]:
    return page.locator(f"#panel-results tbody tr td:nth-child({number})").all_inner_texts()


def heading(page, text: str) -> int:
    return page.locator("#panel-results thead th").all_inner_texts().index(text) + 1


RATIOS = ["0", "1.6e-25", "2.0e-08", "5.0e-03", "1.0e+00", "3.0e+01"]


def test_a_page_from_records_sorts_ratios_of_every_size(open_page, records):
    ratios = {2: 1.0, 10: 2e-8, 30: 1.6e-25, 100: 0.0, 4: 30.0, 5: None}
    for depth, ratio in ratios.items():
        state = "missing" if ratio is None else "completed"
        records.add(depth=depth, ratio=ratio, accuracy=depth / 200, state=state, verdict="healthy")
    records.add(depth=7, ratio=5e-3, accuracy=7 / 200, verdict="<script>alert(1)</script>")
    folder = records.sweep("<b>bold</b>")
    page = open_page(publish(collect(folder), folder).page.as_uri())
    assert page.locator("h1").inner_text() == "<b>bold</b>"
    place = heading(page, "gradient ratio")
    button = page.locator("#panel-results").get_by_role("button", name="gradient ratio")
    button.click()
    assert column(page, place)[:6] == RATIOS
    assert column(page, 1) == ["100", "30", "10", "7", "2", "4", "5"]
    button.click()
    assert column(page, place)[:6] == RATIOS[::-1]  # what has no value is last either way
    assert column(page, 1)[-1] == "5"
    assert "<script>alert(1)</script>" in column(page, heading(page, "verdict"))


def test_a_memory_horizon_sorts_by_its_steps_and_what_has_none_comes_last(open_page, records):
    for cell, reach in (("lstm", None), ("rnn", 9), ("gru", 37.25), (None, None)):
        path = records.add(model="recurrent" if cell else "esn", cell=cell)
        time = {"steps": 100, "first": None, "last": {"step": 9, "memory_horizon_1%": reach}} if cell else None
        why = None if cell else "the reservoir is not trained"
        known = json.loads((path / "result.json").read_text())
        write_json(path / "result.json", {**known, "time": time, "no_gradient": why})
    folder = records.sweep()
    page = open_page(publish(collect(folder), folder).page.as_uri())
    place = heading(page, "memory horizon")
    button = page.locator("#panel-results").get_by_role("button", name="memory horizon")
    button.click()
    assert column(page, place) == ["9", "37", "≥ 100", "no gradient"]
    button.click()
    assert column(page, place) == ["≥ 100", "37", "9", "no gradient"]


def test_a_comparison_is_of_techniques_and_says_which_runs_diverged(open_page, records):
    for depth in (2, 4, 8):
        for activation in ("relu", "tanh"):
            state = "diverged" if (depth, activation) == (8, "tanh") else "completed"
            records.add(depth=depth, activation=activation, accuracy=depth / 10, state=state)
    records.add(depth=16, state="running")
    records.planned[-1].config["trainer.max_steps"] = 500
    folder = records.sweep()
    page = open_page(f"{publish(collect(folder), folder).page.as_uri()}#tab=compare")
    panel = page.locator("#panel-compare")
    expect(panel.get_by_label("factor")).to_have_value("activation")  # rather than depth
    expect(panel.locator("tbody tr", has_text="depth 8")).to_contain_text("diverged, counted as chance: 0.1000")
    expect(panel.locator(".plot[data-drawn]")).to_have_count(2)
    axes = (
        panel.locator(".plot").nth(1).evaluate("({ layout: { xaxis, yaxis } }) => [xaxis.title.text, yaxis.tickvals]")
    )
    assert axes == ["test accuracy, B − A", [1, 2, 3]]
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator(".tabulator-row[data-run]", has_text="running")).to_contain_text("7 of 500")


def test_of_a_run_that_is_trained_by_epochs_no_total_of_steps_is_said(open_page, records):
    for depth in (2, 4):
        records.add(depth=depth, state="running")
        records.planned[-1].config.update({"trainer.max_steps": 500, "trainer.max_epochs": 3})
    folder = records.sweep()
    page = open_page(f"{publish(collect(folder), folder).page.as_uri()}#tab=runs")
    page.locator(".tabulator-row[data-run]").first.click()
    expect(page.locator("#run-title")).to_be_visible()  # by now its config is known
    page.keyboard.press("Escape")
    steps = page.locator("#runs-table .tabulator-col", has=page.get_by_role("button", name="steps", exact=True))
    field = steps.get_attribute("tabulator-field")
    cells = page.locator(f"#runs-table .tabulator-row [tabulator-field={field}]")
    assert cells.all_inner_texts() == ["7", "7"]


def test_ten_thousand_runs_are_sorted_filtered_grouped_and_opened(open_page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(synthetic_page.made(10_000), encoding="utf-8")
    assert file.stat().st_size < 20e6
    page = open_page(f"{file.as_uri()}#tab=runs")
    tools = page.locator("#panel-runs .tools")
    expect(tools).to_contain_text("10000 runs")
    assert page.locator(".tabulator-row").count() < 200  # the others are not elements
    assert not page.evaluate("'Plotly' in globalThis")  # nor is it unpacked before a chart is drawn
    page.locator("#runs-table").get_by_role("button", name="seed", exact=True).click(click_count=2)
    page.get_by_label("Filter activation").select_option("sigmoid")
    page.get_by_label("Filter seed, min").fill("138")
    expect(tools).to_contain_text("24 of 10000 runs")
    page.get_by_label("group by").select_option("depth")
    expect(page.locator(".tabulator-group")).to_have_count(4)
    page.locator(".tabulator-group").first.click()
    page.locator(".tabulator-row[data-run] a").first.click()
    expect(page.locator("#run-title")).to_contain_text("sigmoid")
    expect(page.locator("#run .plot[data-drawn]").first).to_be_visible()


def test_a_live_page_follows_the_sweep_and_keeps_what_the_reader_chose(open_page, records):
    records.add(depth=2, accuracy=0.1)
    records.add(depth=10, accuracy=0.5)
    late = records.add(depth=30, accuracy=0.9)
    held = late.with_name("held")  # its record is not there yet
    late.rename(held)
    records.add(depth=40, accuracy=0.7, activation="tanh")
    folder = records.sweep()
    with Server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            page = open_page(f"{server.url}#tab=runs", server.url, "data:", "blob:")
            expect(page.locator("#live")).to_have_text("live")
            page.get_by_label("Filter activation").select_option("relu")
            page.locator("#runs-table").get_by_role("button", name="depth", exact=True).click(click_count=2)
            row = page.locator(".tabulator-row[data-run]").first
            row.focus()
            expect(row).to_contain_text("missing")
            held.rename(late)
            expect(row).to_contain_text("completed")
            expect(row).to_contain_text("0.9")
            assert page.evaluate("document.activeElement.dataset.run") == late.name
            assert page.locator(".tabulator-row[data-run]").count() == 3
            expect(page.locator("#summary")).to_contain_text("4 completed")
            expect(page.locator("#live")).to_have_text("finished")
        finally:
            server.shutdown()
            thread.join()
