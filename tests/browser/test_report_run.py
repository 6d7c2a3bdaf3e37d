"""One run in the page's dialog: deep links, the way back, charts, diagnosis, and its config against another's."""

import re
from xml.etree import ElementTree

from playwright.sync_api import expect
from synthetic_page import IMAGE, SCRIPT

DIGITS, ADDING = "000000000001", "000000000024"
FAILED = "00000000000b"


def titles(page) -> list[str]:
    return page.locator("#run .figure-title").all_inner_texts()


def test_an_address_opens_a_run_with_all_that_is_known_of_it(page, go):
    go(f"run={DIGITS}")
    dialog = page.locator("#run")
    expect(page.locator("#run-title")).to_have_text(f"{SCRIPT} digits relu none depth 10 seed 0")
    expect(page.locator("#run-title")).to_be_focused()
    for words in (
        f"on node {IMAGE}, 2 attempts",
        "gradient ratio first ÷ last block",
        f"blocks.00 {SCRIPT}",
        "Looked for and not found: exploding, dead.",
        f"he_normal {IMAGE}: why init=he_normal",
        f"gradflow train depth=10 'name={IMAGE}'",
        "Not drawn: step 0: 3 exactly zero",
    ):
        expect(dialog).to_contain_text(words)
    assert "‖∂L/∂(Wl, bl)‖ by block and training step" in titles(page)
    assert dialog.locator(".figure-title sub").all_inner_texts()[:2] == ["l", "l"]
    assert not any("time step" in title for title in titles(page))
    assert dialog.locator("img, script").count() == 0


def test_the_heat_map_has_the_profile_and_the_theory_line_beside_it(page, go):
    go(f"run={DIGITS}")
    expect(page.locator("#run .plot[data-drawn]").nth(1)).to_be_visible()
    heat, strip = page.locator("#run .plot").nth(0).evaluate("plot => plot.data")
    assert (heat["type"], len(heat["z"]), len(heat["z"][0])) == ("heatmap", 8, 5)
    lines = page.locator("#run .plot").nth(1).evaluate("plot => plot.data.map(({ name, x, y }) => ({ name, x, y }))")
    assert [line["name"] for line in lines] == ["step 0", "step 200", "theory, as initialised"]
    assert lines[0]["y"] == list(range(8))
    assert lines[0]["x"] == lines[2]["x"] == [row[0] for row in heat["z"]]
    assert (strip["xaxis"], [row[0] for row in strip["z"]]) == ("x2", lines[2]["x"])  # theory is in the map, too
    assert heat["x"] == [0, 25, 75, 125, 175, 200]  # edges: nothing is drawn before the first step and after the last
    assert page.locator("#run .plot").nth(0).evaluate("plot => plot._fullLayout.xaxis.range") == [0, 200]


def test_a_zoom_has_a_button_that_undoes_it_and_curves_a_logarithmic_scale(page, go):
    go(f"run={DIGITS}")
    figure = page.locator("#run figure", has_text="loss: train, val")
    expect(figure.locator(".plot[data-drawn]")).to_be_visible()
    seen = "plot => [plot._fullLayout.xaxis.range, plot._fullLayout.yaxis.type]"
    before, kind = figure.locator(".plot").evaluate(seen)
    reset, log = (figure.get_by_role("button", name=re.compile(name)) for name in ("Reset the zoom", "Logarithmic"))
    expect(reset).to_be_hidden()
    figure.locator(".plot").evaluate("plot => Plotly.relayout(plot, { 'xaxis.range': [10, 60] })")
    reset.click()
    expect(reset).to_be_hidden()
    assert (kind, figure.locator(".plot").evaluate(seen)[0]) == ("linear", before)
    log.click()
    expect(log).to_have_attribute("aria-pressed", "true")
    plot = figure.locator(".plot").element_handle()
    page.wait_for_function("plot => plot._fullLayout.yaxis.type === 'log'", arg=plot)
    log.click()
    expect(page.locator("#run figure", has_text="block 0").get_by_role("button", name="Logarithmic")).to_have_count(0)


def test_a_saved_figure_names_its_run(page, go):
    go(f"run={ADDING}")
    expect(page.locator("#run .plot[data-drawn]").first).to_be_visible()
    with page.expect_download() as waiting:
        page.locator("#run figure", has_text="by time step").get_by_role("button", name="as SVG").click()
    said = "".join(ElementTree.parse(waiting.value.path()).getroot().itertext())
    assert f"{SCRIPT} adding relu none depth 2 seed 0 · run {ADDING}" in said
    assert "‖∂L/∂ht‖" in said.replace("\u200b", "")


def test_a_recurrent_run_has_time_steps_over_training_steps(page, go):
    go(f"run={ADDING}")
    title = "‖∂L/∂h_t‖ of blocks.0 by time step and training step"
    plot = page.locator(f"#run .plot[aria-label='{title}'][data-drawn]")
    expect(plot).to_be_visible()
    found = plot.evaluate("plot => [plot.data[0].y.length, plot.layout.xaxis.title.text, plot.layout.yaxis.title.text]")
    assert found == [11, "training step", "time step t"]  # edges of 10 time steps


def test_a_failed_run_shows_its_error_as_words(page, go):
    go(f"run={FAILED}")
    expect(page.locator("#run .error")).to_have_text(f"Traceback\nRuntimeError: {SCRIPT}")
    expect(page.locator("#run h3:text('How it failed') + p")).to_have_text(f"RuntimeError: {SCRIPT}")


def test_the_config_is_laid_beside_any_other_runs_what_differs_first(page, go):
    go(f"run={DIGITS}")
    box = page.get_by_label("Compare the config with run")
    box.fill("000000000024")
    rows = page.locator("#run-config tbody tr")
    expect(page.locator("#run-config caption")).to_have_text("1 of 4 keys differ.")
    expect(rows.first).to_have_class("differs")
    assert rows.first.locator("th, td").all_inner_texts() == ["model.depth", "10", "2"]
    expect(rows).to_have_count(1)
    page.get_by_label("differences only").uncheck()
    expect(rows).to_have_count(4)
    page.get_by_label("differences only").check()
    assert "against=000000000024" in page.url
    go(f"run={DIGITS}&against=00000000000d")
    expect(rows.first.locator("th")).to_have_text("activation.name")
    page.get_by_label("Compare the config with run").fill("adding 30 layer sigmoid")
    expect(page.locator("#other-runs option").first).to_have_attribute("value", re.compile("^[0-9a-f]{12}$"))
    page.locator("#run-config thead").get_by_role("link").click()
    expect(page.locator("#run-title")).to_contain_text("digits sigmoid none depth 10")


def test_back_and_forward_go_through_tabs_and_runs(page, go):
    go("tab=results")
    page.get_by_role("tab", name="Figures").click()
    page.get_by_role("tab", name="Results").click()
    page.evaluate(f"location.hash = 'tab=results&run={DIGITS}'")
    expect(page.locator("#run-title")).to_contain_text("digits relu")
    page.get_by_role("button", name="Next →").click()
    expect(page.locator("#run-title")).to_contain_text("depth 30")
    page.go_back()
    expect(page.locator("#run")).to_be_hidden()
    page.go_back()
    expect(page.get_by_role("tab", name="Figures")).to_have_attribute("aria-selected", "true")
    page.go_forward()
    expect(page.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")


def test_a_run_that_is_not_there_is_said_to_be_unknown(page, go):
    go("run=<b>nobody</b>")
    expect(page.locator("#run")).to_contain_text("This page knows no run <b>nobody</b>.")
    page.keyboard.press("Escape")
    expect(page.locator("#run")).to_be_hidden()


def test_the_tabs_are_reached_and_changed_by_keyboard(page, go):
    go("tab=results")
    assert page.evaluate("document.querySelector('a, button, input, select').className") == "skip"
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.get_by_role("tab", name="Results").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="Figures")).to_be_focused()
    expect(page.locator("#panel-figures")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-results")).to_be_visible()
    assert page.get_by_role("tab", selected=True).count() == 1


def test_the_command_is_copied(page, go):
    go("tab=results")
    page.get_by_role("button", name="Copy the command of the sweep").click()
    expect(page.locator("#said")).to_have_text("Copied the command of the sweep")


def test_nothing_hostile_became_an_element(page, go):
    go("tab=results")
    expect(page.locator("h1")).to_have_text(f"{SCRIPT} sweep")
    assert page.title() == f"{SCRIPT} sweep · gradflow"
    expect(page.locator("#command")).to_contain_text(IMAGE)
    expect(page.locator("#panel-results")).to_contain_text(f"mean over seeds {IMAGE}")
    page.get_by_text("1 record could not be read").click()
    expect(page.locator("footer")).to_contain_text(f"runs/{IMAGE}: not JSON")
    assert page.locator("img[src=x]").count() == 0


def test_on_paper_there_is_what_is_read_and_not_what_is_pressed(page, go):
    go("tab=results")
    page.emulate_media(media="print")
    expect(page.locator("#tabs")).to_be_hidden()
    expect(page.locator("#panel-results tbody tr").first).to_be_visible()
    page.emulate_media(media="screen")
