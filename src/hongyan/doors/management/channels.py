"""Channels: accounts at operators and providers, how they fare, and whether one lets us in.

Entry points: ROUTES. Secrets never leave: they are shown as ***, and *** given back keeps what is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType
from yarl import URL

from hongyan.channels import kinds
from hongyan.control import standings, trials, upstreams
from hongyan.control.bounds import demand
from hongyan.control.permissions import Permission
from hongyan.control.standings import ChannelStanding
from hongyan.control.trials import Trial
from hongyan.control.upstreams import ChannelRow, ReportParts
from hongyan.doors import upstream
from hongyan.doors.call import Call
from hongyan.doors.management.paging import given
from hongyan.doors.route import BODY, QUERY, Reach, Route
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId
from hongyan.way import state, watch

TRACE_S_MAX: Final = 10.0
TRACE_PDUS_MAX: Final = 2_000

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Settings = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Any],
    Meta(max_length=200, description="The kind's own; GET /v1/channel-kinds/{id} describes them."),
]
PartsPerS = Annotated[
    int,
    Meta(ge=0, le=upstreams.PARTS_PER_S_MAX, description="The rate agreed; 0: as fast as the window allows."),
]
SessionCount = Annotated[
    int, Meta(ge=1, le=upstreams.SESSIONS_MAX, description="Connections over all gateways.")
]
AccessNumber = Annotated[
    str,
    Meta(
        max_length=upstreams.ACCESS_NUMBER_CHARACTERS_MAX,
        description="The sender that extensions are appended to.",
    ),
]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", description="Of the cost, ISO 4217.")]
Cost = Annotated[
    int,
    Meta(
        ge=0, le=upstreams.COST_MICRO_MAX, description="What the upstream charges for a part, in millionths."
    ),
]
Reason = Annotated[str, Meta(max_length=200, description="Why; the audit keeps it.")]
ExtensionDigits = Annotated[
    int,
    Meta(
        ge=0,
        le=upstreams.EXTENSION_DIGITS_MAX,
        description="Of the extensions that signatures get here; 0: by hand only.",
    ),
]


class AskedChannel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A channel to add."""

    name: Name
    kind: Annotated[str, Meta(min_length=1, max_length=32)]
    settings: Settings
    parts_per_s: PartsPerS = 0
    sessions: SessionCount = 1
    access_number: AccessNumber = ""
    report_parts: ReportParts = "every"
    currency: Currency = "CNY"
    cost_micro: Cost = 0
    filing_demanded: bool = False
    extension_digits: ExtensionDigits = 0


class AskedChannelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change; what is left out stays. `settings` stand in place of all there are."""

    name: Name | UnsetType = UNSET
    settings: Settings | UnsetType = UNSET
    parts_per_s: PartsPerS | UnsetType = UNSET
    sessions: SessionCount | UnsetType = UNSET
    access_number: AccessNumber | UnsetType = UNSET
    report_parts: ReportParts | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    cost_micro: Cost | UnsetType = UNSET
    filing_demanded: bool | UnsetType = UNSET
    extension_digits: ExtensionDigits | UnsetType = UNSET


class AskedTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings to try out that no channel has yet."""

    kind: Annotated[str, Meta(min_length=1, max_length=32)]
    settings: Settings


class AskedChannelTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Try out a channel's settings, or others in their place. `although_in`: also where its sessions are all held."""

    settings: Settings | None = None
    although_in: bool = False


class AskedPause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, for whoever finds it so; the audit keeps it."""

    reason: Reason = ""


class AskedDrain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long reports are waited for at most, and why it is drained."""

    wait_s: Annotated[int, Meta(ge=1, le=upstreams.DRAIN_WAIT_S_MAX)] = 600
    reason: Reason = ""


class AskedTrace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long to look."""

    seconds: Annotated[float, Meta(ge=0.1, le=TRACE_S_MAX)] = 3.0


class AskedPushUrl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the provider reaches our door."""

    base: Annotated[
        str, Meta(max_length=200, description="As https://sms.example.com; empty: the path alone.")
    ] = ""


class ListedChannel(msgspec.Struct, frozen=True):
    """A channel in a list."""

    channel: ChannelRow
    standing: ChannelStanding


class Channels(msgspec.Struct, frozen=True):
    """All channels, the oldest first."""

    items: list[ListedChannel]


class WholeChannel(msgspec.Struct, frozen=True):
    """A channel with its settings; secrets are ***."""

    channel: ChannelRow
    standing: ChannelStanding
    settings: dict[str, Any]


class ChannelState(msgspec.Struct, frozen=True):
    """How a channel fares: over all gateways, and at each."""

    channel: ChannelRow
    standing: ChannelStanding
    gateways: list[state.AtGateway]


class RemovedChannel(msgspec.Struct, frozen=True):
    """What is gone."""

    id: int


class TracedPdu(msgspec.Struct, frozen=True):
    """One PDU that passed; numbers, texts and secrets are masked."""

    at: datetime
    gateway: int
    session: int
    sent: bool  # by us
    octets: int
    text: str
    left_out: int  # so many before it were too many to tell


class ChannelTrace(msgspec.Struct, frozen=True):
    """What a channel's sessions said and heard."""

    seconds: float
    items: list[TracedPdu]
    truncated: bool  # more passed than an answer holds


class PushUrl(msgspec.Struct, frozen=True):
    """Where a provider is to push reports and texts to. A secret: not every provider signs."""

    path: str
    url: str | None


class ChannelKindRow(msgspec.Struct, frozen=True):
    """A kind of channel."""

    kind: str
    sessions: bool  # it holds sessions, which can be traced
    templates: bool  # it may want to know which template a text was made of
    pushes: bool  # its upstream calls us by HTTP


class ChannelKinds(msgspec.Struct, frozen=True):
    """All kinds there are."""

    items: list[ChannelKindRow]


class WholeChannelKind(msgspec.Struct, frozen=True):
    """A kind with its form: a JSON Schema (2020-12) of its settings; secrets are marked writeOnly."""

    kind: ChannelKindRow
    form: dict[str, Any] = msgspec.field(name="schema")


# ---- channels


@contextmanager
def _settings_refused() -> Iterator[None]:
    """Turn settings that do not build into a refusal that names the field."""
    try:
        yield
    except kinds.BadSettings as error:
        parameter = f"settings.{error.setting}" if error.setting else "settings"
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter=parameter, reason=str(error)[:300]) from error


async def listed(call: Call) -> Channels:
    """List all channels with how they stand."""
    told = await state.every(call.tx)
    rows = await upstreams.every(call.tx)
    return Channels([ListedChannel(row, standings.standing_of(row, told.get(row.id, ()))) for row in rows])


async def get(call: Call) -> WholeChannel:
    """Return one channel with its settings."""
    return await _whole(call, ChannelId(call.number()))


async def _whole(call: Call, channel_id: ChannelId) -> WholeChannel:
    row = await upstreams.one(call.tx, channel_id)
    kind, settings = await upstreams.settings_of(call.tx, call.door.vault, channel_id)
    standing = standings.standing_of(row, await state.of(call.tx, channel_id))
    return WholeChannel(row, standing, kinds.hide(kind, settings))


async def create(call: Call) -> WholeChannel:
    """Add a channel."""
    asked = call.body(AskedChannel)
    with _settings_refused():
        channel_id = await upstreams.add_channel(call.tx, call.door.vault, **given(asked))
    call.note(f"channel:{channel_id}", name=asked.name, kind=asked.kind, settings=sorted(asked.settings))
    return await _whole(call, channel_id)


async def change(call: Call) -> WholeChannel:
    """Change a channel."""
    channel_id = ChannelId(call.number())
    with _settings_refused():
        different = await upstreams.change(
            call.tx, call.door.vault, channel_id, given(call.body(AskedChannelChange))
        )
    call.note(f"channel:{channel_id}", **different)
    return await _whole(call, channel_id)


async def remove(call: Call) -> RemovedChannel:
    """Take a channel out of use for good."""
    channel_id = ChannelId(call.number())
    row = await upstreams.one(call.tx, channel_id)
    await upstreams.remove(call.tx, channel_id)
    call.note(f"channel:{channel_id}", name=row.name)
    return RemovedChannel(channel_id)


async def pause(call: Call) -> ListedChannel:
    """Submit nothing more there."""
    channel_id = ChannelId(call.number())
    asked = call.body(AskedPause) if call.asked.body else AskedPause()  # it had no body before
    await upstreams.pause(call.tx, channel_id)
    return await _after(call, channel_id, **_why(asked.reason))


async def resume(call: Call) -> ListedChannel:
    """Submit there again."""
    channel_id = ChannelId(call.number())
    await upstreams.resume(call.tx, channel_id)
    return await _after(call, channel_id)


async def drain(call: Call) -> ListedChannel:
    """Submit nothing more there, wait for reports, log out."""
    channel_id, asked = ChannelId(call.number()), call.body(AskedDrain)
    await upstreams.drain(call.tx, channel_id, asked.wait_s)
    return await _after(call, channel_id, wait_s=asked.wait_s, **_why(asked.reason))


def _why(reason: str) -> Mapping[str, str]:
    return {"reason": reason} if reason else {}


async def _after(call: Call, channel_id: ChannelId, **detail: object) -> ListedChannel:
    row = await upstreams.one(call.tx, channel_id)
    call.note(f"channel:{channel_id}", name=row.name, **detail)
    return ListedChannel(row, standings.standing_of(row, await state.of(call.tx, channel_id)))


# ---- looking


async def fares(call: Call) -> ChannelState:
    """Say how a channel fares."""
    channel_id = ChannelId(call.number())
    row = await upstreams.one(call.tx, channel_id)
    told = await state.of(call.tx, channel_id)
    return ChannelState(row, standings.standing_of(row, told), list(told))


async def trace(call: Call) -> ChannelTrace:
    """Look at what passes for some seconds."""
    channel_id, asked = ChannelId(call.number()), call.query(AskedTrace)
    async with call.door.database.transaction() as tx:
        row = await upstreams.one(tx, channel_id)
    if not kinds.has_sessions(row.kind):
        raise Refusal(
            Code.REQUEST_CONFLICT, reason=f"a channel of kind {row.kind} has no sessions to look at"
        )
    seen: list[watch.Line] = []
    await watch.look(
        call.door.database,
        channel_id,
        asked.seconds,
        lambda line: seen.append(line) if len(seen) <= TRACE_PDUS_MAX else None,
    )
    items = [
        TracedPdu(
            datetime.fromtimestamp(line.at_s).astimezone(), line.gateway, line.session, line.sent, line.octets,
            line.text, line.left_out,
        )
        for line in seen[:TRACE_PDUS_MAX]
    ]  # fmt: skip
    return ChannelTrace(asked.seconds, items, len(seen) > TRACE_PDUS_MAX)


# ---- trials


async def try_settings(call: Call) -> Trial:
    """Try settings out that no channel has yet."""
    asked = call.body(AskedTrial)
    return await _try(call, f"kind:{asked.kind}", asked.kind, asked.settings, {})


async def try_channel(call: Call) -> Trial:
    """Try a channel's settings out, or others in their place."""
    channel_id, asked = ChannelId(call.number()), call.body(AskedChannelTrial)
    async with call.door.database.transaction() as tx:
        row = await upstreams.one(tx, channel_id)
        kind, stored = await upstreams.settings_of(tx, call.door.vault, channel_id)
        told = await state.of(tx, channel_id)
    held = sum(one.told.sessions_up for one in told if not one.stale)
    if asked.settings is None and not asked.although_in and kinds.has_sessions(kind) and held >= row.sessions:
        words = f"gateways hold all {held} session(s); a further one may be refused, or end one of these"
        return Trial(trials.TrialVerdict.LOGGED_IN, (), words)
    wanted = stored if asked.settings is None else asked.settings
    return await _try(call, f"channel:{channel_id}", kind, wanted, stored)


async def _try(
    call: Call, subject: str, kind: str, wanted: Mapping[str, object], stored: Mapping[str, object]
) -> Trial:
    """Try settings out while no transaction is open, then write down that somebody did."""
    with _settings_refused():
        whole = kinds.restore(kind, wanted, stored)
        made = await trials.attempt(kind, whole, call.door.settings)
    call.note(subject, verdict=made.verdict.value)
    async with call.door.database.transaction() as tx:
        await call.record(tx)
    return made


# ---- pushes


async def push_url(call: Call) -> PushUrl:
    """Return where a provider is to push to."""
    channel_id, asked = ChannelId(call.number()), call.query(AskedPushUrl)
    row = await upstreams.one(call.tx, channel_id)
    if not kinds.takes_templates(row.kind):
        raise Refusal(Code.REQUEST_CONFLICT, reason=f"nobody pushes to a channel of kind {row.kind}")
    if "/" in row.name:
        raise Refusal(Code.REQUEST_CONFLICT, reason="a name with / fits into no address")
    demand(
        not asked.base or _is_base(asked.base), "base", "http or https and a host, as https://sms.example.com"
    )
    path = upstream.path_of(call.door.vault, channel_id, row.name)
    return PushUrl(path, asked.base.rstrip("/") + path if asked.base else None)


def _is_base(written: str) -> bool:
    try:
        url = URL(written)
    except ValueError:
        return False
    return (
        url.scheme in {"http", "https"}
        and bool(url.host)
        and not (url.query_string or url.fragment or url.user)
    )


# ---- kinds


def _kind_row(kind: str) -> ChannelKindRow:
    http = kinds.takes_templates(kind)
    return ChannelKindRow(kind, sessions=kinds.has_sessions(kind), templates=http, pushes=http)


async def listed_kinds(_: Call) -> ChannelKinds:
    """List the kinds there are."""
    return ChannelKinds([_kind_row(kind) for kind in sorted(kinds.KINDS)])


async def get_kind(call: Call) -> WholeChannelKind:
    """Return the form of a kind."""
    kind = call.path["id"]
    if kind not in kinds.KINDS:
        raise Refusal(Code.REQUEST_NOT_FOUND, parameter="id", reason=f"no kind {kind[:40]!r}")
    return WholeChannelKind(_kind_row(kind), kinds.schema(kind))


SETTINGS_EXAMPLE: Final = {"hosts": ["smsc.example.com:2775"], "system_id": "hongyan", "password": "secret"}
_BUSY: Final = (Code.REQUEST_CONFLICT,)
_READ: Final[dict[str, Any]] = {
    "reach": Reach.PLATFORM,
    "permission": Permission.CHANNELS_READ,
    "ids": "integer",
}
_WRITE: Final[dict[str, Any]] = {
    "reach": Reach.PLATFORM,
    "permission": Permission.CHANNELS_WRITE,
    "ids": "integer",
}

ROUTES: Final[Sequence[Route]] = (
    Route(
        method="GET", path="/v1/channel-kinds", name="listChannelKinds", summary="List the kinds of channels.",
        gives=ChannelKinds, manages=listed_kinds, **_READ,
    ),
    Route(
        method="GET", path="/v1/channel-kinds/{id}", name="getChannelKind",
        summary="The form of a kind: a JSON Schema of its settings, secrets marked writeOnly.",
        gives=WholeChannelKind, manages=get_kind, **_READ | {"ids": "text"},
    ),
    Route(
        method="GET", path="/v1/channels", name="listChannels", summary="List channels with how they stand now.",
        gives=Channels, manages=listed, **_READ,
    ),
    Route(
        method="POST", path="/v1/channels", name="createChannel",
        summary="Add a channel; gateways log in at once, a route lets messages go there.",
        body=AskedChannel, example={"name": "east", "kind": "smpp", "settings": SETTINGS_EXAMPLE, "parts_per_s": 100},
        gives=WholeChannel, status=201, codes=BODY, manages=create, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/channels/test", name="testChannelSettings",
        summary="Try settings out: one session, or one harmless call, for ten seconds at most.",
        body=AskedTrial, example={"kind": "smpp", "settings": SETTINGS_EXAMPLE}, gives=Trial,
        codes=BODY, manages=try_settings, changes=False, own_transactions=True, **_WRITE,
    ),
    Route(
        method="GET", path="/v1/channels/{id}", name="getChannel", summary="One channel with its settings; secrets are ***.",
        gives=WholeChannel, manages=get, **_READ,
    ),
    Route(
        method="PATCH", path="/v1/channels/{id}", name="changeChannel",
        summary="Change a channel; gateways take it up without a restart, and nothing is lost.",
        body=AskedChannelChange, example={"parts_per_s": 200}, gives=WholeChannel, codes=BODY, manages=change, **_WRITE,
    ),
    Route(
        method="DELETE", path="/v1/channels/{id}", name="removeChannel",
        summary="Log out for good. Reports still due will not come: drain first.",
        gives=RemovedChannel, manages=remove, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/channels/{id}/test", name="testChannel",
        summary="Try a channel's settings out, or others in their place.",
        body=AskedChannelTrial, example={}, gives=Trial,
        codes=BODY, manages=try_channel, changes=False, own_transactions=True, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/channels/{id}/pause", name="pauseChannel",
        summary="Submit nothing more there; its sessions stay, because reports still come.",
        body=AskedPause, example={"reason": "they repair something until six"}, gives=ListedChannel, codes=BODY,
        manages=pause, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/channels/{id}/resume", name="resumeChannel",
        summary="Submit there again, whether it was paused, is being drained or is drained.",
        gives=ListedChannel, manages=resume, **_WRITE,
    ),
    Route(
        method="POST", path="/v1/channels/{id}/drain", name="drainChannel",
        summary="Submit nothing more there, wait until no answer or report is due, or so long, then log out.",
        body=AskedDrain, example={"wait_s": 600}, gives=ListedChannel, codes=BODY, manages=drain, **_WRITE,
    ),
    Route(
        method="GET", path="/v1/channels/{id}/state", name="getChannelState",
        summary="How a channel fares, as each gateway told within the last second.",
        gives=ChannelState, manages=fares, **_READ,
    ),
    Route(
        method="GET", path="/v1/channels/{id}/trace", name="traceChannel",
        summary="What its sessions say and hear for some seconds, masked.",
        query=AskedTrace, gives=ChannelTrace, codes=(*QUERY, *_BUSY), manages=trace, own_transactions=True, **_READ,
    ),
    Route(
        method="GET", path="/v1/channels/{id}/push-url", name="getChannelPushUrl",
        summary="Where an HTTP provider is to push reports and texts to. Keep it secret.",
        query=AskedPushUrl, gives=PushUrl, codes=(*QUERY, *_BUSY), manages=push_url, **_WRITE,
    ),
)  # fmt: skip
