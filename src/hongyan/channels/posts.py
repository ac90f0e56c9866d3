"""What every HTTP kind shares: how many requests at once, how fast, and what follows from a failure.

Entry point: Posts, the base of the kinds. Writes nothing; every request goes out through egress.py. What kinds
set, and how providers' codes and numbers are read, is in providers.py.

Surprises. A parcel is requested as soon as it is taken, or not taken at all: nothing queues here, and nothing
is ever requested twice. HTTP has no sessions: a session is one share of the window, so that processes can
divide an account by leases. A provider that cannot be reached, refuses our account or has our money used up
is left alone for a back-off; then one parcel tries it out.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from hongyan import clock, egress
from hongyan.channels.channel import (
    Answer,
    ChannelState,
    Declined,
    Link,
    Outcome,
    Parcel,
    Push,
    Report,
    Sink,
    Throttled,
    Unreachable,
    Unsure,
    Wording,
)
from hongyan.channels.dialects import Dialect
from hongyan.channels.pause import DOUBLINGS_MAX, OVERFULL_WAIT_S, TIMER_EARLY_S, Pause
from hongyan.channels.providers import PostSettings
from hongyan.vocab import text as texts

ANSWER_OCTETS_MAX = 1_048_576  # the longest are a hundred pulled reports; what is cut off cannot be read
UNSURE_RUN = 3  # unsure answers in a row, and the provider counts as silent
UNSETTLED_MAX = 5_000  # pulled reports and texts not yet stored, above which we pull no more
PULL_AGAIN_S = 0.2  # after a full pull: there is more
BURST_S = 0.05  # how much of a second's rate may leave at once


class Call(NamedTuple):
    """One request, ready to go."""

    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "POST"  # what sends is never idempotent: egress would repeat a GET by itself


class Posts:
    """The base of an HTTP kind (see channel.Channel).

    A kind adds _put() and _outcomes(), and what it can of takes(), cut(), ask(), read_push(), proof(), _batches(),
    _pull().
    """

    kind: ClassVar[str]
    unit: ClassVar[Literal["message", "part"]] = "message"
    Config: ClassVar[type[Any]]

    def __init__(self, settings: PostSettings, way_out: egress.Egress | None = None) -> None:
        self.settings = settings
        self._egress = way_out
        self._sink: Sink
        self._sessions = settings.sessions
        self._taken = 0  # parcels under way, and those whose answers are not yet stored
        self._unsettled = 0  # pulled reports and texts not yet stored
        self._pulled = object()  # the slot of those
        self._pulling = False  # a pull is under way; it may have taken reports away already
        self._pace = _Pace(settings.messages_per_s * settings.sessions)
        self._pause = Pause(settings.throttle_pause_s, settings.throttle_pause_s_max)
        self._asked_until_s = 0.0  # how long they asked us to wait, within throttle_pause_s_max
        self._pacing = False  # a timer tells when the pace lets something leave again
        self._timers: set[asyncio.TimerHandle] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._stirred = asyncio.Event()
        self._closed = False
        self._down = way_out is None
        self._on_trial = False
        self._failures = 0
        self._unsure_run = 0
        self._reason = "" if way_out is not None else "built without a way out"

    # ---- the channel

    async def open(self, sink: Sink) -> None:
        self._sink = sink
        started = asyncio.Event()
        # The one task without a TaskGroup above it: the channel is its parent, close() awaits it.
        self._keeper = asyncio.create_task(self._keep(started), name=self.kind)
        await started.wait()  # one turn of the loop: _keep() sets it before it waits for anything
        self._changed()

    def resize(self, sessions: int) -> None:
        self._sessions = sessions
        self._pace.rate_per_s = self.settings.messages_per_s * sessions
        if self._keeper is not None and not self._closed:
            self._changed()

    def cut(self, text: str, counting: texts.Counting) -> Sequence[texts.TextPart]:
        """Hand a text over whole: the provider cuts it, or makes it itself. UCS-2, because that loses nothing."""
        return texts.split(text, counting=counting, mode=texts.Split.PAYLOAD, encoding=texts.Encoding.UCS2)

    def takes(self, wording: Wording | None) -> bool:  # noqa: ARG002
        return True

    def room(self) -> int:
        now_s = time.monotonic()
        if self._group is None or self._closed or self._down or self._paused_s(now_s) > 0:
            return 0
        room = min(self._window - self._taken, self._pace.available(now_s))
        if self._on_trial:
            room = min(room, 0 if self._sending else 1)
        return max(0, room)

    def submit(self, parcels: Sequence[Parcel]) -> None:
        room = self.room()
        taken = parcels[:room]
        at_s = clock.now_s()
        answers = [Answer(parcel, self._no_room(), at_s, at_s) for parcel in parcels[room:]]
        for batch in self._batches(taken):
            call = self._put(batch)
            if isinstance(call, Declined):
                answers += [Answer(parcel, call, at_s, at_s) for parcel in batch]
                continue
            assert self._group is not None
            self._taken += len(batch)
            self._pace.take(len(batch))
            task = self._group.create_task(self._send(batch, call))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if answers:  # not from inside submit(): its caller has not yet noted what it handed over
            asyncio.get_running_loop().call_soon(self._sink.answered, answers)
        self._tell_when_paced()

    def stored(self, slots: Sequence[Any]) -> None:
        self._taken -= sum(slot is self for slot in slots)
        self._unsettled -= sum(slot is self._pulled for slot in slots)
        self._stirred.set()

    def learned(self, dialect: str) -> None:
        """Nothing to learn: an id is written one way."""

    def dialect_of(self, acked: str, reported: Report) -> str:
        return Dialect.AS_IS.value if acked == reported.upstream_id else ""

    async def ask(self, upstream_raw: str, number: str, sender: str) -> Report | None:  # noqa: ARG002
        return None

    def state(self) -> ChannelState:
        link = Link.UP
        if self._closed:
            link = Link.CLOSED
        elif self._keeper is None or self._down or not self._sessions:
            link = Link.DOWN
        elif self._paused_s(time.monotonic()) > 0:
            link = Link.THROTTLED
        up = self._sessions if link in (Link.UP, Link.THROTTLED) else 0
        throttled_s = max(0.0, self._paused_s(time.monotonic()))
        dialect = Dialect.AS_IS.value
        return ChannelState(link, up, self._taken, self._window, self._reason, dialect, throttled_s)

    def read_push(self, headers: Mapping[str, str], body: bytes) -> Push:
        raise NotImplementedError(f"nobody pushes to {self.kind}")

    async def close(self) -> None:
        """Take nothing more, wait at most close_wait_s for answers and stores; what is left then is unsure."""
        if self._keeper is None or self._closed:
            return
        self._closed = True
        self._changed()
        deadline_s = time.monotonic() + self.settings.close_wait_s
        if self._sending:
            await asyncio.wait(self._sending, timeout=self.settings.close_wait_s)
        for task in self._sending:
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)
        while self._busy and (left_s := deadline_s - time.monotonic()) > 0:
            await self._stir(left_s)
        for timer in self._timers:
            timer.cancel()
        self._ending.set()
        await self._keeper
        self._group = None
        self._changed()

    # ---- what a kind adds

    def proof(self) -> Call | None:
        """Write a call that sends and changes nothing and that only our account may make; None where there is none."""
        return None

    def disproof(self, answer: egress.Answer) -> str:
        """Say in their words why a proof() was refused; "" if it was not."""
        return "" if answer.status < 300 else f"status {answer.status}"

    def _batches(self, parcels: Sequence[Parcel]) -> Sequence[Sequence[Parcel]]:
        """Say which parcels share a request."""
        return [(parcel,) for parcel in parcels]

    def _put(self, parcels: Sequence[Parcel]) -> Call | Declined:
        """Write the request for a batch, or say why this provider can never be given it."""
        raise NotImplementedError

    def _outcomes(self, parcels: Sequence[Parcel], answer: egress.Answer) -> Sequence[Outcome]:
        """Read the answer to a _put(): one outcome for each parcel."""
        raise NotImplementedError

    @property
    def _pull_gap_s(self) -> float:
        """How often reports are pulled; 0 = never."""
        return 0.0

    async def _pull(self, tell: Callable[[Push], None]) -> bool:  # noqa: ARG002
        """Fetch reports and texts that wait at the provider, and tell each lot once it is here.

        What a provider has given away is in our memory alone until it is told and stored. Returns whether there may
        be more.
        """
        return False

    async def _fetch(self, call: Call) -> egress.Answer | None:
        """Ask something that sends nothing; None where there is no answer."""
        if self._egress is None:
            return None
        answer = await self._request(call)
        return answer if isinstance(answer, egress.Answer) else None

    # ---- requests

    @property
    def _busy(self) -> bool:
        """Whether stores are still due, or a pull."""
        return self._taken > 0 or self._unsettled > 0 or self._pulling

    @property
    def _window(self) -> int:
        return self._sessions * self.settings.window_size

    async def _request(self, call: Call) -> egress.Answer | egress.Failed:
        assert self._egress is not None
        return await self._egress.request(
            call.method,
            call.url,
            timeout_s=self.settings.answer_wait_s,
            headers=call.headers,
            body=call.body,
            answer_octets_max=ANSWER_OCTETS_MAX,
        )

    async def _send(self, parcels: Sequence[Parcel], call: Call) -> None:
        sent_at_s = clock.now_s()
        outcomes: Sequence[Outcome] = [Unsure("closed before it was answered")] * len(parcels)
        try:
            answer = await self._request(call)
            if isinstance(answer, egress.Answer):
                outcomes = self._outcomes(parcels, answer)
                assert len(outcomes) == len(parcels)
            else:
                failed = Unsure(answer.reason) if answer.left else Unreachable(answer.reason)
                outcomes = [failed] * len(parcels)
        except Exception as error:  # noqa: BLE001 - our bug; the other requests go on
            outcomes = [Unsure("a fault of ours")] * len(parcels)
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a request broke by a fault of ours", "exception": error}
            )
        finally:
            self._tell(parcels, outcomes, sent_at_s)

    def _tell(self, parcels: Sequence[Parcel], outcomes: Sequence[Outcome], sent_at_s: float) -> None:
        waits = [self._throttled(one) if isinstance(one, Throttled) else one for one in outcomes]
        at_s = clock.now_s()
        self._sink.answered(
            [
                Answer(parcel, outcome, sent_at_s, at_s, self)
                for parcel, outcome in zip(parcels, waits, strict=True)
            ]
        )
        self._learn_of_link(outcomes)

    def _no_room(self) -> Outcome:
        if self._group is None or self._down or self._closed:
            return Unreachable(self._reason or "not open")
        return Throttled(max(self._paused_s(time.monotonic()), OVERFULL_WAIT_S))

    # ---- the link

    def _changed(self) -> None:
        self._sink.changed(self.state())

    def _throttled(self, outcome: Throttled) -> Throttled:
        """Pause the whole channel, so that the parcels behind keep their order."""
        now_s = time.monotonic()
        self._pause.throttled(now_s)
        asked_s = min(outcome.retry_after_s, self.settings.throttle_pause_s_max)
        self._asked_until_s = max(self._asked_until_s, now_s + asked_s)
        wait_s = self._paused_s(now_s)
        if not self._closed:
            self._later(wait_s, self._changed)
            self._changed()
        return Throttled(round(wait_s, 3), outcome.code)

    def _paused_s(self, now_s: float) -> float:
        """For how long the channel still holds still; 0 or less: it does not."""
        return max(self._pause.remaining_s(now_s), self._asked_until_s - now_s)

    def _learn_of_link(self, outcomes: Sequence[Outcome]) -> None:
        """Rest after what could not leave and after silence; the first parcel after a rest decides."""
        last = outcomes[-1]
        self._unsure_run = self._unsure_run + 1 if isinstance(last, Unsure) else 0
        if isinstance(last, Unreachable) or self._unsure_run >= UNSURE_RUN:
            self._rest(last.reason if isinstance(last, Unreachable | Unsure) else "")
        elif self._on_trial and not isinstance(last, Unsure):
            self._on_trial = False
            self._failures = 0
            self._reason = ""
            self._changed()

    def _rest(self, reason: str) -> None:
        if self._down or self._closed:
            return
        self._down, self._on_trial, self._unsure_run, self._reason = True, False, 0, reason
        doublings = min(self._failures, DOUBLINGS_MAX)
        self._failures += 1
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load and hides nothing
        wait_s = jitter * min(self.settings.backoff_s * float(1 << doublings), self.settings.backoff_s_max)
        self._later(wait_s, self._try_out)
        self._changed()

    def _try_out(self) -> None:
        self._down, self._on_trial = False, True
        self._changed()

    def _tell_when_paced(self) -> None:
        """Let the caller look for room again once the pace gives some: nothing else may happen until then."""
        wait_s = self._pace.wait_s(time.monotonic())
        if wait_s > 0 and not self._pacing and not self._closed and self._group is not None:
            self._pacing = True
            self._later(wait_s, self._paced)

    def _paced(self) -> None:
        self._pacing = False
        self._changed()
        self._tell_when_paced()  # the rate may be another by now

    def _later(self, wait_s: float, deed: Callable[[], None]) -> None:
        def come() -> None:
            self._timers.discard(timer)
            deed()

        timer = asyncio.get_running_loop().call_later(wait_s + TIMER_EARLY_S, come)
        self._timers.add(timer)

    # ---- tasks

    async def _keep(self, started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as self._group:
            pulling = self._group.create_task(self._pull_again_and_again())
            started.set()
            await self._ending.wait()  # the channel's whole life, so without a deadline
            pulling.cancel()

    async def _pull_again_and_again(self) -> None:
        gap_s = self._pull_gap_s
        while gap_s and self._egress is not None:
            more = False
            if self._sessions and not self._closed and self._unsettled < UNSETTLED_MAX:
                more = await self._pull_once()
            await asyncio.sleep(min(gap_s, PULL_AGAIN_S) if more else gap_s)

    async def _pull_once(self) -> bool:
        """Pull; True if there may be more."""
        self._pulling = True
        try:
            return await self._pull(self._tell_pulled)
        except Exception as error:  # noqa: BLE001 - our bug; the next pull goes on
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a pull broke by a fault of ours", "exception": error}
            )
            return False
        finally:
            self._pulling = False
            self._stirred.set()

    def _tell_pulled(self, push: Push) -> None:
        self._unsettled += len(push.reports) + len(push.inbound)
        if push.reports:
            self._sink.reported([msgspec.structs.replace(one, slot=self._pulled) for one in push.reports])
        if push.inbound:
            self._sink.arrived([msgspec.structs.replace(one, slot=self._pulled) for one in push.inbound])

    async def _stir(self, wait_s: float) -> None:
        """Wait until something was stored, at most wait_s."""
        self._stirred.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._stirred.wait()
        except TimeoutError:
            return


class _Pace:
    """A token bucket in messages. Rate 0 is no limit."""

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self._tokens = self._burst
        self._at_s = time.monotonic()

    @property
    def _burst(self) -> float:
        return max(1.0, self.rate_per_s * BURST_S)

    def available(self, now_s: float) -> int:
        if not self.rate_per_s:
            return 1_000_000
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self.rate_per_s)
        self._at_s = now_s
        return int(self._tokens + 1e-9)

    def wait_s(self, now_s: float) -> float:
        """Return how long until one message may leave; 0: it may now."""
        if self.available(now_s) > 0:
            return 0.0
        return (1.0 - self._tokens) / self.rate_per_s

    def take(self, messages: int) -> None:
        self._tokens -= messages
