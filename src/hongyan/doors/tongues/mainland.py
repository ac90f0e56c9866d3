"""What customers' systems say alike in CMPP, SMGP and SGIP, the protocols of the mainland's operators.

Pure. Entry points: encoding() and place() of what they submit, cut() and number() for what is told them, timely() of
their logins.

Sources: CMPP 3.0 [C3], 3GPP TS 23.038 for the numbers of encodings that stand in no list of theirs.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from hongyan.doors.tongues.tongue import BEIJING, china_now
from hongyan.vocab import text as texts
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.text import Counting, Encoding, Split, TextPart, Udh

# The documents set no limit; customers' clocks are off by minutes.
LOGIN_AGE_MAX: Final = timedelta(minutes=15)
FORMATS: Final[Mapping[Encoding, int]] = {Encoding.ASCII: 0, Encoding.UCS2: 8, Encoding.GBK: 15}

_LISTED: Final = {number: encoding for encoding, number in FORMATS.items()}
# By bits 3-2 of 0001 xxxx to 0011 xxxx [TS 23.038 §4].
_GROUPS: Final = {0b00: Encoding.GSM7, 0b10: Encoding.UCS2}


def encoding(number: int) -> Encoding:
    """Return what Msg_Fmt, MsgFormat or MessageCoding says [C3 8.4.3.1]; raises Refusal for what is no text."""
    found = _LISTED.get(number)
    if found is None and 0x10 <= number < 0x40:
        found = _GROUPS.get(number >> 2 & 3)
    if found is None and number & 0xF4 == 0xF0:
        found = Encoding.GSM7
    if found is None:  # 3 is for the SIM card, 4 for programs
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="encoding", reason="0, 8 or 15")
    return found


def place(part: Udh, total: object, index: object) -> tuple[int, int, int, int]:
    """Return reference, index, total and width of a part: by its header, else by the fields that count parts."""
    if part.width:
        return part.ref, part.index, part.total, part.width
    if isinstance(total, int) and isinstance(index, int) and 1 <= index <= total:
        return 0, index, total, 0
    return 0, 1, 1, 0


def cut(text: str, wide: Encoding) -> Sequence[TextPart]:
    """Cut what a person texted into parts with a header each: in ASCII, else in `wide` where it holds all of it."""
    written = Encoding.ASCII if text.isascii() else wide
    if written is Encoding.GBK and not _is_gbk(text):
        written = Encoding.UCS2
    return texts.split(text, counting=Counting.INTERNATIONAL, mode=Split.UDH8, encoding=written)


def number(e164: str, country_code: str = "") -> str:
    """Write a person's number: mainland ones behind `country_code`, all others with 00."""
    return country_code + e164[3:] if e164.startswith("+86") else "00" + e164.removeprefix("+")


def timely(timestamp: int) -> bool:
    """Say whether a login that says MMDDhhmmss was made about now; one that says no date at all passes."""
    now, dated = china_now(), False
    for year in (now.year - 1, now.year, now.year + 1):  # it says none
        try:
            at = datetime.strptime(f"{year}{timestamp:010}", "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
        except ValueError:
            continue
        dated = True
        if abs(now - at) <= LOGIN_AGE_MAX:
            return True
    return not dated


def _is_gbk(text: str) -> bool:
    try:
        text.encode("gbk")
    except UnicodeEncodeError:
        return False
    return True
