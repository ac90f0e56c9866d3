"""The audit only grows; whatever is changed, taken out or cut off behind its back is found, and where."""

import asyncio
from datetime import timedelta
from typing import Any, Final, LiteralString

import asyncpg
import pytest

from hongyan import clock, db
from hongyan.control import audit
from hongyan.control.audit import Fault
from hongyan.vocab.message import TenantId

from .conftest import Office

COLUMNS: Final = (
    "seq",
    "at",
    "actor",
    "action",
    "subject",
    "tenant_id",
    "address",
    "request_id",
    "detail",
    "hash",
)


async def record(office: Office, **columns: Any) -> None:
    values: dict[str, Any] = {
        "actor": "user:1 a@example.com",
        "action": "createWidget",
        "subject": "widget:1",
        "tenant_id": office.tenant_id,
        "address": "192.0.2.1",
        "request_id": "r1",
        "detail": {"name": "a"},
    }
    async with office.database.transaction() as tx:
        await audit.record(tx, **values | columns)


async def tamper(office: Office, statement: LiteralString, *values: Any) -> None:
    """What somebody can do who owns the database."""
    async with office.database.transaction() as tx:
        await tx.execute("ALTER TABLE audit DISABLE TRIGGER ALL")
        await tx.execute("ALTER TABLE audit_head DISABLE TRIGGER ALL")
        await tx.execute(statement, *values)
        await tx.execute("ALTER TABLE audit ENABLE TRIGGER ALL")
        await tx.execute("ALTER TABLE audit_head ENABLE TRIGGER ALL")


async def listed(office: Office, **asked: Any) -> list[audit.AuditRow]:
    async with office.database.transaction() as tx:
        return list((await audit.listed(tx, audit.Filter(**asked))).rows)


async def head(office: Office) -> audit.Head:
    async with office.database.transaction() as tx:
        return await audit.head(tx)


async def test_what_was_recorded_is_listed_newest_first(office: Office) -> None:
    await record(office)
    await record(office, actor="cli:root", action="users add", subject="user:2", tenant_id=None, detail={})
    newest, oldest = await listed(office)
    assert (newest.seq, newest.actor, newest.tenant_id, newest.detail) == (2, "cli:root", None, {})
    assert (oldest.seq, oldest.action, oldest.detail) == (1, "createWidget", {"name": "a"})


async def test_an_empty_audit_and_one_of_several_batches_hold(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await audit.verify(office.database)).fault is None
    monkeypatch.setattr(audit, "BATCH", 3)
    for _ in range(7):
        await record(office)
    assert await audit.verify(office.database) == audit.Verdict(7, str(await head(office)))


async def test_filters_are_all_asked(office: Office) -> None:
    for number in range(3):
        await record(office, subject=f"widget:{number}", request_id=str(number))
    await record(office, tenant_id=None, action="other", actor="key:hy_a")
    assert [row.seq for row in await listed(office, tenant_id=office.tenant_id)] == [3, 2, 1]
    assert [row.seq for row in await listed(office, tenant_id=office.tenant_id, subject="widget:1")] == [2]
    assert [row.seq for row in await listed(office, actor="key:hy_a")] == [4]
    assert [row.seq for row in await listed(office, action="createWidget", before=3)] == [2, 1]
    assert await listed(office, tenant_id=TenantId(999)) == []
    now = clock.now()
    assert await listed(office, since=now) == []
    assert len(await listed(office, since=now - timedelta(hours=1), until=now)) == 4


async def test_a_look_at_the_audit_ends_and_the_next_one_goes_on_behind_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LOOKED_AT_MAX", 3)
    await record(office, action="rare")
    for _ in range(7):
        await record(office)
    asked, pages = audit.Filter(tenant_id=office.tenant_id, action="rare"), []
    async with office.database.transaction() as tx:
        while True:
            found = await audit.listed(tx, asked, 2)
            pages.append(([row.seq for row in found.rows], found.before))
            if found.before is None:
                break
            asked = audit.Filter(tenant_id=office.tenant_id, action="rare", before=found.before)
    assert pages == [([], 6), ([], 3), ([1], None)]


# Rows of the audit that this transaction has fetched so far.
TOUCHED_SQL: Final[LiteralString] = """
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'audit'
"""
PILE_SQL: Final[LiteralString] = """
INSERT INTO audit (seq, at, actor, action, subject, tenant_id, address, request_id, detail, hash)
SELECT n, now(), 'user:' || n % 50, 'action' || n % 20, 'subject:' || n, n % 9, '', '', '{}', sha256(n::text::bytea)
  FROM generate_series(1, 20000) n
"""


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"actor": "user:nobody"},
        {"action": "rare"},
        {"actor": "user:1", "action": "rare"},
        {"tenant_id": TenantId(1), "actor": "user:nobody", "action": "rare"},
        {"tenant_id": TenantId(1), "action": "rare"},
        {"until": clock.now() - timedelta(days=3650)},
    ],
)
async def test_no_question_reads_more_of_a_long_audit_than_one_look_may(
    office: Office, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(audit, "LOOKED_AT_MAX", 500)
    await office.database.execute(PILE_SQL)
    connection = await office.database.own_connection()
    try:
        async with connection.transaction():
            before = await connection.fetchval(TOUCHED_SQL)
            await audit.listed(connection, audit.Filter(**asked), 100)
            touched = await connection.fetchval(TOUCHED_SQL) - before
    finally:
        await connection.close()
    assert (100 if not asked else 0) <= touched <= 500 + 100 * 2 + 10


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit", "DELETE FROM audit_head", "TRUNCATE audit_head",
     "UPDATE audit_head SET seq = 0", "UPDATE audit_head SET hash = ''"],
)  # fmt: skip
async def test_the_audit_is_append_only(office: Office, statement: LiteralString) -> None:
    await record(office)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await office.database.execute(statement)
    assert (await audit.verify(office.database)).fault is None


async def test_an_altered_octet_of_any_column_of_any_record_is_found(office: Office) -> None:
    for number in range(3):
        await record(office, request_id=str(number))
    rows = await office.database.fetch(
        "SELECT seq, at, actor, action, subject, tenant_id, address, request_id, detail, hash FROM audit ORDER BY seq"
    )
    for row in rows:
        for column in COLUMNS:
            await tamper(
                office, f"UPDATE audit SET {column} = $2 WHERE seq = $1", row["seq"], _altered(row[column])
            )
            verdict = await audit.verify(office.database)
            assert verdict.fault is not None, column
            assert verdict.at_seq == row["seq"], column
            current = row["seq"] if column != "seq" else _altered(row["seq"])
            await tamper(office, f"UPDATE audit SET {column} = $2 WHERE seq = $1", current, row[column])
    assert (await audit.verify(office.database)).fault is None


def _altered(value: Any) -> Any:
    if isinstance(value, int):
        return value + 100
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return value + timedelta(microseconds=1)


async def test_a_tenant_taken_off_a_record_is_found(office: Office) -> None:
    await record(office)
    await tamper(office, "UPDATE audit SET tenant_id = NULL")
    assert (await audit.verify(office.database)).fault is Fault.CHANGED


@pytest.mark.parametrize(
    ("statement", "fault", "at_seq"),
    [
        ("DELETE FROM audit WHERE seq = 2", Fault.MISSING, 2),
        ("DELETE FROM audit WHERE seq = 1", Fault.MISSING, 1),
        ("DELETE FROM audit WHERE seq >= 3", Fault.CUT_OFF, 3),
        ("DELETE FROM audit", Fault.CUT_OFF, 1),
        ("DELETE FROM audit_head", Fault.CUT_OFF, 0),
        ("UPDATE audit_head SET hash = repeat('x', 32)::bytea", Fault.CHANGED, 4),
        ("UPDATE audit_head SET seq = 3, hash = (SELECT hash FROM audit WHERE seq = 3)", Fault.UNKNOWN, 4),
    ],
)
async def test_what_is_taken_out_or_cut_off_is_found(
    office: Office, statement: LiteralString, fault: Fault, at_seq: int
) -> None:
    for _ in range(4):
        await record(office)
    await tamper(office, statement)
    verdict = await audit.verify(office.database)
    assert (verdict.fault, verdict.at_seq) == (fault, at_seq)


async def test_records_that_changed_places_are_found(office: Office) -> None:
    for number in range(3):
        await record(office, request_id=str(number))
    await tamper(office, "UPDATE audit SET seq = CASE seq WHEN 1 THEN 12 ELSE 11 END WHERE seq < 3")
    await tamper(office, "UPDATE audit SET seq = seq - 10 WHERE seq > 10")
    assert (await audit.verify(office.database)).at_seq == 1


async def test_a_chain_that_was_written_anew_does_not_pass_for_the_one_whose_head_was_kept(
    office: Office,
) -> None:
    for _ in range(3):
        await record(office)
    kept = await head(office)
    await record(office)
    assert (await audit.verify(office.database, kept)).fault is None
    await tamper(office, "DELETE FROM audit")
    await tamper(office, "UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
    for _ in range(2):
        await record(office)
    assert (await audit.verify(office.database)).fault is None, "whoever owns the database can do this"
    assert (await audit.verify(office.database, kept)).fault is Fault.CUT_OFF
    await record(office)
    assert (await audit.verify(office.database, kept)).fault is Fault.REWRITTEN
    assert audit.read_head(str(kept)) == kept


async def test_twenty_who_record_at_once_keep_the_chain(office: Office) -> None:
    connections = [await office.database.own_connection() for _ in range(20)]

    async def work(tx: db.Tx, number: int) -> None:
        for turn in range(5):
            async with tx.transaction():
                await audit.record(
                    tx, actor=f"user:{number}", action="a", subject=str(turn), tenant_id=None, address="",
                    request_id="", detail={},
                )  # fmt: skip

    try:
        async with asyncio.TaskGroup() as group:
            for number, connection in enumerate(connections):
                group.create_task(work(connection, number))
    finally:
        for connection in connections:
            await connection.close()
    verdict = await audit.verify(office.database)
    assert (verdict.records, verdict.fault) == (100, None)


async def test_what_was_rolled_back_leaves_neither_record_nor_gap(office: Office) -> None:
    await record(office)
    connection = await office.database.own_connection()
    try:
        unfinished = connection.transaction()
        await unfinished.start()
        await audit.record(
            connection,
            actor="a",
            action="b",
            subject="",
            tenant_id=None,
            address="",
            request_id="",
            detail={},
        )
        await unfinished.rollback()
    finally:
        await connection.close()
    await record(office)
    verdict = await audit.verify(office.database)
    assert (verdict.records, verdict.fault) == (2, None)


async def test_numbers_and_secrets_do_not_get_into_the_audit_and_money_does(office: Office) -> None:
    await record(
        office,
        actor="user:9 13800138000@example.com",
        subject="block:+8613800138000",
        detail={
            "note": "he called from 13800138000",
            "password": "geheim",
            "deep": [{"secret": "geheim"}],
            "amount_micro": 13_800_138_000,
        },
    )
    (row,) = await listed(office, actor="user:9 13800138000@example.com")
    assert "13800138000@" not in row.actor
    assert "0138000" not in row.subject
    assert row.detail["amount_micro"] == 13_800_138_000
    assert "geheim" not in str(row.detail)
    assert "13800138000" not in row.detail["note"]


async def test_no_text_is_too_long_or_too_strange_to_be_recorded(office: Office) -> None:
    await record(
        office,
        actor="a\0" + "x" * 1_000,
        subject="\ud800",
        detail={"a": "鸿" * 20_000, "b": float("nan")},
    )
    await record(
        office, detail={"when": clock.now(), "s": {1, 2}, "bytes": b"\x00", "鸿": "雁\0", "lone": "\ud800"}
    )
    assert (await audit.verify(office.database)).fault is None
    newest, oldest = await listed(office)
    assert newest.detail["鸿"].startswith("雁")
    assert "too_long" in oldest.detail
