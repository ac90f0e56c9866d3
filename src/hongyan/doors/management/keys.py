"""App keys: made, changed, exchanged and disabled, and why a signature of one does not fit.

A secret is in one answer and never again.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan import clock
from hongyan.control import keys, tenants
from hongyan.control.keys import KeyTerms, NewKey
from hongyan.control.permissions import SCOPES, SCOPES_DEFAULT, Permission
from hongyan.doors.call import INT_MAX, Call, detail_of
from hongyan.doors.explaining import Explained, Pasted, explain, found
from hongyan.doors.management import paging
from hongyan.doors.mistakes import Mistake
from hongyan.doors.nonces import was_used
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import AppId

Name = Annotated[str, Meta(max_length=keys.NAME_CHARACTERS_MAX)]
Scopes = Annotated[list[Permission], Meta(max_length=len(Permission), description="What it may do.")]
Addresses = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=64)]],
    Meta(max_length=keys.ADDRESSES_MAX, description="Addresses or networks that may use it; none: all."),
]
Rate = Annotated[int, Meta(ge=0, le=keys.RATE_MAX, description="Requests a second; 0: no limit.")]


class AskedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made."""

    sandbox: bool = False  # it reaches sandbox numbers only, for good
    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    allow_basic: bool | UnsetType = UNSET
    free_text: bool | UnsetType = UNSET  # texts without a template: the platform gives it
    addresses: Addresses | UnsetType = UNSET
    rate_per_s: Rate | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET


class AskedKeyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a key is to change; what is left out stays."""

    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    allow_basic: bool | UnsetType = UNSET
    free_text: bool | UnsetType = UNSET
    addresses: Addresses | UnsetType = UNSET
    rate_per_s: Rate | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET


class AskedKeyRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old key works on beside the new one."""

    overlap_s: Annotated[int, Meta(ge=0, le=keys.OVERLAP_S_MAX)] = 86_400


class AskedExplanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request that was signed, or should have been."""

    target: Annotated[
        str, Meta(min_length=1, max_length=8_192, description="Path and query as sent, or the whole URL.")
    ]
    authorization: Annotated[str, Meta(max_length=2_048, description="The header of this name.")]
    method: Annotated[str, Meta(min_length=1, max_length=16)] = "POST"
    body: Annotated[str, Meta(max_length=262_144, description="As it was sent, to the character.")] = ""
    canonical: Annotated[
        str, Meta(max_length=16_384, description="What your program made its MAC over, where you have it.")
    ] = ""


class AskedKeys(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which keys."""

    app_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None


class KeyPage(msgspec.Struct, frozen=True):
    items: list[KeyTerms]
    next: str | None = None


class KeyMade(msgspec.Struct, frozen=True):
    """A key and its secret, which is never shown again."""

    key: KeyTerms
    secret: str


async def listed(call: Call) -> KeyPage:
    asked = call.query(AskedKeys)
    app_id = None if asked.app_id is None else AppId(asked.app_id)
    rows = await keys.page(
        call.tx, call.tenant_id, app_id=app_id, after=paging.after(asked), limit=asked.limit
    )
    return KeyPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> KeyTerms:
    return await keys.get(call.tx, call.tenant_id, call.path["id"])


async def create(call: Call) -> KeyMade:
    asked, app_id = call.body(AskedKey), AppId(call.number())
    await tenants.demand_app(call.tx, call.tenant_id, app_id)
    _demand_given_by_platform(call, asked.free_text)
    _demand_own(call, SCOPES_DEFAULT if asked.scopes is UNSET else asked.scopes)
    made = await keys.create(call.tx, call.door.vault, app_id, **paging.given(asked))
    call.note(f"key:{made.key_id}", app=app_id, **detail_of(asked))
    return await _made(call, made)


async def change(call: Call) -> KeyTerms:
    asked, key_id = call.body(AskedKeyChange), call.path["id"]
    _demand_given_by_platform(call, asked.free_text)
    _demand_own(call, () if asked.scopes is UNSET else asked.scopes)
    await keys.change(call.tx, key_id, tenant_id=call.tenant_id, **paging.given(asked))
    call.note(f"key:{key_id}", **detail_of(asked))
    return await keys.get(call.tx, call.tenant_id, key_id)


def _demand_given_by_platform(call: Call, free_text: bool | UnsetType) -> None:
    """Nobody lets himself off the review of wording."""
    if free_text is True and call.caller.tenant_id is not None:
        raise Refusal(
            Code.AUTH_PERMISSION_DENIED, parameter="free_text", reason="people of the platform allow it"
        )


def _demand_own(call: Call, scopes: Collection[str]) -> None:
    """Nobody gets hold of a key that may more than he."""
    beyond = sorted(set(scopes) & set(SCOPES) - set(call.caller.permissions))  # of others control says why
    if beyond:
        raise Refusal(
            Code.AUTH_PERMISSION_DENIED, parameter="scopes", reason=f"not yours to give: {', '.join(beyond)}"
        )


async def rotate(call: Call) -> KeyMade:
    asked, key_id = call.body(AskedKeyRotation), call.path["id"]
    _demand_own(call, await keys.scopes_of(call.tx, call.tenant_id, key_id))
    made = await keys.rotate(
        call.tx, call.door.vault, key_id, tenant_id=call.tenant_id, overlap_s=asked.overlap_s
    )
    call.note(f"key:{key_id}", by=made.key_id, overlap_s=asked.overlap_s)
    return await _made(call, made)


async def _made(call: Call, made: NewKey) -> KeyMade:
    key = await keys.get(call.tx, call.tenant_id, made.key_id)
    return KeyMade(key, made.secret.reveal().decode())


async def disable(call: Call) -> KeyTerms:
    key_id = call.path["id"]
    await keys.disable(call.tx, key_id, tenant_id=call.tenant_id)
    call.note(f"key:{key_id}")
    return await keys.get(call.tx, call.tenant_id, key_id)


async def explain_signature(call: Call) -> Explained:
    """Confirm a MAC, or say why it is another. Neither the secret nor a MAC of ours leaves here."""
    asked, key_id = call.body(AskedExplanation), call.path["id"]
    key = await keys.get(call.tx, call.tenant_id, key_id)
    secret = await keys.secret_of(call.tx, call.door.vault, call.tenant_id, key_id)
    pasted = Pasted(asked.method, asked.target, asked.authorization, asked.body, asked.canonical)
    skew_s, now_s = call.door.settings.clock_skew_s, clock.now_s()
    # It tries some thousand ways to get it wrong: others need not wait for that.
    explained = await asyncio.to_thread(explain, secret.reveal(), pasted, key_id, now_s, skew_s)
    more = [found(one) for one in await _of_key(call, key)]
    if explained.nonce and await was_used(call.tx, key.id, explained.nonce.encode()):
        more.append(found(Mistake.NONCE_USED))
    call.note(f"key:{key_id}", fits=explained.fits)
    return msgspec.structs.replace(explained, findings=[*explained.findings, *more])


async def _of_key(call: Call, key: KeyTerms) -> Collection[Mistake]:
    """Return why the key itself is refused."""
    (app,) = await tenants.apps(call.tx, call.tenant_id, after=key.app_id - 1, limit=1)
    ended = key.expires_at is not None and key.expires_at <= clock.now()
    told = (
        (not key.active, Mistake.KEY_DISABLED),
        (ended, Mistake.KEY_EXPIRED),
        (not app.active, Mistake.APP_OFF),
    )
    return [mistake for holds, mistake in told if holds]


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/keys",
        name="listKeys",
        summary="List app keys and when each was used last; their secrets are not kept readable.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        query=AskedKeys,
        gives=KeyPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/apps/{id}/keys",
        name="createKey",
        summary="Make a key for an app. Its secret is shown once.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedKey,
        example={
            "name": "shop",
            "scopes": ["messages.send"],
            "addresses": ["203.0.113.0/24"],
            "rate_per_s": 50,
        },
        gives=KeyMade,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=create,
    ),
    Route(
        method="GET",
        path="/v1/keys/{id}",
        name="getKey",
        summary="Look at one key.",
        reach=Reach.ANY,
        permission=Permission.APPS_READ,
        gives=KeyTerms,
        ids="text",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/keys/{id}",
        name="changeKey",
        summary="Change what a key may do; what is left out stays.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedKeyChange,
        example={"rate_per_s": 100},
        gives=KeyTerms,
        codes=BODY,
        ids="text",
        manages=change,
    ),
    Route(
        method="POST",
        path="/v1/keys/{id}/rotate",
        name="rotateKey",
        summary="Make a second key that may do the same; the old one works on for overlap_s.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedKeyRotation,
        example={"overlap_s": 86_400},
        gives=KeyMade,
        status=201,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="text",
        manages=rotate,
    ),
    Route(
        method="POST",
        path="/v1/keys/{id}/explain-signature",
        name="explainSignature",
        summary="Say what the server makes of a signed request, and which mistake explains a MAC that does not fit.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        body=AskedExplanation,
        example={
            "method": "POST",
            "target": "/v1/messages",
            "authorization": f"HONGYAN-HMAC-SHA256 key_id=demo, timestamp=1767225600, nonce=vb7Q2mX0c4kLrT9s, mac={'a' * 64}",
            "body": "{}",
        },
        gives=Explained,
        codes=BODY,
        ids="text",
        changes=False,
        manages=explain_signature,
    ),
    Route(
        method="POST",
        path="/v1/keys/{id}/disable",
        name="disableKey",
        summary="Refuse a key from now on, for good.",
        reach=Reach.ANY,
        permission=Permission.APPS_WRITE,
        gives=KeyTerms,
        ids="text",
        manages=disable,
    ),
)
