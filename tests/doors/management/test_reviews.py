"""Documents, qualifications and the queue over the API: from the file that is handed in to the decision."""

from typing import Any

import pytest

import make
from control import files
from doors.counter import line, request
from hongyan.control.permissions import Role
from hongyan.vocab.message import Status
from make import World

from .desk import FOREIGN, KEY, Desk, Who, desk

QUALIFICATION = {
    "legal_name": "兰花科技有限公司",
    "credit_code": "91350100M000100Y43",
    "person": {"name": "王芳", "id_number": "11010519491231002X", "phone": "13800138000"},
    "business": "订单通知",
    "licence_until": "2099-01-01",
}


async def upload(
    one: Desk,
    kind: str,
    octets: bytes = files.PDF,
    said: str = "application/pdf",
    name: str = "a.pdf",
    who: Who = Role.OWNER,
) -> Any:
    return await one.ask(
        "POST", f"/v1/documents?kind={kind}&name={name}", octets, as_=who, headers={"Content-Type": said}
    )


async def hand_in(one: Desk) -> int:
    """Hand an enterprise in; returns the review's id."""
    ids = [(await upload(one, kind)).json["data"]["id"] for kind in ("licence", "person_id")]
    await one.ask("PUT", "/v1/qualification", QUALIFICATION | {"document_ids": ids}, as_=Role.OWNER)
    told = await one.ask("POST", "/v1/qualification/submit", as_=Role.OWNER)
    assert told.status == 200, told.body
    return int(told.json["data"]["review_id"])


async def test_an_enterprise_is_handed_in_looked_at_and_approved(database: str) -> None:
    async with desk(database) as one:
        await one.fetch("UPDATE tenant SET qualified = false WHERE id = $1", one.world.tenant_id)
        review_id = await hand_in(one)
        (entry,) = (await one.ask("GET", "/v1/reviews", as_=Role.REVIEWER)).json["data"]["items"]
        assert (entry["id"], entry["kind"], entry["title"]) == (
            str(review_id),
            "qualification",
            "兰花科技有限公司",
        )
        sheet = (await one.ask("GET", f"/v1/reviews/{review_id}", as_=Role.REVIEWER)).json["data"]["about"]
        assert sheet["qualification"]["person"]["phone"] == "+86138****8000"
        assert [each["kind"] for each in sheet["documents"]] == ["licence", "person_id"]
        told = await one.ask("POST", f"/v1/reviews/{review_id}/approve", as_=Role.REVIEWER)
        assert told.json["data"]["state"] == "approved"
        own = (await one.ask("GET", "/v1/tenant", as_=Role.OWNER)).json["data"]
        assert (own["qualified"], own["legal_name"]) == (True, "兰花科技有限公司")
        (told,) = (await one.ask("GET", "/v1/announcements", as_=Role.OWNER)).json["data"]["items"]
        assert (told["event"], told["body"]["decision"]) == ("review.decided", "approved")
        assert (await one.ask("GET", "/v1/announcements", as_=FOREIGN)).json["data"]["items"] == []


async def test_a_rejection_wants_a_reason_and_the_tenant_reads_it(database: str) -> None:
    async with desk(database) as one:
        place = f"/v1/reviews/{await hand_in(one)}/reject"
        assert (await one.ask("POST", place, {}, as_=Role.REVIEWER)).code == "Request.InvalidParameter"
        wrong = await one.ask("POST", place, {"reason_code": "unfounded"}, as_=Role.REVIEWER)
        assert wrong.code == "Request.InvalidParameter"
        reasons = (await one.ask("GET", "/v1/review-reasons?kind=qualification", as_=Role.REVIEWER)).json[
            "data"
        ]
        assert {reason["kind"] for reason in reasons["items"]} == {"qualification"}
        await one.ask("POST", place, {"reason_code": reasons["items"][0]["code"]}, as_=Role.REVIEWER)
        (row,) = (await one.ask("GET", "/v1/qualifications", as_=Role.OWNER)).json["data"]["items"]
        assert (row["state"], row["reason"]) == ("rejected", "未提供营业执照")
        again = await one.ask("POST", place, {"reason": "no"}, as_=Role.REVIEWER)
        assert again.code == "Request.Conflict"


async def test_an_operator_does_not_approve_what_he_handed_in_for_a_tenant(database: str) -> None:
    async with desk(database) as one:
        tenant = f"tenant_id={one.world.tenant_id}"
        await hand_in(one)
        await one.ask("POST", f"/v1/qualification/withdraw?{tenant}")
        told = await one.ask("POST", f"/v1/qualification/submit?{tenant}")
        review_id = told.json["data"]["review_id"]
        refused = await one.ask("POST", f"/v1/reviews/{review_id}/approve")
        assert refused.code == "Auth.PermissionDenied"
        assert (await one.ask("POST", f"/v1/reviews/{review_id}/approve", as_=Role.REVIEWER)).status == 200


async def test_two_people_approve_where_policy_asks_for_two(database: str) -> None:
    async with desk(database) as one:
        await one.ask("PATCH", "/v1/policies", {"four_eyes": ["qualification"]})
        place = f"/v1/reviews/{await hand_in(one)}/approve"
        first = (await one.ask("POST", place, as_=Role.REVIEWER)).json["data"]
        assert first["state"] == "waiting"
        assert (await one.ask("POST", place, as_=Role.REVIEWER)).code == "Auth.PermissionDenied"
        assert (await one.ask("POST", place)).json["data"]["state"] == "approved"


@pytest.mark.parametrize("who", [Role.OWNER, Role.SUPPORT, Role.FINANCE, KEY])
async def test_only_reviewers_and_operators_decide(database: str, who: Who) -> None:
    async with desk(database) as one:
        review_id = await hand_in(one)
        for verb, body in (("approve", b""), ("reject", {"reason": "no"})):
            told = await one.ask("POST", f"/v1/reviews/{review_id}/{verb}", body, as_=who)
            assert told.code == "Auth.PermissionDenied"


async def test_a_document_comes_back_as_an_attachment_that_no_browser_opens_and_the_look_is_written_down(
    database: str,
) -> None:
    async with desk(database) as one:
        row = (await upload(one, "licence", name="%E6%89%A7%E7%85%A7.pdf")).json["data"]
        assert row["name"] == "执照.pdf"
        async with line(one.port) as wire:
            headers = one.credentials(Role.REVIEWER) | {"Connection": "close"}
            await wire.write(request("GET", f"/v1/documents/{row['id']}/file", headers=headers))
            head, _, body = (await wire.closed()).partition(b"\r\n\r\n")
        assert files.PDF in body
        text = head.decode().lower()
        assert "content-disposition: attachment; filename*=utf-8''%e6%89%a7%e7%85%a7.pdf" in text
        assert "x-content-type-options: nosniff" in text
        assert "content-type: application/pdf" in text
        looks = await one.fetch("SELECT subject FROM audit WHERE action = 'downloadDocument'")
        assert [look["subject"] for look in looks] == [f"document:{row['id']}"]


@pytest.mark.parametrize(
    ("octets", "said", "name", "code"),
    [
        (b"<html>", "application/pdf", "a.pdf", "Request.UnsupportedFile"),
        (files.PDF, "image/png", "a.pdf", "Request.UnsupportedFile"),
        (files.PDF, "text/html", "a.pdf", "Request.UnsupportedFile"),
        (files.PDF + b"<html>", "application/pdf", "a.pdf", "Request.UnsupportedFile"),
        (files.PDF, "application/pdf", "..%2F..%2Fetc%2Fpasswd", "Request.InvalidParameter"),
        (files.PDF, "application/pdf", "a%5Cb.pdf", "Request.InvalidParameter"),
        (b"%PDF-1.4\n" + b"x" * 5_000_000, "application/pdf", "a.pdf", "Request.TooLarge"),
        (b"", "application/pdf", "a.pdf", "Request.UnsupportedFile"),
    ],
)
async def test_a_file_that_plays_tricks_is_not_taken(
    database: str, octets: bytes, said: str, name: str, code: str
) -> None:
    async with desk(database) as one:
        assert (await upload(one, "licence", octets, said, name)).code == code
        assert await one.fetch("SELECT id FROM document") == []


async def test_anothers_documents_and_qualifications_are_not_found(database: str) -> None:
    async with desk(database) as one:
        review_id = await hand_in(one)
        document_id = (await upload(one, "other")).json["data"]["id"]
        (row,) = (await one.ask("GET", "/v1/qualifications", as_=Role.OWNER)).json["data"]["items"]
        for method, target in (
            ("GET", f"/v1/documents/{document_id}/file"),
            ("DELETE", f"/v1/documents/{document_id}"),
            ("GET", f"/v1/qualifications/{row['id']}"),
        ):
            assert (await one.ask(method, target, as_=FOREIGN)).code == "Request.NotFound"
        for target in ("/v1/documents", "/v1/qualifications"):
            assert (await one.ask("GET", target, as_=FOREIGN)).json["data"]["items"] == []
        elsewhere = f"tenant_id={one.foreign_id}"
        told = await one.ask("POST", f"/v1/reviews/{review_id}/approve?{elsewhere}", as_=Role.REVIEWER)
        assert told.code == "Request.NotFound"
        assert (await one.ask("DELETE", f"/v1/documents/{document_id}", as_=Role.OWNER)).status == 200


async def held(world: World, text: str = "【鸿雁】您好") -> str:
    async with world.database.transaction() as tx:
        message_id = await make.message(tx, world, status=Status.HELD, text=text)
        await make.outbox(tx, world, message_id, owner=-1)
    return f"message:{message_id}"


async def test_held_messages_are_listed_and_decided_in_the_same_queue(database: str) -> None:
    async with desk(database) as one:
        first, second = await held(one.world, "one"), await held(one.world, "two")
        page = (await one.ask("GET", "/v1/reviews?kind=message&limit=1", as_=Role.REVIEWER)).json["data"]
        assert [(entry["id"], entry["title"]) for entry in page["items"]] == [(first, "one")]
        rest = await one.ask(
            "GET", f"/v1/reviews?kind=message&limit=5&cursor={page['next']}", as_=Role.REVIEWER
        )
        assert [entry["id"] for entry in rest.json["data"]["items"]] == [second]
        sheet = (await one.ask("GET", f"/v1/reviews/{second}", as_=Role.REVIEWER)).json["data"]
        assert sheet["about"]["message"]["number"] == "+86138****8000"
        released = await one.ask("POST", f"/v1/reviews/{first}/approve", as_=Role.REVIEWER)
        assert released.json["data"]["state"] == "approved"
        refused = await one.ask("POST", f"/v1/reviews/{second}/reject", {"reason_code": "forbidden_content"})
        assert refused.json["data"]["state"] == "rejected"
        statuses = await one.fetch("SELECT status FROM message ORDER BY id")
        assert [row["status"] for row in statuses] == [Status.ACCEPTED.number, Status.REFUSED.number]
        again = await one.ask("POST", f"/v1/reviews/{second}/approve")
        assert again.code == "Request.NotFound"
        audited = await one.fetch("SELECT actor, subject FROM audit ORDER BY seq")
        assert [row["subject"] for row in audited] == [f"review:{first}", f"review:{second}"]
        assert "reviewer@example.com" in audited[0]["actor"]


@pytest.mark.parametrize(
    "named",
    ["message:x", "message:", "x", "-1", "99999999999", "message:00000000-0000-0000-0000-000000000000"],
)
async def test_what_is_nowhere_is_not_found(database: str, named: str) -> None:
    async with desk(database) as one:
        for method, target in (("GET", f"/v1/reviews/{named}"), ("POST", f"/v1/reviews/{named}/approve")):
            assert (await one.ask(method, target)).code == "Request.NotFound"
