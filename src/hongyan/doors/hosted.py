"""The hosted login page, and the files of the widget that it and other people's pages use.

Entry points: read(), page(), policy(); refused(), what a person sees where there is no page; files(). The page is ours, so its
Content-Security-Policy is the strictest there is: scripts and styles from here alone. It hands its proof back only to a return
address that the site key lists, to the letter: by a form it posts, or behind a `#`, as whoever sends people here prefers
(docs/widget.md says when which).
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from hongyan.doors.exchange import language_of, message_of
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Scene
from hongyan.way.snapshot import SiteKey

PAGE: Final = "/verify/{site_key}"
FILES: Final = "/widget/{name}"
FOLDER: Final = Path(__file__).parent.parent / "widget"
KINDS: Final[Mapping[str, str]] = {".js": "text/javascript", ".css": "text/css"}
CACHE: Final = (
    "public, max-age=86400, stale-while-revalidate=604800"  # its name stays while what is in it changes
)
QUERY_OCTETS_MAX: Final = 4_096
STATE_CHARACTERS_MAX: Final = 512
MODES: Final[Mapping[str, Literal["post", "fragment"]]] = {"post": "post", "fragment": "fragment"}


class Asked(NamedTuple):
    """What a person was sent here with."""

    return_to: str
    state: str
    scene: Scene
    mode: Literal["post", "fragment"]
    lang: Literal["zh", "en"]


class File(NamedTuple):
    kind: str
    octets: bytes
    tag: str


WORDS: Final = {
    "zh": ("登录验证", "请启用 JavaScript 后重试。", "继续", "验证成功，正在返回…"),
    "en": ("Verify your number", "This page needs JavaScript.", "Continue", "Verified. Taking you back …"),
}
REFUSED_WORDS: Final = {
    "zh": (
        "无法打开此页面",
        "带您来到这里的链接不正确，或已经失效。请返回上一页重试；如果仍然如此，请将以下内容告知来源网站：",
    ),
    "en": (
        "This page cannot be opened",
        "The link that led here is wrong or out of date. Go back and try again; if it fails again, tell the site you came from:",
    ),
}
REFUSED_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src data:;"
    " form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def read(site_key: SiteKey, query: bytes, accept_language: bytes) -> Asked:
    """Read the query of a visit. Raises Refusal: nobody is ever sent to an address that is not on the key's list."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=20,
            strict_parsing=bool(query),
        )
    except ValueError:
        raise _wrong("query", "cannot be read") from None
    given = dict(pairs)
    if len(query) > QUERY_OCTETS_MAX or len(given) < len(pairs):
        raise _wrong("query", "too long, or a parameter was given twice")
    return_to = given.get("return_to", "")
    if return_to not in site_key.return_addresses:
        raise _wrong("return_to", "must be one of the site key's return addresses, to the letter")
    state = given.get("state", "")
    if len(state) > STATE_CHARACTERS_MAX or not state.isprintable():
        raise _wrong("state", f"at most {STATE_CHARACTERS_MAX} printable characters")
    scene = given.get("scene") or ("login" if "login" in site_key.scenes else min(site_key.scenes))
    if scene not in site_key.scenes:
        raise _wrong("scene", "the site key is not for this scene")
    mode, lang = MODES.get(given.get("mode", "post")), given.get("lang") or language_of(accept_language)
    if mode is None:
        raise _wrong("mode", "post or fragment")
    return Asked(return_to, state, Scene(scene), mode, "zh" if lang.lower().startswith("zh") else "en")


def page(site_key: SiteKey, asked: Asked) -> str:
    """Return the page. Nothing of a visit is in it but escaped, and no script is in its text."""
    title, no_script, go_on, done = WORDS[asked.lang]
    name = f"<p class='name'>{escape(site_key.name)}</p>" if site_key.name else ""
    lang = _TAGS[asked.lang]
    return f"""{_head(asked.lang, title)}
<script src="/widget/hongyan-verify.js" defer></script>
<script src="/widget/hosted.js" defer></script>
<main>
<h1>{title}</h1>
{name}
<noscript><p>{no_script}</p></noscript>
<hongyan-verify site-key="{escape(site_key.key_id)}" scene="{asked.scene}" lang="{lang}"></hongyan-verify>
<form id="back" method="post" action="{escape(asked.return_to)}" data-mode="{asked.mode}" hidden>
<p role="status">{done}</p>
<input type="hidden" name="proof">
<input type="hidden" name="state" value="{escape(asked.state)}">
<button type="submit">{go_on}</button>
</form>
</main>
</html>
"""


def refused(refusal: Refusal, request_id: str, accept_language: bytes) -> str:
    """Return the page of a visit that leads nowhere: words for a person, and for whoever made the link what is wrong with it.

    Nothing of the visit is in it.
    """
    lang = language_of(accept_language)
    title, text = REFUSED_WORDS[lang]
    wrong = ": ".join(str(refusal.detail[name]) for name in ("parameter", "reason") if name in refusal.detail)
    lines = (message_of(refusal.code, accept_language), wrong, f"{refusal.code.value.name} {request_id}")
    told = "<br>\n".join(escape(line) for line in lines if line)
    return f"""{_head(lang, title)}
<main>
<h1>{title}</h1>
<p>{text}</p>
<p class="name">{told}</p>
</main>
</html>
"""


_TAGS: Final = {"zh": "zh-CN", "en": "en"}


def _head(lang: Literal["zh", "en"], title: str) -> str:
    return f"""<!doctype html>
<html lang="{_TAGS[lang]}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/widget/hosted.css">"""


def policy(asked: Asked) -> str:
    """Return the page's Content-Security-Policy: a form may leave for the return address, and nothing else may leave."""
    parts = urlsplit(asked.return_to)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; worker-src blob:; img-src data:; "
        f"form-action {parts.scheme}://{parts.netloc}; frame-ancestors 'none'; base-uri 'none'"
    )


@cache
def files() -> Mapping[str, File]:
    """Return the widget's files by name, read once."""
    found = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in KINDS:
            octets = path.read_bytes()
            found[path.name] = File(
                KINDS[path.suffix], octets, f'"{hashlib.sha256(octets).hexdigest()[:16]}"'
            )
    return found


def _wrong(parameter: str, reason: str) -> Refusal:
    return Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=reason)
