"""Commands about templates: propose texts, look what is wrong with them, decide about them."""

from typing import TYPE_CHECKING, Annotated

import typer

from hongyan.commands import frame
from hongyan.commands.frame import AsJson, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hongyan import db
    from hongyan.control.template_rows import Scope
    from hongyan.vocab.message import Purpose
    from hongyan.vocab.wording import Variable

templates = typer.Typer(no_args_is_help=True, help="Wording with ${variables}, reviewed before use.")

WHO = "command line"
Tenant = Annotated[str, typer.Argument(help="The tenant's name or number.")]
Code = Annotated[str, typer.Argument(help="What programs call it by.")]
Body = Annotated[
    str, typer.Argument(help="As '您的订单${order}已发货'; quote it, $ means something to shells.")
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--variable", help="A rule, as code=code or note=text:100; again for more."),
]
Approve = Annotated[bool, typer.Option("--approve", help="Approve it at once: you have reviewed it.")]
Draft = Annotated[bool, typer.Option("--draft", help="Only store it; hand it in later.")]
Language = Annotated[str, typer.Option(help="zh, zh-Hant, en, pt-BR; empty: the default one.")]
ForScope = Annotated[str, typer.Option("--scope", help="mainland, international or any")]
ForPurpose = Annotated[str, typer.Option("--purpose", help="otp, transactional or promotional")]
Signature = Annotated[str, typer.Option(help="Without 【】.")]
Why = Annotated[str, typer.Option("--reason", help="Told to the tenant.")]


@templates.command("list")
def list_templates(as_json: AsJson = False) -> None:
    """List templates and how far their review is."""
    from hongyan.control import template_rows as room

    frame.show(room.every, as_json=as_json, empty="no templates yet")


@templates.command("create")
def create_template(
    tenant: Tenant,
    code: Code,
    body: Body,
    purpose: ForPurpose,
    variable: Variables = None,
    signature: Annotated[str, typer.Option(help="Only under this signature.")] = "",
    scope: ForScope = "any",
    language: Language = "",
    resend: Annotated[
        bool, typer.Option(help="After a crash that left it unsure, a notice may be sent again.")
    ] = True,
    draft: Draft = False,
    approve: Approve = False,
) -> None:
    """Propose a template."""
    from hongyan.control import signatures, template_rows, tenants
    from hongyan.control import templates as room

    wanted_purpose, wanted_scope = _purpose(purpose), _scope(scope)
    wanted = room.Wanted(body, dict(map(_rule, variable or ())), language)

    async def step(tx: "db.Tx", _: Desk) -> bool:
        tenant_id = await tenants.find(tx, tenant)
        bound = await signatures.find(tx, tenant_id, signature) if signature else None
        template_id = await room.propose(
            tx,
            tenant_id,
            code,
            wanted,
            wanted_purpose,
            scope=wanted_scope,
            signature_id=bound,
            resend=resend,
            draft=draft,
            who=WHO,
        )
        if approve and not draft:
            await _approve(tx, template_id)
        row = await template_rows.get(tx, template_id)
        return row.state is template_rows.TemplateState.REVIEWING

    if frame.change(step):
        frame.say(f"waits for review: hongyan templates approve {tenant} {code}")


@templates.command("propose")
def propose_text(
    tenant: Tenant,
    code: Code,
    body: Annotated[str, typer.Argument(help="Empty with --again.")] = "",
    variable: Variables = None,
    language: Language = "",
    again: Annotated[int, typer.Option(min=0, help="Propose the version of this number again.")] = 0,
    draft: Draft = False,
    approve: Approve = False,
) -> None:
    """Propose another text; the live one stays until it is approved."""
    from hongyan.control import template_rows
    from hongyan.control import templates as room

    async def step(tx: "db.Tx", _: Desk) -> str:
        template_id = await _find(tx, tenant, code)
        wanted = room.Wanted(body, dict(map(_rule, variable or ())), language)
        if again:
            old = await template_rows.get_version(tx, template_id, None, again)
            wanted = room.Wanted(old.body, old.variables, old.language)
        made = await room.propose_version(tx, template_id, None, wanted, draft=draft, who=WHO)
        if approve and not draft:
            await _approve(tx, template_id)
        now = await template_rows.version(tx, template_id, made.number)
        return f"version {now.number} ({now.language}): {now.state}"

    typer.echo(frame.change(step))


@templates.command("versions")
def list_versions(tenant: Tenant, code: Code, as_json: AsJson = False) -> None:
    """List all that was proposed for a template, the newest first."""
    from hongyan.control import template_rows as room

    async def step(tx: "db.Tx", _: Desk) -> "Sequence[room.TemplateVersion]":
        return await room.versions(tx, await _find(tx, tenant, code))

    rows = frame.look(step)
    if as_json:
        frame.show_rows(rows, as_json=True, empty="")
        return
    lines = [["version", "language", "state", "made", "by", "text", "reason"]]
    lines += [
        [
            str(row.number),
            row.language,
            row.state,
            f"{row.made_at:%Y-%m-%d %H:%M}",
            row.made_by,
            row.body,
            row.reason,
        ]
        for row in rows
    ]
    typer.echo(frame.table(lines))


@templates.command("submit")
def submit_version(tenant: Tenant, code: Code, version: int) -> None:
    """Hand a draft in for review."""
    from hongyan.control import templates as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.submit(tx, await _find(tx, tenant, code), None, version, who=WHO)

    frame.change(step)


@templates.command("withdraw")
def withdraw_version(tenant: Tenant, code: Code, version: int) -> None:
    """Take back a draft or what is under review."""
    from hongyan.control import templates as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.withdraw(tx, await _find(tx, tenant, code), None, version)

    frame.change(step)


@templates.command("approve")
def approve_template(tenant: Tenant, code: Code) -> None:
    """Approve the version that is under review: its text is live from now on."""

    async def step(tx: "db.Tx", _: Desk) -> str:
        return await _approve(tx, await _find(tx, tenant, code))

    if (state := frame.change(step)) != "approved":
        frame.say(f"{state}: somebody else has to approve it too")


@templates.command("reject")
def reject_template(tenant: Tenant, code: Code, reason: Why = "") -> None:
    """Reject the version that is under review."""
    from hongyan.control import templates as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.decide(tx, await _find(tx, tenant, code), approve=False, who=WHO, reason=reason)

    frame.change(step)


@templates.command("disable")
def disable_template(tenant: Tenant, code: Code) -> None:
    """Let nobody use an approved template for now."""
    from hongyan.control import templates as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.disable(tx, await _find(tx, tenant, code), None, by_platform=True)

    frame.change(step)


@templates.command("enable")
def enable_template(tenant: Tenant, code: Code) -> None:
    """Let a disabled template be used again."""
    from hongyan.control import templates as room

    async def step(tx: "db.Tx", _: Desk) -> None:
        await room.enable(tx, await _find(tx, tenant, code), None, by_platform=True)

    frame.change(step)


@templates.command("lint")
def lint_text(
    body: Body,
    purpose: ForPurpose,
    variable: Variables = None,
    scope: ForScope = "any",
    signature: Signature = "",
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a text; ends with 1 where it could not be handed in. Asks no list of words."""
    from hongyan.control import lint

    rules = dict(map(_rule, variable or ()))
    findings = lint.check(body, _purpose(purpose), _scope(scope), signature, rules)
    if as_json:
        frame.show_rows(findings, as_json=True, empty="")
    elif not findings:
        frame.say("nothing to say")
    else:
        lines = [["level", "rule", "where", "what", "better"]]
        lines += [
            [one.level, one.rule, body[one.start : one.end][:30], one.en, one.suggestion or ""]
            for one in findings
        ]
        typer.echo(frame.table(lines))
    if lint.worst(findings) is lint.FindingLevel.ERROR:
        raise typer.Exit(1)


async def _find(tx: "db.Tx", tenant: str, code: str) -> int:
    from hongyan.control import template_rows, tenants

    return await template_rows.find(tx, await tenants.find(tx, tenant), code)


async def _approve(tx: "db.Tx", template_id: int) -> str:
    from hongyan.control import templates as room

    return await room.decide(tx, template_id, approve=True, who=WHO)


def _purpose(written: str) -> "Purpose":
    wanted = frame.purpose_of(written)
    if wanted is None:
        raise typer.BadParameter("say otp, transactional or promotional", param_hint="--purpose")
    return wanted


def _scope(written: str) -> "Scope":
    places: dict[str, Scope] = {"mainland": "mainland", "international": "international", "any": "any"}
    if written not in places:
        raise typer.BadParameter(f"say {', '.join(places)}", param_hint="--scope")
    return places[written]


def _rule(written: str) -> "tuple[str, Variable]":
    """Read name=kind or name=kind:characters."""
    from hongyan.vocab.wording import Variable

    name, equals, rest = written.partition("=")
    kind, _, most = rest.partition(":")
    if not (name and equals and kind and (not most or most.isdecimal())):
        raise typer.BadParameter(
            f"{written!r}: say name=kind or name=kind:characters", param_hint="--variable"
        )
    return name, Variable(kind, int(most or 0))
