"""Who may reach what, and what the frame around every management function does."""

import make
from doors.counter import ask, basic
from doors.management.desk import FOREIGN, KEY, NOBODY, desk
from hongyan.control.permissions import Role
from hongyan.doors.callers import COOKIE


async def test_a_person_sees_the_messages_of_his_tenant_and_no_others(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            await make.message(tx, one.world)
        own = await one.ask("GET", "/v1/messages", as_=Role.VIEWER)
        assert (own.status, len(own.json["data"]["items"])) == (200, 1)
        foreign = await one.ask("GET", "/v1/messages", as_=FOREIGN)
        assert foreign.json["data"]["items"] == []


async def test_people_of_the_platform_say_whose_messages_they_mean(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            await make.message(tx, one.world)
        unsaid = await one.ask("GET", "/v1/messages", as_=Role.SUPPORT)
        assert (unsaid.status, unsaid.code) == (400, "Request.MissingParameter")
        said = await one.ask("GET", f"/v1/messages?tenant_id={one.world.tenant_id}", as_=Role.SUPPORT)
        assert len(said.json["data"]["items"]) == 1
        for wrong in ("0", "999", "x", "1&tenant_id=2", "99999999999999999999"):
            refused = await one.ask("GET", f"/v1/messages?tenant_id={wrong}", as_=Role.SUPPORT)
            assert refused.status in (400, 404), wrong


async def test_a_tenant_may_not_name_another(database: str) -> None:
    async with desk(database) as one:
        for who in (Role.OWNER, KEY):
            refused = await one.ask("GET", f"/v1/messages?tenant_id={one.foreign_id}", as_=who)
            assert (refused.status, refused.code) == (400, "Request.InvalidParameter")


async def test_a_role_without_the_permission_is_refused_by_name(database: str) -> None:
    async with desk(database) as one:
        refused = await one.ask("GET", f"/v1/messages?tenant_id={one.world.tenant_id}", as_=Role.FINANCE)
        assert (refused.status, refused.code) == (403, "Auth.PermissionDenied")
        assert refused.json["detail"] == {"needs": "messages.read"}


async def test_a_key_may_what_its_scopes_say(database: str) -> None:
    async with desk(database) as one:
        async with one.database.transaction() as tx:
            mute = await make.app_key(tx, one.world.vault, app_id=one.world.app_id, scopes=["messages.read"])
        await one.served.keeper.load()
        head = {"Authorization": basic(mute)}
        assert (await ask(one.port, "GET", "/v1/messages", headers=head)).status == 200
        assert (await ask(one.port, "GET", "/v1/balance", headers=head)).code == "Auth.PermissionDenied"
        sent = await ask(one.port, "POST", "/v1/messages", {"to": "+8613800138000"}, head)
        assert (sent.status, sent.code) == (403, "Auth.PermissionDenied")


async def test_what_is_owed_to_an_app_is_for_its_keys_alone(database: str) -> None:
    async with desk(database) as one:
        assert (await one.ask("GET", "/v1/reports", as_=Role.OWNER)).code == "Auth.PermissionDenied"
        assert (await one.ask("GET", "/v1/reports", as_=KEY)).status == 200


async def test_nobody_and_an_ended_sign_in_are_told_apart(database: str) -> None:
    async with desk(database) as one:
        assert (await one.ask("GET", "/v1/messages", as_=NOBODY)).code == "Auth.Missing"
        stale = await ask(one.port, "GET", "/v1/messages", headers={"Cookie": f"{COOKIE}=abc"})
        assert (stale.status, stale.code) == (401, "Auth.SignInEnded")
        bearer = await ask(one.port, "GET", "/v1/messages", headers={"Authorization": "Bearer hyt_abc"})
        assert (bearer.status, bearer.code) == (401, "Auth.SignInEnded")


async def test_a_page_of_another_site_cannot_change_anything_with_the_cookie(database: str) -> None:
    async with desk(database) as one:
        cookie = {"Cookie": f"{COOKIE}={one.tokens[Role.OWNER]}"}
        message = "/v1/messages/0193a0c0-0000-7000-8000-000000000000/cancel"
        refused = await ask(one.port, "POST", message, b"", cookie)
        assert (refused.status, refused.code) == (403, "Auth.PermissionDenied")
        assert (await ask(one.port, "POST", message, b"", cookie | {"Hongyan-Console": "1"})).status == 404


async def test_people_of_a_suspended_tenant_look_and_change_nothing(database: str) -> None:
    async with desk(database) as one:
        await one.database.execute("UPDATE tenant SET active = false WHERE id = $1", one.world.tenant_id)
        assert (await one.ask("GET", "/v1/messages", as_=Role.OWNER)).status == 200
        message = "/v1/messages/0193a0c0-0000-7000-8000-000000000000/cancel"
        assert (await one.ask("POST", message, as_=Role.OWNER)).code == "Account.Suspended"
