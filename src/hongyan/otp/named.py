"""What a policy names has to be there: the template, the signature, the media, the countries.

Writes nothing. Entry point: demand_there(), which raises a Refusal that names the setting. Asked when a policy is said; what goes
later (a template that is disabled, a kind of medium that is taken away) is refused or passed over when a code is asked for.
"""

from collections.abc import Collection, Iterable
from typing import Final, LiteralString

import phonenumbers

from hongyan import db
from hongyan.control.bounds import demand
from hongyan.otp import media
from hongyan.otp.policy import Policy
from hongyan.otp.wish import carries
from hongyan.vocab import wording
from hongyan.vocab.message import PURPOSES, TenantId
from hongyan.vocab.verification import Scene

SHOWN_MAX: Final = 5  # of what is not there, in a reason


async def demand_there(
    tx: db.Tx, tenant_id: TenantId, scene: Scene | None, policy: Policy, *, code_media: str
) -> None:
    """Ask of a policy that all it names exists. `code_media`: the kinds that whoever runs the platform added, as the setting says.

    Template and signature need not be approved: a policy may be said before their review. Raises Refusal.
    """
    _demand_media(policy.media, {*media.OURS, *media.added(code_media)})
    _demand_countries(policy.pumping.countries, "pumping.countries")
    _demand_countries(policy.pumping.budgets, "pumping.budgets")
    if policy.template:
        await _demand_template(tx, tenant_id, scene, policy.template)
    if policy.signature:
        found = await tx.fetchval(SIGNATURE_SQL, tenant_id, policy.signature)
        demand(found is not None, "signature", "the tenant has no signature of this name")


TEMPLATE_SQL: LiteralString = """
SELECT body, variables, purpose FROM template WHERE tenant_id = $1 AND code = $2
"""
SIGNATURE_SQL: LiteralString = "SELECT id FROM signature WHERE tenant_id = $1 AND name = $2"


async def _demand_template(tx: db.Tx, tenant_id: TenantId, scene: Scene | None, code: str) -> None:
    row = await tx.fetchrow(TEMPLATE_SQL, tenant_id, code)
    demand(row is not None, "template", "the tenant has no template of this code")
    assert row is not None
    text, purpose = wording.compile_body(row["body"], row["variables"]), PURPOSES[row["purpose"]]
    scenes = Scene if scene is None else (scene,)
    demand(
        any(carries(text, purpose, one) for one in scenes),
        "template",
        "cannot carry codes of this scene: they need the purpose otp and a variable, payments also the amount and who gets it",
    )


def _demand_media(named: Iterable[str], there: Collection[str]) -> None:
    absent = [one for one in named if one not in there]
    demand(not absent, "media", f"not {_said(absent)}: there are {', '.join(sorted(there))}")


def _demand_countries(named: Iterable[str], setting: str) -> None:
    absent = sorted(one for one in named if one not in phonenumbers.SUPPORTED_REGIONS)
    demand(not absent, setting, f"no country with numbers of its own: {_said(absent)}")


def _said(absent: list[str]) -> str:
    return ", ".join(absent[:SHOWN_MAX]) + (" …" if len(absent) > SHOWN_MAX else "")
