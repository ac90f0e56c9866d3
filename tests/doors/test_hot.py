"""The socket of the hot routes: order, pieces, limits, and clients that misbehave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

import make
from doors.counter import Later, No, Served, Yes, ask, basic, line, request, served
from hongyan.doors import hot
from hongyan.vocab.errors import Code, Refusal

ROUTE = "/v1/messages"
LIMIT = 10_000


@pytest.fixture
async def later(world: make.World, key_id: str) -> AsyncIterator[tuple[Served, Later]]:
    assert key_id
    acceptor = Later()
    async with served(world, acceptor) as one:
        yield one, acceptor


@pytest.fixture
async def door(world: make.World, key_id: str) -> AsyncIterator[Served]:
    assert key_id
    async with served(world, Yes(), settings=replace(make.SETTINGS, body_octets_max=LIMIT)) as one:
        yield one


def message(key_id: str, reference: str = "", **headers: str) -> bytes:
    fields = {"Authorization": basic(key_id)} | {name.replace("_", "-"): v for name, v in headers.items()}
    return request("POST", ROUTE, {"to": make.NUMBER, "reference": reference}, fields)


def balance(key_id: str) -> bytes:
    return request("GET", "/v1/balance", headers={"Authorization": basic(key_id)})


async def test_pipelined_requests_are_answered_in_their_order(
    later: tuple[Served, Later], key_id: str
) -> None:
    one, acceptor = later
    async with line(one.port) as client:
        await client.write(b"".join(message(key_id, str(n)) for n in range(5)))
        await acceptor.until(5)
        for n in (3, 1, 4, 0, 2):
            acceptor.waiting[str(n)]()
        references = [(await client.reply()).json["data"]["reference"] for _ in range(5)]
    assert references == ["0", "1", "2", "3", "4"]


async def test_the_two_ways_keep_one_order(later: tuple[Served, Later], key_id: str) -> None:
    """Requests of the application and hot ones, mixed on one connection."""
    one, acceptor = later
    async with line(one.port) as client:
        wanted = [
            balance(key_id),
            message(key_id, "a"),
            balance(key_id),
            message(key_id, "b"),
            balance(key_id),
        ]
        await client.write(b"".join(wanted))
        await acceptor.until(2)
        acceptor.waiting["b"]()
        first = await client.reply()
        acceptor.waiting["a"]()
        rest = [await client.reply() for _ in range(4)]
    assert [set(reply.json["data"]) >= {"balance_micro"} for reply in (first, *rest)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert [rest[n].json["data"]["reference"] for n in (0, 2)] == ["a", "b"]


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_request_in_pieces_is_the_same_request(door: Served, key_id: str, size: int) -> None:
    octets = message(key_id, "in pieces")
    async with line(door.port) as client:
        for at in range(0, len(octets), size):
            await client.write(octets[at : at + size])
            await asyncio.sleep(0)
        reply = await client.reply()
    assert (reply.status, reply.json["data"]["reference"]) == (202, "in pieces")


async def test_a_connection_too_many_is_told_busy_and_the_others_are_served(
    door: Served, key_id: str
) -> None:
    door.door.connections_max = 2
    async with line(door.port) as first:
        async with line(door.port) as second:
            for client in (first, second):
                await client.write(balance(key_id))
                assert (await client.reply()).status == 200
            async with line(door.port) as third:
                refused = await third.reply()
                assert (refused.status, refused.json["code"]) == (503, "System.Busy")
                assert refused.headers["connection"] == "close"
            await first.write(balance(key_id))
            assert (await first.reply()).status == 200
        async with asyncio.timeout(10):
            while len(door.door.connections) > 1:
                await asyncio.sleep(0.01)
        async with line(door.port) as next_one:
            await next_one.write(balance(key_id))
            assert (await next_one.reply()).status == 200


async def test_a_chunked_body_is_the_same_body(door: Served, key_id: str) -> None:
    body = b'{"to":"13800138000","reference":"chunked"}'
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[n : n + 5]), body[n : n + 5]) for n in range(0, len(body), 5)
    )
    head = request("POST", ROUTE, headers={"Authorization": basic(key_id), "Transfer-Encoding": "chunked"})
    head = head.replace(b"Content-Length: 0\r\n", b"")
    async with line(door.port) as client:
        await client.write(head + chunks + b"0\r\nTrailer: ignored\r\n\r\n" + message(key_id, "next"))
        assert (await client.reply()).json["data"]["reference"] == "chunked"
        assert (await client.reply()).json["data"]["reference"] == "next"


async def test_a_body_announced_too_large_is_refused_before_it_comes(door: Served, key_id: str) -> None:
    head = request("POST", ROUTE, headers={"Authorization": basic(key_id), "Content-Length": str(LIMIT + 1)})
    async with line(door.port) as client:
        await client.write(head)
        reply = await client.reply()
        assert (reply.status, reply.code) == (413, "Request.TooLarge")
        assert reply.headers["connection"] == "close"
        assert await client.closed() == b""


async def test_a_body_that_grows_too_large_is_refused(door: Served, key_id: str) -> None:
    head = request("POST", ROUTE, headers={"Authorization": basic(key_id), "Transfer-Encoding": "chunked"})
    async with line(door.port) as client:
        await client.write(
            head.replace(b"Content-Length: 0\r\n", b"") + b"3000\r\n" + b" " * 0x3000 + b"\r\n"
        )
        assert (await client.reply()).code == "Request.TooLarge"
        assert await client.closed() == b""


async def test_a_large_body_of_another_route_is_refused_too(door: Served, key_id: str) -> None:
    headers = {"Authorization": basic(key_id)}
    reply = await ask(door.port, "POST", "/v1/reports/acknowledge", b" " * (LIMIT + 1), headers)
    assert (reply.status, reply.code) == (413, "Request.TooLarge")


async def test_a_head_without_end_is_refused(door: Served) -> None:
    async with line(door.port) as client:
        with contextlib.suppress(ConnectionError):
            await client.write(f"POST {ROUTE} HTTP/1.1\r\n".encode())
            await client.write(b"X: " + b"a" * 1_000_000)
        assert (await client.reply()).status == 413
        assert await client.closed() == b""


async def test_a_refusal_keeps_the_connection(door: Served, key_id: str) -> None:
    headers = {"Authorization": basic(key_id)}
    async with line(door.port) as client:
        await client.write(request("POST", ROUTE, b"{", headers))
        assert (await client.reply()).code == "Request.MalformedJson"
        await client.write(request("POST", ROUTE, {}, headers))
        assert (await client.reply()).code == "Request.MissingParameter"
        await client.write(request("POST", ROUTE, {"to": make.NUMBER}))
        assert (await client.reply()).code == "Auth.Missing"
        await client.write(message(key_id))
        assert (await client.reply()).status == 202


async def test_a_client_that_asks_first_is_told_to_continue(later: tuple[Served, Later], key_id: str) -> None:
    one, acceptor = later
    head, _, body = message(key_id, "b", Expect="100-continue").partition(b"\r\n\r\n")
    async with line(one.port) as client:
        await client.write(message(key_id, "a") + head + b"\r\n\r\n")
        await acceptor.until(1)
        acceptor.waiting["a"]()
        assert (await client.reply()).json["data"]["reference"] == "a"
        assert (await client.reply()).status == 100
        await client.write(body)
        await acceptor.until(2)
        acceptor.waiting["b"]()
        assert (await client.reply()).json["data"]["reference"] == "b"


@pytest.mark.parametrize("target", [ROUTE, f"{ROUTE}?", "/v1/reports/acknowledge"])
@pytest.mark.parametrize("apart", [False, True])
async def test_a_wish_for_another_protocol_costs_no_body(
    door: Served, key_id: str, target: str, apart: bool
) -> None:
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAB"}
    body = {"cursor": "none"} if target.endswith("acknowledge") else {"to": make.NUMBER}
    octets = request("POST", target, body, {"Authorization": basic(key_id)} | fields)
    async with line(door.port) as client:
        for _ in range(2):
            if apart:
                head, _, rest = octets.partition(b"\r\n\r\n")
                await client.write(head + b"\r\n\r\n")
                await client.write(rest)
            else:
                await client.write(octets + octets)
                assert (await client.reply()).code == "OK"
            assert (await client.reply()).code == "OK"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_that_wants_the_connection_closed_gets_that(
    door: Served, key_id: str, version: str
) -> None:
    octets = message(key_id, Connection="close").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    async with line(door.port) as client:
        await client.write(octets + message(key_id))
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (202, "close")
        assert await client.closed() == b""


async def test_a_client_that_said_all_still_gets_its_answer(later: tuple[Served, Later], key_id: str) -> None:
    one, acceptor = later
    async with line(one.port) as client:
        await client.write(message(key_id, "last"))
        client.writer.write_eof()
        await acceptor.until(1)
        await asyncio.sleep(0)
        acceptor.waiting["last"]()
        assert (await client.reply()).status == 202
        assert await client.closed() == b""


async def test_an_answer_for_a_client_that_left_harms_nobody(
    later: tuple[Served, Later], key_id: str
) -> None:
    one, acceptor = later
    async with line(one.port) as client:
        await client.write(message(key_id, "gone"))
        await acceptor.until(1)
        client.writer.transport.abort()
    async with line(one.port) as other:
        await other.write(message(key_id, "here"))
        await acceptor.until(2)
        acceptor.waiting["gone"]()
        acceptor.waiting["here"]()
        assert (await other.reply()).json["data"]["reference"] == "here"


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"GET\r\n\r\n", b"POST /v1/messages SPDY/9\r\n\r\n"]
)
async def test_what_is_not_http_is_told_so(door: Served, garbage: bytes) -> None:
    async with line(door.port) as client:
        await client.write(garbage)
        reply = await client.reply()
        assert (reply.status, reply.code) == (400, "Request.InvalidParameter")
        assert await client.closed() == b""


async def test_garbage_after_a_request_does_not_cost_its_answer(
    later: tuple[Served, Later], key_id: str
) -> None:
    one, acceptor = later
    async with line(one.port) as client:
        await client.write(message(key_id, "good") + b"\x00\x01\x02 garbage\r\n\r\n")
        await acceptor.until(1)
        acceptor.waiting["good"]()
        assert (await client.reply()).status == 202
        assert (await client.reply()).status == 400


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/nothing", (404, "Request.ActionNotFound")),
        ("DELETE", "/v1/messages", (405, "Request.MethodNotAllowed")),
        ("PUT", "/v1/messages/batch", (405, "Request.MethodNotAllowed")),
        ("POST", "/v1/messages/%", (405, "Request.MethodNotAllowed")),
        ("CONNECT", "example.com:443", (400, "Request.InvalidParameter")),
    ],
)
async def test_what_there_is_not_is_refused_in_the_same_shape(
    door: Served, key_id: str, method: str, path: str, expected: tuple[int, str]
) -> None:
    reply = await ask(door.port, method, path, headers={"Authorization": basic(key_id)})
    assert (reply.status, reply.code) == expected
    assert reply.json["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/messages", "POST, GET, HEAD, OPTIONS"),
        ("/v1/messages/batch", "POST, OPTIONS"),
        ("/v1/messages/0199", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_method_that_is_not_taken_is_told_those_that_are(
    door: Served, path: str, allowed: str
) -> None:
    refused = await ask(door.port, "DELETE", path)
    assert (refused.status, refused.headers["allow"]) == (405, allowed)
    asked = await ask(door.port, "OPTIONS", path)
    assert (asked.status, asked.headers["allow"]) == (204, allowed)


async def test_a_head_is_answered_as_a_get_without_its_body(door: Served, key_id: str) -> None:
    headers = {"Authorization": basic(key_id)}
    async with line(door.port) as client:
        for path in ("/healthz", "/docs", "/v1/balance"):
            await client.write(request("HEAD", path, headers=headers))
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        await client.write(balance(key_id))
        assert (await client.reply()).status == 200


async def test_every_answer_is_marked_against_misuse(door: Served, key_id: str) -> None:
    headers = {"Authorization": basic(key_id)}
    for reply in (
        await ask(door.port, "POST", ROUTE, {"to": make.NUMBER}, headers),
        await ask(door.port, "POST", ROUTE, {}, headers),
        await ask(door.port, "GET", "/v1/balance", headers=headers),
        await ask(door.port, "GET", "/v1/nothing"),
        await ask(door.port, "GET", "/docs"),
    ):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in reply.headers


async def test_one_connection_cannot_pile_up_requests(later: tuple[Served, Later], key_id: str) -> None:
    one, acceptor = later
    many = hot.PIPELINE_MAX * 40
    async with line(one.port) as client:
        client.writer.write(b"".join(message(key_id, str(n)) for n in range(many)))
        await acceptor.until(hot.PIPELINE_MAX)
        (connection,) = one.door.connections
        assert isinstance(connection, hot.HotProtocol)
        assert connection.flow.read_paused
        answered = 0
        while answered < many:
            await acceptor.until(1)
            answer = dict(acceptor.waiting)
            acceptor.waiting.clear()
            for done in answer.values():
                done()
            for _ in answer:
                assert (await client.reply()).json["data"]["reference"] == str(answered)
                answered += 1


async def test_a_slow_client_is_given_up(door: Served, key_id: str) -> None:
    async with line(door.port) as client, line(door.port) as idle, line(door.port) as good:
        await client.write(message(key_id)[:-5])
        await good.write(message(key_id))
        await good.reply()
        now_s = asyncio.get_running_loop().time()
        for connection in tuple(door.door.connections):
            connection.sweep(now_s + hot.RECEIVE_WAIT_S + 1)
        with contextlib.suppress(ConnectionError):
            assert await client.closed() == b""
        await good.write(message(key_id))
        assert (await good.reply()).status == 202
        for connection in tuple(door.door.connections):
            connection.sweep(now_s + hot.KEEP_ALIVE_S + 10)
        assert await idle.closed() == b""


async def test_a_file_may_take_long_while_it_comes(door: Served, key_id: str) -> None:
    async with line(door.port) as client:
        head = {"Authorization": basic(key_id), "Content-Type": "text/csv"}
        whole = request("POST", "/v1/lists?name=a", b"x" * 100, head)
        await client.write(whole[:-50])
        async with asyncio.timeout(20):
            while not (
                connections := [c for c in door.door.connections if cast("hot.HotProtocol", c)._slots]
            ):
                await asyncio.sleep(0)
        connection = cast("hot.HotProtocol", connections[0])
        connection._since_s -= hot.RECEIVE_WAIT_S + 1
        before_s = connection._since_s
        await client.write(whole[-50:-10])
        async with asyncio.timeout(20):
            while connection._since_s == before_s:
                await asyncio.sleep(0)
        connection.sweep(asyncio.get_running_loop().time())
        await client.write(whole[-10:])
        assert (await client.reply()).status == 415


async def test_an_answer_that_does_not_come_is_busy(later: tuple[Served, Later], key_id: str) -> None:
    one, acceptor = later
    async with line(one.port) as client:
        await client.write(message(key_id, "stuck") + message(key_id, "after"))
        await acceptor.until(2)
        acceptor.waiting["after"]()
        (connection,) = one.door.connections
        now_s = asyncio.get_running_loop().time()
        connection.sweep(now_s + make.SETTINGS.accept_wait_s + hot.STUCK_MARGIN_S + 1)
        assert (await client.reply()).code == "System.Busy"
        assert (await client.reply()).json["data"]["reference"] == "after"
        acceptor.waiting["stuck"]()
        await client.write(balance(key_id))
        assert (await client.reply()).status == 200


async def test_a_graceful_stop_answers_what_was_begun(world: make.World, key_id: str) -> None:
    acceptor = Later()
    async with served(world, acceptor) as one, line(one.port) as client, line(one.port) as idle:
        await client.write(message(key_id, "begun"))
        await acceptor.until(1)
        for connection in tuple(one.door.connections):
            assert isinstance(connection, hot.HotProtocol)
            connection.shutdown()
        assert await idle.closed() == b""
        acceptor.waiting["begun"]()
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (202, "close")
        assert await client.closed() == b""


async def test_a_fault_of_ours_is_500_and_tells_nothing(world: make.World, key_id: str) -> None:
    class Broken(Yes):
        def outcome(self, _draft: object) -> Refusal:
            raise RuntimeError("a secret of ours")

    async with served(world, Broken()) as one, line(one.port) as client:
        await client.write(message(key_id))
        reply = await client.reply()
        assert (reply.status, reply.code) == (500, "System.Error")
        assert b"secret" not in reply.body
        await client.write(balance(key_id))
        assert (await client.reply()).status == 200


async def test_a_refusal_of_the_acceptor_is_shown_whole(world: make.World, key_id: str) -> None:
    refusal = Refusal(Code.LIMIT_MINUTE, retry_after_s=41.2, limit=1)
    async with served(world, No(refusal)) as one, line(one.port) as client:
        await client.write(message(key_id, Accept_Language="zh-CN,zh;q=0.9,en;q=0.8"))
        reply = await client.reply()
    assert reply.status == 429
    assert reply.headers["retry-after"] == "42"
    assert reply.json == {
        "code": "Limit.Minute",
        "message": "该号码每分钟发送次数超限",
        "request_id": reply.headers["x-request-id"],
        "retry_after": 42,
        "detail": {"limit": 1},
    }
