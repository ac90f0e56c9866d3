"""The guard against SMS pumping: prefixes and countries under it, what it withheld and saved, and who is let by.

Entry points: ROUTES. Settings of it (windows, budgets, monitoring) are part of a tenant's policy for codes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan import clock
from hongyan.control.bounds import demand
from hongyan.control.permissions import Permission
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management.consents import Moment
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.otp import meter, wards, withheld
from hongyan.otp.meter import LONGER, STRICT, Strictness
from hongyan.otp.pumping import Country, Prefix
from hongyan.otp.ward import ALARM, CURVE, P0_MAX, P1, CurvePoint
from hongyan.otp.wards import WardKey, WardRow
from hongyan.otp.withheld import KEEP_DAYS, LINES_MAX, LossStatement
from hongyan.vocab.errors import Code, Refusal

WardPrefix = Annotated[
    str,
    Meta(
        max_length=15,
        pattern=r"^(\+[1-9][0-9]+)?$",
        description="E.164 without its last four digits; empty: the country",
    ),
]
CountryOrAll = Annotated[str, Meta(pattern="^([A-Z]{2})?$", description="ISO 3166; empty: all")]


class AskedWards(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which wards."""

    country: CountryOrAll = ""
    turned: Annotated[bool, Meta(description="Only those that are alarmed or paused.")] = False
    cursor: Annotated[
        str, Meta(max_length=40, description="`next` of the page before; none: the first page.")
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=wards.PAGE_MAX, description="Rows of a page.")] = 100


class WardPage(msgspec.Struct, frozen=True):
    """By tenant, country and prefix."""

    items: Sequence[WardRow]
    next: str | None = None


class AskedWithheld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From which hour, to which (not included), at most 92 days; left out: the last 24 hours."""

    since: Moment | None = msgspec.field(name="from", default=None)
    until: Moment | None = msgspec.field(name="to", default=None)
    country: CountryOrAll = ""
    prefix: WardPrefix = ""
    limit: Annotated[int, Meta(ge=1, le=LINES_MAX, description="Lines, the dearest first.")] = 100


class AskedRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to open again."""

    country: Country
    prefix: WardPrefix = ""
    baseline: Annotated[
        Annotated[float, Meta(gt=0.0, le=1.0)] | None,
        Meta(
            description="The share of codes that is verified there honestly; it is held to that from now on."
        ),
    ] = None


class AskedPrefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers that begin so."""

    prefix: Prefix


class AllowedPrefixes(msgspec.Struct, frozen=True):
    """Numbers that begin so are let by; budgets hold all the same. Those of policies come on top."""

    prefixes: Sequence[str]


class Guessing(msgspec.Struct, frozen=True, kw_only=True):
    """The meter of a tenant: how often guessing its codes would have hit in the last 24 hours, in expectation."""

    expected_hits: float
    level: Annotated[
        str,
        Meta(
            description="calm, longer (codes of 8 digits, or fewer tries and a challenge), strict (checks too need a challenge)"
        ),
    ]
    longer_at: float
    strict_at: float


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """What the detector does with a ward used to `baseline`, by the share that is verified: of 3,000 codes each."""

    baseline: float
    attack: float
    alarm_at: float
    points: Sequence[CurvePoint]


async def listed(call: Call) -> WardPage:
    """List wards."""
    asked = call.query(AskedWards)
    rows = await wards.page(
        call.tx,
        call.tenant_id,
        after=_after(asked.cursor, call.tenant_id),
        country=asked.country,
        turned=asked.turned,
        limit=asked.limit,
    )
    full = len(rows) == asked.limit
    return WardPage(rows, f"{rows[-1].tenant_id}.{rows[-1].country}.{rows[-1].prefix}" if full else None)


def _after(cursor: str, tenant_id: int | None) -> WardKey | None:
    if not cursor:
        return None
    tenant, _, rest = cursor.partition(".")
    country, dot, prefix = rest.partition(".")
    sound = tenant.isascii() and tenant.isdigit() and int(tenant) <= INT_MAX and dot
    if not sound or (tenant_id is not None and int(tenant) != tenant_id):
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="cursor", reason="as `next` of an answer has it"
        )
    return WardKey(int(tenant), country, prefix)


async def log(call: Call) -> LossStatement:
    """Say what was withheld, and what that saved."""
    asked = call.query(AskedWithheld)
    until = asked.until or clock.now() + timedelta(hours=1)
    since = asked.since or until - timedelta(days=1)
    demand(
        since < until <= since + timedelta(days=KEEP_DAYS),
        "from",
        f"before `to`, by {KEEP_DAYS} days at most",
    )
    return await withheld.statement(
        call.tx,
        call.tenant,
        _hour(since),
        until,
        country=asked.country,
        prefix=asked.prefix,
        limit=asked.limit,
    )


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


async def release(call: Call) -> WardRow:
    """Open a prefix or a country again."""
    asked = call.body(AskedRelease)
    row = await wards.release(
        call.tx, call.tenant, asked.country, asked.prefix, asked.baseline, clock.now_s()
    )
    call.note(f"ward:{asked.country}{asked.prefix}", baseline=asked.baseline)
    return row


async def allowed(call: Call) -> AllowedPrefixes:
    """List prefixes that are let by."""
    return AllowedPrefixes(await wards.allowed(call.tx, call.tenant))


async def allow(call: Call) -> AllowedPrefixes:
    """Let a prefix by."""
    prefix = call.body(AskedPrefix).prefix
    call.note(f"ward:{prefix}", allowed=True)
    return AllowedPrefixes(await wards.allow(call.tx, call.tenant, prefix, clock.now_s()))


async def disallow(call: Call) -> AllowedPrefixes:
    """Let it by no more."""
    prefix = call.body(AskedPrefix).prefix
    call.note(f"ward:{prefix}", allowed=False)
    return AllowedPrefixes(await wards.disallow(call.tx, call.tenant, prefix, clock.now_s()))


async def guessing(call: Call) -> Guessing:
    """Read the meter."""
    hits = (await meter.hits(call.tx, [call.tenant], clock.now_s())).get(call.tenant, 0.0)
    level: Strictness = meter.strictness(hits)
    return Guessing(expected_hits=hits, level=level.name.lower(), longer_at=LONGER, strict_at=STRICT)


async def curve(_call: Call) -> Curve:
    """Show what the detector does."""
    return Curve(baseline=P0_MAX, attack=P1, alarm_at=round(ALARM, 3), points=CURVE)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/pumping/wards",
        name="listWards",
        summary="List the prefixes and countries that codes were sent to: windows, evidence, who is alarmed or paused.",
        reach=Reach.ANY,
        permission=Permission.STATISTICS_READ,
        query=AskedWards,
        gives=WardPage,
        codes=QUERY,
        manages=listed,
    ),
    Route(
        method="POST",
        path="/v1/pumping/wards/release",
        name="releaseWard",
        summary="Open a prefix or a country again, and perhaps say which share of codes is verified there honestly.",
        reach=Reach.TENANT,
        permission=Permission.APPS_WRITE,
        body=AskedRelease,
        example={"country": "SL", "prefix": "+23276123", "baseline": 0.45},
        gives=WardRow,
        codes=(*BODY, Code.REQUEST_NOT_FOUND),
        changes=False,
        manages=release,
    ),
    Route(
        method="GET",
        path="/v1/pumping/withheld",
        name="getWithheld",
        summary="Say what was challenged or refused, why, what it would have cost, and how many honest people it met.",
        reach=Reach.TENANT,
        permission=Permission.STATISTICS_READ,
        query=AskedWithheld,
        gives=LossStatement,
        codes=QUERY,
        manages=log,
    ),
    Route(
        method="GET",
        path="/v1/pumping/allowed",
        name="listAllowedPrefixes",
        summary="List the prefixes whose numbers are let by.",
        reach=Reach.TENANT,
        permission=Permission.APPS_READ,
        gives=AllowedPrefixes,
        manages=allowed,
    ),
    Route(
        method="POST",
        path="/v1/pumping/allowed",
        name="allowPrefix",
        summary="Let numbers by that begin with a prefix; budgets hold all the same.",
        reach=Reach.TENANT,
        permission=Permission.APPS_WRITE,
        body=AskedPrefix,
        example={"prefix": "+23276"},
        gives=AllowedPrefixes,
        codes=BODY,
        changes=False,
        manages=allow,
    ),
    Route(
        method="POST",
        path="/v1/pumping/allowed/remove",
        name="disallowPrefix",
        summary="Let numbers by no more that begin with a prefix.",
        reach=Reach.TENANT,
        permission=Permission.APPS_WRITE,
        body=AskedPrefix,
        example={"prefix": "+23276"},
        gives=AllowedPrefixes,
        codes=(*BODY, Code.REQUEST_NOT_FOUND),
        changes=False,
        manages=disallow,
    ),
    Route(
        method="GET",
        path="/v1/pumping/guessing",
        name="getGuessing",
        summary="Read the meter of guesses: how often guessing codes would have hit in 24 hours, and what follows.",
        reach=Reach.TENANT,
        permission=Permission.STATISTICS_READ,
        gives=Guessing,
        manages=guessing,
    ),
    Route(
        method="GET",
        path="/v1/pumping/curve",
        name="getPumpingCurve",
        summary="Show the operating curve of the detector: how soon it alarms, and how often in vain.",
        reach=Reach.ANY,
        permission=Permission.STATISTICS_READ,
        gives=Curve,
        manages=curve,
    ),
)
