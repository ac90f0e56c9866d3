"""The pure operator: each behaviour, without sockets or clocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hongyan.simulator.behaviour import Behaviour, IdForm, State, Table, parse
from hongyan.simulator.operator import (
    QUEUE_FULL,
    Ack,
    Disconnect,
    Effect,
    Operator,
    Reply,
    Report,
    Submit,
    written_id,
)

ONE = Submit("13812345678")


def effects(words: str, submit: Submit = ONE, nth: int = 1) -> list[Effect]:
    plan = Operator(Table(parse(words)), seed=1).take(submit, 0.0, nth)
    assert plan is not None
    return plan.effects


def reports(words: str, submit: Submit = ONE) -> list[Report]:
    return [effect for effect in effects(words, submit) if isinstance(effect, Report)]


def test_a_well_behaved_operator_acks_at_once_and_reports_delivery() -> None:
    ack, report = effects("report_delay_s=2")
    assert isinstance(ack, Ack)
    assert isinstance(report, Report)
    assert (ack.delay_s, ack.status) == (0.0, 0)
    assert (report.delay_s, report.state, report.err, report.told) == (2.0, State.DELIVRD, "000", True)
    assert ack.ack_id == report.report_id


def test_the_same_seed_does_the_same() -> None:
    words = "ack_delay_s=0..9 fail_share=0.5 ack_loss_share=0.5 early_share=0.5 late_share=0.5"
    first, second = (Operator(Table(parse(words)), seed=5) for _ in range(2))
    assert [first.take(ONE, 0.0) for _ in range(50)] == [second.take(ONE, 0.0) for _ in range(50)]


def test_without_a_seed_ids_differ_from_start_to_start() -> None:
    taken = {plan.ack_id for _ in range(3) if (plan := Operator(Table(Behaviour())).take(ONE, 0.0))}
    assert len(taken) == 3


@given(st.integers(0, 2**32), st.sampled_from([form for form in IdForm if form is not IdForm.EMPTY]))
def test_ids_are_unique_in_every_form(seed: int, form: IdForm) -> None:
    operator = Operator(Table(Behaviour(ack_id=form)), seed=seed)
    ids = [plan.ack_id for _ in range(20) if (plan := operator.take(ONE, 0.0))]
    assert len(set(ids)) == 20


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (IdForm.DECIMAL, "1234567890"),
        (IdForm.PADDED, "001234567890"),
        (IdForm.HEX, "499602d2"),
        (IdForm.HEX_PADDED, "00499602d2"),
        (IdForm.HEX_UPPER, "499602D2"),
        (IdForm.EMPTY, ""),
    ],
)
def test_an_id_is_written_in_its_form(form: IdForm, written: str) -> None:
    assert written_id(1_234_567_890, form) == written


def test_a_uuid_is_the_same_in_ack_and_report() -> None:
    ack, report = effects("ack_id=uuid report_id=uuid")
    assert isinstance(ack, Ack)
    assert isinstance(report, Report)
    assert ack.ack_id == report.report_id
    assert len(ack.ack_id) == 36


@given(st.floats(0, 5), st.floats(0, 5))
def test_delays_stay_within_their_span(low_s: float, width_s: float) -> None:
    ack, report = effects(f"ack_delay_s={low_s}..{low_s + width_s} report_delay_s={low_s}..{low_s + width_s}")
    assert low_s <= ack.delay_s <= low_s + width_s
    assert low_s <= report.delay_s <= low_s + width_s


def test_a_lost_ack_leaves_the_report_alone() -> None:
    [report] = effects("ack_loss_share=1")
    assert isinstance(report, Report)


def test_a_lost_report_still_settles_the_part() -> None:
    [report] = reports("report_loss_share=1 report_copies=3")
    assert (report.told, report.settles, report.state) == (False, True, State.DELIVRD)


def test_an_early_report_stands_before_its_ack() -> None:
    report, ack = effects("early_share=1 report_delay_s=1 ack_delay_s=0.5")
    assert isinstance(report, Report)
    assert isinstance(ack, Ack)
    assert (report.delay_s, ack.delay_s) == (1.0, 1.5)


def test_a_late_report_takes_its_own_time() -> None:
    assert [report.delay_s for report in reports("late_share=1 late_delay_s=60")] == [60.0]


def test_copies_follow_the_report_and_settle_nothing() -> None:
    copies = reports("report_delay_s=1 report_copies=3 copy_gap_s=2")
    assert [(report.delay_s, report.settles) for report in copies] == [
        (1.0, True),
        (3.0, False),
        (5.0, False),
    ]


def test_intermediate_states_share_the_wait() -> None:
    states = reports("report_delay_s=3 intermediate=ENROUTE,ACCEPTD")
    assert [(report.delay_s, report.state) for report in states] == [
        (1.0, State.ENROUTE),
        (2.0, State.ACCEPTD),
        (3.0, State.DELIVRD),
    ]
    assert [report.settles for report in states] == [False, False, True]


@pytest.mark.parametrize(("which", "told"), [("all", [1, 2, 3]), ("first", [1]), ("last", [3])])
def test_reports_come_for_the_parts_they_are_asked_for(which: str, told: list[int]) -> None:
    parts = {index: reports(f"report_parts={which}", Submit("138", index, 3)) for index in (1, 2, 3)}
    assert [index for index, [report] in parts.items() if report.told] == told
    assert all(report.settles for [report] in parts.values())


@pytest.mark.parametrize("state", ["DELIVRD", "UNDELIV"])
def test_reports_come_only_where_the_client_asked(state: str) -> None:
    for on_success in (True, False):
        submit = Submit("138", on_success=on_success, on_failure=not on_success)
        [report] = reports(f"state={state}", submit)
        assert report.told is (on_success is (state == "DELIVRD"))


def test_some_parts_fail() -> None:
    operator = Operator(Table(parse("fail_share=0.5 fail_err=MK:0008")), seed=1)
    plans = [operator.take(ONE, 0.0) for _ in range(100)]
    codes = [effect.err for plan in plans if plan for effect in plan.effects if isinstance(effect, Report)]
    assert set(codes) == {"000", "MK:0008"}


def test_a_refusal_is_an_ack_and_nothing_more() -> None:
    assert effects("refuse_status=0x0B") == [Ack(0.0, 0x0B)]


def test_a_refused_part_takes_no_place_in_the_queue() -> None:
    operator = Operator(Table(parse("refuse_status=8")))
    operator.take(ONE, 0.0)
    assert operator.queued == 0


def test_a_full_queue_opens_when_a_part_is_settled() -> None:
    operator = Operator(Table(parse("queue_parts_max=2")))
    statuses = [plan.status for _ in range(3) if (plan := operator.take(ONE, 0.0))]
    operator.settled()
    plan = operator.take(ONE, 0.0)
    assert statuses == [0, 0, QUEUE_FULL]
    assert plan is not None
    assert plan.status == 0


@given(st.integers(1, 20), st.lists(st.floats(0, 0.5), max_size=60))
def test_no_second_takes_more_than_twice_the_rate(per_s: int, gaps_s: list[float]) -> None:
    """The bucket may be full when the second begins, and fills once over during it."""
    operator = Operator(Table(parse(f"parts_per_s_max={per_s}")))
    now_s, taken_at_s = 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        plan = operator.take(ONE, now_s)
        if plan and plan.status == 0:
            taken_at_s.append(now_s)
    for start_s in taken_at_s:
        assert sum(start_s <= at_s <= start_s + 1 for at_s in taken_at_s) <= 2 * per_s + 1


def test_the_nth_submit_breaks_the_session_after_its_ack() -> None:
    assert isinstance(effects("disconnect_after_submits=3", nth=3)[-1], Disconnect)
    assert not any(isinstance(effect, Disconnect) for effect in effects("disconnect_after_submits=3", nth=2))


def test_silence_is_no_plan() -> None:
    assert Operator(Table(parse("silent=yes"))).take(ONE, 0.0) is None
    operator = Operator(Table(parse("silent_after_submits=1")))
    assert operator.take(ONE, 0.0, 1) is not None
    assert operator.take(ONE, 0.0, 2) is None


def test_a_handset_replies_once_behind_the_last_part_and_only_to_what_arrived() -> None:
    words = "reply=R report_delay_s=1 reply_delay_s=2"
    assert effects(words, Submit("138", 2, 2))[-1] == Reply(3.0, "R")
    assert not any(isinstance(effect, Reply) for effect in effects(words, Submit("138", 1, 2)))
    assert not any(isinstance(effect, Reply) for effect in effects(words + " state=EXPIRED"))


def test_a_forger_writes_the_true_id() -> None:
    _, report, forged = effects("forge=DELIVRD state=UNDELIV")
    assert isinstance(report, Report)
    assert isinstance(forged, Reply)
    assert forged.text.startswith(f"id:{report.report_id} ")
    assert "stat:DELIVRD" in forged.text


def test_the_sandbox_ending_without_report_tells_nothing() -> None:
    assert [report.told for report in reports("", Submit("19900000007"))] == [False]


def test_the_slow_sandbox_ending_takes_thirty_seconds() -> None:
    assert [report.delay_s for report in reports("", Submit("19900000008"))] == [30.0]


def test_a_name_of_the_protocol_s_own_stands_in_ack_and_report() -> None:
    ack, report = effects("ack_id=hex", Submit("13812345678", name="0a0b"))
    assert isinstance(ack, Ack)
    assert isinstance(report, Report)
    assert (ack.ack_id, report.report_id) == ("0a0b", "0a0b")
    nameless = effects("ack_id=empty", Submit("13812345678", name="0a0b"))[0]
    assert isinstance(nameless, Ack)
    assert nameless.ack_id == ""


def test_a_protocol_has_its_own_words_for_limits_unless_told_otherwise() -> None:
    submit = Submit("13812345678", throttled=8, queue_full=11)
    for words, status in (
        ("parts_per_s_max=1", 8),
        ("parts_per_s_max=1 throttle_status=101", 101),
        ("queue_parts_max=1", 11),
    ):
        operator = Operator(Table(parse(words)), seed=1)
        plans = [operator.take(submit, 0.0) for _ in range(2)]
        assert [plan.status for plan in plans if plan] == [0, status]


@given(st.integers(1, 20), st.integers(0, 20))
def test_a_group_is_taken_whole_or_not_at_all(count: int, room: int) -> None:
    operator = Operator(Table(Behaviour(queue_parts_max=room)), seed=1)
    plans = operator.take_group([Submit(f"138{at:08}", name=str(at)) for at in range(count)], 0.0)
    assert plans is not None
    fits = room == 0 or count <= room
    assert {plan.status for plan in plans} == {0 if fits else QUEUE_FULL}
    assert [len([e for e in plan.effects if isinstance(e, Ack)]) for plan in plans] == [1, *[0] * (count - 1)]
    assert sum(isinstance(e, Report) for plan in plans for e in plan.effects) == (count if fits else 0)
    assert operator.queued == (count if fits else 0)


@given(st.lists(st.integers(1, 100), max_size=20))
def test_numbers_in_a_row_are_given_to_nobody_else(counts: list[int]) -> None:
    operator = Operator(Table(Behaviour()), seed=1)
    given_out = [
        first + step for count in counts for first in [operator.number(count)] for step in range(count)
    ]
    plan = operator.take(ONE, 0.0)
    assert plan is not None
    assert len({*given_out, int(plan.ack_id)}) == len(given_out) + 1
