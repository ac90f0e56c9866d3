"""Consents, opt-outs, blocks and complaints over REST: kept with evidence, for their tenant alone, and effective at once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import make
from doors.management.desk import FOREIGN, KEY, desk
from hongyan.control.permissions import Role
from hongyan.vocab.message import Purpose, Status

NUMBER = make.NUMBER
MASKED = "+86138****8000"


def consent(number: str = NUMBER, **fields: Any) -> dict[str, Any]:
    return {"items": [{"number": number, "source": "form"} | fields]}


async def about(d: Any, number: str = NUMBER, as_: Any = Role.OWNER) -> Any:
    return (await d.ask("GET", f"/v1/consents/about?number={quote(number)}", as_=as_)).json["data"]


async def test_a_consent_is_kept_with_its_evidence_and_shown_masked(database: str) -> None:
    async with desk(database) as d:
        said = consent(
            text="我同意", address="203.0.113.7", evidence={"box": "ticked"}, at="2026-03-01T09:30:00+08:00"
        )
        kept = await d.ask("POST", "/v1/consents", said, as_=KEY)
        assert kept.status == 201
        told = await about(d)
        assert [(one["scope"], one["given"]) for one in told["standing"]] == [("promotional", True)]
        (word,) = told["words"]
        assert word["proof"] == {
            "number": MASKED, "text": "我同意", "address": "203.0.113.7", "evidence": {"box": "ticked"},
        }  # fmt: skip
        (row,) = (await d.ask("GET", "/v1/consents", as_=Role.VIEWER)).json["data"]["items"]
        assert (row["number"], row["source"], row["given"]) == (MASKED, "form", True)
        plain = await d.fetch("SELECT row_to_json(c)::text FROM consent c")
        assert "203.0.113.7" not in plain[0][0]


async def test_a_withdrawal_ends_the_consent_and_stops_promotions(database: str) -> None:
    async with desk(database) as d:
        await d.ask("POST", "/v1/consents", consent(), as_=Role.OWNER)
        gone = await d.ask("POST", "/v1/consents/withdraw", consent(scope="*"), as_=Role.OWNER)
        assert gone.status == 201
        told = await about(d)
        assert {one["scope"]: one["given"] for one in told["standing"]} == {"promotional": False, "*": False}
        assert told["opted_out"] is True
        assert [word["given"] for word in told["words"]] == [False, True]


async def test_a_later_consent_does_not_lift_the_opt_out(database: str) -> None:
    async with desk(database) as d:
        await d.ask("POST", "/v1/opt-outs", {"numbers": [NUMBER], "reason": "hotline"}, as_=Role.MARKETER)
        await d.ask("POST", "/v1/consents", consent(), as_=Role.OWNER)
        told = await about(d)
        assert told["opted_out"] is True
        assert told["standing"][0]["given"] is True


async def test_a_bad_row_is_refused_alone_and_says_why(database: str) -> None:
    async with desk(database) as d:
        rows: list[dict[str, Any]] = [
            {"number": "12"},
            {"number": NUMBER},
            {"number": NUMBER, "source": "inbound"},
        ]
        rows += [
            {"number": NUMBER, "at": "2999-01-01T00:00:00Z"},
            {"number": NUMBER, "evidence": {"a": "x" * 5000}},
        ]
        lines = (await d.ask("POST", "/v1/consents", {"items": rows}, as_=Role.OWNER)).json["data"]["items"]
        assert [line.get("code", "") for line in lines] == [
            "Number.Invalid",
            "",
            *["Request.InvalidParameter"] * 3,
        ]
        assert [line["detail"]["parameter"] for line in lines[2:]] == ["source", "at", "evidence"]
        many = await d.ask("POST", "/v1/consents", {"items": [{"number": NUMBER}] * 1_001}, as_=Role.OWNER)
        assert many.status == 400


async def test_no_tenant_sees_anothers_consents_or_opt_outs(database: str) -> None:
    async with desk(database) as d:
        await d.ask("POST", "/v1/consents", consent(), as_=Role.OWNER)
        await d.ask("POST", "/v1/opt-outs", {"numbers": [NUMBER], "reason": "x"}, as_=Role.OWNER)
        assert (await about(d, as_=FOREIGN))["words"] == []
        assert (await d.ask("GET", "/v1/consents", as_=FOREIGN)).json["data"]["items"] == []
        assert (await d.ask("GET", "/v1/opt-outs", as_=FOREIGN)).json["data"]["items"] == []
        assert (await suppressions(d, as_=FOREIGN)) == []


async def suppressions(d: Any, as_: Any = Role.OWNER) -> list[tuple[str, str]]:
    told = await d.ask("GET", f"/v1/suppressions?number={quote(NUMBER)}", as_=as_)
    return [(one["kind"], one["of"]) for one in told.json["data"]["items"]]


async def test_opt_outs_and_blocks_are_added_listed_and_removed(database: str) -> None:
    async with desk(database) as d:
        others = [f"+86138001380{place:02}" for place in range(5)]
        body = {"numbers": [NUMBER, NUMBER, *others, "no number"], "reason": "imported"}
        added = await d.ask("POST", "/v1/opt-outs", body, as_=Role.OWNER)
        assert (added.json["data"]["changed"], added.json["data"]["unchanged"]) == (6 - (NUMBER in others), 0)
        assert list(added.json["data"]["refused"]) == ["7"]
        await d.ask("POST", "/v1/blocks", {"numbers": [NUMBER], "reason": "prank"}, as_=Role.OWNER)
        first = (await d.ask("GET", "/v1/opt-outs?limit=3", as_=Role.OWNER)).json["data"]
        rest = (await d.ask("GET", f"/v1/opt-outs?limit=3&cursor={first['next']}", as_=Role.OWNER)).json[
            "data"
        ]
        rows = first["items"] + rest["items"]
        assert len({row["index"] for row in rows}) == len(rows) == added.json["data"]["changed"]
        assert MASKED in {row["number"] for row in rows}
        (blocked,) = (await d.ask("GET", "/v1/blocks", as_=Role.OWNER)).json["data"]["items"]
        assert (blocked["reason"], blocked["number"]) == (
            "prank",
            MASKED,
        )  # the opt-out still names the person
        assert await suppressions(d) == [("opt_out", "tenant"), ("block", "tenant")]
        gone = await d.ask(
            "POST", "/v1/opt-outs/remove", {"numbers": [NUMBER], "reason": "asked for it"}, as_=Role.OWNER
        )
        assert gone.json["data"] == {"changed": 1, "unchanged": 0, "refused": {}}
        assert await suppressions(d) == [("block", "tenant")]


async def test_where_no_consent_names_a_blocked_number_the_list_says_so(database: str) -> None:
    async with desk(database) as d:
        await d.ask("POST", "/v1/blocks", {"numbers": [NUMBER], "reason": "prank"}, as_=Role.OWNER)
        (row,) = (await d.ask("GET", "/v1/blocks", as_=Role.OWNER)).json["data"]["items"]
        assert row["number"] is None
        assert row["index"] == d.world.vault.phone_index(NUMBER).hex()[:12]


async def test_the_platforms_rows_are_its_peoples_and_hold_for_everybody(database: str) -> None:
    async with desk(database) as d:
        body = {"numbers": [NUMBER], "reason": "court order 7"}
        assert (await d.ask("POST", "/v1/blocks", body, as_=Role.OPERATOR)).json["data"]["changed"] == 1
        assert await suppressions(d) == [("block", "platform")]
        told = await d.ask("GET", f"/v1/suppressions?number={quote(NUMBER)}", as_=Role.OWNER)
        assert told.json["data"]["items"][0]["reason"] == ""
        assert (await d.ask("POST", "/v1/blocks/remove", body, as_=Role.OWNER)).json["data"]["changed"] == 0
        assert await suppressions(d) == [("block", "platform")]
        for_tenant = f"/v1/blocks?tenant_id={d.world.tenant_id}"
        assert (await d.ask("POST", for_tenant, body, as_=Role.OPERATOR)).json["data"]["changed"] == 1
        assert len(await suppressions(d)) == 2


async def test_a_complaint_stops_promotions_is_answered_in_time_and_counted(database: str) -> None:
    async with desk(database) as d:
        async with d.database.transaction() as tx:
            message_id = await make.message(
                tx, d.world, status=Status.DELIVERED, purpose=Purpose.PROMOTIONAL, channel_id=d.world.channel_id,
                at=datetime.now(UTC) - timedelta(minutes=5),
            )  # fmt: skip
            await make.tally(tx, d.world, status=Status.DELIVERED, messages=1_000)
        body = {"number": NUMBER, "source": "12321", "text": "没有同意过", "reference": "A-17"}
        made = (await d.ask("POST", "/v1/complaints", body, as_=Role.OPERATOR)).json["data"]
        assert (made["message_id"], made["tenant_id"], made["number"]) == (
            str(message_id), d.world.tenant_id, MASKED,
        )  # fmt: skip
        assert await suppressions(d) == [("opt_out", "tenant")]
        path = f"/v1/complaints/{made['id']}"
        assert (await d.ask("GET", path, as_=FOREIGN)).status == 404
        assert (await d.ask("PATCH", path, {"state": "answered"}, as_=Role.OWNER)).status == 400
        answered = await d.ask("PATCH", path, {"state": "answered", "answer": "已致歉"}, as_=Role.OWNER)
        assert (answered.json["data"]["state"], answered.json["data"]["answer"]) == ("answered", "已致歉")
        closed = await d.ask("PATCH", path, {"state": "closed"}, as_=Role.OWNER)
        assert closed.json["data"]["answered_at"] is not None
        assert closed.json["data"]["closed_at"] is not None
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        span = f"from={quote(today.isoformat())}&to={quote((today + timedelta(days=1)).isoformat())}"
        (rate,) = (await d.ask("GET", f"/v1/complaints/rates?{span}", as_=Role.OWNER)).json["data"]["items"]
        assert (rate["complaints"], rate["delivered"], rate["per_million"]) == (1, 1_000, 1_000.0)


async def test_an_overdue_complaint_is_found(database: str) -> None:
    async with desk(database) as d:
        async with d.database.transaction() as tx:
            await make.message(
                tx, d.world, status=Status.DELIVERED, at=datetime.now(UTC) - timedelta(days=60)
            )
        late = (datetime.now(UTC) - timedelta(days=40)).isoformat()
        await d.ask("POST", "/v1/complaints", {"number": NUMBER, "source": "person", "received_at": late})
        await d.ask("POST", "/v1/complaints", {"number": NUMBER, "source": "person"})
        rows = (await d.ask("GET", "/v1/complaints?overdue=true", as_=Role.OWNER)).json["data"]["items"]
        assert [row["overdue"] for row in rows] == [True]
        assert (
            len((await d.ask("GET", "/v1/complaints?state=open", as_=Role.OWNER)).json["data"]["items"]) == 2
        )


async def test_whose_complaint_it_is_must_be_said_where_nobody_wrote(database: str) -> None:
    async with desk(database) as d:
        asked = await d.ask("POST", "/v1/complaints", {"number": NUMBER, "source": "regulator"})
        assert (asked.status, asked.json["detail"]["parameter"]) == (400, "tenant_id")


async def test_a_moment_that_nobody_lived_is_refused(database: str) -> None:
    async with desk(database) as d:
        for at in ("0001-01-01T00:00:00+14:00", "1960-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"):
            complaint = {"number": NUMBER, "source": "person", "received_at": at}
            assert (await d.ask("POST", "/v1/complaints", complaint, as_=Role.OWNER)).status == 400
            told = await d.ask("POST", "/v1/consents", consent(at=at), as_=Role.OWNER)
            assert told.json["data"]["items"][0]["code"] == "Request.InvalidParameter"
            span = f"from={quote(at)}&to={quote('9999-12-31T23:59:59Z')}"
            assert (await d.ask("GET", f"/v1/complaints/rates?{span}", as_=Role.OWNER)).status == 400


async def test_evidence_that_cannot_be_kept_is_refused(database: str) -> None:
    async with desk(database) as d:
        body = b'{"items": [{"number": "%b", "evidence": {"n": %b}}]}' % (NUMBER.encode(), b"1" * 40)
        told = await d.ask("POST", "/v1/consents", body, as_=Role.OWNER)
        assert told.json["data"]["items"][0]["detail"]["parameter"] == "evidence"


async def test_changes_stand_in_the_audit_without_the_number(database: str) -> None:
    async with desk(database) as d:
        await d.ask("POST", "/v1/opt-outs", {"numbers": [NUMBER], "reason": "hotline"}, as_=Role.OWNER)
        await d.ask("POST", "/v1/complaints", {"number": NUMBER, "source": "person"}, as_=Role.OWNER)
        rows = await d.fetch("SELECT row_to_json(a)::text AS whole FROM audit a ORDER BY 1")
        text = " ".join(row["whole"] for row in rows)
        assert "addOptOuts" in text
        assert "recordComplaint" in text
        assert NUMBER[3:] not in text
