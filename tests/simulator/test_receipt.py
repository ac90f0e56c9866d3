"""The operator's handwritings, letter by letter."""

import pytest

from hongyan.simulator.behaviour import CodePlace, Receipt, State
from hongyan.simulator.receipt import Fate, write
from hongyan.vocab.text import Encoding

# 2026-11-25 03:32:50 UTC and a minute later, told on a clock eight hours ahead.
FATE = Fate("42", State.UNDELIV, "MK:0001", 1_795_577_570.4, 1_795_577_630.0)
COUNTS = "id:42 sub:001 dlvrd:000"
ENDING = "stat:UNDELIV err:MK:0001 text:"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (
            Receipt.STANDARD,
            f"{COUNTS} submit date:2611251132 done date:2611251133 {ENDING}",
        ),
        (
            Receipt.SHORT,
            "id:42 submit date:2611251132 done date:2611251133 stat:UNDELIV err:MK:0001",
        ),
        (
            Receipt.SECONDS,
            f"{COUNTS} submit date:261125113250 done date:261125113350 {ENDING}",
        ),
        (
            Receipt.SMPP_TIME,
            f"{COUNTS} submit date:261125113250032+ done date:261125113350032+ {ENDING}",
        ),
        (
            Receipt.UNPADDED,
            f"id:42 sub:1 dlvrd:0 submit date:2611251132 done date:2611251133 {ENDING}",
        ),
        (
            Receipt.SHOUTED,
            "ID:42 STAT:UNDELIV ERR:MK:0001 DONE_DATE:2611251133 SUBMIT_DATE:2611251132",
        ),
        (Receipt.TLVS, ""),
    ],
)
def test_a_report_in_each_handwriting(style: Receipt, text: str) -> None:
    assert write(FATE, style, CodePlace.ERR, 28_800) == (text.encode(), Encoding.GSM7)


def test_ucs2_is_ucs2_and_mislabelled_only_says_so() -> None:
    standard, _ = write(FATE, Receipt.STANDARD, CodePlace.ERR, 0)
    assert write(FATE, Receipt.UCS2, CodePlace.ERR, 0) == (
        standard.decode().encode("utf-16-be"),
        Encoding.UCS2,
    )
    assert write(FATE, Receipt.MISLABELLED, CodePlace.ERR, 0) == (standard, Encoding.UCS2)


def test_the_own_code_takes_the_place_of_stat() -> None:
    octets, _ = write(FATE, Receipt.STANDARD, CodePlace.STAT, 0)
    assert b"stat:MK:0001 err:000" in octets


def test_without_an_own_code_stat_stays() -> None:
    octets, _ = write(Fate("42", State.DELIVRD, "000", 0.0, 0.0), Receipt.STANDARD, CodePlace.STAT, 0)
    assert b"dlvrd:001" in octets
    assert b"stat:DELIVRD err:000" in octets
