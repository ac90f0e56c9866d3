"""Commands about the policies of verification codes: what holds, and what a guesser would gain by a proposal.

Writes nothing: a policy is said at the console or over the API, where the tenant's own people do it.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hongyan import db
    from hongyan.otp.policies import PolicyRow, Weighed

verification_policy = typer.Typer(
    no_args_is_help=True, help="How strict a tenant is about verification codes."
)


@verification_policy.command("show")
def show_policy(
    tenant: Annotated[str, typer.Option(help="Whose: its name or number.")], as_json: AsJson = False
) -> None:
    """Show what a guesser gains by a tenant's policies, scene by scene; --json: the policies whole."""
    from hongyan.control import tenants
    from hongyan.otp import policies

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[PolicyRow]":
        return await policies.read(tx, await tenants.find(tx, tenant))

    rows = frame.look(step)
    if as_json:
        frame.show_rows(rows, as_json=True, empty="")
        return
    for row in rows:
        typer.echo(f"{row.scene or 'every scene'}{'' if row.said else ' (the defaults)'}")
        _tell(row.weighed)


@verification_policy.command("check")
def check_policy(
    digits: Annotated[int, typer.Option(min=1, max=64, help="Characters of a code.")] = 6,
    tries: Annotated[int, typer.Option(min=1, max=1_000, help="Wrong codes before it is no good.")] = 5,
    validity_s: Annotated[int, typer.Option(min=1, max=86_400, help="How long a code is good.")] = 300,
    number_day: Annotated[int, typer.Option(min=1, max=10_000, help="Codes to a number in 24 h.")] = 10,
    letters: Annotated[bool, typer.Option("--letters", help="Codes of letters and digits.")] = False,
    new: Annotated[bool, typer.Option("--new", help="A resend makes another code.")] = False,
    as_json: AsJson = False,
) -> None:
    """Reckon how likely a code is guessed, for each code and a year; exit code 1 where that is careless."""
    import msgspec

    from hongyan.otp import policies

    weighed = policies.weigh(
        policies.Proposal(
            digits=digits,
            tries=tries,
            validity_s=validity_s,
            number_day=number_day,
            alphabet="letters" if letters else "digits",
            resend="new" if new else "same",
        )
    )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(weighed), indent=2))
    else:
        _tell(weighed)
    if weighed.careless:
        raise typer.Exit(1)


def _tell(weighed: "Weighed") -> None:
    for line in weighed.steps:
        typer.echo(f"  {line}")
    for finding in weighed.findings:
        typer.echo(f"  careless: {finding.name}: {finding.reason}")
