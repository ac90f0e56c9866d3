"""What the session machine does for protocols unlike SMPP: layouts by account, silence without heartbeats.

The dialects are SMPP with one thing changed, so that each law stands alone.
"""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.wire import fields, smpp
from hongyan.wire.fields import LocalProtocolError
from hongyan.wire.session import (
    Answered,
    Closed,
    Dialect,
    End,
    Event,
    Limits,
    LoggedIn,
    LoginRequested,
    Received,
    Role,
    Session,
    State,
    Unanswered,
)

from .strategies import chunked
from .test_session import BIND, client, ready_client, ready_server, server, written

WELCOME = smpp.BindTransceiverResp(1, system_id="centre")
SUBMITS = tuple(smpp.SubmitSm(number, short_message=b"%d" % number) for number in (2, 3, 4))


def turned(frame: bytes) -> bytes:
    """The same PDU in the other layout: its body is written backwards."""
    return frame[: smpp.HEADER.size] + frame[: smpp.HEADER.size - 1 : -1]


def encode_turned(pdu: fields.Pdu, sequence_number: int | None = None) -> bytes:
    return turned(smpp.encode(pdu, sequence_number))


TURNED = replace(
    smpp.DIALECT, name="turned", decode=lambda frame: smpp.decode(turned(frame)), encode=encode_turned
)


def by_length(login_response: fields.Pdu) -> Dialect:
    """The version of a login response is its length, as in CMPP: a longer one is of the other layout."""
    return TURNED if isinstance(login_response, smpp.BindResp) and login_response.tlvs else smpp.DIALECT


BY_LENGTH = replace(smpp.DIALECT, after_login=by_length)
MUTE = replace(smpp.DIALECT, name="mute", heartbeat=None)


def logged_in(dialect: Dialect, role: Role, limits: Limits | None = None) -> Session:
    session = Session(dialect, role, limits or Limits(), now_s=0.0)
    if role is Role.CLIENT:
        session.login(BIND, 0.0)
        session.receive(dialect.encode(WELCOME, None), 0.0)
    else:
        session.receive(dialect.encode(BIND, 1), 0.0)
        session.accept(WELCOME, 0.0)
    session.take()
    return session


# ── the layout goes by the account ───────────────────────────────────────────────────────────────────


def test_a_server_answers_in_the_layout_of_the_account_and_stays_with_it() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1), 0.0)
    session.accept(WELCOME, 0.0, TURNED)
    assert session.take() == encode_turned(WELCOME)
    assert session.receive(encode_turned(SUBMITS[0]), 0.0) == [Received(SUBMITS[0])]
    session.answer(smpp.SubmitSmResp(2, message_id="7"), 0.0)
    number = session.send(smpp.DeliverSm(short_message=b"hi"), 0.0)
    assert session.take() == encode_turned(smpp.SubmitSmResp(2, message_id="7")) + encode_turned(
        smpp.DeliverSm(number, short_message=b"hi")
    )
    assert session.dialect is TURNED


def test_a_server_refuses_in_the_layout_of_the_account() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1), 0.0)
    refusal = smpp.BindTransceiverResp(1, 0x0E, system_id="centre")
    session.refuse(refusal, TURNED)
    assert session.take() == encode_turned(refusal)


def test_what_comes_behind_a_login_waits_for_the_layout() -> None:
    session = server()
    octets = smpp.encode(BIND, 1) + b"".join(map(encode_turned, SUBMITS))
    (asked,) = session.receive(octets, 5.0)
    assert isinstance(asked, LoginRequested)
    session.accept(WELCOME, 6.0, TURNED)
    assert session.next_deadline_s == 5.0  # at once
    assert session.tick(6.0) == [Received(pdu) for pdu in SUBMITS]
    assert session.next_deadline_s == 5.0 + Limits().heartbeat_s


def test_what_came_behind_a_login_goes_before_what_comes_later() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1) + smpp.encode(SUBMITS[0]), 0.0)
    assert session.receive(smpp.encode(SUBMITS[1]), 0.0) == []
    session.accept(WELCOME, 0.0)
    assert session.receive(smpp.encode(SUBMITS[2]), 0.0) == [Received(pdu) for pdu in SUBMITS]


@given(st.data())
def test_any_split_around_a_login_gives_the_same_requests(data: st.DataObject) -> None:
    octets = smpp.encode(BIND, 1) + b"".join(map(encode_turned, SUBMITS))
    session = server()
    events: list[Event] = []
    for chunk in data.draw(chunked(octets)):
        events += session.receive(chunk, 0.0)
        if session.state is State.LOGGING_IN and data.draw(st.booleans()):
            session.accept(WELCOME, 0.0, TURNED)
    if session.state is State.LOGGING_IN:
        session.accept(WELCOME, 0.0, TURNED)
    events += session.tick(0.0)
    assert events[1:] == [Received(pdu) for pdu in SUBMITS]


def test_a_refused_login_forgets_what_came_behind_it() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1) + smpp.encode(SUBMITS[0]), 0.0)
    session.refuse(smpp.BindTransceiverResp(1, 0x0E, bare=True))
    assert session.tick(0.0) == []
    assert session.next_deadline_s is None


def test_a_stream_lost_behind_a_login_ends_the_session_after_the_answer() -> None:
    session = server()
    (asked,) = session.receive(smpp.encode(BIND, 1) + smpp.encode(SUBMITS[0]) + b"\xff" * 16, 0.0)
    assert isinstance(asked, LoginRequested)
    session.accept(WELCOME, 0.0)
    assert session.next_deadline_s == 0.0
    received, closed = session.tick(0.0)
    assert received == Received(SUBMITS[0])
    assert isinstance(closed, Closed)
    assert closed.end is End.BROKEN


def test_a_peer_that_talks_on_without_an_answer_to_its_login_is_let_go() -> None:
    session = server(Limits(held_octets_max=100))
    submit = smpp.encode(smpp.SubmitSm(2, short_message=bytes(140)))
    (asked,) = session.receive(smpp.encode(BIND, 1) + submit, 0.0)
    assert isinstance(asked, LoginRequested)
    (closed,) = session.receive(submit, 0.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.IMPATIENT


def test_heartbeats_behind_a_login_are_answered_after_it() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1) + smpp.encode(smpp.EnquireLink(2)), 0.0)
    session.accept(WELCOME, 0.0)
    session.tick(0.0)
    assert written(session) == [WELCOME, smpp.EnquireLinkResp(2)]


@pytest.mark.parametrize("version", [(), (smpp.TLVS.write("sc_interface_version", 0x50),)])
def test_a_client_goes_on_in_the_layout_that_the_answer_to_its_login_shows(
    version: tuple[fields.Tlv, ...],
) -> None:
    session = Session(BY_LENGTH, Role.CLIENT, Limits(), now_s=0.0)
    session.login(BIND, 0.0)
    session.take()
    write = encode_turned if version else smpp.encode
    welcome, deliver = smpp.BindTransceiverResp(1, tlvs=version), smpp.DeliverSm(5, short_message=b"hi")
    # In one segment: the deliver_sm is of the new layout already.
    assert session.receive(smpp.encode(welcome) + write(deliver), 0.0) == [
        LoggedIn(welcome),
        Received(deliver),
    ]
    number = session.send(smpp.SubmitSm(short_message=b"hi"), 0.0)
    assert session.take() == write(smpp.SubmitSm(number, short_message=b"hi"))


def test_another_protocol_is_no_layout_of_this_one() -> None:
    session = server()
    session.receive(smpp.encode(BIND, 1), 0.0)
    with pytest.raises(LocalProtocolError):
        session.accept(WELCOME, 0.0, replace(smpp.DIALECT, name="other", header_octets=20))
    assert session.state is State.LOGGING_IN
    assert session.take() == b""


# ── heartbeats ───────────────────────────────────────────────────────────────────────────────────────


def test_a_heartbeat_answered_with_a_heartbeat_is_a_sign_of_life_and_no_game_of_ping_pong() -> None:
    session = ready_client()
    for at_s in range(30, 300, 30):
        assert session.tick(float(at_s)) == []
        (beat,) = written(session)
        assert isinstance(beat, smpp.EnquireLink)
        assert session.receive(smpp.encode(beat), float(at_s)) == []  # under our own number, at that
        assert written(session) == [smpp.EnquireLinkResp(beat.sequence_number)]
    assert session.state is State.READY


def test_a_peer_that_answers_everything_with_a_heartbeat_hears_responses_only() -> None:
    session = ready_client()
    session.tick(30.0)
    (heard,) = written(session)
    for _ in range(10):
        session.receive(smpp.encode(smpp.EnquireLink(heard.sequence_number)), 30.0)
        (heard,) = written(session)
        assert isinstance(heard, smpp.EnquireLinkResp)


def test_the_answer_to_a_heartbeat_is_never_answered() -> None:
    session = ready_client()
    assert session.receive(smpp.encode(smpp.EnquireLinkResp(99)), 0.0) == []
    assert session.take() == b""


@pytest.mark.parametrize("role", list(Role))
def test_without_heartbeats_silence_is_no_sign_of_death(role: Role) -> None:
    session = logged_in(MUTE, role)
    assert session.next_deadline_s == inf
    assert session.tick(1e9) == []
    assert session.take() == b""
    assert session.state is State.READY


def test_without_heartbeats_an_idle_client_logs_out() -> None:
    session = logged_in(MUTE, Role.CLIENT, Limits(inactivity_s=60.0))
    assert session.next_deadline_s == 60.0
    (closed,) = session.tick(60.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.INACTIVE
    assert isinstance(written(session)[0], smpp.Unbind)


def test_without_heartbeats_a_server_closes_an_idle_connection_without_a_word() -> None:
    session = logged_in(MUTE, Role.SERVER, Limits(inactivity_s=60.0))
    (closed,) = session.tick(60.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.INACTIVE
    assert session.take() == b""


@pytest.mark.parametrize("dialect", [smpp.DIALECT, MUTE], ids=["heartbeats", "none"])
def test_requests_and_answers_either_way_keep_an_idle_end_away(dialect: Dialect) -> None:
    session = logged_in(dialect, Role.CLIENT, Limits(inactivity_s=60.0, heartbeat_s=1000.0))
    number = session.send(smpp.SubmitSm(), 50.0)
    session.receive(smpp.encode(smpp.SubmitSmResp(number)), 100.0)
    assert session.tick(159.0) == []
    session.receive(smpp.encode(smpp.DeliverSm(5)), 159.0)
    session.answer(smpp.DeliverSmResp(5), 200.0)
    assert session.tick(259.0) == []
    (closed,) = session.tick(260.0)
    assert isinstance(closed, Closed)


def test_without_heartbeats_an_answer_is_still_waited_for_only_so_long() -> None:
    session = logged_in(MUTE, Role.CLIENT, Limits(ack_wait_s=30.0))
    session.send(smpp.SubmitSm(), 0.0, "a")
    assert session.next_deadline_s == 30.0
    assert [type(event).__name__ for event in session.tick(30.0)] == ["Unanswered"]
    assert session.next_deadline_s == inf


def test_without_heartbeats_requests_that_meet_nothing_but_silence_end_the_session() -> None:
    session = logged_in(MUTE, Role.CLIENT, Limits(ack_wait_s=30.0, heartbeat_misses_max=3))
    for sent_s in range(4):
        session.send(smpp.SubmitSm(), float(sent_s), sent_s)
    assert [len(session.tick(at_s)) for at_s in (30.0, 31.0)] == [1, 1]
    unanswered, closed = session.tick(32.0)
    assert unanswered == Unanswered(4, 2)
    assert closed == Closed(End.DEAD, "3 requests unanswered", ((5, 3),))


def test_without_heartbeats_whoever_still_speaks_is_alive() -> None:
    session = logged_in(MUTE, Role.CLIENT, Limits(ack_wait_s=30.0, heartbeat_misses_max=1))
    number = session.send(smpp.SubmitSm(), 0.0, "a")
    session.send(smpp.SubmitSm(), 1.0, "b")
    session.receive(smpp.encode(smpp.SubmitSmResp(number)), 2.0)
    assert session.tick(31.0) == [Unanswered(number + 1, "b")]
    session.send(smpp.SubmitSm(), 31.0, "c")
    assert session.tick(61.0)[-1] == Closed(End.DEAD, "1 requests unanswered")


# ── bounds of the protocol ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("session", [client(Limits(pdu_octets_max=100)), server(Limits(pdu_octets_max=100))])
def test_a_pdu_longer_than_the_limit_loses_the_stream(session: Session) -> None:
    (closed,) = session.receive((101).to_bytes(4, "big"), 0.0)
    assert isinstance(closed, Closed)
    assert closed.end is End.BROKEN


@pytest.mark.parametrize("window_size", [1, 16, 32])
def test_the_window_counts_requests(window_size: int) -> None:
    session = ready_client(Limits(window_size=window_size))
    numbers = [session.send(smpp.SubmitSm(), 0.0) for _ in range(window_size)]
    assert session.open_slots == 0
    with pytest.raises(LocalProtocolError):
        session.send(smpp.SubmitSm(), 0.0)
    octets = b"".join(smpp.encode(smpp.SubmitSmResp(number)) for number in numbers)
    assert (
        len([event for event in session.receive(octets, 0.0) if isinstance(event, Answered)]) == window_size
    )
    session.release(window_size)
    assert session.open_slots == window_size


@pytest.mark.parametrize("session", [ready_client(), ready_server()])
def test_only_a_request_is_sent_as_one(session: Session) -> None:
    for pdu in (smpp.AlertNotification(), smpp.EnquireLink(), smpp.SubmitSmResp(1), smpp.Outbind()):
        with pytest.raises(LocalProtocolError):
            session.send(pdu, 0.0)
    assert session.open_slots == 4
