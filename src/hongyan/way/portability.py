"""Whose number it really is: what people, look-ups and reports have said about single numbers.

Writes: number_override. Entry points: Portability.correct() at acceptance, learn() where reports are stored.
A row of a tenant wins over the platform's; either wins over the prefix table. A look-up (settings.number_lookup) is
asked once a number, and what it does not know is remembered too. Surprise: a report only says that the number has
left its operator, seldom where to; it is then nobody's (`MOVED`) until somebody says better.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, LiteralString

import structlog

from hongyan import db
from hongyan.settings import Settings, SettingsError

log = structlog.get_logger()

MOVED: Final = "ported"  # an operator slug of its own, so that routes and prices can speak of it
LOOKUP_WAIT_S: Final = 1.0  # longer would hold up everybody's commit
LOOKUP_MAX: Final = 100  # numbers in one question

# E.164 numbers → operator slug and province for those it knows; the others may be missing.
Lookup = Callable[[Sequence[str]], Awaitable[Mapping[str, tuple[str, str]]]]


class Known(dict[tuple[int, bytes], tuple[str, str]]):
    """(tenant or 0, phone index) → operator and province; "" leaves the table's word."""

    def of(self, tenant_id: int, phone_index: bytes) -> tuple[str, str] | None:
        """Return what is known for a tenant: its own word before the platform's."""
        return self.get((tenant_id, phone_index)) or self.get((0, phone_index))


KNOWN_SQL: LiteralString = """
SELECT tenant_id, phone_index, operator, province FROM number_override WHERE phone_index = ANY($1::bytea[])
"""
REMEMBER_SQL: LiteralString = """
INSERT INTO number_override (tenant_id, phone_index, operator, province, source)
SELECT 0, n.phone_index, n.operator, n.province, 'lookup'
  FROM unnest($1::bytea[], $2::text[], $3::text[]) AS n(phone_index, operator, province) ORDER BY 2
ON CONFLICT (phone_index, tenant_id) DO NOTHING
"""


class Portability:
    """One a door. Without a look-up it only reads what is stored."""

    def __init__(self, settings: Settings) -> None:
        self._lookup = _load(settings.number_lookup) if settings.number_lookup else None

    @property
    def asks(self) -> bool:
        return self._lookup is not None

    async def known(self, tx: db.Tx, numbers: Mapping[bytes, str]) -> Known:
        """Tell what is known about numbers (phone index → E.164), asking the look-up about new ones."""
        rows = await tx.fetch(KNOWN_SQL, list(numbers), timeout=db.STATEMENT_WAIT_S)
        known = Known({(r["tenant_id"], r["phone_index"]): (r["operator"], r["province"]) for r in rows})
        if self._lookup is not None:
            heard = {index for _, index in known}
            new = [index for index in numbers if index not in heard][:LOOKUP_MAX]
            if new:
                known.update(await self._ask(tx, self._lookup, {numbers[index]: index for index in new}))
        return known

    async def _ask(
        self, tx: db.Tx, lookup: Lookup, numbers: Mapping[str, bytes]
    ) -> Mapping[tuple[int, bytes], tuple[str, str]]:
        try:
            async with asyncio.timeout(LOOKUP_WAIT_S):
                told = await lookup(list(numbers))
        except Exception as error:  # noqa: BLE001 - somebody else's code: without it, prefixes have to do
            log.warning("portability.lookup_failed", error=type(error).__name__, numbers=len(numbers))
            return {}
        found = {index: told.get(number, ("", "")) for number, index in numbers.items()}
        await tx.execute(
            REMEMBER_SQL,
            list(found),
            [operator for operator, _ in found.values()],
            [province for _, province in found.values()],
        )
        return {(0, index): place for index, place in found.items()}


def _load(path: str) -> Lookup:
    """Import the look-up that 'module:function' names. Raises SettingsError."""
    module, _, name = path.partition(":")
    try:
        lookup: Lookup = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"HONGYAN_NUMBER_LOOKUP={path!r}: {error}") from error
    return lookup


# What a person said stays; what an earlier look-up or report said gives way to the newest report.
LEARN_SQL: LiteralString = """
INSERT INTO number_override AS n (tenant_id, phone_index, operator, source)
SELECT DISTINCT 0, m.phone_index, $3, 'report'
  FROM unnest($1::int[], $2::text[]) AS r(channel_id, upstream_id)
  JOIN submitted s ON s.channel_id = r.channel_id AND s.upstream_id = r.upstream_id
  JOIN message m ON m.tenant_id = s.tenant_id AND m.id = s.message_id
 ORDER BY 2
ON CONFLICT (phone_index, tenant_id) DO UPDATE SET operator = EXCLUDED.operator, source = 'report', since = now()
 WHERE n.source <> 'operator'
RETURNING 1
"""


async def learn(tx: db.Tx, channel_ids: Sequence[int], upstream_ids: Sequence[str]) -> int:
    """Learn from reports, not yet stored, that say "moved to another operator". Returns how many numbers."""
    rows = await tx.fetch(LEARN_SQL, list(channel_ids), list(upstream_ids), MOVED)
    return len(rows)
