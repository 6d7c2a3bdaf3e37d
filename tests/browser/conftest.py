"""Real Chromium, and one page of made-up runs in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import synthetic_page
from playwright.sync_api import Browser, Page, sync_playwright
from watched_page import Watched

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]
ARGUMENTS += [
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]  # WebGL without a graphics card
FEW = 360  # runs of the page that most tests share: five seeds of every setting


@pytest.fixture(scope="module")
def browser(required: Callable[[bool, str], None]) -> Iterator[Browser]:
    required(CHROMIUM.exists(), str(CHROMIUM))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of made-up runs."""
    file = tmp_path_factory.mktemp("made_up") / "report.html"
    file.write_text(synthetic_page.made(FEW), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def shared(browser: Browser, made_up: Path) -> Iterator[Watched]:
    """One page for a module's tests; each goes where it wants."""
    watched = Watched(browser.new_page(viewport={"width": 1280, "height": 900}))
    watched.open(made_up.as_uri())
    yield watched
    watched.page.close()


@pytest.fixture
def page(shared: Watched, made_up: Path) -> Iterator[Page]:
    """The module's page; afterwards nothing may have gone wrong, and no dialog is left open."""
    yield shared.page
    shared.check()
    shared.page.goto(f"{made_up.as_uri()}#tab=results")


@pytest.fixture
def go(shared: Watched, made_up: Path) -> Callable[[str], Page]:
    """To a place of the shared page, without loading it anew."""

    def to(place: str) -> Page:
        shared.page.goto(f"{made_up.as_uri()}#{place}")
        return shared.page

    return to
