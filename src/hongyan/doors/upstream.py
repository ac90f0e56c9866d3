"""Pushes from HTTP providers: reports and texts, stored before the provider hears that they came.

Writes nothing itself: a ticker and a desk of this door store what was pushed, as a gateway's do. Entry points:
Upstream, one a door; Upstream.push() and run(); path_of(). A push comes to /upstream/CHANNEL/TOKEN: the token makes the
address unguessable, because not every provider signs. What a channel's kind can check besides (a signature), it
checks itself.
"""

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
import structlog

from hongyan import db
from hongyan.channels import kinds
from hongyan.channels.channel import BadPush, Channel, Inbound, Push
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.message import ChannelId
from hongyan.way.inbound import WAITING_MAX, Answered, Desk
from hongyan.way.measure import Counters
from hongyan.way.notify import Owed
from hongyan.way.report import Outlet, Ticker
from hongyan.way.snapshot import ChannelRow, Keeper

log = structlog.get_logger()

PATH: Final = "/upstream/{channel}/{token}"
STORE_WAIT_S: Final = 8.0  # providers wait five to fifteen seconds; beyond it they push again
REPORTS_WAITING_MAX: Final = 20_000  # not stored yet; beyond it the provider pushes again
SHARD: Final = (
    1_000  # added to the door's number: no ticker of a gateway writes the same rows of tally and balance
)
TOKEN_OCTETS: Final = 16


class Told(NamedTuple):
    """What the provider is answered."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class _Awaited:
    """One push on its way into the database: as many slots as it told events."""

    __slots__ = ("left", "stored")

    def __init__(self, left: int) -> None:
        self.left = left
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def one(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.stored.done():
            self.stored.set_result(None)


class Upstream:
    """Takes pushes at one door."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        counters: Counters,
        owe: Callable[[Sequence[Owed]], None],
    ) -> None:
        """`owe` hears of notices once they are stored."""
        self._keeper = keeper
        self._vault = vault
        self._built: dict[ChannelId, tuple[ChannelRow, Channel]] = {}
        numbered = replace(settings, gateway=SHARD + settings.door)
        outlet = Outlet(
            stored=self._stored,
            owe=owe,
            again=_nothing,  # a gateway claims what was put back
            settled=_nothing,  # and learns a channel's health from its own reports
            paired=_nothing,  # ids of HTTP providers have one form
            other_channel=lambda _channel_id: len(keeper.current.channels) > 1,
            speaks_for_all=lambda _channel_id: True,  # a provider takes a message, not parts
            left=_nothing,
            pressed=lambda: False,
            ticked=_nothing,
        )
        self._ticker = Ticker(database, keeper, vault, numbered, counters, outlet)
        self._desk = Desk(database, keeper, vault, settings, counters, self._stored, owe)

    async def run(self) -> None:
        """Store what is pushed, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ticker.run())
            tasks.create_task(self._desk.run())

    async def push(self, name: str, token: str, headers: Mapping[str, str], body: bytes) -> Told:
        """Read a push and return the answer once it is stored; `body` is the query string of a GET."""
        row = next((row for row in self._keeper.current.channels.values() if row.name == name), None)
        known = token_of(self._vault, row.id if row is not None else ChannelId(0))
        # Compared for unknown names too, so that the time taken does not tell which channels there are.
        if not hmac.compare_digest(known.encode(), token.encode()) or row is None:
            return Told(404)
        try:
            push = self._channel(row).read_push(headers, body)
        except NotImplementedError:
            return Told(404)
        except kinds.BadSettings as error:
            # No gateway can open it either. The provider pushes again, and by then they may fit.
            log.error("channel.bad_config", channel=name, error=str(error))  # noqa: TRY400 - the words say it
            return Told(503)
        except BadPush as error:
            log.warning("upstream.bad_push", channel=name, reason=str(error), forged=error.forged)
            return Told(403 if error.forged else 400, str(error).encode())
        if not await self._store(row.id, push):
            return Told(503)
        return Told(200, push.answer, push.content_type)

    async def texted(self, channel_id: ChannelId, text: Inbound, answers: Answered) -> bool:
        """Take in a text somebody typed on the sandbox's phone; False where it may not be stored."""
        return await self._store(channel_id, Push(inbound=(text,)), answers)

    # ---- parts of the above

    async def _store(self, channel_id: ChannelId, push: Push, answers: Answered | None = None) -> bool:
        """Store what a push told; False where that cannot be promised, so that the provider pushes again."""
        reports = [report for report in push.reports if report.final]
        count = len(reports) + len(push.inbound)
        if not count:
            return True
        if (
            self._ticker.reports_waiting + len(reports) > REPORTS_WAITING_MAX
            or self._desk.waiting + len(push.inbound) > WAITING_MAX
        ):
            return False
        awaited = _Awaited(count)
        if reports:
            self._ticker.reported(
                channel_id, [msgspec.structs.replace(report, slot=awaited) for report in reports]
            )
        if push.inbound:
            texts = [msgspec.structs.replace(text, slot=awaited) for text in push.inbound]
            self._desk.arrived(channel_id, texts, answers)
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                await asyncio.shield(awaited.stored)
        except TimeoutError:
            return False
        return True

    def _stored(self, _channel_id: ChannelId, slots: Sequence[Any]) -> None:
        for slot in slots:
            if isinstance(slot, _Awaited):
                slot.one()

    def _channel(self, row: ChannelRow) -> Channel:
        known = self._built.get(row.id)
        if known is None or known[0] != row:
            settings = msgspec.json.decode(row.config.reveal())
            known = self._built[row.id] = (row, kinds.build(row.kind, settings))
        return known[1]


def token_of(vault: Vault, channel_id: ChannelId) -> str:
    """Return the word in the address that a channel's pushes come to; the same as long as the index key lives."""
    return vault.keyed_hash(b"push", b"%d" % channel_id)[:TOKEN_OCTETS].hex()


def path_of(vault: Vault, channel_id: ChannelId, name: str) -> str:
    """Return the path that a channel's pushes come to."""
    return PATH.format(channel=quote(name, safe=""), token=token_of(vault, channel_id))


def _nothing(*_: Any) -> None:
    """Hear what only a gateway has a use for."""
