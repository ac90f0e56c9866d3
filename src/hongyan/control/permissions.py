"""Who may do what: the permissions, the roles of people, and what each role may.

Writes nothing. Entry points: GRANTED, for people; SCOPES and SCOPES_DEFAULT, for app keys. Every route of the API names
the permission it needs (doors/route.py); tests/doors/permissions.tsv has the answer for every route and role.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """One thing somebody may do. Reading what belongs to one's own tenant and changing it are two."""

    MESSAGES_SEND = "messages.send"  # write to people, singly or to a list; take back what has not left
    MESSAGES_READ = "messages.read"  # what became of messages, numbers masked; what people text back
    NUMBERS_UNMASK = "numbers.unmask"  # see a number whole; each look leaves a trace
    STATISTICS_READ = "statistics.read"
    TENANTS_READ = "tenants.read"
    TENANTS_WRITE = "tenants.write"  # make, suspend, set limits
    QUALIFICATION_READ = "qualification.read"
    QUALIFICATION_WRITE = "qualification.write"  # hand in an enterprise's documents
    APPS_READ = "apps.read"
    APPS_WRITE = "apps.write"  # apps, their keys, webhooks and logins
    WORDING_READ = "wording.read"
    WORDING_WRITE = "wording.write"  # propose signatures and templates
    FILINGS_WRITE = "filings.write"  # say how far a filing at an operator has come
    WORDS_READ = "words.read"
    WORDS_WRITE = "words.write"
    REVIEWS_READ = "reviews.read"
    REVIEWS_DECIDE = "reviews.decide"
    CHANNELS_READ = "channels.read"
    CHANNELS_WRITE = "channels.write"
    ROUTES_READ = "routes.read"
    ROUTES_WRITE = "routes.write"
    PRICES_READ = "prices.read"
    PRICES_WRITE = "prices.write"
    LEDGER_READ = "ledger.read"
    LEDGER_WRITE = "ledger.write"  # top up, correct, sell packages, reconcile bills
    USERS_READ = "users.read"
    USERS_WRITE = "users.write"
    CONSENTS_READ = "consents.read"
    CONSENTS_WRITE = "consents.write"  # consents, opt-outs, blocks, complaints
    PERSONS_ERASE = "persons.erase"  # export or erase all that is known of a number
    ALARMS_READ = "alarms.read"
    ALARMS_WRITE = "alarms.write"
    AUDIT_READ = "audit.read"
    CONFIGURATION_READ = "configuration.read"
    CONFIGURATION_WRITE = "configuration.write"


class Role(StrEnum):
    """What a person is at the console."""

    OPERATOR = "operator"  # of the platform: everything
    REVIEWER = "reviewer"  # of the platform: decides what waits for a human
    FINANCE = "finance"  # of the platform: prices, money, bills
    SUPPORT = "support"  # of the platform: looks, and helps
    OWNER = "owner"  # of a tenant: everything of the tenant
    DEVELOPER = "developer"  # of a tenant: apps, keys, webhooks, wording
    MARKETER = "marketer"  # of a tenant: wording, sending, people
    VIEWER = "viewer"  # of a tenant: looks


PLATFORM_ROLES: Final = frozenset({Role.OPERATOR, Role.REVIEWER, Role.FINANCE, Role.SUPPORT})
TENANT_ROLES: Final = frozenset(Role) - PLATFORM_ROLES

_P = Permission
_LOOK: Final = frozenset(
    {
        _P.MESSAGES_READ,
        _P.STATISTICS_READ,
        _P.WORDING_READ,
        _P.WORDS_READ,
        _P.CONSENTS_READ,
        _P.PRICES_READ,
        _P.LEDGER_READ,
        _P.ALARMS_READ,
    }
)
GRANTED: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.OPERATOR: frozenset(Permission),
    Role.REVIEWER: frozenset(
        {
            _P.TENANTS_READ,
            _P.QUALIFICATION_READ,
            _P.WORDING_READ,
            _P.FILINGS_WRITE,
            _P.WORDS_READ,
            _P.WORDS_WRITE,
            _P.REVIEWS_READ,
            _P.REVIEWS_DECIDE,
            _P.MESSAGES_READ,
            _P.CHANNELS_READ,
        }
    ),
    Role.FINANCE: frozenset(
        {
            _P.TENANTS_READ,
            _P.STATISTICS_READ,
            _P.CHANNELS_READ,
            _P.PRICES_READ,
            _P.PRICES_WRITE,
            _P.LEDGER_READ,
            _P.LEDGER_WRITE,
        }
    ),
    Role.SUPPORT: _LOOK
    | {
        _P.NUMBERS_UNMASK,
        _P.TENANTS_READ,
        _P.QUALIFICATION_READ,
        _P.APPS_READ,
        _P.REVIEWS_READ,
        _P.CHANNELS_READ,
        _P.ROUTES_READ,
        _P.USERS_READ,
        _P.CONSENTS_WRITE,
    },
    Role.OWNER: _LOOK
    | {
        _P.MESSAGES_SEND,
        _P.NUMBERS_UNMASK,
        _P.QUALIFICATION_READ,
        _P.QUALIFICATION_WRITE,
        _P.APPS_READ,
        _P.APPS_WRITE,
        _P.WORDING_WRITE,
        _P.WORDS_WRITE,
        _P.USERS_READ,
        _P.USERS_WRITE,
        _P.CONSENTS_WRITE,
        _P.PERSONS_ERASE,
        _P.ALARMS_WRITE,
        _P.AUDIT_READ,
    },
    Role.DEVELOPER: _LOOK
    | {
        _P.MESSAGES_SEND,
        _P.APPS_READ,
        _P.APPS_WRITE,
        _P.WORDING_WRITE,
        _P.ALARMS_WRITE,
    },
    Role.MARKETER: _LOOK | {_P.MESSAGES_SEND, _P.WORDING_WRITE, _P.CONSENTS_WRITE},
    Role.VIEWER: _LOOK,
}

# What an app key may be given; nothing of the platform's, no people, and no keys that could make keys.
SCOPES_DEFAULT: Final = frozenset({_P.MESSAGES_SEND, _P.MESSAGES_READ, _P.STATISTICS_READ, _P.LEDGER_READ})
SCOPES: Final = (GRANTED[Role.MARKETER] | {_P.APPS_READ, _P.ALARMS_WRITE, _P.PERSONS_ERASE}) - {
    _P.NUMBERS_UNMASK
}
