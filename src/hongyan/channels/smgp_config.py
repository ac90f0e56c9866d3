"""What an operator of the platform sets for one SMGP account; forms and checks are drawn from it.

Entry point: Config, which adds what is SMGP's to mainland.MainlandSettings.
Section numbers are those of SMGP V3.0.3 [G3].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from hongyan.channels.channel import Secret
from hongyan.channels.codes import Verdict
from hongyan.channels.mainland import MainlandSettings, Wide
from hongyan.channels.session_config import Heartbeat, must_be_ascii
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.wire import smgp

SECRET_CHARACTERS_MAX = 15  # [G3 6.2.2]


class LoginAs(StrEnum):
    """How a session logs in [G3 6.2.3]."""

    BOTH = "both"  # one connection for both directions
    PAIR = "pair"  # one connection to submit and one to receive, for each session


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(MainlandSettings):
    """Settings of one SMGP account. Descriptions are on the fields, because forms are drawn from them."""

    port: Annotated[
        int, Meta(ge=1, le=65_535, description="TCP port of hosts without one; the document says 8890")
    ] = smgp.PORT
    client_id: Annotated[str, Meta(min_length=1, max_length=8, description="ClientID: who logs in")]
    secret: Annotated[Secret, Meta(description="shared secret, of which the login is a proof; at most 15")]
    version: Annotated[
        int, Meta(ge=0, le=255, description="ClientVersion: 48 = 3.0; 19 = 1.3, whose Submit has no FixedFee")
    ] = smgp.VERSION
    login: Annotated[LoginAs, Meta(description="pair where the gateway wants a connection each way")] = (
        LoginAs.BOTH
    )
    padded_authenticator: Annotated[
        bool,
        Meta(
            description="hash a ClientID of fewer than 8 characters with its zeros; some gateways want that"
        ),
    ] = False
    verify_server: Annotated[
        bool, Meta(description="leave a gateway that does not prove the secret; many hash something else")
    ] = False
    heartbeat_s: Heartbeat = 60.0
    service_id: Annotated[
        str, Meta(max_length=10, description="code of the service, given by the operator")
    ] = ""
    fee_type: Annotated[
        str, Meta(max_length=2, description="00 free, 01 each message, 02 monthly, 03 capped")
    ] = "00"
    fee_code: Annotated[str, Meta(max_length=6, description="what is charged, in fen")] = "0"
    fixed_fee: Annotated[str, Meta(max_length=6, description="what is charged monthly, in fen")] = "0"
    charge_term_id: Annotated[
        str, Meta(max_length=21, description="the number that is charged, if it is not the receiver's")
    ] = ""
    m_service_id: Annotated[
        str, Meta(max_length=21, description="MServiceID: the product, only where the gateway asks for it")
    ] = ""
    priority: Annotated[int, Meta(ge=0, le=3, description="priority at the gateway; 3 is the highest")] = 0
    need_report: Annotated[bool, Meta(description="ask for a status report on each part")] = True
    wide: Annotated[
        Wide,
        Meta(
            description="MsgFormat of texts: gbk (15), as the document wants it, or ucs2 (8), as most take it"
        ),
    ] = Wide.GBK
    ascii_octets_max: Annotated[
        Literal[0, 140, 160],
        Meta(description="140 sends plain ASCII as MsgFormat 0, 0 like all other texts; 160 does not fit"),
    ] = 0
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from a Status; which say slower, no document tells: 75 → throttled"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(
            description="what their codes mean, where our table is wrong: UNDELIV/004, 004, or a Status → cause"
        ),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no PDU can carry; msgspec turns the ValueError into its own."""
        must_be_ascii(
            {
                "client_id": (self.client_id, 8),
                "secret": (self.secret.reveal(), SECRET_CHARACTERS_MAX),
                "service_id": (self.service_id, 10),
                "fee_type": (self.fee_type, 2),
                "fee_code": (self.fee_code, 6),
                "fixed_fee": (self.fixed_fee, 6),
                "charge_term_id": (self.charge_term_id, 21),
                "m_service_id": (self.m_service_id, 21),
            }
        )
        if self.ascii_octets_max > texts.PART_OCTETS:
            raise ValueError("ascii_octets_max: a part of SMGP has at most 140 octets")
