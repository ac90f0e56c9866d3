"""Reports that match nothing yet: parked until their ack is stored, or known never to come.

Writes: early_report. Entry points: park(), reunite(), forget().
Surprise: a parked report stays where it is until it has settled something. Had the process died with it in hand, the next
would find it.
"""

from collections.abc import Sequence
from typing import LiteralString

import msgspec

from hongyan import db
from hongyan.channels.channel import Report
from hongyan.vault import Vault
from hongyan.vocab.cause import CAUSES
from hongyan.vocab.message import STATUS_BY_NUMBER, ChannelId
from hongyan.way.tick import Heard

PARK_SQL: LiteralString = """
INSERT INTO early_report (channel_id, upstream_id, status, cause, code, at, phone_index, candidates)
SELECT p.channel_id, p.upstream_id, p.status, p.cause, p.code, to_timestamp(p.at_ms::float8 / 1000), p.phone_index,
       ARRAY(SELECT jsonb_array_elements_text(p.candidates))
  FROM unnest($1::int[], $2::text[], $3::smallint[], $4::smallint[], $5::text[], $6::bigint[], $7::bytea[], $8::jsonb[])
    AS p(channel_id, upstream_id, status, cause, code, at_ms, phone_index, candidates)
ON CONFLICT (channel_id, upstream_id) DO NOTHING
"""


async def park(tx: db.Tx, vault: Vault, strays: Sequence[Heard]) -> None:
    """Keep reports, each once; the number they name is kept as its keyed index."""
    await tx.execute(
        PARK_SQL,
        [s.channel_id for s in strays],
        [s.report.upstream_id for s in strays],
        [s.report.status.number for s in strays],
        [s.report.cause.number for s in strays],
        [s.report.code for s in strays],
        [int(s.report.at_s * 1000) for s in strays],
        [vault.phone_index(s.report.number) if s.report.number else None for s in strays],
        [msgspec.json.encode(s.report.candidates).decode() for s in strays],
    )


# Two gateways can store an ack and park its report at the same moment, neither seeing the other's row. And where the
# ack is lost, the report is parked long before the wait for the ack is over and the part is known to be unsure: then
# the number it names must do.
REUNITE_SQL: LiteralString = """
SELECT DISTINCT ON (e.channel_id, e.upstream_id) e.channel_id, e.upstream_id AS parked_as, s.upstream_id, e.status, e.cause,
       e.code, e.at
  FROM early_report e JOIN submitted s ON s.channel_id = e.channel_id
   AND (s.upstream_id = e.upstream_id OR s.upstream_id = ANY(e.candidates)
        OR (s.state = 1 AND s.phone_index = e.phone_index AND s.sent_at < e.came_at + interval '1 second'))
 WHERE e.channel_id = ANY($1::int[])
 ORDER BY e.channel_id, e.upstream_id, s.state, s.sent_at
"""


async def reunite(tx: db.Tx, channel_ids: Sequence[ChannelId]) -> Sequence[Heard]:
    """Find parked reports whose ack has been stored since; they stay parked until a ticker has settled them."""
    rows = await tx.fetch(REUNITE_SQL, list(channel_ids))
    return [
        Heard(
            ChannelId(row["channel_id"]),
            Report(
                upstream_id=row["upstream_id"],
                status=STATUS_BY_NUMBER[row["status"]],
                cause=CAUSES[row["cause"]],
                code=row["code"],
                at_s=row["at"].timestamp(),
            ),
            row["upstream_id"],
            parked_as=row["parked_as"],
        )
        for row in rows
    ]


SERVED_SQL: LiteralString = """
DELETE FROM early_report e USING unnest($1::int[], $2::text[]) AS s(channel_id, upstream_id)
 WHERE e.channel_id = s.channel_id AND e.upstream_id = s.upstream_id
"""


async def forget(tx: db.Tx, served: Sequence[tuple[ChannelId, str]]) -> None:
    """Delete parked reports that have settled something, by channel and the id they are parked under."""
    await tx.execute(SERVED_SQL, [channel_id for channel_id, _ in served], [key for _, key in served])
