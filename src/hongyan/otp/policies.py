"""How strict a tenant has said to be about codes, and the checker that says what a guesser would gain.

Writes: verify_policy. Entry points: read() and put(), for a tenant; weigh(), which judges a proposal whether anybody means it or
not. What is careless is refused and not stored: nobody is to find out by being robbed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, LiteralString

import msgspec
import structlog
from msgspec import Meta

from hongyan import db
from hongyan.otp import named
from hongyan.otp import policy as bounds
from hongyan.otp.policy import DEFAULT, Bound, Policy
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.vocab.verification import Scene

log = structlog.get_logger()

EVERY_SCENE: Final = ""  # as it is stored
SCENES: Final = len(Scene)
FEW_DIGITS: Final = 4
FEW_DIGITS_TRIES_MAX: Final = 3


class Proposal(Policy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy that somebody thinks of, careless ones included: the checker says why it would be refused."""

    digits: Annotated[int, Meta(ge=1, le=64, description="Characters of a code: 4 to 10")] = DEFAULT.digits
    validity_s: Annotated[int, Meta(ge=1, le=86_400, description="120 to 600")] = DEFAULT.validity_s
    tries: Annotated[
        int, Meta(ge=1, le=1_000, description="Wrong codes before it is no longer looked at")
    ] = DEFAULT.tries
    sends: Annotated[int, Meta(ge=1, le=100, description="Of one verification, the first included")] = (
        DEFAULT.sends
    )
    number_day: Annotated[int, Meta(ge=1, le=10_000, description="Codes to a number in 24 h")] = (
        DEFAULT.number_day
    )


class Careless(msgspec.Struct, frozen=True):
    """Something careless: which setting, or which bound, and what is wrong with it."""

    name: str
    reason: str


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody gains who guesses codes of one number and does nothing else."""

    careless: bool
    findings: Sequence[Careless]  # why; empty where it is careful
    codes: float  # how many there are
    per_code: float  # the chance that one code is guessed
    per_code_max: float = bounds.PER_CODE_MAX
    guesses_per_year: float
    per_year: float  # the chance that one of a year's codes is
    per_year_max: float = bounds.PER_YEAR_MAX
    guesses_per_year_all_scenes: float  # where he spreads over all scenes, and each goes by this policy
    per_year_all_scenes: float  # no bound is set to it: what `careless` says is said of one scene
    steps: Sequence[str]  # how both were reckoned, in words


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What holds in a scene; null: in every scene without a word of its own."""

    scene: Scene | None
    said: bool  # somebody decided; otherwise the defaults hold
    policy: Policy
    weighed: Weighed
    changed_by: str | None = None
    changed_at: datetime | None = None


# ---- the checker


def weigh(policy: Policy) -> Weighed:
    """Reckon what a guesser gains by a policy, and say what is careless about it.

    **Per code.** All codes are equally likely, and each try rules out one of them for each code that is alive. With t
    tries, L codes alive (1; 2 where a resend makes a new one) and N codes the chance is at most t·L/N: of disjoint tries
    the chances add up, and for two codes the sum is not below the chance that either is hit.

    **Per year.** After t wrong codes the guesser needs another code, and three things hold him up. Each bounds the
    guesses of a year:

    - *sends*: a number gets n codes in any 24 h, so n·365.25·t guesses. Alone 10 a day are 1.8 % a year at 6 digits.
    - *waits*: after 10 wrong codes in a row the next code waits, 30 s doubling to an hour; then in an hour as many as the
      limits of sends leave alive at once, k, so 10 + 8,766·k·t. The owner's right code begins the row anew: so this
      alone would prove nothing, and never is the smallest where the third holds.
    - *another factor*: after F = 50 wrong codes in any 30 days no code is sent to the number. The last ones may be sent
      at 49: k of them, with t tries each. So at most F - 1 + k·t in 30 days, and (F - 1 + k·t)·365.25/30 in a year.
      Right codes of the owner's take nothing off.

    The smallest of the three, g, counts. Each guess hits with at most L/N, and they are independent of each other from
    code to code, so the year's chance is 1 - (1 - 1/N)^(g·L) ≤ g·L/N. It is that of one scene, as is what it gains: a code
    of one proves nothing in another.

    **Over all scenes.** Who spreads his guesses over all s of them has the limits of sends s times, and the fifty once:
    wrong codes of a number count together. So the same holds with min(s·n, 40) sends and k' = min(s·k, 40) codes alive, 40
    being what a number gets of everybody in 24 h: (F - 1 + k'·t)·365.25/30 at most. By the defaults that is 2.7 times
    a scene's, not six times. It is told, and not judged.
    """
    bound, everywhere = Bound.of(policy), Bound.of(policy, scenes=SCENES)
    findings = [*_out_of_range(policy), *_guessable(policy, bound)]
    return Weighed(
        careless=bool(findings),
        findings=findings,
        codes=bound.space,
        per_code=bound.per_code,
        guesses_per_year=bound.guesses_per_year,
        per_year=bound.per_year,
        guesses_per_year_all_scenes=everywhere.guesses_per_year,
        per_year_all_scenes=everywhere.per_year,
        steps=_steps(policy, bound, everywhere),
    )


# What no policy may say, and why; the bounds of Policy itself are the same.
RANGES: Final[Mapping[str, tuple[int, int, str]]] = {
    "digits": (4, 10, "people mistype longer codes, and shorter ones are guessed"),
    "validity_s": (120, 600, "people need two minutes, and the standards allow ten (NIST SP 800-63B)"),
    "tries": (1, 10, "more tries help nobody who reads the code"),
    "sends": (1, 5, "who has not got five will not get the sixth"),
    "number_day": (1, 40, "40 a day is what a number may get from everybody"),
}


def _out_of_range(policy: Policy) -> list[Careless]:
    return [
        Careless(name, f"{low} to {high}: {why}")
        for name, (low, high, why) in RANGES.items()
        if not low <= getattr(policy, name) <= high
    ]


def _guessable(policy: Policy, bound: Bound) -> list[Careless]:
    found = []
    if policy.digits <= FEW_DIGITS and policy.tries > FEW_DIGITS_TRIES_MAX:
        found.append(
            Careless("tries", f"codes of {FEW_DIGITS} characters take at most {FEW_DIGITS_TRIES_MAX} tries")
        )
    for name, chance, most in (
        ("per_code", bound.per_code, bounds.PER_CODE_MAX),
        ("per_year", bound.per_year, bounds.PER_YEAR_MAX),
    ):
        if chance > most:
            found.append(Careless(name, f"{chance:.1e} is more than {most:.0e}"))
    return found


def _steps(policy: Policy, bound: Bound, everywhere: Bound) -> list[str]:
    alive = 2 if policy.resend == "new" else 1
    guesses = {name: f"{count:,.0f}" for name, count in bounds.yearly(policy).items()}
    at_once, at_once_everywhere = bounds.alive_at_once(policy), bounds.alive_at_once(policy, SCENES)
    sends = min(policy.number_day, bounds.EVERYWHERE_DAY)
    year = f"{everywhere.guesses_per_year:,.0f} guesses, {everywhere.per_year:.1e}"
    return [
        f"per code: {policy.tries} tries × {alive} alive ÷ {bound.space:,.0f} codes = {bound.per_code:.1e}",
        f"a year's guesses, by sends: {sends} a day × {bounds.DAYS_A_YEAR} × {policy.tries} = {guesses['sends']}",
        f"by waits: {bounds.FREE_FAILURES}, then {at_once} codes an hour × {policy.tries} = {guesses['waits']}",
        f"by another factor after {bounds.FAILURES_MAX} in 30 days, with {at_once} codes alive: {guesses['factor']}",
        f"per year: the fewest × {alive} alive ÷ {bound.space:,.0f} = {bound.per_year:.1e}",
        f"a year over all {SCENES} scenes, with {at_once_everywhere} codes alive: {year}",
    ]


# ---- what is said


def _decoded(row: db.Row) -> Policy:
    """Read a stored policy. Settings that this version does not know, or would not take, are as if nobody had said them."""
    said = msgspec.json.decode(row["policy"], type=dict[str, Any])
    try:
        return msgspec.convert(said, Policy)
    except msgspec.ValidationError as error:
        log.warning("policies.unreadable", tenant_id=row["tenant_id"], scene=row["scene"], reason=str(error))
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(Policy)}
    return Policy(**dict(_readable(said, fields)))


def _readable(said: Mapping[str, Any], fields: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    found = []
    for name, value in said.items():
        if name in fields:
            try:
                found.append((name, msgspec.convert(value, fields[name])))
            except msgspec.ValidationError:
                continue
    return found


READ_SQL: LiteralString = """
SELECT tenant_id, scene, policy, changed_by, changed_at FROM verify_policy WHERE tenant_id = $1 ORDER BY scene
"""


async def read(tx: db.Tx, tenant_id: TenantId) -> Sequence[PolicyRow]:
    """Return what holds for a tenant: first for every scene, then for those with a word of their own."""
    rows = [
        PolicyRow(
            scene=Scene(row["scene"]) if row["scene"] else None,
            said=True,
            policy=(policy := _decoded(row)),
            weighed=weigh(policy),
            changed_by=row["changed_by"],
            changed_at=row["changed_at"],
        )
        for row in await tx.fetch(READ_SQL, tenant_id)
    ]
    if not rows or rows[0].scene is not None:
        rows.insert(0, PolicyRow(scene=None, said=False, policy=DEFAULT, weighed=weigh(DEFAULT)))
    return rows


PUT_SQL: LiteralString = """
INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, scene) DO UPDATE
   SET policy = EXCLUDED.policy, changed_by = EXCLUDED.changed_by, changed_at = now()
"""
FORGET_SQL: LiteralString = "DELETE FROM verify_policy WHERE tenant_id = $1 AND scene = $2"


async def put(
    tx: db.Tx,
    tenant_id: TenantId,
    scene: Scene | None,
    proposal: Policy | None,
    *,
    who: str,
    code_media: str = "",
) -> Sequence[PolicyRow]:
    """Say how strict a tenant is from now on; None: as if nobody had said anything.

    `code_media`: the media that were added, as the setting says. Raises Refusal for what is careless, and for what names a
    template, a signature, a medium or a country that is not there.
    """
    where = scene or EVERY_SCENE
    if proposal is None:
        await tx.execute(FORGET_SQL, tenant_id, where)
    else:
        demand_careful(proposal)
        await named.demand_there(tx, tenant_id, scene, proposal, code_media=code_media)
        await tx.execute(PUT_SQL, tenant_id, where, _encoded(proposal), who)
    return await read(tx, tenant_id)


def demand_careful(proposal: Policy) -> None:
    """Raise Refusal (Verify.Careless) that says of each careless setting, and of each bound, what is wrong with it."""
    weighed = weigh(proposal)
    if weighed.careless:
        told: dict[str, Any] = {finding.name: finding.reason for finding in weighed.findings}
        raise Refusal(Code.VERIFY_CARELESS, reason="codes so set could be guessed", **told)


def _encoded(policy: Policy) -> str:
    return msgspec.json.encode(differing(policy)).decode()


def differing(policy: Policy) -> dict[str, Any]:
    """Return what differs from the defaults: they may be made stricter, and then hold for whoever said nothing else."""
    given, standard = msgspec.to_builtins(policy), msgspec.to_builtins(DEFAULT)
    return {name: value for name, value in given.items() if value != standard[name]}
