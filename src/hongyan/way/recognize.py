"""Find the signature and the template that a finished text was made of: logins send texts, not templates.

Pure. Entry point: Recognizer.wording(). What is found goes through the same rules as any other message, so a value
that breaks one is refused by its name. Surprise: where several templates fit, the one with the most words of its
own counts, because a template that is one great variable fits everything.
"""

from collections.abc import Mapping, Sequence

from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import TenantId
from hongyan.way.snapshot import Login, Template, Tenant

MARKS = (("【", "】"), ("[", "]"))  # of a signature, as vocab.text.sign() writes them


class Recognizer:
    """Remembers each tenant's templates in the order they are tried in."""

    def __init__(self) -> None:
        self._sorted: dict[TenantId, tuple[Tenant, Sequence[Template]]] = {}

    def wording(self, text: str, login: Login, *, mainland: bool) -> Mapping[str, object]:
        """Return the fields of a SessionDraft that say this text: a template with its values, or free text.

        Free text of a login with `hold` is to be held. Raises Refusal where the text carries no approved signature, or
        matches nothing and the login may neither write freely nor have it held.
        """
        tenant = login.key.tenant
        signature, body = _signature(text, tenant, str(login.settings.get("signature", "")))
        for template in self._templates(tenant):
            if template.scope != "any" and (template.scope == "mainland") is not mainland:
                continue
            if template.signature_id not in (0, tenant.signatures[signature].id):
                continue
            for language, compiled in (("", template.text), *template.texts.items()):
                values = compiled.read(body)
                if values is not None:
                    found = {"signature": signature, "template": template.code, "params": values}
                    return found | {"language": language} if language else found
        if not login.key.free_text:
            raise Refusal(Code.TEMPLATE_NOT_FOUND, reason="the text matches no approved template")
        return {"signature": signature, "text": body, "purpose": login.purpose, "held": login.hold}

    def _templates(self, tenant: Tenant) -> Sequence[Template]:
        # Logins see their tenant through a copy, so it is the templates that are compared.
        known = self._sorted.get(tenant.id)
        if known is None or known[0].templates is not tenant.templates:
            approved = [template for template in tenant.templates.values() if template.approved]
            approved.sort(key=lambda template: (-sum(map(len, template.text.literals)), template.id))
            known = self._sorted[tenant.id] = (tenant, approved)
        return known[1]


def _signature(text: str, tenant: Tenant, otherwise: str) -> tuple[str, str]:
    """Return the name of the approved signature at the front or the back of the text, and the text without it.

    `otherwise` signs a text that carries none.
    """
    found = ""
    for opening, closing in MARKS:
        if text.startswith(opening) and closing in text:
            name, _, body = text[len(opening) :].partition(closing)
        elif text.endswith(closing) and opening in text:
            body, _, name = text[: -len(closing)].rpartition(opening)
        else:
            continue
        signature = tenant.signatures.get(name)
        if signature is not None and signature.approved:
            return name, body
        found = found or name
    if not found and otherwise in tenant.signatures:
        return otherwise, text
    if not found:
        raise Refusal(Code.SIGN_NOT_FOUND, reason="the text begins or ends with no 【signature】")
    code = Code.SIGN_NOT_APPROVED if found in tenant.signatures else Code.SIGN_NOT_FOUND
    raise Refusal(code, signature=found[:40])
