"""Documents of an enterprise: handed in as files, looked at by the tenant and by reviewers; each look leaves a trace."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import documents
from hongyan.control.documents import DocumentKind, DocumentRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, File, Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId


class AskedDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file is; the file itself is the body."""

    kind: DocumentKind
    name: Annotated[str, Meta(min_length=1, max_length=200, description="Of the file, without its folder.")]


class DocumentPage(msgspec.Struct, frozen=True):
    items: list[DocumentRow]
    next: str | None = None


class DocumentRemoved(msgspec.Struct, frozen=True):
    """What is gone."""

    id: int


async def listed(call: Call) -> DocumentPage:
    asked = call.query(paging.Asked)
    rows = await documents.page(call.tx, call.tenant_id, after=paging.after(asked), limit=asked.limit)
    return DocumentPage(list(rows), paging.following(rows, asked))


async def upload(call: Call) -> DocumentRow:
    asked = call.query(AskedDocument)
    octets = bytearray()
    async for chunk in call.chunks():
        octets += chunk
        if len(octets) > documents.OCTETS_MAX:
            raise Refusal(Code.REQUEST_TOO_LARGE, octets_max=documents.OCTETS_MAX)
    said = call.asked.content_type.decode("latin-1").partition(";")[0].strip().lower()
    if said not in documents.CONTENT_TYPES or said != documents.type_of(bytes(octets)):
        reason = "Content-Type is not what the file is"
        raise Refusal(
            Code.REQUEST_UNSUPPORTED_FILE, content_types=list(documents.CONTENT_TYPES), reason=reason
        )
    async with call.door.database.transaction() as tx:
        row = await documents.store(
            tx, call.door.vault, call.tenant, asked.kind, asked.name, bytes(octets), by=call.caller.name
        )
        call.note(f"document:{row.id}", kind=row.kind, name=row.name, octets=row.octets, sha256=row.sha256)
        await call.record(tx)
    return row


async def download(call: Call) -> File:
    row = await documents.get(call.tx, call.tenant_id, call.number())
    octets = await documents.read(call.tx, call.door.vault, row)
    call.note(f"document:{row.id}", name=row.name)
    await call.record(call.tx)
    return File(row.name, row.content_type, _once(octets))


async def _once(octets: bytes) -> AsyncIterator[bytes]:
    yield octets


async def remove(call: Call) -> DocumentRemoved:
    row = await documents.get(call.tx, call.tenant_id, call.number())
    await documents.remove(call.tx, TenantId(row.tenant_id), row.id)
    call.note(f"document:{row.id}", name=row.name)
    return DocumentRemoved(row.id)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/documents",
        name="listDocuments",
        summary="List documents of enterprises.",
        reach=Reach.ANY,
        permission=Permission.QUALIFICATION_READ,
        query=paging.Asked,
        gives=DocumentPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/documents",
        name="uploadDocument",
        summary="Hand in a document: a PDF, PNG or JPEG of at most 5 MB.",
        reach=Reach.TENANT,
        permission=Permission.QUALIFICATION_WRITE,
        query=AskedDocument,
        gives=DocumentRow,
        status=201,
        codes=(*BODY, Code.REQUEST_UNSUPPORTED_FILE, Code.REQUEST_CONFLICT),
        changes=False,
        file=True,
        file_kinds=documents.CONTENT_TYPES,
        own_transactions=True,
        manages=upload,
    ),
    Route(
        method="GET",
        path="/v1/documents/{id}/file",
        name="downloadDocument",
        summary="Get a document as it was handed in. Each look leaves a trace in the audit.",
        reach=Reach.ANY,
        permission=Permission.QUALIFICATION_READ,
        gives=File,
        ids="integer",
        manages=download,
    ),
    Route(
        method="DELETE",
        path="/v1/documents/{id}",
        name="removeDocument",
        summary="Forget a document on which nothing rests.",
        reach=Reach.ANY,
        permission=Permission.QUALIFICATION_WRITE,
        gives=DocumentRemoved,
        codes=(Code.REQUEST_CONFLICT,),
        ids="integer",
        changes=False,
        manages=remove,
    ),
)
