"""The laws of numbers: every usual form of one number is one number, and none is shown unmasked."""

import re
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import carrier, geocoder, timezone

from hongyan.vocab import phone
from hongyan.vocab.phone import BadNumber, Fault, Override, Overrides, Place

# One number, in every form people write it.
FORMS = [
    "13800138000",
    "+8613800138000",
    "8613800138000",
    "008613800138000",
    "+86 138 0013 8000",
    "(+86) 138-0013-8000",
    "138.0013.8000",
    "＋８６１３８００１３８０００",
    "\u202a138\u00a00013\u200b8000\u202c",
    "013800138000",
    "+86 0138 0013 8000",
]

# country, what is written, where (the default region), E.164
ABROAD = [
    ("US", "+1 (415) 555-2671", "CN", "+14155552671"),
    ("US", "415-555-2671", "US", "+14155552671"),
    ("US", "14155552671", "CN", "+14155552671"),
    ("CA", "+1 613 555 0123", "CN", "+16135550123"),
    ("JM", "+1 876 210 1234", "CN", "+18762101234"),
    ("GB", "+44 7400 123456", "CN", "+447400123456"),
    ("GB", "07400 123456", "GB", "+447400123456"),
    ("GB", "+44 (0)7400 123456", "CN", "+447400123456"),
    ("GG", "+44 7781 123456", "CN", "+447781123456"),
    ("DE", "0151 23456789", "DE", "+4915123456789"),
    ("FR", "06 12 34 56 78", "FR", "+33612345678"),
    ("IT", "312 345 6789", "IT", "+393123456789"),
    ("ES", "+34 612 34 56 78", "CN", "+34612345678"),
    ("RU", "8 (912) 345-67-89", "RU", "+79123456789"),
    ("KZ", "+7 771 000 9998", "CN", "+77710009998"),
    ("JP", "090-1234-5678", "JP", "+819012345678"),
    ("KR", "010-2000-0000", "KR", "+821020000000"),
    ("IN", "+91 81234 56789", "CN", "+918123456789"),
    ("SG", "8123 4567", "SG", "+6581234567"),
    ("HK", "00852 5123 4567", "CN", "+85251234567"),
    ("TW", "0912 345 678", "TW", "+886912345678"),
    ("AU", "0412 345 678", "AU", "+61412345678"),
    ("BR", "(11) 96123-4567", "BR", "+5511961234567"),
    ("MX", "+52 222 123 4567", "CN", "+522221234567"),
    ("AR", "+54 9 11 2345 6789", "CN", "+5491123456789"),
    ("AR", "011 15-2345-6789", "AR", "+5491123456789"),
    ("TR", "0501 234 56 78", "TR", "+905012345678"),
    ("ZA", "071 123 4567", "ZA", "+27711234567"),
    ("NG", "0802 123 4567", "NG", "+2348021234567"),
]

OPERATORS = {
    "cmcc": "134 135 136 137 138 139 147 150 151 152 157 158 159 172 178 182 183 184 187 188 195 197 198",
    "unicom": "130 131 132 145 155 156 166 175 176 185 186",
    "telecom": "133 153 173 177 180 181 189 191 193 199",
    "broadnet": "192",
}

KINDS = tuple(range(11))


def near_valid() -> st.SearchStrategy[str]:
    """Digits a few edits away from an example number of some country and kind, calling code in front."""
    seeds = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in KINDS:
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                seeds.append(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:])
    edits = st.lists(st.tuples(st.integers(1, 14), st.sampled_from("0123456789") | st.just("")), max_size=4)

    def edited(seed: str, changes: list[tuple[int, str]]) -> str:
        digits = list(seed)
        for at, digit in changes:
            if at < len(digits):
                digits[at] = digit
        return "".join(digits)

    return st.builds(edited, st.sampled_from(seeds), edits)


NEAR_VALID = near_valid()


@pytest.mark.parametrize("written", FORMS)
def test_every_form_of_a_mainland_number_is_one_number(written: str) -> None:
    read = phone.parse(written)
    assert (read.e164, read.country, read.calling_code) == ("+8613800138000", "CN", 86)
    assert read.national == "13800138000"


@pytest.mark.parametrize(("country", "written", "region", "e164"), ABROAD)
def test_numbers_of_other_countries_are_read(country: str, written: str, region: str, e164: str) -> None:
    read = phone.parse(written, region)
    assert (read.e164, read.country) == (e164, country)


def test_digits_without_a_plus_are_the_default_regions_first() -> None:
    assert phone.parse("15105550123").e164 == "+8615105550123"
    assert phone.parse("15105550123", "US").e164 == "+15105550123"


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("", Fault.GARBLED),
        ("+", Fault.GARBLED),
        ("1380013800O", Fault.GARBLED),
        ("+1-800-FLOWERS", Fault.GARBLED),
        ("13800138000;ext=1", Fault.GARBLED),
        ("++8613800138000", Fault.GARBLED),
        ("1" * 41, Fault.GARBLED),
        ("²³", Fault.GARBLED),
        ("12345", Fault.INVALID),
        ("1380013800", Fault.INVALID),
        ("138001380000", Fault.INVALID),
        ("+999123456789", Fault.INVALID),
        ("1" * 40, Fault.INVALID),
        ("010 6552 9988", Fault.NOT_MOBILE),
        ("+86 21 6552 9988", Fault.NOT_MOBILE),
        ("+86 400 123 4567", Fault.NOT_MOBILE),
        ("+44 20 7031 3000", Fault.NOT_MOBILE),
        ("+1 800 234 5678", Fault.NOT_MOBILE),
    ],
)
def test_what_takes_no_texts_is_refused_and_says_why(written: str, fault: Fault) -> None:
    with pytest.raises(BadNumber) as refused:
        phone.parse(written)
    assert refused.value.fault is fault


def test_an_unknown_default_region_is_our_mistake_and_not_the_numbers() -> None:
    with pytest.raises(ValueError, match="no such region"):
        phone.parse("13800138000", "XX")


def test_a_number_of_no_country_belongs_to_the_world() -> None:
    assert phone.parse("+8823421234").country == phone.WORLD


@given(NEAR_VALID)
def test_the_fast_yes_and_the_librarys_agree(digits: str) -> None:
    """Sample: an example number of every region and kind, up to four digits changed or dropped."""
    fast = phone._read_international(digits)
    try:
        number = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        assert fast is None
        return
    sendable = phonenumbers.is_valid_number(number) and phonenumbers.number_type(number) not in phone._SILENT
    if fast is not None:
        assert sendable
        assert fast.e164 == phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        assert fast.country == phonenumbers.region_code_for_number(number)
    if sendable:
        assert phone.parse("+" + digits).country == phonenumbers.region_code_for_number(number)
    else:
        with pytest.raises(BadNumber):
            phone.parse("+" + digits)


@given(
    st.text(max_size=60) | st.text("+0123456789 -()", max_size=60), st.sampled_from(["CN", "US", "GB", "BR"])
)
def test_garbage_is_refused_and_never_crashes(raw: str, region: str) -> None:
    try:
        read = phone.parse(raw, region)
    except BadNumber:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{4,14}", read.e164)
    assert phone.parse(read.e164, region) == read


@pytest.mark.parametrize(
    ("operator", "prefix"),
    [(operator, prefix) for operator, row in OPERATORS.items() for prefix in row.split()],
)
def test_mainland_ranges_belong_to_their_operators(operator: str, prefix: str) -> None:
    assert phone.place(phone.parse(prefix + "00138000")).operator == operator


def test_a_mainland_number_has_its_operator_and_province() -> None:
    assert phone.place(phone.parse("13800138000")) == Place("CN", "cmcc", "CN-BJ")
    assert phone.place(phone.parse("19212345678")) == Place("CN", "broadnet", "")


@given(st.from_regex(r"\+861[3-9][0-9]{9}", fullmatch=True))
def test_mainland_places_are_the_librarys(e164: str) -> None:
    try:
        read = phone.parse(e164)
    except BadNumber:
        return
    number = phonenumbers.parse(e164)
    found = phone.place(read)
    assert phone.operator_name(found.operator, "en") == carrier.name_for_number(number, "en")
    area = geocoder.description_for_number(number, "en").split(", ")[-1]
    assert phone.province_name(found.province, "en") == ("" if area == "China" else area)


@given(NEAR_VALID)
def test_operators_abroad_are_known_where_the_library_knows_them(digits: str) -> None:
    try:
        read = phone.parse("+" + digits)
    except BadNumber:
        return
    number = phonenumbers.parse(read.e164)
    operator = phone.place(read).operator
    assert bool(operator) >= bool(carrier.name_for_number(number, "en"))
    assert re.fullmatch(r"[\w-]*", operator)


def test_an_operator_abroad_is_the_slug_of_its_name() -> None:
    assert phone.place(phone.parse("+33612345678")) == Place("FR", "sfr", "")
    assert phone.place(phone.parse("+14155552671")) == Place("US", "", "")


def test_the_longest_override_wins_field_by_field() -> None:
    read = phone.parse("13800138000")
    overrides = Overrides(
        {"+8613800138001": Override(operator="broadnet")},
        {
            "+86138": Override(operator="unicom", province="CN-SH"),
            "+8613800": Override(operator="telecom"),
            "+86139": Override(country="HK"),
        },
    )
    assert phone.place(read, overrides) == Place("CN", "telecom", "CN-SH")
    assert phone.place(phone.parse("13800138001"), overrides) == Place("CN", "broadnet", "CN-SH")
    assert phone.place(phone.parse("13900138000"), overrides).country == "HK"
    assert phone.place(read, Overrides({}, {})) == phone.place(read)
    assert phone.place(read, Overrides({read.e164: Override(operator="")}, {})).operator == ""


def test_the_mainland_lives_by_one_clock() -> None:
    assert phone.zones(phone.parse("13800138000")) == {"Asia/Shanghai"}


def test_area_codes_tell_the_zone_only_where_mobiles_have_them() -> None:
    assert phone.zones(phone.parse("+14155552671")) == {"America/Los_Angeles"}
    assert len(phone.zones(phone.parse("+79123456789"))) > 5
    # Personal numbers may be anywhere.
    assert len(phone.zones(phone.parse("+15005550006"))) > 5
    assert phone.zones(phone.parse("+525001234567")) > phone.zones(phone.parse("+525512345678"))


@given(NEAR_VALID)
def test_no_zone_the_library_names_is_missing(digits: str) -> None:
    try:
        read = phone.parse("+" + digits)
    except BadNumber:
        return
    number = phonenumbers.parse(read.e164)
    # In North America the area code names the country even of a mobile, which the library leaves unused.
    ask = (
        timezone.time_zones_for_geographical_number
        if read.calling_code == 1
        else timezone.time_zones_for_number
    )
    assert set(ask(number)) - {"Etc/Unknown"} <= phone.zones(read)


def test_every_zone_in_the_table_has_a_clock() -> None:
    for zone in set().union(*phone._table().zones):
        assert ZoneInfo(zone).key == zone


def test_the_table_says_which_library_it_was_built_from() -> None:
    assert phone.library_version().split(".")[0] == phonenumbers.__version__.split(".")[0]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+8613800138000", "+86138****8000"),
        ("13800138000", "138****8000"),
        ("+14155552671", "+141****2671"),
        ("+6581234567", "+65****4567"),
        ("+2901234", "+290**34"),
        ("123", "**3"),
        ("1", "*"),
        ("", ""),
        ("+", "+"),
    ],
)
def test_a_masked_number_keeps_its_ends(number: str, shown: str) -> None:
    assert phone.mask(number) == shown


@given(st.text(max_size=40) | NEAR_VALID.map("+{}".format))
def test_masking_keeps_the_length_and_hides_at_least_half_of_a_short_number(number: str) -> None:
    shown = phone.mask(number)
    assert len(shown) == len(number)
    assert all(mark in ("*", digit) for mark, digit in zip(shown, number, strict=True))
    bare = len(number) - len(phone._calling_code(number[1:])) - 1 if number.startswith("+") else len(number)
    assert shown.count("*") >= min(4, (bare + 1) // 2)


def test_sandbox_numbers_choose_an_outcome_by_their_last_two_digits() -> None:
    assert phone.sandbox_outcome(phone.parse("19900000000")) == 0
    assert phone.sandbox_outcome(phone.parse("+86 199 0000 0042")) == 42
    assert phone.sandbox_outcome(phone.parse("19900000100")) is None
    assert phone.sandbox_outcome(phone.parse("13800138000")) is None


def test_names_are_given_in_both_languages() -> None:
    assert phone.operator_name("cmcc", "zh-CN") == "中国移动"
    assert phone.province_name("CN-GD", "en") == "Guangdong"
    assert phone.operator_name("sfr", "zh") == "sfr"
    assert len(phone.PROVINCE_NAMES) == 34
