"""What holds for customers of CMPP, SMGP and SGIP alike; their own ways are in files of their own."""

from datetime import timedelta
from typing import Any

import pytest

from doors.client import KINDS, LONG, NAME, QUIET, enter, group, halves, login, reply, town, written
from doors.hosting import PASSWORD
from hongyan.doors.tongues import mainland
from hongyan.doors.tongues.tongue import Numbers, china_now
from hongyan.vocab.errors import Refusal
from hongyan.vocab.text import Encoding
from hongyan.wire import cmpp
from simulator.sp import Sgip, Sp

KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
REJECTED = {"cmpp": "REJECTD", "smgp": "REJECTD", "sgip": "UNDELIV"}
SLOWER = {"cmpp": "8", "smgp": "1", "sgip": "88"}
WRONG = {"cmpp": 3, "smgp": 21, "sgip": 1}


def said(response: Any) -> int:
    """The status of a login's answer."""
    return int(response.result if hasattr(response, "result") else response.status)


@KIND
async def test_a_submit_travels_to_a_handset_and_its_report_comes_back_under_its_id(
    database: str, kind: type[Sp]
) -> None:
    async with town(database, kind.protocol) as (way, door, operator), await enter(kind, door) as sp:
        sp.text(kind.number("13800138000"), **written())
        (ack,) = await sp.acks()
        assert (await sp.reports()) == [(ack.id, "DELIVRD")]
        assert [one.text for one in operator.phone("13800138000")] == [QUIET]
        await way.until("SELECT 1 FROM message WHERE reference = $1 AND status = 1", ack.id)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


@KIND
async def test_what_matches_no_template_is_refused_and_stored_nowhere(database: str, kind: type[Sp]) -> None:
    async with town(database, kind.protocol) as (way, door, _), await enter(kind, door) as sp:
        sp.text(**written("【鸿雁】something else"))
        (ack,) = await sp.acks()
        assert ack.state != "0"
        assert await way.database.fetch("SELECT FROM message") == []


@KIND
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_parts_of_a_long_text_are_one_message_and_each_gets_its_report(
    database: str, kind: type[Sp], order: tuple[int, int]
) -> None:
    async with town(database, kind.protocol) as (way, door, operator), await enter(kind, door) as sp:
        parts = halves()
        for place in order:
            sp.text(kind.number("13800138000"), **parts[place])
        acks = await sp.acks(2)
        assert {report.id for report in await sp.reports(2)} == {ack.id for ack in acks}
        assert [one.text for one in operator.phone("13800138000")] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 1
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM submit_part)")


@KIND
async def test_of_many_numbers_each_has_its_report_and_a_refused_one_has_it_too(
    database: str, kind: type[Sp]
) -> None:
    async with town(database, kind.protocol) as (way, door, _), await enter(kind, door) as sp:
        sp.text(kind.number("13800138000"), "86110", kind.number("13900139000"), **written())
        (ack,) = await sp.acks()
        assert ack.state == "0"
        states = ("DELIVRD", REJECTED[kind.protocol], "DELIVRD")
        expected = list(zip(group(kind, ack, 3), states, strict=True))
        assert sorted(await sp.reports(3)) == sorted(expected)
        assert len(await way.database.fetch("SELECT FROM message")) == 2


@KIND
async def test_a_long_text_to_many_numbers_is_a_message_for_each(database: str, kind: type[Sp]) -> None:
    async with town(database, kind.protocol) as (way, door, operator), await enter(kind, door) as sp:
        for part in halves():
            sp.text(kind.number("13800138000"), kind.number("13900139000"), **part)
        acks = await sp.acks(2)
        expected = [one for ack in acks for one in group(kind, ack, 2)]
        assert sorted(report.id for report in await sp.reports(4)) == sorted(expected)
        for number in ("13800138000", "13900139000"):
            assert [one.text for one in operator.phone(number)] == [LONG]
        assert len(await way.database.fetch("SELECT FROM message")) == 2


@KIND
async def test_a_submit_none_of_whose_numbers_can_be_is_refused(database: str, kind: type[Sp]) -> None:
    async with town(database, kind.protocol) as (_, door, _), await enter(kind, door) as sp:
        sp.text("86110", "86119", **written())
        expected = {"cmpp": "13", "smgp": "47", "sgip": "6"}[kind.protocol]
        if kind.__name__ == "Cmpp2":
            expected = "9"  # 2.x knows no 13
        assert [ack.state for ack in await sp.acks()] == [expected]


@KIND
async def test_who_submits_too_fast_is_told_so_and_stays(database: str, kind: type[Sp]) -> None:
    async with (
        town(database, kind.protocol, rate_per_s=2) as (_, door, _),
        await enter(kind, door) as sp,
    ):
        sp.text(**written(), copies=12)
        assert {ack.state for ack in await sp.acks(12)} == {"0", SLOWER[kind.protocol]}


@KIND
async def test_the_rate_counts_numbers_and_not_submits(database: str, kind: type[Sp]) -> None:
    async with (
        town(database, kind.protocol, rate_per_s=4) as (way, door, _),
        await enter(kind, door) as sp,
    ):
        people = [kind.number(f"1380013800{n}") for n in range(3)]
        sp.text(*people, **written(), copies=3)
        states = [ack.state for ack in await sp.acks(3)]
        assert (states.count("0"), states.count(SLOWER[kind.protocol])) == (1, 2)
        assert len(await way.database.fetch("SELECT FROM message")) == 3


@KIND
@pytest.mark.parametrize(("password", "name"), [("wrong", NAME), (PASSWORD, "nobody")])
async def test_a_wrong_login_is_refused(database: str, kind: type[Sp], password: str, name: str) -> None:
    async with (
        town(database, kind.protocol) as (_, door, _),
        await enter(kind, door, login(kind, password, name)) as sp,
    ):
        await sp.ended()
        assert said(sp.heard[0]) == WRONG[kind.protocol]


@KIND
async def test_reports_wait_while_the_customer_is_away(database: str, kind: type[Sp]) -> None:
    async with town(database, kind.protocol, "report_delay_s=0.2") as (way, door, _):
        async with await enter(kind, door) as sp:
            sp.text(kind.number("13800138000"), **written())
            (ack,) = await sp.acks()
        await way.until("SELECT 1 FROM notice")
        async with await enter(kind, door) as sp:
            assert await sp.reports() == [(ack.id, "DELIVRD")]
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


@KIND
async def test_a_report_that_is_put_off_comes_again(database: str, kind: type[Sp]) -> None:
    async with (
        town(database, kind.protocol) as (way, door, _),
        await enter(kind, door, answers=False) as sp,
    ):
        sp.text(kind.number("13800138000"), **written())
        (ack,) = await sp.acks()
        await sp.reports()
        sp.answer(sp.heard[-1], {"cmpp": 8, "smgp": 1, "sgip": 11}[kind.protocol])
        assert await sp.reports(2) == [(ack.id, "DELIVRD")] * 2
        sp.answer(sp.heard[-1])
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


@KIND
async def test_a_report_that_is_refused_comes_no_more(database: str, kind: type[Sp]) -> None:
    async with (
        town(database, kind.protocol) as (way, door, _),
        await enter(kind, door, answers=False) as sp,
    ):
        sp.text(kind.number("13800138000"), **written())
        await sp.reports()
        sp.answer(sp.heard[-1], 5)
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


@KIND
@pytest.mark.parametrize(
    ("text", "parts", "form"), [("ok", 1, 0), ("好的", 1, {"smgp": 15}), ("好" * 100, 2, {"smgp": 15})]
)
async def test_what_a_person_texts_back_reaches_the_customer_whole(
    database: str, kind: type[Sp], text: str, parts: int, form: Any
) -> None:
    async with town(database, kind.protocol) as (way, door, operator), await enter(kind, door) as sp:
        sp.text(kind.number("13800138000"), **written())
        await sp.reports()
        await reply(way, door, operator, text, parts)
        delivers = await sp.texts(parts)
        wanted = form if isinstance(form, int) else form.get(kind.protocol, 8)
        encoding = {0: "ascii", 8: "utf-16-be", 15: "gbk"}[wanted]
        whole = ""
        for deliver in delivers:
            octets = getattr(deliver, "msg_content", b"") or getattr(deliver, "message_content", b"")
            whole += octets[1 + octets[0] if parts > 1 else 0 :].decode(encoding)
        assert whole == text
        await way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notice)")


async def test_the_number_that_texted_is_written_as_the_protocol_does(database: str) -> None:
    async with town(database, "sgip") as (way, door, operator), await enter(Sgip, door) as sp:
        sp.text("8613800138000", **written())
        await sp.reports()
        await reply(way, door, operator, "ok")
        (deliver,) = await sp.texts()
        assert (deliver.user_number, deliver.sp_number) == ("8613800138000", "1069")


# ---- small words


@pytest.mark.parametrize(
    ("e164", "bare", "with_86"),
    [("+8613800138000", "13800138000", "8613800138000"), ("+14155550100", "0014155550100", "0014155550100")],
)
def test_a_number_is_written_so_that_it_can_be_read_again(e164: str, bare: str, with_86: str) -> None:
    assert (mainland.number(e164), mainland.number(e164, "86")) == (bare, with_86)


@pytest.mark.parametrize(
    ("number", "encoding"),
    [(0, "ascii"), (8, "ucs2"), (15, "gbk"), (24, "ucs2"), (25, "ucs2"), (0x10, "gsm7"), (0xF0, "gsm7")],
)
def test_formats_that_carry_texts_are_known(number: int, encoding: str) -> None:
    assert mainland.encoding(number) is Encoding(encoding)


@pytest.mark.parametrize("number", [3, 4, 7, 0x14, 0x80, 0xF4, 0xFF])
def test_formats_that_carry_none_are_refused(number: int) -> None:
    with pytest.raises(Refusal):
        mainland.encoding(number)


@pytest.mark.parametrize(
    ("age_s", "timely"), [(0, True), (800, True), (-800, True), (1_000, False), (-1_000, False)]
)
def test_a_timestamp_holds_for_a_quarter_of_an_hour_either_way(age_s: int, timely: bool) -> None:
    at = china_now() - timedelta(seconds=age_s)
    assert mainland.timely(int(f"{at:%m%d%H%M%S}")) is timely


@pytest.mark.parametrize("timestamp", [0, 1, 1399000000, 4_294_967_295])
def test_a_timestamp_that_is_no_date_says_nothing(timestamp: int) -> None:
    assert mainland.timely(timestamp)


def test_a_run_of_numbers_shares_all_but_its_last_octets_and_none_comes_twice() -> None:
    numbers = Numbers(1)
    numbers._next = 0xFFF0
    seen: list[int] = []
    for count in (10, 10, 99, 1):
        first = numbers.make(count)
        run = cmpp.group_ids(first, count)
        assert list(run) == list(range(first, first + count))
        seen += run
    assert len(set(seen)) == len(seen)


async def test_a_login_that_was_overheard_opens_no_session_later(database: str) -> None:
    async with town(database, "cmpp") as (way, door, _):
        late = cmpp.connect(NAME, PASSWORD, china_now() - timedelta(hours=1))
        async with await enter(KINDS[0], door, late) as sp:
            await sp.ended()
            assert said(sp.heard[0]) == 3
        await way.database.execute("UPDATE login SET settings = '{\"any_time\": true}'")
        await way.keeper.load()
        async with await enter(KINDS[0], door, late) as sp:
            assert said(sp.heard[0]) == 0
