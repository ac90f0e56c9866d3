"""When no report comes, or a bad one, send the same code by the policy's next medium. A letter asked for is sent here too.

Writes: verification (medium, message_ids, fallback_at, owed, unasked). Entry point: Fallback.run(), one a door. The rule is in
standing.py.
The code, its life and its tries stay what they were. The tenant pays for the first text of a verification, and for those he
asks for; for what follows a text by itself he pays nothing. The pumping guard counts it all the same, and may stop it
(unasked.py). How long a report is waited for follows from what reports took lately for the operator; a report of a failure
is not waited after.
Crashes: a row says by which medium and under which id something is sent before it is. A text whose id is found nowhere later
is offered once more under the same id, which stores it once. A letter is owed until it was handed over, and so another medium
may get one twice, with one id.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString, Protocol

import msgspec
import structlog

from hongyan import clock, db
from hongyan.otp import unasked
from hongyan.otp.book import Keeper as BookKeeper
from hongyan.otp.media import SMS, SMS_OTHER_ROUTE, TEXTS, Letter, Media, following
from hongyan.otp.policy import Policy, policy_for
from hongyan.otp.standing import LOOK_S, LOST_S, WAIT_S, Standing, decide, read_waits
from hongyan.otp.wish import Kept
from hongyan.settings import Settings
from hongyan.vault import Secret, Vault
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import STATUS_BY_NUMBER, AppId, MessageId, MessageIds, TenantId, accepted_at_s
from hongyan.vocab.verification import SCENE_BY_NUMBER, State
from hongyan.way import route, state
from hongyan.way.accept import Draft, Outcome
from hongyan.way.snapshot import Key, Snapshot, Tenant

log = structlog.get_logger()

GAP_S: Final = 1.0
BATCH_MAX: Final = 200
WAITS_GAP_S: Final = 60.0
CHANNELS_GAP_S: Final = 5.0
NEXT_S: Final = 60.0  # after a medium that sends no reports
LEASE_S: Final = 30.0  # how long the sender of a letter has it to himself
LETTERS_MAX: Final = 16  # on their way at once
OFFER_WAIT_S: Final = 15.0
# Nothing that is sent as a text reaches such a number.
NUMBER_FAULTS: Final = frozenset({Cause.INVALID_NUMBER, Cause.SUSPENDED, Cause.OPTED_OUT, Cause.BLOCKED})


class Snapshots(Protocol):
    """Who holds the newest snapshot (way.snapshot.Keeper)."""

    @property
    def current(self) -> Snapshot: ...


class Accepts(Protocol):
    """Who takes messages in, each id once (way.accept.Acceptor)."""

    async def accept_once(
        self, key: Key, drafts: Sequence[Draft], ids: Sequence[MessageId]
    ) -> Sequence[Outcome]: ...


class _Due:
    """A row that is looked at, and what is decided about it."""

    __slots__ = (
        "code",
        "fallback_at_s",
        "kept",
        "key",
        "medium",
        "message_id",
        "new_id",
        "owed",
        "policy",
        "row",
        "sends",
        "unasked",
    )

    def __init__(self, row: db.Row, policy: Policy) -> None:
        self.row = row
        self.policy = policy
        ids = row["message_ids"]
        self.message_id: uuid.UUID | None = uuid.UUID(bytes=ids[-1].bytes) if ids else None
        self.medium: str = row["medium"]
        self.new_id: uuid.UUID | None = None  # to be stored before something is sent under it
        self.fallback_at_s = 0.0  # 0: never again
        self.sends = False  # something is sent after the commit
        self.owed: bool = row["owed"]
        self.unasked = False  # the guard has counted it
        self.key: Key
        self.kept: Kept
        self.code: str

    @property
    def standing(self) -> Standing:
        row = self.row
        sent_at_s = accepted_at_s(self.message_id) if self.message_id is not None else 0.0
        status, cause = STATUS_BY_NUMBER[row["status"]], CAUSES[row["cause"]]
        return Standing(self.medium, sent_at_s, row["stored"], self.owed, status, cause)

    @property
    def free(self) -> bool:
        """Whether it is on us: what follows another text, unless somebody asked for it and it got lost in a crash."""
        unasked = self.new_id is not None or self.medium != self.policy.media[0]
        return unasked and self.row["texted"]


class Fallback:
    """One a door. run() looks at what is due; any number of doors may, each row is one's."""

    def __init__(
        self,
        database: db.Database,
        snapshots: Snapshots,
        book: BookKeeper,
        vault: Vault,
        acceptor: Accepts,
        media: Media,
        settings: Settings,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._book = book
        self._vault = vault
        self._acceptor = acceptor
        self._media = media
        self._settings = settings
        self._now_s = now_s
        self._ids = MessageIds()
        self._waits: Mapping[tuple[str, str], float] = {}
        self._waits_at_s = 0.0
        self._taking: frozenset[int] | None = None  # channels that take messages; None: no gateway has told
        self._taking_at_s = 0.0

    async def run(self) -> None:
        """Look at what is due, until cancelled."""
        while True:
            try:
                while await self.round() >= BATCH_MAX:
                    pass
            except db.Unavailable as error:
                log.warning("otp.fallback_database_lost", error=type(error).__name__)
            except Exception:  # one row that cannot be read must not leave all others without a second way
                log.exception("otp.fallback_failed")
            await asyncio.sleep(GAP_S)

    async def round(self) -> int:
        """Look once at as many rows as one transaction takes; returns how many."""
        now_s = self._now_s()
        due: list[_Due] = []
        async with self._database.transaction() as tx:
            rows = await tx.fetch(DUE_SQL, clock.moment(now_s), BATCH_MAX)
            if rows:
                await self._learn(tx, now_s)
                due = [self._judged(row, now_s) for row in rows]
                await self._ask_guard(tx, due, now_s)
                await tx.execute(
                    STEP_SQL,
                    [one.row["tenant_id"] for one in due],
                    [one.row["id"] for one in due],
                    [one.medium for one in due],
                    [db.Uuid(one.new_id.bytes) if one.new_id is not None else None for one in due],
                    [_moment(one.fallback_at_s) for one in due],
                    [one.owed for one in due],
                    [int(one.unasked) for one in due],
                )
        at_once = asyncio.Semaphore(LETTERS_MAX)
        async with asyncio.TaskGroup() as tasks:
            for one in due:
                if one.sends:
                    tasks.create_task(self._send(one, at_once))
        return len(due)

    # ---- what follows

    def _judged(self, row: db.Row, now_s: float) -> _Due:
        """Decide about one row. One that cannot be read is not looked at again, so that it holds up nobody."""
        one = _Due(
            row, policy_for(self._book.current.policies, row["tenant_id"], SCENE_BY_NUMBER[row["scene"]])
        )
        tenant = self._snapshots.current.tenants.get(TenantId(row["tenant_id"]))
        over = row["state"] != State.PENDING.number or row["expires_at"].timestamp() <= now_s
        if over or row["code"] is None or tenant is None:
            return one
        try:
            one.kept = msgspec.msgpack.decode(self._vault.unseal(tenant.id, row["sealed"]), type=Kept)
            one.code = self._vault.unseal(tenant.id, row["code"]).decode()
        except Exception:
            log.exception("otp.fallback_unreadable", tenant=tenant.id, verification=str(row["id"]))
            return one
        one.key = _key(tenant, row)
        step = decide(one.standing, now_s, self._waits.get((row["country"], row["operator"]), WAIT_S))
        if step.what == "look":
            one.fallback_at_s = step.at_s
        elif step.what == "again":
            one.sends, one.fallback_at_s = True, now_s + (LEASE_S if one.owed else LOST_S)
        elif step.what == "first" and (one.medium in TEXTS or self._usable(one, one.medium)):
            self._sent_by(one, one.medium, now_s)
        elif step.what in ("first", "next"):
            self._go_on(one, now_s)
        return one

    def _go_on(self, one: _Due, now_s: float) -> None:
        """Send by the next medium there is; without one nothing follows."""
        medium = following(one.policy.media, one.medium, lambda kind: self._usable(one, kind))
        if medium:
            self._sent_by(one, medium, now_s)

    async def _ask_guard(self, tx: db.Tx, due: Sequence[_Due], now_s: float) -> None:
        """Have new texts counted; where the guard stops one, a letter follows in its place, or nothing does."""
        texts = [one for one in due if one.new_id is not None and one.medium in TEXTS]
        real = [one for one in texts if not one.row["sandbox"]]
        asked = [
            unasked.Text(one.row, one.policy, one.key, one.kept.draft(one.code, one.policy)) for one in real
        ]
        said = await unasked.count(tx, asked, self._snapshots.current, self._settings, now_s)
        for one, outcome in zip(real, said, strict=True):
            one.unasked = outcome is unasked.Said.COUNTED
            if outcome is unasked.Said.STOPPED:
                log.info("otp.fallback_stopped", tenant=one.key.tenant.id, medium=one.medium)
                self._without_texts(one, now_s)

    def _without_texts(self, one: _Due, now_s: float) -> None:
        one.medium, one.new_id, one.sends, one.fallback_at_s = one.row["medium"], None, False, 0.0
        letters = [kind for kind in one.policy.media if kind == one.medium or kind not in TEXTS]
        letter = following(letters, one.medium, lambda kind: self._usable(one, kind))
        if letter:
            self._sent_by(one, letter, now_s)

    def _sent_by(self, one: _Due, medium: str, now_s: float) -> None:
        one.medium, one.sends, one.owed = medium, True, medium not in TEXTS
        one.message_id = one.new_id = self._ids.make()
        one.fallback_at_s = now_s + (LOOK_S if medium in TEXTS else LEASE_S)

    def _usable(self, one: _Due, kind: str) -> bool:
        """Whether a medium may reach this person after what is known of the last text."""
        row, standing = one.row, one.standing
        if kind not in TEXTS:
            return not row["sandbox"] and self._media.reaches(kind, one.kept.email)
        if standing.medium in TEXTS and standing.cause in NUMBER_FAULTS:
            return False
        return kind == SMS or self._has_other_route(one)

    def _has_other_route(self, one: _Due) -> bool:
        """Whether another channel takes texts for the number. One that has not left yet would only wait twice."""
        snapshot, tenant, row = self._snapshots.current, one.key.tenant, one.row
        template = tenant.templates.get(one.kept.template)
        if template is None or not row["channel_id"]:
            return False
        signature = tenant.signatures.get(one.kept.signature)
        signature_id = template.signature_id or (signature.id if signature is not None else 0)
        want = route.Want(
            tenant.id, row["country"], row["operator"], template.purpose, row["sandbox"], signature_id
        )
        others = {other.channel_id for other in route.candidates(want, snapshot, row["channel_id"])}
        return bool(others if self._taking is None else others & self._taking)

    # ---- sending

    async def _send(self, one: _Due, at_once: asyncio.Semaphore) -> None:
        assert one.message_id is not None
        try:
            async with at_once:
                if one.medium in TEXTS:
                    await self._text(one)
                else:
                    await self._letter(one)
        except db.Unavailable as error:
            log.warning("otp.fallback_unsure", error=type(error).__name__)  # the next look finds out
        except Exception:  # of one letter, or one text: the next look at its row goes on
            log.exception("otp.fallback_not_sent", medium=one.medium)

    async def _text(self, one: _Due) -> None:
        """Have a text accepted under its id. One that is refused leaves its place to the next medium."""
        assert one.message_id is not None
        left_s = int(one.row["expires_at"].timestamp() - self._now_s())
        avoid = one.row["channel_id"] if one.medium == SMS_OTHER_ROUTE else 0
        draft = one.kept.draft(one.code, one.policy, one.row["reference"] or "", avoid, free=one.free)
        draft = msgspec.structs.replace(draft, validity_s=max(1, left_s))
        async with asyncio.timeout(OFFER_WAIT_S):
            (outcome,) = await self._acceptor.accept_once(one.key, (draft,), (MessageId(one.message_id),))
        if isinstance(outcome, Refusal) and outcome.code not in _NOT_NOW:
            log.info("otp.fallback_refused", medium=one.medium, code=outcome.code.name)
            now = clock.moment(self._now_s())
            await self._database.execute(REFUSED_SQL, *_which(one), db.Uuid(one.message_id.bytes), now)

    async def _letter(self, one: _Due) -> None:
        """Hand a letter over. Nobody reports about it: the next medium, if there is one, follows after NEXT_S."""
        assert one.message_id is not None
        kept, tenant = one.kept, one.key.tenant
        letter = Letter(
            verification=uuid.UUID(bytes=one.row["id"].bytes),
            message_id=one.message_id,
            to=kept.e164,
            email=kept.email,
            code=one.code,
            text=_words(one, tenant),
            signature=kept.signature or _bound_signature(one, self._snapshots.current),
            language=kept.language,
            expires_at_s=one.row["expires_at"].timestamp(),
        )
        took = await self._media.send(one.medium, letter)
        now_s = self._now_s()
        more = following(one.policy.media, one.medium, lambda kind: self._usable(one, kind))
        at_s = now_s + NEXT_S if took and more else now_s if more else 0.0 if took else now_s + LEASE_S / 2
        owed = not took and not more
        await self._database.execute(
            LATER_SQL, *_which(one), db.Uuid(one.message_id.bytes), _moment(at_s), owed
        )

    # ---- what is known of the routes

    async def _learn(self, tx: db.Tx, now_s: float) -> None:
        """Read anew, now and then, how long reports take and which channels take messages."""
        if now_s - self._waits_at_s >= WAITS_GAP_S:
            self._waits, self._waits_at_s = await read_waits(tx, now_s), now_s
        if now_s - self._taking_at_s >= CHANNELS_GAP_S:
            fresh = [
                (channel_id, one.told.takes)
                for channel_id, gateways in (await state.every(tx)).items()
                for one in gateways
                if not one.stale
            ]
            self._taking = frozenset(channel_id for channel_id, takes in fresh if takes) if fresh else None
            self._taking_at_s = now_s


_NOT_NOW: Final = frozenset({Code.SYSTEM_BUSY, Code.SYSTEM_ERROR})


def _key(tenant: Tenant, row: db.Row) -> Key:
    """Return as whom the platform sends what it decided by itself."""
    return Key(
        id=0, key_id="codes", secret=Secret(b""), tenant=tenant, app_id=AppId(row["app_id"]), allow_basic=False,
        free_text=False, sandbox=row["sandbox"], networks=(), rate_per_s=0,
    )  # fmt: skip


def _words(one: _Due, tenant: Tenant) -> str:
    """Return the template's text with the code in it; the bare code where the template is gone."""
    template = tenant.templates.get(one.kept.template)
    if template is None:
        return one.code
    return template.text_in(one.kept.language).render({**one.kept.params, one.kept.variable: one.code})


def _bound_signature(one: _Due, snapshot: Snapshot) -> str:
    template = one.key.tenant.templates.get(one.kept.template)
    signature = snapshot.signatures.get(template.signature_id) if template is not None else None
    return signature.name if signature is not None else one.key.tenant.name


def _which(one: _Due) -> tuple[int, uuid.UUID]:
    return one.row["tenant_id"], one.row["id"]


def _moment(at_s: float) -> datetime | None:
    return clock.moment(at_s) if at_s else None


DUE_SQL: LiteralString = """
WITH due AS MATERIALIZED (
    SELECT tenant_id, id, app_id, scene, state, medium, sandbox, sealed, code, country, operator, prefix, message_ids, owed,
           expires_at, reference
      FROM verification WHERE fallback_at <= $1 ORDER BY fallback_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
SELECT d.*, m.id IS NOT NULL AS stored, coalesce(m.status, 0) AS status, coalesce(m.cause, 0) AS cause,
       coalesce(nullif(m.channel_id, 0), s.channel_id, 0) AS channel_id,
       EXISTS (SELECT FROM message t WHERE t.tenant_id = d.tenant_id AND t.id = ANY(d.message_ids)) AS texted
  FROM due d
  LEFT JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.message_ids[cardinality(d.message_ids)]
  LEFT JOIN LATERAL (
        SELECT channel_id FROM submitted WHERE message_id = m.id ORDER BY attempt DESC LIMIT 1) s ON true
"""
STEP_SQL: LiteralString = """
UPDATE verification v
   SET medium = n.medium, fallback_at = n.fallback_at, owed = n.owed, unasked = v.unasked + n.unasked,
       message_ids = CASE WHEN n.message_id IS NULL THEN v.message_ids ELSE v.message_ids || n.message_id END
  FROM unnest($1::int[], $2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[], $6::boolean[], $7::smallint[])
       AS n(tenant_id, id, medium, message_id, fallback_at, owed, unasked)
 WHERE v.tenant_id = n.tenant_id AND v.id = n.id
"""
# Who ended it meanwhile, or sent it once more, has decided otherwise.
REFUSED_SQL: LiteralString = """
UPDATE verification
   SET message_ids = array_remove(message_ids, $3), fallback_at = CASE WHEN cardinality(message_ids) > 1 THEN $4::timestamptz END
 WHERE tenant_id = $1 AND id = $2 AND state = 0 AND message_ids[cardinality(message_ids)] = $3
"""
LATER_SQL: LiteralString = """
UPDATE verification SET fallback_at = $4, owed = $5
 WHERE tenant_id = $1 AND id = $2 AND state = 0 AND message_ids[cardinality(message_ids)] = $3
"""
