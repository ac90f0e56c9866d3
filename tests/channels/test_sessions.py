"""Sessions against a real centre on loopback. Names follow the pains and gotchas they answer."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hongyan.channels import connection
from hongyan.channels.channel import Ack, Declined, Link, Throttled, Unreachable, Unsure
from hongyan.channels.pause import Pause
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Encoding
from hongyan.wire import smpp
from hongyan.wire.smpp import CommandStatus

from .centre import Centre, Opened, Recorder, Talk, build, deliver, parcel, parcels, receipt


def hold(talk: Talk, submit: smpp.SubmitSm) -> None:
    """A script that leaves every submit unanswered."""


async def test_a_parcel_is_acked_and_its_report_comes_back() -> None:
    async with Centre() as centre, Opened(centre) as opened:
        opened.channel.submit([parcel("one")])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        centre.talk.say(receipt("0001"))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
    answer, report = opened.recorder.answers[0], opened.recorder.reports[0]
    assert answer.parcel.handle == "one"
    assert answer.outcome == Ack("1", "0001")
    assert answer.sent_at_s <= answer.at_s
    assert (report.upstream_id, report.status, report.final) == ("1", Status.DELIVERED, True)
    assert report.number == "+8613800138000"
    assert centre.submits[0].destination_addr == "8613800138000"


async def test_gotcha_1_a_report_before_its_ack_is_heard() -> None:
    async with Centre(hold) as centre, Opened(centre) as opened:
        opened.channel.submit([parcel()])
        await centre.until(lambda: len(centre.submits) == 1)
        centre.talk.say(receipt("77"))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        assert opened.recorder.answers == []
        centre.talk.ack(centre.submits[0], "77")
        centre.talk.flush()
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
    assert opened.recorder.answers[0].outcome == Ack("77", "77")
    assert opened.recorder.reports[0].upstream_id == "77"


async def test_gotcha_26_throttling_pauses_the_channel_and_keeps_the_order() -> None:
    def throttle_second(talk: Talk, submit: smpp.SubmitSm) -> None:
        if len(talk.centre.submits) == 2:
            talk.fail(submit, CommandStatus.THROTTLED)
        elif len(talk.centre.submits) == 3:
            talk.fail(submit, CommandStatus.MSGQFUL)
        else:
            talk.ack(submit, f"{len(talk.centre.submits)}")

    # The pause is long enough that a slow machine looks at it in time.
    async with (
        Centre(throttle_second) as centre,
        Opened(centre, throttle_pause_s=0.5, throttle_pause_s_max=0.5) as opened,
    ):
        recorder, channel = opened.recorder, opened.channel
        channel.submit(parcels(4))
        await recorder.until(lambda: len(recorder.answers) == 4)
        kinds = [type(answer.outcome) for answer in recorder.answers]
        assert kinds == [Ack, Throttled, Throttled, Ack]  # those behind are answered as they come
        assert recorder.handles() == [1, 2, 3, 4]
        opened.store()
        assert channel.state().link is Link.THROTTLED
        assert channel.room() == 0
        channel.submit([parcel("too early")])
        await recorder.until(lambda: len(recorder.answers) == 5)
        early = recorder.answers[4]
        assert isinstance(early.outcome, Throttled)
        assert early.outcome.retry_after_s > 0
        assert early.slot is None
        assert len(centre.submits) == 4  # it never left
        await recorder.until(lambda: recorder.states[-1].link is Link.UP and channel.room() > 0)
        channel.submit([answer.parcel for answer in recorder.answers[1:3]])
        await recorder.until(lambda: len(recorder.answers) == 7)
        assert recorder.handles()[-2:] == [2, 3]


async def test_pain_7_a_throttled_parcel_asks_for_its_report_again() -> None:
    def throttle_first(talk: Talk, submit: smpp.SubmitSm) -> None:
        if len(talk.centre.submits) == 1:
            talk.fail(submit, CommandStatus.THROTTLED)
        else:
            talk.ack(submit, "1")

    async with Centre(throttle_first) as centre, Opened(centre) as opened:
        recorder, channel = opened.recorder, opened.channel
        channel.submit([parcel()])
        await recorder.until(lambda: len(recorder.answers) == 1)
        await recorder.until(lambda: channel.room() > 0)
        channel.submit([recorder.answers[0].parcel])
        await recorder.until(lambda: len(recorder.answers) == 2)
        assert [submit.registered_delivery for submit in centre.submits] == [1, 1]


async def test_pain_15_a_broken_session_makes_every_unanswered_submit_unsure_exactly_once() -> None:
    async with Centre(hold) as centre, Opened(centre) as opened:
        recorder = opened.recorder
        opened.channel.submit(parcels(5))
        await centre.until(lambda: len(centre.submits) == 5)
        centre.talk.transport.abort()
        await recorder.until(lambda: len(recorder.answers) == 5)
        await centre.until(lambda: len(centre.talks) == 2)
        await recorder.until(lambda: opened.channel.state().sessions_up == 1)
        assert all(isinstance(answer.outcome, Unsure) for answer in recorder.answers)
        assert recorder.handles() == [1, 2, 3, 4, 5]
        assert len(centre.submits) == 5  # nothing is sent again by itself
    assert len(recorder.answers) == 5


async def test_pain_14_a_half_open_peer_is_noticed_and_replaced() -> None:
    async with Centre(hold) as centre, Opened(centre, heartbeat_s=0.01, login_wait_s=0.05) as opened:
        recorder = opened.recorder
        opened.channel.submit(parcels(2))
        await centre.until(lambda: len(centre.submits) == 2)
        centre.deaf = True
        await recorder.until(lambda: len(recorder.answers) == 2)
        assert all(isinstance(answer.outcome, Unsure) for answer in recorder.answers)
        assert "heartbeats unanswered" in str(recorder.answers[0].outcome)
        centre.deaf = False
        await recorder.until(lambda: opened.channel.state().sessions_up == 1)
        assert len(centre.talks) >= 2


async def test_a_login_that_is_never_answered_is_given_up() -> None:
    recorder = Recorder()
    async with Centre() as centre:
        centre.deaf = True
        channel = build(centre.port, login_wait_s=0.02)
        await channel.open(recorder)
        await recorder.until(lambda: "login too late" in channel.state().reason)
        centre.deaf = False
        await recorder.until(lambda: channel.state().link is Link.UP)
        await channel.close()


async def test_a_submit_that_is_never_answered_becomes_unsure_and_a_late_ack_adds_nothing() -> None:
    async with Centre(hold) as centre, Opened(centre, ack_wait_s=0.02) as opened:
        opened.channel.submit([parcel()])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        centre.talk.ack(centre.submits[0], "9")
        centre.talk.flush()
        centre.talk.say(receipt("9"))  # comes after the ack on the same connection
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        assert len(opened.recorder.answers) == 1
        assert isinstance(opened.recorder.answers[0].outcome, Unsure)


async def test_a_slot_is_freed_only_when_its_answer_is_stored() -> None:
    async with Centre() as centre, Opened(centre, window_size=2) as opened:
        assert opened.channel.room() == 2
        opened.channel.submit(parcels(2))
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 2)
        assert opened.channel.room() == 0
        opened.store()
        assert opened.channel.room() == 2


async def test_reconnecting_frees_no_slot_that_is_not_stored() -> None:
    async with Centre(hold) as centre, Opened(centre, window_size=3) as opened:
        opened.channel.submit(parcels(2))
        await centre.until(lambda: len(centre.submits) == 2)
        centre.talk.transport.abort()
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 2)
        await opened.recorder.until(lambda: opened.channel.state().sessions_up == 1)
        assert opened.channel.room() == 1
        opened.store()
        assert opened.channel.room() == 3


async def test_gotcha_27_the_window_is_never_exceeded() -> None:
    async with Centre(hold) as centre, Opened(centre, window_size=3) as opened:
        opened.channel.submit(parcels(5))
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 2)
        await centre.until(lambda: len(centre.submits) == 3)
        assert opened.recorder.handles() == [4, 5]
        assert all(isinstance(answer.outcome, Throttled) for answer in opened.recorder.answers)


async def test_what_comes_is_left_lying_until_half_the_window_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "REST_S", 60.0)
    async with Centre() as centre, Opened(centre, window_size=10) as opened:
        opened.channel.submit(parcels(4))
        await centre.until(lambda: len(centre.submits) == 4)
        await asyncio.sleep(0.05)  # time to read the answers, for one that would
        assert opened.recorder.answers == []
        opened.channel.submit([parcel("fifth")])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 5)
        assert len({answer.at_s for answer in opened.recorder.answers[:4]}) == 1  # read in one go


async def test_what_was_left_lying_is_read_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REST_S", 0.01)
    async with Centre() as centre, Opened(centre, window_size=1_000) as opened:
        for number in range(3):
            opened.channel.submit([parcel(number)])
            centre.talk.say(receipt(f"{number:04d}"))
            await opened.recorder.until(lambda count=number + 1: len(opened.recorder.reports) == count)  # type: ignore[misc]
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 3)


async def test_who_says_something_and_goes_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REST_S", 0.2)
    async with Centre(hold) as centre, Opened(centre) as opened:
        opened.channel.submit([parcel()])
        await centre.until(lambda: len(centre.submits) == 1)
        centre.talk.ack(centre.submits[0], "7")
        centre.talk.flush()
        centre.talk.transport.close()
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        assert opened.recorder.answers[0].outcome == Ack("7", "7")


async def test_a_report_is_answered_only_when_it_is_stored() -> None:
    async with Centre() as centre, Opened(centre) as opened:
        centre.talk.say(receipt("1"))
        centre.talk.say(deliver(b"hi"))
        await opened.recorder.until(lambda: bool(opened.recorder.reports and opened.recorder.inbound))
        # Refused at once, so its answer shows that all that would have come before it has come.
        centre.talk.say(smpp.QuerySm(message_id="1"))
        await centre.until(lambda: bool(centre.talk.answered))
        assert [type(pdu) for pdu in centre.talk.answered] == [smpp.QuerySmResp]
        opened.store()
        await centre.until(lambda: len(centre.talk.answered) == 3)
        stored = centre.talk.answered[1:]
        assert [type(pdu) for pdu in stored] == [smpp.DeliverSmResp, smpp.DeliverSmResp]


async def test_reports_beyond_the_bound_wait_at_the_upstream() -> None:
    count = 4000
    async with Centre() as centre, Opened(centre, unsettled_max=10) as opened:
        octets = b"".join(smpp.encode(receipt(f"{number}"), number) for number in range(1, count + 1))
        centre.talk.say_raw(octets)
        await opened.recorder.until(lambda: len(opened.recorder.reports) > 10)
        assert len(opened.recorder.reports) < count
        while len(opened.recorder.reports) < count:
            seen = len(opened.recorder.reports)
            opened.store()
            await opened.recorder.until(lambda seen=seen: len(opened.recorder.reports) > seen)  # type: ignore[misc]
    assert [report.upstream_id for report in opened.recorder.reports] == [str(n) for n in range(1, count + 1)]


async def test_pain_20_unknown_statuses_tags_and_pdus_do_not_kill_the_link() -> None:
    def fail_first(talk: Talk, submit: smpp.SubmitSm) -> None:
        if len(talk.centre.submits) == 1:
            talk.fail(submit, 0x4AB)
        else:
            talk.ack(submit, "2")

    async with Centre(fail_first) as centre, Opened(centre) as opened:
        recorder = opened.recorder
        opened.channel.submit([parcel(1)])
        await recorder.until(lambda: len(recorder.answers) == 1)
        assert recorder.answers[0].outcome == Declined("0x000004AB", Cause.UNKNOWN)
        centre.talk.say_raw(smpp.encode(smpp.UnknownPdu(1, 0, 0x00010200, b"vendor")))
        centre.talk.say_raw(smpp.encode(receipt("5", tlvs=((0x3FFF, b"x"),)), 2))
        short = smpp.encode(receipt("6"), 3)
        centre.talk.say_raw((len(short) - 60).to_bytes(4, "big") + short[4:-60])  # ends inside its text
        opened.channel.submit([parcel(2)])
        await recorder.until(lambda: len(recorder.answers) == 2 and len(recorder.reports) == 1)
        assert recorder.answers[1].outcome == Ack("2", "2")
        assert len(centre.talks) == 1


async def test_a_refused_login_is_told_in_the_upstreams_words_and_tried_again() -> None:
    recorder = Recorder()
    async with Centre(bind_statuses=[CommandStatus.INVPASWD, CommandStatus.ALYBND]) as centre:
        channel = build(centre.port)
        await channel.open(recorder)
        await recorder.until(lambda: channel.state().link is Link.UP)
        reasons = [state.reason for state in recorder.states]
        assert "bind refused: INVPASWD (0x0E)" in reasons
        assert "bind refused: ALYBND (0x05)" in reasons
        assert channel.state().reason == ""
        assert len(centre.binds) == 3
        await channel.close()
    assert channel.state().link is Link.CLOSED


async def test_a_standby_host_takes_over() -> None:
    recorder = Recorder()
    async with Centre() as first, Centre() as second:
        channel = build(0, hosts=[f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"])
        await channel.open(recorder)
        await recorder.until(lambda: channel.state().link is Link.UP)
        assert (len(first.binds), len(second.binds)) == (1, 0)
        first.close()
        first.talk.transport.abort()
        await second.until(lambda: len(second.binds) == 1)
        await recorder.until(lambda: channel.state().link is Link.UP)
        await channel.close()


async def test_garbage_drops_one_connection_only() -> None:
    async with Centre() as centre, Opened(centre, sessions=2, sessions_up=2) as opened:
        centre.talks[0].say_raw(b"\xff" * 64)
        await centre.until(lambda: len(centre.talks) == 3)
        await opened.recorder.until(lambda: opened.channel.state().sessions_up == 2)
        assert centre.talks[0].over
        assert not centre.talks[1].over


async def test_a_pair_submits_over_one_connection_and_hears_over_the_other() -> None:
    async with Centre() as centre, Opened(centre, bind="pair") as opened:
        await centre.until(lambda: len(centre.binds) == 2)
        talks = {type(talk.machine.peer_login): talk for talk in centre.talks}
        assert set(talks) == {smpp.BindTransmitter, smpp.BindReceiver}
        opened.channel.submit([parcel()])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        talks[smpp.BindReceiver].say(receipt("0001"))
        await opened.recorder.until(lambda: len(opened.recorder.reports) == 1)
        assert opened.channel.state().window_size == 50  # the receiver carries no submits


async def test_without_a_session_a_parcel_is_unreachable_and_the_reason_is_told() -> None:
    recorder = Recorder()
    with socket.socket() as nobody:  # bound and not listening: it refuses, and nobody else is given the port
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        channel = build(port, backoff_s=5.0, backoff_s_max=5.0)
        await channel.open(recorder)
        await recorder.until(lambda: bool(recorder.states and recorder.states[-1].reason))
        assert channel.state().link is Link.DOWN
        assert channel.room() == 0
        channel.submit(parcels(2))
        await recorder.until(lambda: len(recorder.answers) == 2)
        outcomes = [answer.outcome for answer in recorder.answers]
        assert all(isinstance(outcome, Unreachable) and str(port) in outcome.reason for outcome in outcomes)
        await channel.close()


async def test_a_parcel_the_wire_cannot_carry_is_declined_and_the_others_go() -> None:
    async with Centre() as centre, Opened(centre) as opened:
        opened.channel.submit([parcel(1, sender="1" * 40), parcel(2), parcel(3, encoding=Encoding.GBK)])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 3)
        outcomes = {answer.parcel.handle: answer.outcome for answer in opened.recorder.answers}
        assert isinstance(outcomes[1], Declined)
        assert outcomes[2] == Ack("1", "0001")
        assert outcomes[3] == Declined("data_coding", Cause.UNSUPPORTED)
        opened.store()
        assert opened.channel.room() == 50


async def test_gotcha_25_an_empty_message_id_is_flagged() -> None:
    def empty(talk: Talk, submit: smpp.SubmitSm) -> None:
        talk.ack(submit, "")

    async with Centre(empty) as centre, Opened(centre) as opened:
        opened.channel.submit([parcel()])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        assert opened.recorder.answers[0].outcome == Ack("", "")
        assert "message_id" in opened.channel.state().reason


async def test_closing_waits_for_answers_and_stores_and_logs_out() -> None:
    async with Centre(hold) as centre, Opened(centre, close_wait_s=5.0) as opened:
        recorder, channel = opened.recorder, opened.channel
        channel.submit([parcel("last")])
        await centre.until(lambda: len(centre.submits) == 1)
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(channel.close())
            await recorder.until(lambda: channel.state().link is Link.CLOSED)
            assert channel.room() == 0
            centre.talk.ack(centre.submits[0], "1")
            centre.talk.flush()
            await recorder.until(lambda: len(recorder.answers) == 1)
            assert not closing.done()
            opened.store()
        assert recorder.answers[0].outcome == Ack("1", "1")
        await centre.until(lambda: centre.talk.over)
        assert centre.talk.machine.state.value == "closed"  # it heard the unbind


async def test_closing_ends_though_the_upstream_never_answers() -> None:
    async with Centre(hold) as centre, Opened(centre, close_wait_s=0.02) as opened:
        opened.channel.submit([parcel()])
        await centre.until(lambda: len(centre.submits) == 1)
        centre.deaf = True
        await opened.channel.close()
        assert [type(answer.outcome) for answer in opened.recorder.answers] == [Unsure]


async def test_sessions_are_leased_one_by_one() -> None:
    async with Centre() as centre, Opened(centre, sessions=0, sessions_up=0) as opened:
        channel, recorder = opened.channel, opened.recorder
        assert channel.state().link is Link.DOWN
        channel.resize(3)
        await recorder.until(lambda: channel.state().sessions_up == 3)
        assert channel.state().window_size == 150
        channel.resize(1)
        await centre.until(lambda: sum(talk.over for talk in centre.talks) == 2)
        assert channel.state().sessions_up == 1
        channel.submit([parcel()])
        await recorder.until(lambda: len(recorder.answers) == 1)
        assert recorder.answers[0].outcome == Ack("1", "0001")


async def test_a_session_that_is_to_go_hears_its_answers_though_reading_was_stopped() -> None:
    async with Centre(hold) as centre, Opened(centre, unsettled_max=1, close_wait_s=10.0) as opened:
        channel, recorder = opened.channel, opened.recorder
        channel.submit([parcel()])
        await centre.until(lambda: len(centre.submits) == 1)
        for number in range(3):
            centre.talk.say(receipt(f"{number}"))
        await recorder.until(lambda: len(recorder.reports) == 3)
        channel.resize(0)
        centre.talk.ack(centre.submits[0], "1")
        centre.talk.flush()
        opened.store()
        await recorder.until(lambda: len(recorder.answers) == 1)
        assert recorder.answers[0].outcome == Ack("1", "1")


async def test_sessions_leased_before_opening_stand_above_the_configured_number() -> None:
    recorder = Recorder()
    async with Centre() as centre:
        channel = build(centre.port, sessions=1)
        channel.resize(2)
        await channel.open(recorder)
        await recorder.until(lambda: channel.state().sessions_up == 2)
        await channel.close()


async def test_a_batch_keeps_its_order_on_a_session() -> None:
    async with Centre() as centre, Opened(centre, sessions=2, sessions_up=2, window_size=10) as opened:
        opened.channel.submit(parcels(8))
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 8)
        assert opened.recorder.handles() == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_opening_2_what_became_of_an_unsure_part_can_be_asked() -> None:
    async with Centre() as centre, Opened(centre) as opened:
        report = await opened.channel.ask("00A1", "+8613800138000", "10690000")
        assert report is not None
        assert (report.upstream_id, report.status, report.number) == (
            "a1",
            Status.DELIVERED,
            "+8613800138000",
        )
        assert centre.queries[0].message_id == "00A1"
        assert centre.queries[0].source_addr == "10690000"
        assert opened.channel.room() == 50
        assert await opened.channel.ask("", "+8613800138000", "10690000") is None


async def test_a_query_that_is_never_answered_ends() -> None:
    async with Centre() as centre, Opened(centre, ack_wait_s=0.02) as opened:
        centre.deaf = True
        assert await opened.channel.ask("1", "+8613800138000", "10690000") is None


def test_gotcha_26_the_pause_doubles_while_throttling_goes_on_and_shrinks_with_quiet_time() -> None:
    pause = Pause(first_s=1.0, longest_s=6.0)
    assert pause.throttled(100.0) == 1.0
    assert pause.throttled(100.5) == 0.5  # sent before the pause: it adds nothing
    assert pause.throttled(101.0) == 2.0
    assert pause.throttled(103.0) == 4.0
    assert pause.throttled(107.0) == 6.0
    assert pause.remaining_s(113.0) == 0.0
    assert pause.throttled(117.0) == 4.0  # four quiet seconds took four off before it doubled
    assert pause.throttled(1000.0) == 1.0


async def test_tls_stands_before_the_login_and_a_strange_certificate_is_refused(tmp_path: Path) -> None:
    ca_file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca_file)
    recorder = Recorder()
    async with Centre(tls=context) as centre:
        async with Opened(centre, tls=True, tls_ca_file=str(ca_file), tls_name="smsc.test") as opened:
            opened.channel.submit([parcel()])
            await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        stranger = build(centre.port, tls=True)
        await stranger.open(recorder)
        await recorder.until(lambda: "certificate" in stranger.state().reason)
        await stranger.close()


def certificate(folder: Path) -> Path:
    """Write a self-signed certificate for smsc.test and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smsc.test")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365 * 80))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("smsc.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    unlocked = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    path = folder / "smsc.pem"
    path.write_bytes(
        signed.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unlocked)
    )
    return path
