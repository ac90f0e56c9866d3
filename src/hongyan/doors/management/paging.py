"""What lists of the management API have in common: a page, and where the next one begins; and what a change leaves alone.

Writes nothing. Entry points: Asked, after(), before(), following(), given().
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta

from hongyan.doors.call import INT_MAX
from hongyan.vocab.errors import Code, Refusal

LIMIT_MAX: Final = 500
BIGGEST: Final = 2**63 - 1  # of PostgreSQL's bigint


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of a list whose rows have rising ids."""

    cursor: Annotated[
        str, Meta(max_length=20, description="`next` of the page before; none: the first page.")
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Rows of a page.")] = 100


def after(asked: Asked) -> int:
    """Return the id behind which a page begins. Raises Refusal for a cursor that is none of ours."""
    return _number(asked.cursor, INT_MAX) if asked.cursor else 0


def before(asked: Asked) -> int:
    """Return the id below which a page of a list begins that has the newest first. Raises Refusal as after() does."""
    return _number(asked.cursor, BIGGEST) if asked.cursor else BIGGEST


def _number(cursor: str, most: int) -> int:
    if not (cursor.isascii() and cursor.isdigit()) or int(cursor) > most:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="cursor", reason="as `next` of an answer has it"
        )
    return int(cursor)


def following(rows: Sequence[Any], asked: Asked, id_: str = "id") -> str | None:
    """Return the cursor of the next page; None where this one was not full."""
    return str(getattr(rows[-1], id_)) if len(rows) == asked.limit else None


def given(body: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a change that were given: UNSET leaves what is there."""
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET}
