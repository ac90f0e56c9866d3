"""What SMPP peers do that the specification does not say, each met in the wild or in public code."""

import pytest

from hongyan.wire import smpp
from hongyan.wire.session import Session
from hongyan.wire.smpp import MessageState

from .strategies import VECTORS
from .test_session import BIND, client, ready_client, ready_server, written
from .test_smpp import COMMON, deliver, read

MESSAGE_ID = smpp.TLVS.write("receipted_message_id", "abc")


def test_ids_in_hex_and_decimal_are_handed_on_as_written() -> None:
    # Which of them is meant is the channel's to learn; here nothing is normalised away.
    assert smpp.decode(smpp.encode(smpp.SubmitSmResp(1, message_id="05f5e101"))).message_id == "05f5e101"  # type: ignore[attr-defined]
    assert read("id:0100000001 stat:DELIVRD").message_id == "0100000001"
    assert read("id:6b29fc40-ca47-1067-b31d-00dd010662da stat:DELIVRD").message_id.count("-") == 4


@pytest.mark.parametrize(
    ("text", "stat", "error", "done_date"),
    [
        (
            "id:1 submit date:2611250328 done date:2611250329 stat:DELIVRD err:000",
            "DELIVRD",
            "000",
            "2611250329",
        ),
        ("id:1 sub:1 dlvrd:1 done date:2611250329 stat:DELIVRD err:0 text:x", "DELIVRD", "0", "2611250329"),
        ("id:1 done date:141023215254 stat:DELIVRD err:0000 Text:", "DELIVRD", "0000", "141023215254"),
        ("id:1 done date:150203040507708+ stat:UNDELIV err:0A1F", "UNDELIV", "0A1F", "150203040507708+"),
        ("stat:EXPIRED done_date:2611250329 id:1", "EXPIRED", "", "2611250329"),
        ("ID: 1, SUB: 001, STAT: EXPIRED, ERR: 7", "EXPIRED", "7", ""),
        ("id:1\nstat:FAILED\nerr:69", "FAILED", "69", ""),
    ],
)
def test_receipt_text_is_not_a_standard(text: str, stat: str, error: str, done_date: str) -> None:
    receipt = read(text)
    assert (receipt.message_id, receipt.stat, receipt.error, receipt.done_date) == (
        "1",
        stat,
        error,
        done_date,
    )


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        ("FAILED", MessageState.UNDELIVERABLE),
        ("Delivered", MessageState.DELIVERED),
        ("BUFFERED", MessageState.ENROUTE),
        ("MK:0012", MessageState.UNKNOWN),
    ],
)
def test_unusual_stat_words_are_understood_or_kept(stat: str, state: MessageState) -> None:
    receipt = read(f"id:1 sub:001 stat:{stat} err:000")
    assert (receipt.stat, receipt.state) == (stat, state)


def test_dates_carry_seconds_or_the_wire_format_or_nonsense() -> None:
    assert str(smpp.receipt_time("2611250329")) == "2026-11-25 03:29:00+00:00"
    assert str(smpp.receipt_time("141023215253")) == "2014-10-23 21:52:53+00:00"
    assert str(smpp.receipt_time("150203040506708+")) == "2015-02-03 04:05:06.700000+02:00"
    assert [smpp.receipt_time(text) for text in ("", "2613250329", "now", "000000020000000R")] == [None] * 4


@pytest.mark.parametrize(
    "octets", [COMMON.encode("utf-16-be"), COMMON.encode("utf-16-le"), COMMON.encode("utf-16")]
)
@pytest.mark.parametrize("data_coding", [0, 8])
def test_a_receipt_in_ucs2_is_read_whatever_its_label(octets: bytes, data_coding: int) -> None:
    receipt = smpp.receipt(smpp.DeliverSm(esm_class=4, data_coding=data_coding, short_message=octets))
    assert receipt == read(COMMON)


def test_a_receipt_labelled_ucs2_but_written_in_ascii_is_read() -> None:
    assert smpp.receipt(smpp.DeliverSm(esm_class=4, data_coding=8, short_message=COMMON.encode())) == read(
        COMMON
    )


def test_parameters_go_before_the_text_where_they_disagree() -> None:
    error = smpp.TLVS.write("network_error_code", b"\x03\x00\x45")
    receipt = read(COMMON, MESSAGE_ID, smpp.TLVS.write("message_state", 5), error)
    assert (receipt.message_id, receipt.state, receipt.stat) == ("abc", MessageState.UNDELIVERABLE, "DELIVRD")
    assert receipt.network_error == (3, 0x45)


def test_a_receipt_may_be_parameters_alone_or_hide_in_the_payload() -> None:
    receipt = read("", MESSAGE_ID, smpp.TLVS.write("message_state", 2))
    assert (receipt.message_id, receipt.state, receipt.stat) == ("abc", MessageState.DELIVERED, "")
    assert read("", smpp.TLVS.write("message_payload", COMMON.encode())) == read(COMMON)
    assert read(COMMON, smpp.TLVS.write("message_state", 77)).state is MessageState.UNKNOWN


def test_an_intermediate_notification_is_told_apart() -> None:
    receipt = smpp.receipt(deliver("id:1 stat:ENROUTE", esm_class=0x20))
    assert receipt is not None
    assert receipt.intermediate
    assert not receipt.state.final
    assert not read("id:1 stat:ACCEPTD").state.final


def test_extra_bits_of_registered_delivery_are_accepted() -> None:
    session = ready_server()
    (received,) = session.receive(smpp.encode(smpp.SubmitSm(5, registered_delivery=0x11)), 0.0)
    assert received.pdu.registered_delivery == 0x11  # type: ignore[union-attr]


def test_a_response_with_a_body_it_should_not_have_is_taken() -> None:
    session = ready_client()
    session.tick(30.0)
    session.take()
    assert session.receive(bytes.fromhex("0000001480000015000000000000000200000000"), 31.0) == []
    assert session.take() == b""


@pytest.mark.parametrize("body", ["", "00", "3100"])
@pytest.mark.parametrize("response", [0x80000004, 0x80000009, 0x80000005, 0x80000103])
def test_error_responses_come_with_or_without_a_body(response: int, body: str) -> None:
    octets = bytes.fromhex(body)
    pdu = smpp.decode(smpp.HEADER.pack(16 + len(octets), response, 0x58, 7) + octets)
    assert pdu.command_status == smpp.CommandStatus.THROTTLED
    assert smpp.encode(pdu)[16:] == octets


def test_a_deliver_may_share_the_segment_of_the_bind_resp() -> None:
    session = client()
    session.login(BIND, 0.0)
    octets = smpp.encode(smpp.BindTransceiverResp(1)) + smpp.encode(smpp.DeliverSm(1))
    assert [type(event).__name__ for event in session.receive(octets, 0.0)] == ["LoggedIn", "Received"]


def test_a_deliver_on_a_transmitter_bind_is_taken() -> None:
    session = client()
    session.login(smpp.BindTransmitter(system_id="me"), 0.0)
    session.receive(smpp.encode(smpp.BindTransmitterResp(1)), 0.0)
    assert len(session.receive(smpp.encode(smpp.DeliverSm(1)), 0.0)) == 1


@pytest.mark.parametrize("session", [client(), ready_client(), ready_server()])
def test_their_enquire_link_is_always_answered(session: Session) -> None:
    assert session.receive(smpp.encode(smpp.EnquireLink(0x8000_0000)), 0.0) == []
    assert written(session) == [smpp.EnquireLinkResp(0x8000_0000)]


def test_a_heartbeat_answered_by_a_heartbeat_keeps_the_session() -> None:
    session = ready_client()
    for at_s in range(30, 600, 30):
        assert session.tick(float(at_s)) == []
        session.take()
        session.receive(smpp.encode(smpp.EnquireLink(1)), float(at_s))
    assert session.open_slots == 4


def test_a_bind_resp_without_interface_version_is_enough() -> None:
    resp = smpp.decode(bytes.fromhex("0000001180000009000000000000000100"))
    assert smpp.TLVS.read(resp.tlvs, "sc_interface_version") is None  # type: ignore[attr-defined]


def test_an_empty_message_id_is_handed_on() -> None:
    resp = smpp.decode(bytes.fromhex("0000001180000004000000000000000100"))
    assert resp == smpp.SubmitSmResp(1, message_id="")


def test_unknown_parameters_are_kept_raw() -> None:
    vendor = ((0x1400, b"1101123\0"), (0x1454, b""), (0x3FFF, b"\0"))
    frame = smpp.encode(smpp.SubmitSm(1, tlvs=vendor))
    assert smpp.decode(frame).tlvs == vendor  # type: ignore[attr-defined]


def test_a_parameter_longer_than_the_pdu_costs_only_itself() -> None:
    pdu = smpp.decode(VECTORS["neg__netfors_receipt_tlv_len_wrong"].frame)
    assert isinstance(pdu, smpp.DeliverSm)
    receipt = smpp.receipt(pdu)
    assert receipt is not None
    assert (receipt.message_id, receipt.state) == ("0000003005", MessageState.DELIVERED)


def test_an_unknown_command_is_nacked_and_the_next_one_served() -> None:
    session = ready_client()
    session.receive(VECTORS["stream__bad_pdu_then_good"].frame, 1.0)
    assert written(session) == [smpp.GenericNack(0x0A342EE7, 3), smpp.EnquireLinkResp(0x0A342EE7)]


def test_an_unknown_response_is_never_answered() -> None:
    session = ready_client()
    session.receive(VECTORS["neg__cloudhopper_decodeUnsupportedResponseCommandId"].frame, 1.0)
    assert session.take() == b""


def test_texts_longer_than_the_protocol_allows_are_read() -> None:
    pdu = smpp.decode(VECTORS["outbind__gosmpp_Outbind_L23"].frame)
    assert isinstance(pdu, smpp.Outbind)
    assert pdu.password == "ipassword"
