"""Parts that may have left unheard and must not be doubled: they wait for a report that names their number.

Writes: submitted (state 1). Entry points: keep(), before their messages leave the outbox; named(), for reports that match
nothing. What nobody reports on ends as unknown, see prune.py.
"""

from collections.abc import Mapping, Sequence
from typing import LiteralString

import msgspec

from hongyan import db
from hongyan.vault import Vault
from hongyan.vocab.message import ChannelId
from hongyan.way.tick import Heard


class Maybe(msgspec.Struct, frozen=True, gc=False):
    """A part that may have left unheard and must not be doubled."""

    channel_id: ChannelId
    tenant_id: int
    message_id: bytes
    part_index: int
    attempt: int
    sent_ms: int
    cost_micro: int
    decision: int
    phone_index: bytes | None  # None: no report's number is looked up for it


MAYBE_SQL: LiteralString = """
INSERT INTO submitted (channel_id, upstream_id, tenant_id, message_id, part_index, attempt, sent_at, cost_micro, decision,
                       phone_index, state)
SELECT u.channel_id, u.upstream_id, u.tenant_id, u.message_id, u.part_index, u.attempt, to_timestamp(u.sent_ms::float8 / 1000),
       u.cost_micro, u.decision, u.phone_index, 1
  FROM unnest($1::int[], $2::text[], $3::int[], $4::uuid[], $5::smallint[], $6::smallint[], $7::bigint[], $8::bigint[],
              $9::bigint[], $10::bytea[])
    AS u(channel_id, upstream_id, tenant_id, message_id, part_index, attempt, sent_ms, cost_micro, decision, phone_index)
ON CONFLICT DO NOTHING
"""


async def keep(tx: db.Tx, parts: Sequence[Maybe]) -> None:
    """Store parts that may have left; a part that is there already stays as it is."""
    await tx.execute(
        MAYBE_SQL,
        [p.channel_id for p in parts],
        [f"unsure:{p.message_id.hex()}:{p.part_index}:{p.attempt}" for p in parts],
        [p.tenant_id for p in parts],
        [db.Uuid(p.message_id) for p in parts],
        [p.part_index for p in parts],
        [p.attempt for p in parts],
        [p.sent_ms for p in parts],
        [p.cost_micro for p in parts],
        [p.decision for p in parts],
        [p.phone_index for p in parts],
    )


UNSURE_SQL: LiteralString = """
SELECT n.number, s.upstream_id
  FROM unnest($1::int[], $2::int[], $3::bytea[]) AS n(number, channel_id, phone_index)
  JOIN submitted s ON s.channel_id = n.channel_id AND s.phone_index = n.phone_index AND s.state = 1
 ORDER BY s.sent_at
"""


async def named(tx: db.Tx, vault: Vault, strays: Sequence[Heard]) -> Mapping[int, str]:
    """Find the unsure part whose number a report names: by the report's place, under which id the part is stored.

    The oldest part of a number first; each serves one report.
    """
    named = [(n, s) for n, s in enumerate(strays) if s.report.number and s.report.final]
    if not named:
        return {}
    rows = await tx.fetch(
        UNSURE_SQL, [n for n, _ in named], [s.channel_id for _, s in named],
        [vault.phone_index(s.report.number) for _, s in named],
    )  # fmt: skip
    found: dict[int, str] = {}
    used: set[str] = set()
    for row in rows:
        if row["upstream_id"] not in used and row["number"] not in found:
            found[row["number"]] = row["upstream_id"]
            used.add(row["upstream_id"])
    return found
