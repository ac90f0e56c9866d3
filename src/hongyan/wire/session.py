"""One logged-in connection as a pure machine: login, window, heartbeat, timers; client or server.

It has no socket and no clock. The owner hands it what came (receive), asks it to speak (send, answer), writes
what take() returns, and calls tick() at next_deadline_s at the latest. What the owner must know comes back as
a list of events, in order. Every protocol plugs in through a Dialect.

A login decides more than who speaks. What a server hears behind a login waits until the owner has said
accept() or refuse(), because the account may say which layout the octets have; a client learns the layout
from the login response itself (Dialect.after_login). Either way the next frame is read in the new dialect.

Surprising: a window slot is not freed by the response but by release(): the owner calls it when the ack is
committed, so what may have left unheard is never more than one window. After Closed nothing more happens;
the owner writes what take() still holds and closes the connection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from math import inf

from msgspec import Struct

from hongyan.wire.fields import PDU_OCTETS_MAX, Framer, LocalProtocolError, Pdu, RemoteProtocolError


class Turn(Enum):
    """What a PDU is in the conversation."""

    LOGIN = auto()
    LOGIN_RESPONSE = auto()
    REQUEST = auto()  # the owner answers it
    RESPONSE = auto()
    NOTICE = auto()  # the owner hears of it, nobody answers
    INVITATION = auto()  # a server that dialled asks the client to log in; nobody answers
    HEARTBEAT = auto()  # whatever it may be meant to answer: it is answered, and never by a heartbeat
    HEARTBEAT_RESPONSE = auto()
    LOGOUT = auto()
    LOGOUT_RESPONSE = auto()
    UNKNOWN = auto()  # neither side of us knows it; the dialect decides whether that is answered


class Answer(Enum):
    """What the machine itself answers to a request; the dialect puts it in the protocol's words."""

    OK = auto()  # to a heartbeat, to a logout
    NOT_LOGGED_IN = auto()  # before login, or not with this kind of login
    ALREADY_LOGGED_IN = auto()
    BUSY = auto()  # too many of its requests wait for our owner's answer
    UNKNOWN = auto()


class Role(StrEnum):
    CLIENT = "client"
    SERVER = "server"


class State(StrEnum):
    OPEN = "open"  # connected, no login yet
    LOGGING_IN = "logging in"  # the login has been asked for and is not yet answered
    READY = "ready"
    LOGGING_OUT = "logging out"  # we asked to end; responses still arrive
    CLOSED = "closed"


TALKING = (State.READY, State.LOGGING_OUT)  # requests are answered


class End(StrEnum):
    """Why a session is over."""

    LOGGED_OUT = "logged out"  # we asked, they agreed or stayed silent
    PEER_LOGGED_OUT = "peer logged out"
    LOGIN_REFUSED = "login refused"
    LOGIN_TOO_LATE = "login too late"  # not logged in within login_wait_s
    DEAD = "dead"  # heartbeats unanswered; requests, where there are no heartbeats
    INACTIVE = "inactive"  # nothing but heartbeats for inactivity_s
    BROKEN = "broken"  # the stream is lost: an impossible length
    IMPATIENT = "impatient"  # more than held_octets_max behind a login that has no answer yet
    NOT_READING = "not reading"  # they ask and do not take our answers
    LOST = "lost"  # the owner says that the connection is gone


@dataclass(frozen=True, slots=True)
class Dialect:
    """A protocol, as the session machine sees it.

    allows and may_push look at what a client logged in with (or, for its login, at the invitation), and only
    the server keeps to them: a client asks what it is told to, and takes what it is given.
    """

    name: str
    header_octets: int
    sequence_number_max: int
    decode: Callable[[bytes], Pdu]  # raises RemoteProtocolError for a PDU that cannot be read
    encode: Callable[[Pdu, int | None], bytes]  # None: under the PDU's own number
    turns: Mapping[type[Pdu], Turn]
    heartbeat: Pdu | None  # None: silence alone is no sign of death, and the opener alone logs out (SGIP)
    logout: Pdu
    welcomes: Callable[[Pdu], bool]  # is this login response an acceptance?
    answer: Callable[[Pdu, Answer], Pdu | None]
    answer_unreadable: Callable[[bytes, RemoteProtocolError], Pdu | None]  # b"": not even a frame
    allows: Callable[[Pdu, Pdu], bool]  # may who logged in with the first PDU ask the server the second?
    may_push: Callable[[Pdu, Pdu], bool] | None = None  # may the server ask it? None: anything
    after_login: Callable[[Pdu], "Dialect"] | None = None  # client: from this login response on; None: as is


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may hold and how long it waits.

    A bound in octets is looked at after each PDU, so it is overrun by one PDU at most; held_octets_max by
    what one receive() brings.
    """

    window_size: int = 16  # our requests without release(); CMPP and SMGP say 16, SGIP 32, SMPP by contract
    owed_max: int = 4096  # their requests that we have not answered; further ones are answered BUSY
    output_octets_max: int = 4 << 20  # written and not taken; beyond it send() refuses, a peer that asks goes
    pdu_octets_max: int = PDU_OCTETS_MAX  # a longer PDU means that the stream is lost; SGIP says 2 KiB
    held_octets_max: int = 1 << 16  # server: heard behind a login that the owner has not answered
    login_wait_s: float = 10.0  # from the connection, or the client's login, to the end of the login
    ack_wait_s: float = 60.0  # for a response; CMPP and SMGP say 60, SGIP 30
    heartbeat_s: float = 30.0  # of silence; NAT forgets a connection after some 4 minutes
    heartbeat_wait_s: float | None = (
        None  # from a heartbeat without a sign of life to the next; None: heartbeat_s
    )
    # Heartbeats without a sign of life; the next one due ends the session. Where there are none (SGIP), so many
    # requests end it that waited ack_wait_s for an answer, with no sign of life in all that time.
    heartbeat_misses_max: int = 3
    inactivity_s: float | None = None  # nothing but heartbeats either way; SGIP says 60, None is for ever


# ── events ───────────────────────────────────────────────────────────────────────────────────────────


class LoginRequested(Struct, frozen=True, gc=False):
    """Server: the peer wants in; the owner calls accept() or refuse()."""

    pdu: Pdu


class LoggedIn(Struct, frozen=True, gc=False):
    """Client: the peer let us in."""

    pdu: Pdu


class LoginRefused(Struct, frozen=True, gc=False):
    """Client: the peer did not; Closed follows."""

    pdu: Pdu


class Received(Struct, frozen=True, gc=False):
    """A request that the owner owes an answer(), or a notice or an invitation, which have none."""

    pdu: Pdu


class Answered(Struct, frozen=True):
    """The response to one of our requests. about: what the owner gave to send(). The slot stays taken."""

    sequence_number: int
    about: object
    pdu: Pdu
    waited_s: float


class Unanswered(Struct, frozen=True):
    """No response within ack_wait_s; a later one is a Stray. The slot stays taken."""

    sequence_number: int
    about: object


class Stray(Struct, frozen=True, gc=False):
    """A response nobody waits for (late, doubled, unasked), an unknown PDU, or a notice out of place."""

    pdu: Pdu


class Unreadable(Struct, frozen=True, gc=False):
    """A PDU of sound length that cannot be read; answered if it was a request. The session goes on.

    frame may hold numbers and texts: not for a log.
    """

    text: str
    frame: bytes


class Closed(Struct, frozen=True):
    """The session is over. unanswered: (sequence_number, about) of requests whose fate is unknown."""

    end: End
    text: str
    unanswered: tuple[tuple[int, object], ...] = ()


Event = (
    LoginRequested | LoggedIn | LoginRefused | Received | Answered | Unanswered | Stray | Unreadable | Closed
)


# ── the machine ──────────────────────────────────────────────────────────────────────────────────────


class Session:
    """One connection, from the moment it stands."""

    def __init__(self, dialect: Dialect, role: Role, limits: Limits, now_s: float) -> None:
        self.state = State.OPEN
        self.dialect = dialect  # what is spoken now; a login may change it
        self.peer_login: Pdu | None = None  # server: what the peer logged in with
        self.role = role
        self._limits = limits
        self._framer = Framer(dialect.header_octets, limits.pdu_octets_max)
        self._held: list[bytes] = []  # server: frames behind a login that the owner has not answered
        self._invitation: Pdu | None = None  # sent or heard before the login
        self._output: list[bytes] = []
        self._output_octets = 0
        self._sequence_number = 0
        self._login_number = 0
        self._taken = 0  # window slots
        self._owed = 0  # their requests without our answer
        self._waiting: dict[int, tuple[object, float]] = {}  # number → about, sent at; oldest first
        self._opened_s = now_s
        self._heard_s = now_s
        self._beat_s = now_s
        self._misses = 0
        self._active_s = now_s  # the last PDU that was more than a heartbeat, either way
        self._logout_s = now_s

    @property
    def open_slots(self) -> int:
        """How many requests send() would take now."""
        return self._limits.window_size - self._taken if self.state is State.READY else 0

    @property
    def unanswered(self) -> tuple[tuple[int, object], ...]:
        """(sequence_number, about) of our requests that have no response yet, oldest first."""
        return tuple((number, about) for number, (about, _) in self._waiting.items())

    # what the owner says

    def login(self, pdu: Pdu, now_s: float) -> None:
        """Client: ask to be let in. Right after connecting, or after an invitation."""
        if self.state is not State.OPEN or self.role is not Role.CLIENT:
            raise LocalProtocolError(f"no login from a {self.role} that is {self.state}")
        if not self._answers_invitation(pdu):
            raise LocalProtocolError(f"{type(pdu).__name__} is no answer to the invitation")
        self._login_number = self._next_number()
        self._write(pdu, self._login_number)
        self.state = State.LOGGING_IN
        self._opened_s = self._active_s = now_s

    def invite(self, pdu: Pdu, now_s: float) -> None:
        """Server that dialled: ask the client to log in (SMPP outbind); it has login_wait_s from now."""
        if self.state is not State.OPEN or self.role is not Role.SERVER:
            raise LocalProtocolError(f"no invitation from a {self.role} that is {self.state}")
        self._must_be(pdu, Turn.INVITATION)
        self._write(pdu, self._next_number())
        self._invitation = pdu
        self._opened_s = self._active_s = now_s

    def accept(self, response: Pdu, now_s: float, dialect: Dialect | None = None) -> None:
        """Server: let the peer in; response carries the sequence number of the login.

        dialect: what the account speaks, from the response on; None is what was spoken so far. What came
        behind the login is read by the next tick(), which is due at once, or by the next receive().
        """
        self._answer_login(response, dialect)
        self.state = State.READY
        self._active_s = now_s

    def refuse(self, response: Pdu, dialect: Dialect | None = None) -> None:
        """Server: do not let the peer in. The session is over; write take() and close."""
        self._answer_login(response, dialect)
        self.state = State.CLOSED
        self._held.clear()

    def send(self, pdu: Pdu, now_s: float, about: object = None) -> int:
        """Send a request, taking a slot until release(). Returns its sequence number.

        Raises LocalProtocolError when not logged in, or not for this; when no slot is open; or when pdu
        cannot be written.
        """
        self._must_send(pdu, Turn.REQUEST)
        if self._taken >= self._limits.window_size:
            raise LocalProtocolError("no slot is open")
        number = self._next_number()
        self._write(pdu, number)
        self._waiting[number] = (about, now_s)
        self._taken += 1
        self._active_s = now_s
        return number

    def tell(self, pdu: Pdu, now_s: float) -> None:
        """Send a notice: nobody answers it, and it takes no slot. Raises as send() does."""
        self._must_send(pdu, Turn.NOTICE)
        self._write(pdu, self._next_number())
        self._active_s = now_s

    def release(self, count: int = 1) -> None:
        """Free slots: their acks (or the end of the wait for them) are committed."""
        if not 0 <= count <= self._taken:
            raise LocalProtocolError(f"{count} slots freed of {self._taken} taken")
        self._taken -= count

    def answer(self, pdu: Pdu, now_s: float) -> None:
        """Answer a request of theirs; pdu carries its sequence number."""
        if self.state not in TALKING:
            raise LocalProtocolError(f"no answer while {self.state}")
        self._write(pdu, None)
        self._owed = max(0, self._owed - 1)
        self._active_s = now_s

    def logout(self, now_s: float) -> None:
        """Ask to end; Closed comes with their answer, or after ack_wait_s without one."""
        if self.state is not State.READY:
            raise LocalProtocolError(f"no logout while {self.state}")
        self._write(self.dialect.logout, self._next_number())
        self.state = State.LOGGING_OUT
        self._logout_s = now_s

    def lost(self, text: str = "") -> list[Event]:
        """Say that the connection is gone."""
        events: list[Event] = []
        if self.state is not State.CLOSED:
            self._close(End.LOST, text, events)
        return events

    def take(self) -> bytes:
        """Return all that is to be written now, in one piece."""
        octets = b"".join(self._output)
        self._output.clear()
        self._output_octets = 0
        return octets

    # what the peer says

    def receive(self, octets: bytes, now_s: float) -> list[Event]:
        """Take what came from the peer, however it is cut, and return all that it meant."""
        events: list[Event] = []
        if self.state is State.CLOSED or not octets:
            return events
        self._heard_s = now_s
        self._misses = 0  # any traffic is a sign of life
        frames = self._framer.feed(octets)
        if self._is_undecided():
            self._held += frames
            if sum(map(len, self._held)) > self._limits.held_octets_max:
                self._close(End.IMPATIENT, "without waiting for the answer to its login", events)
            return events
        if self._held:
            frames = self._held + frames
        self._read(frames, now_s, events)
        return events

    def _read(self, frames: list[bytes], now_s: float, events: list[Event]) -> None:
        self._held = []
        dialect = self.dialect
        decode, turns = dialect.decode, dialect.turns
        for place, frame in enumerate(frames, 1):
            try:
                pdu = decode(frame)
            except RemoteProtocolError as error:
                self._reply(dialect.answer_unreadable(frame, error))
                events.append(Unreadable(str(error), frame))
                continue
            self._meet(turns[type(pdu)], pdu, now_s, events)
            if self.state is not State.READY and self._stops():
                self._held = frames[place:] if self._is_undecided() else []
                return
            if self.dialect is not dialect:
                dialect = self.dialect
                decode, turns = dialect.decode, dialect.turns
        if self._framer.broken is not None:
            self._reply(dialect.answer_unreadable(b"", self._framer.broken))
            self._close(End.BROKEN, str(self._framer.broken), events)
        elif self._is_full():
            self._close(End.NOT_READING, f"{self._output_octets} octets wait", events)

    def _meet(self, turn: Turn, pdu: Pdu, now_s: float, events: list[Event]) -> None:
        match turn:
            case Turn.RESPONSE:
                self._meet_response(pdu, now_s, events)
            case Turn.REQUEST:
                self._meet_request(pdu, now_s, events)
            case Turn.NOTICE | Turn.INVITATION:
                self._meet_notice(turn, pdu, events)
            case Turn.LOGIN:
                self._meet_login(pdu, events)
            case Turn.LOGIN_RESPONSE:
                self._meet_login_response(pdu, now_s, events)
            case Turn.UNKNOWN:
                self._reply(self.dialect.answer(pdu, Answer.UNKNOWN))
                events.append(Stray(pdu))
            case _:
                self._meet_upkeep(turn, pdu, events)

    def _meet_upkeep(self, turn: Turn, pdu: Pdu, events: list[Event]) -> None:
        """Heartbeats and logouts. Of an answered heartbeat receive() has noted the sign of life already."""
        if turn is Turn.HEARTBEAT:
            self._reply(self.dialect.answer(pdu, Answer.OK))
        elif turn is Turn.LOGOUT:
            self._reply(self.dialect.answer(pdu, Answer.OK))
            self._close(End.PEER_LOGGED_OUT, "", events)
        elif turn is Turn.LOGOUT_RESPONSE and self.state is State.LOGGING_OUT:
            self._close(End.LOGGED_OUT, "", events)
        elif turn is Turn.LOGOUT_RESPONSE:
            events.append(Stray(pdu))

    def _meet_response(self, pdu: Pdu, now_s: float, events: list[Event]) -> None:
        waiting = self._waiting.pop(pdu.sequence_number, None)
        if waiting is not None:
            about, sent_s = waiting
            self._active_s = now_s
            events.append(Answered(pdu.sequence_number, about, pdu, now_s - sent_s))
        elif (
            self.state is State.LOGGING_IN
            and self.role is Role.CLIENT
            and pdu.sequence_number == self._login_number
        ):
            self._meet_refusal(pdu, events)  # a nack of our login
        else:
            events.append(Stray(pdu))

    def _meet_request(self, pdu: Pdu, now_s: float, events: list[Event]) -> None:
        if self.state not in TALKING or not self._allows(pdu):
            self._reply(self.dialect.answer(pdu, Answer.NOT_LOGGED_IN))
        elif self._owed >= self._limits.owed_max:
            self._reply(self.dialect.answer(pdu, Answer.BUSY))
        else:
            self._owed += 1
            self._active_s = now_s
            events.append(Received(pdu))

    def _allows(self, pdu: Pdu) -> bool:
        # A client takes what it is given: centres deliver on transmitter logins too (go-smpp#87).
        return self.peer_login is None or self.dialect.allows(self.peer_login, pdu)

    def _meet_notice(self, turn: Turn, pdu: Pdu, events: list[Event]) -> None:
        if turn is Turn.INVITATION:
            in_place = self.role is Role.CLIENT and self.state is State.OPEN
            self._invitation = pdu if in_place else self._invitation
        else:
            in_place = self.role is Role.CLIENT or (self.peer_login is not None and self._allows(pdu))
        events.append(Received(pdu) if in_place else Stray(pdu))

    def _meet_login(self, pdu: Pdu, events: list[Event]) -> None:
        if self.role is not Role.SERVER or self.state is not State.OPEN:
            self._reply(self.dialect.answer(pdu, Answer.ALREADY_LOGGED_IN))
        elif not self._answers_invitation(pdu):
            self._reply(self.dialect.answer(pdu, Answer.NOT_LOGGED_IN))
        else:
            self.state = State.LOGGING_IN
            self.peer_login = pdu
            events.append(LoginRequested(pdu))

    def _meet_login_response(self, pdu: Pdu, now_s: float, events: list[Event]) -> None:
        if self.role is not Role.CLIENT or self.state is not State.LOGGING_IN:
            events.append(Stray(pdu))
        elif self.dialect.welcomes(pdu):
            if self.dialect.after_login is not None:
                self.dialect = self.dialect.after_login(pdu)
            self.state = State.READY
            self._active_s = now_s
            events.append(LoggedIn(pdu))
        else:
            self._meet_refusal(pdu, events)

    def _meet_refusal(self, pdu: Pdu, events: list[Event]) -> None:
        events.append(LoginRefused(pdu))
        self._close(End.LOGIN_REFUSED, "", events)

    # what time says

    @property
    def next_deadline_s(self) -> float | None:
        """When tick() must be called at the latest; inf while nothing will be due; None once closed."""
        return None if self.state is State.CLOSED else min(self._deadlines(), default=inf)

    def _deadlines(self) -> list[float]:
        limits = self._limits
        if self.state in (State.OPEN, State.LOGGING_IN):
            return [self._opened_s + limits.login_wait_s]
        deadlines = [] if self.dialect.heartbeat is None else [self._next_beat_s()]
        if self._is_behind():
            deadlines.append(self._heard_s)
        if self._waiting:
            deadlines.append(next(iter(self._waiting.values()))[1] + limits.ack_wait_s)
        if self.state is State.LOGGING_OUT:
            deadlines.append(self._logout_s + limits.ack_wait_s)
        elif limits.inactivity_s is not None:
            deadlines.append(self._active_s + limits.inactivity_s)
        return deadlines

    def tick(self, now_s: float) -> list[Event]:
        """Do what is due by now_s."""
        events: list[Event] = []
        limits = self._limits
        if self.state is State.CLOSED:
            return events
        if self.state in (State.OPEN, State.LOGGING_IN):
            if now_s >= self._opened_s + limits.login_wait_s:
                self._close(End.LOGIN_TOO_LATE, f"not within {limits.login_wait_s} s", events)
            return events
        if self._is_behind():
            self._read(self._held, now_s, events)
        self._give_up_waiting(now_s, events)
        if self._is_over():
            return events
        if self.state is State.LOGGING_OUT and now_s >= self._logout_s + limits.ack_wait_s:
            self._close(End.LOGGED_OUT, "they did not answer", events)
        elif self._is_inactive(now_s):
            if self.dialect.heartbeat is not None or self.role is Role.CLIENT:
                self._reply(self.dialect.logout, self._next_number())
            self._close(End.INACTIVE, f"for {limits.inactivity_s} s", events)
        elif self.dialect.heartbeat is not None and now_s >= self._next_beat_s():
            self._beat(self.dialect.heartbeat, now_s, events)
        return events

    def _give_up_waiting(self, now_s: float, events: list[Event]) -> None:
        sent_before_s = now_s - self._limits.ack_wait_s
        overdue = []
        for number, (about, sent_s) in self._waiting.items():
            if sent_s > sent_before_s:
                break
            overdue.append(number)
            events.append(Unanswered(number, about))
            if self.dialect.heartbeat is None and sent_s >= self._heard_s:
                self._misses += 1
        for number in overdue:
            del self._waiting[number]
        if overdue and self.dialect.heartbeat is None and self._misses >= self._limits.heartbeat_misses_max:
            self._close(End.DEAD, f"{self._misses} requests unanswered", events)

    def _is_inactive(self, now_s: float) -> bool:
        inactivity_s = self._limits.inactivity_s
        return (
            self.state is State.READY and inactivity_s is not None and now_s >= self._active_s + inactivity_s
        )

    def _next_beat_s(self) -> float:
        limits = self._limits
        if self._misses and limits.heartbeat_wait_s is not None:
            return self._beat_s + limits.heartbeat_wait_s
        return max(self._heard_s, self._beat_s) + limits.heartbeat_s

    def _beat(self, heartbeat: Pdu, now_s: float, events: list[Event]) -> None:
        if self._misses >= self._limits.heartbeat_misses_max:
            self._close(End.DEAD, f"{self._misses} heartbeats unanswered", events)
        elif self._is_full():
            self._close(End.NOT_READING, f"{self._output_octets} octets wait", events)
        else:
            self._write(heartbeat, self._next_number())
            self._misses += 1
            self._beat_s = now_s

    # parts

    def _is_over(self) -> bool:
        return self.state is State.CLOSED

    def _is_undecided(self) -> bool:
        """Server: the peer has asked to be let in, and the owner has not answered."""
        return self.state is State.LOGGING_IN and self.role is Role.SERVER

    def _stops(self) -> bool:
        """No further frame may be read for now, or ever."""
        return self.state is State.CLOSED or self._is_undecided()

    def _is_behind(self) -> bool:
        """What came behind the login waits to be read: frames, or the news that the stream is lost."""
        return bool(self._held) or self._framer.broken is not None

    def _answers_invitation(self, login: Pdu) -> bool:
        return self._invitation is None or self.dialect.allows(self._invitation, login)

    def _answer_login(self, response: Pdu, dialect: Dialect | None) -> None:
        if not self._is_undecided():
            raise LocalProtocolError(f"no login to answer while {self.state}")
        if dialect is not None:
            if dialect.header_octets != self.dialect.header_octets:
                raise LocalProtocolError(f"{dialect.name} is no layout of {self.dialect.name}")
            self.dialect = dialect
        self._write(response, None)

    def _must_send(self, pdu: Pdu, turn: Turn) -> None:
        if self.state is not State.READY:
            raise LocalProtocolError(f"no {turn.name.lower()} while {self.state}")
        self._must_be(pdu, turn)
        may_push = self.dialect.may_push
        if self.peer_login is not None and may_push is not None and not may_push(self.peer_login, pdu):
            raise LocalProtocolError(f"no {type(pdu).__name__} to who logged in like this")

    def _must_be(self, pdu: Pdu, turn: Turn) -> None:
        if self.dialect.turns.get(type(pdu)) is not turn:
            raise LocalProtocolError(f"{type(pdu).__name__} is no {turn.name.lower()} of {self.dialect.name}")

    def _next_number(self) -> int:
        """Count from 1, over to 1 behind the last; numbers that still wait for a response are passed over."""
        while True:
            self._sequence_number = self._sequence_number % self.dialect.sequence_number_max + 1
            if self._sequence_number not in self._waiting:
                return self._sequence_number

    def _write(self, pdu: Pdu, number: int | None) -> None:
        if self._is_full():
            raise LocalProtocolError("the output is full; take() it first")
        octets = self.dialect.encode(pdu, number)
        self._output.append(octets)
        self._output_octets += len(octets)

    def _reply(self, pdu: Pdu | None, number: int | None = None) -> None:
        """Speak by ourselves if there is room; a session whose peer lets such answers pile up is closed."""
        if pdu is not None and not self._is_full():
            self._write(pdu, number)

    def _is_full(self) -> bool:
        return self._output_octets > self._limits.output_octets_max

    def _close(self, end: End, text: str, events: list[Event]) -> None:
        self.state = State.CLOSED
        self._held.clear()
        events.append(Closed(end, text, self.unanswered))
        self._waiting.clear()
