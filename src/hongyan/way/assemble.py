"""Put long texts together that customers' systems cut before they reached us.

Writes: submit_part. Entry points: Assembler.add() and run(); failed() and forget() for who tells the customer.
Each part is stored before it is answered, so none is lost when the door dies between two of them; parts come in
any order and over any session of the login. The part that makes a text whole has it accepted, under the id that
the first part was stored with: whoever tries again after a crash accepts nothing twice.
A text that is refused, or never becomes whole, leaves its answered parts behind as failed: they are owed a report.
So is a part whose place another content takes. The same part with the same content is the same part: the last of its
ids counts.

Surprise: what comes while its text is being joined waits until that is over, because customers use a reference
again, or none at all, and the next text would be mixed up with this one.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import structlog

from hongyan import db
from hongyan.settings import Settings
from hongyan.vault import Vault, VaultError
from hongyan.vocab import text as texts
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId, MessageId, MessageIds, TenantId
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


_Place = tuple[
    int, bytes, str, int, int, int, int
]  # a part's key; all but its last, the index, is the text's
_Text = tuple[object, ...]


class _Waiting(NamedTuple):
    piece: Piece
    told: Told
    place: _Place
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
        self._joining: set[_Text] = set()
        self._wake = asyncio.Event()

    def add(self, piece: Piece, told: Told) -> None:
        """Store a part; `told` is called once, in the event loop: with None, or with what became of the whole."""
        self._line_up(piece, told)

    def fail(self, piece: Piece, refusal: Refusal, told: Told) -> None:
        """Owe a report for what was refused and could not be refused in its answer: one number of many.

        The reference and the part of the piece do not matter.
        """
        part = TextPart(1, 1, piece.part.encoding, b"")
        # Rows of one number are told apart by the reference.
        piece = msgspec.structs.replace(piece, part=part, reference=secrets.randbits(31), width=0)
        self._line_up(piece, told, refusal.code.value.name)

    def _line_up(self, piece: Piece, told: Told, failed: str = "") -> None:
        if len(self._waiting) >= WAITING_MAX:
            told(_busy())
            return
        part, index = piece.part, self._vault.phone_index(piece.number)
        place = (piece.key.app_id, index, piece.sender, piece.reference, piece.width, part.total, part.index)
        self._waiting.append(_Waiting(piece, told, place, failed))
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
            while batch := self._take():
                try:
                    async with asyncio.timeout(STATEMENT_WAIT_S):
                        wholes = await self._store(batch)
                except db.Unavailable as error:
                    log.warning("assemble.database_lost", error=type(error).__name__, parts=len(batch))
                    _tell_all(batch, _busy())
                    continue
                except Exception:  # one bad batch must not end the sessions of everybody
                    log.exception("assemble.not_stored", parts=len(batch))
                    _tell_all(batch, Refusal(Code.SYSTEM_ERROR))
                    continue
                makers = {id(maker) for _, maker in wholes}
                for rows, maker in wholes:
                    self._joining.add(maker.place[:-1])
                    tasks.create_task(self._join(rows, maker))
                _tell_all([waiting for waiting in batch if id(waiting) not in makers], None)

    def _take(self) -> Sequence[_Waiting]:
        """Take the next batch, each place once; what comes to a text that is being joined waits."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        places: set[_Place] = set()
        held = set(self._joining)
        while self._waiting and len(batch) < BATCH_MAX:
            waiting = self._waiting.popleft()
            text = waiting.place[:-1]
            if text in held or waiting.place in places:
                held.add(text)  # in the order they came
                later.append(waiting)
            else:
                places.add(waiting.place)
                batch.append(waiting)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _store(self, batch: Sequence[_Waiting]) -> Sequence[tuple[Sequence[db.Row], _Waiting]]:
        """Store parts; returns the rows of those texts that are whole now, and who made them so."""
        values = [self._values(waiting) for waiting in batch]
        former = await self._database.fetch(STORE_SQL, *map(list, zip(*values, strict=True)))
        stored = {waiting.place: waiting for waiting in batch}
        for row in former:
            self._replaced(row, stored[_place_of(row)])
        makers: dict[_Text, _Waiting] = {waiting.place[:-1]: waiting for waiting in batch}
        # A statement of its own: what two doors store at the same moment, each would not see in its own.
        taken = await self._database.fetch(WHOLE_SQL, *map(list, zip(*makers, strict=True)), LEASE_S)
        return [(rows, makers[text]) for text, rows in _by_text(taken).items()]

    def _replaced(self, row: db.Row, by: _Waiting) -> None:
        """Owe a report for an answered part that was of another text, which can never become whole now."""
        plain = _unsealed(self._vault, row)
        if plain is None or (plain.octets, plain.encoding) == (by.piece.part.octets, by.piece.part.encoding):
            return
        piece = msgspec.structs.replace(by.piece, number=plain.number, origin=plain.origin)
        self.fail(piece, Refusal(Code.CONTENT_INCOMPLETE), lambda _: None)

    def _values(self, waiting: _Waiting) -> tuple[object, ...]:
        piece = waiting.piece
        part = piece.part
        plain = _Stored(piece.number, part.octets, part.encoding, *part.shift, piece.origin)
        sealed = self._vault.seal(piece.key.tenant.id, msgspec.msgpack.encode(plain))
        made = db.Uuid(self._ids.make().bytes)
        return (*waiting.place, piece.key.tenant.id, made, sealed, waiting.failed)

    async def _join(self, rows: Sequence[db.Row], maker: _Waiting | None) -> None:
        """Have a whole text accepted, and tell who made it whole (None: nobody waits any more)."""
        rows = sorted(rows, key=lambda row: row["part_index"])
        outcome: Outcome = _busy()  # the lease runs out and the sweep tries again; so may the customer
        try:
            outcome = await self._accept(rows)
            await self._conclude(rows, outcome, maker)
        except db.Unavailable as error:
            log.warning("assemble.database_lost", error=type(error).__name__)
            if not isinstance(outcome, Accepted):  # what is accepted stays so; the sweep finds that out
                outcome = _busy()
        except Exception:
            log.exception("assemble.not_joined", app_id=rows[0]["app_id"])
            outcome = Refusal(Code.SYSTEM_ERROR)
        finally:
            self._joining.discard(_text_of(rows[0]))
            self._wake.set()
        if maker is not None:
            _tell_all([maker], outcome)

    async def _accept(self, rows: Sequence[db.Row]) -> Outcome:
        login = self._keeper.current.login_apps.get(rows[0]["app_id"])
        if login is None:
            return Refusal(Code.AUTH_KEY_NOT_FOUND)  # it was disabled meanwhile
        plain = [one for row in rows if (one := _unsealed(self._vault, row)) is not None]
        if len(plain) < len(rows):
            return Refusal(Code.CONTENT_INCOMPLETE)
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
            except db.Unavailable as error:
                log.warning("assemble.database_lost", duty="sweep", error=type(error).__name__)
            except Exception:
                log.exception("assemble.not_swept")

    async def _sweep(self) -> None:
        """Join what its door left whole and unjoined, give up what waits too long, forget what nobody asks for."""
        rows = await self._database.fetch(SWEEP_SQL, SWEEP_MAX, LEASE_S)
        async with asyncio.TaskGroup() as tasks:  # all at once, within the lease
            for text, parts in _by_text(rows).items():
                self._joining.add(text)
                tasks.create_task(self._join(parts, None))
        await self._database.execute(
            GIVE_UP_SQL, float(self._settings.submit_join_wait_s), Code.CONTENT_INCOMPLETE.value.name
        )
        forgotten = await self._database.fetch(NOT_TOLD_SQL, float(self._settings.notice_give_up_s))
        if forgotten:
            log.warning(
                "assemble.given_up", apps=sorted({row["app_id"] for row in forgotten}), parts=len(forgotten)
            )


def _busy() -> Refusal:
    return Refusal(Code.SYSTEM_BUSY, retry_after_s=1)


def _tell_all(batch: Sequence[_Waiting], outcome: Outcome | None) -> None:
    for waiting in batch:
        try:
            waiting.told(outcome)
        except Exception:  # one caller's fault must not cost the others their answers
            log.exception("assemble.not_told")


def _unsealed(vault: Vault, row: db.Row) -> _Stored | None:
    """Return what a row holds; None where it cannot be read any more (the tenant's key was shredded)."""
    try:
        return msgspec.msgpack.decode(vault.unseal(row["tenant_id"], row["sealed"]), type=_Stored)
    except (VaultError, ValueError, msgspec.DecodeError):
        return None


def _by_text(rows: Sequence[db.Row]) -> dict[_Text, list[db.Row]]:
    texts_of: dict[_Text, list[db.Row]] = {}
    for row in rows:
        texts_of.setdefault(_text_of(row), []).append(row)
    return texts_of


def _text_of(row: db.Row) -> _Text:
    return tuple(row[name] for name in _KEY)


def _place_of(row: db.Row) -> _Place:
    return (*_text_of(row), row["part_index"])


_KEY: Final = ("app_id", "phone_index", "sender", "reference", "width", "part_count")

# Parts of one text keep the id of whichever was stored first; where two came at once, that of the first part counts.
# A row that is replaced gets a number of its own, so that whoever is done with the former does not delete it. In key
# order, so that two doors cannot wait for each other in a circle. Returns what was replaced.
STORE_SQL: LiteralString = """
WITH fresh AS (
    SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::int[], $5::smallint[], $6::smallint[], $7::smallint[],
                         $8::int[], $9::uuid[], $10::bytea[], $11::text[])
        AS f(app_id, phone_index, sender, reference, width, part_count, part_index, tenant_id, message_id, sealed, failed)
), stored AS (
    INSERT INTO submit_part AS s (app_id, phone_index, sender, reference, width, part_count, part_index, tenant_id,
                                  message_id, sealed, failed)
    SELECT app_id, phone_index, sender, reference, width, part_count, part_index, tenant_id, message_id, sealed, failed
      FROM fresh ORDER BY app_id, phone_index, sender, reference, width, part_count, part_index
    ON CONFLICT (app_id, phone_index, sender, reference, width, part_count, part_index)
    DO UPDATE SET id = DEFAULT, sealed = EXCLUDED.sealed, came_at = now(), failed = EXCLUDED.failed
)
SELECT tenant_id, app_id, phone_index, sender, reference, width, part_count, part_index, s.sealed
  FROM fresh JOIN submit_part s USING (tenant_id, app_id, phone_index, sender, reference, width, part_count, part_index)
 WHERE s.failed = ''
"""

WHOLE_SQL: LiteralString = """
WITH asked AS (
    SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::int[], $5::smallint[], $6::smallint[])
        AS a(app_id, phone_index, sender, reference, width, part_count)
), whole AS (
    SELECT s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count
      FROM asked a JOIN submit_part s USING (app_id, phone_index, sender, reference, width, part_count)
     WHERE s.failed = '' AND s.part_index BETWEEN 1 AND s.part_count
       AND (s.lease_until IS NULL OR s.lease_until <= now())
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

# What has failed makes room: the customer may send the text again before it has heard of it.
FAIL_SQL: LiteralString = """
UPDATE submit_part SET failed = $2, reference = (id & 2147483647)::int, width = -1, lease_until = NULL, came_at = now()
 WHERE id = ANY($1::bigint[])
"""

# A text is as old as its youngest part.
GIVE_UP_SQL: LiteralString = """
UPDATE submit_part s
   SET failed = $2, reference = (id & 2147483647)::int, width = -1, lease_until = NULL, came_at = now()
 WHERE failed = '' AND came_at < now() - make_interval(secs => $1) AND (lease_until IS NULL OR lease_until <= now())
   AND NOT EXISTS (
       SELECT FROM submit_part o
        WHERE (o.app_id, o.phone_index, o.sender, o.reference, o.width, o.part_count)
            = (s.app_id, s.phone_index, s.sender, s.reference, s.width, s.part_count)
          AND o.came_at >= now() - make_interval(secs => $1))
"""

# As notices are given up: the customer has not come back, or may not any more.
NOT_TOLD_SQL: LiteralString = """
DELETE FROM submit_part
 WHERE failed <> '' AND came_at < now() - make_interval(secs => $1) AND (lease_until IS NULL OR lease_until <= now())
RETURNING app_id
"""

# Each app by itself, up to its room, so that one that is owed much costs the others nothing.
FAILED_SQL: LiteralString = """
WITH due AS MATERIALIZED (
    SELECT p.id FROM unnest($1::int[], $2::int[]) AS app (id, room)
     CROSS JOIN LATERAL (
           SELECT id FROM submit_part
            WHERE app_id = app.id AND failed <> '' AND (lease_until IS NULL OR lease_until <= now())
            ORDER BY id LIMIT app.room FOR UPDATE SKIP LOCKED) p
)
UPDATE submit_part s SET lease_until = now() + make_interval(secs => $3)
 WHERE s.id = ANY(ARRAY(SELECT id FROM due))
RETURNING s.id, s.tenant_id, s.app_id, s.message_id, s.failed, s.sealed
"""


async def failed(database: db.Database, vault: Vault, rooms: Sequence[tuple[AppId, int]]) -> list[Failed]:
    """Lease parts that are owed the report that they failed, of each app the oldest, up to its room.

    What cannot be read any more is owed nobody anything: it is deleted.
    """
    apps, limits = [app_id for app_id, _ in rooms], [room for _, room in rooms]
    rows = await database.fetch(FAILED_SQL, apps, limits, LEASE_S)
    found = []
    unreadable = []
    for row in rows:
        plain = _unsealed(vault, row)
        if plain is None:
            unreadable.append(row["id"])
            continue
        found.append(
            Failed(row["id"], AppId(row["app_id"]), row["message_id"], row["failed"], plain.number, plain.origin)
        )  # fmt: skip
    await forget(database, unreadable)
    return found


FORGET_SQL: LiteralString = "DELETE FROM submit_part WHERE id = ANY($1::bigint[])"


async def forget(database: db.Database, ids: Sequence[int]) -> None:
    """Delete parts that are accepted, or whose failure has been told."""
    if ids:
        await database.execute(FORGET_SQL, list(ids))


FORGET_PERSON_SQL: LiteralString = """
DELETE FROM submit_part
 WHERE app_id IN (SELECT id FROM app WHERE tenant_id = $1) AND phone_index = $2 AND tenant_id = $1 RETURNING 1
"""


async def forget_person(tx: db.Tx, tenant_id: TenantId, phone_index: bytes) -> int:
    """Delete parts to a person who is erased: their text never becomes whole, and nobody is told so."""
    return len(await tx.fetch(FORGET_PERSON_SQL, tenant_id, phone_index))


async def release(database: db.Database, ids: Sequence[int]) -> None:
    """Give back parts whose failure could not be told now."""
    if ids:
        await database.execute(RELEASE_SQL, list(ids))
