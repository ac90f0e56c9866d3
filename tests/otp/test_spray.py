"""Guessing at many numbers a little, through a real door: what the meter makes of it."""

import itertools
from collections.abc import AsyncIterator

import pytest

from doors.counter import Reply, basic, line, request
from hongyan.otp import meter
from make import World
from otp.replay import counter

MONITOR = '{"challenge": "never", "pumping": {"monitor": true}}'  # what is pumped is another test's
BATCH = 20
CODES = 240


class Sprayer:
    """Somebody who asks for codes to ever other numbers and gives five wrong ones each."""

    def __init__(self, port: int, key_id: str, world: World, now_s: float) -> None:
        self._port = port
        self._headers = {"Authorization": basic(key_id)}
        self._world = world
        self._now_s = now_s
        self._numbers = (f"+2547{number:08d}" for number in itertools.count())

    async def start(self) -> list[Reply]:
        """Ask for a batch of codes."""
        wishes = [("", {"to": next(self._numbers), "scene": "login"}) for _ in range(BATCH)]
        return await self._ask(wishes)

    async def guess(self, started: list[Reply]) -> None:
        """Give wrong codes until no tries are left. A right one by chance, one in some hundred runs, ends that code's."""
        for turn in range(5):
            guesses = []
            for reply in started:
                told = reply.json["data"]
                if turn < told["tries_left"]:
                    guesses.append((f"/{told['id']}/check", {"code": str(turn) * told["digits"]}))
            await self._ask(guesses)

    async def hits(self) -> float:
        async with self._world.database.transaction() as tx:
            return (await meter.hits(tx, [self._world.tenant_id], self._now_s)).get(
                self._world.tenant_id, 0.0
            )

    async def _ask(self, asks: list[tuple[str, dict[str, str]]]) -> list[Reply]:
        async with line(self._port) as one:
            await one.write(
                b"".join(
                    request("POST", f"/v1/verifications{path}", body, self._headers) for path, body in asks
                )
            )
            return [await one.reply() for _ in asks]


@pytest.fixture(params=["code_long", "code"])
async def sprayer(request: pytest.FixtureRequest, database: str) -> AsyncIterator[tuple[Sprayer, str]]:
    async with counter(database, MONITOR, request.param) as (world, one, key_id, moving):
        yield Sprayer(one.port, key_id, world, moving.now_s), request.param


async def test_idea_1_codes_are_longer_before_a_thousandth_hit_is_expected(
    sprayer: tuple[Sprayer, str],
) -> None:
    """Where the template takes no longer code, a challenge is asked for instead."""
    guesser, kind = sprayer
    for _ in range(CODES // BATCH):
        before = await guesser.hits()
        started = await guesser.start()
        if started[0].status != 201 or started[0].json["data"]["digits"] != 6:
            break
        assert {reply.json["data"]["digits"] for reply in started} == {6}
        await guesser.guess(started)
    assert 0.0 < before < 1e-3
    if kind == "code_long":
        assert {(reply.json["data"]["digits"], reply.json["data"]["tries_left"]) for reply in started} == {
            (8, 5)
        }
        await guesser.guess(started)
        assert await guesser.hits() == pytest.approx(before + BATCH * 5e-8)
    else:
        assert {reply.code for reply in started} == {"Verify.ChallengeRequired"}
        assert started[0].json["detail"]["reasons"] == ["meter"]
