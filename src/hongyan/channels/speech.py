"""What a kind with sessions brings along: its words (Speech), and how its sessions are kept (Terms).

Pure. sessions.py and connection.py keep to it; kinds implement the first and fill in the second.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hongyan.channels import trace
from hongyan.channels.channel import Declined, Inbound, Outcome, Parcel, Report
from hongyan.wire import session as wire
from hongyan.wire.fields import Pdu


class Duty(StrEnum):
    """What one session is for."""

    BOTH = "both"
    SUBMIT = "submit"
    RECEIVE = "receive"


class Speech(Protocol):
    """What a kind adds to the keeping of sessions: its words. Called for every PDU, so it must be quick."""

    lens: trace.Lens  # what of its PDUs may be shown
    remark: str  # what a person should know about a channel that is up

    @property
    def dialect(self) -> wire.Dialect: ...

    def login(self, duty: Duty) -> Pdu: ...

    def welcomed(self, login: Pdu, response: Pdu) -> str:
        """Hear that we were let in; say why we do not stay, or nothing."""
        ...

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
class Reception:
    """Where the upstream connects to us: there it asks, and we only answer (SGIP)."""

    host: str
    port: int
    limits: wire.Limits
    admit: Callable[[Pdu], tuple[Pdu, bool]]  # its login → our response, and whether it is let in


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
    trace_pdus: int = 0  # kept for a live look from the start
    reception: Reception | None = None
