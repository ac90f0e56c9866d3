"""Make codes and have them sent, for as long as nobody abuses it.

Writes: verification. Entry point: Issuer.offer(). What sends a code once more, or ends it early, is in resend.py.
What waits shares one transaction: wards and limits are locked, asked and written, and the verifications stored. Its commit
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
from hongyan.otp.wish import Plan, Wish, plan
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds
from hongyan.vocab.verification import Level, Scene, State
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
Refused = Refusal | ladder.Toll


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
        "reasons",
        "resend_at_s",
        "solved",
        "tries",
    )

    id: uuid.UUID
    message_id: MessageId
    code: str
    left: Mapping[str, int]
    reasons: Sequence[str]
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
            wards = await Wards.lock(tx, [ask.plan.ask for ask in asks], now_s)
            held = await Held.lock(
                tx,
                [ask.plan.keys.everywhere for ask in asks],
                [key for ask in asks for key in ask.plan.keys.own()],
                now_s,
            )
            granted: list[_Ask] = []
            refused: list[tuple[_Ask, Refused]] = []
            for ask in asks:
                said = self.grant(ask.key, ask.plan, ask.solved, fresh, held, wards, now_s)
                if isinstance(said, Refusal | ladder.Toll):
                    refused.append((ask, said))
                    continue
                ask.reasons = said
                self._draw(ask, held, wards, now_s)
                granted.append(ask)
            await held.store(tx, now_s)
            await wards.store(tx)
            if granted:
                await tx.execute(STORE_SQL, [self._row(ask, now_s) for ask in granted])
        told: list[Told] = [(ask.heard, ask) for ask in granted]
        return told + [(ask.heard, self.refusal(ask.plan, said, now_s)) for ask, said in refused]

    def grant(
        self,
        key: Key,
        made: Plan,
        solved: Solved | None,
        fresh: set[bytes],
        held: Held,
        wards: Wards,
        now_s: float,
    ) -> "Refused | Sequence[str]":
        """Climb the ladder, and count a code that may be sent; returns why it may not, or why it took the challenge passed."""
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
            return rung.refusal or ladder.toll(made, rung, held)
        if not key.sandbox:
            wards.sent(made.ask, price_micro, now_s)
        ladder.hit(made, held, now_s)
        return rung.reasons if rung.level and passed else ()

    def refusal(self, made: Plan, refused: "Refused", now_s: float) -> Refusal:
        """Say no. A challenge is made here, when no locks are held any more: a puzzle takes 3 ms to draw."""
        if isinstance(refused, Refusal):
            return refused
        return Refusal(
            Code.VERIFY_CHALLENGE_REQUIRED,
            level=refused.level.name.lower(),
            reasons=list(refused.reasons),
            challenge=self.challenges.make(refused.level, made.bound, refused.hardness, now_s),
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
            self.mac(version, ask.code, made, tenant_id, ask.id),
            version,
            codes.spaces(ask.digits, made.alphabet),
            ask.tries,
            place.country,
            place.operator,
            place.province,
            made.ask.prefix,
            0 if ask.solved is None else int(ask.solved.level),
            ask.reasons,
            made.keys.known,
            wish.reference or None,
            [db.Uuid(ask.message_id.bytes)] if made.medium in media.TEXTS else [],
            clock.moment(now_s),
            clock.moment(now_s + made.policy.validity_s),
            clock.moment(ask.resend_at_s),
            looked_at(made, now_s),
        )

    def mac(self, version: int, code: str, made: Plan, tenant_id: int, verification: uuid.UUID) -> bytes:
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


def looked_at(made: Plan, now_s: float) -> datetime | None:
    """Return when fallback.py is to look at it: at once where a letter carries it, never where one medium is all there is."""
    if made.medium not in media.TEXTS:
        return clock.moment(now_s)
    return clock.moment(now_s + FALLBACK_S) if len(made.policy.media) > 1 else None


class _Failed(msgspec.Struct, frozen=True):
    tenant_id: int
    id: uuid.UUID
    heard: Callable[[object], None]


STORE_SQL: LiteralString = """
INSERT INTO verification (tenant_id, id, app_id, site_key_id, scene, medium, sandbox, phone_index, sealed, code, mac, pepper,
                          guess_space, tries_max, country, operator, province, prefix, level, challenge_reasons, device, reference,
                          message_ids, created_at, expires_at, resend_at, fallback_at)
SELECT * FROM unnest($1::verification_row_2[])
"""
FAIL_SQL: LiteralString = """
UPDATE verification v SET state = $4, ended_at = $3, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL
  FROM unnest($1::int[], $2::uuid[]) AS n(tenant_id, id) WHERE v.tenant_id = n.tenant_id AND v.id = n.id AND v.state = 0
"""
