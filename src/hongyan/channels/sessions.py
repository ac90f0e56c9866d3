"""Keep the wire sessions of one account alive, and carry parcels, answers, reports and inbound over them.

Protocols differ in a Speech; everything else is here: connect (standby hosts, TLS), log in, pump, heartbeat,
notice a dead peer, reconnect with back-off, pause on throttling, stop reading when too much is unsettled.
Entry point: Sessions, one per channel. Writes nothing; what happened goes to the channel's Sink, in batches.

Surprises. A submit is written as soon as it is taken, or not taken at all: nothing queues here, so a parcel
that got no session is certainly Unreachable, and one whose session broke is certainly Unsure. A window slot
belongs to the place of a session, not to its connection: reconnecting does not free what is not yet stored.
A session that logged out for want of work (Limits.inactivity_s) sleeps: it counts as up, and what it is given
it holds for a login that is tried at once; if that fails, those parcels certainly did not leave.
No Task, Future or log line is made for a PDU; one data_received is one batch for the sink and one write.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from hongyan import clock
from hongyan.channels import trace
from hongyan.channels.channel import (
    Ack,
    Answer,
    ChannelState,
    Link,
    Outcome,
    Parcel,
    SessionState,
    Sink,
    Throttled,
    Unreachable,
    Unsure,
)
from hongyan.channels.connection import Connection
from hongyan.channels.pause import DOUBLINGS_MAX, OVERFULL_WAIT_S, TIMER_EARLY_S, Pause
from hongyan.channels.speech import Duty, Reception, Speech, Terms
from hongyan.wire import session as wire
from hongyan.wire.fields import Pdu

FAREWELL_WAIT_S = 1.0  # for the last octets of a session that is over to leave
CALLERS_MAX = 64  # connections the upstream makes to us


class Sessions:
    """The sessions of one channel. Everything but open() and close() is plain calls on the event loop."""

    def __init__(self, terms: Terms, speech: Speech, count: int) -> None:
        self.terms = terms
        self.each: Callable[[], Speech] = lambda: speech  # what one connection speaks, where they differ
        self.remark = ""  # what a person should know about a channel that is up
        self.trace = trace.Trace(speech.lens, terms.trace_pdus)
        self.sink: Sink
        self._posts: list[Post] = []
        self._going: list[Post] = []  # too many since resize(): they wait for their answers and log out
        self._callers: list[Post] = []  # connections the upstream has made to us
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
        self._posts, going = self._posts[:connections], self._posts[connections:]
        self._going = [post for post in self._going if post.task is not None and not post.task.done()] + going
        for post in going:
            post.leave()
        if self._group is None or self._closed:
            return
        for number in range(len(self._posts), connections):
            post = Post(self, self.terms.duties[number % len(self.terms.duties)])
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
                post = max(self._posts, key=_preference, default=None)
                room = post.room if post is not None else 0
                if post is None or room <= 0:
                    break
                end = at + room
                post.submit(parcels[at:end])
                at = end
        if at < len(parcels):
            self.turn_down(parcels[at:])

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
        post = max(self._posts, key=_preference, default=None)
        if post is None or post.room <= 0 or post.asleep or post.connection is None:
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
        throttled_s = max(0.0, self._pause.remaining_s(_now_s()))
        used = sum(post.taken for post in takers)
        return ChannelState(link, up, used, window_size, reason, throttled_s=throttled_s)

    def each_session(self) -> Sequence[SessionState]:
        """Say how each session fares, those that the upstream has made to us included."""
        now_s = _now_s()
        posts = (*self._posts, *self._going, *self._callers)
        return [post.seen(slot, now_s) for slot, post in enumerate(posts, start=1)]

    async def close(self) -> None:
        """Take nothing more, wait at most close_wait_s for answers and stores, log out, free the sockets."""
        if self._keeper is None or self._closed:
            return
        self._closed = True
        self._ending.set()
        if self._resumption is not None:
            self._resumption.cancel()
        for post in (*self._posts, *self._callers):
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
        posts = (*self._posts, *self._going, *self._callers)
        unsettled = sum(post.connection.unsettled for post in posts if post.connection is not None)
        if self._reading and unsettled > self.terms.unsettled_max:
            self._reading = False
        elif not self._reading and unsettled <= self.terms.unsettled_max // 2:
            self._reading = True
        else:
            return
        for post in posts:
            if post.connection is not None:
                post.connection.read(reading=self._reading)

    @property
    def reading(self) -> bool:
        return self._reading

    def called(self, post: "Post", connection: "Connection") -> bool:
        """Hear that the upstream has connected; False if that is one too many, or too late.

        Where there are too many, it takes the place of one that has not logged in: anybody may connect.
        """
        if self._closed or self._group is None:
            return False
        staying = [caller for caller in self._callers if not caller.leaving]
        if len(staying) >= CALLERS_MAX:
            stranger = next((caller for caller in staying if not caller.ready), None)
            if stranger is None:
                return False
            stranger.leave()
        self._callers.append(post)
        post.task = self._group.create_task(self._attend(post, connection))
        return True

    def remarked(self, remark: str) -> None:
        """Take note of what a person should know; it is told once."""
        if remark != self.remark:
            self.remark = remark
            self.changed()

    # parts

    async def _keep(self, started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as self._group:
            self.resize(self._wanted)
            if self.terms.reception is not None:
                self._group.create_task(self._listen(self.terms.reception))
            started.set()
            await self._ending.wait()  # the channel's whole life, so without a deadline

    async def _listen(self, reception: Reception) -> None:
        """Let the upstream connect to us. Only one process can have the port, so the others keep trying."""
        while not self._closed:
            try:
                server = await asyncio.get_running_loop().create_server(
                    lambda: Connection(Post(self, Duty.RECEIVE), self, wire.Role.SERVER),
                    reception.host,
                    reception.port,
                )
            except (OSError, ValueError) as error:  # ValueError: a name that can be none of a host
                self.remarked(f"cannot listen: {error}")
                await self._ends_within(self.terms.backoff_s)
                continue
            try:
                self.remarked("")
                await self._ends_within(None)
            finally:
                server.close()

    async def _ends_within(self, wait_s: float | None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._ending.wait()
        except TimeoutError:
            return

    async def _attend(self, post: "Post", connection: "Connection") -> None:
        try:
            await post.attend(connection)
        finally:
            self._callers.remove(post)

    def turn_down(self, parcels: Sequence[Parcel]) -> None:
        """Answer parcels that certainly did not leave."""
        now_s = _now_s()
        remaining_s = self._pause.remaining_s(now_s)
        outcome: Outcome
        if not any(post.ready for post in self._posts if post.duty is not Duty.RECEIVE):
            outcome = Unreachable(self._reason or "no session is logged in")
        else:
            outcome = Throttled(max(remaining_s, OVERFULL_WAIT_S))
        at_s = clock.now_s()
        answers = [Answer(parcel, outcome, at_s, at_s) for parcel in parcels]
        # Not from inside submit() or resize(): who calls them has not yet noted what it did.
        asyncio.get_running_loop().call_soon(self.sink.answered, answers)


class Post:
    """The place of one session: lives on while its connections come and go. Owned by one task, keep()."""

    def __init__(self, sessions: Sessions, duty: Duty) -> None:
        self.duty = duty
        self.taken = 0  # window slots whose answers are not yet stored, over all its connections
        self.answered = 0  # submits, since this place was opened; for people
        self.not_taken = 0  # of them
        self.waited_s = 0.0  # for all of them together
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.leaving = False
        self.asleep = False  # from a logout for want of work to the next login
        self._dozed_off = False
        self._held: list[Parcel] = []  # while asleep
        self._sessions = sessions
        self._window_size = 0 if duty is Duty.RECEIVE else sessions.terms.limits.window_size
        self._wake = asyncio.Event()
        self._failures = 0

    @property
    def ready(self) -> bool:
        return self.asleep or (
            self.connection is not None and self.connection.machine.state is wire.State.READY
        )

    @property
    def room(self) -> int:
        if self.leaving or not self._window_size:
            return 0
        left = self._window_size - self.taken - len(self._held)
        if self.asleep:
            return left
        connection = self.connection
        if connection is None or connection.congested:
            return 0
        return min(connection.machine.open_slots, left)

    def seen(self, slot: int, now_s: float) -> SessionState:
        """Say how it fares."""
        connection = self.connection
        word: Literal["up", "asleep", "logging_in", "down", "leaving"] = "logging_in"
        if self.leaving:
            word = "leaving"
        elif self.asleep:
            word = "asleep"
        elif connection is None or connection.over:
            word = "down"
        elif self.ready:
            word = "up"
        up_s = connection.logged_in_for_s(now_s) if connection is not None else 0.0
        return SessionState(
            slot, word, self.duty.value, self.taken, self._window_size, round(up_s, 1), self.answered, self.not_taken,
            self.waited_s,
        )  # fmt: skip

    def heard(self, answers: Sequence[Answer]) -> None:
        """Count what became of submits; those without an answer are counted as nothing."""
        for answer in answers:
            outcome = type(answer.outcome)
            if outcome is not Unsure:
                self.answered += 1
                self.waited_s += answer.at_s - answer.sent_at_s
                if outcome is not Ack:
                    self.not_taken += 1

    def submit(self, parcels: Sequence[Parcel]) -> None:
        if self.asleep:
            self._held += parcels
            self.wake()
            return
        assert self.connection is not None
        self.connection.submit(parcels)

    def fall_asleep(self) -> None:
        """Hear of a logout for want of work."""
        self.asleep = self._dozed_off = True

    def wake_up(self) -> None:
        """Hear of a login: what was held goes out; or of one that failed: it is turned down."""
        if not self.asleep:
            return
        self.asleep = False
        held, self._held = self._held, []
        if held and self.ready:
            self.submit(held)
        elif held:
            self._sessions.turn_down(held)

    def leave(self) -> None:
        """Log out once nothing is due any more; at once if not logged in."""
        self.leaving = True
        self.wake_up()
        self.wake()
        if self.connection is None and self.task is not None:
            self.task.cancel()

    def wake(self) -> None:
        self._wake.set()

    async def nap(self, wait_s: float | None) -> None:
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
                self._fault(error)
            if self._dozed_off:
                self._dozed_off = False
                self._failures %= len(self._sessions.terms.hosts)  # it wakes at the host it fell asleep at
                while not (self._held or self.leaving):
                    await self.nap(None)  # until a parcel comes: there is nothing to keep up meanwhile
                continue
            if self.asleep:
                self.wake_up()
                self._sessions.changed()
            self._failures = 0 if logged_in_s >= self._sessions.terms.backoff_s_max else self._failures + 1
            if not self.leaving:
                await self.nap(self._backoff_s())

    async def attend(self, connection: "Connection") -> None:
        """Stay with a connection that the upstream has made to us."""
        try:
            await self._stay_through(connection)
        except Exception as error:  # noqa: BLE001 - our bug; the other connections go on
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self._sessions.changed(f"a fault of ours: {error!r}")
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a session broke by a fault of ours", "exception": error}
        )

    async def _hold_once(self) -> float:
        """Connect, log in and stay as long as it lasts. Returns for how many seconds it was logged in."""
        terms = self._sessions.terms
        host, port = terms.hosts[self._failures % len(terms.hosts)]
        try:
            async with asyncio.timeout(terms.connect_wait_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self, self._sessions),
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
        await self._stay_through(connection)
        return connection.logged_in_for_s(_now_s())

    async def _stay_through(self, connection: "Connection") -> None:
        try:
            await self._stay(connection)
        finally:
            connection.drop()
            self.connection = None
            self._sessions.watch_reading()  # what it had unsettled will be said again elsewhere

    async def _stay(self, connection: "Connection") -> None:
        """Give the connection its time until it is over."""
        while not connection.over:
            if self.leaving:
                await self._part(connection)
                return
            await self.nap(connection.next_tick_s(_now_s()))
            connection.tick()
        await self._see_off(connection)

    async def _part(self, connection: "Connection") -> None:
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

    async def _see_off(self, connection: "Connection") -> None:
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


def _preference(post: Post) -> tuple[bool, bool, int]:
    """The emptiest session; one that sleeps only if no other has room."""
    room = post.room
    return room > 0, not post.asleep, room


_now_s = time.monotonic  # it must not jump when somebody sets the clock
