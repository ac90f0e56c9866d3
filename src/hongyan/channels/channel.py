"""What every channel is, whatever protocol it speaks: Parcel in; Ack, Report and Inbound out.

Channels speak, they do not remember: nothing here or in a kind touches the database. What must not
be forgotten is told to the Sink, and the Sink says when it is stored: only then are window slots
freed (`stored`) and reports answered (`stored`), so a crash can double at most one window and lose nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding, TextPart


class Secret:
    """A word that opens something. It prints as *** wherever it ends up; reveal() is for the wire alone."""

    __slots__ = ("_word",)

    def __init__(self, word: str) -> None:
        self._word = word

    def reveal(self) -> str:
        return self._word

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._word == other._word

    def __hash__(self) -> int:
        return hash((Secret, self._word))

    def __repr__(self) -> str:
        return "***"


class Wording(msgspec.Struct, frozen=True, gc=False):
    """What a text was made of, for upstreams that take a template's code and values in place of a text.

    Names are ours; what stands for them at an upstream is filed in its channel's settings.
    """

    template: str  # our template's code
    signature: str  # without its brackets; "" = none
    values: Mapping[str, str]  # by the names of our template's variables


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """One part on its way to one channel. `handle` is the sender's own and comes back unread."""

    handle: Any
    number: str  # E.164 with '+'
    sender: str  # access number + extension, or an alphanumeric sender
    octets: bytes  # encoded text without UDH
    encoding: Encoding
    part_index: int = 1
    part_count: int = 1
    reference: int = 0  # concatenation reference, 0..65535, the same in all parts of a message
    language: int = 0  # shift tables in use (3GPP TS 23.038): locking table * 256 + single table, 0 = default
    validity_s: int = 0  # how long the upstream may still try; 0 = its own default
    wording: Wording | None = None  # None: free text


class Ack(msgspec.Struct, frozen=True, gc=False):
    """Taken. `upstream_id` is canonical for this channel (see dialects), `upstream_raw` as it came."""

    upstream_id: str
    upstream_raw: str = ""


class Declined(msgspec.Struct, frozen=True, gc=False):
    """Final: will not be taken here."""

    code: str
    cause: Cause


class Throttled(msgspec.Struct, frozen=True, gc=False):
    """Not now; the channel pauses and keeps order."""

    retry_after_s: float
    code: str = ""


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """Certainly did not leave; another channel may try."""

    reason: str


class Unsure(msgspec.Struct, frozen=True, gc=False):
    """May have left; the purpose decides what follows."""

    reason: str


Outcome = Ack | Declined | Throttled | Unreachable | Unsure


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What became of one parcel. `slot` belongs to the channel and goes back to it in stored()."""

    parcel: Parcel
    outcome: Outcome
    sent_at_s: float
    at_s: float
    slot: Any = None


class Report(msgspec.Struct, frozen=True, gc=False):
    """What the upstream later says became of a part.

    `candidates` are other canonical forms its id may have while the channel's dialect is not yet
    learned. `final` is False for intermediate states, which are shown but settle nothing.
    `slot` goes back to the channel in stored(), which then answers the upstream.
    """

    upstream_id: str
    status: Status
    cause: Cause
    code: str  # theirs, verbatim
    at_s: float
    candidates: tuple[str, ...] = ()
    number: str = ""  # the handset the report speaks of, E.164 where it could be read
    final: bool = True
    slot: Any = None


class Inbound(msgspec.Struct, frozen=True, gc=False):
    """A text from a person, or one part of it.

    `number` is theirs, `access_number` ours, both as E.164 or digits.
    """

    number: str
    access_number: str
    text: str
    at_s: float
    part_index: int = 1
    part_count: int = 1
    reference: int = 0
    reference_octets: int = 1
    slot: Any = None


class BadPush(ValueError):  # noqa: N818 - a statement about what somebody sent, not a fault of ours
    """A push that cannot be taken; the text says why, without any secret or number.

    `forged`: its signature is not the provider's. Otherwise it cannot be read.
    """

    def __init__(self, reason: str, *, forged: bool = False) -> None:
        super().__init__(reason)
        self.forged = forged


class Push(msgspec.Struct, frozen=True):
    """What one push of an HTTP provider told, and what it wants to hear (status 200) once that is stored."""

    reports: Sequence[Report] = ()
    inbound: Sequence[Inbound] = ()
    answer: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class Link(StrEnum):
    """The state of a channel's way to its upstream, as a person wants to see it."""

    DOWN = "down"  # no session is logged in; back-off runs
    UP = "up"  # at least one session is logged in
    THROTTLED = "throttled"  # logged in, told to slow down
    CLOSED = "closed"  # closed by us


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A moment's picture of a channel for people, metrics and routing."""

    link: Link
    sessions_up: int
    window_used: int
    window_size: int
    reason: str = ""  # why it is not up, in the upstream's or the socket's words
    dialect: str = ""  # how the upstream writes its ids, once learned
    throttled_s: float = 0.0  # for how long it still holds still


class SessionState(msgspec.Struct, frozen=True, gc=False):
    """A moment's picture of one session, for people."""

    slot: int  # its place, from 1
    state: Literal["up", "asleep", "logging_in", "down", "leaving"]
    duty: str  # what it is for: both, submit, receive
    window_used: int
    window_size: int
    up_s: float  # for how long it has been logged in
    answered: int = 0  # submits since its place was opened, over all its connections
    not_taken: int = 0  # of them: declined, throttled
    waited_s: float = 0.0  # for all those answers together


class Attended(Protocol):
    """A channel that can tell how each of its sessions fares."""

    def each_session(self) -> Sequence[SessionState]: ...


class Sink(Protocol):
    """Where a channel tells what happened: called from the event loop, must not block or raise."""

    def answered(self, answers: Sequence[Answer]) -> None: ...
    def reported(self, reports: Sequence[Report]) -> None: ...
    def arrived(self, inbound: Sequence[Inbound]) -> None: ...
    def changed(self, state: ChannelState) -> None: ...


class Channel(Protocol):
    """One configured account at one upstream. Built by kinds.build() from its Config."""

    kind: ClassVar[str]
    unit: ClassVar[Literal["message", "part"]]
    Config: ClassVar[type[Any]]  # frozen dataclass; forms and checks are drawn from it

    async def open(self, sink: Sink) -> None:
        """Start keeping sessions alive until close(); returns at once, the link comes up by itself."""
        ...

    def resize(self, sessions: int) -> None:
        """Hold this many sessions from now on: processes share an account's sessions by leases."""
        ...

    def cut(self, text: str, counting: Counting) -> Sequence[TextPart]:
        """Cut a text into the parts this channel would send; none where it can never carry it."""
        ...

    def takes(self, wording: Wording | None) -> bool:
        """Say whether a text made so can be carried: providers of templates take only what is filed with them."""
        ...

    def room(self) -> int:
        """Return how many parcels may be submitted now without exceeding a window."""
        ...

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Take at most room() parcels; each gets exactly one Answer at the sink."""
        ...

    def stored(self, slots: Sequence[Any]) -> None:
        """Hear that what came with these slots is committed: free windows, answer reports and inbound."""
        ...

    def learned(self, dialect: str) -> None:
        """Take over how the upstream writes ids, learned earlier or by another process."""
        ...

    def dialect_of(self, acked: str, reported: Report) -> str:
        """Name the dialect under which this acked id and this report's id are one."""
        ...

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:
        """Ask the operator what became of a part; None where it cannot be asked or does not know."""
        ...

    def state(self) -> ChannelState: ...

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:
        """Read an HTTP provider's push; works on a channel that was built and never opened.

        `headers` by lower-case name; `body` is the query string where the push is a GET. Raises BadPush.
        Kinds with sessions, and kinds nobody pushes to, raise NotImplementedError.
        """
        ...

    async def close(self) -> None:
        """Stop taking parcels, wait for answers up to the configured deadline, unbind, free sockets."""
        ...
