"""What the service flies by: every tenant's policies and site keys, as one frozen value.

Read whole and swapped whole, when control says so and on a slow clock, as way.snapshot is. Entry point: Keeper.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

import msgspec
import structlog

from hongyan import db
from hongyan.otp.policy import Policies, Policy

log = structlog.get_logger()

RELOAD_S: Final = 5.0


class Book(msgspec.Struct, frozen=True):
    """One consistent picture."""

    policies: Policies = {}


POLICIES_SQL: LiteralString = "SELECT tenant_id, scene, policy FROM verify_policy ORDER BY tenant_id, scene"


async def read(tx: db.Tx) -> Book:
    """Read all there is. A policy that this version cannot read is passed over: the stricter defaults hold."""
    return Book(policies=_policies(await tx.fetch(POLICIES_SQL)))


def _policies(rows: Sequence[db.Row]) -> Mapping[tuple[int, str], Policy]:
    found: dict[tuple[int, str], Policy] = {}
    for row in rows:
        try:
            found[row["tenant_id"], row["scene"]] = msgspec.json.decode(row["policy"], type=Policy)
        except msgspec.DecodeError:
            log.exception("otp.policy_unreadable", tenant=row["tenant_id"], scene=row["scene"])
    return found


class Keeper:
    """Holds the newest book. `current` is swapped, never changed; before the first load it is empty."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._stale = asyncio.Event()
        self.current = Book()

    async def load(self) -> None:
        async with self._database.transaction() as tx:
            self.current = await read(tx)

    def stale(self, _payload: str = "") -> None:
        """Hear that control changed something."""
        self._stale.set()

    async def run(self) -> None:
        """Load when told and on a slow clock, until cancelled. A failed load keeps the old book."""
        while True:
            try:
                await self.load()
            except db.Unavailable as error:
                log.warning("otp.book_not_loaded", error=type(error).__name__)
            except Exception:  # a row that cannot be read must not stop those who fly by the others
                log.exception("otp.book_unreadable")
            try:
                async with asyncio.timeout(RELOAD_S):
                    await self._stale.wait()
            except TimeoutError:
                pass
            self._stale.clear()
