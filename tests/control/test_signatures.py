"""A signature is used only once approved, says who writes, and is proven by documents of its own tenant."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan import db
from hongyan.control import extensions, filings, reviews, signatures, templates, upstreams, words
from hongyan.control.signatures import MOVES, SignatureSource, SignatureState
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, Purpose, TenantId

from .conftest import Office


@pytest.fixture
async def tx(office: Office) -> AsyncIterator[db.Tx]:
    async with office.database.transaction() as opened:
        yield opened


async def document(tx: db.Tx, tenant_id: TenantId, kind: str = "trademark", **columns: Any) -> int:
    values = {"tenant_id": tenant_id, "kind": kind, "name": "a.png", "content_type": "image/png", "octets": 1,
              "sha256": b"", "created_by": "somebody"}  # fmt: skip
    return int(await make._insert(tx, "document", values | columns, returning="id"))


async def refusal(asking: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await asking
    return refused.value


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        "",
        "雁",
        "【鸿雁】",
        "a" * 17,
        " 鸿雁",
        "鸿\n雁",
        "鸿 雁",
        "鸿雁!",
        "鸿雁-1",
        "鸿①雁",
        "２０２６",
        "2026",
        "\u115f\u1160",
        "鸿雁\u1160",
        "鸿\ufe00雁",
    ],
)
async def test_a_name_that_cannot_stand_before_a_text_is_refused(
    office: Office, tx: db.Tx, name: str
) -> None:
    assert (await refusal(signatures.propose(tx, office.tenant_id, name))).detail["parameter"] == "name"


async def test_a_tenant_has_no_more_than_every_process_can_remember(office: Office, tx: db.Tx) -> None:
    for table, more in (("signature", "(tenant_id, name)"), ("template", "(tenant_id, code, purpose, body)")):
        rest = "" if table == "signature" else ", 1, 'x'"
        await tx.execute(
            f"INSERT INTO {table} {more} SELECT $1, 'name ' || n{rest} FROM generate_series(1, $2) AS n",
            office.tenant_id,
            signatures.SIGNATURES_MAX if table == "signature" else templates.TEMPLATES_MAX,
        )
    assert (await refusal(signatures.propose(tx, office.tenant_id, "鸿雁"))).detail["parameter"] == "name"
    wanted = templates.Wanted("您的快递已到")
    refused = await refusal(templates.propose(tx, office.tenant_id, "new", wanted, Purpose.TRANSACTIONAL))
    assert refused.detail["parameter"] == "code"


@pytest.mark.parametrize("name", ["测试", "Test", "TEST1", "系统通知", "短信验证码", "验证码2", "smscode"])
async def test_a_neutral_name_is_refused(office: Office, tx: db.Tx, name: str) -> None:
    assert (await refusal(signatures.propose(tx, office.tenant_id, name))).detail["parameter"] == "name"


@pytest.mark.parametrize("name", ["鸿雁", "HongYan", "鸿雁2号", "测试王", "a" * 16])
async def test_other_names_keep_their_letters(office: Office, tx: db.Tx, name: str) -> None:
    number = await signatures.propose(tx, office.tenant_id, name)
    row = await signatures.get(tx, number, office.tenant_id)
    assert (row.name, row.state, row.source) == (name, SignatureState.REVIEWING, SignatureSource.COMPANY)


async def test_a_name_is_taken_once_by_a_tenant(office: Office, tx: db.Tx) -> None:
    await signatures.propose(tx, office.tenant_id, "鸿雁")
    assert (await refusal(signatures.propose(tx, office.tenant_id, "鸿雁"))).detail["parameter"] == "name"


# ---- proof


async def test_proof_is_of_the_same_tenant_and_there(office: Office, tx: db.Tx) -> None:
    keys = office.vault
    other = await make.tenant(tx, keys)
    foreign = await document(tx, other)
    own = await document(tx, office.tenant_id)
    for wrong in (foreign, 999):
        refused = await refusal(
            signatures.propose(
                tx, office.tenant_id, "鸿雁", source=SignatureSource.TRADEMARK, document_ids=[own, wrong]
            )
        )
        assert refused.detail["reason"] == f"there is no document {wrong}"
    number = await signatures.propose(
        tx, office.tenant_id, "鸿雁", source=SignatureSource.TRADEMARK, document_ids=[own]
    )
    assert (await signatures.get(tx, number)).document_ids == [own]


async def test_anothers_name_needs_a_letter_of_authorisation(office: Office, tx: db.Tx) -> None:
    licence = await document(tx, office.tenant_id, "licence")
    letter = await document(tx, office.tenant_id, "authorisation")

    async def propose(*numbers: int) -> int:
        return await signatures.propose(
            tx, office.tenant_id, "飞鸽", source=SignatureSource.OTHER, document_ids=numbers
        )

    assert (await refusal(propose(licence))).detail["parameter"] == "document_ids"
    assert await propose(licence, letter)


# ---- states


@given(st.lists(st.sampled_from(SignatureState), max_size=12))
def test_nothing_becomes_approved_without_having_been_reviewed(wished: list[SignatureState]) -> None:
    state, was_reviewed = SignatureState.DRAFT, False
    for wish in wished:
        if state in MOVES[wish]:
            state = wish
        was_reviewed = was_reviewed or state is SignatureState.REVIEWING
    assert was_reviewed or state in (SignatureState.DRAFT, SignatureState.CANCELED)


async def test_the_way_sees_it_once_it_is_approved(office: Office) -> None:
    async with office.database.transaction() as tx:
        number = await signatures.propose(tx, office.tenant_id, "鸿雁", extension="01")
    assert not (await office.snapshot()).signatures[number].approved
    async with office.database.transaction() as tx:
        await signatures.decided(tx, number, True, "")
    known = (await office.snapshot()).tenants[office.tenant_id].signatures["鸿雁"]
    assert (known.approved, known.extension, known.filed) == (True, "01", frozenset())


async def test_a_move_that_does_not_exist_is_refused_in_words(office: Office, tx: db.Tx) -> None:
    number = await signatures.propose(tx, office.tenant_id, "鸿雁")
    refused = await refusal(signatures.move(tx, number, SignatureState.DISABLED))
    assert refused.code is Code.REQUEST_CONFLICT
    assert refused.detail["reason"] == "a signature that is reviewing cannot become disabled"
    assert (await refusal(signatures.move(tx, 999, SignatureState.APPROVED))).code is Code.REQUEST_NOT_FOUND


async def test_the_tenant_reads_why_it_was_rejected_and_may_propose_it_anew(
    office: Office, tx: db.Tx
) -> None:
    number = await signatures.propose(tx, office.tenant_id, "鸿雁")
    await signatures.decided(tx, number, False, "the licence is blurred")
    row = await signatures.get(tx, number)
    assert (row.state, row.reason) == (SignatureState.REJECTED, "the licence is blurred")
    await signatures.change(tx, number, office.tenant_id, who="me", note="a sharper one")
    row = await signatures.get(tx, number)
    assert (row.state, row.reason, row.note, row.name) == (
        SignatureState.REVIEWING,
        "",
        "a sharper one",
        "鸿雁",
    )


async def test_a_change_of_an_approved_one_goes_back_to_review_and_a_new_name_voids_its_filings(
    office: Office, tx: db.Tx
) -> None:
    number = await signatures.propose(tx, office.tenant_id, "鸿雁")
    await signatures.decided(tx, number, True, "")
    await filings.put(tx, number, "cmcc", filings.FilingState.OK, who="me")
    await signatures.change(tx, number, office.tenant_id, who="me", note="x")
    assert (await signatures.get(tx, number)).filings["cmcc"] is filings.FilingState.OK
    await signatures.change(tx, number, office.tenant_id, who="me", name="飞鸽")
    row = await signatures.get(tx, number)
    assert (row.state, row.name) == (SignatureState.REVIEWING, "飞鸽")
    assert set(row.filings.values()) == {filings.FilingState.NONE}
    (newest, *_) = await filings.steps(tx, number, "cmcc")
    assert (newest.state, newest.reason_code) == (filings.FilingState.NONE, filings.FilingReason.RENAMED)


async def test_two_that_take_the_same_name_at_once_are_told_apart_in_words(office: Office) -> None:
    async with office.database.transaction() as tx:
        numbers = [await approved(tx, office, f"鸿雁{n}") for n in range(2)]
        lists = [await words.create(tx, f"list {n}") for n in range(2)]

    async def rename(tx: db.Tx, place: int) -> None:
        await signatures.change(tx, numbers[place], office.tenant_id, who="me", name="飞鸽")

    async def rename_list(tx: db.Tx, place: int) -> None:
        await words.change(tx, await words.locked(tx, None, lists[place].id, platform=True), name="taken")

    async def second(renamed: Callable[[db.Tx, int], Awaitable[None]]) -> None:
        async with office.database.transaction() as tx:
            await renamed(tx, 1)

    for renamed in (rename, rename_list):
        async with asyncio.TaskGroup() as tasks, office.database.transaction() as tx:
            await renamed(tx, 0)
            late = tasks.create_task(refusal(second(renamed)))
            async with asyncio.timeout(10):
                while not await office.database.fetch("SELECT FROM pg_locks WHERE NOT granted"):
                    pass
        assert late.result().detail["parameter"] == "name"


async def test_what_an_operator_disabled_no_tenant_brings_back(office: Office, tx: db.Tx) -> None:
    number = await signatures.propose(tx, office.tenant_id, "鸿雁")
    await signatures.decided(tx, number, True, "")
    await signatures.move(tx, number, SignatureState.DISABLED, "complaints")
    for asking in (
        signatures.change(tx, number, office.tenant_id, who="me", note="please"),
        signatures.withdraw(tx, number, office.tenant_id),
    ):
        assert (await refusal(asking)).code is Code.REQUEST_CONFLICT
    await signatures.move(tx, number, SignatureState.APPROVED)


async def test_what_is_withdrawn_is_no_longer_reviewed_and_may_be_proposed_again(
    office: Office, tx: db.Tx
) -> None:
    number = await signatures.propose(tx, office.tenant_id, "鸿雁")
    await signatures.withdraw(tx, number, office.tenant_id)
    assert (await refusal(signatures.decided(tx, number, True, ""))).code is Code.REQUEST_CONFLICT
    await signatures.change(tx, number, office.tenant_id, who="me")
    await signatures.decided(tx, number, True, "")


async def test_a_review_decides_and_a_change_begins_another(office: Office, tx: db.Tx) -> None:
    number = await signatures.propose(tx, office.tenant_id, "鸿雁", who="user:7 ann@example.com")
    (first,) = await reviews.page(tx, office.tenant_id)
    assert (first.kind, first.subject, first.title) == ("signature", number, "鸿雁")
    assert (await refusal(reviews.approve(tx, first.id, "user:7 ann@example.com"))).code is (
        Code.AUTH_PERMISSION_DENIED
    )
    await signatures.change(tx, number, office.tenant_id, who="user:7 ann@example.com", note="look again")
    (second,) = await reviews.page(tx, office.tenant_id)
    assert second.id != first.id
    assert (await refusal(reviews.approve(tx, first.id, "user:8 bob@example.com"))).code is (
        Code.REQUEST_CONFLICT
    )
    await reviews.reject(tx, second.id, "user:8 bob@example.com", text="no trademark")
    assert (await signatures.get(tx, number)).reason == "no trademark"
    await signatures.change(tx, number, office.tenant_id, who="user:7 ann@example.com")
    (third,) = await reviews.page(tx, office.tenant_id)
    await reviews.approve(tx, third.id, "user:8 bob@example.com")
    assert (await signatures.get(tx, number)).state is SignatureState.APPROVED


async def test_what_is_withdrawn_or_decided_by_hand_waits_for_nobody(office: Office, tx: db.Tx) -> None:
    one = await signatures.propose(tx, office.tenant_id, "鸿雁")
    other = await signatures.propose(tx, office.tenant_id, "飞鸽")
    await signatures.withdraw(tx, one, office.tenant_id)
    await signatures.move(tx, other, SignatureState.APPROVED)
    assert await reviews.page(tx, office.tenant_id) == []


async def test_another_tenants_signature_is_not_found(office: Office, tx: db.Tx) -> None:
    other = await make.tenant(tx, office.vault)
    number = await signatures.propose(tx, other, "飞鸽")
    for asking in (
        signatures.get(tx, number, office.tenant_id),
        signatures.change(tx, number, office.tenant_id, who="me", name="鸿雁"),
        signatures.withdraw(tx, number, office.tenant_id),
        filings.of(tx, number, office.tenant_id),
    ):
        assert (await refusal(asking)).code is Code.REQUEST_NOT_FOUND


async def test_lists_are_paged_and_counted_by_state(office: Office, tx: db.Tx) -> None:
    other = await make.tenant(tx, office.vault)
    numbers = [await signatures.propose(tx, office.tenant_id, f"鸿雁{n}") for n in range(5)]
    await signatures.propose(tx, other, "鸿雁")
    await signatures.decided(tx, numbers[1], True, "")
    first = await signatures.page(tx, office.tenant_id, limit=3)
    rest = await signatures.page(tx, office.tenant_id, after=first[-1].id)
    assert [row.id for row in (*first, *rest)] == numbers
    assert [row.id for row in await signatures.page(tx, state=SignatureState.APPROVED)] == [numbers[1]]
    assert [row.name for row in await signatures.page(tx, named="雁4")] == ["鸿雁4"]
    counted = await signatures.counts(tx, office.tenant_id)
    assert (
        counted[SignatureState.REVIEWING],
        counted[SignatureState.APPROVED],
        counted[SignatureState.DISABLED],
    ) == (4, 1, 0)
    assert len(await signatures.every(tx)) == 6


# ---- extensions


async def approved(tx: db.Tx, office: Office, name: str, **columns: Any) -> int:
    return await make.signature(tx, tenant_id=office.tenant_id, name=name, **columns)


async def test_approval_gives_the_next_free_digits_at_channels_that_have_some(
    office: Office, tx: db.Tx
) -> None:
    wide = await make.channel(tx, office.vault, access_number="1068", extension_digits=2)
    plain = await make.channel(tx, office.vault, access_number="1069")
    given = []
    for n in range(3):
        number = await signatures.propose(tx, office.tenant_id, f"鸿雁{n}")
        await signatures.decided(tx, number, True, "")
        given.append([(row.channel_id, row.extension) for row in await extensions.of(tx, number)])
    assert given == [[(wide, "01")], [(wide, "02")], [(wide, "03")]]
    assert await extensions.assign(tx, number, plain, "77") == "77"


async def test_where_the_digits_have_run_out_the_signature_is_approved_without_some(
    office: Office, tx: db.Tx
) -> None:
    channel = await make.channel(tx, office.vault, extension_digits=1)
    for n in range(9):
        await extensions.assign(tx, await approved(tx, office, f"鸿雁{n}"), channel)
    number = await signatures.propose(tx, office.tenant_id, "飞鸽")
    await signatures.decided(tx, number, True, "")
    assert await extensions.of(tx, number) == []
    assert (await refusal(extensions.assign(tx, number, channel))).code is Code.REQUEST_CONFLICT
    everyone = await extensions.assign_all(tx, channel)
    assert (everyone.assigned, everyone.lacking) == (0, 1)  # it is approved, and has none


async def test_a_channel_s_digits_are_given_to_all_who_were_approved_before(
    office: Office, tx: db.Tx
) -> None:
    first = await approved(tx, office, "鸿雁1")
    second = await approved(tx, office, "鸿雁2", extension="002")
    await approved(tx, office, "鸿雁3", state="reviewing")
    channel = await make.channel(tx, office.vault, extension_digits=3)
    everyone = await extensions.assign_all(tx, channel)
    assert (everyone.assigned, everyone.lacking) == (2, 0)
    given = [row.extension for number in (first, second) for row in await extensions.of(tx, number)]
    assert given == ["001", "003"]
    assert (await extensions.assign_all(tx, channel)).assigned == 0


async def test_a_channel_that_is_given_digits_gives_some_to_all_who_were_approved_before(
    office: Office,
) -> None:
    async with office.database.transaction() as tx:
        first, second = await approved(tx, office, "鸿雁1"), await approved(tx, office, "鸿雁2")
        early = await upstreams.add_channel(
            tx,
            office.vault,
            name="early",
            kind="loopback",
            settings={},
            access_number="1068",
            extension_digits=2,
        )
        late = await upstreams.add_channel(
            tx, office.vault, name="late", kind="loopback", settings={}, access_number="1069"
        )
        await upstreams.change(tx, office.vault, late, {"extension_digits": 2})
        await extensions.remove(tx, second, late)
        await upstreams.change(tx, office.vault, late, {"cost_micro": 1})
        assert len(await extensions.of(tx, second)) == 1  # nobody asked for it
        await upstreams.change(tx, office.vault, late, {"extension_digits": 4})
        given = [
            [(row.channel_id, row.extension) for row in await extensions.of(tx, one)]
            for one in (first, second)
        ]
    assert given == [[(early, "01"), (late, "01")], [(early, "02"), (late, "0001")]]
    known = (await office.snapshot()).signatures
    assert known[first].extensions == {early: "01", late: "01"}


async def test_what_others_begin_with_is_leapt_over_not_counted_through(office: Office, tx: db.Tx) -> None:
    await approved(tx, office, "鸿雁1", extension="0")
    number = await approved(tx, office, "鸿雁2")
    channel = await make.channel(tx, office.vault, access_number="1068", extension_digits=8)
    before = time.process_time()
    assert await extensions.assign(tx, number, channel) == "10000000"
    assert time.process_time() - before < 1


async def test_channels_of_one_access_number_never_give_the_same_digits_at_once(office: Office) -> None:
    async with office.database.transaction() as tx:
        twins = [
            await make.channel(tx, office.vault, access_number="1068", extension_digits=2) for _ in range(2)
        ]
        numbers = [await approved(tx, office, f"鸿雁{n}") for n in range(2)]

    async def assign(number: int, channel: ChannelId) -> str:
        async with office.database.transaction() as tx:
            return await extensions.assign(tx, number, channel)

    given = await asyncio.gather(*map(assign, numbers, twins))
    assert sorted(given) == ["01", "02"]


async def test_digits_that_replies_could_not_tell_apart_are_refused_and_skipped(
    office: Office, tx: db.Tx
) -> None:
    channel = await make.channel(tx, office.vault, access_number="1068", extension_digits=2)
    twin = await make.channel(tx, office.vault, access_number="1068")
    elsewhere = await make.channel(tx, office.vault, access_number="1065")
    holder = await approved(tx, office, "鸿雁1", extension="02")  # its general one
    await extensions.assign(tx, holder, twin, "01")
    number = await approved(tx, office, "鸿雁2")
    for mixed in ("01", "0", "015", "02"):
        assert (await refusal(extensions.assign(tx, number, channel, mixed))).detail[
            "parameter"
        ] == "extension"
    assert await extensions.assign(tx, number, elsewhere, "01") == "01"
    assert await extensions.assign(tx, number, channel) == "03"
    assert await extensions.assign(tx, number, channel, "44") == "44"  # given anew
    await extensions.remove(tx, number, channel)
    refused = await refusal(extensions.remove(tx, number, channel))
    assert refused.code is Code.REQUEST_NOT_FOUND


async def test_digits_are_for_signatures_and_channels_that_exist(office: Office, tx: db.Tx) -> None:
    channel = await make.channel(tx, office.vault, extension_digits=2)
    number = await approved(tx, office, "鸿雁")
    for asking in (extensions.assign(tx, 999, channel), extensions.assign(tx, number, ChannelId(999))):
        assert (await refusal(asking)).code is Code.REQUEST_NOT_FOUND
    for wrong in ("abc", "1" * 13, "１"):
        assert (await refusal(extensions.assign(tx, number, channel, wrong))).detail[
            "parameter"
        ] == "extension"
