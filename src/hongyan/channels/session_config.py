"""What is set for every account that is spoken to over sessions, whatever its protocol.

Entry points: SessionSettings, which the Config of a kind extends with what is its own, and whose defaults it
may set anew; terms(), which turns them into how sessions are kept. Descriptions are on the fields, because
forms are drawn from them.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from hongyan.channels.codes import Verdict
from hongyan.channels.numbers import NumberForm
from hongyan.channels.speech import Duty, Terms
from hongyan.vocab.cause import Cause
from hongyan.wire import session as wire

OWED_SPARE = 65_536  # requests the machine may hold above unsettled_max: more than one read brings
TRACE_PDUS_MAX = 10_000

Octet = Annotated[int, Meta(ge=0, le=255)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Port = Annotated[int, Meta(ge=1, le=65_535, description="TCP port of hosts without one")]
WindowSize = Annotated[
    int,
    Meta(
        ge=1,
        le=1000,
        description="unanswered or unstored submits per session; doubles after a crash at most",
    ),
]
CountryCode = Annotated[
    str,
    Meta(pattern="^[0-9]{0,3}$", description="calling code of national numbers, both directions; e.g. 86"),
]
HowNumbers = Annotated[NumberForm, Meta(description="how numbers are written to the upstream")]
AckWait = Annotated[Seconds, Meta(description="until a submit is answered; after it the part is unsure")]
Heartbeat = Annotated[
    Seconds, Meta(description="silence before a heartbeat; NATs forget a connection after some 4 minutes")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What every account with sessions has. A kind sets `port`, and defaults its standard names otherwise."""

    hosts: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            min_length=1,
            description="host, host:port or [v6]:port; the first is tried first, the rest stand by",
        ),
    ]
    port: Port
    sessions: Annotated[
        int, Meta(ge=0, le=64, description="sessions this process holds; resize() changes it")
    ] = 1
    window_size: WindowSize = 16
    number_form: HowNumbers = NumberForm.DIGITS
    country_code: CountryCode = ""
    connect_wait_s: Annotated[Seconds, Meta(description="until TCP and TLS stand")] = 10.0
    login_wait_s: Annotated[Seconds, Meta(description="until the login is answered")] = 10.0
    ack_wait_s: AckWait = 60.0
    heartbeat_s: Heartbeat = 30.0
    heartbeat_wait_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="from one without an answer to the next; 0 = heartbeat_s"),
    ] = 0.0
    heartbeat_misses_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="heartbeats (SGIP: submits) in a row without a sign of life, then it is dead",
        ),
    ] = 3
    close_wait_s: Annotated[Seconds, Meta(description="for answers and stores still due when we close")] = (
        10.0
    )
    backoff_s: Annotated[
        Seconds, Meta(description="first wait before a new connection; doubles, with jitter")
    ] = 1.0
    backoff_s_max: Annotated[Seconds, Meta(description="longest wait before a new connection")] = 30.0
    throttle_pause_s: Annotated[
        Seconds,
        Meta(
            description="first pause after throttling; doubles when the next one follows, shrinks by itself"
        ),
    ] = 1.0
    throttle_pause_s_max: Annotated[Seconds, Meta(description="longest pause after throttling")] = 30.0
    unsettled_max: Annotated[
        int,
        Meta(ge=1, le=100_000, description="reports and inbound not yet stored, above which we stop reading"),
    ] = 5_000
    tls: Annotated[bool, Meta(description="TLS before the login")] = False
    tls_ca_file: Annotated[str, Meta(description="CA certificates in PEM; empty = those of the system")] = ""
    tls_name: Annotated[str, Meta(description="name in the certificate if it is not the host")] = ""
    tls_verify: Annotated[bool, Meta(description="off accepts any certificate: only inside a VPN")] = True
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from the number of an answer, where ours is wrong: number → verdict"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(description="what their codes mean, where our table is wrong: code → cause; none = delivered"),
    ] = field(default_factory=dict)
    trace_pdus: Annotated[
        int,
        Meta(ge=0, le=TRACE_PDUS_MAX, description="PDUs kept for a live look, masked; 0 = none until asked"),
    ] = 0


def terms(settings: SessionSettings, duties: tuple[Duty, ...] = (Duty.BOTH,)) -> Terms:
    """Return how the sessions of an account are kept. Raises ValueError for a host, OSError for a CA file."""
    return Terms(
        hosts=tuple(read_host(written, settings.port) for written in settings.hosts),
        limits=wire.Limits(
            window_size=settings.window_size,
            owed_max=settings.unsettled_max + OWED_SPARE,
            login_wait_s=settings.login_wait_s,
            ack_wait_s=settings.ack_wait_s,
            heartbeat_s=settings.heartbeat_s,
            heartbeat_wait_s=settings.heartbeat_wait_s or None,
            heartbeat_misses_max=settings.heartbeat_misses_max,
        ),
        duties=duties,
        tls=_tls(settings) if settings.tls else None,
        tls_name=settings.tls_name or None,
        connect_wait_s=settings.connect_wait_s,
        close_wait_s=settings.close_wait_s,
        backoff_s=settings.backoff_s,
        backoff_s_max=settings.backoff_s_max,
        throttle_pause_s=settings.throttle_pause_s,
        throttle_pause_s_max=settings.throttle_pause_s_max,
        unsettled_max=settings.unsettled_max,
        trace_pdus=settings.trace_pdus,
    )


def must_be_ascii(words: Mapping[str, tuple[str, int]]) -> None:
    """Raise ValueError for a setting (name → its word, characters at most) that no login can carry."""
    for name, (word, characters_max) in words.items():
        if not word.isascii() or "\0" in word:
            raise ValueError(f"{name} must be ASCII")
        if len(word) > characters_max:
            raise ValueError(f"{name} has more than {characters_max} characters")


def read_host(written: str, port: int) -> tuple[str, int]:
    """Read host, host:port, v6 or [v6]:port. Raises ValueError for a port that is none."""
    if written.startswith("["):
        host, _, rest = written[1:].partition("]")
        rest = rest.removeprefix(":")
    else:
        host, _, rest = written.partition(":") if written.count(":") == 1 else (written, "", "")
    if rest and not (rest.isdecimal() and 0 < int(rest) < 65_536):
        raise ValueError(f"no port in {written}")
    return host, int(rest) if rest else port


def _tls(settings: SessionSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.tls_ca_file or None)
    if not settings.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
