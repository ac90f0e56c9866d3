"""What SMPP 5.0 added, what 3.3 lacks, and who may ask whom for what."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.wire import smpp
from hongyan.wire.fields import LocalProtocolError
from hongyan.wire.session import Answered, Limits, LoggedIn, LoginRequested, Received, Session, State, Stray

from .strategies import PDUS
from .test_session import LIMITS, client, passed, ready_client, ready_server, server, written

AREA, OTHER_AREA = b"\0Lhasa", b"\0Xining"
AREAS = (
    smpp.TLVS.write("broadcast_area_identifier", AREA),
    smpp.TLVS.write("broadcast_area_identifier", OTHER_AREA),
)
BROADCAST = smpp.BroadcastSm(
    7,
    source_addr="1069000",
    data_coding=8,
    tlvs=(
        *AREAS,
        smpp.TLVS.write("broadcast_content_type", b"\1\0\2"),
        smpp.TLVS.write("broadcast_rep_num", 3),
        smpp.TLVS.write("broadcast_frequency_interval", b"\x09\0\5"),
        smpp.TLVS.write("message_payload", "洪水".encode("utf-16-be")),
    ),
)

# ── 5.0 ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("octets", "pdu"),
    [
        (
            (
                "00000111 00000000 00000007  00  00 00 31303639303030 00  00  00  00  00  00  08  00"
                "0606 0006 004c68617361  0606 0007 0058696e696e67  0601 0003 010002  0604 0002 0003"
                "0605 0003 090005  0424 0004 6d2a6c34"
            ),
            BROADCAST,
        ),
        (
            "80000111 00000000 00000007  393900  0606 0006 004c68617361  0607 0004 00000109",
            smpp.BroadcastSmResp(7, message_id="99", tlvs=(AREAS[0], (0x607, bytes.fromhex("00000109")))),
        ),
        (
            "00000112 00000000 00000008  393900  01 01 3100",
            smpp.QueryBroadcastSm(8, 0, "99", 1, 1, "1"),
        ),
        (
            "80000112 00000000 00000008  393900  0427 0001 02  0606 0006 004c68617361  0608 0001 50",
            smpp.QueryBroadcastSmResp(
                8, message_id="99", tlvs=((0x427, b"\2"), AREAS[0], (0x608, bytes((80,))))
            ),
        ),
        (
            "00000113 00000000 00000009  434d5400  393900  00 00 00",
            smpp.CancelBroadcastSm(9, 0, "CMT", "99"),
        ),
        ("80000113 00000000 00000009", smpp.CancelBroadcastSmResp(9)),
    ],
)
def test_a_broadcast_is_written_as_its_table_says(octets: str, pdu: smpp.Pdu) -> None:
    body = bytes.fromhex(octets)
    frame = (4 + len(body)).to_bytes(4, "big") + body
    assert smpp.encode(pdu) == frame
    assert smpp.decode(frame) == pdu


def test_a_broadcast_without_what_it_must_have_is_found_out() -> None:
    assert smpp.missing(BROADCAST) == ()
    assert smpp.missing(smpp.BroadcastSm(tlvs=AREAS)) == (
        "broadcast_content_type",
        "broadcast_rep_num",
        "broadcast_frequency_interval",
    )
    assert smpp.missing(smpp.QueryBroadcastSmResp(tlvs=AREAS)) == ("message_state", "broadcast_area_success")
    assert smpp.missing(smpp.QueryBroadcastSmResp(1, 0x10E, bare=True)) == ()


@given(PDUS)
def test_any_pdu_can_be_asked_what_it_lacks_and_how_congested_its_sender_is(pdu: smpp.Pdu) -> None:
    smpp.missing(pdu)
    congestion = smpp.congestion(pdu)
    assert congestion is None or 0 <= congestion <= 100


def test_each_area_has_its_own_outcome() -> None:
    reached = (AREAS[0], (0x608, b"\x50"), AREAS[1], (0x608, b"\xff"))
    assert smpp.broadcast_areas(smpp.QueryBroadcastSmResp(tlvs=reached)) == ((AREA, 80), (OTHER_AREA, 255))
    refused = (AREAS[0], (0x607, bytes.fromhex("00000109")))
    assert smpp.broadcast_areas(smpp.BroadcastSmResp(tlvs=refused)) == (
        (AREA, smpp.CommandStatus.INVBCASTAREAFMT),
    )
    assert smpp.broadcast_areas(smpp.QueryBroadcastSmResp(tlvs=AREAS)) == ((AREA, None), (OTHER_AREA, None))


@pytest.mark.parametrize(
    "response",
    [
        smpp.SubmitSmResp,
        smpp.SubmitMultiResp,
        smpp.DataSmResp,
        smpp.DeliverSmResp,
        smpp.QuerySmResp,
        smpp.CancelSmResp,
        smpp.ReplaceSmResp,
        smpp.BroadcastSmResp,
        smpp.QueryBroadcastSmResp,
        smpp.CancelBroadcastSmResp,
    ],
)
def test_any_response_may_tell_how_congested_its_sender_is(response: type[smpp.SubmitSmResp]) -> None:
    told = response(3, tlvs=(smpp.TLVS.write("congestion_state", 85),))
    read = smpp.decode(smpp.encode(told))
    assert smpp.congestion(read) == 85
    assert smpp.congestion(response(3)) is None


def test_a_congestion_beyond_full_says_nothing() -> None:
    assert smpp.congestion(smpp.SubmitSmResp(tlvs=((0x428, b"\x65"),))) is None  # 101–255 are reserved
    assert smpp.congestion(smpp.SubmitSmResp(tlvs=((0x428, b""),))) is None


# ── 3.3 ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("interface_version", [0x00, 0x33])
def test_a_3_3_peer_hears_no_parameters(interface_version: int) -> None:
    session = server()
    (asked,) = session.receive(smpp.encode(smpp.BindReceiver(1, interface_version=interface_version)), 0.0)
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, smpp.BindReceiver)
    session.accept(smpp.bind_resp(asked.pdu, "centre"), 0.0, smpp.dialect_of(asked.pdu))
    tlvs = (smpp.TLVS.write("receipted_message_id", "0000000A"), smpp.TLVS.write("message_state", 2))
    text = b"id:0000000A stat:DELIVRD"
    session.send(smpp.DeliverSm(esm_class=4, short_message=text, tlvs=tlvs), 0.0)
    assert written(session) == [
        smpp.BindReceiverResp(1, system_id="centre"),
        smpp.DeliverSm(1, esm_class=4, short_message=text),
    ]


@pytest.mark.parametrize("interface_version", [0x34, 0x50])
def test_a_later_peer_hears_parameters(interface_version: int) -> None:
    assert smpp.dialect_of(smpp.BindReceiver(interface_version=interface_version)) is smpp.DIALECT


@given(st.integers(0, 2**64))
def test_a_short_id_is_one_that_a_3_3_peer_can_hold(number: int) -> None:
    message_id = smpp.message_id_33(number)
    assert len(message_id) == 8
    assert int(message_id, 16) == number % 2**32
    assert smpp.encode_33(smpp.SubmitSmResp(1, message_id=message_id)) == smpp.encode(
        smpp.SubmitSmResp(1, message_id=message_id)
    )


@pytest.mark.parametrize(
    "pdu",
    [
        smpp.SubmitSmResp(message_id="123456789"),
        smpp.SubmitSmResp(message_id="6b29fc40-ca47-1067-b31d-00dd010662da"),
        smpp.SubmitSmResp(message_id="message"),
        smpp.SubmitSmResp(message_id="1A\n"),
        smpp.DeliverSm(tlvs=(smpp.TLVS.write("message_payload", b"hi"),)),
        smpp.DeliverSm(tlvs=(smpp.TLVS.write("sar_segment_seqnum", 1),)),
    ],
)
def test_what_3_3_cannot_say_whole_is_our_error(pdu: smpp.Pdu) -> None:
    with pytest.raises(LocalProtocolError):
        smpp.encode_33(pdu)


@given(PDUS)
def test_what_is_written_for_3_3_has_no_parameters(pdu: smpp.Pdu) -> None:
    try:
        frame = smpp.encode_33(pdu)
    except LocalProtocolError:
        return
    assert getattr(smpp.decode(frame), "tlvs", ()) == ()


def test_a_3_3_peer_is_asked_for_nothing_that_came_later() -> None:
    bind = smpp.BindReceiver(interface_version=0x33)
    assert smpp.DIALECT_33.may_push is not None
    assert smpp.DIALECT_33.may_push(bind, smpp.DeliverSm())
    assert not smpp.DIALECT_33.may_push(bind, smpp.DataSm())
    assert not smpp.DIALECT_33.may_push(bind, smpp.AlertNotification())


# ── who may ask whom ─────────────────────────────────────────────────────────────────────────────────

BINDS: dict[type[smpp.Bind], str] = {
    smpp.BindTransmitter: "asks",
    smpp.BindReceiver: "hears",
    smpp.BindTransceiver: "asks hears",
}
ASKED: dict[type[smpp.Pdu], str] = {  # [P34 2.2], and the broadcasts as [P50] adds them
    smpp.SubmitSm: "asks",
    smpp.SubmitMulti: "asks",
    smpp.DataSm: "asks hears",
    smpp.QuerySm: "asks",
    smpp.CancelSm: "asks",
    smpp.ReplaceSm: "asks",
    smpp.BroadcastSm: "asks",
    smpp.QueryBroadcastSm: "asks",
    smpp.CancelBroadcastSm: "asks",
    smpp.DeliverSm: "hears",
    smpp.AlertNotification: "hears",
}
PAIRS = list(product(BINDS, ASKED))


def in_common(bind: type[smpp.Bind], pdu: type[smpp.Pdu]) -> set[str]:
    return {*BINDS[bind].split()} & {*ASKED[pdu].split()}


@pytest.mark.parametrize(("bind", "asked"), PAIRS)
def test_a_centre_hears_what_the_login_is_for_and_declines_the_rest(
    bind: type[smpp.Bind], asked: type[smpp.Pdu]
) -> None:
    session = ready_server(bind())
    heard = session.receive(smpp.encode(asked(5)), 0.0)
    if "asks" in in_common(bind, asked):
        assert heard == [Received(asked(5))]
    elif asked is smpp.AlertNotification:
        assert heard == [Stray(asked(5))]
        assert session.take() == b""
    else:
        assert heard == []
        (declined,) = written(session)
        assert (type(declined), declined.command_status) == (
            smpp.RESPONSES[asked],
            smpp.CommandStatus.INVBNDSTS,
        )


@pytest.mark.parametrize(("bind", "asked"), [pair for pair in PAIRS if "hears" in ASKED[pair[1]]])
def test_a_centre_asks_nothing_of_who_only_transmits(bind: type[smpp.Bind], asked: type[smpp.Pdu]) -> None:
    session = ready_server(bind())
    say = session.tell if asked is smpp.AlertNotification else session.send
    if "hears" in in_common(bind, asked):
        say(asked(), 0.0)
        assert [type(pdu) for pdu in written(session)] == [asked]
    else:
        with pytest.raises(LocalProtocolError):
            say(asked(), 0.0)
        assert session.take() == b""


@pytest.mark.parametrize("asked", ASKED)
def test_an_esme_takes_whatever_it_is_given(asked: type[smpp.Pdu]) -> None:
    assert ready_client().receive(smpp.encode(asked(5)), 0.0) == [Received(asked(5))]


def test_a_notice_takes_no_slot_and_waits_for_nothing() -> None:
    session = ready_server(smpp.BindReceiver())
    session.tell(smpp.AlertNotification(source_addr="1"), 0.0)
    assert written(session) == [smpp.AlertNotification(1, source_addr="1")]
    assert session.open_slots == LIMITS.window_size
    assert session.unanswered == ()
    with pytest.raises(LocalProtocolError):
        session.tell(smpp.DeliverSm(), 0.0)


# ── outbind ──────────────────────────────────────────────────────────────────────────────────────────


def invited(bind: smpp.Bind) -> tuple[Session, Session]:
    esme, centre = client(), server()
    outbind = smpp.Outbind(system_id="centre", password="secret")
    centre.invite(outbind, 0.0)
    (received,) = passed(centre, esme)
    assert received == Received(smpp.Outbind(1, system_id="centre", password="secret"))
    esme.login(bind, 0.0)
    return esme, centre


@pytest.mark.parametrize("bind", [smpp.BindReceiver(), smpp.BindTransceiver()])
def test_a_centre_that_dials_invites_and_then_delivers(bind: smpp.Bind) -> None:
    esme, centre = invited(bind)
    (asked,) = passed(esme, centre)
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, smpp.Bind)
    centre.accept(smpp.bind_resp(asked.pdu, "centre"), 0.0)
    number = centre.send(smpp.DeliverSm(short_message=b"hi"), 0.0, "kept for you")
    welcome, received = passed(centre, esme)
    assert isinstance(welcome, LoggedIn)
    assert received == Received(smpp.DeliverSm(number, short_message=b"hi"))
    esme.answer(smpp.DeliverSmResp(number), 0.0)
    (answered,) = passed(esme, centre)
    assert isinstance(answered, Answered)
    assert answered.about == "kept for you"


def test_an_invitation_is_to_receive() -> None:
    with pytest.raises(LocalProtocolError):
        invited(smpp.BindTransmitter())
    centre = server()
    centre.invite(smpp.Outbind(), 0.0)
    centre.take()
    assert centre.receive(smpp.encode(smpp.BindTransmitter(1)), 0.0) == []
    assert written(centre) == [smpp.BindTransmitterResp(1, smpp.CommandStatus.INVBNDSTS, bare=True)]
    assert isinstance(centre.receive(smpp.encode(smpp.BindReceiver(2)), 0.0)[0], LoginRequested)


def test_an_invited_client_has_the_whole_wait_to_log_in() -> None:
    session = server(Limits(login_wait_s=10.0))
    session.invite(smpp.Outbind(), 9.0)
    assert session.tick(18.9) == []
    assert session.next_deadline_s == 19.0


@pytest.mark.parametrize("session", [server(), ready_server(), ready_client()])
def test_an_invitation_out_of_place_is_a_stray(session: Session) -> None:
    state = session.state
    assert session.receive(smpp.encode(smpp.Outbind(5)), 0.0) == [Stray(smpp.Outbind(5))]
    assert session.take() == b""
    assert session.state is state


@pytest.mark.parametrize("session", [client(), ready_client(), ready_server()])
def test_only_a_server_before_the_login_invites(session: Session) -> None:
    with pytest.raises(LocalProtocolError):
        session.invite(smpp.Outbind(), 0.0)
    fresh = server()
    with pytest.raises(LocalProtocolError):
        fresh.invite(smpp.EnquireLink(), 0.0)
    assert fresh.state is State.OPEN
