"""The kind `smpp`: an account at an operator or aggregator that speaks SMPP 3.4, or 5.0 where it is the same.

Specification: SMPP Protocol Specification v3.4, Issue 1.2, https://smpp.org/SMPP_v3_4_Issue1_2.pdf.
Entry point: Smpp. What it says and understands is in smpp_words.py, what codes mean in smpp_codes.py, what
can be set in smpp_config.py, and how its sessions are kept alive in sessions.py.

Surprise: one throttled submit pauses the whole channel, so that the parcels behind it keep their order.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from hongyan.channels import dialects, session_config, smpp_config
from hongyan.channels.channel import ChannelState, Report
from hongyan.channels.dialects import Dialect
from hongyan.channels.session_kind import SessionKind
from hongyan.channels.smpp_config import Bind
from hongyan.channels.smpp_words import Tongue
from hongyan.channels.speech import Duty
from hongyan.vocab import text as texts
from hongyan.vocab.text import Encoding


class Smpp(SessionKind):
    """One SMPP account (see channel.Channel)."""

    kind: ClassVar[str] = "smpp"
    Config: ClassVar[type[Any]] = smpp_config.Config

    def __init__(self, config: smpp_config.Config) -> None:
        self.config = config
        self._tongue = Tongue(config)
        duties = (Duty.BOTH,) if config.bind is Bind.TRANSCEIVER else (Duty.SUBMIT, Duty.RECEIVE)
        super().__init__(session_config.terms(config, duties), self._tongue, config.sessions)

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        """Cut as configured; in UCS-2 where the text would be GSM-7 that this upstream's charset lacks."""
        parts = texts.split(text, counting=counting, mode=self.config.split)
        if parts[0].encoding is Encoding.GSM7 and not self._tongue.can_say(text):
            return texts.split(text, counting=counting, mode=self.config.split, encoding=Encoding.UCS2)
        return parts

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
        return self._told(self._tongue.id_dialect)
