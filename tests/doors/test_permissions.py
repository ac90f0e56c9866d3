"""Who may reach what: every route asked by everybody, and things of one tenant asked for by another.

permissions.tsv has a line for each route with the callers it lets in: anything but "who are you" and "you may not". It
is read by people: a line is changed by hand, when a person decided so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

import make
from doors.counter import Reply, ask, basic
from doors.management.desk import FOREIGN, KEY, NOBODY, Desk, Who, desk
from doors.management.laid import Laid, lay
from hongyan.control.permissions import PLATFORM_ROLES, SCOPES, TENANT_ROLES, Role
from hongyan.doors.events import KIND
from hongyan.doors.route import Reach, Route
from hongyan.doors.routes import ROUTES

pytestmark = pytest.mark.usefixtures("impatient")

TABLE: Final = Path(__file__).with_name("permissions.tsv")
DEFAULT_KEY: Final = "default-key"  # a program whose key nobody gave scopes
CALLERS: Final[tuple[Who, ...]] = (NOBODY, *Role, DEFAULT_KEY, KEY)
# Queries without which a route does not come as far as its own question of who may.
QUERIES: Final = {
    "getConsentsOfNumber": {"number": make.NUMBER},
    "getSuppressionsOfNumber": {"number": make.NUMBER},
    "uploadDocument": {"kind": "other", "name": "a.pdf"},
    "uploadList": {"name": "b"},
    "traceChannel": {"seconds": "0.1"},
    "watchOverview": {"seconds": "0.1"},
}
# Bodies that do not go where the examples would.
BODIES: Final[Mapping[str, Mapping[str, object]]] = {
    "testChannelSettings": {
        "kind": "smpp",
        "settings": {"hosts": ["127.0.0.1:1"], "system_id": "a", "password": "b"},
    },
}
MASTER: Final = make.MASTER.reveal().hex()
REFUSED: Final = ("Auth.Missing", "Auth.SignInEnded", "Auth.PermissionDenied")
LAST: Final = ("signOut",)  # after it the caller is nobody


def table() -> dict[str, frozenset[str]]:
    lines = TABLE.read_text("utf-8").splitlines()
    return {name: frozenset(who.split()) for name, _, who in (line.partition("\t") for line in lines)}


def line_of(route: Route) -> str:
    return f"{route.method} {route.path}"


async def question(
    one: Desk,
    laid: Laid,
    route: Route,
    who: Who,
    head: Mapping[str, str] | None = None,
    *,
    extra: Mapping[str, str] | None = None,
) -> Reply:
    """Ask a route about what was laid, as its document proposes."""
    query = {**QUERIES.get(route.name, {}), **(extra or {})}
    if who in PLATFORM_ROLES and route.reach in {Reach.TENANT, Reach.ANY}:
        query["tenant_id"] = str(one.world.tenant_id)
    target = laid.path(route) + ("?" if query else "") + "&".join(f"{n}={quote(v)}" for n, v in query.items())
    body: Any = BODIES.get(route.name, route.example) if route.body is not None else b""
    headers = {"Content-Type": route.file_kinds[0]} if route.file else {}
    credentials = one.credentials(who) if head is None else head
    return await ask(one.port, route.method, target, body, {**credentials, **headers})


def in_order() -> list[Route]:
    return sorted(ROUTES, key=lambda route: route.name in LAST)


def test_the_table_has_every_route_and_no_other() -> None:
    assert list(table()) == [line_of(route) for route in ROUTES]


@pytest.mark.parametrize("who", CALLERS)
async def test_a_route_lets_in_whom_the_table_says(database: str, who: Who) -> None:
    let_in, broken = await walk(database, who)
    told = {line for line, callers in table().items() if str(who) in callers}
    assert (sorted(let_in - told), sorted(told - let_in), broken) == ([], [], [])


async def walk(database: str, who: Who) -> tuple[set[str], list[str]]:
    """Ask every route as one caller; return those that let it in, and those that broke."""
    let_in, broken = set(), []
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        head = None if who != DEFAULT_KEY else {"Authorization": basic(await default_key(one))}
        for route in in_order():
            reply = await question(one, laid, route, who, head)
            if reply.status >= 500:
                broken.append(f"{line_of(route)} {reply.body.decode()}")
            told = "content-disposition" in reply.headers or reply.headers["content-type"].startswith(KIND)
            if told or reply.code not in REFUSED:
                let_in.add(line_of(route))
    return let_in, broken


async def default_key(one: Desk) -> str:
    async with one.database.transaction() as tx:
        made = await make.app_key(tx, one.world.vault, app_id=one.world.app_id)
    await one.served.keeper.load()
    return made


# Tables that say what came and when, and not how things are.
TRACES: Final = frozenset({"sign_in_attempt", "nonce", "idempotency", "audit", "audit_head", "migration"})
TABLES_SQL: Final = """
SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
"""


async def digest(one: Desk) -> dict[str, str]:
    """Return a digest of what each table holds."""
    names = sorted({row["name"] for row in await one.fetch(TABLES_SQL)} - TRACES)
    each = [
        f"(SELECT md5(coalesce(string_agg(t::text, ' ' ORDER BY t::text), '')) FROM {name} t) AS {name}"
        for name in names
    ]
    (row,) = await one.fetch("SELECT " + ", ".join(each))
    return dict(row)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(name for name in before if before[name] != after[name])


@pytest.mark.parametrize("who", [FOREIGN, "foreign-key"])
async def test_what_is_another_tenants_is_not_there(database: str, who: str) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        head = (
            one.credentials(FOREIGN) if who == FOREIGN else {"Authorization": basic(await foreign_key(one))}
        )
        before, wrong = await digest(one), []
        for route in ROUTES:
            if "{" in route.path and route.name not in OF_NOBODY:
                reply = await question(one, laid, route, FOREIGN, head)
                if reply.status not in (403, 404) and not (route.name in BEFOREHAND and who != FOREIGN):
                    wrong.append((line_of(route), reply.status, reply.body))
        assert wrong == []
        assert changed(before, await digest(one)) == []


# Routes with an id in their path that names nothing of a tenant, or that answer alike whether it does (test_verify.py).
OF_NOBODY: Final = frozenset({"checkVerification"})
BEFOREHAND: Final = ("checkList",)  # refuses another app's id before it looks for anything


async def foreign_key(one: Desk) -> str:
    async with one.database.transaction() as tx:
        app_id = await make.app(tx, tenant_id=one.foreign_id)
        made = await make.app_key(tx, one.world.vault, app_id=app_id, scopes=sorted(SCOPES))
    await one.served.keeper.load()
    return made


@pytest.mark.parametrize("who", sorted(TENANT_ROLES))
async def test_people_of_a_tenant_name_no_tenant(database: str, who: Role) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        for route in ROUTES:
            if route.reach is not Reach.ANYONE:
                reply = await question(one, laid, route, who, extra={"tenant_id": str(one.foreign_id)})
                assert reply.status in (400, 401, 403), (line_of(route), reply.body)


@pytest.mark.parametrize("who", [Role.OPERATOR, Role.OWNER, KEY])
async def test_a_parameter_that_is_not_there_is_refused(database: str, who: Who) -> None:
    async with desk(database, master_key=MASTER) as one:
        laid = await lay(one)
        before = await digest(one)
        for route in ROUTES:
            reply = await question(one, laid, route, who, extra={"no_such": "1"})
            assert reply.status in (400, 401, 403), (line_of(route), reply.body)
        assert changed(before, await digest(one)) == []


PLATFORMS_SQL: Final = {
    "alarm-rules": "SELECT min(id) FROM alarm_rule WHERE tenant_id IS NULL",
    "alarms": """INSERT INTO alarm (rule_id, subject, name, value, worst, raised_at, told_at)
                 SELECT min(id), 'channel:1', 'theirs', 1, 1, now(), now() FROM alarm_rule RETURNING id""",
    "word-lists": "INSERT INTO word_list (name) VALUES ('theirs') RETURNING id",
    "users": "SELECT min(id) FROM console_user WHERE tenant_id IS NULL",
    "invitations": """INSERT INTO invitation (email, role, token_hash, expires_at)
                      VALUES ('a@example.com', 'support', '\\x00', now() + interval '1 day') RETURNING id""",
}


@pytest.mark.parametrize("who", [Role.OWNER, KEY])
async def test_what_is_the_platforms_is_not_a_tenants(database: str, who: Who) -> None:
    async with desk(database, master_key=MASTER) as one:
        await lay(one)
        async with one.database.transaction() as tx:
            places = {noun: {"id": str(await tx.fetchval(sql))} for noun, sql in PLATFORMS_SQL.items()}
            jobs = "UPDATE job SET tenant_id = 0 WHERE kind = 'export' RETURNING id"
            places["exports"] = places["jobs"] = {"id": str(await tx.fetchval(jobs))}
        before, wrong = await digest(one), []
        for route in ROUTES:
            if "{" in route.path and route.path.split("/")[2] in places:
                reply = await question(one, Laid(places), route, who)
                if reply.status not in (403, 404):
                    wrong.append((line_of(route), reply.status, reply.body))
        assert wrong == []
        assert changed(before, await digest(one)) == []
