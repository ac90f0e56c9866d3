"""Try out whether an upstream lets us in with given settings, before or while a channel has them.

Writes nothing. Entry point: attempt(). One session is opened here, in this process, and closed again; the stages it
reached are told with the time each took. What the upstream says meanwhile is not stored and not answered, so it says it
again to a gateway. Surprise: some upstreams allow no second session, and a few end the first one; whoever has a session
already needs no trial.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, Final, cast

import msgspec
from yarl import URL

from hongyan import clock, egress, observe
from hongyan.channels import kinds
from hongyan.channels.channel import Answer, ChannelState, Inbound, Report
from hongyan.channels.posts import Call, Posts
from hongyan.channels.recipes import PLACE
from hongyan.channels.session_config import read_host
from hongyan.channels.session_kind import SessionKind
from hongyan.settings import Settings
from hongyan.vocab.errors import Code, Refusal

WAIT_S: Final = 10.0
CLOSE_WAIT_S: Final = 3.0
AT_ONCE_MAX: Final = 4  # in one process
PDUS_MAX: Final = 20
WORDS_CHARACTERS_MAX: Final = 300


class TrialVerdict(StrEnum):
    """What came of a trial."""

    LOGGED_IN = "logged_in"  # the upstream let us in
    FAILED = "failed"  # it did not; `words` say why
    UNTESTED = "untested"  # nothing of this kind asks only that; `words` say how far we came


class TrialStage(msgspec.Struct, frozen=True):
    """A stage that was reached."""

    stage: str  # resolved, connected, logged_in
    ms: int  # from the one before


class Trial(msgspec.Struct, frozen=True):
    """How far we came, and why no further."""

    verdict: TrialVerdict
    stages: Sequence[TrialStage]
    words: str = ""
    pdus: Sequence[str] = ()  # what was said and heard, masked; → is ours


class _Course:
    """The stages of one trial as they are reached."""

    def __init__(self) -> None:
        self.stages: list[TrialStage] = []
        self._at_s = time.monotonic()

    def reached(self, stage: str, at_s: float | None = None) -> None:
        """Note a stage; `at_s` of the monotonic clock, where it is not now."""
        at_s = time.monotonic() if at_s is None else max(self._at_s, at_s)
        self.stages.append(TrialStage(stage, round((at_s - self._at_s) * 1_000)))
        self._at_s = at_s

    def ended(self, verdict: TrialVerdict, words: str = "", pdus: Sequence[str] = ()) -> Trial:
        return Trial(verdict, self.stages, observe.masked(words)[:WORDS_CHARACTERS_MAX], pdus)


_under_way: Final[list[object]] = []  # trials of this process: many at once would be a way to flood somebody


@contextmanager
def _one_of_few() -> Iterator[None]:
    if len(_under_way) >= AT_ONCE_MAX:
        raise Refusal(Code.SYSTEM_BUSY, retry_after_s=WAIT_S)
    token = object()
    _under_way.append(token)
    try:
        yield
    finally:
        _under_way.remove(token)


async def attempt(
    kind: str, given: Mapping[str, object], settings: Settings, wait_s: float = WAIT_S
) -> Trial:
    """Try settings out, with the first of several hosts, for at most `wait_s` and a moment to log out.

    Raises kinds.BadSettings for settings that do not build, Refusal where too many trials are under way.
    """
    channel = kinds.build(kind, given)
    with _one_of_few():
        if isinstance(channel, Posts):
            return await _ask(kind, given, settings, wait_s)
        if isinstance(channel, SessionKind):
            return await _log_in(kind, given, channel, wait_s)
    return Trial(TrialVerdict.UNTESTED, (), "the sandbox has no upstream")


# ---- sessions


async def _log_in(kind: str, given: Mapping[str, object], built: SessionKind, wait_s: float) -> Trial:
    config = cast("Any", built).config
    host, port = read_host(config.hosts[0], config.port)
    course = _Course()
    try:
        async with asyncio.timeout(wait_s):
            await asyncio.get_running_loop().getaddrinfo(host, port)
    except TimeoutError:
        return course.ended(TrialVerdict.FAILED, f"{host}: no answer about this name within {wait_s:g} s")
    except (OSError, UnicodeError) as error:
        return course.ended(TrialVerdict.FAILED, f"{host}: {error}")
    course.reached("resolved")
    return await _open(kind, given, config, course, wait_s - course.stages[0].ms / 1_000)


async def _open(kind: str, given: Mapping[str, object], config: Any, course: _Course, wait_s: float) -> Trial:
    """Open the channel with one session, which tries once."""
    channel = cast("SessionKind", kinds.build(kind, {**given, **_once(config, wait_s)}))
    channel.tracing(PDUS_MAX)
    heard = _Ear()
    opened_s, opened_at_s = time.monotonic(), clock.now_s()
    channel.resize(1)
    why = ""
    try:
        await channel.open(heard)
        async with asyncio.timeout(max(wait_s, 0.1)):
            await heard.decided.wait()
        why = heard.reason
    except TimeoutError:
        why = channel.state().reason or f"no answer to the login within {wait_s:.0f} s"
    finally:  # also when whoever asked has gone: nobody else would ever log it out
        said = channel.trace()
        with suppress(TimeoutError):  # that it does not let us go is no affair of a trial
            async with asyncio.timeout(CLOSE_WAIT_S):
                await channel.close()
    if said:  # our login leaves as soon as there is a connection
        course.reached("connected", opened_s + said[0].at_s - opened_at_s)
    pdus = [f"{'→' if pdu.sent else '←'} {pdu.text}" for pdu in said]
    if not heard.up_s:
        return course.ended(TrialVerdict.FAILED, why, pdus)
    course.reached("logged_in", heard.up_s)
    return course.ended(TrialVerdict.LOGGED_IN, "", pdus)


def _once(config: Any, wait_s: float) -> Mapping[str, object]:
    """Return the settings that make a channel try one host once, and not listen for connections of the upstream."""
    wait_s = max(wait_s, 0.1)
    once: dict[str, object] = {
        "hosts": [config.hosts[0]],
        "connect_wait_s": min(config.connect_wait_s, wait_s),
        "login_wait_s": min(config.login_wait_s, wait_s),
        "close_wait_s": 1.0,
        "backoff_s": 3_600.0,
        "backoff_s_max": 3_600.0,
    }
    return once | {"listen_host": ""} if hasattr(config, "listen_host") else once


class _Ear:
    """A sink that hears only whether the link comes up. What else comes is dropped unanswered, and so said again."""

    def __init__(self) -> None:
        self.decided = asyncio.Event()
        self.reason = ""
        self.up_s = 0.0

    def changed(self, state: ChannelState) -> None:
        if self.decided.is_set():
            return
        if state.sessions_up:
            self.up_s = time.monotonic()
            self.decided.set()
        elif state.reason:
            self.reason = state.reason
            self.decided.set()

    def answered(self, answers: Sequence[Answer]) -> None:
        """Nothing was submitted."""

    def reported(self, reports: Sequence[Report]) -> None:
        """Not stored, so not answered."""

    def arrived(self, inbound: Sequence[Inbound]) -> None:
        """Not stored, so not answered."""


# ---- HTTP


async def _ask(kind: str, given: Mapping[str, object], settings: Settings, wait_s: float) -> Trial:
    course, private = _Course(), settings.channel_private_addresses
    async with egress.open_egress(settings, private=private) as way_out:
        channel = cast("Posts", kinds.build(kind, given, way_out))
        url = PLACE.sub("x", channel.settings.url)
        refusal = egress.refusal_of_url(url, private=private)
        if refusal:
            return course.ended(TrialVerdict.FAILED, f"url refused: {refusal}")
        proof = channel.proof()
        call = proof or Call(f"{URL(url).origin()}/", {}, method="GET")
        answer = await way_out.request(
            call.method, call.url, timeout_s=wait_s, headers=call.headers, body=call.body
        )
        if isinstance(answer, egress.Failed):
            if answer.left:
                course.reached("connected")
            return course.ended(TrialVerdict.FAILED, answer.reason)
        course.reached("connected")
        if proof is None:
            words = "its host answers; this kind has no call that only tests, so a message must show the rest"
            return course.ended(TrialVerdict.UNTESTED, words)
        why = channel.disproof(answer)
        if why:
            return course.ended(TrialVerdict.FAILED, why)
        course.reached("logged_in")
        return course.ended(TrialVerdict.LOGGED_IN)
