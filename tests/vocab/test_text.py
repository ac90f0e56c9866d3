"""The laws of texts: what is counted is what is sent, and nothing that belongs together is torn apart."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hongyan.vocab import text
from hongyan.vocab.text import Counting, Encoding, Language, Position, Shift, Split, TextPart

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("text_vectors.json").read_text())

# What the vectors' names stand for.
SEGMENTED = {
    "160 gsm": "a" * 160,
    "161 gsm": "a" * 161,
    "306 gsm": "a" * 306,
    "307 gsm": "a" * 307,
    "159+euro": "a" * 159 + "€",
    "158+euro": "a" * 158 + "€",
    "152+euro+8 (escape must not straddle)": "a" * 152 + "€" + "a" * 153,
    "70 cn": "中" * 70,
    "71 cn": "中" * 71,
    "134 cn": "中" * 134,
    "135 cn": "中" * 135,
    "35 emoji": "😀" * 35,
    "36 emoji": "😀" * 36,
    "66 cn + emoji straddle": "中" * 66 + "😀" + "中" * 66,
    "1000 cn": "中" * 1000,
}

LANGUAGES = tuple(Language)
PIECES = st.sampled_from(["a", "€", "[", "中", "😀", "ğ", "ã", "á", "é", "\r", "@", " "])
# A byte order mark at the head of a part is dropped on reading, by design.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters=["\ufeff"])
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=400),
    st.lists(PIECES, max_size=400).map("".join),
    st.text("abc {}^é£", max_size=800),
    st.lists(st.sampled_from(["a", "ğ", "ş"]), max_size=400).map("".join),
)
COUNTINGS = st.sampled_from(Counting)
MODES = st.sampled_from(Split)
ALLOWED = st.sampled_from([(), LANGUAGES])


def units(written: str) -> int:
    return len(written.encode("utf-16-be")) // 2


@pytest.mark.parametrize("case", VECTORS["packing"], ids=lambda case: case["name"])
def test_septets_pack_as_the_vectors_say(case: dict[str, Any]) -> None:
    septets = text.encode(case["text"], Encoding.GSM7)
    assert len(septets) == case["septets"]
    assert septets.hex() == case["gsm7_unpacked_hex"]
    assert text.pack(septets, cr_pad=False).hex() == case["gsm7_packed_hex"]
    assert text.pack(septets, udh_octets=6, cr_pad=False).hex() == case["gsm7_packed_after_6_octet_udh_hex"]
    assert text.decode(septets, Encoding.GSM7) == case["text"]
    packed = text.pack(septets, udh_octets=6)
    assert text.decode(packed, Encoding.GSM7, packed=True, udh_octets=6) == case["text"]


@pytest.mark.parametrize("case", VECTORS["segmentation"], ids=lambda case: case["name"])
@pytest.mark.parametrize(("vector", "mode"), [("ref8", Split.UDH8), ("ref16", Split.UDH16)])
def test_texts_split_as_the_vectors_say(case: dict[str, Any], vector: str, mode: Split) -> None:
    wording = SEGMENTED[case["name"]]
    counted = text.count(wording, Counting.INTERNATIONAL, mode=mode)
    parts = text.split(wording, counting=Counting.INTERNATIONAL, mode=mode)
    assert len(wording) == case["chars"]
    assert [counted.encoding, counted.parts] == case[vector] == [parts[0].encoding, len(parts)]


@given(TEXTS, COUNTINGS, MODES, ALLOWED)
@example("a" * 152 + "€" + "a" * 153, Counting.INTERNATIONAL, Split.UDH8, ())
@example("中" * 66 + "😀" + "中" * 66, Counting.MAINLAND, Split.SAR, ())
def test_joined_parts_are_the_text(
    wording: str, counting: Counting, mode: Split, languages: tuple[Language, ...]
) -> None:
    parts = text.split(wording, counting=counting, mode=mode, languages=languages)
    assert text.join(reversed(parts)) == wording
    # Each part is whole in itself too: no surrogate pair and no escape is torn.
    assert "".join(text.decode(part.octets, part.encoding, shift=part.shift) for part in parts) == wording
    assert [part.index for part in parts] == list(range(1, len(parts) + 1))
    assert {part.total for part in parts} == {len(parts)}


@given(TEXTS, COUNTINGS, MODES, ALLOWED, st.integers(0, 0xFFFF))
def test_no_part_is_above_its_limit(
    wording: str, counting: Counting, mode: Split, languages: tuple[Language, ...], ref: int
) -> None:
    counted = text.count(wording, counting, mode=mode, languages=languages)
    parts = text.split(wording, counting=counting, mode=mode, languages=languages)
    if mode is Split.PAYLOAD:
        assert len(parts) == 1
        return
    for part in parts:
        body = text.pack(part.octets) if part.encoding is Encoding.GSM7 else part.octets
        shown = text.decode(part.octets, part.encoding, shift=part.shift)
        cost = len(part.octets) if part.encoding is Encoding.GSM7 else units(shown)
        assert cost <= counted.limit
        header = part.udh(ref)
        fill = -8 * len(header) % 7 if part.encoding is Encoding.GSM7 else 0
        room = 8 * (text.PART_OCTETS - len(header)) - fill
        assert 7 * len(part.octets) <= room if part.encoding is Encoding.GSM7 else 8 * len(body) <= room


@given(TEXTS, COUNTINGS, st.sampled_from([Split.UDH8, Split.UDH16, Split.SAR]), ALLOWED)
def test_what_is_counted_is_what_is_sent(
    wording: str, counting: Counting, mode: Split, languages: tuple[Language, ...]
) -> None:
    counted = text.count(wording, counting, mode=mode, languages=languages)
    parts = text.split(wording, counting=counting, mode=mode, languages=languages)
    assert (counted.parts, counted.encoding) == (len(parts), parts[0].encoding)


def test_a_payload_is_handed_over_whole_and_billed_by_parts() -> None:
    (part,) = text.split("中" * 200, counting=Counting.MAINLAND, mode=Split.PAYLOAD)
    assert len(part.octets) == 400
    assert part.udh(7) == b""
    assert text.count("中" * 200, Counting.MAINLAND, mode=Split.PAYLOAD).parts == 3


@pytest.mark.parametrize("character", ["a", "中", "€"])
@pytest.mark.parametrize("encoding", [None, Encoding.UCS2, Encoding.GBK])
def test_mainland_counts_every_character_one(character: str, encoding: Encoding | None) -> None:
    for length, parts in ((0, 1), (1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (500, 8)):
        assert text.count(character * length, Counting.MAINLAND, encoding=encoding).parts == parts


@pytest.mark.parametrize("encoding", [Encoding.GSM7, Encoding.ASCII, Encoding.LATIN1])
def test_mainland_counts_alike_whatever_the_encoding(encoding: Encoding) -> None:
    wording = "a{" * 36 if encoding is Encoding.GSM7 else "ab" * 36
    parts = text.split(wording, counting=Counting.MAINLAND, encoding=encoding)
    assert [len(text.decode(part.octets, encoding)) for part in parts] == [67, 5]
    assert text.count(wording, Counting.MAINLAND, encoding=encoding).units == 72


def test_mainland_counts_an_emoji_as_the_two_units_it_takes() -> None:
    assert text.count("😀" * 35, Counting.MAINLAND).parts == 1
    assert text.count("😀" * 36, Counting.MAINLAND).parts == 2


def test_gbk_keeps_wide_characters_whole_within_the_octets_of_a_part() -> None:
    wording = "中😀㐀ê" * 60
    for counting in Counting:
        parts = text.split(wording, counting=counting, encoding=Encoding.GBK)
        assert all(len(part.octets) <= 134 for part in parts)
        assert "".join(text.decode(part.octets, Encoding.GBK) for part in parts) == wording
        assert text.count(wording, counting, encoding=Encoding.GBK).parts == len(parts)


def test_a_demanded_encoding_that_lacks_a_character_is_refused() -> None:
    for encoding in (Encoding.GSM7, Encoding.ASCII, Encoding.LATIN1):
        with pytest.raises(text.Unencodable):
            text.split("中", counting=Counting.INTERNATIONAL, encoding=encoding)
    with pytest.raises(text.Unencodable):
        text.encode("\x1b", Encoding.GSM7)  # the escape is no character


def test_more_parts_than_a_header_can_number_are_refused_but_counted() -> None:
    wording = "中" * (67 * 255)
    assert len(text.split(wording, counting=Counting.MAINLAND)) == 255
    with pytest.raises(text.TooManyParts):
        text.split(wording + "中", counting=Counting.MAINLAND)
    assert text.count(wording + "中", Counting.MAINLAND).parts == 256


@given(st.text("".join(sorted(text._DEFAULT.characters)), max_size=300), st.integers(0, 12))
@example(
    "0\r", 12
)  # 16 septets with the fill: its return ends an octet and comes twice (3GPP TS 23.038 §6.1.2.3.1)
def test_gsm7_survives_packing_and_reading(wording: str, udh_octets: int) -> None:
    septets = text.encode(wording, Encoding.GSM7)
    packed = text.pack(septets, udh_octets=udh_octets)
    assert text.unpack(packed, septet_count=len(septets), udh_octets=udh_octets) == septets
    if len(packed) < text.PART_OCTETS - udh_octets:
        twice = wording.endswith("\r") and (-8 * udh_octets % 7 + 7 * len(septets)) % 8 == 0
        read = text.decode(packed, Encoding.GSM7, packed=True, udh_octets=udh_octets)
        assert read == wording + "\r" * twice


def test_seven_spare_bits_hold_a_return_and_not_an_at_sign() -> None:
    packed = text.pack(text.encode("1234567", Encoding.GSM7))
    assert packed.hex() == "31d98c56b3dd1a"
    assert text.decode(packed, Encoding.GSM7, packed=True) == "1234567"


def test_a_full_part_that_ends_with_a_return_gets_no_second_one() -> None:
    assert len(text.pack(text.encode("a" * 159 + "\r", Encoding.GSM7))) == text.PART_OCTETS
    assert len(text.pack(text.encode("a" * 7 + "\r", Encoding.GSM7))) == 8


@pytest.mark.parametrize(
    ("wording", "shift"),
    [
        ("Doğrulama", Shift(single=1)),
        ("ğşğşğşıİĞŞ" * 14, Shift(locking=1)),
        ("¿Qué tal, María?", Shift(single=2)),
        ("ação", Shift(single=3)),
        ("ãõâêãõâê" * 17, Shift(locking=3)),
    ],
)
def test_allowed_languages_keep_a_text_in_gsm7(wording: str, shift: Shift) -> None:
    (part,) = text.split(wording, counting=Counting.INTERNATIONAL, languages=LANGUAGES)
    assert (part.encoding, part.shift) == (Encoding.GSM7, shift)
    read = text.read_udh(part.udh(1) + part.octets, udhi=True)
    assert (read.shift, read.width, read.body) == (shift, 0, part.octets)
    assert text.decode(read.body, Encoding.GSM7, shift=read.shift) == wording


def test_without_leave_no_shift_table_is_used() -> None:
    assert text.count("Doğrulama", Counting.INTERNATIONAL).encoding is Encoding.UCS2
    for mode in (Split.SAR, Split.PAYLOAD):
        counted = text.count("Doğrulama", Counting.INTERNATIONAL, mode=mode, languages=LANGUAGES)
        assert counted.encoding is Encoding.UCS2


def test_a_shift_tables_header_is_counted() -> None:
    # 155 septets fit behind the four octets that announce one table, 149 behind nine in a part among others.
    for wording, parts in (
        ("Á" + "a" * 153, 1),
        ("Á" + "a" * 154, 2),
        ("Á" + "a" * 296, 2),
        ("Á" + "a" * 297, 3),
    ):
        counted = text.count(wording, Counting.INTERNATIONAL, languages=(Language.SPANISH,))
        assert (counted.encoding, counted.parts) == (Encoding.GSM7, parts)


def test_headers_have_the_octets_of_the_specification() -> None:
    assert text.udh(0x1234, 3, 2).hex() == "050003340302"
    assert text.udh(0x1234, 3, 2, Split.UDH16).hex() == "06080412340302"
    assert text.udh(0x1234, 3, 2, Split.SAR) == b""
    assert text.udh(0x1234, 1, 1) == b""
    assert text.udh(5, 2, 1, Split.UDH8, Shift(locking=1, single=3)).hex() == "0b0003050201240103250101"


@given(st.integers(0, 0xFFFF), st.integers(2, 255), st.data(), st.binary(max_size=140))
def test_a_header_is_read_as_it_was_written(ref: int, total: int, data: st.DataObject, body: bytes) -> None:
    index = data.draw(st.integers(1, total))
    for mode, width in ((Split.UDH8, 8), (Split.UDH16, 16)):
        read = text.read_udh(text.udh(ref, total, index, mode) + body, udhi=True)
        assert (read.ref, read.total, read.index, read.width) == (ref & (1 << width) - 1, total, index, width)
        assert read.body == body


@pytest.mark.parametrize(
    "header", ["050003070002", "050003070200", "050003070203", "0400020702", "0401020702"]
)
def test_an_impossible_concatenation_is_ignored(header: str) -> None:
    read = text.read_udh(bytes.fromhex(header) + b"hello", udhi=True)
    assert (read.total, read.index, read.width, read.body) == (1, 1, 0, b"hello")


def test_other_elements_are_passed_over_and_the_last_concatenation_counts() -> None:
    header = bytes.fromhex("16050423f00000000301020108040987030224010d7000")
    read = text.read_udh(header + b"x", udhi=True)
    assert (read.ref, read.total, read.index, read.width, read.body) == (0x0987, 3, 2, 16, b"x")
    assert read.shift == text.PLAIN  # Urdu: a table we do not hold
    assert read.octets == len(header)


def test_a_header_longer_than_its_octets_is_body() -> None:
    assert text.read_udh(b"\x05\x00\x03", udhi=True).body == b"\x05\x00\x03"
    assert text.read_udh(b"", udhi=True).body == b""
    assert text.read_udh(b"\x05\x00\x03\x01\x02\x01a", udhi=False).body == b"\x05\x00\x03\x01\x02\x01a"


@given(
    st.binary(max_size=200),
    st.sampled_from(Encoding),
    st.booleans(),
    st.booleans(),
    st.integers(0, 140),
    st.booleans(),
)
def test_reading_never_fails(
    octets: bytes, encoding: Encoding, packed: bool, sniff: bool, udh_octets: int, udhi: bool
) -> None:
    read = text.read_udh(octets, udhi=udhi)
    for shift in (read.shift, Shift(1, 1), Shift(3, 3), Shift(9, 9)):
        text.decode(octets, encoding, shift=shift, packed=packed, udh_octets=udh_octets, sniff=sniff)
    text.join([TextPart(2, 2, encoding, octets), TextPart(1, 2, Encoding.UCS2, octets)])


@given(st.text(st.characters(), max_size=200))
def test_any_string_can_be_split_even_a_broken_one(wording: str) -> None:
    for counting in Counting:
        parts = text.split(wording, counting=counting)
        assert len(parts) == text.count(wording, counting).parts


def test_what_cannot_be_read_shows_as_replacement() -> None:
    assert text.decode(b"a\xffb", Encoding.GSM7) == "a\ufffdb"
    assert text.decode(b"a\x1b\x01\x1b\xff", Encoding.GSM7) == "a£\ufffd"
    assert text.decode(b"a\x1b", Encoding.GSM7) == "a "
    assert text.decode(b"\x4e\x2d\x4e", Encoding.UCS2) == "中\ufffd"


def test_byte_order_marks_are_obeyed_and_dropped_in_every_part() -> None:
    little = "中文".encode("utf-16")
    assert (
        text.decode(little, Encoding.UCS2)
        == "中文"
        == text.decode("\ufeff中文".encode("utf-16-be"), Encoding.UCS2)
    )
    parts = [TextPart(index, 2, Encoding.UCS2, little) for index in (1, 2)]
    assert text.join(parts) == "中文中文"


def test_mislabelled_texts_are_recognised_when_sniffing_is_allowed() -> None:
    assert text.decode("hello".encode("utf-16-le"), Encoding.UCS2, sniff=True) == "hello"
    assert text.decode("hello".encode("utf-16-be"), Encoding.UCS2, sniff=True) == "hello"
    assert text.decode("hello".encode("utf-16-be"), Encoding.GSM7, sniff=True) == "hello"
    assert text.decode(b"hello@", Encoding.ASCII, sniff=True) == "hello@"
    assert text.decode("中文".encode("utf-16-be"), Encoding.UCS2, sniff=True) == "中文"


def test_what_a_foreign_sender_tore_apart_is_whole_when_joined() -> None:
    emoji = "😀".encode("utf-16-be")
    assert (
        text.join([TextPart(2, 2, Encoding.UCS2, emoji[2:]), TextPart(1, 2, Encoding.UCS2, emoji[:2])])
        == "😀"
    )
    assert text.join([TextPart(1, 2, Encoding.GSM7, b"a\x1b"), TextPart(2, 2, Encoding.GSM7, b"e")]) == "a€"


def test_parts_of_different_encodings_are_read_each_in_its_own() -> None:
    parts = [TextPart(1, 2, Encoding.UCS2, "中".encode("utf-16-be")), TextPart(2, 2, Encoding.GSM7, b"\x00a")]
    assert text.join(parts) == "中@a"


def test_the_signature_stands_where_it_is_wanted_and_is_counted() -> None:
    assert text.sign("鸿雁", "你好") == "【鸿雁】你好"
    assert text.sign("鸿雁", "你好", position=Position.BACK) == "你好【鸿雁】"
    signed = text.sign("Swan", "hello", counting=Counting.INTERNATIONAL)
    assert signed == "[Swan]hello"
    assert text.count(signed, Counting.INTERNATIONAL).units == len(signed) + 2
    assert text.count(text.sign("鸿雁", "字" * 67), Counting.MAINLAND).parts == 2
