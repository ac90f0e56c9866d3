"""A person who is erased is gone from every table, and a stop of theirs still counts."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import make
from hongyan import vault
from hongyan.vocab.message import MessageId, Status
from hongyan.way import complaint, consent, erase, lookup, optout
from hongyan.way.complaint import ComplaintSource, Made, Words
from hongyan.way.consent import Proof, Said
from hongyan.way.optout import Suppressed
from make import World

NUMBER = make.NUMBER
NATIONAL = NUMBER[3:]
TEXT = "【鸿雁】您的密语是芝麻开门"
WORD = "芝麻开门"
# What erasure knows of: tables that keep persons, and how. A new table that keeps a number belongs here, and into erase.
EMPTIED = {"message", "inbound", "consent", "complaint", "submit_part"}
INDEX_ONLY = {
    "suppression",
    "number_override",
    "submitted",
    "early_report",
}  # no number, no text: keyed indexes
ABOVE = {"verification"}  # emptied by a room above: otp.persons
PASSING = {"inbound_part", "list_number"}  # of no tenant yet, for minutes; indexes, while a list is checked


async def fill(world: World, number: str = NUMBER) -> MessageId:
    """Leave a trace of a person everywhere; returns the message that waits."""
    index = world.vault.phone_index(number)
    seal = world.vault.seal
    async with world.database.transaction() as tx:
        await make.message(
            tx, world, number=number, text=TEXT, params={"word": WORD}, status=Status.DELIVERED
        )
        waiting = await make.message(tx, world, number=number, text=TEXT, params={"word": WORD})
        await make.outbox(tx, world, waiting)
        await make.inbound(tx, world, number=number, text=WORD)
        said = Said(
            tenant_id=world.tenant_id, phone_index=index, given=True, scope="promotional", source="form",
            at=datetime.now(UTC), proof=Proof(number=number, text=WORD, evidence={"word": WORD}),
        )  # fmt: skip
        await consent.append(tx, world.vault, [said])
        made = Made(
            tenant_id=world.tenant_id, phone_index=index, source=ComplaintSource.PERSON, received_at=datetime.now(UTC),
            words=Words(number=number, text=WORD, answer=WORD),
        )  # fmt: skip
        await complaint.record(tx, world.vault, [made])
        await tx.execute(
            "INSERT INTO submit_part (tenant_id, app_id, phone_index, sender, reference, width, part_count, part_index,"
            " message_id, sealed) VALUES ($1, $2, $3, '', 1, 1, 2, 1, $4, $5)",
            world.tenant_id, world.app_id, index, uuid.uuid4(), seal(world.tenant_id, number.encode() + WORD.encode()),
        )  # fmt: skip
    return waiting


async def traces(world: World, *, number: str = NATIONAL, word: str = WORD) -> dict[str, int]:
    """Count the rows of every table in which the number or the word can be read, opening whatever opens."""
    found: dict[str, int] = {}
    names = await world.database.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname = 'public'"
    )
    for (name,) in names:
        for row in await world.database.fetch(f"SELECT * FROM {name}"):
            words = " ".join(readable(world.vault, value) for value in row.values())
            if number in words or word in words:
                found[name] = found.get(name, 0) + 1
    return found


def readable(keys: vault.Vault, value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    for name in list(keys._ciphers):
        try:
            return keys._unseal(name, value).decode("utf-8", "replace")
        except (vault.VaultError, ValueError):
            continue
    return value.decode("utf-8", "replace")


async def test_after_an_erasure_no_column_of_any_table_opens_to_the_person(database: str) -> None:
    async with make.world(database) as world:
        await fill(world)
        before = await traces(world)
        assert set(before) - {"message_rest"} >= EMPTIED - {"message"}
        assert any(name.startswith("message") for name in before)
        async with world.database.transaction() as tx:
            erased = await erase.erase(tx, world.tenant_id, world.vault.phone_index(NUMBER))
        assert await traces(world) == {}
        assert (erased.messages, erased.waiting, erased.inbound) == (2, 1, 1)
        assert (erased.consents, erased.complaints, erased.complete) == (1, 1, True)


async def test_an_erasure_touches_no_other_person_and_no_other_tenant(database: str) -> None:
    async with make.world(database) as world:
        await fill(world, "+8613900139000")
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await make.message(tx, world, tenant_id=other, text=TEXT)
        before = await traces(world), await traces(world, number="13900139000")
        async with world.database.transaction() as tx:
            await erase.erase(tx, world.tenant_id, world.vault.phone_index(NUMBER))
        assert (await traces(world), await traces(world, number="13900139000")) == before


async def test_a_stop_outlives_the_erasure(database: str) -> None:
    async with make.world(database) as world:
        await fill(world)
        index = world.vault.phone_index(NUMBER)
        async with world.database.transaction() as tx:
            await optout.stop(tx, [Suppressed(index, world.tenant_id, "R")])
            await erase.erase(tx, world.tenant_id, index)
            kept = await optout.about(tx, [world.tenant_id], index)
            assert [entry.kind for _, entry in kept] == [optout.OPT_OUT]
            assert (
                await consent.lacking(tx, world.tenant_id, [index]) == frozenset()
            )  # that they said so stays


async def test_an_erased_message_is_told_without_number_and_text(database: str) -> None:
    async with make.world(database) as world:
        waiting = await fill(world)
        snapshot = await make.snapshot(world)
        async with world.database.transaction() as tx:
            await erase.erase(tx, world.tenant_id, world.vault.phone_index(NUMBER))
            story = await lookup.one(tx, snapshot, world.vault, world.tenant_id, waiting)
        assert story is not None
        assert (story.number, story.text, story.price_micro) == (None, None, 45_000)


async def test_erasing_twice_is_erasing_once(database: str) -> None:
    async with make.world(database) as world:
        await fill(world)
        index = world.vault.phone_index(NUMBER)
        async with world.database.transaction() as tx:
            await erase.erase(tx, world.tenant_id, index)
            again = await erase.erase(tx, world.tenant_id, index)
        assert (again.messages, again.inbound, again.consents, again.complete) == (0, 0, 0, True)


async def test_a_number_with_very_many_messages_is_erased_in_steps(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "ROWS_MAX", 2)
    monkeypatch.setattr(erase, "ROUNDS_MAX", 2)
    async with make.world(database) as world:
        index = world.vault.phone_index(NUMBER)
        async with world.database.transaction() as tx:
            for _ in range(5):
                await make.message(tx, world, status=Status.DELIVERED)
            first = await erase.erase(tx, world.tenant_id, index)
            second = await erase.erase(tx, world.tenant_id, index)
        assert (first.messages, first.complete) == (4, False)
        assert (second.messages, second.complete) == (1, True)


async def test_every_table_that_keeps_a_person_is_known_to_erasure(database: str) -> None:
    async with make.world(database) as world:
        rows = await world.database.fetch(
            "SELECT DISTINCT c.table_name AS name FROM information_schema.columns c"
            " WHERE c.table_schema = 'public' AND c.column_name = 'phone_index'"
        )
        names = {row["name"] for row in rows if not row["name"].startswith("message_")}
        assert names - EMPTIED - INDEX_ONLY - ABOVE - PASSING == set()


# ---- evidence


def word(world: World, *, given: bool, scope: str, minutes: int) -> Said:
    return Said(
        tenant_id=world.tenant_id, phone_index=world.vault.phone_index(NUMBER), given=given, scope=scope, source="form",
        at=datetime.now(UTC) + timedelta(minutes=minutes), proof=Proof(number=NUMBER),
    )  # fmt: skip


async def test_the_last_word_about_a_scope_counts_and_a_word_about_all_is_about_each(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        index = world.vault.phone_index(NUMBER)
        steps = [
            ("promotional", True, True),
            ("*", False, False),
            ("news", True, False),
            ("promotional", True, True),
        ]
        for minute, (scope, given, holds) in enumerate(steps):
            await consent.append(tx, world.vault, [word(world, given=given, scope=scope, minutes=minute)])
            assert (await consent.lacking(tx, world.tenant_id, [index]) == frozenset()) is holds, scope
        standing = {one.scope: one.given for one in await consent.standing(tx, world.tenant_id, index)}
        assert standing == {"promotional": True, "*": False, "news": True}


async def test_who_never_consented_is_lacking(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await consent.append(tx, world.vault, [word(world, given=True, scope="promotional", minutes=0)])
        index, other = world.vault.phone_index(NUMBER), world.vault.phone_index("+8613900139000")
        assert await consent.lacking(tx, world.tenant_id, [index, other]) == {other}


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2026-03-02T09:00:00+08:00", "2026-03-23T09:00:00+08:00"),  # a Monday
        ("2026-03-06T23:00:00+08:00", "2026-03-27T23:00:00+08:00"),  # a Friday
        ("2026-03-07T09:00:00+08:00", "2026-03-27T09:00:00+08:00"),  # a Saturday
        ("2026-03-06T17:00:00+00:00", "2026-03-27T01:00:00+08:00"),  # still Friday in London
    ],
)
def test_an_answer_is_owed_within_fifteen_working_days(received: str, due: str) -> None:
    assert complaint.due_at(datetime.fromisoformat(received)) == datetime.fromisoformat(due)


async def test_what_is_sealed_of_a_word_is_msgpack_that_names_the_person(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await consent.append(tx, world.vault, [word(world, given=True, scope="promotional", minutes=0)])
        sealed = await tx.fetchval("SELECT sealed FROM consent")
        assert msgspec.msgpack.decode(world.vault.unseal(world.tenant_id, sealed)) == {"number": NUMBER}
