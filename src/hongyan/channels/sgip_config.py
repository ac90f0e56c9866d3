"""What an operator of the platform sets for one SGIP account; forms and checks are drawn from it.

Entry point: Config, which adds what is SGIP's to mainland.MainlandSettings.
Sources: SGIP 1.1 [S11], SGIP 1.3 [S13]; 1.2 lies between, and all agree on what stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from hongyan.channels.channel import Secret
from hongyan.channels.codes import Verdict
from hongyan.channels.mainland import MainlandSettings
from hongyan.channels.numbers import NumberForm
from hongyan.channels.session_config import AckWait, Heartbeat, HowNumbers, Seconds, WindowSize, must_be_ascii
from hongyan.vocab.cause import Cause
from hongyan.wire import fields, sgip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(MainlandSettings):
    """Settings of one SGIP account. Descriptions are on the fields, because forms are drawn from them."""

    port: Annotated[
        int, Meta(ge=1, le=65_535, description="TCP port of hosts without one; the document says 8801")
    ] = sgip.PORT
    login_name: Annotated[str, Meta(min_length=1, max_length=16, description="LoginName: who logs in")]
    login_password: Annotated[
        Secret, Meta(description="at most 16 characters; crosses the wire in clear text")
    ]
    corp_id: Annotated[str, Meta(min_length=1, max_length=5, description="CorpId: the enterprise code")]
    area_code: Annotated[
        str, Meta(pattern="^[0-9]{0,4}$", description="area code that with corp_id makes the node: 010, 021")
    ] = ""
    node: Annotated[
        int,
        Meta(ge=0, le=0xFFFF_FFFF, description="source node, e.g. 3010092008; 0 = of area_code and corp_id"),
    ] = 0
    window_size: WindowSize = 32
    ack_wait_s: AckWait = 30.0
    heartbeat_s: Heartbeat = 60.0  # SGIP has none
    keep_open: Annotated[
        bool, Meta(description="stay logged in without work, where the SMG allows it; it ends what is idle")
    ] = False
    idle_s: Annotated[
        Seconds,
        Meta(description="without work we log out, and in again with the next part; SMGs wait 60 seconds"),
    ] = 50.0
    number_form: HowNumbers = NumberForm.DIGITS
    service_type: Annotated[
        str, Meta(max_length=10, description="code of the service, given by the operator")
    ] = ""
    charge_number: Annotated[
        str,
        Meta(max_length=21, description="who is charged: 21 zeros the SP, empty the receiver, or a number"),
    ] = sgip.SP_PAYS
    fee_type: Annotated[
        int,
        Meta(ge=0, le=4, description="1 free, 2 each message, 3 monthly, 4 collected by the SP, 0 channel"),
    ] = 1
    fee_value: Annotated[str, Meta(max_length=6, description="what is charged, in fen")] = "0"
    given_value: Annotated[str, Meta(max_length=6, description="what is given to the receiver, in fen")] = "0"
    agent_flag: Annotated[int, Meta(ge=0, le=1, description="0 to be collected, 1 collected")] = 0
    more_late_to_mt_flag: Annotated[
        int, Meta(ge=0, le=3, description="why we write: 0 or 1 an answer, 2 of ourselves, 3 the system does")
    ] = 2
    priority: Annotated[int, Meta(ge=0, le=9, description="priority at the SMG; 9 is the highest")] = 0
    report_flag: Annotated[
        int, Meta(ge=0, le=3, description="1 = a report on each part, 0 only of failures, 2 none, 3 billing")
    ] = 1
    listen_host: Annotated[
        str,
        Meta(description="our address for the SMG's own connections, with reports and texts; empty = none"),
    ] = ""
    listen_port: Annotated[int, Meta(ge=1, le=65_535, description="port there; the document says 8801")] = (
        sgip.PORT
    )
    peer_login_name: Annotated[
        str, Meta(max_length=16, description="LoginName of the SMG at our address")
    ] = ""
    peer_login_password: Annotated[Secret, Meta(description="LoginPassword of the SMG at our address")] = (
        field(default_factory=lambda: Secret(""))
    )
    peer_idle_s: Annotated[
        Seconds, Meta(description="the SMG's connections are closed after so long without a request")
    ] = 60.0
    verdicts: Annotated[
        Mapping[str, Verdict],
        Meta(description="what follows from a Result, where ours is wrong or the vendor's: 11 → throttled"),
    ] = field(default_factory=dict)
    causes: Annotated[
        Mapping[str, Cause],
        Meta(description="what their codes mean, where our table is wrong: SGIP:24, or a Result → cause"),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no PDU can carry; msgspec turns the ValueError into its own."""
        must_be_ascii(
            {
                "login_name": (self.login_name, 16),
                "login_password": (self.login_password.reveal(), 16),
                "peer_login_name": (self.peer_login_name, 16),
                "peer_login_password": (self.peer_login_password.reveal(), 16),
                "corp_id": (self.corp_id, 5),
                "service_type": (self.service_type, 10),
                "charge_number": (self.charge_number, 21),
                "fee_value": (self.fee_value, 6),
                "given_value": (self.given_value, 6),
            }
        )
        if self.listen_host and not (self.peer_login_name and self.peer_login_password.reveal()):
            raise ValueError(
                "listen_host: who connects there must have peer_login_name and peer_login_password"
            )
        if not self.keep_open and self.idle_s <= self.ack_wait_s:
            raise ValueError("idle_s: longer than ack_wait_s, or parts end unsure that may still be answered")
        if not self.node and not self.area_code:
            raise ValueError("node, or an area_code to make it of, is needed")
        self.source_node()

    def source_node(self) -> int:
        """Return the node of our sequence numbers. Raises ValueError for a corp_id that makes none."""
        try:
            return self.node or sgip.sp_node(self.area_code, self.corp_id)
        except fields.LocalProtocolError as error:
            raise ValueError(str(error)) from error
