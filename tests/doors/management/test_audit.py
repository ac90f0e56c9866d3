"""The audit over REST: every change is in it, each tenant sees its own, and no record tells a secret."""

import pytest

from doors.management.desk import FOREIGN, KEY, desk
from hongyan.control import audit
from hongyan.control.permissions import GRANTED, Permission, Role


async def test_a_change_is_there_with_who_what_and_where_from(database: str) -> None:
    async with desk(database) as d:
        target = d.users[Role.VIEWER]
        await d.ask("PATCH", f"/v1/users/{target}", {"role": "marketer"}, as_=Role.OWNER)
        (row,) = (await d.ask("GET", "/v1/audit", as_=Role.OWNER)).json["data"]["items"]
        assert row["actor"] == f"user:{d.users[Role.OWNER]} owner@example.com"
        assert (row["action"], row["subject"], row["address"]) == (
            "changeUser",
            f"user:{target}",
            "127.0.0.1",
        )
        assert (row["tenant_id"], row["detail"]) == (d.world.tenant_id, {"role": "marketer"})
        assert (await audit.verify(d.database)).records == 1


async def test_what_was_refused_is_not_there(database: str) -> None:
    async with desk(database) as d:
        await d.ask("PATCH", f"/v1/users/{d.users[Role.OWNER]}", {"active": False}, as_=Role.OWNER)
        assert (await d.ask("GET", "/v1/audit")).json["data"]["items"] == []


async def test_a_question_is_not_there_though_it_is_a_post_for_its_length(database: str) -> None:
    async with desk(database) as d:
        for path, body in (
            (
                "/v1/templates/lint",
                {"body": "您的验证码为${code}", "purpose": "otp", "variables": {"code": {"kind": "code"}}},
            ),
            ("/v1/word-lists/check", {"text": "代开发票"}),
        ):
            assert (await d.ask("POST", path, body, as_=Role.OWNER)).status == 200
        assert (await d.ask("GET", "/v1/audit")).json["data"]["items"] == []


async def test_each_tenant_sees_its_own_and_the_platform_all(database: str) -> None:
    async with desk(database) as d:
        body = {"email": "a@example.com", "role": "viewer"}
        await d.ask("POST", "/v1/invitations", body, as_=Role.OWNER)
        await d.ask("POST", "/v1/invitations", body, as_=FOREIGN)
        await d.ask("POST", "/v1/invitations", {"email": "a@example.com", "role": "support"})
        for as_, query, count in (
            (Role.OWNER, "", 1),
            (FOREIGN, "", 1),
            (Role.OPERATOR, "", 3),
            (Role.OPERATOR, f"?tenant_id={d.foreign_id}", 1),
        ):
            items = (await d.ask("GET", f"/v1/audit{query}", as_=as_)).json["data"]["items"]
            assert len(items) == count, (as_, query)
        assert (await d.ask("GET", f"/v1/audit?tenant_id={d.foreign_id}", as_=Role.OWNER)).status == 400


@pytest.mark.parametrize("who", [*(role for role in Role if Permission.AUDIT_READ not in GRANTED[role]), KEY])
async def test_who_may_not_read_it_does_not(database: str, who: str) -> None:
    async with desk(database) as d:
        assert (await d.ask("GET", "/v1/audit", as_=who)).status == 403


async def test_it_is_filtered_and_paged(database: str) -> None:
    async with desk(database) as d:
        for number in range(5):
            body = {"email": f"a{number}@example.com", "role": "viewer"}
            await d.ask("POST", "/v1/invitations", body, as_=Role.OWNER)
        await d.ask("DELETE", "/v1/invitations/2", as_=Role.OWNER)
        first = (await d.ask("GET", "/v1/audit?action=createInvitation&limit=3", as_=Role.OWNER)).json["data"]
        assert [row["seq"] for row in first["items"]] == [5, 4, 3]
        rest = (await d.ask("GET", f"/v1/audit?action=createInvitation&limit=3&cursor={first['next']}")).json[
            "data"
        ]
        assert [row["seq"] for row in rest["items"]] == [2, 1]
        about = (await d.ask("GET", "/v1/audit?subject=invitation:2")).json["data"]["items"]
        assert [row["action"] for row in about] == ["revokeInvitation", "createInvitation"]
        moment = first["items"][0]["at"].replace("+00:00", "Z")
        since = (await d.ask("GET", f"/v1/audit?from={moment}")).json["data"]["items"]
        assert [row["seq"] for row in since] == [6, 5]
        until = (await d.ask("GET", f"/v1/audit?to={moment}")).json["data"]["items"]
        assert [row["seq"] for row in until] == [4, 3, 2, 1]


@pytest.mark.parametrize("query", ["cursor=x", "cursor=99999999999999999999", "limit=0", "limit=501", "from=yesterday",
                                   "from=2026-01-01T00:00:00", "who=me", "actor="])  # fmt: skip
async def test_what_is_no_question_is_refused(database: str, query: str) -> None:
    async with desk(database) as d:
        assert (await d.ask("GET", f"/v1/audit?{query}")).status == 400


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-12:00"])
async def test_a_moment_at_the_end_of_time_is_no_fault_of_ours(database: str, moment: str) -> None:
    async with desk(database) as d:
        assert (await d.ask("GET", f"/v1/audit?from={moment}")).status in {200, 400}
