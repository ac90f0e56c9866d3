"""Word lists: what texts must not have, or may have all the same; and what they say of a text."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hongyan.control import words
from hongyan.control.configuration import versions
from hongyan.control.permissions import Permission
from hongyan.control.words import Brought, Word, WordListRow
from hongyan.doors.call import INT_MAX, Call
from hongyan.doors.management import paging
from hongyan.doors.route import BODY, QUERY, File, Reach, Route
from hongyan.vocab.errors import Code
from hongyan.vocab.message import ChannelId
from hongyan.vocab.plain import plain
from hongyan.vocab.words import WORD_CHARACTERS_MAX, Hit, Level

WORDS_MAX: Final = 1_000  # of one request; more come as a file
TEXT_CHARACTERS_MAX: Final = 2_000

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Tag = Annotated[str, Meta(max_length=words.TAG_CHARACTERS_MAX, description="Your own word for its topic.")]
Source = Annotated[
    str, Meta(max_length=words.SOURCE_CHARACTERS_MAX, description="Where the words come from.")
]


class AskedWordList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new list. People of the platform make the platform's, or a tenant's, named by ?tenant_id=."""

    name: Name
    level: Level = Level.BLOCK
    allows: Annotated[bool, Meta(description="Its words cover forbidden ones that lie inside them.")] = False
    grants: Annotated[
        bool, Meta(description="It covers the platform's words too; only the platform gives a tenant such.")
    ] = False
    channel_id: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    tag: Tag = ""
    source: Source = ""


class AskedWordListChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another of a list; what is left out stays."""

    name: Name | UnsetType = UNSET
    level: Level | UnsetType = UNSET
    tag: Tag | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class AskedWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words as a person writes them."""

    words: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=WORD_CHARACTERS_MAX)]],
        Meta(min_length=1, max_length=WORDS_MAX),
    ]


class AskedImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    replace: Annotated[bool, Meta(description="Put them in place of what the list has.")] = False


class AskedPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of a list's words in the order of their plain form."""

    having: Annotated[str, Meta(max_length=64, description="What a word has in it.")] = ""
    cursor: Annotated[str, Meta(max_length=WORD_CHARACTERS_MAX, description="`next` of the page before.")] = (
        ""
    )
    limit: Annotated[int, Meta(ge=1, le=paging.LIMIT_MAX)] = 100


class AskedText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)]


class WordListPage(msgspec.Struct, frozen=True):
    items: list[WordListRow]
    next: str | None = None


class WordPage(msgspec.Struct, frozen=True):
    items: list[str]
    next: str | None = None


class WordsVerdict(msgspec.Struct, frozen=True):
    """What the lists say of a text: the worst level there is (null: nothing), and every word with its place."""

    level: Level | None
    plain: str  # what it was compared as
    hits: list[Hit]


class WordListRemoved(msgspec.Struct, frozen=True):
    id: int


async def create(call: Call) -> WordListRow:
    asked = call.body(AskedWordList)
    row = await words.create(
        call.tx,
        asked.name,
        tenant_id=call.tenant_id,
        channel_id=None if asked.channel_id is None else ChannelId(asked.channel_id),
        allows=asked.allows,
        grants=asked.grants and _is_platform(call),
        level=asked.level,
        tag=asked.tag,
        source=asked.source,
    )
    call.note(f"word_list:{row.id}", name=row.name, allows=row.allows, grants=row.grants, level=row.level)
    return row


def _is_platform(call: Call) -> bool:
    return call.caller.tenant_id is None


async def listed(call: Call) -> WordListPage:
    asked = call.query(paging.Asked)
    rows = await words.lists(call.tx, call.tenant_id, after=paging.after(asked), limit=asked.limit)
    return WordListPage(list(rows), paging.following(rows, asked))


async def get(call: Call) -> WordListRow:
    return await words.one(call.tx, call.tenant_id, call.number())


async def _locked(call: Call) -> WordListRow:
    return await words.locked(call.tx, call.tenant_id, call.number(), platform=_is_platform(call))


async def change(call: Call) -> WordListRow:
    given = paging.given(call.body(AskedWordListChange))
    row = await words.change(call.tx, await _locked(call), **given)
    call.note(f"word_list:{row.id}", **given)
    return row


async def remove(call: Call) -> WordListRemoved:
    row = await _locked(call)
    await words.remove(call.tx, row)
    call.note(f"word_list:{row.id}", name=row.name, words=row.word_count)
    return WordListRemoved(row.id)


async def page(call: Call) -> WordPage:
    asked = call.query(AskedPage)
    row = await words.one(call.tx, call.tenant_id, call.number())
    found = await words.page(call.tx, row.id, after=asked.cursor, having=asked.having, limit=asked.limit)
    return WordPage([word.written for word in found], found[-1].plain if len(found) == asked.limit else None)


def _asked_words(call: Call) -> list[Word]:
    return [words.read_word(written) for written in call.body(AskedWords).words]


async def add(call: Call) -> WordListRow:
    some = _asked_words(call)
    row = await words.add(call.tx, await _locked(call), some)
    call.note(f"word_list:{row.id}", added=[word.written for word in some[:20]], count=len(some))
    return row


async def take_out(call: Call) -> WordListRow:
    some = _asked_words(call)
    row = await words.take_out(call.tx, await _locked(call), some)
    call.note(f"word_list:{row.id}", taken_out=[word.written for word in some[:20]], count=len(some))
    return row


async def bring(call: Call) -> Brought:
    asked = call.query(AskedImport)
    some, left_out, faults = await words.read_file(call.chunks())
    async with call.door.database.transaction() as tx:
        call.within(tx)
        before = await _locked(call)
        await versions.begin(tx, call.door.vault)
        row = await (words.replace if asked.replace else words.add)(tx, before, some)
        added = row.word_count - (0 if asked.replace else before.word_count)
        call.note(f"word_list:{row.id}", brought=added, left_out=left_out, replace=asked.replace)
        await versions.keep(tx, call.door.vault, call.caller.name, "importWords")
        await call.record(tx)
    return Brought(added, len(some) - added, left_out, list(faults), row.word_count)


async def export(call: Call) -> File:
    row = await words.one(call.tx, call.tenant_id, call.number())
    return File(f"{row.name}.txt", "text/plain", words.pieces(call.door.database, row.id))


async def check(call: Call) -> WordsVerdict:
    text = call.body(AskedText).text
    hits = list(call.door.snapshots.current.words.check_template(text, call.tenant_id))
    level = next((level for level in Level if any(hit.level is level for hit in hits)), None)
    return WordsVerdict(level, plain(text), hits)


ONE: Final = "/v1/word-lists/{id}"
READ: Final = Permission.WORDS_READ
WRITE: Final = Permission.WORDS_WRITE

ROUTES: Final = (
    Route(
        method="GET", path="/v1/word-lists", name="listWordLists", summary="List the word lists.",
        reach=Reach.ANY, permission=READ, query=paging.Asked, gives=WordListPage, codes=QUERY, manages=listed,
    ),
    Route(
        method="POST", path="/v1/word-lists", name="createWordList", summary="Make an empty word list.",
        reach=Reach.ANY, permission=WRITE, body=AskedWordList,
        example={"name": "competitors", "level": "hold", "tag": "brands"},
        gives=WordListRow, status=201, codes=BODY, manages=create,
    ),
    Route(
        method="POST", path="/v1/word-lists/check", name="checkTextForWords",
        summary="Tell what the lists in use say of a text, and of which words; nothing is sent.",
        reach=Reach.ANY, permission=READ, body=AskedText, example={"text": "低价代开发票"},
        gives=WordsVerdict, codes=BODY, changes=False, recorded=False, manages=check,
    ),
    Route(
        method="GET", path=ONE, name="getWordList", summary="Look up a word list.",
        reach=Reach.ANY, permission=READ, gives=WordListRow, ids="integer", manages=get,
    ),
    Route(
        method="PATCH", path=ONE, name="changeWordList",
        summary="Rename a list, change what follows from its words, or take it out of use for a while.",
        reach=Reach.ANY, permission=WRITE, body=AskedWordListChange, example={"active": False}, gives=WordListRow,
        codes=BODY, ids="integer", manages=change,
    ),
    Route(
        method="DELETE", path=ONE, name="removeWordList", summary="Delete a list with its words.",
        reach=Reach.ANY, permission=WRITE, gives=WordListRemoved, ids="integer", manages=remove,
    ),
    Route(
        method="GET", path=f"{ONE}/words", name="listWords", summary="List or search the words of a list.",
        reach=Reach.ANY, permission=READ, query=AskedPage, gives=WordPage, codes=QUERY, ids="integer",
        manages=page,
    ),
    Route(
        method="POST", path=f"{ONE}/words", name="addWords", summary="Add words to a list.",
        reach=Reach.ANY, permission=WRITE, body=AskedWords, example={"words": ["代开发票"]}, gives=WordListRow,
        codes=BODY, ids="integer", manages=add,
    ),
    Route(
        method="POST", path=f"{ONE}/words/remove", name="removeWords", summary="Take words off a list.",
        reach=Reach.ANY, permission=WRITE, body=AskedWords, example={"words": ["代开发票"]}, gives=WordListRow,
        codes=BODY, ids="integer", manages=take_out,
    ),
    Route(
        method="POST", path=f"{ONE}/words/import", name="importWords",
        summary="Bring a file of words, one to a line or the first column of a CSV, up to 200,000.",
        reach=Reach.ANY, permission=WRITE, query=AskedImport, file=True,
        file_kinds=("text/plain", "text/csv"), gives=Brought,
        codes=(*QUERY, Code.REQUEST_TOO_LARGE), ids="integer", own_transactions=True, manages=bring,
    ),
    Route(
        method="GET", path=f"{ONE}/words/export", name="exportWords",
        summary="Fetch all words of a list as a text file, one to a line.",
        reach=Reach.ANY, permission=READ, gives=File, ids="integer", manages=export,
    ),
)  # fmt: skip
