"""One connection with a customer's system, whoever opened it: octets, timers, and what is told over it.

Writes nothing. Entry point: Link, an asyncio protocol; a Visit (visit.py) is one that they opened, a Call (dialling.py)
one that we did. How a session goes is wire.session's affair, whom what is told telling's.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import structlog

from hongyan.doors.tongues.tongue import Verdict, Words
from hongyan.way.snapshot import Login
from hongyan.wire import session as wire
from hongyan.wire.fields import LocalProtocolError, Pdu

if TYPE_CHECKING:
    from hongyan.doors.protocols import Host

log = structlog.get_logger()

LIMITS: Final = wire.Limits(
    # Each account's own window, of 1,000 at most, is kept in Link.room; the last that fits may take several PDUs.
    window_size=1_500,
    owed_max=1_100,  # accounts have at most 1,000
    login_wait_s=15.0,  # the longest penalty fits into it
    ack_wait_s=25.0,  # within the lease of a notice
)


LINGER_S: Final = (
    1.0  # from the end of a session until its connection is cut, however much they have not read
)


class Link(asyncio.Protocol):
    """A connection, from the moment it stands."""

    def __init__(
        self, host: "Host", protocol: str, dialect: wire.Dialect, role: wire.Role, inactivity_s: float | None
    ) -> None:
        self.protocol = protocol
        self.account: Login | None = None
        self.receives = False
        self.address = ""
        self.congested = False
        self.asked = 0  # receipts and texts that wait for their answer
        self.told: Callable[[object, Verdict | None], None] = lambda *_: None  # telling's ear
        self.end: wire.End | None = None
        self._host = host
        self._machine = wire.Session(
            dialect, role, replace(LIMITS, inactivity_s=inactivity_s), time.monotonic()
        )
        self._words: Words
        self._transport: asyncio.Transport
        self._lost = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._host.links.add(self)

    def data_received(self, data: bytes) -> None:
        self._meet(self._machine.receive(data, time.monotonic()))
        self._host.flush_soon(self)

    def pause_writing(self) -> None:
        self.congested = True
        self._transport.pause_reading()  # who does not read is not heard either

    def resume_writing(self) -> None:
        self.congested = False
        self._transport.resume_reading()
        self._host.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._host.links.discard(self)
        self._meet(self._machine.lost(str(exc or "")))
        if self.account is not None:
            self._host.changed()

    # the host's side

    def depart(self) -> None:
        """Ask to end; who has not logged in is cut off."""
        if self._machine.state is wire.State.READY:
            self._machine.logout(time.monotonic())
            self._host.flush_soon(self)
        elif self._machine.state is not wire.State.LOGGING_OUT:
            self.drop()

    def drop(self) -> None:
        if not self._lost:
            self._transport.abort()

    def tick(self) -> None:
        self._meet(self._machine.tick(time.monotonic()))
        self._host.flush_soon(self)

    def flush(self) -> None:
        octets = self._machine.take()
        if octets and not self._lost and not self._transport.is_closing():
            self._transport.write(octets)

    # telling's side

    @property
    def room(self) -> int:
        """How many receipts or texts it may be given now."""
        ready = self._machine.state is wire.State.READY and self.receives and not self.congested
        if not ready or self.account is None:
            return 0
        return min(self.account.window_size - self.asked, self._machine.open_slots)

    @property
    def words(self) -> Words:
        return self._words

    def tell(self, pdu: Pdu, about: object) -> bool:
        """Give a receipt or text; False where the protocol cannot carry it."""
        try:
            self._machine.send(pdu, time.monotonic(), about)
        except LocalProtocolError as error:
            log.warning("telling.unwritable", protocol=self.protocol, error=str(error))
            return False
        self.asked += 1
        self._host.flush_soon(self)
        return True

    # what the machine says

    def _meet(self, events: Sequence[wire.Event]) -> None:
        for event in events:
            match event:
                case wire.Answered(about=about, pdu=pdu):
                    self._heard(about, pdu)
                case wire.Unanswered(about=about):
                    self._heard(about, None)
                case wire.Closed(end=end, unanswered=unanswered):
                    self.end = end
                    for _, about in unanswered:
                        self._heard(about, None)
                    self._close()
                case _:
                    self._hear(event)

    def _hear(self, event: wire.Event) -> None:
        """Do what only one who opens, or who is visited, has to. Strays and unreadable PDUs have had their answer."""

    def _heard(self, about: object, pdu: Pdu | None) -> None:
        self._machine.release()
        self.asked -= 1
        self.told(about, None if pdu is None else self._words.verdict(pdu))
        self._host.changed()

    def _close(self) -> None:
        """Write what is left, then close.

        To who does not read, or is gone without a word, it would be written for many minutes, and the session counted.
        """
        self.flush()
        if not self._lost:
            self._transport.close()
            asyncio.get_running_loop().call_later(LINGER_S, self.drop)
