"""A shop whose pages ask with a site key, for tests of what a page may do.

Entry points: opened(); Shop, a page of it in somebody's browser; solved(), which does the work of a challenge.
"""

import base64
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

import make
from doors.counter import Reply, Served, ask, served
from hongyan.control import site_keys
from hongyan.vocab.message import Purpose
from hongyan.vocab.verification import Scene

SHOP: Final = "https://shop.example.com"
BACK: Final = "https://shop.example.com/back?from=code"
BODY: Final = "验证码为:${code},有效期${minutes}分钟"
VARIABLES: Final = '{"code": {"kind": "code"}, "minutes": {"kind": "minutes"}}'
NUMBER: Final = {"number": make.NUMBER, "scene": "login"}


class Shop:
    """A page of the shop, in somebody's browser, at one of two doors."""

    def __init__(self, world: make.World, doors: list[Served], site_key: str) -> None:
        self.world = world
        self.doors = doors
        self.site_key = site_key

    async def ask(
        self,
        deed: str,
        body: Any = b"",
        *,
        origin: str = SHOP,
        site_key: str = "",
        door: int = 0,
        **headers: str,
    ) -> Reply:
        path = f"/v1/widget/{site_key or self.site_key}/{deed}"
        said = {"Origin": origin} if origin else {}
        return await ask(self.doors[door].port, "POST", path, body, said | headers)

    async def challenge(self, body: Mapping[str, Any] = NUMBER) -> Mapping[str, Any]:
        reply = await self.ask("challenge", body)
        assert reply.status == 200, reply.body
        made: Mapping[str, Any] = reply.json["data"]["challenge"]
        return made

    async def start(self, **fields: Any) -> Mapping[str, Any]:
        wish = NUMBER | fields
        asked = await self.challenge({"number": wish["number"], "scene": wish["scene"]})
        reply = await self.ask("start", wish | {"challenge": solved(asked)})
        assert reply.status == 200, reply.body
        started: Mapping[str, Any] = reply.json["data"]
        return started

    async def check(self, verification: str, code: str, **how: Any) -> Mapping[str, Any]:
        reply = await self.ask("check", {"verification": verification, "code": code}, **how)
        assert reply.status == 200, reply.body
        told: Mapping[str, Any] = reply.json["data"]
        return told

    async def code(self, verification: str) -> str:
        row = await self.row(verification)
        return self.world.vault.unseal(self.world.tenant_id, row["code"]).decode()

    async def row(self, verification: str) -> Any:
        id_ = uuid.UUID(verification.partition(".")[0])
        (row,) = await self.world.database.fetch("SELECT * FROM verification WHERE id = $1", id_)
        return row


def solved(made: Mapping[str, Any]) -> str:
    for number in range(made["maxNumber"] + 1):
        if hashlib.sha256(f"{made['salt']}{number}".encode()).hexdigest() == made["challenge"]:
            return base64.b64encode(msgspec.json.encode({**made, "number": number})).decode()
    raise AssertionError("no number solves it")


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


@contextlib.asynccontextmanager
async def opened(world: make.World) -> AsyncIterator[Shop]:
    """Open a shop with two doors, a site key for its pages, and a text for its codes."""
    async with world.database.transaction() as tx:
        signature_id = await make.signature(tx, tenant_id=world.tenant_id)
        await make.template(
            tx, tenant_id=world.tenant_id, body=BODY, purpose=Purpose.OTP, variables=VARIABLES, signature_id=signature_id
        )  # fmt: skip
        made = await site_keys.create(
            tx, world.app_id, name="shop <b>", origins=[SHOP], return_addresses=[BACK],
            scenes=[Scene.LOGIN, Scene.REGISTER],
        )  # fmt: skip
        row = await site_keys.get(tx, world.tenant_id, made)
    async with contextlib.AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(served(world)) for _ in range(2)]
        yield Shop(world, doors, row.key_id)
