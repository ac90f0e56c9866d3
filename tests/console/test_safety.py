"""What a stranger may try on somebody who is signed in: frames, addresses, scripts, cookies. In a real browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from console.conftest import People
from console.hostile import HOSTILE, taken
from console.sight import WIDE, Demo, Sight

pytestmark = pytest.mark.needs("chromium")


@contextmanager
def stranger(page: str) -> Iterator[str]:
    """Another site with one page; gives its address."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        # Another name for this machine: another site to the browser.
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_nobody_frames_a_page(demo: Demo, browser: Browser) -> None:
    with (
        stranger(f'<iframe src="{demo.base}/console/messages"></iframe>') as site,
        Sight(browser, demo, "owner", forgives=".") as sight,
    ):
        sight.page.goto(site)
        (frame,) = [one for one in sight.page.frames if one is not sight.page.main_frame]
        assert frame.locator("#app").count() == 0


def test_another_site_can_change_nothing_with_the_cookie_of_who_visits_it(
    demo: Demo, browser: Browser
) -> None:
    form = f"""<form method="post" enctype="text/plain" action="{demo.base}/v1/apps">
        <input name='{{"name":"taken","x":"' value='"}}'></form><script>document.forms[0].submit()</script>"""
    with stranger(form) as site, Sight(browser, demo, "owner", forgives=".") as sight:
        before = len(sight.ask("GET", "/v1/apps")["items"])
        sight.page.goto(site)
        sight.page.wait_for_url(re.compile("/v1/apps"))
        assert len(sight.ask("GET", "/v1/apps")["items"]) == before


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(people: People) -> None:
    with people("owner", *WIDE).forgiving() as sight:
        (cookie,) = sight.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        sight.go("/")
        assert sight.page.evaluate("document.cookie") == ""


@pytest.mark.parametrize(
    "path",
    [
        f"/messages?number={quote(HOSTILE)}&reference={quote(HOSTILE)}",
        f"/messages/{quote(HOSTILE)}",
        f"/templates/new?from={quote(HOSTILE)}",
        f"/statistics?by={quote(HOSTILE)}",
        f"/send?template={quote(HOSTILE)}",
        f"/no{quote(HOSTILE)}",
        f"/audit?actor={quote(HOSTILE)}#{quote(HOSTILE)}",
    ],
)
def test_an_address_with_markup_in_it_is_only_words(people: People, path: str) -> None:
    with people("owner", *WIDE).forgiving(r"^4\d\d |status of 4\d\d") as sight:
        sight.go(path)
        assert taken(sight.page) == 0


@pytest.mark.parametrize(
    "to", ["//evil.example/", "https://evil.example/", "javascript:hostile=1", r"/\evil.example"]
)
def test_signing_in_leads_nowhere_else(demo: Demo, people: People, to: str) -> None:
    with people("nobody", *WIDE).forgiving("401") as sight:
        sight.go(f"/sign-in?to={quote(to)}")
        sight.page.fill("#email", "owner@example.com")
        sight.page.fill("#password", demo.passwords["owner"])
        sight.page.locator("button[type=submit]").click()
        expect(sight.page.locator("nav")).to_be_attached()
        assert sight.page.url.startswith(f"{demo.base}/console/")
        assert taken(sight.page) == 0
        sight.settled()
        sight.page.goto("/healthz")  # a page that is signed out complains
        sight.context.clear_cookies()


def test_a_sign_in_that_ended_leads_back_to_where_somebody_was(demo: Demo, browser: Browser) -> None:
    with Sight(browser, demo, "nobody", forgives="401") as sight:
        sight.sign_in("owner@example.com", demo.passwords["owner"])
        sight.go("/templates?state=approved")
        sight.context.clear_cookies()
        sight.page.reload()
        sight.page.wait_for_url(re.compile("/console/sign-in"))
        sight.page.fill("#email", "owner@example.com")
        sight.page.fill("#password", demo.passwords["owner"])
        sight.page.locator("button[type=submit]").click()
        sight.page.wait_for_url(re.compile(r"/console/templates\?state=approved"))
