"""What a value of a template must not smuggle past review: links, telephone numbers, accounts elsewhere.

Pure. Entry point: smuggled(). A reviewed text leads nowhere by itself, so who wants people to go somewhere puts the way
there into a variable, in letters no pattern knows: ｗｗｗ．ａ．ｃｏｍ, 1③8零零138000, 'a 点 com'. The value is
therefore read as a person reads it (plain.py) and only then looked through.

Surprises. What stands for itself passes: a number of an order is a number; only what is shaped as a mainland mobile is
taken for one, and masked numbers (138****8000) are no numbers. Every message asks this of every free value, so two
searches of the value as it is written come first, may_lead() and may_ring(): where both find nothing, nothing is there.
"""

import re
from enum import StrEnum
from typing import Final

from hongyan.vocab.plain import VARIANTS, folded

# So few characters are no number to call, unless may_lead() finds one that stands for several digits.
SHORTER: Final = 10


class Smuggled(StrEnum):
    """What was found."""

    LINK = "link"
    PHONE = "phone"  # a mainland mobile
    ACCOUNT = "account"  # of WeChat or QQ


def smuggled(text: str) -> Smuggled | None:
    """Say what a value has that leads elsewhere; None where it has nothing of the kind."""
    return look_through(text) if may_lead(text) or (len(text) > SHORTER and may_ring(text)) else None


def look_through(text: str) -> Smuggled | None:
    """Say the same without the two searches before it."""
    read = folded(text)
    if _MAY_LINK.search(read) and _links(read):
        return Smuggled.LINK
    if _FEW_DIGITS.search(counted := read.translate(_DIGITS)):
        if _PHONE.search(counted) or _PHONE.search(counted.translate(_LIKE_DIGITS)):
            return Smuggled.PHONE
        if _QQ.search(counted.replace(" ", "")):
            return Smuggled.ACCOUNT
    return Smuggled.ACCOUNT if _MAY_ACCOUNT.search(read) and _WECHAT.search(read) else None


def _links(read: str) -> bool:
    if _LINK.search(read):
        return True
    whole = _DOT.sub(".", read.replace(" ", ""))
    return _SURE_LINK.search(whole) is not None


_DIGITS: Final = str.maketrans("〇零一二三四五六七八九", "00123456789")
_LIKE_DIGITS: Final = str.maketrans("oli", "011")
_MAY_LINK: Final = re.compile("[.。点]|://|dot")
_FEW_DIGITS: Final = re.compile("[0-9](?:[^0-9]*[0-9]){4}")
_MAY_ACCOUNT: Final = re.compile("[微威薇徽vw]")

# Ends of host names that programs make links of. Those that are words as well count only where nothing parts them.
_ENDS: Final = (
    "com|cn|net|org|info|top|xyz|cc|me|io|vip|shop|link|co|tv|app|site|online|club|icu|pw|ltd|fun|live|store|work|wang|"
    "ren|biz|mobi|tech|click|win|bid|loan|pro|la|ly|gl|gd|im|so|hk|tw|us|uk|ru|eu|中国|公司|网络|网址"
)
_LINK: Final = re.compile(
    rf"https?:|://|www\.|[a-z0-9-]\.(?:{_ENDS})(?:[/?:]|$|[^a-z0-9-])|[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}[:/]"
)
_DOT: Final = re.compile(r"(?<=[a-z0-9])[\[({<]?(?:[.。]|点|dot)[\])}>]?(?=[a-z])")
_SURE_LINK: Final = re.compile(r"://|www\.|[a-z0-9-]\.(?:com|cn|org|xyz|net|top|vip|cc)(?![a-z0-9-])")

_BETWEEN: Final = r"[ .\-*_/|~'+,]{0,3}"
_PHONE: Final = re.compile(
    rf"(?<![0-9])(?:(?:0{_BETWEEN}0{_BETWEEN}|\+{_BETWEEN})?8{_BETWEEN}6{_BETWEEN})?1{_BETWEEN}[3-9](?:{_BETWEEN}[0-9]){{9}}(?![0-9])"
)
_QQ: Final = re.compile(r"(?:qq|扣扣|企鹅|球球|q群|加q|q号)[号群:加是为码.\-*]*[1-9][0-9]{4,11}(?![0-9])")
_ID: Final = r"[a-z0-9][a-z0-9_\-]{4,19}(?![a-z0-9])"
_WECHAT: Final = re.compile(
    rf"(?:微信|威信|薇信|徽信|微号|v信|wechat|weixin|加微|加v)(?:[ :号加是为.\-*]|id)*{_ID}"
    rf"|(?<![a-z0-9])[vw]x[ :号加是为.\-*]+{_ID}"
)

# What the two searches stop at: what all of the above begins with, in either case, and all that is not read as it is
# written. To find too much costs a microsecond; to find too little would let something pass (test_smuggled.py asks).
_STARTS: Final = ".。点:：dDwWxXqQ扣企球加微威薇徽信"
_HEEDED: Final = frozenset(_STARTS + "号群鹅中公网零一二三四五六七八九")
_DRESSED: Final = "".join(sorted(each for each, read in VARIANTS.items() if read in _HEEDED))
_USUAL_MARKS: Final = "，！？；、（）《》“”‘’·—～￥"


def _familiar() -> str:
    """Return a class of characters that mean nothing here and are read as they are written, but for their case."""
    ascii_ones = "".join(re.escape(chr(code)) for code in range(0x20, 0x7F) if chr(code) not in _STARTS)
    edges = sorted(each for each in {*_STARTS, *_DRESSED} if "\u4e00" <= each <= "\u9fff")
    firsts = ["\u4e00", *(chr(ord(each) + 1) for each in edges)]
    lasts = [*(chr(ord(each) - 1) for each in edges), "\u9fff"]
    chinese = "".join(f"{one}-{other}" for one, other in zip(firsts, lasts, strict=True) if one <= other)
    return ascii_ones + _USUAL_MARKS + chinese


_FAMILIAR: Final = _familiar()
may_lead: Final = re.compile(
    rf"[^{_FAMILIAR}](?:"
    r"(?<=[:：])(?: */ */|(?<=[tT][pP].)|(?<=[tT][pP][sS].))"
    r"|(?<=[dDwWxXqQ])(?:(?<=[dD])[oO][tT]|(?<=[wW])(?: *[wW] *[wW]|[eE][cC][hH])|(?<=[vVwW][xX])[^a-zA-Z0-9]"
    r"|(?<=[eE][iI][xX])[iI]|(?<=[qQ]) *[qQ群号])"
    r"|(?<=[.。点])(?:[ \])}>）]*[a-zA-Z中公网]|[0-9]{1,3}[:/：])"
    r"|(?<=[微威薇徽信加扣企球])(?:(?<=[微威薇徽vV]信)|(?<=[微威薇徽])号|(?<=加) *[qQ微vV]|(?<=扣) *扣|(?<=企) *鹅|(?<=球) *球)"
    rf"|(?<![{_FAMILIAR}{re.escape(_STARTS)}]))"
).search
_COUNT: Final = "0-9零一二三四五六七八九oliOLI"
may_ring: Final = re.compile(
    rf"[1一lLiI][^{_COUNT}]{{0,3}}[3-9三四五六七八九](?:[^{_COUNT}]{{0,3}}[{_COUNT}]){{9}}"
).search
