"""What an operator of the platform sets for one SMPP account; forms and checks are drawn from it.

Entry point: Config. Each field says its unit and reason in its description, which is what the console shows.
Section numbers are those of SMPP 3.4 Issue 1.2 [P34].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from hongyan.channels.channel import Secret
from hongyan.channels.dialects import Dialect
from hongyan.vocab.cause import Cause
from hongyan.vocab.text import Split
from hongyan.wire import smpp


class Bind(StrEnum):
    """How a session logs in."""

    TRANSCEIVER = "transceiver"  # one connection for both directions
    PAIR = (
        "pair"  # a transmitter and a receiver connection for each session, for centres without transceivers
    )


class Charset(StrEnum):
    """What data_coding 0 means at this upstream ("SMSC default alphabet": everybody has another)."""

    GSM7 = "gsm7"
    LATIN1 = "latin1"
    ASCII = "ascii"


class NumberForm(StrEnum):
    """How numbers are written to this upstream."""

    DIGITS = "digits"  # E.164 without the plus: 8613800138000
    PLUS = "plus"  # +8613800138000
    DOUBLE_ZERO = "double_zero"  # 008613800138000
    NATIONAL = "national"  # without country_code: 13800138000; other countries as digits


class ReportFor(StrEnum):
    """Which parts of a long text this upstream reports on."""

    EVERY = "every"
    FIRST = "first"
    LAST = "last"


class ByteOrder(StrEnum):
    BIG = "big"  # as the specification says
    LITTLE = "little"


class Verdict(StrEnum):
    """What follows from a command_status."""

    THROTTLED = "throttled"  # the channel pauses, then the same parcels go first
    UNREACHABLE = "unreachable"  # not taken; another channel may try
    UNSURE = "unsure"  # may have been taken all the same
    DECLINED = "declined"  # final


Octet = Annotated[int, Meta(ge=0, le=255)]
PASSWORD_CHARACTERS_MAX = 8  # a C-octet string of 9 [P34 5.2.2]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one SMPP account. Descriptions are on the fields, because forms are drawn from them."""

    hosts: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            min_length=1,
            description="host, host:port or [v6]:port; the first is tried first, the rest stand by",
        ),
    ]
    system_id: Annotated[
        str, Meta(max_length=15, description="account name; c-octet string of 16 [P34 5.2.1]")
    ]
    password: Annotated[Secret, Meta(description="at most 8 characters [P34 5.2.2]")]
    port: Annotated[
        int, Meta(ge=1, le=65_535, description="TCP port of hosts without one; IANA gives smpp 2775")
    ] = smpp.PORT
    system_type: Annotated[
        str, Meta(max_length=12, description="kind of client, only where the upstream asks")
    ] = ""
    bind: Annotated[Bind, Meta(description="transceiver unless the centre knows only 3.3")] = Bind.TRANSCEIVER
    interface_version: Annotated[int, Meta(ge=0, le=255, description="52 = 3.4, 80 = 5.0, 51 = 3.3")] = 0x34
    sessions: Annotated[
        int, Meta(ge=0, le=64, description="sessions this process holds; resize() changes it")
    ] = 1
    window_size: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="unanswered or unstored submits per session; doubles after a crash at most",
        ),
    ] = 50
    parts_per_s: Annotated[
        float,
        Meta(
            gt=0, le=100_000, description="rate agreed with the upstream, in parts; the gateway paces by it"
        ),
    ] = 100.0
    access_number: Annotated[
        str, Meta(max_length=20, description="sender number the extension is appended to")
    ] = ""
    sender_ton: Annotated[Octet, Meta(description="type of a numeric sender; letters are always 5/0")] = 0
    sender_npi: Annotated[Octet, Meta(description="numbering plan of a numeric sender; 1 = E.164")] = 1
    destination_ton: Annotated[Octet, Meta(description="type of the destination; 1 = international")] = 1
    destination_npi: Annotated[Octet, Meta(description="numbering plan of the destination; 1 = E.164")] = 1
    number_form: Annotated[NumberForm, Meta(description="how numbers are written to the upstream")] = (
        NumberForm.DIGITS
    )
    country_code: Annotated[
        str,
        Meta(
            pattern="^[0-9]{0,3}$", description="calling code of national numbers, both directions; e.g. 86"
        ),
    ] = ""
    charset_out: Annotated[Charset, Meta(description="what data_coding 0 means when we submit")] = (
        Charset.GSM7
    )
    charset_in: Annotated[Charset, Meta(description="what data_coding 0 means in what people text")] = (
        Charset.GSM7
    )
    ucs2_order: Annotated[
        ByteOrder, Meta(description="byte order of UCS-2 we submit; a few centres want little")
    ] = ByteOrder.BIG
    sniff_ucs2: Annotated[
        bool, Meta(description="guess UCS-2 that is mislabelled or little endian in what people text")
    ] = False
    split: Annotated[
        Split, Meta(description="how long texts are cut; a centre that shows headers as text needs sar")
    ] = Split.UDH8
    registered_delivery: Annotated[
        Octet,
        Meta(description="report request bits [P34 5.2.17]; 1 = success and failure, 17 = intermediate too"),
    ] = 1
    report_for: Annotated[ReportFor, Meta(description="parts of a long text the upstream reports on")] = (
        ReportFor.EVERY
    )
    id_dialect: Annotated[
        Dialect,
        Meta(description="how ids in reports relate to those in acks; auto learns it from the first pairs"),
    ] = Dialect.AUTO
    receipts_by_text: Annotated[
        bool,
        Meta(description="what looks like a receipt is one, whatever esm_class says; handsets can forge it"),
    ] = False
    connect_wait_s: Annotated[Seconds, Meta(description="until TCP and TLS stand")] = 10.0
    login_wait_s: Annotated[Seconds, Meta(description="until the bind is answered")] = 10.0
    ack_wait_s: Annotated[
        Seconds, Meta(description="until a submit is answered; after it the part is unsure")
    ] = 60.0
    heartbeat_s: Annotated[
        Seconds,
        Meta(description="silence before enquire_link; NATs forget a connection after some 4 minutes"),
    ] = 30.0
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
            description="first pause after 0x58 or 0x14; doubles when the next one follows, shrinks by itself"
        ),
    ] = 1.0
    throttle_pause_s_max: Annotated[Seconds, Meta(description="longest pause after throttling")] = 30.0
    unsettled_max: Annotated[
        int,
        Meta(ge=1, le=100_000, description="reports and inbound not yet stored, above which we stop reading"),
    ] = 5_000
    service_type: Annotated[
        str, Meta(max_length=5, description="service_type, only where the upstream asks")
    ] = ""
    priority: Annotated[Octet, Meta(description="priority_flag; 0 = bulk")] = 0
    validity: Annotated[bool, Meta(description="tell the upstream how long it may try (validity_period)")] = (
        True
    )
    tlvs: Annotated[
        Mapping[str, str],
        Meta(description="for each submit: hex tag → hex octets, or text:… (e.g. 1400 of India DLT)"),
    ] = field(default_factory=dict)
    tls: Annotated[bool, Meta(description="TLS before the bind; SMPP has no STARTTLS")] = False
    tls_ca_file: Annotated[str, Meta(description="CA certificates in PEM; empty = those of the system")] = ""
    tls_name: Annotated[str, Meta(description="name in the certificate if it is not the host")] = ""
    tls_verify: Annotated[bool, Meta(description="off accepts any certificate: only inside a VPN")] = True
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from a command_status, where ours is wrong: hex → verdict"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(description="what their codes mean, where our table is wrong: code (0x45 for a status) → cause"),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no bind can carry; msgspec turns the ValueError into its own."""
        words = {
            "system_id": self.system_id,
            "system_type": self.system_type,
            "password": self.password.reveal(),
        }
        for name, word in words.items():
            if not word.isascii() or "\0" in word:
                raise ValueError(f"{name} must be ASCII")
        if len(words["password"]) > PASSWORD_CHARACTERS_MAX:
            raise ValueError(f"password has more than {PASSWORD_CHARACTERS_MAX} characters")
