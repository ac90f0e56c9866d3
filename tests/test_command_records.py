"""Whatever a command changes leaves a record in the audit, with what it was about and without numbers or secrets."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import make
from hongyan.commands import frame
from test_command_line import Terminal, hongyan, lay_held, shop

__all__ = ["hongyan", "shop"]  # fixtures

NUMBER = "+8613800138000"


def records(shop: Terminal) -> Sequence[Any]:
    """The audit, oldest first, without what making the shop left."""
    rows = list(reversed(shop.must("audit", "list", "--limit", "500", "--json").json))
    assert NUMBER[3:] not in str(rows)
    assert {row["actor"] for row in rows} == {frame.actor()}
    return rows


def newest(shop: Terminal) -> Any:
    return records(shop)[-1]


def test_a_file_of_numbers_is_recorded_step_by_step_without_them(shop: Terminal, tmp_path: Path) -> None:
    (tmp_path / "numbers").write_text(f"{NUMBER}\n13800138001\n")
    shop.must("blocks", "import", str(tmp_path / "numbers"), "--tenant", "Shop")
    row = newest(shop)
    assert (row["action"], row["tenant_id"], row["detail"]["changed"]) == ("blocks import", 1, 2)
    shop.must("blocks", "remove", NUMBER, "--tenant", "Shop")
    row = newest(shop)
    assert (row["action"], row["detail"]["changed"]) == ("blocks remove", 1)
    assert row["subject"].startswith("person:")


def test_a_list_is_recorded_from_its_upload_on(shop: Terminal, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(f"number\n{NUMBER}\n")
    made: Any = shop.must("lists", "upload", "Shop", str(tmp_path / "people.csv"), "--json").json
    assert newest(shop)["subject"] == f"list:{made['list']}"
    shop.must("lists", "forget", "Shop", str(made["list"]))
    row = newest(shop)
    assert (row["action"], row["subject"], row["tenant_id"]) == ("lists forget", f"list:{made['list']}", 1)


def test_what_is_decided_about_held_messages_is_recorded(
    hongyan: Terminal, database: str, tmp_path: Path
) -> None:
    key = tmp_path / "state" / "master.key"
    key.parent.mkdir(mode=0o700)
    key.write_text(make.MASTER.reveal().hex())
    key.chmod(0o600)
    (held,) = asyncio.run(lay_held(database, ["a text"]))
    hongyan.must("held", "release", held)
    (row,) = records(hongyan)
    assert (row["action"], row["subject"], row["detail"]["decided"]) == ("held release", f"message:{held}", 1)
    assert hongyan("held", "release", held).code == 1
    assert len(records(hongyan)) == 1


def test_an_export_that_is_asked_for_is_recorded(shop: Terminal) -> None:
    made: Any = shop.must("exports", "create", "ledger", "--tenant", "Shop", "--json").json
    row = newest(shop)
    assert (row["subject"], row["detail"]["what"]) == (f"export:{made['export']}", "ledger")
    shop.must("jobs", "stop", str(made["export"]))
    assert newest(shop)["subject"] == f"job:{made['export']}"


def test_money_is_recorded_with_how_much_and_whose(shop: Terminal) -> None:
    shop.must("tenants", "top-up", "Shop", "12.5", "--note", "invoice 7")
    row = newest(shop)
    assert (row["subject"], row["tenant_id"]) == ("tenant:1", 1)
    assert (row["detail"]["amount_micro"], row["detail"]["note"]) == (12_500_000, "invoice 7")
    shop.must("ledger", "correct", "Shop", "--note", "typing error", "--", "-2.5")
    detail = newest(shop)["detail"]
    assert (detail["amount"], detail["note"], detail["tenant"]) == ("-2.5", "typing error", "Shop")


def test_who_is_at_the_keyboard_is_not_what_the_environment_says(
    shop: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    shop.must("retention", "set", "messages", "200")
    assert newest(shop)["action"] == "putRetention"


def test_consents_are_demanded_by_command(shop: Terminal) -> None:
    shop.must("tenants", "change", "Shop", "--consent-demanded")
    assert shop.must("tenants", "show", "Shop", "--json").json["consent_demanded"] is True
    shop.must("tenants", "change", "Shop", "--weight", "3")
    shop.must("tenants", "change", "Shop", "--no-consent-demanded")
    assert shop.must("tenants", "show", "Shop", "--json").json["consent_demanded"] is False
    assert newest(shop)["detail"]["consent_demanded"] is False
