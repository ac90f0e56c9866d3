"""The table of the public API: every route, what it takes, what it gives, how it may refuse.

The router (http.py) and the OpenAPI document (openapi.py) are both made from ROUTES, so neither can say what
the other does not. A new route is one entry here and one function in the file of its noun.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from hongyan.doors import inbound, messages, reports, search, statistics
from hongyan.doors.door import Door
from hongyan.doors.exchange import Asked, Then
from hongyan.vocab.errors import Code
from hongyan.way import lookup, measure, owing
from hongyan.way.snapshot import Key

Tell = Callable[
    [Door, Key, Asked, Mapping[str, str]], Awaitable[object]
]  # gives the envelope's data, or raises
Answers = Callable[[Door, Asked, Then], None]

# What any authenticated route may refuse.
EVERYWHERE: Final = (
    Code.AUTH_MISSING,
    Code.AUTH_KEY_NOT_FOUND,
    Code.AUTH_SIGNATURE_MISMATCH,
    Code.AUTH_EXPIRED,
    Code.AUTH_NONCE_USED,
    Code.AUTH_IP_DENIED,
    Code.AUTH_PERMISSION_DENIED,
    Code.ACCOUNT_SUSPENDED,
    Code.REQUEST_RATE_LIMITED,
    Code.SYSTEM_ERROR,
    Code.SYSTEM_BUSY,
)
QUERY: Final = (Code.REQUEST_INVALID_PARAMETER,)
BODY: Final = (
    Code.REQUEST_MISSING_PARAMETER,
    Code.REQUEST_INVALID_PARAMETER,
    Code.REQUEST_MALFORMED_JSON,
    Code.REQUEST_TOO_LARGE,
)
# What may be wrong with one message: the answer of a single one, a line of a batch.
MESSAGE: Final = (
    Code.ACCOUNT_BALANCE_INSUFFICIENT,
    Code.NUMBER_INVALID,
    Code.NUMBER_REGION_NOT_ALLOWED,
    Code.NUMBER_BLOCKED,
    Code.NUMBER_OPTED_OUT,
    Code.NUMBER_TYPE_MISMATCH,
    Code.NUMBER_TEST_ONLY,
    Code.SIGN_NOT_FOUND,
    Code.SIGN_NOT_APPROVED,
    Code.SIGN_SCENE_MISMATCH,
    Code.TEMPLATE_NOT_FOUND,
    Code.TEMPLATE_NOT_APPROVED,
    Code.TEMPLATE_MISSING_VARIABLE,
    Code.TEMPLATE_VARIABLE_INVALID,
    Code.TEMPLATE_VARIABLE_TOO_LONG,
    Code.TEMPLATE_VARIABLE_URL,
    Code.CONTENT_TOO_LONG,
    Code.CONTENT_MISSING_UNSUBSCRIBE,
    Code.CONTENT_SEND_WINDOW,
    Code.LIMIT_MINUTE,
    Code.LIMIT_HOUR,
    Code.LIMIT_DAY,
    Code.LIMIT_SAME_CONTENT,
    Code.ROUTE_NONE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation. Exactly one of `answers` (by callback, the hot ones) and `tells` is given."""

    method: Literal["GET", "POST"]
    path: str  # with {id} where an id stands
    name: str  # operationId
    summary: str
    gives: type[msgspec.Struct]  # what stands under "data"
    status: int = 200
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    example: Mapping[str, object] | None = None  # of a body
    codes: tuple[Code, ...] = ()  # beyond EVERYWHERE
    line_codes: tuple[Code, ...] = ()  # in the lines of a batch
    idempotent: bool = False  # takes an Idempotency-Key
    answers: Answers | None = None
    tells: Tell | None = None


MESSAGE_EXAMPLE: Final = {
    "to": "+8613800138000",
    "signature": "鸿雁",
    "template": "order",
    "params": {"order": "20250001", "day": "明天"},
    "reference": "order-20250001",
}

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/messages",
        name="sendMessage",
        summary="Send one message. 202 says that it is stored durably and will be tried.",
        body=messages.AskedMessage,
        example=MESSAGE_EXAMPLE,
        gives=messages.Promised,
        status=202,
        codes=(*BODY, Code.REQUEST_IDEMPOTENCY_CONFLICT, *MESSAGE),
        idempotent=True,
        answers=messages.one,
    ),
    Route(
        method="POST",
        path="/v1/messages/batch",
        name="sendBatch",
        summary="Send up to 1,000 messages with an outcome each; some may be accepted and others refused.",
        body=messages.AskedBatch,
        example={"messages": [MESSAGE_EXAMPLE, MESSAGE_EXAMPLE | {"to": "+8613800138001"}]},
        gives=messages.BatchPromised,
        codes=(*BODY, Code.REQUEST_TOO_MANY_RECIPIENTS, Code.REQUEST_IDEMPOTENCY_CONFLICT),
        line_codes=(
            Code.AUTH_PERMISSION_DENIED,
            Code.REQUEST_MISSING_PARAMETER,
            Code.REQUEST_INVALID_PARAMETER,
            *MESSAGE,
        ),
        idempotent=True,
        answers=messages.batch,
    ),
    Route(
        method="GET",
        path="/v1/messages/{id}",
        name="getMessage",
        summary="Look up one message: every attempt and why things went as they did.",
        gives=lookup.Story,
        codes=(Code.REQUEST_INVALID_PARAMETER, Code.REQUEST_NOT_FOUND),
        tells=search.find,
    ),
    Route(
        method="GET",
        path="/v1/messages",
        name="searchMessages",
        summary="Search messages, the newest first; `cursor` of one answer continues in the next.",
        query=search.AskedSearch,
        gives=lookup.Page,
        codes=(*QUERY, Code.NUMBER_INVALID),
        tells=search.search,
    ),
    Route(
        method="POST",
        path="/v1/messages/{id}/cancel",
        name="cancelMessage",
        summary="Take a message back that has not left yet; what it cost is refunded.",
        gives=search.Cancelled,
        codes=(Code.REQUEST_INVALID_PARAMETER, Code.REQUEST_NOT_FOUND, Code.REQUEST_TOO_LATE),
        tells=search.cancel,
    ),
    Route(
        method="GET",
        path="/v1/reports",
        name="pullReports",
        summary="Pull what a webhook would be posted: final statuses, corrections and inbound messages.",
        query=reports.AskedReports,
        gives=owing.Pulled,
        codes=QUERY,
        tells=reports.pull,
    ),
    Route(
        method="POST",
        path="/v1/reports/acknowledge",
        name="acknowledgeReports",
        summary="Acknowledge a pull: its events are never given out again.",
        body=reports.AskedAcknowledge,
        example={"cursor": "7e94aa64f87d4cf5b7e323e6a407f63a.1.2"},
        gives=reports.Acknowledged,
        codes=BODY,
        tells=reports.acknowledge,
    ),
    Route(
        method="GET",
        path="/v1/inbound",
        name="listInbound",
        summary="List what people texted back, the newest first.",
        query=inbound.AskedInbound,
        gives=lookup.Letters,
        codes=QUERY,
        tells=inbound.listed,
    ),
    Route(
        method="GET",
        path="/v1/statistics",
        name="getStatistics",
        summary="Count messages by hour or day and by what they have in common.",
        query=statistics.AskedStatistics,
        gives=measure.Table,
        codes=QUERY,
        tells=statistics.count,
    ),
    Route(
        method="GET",
        path="/v1/balance",
        name="getBalance",
        summary="The prepaid balance.",
        gives=statistics.Balance,
        tells=statistics.balance,
    ),
)
