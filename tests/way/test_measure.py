"""Statistics count what happened, and /metrics can be read."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import make
from hongyan.vocab.cause import Cause
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose, Status
from hongyan.way import measure
from hongyan.way.measure import LATENCY_BUCKETS_MS, By, Counters, Group, Question, Table

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


async def ask(world: make.World, question: Question, *, tenant: bool = True) -> Table:
    snapshot = await make.snapshot(world)
    async with world.database.transaction() as tx:
        return await measure.statistics(tx, snapshot, world.tenant_id if tenant else None, question)


def span(by: By, *groups: Group, hours: int = 48) -> Question:
    return Question(
        by=by,
        groups=groups,
        counted_from=NOON - timedelta(hours=24),
        counted_to=NOON + timedelta(hours=hours),
    )


async def test_one_sum_counts_every_status_once(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.tally(tx, world, hour=NOON, messages=10, parts=20, price_micro=900_000)
            await make.tally(tx, world, hour=NOON, shard=2, messages=2, parts=2, price_micro=90_000)
            await make.tally(
                tx, world, hour=NOON, status=Status.DELIVERED, latency=5, messages=9, cost_micro=7
            )
            await make.tally(tx, world, hour=NOON, status=Status.UNDELIVERED, cause=1, messages=1)
            await make.tally(tx, world, hour=NOON, status=Status.REFUSED, cause=19, messages=2)
        table = await ask(world, span(By.NONE))
        (row,) = table.rows
        assert (row.accepted, row.delivered, row.undelivered, row.refused) == (12, 9, 1, 2)
        assert (row.parts, row.price_micro, row.cost_micro) == (22, 990_000, None)
        assert row.delivery_rate == 0.9
        assert row.at is None
        assert row.latency_ms_p50 is not None
        assert 1_000 <= row.latency_ms_p50 <= 2_000


async def test_rows_are_told_apart_by_what_was_asked(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.tally(tx, world, hour=NOON, messages=3)
            await make.tally(tx, world, hour=NOON + timedelta(hours=1), messages=4, country="US", operator="")
            await make.tally(tx, world, hour=NOON, status=Status.UNDELIVERED, cause=2, messages=1)
        table = await ask(world, span(By.HOUR, Group.STATUS, Group.CAUSE, Group.COUNTRY))
        seen = [
            (row.at, row.status, row.cause, row.country, row.accepted + row.undelivered) for row in table.rows
        ]
        assert seen == [
            (NOON, Status.ACCEPTED, Cause.NONE, "CN", 3),
            (NOON, Status.UNDELIVERED, Cause.INVALID_NUMBER, "CN", 1),
            (NOON + timedelta(hours=1), Status.ACCEPTED, Cause.NONE, "US", 4),
        ]


async def test_names_stand_for_templates_channels_and_purposes(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.tally(tx, world, hour=NOON, status=Status.DELIVERED)
        snapshot = await make.snapshot(world)
        (row,) = (await ask(world, span(By.NONE, Group.TEMPLATE, Group.CHANNEL, Group.PURPOSE))).rows
        assert row.template == snapshot.templates[world.template_id].code
        assert row.channel == snapshot.channels[world.channel_id].name
        assert row.purpose is Purpose.TRANSACTIONAL
        question = Question(
            by=By.NONE,
            counted_from=NOON,
            counted_to=NOON + timedelta(hours=1),
            channels=(str(row.channel),),
            statuses=(Status.DELIVERED,),
            provinces=("BJ", "SH"),
        )
        assert len((await ask(world, question)).rows) == 1
        for other in ({"channels": ("no such",)}, {"templates": ("no such",)}, {"countries": ("US",)}):
            nothing = Question(by=By.NONE, counted_from=NOON, counted_to=NOON + timedelta(hours=1), **other)  # type: ignore[arg-type]
            assert (await ask(world, nothing)).rows == []


async def test_days_begin_in_the_asked_zone(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.tally(tx, world, hour=datetime(2026, 3, 9, 15, tzinfo=UTC))  # 23:00 in Shanghai
            await make.tally(tx, world, hour=datetime(2026, 3, 9, 16, tzinfo=UTC))  # midnight there
        question = Question(
            by=By.DAY, zone="Asia/Shanghai", counted_from=NOON - timedelta(days=2), counted_to=NOON
        )
        days = [row.at for row in (await ask(world, question)).rows]
        assert days == [datetime(2026, 3, 8, 16, tzinfo=UTC), datetime(2026, 3, 9, 16, tzinfo=UTC)]


async def test_a_tenant_counts_only_its_own_and_the_operator_everybody_s_with_costs(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            other = await make.tenant(tx, world.vault)
            await make.tally(tx, world, hour=NOON, messages=5, status=Status.DELIVERED, cost_micro=50)
            await make.tally(
                tx, world, hour=NOON, messages=7, status=Status.DELIVERED, cost_micro=70, tenant_id=other
            )
        assert [row.delivered for row in (await ask(world, span(By.NONE))).rows] == [5]
        (everything,) = (await ask(world, span(By.NONE), tenant=False)).rows
        assert (everything.delivered, everything.cost_micro) == (12, 120)


async def test_a_correction_takes_back_what_was_counted_as_unknown(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.tally(tx, world, hour=NOON, status=Status.UNKNOWN, messages=1)
            await make.tally(tx, world, hour=NOON, status=Status.UNKNOWN, shard=2, messages=-1)
            await make.tally(tx, world, hour=NOON, status=Status.DELIVERED)
        (row,) = (await ask(world, span(By.HOUR))).rows
        assert (row.unknown, row.delivered, row.delivery_rate) == (0, 1, 1.0)
        rows = (await ask(world, span(By.HOUR, Group.STATUS))).rows
        assert [row.status for row in rows] == [Status.DELIVERED]


async def test_an_answer_is_bounded_and_says_so(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            for province in ("BJ", "SH", "GD"):
                await make.tally(tx, world, hour=NOON, province=province)
        snapshot = await make.snapshot(world)
        async with world.database.transaction() as tx:
            question = span(By.NONE, Group.PROVINCE)
            table = await measure.statistics(tx, snapshot, world.tenant_id, question, rows_max=2)
        assert (len(table.rows), table.truncated) == (2, True)


@pytest.mark.parametrize(
    "question",
    [
        Question(counted_from=NOON, counted_to=NOON),
        Question(counted_from=NOON - timedelta(days=33), counted_to=NOON),
        Question(by=By.DAY, counted_from=NOON - timedelta(days=401), counted_to=NOON),
        Question(counted_from=datetime(2026, 3, 10), counted_to=NOON),  # noqa: DTZ001 - that is what is wrong
        Question(zone="Mars/Olympus"),
        Question(zone="../../etc/passwd"),
        Question(countries=("CN",) * 101),
    ],
)
async def test_a_question_without_bounds_is_refused(database: str, question: Question) -> None:
    async with make.world(database) as world:
        with pytest.raises(Refusal) as refused:
            await ask(world, question)
        assert refused.value.code is Code.REQUEST_INVALID_PARAMETER


async def test_buckets_are_those_of_the_database(database: str) -> None:
    async with make.world(database) as world:
        latencies = [0, 49, 50, 99.5, 999, 1_000, 86_399_999, 86_400_000, 10**9]
        rows = await world.database.fetch(
            "SELECT width_bucket(ms, $2::float8[]) AS bucket FROM unnest($1::float8[]) AS u(ms)",
            latencies,
            list(LATENCY_BUCKETS_MS),
        )
        assert [row["bucket"] for row in rows] == [measure.bucket_of(ms) for ms in latencies]


@given(
    st.lists(st.integers(0, 1_000), min_size=15, max_size=15), st.floats(0.01, 0.99), st.floats(0.01, 0.99)
)
def test_percentiles_rise_with_their_share(buckets: list[int], one: float, other: float) -> None:
    low, high = (measure.percentile_ms(buckets, share) for share in sorted((one, other)))
    if low is None or high is None:
        assert sum(buckets) == 0
    else:
        assert 0 <= low <= high <= LATENCY_BUCKETS_MS[-1]


def test_the_last_bucket_tells_its_lower_bound() -> None:
    assert measure.percentile_ms([0] * 14 + [3], 0.5) == LATENCY_BUCKETS_MS[-1]


# ---- /metrics


def busy() -> Counters:
    counters = Counters()
    counters.accepted(500)
    counters.refused(Code.NUMBER_INVALID, 3)
    counters.submitted(7)
    counters.answered("ack", 6)
    counters.answered("unsure")
    counters.committed(10, 0.02)
    counters.ticked(5, 4, 3, 0.01)
    counters.final(Status.DELIVERED, Cause.NONE)
    counters.final(Status.UNDELIVERED, Cause.ABSENT)
    counters.delivered_after(0.06)
    counters.delivered_after(1_000_000)
    counters.parked(2)
    counters.arrived(1)
    counters.stopped(1)
    counters.counts("notices", "Notices.", lambda: {"paid": 9}, label="outcome")
    counters.gauge("queue_messages", "Waiting in memory.", lambda: 42)
    counters.gauge(
        "channel_up", "Whether a session is logged in.", lambda: {'east "1"\n': 1, "tel 13800138000": 0}
    )
    return counters


def samples(octets: bytes) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(octets.decode())
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for each in families
        for sample in each.samples
    }


def test_metrics_are_valid_exposition_format() -> None:
    octets = busy().render()
    seen = samples(octets)
    assert octets.endswith(b"\n")
    assert seen["hongyan_accepted_messages_total", ""] == 500
    assert seen["hongyan_refused_messages_total", "Number.Invalid"] == 3
    assert seen["hongyan_final_messages_total", "absent,undelivered"] == 1
    assert seen["hongyan_tick_rows_total", "reports"] == 4
    assert (seen["hongyan_tick_seconds_count", ""], seen["hongyan_tick_seconds_sum", ""]) == (1, 0.01)
    assert seen["hongyan_queue_messages", ""] == 42
    assert seen["hongyan_channel_up", 'east "1"\n'] == 1
    assert seen["hongyan_delivery_seconds_bucket", "0.05"] == 0
    assert seen["hongyan_delivery_seconds_bucket", "0.1"] == 1
    assert seen["hongyan_delivery_seconds_bucket", "+Inf"] == 2
    assert seen["hongyan_delivery_seconds_count", ""] == 2


def test_labels_carry_no_numbers() -> None:
    assert b"13800138000" not in busy().render()


def test_gauges_are_read_when_somebody_asks() -> None:
    counters = Counters()
    waiting = [1]
    counters.gauge("queue_messages", "Waiting.", lambda: waiting[0])
    waiting[0] = 5
    assert samples(counters.render())["hongyan_queue_messages", ""] == 5


def test_two_processes_in_one_test_do_not_share_counters() -> None:
    one, other = Counters(), Counters()
    one.accepted(1)
    assert samples(other.render())["hongyan_accepted_messages_total", ""] == 0
