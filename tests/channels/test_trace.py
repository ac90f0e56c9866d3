"""A live look at an account's sessions shows what is said, and no person."""

from datetime import UTC, datetime
from typing import Any

import pytest

from hongyan.channels import trace
from hongyan.channels.cmpp import Tongue as CmppTongue
from hongyan.channels.smpp_words import Tongue as SmppTongue
from hongyan.channels.trace import Traceable, Traced
from hongyan.vocab.text import Encoding
from hongyan.wire import cmpp, smpp

from .centre import Centre, Opened, parcel, receipt
from .test_cmpp import Gateway, status_report
from .test_cmpp import Opened as CmppOpened

NUMBER = "13800138000"
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)


def lines(channel: Traceable) -> list[str]:
    return [f"{'>' if one.sent else '<'} {one.text}" for one in channel.trace()]


async def test_what_is_said_and_heard_is_shown_in_order_with_numbers_masked_and_texts_as_length() -> None:
    async with Centre() as centre, Opened(centre, trace_pdus=100) as opened:
        opened.channel.submit([parcel(octets=b"your code is 471199")])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        centre.talk.say(receipt("123456789012"))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        opened.store()
        shown = lines(opened.channel)
    names = [line.split()[:2] for line in shown]
    assert names == [
        [">", "BindTransceiver"],
        ["<", "BindTransceiverResp"],
        [">", "SubmitSm"],
        ["<", "SubmitSmResp"],
        ["<", "DeliverSm"],
        [">", "DeliverSmResp"],
    ]
    whole = "\n".join(shown)
    assert "short_message=<19 octets>" in whole
    assert "system_id='tenant'" in whole
    assert "message_id='0001'" in whole
    assert "id='123456789012' stat='DELIVRD'" in whole  # an id, though it looks like a number
    assert NUMBER not in whole
    assert "861******8000" in whole
    for secret in ("471199", "secret"):
        assert secret not in whole


async def test_a_status_report_of_cmpp_shows_its_id_and_stat() -> None:
    async with Gateway() as gateway, CmppOpened(gateway, trace_pdus=100) as opened:
        opened.channel.submit([parcel(encoding=Encoding.ASCII)])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        gateway.talk.say(status_report("MK:0012", 77))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        whole = "\n".join(lines(opened.channel))
    assert "report=77 stat='MK:0012'" in whole
    assert "src_id='10690000'" in whole
    assert "source_addr='900001'" in whole
    assert NUMBER not in whole
    assert "888888" not in whole


async def test_tracing_may_begin_and_end_while_the_session_runs() -> None:
    async with Centre() as centre, Opened(centre) as opened:
        channel, recorder = opened.channel, opened.recorder
        channel.submit([parcel()])
        await recorder.until(lambda: len(recorder.answers) == 1)
        assert channel.trace() == []
        channel.tracing(10)
        channel.submit([parcel()])
        await recorder.until(lambda: len(recorder.answers) == 2)
        assert [line.split()[1] for line in lines(channel)] == ["SubmitSm", "SubmitSmResp"]
        channel.tracing(0)
        assert channel.trace() == []
        channel.submit([parcel()])
        await recorder.until(lambda: len(recorder.answers) == 3)
        assert channel.trace() == []
        assert centre.talk.machine.state.value == "ready"


async def test_what_is_always_kept_is_kept_when_a_live_look_ends() -> None:
    async with Centre() as centre, Opened(centre, trace_pdus=2) as opened:
        opened.channel.tracing(10)
        opened.channel.tracing(0)
        opened.channel.submit([parcel()])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        assert [line.split()[1] for line in lines(opened.channel)] == ["SubmitSm", "SubmitSmResp"]


async def test_what_is_traced_is_counted_anew_when_tracing_begins_anew() -> None:
    async with Centre() as centre, Opened(centre) as opened:
        for round_ in (1, 2):
            opened.channel.tracing(10)
            opened.channel.submit([parcel()])
            await opened.recorder.until(lambda count=round_: len(opened.recorder.answers) == count)  # type: ignore[misc]
            assert [one.number for one in opened.channel.trace()] == [1, 2]
            opened.channel.tracing(0)


async def test_tracing_goes_on_over_a_reconnect_which_counts_as_another_session() -> None:
    async with Centre() as centre, Opened(centre, trace_pdus=100) as opened:
        centre.talk.transport.abort()
        await centre.until(lambda: len(centre.binds) == 2)
        await opened.recorder.until(lambda: opened.channel.state().sessions_up == 1)
        logins = [one.session for one in opened.channel.trace() if one.text.startswith("BindTransceiver #")]
    assert logins == [1, 2]


async def test_only_the_last_are_kept_and_a_reader_goes_on_where_it_was() -> None:
    async with Centre() as centre, Opened(centre, trace_pdus=3) as opened:
        opened.channel.submit([parcel(1), parcel(2)])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 2)
        kept = opened.channel.trace()
        assert [one.number for one in kept] == [4, 5, 6]
        assert opened.channel.trace(after=5) == kept[2:]
        assert opened.channel.trace(after=6) == []


async def test_what_nobody_can_read_is_shown_as_unreadable() -> None:
    async with Centre() as centre, Opened(centre, trace_pdus=10) as opened:
        short = smpp.encode(receipt("6"), 3)
        centre.talk.say_raw((len(short) - 60).to_bytes(4, "big") + short[4:-60])
        centre.talk.say(receipt("7"))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        unreadable = [one for one in opened.channel.trace() if one.text.startswith("unreadable")]
    assert [(one.octets, one.sent) for one in unreadable] == [(len(short) - 60, False)]


async def test_sessions_of_one_account_are_told_apart() -> None:
    async with Centre() as centre, Opened(centre, sessions=2, sessions_up=2, trace_pdus=10) as opened:
        assert {one.session for one in opened.channel.trace()} == {1, 2}
        assert isinstance(opened.channel.trace()[0], Traced)


@pytest.mark.parametrize(
    ("pdu", "lens", "shown"),
    [
        (smpp.EnquireLink(7), SmppTongue.lens, "EnquireLink #7"),
        (
            smpp.SubmitSm(1, destination_addr="4915112345", tlvs=((0x1400, b"1001\0"),)),
            SmppTongue.lens,
            "SubmitSm #1 destination_addr=49****2345 tlvs=[0x1400:<5 octets>]",
        ),
        (
            cmpp.Submit2(2, dest_terminal_id=("13800138000", "91234567"), msg_content=b"hi"),
            CmppTongue.lens,
            "Submit2 #2 dest_terminal_id=[138****8000 ****4567] msg_content=<2 octets>",
        ),
        (
            smpp.SubmitMulti(3, dest_address=(smpp.Address(1, 1, "4915112345"),)),
            SmppTongue.lens,
            "SubmitMulti #3 dest_address=[(ton=1 npi=1 addr=49****2345)]",
        ),
        (
            cmpp.connect("900001", "888888", MIDNIGHT),
            CmppTongue.lens,
            "Connect #0 source_addr='900001' authenticator_source=<16 octets> timestamp=1125000000",
        ),
    ],
)
def test_a_pdu_is_one_line_of_what_it_says(pdu: Any, lens: trace.Lens, shown: str) -> None:
    assert trace.shown(pdu, lens) == shown


def test_a_line_is_no_longer_than_a_notify_carries_whatever_a_peer_sends() -> None:
    many = smpp.DeliverSm(1, tlvs=((0x1400, b""),) * 5_000)
    assert len(trace.shown(many, SmppTongue.lens)) <= trace.LINE_CHARACTERS_MAX
