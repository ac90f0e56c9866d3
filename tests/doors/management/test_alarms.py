"""Alarms over the API: the platform sees all, a tenant its own."""

from doors.management.desk import FOREIGN, desk
from hongyan.control.permissions import Role

RULE = {"kind": "balance", "name": "low", "threshold": 1e9}


async def test_a_tenants_rule_is_its_own(database: str) -> None:
    async with desk(database) as one:
        made = await one.ask("POST", "/v1/alarm-rules", RULE, as_=Role.OWNER)
        assert made.status == 201, made.body
        rule = made.json["data"]["rule"]
        assert rule["tenant_id"] == one.world.tenant_id
        path = f"/v1/alarm-rules/{rule['id']}"
        for method, body in (("PATCH", {"threshold": 2.0}), ("DELETE", b"")):
            assert (await one.ask(method, path, body, as_=FOREIGN)).status == 404
        assert rule["id"] not in [
            row["id"] for row in (await one.ask("GET", "/v1/alarm-rules", as_=FOREIGN)).json["data"]["items"]
        ]
        changed = await one.ask("PATCH", path, {"threshold": 2.0, "active": False}, as_=Role.DEVELOPER)
        assert (changed.json["data"]["threshold"], changed.json["data"]["active"]) == (2.0, False)
        assert (await one.ask("DELETE", path, as_=Role.OWNER)).status == 200


async def test_what_only_the_platform_may_watch_is_refused_to_tenants(database: str) -> None:
    async with desk(database) as one:
        refused = await one.ask("POST", "/v1/alarm-rules", RULE | {"kind": "backlog"}, as_=Role.OWNER)
        assert (refused.status, refused.json["detail"]["parameter"]) == (400, "kind")
        assert (await one.ask("POST", "/v1/alarm-rules", RULE | {"kind": "backlog"})).status == 201


async def test_a_webhook_s_secret_is_shown_once_and_private_addresses_are_refused(database: str) -> None:
    async with desk(database) as one:
        hooked = RULE | {"webhook_url": "https://hooks.example.com/alarms"}
        made = await one.ask("POST", "/v1/alarm-rules", hooked)
        assert made.json["data"]["secret"]
        listed = await one.ask("GET", "/v1/alarm-rules")
        assert made.json["data"]["secret"].encode() not in listed.body
        refused = await one.ask("POST", "/v1/alarm-rules", RULE | {"webhook_url": "http://169.254.169.254/"})
        assert (refused.status, refused.json["detail"]["parameter"]) == (400, "webhook_url")


async def test_fields_nobody_may_set_are_refused(database: str) -> None:
    async with desk(database) as one:
        for field in ("id", "tenant_id", "sealed", "created_at"):
            assert (await one.ask("POST", "/v1/alarm-rules", RULE | {field: 1}, as_=Role.OWNER)).status == 400


async def test_rules_are_paged(database: str) -> None:
    async with desk(database) as one:
        seen: list[int] = []
        cursor = ""
        while True:
            page = (await one.ask("GET", f"/v1/alarm-rules?limit=3{cursor}")).json["data"]
            seen += [row["id"] for row in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == sorted(set(seen))
        assert len(seen) == 11
