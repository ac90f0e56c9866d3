"""A person's verifications are told whole and forgotten whole, with the limits of the number."""

from typing import Any

import msgspec

import make
from hongyan.control import persons
from hongyan.otp.lookup import one as look_up
from hongyan.otp.persons import ROOM
from hongyan.vault import VaultError
from hongyan.vocab.verification import Scene, State
from otp.asking import Asking, asking

OTHER = "+8613900139000"
DEVICE = "browser-1"


async def readable(one: Asking, number: str) -> set[str]:
    """Return the tables in which the number can be read, opening whatever opens."""
    found, tenant_id = set[str](), one.world.tenant_id
    names = await one.database.fetch(
        "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname = 'public'"
    )
    for (name,) in names:
        for row in await one.database.fetch(f"SELECT * FROM {name}"):
            for value in row.values():
                if number[3:] in str(value) or number[3:].encode() in opened(one, tenant_id, value):
                    found.add("message" if name.startswith("message_") else name)
    return found


def opened(one: Asking, tenant_id: int, value: Any) -> bytes:
    if not isinstance(value, bytes):
        return b""
    try:
        return one.world.vault.unseal(tenant_id, value)
    except VaultError:
        return value


async def told(one: Asking, number: str) -> Any:
    pieces = persons.export(one.database, one.world.vault, one.world.tenant_id, number, (ROOM,))
    return msgspec.json.decode(b"".join([piece async for piece in pieces]))


async def test_an_export_tells_a_persons_verifications_and_no_code(database: str) -> None:
    async with asking(database) as one:
        mine = await one.start(device=DEVICE, reference="r-1")
        await one.start(OTHER)
        export = await told(one, make.NUMBER)
        (row,) = export["verifications"]
        assert (row["id"], row["scene"], row["state"]) == (str(mine.id), "login", "pending")
        assert (row["number"], row["params"]) == (make.NUMBER, {"minutes": "5"})
        assert not {"code", "mac", "sealed", "phone_index"} & row.keys()


async def test_after_an_erasure_nothing_opens_to_the_number_and_no_code_is_good(database: str) -> None:
    async with asking(database) as one:
        started = await one.start(device=DEVICE)
        code = await one.code(started.id)
        done = await one.start(scene=Scene.RESET)
        await one.check(done.id, await one.code(done.id))
        other = await one.start(OTHER, device="browser-2")
        assert await readable(one, make.NUMBER) == {"message", "verification"}
        async with one.database.transaction() as tx:
            forgotten, _ = await persons.forget(
                tx, one.world.vault, one.world.tenant_id, make.NUMBER, (ROOM,)
            )
        assert forgotten.besides == {"verifications": 2}
        assert await readable(one, make.NUMBER) == set()
        assert not (await one.check(started.id, code)).valid
        assert [(await one.row(each.id))["state"] for each in (started, done)] == [
            State.CANCELED.number,
            State.APPROVED.number,
        ]
        assert (await one.check(other.id, await one.code(other.id))).valid
        assert await readable(one, OTHER) == {"message", "verification"}


async def test_after_an_erasure_the_tenant_knows_nothing_of_how_often_the_number_asked(database: str) -> None:
    async with asking(database) as one:
        started = await one.start(device=DEVICE)
        await one.check(started.id, await one.wrong(started.id))
        await one.check(started.id, await one.code(started.id))
        (before,) = await one.database.fetch("SELECT count(*) AS rows FROM otp_limit")
        async with one.database.transaction() as tx:
            await ROOM.forget(
                tx, one.world.vault, one.world.tenant_id, one.world.vault.phone_index(make.NUMBER)
            )
        (after,) = await one.database.fetch("SELECT count(*) AS rows FROM otp_limit")
        # In this scene, wrong codes, this device with it; what is left is the device and what holds over all tenants.
        assert before["rows"] - after["rows"] == 3


async def test_an_erased_verification_is_told_without_a_number_and_counted_like_any(database: str) -> None:
    async with asking(database) as one:
        started = await one.start()
        async with one.database.transaction() as tx:
            await persons.forget(tx, one.world.vault, one.world.tenant_id, make.NUMBER, (ROOM,))
            snapshot = await make.snapshot(one.world)
            story = await look_up(
                tx, snapshot, one.world.vault, one.world.tenant_id, started.id, one.clock.now_s
            )
        assert (story.to, story.status) == (None, State.CANCELED)
        assert (await one.ripen())[1] == 1
