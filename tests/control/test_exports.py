"""A file has what the list shows, no more, and computes nothing."""

import asyncio
import contextlib
import csv
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import openpyxl
import pytest

import make
from hongyan import db
from hongyan.control import exports, jobs
from hongyan.control.jobs import JobState, Runner, Tools
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Status, TenantId
from hongyan.way.accept import Acceptor
from hongyan.way.measure import Counters
from hongyan.way.snapshot import Keeper
from make import World

WAIT_S: Final = 20.0


@contextlib.asynccontextmanager
async def laid(database: str, folder: Path) -> AsyncIterator[tuple[World, Tools]]:
    async with make.world(database) as world:
        settings = replace(make.SETTINGS, state_dir=folder)
        keeper = Keeper(world.database, world.vault)
        await keeper.load()
        acceptor = Acceptor(
            world.database, keeper, world.vault, settings, Counters(), lambda _: 0, lambda _: None
        )
        yield world, Tools(world.database, world.vault, keeper, settings, acceptor)


async def ask(tools: Tools, tenant_id: TenantId | None, what: str, **asked: Any) -> int:
    wanted: dict[str, Any] = {
        "filters": {},
        "format_": "csv",
        "columns": (),
        "whole_numbers": False,
        "made_by": "user:1",
    }
    async with tools.database.transaction() as tx:
        return await exports.ask(
            tx, tools.keeper.current, tools.vault, tenant_id, what=what, **(wanted | asked)
        )


async def file(tools: Tools, tenant_id: TenantId | None, job_id: int) -> bytes:
    """Have the export done, and fetch it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Runner(tools, exports.KINDS, look_gap_s=0.02).run())
        async with asyncio.timeout(WAIT_S):
            while True:
                async with tools.database.transaction() as tx:
                    row, asked = await exports.find(tx, tenant_id, job_id)
                    if row.state not in (JobState.WAITING, JobState.RUNNING):
                        break
                await asyncio.sleep(0.01)
        task.cancel()
    assert (row.state, row.error) == (JobState.DONE, "")
    async with tools.database.transaction() as tx:
        _, _, pieces = await exports.file(tx, tools.database, tools.vault, row, asked)
    return b"".join([piece async for piece in pieces])


def rows_of(octets: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(octets.decode("utf-8-sig"))))


async def messages(database: db.Database, world: World, count: int, **columns: Any) -> None:
    async with database.transaction() as tx:
        for _ in range(count):
            await make.message(tx, world, **columns)


async def test_messages_are_written_over_all_pages_with_their_numbers_masked(
    database: str, tmp_path: Path
) -> None:
    async with laid(database, tmp_path) as (world, tools):
        await messages(tools.database, world, 450, status=Status.DELIVERED)
        await messages(
            tools.database,
            world,
            1,
            status=Status.UNDELIVERED,
            text="【鸿雁】验证码 123456",
            reference="=1+1",
        )
        job_id = await ask(tools, world.tenant_id, "messages")
        octets = await file(tools, world.tenant_id, job_id)
        rows = rows_of(octets)
        assert octets.startswith(b"\xef\xbb\xbf")
        assert len({row["id"] for row in rows}) == 451
        assert rows[0]["number"] == "'+86138****8000"
        assert rows[0]["text"] == "【鸿雁】验证码 ***"
        assert rows[0]["reference"] == "'=1+1"
        assert b"13800138000" not in octets


async def test_a_filter_and_columns_are_those_of_the_list(database: str, tmp_path: Path) -> None:
    async with laid(database, tmp_path) as (world, tools):
        await messages(tools.database, world, 3, status=Status.DELIVERED)
        await messages(tools.database, world, 2, status=Status.UNDELIVERED)
        job_id = await ask(
            tools, world.tenant_id, "messages",
            filters={"status": "undelivered"}, columns=("status", "number"), whole_numbers=True,
        )  # fmt: skip
        octets = await file(tools, world.tenant_id, job_id)
        assert (
            octets.decode("utf-8-sig").splitlines() == ["status,number"] + ["undelivered,+8613800138000"] * 2
        )
        stored = await tools.database.fetch("SELECT asked FROM job")
        assert "13800138000" not in stored[0]["asked"]


async def test_an_xlsx_has_the_same_rows(database: str, tmp_path: Path) -> None:
    async with laid(database, tmp_path) as (world, tools):
        await messages(tools.database, world, 250, reference="@x")
        job_id = await ask(
            tools, world.tenant_id, "messages", format_="xlsx", columns=("number", "reference", "price_micro")
        )
        octets = await file(tools, world.tenant_id, job_id)
        sheet = openpyxl.load_workbook(io.BytesIO(octets)).active
        assert sheet is not None
        rows = list(sheet.iter_rows(values_only=True))
        assert rows[0] == ("number", "reference", "price_micro")
        assert rows[1:] == [("'+86138****8000", "'@x", 45_000)] * 250


async def test_inbound_statistics_ledger_and_audit_are_written(database: str, tmp_path: Path) -> None:
    async with laid(database, tmp_path) as (world, tools):
        old = datetime.now(UTC) - timedelta(days=3)
        async with tools.database.transaction() as tx:
            await make.inbound(tx, world, text="=cmd")
            await make.inbound(tx, world, id=make.message_id(old), came_at=old)
            await make.tally(tx, world)
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        inbound = rows_of(await file(tools, world.tenant_id, await ask(
            tools, world.tenant_id, "inbound", filters={"from": yesterday})))  # fmt: skip
        assert [(row["text"], row["opt_out"]) for row in inbound] == [("'=cmd", "false")]
        statistics = rows_of(
            await file(tools, world.tenant_id, await ask(tools, world.tenant_id, "statistics"))
        )
        assert [row["accepted"] for row in statistics] == ["1"]
        ledger = rows_of(await file(tools, world.tenant_id, await ask(tools, world.tenant_id, "ledger")))
        assert [(row["kind"], row["amount_micro"]) for row in ledger] == [("top_up", "1000000000")]
        audit = await file(tools, world.tenant_id, await ask(tools, world.tenant_id, "audit"))
        assert rows_of(audit) == []


async def test_the_platform_has_the_statistics_of_all(database: str, tmp_path: Path) -> None:
    async with laid(database, tmp_path) as (world, tools):
        async with tools.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await make.tally(tx, world)
            await make.tally(tx, world, tenant_id=other)
        job_id = await ask(tools, None, "statistics", filters={"by": "none"})
        rows = rows_of(await file(tools, None, job_id))
        assert [(row["accepted"], row["cost_micro"]) for row in rows] == [("2", "0")]
        async with tools.database.transaction() as tx:
            with pytest.raises(Refusal) as caught:
                await exports.find(tx, world.tenant_id, job_id)
        assert caught.value.code is Code.REQUEST_NOT_FOUND


@pytest.mark.parametrize(
    "asked",
    [
        {"what": "secrets"},
        {"what": "messages", "filters": {"unknown": 1}},
        {"what": "messages", "filters": {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}},
        {"what": "messages", "columns": ("nothing",)},
        {"what": "messages", "columns": ("id", "id")},
        {"what": "statistics", "filters": {"zone": "Nowhere/Nothing"}},
        {"what": "ledger", "filters": {"kind": "gift"}},
        {"what": "messages", "filters": {"from": "0001-01-01T00:00:00+14:00"}},
        {"what": "audit", "filters": {"to": "9999-12-31T23:59:59-14:00"}},
    ],
    ids=range(9),
)
async def test_what_cannot_be_answered_is_refused_at_once(
    asked: Mapping[str, Any], database: str, tmp_path: Path
) -> None:
    async with laid(database, tmp_path) as (world, tools):
        with pytest.raises(Refusal) as caught:
            await ask(tools, world.tenant_id, **asked)
        assert caught.value.code is Code.REQUEST_INVALID_PARAMETER


async def test_messages_of_everybody_are_no_list(database: str, tmp_path: Path) -> None:
    async with laid(database, tmp_path) as (_, tools):
        with pytest.raises(Refusal):
            await ask(tools, None, "messages")


async def test_an_export_that_dies_in_the_middle_has_each_row_once(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laid(database, tmp_path) as (world, tools):
        await messages(tools.database, world, 450)
        job_id = await ask(tools, world.tenant_id, "messages", columns=("id",))
        pages = 0
        died = asyncio.Event()
        source = exports.SOURCES["messages"]

        async def dies(*asked: Any) -> exports.Page:
            nonlocal pages
            pages += 1
            if pages == 2:
                died.set()
                await asyncio.Event().wait()
            return await source.page(*asked)

        monkeypatch.setattr(exports, "SOURCES", {"messages": replace(source, page=dies)})
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(Runner(tools, exports.KINDS, look_gap_s=0.02, lease_s=0.3).run())
            await died.wait()
            task.cancel()
        rows = rows_of(await file(tools, world.tenant_id, job_id))
        assert len(rows) == len({row["id"] for row in rows}) == 450


async def test_a_file_that_is_not_ready_is_refused(database: str, tmp_path: Path) -> None:
    async with laid(database, tmp_path) as (world, tools):
        job_id = await ask(tools, world.tenant_id, "messages")
        async with tools.database.transaction() as tx:
            row, asked = await exports.find(tx, world.tenant_id, job_id)
            with pytest.raises(Refusal) as caught:
                await exports.file(tx, tools.database, tools.vault, row, asked)
        assert caught.value.code is Code.REQUEST_CONFLICT
        async with tools.database.transaction() as tx:
            other = await jobs.make(tx, world.tenant_id, "list.check", {}, made_by="user:1")
            with pytest.raises(Refusal):
                await exports.find(tx, world.tenant_id, other)
