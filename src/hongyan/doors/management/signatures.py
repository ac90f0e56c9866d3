"""Signatures: proposed by tenants; enabled, disabled and given digits by people of the platform."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import extensions, signatures
from hongyan.control.extensions import Assigned, ExtensionRow
from hongyan.control.permissions import Permission
from hongyan.control.signatures import SignatureRow, SignatureSource, SignatureState
from hongyan.doors.call import Call, detail_of
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.vocab.message import ChannelId

Name = Annotated[
    str,
    Meta(
        min_length=signatures.NAME_CHARACTERS_MIN,
        max_length=signatures.NAME_CHARACTERS_MAX,
        description="Without 【】: letters, Chinese characters and digits; not digits alone, and no neutral word.",
    ),
]
Documents = Annotated[
    list[Annotated[int, Meta(ge=1, le=2**31 - 1)]],
    Meta(
        max_length=signatures.DOCUMENTS_MAX,
        description="What proves it; for `other` a letter of authorisation.",
    ),
]
Note = Annotated[str, Meta(max_length=signatures.NOTE_CHARACTERS_MAX, description="For whoever reviews it.")]
Digits = Annotated[str, Meta(pattern="^[0-9]{0,12}$")]


class AskedSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signature to be reviewed."""

    name: Name
    source: SignatureSource = SignatureSource.COMPANY
    document_ids: Documents = []
    note: Note = ""


class AskedSignatureChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a signature is to change; what is left out stays. `{}` proposes it again as it is."""

    name: Name | UnsetType = UNSET
    source: SignatureSource | UnsetType = UNSET
    document_ids: Documents | UnsetType = UNSET
    note: Note | UnsetType = UNSET


class AskedSignatureState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether an approved signature may be used for now."""

    state: Literal["approved", "disabled"]
    reason: Annotated[
        str, Meta(max_length=signatures.NOTE_CHARACTERS_MAX, description="Told to the tenant.")
    ] = ""


class AskedExtension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digits behind an access number."""

    extension: Annotated[
        Digits,
        Meta(description="At a channel, none stands for the next free ones; without a channel, for none."),
    ] = ""


class AskedSignatures(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which signatures."""

    state: SignatureState | None = None
    named: Annotated[str, Meta(max_length=64, description="A piece of the name.")] = ""


class SignaturePage(msgspec.Struct, frozen=True):
    """`counts` are of all of them, by state."""

    items: list[SignatureRow]
    counts: Mapping[SignatureState, int]
    next: str | None = None


class Extensions(msgspec.Struct, frozen=True):
    items: list[ExtensionRow]


async def listed(call: Call) -> SignaturePage:
    asked = call.query(AskedSignatures)
    rows = await signatures.page(
        call.tx,
        call.tenant_id,
        state=asked.state,
        named=asked.named,
        after=paging.after(asked),
        limit=asked.limit,
    )
    counts = await signatures.counts(call.tx, call.tenant_id)
    return SignaturePage(list(rows), counts, paging.following(rows, asked))


async def get(call: Call) -> SignatureRow:
    return await signatures.get(call.tx, call.number(), call.tenant_id)


async def propose(call: Call) -> SignatureRow:
    asked = call.body(AskedSignature)
    number = await signatures.propose(
        call.tx,
        call.tenant,
        asked.name,
        source=asked.source,
        document_ids=asked.document_ids,
        note=asked.note,
        who=call.caller.name,
    )
    call.note(f"signature:{number}", **detail_of(asked))
    return await signatures.get(call.tx, number)


async def change(call: Call) -> SignatureRow:
    asked, number = call.body(AskedSignatureChange), call.number()
    await signatures.change(call.tx, number, call.tenant, who=call.caller.name, **paging.given(asked))
    call.note(f"signature:{number}", **detail_of(asked))
    return await signatures.get(call.tx, number)


async def withdraw(call: Call) -> SignatureRow:
    number = call.number()
    await signatures.withdraw(call.tx, number, call.tenant)
    call.note(f"signature:{number}")
    return await signatures.get(call.tx, number)


async def move(call: Call) -> SignatureRow:
    """Only between approved and disabled: what is reviewed, the review decides."""
    asked, number = call.body(AskedSignatureState), call.number()
    await signatures.enable(call.tx, number, enabled=asked.state == "approved", reason=asked.reason)
    call.note(f"signature:{number}", **detail_of(asked))
    return await signatures.get(call.tx, number)


async def extend(call: Call) -> SignatureRow:
    asked, number = call.body(AskedExtension), call.number()
    await signatures.extend(call.tx, number, asked.extension)
    call.note(f"signature:{number}", **detail_of(asked))
    return await signatures.get(call.tx, number)


async def extensions_of(call: Call) -> Extensions:
    number = call.number()
    await signatures.get(call.tx, number, call.tenant_id)
    return Extensions(list(await extensions.of(call.tx, number)))


async def extend_at(call: Call) -> Extensions:
    asked, number = call.body(AskedExtension), call.number()
    channel_id = ChannelId(call.number("channel_id"))
    given = await extensions.assign(call.tx, number, channel_id, asked.extension)
    call.note(f"signature:{number}", channel=channel_id, extension=given)
    return Extensions(list(await extensions.of(call.tx, number)))


async def extend_all_at(call: Call) -> Assigned:
    channel_id = ChannelId(call.number())
    assigned = await extensions.assign_all(call.tx, channel_id)
    call.note(f"channel:{channel_id}", assigned=assigned.assigned, lacking=assigned.lacking)
    return assigned


async def shorten_at(call: Call) -> Extensions:
    number, channel_id = call.number(), ChannelId(call.number("channel_id"))
    await extensions.remove(call.tx, number, channel_id)
    call.note(f"signature:{number}", channel=channel_id)
    return Extensions(list(await extensions.of(call.tx, number)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/signatures",
        name="listSignatures",
        summary="List signatures, how far their reviews and filings are, and how many are in each state.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        query=AskedSignatures,
        gives=SignaturePage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/signatures",
        name="proposeSignature",
        summary="Propose a signature. It may be used once it is approved.",
        reach=Reach.TENANT,
        permission=Permission.WORDING_WRITE,
        body=AskedSignature,
        example={"name": "鸿雁", "source": "trademark", "document_ids": [3], "note": "商标第 9 类"},
        gives=SignatureRow,
        status=201,
        codes=BODY,
        manages=propose,
    ),
    Route(
        method="GET",
        path="/v1/signatures/{id}",
        name="getSignature",
        summary="Look at one signature.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        gives=SignatureRow,
        ids="integer",
        manages=get,
    ),
    Route(
        method="PATCH",
        path="/v1/signatures/{id}",
        name="changeSignature",
        summary="Change a signature and propose it anew. Until it is approved again, it cannot be used.",
        reach=Reach.TENANT,
        permission=Permission.WORDING_WRITE,
        body=AskedSignatureChange,
        example={"document_ids": [3, 4], "note": "a sharper copy of the licence"},
        gives=SignatureRow,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=change,
    ),
    Route(
        method="POST",
        path="/v1/signatures/{id}/withdraw",
        name="withdrawSignature",
        summary="Take back a signature that waits for review or was rejected.",
        reach=Reach.TENANT,
        permission=Permission.WORDING_WRITE,
        gives=SignatureRow,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        manages=withdraw,
    ),
    Route(
        method="PUT",
        path="/v1/signatures/{id}/state",
        name="enableSignature",
        summary="Let nobody use an approved signature for now, or let it be used again.",
        reach=Reach.PLATFORM,
        permission=Permission.REVIEWS_DECIDE,
        body=AskedSignatureState,
        example={"state": "disabled", "reason": "complaints of 12321 unanswered"},
        gives=SignatureRow,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=move,
    ),
    Route(
        method="PUT",
        path="/v1/signatures/{id}/extension",
        name="extendSignature",
        summary="Set the digits behind every access number where the signature has none of its own.",
        reach=Reach.PLATFORM,
        permission=Permission.CHANNELS_WRITE,
        body=AskedExtension,
        example={"extension": "88"},
        gives=SignatureRow,
        codes=BODY,
        ids="integer",
        manages=extend,
    ),
    Route(
        method="GET",
        path="/v1/signatures/{id}/extensions",
        name="listExtensions",
        summary="List the digits a signature has of its own behind the access numbers of channels.",
        reach=Reach.ANY,
        permission=Permission.WORDING_READ,
        gives=Extensions,
        ids="integer",
        manages=extensions_of,
    ),
    Route(
        method="PUT",
        path="/v1/signatures/{id}/extensions/{channel_id}",
        name="extendSignatureAtChannel",
        summary="Give a signature digits of its own at a channel: these, or the next free ones.",
        reach=Reach.PLATFORM,
        permission=Permission.CHANNELS_WRITE,
        body=AskedExtension,
        example={"extension": "0012"},
        gives=Extensions,
        codes=(*BODY, Code.REQUEST_CONFLICT),
        ids="integer",
        manages=extend_at,
    ),
    Route(
        method="POST",
        path="/v1/channels/{id}/extensions",
        name="extendAllAtChannel",
        summary="Give every approved signature that has none digits of its own at a channel.",
        reach=Reach.PLATFORM,
        permission=Permission.CHANNELS_WRITE,
        gives=Assigned,
        ids="integer",
        manages=extend_all_at,
    ),
    Route(
        method="DELETE",
        path="/v1/signatures/{id}/extensions/{channel_id}",
        name="shortenSignatureAtChannel",
        summary="Take a signature's digits at a channel away; messages leave with its general ones.",
        reach=Reach.PLATFORM,
        permission=Permission.CHANNELS_WRITE,
        gives=Extensions,
        ids="integer",
        manages=shorten_at,
    ),
)
