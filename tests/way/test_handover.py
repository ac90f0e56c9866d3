"""What a door hands over reaches its gateway whole, and a link that breaks comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hongyan.way import handover
from hongyan.way.handover import Handed, Link

WAIT_S = 20.0


def handed(number: int, lane: int = 1) -> Handed:
    return Handed(
        id=number.to_bytes(16),
        tenant_id=1,
        lane=lane,
        number="+8613800138000",
        text="你好" * 50,
        extension="",
        part_count=1,
        country="CN",
        operator="cmcc",
        expires_at_s=1e9,
        price_micro=1,
        resend=True,
        sandbox=False,
        owner=1,
    )


async def comes(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def gateway(path: Path, got: list[Handed], waiting: Sequence[int] = (0, 0, 0)) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(handover.listen(path, got.extend, lambda: waiting))
        await comes(path.exists)
        yield
        task.cancel()


@asynccontextmanager
async def door(path: Path) -> AsyncIterator[Link]:
    link = Link(path)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(link.run())
        yield link
        task.cancel()


async def test_rows_arrive_whole_and_in_order_from_several_doors(tmp_path: Path) -> None:
    path, got = tmp_path / "gateway.sock", list[Handed]()
    async with gateway(path, got), door(path) as one, door(path) as other:
        await comes(lambda: one.up and other.up)
        for start in range(0, 2_000, 500):
            one.hand([handed(n) for n in range(start, start + 500)])
        other.hand([handed(2_000, lane=0)])
        await comes(lambda: len(got) == 2_001)
    mine = [row for row in got if row.lane == 1]
    assert mine == [handed(n) for n in range(2_000)]


async def test_only_its_owner_may_speak_to_a_gateway(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    async with gateway(path, []):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_a_door_knows_how_many_wait_and_what_it_sent_since(tmp_path: Path) -> None:
    path, got = tmp_path / "gateway.sock", list[Handed]()
    async with gateway(path, got, waiting=(0, 7, 0)), door(path) as one:
        await comes(lambda: one.waiting(1) == 7)
        one.hand([handed(1), handed(2, lane=2)])
        assert (one.waiting(1), one.waiting(2)) == (8, 1)
        await comes(lambda: one.waiting(1) == 7)  # the gateway has told again


async def test_a_link_comes_back_after_the_gateway_did(tmp_path: Path) -> None:
    path, got = tmp_path / "gateway.sock", list[Handed]()
    async with door(path) as one:
        one.hand([handed(1)])  # nobody there: the gateway's sweep finds the row
        async with gateway(path, got):
            await comes(lambda: one.up)
        await comes(lambda: not one.up)
        async with gateway(path, got):
            await comes(lambda: one.up)
            one.hand([handed(2)])
            await comes(lambda: bool(got))
    assert got == [handed(2)]


async def test_a_frame_in_pieces_is_read_and_one_too_long_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, got = tmp_path / "gateway.sock", list[Handed]()
    monkeypatch.setattr(handover, "FRAME_OCTETS_MAX", 10_000)
    octets = handover._encode([handed(1)])
    async with gateway(path, got):
        reader, writer = await asyncio.open_unix_connection(str(path))
        for octet in len(octets).to_bytes(4) + octets:
            writer.write(bytes([octet]))
            await writer.drain()
        await comes(lambda: got == [handed(1)])
        writer.write((20_000).to_bytes(4))
        async with asyncio.timeout(WAIT_S):
            await reader.read()  # to its end; what the gateway told meanwhile does not matter
        writer.close()
