"""A trial leaves nothing behind, however it ends."""

import asyncio
from contextlib import suppress

import make
from hongyan.control import trials


async def test_a_trial_that_is_cut_off_leaves_no_connection() -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        came.set()
        await reader.read()  # until the other side closes
        gone.set()
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = {"hosts": [f"127.0.0.1:{port}"], "system_id": "a", "password": "b"}
    trial = asyncio.create_task(trials.attempt("smpp", settings, make.SETTINGS))
    async with asyncio.timeout(10):
        await came.wait()
        trial.cancel()
        with suppress(asyncio.CancelledError):
            await trial
        await gone.wait()
    server.close()
