"""Which channel could carry a template to whom: a small golden table, every reason of which is one that exists."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from hongyan.control import feasibility
from hongyan.control.feasibility import REASONS, Cell, CellVerdict, Question
from hongyan.control.lint import Subject
from hongyan.vault import Secret
from hongyan.vocab.message import ChannelId, Purpose, TenantId
from hongyan.vocab.wording import Variable
from hongyan.vocab.words import NOTHING, Listed, Scope, Sought, Words
from hongyan.way.snapshot import LIMITS_DEFAULT, ChannelRow, RouteRule, Signature, Snapshot, Tenant

GOLDEN: Final = Path(__file__).with_name("feasibility.tsv")
OURS, OTHERS = TenantId(1), TenantId(2)
FILED: Final = Signature(1, "鸿雁", approved=True, extension="", filed=frozenset({"cmcc"}))
NEW: Final = Signature(2, "飞鸽", approved=False, extension="")
SESSION: Final = {"hosts": ["10.0.0.1"]}
CMPP: Final = SESSION | {"source_addr": "901234", "secret": "s"}
SMPP: Final = SESSION | {"system_id": "u", "password": "s"}
ALIYUN: Final = {"access_key_id": "a", "access_key_secret": "s"}

# name → kind, settings, what the row has besides, and its route rules (a mapping each)
CHANNELS: Final[Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any], list[Mapping[str, Any]]]]] = {
    "cmpp": ("cmpp", CMPP, {}, [{"country": "CN", "operator": "cmcc"}]),
    "cmpp16": ("cmpp", CMPP | {"split": "udh16"}, {}, [{"country": "CN"}]),
    "filed": ("cmpp", CMPP, {"filing_demanded": True}, [{"country": "CN"}]),
    "gateway": ("cmpp", CMPP | {"signature": "gateway", "gateway_signature": "别人"}, {}, [{}]),
    "smpp": ("smpp", SMPP, {}, [{"country": "GB"}]),
    "paused": ("smpp", SMPP, {"paused": True}, [{}]),
    "unruled": ("smpp", SMPP, {}, []),
    "resting": ("smpp", SMPP, {}, [{"weight": 0}]),
    "others": ("smpp", SMPP, {}, [{"tenant_id": OTHERS}]),
    "codes": ("smpp", SMPP, {}, [{"purpose": Purpose.OTP}]),
    "broken": ("smpp", {"nonsense": 1}, {}, [{}]),
    "sandbox": ("loopback", {}, {}, [{}]),
    "aliyun": ("aliyun", ALIYUN | {"templates": {"parcel": "SMS_1"}, "signatures": {"鸿雁": "鸿雁"}}, {}, [{}]),
    "tencent": ("tencent", {"secret_id": "i", "secret_key": "s", "sdk_app_id": "1400", "templates": {"long": "9"},
                            "signatures": {"鸿雁": "鸿雁"}, "value_characters_max": 12}, {}, [{}]),
}  # fmt: skip
TEMPLATES: Final[Mapping[str, tuple[str, str, Mapping[str, str], Signature | None]]] = {
    "parcel": ("您的快递已到${place}", "any", {"place": "address"}, FILED),
    "long": ("您的快递已到${note},请尽快取走", "any", {"note": "text"}, FILED),
    "home": ("您的快递已到", "mainland", {}, FILED),
    "abroad": ("Your parcel is here", "international", {}, FILED),
    "edge": ("长" * 63, "any", {}, FILED),  # 67 with the signature: one part everywhere
    "two": (
        "长" * 129,
        "any",
        {},
        FILED,
    ),  # 133 of 134 in two parts with an 8-bit reference, three with 16 bits
    "unsigned": ("您的快递已到", "any", {}, None),
    "unapproved": ("您的快递已到", "any", {}, NEW),
    "gambling": ("您的赌博快递已到", "any", {}, FILED),
}


def snapshot() -> Snapshot:
    channels: dict[ChannelId, ChannelRow] = {}
    rules: list[RouteRule] = []
    for number, (name, (kind, config, more, own)) in enumerate(CHANNELS.items(), 1):
        channel_id = ChannelId(number)
        values: dict[str, Any] = {
            "paused": False,
            "parts_per_s": 0,
            "sessions": 1,
            "access_number": "",
            "report_one": False,
        }
        sealed = Secret(msgspec.json.encode(config))
        channels[channel_id] = ChannelRow(
            id=channel_id, name=name, kind=kind, config=sealed, cost_micro=0, **(values | dict(more))
        )
        for rule in own:
            terms: dict[str, Any] = {
                "weight": 1,
                "tenant_id": None,
                "country": None,
                "operator": None,
                "purpose": None,
            }
            rules.append(
                RouteRule(id=len(rules) + 1, priority=1, channel_id=channel_id, **(terms | dict(rule)))
            )
    tenant = Tenant(
        id=OURS, name="t", active=True, currency="CNY", charge_on_delivery=False, weight=1,
        countries=frozenset({"CN", "GB"}), quiet_from_hour=20, quiet_until_hour=9, limits=LIMITS_DEFAULT,
        duplicate_s=0, signatures={one.name: one for one in (FILED, NEW)}, templates={},
    )  # fmt: skip
    by_name = {row.name: row.id for row in channels.values()}
    listed = Listed(id=1, name="bets", channel_id=by_name["cmpp"])
    return Snapshot(
        version=1, tenants={OURS: tenant}, keys={}, channels=channels, rules=rules,
        prices={(0, "CN", "*", -1): 45_000, (0, "GB", "*", -1): 300_000}, webhooks={},
        hooked_apps=[], pay_on_delivery=[], overrides=None, signatures={one.id: one for one in (FILED, NEW)},
        templates={}, has_number_overrides=False, demands_filing=True, words=words_of(listed, "赌博"),
    )  # fmt: skip


def words_of(listed: Listed, word: str) -> Words:
    return Words(NOTHING, {}, {ChannelId(listed.channel_id or 0): Scope([(listed, Sought([word]))])})


SNAPSHOT: Final = snapshot()


def cells(
    name: str, countries: tuple[str, ...] = ("CN", "GB", "US"), **more: Any
) -> Mapping[tuple[str, str], Cell]:
    """By channel and by operator, or country abroad."""
    body, scope, kinds, signature = TEMPLATES[name]
    rules = {variable: Variable(kind) for variable, kind in kinds.items()}
    subject = Subject(body, Purpose.TRANSACTIONAL, signature.name if signature else "", rules)
    found = feasibility.matrix(Question(OURS, name, subject, scope, signature), SNAPSHOT, countries, **more)
    return {(cell.channel, cell.operator or cell.country): cell for cell in found}


def golden() -> list[tuple[str, str, str, str, str]]:
    rows = csv.reader(GOLDEN.read_text("utf-8").splitlines(), delimiter="\t")
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows if row and not row[0].startswith("#")]


@pytest.mark.parametrize(("template", "channel", "target", "verdict", "reasons"), golden())
def test_a_channel_carries_what_it_can_and_says_all_that_is_against_the_rest(
    template: str, channel: str, target: str, verdict: str, reasons: str
) -> None:
    cell = cells(template)[channel, target]
    said = " ".join(sorted(reason.code for reason in cell.reasons))
    assert (cell.verdict.value, said) == (verdict, " ".join(sorted(reasons.split())))


def test_there_is_a_cell_for_each_channel_and_each_target() -> None:
    found = cells("parcel")
    assert len(found) == len(CHANNELS) * (4 + 2)
    assert {cell.verdict for cell in found.values()} <= set(CellVerdict)


def test_every_reason_is_one_that_exists_and_most_of_them_are_seen() -> None:
    seen = {reason.code for name in TEMPLATES for cell in cells(name).values() for reason in cell.reasons}
    assert seen <= set(REASONS)
    assert set(REASONS) - seen == {"not_encodable", "text_too_long", "wording_not_taken"}


def test_without_countries_the_scope_says_where_is_asked_about() -> None:
    targets = {name: {key[1] for key in cells(name, ())} for name in ("home", "abroad", "parcel")}
    mainland = {"cmcc", "unicom", "telecom", "broadnet"}
    assert targets == {"home": mainland, "abroad": {"GB"}, "parcel": mainland | {"GB"}}


def test_a_provider_s_own_rules_stand_in_its_channels_cells_alone() -> None:
    found = cells("parcel")
    assert [one.rule for one in found["tencent", "cmcc"].findings] == ["tencent.long_value"]
    assert found["cmpp", "cmcc"].findings == []


def test_what_is_counted_and_what_is_sent_differ_only_where_a_header_takes_more() -> None:
    (reason,) = [one for one in cells("two")["cmpp16", "cmcc"].reasons if one.code == "parts_differ"]
    assert reason.detail == {"charged": 2, "sent": 3, "units": 133}
