"""One of everything that has an id: rows of a tenant and of the platform, for tests that ask every route.

Entry points: lay(); Laid.path(). LAID says by which words of its path a route names a thing; a route that names
something else has to bring its own line here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import msgspec

import make
from doors.management.desk import Desk
from hongyan.control.permissions import Role
from hongyan.doors.route import Route
from hongyan.otp.wish import Kept

# By the first word of a path: the values of its braces. A word of two nouns is looked up with the next one too.
Places = Mapping[str, Mapping[str, str]]
PERSON: Final = msgspec.msgpack.encode(
    {"name": "李娜", "id_number": "110101199001011234", "phone": make.NUMBER}
)
KEPT: Final = msgspec.msgpack.encode(Kept(make.NUMBER, "", "T1", "", {}, "code", "", "", "", last_line=False))
PDF: Final = b"%PDF-1.7\n%%EOF\n"


@dataclass(frozen=True, slots=True)
class Laid:
    """What was laid, and how to write a path to it."""

    places: Places

    def path(self, route: Route) -> str:
        """Write a route's path with the ids of what was laid. Raises KeyError for a noun nobody laid."""
        if "{" not in route.path:
            return route.path
        return route.path.format_map(self.of(route))

    def of(self, route: Route) -> Mapping[str, str]:
        """Return what stands in the braces of a route."""
        words = route.path.split("/")[2:]
        return self.places[f"{words[0]}/{words[1]}" if words[0] == "me" else words[0]]


async def lay(desk: Desk) -> Laid:
    """Lay one of everything for the desk's tenant."""
    world, tenant_id = desk.world, desk.world.tenant_id
    async with desk.database.transaction() as tx:
        message_id = await make.message(tx, world)
        await make.inbound(tx, world)
        await make.webhook(tx, world.vault, app_id=world.app_id)
        key_id = await make.app_key(tx, world.vault, app_id=world.app_id)
        ids = {
            name: str(await tx.fetchval(sql, *values)) for name, (sql, values) in _rows(desk, key_id).items()
        }
    document = await desk.ask(
        "POST", "/v1/documents?kind=other&name=a.pdf", PDF, as_=Role.OWNER, headers=_kind("application/pdf")
    )
    export = await desk.ask("POST", "/v1/exports", {"what": "ledger"}, as_=Role.OWNER)
    table = await desk.ask(
        "POST", "/v1/lists?name=a", b"number\n+8613800138000\n", as_=Role.OWNER, headers=_kind("text/csv")
    )
    (job,) = await desk.fetch("SELECT read_job AS id FROM sending_list")
    price = await desk.ask("PUT", "/v1/prices", {"part_micro": 45_000})  # the configuration's first versions
    policy = await desk.ask("PATCH", "/v1/policies", {"sign_up": "open"})
    replies = (document, export, table, price, policy)
    assert [reply.status for reply in replies] == [201, 201, 201, 200, 200], [reply.body for reply in replies]
    return Laid(
        {
            "messages": {"id": str(message_id)},
            "me/sign-ins": {"id": ids["sign_in"]},
            "me/tokens": {"id": ids["token"]},
            "tenants": {"id": str(tenant_id)},
            "apps": {"id": str(world.app_id)},
            "keys": {"id": key_id},
            "site-keys": {"id": ids["site_key"]},
            "verifications": {"id": ids["verification"]},
            "deliveries": {"id": ids["delivery"]},
            "documents": {"id": _id(document)},
            "qualifications": {"id": ids["qualification"]},
            "reviews": {"id": ids["review"]},
            "users": {"id": str(desk.users[Role.VIEWER])},
            "invitations": {"id": ids["invitation"]},
            "lists": {"id": _id(table)},
            "exports": {"id": _id(export)},
            "jobs": {"id": str(job["id"])},
            "configuration": {"id": "1"},
            "complaints": {"id": ids["complaint"]},
            "signatures": {
                "id": str(world.signature_id),
                "operator": "cmcc",
                "channel_id": str(world.channel_id),
            },
            "channels": {"id": str(world.channel_id)},
            "channel-kinds": {"id": "smpp"},
            "routes": {"id": ids["route"]},
            "bills": {"id": ids["bill"]},
            "word-lists": {"id": ids["word_list"]},
            "templates": {"id": str(world.template_id), "number": "1", "language": "en"},
            "alarm-rules": {"id": ids["alarm_rule"]},
            "alarms": {"id": ids["alarm"]},
        }
    )


def _kind(content_type: str) -> Mapping[str, str]:
    return {"Content-Type": content_type}


def _id(reply: Any) -> str:
    return str(reply.json["data"]["id"])


def _rows(desk: Desk, key_id: str) -> Mapping[str, tuple[LiteralString, tuple[Any, ...]]]:
    """Return what is laid by plain SQL: each statement gives the id."""
    world, tenant_id = desk.world, desk.world.tenant_id
    owner, word = desk.users[Role.OWNER], hashlib.sha256(key_id.encode()).digest()
    index, sealed = world.vault.phone_index(make.NUMBER), world.vault.seal(tenant_id, PERSON)
    return {
        "sign_in": (SIGN_IN_SQL, (owner, word)),
        "token": (TOKEN_SQL, (owner, word)),
        "qualification": (QUALIFICATION_SQL, (tenant_id, sealed)),
        "review": (REVIEW_SQL, (tenant_id, world.signature_id)),
        "invitation": (INVITATION_SQL, (tenant_id, word)),
        "complaint": (COMPLAINT_SQL, (tenant_id, index)),
        "verification": (
            VERIFICATION_SQL,
            (tenant_id, make.message_id(), world.app_id, index, world.vault.seal(tenant_id, KEPT)),
        ),
        "route": (ROUTE_SQL, (world.channel_id,)),
        "bill": (BILL_SQL, (world.channel_id,)),
        "word_list": (WORD_LIST_SQL, (tenant_id,)),
        "version": (VERSION_SQL, (world.template_id,)),
        "text": (TEXT_SQL, (world.template_id,)),
        "delivery": (DELIVERY_SQL, (world.app_id,)),
        "site_key": (SITE_KEY_SQL, (world.app_id,)),
        "alarm_rule": (ALARM_RULE_SQL, (tenant_id,)),
        "alarm": (ALARM_SQL, (tenant_id,)),
    }


SIGN_IN_SQL: Final = (
    "INSERT INTO sign_in (user_id, token_hash, address) VALUES ($1, $2, '127.0.0.1') RETURNING id"
)
TOKEN_SQL: Final = """
INSERT INTO api_token (user_id, name, hint, token_hash, scopes, expires_at)
VALUES ($1, 'a', 'hyt_abcd', $2, '{messages.read}', now() + interval '1 day') RETURNING id
"""
QUALIFICATION_SQL: Final = """
INSERT INTO qualification (tenant_id, legal_name, credit_code, person_sealed, proposed_by)
VALUES ($1, '一', '', $2, 'user:1') RETURNING id
"""
REVIEW_SQL: Final = """
INSERT INTO review (tenant_id, kind, subject, title) VALUES ($1, 'signature', $2, '鸿雁') RETURNING id
"""
INVITATION_SQL: Final = """
INSERT INTO invitation (tenant_id, email, role, token_hash, expires_at)
VALUES ($1, 'new@example.com', 'viewer', $2, now() + interval '1 day') RETURNING id
"""
COMPLAINT_SQL: Final = """
INSERT INTO complaint (tenant_id, phone_index, source, received_at, due_at)
VALUES ($1, $2, 'person', now(), now() + interval '1 day') RETURNING id
"""
VERIFICATION_SQL: Final = """
INSERT INTO verification (tenant_id, id, app_id, scene, medium, sandbox, phone_index, sealed, pepper, guess_space, tries_max,
                          country, operator, province, prefix, level, message_ids, created_at, expires_at, resend_at)
VALUES ($1, $2, $3, 1, 'sms', false, $4, $5, 1, 1e6, 5, 'CN', 'cmcc', 'CN-BJ', '+8613800', 0, '{}', now(),
        now() + interval '5 minutes', now() + interval '1 minute')
RETURNING id
"""
ROUTE_SQL: Final = "INSERT INTO route_rule (channel_id) VALUES ($1) RETURNING id"
BILL_SQL: Final = """
INSERT INTO bill (channel_id, name, zone, first_day, last_day, currency, made_by)
VALUES ($1, 'may', 'UTC', '2026-05-01', '2026-05-31', 'CNY', 'user:1') RETURNING id
"""
WORD_LIST_SQL: Final = "INSERT INTO word_list (tenant_id, name) VALUES ($1, 'ours') RETURNING id"
VERSION_SQL: Final = """
INSERT INTO template_version (template_id, number, language, body) VALUES ($1, 1, 'zh', '您好') RETURNING id
"""
TEXT_SQL: Final = """
INSERT INTO template_text (template_id, language, body) VALUES ($1, 'en', 'Hello') RETURNING template_id
"""
DELIVERY_SQL: Final = """
INSERT INTO delivery (id, app_id, kind, status, took_ms, attempt)
VALUES (overlay(gen_random_uuid()::text PLACING '01a2152b' FROM 1)::uuid, $1, 1, 500, 20, 1) -- of a time of ours
RETURNING id
"""
SITE_KEY_SQL: Final = """
INSERT INTO site_key (key_id, app_id, name, origins, scenes)
VALUES ('hys_laid', $1, 'shop', '{https://shop.example.com}', '{login}') RETURNING id
"""
ALARM_RULE_SQL: Final = """
INSERT INTO alarm_rule (tenant_id, kind, name, threshold, window_s)
VALUES ($1, 'delivery_rate', 'Few arrive', 0.8, 600) RETURNING id
"""
ALARM_SQL: Final = """
INSERT INTO alarm (rule_id, tenant_id, subject, name, value, worst, raised_at, told_at)
SELECT max(id), $1, 'tenant:1', 'ours', 0.5, 0.5, now(), now() FROM alarm_rule RETURNING id
"""
