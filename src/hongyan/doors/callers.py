"""Who asks, as a Caller: a program by its app key, or a person by the console's cookie or a token of theirs.

Entry points: is_person(), person(), program(), demand_allowed(), tenant_of(). What a request may reach is said by its
Route alone; here it is asked. Secret of a person's: a cookie named COOKIE, or `Authorization: Bearer hyt_…`.
"""

import re
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec

from hongyan import db
from hongyan.control import sign_ins, tokens
from hongyan.control.permissions import Permission
from hongyan.control.sign_ins import SignedIn
from hongyan.doors.call import INT_MAX, Caller
from hongyan.doors.exchange import Asked
from hongyan.doors.route import Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way.snapshot import Key, Snapshot

COOKIE: Final = sign_ins.COOKIE
TENANT: Final = "tenant_id"  # the query parameter by which people of the platform name a tenant
COOKIE_OCTETS_MAX: Final = 4_096
_SAFE: Final = (b"GET", b"HEAD")
_BEARER: Final = re.compile(rb"bearer +([\x21-\x7e]{1,200})", re.IGNORECASE)


def is_person(asked: Asked) -> bool:
    """Tell whether the credentials are a person's. An Authorization header, where there is one, counts alone."""
    if asked.authorization:
        return asked.authorization[:7].lower() == b"bearer "
    return bool(_cookie(asked))


async def person(database: db.Database, asked: Asked, address: str) -> Caller:
    """Find who is signed in. Raises Refusal.

    A cookie is sent by the browser whoever wrote the page that asks. So what changes something must also say
    Hongyan-Console, a header that a page of another site cannot send without our leave (Fetch standard, CORS preflight).
    """
    bearer = _BEARER.fullmatch(asked.authorization)
    async with database.transaction() as tx:
        if bearer is not None:
            found = await tokens.find(tx, bearer[1].decode(), address)
        elif asked.authorization:
            found = None
        else:
            if asked.method not in _SAFE and not asked.console:
                raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="the header Hongyan-Console is missing")
            found = await sign_ins.find(tx, _cookie(asked), address)
    if found is None:
        raise Refusal(Code.AUTH_SIGN_IN_ENDED)
    return _person(found, changes=asked.method not in _SAFE)


def _person(found: SignedIn, *, changes: bool) -> Caller:
    if changes and not found.tenant_active:
        raise Refusal(Code.ACCOUNT_SUSPENDED)
    return Caller(
        name=f"user:{found.user_id} {found.email}",
        tenant_id=found.tenant_id,
        permissions=found.permissions,
        user_id=found.user_id,
        sign_in_id=found.sign_in_id,
        role=found.role,
    )


def program(key: Key) -> Caller:
    """Return a program's Caller: it may what its key's scopes say."""
    permissions = frozenset(Permission(scope) for scope in key.scopes)
    return Caller(f"key:{key.key_id}", key.tenant.id, permissions, key)


def demand_allowed(route: Route, caller: Caller) -> None:
    """Ask whether a caller may reach a route at all. Raises Refusal."""
    may = {
        Reach.ANYONE: True,
        Reach.SELF: caller.key is None,
        Reach.APP: caller.key is not None,
        Reach.TENANT: True,
        Reach.ANY: True,
        Reach.PLATFORM: caller.key is None and caller.tenant_id is None,
    }[route.reach]
    if not may:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason=_WHO[route.reach])
    if route.permission is not None and not caller.may(route.permission):
        raise Refusal(Code.AUTH_PERMISSION_DENIED, needs=route.permission)


_WHO: Final = {
    Reach.SELF: "for people who are signed in",
    Reach.APP: "for app keys",
    Reach.PLATFORM: "for people of the platform",
}


def tenant_of(
    route: Route, caller: Caller, asked: Asked, snapshot: Snapshot
) -> tuple[TenantId | None, Asked]:
    """Return the tenant a call is about, and the request without the parameter that named it. Raises Refusal.

    People of a tenant are about their own; the parameter is none of theirs and is refused like any unknown one.
    """
    if caller.tenant_id is not None or route.reach not in {Reach.TENANT, Reach.ANY}:
        return caller.tenant_id, asked
    named, rest = _without(asked.query)
    if named is None:
        if route.reach is Reach.TENANT:
            raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter=TENANT, reason="say whose this is about")
        return None, asked
    number = int(named) if named.isascii() and named.isdigit() and len(named) < 11 else 0
    tenant_id = TenantId(number)
    if number > INT_MAX or tenant_id not in snapshot.tenants:
        raise Refusal(Code.REQUEST_NOT_FOUND, tenant_id=named[:40])
    return tenant_id, msgspec.structs.replace(asked, query=rest)


def _without(query: bytes) -> tuple[str | None, bytes]:
    """Take the tenant out of a query; what cannot be read is left for question.py to refuse."""
    if TENANT.encode() not in query:
        return None, query
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        return None, query
    named = [value for name, value in pairs if name == TENANT]
    if len(named) > 1:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=TENANT, reason="given twice")
    rest = urlencode([pair for pair in pairs if pair[0] != TENANT]).encode()
    return (named[0], rest) if named else (None, query)


def _cookie(asked: Asked) -> str:
    if COOKIE.encode() not in asked.cookie or len(asked.cookie) > COOKIE_OCTETS_MAX:
        return ""
    try:
        morsel = SimpleCookie(asked.cookie.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value
