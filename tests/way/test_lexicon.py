"""Every rendered text is asked about its words: refused, held for a person, or kept from a channel."""

from typing import Any

import make
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, Status
from hongyan.way import hold, lookup
from hongyan.way.accept import Accepted, Draft, SessionDraft
from plane import Plane, plane


def operator() -> Simulator:
    return Simulator(behaviour.parse("report_delay_s=0.01"), [], seed=1)


async def lay(one: Plane, *words: str, **columns: Any) -> None:
    """A list with words, known to the plane."""
    async with one.database.transaction() as tx:
        list_id = await make._insert(tx, "word_list", {"name": "list"} | columns, returning="id")
        for word in words:
            await make._insert(tx, "word", {"list_id": list_id, "plain": word, "written": word})
    await one.keeper.load()


def free(one: Plane, text: str, **fields: Any) -> Draft:
    return Draft(
        to="13800138000", signature=one.signature, text=text, purpose=Purpose.TRANSACTIONAL, **fields
    )


async def test_a_forbidden_word_refuses_the_message_and_says_where(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "赌博", tag="gambling")
        (outcome,) = await one.accept(free(one, "来賭.博吧"))
        assert isinstance(outcome, Refusal)
        assert outcome.code is Code.CONTENT_FORBIDDEN
        start = len(one.signature) + 3
        assert outcome.detail["hits"] == [
            {"list": "list", "level": "block", "tag": "gambling", "span": [start, start + 3]}
        ]


async def test_of_a_batch_only_the_forbidden_ones_are_refused(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "赌博")
        outcomes = await one.accept(free(one, "你好"), free(one, "赌博"), free(one, "再见"))
        assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, True]


async def test_a_word_made_of_literal_and_value_is_found(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "快递已到博彩城")
        drafts = [one.draft(params={"word": word}) for word in ("南门", "博 彩\u200b城")]
        good, bad = await one.accept(*drafts)
        assert isinstance(good, Accepted)
        assert isinstance(bad, Refusal)
        assert bad.code is Code.CONTENT_FORBIDDEN


async def test_a_session_is_refused_like_a_program(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "赌博")
        asked = SessionDraft(
            to="13800138000", signature=one.signature, text="赌博", purpose=Purpose.TRANSACTIONAL, held=True
        )
        (outcome,) = await one.accept(asked)
        assert isinstance(outcome, Refusal)


async def test_a_word_that_holds_lets_a_person_decide(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "理财", level="hold")
        (outcome,) = await one.accept(free(one, "高息理财"))
        assert isinstance(outcome, Accepted)
        async with one.database.transaction() as tx:
            (waiting,) = await hold.waiting(tx, one.vault, None, 10)
            told = await lookup.one(tx, one.keeper.current, one.vault, one.tenant_id, outcome.id)
            assert waiting.id == outcome.id
            assert told is not None
            assert told.decision is not None
            assert b"words of the list list" in bytes(told.decision)
            assert await hold.release(tx, [outcome.id]) == {outcome.id}
        assert (await one.final(outcome.id))["status"] == Status.DELIVERED.number


async def test_a_warning_and_an_allowed_word_pass(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "理财", level="warn")
        await lay(one, "装", name="short")
        outcomes = await one.accept(free(one, "理财"), free(one, "女装"), free(one, "他妈妈"))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)


async def test_a_channel_does_not_carry_what_its_list_forbids(database: str) -> None:
    async with operator() as simulator, plane(database, simulator) as one:
        await lay(one, "股票", channel_id=one.laid.channels[0])
        bad, good = await one.accept(free(one, "股票"), free(one, "基金"))
        assert isinstance(bad, Accepted)
        assert isinstance(good, Accepted)
        assert (await one.final(good.id))["status"] == Status.DELIVERED.number
        row = await one.final(bad.id)
        assert (row["status"], row["cause"]) == (Status.UNDELIVERED.number, Cause.UNSUPPORTED.number)
