"""What one operation of the API is: what it takes and gives, how it may refuse, and who may ask for it.

Entry point: Route. The table of them all is routes.py; each file of a noun of the management API (management/) lists
its own as ROUTES.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from hongyan.control.permissions import Permission
from hongyan.doors.call import Call, Caller
from hongyan.doors.exchange import Asked, Then
from hongyan.vocab.errors import Code

if TYPE_CHECKING:
    from hongyan.doors.door import Door

Tell = Callable[
    ["Door", Caller, Asked, Mapping[str, str]], Awaitable[object]
]  # gives the envelope's data, or raises
Manage = Callable[[Call], Awaitable[object]]  # the same, in the call's transaction
Answers = Callable[["Door", Asked, Then], None]

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
# What a person may be refused besides: the sign-in, the tenant that was named.
PEOPLE: Final = (
    Code.AUTH_SIGN_IN_ENDED,
    Code.REQUEST_MISSING_PARAMETER,
    Code.REQUEST_INVALID_PARAMETER,
    Code.REQUEST_NOT_FOUND,
)
# What any management route may refuse besides: its query, its path.
MANAGED: Final = (Code.REQUEST_INVALID_PARAMETER, Code.REQUEST_NOT_FOUND)
FILE_OCTETS_MAX: Final = 500_000_000  # of a route that takes a file: 1,000,000 rows with their parameters


class Reach(StrEnum):
    """Whose things a route is about, and so who may reach it at all. Permissions say the rest."""

    ANYONE = "anyone"  # asks no credentials: sign-up, sign-in
    SELF = "self"  # people only, about themselves
    APP = "app"  # app keys only, about their app
    TENANT = (
        "tenant"  # one tenant: the caller's own, or the one that people of the platform name by ?tenant_id=
    )
    ANY = "any"  # the caller's tenant; people of the platform see all of them, or the one they name by ?tenant_id=
    PLATFORM = "platform"  # people of the platform only
    PAGE = "page"  # pages of a site key's origins, by the key in the path; deeds.py lists theirs, widget.py answers


class File(msgspec.Struct, frozen=True):
    """An answer that is a file and not JSON. `chunks` opens its own transactions."""

    name: str
    content_type: str
    chunks: Any  # AsyncIterator[bytes]


Chunks = AsyncIterator[bytes]


async def _always() -> None:
    pass


class Events(msgspec.Struct, frozen=True):
    """An answer that goes on: a Struct an event, for as long as `demand_still` does not refuse (events.py)."""

    events: (
        Any  # AsyncGenerator[Struct, None]; it opens its own transactions, and none of them while it waits
    )
    caller: str = ""  # answering.py knows this and the next
    demand_still: Callable[[], Awaitable[None]] = _always


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation. Exactly one of `answers` (by callback, the hot ones), `tells` and `manages` is given; of pages none."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str  # with {id} where an id stands
    name: str  # operationId
    summary: str
    gives: Any  # what stands under "data": a Struct, or File
    reach: Reach
    permission: Permission | None  # none: whoever the reach lets in
    status: int = 200
    query: type[msgspec.Struct] | None = None
    body: Any = None  # a Struct or a union of them
    example: Mapping[str, object] | None = None  # of a body
    codes: tuple[Code, ...] = ()  # beyond EVERYWHERE and, for a management route, MANAGED
    line_codes: tuple[Code, ...] = ()  # in the lines of a batch
    idempotent: bool = False  # takes an Idempotency-Key
    ids: Literal["uuid", "integer", "text"] = "uuid"  # what stands in the path's braces
    changes: bool = True  # another method than GET: tell every process to take the change up
    recorded: bool = True  # False: a question that is a POST only for its length; the audit leaves it out
    file: bool = False  # the body is a file, read by Call.chunks(); its content types are in `file_kinds`
    file_kinds: tuple[str, ...] = ()
    events: bool = False  # `gives` is an event of a stream, and `manages` returns Events
    own_transactions: bool = False  # Call.tx is closed: the work opens transactions itself and records itself
    answers: Answers | None = None
    tells: Tell | None = None
    manages: Manage | None = None
