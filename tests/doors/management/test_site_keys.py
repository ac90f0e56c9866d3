"""Site keys: who makes them, what they are bound to, and that each process hears of it."""

from typing import Any, Final

import pytest

from doors.management.desk import Desk, desk
from hongyan.control import site_keys
from hongyan.control.permissions import Role

SHOP: Final = "https://shop.example.com"


async def make_one(one: Desk, **fields: Any) -> Any:
    body = {"origins": [SHOP], **fields}
    return await one.ask("POST", f"/v1/apps/{one.world.app_id}/site-keys", body, as_=Role.DEVELOPER)


async def test_a_site_key_is_made_shown_changed_and_removed(database: str) -> None:
    async with desk(database) as one:
        made = await make_one(one, name="shop", scenes=["login"])
        assert made.status == 201, made.body
        row = made.json["data"]
        assert row["key_id"].startswith("hys_")
        assert (row["active"], row["sandbox"], row["scenes"], row["origins"]) == (
            True,
            False,
            ["login"],
            [SHOP],
        )
        path = f"/v1/site-keys/{row['id']}"
        assert (await one.ask("GET", path, as_=Role.OWNER)).json["data"] == row
        listed = await one.ask("GET", f"/v1/site-keys?app_id={one.world.app_id}", as_=Role.OWNER)
        assert listed.json["data"]["items"] == [row]
        await one.served.keeper.load()
        held = one.served.keeper.current.site_keys[row["key_id"]]
        assert (held.key.app_id, held.key.tenant.id) == (one.world.app_id, one.world.tenant_id)
        assert not held.key.scopes
        changed = await one.ask("PATCH", path, {"active": False, "scenes": ["bind"]}, as_=Role.DEVELOPER)
        assert changed.json["data"] == {**row, "active": False, "scenes": ["bind"]}
        await one.served.keeper.load()
        assert row["key_id"] not in one.served.keeper.current.site_keys
        removed = await one.ask("DELETE", path, as_=Role.DEVELOPER)
        assert removed.status == 200, removed.body
        assert (await one.ask("GET", path, as_=Role.OWNER)).status == 404
        actions = [row["action"] for row in await one.fetch("SELECT action FROM audit ORDER BY seq")]
        assert actions == ["createSiteKey", "changeSiteKey", "removeSiteKey"]


async def test_origins_are_kept_as_browsers_write_them(database: str) -> None:
    async with desk(database) as one:
        written = ["https://shop.example.com:443/", "https://SHOP.example.com", "http://localhost:5000", "http://127.0.0.1:80",
                   "http://[::1]:5000", "https://xn--fsq.example:8443"]  # fmt: skip
        made = await make_one(one, origins=written)
        assert made.json["data"]["origins"] == [
            SHOP, "http://localhost:5000", "http://127.0.0.1", "http://[::1]:5000", "https://xn--fsq.example:8443",
        ]  # fmt: skip


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.example.com",
        "http://shop.example.com",
        "shop.example.com",
        "https://shop.example.com/login",
        "https://shop.example.com?a",
        "https://shop.example.com#a",
        "https://user@shop.example.com",
        "https://shop.example.com:0",
        "https://shop.example.com:99999",
        "https://商店.example",
        "https://a b.example",
        "https://shop.example.com\\@evil.example",
        "javascript:alert(1)",
        "https://",
        "",
    ],
)
async def test_what_is_no_origin_is_refused(database: str, origin: str) -> None:
    async with desk(database) as one:
        made = await make_one(one, origins=[origin])
        assert (made.status, made.code) == (400, "Request.InvalidParameter"), made.body


@pytest.mark.parametrize(
    "fields",
    [
        {"origins": []},
        {"origins": [f"https://{n}.example" for n in range(site_keys.ORIGINS_MAX + 1)]},
        {"scenes": []},
        {"scenes": ["pay"]},
        {"scenes": ["other"]},
        {"name": "a\nb\x00"},
        {"return_addresses": ["http://shop.example.com/back"]},
        {"return_addresses": ["https://shop.example.com/back#x"]},
        {"return_addresses": ["javascript:alert(1)"]},
        {"return_addresses": ["https://shop.example.com/ back"]},
        {
            "return_addresses": [
                f"https://shop.example.com/{n}" for n in range(site_keys.RETURN_ADDRESSES_MAX + 1)
            ]
        },
    ],
    ids=str,
)
async def test_what_a_site_key_cannot_have_is_refused(database: str, fields: dict[str, Any]) -> None:
    async with desk(database) as one:
        made = await make_one(one, **fields)
        assert (made.status, made.code) == (400, "Request.InvalidParameter"), made.body


async def test_an_app_has_so_many_site_keys_and_no_more(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            for _ in range(site_keys.SITE_KEYS_MAX):
                await site_keys.create(tx, one.world.app_id, origins=[SHOP])
        assert (await make_one(one)).code == "Request.Conflict"


async def test_an_app_that_is_off_has_no_site_key_that_works(database: str) -> None:
    async with desk(database) as one:
        made = (await make_one(one)).json["data"]
        await one.ask("PATCH", f"/v1/apps/{one.world.app_id}", {"active": False}, as_=Role.OWNER)
        assert (await one.served.keeper.load()).site_keys == {}
        seen = await one.ask("GET", f"/v1/site-keys/{made['id']}", as_=Role.OWNER)
        assert seen.json["data"]["active"] is False
