"""What a handset shows, and how it writes."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hongyan.simulator import handset
from hongyan.simulator.handset import HANDSETS_MAX, JOINS_MAX, TEXTS_MAX, Handsets, Part, written
from hongyan.vocab import text as wording
from hongyan.vocab.text import Encoding, Split

NUMBER = "13812345678"
TEXTS = st.text(
    st.characters(
        exclude_categories=["Cs"], exclude_characters="\ufeff\ufffe"
    ),  # byte order marks are dropped
    min_size=1,
    max_size=500,
)


@given(TEXTS, st.sampled_from([Split.UDH8, Split.UDH16]), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_text(text: str, mode: Split, chance: Random) -> None:
    parts = list(written(text, Encoding.UCS2, mode))
    chance.shuffle(parts)
    handsets = Handsets()
    for part in parts:
        handsets.receive(Part(NUMBER, "1069", part.octets, part.encoding, part.index, part.total, 7, 8), 1.0)
    assert [shown.text for shown in handsets.shown(NUMBER)] == [text]


def test_parts_of_two_texts_are_kept_apart() -> None:
    handsets = Handsets()
    for index in (1, 2):
        for reference in (1, 2):
            octets = f"{reference}{index}".encode()
            handsets.receive(Part(NUMBER, "1069", octets, Encoding.GSM7, index, 2, reference, 8), 1.0)
    assert [shown.text for shown in handsets.shown(NUMBER)] == ["1112", "2122"]


def test_a_handset_remembers_its_last_texts() -> None:
    handsets = Handsets()
    for at in range(TEXTS_MAX + 1):
        handsets.receive(Part(NUMBER, "1069", str(at).encode(), Encoding.GSM7), float(at))
    shown = handsets.shown(NUMBER)
    assert (len(shown), shown[0].text, shown[-1].text) == (TEXTS_MAX, "1", str(TEXTS_MAX))


def test_the_first_handset_is_forgotten_first() -> None:
    handsets = Handsets()
    for at in range(HANDSETS_MAX + 1):
        handsets.receive(Part(str(at), "1069", b"x", Encoding.GSM7), 1.0)
    assert handsets.shown("0") == []
    assert len(handsets.shown("1")) == 1


def test_texts_that_are_never_completed_are_bounded() -> None:
    handsets = Handsets()
    for at in range(JOINS_MAX + 1):
        handsets.receive(Part(str(at), "1069", b"a", Encoding.GSM7, 1, 2, 1, 8), 1.0)
    for number in ("1", "0"):
        handsets.receive(Part(number, "1069", b"b", Encoding.GSM7, 2, 2, 1, 8), 1.0)
    assert handsets.shown("0") == []
    assert [shown.text for shown in handsets.shown("1")] == ["ab"]


def test_an_encoding_that_cannot_hold_the_text_gives_way() -> None:
    assert [part.encoding for part in handset.written("退订", Encoding.GSM7, Split.UDH8)] == [Encoding.UCS2]


@given(TEXTS, st.sampled_from(list(Split)))
def test_what_a_handset_writes_joins_to_what_was_meant(text: str, mode: Split) -> None:
    assert wording.join(written(text, None, mode)) == text
