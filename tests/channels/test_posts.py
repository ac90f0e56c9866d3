"""Laws of posts.py, told by a described provider against real servers: one answer a parcel, and what each may mean."""

import asyncio
import socket
from typing import Any

import pytest

from hongyan.channels import kinds
from hongyan.channels.channel import Ack, Declined, Link, Throttled, Unreachable, Unsure, Wording
from hongyan.channels.codes import Verdict
from hongyan.channels.providers import FiledSettings, PostSettings, WordCodes, national, units
from hongyan.vocab.cause import Cause

from .centre import Recorder, parcel, parcels
from .providers import Answered, Asked, HangUp, Opened, Provider, Reply, Silence

DESCRIBED = {"body": {"to": "{number}", "text": "{text}"}, "ok_path": "code", "id_path": "id"}
REST = {"backoff_s": 0.5, "backoff_s_max": 0.5}  # long enough that a slow machine looks at it in time


def against(provider: Provider, **settings: object) -> Opened:
    return Opened("custom_http", {"url": provider.url, **DESCRIBED, **settings})


def take(_: Asked) -> Answered:
    return Reply({"code": 0, "id": "abc"})


async def test_a_taken_message_is_acked_with_their_id() -> None:
    async with Provider(take) as provider, against(provider) as opened:
        assert await opened.send(parcel()) == [Ack("abc", "abc")]
    assert provider.asked[0].json == {"to": "+8613800138000", "text": "hello"}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (HangUp(), Unsure),
        (Silence(), Unsure),
        (Reply(b"<html>"), Unsure),
        (Reply(b"", status=500), Unsure),
        (Reply(b"", status=502), Unsure),
        (Reply(b"", status=408), Unsure),
        (Reply(b"", status=401), Unreachable),
        (Reply(b"", status=302, headers={"Location": "/elsewhere"}), Unreachable),
        (Reply(b"", status=404), Unreachable),
        (Reply(b"", status=400), Declined),
        (Reply(b"", status=429), Throttled),
        (Reply({"code": 7}), Declined),
        (Reply({"code": 7}, status=500), Unsure),
        (Reply({"code": 0, "id": "x"}, status=500), Unsure),
    ],
)
async def test_what_a_failure_means_and_nothing_is_asked_twice(said: Answered, kind: type[Any]) -> None:
    # Only silence ends by the wait: for the others it would be a race with a busy machine.
    wait_s = 0.5 if isinstance(said, Silence) else 10.0
    async with Provider(lambda _: said) as provider, against(provider, answer_wait_s=wait_s) as opened:
        (outcome,) = await opened.send(parcel())
        assert isinstance(outcome, kind)
        await provider.until(lambda: len(provider.asked) == 1)


async def test_a_connection_that_is_refused_certainly_carried_nothing() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        async with Opened("custom_http", {"url": url, **DESCRIBED, **REST}) as opened:
            (outcome,) = await opened.send(parcel())
            assert isinstance(outcome, Unreachable)
            assert opened.channel.state().link is Link.DOWN


async def test_our_own_network_is_shut_unless_the_operator_opens_it() -> None:
    async with Provider(take) as provider:
        settings = {"url": provider.url, **DESCRIBED}
        async with Opened("custom_http", settings, private=False) as opened:
            assert await opened.send(parcel()) == [Unreachable("url refused: private address")]
        assert provider.asked == []


async def test_a_slot_is_free_when_its_answer_is_stored_and_no_sooner() -> None:
    async with Provider(take) as provider, against(provider, window_size=2) as opened:
        channel, recorder = opened.channel, opened.recorder
        channel.submit(parcels(3))
        await recorder.until(lambda: len(recorder.answers) == 3)
        by_handle = {answer.parcel.handle: answer.outcome for answer in recorder.answers}
        assert [type(by_handle[handle]) for handle in (1, 2, 3)] == [Ack, Ack, Throttled]
        assert channel.room() == 0
        opened.store()
        assert channel.room() == 2


async def test_shares_of_an_account_make_the_window() -> None:
    async with Provider(take) as provider, against(provider, window_size=2) as opened:
        opened.channel.resize(3)
        assert opened.channel.room() == 6
        opened.channel.resize(0)
        assert opened.channel.room() == 0
        assert opened.channel.state().link is Link.DOWN


async def test_requests_go_side_by_side_up_to_the_window() -> None:
    gate = asyncio.Event()

    async def wait(_: Asked) -> Answered:
        await gate.wait()
        return Reply({"code": 0, "id": "1"})

    async with Provider(wait) as provider, against(provider, window_size=5) as opened:
        opened.channel.submit(parcels(5))
        await provider.until(lambda: len(provider.asked) == 5)
        assert opened.channel.room() == 0
        gate.set()
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 5)


async def test_the_pace_bounds_what_is_taken_at_once() -> None:
    async with Provider(take) as provider, against(provider, messages_per_s=40.0) as opened:
        assert opened.channel.room() == 2  # a twentieth of a second's
        opened.channel.submit(parcels(2))
        assert opened.channel.room() < 2
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 2)


async def test_the_channel_says_when_its_pace_lets_something_leave_again() -> None:
    async with Provider(take) as provider, against(provider, messages_per_s=20.0) as opened:
        for handle in range(3):  # send() looks for room only when it is told of a change
            assert await opened.send(parcel(handle)) == [Ack("abc", "abc")]


async def test_throttling_pauses_the_channel_and_says_for_how_long() -> None:
    replies = [Reply(b"", status=429, headers={"Retry-After": "1"}), Reply({"code": 0, "id": "2"})]
    pause_s = 0.5  # long enough that a slow machine looks at it in time
    async with (
        Provider(lambda _: replies.pop(0)) as provider,
        against(provider, throttle_pause_s_max=pause_s) as opened,
    ):
        (outcome,) = await opened.send(parcel())
        assert outcome == Throttled(pause_s, "429")  # as they ask, within throttle_pause_s_max
        assert opened.recorder.states[-1].link is Link.THROTTLED
        assert opened.channel.room() == 0
        assert await opened.send(parcel()) == [Ack("2", "2")]  # send() waits for room


async def test_after_a_rest_one_parcel_tries_the_provider_out() -> None:
    replies = [Reply(b"", status=403), Reply(b"", status=403), Reply({"code": 0, "id": "3"})]
    async with Provider(lambda _: replies.pop(0)) as provider, against(provider, **REST) as opened:
        channel, recorder = opened.channel, opened.recorder
        assert await opened.send(parcel()) == [Unreachable("status 403")]
        assert (channel.state().link, channel.state().reason) == (Link.DOWN, "status 403")
        assert await opened.send(parcel()) == [Unreachable("status 403")]
        await recorder.until(lambda: channel.room() > 0)
        assert channel.room() == 1
        assert await opened.send(parcel()) == [Ack("3", "3")]
        assert (channel.room(), channel.state().reason) == (64, "")


async def test_a_provider_that_falls_silent_is_left_alone() -> None:
    async with Provider(lambda _: HangUp()) as provider, against(provider, **REST) as opened:
        for _ in range(3):
            assert isinstance((await opened.send(parcel()))[0], Unsure)
        assert opened.channel.state().link is Link.DOWN


async def test_closing_waits_for_answers_and_what_is_left_is_unsure() -> None:
    async with Provider(lambda _: Silence()) as provider, against(provider, close_wait_s=0.1) as opened:
        opened.channel.submit(parcels(2))
        await provider.until(lambda: len(provider.asked) == 2)
        await opened.channel.close()
        assert [type(answer.outcome) for answer in opened.recorder.answers] == [Unsure, Unsure]
        assert opened.recorder.states[-1].link is Link.CLOSED
        opened.channel.submit([parcel(9)])
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 3)
        assert isinstance(opened.recorder.answers[-1].outcome, Unreachable)
    assert len(provider.asked) == 2


async def test_closing_lets_an_answer_come_that_is_under_way() -> None:
    gate = asyncio.Event()

    async def wait(_: Asked) -> Answered:
        await gate.wait()
        return Reply({"code": 0, "id": "1"})

    async with (
        Provider(wait) as provider,
        against(provider, close_wait_s=5.0) as opened,
        asyncio.TaskGroup() as tasks,
    ):
        opened.channel.submit([parcel()])
        await provider.until(lambda: len(provider.asked) == 1)
        closing = tasks.create_task(opened.channel.close())
        gate.set()
        await opened.recorder.until(lambda: len(opened.recorder.answers) == 1)
        assert opened.recorder.answers[0].outcome == Ack("1", "1")
        opened.store()
        await closing


async def test_a_channel_without_a_way_out_never_submits() -> None:
    channel, recorder = kinds.build("custom_http", {"url": "https://sms.example/", **DESCRIBED}), Recorder()
    await channel.open(recorder)
    assert channel.room() == 0
    assert (recorder.states[-1].link, recorder.states[-1].reason) == (Link.DOWN, "built without a way out")
    channel.submit([parcel()])
    await recorder.until(lambda: len(recorder.answers) == 1)
    assert isinstance(recorder.answers[0].outcome, Unreachable)
    await channel.close()


def test_a_code_is_found_whole_then_by_its_first_words_and_an_account_may_overrule() -> None:
    table = {
        "Limit": (Verdict.THROTTLED, Cause.RATE_LIMITED),
        "Limit.Number": (Verdict.DECLINED, Cause.BLACKLISTED),
    }
    codes = WordCodes(
        table, PostSettings(verdicts={"limit.day": Verdict.UNREACHABLE}, causes={"odd": Cause.HANDSET})
    )
    assert codes.outcome("Limit.Number.X", "", 200) == Declined("Limit.Number.X", Cause.BLACKLISTED)
    assert codes.outcome("Limit.Else", "", 200) == Throttled(0.0, "Limit.Else")
    assert codes.outcome("Limit.Day", "no more", 200) == Unreachable("Limit.Day: no more")
    assert codes.outcome("odd", "", 200) == Declined("odd", Cause.HANDSET)
    assert codes.outcome("MK:0001", "", 200) == Declined("MK:0001", Cause.INVALID_NUMBER)
    assert codes.outcome("MK:9999", "", 200) == Declined("MK:9999", Cause.UNREACHABLE)  # by its component
    assert codes.outcome("601", "", 200) == Declined("601", Cause.UNKNOWN)  # a number is theirs alone
    assert codes.outcome("never seen", "", 200) == Declined("never seen", Cause.UNKNOWN)
    assert isinstance(codes.outcome("never seen", "", 503), Unsure)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Declined),
        (400, Declined),
        (403, Declined),  # some refuse a number so
        (401, Unreachable),  # our key has been changed: no message's fault
        (402, Unreachable),
        (407, Unreachable),
        (408, Unsure),
        (429, Throttled),
        (500, Unsure),
    ],
)
def test_the_status_speaks_where_a_code_is_not_known(status: int, kind: type[Any]) -> None:
    assert isinstance(WordCodes({}, PostSettings()).outcome("never seen", "", status), kind)


def test_only_what_is_filed_is_carried() -> None:
    settings = FiledSettings(templates={"login": "SMS_1"}, signatures={"a": "A"}, value_characters_max=3)
    said = {
        settings.why_not(wording)
        for wording in (
            None,
            Wording("other", "a", {}),
            Wording("login", "b", {}),
            Wording("login", "a", {"x": "1234"}),
            Wording("login", "a", {"x": "123"}),
        )
    }
    assert said == {"no_template", "template_not_filed", "signature_not_filed", "value_too_long", ""}


def test_numbers_and_lengths_are_written_as_mainland_providers_want_them() -> None:
    assert national("+8613800138000") == "13800138000"
    assert national("+85251234567") == "85251234567"
    assert units("😀a") == 3
