"""What is asked of somebody before a code is sent: nothing, a proof of work, a puzzle for people; or a refusal.

Pure over the rows that a batch holds. Entry points: climb(), which says it, and Rung, what it said; toll(), what that costs.
Hard limits, the pumping guard and the number's own failures speak to everybody. Soft limits only to strangers: a number or a
device that was proved lately is met as an acquaintance. A challenge is never the price of a code that was sent already.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from hongyan.otp import limits
from hongyan.otp.challenge import doublings
from hongyan.otp.limits import Held, Said, Window
from hongyan.otp.pumping import Judgement, Wards
from hongyan.otp.wish import Plan
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Level
from hongyan.way.snapshot import Key

KNOWN_S: Final = 30 * 86_400  # how long a number, or a device with it, is known once it was proved


class Rung(msgspec.Struct, frozen=True):
    """What has to be done first, and why; with a refusal it may not be done at all."""

    level: Level
    reasons: tuple[str, ...] = ()
    refusal: Refusal | None = None
    judgement: Judgement | None = None


class Toll(NamedTuple):
    """A challenge that has to be solved first."""

    level: Level
    reasons: tuple[str, ...]
    hardness: int  # how often its work is doubled


def climb(plan: Plan, key: Key, held: Held, wards: Wards, now_s: float) -> Rung:
    """Say what a plan costs whoever asks for it."""
    refusal = _refusal(plan, held, now_s)
    if refusal is not None:
        return Rung(Level.REFUSE, (str(refusal.detail.get("limit", refusal.code.value.name)),), refusal)
    if key.sandbox:  # its messages reach nobody and cost nothing
        return Rung(
            Level.WORK if plan.wish.site_key_id else Level.NOTHING,
            ("site_key",) if plan.wish.site_key_id else (),
        )
    known = is_known(plan, held, now_s)
    ask = msgspec.structs.replace(plan.ask, known=known)
    judgement = wards.judge(ask, plan.policy.pumping, plan.cleared.price_micro, now_s)
    if judgement.level is Level.REFUSE:
        return Rung(Level.REFUSE, judgement.reasons, _suspected(judgement), judgement)
    level: Level = judgement.level
    reasons = list(judgement.reasons)
    for wanted, reason in _softly(plan, held, now_s, known=known):
        level = max(level, wanted)
        reasons.append(reason)
    return Rung(level, tuple(reasons), None, judgement)


def toll(plan: Plan, rung: Rung, held: Held) -> Toll:
    """Return what a rung costs: the more somebody has asked lately, the more work."""
    who = plan.keys.address or plan.keys.device or plan.keys.number
    return Toll(rung.level, rung.reasons, doublings(len(held[who].hits)))


def is_known(plan: Plan, held: Held, now_s: float) -> bool:
    """Say whether this device has proved this number lately; without a device, whether anybody has."""
    row = held[plan.keys.known or plan.keys.failures]
    return now_s - row.proved_at_s < KNOWN_S


def _refusal(plan: Plan, held: Held, now_s: float) -> Refusal | None:
    for _, windows, hits in _asked(plan, held):
        said = limits.asked(hits, windows, now_s)
        if said.level is Level.REFUSE:
            return _too_often(said, held[plan.keys.number].last_id)
    return limits.failed_too_often(held[plan.keys.failures], now_s)


def _asked(plan: Plan, held: Held) -> list[tuple[str, tuple[Window, ...], list[int]]]:
    keys, policy = plan.keys, plan.policy
    asked = [
        ("number", limits.of_number(policy), held[keys.number].hits),
        ("number", limits.EVERYBODYS_NUMBER, held[keys.everywhere].hits),
    ]
    if keys.address is not None:
        asked.append(("address", limits.of_address(policy), held[keys.address].hits))
    if keys.device is not None:
        asked.append(("device", limits.of_device(policy), held[keys.device].hits))
    return asked


def _too_often(said: Said, last_id: object) -> Refusal:
    """Say which limit is reached, and which verification the person may go on with meanwhile."""
    detail: dict[str, object] = {"limit": said.name}
    if last_id is not None and said.name.startswith("number_"):
        detail["verification_id"] = str(last_id)
    return Refusal(Code.VERIFY_TOO_MANY_SENDS, retry_after_s=said.retry_after_s, **detail)


def _softly(plan: Plan, held: Held, now_s: float, *, known: bool) -> list[tuple[Level, str]]:
    """Return what the soft limits ask for, and why."""
    policy, found = plan.policy, []
    if plan.wish.site_key_id:
        found.append((Level.WORK, "site_key"))
    elif policy.challenge == "always":
        found.append((Level.WORK, "policy"))
    if policy.challenge == "never":
        return found
    if not known:
        said = limits.asked(held[plan.keys.number].hits, limits.of_number_softly(policy), now_s)
        if said.level:
            found.append((said.level, said.name))
    for name, windows, hits in _asked(plan, held):
        if name != "number" and not (name == "device" and known):
            said = limits.asked(hits, windows, now_s)
            if said.level:
                found.append((said.level, said.name))
    return found


def _suspected(judgement: Judgement) -> Refusal:
    spent = any(reason.startswith("budget") for reason in judgement.reasons)
    code = Code.VERIFY_BUDGET if spent else Code.VERIFY_SUSPECTED
    return Refusal(code, retry_after_s=judgement.retry_after_s or None, reasons=list(judgement.reasons))


def hit(plan: Plan, held: Held, now_s: float) -> None:
    """Count a code that is sent, by all that asked for it."""
    keys = plan.keys
    for key in (keys.number, keys.everywhere, keys.device):
        if key is not None:
            held[key].hit(now_s)
    if keys.address is not None:
        held[keys.address].hit(now_s, limits.ADDRESS_HITS_MAX)


def left(plan: Plan, held: Held, now_s: float) -> Mapping[str, int]:
    """Return what the limits still let pass, once this one has (hit() comes before)."""
    found: dict[str, int] = {}
    for _, windows, hits in _asked(plan, held):
        found |= limits.left(hits, windows, now_s)
    return found
