"""Things of a tenant whose every text would be markup if a page let it: laid over the API, looked at by test_pages.py.

Entry points: lay(), which gives the ids that pages are visited by; HOSTILE, the text; taken().
"""

import base64
from collections.abc import Mapping
from typing import Final

from playwright.sync_api import Page

from console.sight import Demo, Sight

# Would be an element if it were ever parsed; short enough for every name.
HOSTILE: Final = '"><img data-hostile src=x onerror=hostile=1>'


def taken(page: Page) -> int:
    """Return how many elements on the page are somebody's text that became markup."""
    return int(
        page.evaluate("document.querySelectorAll('[data-hostile]').length + ('hostile' in window ? 1 : 0)")
    )


def lay(owner: Sight, operator: Sight, demo: Demo) -> Mapping[str, str]:
    """Make one of everything that has a name, a note or a text of a person; returns ids by what they are of."""
    ids = _tenants(owner) | _persons(owner) | _platform(operator) | _codes(owner, demo)
    message = owner.ask("POST", "/v1/apps/1/messages", {
        "to": "+8619900000001", "signature": "鸿雁", "template": "order", "sandbox": True, "reference": HOSTILE,
        "params": {"order": "1", "day": "明天"},
    })  # fmt: skip
    review = operator.ask("GET", "/v1/reviews?kind=signature")["items"][0]["id"]
    return {name: str(value) for name, value in (ids | {"message": message["id"], "review": review}).items()}


def _tenants(owner: Sight) -> dict[str, object]:
    app = owner.ask("POST", "/v1/apps", {"name": HOSTILE})["id"]
    key = owner.ask("POST", f"/v1/apps/{app}/keys", {"name": HOSTILE, "sandbox": True})["key"]["key_id"]
    owner.ask(
        "PUT", f"/v1/apps/{app}/webhook", {"url": "https://example.com/hook?x=%22%3E%3Cimg%20data-hostile%3E"}
    )
    words = owner.ask("POST", "/v1/word-lists", {"name": HOSTILE, "level": "hold", "tag": HOSTILE[:16]})["id"]
    owner.ask("POST", f"/v1/word-lists/{words}/words", {"words": [HOSTILE]})
    proposal = {"name": "客户", "source": "company", "note": HOSTILE}
    signature = owner.ask("POST", "/v1/signatures", proposal)["id"]
    wanted = {
        "code": "hostile",
        "body": HOSTILE + "${a}",
        "purpose": "transactional",
        "variables": {"a": {"kind": "other"}},
    }
    template = owner.ask("POST", "/v1/templates", wanted)["template"]["id"]
    rule = {"kind": "delivery_rate", "name": HOSTILE, "threshold": 0.8, "window_s": 600, "volume_min": 100}
    owner.ask("POST", "/v1/alarm-rules", rule)
    sending = owner.ask_with_file(
        "/v1/lists?name=%22%3E%3Cimg%20data-hostile%3E",
        f'to,"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n13800138000,"<b data-hostile>"\n',
    )
    owner.ask("POST", "/v1/invitations", {"email": "hostile@example.com", "name": HOSTILE, "role": "viewer"})
    export = owner.ask("POST", "/v1/exports", {"what": "messages", "filters": {}, "format": "csv"})["id"]
    return {
        "app": app,
        "key": key,
        "word_list": words,
        "signature": signature,
        "template": template,
        "list": sending["id"],
        "export": export,
    }


def _persons(owner: Sight) -> dict[str, object]:
    number = "+8613800138009"
    owner.ask("POST", "/v1/blocks", {"numbers": [number], "reason": HOSTILE})
    owner.ask("POST", "/v1/opt-outs", {"numbers": [number], "reason": HOSTILE})
    complaint = owner.ask(
        "POST",
        "/v1/complaints",
        {"number": number, "source": "12321", "text": HOSTILE, "reference": HOSTILE[:40]},
    )
    consent = {
        "number": number,
        "source": "form",
        "at": "2026-03-01T09:30:00+08:00",
        "text_version": "1",
        "text": HOSTILE,
    }
    owner.ask("POST", "/v1/consents", {"items": [consent]})
    return {"complaint": complaint["id"]}


def _codes(owner: Sight, demo: Demo) -> dict[str, object]:
    fields = {
        "name": HOSTILE,
        "origins": ["https://example.com"],
        "return_addresses": ["https://example.com/"],
    }
    site_key = owner.ask("POST", "/v1/apps/1/site-keys", fields)["id"]
    asked = owner.context.request.post(
        f"{demo.base}/v1/verifications",
        data={"to": "+8613800138007", "scene": "login", "reference": HOSTILE},
        headers={"Authorization": "Basic " + base64.b64encode(demo.key.encode()).decode()},
    )
    assert asked.status == 201, asked.text()
    return {"site_key": site_key, "verification": asked.json()["data"]["id"]}


def _platform(operator: Sight) -> dict[str, object]:
    tenant = operator.ask("POST", "/v1/tenants", {"name": HOSTILE})["id"]
    settings = {"hosts": ["127.0.0.1:9"], "system_id": "<b>hongyan", "password": "secret"}
    wanted = {"name": HOSTILE, "kind": "smpp", "settings": settings}
    channel = operator.ask("POST", "/v1/channels", wanted)["channel"]["id"]
    operator.ask("POST", "/v1/ledger/correct?tenant_id=1", {"amount_micro": -1, "note": HOSTILE})
    bill = operator.ask_with_file(
        "/v1/channels/1/bills?name=%3Cimg%20data-hostile%3E&zone=Asia/Shanghai",
        "day,parts\n2026-11-01,1\n",
    )
    return {"tenant": tenant, "channel": channel, "bill": bill["bill"]["id"]}
