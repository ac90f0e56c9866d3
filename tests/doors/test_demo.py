"""What a demo shows of its first message, asked of a door."""

import aiohttp
import pytest

import make
from doors.counter import Yes, basic, served
from hongyan import run


async def test_a_demo_that_is_refused_says_why_and_asks_no_further(
    world: make.World, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SEND_TRIES", 2)
    headers = {"Authorization": basic(key_id)}
    async with served(world, Yes()) as one, aiohttp.ClientSession(headers=headers) as session:
        base = f"http://127.0.0.1:{one.port}"
        said = [status async for status in run._statuses(session, base, {"to": make.NUMBER, "nonsense": 1})]
    assert len(said) == 1
    assert said[0].startswith("refused: Request.")
