"""Sign-up: a company comes by itself, with a person who owns its tenant. It may try everything and write to nobody yet."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan import db
from hongyan.control import attempts, audit, passwords, policies, tenants, users
from hongyan.control.permissions import Role
from hongyan.doors.call import Call
from hongyan.doors.management.users import Email, Name, NewPassword
from hongyan.doors.question import said_as
from hongyan.doors.route import BODY, Reach, Route
from hongyan.vault import read_master_key
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

APP: Final = "main"  # a first one, so that there is something to make a key of


class AskedSignUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who comes."""

    company: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Name
    email: Email
    password: NewPassword


class SignedUp(msgspec.Struct, frozen=True):
    """What was made. Sign in, and hand in the qualification."""

    tenant_id: TenantId
    user_id: int


class SignUpTerms(msgspec.Struct, frozen=True):
    """Whether one may."""

    open: bool
    password_characters_min: int


async def terms(call: Call) -> SignUpTerms:
    policy = await policies.read(call.tx)
    return SignUpTerms(policy.sign_up == "open", passwords.CHARACTERS_MIN)


async def sign_up(call: Call) -> SignedUp:
    """Make tenant and owner. Each attempt counts, for the e-mail and the address, as one to sign in does."""
    asked, database = call.body(AskedSignUp), call.door.database
    async with database.transaction() as tx:
        if (await policies.read(tx)).sign_up != "open":
            raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="nobody can sign up here by himself")
        await attempts.count(tx, call.door.vault, asked.email, call.address)
    async with database.transaction() as tx:
        return await _make(call, tx, asked)


async def _make(call: Call, tx: db.Tx, asked: AskedSignUp) -> SignedUp:
    settings, email = call.door.settings, users.normal_email(asked.email)
    master = read_master_key(settings.master_key, settings.state_dir / "master.key")
    who = f"sign-up {email}"
    with said_as({"name": "company"}):
        tenant_id = await tenants.create(tx, call.door.vault, master, asked.company, qualified=False, who=who)
    await tenants.create_app(tx, tenant_id, APP)
    user_id = await users.create(
        tx,
        tenant_id=tenant_id,
        email=email,
        name=asked.name,
        role=Role.OWNER,
        password=asked.password,
    )
    await audit.record(
        tx,
        actor=f"user:{user_id} {email}",
        action="signUp",
        subject=f"tenant:{tenant_id}",
        tenant_id=tenant_id,
        address=call.address,
        request_id=call.asked.request_id,
        detail={"company": asked.company},
    )
    return SignedUp(tenant_id, user_id)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/sign-up",
        name="getSignUp",
        summary="Say whether companies may sign up here by themselves.",
        reach=Reach.ANYONE,
        permission=None,
        gives=SignUpTerms,
        manages=terms,
    ),
    Route(
        method="POST",
        path="/v1/sign-up",
        name="signUp",
        summary="Make a tenant and its owner. Until its qualification is approved, sandbox keys alone may send.",
        reach=Reach.ANYONE,
        permission=None,
        body=AskedSignUp,
        example={
            "company": "Orchid",
            "name": "Wang Fang",
            "email": "wang@example.com",
            "password": "orchids grow slowly",
        },
        gives=SignedUp,
        status=201,
        codes=(
            *BODY,
            Code.AUTH_PERMISSION_DENIED,
            Code.AUTH_TOO_MANY_ATTEMPTS,
            Code.REQUEST_CONFLICT,
            Code.REQUEST_RATE_LIMITED,
        ),
        own_transactions=True,
        manages=sign_up,
    ),
)
