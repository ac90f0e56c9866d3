"""An alarm is raised once, told once, comes back quietly, and ends; what nobody has seen is told again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import make
from hongyan import clock, db
from hongyan.control import alarm_notes, alarms, readings
from hongyan.control.alarms import Judge, Watch
from hongyan.control.readings import Moved, Recent, WatchKind
from hongyan.vocab.errors import Refusal
from hongyan.way import charge, state
from make import World

START = datetime(2026, 3, 2, 1, 5, tzinfo=UTC).timestamp()


async def lay_rule(tx: db.Tx, world: World, **terms: Any) -> alarms.AlarmRuleRow:
    await tx.execute("DELETE FROM alarm_rule")
    wanted: dict[str, Any] = {
        "kind": WatchKind.BALANCE,
        "name": "low",
        "threshold": 100.0,
        "for_s": 0,
        "emails": ["ops@example.com"],
    }
    made = await alarms.create_rule(tx, world.vault, make.SETTINGS, None, **wanted | terms)
    return made.rule


async def set_balance(tx: db.Tx, world: World, micro: int) -> None:
    left = await charge.balance_micro(tx, world.tenant_id)
    await charge.top_up(tx, world.tenant_id, micro - left, kind="correction")


async def told(tx: db.Tx) -> list[str]:
    rows = await tx.fetch("DELETE FROM alarm_note RETURNING id, body")
    return [
        each["what"]
        for row in sorted(rows, key=lambda row: row["id"])
        for each in msgspec.json.decode(row["body"])["alarms"]
    ]


async def test_an_alarm_is_told_when_it_is_raised_and_when_it_has_recovered(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world)
        memory = Watch()
        await alarms.look(tx, memory, START)
        assert await told(tx) == []
        await set_balance(tx, world, 50)
        for second in range(0, 60, 15):
            await alarms.look(tx, memory, START + 15 + second)
        assert await told(tx) == ["raised"]
        (row,) = await alarms.page(tx, None)
        assert (row.value, row.recovered_at, row.subject) == (50, None, f"tenant:{world.tenant_id}")
        await set_balance(tx, world, 1_000)
        await alarms.look(tx, memory, START + 100)
        assert await told(tx) == ["recovered"]
        (row,) = await alarms.page(tx, None)
        assert row.recovered_at == clock.moment(START + 100)


async def test_a_value_must_stay_wrong_before_anybody_is_told(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world, for_s=60)
        memory = Watch()
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START)
        await alarms.look(tx, memory, START + 59)
        await set_balance(tx, world, 500)
        await alarms.look(tx, memory, START + 61)
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START + 62)
        await alarms.look(tx, memory, START + 121)
        assert await told(tx) == []
        await alarms.look(tx, memory, START + 122)
        assert await told(tx) == ["raised"]


async def test_what_flaps_does_not_storm_and_is_not_forgotten(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world)
        memory = Watch()
        for turn in range(40):  # ten minutes, every fifteen seconds the other way
            await set_balance(tx, world, 50 if turn % 2 == 0 else 500)
            await alarms.look(tx, memory, START + 15 * turn)
        assert await told(tx) == ["raised", "recovered"]
        assert [row.flaps for row in await alarms.page(tx, None)] == [19]
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START + 600)
        assert await told(tx) == []
        await alarms.look(tx, memory, START + 15 + alarms.QUIET_S)
        assert await told(tx) == ["raised"]


async def test_what_nobody_has_seen_is_told_again_and_what_somebody_has_seen_is_not(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world, repeat_s=600)
        memory = Watch()
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START)
        await alarms.look(tx, memory, START + 599)
        assert await told(tx) == ["raised"]
        await alarms.look(tx, memory, START + 600)
        assert await told(tx) == ["lasts"]
        (row,) = await alarms.page(tx, None)
        seen = await alarms.see(tx, row.id, None, "user:1")
        assert seen.seen_by == "user:1"
        await alarms.look(tx, memory, START + 3_000)
        assert await told(tx) == []


async def test_what_is_no_more_to_be_read_ends_after_a_while(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world, window_s=60)
        memory = Watch()
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START)
        await tx.execute("UPDATE tenant SET active = false")
        await alarms.look(tx, memory, START + 15)
        assert await told(tx) == ["raised"]
        await alarms.look(tx, memory, START + 75)
        assert await told(tx) == ["recovered"]


async def test_one_look_tells_a_rule_in_one_note_however_many_are_amiss(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world)
        for _ in range(9):
            await make.tenant(tx, world.vault, balance_micro=1)
        await alarms.look(tx, Watch(), START)
        (note,) = await tx.fetch("SELECT subject, words FROM alarm_note")
        assert "(+8)" in note["subject"]
        assert note["words"].count("\n") == 8


async def test_a_tenants_rule_watches_its_own_alone_and_tells_it(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await make.tenant(tx, world.vault, balance_micro=1)
        await tx.execute("DELETE FROM alarm_rule")
        await alarms.create_rule(
            tx,
            world.vault,
            make.SETTINGS,
            world.tenant_id,
            kind=WatchKind.BALANCE,
            name="low",
            threshold=2e9,
            for_s=0,
        )
        await alarms.look(tx, Watch(), START)
        assert [row.tenant_id for row in await alarms.page(tx, world.tenant_id)] == [world.tenant_id]
        (told_row,) = await tx.fetch("SELECT tenant_id, event FROM announcement")
        assert (told_row["tenant_id"], told_row["event"]) == (world.tenant_id, "alarm")


async def test_a_tenant_may_not_watch_the_platform(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        with pytest.raises(Refusal):
            await alarms.create_rule(
                tx, world.vault, make.SETTINGS, world.tenant_id, kind=WatchKind.BACKLOG, name="x", threshold=1
            )


async def test_every_kind_can_be_read_and_the_shipped_rules_are_quiet_where_all_is_well(
    database: str,
) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await tx.execute("UPDATE channel SET paused = true")
        for kind in WatchKind:
            found: Sequence[readings.Reading] = await readings.read(tx, kind, Recent(), 600)
            assert [each.subject for each in found] == (
                [f"tenant:{world.tenant_id}"]
                if kind is WatchKind.BALANCE
                else ["platform"]
                if kind is WatchKind.BACKLOG
                else []
            ), kind
        await alarms.look(tx, Watch(), START)
        await alarms.look(tx, Watch(), START + 3_600)
        assert await alarms.page(tx, None) == []


async def test_a_channel_that_nobody_holds_a_session_of_is_down_since_it_was_last_held(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await tx.execute("UPDATE channel SET created_at = now() - interval '1 hour'")
        (down,) = await readings.read(tx, WatchKind.CHANNEL_DOWN, Recent(), 60)
        assert down.value == pytest.approx(3_600, abs=5)
        await tx.execute(
            "INSERT INTO channel_state (channel_id, gateway, told) VALUES ($1, 1, $2)",
            world.channel_id, '{"sessions_up": 1}',
        )  # fmt: skip
        (up,) = await readings.read(tx, WatchKind.CHANNEL_DOWN, Recent(), 60)
        assert up.value == 0


async def test_a_channel_that_has_just_gone_down_was_not_down_before(database: str) -> None:
    async with make.world(database) as world:
        await world.database.execute("UPDATE channel SET created_at = now() - interval '1 hour'")
        absent = state.Told()
        for told in (
            state.Told(link="down"),
            state.Told(link="up", sessions_up=1),
            state.Told(link="down"),
            state.Told(link="down"),
        ):
            await state.tell(world.database, 1, {world.channel_id: told})
            await state.tell(world.database, 2, {world.channel_id: absent})
        async with world.database.transaction() as tx:
            (down,) = await readings.read(tx, WatchKind.CHANNEL_DOWN, Recent(), 60)
        assert 0 < down.value < 60


async def test_when_all_gateways_have_stopped_a_channel_is_down_since_then_and_nobody_tells_of_it(
    database: str,
) -> None:
    async with make.world(database) as world:
        await world.database.execute("UPDATE channel SET created_at = now() - interval '1 hour'")
        await state.tell(
            world.database, 1, {world.channel_id: state.Told(link="up", sessions_up=1, takes=True)}
        )
        async with world.database.transaction() as tx:
            await state.forget(tx, 1)
            (down,) = await readings.read(tx, WatchKind.CHANNEL_DOWN, Recent(), 60)
            assert 0 < down.value < 60
            assert await state.every(tx) == {}
            assert await state.of(tx, world.channel_id) == []


CELL = (datetime(2026, 3, 2, 1, tzinfo=UTC), 1, 7)


def moved(delivered: int, final: int) -> Moved:
    return Moved(delivered=delivered, final=final)


def test_a_rate_is_of_what_moved_since_and_not_of_the_day() -> None:
    recent = Recent()
    recent.look(0, {CELL: moved(9_000, 9_000)})
    recent.look(60, {CELL: moved(9_010, 9_100)})
    recent.look(120, {CELL: moved(9_100, 9_200), (CELL[0], 1, 8): moved(1, 1)})
    assert recent.by_channel(60)[7] == moved(90, 100)
    assert recent.by_channel(0)[7] == moved(100, 200)
    assert recent.by_tenant(60)[1] == moved(91, 101)
    assert recent.by_channel(120) == {}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_steps_add_up_to_the_whole(counts: list[int]) -> None:
    recent = Recent()
    total = 0
    for number, count in enumerate(counts):
        total += count
        recent.look(float(number), {CELL: moved(total, total)})
    assert recent.by_tenant(0)[1].final if total > counts[0] else True
    summed = recent.by_tenant(0).get(1, moved(0, 0))
    assert summed.final == total - counts[0]


def test_what_moved_an_hour_ago_is_forgotten() -> None:
    recent = Recent()
    recent.look(0, {CELL: moved(0, 0)})
    recent.look(60, {CELL: moved(5, 5)})
    recent.look(60 + readings.WINDOW_S_MAX, {CELL: moved(5, 5)})
    assert recent.by_tenant(0) == {}


@given(st.floats(0.01, 1e6), st.booleans())
def test_what_was_wrong_is_right_only_well_beyond_the_threshold(threshold: float, below: bool) -> None:
    judge = Judge(threshold, below)
    assert judge(threshold, was=True)
    assert not judge(threshold, was=False)
    assert not judge(threshold * (1.2 if below else 0.8), was=True)


def test_a_note_says_values_as_people_read_them() -> None:
    assert alarm_notes.shown(0.1234, "share") == "12.34%"
    assert alarm_notes.shown(1_234_500_000, "micro") == "1,234.50"
    assert alarm_notes.shown(90, "s") == "90.0 s"


async def test_an_age_is_no_alarm_while_nothing_waits(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        (row,) = await readings.read(tx, WatchKind.BACKLOG, Recent(), 60)
        assert row.value == 0
        await make.message(tx, world, accepted_at=clock.now() - timedelta(minutes=9))


async def test_a_value_that_was_wrong_once_and_then_unheard_of_has_not_stayed_wrong(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await lay_rule(tx, world, for_s=60)
        memory = Watch()
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START)
        await tx.execute("UPDATE tenant SET active = false")  # nothing is read of it any more
        await alarms.look(tx, memory, START + 15)
        await tx.execute("UPDATE tenant SET active = true")
        await alarms.look(tx, memory, START + 3_600)
        assert await told(tx) == []
        await alarms.look(tx, memory, START + 3_660)
        assert await told(tx) == ["raised"]


async def test_a_rule_that_is_turned_off_leaves_no_alarm_open(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        rule = await lay_rule(tx, world)
        memory = Watch()
        await set_balance(tx, world, 50)
        await alarms.look(tx, memory, START)
        await alarms.change_rule(tx, rule.id, None, {"active": False})
        assert await alarms.page(tx, None, open_=True) == []
        assert len(await alarms.page(tx, None)) == 1
        await alarms.look(tx, memory, START + 3_600)
        assert await told(tx) == ["raised"]


async def test_a_look_reads_each_kind_once_however_many_rules_there_are(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await lay_rule(tx, world)
            for number in range(alarms.RULES_MAX):
                await alarms.create_rule(
                    tx, world.vault, make.SETTINGS, world.tenant_id,
                    kind=WatchKind.BALANCE, name=f"{number}", threshold=1.0, for_s=0,
                )  # fmt: skip
        async with world.database.transaction() as tx:
            counted = Counting(tx)
            await alarms.look(counted, Watch(), START)
        assert counted.statements < 10


class Counting:
    """A transaction that counts its statements."""

    def __init__(self, tx: db.Tx) -> None:
        self._tx = tx
        self.statements = 0

    def __getattr__(self, name: str) -> Any:
        self.statements += 1
        return getattr(self._tx, name)


async def test_an_alarm_that_is_over_is_forgotten_after_half_a_year_and_an_open_one_is_not(
    database: str,
) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        rule = await lay_rule(tx, world)
        for subject, recovered in (("old", START), ("open", None), ("young", START + alarms.KEEP_S)):
            await tx.execute(
                "INSERT INTO alarm (rule_id, subject, name, value, worst, raised_at, told_at, recovered_at) "
                "VALUES ($1, $2, $2, 1, 1, $3, $3, $4)",
                rule.id, subject, clock.moment(START), None if recovered is None else clock.moment(recovered),
            )  # fmt: skip
        assert await alarms.forget(tx, clock.moment(START + alarms.KEEP_S + 1)) == 1
        assert {row.subject for row in await alarms.page(tx, None)} == {"open", "young"}


async def test_a_tenant_is_warned_of_its_filings_however_many_of_others_end_before(database: str) -> None:
    async with make.world(database) as world, world.database.transaction() as tx:
        await tx.execute("DELETE FROM alarm_rule")
        other = await make.tenant(tx, world.vault)
        await tx.execute(
            """
            WITH s AS (INSERT INTO signature (tenant_id, name, state)
                       SELECT CASE WHEN n = 700 THEN $2::int ELSE $1::int END, 'brand ' || n, 'approved'
                         FROM generate_series(1, 700) n RETURNING id, tenant_id)
            INSERT INTO filing (signature_id, operator, state, valid_until, changed_by)
            SELECT id, 'cmcc', 'ok', current_date + CASE WHEN tenant_id = $2 THEN 40 ELSE 10 END, 'x' FROM s
            """,
            other, world.tenant_id,
        )  # fmt: skip
        await alarms.create_rule(
            tx, world.vault, make.SETTINGS, world.tenant_id,
            kind=WatchKind.FILING_ENDS, name="soon", threshold=60, for_s=0,
        )  # fmt: skip
        await alarms.look(tx, Watch(), START)
        assert [row.name for row in await alarms.page(tx, world.tenant_id)] == ["【brand 700】 cmcc"]
