"""A tenant to try everything with: keys, people, wording, prices, two channels and a site key, laid at every `run --demo`.

Writes through the other rooms of control, and state_dir/demo.json (0600) for programs that want the keys, and for the
passwords, which are told again at every start. Entry point: lay(). Idempotent: what is there stays as it is, so that a
newcomer may change it; only the port of the simulator is kept up to date, and the passwords are what the file says.
Surprise: prices and route rules are the demo tenant's own, so that laying it beside real tenants changes nothing for
them.
"""

import base64
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final, LiteralString

import msgspec

from hongyan import db
from hongyan.control import (
    keys,
    people,
    prices,
    routes,
    signatures,
    site_keys,
    template_rows,
    templates,
    tenants,
    upstreams,
)
from hongyan.control.permissions import Role
from hongyan.control.templates import Wanted
from hongyan.settings import Settings
from hongyan.vault import Secret, Vault, read_master_key
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import AppId, Purpose, TenantId
from hongyan.vocab.wording import Variable
from hongyan.way import charge

TENANT: Final = "Demo"
APP: Final = "demo"
SIGNATURE: Final = "鸿雁"
CHANNEL: Final = "demo-smpp"
SANDBOX: Final = "demo-sandbox"
COUNTRIES: Final = ("CN", "HK", "SG", "GB", "US")
BALANCE_MICRO: Final = 1_000_000_000  # 1,000 yuan: some 20,000 messages
NUMBER: Final = "13800138000"
SITE_KEY: Final = "demo shop"
SHOP_PORT: Final = 8090  # of the shop to try codes with: examples/shop
OPERATOR: Final = "operator@example.com"  # a name nobody has (RFC 2606 section 3)
OWNER: Final = "owner@example.com"
PASSWORD_OCTETS: Final = 12
LOCK: Final = 0x64656D6F  # 'demo': two processes that start at once lay it one after the other

# code → body, purpose, rules of its variables
TEMPLATES: Final[Mapping[str, tuple[str, Purpose, Mapping[str, Variable]]]] = {
    "code": ("验证码为:${code},有效期5分钟", Purpose.OTP, {"code": Variable("code")}),
    "order": (
        "您的订单${order}已发货,预计${day}送达。",
        Purpose.TRANSACTIONAL,
        {"order": Variable("number")},
    ),
    "sale": ("会员日全场${discount}折,到店即享,拒收请回复R", Purpose.PROMOTIONAL, {}),
}


class Demo(msgspec.Struct, frozen=True):
    """What a newcomer needs. It holds secrets in the clear; the operator's password opens the whole install."""

    key_id: str
    secret: str
    sandbox_key_id: str
    sandbox_secret: str
    channel_id: int = 0
    operator_password: str = ""
    owner_password: str = ""
    site_key: str = ""  # what the shop's page asks for codes with; it reaches sandbox numbers only

    @property
    def operator(self) -> str:
        """E-mail and password of somebody who may do everything."""
        return f"{OPERATOR} ({self.operator_password})"

    @property
    def owner(self) -> str:
        """E-mail and password of who owns the demo tenant."""
        return f"{OWNER} ({self.owner_password})"

    def request(self) -> Mapping[str, object]:
        """Return a message that may be sent now, many times a day (a code may not: one a minute)."""
        return {
            "to": NUMBER,
            "signature": SIGNATURE,
            "template": "order",
            "params": {"order": "20250001", "day": "明天"},
        }

    def authorization(self) -> str:
        """Return the header that HTTP Basic wants (RFC 7617 section 2)."""
        return "Basic " + base64.b64encode(f"{self.key_id}:{self.secret}".encode()).decode()

    def curl(self, base_url: str) -> str:
        """Return a command line that sends request(), ready to be pasted into a shell."""
        body = msgspec.json.encode(self.request()).decode()
        return (
            f"curl -u {self.key_id}:{self.secret} -H 'Content-Type: application/json' \\\n"
            f"  -d '{body}' {base_url}/v1/messages"
        )

    def manage(self, base_url: str, folder: Path) -> str:
        """Return command lines that look at the channel's sessions and lint a text; their cookies lie in the folder."""
        text = {
            "body": "您的验证码为${code},5分钟内有效",
            "purpose": "otp",
            "variables": {"code": {"kind": "code"}},
        }
        cookies = shlex.quote(str(folder.absolute() / "demo.cookies"))
        json = "-H 'Content-Type: application/json'"
        return "\n".join(
            (
                _sign_in(base_url, cookies, OPERATOR, self.operator_password),
                f"curl -b {cookies} {base_url}/v1/channels/{self.channel_id}/state",
                _sign_in(base_url, cookies, OWNER, self.owner_password),
                f"curl -b {cookies} -H 'Hongyan-Console: 1' {json} \\",
                f"  -d '{msgspec.json.encode(text).decode()}' {base_url}/v1/templates/lint",
            )
        )


def _sign_in(base_url: str, cookies: str, email: str, password: str) -> str:
    body = msgspec.json.encode({"email": email, "password": password}).decode()
    return (
        f"curl -sS -o /dev/null -c {cookies} -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}' {base_url}/v1/sign-in"
    )


async def lay(database: db.Database, vault: Vault, settings: Settings, simulator_port: int) -> Demo:
    """Lay what is missing and return the keys. `simulator_port`: where the practice operator speaks SMPP.

    Raises VaultError where master key and database do not fit.
    """
    async with database.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        tenant_id, app_id = await _tenant(tx, vault, settings)
        await _wording(tx, tenant_id)
        await _channels(tx, vault, tenant_id, simulator_port)
        key_id, secret = await _key(tx, vault, app_id, sandbox=False)
        sandbox_key_id, sandbox_secret = await _key(tx, vault, app_id, sandbox=True)
        operator_password, owner_password = await _people(tx, tenant_id, read(settings))
        demo = Demo(
            key_id,
            secret,
            sandbox_key_id,
            sandbox_secret,
            await upstreams.find(tx, CHANNEL),
            operator_password,
            owner_password,
            await _site_key(tx, tenant_id, app_id),
        )
    await database.notify("control")
    _write(settings.state_dir / "demo.json", msgspec.json.format(msgspec.json.encode(demo)) + b"\n")
    return demo


def read(settings: Settings) -> Demo | None:
    """Return the keys as they were laid last; None where they never were."""
    try:
        return msgspec.json.decode((settings.state_dir / "demo.json").read_bytes(), type=Demo)
    except FileNotFoundError:
        return None


async def _tenant(tx: db.Tx, vault: Vault, settings: Settings) -> tuple[TenantId, AppId]:
    try:
        tenant_id = await tenants.find(tx, TENANT)
        return tenant_id, await tenants.find_app(tx, tenant_id, APP)
    except Refusal:
        master = _master_key(settings)
        tenant_id = await tenants.create(tx, vault, master, TENANT, countries=COUNTRIES)
        await charge.top_up(tx, tenant_id, BALANCE_MICRO, note="a present to newcomers")
        await prices.put(tx, 45_000, tenant_id=tenant_id, country="CN")
        await prices.put(tx, 60_000, tenant_id=tenant_id, country="CN", purpose=Purpose.PROMOTIONAL)
        await prices.put(tx, 350_000, tenant_id=tenant_id)
        return tenant_id, await tenants.create_app(tx, tenant_id, APP)


def _master_key(settings: Settings) -> Secret:
    return read_master_key(settings.master_key, settings.state_dir / "master.key")


async def _wording(tx: db.Tx, tenant_id: TenantId) -> None:
    try:
        signature_id = await signatures.find(tx, tenant_id, SIGNATURE)
    except Refusal:
        signature_id = await signatures.propose(tx, tenant_id, SIGNATURE)
        await signatures.move(tx, signature_id, signatures.SignatureState.APPROVED)
    for code, (body, purpose, rules) in TEMPLATES.items():
        try:
            await template_rows.find(tx, tenant_id, code)
        except Refusal:
            # Codes are asked for without naming a signature, by pages too.
            bound = signature_id if purpose is Purpose.OTP else None
            wanted = Wanted(body, rules)
            template_id = await templates.propose(tx, tenant_id, code, wanted, purpose, signature_id=bound)
            if (await template_rows.get(tx, template_id)).state is template_rows.TemplateState.REVIEWING:
                await templates.decide(tx, template_id, approve=True, who="demo")


async def _channels(tx: db.Tx, vault: Vault, tenant_id: TenantId, simulator_port: int) -> None:
    settings = {
        "hosts": ["127.0.0.1"],
        "port": simulator_port,
        "system_id": "demo",
        "password": "demo",
        "backoff_s": 0.1,  # the practice operator starts at the same moment as we do
    }
    try:
        await upstreams.configure(tx, vault, await upstreams.find(tx, CHANNEL), settings)
    except Refusal:
        channel_id = await upstreams.add_channel(
            tx,
            vault,
            name=CHANNEL,
            kind="smpp",
            settings=settings,
            sessions=2,
            access_number="10690000",
            cost_micro=30_000,
        )
        await routes.add(tx, channel_id, tenant_id=tenant_id)
    try:
        await upstreams.find(tx, SANDBOX)
    except Refusal:
        channel_id = await upstreams.add_channel(
            tx, vault, name=SANDBOX, kind="loopback", settings={}, access_number="10690001"
        )
        await routes.add(tx, channel_id, tenant_id=tenant_id)


async def _people(tx: db.Tx, tenant_id: TenantId, known: Demo | None) -> tuple[str, str]:
    """Have an operator and an owner with the passwords that were told before, or new ones."""
    passwords = []
    for whose, email, role, told in (
        (None, OPERATOR, Role.OPERATOR, known.operator_password if known else ""),
        (tenant_id, OWNER, Role.OWNER, known.owner_password if known else ""),
    ):
        password = told or secrets.token_urlsafe(PASSWORD_OCTETS)
        await people.ensure(
            tx, tenant_id=whose, email=email, name=f"Demo {role}", role=role, password=password
        )
        passwords.append(password)
    return passwords[0], passwords[1]


# The one place that unseals an app key's secret to show it again: a newcomer's curl must work after a
# restart.
KEY_SQL: LiteralString = """
SELECT key_id, sealed FROM app_key WHERE app_id = $1 AND sandbox = $2 AND allow_basic AND active
 ORDER BY id LIMIT 1
"""


async def _key(tx: db.Tx, vault: Vault, app_id: AppId, *, sandbox: bool) -> tuple[str, str]:
    row = await tx.fetchrow(KEY_SQL, app_id, sandbox)
    if row is not None:
        return row["key_id"], vault.unseal_secret(row["sealed"]).reveal().decode()
    key = await keys.create(tx, vault, app_id, allow_basic=True, sandbox=sandbox)
    return key.key_id, key.secret.reveal().decode()


async def _site_key(tx: db.Tx, tenant_id: TenantId, app_id: AppId) -> str:
    """Have a site key for a shop on this machine."""
    for row in await site_keys.page(tx, tenant_id, app_id=app_id):
        if row.name == SITE_KEY:
            return row.key_id
    origins = [f"http://{host}:{SHOP_PORT}" for host in ("127.0.0.1", "localhost")]
    made = await site_keys.create(
        tx,
        app_id,
        sandbox=True,
        name=SITE_KEY,
        origins=origins,
        return_addresses=[f"{origin}/verified" for origin in origins],
    )
    return (await site_keys.get(tx, tenant_id, made)).key_id


def _write(path: Path, octets: bytes) -> None:
    """Replace the file, whole or not at all, readable by us alone."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(octets)
    draft.replace(path)
