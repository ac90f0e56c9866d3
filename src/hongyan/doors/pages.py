"""Forms that pages showed, counted for the funnel.

Writes nothing itself; otp/funnel.py does. Entry points: Pages.opened(), Pages.run(). Nobody waits for it, and many share one
transaction.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hongyan import clock, db
from hongyan.gather import Gatherer, Told
from hongyan.otp import funnel
from hongyan.vocab.verification import Scene


class _Shown(NamedTuple):
    place: tuple[int, int, Scene]

    @property
    def heard(self) -> Callable[[Any], None]:
        return _nothing


def _nothing(_outcome: object) -> None:
    """Nobody waits to hear that a form was counted."""


class Pages:
    """Counts forms that were shown, for the funnel: many in one transaction. run() must run beside it."""

    def __init__(self, database: db.Database, now_s: Callable[[], float] = clock.now_s) -> None:
        self._database = database
        self._now_s = now_s
        self._gatherer = Gatherer[_Shown]("widget.opened", self._keep)
        self.run = self._gatherer.run

    def opened(self, tenant_id: int, app_id: int, scene: Scene) -> None:
        self._gatherer.add(_Shown((tenant_id, app_id, scene)))

    async def _keep(self, shown: Sequence[_Shown]) -> Sequence[Told]:
        async with self._database.transaction() as tx:
            await funnel.opened(tx, Counter(one.place for one in shown), self._now_s())
        return ()
