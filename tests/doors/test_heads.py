"""Heads that came before: read as they were read then, and nothing but a head is remembered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest

import make
from doors.counter import Reply, Served, Yes, basic, line, request, served
from hongyan.doors import messages
from hongyan.doors.heads import HEADS_MAX, Heads

ROUTE: Final = "/v1/messages"
TURNS: Final = 5  # of the event loop, in which the door reads what was written
BASIC: Final = "Basic a2V5OnNlY3JldA=="
FIELDS: Final = {b"authorization": BASIC.encode(), b"content-length": b"2"}
HEAD: Final = b"POST /v1/messages HTTP/1.1\r\nauthorization: %b\r\ncontent-length: 2\r\n\r\n" % BASIC.encode()


@pytest.fixture
async def door(world: make.World, key_id: str) -> AsyncIterator[Served]:
    assert key_id
    async with served(world, Yes()) as one:
        yield one


def keep(heads: Heads, octets: bytes, fields: dict[bytes, bytes]) -> None:
    heads.keep(octets, messages.one, b"/v1/messages", fields)


def message(key_id: str, reference: str, **fields: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    body = {"to": make.NUMBER, "reference": reference}
    return request("POST", ROUTE, body, {"Authorization": basic(key_id)} | named)


def references(replies: list[Reply]) -> list[str]:
    assert {reply.status for reply in replies} == {202}
    return [reply.json["data"]["reference"] for reply in replies]


# ---- what is kept


def test_a_head_that_came_before_brings_its_own_body() -> None:
    heads = Heads()
    keep(heads, HEAD + b"{}", FIELDS)
    found = heads.of(HEAD + b"[]")
    assert found is not None
    head, body = found
    assert (head.answers, head.url, head.fields, body) == (messages.one, b"/v1/messages", FIELDS, b"[]")


@pytest.mark.parametrize("rest", [b"", b"[", b"[]\r\n", b"[]" + HEAD + b"[]"])
def test_what_is_not_one_whole_request_has_to_be_parsed(rest: bytes) -> None:
    heads = Heads()
    keep(heads, HEAD + b"{}", FIELDS)
    assert heads.of(HEAD + rest) is None
    assert heads.of(HEAD[1:] + b"{}") is None


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        pytest.param(HEAD + b"{}" + HEAD + b"{}", FIELDS, id="two requests"),
        pytest.param(b"\r\n\r\n" + HEAD + b"{}", FIELDS, id="lines before it"),
        pytest.param(HEAD + b"2\r\n{}\r\n0\r\n\r\n", {b"authorization": BASIC.encode()}, id="a chunked body"),
        pytest.param(HEAD + b"{}", FIELDS | {b"authorization": b"HONGYAN-HMAC-SHA256 nonce=1"}, id="signed"),
        pytest.param(HEAD + b"{}", {b"content-length": b"2"}, id="without credentials"),
        pytest.param(HEAD + b"{}", FIELDS | {b"idempotency-key": b"1"}, id="with a key of its own"),
        pytest.param(HEAD + b"{}", FIELDS | {b"expect": b"100-continue"}, id="asking first"),
        pytest.param(b"x" * 2_000 + HEAD + b"{}", FIELDS, id="long"),
    ],
)
def test_what_cannot_come_again_as_it_was_is_not_kept(octets: bytes, fields: dict[bytes, bytes]) -> None:
    heads = Heads()
    keep(heads, octets, fields)
    assert heads.of(octets) is None
    assert heads.of(HEAD + b"{}") is None


def test_no_more_heads_are_kept_than_there_is_room_for() -> None:
    heads = Heads()
    each = [HEAD.replace(b"\r\n\r\n", b"\r\nn: %d\r\n\r\n" % n) + b"{}" for n in range(HEADS_MAX + 1)]
    for octets in each:
        keep(heads, octets, FIELDS)
    assert [octets for octets in each if heads.of(octets)] == each[-1:]


# ---- at the socket


async def test_a_request_is_the_same_however_often_its_head_came_and_however_it_is_cut(
    door: Served, key_id: str
) -> None:
    """Whole, in two pieces cut anywhere, two at once, and one more behind the last, all with one head."""
    named: list[str] = []

    def next_one() -> bytes:
        named.append(f"{len(named):04}")
        return message(key_id, named[-1])

    pieces = [next_one(), next_one()]
    for cut in range(1, len(pieces[0])):
        one = next_one()
        pieces += [one[:cut], one[cut:]]
    pieces.append(next_one() + next_one())
    one, two = next_one(), next_one()
    pieces += [one + two[:9], two[9:], next_one()]
    async with line(door.port) as client:
        for piece in pieces:
            await client.write(piece)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        assert references([await client.reply() for _ in named]) == named


async def test_a_head_counts_for_its_own_octets_only(door: Served, key_id: str) -> None:
    """Neither another method on the same target, nor another language, nor a wish to close is taken for it."""
    async with line(door.port) as client:
        for _ in range(2):
            await client.write(message(key_id, "a"))
            assert references([await client.reply()]) == ["a"]
        await client.write(request("GET", f"{ROUTE}?limit=1", headers={"Authorization": basic(key_id)}))
        assert (await client.reply()).json["data"] == {"items": [], "next_cursor": None}
        for language, words in (("zh", "成功"), ("en", "Success")) * 2:
            await client.write(message(key_id, "b", Accept_Language=language))
            assert (await client.reply()).json["message"] == words
        await client.write(message(key_id, "c", Connection="close"))
        assert references([await client.reply()]) == ["c"]
        assert await client.closed() == b""


async def test_whose_head_is_known_is_not_let_in_for_that(
    world: make.World, door: Served, key_id: str
) -> None:
    async with line(door.port) as client:
        for _ in range(2):
            await client.write(message(key_id, "a"))
            assert (await client.reply()).status == 202
        await world.database.execute("DELETE FROM app_key")
        await door.keeper.load()
        await client.write(message(key_id, "a"))
        assert (await client.reply()).code == "Auth.KeyNotFound"
