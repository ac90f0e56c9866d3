"""A list is changed by whoever owns it, within its bounds, and the plane reads its words again when they changed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import pytest

from hongyan.control import upstreams, words
from hongyan.control.words import Fault, Word, WordListRow
from hongyan.db import Listener
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import TenantId
from hongyan.vocab.plain import plain
from hongyan.vocab.words import Level, Listed, Scope, Sought, Words
from hongyan.way import lexicon
from hongyan.way.snapshot import Keeper

from .conftest import Office

DEADLINE_S: Final = 120.0  # a hang is meant; how long it took is asked at the end


async def lay(office: Office, *some: str, **fields: Any) -> WordListRow:
    """A list with words."""
    async with office.database.transaction() as tx:
        row = await words.create(tx, fields.pop("name", "list"), **fields)
        return await words.add(tx, row, [words.read_word(word) for word in some])


async def bring(
    office: Office, row: WordListRow, some: Iterable[str], *, replace: bool = False
) -> WordListRow:
    async with office.database.transaction() as tx:
        locked = await words.locked(tx, row.tenant_id, row.id, platform=True)
        return await (words.replace if replace else words.add)(
            tx, locked, [words.read_word(one) for one in some]
        )


async def change(office: Office, row: WordListRow, **fields: Any) -> WordListRow:
    async with office.database.transaction() as tx:
        return await words.change(tx, await words.locked(tx, None, row.id, platform=True), **fields)


async def written(office: Office, row: WordListRow, **fields: Any) -> list[str]:
    async with office.database.transaction() as tx:
        return [word.written for word in await words.page(tx, row.id, **fields)]


async def file_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def refused(office: Office, text: str, tenant_id: TenantId | None = None) -> list[str]:
    checked = (await office.snapshot()).words.check(text, tenant_id or office.tenant_id)
    return [hit.word for hit in checked]


# ---- lists


async def test_a_word_is_kept_as_it_was_written_and_sought_in_its_plain_form(office: Office) -> None:
    row = await lay(office, "賭博", "赌.博", "Free  Money", "КАЗИНО")
    assert (row.word_count, row.version) == (3, 2)  # 赌.博 says the same as 賭博
    assert set(await written(office, row)) == {"賭博", "Free  Money", "КАЗИНО"}
    assert await refused(office, "在线赌博") == ["賭博"]
    assert await refused(office, "казино") == ["КАЗИНО"]


@pytest.mark.parametrize("word", ["", " ", "…", "★", "a" * 65, "a\nb", "ﷺ" * 10])
def test_what_could_never_be_found_is_no_word(word: str) -> None:
    with pytest.raises(Refusal):
        words.read_word(word)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"tag": "x" * 33},
        {"grants": True},
        {"grants": True, "allows": True},
        {"channel_id": 1, "tenant_id": 1},
        {"channel_id": 77},
        {"name": "taken"},
    ],
)
async def test_a_list_that_makes_no_sense_is_not_made(office: Office, fields: dict[str, Any]) -> None:
    await lay(office, name="taken")
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await words.create(tx, **({"name": "list"} | fields))


async def test_a_list_is_changed_found_and_removed(office: Office) -> None:
    row = await lay(office, "赌博", name="old")
    changed = await change(office, row, name="new", level=Level.HOLD, tag="t", active=False)
    assert (changed.name, changed.level, changed.tag, changed.active) == ("new", Level.HOLD, "t", False)
    assert await refused(office, "赌博") == []
    other = await lay(office, name="other")
    with pytest.raises(Refusal):
        await change(office, other, name="new")
    async with office.database.transaction() as tx:
        assert (await words.find(tx, None, "new")).id == row.id
        await words.remove(tx, await words.locked(tx, None, row.id, platform=True))
        assert [one.id for one in await words.lists(tx, None)] == [other.id]
        with pytest.raises(Refusal):
            await words.one(tx, None, row.id)


async def test_a_tenant_neither_sees_nor_changes_what_is_not_its_own(office: Office) -> None:
    platform = await lay(office, "赌博", name="platform")
    own = await lay(office, "竞品", name="own", tenant_id=office.tenant_id)
    grant = await lay(office, "赌博", name="grant", tenant_id=office.tenant_id, allows=True, grants=True)
    async with office.database.transaction() as tx:
        seen = await words.lists(tx, office.tenant_id)
        assert [row.id for row in seen] == [own.id, grant.id]
        for row in (platform, grant):
            with pytest.raises(Refusal):
                await words.locked(tx, office.tenant_id, row.id, platform=False)
        with pytest.raises(Refusal):
            await words.one(tx, TenantId(99), own.id)
        assert (await words.locked(tx, office.tenant_id, own.id, platform=False)).id == own.id
    assert await refused(office, "赌博 竞品") == ["竞品"]
    assert await refused(office, "赌博 竞品", TenantId(99)) == ["赌博"]


async def test_lists_and_words_are_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "WORDS_MAX", 3)
    monkeypatch.setattr(words, "TENANT_WORDS_MAX", 2)
    monkeypatch.setattr(words, "LISTS_MAX", 1)
    row = await lay(office, "甲甲", "乙乙", "丙丙")
    with pytest.raises(Refusal):
        await bring(office, row, ["丁丁"])
    with pytest.raises(Refusal):
        await lay(office, "甲甲", "乙乙", "丙丙", tenant_id=office.tenant_id)
    with pytest.raises(Refusal):
        await lay(office, name="one more")


# ---- words


async def test_words_are_searched_page_by_page_and_taken_off_however_written(office: Office) -> None:
    row = await lay(office, "代开发票", "发票代办", "開發票", "贷款")
    assert await written(office, row, having="發票") == ["代开发票", "发票代办", "開發票"]
    first, second = await written(office, row, having="发票", limit=2)
    assert await written(office, row, having="发票", after=words.read_word(second).plain) == ["開發票"]
    assert first == "代开发票"
    async with office.database.transaction() as tx:
        locked = await words.locked(tx, None, row.id, platform=True)
        left = await words.take_out(tx, locked, [words.read_word("貸 款"), words.read_word("没有")])
    assert left.word_count == 3


async def test_a_file_is_read_in_any_pieces_and_its_faults_are_told() -> None:
    octets = '\ufeff# 说明\r\n赌博\n\n"代开,发票",x\n\'=1+1\n…\n\xff'.encode() + b"\xff\n" + "贷款".encode()
    for size in (1, 3, 7, 1_000):
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        read, left_out, faults = await words.read_file(file_of(*pieces))
        assert [word.written for word in read] == ["赌博", "代开,发票", "=1+1", "贷款"]
        assert left_out == 2
        assert [fault.line for fault in faults] == [6, 7]
        assert faults[1] == Fault(7, "not UTF-8")


async def test_a_file_without_lines_is_refused_before_it_fills_the_memory() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    with pytest.raises(Refusal):
        await words.read_file(endless())


async def test_what_was_exported_can_be_brought_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "PAGE_WORDS", 3)
    some = [f"词{number:03}语" for number in range(11)] + ["賭博", "Free Money"]
    row = await lay(office, *some)
    pieces = [piece async for piece in words.pieces(office.database, row.id)]
    assert len(pieces) == 5
    read, left_out, _ = await words.read_file(file_of(*pieces))
    assert (sorted(word.written for word in read), left_out) == (sorted(some), 0)
    assert (await bring(office, row, ["新词"], replace=True)).word_count == 1
    assert await written(office, row) == ["新词"]


async def test_what_we_ship_to_begin_with_can_be_brought() -> None:
    read, left_out, _ = await words.read_file(file_of(words.starter_file()))
    assert left_out == 0
    assert 40 <= len(read) <= 80
    assert len({word.plain for word in read}) == len(read)


# ---- the plane


async def test_words_are_read_again_only_where_a_list_changed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[list[str]] = []

    class Counted(Scope):
        def __init__(self, lists: Sequence[tuple[Listed, Sought]]) -> None:
            built.append([listed.name for listed, _ in lists])
            super().__init__(lists)

    monkeypatch.setattr(lexicon, "Scope", Counted)
    one = await lay(office, "赌博", name="one")
    own = await lay(office, "竞品", name="own", tenant_id=office.tenant_id)
    keeper = Keeper(office.database, office.vault)
    await keeper.load()
    await keeper.load()
    assert sorted(built) == [["one"], ["own"]]
    await bring(office, own, ["对手"])
    snapshot = await keeper.load()
    assert built[2:] == [["own"]]
    assert [hit.word for hit in snapshot.words.check("对手 赌博", office.tenant_id)] == ["对手", "赌博"]
    await change(office, one, active=False)
    snapshot = await keeper.load()
    assert len(built) == 3
    assert [hit.word for hit in snapshot.words.check("对手 赌博", office.tenant_id)] == ["对手"]


async def test_a_channels_list_reaches_the_plane(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await upstreams.add_channel(tx, office.vault, name="east", kind="loopback", settings={})
    await lay(office, "股票", channel_id=east)
    asked = (await office.snapshot()).words
    assert asked.shuts(east, "股票", office.tenant_id)
    assert asked.check("股票", office.tenant_id) == ()


async def test_what_was_changed_beside_a_list_counts_before_the_list_is_built(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(office.database, office.vault)
    await keeper.load()
    seen: list[bool] = []
    built = lexicon.Lexicon.build

    async def build(mine: lexicon.Lexicon, stale: Any) -> Words:
        seen.append(
            office.tenant_id in keeper.current.tenants and not keeper.current.tenants[office.tenant_id].active
        )
        return await built(mine, stale)

    monkeypatch.setattr(lexicon.Lexicon, "build", build)
    await lay(office, "赌博")
    await office.database.execute("UPDATE tenant SET active = false WHERE id = $1", office.tenant_id)
    snapshot = await keeper.load()
    assert seen == [True]
    assert [hit.word for hit in snapshot.words.check("赌博", office.tenant_id)] == ["赌博"]


async def test_who_only_sends_knows_the_lists_of_channels_and_what_is_allowed(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await upstreams.add_channel(tx, office.vault, name="east", kind="loopback", settings={})
    await lay(office, "赌博")
    await lay(office, "股票", channel_id=east)
    await lay(office, "股票软件", name="allowed", allows=True)
    sending = (await Keeper(office.database, office.vault, reads_texts=False).load()).words
    assert sending.shuts(east, "股票", office.tenant_id)
    assert not sending.shuts(east, "股票软件", office.tenant_id)
    assert sending.check("赌博", office.tenant_id) == ()


async def test_a_long_list_takes_effect_within_a_second_of_being_told(office: Office) -> None:
    """From NOTIFY to the new snapshot: 120,000 words, and one more of them, other loops going on meanwhile."""
    chance = random.Random(8)
    common = [chr(0x4E00 + number) for number in range(3_000)]
    many = [
        Word(plain(word), word)
        for word in {"".join(chance.choices(common, k=chance.randint(3, 6))) for _ in range(120_000)}
    ]
    row = await lay(office)
    keeper = Keeper(office.database, office.vault)
    await keeper.load()
    took_s: list[float] = []
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        loops = [
            tasks.create_task(keeper.run()),
            tasks.create_task(Listener(office.database, {"control": keeper.stale}).run()),
        ]
        for some in (many, [Word("龘靐齉", "龘靐齉")]):
            before = keeper.current
            async with office.database.transaction() as tx:
                await words.add(tx, await words.locked(tx, None, row.id, platform=True), some)
            told_s = time.monotonic()
            await office.database.notify("control")
            while keeper.current.words is before.words:
                await asyncio.sleep(0.005)
            took_s.append(time.monotonic() - told_s)
        for loop in loops:
            loop.cancel()
    for word in ("龘靐齉", many[17].written):
        assert keeper.current.words.check(word, office.tenant_id)
    assert max(took_s) < 1.0 or pytest.skip(f"{max(took_s):.2f} s on a busy machine")


async def test_of_an_owners_lists_only_the_changed_one_is_read(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []

    class Counted(Sought):
        def __init__(self, lines: Iterable[str], before: Sought | None = None) -> None:
            read.append(sorted(lines := list(lines)))
            super().__init__(lines, before)

    one = await lay(office, "赌博", name="one")
    await lay(office, "贷款", name="two")
    keeper = Keeper(office.database, office.vault)
    await keeper.load()
    monkeypatch.setattr(lexicon, "Sought", Counted)
    await bring(office, one, ["股票"])
    snapshot = await keeper.load()
    assert read == [["股票", "赌博"]]
    assert [hit.word for hit in snapshot.words.check("贷款赌博股票", office.tenant_id)] == [
        "贷款",
        "赌博",
        "股票",
    ]


def test_a_template_is_told_its_words_with_their_places() -> None:
    asked = Words(Scope([(Listed(id=1, name="loans", level=Level.WARN), Sought(["贷款"]))]))
    assert words.check_template(asked, "${name}，貸 款到账", None) == [(8, 11, "贷款", "loans", "warn")]
