"""A run that goes on while somebody looks at it: what the reader chose and holds stays, what is new appears."""

import threading
from contextlib import contextmanager

from playwright.sync_api import expect
from watched_page import Watched

from gradflow.results.serve import Server
from gradflow.runs.series import GRADFLOW, METRICS, Series

CHART = "#run figure[data-key$='-loss']"
LOSSES = f"document.querySelector(`{CHART} .plot`).data[0].x.length"
MAP = "document.querySelector('#run .map .plot')"


def write(path, steps):
    """Norms of three blocks and two losses, up to a step."""
    gradflow, metrics = Series(path / "gradflow.parquet", GRADFLOW), Series(path / "metrics.parquet", METRICS)
    for step in range(0, steps + 1, 10):
        for block in range(3):
            row = {"step": step, "block": block, "name": f"blocks.{block}", "quantity": "grad_norm"}
            gradflow.add(**row, value=10.0 ** (block - 3))
        for split in ("train", "val"):
            metrics.add(step=step, epoch=0, split=split, name="loss", value=2.0 / (1 + step))
    gradflow.write()
    metrics.write()


def drag(page, area):
    """Zoom, as a reader does it."""
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()


@contextmanager
def served(browser, records, address):
    """A page of the records, watched; the server ends with it."""
    with Server(records.sweep(), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        watched = Watched(browser.new_page(), (server.url, "data:", "blob:"))
        try:
            yield watched.open(f"{server.url}#{address}")
            watched.check()
        finally:
            watched.page.close()
            server.shutdown()
            thread.join()


def test_a_running_run_grows_and_nothing_the_reader_did_is_undone(browser, records):
    running = records.add(depth=3, state="running")
    write(running, 40)
    with served(browser, records, f"run={running.name}") as page:
        expect(page.locator(f"{CHART} .plot[data-drawn]")).to_be_visible()
        page.locator(f"{CHART} .legend").get_by_role("button", name="val/loss").click()
        zoom = f"{MAP}._fullLayout.xaxis.range"
        drag(page, page.locator("#run .map .plot .nsewdrag").first)
        chosen = page.evaluate(zoom)
        page.get_by_label("Compare the config with run").fill("typed")
        page.evaluate("document.held = [...document.querySelectorAll('#run .plot, #run .buttons button')]")
        write(running, 90)
        running.joinpath("status.json").touch()
        page.wait_for_function(f"{LOSSES} === 10 && {MAP}.data[0].x.length === 11")
        assert page.evaluate("document.held.every((element) => element.isConnected)")
        assert page.evaluate(zoom) == chosen != [0, 90]
        page.get_by_role("button", name="Reset the zoom").first.click()
        page.wait_for_function(f"{zoom}[1] === 90")
        val = page.locator(f"{CHART} .legend").get_by_role("button", name="val/loss")
        expect(val).to_have_attribute("aria-pressed", "false")
        expect(page.get_by_label("Compare the config with run")).to_have_value("typed")


def test_the_curves_of_chosen_runs_grow_with_those_that_run(browser, records):
    runs = records.add(depth=2), records.add(depth=3, state="running")
    for run, steps in zip(runs, (90, 40), strict=True):
        write(run, steps)
    with served(browser, records, f"tab=runs&lines={','.join(run.name for run in runs)}&curve=val/loss") as page:
        figure = page.locator("#runs-curves figure")
        expect(figure.locator(".plot[data-drawn]")).to_be_visible()
        lengths = "document.querySelector('#runs-curves .plot').data.map(({ x }) => x.length)"
        assert page.evaluate(lengths) == [10, 5]
        names = figure.locator(".legend").get_by_role("button")
        assert [name.strip() for name in names.all_text_contents()] == ["depth 2, seed 0", "depth 3, seed 0 (running)"]
        names.first.click()  # hides it
        page.evaluate("document.held = document.querySelector('#runs-curves .plot')")
        write(runs[1], 70)
        runs[1].joinpath("status.json").touch()
        page.wait_for_function(f"{lengths}[1] === 8")
        assert page.evaluate("document.held.isConnected")
        expect(names.first).to_have_attribute("aria-pressed", "false")
        expect(names.last).to_have_attribute("aria-pressed", "true")
