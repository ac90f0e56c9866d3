"""What an operator of the platform sets for one CMPP account; forms and checks are drawn from it.

Entry point: Config, which adds what is CMPP's to mainland.MainlandSettings.
Section numbers are those of CMPP 3.0, China Mobile QB-GF-028-2003 [C3].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from hongyan.channels.channel import Secret
from hongyan.channels.codes import Verdict
from hongyan.channels.mainland import MainlandSettings
from hongyan.channels.session_config import Heartbeat, must_be_ascii
from hongyan.vocab.cause import Cause
from hongyan.wire import cmpp


class Version(StrEnum):
    """What the gateway speaks. It is the account that says so: version bytes are often wrong."""

    V2_0 = "2.0"
    V2_1 = "2.1"  # laid out as 2.0
    V3_0 = "3.0"

    @property
    def octet(self) -> int:
        return {Version.V2_0: cmpp.VERSION_2_0, Version.V2_1: cmpp.VERSION_2_1}.get(self, cmpp.VERSION_3_0)

    @property
    def dialect(self) -> cmpp.CmppDialect:
        return cmpp.V3 if self is Version.V3_0 else cmpp.V2


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(MainlandSettings):
    """Settings of one CMPP account. Descriptions are on the fields, because forms are drawn from them."""

    port: Annotated[
        int, Meta(ge=1, le=65_535, description="TCP port of hosts without one; the standard gives 7890")
    ] = cmpp.PORT
    source_addr: Annotated[
        str, Meta(min_length=1, max_length=6, description="SP_Id: who logs in [C3 8.4.1.1]")
    ]
    secret: Annotated[Secret, Meta(description="shared secret, of which the login is a proof")]
    version: Annotated[Version, Meta(description="what the gateway speaks, whatever it says it does")] = (
        Version.V2_0
    )
    padded_authenticator: Annotated[
        bool,
        Meta(description="hash an SP_Id of fewer than 6 characters with its zeros; some gateways want that"),
    ] = False
    verify_server: Annotated[
        bool,
        Meta(description="leave a gateway that does not prove the secret; many hash something else"),
    ] = False
    heartbeat_s: Heartbeat = 60.0
    service_id: Annotated[
        str, Meta(max_length=10, description="code of the service, given by the operator")
    ] = ""
    fee_user_type: Annotated[
        int, Meta(ge=0, le=3, description="who pays: 0 receiver, 1 sender, 2 SP, 3 fee_terminal_id")
    ] = 2
    fee_terminal_id: Annotated[
        str, Meta(max_length=21, description="the number that is charged, where fee_user_type is 3")
    ] = ""
    fee_type: Annotated[
        str, Meta(max_length=2, description="01 free, 02 each message, 03 monthly [C3 8.4.3.1]")
    ] = "01"
    fee_code: Annotated[str, Meta(max_length=6, description="what is charged, in fen")] = "0"
    msg_level: Annotated[int, Meta(ge=0, le=9, description="priority at the gateway; 9 is the highest")] = 0
    msg_src: Annotated[
        str, Meta(max_length=6, description="where the content comes from; empty = source_addr")
    ] = ""
    registered_delivery: Annotated[
        int,
        Meta(ge=0, le=2, description="1 = a status report on each part; 2.x also knows 2, a billing record"),
    ] = 1
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from a Result, where ours is wrong or the vendor's: 103 → throttled"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(description="what their codes mean, where our table is wrong: MK:0012, or a Result → cause"),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no PDU can carry; msgspec turns the ValueError into its own."""
        must_be_ascii(
            {
                "source_addr": (self.source_addr, 6),
                "service_id": (self.service_id, 10),
                "fee_terminal_id": (self.fee_terminal_id, 21),
                "fee_type": (self.fee_type, 2),
                "fee_code": (self.fee_code, 6),
                "msg_src": (self.msg_src, 6),
            }
        )
