"""The kind `smpp`: an account at an operator or aggregator that speaks SMPP 3.4, or 5.0 where it is the same.

Specification: SMPP Protocol Specification v3.4, Issue 1.2, https://smpp.org/SMPP_v3_4_Issue1_2.pdf.
Entry point: Smpp. What it says and understands is in smpp_words.py, what codes mean in smpp_codes.py, what
can be set in smpp_config.py, and how its sessions are kept alive in sessions.py.

Surprise: one throttled submit pauses the whole channel, so that the parcels behind it keep their order.
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from hongyan.channels import dialects, sessions, smpp_config
from hongyan.channels.channel import ChannelState, Parcel, Report, Sink
from hongyan.channels.dialects import Dialect
from hongyan.channels.sessions import Duty
from hongyan.channels.smpp_config import Bind
from hongyan.channels.smpp_words import Tongue
from hongyan.vocab import text as texts
from hongyan.vocab.text import Encoding
from hongyan.wire import session as wire

OWED_SPARE = 65_536  # requests the machine may hold above unsettled_max: more than one read brings
HEARTBEAT_MISSES_MAX = 3  # of our enquire_links in a row, then the session is dead


class Smpp:
    """One SMPP account (see channel.Channel)."""

    kind: ClassVar[str] = "smpp"
    unit: ClassVar[Literal["message", "part"]] = "part"
    Config: ClassVar[type[Any]] = smpp_config.Config

    def __init__(self, config: smpp_config.Config) -> None:
        self.config = config
        self._tongue = Tongue(config)
        self._sessions = sessions.Sessions(_terms(config), self._tongue, config.sessions)

    async def open(self, sink: Sink) -> None:
        await self._sessions.open(sink)

    def resize(self, sessions: int) -> None:
        self._sessions.resize(sessions)

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        """Cut as configured; in UCS-2 where the text would be GSM-7 that this upstream's charset lacks."""
        parts = texts.split(text, counting=counting, mode=self.config.split)
        if parts[0].encoding is Encoding.GSM7 and not self._tongue.can_say(text):
            return texts.split(text, counting=counting, mode=self.config.split, encoding=Encoding.UCS2)
        return parts

    def room(self) -> int:
        return self._sessions.room()

    def submit(self, parcels: Sequence[Parcel]) -> None:
        self._sessions.submit(parcels)

    def stored(self, slots: Sequence[Any]) -> None:
        self._sessions.stored(slots)

    def learned(self, dialect: str) -> None:
        """Take over a word of dialects.Dialect; a configured one stands above what was learned."""
        if self.config.id_dialect is Dialect.AUTO and dialect in set(Dialect):
            self._tongue.id_dialect = Dialect(dialect)

    def dialect_of(self, acked: str, reported: Report) -> str:
        """Name the dialect under which both ids are one; "" if there is none, or it is not certain."""
        if self._tongue.id_dialect is not Dialect.AUTO:  # the id came translated already
            return self._tongue.id_dialect.value if acked == reported.upstream_id else ""
        return dialects.between(acked, reported.upstream_id) or ""

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:
        """Ask by query_sm [P34 4.8], for at most ack_wait_s."""
        pdu = self._tongue.query(upstream_raw, sender)
        if pdu is None:
            return None
        answer = await self._sessions.request(pdu, self.config.ack_wait_s)
        return self._tongue.read_query(answer, upstream_raw, number) if answer is not None else None

    def state(self) -> ChannelState:
        state = self._sessions.state()
        dialect = self._tongue.id_dialect
        reason = state.reason or (self._tongue.remark if state.sessions_up else "")
        word = "" if dialect is Dialect.AUTO else dialect.value
        return ChannelState(state.link, state.sessions_up, state.window_used, state.window_size, reason, word)

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Sequence[Report]:
        raise NotImplementedError("SMPP reports come over its sessions")

    async def close(self) -> None:
        await self._sessions.close()


def _terms(config: smpp_config.Config) -> sessions.Terms:
    return sessions.Terms(
        hosts=tuple(_host(written, config.port) for written in config.hosts),
        limits=wire.Limits(
            window_size=config.window_size,
            owed_max=config.unsettled_max + OWED_SPARE,
            login_wait_s=config.login_wait_s,
            ack_wait_s=config.ack_wait_s,
            heartbeat_s=config.heartbeat_s,
            heartbeat_misses_max=HEARTBEAT_MISSES_MAX,
        ),
        duties=(Duty.BOTH,) if config.bind is Bind.TRANSCEIVER else (Duty.SUBMIT, Duty.RECEIVE),
        tls=_tls(config) if config.tls else None,
        tls_name=config.tls_name or None,
        connect_wait_s=config.connect_wait_s,
        close_wait_s=config.close_wait_s,
        backoff_s=config.backoff_s,
        backoff_s_max=config.backoff_s_max,
        throttle_pause_s=config.throttle_pause_s,
        throttle_pause_s_max=config.throttle_pause_s_max,
        unsettled_max=config.unsettled_max,
    )


def _host(written: str, port: int) -> tuple[str, int]:
    """Read host, host:port, v6 or [v6]:port. Raises ValueError for a port that is none."""
    if written.startswith("["):
        host, _, rest = written[1:].partition("]")
        rest = rest.removeprefix(":")
    else:
        host, _, rest = written.partition(":") if written.count(":") == 1 else (written, "", "")
    if rest and not (rest.isdecimal() and 0 < int(rest) < 65_536):
        raise ValueError(f"no port in {written}")
    return host, int(rest) if rest else port


def _tls(config: smpp_config.Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.tls_ca_file or None)
    if not config.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
