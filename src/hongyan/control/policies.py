"""What the operator of the platform decides once: who may sign up, what people have to look at, and how many of them.

Writes: platform_policy. Entry points: read(), change(). What was never decided goes by the defaults of Policies.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, LiteralString

import msgspec
from msgspec import Meta

from hongyan import db

AutomaticRule = Literal["signature", "template.otp", "template.transactional", "template.promotional"]
FourEyesKind = Literal["qualification", "signature", "template", "complaint"]
RULES_MAX: Final = 16


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """Every policy with its default."""

    sign_up: Literal["open", "closed"] = "closed"
    review_automatic: Annotated[
        list[AutomaticRule], Meta(max_length=RULES_MAX, description="Approved at once: nobody looks.")
    ] = []
    four_eyes: Annotated[
        list[FourEyesKind], Meta(max_length=RULES_MAX, description="Two people have to approve.")
    ] = []


READ_SQL: LiteralString = "SELECT name, value FROM platform_policy"


async def read(tx: db.Tx) -> Policies:
    """Return what is decided. A row that this version does not know, or whose value it cannot read, is passed over."""
    rows = {row["name"]: row["value"] for row in await tx.fetch(READ_SQL)}
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(Policies):
        if field.name in rows:
            try:
                found[field.name] = msgspec.json.decode(rows[field.name], type=field.type)
            except msgspec.DecodeError:
                continue
    return Policies(**found)


WRITE_SQL: LiteralString = """
INSERT INTO platform_policy (name, value, changed_by) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value, changed_by = EXCLUDED.changed_by, changed_at = now()
"""


async def change(tx: db.Tx, given: Mapping[str, object], *, who: str) -> Policies:
    """Decide what is given, by names of Policies; the rest stays."""
    known = msgspec.convert(given, Policies)  # a wrong value ends here, whoever asked
    for name in given:
        value = msgspec.json.encode(getattr(known, name)).decode()
        await tx.execute(WRITE_SQL, name, value, who)
    return await read(tx)
