"""Tell customers who log in what became of their messages, and what people texted back, until they say that they have it.

Writes nothing itself: owing and assemble do. Entry points: Telling, one a door; wake(), run() and close(). What is owed
stays in its table while the customer is away. A row is leased while a session here has it, deleted once the
customer's system has taken all of it, put off where it says "later", and given back where the session ends first:
then it is told again, so a receipt may come twice, and never not at all.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
import structlog

from hongyan import clock, db
from hongyan.doors.link import Link
from hongyan.doors.protocols import Host
from hongyan.doors.tongues.tongue import ON_FAILURE, ON_SUCCESS, Origin, Receipt, Verdict
from hongyan.vault import Vault
from hongyan.vocab.cause import CAUSES, Cause
from hongyan.vocab.message import STATUS_BY_NUMBER, AppId, Status, accepted_at_s
from hongyan.way import assemble, owing
from hongyan.way.assemble import Failed
from hongyan.way.notice import CORRECTION, INBOUND, InboundEvent, Owed, event_of, origin_of
from hongyan.way.notify import back_off_s
from hongyan.wire.fields import Pdu

log = structlog.get_logger()

LOOK_GAP_S: Final = 1.0  # without a NOTIFY
SETTLE_GAP_S: Final = 0.02
ROUND_MAX: Final = 1_000  # rows of one claim
FAILED_MAX: Final = 100


class _Told(msgspec.Struct):
    """One thing that is owed, under way in as many PDUs as it takes."""

    id: int
    part: bool  # of submit_part; otherwise a notice
    attempt: int
    left: int
    verdict: Verdict = Verdict.TAKEN
    broken: bool = False  # the session ended, or an answer never came


class Telling:
    """Tells what is owed over the sessions of one door."""

    def __init__(self, database: db.Database, vault: Vault, host: Host) -> None:
        self._database = database
        self._vault = vault
        self._host = host
        self._wake = asyncio.Event()
        self._paid: list[int] = []
        self._later: dict[int, float] = {}
        self._back: list[int] = []
        self._parts_paid: list[int] = []
        self._parts_back: list[int] = []
        self._reference = random.getrandbits(8)
        self._settling = asyncio.Lock()

    def wake(self, _payload: str = "") -> None:
        """Look now: something new is owed, or there is room again."""
        self._wake.set()
        self._host.dialling.wake()

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_all())
            tasks.create_task(self._settle_all())

    async def close(self) -> None:
        """Write down what has been heard; sessions are over by now. Raises db.Unavailable."""
        await self._settle()

    async def _tell_all(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_GAP_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if await self._round():
                    self._wake.set()  # there may be more
            except db.Unavailable as error:
                log.warning("telling.database_lost", error=type(error).__name__)
                await asyncio.sleep(LOOK_GAP_S)
            except Exception:
                log.exception("telling.failed")
                await asyncio.sleep(LOOK_GAP_S)
            await asyncio.sleep(SETTLE_GAP_S)  # what comes meanwhile shares the next claim

    async def _round(self) -> bool:
        """Claim as much as the sessions have room for and tell it; returns whether there may be more."""
        links: dict[AppId, list[Link]] = {}
        for link in self._host.links:
            if link.account is not None and link.room > 0:
                link.told = self._heard
                links.setdefault(link.account.key.app_id, []).append(link)
        if not links:
            return False
        share = max(1, ROUND_MAX // len(links))  # so that one great window does not take all of every claim
        rooms = [(app_id, min(share, room)) for app_id, room in _rooms(links)]
        owed = await owing.claim(self._database, rooms, rows_max=ROUND_MAX, floor=0)
        for notice in owed:
            self._tell(notice, links[notice.app_id])
        rooms = [(app_id, min(FAILED_MAX, room)) for app_id, room in _rooms(links)]
        failed = await assemble.failed(self._database, self._vault, rooms)
        for part in failed:
            self._tell_failed(part, links[part.app_id])
        return len(owed) + len(failed) > 0

    def _tell(self, notice: Owed, links: Sequence[Link]) -> None:
        link = max(links, key=lambda link: link.room)
        if link.room <= 0:
            self._back.append(notice.id)
            return
        pdus = _written(notice.id, partial(self._pdus, notice, link))
        self._send(_Told(notice.id, False, notice.attempt, len(pdus)), pdus, link)

    def _tell_failed(self, part: Failed, links: Sequence[Link]) -> None:
        link = max(links, key=lambda link: link.room)
        if link.room <= 0:
            self._parts_back.append(part.id)
            return
        pdus = _written(part.id, partial(_refusals, part, link))
        self._send(_Told(part.id, True, 0, len(pdus)), pdus, link)

    def _send(self, told: _Told, pdus: Sequence[Pdu], link: Link) -> None:
        if not pdus:
            self._finish(told)
        for pdu in pdus:
            if not link.tell(pdu, told):
                self._count(told, Verdict.NEVER)

    def _pdus(self, notice: Owed, link: Link) -> Sequence[Pdu]:
        if notice.kind == INBOUND:
            event = event_of(self._vault, notice)
            assert isinstance(event, InboundEvent)
            self._reference = (self._reference + 1) & 0xFF
            return link.words.texts(event, self._reference) if event.number and event.text is not None else ()
        octets = origin_of(self._vault, notice)
        if not octets:
            return ()  # erased meanwhile, or sent over HTTP by the same app: nobody waits for it here
        origin = msgspec.msgpack.decode(octets, type=Origin)
        status = STATUS_BY_NUMBER[notice.status]
        asked = ON_SUCCESS if status is Status.DELIVERED else ON_FAILURE
        cause = CAUSES[notice.cause] if notice.cause < len(CAUSES) else Cause.UNKNOWN
        began = datetime.fromtimestamp(accepted_at_s(notice.message_id), UTC)
        return [
            link.words.receipt(
                Receipt(i, origin.source, origin.written, status, cause, notice.code, began, notice.at,
                        notice.kind == CORRECTION)
            )
            for i, wanted in zip(origin.ids, origin.wanted, strict=True)
            if wanted & asked
        ]  # fmt: skip

    # ---- what the customers' systems say

    def _heard(self, about: object, verdict: Verdict | None) -> None:
        assert isinstance(about, _Told)
        about.broken |= verdict is None
        self._count(about, verdict or Verdict.LATER)

    def _count(self, told: _Told, verdict: Verdict) -> None:
        told.left -= 1
        if verdict is not Verdict.TAKEN and told.verdict is not Verdict.LATER:
            told.verdict = verdict
        if told.left == 0:
            self._finish(told)

    def _finish(self, told: _Told) -> None:
        if told.verdict is Verdict.NEVER:
            log.info("telling.refused", id=told.id)
        if told.verdict is not Verdict.LATER:
            (self._parts_paid if told.part else self._paid).append(told.id)
        elif told.part:
            if told.broken:
                self._parts_back.append(told.id)  # otherwise "later" is when its lease has run out
        elif told.broken:
            self._back.append(told.id)
        else:
            self._later[told.id] = back_off_s(told.attempt + 1, random.random())  # noqa: S311 - spreads load

    async def _settle_all(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_GAP_S)
            try:
                await self._settle()
            except db.Unavailable as error:
                log.warning("telling.database_lost", error=type(error).__name__)
                await asyncio.sleep(LOOK_GAP_S)
            except Exception:
                log.exception("telling.not_settled")
                await asyncio.sleep(LOOK_GAP_S)

    async def _settle(self) -> None:
        """Write down what has been heard; what fails is tried again, as nothing is taken out before it is written.

        But for what is given back: by the time the database is there again, its lease may be another's.
        """
        async with self._settling:  # the last one, of close(), may find one under way
            await self._write_down()

    async def _write_down(self) -> None:
        if paid := self._paid[:]:
            await owing.forget(self._database, paid)
            del self._paid[: len(paid)]
        if later := dict(self._later):
            await owing.defer(self._database, later)
            for notice_id in later:
                del self._later[notice_id]
        if self._back:
            back, self._back = self._back, []
            await owing.give_back(self._database, back)
        if parts := self._parts_paid[:]:
            await assemble.forget(self._database, parts)
            del self._parts_paid[: len(parts)]
        if self._parts_back:
            parts, self._parts_back = self._parts_back, []
            await assemble.release(self._database, parts)


def _rooms(links: Mapping[AppId, Sequence[Link]]) -> Sequence[tuple[AppId, int]]:
    return [(app_id, sum(max(0, link.room) for link in those)) for app_id, those in links.items()]


def _refusals(part: Failed, link: Link) -> Sequence[Pdu]:
    origin = msgspec.msgpack.decode(part.origin, type=Origin)
    at = datetime.fromtimestamp(clock.now_s(), UTC)
    began = datetime.fromtimestamp(accepted_at_s(part.message_id), UTC)
    return [
        link.words.receipt(
            Receipt(i, origin.source, origin.written, Status.REFUSED, Cause.NOT_SENT, part.code, began, at)
        )
        for i, wanted in zip(origin.ids, origin.wanted, strict=True)
        if wanted & ON_FAILURE
    ]


def _written(owed_id: int, write: Callable[[], Sequence[Pdu]]) -> Sequence[Pdu]:
    try:
        return write()
    except Exception as error:  # noqa: BLE001 - one that cannot be written must not hold up the others
        log.warning("telling.unwritable", id=owed_id, error=type(error).__name__)
        return ()
