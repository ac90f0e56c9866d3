"""Times as SMPP writes them, and CMPP, SGIP and SMGP after it.

Entry points: absolute_time() and relative_time() write the 16 characters, read_time() reads them,
receipt_time() reads what receipts call a date.

Sources: [P34] SMPP 3.4 Issue 1.2.
"""

from datetime import UTC, datetime, timedelta, timezone, tzinfo

from hongyan.wire.fields import LocalProtocolError, RemoteProtocolError


def absolute_time(at: datetime) -> str:
    """Write an aware datetime as YYMMDDhhmmsstnnp [P34 7.1.1]; the offset is cut to quarter hours."""
    offset = at.utcoffset()
    if offset is None:
        raise LocalProtocolError("a time without a zone has no place on the wire")
    quarters = int(offset / timedelta(minutes=15))
    sign = "+" if quarters >= 0 else "-"
    local = at.astimezone(timezone(timedelta(minutes=15) * quarters))
    return f"{local:%y%m%d%H%M%S}{local.microsecond // 100_000}{abs(quarters):02}{sign}"


def relative_time(delay_s: float) -> str:
    """Write a delay as 0000DDhhmmss000R [P34 7.1.1]; at most 31 days, since months are not all alike."""
    minutes, seconds = divmod(int(delay_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if not 0 <= days <= 31:
        raise LocalProtocolError(f"a delay of {delay_s} s; the most is 31 days")
    return f"0000{days:02}{hours:02}{minutes:02}{seconds:02}000R"


def read_time(text: str) -> datetime | timedelta | None:
    """Read either form; None for an empty text (now, or the centre's default).

    In a relative time a year counts 365 days and a month 30. Raises RemoteProtocolError.
    """
    if not text:
        return None
    if len(text) != 16 or not (text[:15].isascii() and text[:15].isdecimal()):
        raise RemoteProtocolError("not a time", "time")
    pairs = [int(text[at : at + 2]) for at in range(0, 12, 2)]
    if text[15] == "R":
        years, months, days, hours, minutes, seconds = pairs
        return timedelta(days=365 * years + 30 * months + days, hours=hours, minutes=minutes, seconds=seconds)
    offset = int(text[13:15]) * {"+": 1, "-": -1}.get(text[15], 99)
    try:
        zone = timezone(timedelta(minutes=15 * offset))
        year, *rest = pairs
        return datetime(2000 + year, *rest, int(text[12]) * 100_000, tzinfo=zone)  # type: ignore[arg-type,misc]
    except ValueError as error:
        raise RemoteProtocolError(f"not a time: {error}", "time") from error


def receipt_time(text: str, zone: tzinfo = UTC) -> datetime | None:
    """Read a date of a receipt: YYMMDDhhmm, with seconds, or the 16 characters of the wire; None if neither.

    zone is the centre's, which receipts do not tell, save in the 16-character form.
    """
    try:
        if len(text) == 16:
            at = read_time(text)
            return at if isinstance(at, datetime) else None
        layout = {10: "%y%m%d%H%M", 12: "%y%m%d%H%M%S", 14: "%Y%m%d%H%M%S"}[len(text)]
        return datetime.strptime(text, layout).replace(tzinfo=zone)
    except (KeyError, ValueError, RemoteProtocolError):
        return None
