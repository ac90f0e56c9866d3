"""May it fly? The rules a message must pass, each with a reason.

Pure rules are asked at the door, in order: number, country, wording, length, price, hours. Rules that live in
the database (opt-outs, blocks, frequency, same text) are part of accept's one statement; this module explains
their answers. Opt-outs, blocks, hours and validity are asked again when a message is claimed.
Entry points: check(), limit_reached(), next_allowed().
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from hongyan.settings import Settings
from hongyan.vocab import phone, text
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.vocab.plain import plain
from hongyan.vocab.words import Hit, Level
from hongyan.way import route
from hongyan.way.snapshot import EXTENSION_DIGITS_MAX, Key, Limits, Signature, Snapshot, Template, Tenant

REFERENCE_CHARACTERS_MAX = 64
SAME_DAY_S = 86_400
QUARTER_S = 900
# What says how to stop (`says`), and before it what only has the letters of it: a one-stop shop, a stop-over, a T-shirt
# (T恤). Sought in the lower-cased text, then in its plain form.
OPT_OUT = re.compile(
    r"\b(?:one|non|bus|pit|last|full|can['’]?t|don['’]?t|won['’]?t|never)[\s-]{0,3}stop\b"
    r"|\bstop(?:-[a-z]|[\s-]{1,3}(?:by|in|over|off|at)\b)"
    r"|(?P<says>退订|拒收|回复?(?:td?|r)(?![a-z0-9恤])|(?<![a-z0-9-])stop(?:2[a-z]+)?(?![a-z0-9])"
    r"|unsubscribe|\bopt[\s-]?out\b)"
)


def tells_how_to_stop(written: str) -> bool:
    """Whether a text says how to get no more like it, whatever it is dressed up in."""
    return _says_stop(written.lower()) or _says_stop(plain(written))


def _says_stop(read: str) -> bool:
    return any(found["says"] for found in OPT_OUT.finditer(read))


class Wording(msgspec.Struct, frozen=True, gc=False):
    """What will be sent and under whose name."""

    text: str  # signed
    purpose: Purpose
    signature: Signature
    template_id: int  # 0: free text
    resend: bool  # may be sent again after a crash that left it unsure


class Cleared(msgspec.Struct, frozen=True, gc=False):
    """A message that passed the pure rules."""

    number: phone.Phone
    place: phone.Place
    wording: Wording
    part_count: int
    price_micro: int
    due_at_s: float  # 0: at once
    validity_s: int
    extension: str
    rules: tuple[str, ...]  # which rules spoke, for the trace
    held: str = ""  # why a person has to decide first


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message as a program asks for it; the API's request body."""

    to: str
    signature: str = ""
    template: str = ""
    params: dict[str, str | int] = {}
    text: str = ""  # free text, for keys that may; `purpose` is then required
    purpose: Purpose | None = None
    send_at: datetime | None = None  # RFC 3339 with an offset
    validity_s: int | None = None
    reference: str = ""
    extension: str = ""
    language: str = ""  # of the template's texts: a BCP 47 tag; empty: the template's default


class CodeDraft(Draft, frozen=True):
    """A message with a verification code, whose limits were asked before (otp.limits): the number's frequency is not."""

    avoid_channel: int = 0  # by which the same code went already, and was not heard of
    free: bool = False  # sent on our own account
    last_line: str = (
        ""  # what browsers read the code from; never on the mainland, where texts of codes carry no hosts
    )


def check(draft: Draft, key: Key, snapshot: Snapshot, settings: Settings, now_s: float) -> Cleared:
    """Ask the pure rules about one message; raises Refusal with the first rule that says no."""
    tenant = key.tenant
    if not tenant.active:
        raise Refusal(Code.ACCOUNT_SUSPENDED)
    if not tenant.qualified and not key.sandbox:
        raise Refusal(Code.ACCOUNT_NOT_QUALIFIED)
    if len(draft.reference) > REFERENCE_CHARACTERS_MAX:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="reference", characters_max=REFERENCE_CHARACTERS_MAX
        )
    number = _number(draft, key)
    mainland = number.country == "CN"
    if not mainland and "*" not in tenant.countries and number.country not in tenant.countries:
        raise Refusal(Code.NUMBER_REGION_NOT_ALLOWED, country=number.country)
    if mainland and tenant.countries.isdisjoint(_MAINLAND):
        raise Refusal(Code.NUMBER_REGION_NOT_ALLOWED, country="CN")
    place = phone.place(number, snapshot.overrides)
    wording = _wording(draft, key, snapshot, mainland)
    parts = _parts(wording.text, mainland, settings)
    held = _ask_words(wording.text, tenant, snapshot) if snapshot.words.stop_some else ""
    price = snapshot.part_price_micro(tenant.id, place.country, place.operator, wording.purpose)
    if price is None:
        raise Refusal(Code.NUMBER_REGION_NOT_ALLOWED, country=number.country, reason="no price is set")
    want = route.Want(
        tenant.id, place.country, place.operator, wording.purpose, key.sandbox, wording.signature.id
    )
    if not route.exists(want, snapshot):
        raise _no_route(want, snapshot)
    validity_s, due_at_s = _times(draft, settings, now_s)
    rules: tuple[str, ...] = _RULES
    if wording.purpose is Purpose.PROMOTIONAL:
        due_at_s = hours(tenant, number, due_at_s, validity_s, now_s)
        rules = _RULES_PROMOTIONAL
    return Cleared(
        number=number,
        place=place,
        wording=wording,
        part_count=parts,
        price_micro=price * parts,
        due_at_s=due_at_s,
        validity_s=validity_s,
        extension=_extension(draft, wording.signature),
        rules=rules,
        held=held,
    )


def move(
    cleared: Cleared,
    tenant: Tenant,
    snapshot: Snapshot,
    operator: str,
    province: str,
    *,
    sandbox: bool = False,
) -> Cleared:
    """Place a message under another operator or province ("" leaves it) and price it there; raises Refusal."""
    place = phone.Place(
        cleared.place.country, operator or cleared.place.operator, province or cleared.place.province
    )
    price = snapshot.part_price_micro(tenant.id, place.country, place.operator, cleared.wording.purpose)
    if price is None:
        raise Refusal(Code.NUMBER_REGION_NOT_ALLOWED, country=place.country, reason="no price is set")
    if snapshot.demands_filing:  # by its new operator it may lack what it had by the old one
        wording = cleared.wording
        want = route.Want(
            tenant.id, place.country, place.operator, wording.purpose, sandbox, wording.signature.id
        )
        if not route.exists(want, snapshot) and route.not_filed(want, snapshot):
            raise Refusal(Code.SIGN_NOT_REGISTERED, operator=place.operator)
    return msgspec.structs.replace(cleared, place=place, price_micro=price * cleared.part_count)


def _no_route(want: route.Want, snapshot: Snapshot) -> Refusal:
    if route.not_filed(want, snapshot):
        return Refusal(Code.SIGN_NOT_REGISTERED, operator=want.operator)
    return Refusal(Code.ROUTE_NONE, country=want.country, operator=want.operator)


_MAINLAND = frozenset({"CN", "*"})
_RULES = (
    "number",
    "country",
    "wording",
    "length",
    "words",
    "price",
    "route",
    "validity",
    "suppression",
    "frequency",
    "balance",
)
_RULES_PROMOTIONAL = (*_RULES, "hours")


def _number(draft: Draft, key: Key) -> phone.Phone:
    try:
        number = phone.parse(draft.to)
    except phone.BadNumber as error:
        raise Refusal(Code.NUMBER_INVALID, reason=error.fault) from error
    # A sandbox key reaches nothing but sandbox numbers; those are nobody's on real channels.
    if key.sandbox and phone.sandbox_outcome(number) is None:
        raise Refusal(Code.NUMBER_TEST_ONLY)
    return number


def _wording(draft: Draft, key: Key, snapshot: Snapshot, mainland: bool) -> Wording:
    counting = text.Counting.MAINLAND if mainland else text.Counting.INTERNATIONAL
    if draft.text:
        return _free_text(draft, key, counting)
    template = _template(draft.template, key.tenant, mainland)
    signature = _signature(draft.signature, template, key.tenant, snapshot)
    compiled = template.text_in(draft.language) if draft.language else template.text
    body = compiled.render(draft.params)
    if isinstance(draft, CodeDraft) and draft.last_line and not mainland:
        body += f"\n\n{draft.last_line}"
    signed = text.sign(signature.name, body, counting=counting)
    return Wording(
        signed,
        template.purpose,
        signature,
        template.id,
        template.purpose is not Purpose.PROMOTIONAL and template.resend,
    )


def _free_text(draft: Draft, key: Key, counting: text.Counting) -> Wording:
    if not key.free_text:
        raise Refusal(Code.AUTH_PERMISSION_DENIED, reason="this key may only send templates")
    if draft.template or draft.params or draft.language:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, reason="give a template or a text, not both")
    if draft.purpose is None:
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="purpose")
    if "【" in draft.text or "】" in draft.text:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="text", reason="【】 belong to the signature")
    if draft.purpose is Purpose.PROMOTIONAL and not tells_how_to_stop(draft.text):
        raise Refusal(Code.CONTENT_MISSING_UNSUBSCRIBE)
    signature = _approved_signature(draft.signature, key.tenant)
    signed = text.sign(signature.name, draft.text, counting=counting)
    return Wording(signed, draft.purpose, signature, 0, draft.purpose is not Purpose.PROMOTIONAL)


def _template(code: str, tenant: Tenant, mainland: bool) -> Template:
    if not code:
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="template")
    template = tenant.templates.get(code)
    if template is None:
        raise Refusal(Code.TEMPLATE_NOT_FOUND, template=code[:40])
    if not template.approved:
        raise Refusal(Code.TEMPLATE_NOT_APPROVED, template=code)
    if template.scope != "any" and (template.scope == "mainland") is not mainland:
        raise Refusal(Code.NUMBER_TYPE_MISMATCH, scope=template.scope)
    return template


def _signature(name: str, template: Template, tenant: Tenant, snapshot: Snapshot) -> Signature:
    if not template.signature_id:
        return _approved_signature(name, tenant)
    bound = snapshot.signatures[template.signature_id]
    if name and name != bound.name:
        raise Refusal(Code.SIGN_SCENE_MISMATCH, signature=bound.name)
    if not bound.approved:
        raise Refusal(Code.SIGN_NOT_APPROVED, signature=bound.name)
    return bound


def _approved_signature(name: str, tenant: Tenant) -> Signature:
    if not name:
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="signature")
    signature = tenant.signatures.get(name)
    if signature is None:
        raise Refusal(Code.SIGN_NOT_FOUND, signature=name[:40])
    if not signature.approved:
        raise Refusal(Code.SIGN_NOT_APPROVED, signature=name)
    return signature


def _parts(signed: str, mainland: bool, settings: Settings) -> int:
    units_max = settings.text_units_max if mainland else settings.text_units_max_abroad
    if len(signed) > units_max:
        raise Refusal(Code.CONTENT_TOO_LONG, units_max=units_max)
    counting = text.Counting.MAINLAND if mainland else text.Counting.INTERNATIONAL
    counted = text.count(signed, counting)
    if counted.units > units_max:
        raise Refusal(Code.CONTENT_TOO_LONG, units_max=units_max)
    return counted.parts


def _ask_words(signed: str, tenant: Tenant, snapshot: Snapshot) -> str:
    """Ask the word lists about a text as it will be read; returns why it is to be held, or raises Refusal."""
    hits = snapshot.words.check(signed, tenant.id)
    if not hits:
        return ""
    if any(hit.level is Level.BLOCK for hit in hits):
        raise Refusal(Code.CONTENT_FORBIDDEN, hits=[_shown(hit) for hit in hits if hit.level is Level.BLOCK])
    return f"words of the list {hits[0].list}"


def _shown(hit: Hit) -> Mapping[str, object]:
    """Show where a word stands. Not what stands there: answers to batches are kept, and texts only sealed."""
    return {"list": hit.list, "level": hit.level, "tag": hit.tag, "span": [hit.start, hit.end]}


def _times(draft: Draft, settings: Settings, now_s: float) -> tuple[int, float]:
    validity_s = settings.validity_s_default if draft.validity_s is None else draft.validity_s
    if not 1 <= validity_s <= settings.validity_s_max:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="validity_s", between=[1, settings.validity_s_max]
        )
    if draft.send_at is None:
        return validity_s, 0.0
    if draft.send_at.tzinfo is None:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="send_at", reason="say the offset, as in +08:00 or Z"
        )
    due_at_s = draft.send_at.timestamp()
    if due_at_s > now_s + settings.schedule_s_max:
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="send_at", ahead_s_max=settings.schedule_s_max
        )
    return validity_s, due_at_s if due_at_s > now_s else 0.0


def _extension(draft: Draft, signature: Signature) -> str:
    """Return the digits after the access number: the signature's own, then the caller's."""
    if not draft.extension:
        return signature.extension
    digits = signature.extension + draft.extension
    if not (draft.extension.isascii() and draft.extension.isdigit()) or len(digits) > EXTENSION_DIGITS_MAX:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="extension", digits_max=EXTENSION_DIGITS_MAX)
    return digits


def hours(tenant: Tenant, number: phone.Phone, due_at_s: float, validity_s: int, now_s: float) -> float:
    """Return when a promotional message may leave (0: at once); raises Refusal where no hour within its validity will do."""
    wanted_s = due_at_s or now_s
    allowed_s = next_allowed(wanted_s, phone.zones(number), tenant.quiet_until_hour, tenant.quiet_from_hour)
    if allowed_s is None or allowed_s > wanted_s + validity_s:
        raise Refusal(Code.CONTENT_SEND_WINDOW, hours=[tenant.quiet_until_hour, tenant.quiet_from_hour])
    return due_at_s if allowed_s == wanted_s else allowed_s


def next_allowed(wanted_s: float, zones: frozenset[str], from_hour: int, until_hour: int) -> float | None:
    """Return the first moment from `wanted_s` on at which every zone's clock is within [from_hour, until_hour).

    None where the zones never agree within two days. Moments after the wanted one lie on a quarter
    hour, because every zone's offset does.
    """
    if _allowed(wanted_s, zones, from_hour, until_hour):
        return wanted_s
    return _next_quarter(int(wanted_s // QUARTER_S), zones, from_hour, until_hour)


def _allowed(at_s: float, zones: frozenset[str], from_hour: int, until_hour: int) -> bool:
    moment = datetime.fromtimestamp(at_s, UTC)
    return bool(zones) and all(
        from_hour <= moment.astimezone(_zone(name)).hour < until_hour for name in zones
    )


@lru_cache(maxsize=1_000)  # all of a list that is sent at night ask the same
def _next_quarter(quarter: int, zones: frozenset[str], from_hour: int, until_hour: int) -> float | None:
    """Return the first allowed moment among the quarter hours behind this one (counted from 1970)."""
    for moved in range(1, 2 * 24 * 4 + 1):
        at_s = float((quarter + moved) * QUARTER_S)
        if _allowed(at_s, zones, from_hour, until_hour):
            return at_s
    return None


@lru_cache(maxsize=1_000)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def limit_reached(hits: Sequence[int], limits: Limits, same_s: int, hit: int, now_s: int) -> Refusal:
    """Explain which sliding limit a number has reached. Hits are seconds << 32 | hash of the text, oldest first."""
    seconds = [value >> 32 for value in hits]
    if same_s and any(
        at > now_s - same_s and value & 0xFFFF_FFFF == hit & 0xFFFF_FFFF
        for at, value in zip(seconds, hits, strict=True)
    ):
        return Refusal(Code.LIMIT_SAME_CONTENT, retry_after_s=same_s)
    for code, window_s, count_max in (
        (Code.LIMIT_MINUTE, 60, limits.minute),
        (Code.LIMIT_HOUR, 3_600, limits.hour),
        (Code.LIMIT_DAY, SAME_DAY_S, limits.day),
    ):
        within = [at for at in seconds if at > now_s - window_s]
        if count_max and len(within) >= count_max:
            return Refusal(code, retry_after_s=max(1, within[-count_max] + window_s - now_s), limit=count_max)
    return Refusal(Code.LIMIT_MINUTE, retry_after_s=1)  # it was free again when we looked


def trace(rules: Sequence[str], tenant: Tenant, purpose: Purpose, *, held: str = "") -> Mapping[str, Any]:
    """Write down which rules a message passed, the same words for all that passed the same rules.

    `held`: why a person had to decide.
    """
    limits = tenant.limits[purpose]
    passed = {
        "passed": list(rules),
        "frequency": {
            "minute": limits.minute,
            "hour": limits.hour,
            "day": limits.day,
            "same_text_s": tenant.duplicate_s,
        },
        "hours": [tenant.quiet_until_hour, tenant.quiet_from_hour]
        if purpose is Purpose.PROMOTIONAL
        else None,
    }
    return passed | {"held": held} if held else passed
