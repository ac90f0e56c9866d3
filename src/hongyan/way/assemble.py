"""Put long texts together that customers' systems cut before they reached us.

Writes: submit_part. Entry points: Assembler.add() and run(); failed() and forget() for who tells the customer.
Each part is stored before it is answered, so none is lost when the door dies between two of them; parts come in
any order and over any session of the login. The part that makes a text whole has it accepted, under the id that
the first part was stored with: whoever tries again after a crash accepts nothing twice.
A text that is refused, or never becomes whole, leaves its answered parts behind as failed: they are owed a report.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import structlog

from hongyan import db
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab import text as texts
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, MessageId, MessageIds
from hongyan.vocab.text import Encoding, Shift, TextPart
from hongyan.way.accept import Accepted, Acceptor, Outcome, SessionDraft
from hongyan.way.snapshot import Keeper, Key

log = structlog.get_logger()

BATCH_MAX: Final = 500
WAITING_MAX: Final = 10_000  # parts in memory; beyond it Busy
LEASE_S: Final = 30.0  # longer than accept_wait_s and the wait for a customer's answer
SWEEP_GAP_S: Final = 2.0
SWEEP_MAX: Final = 200
STATEMENT_WAIT_S: Final = 5.0

Told = Callable[[Outcome | None], None]  # None: stored, the others are still to come


class Piece(msgspec.Struct, frozen=True):
    """One part of a long text. `number` is E.164; `origin` is the door's own, as of a whole message."""

    key: Key
    number: str
    sender: str  # the source address as they wrote it: it tells messages apart that share a reference
    part: TextPart
    reference: int
    width: int  # bits of the reference
    origin: bytes


class Whole(msgspec.Struct, frozen=True):
    """A text all of whose parts are there, with the parts' origins in their order."""

    number: str
    sender: str
    text: str
    origins: Sequence[bytes]


class Failed(NamedTuple):
    """An answered part that never became part of a message. `code` is a public code."""

    id: int
    app_id: AppId
    message_id: UUID
    code: str
    number: str
    origin: bytes


class _Waiting(NamedTuple):
    piece: Piece
    told: Told
    failed: str = ""


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """What submit_part.sealed holds."""

    number: str
    octets: bytes
    encoding: Encoding
    locking: int
    single: int
    origin: bytes


class Assembler:
    """One per door. `draft` makes of a whole text what is accepted; it raises Refusal."""

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        acceptor: Acceptor,
        draft: Callable[[Key, Whole], SessionDraft],
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._acceptor = acceptor
        self._draft = draft
        self._ids = MessageIds()
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()

    def add(self, piece: Piece, told: Told) -> None:
        """Store a part; `told` is called once, in the event loop: with None, or with what became of the whole."""
        if len(self._waiting) >= WAITING_MAX:
            told(_busy())
            return
        self._waiting.append(_Waiting(piece, told))
        self._wake.set()

    def fail(self, piece: Piece, refusal: Refusal, told: Told) -> None:
        """Owe a report for what was refused and could not be refused in its answer: one number of many."""
        if len(self._waiting) >= WAITING_MAX:
            told(_busy())
            return
        self._waiting.append(_Waiting(piece, told, refusal.code.value.name))
        self._wake.set()

    async def run(self) -> None:
        """Store and join until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store_all(tasks))
            tasks.create_task(self._sweep_all())

    async def _store_all(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                size = min(BATCH_MAX, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                try:
                    async with asyncio.timeout(STATEMENT_WAIT_S):
                        wholes = await self._store(batch)
                except (*db.Unavailable, TimeoutError) as error:
                    log.warning("assemble.database_lost", error=type(error).__name__, parts=size)
                    for waiting in batch:
                        waiting.told(_busy())
                    continue
                for rows, mine in wholes:
                    tasks.create_task(self._join(rows, mine))

    async def _store(self, batch: Sequence[_Waiting]) -> list[tuple[list[db.Row], _Waiting]]:
        """Store parts and tell those that do not make a text whole; returns the whole ones' rows and who made them so."""
        # The last of equal parts counts, and one statement can write a row once.
        rows = {self._row_key(waiting.piece): waiting for waiting in batch}
        values = [(*self._values(waiting.piece), waiting.failed) for waiting in rows.values()]
        await self._database.execute(STORE_SQL, *map(list, zip(*values, strict=True)))
        makers: dict[tuple[object, ...], _Waiting] = {key[:-1]: waiting for key, waiting in rows.items()}
        # A statement of its own: what two doors store at the same moment, each would not see in its own.
        taken = await self._database.fetch(WHOLE_SQL, *map(list, zip(*makers, strict=True)), LEASE_S)
        wholes = _by_text(taken)
        joining = {id(makers[key]) for key in wholes}
        for waiting in batch:
            if id(waiting) not in joining:
                waiting.told(None)
        return [(parts, makers[key]) for key, parts in wholes.items()]

    def _row_key(self, piece: Piece) -> tuple[int, bytes, str, int, int, int, int]:
        index = self._vault.phone_index(piece.number)
        part = piece.part
        return (
            piece.key.app_id, index, piece.sender, piece.reference, piece.width, part.total, part.index,
        )  # fmt: skip

    def _values(self, piece: Piece) -> tuple[object, ...]:
        part = piece.part
        plain = _Stored(piece.number, part.octets, part.encoding, *part.shift, piece.origin)
        sealed = self._vault.seal(piece.key.tenant.id, msgspec.msgpack.encode(plain))
        return (*self._row_key(piece), piece.key.tenant.id, db.Uuid(self._ids.make().bytes), sealed)

    async def _join(self, rows: Sequence[db.Row], maker: _Waiting | None) -> None:
        """Have a whole text accepted, and tell who made it whole (None: nobody waits any more)."""
        rows = sorted(rows, key=lambda row: row["part_index"])
        try:
            outcome = await self._accept(rows)
            await self._conclude(rows, outcome, maker)
        except (*db.Unavailable, TimeoutError) as error:
            log.warning("assemble.database_lost", error=type(error).__name__)
            outcome = _busy()  # the lease runs out and the sweep tries again; so may the customer
        if maker is not None:
            maker.told(outcome)

    async def _accept(self, rows: Sequence[db.Row]) -> Outcome:
        login = self._keeper.current.login_apps.get(rows[0]["app_id"])
        if login is None:
            return Refusal(Code.AUTH_KEY_NOT_FOUND)  # it was disabled meanwhile
        plain = [
            msgspec.msgpack.decode(self._vault.unseal(row["tenant_id"], row["sealed"]), type=_Stored)
            for row in rows
        ]
        parts = [
            TextPart(row["part_index"], row["part_count"], one.encoding, one.octets, shift=Shift(one.locking, one.single))
            for row, one in zip(rows, plain, strict=True)
        ]  # fmt: skip
        try:
            text = texts.join(parts)
            whole = Whole(plain[0].number, rows[0]["sender"], text, [one.origin for one in plain])
            draft = self._draft(login.key, whole)
        except Refusal as refusal:
            return refusal
        async with asyncio.timeout(self._settings.accept_wait_s):
            message_id = MessageId(UUID(bytes=rows[0]["message_id"].bytes))
            (outcome,) = await self._acceptor.accept_once(login.key, [draft], [message_id])
        return outcome

    async def _conclude(self, rows: Sequence[db.Row], outcome: Outcome, maker: _Waiting | None) -> None:
        if isinstance(outcome, Refusal) and outcome.code in (Code.SYSTEM_BUSY, Code.SYSTEM_ERROR):
            await self._database.execute(RELEASE_SQL, [row["id"] for row in rows])
            return
        if isinstance(outcome, Accepted):
            await forget(self._database, [row["id"] for row in rows])
            return
        own = None if maker is None else maker.piece.part.index  # its maker hears it in the answer
        await forget(self._database, [row["id"] for row in rows if row["part_index"] == own])
        others = [row["id"] for row in rows if row["part_index"] != own]
        await self._database.execute(FAIL_SQL, others, outcome.code.value.name)

    async def _sweep_all(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_GAP_S)
            try:
                await self._sweep()
            except (*db.Unavailable, TimeoutError) as error:
                log.warning("assemble.database_lost", duty="sweep", error=type(error).__name__)

    async def _sweep(self) -> None:
        """Join what its door left whole and unjoined, and give up what waits too long."""
        rows = await self._database.fetch(SWEEP_SQL, SWEEP_MAX, LEASE_S)
        for parts in _by_text(rows).values():
            await self._join(parts, None)
        await self._database.execute(
            GIVE_UP_SQL, float(self._settings.submit_join_wait_s), Code.CONTENT_INCOMPLETE.value.name
        )


def _busy() -> Refusal:
    return Refusal(Code.SYSTEM_BUSY, retry_after_s=1)


def _by_text(rows: Sequence[db.Row]) -> dict[tuple[object, ...], list[db.Row]]:
    texts_of: dict[tuple[object, ...], list[db.Row]] = {}
    for row in rows:
        texts_of.setdefault(tuple(row[name] for name in _KEY), []).append(row)
    return texts_of


_KEY: Final = ("app_id", "phone_index", "sender", "reference", "width", "part_count")

# Parts of one text keep the id of whichever was stored first; where two came at once, that of the first part counts.
STORE_SQL: LiteralString = """
INSERT INTO submit_part AS s (app_id, phone_index, sender, reference, width, part_count, part_index, tenant_id, message_id,
                              sealed, failed)
SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::int[], $5::smallint[], $6::smallint[], $7::smallint[],
                     $8::int[], $9::uuid[], $10::bytea[], $11::text[])
ON CONFLICT (app_id, phone_index, sender, reference, width, part_count, part_index)
DO UPDATE SET sealed = EXCLUDED.sealed, came_at = now(), failed = EXCLUDED.failed,
              message_id = CASE WHEN s.failed = '' THEN s.message_id ELSE EXCLUDED.message_id END
"""

WHOLE_SQL: LiteralString = """
WITH asked AS (
    SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::int[], $5::smallint[], $6::smallint[])
        AS a(app_id, phone_index, sender, reference, width, part_count)
), whole AS (
    SELECT s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count
      FROM asked a JOIN submit_part s USING (app_id, phone_index, sender, reference, width, part_count)
     WHERE s.failed = '' AND s.part_index BETWEEN 1 AND s.part_count
     GROUP BY 1, 2, 3, 4, 5, 6 HAVING count(*) = s.part_count
)
UPDATE submit_part s SET lease_until = now() + make_interval(secs => $7)
  FROM whole w
 WHERE (s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count)
     = (w.app_id, w.phone_index, w.sender, w.reference, w.width, w.part_count)
   AND (s.lease_until IS NULL OR s.lease_until <= now())
RETURNING s.id, s.tenant_id, s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count, s.part_index,
          s.message_id, s.sealed
"""

SWEEP_SQL: LiteralString = """
WITH whole AS (
    SELECT app_id, phone_index, sender, reference, width, part_count
      FROM submit_part
     WHERE failed = '' AND (lease_until <= now() OR lease_until IS NULL AND came_at < now() - interval '5 seconds')
     GROUP BY 1, 2, 3, 4, 5, 6 HAVING count(*) = part_count LIMIT $1
)
UPDATE submit_part s SET lease_until = now() + make_interval(secs => $2)
  FROM whole w
 WHERE (s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count)
     = (w.app_id, w.phone_index, w.sender, w.reference, w.width, w.part_count)
   AND (s.lease_until IS NULL OR s.lease_until <= now())
RETURNING s.id, s.tenant_id, s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count, s.part_index,
          s.message_id, s.sealed
"""

RELEASE_SQL: LiteralString = "UPDATE submit_part SET lease_until = NULL WHERE id = ANY($1::bigint[])"

FAIL_SQL: LiteralString = (
    "UPDATE submit_part SET failed = $2, lease_until = NULL, came_at = now() WHERE id = ANY($1::bigint[])"
)

# A text is as old as its youngest part.
GIVE_UP_SQL: LiteralString = """
UPDATE submit_part s SET failed = $2, lease_until = NULL, came_at = now()
 WHERE failed = '' AND came_at < now() - make_interval(secs => $1)
   AND NOT EXISTS (
       SELECT FROM submit_part o
        WHERE (o.app_id, o.phone_index, o.sender, o.reference, o.width, o.part_count)
            = (s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count)
          AND o.came_at >= now() - make_interval(secs => $1))
"""

FAILED_SQL: LiteralString = """
WITH due AS (
    SELECT id FROM submit_part
     WHERE app_id = ANY($1::int[]) AND failed <> '' AND (lease_until IS NULL OR lease_until <= now())
     ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE submit_part s SET lease_until = now() + make_interval(secs => $3)
  FROM due WHERE s.id = due.id
RETURNING s.id, s.tenant_id, s.app_id, s.message_id, s.failed, s.sealed
"""


async def failed(database: db.Database, vault: Vault, app_ids: Sequence[AppId], limit: int) -> list[Failed]:
    """Lease parts of these apps that are owed the report that they failed."""
    rows = await database.fetch(FAILED_SQL, list(app_ids), limit, LEASE_S)
    found = []
    for row in rows:
        plain = msgspec.msgpack.decode(vault.unseal(row["tenant_id"], row["sealed"]), type=_Stored)
        found.append(
            Failed(row["id"], AppId(row["app_id"]), row["message_id"], row["failed"], plain.number, plain.origin)
        )  # fmt: skip
    return found


FORGET_SQL: LiteralString = "DELETE FROM submit_part WHERE id = ANY($1::bigint[])"


async def forget(database: db.Database, ids: Sequence[int]) -> None:
    """Delete parts that are accepted, or whose failure has been told."""
    if ids:
        await database.execute(FORGET_SQL, list(ids))


async def release(database: db.Database, ids: Sequence[int]) -> None:
    """Give back parts whose failure could not be told now."""
    if ids:
        await database.execute(RELEASE_SQL, list(ids))
