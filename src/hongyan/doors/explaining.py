"""Why a signed request is refused: its canonical string as we build it, and which known mistake explains its MAC.

Writes nothing, asks nobody. Entry point: explain(). It tries what people get wrong, one thing at a time and then two together,
and says which attempt gives the MAC that was sent. It only ever confirms a MAC: neither the secret nor a MAC of ours leaves here.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, quote_plus, unquote, urlsplit

import msgspec

from hongyan.doors.auth import FORMS, SCHEME, canonical
from hongyan.doors.mistakes import MISTAKES, Mistake

LineName = Literal["method", "path", "query", "body", "timestamp", "nonce"]
LINES: Final[tuple[LineName, ...]] = ("method", "path", "query", "body", "timestamp", "nonce")
EXCERPT: Final = 24  # characters on each side of a difference
BODY_TRIED_MAX: Final = 65_536  # octets; a longer body is not written in other ways


class Pasted(msgspec.Struct, frozen=True):
    """A request as somebody pasted it. `own`: the canonical string that their program built, where it is known."""

    method: str
    target: str
    authorization: str
    body: str = ""
    own: str = ""


class CanonicalLine(msgspec.Struct, frozen=True):
    """One of the six lines."""

    name: LineName
    ours: str
    theirs: str | None  # of the canonical string that was pasted


class FirstDifference(msgspec.Struct, frozen=True):
    """Where two canonical strings part: a place in both, counted from 0, and what stands there."""

    position: int
    line: int
    column: int
    ours: str
    theirs: str


class SignatureFinding(msgspec.Struct, frozen=True):
    """A mistake that was found. `certain`: the MAC that was sent is what this mistake gives."""

    mistake: Mistake
    certain: bool
    en: str
    zh: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be said about a signed request."""

    fits: bool  # the MAC is right
    canonical: str
    lines: Sequence[CanonicalLine]
    findings: Sequence[SignatureFinding]  # those that explain the MAC first
    difference: FirstDifference | None
    own_fits: bool | None  # the MAC is right for the string that was pasted: then only that string is wrong
    key_id: str
    timestamp: str
    nonce: str


def found(mistake: Mistake, *, certain: bool = False) -> SignatureFinding:
    """Return a mistake with its words."""
    en, zh = MISTAKES[mistake]
    return SignatureFinding(mistake, certain, en, zh)


def explain(secret: bytes, pasted: Pasted, key_id: str, now_s: float, skew_s: int) -> Explained:
    """Say what the server makes of a request that was signed with the key's secret, or should have been."""
    findings: list[SignatureFinding] = []
    given = _header(pasted.authorization, findings)
    path, query = _target(pasted.target, findings)
    timestamp, nonce, mac = (given.get(name, "") for name in ("timestamp", "nonce", "mac"))
    if given.get("key_id", key_id) != key_id:
        findings.append(found(Mistake.OTHER_KEY))
    _age(timestamp, now_s, skew_s, findings)
    parts = _Parts(
        secret, pasted.method.upper(), path, query, pasted.body.encode(), timestamp, nonce, pasted.target
    )
    ours = parts.canonical()
    fits = _same(hmac.digest(secret, ours.encode(), "sha256"), mac)
    if not fits and mac:
        findings[:0] = [found(one, certain=True) for one in _mistakes(parts, mac)]
    return Explained(
        fits=fits,
        canonical=ours,
        lines=_lines(ours, pasted.own),
        findings=findings,
        difference=difference(ours, pasted.own) if pasted.own else None,
        own_fits=_own_fits(secret, pasted.own, mac) if pasted.own and mac else None,
        key_id=given.get("key_id", ""),
        timestamp=timestamp,
        nonce=nonce,
    )


# ---- what was pasted


def _header(written: str, findings: list[SignatureFinding]) -> dict[str, str]:
    """Read the header as kindly as one can, and say what the server would not have read."""
    text = re.sub(r"^\s*authorization\s*:\s*", "", written, flags=re.IGNORECASE).strip()
    scheme, _, rest = text.partition(" ")
    if not text:
        findings.append(found(Mistake.NO_HEADER))
    elif scheme.lower() == "basic":
        findings.append(found(Mistake.BASIC))
        return {}
    elif scheme.upper() != SCHEME:
        findings.append(found(Mistake.SCHEME))
        rest = text if "=" in scheme else rest
    pairs = [
        (name.lower(), value) for name, value in re.findall(r"([\w-]+)\s*=\s*\"?([^\",;\s]*={0,2})\"?", rest)
    ]
    given = {_ALIASES.get(name.replace("-", "_"), name): value for name, value in pairs}
    names = [name for name, _ in pairs]
    if text and ('"' in rest or ";" in rest or "," not in rest.strip(", ") or sorted(names) != sorted(FORMS)):
        findings.append(found(Mistake.HEADER_FORM))
    _forms(given, findings)
    return given


_ALIASES: Final = {
    "keyid": "key_id", "appkey": "key_id", "app_key": "key_id", "access_key": "key_id", "credential": "key_id",
    "signature": "mac", "sign": "mac", "ts": "timestamp", "time": "timestamp",
}  # fmt: skip


def _forms(given: dict[str, str], findings: list[SignatureFinding]) -> None:
    timestamp, nonce, mac = (given.get(name) for name in ("timestamp", "nonce", "mac"))
    if timestamp is not None and FORMS["timestamp"].fullmatch(timestamp) is None:
        is_number = timestamp.isascii() and timestamp.replace(".", "").isdigit()
        findings.append(found(Mistake.TIMESTAMP_MS if is_number else Mistake.TIMESTAMP_FORM))
    if nonce is not None and FORMS["nonce"].fullmatch(nonce) is None:
        findings.append(found(Mistake.NONCE_FORM))
    if mac is None or FORMS["mac"].fullmatch(mac) is not None:
        return
    if re.fullmatch(r"[0-9a-fA-F]{64}", mac):
        findings.append(found(Mistake.MAC_UPPER))
    elif re.fullmatch(r"[A-Za-z0-9+/_-]{43}=?", mac):
        findings.append(found(Mistake.MAC_BASE64))
    else:
        findings.append(found(Mistake.MAC_FORM))


def _target(written: str, findings: list[SignatureFinding]) -> tuple[str, str]:
    """Return path and query as they stood on the request line; of a whole URL, those in it."""
    if re.match(r"^[a-z]+://", written, re.IGNORECASE):
        split = urlsplit(written)
        return split.path or "/", split.query
    path, _, query = written.partition("?")
    if not path.startswith("/"):
        findings.append(found(Mistake.TARGET_FORM))
        path = "/" + path
    return path, query.partition("#")[0]


def _age(timestamp: str, now_s: float, skew_s: int, findings: list[SignatureFinding]) -> None:
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > 12:
        return
    off_s = now_s - int(timestamp)
    if off_s > skew_s:
        findings.append(found(Mistake.OLD))
    elif off_s < -skew_s:
        findings.append(found(Mistake.FUTURE))


# ---- the string of somebody else


def difference(ours: str, theirs: str) -> FirstDifference | None:
    """Return where two strings part; None where they are the same."""
    if ours == theirs:
        return None
    position = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    before = ours[:position]
    start = max(0, position - EXCERPT)
    return FirstDifference(
        position,
        before.count("\n"),
        position - (before.rfind("\n") + 1),
        ours[start : position + EXCERPT],
        theirs[start : position + EXCERPT],
    )


def _lines(ours: str, own: str) -> Sequence[CanonicalLine]:
    theirs: list[str | None] = [*own.replace("\r\n", "\n").split("\n")] if own else []
    theirs += [None] * 6
    return [
        CanonicalLine(name, line, theirs[i])
        for i, (name, line) in enumerate(zip(LINES, ours.split("\n"), strict=True))
    ]


def _own_fits(secret: bytes, own: str, mac: str) -> bool:
    return _same(hmac.digest(secret, own.encode(), "sha256"), mac)


def _same(digest: bytes, mac: str) -> bool:
    """Whether a digest was sent, in hexadecimal or base64."""
    written = mac.encode()
    forms = (digest.hex().encode(), base64.b64encode(digest), base64.urlsafe_b64encode(digest))
    lower = mac.lower().encode()
    return any(
        [hmac.compare_digest(forms[0], lower)]
        + [hmac.compare_digest(form.rstrip(b"="), written.rstrip(b"=")) for form in forms[1:]]
    )


# ---- what people get wrong


class _Parts(NamedTuple):
    """What a MAC is made of, as it should be."""

    secret: bytes
    method: str
    path: str
    query: str
    body: bytes
    timestamp: str
    nonce: str
    target: str

    def canonical(self) -> str:
        words = (self.method, self.path, self.query, self.timestamp, self.nonce)
        method, path, query, timestamp, nonce = (word.encode() for word in words)
        return canonical(method, path, query, self.body, timestamp, nonce).decode()


class _Other(NamedTuple):
    """One way to get one thing wrong: a line, the secret, how lines are joined, or how the MAC is made."""

    mistake: Mistake
    what: str
    value: Any


_Join = Callable[[Sequence[str]], str]
_Make = Callable[[bytes, bytes], bytes]


def _mistakes(parts: _Parts, mac: str) -> Sequence[Mistake]:
    """Return the mistakes, one or two, that give the MAC that was sent; none where no attempt does."""
    right: dict[str, Any] = dict(zip(LINES, parts.canonical().split("\n"), strict=True))
    right |= {"secret": parts.secret, "join": "\n".join, "make": _hmac("sha256")}
    others = [*_others(parts)]
    attempts: Iterator[tuple[_Other, ...]] = iter([(), *((one,) for one in others)])
    for attempt in (*attempts, *combinations(others, 2)):
        if len({other.what for other in attempt}) == len(attempt) and _gives(right, attempt, mac):
            return [other.mistake for other in attempt]
    lines = [right[name] for name in LINES]
    for order in permutations(lines):
        if _same(hmac.digest(parts.secret, "\n".join(order).encode(), "sha256"), mac):
            return [Mistake.LINE_ORDER]
    return []


def _gives(right: dict[str, Any], attempt: Sequence[_Other], mac: str) -> bool:
    tried = right | {other.what: other.value for other in attempt}
    octets = tried["join"]([tried[name] for name in LINES if tried[name] is not None])
    return _same(tried["make"](tried["secret"], octets.encode()), mac)


def _others(parts: _Parts) -> Iterator[_Other]:
    yield from _of_body(parts)
    yield from _of_query(parts)
    yield from _of_path(parts)
    yield from _of_secret(parts)
    yield _Other(Mistake.METHOD_CASE, "method", parts.method.lower())
    for name in LINES:
        yield _Other(Mistake.LINE_MISSING, name, None)
    yield from _of_time(parts)
    yield from _of_joining()
    yield from _of_making()


def _of_body(parts: _Parts) -> Iterator[_Other]:
    def hashed(mistake: Mistake, body: bytes) -> _Other:
        return _Other(mistake, "body", hashlib.sha256(body).hexdigest())

    body, digest = parts.body, hashlib.sha256(parts.body)
    yield hashed(Mistake.BODY_EMPTY, b"")
    yield hashed(Mistake.BODY_NEWLINE, body.rstrip(b"\r\n"))
    yield hashed(Mistake.BODY_NEWLINE, body + b"\n")
    yield hashed(Mistake.BODY_NEWLINE, body + b"\r\n")
    if len(body) <= BODY_TRIED_MAX:
        for written in {*_json_forms(body)} - {body}:
            yield hashed(Mistake.BODY_JSON, written)
        yield hashed(Mistake.BODY_CRLF, body.replace(b"\r\n", b"\n"))
        yield hashed(Mistake.BODY_CRLF, body.replace(b"\n", b"\r\n"))
        yield _Other(Mistake.BODY_RAW, "body", body.decode(errors="replace"))
    yield _Other(Mistake.BODY_HEX_UPPER, "body", digest.hexdigest().upper())
    yield _Other(Mistake.BODY_BASE64, "body", base64.b64encode(digest.digest()).decode())
    for name in ("md5", "sha1", "sha512"):
        yield _Other(Mistake.BODY_HASH, "body", hashlib.new(name, body, usedforsecurity=False).hexdigest())


def _json_forms(body: bytes) -> Iterator[bytes]:
    """Yield the JSON of a body as other writers would have written it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    for ascii_ in (True, False):
        for sort in (True, False):
            for separators, indent in (
                ((",", ":"), None),
                ((", ", ": "), None),
                (None, 2),
                (None, 4),
                (None, "\t"),
            ):
                text = json.dumps(
                    value, ensure_ascii=ascii_, sort_keys=sort, separators=separators, indent=indent
                )
                yield text.encode("utf-8", "replace")
                yield text.replace("/", "\\/").encode("utf-8", "replace")  # as PHP does


def _of_query(parts: _Parts) -> Iterator[_Other]:
    query, fields = parts.query, sorted(field for field in parts.query.split("&") if field)
    if not query:
        yield _Other(Mistake.LINE_MISSING, "query", None)
        return
    yield _Other(Mistake.QUERY_ORDER, "query", query)
    yield _Other(Mistake.QUERY_ORDER, "query", "&".join(reversed(fields)))
    yield _Other(Mistake.QUERY_MARK, "query", "?" + "&".join(fields))
    yield _Other(Mistake.QUERY_MARK, "query", "?" + query)
    yield _Other(Mistake.QUERY_LEFT_OUT, "query", "")
    decoded = [unquote(field) for field in fields]
    yield _Other(Mistake.QUERY_ENCODING, "query", "&".join(decoded))
    yield _Other(Mistake.QUERY_ENCODING, "query", unquote(query))
    for write in (quote, quote_plus):
        again = sorted("=".join(write(part, safe="") for part in one.split("=", 1)) for one in decoded)
        yield _Other(Mistake.QUERY_ENCODING, "query", "&".join(again))


def _of_path(parts: _Parts) -> Iterator[_Other]:
    path = parts.path
    yield _Other(Mistake.PATH_SLASH, "path", path.lstrip("/"))
    yield _Other(Mistake.PATH_SLASH, "path", path.rstrip("/") or "/")
    yield _Other(Mistake.PATH_SLASH, "path", path + "/")
    yield _Other(Mistake.PATH_ENCODING, "path", unquote(path))
    yield _Other(Mistake.PATH_ENCODING, "path", quote(path))
    yield _Other(Mistake.PATH_PREFIX, "path", path.removeprefix("/v1"))
    if parts.query:
        yield _Other(Mistake.PATH_QUERY, "path", f"{path}?{parts.query}")
    split = urlsplit(parts.target)
    if split.netloc:
        yield _Other(Mistake.PATH_HOST, "path", parts.target)
        yield _Other(Mistake.PATH_HOST, "path", f"{split.scheme}://{split.netloc}{path}")
        yield _Other(Mistake.PATH_HOST, "path", split.netloc + path)


def _of_secret(parts: _Parts) -> Iterator[_Other]:
    secret = parts.secret
    for end in (b"\n", b"\r\n", b" ", b"\r"):
        yield _Other(Mistake.SECRET_SPACE, "secret", secret + end)
    yield _Other(Mistake.SECRET_SPACE, "secret", b" " + secret)
    for mark in (b'"', b"'"):
        yield _Other(Mistake.SECRET_QUOTED, "secret", mark + secret + mark)
    yield _Other(Mistake.SECRET_CUT, "secret", secret[:-1])
    yield _Other(Mistake.SECRET_CUT, "secret", secret[1:])
    yield _Other(Mistake.SECRET_CUT, "secret", secret.strip(b"-_"))
    yield _Other(Mistake.SECRET_ENCODED, "secret", base64.b64encode(secret))
    yield _Other(Mistake.SECRET_ENCODED, "secret", hashlib.sha256(secret).hexdigest().encode())
    try:
        padded = secret + b"=" * (-len(secret) % 4)
        yield _Other(Mistake.SECRET_ENCODED, "secret", base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError):
        pass
    yield _Other(Mistake.SECRET_EMPTY, "secret", b"")


def _of_time(parts: _Parts) -> Iterator[_Other]:
    if parts.timestamp.isascii() and parts.timestamp.isdigit():
        yield _Other(Mistake.TIMESTAMP_OTHER, "timestamp", parts.timestamp + "000")
        if len(parts.timestamp) > 10:
            yield _Other(Mistake.TIMESTAMP_OTHER, "timestamp", parts.timestamp[:10])
        for off in range(1, 4):
            yield _Other(Mistake.TIMESTAMP_OTHER, "timestamp", str(int(parts.timestamp) - off))
            yield _Other(Mistake.TIMESTAMP_OTHER, "timestamp", str(int(parts.timestamp) + off))
    yield _Other(Mistake.NONCE_OTHER, "nonce", parts.nonce.lower())
    yield _Other(Mistake.NONCE_OTHER, "nonce", parts.nonce.replace("-", ""))


def _of_joining() -> Iterator[_Other]:
    def ended(end: str) -> _Join:
        return lambda lines: "\n".join(lines) + end

    yield _Other(Mistake.JOIN_END, "join", ended("\n"))
    yield _Other(Mistake.JOIN_ESCAPED, "join", "\\n".join)
    for glue in ("\r\n", "", "&", " ", ",", "|"):
        yield _Other(Mistake.JOIN_OTHER, "join", glue.join)


def _hmac(name: str) -> _Make:
    return lambda secret, octets: hmac.digest(secret, octets, name)


def _of_making() -> Iterator[_Other]:
    for name in ("sha1", "sha512", "md5"):
        yield _Other(Mistake.HMAC_HASH, "make", _hmac(name))
    yield _Other(Mistake.HMAC_SWAPPED, "make", lambda secret, octets: hmac.digest(octets, secret, "sha256"))
    for plain in (lambda s, o: s + o, lambda s, o: o + s, lambda s, o: o + b"\n" + s, lambda _, o: o):
        yield _Other(Mistake.NOT_HMAC, "make", _plain(plain))
    yield _Other(
        Mistake.HEX_TWICE,
        "make",
        lambda s, o: hashlib.sha256(hmac.digest(s, o, "sha256").hex().encode()).digest(),
    )


def _plain(mix: _Make) -> _Make:
    return lambda secret, octets: hashlib.sha256(mix(secret, octets)).digest()
