"""Users and invitations: who is let in to the console, as what, and until when."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan import db
from hongyan.control import audit, invitations, passwords, people, users
from hongyan.control.bounds import NAME_CHARACTERS_MAX
from hongyan.control.invitations import InvitationRow
from hongyan.control.permissions import Permission, Role
from hongyan.control.users import UserRow
from hongyan.doors.call import Call, detail_of
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code

Email = Annotated[str, Meta(min_length=3, max_length=users.EMAIL_CHARACTERS_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
NewPassword = Annotated[
    str,
    Meta(
        min_length=passwords.CHARACTERS_MIN,
        max_length=passwords.CHARACTERS_MAX,
        description="12 to 128 characters, none of the commonest, without the e-mail's name in it.",
    ),
]


class AskedInvitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody to be let in."""

    email: Email
    role: Role
    name: Name | UnsetType = UNSET  # left out: they say it themselves


class AskedAcceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody says who was invited."""

    token: Annotated[str, Meta(min_length=16, max_length=128)]
    password: NewPassword
    name: Name | UnsetType = UNSET  # of somebody new; left out: as the invitation has it


class AskedReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody has lost."""

    authenticator: bool = False  # besides the password


class AskedUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a person is to change; what is left out stays."""

    name: Name | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class AskedUsers(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of people."""


class AskedInvitations(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of invitations."""


class UserPage(msgspec.Struct, frozen=True):
    items: list[UserRow]
    next: str | None = None


class InvitationPage(msgspec.Struct, frozen=True):
    items: list[InvitationRow]
    next: str | None = None


class InvitationMade(msgspec.Struct, frozen=True):
    """An invitation and its token, which is never shown again."""

    id: int
    token: str
    expires_at: datetime


class SignedOut(msgspec.Struct, frozen=True):
    """How many sign-ins were ended."""

    ended: int


class Revoked(msgspec.Struct, frozen=True):
    """What is worth nothing any more."""

    id: int


async def listed(call: Call) -> UserPage:
    asked = call.query(AskedUsers)
    rows = await users.listed(call.tx, call.tenant_id, paging.after(asked), asked.limit)
    return UserPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> UserRow:
    return await users.one(call.tx, call.tenant_id, call.number())


async def change(call: Call) -> UserRow:
    asked, user_id = call.body(AskedUser), call.number()
    changed = await people.change(call.tx, call.caller.role, call.tenant_id, user_id, **paging.given(asked))
    call.note(f"user:{user_id}", **detail_of(asked))
    return changed


async def sign_out(call: Call) -> SignedOut:
    user_id = call.number()
    ended = await people.sign_out(call.tx, call.caller.role, call.tenant_id, user_id)
    call.note(f"user:{user_id}", ended=ended)
    return SignedOut(ended)


async def invitations_listed(call: Call) -> InvitationPage:
    asked = call.query(AskedInvitations)
    rows = await invitations.listed(call.tx, call.tenant_id, paging.after(asked), asked.limit)
    return InvitationPage(list(rows), paging.following(rows, asked))


async def invite(call: Call) -> InvitationMade:
    asked = call.body(AskedInvitation)
    made = await invitations.create(
        call.tx,
        by=call.caller.role,
        invited_by=call.caller.user_id,
        tenant_id=call.tenant_id,
        email=asked.email,
        role=asked.role,
        name="" if asked.name is UNSET else asked.name,
    )
    call.note(f"invitation:{made.id}", email=asked.email, role=asked.role)
    return InvitationMade(made.id, made.token.reveal().decode(), made.expires_at)


async def reset(call: Call) -> InvitationMade:
    asked, user_id = call.body(AskedReset), call.number()
    made = await invitations.invite_back(
        call.tx,
        by=call.caller.role,
        invited_by=call.caller.user_id,
        tenant_id=call.tenant_id,
        user_id=user_id,
        frees_totp=asked.authenticator,
    )
    call.note(f"user:{user_id}", authenticator=asked.authenticator)
    return InvitationMade(made.id, made.token.reveal().decode(), made.expires_at)


async def accept(call: Call) -> UserRow:
    asked = call.body(AskedAcceptance)
    async with call.door.database.transaction() as tx:
        made = await people.accept(tx, asked.token, "" if asked.name is UNSET else asked.name, asked.password)
        await record_as(call, tx, made, "acceptInvitation")
    return made


async def record_as(call: Call, tx: db.Tx, user: UserRow, action: str) -> None:
    """Record what somebody did who came as nobody and is known by now: so that their tenant sees it."""
    await audit.record(
        tx,
        actor=f"user:{user.id} {user.email}",
        action=action,
        subject=f"user:{user.id}",
        tenant_id=user.tenant_id,
        address=call.address,
        request_id=call.asked.request_id,
        detail={"role": user.role},
    )


async def revoke(call: Call) -> Revoked:
    invitation_id = call.number()
    await invitations.revoke(call.tx, call.tenant_id, invitation_id)
    call.note(f"invitation:{invitation_id}")
    return Revoked(invitation_id)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/users",
        name="listUsers",
        summary="List people of the console.",
        reach=Reach.ANY,
        permission=Permission.USERS_READ,
        query=AskedUsers,
        gives=UserPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="GET",
        path="/v1/users/{id}",
        name="getUser",
        summary="Look at one person.",
        reach=Reach.ANY,
        permission=Permission.USERS_READ,
        gives=UserRow,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/users/{id}",
        name="changeUser",
        summary="Give a person another name or role, or take the person out. A new role signs out everywhere.",
        reach=Reach.ANY,
        permission=Permission.USERS_WRITE,
        body=AskedUser,
        example={"role": "viewer"},
        gives=UserRow,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        changes=False,
        manages=change,
    ),
    Route(
        method="POST",
        path="/v1/users/{id}/sign-out",
        name="signOutUser",
        summary="End all sign-ins of a person.",
        reach=Reach.ANY,
        permission=Permission.USERS_WRITE,
        gives=SignedOut,
        ids="integer",
        changes=False,
        manages=sign_out,
    ),
    Route(
        method="POST",
        path="/v1/users/{id}/reset",
        name="resetUser",
        summary="Let a person choose a new password, who forgot it: gives the token of an invitation.",
        reach=Reach.ANY,
        permission=Permission.USERS_WRITE,
        body=AskedReset,
        example={"authenticator": False},
        gives=InvitationMade,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        changes=False,
        manages=reset,
    ),
    Route(
        method="GET",
        path="/v1/invitations",
        name="listInvitations",
        summary="List invitations that are open.",
        reach=Reach.ANY,
        permission=Permission.USERS_READ,
        query=AskedInvitations,
        gives=InvitationPage,
        codes=QUERY,
        manages=invitations_listed,
    ),
    Route(
        method="POST",
        path="/v1/invitations",
        name="createInvitation",
        summary="Invite somebody: to the own tenant or, of the platform without tenant_id, to the platform.",
        reach=Reach.ANY,
        permission=Permission.USERS_WRITE,
        body=AskedInvitation,
        example={"email": "li@example.com", "role": "developer"},
        gives=InvitationMade,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        manages=invite,
    ),
    Route(
        method="DELETE",
        path="/v1/invitations/{id}",
        name="revokeInvitation",
        summary="Take an invitation back.",
        reach=Reach.ANY,
        permission=Permission.USERS_WRITE,
        gives=Revoked,
        ids="integer",
        changes=False,
        manages=revoke,
    ),
    Route(
        method="POST",
        path="/v1/invitations/accept",
        name="acceptInvitation",
        summary="Become a user, or come back: who holds the token of an invitation chooses a password.",
        reach=Reach.ANYONE,
        permission=None,
        body=AskedAcceptance,
        example={
            "token": "hyi_q4R0vA3mCzv1gq0cJm9b0sXKQwq3r1cDk2yTn5fUeLo",
            "name": "Li Na",
            "password": "seven quiet herons",
        },
        gives=UserRow,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        changes=False,
        own_transactions=True,
        manages=accept,
    ),
)
