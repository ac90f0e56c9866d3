"""Each class is kept for its time and no longer; texts go before their rows, numbers with them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import make
from hongyan import clock
from hongyan.vocab.message import MessageId, Purpose, Status, TenantId
from hongyan.way import consent, prune, retention
from hongyan.way.consent import Proof, Said
from hongyan.way.retention import RULES, Kept
from make import SETTINGS, World

NUMBER = make.NUMBER
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def fade(world: World, now: datetime) -> int:
    async with world.database.transaction() as tx:
        return await retention.fade(tx, world.vault, SETTINGS, now)


async def do(world: World, duty: Any, now: datetime) -> int:
    async with world.database.transaction() as tx:
        return int(await duty(tx, SETTINGS, now))


async def keep(world: World, kept: Kept, days: int, tenant_id: int = 0) -> None:
    await world.database.execute(
        "INSERT INTO retention (tenant_id, class, days) VALUES ($1, $2, $3)", tenant_id, kept.value, days
    )


async def plain(world: World, message_id: MessageId, table: str = "message") -> Any:
    (row,) = await world.database.fetch(f"SELECT tenant_id, sealed FROM {table} WHERE id = $1", message_id)
    return msgspec.msgpack.decode(world.vault.unseal(row["tenant_id"], row["sealed"]))


async def message(world: World, purpose: Purpose, at: datetime, **columns: Any) -> MessageId:
    async with world.database.transaction() as tx:
        columns = {"status": Status.DELIVERED, "params": {"code": "123456"}} | columns
        return await make.message(tx, world, purpose=purpose, at=at, text="【鸿雁】验证码123456", **columns)


FADED = [NUMBER, None, None]


async def test_the_text_of_a_code_goes_after_seven_days_and_the_number_stays(database: str) -> None:
    async with make.world(database) as world:
        sent = clock.now()
        code = await message(world, Purpose.OTP, sent)
        notice = await message(world, Purpose.TRANSACTIONAL, sent)
        await fade(world, sent + 7 * DAY - HOUR)
        assert (await plain(world, code))[2] == {"code": "123456"}
        await fade(world, sent + 7 * DAY + HOUR)
        assert await plain(world, code) == FADED
        assert (await plain(world, notice))[2] == {"code": "123456"}


async def test_other_texts_go_when_it_is_said(database: str) -> None:
    async with make.world(database) as world:
        sent = clock.now()
        found = {purpose: await message(world, purpose, sent) for purpose in Purpose}
        await keep(world, Kept.OTP_TEXTS, 100)
        await keep(world, Kept.MESSAGE_TEXTS, 30)
        await fade(world, sent + 30 * DAY + HOUR)
        faded = {purpose: await plain(world, message_id) == FADED for purpose, message_id in found.items()}
        assert faded == {Purpose.OTP: False, Purpose.TRANSACTIONAL: True, Purpose.PROMOTIONAL: True}


async def test_a_tenant_shortens_its_own_texts_only(database: str) -> None:
    async with make.world(database) as world:
        sent = clock.now()
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
        mine = await message(world, Purpose.OTP, sent)
        theirs = await message(world, Purpose.OTP, sent, tenant_id=other)
        await keep(world, Kept.OTP_TEXTS, 1, world.tenant_id)
        await keep(world, Kept.OTP_TEXTS, 90, other)  # longer than the platform's: the platform's holds
        await fade(world, sent + DAY + HOUR)
        assert (await plain(world, mine) == FADED, await plain(world, theirs) == FADED) == (True, False)
        await fade(world, sent + 7 * DAY + HOUR)
        assert await plain(world, theirs) == FADED


async def test_days_count_from_a_messages_end(database: str) -> None:
    async with make.world(database) as world:
        sent = clock.now()
        opened = await message(world, Purpose.OTP, sent, status=Status.ACCEPTED)
        late = await message(world, Purpose.OTP, sent, done_at=sent + 3 * DAY)
        await fade(world, sent + 8 * DAY)
        assert (await plain(world, opened))[1] is not None
        assert (await plain(world, late))[1] is not None
        await world.database.execute(
            "UPDATE message SET status = 1, done_at = $2 WHERE id = $1", opened, sent + 8 * DAY
        )
        await fade(world, sent + 10 * DAY + HOUR)
        assert await plain(world, late) == FADED
        assert (await plain(world, opened))[1] is not None
        await fade(world, sent + 15 * DAY + HOUR)
        assert await plain(world, opened) == FADED
        assert await world.database.fetch("SELECT 1 FROM fading_later") == []


async def test_what_was_erased_does_not_come_back(database: str) -> None:
    async with make.world(database) as world:
        sent = clock.now()
        code = await message(world, Purpose.OTP, sent)
        await world.database.execute("UPDATE message SET sealed = NULL")
        await fade(world, sent + 8 * DAY)
        (row,) = await world.database.fetch("SELECT sealed FROM message WHERE id = $1", code)
        assert row["sealed"] is None


async def test_texts_are_taken_in_slices_until_none_is_left(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SLICE_MAX", 3)
    async with make.world(database) as world:
        sent = clock.now()
        purposes = [Purpose.OTP, Purpose.PROMOTIONAL] * 5
        found = [await message(world, purpose, sent) for purpose in purposes]
        rounds = 0
        while await fade(world, sent + 8 * DAY):
            rounds += 1
        assert rounds == 3
        faded = [await plain(world, message_id) == FADED for message_id in found]
        assert faded == [True, False] * 5
        assert await fade(world, sent + 8 * DAY) == 0


async def test_what_persons_texted_goes_too_and_the_number_stays(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            letter = await make.inbound(tx, world, text="好的")
        await keep(world, Kept.INBOUND_TEXTS, 30)
        await fade(world, clock.now() + 29 * DAY)
        assert await plain(world, MessageId(letter), "inbound") == [NUMBER, "好的"]
        await fade(world, clock.now() + 31 * DAY)
        assert await plain(world, MessageId(letter), "inbound") == [NUMBER, None]


async def test_a_tenant_whose_key_is_gone_stands_in_nobodys_way(database: str) -> None:
    async with make.world(database) as world:
        sent = clock.now()
        async with world.database.transaction() as tx:
            gone = await make.tenant(tx, world.vault)
        await message(world, Purpose.OTP, sent, tenant_id=gone)
        del world.vault._ciphers[f"tenant:{gone}"]
        code = await message(world, Purpose.OTP, sent)
        await fade(world, sent + 8 * DAY)
        assert await plain(world, code) == FADED


# ---- rows


async def test_rows_are_kept_as_long_as_the_platform_says_else_as_the_setting(database: str) -> None:
    async with make.world(database) as world:
        for days in (SETTINGS.message_keep_days + 2, 160):
            at = clock.now() - days * DAY
            await message(world, Purpose.TRANSACTIONAL, at)
        await do(world, prune.drop_old_days, clock.now())
        assert len(await world.database.fetch("SELECT 1 FROM message")) == 1
        await keep(world, Kept.MESSAGES, 153)
        await do(world, prune.drop_old_days, clock.now())
        assert await world.database.fetch("SELECT 1 FROM message") == []


def said(
    world: World, *, given: bool, at: datetime, scope: str = "promotional", number: str = NUMBER
) -> Said:
    return Said(
        tenant_id=TenantId(world.tenant_id), phone_index=world.vault.phone_index(number), given=given, scope=scope,
        source="form", at=at, proof=Proof(number=number),
    )  # fmt: skip


async def test_a_consent_is_kept_while_it_stands_and_three_years_beyond(database: str) -> None:
    async with make.world(database) as world:
        start = datetime(2020, 1, 1, tzinfo=UTC)
        async with world.database.transaction() as tx:
            words = [
                said(world, given=True, at=start),
                said(world, given=True, at=start, scope="news"),
                said(world, given=False, at=start + 10 * DAY),
                said(world, given=True, at=start + 2_000 * DAY),
                said(world, given=True, at=start, number="+8613900139000"),
            ]
            await consent.append(tx, world.vault, words)
        years = RULES[Kept.CONSENTS].days * DAY
        assert await do(world, prune.delete_consents, start + 10 * DAY + years) == 0
        assert await do(world, prune.delete_consents, start + 10 * DAY + years + HOUR) == 1
        rows = await world.database.fetch("SELECT scope, given FROM consent ORDER BY id")
        assert [tuple(row) for row in rows] == [("news", True), ("promotional", True), ("promotional", True)]


async def test_a_withdrawal_stays_while_an_older_consent_would_count_again_without_it(database: str) -> None:
    async with make.world(database) as world:
        start = datetime(2020, 1, 1, tzinfo=UTC)
        index = world.vault.phone_index(NUMBER)
        async with world.database.transaction() as tx:
            words = [
                said(world, given=True, at=start, scope=consent.ALL),
                said(world, given=False, at=start + DAY),
            ]
            await consent.append(tx, world.vault, words)
        assert await do(world, prune.delete_consents, start + 9_000 * DAY) == 0
        async with world.database.transaction() as tx:
            assert await consent.lacking(tx, world.tenant_id, [index]) == {index}
            await consent.append(tx, world.vault, [said(world, given=False, at=start + 2 * DAY, scope="*")])
        await do(world, prune.delete_consents, start + 9_000 * DAY)
        assert await world.database.fetch("SELECT FROM consent") == []


async def test_a_word_of_the_same_moment_that_came_later_is_not_forgotten(database: str) -> None:
    async with make.world(database) as world:
        start = datetime(2020, 1, 1, tzinfo=UTC)
        async with world.database.transaction() as tx:
            words = [said(world, given=given, at=start) for given in (False, True)]
            await consent.append(tx, world.vault, words)
        await do(world, prune.delete_consents, start + 9_000 * DAY)
        assert len(await world.database.fetch("SELECT FROM consent WHERE given")) == 1


async def test_a_complaint_is_kept_three_years_after_its_closing_and_an_open_one_for_ever(
    database: str,
) -> None:
    async with make.world(database) as world:
        start = datetime(2020, 1, 1, tzinfo=UTC)
        for closed in (start, None):
            await world.database.execute(
                "INSERT INTO complaint (tenant_id, phone_index, source, received_at, due_at, closed_at)"
                " VALUES (1, '', 'person', $1, $1, $2)",
                start, closed,
            )  # fmt: skip
        years = RULES[Kept.COMPLAINTS].days * DAY
        assert await do(world, prune.delete_complaints, start + years) == 0
        assert await do(world, prune.delete_complaints, start + years + HOUR) == 1
        assert await do(world, prune.delete_complaints, start + 9 * years) == 0
        assert len(await world.database.fetch("SELECT 1 FROM complaint")) == 1


def test_every_class_has_a_default_within_its_bounds() -> None:
    for kept in Kept:
        rule = RULES[kept]
        assert rule.floor <= (rule.days or SETTINGS.message_keep_days) <= rule.ceiling, kept
