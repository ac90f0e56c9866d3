"""Traces led through a real door: HTTP, the issuer, the checker, the clerk's duties and PostgreSQL, at a time of the test's.

Entry point: replay(). Time moves in steps: what is due in one is checked, what has ended is counted, and all that is asked for
in it is asked at once, over some connections. Codes are read where only the platform can: out of the sealed rows.
"""

import contextlib
import heapq
import itertools
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import make
from doors.counter import Line, Reply, Served, basic, line, request, served
from hongyan import clock, db
from hongyan.otp import ripen
from hongyan.vocab.message import Purpose
from make import World
from otp.traces import COUNTRY, PRICE_MICRO, Outcome, Want

LINES: Final = 4
CLERK: Final = (ripen.expire, ripen.count)


class Clock:
    """The time as a trace has it, Unix seconds."""

    def __init__(self) -> None:
        self.start_s = float(int(clock.now_s()))
        self.now_s = self.start_s

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Replayed:
    """What came of a trace."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    alarmed: set[tuple[str, str]] = field(default_factory=set)  # country and prefix that ever were
    refusals: dict[str, int] = field(default_factory=dict)  # by public code


@contextlib.asynccontextmanager
async def counter(
    dsn: str, policy: str = '{"challenge": "never"}', kind: str = "code"
) -> AsyncIterator[tuple[World, Served, str, Clock]]:
    """Serve a door whose tenant sends codes, at a time that is moved by hand."""
    async with make.world(dsn) as world:
        async with world.database.transaction() as tx:
            await tx.execute("UPDATE tenant SET countries = '{*}'")
            await tx.execute("UPDATE balance SET amount_micro = 1000000000000")
            await make.price(tx, country=COUNTRY, part_micro=PRICE_MICRO)
            await make.template(
                tx,
                tenant_id=world.tenant_id,
                purpose=Purpose.OTP,
                body="Your code is ${code}",
                variables=f'{{"code": {{"kind": "{kind}"}}}}',
                signature_id=world.signature_id,
            )
            key_id = await make.app_key(tx, world.vault, app_id=world.app_id)
            # Soft limits of numbers are another guard's; here they would count for this one.
            await tx.execute(
                "INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, '', $2, 'a test')",
                world.tenant_id,
                policy,
            )
        moving = Clock()
        async with served(world) as one:
            await one.door.book.load()
            one.door.issuer.now_s = moving
            one.door.checker._now_s = moving
            yield world, one, key_id, moving


async def replay(
    dsn: str, wants: Iterable[Want], *, step_s: float = 5.0, windows_only: bool = False
) -> Replayed:
    """Lead a trace through a door; honest people who are challenged give up, as the reference counts them."""
    async with counter(dsn) as (world, one, key_id, moving), contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line(one.port)) for _ in range(LINES)]
        trace = _Trace(world, key_id, lines, random.Random(1))
        for number, step in itertools.groupby(wants, key=lambda want: int(want.at_s / step_s)):
            moving.now_s = moving.start_s + number * step_s
            await trace.check(moving.now_s)
            await trace.ripen(moving.now_s, windows_only=windows_only)
            await trace.ask(list(step), moving.now_s)
        return trace.replayed()


class _Trace:
    def __init__(self, world: World, key_id: str, lines: Sequence[Line], chance: random.Random) -> None:
        self._world = world
        self._headers = {"Authorization": basic(key_id)}
        self._lines = lines
        self._chance = chance
        self._checks: list[tuple[float, int, str]] = []
        self._serial = itertools.count()
        self._asked: defaultdict[str, int] = defaultdict(int)
        self._sent: defaultdict[str, int] = defaultdict(int)
        self._found = Replayed()

    async def ask(self, wants: Sequence[Want], now_s: float) -> None:
        bodies = [
            {"to": f"{want.prefix}{self._chance.randrange(10_000):04d}", "scene": "login"} for want in wants
        ]
        replies = await self._exchange([("/v1/verifications", body) for body in bodies])
        for want, reply in zip(wants, replies, strict=True):
            self._asked[want.kind] += 1
            if reply.status != 201:
                self._found.refusals[reply.code] = self._found.refusals.get(reply.code, 0) + 1
                continue
            self._sent[want.kind] += 1
            if want.verified_s is not None:
                due = (now_s + want.verified_s, next(self._serial), reply.json["data"]["id"])
                heapq.heappush(self._checks, due)

    async def check(self, now_s: float) -> None:
        """Have everybody whose time has come give the right code."""
        due = []
        while self._checks and self._checks[0][0] <= now_s:
            due.append(uuid.UUID(heapq.heappop(self._checks)[2]))
        if not due:
            return
        rows = await self._world.database.fetch(
            "SELECT id, tenant_id, code FROM verification WHERE id = ANY($1)", due
        )
        asks = [(f"/v1/verifications/{row['id']}/check", {"code": self._opened(row)}) for row in rows]
        for reply in await self._exchange(asks):
            assert reply.json["data"]["valid"], reply.body

    def _opened(self, row: db.Row) -> str:
        return self._world.vault.unseal(row["tenant_id"], row["code"]).decode()

    async def ripen(self, now_s: float, *, windows_only: bool) -> None:
        """Do what the clerk does. `windows_only`: and forget what the CUSUM has found out."""
        for duty in CLERK:
            rows = ripen.BATCH_MAX
            while rows == ripen.BATCH_MAX:
                async with self._world.database.transaction() as tx:
                    rows = await duty(tx, self._world.vault, now_s)
        if windows_only:
            await self._world.database.execute("UPDATE ward SET turn = 0, evidence = 0 WHERE evidence > 0")
        turned = await self._world.database.fetch("SELECT country, prefix FROM ward WHERE turn > 0")
        self._found.alarmed |= {(row["country"], row["prefix"]) for row in turned}

    async def _exchange(self, asks: Sequence[tuple[str, Mapping[str, object]]]) -> Sequence[Reply]:
        """Ask all at once, a share on each line, and return the answers in order."""
        shares = [asks[place :: len(self._lines)] for place in range(len(self._lines))]
        for each, share in zip(self._lines, shares, strict=True):
            if share:
                await each.write(b"".join(request("POST", path, body, self._headers) for path, body in share))
        replies: list[Reply | None] = [None] * len(asks)
        for place, (each, share) in enumerate(zip(self._lines, shares, strict=True)):
            for turn in range(len(share)):
                replies[place + turn * len(self._lines)] = await each.reply()
        return [reply for reply in replies if reply is not None]

    def replayed(self) -> Replayed:
        for kind, asked in self._asked.items():
            self._found.outcomes[kind] = Outcome(asked, self._sent[kind], asked - self._sent[kind])
        return self._found
