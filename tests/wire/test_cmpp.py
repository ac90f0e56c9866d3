"""CMPP on the tables, 2.x and 3.0: public PDUs, round trips, logins, ids, reports, and what peers really do."""

import hashlib
import json
import runpy
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hongyan.wire import cmpp
from hongyan.wire.cmpp import V2, V3, CmppDialect, Result
from hongyan.wire.fields import (
    LocalProtocolError,
    Pdu,
    RemoteProtocolError,
)
from hongyan.wire.session import (
    Answered,
    Closed,
    End,
    Event,
    Limits,
    LoggedIn,
    LoginRefused,
    LoginRequested,
    Received,
    Role,
    Session,
    Stray,
    Unreadable,
)

from .strategies import U4, chunked, fields_of, fixed_texts

DIALECTS = (V2, V3)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
PDUS = {V2.name: cmpp.PDUS_2, V3.name: cmpp.PDUS_3}
SECRET = "888888"
AT = datetime(2026, 10, 21, 8, 5, 10)  # noqa: DTZ001 - a time of day at the gateway


class Vector(NamedTuple):
    """A PDU, or the content of a status report, seen in public code or on a line; and what it means."""

    dialect: CmppDialect
    name: str
    kind: str  # pdu, report_body
    octets: bytes
    fields: dict[str, Any]


def load(dialect: CmppDialect) -> list[Vector]:
    rows = json.loads((Path(__file__).parent / "vectors" / f"{dialect.name}.json").read_text("utf-8"))
    return [
        Vector(dialect, row["name"], row["kind"], bytes.fromhex(row["hex"]), row["fields"]) for row in rows
    ]


VECTORS = [vector for dialect in DIALECTS for vector in load(dialect)]
PDU_VECTORS = [vector for vector in VECTORS if vector.kind == "pdu"]
REPORT_VECTORS = [vector for vector in VECTORS if vector.kind == "report_body"]


def named(vector: Vector) -> str:
    return f"{vector.dialect.name}-{vector.name}"


def vector(dialect: CmppDialect, part: str) -> Vector:
    (found,) = (one for one in VECTORS if one.dialect is dialect and part in one.name)
    return found


# ── PDUs drawn from their tables ─────────────────────────────────────────────────────────────────────

# What the tables say about these is code; NoNumber and NoText are left at their defaults.
NUMBERS_21 = st.lists(fixed_texts(21), max_size=4).map(tuple)
NUMBERS_32 = st.lists(fixed_texts(32), max_size=4).map(tuple)
LISTED: dict[Any, st.SearchStrategy[Any]] = {
    cmpp.Numbers21: NUMBERS_21,
    cmpp.Numbers32: NUMBERS_32,
    cmpp.Reserve: st.binary(min_size=8, max_size=8),
    cmpp.LinkId: fixed_texts(20),
    cmpp.NoNumber: st.just(0),
    cmpp.NoText: st.just(""),
}


def pdus_of(pdu_class: type[cmpp.Pdu]) -> st.SearchStrategy[cmpp.Pdu]:
    return st.builds(pdu_class, sequence_number=U4, **fields_of(pdu_class, LISTED))


def bare_pdus(dialect: CmppDialect) -> st.SearchStrategy[cmpp.Pdu]:
    def bare(command_id: int, sequence_number: int) -> cmpp.Pdu:
        return cmpp.decode(cmpp.HEADER.pack(12, command_id, sequence_number), dialect.version)

    ids = [number for number, cls in PDUS[dialect.name].items() if issubclass(cls, cmpp.BodiedResponse)]
    return st.builds(bare, st.sampled_from(ids), st.integers(0, 2**32 - 1))


def pdus(dialect: CmppDialect) -> st.SearchStrategy[cmpp.Pdu]:
    return st.one_of([pdus_of(pdu_class) for pdu_class in PDUS[dialect.name].values()]) | bare_pdus(dialect)


ANY = st.one_of([st.tuples(st.just(dialect), pdus(dialect)) for dialect in DIALECTS])


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────


def shown(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return list(value)
    return value


@pytest.mark.parametrize("vector", PDU_VECTORS, ids=named)
def test_a_public_pdu_decodes_to_its_fields(vector: Vector) -> None:
    pdu = vector.dialect.decode(vector.octets)
    expected = dict(vector.fields)
    assert type(pdu) is PDUS[vector.dialect.name][expected.pop("command_id")]
    assert pdu.sequence_number == expected.pop("sequence_id")
    for note in ("command", "report", "msg_id_decoded", "_secret"):
        expected.pop(note, None)
    counts = {"msg_length": "msg_content", "dest_usr_tl": "dest_id"}
    if isinstance(pdu, cmpp.Submit):
        counts["dest_usr_tl"] = "dest_terminal_id"
    for name, counted in counts.items():
        if name in expected:
            assert len(getattr(pdu, counted)) == expected.pop(name)
    assert {name: shown(getattr(pdu, name)) for name in expected} == expected


@pytest.mark.parametrize("vector", PDU_VECTORS, ids=named)
def test_a_public_pdu_is_written_again_bit_for_bit(vector: Vector) -> None:
    assert vector.dialect.encode(vector.dialect.decode(vector.octets), None) == vector.octets


@settings(max_examples=400)
@given(ANY)
def test_every_pdu_of_both_versions_reads_what_it_wrote(drawn: tuple[CmppDialect, cmpp.Pdu]) -> None:
    dialect, pdu = drawn
    assert dialect.decode(cmpp.encode(pdu)) == pdu


@given(ANY, st.integers(0, cmpp.SEQUENCE_NUMBER_MAX))
def test_a_given_sequence_number_replaces_the_pdus_own(
    drawn: tuple[CmppDialect, cmpp.Pdu], number: int
) -> None:
    dialect, pdu = drawn
    assert dialect.decode(cmpp.encode(pdu, number)).sequence_number == number


@pytest.mark.parametrize("octets", [0, 1, 140])
@pytest.mark.parametrize("count", [0, 1, 2, 99])
def test_lengths_follow_the_specification(count: int, octets: int) -> None:
    destinations = ("13800138000",) * count
    for dialect, submit_octets, deliver_octets in ((V2, 138 + 21 * count, 85), (V3, 163 + 32 * count, 109)):
        submit = dialect.submit(dest_terminal_id=destinations, msg_content=bytes(octets))
        assert len(cmpp.encode(submit)) == submit_octets + octets
        assert len(cmpp.encode(dialect.deliver(msg_content=bytes(octets)))) == deliver_octets + octets


def test_an_unknown_command_is_kept_whole() -> None:
    frame = bytes.fromhex("0000000e00000010000000070f0e")
    for dialect in DIALECTS:
        assert dialect.decode(frame) == cmpp.UnknownPdu(7, 0x10, b"\x0f\x0e")
    assert cmpp.encode(cmpp.UnknownPdu(7, 0x10, b"\x0f\x0e")) == frame


def test_a_memoryview_decodes_like_bytes() -> None:
    frame = cmpp.encode(cmpp.Submit3(3, msg_content=b"hi"))
    assert cmpp.decode(memoryview(frame)) == cmpp.decode(frame)


@pytest.mark.parametrize(
    "vector", [one for one in PDU_VECTORS if not one.fields["command_id"] & cmpp.RESPONSE_BIT], ids=named
)
def test_a_request_cut_before_its_last_field_is_their_error(vector: Vector) -> None:
    last_octets = 8 if vector.dialect is V2 else 20
    may_lack_it = vector.fields["command"] in ("submit", "deliver", "fwd")
    for octets in range(13, len(vector.octets) - (last_octets if may_lack_it else 0)):
        frame = octets.to_bytes(4, "big") + vector.octets[4:octets]
        with pytest.raises(RemoteProtocolError):
            vector.dialect.decode(frame)


@pytest.mark.parametrize(
    "frame", ["", "0000000c00000001", "0000000d0000000200000003", "0000000b0000000200000003"]
)
def test_what_is_no_frame_is_their_error(frame: str) -> None:
    with pytest.raises(RemoteProtocolError):
        cmpp.decode(bytes.fromhex(frame))


@pytest.mark.parametrize(
    "pdu",
    [
        cmpp.Submit2(src_id="1" * 22),
        cmpp.Submit2(dest_terminal_id=("1" * 22,)),
        cmpp.Submit3(dest_terminal_id=("1" * 33,)),
        cmpp.Submit3(dest_terminal_id=("1\0",)),
        cmpp.Submit3(dest_terminal_id=("1",) * 100),
        cmpp.Submit3(msg_content=bytes(161)),
        cmpp.Submit3(link_id="鸿雁"),
        cmpp.Submit3(link_id="1" * 21),
        cmpp.Submit2(reserve=b""),
        cmpp.Submit3(msg_id=2**64),
        cmpp.SubmitResp2(result=256),
        cmpp.Connect(authenticator_source=b"short"),
        cmpp.Terminate(-1),
        cmpp.UnknownPdu(1, 0x10, bytes(65_536)),
        cmpp.Submit(),
        Pdu(),
    ],
)
def test_what_cmpp_cannot_carry_is_our_error(pdu: Pdu) -> None:
    with pytest.raises(LocalProtocolError):
        cmpp.encode(pdu)


@pytest.mark.parametrize(
    "pdu",
    [
        cmpp.Submit2(fee_terminal_type=1),
        cmpp.Submit2(dest_terminal_type=1),
        cmpp.Submit2(link_id="1"),
        cmpp.Deliver2(src_terminal_type=1),
        cmpp.Fwd2(src_pseudo="1"),
    ],
)
def test_what_only_3_0_can_say_is_never_dropped_in_silence(pdu: Pdu) -> None:
    with pytest.raises(LocalProtocolError):
        cmpp.encode(pdu)


@given(st.sampled_from([("submit", cmpp.Submit), ("deliver", cmpp.Deliver), ("fwd", cmpp.Fwd)]), st.data())
def test_both_layouts_are_made_and_read_alike(pair: tuple[str, type[cmpp.Pdu]], data: st.DataObject) -> None:
    name, base = pair
    narrow = data.draw(pdus_of(getattr(V2, name)))
    fields = {field: getattr(narrow, field) for field in base.__struct_fields__}
    wide = V3.decode(cmpp.encode(getattr(V3, name)(**fields)))
    assert isinstance(narrow, base)
    assert isinstance(wide, base)
    assert {field: getattr(wide, field) for field in base.__struct_fields__} == fields


def test_an_unknown_result_keeps_its_number() -> None:
    assert Result(8).name == "FLOW"
    assert Result(150) == 150
    assert Result(150).name == "150"
    assert cmpp.ConnectStatus(3) is cmpp.ConnectStatus.AUTHENTICATION
    assert cmpp.ConnectStatus(99).name == "99"
    assert 150 not in Result.__members__.values()
    for value in (-1, 2**32):
        with pytest.raises(ValueError, match="not a valid"):
            Result(value)


# ── login ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_worked_example_authenticates() -> None:
    proof = cmpp.authenticator_source("900001", SECRET, 1021080510)
    assert proof.hex() == "90d00c1d517abd0b4f65f6bcf8535d16"
    assert cmpp.connect("900001", SECRET, AT, cmpp.VERSION_2_1) == cmpp.Connect(
        0, "900001", proof, cmpp.VERSION_2_1, 1021080510
    )


@pytest.mark.parametrize(
    "vector", [one for one in PDU_VECTORS if one.fields["command"] == "connect"], ids=named
)
def test_every_public_login_is_proved_by_its_secret(vector: Vector) -> None:
    login = vector.dialect.decode(vector.octets)
    assert isinstance(login, cmpp.Connect)
    assert cmpp.authenticates(login, vector.fields["_secret"])
    assert not cmpp.authenticates(login, vector.fields["_secret"] + "x")


def test_a_timestamp_keeps_its_leading_zero() -> None:
    at = datetime(2026, 3, 1, 0, 0, 0)  # noqa: DTZ001 - a time of day at the gateway
    login = cmpp.connect("900001", SECRET, at)
    assert login.timestamp == 301000000
    digest = hashlib.md5(b"900001" + bytes(9) + b"8888880301000000", usedforsecurity=False).digest()
    assert login.authenticator_source == digest
    assert cmpp.authenticates(login, SECRET)


@given(fixed_texts(6), st.text(max_size=20), st.datetimes(), st.booleans())
def test_a_login_is_proved_by_its_secret_alone(
    source_addr: str, secret: str, at: datetime, padded: bool
) -> None:
    sent = cmpp.connect(source_addr, secret, at, padded=padded)
    heard = cmpp.decode(cmpp.encode(sent))
    assert isinstance(heard, cmpp.Connect)
    assert cmpp.authenticates(heard, secret)
    assert not cmpp.authenticates(heard, secret + "1")


def test_secrets_that_are_no_text_of_the_wire_raise_nothing() -> None:
    assert cmpp.authenticates(cmpp.connect("900001", "鸿雁", AT), "鸿雁")


@each_dialect
def test_a_gateway_proves_that_it_knows_the_secret_too(dialect: CmppDialect) -> None:
    login = cmpp.connect("900001", SECRET, AT, dialect.version)
    response = dialect.decode(cmpp.encode(cmpp.connect_resp(login, SECRET, dialect)))
    assert isinstance(response, cmpp.ConnectResp)
    assert response.status == 0
    assert cmpp.authenticates_ismg(response, login, SECRET)
    assert not cmpp.authenticates_ismg(response, login, "999999")


def test_a_status_too_wide_to_have_been_hashed_in_one_octet_is_no_error() -> None:
    assert not cmpp.authenticates_ismg(cmpp.ConnectResp3(status=2**32 - 1), cmpp.Connect(), SECRET)


def test_2_1_is_answered_with_2_1() -> None:
    login = cmpp.connect("900001", SECRET, AT, cmpp.VERSION_2_1)
    assert cmpp.connect_resp(login, SECRET, V2).version == cmpp.VERSION_2_1
    assert cmpp.connect_resp(login, SECRET, V3).version == cmpp.VERSION_3_0


def test_a_proof_is_never_shown() -> None:
    proof = bytes.fromhex("41424344454647484142434445464748")
    for pdu in (
        cmpp.Connect(authenticator_source=proof, timestamp=1021080510),
        cmpp.ConnectResp2(authenticator_ismg=proof),
        cmpp.ConnectResp3(authenticator_ismg=proof),
        LoginRequested(cmpp.Connect(authenticator_source=proof)),
    ):
        assert "ABCDEFGH" not in repr(pdu)
        assert "***" in repr(pdu)


# ── message ids ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vector", [one for one in VECTORS if one.fields.get("msg_id_decoded")], ids=named)
def test_a_public_id_has_the_parts_it_is_known_to_have(vector: Vector) -> None:
    parts = vector.fields["msg_id_decoded"] | {"sequence": vector.fields["msg_id_decoded"]["seq"]}
    del parts["seq"]
    assert cmpp.split_msg_id(vector.fields["msg_id"]) == cmpp.MsgId(**parts)


@given(st.integers(0, 2**64 - 1))
def test_the_parts_of_an_id_make_the_id(number: int) -> None:
    assert cmpp.split_msg_id(number).number == number


def test_an_id_is_made_of_its_moment() -> None:
    at = datetime(2026, 11, 5, 14, 29, 42)  # noqa: DTZ001 - a time of day at the gateway
    assert cmpp.make_msg_id(at, 1, 0x1_0000) == 0xB2B9DA8000010000
    for gateway in (-1, 1 << 22):
        with pytest.raises(LocalProtocolError):
            cmpp.make_msg_id(at, gateway, 0)


# ── status reports ───────────────────────────────────────────────────────────────────────────────────


def told(content: bytes, dialect: CmppDialect = V2) -> cmpp.Report:
    report = cmpp.report(dialect.deliver(registered_delivery=1, msg_content=content))
    assert report is not None
    return report


def expected_report(fields: dict[str, Any]) -> cmpp.Report:
    names = ("msg_id", "stat", "submit_time", "done_time", "dest_terminal_id", "smsc_sequence")
    return cmpp.Report(*(fields[name] for name in names))


@pytest.mark.parametrize("vector", REPORT_VECTORS, ids=named)
def test_a_public_report_is_read_and_written_again(vector: Vector) -> None:
    report = told(vector.octets)
    assert report == expected_report(vector.fields)
    assert cmpp.write_report(report, vector.dialect.version) == vector.octets


REPORT_TEXTS = [fixed_texts(octets) for octets in (7, 10, 10, 21)]
REPORTS = st.builds(cmpp.Report, st.integers(0, 2**64 - 1), *REPORT_TEXTS, st.integers(0, 2**32 - 1))


@given(REPORTS, st.sampled_from(DIALECTS), st.sampled_from(DIALECTS))
def test_a_report_reads_what_it_wrote_in_either_layout(
    report: cmpp.Report, carrier: CmppDialect, layout: CmppDialect
) -> None:
    assert told(cmpp.write_report(report, layout.version), carrier) == report


def test_reports_have_the_length_of_their_version() -> None:
    assert len(cmpp.write_report(cmpp.Report(1, "DELIVRD"), cmpp.VERSION_2_1)) == 60
    assert len(cmpp.write_report(cmpp.Report(1, "DELIVRD"))) == 71


@pytest.mark.parametrize(
    "report",
    [
        cmpp.Report(2**64, "DELIVRD"),
        cmpp.Report(-1, "DELIVRD"),
        cmpp.Report(1, "DELIVERED"),
        cmpp.Report(1, "鸿雁"),
        cmpp.Report(1, "DELIVRD", dest="1" * 33),
        cmpp.Report(1, "DELIVRD", smsc_sequence=2**32),
    ],
)
def test_what_a_report_cannot_carry_is_our_error(report: cmpp.Report) -> None:
    with pytest.raises(LocalProtocolError):
        cmpp.write_report(report)


@given(st.binary(max_size=255))
def test_no_report_is_too_strange_and_no_person_can_forge_one(content: bytes) -> None:
    for dialect in DIALECTS:
        assert cmpp.report(dialect.deliver(registered_delivery=1, msg_content=content)) is not None
        assert cmpp.report(dialect.deliver(registered_delivery=0, msg_content=content)) is None


def test_only_an_intermediate_report_is_not_final() -> None:
    words = ("DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "UNKNOWN", "REJECTD", "MK:0012", "")
    assert all(cmpp.Report(1, stat).final for stat in words)
    assert not cmpp.Report(1, "ACCEPTD").final


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────

LIMITS = Limits(window_size=4)


def login_of(dialect: CmppDialect) -> cmpp.Connect:
    return cmpp.connect("900001", SECRET, AT, dialect.version)


def logging_in(dialect: CmppDialect) -> Session:
    session = Session(dialect, Role.CLIENT, LIMITS, now_s=0.0)
    session.login(login_of(dialect), 0.0)
    session.take()
    return session


def ready_client(dialect: CmppDialect) -> Session:
    session = logging_in(dialect)
    (event,) = session.receive(cmpp.encode(dialect.connect_resp(1)), 0.0)
    assert isinstance(event, LoggedIn)
    return session


def ready_server(dialect: CmppDialect) -> Session:
    session = Session(dialect, Role.SERVER, LIMITS, now_s=0.0)
    (event,) = session.receive(cmpp.encode(login_of(dialect), 1), 0.0)
    assert isinstance(event, LoginRequested)
    assert isinstance(event.pdu, cmpp.Connect)
    session.accept(cmpp.connect_resp(event.pdu, SECRET, dialect), 0.0)
    session.take()
    return session


READY = [
    pytest.param(make, dialect, id=f"{dialect.name}-{make.__name__}")
    for make in (ready_client, ready_server)
    for dialect in DIALECTS
]
Ready = Callable[[CmppDialect], Session]
each_ready = pytest.mark.parametrize(("make", "dialect"), READY)


def written(session: Session, dialect: CmppDialect) -> list[Pdu]:
    octets = session.take()
    read = []
    while octets:
        length = int.from_bytes(octets[:4], "big")
        read.append(dialect.decode(octets[:length]))
        octets = octets[length:]
    return read


def passed(source: Session, target: Session, now_s: float = 0.0) -> list[Event]:
    return target.receive(source.take(), now_s)


@each_dialect
def test_a_message_travels_from_login_to_logout(dialect: CmppDialect) -> None:
    provider = Session(dialect, Role.CLIENT, LIMITS, now_s=0.0)
    gateway = Session(dialect, Role.SERVER, LIMITS, now_s=0.0)
    provider.login(login_of(dialect), 0.0)
    (asked,) = passed(provider, gateway)
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, cmpp.Connect)
    assert cmpp.authenticates(asked.pdu, SECRET)
    gateway.accept(cmpp.connect_resp(asked.pdu, SECRET, dialect), 0.0)
    (welcome,) = passed(gateway, provider)
    assert isinstance(welcome, LoggedIn)
    assert isinstance(welcome.pdu, dialect.connect_resp)

    submit = dialect.submit(registered_delivery=1, dest_terminal_id=("13800138000",), msg_content=b"hi")
    number = provider.send(submit, 1.0, about="part 1")
    (submitted,) = passed(provider, gateway, 1.0)
    assert isinstance(submitted, Received)
    assert isinstance(submitted.pdu, cmpp.Submit)
    answer = cmpp.respond(submitted.pdu, dialect, msg_id=77)
    assert answer is not None
    gateway.answer(answer, 1.5)
    taken = dialect.submit_resp(number, msg_id=77)
    assert passed(gateway, provider, 1.5) == [Answered(number, "part 1", taken, 0.5)]

    content = cmpp.write_report(cmpp.Report(77, "DELIVRD", dest="13800138000"), dialect.version)
    number = gateway.send(dialect.deliver(msg_id=78, registered_delivery=1, msg_content=content), 2.0)
    (told,) = passed(gateway, provider, 2.0)
    assert isinstance(told, Received)
    assert isinstance(told.pdu, cmpp.Deliver)
    assert cmpp.report(told.pdu) == cmpp.Report(77, "DELIVRD", dest="13800138000")
    answer = cmpp.respond(told.pdu, dialect)
    assert answer is not None
    provider.answer(answer, 2.5)
    thanks = dialect.deliver_resp(number, msg_id=78)
    assert passed(provider, gateway, 2.5) == [Answered(number, None, thanks, 0.5)]

    provider.logout(3.0)
    assert passed(provider, gateway, 3.0) == [Closed(End.PEER_LOGGED_OUT, "")]
    assert passed(gateway, provider, 3.0) == [Closed(End.LOGGED_OUT, "")]


@pytest.mark.parametrize(("make", "dialect"), READY)
@settings(max_examples=40)
@given(st.data())
def test_any_split_gives_the_same_events_and_answers(
    make: Ready, dialect: CmppDialect, data: st.DataObject
) -> None:
    frames = st.sampled_from([one.octets for one in PDU_VECTORS if one.dialect is dialect])
    pieces = data.draw(st.lists(pdus(dialect).map(cmpp.encode) | frames, max_size=6))
    octets = b"".join(pieces) + data.draw(st.binary(max_size=16))
    whole, split = make(dialect), make(dialect)
    for session in (whole, split):
        session.send(dialect.submit() if make is ready_client else dialect.deliver(), 0.0, about="a")
    events = whole.receive(octets, 1.0)
    assert [event for chunk in data.draw(chunked(octets)) for event in split.receive(chunk, 1.0)] == events
    assert whole.take() == split.take()


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_garbage_raises(chunks: list[bytes]) -> None:
    for dialect in DIALECTS:
        for session in (logging_in(dialect), ready_client(dialect), ready_server(dialect)):
            for chunk in chunks:
                session.receive(chunk, 1.0)


FUZZ_WIRE = Path(__file__).parents[2] / "bench" / "fuzz_wire.py"


@each_dialect
def test_mutated_pdus_raise_nothing_but_remote_protocol_errors(dialect: CmppDialect) -> None:
    counts = runpy.run_path(str(FUZZ_WIRE))["fuzz"](count=50_000, seed=20261125, protocol=dialect.name)
    assert counts.decoded + counts.unreadable == 50_000
    assert counts.decoded > 5_000
    assert counts.unreadable > 5_000
    assert counts.closed > 50


@each_dialect
def test_a_provider_may_not_deliver_nor_forward(dialect: CmppDialect) -> None:
    session = ready_server(dialect)
    assert session.receive(cmpp.encode(dialect.deliver(5)) + cmpp.encode(dialect.fwd(6)), 0.0) == []
    assert written(session, dialect) == [
        dialect.deliver_resp(5, result=Result.COMMAND),
        dialect.fwd_resp(6, result=Result.COMMAND),
    ]


@each_dialect
def test_a_second_login_is_refused_and_the_first_stands(dialect: CmppDialect) -> None:
    session = ready_server(dialect)
    assert session.receive(cmpp.encode(login_of(dialect), 2), 0.0) == []
    (refusal,) = written(session, dialect)
    assert refusal == dialect.connect_resp(2, status=cmpp.ConnectStatus.OTHER, version=dialect.version)
    assert session.open_slots == 4


@each_dialect
def test_an_unreadable_request_is_answered_and_the_next_one_served(dialect: CmppDialect) -> None:
    session = ready_client(dialect)
    broken = bytearray(cmpp.encode(dialect.deliver(5, msg_id=2**63 + 9, msg_content=b"hi")))
    broken[-(8 if dialect is V2 else 20) - 3] = 200  # Msg_Length
    (event,) = session.receive(bytes(broken) + cmpp.encode(cmpp.ActiveTest(6)), 0.0)
    assert isinstance(event, Unreadable)
    assert written(session, dialect) == [
        dialect.deliver_resp(5, msg_id=2**63 + 9, result=Result.LENGTH),
        cmpp.ActiveTestResp(6),
    ]


@each_dialect
def test_an_unreadable_submit_without_room_for_its_numbers_is_a_fault_of_structure(
    dialect: CmppDialect,
) -> None:
    session = ready_server(dialect)
    frame = cmpp.encode(dialect.submit(5, dest_terminal_id=("1",) * 9, msg_content=b""))
    (event,) = session.receive((200).to_bytes(4, "big") + frame[4:200], 0.0)
    assert isinstance(event, Unreadable)
    assert written(session, dialect) == [dialect.submit_resp(5, result=Result.STRUCTURE)]


@each_ready
def test_an_impossible_length_ends_the_session_without_a_word(make: Ready, dialect: CmppDialect) -> None:
    session = make(dialect)
    (closed,) = session.receive(bytes(12), 0.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.BROKEN
    assert session.take() == b""


@each_ready
def test_an_unknown_command_is_heard_and_not_answered(make: Ready, dialect: CmppDialect) -> None:
    session = make(dialect)
    unknown = cmpp.UnknownPdu(7, 0x10)
    assert session.receive(cmpp.encode(unknown), 0.0) == [Stray(unknown)]
    assert session.take() == b""


def test_every_request_has_its_response() -> None:
    for dialect in DIALECTS:
        for command_id, pdu_class in PDUS[dialect.name].items():
            response = cmpp.respond(pdu_class(9), dialect, 1)
            if command_id & cmpp.RESPONSE_BIT:
                assert response is None
            else:
                assert type(response) is PDUS[dialect.name][command_id | cmpp.RESPONSE_BIT]
                assert response.sequence_number == 9
                assert cmpp.encode(response)
    assert cmpp.respond(cmpp.UnknownPdu(9), V3) is None


def test_a_response_repeats_what_its_request_named() -> None:
    assert cmpp.respond(cmpp.Deliver3(1, msg_id=7), V3) == cmpp.DeliverResp3(1, msg_id=7)
    assert cmpp.respond(cmpp.Cancel(1, msg_id=7), V2, 9) == cmpp.CancelResp2(1, success_id=1)
    assert cmpp.respond(cmpp.Fwd2(1, msg_id=7, pk_total=2), V2) == cmpp.FwdResp2(1, msg_id=7, pk_total=2)
    query = cmpp.Query(1, time="20261125", query_type=1, query_code="code")
    assert cmpp.respond(query, V3) == cmpp.QueryResp(1, time="20261125", query_type=1, query_code="code")


# ── what peers really do ─────────────────────────────────────────────────────────────────────────────


def resized(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame[4:]


def test_a_gateway_of_3_0_may_send_the_report_of_2_x() -> None:
    for part, stat in (("L69", "AF:4"), ("L113", "DELIVRD")):
        seen = vector(V3, part)
        deliver = V3.decode(seen.octets)
        assert isinstance(deliver, cmpp.Deliver)
        assert cmpp.report(deliver) == expected_report(seen.fields["report"])
        assert expected_report(seen.fields["report"]).stat == stat


def test_the_id_of_a_deliver_is_not_the_id_of_its_report() -> None:
    deliver = V3.decode(vector(V3, "L69").octets)
    assert isinstance(deliver, cmpp.Deliver)
    report = cmpp.report(deliver)
    assert report is not None
    assert report.msg_id == deliver.msg_id - 1  # the one to match by
    assert cmpp.respond(deliver, V3) == cmpp.DeliverResp3(1, msg_id=deliver.msg_id)  # the one to answer with


def test_a_report_that_was_cut_is_read_as_far_as_it_goes() -> None:
    content = cmpp.write_report(cmpp.Report(77, "DELIVRD", "2611250328", "2611250329", "13800138000", 9))
    assert told(content[:35]) == cmpp.Report(77, "DELIVRD", "2611250328", "2611250329")
    assert told(content[:15]) == cmpp.Report(77, "DELIVRD")
    assert told(content[:7]) == cmpp.Report(0, "")


def test_the_ids_of_a_group_are_a_range_that_wraps_in_its_last_16_bits() -> None:
    assert cmpp.group_ids(0xB2B9DA800001FFFE, 3) == (
        0xB2B9DA800001FFFE,
        0xB2B9DA800001FFFF,
        0xB2B9DA8000010000,
    )
    assert cmpp.group_ids(5, 1) == (5,)


def test_an_id_is_unsigned_from_august_on() -> None:
    at = datetime(2026, 8, 31, 23, 59, 59)  # noqa: DTZ001 - a time of day at the gateway
    number = cmpp.make_msg_id(at, (1 << 22) - 1, 0xFFFF)
    assert number >> 63 == 1
    for dialect in DIALECTS:
        resp = dialect.decode(cmpp.encode(dialect.submit_resp(1, msg_id=number)))
        assert isinstance(resp, cmpp.SubmitResp)
        assert cmpp.split_msg_id(resp.msg_id) == cmpp.MsgId(8, 31, 23, 59, 59, (1 << 22) - 1, 0xFFFF)


@each_dialect
@pytest.mark.parametrize("status_octets", [1, 4])
def test_a_gateway_may_hash_a_status_of_either_width(dialect: CmppDialect, status_octets: int) -> None:
    login = login_of(dialect)
    proof = cmpp.authenticator_ismg(0, login.authenticator_source, SECRET, status_octets=status_octets)
    assert cmpp.authenticates_ismg(dialect.connect_resp(authenticator_ismg=proof), login, SECRET)


def test_a_gateway_that_proves_nothing_still_lets_in() -> None:
    for dialect in DIALECTS:
        session = logging_in(dialect)
        (event,) = session.receive(cmpp.encode(dialect.connect_resp(1, authenticator_ismg=bytes(16))), 0.0)
        assert isinstance(event, LoggedIn)


@each_dialect
def test_a_public_gateway_proves_that_it_knows_the_secret(dialect: CmppDialect) -> None:
    login = dialect.decode(vector(dialect, "connect__gocmpp").octets)
    response = dialect.decode(vector(dialect, f"connect_resp__gocmpp_TestCmpp{dialect.name[-1]}").octets)
    assert isinstance(login, cmpp.Connect)
    assert isinstance(response, cmpp.ConnectResp)
    assert cmpp.authenticates_ismg(response, login, SECRET)
    assert not cmpp.authenticates_ismg(response, login, "wrong")


@pytest.mark.parametrize("padded", [False, True])
def test_a_short_address_is_hashed_with_or_without_its_zeros(padded: bool) -> None:
    login = cmpp.connect("9001", SECRET, AT, padded=padded)
    assert cmpp.authenticates(login, SECRET)
    assert cmpp.connect("9001", SECRET, AT) != cmpp.connect("9001", SECRET, AT, padded=True)


def test_the_version_of_a_connect_is_a_hint() -> None:
    assert [cmpp.dialect_of(cmpp.Connect(version=version)) for version in (0, 0x20, 0x21, 0x30, 0x31)] == [
        V2,
        V2,
        V2,
        V3,
        V3,
    ]


@pytest.mark.parametrize("configured", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("spoken", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_client_learns_the_layout_from_the_length_of_the_connect_resp(
    configured: CmppDialect, spoken: CmppDialect
) -> None:
    session = logging_in(configured)
    response = spoken.connect_resp(1, version=0x20)
    frame = cmpp.encode(response)
    assert len(frame) == (30 if spoken is V2 else 33)
    assert cmpp.encode(configured.decode(frame)) == frame
    # With the first message in the same segment, as gateways do.
    deliver = spoken.deliver(1, msg_content=b"hi")
    assert session.receive(frame + cmpp.encode(deliver), 0.0) == [LoggedIn(response), Received(deliver)]
    assert session.dialect is cmpp.dialect_of(response) is spoken


@each_dialect
def test_a_refused_login_ends_the_session(dialect: CmppDialect) -> None:
    for status in (1, 2, 3, 4, 5, 99):
        session = logging_in(dialect)
        refusal = dialect.connect_resp(1, status=status)
        assert session.receive(cmpp.encode(refusal), 0.0) == [
            LoginRefused(refusal),
            Closed(End.LOGIN_REFUSED, ""),
        ]


@pytest.mark.parametrize("spoken", DIALECTS, ids=lambda dialect: dialect.name)
@each_dialect
def test_a_response_in_the_other_layout_keeps_its_result(dialect: CmppDialect, spoken: CmppDialect) -> None:
    for pdu in (
        spoken.submit_resp(1, msg_id=7, result=Result.FLOW),
        spoken.deliver_resp(1, msg_id=7, result=Result.FLOW),
        spoken.cancel_resp(1, success_id=1),
        spoken.fwd_resp(1, msg_id=7, result=Result.FLOW),
    ):
        assert dialect.decode(cmpp.encode(pdu)) == pdu


@each_dialect
@pytest.mark.parametrize("padding", ["20202020", "00202020", "00ff01fe"])
def test_texts_padded_with_blanks_or_garbage_are_read(dialect: CmppDialect, padding: str) -> None:
    frame = bytearray(cmpp.encode(dialect.submit(1, msg_src="90", dest_terminal_id=("13800138000",))))
    at = frame.index(b"90\0\0\0\0")
    frame[at + 2 : at + 6] = bytes.fromhex(padding)
    at = frame.index(b"13800138000") + 11
    frame[at : at + 4] = bytes.fromhex(padding)
    if padding == "20202020":
        frame[at + 4 : at + 10] = b" " * 6
    submit = dialect.decode(bytes(frame))
    assert isinstance(submit, cmpp.Submit)
    assert (submit.msg_src, submit.dest_terminal_id) == ("90", ("13800138000",))


@each_dialect
@pytest.mark.parametrize("name", ["submit", "deliver", "fwd"])
def test_reserve_or_link_id_may_be_missing_or_cut(dialect: CmppDialect, name: str) -> None:
    pdu = getattr(dialect, name)(1, msg_content=b"hi")
    frame = cmpp.encode(pdu)
    for octets in range(1, 9 if dialect is V2 else 21):
        assert dialect.decode(resized(frame[:-octets])) == pdu
    # But not a single octet of the text.
    with pytest.raises(RemoteProtocolError):
        dialect.decode(resized(frame[: -(9 if dialect is V2 else 21)]))


def test_the_reserve_of_a_query_may_be_missing() -> None:
    query = cmpp.Query(1, time="20261125")
    assert cmpp.decode(resized(cmpp.encode(query)[:-8])) == query


@settings(max_examples=200)
@given(ANY, st.binary(min_size=4, max_size=9))
def test_octets_behind_the_last_field_are_left_out(drawn: tuple[CmppDialect, cmpp.Pdu], more: bytes) -> None:
    dialect, pdu = drawn
    if not getattr(pdu, "bare", False):
        assert dialect.decode(resized(cmpp.encode(pdu) + more)) == pdu


@each_dialect
def test_an_active_test_resp_may_lack_its_octet(dialect: CmppDialect) -> None:
    session = ready_client(dialect)
    for beat in range(1, 9):
        assert session.tick(30.0 * beat) == []
        (asked,) = written(session, dialect)
        assert isinstance(asked, cmpp.ActiveTest)
        answer = cmpp.HEADER.pack(12, 0x8000_0008, asked.sequence_number)
        assert session.receive(answer, 30.0 * beat) == []
        assert dialect.decode(answer) == cmpp.ActiveTestResp(asked.sequence_number, bare=True)
        assert cmpp.encode(dialect.decode(answer)) == answer


@each_dialect
def test_an_active_test_answered_by_an_active_test_keeps_the_session(dialect: CmppDialect) -> None:
    session = ready_client(dialect)
    for beat in range(1, 20):
        assert session.tick(30.0 * beat) == []
        (asked,) = written(session, dialect)
        session.receive(cmpp.encode(cmpp.ActiveTest(asked.sequence_number)), 30.0 * beat)
        assert written(session, dialect) == [cmpp.ActiveTestResp(asked.sequence_number)]
    assert session.open_slots == 4


@each_dialect
def test_a_response_without_its_body_is_no_success(dialect: CmppDialect) -> None:
    session = ready_client(dialect)
    number = session.send(dialect.submit(), 0.0)
    (answered,) = session.receive(cmpp.HEADER.pack(12, 0x8000_0004, number), 0.0)
    assert isinstance(answered, Answered)
    assert answered.pdu == dialect.submit_resp(number, bare=True, result=Result.OTHER)
    session = logging_in(dialect)
    refused, _ = session.receive(cmpp.HEADER.pack(12, 0x8000_0001, 1), 0.0)
    assert isinstance(refused, LoginRefused)
    for command_id in (0x8000_0005, 0x8000_0007, 0x8000_0009):
        pdu = dialect.decode(cmpp.HEADER.pack(12, command_id, 1))
        assert getattr(pdu, "success_id" if command_id == 0x8000_0007 else "result") != 0


@each_dialect
def test_a_throttled_submit_is_told_by_result_8(dialect: CmppDialect) -> None:
    session = ready_client(dialect)
    number = session.send(dialect.submit(), 0.0)
    response = cmpp.encode(dialect.submit_resp(number, result=8))
    (answered,) = session.receive(response, 0.0)
    assert isinstance(answered, Answered)
    assert isinstance(answered.pdu, cmpp.SubmitResp)
    assert Result(answered.pdu.result) is Result.FLOW


@each_dialect
def test_a_flood_of_requests_is_answered_with_flow_control(dialect: CmppDialect) -> None:
    session = Session(dialect, Role.SERVER, Limits(owed_max=1), now_s=0.0)
    session.receive(cmpp.encode(login_of(dialect), 1), 0.0)
    session.accept(dialect.connect_resp(1), 0.0)
    session.take()
    events = session.receive(cmpp.encode(dialect.submit(2)) + cmpp.encode(dialect.submit(3)), 0.0)
    assert [type(event) for event in events] == [Received]
    assert written(session, dialect) == [dialect.submit_resp(3, result=Result.FLOW)]


@each_dialect
def test_the_window_is_16_and_responses_come_in_any_order(dialect: CmppDialect) -> None:
    session = Session(dialect, Role.CLIENT, Limits(), now_s=0.0)
    session.login(login_of(dialect), 0.0)
    session.receive(cmpp.encode(dialect.connect_resp(1)), 0.0)
    numbers = [session.send(dialect.submit(), 0.0, about=place) for place in range(16)]
    with pytest.raises(LocalProtocolError):
        session.send(dialect.submit(), 0.0)
    octets = b"".join(cmpp.encode(dialect.submit_resp(number)) for number in reversed(numbers))
    events = session.receive(octets, 0.0)
    assert [event.about for event in events if isinstance(event, Answered)] == list(reversed(range(16)))


def test_parts_of_one_text_may_differ_in_their_coding() -> None:
    parts = [one for one in PDU_VECTORS if "mixed_fmt" in one.name]
    read = [one.dialect.decode(one.octets) for one in parts]
    assert [(part.pk_number, part.msg_fmt) for part in read if isinstance(part, cmpp.Submit)] == [
        (number, one.fields["msg_fmt"]) for number, one in enumerate(parts, 1)
    ]
