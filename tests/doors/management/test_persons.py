"""A person is told everything and forgotten on request; whoever sees a number whole leaves a trace; times are kept to."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import make
from doors.counter import line, request
from doors.management.desk import FOREIGN, KEY, desk
from hongyan.control import jobs
from hongyan.control.permissions import Role
from hongyan.vocab.message import MessageId, Status

NUMBER = make.NUMBER
PERSON = {"number": NUMBER, "reason": "letter of 1 March"}


async def lay(d: Any) -> MessageId:
    async with d.database.transaction() as tx:
        message_id = await make.message(tx, d.world, status=Status.DELIVERED, text="【鸿雁】芝麻开门")
        await make.inbound(tx, d.world, text="好的")
        await make.message(tx, d.world, number="+8613900139000", text="别人的")
    said = {"items": [{"number": NUMBER, "source": "form", "address": "203.0.113.7"}]}
    await d.ask("POST", "/v1/consents", said, as_=Role.OWNER)
    await d.ask(
        "POST", "/v1/complaints", {"number": NUMBER, "source": "person", "text": "吵"}, as_=Role.OWNER
    )
    return message_id


async def export(d: Any, as_: Any = Role.OWNER) -> Any:
    async with line(d.port) as one:
        await one.write(
            request("POST", "/v1/persons/export", PERSON, d.credentials(as_) | {"Connection": "close"})
        )
        head, _, body = (await one.closed()).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"attachment" in head
    return msgspec.json.decode(b"".join(unchunked(body)))


def unchunked(octets: bytes) -> Iterator[bytes]:
    """Take a chunked body apart (RFC 9112 §7.1)."""
    while octets:
        size, _, rest = octets.partition(b"\r\n")
        yield rest[: int(size, 16)]
        octets = rest[int(size, 16) + 2 :]


async def test_an_export_tells_everything_of_one_person_and_nothing_of_others(database: str) -> None:
    async with desk(database) as d:
        message_id = await lay(d)
        told = await export(d)
        assert told["number"] == NUMBER
        (message,) = told["messages"]
        assert (message["id"], message["text"], message["status"]) == (
            str(message_id),
            "【鸿雁】芝麻开门",
            "delivered",
        )
        assert [letter["text"] for letter in told["inbound"]] == ["好的"]
        assert told["consents"][0]["proof"]["address"] == "203.0.113.7"
        assert told["complaints"][0]["text"] == "吵"
        assert [(one["kind"], one["of"]) for one in told["suppressions"]] == [("opt_out", "tenant")]
        assert "别人的" not in str(told)


async def test_the_platform_learns_whose_a_message_is_by_its_id(database: str) -> None:
    async with desk(database) as d:
        message_id = await lay(d)
        told = await d.ask("GET", f"/v1/messages/{message_id}/tenant")
        assert told.json["data"] == {"tenant_id": d.world.tenant_id}
        nobodys = await d.ask("GET", "/v1/messages/00000000-0000-0000-0000-000000000007/tenant")
        assert nobodys.code == "Request.NotFound"


async def test_an_export_reads_page_by_page(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hongyan.control.persons.ROWS_MAX", 2)
    async with desk(database) as d:
        async with d.database.transaction() as tx:
            made = [await make.message(tx, d.world, status=Status.DELIVERED) for _ in range(5)]
        assert [message["id"] for message in (await export(d))["messages"]] == [str(one) for one in made]


async def test_an_export_knows_nothing_of_other_tenants(database: str) -> None:
    async with desk(database) as d:
        await lay(d)
        told = await export(d, as_=FOREIGN)
        assert told.pop("not_included")
        assert {name for name, rows in told.items() if isinstance(rows, list) and rows} == set()


async def test_an_erased_person_is_gone_and_still_not_written_to(database: str) -> None:
    async with desk(database) as d:
        await lay(d)
        erased = (await d.ask("POST", "/v1/persons/erase", PERSON, as_=Role.OWNER)).json["data"]
        assert erased == {
            "messages": 1, "waiting": 0, "inbound": 1, "consents": 1, "complaints": 1, "complete": True,
            "besides": {"verifications": 0}, "files": 0,
        }  # fmt: skip
        told = await export(d)
        assert [message["text"] for message in told["messages"]] == [None]
        assert [one["kind"] for one in told["suppressions"]] == ["opt_out"]
        (row,) = (await d.ask("GET", "/v1/opt-outs", as_=Role.OWNER)).json["data"]["items"]
        assert row["number"] is None


async def test_files_that_an_erasure_does_not_look_into_are_told(database: str, tmp_path: Path) -> None:
    async with desk(database, state_dir=tmp_path) as d:
        kind = {"Content-Type": "text/csv"}
        file = f"number\n{NUMBER}\n".encode()
        made = await d.ask("POST", "/v1/lists?name=a", file, as_=Role.OWNER, headers=kind)
        assert made.status == 201
        erased = await d.ask("POST", "/v1/persons/erase", PERSON, as_=Role.OWNER)
        assert erased.json["data"]["files"] == 1
        assert "lists" in (await export(d))["not_included"][0]
        await d.ask("POST", f"/v1/lists/{made.json['data']['id']}/forget", as_=Role.OWNER)
        async with d.database.transaction() as tx:
            await jobs.forget(tx)
        erased = await d.ask("POST", "/v1/persons/erase", PERSON, as_=Role.OWNER)
        assert erased.json["data"]["files"] == 0


async def test_the_audit_says_who_erased_and_why_and_not_whom(database: str) -> None:
    async with desk(database) as d:
        await d.ask("POST", "/v1/persons/erase", PERSON, as_=Role.OWNER)
        await d.ask("POST", "/v1/persons/export", PERSON, as_=Role.OWNER)
        rows = [row["whole"] for row in await d.fetch("SELECT row_to_json(a)::text AS whole FROM audit a")]
        index = d.world.vault.phone_index(NUMBER).hex()[:12]
        for action in ("erasePerson", "exportPerson"):
            (row,) = [row for row in rows if action in row]
            assert f"person:{index}" in row
            assert "letter of 1 March" in row
            assert NUMBER[3:] not in row


async def test_who_may_not_erase_may_not_export_either(database: str) -> None:
    async with desk(database) as d:
        answers = Counter[int]()
        for role in (Role.DEVELOPER, Role.MARKETER, Role.VIEWER):
            for path in ("/v1/persons/export", "/v1/persons/erase"):
                answers[(await d.ask("POST", path, PERSON, as_=role)).status] += 1
        assert answers == {403: 6}


async def test_a_number_is_shown_whole_for_a_reason_and_leaves_a_trace(database: str) -> None:
    async with desk(database) as d:
        path = f"/v1/messages/{await lay(d)}/unmask"
        reason = {"reason": "the person calls"}
        shown = await d.ask("POST", path, reason, as_=Role.OWNER)
        assert shown.json["data"]["number"] == NUMBER
        assert (await d.ask("POST", path, {}, as_=Role.OWNER)).status == 400
        assert (await d.ask("POST", path, reason, as_=FOREIGN)).status == 404
        assert {(await d.ask("POST", path, reason, as_=who)).status for who in (Role.MARKETER, KEY)} == {403}
        looks = await d.fetch(
            "SELECT row_to_json(a)::text AS whole FROM audit a WHERE action = 'unmaskNumber'"
        )
        assert len(looks) == 1
        assert "the person calls" in looks[0]["whole"]
        await d.ask("POST", "/v1/persons/erase", PERSON, as_=Role.OWNER)
        assert (await d.ask("POST", path, reason, as_=Role.OWNER)).json["data"]["number"] is None


async def test_times_are_decided_within_bounds_and_given_back(database: str) -> None:
    async with desk(database) as d:
        put = await d.ask("PUT", "/v1/retention", {"days": {"otp_texts": 3, "consents": 1_825}})
        days = {row["class"]: (row["days"], row["said"]) for row in put.json["data"]["items"]}
        assert (days["otp_texts"], days["consents"], days["complaints"]) == (
            (3, True),
            (1_825, True),
            (1_095, False),
        )
        for wrong in ({"messages": 100}, {"consents": 30}, {"otp_texts": 800}):
            refused = await d.ask("PUT", "/v1/retention", {"days": wrong})
            assert (refused.status, refused.json["detail"]["parameter"]) == (400, next(iter(wrong)))
        back = await d.ask("PUT", "/v1/retention", {"days": {"otp_texts": None}})
        assert {row["class"]: row["days"] for row in back.json["data"]["items"]}["otp_texts"] == 7
        assert (await d.ask("GET", "/v1/retention", as_=Role.OWNER)).status == 403


async def test_a_tenant_may_only_shorten_its_own_texts(database: str) -> None:
    async with desk(database) as d:
        put = await d.ask("PUT", "/v1/retention/texts", {"days": {"otp_texts": 2}}, as_=Role.OWNER)
        assert {row["class"]: row["days"] for row in put.json["data"]["items"]}["otp_texts"] == 2
        for wrong in ({"otp_texts": 8}, {"messages": 160}):
            refused = await d.ask("PUT", "/v1/retention/texts", {"days": wrong}, as_=Role.OWNER)
            assert refused.status == 400
        platform = (await d.ask("GET", "/v1/retention")).json["data"]["items"]
        assert {row["class"]: row["days"] for row in platform}["otp_texts"] == 7
