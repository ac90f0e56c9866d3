"""How strict a tenant is about codes, and what a guesser gains by it: pure values with their bounds.

Entry points: Policy; Bound.of(), which says how likely a guess is; kept_to(), what a template leaves of a policy. policies.py
refuses what is careless. Defaults and bounds are those of the standards: NIST SP 800-63B-4 §3.1.3 (at most 10 minutes, at
least 6 digits, failures that no new code resets) and OWASP ASVS 5.0 §6.5 (single use, at least 20 bits); the figures of
sends are those of the mainland's clouds.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hongyan.otp import codes
from hongyan.otp.pumping import Rules

PER_CODE_MAX: Final = 1e-4  # how likely one code may be guessed
PER_YEAR_MAX: Final = 1e-3  # how likely an account may be lost to somebody who tries all year
DAYS_A_YEAR: Final = 365.25
HOURS_A_YEAR: Final = 8_766
# The number's own counter: after so many wrong codes in a row the next code is late, by 30 s and then twice as long each
# time, up to an hour; after so many in 30 days another factor is asked for.
FREE_FAILURES: Final = 10
WAIT_S: Final = 30.0
WAIT_S_MAX: Final = 3_600.0
FAILURES_MAX: Final = 50
FAILURES_WITHIN_S: Final = 30 * 86_400
EVERYWHERE_DAY: Final = 40  # codes to a number in 24 h, in all scenes and of all tenants


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for the codes of a tenant, in one scene or in all."""

    digits: Annotated[int, Meta(ge=4, le=10, description="Characters of a code")] = 6
    alphabet: Literal["digits", "letters"] = "digits"
    validity_s: Annotated[int, Meta(ge=120, le=600)] = 300
    tries: Annotated[int, Meta(ge=1, le=10, description="Wrong codes before it is no longer looked at")] = 5
    sends: Annotated[int, Meta(ge=1, le=5, description="Of one verification, the first included")] = 5
    resend: Annotated[
        Literal["same", "new"],
        Meta(description="new: at most two codes are alive, with one budget of tries"),
    ] = "same"
    resend_after_s: Annotated[
        tuple[Annotated[int, Meta(ge=30, le=3_600)], ...],
        Meta(min_length=1, max_length=5, description="After the first send, the second …; the last repeats"),
    ] = (60, 120, 300)
    number_minute: Annotated[int, Meta(ge=1, le=5)] = 1
    number_hour: Annotated[int, Meta(ge=1, le=20)] = 5
    number_day: Annotated[int, Meta(ge=1, le=40)] = 10
    number_soft: Annotated[
        int, Meta(ge=0, le=40, description="From this send within 24 h on: a challenge")
    ] = 2
    address_5_minutes: Annotated[int, Meta(ge=1, le=10_000)] = 25
    address_hour: Annotated[int, Meta(ge=1, le=10_000)] = 60
    address_soft_hour: Annotated[int, Meta(ge=0, le=10_000)] = 5
    device_hour: Annotated[int, Meta(ge=1, le=1_000)] = 10
    device_soft_10_minutes: Annotated[int, Meta(ge=0, le=1_000)] = 3
    template: Annotated[str, Meta(max_length=64, description="Empty: the tenant's first one for codes")] = ""
    signature: Annotated[str, Meta(max_length=64)] = ""
    host: Annotated[
        str,
        Meta(
            max_length=253,
            pattern=r"^([a-z0-9.-]+)?$",
            description="For WebOTP, in texts abroad; empty: none",
        ),
    ] = ""
    media: Annotated[
        tuple[Annotated[str, Meta(max_length=32, pattern="^[a-z][a-z_]*$")], ...],
        Meta(min_length=1, max_length=5, description="In order; the next where no report comes in time"),
    ] = ("sms",)
    challenge: Annotated[
        Literal["when_needed", "always", "never"],
        Meta(description="never: soft limits are passed over; hard ones and the pumping guard's stay"),
    ] = "when_needed"
    pumping: Rules = Rules()

    @property
    def characters(self) -> str:
        return codes.DIGITS if self.alphabet == "digits" else codes.LETTERS

    @property
    def at_once(self) -> int:
        """How many codes of a number may be good at the same time, each of a verification of its own."""
        return min(self.number_day, self.number_hour, self.number_minute * math.ceil(self.validity_s / 60))

    def wait_s(self, sends: int) -> int:
        """Return how long after the so-manieth send (from 1) the next may follow."""
        return self.resend_after_s[min(sends, len(self.resend_after_s)) - 1]


class Bound(msgspec.Struct, frozen=True):
    """What a guesser gains by a policy."""

    space: float  # how many codes there are
    per_code: float  # tries × codes alive ÷ space
    guesses_per_year: float  # at one number, by who does nothing else
    per_year: float

    @classmethod
    def of(cls, policy: Policy, digits: int = 0, scenes: int = 1) -> "Bound":
        """Reckon the bounds, of one scene or of so many that all go by the policy. Raises nothing.

        Whoever asks for a code, gives wrong ones until its tries are used, and asks again, is held up in three ways: by the
        limits of sends, by the wait of the number's counter, and by the end after FAILURES_MAX in 30 days. Without
        another factor the last is the tightest: 12.2 times a year at most FAILURES_MAX less one, and the tries of the
        codes then under way, which nobody takes away. The others are kept beside it, for a policy may be tighter by them.
        """
        space = codes.spaces(digits or policy.digits, policy.characters)
        alive = 2 if policy.resend == "new" else 1
        per_code = min(1.0, policy.tries * alive / space)
        guesses = min(yearly(policy, scenes).values())
        return cls(space, per_code, guesses, -math.expm1(guesses * alive * math.log1p(-1 / space)))


def alive_at_once(policy: Policy, scenes: int = 1) -> int:
    """Return how many codes of a number may be good at the same time: each scene has limits of sends of its own."""
    return min(policy.at_once * scenes, EVERYWHERE_DAY)


def yearly(policy: Policy, scenes: int = 1) -> Mapping[str, float]:
    """Return how many guesses a year each of the three lets a guesser have at one number, in so many scenes.

    Sends are limited in each scene and, all together, everywhere; wrong codes are counted over all scenes.
    """
    tries = alive_at_once(policy, scenes) * policy.tries
    return {
        "sends": min(policy.number_day * scenes, EVERYWHERE_DAY) * DAYS_A_YEAR * policy.tries,
        "waits": FREE_FAILURES + HOURS_A_YEAR * 3_600 / WAIT_S_MAX * tries,
        "factor": (FAILURES_MAX - 1 + tries) * DAYS_A_YEAR / 30,
    }


def kept_to(policy: Policy, digits: int, alphabet: Literal["digits", "letters"]) -> Policy | None:
    """Return the policy for a route that takes only so many characters, or only digits, and no more careless than any other.

    Then a resend makes no other code, and there are as many tries as the bounds allow; None where one would be too many.
    """
    kept = msgspec.structs.replace(policy, digits=digits, alphabet=alphabet)
    found = [kept] + [
        msgspec.structs.replace(kept, resend="same", tries=tries) for tries in range(policy.tries, 0, -1)
    ]
    bounds = [(one, Bound.of(one)) for one in found]
    return next(
        (one for one, bound in bounds if bound.per_code <= PER_CODE_MAX and bound.per_year <= PER_YEAR_MAX),
        None,
    )


def failure_wait_s(failures: int) -> float:
    """Return how long after the last wrong code of a number its next code waits."""
    if failures < FREE_FAILURES:
        return 0.0
    return min(WAIT_S * 2.0 ** min(failures - FREE_FAILURES, 10), WAIT_S_MAX)


Policies = Mapping[tuple[int, str], Policy]  # by tenant and scene; "" is every scene


def policy_for(policies: Policies, tenant_id: int, scene: str) -> Policy:
    """Return the scene's own, else the tenant's, else the defaults."""
    return policies.get((tenant_id, scene)) or policies.get((tenant_id, "")) or DEFAULT


DEFAULT: Final = Policy()
