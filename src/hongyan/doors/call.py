"""One call of the management API: who asks, for which tenant, in which transaction.

Entry points: Caller, Call. A file of a noun (management/) has functions of a Call; http.py opens the transaction, asks
whether the caller may, records the change in the audit, commits, and tells every process.
"""

import re
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec

from hongyan import db
from hongyan.control import audit
from hongyan.control.permissions import Permission, Role
from hongyan.doors import exchange
from hongyan.doors.exchange import Asked
from hongyan.doors.question import read_query
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way.snapshot import Key

if TYPE_CHECKING:
    from hongyan.doors.door import Door

T = TypeVar("T", bound=msgspec.Struct)
INT_MAX = 2**31 - 1  # of our ids
_NUL = re.compile(rb"\x00|(?<!\\)(?:\\\\)*\\u0000")


@cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


class Caller(msgspec.Struct, frozen=True):
    """Whoever asks: a program by its app key, or a person by a sign-in or a token of theirs."""

    name: str  # as the audit has it: key:hy_…, user:7 mail@example.com
    tenant_id: TenantId | None  # none: the platform's
    permissions: frozenset[Permission]
    key: Key | None = None
    user_id: int = 0
    sign_in_id: int = 0  # 0: not at the console
    role: Role | None = None

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    @property
    def tenant(self) -> TenantId:
        """The one tenant a route of reach TENANT or APP is about."""
        assert self.tenant_id is not None, "the reach of this route is not TENANT"
        return self.tenant_id

    @property
    def app_key(self) -> Key:
        assert self.key is not None, "the reach of this route is not APP"
        return self.key


class Call:
    """What a management function works with."""

    def __init__(
        self,
        door: "Door",
        caller: Caller | None,
        asked: Asked,
        path: Mapping[str, str],
        tenant_id: TenantId | None,
        address: str,
        action: str,
        chunks: AsyncIterator[bytes] | None = None,
    ) -> None:
        self.door = door
        self.asked = asked
        self.path = path
        self.address = address  # of the person or program, by trusted proxies
        self.cookies: list[str] = []  # Set-Cookie of the answer
        self._caller = caller
        self._tenant_id = tenant_id
        self._action = action
        self._tx: db.Tx | None = None
        self._chunks = chunks
        self._subject = ""
        self._detail: dict[str, object] = {}

    @property
    def tx(self) -> db.Tx:
        """The transaction, committed once the function returned."""
        assert self._tx is not None, "this route opens its own transactions"
        return self._tx

    def within(self, tx: db.Tx) -> None:
        """Be in this transaction from now on."""
        self._tx = tx

    @property
    def caller(self) -> Caller:
        assert self._caller is not None, "this route asks for no credentials"
        return self._caller

    @property
    def tenant_id(self) -> TenantId | None:
        """Whose things this is about; None: everybody's (only people of the platform, only where the reach is ANY)."""
        return self._tenant_id

    @property
    def tenant(self) -> TenantId:
        """The one tenant this is about (reach TENANT)."""
        assert self._tenant_id is not None, "the reach of this route is not TENANT"
        return self._tenant_id

    def body(self, kind: type[T]) -> T:
        """Read the JSON body. Raises the refusal that says what is wrong and where."""
        if _NUL.search(self.asked.body):  # PostgreSQL's text cannot hold it
            raise Refusal(Code.REQUEST_INVALID_PARAMETER, reason="a NUL character")
        read: T = exchange.read(self.asked.body, _decoder(kind))
        return read

    def query(self, kind: type[T]) -> T:
        """Read the query string; `tenant_id` is gone from it. Raises the refusal that names the parameter."""
        return read_query(self.asked.query, kind)

    def number(self, name: str = "id") -> int:
        """Return an id of the path that counts. What is no number is nobody's id: Refusal, not found."""
        written = self.path[name]
        if not (written.isascii() and written.isdigit()) or int(written[:20]) > INT_MAX:
            raise Refusal(Code.REQUEST_NOT_FOUND, parameter=name, reason=f"{written[:40]!r} is no id")
        return int(written)

    def uuid(self, name: str = "id") -> UUID:
        try:
            return UUID(self.path[name])
        except ValueError:
            raise Refusal(
                Code.REQUEST_NOT_FOUND, parameter=name, reason=f"{self.path[name][:40]!r} is no UUID"
            ) from None

    def chunks(self) -> AsyncIterator[bytes]:
        """The body of a route that takes a file, as it comes."""
        assert self._chunks is not None, "this route takes no file"
        return self._chunks

    def note(self, subject: str, **detail: object) -> None:
        """Say for the audit what was changed ('template:5') and how. Never a secret; numbers masked."""
        self._subject = subject
        self._detail |= detail

    async def record(self, tx: db.Tx) -> None:
        """Write what was done into the audit. http.py does, but for routes with transactions of their own."""
        await audit.record(
            tx,
            actor="nobody" if self._caller is None else self._caller.name,
            action=self._action,
            subject=self._subject,
            tenant_id=self._tenant_id,
            address=self.address,
            request_id=self.asked.request_id,
            detail=self._detail,
        )


def detail_of(value: Any) -> Any:
    """Return a Struct as plain JSON values, for note()."""
    return msgspec.to_builtins(value)
