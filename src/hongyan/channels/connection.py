"""One TCP connection of a channel and its machine: octets in, batches for the sink out.

Entry point: Connection, an asyncio protocol that sessions.py builds. Writes nothing. No Task, Future or log line is made
for a PDU; one data_received is one batch for the sink and one write. Surprise: after each the socket is left alone for
REST_S, as long as half of the window is free; who waits for answers to go on is never left waiting.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from hongyan import clock
from hongyan.channels.channel import Answer, Declined, Inbound, Parcel, Report, Throttled, Unsure
from hongyan.vocab.cause import Cause
from hongyan.wire import session as wire
from hongyan.wire.fields import LocalProtocolError, Pdu

if TYPE_CHECKING:
    from hongyan.channels.sessions import Post, Sessions

REST_S = 0.027  # from one look into the socket to the next, while that holds nobody up: many PDUs then share a commit
TICK_S_MAX = 0.2  # longest sleep of a session's task: how late a timer may be noticed


class Connection(asyncio.Protocol):
    """One TCP connection and its machine; turns bytes into batches for the sink."""

    def __init__(self, post: "Post", sessions: "Sessions", role: wire.Role = wire.Role.CLIENT) -> None:
        self.congested = False  # the socket takes no more for now
        self.lost = False
        self.unsettled = 0  # reports and inbound at the sink and not yet stored
        self._speech = sessions.each()
        self._reception = sessions.terms.reception if role is wire.Role.SERVER else None
        limits = sessions.terms.limits if self._reception is None else self._reception.limits
        self.machine = wire.Session(self._speech.dialect, role, limits, _now_s())
        self._post = post
        self._sessions = sessions
        self._transport: asyncio.Transport
        self._login: Pdu
        self._logged_in_s: float | None = None
        self._quiet_until_s = 0.0
        self._rest: asyncio.TimerHandle | None = None  # until its end, what comes stays in the socket

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in at once; where the upstream connected to us, wait for its login."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as one
        self._post.connection = self
        if not self._sessions.reading:
            self._transport.pause_reading()
        self._sessions.trace.watch(self.machine)
        if self._reception is None:
            self._login = self._speech.login(self._post.duty)
            self.machine.login(self._login, _now_s())
            self.flush()
        elif not self._sessions.called(self._post, self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now_s = _now_s()
        events = self.machine.receive(data, now_s)
        self._meet(events if self._logged_in_s is not None else self._trusted(events), now_s)
        self._begin_rest()

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        self._sessions.changed()

    def eof_received(self) -> bool:
        return False  # the transport closes itself; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._sessions.trace.forget(self.machine)
        text = str(exc) if exc is not None else "closed by the upstream"
        self._meet(self.machine.lost(text), _now_s())
        self._post.wake()

    # between two looks into the socket

    @property
    def _pressed(self) -> bool:
        """Whether half a window is taken, or nobody logged in: then an answer is wanted at once."""
        return 2 * self.machine.open_slots <= self._sessions.terms.limits.window_size

    def _begin_rest(self) -> None:
        free = self._rest is None and self._sessions.reading and not self._transport.is_closing()
        if free and not self._pressed:
            self._transport.pause_reading()
            self._rest = asyncio.get_running_loop().call_later(REST_S, self._end_rest)

    def _end_rest(self) -> None:
        if self._rest is None:
            return
        self._rest.cancel()
        self._rest = None
        if self._sessions.reading and not self.lost and not self._transport.is_closing():
            self._transport.resume_reading()

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
        """Return how long nothing of time's doing is due, at most TICK_S_MAX."""
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
        """Hear the upstream, or leave what it says in the socket."""
        if self.lost or self._transport.is_closing():
            return
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if reading:
            self._quiet_until_s = _now_s() + TICK_S_MAX
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def logout(self) -> None:
        """End in the protocol's own words, where it is ours to say them."""
        if self.machine.state is not wire.State.READY:
            self.drop()
        elif self._reception is None:
            self.machine.logout(_now_s())
            self.flush()
        else:
            self._transport.close()  # only who connected logs out; what we answered still leaves

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
        if self._rest is not None and self._pressed:
            self._end_rest()
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

    def _trusted(self, events: Sequence[wire.Event]) -> Sequence[wire.Event]:
        """Return the events up to a login that we do not want, and then the end: no word of a stranger counts."""
        for place, event in enumerate(events):
            if isinstance(event, wire.LoggedIn) and (why := self._speech.welcomed(self._login, event.pdu)):
                return [*events[:place], *self.machine.lost(why)]
        return events

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
            self._post.heard(answers)
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
                self._post.wake_up()
                self._sessions.changed()
            case wire.LoginRequested(pdu=pdu):
                self._admit(pdu, now_s)
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

    def _admit(self, login: Pdu, now_s: float) -> None:
        assert self._reception is not None
        response, welcome = self._reception.admit(login)
        if welcome:
            self.machine.accept(response, now_s)
            self._sessions.remarked("")
        else:
            self.machine.refuse(response)
            self.flush()
            self._transport.close()
            self._sessions.remarked("a login at our listener was refused: wrong name or password")
        self._post.wake()  # to read what came behind the login, or to end

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
        if self._reception is not None:
            return  # a connection of theirs comes and goes
        if end is wire.End.INACTIVE:
            self._post.fall_asleep()
        # A refused login has told its reason already, in better words.
        self._sessions.changed(None if end in (wire.End.LOGIN_REFUSED, wire.End.INACTIVE) else reason)


_now_s = time.monotonic  # it must not jump when somebody sets the clock
