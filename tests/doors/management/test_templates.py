"""Templates over the API: proposed, linted, reviewed, versioned, taken out of use; and a live text reaches messages."""

from typing import Any, Final

import make
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan.control.permissions import Role
from hongyan.vocab.message import TenantId
from hongyan.way.snapshot import Template

NOTICE: Final = {
    "code": "parcel",
    "body": "您的快递已到${place}",
    "purpose": "transactional",
    "variables": {"place": {"kind": "address"}},
}
OWNER: Final = Role.DEVELOPER


async def made(d: Desk, **fields: object) -> int:
    reply = await d.ask("POST", "/v1/templates", NOTICE | fields, as_=OWNER)
    assert reply.status == 201, reply.json
    return int(reply.json["data"]["template"]["id"])


async def approve(d: Desk) -> None:
    """Approve all that waits."""
    waiting = await d.ask("GET", "/v1/reviews?kind=template&state=waiting", as_=Role.REVIEWER)
    for review in waiting.json["data"]["items"]:
        reply = await d.ask("POST", f"/v1/reviews/{review['id']}/approve", {}, as_=Role.REVIEWER)
        assert reply.status == 200, reply.json


async def data(d: Desk, method: str, path: str, body: object = b"", **more: Any) -> Any:
    reply = await d.ask(method, path, body, **({"as_": OWNER} | more))
    assert reply.status in (200, 201), reply.json
    return reply.json["data"]


async def live(d: Desk, template_id: int) -> Template:
    """What the plane flies by, loaded anew."""
    return (await d.served.keeper.load()).templates[template_id]


async def test_a_template_goes_from_proposal_to_review_to_messages(database: str) -> None:
    async with desk(database) as d:
        template_id = await made(d)
        assert not (await live(d, template_id)).approved
        await approve(d)
        assert (await live(d, template_id)).text.render({"place": "南门"}) == "您的快递已到南门"
        story = await data(d, "GET", f"/v1/templates/{template_id}")
        assert (story["template"]["state"], story["versions"][0]["state"]) == ("approved", "approved")


async def test_a_change_of_a_live_template_reaches_the_snapshot_once_it_is_approved(database: str) -> None:
    async with desk(database) as d:
        template_id = await made(d)
        await approve(d)
        path = f"/v1/templates/{template_id}/versions"
        version = await data(d, "POST", path, {"body": "包裹在${place}"})
        assert (version["number"], version["state"]) == (2, "reviewing")
        assert (await live(d, template_id)).text.render({"place": "南门"}) == "您的快递已到南门"
        await approve(d)
        assert (await live(d, template_id)).text.render({"place": "南门"}) == "包裹在南门"
        await data(d, "POST", path, {"again": 1})
        await approve(d)
        assert (await live(d, template_id)).text.render({"place": "南门"}) == "您的快递已到南门"


async def test_a_text_of_another_language_is_offered_and_withdrawn(database: str) -> None:
    async with desk(database) as d:
        template_id = await made(d)
        english = {"body": "Your parcel is at ${place}", "language": "en"}
        await data(d, "POST", f"/v1/templates/{template_id}/versions", english)
        await approve(d)
        assert (await live(d, template_id)).text_in("en-GB").render(
            {"place": "gate"}
        ) == "Your parcel is at gate"
        path = f"/v1/templates/{template_id}/feasibility?language=en&countries=GB"
        assert {cell["country"] for cell in (await data(d, "GET", path))["cells"]} == {"GB"}
        story = await data(d, "DELETE", f"/v1/templates/{template_id}/texts/en")
        assert story["texts"] == []


async def test_an_unsound_text_is_refused_with_findings_and_may_be_a_draft(database: str) -> None:
    async with desk(database) as d:
        wrong = NOTICE | {"body": "${a}${b}", "variables": {}}
        reply = await d.ask("POST", "/v1/templates", wrong, as_=OWNER)
        assert (reply.status, reply.json["code"]) == (400, "Template.Unsound")
        assert {one["rule"] for one in reply.json["detail"]["findings"]} == {
            "body.only_variables",
            "variable.adjacent",
        }
        template_id = await made(d, body="${a}${b}", variables={}, draft=True)
        path = f"/v1/templates/{template_id}/versions/1"
        reply = await d.ask("POST", f"{path}/submit", as_=OWNER)
        assert reply.json["code"] == "Template.Unsound"
        await data(d, "PATCH", path, {"body": "到${a}的${b}"})
        assert (await data(d, "POST", f"{path}/submit"))["state"] == "reviewing"
        reply = await d.ask("PATCH", path, {"body": "到${a}"}, as_=OWNER)
        assert (reply.status, reply.json["code"]) == (409, "Template.Locked")
        assert (await data(d, "POST", f"{path}/withdraw"))["state"] == "withdrawn"


async def test_the_platform_s_word_stands_above_the_tenant_s(database: str) -> None:
    async with desk(database) as d:
        template_id = await made(d)
        await approve(d)
        await data(d, "POST", f"/v1/templates/{template_id}/disable", as_=Role.OPERATOR)
        assert not (await live(d, template_id)).approved
        reply = await d.ask("POST", f"/v1/templates/{template_id}/enable", as_=OWNER)
        assert (reply.status, reply.json["code"]) == (403, "Auth.PermissionDenied")
        await data(d, "POST", f"/v1/templates/{template_id}/enable", as_=Role.OPERATOR)
        await data(d, "POST", f"/v1/templates/{template_id}/disable")
        await data(d, "POST", f"/v1/templates/{template_id}/enable")
        assert (await live(d, template_id)).approved


async def test_a_stranger_finds_nothing(database: str) -> None:
    async with desk(database) as d:
        template_id = await made(d)
        one = f"/v1/templates/{template_id}"
        for method, path, body in (
            ("GET", one, b""),
            ("PATCH", one, {"resend": False}),
            ("POST", f"{one}/disable", b""),
            ("POST", f"{one}/versions", {"body": "您好"}),
            ("GET", f"{one}/versions", b""),
            ("POST", f"{one}/versions/1/withdraw", b""),
            ("GET", f"{one}/feasibility", b""),
            ("DELETE", f"{one}/texts/en", b""),
        ):
            reply = await d.ask(method, path, body, as_=FOREIGN)
            assert (reply.status, reply.json["code"]) == (404, "Request.NotFound"), path
        assert (await data(d, "GET", "/v1/templates", as_=FOREIGN))["items"] == []


async def test_a_list_is_paged_and_narrowed(database: str) -> None:
    async with desk(database) as d:
        for code in ("one", "two", "three"):
            await made(d, code=code)
        page = await data(d, "GET", "/v1/templates?state=reviewing&limit=2")
        assert [row["code"] for row in page["items"]] == ["one", "two"]
        rest = await data(d, "GET", f"/v1/templates?state=reviewing&limit=2&cursor={page['next']}")
        assert [row["code"] for row in rest["items"]] == ["three"]
        found = await data(d, "GET", "/v1/templates?containing=thr")
        assert [row["code"] for row in found["items"]] == ["three"]


async def test_a_program_may_propose_and_every_kind_is_told(database: str) -> None:
    async with desk(database) as d:
        assert (await d.ask("POST", "/v1/templates", NOTICE, as_=KEY)).status == 201
        kinds = await data(d, "GET", "/v1/templates/kinds", as_=KEY)
        assert {row["kind"] for row in kinds["items"]} >= {"code", "date", "link_part", "url", "other"}
        assert (await d.ask("POST", "/v1/templates", NOTICE, as_=Role.VIEWER)).status == 403


async def test_what_is_proposed_is_recorded_without_its_text(database: str) -> None:
    async with desk(database) as d:
        template_id = await made(d)
        (row,) = await d.fetch("SELECT subject, detail FROM audit WHERE action = 'createTemplate'")
        assert row["subject"] == f"template:{template_id}"
        assert "快递" not in row["detail"]


# ---- the linter


async def test_the_linter_tells_findings_sizes_prices_and_channels_and_stores_nothing(database: str) -> None:
    async with desk(database) as d:
        asked = {
            "body": "您的登录验证码为${code},5分钟内有效,今日特价",
            "purpose": "otp",
            "variables": {"code": {"kind": "code"}},
        }
        async with d.database.transaction() as tx:
            config = {"hosts": ["10.0.0.1"], "system_id": "us", "password": "secret"}
            channel_id = await make.channel(tx, d.world.vault, name="east", kind="smpp", config=config)
            await make.route_rule(tx, channel_id=channel_id)
        await d.served.keeper.load()
        told = await data(d, "POST", "/v1/templates/lint", asked, as_=Role.VIEWER)
        assert [(one["rule"], one["level"]) for one in told["findings"]] == [("code.selling", "warning")]
        assert told["sound"] is True
        (size, abroad) = told["sizes"]
        assert (size["place"], size["usual"]["parts"]) == ("mainland", 1)
        assert abroad["place"] == "international"
        (price,) = [row for row in told["prices"] if row["operator"] == "cmcc"]
        assert (price["part_micro"], price["usual_micro"], told["currency"]) == (45_000, 45_000, "CNY")
        cells = [cell for cell in told["feasibility"] if cell["channel"] == "east"]
        assert {(cell["operator"], cell["verdict"]) for cell in cells} == {
            (operator, "yes") for operator in ("cmcc", "unicom", "telecom", "broadnet")
        }
        assert await d.fetch("SELECT id FROM template_version") == []
        assert await d.fetch("SELECT seq FROM audit WHERE action = 'lintTemplate' AND subject <> ''") == []


async def test_words_of_a_list_are_found_by_the_linter(database: str) -> None:
    async with desk(database) as d:
        listed = await d.ask("POST", "/v1/word-lists", {"name": "law", "level": "block"}, as_=Role.OPERATOR)
        assert listed.status == 201, listed.json
        number = listed.json["data"]["id"]
        added = await d.ask("POST", f"/v1/word-lists/{number}/words", {"words": ["赌博"]}, as_=Role.OPERATOR)
        assert added.status in (200, 201), added.json
        await d.served.keeper.load()
        reply = await d.ask("POST", "/v1/templates", NOTICE | {"body": "您的赌博快递已到${place}"}, as_=OWNER)
        assert reply.json["code"] == "Template.Unsound"
        (finding,) = reply.json["detail"]["findings"]
        assert (finding["rule"], finding["start"], finding["end"]) == ("word.listed", 2, 4)


async def test_every_rule_is_told_with_its_source(database: str) -> None:
    async with desk(database) as d:
        rules = (await data(d, "GET", "/v1/templates/rules"))["items"]
        (one,) = [rule for rule in rules if rule["id"] == "notice.opt_out"]
        assert one["levels"] == {
            "otp": {},
            "transactional": {"mainland": "error", "international": "warning"},
            "promotional": {},
        }
        assert all(rule["source"] and rule["seen"] for rule in rules)


async def test_a_tenant_without_the_signature_it_names_is_told(database: str) -> None:
    async with desk(database) as d:
        asked = {"body": "您好", "purpose": "transactional", "signature": "没有"}
        reply = await d.ask("POST", "/v1/templates/lint", asked, as_=OWNER)
        assert reply.json["code"] == "Sign.NotFound"
        assert TenantId(d.foreign_id) != d.world.tenant_id
