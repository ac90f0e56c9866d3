"""A list is checked row by row, sent row by row, each once, whatever happens meanwhile."""

import asyncio
import contextlib
import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from hongyan import clock, db
from hongyan.control import jobs, lists, sending
from hongyan.control.jobs import Runner, Tools
from hongyan.control.lists import ListStage, ListWhole, Mapped, Wanted
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, Purpose, TenantId
from hongyan.way import charge, promise
from hongyan.way.accept import Acceptor, Outcome
from hongyan.way.measure import Counters
from plane import QUICK, Plane, books_balance, plane

WAIT_S: Final = 30.0
PRICE: Final = 45_000


@dataclass(frozen=True, slots=True)
class Room:
    """A plane, and what lists are worked on with."""

    plane: Plane
    tools: Tools

    async def upload(self, text: str | bytes, name: str = "list", kind: str = "csv") -> int:
        octets = text.encode() if isinstance(text, str) else text

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(octets), 10_000):
                yield octets[start : start + 10_000]

        tools = self.tools
        read = await lists.read_in(
            tools.database, tools.vault, tools.settings, self.plane.tenant_id, kind, pieces(), "user:1"
        )
        async with tools.database.transaction() as tx:
            return await lists.create(tx, self.plane.tenant_id, name, read, "user:1")

    async def check(self, list_id: int, purpose: Purpose = Purpose.TRANSACTIONAL, **wanted: Any) -> None:
        plan = {
            "mapping": Mapped("number", {"word": "word"}),
            "template": purpose.value,
            "signature": self.plane.signature,
            "app_id": self.plane.key.app_id,
        }
        async with self.tools.database.transaction() as tx:
            await lists.check(
                tx,
                self.tools.keeper.current,
                self.plane.tenant_id,
                list_id,
                Wanted(**(plan | wanted)),
                made_by="user:1",
            )

    async def start(self, list_id: int) -> bool:
        async with self.tools.database.transaction() as tx:
            return await lists.start(tx, self.tools.settings, self.plane.tenant_id, list_id, made_by="user:1")

    async def one(self, list_id: int) -> ListWhole:
        tools = self.tools
        async with tools.database.transaction() as tx:
            return await lists.one(tx, tools.keeper.current, tools.vault, self.plane.tenant_id, list_id)

    async def until(self, list_id: int, *states: ListStage) -> ListWhole:
        async with asyncio.timeout(WAIT_S):
            while (told := await self.one(list_id)).state not in states:
                await asyncio.sleep(0.02)
            return told

    async def move(self, how: Callable[..., Any], list_id: int) -> None:
        async with self.tools.database.transaction() as tx:
            await how(tx, self.plane.tenant_id, list_id)

    async def left_out(self, list_id: int, *, whole: bool = False) -> list[dict[str, str]]:
        tools = self.tools
        async with tools.database.transaction() as tx:
            job_ids = await lists.jobs_of(tx, self.plane.tenant_id, list_id)
        pieces = lists.left_out(
            tools.database, tools.vault, self.plane.tenant_id, job_ids, whole_numbers=whole
        )
        text = b"".join([piece async for piece in pieces]).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))

    @contextlib.asynccontextmanager
    async def working(self, tools: Tools | None = None, lease_s: float = 0.5) -> AsyncIterator[None]:
        """A runner until the end of the block, where it dies."""
        async with asyncio.TaskGroup() as tasks:
            runner = Runner(
                tools or self.tools, sending.KINDS, (sending.forget,), lease_s=lease_s, look_gap_s=0.02
            )
            task = tasks.create_task(runner.run())
            yield
            task.cancel()

    async def checked(self, rows: Sequence[str], **wanted: Any) -> int:
        list_id = await self.upload("\n".join(["number,word", *rows]) + "\n")
        await self.check(list_id, **wanted)
        async with self.working():
            await self.until(list_id, ListStage.CHECKED)
        return list_id

    async def messages(self) -> Counter[str]:
        """How often each number was written to."""
        rows = await self.tools.database.fetch("SELECT phone_index FROM message")
        return Counter(row["phone_index"].hex() for row in rows)


@contextlib.asynccontextmanager
async def room(database: str, folder: Path, tenant: Mapping[str, Any] | None = None) -> AsyncIterator[Room]:
    settings = replace(QUICK, state_dir=folder)
    async with plane(database, settings=settings, tenant=dict(tenant or {})) as one:
        yield Room(one, Tools(one.database, one.vault, one.keeper, settings, one.acceptor))


async def checked(one: Room, list_id: int) -> lists.Checked:
    told = (await one.one(list_id)).check
    assert told is not None
    return told


async def sending_of(one: Room, list_id: int) -> lists.Sent:
    told = (await one.one(list_id)).sending
    assert told is not None
    return told


def numbers(count: int, first: int = 0) -> list[str]:
    return [f"13800{n:06d},w{n}" for n in range(first, first + count)]


# ---- uploading


async def test_what_is_uploaded_is_told_with_its_numbers_masked(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.upload("number,word\n" + "\n".join(numbers(1_234)))
        told = await one.one(list_id)
        assert (told.state, told.columns, told.row_count) == (ListStage.NEW, ["number", "word"], 1_234)
        assert told.rows[0] == ["138****0000", "w0"]
        assert len(told.rows) == lists.SAMPLE_ROWS
        stored = await one.tools.database.fetch("SELECT sealed FROM job_chunk")
        assert len(stored) == 3
        assert not any(b"13800" in row["sealed"] for row in stored)


@pytest.mark.parametrize(
    "octets",
    [
        b"number,word\n" + b"\n".join(b"1380000000,w" for _ in range(2_000)) + b"\n1,\x00\n",
        b"number,word\n1,2,3\n",
        b"",
    ],
    ids=["NUL behind many rows", "a row too long", "empty"],
)
async def test_of_a_bad_file_nothing_is_kept(octets: bytes, database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        with pytest.raises(Refusal) as caught:
            await one.upload(octets)
        assert caught.value.code is Code.REQUEST_UNSUPPORTED_FILE
        assert await one.tools.database.fetch("SELECT FROM job_chunk") == []
        assert await one.tools.database.fetch("SELECT FROM sending_list") == []
        assert not any(await asyncio.to_thread(lambda: list(tmp_path.iterdir())))


async def test_a_file_without_a_header_is_refused(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        with pytest.raises(Refusal) as caught:
            await one.upload("13800138000,w\n13800138001,w\n")
        assert "name the columns" in caught.value.detail["reason"]


async def test_a_file_that_is_too_large_is_refused(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "OCTETS_MAX", 1_000)
    async with room(database, tmp_path) as one:
        with pytest.raises(Refusal) as caught:
            await one.upload("number,word\n" + "\n".join(numbers(1_000)))
        assert caught.value.code is Code.REQUEST_TOO_LARGE


async def test_a_tenant_has_only_so_many_files_read_at_once(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        tools, going = one.tools, asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"number,word\n13800138000,a\n"
            await going.wait()

        def read_in(tenant_id: TenantId) -> Any:
            return lists.read_in(
                tools.database, tools.vault, tools.settings, tenant_id, "csv", slow(), "user:1"
            )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(lists.UPLOADS_OF_TENANT_MAX):
                tasks.create_task(read_in(one.plane.tenant_id))
            await asyncio.sleep(0)
            with pytest.raises(Refusal) as caught:
                await read_in(one.plane.tenant_id)
            assert caught.value.code is Code.SYSTEM_BUSY
            going.set()
        assert (await read_in(one.plane.tenant_id)).row_count == 1


# ---- checking


async def test_a_check_says_what_becomes_of_every_row(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        async with one.tools.database.transaction() as tx:
            for number, kind in (("+8613800000002", 2), ("+8613800000003", 1)):
                index = one.tools.vault.phone_index(number)
                await tx.execute(
                    "INSERT INTO suppression (phone_index, tenant_id, kind) VALUES ($1, $2, $3)",
                    index,
                    one.plane.tenant_id,
                    kind,
                )
        rows = numbers(5)
        rows += ["+86 138-0000-0001,again", "12345,w", "13800000009,http://x.cn/", "13800000010," + "门" * 36]
        list_id = await one.checked(rows)
        told = await one.one(list_id)
        assert told.check is not None
        assert told.check.ready == 4  # an opt-out is of promotional texts
        assert told.check.left_out == {
            "duplicate": 1,
            "Number.Blacklisted": 1,
            "Number.Invalid": 1,
            "Template.VariableUrl": 1,
            "Template.VariableTooLong": 1,
        }
        assert (told.check.price_micro, told.check.parts) == (4 * PRICE, {"1": 4})
        assert told.examples[0] == lists.Example(2, "+86138****0000", "【鸿雁】您的快递已到 w0")
        assert told.balance_micro > 0
        left = await one.left_out(list_id)
        assert [(row["row"], row["reason"]) for row in left] == [
            ("4", "Number.Blacklisted"),
            ("7", "duplicate"),
            ("8", "Number.Invalid"),
            ("9", "Template.VariableUrl"),
            ("10", "Template.VariableTooLong"),
        ]
        assert left[1]["number"] == "'+86138****0001"
        assert (await one.left_out(list_id, whole=True))[1]["number"] == "'+86 138-0000-0001"
        assert await one.tools.database.fetch("SELECT FROM list_number") == []
        assert await one.messages() == {}


async def test_a_row_with_an_empty_cell_for_a_variable_is_left_out_and_says_so(
    database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(["13800000001,", "13800000002, \u3000", "13800000003,门", "12345,"])
        told = await checked(one, list_id)
        assert (told.ready, told.left_out) == (1, {"empty_variable": 2, "Number.Invalid": 1})
        left = await one.left_out(list_id)
        assert [(row["row"], row["reason"]) for row in left][:2] == [
            ("2", "empty_variable"),
            ("3", "empty_variable"),
        ]
        assert "empty" in left[0]["explanation"]


async def test_a_number_counts_once_however_far_apart_its_rows_are(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked([*numbers(700), *numbers(700), *numbers(100, 700)])
        told = await one.one(list_id)
        assert told.check is not None
        assert (told.check.ready, told.check.left_out) == (800, {"duplicate": 700})


async def test_a_promotion_asks_for_opt_outs_and_for_consents_where_they_are_demanded(
    database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path, {"consent_demanded": True}) as one:
        sql = """INSERT INTO consent (tenant_id, phone_index, scope, given, source, at)
                 VALUES ($1, $2, 'promotional', true, 'form', now())"""
        for n in range(2):
            index = one.tools.vault.phone_index(f"+8613800{n:06d}")
            await one.tools.database.execute(sql, one.plane.tenant_id, index)
        index = one.tools.vault.phone_index("+8613800000001")
        await one.tools.database.execute(
            "INSERT INTO suppression (phone_index, tenant_id, kind) VALUES ($1, 0, 1)", index
        )
        tomorrow_noon = (clock.now() + timedelta(days=1)).replace(hour=4)
        list_id = await one.checked(numbers(3), purpose=Purpose.PROMOTIONAL, send_at=tomorrow_noon)
        told = await one.one(list_id)
        assert told.check is not None
        assert told.check.left_out == {"Number.Unsubscribed": 1, "no_consent": 1}
        assert told.check.ready == 1


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"template": "none"}, Code.TEMPLATE_NOT_FOUND),
        ({"signature": "none"}, Code.SIGN_NOT_FOUND),
        ({"signature": ""}, Code.REQUEST_MISSING_PARAMETER),
        ({"app_id": 2**31 - 1}, Code.REQUEST_INVALID_PARAMETER),
        ({"mapping": Mapped("nothing", {"word": "word"})}, Code.REQUEST_INVALID_PARAMETER),
        ({"mapping": Mapped("number", {"word": "nothing"})}, Code.REQUEST_INVALID_PARAMETER),
        ({"mapping": Mapped("number", {})}, Code.TEMPLATE_MISSING_VARIABLE),
        ({"mapping": Mapped("number", {"word": "word", "x": "word"})}, Code.TEMPLATE_MISSING_VARIABLE),
    ],
    ids=range(8),
)
async def test_what_no_row_could_be_sent_with_is_refused_at_once(
    wanted: dict[str, Any], code: Code, database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.upload("number,word\n1,2\n")
        with pytest.raises(Refusal) as caught:
            await one.check(list_id, **wanted)
        assert caught.value.code is code


async def test_a_check_may_be_made_anew_until_the_list_is_started(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(3))
        await one.check(list_id, mapping=Mapped("number", {"word": "word"}, "word"))
        with pytest.raises(Refusal):
            await one.check(list_id)  # one is under way
        with pytest.raises(Refusal):
            await one.start(list_id)
        async with one.working():
            told = await one.until(list_id, ListStage.CHECKED)
            assert told.check is not None
            assert told.check.ready == 3
            await one.start(list_id)
            await one.until(list_id, ListStage.DONE)
        with pytest.raises(Refusal):
            await one.check(list_id)


# ---- sending


async def test_a_list_is_sent_to_every_row_once_and_paid_for(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(1_203), mapping=Mapped("number", {"word": "word"}, "word"))
        assert await one.start(list_id)
        assert not await one.start(list_id)  # said twice
        async with one.working():
            told = await one.until(list_id, ListStage.DONE)
        assert told.sending is not None
        assert (told.sending.accepted, told.sending.refused, told.sending.waiting) == (1_203, {}, 0)
        sent = await one.messages()
        assert len(sent) == 1_203
        assert set(sent.values()) == {1}
        (row,) = await one.tools.database.fetch("SELECT app_id FROM message WHERE reference = 'w77'")
        assert row["app_id"] == one.plane.key.app_id
        await books_balance(one.tools.database)
        assert not await one.start(list_id)  # and once more, when all is done


class Dying(Acceptor):
    """Accepts, and never says so: who asked dies in between."""

    def __init__(self, one: Room, after: int) -> None:
        plane_ = one.plane
        super().__init__(
            plane_.database,
            plane_.keeper,
            plane_.vault,
            one.tools.settings,
            Counters(),
            lambda _: 0,
            lambda _: None,
        )
        self._after = after
        self.died = asyncio.Event()

    async def accept_once(self, *asked: Any, fresh: bool = False) -> Sequence[Outcome]:
        self._after -= 1
        outcomes = await super().accept_once(*asked, fresh=fresh)
        if self._after < 0:
            self.died.set()
            await asyncio.Event().wait()
        return outcomes


@contextlib.asynccontextmanager
async def dying(one: Room, after: int) -> AsyncIterator[tuple[Tools, Dying]]:
    acceptor = Dying(one, after)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(acceptor.run())
        yield replace(one.tools, acceptor=acceptor), acceptor
        task.cancel()


@pytest.mark.parametrize("after", [0, 2])
async def test_a_crash_between_acceptance_and_its_record_sends_no_row_twice(
    after: int, database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(3_000))
        await one.start(list_id)
        async with dying(one, after) as (tools, acceptor):
            async with one.working(tools):
                await acceptor.died.wait()
            assert (await one.one(list_id)).state is ListStage.SENDING
        async with one.working():
            told = await one.until(list_id, ListStage.DONE)
        assert told.sending is not None
        assert (told.sending.accepted, told.sending.waiting) == (3_000, 0)
        sent = await one.messages()
        assert len(sent) == 3_000
        assert set(sent.values()) == {1}
        await books_balance(one.tools.database)


async def test_only_the_ids_of_a_chunk_that_was_begun_before_are_looked_up(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    stored = promise.stored

    async def look_up(database: db.Database, tenant_id: TenantId, ids: Sequence[MessageId]) -> Any:
        looked_up.append(len(ids))
        return await stored(database, tenant_id, ids)

    monkeypatch.setattr(promise, "stored", look_up)
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(1_000))  # two chunks of 500
        await one.start(list_id)
        async with dying(one, 2) as (tools, acceptor), one.working(tools, lease_s=60):
            await acceptor.died.wait()
        assert looked_up == []
        await one.tools.database.execute("UPDATE job SET lease_until = now() WHERE state = 'running'")
        async with one.working(lease_s=60):
            await one.until(list_id, ListStage.DONE)
        assert sum(looked_up) == 500
        assert len(await one.messages()) == 1_000


async def test_a_check_that_dies_in_the_middle_is_gone_on_with(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.upload("number,word\n" + "\n".join([*numbers(2_000), *numbers(10)]))
        await one.check(list_id)
        async with one.working():
            async with asyncio.timeout(WAIT_S):
                while not (await checked(one, list_id)).done:
                    await asyncio.sleep(0.002)
        async with one.working():
            told = await one.until(list_id, ListStage.CHECKED)
        assert told.check is not None
        assert (told.check.ready, told.check.left_out) == (2_000, {"duplicate": 10})


async def test_two_runners_send_each_row_once(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        ids = [await one.checked(numbers(600, first)) for first in (0, 600)]
        for list_id in ids:
            await one.start(list_id)
        async with one.working(), one.working():
            for list_id in ids:
                await one.until(list_id, ListStage.DONE)
        sent = await one.messages()
        assert len(sent) == 1_200
        assert set(sent.values()) == {1}


async def test_a_pause_does_not_wait_for_the_pace_of_a_chunk_and_loses_no_row_of_it(
    database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(500))
        await one.start(list_id)
        slow = replace(one.tools, settings=replace(one.tools.settings, list_rows_per_s=100))
        async with one.working(slow), asyncio.timeout(WAIT_S):
            while not await one.messages():
                await asyncio.sleep(0.02)
            await one.move(lists.pause, list_id)
            while (await sending_of(one, list_id)).accepted == 0:
                await asyncio.sleep(0.02)
        accepted = (await sending_of(one, list_id)).accepted
        assert accepted == (await one.messages()).total() < 500
        assert accepted % sending.SLICE_ROWS == 0
        await one.move(lists.resume, list_id)
        async with one.working():
            told = await one.until(list_id, ListStage.DONE)
        assert told.sending is not None
        assert told.sending.accepted == 500
        assert set((await one.messages()).values()) == {1}
        await books_balance(one.tools.database)


async def test_a_list_that_runs_out_of_money_waits_for_more(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path, {"balance_micro": 700 * PRICE}) as one:
        list_id = await one.checked(numbers(1_000))
        await one.start(list_id)
        async with one.working():
            told = await one.until(list_id, ListStage.PAUSED)
            assert told.sending is not None
            assert told.sending.error.startswith("Account.BalanceInsufficient")
            assert told.balance_micro == (700 - told.sending.accepted) * PRICE
            assert told.sending.waiting == 1_000 - told.sending.accepted
            async with one.tools.database.transaction() as tx:
                await charge.top_up(tx, one.plane.tenant_id, 400 * PRICE)
            await one.move(lists.resume, list_id)
            told = await one.until(list_id, ListStage.DONE)
        assert told.sending is not None
        assert (told.sending.accepted, told.sending.refused, told.sending.error) == (1_000, {}, "")
        assert set((await one.messages()).values()) == {1}
        await books_balance(one.tools.database)


async def test_a_list_that_is_stopped_sends_no_more_and_says_what_it_sent(
    database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(5_000))
        await one.start(list_id)
        async with one.working():
            async with asyncio.timeout(WAIT_S):
                while not (await sending_of(one, list_id)).accepted:
                    await asyncio.sleep(0.002)
            await one.move(lists.stop, list_id)
            other = await one.upload("number,word\n1,2\n")
            await one.check(other)
            await one.until(other, ListStage.CHECKED)  # the runner has seen it, and works on
            async with asyncio.timeout(WAIT_S):
                while len(await one.messages()) != (await sending_of(one, list_id)).accepted:
                    await asyncio.sleep(0.02)
        told = await one.one(list_id)
        assert told.state is ListStage.STOPPED
        assert told.sending is not None
        assert 0 < told.sending.accepted < 5_000
        with pytest.raises(Refusal):
            await one.move(lists.resume, list_id)


async def test_what_is_refused_when_it_is_sent_stands_among_what_was_left_out(
    database: str, tmp_path: Path
) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(3))
        await one.tools.database.execute(
            "INSERT INTO suppression (phone_index, tenant_id, kind) VALUES ($1, 0, 2)",
            one.tools.vault.phone_index("+8613800000001"),
        )
        await one.start(list_id)
        async with one.working():
            told = await one.until(list_id, ListStage.DONE)
        assert told.sending is not None
        assert (told.sending.accepted, told.sending.refused) == (2, {"Number.Blacklisted": 1})
        assert [(row["row"], row["reason"]) for row in await one.left_out(list_id)] == [
            ("3", "Number.Blacklisted")
        ]


async def test_a_list_is_spread_over_the_time_it_is_given(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        begins = (clock.now() + timedelta(hours=1)).replace(microsecond=0)
        list_id = await one.checked(numbers(100), send_at=begins, spread_s=3_600)
        await one.start(list_id)
        async with one.working():
            await one.until(list_id, ListStage.DONE)
        (row,) = await one.tools.database.fetch("SELECT min(due_at), max(due_at) FROM message")
        assert begins <= row["min"] <= begins + timedelta(minutes=5)
        assert begins + timedelta(minutes=55) <= row["max"] <= begins + timedelta(minutes=62)


async def test_a_spread_list_with_many_empty_rows_ends_in_its_time(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        begins = clock.now() + timedelta(hours=1)
        list_id = await one.checked(["\n" * 1_000_000 + numbers(1)[0]], send_at=begins, spread_s=259_200)
        await one.start(list_id)
        async with one.working():
            await one.until(list_id, ListStage.DONE)
        (row,) = await one.tools.database.fetch("SELECT due_at FROM message")
        assert row["due_at"] <= begins + timedelta(seconds=259_201)


async def test_a_template_that_is_taken_away_makes_a_list_wait(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(3))
        await one.start(list_id)
        await one.tools.database.execute("UPDATE template SET state = 'disabled'")
        await one.tools.keeper.load()
        async with one.working():
            told = await one.until(list_id, ListStage.PAUSED)
        assert told.sending is not None
        assert told.sending.error.startswith("Template.NotApproved")
        assert (told.sending.accepted, told.sending.refused) == (0, {})


async def test_a_list_of_another_tenant_is_not_there(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(3))
        foreign = TenantId(one.plane.tenant_id + 1)
        for how in (lists.pause, lists.resume, lists.stop, lists.forget, lists.jobs_of):
            async with one.tools.database.transaction() as tx:
                with pytest.raises(Refusal) as caught:
                    await how(tx, foreign, list_id)
            assert caught.value.code is Code.REQUEST_NOT_FOUND
        async with one.tools.database.transaction() as tx:
            assert await lists.listed(tx, foreign, before=2**31 - 1, limit=10) == []


async def test_what_is_forgotten_can_neither_be_sent_nor_checked(database: str, tmp_path: Path) -> None:
    async with room(database, tmp_path) as one:
        list_id = await one.checked(numbers(3))
        await one.move(lists.forget, list_id)
        async with one.tools.database.transaction() as tx:
            await jobs.forget(tx)
            await sending.forget(tx)
        for again in (one.check, one.start):
            with pytest.raises(Refusal) as caught:
                await again(list_id)
            assert caught.value.code is Code.REQUEST_CONFLICT
        told = await one.one(list_id)
        assert (told.rows, told.examples) == ([], [])
        assert told.check is not None
        assert told.check.ready == 3  # the figures stay
        assert await one.left_out(list_id) == []
