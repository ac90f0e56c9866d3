"""What differs between two documents, entry by entry and field by field.

Writes nothing. Entry point: difference(). Secrets are compared and never shown: one that differs is *** before and after.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from hongyan.channels import kinds
from hongyan.control.configuration import document
from hongyan.control.configuration.document import AlarmEntry, ChannelEntry, ListEntry, Whole

WORDS_SHOWN: Final = 50

What = Literal["added", "removed", "changed"]


class FieldChange(msgspec.Struct, frozen=True):
    """One field, of a channel's settings too."""

    name: str
    before: Any  # null of what is added
    after: Any  # null of what is removed


class WordsChange(msgspec.Struct, frozen=True):
    """How many words of a list come and go, and the first of them."""

    added: int
    removed: int
    first_added: list[str]
    first_removed: list[str]


class ConfigurationChange(msgspec.Struct, frozen=True):
    """One entry that differs."""

    section: str
    key: str
    what: What
    fields: list[FieldChange]
    words: WordsChange | None = None


def difference(before: Whole, after: Whole) -> Sequence[ConfigurationChange]:
    """Return what is added, removed and changed, section by section."""
    old, new = document.keyed(before), document.keyed(after)
    found = []
    for section in document.SECTIONS:
        was, is_now = old[section], new[section]
        for key in sorted(was.keys() | is_now.keys()):
            one, other = was.get(key), is_now.get(key)
            if one != other:
                found.append(_change(section, key, one, other))
    return found


def _change(section: str, key: str, before: Any, after: Any) -> ConfigurationChange:
    what: What = "added" if before is None else "removed" if after is None else "changed"
    own = _words(before, after) if isinstance(before or after, ListEntry) else None
    return ConfigurationChange(section, key, what, _fields(before, after), own)


def _fields(before: Any, after: Any) -> list[FieldChange]:
    old, new = _flat(before), _flat(after)
    shown_old, shown_new = _flat(_hidden(before)), _flat(_hidden(after))
    return [
        FieldChange(name, shown_old.get(name), shown_new.get(name))
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name, msgspec.UNSET) != new.get(name, msgspec.UNSET)
    ]


def _hidden(entry: Any) -> Any:
    if isinstance(entry, ChannelEntry):
        return document.masked_channel(entry) if entry.kind in kinds.KINDS else None
    return document.masked_alarm(entry) if isinstance(entry, AlarmEntry) else entry


def _flat(entry: Any) -> Mapping[str, Any]:
    """Return an entry's fields, with those of a channel's settings among them and without words."""
    if entry is None:
        return {}
    fields = msgspec.to_builtins(
        msgspec.structs.replace(entry, words=msgspec.UNSET) if isinstance(entry, ListEntry) else entry
    )
    settings = fields.pop("settings", {}) if isinstance(entry, ChannelEntry) else {}
    return {**fields, **{f"settings.{name}": value for name, value in sorted(settings.items())}}


def _words(before: ListEntry | None, after: ListEntry | None) -> WordsChange | None:
    old, new = ((one.words or []) if one is not None else [] for one in (before, after))
    if old == new:
        return None
    had, has = set(old), set(new)
    added, removed = [one for one in new if one not in had], [one for one in old if one not in has]
    return WordsChange(len(added), len(removed), added[:WORDS_SHOWN], removed[:WORDS_SHOWN])
