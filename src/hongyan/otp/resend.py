"""Send the code of a verification once more, or end it early.

Writes: verification. Entry points: Resender.resend(), cancel(). The way is that of a new code (issue.py): one transaction locks
and asks limits and wards and writes the row, and after its commit a text is offered under an id that the row has already. A
letter (an e-mail, or what else is no text) is only written down as owed; fallback.py finds it due and hands it over.
Order of locks: the verification, then wards, then limits, as everywhere (unasked.py says why).
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import LiteralString, NamedTuple

import msgspec

from hongyan import clock, db
from hongyan.otp import challenge, codes, ladder, media
from hongyan.otp.issue import Accepts, Issuer, Started, looked_at
from hongyan.otp.limits import Held
from hongyan.otp.pumping import Wards
from hongyan.otp.wish import Kept, Plan, Wish
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import MessageId, MessageIds, TenantId
from hongyan.vocab.verification import SCENE_BY_NUMBER, STATE_BY_NUMBER, State
from hongyan.way.accept import Draft, Outcome
from hongyan.way.snapshot import Key


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What comes with a wish to send the same code once more."""

    medium: str = ""  # empty: the first of the policy that reaches the person
    email: str = ""  # where none came before
    address: bytes = b""
    device: str = ""
    challenge: str = ""
    site_key_id: int = 0


class Resender:
    """One per door, beside its Issuer."""

    def __init__(
        self, database: db.Database, issuer: Issuer, vault: Vault, settings: Settings, acceptor: Accepts
    ) -> None:
        self._database = database
        self._issuer = issuer
        self._vault = vault
        self._settings = settings
        self._acceptor = acceptor
        self._ids = MessageIds()

    async def resend(self, key: Key, verification: uuid.UUID, again: Again) -> Started:
        """Send the code of a verification once more (or, by policy, another beside it). Raises Refusal.

        Its life is not prolonged, nor are its tries. It is a send like another to every limit, whatever it goes by.
        """
        now_s = self._issuer.now_s()
        tenant_id = key.tenant.id
        async with self._database.transaction() as tx:
            row = await tx.fetchrow(HELD_SQL, tenant_id, db.Uuid(verification.bytes))
            row = _open(key, row, again, now_s)
            made = self._again(key, row, again, now_s)
            solved = (
                self._issuer.challenges.read(again.challenge, made.bound, now_s) if again.challenge else None
            )
            fresh = await challenge.use(tx, [solved] if solved is not None else [])
            wards = await Wards.lock(tx, [made.ask], now_s)
            held = await Held.lock(tx, [made.keys.everywhere], made.keys.own(), now_s)
            said = self._issuer.grant(key, made, solved, fresh, held, wards, now_s)
            if not isinstance(said, Refusal | ladder.Toll):
                passed = Passed(
                    max(row["level"], 0 if solved is None else int(solved.level)),
                    [*dict.fromkeys((*row["challenge_reasons"], *said))],
                )
                code, started = await self._once_more(tx, key, row, made, passed, now_s)
            await held.store(tx, now_s)
            await wards.store(tx)
        if isinstance(said, Refusal | ladder.Toll):
            raise self._issuer.refusal(made, said, now_s)
        started = msgspec.structs.replace(started, left=ladder.left(made, held, now_s))
        if started.message_id is not None:
            draft = made.kept.draft(code, made.policy, row["reference"] or "")
            outcome = await self._accept(key, draft, started.message_id)
            if isinstance(outcome, Refusal):
                raise outcome
        return started

    def _again(self, key: Key, row: db.Row, again: Again, now_s: float) -> Plan:
        """Make the plan of a verification anew, or raise what stands against sending it again."""
        kept = msgspec.msgpack.decode(self._vault.unseal(key.tenant.id, row["sealed"]), type=Kept)
        if again.email and kept.email and again.email != kept.email:
            raise Refusal(
                Code.REQUEST_INVALID_PARAMETER,
                parameter="email",
                reason="the verification has another address already",
            )
        wish = Wish(
            to=kept.e164,
            scene=SCENE_BY_NUMBER[row["scene"]],
            language=kept.language,
            template=kept.template,
            signature=kept.signature,
            params=kept.params,
            amount=kept.amount,
            payee=kept.payee,
            email=kept.email or again.email,
            medium=again.medium,
            address=again.address,
            device=again.device,
            challenge=again.challenge,
            reference=row["reference"] or "",
            site_key_id=again.site_key_id,
        )
        made = self._issuer.plan(key, wish, now_s)
        made = msgspec.structs.replace(
            made,
            ask=msgspec.structs.replace(made.ask, again=True),
            medium=self._medium(key, made, again),
        )
        if row["sends"] >= made.policy.sends:
            raise Refusal(Code.VERIFY_TOO_MANY_SENDS, limit="sends", sends_max=made.policy.sends)
        wait_s = row["resend_at"].timestamp() - now_s
        if wait_s > 0:
            raise Refusal(Code.VERIFY_TOO_MANY_SENDS, retry_after_s=wait_s, limit="resend")
        return made

    def _medium(self, key: Key, made: Plan, again: Again) -> str:
        """Return by what it goes: what was asked for, else the first of the policy that reaches the person."""
        email = made.wish.email
        wanted = [again.medium] if again.medium else made.policy.media
        faults = [media.fault(kind, email, self._settings, sandbox=key.sandbox) for kind in wanted]
        if None in faults:
            return wanted[faults.index(None)]
        if wanted[0] == media.EMAIL and not email:
            raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="email")
        raise Refusal(Code.VERIFY_MEDIUM_DISABLED, medium=wanted[0], reason=faults[0])

    async def _once_more(
        self, tx: db.Tx, key: Key, row: db.Row, made: Plan, passed: "Passed", now_s: float
    ) -> tuple[str, Started]:
        tenant_id, verification = key.tenant.id, uuid.UUID(bytes=row["id"].bytes)
        code = self._vault.unseal(tenant_id, row["code"]).decode()
        mac = mac_before = None
        if made.policy.resend == "new":
            code, mac_before = codes.make(len(code), made.alphabet), row["mac"]
            mac = self._issuer.mac(row["pepper"], code, made, tenant_id, verification)
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
            looked_at(made, now_s),
            made.medium not in media.TEXTS,
            self._with_address(tenant_id, row, made),
            *passed,
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
            message_id=message_id if made.medium in media.TEXTS else None,
            reference=row["reference"] or "",
            left={},
        )

    def _with_address(self, tenant_id: TenantId, row: db.Row, made: Plan) -> bytes | None:
        """Return what is sealed with the verification from now on; None where it stays as it is."""
        kept = msgspec.msgpack.decode(self._vault.unseal(tenant_id, row["sealed"]), type=Kept)
        if kept.email == made.wish.email:
            return None
        kept = msgspec.structs.replace(kept, email=made.wish.email)
        return self._vault.seal(tenant_id, msgspec.msgpack.encode(kept))

    async def _accept(self, key: Key, draft: Draft, message_id: uuid.UUID) -> Outcome:
        heard: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcomes: Sequence[Outcome]) -> None:
            if not heard.done():
                heard.set_result(outcomes[0])

        self._acceptor.offer(key, (draft,), None, done, (MessageId(message_id),))
        async with asyncio.timeout(self._settings.accept_wait_s):
            return await heard


class Passed(NamedTuple):
    """The hardest challenge that was passed for any send, and why challenges were asked."""

    level: int
    reasons: Sequence[str]


def _open(key: Key, row: "db.Row | None", again: Again, now_s: float) -> db.Row:
    """Return a verification that this caller may have sent once more. Raises Refusal."""
    if row is None or row["app_id"] != key.app_id or row["sandbox"] != key.sandbox:
        raise Refusal(Code.VERIFY_NOT_FOUND)
    if again.site_key_id and row["site_key_id"] != again.site_key_id:
        raise Refusal(Code.VERIFY_NOT_FOUND)
    if row["state"] != State.PENDING.number or row["expires_at"].timestamp() <= now_s:
        state = STATE_BY_NUMBER[row["state"]]
        raise Refusal(Code.VERIFY_ENDED, status=State.EXPIRED if state is State.PENDING else state)
    return row


HELD_SQL: LiteralString = """
SELECT id, app_id, site_key_id, scene, state, sandbox, sealed, code, mac, pepper, tries, tries_max, sends, reference,
       level, challenge_reasons, expires_at, resend_at
  FROM verification WHERE tenant_id = $1 AND id = $2 FOR UPDATE
"""
AGAIN_SQL: LiteralString = """
UPDATE verification
   SET message_ids = message_ids || $3::uuid, resend_at = $4, medium = $5, sends = sends + 1,
       mac = coalesce($6, mac), mac_before = coalesce($7, mac_before), code = $8, fallback_at = $9, owed = $10,
       sealed = coalesce($11, sealed), level = $12, challenge_reasons = $13
 WHERE tenant_id = $1 AND id = $2
"""
CANCEL_SQL: LiteralString = """
UPDATE verification SET state = $5, ended_at = $6, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL
 WHERE tenant_id = $1 AND id = $2 AND app_id = $3 AND sandbox = $4 AND state = 0 AND expires_at > $6
RETURNING id
"""
STATE_SQL: LiteralString = """
SELECT state FROM verification WHERE tenant_id = $1 AND id = $2 AND app_id = $3 AND sandbox = $4
"""


async def cancel(tx: db.Tx, key: Key, verification: uuid.UUID, now_s: float) -> None:
    """End a verification that nobody needs any more; its code is erased. Raises Refusal."""
    wanted = (key.tenant.id, db.Uuid(verification.bytes), key.app_id, key.sandbox)
    if await tx.fetchrow(CANCEL_SQL, *wanted, State.CANCELED.number, clock.moment(now_s)) is not None:
        return
    row = await tx.fetchrow(STATE_SQL, *wanted)
    if row is None:
        raise Refusal(Code.VERIFY_NOT_FOUND)
    state = STATE_BY_NUMBER[row["state"]]
    raise Refusal(Code.VERIFY_ENDED, status=State.EXPIRED if state is State.PENDING else state)
