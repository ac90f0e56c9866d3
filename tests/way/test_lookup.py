"""What became of a message can be told, and found again without reading the whole table."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

import make
from hongyan import db
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, Purpose, Status, TenantId, first_id_at
from hongyan.way import lookup
from hongyan.way.lookup import Page, Question, Story

NOW = datetime.now(UTC)
MS = int(NOW.timestamp() * 1000)


async def tell(world: make.World, message_id: uuid.UUID, tenant_id: TenantId | None = None) -> Story | None:
    snapshot = await make.snapshot(world)
    async with world.database.transaction() as tx:
        return await lookup.one(tx, snapshot, world.vault, tenant_id or world.tenant_id, message_id)


async def story(world: make.World, message_id: uuid.UUID) -> Story:
    told = await tell(world, message_id)
    assert told is not None
    return told


async def test_a_delivered_message_is_told_whole(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            guard = await make.decision(tx, {"passed": ["number"]})
            route = await make.decision(tx, {"route": {"channel": "east"}})
            attempt = [1, 1, world.channel_id, "0A1b", MS, MS + 10, MS + 900, 1, 0, "DELIVRD", route]
            message_id = await make.message(
                tx,
                world,
                status=Status.DELIVERED,
                params={"place": "南门", "count": 3},
                reference="order 7",
                attempts=[attempt],
                decision=guard,
                code="DELIVRD",
                channel_id=world.channel_id,
            )
        snapshot = await make.snapshot(world)
        told = await story(world, message_id)
        assert (told.id, told.number, told.text) == (message_id, make.NUMBER, "【鸿雁】您的快递已到南门")
        assert (told.params, told.reference) == ({"place": "南门", "count": 3}, "order 7")
        assert (told.status, told.cause, told.upstream_code) == (Status.DELIVERED, Cause.NONE, "DELIVRD")
        assert told.signature == snapshot.signatures[world.signature_id].name
        assert told.template == snapshot.templates[world.template_id].code
        assert (told.price_micro, told.refund_micro, told.currency) == (45_000, 0, "CNY")
        (once,) = told.attempts
        assert once.channel == told.channel == snapshot.channels[world.channel_id].name
        assert (once.upstream_id, once.upstream_code, once.unsure) == ("0A1b", "DELIVRD", False)
        assert once.sent_at < (once.acked_at or NOW) < (once.reported_at or NOW)
        assert [(part.part_index, part.status) for part in told.parts] == [(1, Status.DELIVERED)]
        read = json.loads(msgspec.json.encode(told))
        assert read["decision"] == {"passed": ["number"]}
        assert read["attempts"][0]["decision"] == {"route": {"channel": "east"}}


async def test_an_open_message_is_accepted_while_it_waits_and_submitted_after(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            waiting = await make.message(tx, world)
            await make.outbox(tx, world, waiting)
            gone = await make.message(tx, world, parts=2)
            await make.submitted(tx, world, gone, part_index=1)
            await make.submitted(
                tx, world, gone, part_index=2, state=1, upstream_id="unsure:1", acked_at=None
            )
        assert (await story(world, waiting)).status is Status.ACCEPTED
        told = await story(world, gone)
        assert told.status is Status.SUBMITTED
        assert [part.status for part in told.parts] == [Status.SUBMITTED, Status.SUBMITTED]
        assert [each.unsure for each in told.attempts] == [False, True]
        assert told.attempts[1].upstream_id == ""


async def test_a_message_that_waits_for_its_second_channel_stays_submitted(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            failed = [1, 1, world.channel_id, "a", MS, MS, MS, 4, 10, "NOROUTE", 0]
            message_id = await make.message(tx, world, attempts=[failed], attempt=2, cause=Cause.NO_ROUTE)
            await make.outbox(tx, world, message_id, attempt=2, avoid_channel=world.channel_id)
        told = await story(world, message_id)
        assert told.status is Status.SUBMITTED
        assert told.attempts[0].status is Status.UNDELIVERED
        assert [(part.status, part.upstream_code) for part in told.parts] == [(Status.SUBMITTED, "NOROUTE")]


async def test_the_last_attempt_of_a_part_decides(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            failed = [1, 1, world.channel_id, "a", MS, MS, MS, 4, 10, "NOROUTE", 0]
            arrived = [2, 1, world.channel_id, "b", MS, MS, MS, 1, 0, "DELIVRD", 0]
            message_id = await make.message(tx, world, status=Status.DELIVERED, attempts=[arrived, failed])
        told = await story(world, message_id)
        assert [each.attempt for each in told.attempts] == [1, 2]
        assert told.parts[0].status is Status.DELIVERED


async def test_a_part_given_up_is_unknown_and_one_that_never_left_shares_the_message_s_fate(
    database: str,
) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            lost = await make.message(tx, world, status=Status.UNKNOWN, cause=Cause.NO_REPORT)
            await make.submitted(tx, world, lost, state=2)
            never = await make.message(tx, world, status=Status.EXPIRED, cause=Cause.NOT_SENT, parts=2)
        assert (await story(world, lost)).parts[0].cause is Cause.NO_REPORT
        assert {part.status for part in (await story(world, never)).parts} == {Status.EXPIRED}


async def test_an_erased_person_is_not_told(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world, sealed=None)
        told = await story(world, message_id)
        assert (told.number, told.text, told.params) == (None, None, None)


@pytest.mark.parametrize(("sandbox", "shown"), [(False, "******"), (True, "493817")])
async def test_a_code_is_for_its_person_alone_and_in_the_sandbox_for_everybody(
    database: str, *, sandbox: bool, shown: str
) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            template_id = await make.template(
                tx, tenant_id=world.tenant_id, body="验证码${c}", variables='{"c": {"kind": "code"}}'
            )
            message_id = await make.message(
                tx,
                world,
                text="【鸿雁】验证码493817",
                params={"c": "493817"},
                template_id=template_id,
                sandbox=sandbox,
            )
        told = await story(world, message_id)
        assert (told.text, told.params) == (f"【鸿雁】验证码{shown}", {"c": shown})
        (found,) = (await ask(world, number=make.NUMBER)).items
        assert found.text == told.text


async def test_nobody_is_told_of_another_tenant_s_message(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            message_id = await make.message(tx, world)
            other = await make.tenant(tx, world.vault)
        assert await tell(world, message_id, other) is None
        assert await tell(world, uuid.uuid4()) is None


# ---- many


async def ask(world: make.World, **question: object) -> Page:
    snapshot = await make.snapshot(world)
    async with world.database.transaction() as tx:
        asked = Question(**question)  # type: ignore[arg-type]
        return await lookup.search(tx, snapshot, world.vault, world.tenant_id, asked)


async def test_pages_follow_one_another_without_gap_or_double(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            made = [await make.message(tx, world, at=NOW - timedelta(minutes=n)) for n in range(7)]
        seen: list[MessageId] = []
        cursor: str | None = None
        for _ in range(3):
            page = await ask(world, limit=3, cursor=cursor)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
        assert seen == made
        assert cursor is None


async def test_what_is_asked_for_is_found(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            promo = await make.template(
                tx, tenant_id=world.tenant_id, purpose=Purpose.PROMOTIONAL, code="SALE"
            )
            other = await make.message(tx, world, number="+8613900139000", reference="order 7")
            sale = await make.message(tx, world, template_id=promo, purpose=Purpose.PROMOTIONAL)
            failed = await make.message(tx, world, status=Status.UNDELIVERED, reference="order 7")
            gone = await make.message(tx, world, reference="order 8")
            old = await make.message(tx, world, at=NOW - timedelta(days=20))
            for waiting in (other, sale):
                await make.outbox(tx, world, waiting)
            await make.submitted(tx, world, gone)

        async def ids(**question: object) -> set[uuid.UUID]:
            return {item.id for item in (await ask(world, **question)).items}

        assert await ids() == {other, sale, failed, gone}
        assert await ids(number="+8613900139000") == {other}
        assert await ids(reference="order 7") == {other, failed}
        assert await ids(number=make.NUMBER, reference="order 7") == {failed}
        assert await ids(number=make.NUMBER) == {sale, failed, gone, old}
        assert await ids(status=Status.UNDELIVERED) == {failed}
        assert await ids(status=Status.ACCEPTED) == {other, sale}
        assert await ids(status=Status.SUBMITTED) == {gone}
        assert await ids(purpose=Purpose.PROMOTIONAL) == {sale}
        assert await ids(template="SALE") == {sale}
        assert await ids(template="no such") == set()
        assert await ids(created_from=NOW - timedelta(days=21), created_to=NOW - timedelta(days=19)) == {old}


async def test_a_search_finds_only_the_tenant_s_own(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await make.message(tx, world, tenant_id=other, reference="theirs")
        for question in ({}, {"number": make.NUMBER}, {"reference": "theirs"}):
            assert (await ask(world, **question)).items == []


@pytest.mark.parametrize(
    "question",
    [
        {"cursor": "not one"},
        {"cursor": "AAAA"},
        {"limit": 0},
        {"limit": 201},
        {"created_from": NOW, "created_to": NOW - timedelta(days=1)},
        {"created_from": NOW - timedelta(days=90)},
        {"created_from": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is what is wrong
    ],
)
async def test_a_senseless_question_is_refused(database: str, question: dict[str, object]) -> None:
    async with make.world(database) as world:
        with pytest.raises(Refusal) as refused:
            await ask(world, **question)
        assert refused.value.code is Code.REQUEST_INVALID_PARAMETER


CROWD_SQL = """
INSERT INTO message (tenant_id, id, app_id, status, purpose, part_count, pending, price_micro, accepted_at,
                     due_at, expires_at, phone_index, country, operator, province, reference)
SELECT 1 + n % 3,
       (lpad(to_hex($1::bigint - n * 5000), 12, '0') || '700080000000' || lpad(to_hex(n), 8, '0'))::uuid,
       1, 1, 1, 1, 0, 0, now(), now(), now(),
       decode(md5((n % 5000)::text), 'hex'), 'CN', '', '', 'ref ' || n % 9000
  FROM generate_series(1, 100000) AS n
"""


async def nodes(tx: db.Tx, sql: str, *values: object) -> tuple[int, set[str]]:
    """How many rows the plan touched, and by which kinds of scan."""
    (row,) = await tx.fetch("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, *values)
    touched, kinds = 0, set()
    waiting = [json.loads(row[0])[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if "Scan" in node["Node Type"]:
            kinds.add(node["Node Type"])
            touched += round(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            )
    return touched, kinds


async def test_a_page_touches_few_of_many_rows(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await tx.execute(CROWD_SQL, MS)
        await tx.execute("ANALYZE message")
        phone_index = await tx.fetchval("SELECT phone_index FROM message WHERE tenant_id = 1 LIMIT 1")
        lately = first_id_at(NOW.timestamp() - 7 * 86_400)
        values = (1, lookup.LAST_ID, lately, None, None, None, None, 51, None, None, None)
        by_time = await nodes(tx, lookup.BY_TIME_SQL, *values)
        by_number = await nodes(tx, lookup.BY_NUMBER_SQL, *values, phone_index, None)
        by_reference = await nodes(tx, lookup.BY_REFERENCE_SQL, *values, "ref 7")
        for touched, kinds in (by_time, by_number, by_reference):
            assert touched < 1_000, (touched, kinds)
            assert "Seq Scan" not in kinds


# ---- what people texted back


async def test_inbound_is_paged_for_its_tenant_only(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        made = [await make.inbound(tx, world, text=f"第 {n} 条") for n in range(3)]
        await make.inbound(tx, world, tenant_id=0)
        page = await lookup.inbound(tx, world.vault, world.tenant_id, limit=2)
        assert [(item.id, item.text, item.number) for item in page.items] == [
            (made[2], "第 2 条", make.NUMBER),
            (made[1], "第 1 条", make.NUMBER),
        ]
        rest = await lookup.inbound(tx, world.vault, world.tenant_id, page.next_cursor)
        assert [item.id for item in rest.items] == [made[0]]
        assert rest.next_cursor is None
