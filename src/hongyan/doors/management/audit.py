"""The audit, for people to look at: what was changed, by whom, from where."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control import audit
from hongyan.control.audit import AuditRow
from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.route import QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal

Word = Annotated[str, Meta(min_length=1, max_length=audit.SUBJECT_CHARACTERS_MAX)]
Moment = Annotated[datetime, Meta(tz=True)]


class AskedAudit(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}
):
    """Which records; all that is said must hold."""

    actor: Annotated[Word, Meta(description="As user:7 mail@example.com, key:hy_… or cli:root.")] | None = (
        None
    )
    action: Annotated[Word, Meta(description="The operation, as createKey.")] | None = None
    subject: Annotated[Word, Meta(description="What was changed, as template:5.")] | None = None
    since: Annotated[Moment, Meta(description="From this moment on.")] | None = None
    until: Annotated[Moment, Meta(description="Before this moment.")] | None = None
    cursor: Annotated[str, Meta(max_length=20, description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=audit.PAGE_MAX)] = 100


class AuditPage(msgspec.Struct, frozen=True):
    """Some records: fewer than asked for, or none, where `next` says that there are more to look at."""

    items: list[AuditRow]
    next: str | None = None


async def listed(call: Call) -> AuditPage:
    asked = call.query(AskedAudit)
    wanted = audit.Filter(
        tenant_id=call.tenant_id,
        actor=asked.actor,
        action=asked.action,
        subject=asked.subject,
        since=asked.since,
        until=asked.until,
        before=_before(asked.cursor),
    )
    found = await audit.listed(call.tx, wanted, asked.limit)
    return AuditPage(list(found.rows), None if found.before is None else str(found.before))


def _before(cursor: str) -> int | None:
    if not cursor:
        return None
    if not (cursor.isascii() and cursor.isdigit()) or int(cursor) > audit.SEQ_MAX:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="cursor", reason="as `next` of an answer has it"
        )
    return int(cursor)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/audit",
        name="listAudit",
        summary="List what was changed, the newest first. People of a tenant see what concerns their tenant.",
        reach=Reach.ANY,
        permission=Permission.AUDIT_READ,
        query=AskedAudit,
        gives=AuditPage,
        codes=QUERY,
        manages=listed,
    ),
)
