"""What people text back: join the parts, find whom it is for, keep it, owe the notice, hear a stop.

Writes: inbound, inbound_part, notice (its birth), suppression (through optout), consent (through consent),
complaint (through complaint). Entry points: Desk; record()
and join_overdue() inside a transaction. The upstream is answered after the commit only, so it may come twice:
the same text from the same person to the same access number within REPEAT_S is one.
Surprises: inbound_part also holds marks, rows without a text. A mark of part_index 0 says that these parts
were joined a moment ago (width > 0) or that this text was seen a moment ago (width 0, reference = its hash).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import structlog

from hongyan import clock, db
from hongyan.channels.channel import Inbound
from hongyan.settings import Settings
from hongyan.vault import Vault, VaultError
from hongyan.vocab import phone
from hongyan.vocab.message import ChannelId, MessageIds, TenantId, first_id_at
from hongyan.way import complaint, consent, optout
from hongyan.way.measure import Counters
from hongyan.way.notice import INBOUND, Owed
from hongyan.way.optout import Suppressed
from hongyan.way.snapshot import Keeper, Snapshot

log = structlog.get_logger()

REPEAT_S: Final = 60
BATCH_MAX: Final = 500
WAITING_MAX: Final = (
    10_000  # parts in memory; those beyond stay unanswered, so their upstream brings them again
)
OVERDUE_GAP_S: Final = 5.0
OVERDUE_MAX: Final = 100  # incomplete texts given out at a time
RETRY_S: Final = 0.5
WRITERS_MAX: Final = 100  # messages to a person that are looked through, the newest first
PARTS_MAX: Final = 255  # a concatenation header counts in one octet (3GPP TS 23.040 §9.2.3.24.1)
ACCESS_NUMBER_MAX: Final = 32
MISSING: Final = "[…]"  # stands for a part that never came
NOBODY: Final = TenantId(0)


class Answered(NamedTuple):
    """The message that a text is known to answer: nobody else hears it. Only the sandbox's phone knows."""

    tenant_id: TenantId
    app_id: int
    message_id: UUID


class Arrival(NamedTuple):
    """A part of a text, and the channel it came by."""

    channel_id: ChannelId
    part: Inbound
    answers: Answered | None = None


class Recorded(msgspec.Struct, frozen=True):
    """What follows from a batch once it is committed."""

    owed: Sequence[Owed] = ()
    stopped: Collection[Suppressed] = ()


class _Key(NamedTuple):
    """Which parts belong together."""

    channel_id: int
    access_number: str
    phone_index: bytes
    reference: int
    width: int  # octets of the reference
    part_count: int


class _Text(msgspec.Struct, frozen=True):
    """A whole text from a person."""

    channel_id: ChannelId
    access_number: str
    phone_index: bytes
    number: str
    text: str
    at: datetime
    answers: Answered | None = None


class _Writer(NamedTuple):
    """A message somebody sent to the person lately, the newest first."""

    tenant_id: TenantId
    app_id: int
    message_id: UUID
    channel_id: int
    extension: str


class _Owner(NamedTuple):
    """Whom a text is for, and who else hears a stop in it."""

    tenant_id: TenantId
    app_id: int  # 0: not known
    message_id: UUID | None
    writers: frozenset[TenantId]


class Desk:
    """Takes inbound parts from the channels' sinks and stores them in batches: arrived() in, run() works.

    `stored` gives slots back to their channel, `owe` hands the notices to the clerk; both after the commit.
    """

    def __init__(
        self,
        database: db.Database,
        keeper: Keeper,
        vault: Vault,
        settings: Settings,
        counters: Counters,
        stored: Callable[[ChannelId, Sequence[Any]], None],
        owe: Callable[[Sequence[Owed]], None],
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._vault = vault
        self._settings = settings
        self._counters = counters
        self._stored = stored
        self._owe = owe
        self._waiting: deque[Arrival] = deque()
        self._wake = asyncio.Event()

    def arrived(
        self, channel_id: ChannelId, parts: Sequence[Inbound], answers: Answered | None = None
    ) -> None:
        """Note parts; called from the event loop, never blocks. `answers`: of whole texts, which message they do."""
        room = WAITING_MAX - len(self._waiting)
        if len(parts) > room:
            log.warning("inbound.full", left_at_the_upstream=len(parts) - room)
        self._waiting.extend(Arrival(channel_id, part, answers) for part in parts[:room])
        self._counters.arrived(min(len(parts), room))
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many parts are not stored yet."""
        return len(self._waiting)

    async def run(self) -> None:
        """Store what arrives, and give out what stayed incomplete, until cancelled."""
        overdue_at_s = 0.0
        while True:
            try:
                async with asyncio.timeout(OVERDUE_GAP_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.store()
                if time.monotonic() >= overdue_at_s:
                    overdue_at_s = time.monotonic() + OVERDUE_GAP_S
                    await self.join_overdue()
            except db.Unavailable as error:
                log.warning("inbound.database_lost", error=type(error).__name__, waiting=len(self._waiting))
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def store(self) -> None:
        """Store everything that waits; raises db.Unavailable, and then what was not stored still waits."""
        while self._waiting:
            batch = [self._waiting[n] for n in range(min(BATCH_MAX, len(self._waiting)))]
            await self._store(batch)
            for _ in batch:
                self._waiting.popleft()

    async def join_overdue(self) -> None:
        """Give out texts whose missing parts have been waited for long enough."""
        async with self._database.transaction() as tx:
            recorded = await join_overdue(tx, self._keeper.current, self._vault, self._settings, clock.now())
        await self._conclude(recorded)

    async def _store(self, batch: Sequence[Arrival]) -> None:
        """Store a batch; one that fails is split: a bad part fails alone and stays with its upstream."""
        try:
            async with self._database.transaction() as tx:
                recorded = await record(
                    tx, self._keeper.current, self._vault, self._settings, batch, clock.now()
                )
        except db.Unavailable:
            raise
        except Exception:
            if len(batch) == 1:
                log.exception("inbound.not_stored", channel_id=batch[0].channel_id)
                return
            await self._store(batch[: len(batch) // 2])
            await self._store(batch[len(batch) // 2 :])
            return
        slots: dict[ChannelId, list[Any]] = {}
        for channel_id, part, _ in batch:
            slots.setdefault(channel_id, []).append(part.slot)
        for channel_id, given in slots.items():
            self._stored(channel_id, given)
        await self._conclude(recorded)

    async def _conclude(self, recorded: Recorded) -> None:
        if recorded.owed:
            self._owe(recorded.owed)
        if recorded.stopped:
            self._counters.stopped(len({row.phone_index for row in recorded.stopped}))
            await optout.tell(self._database, recorded.stopped)


async def record(
    tx: db.Tx,
    snapshot: Snapshot,
    vault: Vault,
    settings: Settings,
    arrivals: Sequence[Arrival],
    now: datetime,
) -> Recorded:
    """Store a batch of parts: join them, give out what is whole. Run twice, it gives out nothing twice."""
    whole: list[_Text] = []
    parts: dict[tuple[_Key, int], _Text] = {}
    for channel_id, part, answers in arrivals:
        text = _text(channel_id, part, vault, answers)
        if part.part_count <= 1 or part.part_count > PARTS_MAX or not 1 <= part.part_index <= part.part_count:
            whole.append(text)
        else:
            parts[_key(text, part), part.part_index] = text  # a duplicate replaces
    if parts:
        whole += await _join(tx, vault, parts, now)
    return await _give_out(tx, snapshot, vault, settings, whole, now)


async def join_overdue(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, settings: Settings, now: datetime
) -> Recorded:
    """Give out texts that are incomplete for inbound_join_wait_s, with MISSING where a part is."""
    before = now - timedelta(seconds=settings.inbound_join_wait_s)
    rows = await tx.fetch(OVERDUE_SQL, before, OVERDUE_MAX)
    return await _give_out(tx, snapshot, vault, settings, _joined(rows, vault), now)


def _text(channel_id: ChannelId, part: Inbound, vault: Vault, answers: Answered | None) -> _Text:
    number = _e164(part.number)
    return _Text(
        channel_id=channel_id,
        access_number="".join(filter(str.isprintable, part.access_number))[:ACCESS_NUMBER_MAX],
        phone_index=vault.phone_index(number),
        number=number,
        text=part.text,
        at=datetime.fromtimestamp(part.at_s, UTC),
        answers=answers,
    )


def _e164(number: str) -> str:
    """Read a person's number; what is none we know (a short code) is taken by its digits."""
    try:
        return phone.parse(number).e164
    except phone.BadNumber:
        return "+" + "".join(each for each in number if each.isascii() and each.isdigit())


def _key(text: _Text, part: Inbound) -> _Key:
    return _Key(
        text.channel_id,
        text.access_number,
        text.phone_index,
        part.reference,
        part.reference_octets,
        part.part_count,
    )


# ---- parts

# Two gateways may each store a part at the same moment, neither seeing the other's: they take turns.
TURN_SQL: LiteralString = "SELECT pg_advisory_xact_lock(turn) FROM unnest($1::bigint[]) AS u(turn)"

_SAME: LiteralString = """
       j.channel_id = p.channel_id AND j.phone_index = p.phone_index AND j.access_number = p.access_number
   AND j.reference = p.reference AND j.width = p.width AND j.part_count = p.part_count
"""
# A part of a text that was joined a moment ago came twice. The wait counts from a part's first coming.
PUT_SQL: LiteralString = (
    """
INSERT INTO inbound_part (channel_id, access_number, phone_index, reference, width, part_count, part_index,
                          sealed, came_at)
SELECT p.channel_id, p.access_number, p.phone_index, p.reference, p.width, p.part_count, p.part_index,
       p.sealed, $9
  FROM unnest($1::int[], $2::text[], $3::bytea[], $4::int[], $5::smallint[], $6::smallint[], $7::smallint[],
              $8::bytea[])
    AS p(channel_id, access_number, phone_index, reference, width, part_count, part_index, sealed)
 WHERE NOT EXISTS (SELECT FROM inbound_part j WHERE j.part_index = 0 AND j.came_at > $10 AND """
    + _SAME
    + """)
 ORDER BY 1, 3, 2, 4, 5, 6, 7
ON CONFLICT (channel_id, phone_index, access_number, reference, width, part_count, part_index)
DO UPDATE SET sealed = EXCLUDED.sealed
"""
)
TAKE_SQL: LiteralString = (
    """
WITH whole AS (
    SELECT channel_id, access_number, phone_index, reference, width, part_count
      FROM inbound_part
      JOIN (SELECT DISTINCT * FROM unnest($1::int[], $2::text[], $3::bytea[], $4::int[], $5::smallint[],
                                          $6::smallint[])
                AS u(channel_id, access_number, phone_index, reference, width, part_count)) touched
     USING (channel_id, access_number, phone_index, reference, width, part_count)
     WHERE part_index > 0
     GROUP BY channel_id, access_number, phone_index, reference, width, part_count
    HAVING count(*) = part_count
), marked AS (
    INSERT INTO inbound_part (channel_id, access_number, phone_index, reference, width, part_count,
                              part_index, sealed, came_at)
    SELECT channel_id, access_number, phone_index, reference, width, part_count, 0, '', $7 FROM whole
    ON CONFLICT (channel_id, phone_index, access_number, reference, width, part_count, part_index)
    DO UPDATE SET came_at = EXCLUDED.came_at
)
DELETE FROM inbound_part p USING whole j
 WHERE p.part_index > 0 AND """
    + _SAME
    + """
RETURNING p.channel_id, p.access_number, p.phone_index, p.reference, p.width, p.part_count, p.part_index,
          p.sealed, p.came_at
"""
)
OVERDUE_SQL: LiteralString = (
    """
WITH late AS (
    SELECT channel_id, access_number, phone_index, reference, width, part_count
      FROM inbound_part WHERE part_index > 0
     GROUP BY channel_id, access_number, phone_index, reference, width, part_count
    HAVING min(came_at) < $1
     LIMIT $2
)
DELETE FROM inbound_part p USING late j
 WHERE p.part_index > 0 AND """
    + _SAME
    + """
RETURNING p.channel_id, p.access_number, p.phone_index, p.reference, p.width, p.part_count, p.part_index,
          p.sealed, p.came_at
"""
)


async def _join(
    tx: db.Tx, vault: Vault, parts: Mapping[tuple[_Key, int], _Text], now: datetime
) -> Sequence[_Text]:
    turns = {_turn(key, vault) for key, _ in parts}
    await tx.execute(TURN_SQL, sorted(turns))
    sealed = [vault.seal(NOBODY, _pack((text.number, text.text))) for text in parts.values()]
    columns = [list(column) for column in zip(*(key for key, _ in parts), strict=True)]
    lately = now - timedelta(seconds=REPEAT_S)
    await tx.execute(PUT_SQL, *columns, [index for _, index in parts], sealed, now, lately)
    return _joined(await tx.fetch(TAKE_SQL, *columns, now), vault)


def _turn(key: _Key, vault: Vault) -> int:
    mac = vault.keyed_hash(
        key.phone_index,
        key.access_number.encode(),
        b"%d.%d.%d" % (key.channel_id, key.reference, key.part_count),
    )
    return int.from_bytes(mac[:8], signed=True)


def _joined(rows: Iterable[db.Row], vault: Vault) -> Sequence[_Text]:
    """Put parts together in their order, with MISSING in place of each run of those that are not there."""
    texts: dict[_Key, dict[int, db.Row]] = {}
    for row in rows:
        key = _Key(*(row[name] for name in _Key._fields))
        texts.setdefault(key, {})[row["part_index"]] = row
    return [_put_together(key, found, vault) for key, found in texts.items()]


def _put_together(key: _Key, found: Mapping[int, db.Row], vault: Vault) -> _Text:
    number = ""
    pieces: list[str] = []
    for index in range(1, key.part_count + 1):
        if index in found:
            number, text = _unpack(vault.unseal(NOBODY, found[index]["sealed"]))
            pieces.append(text)
        elif not pieces or pieces[-1] != MISSING:
            pieces.append(MISSING)
    came_at = min(row["came_at"] for row in found.values())
    return _Text(
        ChannelId(key.channel_id), key.access_number, key.phone_index, number, "".join(pieces), came_at
    )


_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.Decoder(tuple[str, str]).decode


# ---- whole texts


async def _give_out(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, settings: Settings, texts: Sequence[_Text], now: datetime
) -> Recorded:
    """Find whom each text is for, store it and its notice, and keep the stops and starts among them."""
    texts = await _unseen(tx, vault, texts, now)
    if not texts:
        return Recorded()
    writers = await _writers(tx, snapshot, texts, now - timedelta(seconds=settings.inbound_memory_s))
    extensions = _extensions(snapshot)
    found = [_owner(text, snapshot, extensions, writers.get(place, ())) for place, text in enumerate(texts)]
    owners = await _with_apps(tx, found)
    words = [optout.word_of(text.text) for text in texts]
    stopped = await _hear(tx, vault, texts, owners, words)
    opt_outs = [isinstance(word, optout.Stop) for word in words]
    owed = await _keep(tx, snapshot, vault, list(zip(texts, owners, opt_outs, strict=True)))
    return Recorded(owed, stopped)


# The mark is taken by whoever comes first; the same text a minute later is a new one.
UNSEEN_SQL: LiteralString = """
INSERT INTO inbound_part AS p (channel_id, access_number, phone_index, reference, width, part_count,
                               part_index, sealed, came_at)
SELECT channel_id, access_number, phone_index, reference, 0, 0, 0, '', $5
  FROM unnest($1::int[], $2::text[], $3::bytea[], $4::int[])
    AS u(channel_id, access_number, phone_index, reference)
 ORDER BY 1, 3, 2, 4
ON CONFLICT (channel_id, phone_index, access_number, reference, width, part_count, part_index)
DO UPDATE SET came_at = EXCLUDED.came_at WHERE p.came_at <= $6
RETURNING channel_id, access_number, phone_index, reference
"""


async def _unseen(tx: db.Tx, vault: Vault, texts: Sequence[_Text], now: datetime) -> Sequence[_Text]:
    told = [text for text in texts if text.answers]  # typed here, so no upstream brings it twice
    marks = {
        (t.channel_id, t.access_number, t.phone_index, _hash(t.text, vault)): t
        for t in reversed(texts)
        if not t.answers
    }
    if not marks:
        return told
    columns = [list(column) for column in zip(*marks, strict=True)]
    rows = await tx.fetch(UNSEEN_SQL, *columns, now, now - timedelta(seconds=REPEAT_S))
    unseen = {(row["channel_id"], row["access_number"], row["phone_index"], row["reference"]) for row in rows}
    first = [text for mark, text in marks.items() if mark in unseen]
    return sorted([*told, *first], key=lambda text: text.at)


def _hash(text: str, vault: Vault) -> int:
    return int.from_bytes(vault.keyed_hash(text.encode("utf-8", "surrogatepass"))[:4], signed=True)


# The channel of a message is written with its first report; before that it stands with its submissions.
WRITERS_SQL: LiteralString = """
SELECT t.place, m.tenant_id, m.app_id, m.id, m.extension, m.signature_id,
       coalesce(nullif(m.channel_id, 0), s.channel_id, 0) AS channel_id
  FROM unnest($1::bytea[]) WITH ORDINALITY AS t(phone_index, place)
 CROSS JOIN LATERAL (
    SELECT tenant_id, app_id, id, extension, channel_id, signature_id FROM message
     WHERE phone_index = t.phone_index AND id >= $2 ORDER BY id DESC LIMIT $3) m
  LEFT JOIN LATERAL (
    SELECT channel_id FROM submitted WHERE message_id = m.id AND m.channel_id = 0 LIMIT 1) s ON true
 ORDER BY t.place, m.id DESC
"""


async def _writers(
    tx: db.Tx, snapshot: Snapshot, texts: Sequence[_Text], since: datetime
) -> Mapping[int, Sequence[_Writer]]:
    """Find who wrote to each person lately, by the text's place."""
    rows = await tx.fetch(
        WRITERS_SQL, [text.phone_index for text in texts], first_id_at(since.timestamp()), WRITERS_MAX
    )
    found: dict[int, list[_Writer]] = {}
    for row in rows:
        extension = snapshot.extension_at(row["channel_id"], row["signature_id"], row["extension"])
        writer = _Writer(TenantId(row["tenant_id"]), row["app_id"], row["id"], row["channel_id"], extension)
        found.setdefault(row["place"] - 1, []).append(writer)
    return found


def _extensions(snapshot: Snapshot) -> Mapping[tuple[int, str], frozenset[TenantId]]:
    """Return who has which digits behind the access number of which channel; channel 0: behind any."""
    if snapshot.found_holders:
        return snapshot.found_holders
    found: dict[tuple[int, str], set[TenantId]] = {(0, ""): set()}  # so that it is never empty
    for tenant in snapshot.tenants.values():
        for signature in tenant.signatures.values():
            if signature.extension:
                found.setdefault((0, signature.extension), set()).add(tenant.id)
            for place in signature.extensions.items():
                found.setdefault(place, set()).add(tenant.id)
    snapshot.found_holders.update((place, frozenset(tenants)) for place, tenants in found.items())
    return snapshot.found_holders


def _owner(
    text: _Text,
    snapshot: Snapshot,
    extensions: Mapping[tuple[int, str], frozenset[TenantId]],
    writers: Sequence[_Writer],
) -> _Owner:
    """Decide whom a text is for: the longest extension that fits, else who wrote last from there."""
    if text.answers:
        return _Owner(*text.answers, frozenset({text.answers.tenant_id}))
    channels, suffix = _place(text, snapshot)
    wrote = [writer for writer in writers if writer.channel_id in channels]
    wrote.sort(key=lambda writer: writer.extension != suffix)  # first who wrote from there to the digit
    for width in range(len(suffix), 0, -1):
        holders = frozenset[TenantId]().union(
            *(extensions.get((channel_id, suffix[:width]), ()) for channel_id in (0, *channels))
        )
        if holders:
            theirs = [writer for writer in wrote if writer.tenant_id in holders]
            return _of(theirs, holders, min(holders))
    return _of(wrote, frozenset(writer.tenant_id for writer in wrote), NOBODY)


def _of(wrote: Sequence[_Writer], hearing: frozenset[TenantId], otherwise: TenantId) -> _Owner:
    if not wrote:
        return _Owner(otherwise, 0, None, hearing)
    last = wrote[0]
    return _Owner(last.tenant_id, last.app_id, last.message_id, hearing)


def _place(text: _Text, snapshot: Snapshot) -> tuple[frozenset[int], str]:
    """Return the channels that share the access number, and the digits that stand behind it."""
    row = snapshot.channels.get(text.channel_id)
    access_number = _digits(row.access_number) if row else ""
    if not access_number:
        return frozenset({text.channel_id}), _digits(text.access_number)
    said = _digits(text.access_number)
    suffix = said.removeprefix(access_number) if said.startswith(access_number) else ""
    same = (each.id for each in snapshot.channels.values() if _digits(each.access_number) == access_number)
    return frozenset({text.channel_id, *same}), suffix


def _digits(number: str) -> str:
    return "".join(each for each in number if each.isascii() and each.isdigit())


FIRST_APPS_SQL: LiteralString = """
SELECT tenant_id, min(id) AS app_id FROM app WHERE tenant_id = ANY($1::int[]) GROUP BY tenant_id
"""


async def _with_apps(tx: db.Tx, owners: Sequence[_Owner]) -> Sequence[_Owner]:
    """Where no message says which app, the tenant's first one is told."""
    wanted = {owner.tenant_id for owner in owners if owner.tenant_id and not owner.app_id}
    if not wanted:
        return owners
    apps = {row["tenant_id"]: row["app_id"] for row in await tx.fetch(FIRST_APPS_SQL, sorted(wanted))}
    return [owner._replace(app_id=owner.app_id or apps.get(owner.tenant_id, 0)) for owner in owners]


async def _hear(
    tx: db.Tx,
    vault: Vault,
    texts: Sequence[_Text],
    owners: Sequence[_Owner],
    words: Sequence[optout.Stop | optout.Start | None],
) -> Collection[Suppressed]:
    """Keep stops and starts for everybody who wrote; of several from one person the last counts.

    Each word is evidence as well: a stop withdraws every consent, a start gives it. Who complains is heard twice.
    """
    last: dict[tuple[bytes, TenantId], optout.Stop | optout.Start] = {}
    said: list[tuple[TenantId, _Text, _Owner, optout.Stop | optout.Start]] = []
    for text, owner, word in zip(texts, owners, words, strict=True):
        if word is not None:
            last.update(((text.phone_index, tenant_id), word) for tenant_id in owner.writers)
            said += ((tenant_id, text, owner, word) for tenant_id in sorted(owner.writers))
    await consent.append(tx, vault, [_said(tenant_id, text, word) for tenant_id, text, _, word in said])
    stopped = [Suppressed(*key, _reason(word)) for key, word in last.items() if isinstance(word, optout.Stop)]
    await optout.stop(tx, stopped)
    await complaint.record(tx, vault, _complaints(said))
    await optout.start(tx, [Suppressed(*key) for key, word in last.items() if isinstance(word, optout.Start)])
    return stopped


def _said(tenant_id: TenantId, text: _Text, word: optout.Stop | optout.Start) -> consent.Said:
    proof = consent.Proof(number=text.number, text=text.text, evidence={"access_number": text.access_number})
    return consent.Said(
        tenant_id=tenant_id,
        phone_index=text.phone_index,
        given=isinstance(word, optout.Start),
        scope=consent.ALL if isinstance(word, optout.Stop) else consent.PROMOTIONAL,
        source=consent.INBOUND,
        at=text.at,
        proof=proof,
    )


def _complaints(
    said: Sequence[tuple[TenantId, _Text, _Owner, optout.Stop | optout.Start]],
) -> Sequence[complaint.Made]:
    """Return one complaint a person and tenant, the first of several in a batch."""
    found: dict[tuple[TenantId, bytes], complaint.Made] = {}
    for tenant_id, text, owner, word in said:
        if isinstance(word, optout.Stop) and word.complaint:
            made = complaint.Made(
                tenant_id=tenant_id,
                phone_index=text.phone_index,
                source=complaint.ComplaintSource.INBOUND,
                received_at=text.at,
                words=complaint.Words(number=text.number, text=text.text),
                message_id=owner.message_id if owner.tenant_id == tenant_id else None,
            )
            found.setdefault((tenant_id, text.phone_index), made)
    return list(found.values())


def _reason(stop: optout.Stop) -> str:
    marks = ("" if stop.sure else ", unsure") + (", complaint" if stop.complaint else "")
    return f"inbound{marks}: {stop.word}"


KEEP_SQL: LiteralString = """
WITH letter AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::text[], $6::bytea[], $7::bytea[],
                         $8::uuid[], $9::boolean[], $10::timestamptz[])
        AS u(id, tenant_id, app_id, channel_id, access_number, phone_index, sealed, message_id, opt_out,
             came_at)
), kept AS (
    INSERT INTO inbound (id, tenant_id, app_id, channel_id, access_number, phone_index, sealed, message_id,
                         opt_out, came_at)
    SELECT id, tenant_id, app_id, channel_id, access_number, phone_index, sealed, message_id, opt_out, came_at
      FROM letter
)
INSERT INTO notice (tenant_id, app_id, kind, message_id, at, lease_until)
SELECT tenant_id, app_id, $11, id, came_at,
       CASE WHEN app_id = ANY($12::int[]) THEN now() + interval '30 seconds' END
  FROM letter WHERE app_id > 0
RETURNING id, message_id
"""


async def _keep(
    tx: db.Tx, snapshot: Snapshot, vault: Vault, letters: Sequence[tuple[_Text, _Owner, bool]]
) -> Sequence[Owed]:
    ids = MessageIds()
    rows = [
        (
            ids.make(),
            owner.tenant_id,
            owner.app_id,
            text.channel_id,
            text.access_number,
            text.phone_index,
            _sealed(vault, owner.tenant_id, text),
            owner.message_id,
            opt_out,
            text.at,
        )
        for text, owner, opt_out in letters
    ]
    columns = [list(column) for column in zip(*rows, strict=True)]
    notices = await tx.fetch(KEEP_SQL, *columns, INBOUND, snapshot.hooked_apps)
    by_id = {row[0]: row for row in rows}
    return [_owed(notice["id"], by_id[notice["message_id"]]) for notice in notices]


def _sealed(vault: Vault, tenant_id: TenantId, text: _Text) -> bytes | None:
    try:
        return vault.seal(tenant_id, _pack((text.number, text.text)))
    except VaultError:  # the tenant's key was shredded; that somebody texted is kept
        return None


def _owed(notice_id: int, row: Sequence[Any]) -> Owed:
    letter_id, tenant_id, app_id, _, access_number, _, sealed, message_id, opt_out, at = row
    return Owed(
        id=notice_id,
        tenant_id=tenant_id,
        app_id=app_id,
        kind=INBOUND,
        message_id=letter_id,
        status=0,
        cause=0,
        code="",
        at=at,
        attempt=0,
        reference=None,
        part_count=0,
        price_micro=0,
        sealed=sealed,
        access_number=access_number,
        answers=message_id,
        opt_out=opt_out,
    )
