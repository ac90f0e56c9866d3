"""Make codes and have them sent, for as long as nobody abuses it.

Writes: verification. Entry points: Issuer.offer(), Issuer.resend(), Issuer.cancel().
What waits shares one transaction: limits and wards are locked, asked and written, and the verifications stored. Its commit
comes before the message is offered, under an id that the row has already, so whoever reads a code can have it checked. A
message that is refused after that ends its verification as failed.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, LiteralString, Protocol

import msgspec
import structlog

from hongyan import clock, db
from hongyan.gather import Gatherer, Told
from hongyan.otp import challenge, codes, ladder, media
from hongyan.otp.book import Keeper as BookKeeper
from hongyan.otp.challenge import Challenges, Solved
from hongyan.otp.codes import Peppers
from hongyan.otp.limits import Held
from hongyan.otp.pumping import Judgement, Wards
from hongyan.otp.wish import Kept, Plan, Wish, plan
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds
from hongyan.vocab.verification import SCENE_BY_NUMBER, STATE_BY_NUMBER, Level, Scene, State
from hongyan.way.accept import Done, Draft, Idempotency, Outcome
from hongyan.way.snapshot import Key, Snapshot

log = structlog.get_logger()

FALLBACK_S: Final = 5.0  # the first look whether another medium is needed


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A code is on its way."""

    id: uuid.UUID
    status: State
    scene: Scene
    medium: str
    to: str  # masked
    digits: int
    tries_left: int
    sends_left: int
    expires_at: datetime
    resend_at: datetime
    message_id: uuid.UUID | None  # of the text; none where another medium carries it
    reference: str
    left: Mapping[str, int]  # what the limits still let pass after this one, by their names


Heard = Callable[[Started | Refusal], None]


class _Ask:
    """A plan on its way."""

    __slots__ = (
        "code",
        "digits",
        "heard",
        "id",
        "key",
        "left",
        "message_id",
        "plan",
        "resend_at_s",
        "solved",
        "tries",
    )

    id: uuid.UUID
    message_id: MessageId
    code: str
    left: Mapping[str, int]
    resend_at_s: float

    def __init__(
        self, key: Key, made: Plan, solved: Solved | None, heard: "Callable[[_Ask | Refusal], None]"
    ) -> None:
        self.key = key
        self.plan = made
        self.solved = solved
        self.heard = heard
        self.digits = made.digits
        self.tries = made.policy.tries


class Snapshots(Protocol):
    """Who holds the newest snapshot (way.snapshot.Keeper)."""

    @property
    def current(self) -> Snapshot: ...


class Accepts(Protocol):
    """Who takes messages in (way.accept.Acceptor)."""

    def offer(
        self,
        key: Key,
        drafts: Sequence[Draft],
        idempotency: Idempotency | None,
        done: Done,
        ids: Sequence[MessageId] = (),
    ) -> None: ...


class Issuer:
    """One per door. offer() answers by a callback; run() must run beside it."""

    def __init__(
        self,
        database: db.Database,
        snapshots: "Snapshots",
        book: BookKeeper,
        vault: Vault,
        settings: Settings,
        acceptor: "Accepts",
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._book = book
        self._vault = vault
        self._settings = settings
        self._acceptor = acceptor
        self.now_s = now_s
        self._ids = MessageIds()
        self._peppers = Peppers(vault.peppers)
        self.challenges = Challenges(vault)
        self._asks = Gatherer[_Ask]("otp.issue", self._keep)
        self._failing = Gatherer[_Failed]("otp.failed", self._fail)

    async def run(self) -> None:
        """Store what is asked for, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._asks.run())
            group.create_task(self._failing.run())

    # ─── a new one ────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, key: Key, wish: Wish, heard: Heard) -> None:
        """Start a verification; `heard` is called once, after both commits. Raises what the wish is refused for at once."""
        now_s = self.now_s()
        made = self.plan(key, wish, now_s)
        solved = self.challenges.read(wish.challenge, made.bound, now_s) if wish.challenge else None
        self._asks.add(_Ask(key, made, solved, partial(self._kept, heard)))

    def plan(self, key: Key, wish: Wish, now_s: float) -> Plan:
        """Make a plan by what holds just now. Raises Refusal."""
        return plan(
            wish,
            key,
            self._book.current.policies,
            self._snapshots.current,
            self._settings,
            self._vault,
            now_s,
        )

    async def _keep(self, asks: Sequence[_Ask]) -> Sequence[Told]:
        now_s = self.now_s()
        async with self._database.transaction() as tx:
            fresh = await challenge.use(tx, [ask.solved for ask in asks if ask.solved is not None])
            held = await Held.lock(tx, [key for ask in asks for key in ask.plan.keys.all()], now_s)
            wards = await Wards.lock(tx, [ask.plan.ask for ask in asks], now_s)
            told: list[Told] = []
            granted: list[_Ask] = []
            for ask in asks:
                refusal = self.grant(ask.key, ask.plan, ask.solved, fresh, held, wards, now_s)
                if refusal is None:
                    self._draw(ask, held, wards, now_s)
                    granted.append(ask)
                told.append((ask.heard, refusal or ask))
            await held.store(tx, now_s)
            await wards.store(tx)
            if granted:
                await tx.execute(STORE_SQL, [self._row(ask, now_s) for ask in granted])
        return told

    def grant(
        self,
        key: Key,
        made: Plan,
        solved: Solved | None,
        fresh: set[bytes],
        held: Held,
        wards: Wards,
        now_s: float,
    ) -> Refusal | None:
        """Climb the ladder, and count a code that may be sent; returns why it may not."""
        passed = Level.NOTHING
        if solved is not None:
            if solved.token not in fresh:
                return Refusal(Code.VERIFY_CHALLENGE_FAILED, reason="it was used before")
            fresh.discard(solved.token)  # two of one batch may carry the same
            if not solved.right:
                return Refusal(Code.VERIFY_CHALLENGE_FAILED, reason="the answer is wrong")
            passed = solved.level
        rung = ladder.climb(made, key, held, wards, now_s)
        price_micro = made.cleared.price_micro
        if rung.refusal is not None or rung.level > passed:
            if rung.judgement is not None:
                wards.blocked(
                    made.ask,
                    Judgement(rung.level, rung.reasons, rung.judgement.retry_after_s),
                    price_micro,
                    now_s,
                )
            return rung.refusal or self._challenged(made, rung, held, now_s)
        if not key.sandbox:
            wards.sent(made.ask, price_micro, now_s)
        ladder.hit(made, held, now_s)
        return None

    def _challenged(self, made: Plan, rung: ladder.Rung, held: Held, now_s: float) -> Refusal:
        who = made.keys.address or made.keys.device or made.keys.number
        hardness = challenge.doublings(len(held[who].hits))
        return Refusal(
            Code.VERIFY_CHALLENGE_REQUIRED,
            level=rung.level.name.lower(),
            reasons=list(rung.reasons),
            challenge=self.challenges.make(rung.level, made.bound, hardness, now_s),
        )

    def _draw(self, ask: _Ask, held: Held, wards: Wards, now_s: float) -> None:
        made = ask.plan
        if not ask.key.sandbox:
            ask.digits = min(wards.digits_wanted(made.ask, made.digits, now_s), made.digits_max)
            ask.tries = wards.tries_wanted(made.ask, ask.tries, ask.digits)
        ask.id = self._ids.make()
        ask.message_id = self._ids.make()
        ask.code = codes.SANDBOX[: ask.digits] if ask.key.sandbox else codes.make(ask.digits, made.alphabet)
        ask.resend_at_s = now_s + made.policy.wait_s(1)
        ask.left = ladder.left(made, held, now_s)
        held[made.keys.number].last_id = ask.id

    def _row(self, ask: _Ask, now_s: float) -> tuple[object, ...]:
        made, key, tenant_id = ask.plan, ask.key, ask.key.tenant.id
        wish, place = made.wish, made.cleared.place
        version = self._peppers.newest
        return (
            tenant_id,
            db.Uuid(ask.id.bytes),
            key.app_id,
            wish.site_key_id,
            wish.scene.number,
            made.medium,
            key.sandbox,
            made.phone_index,
            self._vault.seal(tenant_id, msgspec.msgpack.encode(made.kept)),
            self._vault.seal(tenant_id, ask.code.encode()),
            self._mac(version, ask.code, made, tenant_id, ask.id),
            version,
            codes.spaces(ask.digits, made.alphabet),
            ask.tries,
            place.country,
            place.operator,
            place.province,
            made.ask.prefix,
            0 if ask.solved is None else int(ask.solved.level),
            made.keys.known,
            wish.reference or None,
            [db.Uuid(ask.message_id.bytes)] if made.medium in media.TEXTS else [],
            clock.moment(now_s),
            clock.moment(now_s + made.policy.validity_s),
            clock.moment(ask.resend_at_s),
            _looked_at(made, now_s),
        )

    def _mac(self, version: int, code: str, made: Plan, tenant_id: int, verification: uuid.UUID) -> bytes:
        return self._peppers.mac(
            version,
            code,
            tenant_id=tenant_id,
            scene=made.wish.scene,
            phone_index=made.phone_index,
            verification=verification,
            bound=codes.binding(made.kept.amount, made.kept.payee),
        )

    def _kept(self, heard: Heard, outcome: "_Ask | Refusal") -> None:
        """Go on once it is stored: have the message accepted."""
        if isinstance(outcome, Refusal):
            heard(outcome)
            return
        ask = outcome
        if ask.plan.medium not in media.TEXTS:  # fallback.py finds it due and sends it
            heard(self._started(ask))
            return
        draft = ask.plan.kept.draft(ask.code, ask.plan.policy, ask.plan.wish.reference)
        self._acceptor.offer(ask.key, (draft,), None, partial(self._sent, ask, heard), (ask.message_id,))

    def _sent(self, ask: _Ask, heard: Heard, outcomes: Sequence[Outcome]) -> None:
        outcome = outcomes[0]
        if isinstance(outcome, Refusal):
            self._failing.add(_Failed(ask.key.tenant.id, ask.id, lambda _: heard(outcome)))
        else:
            heard(self._started(ask))

    def _started(self, ask: _Ask) -> Started:
        made = ask.plan
        now = clock.moment(ask.resend_at_s - made.policy.wait_s(1))
        return Started(
            id=ask.id,
            status=State.PENDING,
            scene=made.wish.scene,
            medium=made.medium,
            to=phone.mask(made.cleared.number.e164),
            digits=ask.digits,
            tries_left=ask.tries,
            sends_left=made.policy.sends - 1,
            expires_at=clock.moment(now.timestamp() + made.policy.validity_s),
            resend_at=clock.moment(ask.resend_at_s),
            message_id=ask.message_id if made.medium in media.TEXTS else None,
            reference=made.wish.reference,
            left=ask.left,
        )

    async def _fail(self, failed: "Sequence[_Failed]") -> Sequence[Told]:
        await self._database.execute(
            FAIL_SQL,
            [one.tenant_id for one in failed],
            [db.Uuid(one.id.bytes) for one in failed],
            clock.moment(self.now_s()),
            State.FAILED.number,
        )
        return [(one.heard, None) for one in failed]

    # ─── the same once more, or no more ───────────────────────────────────────────────────────────────────

    async def resend(self, key: Key, verification: uuid.UUID, again: "Again") -> Started:
        """Send the code of a verification once more (or, by policy, another beside it). Raises Refusal.

        Its life is not prolonged, nor are its tries. It is a send like another to every limit.
        """
        now_s = self.now_s()
        tenant_id = key.tenant.id
        async with self._database.transaction() as tx:
            row = await tx.fetchrow(HELD_SQL, tenant_id, db.Uuid(verification.bytes))
            made = self._again(key, row, again, now_s)
            assert row is not None
            solved = self.challenges.read(again.challenge, made.bound, now_s) if again.challenge else None
            fresh = await challenge.use(tx, [solved] if solved is not None else [])
            held = await Held.lock(tx, made.keys.all(), now_s)
            wards = await Wards.lock(tx, [made.ask], now_s)
            refusal = self.grant(key, made, solved, fresh, held, wards, now_s)
            started = None
            if refusal is None:
                code, started = await self._once_more(tx, key, row, made, now_s)
                started = msgspec.structs.replace(started, left=ladder.left(made, held, now_s))
            await held.store(tx, now_s)
            await wards.store(tx)
        if refusal is not None or started is None:
            raise refusal or Refusal(Code.VERIFY_ENDED)
        draft = made.kept.draft(code, made.policy, row["reference"] or "")
        assert started.message_id is not None
        outcome = await self._accept(key, draft, started.message_id)
        if isinstance(outcome, Refusal):
            raise outcome
        return started

    def _again(self, key: Key, row: "db.Row | None", again: "Again", now_s: float) -> Plan:
        """Make the plan of a verification anew, or raise what stands against sending it again."""
        if row is None or row["app_id"] != key.app_id or row["sandbox"] != key.sandbox:
            raise Refusal(Code.VERIFY_NOT_FOUND)
        if again.site_key_id and row["site_key_id"] != again.site_key_id:
            raise Refusal(Code.VERIFY_NOT_FOUND)
        if row["state"] != State.PENDING.number or row["expires_at"].timestamp() <= now_s:
            state = STATE_BY_NUMBER[row["state"]]
            raise Refusal(Code.VERIFY_ENDED, status=State.EXPIRED if state is State.PENDING else state)
        kept = msgspec.msgpack.decode(self._vault.unseal(key.tenant.id, row["sealed"]), type=Kept)
        wish = Wish(
            to=kept.e164,
            scene=SCENE_BY_NUMBER[row["scene"]],
            language=kept.language,
            template=kept.template,
            signature=kept.signature,
            params=kept.params,
            amount=kept.amount,
            payee=kept.payee,
            email=kept.email,
            medium=again.medium,
            address=again.address,
            device=again.device,
            challenge=again.challenge,
            reference=row["reference"] or "",
            site_key_id=again.site_key_id,
        )
        made = self.plan(key, wish, now_s)
        made = msgspec.structs.replace(made, ask=msgspec.structs.replace(made.ask, again=True))
        if made.medium not in media.TEXTS:
            raise Refusal(
                Code.VERIFY_MEDIUM_DISABLED, medium=made.medium, reason="it is sent again as a text only"
            )
        if row["sends"] >= made.policy.sends:
            raise Refusal(Code.VERIFY_TOO_MANY_SENDS, limit="sends", sends_max=made.policy.sends)
        wait_s = row["resend_at"].timestamp() - now_s
        if wait_s > 0:
            raise Refusal(Code.VERIFY_TOO_MANY_SENDS, retry_after_s=wait_s, limit="resend")
        return made

    async def _once_more(
        self, tx: db.Tx, key: Key, row: db.Row, made: Plan, now_s: float
    ) -> tuple[str, Started]:
        tenant_id, verification = key.tenant.id, uuid.UUID(bytes=row["id"].bytes)
        code = self._vault.unseal(tenant_id, row["code"]).decode()
        mac = mac_before = None
        if made.policy.resend == "new":
            code, mac_before = codes.make(len(code), made.alphabet), row["mac"]
            mac = self._mac(row["pepper"], code, made, tenant_id, verification)
        message_id = self._ids.make()
        sends = row["sends"] + 1
        resend_at = clock.moment(now_s + made.policy.wait_s(sends))
        await tx.execute(
            AGAIN_SQL,
            tenant_id,
            row["id"],
            db.Uuid(message_id.bytes),
            resend_at,
            made.medium,
            mac,
            mac_before,
            self._vault.seal(tenant_id, code.encode()),
            _looked_at(made, now_s),
        )
        return code, Started(
            id=verification,
            status=State.PENDING,
            scene=made.wish.scene,
            medium=made.medium,
            to=phone.mask(made.cleared.number.e164),
            digits=len(code),
            tries_left=row["tries_max"] - row["tries"],
            sends_left=made.policy.sends - sends,
            expires_at=row["expires_at"],
            resend_at=resend_at,
            message_id=message_id,
            reference=row["reference"] or "",
            left={},
        )

    async def _accept(self, key: Key, draft: Draft, message_id: uuid.UUID) -> Outcome:
        heard: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcomes: Sequence[Outcome]) -> None:
            if not heard.done():
                heard.set_result(outcomes[0])

        self._acceptor.offer(key, (draft,), None, done, (MessageId(message_id),))
        async with asyncio.timeout(self._settings.accept_wait_s):
            return await heard


def _looked_at(made: Plan, now_s: float) -> datetime | None:
    """Return when fallback.py is to look at it: at once where a letter carries it, never where one medium is all there is."""
    if made.medium not in media.TEXTS:
        return clock.moment(now_s)
    return clock.moment(now_s + FALLBACK_S) if len(made.policy.media) > 1 else None


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What comes with a wish to send the same code once more."""

    medium: str = ""
    address: str = ""
    device: str = ""
    challenge: str = ""
    site_key_id: int = 0


class _Failed(msgspec.Struct, frozen=True):
    tenant_id: int
    id: uuid.UUID
    heard: Callable[[object], None]


STORE_SQL: LiteralString = """
INSERT INTO verification (tenant_id, id, app_id, site_key_id, scene, medium, sandbox, phone_index, sealed, code, mac, pepper,
                          guess_space, tries_max, country, operator, province, prefix, level, device, reference, message_ids,
                          created_at, expires_at, resend_at, fallback_at)
SELECT * FROM unnest($1::verification_row[])
"""
FAIL_SQL: LiteralString = """
UPDATE verification v SET state = $4, ended_at = $3, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL
  FROM unnest($1::int[], $2::uuid[]) AS n(tenant_id, id) WHERE v.tenant_id = n.tenant_id AND v.id = n.id AND v.state = 0
"""
HELD_SQL: LiteralString = """
SELECT id, app_id, site_key_id, scene, state, sandbox, sealed, code, mac, pepper, tries, tries_max, sends, reference,
       expires_at, resend_at
  FROM verification WHERE tenant_id = $1 AND id = $2 FOR UPDATE
"""
AGAIN_SQL: LiteralString = """
UPDATE verification
   SET message_ids = message_ids || $3::uuid, resend_at = $4, medium = $5, sends = sends + 1,
       mac = coalesce($6, mac), mac_before = coalesce($7, mac_before), code = $8, fallback_at = $9
 WHERE tenant_id = $1 AND id = $2
"""
CANCEL_SQL: LiteralString = """
UPDATE verification SET state = $4, ended_at = $5, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL
 WHERE tenant_id = $1 AND id = $2 AND app_id = $3 AND state = 0 AND expires_at > $5
RETURNING id
"""
STATE_SQL: LiteralString = "SELECT state FROM verification WHERE tenant_id = $1 AND id = $2 AND app_id = $3"


async def cancel(tx: db.Tx, key: Key, verification: uuid.UUID, now_s: float) -> None:
    """End a verification that nobody needs any more; its code is erased. Raises Refusal."""
    wanted = (key.tenant.id, db.Uuid(verification.bytes), key.app_id)
    if await tx.fetchrow(CANCEL_SQL, *wanted, State.CANCELED.number, clock.moment(now_s)) is not None:
        return
    row = await tx.fetchrow(STATE_SQL, *wanted)
    if row is None:
        raise Refusal(Code.VERIFY_NOT_FOUND)
    state = STATE_BY_NUMBER[row["state"]]
    raise Refusal(Code.VERIFY_ENDED, status=State.EXPIRED if state is State.PENDING else state)
