"""What a verification is in words: what its code is for, what became of it, and what somebody must do before it is sent.

Pure and frozen. The words are what the API shows, the numbers what the database stores; the words of State are Twilio's,
because whoever changes over has them in his program.
"""

from enum import IntEnum, StrEnum
from typing import Final


class Scene(StrEnum):
    """What a code proves. A code of one scene is none of any other."""

    LOGIN = "login"
    REGISTER = "register"
    BIND = "bind"  # a number to an account
    CHANGE_NUMBER = "change-number"
    PAY = "pay"  # an amount to a payee, which the text names and the code is bound to
    RESET = "reset"  # of a password

    @property
    def number(self) -> int:
        return _SCENE_NUMBERS[self]


SCENES: Final = tuple(Scene)
_SCENE_NUMBERS: Final = {scene: number for number, scene in enumerate(SCENES, 1)}
SCENE_BY_NUMBER: Final = {number: scene for scene, number in _SCENE_NUMBERS.items()}


class State(StrEnum):
    """How far a verification has come; all but the first are final."""

    PENDING = "pending"
    APPROVED = "approved"  # the right code was given in time
    CANCELED = "canceled"  # the app took it back
    EXPIRED = "expired"
    MAX_ATTEMPTS_REACHED = "max_attempts_reached"
    FAILED = "failed"  # its first message was refused, so that nobody ever had the code

    @property
    def number(self) -> int:
        return _STATE_NUMBERS[self]


_STATE_NUMBERS: Final = {state: number for number, state in enumerate(State)}
STATE_BY_NUMBER: Final = {number: state for state, number in _STATE_NUMBERS.items()}


class Level(IntEnum):
    """What is asked of somebody before a code is sent: the ladder, from the ground."""

    NOTHING = 0
    WORK = 1  # an invisible proof of work
    SLIDER = 2  # a puzzle for people
    REFUSE = 3
