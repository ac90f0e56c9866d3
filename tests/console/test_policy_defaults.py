"""What the console takes for the defaults of a policy of verification codes is what the server goes by."""

import json
from pathlib import Path
from typing import Final

import msgspec

from hongyan.otp.policy import DEFAULT

DEFAULTS: Final = Path(__file__).parents[2] / "console/src/pages/codes/defaults.json"


def test_the_console_knows_the_defaults_of_a_policy() -> None:
    assert json.loads(DEFAULTS.read_text()) == json.loads(msgspec.json.encode(DEFAULT))
