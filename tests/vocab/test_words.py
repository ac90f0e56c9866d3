"""However a text is dressed up, the verdict on it is the same; usual words pass; every hit says where it is."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.vocab import words as vocab_words
from hongyan.vocab.message import ChannelId, TenantId
from hongyan.vocab.plain import NOISE, SIMPLIFIED, fold, places, plain
from hongyan.vocab.words import (
    HITS_MAX,
    PART_WORDS_MAX,
    SHORT_WORDS,
    Automaton,
    Hit,
    Level,
    Listed,
    Scope,
    Sought,
    Words,
)

CASES: Final = 10_000
TENANT, OTHER = TenantId(1), TenantId(2)
CHANNEL: Final = ChannelId(7)
DENIED: Final = (
    "装",
    "他妈",
    "妹妹花",
    "赌博",
    "代开发票",
    "高利贷",
    "一夜情",
    "刷单返利",
    "加vx",
    "viagra",
    "sex",
    "free money",
    "下注",
)
CARRIERS: Final = (
    "【鸿雁】您的订单{}已到南门，请查收", "尊敬的会员，{}。退订回T", "{}", "今日特惠{}！", "本店{}，欢迎光临",
    "Dear customer, {} thanks",
    "验证码 123456，{}", "您好：{}；谢谢",
)  # fmt: skip
HARMLESS: Final = (
    "女装", "他妈妈", "装修", "姐妹", "其他妈妈", "包装", "如下注意", "博物馆", "发票", "贷款",
    "sussex", "unisex", "money", "夜情", "单返",
)  # fmt: skip


def listed(*, id: int = 1, **fields: Any) -> Listed:  # noqa: A002 - as the field is called
    return Listed(id=id, name=f"list {id}", **fields)


def words_of(*denied: str, allowed: Sequence[str] = (), **fields: Any) -> Words:
    lists = [(Listed(id=1, name="list 1", **fields), Sought(map(plain, denied)))]
    if allowed:
        lists.append((listed(id=2, allows=True), Sought(map(plain, allowed))))
    return Words(Scope(lists))


def found(words: Words, text: str, tenant_id: TenantId = TENANT) -> list[str]:
    return [hit.text for hit in words.check(text, tenant_id)]


BUILT: Final = words_of(*DENIED)


# ---- dress


TRADITIONAL: Final[dict[str, list[str]]] = {}
for _each, _simplified in SIMPLIFIED.items():
    TRADITIONAL.setdefault(_simplified, []).append(_each)
LOOK_ALIKE: Final = dict(zip("aeopcxyi", "аеорсхуі", strict=True))
CHINESE: Final = range(0x4E00, 0xA000)


def hidden(text: str, chance: random.Random) -> str:
    marks = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202a\u202e\u2066\ufe0f\u034f"
    return "".join(each + chance.choice(marks) * (chance.random() < 0.3) for each in text)


def wide(text: str, chance: random.Random) -> str:
    return "".join(
        chr(ord(each) + 0xFEE0) if "!" <= each <= "~" and chance.random() < 0.5 else each for each in text
    )


def cased(text: str, chance: random.Random) -> str:
    return "".join(each.upper() if each.isascii() and chance.random() < 0.5 else each for each in text)


def traditional(text: str, chance: random.Random) -> str:
    return "".join(
        chance.choice(TRADITIONAL[each]) if each in TRADITIONAL and chance.random() < 0.7 else each
        for each in text
    )


def noisy(text: str, chance: random.Random) -> str:
    """Put noise between Chinese characters."""
    after = text[1:] + " "
    return "".join(
        each + "".join(chance.choices(" .-*#@&_|/·★😀~丶丨", k=chance.randrange(3)))
        if ord(each) in CHINESE and ord(then) in CHINESE
        else each
        for each, then in zip(text, after, strict=True)
    )


def accented(text: str, chance: random.Random) -> str:
    return "".join(
        each + "\u0301" * (each.isascii() and each.isalpha() and chance.random() < 0.3) for each in text
    )


DRESSES: Final[Sequence[Callable[[str, random.Random], str]]] = (
    hidden,
    wide,
    cased,
    traditional,
    noisy,
    accented,
)


def test_the_verdict_does_not_change_with_the_dress() -> None:
    chance = random.Random(2026)
    for case in range(CASES):
        word = chance.choice(DENIED + HARMLESS)
        text = chance.choice(CARRIERS).format(word)
        dressed = text
        for dress in chance.sample(DRESSES, chance.randrange(1, len(DRESSES) + 1)):
            dressed = dress(dressed, chance)
        verdict = [(hit.word, hit.level) for hit in BUILT.check(text, TENANT)]
        assert bool(verdict) is (word in DENIED), (case, text)
        assert [(hit.word, hit.level) for hit in BUILT.check(dressed, TENANT)] == verdict, (case, dressed)


@pytest.mark.parametrize(
    "text",
    [
        "賭博", "赌　博", "赌😀博", "赌...博", "赌\u200b博", "赌 * 博", "賭★博",
        "1夜情", "壹夜情", "①夜情", "ＶＩＡＧＲＡ", "v i a g r a",
        "v.i.a.g.r.a", "ѕех", "Vïágra", "ⓢⓔⓧ", "🅂🄴🅇", "𝐬𝐞𝐱", "加V X", "加 v x", "⼀夜情", "FREE MONEY",
    ],
)  # fmt: skip
def test_a_word_is_found_in_disguise(text: str) -> None:
    assert found(BUILT, f"本店{text}，欢迎") == [text]


@pytest.mark.parametrize(
    "text",
    [
        "女装上新", "他妈妈来了", "家装公司", "安装师傅", "其他妈妈的意见", "请阅读如下注意事项", "我买了赌，博物馆见",
        "第一。夜情人", "sexy",
        "Sussex", "unisex 款", "sex1", "essex", "freemoney", "", "ладно, сеч", "加v领毛衣", "妹妹",
    ],
)  # fmt: skip
def test_a_word_is_not_found_in_another(text: str) -> None:
    assert found(BUILT, text) == []


def test_a_word_that_is_denied_by_itself_is_no_usual_word_any_more() -> None:
    assert found(words_of("女装"), "女装上新") == ["女装"]


def test_an_allowed_word_covers_what_lies_inside_it_and_nothing_beside_it() -> None:
    words = words_of("和谐", allowed=["不和谐音"])
    assert found(words, "不和谐音") == []
    assert found(words, "不和谐的和谐") == ["和谐", "和谐"]
    assert found(words_of("音乐", allowed=["和谐音"]), "和谐音乐") == ["音乐"]


def test_allowed_words_are_taken_leftmost_and_longest() -> None:
    words = words_of("乙丙", "丁", allowed=["甲乙", "甲乙丙", "乙丙丁"])
    assert found(words, "甲乙丙丁") == ["丁"]  # 甲乙丙 is taken, so 乙丙丁 is not


def test_a_word_of_another_alphabet_is_not_taken_for_ours() -> None:
    words = words_of("cop")
    assert found(words, "сор и мусор") == []  # Russian, and means litter
    assert found(words, "хороший сор") == []
    assert found(words, "call a сор") == ["сор"]  # a look-alike among Latin letters
    assert found(words, "叫сор来") == ["сор"]
    russian = Words(Scope([(listed(), Sought([f"{plain('сор')}\tсор"]))]))
    assert found(russian, "хороший сор") == ["сор"]
    assert found(russian, "a cop") == []


def test_a_hit_says_where_in_the_raw_text_it_is() -> None:
    (hit,) = words_of("赌博", tag="gambling", level=Level.HOLD).check("【鸿雁】請去ﬁ 賭\u200b .博 吧", TENANT)
    assert hit == Hit(
        start=8,
        end=13,
        text="賭\u200b .博",
        word="赌博",
        list_id=1,
        list="list 1",
        level=Level.HOLD,
        tag="gambling",
    )


@given(st.text(st.sampled_from([*"赌博装a.b *ﬁ㎡①\u200b\u0301賭😀，", "½"]), max_size=20))
def test_places_agree_with_the_plain_form(text: str) -> None:
    read, origins = places(text)
    assert read == plain(text)
    assert len(origins) == len(read)
    assert list(origins) == sorted(origins)
    for at, each in zip(origins, read, strict=True):
        assert each in fold(text[at])


@given(st.text(max_size=40))
def test_the_plain_form_of_a_plain_form_is_itself(text: str) -> None:
    assert plain(plain(text)) == plain(text)


def test_every_character_is_read_as_what_stays_as_it_is() -> None:
    for number in (*range(0xD800), *range(0xE000, 0x30000)):
        read = fold(chr(number))
        assert "".join(map(fold, read)) == read, hex(number)


def test_traditional_characters_are_read_as_simplified() -> None:
    assert plain("發票 貸款 裏裡 臺灣 賭 後髮 鍾鐘 隻 麵") == "发票贷款里里台湾赌后发钟钟只面"


def test_sentence_marks_are_no_noise() -> None:
    assert plain("赌，博。赌；博、赌！博？赌：博\n赌") == "赌,博。赌;博、赌!博?赌:博\n赌"
    assert set("，。！？；：、\n（）【】《》") & set(NOISE) == set()


def test_a_tenants_list_counts_for_nobody_else() -> None:
    words = Words(tenants={TENANT: Scope([(listed(tenant_id=TENANT), Sought(["竞品"]))])})
    assert found(words, "竞品", TENANT) == ["竞品"]
    assert found(words, "竞品", OTHER) == []


def test_a_tenant_opens_its_own_lists_only_and_the_platform_opens_its_too() -> None:
    platform = Scope([(listed(), Sought(["贷款"]))])
    own = [
        (listed(id=3, tenant_id=TENANT), Sought(["房贷"])),
        (listed(id=4, tenant_id=TENANT, allows=True), Sought(["房贷款", "贷款"])),
    ]
    granted = [(listed(id=5, tenant_id=TENANT, allows=True, grants=True), Sought(["贷款"]))]
    assert found(Words(platform, {TENANT: Scope(own)}), "房贷款") == ["贷款"]
    assert found(Words(platform, {TENANT: Scope([*own, *granted])}), "房贷款") == []
    assert found(Words(platform, {TENANT: Scope(granted)}), "贷款", OTHER) == ["贷款"]


def test_warnings_hold_nothing_up_but_are_told_of_a_template() -> None:
    words = words_of("贷款", level=Level.WARN)
    assert found(words, "贷款") == []
    assert [hit.level for hit in words.check_template("贷款${x}", None)] == [Level.WARN]


def test_a_channels_list_shuts_the_channel_alone() -> None:
    words = Words(channels={CHANNEL: Scope([(listed(channel_id=CHANNEL), Sought(["股票"]))])})
    assert words.shuts(CHANNEL, "股 票", TENANT)
    assert not words.shuts(CHANNEL, "基金", TENANT)
    assert not words.shuts(ChannelId(8), "股票", TENANT)
    assert found(words, "股票") == []
    assert [hit.level for hit in words.check_template("股票", TENANT)] == [Level.WARN]


def test_of_words_that_overlap_the_worst_is_told() -> None:
    words = Words(Scope([(listed(level=Level.HOLD), Sought(["高息理财"])), (listed(id=2), Sought(["理财"]))]))
    assert [(hit.word, hit.level) for hit in words.check("高息理财", TENANT)] == [("理财", Level.BLOCK)]


def test_only_so_many_hits_are_told() -> None:
    assert len(BUILT.check("赌博 " * 500, TENANT)) == HITS_MAX


def test_a_mere_number_is_no_chinese_one() -> None:
    assert found(words_of("64"), "六四折") == []
    assert found(words_of("六四"), "64 号") == []
    assert found(words_of("64"), "共64元") == ["64"]


MANY: Final = sorted(
    f"{chr(0x4E42 + n // 200)}{chr(0x6E00 + n % 200)}"
    for n in random.Random(5).sample(range(PART_WORDS_MAX * 4), PART_WORDS_MAX * 2 + 1)
)


def test_a_list_too_long_for_one_automaton_is_searched_whole() -> None:
    automaton = Automaton([(listed(), Sought(MANY))])
    for word in (MANY[0], MANY[PART_WORDS_MAX], MANY[-1]):
        assert [one.word for one in automaton.find(f"x{word}x")] == [word]


@given(st.sets(st.text(st.sampled_from("乞书鹅龙龟"), min_size=1, max_size=4), max_size=60), st.data())
def test_a_long_list_that_was_changed_is_the_same_as_one_made_anew(
    before: set[str], draw: st.DataObject
) -> None:
    gone = draw.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    new = draw.draw(st.sets(st.text(st.sampled_from("乞书鹅龙龟"), min_size=1, max_size=4), max_size=40))
    words = sorted((before - gone) | new)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vocab_words, "SHORT_WORDS", 4)
        patched.setattr(vocab_words, "PART_WORDS_MIN", 3)
        patched.setattr(vocab_words, "PART_WORDS_MAX", 8)
        changed = Sought(words, Sought(sorted(before)))
    assert changed.words == Sought(words).words
    if changed.parts:
        assert [word for part in changed.parts for word in part.words] == words
        assert all(len(part.words) <= 8 for part in changed.parts)
    automaton = Automaton([(listed(), changed)])
    text = "。".join({*before, *new})
    assert {one.word for one in automaton.find(text)} == {word for word in words if word in text}


def test_of_a_long_list_only_those_parts_are_built_again_in_which_a_word_changed() -> None:
    before = Sought(MANY)
    after = Sought([word for word in MANY if word != MANY[PART_WORDS_MAX + 7]], before)
    kept = {id(part.find) for part in before.parts} & {id(part.find) for part in after.parts}
    assert len(before.parts) == len(after.parts)
    assert len(kept) == len(before.parts) - 1


def test_a_list_that_loses_nearly_all_its_words_has_no_parts_of_a_few() -> None:
    left = Sought(MANY[:: len(MANY) // (SHORT_WORDS + 100)], Sought(MANY))
    assert len(left.parts) <= 2


def test_a_word_on_two_lists_is_told_of_both() -> None:
    automaton = Automaton([(listed(), Sought(["赌博"])), (listed(id=2), Sought([*MANY, "赌博"]))])
    assert sorted(one.listed.id for one in automaton.find("赌博")) == [1, 2]


# ---- strokes and sounds


@pytest.mark.parametrize(
    "text", ["赌丶博", "赌丨博", "赌丿 乀博", "赌亅.博", "s丶e丶x", "赌㇏博", "一丶夜丨情", "⼃".join("赌博")]
)
def test_a_stroke_between_characters_is_noise(text: str) -> None:
    assert found(BUILT, f"本店{text}，欢迎") == [text]


def test_a_stroke_alone_or_at_an_edge_is_itself() -> None:
    for text in ("丶", "丨丨丨丨", "丿旁", "字旁丨", ",丶赌", "a丶", "丶x1"):
        assert plain(text) == text


@given(st.text(st.sampled_from("赌博丶丨丿 .*a1，"), max_size=12))
def test_strokes_lead_to_one_plain_form(text: str) -> None:
    assert plain(plain(text)) == plain(text) == places(text)[0]


def test_a_word_that_was_stored_before_strokes_were_noise_is_found_still() -> None:
    words = Words(Scope([(listed(), Sought(["赌丶博", "加薇信\t加薇信！"]))]))
    assert found(words, "赌博") == ["赌博"]
    assert [hit.word for hit in words.check("加微信", TENANT)] == ["加薇信！"]


@pytest.mark.parametrize(
    "text", ["加薇信", "加溦信", "加徽信", "加丶薇 信", "加扣扣", "加薇ab123", "加薇：ab123"]
)
def test_what_sounds_like_an_account_behind_add_is_read_as_one(text: str) -> None:
    assert found(words_of("加微", "加qq"), f"请{text}") != []


@pytest.mark.parametrize(
    "text",
    [
        "安徽信息港", "王薇信用卡账单", "增加威信", "威信扫地", "参加薇薇的婚礼", "国徽信物", "纽扣扣子", "附加扣扣费", "加薇娅",
        "采薇信步",
    ],
)  # fmt: skip
def test_what_only_sounds_so_within_other_words_stays_what_it_is(text: str) -> None:
    assert plain(text) == text
    assert found(words_of("微信", "加微", "加qq", "微"), text) == []


def test_a_list_with_a_words_sound_finds_it_however_it_is_written() -> None:
    assert found(words_of("加薇信"), "请加微信") == ["加微信"]
    assert found(words_of("扣扣群"), "入QQ群") == ["QQ群"]
