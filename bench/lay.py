"""Lay what a load needs into the database of a running install, and print its key as JSON.

python -m bench.lay --smsc-port 19775 --webhook-port 19002 --opt-outs 1000000
The install is found by the same environment as the program itself (HONGYAN_STATE_DIR, DATABASE_URL).
"""

import argparse
import asyncio
import json

from hongyan import db, run, settings, vault
from hongyan.control import keys, logins, prices, routes, signatures, tenants, upstreams, webhooks
from hongyan.vocab.message import Purpose, TenantId
from hongyan.way import charge

BODY = "Hello this is a peerbench test message of usual size ${number}"
PROMOTION = "Hello this is a test of a sale ${number}拒收请回复R"  # one part in UCS-2, as BODY is in GSM-7
ACCOUNTS = {
    "smpp": {"system_id": "user", "password": "pass"},
    "cmpp": {"source_addr": "900001", "secret": "pass", "version": "3.0"},
    "smgp": {"client_id": "10690000", "secret": "pass"},
    "sgip": {
        "login_name": "user",
        "login_password": "pass",
        "corp_id": "92008",
        "area_code": "010",
        "keep_open": True,
    },
}
BALANCE_MICRO = 10**15
CHUNK = 50_000
TEMPLATE_SQL = """
INSERT INTO template (tenant_id, code, body, purpose, variables, state) VALUES ($1, $2, $3, $4, $5, 'approved')
"""
VARIABLES = '{"number": {"kind": "number"}}'


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smsc-port", type=int, required=True)
    parser.add_argument("--webhook-port", type=int, required=True)
    parser.add_argument("--opt-outs", type=int, default=0)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--kind", choices=ACCOUNTS, default="smpp", help="of the channel")
    parser.add_argument("--login", action="store_true", help="also an SMPP login user with the password pass")
    arguments = parser.parse_args()
    known = settings.read()
    async with run.open_database(known) as database:
        keys_ = await run.open_vault(database, known)
        async with database.transaction() as tx:
            tenant_id, key = await lay(tx, keys_, known, arguments)
        await opt_outs(database, keys_, tenant_id, arguments.opt_outs)
        await database.notify("control")
    print(json.dumps({"key_id": key.key_id, "secret": key.secret.reveal().decode()}))


async def lay(
    tx: db.Tx, keys_: vault.Vault, known: settings.Settings, arguments: argparse.Namespace
) -> tuple[TenantId, keys.NewKey]:
    master = vault.read_master_key(known.master_key, known.state_dir / "master.key")
    tenant_id = await tenants.create(tx, keys_, master, "Bench", countries=("CN", "MA"))
    await charge.top_up(tx, tenant_id, BALANCE_MICRO)
    app_id = await tenants.create_app(tx, tenant_id, "bench")
    key = await keys.create(tx, keys_, app_id, allow_basic=True)
    signature_id = await signatures.propose(tx, tenant_id, "Bench")
    await signatures.move(tx, signature_id, signatures.SignatureState.APPROVED)
    for code, purpose in (
        ("load", Purpose.TRANSACTIONAL),
        ("code", Purpose.OTP),
        ("sale", Purpose.PROMOTIONAL),
    ):
        body = PROMOTION if purpose is Purpose.PROMOTIONAL else BODY
        # Put there as they are: a review would have something against a text of a bench.
        await tx.execute(TEMPLATE_SQL, tenant_id, code, body, purpose.number, VARIABLES)
    await prices.put(tx, 45_000, tenant_id=tenant_id)
    config = {
        "hosts": ["127.0.0.1"], "port": arguments.smsc_port, **ACCOUNTS[arguments.kind],
        "window_size": arguments.window, "backoff_s": 0.2, "backoff_s_max": 0.5,
    }  # fmt: skip
    channel_id = await upstreams.add_channel(
        tx,
        keys_,
        name="bench",
        kind=arguments.kind,
        settings=config,
        sessions=arguments.sessions,
        access_number="12345",
        cost_micro=30_000,
    )
    await routes.add(tx, channel_id)
    await webhooks.put(tx, keys_, known, app_id, f"http://127.0.0.1:{arguments.webhook_port}/d")
    if arguments.login:
        await logins.create(
            tx, keys_, tenant_id, "smpp", "user", password=vault.Secret(b"pass"), free_text=True, rate_per_s=0,
            sessions_max=64, window_size=1000, settings={"signature": "Bench"},
        )  # fmt: skip
    return tenant_id, key


async def opt_outs(database: db.Database, keys_: vault.Vault, tenant_id: TenantId, count: int) -> None:
    """Store opt-outs of numbers that the load does not write to, so that each of its look-ups finds a full table."""
    for start in range(0, count, CHUNK):
        indexes = [
            keys_.phone_index(f"+2127{number:08d}") for number in range(start, min(start + CHUNK, count))
        ]
        await database.execute(
            "INSERT INTO suppression (phone_index, tenant_id, kind)"
            " SELECT i, $2, 1 FROM unnest($1::bytea[]) AS i ON CONFLICT DO NOTHING",
            indexes,
            tenant_id,
        )
    if count:  # as if stored long ago: swept, known to the planner, and written to the disk
        await database.execute("VACUUM (ANALYZE) suppression")
        await database.execute("CHECKPOINT")


if __name__ == "__main__":
    asyncio.run(main())
