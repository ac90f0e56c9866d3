"""A door that manages, and people of every role who are signed in at it.

Entry points: desk(); Desk.ask(), as a role, a key or nobody.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import make
from doors.counter import Reply, Served, ask, basic, served
from hongyan import db
from hongyan.control import one_time
from hongyan.control.permissions import PLATFORM_ROLES, SCOPES, Role
from hongyan.doors.callers import COOKIE
from hongyan.settings import Settings
from hongyan.vocab.message import TenantId
from make import World

FOREIGN: Final = "foreign"  # the owner of another tenant
KEY: Final = "key"  # a program of the tenant with every scope a key may have
NOBODY: Final = "nobody"
Who = Role | str


@dataclass(frozen=True, slots=True)
class Desk:
    """`world` is the tenant; `tokens` are the cookies of its people, the platform's, and FOREIGN's."""

    world: World
    served: Served
    tokens: Mapping[Who, str]
    users: Mapping[Who, int]  # console_user.id
    key_id: str
    foreign_id: TenantId

    @property
    def database(self) -> db.Database:
        return self.world.database

    @property
    def port(self) -> int:
        return self.served.port

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | object = b"",
        *,
        as_: Who = Role.OPERATOR,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask once, as somebody."""
        return await ask(self.port, method, target, body, self.credentials(as_) | dict(headers or {}))

    def credentials(self, who: Who) -> dict[str, str]:
        if who == NOBODY:
            return {}
        if who == KEY:
            return {"Authorization": basic(self.key_id)}
        return {"Cookie": f"{COOKIE}={self.tokens[who]}", "Hongyan-Console": "1"}

    async def fetch(self, sql: Any, *values: Any) -> Any:
        return await self.database.fetch(sql, *values)


@contextlib.asynccontextmanager
async def desk(
    dsn: str, *, settings: Settings = make.SETTINGS, pushes: bool = False, **knobs: Any
) -> AsyncIterator[Desk]:
    """Serve a managing door over a database of one test, with people of every role signed in."""
    async with make.world(dsn) as world:
        async with world.database.transaction() as tx:
            foreign_id = await make.tenant(tx, world.vault)
            key_id = await make.app_key(tx, world.vault, app_id=world.app_id, scopes=sorted(SCOPES))
            tokens: dict[Who, str] = {}
            users: dict[Who, int] = {}
            for who in (*Role, FOREIGN):
                tenant_id = foreign_id if who == FOREIGN else world.tenant_id
                role = Role.OWNER if who == FOREIGN else Role(who)
                users[who] = await _user(tx, f"{who}@example.com", role, tenant_id)
                tokens[who] = await _signed_in(tx, users[who])
        async with served(world, settings=replace(settings, **knobs), pushes=pushes) as one:
            yield Desk(world, one, tokens, users, key_id, foreign_id)


USER_SQL: Final = """
INSERT INTO console_user (tenant_id, email, name, role, password_hash) VALUES ($1, $2, $2, $3, '') RETURNING id
"""
SIGN_IN_SQL: Final = "INSERT INTO sign_in (user_id, token_hash, address) VALUES ($1, $2, '127.0.0.1')"


async def _user(tx: db.Tx, email: str, role: Role, tenant_id: TenantId) -> int:
    of = None if role in PLATFORM_ROLES else tenant_id
    return int(await tx.fetchval(USER_SQL, of, email, role))


async def _signed_in(tx: db.Tx, user_id: int) -> str:
    token = one_time.new_token()
    await tx.execute(SIGN_IN_SQL, user_id, one_time.hash_of(token))
    return token
