"""What an SMPP account says and understands, PDU by PDU. Names follow the pains and gotchas they answer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.channels.channel import Ack, Declined, Inbound, Outcome, Report, Throttled, Unreachable, Unsure
from hongyan.channels.smpp_words import Tongue
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding, Language, Split
from hongyan.wire import smpp
from hongyan.wire.smpp import CommandStatus

from .centre import build, deliver, parcel, receipt

PAYLOAD = smpp.TLVS.tag("message_payload")


def tongue(**settings: object) -> Tongue:
    return Tongue(build(2775, **settings).config)


def put(spoken: Tongue, **fields: Any) -> smpp.SubmitSm:
    pdu = spoken.put(parcel(**fields))
    assert isinstance(pdu, smpp.SubmitSm)
    assert smpp.decode(smpp.encode(pdu, 1)) == msgspec.structs.replace(pdu, sequence_number=1)
    return pdu


def report(pdu: smpp.DeliverSm, **settings: object) -> Report:
    heard = tongue(**settings).hear(pdu, None, 1.0)
    assert isinstance(heard, Report)
    return heard


def inbound(pdu: smpp.DeliverSm | smpp.DataSm, **settings: object) -> Inbound:
    heard = tongue(**settings).hear(pdu, None, 1.0)
    assert isinstance(heard, Inbound)
    return heard


# ── submit ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_pdu_is_built_field_by_field_in_the_order_of_the_table() -> None:
    pdu = put(tongue(service_type="VMA", priority=2), octets=b"x", validity_s=90)
    expected = smpp.SubmitSm(
        service_type="VMA",
        source_addr_npi=1,
        source_addr="10690000",
        dest_addr_ton=1,
        dest_addr_npi=1,
        destination_addr="8613800138000",
        priority_flag=2,
        validity_period="000000000130000R",
        registered_delivery=1,
        short_message=b"x",
    )
    assert pdu == expected


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("digits", "8613800138000"),
        ("plus", "+8613800138000"),
        ("double_zero", "008613800138000"),
        ("national", "13800138000"),
    ],
)
def test_gotcha_39_numbers_are_written_as_the_channel_wants_them(form: str, written: str) -> None:
    assert put(tongue(number_form=form, country_code="86")).destination_addr == written


@pytest.mark.parametrize(
    ("sender", "address"),
    [("10690000", (0, 1, "10690000")), ("+44770090", (1, 1, "44770090")), ("Hongyan", (5, 0, "Hongyan"))],
)
def test_letters_make_an_alphanumeric_sender(sender: str, address: tuple[int, int, str]) -> None:
    pdu = put(tongue(), sender=sender)
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr) == address


def test_gotcha_29_gsm7_is_rewritten_where_data_coding_0_is_latin1() -> None:
    at_and_pound = texts.encode("@£", Encoding.GSM7)
    assert put(tongue(), octets=at_and_pound).short_message == b"\x00\x01"
    assert put(tongue(charset_out="latin1"), octets=at_and_pound).short_message == b"@\xa3"


def test_a_character_the_charset_lacks_declines_and_never_becomes_another() -> None:
    euro = texts.encode("€", Encoding.GSM7)
    outcome = tongue(charset_out="latin1").put(parcel(octets=euro))
    assert outcome == Declined("charset", Cause.UNSUPPORTED)


@pytest.mark.parametrize(
    ("encoding", "data_coding"),
    [(Encoding.GSM7, 0), (Encoding.UCS2, 8), (Encoding.LATIN1, 3), (Encoding.ASCII, 1)],
)
def test_each_encoding_has_its_data_coding(encoding: Encoding, data_coding: int) -> None:
    assert put(tongue(), encoding=encoding).data_coding == data_coding


def test_gotcha_30_ucs2_is_big_endian_unless_the_channel_says_little() -> None:
    octets = "中".encode("utf-16-be")
    assert put(tongue(), encoding=Encoding.UCS2, octets=octets).short_message == b"\x4e\x2d"
    little = put(tongue(ucs2_order="little"), encoding=Encoding.UCS2, octets=octets)
    assert little.short_message == b"\x2d\x4e"


@pytest.mark.parametrize(("mode", "header"), [("udh8", "050003340302"), ("udh16", "06080412340302")])
def test_gotcha_34_a_part_carries_a_header_or_sar_parameters_never_both(mode: str, header: str) -> None:
    long = {"octets": b"x", "part_index": 2, "part_count": 3, "reference": 0x1234}
    with_header = put(tongue(split=mode), **long)
    assert with_header.esm_class == smpp.ESM_UDHI
    assert with_header.short_message == bytes.fromhex(header) + b"x"
    assert with_header.tlvs == ()
    with_sar = put(tongue(split="sar"), **long)
    assert (with_sar.esm_class, with_sar.short_message) == (0, b"x")
    assert smpp.TLVS.read(with_sar.tlvs, "sar_msg_ref_num") == 0x1234
    assert smpp.TLVS.read(with_sar.tlvs, "sar_total_segments") == 3
    assert smpp.TLVS.read(with_sar.tlvs, "sar_segment_seqnum") == 2


def test_gotcha_35_a_payload_travels_whole_and_leaves_short_message_empty() -> None:
    pdu = put(tongue(split="payload"), octets=b"x" * 600)
    assert pdu.short_message == b""
    assert pdu.tlvs == ((PAYLOAD, b"x" * 600),)


def test_pain_19_shift_tables_are_announced_even_in_a_single_part() -> None:
    (part,) = texts.split("ğ ş", counting=Counting.INTERNATIONAL, languages=(Language.TURKISH,))
    shift = part.shift
    language = shift.locking << 8 | shift.single
    pdu = put(tongue(), octets=part.octets, language=language)
    assert pdu.esm_class == smpp.ESM_UDHI
    assert pdu.short_message == part.udh(0) + part.octets


@pytest.mark.parametrize(
    ("wanted", "asked"), [("every", [1, 1, 1]), ("first", [1, 0, 0]), ("last", [0, 0, 1])]
)
def test_gotcha_7_reports_are_asked_for_the_parts_the_upstream_reports_on(
    wanted: str, asked: list[int]
) -> None:
    spoken = tongue(report_for=wanted)
    parts = [put(spoken, part_index=index, part_count=3).registered_delivery for index in (1, 2, 3)]
    assert parts == asked
    assert put(spoken).registered_delivery == 1


def test_extra_parameters_go_with_every_submit() -> None:
    pdu = put(tongue(tlvs={"1400": "text:1001", "1401": "c0ffee"}))
    assert pdu.tlvs == ((0x1400, b"1001\0"), (0x1401, b"\xc0\xff\xee"))


def test_validity_can_be_kept_from_an_upstream_that_chokes_on_it() -> None:
    assert put(tongue(validity=False), validity_s=90).validity_period == ""
    assert put(tongue(), validity_s=10**9).validity_period == "0000" + "31" + "235959" + "000R"


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────


def outcome(command_status: int, **settings: object) -> Outcome:
    return tongue(**settings).outcome(smpp.SubmitSmResp(1, command_status, bare=True))


@pytest.mark.parametrize(
    ("command_status", "expected"),
    [
        (CommandStatus.THROTTLED, Throttled(0.0, "THROTTLED (0x58)")),
        (CommandStatus.MSGQFUL, Throttled(0.0, "MSGQFUL (0x14)")),
        (CommandStatus.SYSERR, Unreachable("SYSERR (0x08)")),
        (CommandStatus.INVDSTADR, Declined("INVDSTADR (0x0B)", Cause.INVALID_NUMBER)),
        (0x4AB, Declined("0x000004AB", Cause.UNKNOWN)),
    ],
)
def test_a_status_says_what_follows(command_status: int, expected: Outcome) -> None:
    assert outcome(command_status) == expected


def test_an_account_may_overrule_what_follows_from_a_status() -> None:
    assert isinstance(outcome(0x45, verdicts={"0x45": "unreachable"}), Unreachable)
    assert isinstance(outcome(0x08, verdicts={"8": "unsure"}), Unsure)
    assert outcome(0x45, causes={"0x45": "content_blocked"}) == Declined(
        "SUBMITFAIL (0x45)", Cause.CONTENT_BLOCKED
    )


def test_an_account_may_say_that_a_code_means_delivered() -> None:
    told = report(receipt("1", "UNDELIV", "006"), causes={"UNDELIV/006": "none"})
    assert (told.status, told.cause) == (Status.DELIVERED, Cause.NONE)


def test_gotcha_20_an_error_response_with_a_body_is_an_error_too() -> None:
    with_body = smpp.SubmitSmResp(1, CommandStatus.THROTTLED, message_id="7")
    assert isinstance(tongue().outcome(with_body), Throttled)


def test_a_nack_of_a_submit_is_read_as_its_answer() -> None:
    assert isinstance(tongue().outcome(smpp.GenericNack(1, CommandStatus.INVCMDLEN)), Declined)
    assert isinstance(tongue().outcome(smpp.GenericNack(1, 0)), Unsure)


@given(st.integers(0, 0xFFFF_FFFF))
def test_every_status_has_an_outcome(command_status: int) -> None:
    pdu = smpp.SubmitSmResp(1, command_status, message_id="1")
    assert isinstance(SPOKEN.outcome(pdu), Ack) == (command_status == 0)


SPOKEN = tongue()


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stat", "status", "cause", "final"),
    [
        ("DELIVRD", Status.DELIVERED, Cause.NONE, True),
        ("DELIVERED", Status.DELIVERED, Cause.NONE, True),
        ("EXPIRED", Status.EXPIRED, Cause.EXPIRED, True),
        ("DELETED", Status.UNDELIVERED, Cause.REJECTED, True),
        ("UNDELIV", Status.UNDELIVERED, Cause.UNREACHABLE, True),
        ("FAILED", Status.UNDELIVERED, Cause.UNREACHABLE, True),
        ("REJECTD", Status.UNDELIVERED, Cause.REJECTED, True),
        ("rejected", Status.UNDELIVERED, Cause.REJECTED, True),
        ("UNKNOWN", Status.UNKNOWN, Cause.UNKNOWN, True),
        ("ACCEPTD", Status.SUBMITTED, Cause.NONE, False),
        ("ENROUTE", Status.SUBMITTED, Cause.NONE, False),
        ("BUFFERED", Status.SUBMITTED, Cause.NONE, False),
        ("MK:0001", Status.UNDELIVERED, Cause.INVALID_NUMBER, True),
        ("NEVERSEEN", Status.UNKNOWN, Cause.UNKNOWN, True),
    ],
)
def test_pain_6_every_state_word_makes_a_report(stat: str, status: Status, cause: Cause, final: bool) -> None:
    heard = report(receipt("1", stat))
    assert (heard.status, heard.cause, heard.final, heard.code) == (status, cause, final, stat)


def test_their_error_stands_beside_their_word() -> None:
    assert report(receipt("1", "UNDELIV", "011")).code == "UNDELIV/011"
    assert report(receipt("1", "UNDELIV", "0000")).code == "UNDELIV"


def test_a_known_error_says_more_than_the_word_and_an_account_may_say_even_more() -> None:
    assert report(receipt("1", "UNDELIV", "MK:0001")).cause is Cause.INVALID_NUMBER
    # A bare number means something else at every vendor, so only the account's own table explains it.
    assert report(receipt("1", "UNDELIV", "001")).cause is Cause.UNREACHABLE
    assert report(receipt("1", "UNDELIV", "001"), causes={"001": "absent"}).cause is Cause.ABSENT
    assert report(receipt("1", "UNDELIV", "001"), causes={"UNDELIV/001": "handset"}).cause is Cause.HANDSET


def test_gotcha_5_parameters_go_before_the_text() -> None:
    tlvs = (
        smpp.TLVS.write("receipted_message_id", "2"),
        smpp.TLVS.write("message_state", 2),
        smpp.TLVS.write("network_error_code", b"\3\0\x1b"),
    )
    heard = report(receipt("1", "UNDELIV", tlvs=tlvs))
    assert (heard.upstream_id, heard.status) == ("2", Status.DELIVERED)
    alone = report(deliver(b"", esm_class=4, tlvs=(tlvs[0], smpp.TLVS.write("message_state", 5), tlvs[2])))
    assert (alone.upstream_id, alone.status, alone.code) == ("2", Status.UNDELIVERED, "UNDELIV/3:27")


def test_gotcha_6_an_intermediate_notification_settles_nothing_whatever_its_word() -> None:
    heard = report(receipt("1", "UNDELIV", esm_class=smpp.ESM_INTERMEDIATE))
    assert (heard.status, heard.final) == (Status.SUBMITTED, False)


@pytest.mark.parametrize(
    "text",
    [
        "id:77 stat:DELIVRD",
        "ID:77 SUB:1 DLVRD:1 STAT:DELIVRD ERR:0 TEXT:id:99 stat:UNDELIV",
        "id:77 submit date:141023215253 done date:141023215253 stat:DELIVRD err:000",
        "stat:DELIVRD id:77",
        "id: 77, stat: DELIVRD",
    ],
)
def test_gotcha_3_receipts_are_read_however_they_are_written(text: str) -> None:
    heard = report(deliver(text.encode(), esm_class=4))
    assert (heard.upstream_id, heard.status) == ("77", Status.DELIVERED)


def test_gotcha_4_a_receipt_in_ucs2_is_read() -> None:
    octets = "id:77 stat:DELIVRD err:000 text:".encode("utf-16-be")
    assert report(deliver(octets, esm_class=4, data_coding=8)).upstream_id == "77"
    assert report(deliver(b"id:77 stat:DELIVRD", esm_class=4, data_coding=8)).upstream_id == "77"


def test_pain_6_a_receipt_nobody_can_read_is_still_no_inbound() -> None:
    heard = report(deliver(b"\xff\x00garbage", esm_class=4))
    assert (heard.upstream_id, heard.status) == ("", Status.UNKNOWN)


@pytest.mark.parametrize("esm_class", [0x00, 0x08, 0x10, 0x40 & 0])
def test_no_handset_can_forge_a_report(esm_class: int) -> None:
    forged = receipt("1", esm_class=esm_class)
    assert inbound(forged).text == forged.short_message.decode()


def test_an_account_may_trust_texts_where_its_centre_forgets_the_bits() -> None:
    assert report(receipt("1", esm_class=0), receipts_by_text=True).upstream_id == "1"
    assert inbound(deliver(b"my id: 5"), receipts_by_text=True).text == "my id: 5"


def test_a_report_by_data_sm_is_a_report_and_is_answered_in_kind() -> None:
    tlvs = (smpp.TLVS.write("receipted_message_id", "9"), smpp.TLVS.write("message_state", 2))
    heard = SPOKEN.hear(smpp.DataSm(4, source_addr="8613800138000", esm_class=4, tlvs=tlvs), None, 1.0)
    assert isinstance(heard, Report)
    assert heard.upstream_id == "9"
    assert heard.slot == (None, smpp.DataSmResp(4))


# ── inbound ──────────────────────────────────────────────────────────────────────────────────────────


def test_gotcha_29_at_and_extension_are_read_by_the_charset_of_the_channel() -> None:
    assert inbound(deliver(b"a\x00\x1b\x65")).text == "a@€"
    assert inbound(deliver(b"a@", data_coding=0), charset_in="latin1").text == "a@"
    assert inbound(deliver(b"caf\xe9", data_coding=3)).text == "café"


def test_gotcha_32_a_surrogate_pair_is_one_character() -> None:
    assert inbound(deliver("😀".encode("utf-16-be"), data_coding=8)).text == "😀"


def test_gotcha_30_a_byte_order_mark_is_obeyed_and_dropped() -> None:
    assert inbound(deliver("\ufeff中文".encode("utf-16-le"), data_coding=8)).text == "中文"
    assert inbound(deliver("\ufeff中文".encode("utf-16-be"), data_coding=8)).text == "中文"


@pytest.mark.parametrize("data_coding", [8, 0x18, 0x19, 0xE0])
def test_ucs2_has_many_numbers(data_coding: int) -> None:
    assert inbound(deliver("退订".encode("utf-16-be"), data_coding=data_coding)).text == "退订"


@pytest.mark.parametrize("data_coding", [0x10, 0xF0, 0xF1, 0xC8])
def test_so_has_gsm7(data_coding: int) -> None:
    assert inbound(deliver(b"\x00", data_coding=data_coding)).text == "@"


@pytest.mark.parametrize(
    ("header", "reference", "octets"), [("0500032a0302", 0x2A, 1), ("0608041234 0302", 0x1234, 2)]
)
def test_pain_18_both_widths_of_header_are_read_and_never_shown(
    header: str, reference: int, octets: int
) -> None:
    heard = inbound(deliver(bytes.fromhex(header) + b"part", esm_class=smpp.ESM_UDHI))
    assert heard.text == "part"
    assert (heard.part_index, heard.part_count) == (2, 3)
    assert (heard.reference, heard.reference_octets) == (reference, octets)


def test_sar_parameters_and_payload_of_inbound_are_read() -> None:
    tlvs = (
        smpp.TLVS.write("sar_msg_ref_num", 7),
        smpp.TLVS.write("sar_total_segments", 2),
        smpp.TLVS.write("sar_segment_seqnum", 1),
        (PAYLOAD, b"hello"),
    )
    heard = inbound(deliver(b"", tlvs=tlvs))
    assert (heard.text, heard.reference, heard.part_index, heard.part_count) == ("hello", 7, 1, 2)


@pytest.mark.parametrize(
    ("written", "ton", "number"),
    [
        ("8613800138000", 1, "+8613800138000"),
        ("+8613800138000", 0, "+8613800138000"),
        ("008613800138000", 0, "+8613800138000"),
        ("13800138000", 2, "+8613800138000"),
        ("Bank", 5, "Bank"),
    ],
)
def test_gotcha_39_numbers_become_e164_inside(written: str, ton: int, number: str) -> None:
    heard = inbound(deliver(b"hi", source_addr=written, source_addr_ton=ton), country_code="86")
    assert heard.number == number
    assert heard.access_number == "10690000"


@given(
    st.binary(max_size=160),
    st.integers(0, 255),
    st.integers(0, 255),
    st.lists(st.tuples(st.sampled_from(sorted(smpp.TLVS.names)), st.binary(max_size=9)), max_size=4),
)
def test_no_deliver_sm_can_break_the_link(
    octets: bytes, esm_class: int, data_coding: int, tlvs: list[tuple[int, bytes]]
) -> None:
    pdu = deliver(octets, esm_class=esm_class, data_coding=data_coding, tlvs=tuple(tlvs))
    heard = SPOKEN.hear(pdu, None, 1.0)
    is_report = esm_class & smpp.ESM_TYPE_MASK in (smpp.ESM_RECEIPT, smpp.ESM_INTERMEDIATE)
    assert isinstance(heard, Report if is_report else Inbound)


@given(st.text(max_size=40), st.sampled_from([Split.UDH8, Split.UDH16, Split.SAR]))
def test_what_is_sent_in_parts_is_heard_in_the_same_parts(text: str, mode: Split) -> None:
    spoken = TONGUES[mode]
    parts = texts.split(text, counting=Counting.INTERNATIONAL, mode=mode)
    for part in parts:
        pdu = spoken.put(
            parcel(
                octets=part.octets,
                encoding=part.encoding,
                part_index=part.index,
                part_count=part.total,
                reference=9,
            )
        )
        assert isinstance(pdu, smpp.SubmitSm)
        back = deliver(pdu.short_message, esm_class=pdu.esm_class, data_coding=pdu.data_coding, tlvs=pdu.tlvs)
        heard = spoken.hear(back, None, 1.0)
        assert isinstance(heard, Inbound)
        assert (heard.part_index, heard.part_count) == (part.index, part.total)
        if not text.startswith(("\ufeff", "\ufffe")):  # read as a byte order mark
            assert heard.text == texts.decode(part.octets, part.encoding)


TONGUES = {mode: tongue(split=mode.value) for mode in Split}


def test_a_text_the_charset_lacks_is_cut_as_ucs2() -> None:
    latin1 = build(2775, charset_out="latin1")
    assert latin1.cut("pound £", Counting.INTERNATIONAL)[0].encoding is Encoding.GSM7
    assert latin1.cut("euro €", Counting.INTERNATIONAL)[0].encoding is Encoding.UCS2
    assert build(2775).cut("euro €", Counting.INTERNATIONAL)[0].encoding is Encoding.GSM7
