"""People are let in, changed and taken out within the reach of whoever does it; and nobody rises by it."""

import asyncio
from typing import Any

import pytest

from doors.counter import Reply, ask
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan.control.permissions import GRANTED, PLATFORM_ROLES, TENANT_ROLES, Permission, Role

PASSWORD = "seven quiet herons"


async def invite(
    d: Desk, role: str, as_: Any = Role.OWNER, *, email: str = "new@example.com", query: str = ""
) -> Reply:
    return await d.ask("POST", f"/v1/invitations{query}", {"email": email, "role": role}, as_=as_)


async def accept(d: Desk, token: str, **said: Any) -> Reply:
    body = {"token": token, "name": "New", "password": PASSWORD} | said
    return await ask(d.port, "POST", "/v1/invitations/accept", body)


async def test_who_is_invited_becomes_what_the_invitation_says(database: str) -> None:
    async with desk(database) as d:
        made = (await invite(d, "developer")).json["data"]
        (listed,) = (await d.ask("GET", "/v1/invitations", as_=Role.OWNER)).json["data"]["items"]
        assert (listed["email"], listed["role"], listed["tenant_id"]) == (
            "new@example.com",
            "developer",
            d.world.tenant_id,
        )
        assert "token" not in listed
        reply = await accept(d, made["token"])
        assert reply.status == 201
        user = reply.json["data"]
        assert (user["email"], user["role"], user["tenant_id"]) == (
            "new@example.com",
            "developer",
            d.world.tenant_id,
        )
        signed_in = await ask(
            d.port, "POST", "/v1/sign-in", {"email": "NEW@example.com", "password": PASSWORD}
        )
        assert signed_in.status == 200
        assert (await accept(d, made["token"])).status == 404
        page = (await d.ask("GET", "/v1/audit?action=acceptInvitation", as_=Role.OWNER)).json["data"]
        assert [row["subject"] for row in page["items"]] == [f"user:{user['id']}"]
        assert made["token"] not in str(await d.fetch("SELECT detail FROM audit"))


@pytest.mark.parametrize(
    "said",
    [{"role": "owner"}, {"tenant_id": None}, {"email": "other@example.com"}, {"active": True}, {"id": 1}],
)
async def test_who_accepts_says_nothing_of_what_they_become(database: str, said: dict[str, Any]) -> None:
    async with desk(database) as d:
        made = (await invite(d, "viewer")).json["data"]
        assert (await accept(d, made["token"], **said)).status == 400
        assert (await accept(d, made["token"])).json["data"]["role"] == "viewer"


async def test_an_invitation_accepted_in_vain_can_still_be_accepted(database: str) -> None:
    async with desk(database) as d:
        made = (await invite(d, "viewer", email="newcomer@example.com")).json["data"]
        for password in ("password1234", "x" * 11, "x" * 12, "long-but-newcomer@example"):
            reply = await accept(d, made["token"], password=password)
            assert reply.status == 400, password
        assert (await accept(d, made["token"])).status == 201


async def test_an_invitation_ends_by_revocation_by_time_and_with_its_inviter(database: str) -> None:
    async with desk(database) as d:
        revoked = (await invite(d, "viewer")).json["data"]
        assert (await d.ask("DELETE", f"/v1/invitations/{revoked['id']}", as_=FOREIGN)).status == 404
        assert (await d.ask("DELETE", f"/v1/invitations/{revoked['id']}", as_=Role.OWNER)).status == 200
        assert (await accept(d, revoked["token"])).status == 404
        late = (await invite(d, "viewer")).json["data"]
        await d.fetch("UPDATE invitation SET expires_at = now() WHERE id = $1", late["id"])
        assert (await accept(d, late["token"])).status == 404
        orphan = (await invite(d, "owner")).json["data"]
        await d.fetch("UPDATE console_user SET role = 'viewer' WHERE id = $1", d.users[Role.OWNER])
        assert (await accept(d, orphan["token"])).status == 404
        assert (await accept(d, "hyi_" + "x" * 43)).status == 404


async def test_two_who_accept_one_invitation_at_once_are_one(database: str) -> None:
    async with desk(database) as d:
        made = (await invite(d, "viewer")).json["data"]
        replies = await asyncio.gather(*(accept(d, made["token"]) for _ in range(3)))
        assert sorted(reply.status for reply in replies) == [201, 404, 404]


async def test_an_email_belongs_to_one_person_and_that_of_others_is_not_told(database: str) -> None:
    async with desk(database) as d:
        assert (await invite(d, "viewer", email="Viewer@Example.com")).code == "Request.Conflict"
        made = await invite(d, "viewer", email="foreign@example.com")
        assert made.status == 201
        assert (await accept(d, made.json["data"]["token"])).code == "Request.Conflict"


async def reset(d: Desk, who: Any, as_: Any = Role.OWNER, **said: bool) -> Reply:
    return await d.ask("POST", f"/v1/users/{d.users[who]}/reset", said, as_=as_)


async def test_who_forgot_the_password_is_let_choose_another_and_signed_out_elsewhere(database: str) -> None:
    async with desk(database) as d:
        void = (await reset(d, Role.VIEWER)).json["data"]
        made = (await reset(d, Role.VIEWER)).json["data"]
        assert (await accept(d, void["token"])).status == 404, "the second voids the first"
        assert (await d.ask("GET", "/v1/me", as_=Role.VIEWER)).status == 200, "nothing has happened yet"
        user = (await accept(d, made["token"])).json["data"]
        assert (user["id"], user["name"], user["role"]) == (
            d.users[Role.VIEWER],
            "viewer@example.com",
            "viewer",
        )
        assert (await d.ask("GET", "/v1/me", as_=Role.VIEWER)).status == 401
        said = {"email": "viewer@example.com", "password": PASSWORD}
        assert (await ask(d.port, "POST", "/v1/sign-in", said)).status == 200
        assert (await accept(d, made["token"])).status == 404


async def test_the_authenticator_is_taken_away_with_the_password_only_where_that_is_said(
    database: str,
) -> None:
    async with desk(database) as d:
        await d.fetch(
            "INSERT INTO authenticator (user_id, sealed, confirmed) VALUES ($1, '', true)",
            d.users[Role.VIEWER],
        )
        made = (await reset(d, Role.VIEWER)).json["data"]
        assert (await accept(d, made["token"])).json["data"]["totp"] is True
        made = (await reset(d, Role.VIEWER, authenticator=True)).json["data"]
        assert (await accept(d, made["token"])).json["data"]["totp"] is False


async def test_a_reset_reaches_no_further_than_whoever_makes_it_and_not_oneself(database: str) -> None:
    async with desk(database) as d:
        assert (await reset(d, Role.OWNER)).code == "Request.Conflict", "that wants the present password"
        assert (await reset(d, Role.OPERATOR, Role.OPERATOR)).code == "Request.Conflict"
        assert (await reset(d, Role.OPERATOR)).status == 404
        assert (await reset(d, Role.VIEWER, FOREIGN)).status == 404
        for who in (Role.DEVELOPER, Role.SUPPORT, Role.REVIEWER, KEY):
            assert (await reset(d, Role.VIEWER, who)).status == 403
        made = (await reset(d, Role.VIEWER)).json["data"]
        await d.fetch("UPDATE console_user SET role = 'owner' WHERE id = $1", d.users[Role.MARKETER])
        await d.ask("PATCH", f"/v1/users/{d.users[Role.OWNER]}", {"role": "viewer"}, as_=Role.MARKETER)
        assert (await accept(d, made["token"])).status == 404, "its maker may not any more"
        await d.ask("PATCH", f"/v1/users/{d.users[Role.VIEWER]}", {"active": False}, as_=Role.MARKETER)
        assert (await reset(d, Role.VIEWER, Role.MARKETER)).code == "Request.Conflict"


# ---- reach


@pytest.mark.parametrize("role", sorted(Role))
async def test_an_owner_invites_to_the_own_tenant_and_an_operator_anywhere(database: str, role: Role) -> None:
    async with desk(database) as d:
        at_platform = role in PLATFORM_ROLES
        assert (await invite(d, role)).status == (400 if at_platform else 201)
        assert (await invite(d, role, Role.OPERATOR)).status == (201 if at_platform else 400)
        query = f"?tenant_id={d.foreign_id}"
        assert (await invite(d, role, Role.OPERATOR, query=query)).status == (400 if at_platform else 201)
        assert (await invite(d, role, Role.OWNER, query=query)).status == 400, "an owner names no tenant"


@pytest.mark.parametrize("who", [*sorted(set(Role) - {Role.OPERATOR, Role.OWNER}), KEY])
async def test_nobody_else_invites_or_changes_anybody(database: str, who: Any) -> None:
    async with desk(database) as d:
        assert (await invite(d, "viewer", who)).status == 403
        target = f"/v1/users/{d.users[Role.VIEWER]}"
        assert (await d.ask("PATCH", target, {"name": "x"}, as_=who)).status == 403
        assert (await d.ask("POST", f"{target}/sign-out", as_=who)).status == 403


@pytest.mark.parametrize("role", sorted(PLATFORM_ROLES))
async def test_an_owner_makes_nobody_one_of_the_platform(database: str, role: Role) -> None:
    async with desk(database) as d:
        for who in (Role.OWNER, Role.VIEWER):
            reply = await d.ask("PATCH", f"/v1/users/{d.users[who]}", {"role": role}, as_=Role.OWNER)
            assert (reply.status, reply.json["detail"]["parameter"]) == (400, "role")
        assert (
            await d.ask("PATCH", f"/v1/users/{d.users[Role.OPERATOR]}", {"role": role}, as_=Role.OWNER)
        ).status == 404


@pytest.mark.parametrize(
    "said",
    [{"tenant_id": None}, {"id": 1}, {"email": "x@example.com"}, {"password": PASSWORD}, {"password_hash": "x"},
     {"permissions": ["tenants.write"]}, {"totp": False}, {"role": "root"}, {"role": None}, {"active": "no"}],
)  # fmt: skip
async def test_what_is_not_to_be_changed_is_refused_by_name(database: str, said: dict[str, Any]) -> None:
    async with desk(database) as d:
        assert (await d.ask("PATCH", f"/v1/users/{d.users[Role.VIEWER]}", said, as_=Role.OWNER)).status == 400


async def test_people_of_another_tenant_are_not_there(database: str) -> None:
    async with desk(database) as d:
        target = f"/v1/users/{d.users[Role.VIEWER]}"
        assert (await d.ask("GET", target, as_=FOREIGN)).status == 404
        assert (await d.ask("PATCH", target, {"active": False}, as_=FOREIGN)).status == 404
        assert (await d.ask("POST", f"{target}/sign-out", as_=FOREIGN)).status == 404
        items = (await d.ask("GET", "/v1/users", as_=FOREIGN)).json["data"]["items"]
        assert [item["id"] for item in items] == [d.users[FOREIGN]]


async def test_people_are_listed_page_by_page(database: str) -> None:
    async with desk(database) as d:
        seen: list[int] = []
        cursor = ""
        while True:
            page = (await d.ask("GET", f"/v1/users?limit=4&cursor={cursor}")).json["data"]
            seen += [item["id"] for item in page["items"]]
            if page.get("next") is None:
                break
            cursor = page["next"]
        assert seen == sorted(d.users.values())
        own = (await d.ask("GET", f"/v1/users?tenant_id={d.world.tenant_id}")).json["data"]["items"]
        assert {item["role"] for item in own} == TENANT_ROLES
        assert not {"password_hash", "password"} & own[0].keys()


# ---- the last


@pytest.mark.parametrize("said", [{"active": False}, {"role": "viewer"}])
async def test_the_last_owner_stays_whoever_asks(database: str, said: dict[str, Any]) -> None:
    async with desk(database) as d:
        target = f"/v1/users/{d.users[Role.OWNER]}"
        for who in (Role.OWNER, Role.OPERATOR):
            assert (await d.ask("PATCH", target, said, as_=who)).code == "Request.Conflict"
        assert (await d.ask("PATCH", target, {"name": "Boss"}, as_=Role.OWNER)).status == 200
        assert (await d.ask("PATCH", target, {"role": "owner", "active": True}, as_=Role.OWNER)).status == 200


@pytest.mark.parametrize("said", [{"active": False}, {"role": "support"}])
async def test_the_last_operator_stays(database: str, said: dict[str, Any]) -> None:
    async with desk(database) as d:
        assert (await d.ask("PATCH", f"/v1/users/{d.users[Role.OPERATOR]}", said)).code == "Request.Conflict"


async def test_two_owners_who_demote_each_other_leave_one(database: str) -> None:
    async with desk(database) as d:
        other, owner = d.users[Role.VIEWER], d.users[Role.OWNER]
        await d.fetch("UPDATE console_user SET role = 'owner' WHERE id = $1", other)
        replies = await asyncio.gather(
            d.ask("PATCH", f"/v1/users/{owner}", {"role": "viewer"}, as_=Role.VIEWER),
            d.ask("PATCH", f"/v1/users/{other}", {"role": "viewer"}, as_=Role.OWNER),
        )
        assert 409 in {reply.status for reply in replies} or 401 in {reply.status for reply in replies}
        (row,) = await d.fetch(
            "SELECT count(*) FROM console_user WHERE role = 'owner' AND active AND tenant_id = $1",
            d.world.tenant_id,
        )
        assert row["count"] == 1


async def test_an_inactive_owner_does_not_count(database: str) -> None:
    async with desk(database) as d:
        await d.fetch(
            "UPDATE console_user SET role = 'owner', active = false WHERE id = $1", d.users[Role.VIEWER]
        )
        reply = await d.ask("PATCH", f"/v1/users/{d.users[Role.OWNER]}", {"active": False})
        assert reply.code == "Request.Conflict"


async def test_taking_out_ends_sign_ins_and_a_new_role_too(database: str) -> None:
    async with desk(database) as d:
        target = f"/v1/users/{d.users[Role.VIEWER]}"
        await d.ask("PATCH", target, {"name": "only a name"}, as_=Role.OWNER)
        assert (await d.ask("GET", "/v1/me", as_=Role.VIEWER)).status == 200
        await d.ask("PATCH", target, {"role": "marketer"}, as_=Role.OWNER)
        assert (await d.ask("GET", "/v1/me", as_=Role.VIEWER)).status == 401
        ended = await d.ask("POST", f"/v1/users/{d.users[Role.MARKETER]}/sign-out", as_=Role.OWNER)
        assert ended.json["data"] == {"ended": 1}
        assert (await d.ask("GET", "/v1/me", as_=Role.MARKETER)).status == 401


async def test_whoever_may_change_people_may_do_all_that_those_may() -> None:
    """So that nobody makes somebody who may more: what is asked of a role is asked of all its permissions."""
    for role, granted in GRANTED.items():
        if Permission.USERS_WRITE in granted:
            reach = PLATFORM_ROLES | TENANT_ROLES if role in PLATFORM_ROLES else TENANT_ROLES
            assert all(GRANTED[other] <= granted for other in reach), role
