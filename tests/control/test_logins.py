"""A login is what its protocol can carry: an app of its own, a password shown once, terms that can be changed."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final

import pytest

from hongyan.control import logins, tenants
from hongyan.vault import Secret
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import Purpose
from hongyan.way.snapshot import Login

from .conftest import Office

LONGEST: Final = {"smpp": (15, 8), "cmpp": (6, 16), "sgip": (16, 16), "smgp": (8, 15)}  # name, password


async def create(office: Office, protocol: str = "smpp", name: str = "ACME", **terms: Any) -> Secret:
    async with office.database.transaction() as tx:
        return await logins.create(tx, office.vault, office.tenant_id, protocol, name, **terms)


async def change(office: Office, protocol: str = "smpp", name: str = "ACME", **terms: Any) -> None:
    async with office.database.transaction() as tx:
        await logins.change(tx, protocol, name, **terms)


async def read(office: Office, protocol: str = "smpp", name: str = "ACME") -> Login:
    """The login as the plane knows it."""
    return (await office.snapshot()).logins[protocol, name]


async def listed(office: Office) -> Sequence[logins.LoginRow]:
    async with office.database.transaction() as tx:
        return await logins.every(tx)


async def refused(office: Office, protocol: str = "smpp", name: str = "ACME", **terms: Any) -> str:
    """Which parameter of a new login is refused."""
    with pytest.raises(Refusal) as refusal:
        await create(office, protocol, name, **terms)
    assert refusal.value.code is Code.REQUEST_INVALID_PARAMETER
    return str(refusal.value.detail["parameter"])


# ---- creating


async def test_a_login_is_what_the_plane_reads(office: Office) -> None:
    password = await create(
        office,
        "sgip",
        "acme",
        access_number="10690001",
        free_text=True,
        purpose=Purpose.PROMOTIONAL,
        sandbox=True,
        sessions_max=3,
        window_size=40,
        rate_per_s=7,
        duplicate_s=60,
        addresses=["10.0.0.0/8", "2001:db8::1"],
        deliver_to="10.1.2.3:8801",
        settings={"node": 3_010_092_008},
    )
    login = await read(office, "sgip", "acme")
    assert (login.protocol, login.name, login.version, login.access_number) == ("sgip", "acme", 0, "10690001")
    assert (login.purpose, login.sessions_max, login.window_size) == (Purpose.PROMOTIONAL, 3, 40)
    assert (login.deliver_to, login.settings) == ("10.1.2.3:8801", {"node": 3_010_092_008})
    key = login.key
    assert key.secret.reveal() == password.reveal()
    assert (key.tenant.id, key.tenant.duplicate_s) == (office.tenant_id, 60)
    assert (key.allow_basic, key.free_text, key.sandbox, key.rate_per_s) == (False, True, True, 7)
    assert key.networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::1"))


async def test_a_login_of_which_nothing_is_said_may_little(office: Office) -> None:
    await create(office)
    login = await read(office)
    assert (login.purpose, login.sessions_max, login.window_size) == (Purpose.TRANSACTIONAL, 2, 16)
    assert (login.key.free_text, login.key.sandbox, login.key.rate_per_s) == (False, False, 100)
    assert (login.key.networks, login.settings, login.deliver_to, login.access_number) == ((), {}, "", "")
    assert not login.hold


@pytest.mark.parametrize(("free_text", "hold"), [(False, True), (True, True), (True, False)])
async def test_a_text_of_any_wording_passes_the_door_of_who_may_write_freely_or_has_it_held(
    office: Office, free_text: bool, hold: bool
) -> None:
    await create(office, free_text=free_text, hold=hold)
    login = await read(office)
    assert (login.hold, login.key.free_text) == (hold, True)
    assert [(row.free_text, row.hold) for row in await listed(office)] == [(free_text, hold)]
    await change(office, free_text=False, hold=False)
    login = await read(office)
    assert (login.hold, login.key.free_text) == (False, False)


async def test_every_login_is_an_app_of_its_own(office: Office) -> None:
    await create(office, "smpp", "1234")
    await create(office, "cmpp", "1234")
    async with office.database.transaction() as tx:
        apps = {
            protocol: await tenants.find_app(tx, office.tenant_id, f"{protocol}:1234")
            for protocol in ("smpp", "cmpp")
        }
    snapshot = await office.snapshot()
    assert {login.protocol: app_id for app_id, login in snapshot.login_apps.items()} == apps
    assert len({office.app_id, *apps.values()}) == 3


async def test_a_name_of_a_protocol_is_given_once_for_all_tenants(office: Office) -> None:
    await create(office)
    assert await refused(office) == "name"
    async with office.database.transaction() as tx:
        await logins.disable(tx, "smpp", "ACME")
    assert await refused(office) == "name"


@pytest.mark.parametrize("protocol", LONGEST)
async def test_a_password_that_is_made_fills_what_the_protocol_carries(office: Office, protocol: str) -> None:
    made = {(await create(office, protocol, name)).reveal() for name in ("a", "b")}
    octets = LONGEST[protocol][1]
    assert len(made) == 2
    assert all(re.fullmatch(rb"[A-Za-z0-9]{%d}" % octets, password) for password in made)


@pytest.mark.parametrize("protocol", LONGEST)
async def test_the_longest_name_and_password_of_a_protocol_pass_and_no_longer_ones(
    office: Office, protocol: str
) -> None:
    name, password = ("~" * octets for octets in LONGEST[protocol])
    given = Secret(password.encode())
    assert await refused(office, protocol, name + "!", password=given) == "name"
    assert await refused(office, protocol, name, password=Secret(given.reveal() + b"!")) == "password"
    assert (await create(office, protocol, name, password=given)).reveal() == given.reveal()
    assert (await read(office, protocol, name)).key.secret.reveal() == given.reveal()


@pytest.mark.parametrize("word", ["", "a b", "a\0", "é", "鸿", "a\n", "\x7f"])
async def test_what_a_peer_could_strip_or_misread_is_neither_name_nor_password(
    office: Office, word: str
) -> None:
    assert await refused(office, "smpp", word) == "name"
    assert await refused(office, "smpp", password=Secret(word.encode())) == "password"


@pytest.mark.parametrize(
    ("protocol", "terms", "parameter"),
    [
        ("smtp", {}, "protocol"),
        ("smpp", {"access_number": "1069a"}, "access_number"),
        ("smpp", {"access_number": "1" * 21}, "access_number"),
        ("smpp", {"access_number": "١٠٦٩"}, "access_number"),
        ("smpp", {"sessions_max": 0}, "sessions_max"),
        ("smpp", {"sessions_max": 65}, "sessions_max"),
        ("smpp", {"window_size": 0}, "window_size"),
        ("smpp", {"window_size": 1001}, "window_size"),
        ("smpp", {"rate_per_s": -1}, "rate_per_s"),
        ("smpp", {"duplicate_s": -1}, "duplicate_s"),
        ("smpp", {"duplicate_s": 86_401}, "duplicate_s"),
        ("smpp", {"addresses": ["10.0.0.1/8"]}, "addresses"),
        ("smpp", {"addresses": ["somewhere"]}, "addresses"),
        ("smpp", {"version": 0x30}, "version"),
        ("cmpp", {"version": 0x21}, "version"),
        ("smgp", {"deliver_to": "10.0.0.1:8801"}, "deliver_to"),
        ("sgip", {"deliver_to": "10.0.0.1"}, "deliver_to"),
        ("sgip", {"deliver_to": ":8801"}, "deliver_to"),
        ("sgip", {"deliver_to": "10.0.0.1:0"}, "deliver_to"),
        ("sgip", {"deliver_to": "10.0.0.1:65536"}, "deliver_to"),
        ("sgip", {"deliver_to": "::1:8801"}, "deliver_to"),
        ("smpp", {"settings": {"node": 1}}, "settings.node"),
        ("smgp", {"settings": {"short_ids": True}}, "settings.short_ids"),
        ("smpp", {"settings": {"short_ids": "yes"}}, "settings.short_ids"),
        ("smpp", {"settings": {"data_coding_0": "ucs2"}}, "settings.data_coding_0"),
        ("cmpp", {"settings": {"report_octets": 61}}, "settings.report_octets"),
        ("sgip", {"settings": {"node": 0}}, "settings.node"),
        ("sgip", {"settings": {"node": 2**32}}, "settings.node"),
        ("cmpp", {"settings": {"any_time": 1}}, "settings.any_time"),
        ("sgip", {"settings": {"any_time": True}}, "settings.any_time"),
        ("sgip", {"settings": {"deliver_name": ""}}, "settings.deliver_name"),
        ("sgip", {"settings": {"deliver_name": "a b"}}, "settings.deliver_name"),
        ("sgip", {"settings": {"deliver_name": "a" * 17}}, "settings.deliver_name"),
        ("smgp", {"settings": {"layout": 20}}, "settings.layout"),
    ],
)
async def test_what_a_login_cannot_be_is_refused_by_name(
    office: Office, protocol: str, terms: dict[str, Any], parameter: str
) -> None:
    assert await refused(office, protocol, **terms) == parameter


@pytest.mark.parametrize(
    ("protocol", "terms"),
    [
        ("smpp", {"settings": {"data_coding_0": "latin1", "short_ids": True, "receipt_tlvs": False}}),
        ("cmpp", {"version": 0x20, "settings": {"report_octets": 71}}),
        ("cmpp", {"version": 0x30, "settings": {"report_octets": 0}}),
        ("sgip", {"deliver_to": "sp.example.com:8801", "settings": {"node": 2**32 - 1}}),
        ("sgip", {"deliver_to": "[2001:db8::1]:65535", "settings": {"deliver_name": "a" * 16}}),
        ("smgp", {"settings": {"layout": 13, "any_time": True}}),
        ("smgp", {"access_number": "1" * 20, "sessions_max": 64, "window_size": 1000, "duplicate_s": 86_400}),
    ],
)
async def test_what_a_protocol_has_is_set(office: Office, protocol: str, terms: dict[str, Any]) -> None:
    await create(office, protocol, "x", **terms)
    login = await read(office, protocol, "x")
    duplicate_s = terms.pop("duplicate_s", 0)
    assert login.key.tenant.duplicate_s == duplicate_s
    assert {term: getattr(login, term) for term in terms} == terms


async def test_a_word_that_looks_like_a_number_is_a_word_where_one_is_asked_for(office: Office) -> None:
    await create(office, "sgip", "x", settings={"deliver_name": 900001, "node": 12})
    assert (await read(office, "sgip", "x")).settings == {"deliver_name": "900001", "node": 12}


async def test_a_refusal_of_a_setting_says_what_it_takes(office: Office) -> None:
    for settings, words in (
        ({"report_octets": 1}, "one of 0, 60, 71"),
        ({"node": 1}, "cmpp takes signature, report_octets, any_time"),
    ):
        with pytest.raises(Refusal) as refusal:
            await create(office, "cmpp", settings=settings)
        assert refusal.value.detail["reason"] == words


# ---- changing


async def test_what_is_not_changed_stays(office: Office) -> None:
    password = await create(office, rate_per_s=5, free_text=True, addresses=["10.0.0.0/8"], duplicate_s=9)
    before = await listed(office)
    await change(office)
    assert await listed(office) == before
    await change(office, window_size=99, purpose=Purpose.OTP, addresses=[])
    login = await read(office)
    assert (login.window_size, login.purpose, login.key.networks) == (99, Purpose.OTP, ())
    assert (login.key.rate_per_s, login.key.free_text, login.key.tenant.duplicate_s) == (5, True, 9)
    assert login.key.secret.reveal() == password.reveal()


async def test_settings_are_laid_over_those_there_are_and_none_takes_one_away(office: Office) -> None:
    await create(office, settings={"short_ids": True, "receipt_tlvs": False})
    await change(office, settings={"short_ids": None, "data_coding_0": "ascii"})
    assert (await read(office)).settings == {"receipt_tlvs": False, "data_coding_0": "ascii"}


async def test_a_change_is_held_to_what_its_protocol_has(office: Office) -> None:
    await create(office, "cmpp", "900001", version=0x20)
    for terms in ({"deliver_to": "10.0.0.1:8801"}, {"settings": {"node": 1}}, {"version": 1}):
        with pytest.raises(Refusal):
            await change(office, "cmpp", "900001", **terms)
    assert (await read(office, "cmpp", "900001")).version == 0x20


async def test_a_new_password_replaces_the_old_one(office: Office) -> None:
    old = await create(office)
    async with office.database.transaction() as tx:
        made = await logins.set_password(tx, office.vault, "smpp", "ACME")
        assert made.reveal() != old.reveal()
        await logins.set_password(tx, office.vault, "smpp", "ACME", Secret(b"opensaym"))
        with pytest.raises(Refusal) as refusal:
            await logins.set_password(tx, office.vault, "smpp", "ACME", Secret(b"opensesame"))
    assert refusal.value.detail["parameter"] == "password"
    assert (await read(office)).key.secret.reveal() == b"opensaym"


async def test_a_disabled_login_is_unknown_to_the_plane_until_it_is_enabled(office: Office) -> None:
    await create(office)
    before = await listed(office)
    async with office.database.transaction() as tx:
        await logins.disable(tx, "smpp", "ACME")
    snapshot = await office.snapshot()
    assert (snapshot.logins, snapshot.login_apps) == ({}, {})
    async with office.database.transaction() as tx:
        await logins.enable(tx, "smpp", "ACME")
    assert await listed(office) == before
    await read(office)


async def test_a_login_that_is_not_there_is_said_so(office: Office) -> None:
    await create(office, "smpp", "ACME")
    async with office.database.transaction() as tx:
        for deed in (
            logins.change(tx, "smpp", "acme"),
            logins.set_password(tx, office.vault, "cmpp", "ACME"),
            logins.disable(tx, "sgip", "ACME"),
            logins.enable(tx, "smtp", "ACME"),
        ):
            with pytest.raises(Refusal) as refusal:
                await deed
            assert refusal.value.code is Code.REQUEST_NOT_FOUND


# ---- listing


async def test_no_password_stands_in_the_table_a_list_or_a_repr(office: Office) -> None:
    password = await create(office)
    async with office.database.transaction() as tx:
        sealed = await tx.fetchval("SELECT sealed FROM login")
    assert password.reveal() not in sealed
    for shown in (repr(password), repr(await listed(office)), repr(await read(office))):
        assert password.reveal().decode() not in shown


async def test_the_list_shows_whose_logins_they_are_and_what_they_may(office: Office) -> None:
    await create(office, "cmpp", "900001", version=0x20, purpose=Purpose.OTP, settings={"report_octets": 60})
    await create(office)
    async with office.database.transaction() as tx:
        await logins.disable(tx, "smpp", "ACME")
    first, second = await listed(office)
    assert (first.protocol, first.name, first.tenant, first.active) == ("cmpp", "900001", "Orchid", True)
    assert (first.version, first.purpose, first.settings) == ("2.0", Purpose.OTP, {"report_octets": 60})
    assert (second.protocol, second.name, second.version, second.active) == ("smpp", "ACME", "", False)
