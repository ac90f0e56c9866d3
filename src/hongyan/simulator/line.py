"""One connection of the practice operator, whatever it speaks: the socket, the session, the login, what is owed.

Writes nothing but its socket. Entry point: WireLine, an asyncio protocol that server.py builds for each
connection; smpp.py, cmpp.py, sgip.py and smgp.py are its words. Reading, numbers, windows and timers are
wire.session's; here its events reach the centre, and what the centre says reaches the peer. Output gathers
and is written once per read or per round of the agenda.
"""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Final, NamedTuple, cast

from hongyan.simulator.behaviour import Behaviour, Protocol
from hongyan.simulator.centre import Centre, Owed, OwedReport, OwedText, Verdict, account_of
from hongyan.wire import session
from hongyan.wire.fields import LocalProtocolError, Pdu
from hongyan.wire.session import (
    Answered,
    Closed,
    Dialect,
    LoggedIn,
    LoginRequested,
    Received,
    Role,
    Session,
    Turn,
    Unanswered,
)

LIMITS: Final = session.Limits(
    owed_max=1_000_000,  # acks that are lost on purpose stay owed for ever
    login_wait_s=10.0,
    heartbeat_misses_max=3,
)
NO_HEARTBEAT_S: Final = 1e9
LOOK_S: Final = 1.0  # how often a session's timers are looked at, at most


class Entry(NamedTuple):
    """How a client is let in. dialect: spoken from the response on, None: as is."""

    response: Pdu
    receives: bool  # reports and texts
    dialect: Dialect | None = None


class WireLine(asyncio.Protocol, ABC):
    """One connection from open to close."""

    protocol: ClassVar[Protocol]
    window_size: ClassVar[int]  # where window_max leaves it to the protocol
    too_many: ClassVar[int]  # the status beyond sessions_max

    def __init__(self, centre: Centre, lines: "set[WireLine]", role: Role = Role.SERVER) -> None:
        """Make a line of a connection to come.

        lines: the server's set of open connections; this one adds and removes itself · role: whether the peer
        logs in here, or the operator there.
        """
        self.role = role
        self.account = ""
        self.submits = 0
        self.logged_in = False
        self.closed = asyncio.Event()
        self._centre = centre
        self._lines = lines
        self._behaviour = centre.behaviour
        self._mute = self._behaviour.silent
        self._paused = False
        self._resting = False
        self._session = Session(self._tuned(self._dialect()), role, self._limits(), centre.agenda.now_s())
        self._transport: asyncio.Transport

    # the words of a protocol

    @abstractmethod
    def _dialect(self) -> Dialect:
        """Return what is spoken before the login."""

    @abstractmethod
    def _name(self, login: Any) -> str: ...

    @abstractmethod
    def _unfit(self, login: Any) -> int:
        """Return the status that turns a login away, 0 for one that may come in."""

    @abstractmethod
    def _refusal(self, login: Any, status: int) -> Pdu: ...

    @abstractmethod
    def _entry(self, login: Any) -> Entry: ...

    @abstractmethod
    def _request(self, pdu: Pdu) -> None:
        """Meet a request: submit to the centre, or answer."""

    @abstractmethod
    def _ack(self, ticket: Any, status: int, ack_id: str) -> Pdu: ...

    @abstractmethod
    def _report(self, owed: OwedReport, behaviour: Behaviour) -> Pdu:
        """Write a report. Raises LocalProtocolError for what no PDU can carry."""

    @abstractmethod
    def _text(self, owed: OwedText) -> Pdu:
        """Write a part of a text from a handset. Raises LocalProtocolError."""

    @abstractmethod
    def _verdict(self, response: Any) -> Verdict: ...

    def _more_limits(self, limits: session.Limits) -> session.Limits:
        return limits

    # what the socket says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._lines.add(self)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.discard(self)
        self._over(self._session.lost(str(exc or "")))
        self.closed.set()

    def pause_writing(self) -> None:
        self._paused = True  # the client does not read: nothing more is asked of it, nor heard from it
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._resume_reading()
        self._centre.hand_out()
        self._centre.flush()

    def data_received(self, data: bytes) -> None:
        if self._mute:
            return
        events = self._session.receive(data, self._centre.agenda.now_s())
        self._centre.gathering.add(self)  # the machine itself may have answered
        self._meet(events)
        if self._behaviour.read_pause_s and not self._transport.is_closing():
            self._resting = True
            self._transport.pause_reading()
            self._centre.agenda.add(self._centre.agenda.now_s() + self._behaviour.read_pause_s, self._rested)
        self._centre.hand_out()
        self._centre.flush()

    # what the centre says

    def takes(self) -> bool:
        quiet = self._mute or self._paused or self._transport.is_closing()
        return not quiet and self._session.open_slots > 0

    def ack(self, ticket: Pdu, status: int, ack_id: str) -> None:
        if self._answer(self._ack(ticket, status, ack_id)):
            self._centre.record.counts["acks"] += 1

    def deliver(self, owed: Owed) -> None:
        try:
            pdu = self._written(owed)
            self._session.send(pdu, self._centre.agenda.now_s(), owed)
        except LocalProtocolError:  # an address or code that no PDU can carry
            self._centre.answered(owed, Verdict.NEVER)
        self._centre.gathering.add(self)

    def mute(self) -> None:
        self.flush()
        self._mute = True

    def abort(self) -> None:
        self.flush()  # what was said before the break is heard: the ack of the submit that brought it
        if self._paused:
            self._transport.abort()  # else it would wait for a client that does not read
        else:
            self._transport.close()

    def drop(self) -> None:
        """End at once, whatever is still to be written."""
        self._transport.abort()

    def logout(self) -> None:
        """Ask the peer to end the session, in the protocol's own words."""
        if self._session.state is session.State.READY:
            self._session.logout(self._centre.agenda.now_s())
            self._centre.gathering.add(self)

    def flush(self) -> None:
        octets = self._session.take()
        if octets and not self._mute and not self._transport.is_closing():
            self._transport.write(octets)

    # ---- parts of the above

    def _meet(self, events: list[session.Event]) -> None:
        for event in events:
            match event:
                case Received(pdu=pdu):
                    self._request(pdu)
                case Answered(about=about, pdu=pdu):
                    self._session.release()
                    self._centre.answered(cast(Owed, about), self._verdict(pdu))
                case Unanswered(about=about):
                    self._session.release()
                    self._centre.answered(cast(Owed, about), Verdict.LATER)
                case LoginRequested(pdu=login):
                    self._decide(login)
                case LoggedIn():
                    self._enter(receives=True)
                case Closed():
                    self._over([event])
                    self.abort()
                case _:
                    pass  # strays and unreadable PDUs: the machine has said what there is to say

    def _decide(self, login: Pdu) -> None:
        """Let a client in or turn it away."""
        record = self._centre.record
        account = account_of(self.protocol, self._name(login))
        status = self._bind_status() or self._unfit(login) or self._crowded(account)
        if status:
            record.counts["binds_refused"] += 1
            self._session.refuse(self._refusal(login, status))
            self.abort()
            return
        record.counts["binds"] += 1
        entry = self._entry(login)
        dialect = entry.dialect and self._tuned(entry.dialect)
        self._session.accept(entry.response, self._centre.agenda.now_s(), dialect)
        self.account = account
        self._enter(receives=entry.receives)
        self._meet(self._session.tick(self._centre.agenda.now_s()))  # what came behind the login

    def _bind_status(self) -> int:
        status, refusals_max = self._behaviour.bind_status, self._behaviour.bind_refusals_max
        if refusals_max and self._centre.record.counts["binds_refused"] >= refusals_max:
            return 0
        return status

    def _crowded(self, account: str) -> int:
        """Return the status that refuses one session too many, or 0."""
        sessions_max = self._behaviour.sessions_max
        here = (line for line in self._lines if line.logged_in and line.role is Role.SERVER)
        full = sessions_max and sum(line.account == account for line in here) >= sessions_max
        return self.too_many if full else 0

    def _enter(self, *, receives: bool) -> None:
        behaviour, agenda = self._behaviour, self._centre.agenda
        self.logged_in = True
        if behaviour.disconnect_after_s:
            agenda.add(agenda.now_s() + behaviour.disconnect_after_s, self._disconnect)
        if behaviour.logout_after_s:
            agenda.add(agenda.now_s() + behaviour.logout_after_s, self.logout)
        self._centre.logged_in(self, receives=receives)

    def _is_deaf(self) -> bool:
        """Is what comes now lost? It came with the submit that broke the session."""
        return self._transport.is_closing()

    def _answer(self, pdu: Pdu) -> bool:
        """Answer if the session still stands; returns whether it did."""
        if self._session.state not in (session.State.READY, session.State.LOGGING_OUT):
            return False
        self._session.answer(pdu, self._centre.agenda.now_s())
        self._centre.gathering.add(self)
        return True

    def _written(self, owed: Owed) -> Pdu:
        if isinstance(owed, OwedText):
            return self._text(owed)
        behaviour = self._behaviour
        if self._centre.table.has_rules:
            behaviour = self._centre.table.behaviour(owed.message.part.number)
        return self._report(owed, behaviour)

    def _rested(self) -> None:
        self._resting = False
        self._resume_reading()

    def _resume_reading(self) -> None:
        if not (self._paused or self._resting or self._transport.is_closing()):
            self._transport.resume_reading()

    def _disconnect(self) -> None:
        if not self._transport.is_closing():
            self._centre.record.counts["disconnects"] += 1
            self.abort()

    def _look(self) -> None:
        """Let the session see to its timers, again and again."""
        if self not in self._lines:
            return
        now_s = self._centre.agenda.now_s()
        if not self._mute:
            self._centre.gathering.add(self)
            self._meet(self._session.tick(now_s))
        self._centre.agenda.add(now_s + self._look_s(), self._look)

    def _look_s(self) -> float:
        behaviour = self._behaviour
        idle_s, heartbeat_s = behaviour.sgip_idle_s or LOOK_S, behaviour.enquire_link_s or LOOK_S
        return min(LOOK_S, min(behaviour.resend_after_s, idle_s, heartbeat_s) / 2 + 0.01)

    def _over(self, events: list[session.Event]) -> None:
        """Give back to the centre what was not answered."""
        for event in events:
            if isinstance(event, Closed):
                self.logged_in = False
                self._centre.lost(self, [cast(Owed, about) for _, about in event.unanswered])

    def _limits(self) -> session.Limits:
        behaviour = self._behaviour
        return self._more_limits(
            replace(
                LIMITS,
                window_size=behaviour.window_max or self.window_size,
                owed_max=behaviour.owed_acks_max or LIMITS.owed_max,
                # Its answer may lie unread for as long as we rest.
                ack_wait_s=behaviour.resend_after_s + behaviour.read_pause_s,
                heartbeat_s=behaviour.enquire_link_s or NO_HEARTBEAT_S,
            )
        )

    def _tuned(self, dialect: Dialect) -> Dialect:
        """Return the protocol as an operator speaks it that treats heartbeats as the behaviour says."""
        behaviour = self._behaviour
        if behaviour.enquire_link_answered and not behaviour.heartbeat_echoed:
            return dialect

        def answer(request: Pdu, what: session.Answer) -> Pdu | None:
            if dialect.turns[type(request)] is not Turn.HEARTBEAT:
                return dialect.answer(request, what)
            return request if behaviour.heartbeat_echoed else None

        return replace(dialect, answer=answer)
