"""Somebody's own page with the widget on it, and the person who comes there; and the phone that codes arrive on.

Entry points: shopfront(), a page served from an origin of its own; Visitor, who fails a test where the browser has something to
complain about; code_of(), what the owner reads on the virtual phone.
"""

import base64
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, Self

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Response, expect

from console.sight import HTTP_REFUSED, Demo, Sight, Theme, _axe

WAIT_S: Final = 20.0
# As strict as a page can be that uses the widget: docs/widget.md.
STRICT: Final = (
    "default-src 'none'; script-src 'self' {hongyan}; connect-src {hongyan}; worker-src blob:; base-uri 'none'; "
    "form-action 'self'; require-trusted-types-for 'script'; trusted-types hongyan-verify"
)
NO_WORKER: Final = STRICT.replace("worker-src blob:", "worker-src 'none'")
FRONT: Final = """<!doctype html>
<html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>front</title>
<main><h1>front</h1>
<form id="around"><hongyan-verify name="proof" site-key="{site_key}" scene="{scene}"></hongyan-verify></form>
<output id="proof"></output></main>
<script src="{hongyan}/widget/hongyan-verify.js" defer></script><script src="/front.js" defer></script></html>"""
SCRIPT: Final = b"""
addEventListener("hongyan:verified", ({ detail }) => {
  document.getElementById("proof").textContent = detail.proof;
});
"""


@dataclass
class Front:
    """A page of somebody's own."""

    origin: str
    hongyan: str
    site_key: str = ""
    policy: str = STRICT
    lang: str = "zh-CN"
    scene: str = "login"


@contextmanager
def shopfront(hongyan: str) -> Iterator[Front]:
    """Serve a page with the widget until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = ("text/javascript", SCRIPT) if self.path == "/front.js" else ("image/x-icon", b"")
            if self.path == "/":
                words = {
                    "lang": front.lang,
                    "site_key": front.site_key,
                    "hongyan": hongyan,
                    "scene": front.scene,
                }
                kind, body = "text/html; charset=utf-8", FRONT.format(**words).encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", front.policy.format(hongyan=hongyan))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front = Front(f"http://127.0.0.1:{server.server_port}", hongyan)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WAIT_S)


class Visitor:
    """Somebody at a page with the widget."""

    def __init__(
        self,
        browser: Browser,
        *,
        lang: Literal["zh", "en"] = "zh",
        theme: Theme = "light",
        width: int = 800,
        forgives: str = "",
    ) -> None:
        self._browser = browser
        self._how: dict[str, Any] = {
            "locale": "zh-CN" if lang == "zh" else "en-GB",
            "color_scheme": theme,
            "viewport": {"width": width, "height": 800},
        }
        self._forgives = forgives
        self.complaints: list[str] = []
        self.sent: list[str] = []  # bodies of what was posted
        self.context: BrowserContext
        self.page: Page

    def __enter__(self) -> Self:
        self.context = self._browser.new_context(**self._how)
        self.context.set_default_timeout(20_000)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self._complain(f"error: {error}"))
        self.page.on("console", self._hear)
        self.page.on("response", self._see)
        self.page.on("request", lambda request: self.sent.append(request.post_data or ""))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.close()
        if kind is None:
            assert self.complaints == [], self.complaints

    def at(self, field: str) -> Locator:
        """Return what has this id in the widget."""
        return self.page.locator(f"hongyan-verify #{field}")

    def go(self, address: str) -> None:
        self.page.goto(address)
        expect(self.page.locator("hongyan-verify button.main")).to_be_enabled()

    def ask_for_code(self, number: str) -> None:
        """Type a number and press Enter; the code's field is where one is then."""
        self.at("number").fill(number)
        self.page.keyboard.press("Enter")
        expect(self.at("code")).to_be_focused()

    def says(self, text: str | re.Pattern[str]) -> None:
        """Expect a complaint, in sight and where a reader of screens hears it."""
        expect(self.page.locator("hongyan-verify [role=alert]")).to_contain_text(text)

    def proof(self) -> str:
        expect(self.page.locator("#proof")).not_to_be_empty()
        return self.page.locator("#proof").inner_text()

    def faults(self) -> list[str]:
        """Return everything axe finds in the widget, of whichever weight, once its colours have stopped changing."""
        self.page.evaluate(_axe())
        self.page.evaluate(
            "Promise.allSettled(document.querySelector('hongyan-verify').shadowRoot"
            ".getAnimations().map((one) => one.finished))"
        )
        found = self.page.evaluate("axe.run('hongyan-verify', {resultTypes: ['violations']})")
        return [f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]]

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self._complain(said.text)

    def _see(self, answer: Response) -> None:
        if answer.status >= HTTP_REFUSED:
            self._complain(f"{answer.status} {answer.url}")

    def _complain(self, said: str) -> None:
        if not (self._forgives and re.search(self._forgives, said)):
            self.complaints.append(said)


def _demo_app(owner: Sight) -> Any:
    """The demo tenant's own app: other tests may have made more."""
    return next(app for app in owner.ask("GET", "/v1/apps")["items"] if app["name"] == "demo")


def app_key(owner: Sight) -> tuple[str, str]:
    """Make a sandbox key of the demo tenant's app; returns its id and its secret."""
    app = _demo_app(owner)
    made = owner.ask("POST", f"/v1/apps/{app['id']}/keys", {"sandbox": True, "allow_basic": True})
    return made["key"]["key_id"], made["secret"]


def basic(key_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{key_id}:{secret}".encode()).decode()


def site_key(owner: Sight, demo: Demo, **fields: Any) -> str:
    """Make a site key of the demo tenant."""
    app = _demo_app(owner)
    made = owner.ask("POST", f"/v1/apps/{app['id']}/site-keys", fields)
    key_id = str(made["key_id"])
    asked: dict[str, str] = {"Origin": fields["origins"][0]}
    give_up_s = time.monotonic() + WAIT_S  # doors hear of it within moments
    while not owner.context.request.post(
        f"{demo.base}/v1/widget/{key_id}/settings",
        headers=asked,
        data={"scene": fields.get("scenes", ["login"])[0]},
    ).ok:
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    return key_id


def lenient(owner: Sight) -> None:
    """Let one address ask often: all who visit in these tests come from the same."""
    _put(owner, "", {})


@contextmanager
def suspicious(owner: Sight, demo: Demo, front: Front) -> Iterator[None]:
    """Have whoever asks for a code of the front's scene solve a puzzle first, until the end of the block."""
    post = owner.context.request.post
    key = basic(*demo.key.split(":"))
    for n in range(4):  # as many as make an address suspicious, asked for by the app's own server
        wish = {"to": f"199000000{90 + n}", "scene": "reset", "ip": "127.0.0.1"}
        post(f"{demo.base}/v1/verifications", data=wish, headers={"Authorization": key})
    _put(owner, front.scene, {"address_soft_hour": 1})
    ask = f"{demo.base}/v1/widget/{front.site_key}/start"
    wish = {"number": "19900000099", "scene": front.scene}
    give_up_s = time.monotonic() + WAIT_S
    while (said := post(ask, data=wish, headers={"Origin": front.origin}).json())["detail"][
        "level"
    ] != "slider":
        assert time.monotonic() < give_up_s, said
        time.sleep(0.05)
    yield
    _put(owner, front.scene, {})


def _put(owner: Sight, scene: str, fields: Mapping[str, int]) -> None:
    policy = {"address_5_minutes": 1_000, "address_hour": 1_000, **fields}
    owner.ask("PUT", "/v1/verification-policies", {"scene": scene or None, "policy": policy})


def code_of(owner: Sight, number: str) -> str:
    """Read the newest code that arrived on a sandbox number."""
    give_up_s = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_s:
        for message in owner.ask("GET", "/v1/messages?limit=20")["items"]:
            found = re.search(r"验证码为:(\d{6})", message["text"] or "")
            if found and message["number"].endswith(number[-2:]) and message["status"] == "delivered":
                return found[1]
        time.sleep(0.05)
    raise AssertionError(f"no code came to {number}")


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"
