"""The console's built pages, served from memory: /console/ and what is under it.

Entry points: found() and POLICY, the Content-Security-Policy of the pages. They are made by `make console`
(console/vite.config.ts) into BUILT, which a wheel carries; a program without them says where they come from. Pages are the same
for everybody and hold no secret: what they show is asked of the API, by the person who is signed in.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

BUILT: Final = Path(__file__).parent.parent / "console"
ROOT: Final = "/console/"
# Scripts and styles only from here, and none in the text of a page.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
KINDS: Final[Mapping[str, str]] = {  # text is said to be UTF-8 by the server
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))  # the better first
FOREVER: Final = "public, max-age=31536000, immutable"  # the name of an asset changes with what is in it
ALWAYS_ASK: Final = "no-cache"
ABSENT: Final = b"""<!doctype html><meta charset="utf-8"><title>hongyan</title>
<p>The console is not built here: <code>make console</code>. The API is described at <a href="/docs">/docs</a>.</p>
"""


class Built(msgspec.Struct, frozen=True):
    """One file: its octets by content coding ('' as they are), and how long a browser may keep it."""

    kind: str
    tag: str  # a strong validator (RFC 9110 §8.8.3), the same for all codings but for their suffix
    cache: str
    octets: Mapping[str, bytes]

    def coding(self, accepted: str) -> str:
        """Return the coding to send to somebody who accepts these (RFC 9110 §12.5.3)."""
        wanted = {
            name.strip().lower(): weight.replace(" ", "")
            for name, _, weight in (each.partition(";") for each in accepted.split(","))
        }
        for name, _suffix in ENCODINGS:
            if name in self.octets and not re.fullmatch(r"q=0(\.0*)?", wanted.get(name, "q=0")):
                return name
        return ""


def found(path: str) -> Built | None:
    """Return what stands at a path under ROOT; a place in the console itself is its one page. None: nothing does."""
    files = _files()
    name = path.removeprefix(ROOT)
    if name in files:
        return files[name]
    return (
        None
        if name.startswith("assets/") or "." in name.rpartition("/")[2]
        else files.get("index.html", _ABSENT)
    )


@cache
def _files() -> Mapping[str, Built]:
    files = {}
    for path in sorted(BUILT.rglob("*")) if BUILT.is_dir() else []:
        if not path.is_file() or path.suffix not in KINDS:
            continue
        name = path.relative_to(BUILT).as_posix()
        octets = {"": path.read_bytes()}
        for coding, suffix in ENCODINGS:
            packed = path.with_name(path.name + suffix)
            if packed.is_file():
                octets[coding] = packed.read_bytes()
        files[name] = _built(path.suffix, FOREVER if name.startswith("assets/") else ALWAYS_ASK, octets)
    return files


def _built(suffix: str, cache_control: str, octets: Mapping[str, bytes]) -> Built:
    return Built(KINDS[suffix], hashlib.sha256(octets[""]).hexdigest()[:16], cache_control, octets)


_ABSENT: Final = _built(".html", "no-store", {"": ABSENT})
