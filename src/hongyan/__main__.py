"""The command line: `hongyan …` or `python -m hongyan …`.

Entry point: main(). The commands stand in commands/, one file per group; here they only get their names.
Errors that a person can do something about are one line on stderr and exit code 1; the rest are our bugs and
keep their traceback.
"""

import sys
from collections.abc import Sequence

import typer

from hongyan.commands import (
    alarms,
    channels,
    check,
    configuration,
    frame,
    held,
    lists,
    logins,
    messages,
    money,
    people,
    persons,
    reviews,
    signatures,
    simulate,
    suppression,
    templates,
    tenants,
    upkeep,
    words,
)

app = typer.Typer(
    name="hongyan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="鸿雁: a self-hosted SMS platform that never loses an accepted message, and proves it.",
    epilog="Settings come from the environment: `hongyan check --settings` lists them.",
)
for deed in (
    upkeep.run,
    upkeep.migrate,
    check.check,
    messages.send,
    messages.trace,
    simulate.simulate,
    upkeep.backup,
    upkeep.restore,
):
    app.command()(deed)
for name, group in {
    "tenants": tenants.tenants,
    "apps": tenants.apps,
    "keys": tenants.keys,
    "logins": logins.logins,
    "held": held.held,
    "reviews": reviews.reviews,
    "qualifications": reviews.qualifications,
    "documents": reviews.documents,
    "policies": reviews.policies,
    "webhooks": tenants.webhooks,
    "prices": tenants.prices,
    "ledger": money.ledger,
    "packages": money.packages,
    "bills": money.bills,
    "words": words.words,
    "alarms": alarms.alarms,
    "signatures": signatures.signatures,
    "filings": signatures.filings,
    "templates": templates.templates,
    "channels": channels.channels,
    "routes": channels.routes,
    "opt-outs": suppression.opt_outs,
    "blocks": suppression.blocks,
    "complaints": persons.complaints,
    "persons": persons.persons,
    "retention": persons.retention,
    "lists": lists.lists,
    "exports": lists.exports,
    "jobs": lists.jobs,
    "users": people.users,
    "audit": people.audit,
    "configuration": configuration.configuration,
    "master-key": upkeep.master_key,
}.items():
    app.add_typer(group, name=name)
tenants.tenants.command("shred")(persons.shred)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line (sys.argv unless others are given) and exit with its code."""
    try:
        sys.exit(app(arguments, prog_name="hongyan", standalone_mode=False) or 0)
    except Exception as error:
        words = frame.explain(error)
        if words is None:
            raise
        if words:
            frame.say(f"hongyan: {words}")
        sys.exit(1)


if __name__ == "__main__":
    main()
