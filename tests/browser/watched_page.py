"""A page in a browser that is watched: nothing may be said on its console or asked of a network."""

from __future__ import annotations

from playwright.sync_api import Page, expect

PATIENCE = 30_000  # milliseconds: a busy machine draws slowly
expect.set_options(timeout=PATIENCE)


class Watched:
    """A page with what it said, asked for and saved."""

    def __init__(self, page: Page, local: tuple[str, ...] = ("file:", "data:", "blob:")) -> None:
        self.page, self._local = page, local
        self.said: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str) -> Page:
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page

    def check(self) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(self._local)] == []
