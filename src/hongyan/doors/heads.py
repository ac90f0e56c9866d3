"""Heads of hot requests that came before: who keeps a connection says the same one again and again.

What a head means follows from its octets alone, and to parse it takes a fifth of a request's time at the door. So it is
read once and looked up from then on, for all connections of a door. Credentials are judged anew for each request.
Entry points: Heads.of(), Heads.keep().
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from hongyan.doors.route import Answers

HEADS_MAX: Final = 1_024  # then all are forgotten: those that are still said are soon known again
HEAD_OCTETS_MAX: Final = 2_048
END: Final = b"\r\n\r\n"
ONCE: Final = frozenset((b"idempotency-key", b"expect"))  # fields of heads that are not remembered


class Head(NamedTuple):
    """What was read from one: who answers, and what of its fields is wanted."""

    answers: Answers
    url: bytes
    fields: Mapping[bytes, bytes]
    body_octets: int


class Heads:
    """Those of one door."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def of(self, octets: bytes) -> tuple[Head, bytes] | None:
        """Return the known head of what is one whole request, and its body; None: it has to be parsed."""
        end = octets.find(END) + len(END)
        head = self._known.get(octets[:end])
        if head is None or len(octets) != end + head.body_octets:
            return None
        return head, octets[end:]

    def keep(self, octets: bytes, answers: Answers, url: bytes, fields: Mapping[bytes, bytes]) -> None:
        """Remember the head of octets that were parsed up to the end of a request, if they are that one and nothing else.

        What comes only once is not worth it: a signed one has a nonce.
        """
        end = octets.find(END) + len(END)
        body_octets = int(fields.get(b"content-length", b"0"))
        if len(octets) != end + body_octets or end > HEAD_OCTETS_MAX:
            return
        if ONCE & fields.keys() or fields.get(b"authorization", b"")[:6].lower() != b"basic ":
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[octets[:end]] = Head(answers, url, fields, body_octets)
