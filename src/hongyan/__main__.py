"""The command line: `hongyan …` or `python -m hongyan …`.

Entry point: main(). The commands stand in commands/, one file per group; here they only get their names.
Errors that a person can do something about are one line on stderr and exit code 1; the rest are our bugs and
keep their traceback.
"""

import sys

import typer

from hongyan.commands import channels, check, frame, messages, simulate, tenants, upkeep, wording

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
    "keys": tenants.keys,
    "webhooks": tenants.webhooks,
    "prices": tenants.prices,
    "signatures": wording.signatures,
    "templates": wording.templates,
    "channels": channels.channels,
    "routes": channels.routes,
    "master-key": upkeep.master_key,
}.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run one command line and exit with its code."""
    try:
        app()
    except Exception as error:
        words = frame.explain(error)
        if words is None:
            raise
        frame.say(f"hongyan: {words}")
        sys.exit(1)


if __name__ == "__main__":
    main()
