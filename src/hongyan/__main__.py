"""The command line: `hongyan …` or `python -m hongyan …`.

Entry point: main(). The commands stand in commands/, one file per group; here they only get their names. Of a word that
is known only its own file is imported, and only its own commands are built: all of them would cost every start a tenth
of a second, those of the platform's processes too. Errors that a person can do something about are one line on
stderr and exit code 1; the rest are our bugs and keep their traceback.
"""

import io
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer

from hongyan.commands import frame

# What stands where in commands/.
DEEDS: Final = {
    "run": "upkeep",
    "migrate": "upkeep",
    "check": "check",
    "send": "messages",
    "trace": "messages",
    "simulate": "simulate",
    "backup": "upkeep",
    "restore": "upkeep",
}
NOUNS: Final = {
    "tenants": "tenants",
    "apps": "tenants",
    "keys": "tenants",
    "logins": "logins",
    "held": "held",
    "reviews": "reviews",
    "qualifications": "reviews",
    "documents": "reviews",
    "policies": "reviews",
    "verification-policy": "verification",
    "webhooks": "tenants",
    "prices": "tenants",
    "ledger": "money",
    "packages": "money",
    "bills": "money",
    "words": "words",
    "alarms": "alarms",
    "signatures": "signatures",
    "filings": "signatures",
    "templates": "templates",
    "channels": "channels",
    "routes": "channels",
    "opt-outs": "suppression",
    "blocks": "suppression",
    "complaints": "persons",
    "persons": "persons",
    "retention": "persons",
    "lists": "lists",
    "exports": "lists",
    "jobs": "lists",
    "users": "people",
    "audit": "people",
    "configuration": "configuration",
    "master-key": "upkeep",
    "pepper": "upkeep",
}


@cache
def application(word: str = "") -> typer.Typer:
    """Return the command line, whole; for a word it knows, what stands under that word."""
    app = typer.Typer(
        name="hongyan",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="鸿雁: a self-hosted SMS platform that never loses an accepted message, and proves it.",
        epilog="Settings come from the environment: `hongyan check --settings` lists them.",
    )
    app.callback()(_nothing)  # without it a single command would lose its name
    alone = word in DEEDS or word in NOUNS
    for deed, file in DEEDS.items():
        if deed == word or not alone:
            app.command(deed)(_of(file, deed))
    for noun, file in NOUNS.items():
        if noun == word or not alone:
            app.add_typer(_of(file, noun.replace("-", "_")), name=noun)
    return app


def _nothing() -> None:
    pass


def _of(file: str, name: str) -> Any:
    return getattr(import_module(f"hongyan.commands.{file}"), name)


@cache
def _command(word: str) -> Any:
    return typer.main.get_command(application(word))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line (sys.argv unless others are given) and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a Latin-1 terminal has no 鸿雁
    words = sys.argv[1:] if arguments is None else arguments
    try:
        command = _command(words[0] if words else "")
        sys.exit(command(arguments, prog_name="hongyan", standalone_mode=False) or 0)
    except Exception as error:
        said = frame.explain(error)
        if said is None:
            raise
        if said:
            frame.say(f"hongyan: {said}")
        sys.exit(1)


if __name__ == "__main__":
    main()
