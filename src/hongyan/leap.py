"""Whether the clock may be believed by those who take away for good what is too old.

Writes: clock_seen. Entry point: believed().
A machine whose date is set wrong by years finds all that is kept overdue, and what it deletes nobody brings back. So the time
is remembered, and where it went on by more than a day at once, nothing is forgotten for a day: long enough for somebody
to set the clock right, after which all is as before. Surprise: an installation that stood still for days rests as well.
"""

from datetime import datetime, timedelta
from typing import Final, LiteralString

import structlog

from hongyan import clock, db

log = structlog.get_logger()

LEAP: Final = timedelta(days=1)
REST: Final = timedelta(days=1)
APART: Final = timedelta(
    hours=1
)  # looks at one moment come in any order, and clocks differ; a leap undone is more

# Several processes look, each by its own clock. Where one of them is wrong it leaps anew each time, and only it rests.
LOOK_SQL: LiteralString = """
WITH before AS (SELECT at FROM clock_seen)
INSERT INTO clock_seen AS c (one, at) VALUES (true, $1)
ON CONFLICT (one) DO UPDATE
   SET at = EXCLUDED.at,
       leapt_at = CASE WHEN EXCLUDED.at - c.at > $2 THEN EXCLUDED.at WHEN c.leapt_at - EXCLUDED.at < $3 THEN c.leapt_at END
RETURNING leapt_at, (SELECT at FROM before) AS before
"""


async def believed(database: db.Database) -> bool:
    """Look at the clock, and say whether it has gone on steadily for long enough to forget by it."""
    now = clock.now()
    (row,) = await database.fetch(LOOK_SQL, now, LEAP, APART)
    leapt_at = row["leapt_at"]
    if leapt_at == now:
        log.error(
            "clock.leapt", before=row["before"].isoformat(), nothing_forgotten_until=(now + REST).isoformat()
        )
    return leapt_at is None or now - leapt_at >= REST


RESTS_SQL: LiteralString = (
    "SELECT leapt_at + $1 AS until FROM clock_seen WHERE leapt_at + $1 > $2 AND leapt_at - $2 < $3"
)


async def rests_until(database: db.Database) -> datetime | None:
    """Return until when nothing is forgotten; None: by now it is."""
    rows = await database.fetch(RESTS_SQL, REST, clock.now(), APART)
    return rows[0]["until"] if rows else None
