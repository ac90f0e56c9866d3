"""The kind sgip, against an SMG on loopback: it listens as a server, and calls us as a client. Names follow the gotchas."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hongyan.channels import kinds
from hongyan.channels.channel import (
    Ack,
    Declined,
    Inbound,
    Link,
    Outcome,
    Report,
    Throttled,
    Unreachable,
    Unsure,
)
from hongyan.channels.kinds import BadSettings
from hongyan.channels.sessions import CALLERS_MAX
from hongyan.channels.sgip import Sgip, Tongue
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding
from hongyan.wire import session as wire
from hongyan.wire import sgip
from hongyan.wire.fields import Pdu
from hongyan.wire.sgip import LoginType, Result, SequenceNumber
from ports import free_port

from .centre import Watched, parcel, parcels
from .peer import Opened, Peer, Script, Talk, build, reach

NODE = 3_010_092_008  # above 2^31
ACCOUNT = {"login_name": "sp", "login_password": "to the smg", "corp_id": "92008", "area_code": "010"}
THEIRS = {"peer_login_name": "smg", "peer_login_password": "to the sp"}
SMG_BIND = sgip.Bind(login_type=LoginType.SMG_TO_SP, login_name="smg", login_password="to the sp")
ID = SequenceNumber(NODE, 1_125_034_000, 7)


def take(talk: Talk, submit: sgip.Submit) -> None:
    """The plain script: take everything."""
    talk.answer(sgip.respond(submit))


def hold(talk: Talk, submit: sgip.Submit) -> None:
    """A script that leaves every submit unanswered."""


def refuse(*results: int) -> Script:
    """A script that answers with these results in turn, then with OK."""
    left = list(results)

    def answer(talk: Talk, submit: sgip.Submit) -> None:
        talk.answer(sgip.respond(submit, left.pop(0) if left else 0))

    return answer


class Smg(Peer):
    """An SMG that lets its SP in, and says everything as node 10101."""

    def __init__(self, script: Script = take, dialect: wire.Dialect | None = None) -> None:
        super().__init__(dialect or sgip.dialect(10_101, 1_125_120_000), self.judge, script)

    def judge(self, bind: sgip.Bind) -> tuple[Pdu | None, bool]:
        welcome = (bind.login_type, bind.login_name, bind.login_password) == (1, "sp", "to the smg")
        return sgip.respond(bind, Result.OK if welcome else Result.ILLEGAL_LOGIN), welcome


def opened(smg: Smg, **settings: object) -> Opened:
    return Opened("sgip", smg, **{**ACCOUNT, **settings})


def listening(port: int) -> dict[str, object]:
    return {**THEIRS, "listen_host": "127.0.0.1", "listen_port": port}


def channel(**settings: object) -> Sgip:
    built = build("sgip", sgip.PORT, **{**ACCOUNT, **settings})
    assert isinstance(built, Sgip)
    return built


def tongue(**settings: object) -> Tongue:
    return Tongue(channel(**settings).config)


def put(spoken: Tongue, **fields: Any) -> sgip.Submit:
    pdu = spoken.put(parcel(**{"encoding": Encoding.ASCII, **fields}))
    assert isinstance(pdu, sgip.Submit)
    assert sgip.decode(sgip.encode(pdu, 1)) == structs.replace(pdu, sequence_number=1)
    return pdu


class Watcher(Watched, asyncio.Protocol):
    """Who connects and says nothing."""

    over = False

    def connection_lost(self, _exc: Exception | None) -> None:
        self.over = True
        self.stir()


def texts_of(count: int) -> list[Any]:
    return [structs.replace(one, encoding=Encoding.ASCII) for one in parcels(count)]


def report_of(identity: SequenceNumber = ID, state: int = 0, error: int = 0, **fields: Any) -> sgip.Report:
    given = {"user_number": "8613800138000", **fields}
    return sgip.Report(submit_sequence_number=identity.octets, state=state, error_code=error, **given)


def deliver(content: bytes, **fields: Any) -> sgip.Deliver:
    given = {"user_number": "8613800138000", "sp_number": "10690000", **fields}
    return sgip.Deliver(message_content=content, **given)


def report(pdu: sgip.Report, **settings: object) -> Report:
    heard = tongue(**settings).hear(pdu, None, 1.0)
    assert isinstance(heard, Report)
    return heard


def inbound(pdu: sgip.Deliver) -> Inbound:
    heard = tongue().hear(pdu, None, 1.0)
    assert isinstance(heard, Inbound)
    return heard


def result_of(pdu: Pdu) -> int:
    assert isinstance(pdu, sgip.ResultResponse)
    return pdu.result


# ── our connection ───────────────────────────────────────────────────────────────────────────────────


async def test_the_id_of_a_part_is_the_sequence_number_it_was_sent_under() -> None:
    async with Smg() as smg, opened(smg) as up:
        up.channel.submit(texts_of(2))
        answers = await up.answers(2)
    sent = [SequenceNumber.of(request).hex for request in smg.requests]
    assert [answer.outcome for answer in answers] == [Ack(identity, identity) for identity in sent]
    assert len(set(sent)) == 2
    assert all(SequenceNumber.read(identity).node == NODE for identity in sent)  # gotcha 11: unsigned
    assert smg.talk.end is wire.End.PEER_LOGGED_OUT  # an Unbind when we close


async def test_an_smg_that_repeats_only_the_counter_does_not_change_the_id() -> None:
    def answer_as_itself(talk: Talk, submit: sgip.Submit) -> None:
        talk.answer(sgip.SubmitResp(submit.sequence_number, 10_101, 1))

    async with Smg(answer_as_itself) as smg, opened(smg) as up:
        up.channel.submit(texts_of(1))
        (answer,) = await up.answers(1)
        identity = SequenceNumber.of(smg.requests[0]).hex
    assert answer.outcome == Ack(identity, identity)


async def test_two_processes_that_log_in_within_one_second_give_different_ids() -> None:
    async with Smg() as smg, opened(smg) as one, opened(smg) as other:
        one.channel.submit(texts_of(5))
        other.channel.submit(texts_of(5))
        answers = [*await one.answers(5), *await other.answers(5)]
    assert len({answer.outcome for answer in answers}) == 10


@pytest.mark.parametrize("first", [0, 5, 0xFFFF_FFFE])
async def test_counters_that_run_over_are_matched_all_the_same(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hongyan.channels.sgip.secrets.randbelow", lambda _: first)
    async with Smg() as smg, opened(smg) as up:
        up.channel.submit(texts_of(3))
        answers = await up.answers(3)
    counters = [(first + number) % 2**32 for number in (2, 3, 4)]  # the Bind was the first
    assert [request.sequence_number for request in smg.requests] == counters
    assert [SequenceNumber.read(answer.outcome.upstream_id).counter for answer in answers] == counters  # type: ignore[union-attr]


async def test_a_refused_login_is_told_in_the_smgs_words() -> None:
    async with Smg() as smg:
        wrong = opened(smg, login_password="wrong")
        await wrong.channel.open(wrong.recorder)
        await wrong.recorder.until(lambda: bool(wrong.channel.state().reason))
        assert wrong.channel.state().reason == "login refused: ILLEGAL_LOGIN (1)"
        await wrong.channel.close()


async def test_gotcha_26_88_pauses_the_channel_and_keeps_the_order() -> None:
    # Long enough that a slow machine looks at it in time.
    pause = {"throttle_pause_s": 0.5, "throttle_pause_s_max": 0.5}
    async with Smg(refuse(0, 88, 88)) as smg, opened(smg, **pause) as up:
        up.channel.submit(texts_of(4))
        answers = await up.answers(4)
        assert [type(answer.outcome) for answer in answers] == [Ack, Throttled, Throttled, Ack]
        assert up.channel.state().link is Link.THROTTLED
        up.store()
        await up.recorder.until(lambda: up.channel.room() > 0)
        up.channel.submit([answer.parcel for answer in answers[1:3]])
        assert [a.parcel.handle for a in (await up.answers(6))[4:]] == [2, 3]
        assert all(request.report_flag == 1 for request in smg.requests)


async def test_gotcha_27_no_more_than_thirty_two_wait_and_they_may_be_answered_in_any_order() -> None:
    async with Smg(hold) as smg, opened(smg) as up:
        up.channel.submit(texts_of(33))
        (early,) = await up.answers(1)
        assert isinstance(early.outcome, Throttled)
        await smg.until(lambda: len(smg.requests) == 32)
        for submit in reversed(smg.requests):
            smg.talk.answer(sgip.respond(submit))
        answers = await up.answers(33)
        assert [answer.parcel.handle for answer in answers[1:]] == list(range(32, 0, -1))
        assert up.channel.room() == 0  # until they are stored
        up.store()
        assert up.channel.room() == 32


async def test_gotcha_28_what_is_not_answered_in_time_is_unsure_and_never_sent_again() -> None:
    async with Smg(hold) as smg, opened(smg, ack_wait_s=0.02) as up:
        up.channel.submit(texts_of(1))
        (answer,) = await up.answers(1)
        assert isinstance(answer.outcome, Unsure)
        smg.talk.answer(sgip.respond(smg.requests[0]))  # a stray now
        smg.talk.say(report_of())
        await up.reports(1)
        assert (len(smg.requests), len(up.recorder.answers)) == (1, 1)


async def test_an_smg_that_has_gone_without_a_word_is_noticed_by_what_it_leaves_unanswered() -> None:
    async with Smg() as smg, opened(smg, ack_wait_s=0.02) as up:  # half-open, and there is no heartbeat
        smg.deaf = True
        up.channel.submit(texts_of(3))
        answers = await up.answers(3)
        assert all(isinstance(answer.outcome, Unsure) for answer in answers)
        smg.deaf = False
        await smg.until(lambda: len(smg.logins) == 2)
        await up.recorder.until(lambda: up.channel.state().link is Link.UP)
        up.channel.submit(texts_of(1))
        assert isinstance((await up.answers(4))[3].outcome, Ack)


async def test_gotcha_18_octets_behind_an_unbind_resp_do_not_keep_us() -> None:
    plain = sgip.dialect(10_101, 1)

    def encode(pdu: Pdu, number: int | None) -> bytes:
        frame = plain.encode(pdu, number)
        return (
            (len(frame) + 9).to_bytes(4) + frame[4:] + bytes(9) if isinstance(pdu, sgip.UnbindResp) else frame
        )

    async with Smg(dialect=replace(plain, encode=encode)) as smg, opened(smg, close_wait_s=10.0) as up:
        await up.channel.close()
        await smg.until(lambda: smg.talk.over)
        assert smg.talk.end is wire.End.PEER_LOGGED_OUT


async def test_gotcha_18_a_response_without_a_result_is_no_ack() -> None:
    def bare(talk: Talk, submit: sgip.Submit) -> None:
        talk.answer(sgip.SubmitResp(submit.sequence_number, submit.node, submit.stamp, bare=True))

    async with Smg(bare) as smg, opened(smg) as up:
        up.channel.submit(texts_of(1))
        (answer,) = await up.answers(1)
        assert isinstance(answer.outcome, Unsure)


# ── sleep ────────────────────────────────────────────────────────────────────────────────────────────

BRIEF = {"ack_wait_s": 0.02, "idle_s": 0.03}


async def test_an_idle_session_logs_out_and_comes_back_with_the_next_part() -> None:
    async with Smg() as smg, opened(smg, **BRIEF) as up:
        await smg.until(lambda: smg.talk.over)
        assert smg.talk.end is wire.End.PEER_LOGGED_OUT
        assert up.channel.state().link is Link.UP  # there is nothing wrong with it
        assert up.channel.room() == 32
        up.channel.submit(texts_of(3))
        assert up.channel.room() == 29
        answers = await up.answers(3)
        assert all(isinstance(answer.outcome, Ack) for answer in answers)
        assert [answer.parcel.handle for answer in answers] == [1, 2, 3]
        assert len(smg.logins) == 2
        assert {state.link for state in up.recorder.states} == {Link.UP}


async def test_one_of_several_sleeping_sessions_is_woken() -> None:
    async with Smg() as smg, opened(smg, sessions=2, **BRIEF) as up:
        await smg.until(lambda: len(smg.talks) == 2 and all(talk.over for talk in smg.talks))
        up.channel.submit(texts_of(2))
        await up.answers(2)
        assert len(smg.logins) == 3


async def test_parts_for_a_session_that_cannot_wake_are_unreachable_and_the_link_is_down() -> None:
    async with Smg() as smg, opened(smg, **BRIEF) as up:
        await smg.until(lambda: smg.talk.over)
        smg.close()
        up.channel.submit(texts_of(2))
        answers = await up.answers(2)
        assert all(isinstance(answer.outcome, Unreachable) for answer in answers)
        assert up.channel.state().link is Link.DOWN
        assert str(smg.port) in up.channel.state().reason


async def test_a_session_wakes_at_the_host_it_fell_asleep_at() -> None:
    async with Smg() as smg:
        hosts = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{smg.port}"]  # nobody is at the first
        async with opened(smg, hosts=hosts, **BRIEF) as up:
            await smg.until(lambda: smg.talk.over)
            up.channel.submit(texts_of(2))
            assert all(isinstance(answer.outcome, Ack) for answer in await up.answers(2))


async def test_parts_held_when_the_channel_closes_are_unreachable() -> None:
    async with Smg() as smg, opened(smg, **BRIEF) as up:
        await smg.until(lambda: smg.talk.over)
        up.channel.submit(texts_of(2))
        await up.channel.close()
        answers = await up.answers(2)
        assert all(isinstance(answer.outcome, Unreachable) for answer in answers)


async def test_parts_of_a_session_that_is_to_go_while_it_wakes_are_unreachable_once() -> None:
    async with Smg() as smg, opened(smg, **BRIEF) as up:
        await smg.until(lambda: smg.talk.over)
        up.channel.submit(texts_of(2))
        up.channel.resize(0)
        up.channel.resize(1)
        await up.recorder.until(lambda: len(smg.logins) == 2 and up.channel.state().sessions_up == 1)
        up.channel.submit(texts_of(1))
        outcomes = [type(answer.outcome) for answer in await up.answers(3)]
        assert outcomes == [Unreachable, Unreachable, Ack]


async def test_a_session_that_is_kept_open_does_not_log_out() -> None:
    async with Smg() as smg, opened(smg, keep_open=True, **BRIEF) as up, opened(smg, **BRIEF) as sleepy:
        await smg.until(lambda: any(talk.over for talk in smg.talks))
        assert [talk.over for talk in smg.talks] == [False, True]
        assert up.channel.state().link is sleepy.channel.state().link is Link.UP


# ── the connections of the SMG ───────────────────────────────────────────────────────────────────────


async def test_gotcha_14_reports_come_over_the_smgs_own_connection_and_are_answered_once_stored() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)) as up:
        up.channel.submit(texts_of(1))
        (answer,) = await up.answers(1)
        identity = SequenceNumber.of(smg.requests[0])
        theirs = await smg.call(port, SMG_BIND)
        assert theirs.ready
        theirs.say(report_of(identity))
        theirs.say(deliver(b"STOP"))
        (told,), (came,) = await up.reports(1), await up.inbound(1)
        assert theirs.answered == []  # not before it is stored
        up.store()
        await smg.until(lambda: len(theirs.answered) == 2)
    assert answer.outcome == Ack(told.upstream_id, told.upstream_id)
    assert (told.status, told.number) == (Status.DELIVERED, "+8613800138000")
    assert (came.text, came.number, came.access_number) == ("STOP", "+8613800138000", "10690000")
    assert [result_of(pdu) for pdu in theirs.answered] == [0, 0]
    assert {SequenceNumber.of(pdu).node for pdu in theirs.answered} == {10_101}  # type: ignore[arg-type]  # theirs, repeated


async def test_gotcha_14_reports_over_our_own_connection_are_heard_as_well() -> None:
    async with Smg() as smg, opened(smg) as up:
        smg.talk.say(report_of())
        smg.talk.say(deliver(b"STOP"))
        (told,), _ = await up.reports(1), await up.inbound(1)
        up.store()
        await smg.until(lambda: len(smg.talk.answered) == 2)
    assert told.upstream_id == ID.hex


@pytest.mark.parametrize("login_type", [LoginType.SMG_TO_SP, LoginType.SP_TO_SMG])
async def test_an_smg_may_call_itself_what_it_likes_but_must_know_the_password(login_type: int) -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)) as up:
        bind = structs.replace(SMG_BIND, login_type=login_type)
        stranger = await smg.call(port, structs.replace(bind, login_password="wrong"))
        await smg.until(lambda: stranger.over)
        assert stranger.end is wire.End.LOGIN_REFUSED
        assert "listener" in up.channel.state().reason
        theirs = await smg.call(port, bind)
        theirs.say(report_of())
        await up.reports(1)
        assert up.channel.state().reason == ""


async def test_who_calls_may_tell_but_not_submit() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)):
        theirs = await smg.call(port, SMG_BIND)
        theirs.say(put(tongue()))
        theirs.say(sgip.UserRpt(sp_number="10690000", user_number="8613800138000", user_condition=1))
        theirs.say(report_of(report_type=1))  # of a Deliver that was passed on: no part of ours
        await smg.until(lambda: len(theirs.answered) == 3)
        results = {type(pdu): result_of(pdu) for pdu in theirs.answered}
    assert results == {sgip.SubmitResp: Result.ILLEGAL_LOGIN, sgip.UserRptResp: 0, sgip.ReportResp: 0}


async def test_gotcha_14_a_caller_that_says_nothing_is_let_go() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, peer_idle_s=0.02, login_wait_s=0.5, **listening(port)) as up:
        theirs = await smg.call(port, SMG_BIND)
        await smg.until(lambda: theirs.over)
        assert theirs.end is None  # no Unbind: that is for who called
        assert up.channel.state().reason == ""
        again = await smg.call(port, SMG_BIND)
        assert again.ready


async def test_garbage_at_our_address_ends_that_connection_only() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)) as up:
        theirs = await smg.call(port, SMG_BIND)
        broken = await smg.call(port, SMG_BIND)
        broken.say_raw(b"\xff" * 64)
        await smg.until(lambda: broken.over)
        theirs.say(report_of())
        await up.reports(1)
        assert up.channel.state().reason == ""


async def test_who_does_not_log_in_is_let_go() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, login_wait_s=0.3, **listening(port)):
        silent = Watcher()
        await reach(lambda: silent, port)
        await silent.until(lambda: silent.over)


async def test_too_many_connections_at_our_address_are_turned_away() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)):
        for _ in range(CALLERS_MAX):
            await smg.call(port, SMG_BIND)
        one_more = await smg.call(port, SMG_BIND)
        await smg.until(lambda: one_more.over)
        assert not one_more.ready
        assert sum(talk.ready for talk in smg.talks) == CALLERS_MAX + 1  # and our own


async def test_strangers_at_our_address_do_not_keep_the_smg_out() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)):
        strangers = [Watcher() for _ in range(CALLERS_MAX)]
        for stranger in strangers:
            await reach(lambda stranger=stranger: stranger, port)  # type: ignore[misc]
        theirs = await smg.call(port, SMG_BIND)
        assert theirs.ready
        await strangers[0].until(lambda: strangers[0].over)
        assert sum(stranger.over for stranger in strangers) == 1


async def test_requests_in_one_segment_with_the_login_are_heard() -> None:
    port = free_port()
    speak = sgip.dialect(10_101, 1_125_120_000).encode
    async with Smg() as smg, opened(smg, **listening(port)) as up:
        transport = await reach(asyncio.Protocol, port)
        transport.write(speak(SMG_BIND, 1) + speak(report_of(), 2) + speak(deliver(b"x"), 3))
        await up.reports(1)
        await up.inbound(1)
        transport.abort()


async def test_a_port_that_is_taken_is_told_and_taken_over_once_it_is_free() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, **listening(port)) as first:
        (await reach(asyncio.Protocol, port)).abort()  # it may submit before it listens
        second = opened(smg, **listening(port))
        await second.channel.open(second.recorder)
        await second.recorder.until(lambda: "listen" in second.channel.state().reason)
        assert second.channel.state().link is Link.UP  # it submits all the same
        assert first.channel.state().reason == ""
        await first.channel.close()
        await second.recorder.until(lambda: second.channel.state().reason == "")
        theirs = await smg.call(port, SMG_BIND)
        theirs.say(report_of())
        await second.reports(1)
        second.store()
        await second.channel.close()
        await smg.until(lambda: theirs.over)


async def test_what_an_smg_told_is_answered_before_the_channel_closes() -> None:
    port = free_port()
    async with Smg() as smg, opened(smg, close_wait_s=5.0, **listening(port)) as up:
        theirs = await smg.call(port, SMG_BIND)
        theirs.say(report_of())
        await up.reports(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(up.channel.close())
            await up.recorder.until(lambda: up.channel.state().link is Link.CLOSED)
            up.store()
        await smg.until(lambda: theirs.over)
        assert [result_of(pdu) for pdu in theirs.answered] == [0]


# ── submit ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_submit_is_built_field_by_field_in_the_order_of_the_table() -> None:
    spoken = tongue(
        service_type="HELP", fee_type=2, fee_value="10", given_value="1", priority=3, validity="none"
    )
    assert put(spoken, octets=b"x", validity_s=90) == sgip.Submit(
        sp_number="10690000",
        charge_number="0" * 21,
        user_numbers=("8613800138000",),
        corp_id="92008",
        service_type="HELP",
        fee_type=2,
        fee_value="10",
        given_value="1",
        agent_flag=0,
        more_late_to_mt_flag=2,
        priority=3,
        report_flag=1,
        message_coding=0,
        message_content=b"x",
    )


def test_gotcha_41_a_submit_is_as_long_as_the_document_says() -> None:
    octets = "退订".encode("utf-16-be")
    assert len(sgip.encode(put(tongue(), octets=octets, encoding=Encoding.UCS2), 1)) == 143 + 21 + len(octets)


@pytest.mark.parametrize("number", ["+8613800138000", "+85291234567"])
def test_gotcha_39_numbers_go_with_their_calling_code(number: str) -> None:
    assert put(tongue(), number=number).user_numbers == (number[1:],)


@pytest.mark.parametrize("written", ["13800138000", "8613800138000", "+8613800138000", "008613800138000"])
def test_gotcha_39_numbers_come_back_in_any_form(written: str) -> None:
    assert inbound(deliver(b"x", user_number=written)).number == "+8613800138000"
    assert report(report_of(user_number=written)).number == "+8613800138000"


@pytest.mark.parametrize(
    ("encoding", "coding"), [(Encoding.ASCII, 0), (Encoding.UCS2, 8), (Encoding.GBK, 15)]
)
def test_each_encoding_has_its_message_coding(encoding: Encoding, coding: int) -> None:
    assert put(tongue(), encoding=encoding).message_coding == coding
    assert tongue().put(parcel(encoding=Encoding.GSM7)) == Declined("MessageCoding", Cause.UNSUPPORTED)


def test_a_part_has_a_header_and_says_so() -> None:
    pdu = put(tongue(), octets=b"x", part_index=2, part_count=3, reference=0x1234)
    assert (pdu.tp_udhi, pdu.message_content) == (1, bytes.fromhex("050003340302") + b"x")
    assert put(tongue(), octets=b"x").tp_udhi == 0


def test_a_gateway_that_signs_is_sent_the_text_without_the_signature_but_cut_with_it() -> None:
    text = "【鸿雁】" + "字" * 67  # 71 characters: two parts
    parts = channel(signature="gateway").cut(text, Counting.MAINLAND)
    assert [texts.decode(part.octets, part.encoding) for part in parts] == ["字" * 63, "字" * 4]


def test_the_node_may_be_given_whole() -> None:
    assert channel(area_code="", node=3_021_012_345).config.source_node() == 3_021_012_345
    assert channel().config.source_node() == NODE


# ── answers, reports, inbound ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (5, Declined("PARAMETER_FORMAT (5)", Cause.UNSUPPORTED)),
        (6, Declined("ILLEGAL_NUMBER (6)", Cause.INVALID_NUMBER)),
        (9, Unreachable("SEQUENCE_NUMBER (9)")),
        (11, Unreachable("NODE_BUSY (11)")),
        (88, Throttled(0.0, "SPEED_LIMIT (88)")),
        (200, Declined("200", Cause.UNKNOWN)),  # a vendor's: kept
    ],
)
def test_each_result_says_what_may_follow(result: int, outcome: Outcome) -> None:
    assert tongue().outcome(sgip.SubmitResp(1, result=result)) == outcome


def test_an_account_overrules_what_a_result_means() -> None:
    spoken = tongue(verdicts={"11": "throttled"}, causes={"200": "content_blocked"})
    assert spoken.outcome(sgip.SubmitResp(1, result=11)) == Throttled(0.0, "NODE_BUSY (11)")
    assert spoken.outcome(sgip.SubmitResp(1, result=200)) == Declined("200", Cause.CONTENT_BLOCKED)


@pytest.mark.parametrize(
    ("state", "error", "status", "cause", "code", "final"),
    [
        (0, 0, Status.DELIVERED, Cause.NONE, "SGIP:0", True),
        (1, 0, Status.SUBMITTED, Cause.NONE, "WAITING", False),
        (2, 24, Status.UNDELIVERED, Cause.ABSENT, "SGIP:24", True),  # as the field uses it
        (2, 26, Status.UNDELIVERED, Cause.HANDSET, "SGIP:26", True),  # as the document says
        (2, 67, Status.UNDELIVERED, Cause.BLACKLISTED, "SGIP:67", True),
        (2, 99, Status.UNDELIVERED, Cause.UNKNOWN, "SGIP:99", True),
        (9, 1, Status.SUBMITTED, Cause.NONE, "9", False),  # whatever that is, it ends nothing
    ],
)
def test_a_report_says_what_became_of_a_part(
    state: int, error: int, status: Status, cause: Cause, code: str, final: bool
) -> None:
    told = report(report_of(state=state, error=error))
    assert (told.status, told.cause, told.code, told.final) == (status, cause, code, final)
    assert told.upstream_id == ID.hex


def test_an_account_overrules_what_an_error_code_means() -> None:
    told = report(report_of(state=2, error=24), causes={"SGIP:24": "blacklisted"})
    assert (told.status, told.cause) == (Status.UNDELIVERED, Cause.BLACKLISTED)


def test_parts_of_what_people_text_know_their_place() -> None:
    octets = bytes.fromhex("0500037f0302") + "退订".encode("utf-16-be")
    part = inbound(deliver(octets, tp_udhi=1, message_coding=8))
    assert (part.text, part.part_index, part.part_count, part.reference) == ("退订", 2, 3, 0x7F)


@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 255))
def test_whatever_an_smg_delivers_is_heard(content: bytes, coding: int, udhi: int) -> None:
    assert isinstance(SPOKEN.hear(deliver(content, message_coding=coding, tp_udhi=udhi), None, 1.0), Inbound)


@given(st.binary(min_size=12, max_size=12), st.integers(0, 255), st.integers(0, 255))
def test_whatever_an_smg_reports_is_heard(identity: bytes, state: int, error: int) -> None:
    pdu = sgip.Report(submit_sequence_number=identity, state=state, error_code=error)
    heard = SPOKEN.hear(pdu, None, 1.0)
    assert isinstance(heard, Report)
    assert heard.upstream_id == identity.hex()


SPOKEN = tongue()


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"login_name": "seventeenletters!"}, "login_name"),
        ({"login_password": "密码"}, "ASCII"),
        ({"area_code": ""}, "node"),
        ({"corp_id": "abcde"}, "no node"),
        ({"listen_host": "127.0.0.1"}, "peer_login_name"),
        ({"listen_host": "127.0.0.1", "peer_login_name": "smg"}, "peer_login_password"),
        ({"idle_s": 20}, "idle_s"),
        ({"verdicts": {"busy": "throttled"}}, "busy"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(BadSettings, match=word) as caught:
        kinds.build("sgip", {"hosts": ["smg.example"], **ACCOUNT, **settings})
    assert "to the smg" not in str(caught.value)
