"""Alarms and their rules: the platform's for its people, a tenant's for its own.

Entry points: ROUTES. People of the platform see every tenant's too; what they make without ?tenant_id= is the platform's.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import alarms, readings
from hongyan.control.alarms import AlarmRow, AlarmRuleRow
from hongyan.control.permissions import Permission
from hongyan.control.readings import KINDS, WatchKind
from hongyan.doors.call import Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, Reach, Route

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Threshold = Annotated[float, Meta(ge=-1e18, le=1e18, description="in the unit of the kind")]
Window = Annotated[int, Meta(ge=60, le=readings.WINDOW_S_MAX, description="over which rates are counted")]
Volume = Annotated[int, Meta(ge=0, le=1_000_000_000, description="with fewer messages nothing is said")]
For = Annotated[int, Meta(ge=0, le=3_600, description="it must stay so, for so long")]
Repeat = Annotated[int, Meta(ge=600, le=604_800, description="told again while nobody has seen it")]
Emails = Annotated[
    list[Annotated[str, Meta(min_length=3, max_length=alarms.EMAIL_CHARACTERS_MAX)]],
    Meta(max_length=alarms.EMAILS_MAX),
]


class AskedAlarmRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to watch, from where on it is amiss, and whom to tell."""

    kind: WatchKind
    name: Name
    threshold: Threshold
    window_s: Window = 600
    volume_min: Volume = 0
    for_s: For = 60
    repeat_s: Repeat = 14_400
    emails: Emails = []
    webhook_url: Annotated[str, Meta(max_length=2_000)] = ""


class AskedAlarmRuleChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a rule is to change; what is left out stays."""

    name: Name | UnsetType = UNSET
    threshold: Threshold | UnsetType = UNSET
    window_s: Window | UnsetType = UNSET
    volume_min: Volume | UnsetType = UNSET
    for_s: For | UnsetType = UNSET
    repeat_s: Repeat | UnsetType = UNSET
    emails: Emails | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class AlarmRuleMade(msgspec.Struct, frozen=True):
    """A rule that was made. `secret` signs the POSTs of its webhook and is shown once."""

    rule: AlarmRuleRow
    secret: str | None


class AlarmRules(msgspec.Struct, frozen=True):
    """A page of rules."""

    items: Sequence[AlarmRuleRow]
    next: str | None = None


class AlarmKind(msgspec.Struct, frozen=True):
    """Something a rule can watch."""

    kind: WatchKind
    below: bool  # amiss where the value is below the threshold, else where it is above
    tenants: bool  # tenants may have rules of it
    unit: str  # share, s, d, micro, or empty: a count
    zh: str
    en: str


class AlarmKinds(msgspec.Struct, frozen=True):
    """All that can be watched."""

    items: Sequence[AlarmKind]


class AskedAlarms(paging.Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which alarms."""

    open: bool = False  # those that have not recovered


class AlarmPage(msgspec.Struct, frozen=True):
    """A page of alarms, the newest first."""

    items: Sequence[AlarmRow]
    next: str | None = None


class AlarmRuleRemoved(msgspec.Struct, frozen=True):
    """What was removed."""

    id: int


async def kinds(_call: Call) -> AlarmKinds:
    """List what can be watched."""
    return AlarmKinds([AlarmKind(kind, *row) for kind, row in KINDS.items()])


async def rules(call: Call) -> AlarmRules:
    """List rules."""
    asked = call.query(paging.Asked)
    rows = await alarms.rules(call.tx, call.tenant_id, after=paging.after(asked), limit=asked.limit)
    return AlarmRules(rows, paging.following(rows, asked))


async def create(call: Call) -> AlarmRuleMade:
    """Make a rule."""
    asked = call.body(AskedAlarmRule)
    made = await alarms.create_rule(
        call.tx, call.door.vault, call.door.settings, call.tenant_id, **msgspec.structs.asdict(asked)
    )
    call.note(f"alarm-rule:{made.rule.id}", **msgspec.structs.asdict(asked))
    return AlarmRuleMade(made.rule, made.secret.reveal().decode() if made.secret else None)


async def change(call: Call) -> AlarmRuleRow:
    """Change a rule."""
    changes = paging.given(call.body(AskedAlarmRuleChange))
    changed = await alarms.change_rule(call.tx, call.number(), call.tenant_id, changes)
    call.note(f"alarm-rule:{changed.id}", **changes)
    return changed


async def remove(call: Call) -> AlarmRuleRemoved:
    """Remove a rule."""
    await alarms.remove_rule(call.tx, call.number(), call.tenant_id)
    call.note(f"alarm-rule:{call.number()}")
    return AlarmRuleRemoved(call.number())


async def listed(call: Call) -> AlarmPage:
    """List alarms."""
    asked = call.query(AskedAlarms)
    rows = await alarms.page(
        call.tx, call.tenant_id, before=paging.before(asked), open_=asked.open, limit=asked.limit
    )
    return AlarmPage(rows, paging.following(rows, asked))


async def see(call: Call) -> AlarmRow:
    """Say that somebody looks after an alarm."""
    seen = await alarms.see(call.tx, call.number(), call.tenant_id, call.caller.name)
    call.note(f"alarm:{seen.id}")
    return seen


_RULE: Final = {
    "kind": "delivery_rate",
    "name": "Few arrive",
    "threshold": 0.8,
    "window_s": 600,
    "volume_min": 100,
    "emails": ["ops@example.com"],
}
ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/alarm-kinds",
        name="listAlarmKinds",
        summary="List what can be watched.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_READ,
        gives=AlarmKinds,
        manages=kinds,
    ),
    Route(
        method="GET",
        path="/v1/alarm-rules",
        name="listAlarmRules",
        summary="List the rules of alarms.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_READ,
        query=paging.Asked,
        gives=AlarmRules,
        manages=rules,
    ),
    Route(
        method="POST",
        path="/v1/alarm-rules",
        name="createAlarmRule",
        summary="Watch something.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_WRITE,
        status=201,
        body=AskedAlarmRule,
        example=_RULE,
        gives=AlarmRuleMade,
        codes=BODY,
        changes=False,
        manages=create,
    ),
    Route(
        method="PATCH",
        path="/v1/alarm-rules/{id}",
        name="changeAlarmRule",
        summary="Change a rule; kind and webhook stay as they are.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_WRITE,
        body=AskedAlarmRuleChange,
        example={"threshold": 0.9},
        gives=AlarmRuleRow,
        codes=BODY,
        ids="integer",
        changes=False,
        manages=change,
    ),
    Route(
        method="DELETE",
        path="/v1/alarm-rules/{id}",
        name="removeAlarmRule",
        summary="Watch it no more, and forget its alarms.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_WRITE,
        gives=AlarmRuleRemoved,
        ids="integer",
        changes=False,
        manages=remove,
    ),
    Route(
        method="GET",
        path="/v1/alarms",
        name="listAlarms",
        summary="List what is or was amiss, the newest first.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_READ,
        query=AskedAlarms,
        gives=AlarmPage,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/alarms/{id}/see",
        name="seeAlarm",
        summary="Say that somebody looks after it: it is not told again until it has recovered.",
        reach=Reach.ANY,
        permission=Permission.ALARMS_WRITE,
        gives=AlarmRow,
        ids="integer",
        changes=False,
        manages=see,
    ),
)
