"""Write what a report says, in the operator's many handwritings. Pure.

Entry points: write() for SMPP, whose layout is 3.4 appendix B, which calls it vendor specific; write_smgp() for
SMGP, whose layout is a relative of it with the id in raw octets; stat(), error() and date() for those who have
fields for them.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from msgspec import Struct

from hongyan.simulator.behaviour import CodePlace, Receipt, SmgpReceipt, State
from hongyan.vocab.text import Encoding
from hongyan.wire import smgp

NO_CODE: Final = "000"
STAT_OCTETS: Final = 7  # of CMPP and SMGP
SMGP_TAIL_OCTETS: Final = 26  # " text:", the message's length in 3 digits, 17 octets of it
# SMGP's err [SMGP 3.0 appendix C] for fates without a code of that form, and for those the sandbox gives.
_SMGP_ERRORS: Final = {
    State.DELIVRD: "000",
    State.EXPIRED: "001",
    State.UNDELIV: "001",
    "MK:0001": "004",
    "DB:0141": "005",
}


class Fate(Struct, frozen=True, gc=False):
    """What became of a part: the id as the report writes it, times in Unix seconds."""

    report_id: str
    state: State
    err: str
    submitted_at_s: float
    done_at_s: float


def write(fate: Fate, style: Receipt, place: CodePlace, offset_s: int) -> tuple[bytes, Encoding]:
    """Return the octets of the receipt's text and the encoding it claims to be in.

    offset_s: the operator's clock, seconds ahead of UTC.
    """
    if style is Receipt.TLVS:
        return b"", Encoding.GSM7
    text = _text(fate, style, place, offset_s)
    if style is Receipt.UCS2:
        return text.encode("utf-16-be"), Encoding.UCS2
    return text.encode("latin-1", "replace"), Encoding.UCS2 if style is Receipt.MISLABELLED else Encoding.GSM7


def stat(fate: Fate) -> str:
    """Return what stands as stat where the operator's own code has no other place, as in CMPP."""
    fits = fate.err != NO_CODE and 0 < len(fate.err) <= STAT_OCTETS
    return fate.err if fits and fate.state is not State.DELIVRD else str(fate.state)


def date(at_s: float, offset_s: int) -> str:
    """Write a date as YYMMDDhhmm by the operator's clock."""
    return _date(int(at_s), Receipt.STANDARD, offset_s)


def local_time(at_s: float, offset_s: int) -> datetime:
    """Return the time on the operator's clock."""
    return datetime.fromtimestamp(at_s, UTC) + timedelta(seconds=offset_s)


def write_smgp(fate: Fate, text: bytes, style: SmgpReceipt, place: CodePlace, offset_s: int) -> bytes:
    """Return the content of an SMGP report. text: the message, of which the report repeats the beginning.

    Raises LocalProtocolError for a code that has no place in it.
    """
    as_stat = place is CodePlace.STAT and fate.err != NO_CODE
    has_form = len(fate.err) == 3 and (fate.err != NO_CODE or fate.state is State.DELIVRD)
    error = fate.err if has_form else _SMGP_ERRORS.get(fate.err, _SMGP_ERRORS.get(fate.state, "999"))
    report = smgp.Report(
        fate.report_id or bytes(10).hex(),
        fate.err if as_stat else str(fate.state),
        NO_CODE if as_stat else error,
        date(fate.submitted_at_s, offset_s),
        date(fate.done_at_s, offset_s),
    )
    content = smgp.write_report(report, text)
    head, words, tail = content[:13], content[13:-SMGP_TAIL_OCTETS], content[-SMGP_TAIL_OCTETS:]
    match style:
        case SmgpReceipt.CAPITALS:
            words = words.replace(b"submit", b"Submit").replace(b"done", b"Done")
            tail = tail.replace(b" text:", b" Text:", 1)
        case SmgpReceipt.UNDERSCORES:
            words = words.replace(b" date", b"_date")
            tail = tail.replace(b" text:", b" txt:", 1)
        case SmgpReceipt.GLUED:
            words = words.removeprefix(b" ")
        case SmgpReceipt.S_BETWEEN:
            words = (
                words.replace(b" ", b"s")
                .replace(b"submitsdate", b"submit date")
                .replace(b"donesdate", b"done date")
            )
        case SmgpReceipt.SHORT:
            tail = b""
    return head + words + tail


def _text(fate: Fate, style: Receipt, place: CodePlace, offset_s: int) -> str:
    stat, err = str(fate.state), fate.err
    if place is CodePlace.STAT and err != NO_CODE:
        stat, err = err, NO_CODE
    delivered = fate.state is State.DELIVRD
    submit_date = _date(int(fate.submitted_at_s), style, offset_s)
    done_date = _date(int(fate.done_at_s), style, offset_s)
    if style is Receipt.SHORT:
        return f"id:{fate.report_id} submit date:{submit_date} done date:{done_date} stat:{stat} err:{err}"
    if style is Receipt.UNPADDED:
        return (
            f"id:{fate.report_id} sub:1 dlvrd:{delivered:d} submit date:{submit_date} "
            f"done date:{done_date} stat:{stat} err:{err.lstrip('0') or '0'} text:"
        )
    if style is Receipt.SHOUTED:
        return f"ID:{fate.report_id} STAT:{stat} ERR:{err} DONE_DATE:{done_date} SUBMIT_DATE:{submit_date}"
    return (
        f"id:{fate.report_id} sub:001 dlvrd:00{delivered:d} submit date:{submit_date} "
        f"done date:{done_date} stat:{stat} err:{err} text:"
    )


@lru_cache(maxsize=4_096)  # reports of one second share their dates, and strftime costs more than the rest
def _date(at_s: int, style: Receipt, offset_s: int) -> str:
    local = local_time(at_s, offset_s)
    if style is Receipt.SECONDS:
        return f"{local:%y%m%d%H%M%S}"
    if style is Receipt.SMPP_TIME:
        return f"{local:%y%m%d%H%M%S}0{abs(offset_s) // 900:02}{'-' if offset_s < 0 else '+'}"
    return f"{local:%y%m%d%H%M}"
