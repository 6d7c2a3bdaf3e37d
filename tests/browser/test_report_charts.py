"""The page's charts in a real browser: chosen, saved, in light and dark, on a phone; names in them are words."""

import re
from xml.etree import ElementTree

import pytest
import synthetic_page
from playwright.sync_api import expect
from synthetic_page import IMAGE, SCRIPT
from watched_page import Watched

from gradflow.results import report
from gradflow.results.page.document import document, plotly

PLOTS = ".plot[data-drawn]"


def drawn(page, panel: str, count: int) -> None:
    expect(page.locator(f"#panel-{panel} {PLOTS}")).to_have_count(count)


def traces(page, panel: str, which: int = 0) -> list[dict]:
    """What Plotly was given for a chart."""
    keep = "({ name, x, y, error_y, visible, fill }) => ({ name, x, y, error_y, visible, fill })"
    return page.locator(f"#panel-{panel} .plot").nth(which).evaluate(f"plot => plot.data.map({keep})")


def ends(page, panel: str, which: int, axis: str) -> str:
    return page.locator(f"#panel-{panel} .plot").nth(which).evaluate(f"plot => plot.layout.{axis}.title.text")


def test_the_factors_are_chosen_and_kept_in_the_address(page, go):
    go("tab=factors&x=depth&by=norm&task=adding")
    drawn(page, "factors", 3)
    lines = [trace["name"] for trace in traces(page, "factors") if trace["name"]]
    assert lines == ["none", "batch", "layer"]
    assert (ends(page, "factors", 0, "xaxis"), ends(page, "factors", 0, "yaxis")) == (
        "depth (log scale)",
        "test accuracy",
    )
    assert page.locator("#panel-factors .plot").nth(1).evaluate("plot => plot.layout.yaxis.type") == "log"
    assert [trace["fill"] for trace in traces(page, "factors")] == ["toself", None] * 3
    page.get_by_label("a line for each").select_option("activation")
    expect(page.locator("#panel-factors .figure-title").first).to_have_text(
        "adding: test accuracy by depth, for each activation"
    )
    assert "by=activation" in page.url
    page.locator("#panel-factors").get_by_label("task").select_option("digits")
    expect(page.locator("#panel-factors .figure-title").first).to_contain_text("digits: ")


def opened(browser, folder, boot, parts, place):
    """A page of its own, at a place."""
    file = folder / "report.html"
    file.write_text(document(boot, {**parts, "plotly": plotly()}), encoding="utf-8")
    watched = Watched(browser.new_page(viewport={"width": 1280, "height": 900}))
    watched.open(f"{file.as_uri()}#{place}")
    return watched


def test_a_memory_horizon_that_is_a_lower_bound_is_open_and_says_so(browser, tmp_path):
    boot, parts = synthetic_page.data(360)
    of = {"task": "adding", "metric": "test accuracy", "better": "larger", "x": "depth", "by": "norm", "pooled": []}
    points = [
        {"x": 2, "mean": 37, "low": 31, "high": 44, "n": 3},
        {"x": 10, "mean": 120, "low": 37, "high": 200, "n": 3, "least": ["high"]},
        {"x": 30, "mean": 160.5, "low": 121, "high": 200, "n": 2, "least": ["mean", "high"]},
        {"x": 100, "mean": 200, "low": 200, "high": 200, "n": 3, "least": ["mean", "low", "high"]},
    ]
    lower = [{**point, "mean": point["mean"] * 0.8, "low": 20} for point in points[:2]]
    for name, line in (("none", points), ("batch", lower), ("layer", lower[:1])):
        parts["factors"]["series"].append({**of, "technique": name, "value": "memory_horizon", "points": line})
    watched = opened(browser, tmp_path, boot, parts, "tab=factors&x=depth&by=norm&task=adding")
    page = watched.page
    drawn(page, "factors", 4)
    (line,) = page.locator("#panel-factors .plot").nth(2).evaluate("plot => plot.data.filter((t) => t.name === 'none')")
    assert line["marker"]["symbol"] == ["circle", "circle", "circle-open", "circle-open"]
    said = [text.split("<br>")[1].partition(": ")[2] for text in line["text"]]
    assert said == ["37 (31 … 44)", "120 (37 … ≥ 200)", "≥ 160.5 (121 … ≥ 200)", "≥ 200"]
    watched.check()
    page.close()


FIRST_AND_LAST = [(-999, -2), (-3, -2), (999, -2), (-3, -999), (-3, 999), (-999, -999), (None, -2)]  # log10


def test_a_first_norm_needs_no_last_and_there_is_no_ratio_to_a_last_of_zero(browser, tmp_path):
    boot, parts = synthetic_page.data(72)
    (norms,) = parts["details-0"]["000000000000"]["heat"]
    norms["steps"] = list(range(len(FIRST_AND_LAST)))
    norms["log10"] = [[pair[0] for pair in FIRST_AND_LAST], [pair[1] for pair in FIRST_AND_LAST]]
    kinds = {"norm of the first block": [0, 1e-3, None, 1e-3, 1e-3, 0, None]}
    kinds["ratio, first ÷ last block"] = [0, 0.1, None, None, None, None, None]
    for kind, expected in kinds.items():
        place = f"tab=runs&lines=000000000000&curve=gradient {kind}&log=no"
        watched = opened(browser, tmp_path, boot, parts, place)
        plot = watched.page.locator("#runs-curves .plot[data-drawn]")
        assert plot.evaluate("plot => plot.data[0].y") == [
            each if each is None else pytest.approx(each) for each in expected
        ]
        watched.check()
        watched.page.close()


def test_a_key_hides_its_line_and_with_shift_leaves_it_alone(page, go):
    go("tab=factors&x=depth&by=norm&task=digits")
    drawn(page, "factors", 3)
    key = page.locator("#panel-factors .legend").first.get_by_role("button", name="batch")
    key.click()
    expect(key).to_have_attribute("aria-pressed", "false")
    assert [trace["name"] for trace in traces(page, "factors") if trace["name"] and trace["visible"] is not False] == [
        "none",
        "layer",
    ]
    key.click()
    key.click(modifiers=["Shift"])
    expect(page.locator("#panel-factors .legend").first.locator("[aria-pressed=true]")).to_have_text("batch")
    key.click(modifiers=["Shift"])
    expect(page.locator("#panel-factors .legend").first.locator("[aria-pressed=true]")).to_have_count(3)


def test_what_changed_the_most_is_a_forest_of_intervals(page, go):
    go("tab=factors&task=digits")
    drawn(page, "factors", 3)
    better, worse = traces(page, "factors", 2)
    assert (better["x"], worse["x"]) == ([0.1], [-0.3, -0.12])
    assert (better["y"], worse["y"]) == ([0], [2, 1])
    labels = page.locator("#panel-factors .plot").nth(2).evaluate("plot => plot.layout.yaxis.ticktext")
    assert labels[0] == "activation: sigmoid rather than relu"


def test_two_techniques_are_compared_and_turned_round(page, go):
    go("tab=compare&task=digits&factor=norm&a=none&b=batch")
    drawn(page, "compare", 2)
    panel = page.locator("#panel-compare")
    expect(panel.locator(".verdict")).to_contain_text("batch is better than none: test accuracy differs by")
    for words in ("effect size", "0.75 (0.6 … 0.9)", "Wilcoxon signed-rank (exact)", "0.004", "0.012"):
        expect(panel.locator(".named")).to_contain_text(words)
    pairs = len(panel.locator("tbody tr").all())
    assert sum(len(trace["x"]) for trace in traces(page, "compare", 0)) == 3 * pairs
    panel.get_by_role("button", name="Swap A and B").click()
    expect(panel.locator(".verdict")).to_contain_text("none is worse than batch")
    expect(panel.locator(".named")).to_contain_text("0.25 (0.1 … 0.4)")
    panel.get_by_label("B", exact=True).select_option("layer")
    expect(panel.locator(".verdict")).to_contain_text("layer")
    expect(panel.get_by_label("A", exact=True)).to_have_value("batch")
    panel.get_by_label("A", exact=True).focus()
    page.keyboard.press("ArrowUp")  # to 'none', by keyboard: the list is drawn anew and keeps the focus
    expect(panel.get_by_label("A", exact=True)).to_have_value("none")
    expect(panel.get_by_label("A", exact=True)).to_be_focused()
    panel.locator("tbody a").first.click()
    expect(page.locator("#run-title")).to_be_visible()
    page.go_back()
    expect(page.locator("#run")).to_be_hidden()


COLOURS = """({ data: [{ line: { color, cmin, cmax, colorscale } }] }) => {
    const [none, worst] = [...new Set(color)].sort((a, b) => a - b).map((value) => (value - cmin) / (cmax - cmin));
    return [worst, none, Math.max(...colorscale.filter(([, colour]) => colour === "#b0b7bf").map(([at]) => at))];
}"""


def test_every_level_of_an_axis_is_named_where_it_is(browser, tmp_path):
    boot, parts = synthetic_page.data(360)
    columns = {column["key"]: column for column in parts["runs"]["columns"]}
    columns["activation"]["values"] = [f"gradflow.models.{end}" for end in ("same · batch", "same · layer", "other")]
    summary = {**columns["norm"], "key": "recipe", "title": "recipe"}  # it says what the axis 'norm' says
    parts["runs"]["columns"].insert(0, summary)
    ratios = columns["gradient_ratio"]["data"]
    columns["gradient_ratio"]["data"] = [None if ratio is None else 0.3 + ratio / 4 for ratio in ratios]
    for end in ("png", "svg"):
        (tmp_path / f"heatmap.{end}").touch()
    boot["pictures"] = [report._picture("heatmap", tmp_path / "heatmap.png")]
    file = tmp_path / "report.html"
    file.write_text(document(boot, {**parts, "plotly": plotly()}), encoding="utf-8")
    watched = Watched(browser.new_page())
    page = watched.open(f"{file.as_uri()}#tab=parallel&task=digits")
    drawn(page, "parallel", 1)
    axes = page.locator("#panel-parallel .plot").evaluate("plot => plot.data[0].dimensions")
    assert [axis["name"] for axis in axes] == ["activation", "norm", "depth", "gradient_ratio", "metric"]
    shown = page.locator("#panel-parallel .parcoords .y-axis").first.locator(".tick text").all_text_contents()
    assert shown == axes[0]["ticktext"] == ["gradflow.… · batch", "gradflow.… · layer", "gradflow.…ls.other"]
    assert axes[3]["ticktext"] == ["no value", "0.1", "1"]  # not '1e−0.5'
    page.get_by_role("tab", name="Figures").click()
    expect(page.locator("#panel-figures")).to_contain_text("As SVG: heatmap.svg, beside this page.")
    watched.check()
    page.close()


def test_of_very_many_runs_a_sample_is_drawn_and_all_are_chosen_from(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(synthetic_page.made(2376), encoding="utf-8")
    watched = Watched(browser.new_page())
    page = watched.open(file.as_uri())
    page.evaluate("""new MutationObserver((changes) => {
        const added = changes.flatMap(({ addedNodes }) => [...addedNodes]);
        if (added.some((node) => node.textContent === "drawing …")) document.waited = true;
    }).observe(document, { childList: true, subtree: true })""")
    page.goto(f"{file.as_uri()}#tab=parallel&task=digits")
    drawn(page, "parallel", 1)
    panel = page.locator("#panel-parallel")
    assert page.evaluate("document.waited")
    expect(panel).to_contain_text("A sample of 1000 of the 1188 runs is drawn")
    plot = panel.locator(".plot")
    assert plot.evaluate("plot => new Set(plot.data[0].dimensions[2].values).size") == 4
    plot.evaluate("plot => Plotly.restyle(plot, { 'dimensions[1].constraintrange': [[[0.8, 1.2]]] })")
    expect(panel).to_contain_text("396 runs chosen by norm")
    panel.get_by_role("button", name="Draw all 1188").click()
    expect(plot).to_have_attribute("data-drawn", "yes")
    assert plot.evaluate("plot => plot.data[0].line.color.length") == 1188
    expect(panel).to_contain_text("396 runs chosen by norm")
    watched.check()
    page.close()


def test_parallel_coordinates_choose_runs_for_the_table(page, go):
    go("tab=parallel&task=digits")
    drawn(page, "parallel", 1)
    plot = page.locator("#panel-parallel .plot")
    names = plot.evaluate("plot => plot.data[0].dimensions.map(({ name }) => name)")
    assert names == ["activation", "norm", "depth", "gradient_ratio", "metric"]
    worst, none, grey = plot.evaluate(COLOURS)
    assert worst > grey >= none  # the least metric is not drawn as none
    plot.evaluate("plot => Plotly.restyle(plot, { 'dimensions[1].constraintrange': [[[0.8, 1.2]]] })")
    expect(page.locator("#panel-parallel")).to_contain_text("60 runs chosen by norm")
    page.get_by_role("button", name="Show them in the runs table").click()
    expect(page.locator("#panel-runs .tools")).to_contain_text("60 of 360 runs")
    expect(page.locator(".chip")).to_contain_text("60 runs chosen by norm")
    page.get_by_role("button", name=re.compile("Drop the limit")).click()
    expect(page.locator("#panel-runs .tools")).to_contain_text("360 runs")


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_figure_is_saved_as_a_file(page, go, kind):
    go("tab=factors&by=activation&task=digits")
    drawn(page, "factors", 3)
    with page.expect_download() as waiting:
        page.get_by_role("button", name=re.compile(f"Save 'digits: test accuracy .* as {kind.upper()}")).click()
    assert (
        waiting.value.suggested_filename
        == f"script-alert-1-script-sweep-digits-test-accuracy-by-depth-for-activation.{kind}"
    )
    content = waiting.value.path().read_bytes()
    if kind == "png":
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(content[16:20], "big") == 1800  # twice as many pixels as it is wide
    else:
        said = [element.text for element in ElementTree.fromstring(content).iter() if element.text]
        assert {"depth (log scale)", "test accuracy", "relu", IMAGE} <= set(said)


def test_names_from_data_are_words_in_charts_and_keys(page, go):
    go("tab=factors&by=activation&task=digits")
    drawn(page, "factors", 3)
    expect(page.locator("#panel-factors .legend").first).to_contain_text(IMAGE)
    expect(page.locator("#panel-factors .plot").nth(2).locator(".yaxislayer-above")).to_contain_text("<img")
    go("tab=parallel&task=digits")
    drawn(page, "parallel", 1)
    expect(page.locator("#panel-parallel .plot")).to_contain_text("<img src=…lert(2)>")
    go("tab=figures")
    expect(page.locator("#panel-figures .figure-title")).to_have_text(f"Gradient by block {SCRIPT}")
    assert page.locator("main img[src='x'], main script, dialog script, h1 script").count() == 0


def test_charts_follow_the_theme_and_it_is_remembered(page, go):
    go("tab=factors&task=digits")
    drawn(page, "factors", 3)
    ink = "document.querySelector('#panel-factors .plot').layout.font.color"
    assert page.evaluate(ink) == "#1b1f24"
    page.get_by_label("theme").select_option("dark")
    page.wait_for_function(f"{ink} === '#e6e8eb'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    page.get_by_label("theme").select_option("auto")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_phone_never_scrolls_the_page_sideways(page, go):
    before = page.viewport_size
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        for place in ("results", "runs", "factors", "compare", "parallel", "figures"):
            go(f"tab={place}")
            expect(page.locator(f"#panel-{place}")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, place
        go("tab=results&run=000000000030")
        expect(page.locator(f"#run {PLOTS}").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#run").evaluate("dialog => dialog.scrollWidth") <= 360
    finally:
        page.set_viewport_size(before)
