"""Who may come in, over two doors where a limit must hold everywhere."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import make
from doors.counter import SECRET, Reply, Served, Yes, ask, basic, served
from hongyan import clock
from hongyan.doors.auth import caller_address, canonical, mac_of

VECTORS = msgspec.json.decode((Path(__file__).parents[2] / "docs/api/mac_vectors.json").read_bytes())
ROUTE = "/v1/messages"
BODY = {"to": make.NUMBER}


def signed(
    key_id: str,
    nonce: str,
    *,
    timestamp_s: float | None = None,
    method: str = "POST",
    path: str = ROUTE,
    query: str = "",
    body: object = BODY,
    secret: bytes = SECRET,
) -> Mapping[str, str]:
    timestamp = str(int(clock.now_s() if timestamp_s is None else timestamp_s))
    octets = body if isinstance(body, bytes) else msgspec.json.encode(body)
    mac = mac_of(
        secret,
        canonical(method.encode(), path.encode(), query.encode(), octets, timestamp.encode(), nonce.encode()),
    )
    parameters = f"key_id={key_id}, timestamp={timestamp}, nonce={nonce}, mac={mac}"
    return {"Authorization": f"HONGYAN-HMAC-SHA256 {parameters}"}


@pytest.fixture
async def doors(world: make.World, key_id: str) -> AsyncIterator[tuple[Served, Served]]:
    assert key_id
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(world, Yes()))
        yield first, await stack.enter_async_context(served(world, Yes()))


async def change_key(world: make.World, *doors: Served, **columns: Any) -> None:
    for name, value in columns.items():
        await world.database.execute(f"UPDATE app_key SET {name} = $1", value)
    for one in doors:
        await one.keeper.load()


def refusal(reply: Reply) -> tuple[int, str]:
    assert set(reply.json) <= {"code", "message", "request_id", "retry_after", "detail"}
    assert reply.json["request_id"] == reply.headers["x-request-id"]
    return reply.status, reply.code


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_the_published_vectors_hold(vector: Mapping[str, str]) -> None:
    fields = ("method", "path", "query", "body", "timestamp", "nonce")
    octets = canonical(*(vector[field].encode() for field in fields))
    assert octets.decode() == vector["canonical"]
    assert mac_of(VECTORS["secret"].encode(), octets) == vector["mac"]
    assert vector["authorization"].endswith(
        f"key_id={VECTORS['key_id']}, timestamp={vector['timestamp']}, "
        f"nonce={vector['nonce']}, mac={vector['mac']}"
    )


async def test_a_signed_request_is_admitted_on_every_route(doors: tuple[Served, Served], key_id: str) -> None:
    one, _ = doors
    reply = await ask(one.port, "POST", ROUTE, BODY, signed(key_id, "n" * 16))
    assert reply.status == 202
    query = "limit=5&reference=a%20b"
    headers = signed(key_id, "m" * 16, method="GET", query=query, body=b"")
    assert (await ask(one.port, "GET", f"{ROUTE}?{query}", headers=headers)).status == 200


async def test_a_mac_covers_method_path_query_and_body(doors: tuple[Served, Served], key_id: str) -> None:
    one, _ = doors
    mismatch = (401, "Auth.SignatureMismatch")
    headers = signed(key_id, "n" * 16)
    assert refusal(await ask(one.port, "POST", ROUTE, {"to": "1"}, headers)) == mismatch
    assert refusal(await ask(one.port, "POST", f"{ROUTE}/batch", BODY, headers)) == mismatch
    assert refusal(await ask(one.port, "POST", f"{ROUTE}?a=1", BODY, headers)) == mismatch
    assert refusal(await ask(one.port, "GET", ROUTE, b"", headers)) == mismatch
    wrong = signed(key_id, "n" * 16, secret=b"another")
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, wrong)) == mismatch


async def test_a_nonce_is_good_for_one_door_only(doors: tuple[Served, Served], key_id: str) -> None:
    one, other = doors
    headers = signed(key_id, "used-only-once-00")
    assert (await ask(one.port, "POST", ROUTE, BODY, headers)).status == 202
    assert refusal(await ask(other.port, "POST", ROUTE, BODY, headers)) == (401, "Auth.NonceUsed")
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, headers)) == (401, "Auth.NonceUsed")


async def test_of_many_replays_at_once_one_is_admitted(doors: tuple[Served, Served], key_id: str) -> None:
    headers = signed(key_id, "raced-for-000000")
    replies = await asyncio.gather(*(ask(doors[n % 2].port, "POST", ROUTE, BODY, headers) for n in range(20)))
    assert sorted(reply.status for reply in replies) == [202, *[401] * 19]


async def test_a_refused_mac_does_not_burn_the_nonce(doors: tuple[Served, Served], key_id: str) -> None:
    one, _ = doors
    await ask(one.port, "POST", ROUTE, BODY, signed(key_id, "keep-this-000000", secret=b"another"))
    assert (await ask(one.port, "POST", ROUTE, BODY, signed(key_id, "keep-this-000000"))).status == 202


@pytest.mark.parametrize("skew_s", [-310, 310])
async def test_a_clock_more_than_five_minutes_off_is_refused(
    doors: tuple[Served, Served], key_id: str, skew_s: int
) -> None:
    headers = signed(key_id, "n" * 16, timestamp_s=clock.now_s() + skew_s)
    reply = await ask(doors[0].port, "POST", ROUTE, BODY, headers)
    assert refusal(reply) == (401, "Auth.Expired")
    assert reply.json["detail"]["skew_s_max"] == 300


@pytest.mark.parametrize("skew_s", [-290, 290])
async def test_a_clock_less_than_five_minutes_off_is_forgiven(
    doors: tuple[Served, Served], key_id: str, skew_s: int
) -> None:
    headers = signed(key_id, "n" * 16, timestamp_s=clock.now_s() + skew_s)
    assert (await ask(doors[0].port, "POST", ROUTE, BODY, headers)).status == 202


NONE = (401, "Auth.Missing")
UNKNOWN = (401, "Auth.KeyNotFound")
NO_CREDENTIALS = {
    "": NONE,
    "Bearer abc": NONE,
    "Basic !!!": NONE,
    "Basic bm9jb2xvbg==": NONE,
    "Basic " + "A" * 2_000: NONE,
    basic("nobody"): UNKNOWN,
    "HONGYAN-HMAC-SHA256 key_id=a": NONE,
    "HONGYAN-HMAC-SHA256 key_id=a, key_id=b, timestamp=1, nonce=c, mac=d": NONE,
    f"HONGYAN-HMAC-SHA256 key_id=a, timestamp=1, nonce={'n' * 16}, mac={'0' * 64}": UNKNOWN,
}


async def test_credentials_that_are_none_are_refused_the_same_on_every_route(
    world: make.World, key_id: str
) -> None:
    async with served(world, Yes()) as one:
        for path in ("/v1/messages", "/v1/messages/batch", "/v1/messages?a"):
            for header, expected in NO_CREDENTIALS.items():
                headers = {"Authorization": header} if header else {}
                reply = await ask(one.port, "POST", path, BODY, headers)
                assert refusal(reply) == expected
                assert reply.headers["www-authenticate"].startswith("HONGYAN-HMAC-SHA256")
            twice = f"{basic(key_id)}\r\nAuthorization: {basic(key_id)}"
            assert refusal(await ask(one.port, "POST", path, BODY, {"Authorization": twice})) == NONE


async def test_a_wrong_secret_is_refused_also_after_the_right_one(
    doors: tuple[Served, Served], key_id: str
) -> None:
    one, _ = doors
    assert (await ask(one.port, "POST", ROUTE, BODY, {"Authorization": basic(key_id)})).status == 202
    wrong = {"Authorization": basic(key_id, b"wrong")}
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, wrong)) == (401, "Auth.SignatureMismatch")


async def test_a_key_that_must_sign_is_refused_basic_as_soon_as_the_snapshot_says_so(
    world: make.World, doors: tuple[Served, Served], key_id: str
) -> None:
    one, _ = doors
    headers = {"Authorization": basic(key_id)}
    assert (await ask(one.port, "POST", ROUTE, BODY, headers)).status == 202
    await change_key(world, one, allow_basic=False)
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, headers)) == (403, "Auth.PermissionDenied")


async def test_a_disabled_key_and_a_suspended_tenant_are_refused(
    world: make.World, doors: tuple[Served, Served], key_id: str
) -> None:
    one, _ = doors
    headers = {"Authorization": basic(key_id)}
    await world.database.execute("UPDATE tenant SET active = false")
    await one.keeper.load()
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, headers)) == (403, "Account.Suspended")
    await change_key(world, one, active=False)
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, headers)) == (401, "Auth.KeyNotFound")


async def test_an_allow_list_lets_in_only_whom_it_names(
    world: make.World, doors: tuple[Served, Served], key_id: str
) -> None:
    one, _ = doors
    headers = {"Authorization": basic(key_id)}
    await change_key(world, one, addresses=["10.0.0.0/8", "2001:db8::/32"])
    denied = (403, "Auth.IpDenied")
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, headers)) == denied
    claimed = headers | {"X-Forwarded-For": "10.1.2.3"}
    assert refusal(await ask(one.port, "POST", ROUTE, BODY, claimed)) == denied
    await change_key(world, one, addresses=["127.0.0.0/8"])
    assert (await ask(one.port, "POST", ROUTE, BODY, headers)).status == 202


async def test_behind_a_trusted_proxy_the_address_it_names_counts(world: make.World, key_id: str) -> None:
    settings = replace(make.SETTINGS, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    async with served(world, Yes(), settings=settings) as one:
        await change_key(world, one, addresses=["10.0.0.0/8"])
        headers = {"Authorization": basic(key_id), "X-Forwarded-For": "192.0.2.1, 10.1.2.3"}
        assert (await ask(one.port, "POST", ROUTE, BODY, headers)).status == 202
        headers["X-Forwarded-For"] = "10.1.2.3, 192.0.2.1"
        assert refusal(await ask(one.port, "POST", ROUTE, BODY, headers)) == (403, "Auth.IpDenied")


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("192.0.2.1", b"10.0.0.1", "192.0.2.1"),
        ("10.0.0.9", b"", "10.0.0.9"),
        ("10.0.0.9", b"192.0.2.7", "192.0.2.7"),
        ("10.0.0.9", b"6.6.6.6, 192.0.2.7, 10.0.0.8", "192.0.2.7"),
        ("::ffff:10.0.0.9", b"192.0.2.7", "192.0.2.7"),
        ("10.0.0.9", b"nonsense", None),
        ("", b"192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_caller_is_the_first_address_that_no_proxy_of_ours_vouches_for(
    peer: str, forwarded: bytes, caller: str | None
) -> None:
    found = caller_address(peer, forwarded, [ipaddress.ip_network("10.0.0.0/8")])
    assert (None if found is None else str(found)) == caller


async def test_a_rate_holds_over_two_doors(
    world: make.World, doors: tuple[Served, Served], key_id: str
) -> None:
    rate = 3
    await change_key(world, *doors, rate_per_s=rate)
    headers = {"Authorization": basic(key_id)}
    (before,) = await world.database.fetch("SELECT clock_timestamp() AS at")
    replies = await asyncio.gather(*(ask(doors[n % 2].port, "POST", ROUTE, BODY, headers) for n in range(40)))
    (after,) = await world.database.fetch("SELECT clock_timestamp() AS at")
    took_s = (after["at"] - before["at"]).total_seconds()
    admitted = [reply for reply in replies if reply.status == 202]
    assert rate <= len(admitted) <= rate * (took_s + 1)
    for reply in replies:
        if reply.status != 202:
            assert refusal(reply) == (429, "Request.RateLimited")
            assert int(reply.headers["retry-after"]) == reply.json["retry_after"] >= 1


async def test_a_rate_that_is_used_up_is_used_up_at_every_door(
    world: make.World, doors: tuple[Served, Served], key_id: str
) -> None:
    await change_key(world, *doors, rate_per_s=1)
    await world.database.execute(
        "INSERT INTO key_rate (key_id, next_at) SELECT id, now() + interval '50 seconds' FROM app_key"
    )
    for one in doors:
        reply = await ask(one.port, "POST", ROUTE, BODY, {"Authorization": basic(key_id)})
        assert refusal(reply) == (429, "Request.RateLimited")
        assert 1 < reply.json["retry_after"] <= 50
    await world.database.execute("UPDATE key_rate SET next_at = now() - interval '1 hour'")
    # Another door has not heard of the wait: it asks the database and gets the token that was saved up.
    async with served(world, Yes()) as third:
        await change_key(world, third)
        assert (await ask(third.port, "POST", ROUTE, BODY, {"Authorization": basic(key_id)})).status == 202


async def test_a_high_rate_is_leased_ahead_and_never_exceeded(world: make.World, key_id: str) -> None:
    rate = 400
    async with served(world, Yes()) as one:
        await change_key(world, one, rate_per_s=rate)
        key = one.keeper.current.keys[key_id]
        (before,) = await world.database.fetch("SELECT clock_timestamp() AS at")
        outcomes: list[object] = []
        for _ in range(30):
            wave = [asyncio.get_running_loop().create_future() for _ in range(50)]
            for future in wave:
                one.door._rates.take(key, future.set_result)
            outcomes += await asyncio.gather(*wave)
        (after,) = await world.database.fetch("SELECT clock_timestamp() AS at")
    took_s = (after["at"] - before["at"]).total_seconds()
    admitted = sum(outcome is None for outcome in outcomes)
    assert rate * 0.9 <= admitted <= rate * (took_s + 1)


async def test_a_door_whose_database_is_lost_says_busy(world: make.World, key_id: str) -> None:
    async with served(world, Yes()) as one:
        await world.database.execute("ALTER TABLE nonce RENAME TO gone")
        reply = await ask(one.port, "POST", ROUTE, BODY, signed(key_id, "n" * 16))
        assert refusal(reply) == (503, "System.Busy")
        assert reply.headers["retry-after"] == "1"
        await world.database.execute("ALTER TABLE gone RENAME TO nonce")
        assert (await ask(one.port, "POST", ROUTE, BODY, signed(key_id, "m" * 16))).status == 202
