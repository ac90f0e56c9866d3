"""Texts that follow by themselves, seen by the pumping guard: they fill its windows and budgets, and it may stop them.

Writes: ward (through pumping), code_spend (through pumping), withheld (through withheld). Entry point: count(), in the
transaction that decides to send them.
Nobody is there who could solve a challenge for such a text, and who pumps would have two texts for the price of one challenge.
So it counts as a send does, at its price, though the tenant pays nothing; it is stopped where codes go to no such country, a
budget is spent, its prefix or country is paused, or a prefix's window is as full as it gets. A window that would merely ask for
a challenge lets it by: windows fill up when an operator fails, which is when a second route is needed.

Order of locks, for whoever holds several of these in a transaction: existing rows of verification, then ward (by tenant and
country, the tenant's own row first), then otp_limit, then code_spend, withheld, guess_meter. Rounds of fallback.py, resend.py,
check.py, ripen.py and persons.py begin with verifications, as far as they hold any. issue.py holds none when it locks wards and
limits: its rows are new, and nobody can wait for what nobody has seen. So nobody who has wards waits for a verification, and there
is no circle; rounds themselves never wait for a verification at all (SKIP LOCKED).
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from hongyan import db
from hongyan.otp.policy import Policy
from hongyan.otp.pumping import NOWHERE, Ask, Judgement, Wards
from hongyan.otp.ward import Turn
from hongyan.settings import Settings
from hongyan.vocab.errors import Refusal
from hongyan.vocab.verification import Level
from hongyan.way import guard
from hongyan.way.guard import CodeDraft
from hongyan.way.snapshot import Key, Snapshot


class Text(NamedTuple):
    """One that is about to follow."""

    row: db.Row  # the verification's: app_id, country, prefix
    policy: Policy
    key: Key
    draft: CodeDraft

    @property
    def ask(self) -> Ask:
        row = self.row
        return Ask(self.key.tenant.id, row["app_id"], row["country"], row["prefix"], known=False, again=True)


class Said(Enum):
    """What the guard does with one."""

    COUNTED = "counted"  # it is sent
    STOPPED = "stopped"
    PASSED_OVER = "passed over"  # it would be refused as a message anyway: whoever offers it hears so


async def count(
    tx: db.Tx, texts: Sequence[Text], snapshot: Snapshot, settings: Settings, now_s: float
) -> Sequence[Said]:
    """Count texts of verifications that this transaction holds, one after the other; says what is to become of each."""
    prices = [_price_micro(text, snapshot, settings, now_s) for text in texts]
    asks = [text.ask for text, price_micro in zip(texts, prices, strict=True) if price_micro is not None]
    if not asks:
        return [Said.PASSED_OVER] * len(texts)
    wards = await Wards.lock(tx, asks, now_s)
    said = [
        Said.PASSED_OVER if price_micro is None else _count(wards, text, price_micro, now_s)
        for text, price_micro in zip(texts, prices, strict=True)
    ]
    await wards.store(tx)
    return said


def _price_micro(text: Text, snapshot: Snapshot, settings: Settings, now_s: float) -> int | None:
    try:
        return guard.check(text.draft, text.key, snapshot, settings, now_s).price_micro
    except Refusal:
        return None


def _count(wards: Wards, text: Text, price_micro: int, now_s: float) -> Said:
    ask, rules = text.ask, text.policy.pumping
    judgement = wards.judge(ask, rules, price_micro, now_s)
    paused = _is_paused(wards, ask, judgement)
    if judgement.level is Level.REFUSE or (judgement.level and paused):
        refused = Judgement(Level.REFUSE, judgement.reasons, judgement.retry_after_s)
        wards.blocked(ask, refused, price_micro, now_s)
        return Said.STOPPED
    if not paused:
        # Judged as of somebody known: else it would be counted as one that passed a challenge, or whom one is spared.
        wards.judge(msgspec.structs.replace(ask, known=True), rules, price_micro, now_s)
    wards.sent(ask, price_micro, now_s)
    return Said.COUNTED


def _is_paused(wards: Wards, ask: Ask, judgement: Judgement) -> bool:
    """Say whether a paused ward is among the reasons: not where the prefix is let by, or has a record of its own."""
    country = ask.country or NOWHERE
    for named, ward in (
        ("pumping.prefix", wards.ward(ask.tenant_id, country, ask.prefix)),
        ("pumping.country", wards.ward(ask.tenant_id, country)),
    ):
        if ward.turn is Turn.PAUSED and any(reason.startswith(named) for reason in judgement.reasons):
            return True
    return False
