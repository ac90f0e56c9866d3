"""Logs: structured, on stderr, with persons and secrets masked at the sink.

Writes: stderr. Entry points: set_up() once per process, masked() wherever a text leaves by another way.
Everything that is logged passes the mask last, the standard library's loggers (uvicorn, asyncio) and
tracebacks included, so no caller can forget it. It errs on the side of the person: an upstream's long
decimal id is masked too. Upstreams' own codes are shown under the key `upstream_code`.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Final, TextIO

import msgspec
import structlog
from structlog.stdlib import ProcessorFormatter

from hongyan.vocab import phone

HIDDEN: Final = "***"
DEPTH_MAX: Final = 6  # nested values below are shown as their masked repr
TEXT_UNITS_MAX: Final = 16_384  # a longer text is cut before it is searched

# Keys whose values are hidden whole, whatever they look like.
HIDDEN_KEYS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "password",
        "secret",
        "master_key",
        "text",
        "params",
        "body",
        "sealed",
        "otp",
        "otp_code",
        "verification_code",
    }
)

# '+' and 7 to 15 digits, written with or without separators (E.164 allows 15).
_PLUS: Final = re.compile(r"\+\d(?:[ ().\-]{0,2}\d){6,14}")
_ALONE: Final = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"
# Mainland mobiles, however grouped: 138-0013-8000, 86 138 0013 8000.
_MAINLAND: Final = re.compile(_ALONE[0] + r"(?:(?:00)?86[ \-]?)?1[3-9]\d(?:[ \-]?\d{4}){2}" + _ALONE[1])
# Any run of digits as long as a number with its country code; inside words (hex ids) it is none.
_DIGITS: Final = re.compile(_ALONE[0] + r"\d{9,15}" + _ALONE[1])
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CODE: Final = _ALONE[0] + r"\d{4,8}" + _ALONE[1]
_CODE_WORD: Final = (
    r"(?:验证码|驗證碼|校验码|动态码|注册码|确认码"
    r"|(?<![a-z])(?:pass|auth)?code|(?<![a-z])otp|(?<![a-z])pin(?![a-z]))"
)
_CODE_AFTER: Final = re.compile(rf"({_CODE_WORD}[^0-9\n]{{0,24}}){_CODE}", re.IGNORECASE)
_CODE_BEFORE: Final = re.compile(rf"{_CODE}(?=[^0-9\n]{{0,24}}{_CODE_WORD})", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(
    r"(authorization['\"]?\s*[:=]\s*b?['\"]?(?:[A-Za-z0-9\-]+ )?|\b(?:Basic|Bearer) )[^\s'\",]+",
    re.IGNORECASE,
)
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s@/]+@")
_SOME_CODE: Final = re.compile(r"\d{4,8}")


def set_up(level: str, *, console: bool, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (stderr), as JSON lines or, for people, as coloured text.

    Raises ValueError for an unknown level. May be called again; the last call counts.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}; known are debug, info, warning, error")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(serializer=_json)
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # loggers made at import must follow a later set_up()
    )


def mask(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Mask every value of a log event (a structlog processor, the last before the renderer)."""
    return {masked(key): _masked_value(key, value, 0) for key, value in event.items()}


def masked(text: str) -> str:
    """Return the text with numbers as 138****8000, and codes, credentials and passwords in URLs as ***."""
    if len(text) > TEXT_UNITS_MAX:
        text = text[:TEXT_UNITS_MAX] + "…"
    text = _CREDENTIALS.sub(lambda found: found[1] + HIDDEN, text)
    text = _URL_PASSWORD.sub(lambda found: f"{found[1]}:{HIDDEN}@", text)
    pieces = []
    start = 0
    for found in _UUID.finditer(text):  # our own ids are no numbers, though they may look it
        pieces += [_without_persons(text[start : found.start()]), found[0]]
        start = found.end()
    return "".join([*pieces, _without_persons(text[start:])])


def masked_number(number: str) -> str:
    """Return a number, however it is written, as people may see it: 138****8000."""
    return phone.mask("".join(each for each in number if each in "+0123456789"))


def _without_persons(text: str) -> str:
    for pattern in (_PLUS, _MAINLAND, _DIGITS):
        text = pattern.sub(lambda found: masked_number(found[0]), text)
    text = _CODE_AFTER.sub(lambda found: found[1] + HIDDEN, text)
    return _CODE_BEFORE.sub(HIDDEN, text)


def _masked_value(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if key.lower() in HIDDEN_KEYS:
        return HIDDEN
    if isinstance(value, int):
        shown = _masked_text(key, str(value))
        return value if shown == str(value) else shown
    if isinstance(value, str):
        return value if key == "timestamp" else _masked_text(key, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} octets>"
    if depth < DEPTH_MAX and isinstance(value, Mapping):
        return {
            masked(str(name)): _masked_value(str(name), inner, depth + 1) for name, inner in value.items()
        }
    if depth < DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
        return [_masked_value(key, inner, depth + 1) for inner in value]
    return masked(repr(value))


def _masked_text(key: str, text: str) -> str:
    if key.lower() == "code" and _SOME_CODE.fullmatch(text):
        return HIDDEN
    return masked(text)


def _json(event: object, **_options: object) -> str:
    return msgspec.json.encode(event).decode()
