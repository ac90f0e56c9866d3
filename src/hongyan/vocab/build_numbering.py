"""Write numbering.bin, the table phone.place() and phone.zones() read, from the data of phonenumbers.

For maintainers, after an upgrade of the library: `python -m hongyan.vocab.build_numbering`. Takes some
seconds and is never imported by the program. The file's format is described at phone.Numbering.

Surprises. Numbers are cut to their first PREFIX_DIGITS digits; the library's longest-prefix tables become
sorted, disjoint intervals over those, neighbours with one owner melted together. Provinces are kept for
mainland mobiles only. Zones go by area where the library says that mobiles carry area codes, else by
country.
"""

import re
import sys
import unicodedata
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import phonenumbers
from phonenumbers.carrierdata import CARRIER_DATA
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.tzdata import TIMEZONE_DATA

from hongyan.vocab.phone import OPERATOR_NAMES, PREFIX_DIGITS, PROVINCE_NAMES, Numbering

Owner = TypeVar("Owner")

NUMBERING_FILE: Final = Path(__file__).with_name("numbering.bin")
MAINLAND_MOBILE: Final = re.compile("861[3-9]")

# Calling codes under which a mobile's first digits still name an area: North America, where fixed and mobile
# share area codes, and the library's own list (phonenumberutil.is_number_type_geographical).
AREA_CODES: Final = ("1", "52", "54", "55", "62", "86")

# Mexico's personal numbers look like an area of the capital; they may ring anywhere in the country.
PERSONAL: Final = {"52500": "52"}

_SLUG_OF_NAME: Final = {en: slug for slug, (_, en) in OPERATOR_NAMES.items()}
_CODE_OF_NAME: Final = {en: code for code, (_, en) in PROVINCE_NAMES.items()}


def main() -> None:
    """Build the table and write it beside this module."""
    operators = {
        prefix: operator for prefix, names in CARRIER_DATA.items() if (operator := _operator(prefix, names))
    }
    provinces = {
        prefix: _CODE_OF_NAME[names["en"].split(", ")[-1]]
        for prefix, names in GEOCODE_DATA.items()
        if MAINLAND_MOBILE.match(prefix)
    }
    areas = {prefix: tuple(sorted(names)) for prefix, names in TIMEZONE_DATA.items() if _names_zones(prefix)}
    areas |= {prefix: areas[country] for prefix, country in PERSONAL.items()}

    def place(digits: str) -> tuple[str, str]:
        return _longest(operators, digits, ""), _longest(provinces, digits, "")

    def zones(digits: str) -> tuple[str, ...]:
        return _longest(areas, digits, ())

    places, place_starts, place_owners = _intervals([*operators, *provinces], place)
    zone_sets, zone_starts, zone_owners = _intervals(areas, zones)
    numbering = Numbering(
        phonenumbers.__version__, places, place_starts, place_owners, zone_sets, zone_starts, zone_owners
    )
    NUMBERING_FILE.write_bytes(zlib.compress(msgspec.msgpack.encode(numbering), 9))


def _operator(prefix: str, names: Mapping[str, str]) -> str:
    """Make a slug of an operator's name: the English one, else the first in any language."""
    name = names.get("en") or next(iter(names.values()), "")
    if prefix.startswith("86"):
        return _SLUG_OF_NAME.get(name, _slug(name))
    return _slug(name)


def _slug(name: str) -> str:
    """Keep a name's letters and digits in lower case, other runs as one dash; Cyrillic stays Cyrillic."""
    bare = "".join(mark for mark in unicodedata.normalize("NFKD", name) if not unicodedata.combining(mark))
    return "-".join(re.findall(r"[^\W_]+", bare.casefold()))


def _names_zones(prefix: str) -> bool:
    country = len(prefix) <= 3 and int(prefix) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    return country or prefix.startswith(AREA_CODES)


def _longest(table: Mapping[str, Owner], digits: str, unknown: Owner) -> Owner:
    for width in range(len(digits), 0, -1):
        if digits[:width] in table:
            return table[digits[:width]]
    return unknown


def _intervals(
    prefixes: Iterable[str], owner_of: Callable[[str], Owner]
) -> tuple[tuple[Owner, ...], bytes, bytes]:
    """Turn prefixes into intervals. Returns the distinct owners (the unknown first), starts and indices."""
    edges = {0}
    for prefix in prefixes:
        width = 10 ** (PREFIX_DIGITS - len(prefix))
        edges |= {int(prefix) * width, (int(prefix) + 1) * width}
    indices: dict[Owner, int] = {}
    starts: list[int] = []
    owners: list[int] = []
    for edge in sorted(edges - {10**PREFIX_DIGITS}):
        index = indices.setdefault(owner_of(f"{edge:0{PREFIX_DIGITS}}"), len(indices))
        if not owners or owners[-1] != index:
            starts.append(edge)
            owners.append(index)
    steps = [start - before for start, before in zip(starts, [0, *starts], strict=False)]
    return tuple(indices), _little_endian("I", steps), _little_endian("H", owners)


def _little_endian(kind: str, values: Sequence[int]) -> bytes:
    integers = array(kind, values)
    if sys.byteorder == "big":
        integers.byteswap()
    return integers.tobytes()


if __name__ == "__main__":
    main()
