"""The service without a door: codes asked for and checked at times of the test's, on a real database.

Entry points: asking(); Asking.start(), check(), code(). Nothing carries the messages: they wait in the outbox.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import make
from hongyan import clock, db
from hongyan.otp import ripen
from hongyan.otp.book import Keeper as BookKeeper
from hongyan.otp.check import CheckedCode, Checker, Guess
from hongyan.otp.issue import Issuer, Started
from hongyan.otp.resend import Again, Resender
from hongyan.otp.wish import Wish
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import Purpose
from hongyan.vocab.verification import Scene
from hongyan.way.accept import Acceptor
from hongyan.way.measure import Counters
from hongyan.way.snapshot import Keeper, Key
from make import World

WAIT_S: Final = 20.0
BODY: Final = "您的验证码为${code}，${minutes}分钟内有效"
VARIABLES: Final = '{"code": {"kind": "code"}, "minutes": {"kind": "minutes"}}'

POLICY_SQL: Final = (
    "INSERT INTO verify_policy (tenant_id, scene, policy, changed_by) VALUES ($1, '', $2, 'a test')"
)


class Clock:
    """The time as the test has it, Unix seconds."""

    def __init__(self) -> None:
        self.now_s = float(int(clock.now_s()))

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Asking:
    """What tests hold in their hands."""

    world: World
    key: Key
    book: BookKeeper
    issuer: Issuer
    resender: Resender
    checker: Checker
    clock: Clock

    @property
    def database(self) -> db.Database:
        return self.world.database

    async def start(self, number: str = make.NUMBER, scene: Scene = Scene.LOGIN, **fields: Any) -> Started:
        """Ask for a code. Raises the Refusal."""
        heard = asyncio.get_running_loop().create_future()
        self.issuer.offer(self.key, Wish(to=number, scene=scene, **fields), heard.set_result)
        started: Started = await _granted(heard)
        return started

    async def check(self, verification: uuid.UUID, code: str, **fields: Any) -> CheckedCode:
        heard = asyncio.get_running_loop().create_future()
        self.checker.offer(self.key, Guess(id=verification, code=code, **fields), heard.set_result)
        checked: CheckedCode = await _granted(heard)
        return checked

    async def resend(self, verification: uuid.UUID, **fields: Any) -> Started:
        return await self.resender.resend(self.key, verification, Again(**fields))

    async def row(self, verification: uuid.UUID) -> db.Row:
        (row,) = await self.database.fetch("SELECT * FROM verification WHERE id = $1", verification)
        return row

    async def code(self, verification: uuid.UUID) -> str:
        """Return the code of a verification that is open."""
        row = await self.row(verification)
        return self.world.vault.unseal(self.world.tenant_id, row["code"]).decode()

    async def wrong(self, verification: uuid.UUID) -> str:
        return f"{(int(await self.code(verification)) + 1) % 1_000_000:06d}"

    async def ripen(self, *duties: Any) -> Sequence[int]:
        """Do what the clerk does, once each; returns how many rows each duty took."""
        rows = []
        for duty in duties or (ripen.expire, ripen.count, ripen.take_codes):
            async with self.database.transaction() as tx:
                rows.append(await duty(tx, self.world.vault, self.clock.now_s))
        return rows


async def _granted(heard: "asyncio.Future[Any]") -> Any:
    async with asyncio.timeout(WAIT_S):
        outcome = await heard
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


@contextlib.asynccontextmanager
async def asking(
    dsn: str,
    policy: str = '{"challenge": "never"}',
    variables: str = VARIABLES,
    bodies: Sequence[str] = (BODY,),
) -> AsyncIterator[Asking]:
    """Run issuer and checker for one tenant with templates for codes and a policy (JSON)."""
    async with make.world(dsn) as world:
        async with world.database.transaction() as tx:
            for body in bodies:
                await make.template(
                    tx,
                    tenant_id=world.tenant_id,
                    purpose=Purpose.OTP,
                    body=body,
                    variables=variables,
                    signature_id=world.signature_id,
                )
            await tx.execute(POLICY_SQL, world.tenant_id, policy)
            key_id = await make.app_key(tx, world.vault, app_id=world.app_id)
        keeper, book, moving = Keeper(world.database, world.vault), BookKeeper(world.database), Clock()
        await keeper.load()
        await book.load()
        acceptor = Acceptor(
            world.database,
            keeper,
            world.vault,
            make.SETTINGS,
            Counters(),
            lambda _lane: 0,
            lambda _rows: None,
        )
        issuer = Issuer(world.database, keeper, book, world.vault, make.SETTINGS, acceptor, moving)
        resender = Resender(world.database, issuer, world.vault, make.SETTINGS, acceptor)
        checker = Checker(world.database, world.vault, moving)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(one) for one in (acceptor.run(), issuer.run(), checker.run())]
            try:
                yield Asking(world, keeper.current.keys[key_id], book, issuer, resender, checker, moving)
            finally:
                for loop in loops:
                    loop.cancel()
