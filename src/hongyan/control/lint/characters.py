"""Rules on single characters: what cannot be sent, what is not shown everywhere, what makes a text dear abroad.

Writes nothing; pure. Entry points: RULES, strangers().
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from hongyan.control.lint import cost, sources
from hongyan.control.lint.cost import Length
from hongyan.control.lint.finding import FILLED, HIDDEN, FindingLevel, Hit, Place, Rule, Subject, levels
from hongyan.vocab import text
from hongyan.vocab.plain import SIMPLIFIED
from hongyan.vocab.text import Counting, Encoding

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# What GSM-7 has of its own for characters that word processors put in: the text stays the same to a reader.
PLAINER: Final = {
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "″": '"',
    "«": '"', "»": '"', "–": "-", "—": "-", "‐": "-", "‑": "-", "−": "-", "…": "...", "•": "-", "·": ".",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ", "\t": " ", "×": "x", "÷": "/", "¢": "c", "©": "(c)", "®": "(R)",
    "™": "(TM)", "°": "o", "ç": "Ç", ",": ",", "。": ".", ":": ":", ";": ";", "!": "!", "?": "?",
    "(": "(", ")": ")",
}  # fmt: skip


def _control(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in CONTROL.finditer(subject.bare):
        yield Hit(*found.span(), {"code": f"U+{ord(found[0]):04X}"}, "")


def _hidden(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in HIDDEN.finditer(subject.bare):
        yield Hit(*found.span(), {"code": f"U+{ord(found[0]):04X}"}, "")


def _astral(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in re.finditer(r"[\U00010000-\U0010ffff][\ufe0f\u200d\U00010000-\U0010ffff]*", subject.bare):
        yield Hit(*found.span(), {"character": found[0]}, "")


def _traditional(subject: Subject, _: Place) -> Iterator[Hit]:
    for found in re.finditer("[\u3400-\u9fff]+", subject.bare):
        odd = [at for at, character in enumerate(found[0]) if is_traditional(character)]
        if odd:
            words = {"characters": "".join(found[0][at] for at in odd[:10])}
            written = found[0][odd[0] : odd[-1] + 1]
            mended = "".join(SIMPLIFIED.get(one, one) if is_traditional(one) else one for one in written)
            suggestion = mended if mended != written else None
            yield Hit(found.start() + odd[0], found.start() + odd[-1] + 1, words, suggestion)


@lru_cache(maxsize=4_096)
def is_traditional(character: str) -> bool:
    """Tell whether Taiwan's character set has it and the mainland's does not (Big5, GB 2312)."""
    return _within(character, "big5") and not _within(character, "gb2312")


def _within(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def strangers(written: str) -> str:
    """Return each character once that GSM-7 has not, in order."""
    return "".join(one for one in dict.fromkeys(written) if not _plain(one))


@lru_cache(maxsize=4_096)
def _plain(character: str) -> bool:
    return text.count(character, Counting.INTERNATIONAL).encoding is Encoding.GSM7


def plainer(character: str) -> str | None:
    """Return what GSM-7 has for a character, as near as it gets; None where there is nothing."""
    if character in PLAINER:
        return PLAINER[character]
    letter = unicodedata.normalize("NFKD", character)[:1]
    return letter if letter.isascii() and letter.isalnum() else None


def _wide(subject: Subject, place: Place) -> Iterator[Hit]:
    """Texts in scripts that GSM-7 has not are what they are; those that only slipped into UCS-2 are told."""
    odd = strangers(subject.bare.replace(FILLED, ""))
    if not odd or any(_foreign_letter(character) for character in odd):
        return
    usual = cost.size(cost.signed(subject, place, Length.USUAL), place)
    bare = "".join(
        "x" if character in odd else character for character in cost.signed(subject, place, Length.USUAL)
    )
    narrow = cost.size(bare, place)
    if narrow.encoding is not Encoding.GSM7:
        return  # the signature does it anyway
    for found in re.finditer("[" + re.escape(odd) + "]+", subject.bare):
        mended = [plainer(character) for character in found[0]]
        suggestion = None if None in mended else "".join(filter(None, mended))
        words = {"characters": found[0], "parts": usual.parts, "narrow": narrow.parts}
        yield Hit(*found.span(), words, suggestion)


def _foreign_letter(character: str) -> bool:
    return character.isalpha() and plainer(character) is None


E, W, A = FindingLevel.ERROR, FindingLevel.WARNING, FindingLevel.ADVICE
RULES: Final = (
    Rule(
        id="character.control",
        zh="含有不能发送的控制字符 {code}",
        en="There is a control character that cannot be sent: {code}",
        source=sources.OURS,
        levels=levels(E, E),
        find=_control,
    ),
    Rule(
        id="character.hidden",
        zh="含有看不见的字符 {code},常被视为规避审核",
        en="There is a character nobody sees, {code}, as used to slip through reviews",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, W),
        find=_hidden,
    ),
    Rule(
        id="character.emoji",
        zh="“{character}”等表情或四字节字符,部分通道和手机不能显示,且占两个字",
        en="“{character}” counts twice and is not shown everywhere",
        source=sources.ALIYUN_ERRORS,
        levels=levels(W, A),
        find=_astral,
    ),
    Rule(
        id="character.traditional",
        zh="含有繁体字“{characters}”,国内通道常不接受",
        en="Traditional characters, {characters}, are often not taken in the mainland",
        source=sources.ALIYUN_NOTICE,
        levels=levels(W, None),
        find=_traditional,
    ),
    Rule(
        id="character.not_gsm7",
        zh="“{characters}”不在 GSM-7 字符集中,整条短信改用 UCS-2:通常 {parts} 条,换掉后 {narrow} 条",
        en="“{characters}” is not in GSM-7 and turns the whole text to UCS-2: {parts} parts, {narrow} without",
        source=sources.GSM_ALPHABET,
        levels=levels(None, W),
        find=_wide,
    ),
)
