"""E-mail to people: decisions, alarms, invitations. One function over SMTP; nothing is kept.

Writes nothing. Entry point: send(). Where no server is configured nothing is sent and the caller is told so, by False:
who must not lose a word keeps it as a row and tries again.
"""

import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

import aiosmtplib

from hongyan.settings import Settings

SUBJECT_CHARACTERS_MAX: Final = 200
TEXT_CHARACTERS_MAX: Final = 100_000
RECIPIENTS_MAX: Final = 50


class MailError(Exception):
    """The server did not take it; the text says why. It may be tried again."""


async def send(settings: Settings, to: Sequence[str], subject: str, text: str) -> bool:
    """Hand one message to the mail server, to each of `to` alone; False where none is configured.

    Raises MailError. A recipient the server refuses raises too: then others may have got it.
    """
    if not settings.smtp_host:
        return False
    for address in to[:RECIPIENTS_MAX]:
        message = EmailMessage()
        message["From"] = settings.mail_from
        message["To"] = address
        # A line break in a header would begin another header.
        message["Subject"] = " ".join(subject.split())[:SUBJECT_CHARACTERS_MAX]
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=settings.mail_from.rpartition("@")[2] or None)
        message.set_content(text[:TEXT_CHARACTERS_MAX])
        await _hand_in(settings, message)
    return True


async def _hand_in(settings: Settings, message: EmailMessage) -> None:
    try:
        await aiosmtplib.send(
            message,
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_user or None,
            password=_password(settings),
            use_tls=settings.smtp_tls == "always",
            start_tls=settings.smtp_tls == "start",
            tls_context=ssl.create_default_context() if settings.smtp_tls != "never" else None,
            timeout=settings.smtp_timeout_s,
        )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise MailError(f"{type(error).__name__}: {error}") from error


def _password(settings: Settings) -> str | None:
    if not settings.smtp_password_file:
        return None
    with open(settings.smtp_password_file, encoding="utf-8") as file:  # noqa: PTH123 - one line
        return file.readline().strip()
