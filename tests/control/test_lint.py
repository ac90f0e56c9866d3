"""Every rule of the linter speaks where it should and is silent where it should be; what it suggests mends the text."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hongyan.control import lint
from hongyan.control.lint import Finding, FindingLevel, Place, Subject, cost
from hongyan.vocab.message import Purpose
from hongyan.vocab.plain import SIMPLIFIED
from hongyan.vocab.text import Encoding
from hongyan.vocab.wording import KINDS, Variable

RULES_PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "wording-rules.md"
OTP, NOTICE, PROMOTION = Purpose.OTP, Purpose.TRANSACTIONAL, Purpose.PROMOTIONAL
CODE: Final = {"code": "code"}


class Case(NamedTuple):
    """A text for which a rule speaks, at that level, about that piece; and one like it for which it does not."""

    rule: str
    purpose: Purpose
    bad: str
    piece: str
    level: FindingLevel
    good: str
    kinds: Mapping[str, str] = {}
    good_kinds: Mapping[str, str] | None = None
    scope: str = "any"
    signature: str = "鸿雁"


E, W, A = FindingLevel.ERROR, FindingLevel.WARNING, FindingLevel.ADVICE
CASES: Final = (
    Case("body.empty", NOTICE, "  ", "  ", E, "您好"),
    Case("body.too_long", NOTICE, "长" * 1_601, "长", E, "长"),
    Case("body.brackets", NOTICE, "【您好", "【", E, "[您好"),
    Case("body.only_variables", NOTICE, "${a} ${b}", "${a} ${b}", E, "${a} 和 ${b}"),
    Case("body.blanks", NOTICE, "您好 ", " ", A, "您 好"),
    Case("variable.malformed", NOTICE, "您好{1}", "{1}", E, "您好{a1}"),
    Case("variable.malformed", NOTICE, "您好${a b}", "${a b}", E, "您好${ab}"),
    Case("variable.malformed", NOTICE, "您好${name", "${", E, "您好${name}"),
    Case("variable.malformed", NOTICE, f"您好${{a{'b' * 25}}}", f"${{a{'b' * 25}}}", E, f"您好${{a{'b' * 24}}}"),
    Case("variable.adjacent", NOTICE, "到${a}${b}", "${a}${b}", E, "到${a}的${b}"),
    Case("variable.twice", NOTICE, "到${a}和${a}", "${a}", W, "到${a}和${b}"),
    Case("variable.unused", NOTICE, "您好${name}", "", E, "您好${nmae}", {"nmae": "name"}),
    Case("variable.kind_unknown", NOTICE, "到${a}", "${a}", E, "到${a}", {"a": "nonsense"}, {"a": "address"}),
    Case("variable.untyped", NOTICE, "到${a}", "${a}", A, "到${a}", {}, {"a": "address"}),
    Case("variable.free_text", NOTICE, "到${a}", "${a}", W, "到${a}", {"a": "text"}, {"a": "address"}),
    Case("variable.link", NOTICE, "见${a}", "${a}", E, "见${a}", {"a": "url"}, {"a": "number"}),
    Case("variable.long_code", OTP, "验证码${a}", "${a}", E, "验证码${a}", {"a": "code_long"}, CODE | {"a": "code"}),
    Case("variable.in_domain", NOTICE, "见 www.${a}.com/x", "${a}", E, "见 www.a.com/${a}"),
    Case("variable.in_domain", NOTICE, "见 https://${a}/x", "${a}", E, "见 https://a.cn/${a}"),
    Case("variable.in_domain", NOTICE, "见 t.cn${a}", "${a}", E, "见 t.cn/${a}"),
    Case("variable.in_path", NOTICE, "见 https://t.cn/${a}", "${a}", E, "见 https://t.cn/${a}", {}, {"a": "link_part"}),
    Case("length.too_long", NOTICE, "长" * 497, "长", E, "长" * 496),
    Case("length.may_be_too_long", NOTICE, "到${a}", "到${a}", W, "到${a}", {"a": "text"}, {"a": "address"}),
    Case("length.nearly_less", NOTICE, "长" * 70, "长", A, "长" * 66),
    Case("code.word_missing", OTP, "您的密码${code}", "${code}", E, "您的验证码${code}", CODE),
    Case("code.one_variable", OTP, "验证码${a}", "验证码${a}", E, "验证码${a}", {}, {"a": "code"}),
    Case("code.one_variable", OTP, "验证码${a}或${b}", "${b}", E, "验证码${a}",
         {"a": "code", "b": "code_alphanumeric"}, {"a": "code"}),
    Case("code.link", OTP, "验证码${code},见 www.a.com", "www.a.com", E, "验证码${code},见官网", CODE),
    Case("code.contact", OTP, "验证码${code},致电400-123-4567", "400-123-4567", E, "验证码${code},致电客服", CODE),
    Case("code.selling", OTP, "验证码${code},今日特价", "特价", W, "验证码${code},用于登录", CODE),
    Case("code.opt_out", OTP, "验证码${code},拒收请回复R", ",拒收请回复R", E, "验证码${code},拒绝转发", CODE),
    Case("code.use_unsaid", OTP, "验证码${code}", "验证码${code}", A, "登录验证码${code}", CODE),
    Case("code.validity_unsaid", OTP, "验证码${code}", "", A, "验证码${code},5分钟内有效", CODE),
    Case("code.platform_unsaid", OTP, "验证码${code}", "", A, "验证码${code}", CODE),
    Case("code.host_line", OTP, "验证码${code}\n@a.com #${code}", "\n@a.com #${code}", E, "验证码${code}", CODE),
    Case("code.other_digits", OTP, "验证码${code},工号123456", "123456", W, "验证码${code},工号123", CODE),
    Case("code.other_values", OTP, "验证码${code},订单${no}", "${no}", A, "验证码${code},有效${no}分钟",
         {"code": "code", "no": "number"}, {"code": "code", "no": "minutes"}),
    Case("code.twice", OTP, "验证码${code},即${code}", "${code}", W, "验证码${code}", CODE),
    Case("code.bad_line", OTP, "Your code is ${code}\n@a.com code #${code}", "@a.com", E,
         "Your code is ${code}\n\n@a.com #${code}", CODE, None, "international", "Hongyan"),
    Case("code.bad_line", OTP, "Your code is ${code}\n@a.com #${other}", "@a.com", E,
         "Your code is ${code}\n@a.com #${code}", CODE, None, "international", "Hongyan"),
    Case("code.bad_line", OTP, "Code ${code} for @a.com #${code}", "Code", E,
         "Code ${code}\n@a.com #${code} %b.com", CODE, None, "international", "Hongyan"),
    Case("code.no_words", OTP, "@a.com #${code}", "@a.com", W,
         "Your code is ${code}\n@a.com #${code}", CODE, None, "international", "Hongyan"),
    Case("notice.selling", NOTICE, "您的包裹已到,今日特价", "特价", W, "您的特快包裹已到"),
    Case("notice.opt_out", NOTICE, "您的包裹已到 拒收请回复R", " 拒收请回复R", E, "您已成功退订天气服务"),
    Case("notice.opt_out", NOTICE, "您的包裹已到,回TD退订", ",回TD退订", E, "改期请回复N,确认回复Y"),
    Case("notice.opt_out", NOTICE, "您的包裹已到,退订回${x}", ",退订回${x}", E, "您的${x}已退订"),
    Case("notice.opt_out", NOTICE, "您的包裹已到,不想再收到请回复T", ",不想再收到请回复T", E, "不想再收到包裹请致电客服"),
    Case("notice.opt_out", NOTICE, "您的包裹已到,拒收请回复R", ",拒收请回复R", W, "您的包裹已到。Reply STOP to opt out", {}, None,
         "international"),
    Case("promotional.opt_out_missing", PROMOTION, "Your one-stop shop", "", E, "Your one-stop shop. Reply STOP", {}, None,
         "international", "Hongyan"),
    Case("code.contact", OTP, "验证码${code},加薇信", "加薇信", E, "验证码${code},参加薇薇的", CODE),
    Case("notice.contacts", NOTICE, "致电95555、400-123-4567或010-12345678", "010-12345678", W,
         "致电95555或400-123-4567"),
    Case("promotional.opt_out_missing", PROMOTION, "全场五折", "", E, "全场五折,回T退订"),
    Case("promotional.opt_out_end", PROMOTION, "全场五折,回T退订", ",回T退订", W, "全场五折,拒收请回复R"),
    Case("character.control", NOTICE, "您好\x07", "\x07", E, "您好\n再见"),
    Case("character.hidden", NOTICE, "您\u200b好", "\u200b", W, "您好"),
    Case("character.emoji", NOTICE, "您好😀", "😀", W, "您好:)"),
    Case("character.traditional", NOTICE, "您的快遞到了", "遞", W, "您的快递到了"),
    Case("character.not_gsm7", NOTICE, "It’s here", "’", W, "It's here", {}, None, "international", "Hongyan"),
    Case("aliyun.reserved_name", NOTICE, "到${id}", "${id}", W, "到${number}"),
    Case("aliyun.symbols", NOTICE, "★到了", "★", W, "到了"),
    Case("aliyun.square_ends", NOTICE, "[到了", "[", W, "到[了]吗"),
    Case("aliyun.private_contact", NOTICE, "致电13800138000", "13800138000", W, "致电400-123-4567"),
    Case("tencent.long_value", NOTICE, "到${a}", "${a}", W, "到${a}", {"a": "address"}, {"a": "minutes"}),
)  # fmt: skip


def check(
    body: str,
    purpose: Purpose = NOTICE,
    kinds: Mapping[str, str] | None = None,
    *,
    scope: str = "any",
    signature: str = "鸿雁",
    **more: object,
) -> Sequence[Finding]:
    rules = {name: Variable(kind) for name, kind in (kinds or {}).items()}
    providers = ("aliyun", "tencent") if not more else ()
    return lint.check(body, purpose, scope, signature, rules, provider_kinds=providers, **more)  # type: ignore[arg-type]


def of(rule: str, findings: Sequence[Finding]) -> Sequence[Finding]:
    return [finding for finding in findings if finding.rule == rule]


# ---- the table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_rule_speaks_of_what_breaks_it_and_of_nothing_else(case: Case) -> None:
    signature = "" if case.rule == "code.platform_unsaid" else case.signature
    found = of(case.rule, check(case.bad, case.purpose, case.kinds, scope=case.scope, signature=signature))
    assert found, "silent"
    first = found[0]
    assert case.bad[first.start : first.end][: len(case.piece)] == case.piece
    assert first.level is case.level
    good_kinds = case.kinds if case.good_kinds is None else case.good_kinds
    fine = check(case.good, case.purpose, good_kinds, scope=case.scope, signature=case.signature)
    assert of(case.rule, fine) == []


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} | {"word.listed"} == set(lint.BY_ID)


def test_a_rule_has_one_id_words_in_both_languages_and_a_source() -> None:
    assert len(lint.BY_ID) == len(lint.RULES)
    for rule in lint.RULES:
        assert rule.zh
        assert rule.en
        assert rule.source.title
        assert time.strptime(rule.source.seen, "%Y-%m-%d")


def test_the_rules_stand_on_their_page() -> None:
    page = RULES_PAGE.read_text("utf-8")
    assert [rule.id for rule in lint.RULES if f"`{rule.id}`" not in page] == []


# ---- what is suggested


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_what_is_suggested_mends_what_it_was_said_about(case: Case) -> None:
    found = of(
        case.rule, check(case.bad, case.purpose, case.kinds, scope=case.scope, signature=case.signature)
    )
    for finding in found:
        if finding.suggestion is not None:
            mended = case.bad[: finding.start] + finding.suggestion + case.bad[finding.end :]
            left = of(
                case.rule, check(mended, case.purpose, case.kinds, scope=case.scope, signature=case.signature)
            )
            assert len(left) < len(found), mended


def test_a_promotion_with_another_way_out_at_its_end_is_given_the_usual_one() -> None:
    (finding,) = of("promotional.opt_out_end", check("全场五折,回T退订。", PROMOTION))
    assert "全场五折,回T退订。"[: finding.start] + (finding.suggestion or "") == "全场五折,拒收请回复R"


def test_the_name_of_a_variable_is_no_way_out() -> None:
    for body in ("会员日全场五折${stop}", "会员日拒${a}收全场五折"):
        assert of("promotional.opt_out_missing", check(body, PROMOTION))


def test_traditional_characters_are_given_back_simplified() -> None:
    (finding,) = of("character.traditional", check("您的快遞已經送達"))
    assert finding.suggestion == "递已经送达"


# ---- places and purposes


def test_abroad_a_link_is_fine_in_a_notice_and_a_code_may_be_bound_to_a_site() -> None:
    bound = "Your code is ${code}, valid 5 minutes\n@example.com #${code}"
    assert of("code.link", check(bound, OTP, CODE, scope="international")) == []
    linked = check("Your code is ${code}, see www.a.com", OTP, CODE, scope="international")
    assert of("code.link", linked)[0].level is FindingLevel.ADVICE


def test_where_a_text_goes_everywhere_the_stricter_place_decides() -> None:
    body, kinds = "Code ${code} see www.a.com", CODE
    levels = {scope: of("code.link", check(body, OTP, kinds, scope=scope))[0].level
              for scope in ("mainland", "international", "any")}  # fmt: skip
    assert levels == {
        "mainland": FindingLevel.ERROR,
        "international": FindingLevel.ADVICE,
        "any": FindingLevel.ERROR,
    }


def test_a_text_in_a_script_that_gsm7_has_not_is_not_told_so() -> None:
    for body in ("Ваш заказ прибыл", "您的订单已到", "طلبك وصل"):
        assert of("character.not_gsm7", check(body, scope="international", signature="Hongyan")) == []


def test_a_character_that_doubles_the_parts_is_shown_with_what_it_costs() -> None:
    body = "It’s time: your parcel waits for you at the shop around the corner until Friday evening."
    (finding,) = of("character.not_gsm7", check(body, scope="international", signature="Hongyan"))
    assert (finding.suggestion, "2 parts, 1 without" in finding.en) == ("'", True)


def test_rules_of_a_provider_speak_only_where_it_is_named() -> None:
    assert of("aliyun.symbols", lint.check("★到了", NOTICE)) == []
    (finding,) = of("aliyun.symbols", lint.check("★到了", NOTICE, provider_kinds=("aliyun",)))
    assert (finding.provider, finding.level) == ("aliyun", FindingLevel.WARNING)


def test_what_a_good_code_says_has_nothing_against_it() -> None:
    assert check("您的登录验证码为${code},5分钟内有效,请勿告诉他人。", OTP, CODE, words=None) == []
    assert check("Your sign-in code is ${code}, valid for 5 minutes.", OTP, CODE, words=None) == []


# ---- words


def test_words_are_sought_outside_of_variables_and_shown_where_they_stand() -> None:
    asked = []

    def words(text: str) -> Sequence[tuple[int, int, str, str, str]]:
        asked.append(text)
        return [(3, 5, "赌博", "law", "block"), (0, 2, "加群", "advice", "warn")]

    found = check("加群玩赌博${bet}", words=words)
    assert asked == ["加群玩赌博" + "\ufffc" * 6]
    assert [(one.level, one.start, one.end, one.zh) for one in of("word.listed", found)] == [
        (FindingLevel.ERROR, 3, 5, "“赌博”在词库“law”中"),
        (FindingLevel.WARNING, 0, 2, "“加群”在词库“advice”中"),
    ]


# ---- laws


HIDERS: Final = ("\u200b", "\u2060", "\ufeff")


def _wide(character: str) -> str:
    return chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.rule.split(".")[1] in ("selling", "opt_out", "word_missing", "contact")],
    ids=lambda case: case.rule,
)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_is_hidden_or_widened_is_found_all_the_same(case: Case, data: st.DataObject) -> None:
    """Outside of variables, whose marks must stay as they are."""
    dressed = ""
    inside = False
    for character in case.bad:
        inside = inside or character == "$"
        dressed += character if inside else _wide(character) if data.draw(st.booleans()) else character
        if not inside and data.draw(st.booleans()):
            dressed += data.draw(st.sampled_from(HIDERS))
        inside = inside and character != "}"
    plain = of(case.rule, check(case.bad, case.purpose, case.kinds))
    assert len(of(case.rule, check(dressed, case.purpose, case.kinds))) == len(plain)


TRADITIONAL: Final = {simplified: written for written, simplified in SIMPLIFIED.items()}
VARIABLE: Final = re.compile(r"(\$\{\w+\})")
BETWEEN_CHINESE: Final = re.compile("(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])")
DRESSES: Final[Mapping[str, Callable[[str], str]]] = {
    "hidden": "\u200b".join,
    "direction": "\u202c".join,
    "soft hyphens": "\u00ad".join,
    "wide": lambda piece: "".join(map(_wide, piece)),
    "traditional": lambda piece: "".join(TRADITIONAL.get(one, one) for one in piece),
    "dots": lambda piece: BETWEEN_CHINESE.sub(".", piece),
    "middle dots": lambda piece: BETWEEN_CHINESE.sub("·", piece),
    "stars": lambda piece: BETWEEN_CHINESE.sub("*", piece),
    "strokes": lambda piece: BETWEEN_CHINESE.sub("丶", piece),
    "blanks": lambda piece: BETWEEN_CHINESE.sub(" ", piece),
}
SAID: Final = (
    (OTP, "您的验证码是${code},用于登录,5分钟内有效"),
    (OTP, "您的校验码是${code},5分钟内有效,拒收请回复R"),
    (OTP, "您的号码是${code},用于登录"),
    (OTP, "您的验证码是${code},领红包请加微信"),
    (NOTICE, "您的订单${code}已发货,请留意"),
    (NOTICE, "您的订单${code}已发货,拒收请回复R"),
    (NOTICE, "会员日优惠:您的订单${code}已发货,退订回T"),
    (PROMOTION, "会员日全场五折,拒收请回复R"),
    (PROMOTION, "会员日全场五折,退订回T"),
    (PROMOTION, "会员日全场五折"),
)


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize(("purpose", "body"), SAID)
def test_a_verdict_does_not_change_with_the_dress_of_a_text(purpose: Purpose, body: str, dress: str) -> None:
    dressed = "".join(
        piece if VARIABLE.fullmatch(piece) else DRESSES[dress](piece) for piece in VARIABLE.split(body)
    )
    assert dressed != body or dress in ("wide", "traditional")
    assert _verdict(dressed, purpose) == _verdict(body, purpose)


def _verdict(body: str, purpose: Purpose) -> set[str]:
    """What is said about the purpose; `promotional.opt_out_end` is about how it is written."""
    found = check(body, purpose, CODE, scope="mainland")
    said = {one.rule for one in found if one.rule.split(".")[0] in ("code", "notice", "promotional")}
    return said - {"code.other_digits", "promotional.opt_out_end"}


ANY: Final = st.text(
    st.sampled_from("${}[]【】aB1 .:/@验证码拒收请回复R退订优惠遞😀\u200b\n\x07’"), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(ANY, st.sampled_from(Purpose), st.sampled_from(["mainland", "international", "any"]))
def test_whatever_is_written_is_looked_at_and_every_span_lies_in_it(
    body: str, purpose: Purpose, scope: str
) -> None:
    found = check(body, purpose, {"a": "code", "aB1": "nonsense"}, scope=scope)
    assert all(0 <= one.start <= one.end <= len(body) for one in found)
    assert len({(one.rule, one.start, one.end) for one in found}) == len(found)


def test_a_long_text_is_looked_at_in_less_than_five_milliseconds() -> None:
    body = "您的订单${order}已由${company}发出,预计${when}送达${where},详见 https://t.cn/${part} 。" * 8
    fastest = min(_timed(body[:500]) for _ in range(5))
    assert fastest < 0.005


@pytest.mark.parametrize(
    "piece", [" ", "x  ", "a", "1", ",", "，", "a.", "a-", "._%+-", "1-", "QQ", "www.", "微信  "]
)
def test_what_is_written_to_take_long_takes_little_longer_when_it_is_longer(piece: str) -> None:
    whole, quarter = ("x" + piece * (count // len(piece)) + "x" for count in (1_600, 400))
    fastest = {body: min(_timed(body) for _ in range(5)) for body in (whole, quarter)}
    assert fastest[whole] < 0.02
    assert fastest[whole] < 8 * fastest[quarter]  # four times as long; sixteen times were its square


def _timed(body: str) -> float:
    start = time.process_time()
    check(body)
    return time.process_time() - start


# ---- sizes


def test_sizes_go_from_the_shortest_to_the_longest_values() -> None:
    subject = Subject("到了${a}", NOTICE, "鸿雁", {"a": Variable("address")})
    sizes = cost.measure(subject, Place.MAINLAND)
    assert (sizes.shortest.units, sizes.usual.units, sizes.longest.units) == (7, 22, 36)
    assert (sizes.shortest.parts, sizes.longest.parts) == (1, 1)


def test_abroad_the_longest_value_of_a_free_kind_turns_the_text_to_ucs2() -> None:
    subject = Subject("Parcel at ${a}", NOTICE, "Hongyan", {"a": Variable("address")})
    sizes = cost.measure(subject, Place.INTERNATIONAL)
    assert (sizes.usual.encoding, sizes.longest.encoding) == (Encoding.GSM7, Encoding.UCS2)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_lengths_of_a_kind_are_in_order(name: str) -> None:
    kind = KINDS[name]
    assert 1 <= kind.characters_min <= kind.characters_usual <= kind.characters_max
    assert kind.zh
    assert kind.en
