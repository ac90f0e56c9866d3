"""Answer with events (text/event-stream, HTML Standard §9.2), for as long as somebody may and does read them.

Entry points: EventAnswer, an ASGI application for one answer; until_gone() and unless(), which forward.py passes
answers on by; say(), a whole answer in ASGI's words. A stream ends with the event `ended`, which says why as a refusal does,
when the caller may no longer read it or it broke; without one, when the program stops or the route has told all.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec
from litestar.types import Receive, Scope, Send

from hongyan.doors.door import Door
from hongyan.doors.exchange import Answer, Asked
from hongyan.doors.hot import SECURITY_HEADERS, extra_headers
from hongyan.doors.route import Events
from hongyan.vocab.errors import Refusal

KIND: Final = "text/event-stream"
STILL_GAP_S: Final = (
    15.0  # nothing else was sent for so long: a comment, which proxies and readers see and pages do not
)
SLOW_S: Final = 20.0  # a reader who takes longer to read one event is left
MAY_GAP_S: Final = 3.0  # how long somebody reads on who may no longer
AGAIN_MS: Final = 3_000  # after which a browser comes back by itself
_STILL: Final = b": still here\n\n"
Work = Coroutine[Any, Any, None]


async def say(answer: Answer, send: Send) -> None:
    """Send a whole answer."""
    head = [(name.lower(), value) for name, value in (*SECURITY_HEADERS, *extra_headers(answer))]
    head += [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", answer.request_id.encode()),
    ]
    await send(cast("Any", {"type": "http.response.start", "status": answer.status, "headers": head}))
    await send(_body(answer.body, more=False))


async def until_gone(work: Work, receive: Receive, *others: Work) -> None:
    """Do work, but not after its reader has gone, nor after any of the others is done. Raises what the work raises."""
    await unless(work, _gone(receive), *others)


async def unless(work: Work, *others: Work) -> None:
    """Do work, but not after any of the others is done. Raises what the work raises."""
    async with asyncio.TaskGroup() as group:
        doing = group.create_task(_outcome(work))
        watching = [group.create_task(one) for one in others]
        await asyncio.wait([doing, *watching], return_when=asyncio.FIRST_COMPLETED)
        for task in (doing, *watching):
            task.cancel()
    if not doing.cancelled() and (error := doing.result()) is not None:
        raise error


async def _outcome(work: Work) -> Exception | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - raised again beside the group, which would wrap it
        return error
    return None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_set(event: asyncio.Event) -> None:
    """Wait for an event, for until_gone()."""
    await event.wait()


class EventAnswer:
    """One answer of a route that gives events."""

    def __init__(self, door: Door, asked: Asked, events: Events) -> None:
        self._door = door
        self._asked = asked
        self._events = events
        self._put_s = 0.0  # when something was sent last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._door.streams.place(self._events.caller):
                await self._start(send)
                if cast("dict[str, Any]", scope)["method"] != "HEAD":
                    stop = until_set(self._door.streams.ending)
                    await until_gone(self._tell(send), receive, stop, self._still(send))
                await send(_body(b"", more=False))
        except Refusal as refusal:  # there was no place; what comes later is told within
            await say(self._door.refuse(self._asked, refusal), send)

    async def _start(self, send: Send) -> None:
        head = [
            *SECURITY_HEADERS,
            (b"content-type", f"{KIND}; charset=utf-8".encode()),
            (b"x-accel-buffering", b"no"),  # nginx would gather them
            (b"x-request-id", self._asked.request_id.encode()),
        ]
        await send(cast("Any", {"type": "http.response.start", "status": 200, "headers": head}))

    async def _tell(self, send: Send) -> None:
        """Send events as they come, and ask now and then whether the caller still may have them."""
        asked_s = asyncio.get_running_loop().time()
        try:
            await self._put(send, b"retry: %d\n\n" % AGAIN_MS)
            async with aclosing(self._events.events) as events:
                async for event in events:
                    if self._put_s - asked_s > MAY_GAP_S:
                        await self._events.demand_still()
                        asked_s = self._put_s
                    # JSON has no line ends
                    if not await self._put(send, b"data: " + msgspec.json.encode(event) + b"\n\n"):
                        return
        except Refusal as refusal:
            await self._end(send, self._door.refuse(self._asked, refusal))
        except Exception as error:  # noqa: BLE001 - the top of a stream: it is logged and told
            await self._end(send, self._door.broken(self._asked, error))

    async def _end(self, send: Send, answer: Answer) -> None:
        await self._put(send, b"event: ended\ndata: " + answer.body + b"\n\n")

    async def _still(self, send: Send) -> None:
        """Send a comment where nothing else was sent for long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, self._put_s + STILL_GAP_S - loop.time()))
            if loop.time() - self._put_s >= STILL_GAP_S and not await self._put(send, _STILL):
                return

    async def _put(self, send: Send, frame: bytes) -> bool:
        """Send a piece; tells whether the reader took it in time."""
        self._put_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(SLOW_S):
                await send(_body(frame, more=True))
        except TimeoutError:
            return False
        return True


def _body(octets: bytes, *, more: bool) -> Any:
    return {"type": "http.response.body", "body": octets, "more_body": more}
