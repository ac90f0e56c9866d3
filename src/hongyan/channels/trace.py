"""A live look at what an account's sessions say and hear, with persons masked.

Entry points: Trace, one per channel; Lens, what of a protocol's PDUs may be shown; Traceable, what a channel
that can be traced promises. Writes nothing: what is kept is a ring in memory, and gone with the process.

Surprise: it costs nothing while it is off. The session machine reads and writes frames through its dialect, so
tracing a session means to give it a dialect that looks at each frame on its way; heartbeats, refusals and what
nobody can read are seen as well.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from msgspec import Struct

from hongyan import clock, observe
from hongyan.wire import session as wire
from hongyan.wire.fields import Pdu, RemoteProtocolError

SECRETS = frozenset({"password", "login_password"})  # of every protocol; proofs are octets, so never shown
SHOWN_CHARACTERS_MAX = 40  # of a text field; longer ones are no codes
LINE_CHARACTERS_MAX = 1_000  # of a PDU: peers may send thousands of parameters, NOTIFY carries 8,000 octets


def _nothing(_: Pdu) -> Mapping[str, object]:
    return {}


class Lens(NamedTuple):
    """What a protocol's fields hold, beyond what their types tell. Octets not named are shown by their number."""

    numbers: frozenset[str]  # fields with a person's number, or several
    ids: frozenset[str] = frozenset()  # octets that are an id: shown in hex
    inside: Callable[[Pdu], Mapping[str, object]] = _nothing  # of a report: the id it names and its words


class Traced(NamedTuple):
    """One PDU as a person may see it."""

    number: int  # counts all that was traced; what Trace.beyond() takes
    at_s: float  # Unix time
    session: int  # which connection, counted from 1 since tracing began
    sent: bool  # by us; False: by the upstream
    octets: int
    text: str  # name, sequence number and the fields that say something, masked; or why it cannot be read


class Traceable(Protocol):
    """A channel whose PDUs can be looked at."""

    def tracing(self, last: int) -> None: ...
    def trace(self, after: int = 0) -> Sequence[Traced]: ...


class _Kept(NamedTuple):
    number: int
    at_s: float
    session: int
    sent: bool
    octets: int
    said: Pdu | str  # a PDU, or why it cannot be read


class Trace:
    """The last PDUs of a channel; masked when they are shown, so that keeping them is quick."""

    def __init__(self, lens: Lens, always: int) -> None:
        """Take how many are kept even when nobody looks."""
        self._lens = lens
        self._always = always
        self._ring: deque[_Kept] = deque(maxlen=always)
        self._count = 0
        self._sessions = 0
        self._watched: dict[wire.Session, wire.Dialect] = {}  # and what each of them speaks, unwatched

    def keep(self, last: int) -> None:
        """Keep the last so many PDUs; 0 keeps no more than is always kept, and forgets the others."""
        was_on = self.on
        last = max(last, self._always)
        self._ring = deque(self._ring if last else (), maxlen=last)
        if was_on != self.on:
            self._count = self._sessions = 0
            for machine in self._watched:
                self._point(machine)

    @property
    def on(self) -> bool:
        return bool(self._ring.maxlen)

    def watch(self, machine: wire.Session) -> None:
        """Look at this connection, now or once tracing is switched on, until forget()."""
        self._watched[machine] = machine.dialect
        if self.on:
            self._point(machine)

    def forget(self, machine: wire.Session) -> None:
        self._watched.pop(machine, None)

    def beyond(self, number: int) -> Sequence[Traced]:
        """Return what is kept beyond the PDU of this number, oldest first, masked."""
        return [
            Traced(*kept[:-1], kept.said if isinstance(kept.said, str) else shown(kept.said, self._lens))
            for kept in self._ring
            if kept.number > number
        ]

    def _point(self, machine: wire.Session) -> None:
        if self.on:
            self._sessions += 1
            machine.dialect = self._looking(machine, machine.dialect, self._sessions)
        else:
            machine.dialect = self._watched[machine]

    def _looking(self, machine: wire.Session, dialect: wire.Dialect, session: int) -> wire.Dialect:
        """Return the dialect with a look at each frame; after a login it may be another one."""
        self._watched[machine] = dialect
        after_login = dialect.after_login

        def decode(frame: bytes) -> Pdu:
            try:
                pdu = dialect.decode(frame)
            except RemoteProtocolError as error:
                self._note(session, frame, _cut(f"unreadable: {observe.masked(str(error))}"), sent=False)
                raise
            self._note(session, frame, pdu, sent=False)
            return pdu

        def encode(pdu: Pdu, number: int | None) -> bytes:
            frame = dialect.encode(pdu, number)
            self._note(session, frame, pdu if number is None else _numbered(pdu, number), sent=True)
            return frame

        def follow(login_response: Pdu) -> wire.Dialect:
            assert after_login is not None
            return self._looking(machine, after_login(login_response), session)

        return replace(dialect, decode=decode, encode=encode, after_login=follow if after_login else None)

    def _note(self, session: int, frame: bytes, said: Pdu | str, *, sent: bool) -> None:
        self._count += 1
        self._ring.append(_Kept(self._count, clock.now_s(), session, sent, len(frame), said))


def shown(pdu: Pdu, lens: Lens) -> str:
    """Write a PDU as one line: its name, its number, and each field that is not at its default.

    Names, codes and ids are shown, persons' numbers masked, texts and proofs only by their length.
    """
    defaults = dict(zip(reversed(pdu.__struct_fields__), reversed(pdu.__struct_defaults__), strict=False))
    values = {name: getattr(pdu, name) for name in pdu.__struct_fields__ if name != "sequence_number"}
    fields = [
        f"{name}={_shown(name, value, lens)}" for name, value in values.items() if value != defaults.get(name)
    ]
    inside = [f"{name}={_shown(name, value, lens)}" for name, value in lens.inside(pdu).items()]
    return _cut(" ".join([type(pdu).__name__, f"#{pdu.sequence_number}", *fields, *inside]))


def _shown(name: str, value: object, lens: Lens) -> str:
    if name in SECRETS:
        return observe.HIDDEN
    if isinstance(value, tuple) and value and isinstance(value[0], int):  # an optional parameter
        return f"{value[0]:#06x}:{_shown(name, value[1], lens)}"
    if isinstance(value, tuple | list):
        return f"[{' '.join(_shown(name, one, lens) for one in value)}]"
    if isinstance(value, bytes):
        return value.hex() if name in lens.ids else f"<{len(value)} octets>"
    if isinstance(value, Struct):
        fields = [f"{name}={_shown(name, getattr(value, name), lens)}" for name in value.__struct_fields__]
        return f"({' '.join(fields)})"
    if isinstance(value, str):
        if name in lens.numbers:
            return observe.masked_number(value) or observe.HIDDEN
        whole = value if len(value) <= SHOWN_CHARACTERS_MAX else f"{value[:SHOWN_CHARACTERS_MAX]}…"
        return repr(value if name in lens.ids else observe.masked(whole))
    return str(value)


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS_MAX else f"{line[: LINE_CHARACTERS_MAX - 1]}…"


def _numbered(pdu: Pdu, number: int) -> Pdu:
    return type(pdu)(number, *[getattr(pdu, name) for name in pdu.__struct_fields__[1:]])
