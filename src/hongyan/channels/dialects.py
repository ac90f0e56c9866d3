"""How an upstream writes the ids of what it took: hex in the ack, decimal in the report, padded, upper case.

Pure. An ack's id keeps one canonical form for ever (no leading zeros, case folded); it is the report's id
that is translated into the ack's form, so nothing stored has to change on the day the dialect is learned.
While it is not, a report carries the other readings as candidates.
Entry points: canonical(), translate(), candidates(), between().
"""

from enum import StrEnum


class Dialect(StrEnum):
    """How the id in a report relates to the id in the ack of the same part."""

    AUTO = "auto"  # not known yet: learn it from the first pairs
    AS_IS = "as_is"  # both the same, but for padding and case
    HEX_ACK_DEC_REPORT = "hex_ack_dec_report"  # ack 5f5e101, report 100000001
    DEC_ACK_HEX_REPORT = "dec_ack_hex_report"  # ack 100000001, report 5f5e101


LEARNABLE = (Dialect.AS_IS, Dialect.HEX_ACK_DEC_REPORT, Dialect.DEC_ACK_HEX_REPORT)
ID_CHARACTERS_MAX = 64  # message_id is at most 64 characters in every protocol we speak


def canonical(written: str) -> str:
    """Return the form under which ids are compared: no leading zeros, case folded; "" stays ""."""
    bare = "".join(written.split()).lower()
    return bare.lstrip("0") or bare[:1]


def translate(reported: str, dialect: Dialect) -> str | None:
    """Write a report's canonical id as its ack has it; None where it is no number of the dialect's base."""
    if dialect is Dialect.HEX_ACK_DEC_REPORT:
        return _dec_to_hex(reported)
    if dialect is Dialect.DEC_ACK_HEX_REPORT:
        return _hex_to_dec(reported)
    return reported


def candidates(reported: str) -> tuple[str, ...]:
    """Return the other forms the ack of this canonical id may have while the dialect is not learned."""
    hexadecimal, decimal = _dec_to_hex(reported), _hex_to_dec(reported)
    if decimal is None or decimal == reported:  # below ten both are as it is
        return ()
    return (decimal,) if hexadecimal is None else (hexadecimal, decimal)


def between(acked: str, reported: str) -> Dialect | None:
    """Name the one dialect under which both canonical ids are the same; None if there is none, or several."""
    fitting = [dialect for dialect in LEARNABLE if translate(reported, dialect) == acked]
    return fitting[0] if len(fitting) == 1 else None


def _dec_to_hex(written: str) -> str | None:
    return f"{int(written):x}" if written.isdecimal() and len(written) <= ID_CHARACTERS_MAX else None


def _hex_to_dec(written: str) -> str | None:
    if (
        not written.isalnum() or len(written) > ID_CHARACTERS_MAX
    ):  # int() would let signs and underscores pass
        return None
    try:
        return str(int(written, 16))
    except ValueError:
        return None
