"""A challenge is good once, for its number and scene, for five minutes; a replay is refused (the closing list's 13th)."""

import asyncio
import base64
import hashlib
import io
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final

import msgspec
import pytest
from altcha import v1 as altcha
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import make
from hongyan import db, vault
from hongyan.otp import challenge, slider
from hongyan.otp.challenge import Challenges, Solved
from hongyan.vocab.errors import Refusal
from hongyan.vocab.verification import Level
from hongyan.way import prune

KEYS: Final = vault.Vault(
    make.MASTER, {name: vault.make_wrapped(make.MASTER, name) for name in ("index", "secrets")}
)
NOW_S: Final = 1_800_000_000.5
OTHER: Final = KEYS.keyed_hash(b"challenge", b"1", b"+8613800138001", b"login")
BOUND: Final = KEYS.keyed_hash(b"challenge", b"1", b"+8613800138000", b"login")


def solved(made: Mapping[str, Any]) -> str:
    """Do a proof of work as a browser does: try every number."""
    salt = made["salt"].encode()
    for number in range(made["maxNumber"] + 1):
        if hashlib.sha256(b"%s%d" % (salt, number)).hexdigest() == made["challenge"]:
            return payload({**made, "number": number})
    raise AssertionError("no number solves it")


def payload(fields: Mapping[str, Any]) -> str:
    return base64.b64encode(msgspec.json.encode(fields)).decode()


def read(given_: str, bound: bytes = BOUND, now_s: float = NOW_S) -> Solved:
    return Challenges(KEYS).read(given_, bound, now_s)


def reason(given_: str, bound: bytes = BOUND, now_s: float = NOW_S) -> str:
    with pytest.raises(Refusal) as refused:
        read(given_, bound, now_s)
    assert refused.value.code.value.name == "Verify.ChallengeFailed"
    return str(refused.value.detail["reason"])


@pytest.fixture(scope="module")
def easy() -> Mapping[str, Any]:
    """A challenge as it is made, with little to do: what it takes is measured in Chromium."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(challenge, "WORK", 50)
        return dict(Challenges(KEYS).make(Level.WORK, BOUND, 0, NOW_S))


@pytest.fixture
def puzzle(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    monkeypatch.setattr(challenge, "WORK", 50)
    monkeypatch.setattr(challenge, "INSTEAD", 4)
    return dict(Challenges(KEYS).make(Level.SLIDER, BOUND, 0, NOW_S))


def pushed(made: Mapping[str, Any], left: int, work: str = "") -> str:
    return payload({"token": made["token"], "left": left, "work": work or solved(made["work"])})


def answer(made: Mapping[str, Any]) -> int:
    plain = KEYS.unseal_secret(base64.urlsafe_b64decode(made["token"])).reveal()
    return int(msgspec.msgpack.decode(plain)[1])


# ── the work ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_work_that_is_done_is_read_as_done(easy: Mapping[str, Any]) -> None:
    assert easy["kind"] == "work"
    done = read(solved(easy))
    assert (done.level, done.right) == (Level.WORK, True)
    assert NOW_S < done.expires_at_s <= NOW_S + 300


def test_what_we_make_is_altchas_own_protocol(easy: Mapping[str, Any]) -> None:
    given_ = solved(easy)
    key = KEYS.keyed_hash(b"altcha")
    assert altcha.verify_solution(given_, key, check_expires=False) == (True, None)
    theirs = altcha.solve_challenge(easy["challenge"], easy["salt"], "SHA-256", easy["maxNumber"], 0)
    assert theirs is not None
    assert read(payload({**easy, "number": theirs.number, "took": 12})) == read(given_)


def test_a_challenge_ends_five_minutes_after_it_was_made(easy: Mapping[str, Any]) -> None:
    given_ = solved(easy)
    assert read(given_, now_s=NOW_S + 299).right
    assert reason(given_, now_s=NOW_S + 300) == "expired"


def test_a_challenge_is_good_for_its_number_and_scene_alone(easy: Mapping[str, Any]) -> None:
    assert reason(solved(easy), OTHER) == "foreign"
    scene = KEYS.keyed_hash(b"challenge", b"1", b"+8613800138000", b"pay")
    assert reason(solved(easy), scene) == "foreign"


FORGERIES: Final[tuple[Mapping[str, Any], ...]] = (
    {"number": 0},
    {"salt": "aa?expires=9999999999&kind=work&for=00&"},
    {"challenge": "0" * 64},
    {"signature": "0" * 64},
    {"signature": "é" * 20},
    {"algorithm": "SHA-1"},
    {"number": -1},
    {"number": True},
    {"number": "1"},
    {"salt": None},
)


@pytest.mark.parametrize("change", FORGERIES, ids=str)
def test_nothing_of_an_answer_can_be_changed(easy: Mapping[str, Any], change: Mapping[str, Any]) -> None:
    fields = msgspec.json.decode(base64.b64decode(solved(easy)))
    assert reason(payload({**fields, **change})) == "forged"


def test_a_number_of_thousands_of_digits_is_forged(easy: Mapping[str, Any]) -> None:
    fields = msgspec.json.decode(base64.b64decode(solved(easy)))
    written = msgspec.json.encode({**fields, "number": 0}).replace(b'"number":0', b'"number":' + b"9" * 2_000)
    assert reason(base64.b64encode(written).decode()) == "forged"


def test_what_is_said_behind_the_salt_is_no_part_of_the_number(easy: Mapping[str, Any]) -> None:
    fields = msgspec.json.decode(base64.b64decode(solved(easy)))
    digits = str(fields["number"])
    moved = {**fields, "salt": fields["salt"] + digits[0], "number": int(digits[1:] or 0)}
    assert reason(payload(moved)) == "forged"
    later = fields["salt"] + "expires=9999999999&"
    assert reason(payload({**fields, "salt": later})) == "forged"


def test_a_challenge_of_another_install_is_forged(easy: Mapping[str, Any]) -> None:
    other = vault.Vault(make.MASTER, {"index": vault.make_wrapped(make.MASTER, "index")})
    with pytest.raises(Refusal):
        Challenges(other).read(solved(easy), BOUND, NOW_S)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda octets: base64.b64encode(octets).decode()))
def test_no_garbage_is_more_than_refused(garbage: str) -> None:
    assert reason(garbage) == "forged"


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


FIELDS: Final = ("algorithm", "challenge", "number", "salt", "signature", "token", "left", "work")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_fields_of_any_kind_are_more_than_refused(fields: Mapping[str, Any]) -> None:
    assert reason(base64.b64encode(msgspec.json.encode(fields)).decode()) == "forged"


def test_an_answer_of_any_length_is_refused_at_once() -> None:
    nested = base64.b64encode(b"[" * 200_000).decode()
    began_s = time.perf_counter()
    assert reason(nested) == "forged"
    assert time.perf_counter() - began_s < 0.05


@given(st.integers(min_value=0, max_value=3), st.integers(min_value=-5, max_value=10_000))
def test_work_doubles_every_ten_requests_of_a_key_and_then_no_more(tens: int, requests: int) -> None:
    assert challenge.doublings(tens * 10) == challenge.doublings(tens * 10 + 9) == tens
    assert 0 <= challenge.doublings(requests) <= challenge.DOUBLINGS_MAX
    most = Challenges(KEYS).make(Level.WORK, BOUND, challenge.doublings(tens * 10), NOW_S)["maxNumber"]
    assert most == challenge.WORK << tens


def test_to_check_a_work_takes_no_time(easy: Mapping[str, Any]) -> None:
    given_, doors = solved(easy), Challenges(KEYS)
    took = []
    for _ in range(200):
        began_s = time.perf_counter()
        doors.read(given_, BOUND, NOW_S)
        took.append(time.perf_counter() - began_s)
    assert median(took) < 0.000_3


# ── the puzzle ────────────────────────────────────────────────────────────────────────────────────────


def test_a_piece_in_its_gap_is_right_and_elsewhere_wrong(puzzle: Mapping[str, Any]) -> None:
    left = answer(puzzle)
    for off, right in ((0, True), (5, True), (-5, True), (6, False), (-6, False)):
        one = read(pushed(puzzle, left + off))
        assert (one.level, one.right) == (Level.SLIDER, right), off


def test_a_wrong_answer_uses_the_same_token_up_as_a_right_one(puzzle: Mapping[str, Any]) -> None:
    left = answer(puzzle)
    assert read(pushed(puzzle, left - 30)).token == read(pushed(puzzle, left)).token


def test_a_puzzle_is_good_for_its_number_and_scene_and_five_minutes(puzzle: Mapping[str, Any]) -> None:
    given_ = pushed(puzzle, answer(puzzle))
    assert reason(given_, OTHER) == "foreign"
    assert reason(given_, now_s=NOW_S + 300) == "expired"


def test_a_puzzle_without_its_work_is_refused(
    puzzle: Mapping[str, Any], easy: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "WORK", 50)
    left, other = answer(puzzle), Challenges(KEYS).make(Level.SLIDER, BOUND, 0, NOW_S)
    assert reason(pushed(puzzle, left, "e30=")) == "forged"
    assert reason(pushed(puzzle, left, solved(easy))) == "foreign"
    assert reason(pushed(puzzle, left, solved(dict(other)["work"]))) == "foreign"  # type: ignore[arg-type]
    assert reason(pushed(puzzle, left, pushed(puzzle, left))) == "forged"


def test_the_work_beside_a_puzzle_is_no_answer_by_itself(puzzle: Mapping[str, Any]) -> None:
    assert reason(solved(puzzle["work"])) == "foreign"


def test_who_cannot_push_a_piece_may_work_longer_instead(puzzle: Mapping[str, Any]) -> None:
    instead = puzzle["instead"]
    assert instead["maxNumber"] == 4 * puzzle["work"]["maxNumber"]
    done = read(solved(instead))
    assert (done.level, done.right) == (Level.SLIDER, True)
    assert done.token != read(pushed(puzzle, answer(puzzle))).token


def test_a_sealed_answer_tells_nothing_and_cannot_be_changed(puzzle: Mapping[str, Any]) -> None:
    octets = bytearray(base64.urlsafe_b64decode(puzzle["token"]))
    octets[-1] ^= 1
    broken = {**puzzle, "token": base64.urlsafe_b64encode(octets).decode()}
    assert reason(pushed(broken, answer(puzzle))) == "forged"


def test_a_picture_is_one_a_browser_can_show_and_its_gap_is_where_the_answer_says() -> None:
    drawer = slider.Drawer()
    for _ in range(30):
        one = drawer.draw()
        picture, piece = Image.open(io.BytesIO(one.picture)), Image.open(io.BytesIO(one.piece))
        assert (picture.size, piece.size, piece.mode) == (
            (slider.WIDTH, slider.HEIGHT),
            (slider.PIECE, slider.PIECE),
            "RGBA",
        )
        assert slider.FIRST_LEFT <= one.left <= slider.WIDTH - slider.PIECE
        assert 0 <= one.top <= slider.HEIGHT - slider.PIECE
        middle = slider.PIECE // 2
        assert piece.getpixel((middle, middle))[3] == 255  # type: ignore[index]
        assert piece.getpixel((0, 0))[3] == 0  # type: ignore[index]
        # The middle of the gap is the middle of the piece, in the shade.
        within = (middle - 4, middle - 4, middle + 4, middle + 4)
        left, top = one.left + middle, one.top + middle
        gap = picture.crop((left - 4, top - 4, left + 4, top + 4))
        shade = sum(gap.convert("L").tobytes()) / 64
        light = sum(piece.crop(within).convert("L").tobytes()) / 64
        assert shade == pytest.approx(light * 0.45, abs=12)


def test_no_two_pictures_are_the_same() -> None:
    drawer = slider.Drawer()
    assert len({drawer.draw().picture for _ in range(60)}) == 60


# ── once ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def world(database: str) -> AsyncIterator[make.World]:
    async with make.world(database) as one:
        yield one


def one_solved(number: int = 1) -> Solved:
    return Solved(Level.WORK, hashlib.sha256(b"%d" % number).digest()[:16], True, NOW_S + 300)


async def test_an_answer_counts_once_right_or_wrong(world: make.World) -> None:
    first, second = one_solved(1), one_solved(2)
    async with world.database.transaction() as tx:
        assert await challenge.use(tx, [first, first]) == {first.token}
    async with world.database.transaction() as tx:
        assert await challenge.use(tx, [first, second]) == {second.token}
    async with world.database.transaction() as tx:
        assert await challenge.use(tx, [msgspec.structs.replace(first, right=False), second]) == set()
        assert await challenge.use(tx, []) == set()


async def test_an_answer_is_remembered_for_as_long_as_it_would_be_read_and_no_longer(
    world: make.World,
) -> None:
    async with world.database.transaction() as tx:
        await challenge.use(tx, [one_solved(number) for number in range(3)])
        for after_s, forgotten in ((300, 0), (359, 0), (361, 3)):
            now = datetime.fromtimestamp(NOW_S + after_s, UTC)
            assert await prune.delete_challenges(tx, make.SETTINGS, now) == forgotten


async def test_an_answer_given_over_two_connections_at_once_counts_for_one(world: make.World) -> None:
    other = await db.connect(world.database.dsn, make.SETTINGS)

    async def use(pool: db.Database, together: asyncio.Barrier, answers: list[Solved]) -> set[bytes]:
        async with asyncio.timeout(20), pool.transaction() as tx:
            await together.wait()
            return await challenge.use(tx, answers)

    try:
        for turn in range(10):
            answers = [one_solved(turn * 10 + number) for number in range(5)]
            both, pools = asyncio.Barrier(2), (world.database, other)
            orders = (answers, answers[::-1])
            won = await asyncio.gather(*(use(p, both, a) for p, a in zip(pools, orders, strict=True)))
            assert won[0] ^ won[1] == {each.token for each in answers}
            assert won[0] & won[1] == set()
    finally:
        await other.close()
