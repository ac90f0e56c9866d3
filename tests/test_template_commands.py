"""Templates at the command line: everything the API can do about them, a person at a terminal can do too."""

from pathlib import Path
from typing import Final

import pytest

from test_command_line import Terminal

NOTICE: Final = (
    "Shop",
    "parcel",
    "您的快递已到${place}",
    "--purpose",
    "transactional",
    "--variable",
    "place=address",
)


@pytest.fixture
def shop(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """A terminal on an install with a tenant named Shop."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("HONGYAN_STATE_DIR", str(tmp_path / "state"))
    terminal = Terminal(capsys)
    terminal.must("tenants", "create", "Shop")
    return terminal


def test_a_text_is_proposed_approved_changed_and_rolled_back(shop: Terminal) -> None:
    said = shop.must("templates", "create", *NOTICE)
    assert "templates approve Shop parcel" in said.err
    shop.must("templates", "approve", "Shop", "parcel")
    assert shop.listed("templates")[0]["state"] == "approved"
    said = shop.must("templates", "propose", "Shop", "parcel", "包裹在${place}")
    assert said.out == "version 2 (zh): reviewing\n"
    assert shop.listed("templates")[0]["body"] == "您的快递已到${place}"
    shop.must("templates", "approve", "Shop", "parcel")
    assert shop.listed("templates")[0]["body"] == "包裹在${place}"
    said = shop.must("templates", "propose", "Shop", "parcel", "--again", "1", "--approve")
    assert said.out == "version 3 (zh): approved\n"
    assert shop.listed("templates")[0]["body"] == "您的快递已到${place}"
    versions = shop.must("templates", "versions", "Shop", "parcel", "--json").json
    assert [(row["number"], row["state"]) for row in versions] == [
        (3, "approved"),
        (2, "approved"),
        (1, "approved"),
    ]


def test_what_is_rejected_or_withdrawn_stays_out_of_use(shop: Terminal) -> None:
    shop.must("templates", "create", *NOTICE)
    shop.must("templates", "reject", "Shop", "parcel", "--reason", "say whose")
    shop.must("templates", "propose", "Shop", "parcel", "包裹在${place}", "--draft")
    shop.must("templates", "submit", "Shop", "parcel", "2")
    shop.must("templates", "withdraw", "Shop", "parcel", "2")
    assert shop.listed("templates")[0]["state"] == "canceled"
    assert "say whose" in shop.must("templates", "versions", "Shop", "parcel").out
    assert "not one version waits" in shop("templates", "approve", "Shop", "parcel").err


def test_a_template_is_taken_out_of_use_and_back(shop: Terminal) -> None:
    shop.must("templates", "create", *NOTICE, "--approve")
    for command, state in (("disable", "disabled"), ("enable", "approved")):
        shop.must("templates", command, "Shop", "parcel")
        assert shop.listed("templates")[0]["state"] == state


def test_the_linter_says_what_is_wrong_and_ends_with_one(shop: Terminal) -> None:
    said = shop("templates", "lint", "您的包裹已到 拒收请回复R", "--purpose", "transactional")
    assert said.code == 1
    assert "notice.opt_out" in said.out
    found = shop("templates", "lint", "${a}${b}", "--purpose", "otp", "--json")
    assert {"code.word_missing", "variable.adjacent"} <= {one["rule"] for one in found.json}
    said = shop.must("templates", "lint", "您的快递已到", "--purpose", "transactional", "--signature", "鸿雁")
    assert said.err == "nothing to say\n"
