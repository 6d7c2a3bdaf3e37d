"""How long the report page takes to open in Chromium, from the address to the table, with many runs.

    python benchmarks/page_opening.py [--runs 10000 --repeats 7]

The page is made of the same made-up runs as the browser tests'. Each repeat is a new browser context, so that nothing
is cached but the file itself; the three ways into the page take turns. The clock is the page's own: it starts with the
navigation and stops in the first frame after the table's rows, or the chart's lines, are there. Figures are medians,
with the smallest and the largest beside them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
import synthetic_page

CHROMIUM = "/usr/bin/chromium"
WAYS = {  # what is opened: the address behind '#', and what must be there
    "results": ("tab=results", "#panel-results tbody tr"),
    "runs table": ("tab=runs", ".tabulator-row[data-run]"),
    "runs table, one run opened": ("tab=runs&run=000000000001", "#run .plot[data-drawn]"),
    "factors, with Plotly unpacked": ("tab=factors", "#panel-factors .plot[data-drawn]"),
}
SEEN = """selector => new Promise(seen => {
  const look = () => document.querySelector(selector) ? requestAnimationFrame(() => seen(performance.now())) : setTimeout(look, 5);
  look();
})"""  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gradflow-page-") as folder:
        file = Path(folder) / "report.html"
        file.write_text(synthetic_page.made(args.runs), encoding="utf-8")
        measure(file, args.runs, args.repeats)


def measure(file: Path, runs: int, repeats: int) -> None:
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        version = browser.version
        for _ in range(repeats):
            for way, (place, selector) in WAYS.items():
                seconds[way].append(opened(browser, f"{file.as_uri()}#{place}", selector))
        browser.close()
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs (load {load:.1f}), Chromium {version}")
    print(f"{runs} made-up runs, {file.stat().st_size / 1e6:.1f} MB")
    for way, found in seconds.items():
        print(f"{statistics.median(found):6.2f} s  ({min(found):.2f} … {max(found):.2f})  {way}")


def opened(browser: Browser, address: str, selector: str) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address, wait_until="commit")
    taken = float(page.evaluate(SEEN, selector)) / 1000
    context.close()
    return taken


if __name__ == "__main__":
    main()
