"""Long texts put together: no part that was answered is lost, whatever the customer or the database does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from doors.hosting import log_in_as
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds
from hongyan.vocab.text import Encoding, TextPart
from hongyan.way import assemble
from hongyan.way.accept import Accepted, Outcome, SessionDraft
from hongyan.way.assemble import Assembler, Piece, Whole
from hongyan.way.snapshot import Key, Login
from plane import QUICK, Plane, books_balance, plane

NUMBER = "+8613800138000"
QUIET = ("【鸿雁】您的快递", "已到 南门")
NEXT = ("【鸿雁】您的快递已", "到 北门")


@dataclass
class Assembling:
    way: Plane
    login: Login
    assembler: Assembler
    told: dict[str, list[Outcome | None]] = field(default_factory=dict)

    def piece(self, name: str, text: str, index: int, sender: str = "1069") -> Piece:
        part = TextPart(index, 2, Encoding.UCS2, text.encode("utf-16-be"))
        return Piece(self.login.key, NUMBER, sender, part, 7, 8, name.encode())

    def add(self, name: str, text: str, index: int, sender: str = "1069") -> None:
        said = self.told.setdefault(name, [])
        self.assembler.add(self.piece(name, text, index, sender), said.append)

    async def heard(self, *names: str) -> Sequence[Outcome | None]:
        await self.way.holds(lambda: all(self.told[name] for name in names))
        return [self.told[name][0] for name in names]

    async def failed(self) -> Sequence[assemble.Failed]:
        rooms = [(self.login.key.app_id, 100)]
        return await assemble.failed(self.way.database, self.way.vault, rooms)


def draft(_key: Key, whole: Whole) -> SessionDraft:
    if "boom" in whole.text:
        raise KeyError(whole.text)
    if not whole.text.startswith("【鸿雁】您的快递已到 "):
        raise Refusal(Code.TEMPLATE_NOT_FOUND)
    word = whole.text.removeprefix("【鸿雁】您的快递已到 ")
    return SessionDraft(to=whole.number, signature="鸿雁", template="transactional", params={"word": word})


@asynccontextmanager
async def assembling(dsn: str, **knobs: Any) -> AsyncIterator[Assembling]:
    async with plane(dsn) as way:
        await log_in_as(way, "smpp", "acme")
        (login,) = way.keeper.current.login_apps.values()
        known = replace(QUICK, **knobs)
        assembler = Assembler(way.database, way.keeper, way.vault, known, way.acceptor, draft)
        running = asyncio.create_task(assembler.run())
        try:
            yield Assembling(way, login, assembler)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_a_refused_text_may_come_again_before_its_failure_has_been_told(database: str) -> None:
    async with assembling(database) as one:
        one.add("a1", "nothing", 1)
        await one.heard("a1")
        one.add("a2", "approved", 2)
        (refused,) = await one.heard("a2")
        assert isinstance(refused, Refusal)
        (owed,) = await one.failed()
        assert owed.origin == b"a1"
        one.add("b1", QUIET[0], 1)
        await one.heard("b1")
        await assemble.forget(one.way.database, [owed.id])  # told by now
        one.add("b2", QUIET[1], 2)
        (taken,) = await one.heard("b2")
        assert isinstance(taken, Accepted)


async def test_what_is_owed_to_a_refused_text_stays_owed_when_its_reference_comes_again(
    database: str,
) -> None:
    async with assembling(database) as one:
        one.add("a1", "nothing", 1)
        await one.heard("a1")
        one.add("a2", "approved", 2)
        await one.heard("a2")
        one.add("b1", QUIET[0], 1)
        await one.heard("b1")
        assert [part.origin for part in await one.failed()] == [b"a1"]


async def test_two_texts_in_a_row_under_one_reference_are_two_messages(database: str) -> None:
    async with assembling(database) as one:
        one.add("a1", QUIET[0], 1)
        one.add("a2", QUIET[1], 2)
        one.add("b1", NEXT[0], 1)
        one.add("b2", NEXT[1], 2)
        outcomes = await one.heard("a1", "a2", "b1", "b2")
        assert [isinstance(outcome, Accepted) for outcome in outcomes] == [False, True, False, True]
        assert len(await one.way.database.fetch("SELECT FROM message")) == 2
        assert await one.way.database.fetch("SELECT FROM submit_part") == []


async def test_an_answered_part_whose_place_another_text_takes_is_reported(database: str) -> None:
    async with assembling(database) as one:
        for name, text in (("a1", QUIET[0]), ("again", QUIET[0]), ("b1", NEXT[0])):
            one.add(name, text, 1)
            await one.heard(name)
        await one.way.until("SELECT 1 FROM submit_part WHERE failed <> ''")
        (owed,) = await one.failed()
        assert (owed.origin, owed.code) == (b"again", Code.CONTENT_INCOMPLETE.value.name)


async def test_parts_that_somebody_joins_make_no_text_whole_with_one_that_comes_then(database: str) -> None:
    async with assembling(database) as one:
        one.add("a1", QUIET[0], 1)
        await one.heard("a1")
        await one.way.database.execute("UPDATE submit_part SET lease_until = now() + interval '9 seconds'")
        one.add("a2", QUIET[1], 2)
        assert await one.heard("a2") == [None]


async def test_a_failure_nobody_comes_for_is_forgotten_in_time(database: str) -> None:
    async with assembling(database, submit_join_wait_s=0, notice_give_up_s=0) as one:
        one.add("a1", QUIET[0], 1)
        await one.heard("a1")
        await one.way.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM submit_part)")


async def test_a_failure_that_cannot_be_read_holds_up_no_other(database: str) -> None:
    async with assembling(database, submit_join_wait_s=0) as one:
        one.add("a1", QUIET[0], 1)
        one.add("b1", QUIET[0], 1, sender="2")
        await one.heard("a1", "b1")
        await one.way.until("SELECT 1 FROM submit_part HAVING count(*) FILTER (WHERE failed <> '') = 2")
        await one.way.database.execute(
            "UPDATE submit_part SET sealed = '\\x00' WHERE id = (SELECT min(id) FROM submit_part)"
        )
        assert len(await one.failed()) == 1
        assert len(await one.way.database.fetch("SELECT FROM submit_part")) == 1


async def test_a_text_that_nothing_can_be_made_of_ends_no_other(database: str) -> None:
    async with assembling(database) as one:
        one.add("a1", "bo", 1)
        one.add("a2", "om", 2)
        (outcome,) = await one.heard("a2")
        assert isinstance(outcome, Refusal)
        one.add("b1", QUIET[0], 1, sender="2")
        one.add("b2", QUIET[1], 2, sender="2")
        (taken,) = await one.heard("b2")
        assert isinstance(taken, Accepted)


async def test_what_is_accepted_is_said_so_though_its_parts_cannot_be_deleted_now(database: str) -> None:
    async with assembling(database) as one:
        await out_of_order(one.way, "DELETE")
        one.add("a1", QUIET[0], 1)
        one.add("a2", QUIET[1], 2)
        (taken,) = await one.heard("a2")
        assert isinstance(taken, Accepted)


async def test_who_asks_for_one_id_twice_at_once_gets_the_same_promise_twice(database: str) -> None:
    async with assembling(database) as one:
        made = MessageIds().make()
        known = MessageId(UUID(bytes=made.bytes))
        whole = Whole(NUMBER, "1069", "".join(QUIET), [])
        asked = [
            one.way.acceptor.accept_once(one.login.key, [draft(one.login.key, whole)], [known]) for _ in "ab"
        ]
        outcomes = [outcome for (outcome,) in await asyncio.gather(*asked)]
        assert [isinstance(outcome, Accepted) and outcome.id == known for outcome in outcomes] == [True, True]
        await books_balance(one.way.database)


async def out_of_order(way: Plane, deed: str) -> None:
    """Have every INSERT or DELETE of a part fail as if the server had cancelled it."""
    await way.database.execute(
        "CREATE FUNCTION out_of_order() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '57014'; END $$"
    )
    await way.database.execute(
        f"CREATE TRIGGER out_of_order BEFORE {deed} ON submit_part EXECUTE FUNCTION out_of_order()"
    )
