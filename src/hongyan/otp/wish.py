"""What somebody asks of a verification, and the plan made of it: pure, before any row is looked at.

Entry points: Wish, plan(). A plan has the template with its values, the price and the place (by way.guard, as for any
message), how many characters the code will have, and the keyed hashes under which the limits know who asks.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final

import msgspec

from hongyan.otp import autofill, media
from hongyan.otp.policy import Policies, Policy, kept_to, policy_for
from hongyan.otp.pumping import Ask
from hongyan.settings import Settings
from hongyan.vault import Vault
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.vocab.verification import Scene
from hongyan.vocab.wording import CODE_KINDS, KINDS, Compiled
from hongyan.way import guard
from hongyan.way.guard import Cleared, CodeDraft
from hongyan.way.snapshot import Key, Snapshot, Template

LAST_DIGITS: Final = 4  # of a number, which its prefix has not
_PAYEES: Final = frozenset({"name", "nickname", "organisation", "other"})


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for."""

    to: str
    scene: Scene
    language: str = ""
    template: str = ""  # empty: the policy's, else the first that takes such a code
    signature: str = ""
    params: Mapping[str, str | int] = {}
    amount: str = ""
    payee: str = ""
    email: str = ""  # for a medium that needs it
    medium: str = ""  # empty: the policy's first
    address: bytes = b""  # of the person, as the app or the door sees it, by network(); empty: not known
    device: str = ""  # as the app or the widget names it
    challenge: str = ""  # the answer to one
    reference: str = ""
    site_key_id: int = 0  # a page asks, and not the app's own server (0)


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed with a verification, to say the same once more."""

    e164: str
    language: str
    template: str
    signature: str
    params: dict[str, str | int]  # without the code
    variable: str  # which one the code is
    amount: str
    payee: str
    email: str
    last_line: bool  # for browsers

    def draft(
        self, code: str, policy: Policy, reference: str = "", avoid_channel: int = 0, *, free: bool = False
    ) -> CodeDraft:
        """Return the message that carries a code."""
        return CodeDraft(
            to=self.e164,
            signature=self.signature,
            template=self.template,
            params={**self.params, self.variable: code},
            language=self.language,
            validity_s=policy.validity_s,
            reference=reference,
            avoid_channel=avoid_channel,
            free=free,
            last_line=autofill.line(policy.host, code) if self.last_line else "",
        )


class Keys(msgspec.Struct, frozen=True):
    """The rows of otp_limit that speak of one wish; None: it does not say. All but one are the tenant's own."""

    number: bytes  # in this scene
    everywhere: bytes  # the number, whoever asks: all tenants share it
    failures: bytes  # the number's wrong codes, and when it was proved
    address: bytes | None
    device: bytes | None
    known: bytes | None  # this device with this number

    def own(self) -> list[bytes]:
        keys = (self.number, self.failures, self.address, self.device, self.known)
        return [key for key in keys if key is not None]


class Plan(msgspec.Struct, frozen=True):
    """A wish that may be granted, as far as anybody can say without asking who asked before."""

    wish: Wish
    policy: Policy
    kept: Kept
    cleared: Cleared  # of the message with a code of `digits`
    phone_index: bytes
    keys: Keys
    ask: Ask
    digits: int
    digits_max: int  # what the template takes
    alphabet: str
    medium: str
    bound: bytes  # what a challenge has to be made for


def plan(
    wish: Wish,
    key: Key,
    policies: Policies,
    snapshot: Snapshot,
    settings: Settings,
    vault: Vault,
    now_s: float,
) -> Plan:
    """Make a plan, or raise the Refusal that says what is wrong with the wish."""
    policy = policy_for(policies, key.tenant.id, wish.scene)
    template = _template(wish, policy, key)
    variable, digits_max = _code_variable(template)
    kept = _kept(wish, policy, template, variable, key)
    policy = _kept_to(template, variable, digits_max, policy)
    draft = kept.draft("0" * policy.digits, policy)
    cleared = guard.check(draft, key, snapshot, settings, now_s)
    e164 = cleared.number.e164
    phone_index = vault.phone_index(e164)
    return Plan(
        wish=wish,
        policy=policy,
        kept=msgspec.structs.replace(kept, e164=e164),
        cleared=cleared,
        phone_index=phone_index,
        keys=keys_of(vault, key.tenant.id, phone_index, wish),
        ask=Ask(
            key.tenant.id,
            key.app_id,
            cleared.place.country,
            e164[:-LAST_DIGITS],
            known=False,
            digits_max=digits_max,
        ),
        digits=policy.digits,
        digits_max=digits_max,
        alphabet=policy.characters,
        medium=_medium(wish, policy),
        bound=bound_to(vault, key.tenant.id, e164, wish.scene),
    )


def bound_to(vault: Vault, tenant_id: int, e164: str, scene: Scene) -> bytes:
    """Return what a challenge is made for: one number in one scene of one tenant."""
    return vault.keyed_hash(b"challenge", b"%d" % tenant_id, e164.encode(), scene.encode())


def keys_of(vault: Vault, tenant_id: int, phone_index: bytes, wish: Wish) -> Keys:
    """Return the keyed hashes under which the limits know who asks."""
    tenant = b"%d" % tenant_id
    hashed = vault.keyed_hash
    address, device = wish.address, wish.device.encode()
    return Keys(
        number=hashed(b"otp number", tenant, phone_index, wish.scene.encode()),
        everywhere=hashed(b"otp number", phone_index),
        failures=failures_key(vault, tenant_id, phone_index),
        address=hashed(b"otp address", tenant, address) if address else None,
        device=hashed(b"otp device", tenant, device) if device else None,
        known=hashed(b"otp known", tenant, phone_index, device) if device else None,
    )


def failures_key(vault: Vault, tenant_id: int, phone_index: bytes) -> bytes:
    """Return the row that counts a number's wrong codes, in whichever scene."""
    return vault.keyed_hash(b"otp failures", b"%d" % tenant_id, phone_index)


def network(address: str) -> bytes:
    """Return what counts as one address: IPv4 itself, of IPv6 the /64, which is one line's; empty where it is none."""
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        return b""
    if isinstance(one, ipaddress.IPv6Address):
        return one.ipv4_mapped.packed if one.ipv4_mapped else one.packed[:8]
    return one.packed


def _template(wish: Wish, policy: Policy, key: Key) -> Template:
    code = wish.template or policy.template
    templates = key.tenant.templates
    if code:
        found = templates.get(code)
        if found is None:
            raise Refusal(Code.TEMPLATE_NOT_FOUND, template=code[:40])
        return found
    fitting = [
        one for one in templates.values() if one.approved and carries(one.text, one.purpose, wish.scene)
    ]
    if not fitting:
        raise Refusal(
            Code.REQUEST_MISSING_PARAMETER, parameter="template", reason="no template takes such a code"
        )
    # The first that was made: another one that is approved changes nothing for who names none.
    return min(fitting, key=lambda one: one.id)


def carries(text: Compiled, purpose: Purpose, scene: Scene) -> bool:
    """Say whether a template can carry a code of a scene; of a payment, one with an amount and somebody it goes to."""
    kinds = {id(kind) for kind, _ in text.rules.values()}
    has_code = any(id(KINDS[name]) in kinds for name in CODE_KINDS)
    pays = id(KINDS["money"]) in kinds and any(id(KINDS[name]) in kinds for name in _PAYEES)
    if scene is Scene.PAY:
        return has_code and pays and purpose is not Purpose.PROMOTIONAL
    return has_code and not pays and purpose is Purpose.OTP


def _code_variable(template: Template) -> tuple[str, int]:
    """Return the variable that the code is, and how many characters it may have."""
    for name, (kind, characters_max) in template.text.rules.items():
        if any(kind is KINDS[each] for each in CODE_KINDS):
            return name, characters_max
    raise Refusal(
        Code.TEMPLATE_MISSING_VARIABLE, reason="no variable of the template is a code", template=template.code
    )


def _kept_to(template: Template, variable: str, digits_max: int, policy: Policy) -> Policy:
    """Return the policy as far as the template's route takes such codes. Raises Refusal where they could be guessed."""
    kind = template.text.rules[variable][0]
    letters = kind.pattern is None or kind.pattern.fullmatch("A" * kind.characters_min) is not None
    alphabet = policy.alphabet if letters else "digits"
    if digits_max >= policy.digits and alphabet == policy.alphabet:
        return policy
    kept = kept_to(policy, min(policy.digits, digits_max), alphabet)
    if kept is None:
        raise Refusal(
            Code.VERIFY_CARELESS,
            template=template.code,
            reason="the codes it takes are too short for any try",
        )
    return kept


def _kept(wish: Wish, policy: Policy, template: Template, variable: str, key: Key) -> Kept:
    params = dict(wish.params)
    if variable in params:
        raise Refusal(Code.REQUEST_INVALID_PARAMETER, parameter="params", reason="the code is made here")
    if wish.scene is Scene.PAY and not (wish.amount and wish.payee):
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="amount" if not wish.amount else "payee")
    if wish.scene is not Scene.PAY and (wish.amount or wish.payee):
        raise Refusal(
            Code.REQUEST_INVALID_PARAMETER, parameter="amount", reason="only the scene pay has them"
        )
    for name, (kind, _) in template.text.rules.items():
        if name == variable or name in params:
            continue
        if kind is KINDS["minutes"]:
            params[name] = str(policy.validity_s // 60)
        elif kind is KINDS["money"] and wish.amount:
            params[name] = wish.amount
        elif wish.payee and any(kind is KINDS[each] for each in _PAYEES):
            params[name] = wish.payee
    if wish.scene is Scene.PAY and not {wish.amount, wish.payee} <= {str(value) for value in params.values()}:
        raise Refusal(
            Code.TEMPLATE_MISSING_VARIABLE,
            template=template.code,
            reason="the text of a payment names the amount and who gets it",
        )
    return Kept(
        e164=wish.to,
        language=wish.language,
        template=template.code,
        signature=wish.signature or policy.signature or _only_signature(template, key),
        params=params,
        variable=variable,
        amount=wish.amount,
        payee=wish.payee,
        email=wish.email,
        last_line=bool(policy.host),
    )


def _only_signature(template: Template, key: Key) -> str:
    """Return the signature where nobody named one and the tenant has but one: what else could be meant?"""
    approved = [name for name, one in key.tenant.signatures.items() if one.approved]
    return approved[0] if len(approved) == 1 and not template.signature_id else ""


def _medium(wish: Wish, policy: Policy) -> str:
    if not wish.medium:
        return policy.media[0]
    if wish.medium not in policy.media:
        raise Refusal(Code.VERIFY_MEDIUM_DISABLED, medium=wish.medium, media=list(policy.media))
    if wish.medium == media.EMAIL and not wish.email:
        raise Refusal(Code.REQUEST_MISSING_PARAMETER, parameter="email")
    return wish.medium
