"""Enterprises, documents, the queue and policies at the command line."""

from pathlib import Path
from typing import Any

from control import files
from test_command_line import Terminal, hongyan, shop

__all__ = ["hongyan", "shop"]  # fixtures


def test_a_signature_is_rejected_for_a_reason_of_the_list(shop: Terminal) -> None:
    shop.must("signatures", "create", "Shop", "兰花科技")
    (row,) = shop.listed("reviews")
    assert (row["kind"], row["title"], row["state"]) == ("signature", "兰花科技", "waiting")
    shown: Any = shop.must("reviews", "show", str(row["id"])).json
    assert shown["about"]["signature"]["name"] == "兰花科技"
    assert "reason" in shop("reviews", "reject", str(row["id"])).error
    assert "neutral" in {reason["code"] for reason in shop.must("reviews", "reasons", "--json").json}
    shop.must("reviews", "reject", str(row["id"]), "--reason-code", "neutral")
    assert shop.listed("reviews") == []
    assert [each["state"] for each in shop.listed("signatures")] == ["rejected"]
    assert "does not allow" in shop("reviews", "approve", str(row["id"])).error


def test_a_document_is_stored_and_saved_for_its_owner_alone(shop: Terminal, tmp_path: Path) -> None:
    (tmp_path / "licence.pdf").write_bytes(files.PDF)
    made = shop.must(
        "documents", "add", "Shop", str(tmp_path / "licence.pdf"), "--kind", "licence", "--json"
    ).json
    saved = tmp_path / "saved.pdf"
    shop.must("documents", "save", str(made["document"]), str(saved))
    assert saved.read_bytes() == files.PDF
    assert saved.stat().st_mode & 0o077 == 0
    (tmp_path / "page.pdf").write_bytes(b"<html>")
    assert (
        "neither PDF" in shop("documents", "add", "Shop", str(tmp_path / "page.pdf"), "--kind", "other").error
    )


def test_policies_are_set_and_stay(hongyan: Terminal) -> None:
    hongyan.must(
        "policies", "set", "--sign-up", "open", "--automatic", "signature", "--four-eyes", "qualification"
    )
    hongyan.must("policies", "set", "--automatic", "none")
    assert hongyan.must("policies", "show", "--json").json == {
        "sign_up": "open",
        "review_automatic": [],
        "four_eyes": ["qualification"],
    }
    assert hongyan("policies", "set", "--sign-up", "ajar").code != 0


def test_a_tenant_is_changed_and_its_history_says_so(shop: Terminal) -> None:
    shop.must("tenants", "change", "Shop", "--weight", "5", "--limit", "otp=2,6,12", "--name", "Store")
    shop.must("tenants", "suspend", "Store", "--reason", "spam")
    shown = shop.must("tenants", "show", "Store", "--json").json
    assert (shown["weight"], shown["limits"], shown["active"]) == (5, {"otp": [2, 6, 12]}, False)
    history = shop.must("tenants", "history", "Store", "--json").json
    assert [(step["action"], step["reason"]) for step in history] == [
        ("suspended", "spam"),
        ("changed", "limits, name, weight"),
        ("created", ""),
    ]
    assert "otp=1,5,10" in shop("tenants", "change", "Store", "--limit", "otp=1").error


def test_apps_are_made_and_renamed_and_a_keys_scopes_are_said(shop: Terminal) -> None:
    shop.must("apps", "create", "Shop", "web")
    shop.must("apps", "rename", "Shop", "web", "store")
    assert [row["name"] for row in shop.listed("apps")] == ["store"]
    made = shop.must(
        "keys", "create", "Shop", "--app", "store", "--scope", "messages.send", "--name", "till", "--json"
    )
    newer = shop.must("keys", "rotate", made.json["key_id"], "--overlap-s", "60", "--json").json["key_id"]
    rows = {row["key_id"]: row for row in shop.listed("keys")}
    assert rows[newer]["scopes"] == ["messages.send"]
    assert rows[made.json["key_id"]]["expires_at"] is not None
    assert "no key may have" in shop("keys", "create", "Shop", "--scope", "users.write").error
