"""Through a gateway and two operators: what one swallows, the other brings; and the codes learn to go there."""

import asyncio
from typing import Final

import make
from hongyan.otp import ripen
from hongyan.otp.book import Keeper as BookKeeper
from hongyan.otp.check import CheckedCode, Checker, Guess
from hongyan.otp.fallback import Fallback
from hongyan.otp.issue import Issuer, Started
from hongyan.otp.media import Media
from hongyan.otp.wish import Wish
from hongyan.simulator import behaviour
from hongyan.simulator.server import Simulator
from hongyan.vocab.message import Purpose
from hongyan.vocab.verification import Scene
from plane import QUICK, books_balance, plane

from .asking import BODY, POLICY_SQL, VARIABLES, Clock

POLICY = (
    '{"challenge": "never", "template": "codes", "signature": "鸿雁", "media": ["sms", "sms_other_route"]}'
)
NUMBER = "13800138000"
LOOKS: Final = 40


async def test_a_code_that_an_operator_swallows_comes_by_the_other_and_both_are_known_for_it(
    database: str,
) -> None:
    swallows = behaviour.parse("report_loss_share=1")
    async with (
        Simulator(swallows, seed=1) as first,
        Simulator(behaviour.parse("report_delay_s=0.01"), seed=2) as second,
        plane(database, first, second) as way,
        asyncio.TaskGroup() as tasks,
    ):
        async with way.database.transaction() as tx:
            await make.template(
                tx, tenant_id=way.tenant_id, purpose=Purpose.OTP, code="codes", body=BODY, variables=VARIABLES
            )
            await tx.execute(POLICY_SQL, way.tenant_id, POLICY)
        await way.keeper.load()
        key = way.keeper.current.keys[way.key.key_id]
        book, now_s = BookKeeper(way.database), Clock()
        await book.load()
        issuer = Issuer(way.database, way.keeper, book, way.vault, QUICK, way.acceptor, now_s)
        checker = Checker(way.database, way.vault, now_s)
        fallback = Fallback(
            way.database, way.keeper, book, way.vault, way.acceptor, Media(QUICK), QUICK, now_s
        )
        loops = [tasks.create_task(one) for one in (issuer.run(), checker.run())]
        await way.up(2)
        await way.until(
            "SELECT 1 WHERE (SELECT count(*) FROM channel_state WHERE (told->>'takes')::bool) = 2"
        )

        heard = asyncio.get_running_loop().create_future()
        issuer.offer(key, Wish(to=NUMBER, scene=Scene.LOGIN), heard.set_result)
        started = await heard
        assert isinstance(started, Started), started
        await way.until("SELECT 1 FROM submitted WHERE message_id = $1", started.message_id)
        assert not second.destinations()

        now_s.now_s += 32  # no report came in time
        for _ in range(LOOKS):  # that the other channel is up may be told a moment late
            await fallback.round()
            (row,) = await way.database.fetch("SELECT * FROM verification")
            if len(row["message_ids"]) > 1:
                break
            now_s.now_s += 3
            await asyncio.sleep(0.1)
        await way.final(row["message_ids"][1])
        (text,) = second.phone(NUMBER)
        code = way.vault.unseal(way.tenant_id, row["code"]).decode()
        assert code in text.text
        charged = await way.database.fetch("SELECT id, price_micro FROM message ORDER BY id")
        assert [one["price_micro"] > 0 for one in charged] == [True, False]

        checked = asyncio.get_running_loop().create_future()
        checker.offer(key, Guess(id=started.id, code=code), checked.set_result)
        outcome = await checked
        assert isinstance(outcome, CheckedCode)
        assert outcome.valid
        async with way.database.transaction() as tx:
            await ripen.count(tx, way.vault, now_s.now_s)
        known = await way.database.fetch(
            "SELECT channel_id, good, bad FROM conversion WHERE operator = 'cmcc' AND province = '' ORDER BY channel_id"
        )
        swallowed, brought = way.laid.channels
        assert [tuple(one) for one in known] == [(swallowed, 0, 1), (brought, 1, 0)]
        for loop in loops:
            loop.cancel()
        await books_balance(way.database)
