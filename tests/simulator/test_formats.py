"""What CMPP, SGIP and SMGP share of texts: formats by number, and what handsets write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.simulator import formats, handset
from hongyan.vocab import text as wording
from hongyan.vocab.text import Encoding, Split, TextPart

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=600)


@pytest.mark.parametrize(
    ("number", "encoding"),
    [
        (0, Encoding.ASCII),
        (4, Encoding.LATIN1),
        (8, Encoding.UCS2),
        (15, Encoding.GBK),
        (0x10, Encoding.GSM7),
        (0x15, Encoding.LATIN1),
        (0x18, Encoding.UCS2),
        (0x19, Encoding.UCS2),
        (0xF1, Encoding.GSM7),
        (0xF5, Encoding.LATIN1),
        (0x99, Encoding.LATIN1),
    ],
)
def test_a_format_is_read_by_its_number_or_as_the_air_means_it(number: int, encoding: Encoding) -> None:
    assert formats.read("13812345678", "1069", b"x", number, 0).encoding is encoding


@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 255))
def test_any_octets_are_some_part(content: bytes, number: int, udhi: int) -> None:
    part = formats.read("+8613812345678", "1069", content, number, udhi)
    assert part.number == "13812345678"
    assert 1 <= part.part_index <= part.part_count


@given(TEXTS, st.sampled_from([Split.UDH8, Split.UDH16]), st.integers(1, 0xFFFF))
def test_what_a_handset_writes_fits_and_is_read_as_it_was_written(
    text: str, split: Split, reference: int
) -> None:
    encoding = None if text.isascii() else Encoding.UCS2
    read = []
    for part in handset.written(text, encoding, split):
        written = formats.write(part, reference)
        assert len(written.content) <= (160 if written.format == 0 else 140)
        back = formats.read("13812345678", "1069", written.content, written.format, written.udhi)
        read.append(TextPart(back.part_index, back.part_count, back.encoding, back.octets))
    assert wording.join(read) == text
