"""Documents: files that prove who an enterprise is and that its brands are its own.

Writes: document. Entry points: store(), page(), get(), read(), remove(), demand_own(). What a file is says its own octets
alone: PDF, PNG or JPEG, from the first to the last of them, so that it is nothing else besides. It is sealed under the
tenant's key and lies in the database, so no server ever gives it out by a path. It is not searched for malware.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import pictures
from hongyan.control.bounds import demand, demand_found
from hongyan.vault import Vault, VaultError
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

OCTETS_MAX: Final = 5_000_000
DOCUMENTS_MAX: Final = 100  # of a tenant
NAME_CHARACTERS_MAX: Final = 100
PAGE_MAX: Final = 500


class DocumentKind(StrEnum):
    """What a document proves."""

    LICENCE = "licence"  # 营业执照: the enterprise
    PERSON_ID = "person_id"  # 责任人身份证件: who answers for what it sends
    AUTHORISATION = "authorisation"  # 授权书: it may use somebody else's name
    TRADEMARK = "trademark"  # 商标注册证
    APP_PROOF = "app_proof"  # 应用备案或上架截图: the app is its own
    OTHER = "other"


class DocumentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A document without its content."""

    id: int
    tenant_id: TenantId
    kind: DocumentKind
    name: str
    content_type: str
    octets: int
    sha256: str  # of the file as it came, in hexadecimal digits
    created_by: str
    created_at: datetime


LOCK_SQL: LiteralString = "SELECT id FROM tenant WHERE id = $1 FOR NO KEY UPDATE"
COUNT_SQL: LiteralString = "SELECT count(*) FROM document WHERE tenant_id = $1 AND removed_at IS NULL"
STORE_SQL: LiteralString = """
INSERT INTO document (tenant_id, kind, name, content_type, octets, sha256, sealed, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id
"""


async def store(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, kind: DocumentKind, name: str, octets: bytes, *, by: str
) -> DocumentRow:
    """Seal and keep a file. Raises Refusal for a file that is too big, or not one of the three kinds from end to end."""
    if len(octets) > OCTETS_MAX:
        raise Refusal(Code.REQUEST_TOO_LARGE, octets_max=OCTETS_MAX)
    content_type = type_of(octets)
    named = harmless(name, content_type)
    await tx.fetchval(LOCK_SQL, tenant_id)  # two at once would both find room for one
    if await tx.fetchval(COUNT_SQL, tenant_id) >= DOCUMENTS_MAX:
        raise Refusal(
            Code.REQUEST_CONFLICT, reason=f"a tenant has at most {DOCUMENTS_MAX} documents; remove some"
        )
    digest = hashlib.sha256(octets).digest()
    sealed = vault.seal(tenant_id, octets)
    number = await tx.fetchval(
        STORE_SQL, tenant_id, kind, named, content_type, len(octets), digest, sealed, by
    )
    return await get(tx, tenant_id, number)


def type_of(octets: bytes) -> str:
    """Return the content type of a file that is a PDF, PNG or JPEG and nothing else. Raises Refusal."""
    for content_type, begins, fault_of in _TYPES:
        if octets.startswith(begins):
            fault = fault_of(octets) or _fault_of_any(octets)
            if fault:
                raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, content_type=content_type, reason=fault)
            return content_type
    raise Refusal(Code.REQUEST_UNSUPPORTED_FILE, reason="neither PDF nor PNG nor JPEG")


def _fault_of_pdf(octets: bytes) -> str:
    """ISO 32000-1 §7.5: the header comes first and %%EOF last. Readers forgive more, and so it can be two files at once."""
    if re.match(rb"%PDF-[12]\.[0-9]\s", octets) is None:
        return "its header names no version"
    end = octets.rstrip(b"\r\n\t \x00")
    if not end.endswith(b"%%EOF"):
        return "it does not end where a PDF ends"
    if _ACTIVE.search(octets) is not None:
        return "it has scripts, programs or files in it"
    return ""


def _written(name: str) -> bytes:
    """Return a pattern of a name, each of whose letters may be written as #xx (§7.3.5)."""
    return b"".join(f"(?:{letter}|(?i:#{ord(letter):02x}))".encode() for letter in name)


_ACTIVE: Final = re.compile(
    b"/(?:"
    + b"|".join(
        map(_written, ("JavaScript", "JS", "Launch", "EmbeddedFile", "EmbeddedFiles", "RichMedia", "XFA"))
    )
    + rb")\b"
)


def _fault_of_any(octets: bytes) -> str:
    """Look for what browsers and unpackers would take the file for besides."""
    if _SCRIPT.search(octets) is not None:
        return "there is a page or a program in it"
    if b"PK\x05\x06" in octets[-65_557:]:  # where an archive ends, comment included (APPNOTE.TXT §4.3.16)
        return "there is an archive in it"
    return ""


_SCRIPT: Final = re.compile(rb"<script|<html|<!doctype html|<\?php|<svg", re.IGNORECASE)
_TYPES: Final = (
    ("application/pdf", b"%PDF-", _fault_of_pdf),
    ("image/png", pictures.PNG, pictures.fault_of_png),
    ("image/jpeg", pictures.JPEG, pictures.fault_of_jpeg),
)
CONTENT_TYPES: Final = tuple(content_type for content_type, _, _ in _TYPES)
_ENDING: Final = {"application/pdf": ".pdf", "image/png": ".png", "image/jpeg": ".jpg"}
_RESERVED: Final = re.compile(r'[<>:"|?*%;,\'`$&]')
_WORDS_OF_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)


def harmless(name: str, content_type: str) -> str:
    """Return a file's name as any machine can store it, with the ending of what it is.

    Raises Refusal for one that points somewhere: with slashes, dots alone, or characters nobody sees.
    """
    written = unicodedata.normalize("NFC", name).strip()
    hidden = any(unicodedata.category(each)[0] == "C" for each in written)
    sound = written.strip(". ") != "" and "/" not in written and "\\" not in written and not hidden
    demand(sound, "name", "the name of a file, without its folder")
    demand(len(written) <= 2 * NAME_CHARACTERS_MAX, "name", f"at most {2 * NAME_CHARACTERS_MAX} characters")
    ending = _ENDING[content_type]
    stem = re.sub(r"\.(pdf|png|jpe?g)$", "", written, flags=re.IGNORECASE)
    stem = _RESERVED.sub("_", stem).strip(". ")[: NAME_CHARACTERS_MAX - len(ending)] or "document"
    return f"_{stem}{ending}" if _WORDS_OF_DEVICES.fullmatch(stem.partition(".")[0]) else f"{stem}{ending}"


PAGE_SQL: LiteralString = """
SELECT id, tenant_id, kind, name, content_type, octets, encode(sha256, 'hex') AS sha256, created_by, created_at
  FROM document
 WHERE removed_at IS NULL AND ($1::int IS NULL OR tenant_id = $1) AND id > $2 ORDER BY id LIMIT $3
"""


async def page(
    tx: db.Tx, tenant_id: TenantId | None, *, after: int = 0, limit: int = PAGE_MAX
) -> Sequence[DocumentRow]:
    """List a tenant's documents (None: everybody's) behind the id `after`."""
    return [_row(row) for row in await tx.fetch(PAGE_SQL, tenant_id, after, min(limit, PAGE_MAX))]


SOME_SQL: LiteralString = """
SELECT id, tenant_id, kind, name, content_type, octets, encode(sha256, 'hex') AS sha256, created_by, created_at
  FROM document
 WHERE removed_at IS NULL AND ($1::int IS NULL OR tenant_id = $1) AND id = ANY($2::int[]) ORDER BY id
"""


async def some(tx: db.Tx, tenant_id: TenantId | None, ids: Collection[int]) -> Sequence[DocumentRow]:
    """Return those of these documents that the tenant (None: anybody) has."""
    return [_row(row) for row in await tx.fetch(SOME_SQL, tenant_id, sorted(set(ids)))]


# Who rests something on a document holds it until that is committed; remove() waits, and then sees it.
HOLD_SQL: LiteralString = """
SELECT id FROM document WHERE tenant_id = $1 AND id = ANY($2::int[]) AND removed_at IS NULL ORDER BY id FOR SHARE
"""


async def demand_own(tx: db.Tx, tenant_id: TenantId, ids: Collection[int]) -> Sequence[DocumentRow]:
    """Return these documents, held until the transaction ends. Raises Refusal where one of them is not the tenant's."""
    await tx.execute(HOLD_SQL, tenant_id, sorted(set(ids)))
    found = await some(tx, tenant_id, ids)
    missing = sorted(set(ids) - {row.id for row in found})
    demand(not missing, "document_ids", f"there is no document {', '.join(map(str, missing))}")
    return found


async def get(tx: db.Tx, tenant_id: TenantId | None, document_id: int) -> DocumentRow:
    """Return one document. Raises Refusal where the tenant (None: anybody) has none of this id."""
    found = await some(tx, tenant_id, [document_id])
    return demand_found(found[0] if found else None, document=document_id)


def _row(row: db.Row) -> DocumentRow:
    return DocumentRow(**{**dict(row), "kind": DocumentKind(row["kind"])})


SEALED_SQL: LiteralString = "SELECT sealed FROM document WHERE id = $1 AND tenant_id = $2"


async def read(tx: db.Tx, vault: Vault, document: DocumentRow) -> bytes:
    """Return a document's octets. Raises Refusal where the tenant's key was shredded."""
    sealed = demand_found(
        await tx.fetchval(SEALED_SQL, document.id, document.tenant_id), document=document.id
    )
    try:
        return vault.unseal(document.tenant_id, sealed)
    except VaultError:
        raise Refusal(
            Code.REQUEST_NOT_FOUND, document=document.id, reason="it cannot be opened any more"
        ) from None


TAKE_SQL: LiteralString = "SELECT id FROM document WHERE id = $1 AND tenant_id = $2 FOR UPDATE"
# A row stays, so that what was decided on the strength of it can be told; its octets do not.
REMOVE_SQL: LiteralString = """
UPDATE document SET sealed = NULL, removed_at = now()
 WHERE id = $1 AND tenant_id = $2 AND removed_at IS NULL
   AND NOT EXISTS (SELECT FROM qualification q WHERE q.tenant_id = $2 AND $1 = ANY(q.document_ids)
                      AND q.state IN ('reviewing', 'approved'))
   AND NOT EXISTS (SELECT FROM signature s WHERE s.tenant_id = $2 AND $1 = ANY(s.document_ids)
                      AND s.state IN ('reviewing', 'approved'))
   AND NOT EXISTS (SELECT FROM filing f WHERE f.document_id = $1)
RETURNING id
"""


async def remove(tx: db.Tx, tenant_id: TenantId, document_id: int) -> None:
    """Forget a document. Raises Refusal where a qualification or signature that counts rests on it."""
    await tx.execute(TAKE_SQL, document_id, tenant_id)
    await get(tx, tenant_id, document_id)
    if await tx.fetchval(REMOVE_SQL, document_id, tenant_id) is None:
        raise Refusal(
            Code.REQUEST_CONFLICT,
            document=document_id,
            reason="something under review or approved rests on it",
        )
