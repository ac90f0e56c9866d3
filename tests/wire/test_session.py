"""The session machine: client and server against each other, in memory, with time given by hand."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hongyan.wire import smpp
from hongyan.wire.fields import LocalProtocolError
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

from .strategies import FRAMES, PDUS, VECTORS, chunked

LIMITS = Limits(window_size=4, ack_wait_s=60.0, heartbeat_s=30.0, heartbeat_misses_max=3, login_wait_s=10.0)
BIND = smpp.BindTransceiver(system_id="hongyan", password="secret")


def client(limits: Limits = LIMITS) -> Session:
    return Session(smpp.DIALECT, Role.CLIENT, limits, now_s=0.0)


def server(limits: Limits = LIMITS) -> Session:
    return Session(smpp.DIALECT, Role.SERVER, limits, now_s=0.0)


def ready_client(limits: Limits = LIMITS) -> Session:
    session = client(limits)
    session.login(BIND, 0.0)
    session.take()
    assert session.receive(smpp.encode(smpp.BindTransceiverResp(1)), 0.0) == [
        LoggedIn(smpp.BindTransceiverResp(1))
    ]
    return session


def ready_server(bind: smpp.Bind = BIND, limits: Limits = LIMITS) -> Session:
    session = server(limits)
    session.receive(smpp.encode(bind, 1), 0.0)
    session.accept(smpp.respond(smpp.decode(smpp.encode(bind, 1))) or bind, 0.0)
    session.take()
    return session


def written(session: Session) -> list[smpp.Pdu]:
    octets = session.take()
    pdus = []
    while octets:
        length = int.from_bytes(octets[:4], "big")
        pdus.append(smpp.decode(octets[:length]))
        octets = octets[length:]
    return pdus


def passed(source: Session, target: Session, now_s: float = 0.0) -> list[Event]:
    return target.receive(source.take(), now_s)


# ── a whole conversation ─────────────────────────────────────────────────────────────────────────────


def test_a_message_travels_from_login_to_logout() -> None:
    esme, centre = client(), server()
    esme.login(BIND, 0.0)
    (asked,) = passed(esme, centre)
    assert isinstance(asked, LoginRequested)
    assert isinstance(asked.pdu, smpp.BindTransceiver)
    centre.accept(smpp.bind_resp(asked.pdu, "centre"), 0.0)
    (welcome,) = passed(centre, esme)
    assert isinstance(welcome, LoggedIn)

    number = esme.send(smpp.SubmitSm(short_message=b"hi"), 1.0, about="part 1")
    assert passed(esme, centre, 1.0) == [Received(smpp.SubmitSm(number, short_message=b"hi"))]
    centre.answer(smpp.SubmitSmResp(number, message_id="7"), 1.5)
    assert passed(centre, esme, 1.5) == [
        Answered(number, "part 1", smpp.SubmitSmResp(number, message_id="7"), 0.5)
    ]

    number = centre.send(smpp.DeliverSm(esm_class=4, short_message=b"id:7 stat:DELIVRD"), 2.0)
    (report,) = passed(centre, esme, 2.0)
    assert isinstance(report, Received)
    esme.answer(smpp.DeliverSmResp(report.pdu.sequence_number), 2.5)
    assert passed(esme, centre, 2.5) == [Answered(number, None, smpp.DeliverSmResp(number), 0.5)]

    esme.logout(3.0)
    assert passed(esme, centre, 3.0) == [Closed(End.PEER_LOGGED_OUT, "")]
    assert passed(centre, esme, 3.0) == [Closed(End.LOGGED_OUT, "")]
    assert esme.next_deadline_s is None


def test_output_is_taken_in_one_piece() -> None:
    session = ready_client()
    session.send(smpp.SubmitSm(), 0.0)
    session.send(smpp.SubmitSm(), 0.0)
    assert [pdu.sequence_number for pdu in written(session)] == [2, 3]
    assert session.take() == b""


@settings(max_examples=60)
@given(
    st.lists(PDUS, max_size=6)
    .map(lambda pdus: b"".join(map(smpp.encode, pdus)))
    .flatmap(lambda octets: st.tuples(st.just(octets), chunked(octets)))
)
def test_any_split_gives_the_same_events_and_answers(drawn: tuple[bytes, list[bytes]]) -> None:
    octets, chunks = drawn
    whole, split = ready_client(), ready_client()
    for session in (whole, split):
        session.send(smpp.SubmitSm(), 0.0, about="a")
    events = whole.receive(octets, 1.0)
    assert [event for chunk in chunks for event in split.receive(chunk, 1.0)] == events
    assert whole.take() == split.take()


@given(st.data())
@settings(max_examples=60)
def test_any_split_of_the_public_stream_gives_the_same_events(data: st.DataObject) -> None:
    octets = b"".join(data.draw(st.lists(st.sampled_from(FRAMES), max_size=8)))
    octets += data.draw(st.binary(max_size=24))
    whole, split = ready_server(), ready_server()
    events = whole.receive(octets, 1.0)
    assert [event for chunk in data.draw(chunked(octets)) for event in split.receive(chunk, 1.0)] == events
    assert whole.take() == split.take()


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_garbage_raises(chunks: list[bytes]) -> None:
    for session in (client(), server(), ready_client(), ready_server()):
        for chunk in chunks:
            session.receive(chunk, 1.0)


# ── login ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("refusal", [smpp.BindTransceiverResp(1, 0x0E, bare=True), smpp.GenericNack(1, 3)])
def test_a_refused_login_ends_the_session(refusal: smpp.Pdu) -> None:
    session = client()
    session.login(BIND, 0.0)
    assert session.receive(smpp.encode(refusal), 1.0) == [
        LoginRefused(refusal),
        Closed(End.LOGIN_REFUSED, ""),
    ]


def test_a_server_may_refuse() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1), 0.0)
    session.refuse(smpp.BindTransceiverResp(1, 0x0E, bare=True))
    assert written(session) == [smpp.BindTransceiverResp(1, 0x0E, bare=True)]
    assert session.state is State.CLOSED


@pytest.mark.parametrize("session", [client(), server()])
def test_a_login_that_takes_too_long_ends_the_session(session: Session) -> None:
    assert session.next_deadline_s == 10.0
    assert session.tick(9.9) == []
    (closed,) = session.tick(10.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.LOGIN_TOO_LATE


def test_a_second_login_is_refused_and_the_first_stands() -> None:
    session = ready_server()
    assert session.receive(smpp.encode(BIND, 2), 0.0) == []
    assert written(session) == [smpp.BindTransceiverResp(2, smpp.CommandStatus.ALYBND, bare=True)]
    assert session.state is State.READY


@pytest.mark.parametrize("session", [client(), server()])
def test_a_request_before_login_is_refused(session: Session) -> None:
    assert session.receive(smpp.encode(smpp.SubmitSm(5)), 0.0) == []
    assert written(session) == [smpp.SubmitSmResp(5, smpp.CommandStatus.INVBNDSTS, bare=True)]


@pytest.mark.parametrize(
    ("bind", "request_pdu", "allowed"),
    [
        (smpp.BindReceiver(), smpp.SubmitSm(5), False),
        (smpp.BindTransmitter(), smpp.SubmitSm(5), True),
        (smpp.BindTransceiver(), smpp.QuerySm(5), True),
        (smpp.BindTransceiver(), smpp.DeliverSm(5), False),
    ],
)
def test_the_kind_of_login_decides_what_may_be_asked(
    bind: smpp.Bind, request_pdu: smpp.Pdu, allowed: bool
) -> None:
    session = ready_server(bind)
    assert session.receive(smpp.encode(request_pdu), 0.0) == ([Received(request_pdu)] if allowed else [])
    assert bool(session.take()) is not allowed


def test_an_outbind_asks_the_client_to_log_in() -> None:
    session = client()
    outbind = smpp.Outbind(1, system_id="centre")
    assert session.receive(smpp.encode(outbind), 0.0) == [Received(outbind)]
    session.login(smpp.BindReceiver(system_id="hongyan"), 0.0)
    assert isinstance(written(session)[0], smpp.BindReceiver)


# ── window ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_slot_is_free_only_when_the_owner_says_so() -> None:
    session = ready_client()
    for about in range(4):
        session.send(smpp.SubmitSm(), 0.0, about)
    with pytest.raises(LocalProtocolError):
        session.send(smpp.SubmitSm(), 0.0)
    answers = b"".join(smpp.encode(smpp.SubmitSmResp(pdu.sequence_number)) for pdu in written(session))
    events = session.receive(answers, 1.0)
    assert [event.about for event in events if isinstance(event, Answered)] == [0, 1, 2, 3]
    assert session.open_slots == 0
    session.release(3)
    assert session.open_slots == 3
    with pytest.raises(LocalProtocolError):
        session.release(2)


def test_a_pdu_that_cannot_be_written_takes_no_slot() -> None:
    session = ready_client()
    with pytest.raises(LocalProtocolError):
        session.send(smpp.SubmitSm(source_addr="1" * 30), 0.0)
    assert session.open_slots == 4
    assert session.unanswered == ()


def test_responses_match_in_any_order() -> None:
    session = ready_client()
    numbers = [session.send(smpp.SubmitSm(), 0.0, about) for about in "abc"]
    octets = b"".join(smpp.encode(smpp.SubmitSmResp(number)) for number in reversed(numbers))
    assert [event.about for event in session.receive(octets, 1.0) if isinstance(event, Answered)] == [
        "c",
        "b",
        "a",
    ]


def test_a_nack_answers_the_request_it_names() -> None:
    session = ready_client()
    number = session.send(smpp.SubmitSm(), 0.0, "a")
    assert session.receive(smpp.encode(smpp.GenericNack(number, 3)), 1.0) == [
        Answered(number, "a", smpp.GenericNack(number, 3), 1.0)
    ]


def test_a_doubled_response_is_a_stray() -> None:
    session = ready_client()
    response = smpp.SubmitSmResp(session.send(smpp.SubmitSm(), 0.0), message_id="7")
    assert session.receive(smpp.encode(response) * 2, 1.0)[1:] == [Stray(response)]


def test_an_ack_that_never_comes_is_said_once_and_late_it_is_a_stray() -> None:
    session = ready_client()
    first = session.send(smpp.SubmitSm(), 0.0, "a")
    session.send(smpp.SubmitSm(), 20.0, "b")
    session.receive(smpp.encode(smpp.EnquireLink(9)), 59.0)
    assert session.next_deadline_s == 60.0
    assert session.tick(60.0) == [Unanswered(first, "a")]
    assert session.tick(61.0) == []
    late = smpp.SubmitSmResp(first)
    assert session.receive(smpp.encode(late), 62.0) == [Stray(late)]
    assert session.open_slots == 2


def test_sequence_numbers_wrap_to_one_and_pass_over_those_in_use() -> None:
    session = ready_client()
    session._sequence_number = 0
    assert session.send(smpp.SubmitSm(), 0.0) == 1
    session._sequence_number = smpp.SEQUENCE_NUMBER_MAX - 1
    assert session.send(smpp.SubmitSm(), 0.0) == smpp.SEQUENCE_NUMBER_MAX
    assert session.send(smpp.SubmitSm(), 0.0) == 2


def test_a_lost_connection_names_what_is_unsure() -> None:
    session = ready_client()
    numbers = [session.send(smpp.SubmitSm(), 0.0, about) for about in "ab"]
    session.receive(smpp.encode(smpp.SubmitSmResp(numbers[0])), 1.0)
    assert session.lost("reset") == [Closed(End.LOST, "reset", ((numbers[1], "b"),))]
    assert session.lost() == []
    with pytest.raises(LocalProtocolError):
        session.send(smpp.SubmitSm(), 2.0)


# ── heartbeat and other ends ─────────────────────────────────────────────────────────────────────────


def test_silence_is_met_with_heartbeats_and_then_with_the_end() -> None:
    session = ready_client()
    for at_s in (30.0, 60.0, 90.0):
        assert session.next_deadline_s == at_s
        assert session.tick(at_s) == []
        assert isinstance(written(session)[0], smpp.EnquireLink)
    (closed,) = session.tick(120.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.DEAD


def test_any_traffic_is_a_sign_of_life() -> None:
    session = ready_client()
    for at_s in (30.0, 60.0, 90.0):
        session.tick(at_s)
    session.receive(b"\0", 119.0)  # not even a whole PDU
    assert session.tick(120.0) == []
    assert session.next_deadline_s == 149.0


def test_two_idle_machines_keep_each_other_alive() -> None:
    esme, centre = ready_client(), ready_server()
    for second in range(0, 1000, 5):
        assert esme.tick(float(second)) == []
        assert centre.tick(float(second)) == []
        assert passed(esme, centre, float(second)) == []
        assert passed(centre, esme, float(second)) == []


def test_a_session_of_nothing_but_heartbeats_ends_when_so_limited() -> None:
    session = ready_client(Limits(inactivity_s=100.0))
    session.receive(smpp.encode(smpp.EnquireLink(7)), 99.0)
    session.take()
    (closed,) = session.tick(100.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.INACTIVE
    assert isinstance(written(session)[0], smpp.Unbind)


def test_responses_still_arrive_while_logging_out() -> None:
    session = ready_client()
    number = session.send(smpp.SubmitSm(), 0.0, "a")
    session.logout(1.0)
    assert session.open_slots == 0
    octets = smpp.encode(smpp.SubmitSmResp(number)) + smpp.encode(smpp.UnbindResp(number + 1))
    assert session.receive(octets, 2.0) == [
        Answered(number, "a", smpp.SubmitSmResp(number), 2.0),
        Closed(End.LOGGED_OUT, ""),
    ]


def test_a_logout_without_answer_ends_all_the_same() -> None:
    session = ready_client()
    session.logout(1.0)
    session.receive(smpp.encode(smpp.EnquireLink(9)), 60.0)
    assert session.tick(61.0) == [Closed(End.LOGGED_OUT, "they did not answer")]


def test_a_lost_stream_is_nacked_and_closed_after_what_came_before() -> None:
    session = ready_client()
    octets = smpp.encode(smpp.DeliverSm(5)) + VECTORS["neg__cloudhopper_decodeSignedIntLength"].frame
    received, closed = session.receive(octets, 1.0)
    assert received == Received(smpp.DeliverSm(5))
    assert isinstance(closed, Closed)
    assert closed.end is End.BROKEN
    assert written(session) == [smpp.GenericNack(0, smpp.CommandStatus.INVCMDLEN)]


def test_an_unreadable_request_gets_its_own_response() -> None:
    name = "neg__cloudhopper_decodeDeliverSMWithCorrectTotalByteLengthButInvalidShortMessageLength"
    session = ready_client()
    (unreadable,) = session.receive(VECTORS[name].frame, 1.0)
    assert isinstance(unreadable, Unreadable)
    assert written(session) == [smpp.DeliverSmResp(1, smpp.CommandStatus.INVMSGLEN, bare=True)]


def test_an_unreadable_response_leaves_its_request_waiting() -> None:
    session = ready_client()
    number = session.send(smpp.SubmitSm(), 0.0, "a")
    session.take()
    frame = (17).to_bytes(4, "big") + bytes.fromhex("8000000400000000") + number.to_bytes(4, "big") + b"9"
    (unreadable,) = session.receive(frame, 1.0)
    assert isinstance(unreadable, Unreadable)
    assert session.unanswered == ((number, "a"),)
    assert session.take() == b""


def test_requests_beyond_what_we_may_owe_are_put_off() -> None:
    session = ready_server(limits=Limits(owed_max=2))
    octets = b"".join(smpp.encode(smpp.SubmitSm(number)) for number in (5, 6, 7))
    assert [
        event.pdu.sequence_number for event in session.receive(octets, 1.0) if isinstance(event, Received)
    ] == [5, 6]
    assert written(session) == [smpp.SubmitSmResp(7, smpp.CommandStatus.THROTTLED, bare=True)]
    session.answer(smpp.SubmitSmResp(5), 1.0)
    assert session.receive(smpp.encode(smpp.SubmitSm(8)), 1.0) == [Received(smpp.SubmitSm(8))]


def test_a_peer_that_asks_and_does_not_read_is_let_go() -> None:
    session = ready_client(Limits(output_octets_max=100))
    (closed,) = session.receive(smpp.encode(smpp.EnquireLink(1)) * 1000, 1.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.NOT_READING
    assert len(session.take()) <= 100 + 16


def test_a_heartbeat_that_finds_the_output_full_ends_the_session() -> None:
    session = ready_client(Limits(output_octets_max=100))
    session.send(smpp.SubmitSm(short_message=bytes(140)), 0.0, "a")
    with pytest.raises(LocalProtocolError):
        session.send(smpp.SubmitSm(), 0.0)
    (closed,) = session.tick(30.0)
    assert isinstance(closed, Closed)
    assert (closed.end, closed.unanswered) == (End.NOT_READING, ((2, "a"),))


def test_nothing_happens_after_the_end() -> None:
    session = ready_client()
    session.lost()
    assert session.receive(smpp.encode(smpp.DeliverSm(5)), 1.0) == []
    assert session.tick(1000.0) == []
    assert session.take() == b""


@pytest.mark.parametrize("wrong", ["login", "send", "answer", "logout", "accept", "refuse"])
def test_a_deed_out_of_its_state_is_our_error(wrong: str) -> None:
    session = server()
    deeds: dict[str, Callable[[], object]] = {
        "login": lambda: session.login(BIND, 0.0),
        "send": lambda: session.send(smpp.DeliverSm(), 0.0),
        "answer": lambda: session.answer(smpp.SubmitSmResp(1), 0.0),
        "logout": lambda: session.logout(0.0),
        "accept": lambda: session.accept(smpp.BindTransceiverResp(1), 0.0),
        "refuse": lambda: session.refuse(smpp.BindTransceiverResp(1)),
    }
    with pytest.raises(LocalProtocolError):
        deeds[wrong]()
    assert session.take() == b""
