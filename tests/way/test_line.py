"""A line keeps the order of its parcels, counts parts, and leaves room for what people wait for."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from hongyan.channels.channel import ChannelState, Link, Parcel
from hongyan.vault import Secret
from hongyan.vocab.message import ChannelId
from hongyan.vocab.text import Encoding
from hongyan.way.line import BURST_S, PROMOTIONAL, Line, Pacer
from hongyan.way.snapshot import ChannelRow

CODES: Final = 0


class Window:
    """As much of a channel as a line needs: a window of so many slots, and what went through it."""

    def __init__(self, size: int) -> None:
        self.free = size
        self.gone: list[Parcel] = []

    def room(self) -> int:
        return self.free

    def submit(self, parcels: Sequence[Parcel]) -> None:
        assert len(parcels) <= self.free
        self.free -= len(parcels)
        self.gone += parcels


def line(window: int = 10, parts_per_s: int = 0, reserve_percent: int = 20) -> tuple[Line, Window]:
    row = ChannelRow(
        id=ChannelId(1),
        name="channel",
        kind="smpp",
        config=Secret(b"{}"),
        paused=False,
        parts_per_s=parts_per_s,
        sessions=1,
        access_number="1069",
        report_one=False,
        cost_micro=0,
    )
    channel: Any = Window(window)
    one = Line(row, channel, reserve_percent)
    one.changed(ChannelState(Link.UP, 1, 0, window))
    return one, channel


def parcels(order: int, parts: int = 1) -> list[Parcel]:
    handle = SimpleNamespace(order=order)
    return [
        Parcel(handle, "+8613800138000", "1069", b"", Encoding.GSM7, index, parts)
        for index in range(1, parts + 1)
    ]


def orders(gone: Sequence[Parcel]) -> list[tuple[int, int]]:
    return [(parcel.handle.order, parcel.part_index) for parcel in gone]


# ---- pace


@given(st.floats(1, 5_000), st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 10)), max_size=50))
def test_never_more_parts_than_the_rate_and_one_burst_and_one_message(
    rate: float, asked: list[tuple[float, int]]
) -> None:
    pacer = Pacer(rate)
    start_s = now_s = pacer._at_s
    gone = 0
    for pause_s, parts in asked:
        now_s += pause_s
        if pacer.available(now_s) > 0:
            pacer.take(parts)
            gone += parts
    assert gone <= rate * (now_s - start_s) + max(1.0, rate * BURST_S) + 10 + 1e-6


def test_pace_counts_parts_not_messages() -> None:
    pacer = Pacer(10)
    now_s = pacer._at_s
    assert pacer.available(now_s) == 1
    pacer.take(5)  # a message of five parts leaves whole, and is paid back by waiting
    assert [pacer.available(now_s + wait_s) > 0 for wait_s in (0.1, 0.3, 0.45, 0.51)] == [
        False,
        False,
        False,
        True,
    ]


def test_a_rate_of_nought_is_no_limit() -> None:
    pacer = Pacer(0)
    pacer.take(1_000_000)
    assert pacer.available(pacer._at_s) >= 1_000


def test_a_second_of_silence_is_not_saved_up() -> None:
    pacer = Pacer(1_000)
    assert pacer.available(pacer._at_s + 60) == 1_000 * BURST_S


def test_a_share_of_the_sessions_is_a_share_of_the_rate() -> None:
    one, _ = line(parts_per_s=100)
    one.share(50)
    assert (one.pacer.rate_per_s, one.promotional_pacer.rate_per_s) == (50, 40)


# ---- room


def test_promotional_parts_leave_a_reserve_of_the_window() -> None:
    one, window = line(window=10)
    now_s = one.pacer._at_s
    sent = 0
    while one.room(PROMOTIONAL, now_s) > 0:
        one.put(parcels(sent), PROMOTIONAL)
        one.flush()
        sent += 1
    assert sent == 8
    assert one.room(CODES, now_s) == 2
    assert window.free == 2


def test_what_is_being_committed_as_leaving_takes_room_and_pace_already() -> None:
    one, _ = line(window=100, parts_per_s=1_000)
    now_s = one.pacer._at_s
    assert one.room(CODES, now_s) == 50
    one.reserved = 40
    assert one.room(CODES, now_s) == 10
    assert one.room(PROMOTIONAL, now_s) == 0
    one.reserved = 50
    assert one.room(CODES, now_s) == 0


def test_what_is_queued_takes_its_room_and_a_paused_line_has_none() -> None:
    one, window = line(window=2)
    now_s = one.pacer._at_s
    one.put(parcels(1, parts=3), CODES)
    one.flush()
    window.free = 5
    assert one.room(CODES, now_s) == 4
    one.flush()
    assert one.room(CODES, now_s) == 4
    one.row = ChannelRow(
        **{name: getattr(one.row, name) for name in one.row.__struct_fields__} | {"paused": True}
    )
    assert one.room(CODES, now_s) == 0
    one.changed(ChannelState(Link.UP, 1, 0, 10))
    assert not one.up


# ---- order


def test_a_long_message_leaves_as_the_window_allows_and_in_order() -> None:
    one, window = line(window=2)
    one.put(parcels(1, parts=5), CODES)
    one.flush()
    assert (orders(window.gone), one.waiting) == ([(1, 1), (1, 2)], 3)
    window.free = 3
    one.flush()
    assert orders(window.gone) == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_throttled_parcels_come_again_before_those_behind_them(sizes: list[int], data: st.DataObject) -> None:
    one, window = line(window=4)
    for order, parts in enumerate(sizes):
        one.put(parcels(order, parts), CODES)
    wanted = [(order, index) for order, parts in enumerate(sizes) for index in range(1, parts + 1)]
    taken: list[Parcel] = []
    while len(taken) < len(wanted):
        one.flush()
        tries, window.gone = window.gone, []
        window.free += len(tries)
        # The operator takes the first few and throttles the rest, answering those in any order.
        few = data.draw(st.integers(1, len(tries)))
        taken += tries[:few]
        for parcel in data.draw(st.permutations(tries[few:])):
            one.again(parcel)
    assert orders(taken) == wanted


def test_what_is_taken_back_comes_in_order() -> None:
    one, window = line(window=3)
    one.put(parcels(1, parts=2), CODES)
    one.put(parcels(2), CODES)
    one.put(parcels(3), CODES)
    one.flush()
    for parcel in reversed(window.gone):
        one.again(parcel)
    assert orders(one.take_back()) == [(1, 1), (1, 2), (2, 1), (3, 1)]
    assert one.waiting == 0
