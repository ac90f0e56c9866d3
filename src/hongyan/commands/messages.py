"""Commands about messages: send one as a customer's program would, and tell one's whole story."""

import asyncio
import json
import os
import secrets
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hongyan.commands import frame
from hongyan.commands.frame import Desk

if TYPE_CHECKING:
    from hongyan.settings import Settings
    from hongyan.way.lookup import Attempt, Story

PATH = "/v1/messages"
WAIT_S = 30.0
KEY_ID = "APP_KEY_ID"
SECRET = "APP_KEY_SECRET"  # noqa: S105 - the name of a variable


def send(
    number: Annotated[str, typer.Argument(help="E.164, or the mainland's national form.")],
    template: Annotated[str, typer.Option(help="The template's code.")] = "",
    param: Annotated[list[str] | None, typer.Option(help="name=value; again for more.")] = None,
    signature: Annotated[str, typer.Option(help="Without 【】.")] = "",
    text: Annotated[str, typer.Option(help="Free text, for keys that may; needs a purpose.")] = "",
    purpose: Annotated[str, typer.Option(help="otp, transactional or promotional")] = "",
    send_at: Annotated[str, typer.Option(help="RFC 3339, as 2030-01-31T09:00:00+08:00")] = "",
    validity_s: Annotated[int, typer.Option(help="How long it is worth trying; 0 = the default.")] = 0,
    reference: Annotated[str, typer.Option(help="Yours; comes back with everything.")] = "",
    extension: Annotated[str, typer.Option(help="Digits after our access number.")] = "",
    url: Annotated[str, typer.Option(help="The door; empty: the one of these settings.")] = "",
    key_id: Annotated[str, typer.Option(envvar=KEY_ID, help="App key; empty: the demo's.")] = "",
) -> None:
    """Send a message over the REST API of a running door, signed by an app key.

    The secret is read from APP_KEY_SECRET or asked for; it is no option, so that it stays out of your
    history.
    """
    from hongyan import settings as knobs

    settings = knobs.read()
    body: dict[str, object] = {
        "to": number,
        "template": template,
        "params": dict(_pair(written) for written in param or ()),
        "signature": signature,
        "text": text,
        "purpose": purpose,
        "send_at": send_at,
        "validity_s": validity_s,
        "reference": reference,
        "extension": extension,
    }
    key_id, secret = _credentials(settings, key_id)
    base = url.rstrip("/") or settings.door_url()
    octets = json.dumps({name: value for name, value in body.items() if value}).encode()
    status, answer = asyncio.run(_post(settings, base, key_id, secret, octets))
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    if status >= 300:
        raise typer.Exit(1)
    frame.say(f"its story: hongyan trace {answer['data']['id']}")


def _pair(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals:
        raise typer.BadParameter(f"{written!r}: say name=value", param_hint="--param")
    return name, value


def _credentials(settings: "Settings", key_id: str) -> tuple[str, bytes]:
    from hongyan.control import demo

    if not key_id:
        laid = demo.read(settings)
        if laid is None:
            raise typer.BadParameter(f"give one, or set {KEY_ID}", param_hint="--key-id")
        frame.say("with the demo tenant's key")
        return laid.key_id, laid.secret.encode()
    return key_id, (os.environ.get(SECRET) or frame.ask_secret(f"secret of {key_id}")).encode()


async def _post(
    settings: "Settings", base: str, key_id: str, secret: bytes, body: bytes
) -> tuple[int, dict[str, Any]]:
    """Return the door's status and answer. Raises typer.Exit where no door answers."""
    from dataclasses import replace

    from hongyan.doors.auth import SCHEME, canonical, mac_of
    from hongyan.egress import Failed, open_egress

    stamp, nonce = str(int(time.time())), secrets.token_urlsafe(18)
    mac = mac_of(secret, canonical(b"POST", PATH.encode(), b"", body, stamp.encode(), nonce.encode()))
    headers = {
        "Authorization": f"{SCHEME} key_id={key_id},timestamp={stamp},nonce={nonce},mac={mac}",
        "Content-Type": "application/json",
    }
    # Whoever types the address is the operator, so private ones are allowed.
    async with open_egress(replace(settings, webhook_private_addresses=True)) as egress:
        answer = await egress.request(
            "POST", base + PATH, timeout_s=WAIT_S, headers=headers, body=body, answer_octets_max=65_536
        )
    if isinstance(answer, Failed):
        frame.say(f"{base} does not answer ({answer.reason}); is `hongyan run` running there?")
        raise typer.Exit(1)
    try:
        return answer.status, json.loads(answer.body)
    except ValueError:
        frame.say(f"{base} answered {answer.status} and no JSON: is it a door of hongyan?")
        raise typer.Exit(1) from None


def trace(
    message_id: Annotated[str, typer.Argument(help="As the API returned it.")],
    clear: Annotated[bool, typer.Option("--clear", help="Show number and text unmasked.")] = False,
    as_json: frame.AsJson = False,
) -> None:
    """Tell a message's whole story: rules, channels considered, upstream ids and codes, times."""
    import msgspec

    try:
        wanted = uuid.UUID(message_id)
    except ValueError as error:
        raise typer.BadParameter("this is no message id", param_hint="message_id") from error

    story = frame.at_desk(lambda desk: _story(desk, wanted))
    if story is None:
        frame.say("there is no such message here; was it pruned, or is it another database?")
        raise typer.Exit(1)
    if not clear:
        story = _masked(story)
    typer.echo(msgspec.json.format(msgspec.json.encode(story)).decode() if as_json else told(story))


async def _story(desk: Desk, message_id: uuid.UUID) -> "Story | None":
    from hongyan.way import lookup
    from hongyan.way.snapshot import Keeper

    snapshot = await Keeper(desk.database, desk.vault).load()
    async with desk.database.transaction() as tx:
        tenant_id = await lookup.owner(tx, message_id)
        if tenant_id is None:
            return None
        return await lookup.one(tx, snapshot, desk.vault, tenant_id, message_id)


def _masked(story: "Story") -> "Story":
    import msgspec

    from hongyan.observe import HIDDEN, masked

    number = masked(story.number) if story.number else story.number
    return msgspec.structs.replace(story, number=number, text=HIDDEN, params=None)


def told(story: "Story") -> str:
    """Write a story as a person reads it: what it is, then what happened, in order of time."""
    price = f"{frame.amount(story.price_micro)} {story.currency}"
    refund = f", {frame.amount(story.refund_micro)} refunded" if story.refund_micro else ""
    place = " ".join(filter(None, (story.country, story.operator, story.province)))
    facts = [
        ["message", str(story.id)],
        ["to", f"{story.number or 'erased'}  ({place})"],
        ["text", story.text or "erased"],
        ["wording", f"{story.purpose}  signature {story.signature or '-'}  template {story.template or '-'}"],
        ["app", f"{story.app or story.app_id}{'  (sandbox)' if story.sandbox else ''}"],
        ["cost", f"{story.part_count} part(s), {price}{refund}"],
        ["reference", story.reference or "-"],
        ["status", _verdict(story)],
    ]
    moments = sorted(_moments(story), key=lambda each: each[0])
    lines = [[at.astimezone().isoformat(" ", "milliseconds"), words] for at, words in moments]
    return frame.table(facts) + "\n\n" + frame.table(lines)


def _verdict(story: "Story") -> str:
    cause = "" if story.cause == "none" else f"  cause {story.cause}"
    code = f"  upstream code {story.upstream_code}" if story.upstream_code else ""
    return f"{story.status}{cause}{code}"


def _moments(story: "Story") -> list[tuple[datetime, str]]:
    moments = [(story.accepted_at, f"accepted; {_decided(story.decision)}")]
    if story.due_at > story.accepted_at and story.status == "accepted":
        moments.append((story.due_at, "due"))
    for attempt in story.attempts:
        moments += _attempt_moments(attempt, story.part_count)
    if story.done_at is not None:
        moments.append((story.done_at, _verdict(story)))
    return moments


def _attempt_moments(attempt: "Attempt", part_count: int) -> list[tuple[datetime, str]]:
    part = f"part {attempt.part_index}/{part_count}, attempt {attempt.attempt}"
    moments = [(attempt.sent_at, f"{part}: handed to {attempt.channel}; {_decided(attempt.decision)}")]
    if attempt.acked_at is not None:
        moments.append((attempt.acked_at, f"{part}: taken as {attempt.upstream_id or '(no id)'}"))
    elif attempt.unsure:
        moments.append((attempt.sent_at, f"{part}: no answer was heard, it may have left"))
    if attempt.reported_at is not None:
        code = f", they say {attempt.upstream_code}" if attempt.upstream_code else ""
        moments.append((attempt.reported_at, f"{part}: report {attempt.status}{code}"))
    return moments


def _decided(decision: Any) -> str:
    """Write a decision's trace in one line: {"route": {"channel": "east"}} is route(channel east)."""
    if decision is None:
        return "no trace kept"
    return _words(json.loads(bytes(decision)))


def _words(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(
            f"{name}({_words(each)})" if isinstance(each, dict | list) else f"{name} {_words(each)}"
            for name, each in value.items()
        )
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return "-" if value is None else str(value)
