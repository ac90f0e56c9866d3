"""Signing in and out, and what people of the console do for themselves: password, authenticator, tokens."""

import ipaddress
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan import db
from hongyan.control import attempts, audit, authenticators, people, sign_ins, tokens, users
from hongyan.control.passwords import CHARACTERS_MAX
from hongyan.control.permissions import GRANTED, PLATFORM_ROLES, Permission
from hongyan.control.sign_ins import Opened, SignInRow
from hongyan.control.tokens import TokenRow
from hongyan.control.users import UserRow
from hongyan.doors.call import Call
from hongyan.doors.management.users import Email, Name, NewPassword, Revoked, SignedOut, record_as
from hongyan.doors.route import BODY, Reach, Route
from hongyan.vocab.errors import Code, Refusal

Password = Annotated[str, Meta(min_length=1, max_length=CHARACTERS_MAX)]
OneTimeCode = Annotated[
    str, Meta(min_length=6, max_length=32, description="Of the authenticator, or a recovery code.")
]


class AskedSignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants in."""

    email: Email
    password: Password
    totp: OneTimeCode | None = None


class AskedMe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one is called."""

    name: Name


class AskedPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password, and the present one as a proof."""

    password: Password
    new_password: NewPassword


class AskedProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password again, for what a thief of the browser must not do."""

    password: Password


class AskedCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the authenticator shows."""

    code: Annotated[str, Meta(pattern="^[0-9]{6}$")]


class AskedRemoval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both proofs, to do without the second."""

    password: Password
    code: OneTimeCode


class AskedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token for an own program."""

    name: Name
    scopes: Annotated[list[Permission], Meta(min_length=1, max_length=len(Permission))]
    valid_s: Annotated[int, Meta(ge=60, le=tokens.VALID_S_MAX)] = 90 * 86_400
    addresses: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=64)]],
        Meta(
            max_length=tokens.ADDRESSES_MAX, description="Addresses or networks that may use it; none: all."
        ),
    ] = []


class Me(msgspec.Struct, frozen=True):
    """Who is signed in, and what that person may."""

    user: UserRow
    permissions: list[Permission]
    totp_recommended: bool  # people of the platform without an authenticator
    recovery_codes_left: int


class SignInList(msgspec.Struct, frozen=True):
    items: list[SignInRow]


class Enrolled(msgspec.Struct, frozen=True):
    """What an authenticator is told. Shown once; asked for only after it was confirmed."""

    secret: str
    uri: str


class Confirmed(msgspec.Struct, frozen=True):
    """Codes for the day the authenticator is lost, each good once. Shown once."""

    recovery_codes: list[str]


class TokenList(msgspec.Struct, frozen=True):
    items: list[TokenRow]


class TokenMade(msgspec.Struct, frozen=True):
    """A token, which is never shown again."""

    id: int
    token: str
    expires_at: datetime


# ---- in and out


async def sign_in(call: Call) -> Me:
    """Sign in. A cookie that came with the request is never kept: the answer's is new."""
    asked, database, vault = call.body(AskedSignIn), call.door.database, call.door.vault
    try:
        person = await sign_ins.prove(database, vault, asked.email, asked.password, asked.totp, call.address)
        async with database.transaction() as tx:
            opened = await sign_ins.open_one(tx, vault, person, asked.password, asked.totp, call.address)
            me = await _me(tx, person.id)
            await record_as(call, tx, me.user, "signIn")
    except Refusal as refusal:
        if refusal.code is Code.AUTH_SIGN_IN_FAILED:
            async with database.transaction() as tx:  # beside the count, which is committed already
                await _record_failure(call, tx, await users.find_by_email(tx, asked.email))
        raise
    _keep(call, opened)
    return me


async def _record_failure(call: Call, tx: db.Tx, person: users.Person | None) -> None:
    """Record it where the person's tenant sees it. What was typed stays out: as an e-mail people type passwords too."""
    await audit.record(
        tx,
        actor="nobody",
        action="signIn",
        subject="sign_in:failed" if person is None else f"user:{person.id}",
        tenant_id=None if person is None else person.tenant_id,
        address=call.address,
        request_id=call.asked.request_id,
        detail={"failed": True},
    )


async def sign_out(call: Call) -> SignedOut:
    _demand_console(call)
    await sign_ins.end(call.tx, call.caller.user_id, call.caller.sign_in_id)
    call.note(f"user:{call.caller.user_id}")
    call.cookies.append(_cookie(call, "", 0))
    return SignedOut(1)


def _keep(call: Call, opened: Opened) -> None:
    call.cookies.append(_cookie(call, opened.token, sign_ins.KEPT_S))


def _cookie(call: Call, token: str, kept_s: int) -> str:
    """Return Set-Cookie. Without TLS a browser keeps no Secure cookie, and at loopback there is none."""
    cookie = f"{sign_ins.COOKIE}={token}; Path=/; Max-Age={kept_s}; HttpOnly; SameSite=Strict"
    try:
        local = ipaddress.ip_address(call.address).is_loopback
    except ValueError:
        local = False
    return cookie if local else cookie + "; Secure"


# ---- oneself


async def me(call: Call) -> Me:
    return await _me(call.tx, call.caller.user_id, call.caller.permissions)


async def _me(tx: db.Tx, user_id: int, may: frozenset[Permission] | None = None) -> Me:
    user = await users.one(tx, None, user_id)
    return Me(
        user,
        sorted(GRANTED[user.role] if may is None else may),
        user.role in PLATFORM_ROLES and not user.totp,
        await authenticators.recovery_codes_left(tx, user_id),
    )


async def change_me(call: Call) -> Me:
    """Give oneself another name; what else there is of a person, others decide or a password proves."""
    _demand_console(call)
    asked, user_id = call.body(AskedMe), call.caller.user_id
    await users.rename(call.tx, user_id, asked.name)
    call.note(f"user:{user_id}", name=asked.name)
    return await me(call)


async def sign_ins_listed(call: Call) -> SignInList:
    rows = await sign_ins.every(call.tx, call.caller.user_id, call.caller.sign_in_id)
    return SignInList(list(rows))


async def end(call: Call) -> Revoked:
    _demand_console(call)
    await sign_ins.end(call.tx, call.caller.user_id, call.number())
    call.note(f"user:{call.caller.user_id}", sign_in=call.number())
    return Revoked(call.number())


async def change_password(call: Call) -> SignedOut:
    """Give oneself a new password: signed out everywhere but here, and here under a new token."""
    asked = call.body(AskedPassword)
    person = await _prove(call, asked.password)
    async with call.door.database.transaction() as tx:
        await users.demand_unchanged(tx, person)
        ended = await people.set_password(tx, person.id, asked.new_password)
        opened = await sign_ins.begin(tx, person.id, call.address)
        await _record(call, tx)
    _keep(call, opened)
    return SignedOut(ended)


async def enrol(call: Call) -> Enrolled:
    person = await _prove(call, call.body(AskedProof).password)
    async with call.door.database.transaction() as tx:
        made = await authenticators.enrol(tx, call.door.vault, person.id, person.email)
        await _record(call, tx)
    return Enrolled(made.secret.reveal().decode(), made.uri)


async def confirm(call: Call) -> Confirmed:
    """Ask for codes from now on: signed out everywhere but here, and here under a new token."""
    _demand_console(call)
    asked, user_id = call.body(AskedCode), call.caller.user_id
    codes = await authenticators.confirm(call.tx, call.door.vault, user_id, asked.code)
    _keep(call, await sign_ins.begin_anew(call.tx, user_id, call.address))
    call.note(f"user:{user_id}")
    return Confirmed(list(codes))


async def remove(call: Call) -> SignedOut:
    asked, vault = call.body(AskedRemoval), call.door.vault
    person = await _prove(call, asked.password, wholly=False)
    async with call.door.database.transaction() as tx:
        await users.demand_unchanged(tx, person)
        await authenticators.demand_code(tx, vault, person.id, asked.code)
        await attempts.forgive(tx, vault, person.email, call.address)
        await authenticators.remove(tx, person.id)
        opened = await sign_ins.begin_anew(tx, person.id, call.address)
        await _record(call, tx)
    _keep(call, opened)
    return SignedOut(0)


async def _prove(call: Call, password: str, *, wholly: bool = True) -> users.Person:
    _demand_console(call)
    return await sign_ins.prove_again(
        call.door.database, call.door.vault, call.caller.user_id, password, call.address, wholly=wholly
    )


async def _record(call: Call, tx: db.Tx) -> None:
    call.note(f"user:{call.caller.user_id}")
    await call.record(tx)


def _demand_console(call: Call) -> None:
    """A token of a program may not do this: who finds one must not become the person."""
    if not call.caller.sign_in_id:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="for people who are signed in, not for tokens")


# ---- tokens of own programs


async def tokens_listed(call: Call) -> TokenList:
    return TokenList(list(await tokens.every(call.tx, call.caller.user_id)))


async def create_token(call: Call) -> TokenMade:
    _demand_console(call)
    asked, caller = call.body(AskedToken), call.caller
    assert caller.role is not None, "people have a role"
    made = await tokens.create(
        call.tx,
        caller.user_id,
        caller.role,
        asked.name,
        asked.scopes,
        valid_s=asked.valid_s,
        addresses=asked.addresses,
    )
    call.note(f"token:{made.id}", name=asked.name, scopes=asked.scopes, addresses=asked.addresses)
    return TokenMade(made.id, made.token.reveal().decode(), made.expires_at)


async def revoke_token(call: Call) -> Revoked:
    _demand_console(call)
    await tokens.revoke(call.tx, call.caller.user_id, call.number())
    call.note(f"token:{call.number()}")
    return Revoked(call.number())


PROOF: Final = (*BODY, Code.AUTH_SIGN_IN_FAILED, Code.AUTH_TOO_MANY_ATTEMPTS, Code.REQUEST_CONFLICT)

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sign-in",
        name="signIn",
        summary="Sign in to the console. The answer sets a cookie. Who fails too often has to wait.",
        reach=Reach.ANYONE,
        permission=None,
        body=AskedSignIn,
        example={"email": "li@example.com", "password": "seven quiet herons"},
        gives=Me,
        codes=(
            *BODY,
            Code.AUTH_SIGN_IN_FAILED,
            Code.AUTH_ONE_TIME_CODE_NEEDED,
            Code.AUTH_TOO_MANY_ATTEMPTS,
        ),
        changes=False,
        own_transactions=True,
        manages=sign_in,
    ),
    Route(
        method="POST",
        path="/v1/sign-out",
        name="signOut",
        summary="Sign out here.",
        reach=Reach.SELF,
        permission=None,
        gives=SignedOut,
        changes=False,
        manages=sign_out,
    ),
    Route(
        method="GET",
        path="/v1/me",
        name="getMe",
        summary="Who is signed in, and what that person may.",
        reach=Reach.SELF,
        permission=None,
        gives=Me,
        manages=me,
    ),
    Route(
        method="PATCH",
        path="/v1/me",
        name="changeMe",
        summary="Give oneself another name.",
        reach=Reach.SELF,
        permission=None,
        body=AskedMe,
        example={"name": "Li Na"},
        gives=Me,
        codes=BODY,
        changes=False,
        manages=change_me,
    ),
    Route(
        method="POST",
        path="/v1/me/password",
        name="changePassword",
        summary="Change the own password: signed out everywhere else.",
        reach=Reach.SELF,
        permission=None,
        body=AskedPassword,
        example={"password": "seven quiet herons", "new_password": "nine loud sparrows"},
        gives=SignedOut,
        codes=PROOF,
        changes=False,
        own_transactions=True,
        manages=change_password,
    ),
    Route(
        method="POST",
        path="/v1/me/totp",
        name="enrolAuthenticator",
        summary="Make a secret for an authenticator. It is asked for once it was confirmed.",
        reach=Reach.SELF,
        permission=None,
        body=AskedProof,
        example={"password": "seven quiet herons"},
        gives=Enrolled,
        status=201,
        codes=PROOF,
        changes=False,
        own_transactions=True,
        manages=enrol,
    ),
    Route(
        method="POST",
        path="/v1/me/totp/confirm",
        name="confirmAuthenticator",
        summary="Show a code of the authenticator: from now on one is asked for. Gives the recovery codes.",
        reach=Reach.SELF,
        permission=None,
        body=AskedCode,
        example={"code": "123456"},
        gives=Confirmed,
        codes=BODY,
        changes=False,
        manages=confirm,
    ),
    Route(
        method="POST",
        path="/v1/me/totp/remove",
        name="removeAuthenticator",
        summary="Do without the authenticator, on password and code.",
        reach=Reach.SELF,
        permission=None,
        body=AskedRemoval,
        example={"password": "seven quiet herons", "code": "123456"},
        gives=SignedOut,
        codes=PROOF,
        changes=False,
        own_transactions=True,
        manages=remove,
    ),
    Route(
        method="GET",
        path="/v1/me/sign-ins",
        name="listSignIns",
        summary="List where one is signed in.",
        reach=Reach.SELF,
        permission=None,
        gives=SignInList,
        manages=sign_ins_listed,
    ),
    Route(
        method="DELETE",
        path="/v1/me/sign-ins/{id}",
        name="endSignIn",
        summary="End one of the own sign-ins.",
        reach=Reach.SELF,
        permission=None,
        gives=Revoked,
        ids="integer",
        changes=False,
        manages=end,
    ),
    Route(
        method="GET",
        path="/v1/me/tokens",
        name="listTokens",
        summary="List the tokens of own programs.",
        reach=Reach.SELF,
        permission=None,
        gives=TokenList,
        manages=tokens_listed,
    ),
    Route(
        method="POST",
        path="/v1/me/tokens",
        name="createToken",
        summary="Make a token for an own program. It is shown once.",
        reach=Reach.SELF,
        permission=None,
        body=AskedToken,
        example={"name": "nightly statistics", "scopes": ["statistics.read"], "valid_s": 7_776_000},
        gives=TokenMade,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        manages=create_token,
    ),
    Route(
        method="DELETE",
        path="/v1/me/tokens/{id}",
        name="revokeToken",
        summary="Revoke a token.",
        reach=Reach.SELF,
        permission=None,
        gives=Revoked,
        ids="integer",
        changes=False,
        manages=revoke_token,
    ),
)
