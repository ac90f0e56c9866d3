"""What every kind with sessions shares: the methods of a channel that its sessions answer for it.

Entry point: SessionKind. A kind adds its Config, a Speech, and cut(); where ids differ between acks and
reports, learned() and dialect_of(); where the upstream answers questions, ask().
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from hongyan.channels.channel import ChannelState, Parcel, Push, Report, SessionState, Sink, Wording
from hongyan.channels.dialects import Dialect
from hongyan.channels.sessions import Sessions
from hongyan.channels.speech import Speech, Terms
from hongyan.channels.trace import Traced


class SessionKind:
    """The base of a kind with sessions (see channel.Channel). It can be traced (see trace.Traceable)."""

    kind: ClassVar[str]
    unit: ClassVar[Literal["message", "part"]] = "part"

    def __init__(self, terms: Terms, speech: Speech, count: int) -> None:
        self._sessions = Sessions(terms, speech, count)
        self._speech = speech

    async def open(self, sink: Sink) -> None:
        await self._sessions.open(sink)

    def resize(self, sessions: int) -> None:
        self._sessions.resize(sessions)

    def takes(self, wording: Wording | None) -> bool:  # noqa: ARG002
        return True

    def room(self) -> int:
        return self._sessions.room()

    def submit(self, parcels: Sequence[Parcel]) -> None:
        self._sessions.submit(parcels)

    def stored(self, slots: Sequence[Any]) -> None:
        self._sessions.stored(slots)

    def learned(self, dialect: str) -> None:
        """Nothing to learn: an id is the same octets in acks and in reports."""

    def dialect_of(self, acked: str, reported: Report) -> str:
        return Dialect.AS_IS.value if acked == reported.upstream_id else ""

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:  # noqa: ARG002
        return None

    def state(self) -> ChannelState:
        return self._told(Dialect.AS_IS)

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:
        raise NotImplementedError(f"{self.kind} reports come over its sessions")

    async def close(self) -> None:
        await self._sessions.close()

    def each_session(self) -> Sequence[SessionState]:
        return self._sessions.each_session()

    def tracing(self, last: int) -> None:
        """Keep the last so many PDUs from now on, over reconnects; 0 keeps no more than trace_pdus."""
        self._sessions.trace.keep(last)

    def trace(self, after: int = 0) -> Sequence[Traced]:
        """Return what was kept beyond the PDU of this number, oldest first, masked."""
        return self._sessions.trace.beyond(after)

    def _told(self, dialect: Dialect) -> ChannelState:
        """The state, with how the upstream writes ids and, if all is up, what a person should know."""
        state = self._sessions.state()
        reason = state.reason or (self._speech.remark if state.sessions_up else "")
        word = "" if dialect is Dialect.AUTO else dialect.value
        return replace(state, reason=reason, dialect=word)
