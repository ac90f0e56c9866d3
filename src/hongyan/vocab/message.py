"""What a message is in words: its ids, purposes, statuses, and how parts fold into a message.

Pure and frozen. The numbers are what the database stores; the words are what the API shows.
The order of the final statuses of parts is the order of the fold: the worst part decides.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable
from enum import StrEnum
from random import Random
from typing import Final, NewType

TenantId = NewType("TenantId", int)
AppId = NewType("AppId", int)
ChannelId = NewType("ChannelId", int)
MessageId = NewType("MessageId", uuid.UUID)


class Purpose(StrEnum):
    """What a text is for. Decides guard rules, lanes and hours."""

    OTP = "otp"  # 验证码: a code somebody waits for
    TRANSACTIONAL = "transactional"  # 通知: about something the person did or has
    PROMOTIONAL = "promotional"  # 营销: wants something of the person; quiet hours and opt-outs apply

    @property
    def number(self) -> int:
        return _PURPOSE_NUMBERS[self]


PURPOSES = (Purpose.OTP, Purpose.TRANSACTIONAL, Purpose.PROMOTIONAL)  # index = lane = stored number
_PURPOSE_NUMBERS = {purpose: number for number, purpose in enumerate(PURPOSES)}


class Status(StrEnum):
    """The public words for what became of a message, or of one part."""

    ACCEPTED = "accepted"  # 已受理: stored and promised, not yet handed to an upstream
    HELD = "held"  # 待审: a human decides first
    SUBMITTED = "submitted"  # 已提交: the upstream took every part
    DELIVERED = "delivered"  # 已送达
    UNKNOWN = "unknown"  # 未知: no report within report_wait_s; final, but a late report corrects it
    EXPIRED = "expired"  # 已过期: validity over, at the upstream or (cause not_sent) before submit
    UNDELIVERED = "undelivered"  # 未送达: the upstream or the network says no
    REFUSED = "refused"  # 已拒绝: a rule stopped it after acceptance; it never left
    CANCELLED = "cancelled"  # 已取消: the app took it back in time; it never left

    @property
    def final(self) -> bool:
        return self not in _OPEN

    @property
    def number(self) -> int:
        return _STATUS_NUMBERS[self]


_OPEN = frozenset({Status.ACCEPTED, Status.HELD, Status.SUBMITTED})

# 0 is every open status but held: 'submitted' is not stored, it follows from the queue tables
# (open and no outbox row), which spares one write of the widest row for each message.
STATUS_BY_NUMBER = {
    0: Status.ACCEPTED,
    1: Status.DELIVERED,
    2: Status.UNKNOWN,
    3: Status.EXPIRED,
    4: Status.UNDELIVERED,
    5: Status.REFUSED,
    6: Status.CANCELLED,
    7: Status.HELD,
}
_STATUS_NUMBERS = {status: number for number, status in STATUS_BY_NUMBER.items()} | {Status.SUBMITTED: 0}


def fold(parts: Iterable[Status]) -> Status:
    """Give the status of a message from those of its parts (at least one).

    Once all parts are final: any undelivered, else any expired, else any unknown, else delivered.
    """
    statuses = list(parts)
    if not all(status.final for status in statuses):
        return Status.ACCEPTED if Status.ACCEPTED in statuses else Status.SUBMITTED
    return max(statuses, key=lambda status: status.number)


STEP_BACK: Final = (
    60_000 * 4096
)  # a clock that was set back by a minute or more was wrong, and ids go back with it


class MessageIds:
    """Make UUIDv7 ids (RFC 9562 §5.7), rising within the process, so that a day's rows lie together."""

    __slots__ = ("_bits", "_last", "_make_uuid")

    def __init__(self, make_uuid: Callable[[bytes], uuid.UUID] | None = None) -> None:
        """`make_uuid`: of 16 octets; the driver's (db.Uuid) is built six times faster than the library's."""
        self._make_uuid = make_uuid or (lambda octets: uuid.UUID(int=int.from_bytes(octets)))
        self._last = 0
        # They keep ids of many processes apart and are no secret: a system call for each would cost more than all else.
        self._bits = Random(os.urandom(32)).getrandbits  # noqa: S311

    def make(self) -> MessageId:
        """Return the next id: 48 bit milliseconds, 12 bit counter in the millisecond, 62 random bits."""
        stamp = time.time_ns() * 4096 // 1_000_000  # ms * 4096: the fraction fills rand_a (method 3)
        if stamp <= self._last and self._last - stamp < STEP_BACK:
            stamp = self._last + 1
        self._last = stamp
        random = self._bits(62)
        high = (stamp >> 12 << 16) | 0x7000 | (stamp & 0xFFF)
        return MessageId(self._make_uuid((high << 64 | 0x8000_0000_0000_0000 | random).to_bytes(16)))


def accepted_at_s(message_id: uuid.UUID) -> float:
    """Return when the id was made, in Unix seconds, to the millisecond."""
    return (message_id.int >> 80) / 1000


def first_id_at(at_s: float) -> uuid.UUID:
    """Return the smallest id that can have been made at or after `at_s` (Unix seconds)."""
    return uuid.UUID(int=max(0, int(at_s * 1000)) << 80)
