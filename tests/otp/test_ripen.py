"""What time does to verifications: they expire to the second, are counted once, lose their codes, and are forgotten."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import pytest

import make
from hongyan import clock
from hongyan.otp import funnel, limits, policies, ripen
from hongyan.otp.funnel import Question, Step
from hongyan.otp.policies import Proposal
from hongyan.otp.policy import Policy
from hongyan.otp.wish import Kept
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, Purpose, Status
from hongyan.vocab.verification import Level, Scene, State
from hongyan.way import redact
from hongyan.way.redact import STARS, Coded
from make import World
from otp.asking import asking

CODE: Final = "493817"
TEXT: Final = f"【鸿雁】您的验证码为{CODE}，5分钟内有效"


# ---- 6. codes expire at T+300 s ± 1 s by server clock; no setting allows more than 600 s


async def test_codes_expire_at_300_seconds_by_the_servers_clock(database: str) -> None:
    async with asking(database) as one:
        early, late = await one.start(), await one.start("+8613800138001")
        asked_s = one.clock.now_s
        codes = [await one.code(started.id) for started in (early, late)]
        one.clock.now_s = asked_s + 299
        assert await one.ripen(ripen.expire) == [0]
        assert (await one.check(early.id, codes[0])).valid
        one.clock.now_s = asked_s + 301
        checked = await one.check(late.id, codes[1])
        assert (checked.valid, checked.reason) == (False, "expired")


async def test_what_has_expired_is_ended_and_its_code_erased_within_a_second(database: str) -> None:
    async with asking(database) as one:
        started = await one.start()
        one.clock.now_s += 300
        assert await one.ripen(ripen.expire) == [1]
        row = await one.row(started.id)
        assert (row["state"], row["code"], row["mac"]) == (State.EXPIRED.number, None, None)
        assert row["ended_at"] == row["expires_at"]
        assert ripen.GAP_S <= 1


async def test_no_setting_allows_more_than_600_seconds(database: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"validity_s": 601}, Policy)
    async with asking(database) as one:
        async with one.database.transaction() as tx:
            with pytest.raises(Refusal) as refused:
                await policies.put(tx, one.world.tenant_id, None, Proposal(validity_s=601), who="user:1")
        assert refused.value.code is Code.VERIFY_CARELESS
        await one.database.execute("UPDATE verify_policy SET policy = $1", '{"validity_s": 3600}')
        await one.book.load()
        started = await one.start()
        assert (started.expires_at.timestamp() - one.clock.now_s) <= 600


# ---- counted once

LAY_SQL: Final = """
INSERT INTO verification (tenant_id, id, app_id, scene, state, medium, sandbox, phone_index, sealed, pepper, guess_space, tries,
                          tries_max, country, operator, province, prefix, level, message_ids, created_at, expires_at,
                          resend_at, ended_at)
VALUES ($1, $2, $3, $4, $5, 'sms', false, $6, $7, 1, 1e6, $8, 5, 'CN', 'cmcc', 'CN-BJ', '+861380013', $9, $10, $11::timestamptz,
        $11::timestamptz + interval '5 minutes', $11::timestamptz + interval '1 minute', $12)
"""
KEPT: Final = Kept(make.NUMBER, "", "T1", "", {}, "code", "", "", "", last_line=False)


async def lay(
    world: World,
    *,
    state: State = State.EXPIRED,
    scene: Scene = Scene.LOGIN,
    tries: int = 0,
    level: Level = Level.NOTHING,
    messages: Sequence[uuid.UUID] | None = None,
    asked: datetime | None = None,
    ended_after_s: float | None = 20.0,
) -> uuid.UUID:
    """Lay a verification as issue and check would have left it."""
    verification, asked = make.message_id(asked), asked or clock.now() - timedelta(minutes=2)
    ended = None if ended_after_s is None else asked + timedelta(seconds=ended_after_s)
    sealed = world.vault.seal(world.tenant_id, msgspec.msgpack.encode(KEPT))
    await world.database.execute(
        LAY_SQL, world.tenant_id, verification, world.app_id, scene.number, state.number,
        world.vault.phone_index(make.NUMBER), sealed, tries, level, list(messages or []), asked, ended,
    )  # fmt: skip
    return verification


async def counted(world: World) -> dict[str, int]:
    rows = await world.database.fetch("SELECT step, sum(count)::int AS count FROM funnel GROUP BY step")
    return {Step(row["step"]).name.lower(): row["count"] for row in rows}


async def count(world: World) -> int:
    async with world.database.transaction() as tx:
        return await ripen.count(tx, world.vault, clock.now_s())


async def test_what_has_ended_is_counted_once_by_however_many_clerks(database: str) -> None:
    async with make.world(database) as world:
        for place in range(60):
            await lay(world, state=State.APPROVED if place % 3 else State.EXPIRED, tries=1)

        async def clerk() -> int:
            rows = 0
            while taken := await count(world):
                rows += taken
            return rows

        assert sum(await asyncio.gather(*(clerk() for _ in range(4)))) == 60
        assert await counted(world) == {
            "requested": 60, "accepted": 40, "delivered": 40, "checked": 60, "done": 40
        }  # fmt: skip
        assert await world.database.fetch("SELECT 1 FROM verification WHERE NOT counted") == []


async def test_what_fails_to_be_counted_is_not_half_counted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError

    async with make.world(database) as world:
        await lay(world)
        with monkeypatch.context() as patched:
            patched.setattr(funnel, "add", broken)
            with pytest.raises(RuntimeError):
                await count(world)
        assert await world.database.fetch("SELECT 1 FROM verification WHERE counted") == []
        assert await count(world) == 1
        assert await counted(world) == {"requested": 1}


async def test_one_that_cannot_be_counted_holds_up_nobody(database: str) -> None:
    async with make.world(database) as world:
        ids = [await lay(world) for _ in range(5)]
        await world.database.execute("UPDATE verification SET app_id = 7 WHERE id = $1", ids[2])
        await world.database.execute("ALTER TABLE funnel ADD CHECK (app_id <> 7)")
        assert await count(world) == 5
        assert await counted(world) == {"requested": 4}
        assert await count(world) == 0


async def test_the_funnel_tells_steps_and_times_by_what_is_asked(database: str) -> None:
    async with make.world(database) as world:
        asked = clock.now() - timedelta(minutes=3)
        async with world.database.transaction() as tx:
            columns: dict[str, Any] = {"at": asked, "purpose": Purpose.OTP, "channel_id": world.channel_id}
            arrived = await make.message(tx, world, status=Status.DELIVERED, **columns)
            lost = await make.message(tx, world, status=Status.UNDELIVERED, **columns)
            await funnel.opened(tx, {(world.tenant_id, world.app_id, Scene.LOGIN): 5}, asked.timestamp())
        await lay(world, state=State.APPROVED, tries=2, level=Level.WORK, messages=[arrived], asked=asked)
        await lay(world, state=State.EXPIRED, messages=[lost], asked=asked)
        await lay(world, state=State.FAILED, messages=[make.message_id()], asked=asked)
        await lay(world, state=State.EXPIRED, scene=Scene.RESET, messages=[lost], asked=asked)
        await count(world)
        snapshot = await make.snapshot(world)
        question = Question(
            by=funnel.FunnelBy.NONE, groups=(funnel.FunnelGroup.SCENE,), scenes=(Scene.LOGIN,)
        )
        async with world.database.transaction() as tx:
            table = await funnel.read(tx, snapshot, world.tenant_id, question)
            by_channel = await funnel.read(
                tx, snapshot, None, Question(by=funnel.FunnelBy.NONE, groups=(funnel.FunnelGroup.CHANNEL,))
            )
        (row,) = table.rows
        assert (row.opened, row.requested, row.challenged, row.accepted) == (5, 3, 1, 2)
        assert (row.delivered, row.checked, row.done, row.conversion) == (1, 1, 1, 0.5)
        assert (row.lost_before_requested, row.lost_before_delivered) == (0.4, 0.5)
        assert row.done_after.mean_s == pytest.approx(20, abs=0.1)
        assert 12 <= (row.done_after.p50_s or 0) <= 30
        assert row.delivered_after.mean_s == pytest.approx(2, abs=0.1)
        names = {each.channel: each.accepted for each in by_channel.rows}
        assert names[""] == 0
        assert sorted(names.values()) == [0, 3]


def test_times_are_read_from_buckets_as_exactly_as_they_are() -> None:
    seconds = [0.5, 4.0, 4.0, 6.0, 25.0, 400.0]
    buckets = [0] * (len(funnel.BOUNDS_S) + 1)
    for each in seconds:
        buckets[funnel.bucket_of(each)] += 1
    told = funnel.times(buckets, sum(seconds))
    assert told.mean_s == round(sum(seconds) / 6, 2)
    assert 3 <= (told.p50_s or 0) <= 5
    assert told.p95_s == 300
    assert funnel.times([0] * 15, 0.0) == funnel.Times(None, None, None)


# ---- texts lose their codes


async def plain(world: World, message_id: uuid.UUID) -> list[Any]:
    (row,) = await world.database.fetch("SELECT sealed FROM message WHERE id = $1", message_id)
    return list(msgspec.msgpack.decode(world.vault.unseal(world.tenant_id, row["sealed"])))


async def coded(world: World, **columns: Any) -> MessageId:
    """A message with a code."""
    async with world.database.transaction() as tx:
        given = {"text": TEXT, "params": {"code": CODE, "minutes": "5"}, "purpose": Purpose.OTP} | columns
        return await make.message(tx, world, **given)


async def take(world: World, *ids: uuid.UUID, later_s: float = 0.0) -> list[uuid.UUID]:
    now = clock.now() + timedelta(seconds=later_s)
    async with world.database.transaction() as tx:
        left = await redact.redact(tx, world.vault, [Coded(world.tenant_id, each) for each in ids], now)
    return [one.message_id for one in left]


HIDDEN: Final = [make.NUMBER, TEXT.replace(CODE, STARS), {"code": STARS, "minutes": "5"}]


async def test_the_text_of_an_ended_verification_loses_its_code(database: str) -> None:
    async with make.world(database) as world:
        message_id = await coded(world, status=Status.DELIVERED)
        await lay(world, state=State.APPROVED, messages=[message_id])
        await count(world)
        async with world.database.transaction() as tx:
            assert await ripen.take_codes(tx, world.vault, clock.now_s()) == 1
        assert await plain(world, message_id) == HIDDEN
        assert await world.database.fetch("SELECT 1 FROM code_text") == []


async def test_what_may_still_leave_keeps_its_code(database: str) -> None:
    """A row of the outbox means that somebody will send it; and a report may put one back for another channel."""
    async with make.world(database) as world:
        waiting = await coded(world, expires_at=clock.now() + timedelta(minutes=5))
        taken = await coded(world, expires_at=clock.now() + timedelta(minutes=5))
        async with world.database.transaction() as tx:
            await make.outbox(tx, world, waiting)
            await make.submitted(tx, world, taken)
        assert set(await take(world, waiting, taken)) == {waiting, taken}
        assert (await plain(world, waiting))[1] == (await plain(world, taken))[1] == TEXT
        assert await take(world, waiting, taken, later_s=400) == [waiting]
        assert await plain(world, taken) == HIDDEN
        await world.database.execute("DELETE FROM outbox")
        assert await take(world, waiting, later_s=400) == []
        assert await plain(world, waiting) == HIDDEN


async def test_a_text_that_does_not_say_which_its_code_is_loses_all_its_words(database: str) -> None:
    async with make.world(database) as world:
        free = await coded(world, params={}, status=Status.DELIVERED)
        odd = await coded(world, params={"code": "other"}, status=Status.DELIVERED)
        assert await take(world, free, odd) == []
        assert await plain(world, free) == await plain(world, odd) == [make.NUMBER, None, None]


async def test_a_code_by_another_name_and_in_the_last_line_goes_as_well(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            template_id = await make.template(
                tx, tenant_id=world.tenant_id, purpose=Purpose.OTP, variables='{"pin": {"kind": "code"}}'
            )
        text = f"Your code is {CODE}, you pay 1{CODE}.00\n\n@example.com #{CODE}"
        params = {"pin": CODE, "link": f"https://example.com/?c={CODE}"}
        message_id = await coded(
            world, text=text, params=params, template_id=template_id, status=Status.DELIVERED
        )
        assert await take(world, message_id) == []
        number, starred, hidden = await plain(world, message_id)
        assert number == make.NUMBER
        assert starred == f"Your code is {STARS}, you pay 1{CODE}.00\n\n@example.com #{STARS}"
        assert hidden == {"pin": STARS, "link": f"https://example.com/?c={STARS}"}


async def test_taking_codes_twice_is_taking_them_once(database: str) -> None:
    async with make.world(database) as world:
        message_id = await coded(world, status=Status.DELIVERED)
        await take(world, message_id)
        assert await take(world, message_id) == []
        assert await plain(world, message_id) == HIDDEN


async def test_what_was_erased_stays_so_and_what_is_not_there_is_waited_for_briefly(database: str) -> None:
    async with make.world(database) as world:
        erased = await coded(world, status=Status.DELIVERED, sealed=None)
        offered = make.message_id()
        old = make.message_id(clock.now() - timedelta(minutes=5))
        assert await take(world, erased, offered, old) == [offered]
        (row,) = await world.database.fetch("SELECT sealed FROM message WHERE id = $1", erased)
        assert row["sealed"] is None


def test_a_text_that_is_still_to_leave_is_looked_at_ever_more_rarely() -> None:
    waits = [ripen.wait_s(looks) for looks in range(9)]
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == ripen.LOOK_S_MAX


# ---- the loop


async def test_the_clerk_does_all_of_it_by_itself(database: str) -> None:
    async with make.world(database) as world, asyncio.TaskGroup() as group:
        message_id = await coded(world, status=Status.DELIVERED)
        over = await lay(world, state=State.PENDING, messages=[message_id], ended_after_s=None,
                         asked=clock.now() - timedelta(minutes=6))  # fmt: skip
        clerk = group.create_task(ripen.run(world.database, world.vault))
        async with asyncio.timeout(20):
            while await plain(world, message_id) != HIDDEN:
                await asyncio.sleep(0.02)
        clerk.cancel()
        (row,) = await world.database.fetch("SELECT state, counted FROM verification WHERE id = $1", over)
        assert (row["state"], row["counted"]) == (State.EXPIRED.number, True)


async def test_a_duty_that_fails_does_not_stop_the_others(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(funnel, "add", broken)
    async with make.world(database) as world, asyncio.TaskGroup() as group:
        await lay(world)  # cannot be counted
        over = await lay(
            world, state=State.PENDING, ended_after_s=None, asked=clock.now() - timedelta(minutes=6)
        )
        clerk = group.create_task(ripen.run(world.database, world.vault))
        async with asyncio.timeout(20):
            while await world.database.fetch("SELECT 1 FROM verification WHERE id = $1 AND state = 0", over):
                await asyncio.sleep(0.02)
        assert not clerk.done()
        clerk.cancel()


# ---- forgotten


async def test_verifications_are_forgotten_after_180_days_and_not_before(database: str) -> None:
    async with make.world(database) as world:
        now = clock.now()
        old = await lay(world, asked=now - timedelta(days=181))
        young = await lay(world, asked=now - timedelta(days=179))
        await count(world)
        async with world.database.transaction() as tx:
            assert await ripen.forget(tx, world.vault, now.timestamp()) == 1
        left = [row["id"] for row in await world.database.fetch("SELECT id FROM verification")]
        assert (left, old in left) == ([young], False)


async def test_limits_are_forgotten_once_nothing_looks_back_to_them(database: str) -> None:
    async with make.world(database) as world:
        now_s = clock.now_s()
        async with world.database.transaction() as tx:
            for name, days in ((b"idle", 32), (b"lately", 30)):
                held = await limits.Held.lock(tx, [name], [], now_s - days * 86_400)
                held[name].hit(now_s - days * 86_400)
                await held.store(tx, now_s - days * 86_400)
            assert await ripen.forget_limits(tx, world.vault, now_s) == 1
            assert [row["key"] for row in await tx.fetch("SELECT key FROM otp_limit")] == [b"lately"]
