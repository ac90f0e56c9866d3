"""The plain form of a text: what is left once everything is gone that only dresses it up.

Pure. Entry points: plain(), which words of a list and texts are compared in; places(), which leads back to the raw
text; noise(), which says where there is some. Gone are: width, case, accents, enclosures (①, Ⓐ), traditional and
variant characters, Cyrillic and Greek letters that look Latin, what is not seen (zero-width, direction marks, variation
selectors), noise between Chinese characters or letters that stand alone ('狗.东*西', '赌丶博', 's e x'), and the few
characters that stand for WeChat and QQ by their sound alone ('加薇信').

Surprise: sentence marks (，。！？：；), brackets and line ends are no noise. Two sentences that meet there say
nothing together, and taking them away would find words that nobody wrote.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final

KNOWN_CHARACTERS_MAX: Final = 30_000  # whose plain form is remembered; texts in use know some thousands


def plain(text: str) -> str:
    """Return the plain form of a text. What is plain stays as it is."""
    return _as_meant(_NOISE.sub("", text.translate(_FOLDED)))


def folded(text: str) -> str:
    """Return a text read character by character alone: noise between them stays."""
    return text.translate(_FOLDED)


def noise(text: str) -> Sequence[tuple[int, int]]:
    """Return where there is noise in a text that is wanted as it is written otherwise."""
    pieces = (_FOLDED[ord(each)] for each in text)
    even = "".join(piece if len(piece) == 1 else each for piece, each in zip(pieces, text, strict=True))
    return [found.span() for found in _NOISE.finditer(even)]


def places(text: str) -> tuple[str, Sequence[int]]:
    """Return the plain form, and for each of its characters the place in the raw text that it stands for."""
    pieces = [_FOLDED[ord(each)] for each in text]
    folded = "".join(pieces)
    origins = [at for at, piece in enumerate(pieces) for _ in piece]
    kept: list[int] = []
    end = 0
    for noise in _NOISE.finditer(folded):
        kept += origins[end : noise.start()]
        end = noise.end()
    return _as_meant(_NOISE.sub("", folded)), [*kept, *origins[end:]]


def fold(each: str) -> str:
    """Return what one character is read as: nothing, itself, or others."""
    kind = unicodedata.category(each)
    if each in _LINE_ENDS:
        return "\n"
    if kind == "Cf" or each in _UNSEEN or _is_mark(each):
        return ""
    if kind[0] == "Z" or kind == "Cc":
        return " "
    number = ord(each)
    for first, last in _LETTER_SIGNS:
        if first <= number <= last:
            return chr(ord("a") + number - first)
    found = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", each).casefold())
    if kind in ("No", "So"):
        found = _bare_number(each, found)
    return "".join(_as_noise(VARIANTS.get(one, one)) for one in found if not _is_mark(one))


_UNSEEN: Final = frozenset(
    "\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5"
)  # letters and signs that show nothing
_LINE_ENDS: Final = frozenset("\n\r\v\f\x85\u2028\u2029")
_MARKS: Final = (
    ("\u0300", "\u036f"),
    ("\u0483", "\u0489"),
    ("\u1ab0", "\u1aff"),
    ("\u1dc0", "\u1dff"),
    ("\u20d0", "\u20ff"),  # the frame of a keycap
    ("\ufe00", "\ufe0f"),  # variation selectors
    ("\ufe20", "\ufe2f"),
    ("\U000e0100", "\U000e01ef"),
)
# Letters that count as pictures: circled and squared in negative, and those that flags are made of.
_LETTER_SIGNS: Final = ((0x1F150, 0x1F169), (0x1F170, 0x1F189), (0x1F1E6, 0x1F1FF))
_ENCLOSURES: Final = "().,〔〕"


def _is_mark(each: str) -> bool:
    """Accents and frames. Voice marks of kana and vowels of other scripts are none: they make another letter."""
    return any(first <= each <= last for first, last in _MARKS)


def _bare_number(each: str, found: str) -> str:
    """Take ⑴ and ⒈ out of their brackets and dots, and read ❶ as the digit it is."""
    if found == each:
        return str(unicodedata.digit(each, each))
    return found.strip(_ENCLOSURES) or found


def _as_noise(read: str) -> str:
    """Read every sign that is used between characters to part them as one of those _NOISE knows."""
    if read.isascii() or read.isalnum():
        return read
    kind = unicodedata.category(read)
    if kind in ("So", "Sk", "Sm", "Pd", "Pc") or read in "·•‥…‧・※†‡⁎⁑":
        return "*"
    if kind in ("Pi", "Pf") or read in "′″‵`´":
        return "'"
    return "$" if kind == "Sc" else read


def _read_variants() -> Mapping[str, str]:
    lines = resources.files(__package__).joinpath("variants.tsv").read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if not line.startswith("#"))
    return {each: simplified for simplified, others in pairs for each in others}


# In both cases alike, so that case makes no difference. A Russian word becomes a strange one, here and in its list.
_LOOK_ALIKES: Final = dict(
    zip("авеһкмнорстухіјѕԁԛԝүӏαβεζηικμνορτυχ" "øłđıɑɡʙʜɪʟɴʀʏᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ",
        "abehkmhopctyxijsdqwylabezhikmnoptyx" "oldiagbhilnryacdejkmoptuvwz", strict=True)
)  # fmt: skip
_NUMERALS_OF_BANKS: Final = dict(zip("壹贰叁肆伍陆柒捌玖拾", "一二三四五六七八九十", strict=True))
SIMPLIFIED: Final = _read_variants()
VARIANTS: Final = {
    **{each: _NUMERALS_OF_BANKS.get(simplified, simplified) for each, simplified in SIMPLIFIED.items()},
    **_NUMERALS_OF_BANKS,
    **_LOOK_ALIKES,
}


class _Folded(dict[int, str]):
    """fold() by code point, as str.translate wants it: what was asked once is remembered."""

    def __missing__(self, number: int) -> str:
        read = fold(chr(number))
        if len(self) < KNOWN_CHARACTERS_MAX:
            self[number] = read
        return read


_FOLDED: Final = _Folded()

STROKES: Final = "丨丶丿乀乁乚乛亅"  # of characters: characters themselves, but no word has one
# Scripts that write words without spaces between them; STROKES are left out.
CHINESE: Final = (
    "\u1100-\u11ff\u3007\u3040-\u30ff\u3400-\u4dbf"
    "\u4e00-\u4e27\u4e29-\u4e35\u4e37-\u4e3e\u4e42-\u4e59\u4e5c-\u4e84\u4e86-\u9fff"
    "\uac00-\ud7a3\U00020000-\U0003ffff"
)
NOISE: Final = r" .\-*#@&_|/\\~^+=<>'\"`$%" + STROKES
# A space after a space; or a character of noise with what it needs before it, more of it, and what it needs behind it:
# a Chinese character, or a letter that is not part of a longer word.
_NOISE: Final = re.compile(
    rf"[{NOISE}](?:(?<=  ) *|(?:(?<=[{CHINESE}][{NOISE}])|(?<=[a-z][{NOISE}])(?<![a-z0-9][a-z][{NOISE}]))[{NOISE}]*"
    rf"(?=[{CHINESE}]|[a-z](?![a-z0-9])))"
)


def _as_meant(read: str) -> str:
    """Read what sounds like WeChat or QQ as that, character by character, where nothing else can be meant.

    Only behind 加, before 号 or 群, or before an account's name: 安徽信息 and 王薇信用卡 hold no WeChat. 威信 stays what
    it is, a word of its own (增加威信).
    """
    if "加" in read:  # seldom, and quicker to ask than to search
        read = _ADDED.sub(_meant, read)
    return _QQ.sub(_meant, read) if "扣扣" in read else read


def _meant(found: re.Match[str]) -> str:
    return found[0].translate(_MEANT)


_ADDED: Final = re.compile("加(?:[薇溦徽]信|薇(?=[:a-z0-9])|扣扣(?![费款除减]))")
_QQ: Final = re.compile("扣扣(?=[号群])")
_MEANT: Final = str.maketrans("薇溦徽扣", "微微微q")
# What a word may have that was read otherwise by an earlier version, and stored so.
READ_ANEW: Final = STROKES + "薇溦徽扣"
