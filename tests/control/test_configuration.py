"""The configuration is one document: what is exported can be applied, every change is a version, any version comes back."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest

import make
from hongyan import db
from hongyan.control import alarms, policies, prices, routes, tenants, upstreams, words
from hongyan.control.configuration import applying, document, rehearsal, versions
from hongyan.control.configuration.applying import Applied
from hongyan.control.configuration.difference import difference
from hongyan.control.configuration.document import ConfigurationDocument, Whole
from hongyan.control.readings import WatchKind
from hongyan.vocab.errors import Code, Refusal
from hongyan.vocab.message import ChannelId, Purpose
from hongyan.vocab.words import Level

from .conftest import Office

SMPP: Final = {"hosts": ["smsc.example.com:2775"], "system_id": "hongyan", "password": "herons77"}


async def furnish(tx: db.Tx, office: Office) -> ChannelId:
    """Something in every section."""
    vault = office.vault
    east = await upstreams.add_channel(tx, vault, name="east", kind="smpp", settings=SMPP, cost_micro=30_000)
    west = await upstreams.add_channel(tx, vault, name="west", kind="loopback", settings={})
    await routes.add(tx, east, tenant_id=office.tenant_id, country="CN", operator="cmcc", purpose=Purpose.OTP)
    await routes.add(tx, west, priority=10, weight=3)
    await routes.add(tx, east, priority=10)
    await prices.put(tx, 45_000, country="CN")
    await prices.put(tx, 40_000, country="CN", tenant_id=office.tenant_id, purpose=Purpose.PROMOTIONAL)
    await tenants.change(tx, office.tenant_id, weight=3, limits={Purpose.OTP: (1, 5, 10)})
    listed = await words.create(tx, "gambling", level=Level.HOLD, tag="fraud")
    await words.add(tx, listed, [words.read_word(word) for word in ("赌场", "博彩", "Casino")])
    await words.create(tx, "own", tenant_id=office.tenant_id, allows=True, grants=True)
    await words.create(tx, "at east", channel_id=east)
    await policies.change(tx, {"sign_up": "open", "four_eyes": ["template"]}, who="li")
    await alarms.create_rule(
        tx, vault, make.SETTINGS, None, kind=WatchKind.BACKLOG, name="long queue", threshold=9.0, emails=["a@example.com"],
        webhook_url="https://example.com/hook",
    )  # fmt: skip
    return east


async def now(tx: db.Tx, office: Office) -> Whole:
    return (await document.read(tx, office.vault)).document


async def shown(tx: db.Tx, office: Office) -> bytes:
    return document.encoded(document.masked(await now(tx, office)))


async def put(tx: db.Tx, office: Office, asked: ConfigurationDocument | bytes, **knobs: Any) -> Applied:
    given = document.decoded(asked) if isinstance(asked, bytes) else asked
    return await applying.apply(tx, office.vault, make.SETTINGS, given, who="li", **knobs)


def revised(octets: bytes, **sections: Any) -> bytes:
    """A document with sections in place of its own: each a function of what was there."""
    plain = msgspec.json.decode(octets)
    return msgspec.json.encode(plain | {name: change(plain[name]) for name, change in sections.items()})


@contextlib.asynccontextmanager
async def undone(office: Office) -> AsyncIterator[db.Tx]:
    """A transaction whose work is forgotten."""
    async with office.database.transaction() as tx:
        inner = tx.transaction()
        await inner.start()
        try:
            yield tx
        finally:
            await inner.rollback()


# ---- the document


async def test_two_exports_of_one_state_are_equal_octets_and_tell_no_secret(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        first, second = await shown(tx, office), await shown(tx, office)
    assert first == second
    assert b"herons77" not in first
    assert b'"password":"***"' in first
    assert b'"webhook_secret":"***"' in first
    assert document.decoded(first).format == 1


async def test_what_was_exported_makes_an_empty_install_with_the_same_tenants_equal(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        exported = await shown(tx, office)
        for row in await tx.fetch("SELECT id FROM word_list"):
            await words.remove(tx, await words.locked(tx, None, row["id"], platform=True))
        await tx.execute("DELETE FROM alarm_rule")
        await tx.execute("DELETE FROM route_rule")
        await tx.execute("DELETE FROM channel")
        await tx.execute("DELETE FROM price")
        await tx.execute("DELETE FROM platform_policy")
        await tenants.change(tx, office.tenant_id, weight=1, limits={})
        with pytest.raises(Refusal) as refused:
            await put(tx, office, exported)
        assert refused.value.detail["parameter"] == "channels[east].settings.password"
        applied = await put(tx, office, exported.replace(b'"password":"***"', b'"password":"herons77"'))
        assert await shown(tx, office) == exported
        _, settings = await upstreams.settings_of(tx, office.vault, await upstreams.find(tx, "east"))
        assert settings["password"] == "herons77"
        assert [made.alarm for made in applied.secrets] == ["long queue (backlog)"]


async def test_a_document_applied_to_what_it_was_made_of_changes_nothing(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        await versions.begin(tx, office.vault)
        before = await tx.fetch("SELECT id, sealed FROM channel ORDER BY id")
        applied = await put(tx, office, await shown(tx, office))
        assert (applied.changes, applied.secrets) == ([], [])
        assert await tx.fetch("SELECT id, sealed FROM channel ORDER BY id") == before
        assert await versions.keep(tx, office.vault, "li", "nothing") is None


async def test_a_secret_left_hidden_stays_and_what_is_left_out_stays_too(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await furnish(tx, office)
        exported = await shown(tx, office)
        faster = revised(exported, channels=lambda all_: [one | {"parts_per_s": 7} for one in all_])
        await put(tx, office, msgspec.json.encode({"channels": msgspec.json.decode(faster)["channels"]}))
        _, settings = await upstreams.settings_of(tx, office.vault, east)
        assert settings == SMPP
        assert (await upstreams.one(tx, east)).parts_per_s == 7
        whole = await now(tx, office)
        assert ["Casino", "博彩", "赌场"] in [one.words for one in whole.words]
        bare = revised(
            exported, words=lambda all_: [{k: v for k, v in one.items() if k != "words"} for one in all_]
        )
        await put(tx, office, bare)
        assert (await now(tx, office)).words == whole.words


REFUSED: Final[list[tuple[dict[str, Any], str]]] = [
    ({"tenants": lambda all_: [*all_, all_[0] | {"name": "Nobody"}]}, "tenants[Nobody].name"),
    ({"tenants": lambda all_: [all_[0] | {"quiet_from_hour": 10, "quiet_until_hour": 12}]},
     "tenants[Orchid].quiet_from_hour"),
    ({"routes": lambda all_: [all_[0] | {"tenant": "Nobody"}]}, "routes[east Nobody * * *].tenant"),
    ({"routes": lambda all_: [all_[0] | {"channel": "north"}]}, "routes[north * * * *].channel"),
    ({"routes": lambda all_: [all_[0] | {"operator": "mobile"}]}, "routes[east * * mobile *].operator"),
    ({"channels": lambda all_: [all_[0] | {"settings": {"hosts": ["a:1"]}}, all_[1]]}, "channels[east].settings.system_id"),
    ({"channels": lambda all_: [all_[0] | {"kind": "pigeon"}, all_[1]]}, "channels[east].settings"),
    ({"channels": lambda all_: [*all_, all_[1]]}, "channels[west]"),
    ({"prices": lambda all_: [*all_, all_[0]]}, "prices[* CN * *]"),
    ({"prices": lambda all_: [all_[0] | {"tenant": "Nobody"}]}, "prices[Nobody CN * *].tenant"),
    ({"words": lambda all_: [all_[0] | {"words": ["。"]}]}, "words[gambling].words"),
    ({"words": lambda all_: [all_[0] | {"channel": "east", "allows": True}]}, "words[channel east: gambling].allows"),
    ({"alarms": lambda all_: [all_[0] | {"tenant": "Orchid", "kind": "backlog"}]},
     "alarms[tenant Orchid: A channel delivers badly (backlog)].kind"),
    ({"alarms": lambda all_: [all_[0] | {"webhook_secret": "mine"}]}, "alarms[A channel delivers badly].webhook_secret"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "parameter"), REFUSED)
async def test_a_document_that_cannot_be_is_refused_with_the_entry_that_is_wrong(
    office: Office, changes: dict[str, Any], parameter: str
) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
    async with undone(office) as tx:
        asked = revised(await shown(tx, office), **changes)
        with pytest.raises(Refusal) as refused:
            await put(tx, office, asked)
    assert refused.value.code is Code.REQUEST_INVALID_PARAMETER
    assert refused.value.detail["parameter"] == parameter
    assert "herons77" not in str(refused.value.detail)


# ---- differences


async def test_a_document_does_not_differ_from_itself(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        whole = await now(tx, office)
    assert difference(whole, whole) == []


async def test_a_difference_names_section_entry_and_field_and_is_gone_once_applied(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        before = await now(tx, office)
        asked = document.decoded(
            revised(
                await shown(tx, office),
                policies=lambda one: one | {"sign_up": "closed"},
                tenants=lambda all_: [all_[0] | {"weight": 9}],
                channels=lambda all_: [
                    all_[0] | {"settings": all_[0]["settings"] | {"password": "other"}, "cost_micro": 1},
                    all_[1] | {"name": "south"},
                ],
                routes=lambda all_: [
                    all_[0] | {"weight": 5},
                    all_[1] | {"channel": "south"},
                    all_[2] | {"priority": 1},
                ],
                prices=lambda all_: all_[1:],
                words=lambda all_: [
                    one | {"words": ["博彩", "新词"]} if one["name"] == "gambling" else one for one in all_
                ],
                alarms=lambda all_: all_[1:],
            )
        )
        wanted = document.completed(asked, before)
        found = {(one.section, one.key): one for one in difference(before, wanted)}
        assert {key: one.what for key, one in found.items()} == {
            ("policies", "policies"): "changed",
            ("tenants", "Orchid"): "changed",
            ("channels", "east"): "changed",
            ("channels", "south"): "added",
            ("channels", "west"): "removed",
            ("routes", "east * * * *"): "changed",
            ("routes", "east Orchid CN cmcc otp"): "changed",
            ("routes", "south * * * *"): "added",
            ("routes", "west * * * *"): "removed",
            ("prices", "* CN * *"): "removed",
            ("words", "gambling"): "changed",
            ("alarms", "A channel delivers badly (channel_success)"): "removed",
        }
        east = {one.name: (one.before, one.after) for one in found["channels", "east"].fields}
        assert east == {"cost_micro": (30_000, 1), "settings.password": ("***", "***")}
        counted = found["words", "gambling"].words
        assert counted is not None
        assert (counted.added, sorted(counted.first_added)) == (1, ["新词"])
        assert (counted.removed, sorted(counted.first_removed)) == (2, ["Casino", "赌场"])
        await put(tx, office, asked)
        assert difference(await now(tx, office), wanted) == []


async def test_rules_keep_their_number_where_their_conditions_stay_and_their_order_counts(
    office: Office,
) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        before = {rule.channel + str(rule.priority): rule.id for rule in await routes.every(tx)}
        heavier = revised(
            await shown(tx, office), routes=lambda all_: [one | {"weight": one["weight"] + 1} for one in all_]
        )
        await put(tx, office, heavier)
        assert {rule.id for rule in await routes.every(tx)} == set(before.values())
        # Two rules of one channel and priority: the first one speaks, so their order is what was asked for.
        exact = {"channel": "west", "country": "CN", "weight": 1}
        open_ = {"channel": "west", "weight": 2}
        for order in ([exact, open_], [open_, exact], [exact, open_, exact | {"operator": "cmcc"}]):
            await put(tx, office, msgspec.json.encode({"routes": order}))
            told = [(rule.country, rule.operator, rule.weight) for rule in await routes.every(tx)]
            assert told == [(one.get("country"), one.get("operator"), one["weight"]) for one in order]


async def test_a_channel_of_another_kind_takes_its_rules_and_lists_along(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await furnish(tx, office)
        asked = revised(
            await shown(tx, office),
            channels=lambda all_: [all_[0] | {"kind": "loopback", "settings": {}}, all_[1]],
        )
        await put(tx, office, asked)
        assert await shown(tx, office) == document.encoded(
            document.masked(document.completed(document.decoded(asked), await now(tx, office)))
        )
        assert await upstreams.find(tx, "east") != east
        assert sorted(row.channel for row in await routes.every(tx)) == ["east", "east", "west"]


# ---- versions


async def test_a_change_of_each_section_makes_one_version_and_no_change_none(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await furnish(tx, office)
        await versions.begin(tx, office.vault)
        assert await versions.latest(tx) == 1
        await versions.begin(tx, office.vault)
        gambling = await words.find(tx, None, "gambling")

        async def add_word() -> None:
            row = await words.locked(tx, None, gambling.id, platform=True)
            await words.add(tx, row, [words.read_word("新词")])

        async def retag() -> None:
            row = await words.locked(tx, None, gambling.id, platform=True)
            await words.change(tx, row, tag="x")

        rule = (await alarms.rules(tx, None))[0]
        changes: dict[str, Callable[[], Awaitable[object]]] = {
            "policies": lambda: policies.change(tx, {"sign_up": "closed"}, who="li"),
            "tenants": lambda: tenants.change(tx, office.tenant_id, weight=8),
            "channels": lambda: upstreams.change(tx, office.vault, east, {"parts_per_s": 5}),
            "routes": lambda: routes.add(tx, east, priority=3),
            "prices": lambda: prices.put(tx, 1),
            "words": add_word,
            "words ": retag,
            "alarms": lambda: alarms.change_rule(tx, rule.id, None, {"threshold": 0.5}),
        }
        for number, (section, change) in enumerate(changes.items(), 2):
            await change()
            assert await versions.keep(tx, office.vault, "li", "test", section) == number
            assert await versions.keep(tx, office.vault, "li", "test") is None
            row = await versions.one(tx, number)
            assert (row.changed, row.note, row.made_by) == ([section.strip()], section, "li")
        # Paused or not is no configuration, and neither is a list whose version alone moved.
        await upstreams.pause(tx, east)
        await words.change(tx, await words.locked(tx, None, gambling.id, platform=True))
        assert await versions.keep(tx, office.vault, "li", "test") is None
        assert [row.version for row in await versions.page(tx, before=4)] == [3, 2, 1]
        assert await tx.fetchval("SELECT count(*) FROM configuration_part WHERE section = 'list'") == 3


async def test_a_version_is_sealed_whole_and_reads_as_it_was(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        await versions.begin(tx, office.vault)
        whole, _ = await versions.opened(tx, office.vault, 1)
        assert whole == await now(tx, office)
        for row in await tx.fetch("SELECT sealed FROM configuration_part"):
            assert b"herons77" not in row["sealed"]
        with pytest.raises(Refusal):
            await versions.opened(tx, office.vault, 2)


async def test_a_roll_back_brings_a_password_words_and_a_secret_back(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await furnish(tx, office)
        await versions.begin(tx, office.vault)
        before = await now(tx, office)
        plain = msgspec.json.decode(await shown(tx, office))
        plain["channels"][0]["settings"]["password"] = "other"
        plain |= {"words": [], "alarms": [], "prices": [], "routes": []}
        await put(tx, office, msgspec.json.encode(plain))
        assert await versions.keep(tx, office.vault, "li", "test") == 2
        await applying.roll_back(tx, office.vault, make.SETTINGS, 1, who="li")
        assert await versions.keep(tx, office.vault, "li", "test") == 3
        assert await now(tx, office) == before
        _, settings = await upstreams.settings_of(tx, office.vault, east)
        assert settings["password"] == "herons77"


async def test_a_roll_back_finds_what_was_renamed_since(office: Office) -> None:
    async with office.database.transaction() as tx:
        east = await furnish(tx, office)
        await versions.begin(tx, office.vault)
        await upstreams.change(tx, office.vault, east, {"name": "far east"})
        await tenants.change(tx, office.tenant_id, name="Lotus", weight=9)
        await applying.roll_back(tx, office.vault, make.SETTINGS, 1, who="li")
        assert await upstreams.find(tx, "east") == east
        terms = await tenants.get(tx, office.tenant_id)
        assert (terms.name, terms.weight) == ("Lotus", 3)
        assert [rule.tenant for rule in await routes.every(tx)] == [None, None, "Lotus"]


async def test_a_document_written_against_another_version_is_a_conflict(office: Office) -> None:
    async with office.database.transaction() as tx:
        await furnish(tx, office)
        await versions.begin(tx, office.vault)
        exported = await shown(tx, office)
        await put(tx, office, exported, if_version=1)
    async with undone(office) as tx:
        await prices.put(tx, 1)
        await versions.keep(tx, office.vault, "li", "test")
        with pytest.raises(Refusal) as refused:
            await put(tx, office, exported, if_version=1)
    assert refused.value.code is Code.REQUEST_CONFLICT


async def test_versions_too_old_are_forgotten_with_what_they_alone_had(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "VERSIONS_MAX", 2)
    monkeypatch.setattr(versions, "FORGET_EVERY", 2)
    async with office.database.transaction() as tx:
        for price in range(1, 7):
            await prices.put(tx, price)
            await versions.keep(tx, office.vault, "li", "test")
        assert [row.version for row in await versions.page(tx)] == [6, 5]
        assert await tx.fetchval("SELECT count(*) FROM configuration_part WHERE section = 'prices'") == 2
        assert (await versions.opened(tx, office.vault, 5))[0].prices[0].part_micro == 5


# ---- rehearsals


def yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


async def rehearse(world: make.World, **sections: Any) -> rehearsal.Rehearsal:
    async with world.database.transaction() as tx:
        stored = await document.read(tx, world.vault)
    exported = document.encoded(document.masked(stored.document))
    asked = document.decoded(revised(exported, **sections))
    return await rehearsal.rehearse(world.database, world.vault, make.SETTINGS, asked, who="li")


async def test_a_rehearsal_finds_a_route_that_vanishes_and_what_prices_do(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            second = await make.channel(tx, world.vault, name="second", kind="smpp", config=SMPP)
            await tx.execute(
                "UPDATE channel SET sealed = $1 WHERE id = $2",
                world.vault.seal_secret(msgspec.json.encode(SMPP)),
                world.channel_id,
            )
            await tx.execute("UPDATE route_rule SET operator = 'cmcc'")
            await make.route_rule(tx, channel_id=second, operator="unicom")
            for operator, count in (("cmcc", 3), ("unicom", 2)):
                for _ in range(count):
                    await make.message(tx, world, at=yesterday(), operator=operator, parts=2)
            await make.message(tx, world, operator="cmcc")  # of today
            await make.message(tx, world, at=yesterday(), operator="cmcc", sandbox=True)
        same = await rehearse(world)
        assert (same.messages, same.parts, same.hours, same.cut) == (5, 10, 24, False)
        assert (same.changes, same.groups, same.rerouted, same.vanishing) == ([], [], 0, 0)
        assert "second" in same.assumed_up
        told = await rehearse(
            world,
            routes=lambda all_: [one for one in all_ if one["operator"] == "cmcc"],
            prices=lambda all_: [one | {"part_micro": 50_000} for one in all_],
        )
        assert (told.vanishing, told.rerouted, told.appearing) == (2, 0, 0)
        (cost,) = told.prices
        assert (cost.currency, cost.before_micro, cost.after_micro) == ("CNY", 450_000, 500_000)
        assert {one.currency for one in told.groups} == {"CNY"}
        gone = {one.operator: one.after.no_way for one in told.groups}
        assert gone == {"cmcc": "", "unicom": "route"}
        swapped = await rehearse(world, routes=lambda all_: [one | {"channel": "second"} for one in all_])
        assert (swapped.rerouted, swapped.vanishing) == (3, 0)
        strict = await rehearse(
            world, channels=lambda all_: [one | {"filing_demanded": True} for one in all_]
        )
        assert (strict.vanishing, strict.unfiled) == (5, 5)
        assert {one.after.no_way for one in strict.groups} == {"filing"}
        async with world.database.transaction() as tx:
            assert await versions.latest(tx) == 0
            assert len(await routes.every(tx)) == 2


async def test_a_rehearsal_tells_how_many_texts_new_words_would_stop_and_never_a_text(database: str) -> None:
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await tx.execute(
                "UPDATE channel SET sealed = $1", world.vault.seal_secret(msgspec.json.encode(SMPP))
            )
            for text in ("【鸿雁】您的快递已到南门", "【鸿雁】您的快递已到北门", "【鸿雁】您好"):
                await make.message(tx, world, at=yesterday(), text=text)
            erased = await make.message(tx, world, at=yesterday())
            await tx.execute("UPDATE message SET sealed = NULL WHERE id = $1", erased)
        listed = {"name": "parcels", "level": "hold", "words": ["快递"]}
        told = await rehearse(world, words=lambda all_: [*all_, listed])
        assert told.words is not None
        assert (told.words.texts, told.words.stopped, told.words.freed) == (3, 2, 0)
        (hits,) = told.words.lists
        assert (hits.list, hits.tenant, hits.level, hits.before, hits.after) == (
            "parcels",
            None,
            Level.HOLD,
            0,
            2,
        )
        assert "南门" not in str(msgspec.json.encode(told).decode())
        assert (await rehearse(world)).words is None


async def test_a_rehearsal_whose_time_is_up_says_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "REHEARSAL_S", 0.0)
    async with make.world(database) as world:
        async with world.database.transaction() as tx:
            await make.message(tx, world, at=yesterday())
        told = await rehearse(world)
        assert (told.cut, told.hours, told.messages) == (True, 0, 0)
