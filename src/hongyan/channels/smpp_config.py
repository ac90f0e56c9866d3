"""What an operator of the platform sets for one SMPP account; forms and checks are drawn from it.

Entry point: Config, which adds what is SMPP's to session_config.SessionSettings. Each field says its unit and
reason in its description, which is what the console shows.
Section numbers are those of SMPP 3.4 Issue 1.2 [P34].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from hongyan.channels.channel import Secret
from hongyan.channels.codes import Verdict
from hongyan.channels.dialects import Dialect
from hongyan.channels.session_config import Octet, SessionSettings, WindowSize, must_be_ascii
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


class ReportFor(StrEnum):
    """Which parts of a long text this upstream reports on."""

    EVERY = "every"
    FIRST = "first"
    LAST = "last"


class ByteOrder(StrEnum):
    BIG = "big"  # as the specification says
    LITTLE = "little"


PASSWORD_CHARACTERS_MAX = 8  # a C-octet string of 9 [P34 5.2.2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(SessionSettings):
    """Settings of one SMPP account. Descriptions are on the fields, because forms are drawn from them."""

    port: Annotated[
        int, Meta(ge=1, le=65_535, description="TCP port of hosts without one; IANA gives smpp 2775")
    ] = smpp.PORT
    system_id: Annotated[
        str, Meta(max_length=15, description="account name; c-octet string of 16 [P34 5.2.1]")
    ]
    password: Annotated[Secret, Meta(description="at most 8 characters [P34 5.2.2]")]
    system_type: Annotated[
        str, Meta(max_length=12, description="kind of client, only where the upstream asks")
    ] = ""
    bind: Annotated[Bind, Meta(description="transceiver unless the centre knows only 3.3")] = Bind.TRANSCEIVER
    interface_version: Annotated[int, Meta(ge=0, le=255, description="52 = 3.4, 80 = 5.0, 51 = 3.3")] = 0x34
    window_size: WindowSize = 50
    sender_ton: Annotated[Octet, Meta(description="type of a numeric sender; letters are always 5/0")] = 0
    sender_npi: Annotated[Octet, Meta(description="numbering plan of a numeric sender; 1 = E.164")] = 1
    destination_ton: Annotated[Octet, Meta(description="type of the destination; 1 = international")] = 1
    destination_npi: Annotated[Octet, Meta(description="numbering plan of the destination; 1 = E.164")] = 1
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
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from a command_status, where ours is wrong: hex → verdict"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(
            description="what their codes mean, where our table is wrong: code (0x45 for a status) → cause; "
            "none = delivered"
        ),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no bind can carry; msgspec turns the ValueError into its own."""
        must_be_ascii(
            {
                "system_id": (self.system_id, 15),
                "system_type": (self.system_type, 12),
                "password": (self.password.reveal(), PASSWORD_CHARACTERS_MAX),
            }
        )
