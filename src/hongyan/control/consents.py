"""Consents as their tenant manages them: recording with evidence, taking back, looking up, and who has none.

Writes: consent (through consent), suppression (through optout). Entry points: record_many(), withdraw(), about(),
page(); lacking() for whoever sends to a list. A consent alone lifts no opt-out: the person said stop, and a form that
came from elsewhere does not unsay it; START does, or whoever removes the opt-out and gives a reason.
Whether a tenant's promotional messages need a consent on record (tenant.consent_demanded) is asked where a list is
sent, which leaves people out with that reason; the statement that accepts single messages does not ask.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import msgspec

from hongyan import clock, db
from hongyan.control.bounds import demand, demand_text
from hongyan.observe import masked_number
from hongyan.vault import Vault
from hongyan.vocab import phone
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way import consent, optout
from hongyan.way.consent import ALL, PROMOTIONAL, ConsentWord, Proof, Said, Standing
from hongyan.way.optout import Suppressed

ROWS_MAX: Final = 1_000  # of one call
HISTORY_MAX: Final = 500  # words of one person that are told
EVIDENCE_OCTETS_MAX: Final = 4_096  # as JSON
TEXT_CHARACTERS_MAX: Final = 2_000
AHEAD_MAX: Final = timedelta(minutes=5)  # another clock may be ahead of ours
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)  # the first short message was sent in 1992
SHA256: Final = re.compile(r"[0-9a-f]{64}")
SCOPE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,31}|\*")
SOURCE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


class Consented(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a person as a tenant hands it in, with what shows that it was said."""

    number: str
    scope: str = PROMOTIONAL
    source: str = "api"
    at: datetime | None = None  # none: now
    text_version: str = ""
    text: str = ""
    address: str = ""
    page_sha256: str = ""
    screenshot_sha256: str = ""
    evidence: Mapping[str, Any] = {}


class ConsentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a person as the tenant sees it in a list: the number masked, or null once erased."""

    id: int
    number: str | None
    index: str
    given: bool
    scope: str
    source: str
    text_version: str
    at: datetime
    recorded_at: datetime


class ConsentAbout(msgspec.Struct, frozen=True, kw_only=True):
    """What one person said to a tenant: what holds now, and every word with its evidence, the newest first."""

    number: str
    standing: Sequence[Standing]
    opted_out: bool  # of this tenant or the whole platform; then a consent changes nothing
    words: Sequence[ConsentWord]


def index_of(vault: Vault, number: str) -> tuple[str, bytes]:
    """Read a number; returns it in E.164 with its index. Raises Refusal."""
    try:
        # In a query string '+' is a space, and few callers know.
        e164 = phone.parse(f"+{number[1:]}" if number.startswith(" ") else number).e164
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from None
    return e164, vault.phone_index(e164)


async def record_many(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, rows: Sequence[Consented]
) -> Sequence[int | Refusal]:
    """Keep consents with their evidence; returns for each its id or why it was not kept. At most ROWS_MAX rows."""
    return await _append(tx, vault, tenant_id, rows, given=True)


async def withdraw(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, rows: Sequence[Consented]
) -> tuple[Sequence[int | Refusal], Collection[Suppressed]]:
    """Keep that persons took their consent back; where promotions were meant, they are opted out as well.

    Returns as record_many() does, and whom to tell the gateways of (optout.tell()) after the commit.
    """
    outcomes = await _append(tx, vault, tenant_id, rows, given=False)
    stopped = [
        Suppressed(index_of(vault, row.number)[1], tenant_id, f"withdrawn: {row.source}")
        for row, outcome in zip(rows, outcomes, strict=True)
        if not isinstance(outcome, Refusal) and row.scope in (PROMOTIONAL, ALL)
    ]
    await optout.stop(tx, stopped)
    return outcomes, stopped


async def _append(
    tx: db.Tx, vault: Vault, tenant_id: TenantId, rows: Sequence[Consented], *, given: bool
) -> Sequence[int | Refusal]:
    demand(len(rows) <= ROWS_MAX, "items", f"at most {ROWS_MAX} at once")
    read: list[Said | Refusal] = []
    for row in rows:
        try:
            read.append(_said(vault, tenant_id, row, given=given))
        except Refusal as refusal:
            read.append(refusal)
    ids = iter(await consent.append(tx, vault, [one for one in read if isinstance(one, Said)]))
    return [one if isinstance(one, Refusal) else next(ids) for one in read]


def _said(vault: Vault, tenant_id: TenantId, row: Consented, *, given: bool) -> Said:
    number, phone_index = index_of(vault, row.number)
    _demand_sound(row)
    return Said(
        tenant_id=tenant_id,
        phone_index=phone_index,
        given=given,
        scope=row.scope,
        source=row.source,
        at=row.at or clock.now(),
        text_version=row.text_version,
        proof=Proof(
            number=number,
            text=row.text,
            address=row.address,
            page_sha256=row.page_sha256,
            screenshot_sha256=row.screenshot_sha256,
            evidence=dict(row.evidence),
        ),
    )


def _demand_sound(row: Consented) -> None:
    demand(SCOPE.fullmatch(row.scope) is not None, "scope", "a word of a-z 0-9 _ . -, or * for everything")
    sound = SOURCE.fullmatch(row.source) is not None and row.source != consent.INBOUND
    demand(sound, "source", "a word of a-z 0-9 _ . -; inbound is ours to say")
    if row.at is not None:
        demand_past(row.at, "at")
    demand_text(row.text_version, "text_version", 64)
    demand_text(row.text, "text", TEXT_CHARACTERS_MAX)
    demand_text(row.address, "address", 45)
    for name in ("page_sha256", "screenshot_sha256"):
        value = getattr(row, name)
        demand(not value or SHA256.fullmatch(value) is not None, name, "64 hex digits in lower case")
    octets = len(msgspec.json.encode(row.evidence))
    demand(octets <= EVIDENCE_OCTETS_MAX, "evidence", f"at most {EVIDENCE_OCTETS_MAX} octets of JSON")
    try:
        msgspec.msgpack.encode(row.evidence)
    except OverflowError:
        demand(False, "evidence", "integers of at most 64 bits")


def demand_past(at: datetime, parameter: str) -> None:
    """Ask of a moment that somebody may have lived it. Raises Refusal."""
    demand(at.tzinfo is not None, parameter, "say the offset, as in +08:00 or Z")
    sound = EARLIEST <= at <= clock.now() + AHEAD_MAX
    demand(sound, parameter, f"from {EARLIEST:%Y} on, and not in the future")


async def lacking(
    tx: db.Tx, tenant_id: TenantId, phone_indexes: Collection[bytes], scope: str = PROMOTIONAL
) -> frozenset[bytes]:
    """Return those of these persons of whom a tenant has no consent that stands, or who took it back."""
    return await consent.lacking(tx, tenant_id, phone_indexes, scope)


DEMANDED_SQL: LiteralString = "SELECT consent_demanded FROM tenant WHERE id = $1"


async def demanded(tx: db.Tx, tenant_id: TenantId) -> bool:
    """Say whether promotional messages of a tenant need a consent on record."""
    return bool(await tx.fetchval(DEMANDED_SQL, tenant_id))


async def about(tx: db.Tx, vault: Vault, tenant_id: TenantId, number: str) -> ConsentAbout:
    """Tell what one person said to a tenant. Raises Refusal for what is no number."""
    e164, phone_index = index_of(vault, number)
    kept = await optout.about(tx, (optout.PLATFORM, tenant_id), phone_index)
    return ConsentAbout(
        number=masked_number(e164),
        standing=await consent.standing(tx, tenant_id, phone_index),
        opted_out=any(entry.kind == optout.OPT_OUT for _, entry in kept),
        words=[
            _masked(word) for word in await consent.history(tx, vault, tenant_id, phone_index, HISTORY_MAX)
        ],
    )


def _masked(word: ConsentWord) -> ConsentWord:
    if word.proof is None:
        return word
    proof = msgspec.structs.replace(word.proof, number=masked_number(word.proof.number))
    return msgspec.structs.replace(word, proof=proof)


async def page(tx: db.Tx, vault: Vault, tenant_id: TenantId, before: int, limit: int) -> Sequence[ConsentRow]:
    """List what persons said to a tenant, the newest first, from below an id."""
    return [_row(word) for word in await consent.page(tx, vault, tenant_id, before, limit)]


def _row(word: ConsentWord) -> ConsentRow:
    return ConsentRow(
        id=word.id,
        number=None if word.proof is None else masked_number(word.proof.number),
        index=word.index,
        given=word.given,
        scope=word.scope,
        source=word.source,
        text_version=word.text_version,
        at=word.at,
        recorded_at=word.recorded_at,
    )
