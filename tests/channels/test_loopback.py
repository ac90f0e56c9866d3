"""The sandbox keeps the contract of a channel and reaches nobody."""

import pytest

from hongyan.channels import kinds
from hongyan.channels.channel import Ack, Channel, Declined, Link, Unreachable
from hongyan.channels.loopback import FATES
from hongyan.vocab.message import Status

from .centre import Recorder, parcel


async def opened(recorder: Recorder, **settings: object) -> Channel:
    channel = kinds.build("loopback", {"report_delay_s": 0.0, "slow_delay_s": 0.0, **settings})
    await channel.open(recorder)
    return channel


@pytest.mark.parametrize("digits", sorted(set(FATES) - {7}))
async def test_the_last_two_digits_choose_the_outcome(digits: int) -> None:
    recorder = Recorder()
    channel = await opened(recorder)
    channel.submit([parcel(number=f"+86199000000{digits:02}")])
    await recorder.until(lambda: bool(recorder.reports))
    report, answer = recorder.reports[0], recorder.answers[0]
    assert isinstance(answer.outcome, Ack)
    assert report.upstream_id == answer.outcome.upstream_id
    assert (report.status, report.cause, report.code) == FATES[digits][:3]
    assert [text.text for text in recorder.inbound] == (["R"] if digits == 9 else [])
    await channel.close()


async def test_07_is_acked_and_never_reported() -> None:
    recorder = Recorder()
    channel = await opened(recorder)
    channel.submit([parcel(number="+8619900000007"), parcel(number="+8619900000000")])
    await recorder.until(lambda: bool(recorder.reports))
    assert [report.status for report in recorder.reports] == [Status.DELIVERED]
    assert len(recorder.answers) == 2
    await channel.close()


@pytest.mark.parametrize("number", ["+8613800138000", "+447700900123", "nobody"])
async def test_a_number_outside_the_sandbox_is_declined(number: str) -> None:
    recorder = Recorder()
    channel = await opened(recorder)
    channel.submit([parcel(number=number)])
    await recorder.until(lambda: bool(recorder.answers))
    assert isinstance(recorder.answers[0].outcome, Declined)
    await channel.close()


async def test_the_window_is_kept_until_answers_are_stored() -> None:
    recorder = Recorder()
    channel = await opened(recorder, window_size=2)
    channel.submit([parcel(number="+8619900000000") for _ in range(3)])
    await recorder.until(lambda: len(recorder.answers) == 3)
    assert [type(answer.outcome) for answer in recorder.answers] == [Ack, Ack, Unreachable]
    assert channel.room() == 0
    channel.stored([answer.slot for answer in recorder.answers])
    assert channel.room() == 2
    await channel.close()


async def test_reports_due_are_bounded_and_forgotten_at_close() -> None:
    recorder = Recorder()
    channel = await opened(recorder, report_delay_s=3600.0, reports_due_max=2)
    channel.submit([parcel(number="+8619900000000") for _ in range(2)])
    await recorder.until(lambda: len(recorder.answers) == 2)
    channel.stored([answer.slot for answer in recorder.answers])
    assert channel.room() == 0
    await channel.close()
    assert channel.state().link is Link.CLOSED
    assert recorder.reports == []
