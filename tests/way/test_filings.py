"""Where channels demand filings, only signatures that are filed at the number's operator go there, up to the last moment."""

from typing import Final

import pytest

import make
from hongyan import db
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, Status
from hongyan.way.snapshot import Keeper
from plane import Plane, books_balance, plane

NUMBER: Final = "13800138000"  # China Mobile's
QUICK: Final = "report_delay_s=0.01"


async def demand(way: Plane, *channels: ChannelId) -> None:
    await way.database.execute("UPDATE channel SET filing_demanded = id = ANY($1::int[])", list(channels))
    await way.keeper.load()


async def file(way: Plane, state: str = "ok", operator: str = "cmcc") -> None:
    """Whatever it was: the signature's filing is so now."""
    await way.database.execute(
        """INSERT INTO filing (signature_id, operator, state, changed_by) SELECT id, $2, $1, 'test' FROM signature
           ON CONFLICT (signature_id, operator) DO UPDATE SET state = EXCLUDED.state""",
        state,
        operator,
    )
    await way.keeper.load()


async def test_what_is_not_filed_goes_by_another_channel_until_it_is(database: str) -> None:
    async with (
        Simulator(behaviour.parse(QUICK)) as strict,
        Simulator(behaviour.parse(QUICK)) as lax,
        plane(database, strict, lax) as way,
    ):
        await way.up(2)
        await demand(way, way.laid.channels[0])
        row = await way.final(await way.send(NUMBER))
        assert row["channel_id"] == way.laid.channels[1]
        await file(way)
        row = await way.final(await way.send(NUMBER))
        assert row["channel_id"] == way.laid.channels[0]
        await file(way, "lapsed")
        row = await way.final(await way.send(NUMBER))
        assert row["channel_id"] == way.laid.channels[1]
        # Traces are stored beside the way.
        await way.until("""SELECT FROM decision WHERE trace::text LIKE '%"not filed"%'""")


async def test_what_no_channel_may_carry_is_refused_at_acceptance_and_says_where_it_is_not_filed(
    database: str,
) -> None:
    async with Simulator(behaviour.parse(QUICK)) as simulator, plane(database, simulator) as way:
        await demand(way, *way.laid.channels)
        await file(way, operator="unicom")
        (refused,) = await way.accept(way.draft(NUMBER))
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.detail) == (Code.SIGN_NOT_REGISTERED, {"operator": "cmcc"})
        assert await way.send("13000130000")  # China Unicom's


async def test_a_number_that_has_moved_to_another_operator_needs_a_filing_there(database: str) -> None:
    async with Simulator(behaviour.parse(QUICK)) as simulator, plane(database, simulator) as way:
        await file(way)
        async with way.database.transaction() as tx:
            values = {
                "phone_index": way.vault.phone_index("+8613800138000"),
                "operator": "telecom",
                "source": "operator",
            }
            await make._insert(tx, "number_override", values)
        await demand(way, *way.laid.channels)
        (refused,) = await way.accept(way.draft(NUMBER))
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.detail) == (Code.SIGN_NOT_REGISTERED, {"operator": "telecom"})


async def test_a_filing_that_the_door_has_read_and_the_gateway_not_yet_is_waited_for(database: str) -> None:
    async with Simulator(behaviour.parse(QUICK)) as simulator, plane(database, simulator) as way:
        await way.up()
        await demand(way, *way.laid.channels)
        late = Keeper(way.database, way.vault)
        await late.load()
        way.gateway.lanes._keeper = way.gateway.pump._keeper = late  # as those of another process
        await file(way)
        message_id = await way.send(NUMBER)
        await way.holds(lambda: any(way.gateway.waiting()))
        await late.load()
        assert (await way.final(message_id))["status"] == Status.DELIVERED.number


@pytest.mark.parametrize("demanded_before", [True, False])
async def test_a_filing_that_lapses_while_a_message_waits_ends_it_and_gives_the_money_back(
    database: str, demanded_before: bool
) -> None:
    async with Simulator(behaviour.parse(QUICK)) as simulator, plane(database, simulator) as way:
        await way.up()
        await way.database.execute("UPDATE channel SET paused = true")
        await file(way)
        if demanded_before:
            await demand(way, *way.laid.channels)
        await way.holds(lambda: not any(line.up for line in way.gateway.lines.open.values()))
        message_id = await way.send(NUMBER)
        await way.holds(lambda: any(way.gateway.waiting()))
        await file(way, "lapsed")
        if not demanded_before:
            await demand(way, *way.laid.channels)
        row = await way.final(message_id)
        assert (row["status"], row["cause"]) == (Status.REFUSED.number, Cause.SIGN_UNREGISTERED.number)
        assert row["refund_micro"] == row["price_micro"]
        assert simulator.phone("86" + NUMBER) == []
        await books_balance(way.database)


async def test_messages_that_waited_when_filings_were_first_demanded_still_leave_where_they_are_filed(
    database: str,
) -> None:
    async with Simulator(behaviour.parse(QUICK)) as simulator, plane(database, simulator) as way:
        await way.up()
        await file(way)
        await way.database.execute("UPDATE channel SET paused = true")
        await way.keeper.load()
        await way.holds(lambda: not any(line.up for line in way.gateway.lines.open.values()))
        ids = [await way.send(f"1380013800{n}") for n in range(5)]
        await demand(way, *way.laid.channels)
        await way.database.execute("UPDATE channel SET paused = false")
        await way.keeper.load()
        for message_id in ids:
            assert (await way.final(message_id))["status"] == Status.DELIVERED.number


# ---- digits of its own at a channel


async def extend(way: Plane, channel_id: ChannelId, extension: str) -> None:
    async with way.database.transaction() as tx:
        await _extend(tx, channel_id, extension)
    await way.keeper.load()


async def _extend(tx: db.Tx, channel_id: ChannelId, extension: str, signature_id: int = 0) -> None:
    signature_id = signature_id or await tx.fetchval("SELECT min(id) FROM signature")
    values = {"channel_id": channel_id, "signature_id": signature_id, "extension": extension}
    await make._insert(tx, "signature_extension", values)


async def test_a_signature_s_own_digits_at_a_channel_stand_in_place_of_its_general_ones(
    database: str,
) -> None:
    async with (
        Simulator(behaviour.parse(QUICK)) as one,
        Simulator(behaviour.parse(QUICK)) as other,
        plane(database, one, other) as way,
    ):
        await way.up(2)
        await way.database.execute("UPDATE signature SET extension = '88'")
        await extend(way, way.laid.channels[0], "0012")
        way.key = way.keeper.current.keys[way.laid.key_id]  # a door looks it up at each request
        number = "8613800138000"
        await way.final(await way.send(NUMBER))
        await way.final(await way.send(NUMBER, extension="5"))
        assert [text.sender for text in one.phone(number)] == ["10690012", "106900125"]
        await way.database.execute("UPDATE route_rule SET weight = 0 WHERE priority = 0")
        await way.keeper.load()
        await way.final(await way.send(NUMBER, extension="5"))
        assert [text.sender for text in other.phone(number)] == ["1069885"]
