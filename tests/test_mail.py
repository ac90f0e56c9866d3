"""E-mail over a real SMTP server of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from hongyan import mail
from hongyan.settings import Settings


class Box:
    """Keeps what came, and refuses one address."""

    def __init__(self) -> None:
        self.came: list[tuple[list[str], str]] = []

    async def handle_RCPT(  # noqa: N802 - the server calls it so
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address == "nobody@example.com":
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.came.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Box, Settings]]:
    box = Box()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, loop=loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield (
        box,
        replace(
            Settings(),
            smtp_host="127.0.0.1",
            smtp_port=port,
            smtp_tls="never",
            mail_from="us@example.com",
        ),
    )
    server.close()


async def test_each_recipient_gets_a_mail_of_his_own(served: tuple[Box, Settings]) -> None:
    box, settings = served
    assert await mail.send(settings, ["a@example.com", "b@example.com"], "鸿雁：审核通过", "签名已通过审核。")
    assert [to for to, _ in box.came] == [["a@example.com"], ["b@example.com"]]
    assert all("b@" not in text for to, text in box.came if to == ["a@example.com"])


async def test_a_subject_cannot_smuggle_a_header_in(served: tuple[Box, Settings]) -> None:
    box, settings = served
    await mail.send(settings, ["a@example.com"], "hello\r\nBcc: c@example.com", "text")
    head = box.came[0][1].partition("\r\n\r\n")[0]
    assert "\nBcc:" not in head


async def test_what_the_server_refuses_is_told(served: tuple[Box, Settings]) -> None:
    _, settings = served
    with pytest.raises(mail.MailError, match="no such user"):
        await mail.send(settings, ["nobody@example.com"], "hello", "text")


async def test_without_a_server_nothing_is_sent_and_that_is_said() -> None:
    assert await mail.send(Settings(), ["a@example.com"], "hello", "text") is False


async def test_a_server_that_is_not_there_is_an_error_and_no_hanging() -> None:
    listener = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    with pytest.raises(mail.MailError):
        await mail.send(
            replace(Settings(), smtp_host="127.0.0.1", smtp_port=port, smtp_tls="never"),
            ["a@example.com"],
            "s",
            "t",
        )
