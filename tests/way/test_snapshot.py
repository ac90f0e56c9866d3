"""The plane flies by one consistent picture: whole, exact, swapped when control changed it, kept when that fails."""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, LiteralString

import msgspec
import pytest

import make
from hongyan import db, vault
from hongyan.vocab.errors import Refusal
from hongyan.vocab.message import PURPOSES, Purpose, TenantId
from hongyan.vocab.phone import Place
from hongyan.way.snapshot import LIMITS_DEFAULT, RELOAD_S, Keeper, Limits, Snapshot
from make import World
from plane import severable

DEADLINE_S: Final = 20.0
STRANGER: Final = TenantId(1_000_000)  # who has no price of its own


async def lay(world: World, noun: Any, **columns: Any) -> Any:
    """One row more, committed."""
    async with world.database.transaction() as tx:
        return await noun(tx, **columns)


async def changed(keeper: Keeper, sql: LiteralString, *values: Any) -> Snapshot:
    """Change something as control would, and load."""
    await keeper._database.execute(sql, *values)
    return await keeper.load()


@asynccontextmanager
async def running(keeper: Keeper, *listeners: db.Listener) -> AsyncIterator[None]:
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        loops = [tasks.create_task(keeper.run()), *(tasks.create_task(one.run()) for one in listeners)]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()


async def newer(keeper: Keeper, than: Snapshot) -> Snapshot:
    """Wait until somebody has loaded another snapshot."""
    while keeper.current.version == than.version:
        await asyncio.sleep(0.005)
    return keeper.current


# ---- what is loaded


async def test_a_tenant_comes_with_what_was_agreed_with_it(database: str) -> None:
    async with make.world(database) as world:
        agreed = {
            "name": "Orchid", "currency": "EUR", "charge_on": "delivery", "countries": ["DE", "*"], "weight": 7,
            "quiet_from_hour": 19, "quiet_until_hour": 10, "limits": '{"otp": [2, 0, 9]}', "duplicate_s": 60,
        }  # fmt: skip
        tenant_id = await lay(world, make.tenant, keys=world.vault, **agreed)
        tenants = (await make.snapshot(world)).tenants
        one = tenants[tenant_id]
        assert (one.name, one.active, one.currency, one.charge_on_delivery) == ("Orchid", True, "EUR", True)
        assert (one.countries, one.weight, one.duplicate_s) == (frozenset({"DE", "*"}), 7, 60)
        assert (one.quiet_from_hour, one.quiet_until_hour) == (19, 10)
        assert one.limits == {**LIMITS_DEFAULT, Purpose.OTP: Limits(2, 0, 9)}
        assert tenants[world.tenant_id].limits == LIMITS_DEFAULT
        assert not tenants[world.tenant_id].charge_on_delivery


async def test_a_key_comes_with_all_that_is_asked_of_it_at_the_door(database: str) -> None:
    async with make.world(database) as world:
        addresses = ["10.0.0.0/8", "2001:db8::/32"]
        key_id = await lay(
            world, make.app_key, keys=world.vault, app_id=world.app_id, secret=b"hush", allow_basic=False,
            free_text=False, sandbox=True, addresses=addresses, rate_per_s=30,
        )  # fmt: skip
        snapshot = await make.snapshot(world)
        key = snapshot.keys[key_id]
        assert (key.key_id, key.secret.reveal(), key.app_id) == (key_id, b"hush", world.app_id)
        assert (key.allow_basic, key.free_text, key.sandbox, key.rate_per_s) == (False, False, True, 30)
        assert key.networks == tuple(ipaddress.ip_network(text) for text in addresses)
        assert key.tenant is snapshot.tenants[world.tenant_id]


async def test_a_tenant_knows_its_own_wording_and_nobody_elses(database: str) -> None:
    async with make.world(database) as world:
        wording: dict[TenantId, tuple[int, int]] = {}
        for tenant_id in (world.tenant_id, await lay(world, make.tenant, keys=world.vault)):
            signature_id = await lay(world, make.signature, tenant_id=tenant_id, name="同名")
            template_id = await lay(world, make.template, tenant_id=tenant_id, code="same")
            wording[tenant_id] = signature_id, template_id
        snapshot = await make.snapshot(world)
        for tenant_id, (signature_id, template_id) in wording.items():
            tenant = snapshot.tenants[tenant_id]
            assert tenant.signatures["同名"] is snapshot.signatures[signature_id]
            assert tenant.templates["same"] is snapshot.templates[template_id]
        assert wording.keys() == snapshot.tenants.keys()
        assert len(snapshot.signatures) == len(snapshot.templates) == 3  # with the world's own


async def test_a_template_is_ready_to_render(database: str) -> None:
    async with make.world(database) as world:
        bound = {
            "purpose": Purpose.OTP, "scope": "mainland", "signature_id": world.signature_id, "resend": False,
            "body": "验证码${code}", "variables": '{"code": {"kind": "code"}}',
        }  # fmt: skip
        template_id = await lay(world, make.template, tenant_id=world.tenant_id, **bound)
        templates = (await make.snapshot(world)).templates
        one = templates[template_id]
        assert (one.purpose, one.scope, one.signature_id) == (Purpose.OTP, "mainland", world.signature_id)
        assert (one.resend, templates[world.template_id].resend) == (False, True)
        assert templates[world.template_id].signature_id == 0  # any of the tenant's
        assert one.text.render({"code": "1234"}) == "验证码1234"
        with pytest.raises(Refusal):
            one.text.render({"code": "words"})


async def test_a_channel_comes_with_its_config_and_a_paused_one_is_known_as_paused(database: str) -> None:
    async with make.world(database) as world:
        row = {"parts_per_s": 50, "sessions": 4, "access_number": "10690", "cost_micro": 3, "paused": True}
        config = {"password": "hush"}
        channel_id = await lay(
            world, make.channel, keys=world.vault, kind="smpp", config=config, report_parts="one", **row
        )
        channels = (await make.snapshot(world)).channels
        one = channels[channel_id]
        assert (one.kind, one.config.reveal(), one.report_one) == ("smpp", b'{"password":"hush"}', True)
        assert {name: getattr(one, name) for name in row} == row
        assert (channels[world.channel_id].paused, channels[world.channel_id].report_one) == (False, False)


async def test_routes_come_in_the_order_they_are_tried(database: str) -> None:
    async with make.world(database) as world:
        first = await lay(
            world, make.route_rule, channel_id=world.channel_id, priority=1, weight=3, tenant_id=world.tenant_id,
            country="CN", operator="mobile", purpose=Purpose.OTP.number,
        )  # fmt: skip
        last = await lay(world, make.route_rule, channel_id=world.channel_id)
        exact, *wide = (await make.snapshot(world)).rules
        assert (exact.id, exact.priority, exact.weight) == (first, 1, 3)
        assert (exact.tenant_id, exact.country, exact.operator) == (world.tenant_id, "CN", "mobile")
        assert exact.purpose is Purpose.OTP
        assert wide[-1].id == last
        for rule in wide:
            assert (rule.tenant_id, rule.country, rule.operator, rule.purpose) == (None, None, None, None)


async def test_a_webhook_is_found_by_its_app(database: str) -> None:
    async with make.world(database) as world:
        await lay(world, make.webhook, keys=world.vault, app_id=world.app_id, url="https://a.example/hook")
        webhooks = (await make.snapshot(world)).webhooks
        assert webhooks.keys() == {world.app_id}
        found = webhooks[world.app_id]
        assert (found.url, found.secret.reveal()) == ("https://a.example/hook", b"hook")


async def test_a_prefix_override_speaks_only_of_the_fields_it_has(database: str) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        assert (await keeper.load()).overrides is None
        snapshot = await changed(
            keeper,
            "INSERT INTO prefix_override (prefix, operator, province)"
            " VALUES ('86138', 'unicom', ''), ('+861380013', '', 'SH')",
        )
        assert snapshot.overrides is not None
        place = Place("CN", "mobile", "BJ")
        assert snapshot.overrides.apply("+8613900139000", place) == place
        assert snapshot.overrides.apply("+8613811138000", place) == Place("CN", "unicom", "BJ")
        assert snapshot.overrides.apply("+8613800138000", place) == Place("CN", "unicom", "SH")


async def test_whether_any_number_was_ported_is_known(database: str) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        assert not (await keeper.load()).has_number_overrides
        ported = (
            "INSERT INTO number_override (phone_index, operator, source) VALUES ($1, 'telecom', 'lookup')"
        )
        assert (await changed(keeper, ported, world.vault.phone_index(make.NUMBER))).has_number_overrides


async def test_no_secret_is_printed_with_the_picture(database: str) -> None:
    async with make.world(database) as world:
        await lay(world, make.app_key, keys=world.vault, app_id=world.app_id, secret=b"hush-key")
        await lay(world, make.webhook, keys=world.vault, app_id=world.app_id, secret=b"hush-hook")
        await lay(world, make.channel, keys=world.vault, config={"password": "hush-channel"})
        printed = repr(await make.snapshot(world))
        assert printed.count("***") == 4  # with the config of the world's channel
        assert "hush" not in printed


# ---- what does not count


@pytest.mark.parametrize("state", ["draft", "reviewing", "approved", "rejected", "canceled", "disabled"])
async def test_wording_is_known_in_every_state_and_approved_in_one(database: str, state: str) -> None:
    async with make.world(database) as world:
        signature_id = await lay(world, make.signature, tenant_id=world.tenant_id, state=state)
        template_id = await lay(world, make.template, tenant_id=world.tenant_id, state=state)
        snapshot = await make.snapshot(world)
        assert snapshot.signatures[signature_id].approved is (state == "approved")
        assert snapshot.templates[template_id].approved is (state == "approved")


async def test_what_was_switched_off_disappears(database: str) -> None:
    async with make.world(database) as world:
        await lay(world, make.app_key, keys=world.vault, app_id=world.app_id)
        await lay(world, make.webhook, keys=world.vault, app_id=world.app_id)
        keeper = Keeper(world.database, world.vault)
        before = await keeper.load()
        assert all((before.keys, before.channels, before.rules, before.webhooks))
        assert not (await changed(keeper, "UPDATE app_key SET active = false")).keys
        assert not (await changed(keeper, "UPDATE route_rule SET active = false")).rules
        assert not (await changed(keeper, "UPDATE channel SET active = false")).channels
        assert not (await changed(keeper, "UPDATE webhook SET active = false")).webhooks


async def test_a_key_that_was_switched_off_takes_no_other_with_it(database: str) -> None:
    async with make.world(database) as world:
        gone, kept = [await lay(world, make.app_key, keys=world.vault, app_id=world.app_id) for _ in range(2)]
        keeper = Keeper(world.database, world.vault)
        assert (await keeper.load()).keys.keys() == {gone, kept}
        off = await changed(keeper, "UPDATE app_key SET active = false WHERE key_id = $1", gone)
        assert off.keys.keys() == {kept}


async def test_the_keys_of_a_tenant_that_was_stopped_say_so(database: str) -> None:
    """They stay known, so that their programs hear why, and what was promised before still finds its tenant."""
    async with make.world(database) as world:
        key_id = await lay(world, make.app_key, keys=world.vault, app_id=world.app_id)
        keeper = Keeper(world.database, world.vault)
        assert (await keeper.load()).keys[key_id].tenant.active
        stopped = await changed(keeper, "UPDATE tenant SET active = false")
        assert not stopped.keys[key_id].tenant.active
        assert not stopped.tenants[world.tenant_id].active


# ---- prices


async def test_the_most_exact_price_counts_and_the_next_one_once_it_is_gone(database: str) -> None:
    """Tenant goes over everybody, then operator over country over all countries, then purpose over any."""
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        await world.database.execute("DELETE FROM price")
        rows = [
            (tenant_id, country, operator, purpose)
            for tenant_id in (world.tenant_id, 0)
            for country, operator in (("CN", "mobile"), ("CN", "*"), ("*", "*"))
            for purpose in (Purpose.OTP.number, -1)
        ]
        for part_micro, (tenant_id, country, operator, purpose) in enumerate(rows):
            await lay(
                world, make.price, tenant_id=tenant_id, country=country, operator=operator, purpose=purpose,
                part_micro=part_micro,
            )  # fmt: skip
        for part_micro in range(len(rows)):
            snapshot = await keeper.load()
            for _ in range(2):  # the second answer is remembered
                price = snapshot.part_price_micro(world.tenant_id, "CN", "mobile", Purpose.OTP)
                assert price == part_micro
            await world.database.execute("DELETE FROM price WHERE part_micro = $1", part_micro)
        bare = await keeper.load()
        assert bare.part_price_micro(world.tenant_id, "CN", "mobile", Purpose.OTP) is None


async def test_a_price_of_something_else_does_not_count(database: str) -> None:
    async with make.world(database) as world:
        await world.database.execute("DELETE FROM price")
        await lay(world, make.price, tenant_id=world.tenant_id)
        await lay(world, make.price, country="US")
        await lay(world, make.price, country="CN", operator="unicom")
        await lay(world, make.price, country="CN", purpose=Purpose.PROMOTIONAL.number)
        snapshot = await make.snapshot(world)
        assert snapshot.part_price_micro(STRANGER, "CN", "mobile", Purpose.OTP) is None
        assert snapshot.part_price_micro(STRANGER, "CN", "unicom", Purpose.OTP) == 45_000
        assert snapshot.part_price_micro(STRANGER, "CN", "mobile", Purpose.PROMOTIONAL) == 45_000
        assert snapshot.part_price_micro(STRANGER, "US", "", Purpose.OTP) == 45_000


async def test_a_price_of_nothing_is_a_price(database: str) -> None:
    async with make.world(database) as world:
        await lay(world, make.price, tenant_id=world.tenant_id, part_micro=0)
        snapshot = await make.snapshot(world)
        for purpose in PURPOSES:
            assert snapshot.part_price_micro(world.tenant_id, "CN", "mobile", purpose) == 0


# ---- reloading


async def test_the_version_changes_when_anything_did_and_only_then(database: str) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        first = await keeper.load()
        assert await keeper.load() is keeper.current is first
        second = await changed(keeper, "UPDATE price SET part_micro = 1")
        assert (second.version, keeper.current) == (first.version + 1, second)
        assert await changed(keeper, "UPDATE price SET part_micro = 1") is second
        # What somebody holds stays what it was.
        assert first.part_price_micro(world.tenant_id, "CN", "mobile", Purpose.OTP) == 45_000
        assert second.part_price_micro(world.tenant_id, "CN", "mobile", Purpose.OTP) == 1


async def test_what_is_not_committed_is_not_flown_by(database: str) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        before = await keeper.load()
        async with world.database.transaction() as tx:
            tenant_id = await make.tenant(tx, world.vault)
            key_id = await make.app_key(
                tx, world.vault, app_id=await make.app(tx, tenant_id=tenant_id), addresses=["10.0.0.0/8"]
            )
            assert await keeper.load() is before
        assert (await keeper.load()).keys[key_id].tenant.id == tenant_id


async def test_a_change_is_flown_by_as_soon_as_control_says_so(database: str) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        before = await keeper.load()
        listening = asyncio.Event()

        def hear(payload: str) -> None:
            keeper.stale(payload)
            listening.set()

        async with running(keeper, db.Listener(world.database, {"control": hear})):
            await listening.wait()
            key_id = await lay(world, make.app_key, keys=world.vault, app_id=world.app_id)
            async with asyncio.timeout(RELOAD_S * 0.8):  # the slow clock would not do
                await world.database.notify("control")
                after = await newer(keeper, before)
            assert (after.version, list(after.keys)) == (before.version + 1, [key_id])


# ---- a database that is lost


async def test_a_load_that_fails_keeps_the_picture_there_was(database: str) -> None:
    async with make.world(database) as world, severable(database) as way:
        lost = await db.connect(way.dsn, make.SETTINGS)
        try:
            keeper = Keeper(lost, world.vault)
            before = await keeper.load()
            await world.database.execute("UPDATE price SET part_micro = 1")
            await way.cut()
            with pytest.raises(db.Unavailable):
                await keeper.load()
            assert keeper.current is before
            await way.mend()
            after = await keeper.load()
            assert after.part_price_micro(world.tenant_id, "CN", "mobile", Purpose.OTP) == 1
        finally:
            await lost.close()


async def test_the_plane_outlives_a_lost_database_and_hears_of_changes_again(database: str) -> None:
    async with make.world(database) as world, severable(database) as way:
        lost = await db.connect(way.dsn, make.SETTINGS)
        try:
            keeper = Keeper(lost, world.vault)
            before = await keeper.load()
            async with running(keeper):
                await way.cut()
                keeper.stale()
                for _ in range(3):  # while these fail, the loop's own load does too
                    with contextlib.suppress(*db.Unavailable):
                        await keeper.load()
                assert keeper.current is before
                await world.database.execute("UPDATE price SET part_micro = 1")
                await way.mend()
                keeper.stale()
                assert (await newer(keeper, before)).version == before.version + 1
        finally:
            await lost.close()


# ---- keys of the vault


async def test_the_keys_of_tenants_made_elsewhere_are_taken_over(database: str) -> None:
    """Control runs in another process, with a vault of its own."""
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        await keeper.load()
        async with world.database.transaction() as tx:
            elsewhere = await make.open_vault(tx)
            tenant_id = await make.tenant(tx, elsewhere)
        with pytest.raises(vault.VaultError):
            world.vault.seal(tenant_id, b"text")
        await keeper.load()
        assert world.vault.unseal(tenant_id, elsewhere.seal(tenant_id, b"text")) == b"text"


async def test_a_key_under_another_master_key_changes_nothing(database: str) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        before = await keeper.load()
        foreign = vault.make_wrapped(vault.Secret(bytes(32)), "tenant:999")
        await world.database.execute(
            "INSERT INTO vault_key (name, wrapped) VALUES ('tenant:999', $1)", foreign
        )
        with pytest.raises(vault.VaultError):
            await keeper.load()
        assert keeper.current is before


async def test_a_row_that_cannot_be_read_leaves_all_others_their_picture_until_it_is_mended(
    database: str,
) -> None:
    async with make.world(database) as world:
        keeper = Keeper(world.database, world.vault)
        before = await keeper.load()
        async with running(keeper):
            await world.database.execute('UPDATE tenant SET limits = \'{"otp": "seven"}\'')
            keeper.stale()
            with pytest.raises(msgspec.ValidationError):
                await keeper.load()
            assert keeper.current is before
            await world.database.execute("UPDATE tenant SET limits = '{\"otp\": [7, 8, 9]}'")
            keeper.stale()
            (tenant,) = (await newer(keeper, before)).tenants.values()
            assert tenant.limits[Purpose.OTP] == Limits(7, 8, 9)
