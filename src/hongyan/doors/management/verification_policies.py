"""Policies of verification codes: how strict a tenant is, and what a guesser would gain by a proposal."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hongyan.control.permissions import Permission
from hongyan.doors.call import Call
from hongyan.doors.route import BODY, Reach, Route
from hongyan.otp import policies
from hongyan.otp.policies import PolicyRow, Proposal, Weighed
from hongyan.vocab.errors import Code
from hongyan.vocab.verification import Scene

Of = Annotated[Scene, Meta(description="What holds in this scene; left out: in every scene without its own.")]


class AskedPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How strict to be from now on. A policy is given whole: what it leaves out goes by the defaults; null is as if unsaid."""

    scene: Of | None = None
    policy: Proposal | None


class AskedWeighing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to judge."""

    policy: Proposal


class PolicyList(msgspec.Struct, frozen=True):
    """First what holds in every scene, then the scenes with a word of their own."""

    items: list[PolicyRow]


async def listed(call: Call) -> PolicyList:
    return PolicyList(list(await policies.read(call.tx, call.tenant)))


async def put(call: Call) -> PolicyList:
    asked = call.body(AskedPolicy)
    rows = await policies.put(
        call.tx,
        call.tenant,
        asked.scene,
        asked.policy,
        who=call.caller.name,
        code_media=call.door.settings.code_media,
    )
    said = None if asked.policy is None else policies.differing(asked.policy)
    call.note(f"verification-policy:{asked.scene or '*'}", policy=said)
    return PolicyList(list(rows))


async def check(call: Call) -> Weighed:
    return policies.weigh(call.body(AskedWeighing).policy)


EXAMPLE: Final = {"digits": 6, "validity_s": 300, "tries": 5}
ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/verification-policies",
        name="listVerificationPolicies",
        summary="Tell how strict a tenant is about codes, and what a guesser gains by it.",
        reach=Reach.TENANT,
        permission=Permission.APPS_READ,
        gives=PolicyList,
        manages=listed,
    ),
    Route(
        method="PUT",
        path="/v1/verification-policies",
        name="putVerificationPolicy",
        summary="Say how strict to be, in one scene or in all. What is careless is refused.",
        reach=Reach.TENANT,
        permission=Permission.APPS_WRITE,
        body=AskedPolicy,
        example={"scene": "pay", "policy": EXAMPLE | {"tries": 3}},
        gives=PolicyList,
        codes=(*BODY, Code.VERIFY_CARELESS),
        manages=put,
    ),
    Route(
        method="POST",
        path="/v1/verification-policies/check",
        name="checkVerificationPolicy",
        summary="Reckon how likely a code is guessed under a policy, and say what is careless about it. Stores nothing.",
        reach=Reach.TENANT,
        permission=Permission.APPS_READ,
        body=AskedWeighing,
        example={"policy": {"digits": 4, "tries": 5}},
        gives=Weighed,
        codes=BODY,
        changes=False,
        recorded=False,
        manages=check,
    ),
)
