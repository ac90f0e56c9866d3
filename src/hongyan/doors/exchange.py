"""What comes in and what goes out, free of any HTTP library: Asked, Answer, and the one JSON shape.

Every answer of the public API is {"code", "message", "request_id", "data"}; a refusal has "retry_after" and
"detail" in place of "data". Entry points: RequestIds.make(), answered(), refused().
Words are English unless Accept-Language prefers Chinese.
"""

import math
import os
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any, Final, Literal

import msgspec

from hongyan.vocab.errors import Code, Refusal

REASON_CHARACTERS_MAX: Final = 300  # what we repeat of a caller's own words

Language = Literal["en", "zh"]


class Asked(msgspec.Struct, gc=False):
    """One request as the door reads it: octets as they came, nothing interpreted."""

    method: bytes
    path: bytes  # as on the request line, percent-encoding included
    query: bytes  # without the '?'
    body: bytes
    request_id: str
    address: str  # of the peer; empty for a Unix socket
    authorization: bytes = b""
    forwarded_for: bytes = b""
    idempotency_key: bytes | None = None  # an empty one is refused, not ignored
    accept_language: bytes = b""
    cookie: bytes = b""
    console: bytes = b""  # Hongyan-Console: what a page of another site cannot send along with a cookie
    content_type: bytes = b""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One response: HTTP status and JSON body, and what else the head must say."""

    status: int
    body: bytes
    request_id: str
    code: Code = Code.OK
    retry_after_s: int = 0
    allow: str = ""  # the methods of a route, for 405
    cookies: tuple[str, ...] = ()  # Set-Cookie


Then = Callable[[Answer], None]


class Envelope(msgspec.Struct, frozen=True):
    """What surrounds every 2xx body."""

    code: str
    message: str
    request_id: str
    data: Any


class RefusalBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every refusal. `detail` says exactly what was wrong, for programs."""

    code: str
    message: str
    request_id: str
    retry_after: int = 0
    detail: dict[str, Any] = {}


class RequestIds:
    """Make request ids: 16 hexadecimal digits of this process, 8 that count."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._count = count(1)

    def make(self) -> str:
        """Return the next id, unique across processes and restarts."""
        return f"{self._prefix}{next(self._count):08x}"


def answered(asked: Asked, data: object, status: int = 200) -> Answer:
    """Wrap what was asked for in the envelope; `data` is anything JSON can say."""
    name, message = _OK[language_of(asked.accept_language)]
    body = _ENCODER.encode(Envelope(name, message, asked.request_id, data))
    return Answer(status, body, asked.request_id)


def refused(asked: Asked, refusal: Refusal, *, allow: str = "") -> Answer:
    """Say no in the caller's language. retry_after is whole seconds, rounded up."""
    name, message = _words(refusal.code, language_of(asked.accept_language))
    retry_after_s = seconds(refusal.retry_after_s)
    body = _ENCODER.encode(RefusalBody(name, message, asked.request_id, retry_after_s, refusal.detail))
    status = refusal.code.value.http_status
    return Answer(status, body, asked.request_id, refusal.code, retry_after_s, allow)


def seconds(retry_after_s: float | None) -> int:
    """Return the whole seconds to wait, at least one where any are said; 0 where none are."""
    return 0 if retry_after_s is None else max(1, math.ceil(retry_after_s))


def message_of(code: Code, accept_language: bytes) -> str:
    """Return a code's words in the language asked for."""
    return _words(code, language_of(accept_language))[1]


@lru_cache(maxsize=256)
def language_of(accept_language: bytes) -> Language:
    """Choose between Chinese and English by RFC 9110 §12.5.4; English where neither is preferred."""
    weights: dict[str, float] = {}
    for choice in accept_language.decode("latin-1").lower().split(",")[:20]:
        name, _, parameters = choice.strip().partition(";")
        weights[name.strip().partition("-")[0]] = _weight(parameters)
    other = weights.get("*", 0.0)
    return "zh" if weights.get("zh", other) > weights.get("en", other) else "en"


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def read(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Decode a JSON body, or raise the refusal that says what is wrong and where."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise mistake(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(Code.REQUEST_MALFORMED_JSON, reason=reason[:REASON_CHARACTERS_MAX]) from None


def mistake(error: str, within: str = "$") -> Refusal:
    """Turn a validation error's words into a refusal with the JSON path; `within` replaces the root."""
    reason, _, place = error.partition(" - at ")
    where = place.replace("`", "").replace("$", within, 1) if place else within
    code = Code.REQUEST_INVALID_PARAMETER
    if reason.startswith("Object missing required field"):
        code = Code.REQUEST_MISSING_PARAMETER
    elif where == "$.messages" and reason.startswith("Expected `array` of length <="):
        code = Code.REQUEST_TOO_MANY_RECIPIENTS
    return Refusal(code, path=where[:REASON_CHARACTERS_MAX], reason=reason[:REASON_CHARACTERS_MAX])


@lru_cache(maxsize=len(Code) * 2)
def _words(code: Code, language: Language) -> tuple[str, str]:
    row = code.value
    return row.name, row.zh if language == "zh" else row.en


_OK: Final[dict[Language, tuple[str, str]]] = {"en": _words(Code.OK, "en"), "zh": _words(Code.OK, "zh")}
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)
