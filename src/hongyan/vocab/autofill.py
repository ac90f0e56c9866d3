"""How machines read codes out of texts: the last line that browsers obey, and what handsets guess where there is none.

Pure. Entry points: line() and parse() for the last line, faults() for what would be read wrongly, readings() for who reads what.

The last line is a standard, "Origin-bound one-time codes delivered via SMS" (https://wicg.github.io/sms-one-time-codes/,
§2.2 Parsing): `@host #code`, alone on the last line. Handsets' makers do not publish how they guess. What is here is a model of
what they say of it: Android's SMS User Consent takes "a 4–10 character alphanumeric string with at least one number"
(https://developers.google.com/identity/sms-retriever/user-consent/overview), iOS the digits nearest to a word for a code. A
text that both read rightly has its code once and no other run of 4 to 8 digits.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

_WHITESPACE: Final = "\t\n\f\r "  # Infra, ASCII whitespace
RUN: Final = re.compile(r"(?<![0-9A-Za-z])[0-9]{4,8}(?![0-9A-Za-z])")
_ALPHANUMERIC: Final = re.compile(r"(?<![0-9A-Za-z])(?=[A-Za-z]*[0-9])[0-9A-Za-z]{4,10}(?![0-9A-Za-z])")
_NUMERIC: Final = re.compile(r"(?<![0-9A-Za-z])[0-9]{4,10}(?![0-9A-Za-z])")
_HEADED: Final = re.compile(r"(?:^|\n)[ \t]*@[^\s@]+[ \t]")  # a line that begins as such a last line does
_MARKED: Final = re.compile(r"@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\s+(?:\w+\s+)?#\s?\S")
_WORD: Final = re.compile(
    "验证码|驗證碼|校验码|动态码|动态密码|确认码|認証|認證|認証コード|コード|인증|رمز|код|κωδικ|รหัส|कोड|קוד|"
    r"code|otp|pin\b|passcode|password|c[oó]digo|codice|kode|kod\b|mã|sandi",
    re.IGNORECASE,
)


class BoundCode(NamedTuple):
    """What a last line says: for which host a code is, and within whose frame it may be used ("": only its own)."""

    host: str
    code: str
    embedded: str = ""


def line(host: str, code: str) -> str:
    """Return the last line that binds a code to a host."""
    return f"@{host} #{code}"


def parse(message: str) -> BoundCode | None:
    """Read a message's last line as a browser does; None where it binds no code. §2.2, step by step."""
    last = message.replace("\r\n", "\n").replace("\r", "\n").split("\n")[-1]
    host, at = _marked(last, 0, "@")
    if not host or last[at : at + 1] != " ":
        return None
    code, at = _marked(last, at + 1, "#")
    if not code:
        return None
    embedded = ""
    if last[at : at + 1] == " ":
        embedded, _ = _marked(last, at + 1, "%")
    return BoundCode(host, code, embedded)


def _marked(text: str, at: int, marker: str) -> tuple[str, int]:
    """Extract a marked token: what stands behind the marker up to white space, and where it ends; "" is failure."""
    if text[at : at + 1] != marker:
        return "", at
    end = at + 1
    while end < len(text) and text[end] not in _WHITESPACE:
        end += 1
    return text[at + 1 : end], end


# ---- what machines take for the code


def readings(message: str) -> Mapping[str, str]:
    """Return what each reader takes for the code; "": nothing."""
    bound = parse(message)
    human = _human(message) if bound is not None else message
    return {
        "browser": bound.code if bound is not None else "",
        "android": bound.code if bound is not None else _android(human),
        "ios": bound.code if bound is not None else _ios(human),
    }


def _android(text: str) -> str:
    """Take the first run of 4 to 10 letters and digits with a digit among them."""
    found = _ALPHANUMERIC.search(text)
    return found[0] if found is not None else ""


def _ios(text: str) -> str:
    """Take the run of digits nearest to a word for a code, behind it rather than before it."""
    words = [found.span() for found in _WORD.finditer(text)]
    runs = list(_NUMERIC.finditer(text)) or list(_ALPHANUMERIC.finditer(text))
    if not words or not runs:
        return ""

    def distance(run: re.Match[str]) -> tuple[int, int]:
        return min(
            (max(run.start() - end, start - run.end()), 0 if run.start() >= end else 1)
            for start, end in words
        )

    return min(runs, key=distance)[0]


# ---- what is wrong with a text


class Fault(StrEnum):
    """Why machines, or people, may take something else for the code."""

    MISSING = "missing"  # the code does not stand in the text that people read
    TWICE = "twice"  # it stands there more than once
    OTHER_RUN = "other_run"  # 4 to 8 digits beside it that are none
    SPLIT = "split"  # it is broken up, as by a dash, so that no machine sees it
    NO_HUMAN_TEXT = "no_human_text"  # nothing stands before the last line
    BAD_LINE = "bad_line"  # a line that was to bind a code and does not
    OTHER_CODE = "other_code"  # the last line binds another code than people read


def faults(message: str, code: str) -> Sequence[Fault]:
    """Say what is wrong with a message that carries this code, in the order of Fault."""
    found: set[Fault] = set()
    bound = parse(message)
    human = _human(message) if bound is not None else message
    if bound is not None and bound.code != code:
        found.add(Fault.OTHER_CODE)
    if bound is not None and not human.strip():
        found.add(Fault.NO_HUMAN_TEXT)
    elif code not in human:
        split = re.search(r"[\s\-·.]?".join(map(re.escape, code)), human)
        found.add(Fault.SPLIT if split is not None else Fault.MISSING)
    if human.count(code) > 1:
        found.add(Fault.TWICE)
    if any(run[0] != code for run in RUN.finditer(_without_split(human, code))):
        found.add(Fault.OTHER_RUN)
    if (bound is None or _HEADED.search(human)) and seems_bound(human):
        found.add(Fault.BAD_LINE)
    return [fault for fault in Fault if fault in found]


def seems_bound(human: str) -> bool:
    """Whether a text has something that was to be such a last line."""
    return _HEADED.search(human) is not None or _MARKED.search(human) is not None


def _human(message: str) -> str:
    """Return all but the last line."""
    return message.replace("\r\n", "\n").replace("\r", "\n").rpartition("\n")[0]


def _without_split(human: str, code: str) -> str:
    """Leave out a code that is broken up: its pieces are its own."""
    return re.sub(r"[\s\-·.]?".join(map(re.escape, code)), code, human)
