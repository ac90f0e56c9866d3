"""Tables, framing and optional parameters, whatever the protocol."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.wire.fields import (
    U1,
    U2,
    U4,
    U8,
    Counted,
    CString,
    Framer,
    Integer,
    LocalProtocolError,
    Octets,
    Pdu,
    RemoteProtocolError,
    Text,
    TlvTable,
    compile_pdu,
    read_tlvs,
    write_tlvs,
)

from .strategies import chunked


class Sample(Pdu, frozen=True):
    """One row of every kind that the Chinese protocols use."""

    message_id: U8 = 0
    service: Annotated[str, Text(6)] = ""
    authenticator: Annotated[bytes, Octets(4)] = bytes(4)
    flag: U1 = 0
    fee: U2 = 0
    node: U4 = 0
    address: Annotated[str, CString(8)] = ""
    content: Annotated[bytes, Counted(4, 140)] = b""
    last: U1 = 0


CODEC = compile_pdu(Sample, header_octets=12)
HEAD = bytes(12)


def test_a_table_reads_what_it_wrote() -> None:
    sample = Sample(7, 2**63 + 1, "abc", b"\0\1\2\3", 9, 515, 2**32 - 1, "86138", b"text", 255)
    body = CODEC.write(sample)
    assert body.hex() == ("800000000000000161626300000000010203090203ffffffff3836313338000000000474657874ff")
    assert CODEC.read(HEAD + body, 7) == sample


@pytest.mark.parametrize(
    "sample",
    [
        Sample(service="1234567"),
        Sample(service="a\0b"),
        Sample(service="鸿"),
        Sample(authenticator=b"123"),
        Sample(flag=256),
        Sample(flag=-1),
        Sample(fee=65536),
        Sample(address="12345678"),
        Sample(content=bytes(141)),
    ],
)
def test_a_value_that_does_not_fit_is_our_error(sample: Sample) -> None:
    with pytest.raises(LocalProtocolError):
        CODEC.write(sample)


def test_a_pdu_cut_anywhere_is_their_error() -> None:
    frame = HEAD + CODEC.write(Sample(address="86138", content=b"text"))
    for octets in range(12, len(frame)):
        with pytest.raises(RemoteProtocolError):
            CODEC.read(frame[:octets])


def test_a_fixed_text_is_cut_at_its_first_nul() -> None:
    body = bytearray(CODEC.write(Sample(service="ab")))
    body[8:14] = b"ab\0xyz"
    assert CODEC.read(HEAD + bytes(body)).service == "ab"


@given(
    st.lists(st.binary(max_size=30), max_size=8).flatmap(
        lambda bodies: st.tuples(st.just(bodies), chunked(_stream(bodies)))
    )
)
def test_any_split_gives_the_same_frames(drawn: tuple[list[bytes], list[bytes]]) -> None:
    bodies, chunks = drawn
    framer = Framer(header_octets=4)
    assert [frame[4:] for chunk in chunks for frame in framer.feed(chunk)] == bodies
    assert framer.broken is None


def _stream(bodies: list[bytes]) -> bytes:
    return b"".join((4 + len(body)).to_bytes(4, "big") + body for body in bodies)


@pytest.mark.parametrize("length", [0, 15, 65_537, 2**31, 2**32 - 1])
def test_an_impossible_length_breaks_the_stream_but_not_what_came_before(length: int) -> None:
    good = (16).to_bytes(4, "big") + bytes(12)
    framer = Framer(header_octets=16)
    assert framer.feed(good + length.to_bytes(4, "big") + bytes(20)) == [good]
    assert framer.broken is not None
    assert framer.feed(good) == []


def test_a_frame_of_the_largest_size_arrives_octet_by_octet() -> None:
    frame = (2000).to_bytes(4, "big") + bytes(1996)
    framer = Framer(header_octets=16, pdu_octets_max=2000)
    assert [whole for octet in frame for whole in framer.feed(bytes([octet]))] == [frame]


TLVS = TlvTable(((1, "count", Integer(2)), (2, "name", CString(5)), (3, "raw", None), (4, "code", Octets(3))))


@pytest.mark.parametrize(
    ("name", "value"), [("count", 515), ("name", "abcd"), ("raw", b"\0\1"), ("code", b"abc")]
)
def test_a_named_parameter_reads_what_it_wrote(name: str, value: int | str | bytes) -> None:
    tlv = TLVS.write(name, value)
    assert TLVS.read(read_tlvs(write_tlvs([(9, b"?"), tlv]), 0), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 65536),
        ("count", "1"),
        ("name", "abcde"),
        ("name", "鸿"),
        ("raw", bytes(65536)),
        ("code", b"ab"),
    ],
)
def test_a_parameter_that_does_not_fit_is_our_error(name: str, value: int | str | bytes) -> None:
    with pytest.raises(LocalProtocolError):
        TLVS.write(name, value)


def test_a_parameter_of_the_wrong_length_is_absent() -> None:
    assert TLVS.read(((1, b"\1"), (4, b"")), "count") is None
    assert TLVS.read(((1, b"\1"), (4, b"")), "code") is None
    assert TLVS.read((), "name") is None


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=20)), max_size=5), st.binary(max_size=3))
def test_a_broken_tail_costs_no_parameter_before_it(tlvs: list[tuple[int, bytes]], tail: bytes) -> None:
    assert read_tlvs(write_tlvs(tlvs) + tail, 0) == tuple(tlvs)
    assert read_tlvs(write_tlvs(tlvs) + b"\0\1\0\xff" + tail, 0) == tuple(tlvs)
