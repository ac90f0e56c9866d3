"""Keep the wire sessions of one account alive, and carry parcels, answers, reports and inbound over them.

Protocols differ in a Speech; everything else is here: connect (standby hosts, TLS), log in, pump, heartbeat,
notice a dead peer, reconnect with back-off, pause on throttling, stop reading when too much is unsettled.
Entry point: Sessions, one per channel. Writes nothing; what happened goes to the channel's Sink, in batches.

Surprises. A submit is written as soon as it is taken, or not taken at all: nothing queues here, so a parcel
that got no session is certainly Unreachable, and one whose session broke is certainly Unsure. A window slot
belongs to the place of a session, not to its connection: reconnecting does not free what is not yet stored.
No Task, Future or log line is made for a PDU; one data_received is one batch for the sink and one write.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast

from hongyan import clock
from hongyan.channels.channel import (
    Answer,
    ChannelState,
    Declined,
    Inbound,
    Link,
    Outcome,
    Parcel,
    Report,
    Sink,
    Throttled,
    Unreachable,
    Unsure,
)
from hongyan.vocab.cause import Cause
from hongyan.wire import session as wire
from hongyan.wire.fields import LocalProtocolError, Pdu

TICK_S_MAX = 0.2  # longest sleep of a session's task: how late a timer may be noticed
FAREWELL_WAIT_S = 1.0  # for the last octets of a session that is over to leave
OVERFULL_WAIT_S = 0.05  # told to a caller who submits more than room()
DOUBLINGS_MAX = 16  # of the back-off; the configured maximum is reached long before


class Duty(StrEnum):
    """What one session is for."""

    BOTH = "both"
    SUBMIT = "submit"
    RECEIVE = "receive"


class Speech(Protocol):
    """What a kind adds to the keeping of sessions: its words. Called for every PDU, so it must be quick."""

    dialect: wire.Dialect

    def login(self, duty: Duty) -> Pdu: ...

    def refusal(self, pdu: Pdu) -> str:
        """Say why a login was refused, in the upstream's words."""
        ...

    def put(self, parcel: Parcel) -> Pdu | Declined:
        """Write a parcel as a request, or say why this upstream can never be given it."""
        ...

    def outcome(self, pdu: Pdu) -> Outcome:
        """Read the response to a put(). The wait of a Throttled is set by the sessions."""
        ...

    def hear(self, pdu: Pdu, connection: object, at_s: float) -> Report | Inbound | Pdu | None:
        """Read a request of the upstream: a report or inbound text, whose slot is (connection, response).

        What is neither is answered at once with the Pdu returned, or not at all.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How sessions are kept; all *_s in seconds."""

    hosts: tuple[tuple[str, int], ...]  # the first is preferred, the rest stand by
    limits: wire.Limits
    duties: tuple[Duty, ...] = (Duty.BOTH,)  # the connections that make one session
    tls: ssl.SSLContext | None = None
    tls_name: str | None = None
    connect_wait_s: float = 10.0
    close_wait_s: float = 10.0
    backoff_s: float = 1.0
    backoff_s_max: float = 30.0
    throttle_pause_s: float = 1.0
    throttle_pause_s_max: float = 30.0
    unsettled_max: int = 5_000


class Sessions:
    """The sessions of one channel. Everything but open() and close() is plain calls on the event loop."""

    def __init__(self, terms: Terms, speech: Speech, count: int) -> None:
        self.terms = terms
        self.speech = speech
        self.remark = ""  # what a person should know about a channel that is up
        self.sink: Sink
        self._posts: list[_Post] = []
        self._wanted = count
        self._closed = False
        self._ending = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._pause = Pause(terms.throttle_pause_s, terms.throttle_pause_s_max)
        self._resumption: asyncio.TimerHandle | None = None
        self._reading = True
        self._reason = ""

    async def open(self, sink: Sink) -> None:
        """Start keeping as many sessions alive as are wanted. Returns before the first of them is up."""
        self.sink = sink
        started = asyncio.Event()
        # The one task without a TaskGroup above it: the channel is its parent, close() awaits it.
        self._keeper = asyncio.create_task(self._keep(started), name="sessions")
        await started.wait()  # one turn of the loop: _keep() sets it before it waits for anything

    def resize(self, count: int) -> None:
        """Hold `count` sessions from now (or open()) on; those too many log out after their answers."""
        self._wanted = count
        connections = count * len(self.terms.duties)
        for post in self._posts[connections:]:
            post.leave()
        self._posts = self._posts[:connections]
        if self._group is None or self._closed:
            return
        for number in range(len(self._posts), connections):
            post = _Post(self, self.terms.duties[number % len(self.terms.duties)])
            self._posts.append(post)
            post.task = self._group.create_task(post.keep())

    def room(self) -> int:
        """Return how many parcels submit() would write now."""
        if self._pause.remaining_s(_now_s()) > 0:
            return 0
        return sum(post.room for post in self._posts)

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Write parcels, in order, on the emptiest sessions; answer at once those that cannot be."""
        at = 0
        if self._pause.remaining_s(_now_s()) <= 0:
            while at < len(parcels):
                post = max(self._posts, key=_room_of, default=None)
                if post is None or post.room <= 0:
                    break
                end = at + post.room
                post.submit(parcels[at:end])
                at = end
        if at < len(parcels):
            self._turn_down(parcels[at:])

    def stored(self, slots: Sequence[Any]) -> None:
        """Free the windows and write the responses that these slots stand for; slots may be None."""
        now_s = _now_s()
        spoken = set()
        for slot in slots:
            if isinstance(slot, tuple):  # what was heard: its connection and the response it waits for
                connection, response = slot
                if connection.settle(response, now_s):
                    spoken.add(connection)
            elif slot is not None:
                slot.free()
        for connection in spoken:
            connection.flush()
        if not self._reading:
            self.watch_reading()

    async def request(self, pdu: Pdu, wait_s: float) -> Pdu | None:
        """Ask something rare over any session; None without a session, a slot or a timely answer."""
        post = max(self._posts, key=_room_of, default=None)
        if post is None or post.room <= 0 or post.connection is None:
            return None
        answer: asyncio.Future[Pdu | None] = asyncio.get_running_loop().create_future()
        post.connection.ask(pdu, answer)
        try:
            async with asyncio.timeout(wait_s):
                return await answer
        except TimeoutError:
            return None

    def state(self) -> ChannelState:
        takers = [post for post in self._posts if post.duty is not Duty.RECEIVE]
        up = sum(post.ready for post in takers)
        link = Link.UP if up else Link.DOWN
        if self._closed:
            link = Link.CLOSED
        elif up and self._pause.remaining_s(_now_s()) > 0:
            link = Link.THROTTLED
        window_size = len(takers) * self.terms.limits.window_size
        all_up = all(post.ready for post in self._posts)
        reason = self.remark if all_up else self._reason
        return ChannelState(link, up, sum(post.taken for post in takers), window_size, reason)

    async def close(self) -> None:
        """Take nothing more, wait at most close_wait_s for answers and stores, log out, free the sockets."""
        if self._keeper is None or self._closed:
            return
        self._closed = True
        self._ending.set()
        if self._resumption is not None:
            self._resumption.cancel()
        for post in self._posts:
            post.leave()
        self.changed()
        await self._keeper
        self._posts = []
        self.changed()

    # what the parts below say

    def changed(self, reason: str | None = None) -> None:
        if reason is not None:
            self._reason = reason
        self.sink.changed(self.state())

    def throttled(self, now_s: float) -> float:
        """Pause the whole channel; returns for how long."""
        was_running = self._pause.remaining_s(now_s) <= 0
        wait_s = self._pause.throttled(now_s)
        if was_running:
            loop = asyncio.get_running_loop()
            self._resumption = loop.call_later(wait_s + TIMER_EARLY_S, self.changed)
            self.changed()
        return wait_s

    def watch_reading(self) -> None:
        """Stop reading when too much is unsettled, and read again once half of that is stored."""
        unsettled = sum(post.connection.unsettled for post in self._posts if post.connection is not None)
        if self._reading and unsettled > self.terms.unsettled_max:
            self._reading = False
        elif not self._reading and unsettled <= self.terms.unsettled_max // 2:
            self._reading = True
        else:
            return
        for post in self._posts:
            if post.connection is not None:
                post.connection.read(reading=self._reading)

    @property
    def reading(self) -> bool:
        return self._reading

    # parts

    async def _keep(self, started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as self._group:
            self.resize(self._wanted)
            started.set()
            await self._ending.wait()  # the channel's whole life, so without a deadline

    def _turn_down(self, parcels: Sequence[Parcel]) -> None:
        now_s = _now_s()
        remaining_s = self._pause.remaining_s(now_s)
        outcome: Outcome
        if not any(post.ready for post in self._posts if post.duty is not Duty.RECEIVE):
            outcome = Unreachable(self._reason or "no session is logged in")
        else:
            outcome = Throttled(max(remaining_s, OVERFULL_WAIT_S))
        at_s = clock.now_s()
        answers = [Answer(parcel, outcome, at_s, at_s) for parcel in parcels]
        # Not from inside submit(): its caller has not yet noted what it handed over.
        asyncio.get_running_loop().call_soon(self.sink.answered, answers)


class Pause:
    """How long a throttled channel holds still: doubles while throttling goes on, shrinks with quiet time."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._length_s = 0.0
        self._until_s = 0.0

    def remaining_s(self, now_s: float) -> float:
        return self._until_s - now_s

    def throttled(self, now_s: float) -> float:
        """Hear of a throttled submit; returns how long to hold still. What was sent before adds nothing."""
        if now_s >= self._until_s:
            quiet_s = now_s - self._until_s
            shrunk_s = self._length_s - self._first_s * quiet_s  # one first pause less for each quiet second
            self._length_s = min(max(2 * shrunk_s, self._first_s), self._longest_s)
            self._until_s = now_s + self._length_s
        return self._until_s - now_s


class _Post:
    """The place of one session: lives on while its connections come and go. Owned by one task, keep()."""

    def __init__(self, sessions: Sessions, duty: Duty) -> None:
        self.duty = duty
        self.taken = 0  # window slots whose answers are not yet stored, over all its connections
        self.connection: _Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.leaving = False
        self._sessions = sessions
        self._wake = asyncio.Event()
        self._failures = 0

    @property
    def ready(self) -> bool:
        return self.connection is not None and self.connection.machine.state is wire.State.READY

    @property
    def room(self) -> int:
        connection = self.connection
        if connection is None or connection.congested or self.leaving or self.duty is Duty.RECEIVE:
            return 0
        return min(connection.machine.open_slots, self._sessions.terms.limits.window_size - self.taken)

    def submit(self, parcels: Sequence[Parcel]) -> None:
        assert self.connection is not None
        self.connection.submit(parcels)

    def leave(self) -> None:
        """Log out once nothing is due any more; at once if not logged in."""
        self.leaving = True
        self.wake()
        if self.connection is None and self.task is not None:
            self.task.cancel()

    def wake(self) -> None:
        self._wake.set()

    async def nap(self, wait_s: float) -> None:
        """Sleep until woken, at most wait_s."""
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def keep(self) -> None:
        """Hold a session, again and again, until told to leave."""
        while not self.leaving:
            try:
                logged_in_s = await self._hold_once()
            except Exception as error:  # noqa: BLE001 - our bug; the other sessions and the next try go on
                logged_in_s = 0.0
                self._sessions.changed(f"a fault of ours: {error!r}")
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a session broke by a fault of ours", "exception": error}
                )
            self._failures = 0 if logged_in_s >= self._sessions.terms.backoff_s_max else self._failures + 1
            if not self.leaving:
                await self.nap(self._backoff_s())

    async def _hold_once(self) -> float:
        """Connect, log in and stay as long as it lasts. Returns for how many seconds it was logged in."""
        terms = self._sessions.terms
        host, port = terms.hosts[self._failures % len(terms.hosts)]
        try:
            async with asyncio.timeout(terms.connect_wait_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self, self._sessions),
                    host,
                    port,
                    ssl=terms.tls,
                    server_hostname=(terms.tls_name or host) if terms.tls else None,
                )
        except TimeoutError:
            self._sessions.changed(f"{host}:{port}: no connection within {terms.connect_wait_s} s")
            return 0.0
        except OSError as error:  # ssl.SSLError is one
            self._sessions.changed(f"{host}:{port}: {error}")
            return 0.0
        try:
            await self._stay(connection)
        finally:
            connection.drop()
            self.connection = None
            self._sessions.watch_reading()  # what it had unsettled will be said again elsewhere
        return connection.logged_in_for_s(_now_s())

    async def _stay(self, connection: "_Connection") -> None:
        """Give the connection its time until it is over."""
        while not connection.over:
            if self.leaving:
                await self._part(connection)
                return
            await self.nap(connection.next_tick_s(_now_s()))
            connection.tick()
        await self._see_off(connection)

    async def _part(self, connection: "_Connection") -> None:
        """Wait for what is due, then log out; both within close_wait_s."""
        deadline_s = _now_s() + self._sessions.terms.close_wait_s
        while connection.busy and (left_s := deadline_s - _now_s()) > 0:
            await self.nap(min(left_s, connection.next_tick_s(_now_s())))
            connection.tick()
        connection.logout()
        while not connection.over and (left_s := deadline_s - _now_s()) > 0:
            await self.nap(left_s)
        if connection.over:
            await self._see_off(connection)

    async def _see_off(self, connection: "_Connection") -> None:
        """Let the last octets leave: a refusal or a logout response."""
        deadline_s = _now_s() + FAREWELL_WAIT_S
        while not connection.lost and (left_s := deadline_s - _now_s()) > 0:
            await self.nap(left_s)

    def _backoff_s(self) -> float:
        """Double with each round over the hosts; the jitter keeps a fleet from coming back as one."""
        terms = self._sessions.terms
        doublings = min(self._failures // len(terms.hosts), DOUBLINGS_MAX)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load and hides nothing
        return jitter * min(terms.backoff_s * float(1 << doublings), terms.backoff_s_max)


class _Connection(asyncio.Protocol):
    """One TCP connection and its machine; turns bytes into batches for the sink."""

    def __init__(self, post: _Post, sessions: Sessions) -> None:
        self.congested = False  # the socket takes no more for now
        self.lost = False
        self.unsettled = 0  # reports and inbound at the sink and not yet stored
        self.machine = wire.Session(
            sessions.speech.dialect, wire.Role.CLIENT, sessions.terms.limits, _now_s()
        )
        self._post = post
        self._sessions = sessions
        self._speech = sessions.speech
        self._transport: asyncio.Transport
        self._logged_in_s: float | None = None
        self._quiet_until_s = 0.0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as one
        self._post.connection = self
        if not self._sessions.reading:
            self._transport.pause_reading()
        self.machine.login(self._speech.login(self._post.duty), _now_s())
        self.flush()

    def data_received(self, data: bytes) -> None:
        now_s = _now_s()
        self._meet(self.machine.receive(data, now_s), now_s)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        self._sessions.changed()

    def eof_received(self) -> bool:
        return False  # the transport closes itself; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        text = str(exc) if exc is not None else "closed by the upstream"
        self._meet(self.machine.lost(text), _now_s())
        self._post.wake()

    # the post's side

    @property
    def over(self) -> bool:
        return self.machine.state is wire.State.CLOSED

    @property
    def busy(self) -> bool:
        """Whether answers or stores are still due."""
        return not self.over and (bool(self.machine.unanswered) or self.unsettled > 0 or self._post.taken > 0)

    def logged_in_for_s(self, now_s: float) -> float:
        return 0.0 if self._logged_in_s is None else now_s - self._logged_in_s

    def next_tick_s(self, now_s: float) -> float:
        deadline_s = self.machine.next_deadline_s
        if deadline_s is None:
            return 0.0
        return (
            min(max(deadline_s, self._quiet_until_s) - now_s, TICK_S_MAX)
            if self._sessions.reading
            else TICK_S_MAX
        )

    def tick(self) -> None:
        """Let time pass; not while we do not read, nor right after: signs of life are still in the socket."""
        now_s = _now_s()
        if self._sessions.reading and now_s >= self._quiet_until_s:
            self._meet(self.machine.tick(now_s), now_s)

    def read(self, *, reading: bool) -> None:
        if self.lost or self._transport.is_closing():
            return
        if reading:
            self._quiet_until_s = _now_s() + TICK_S_MAX
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def logout(self) -> None:
        if self.machine.state is wire.State.READY:
            self.machine.logout(_now_s())
            self.flush()
        else:
            self.drop()

    def drop(self) -> None:
        """Close for certain, whatever the peer does."""
        if not self.lost:
            self._transport.abort()
        self._meet(self.machine.lost("closed by us"), _now_s())

    # the channel's side

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Write these parcels in one piece; the caller has looked at room."""
        now_s = _now_s()
        put, ask, declined = self._speech.put, self.machine.send, []
        sent = 0
        for parcel in parcels:
            pdu = put(parcel)
            if isinstance(pdu, Declined):
                declined.append((parcel, pdu))
                continue
            try:
                ask(pdu, now_s, parcel)
            except LocalProtocolError as error:  # a value that the protocol cannot carry
                declined.append((parcel, Declined(str(error), Cause.UNSUPPORTED)))
                continue
            sent += 1
        self._post.taken += sent
        self.flush()
        if declined:
            at_s = clock.now_s()
            answers = [Answer(parcel, outcome, at_s, at_s) for parcel, outcome in declined]
            asyncio.get_running_loop().call_soon(self._sessions.sink.answered, answers)

    def ask(self, pdu: Pdu, answer: "asyncio.Future[Pdu | None]") -> None:
        self.machine.send(pdu, _now_s(), answer)
        self._post.taken += 1
        self.flush()

    def free(self) -> None:
        """Give a window slot back: its answer is stored."""
        self._post.taken -= 1
        self.machine.release()
        if self._post.leaving:
            self._post.wake()

    def settle(self, response: Pdu, now_s: float) -> bool:
        """Answer what was heard and is stored now; False if it is gone: they will say it again."""
        if self.over:
            return False
        self.unsettled -= 1
        self.machine.answer(response, now_s)
        if self._post.leaving:
            self._post.wake()
        return True

    def flush(self) -> None:
        octets = self.machine.take()
        if octets and not self.lost:
            self._transport.write(octets)

    # what the machine says

    def _meet(self, events: Sequence[wire.Event], now_s: float) -> None:
        answers: list[Answer] = []
        reports: list[Report] = []
        inbound: list[Inbound] = []
        at_s = clock.now_s()
        outcome_of, hear = self._speech.outcome, self._speech.hear
        for event in events:
            if isinstance(event, wire.Answered):
                about = event.about
                if isinstance(about, Parcel):
                    outcome = outcome_of(event.pdu)
                    if isinstance(outcome, Throttled):
                        outcome = Throttled(self._sessions.throttled(now_s), outcome.code)
                    answers.append(Answer(about, outcome, at_s - event.waited_s, at_s, self))
                else:
                    self._told(about, event.pdu)
            elif isinstance(event, wire.Received):
                pdu = event.pdu
                heard = hear(pdu, self, at_s)
                if isinstance(heard, Report):
                    reports.append(heard)
                elif isinstance(heard, Inbound):
                    inbound.append(heard)
                elif heard is not None:
                    self.machine.answer(heard, now_s)
            else:
                self._meet_seldom(event, now_s, at_s, answers)
        self.flush()
        if events:
            self._tell(answers, reports, inbound)

    def _tell(self, answers: list[Answer], reports: list[Report], inbound: list[Inbound]) -> None:
        sink = self._sessions.sink
        if answers:
            sink.answered(answers)
        if reports or inbound:
            self.unsettled += len(reports) + len(inbound)
            if reports:
                sink.reported(reports)
            if inbound:
                sink.arrived(inbound)
            self._sessions.watch_reading()
        if self._post.leaving:
            self._post.wake()

    def _meet_seldom(self, event: wire.Event, now_s: float, at_s: float, answers: list[Answer]) -> None:
        match event:
            case wire.LoggedIn():
                self._logged_in_s = now_s
                self._sessions.changed()
            case wire.LoginRefused(pdu=pdu):
                self._sessions.changed(self._speech.refusal(pdu))
            case wire.Unanswered(about=about):
                self._unanswered(about, "no answer within ack_wait_s", at_s, answers)
            case wire.Closed(end=end, text=text, unanswered=unanswered):
                reason = f"{end.value}: {text}" if text else end.value
                for _, about in unanswered:
                    self._unanswered(about, reason, at_s, answers)
                self._end(end, reason)
            case _:  # Stray and Unreadable: answered by the machine where that is due, and no loss to us
                pass

    def _unanswered(self, about: object, reason: str, at_s: float, answers: list[Answer]) -> None:
        if isinstance(about, Parcel):
            # The machine does not say when it was sent; now is the latest it can have left.
            answers.append(Answer(about, Unsure(reason), at_s, at_s, self))
        else:
            self._told(about, None)

    def _told(self, about: object, pdu: Pdu | None) -> None:
        assert isinstance(about, asyncio.Future)
        self.free()
        if not about.done():
            about.set_result(pdu)

    def _end(self, end: wire.End, reason: str) -> None:
        self.flush()
        if end in (wire.End.DEAD, wire.End.NOT_READING, wire.End.LOST):
            self._transport.abort()  # close() would wait for a peer that takes nothing
        else:
            self._transport.close()
        self._post.wake()
        # A refused login has told its reason already, in better words.
        self._sessions.changed(None if end is wire.End.LOGIN_REFUSED else reason)


def _room_of(post: _Post) -> int:
    return post.room


TIMER_EARLY_S = 0.002  # uvloop keeps time in whole milliseconds: a timer may come a little before its time
_now_s = time.monotonic  # it must not jump when somebody sets the clock
