"""The public API over a real socket and a real database."""

import make
from doors.counter import ask, basic, served

BODY = {"to": make.NUMBER, "text": "您的快递已到南门", "purpose": "transactional"}


async def test_a_message_is_accepted_looked_up_and_taken_back(world: make.World, key_id: str) -> None:
    row = await world.database.fetch("SELECT name FROM signature")
    headers = {"Authorization": basic(key_id)}
    async with served(world) as one:
        sent = await ask(one.port, "POST", "/v1/messages", BODY | {"signature": row[0]["name"], "reference": "r1"}, headers)
        assert (sent.status, sent.code) == (202, "OK"), sent.body
        promised = sent.json["data"]
        story = await ask(one.port, "GET", f"/v1/messages/{promised['id']}", headers=headers)
        assert story.json["data"]["reference"] == "r1", story.body
        found = await ask(one.port, "GET", "/v1/messages?reference=r1", headers=headers)
        assert [item["id"] for item in found.json["data"]["items"]] == [promised["id"]], found.body
        gone = await ask(one.port, "POST", f"/v1/messages/{promised['id']}/cancel", headers=headers)
        assert gone.json["data"] == {"id": promised["id"], "status": "cancelled"}, gone.body
        again = await ask(one.port, "POST", f"/v1/messages/{promised['id']}/cancel", headers=headers)
        assert (again.status, again.code) == (409, "Request.TooLate")
