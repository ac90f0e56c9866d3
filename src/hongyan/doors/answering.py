"""Answer one request of a route: who asks, may they, what they get.

Entry point: answer(). A management route's work stands in one transaction with its record in the audit; after its commit
every process is told to look again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Final

import msgspec

from hongyan.control.configuration import versions
from hongyan.control.permissions import Permission
from hongyan.doors import callers
from hongyan.doors.auth import demand_active
from hongyan.doors.call import Call, Caller
from hongyan.doors.door import ADMIT_WAIT_S, Door
from hongyan.doors.exchange import Answer, Asked, answered
from hongyan.doors.question import read_query
from hongyan.doors.route import Events, File, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

TELL_WAIT_S: Final = 30.0  # a question that takes longer is asked too widely
FILE_WAIT_S: Final = 3_600.0  # a file of a million rows over a slow line
TOPIC: Final = "control"
# Who may do these things may alter the configuration: what a route of theirs leaves behind is kept as a version.
CONFIGURES: Final = frozenset(
    {
        Permission.CHANNELS_WRITE,
        Permission.ROUTES_WRITE,
        Permission.PRICES_WRITE,
        Permission.WORDS_WRITE,
        Permission.TENANTS_WRITE,
        Permission.ALARMS_WRITE,
        Permission.CONFIGURATION_WRITE,
    }
)


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a route that takes none."""


async def answer(
    door: Door,
    route: Route,
    asked: Asked,
    path: Mapping[str, str],
    chunks: AsyncIterator[bytes] | None = None,
) -> Answer | File | Events:
    """Return what a route answers. `chunks`: the body, where the route takes a file. Raises Refusal."""
    if route.answers is not None:
        if asked.query.strip(b"&"):
            await door.key(asked)  # who asks comes before what is asked
            _demand_no_query(route, asked)
        return await _by_callback(door, route, asked)
    caller = await door.caller(asked) if route.reach is not route.reach.ANYONE else None
    tenant_id: TenantId | None = None
    if caller is not None:
        callers.demand_allowed(route, caller)
        tenant_id, asked = await _tenant_of(door, route, caller, asked)
    _demand_no_query(route, asked)
    if route.file:
        _demand_kind(route, asked)
    async with asyncio.timeout(FILE_WAIT_S if route.file else TELL_WAIT_S):
        if route.tells is not None:
            assert caller is not None
            told = await route.tells(door, msgspec.structs.replace(caller, tenant_id=tenant_id), asked, path)
            return answered(asked, told, route.status)
        return await _manage(door, route, asked, path, caller, tenant_id, chunks)


async def _tenant_of(door: Door, route: Route, caller: Caller, asked: Asked) -> tuple[TenantId | None, Asked]:
    """Return the tenant a call is about; one that nobody here has heard of may have been made a moment ago."""
    try:
        return callers.tenant_of(route, caller, asked, door.snapshots.current)
    except Refusal as refusal:
        if refusal.code is not Code.REQUEST_NOT_FOUND:
            raise
    async with asyncio.timeout(TELL_WAIT_S):
        return callers.tenant_of(route, caller, asked, await door.snapshots.load())


def _demand_no_query(route: Route, asked: Asked) -> None:
    """Refuse any parameter where a route takes none. Raises Refusal; where it takes some, it reads them itself."""
    if route.query is None and asked.query:
        read_query(asked.query, _Nothing)


def _demand_kind(route: Route, asked: Asked) -> None:
    """Refuse a file that says of itself that it is another kind. Raises Refusal; what says nothing is looked into."""
    said = asked.content_type.decode("latin-1").partition(";")[0].strip().lower()
    if said and said not in route.file_kinds:
        raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, content_types=list(route.file_kinds))


async def _manage(
    door: Door,
    route: Route,
    asked: Asked,
    path: Mapping[str, str],
    caller: Caller | None,
    tenant_id: TenantId | None,
    chunks: AsyncIterator[bytes] | None,
) -> Answer | File | Events:
    assert route.manages is not None
    if any("\x00" in value for value in path.values()):
        raise Refusal(Code.REQUEST_NOT_FOUND)
    call = Call(door, caller, asked, path, tenant_id, door.gate.address(asked), route.name, chunks)
    if route.own_transactions:
        told = await route.manages(call)
    else:
        async with door.database.transaction() as tx:
            call.within(tx)
            configures = caller if route.method != "GET" and route.permission in CONFIGURES else None
            if configures is not None:
                await versions.begin(tx, door.vault)
            told = await route.manages(call)
            if configures is not None:
                await versions.keep(tx, door.vault, configures.name, route.name)
            if route.method != "GET" and route.recorded:
                await call.record(tx)
    if route.method != "GET" and route.changes:
        await door.database.notify(TOPIC)
    if isinstance(told, File):
        return told
    if isinstance(told, Events):
        assert caller is not None
        still = partial(_demand_still, door, route, asked, caller)
        return msgspec.structs.replace(told, caller=caller.name, demand_still=still)
    given = answered(asked, told, route.status)
    return msgspec.structs.replace(given, cookies=tuple(call.cookies)) if call.cookies else given


async def _demand_still(door: Door, route: Route, asked: Asked, caller: Caller) -> None:
    """Ask whether who was let in would be let in again. Raises Refusal.

    A program's signed request cannot be asked again, its nonce is used; its key is looked up as it is now.
    """
    if caller.key is None:
        now = await door.caller(asked)
    else:
        key = door.snapshots.current.keys.get(caller.key.key_id)
        if key is None:
            raise Refusal(Code.AUTH_KEY_NOT_FOUND)
        demand_active(key)
        now = callers.program(key)
    callers.demand_allowed(route, now)


async def _by_callback(door: Door, route: Route, asked: Asked) -> Answer:
    assert route.answers is not None
    heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def then(given: Answer) -> None:
        if not heard.done():
            heard.set_result(given)

    route.answers(door, asked, then)
    async with asyncio.timeout(ADMIT_WAIT_S + door.settings.accept_wait_s):
        return await heard
