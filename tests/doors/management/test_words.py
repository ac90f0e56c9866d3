"""Word lists over REST: made, filled, searched, tried on a text, and in force for the next message."""

from typing import Any
from urllib.parse import quote

from doors.counter import line, request
from doors.management.desk import FOREIGN, KEY, Desk, desk
from hongyan.control.permissions import Role

LISTS = "/v1/word-lists"


async def create(d: Desk, *words: str, as_: Any = Role.OPERATOR, **fields: Any) -> int:
    made = await d.ask("POST", LISTS, {"name": "list"} | fields, as_=as_)
    assert made.status == 201, made.json
    number = int(made.json["data"]["id"])
    if words:
        added = await d.ask("POST", f"{LISTS}/{number}/words", {"words": list(words)}, as_=as_)
        assert added.json["data"]["word_count"] == len(words)
    await d.served.keeper.load()
    return number


async def test_a_list_is_made_filled_searched_and_emptied(database: str) -> None:
    async with desk(database) as d:
        number = await create(d, "代开发票", "賭博", "Casino", tag="fraud", source="ours")
        one = await d.ask("GET", f"{LISTS}/{number}")
        assert (one.json["data"]["tag"], one.json["data"]["word_count"]) == ("fraud", 3)
        found = await d.ask("GET", f"{LISTS}/{number}/words?having={quote('發票')}")
        assert found.json["data"]["items"] == ["代开发票"]
        first = (await d.ask("GET", f"{LISTS}/{number}/words?limit=2")).json["data"]
        rest = (await d.ask("GET", f"{LISTS}/{number}/words?limit=2&cursor={quote(first['next'])}")).json[
            "data"
        ]
        assert sorted(first["items"] + rest["items"]) == sorted(["代开发票", "賭博", "Casino"])
        left = await d.ask("POST", f"{LISTS}/{number}/words/remove", {"words": ["赌.博"]})
        assert left.json["data"]["word_count"] == 2
        assert (await d.ask("DELETE", f"{LISTS}/{number}")).status == 200
        assert (await d.ask("GET", LISTS)).json["data"]["items"] == []


async def test_a_word_refuses_the_next_message_and_says_where(database: str) -> None:
    async with desk(database) as d:
        signature = (await d.fetch("SELECT name FROM signature LIMIT 1"))[0]["name"]
        message = {"to": "13800138000", "signature": signature, "text": "来賭 博", "purpose": "transactional"}
        assert (await d.ask("POST", "/v1/messages", message, as_=KEY)).status == 202
        number = await create(d, "赌博")
        refused = await d.ask("POST", "/v1/messages", message, as_=KEY)
        assert (refused.status, refused.json["code"]) == (400, "Content.Forbidden")
        start = len(signature) + 3
        assert refused.json["detail"]["hits"] == [
            {"list": "list", "level": "block", "tag": "", "span": [start, start + 3]}
        ]
        assert (await d.ask("PATCH", f"{LISTS}/{number}", {"active": False})).status == 200
        await d.served.keeper.load()
        assert (await d.ask("POST", "/v1/messages", message, as_=KEY)).status == 202


async def test_a_word_that_holds_is_answered_as_held(database: str) -> None:
    async with desk(database) as d:
        signature = (await d.fetch("SELECT name FROM signature LIMIT 1"))[0]["name"]
        await create(d, "理财", level="hold")
        message = {"to": "13800138000", "signature": signature, "text": "理财", "purpose": "transactional"}
        again = {"Idempotency-Key": "one"}
        first = await d.ask("POST", "/v1/messages", message, as_=KEY, headers=again)
        assert (first.status, first.json["data"]["status"]) == (202, "held")
        assert (await d.ask("POST", "/v1/messages", message, as_=KEY, headers=again)).json[
            "data"
        ] == first.json["data"]
        batch = await d.ask(
            "POST", "/v1/messages/batch", {"messages": [message, message | {"text": "你好"}]}, as_=KEY
        )
        assert [line["status"] for line in batch.json["data"]["items"]] == ["held", "accepted"]


async def test_a_text_is_tried_without_being_sent(database: str) -> None:
    async with desk(database) as d:
        await create(d, "贷款", level="warn")
        tried = await d.ask("POST", f"{LISTS}/check", {"text": "低息貸-款"}, as_=Role.OWNER)
        assert tried.json["data"]["level"] == "warn"
        assert tried.json["data"]["plain"] == "低息贷款"
        (hit,) = tried.json["data"]["hits"]
        assert (hit["start"], hit["end"], hit["text"], hit["word"]) == (2, 5, "貸-款", "贷款")
        clean = await d.ask("POST", f"{LISTS}/check", {"text": "你好"}, as_=Role.VIEWER)
        assert (clean.json["data"]["level"], clean.json["data"]["hits"]) == (None, [])


async def test_a_tenant_keeps_its_own_lists_and_sees_no_others(database: str) -> None:
    async with desk(database) as d:
        platform = await create(d, "赌博")
        own = await create(d, "竞品", as_=Role.OWNER, grants=True, allows=True)
        listed = (await d.ask("GET", LISTS, as_=Role.OWNER)).json["data"]["items"]
        assert [(one["id"], one["grants"]) for one in listed] == [(own, False)]  # nobody grants to oneself
        for number, who in ((platform, Role.OWNER), (own, FOREIGN)):
            for method, target in (("GET", ""), ("DELETE", ""), ("GET", "/words"), ("GET", "/words/export")):
                asked = await d.ask(method, f"{LISTS}/{number}{target}", as_=who)
                assert asked.status == 404, (number, who, method, target)
        assert (await d.ask("POST", LISTS, {"name": "x"}, as_=Role.VIEWER)).status == 403
        channel_id = (await d.fetch("SELECT id FROM channel LIMIT 1"))[0]["id"]
        of_channel = {"name": "x", "channel_id": channel_id}
        assert (await d.ask("POST", LISTS, of_channel, as_=Role.OWNER)).status == 400
        assert (await d.ask("POST", LISTS, of_channel)).status == 201


async def test_what_the_platform_grants_a_tenant_does_not_change(database: str) -> None:
    async with desk(database) as d:
        tenant = f"?tenant_id={d.world.tenant_id}"
        made = await d.ask("POST", f"{LISTS}{tenant}", {"name": "grant", "allows": True, "grants": True})
        number = made.json["data"]["id"]
        assert made.json["data"]["grants"] is True
        assert (await d.ask("GET", f"{LISTS}/{number}", as_=Role.OWNER)).status == 200
        added = await d.ask("POST", f"{LISTS}/{number}/words", {"words": ["赌博"]}, as_=Role.OWNER)
        assert added.status == 404


async def test_a_file_is_brought_and_fetched(database: str) -> None:
    async with desk(database) as d:
        number = await create(d, "旧词")
        octets = "# 说明\n代开发票\n開-發票\n…\n代开发票\n".encode()
        text = {"Content-Type": "text/plain"}
        brought = await d.ask("POST", f"{LISTS}/{number}/words/import", octets, headers=text)
        assert brought.status == 200, brought.json
        assert brought.json["data"] | {"faults": []} == {
            "added": 2, "same": 1, "left_out": 1, "faults": [], "word_count": 3,
        }  # fmt: skip
        assert brought.json["data"]["faults"][0]["line"] == 4
        async with line(d.port) as one:
            close = {"Connection": "close"}
            target = f"{LISTS}/{number}/words/export"
            await one.write(request("GET", target, headers=d.credentials(Role.OPERATOR) | close))
            fetched = (await one.closed()).decode()
        assert "attachment; filename*=UTF-8''list.txt" in fetched
        assert "content-type: text/plain; charset=utf-8\r\n" in fetched.lower()
        assert {"代开发票", "開-發票", "旧词"} < set(fetched.split("\n"))
        replaced = await d.ask(
            "POST", f"{LISTS}/{number}/words/import?replace=true", "新词".encode(), headers=text
        )
        assert replaced.json["data"]["word_count"] == 1


async def test_every_change_is_on_record(database: str) -> None:
    async with desk(database) as d:
        number = await create(d, "赌博")
        await d.ask("POST", f"{LISTS}/{number}/words/import", b"x\n", headers={"Content-Type": "text/csv"})
        rows = await d.fetch("SELECT action, subject FROM audit ORDER BY seq")
        assert [
            (row["action"], row["subject"]) for row in rows if row["subject"].startswith("word_list")
        ] == [(action, f"word_list:{number}") for action in ("createWordList", "addWords", "importWords")]
