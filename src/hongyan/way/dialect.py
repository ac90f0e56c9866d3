"""How each upstream writes the ids of its reports, as the first pairs of ack and report teach it.

Writes: dialect. Owns what is known of this and what is learned and not yet stored. Entry points: Dialects.paired(),
which the ticker calls for each report that was matched, load() and run().
Surprise: a dialect is used at once and stored a moment later; where it cannot be stored the next pair teaches it again.
"""

import asyncio
from collections.abc import Mapping
from typing import LiteralString

import structlog

from hongyan import db
from hongyan.vocab.message import ChannelId
from hongyan.way.line import Line
from hongyan.way.tick import Heard

log = structlog.get_logger()


class Dialects:
    """What is known of each channel's dialect."""

    def __init__(self, database: db.Database, lines: Mapping[ChannelId, Line]) -> None:
        """`lines`: those that are open here, as they come and go."""
        self._database = database
        self._lines = lines
        self._learned: list[tuple[ChannelId, str]] = []
        self._wake = asyncio.Event()
        self.known: dict[ChannelId, str] = {}

    async def load(self) -> None:
        """Read what was learned before."""
        self.known = await _stored(self._database)

    def paired(self, heard: Heard) -> None:
        """Hear of a report that has met its ack: which form of its id did, shows how the upstream writes ids."""
        line = self._lines.get(heard.channel_id)
        if line is None or not heard.report.candidates or heard.channel_id in self.known:
            return
        dialect = line.channel.dialect_of(heard.upstream_id, heard.report)
        if dialect:
            self.known[heard.channel_id] = dialect
            line.channel.learned(dialect)
            self._learned.append((heard.channel_id, dialect))
            self._wake.set()

    async def run(self) -> None:
        """Store what is learned, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            learned, self._learned = self._learned, []
            for channel_id, dialect in learned:
                log.info("channel.dialect", channel_id=channel_id, dialect=dialect)
                try:
                    await _store(self._database, channel_id, dialect)
                except db.Unavailable:
                    self.known.pop(channel_id, None)  # the next pair teaches it again


STORED_SQL: LiteralString = "SELECT channel_id, dialect FROM dialect"


async def _stored(database: db.Database) -> dict[ChannelId, str]:
    return {ChannelId(row["channel_id"]): row["dialect"] for row in await database.fetch(STORED_SQL)}


LEARN_SQL: LiteralString = """
INSERT INTO dialect (channel_id, dialect) VALUES ($1, $2)
ON CONFLICT (channel_id) DO UPDATE SET dialect = EXCLUDED.dialect, pairs = dialect.pairs + 1, learned_at = now()
"""


async def _store(database: db.Database, channel_id: ChannelId, dialect: str) -> None:
    await database.execute(LEARN_SQL, channel_id, dialect)
