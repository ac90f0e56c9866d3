"""Route rules, and what would become of a message by them.

Entry points: ROUTES. A dry run stores nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import dry_runs, routes
from hongyan.control.dry_runs import DryRun
from hongyan.control.permissions import Permission
from hongyan.control.routes import RouteRuleRow
from hongyan.doors.call import INT_MAX, Call, detail_of
from hongyan.doors.management.paging import given
from hongyan.doors.messages import Params
from hongyan.doors.route import BODY, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.vocab.message import ChannelId, Purpose, TenantId

Channel = Annotated[int, Meta(ge=1, le=INT_MAX)]
Tenant = Annotated[int, Meta(ge=1, le=INT_MAX, description="null: every tenant")]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2; null: everywhere")]
Operator = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=40,
        description="cmcc, unicom, telecom, broadnet; ported: left one of them for one we do not know; null: every one",
    ),
]
Priority = Annotated[
    int, Meta(ge=0, le=routes.PRIORITY_MAX, description="Lower is tried first; equal ones share the load.")
]
Weight = Annotated[int, Meta(ge=0, le=routes.WEIGHT_MAX, description="Share among equals; 0: none.")]
Short = Annotated[str, Meta(max_length=64)]


class AskedRouteRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule to add; what is left out fits everything."""

    channel_id: Channel
    priority: Priority = 100
    weight: Weight = 1
    tenant_id: Tenant | None = None
    country: Country | None = None
    operator: Operator | None = None
    purpose: Purpose | None = None
    active: bool = True


class AskedRouteRuleChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change; what is left out stays, and null opens a condition."""

    channel_id: Channel | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    tenant_id: Tenant | UnsetType | None = UNSET
    country: Country | UnsetType | None = UNSET
    operator: Operator | UnsetType | None = UNSET
    purpose: Purpose | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET


Group = Annotated[
    list[Annotated[int, Meta(ge=1, le=INT_MAX)]], Meta(min_length=1, max_length=routes.RULES_MAX)
]


class AskedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All rules by their ids: groups in the order they are tried; rules of one group share the load."""

    groups: Annotated[list[Group], Meta(max_length=routes.RULES_MAX)]


class AskedDryRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which message. A template, a text or a purpose is enough; samples stand for the rest."""

    tenant_id: Annotated[int, Meta(ge=1, le=INT_MAX)]
    to: Annotated[str, Meta(min_length=1, max_length=32)]
    template: Short = ""
    params: Params | None = None
    text: Annotated[str, Meta(max_length=2_000)] = ""
    purpose: Purpose | None = None
    signature: Short = ""
    language: Annotated[str, Meta(max_length=35)] = ""
    sandbox: bool = False
    at: Annotated[datetime, Meta(tz=True)] | None = None


class RouteRules(msgspec.Struct, frozen=True):
    """All rules in the order they are asked; those that rest as well."""

    items: list[RouteRuleRow]


class RouteRuleRemoved(msgspec.Struct, frozen=True):
    """What is gone."""

    id: int


async def listed(call: Call) -> RouteRules:
    """List all rules."""
    return RouteRules(list(await routes.every(call.tx)))


async def get(call: Call) -> RouteRuleRow:
    """Return one rule."""
    return await routes.one(call.tx, call.number())


async def create(call: Call) -> RouteRuleRow:
    """Add a rule."""
    values: dict[str, Any] = given(call.body(AskedRouteRule))
    rule_id = await routes.add(call.tx, ChannelId(values.pop("channel_id")), **values)
    row = await routes.one(call.tx, rule_id)
    call.note(f"rule:{rule_id}", **detail_of(row))
    return row


async def change(call: Call) -> RouteRuleRow:
    """Change a rule."""
    rule_id = call.number()
    different = await routes.change(call.tx, rule_id, given(call.body(AskedRouteRuleChange)))
    call.note(f"rule:{rule_id}", **different)
    return await routes.one(call.tx, rule_id)


async def remove(call: Call) -> RouteRuleRemoved:
    """Take a rule away for good."""
    rule_id = call.number()
    row = await routes.one(call.tx, rule_id)
    await routes.remove(call.tx, rule_id)
    call.note(f"rule:{rule_id}", **detail_of(row))
    return RouteRuleRemoved(rule_id)


async def reorder(call: Call) -> RouteRules:
    """Put all rules in another order."""
    asked = call.body(AskedOrder)
    await routes.reorder(call.tx, asked.groups)
    call.note("rules", groups=asked.groups)
    return await listed(call)


async def dry_run(call: Call) -> DryRun:
    """Say what would become of a message."""
    asked = call.body(AskedDryRun)
    values = {name: getattr(asked, name) for name in asked.__struct_fields__}
    question = dry_runs.Question(**values | {"tenant_id": TenantId(asked.tenant_id)})
    door = call.door
    made = await dry_runs.dry_run(call.tx, door.snapshots.current, door.vault, door.settings, question)
    call.note(f"tenant:{asked.tenant_id}", to=made.number, verdict=made.verdict, chosen=made.chosen)
    return made


_READ: Final[dict[str, Any]] = {
    "reach": Reach.PLATFORM,
    "permission": Permission.ROUTES_READ,
    "ids": "integer",
}
_WRITE: Final[dict[str, Any]] = {
    "reach": Reach.PLATFORM,
    "permission": Permission.ROUTES_WRITE,
    "ids": "integer",
}

ROUTES: Final[Sequence[Route]] = (
    Route(
        method="GET", path="/v1/routes", name="listRoutes", summary="List route rules in the order they are asked.",
        gives=RouteRules, manages=listed, **_READ,
    ),
    Route(
        method="POST", path="/v1/routes", name="createRoute",
        summary="Let messages go by a channel; what is left out fits everything.",
        body=AskedRouteRule, example={"channel_id": 1, "country": "CN", "operator": "cmcc", "priority": 10}, gives=RouteRuleRow,
        status=201, codes=BODY, manages=create, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/routes/reorder", name="reorderRoutes",
        summary="Order all rules anew, in groups that share the load.",
        body=AskedOrder, example={"groups": [[3], [1, 2]]}, gives=RouteRules, codes=(*BODY, Code.REQUEST_CONFLICT),
        manages=reorder, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/routes/dry-run", name="dryRunRoute",
        summary="What would become of a message: rules, channel, reasons, price. Nothing is stored or sent.",
        body=AskedDryRun, example={"tenant_id": 1, "to": "+8613800138000", "template": "order"}, gives=DryRun,
        codes=(*BODY, Code.NUMBER_INVALID), manages=dry_run, changes=False, recorded=False, **_READ,
    ),
    Route(
        method="GET", path="/v1/routes/{id}", name="getRoute", summary="One route rule.", gives=RouteRuleRow, manages=get, **_READ,
    ),
    Route(
        method="PATCH", path="/v1/routes/{id}", name="changeRoute",
        summary="Change a route rule; null opens a condition, active: false lets it rest.",
        body=AskedRouteRuleChange, example={"weight": 2}, gives=RouteRuleRow, codes=BODY, manages=change, **_WRITE,
    ),
    Route(
        method="DELETE", path="/v1/routes/{id}", name="removeRoute", summary="Take a route rule away for good.",
        gives=RouteRuleRemoved, manages=remove, **_WRITE,
    ),
)  # fmt: skip
