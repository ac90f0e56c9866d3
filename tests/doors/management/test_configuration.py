"""The configuration is fetched, checked, put in force and rolled back over REST, and every change is a version."""

from typing import Any, Final

import msgspec
import pytest

from doors.management.desk import Desk, desk
from hongyan.control.permissions import Role

TARGET: Final = "/v1/configuration"
JSON: Final = {"Content-Type": "application/json"}
SMPP: Final = {"hosts": ["smsc.example.com:2775"], "system_id": "hongyan", "password": "herons77"}


async def got(d: Desk, method: str, target: str, body: Any = b"") -> Any:
    octets = body if isinstance(body, bytes) else msgspec.json.encode(body)
    reply = await d.ask(method, target, octets, headers=JSON if octets else None)
    assert reply.status in (200, 201), reply.json
    return reply.json["data"]


async def channel(d: Desk) -> int:
    asked = {"name": "east", "kind": "smpp", "settings": SMPP}
    await d.database.execute("UPDATE channel SET active = false")  # the world's has no settings that build
    await d.database.execute("UPDATE route_rule SET active = false, removed = true")
    return int((await got(d, "POST", "/v1/channels", asked))["channel"]["id"])


async def test_what_is_fetched_can_be_put_and_changes_nothing(database: str) -> None:
    async with desk(database) as d:
        await channel(d)
        fetched = await got(d, "GET", TARGET)
        assert fetched == await got(d, "GET", TARGET)
        assert "herons77" not in str(fetched)
        told = await got(d, "PUT", f"{TARGET}?if_version={fetched['version']}", fetched["document"])
        assert (told["version"], told["changes"], told["secrets"]) == (fetched["version"], [], [])


async def test_every_change_is_a_version_with_who_and_what(database: str) -> None:
    async with desk(database) as d:
        number = await channel(d)
        await got(d, "PATCH", f"/v1/channels/{number}", {"parts_per_s": 5})
        await got(d, "PATCH", f"/v1/channels/{number}", {"parts_per_s": 5})
        await got(d, "POST", f"/v1/channels/{number}/pause")
        made = await got(d, "POST", "/v1/word-lists", {"name": "brands"})
        target = f"/v1/word-lists/{made['id']}/words/import"
        brought = await d.ask("POST", target, "新词".encode(), headers={"Content-Type": "text/plain"})
        assert brought.status == 200
        await got(d, "PATCH", "/v1/policies", {"sign_up": "open"})
        page = await got(d, "GET", f"{TARGET}/versions?limit=4")
        assert [(one["version"], one["action"], one["changed"]) for one in page["items"]] == [
            (6, "changePolicies", ["policies"]),
            (5, "importWords", ["words"]),
            (4, "createWordList", ["words"]),
            (3, "changeChannel", ["channels"]),
        ]
        assert "operator@example.com" in page["items"][0]["made_by"]
        rest = await got(d, "GET", f"{TARGET}/versions?limit=4&cursor={page['next']}")
        assert [one["action"] for one in rest["items"]] == ["createChannel", "found"]
        told = await got(d, "GET", f"{TARGET}/difference?from=3")
        assert [(one["section"], one["key"], one["what"]) for one in told["items"]] == [
            ("policies", "policies", "changed"),
            ("words", "brands", "added"),
        ]
        assert (await got(d, "GET", f"{TARGET}/difference?from=6&to=6"))["count"] == 0
        whole = await got(d, "GET", f"{TARGET}/versions/6")
        assert whole["document"]["words"][0]["words"] == ["新词"]
        assert whole["document"] == (await got(d, "GET", TARGET))["document"]
        bare = await got(d, "GET", f"{TARGET}?words=false")
        assert "words" not in bare["document"]["words"][0]


async def test_a_check_tells_what_would_change_and_stores_nothing(database: str) -> None:
    async with desk(database) as d:
        await channel(d)
        fetched = await got(d, "GET", TARGET)
        asked = fetched["document"] | {"prices": []}
        told = await got(d, "POST", f"{TARGET}/check", asked)
        assert [(one["section"], one["what"]) for one in told["changes"]] == [("prices", "removed")]
        assert (told["version"], told["cut"], told["zone"]) == (fetched["version"], False, "Asia/Shanghai")
        assert (await got(d, "GET", TARGET)) == fetched
        told = await got(d, "POST", f"{TARGET}/check?day=2026-03-04", asked)
        assert told["day"] == "2026-03-04"
        recorded = await d.fetch("SELECT action FROM audit ORDER BY seq DESC LIMIT 1")
        assert recorded[0]["action"] == "checkConfiguration"


async def test_a_document_is_put_once_for_each_version_and_rolled_back(database: str) -> None:
    async with desk(database) as d:
        await channel(d)
        fetched = await got(d, "GET", TARGET)
        asked = fetched["document"] | {"prices": []}
        target = f"{TARGET}?if_version={fetched['version']}&note=no+prices"
        told = await got(d, "PUT", target, asked)
        assert (told["version"], told["count"]) == (fetched["version"] + 1, 1)
        assert not (await d.served.keeper.load()).prices
        late = await d.ask("PUT", target, msgspec.json.encode(asked), headers=JSON)
        assert (late.status, late.code) == (409, "Request.Conflict")
        back = await got(d, "POST", f"{TARGET}/versions/{fetched['version']}/roll-back", {})
        assert back["version"] == fetched["version"] + 2
        assert (await got(d, "GET", TARGET))["document"] == fetched["document"]
        items = (await got(d, "GET", f"{TARGET}/versions"))["items"]
        assert [one["note"] for one in items[:2]] == [f"as version {fetched['version']}", "no prices"]
        assert [one["action"] for one in items[:2]] == ["rollBackConfiguration", "putConfiguration"]
        assert (await d.ask("POST", f"{TARGET}/versions/99/roll-back", {})).status == 404


async def test_a_long_document_is_taken(database: str) -> None:
    async with desk(database) as d:
        await channel(d)
        words = [f"parcel{number:050d}" for number in range(40_000)]
        told = await got(d, "PUT", TARGET, {"words": [{"name": "long", "words": words}]})
        assert told["changes"][0]["words"]["added"] == len(words)
        assert len(told["changes"][0]["words"]["first_added"]) == 50


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "Request.InvalidParameter"),
        (b"{", 400, "Request.MalformedJson"),
        (b'{"format": 2}', 400, "Request.InvalidParameter"),
        (b'{"channels": [{"kind": "smpp"}]}', 400, "Request.MissingParameter"),
        (b'{"colour": 1}', 400, "Request.InvalidParameter"),
        (b'{"prices": [{"part_micro": 1, "country": "\\u0000"}]}', 400, "Request.InvalidParameter"),
    ],
)
async def test_what_is_no_document_is_refused(database: str, body: bytes, status: int, code: str) -> None:
    async with desk(database) as d:
        for method, target in (("PUT", TARGET), ("POST", f"{TARGET}/check")):
            refused = await d.ask(method, target, body, headers=JSON)
            assert (refused.status, refused.code) == (status, code)


async def test_the_configuration_is_the_operators_alone(database: str) -> None:
    async with desk(database) as d:
        for who in (Role.OWNER, Role.SUPPORT, Role.FINANCE):
            assert (await d.ask("GET", TARGET, as_=who)).status == 403
            assert (await d.ask("PUT", TARGET, b"{}", as_=who, headers=JSON)).status == 403
