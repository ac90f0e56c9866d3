"""The kind smgp, against a gateway on loopback made of the wire's server role. Names follow the gotchas they answer."""

import json
from pathlib import Path
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
from hongyan.channels.smgp import Smgp, Tongue
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Counting, Encoding, TextPart
from hongyan.wire import session as wire
from hongyan.wire import smgp
from hongyan.wire.fields import Pdu

from .centre import parcel, parcels
from .peer import Opened, Peer, Script, Talk, build

SECRET = "888888"
ACCOUNT = {"client_id": "90000101", "secret": SECRET}
MSG_ID = bytes.fromhex("01006101161700012345")
VECTORS = Path(__file__).parents[1] / "wire" / "vectors" / "smgp.json"
BODIES = {row["name"]: row for row in json.loads(VECTORS.read_text("utf-8")) if row["kind"] == "report_body"}


def take(talk: Talk, submit: smgp.Submit) -> None:
    """The plain script: take everything, under one id."""
    talk.answer(smgp.respond(submit, msg_id=MSG_ID))


def hold(talk: Talk, submit: smgp.Submit) -> None:
    """A script that leaves every submit unanswered."""


def refuse(*statuses: int) -> Script:
    """A script that answers with these statuses in turn, then with OK."""
    left = list(statuses)

    def answer(talk: Talk, submit: smgp.Submit) -> None:
        talk.answer(smgp.respond(submit, left.pop(0) if left else 0, msg_id=MSG_ID))

    return answer


class Gateway(Peer):
    """A gateway that lets in who knows SECRET."""

    def __init__(self, script: Script = take, version: int = smgp.VERSION) -> None:
        super().__init__(smgp.dialect(version), self.judge, script)
        self.version = version

    def judge(self, login: smgp.Login) -> tuple[Pdu | None, bool]:
        if not smgp.authenticates(login, SECRET):
            return smgp.respond(login, smgp.Status.AUTHENTICATION), False
        return smgp.login_resp(login, SECRET, server_version=self.version), True


def opened(gateway: Gateway, **settings: object) -> Opened:
    return Opened("smgp", gateway, **{**ACCOUNT, **settings})


def channel(**settings: object) -> Smgp:
    built = build("smgp", smgp.PORT, **{**ACCOUNT, **settings})
    assert isinstance(built, Smgp)
    return built


def tongue(**settings: object) -> Tongue:
    return Tongue(channel(**settings).config)


def put(spoken: Tongue, version: int = smgp.VERSION, **fields: Any) -> smgp.Submit:
    pdu = spoken.put(parcel(**{"encoding": Encoding.GBK, **fields}))
    assert isinstance(pdu, smgp.Submit)
    assert smgp.decode(smgp.encode(pdu, 1, version), version) == structs.replace(pdu, sequence_number=1)
    return pdu


def deliver(content: bytes, **fields: Any) -> smgp.Deliver:
    given = {"msg_id": bytes(9) + b"\7", "src_term_id": "13800138000", "dest_term_id": "10690000", **fields}
    return smgp.Deliver(msg_content=content, **given)


def report_of(msg_id: bytes = MSG_ID, stat: str = "DELIVRD", error: str = "000") -> smgp.Deliver:
    told = smgp.Report(msg_id.hex(), stat, error, "2611250340", "2611250341")
    return deliver(smgp.write_report(told, b"hello"), is_report=1)


def report(pdu: smgp.Deliver, **settings: object) -> Report:
    heard = tongue(**settings).hear(pdu, None, 1.0)
    assert isinstance(heard, Report)
    return heard


def inbound(pdu: smgp.Deliver) -> Inbound:
    heard = tongue().hear(pdu, None, 1.0)
    assert isinstance(heard, Inbound)
    return heard


def outcomes(answers: list[Any]) -> list[Outcome]:
    return [answer.outcome for answer in answers]


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [smgp.VERSION, smgp.VERSION_13])
async def test_gotcha_17_an_account_is_spoken_to_in_the_layout_it_is_set_to(version: int) -> None:
    async with Gateway(version=version) as gateway, opened(gateway, version=version) as up:
        up.channel.submit([parcel("one", encoding=Encoding.GBK)])
        (answer,) = await up.answers(1)
        gateway.talk.say(report_of())
        (told,) = await up.reports(1)
        assert gateway.talk.answered == []  # not before it is stored
        up.store()
        await gateway.until(lambda: len(gateway.talk.answered) == 1)
        assert up.channel.state().reason == ""
    assert answer.outcome == Ack(MSG_ID.hex(), MSG_ID.hex())
    assert (told.upstream_id, told.status, told.code) == (MSG_ID.hex(), Status.DELIVERED, "DELIVRD")
    assert told.number == "+8613800138000"
    assert gateway.talk.answered == [smgp.DeliverResp(1, msg_id=bytes(9) + b"\7")]  # the Deliver's own id
    assert (gateway.logins[0].client_version, gateway.logins[0].login_mode) == (version, smgp.LoginMode.BOTH)
    assert gateway.requests[0].dest_term_id == ("13800138000",)
    assert gateway.talk.end is wire.End.PEER_LOGGED_OUT  # an Exit when we close


async def test_gotcha_17_a_gateway_of_another_layout_is_remarked_on() -> None:
    async with Gateway() as gateway:
        gateway.version = smgp.VERSION_13
        async with opened(gateway) as up:
            assert "version" in up.channel.state().reason


async def test_gotcha_12_ids_with_nuls_and_other_octets_meet_their_reports() -> None:
    odd = b"\x01\x00\x00\xfe\x0a\xff\x00\x61\x00\x00"

    def take_oddly(talk: Talk, submit: smgp.Submit) -> None:
        talk.answer(smgp.respond(submit, msg_id=odd))

    async with Gateway(take_oddly) as gateway, opened(gateway) as up:
        up.channel.submit([parcel(encoding=Encoding.GBK)])
        (answer,) = await up.answers(1)
        gateway.talk.say(report_of(odd))
        (told,) = await up.reports(1)
    assert answer.outcome == Ack(odd.hex(), odd.hex())
    assert told.upstream_id == odd.hex()


async def test_gotcha_16_a_gateway_that_hashes_the_padded_name_is_logged_in_to() -> None:
    class Padding(Gateway):
        def judge(self, login: smgp.Login) -> tuple[Pdu | None, bool]:
            wanted = smgp.authenticator_client("42", SECRET, login.timestamp, padded=True)
            fits = login.authenticator_client == wanted
            return smgp.login_resp(login, SECRET), fits

    async with Padding() as gateway, opened(gateway, client_id="42", padded_authenticator=True) as up:
        assert up.channel.state().link is Link.UP


async def test_a_refused_login_is_told_in_the_gateways_words_and_tried_again() -> None:
    class Strict(Gateway):
        def judge(self, login: smgp.Login) -> tuple[Pdu | None, bool]:
            if len(self.logins) == 1:
                return smgp.respond(login, smgp.Status.IP_ADDRESS), False
            return super().judge(login)

    async with Strict() as gateway, opened(gateway) as up:
        assert "login refused: IP_ADDRESS (20)" in [state.reason for state in up.recorder.states]


async def test_gotcha_15_a_proof_of_the_gateway_is_asked_for_only_where_it_is_wanted() -> None:
    class Impostor(Gateway):
        def judge(self, login: smgp.Login) -> tuple[Pdu | None, bool]:
            return smgp.login_resp(login, "another"), True

    async with Impostor() as gateway:
        async with opened(gateway) as up:
            assert up.channel.state().link is Link.UP
        wary = opened(gateway, verify_server=True)
        await wary.channel.open(wary.recorder)
        await wary.recorder.until(lambda: "prove" in wary.channel.state().reason)
        assert wary.channel.state().link is Link.DOWN
        await wary.channel.close()


async def test_a_pair_submits_over_one_connection_and_hears_over_the_other() -> None:
    async with Gateway() as gateway, opened(gateway, login="pair") as up:
        await gateway.until(lambda: len(gateway.logins) == 2)
        by_mode = {talk.machine.peer_login.login_mode: talk for talk in gateway.talks}  # type: ignore[union-attr]
        assert set(by_mode) == {smgp.LoginMode.SEND, smgp.LoginMode.RECEIVE}
        up.channel.submit([parcel(encoding=Encoding.GBK)])
        await up.answers(1)
        by_mode[smgp.LoginMode.RECEIVE].say(report_of())
        await up.reports(1)


async def test_gotcha_26_no_status_says_slower_until_the_account_does() -> None:
    async with Gateway(refuse(75)) as gateway, opened(gateway) as up:
        up.channel.submit(parcels_of(1))
        (answer,) = await up.answers(1)
        assert answer.outcome == Unreachable("DAILY_QUOTA (75)")
        assert up.channel.state().link is Link.UP


async def test_gotcha_26_a_configured_status_pauses_the_channel_and_keeps_the_order() -> None:
    # A pause long enough that a slow machine looks at it in time.
    settings = {"verdicts": {"130": "throttled"}, "throttle_pause_s": 0.5, "throttle_pause_s_max": 0.5}
    async with Gateway(refuse(0, 130, 130)) as gateway, opened(gateway, **settings) as up:
        up.channel.submit(parcels_of(4))
        answers = await up.answers(4)
        assert [type(outcome) for outcome in outcomes(answers)] == [Ack, Throttled, Throttled, Ack]
        assert up.channel.state().link is Link.THROTTLED
        assert up.channel.room() == 0
        up.store()
        await up.recorder.until(lambda: up.channel.room() > 0)
        up.channel.submit([answer.parcel for answer in answers[1:3]])
        assert [a.parcel.handle for a in (await up.answers(6))[4:]] == [2, 3]
        assert all(request.need_report for request in gateway.requests)


async def test_gotcha_27_no_more_than_sixteen_wait_for_an_answer_and_they_may_come_in_any_order() -> None:
    async with Gateway(hold) as gateway, opened(gateway) as up:
        assert up.channel.room() == 16
        up.channel.submit(parcels_of(17))
        (early,) = await up.answers(1)
        assert isinstance(early.outcome, Throttled)
        await gateway.until(lambda: len(gateway.requests) == 16)
        for submit in reversed(gateway.requests):
            gateway.talk.answer(smgp.respond(submit, msg_id=MSG_ID))
        answers = await up.answers(17)
        assert [answer.parcel.handle for answer in answers[1:]] == list(range(16, 0, -1))
        assert up.channel.room() == 0  # until they are stored
        up.store()
        assert up.channel.room() == 16


async def test_gotcha_28_what_is_not_answered_in_time_is_unsure_and_never_sent_again() -> None:
    async with Gateway(hold) as gateway, opened(gateway, ack_wait_s=0.02) as up:
        up.channel.submit(parcels_of(1))
        (answer,) = await up.answers(1)
        assert isinstance(answer.outcome, Unsure)
        gateway.talk.answer(smgp.respond(gateway.requests[0], msg_id=MSG_ID))  # a stray now
        gateway.talk.say(report_of())
        await up.reports(1)
        assert (len(gateway.requests), len(up.recorder.answers)) == (1, 1)


async def test_gotcha_18_a_response_without_a_body_is_no_ack_and_a_short_deliver_is_read() -> None:
    def bare(talk: Talk, submit: smgp.Submit) -> None:
        talk.answer(smgp.SubmitResp(submit.sequence_number, bare=True))

    async with Gateway(bare) as gateway, opened(gateway) as up:
        up.channel.submit(parcels_of(1))
        (answer,) = await up.answers(1)
        assert isinstance(answer.outcome, Unsure)
        whole = smgp.encode(report_of(), 9)
        gateway.talk.say_raw((len(whole) - 8).to_bytes(4) + whole[4:-8])  # its Reserve is missing
        padded = smgp.encode(deliver(b"STOP", src_term_id="13800138000  "), 10)
        gateway.talk.say_raw((len(padded) + 2).to_bytes(4) + padded[4:] + b"\0\1")  # two octets too many
        (told,), (came,) = await up.reports(1), await up.inbound(1)
        assert told.upstream_id == MSG_ID.hex()
        assert (came.number, came.text) == ("+8613800138000", "STOP")
        assert len(gateway.talks) == 1


async def test_gotcha_41_silence_is_broken_by_active_tests_and_theirs_are_answered() -> None:
    async with Gateway() as gateway, opened(gateway, heartbeat_s=0.02, trace_pdus=100) as up:

        def traced(sent: bool, name: str) -> bool:
            return any(one.sent is sent and one.text.split()[0] == name for one in up.channel.trace())  # type: ignore[attr-defined]

        await gateway.until(lambda: traced(True, "ActiveTest"))
        gateway.talk.say_raw(smgp.encode(smgp.ActiveTest(), 77))  # gosmgp sends one where it means Exit
        await gateway.until(lambda: traced(True, "ActiveTestResp"))
        assert up.channel.state().link is Link.UP


async def test_gotcha_41_closing_ends_though_the_exit_is_never_answered() -> None:
    async with Gateway() as gateway, opened(gateway, close_wait_s=0.02) as up:
        gateway.deaf = True
        await up.channel.close()
        assert up.channel.state().link is Link.CLOSED


async def test_what_a_gateway_may_not_ask_is_refused_and_the_session_stays() -> None:
    async with Gateway() as gateway, opened(gateway) as up:
        gateway.talk.say(put(tongue()))
        await gateway.until(lambda: len(gateway.talk.answered) == 1)
        assert gateway.talk.answered[0].status == smgp.Status.COMMAND  # type: ignore[attr-defined]
        assert up.channel.state().link is Link.UP


def parcels_of(count: int) -> list[Any]:
    return [structs.replace(one, encoding=Encoding.GBK) for one in parcels(count)]


# ── submit ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_submit_is_built_field_by_field_in_the_order_of_the_table() -> None:
    spoken = tongue(
        service_id="HELP",
        fee_type="01",
        fee_code="10",
        fixed_fee="20",
        charge_term_id="10086",
        priority=2,
        validity="relative",
    )
    assert put(spoken, octets=b"x", validity_s=90) == smgp.Submit(
        msg_type=6,
        need_report=1,
        priority=2,
        service_id="HELP",
        fee_type="01",
        fee_code="10",
        fixed_fee="20",
        msg_format=15,
        valid_time="000000000130000R",
        src_term_id="10690000",
        charge_term_id="10086",
        dest_term_id=("13800138000",),
        msg_content=b"x",
    )


def test_layout_1_3_has_no_fixed_fee_whatever_is_set() -> None:
    assert put(tongue(version=0x13, fixed_fee="20"), 0x13).fixed_fee == ""


@pytest.mark.parametrize(
    ("form", "written"),
    [("national", "13800138000"), ("digits", "8613800138000"), ("plus", "+8613800138000")],
)
def test_gotcha_39_numbers_go_bare_unless_the_gateway_wants_another_form(form: str, written: str) -> None:
    assert put(tongue(number_form=form)).dest_term_id == (written,)


@pytest.mark.parametrize("written", ["13800138000", "8613800138000", "+8613800138000", "008613800138000"])
def test_gotcha_39_numbers_come_back_in_any_form(written: str) -> None:
    assert inbound(deliver(b"x", src_term_id=written)).number == "+8613800138000"


def test_a_part_has_a_header_and_says_so_in_parameters() -> None:
    long: dict[str, Any] = {"octets": b"x", "part_index": 2, "part_count": 3, "reference": 0x1234}
    pdu = put(tongue(m_service_id="P1"), **long)
    assert pdu.msg_content == bytes.fromhex("050003340302") + b"x"
    said = {
        name: smgp.TLVS.read(pdu.tlvs, name) for name in ("tp_udhi", "pk_total", "pk_number", "m_service_id")
    }
    assert said == {"tp_udhi": 1, "pk_total": 3, "pk_number": 2, "m_service_id": "P1"}
    assert put(tongue(split="udh16"), **long).msg_content == bytes.fromhex("06080412340302") + b"x"
    assert put(tongue(), octets=b"x").tlvs == ()


def test_an_encoding_without_a_format_is_declined() -> None:
    assert tongue().put(parcel(encoding=Encoding.GSM7)) == Declined("MsgFormat", Cause.UNSUPPORTED)


def cut(text: str, **settings: object) -> list[TextPart]:
    return list(channel(**settings).cut(text, Counting.MAINLAND))


def test_gotcha_38_texts_go_as_gbk_and_as_ucs2_where_gbk_would_need_four_octets() -> None:
    (plain,) = cut("【鸿雁】验证码1234")
    assert (plain.encoding, plain.octets) == (Encoding.GBK, "【鸿雁】验证码1234".encode("gbk"))
    (rare,) = cut("【鸿雁】龘😀")
    assert rare.encoding is Encoding.UCS2
    (wide,) = cut("【鸿雁】验证码", wide="ucs2")
    assert wide.encoding is Encoding.UCS2
    (ascii_only,) = cut("code 1234", ascii_octets_max=140)
    assert (ascii_only.encoding, ascii_only.octets) == (Encoding.ASCII, b"code 1234")
    assert cut("code 1234")[0].encoding is Encoding.GBK


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_gotcha_38_a_text_is_cut_into_as_many_parts_as_were_counted_and_each_fits(text: str) -> None:
    parts = GBK.cut(text, Counting.MAINLAND)
    assert len(parts) == texts.count(text, Counting.MAINLAND).parts
    assert "".join(texts.decode(part.octets, part.encoding) for part in parts) == text
    for part in parts:
        spoken: dict[str, Any] = {
            "part_index": part.index,
            "part_count": part.total,
            "encoding": part.encoding,
        }
        smgp.encode(put(SPOKEN, octets=part.octets, **spoken), 1)  # raises above 140 octets


@given(st.text(alphabet="鸿雁abc😀", min_size=1, max_size=300).map(lambda text: text + "字"))
def test_a_chinese_text_abroad_is_cut_as_it_is_counted_there(text: str) -> None:
    counted = texts.count(text, Counting.INTERNATIONAL).parts
    assert len(GBK.cut(text, Counting.INTERNATIONAL)) == counted


GBK, SPOKEN = channel(), tongue()


def test_a_gateway_that_signs_is_sent_the_text_without_the_signature_but_cut_with_it() -> None:
    text = "【鸿雁】" + "字" * 67  # 71 characters: two parts
    front = cut(text, signature="gateway")
    assert [texts.decode(part.octets, part.encoding) for part in front] == ["字" * 63, "字" * 4]
    back = cut("字" * 67 + "【鸿雁】", signature="gateway", signature_at="back")
    assert [texts.decode(part.octets, part.encoding) for part in back] == ["字" * 67, ""]
    assert cut("字", signature="gateway") == []  # has none to take off
    assert len(cut(text)) == 2


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (1, Unreachable("SYSTEM_BUSY (1)")),
        (12, Unreachable("DUPLICATE_SEQUENCE (12)")),
        (36, Declined("MSG_LENGTH (36)", Cause.UNSUPPORTED)),
        (37, Declined("VALIDITY_PASSED (37)", Cause.EXPIRED)),
        (39, Unreachable("ROUTE (39)")),
        (46, Declined("SRC_TERM_ID (46)", Cause.UNSUPPORTED)),
        (47, Declined("DEST_TERM_ID (47)", Cause.INVALID_NUMBER)),
        (60, Unreachable("60")),
        (130, Declined("130", Cause.UNKNOWN)),  # a vendor's: kept
    ],
)
def test_each_status_says_what_may_follow(status: int, outcome: Outcome) -> None:
    assert tongue().outcome(smgp.SubmitResp(1, status=status)) == outcome


def test_an_account_overrules_what_a_status_means() -> None:
    spoken = tongue(verdicts={"1": "throttled"}, causes={"130": "content_blocked"})
    assert spoken.outcome(smgp.SubmitResp(1, status=1)) == Throttled(0.0, "SYSTEM_BUSY (1)")
    assert spoken.outcome(smgp.SubmitResp(1, status=130)) == Declined("130", Cause.CONTENT_BLOCKED)


def test_an_ack_without_an_id_is_flagged() -> None:
    spoken = tongue()
    assert spoken.outcome(smgp.SubmitResp(1)) == Ack("", "00" * 10)
    assert "MsgID" in spoken.remark


# ── reports and inbound ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BODIES)
def test_gotcha_13_every_layout_of_a_report_is_read(name: str) -> None:
    row = BODIES[name]
    told = report(deliver(bytes.fromhex(row["hex"]), is_report=1))
    assert (told.upstream_id, told.status, told.code) == (row["fields"]["id"], Status.DELIVERED, "DELIVRD")


@pytest.mark.parametrize(
    ("stat", "error", "status", "cause", "code"),
    [
        ("DELIVRD", "000", Status.DELIVERED, Cause.NONE, "DELIVRD"),
        ("UNDELIV", "000", Status.UNDELIVERED, Cause.UNREACHABLE, "UNDELIV"),
        ("UNDELIV", "004", Status.UNDELIVERED, Cause.INVALID_NUMBER, "UNDELIV/004"),
        ("UNDELIV", "005", Status.UNDELIVERED, Cause.BLACKLISTED, "UNDELIV/005"),
        ("UNDELIV", "601", Status.UNDELIVERED, Cause.INVALID_NUMBER, "UNDELIV/601"),
        ("UNDELIV", "999", Status.UNDELIVERED, Cause.UNREACHABLE, "UNDELIV/999"),
        ("EXPIRED", "001", Status.EXPIRED, Cause.EXPIRED, "EXPIRED/001"),
        ("UNKNOWN", "006", Status.UNDELIVERED, Cause.NETWORK, "UNKNOWN/006"),
        ("XA:0003", "000", Status.UNDELIVERED, Cause.SIGN_UNREGISTERED, "XA:0003"),
    ],
)
def test_a_failure_is_named_by_its_err(
    stat: str, error: str, status: Status, cause: Cause, code: str
) -> None:
    told = report(report_of(stat=stat, error=error))
    assert (told.status, told.cause, told.code, told.final) == (status, cause, code, True)


def test_an_account_overrules_what_an_err_means() -> None:
    told = report(report_of(stat="UNDELIV", error="004"), causes={"004": "unreachable"})
    assert (told.status, told.cause) == (Status.UNDELIVERED, Cause.UNREACHABLE)


def test_gotcha_6_accepted_is_not_yet_the_end() -> None:
    assert report(report_of(stat="ACCEPTD")).final is False


def test_what_looks_like_a_report_and_is_not_marked_as_one_is_a_text() -> None:
    forged = structs.replace(report_of(), is_report=0)
    assert inbound(forged).text.startswith("id:")


@pytest.mark.parametrize(
    ("msg_format", "octets", "text"),
    [
        (15, "退订".encode("gbk"), "退订"),
        (8, "退订".encode("utf-16-be"), "退订"),
        (0, b"TD", "TD"),
        (0, "退订".encode("gbk"), "退订"),  # GBK that calls itself ASCII
        (25, "退订".encode("utf-16-be"), "退订"),
    ],
)
def test_what_people_text_is_read_by_its_format(msg_format: int, octets: bytes, text: str) -> None:
    came = inbound(deliver(octets, msg_format=msg_format))
    assert (came.text, came.access_number, came.part_count) == (text, "10690000", 1)


def test_parts_of_what_people_text_know_their_place() -> None:
    udhi = (smgp.TLVS.write("tp_udhi", 1),)
    narrow = inbound(deliver(bytes.fromhex("0500037f0302") + b"b", tlvs=udhi))
    assert (narrow.part_index, narrow.part_count, narrow.reference, narrow.reference_octets) == (
        2,
        3,
        0x7F,
        1,
    )
    wide = inbound(deliver(bytes.fromhex("06080412340301") + b"a", tlvs=udhi))
    assert (wide.part_index, wide.part_count, wide.reference, wide.reference_octets) == (1, 3, 0x1234, 2)
    place = (smgp.TLVS.write("pk_total", 2), smgp.TLVS.write("pk_number", 2))
    headless = inbound(deliver(b"c", tlvs=place))
    assert (headless.text, headless.part_index, headless.part_count) == ("c", 2, 2)


@given(
    st.binary(max_size=255),
    st.integers(0, 255),
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=4)), max_size=3),
)
def test_gotcha_40_whatever_a_gateway_delivers_is_heard(
    content: bytes, msg_format: int, is_report: int, tlvs: list[tuple[int, bytes]]
) -> None:
    pdu = deliver(content, msg_format=msg_format, is_report=is_report, tlvs=tuple(tlvs))
    assert isinstance(SPOKEN.hear(pdu, None, 1.0), Report if is_report else Inbound)


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"client_id": "123456789"}, "client_id"),
        ({"secret": "sixteencharacter"}, "secret"),
        ({"client_id": "电信"}, "ASCII"),
        ({"priority": 4}, "priority"),
        ({"ascii_octets_max": 160}, "140"),
        ({"verdicts": {"busy": "throttled"}}, "busy"),
    ],
)
def test_settings_that_no_pdu_can_carry_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(BadSettings, match=word):
        kinds.build("smgp", {"hosts": ["smgw.example"], **ACCOUNT, **settings})
