"""Write what a report says, in the operator's many handwritings. Pure; entry point: write().

The layout is SMPP 3.4 appendix B, which calls it vendor specific; SMGP's is a relative of it.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from msgspec import Struct

from hongyan.simulator.behaviour import CodePlace, Receipt, State
from hongyan.vocab.text import Encoding

_NO_CODE: Final = "000"


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


def _text(fate: Fate, style: Receipt, place: CodePlace, offset_s: int) -> str:
    stat, err = str(fate.state), fate.err
    if place is CodePlace.STAT and err != _NO_CODE:
        stat, err = err, _NO_CODE
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
    local = datetime.fromtimestamp(at_s, UTC) + timedelta(seconds=offset_s)
    if style is Receipt.SECONDS:
        return f"{local:%y%m%d%H%M%S}"
    if style is Receipt.SMPP_TIME:
        return f"{local:%y%m%d%H%M%S}0{abs(offset_s) // 900:02}{'-' if offset_s < 0 else '+'}"
    return f"{local:%y%m%d%H%M}"
