"""A filing moves as operators let it, ends on its day, and is believed by the way only while it is ok."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan import clock, db
from hongyan.control import filing_answers, filings
from hongyan.control.filings import MOVES, FilingReason, FilingState
from hongyan.vocab.errors import Code, Refusal

from .conftest import Office


@pytest.fixture
async def tx(office: Office) -> AsyncIterator[db.Tx]:
    async with office.database.transaction() as opened:
        yield opened


async def signature(tx: db.Tx, office: Office) -> int:
    return await make.signature(tx, tenant_id=office.tenant_id)


async def refusal(asking: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await asking
    return refused.value


async def test_a_signature_has_a_filing_at_every_operator_that_is_none_at_first(
    office: Office, tx: db.Tx
) -> None:
    number = await signature(tx, office)
    found = await filings.of(tx, number, office.tenant_id)
    assert [(row.operator, row.state) for row in found] == [
        (operator, FilingState.NONE) for operator in ("cmcc", "unicom", "telecom", "broadnet")
    ]


async def test_a_filing_goes_its_way_and_each_step_is_kept(office: Office, tx: db.Tx) -> None:
    number = await signature(tx, office)
    await filings.put(tx, number, "cmcc", FilingState.FILING, who="ann")
    await filings.put(tx, number, "cmcc", FilingState.FILED, who="ann")
    await filings.put(
        tx,
        number,
        "cmcc",
        FilingState.FAILED,
        who="bob",
        reason_code=FilingReason.SIGNATURE_WRONG,
        reason="中性签名",
    )
    await filings.put(tx, number, "cmcc", FilingState.FILED, who="ann")
    end = filings.today(clock.now()) + timedelta(days=365)
    await filings.put(tx, number, "cmcc", FilingState.OK, who="bob", valid_until=end)
    (row, *_) = await filings.of(tx, number)
    assert (row.state, row.valid_until, row.changed_by, row.reason_code) == (FilingState.OK, end, "bob", None)
    assert row.filed_at is not None
    steps = await filings.steps(tx, number, "cmcc")
    assert [step.state for step in steps] == ["ok", "filed", "failed", "filed", "filing"]
    assert (steps[2].who, steps[2].reason_code, steps[2].reason) == (
        "bob",
        FilingReason.SIGNATURE_WRONG,
        "中性签名",
    )


@given(st.lists(st.sampled_from(FilingState), max_size=10))
def test_what_failed_is_handed_in_anew_before_it_is_ok(wished: list[FilingState]) -> None:
    state, handed_in = FilingState.NONE, True
    for wish in wished:
        if state in MOVES[wish]:
            state = wish
            handed_in = state is not FilingState.FAILED and (
                handed_in or state in (FilingState.FILED, FilingState.FILING, FilingState.NONE)
            )
        assert not (state is FilingState.OK and not handed_in)


async def test_moves_that_do_not_exist_are_refused_in_words(office: Office, tx: db.Tx) -> None:
    number = await signature(tx, office)
    refused = await refusal(filings.put(tx, number, "cmcc", FilingState.LAPSED, who="me"))
    assert refused.code is Code.REQUEST_CONFLICT
    assert refused.detail["reason"] == "a filing that is none cannot become lapsed"


async def test_nonsense_is_refused(office: Office, tx: db.Tx) -> None:
    number = await signature(tx, office)
    over = filings.today(clock.now()) - timedelta(days=1)
    await filings.put(tx, number, "unicom", FilingState.FILED, who="me")
    other = await make.tenant(tx, office.vault)
    foreign = await make._insert(
        tx,
        "document",
        {"tenant_id": other, "kind": "other", "name": "a", "content_type": "image/png", "octets": 1, "sha256": b"",
         "created_by": "x"},
        returning="id",
    )  # fmt: skip
    for parameter, asking in (
        ("valid_until", filings.put(tx, number, "cmcc", FilingState.OK, who="me", valid_until=over)),
        ("reason_code", filings.put(tx, number, "unicom", FilingState.FAILED, who="me")),
        ("reason", filings.put(tx, number, "cmcc", FilingState.FILED, who="me", reason="长" * 501)),
        ("document_id", filings.put(tx, number, "cmcc", FilingState.FILED, who="me", document_id=foreign)),
    ):
        assert (await refusal(asking)).detail["parameter"] == parameter
    for asking in (
        filings.put(tx, number, "verizon", FilingState.FILED, who="me"),
        filings.put(tx, 999, "cmcc", FilingState.FILED, who="me"),
    ):
        assert (await refusal(asking)).code is Code.REQUEST_NOT_FOUND


async def test_a_filing_is_good_through_its_last_day_in_china_and_lapses_with_the_next(
    office: Office, tx: db.Tx
) -> None:
    number = await signature(tx, office)
    day = filings.today(clock.now()) + timedelta(days=3)
    await filings.put(tx, number, "cmcc", FilingState.OK, who="me", valid_until=day)
    await filings.put(tx, number, "unicom", FilingState.OK, who="me")
    midnight = datetime(day.year, day.month, day.day, 16, tzinfo=UTC)  # of the day after, in China
    assert await filings.lapse(tx, midnight - timedelta(seconds=1)) == 0
    assert await filings.lapse(tx, midnight) == 1
    assert await filings.lapse(tx, midnight) == 0
    states = {row.operator: row for row in await filings.of(tx, number)}
    assert (states["cmcc"].state, states["cmcc"].reason_code) == (FilingState.LAPSED, FilingReason.EXPIRED)
    assert states["unicom"].state is FilingState.OK


async def test_filings_that_end_soon_are_listed_the_first_to_end_first(office: Office, tx: db.Tx) -> None:
    number = await signature(tx, office)
    start = filings.today(clock.now())
    for operator, days in (("cmcc", 30), ("unicom", 0), ("telecom", 31)):
        await filings.put(
            tx, number, operator, FilingState.OK, who="me", valid_until=start + timedelta(days=days)
        )
    assert [row.operator for row in await filings.expiring(tx)] == ["unicom", "cmcc"]
    assert [row.operator for row in await filings.expiring(tx, days=31)] == ["unicom", "cmcc", "telecom"]


async def test_lists_are_paged_and_asked_by_state_operator_and_end(office: Office, tx: db.Tx) -> None:
    numbers = [await signature(tx, office) for _ in range(3)]
    day = filings.today(clock.now()) + timedelta(days=9)
    for number in numbers:
        await filings.put(tx, number, "cmcc", FilingState.OK, who="me", valid_until=day)
        await filings.put(tx, number, "unicom", FilingState.FILED, who="me")
    first = await filings.page(tx, limit=3)
    rest = await filings.page(tx, after=(first[-1].signature_id, first[-1].operator))
    places = [(row.signature_id, row.operator) for row in (*first, *rest)]
    assert places == [(number, operator) for number in numbers for operator in ("cmcc", "unicom")]
    assert {row.operator for row in await filings.page(tx, state=FilingState.FILED)} == {"unicom"}
    assert {row.operator for row in await filings.page(tx, operator="cmcc", until=day)} == {"cmcc"}
    assert await filings.page(tx, until=day - timedelta(days=1)) == []
    assert await filings.page(tx, await make.tenant(tx, office.vault)) == []


async def test_an_operator_s_answer_is_taken_line_by_line_and_a_wrong_one_stops_no_other(
    office: Office, tx: db.Tx
) -> None:
    day = (filings.today(clock.now()) + timedelta(days=365)).isoformat().replace("-", "/")
    good = await make.signature(tx, tenant_id=office.tenant_id, name="鸿雁")
    failed = await signature(tx, office)
    for tenant_id in (office.tenant_id, await make.tenant(tx, office.vault, name="Other")):
        await make.signature(tx, tenant_id=tenant_id, name="飞鸽")
    text = f"""Signature,State,Valid_until,Reason,Tenant
鸿雁,报备成功,{day},,
#{failed},驳回,,材料不全,
#{failed},perhaps,,,

飞鸽,ok,,,
飞鸽,ok,,,Other
无名,ok,,,
鸿雁,ok,soon,,
"""
    for octets in (text.encode("utf-8-sig"), text.encode("gb18030")):
        taken = await filing_answers.take(tx, "cmcc", filing_answers.read_csv(octets), who="me")
        assert (taken.taken, [fault.line for fault in taken.faults]) == (3, [4, 6, 8, 9])
        await filings.put(tx, failed, "cmcc", FilingState.FILED, who="me")
    (row, *_) = await filings.of(tx, good)
    assert (row.state, str(row.valid_until)) == (FilingState.OK, day.replace("/", "-"))
    (_, last, *_) = await filings.steps(tx, failed, "cmcc")
    assert (last.state, last.reason_code, last.reason) == (FilingState.FAILED, FilingReason.OTHER, "材料不全")


async def test_an_operator_s_answer_may_name_its_columns_in_chinese(office: Office, tx: db.Tx) -> None:
    good = await make.signature(tx, tenant_id=office.tenant_id, name="鸿雁")
    failed = await signature(tx, office)
    year = filings.today(clock.now()).year + 1
    octets = f"""序号,短信签名,报备状态,有效期至,失败原因
1,鸿雁,报备成功,{year}年3月1日,
2,#{failed},驳回,,材料不全
""".encode("gb18030")
    taken = await filing_answers.take(tx, "cmcc", filing_answers.read_csv(octets), who="me")
    assert (taken.taken, taken.faults) == (2, [])
    (row, *_) = await filings.of(tx, good)
    assert (row.state, str(row.valid_until)) == (FilingState.OK, f"{year}-03-01")
    (last,) = await filings.steps(tx, failed, "cmcc")
    assert (last.state, last.reason) == (FilingState.FAILED, "材料不全")


def test_a_file_without_a_column_that_is_needed_is_told_what_it_may_be_called() -> None:
    with pytest.raises(Refusal) as refused:
        filing_answers.read_csv("签名,有效期\n鸿雁,\n".encode())
    assert refused.value.detail["reason"] == "it has no column state (报备状态)"


async def test_an_operator_s_answer_is_looked_up_at_once_however_long_it_is(
    office: Office, tx: db.Tx
) -> None:
    await tx.execute(
        "INSERT INTO signature (tenant_id, name) SELECT $1, 'name ' || n FROM generate_series(1, 5000) AS n",
        office.tenant_id,
    )
    lines = [
        filing_answers.Line(n + 1, {"signature": f"name {n}", "state": "ok", "valid_until": "soon"})
        for n in range(5_001)
    ]
    asked: list[str] = []
    tx.add_query_logger(lambda query: asked.append(query.query))
    taken = await filing_answers.take(tx, "cmcc", lines, who="me")
    assert (taken.taken, taken.left_out, taken.faults[0].reason) == (
        0,
        5_001,
        "signature: there is no such signature",
    )
    await asyncio.sleep(0)  # the loggers' turn
    assert len(asked) == 1


async def test_who_puts_a_filing_does_not_hold_up_one_of_the_same_signature_that_lapses(
    office: Office,
) -> None:
    today = filings.today(clock.now())
    async with office.database.transaction() as tx:
        number = await signature(tx, office)
        await filings.put(tx, number, "cmcc", FilingState.OK, who="me", valid_until=today)
    async with (
        asyncio.timeout(20),
        office.database.transaction() as tx,
        office.database.transaction() as other,
    ):
        await filings.put(tx, number, "unicom", FilingState.FILED, who="me")
        assert await filings.lapse(other, clock.now() + timedelta(days=1)) == 1


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"name,state\n",
        b"signature,state\n" + b"x,ok\n" * 5_001,
        b'signature,state\n"' + b"a" * 200_000,
        b"signature,state\n\0,ok\n",
    ],
)
def test_what_is_no_answer_of_an_operator_is_refused(octets: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        filing_answers.read_csv(octets)
    assert refused.value.code is Code.REQUEST_UNSUPPORTED_FILE


async def test_the_way_believes_only_what_is_ok_and_not_over(office: Office) -> None:
    async with office.database.transaction() as tx:
        number = await signature(tx, office)
        today = filings.today(clock.now())
        await filings.put(tx, number, "cmcc", FilingState.OK, who="me", valid_until=today)
        await filings.put(tx, number, "unicom", FilingState.FILED, who="me")
        await filings.put(tx, number, "telecom", FilingState.OK, who="me")
    assert (await office.snapshot()).signatures[number].filed == {"cmcc", "telecom"}
    async with office.database.transaction() as tx:  # nobody has called it lapsed yet
        await tx.execute(
            "UPDATE filing SET valid_until = $1 WHERE operator = 'cmcc'", today - timedelta(days=1)
        )
    assert (await office.snapshot()).signatures[number].filed == {"telecom"}
