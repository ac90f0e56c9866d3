"""A document is what its octets say from end to end, sealed, the tenant's own, and kept while something rests on it."""

import asyncio
import time

import msgspec
import pytest

import make
from hongyan import db
from hongyan.control import documents, pictures, qualifications, tenants
from hongyan.control.documents import DocumentKind
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId

from . import files
from .conftest import Office
from .enterprise import DRAFT, hand_in


async def test_a_document_comes_back_as_it_was_stored_and_stands_sealed(office: Office) -> None:
    async with office.database.transaction() as tx:
        row = await documents.store(
            tx,
            office.vault,
            office.tenant_id,
            DocumentKind.LICENCE,
            "营业执照.PDF",
            files.PDF,
            by="user:1 a@b.c",
        )
        assert (row.name, row.content_type, row.octets) == ("营业执照.pdf", "application/pdf", len(files.PDF))
        assert await documents.read(tx, office.vault, row) == files.PDF
        assert b"Catalog" not in await tx.fetchval("SELECT sealed FROM document")
        assert await documents.page(tx, office.tenant_id) == [row]


@pytest.mark.parametrize(
    ("octets", "kind"),
    [(files.PDF, "application/pdf"), (files.png(), "image/png"), (files.jpeg(), "image/jpeg")],
    ids=["pdf", "png", "jpeg"],
)
def test_what_a_file_is_its_octets_say(octets: bytes, kind: str) -> None:
    assert documents.type_of(octets) == kind


NOT_TAKEN = {
    "nothing": b"",
    "words": b"hello",
    "a page": b"<html><script>alert(1)</script>",
    "a program": b"MZ\x90\x00" + bytes(100),
    "an archive": b"PK\x03\x04" + bytes(100),
    "a gif": b"GIF89a" + bytes(100),
    "a drawing with scripts": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a header alone": b"%PDF-1.4\n",
    "no version": b"%PDF-x\n%%EOF",
    "something behind a pdf": files.PDF + b"<html>",
    "an archive behind a pdf": files.PDF + b"PK\x05\x06" + bytes(18),
    "a pdf with scripts": files.PDF.replace(b"/Catalog", b"/Catalog/OpenAction<</S/JavaScript/JS(x)>>"),
    "the same in other letters": files.PDF.replace(b"/Catalog", b"/Catalog/Java#53cript(x)"),
    "a pdf that starts programs": files.PDF.replace(b"/Catalog", b"/Catalog/Launch(x)"),
    "a pdf with files": files.PDF.replace(b"/Catalog", b"/Catalog/EmbeddedFile(x)"),
    "something behind a png": files.png(trailing=b"PK\x03\x04"),
    "a png that is cut off": files.png()[:-1],
    "a png of huge sides": files.png(width=pictures.SIDE_MAX + 1),
    "a png with a page in it": files.png().replace(
        files.chunk(b"IEND", b""), files.chunk(b"tEXt", b"a\x00<script>") + files.chunk(b"IEND", b"")
    ),
    "a png whose checksum is wrong": files.png().replace(b"IDAT", b"IDAt"),
    "something behind a jpeg": files.jpeg(trailing=b"<?php system($_GET[0]);"),
    "a jpeg that is cut off": files.jpeg()[:-2],
    "a jpeg without a picture": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    "a jpeg with an archive in its pixels": files.jpeg(coded=b"PK\x05\x06" + bytes(18)),
}


@pytest.mark.parametrize("octets", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_what_is_something_else_or_something_besides_is_not_taken(octets: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        documents.type_of(octets)
    assert refused.value.code is Code.REQUEST_UNSUPPORTED_FILE


async def test_a_file_that_is_too_big_is_not_taken(office: Office) -> None:
    octets = files.jpeg(coded=bytes(documents.OCTETS_MAX))
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await documents.store(
                tx, office.vault, office.tenant_id, DocumentKind.OTHER, "a.jpg", octets, by=""
            )
    assert refused.value.code is Code.REQUEST_TOO_LARGE


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("licence.pdf", "licence.pdf"),
        ("licence.PNG", "licence.pdf"),
        ("licence.pdf.exe", "licence.pdf.exe.pdf"),
        (".htaccess", "htaccess.pdf"),
        ("CON", "_CON.pdf"),
        ('a"b<c>;d', "a_b_c__d.pdf"),
        ("执照 2026", "执照 2026.pdf"),
        ("x" * 150, "x" * 96 + ".pdf"),
        (".pdf", "document.pdf"),
    ],
)
def test_a_name_becomes_harmless(name: str, stored: str) -> None:
    assert documents.harmless(name, "application/pdf") == stored


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "a/b.pdf", "a\\b.pdf", "a\x00.pdf", "a\u202efdp.exe", " "]
)
def test_a_name_that_points_somewhere_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        documents.harmless(name, "application/pdf")
    assert refused.value.detail["parameter"] == "name"


async def test_a_tenant_has_so_many_documents_and_no_more(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "DOCUMENTS_MAX", 1)
    async with office.database.transaction() as tx:
        row = await store(tx, office, office.tenant_id)
        with pytest.raises(Refusal) as refused:
            await store(tx, office, office.tenant_id)
        await documents.remove(tx, office.tenant_id, row.id)
        await store(tx, office, office.tenant_id)
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_another_tenants_document_is_not_found(office: Office) -> None:
    async with office.database.transaction() as tx:
        other = await tenants.create(tx, office.vault, make.MASTER, "Peony")
        row = await store(tx, office, other)
        for asked in (
            documents.get(tx, office.tenant_id, row.id),
            documents.remove(tx, office.tenant_id, row.id),
            documents.demand_own(tx, office.tenant_id, [row.id]),
        ):
            with pytest.raises(Refusal):
                await asked
        assert (await documents.get(tx, None, row.id)).id == row.id


async def test_what_something_rests_on_is_not_removed(office: Office) -> None:
    async with office.database.transaction() as tx:
        await hand_in(tx, office)
        (first, _) = await documents.page(tx, office.tenant_id)
        with pytest.raises(Refusal) as refused:
            await documents.remove(tx, office.tenant_id, first.id)
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_what_is_removed_is_gone_but_for_what_it_was(office: Office) -> None:
    async with office.database.transaction() as tx:
        row = await store(tx, office, office.tenant_id)
        await documents.remove(tx, office.tenant_id, row.id)
        assert await documents.page(tx, office.tenant_id) == []
        assert await tx.fetchval("SELECT sealed FROM document WHERE name = 'a.png'") is None
        with pytest.raises(Refusal):
            await documents.get(tx, office.tenant_id, row.id)


async def store(tx: db.Tx, office: Office, tenant_id: TenantId) -> documents.DocumentRow:
    return await documents.store(
        tx, office.vault, tenant_id, DocumentKind.OTHER, "a.png", files.png(), by="user:1"
    )


async def test_what_is_being_handed_in_at_this_moment_is_not_removed(office: Office) -> None:
    async with office.database.transaction() as tx:
        ids = [
            (await documents.store(tx, office.vault, office.tenant_id, kind, "a.png", files.png(), by="x")).id
            for kind in (documents.DocumentKind.LICENCE, documents.DocumentKind.PERSON_ID)
        ]
        draft = msgspec.structs.replace(DRAFT, document_ids=ids)
        await qualifications.put(tx, office.vault, office.tenant_id, draft, who="x")

    async def forget() -> None:
        async with office.database.transaction() as tx:
            await documents.remove(tx, office.tenant_id, ids[0])

    async with office.database.transaction() as tx:
        await qualifications.submit(tx, office.tenant_id, who="x")
        late = asyncio.create_task(forget())
        async with asyncio.timeout(10):
            while not late.done() and not await office.database.fetch(
                "SELECT 1 FROM pg_locks WHERE NOT granted"
            ):
                await asyncio.sleep(0)
    with pytest.raises(Refusal) as refused:
        await late
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_a_file_full_of_escapes_is_looked_through_in_a_moment() -> None:
    began_s = time.process_time()
    with pytest.raises(Refusal):
        documents.type_of(b"%PDF-1.7\n" + b"#41" * 1_600_000 + b"/#4aS %%EOF")
    assert time.process_time() - began_s < 0.3


@pytest.mark.parametrize(
    "name", [b"/JavaScript", b"/#4aavaScript", b"/J#53", b"/#4A#53", b"/Embedded#46iles"]
)
def test_a_pdf_that_does_something_is_refused_however_its_names_are_written(name: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        documents.type_of(b"%PDF-1.7\n1 0 obj <<" + name + b" 2 0 R>> endobj\n%%EOF")
    assert "scripts" in str(refused.value.detail["reason"])
