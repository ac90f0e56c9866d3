"""Check codes: each try counted before it is compared, the right one taken once.

Writes: verification. Entry point: Checker.offer().
Checks that wait share one transaction. Their rows are locked and their tries counted in its first statement, so of any
number at once, at any number of doors, only as many are compared as there are tries left; nobody hears anything before the
commit. A check of what never was does the same work, against rows and codes that fit nothing.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Literal, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.gather import Gatherer, Told
from hongyan.otp import codes, limits, meter
from hongyan.otp.codes import Peppers
from hongyan.otp.proof import PROOF_S, Proofs
from hongyan.otp.wish import failures_key
from hongyan.vault import Vault
from hongyan.vocab.errors import Refusal
from hongyan.vocab.verification import SCENE_BY_NUMBER, STATE_BY_NUMBER, Scene, State
from hongyan.way.snapshot import Key

Reason = Literal["wrong", "not_found", "expired", "used", "canceled", "tries", "failed", "guessing"]


class CheckedCode(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a check. `reason` says why it is not valid: for the app's own server, and for no browser."""

    id: uuid.UUID
    valid: bool
    status: State
    scene: Scene | None = None
    tries_left: int = 0
    reason: Reason | None = None
    proof: str = ""  # for the app's own server to redeem, once, within 5 minutes


Heard = Callable[[CheckedCode | Refusal], None]


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """A code that somebody gave, and what he says it was for; what he does not say is not compared."""

    id: uuid.UUID
    code: str
    scene: Scene | None = None
    phone_index: bytes | None = None
    amount: str = ""  # of the scene pay: both have to be as they were asked
    payee: str = ""
    site_key_id: int = 0


class _Ask:
    """A guess on its way."""

    __slots__ = ("guess", "heard", "key")

    def __init__(self, key: Key, guess: Guess, heard: Heard) -> None:
        self.key = key
        self.guess = guess
        self.heard = heard


class _Round:
    """What one batch found out, to be written at its end."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.ended: list[tuple[int, uuid.UUID, State, bytes | None]] = []  # with the hash of a proof
        self.missed: dict[bytes, int] = defaultdict(int)  # by the row that counts a number's failures
        self.expected: dict[int, float] = defaultdict(float)  # hits by chance, by tenant
        self.proved: list[bytes] = []
        self.strict: frozenset[int] = frozenset()  # tenants whose codes are being guessed at


class Checker:
    """One per door. offer() answers by a callback; run() must run beside it."""

    def __init__(self, database: db.Database, vault: Vault, now_s: Callable[[], float] = clock.now_s) -> None:
        self._database = database
        self._vault = vault
        self._now_s = now_s
        self._peppers = Peppers(vault.peppers)
        self.proofs = Proofs(vault)
        self._gatherer = Gatherer[_Ask]("otp.check", self._check)
        self.run = self._gatherer.run

    def offer(self, key: Key, guess: Guess, heard: Heard) -> None:
        """Check a guess; `heard` is called once, after the commit."""
        self._gatherer.add(_Ask(key, guess, heard))

    async def _check(self, asks: Sequence[_Ask]) -> Sequence[Told]:
        now_s = self._now_s()
        by_row: dict[tuple[int, uuid.UUID], list[_Ask]] = defaultdict(list)
        for ask in asks:
            by_row[ask.key.tenant.id, ask.guess.id].append(ask)
        wanted = sorted(by_row, key=lambda each: (each[0], each[1].bytes))
        made = _Round()
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                TRY_SQL,
                [tenant_id for tenant_id, _ in wanted],
                [db.Uuid(verification.bytes) for _, verification in wanted],
                [len(by_row[each]) for each in wanted],
                clock.moment(now_s),
            )
            found = {(row["tenant_id"], uuid.UUID(int=row["id"].int)): row for row in rows}
            made.strict = await meter.strict(tx, sorted({tenant_id for tenant_id, _ in wanted}), now_s)
            for each in wanted:
                self._judge(by_row[each], found.get(each), now_s, made)
            await self._write(tx, made, now_s)
        return made.told

    def _judge(self, asks: Sequence[_Ask], row: "db.Row | None", now_s: float, made: _Round) -> None:
        """Compare what may be compared of the guesses at one verification, in the order they came."""
        left = 0 if row is None or not row["open"] else row["tries_max"] - row["tries"]
        state = State.PENDING
        for ask in asks:
            fits = self._fits(ask, row)
            if row is None or not _is_of(ask, row):
                self._tell(made, ask, row=None)
                self._count_miss(made, ask.key.tenant.id, b"", 1e6)
            elif row["tenant_id"] in made.strict and not row["level"] and not row["sandbox"]:
                self._tell(made, ask, row, _state(row, now_s), left, "guessing")
            elif state is not State.PENDING or left <= 0:
                self._tell(made, ask, row, state if state is not State.PENDING else _state(row, now_s))
            else:
                left -= 1
                if fits:
                    state = State.APPROVED
                    self._approve(made, ask, row, now_s)
                else:
                    state = State.PENDING if left else State.MAX_ATTEMPTS_REACHED
                    self._tell(made, ask, row, state, left, "wrong")
                    self._count_miss(made, row["tenant_id"], row["phone_index"], row["guess_space"])
        if state is State.MAX_ATTEMPTS_REACHED and row is not None:
            made.ended.append((row["tenant_id"], row["id"], state, None))

    def _fits(self, ask: _Ask, row: "db.Row | None") -> bool:
        """Compare a guess with a row's code, and with the one before it. What is not there is compared as well."""
        guess = ask.guess
        version = self._peppers.newest if row is None else row["pepper"]
        scene = guess.scene or (Scene.LOGIN if row is None else SCENE_BY_NUMBER[row["scene"]])
        index = guess.phone_index or (b"" if row is None else row["phone_index"])
        mac = self._peppers.mac(
            version,
            codes.typed(guess.code),
            tenant_id=ask.key.tenant.id,
            scene=scene,
            phone_index=index,
            verification=guess.id,
            bound=codes.binding(guess.amount, guess.payee),
        )
        fits = codes.same(None if row is None else row["mac"], mac)
        return codes.same(None if row is None else row["mac_before"], mac) or fits

    def _approve(self, made: _Round, ask: _Ask, row: db.Row, now_s: float) -> None:
        proof, proof_hash = self.proofs.make(
            ask.guess.id, row["tenant_id"], row["app_id"], SCENE_BY_NUMBER[row["scene"]], now_s
        )
        made.ended.append((row["tenant_id"], row["id"], State.APPROVED, proof_hash))
        made.proved.append(failures_key(self._vault, row["tenant_id"], row["phone_index"]))
        if row["device"] is not None:
            made.proved.append(row["device"])
        outcome = CheckedCode(
            id=ask.guess.id,
            valid=True,
            status=State.APPROVED,
            scene=SCENE_BY_NUMBER[row["scene"]],
            proof=proof,
        )
        made.told.append((ask.heard, outcome))

    def _tell(
        self,
        made: _Round,
        ask: _Ask,
        row: "db.Row | None",
        state: State = State.EXPIRED,
        left: int = 0,
        reason: Reason | None = None,
    ) -> None:
        why: Reason = reason or ("not_found" if row is None else _WHY[state])
        scene = None if row is None else SCENE_BY_NUMBER[row["scene"]]
        outcome = CheckedCode(
            id=ask.guess.id, valid=False, status=state, scene=scene, tries_left=left, reason=why
        )
        made.told.append((ask.heard, outcome))

    def _count_miss(self, made: _Round, tenant_id: int, phone_index: bytes, space: float) -> None:
        """Count a wrong code against its number; one for nobody's costs the same, at a row of its own."""
        made.missed[failures_key(self._vault, tenant_id, phone_index)] += 1
        made.expected[tenant_id] += 1 / space if phone_index else 0.0

    async def _write(self, tx: db.Tx, made: _Round, now_s: float) -> None:
        if made.ended:
            await tx.execute(
                END_SQL,
                [tenant_id for tenant_id, _, _, _ in made.ended],
                [verification for _, verification, _, _ in made.ended],
                [state.number for _, _, state, _ in made.ended],
                [proof for _, _, _, proof in made.ended],
                clock.moment(now_s),
                clock.moment(now_s + PROOF_S),
            )
        await limits.checked(tx, made.missed, made.proved, now_s)
        if made.missed:
            await meter.missed(tx, made.expected, now_s)


_WHY: Final[dict[State, Reason]] = {
    State.PENDING: "tries",
    State.MAX_ATTEMPTS_REACHED: "tries",
    State.APPROVED: "used",
    State.EXPIRED: "expired",
    State.CANCELED: "canceled",
    State.FAILED: "failed",
}


def _is_of(ask: _Ask, row: db.Row) -> bool:
    """Say whether a verification is the caller's: another app's, or another page's, is none at all."""
    site = ask.guess.site_key_id
    own = row["app_id"] == ask.key.app_id and row["sandbox"] == ask.key.sandbox
    return bool(own and (not site or row["site_key_id"] == site))


def _state(row: db.Row, now_s: float) -> State:
    state = STATE_BY_NUMBER[row["state"]]
    if state is State.PENDING and row["expires_at"].timestamp() <= now_s:
        return State.EXPIRED
    return state


# The tries are those before; counted are all that were asked, as far as there are tries left.
TRY_SQL: LiteralString = """
WITH held AS MATERIALIZED (
    SELECT v.tenant_id, v.id, v.app_id, v.site_key_id, v.sandbox, v.scene, v.state, v.phone_index, v.mac, v.mac_before, v.pepper,
           v.guess_space, v.tries, v.tries_max, v.level, v.device, v.expires_at, n.guesses,
           v.state = 0 AND v.expires_at > $4 AND v.tries < v.tries_max AS open
      FROM unnest($1::int[], $2::uuid[], $3::int[]) AS n(tenant_id, id, guesses)
      JOIN verification v ON v.tenant_id = n.tenant_id AND v.id = n.id
     ORDER BY v.tenant_id, v.id FOR UPDATE OF v
), tried AS (
    UPDATE verification v SET tries = least(v.tries_max, v.tries + h.guesses)
      FROM held h WHERE h.open AND v.tenant_id = h.tenant_id AND v.id = h.id
)
SELECT * FROM held
"""
END_SQL: LiteralString = """
UPDATE verification v
   SET state = n.state, ended_at = $5, code = NULL, mac = NULL, mac_before = NULL, fallback_at = NULL,
       proof_hash = n.proof, proof_until = CASE WHEN n.proof IS NULL THEN NULL ELSE $6::timestamptz END
  FROM unnest($1::int[], $2::uuid[], $3::smallint[], $4::bytea[]) AS n(tenant_id, id, state, proof)
 WHERE v.tenant_id = n.tenant_id AND v.id = n.id AND v.state = 0
"""
