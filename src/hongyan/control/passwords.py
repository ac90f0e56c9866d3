"""Passwords of people: what is one, and its Argon2id hash.

Writes nothing. Entry points: demand_good(), hashed(), is_right(), is_outdated(). Parameters are those of the OWASP
Password Storage Cheat Sheet (Argon2id, 19 MiB, 2 passes, 1 lane): some 30 ms of one core. Two threads do it, so that
people who guess passwords cannot take a machine's memory and cores away from messages.
"""

import asyncio
import functools
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from hongyan.control.bounds import demand

T = TypeVar("T")

CHARACTERS_MIN: Final = 12
CHARACTERS_MAX: Final = 128
LOCAL_PART_MIN: Final = 4  # a shorter one is in too many passwords by chance
REPEATED_MAX: Final = 3  # different characters a password must have more than

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
_THREADS: Final = ThreadPoolExecutor(2, thread_name_prefix="password")

# What people choose who are asked for twelve characters, without digits and signs at the end, which add nothing.
COMMON: Final = frozenset(
    """
    password passwordpassword passw0rd p@ssw0rd p@ssword pa$$word mypassword thepassword password1password
    qwertyuiop qwertyuiopasdfghjkl qwertyqwerty qwerty1qaz asdfghjkl asdfghjklzxcvbnm zxcvbnm 1q2w3e4r5t6y 1q2w3e4r
    1qaz2wsx3edc 1qaz2wsx qazwsxedc qazwsxedcrfv 1qazxsw23edc q1w2e3r4t5y6 qweasdzxc abcdefghijkl abcdefgh abcd1234efgh
    123456789abc 1234567890qw iloveyou iloveyouiloveyou woaini woaini1314 woaini520 wobuzhidao woaiwojia
    administrator admin adminadmin admin123admin welcome welcometo letmein letmeinplease changeme changemenow
    changemeplease default defaultpassword secret topsecret supersecret trustno1 monkey dragon football baseball
    superman princess sunshine shadow master michael jennifer computer internet whatever starwars correcthorsebatterystaple
    hongyan hongyanhongyan hongyanadmin adminhongyan operator operatoroperator testtest testpassword passwordtest
    password123password companyname company qwer1234asdf a1b2c3d4e5f6 aa123456 abc123abc qq123456 5201314 wang1234
    """.split()  # noqa: SIM905 - a list of them would fill two pages
)


def demand_good(password: str, email: str) -> None:
    """Raise Refusal for a password that is short, among the commonest, or contains the e-mail's name.

    Length counts and composition does not (NIST SP 800-63B section 3.1.1.2).
    """
    sound = CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX and "\0" not in password
    demand(sound, "password", f"{CHARACTERS_MIN} to {CHARACTERS_MAX} characters")
    lowered = password.lower()
    demand(len(set(lowered)) > REPEATED_MAX, "password", f"more than {REPEATED_MAX} different characters")
    stems = {lowered, lowered.rstrip("0123456789!@#$%^&*().,?_- ")}
    straight = lowered in "0123456789" * 14 or lowered in "9876543210" * 14
    demand(not straight and not stems & COMMON, "password", "one of the commonest; choose another")
    local = email.partition("@")[0].lower()
    demand(len(local) < LOCAL_PART_MIN or local not in lowered, "password", "it contains the e-mail's name")


async def hashed(password: str) -> str:
    """Return the hash to store."""
    return await _in_thread(functools.partial(_HASHER.hash, _octets(password)))


async def is_right(password: str, stored: str | None) -> bool:
    """Say whether that is the password; with nothing stored, take as long and say no."""
    return await _in_thread(functools.partial(_verify, _octets(password), stored))


def is_outdated(stored: str) -> bool:
    """Say whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored)


def _verify(password: bytes, stored: str | None) -> bool:
    nobodys = _nobodys()  # made in both cases, so that not even the first of a process tells them apart
    try:
        return _HASHER.verify(stored or nobodys, password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


@functools.cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_bytes(16))


def _octets(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
