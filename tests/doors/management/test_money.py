"""Prices, the ledger, packages and bills over the API."""

import asyncio
from datetime import timedelta
from typing import Final

from doors.management.desk import desk
from hongyan import clock
from hongyan.control.permissions import Role

NEXT_YEAR: Final = f"{clock.now() + timedelta(days=300):%Y-%m-%dT00:00:00Z}"


async def test_a_tenant_sees_the_prices_that_count_for_it_and_no_others(database: str) -> None:
    async with desk(database) as one:
        for tenant_id in (one.world.tenant_id, one.foreign_id):
            price = {"part_micro": 1_000 + tenant_id, "country": "US", "tenant_id": tenant_id}
            assert (await one.ask("PUT", "/v1/prices", price, as_=Role.FINANCE)).status == 200
        seen = (await one.ask("GET", "/v1/prices", as_=Role.VIEWER)).json["data"]["items"]
        assert {row["tenant_id"] for row in seen} == {None, one.world.tenant_id}
        every = (await one.ask("GET", "/v1/prices", as_=Role.FINANCE)).json["data"]["items"]
        assert {row["tenant_id"] for row in every} == {None, one.world.tenant_id, one.foreign_id}


async def test_a_price_of_nobody_or_of_no_operator_is_refused(database: str) -> None:
    async with desk(database) as one:
        for wrong in ({"tenant_id": 999}, {"country": "CN", "operator": "nobody"}, {"operator": "cmcc"}):
            refused = await one.ask("PUT", "/v1/prices", {"part_micro": 1} | wrong, as_=Role.FINANCE)
            assert refused.status in (400, 404), wrong
        assert (await one.ask("DELETE", "/v1/prices?country=FR", as_=Role.FINANCE)).status == 404


async def test_a_top_up_stands_in_the_balance_the_ledger_and_the_audit(database: str) -> None:
    async with desk(database) as one:
        of = f"?tenant_id={one.world.tenant_id}"
        before = (await one.ask("GET", "/v1/balance", as_=Role.OWNER)).json["data"]["balance_micro"]
        topped = await one.ask(
            "POST", f"/v1/ledger/top-up{of}", {"amount_micro": 5, "note": "invoice 1"}, as_=Role.FINANCE
        )
        assert topped.json["data"]["balance_micro"] == before + 5
        (entry,) = (await one.ask("GET", "/v1/ledger?limit=1", as_=Role.OWNER)).json["data"]["items"]
        assert (entry["kind"], entry["amount_micro"], entry["note"]) == ("top_up", 5, "invoice 1")
        (row,) = await one.fetch("SELECT actor, action, subject, detail FROM audit")
        assert (row["action"], row["subject"]) == ("topUp", f"tenant:{one.world.tenant_id}")
        assert "finance@example.com" in row["actor"]


async def test_a_reference_is_booked_once_however_often_and_by_however_many_it_is_asked(
    database: str,
) -> None:
    async with desk(database) as one:
        of = f"?tenant_id={one.world.tenant_id}"
        body = {"amount_micro": 5, "reference": "invoice 1"}
        before = (await one.ask("GET", "/v1/balance", as_=Role.OWNER)).json["data"]["balance_micro"]
        asked = [one.ask("POST", f"/v1/ledger/top-up{of}", body, as_=Role.FINANCE) for _ in range(4)]
        assert sorted([reply.status for reply in await asyncio.gather(*asked)]) == [200, 409, 409, 409]
        package = {
            "name": "n", "parts": 1, "part_micro": 1, "paid_micro": 0, "expires_at": NEXT_YEAR,
            "reference": "invoice 1",
        }  # fmt: skip
        assert (await one.ask("POST", f"/v1/packages{of}", package, as_=Role.FINANCE)).status == 409
        assert (await one.ask("GET", "/v1/packages", as_=Role.VIEWER)).json["data"]["items"] == []
        correction = {"amount_micro": -1, "note": "x", "reference": "invoice 1"}
        assert (await one.ask("POST", f"/v1/ledger/correct{of}", correction, as_=Role.FINANCE)).status == 409
        after = (await one.ask("GET", "/v1/balance", as_=Role.OWNER)).json["data"]["balance_micro"]
        assert after == before + 5
        other = f"?tenant_id={one.foreign_id}"
        assert (await one.ask("POST", f"/v1/ledger/top-up{other}", body, as_=Role.FINANCE)).status == 200
        (entry,) = (await one.ask("GET", "/v1/ledger?limit=1", as_=Role.OWNER)).json["data"]["items"]
        assert entry["reference"] == "invoice 1"


async def test_a_correction_never_takes_a_balance_below_zero(database: str) -> None:
    async with desk(database) as one:
        of = f"?tenant_id={one.world.tenant_id}"
        wrong = {"amount_micro": -(10**15), "note": "oops"}
        refused = await one.ask("POST", f"/v1/ledger/correct{of}", wrong, as_=Role.FINANCE)
        assert (refused.status, refused.json["detail"]["parameter"]) == (400, "amount_micro")
        assert (await one.fetch("SELECT count(*) AS n FROM audit"))[0]["n"] == 0


async def test_the_ledger_is_paged(database: str) -> None:
    async with desk(database) as one:
        of = f"?tenant_id={one.world.tenant_id}"
        for number in range(5):
            await one.ask("POST", f"/v1/ledger/top-up{of}", {"amount_micro": 1 + number}, as_=Role.FINANCE)
        seen: list[int] = []
        cursor = ""
        while True:
            page = (await one.ask("GET", f"/v1/ledger?limit=2{cursor}", as_=Role.OWNER)).json["data"]
            seen += [row["id"] for row in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == sorted(set(seen), reverse=True)
        assert len(seen) == 6
        assert (await one.ask("GET", "/v1/ledger?cursor=x", as_=Role.OWNER)).status == 400


async def test_a_package_is_sold_and_shown_with_what_is_left(database: str) -> None:
    async with desk(database) as one:
        package = {
            "name": "notices", "parts": 100, "part_micro": 40_000, "paid_micro": 3_000_000,
            "expires_at": NEXT_YEAR,
        }  # fmt: skip
        sold = await one.ask(
            "POST", f"/v1/packages?tenant_id={one.world.tenant_id}", package, as_=Role.FINANCE
        )
        assert (sold.status, sold.json["data"]["left_micro"]) == (201, 4_000_000), sold.body
        assert len((await one.ask("GET", "/v1/packages", as_=Role.VIEWER)).json["data"]["items"]) == 1
        await one.ask("POST", f"/v1/packages?tenant_id={one.foreign_id}", package, as_=Role.FINANCE)
        assert len((await one.ask("GET", "/v1/packages", as_=Role.VIEWER)).json["data"]["items"]) == 1
        page = (await one.ask("GET", "/v1/packages?limit=1", as_=Role.FINANCE)).json["data"]
        rest = (await one.ask("GET", f"/v1/packages?cursor={page['next']}", as_=Role.FINANCE)).json["data"]
        tenants = [row["tenant_id"] for row in (*page["items"], *rest["items"])]
        assert (tenants, rest["next"]) == ([one.foreign_id, one.world.tenant_id], None)


async def test_a_bill_is_handed_in_and_a_broken_one_keeps_nothing(database: str) -> None:
    async with desk(database) as one:
        path = f"/v1/channels/{one.world.channel_id}/bills?name=March"
        good = await one.ask("POST", path, "日期,条数\n2026-03-01,5\n".encode(), as_=Role.FINANCE)
        assert (good.status, good.json["data"]["lines"][0]["difference_parts"]) == (201, 5), good.body
        assert (await one.ask("POST", path, b"\x00\x01", as_=Role.FINANCE)).status == 400
        assert (
            await one.ask(
                "POST", "/v1/channels/99/bills?name=x", b"day,parts\n2026-03-01,1\n", as_=Role.FINANCE
            )
        ).status == 404
        bills = (await one.ask("GET", "/v1/bills", as_=Role.FINANCE)).json["data"]["items"]
        assert [bill["name"] for bill in bills] == ["March"]
        assert (await one.ask("GET", f"/v1/bills/{bills[0]['id']}", as_=Role.FINANCE)).status == 200
