"""A person at a browser: Chromium over a demo install, who notices what no person should have to.

Entry points: demo(), a whole program with its demo data; browsing(), Chromium; Sight, one signed-in person. All of this is
synchronous, and its tests are: a browser's loop and a test's own cannot live in one thread.
"""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    Response,
    expect,
)

import install
import programs

HTTP_REFUSED: Final = 400
PATIENCE_MS: Final = 15_000  # two cores may be doing something else
expect.set_options(timeout=PATIENCE_MS)
# As root and without a network: https://peter.sh/experiments/chromium-command-line-switches/
SWITCHES: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip
AXE: Final = Path(__file__).parents[2] / "console/node_modules/axe-core/axe.min.js"
# What still changes its colour is not what anybody has to read; and what was clicked a moment ago has yet to begin.
STILL: Final = """async () => {
    for (let still = 0, left = 150; still < 4 && left > 0; left--) {
        await new Promise(requestAnimationFrame);
        still = document.getAnimations().some((one) => one.playState === "running") ? 0 : still + 1;
    }
}"""
SHOTS: Final = os.environ.get("CONSOLE_SHOTS")  # where to keep what the tests see, if anybody wants it
FAILED: Final = Path(__file__).parents[2] / "build/console-shots"
Who = Literal["owner", "operator", "nobody"]
Language = Literal["zh", "en"]
Theme = Literal["light", "dark"]
Look = tuple[Language, Theme, int]
WIDE: Final[Look] = ("zh", "light", 1440)
NARROW: Final[Look] = ("en", "dark", 390)
LOOKS: Final = (WIDE, NARROW)


@dataclass(frozen=True)
class Demo:
    """A program that runs, and who may sign in to it."""

    base: str
    passwords: Mapping[str, str]
    key: str  # key id and secret, as HTTP Basic wants them
    log: Path


@contextmanager
def demo() -> Iterator[Demo]:
    """Run the program with its demo tenant, simulated operator and all, as `make run` does."""
    with install.state_folder() as state:
        one = install.Install(state, layout="door gateway+clerk control")
        with one.log.open("ab") as log:
            process = subprocess.Popen(
                [*install.PROGRAM, "run", "--demo"], env=one.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            said = _shown(one.log, process)
            passwords = dict(re.findall(r'"email":"(\w+)@example.com","password":"([^"]+)"', said))
            key = re.search(r"curl -u (\S+)", said)
            assert key is not None, said
            yield Demo(one.base, passwords, key[1], one.log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(install.STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            asyncio.run(one.end())


def _shown(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """Return what the demo has said once it says how to stop it."""
    give_up_s = time.monotonic() + install.WAIT_S
    while "Ctrl-C stops everything" not in (said := log.read_text()):
        assert process.poll() is None, said
        assert time.monotonic() < give_up_s, said
        time.sleep(install.POLL_S)
    return said


@contextmanager
def browsing(playwright: Playwright, *switches: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(
        executable_path=programs.find("chromium"), args=[*SWITCHES, *switches]
    )
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Sight:
    """One person at the console. Leaving the block fails where the browser had something to complain about."""

    browser: Browser
    demo: Demo
    who: Who
    language: Language = "zh"
    theme: Theme = "light"
    width: int = 1440
    forgives: str = ""  # a pattern of complaints that are meant to come
    complaints: list[str] = field(default_factory=list)
    _asked: set[Request] = field(default_factory=set)  # still on their way; no streams, which never end
    _context: BrowserContext | None = None
    _page: Page | None = None

    def __enter__(self) -> Self:
        self._context = self.browser.new_context(
            base_url=self.demo.base,
            viewport={"width": self.width, "height": 900 if self.width > 600 else 844},
            color_scheme=self.theme,
            locale="zh-CN" if self.language == "zh" else "en-GB",
            timezone_id="Asia/Shanghai",
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self._context.add_init_script(
            f"localStorage.setItem('hongyan.language', '{self.language}');"
            f"localStorage.setItem('hongyan.theme', '{self.theme}')"
        )
        if self.who != "nobody":
            self.sign_in(f"{self.who}@example.com", self.demo.passwords[self.who])
        self._page = self._context.new_page()
        self.page.on("pageerror", lambda error: self._complain(f"error: {error}"))
        self.page.on("console", self._hear)
        self.page.on("response", self._see)
        self.page.on("request", self._begun)
        self.page.on("requestfinished", self._ended)
        self.page.on("requestfailed", self._ended)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._page is not None:
            self._page.screenshot(path=Path(SHOTS or FAILED) / self._named("failed"))
        assert self._context is not None
        self._context.close()
        if kind is None:
            assert self.complaints == [], self.complaints

    @property
    def page(self) -> Page:
        assert self._page is not None
        return self._page

    @property
    def context(self) -> BrowserContext:
        assert self._context is not None
        return self._context

    def sign_in(self, email: str, password: str) -> None:
        """Sign in by the API: the page of it has a test of its own."""
        answer = self.context.request.post("/v1/sign-in", data={"email": email, "password": password})
        assert answer.ok, answer.text()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API as this person; returns the content."""
        headers = {"Hongyan-Console": "1"}
        answer = self.context.request.fetch(path, method=method, data=body, headers=headers)
        assert answer.ok, answer.text()
        return answer.json()["data"]

    def ask_with_file(self, path: str, csv: str) -> Any:
        """Hand a CSV file to the API as this person; returns the content."""
        headers = {"Hongyan-Console": "1", "Content-Type": "text/csv"}
        answer = self.context.request.post(path, data=csv.encode(), headers=headers)
        assert answer.ok, answer.text()
        return answer.json()["data"]

    def go(self, path: str, *, anew: bool = True) -> Page:
        """Go to a page of the console and wait until it has all it asked for.

        Not `anew`: from another page, as by a link, which is half the work.
        """
        before, after = (urlsplit(address).path for address in (self.page.url, f"/console{path}"))
        if anew or not before.startswith("/console/") or before == after:
            self.page.goto(f"/console{path}")
        else:
            self.page.evaluate(
                """path => {
                    document.querySelectorAll("h1").forEach((old) => (old.className = "old"));
                    history.pushState({}, "", path);
                    dispatchEvent(new PopStateEvent("popstate", { state: {} }));
                }""",
                f"/console{path}",
            )
            self.page.wait_for_selector("h1:not(.old)")
        self.settled()
        return self.page

    def settled(self) -> None:
        """Wait until the page stands: what it shows is there, and nothing is on its way."""
        self.page.wait_for_selector("h1")
        expect(self.page.locator(".el-loading-mask, .el-button.is-loading")).to_have_count(0, timeout=15_000)
        for _ in range(200):
            if not self._asked:
                break
            self.page.wait_for_timeout(20)
        self.page.evaluate(STILL)

    @contextmanager
    def forgiving(self, pattern: str = "") -> Iterator[Self]:
        """Begin without complaints; at the end of the block fail with those that came, but for what is meant to come."""
        self.forgives, self.complaints = pattern, []
        try:
            yield self
            assert self.complaints == [], self.complaints  # pytest looks into tests alone
        finally:
            self.forgives, self.complaints = "", []

    def shot(self, name: str) -> None:
        """Keep a screenshot for whoever wants to see what the test saw; it takes longer than some of the tests."""
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / self._named(name))

    def _named(self, name: str) -> str:
        return f"{name}.{self.who}.{self.language}.{self.theme}.{self.width}.png"

    def faults(self) -> list[str]:
        """Return what axe finds serious or critical on this page: rule, and where."""
        if self.page.evaluate("!('axe' in window)"):  # it stays from page to page
            self.page.evaluate(_axe())  # not a <script>: the Content-Security-Policy is the page's, not ours
        found = self.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], resultTypes: ['violations'],"
            " preload: false})"  # of style sheets and films, for rules that are no part of these
        )
        return [
            f"{one['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"][:3]
            # The list of a box to choose from is walked by the box's own keys.
            if "el-select-dropdown__wrap" not in node["html"][:160]
            # Element Plus calls what holds such a list a tooltip; the list has a name of its own.
            if not (one["id"] == "aria-tooltip-name" and "el-popper is-pure" in node["html"])
        ]

    def scrolls_sideways(self) -> int:
        """Return by how many pixels the page itself is wider than the window."""
        return int(
            self.page.evaluate(
                "Math.max(document.documentElement.scrollWidth - innerWidth,"
                " ...[...document.querySelectorAll('main')].map((m) => m.scrollWidth - m.clientWidth))"
            )
        )

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self._complain(said.text)

    def _begun(self, request: Request) -> None:
        if request.resource_type in ("fetch", "xhr"):
            self._asked.add(request)

    def _ended(self, request: Request) -> None:
        self._asked.discard(request)

    def _see(self, answer: Response) -> None:
        if answer.status >= HTTP_REFUSED:
            self._complain(f"{answer.status} {answer.url}")

    def _complain(self, said: str) -> None:
        if not (self.forgives and re.search(self.forgives, said)):
            self.complaints.append(said)


@cache
def _axe() -> str:
    return AXE.read_text()
