"""The page's tables in a real browser: sorted, filtered, grouped and searched, by hand and by keyboard."""

import csv
import io
import re

import pytest
from playwright.sync_api import expect
from synthetic_page import IMAGE
from watched_page import Watched

SORTED = ["ascending", "descending"]


def results(page, column: int) -> list[str]:
    return page.locator(f"#panel-results tbody tr td:nth-child({column})").all_inner_texts()


def column(page, title: str) -> list[str]:
    """What the rows in sight have in a column of the runs table."""
    field = page.locator("#runs-table .tabulator-col", has=page.get_by_role("button", name=title, exact=True))
    name = field.first.get_attribute("tabulator-field")
    return page.locator(f'#runs-table .tabulator-row [tabulator-field="{name}"]').all_inner_texts()


def heading(page, title: str):
    return page.locator("#runs-table").get_by_role("button", name=title, exact=True)


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.fixture
def runs(page, go):
    """The runs table without filters, in the order of the plan, at its top."""
    go("tab=runs")
    page.wait_for_selector(".tabulator-row[data-run]")
    page.get_by_role("button", name="Clear filters").click()
    while page.locator('#runs-table .tabulator-col[tabulator-field="id"]').get_attribute("aria-sort") != "ascending":
        heading(page, "run").click()
    return page


def test_a_click_sorts_the_results_as_numbers_and_a_second_one_turns_them_round(page, go):
    go("tab=results")
    button = page.locator("#panel-results").get_by_role("button", name="depth")
    head = page.locator("#panel-results th").nth(3)
    for direction, values in zip(SORTED, ("2", "100"), strict=True):
        button.click()
        assert results(page, 4)[0] == values
        assert head.get_attribute("aria-sort") == direction
    assert set(results(page, 4)[-18:]) == {"2"}


def test_the_keyboard_sorts_the_results(page, go):
    go("tab=results")
    page.locator("#panel-results").get_by_role("button", name="test accuracy").focus()
    page.keyboard.press("Enter")
    found = [float(text) for text in results(page, 5)]
    assert found == sorted(found)
    page.keyboard.press("Space")
    assert [float(text) for text in results(page, 5)] == found[::-1]


def test_a_row_of_the_results_leads_to_its_runs(page, go):
    go("tab=results")
    page.locator("#panel-results tbody tr", has_text="digits").first.get_by_role("button", name="runs").click()
    expect(page.locator(".chip")).to_contain_text("task = ")
    expect(page.locator("#panel-runs .tools")).to_contain_text("5 of 360 runs")


def test_the_runs_sort_by_number_and_what_has_no_value_comes_last_either_way(runs):
    for turned in (False, True):
        heading(runs, "test accuracy").click()
        found = [number(text) for text in column(runs, "test accuracy")]
        assert found == sorted(found, reverse=turned)
    runs.locator(".tabulator-tableholder").evaluate("holder => holder.scrollTo(0, holder.scrollHeight)")
    expect(runs.locator("#runs-table .tabulator-row").last).to_contain_text("–")


def test_the_keyboard_sorts_the_runs(runs):
    heading(runs, "depth").focus()
    runs.keyboard.press("Enter")
    assert set(column(runs, "depth")) == {"2"}
    runs.keyboard.press("Enter")
    assert set(column(runs, "depth")) == {"100"}


def test_words_are_chosen_and_numbers_bounded(runs):
    runs.get_by_label("Filter state").select_option("diverged")
    expect(runs.locator("#panel-runs .tools")).to_contain_text("9 of 360 runs")
    assert set(column(runs, "state")) == {"diverged"}
    runs.get_by_label("Filter depth, min").fill("11")
    runs.get_by_label("Filter depth, max").fill("99")
    runs.get_by_label("Filter state").select_option("all")
    expect(runs.locator("#panel-runs .tools")).to_contain_text("90 of 360 runs")
    assert set(column(runs, "depth")) == {"30"}
    runs.get_by_role("button", name="Clear filters").click()
    expect(runs.locator("#panel-runs .tools")).to_contain_text("360 runs")


def test_the_search_wants_every_word_in_some_column(runs):
    runs.get_by_label("Search all columns").fill("batch adding SIGMOID")
    expect(runs.locator("#panel-runs .tools")).to_contain_text("20 of 360 runs")
    assert "q=batch" in runs.url
    runs.get_by_label("Search all columns").fill("no such words")
    expect(runs.locator("#runs-table")).to_contain_text("No run passes the filters.")


@pytest.mark.parametrize("search", ["sigmoid 30", 'activation="sigmoid" depth=30', "sigmoid depth=30.0"])
def test_the_search_takes_numbers_whole_and_columns_by_name(runs, search):
    runs.get_by_label("Search all columns").fill(search)
    expect(runs.locator("#panel-runs .tools")).to_contain_text("30 of 360 runs")
    assert set(column(runs, "depth")) == {"30"}
    runs.get_by_label("Search all columns").fill("00000000001f")  # an id
    expect(runs.locator("#panel-runs .tools")).to_contain_text("1 of 360 runs")


def test_sorting_and_filters_are_in_the_address(runs):
    runs.get_by_label("Filter activation").select_option("sigmoid")
    runs.get_by_label("Filter depth, min").fill("30")
    heading(runs, "test accuracy").click(click_count=2)
    expect(runs.locator("#panel-runs .tools")).to_contain_text("60 of 360 runs")
    first = column(runs, "test accuracy")[:5]
    runs.get_by_role("tab", name="Results").click()
    runs.get_by_role("tab", name="Runs").click()
    assert all(f"&{said}" in runs.url for said in ("is.activation=sigmoid", "in.depth=30..", "sort=-metric"))
    runs.reload()
    expect(runs.locator("#panel-runs .tools")).to_contain_text("60 of 360 runs")
    assert column(runs, "test accuracy")[:5] == first
    assert set(column(runs, "depth")) == {"30", "100"}
    expect(runs.get_by_label("Filter depth, min")).to_have_value("30")
    runs.get_by_role("button", name="Clear filters").click()
    expect(runs.locator("#panel-runs .tools")).to_contain_text("360 runs")
    assert "activation" not in runs.url


@pytest.mark.parametrize(
    ("place", "count", "bounds"),
    [
        ("is.depth=10", "90 of 360 runs", "10"),
        ("has.depth=1&is.depth=ten&in.activation=1..2&in.run=1..2", "360 runs", ""),
    ],
)
def test_a_filter_of_another_kind_of_column_is_understood_or_left_out(runs, go, place, count, bounds):
    go(f"tab=runs&{place}")
    said = runs.locator("#panel-runs .tools > [role=status]")
    expect(said).to_have_text(count)
    for end in ("min", "max"):
        expect(runs.get_by_label(f"Filter depth, {end}")).to_have_value(bounds)
    runs.get_by_label("Filter activation").select_option("sigmoid")
    assert "in.depth=10..10" in runs.url if bounds else "depth" not in runs.url
    assert "in.activation" not in runs.url
    go("tab=runs")
    expect(said).to_have_text("360 runs")
    expect(runs.get_by_label("Filter depth, min")).to_have_value("")


def test_by_a_factor_that_there_is_not_nothing_is_grouped(runs, go):
    go("tab=runs&group=foo")
    runs.locator(".tabulator-row[data-run='000000000000']").focus()
    runs.keyboard.press("ArrowDown")
    expect(runs.locator(".tabulator-row:focus")).to_have_attribute("data-run", "000000000001")
    runs.get_by_label("Choose all shown, 20 at most").check()
    expect(runs.locator("#runs-curves")).to_contain_text("20 runs")
    expect(runs.get_by_label("group by")).to_have_value("")


def test_nothing_is_smoothed_by_less_than_nothing(runs, go):
    go("tab=runs&lines=000000000000&smooth=-2")
    plot = runs.locator("#runs-curves .plot[data-drawn]")
    assert plot.evaluate("plot => plot.data.length") == 1
    expect(runs.locator("#runs-curves output")).to_have_text("0")


def hidden(page, part, yes):
    """Rename a part of the page's data, so that it cannot be loaded, or give it its name again."""
    page.evaluate("([from, to]) => (document.getElementById(from).id = to)", [part, "gone"] if yes else ["gone", part])


def test_what_could_not_be_loaded_once_is_loaded_when_it_is_asked_for_again(browser, made_up):
    watched = Watched(browser.new_page())
    page = watched.open(f"{made_up.as_uri()}#tab=runs")
    alert = page.get_by_role("alert")
    hidden(page, "part:details-0", True)
    page.get_by_label("Choose run 000000000000").check()
    expect(alert).to_contain_text("the page has no part 'details-0'")
    hidden(page, "part:details-0", False)
    heading(page, "depth").click()
    expect(page.locator("#runs-curves .plot[data-drawn]")).to_be_visible()
    expect(alert).to_have_count(0)
    hidden(page, "part:details-1", True)
    page.goto(f"{made_up.as_uri()}#tab=runs&run=000000000064")
    expect(page.locator("#run").get_by_role("alert")).to_contain_text("the page has no part 'details-1'")
    hidden(page, "part:details-1", False)
    page.goto(f"{made_up.as_uri()}#tab=runs&run=000000000064&q=relu")
    expect(page.locator("#run-title")).to_be_visible()
    expect(alert).to_have_count(0)
    assert len(watched.said) == 2
    page.close()


def test_runs_are_grouped_by_any_factor_with_their_number_mean_and_range(runs):
    runs.get_by_label("Filter task").select_option("digits")
    runs.get_by_label("group by").select_option("activation")
    heads = runs.locator("#runs-table .tabulator-group")
    expect(heads).to_have_count(3)
    expect(heads.first).to_contain_text("activation = relu")
    expect(heads.first).to_contain_text("n = 60 · test accuracy: mean 0.9")
    expect(heads.last).to_contain_text(f"activation = {IMAGE}")
    expect(heads.first).to_contain_text("gradient ratio: geometric mean 0.7")
    expect(heads.nth(1)).to_contain_text("… 0.9")
    button = heads.first.get_by_role("button")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.focus()
    runs.keyboard.press("Enter")
    expect(runs.locator("#runs-table .tabulator-row[data-run]").first).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(button).to_be_focused()
    runs.get_by_label("Filter task").select_option("all")
    expect(heads.first).to_contain_text("2 tasks, whose metrics have no common mean")
    runs.get_by_label("group by").select_option("nothing")
    expect(heads).to_have_count(0)


def test_columns_are_chosen(runs):
    runs.get_by_text("Columns", exact=True).click()
    runs.locator(".chooser").get_by_label("title").check()
    assert "<script>alert(1)</script>" in column(runs, "title")[0]
    runs.locator(".chooser").get_by_label("title").uncheck()
    runs.keyboard.press("Escape")
    expect(runs.locator(".chooser .menu")).to_be_hidden()


def test_a_row_is_opened_from_the_keyboard_and_closing_comes_back_to_it(runs):
    expect(runs.locator(".tabulator-row[data-run][tabindex='0']")).to_have_count(1)
    runs.locator(".tabulator-row[data-run='000000000000']").focus()
    for _ in range(20):
        runs.keyboard.press("ArrowDown")
    runs.keyboard.press("ArrowUp")
    expect(runs.locator(".tabulator-row:focus")).to_have_attribute("data-run", "000000000013")
    runs.keyboard.press("Enter")
    expect(runs.locator("#run-title")).to_be_focused()
    assert "run=000000000013" in runs.url
    runs.keyboard.press("ArrowRight")
    expect(runs.locator("#run-title")).to_contain_text("digits sigmoid layer depth 2 ")
    runs.keyboard.press("ArrowLeft")
    expect(runs.locator("#run-title")).to_contain_text("digits sigmoid batch depth 100")
    runs.keyboard.press("Escape")
    expect(runs.locator("#run")).to_be_hidden()
    assert runs.evaluate("document.activeElement.dataset.run") == "000000000013"
    assert "run=" not in runs.url


def test_the_keyboard_goes_to_the_ends_of_the_runs_and_past_their_filters(runs):
    runs.get_by_role("tab", name="Runs").focus()
    runs.keyboard.press("Tab")
    runs.keyboard.press("Enter")  # the link past the filters
    focused = runs.locator("#runs-table .tabulator-row:focus")
    for key, run in (("End", "000000000167"), ("Home", "000000000000"), ("PageDown", None), ("PageUp", "000000000000")):
        runs.keyboard.press(key)
        expect(focused).to_have_attribute("data-run", run or re.compile("^0000000000(0[1-9a-f]|1.)$"))
        expect(focused).to_be_in_viewport()


def test_the_curves_of_chosen_runs_are_drawn_together(runs):
    lines = "plot => plot.data.map(({ name, line }) => [name, line.color, line.dash])"
    runs.locator(".tabulator-row[data-run='000000000000']").focus()
    runs.keyboard.press("Space")
    runs.get_by_label("Choose run 000000000005").check()
    plot = runs.locator("#runs-curves .plot[data-drawn]")
    expect(plot).to_be_visible()
    found = plot.evaluate(lines)
    assert [name for name, *_ in found] == ["norm none, depth 2, seed 0", "batch, depth 10, seed 0 (diverged)"]
    assert all(a != b for a, b in zip(*[look for _, *look in found], strict=True))
    runs.locator("#runs-curves").get_by_label("curve").select_option("gradient ratio, first ÷ last block")
    runs.get_by_label("smoothing").fill("0.5")
    expect(runs.locator("#runs-curves .figure-title")).to_have_text("gradient ratio, first ÷ last block")
    address = runs.url
    assert "lines=000000000000%2C000000000005&curve=gradient+ratio" in address
    runs.goto("about:blank")
    runs.goto(address)  # as a link that somebody sent
    expect(runs.locator(".tabulator-row[aria-selected=true]")).to_have_count(2)
    expect(plot).to_be_visible()
    assert plot.evaluate("plot => [plot.layout.yaxis.type, plot.data.length]") == ["log", 4]  # a faint line under each
    runs.get_by_label("log scale", exact=True).uncheck()
    runs.wait_for_function("document.querySelector('#runs-curves .plot').layout?.yaxis.type === 'linear'")
    runs.get_by_label("Choose all shown, 20 at most").check()
    expect(runs.locator("#runs-curves")).to_contain_text("20 runs, as many as a figure can tell apart")
    runs.get_by_role("button", name="Choose none").click()
    expect(runs.locator("#runs-curves")).to_contain_text("Tick runs")


def test_on_a_phone_a_row_says_which_run_it_is_and_what_it_reached(runs, go):
    before = runs.viewport_size
    runs.set_viewport_size({"width": 390, "height": 844})
    try:
        runs.reload()
        row = runs.locator(".tabulator-row[data-run]").first
        expect(row.locator(".tabulator-cell").nth(2)).to_have_attribute("tabulator-field", "c7")  # the metric
        runs.locator("#runs-table .tabulator-tableholder").evaluate("holder => holder.scrollTo(400, 0)")
        box = row.locator("a").bounding_box()
        assert 0 < box["x"] < box["x"] + box["width"] < 390
        go("tab=results")
        runs.locator("#panel-results .scroll").evaluate("scroll => scroll.scrollTo(9999, 0)")
        word, metric = (runs.locator(f"#panel-results tbody td:nth-child({at})").first for at in (3, 5))
        word, metric = word.bounding_box(), metric.bounding_box()
        assert 0 < word["x"] < word["x"] + word["width"] < metric["x"] < metric["x"] + metric["width"] < 390
        low = "e => e.offsetParent && e.type !== 'checkbox' && e.getBoundingClientRect().height < 24"
        assert runs.evaluate(f"[...document.querySelectorAll('button, select, input')].filter({low}).length") == 0
    finally:
        runs.set_viewport_size(before)
        runs.reload()


def test_the_runs_that_are_left_are_saved_as_csv(runs):
    runs.get_by_label("Filter state").select_option("failed")
    with runs.expect_download() as waiting:
        runs.get_by_role("button", name="Download CSV").click()
    assert waiting.value.suggested_filename == "script-alert-1-script-sweep-runs.csv"
    rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text(encoding="utf-8-sig"))))
    assert len(rows) == 9
    assert rows[0]["run"] == "00000000000b"
    assert {row["state"] for row in rows} == {"failed"}
    assert rows[0]["depth"] == "100"
