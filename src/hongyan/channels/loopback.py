"""The kind `loopback`: the sandbox's channel. It touches no network and delivers to nobody.

Entry point: Loopback. What happens to a parcel is written in the last two digits of a sandbox number
(vocab.phone.sandbox_outcome); every other number is declined, so a sandbox key can never reach a person.
Surprise: it keeps the contract of a real channel, window and all, so that what works here works there.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from msgspec import Meta

from hongyan import clock
from hongyan.channels.channel import (
    Ack,
    Answer,
    ChannelState,
    Declined,
    Inbound,
    Link,
    Parcel,
    Push,
    Report,
    Sink,
    Unreachable,
    Wording,
)
from hongyan.channels.dialects import Dialect
from hongyan.vocab import phone
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status


class Fate(NamedTuple):
    """What becomes of a parcel; status None = no report ever comes."""

    status: Status | None
    cause: Cause
    code: str
    slow: bool = False
    reply: str = ""  # what the person texts back after delivery


FATES: Final[Mapping[int, Fate]] = {
    0: Fate(Status.DELIVERED, Cause.NONE, "DELIVRD"),
    1: Fate(Status.UNDELIVERED, Cause.INVALID_NUMBER, "MK:0001"),  # 空号
    2: Fate(Status.UNDELIVERED, Cause.SUSPENDED, "MK:0004"),  # 停机
    3: Fate(Status.UNDELIVERED, Cause.ABSENT, "MK:0024"),  # 关机
    4: Fate(Status.UNDELIVERED, Cause.BLACKLISTED, "DB:0141"),  # 黑名单
    5: Fate(Status.UNDELIVERED, Cause.CONTENT_BLOCKED, "ID:0076"),  # 关键字
    6: Fate(Status.EXPIRED, Cause.EXPIRED, "EXPIRED"),
    7: Fate(None, Cause.NO_REPORT, ""),
    8: Fate(Status.DELIVERED, Cause.NONE, "DELIVRD", slow=True),
    9: Fate(Status.DELIVERED, Cause.NONE, "DELIVRD", reply="R"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackConfig:
    """Settings of the sandbox's channel."""

    report_delay_s: Annotated[
        float, Meta(ge=0, le=3600, description="from ack to report; short, so that a first try is no wait")
    ] = 0.2
    slow_delay_s: Annotated[float, Meta(ge=0, le=3600, description="the same for numbers ending in 08")] = (
        30.0
    )
    window_size: Annotated[int, Meta(ge=1, le=10_000, description="parcels unanswered or not yet stored")] = (
        100
    )
    reports_due_max: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="reports waiting for their delay; above it nothing is taken"),
    ] = 10_000


class Loopback:
    """The sandbox (see channel.Channel)."""

    kind: ClassVar[str] = "loopback"
    unit: ClassVar[Literal["message", "part"]] = "part"
    Config: ClassVar[type[Any]] = LoopbackConfig

    def __init__(self, config: LoopbackConfig) -> None:
        self._limits = config
        self._sink: Sink | None = None
        self._taken = 0  # slots of answers not yet stored
        self._due: set[asyncio.TimerHandle] = set()
        # Ids must not repeat after a restart: reports are matched by them.
        self._next_id = int(clock.now_s() * 1_000_000)

    async def open(self, sink: Sink) -> None:
        self._sink = sink
        sink.changed(self.state())

    def resize(self, sessions: int) -> None:
        """Nothing to share: every process has its own sandbox."""

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        return texts.split(text, counting=counting)

    def takes(self, wording: Wording | None) -> bool:  # noqa: ARG002
        return True

    def room(self) -> int:
        if self._sink is None:
            return 0
        limits = self._limits
        return max(0, min(limits.window_size - self._taken, limits.reports_due_max - len(self._due)))

    def submit(self, parcels: Sequence[Parcel]) -> None:
        """Answer each in the next turn of the loop; its report follows after the delay."""
        room = self.room()
        taken, refused = parcels[:room], parcels[room:]
        self._taken += len(taken)
        at_s = clock.now_s()
        answers = [self._answer(parcel, at_s) for parcel in taken]
        answers += [Answer(parcel, Unreachable("no room in the sandbox"), at_s, at_s) for parcel in refused]
        asyncio.get_running_loop().call_soon(self._tell_answers, answers)

    def stored(self, slots: Sequence[Any]) -> None:
        self._taken -= sum(slot is self for slot in slots)

    def learned(self, dialect: str) -> None:
        """Nothing to learn: its ids are one."""

    def dialect_of(self, acked: str, reported: Report) -> str:
        return Dialect.AS_IS.value if acked == reported.upstream_id else ""

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:  # noqa: ARG002
        """Know nothing: the sandbox remembers no parcel."""
        return None

    def state(self) -> ChannelState:
        link = Link.CLOSED if self._sink is None else Link.UP
        sessions_up = 0 if self._sink is None else 1
        window_size = self._limits.window_size
        return ChannelState(link, sessions_up, self._taken, window_size, dialect=Dialect.AS_IS.value)

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:
        raise NotImplementedError("nobody pushes to the sandbox")

    async def close(self) -> None:
        """Forget the reports still due: those messages end as unknown, as with an upstream that went away."""
        sink, self._sink = self._sink, None
        for timer in self._due:
            timer.cancel()
        self._due.clear()
        if sink is not None:
            sink.changed(self.state())

    def _answer(self, parcel: Parcel, at_s: float) -> Answer:
        fate = _fate(parcel.number)
        if fate is None:
            return Answer(parcel, Declined("not_a_sandbox_number", Cause.UNSUPPORTED), at_s, at_s, self)
        self._next_id += 1
        upstream_id = f"{self._next_id:x}"
        if fate.status is not None:
            self._plan(parcel, fate, upstream_id)
        return Answer(parcel, Ack(upstream_id, upstream_id), at_s, at_s, self)

    def _plan(self, parcel: Parcel, fate: Fate, upstream_id: str) -> None:
        delay_s = self._limits.slow_delay_s if fate.slow else self._limits.report_delay_s

        def come() -> None:
            self._due.discard(timer)
            self._report(parcel, fate, upstream_id)

        timer = asyncio.get_running_loop().call_later(delay_s, come)
        self._due.add(timer)

    def _tell_answers(self, answers: Sequence[Answer]) -> None:
        if self._sink is not None:
            self._sink.answered(answers)

    def _report(self, parcel: Parcel, fate: Fate, upstream_id: str) -> None:
        if self._sink is None or fate.status is None:
            return
        at_s = clock.now_s()
        self._sink.reported(
            [Report(upstream_id, fate.status, fate.cause, fate.code, at_s, number=parcel.number)]
        )
        if fate.reply and parcel.part_index == parcel.part_count:
            self._sink.arrived([Inbound(parcel.number, parcel.sender, fate.reply, at_s)])


def _fate(number: str) -> Fate | None:
    """Return the fate of a sandbox number, the good one where its digits ask for none; None for any other."""
    try:
        outcome = phone.sandbox_outcome(phone.parse(number))
    except phone.BadNumber:
        return None
    return None if outcome is None else FATES.get(outcome, FATES[0])
