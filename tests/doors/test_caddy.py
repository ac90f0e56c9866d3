"""The Caddyfile that we ship, in front of a door, by Caddy itself."""

import asyncio
import contextlib
import io
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp
import pytest

import make
import programs
from doors.counter import Served, Yes, served
from ports import free_port

CADDYFILE: Final = Path(__file__).parents[2] / "deploy" / "Caddyfile"
DEADLINE_S: Final = 20.0
CALLER: Final = "127.0.0.2"  # not Caddy's own address, so that it can be told from it

pytestmark = pytest.mark.needs("caddy")


@contextlib.asynccontextmanager
async def fronted(door: Served, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Have Caddy stand in front of a door as in the compose file, but for ports; gives a client that trusts its certificate."""
    https_port = free_port()
    options = f"admin off\nskip_install_trust\nhttp_port {free_port()}\nhttps_port {https_port}"
    site = CADDYFILE.read_text().replace("hongyan:8080", f"127.0.0.1:{door.port}")
    (folder / "Caddyfile").write_text(f"{{\n{options}\n}}\n{site}")
    program = programs.find("caddy")
    assert program is not None
    places = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    caddy = await asyncio.create_subprocess_exec(
        program, "run", "--config", folder / "Caddyfile", cwd=folder, stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | places | {"SITE_ADDRESS": "localhost"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (trust := await _trusted(https_port, folder)) is None:
                await asyncio.sleep(0.05)
        connector = aiohttp.TCPConnector(local_addr=(CALLER, 0), family=socket.AF_INET, ssl=trust)
        async with aiohttp.ClientSession(f"https://localhost:{https_port}", connector=connector) as client:
            yield client
    finally:
        with contextlib.suppress(ProcessLookupError):
            caddy.kill()
        await caddy.wait()


async def _trusted(port: int, folder: Path) -> ssl.SSLContext | None:
    """What trusts the certificate that Caddy has made and answers with; None as long as it has not."""
    with contextlib.suppress(OSError):
        trust = ssl.create_default_context(cafile=str(folder / "caddy/pki/authorities/local/root.crt"))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
        writer.close()
        return trust
    return None


async def test_behind_caddy_a_caller_is_who_connected_and_not_who_he_says(
    world: make.World, headers: Mapping[str, str], tmp_path: Path
) -> None:
    settings = replace(make.SETTINGS, trusted_proxies=(ipaddress.ip_network("127.0.0.1"),))
    async with served(world, Yes(), settings=settings) as door, fronted(door, tmp_path) as client:

        async def status(addresses: list[str], **claimed: str) -> int:
            await world.database.execute("UPDATE app_key SET addresses = $1", addresses)
            await door.keeper.load()
            body = {"to": make.NUMBER}
            async with client.post("/v1/messages", json=body, headers={**headers, **claimed}) as reply:
                return reply.status

        assert await status([f"{CALLER}/32"]) == 202
        assert await status(["127.0.0.1/32"]) == 403
        assert await status(["10.0.0.0/8"], **{"X-Forwarded-For": "10.1.2.3"}) == 403


async def test_caddy_tells_nobody_outside_how_we_are(door: Served, tmp_path: Path) -> None:
    async with fronted(door, tmp_path) as client:
        for path in ("/metrics", "/healthz"):
            async with (
                client.get(path) as outside,
                aiohttp.request("GET", f"http://127.0.0.1:{door.port}{path}") as inside,
            ):
                assert (outside.status, inside.status) == (404, 200), path


async def test_a_refusal_of_a_body_too_large_comes_through_caddy(
    door: Served, headers: Mapping[str, str], tmp_path: Path
) -> None:
    body = io.BytesIO(b" " * 3_000_000)
    async with (
        fronted(door, tmp_path) as client,
        client.post("/v1/messages", data=body, headers=headers) as reply,
    ):
        assert (reply.status, (await reply.json())["code"]) == (413, "Request.TooLarge")
