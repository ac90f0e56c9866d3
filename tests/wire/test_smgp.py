"""SMGP PDUs, logins, message ids, reports and sessions, and what its peers do that no document says."""

import json
import random
import runpy
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from hongyan.wire import fields, smgp
from hongyan.wire.fields import (
    LocalProtocolError,
    RemoteProtocolError,
)
from hongyan.wire.session import (
    Answered,
    Closed,
    Dialect,
    End,
    Event,
    Limits,
    LoggedIn,
    LoginRefused,
    LoginRequested,
    Received,
    Role,
    Session,
    State,
    Stray,
    Unreadable,
)
from hongyan.wire.smgp import Status

from .strategies import U4, chunked, fields_of, fixed_texts

FUZZ_WIRE = Path(__file__).parents[2] / "bench" / "fuzz_wire.py"
CHINA = timezone(timedelta(hours=8))
AT = datetime(2026, 3, 1, 0, 0, 0, tzinfo=CHINA)
SECRET = "shared-sec"
MSG_ID = bytes.fromhex("01006101161700012345")
BOTH_LAYOUTS = pytest.mark.parametrize("version", [smgp.VERSION, smgp.VERSION_13])


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────────


class Vector(NamedTuple):
    """Octets seen in public code or on a line, and what they mean."""

    name: str
    kind: str  # pdu, raw, negative: whole PDUs; report_body: the content of a Deliver
    octets: bytes
    fields: dict[str, Any]


def load() -> list[Vector]:
    rows = json.loads((Path(__file__).parent / "vectors" / "smgp.json").read_text("utf-8"))
    return [Vector(row["name"], row["kind"], bytes.fromhex(row["hex"]), row["fields"]) for row in rows]


VECTORS = {vector.name: vector for vector in load()}
PDU_VECTORS = [vector for vector in VECTORS.values() if vector.kind == "pdu"]
REPORT_VECTORS = [vector for vector in VECTORS.values() if vector.kind == "report_body"]
FRAMES = [vector.octets for vector in PDU_VECTORS]
RENAMED = {"sequence_id": "sequence_number"}
COUNTED_BY = {"msg_length": "msg_content", "dest_term_id_count": "dest_term_id"}


def shown(value: object) -> object:
    """A field's value as the vectors write it."""
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("vector", PDU_VECTORS, ids=lambda vector: vector.name)
def test_a_public_pdu_decodes_to_its_fields(vector: Vector) -> None:
    pdu = smgp.decode(vector.octets)
    assert type(pdu) is smgp.PDUS[vector.fields["command_id"]]
    for name, value in vector.fields.items():
        if name in COUNTED_BY:
            assert len(getattr(pdu, COUNTED_BY[name])) == value
        elif name not in ("command", "command_id", "tlvs", "_secret"):
            assert shown(getattr(pdu, RENAMED.get(name, name))) == value, name
    tlvs = vector.fields.get("tlvs", [])
    assert [(tag, value.hex()) for tag, value in getattr(pdu, "tlvs", ())] == [
        (tlv["tag"], tlv["raw"]) for tlv in tlvs
    ]
    assert [smgp.TLVS.read(getattr(pdu, "tlvs", ()), tlv["name"]) for tlv in tlvs] == [
        tlv["value"] for tlv in tlvs
    ]


@pytest.mark.parametrize("vector", PDU_VECTORS, ids=lambda vector: vector.name)
def test_a_public_pdu_is_written_again_bit_for_bit(vector: Vector) -> None:
    assert smgp.encode(smgp.decode(vector.octets)) == vector.octets


def test_vectors_name_parameters_as_we_do() -> None:
    tlvs = [tlv for vector in PDU_VECTORS for tlv in vector.fields.get("tlvs", [])]
    assert len(tlvs) > 10
    assert all(smgp.TLVS.names[tlv["tag"]] == tlv["name"] for tlv in tlvs)


@pytest.mark.parametrize(
    "vector", [vector for vector in PDU_VECTORS if "_secret" in vector.fields], ids=lambda vector: vector.name
)
def test_public_logins_prove_their_secret_and_no_other(vector: Vector) -> None:
    login = smgp.decode(vector.octets)
    assert isinstance(login, smgp.Login)
    assert smgp.authenticates(login, vector.fields["_secret"])
    assert not smgp.authenticates(login, "another")


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────

LISTED: dict[Any, st.SearchStrategy[Any]] = {
    "dest_term_id": st.lists(fixed_texts(21), max_size=4).map(tuple),
    "reserve": st.binary(min_size=8, max_size=8),
    "fixed_fee": st.just(""),
}


def pdus_of(pdu_class: type[smgp.Pdu]) -> st.SearchStrategy[smgp.Pdu]:
    return st.builds(pdu_class, sequence_number=U4, **fields_of(pdu_class, LISTED))


UNKNOWN = st.builds(smgp.UnknownPdu, U4, st.integers(8, 2**31 - 1), st.binary(max_size=40))
PDUS = st.one_of([pdus_of(pdu_class) for pdu_class in smgp.PDUS.values()]) | UNKNOWN


@pytest.mark.parametrize("pdu_class", [*smgp.PDUS.values(), smgp.Submit13])
@given(data=st.data())
@settings(max_examples=60)
def test_every_pdu_reads_what_it_wrote(data: st.DataObject, pdu_class: type[smgp.Pdu]) -> None:
    pdu = data.draw(pdus_of(pdu_class))
    version = smgp.VERSION_13 if pdu_class is smgp.Submit13 else smgp.VERSION
    assert smgp.decode(smgp.encode(pdu, version=version), version) == pdu


@given(PDUS, st.integers(1, smgp.SEQUENCE_NUMBER_MAX))
def test_a_given_sequence_number_replaces_the_pdus_own(pdu: smgp.Pdu, sequence_number: int) -> None:
    assert smgp.decode(smgp.encode(pdu, sequence_number)).sequence_number == sequence_number


def test_a_memoryview_decodes_like_bytes() -> None:
    assert smgp.decode(memoryview(FRAMES[0])) == smgp.decode(FRAMES[0])


@pytest.mark.parametrize(
    ("destinations", "content"), [(1, b""), (1, bytes(4)), (2, bytes(14)), (100, bytes(140))]
)
def test_a_submit_has_the_size_the_document_says(destinations: int, content: bytes) -> None:
    numbers = tuple(f"189000{number:05}" for number in range(destinations))
    frame = smgp.encode(smgp.Submit(dest_term_id=numbers, msg_content=content))
    assert len(frame) == 126 + 21 * destinations + len(content)
    decoded = smgp.decode(frame)
    assert isinstance(decoded, smgp.Submit)
    assert decoded.dest_term_id == numbers


def test_a_forward_names_its_destination_before_its_payer() -> None:
    frame = smgp.encode(smgp.Forward(dest_term_id="1890", charge_term_id="1891", msg_content=b"hi"))
    assert len(frame) == 174 + 2
    assert (frame[123:127], frame[144:148], frame[165:168]) == (b"1890", b"1891", b"\2hi")


def test_an_unknown_request_is_kept_whole() -> None:
    frame = bytes.fromhex("0000000e0000000a000000070f0e")
    pdu = smgp.decode(frame)
    assert pdu == smgp.UnknownPdu(7, 0x0A, b"\x0f\x0e")
    assert smgp.encode(pdu) == frame


SUBMIT = smgp.Submit(5, dest_term_id=("18900000001",), msg_content=b"text")


def relong(frame: bytes) -> bytes:
    """The same frame with its length set right."""
    return len(frame).to_bytes(4, "big") + frame[4:]


@BOTH_LAYOUTS
def test_a_submit_cut_before_the_end_of_its_content_is_their_error(version: int) -> None:
    pdu = structs.replace(smgp.submit_class(version)(), dest_term_id=("1",) * 3, msg_content=b"text")
    frame = smgp.encode(pdu, version=version)
    for octets in range(smgp.HEADER.size, len(frame) - 8):
        with pytest.raises(RemoteProtocolError):
            smgp.decode(relong(frame[:octets]), version)


@pytest.mark.parametrize("frame", [b"", bytes(11), smgp.encode(SUBMIT)[:-1], smgp.encode(SUBMIT) + b"\0"])
def test_a_length_that_is_not_the_frames_is_their_error(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        smgp.decode(frame)


@pytest.mark.parametrize(
    "pdu",
    [
        smgp.Login(client_id="123456789"),
        smgp.Login(authenticator_client=bytes(15)),
        smgp.Submit(dest_term_id=("1",) * 101),
        smgp.Submit(dest_term_id=("1" * 22,)),
        smgp.Submit(dest_term_id=("鸿",)),
        smgp.Submit(msg_content=bytes(141)),
        smgp.Submit(reserve=bytes(7)),
        smgp.Submit(priority=256),
        smgp.Submit(service_id="a\0b"),
        smgp.Submit(tlvs=((0x12, bytes(65_536)),)),
        smgp.SubmitResp(msg_id=bytes(9)),
        smgp.SubmitResp(status=-1),
        smgp.Deliver(recv_time="202611250000000"),
        smgp.ActiveTest(-1),
        smgp.ActiveTest(2**32),
        smgp.UnknownPdu(1, 9, bytes(65_536)),
        fields.Pdu(),
    ],
)
def test_what_smgp_cannot_carry_is_our_error(pdu: fields.Pdu) -> None:
    with pytest.raises(LocalProtocolError):
        smgp.encode(pdu)


def test_an_unknown_status_keeps_its_number() -> None:
    assert Status(75).name == "DAILY_QUOTA"
    assert Status(200) == 200
    assert Status(200).name == "200"
    assert 200 not in Status.__members__.values()
    for number in (-1, 2**32):
        with pytest.raises(ValueError, match="not a valid"):
            Status(number)


def test_what_proves_a_secret_is_never_shown() -> None:
    login = smgp.login("10659000", SECRET, AT)
    response = smgp.login_resp(login, SECRET)
    assert repr(login.authenticator_client) not in repr(login)
    assert repr(response.authenticator_server) not in repr(response)
    assert SECRET not in repr(login)
    assert "10659000" in repr(login)


@pytest.mark.parametrize(
    ("request_pdu", "response"),
    [
        (smgp.Submit(9), smgp.SubmitResp(9, msg_id=MSG_ID, status=3)),
        (smgp.Submit13(9), smgp.SubmitResp(9, msg_id=MSG_ID, status=3)),
        (smgp.Deliver(9, MSG_ID[::-1]), smgp.DeliverResp(9, msg_id=MSG_ID[::-1], status=3)),
        (smgp.Forward(9, MSG_ID[::-1]), smgp.ForwardResp(9, msg_id=MSG_ID[::-1], status=3)),
        (smgp.Login(9), smgp.LoginResp(9, status=3)),
        (smgp.ActiveTest(9), smgp.ActiveTestResp(9)),
        (smgp.Exit(9), smgp.ExitResp(9)),
        (smgp.Query(9), None),
        (smgp.SubmitResp(9), None),
        (smgp.UnknownPdu(9, 8), None),
    ],
)
def test_a_response_repeats_what_its_request_named(request_pdu: smgp.Pdu, response: smgp.Pdu | None) -> None:
    assert smgp.respond(request_pdu, 3, msg_id=MSG_ID) == response


def test_a_query_is_answered_under_its_own_words() -> None:
    query = smgp.Query(9, "20261125", 1, "SVC")
    assert smgp.respond(query) == smgp.QueryResp(9, False, "20261125", 1, "SVC")


# ── logins ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_timestamp_has_ten_digits_even_early_in_the_year() -> None:
    login = smgp.login("10659000", SECRET, AT)
    assert login.timestamp == 301_000_000
    assert login.authenticator_client == smgp.authenticator_client("10659000", SECRET, 301_000_000)
    assert bytes.fromhex("11f0e540") in smgp.encode(login)


def test_the_authenticator_is_the_md5_of_the_document() -> None:
    captured = VECTORS["login_mode2_ts__gosmgp"].fields
    authenticator = smgp.authenticator_client("10659000", SECRET, captured["timestamp"])
    assert authenticator.hex() == captured["authenticator_client"]


@given(fixed_texts(8), st.text(max_size=15), U4, st.booleans())
def test_a_login_proves_its_secret_padded_or_not(
    client_id: str, secret: str, timestamp: int, padded: bool
) -> None:
    authenticator = smgp.authenticator_client(client_id, secret, timestamp, padded=padded)
    login = smgp.decode(smgp.encode(smgp.Login(1, client_id, authenticator, 2, timestamp)))
    assert isinstance(login, smgp.Login)
    assert smgp.authenticates(login, secret)
    assert not smgp.authenticates(login, secret + "x")


def test_the_server_proves_its_secret_too() -> None:
    login = smgp.decode(VECTORS["login__captured_smsgate"].octets)
    assert isinstance(login, smgp.Login)
    response = smgp.login_resp(login, SECRET)
    assert (response.sequence_number, response.status) == (login.sequence_number, 0)
    assert smgp.authenticates_server(response, login, SECRET)
    assert not smgp.authenticates_server(response, login, "another")
    assert not smgp.authenticates_server(smgp.LoginResp(), login, SECRET)


def test_an_id_that_cannot_be_written_is_our_error() -> None:
    with pytest.raises(LocalProtocolError):
        smgp.login("鸿雁", SECRET, AT)


# ── message ids ──────────────────────────────────────────────────────────────────────────────────────


@given(
    st.integers(0, 999_999).map("{:06}".format),
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)),  # noqa: DTZ001 - bounds are naive
    st.integers(0, 999_999),
)
def test_a_message_id_splits_into_what_it_was_made_of(gateway: str, at: datetime, counter: int) -> None:
    msg_id = smgp.make_msg_id(gateway, at, counter)
    assert len(msg_id) == 10
    assert smgp.split_msg_id(msg_id) == smgp.MsgIdParts(gateway, f"{at:%m%d%H%M}", counter)


def test_the_message_id_of_the_document_is_read() -> None:
    assert smgp.split_msg_id(MSG_ID) == smgp.MsgIdParts("010061", "01161700", 12345)


@pytest.mark.parametrize(
    ("gateway", "counter"),
    [("01006", 0), ("0100611", 0), ("01006a", 0), ("010061", 1_000_000), ("010061", -1)],
)
def test_parts_that_are_no_message_id_are_our_error(gateway: str, counter: int) -> None:
    with pytest.raises(LocalProtocolError):
        smgp.make_msg_id(gateway, AT, counter)


def test_the_ids_of_a_group_count_in_decimal_and_wrap() -> None:
    first = bytes.fromhex("01006101161700999998")
    assert [one.hex()[-6:] for one in smgp.group_ids(first, 4)] == ["999998", "999999", "000000", "000001"]
    assert {one[:7] for one in smgp.group_ids(first, 4)} == {first[:7]}
    assert smgp.group_ids(MSG_ID, 1) == (MSG_ID,)


def test_an_id_that_is_not_bcd_names_one_message_only() -> None:
    opaque = bytes.fromhex("6495c36ac4ea6b00000b")
    assert smgp.split_msg_id(opaque) is None
    assert smgp.group_ids(opaque, 3) == (opaque,)


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────


def read(content: bytes) -> smgp.Report:
    report = smgp.report(smgp.Deliver(is_report=1, msg_content=content))
    assert report is not None
    return report


DELIVERED = smgp.Report(MSG_ID.hex(), "DELIVRD", "000", "2611250328", "2611250329")


def test_a_report_is_written_as_the_document_has_it() -> None:
    content = smgp.write_report(DELIVERED, "你好".encode("gbk"))
    assert content == (
        b"id:" + MSG_ID + b" sub:001 dlvrd:001 submit date:2611250328 done date:2611250329"
        b" stat:DELIVRD err:000 text:004" + "你好".encode("gbk").ljust(17, b"\0")
    )
    assert len(content) == 122
    assert b" dlvrd:000 " in smgp.write_report(structs.replace(DELIVERED, stat="UNDELIV", error="006"))


@given(
    st.binary(min_size=10, max_size=10),
    st.sampled_from(["DELIVRD", "UNDELIV", "EXPIRED", "MK:0012", "SENT"])
    | st.from_regex(r"[A-Z]{1,7}", fullmatch=True),
    st.from_regex(r"[0-9A-Za-z]{3}", fullmatch=True),
    st.from_regex(r"[0-9]{10}", fullmatch=True),
    st.binary(max_size=200),
)
def test_a_report_reads_what_it_wrote(msg_id: bytes, stat: str, error: str, date: str, text: bytes) -> None:
    report = smgp.Report(msg_id.hex(), stat, error, date, date[::-1])
    content = smgp.write_report(report, text)
    assert len(content) == 122
    assert read(content) == report


@pytest.mark.parametrize(
    "report",
    [
        structs.replace(DELIVERED, msg_id="0100"),
        structs.replace(DELIVERED, msg_id=" " * 20),
        structs.replace(DELIVERED, msg_id="x" * 20),
        structs.replace(DELIVERED, stat="UNDELIVERABLE"),
        structs.replace(DELIVERED, stat="鸿雁"),
        structs.replace(DELIVERED, error="1"),
        structs.replace(DELIVERED, submit_date=""),
        structs.replace(DELIVERED, done_date="261125032900"),
    ],
)
def test_a_report_that_does_not_fit_is_our_error(report: smgp.Report) -> None:
    with pytest.raises(LocalProtocolError):
        smgp.write_report(report)


@given(
    st.binary(min_size=10, max_size=10),
    st.from_regex(r"[A-Z]{1,8}|M[A-N]:[0-9]{4}", fullmatch=True),
    st.from_regex(r"[0-9A-Fa-z]{1,4}", fullmatch=True),
    st.binary(max_size=20),
)
def test_both_ways_to_read_the_common_report_agree(msg_id: bytes, stat: str, error: str, text: bytes) -> None:
    head, tail = b"id:" + msg_id, f"stat:{stat} err:{error} text:".encode() + text
    dates = b"submit date:2611250328 done date:2611250329 "
    common = read(head + b" sub:001 dlvrd:001 " + dates + tail)
    scanned = read(head + b"  sub:001 dlvrd:001 " + dates + tail)
    assert common == scanned == smgp.Report(msg_id.hex(), stat, error, "2611250328", "2611250329")


def test_no_handset_can_forge_a_report() -> None:
    content = smgp.write_report(DELIVERED)
    assert smgp.report(smgp.Deliver(is_report=0, msg_content=content)) is None


def test_the_words_of_the_message_are_no_keys() -> None:
    content = b"id:" + MSG_ID + b" stat:UNDELIV err:006 text:stat:DELIVRD err:000"
    assert (read(content).stat, read(content).error) == ("UNDELIV", "006")


@given(st.binary(max_size=255), st.sampled_from([b"", b"id:", b"id:" + MSG_ID + b" "]))
def test_no_report_is_too_strange(content: bytes, head: bytes) -> None:
    assert len(read((head + content)[:255]).msg_id) in (0, 20)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────

LIMITS = Limits(window_size=4)
LOGIN = smgp.login("10659000", SECRET, AT)


def client(dialect: Dialect = smgp.DIALECT) -> Session:
    return Session(dialect, Role.CLIENT, LIMITS, now_s=0.0)


def server(dialect: Dialect = smgp.DIALECT) -> Session:
    return Session(dialect, Role.SERVER, LIMITS, now_s=0.0)


def ready_client(dialect: Dialect = smgp.DIALECT) -> Session:
    session = client(dialect)
    session.login(LOGIN, 0.0)
    session.take()
    session.receive(smgp.encode(smgp.login_resp(LOGIN, SECRET), 1), 0.0)
    assert session.state is State.READY
    return session


def ready_server(dialect: Dialect = smgp.DIALECT, login: smgp.Login = LOGIN) -> Session:
    session = server(dialect)
    (asked,) = session.receive(smgp.encode(login, 1), 0.0)
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, smgp.Login)
    session.accept(smgp.login_resp(asked.pdu, SECRET), 0.0)
    session.take()
    return session


def written(session: Session, version: int = smgp.VERSION) -> list[fields.Pdu]:
    frames = fields.Framer(smgp.HEADER.size).feed(session.take())
    return [smgp.decode(frame, version) for frame in frames]


def passed(source: Session, target: Session, now_s: float = 0.0) -> list[Event]:
    return target.receive(source.take(), now_s)


@BOTH_LAYOUTS
def test_a_message_travels_from_login_to_exit(version: int) -> None:
    sp, gateway = client(smgp.dialect(version)), server()
    sp.login(smgp.login("10659000", SECRET, AT, version=version), 0.0)
    (asked,) = passed(sp, gateway)
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, smgp.Login)
    assert smgp.authenticates(asked.pdu, SECRET)
    gateway.accept(smgp.login_resp(asked.pdu, SECRET), 0.0, smgp.dialect(asked.pdu.client_version))
    (welcome,) = passed(gateway, sp)
    assert isinstance(welcome, LoggedIn)

    submit = smgp.submit_class(version)(dest_term_id=("18900000001",), msg_content=b"hi")
    number = sp.send(submit, 1.0, about="part 1")
    assert passed(sp, gateway, 1.0) == [Received(structs.replace(submit, sequence_number=number))]
    gateway.answer(smgp.SubmitResp(number, msg_id=MSG_ID), 1.5)
    assert passed(gateway, sp, 1.5) == [
        Answered(number, "part 1", smgp.SubmitResp(number, msg_id=MSG_ID), 0.5)
    ]

    number = gateway.send(smgp.Deliver(is_report=1, msg_content=smgp.write_report(DELIVERED)), 2.0)
    (reported,) = passed(gateway, sp, 2.0)
    assert isinstance(reported, Received)
    assert isinstance(reported.pdu, smgp.Deliver)
    assert smgp.report(reported.pdu) == DELIVERED
    answer = smgp.respond(reported.pdu)
    assert answer is not None
    sp.answer(answer, 2.5)
    assert passed(sp, gateway, 2.5) == [Answered(number, None, smgp.DeliverResp(number), 0.5)]

    sp.logout(3.0)
    assert passed(sp, gateway, 3.0) == [Closed(End.PEER_LOGGED_OUT, "")]
    assert passed(gateway, sp, 3.0) == [Closed(End.LOGGED_OUT, "")]


@pytest.mark.parametrize("ready", [ready_client, ready_server])
@given(
    drawn=st.lists(PDUS.map(smgp.encode) | st.sampled_from(FRAMES) | st.binary(max_size=24), max_size=6)
    .map(b"".join)
    .flatmap(lambda octets: st.tuples(st.just(octets), chunked(octets)))
)
@settings(max_examples=60)
def test_any_split_gives_the_same_events_and_answers(
    drawn: tuple[bytes, list[bytes]], ready: Callable[[], Session]
) -> None:
    octets, chunks = drawn
    whole, split = ready(), ready()
    for session in (whole, split):
        session.send(smgp.Deliver() if ready is ready_server else SUBMIT, 0.0, about="a")
    events = whole.receive(octets, 1.0)
    assert [event for chunk in chunks for event in split.receive(chunk, 1.0)] == events
    assert whole.take() == split.take()


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_garbage_raises(chunks: list[bytes]) -> None:
    for session in (client(), server(), ready_client(), ready_server()):
        for chunk in chunks:
            session.receive(chunk, 1.0)


@pytest.mark.parametrize("refusal", [smgp.LoginResp(1, status=21), smgp.LoginResp(1, bare=True)])
def test_a_refused_login_ends_the_session(refusal: smgp.LoginResp) -> None:
    session = client()
    session.login(LOGIN, 0.0)
    refused, closed = session.receive(smgp.encode(refusal), 1.0)
    assert isinstance(refused, LoginRefused)
    assert closed == Closed(End.LOGIN_REFUSED, "")


@pytest.mark.parametrize("session", [client(), server()])
def test_a_request_before_login_is_refused(session: Session) -> None:
    assert session.receive(smgp.encode(SUBMIT), 0.0) == []
    assert written(session) == [smgp.SubmitResp(5, status=Status.AUTHENTICATION)]


def test_a_second_login_is_refused_and_the_first_stands() -> None:
    session = ready_server()
    assert session.receive(smgp.encode(LOGIN, 2), 0.0) == []
    assert written(session) == [smgp.LoginResp(2, status=Status.COMMAND)]
    assert session.state is State.READY


@pytest.mark.parametrize(
    ("mode", "request_pdu", "allowed"),
    [
        (smgp.LoginMode.SEND, SUBMIT, True),
        (smgp.LoginMode.RECEIVE, SUBMIT, False),
        (smgp.LoginMode.BOTH, smgp.Query(5), True),
        (smgp.LoginMode.BOTH, smgp.Deliver(5), False),
        (smgp.LoginMode.BOTH, smgp.Forward(5), False),
    ],
)
def test_the_mode_of_the_login_decides_what_may_be_asked(
    mode: smgp.LoginMode, request_pdu: smgp.Pdu, allowed: bool
) -> None:
    session = ready_server(login=structs.replace(LOGIN, login_mode=mode))
    assert session.receive(smgp.encode(request_pdu), 0.0) == ([Received(request_pdu)] if allowed else [])
    assert bool(session.take()) is not allowed


def test_only_who_came_to_receive_is_delivered_to() -> None:
    ready_server(login=structs.replace(LOGIN, login_mode=smgp.LoginMode.RECEIVE)).send(smgp.Deliver(), 0.0)
    with pytest.raises(LocalProtocolError):
        ready_server(login=structs.replace(LOGIN, login_mode=smgp.LoginMode.SEND)).send(smgp.Deliver(), 0.0)


@pytest.mark.parametrize(
    ("frame", "response"),
    [
        (smgp.encode(SUBMIT)[:50], smgp.SubmitResp(5, status=Status.STRUCTURE)),
        (smgp.encode(SUBMIT)[:-10], smgp.SubmitResp(5, status=Status.MSG_LENGTH)),
        (
            smgp.encode(smgp.Deliver(5, MSG_ID))[:40],
            smgp.DeliverResp(5, msg_id=MSG_ID, status=Status.STRUCTURE),
        ),
        (smgp.encode(LOGIN, 5)[:20], smgp.LoginResp(5, status=Status.STRUCTURE)),
    ],
)
def test_an_unreadable_request_gets_its_own_response(frame: bytes, response: smgp.Pdu) -> None:
    session = ready_client()
    (event,) = session.receive(relong(frame), 1.0)
    assert isinstance(event, Unreadable)
    assert written(session) == [response]


def test_an_unreadable_query_or_response_and_a_lost_stream_get_none() -> None:
    session = ready_client()
    for pdu in (smgp.Query(5), smgp.SubmitResp(5)):
        (event,) = session.receive(relong(smgp.encode(pdu)[:20]), 1.0)
        assert isinstance(event, Unreadable)
    (closed,) = session.receive(bytes(12), 1.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.BROKEN
    assert session.take() == b""


def test_an_unknown_request_stays_unanswered_and_the_next_one_is_served() -> None:
    session = ready_client()
    unknown = smgp.UnknownPdu(7, 0x0A, b"?")
    assert session.receive(smgp.encode(unknown) + smgp.encode(smgp.ActiveTest(8)), 1.0) == [Stray(unknown)]
    assert written(session) == [smgp.ActiveTestResp(8)]


# ── gotchas: what SMGP peers do that the document does not say ───────────────────────────────────────


@pytest.mark.parametrize(
    "msg_id", [bytes(10), b"\x01\0abc\0\xff\xfe\0 ", bytes.fromhex("6495c36ac4ea6b00000b")]
)
def test_message_ids_contain_nuls_blanks_and_octets_that_are_no_digits(msg_id: bytes) -> None:
    response = smgp.decode(smgp.encode(smgp.SubmitResp(1, msg_id=msg_id)))
    assert isinstance(response, smgp.SubmitResp)
    assert response.msg_id == msg_id
    assert read(smgp.write_report(structs.replace(DELIVERED, msg_id=msg_id.hex()))).msg_id == msg_id.hex()


@pytest.mark.parametrize("vector", REPORT_VECTORS, ids=lambda vector: vector.name)
def test_every_public_report_layout_is_read(vector: Vector) -> None:
    report = read(vector.octets)
    assert report.msg_id == vector.fields["id"]
    assert (report.stat, report.error) == (vector.fields["stat"], vector.fields["err"])
    for name in ("submit_date", "done_date"):
        assert getattr(report, name) == vector.fields.get(name, getattr(report, name))
        assert len(getattr(report, name)) == 10
        assert getattr(report, name).isdecimal()


@pytest.mark.parametrize(
    "name",
    [
        "deliver_report_delivrd__go_smgp",
        "deliver_report_undeliv_submit_date__gosmgp",
        "deliver__captured_smsgate",
    ],
)
def test_every_public_deliver_that_is_a_report_is_read(name: str) -> None:
    deliver = smgp.decode(VECTORS[name].octets)
    assert isinstance(deliver, smgp.Deliver)
    report = smgp.report(deliver)
    assert report is not None
    assert report.msg_id == deliver.msg_content[3:13].hex()
    assert (report.stat, report.error) in {("DELIVRD", "000"), ("UNDELIV", "006")}
    assert len(report.submit_date) == len(report.done_date) == 10


@pytest.mark.parametrize(
    "rest",
    [
        b" sub:001 dlvrd:001 submit date:2611250328 done date:2611250329 stat:DELIVRD err:000 text:",
        b" sub:001 dlvrd:001 Submit date:2611250328 done date:2611250329 stat:DELIVRD err:000 Text:\0\0",
        b"sub:001 dlvrd:001 submit_date:2611250328 done_date:2611250329 stat:DELIVRD err:000 txt:\xd6\xd0\xb9",
        b"sSub:001sDlvrd:000sSubmit_date:2611250328sDone_date:2611250329sStat:DELIVRDsErr:000sText:stat:X",
        b"sub:001dlvrd:001submit date:2611250328done date:2611250329stat:DELIVRDerr:000text:err:9",
        b" done date:2611250329 err:000 stat:DELIVRD submitdate:2611250328",
        b" STAT: DELIVRD, ERR: 000, SUBMIT DATE: 2611250328, DONE DATE: 2611250329\0\0",
    ],
)
def test_report_text_is_not_a_standard(rest: bytes) -> None:
    assert read(b"id:" + MSG_ID + rest) == DELIVERED


def test_an_id_may_look_like_blanks_keys_or_separators() -> None:
    for msg_id in (b"          ", b"stat:ABCD ", b" id:id:id:", b"text:text:", b"ssssssssss"):
        content = b"id:" + msg_id + b" stat:DELIVRD err:000 text:"
        assert read(content) == smgp.Report(msg_id.hex(), "DELIVRD", "000")


def test_a_report_cut_short_is_read_as_far_as_it_goes() -> None:
    content = smgp.write_report(DELIVERED)
    assert read(content[:110]) == DELIVERED
    assert read(content[:84]) == structs.replace(DELIVERED, stat="DEL", error="")
    assert read(content[:12]) == smgp.Report("")
    assert read(b"stat:DELIVRD") == smgp.Report("", "DELIVRD")


@pytest.mark.parametrize("authenticator", [bytes(16), bytes(range(16)), b"rubbish rubbish!"])
def test_a_server_that_proves_nothing_is_let_pass(authenticator: bytes) -> None:
    session = client()
    session.login(LOGIN, 0.0)
    (event,) = session.receive(smgp.encode(smgp.LoginResp(1, False, 0, authenticator)), 0.0)
    assert isinstance(event, LoggedIn)


@pytest.mark.parametrize("status_octets", [1, 4])
def test_servers_hash_a_status_of_one_octet_or_four(status_octets: int) -> None:
    authenticator = smgp.authenticator_server(
        0, LOGIN.authenticator_client, SECRET, status_octets=status_octets
    )
    assert smgp.authenticates_server(smgp.LoginResp(1, False, 0, authenticator), LOGIN, SECRET)


@pytest.mark.parametrize("padded", [False, True])
def test_short_ids_are_hashed_with_their_padding_or_without(padded: bool) -> None:
    assert smgp.authenticates(smgp.login("1065", SECRET, AT, padded=padded), SECRET)


def test_a_version_byte_is_only_a_hint() -> None:
    for version in (0x00, 0x20, 0x30, 0x31):
        assert smgp.dialect(version) is smgp.DIALECT
        assert smgp.submit_class(version) is smgp.Submit
    session = client()
    session.login(LOGIN, 0.0)
    (event,) = session.receive(smgp.encode(smgp.LoginResp(1, server_version=0x13)), 0.0)
    assert isinstance(event, LoggedIn)


def test_version_1_3_has_no_fixed_fee() -> None:
    vector = VECTORS["submit_v13__smsgate_no_fixedfee_unknown_tlv"]
    submit = smgp.decode(vector.octets, smgp.VERSION_13)
    assert isinstance(submit, smgp.Submit13)
    assert (submit.fee_code, submit.fixed_fee) == ("000000", "")
    assert (submit.src_term_id, submit.dest_term_id) == ("10086", ("13800138000",))
    assert submit.msg_content == b"dfa8eb6a-ad9f-4654-94fa-f114718ed05a"
    assert smgp.encode(submit, version=smgp.VERSION_13) == vector.octets


def test_neither_version_writes_the_others_submit() -> None:
    for pdu, version in ((smgp.Submit(), smgp.VERSION_13), (smgp.Submit13(), smgp.VERSION)):
        with pytest.raises(LocalProtocolError):
            smgp.encode(pdu, version=version)
    with pytest.raises(LocalProtocolError):
        smgp.encode(smgp.Submit13(fixed_fee="000000"), version=smgp.VERSION_13)


def test_texts_are_padded_with_blanks_or_end_in_garbage() -> None:
    frame = bytearray(smgp.encode(smgp.Submit(1, service_id="SVC", dest_term_id=("1890",))))
    frame[15:25] = b"SVC       "
    frame[74:95] = b"10659000\0garbage\xff".ljust(21)
    frame[117:138] = b"1890".ljust(21)
    submit = smgp.decode(bytes(frame))
    assert isinstance(submit, smgp.Submit)
    assert (submit.service_id, submit.src_term_id, submit.dest_term_id) == ("SVC", "10659000", ("1890",))


@pytest.mark.parametrize("missing", range(1, 9))
@pytest.mark.parametrize("pdu", [SUBMIT, smgp.Deliver(5, msg_content=b"text"), smgp.QueryResp(5, mo_fl=7)])
def test_a_reserve_that_is_missing_or_short_reads_as_zeros(pdu: smgp.Pdu, missing: int) -> None:
    assert smgp.decode(relong(smgp.encode(pdu)[:-missing])) == pdu


def test_octets_behind_the_last_field_are_ignored() -> None:
    submit = smgp.decode(VECTORS["neg__smsgate_trailing_2_bytes"].octets)
    assert isinstance(submit, smgp.Submit)
    assert (len(submit.msg_content), submit.tlvs) == (90, ())
    for pdu in (
        smgp.LoginResp(5),
        smgp.SubmitResp(5),
        smgp.ActiveTest(5),
        smgp.ActiveTestResp(5),
        smgp.Exit(5),
    ):
        assert smgp.decode(relong(smgp.encode(pdu) + b"\0\0\0\0\0\0\0\0\0")) == pdu


def test_a_heartbeat_answered_by_a_heartbeat_keeps_the_session() -> None:
    session = ready_client()
    for at_s in range(30, 600, 30):
        assert session.tick(float(at_s)) == []
        assert smgp.ActiveTest in map(type, written(session))
        session.receive(smgp.encode(smgp.ActiveTest(1)), float(at_s))
        assert written(session) == [smgp.ActiveTestResp(1)]
    assert session.open_slots == 4


def test_an_exit_sent_as_an_active_test_is_answered_and_ends_nothing() -> None:
    session = ready_server()
    assert session.receive(smgp.encode(smgp.ActiveTest(9)), 0.0) == []
    assert written(session) == [smgp.ActiveTestResp(9)]
    assert session.lost() == [Closed(End.LOST, "")]


@pytest.mark.parametrize(
    "pdu_class",
    [smgp.LoginResp, smgp.SubmitResp, smgp.DeliverResp, smgp.ForwardResp, smgp.QueryResp],
)
def test_error_responses_come_without_a_body_and_are_no_success(
    pdu_class: type[smgp.BodiedResponse],
) -> None:
    frame = smgp.encode(pdu_class(7, bare=True))
    assert len(frame) == smgp.HEADER.size
    response = smgp.decode(frame)
    assert type(response) is pdu_class
    assert response.bare
    assert getattr(response, "status", Status.UNSAID) == Status.UNSAID
    assert smgp.encode(response) == frame


def test_a_login_resp_may_end_behind_its_status() -> None:
    for octets in range(smgp.HEADER.size + 4, 33):
        response = smgp.decode(relong(smgp.encode(smgp.LoginResp(7, status=21))[:octets]))
        assert isinstance(response, smgp.LoginResp)
        assert (response.status, response.authenticator_server) == (Status.AUTHENTICATION, bytes(16))


def test_no_status_means_slower_and_a_full_server_calls_itself_busy() -> None:
    assert not [status for status in Status if "THROTTLE" in status.name or "FLOW" in status.name]
    session = Session(smgp.DIALECT, Role.CLIENT, Limits(owed_max=1), now_s=0.0)
    session.login(LOGIN, 0.0)
    session.receive(smgp.encode(smgp.LoginResp(1)), 0.0)
    session.take()
    session.receive(smgp.encode(smgp.Deliver(5)) + smgp.encode(smgp.Deliver(6, MSG_ID)), 0.0)
    assert written(session) == [smgp.DeliverResp(6, msg_id=MSG_ID, status=Status.SYSTEM_BUSY)]


def test_the_window_is_16_unless_told_otherwise() -> None:
    session = Session(smgp.DIALECT, Role.CLIENT, Limits(), now_s=0.0)
    session.login(LOGIN, 0.0)
    session.receive(smgp.encode(smgp.LoginResp(1)), 0.0)
    assert session.open_slots == 16


def test_a_submit_sent_again_arrives_again_under_its_number() -> None:
    # After 60 s a peer sends the same again; who received it knows it by number and content.
    session = ready_server()
    assert session.receive(smgp.encode(SUBMIT) * 2, 0.0) == [Received(SUBMIT)] * 2


def test_texts_travel_in_gbk_and_ucs2_as_they_are() -> None:
    for text_format, content in (
        (smgp.MsgFormat.GBK, "鸿雁".encode("gbk")),
        (smgp.MsgFormat.UCS2, b"\x9e\x3f"),
    ):
        submit = smgp.decode(smgp.encode(smgp.Submit(1, msg_format=text_format, msg_content=content)))
        assert submit == smgp.Submit(1, msg_format=text_format, msg_content=content)


@pytest.mark.parametrize("number", ["18900000001", "8618900000001", "+8618900000001", "0108618900000001"])
def test_numbers_are_handed_on_as_written(number: str) -> None:
    submit = smgp.decode(smgp.encode(smgp.Submit(1, src_term_id=number, dest_term_id=(number,))))
    assert submit == smgp.Submit(1, src_term_id=number, dest_term_id=(number,))


@pytest.mark.parametrize("tail", [b"\0", b"\0\2\0", b"\0\2\0\2\1", b"\0\x12\xff\xff"])
def test_unknown_parameters_are_kept_and_a_broken_tail_costs_only_itself(tail: bytes) -> None:
    tlvs = ((0x14, b"\1"), smgp.TLVS.write("tp_udhi", 1), (0xFFFF, b""))
    frame = smgp.encode(structs.replace(SUBMIT, tlvs=tlvs))
    assert smgp.decode(relong(frame + tail)) == structs.replace(SUBMIT, tlvs=tlvs)


@pytest.mark.parametrize(
    "octets", [b"ABC\0", b"ABC", b"ABC\0\0\0\0\0", b"ABC".ljust(21), b"ABC".ljust(30, b"\0")]
)
def test_a_service_id_of_the_wrong_length_is_read(octets: bytes) -> None:
    assert smgp.TLVS.read(((0x12, octets),), "m_service_id") == "ABC"
    assert smgp.TLVS.write("m_service_id", "ABC") == (0x12, b"ABC".ljust(21, b"\0"))
    for wrong in ("A" * 22, "鸿", "A\0"):
        with pytest.raises(LocalProtocolError):
            smgp.TLVS.write("m_service_id", wrong)


def test_a_login_hashed_in_another_second_than_it_names_is_refused() -> None:
    login = structs.replace(LOGIN, timestamp=LOGIN.timestamp + 1)
    assert not smgp.authenticates(login, SECRET)


# ── nothing crashes ──────────────────────────────────────────────────────────────────────────────────


def fuzzed(mutate: Callable[[bytes, random.Random], bytes], chance: random.Random) -> tuple[int, int]:
    """Throw mutated PDUs at codec and sessions; how many were read, how many not."""
    seeds = [vector.octets for vector in VECTORS.values() if vector.kind != "report_body"]
    seeds += [smgp.encode(smgp.Deliver(1, is_report=1, msg_content=one.octets)) for one in REPORT_VECTORS]
    seeds += [smgp.encode(smgp.Forward(1, msg_content=b"hi")), smgp.encode(smgp.QueryResp(1))]
    readies = [
        partial(ready, smgp.dialect(version))
        for ready in (ready_client, ready_server)
        for version in (smgp.VERSION, smgp.VERSION_13)
    ]
    sessions = [ready() for ready in readies]
    decoded = unreadable = 0
    for turn in range(100_000):
        frame = mutate(chance.choice(seeds), chance)
        version = (smgp.VERSION, smgp.VERSION_13)[turn % 2]
        try:
            pdu = smgp.decode(frame, version)
        except RemoteProtocolError:
            unreadable += 1
        else:
            decoded += 1
            again(pdu, version)
        if turn % 8 == 0:
            place = turn // 8 % len(readies)
            session = sessions[place]
            cut = chance.randrange(len(frame) + 1)
            session.receive(frame[:cut], 1.0)
            session.receive(frame[cut:], 1.0)
            session.take()
            if session.state is State.CLOSED:
                sessions[place] = readies[place]()
    return decoded, unreadable


def again(pdu: smgp.Pdu, version: int) -> None:
    """What can be read goes through every reader, and if it can be written, is read again as the same."""
    match pdu:
        case smgp.Deliver():
            smgp.report(pdu)
            smgp.split_msg_id(pdu.msg_id)
        case smgp.Login():
            smgp.authenticates(pdu, SECRET)
        case smgp.SubmitResp():
            smgp.group_ids(pdu.msg_id, 3)
    repr(pdu)
    try:
        octets = smgp.encode(pdu, version=version)
    except LocalProtocolError:  # longer than we ourselves may write
        return
    assert smgp.decode(octets, version) == pdu


def test_mutated_pdus_raise_nothing_but_remote_protocol_errors() -> None:
    mutate = runpy.run_path(str(FUZZ_WIRE))["mutate"]
    decoded, unreadable = fuzzed(mutate, random.Random(20261125))
    assert decoded + unreadable == 100_000
    assert decoded > 10_000
    assert unreadable > 10_000
