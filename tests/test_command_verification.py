"""What a guesser would gain by a policy is told at a terminal; a careless one ends with code 1."""

import msgspec

from test_command_line import Terminal, hongyan, shop

__all__ = ["hongyan", "shop"]  # fixtures


def test_a_proposal_is_weighed_at_a_terminal(hongyan: Terminal) -> None:
    assert "5 tries × 1 alive ÷ 1,000,000 codes = 5.0e-06" in hongyan.must("verification-policy", "check").out
    careless = hongyan("verification-policy", "check", "--digits", "4", "--tries", "5")
    assert careless.code == 1
    assert "careless: tries: codes of 4 characters take at most 3 tries" in careless.out
    told = hongyan("verification-policy", "check", "--validity-s", "900", "--json")
    assert [one["name"] for one in msgspec.json.decode(told.out)["findings"]] == ["validity_s"]


def test_what_holds_for_a_tenant_is_shown(shop: Terminal) -> None:
    shown = shop.must("verification-policy", "show", "--tenant", "Shop").out
    assert shown.startswith("every scene (the defaults)")
    assert "per year" in shown
    assert shop("verification-policy", "show", "--tenant", "Nobody").code == 1
