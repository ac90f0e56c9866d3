"""What persons texted, as people read it: masked, named, narrowed, and of nobody else's."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import make
from doors.management.desk import FOREIGN, KEY, desk
from hongyan.control.permissions import Role
from hongyan.vocab.message import Status

OTHER = "+8613900139000"


async def found(d: Any, as_: Any = Role.VIEWER, **query: Any) -> list[str]:
    reply = await d.ask("GET", f"/v1/inbound-texts?{urlencode(query)}", as_=as_)
    assert reply.status == 200, reply.json
    return [row["text"] for row in reply.json["data"]["items"]]


async def lay(d: Any) -> str:
    async with d.database.transaction() as tx:
        message_id = await make.message(tx, d.world, status=Status.DELIVERED)
        await make.inbound(tx, d.world, text="好的", message_id=message_id)
        await make.inbound(tx, d.world, text="退订", opt_out=True)
        await make.inbound(tx, d.world, text="另一个人", number=OTHER)
        await make.inbound(tx, d.world, text="没有人的", tenant_id=0, app_id=0)
    return str(message_id)


async def test_a_person_reads_masked_numbers_and_a_program_whole_ones(database: str) -> None:
    async with desk(database) as d:
        await lay(d)
        (row,) = (await d.ask("GET", "/v1/inbound-texts?opt_out=true", as_=Role.VIEWER)).json["data"]["items"]
        assert (row["number"], row["opt_out"], row["access_number"]) == ("+86138****8000", True, "1069")
        assert (row["tenant_id"], row["app_id"]) == (d.world.tenant_id, d.world.app_id)
        assert row["app"]
        assert row["channel"]
        (row,) = (await d.ask("GET", "/v1/inbound-texts?opt_out=true", as_=KEY)).json["data"]["items"]
        assert row["number"] == make.NUMBER


async def test_each_filter_leaves_what_it_says(database: str) -> None:
    async with desk(database) as d:
        message_id = await lay(d)
        assert await found(d) == ["另一个人", "退订", "好的"]
        assert await found(d, number="13900139000") == ["另一个人"]
        assert await found(d, message_id=message_id) == ["好的"]
        assert await found(d, app_id=d.world.app_id, opt_out="false") == ["另一个人", "好的"]
        assert await found(d, app_id=d.world.app_id + 1) == []
        hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        assert await found(d, to=hour_ago) == []
        assert len(await found(d, **{"from": hour_ago})) == 3


async def test_pages_lead_to_every_text_once(database: str) -> None:
    async with desk(database) as d:
        await lay(d)
        first = (await d.ask("GET", "/v1/inbound-texts?limit=2", as_=Role.VIEWER)).json["data"]
        assert len(first["items"]) == 2
        assert await found(d, limit=2, cursor=first["next"]) == ["好的"]


async def test_a_tenant_sees_its_own_and_the_platform_all_and_nobodys(database: str) -> None:
    async with desk(database) as d:
        message_id = await lay(d)
        assert await found(d, FOREIGN) == []
        assert await found(d, FOREIGN, number=OTHER) == []
        assert await found(d, FOREIGN, message_id=message_id) == []
        assert await found(d, Role.OPERATOR) == ["没有人的", "另一个人", "退订", "好的"]
        assert await found(d, Role.OPERATOR, number=OTHER) == ["另一个人"]
        assert await found(d, Role.OPERATOR, tenant_id=d.foreign_id) == []


async def test_a_span_that_is_too_long_wants_a_number(database: str) -> None:
    async with desk(database) as d:
        await lay(d)
        year_ago = (datetime.now(UTC) - timedelta(days=300)).isoformat()
        for query, parameter in (
            ({"from": year_ago}, "from"),
            ({"cursor": "zz"}, "cursor"),
            ({"from": "0001-01-01T00:00:00Z"}, "from"),
        ):
            reply = await d.ask("GET", f"/v1/inbound-texts?{urlencode(query)}", as_=Role.VIEWER)
            assert (reply.status, reply.json["detail"]["parameter"]) == (400, parameter)
        assert await found(d, number=OTHER, **{"from": year_ago}) == ["另一个人"]
        unnamed = await d.ask("GET", f"/v1/inbound-texts?message_id={d.foreign_id:032x}", as_=Role.OPERATOR)
        assert unnamed.json["detail"]["parameter"] == "message_id"


async def test_an_erased_person_has_no_words_left(database: str) -> None:
    async with desk(database) as d:
        async with d.database.transaction() as tx:
            await make.inbound(tx, d.world, sealed=None)
        (row,) = (await d.ask("GET", "/v1/inbound-texts", as_=Role.VIEWER)).json["data"]["items"]
        assert (row["number"], row["text"]) == (None, None)
