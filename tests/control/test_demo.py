"""The demo is laid once and found again: its keys keep working, and nobody else's tables change."""

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import make
from hongyan.channels import kinds
from hongyan.control import demo, tenants
from hongyan.settings import Settings
from hongyan.vocab.message import Purpose
from hongyan.way import charge, guard, route

from .conftest import Office


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(make.SETTINGS, state_dir=tmp_path, master_key=make.MASTER.reveal().hex())


async def test_laying_again_finds_the_same_keys_and_adds_nothing(office: Office, settings: Settings) -> None:
    first = await demo.lay(office.database, office.vault, settings, 2775)
    before = await office.snapshot()
    assert await demo.lay(office.database, office.vault, settings, 2775) == first
    after = await office.snapshot()
    assert (len(after.keys), len(after.channels), len(after.templates)) == (2, 2, len(demo.TEMPLATES))
    assert after.prices == before.prices
    assert list(after.rules) == list(before.rules)
    async with office.database.transaction() as tx:
        tenant_id = await tenants.find(tx, demo.TENANT)
        assert await charge.balance_micro(tx, tenant_id) == demo.BALANCE_MICRO
        assert not await charge.drift(tx)


async def test_its_first_message_passes_every_pure_rule(office: Office, settings: Settings) -> None:
    laid = await demo.lay(office.database, office.vault, settings, 2775)
    snapshot = await office.snapshot()
    key = snapshot.keys[laid.key_id]
    draft = msgspec.convert(laid.request(), guard.Draft)
    cleared = guard.check(draft, key, snapshot, settings, 1_700_000_000.0)
    assert cleared.wording.text == "【鸿雁】您的订单20250001已发货,预计明天送达。"
    assert cleared.part_count == 1
    want = route.Want(key.tenant.id, "CN", cleared.place.operator, Purpose.TRANSACTIONAL)
    (candidate,) = route.candidates(want, snapshot)
    assert snapshot.channels[candidate.channel_id].name == demo.CHANNEL
    assert laid.secret == key.secret.reveal().decode()
    assert key.allow_basic


async def test_its_sandbox_key_sees_only_the_loopback_channel(office: Office, settings: Settings) -> None:
    laid = await demo.lay(office.database, office.vault, settings, 2775)
    snapshot = await office.snapshot()
    key = snapshot.keys[laid.sandbox_key_id]
    assert key.sandbox
    want = route.Want(key.tenant.id, "CN", "", Purpose.OTP, sandbox=True)
    (candidate,) = route.candidates(want, snapshot)
    assert snapshot.channels[candidate.channel_id].name == demo.SANDBOX


async def test_other_tenants_are_not_touched(office: Office, settings: Settings) -> None:
    await demo.lay(office.database, office.vault, settings, 2775)
    snapshot = await office.snapshot()
    assert not route.candidates(route.Want(office.tenant_id, "CN", "mobile", Purpose.OTP), snapshot)
    assert snapshot.part_price_micro(office.tenant_id, "CN", "mobile", Purpose.OTP) is None


async def test_it_follows_the_simulator_to_another_port(office: Office, settings: Settings) -> None:
    await demo.lay(office.database, office.vault, settings, 2775)
    await demo.lay(office.database, office.vault, settings, 2999)
    channels = {row.name: row for row in (await office.snapshot()).channels.values()}
    read = msgspec.json.decode(channels[demo.CHANNEL].config.reveal())
    assert read["port"] == 2999
    kinds.build("smpp", cast("dict[str, Any]", read))


async def test_its_keys_lie_in_a_file_of_ours_alone_and_can_be_read_again(
    office: Office, settings: Settings
) -> None:
    assert demo.read(settings) is None
    laid = await demo.lay(office.database, office.vault, settings, 2775)
    path = settings.state_dir / "demo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert demo.read(settings) == laid
    path.unlink()
    again = await demo.lay(office.database, office.vault, settings, 2775)
    assert (again.key_id, again.secret) == (laid.key_id, laid.secret)
    assert again.operator_password != laid.operator_password  # it is kept nowhere else


def test_the_curl_can_be_pasted_into_a_shell() -> None:
    line = demo.Demo("hy_a", "s-_", "", "").curl("http://127.0.0.1:8080")
    assert line.startswith("curl -u hy_a:s-_ ")
    assert line.endswith("http://127.0.0.1:8080/v1/messages")
    assert line.count("'") == 4
