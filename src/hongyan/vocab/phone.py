"""Read phone numbers, say where they belong and when it is day there, and show them without giving them away.

Writes nothing; pure. Entry points: parse() for what a caller wrote, place() for country, operator and
province, zones() for the clocks a person may live by, mask() for everything that is shown or logged.

Surprises. parse() answers "yes" from patterns compiled once per calling code out of the metadata of the
library phonenumbers; only a "no" asks the library itself, which is ten times slower and knows every local
habit. A run of digits without "+" or "00" is first read as a number of the default region, then as
international without its plus: under CN, 15105550123 is a mainland mobile, not California. place() and
zones() read numbering.bin, which build_numbering.py writes (its format is described at Numbering), and know
what the number was issued as: where numbers are portable, give corrections as Overrides.
"""

import re
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumberType

RAW_CHARACTERS_MAX: Final = 40  # longer than any number with its ornaments; bounds the work on garbage
E164_DIGITS_MAX: Final = 15  # ITU-T E.164 §6.1
PREFIX_DIGITS: Final = (
    9  # no prefix in the library's tables is longer; numbering.bin is keyed by so many digits
)
MAINLAND: Final = "CN"
WORLD: Final = "001"  # the country of numbers that belong to none (satellite and other global networks)


class Fault(StrEnum):
    GARBLED = "garbled"  # not digits with the usual ornaments, or far too long
    INVALID = "invalid"  # digits, but no number of any plan we know
    NOT_MOBILE = "not_mobile"  # a real number that takes no texts: fixed line, toll-free, premium …


class BadNumber(ValueError):  # noqa: N818 - the caller's refusal (Number.Invalid), not a fault of ours
    """What was given is no number a text can be sent to; fault says in which way."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class Phone(msgspec.Struct, frozen=True, gc=False):
    """A number that may take texts: "+8613800138000", ISO 3166-1 alpha-2 "CN" (or WORLD), 86."""

    e164: str
    country: str
    calling_code: int

    @property
    def national(self) -> str:
        """The digits behind the calling code, as SMGP and some CMPP gateways want them."""
        return self.e164[1 + len(str(self.calling_code)) :]


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a number belongs: country, operator slug, on the mainland ISO 3166-2 province; "" is unknown."""

    country: str
    operator: str
    province: str


class Override(msgspec.Struct, frozen=True, gc=False):
    """What is known better about a number or a prefix; None leaves the table's word."""

    operator: str | None = None
    province: str | None = None
    country: str | None = None


class Overrides:
    """Corrections by exact number and by prefix, both in E.164 with "+"; field by field the longest wins.

    exact may be any mapping, for instance one in front of a portability store.
    """

    __slots__ = ("_exact", "_prefixes", "_widths")

    def __init__(self, exact: Mapping[str, Override], prefixes: Mapping[str, Override]) -> None:
        self._exact = exact
        self._prefixes = dict(prefixes)
        self._widths = sorted({len(prefix) for prefix in self._prefixes})

    def apply(self, e164: str, place: Place) -> Place:
        """Give the place with every field that an override speaks of replaced."""
        # The most specific speaks last, and so has the last word.
        for width in self._widths:
            place = _corrected(place, self._prefixes.get(e164[:width]))
        return _corrected(place, self._exact.get(e164))


def _corrected(place: Place, override: Override | None) -> Place:
    if override is None:
        return place
    return Place(
        place.country if override.country is None else override.country,
        place.operator if override.operator is None else override.operator,
        place.province if override.province is None else override.province,
    )


# ---- reading


def parse(raw: str, default_region: str = MAINLAND) -> Phone:
    """Read E.164 with or without "+", with "00", or the national form of the default region.

    Spaces, dashes, dots, slashes, brackets, full-width digits and invisible marks are forgiven; letters and
    extensions are not. Raises BadNumber. Where the plan does not say whether a number is fixed or mobile
    (North America), it is accepted. default_region is ISO 3166-1 alpha-2; an unknown one raises ValueError.
    """
    if len(raw) > RAW_CHARACTERS_MAX:
        raise BadNumber(Fault.GARBLED)
    international = raw.startswith("+")
    digits = raw[1:] if international else raw
    if not _all_digits(digits):
        digits = raw.translate(_ORNAMENTS)
        international = digits.startswith("+")
        digits = digits[1:] if international else digits
        if not _all_digits(digits):
            raise BadNumber(Fault.GARBLED)
    if not international and digits.startswith("00"):
        international, digits = True, digits[2:]
    local = None if international else _read_national(digits, default_region)
    return (
        local
        or _read_international(digits)
        or _ask_library(digits, None if international else default_region)
    )


def sandbox_outcome(phone: Phone) -> int | None:
    """Read the outcome a sandbox number, +86 199 0000 0000 to 0099, asks for: its last two digits."""
    e164 = phone.e164
    return int(e164[12:]) if len(e164) == 14 and e164.startswith("+86199000000") else None


# ---- placing


def place(phone: Phone, overrides: Overrides | None = None) -> Place:
    """Say where a number belongs, by the longest prefix in the table and then by the overrides."""
    table = _table()
    operator, province = table.places[_owner(table.place_starts, table.place_owners, phone.e164)]
    found = Place(phone.country, operator, province)
    return found if overrides is None else overrides.apply(phone.e164, found)


def zones(phone: Phone) -> frozenset[str]:
    """Give every IANA zone the number may be in; empty where nothing is known.

    Only where area codes still tell the place of a mobile is the area asked; elsewhere it is the whole
    country.
    """
    if phone.country == MAINLAND:
        return _MAINLAND_ZONES
    return _table().zones[_owner(_table().zone_starts, _table().zone_owners, phone.e164)]


def library_version() -> str:
    """Say which version of phonenumbers the shipped table was built from."""
    return _table().library


# ---- showing


def mask(e164: str) -> str:
    """Hide at least the middle four digits: +8613800138000 → +86138****8000.

    Keeps the length. Takes anything: a short number keeps no more than its last half, without "+" no calling
    code is kept.
    """
    code_width = len(_calling_code(e164[1:])) if e164.startswith("+") else 0
    head = code_width + 1 if e164.startswith("+") else 0
    shown = len(e164) - head
    tail = min(4, shown // 2)
    head += min(3, max(0, shown - 8))
    return e164[:head] + "*" * (len(e164) - head - tail) + e164[len(e164) - tail :]


def operator_name(operator: str, language: str) -> str:
    """Name an operator for display in "zh" or "en"; one we have no name for keeps its slug."""
    return _named(OPERATOR_NAMES, operator, language)


def province_name(province: str, language: str) -> str:
    """Name a province for display in "zh" or "en"; one we have no name for keeps its code."""
    return _named(PROVINCE_NAMES, province, language)


# slug → (zh, en)
OPERATOR_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "cmcc": ("中国移动", "China Mobile"),
    "unicom": ("中国联通", "China Unicom"),
    "telecom": ("中国电信", "China Telecom"),
    "broadnet": ("中国广电", "China Broadnet"),
}

# ISO 3166-2:CN → (zh, en)
PROVINCE_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "CN-AH": ("安徽", "Anhui"),
    "CN-BJ": ("北京", "Beijing"),
    "CN-CQ": ("重庆", "Chongqing"),
    "CN-FJ": ("福建", "Fujian"),
    "CN-GD": ("广东", "Guangdong"),
    "CN-GS": ("甘肃", "Gansu"),
    "CN-GX": ("广西", "Guangxi"),
    "CN-GZ": ("贵州", "Guizhou"),
    "CN-HA": ("河南", "Henan"),
    "CN-HB": ("湖北", "Hubei"),
    "CN-HE": ("河北", "Hebei"),
    "CN-HI": ("海南", "Hainan"),
    "CN-HK": ("香港", "Hong Kong"),
    "CN-HL": ("黑龙江", "Heilongjiang"),
    "CN-HN": ("湖南", "Hunan"),
    "CN-JL": ("吉林", "Jilin"),
    "CN-JS": ("江苏", "Jiangsu"),
    "CN-JX": ("江西", "Jiangxi"),
    "CN-LN": ("辽宁", "Liaoning"),
    "CN-MO": ("澳门", "Macao"),
    "CN-NM": ("内蒙古", "Inner Mongolia"),
    "CN-NX": ("宁夏", "Ningxia"),
    "CN-QH": ("青海", "Qinghai"),
    "CN-SC": ("四川", "Sichuan"),
    "CN-SD": ("山东", "Shandong"),
    "CN-SH": ("上海", "Shanghai"),
    "CN-SN": ("陕西", "Shaanxi"),
    "CN-SX": ("山西", "Shanxi"),
    "CN-TJ": ("天津", "Tianjin"),
    "CN-TW": ("台湾", "Taiwan"),
    "CN-XJ": ("新疆", "Xinjiang"),
    "CN-XZ": ("西藏", "Tibet"),
    "CN-YN": ("云南", "Yunnan"),
    "CN-ZJ": ("浙江", "Zhejiang"),
}


def _named(names: Mapping[str, tuple[str, str]], key: str, language: str) -> str:
    zh, en = names.get(key, (key, key))
    return zh if language.startswith("zh") else en


# ---- parts of reading

_ORNAMENTS: Final[dict[int, str | None]] = (
    dict.fromkeys(
        map(ord, " -./()\t\u00a0\u3000（）·‐‑‒–—−\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u2060\ufeff")
    )
    | {ord("０") + digit: str(digit) for digit in range(10)}
    | {ord("＋"): "+", ord("－"): None}
)

# What takes no texts. Everything else may: mobile, fixed-or-mobile, VoIP, personal numbers, pagers.
_SILENT: Final = frozenset(
    {
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.UAN,
        PhoneNumberType.VOICEMAIL,
    }
)

_CALLING_CODES: Final = {str(code): code for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}


class _Plan(NamedTuple):
    """The sendable numbers under one calling code: one group per country, in the library's order."""

    calling_code: int
    pattern: re.Pattern[str]
    countries: tuple[str, ...]


def _all_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _calling_code(digits: str) -> str:
    """Give the calling code that begins the digits, "" if none does; no code begins another (ITU-T E.164)."""
    for width in (2, 1, 3):
        if (code := digits[:width]) in _CALLING_CODES:
            return code
    return ""


def _read_international(digits: str) -> Phone | None:
    code = _calling_code(digits)
    if not code or len(digits) > E164_DIGITS_MAX:
        return None
    plan = _plan(code)
    match = plan.pattern.fullmatch(digits, len(code))
    if match is None or match.lastindex is None:
        return None
    return Phone("+" + digits, plan.countries[match.lastindex - 1], plan.calling_code)


def _read_national(digits: str, region: str) -> Phone | None:
    code, trunk = _dialling(region)
    plain = _read_international(code + digits)
    if plain is None and trunk and digits.startswith(trunk):
        return _read_international(code + digits[len(trunk) :])
    return plain


@lru_cache(maxsize=512)
def _dialling(region: str) -> tuple[str, str]:
    """Give a region's calling code and its trunk prefix, "" where taking it off needs the library's rules."""
    metadata = PhoneMetadata.metadata_for_region(region, None)
    if metadata is None:
        raise ValueError(f"no such region: {region!r}")
    plain = metadata.national_prefix_transform_rule is None
    return str(metadata.country_code), (metadata.national_prefix or "") if plain else ""


@lru_cache(maxsize=512)
def _plan(code: str) -> _Plan:
    """Compile a calling code's patterns, once a process."""
    countries = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]
    compiled = re.compile("|".join(f"({_sendable(country, int(code))})" for country in countries))
    return _Plan(int(code), compiled, countries)


def _sendable(country: str, calling_code: int) -> str:
    """Write the pattern of a country's numbers that may take texts."""
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(calling_code, country)
    assert metadata is not None, "the library lists the country under this code"
    kinds = [metadata.mobile, metadata.voip, metadata.personal_number, metadata.pager]
    patterns = [kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern]
    leading = f"(?={metadata.leading_digits})" if metadata.leading_digits else ""
    # (?!) never matches: a country may have no sendable number at all.
    return leading + "(?:" + "|".join(patterns or ["(?!)"]) + ")"


def _ask_library(digits: str, region: str | None) -> Phone:
    """Ask the library for a second opinion, in the same order of readings. Raises BadNumber."""
    fault = Fault.INVALID
    for text, home in ((digits, region), ("+" + digits, None)) if region else (("+" + digits, None),):
        try:
            number = phonenumbers.parse(text, home)
        except phonenumbers.NumberParseException:
            continue
        if number.country_code is None or not phonenumbers.is_valid_number(number):
            continue
        if phonenumbers.number_type(number) in _SILENT:
            fault = Fault.NOT_MOBILE
            continue
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        return Phone(e164, phonenumbers.region_code_for_number(number) or WORLD, number.country_code)
    raise BadNumber(fault)


# ---- parts of placing

_MAINLAND_ZONES: Final = frozenset({"Asia/Shanghai"})


class Numbering(msgspec.Struct, frozen=True):
    """numbering.bin, inside its zlib: MessagePack of this, written by build_numbering.py.

    A table is a run of intervals over the first PREFIX_DIGITS digits of a number: starts holds each
    interval's first value as the difference from the one before, owners its index into places or zones;
    both are little-endian unsigned integers, of 32 and 16 bits. Index 0 is the unknown.
    """

    library: str  # version of phonenumbers
    places: tuple[tuple[str, str], ...]  # (operator, province)
    place_starts: bytes
    place_owners: bytes
    zones: tuple[tuple[str, ...], ...]
    zone_starts: bytes
    zone_owners: bytes


class _Table(NamedTuple):
    library: str
    places: tuple[tuple[str, str], ...]
    place_starts: "array[int]"
    place_owners: "array[int]"
    zones: tuple[frozenset[str], ...]
    zone_starts: "array[int]"
    zone_owners: "array[int]"


@lru_cache(maxsize=1)
def _table() -> _Table:
    """Load numbering.bin at the first question."""
    packed = Path(__file__).with_name("numbering.bin").read_bytes()
    numbering = msgspec.msgpack.decode(zlib.decompress(packed), type=Numbering)
    return _Table(
        numbering.library,
        tuple((sys.intern(operator), sys.intern(province)) for operator, province in numbering.places),
        _sums(numbering.place_starts),
        _integers("H", numbering.place_owners),
        tuple(map(frozenset, numbering.zones)),
        _sums(numbering.zone_starts),
        _integers("H", numbering.zone_owners),
    )


def _integers(kind: str, octets: bytes) -> "array[int]":
    values = array(kind, octets)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _sums(octets: bytes) -> "array[int]":
    return array("I", accumulate(_integers("I", octets)))


def _owner(starts: "array[int]", owners: "array[int]", e164: str) -> int:
    """Find the interval a number falls into; the first interval starts at 0 and belongs to the unknown."""
    prefix = e164[1 : 1 + PREFIX_DIGITS]
    return owners[bisect_right(starts, int(prefix.ljust(PREFIX_DIGITS, "0"))) - 1]
