"""Write variants.tsv, the table of traditional and variant characters that plain.py reads, from the data of OpenCC.

For maintainers: `pip install opencc==1.4.2` into an environment of its own, then
`python -m hongyan.vocab.build_variants`. Never imported by the program. OpenCC's dictionaries are under the Apache
License 2.0, as we are; the table says so in its first line.

Surprise. Where several simplified characters stand behind a traditional one, the first in OpenCC's order is taken:
both the words of a list and the texts are read by the same table, so a rare wrong one harms neither. Characters of
the simplified standard (GB 2312) keep their own, but where OpenCC itself calls them traditional.
"""

import importlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

VARIANTS_FILE: Final = Path(__file__).with_name("variants.tsv")
IDEOGRAPHS: Final = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0x20000, 0x323B0))
# Which of OpenCC's conversions are tried in turn; those of one country only for what GB 2312 does not know.
EVERYWHERE: Final = ("t2s",)
REGIONAL: Final = (("hk2s",), ("tw2s",), ("jp2t", "t2s"))
HEADER: Final = (
    "# simplified, and what is read as it. From the dictionaries of OpenCC {version}, Apache License 2.0"
)


def main() -> None:
    """Build the table and write it beside this module."""
    opencc: Any = importlib.import_module("opencc")
    converters = {name: opencc.OpenCC(name).convert for route in (EVERYWHERE, *REGIONAL) for name in route}
    table = {each: plain for each in _ideographs() if (plain := _simplified(each, converters)) != each}
    read_as: defaultdict[str, list[str]] = defaultdict(list)
    for each in table:
        end = each
        while end in table:
            end = table[end]
        read_as[end].append(each)
    lines = [f"{plain}\t{''.join(sorted(others))}" for plain, others in sorted(read_as.items())]
    header = HEADER.format(version=importlib.import_module("importlib.metadata").version("opencc"))
    VARIANTS_FILE.write_text("\n".join([header, *lines, ""]), "utf-8")


def _ideographs() -> Iterator[str]:
    for first, end in IDEOGRAPHS:
        yield from (chr(number) for number in range(first, end) if unicodedata.category(chr(number)) == "Lo")


def _simplified(each: str, converters: dict[str, Callable[[str], str]]) -> str:
    routes = (EVERYWHERE,) if _is_simplified(each) else (EVERYWHERE, *REGIONAL)
    for route in routes:
        found = each
        for name in route:
            found = converters[name](found)
        if found != each and len(found) == 1:
            return found
    return each


def _is_simplified(each: str) -> bool:
    try:
        each.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    main()
