"""SGIP PDUs, sequence numbers, reports, and what SGIP peers do."""

import json
import random
import runpy
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hongyan.wire import fields, sgip, smpp
from hongyan.wire.fields import LocalProtocolError, RemoteProtocolError
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
    State,
    Stray,
    Unanswered,
    Unreadable,
)
from hongyan.wire.sgip import LoginType, Result, SequenceNumber

from .strategies import U4, Vector, chunked, fields_of, fixed_texts

ROWS = json.loads((Path(__file__).parent / "vectors" / "sgip.json").read_text("utf-8"))
VECTORS = {
    row["name"]: Vector(row["name"], row["kind"], bytes.fromhex(row["hex"]), row["fields"]) for row in ROWS
}
PDU_VECTORS = [vector for vector in VECTORS.values() if vector.kind == "pdu"]
FRAMES = [vector.frame for vector in PDU_VECTORS]
FUZZ_WIRE = Path(__file__).parents[2] / "bench" / "fuzz_wire.py"

SP = sgip.sp_node("0755", "00001")
SMG = 107551
STAMP = 1120203225
USER = "8613112345678"
SUBMIT = sgip.Submit(sp_number="10655024", user_numbers=(USER,), report_flag=1, message_content=b"hi")


# ── every PDU, drawn from its table ──────────────────────────────────────────────────────────────────


def fixed_octets(octets: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=octets, max_size=octets)


LISTED: dict[Any, st.SearchStrategy[Any]] = {
    "user_numbers": st.lists(fixed_texts(21), min_size=1, max_size=100).map(tuple),
    "reserve": fixed_octets(8),
    "hops": st.lists(
        st.builds(
            sgip.Hop, st.integers(0, 255), fixed_texts(6), fixed_texts(16), fixed_texts(16), fixed_octets(8)
        ),
        max_size=4,
    ).map(tuple),
}


def pdus_of(pdu_class: type[sgip.Pdu]) -> st.SearchStrategy[sgip.Pdu]:
    numbers = {"sequence_number": U4, "node": U4, "stamp": U4}
    full = st.builds(pdu_class, **numbers, **fields_of(pdu_class, LISTED))
    if issubclass(pdu_class, sgip.BodiedResponse):
        return full | st.builds(pdu_class, **numbers, bare=st.just(True))
    return full


PDUS = st.one_of([pdus_of(pdu_class) for pdu_class in sgip.PDUS.values()])


def shown(value: object) -> object:
    """A field's value as the vectors write it."""
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return list(value)
    return value


@pytest.mark.parametrize("vector", PDU_VECTORS, ids=lambda vector: vector.name)
def test_a_public_pdu_decodes_to_its_fields(vector: Vector) -> None:
    pdu = sgip.decode(vector.frame)
    expected = dict(vector.fields)
    assert type(pdu) is sgip.PDUS[expected.pop("command_id")]
    sequence = expected.pop("sequence")
    assert SequenceNumber.of(pdu) == (sequence["node"], sequence["time"], sequence["seq"])
    if isinstance(pdu, sgip.Submit):
        assert len(pdu.user_numbers) == expected.pop("user_count")
        assert list(pdu.user_numbers) == expected.pop("user_number")
    if isinstance(pdu, sgip.Submit | sgip.Deliver):
        assert len(pdu.message_content) == expected.pop("message_length")
    del expected["command"]
    assert {name: shown(getattr(pdu, name)) for name in expected} == expected


@pytest.mark.parametrize("vector", PDU_VECTORS, ids=lambda vector: vector.name)
def test_a_public_pdu_is_written_again_bit_for_bit(vector: Vector) -> None:
    pdu = sgip.decode(vector.frame)
    assert sgip.encode(pdu) == vector.frame


@given(PDUS)
def test_every_pdu_reads_what_it_wrote(pdu: sgip.Pdu) -> None:
    assert sgip.decode(sgip.encode(pdu)) == pdu


@given(PDUS, U4)
def test_a_given_sequence_number_replaces_the_pdus_own(pdu: sgip.Pdu, sequence_number: int) -> None:
    assert sgip.decode(sgip.encode(pdu, sequence_number)).sequence_number == sequence_number


def test_a_memoryview_decodes_like_bytes() -> None:
    frame = sgip.encode(SUBMIT)
    assert sgip.decode(memoryview(frame)) == sgip.decode(frame)


@pytest.mark.parametrize(("users", "octets"), [(1, 0), (1, 14), (3, 16), (100, 140)])
def test_a_submit_is_as_long_as_its_users_and_its_text_make_it(users: int, octets: int) -> None:
    submit = sgip.Submit(user_numbers=(USER,) * users, message_content=bytes(octets))
    assert len(sgip.encode(submit)) == 143 + 21 * users + octets


@pytest.mark.parametrize("command_id", [*range(6, 0x11), 0x12, 0x1001, 0x8000_0006])
def test_an_unknown_command_is_kept_whole(command_id: int) -> None:
    frame = sgip.HEADER.pack(22, command_id, SP, STAMP, 7) + b"\x0f\x0e"
    pdu = sgip.decode(frame)
    assert pdu == sgip.UnknownPdu(7, SP, STAMP, command_id, b"\x0f\x0e")
    assert sgip.encode(pdu) == frame


@pytest.mark.parametrize(
    "pdu",
    [
        sgip.Submit(),
        sgip.Submit(user_numbers=(USER,) * 101),
        sgip.Submit(user_numbers=("8" * 22,)),
        sgip.Submit(user_numbers=("86\0",)),
        sgip.Submit(user_numbers=("鸿雁",)),
        sgip.Submit(user_numbers=(USER,), corp_id="123456"),
        sgip.Submit(user_numbers=(USER,), fee_type=256),
        sgip.Submit(user_numbers=(USER,), message_content=bytes(2049)),
        sgip.Submit(user_numbers=(USER,), reserve=b"short"),
        sgip.Report(submit_sequence_number=bytes(11)),
        sgip.TraceResp(hops=(sgip.Hop(),) * 256),
        sgip.TraceResp(hops=(sgip.Hop(node_id="3010092008"),)),
        sgip.TraceResp(hops=(sgip.Hop(result=256),)),
        sgip.Unbind(-1),
        sgip.Unbind(1, node=2**32),
        sgip.Unbind(1, stamp=-1),
        sgip.UnknownPdu(command_id=6, body=bytes(65_536)),
        smpp.Unbind(),
        fields.Pdu(),
    ],
)
def test_what_sgip_cannot_carry_is_our_error(pdu: fields.Pdu) -> None:
    with pytest.raises(LocalProtocolError):
        sgip.encode(pdu)


def test_a_pdu_cut_before_its_reserve_is_their_error() -> None:
    for pdu in (SUBMIT, sgip.Bind(), sgip.Deliver(message_content=b"hi"), sgip.Report(), sgip.Trace()):
        frame = sgip.encode(pdu)
        for octets in range(20, len(frame) - 8):
            with pytest.raises(RemoteProtocolError):
                sgip.decode(octets.to_bytes(4, "big") + frame[4:octets])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(19),
        (21).to_bytes(4, "big") + bytes(16),
        sgip.encode(SUBMIT)[:-1],
        sgip.encode(SUBMIT) + b"\0",
    ],
)
def test_a_frame_that_is_not_as_long_as_it_says_is_their_error(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        sgip.decode(frame)


def test_a_password_is_never_shown() -> None:
    bind = sgip.Bind(login_name="me", login_password="secret")
    assert "secret" not in repr(bind)
    assert "secret" not in repr(LoginRequested(sgip.decode(sgip.encode(bind))))
    assert repr(sgip.Bind(login_type=300)).startswith("Bind(login_type=300")


@pytest.mark.parametrize("code_class", [Result, LoginType, sgip.State])
def test_an_unknown_code_keeps_its_number(code_class: type[sgip.Code]) -> None:
    assert code_class(77) == 77
    assert code_class(77).name == "77"
    assert 77 not in code_class.__members__.values()
    for value in (-1, 256):
        with pytest.raises(ValueError, match="not a valid"):
            code_class(value)


def test_every_request_has_a_response_that_repeats_its_sequence_number() -> None:
    for request_class, response_class in sgip.RESPONSES.items():
        request = request_class(7, SP, STAMP)
        for result in (0, 11):
            response = sgip.respond(request, result)
            assert type(response) is response_class
            assert SequenceNumber.of(response) == (SP, STAMP, 7)
            assert sgip.decode(sgip.encode(response)) == response
    assert sgip.respond(SUBMIT, Result.SPEED_LIMIT) == sgip.SubmitResp(result=88)
    assert sgip.respond(sgip.Trace(), 7) == sgip.TraceResp(hops=(sgip.Hop(7),))
    assert sgip.respond(sgip.SubmitResp()) is None
    assert sgip.respond(sgip.UnknownPdu(command_id=6)) is None


def test_tables_are_readable_as_source() -> None:
    assert "sp_number = pdu.sp_number.encode('latin-1')" in sgip._CODECS[3].source


# ── sequence numbers ─────────────────────────────────────────────────────────────────────────────────


@given(U4, U4, U4)
def test_a_sequence_number_reads_what_it_wrote(node: int, stamp: int, counter: int) -> None:
    number = SequenceNumber(node, stamp, counter)
    assert len(number.octets) == 12
    assert SequenceNumber.read(number.octets) == number
    assert SequenceNumber.read(number.hex) == SequenceNumber.read(number.hex.upper()) == number


def test_a_report_names_the_sequence_number_of_its_submit() -> None:
    submit = sgip.decode(VECTORS["submit_ucs2_single__go_sgip"].frame)
    report = sgip.decode(VECTORS["report_delivered__go_sgip"].frame)
    assert isinstance(report, sgip.Report)
    assert SequenceNumber.of(submit).octets == report.submit_sequence_number
    assert SequenceNumber.of(submit).hex == "b75067e142c4f1d900000007"


def test_what_is_no_sequence_number_is_an_error() -> None:
    for theirs in (b"", bytes(11), bytes(13), "", "00", "x" * 24):
        with pytest.raises(RemoteProtocolError):
            SequenceNumber.read(theirs)
    for ours in (SequenceNumber(-1, 0, 0), SequenceNumber(0, 2**32, 0)):
        with pytest.raises(LocalProtocolError):
            _ = ours.octets


def test_the_node_of_an_sp_is_made_of_area_code_and_corp_id() -> None:
    assert sgip.sp_node("010", "92008") == 3010092008
    assert sgip.sp_node("0755", "1") == 3075500001
    for area_code, corp_id in (("01000", "92008"), ("010", "920081"), ("010", "9200x"), ("٠١٠", "92008")):
        with pytest.raises(LocalProtocolError):
            sgip.sp_node(area_code, corp_id)


def test_a_stamp_is_month_to_second_as_the_clock_on_the_wall_says() -> None:
    beijing = timezone(timedelta(hours=8))
    assert sgip.stamp_of(datetime(2026, 11, 20, 20, 32, 25, tzinfo=beijing)) == STAMP
    assert sgip.stamp_of(datetime(2026, 1, 2, 3, 4, 5, tzinfo=beijing)) == 102030405


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_is_read() -> None:
    delivered = sgip.decode(VECTORS["report_delivered__go_sgip"].frame)
    failed = sgip.decode(VECTORS["report_failed_unknown_user__go_sgip"].frame)
    assert isinstance(delivered, sgip.Report)
    assert isinstance(failed, sgip.Report)
    message_id = "b75067e142c4f1d900000007"
    assert sgip.receipt(delivered) == sgip.Receipt(message_id, USER, sgip.State.DELIVERED, Result.OK)
    assert sgip.receipt(failed) == sgip.Receipt(message_id, USER, sgip.State.FAILED, Result.UNKNOWN_USER)
    assert sgip.receipt(sgip.Report(report_type=1)).forwarded


@given(pdus_of(sgip.Report))
def test_no_report_is_too_strange(report: sgip.Pdu) -> None:
    assert isinstance(report, sgip.Report)
    receipt = sgip.receipt(report)
    assert (receipt.state, receipt.error) == (report.state, report.error_code)
    assert SequenceNumber.read(receipt.message_id).octets == report.submit_sequence_number


def test_only_states_we_know_end_a_message() -> None:
    assert [value for value in range(256) if sgip.State(value).final] == [0, 2]


def test_reports_of_one_submit_are_told_apart_by_their_users() -> None:
    octets = SequenceNumber(SP, STAMP, 7).octets
    reports = [sgip.Report(submit_sequence_number=octets, user_number=number) for number in ("861", "862")]
    receipts = [sgip.receipt(report) for report in reports]
    assert len({receipt.message_id for receipt in receipts}) == 1
    assert [receipt.user_number for receipt in receipts] == ["861", "862"]


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────

SP_DIALECT = sgip.dialect(SP, STAMP)
SMG_DIALECT = sgip.dialect(SMG, STAMP + 1)
BIND = sgip.Bind(login_type=LoginType.SP_TO_SMG, login_name="sp", login_password="secret")
SMG_BIND = sgip.Bind(login_type=LoginType.SMG_TO_SP, login_name="smg")


def ready_client(limits: Limits = sgip.LIMITS) -> Session:
    session = Session(SP_DIALECT, Role.CLIENT, limits, now_s=0.0)
    session.login(BIND, 0.0)
    session.take()
    session.receive(sgip.encode(sgip.BindResp(1, SP, STAMP)), 0.0)
    assert session.state is State.READY
    return session


def ready_server(bind: sgip.Bind = BIND, limits: Limits = sgip.LIMITS) -> Session:
    session = Session(SMG_DIALECT, Role.SERVER, limits, now_s=0.0)
    (asked,) = session.receive(sgip.encode(bind, 1, node=SP, stamp=STAMP), 0.0)
    session.accept(welcome(asked), 0.0)
    session.take()
    assert session.state is State.READY
    return session


def welcome(asked: Event) -> sgip.Pdu:
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, sgip.Bind)
    response = sgip.respond(asked.pdu)
    assert response is not None
    return response


def written(session: Session) -> list[sgip.Pdu]:
    framer = fields.Framer(sgip.HEADER.size)
    return [sgip.decode(frame) for frame in framer.feed(session.take())]


def passed(source: Session, target: Session, now_s: float = 0.0) -> list[Event]:
    return target.receive(source.take(), now_s)


def test_a_message_and_its_report_travel_on_two_connections() -> None:
    sp, smg = (
        Session(SP_DIALECT, Role.CLIENT, sgip.LIMITS, 0.0),
        Session(SMG_DIALECT, Role.SERVER, sgip.LIMITS, 0.0),
    )
    sp.login(BIND, 0.0)
    (asked,) = passed(sp, smg)
    smg.accept(welcome(asked), 0.0)
    assert passed(smg, sp) == [LoggedIn(sgip.BindResp(1, SP, STAMP))]
    number = sp.send(SUBMIT, 1.0, about="part 1")
    (submitted,) = passed(sp, smg, 1.0)
    assert isinstance(submitted, Received)
    assert isinstance(submitted.pdu, sgip.Submit)
    assert SequenceNumber.of(submitted.pdu) == (SP, STAMP, number)
    response = sgip.respond(submitted.pdu)
    assert response is not None
    smg.answer(response, 1.5)
    assert passed(smg, sp, 1.5) == [Answered(number, "part 1", sgip.SubmitResp(number, SP, STAMP), 0.5)]
    sp.logout(2.0)
    assert passed(sp, smg, 2.0) == [Closed(End.PEER_LOGGED_OUT, "")]
    assert passed(smg, sp, 2.0) == [Closed(End.LOGGED_OUT, "")]

    caller = Session(sgip.dialect(SMG, STAMP + 9), Role.CLIENT, sgip.LIMITS, 3.0)
    listener = Session(sgip.dialect(SP, STAMP + 9), Role.SERVER, sgip.LIMITS, 3.0)
    caller.login(SMG_BIND, 3.0)
    (asked,) = passed(caller, listener, 3.0)
    listener.accept(welcome(asked), 3.0)
    passed(listener, caller, 3.0)
    message_id = SequenceNumber.of(submitted.pdu)
    caller.send(sgip.Report(submit_sequence_number=message_id.octets, user_number=USER), 4.0)
    (reported,) = passed(caller, listener, 4.0)
    assert isinstance(reported, Received)
    assert isinstance(reported.pdu, sgip.Report)
    assert SequenceNumber.of(reported.pdu) == (SMG, STAMP + 9, 2)
    assert sgip.receipt(reported.pdu).message_id == message_id.hex


def test_a_request_without_node_and_stamp_gets_the_connections() -> None:
    session = ready_client()
    session.send(SUBMIT, 1.0)
    session.send(sgip.Submit(0, SMG, 7, user_numbers=(USER,)), 1.0)
    session.logout(1.0)
    assert [SequenceNumber.of(pdu) for pdu in written(session)] == [
        (SP, STAMP, 2),
        (SMG, 7, 3),
        (SP, STAMP, 4),
    ]
    unknown = sgip.decode(SP_DIALECT.encode(sgip.UnknownPdu(command_id=9), 5))
    assert SequenceNumber.of(unknown) == (SP, STAMP, 5)


@given(PDUS.filter(lambda pdu: isinstance(pdu, sgip.Response)), U4, U4)
def test_a_response_never_gets_the_connections_node_and_stamp(pdu: sgip.Pdu, node: int, stamp: int) -> None:
    assert sgip.dialect(node, stamp).encode(pdu, None) == sgip.encode(pdu)


def test_a_login_that_is_refused_says_why() -> None:
    sp, smg = (
        Session(SP_DIALECT, Role.CLIENT, sgip.LIMITS, 0.0),
        Session(SMG_DIALECT, Role.SERVER, sgip.LIMITS, 0.0),
    )
    sp.login(BIND, 0.0)
    (asked,) = passed(sp, smg)
    smg.refuse(sgip.BindResp(1, SP, STAMP, result=Result.ILLEGAL_LOGIN))
    assert isinstance(asked, LoginRequested)
    refused, closed = passed(smg, sp)
    assert refused == LoginRefused(sgip.BindResp(1, SP, STAMP, result=Result.ILLEGAL_LOGIN))
    assert isinstance(closed, Closed)
    assert closed.end is End.LOGIN_REFUSED


@pytest.mark.parametrize(
    ("login_type", "refused"),
    [
        (LoginType.SP_TO_SMG, {sgip.Deliver, sgip.Report, sgip.UserRpt}),
        (LoginType.SMG_TO_SP, {sgip.Submit, sgip.Trace}),
        (LoginType.SMG_TO_SMG, set()),
        (LoginType.TEST, set()),
        (99, set()),
    ],
)
def test_what_a_peer_may_ask_follows_from_its_kind_of_login(login_type: int, refused: set[type]) -> None:
    asked: set[type] = set()
    requests: tuple[sgip.Pdu, ...] = (SUBMIT, sgip.Deliver(), sgip.Report(), sgip.UserRpt(), sgip.Trace())
    for request in requests:
        session = ready_server(sgip.Bind(login_type=login_type))
        if not session.receive(sgip.encode(request, 5), 1.0):
            (answer,) = written(session)
            assert answer == sgip.respond(sgip.decode(sgip.encode(request, 5)), Result.ILLEGAL_LOGIN)
            asked.add(type(request))
    assert asked == refused


def test_a_listener_asks_nothing_but_what_some_smgs_push() -> None:
    sp_connection = ready_server(BIND)
    for request in (sgip.Deliver(), sgip.Report(), sgip.UserRpt()):
        sp_connection.send(request, 0.0)
    with pytest.raises(LocalProtocolError):
        sp_connection.send(SUBMIT, 0.0)
    for pushed in (SUBMIT, sgip.Deliver(), sgip.Report()):
        with pytest.raises(LocalProtocolError):
            ready_server(SMG_BIND).send(pushed, 0.0)


def test_an_idle_connection_is_left_by_its_listener_without_a_word() -> None:
    session = ready_server()
    assert session.tick(60.0) == [Closed(End.INACTIVE, "for 60.0 s")]
    assert session.take() == b""


def test_an_account_may_bring_its_own_node_at_login() -> None:
    session = Session(sgip.dialect(0, 0), Role.SERVER, sgip.LIMITS, 0.0)
    (asked,) = session.receive(sgip.encode(BIND, 1, node=SP, stamp=STAMP), 0.0)
    session.accept(welcome(asked), 0.0, sgip.dialect(SMG, STAMP + 1))
    session.send(sgip.Report(), 0.0)
    assert [SequenceNumber.of(pdu) for pdu in written(session)] == [(SP, STAMP, 1), (SMG, STAMP + 1, 1)]


def test_the_owner_may_let_any_login_ask_for_anything() -> None:
    lenient = sgip.dialect(SP, STAMP, allows=lambda login, request: True)  # noqa: ARG005 - as it is called
    session = Session(lenient, Role.SERVER, sgip.LIMITS, 0.0)
    (asked,) = session.receive(sgip.encode(BIND, 1), 0.0)
    session.accept(welcome(asked), 0.0)
    assert len(session.receive(sgip.encode(sgip.Report(2)), 0.0)) == 1


def test_the_machine_answers_in_the_words_of_sgip() -> None:
    session = Session(SMG_DIALECT, Role.SERVER, Limits(owed_max=1), 0.0)
    assert session.receive(sgip.encode(SUBMIT, 7, node=SP, stamp=STAMP), 0.0) == []
    assert written(session) == [sgip.SubmitResp(7, SP, STAMP, result=Result.ILLEGAL_LOGIN)]
    session = ready_server(limits=Limits(owed_max=1))
    session.receive(sgip.encode(BIND, 8, node=SP, stamp=STAMP), 0.0)
    assert written(session) == [sgip.BindResp(8, SP, STAMP, result=Result.REPEATED_LOGIN)]
    session.receive(sgip.encode(SUBMIT, 9) + sgip.encode(SUBMIT, 10), 0.0)
    assert written(session) == [sgip.SubmitResp(10, result=Result.NODE_BUSY)]
    session.receive(sgip.encode(sgip.UnknownPdu(11, SP, STAMP, 6, b"?")), 0.0)
    assert written(session) == [
        sgip.UnknownPdu(11, SP, STAMP, 0x8000_0006, bytes((Result.COMMAND_ID,)) + bytes(8))
    ]
    session.receive(sgip.encode(sgip.UnknownPdu(12, SP, STAMP, 0x8000_0006)), 0.0)
    assert written(session) == []
    session.receive(sgip.encode(sgip.Unbind(13, SP, STAMP)), 0.0)
    assert written(session) == [sgip.UnbindResp(13, SP, STAMP)]


def test_an_unreadable_request_is_answered_and_the_next_one_served() -> None:
    session = ready_server()
    overrun = bytearray(sgip.encode(SUBMIT, 7, node=SP, stamp=STAMP))
    overrun[-14:-10] = (2**31).to_bytes(4, "big")  # the length of the text
    events = session.receive(bytes(overrun) + sgip.encode(SUBMIT, 8), 0.0)
    assert [type(event) for event in events] == [Unreadable, Received]
    assert written(session) == [sgip.SubmitResp(7, SP, STAMP, result=Result.LENGTH)]


def test_an_unreadable_response_is_not_answered() -> None:
    session = ready_server()
    cut = sgip.HEADER.pack(21, 0x8000_1000, SP, STAMP, 7) + b"\1"
    (event,) = session.receive(cut, 0.0)
    assert isinstance(event, Unreadable)
    assert written(session) == []


def test_a_lost_stream_ends_the_session_without_a_word() -> None:
    session = ready_server()
    (closed,) = session.receive(bytes(20), 0.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.BROKEN
    assert session.take() == b""


def test_an_idle_connection_is_closed_and_never_asked_whether_it_lives() -> None:
    session = ready_client()
    for at_s in range(1, 60):
        assert session.tick(float(at_s)) == []
        assert session.take() == b""
    assert session.tick(60.0) == [Closed(End.INACTIVE, "for 60.0 s")]
    assert written(session) == [sgip.Unbind(2, SP, STAMP)]


def test_silence_is_not_death() -> None:
    session = ready_client(Limits(inactivity_s=None, heartbeat_s=30.0))
    assert session.tick(86_400.0) == []
    assert session.take() == b""
    assert session.state is State.READY


def split_is_whole(make: Callable[[], Session], octets: bytes, chunks: list[bytes]) -> None:
    whole, split = make(), make()
    for session in (whole, split):
        session.send(SUBMIT if session.peer_login is None else sgip.Report(), 0.0, about="a")
    events = whole.receive(octets, 1.0)
    assert [event for chunk in chunks for event in split.receive(chunk, 1.0)] == events
    assert whole.take() == split.take()
    assert whole.state == split.state


@settings(max_examples=60)
@given(
    st.lists(PDUS, max_size=6)
    .map(lambda pdus: b"".join(map(sgip.encode, pdus)))
    .flatmap(lambda octets: st.tuples(st.just(octets), chunked(octets))),
    st.sampled_from([ready_client, ready_server]),
)
def test_any_split_gives_the_same_events_and_answers_in_both_roles(
    drawn: tuple[bytes, list[bytes]], make: Callable[[], Session]
) -> None:
    split_is_whole(make, *drawn)


@settings(max_examples=60)
@given(st.data(), st.sampled_from([ready_client, ready_server]))
def test_any_split_of_the_public_stream_gives_the_same_events(
    data: st.DataObject, make: Callable[[], Session]
) -> None:
    octets = b"".join(data.draw(st.lists(st.sampled_from(FRAMES), max_size=8)))
    octets += data.draw(st.binary(max_size=24))
    split_is_whole(make, octets, data.draw(chunked(octets)))


# ── what SGIP peers do ───────────────────────────────────────────────────────────────────────────────


def test_nodes_above_two_to_the_31_stay_unsigned() -> None:
    pdu = sgip.decode(VECTORS["submit__captured_smsgate"].frame)
    assert pdu.node == 3075500001 > 2**31
    assert SequenceNumber.of(pdu).hex.startswith("b75067e1")
    top = sgip.decode(VECTORS["submit_ascii_group3__go_sgip"].frame)
    assert top.sequence_number == 2**32 - 1


def test_a_report_on_the_connection_the_smg_opened_is_taken_by_the_listener() -> None:
    session = ready_server(SMG_BIND)
    octets = VECTORS["report_delivered__go_sgip"].frame + VECTORS["deliver_gbk__go_sgip"].frame
    assert [type(event.pdu) for event in session.receive(octets, 0.0) if isinstance(event, Received)] == [
        sgip.Report,
        sgip.Deliver,
    ]


def test_a_report_pushed_on_the_sps_own_connection_is_taken() -> None:
    session = ready_client()
    number = session.send(SUBMIT, 0.0)
    session.take()
    # The SMG counts for itself: its number may be that of our open request.
    report, answered = session.receive(
        sgip.encode(sgip.Report(number, SMG, 5)) + sgip.encode(sgip.SubmitResp(number, SP, STAMP)), 1.0
    )
    assert report == Received(sgip.Report(number, SMG, 5))
    assert isinstance(answered, Answered)
    session.answer(sgip.ReportResp(number, SMG, 5), 1.0)
    assert written(session) == [sgip.ReportResp(number, SMG, 5)]


def test_a_report_may_share_the_segment_of_the_bind_resp() -> None:
    session = Session(SP_DIALECT, Role.CLIENT, sgip.LIMITS, 0.0)
    session.login(BIND, 0.0)
    octets = sgip.encode(sgip.BindResp(1, SP, STAMP)) + sgip.encode(sgip.Report(1, SMG, 5))
    assert [type(event) for event in session.receive(octets, 0.0)] == [LoggedIn, Received]


@pytest.mark.parametrize("garbage", [b" ", b"\0 x", b"\0\xff"])
def test_blanks_and_garbage_behind_a_text_are_padding(garbage: bytes) -> None:
    deliver = bytearray(sgip.encode(sgip.Deliver(user_number=USER, sp_number="10655024")))
    deliver[20:41] = (USER.encode() + garbage).ljust(21, b" ")
    pdu = sgip.decode(bytes(deliver))
    assert isinstance(pdu, sgip.Deliver)
    assert (pdu.user_number, pdu.sp_number) == (USER, "10655024")
    submit = bytearray(sgip.encode(SUBMIT))
    submit[63:84] = (USER.encode() + garbage).ljust(21, b" ")
    assert sgip.decode(bytes(submit)) == SUBMIT


@given(PDUS, st.integers(0, 8))
def test_a_missing_reserve_reads_as_zeros(pdu: sgip.Pdu, missing: int) -> None:
    if not hasattr(pdu, "reserve") or getattr(pdu, "bare", False):
        return
    frame = sgip.encode(pdu)
    cut = frame[: len(frame) - missing]
    short = sgip.decode(len(cut).to_bytes(4, "big") + cut[4:])
    assert sgip.encode(short) == cut + bytes(missing)  # only what it says changes: its octets are written


@given(PDUS, st.binary(min_size=1, max_size=16))
def test_octets_after_the_last_field_are_left_out(pdu: sgip.Pdu, tail: bytes) -> None:
    frame = sgip.encode(pdu)
    if len(frame) == 20 and isinstance(pdu, sgip.BodiedResponse):
        return  # they are its body
    if isinstance(pdu, sgip.TraceResp) and len(tail) == 4 * len(pdu.hops):
        return  # see test_a_trace_of_1_3_has_longer_nodes
    longer = (len(frame) + len(tail)).to_bytes(4, "big") + frame[4:] + tail
    assert sgip.decode(longer) == pdu


def test_an_unbind_resp_with_nine_octets_too_many_ends_the_session() -> None:
    frame = VECTORS["neg__go_sgip_unbind_resp_with_body"].frame
    pdu = sgip.decode(frame)
    assert pdu == sgip.UnbindResp(4, SP, 1122071438)
    assert len(sgip.encode(pdu)) == 20
    session = ready_client()
    session.logout(1.0)
    assert session.receive(frame, 1.0) == [Closed(End.LOGGED_OUT, "")]


@pytest.mark.parametrize(
    "response_class", [cls for cls in sgip.PDUS.values() if issubclass(cls, sgip.ResultResponse)]
)
def test_error_responses_come_with_or_without_a_body(response_class: type[sgip.ResultResponse]) -> None:
    whole = sgip.encode(response_class(7, SP, STAMP, result=Result.NODE_BUSY))
    for octets in (29, 25, 21):
        response = sgip.decode(octets.to_bytes(4, "big") + whole[4:octets])
        assert response == response_class(7, SP, STAMP, result=Result.NODE_BUSY)
    bare = (20).to_bytes(4, "big") + whole[4:20]
    response = sgip.decode(bare)
    assert response == response_class(7, SP, STAMP, bare=True)
    assert sgip.encode(response) == bare


def test_a_response_without_a_body_says_nothing_good() -> None:
    assert sgip.SubmitResp().ok
    assert not sgip.SubmitResp(result=Result.SPEED_LIMIT).ok
    assert not sgip.SubmitResp(bare=True).ok
    session = Session(SP_DIALECT, Role.CLIENT, sgip.LIMITS, 0.0)
    session.login(BIND, 0.0)
    refused, _ = session.receive(sgip.encode(sgip.BindResp(1, SP, STAMP, bare=True)), 0.0)
    assert isinstance(refused, LoginRefused)


def test_88_means_too_fast() -> None:
    session = ready_client()
    number = session.send(SUBMIT, 0.0)
    (answered,) = session.receive(sgip.encode(sgip.SubmitResp(number, SP, STAMP, result=88)), 0.0)
    assert isinstance(answered, Answered)
    assert isinstance(answered.pdu, sgip.SubmitResp)
    assert Result(answered.pdu.result) is Result.SPEED_LIMIT


def test_the_window_is_32_and_its_responses_come_in_any_order() -> None:
    session = ready_client()
    numbers = [session.send(SUBMIT, 0.0, about=index) for index in range(32)]
    assert session.open_slots == 0
    with pytest.raises(LocalProtocolError):
        session.send(SUBMIT, 0.0)
    octets = b"".join(sgip.encode(sgip.SubmitResp(number, SP, STAMP)) for number in reversed(numbers))
    events = session.receive(octets, 1.0)
    assert [event.about for event in events if isinstance(event, Answered)] == [*range(31, -1, -1)]


def test_responses_are_matched_by_the_counter_alone() -> None:
    # Peers that are wrong about signs or stamps still answer what was asked.
    session = ready_client()
    number = session.send(SUBMIT, 0.0, about="a")
    (answered,) = session.receive(sgip.encode(sgip.SubmitResp(number)), 0.0)
    assert isinstance(answered, Answered)
    assert answered.about == "a"


def test_a_submit_that_is_sent_again_is_the_same_value_to_the_server() -> None:
    session = ready_server()
    frame = sgip.encode(SUBMIT, 7, node=SP, stamp=STAMP)
    first, again = session.receive(frame + frame, 0.0)
    assert first == again  # same number and content: the owner drops it
    (other,) = session.receive(frame.replace(b"hi", b"ho"), 0.0)
    assert isinstance(other, Received)
    assert isinstance(first, Received)
    assert SequenceNumber.of(other.pdu) == SequenceNumber.of(first.pdu)  # type: ignore[arg-type]
    assert other != first  # SEQUENCE_NUMBER is its answer


def test_a_response_after_30_s_is_too_late_and_said_to_be() -> None:
    session = ready_client()
    number = session.send(SUBMIT, 0.0, about="a")
    session.take()
    assert session.tick(30.0) == [Unanswered(number, "a")]
    late = sgip.SubmitResp(number, SP, STAMP)
    assert session.receive(sgip.encode(late), 31.0) == [Stray(late)]


def test_numbers_keep_the_form_they_are_given_in() -> None:
    # SGIP wants 86 in front (ILLEGAL_NUMBER), and reports may come back in another form: a channel's business.
    for number in ("8613112345678", "+8613112345678", "13112345678"):
        pdu = sgip.decode(sgip.encode(sgip.Report(user_number=number)))
        assert isinstance(pdu, sgip.Report)
        assert sgip.receipt(pdu).user_number == number


def test_a_peer_that_writes_eight_octets_for_one_costs_nothing_but_its_own_pdu() -> None:
    result = bytes(7) + b"\0" + bytes(8)
    wide = sgip.HEADER.pack(20 + len(result), 0x8000_0003, SP, STAMP, 2) + result
    assert sgip.decode(wide) == sgip.SubmitResp(2, SP, STAMP)
    session = ready_server()
    body = (
        b"10655024".ljust(21, b"\0")
        + bytes(21)
        + bytes(7)
        + b"\1"
        + USER.encode().ljust(21, b"\0")
        + bytes(40)
    )
    session.receive(sgip.HEADER.pack(20 + len(body), 3, SP, STAMP, 3) + body, 0.0)
    assert session.state is State.READY
    assert len(session.receive(sgip.encode(SUBMIT, 4), 0.0)) == 1


def test_a_trace_of_1_3_has_longer_nodes() -> None:
    hop = bytes((0,)) + b"3010092008" + b"261120203225032+" * 2 + bytes(8)
    body = b"\2" + hop * 2
    pdu = sgip.decode(sgip.HEADER.pack(20 + len(body), 0x8000_1000, SP, STAMP, 7) + body)
    assert isinstance(pdu, sgip.TraceResp)
    assert pdu.hops == (sgip.Hop(0, "3010092008", "261120203225032+", "261120203225032+"),) * 2


def test_the_last_hop_may_lack_its_reserve() -> None:
    response = sgip.TraceResp(7, hops=(sgip.Hop(0, "107551"), sgip.Hop(1, "107552")))
    frame = sgip.encode(response)[:-8]
    assert sgip.decode(len(frame).to_bytes(4, "big") + frame[4:]) == response


# ── garbage ──────────────────────────────────────────────────────────────────────────────────────────


def test_mutated_pdus_raise_nothing_but_remote_protocol_errors() -> None:
    mutate = runpy.run_path(str(FUZZ_WIRE))["mutate"]
    chance = random.Random(20261125)
    seeds = [*FRAMES, sgip.encode(sgip.Trace()), sgip.encode(sgip.UserRpt())]
    seeds.append(sgip.encode(sgip.TraceResp(hops=(sgip.Hop(), sgip.Hop()))))
    makers = (ready_client, ready_server)
    sessions = [make() for make in makers]
    decoded = closed = 0
    for turn in range(100_000):
        frame = mutate(chance.choice(seeds), chance) if turn % 16 else chance.randbytes(chance.randrange(80))
        decoded += reads(frame)
        if turn % 8 == 0:
            which = turn // 8 % 2
            cut = chance.randrange(len(frame) + 1)
            sessions[which].receive(frame[:cut], 1.0)
            sessions[which].receive(frame[cut:], 1.0)
            sessions[which].take()
            sessions[which].tick(2.0)
            if sessions[which].state is State.CLOSED:
                sessions[which] = makers[which]()
                closed += 1
    assert 10_000 < decoded < 90_000
    assert closed > 100


def reads(frame: bytes) -> bool:
    """True if it decodes; then, if it can be written at all, it must be read again as the same value."""
    try:
        pdu = sgip.decode(frame)
    except RemoteProtocolError:
        return False
    assert repr(pdu)
    if isinstance(pdu, sgip.Report):
        sgip.receipt(pdu)
    try:
        again = sgip.encode(pdu)
    except LocalProtocolError:
        return True
    assert sgip.decode(again) == pdu, frame.hex()
    return True
