"""Wrong codes of a number are counted through everything: they hold up its next code, never one that was sent.

3. A resend never lowers the number's failure counter; after 10 consecutive failures the next issue for that number waits
≥ 30 s, growing to 1 h (the check of a live code is never delayed); after 50 in 30 days another factor is required.
"""

import pytest

import make
from hongyan.otp import limits, policy
from hongyan.otp.wish import failures_key
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.verification import Scene
from otp.asking import Asking, asking

DAY_S = 86_400.0


async def failures(one: Asking) -> int:
    key = failures_key(one.world.vault, one.world.tenant_id, one.world.vault.phone_index(make.NUMBER))
    rows = await one.database.fetch("SELECT failures FROM otp_limit WHERE key = $1", key)
    return rows[0]["failures"] if rows else 0


async def fail(one: Asking, times: int, scene: Scene = Scene.LOGIN) -> None:
    """Ask for a code, a minute and a half later give wrong ones."""
    started = await one.start(scene=scene)
    wrong = await one.wrong(started.id)
    one.clock.now_s += 90
    for _ in range(times):
        assert not (await one.check(started.id, wrong)).valid


async def refusal(one: Asking, scene: Scene = Scene.LOGIN) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await one.start(scene=scene)
    return refused.value


async def test_a_resend_never_lowers_the_numbers_failure_counter(database: str) -> None:
    async with asking(database) as one:
        started = await one.start()
        wrong = await one.wrong(started.id)
        for _ in range(3):
            await one.check(started.id, wrong)
        one.clock.now_s += 61
        again = await one.resend(started.id)
        assert (again.tries_left, await failures(one)) == (2, 3)
        for _ in range(2):
            assert not (await one.check(started.id, wrong)).valid
        assert await failures(one) == 5
        one.clock.now_s += 120
        await one.start()  # nor does another verification
        assert await failures(one) == 5


async def test_after_ten_wrong_codes_in_a_row_the_next_code_waits_30_seconds(database: str) -> None:
    async with asking(database) as one:
        for _ in range(2):
            await fail(one, 5)
        failed_s = one.clock.now_s
        refused = await refusal(one)
        assert (refused.code, refused.detail["limit"]) == (Code.VERIFY_TOO_MANY_SENDS, "failures")
        assert refused.retry_after_s == pytest.approx(30, abs=0.1)
        one.clock.now_s = failed_s + 29
        assert (await refusal(one, Scene.RESET)).detail["limit"] == "failures"  # in whichever scene
        one.clock.now_s = failed_s + 30.1
        await one.start()


async def test_the_wait_doubles_up_to_an_hour_and_a_right_code_ends_it(database: str) -> None:
    async with asking(database) as one:
        waits = [policy.failure_wait_s(count) for count in range(9, 21)]
        assert waits == [0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 3_600]
        for _ in range(2):
            await fail(one, 5)
        one.clock.now_s += 31
        await fail(one, 2)
        assert (await refusal(one)).retry_after_s == pytest.approx(120, abs=0.1)
        one.clock.now_s += 121
        started = await one.start()
        assert (await one.check(started.id, await one.code(started.id))).valid
        assert await failures(one) == 0


async def test_the_check_of_a_live_code_is_never_delayed(database: str) -> None:
    async with asking(database) as one:
        live = await one.start()
        one.clock.now_s += 61
        await fail(one, 5, Scene.RESET)
        await fail(one, 5, Scene.RESET)
        assert (await refusal(one)).detail["limit"] == "failures"
        assert one.clock.now_s < live.expires_at.timestamp()
        assert (await one.check(live.id, await one.code(live.id))).valid


async def test_after_50_wrong_codes_in_30_days_another_factor_is_required(database: str) -> None:
    async with asking(database) as one:
        world, began_s = one.world, one.clock.now_s
        key = failures_key(world.vault, world.tenant_id, world.vault.phone_index(make.NUMBER))
        for day in range(10):  # with the owner's right codes between
            async with world.database.transaction() as tx:
                await limits.checked(tx, {key: 5}, (), began_s + day * DAY_S)
                await limits.checked(tx, {}, [key], began_s + day * DAY_S)
        one.clock.now_s = began_s + 9 * DAY_S + 60
        refused = await refusal(one)
        assert refused.code is Code.VERIFY_FACTOR_REQUIRED
        one.clock.now_s = began_s + 30 * DAY_S + 1  # the first five are older now
        await one.start()
