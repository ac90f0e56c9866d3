"""The kind cmpp, against a gateway on loopback made of the wire's server role. Names follow the gotchas they answer."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hongyan.channels import kinds
from hongyan.channels.channel import (
    Ack,
    Answer,
    Declined,
    Inbound,
    Link,
    Report,
    Throttled,
    Unreachable,
    Unsure,
)
from hongyan.channels.cmpp import Cmpp, Tongue
from hongyan.simulator import Simulator, parse
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding
from hongyan.wire import cmpp, times
from hongyan.wire import session as wire
from hongyan.wire.cmpp import CmppDialect, Result
from hongyan.wire.fields import Pdu

from .centre import QUICK, Recorder, Watched, parcel, parcels

SECRET = "888888"
MSG_ID = cmpp.make_msg_id(
    datetime(2026, 11, 25, 3, 40, 1, tzinfo=UTC), 10_001, 7
)  # from August on above 2^63

Script = Callable[["Talk", cmpp.Submit], None]


def take(talk: "Talk", submit: cmpp.Submit) -> None:
    """The plain script: take everything, ids count up."""
    talk.answer(submit, msg_id=MSG_ID + len(talk.gateway.submits))


def hold(talk: "Talk", submit: cmpp.Submit) -> None:
    """A script that leaves every submit unanswered."""


class Talk(asyncio.Protocol):
    """One connection, seen from the gateway."""

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway
        self.machine = wire.Session(gateway.dialect, wire.Role.SERVER, wire.Limits(window_size=1000), 0.0)
        self.answered: list[Pdu] = []  # responses of the client to what we said
        self.end: wire.End | None = None
        self.over = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as one
        self.gateway.talks.append(self)

    def data_received(self, data: bytes) -> None:
        events = self.machine.receive(data, 0.0)
        while events:
            for event in events:
                self.meet(event)
            events = self.machine.tick(0.0) if self.machine.state is wire.State.READY else []
        self.flush()
        self.gateway.stir()

    def meet(self, event: wire.Event) -> None:
        match event:
            case wire.LoginRequested(pdu=pdu):
                self.gateway.on_connect(self, cast("cmpp.Connect", pdu))
            case wire.Received(pdu=pdu):
                self.gateway.submits.append(cast("cmpp.Submit", pdu))
                self.gateway.script(self, cast("cmpp.Submit", pdu))
            case wire.Answered(pdu=pdu):
                self.answered.append(pdu)
            case wire.Closed(end=end):
                self.end = end
            case _:
                pass

    def connection_lost(self, _exc: Exception | None) -> None:
        self.over = True
        self.gateway.stir()

    def answer(self, submit: cmpp.Submit, result: int = 0, *, msg_id: int = 0) -> None:
        response = cmpp.respond(submit, self.gateway.dialect, result, msg_id=msg_id)
        assert response is not None
        self.machine.answer(response, 0.0)

    def say(self, pdu: Pdu) -> None:
        self.machine.send(pdu, 0.0)
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.machine.take())


class Gateway(Watched):
    """The server; `async with` it."""

    def __init__(self, script: Script = take, dialect: CmppDialect = cmpp.V2, *, proof: bytes = b"") -> None:
        super().__init__()
        self.script = script
        self.dialect = dialect
        self.statuses: list[int] = []  # of the next logins
        self.connects: list[cmpp.Connect] = []
        self.submits: list[cmpp.Submit] = []
        self.talks: list[Talk] = []
        self.with_login: Pdu | None = None  # said behind the login response, in one segment with it
        self.port = 0
        self._proof = proof
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: Talk(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for talk in self.talks:
            talk.transport.abort()
        await self.until(lambda: all(talk.over for talk in self.talks))

    def on_connect(self, talk: Talk, connect: cmpp.Connect) -> None:
        self.connects.append(connect)
        status = self.statuses.pop(0) if self.statuses else 0
        if status:
            response = cmpp.respond(connect, self.dialect, status)
            assert response is not None
            talk.machine.refuse(response)
            return
        welcome = cmpp.connect_resp(connect, SECRET, self.dialect)
        if self._proof:
            welcome = structs.replace(welcome, authenticator_ismg=self._proof)
        talk.machine.accept(welcome, 0.0, self.dialect)
        if self.with_login is not None:
            talk.machine.send(self.with_login, 0.0)

    @property
    def talk(self) -> Talk:
        return self.talks[-1]


SETTINGS = {"source_addr": "900001", "secret": SECRET, **QUICK}


def build(port: int = 7890, **settings: Any) -> Cmpp:
    channel = kinds.build("cmpp", {"hosts": [f"127.0.0.1:{port}"], **SETTINGS, **settings})
    assert isinstance(channel, Cmpp)
    return channel


class Opened:
    """A channel that is up against a gateway, with its recorder; `async with` it."""

    def __init__(self, gateway: Gateway, **settings: object) -> None:
        self.gateway = gateway
        self.channel = build(gateway.port, **settings)
        self.recorder = Recorder()
        self._stored: set[int] = set()

    async def __aenter__(self) -> Self:
        await self.channel.open(self.recorder)
        count = self.channel.config.sessions
        await self.recorder.until(lambda: self.channel.state().sessions_up >= count)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store()
        await self.channel.close()

    def store(self) -> None:
        """Commit all that came and was not yet stored."""
        told: Sequence[Answer | Report | Inbound] = [
            *self.recorder.answers,
            *self.recorder.reports,
            *self.recorder.inbound,
        ]
        fresh = [one for one in told if id(one) not in self._stored]
        self._stored |= {id(one) for one in fresh}
        self.channel.stored([one.slot for one in fresh])


def tongue(**settings: Any) -> Tongue:
    return Tongue(build(**settings).config)


def put(spoken: Tongue, **fields: Any) -> cmpp.Submit:
    pdu = spoken.put(parcel(**{"encoding": Encoding.ASCII, **fields}))
    assert isinstance(pdu, cmpp.Submit)
    back = cmpp.decode(cmpp.encode(pdu, 1), spoken.dialect.version)
    assert back == structs.replace(pdu, sequence_number=1)
    return pdu


def deliver(content: bytes, dialect: CmppDialect = cmpp.V2, **fields: Any) -> cmpp.Deliver:
    given = {"msg_id": 5, "dest_id": "10690000", "src_terminal_id": "13800138000", **fields}
    return dialect.deliver(msg_content=content, **given)


def status_report(
    stat: str = "DELIVRD", msg_id: int = MSG_ID, dialect: CmppDialect = cmpp.V2, *, octets_of: int = 0
) -> cmpp.Deliver:
    told = cmpp.Report(msg_id, stat, "2611250340", "2611250341", "13800138000", 9)
    content = cmpp.write_report(told, octets_of or dialect.version)
    return deliver(content, dialect, registered_delivery=1)


def hear(pdu: cmpp.Deliver, **settings: object) -> Report | Inbound:
    heard = tongue(**settings).hear(pdu, None, 1.0)
    assert isinstance(heard, Report | Inbound)
    return heard


def report(pdu: cmpp.Deliver, **settings: object) -> Report:
    heard = hear(pdu, **settings)
    assert isinstance(heard, Report)
    return heard


def inbound(pdu: cmpp.Deliver, **settings: object) -> Inbound:
    heard = hear(pdu, **settings)
    assert isinstance(heard, Inbound)
    return heard


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("version", "dialect", "octet"),
    [("2.0", cmpp.V2, 0x20), ("2.1", cmpp.V2, 0x21), ("3.0", cmpp.V3, 0x30)],
)
async def test_a_parcel_is_acked_and_its_report_comes_back(
    version: str, dialect: CmppDialect, octet: int
) -> None:
    async with Gateway(dialect=dialect) as gateway, Opened(gateway, version=version) as opened:
        opened.channel.submit([parcel("one", encoding=Encoding.ASCII)])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        gateway.talk.say(status_report(msg_id=MSG_ID + 1, dialect=dialect))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
    (connect,), (answer,), (told,) = gateway.connects, opened.recorder.answers, opened.recorder.reports
    assert (connect.version, connect.source_addr) == (octet, "900001")
    assert cmpp.authenticates(connect, SECRET)
    assert answer.outcome == Ack(str(MSG_ID + 1), str(MSG_ID + 1))
    assert told.upstream_id == answer.outcome.upstream_id
    assert (told.status, told.final, told.number) == (Status.DELIVERED, True, "+8613800138000")
    assert isinstance(gateway.submits[0], dialect.submit)


async def test_gotcha_9_a_deliver_is_answered_with_its_own_id_once_it_is_stored() -> None:
    async with Gateway() as gateway, Opened(gateway) as opened:
        gateway.talk.say(status_report())
        gateway.talk.say(deliver(b"hi", msg_id=6))
        gateway.talk.say(cmpp.Query(time="20261125"))  # answered at once, behind what was said before it
        await gateway.until(lambda: bool(gateway.talk.answered))
        assert [type(pdu) for pdu in gateway.talk.answered] == [cmpp.QueryResp]
        opened.store()
        await gateway.until(lambda: len(gateway.talk.answered) == 3)
        told = gateway.talk.answered[1:]
        assert [(type(pdu), pdu.msg_id) for pdu in told if isinstance(pdu, cmpp.DeliverResp)] == [
            (cmpp.DeliverResp2, 5),
            (cmpp.DeliverResp2, 6),
        ]
        assert opened.recorder.reports[0].upstream_id == str(MSG_ID)


async def test_gotcha_26_flow_control_pauses_the_channel_and_keeps_the_order() -> None:
    def too_fast(talk: Talk, submit: cmpp.Submit) -> None:
        count = len(talk.gateway.submits)
        talk.answer(submit, {2: Result.FLOW, 3: 103}.get(count, 0), msg_id=count)

    # Long enough that a slow machine looks at it in time.
    pause = {"throttle_pause_s": 0.5, "throttle_pause_s_max": 0.5}
    async with (
        Gateway(too_fast) as gateway,
        Opened(gateway, verdicts={"103": "throttled"}, **pause) as opened,
    ):
        recorder, channel = opened.recorder, opened.channel
        channel.submit([structs.replace(one, encoding=Encoding.ASCII) for one in parcels(4)])
        await recorder.until(lambda: len(recorder.answers) == 4)
        outcomes = [type(answer.outcome) for answer in recorder.answers]
        assert outcomes == [Ack, Throttled, Throttled, Ack]
        assert channel.state().link is Link.THROTTLED
        assert channel.room() == 0
        opened.store()
        await recorder.until(lambda: channel.room() > 0)
        channel.submit([answer.parcel for answer in recorder.answers[1:3]])
        await recorder.until(lambda: len(recorder.answers) == 6)
        assert recorder.handles()[-2:] == [2, 3]
        assert [submit.registered_delivery for submit in gateway.submits[-2:]] == [1, 1]


async def test_gotcha_27_the_window_is_sixteen_and_a_slot_is_free_once_its_ack_is_stored() -> None:
    async with Gateway() as gateway, Opened(gateway) as opened:
        assert opened.channel.room() == 16
        opened.channel.submit([parcel(encoding=Encoding.ASCII)])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        assert opened.channel.room() == 15
        opened.store()
        assert opened.channel.room() == 16


async def test_gotcha_28_what_broke_off_is_unsure_once_and_never_resent() -> None:
    async with Gateway(hold) as gateway, Opened(gateway) as opened:
        opened.channel.submit([structs.replace(one, encoding=Encoding.ASCII) for one in parcels(3)])
        await gateway.until(lambda: len(gateway.submits) == 3)
        gateway.talk.transport.abort()
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 3)
        await gateway.until(lambda: len(gateway.connects) == 2)
        await opened.recorder.until(lambda: opened.channel.state().sessions_up == 1)
        assert [type(answer.outcome) for answer in opened.recorder.answers] == [Unsure] * 3
        assert len(gateway.submits) == 3


async def test_gotcha_21_a_deliver_in_one_segment_with_the_login_response_is_heard() -> None:
    gateway = Gateway()
    gateway.with_login = status_report()
    async with gateway, Opened(gateway) as opened:
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)


@pytest.mark.parametrize(("version", "dialect"), [("2.0", cmpp.V3), ("3.0", cmpp.V2)])
async def test_gotcha_17_the_account_says_what_is_spoken_and_a_contradiction_is_told(
    version: str, dialect: CmppDialect
) -> None:
    async with Gateway(dialect=dialect) as gateway, Opened(gateway, version=version) as opened:
        assert f"the account says {version}" in opened.channel.state().reason
        assert opened.channel.state().link is Link.UP


async def test_gotcha_15_a_gateway_need_not_prove_the_secret_unless_it_is_told_to() -> None:
    async with Gateway(proof=b"rubbish rubbish!") as gateway, Opened(gateway) as opened:
        assert opened.channel.state().link is Link.UP


@pytest.mark.parametrize("dialect", [cmpp.V2, cmpp.V3])
async def test_gotcha_15_a_gateway_that_proves_it_is_welcome(dialect: CmppDialect) -> None:
    version = "3.0" if dialect is cmpp.V3 else "2.0"
    async with (
        Gateway(dialect=dialect) as gateway,
        Opened(gateway, verify_server=True, version=version) as opened,
    ):
        assert opened.channel.state().link is Link.UP


async def test_gotcha_15_of_a_gateway_that_must_prove_it_and_cannot_no_word_counts() -> None:
    recorder = Recorder()
    gateway = Gateway(proof=b"rubbish rubbish!")
    gateway.with_login = status_report()
    async with gateway:
        channel = build(gateway.port, verify_server=True)
        await channel.open(recorder)
        await gateway.until(lambda: len(gateway.connects) == 2)  # it tries again
        await channel.close()
    assert recorder.reports == []
    assert all(state.link is not Link.UP for state in recorder.states)
    assert any("does not prove the secret" in state.reason for state in recorder.states)


async def test_a_refused_login_is_told_in_the_gateways_words_and_tried_again() -> None:
    recorder = Recorder()
    gateway = Gateway()
    gateway.statuses = [cmpp.ConnectStatus.AUTHENTICATION, 77]
    async with gateway:
        channel = build(gateway.port)
        await channel.open(recorder)
        await recorder.until(lambda: channel.state().link is Link.UP)
        await channel.close()
    reasons = [state.reason for state in recorder.states]
    assert "login refused: AUTHENTICATION (3)" in reasons
    assert "login refused: 77" in reasons


async def test_gotcha_16_a_short_id_may_be_hashed_with_its_zeros() -> None:
    async with Gateway() as gateway, Opened(gateway, source_addr="901", padded_authenticator=True):
        (connect,) = gateway.connects
    padded = cmpp.authenticator_source("901", SECRET, connect.timestamp, padded=True)
    assert connect.authenticator_source == padded


async def test_silence_is_met_with_active_test_and_any_answer_keeps_the_session() -> None:
    async with Gateway() as gateway, Opened(gateway, heartbeat_s=0.02, trace_pdus=100) as opened:
        beat = "ActiveTest #"  # what the gateway hears stirs it
        await gateway.until(lambda: any(one.text.startswith(beat) for one in opened.channel.trace()))
        assert opened.channel.state().link is Link.UP
        assert len(gateway.talks) == 1


async def test_closing_says_terminate() -> None:
    async with Gateway() as gateway, Opened(gateway) as opened:
        await opened.channel.close()
        await gateway.until(lambda: gateway.talk.over)
        assert gateway.talk.end is wire.End.PEER_LOGGED_OUT


async def test_sessions_share_an_account_and_each_hears() -> None:
    async with Gateway() as gateway, Opened(gateway, sessions=2) as opened:
        assert len(gateway.connects) == 2
        for talk in gateway.talks:
            talk.say(deliver(b"hi"))
        await opened.recorder.until(lambda: len(opened.recorder.inbound) == 2)


@pytest.mark.parametrize("version", ["2.0", "2.1", "3.0"])
@pytest.mark.parametrize("words", ["", "cmpp_short_reports=yes", "early_share=1"])
async def test_gotcha_1_a_long_text_reaches_a_handset_and_every_part_is_reported(
    version: str, words: str
) -> None:
    text = "【鸿雁】" + "退订回T😀" * 30
    recorder = Recorder()
    async with Simulator(
        parse(f"report_delay_s=0.005 password={SECRET} {words}"), protocol="cmpp"
    ) as operator:
        channel = build(operator.port, version=version)
        await channel.open(recorder)
        await recorder.until(lambda: channel.room() > 0)
        parts = channel.cut(text, Counting.MAINLAND)
        channel.submit(
            [
                parcel(
                    part.index,
                    octets=part.octets,
                    encoding=part.encoding,
                    part_index=part.index,
                    part_count=part.total,
                    reference=0x1234,
                )
                for part in parts
            ]
        )
        await recorder.until(lambda: len(recorder.reports) == len(recorder.answers) == len(parts))
        operator.reply("13800138000", "T" * 71, "10690000")
        await recorder.until(lambda: bool(recorder.inbound))
        assert [shown.text for shown in operator.phone("13800138000")] == [text]
        told: list[Answer | Report | Inbound] = [*recorder.answers, *recorder.reports, *recorder.inbound]
        channel.stored([one.slot for one in told])
        await channel.close()
    acked = {answer.outcome.upstream_id for answer in recorder.answers if isinstance(answer.outcome, Ack)}
    assert acked == {report.upstream_id for report in recorder.reports}
    assert {report.status for report in recorder.reports} == {Status.DELIVERED}
    assert {report.number for report in recorder.reports} == {"+8613800138000"}


# ── submit ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_submit_is_built_field_by_field_in_the_order_of_the_table() -> None:
    spoken = tongue(
        version="3.0",
        service_id="HELP",
        fee_user_type=3,
        fee_terminal_id="13900139000",
        fee_type="02",
        fee_code="10",
        msg_level=2,
        msg_src="SRC",
    )
    assert put(spoken, octets=b"x", sender="106900001234") == cmpp.Submit3(
        registered_delivery=1,
        msg_level=2,
        service_id="HELP",
        fee_user_type=3,
        fee_terminal_id="13900139000",
        msg_src="SRC",
        fee_type="02",
        fee_code="10",
        src_id="106900001234",
        dest_terminal_id=("13800138000",),
        msg_content=b"x",
    )


def test_the_content_comes_from_who_logs_in_unless_another_is_named() -> None:
    assert put(tongue()).msg_src == "900001"


@pytest.mark.parametrize(
    ("form", "written"),
    [("national", "13800138000"), ("digits", "8613800138000"), ("plus", "+8613800138000")],
)
def test_gotcha_39_numbers_are_written_as_the_gateway_wants_them(form: str, written: str) -> None:
    assert put(tongue(number_form=form)).dest_terminal_id == (written,)


@pytest.mark.parametrize(
    ("encoding", "msg_fmt"), [(Encoding.ASCII, 0), (Encoding.UCS2, 8), (Encoding.GBK, 15)]
)
def test_each_encoding_has_its_msg_fmt(encoding: Encoding, msg_fmt: int) -> None:
    assert put(tongue(), encoding=encoding).msg_fmt == msg_fmt


def test_what_has_no_msg_fmt_is_declined() -> None:
    assert tongue().put(parcel(encoding=Encoding.GSM7)) == Declined("Msg_Fmt", Cause.UNSUPPORTED)


@pytest.mark.parametrize(("mode", "header"), [("udh8", "050003340302"), ("udh16", "06080412340302")])
def test_a_part_carries_its_header_and_its_place(mode: str, header: str) -> None:
    pdu = put(tongue(split=mode), octets=b"x", part_index=2, part_count=3, reference=0x1234)
    assert (pdu.tp_udhi, pdu.pk_total, pdu.pk_number) == (1, 3, 2)
    assert pdu.msg_content == bytes.fromhex(header) + b"x"
    whole = put(tongue(split=mode), octets=b"x")
    assert (whole.tp_udhi, whole.pk_total, whole.pk_number, whole.msg_content) == (0, 1, 1, b"x")


def test_the_gateway_is_told_until_when_it_may_try() -> None:
    written = put(tongue(), validity_s=90).valid_time
    assert written.endswith("032+")
    until = times.read_time(written)
    assert isinstance(until, datetime)
    assert 0 < (until - datetime.now(UTC)).total_seconds() <= 91
    assert put(tongue(validity="relative"), validity_s=90).valid_time == "000000000130000R"
    assert put(tongue(validity="none"), validity_s=90).valid_time == ""
    assert put(tongue()).valid_time == put(tongue()).at_time == ""


# ── cutting ──────────────────────────────────────────────────────────────────────────────────────────


def test_texts_are_ucs2_or_gbk_and_plain_ascii_is_ascii() -> None:
    assert build().cut("你好", Counting.MAINLAND)[0].encoding is Encoding.UCS2
    assert build(wide="gbk").cut("你好", Counting.MAINLAND)[0].encoding is Encoding.GBK
    assert build().cut("hello", Counting.MAINLAND)[0].encoding is Encoding.ASCII
    assert build(ascii_octets_max=0).cut("hello", Counting.MAINLAND)[0].encoding is Encoding.UCS2


def test_gotcha_37_ascii_is_counted_as_seventy_on_the_mainland() -> None:
    assert len(build().cut("x" * 71, Counting.MAINLAND)) == 2


@pytest.mark.parametrize(("octets_max", "parts"), [(140, 2), (160, 1)])
def test_gotcha_37_how_much_ascii_one_part_holds_is_the_gateways(octets_max: int, parts: int) -> None:
    cut = build(ascii_octets_max=octets_max).cut("x" * 160, Counting.INTERNATIONAL)
    assert len(cut) == parts
    assert all(len(part.octets) <= octets_max for part in cut)


@given(st.text(st.characters(max_codepoint=0x7F, min_codepoint=0x20), min_size=1, max_size=700))
def test_with_160_octets_ascii_is_cut_into_the_parts_it_is_counted_by(text: str) -> None:
    parts = LONG_ASCII.cut(text, Counting.INTERNATIONAL)
    assert len(parts) == texts.count(text, Counting.INTERNATIONAL).parts
    assert "".join(texts.decode(part.octets, part.encoding) for part in parts) == text
    assert all(len(part.udh(1)) + len(part.octets) <= 160 for part in parts)


LONG_ASCII = build(ascii_octets_max=160)


@pytest.mark.parametrize("characters", [10, 66, 67, 70, 71, 130, 134, 135])
@pytest.mark.parametrize("position", ["front", "back"])
def test_gotcha_36_a_gateway_that_signs_is_sent_the_parts_of_the_signed_text_without_the_signature(
    position: str, characters: int
) -> None:
    mark, body = "【鸿雁】", "你" * (characters - 4)
    text = mark + body if position == "front" else body + mark
    ours = build().cut(text, Counting.MAINLAND)
    sent = build(signature="gateway", signature_at=position).cut(text, Counting.MAINLAND)
    assert len(sent) == len(ours)  # as counted and billed
    assert "".join(texts.decode(part.octets, part.encoding) for part in sent) == body
    place = 0 if position == "front" else -1
    signed = len(sent[place].octets) + len(mark.encode("utf-16-be"))
    assert signed <= (140 if len(sent) == 1 else 134)  # with what the gateway adds, it still fits
    if position == "front":
        assert [part.octets for part in sent[1:]] == [part.octets for part in ours[1:]]


def test_gotcha_36_a_text_without_the_gateways_signature_is_not_carried() -> None:
    channel = build(signature="gateway", gateway_signature="鸿雁")
    assert channel.cut("【鸿雁】你好", Counting.MAINLAND)[0].octets == "你好".encode("utf-16-be")
    assert channel.cut("【别人】你好", Counting.MAINLAND) == ()
    assert channel.cut("你好【鸿雁】", Counting.MAINLAND) == ()
    assert channel.cut("你好", Counting.MAINLAND) == ()


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result.FLOW, Throttled(0.0, "FLOW (8)")),
        (Result.DEST_TERMINAL_ID, Declined("DEST_TERMINAL_ID (13)", Cause.INVALID_NUMBER)),
        (Result.OTHER, Unreachable("OTHER (9)")),
        (150, Declined("150", Cause.UNKNOWN)),
    ],
)
def test_a_result_says_what_follows(result: int, expected: object) -> None:
    assert tongue().outcome(cmpp.SubmitResp2(1, result=result)) == expected


def test_an_account_may_overrule_what_follows_from_a_result() -> None:
    overruled = tongue(verdicts={"150": "unreachable"}, causes={"13": "ported"})
    assert overruled.outcome(cmpp.SubmitResp2(1, result=150)) == Unreachable("150")
    assert overruled.outcome(cmpp.SubmitResp2(1, result=13)) == Declined(
        "DEST_TERMINAL_ID (13)", Cause.PORTED
    )


def test_gotcha_20_an_answer_without_a_body_says_nothing() -> None:
    answer = cmpp.decode(cmpp.encode(cmpp.SubmitResp2(1, bare=True)), cmpp.VERSION_2_0)
    assert isinstance(tongue().outcome(answer), Unsure)


def test_gotcha_11_an_id_is_unsigned_and_the_same_in_ack_and_report() -> None:
    assert MSG_ID > 1 << 63
    ack = tongue().outcome(cmpp.SubmitResp2(1, msg_id=MSG_ID))
    assert ack == Ack(str(MSG_ID), str(MSG_ID))
    assert report(status_report()).upstream_id == str(MSG_ID)


def test_acks_without_an_id_are_flagged_and_not_taken_for_one_another() -> None:
    spoken = tongue()
    assert spoken.outcome(cmpp.SubmitResp2(1)) == Ack("", "0")
    assert "Msg_Id" in spoken.remark


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stat", "status", "cause", "final"),
    [
        ("DELIVRD", Status.DELIVERED, Cause.NONE, True),
        ("EXPIRED", Status.EXPIRED, Cause.EXPIRED, True),
        ("DELETED", Status.UNDELIVERED, Cause.REJECTED, True),
        ("UNDELIV", Status.UNDELIVERED, Cause.UNREACHABLE, True),
        ("REJECTD", Status.UNDELIVERED, Cause.REJECTED, True),
        ("UNKNOWN", Status.UNKNOWN, Cause.UNKNOWN, True),
        ("ACCEPTD", Status.SUBMITTED, Cause.NONE, False),
        ("MK:0012", Status.UNDELIVERED, Cause.INVALID_NUMBER, True),
        ("mk:0012", Status.UNDELIVERED, Cause.INVALID_NUMBER, True),
        ("MK:12", Status.UNDELIVERED, Cause.INVALID_NUMBER, True),  # some leave out the zeros
        ("MK:9999", Status.UNDELIVERED, Cause.UNREACHABLE, True),  # by the rule for MK
        ("MI:9999", Status.EXPIRED, Cause.EXPIRED, True),
        ("MC:9999", Status.UNKNOWN, Cause.UNKNOWN, True),  # nobody ever reported
        ("ML:0000", Status.SUBMITTED, Cause.NONE, False),
        ("ID:0076", Status.UNDELIVERED, Cause.CONTENT_BLOCKED, True),
        ("QQ:0001", Status.UNDELIVERED, Cause.UNKNOWN, True),  # some component failed, whatever it means
        ("BWLIST", Status.UNDELIVERED, Cause.BLACKLISTED, True),
        ("WHAT", Status.UNKNOWN, Cause.UNKNOWN, True),
        ("002", Status.UNKNOWN, Cause.UNKNOWN, True),  # a bare number means something else at every vendor
    ],
)
def test_every_stat_makes_a_report_and_is_kept(stat: str, status: Status, cause: Cause, final: bool) -> None:
    heard = report(status_report(stat))
    assert (heard.status, heard.cause, heard.final, heard.code) == (status, cause, final, stat)


def test_codes_mean_what_the_account_says_they_do() -> None:
    own = {"mk:0012": "suspended", "002": "absent", "OK": "none"}
    assert report(status_report("MK:0012"), causes=own).cause is Cause.SUSPENDED
    assert report(status_report("002"), causes=own).cause is Cause.ABSENT
    assert report(status_report("OK"), causes=own).status is Status.DELIVERED


def test_gotcha_8_a_gateway_of_3_0_may_send_the_report_of_2_0() -> None:
    short = status_report("MK:0001", dialect=cmpp.V3, octets_of=cmpp.VERSION_2_0)
    assert len(short.msg_content) == 60
    heard = report(short, version="3.0")
    assert (heard.upstream_id, heard.code, heard.number) == (str(MSG_ID), "MK:0001", "+8613800138000")
    assert len(status_report(dialect=cmpp.V3).msg_content) == 71
    assert report(status_report(dialect=cmpp.V3), version="3.0").upstream_id == str(MSG_ID)


def test_a_report_nobody_can_read_is_still_no_inbound() -> None:
    heard = report(deliver(b"?", registered_delivery=1))
    assert (heard.upstream_id, heard.status, heard.number) == ("", Status.UNKNOWN, "+8613800138000")


# ── inbound ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("msg_fmt", "octets", "text"),
    [
        (0, b"TD", "TD"),
        (0, "退订".encode("gbk"), "退订"),  # some call GBK ASCII
        (8, "退订😀".encode("utf-16-be"), "退订😀"),
        (24, "退订".encode("utf-16-be"), "退订"),
        (25, "退订".encode("utf-16-be"), "退订"),
        (15, "退订".encode("gb18030"), "退订"),
        (4, b"\x00\xff", "\x00\xff"),
        (9, b"TD", "TD"),
        (200, "退订".encode("gbk"), "退订"),
    ],
)
def test_what_people_text_is_read_by_its_msg_fmt(msg_fmt: int, octets: bytes, text: str) -> None:
    heard = inbound(deliver(octets, msg_fmt=msg_fmt))
    assert (heard.text, heard.number, heard.access_number) == (text, "+8613800138000", "10690000")


@pytest.mark.parametrize(
    ("header", "reference", "octets"), [("0500032a0201", 0x2A, 1), ("06080412340201", 0x1234, 2)]
)
def test_gotcha_33_parts_may_differ_in_msg_fmt_and_each_is_read_by_its_own(
    header: str, reference: int, octets: int
) -> None:
    first = bytes.fromhex(header)
    second = first[:-1] + b"\2"
    heard = [
        inbound(deliver(first + "你好".encode("utf-16-be"), msg_fmt=8, tp_udhi=1)),
        inbound(deliver(second + b"TD", msg_fmt=0, tp_udhi=1)),
    ]
    assert [one.text for one in heard] == ["你好", "TD"]
    assert [(one.part_index, one.part_count) for one in heard] == [(1, 2), (2, 2)]
    assert {(one.reference, one.reference_octets) for one in heard} == {(reference, octets)}


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("13800138000", "+8613800138000"),
        ("8613800138000", "+8613800138000"),
        ("+8613800138000", "+8613800138000"),
        ("008613800138000", "+8613800138000"),
        ("85291234567", "+85291234567"),
        ("138****8000", "138****8000"),
        ("10086", "10086"),  # a service of the operator
    ],
)
@pytest.mark.parametrize("form", ["national", "digits"])
def test_gotcha_39_numbers_come_in_any_form_and_become_e164(form: str, written: str, number: str) -> None:
    assert inbound(deliver(b"hi", src_terminal_id=written), number_form=form).number == number


@given(st.binary(max_size=160), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_no_deliver_can_break_the_link(
    octets: bytes, registered_delivery: int, msg_fmt: int, tp_udhi: int
) -> None:
    pdu = deliver(octets, registered_delivery=registered_delivery, msg_fmt=msg_fmt, tp_udhi=tp_udhi)
    assert isinstance(SPOKEN.hear(pdu, None, 1.0), Report if registered_delivery == 1 else Inbound)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_what_is_sent_in_parts_is_heard_in_the_same_parts(text: str) -> None:
    for part in _sent(text):
        back = deliver(part.msg_content, msg_fmt=part.msg_fmt, tp_udhi=part.tp_udhi)
        heard = SPOKEN.hear(back, None, 1.0)
        assert isinstance(heard, Inbound)
        assert (heard.part_index, heard.part_count) == (part.pk_number, part.pk_total)


def _sent(text: str) -> Iterator[cmpp.Submit]:
    for part in CHANNEL.cut(text, Counting.MAINLAND):
        yield put(
            SPOKEN,
            octets=part.octets,
            encoding=part.encoding,
            part_index=part.index,
            part_count=part.total,
            reference=9,
        )


CHANNEL = build()
SPOKEN = tongue()


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"source_addr": "9000011"}, "source_addr"),
        ({"source_addr": "密码"}, "source_addr must be ASCII"),
        ({"version": "4.0"}, "version"),
        ({"fee_user_type": 4}, "fee_user_type"),
        ({"verdicts": {"FLOW": "unsure"}}, "FLOW"),
        ({"ascii_octets_max": 150}, "ascii_octets_max"),
    ],
)
def test_wrong_settings_are_refused_in_clear_words(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(kinds.BadSettings, match=word) as caught:
        build(**settings)
    assert SECRET not in str(caught.value)
