"""A tiny shop whose customers log in or register with one code. Python's standard library and nothing else.

    make run                            # in another terminal: hongyan with its demo tenant
    python3 examples/shop/shop.py       # then open http://127.0.0.1:8090

The page (page.html) asks for a code by itself, with the publishable site key. What it gets for the right code is a proof; this
server redeems it with its app key, which never leaves it, and learns the number. Accounts and sessions are kept in
memory: a shop of yours has a database.
"""

import base64
import hmac
import html
import json
import os
import secrets
import sys
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from urllib.parse import urlencode

HERE = Path(__file__).parent
PAGE = Template((HERE / "page.html").read_text("utf-8"))
BODY_OCTETS_MAX = 10_000
WAIT_S = 20
COOKIE = "shop"


class Settings:
    """Where hongyan is and who we are there: from SHOP_… variables, else as `make run` left it in state/demo.json."""

    def __init__(self) -> None:
        state = Path(os.environ.get("SHOP_STATE", HERE.parents[1] / "state")) / "demo.json"
        demo = {} if "SHOP_KEY_ID" in os.environ else json.loads(state.read_text("utf-8"))
        self.port = int(os.environ.get("SHOP_PORT", "8090"))
        self.hongyan = os.environ.get("SHOP_HONGYAN", "http://127.0.0.1:8080").rstrip("/")
        self.site_key = os.environ.get("SHOP_SITE_KEY") or demo["site_key"]
        key_id = os.environ.get("SHOP_KEY_ID") or demo["sandbox_key_id"]
        secret = os.environ.get("SHOP_SECRET") or demo["sandbox_secret"]
        self.authorization = "Basic " + base64.b64encode(f"{key_id}:{secret}".encode()).decode()


class Shop:
    """Who has an account, and which browser is whose."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._accounts: dict[str, int] = {}  # number → how often it came
        self._sessions: dict[str, str] = {}  # a browser's secret word → number
        self._states: dict[
            str, str
        ] = {}  # a browser that was sent to the hosted page → what has to come back

    def redeem(self, proof: str) -> str | None:
        """Return whose number a proof proves; None where it proves nothing. Hongyan says so once."""
        request = urllib.request.Request(  # noqa: S310 - the address is our own setting
            f"{self.settings.hongyan}/v1/verifications/redeem",
            json.dumps({"proof": proof}).encode(),
            {"Content-Type": "application/json", "Authorization": self.settings.authorization},
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - the same
                said = json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            with refused:
                print("hongyan:", refused.read().decode(errors="replace"), file=sys.stderr)
            return None
        return said["to"] if said["scene"] == "login" else None

    def enter(self, number: str) -> tuple[str, bool]:
        """Log a number in, and make it an account where it has none. Returns the browser's word, and whether it is new."""
        word = secrets.token_urlsafe(24)
        with self._lock:
            new = number not in self._accounts
            self._accounts[number] = self._accounts.get(number, 0) + 1
            self._sessions[word] = number  # a new word each time: nobody can have planted it before
        return word, new

    def number_of(self, word: str) -> str:
        with self._lock:
            return self._sessions.get(word, "")

    def leave(self, word: str) -> None:
        with self._lock:
            self._sessions.pop(word, None)

    def send_away(self, word: str) -> str:
        """Return the word that has to come back with this browser from the hosted page."""
        with self._lock:
            return self._states.setdefault(word, secrets.token_urlsafe(24))

    def came_back(self, word: str, state: str) -> bool:
        with self._lock:
            wanted = self._states.pop(word, "")
        return bool(wanted) and hmac.compare_digest(wanted.encode(), state.encode())


class Handler(BaseHTTPRequestHandler):
    """Answers one browser."""

    shop: Shop

    def do_GET(self) -> None:
        if self.path in ("/", "/verified"):
            self._page()
        elif self.path == "/hosted":
            self._send_away()
        elif self.path == "/favicon.ico":
            self._answer(HTTPStatus.OK, "image/x-icon", b"")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not here\n")

    def do_POST(self) -> None:
        origin = f"http://{self.headers['Host']}"
        if self.headers["Origin"] != origin:  # a page of somebody else must not log anybody in here
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"not from our own page\n")
        elif self.path == "/log-in":
            self._log_in()
        elif self.path == "/log-out":
            self.shop.leave(self._word())
            self._moved("/")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not here\n")

    def _log_in(self) -> None:
        try:
            said = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), BODY_OCTETS_MAX)))
            proof, state = str(said["proof"]), str(said.get("state", ""))
        except (ValueError, KeyError, TypeError):
            self._answer(HTTPStatus.BAD_REQUEST, "text/plain", b"no proof\n")
            return
        # By way of the hosted page a proof comes in the address: only this browser's own counts.
        if state and not self.shop.came_back(self._word(), state):
            self._json(HTTPStatus.FORBIDDEN, {"error": "this log-in was begun in another browser"})
            return
        number = self.shop.redeem(proof)
        if number is None:
            self._json(HTTPStatus.FORBIDDEN, {"error": "the proof was not accepted"})
            return
        word, new = self.shop.enter(number)
        self._json(HTTPStatus.OK, {"new": new}, {"Set-Cookie": _cookie(word)})

    def _send_away(self) -> None:
        settings, word = self.shop.settings, self._word() or secrets.token_urlsafe(24)
        query = urlencode(
            {
                "return_to": f"http://{self.headers['Host']}/verified",
                "state": self.shop.send_away(word),
                "mode": "fragment",
            }
        )
        self._moved(f"{settings.hongyan}/verify/{settings.site_key}?{query}", {"Set-Cookie": _cookie(word)})

    def _page(self) -> None:
        settings, nonce = self.shop.settings, secrets.token_urlsafe(16)
        number = self.shop.number_of(self._word())
        page = PAGE.substitute(
            hongyan=html.escape(settings.hongyan),
            site_key=html.escape(settings.site_key),
            nonce=nonce,
            who=html.escape(f"{number[:-8]}****{number[-4:]}" if number else ""),
            inside="hidden" if not number else "",
            outside="hidden" if number else "",
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            f"connect-src 'self' {settings.hongyan}; worker-src blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        self._answer(
            HTTPStatus.OK, "text/html; charset=utf-8", page.encode(), {"Content-Security-Policy": policy}
        )

    def _word(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        return found.value if found else ""

    def _json(self, status: HTTPStatus, said: object, more: dict[str, str] | None = None) -> None:
        self._answer(status, "application/json", json.dumps(said).encode(), more)

    def _moved(self, to: str, more: dict[str, str] | None = None) -> None:
        self._answer(HTTPStatus.SEE_OTHER, "text/plain", b"", {"Location": to} | (more or {}))

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            **(more or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        print(self.address_string(), format % args, file=sys.stderr)


def _cookie(word: str) -> str:
    """Return a cookie that no script reads and no other site sends. A shop on the web adds Secure and a __Host- name."""
    return f"{COOKIE}={word}; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400"


def serve(settings: Settings) -> ThreadingHTTPServer:
    """Open the shop; serve_forever() keeps it open."""
    handler = type("ShopHandler", (Handler,), {"shop": Shop(settings), "timeout": WAIT_S})
    server = ThreadingHTTPServer(("127.0.0.1", settings.port), handler)
    server.daemon_threads = True
    return server


def main() -> None:
    try:
        settings = Settings()
    except (FileNotFoundError, KeyError) as error:
        sys.exit(
            f"shop: {error!r}: start hongyan first (make run), or say SHOP_KEY_ID, SHOP_SECRET and SHOP_SITE_KEY"
        )
    server = serve(settings)
    print(
        f"The shop is open: http://127.0.0.1:{server.server_address[1]}  (test numbers: 199 0000 0000 and up)"
    )
    print(f"Codes arrive on the virtual phone: {settings.hongyan}/console/ → messages", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
