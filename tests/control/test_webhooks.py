"""A webhook's secret is shown once; addresses inside our own network are refused unless the operator allows them."""

from dataclasses import replace

import pytest

import make
from hongyan.control import webhooks
from hongyan.vocab.errors import Refusal

from .conftest import Office

URL = "https://example.com/hook"


async def test_the_secret_is_shown_once_and_stays_when_the_url_moves(office: Office) -> None:
    async with office.database.transaction() as tx:
        secret = await webhooks.put(tx, office.vault, make.SETTINGS, office.app_id, URL)
        assert await webhooks.put(tx, office.vault, make.SETTINGS, office.app_id, URL + "/2") is None
    assert secret is not None
    read = (await office.snapshot()).webhooks[office.app_id]
    assert (read.url, read.secret.reveal()) == (URL + "/2", secret.reveal())


async def test_a_renewed_secret_replaces_the_old_one(office: Office) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal):
            await webhooks.renew_secret(tx, office.vault, office.app_id)
        old = await webhooks.put(tx, office.vault, make.SETTINGS, office.app_id, URL)
        new = await webhooks.renew_secret(tx, office.vault, office.app_id)
    assert old is not None
    assert old.reveal() != new.reveal()
    assert (await office.snapshot()).webhooks[office.app_id].secret.reveal() == new.reveal()


async def test_a_removed_webhook_is_posted_to_no_more_until_it_is_set_again(office: Office) -> None:
    async with office.database.transaction() as tx:
        await webhooks.put(tx, office.vault, make.SETTINGS, office.app_id, URL)
        await webhooks.remove(tx, office.app_id)
        with pytest.raises(Refusal):
            await webhooks.remove(tx, office.app_id)
    assert not (await office.snapshot()).webhooks
    async with office.database.transaction() as tx:
        await webhooks.put(tx, office.vault, make.SETTINGS, office.app_id, URL)
        (row,) = await webhooks.every(tx)
    assert (row.tenant, row.app, row.url, row.active, row.failures) == ("Orchid", "shop", URL, True, 0)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/", "http://169.254.169.254/", "ftp://example.com", ""]
)
async def test_a_url_we_would_not_call_is_refused(office: Office, url: str) -> None:
    async with office.database.transaction() as tx:
        with pytest.raises(Refusal) as refused:
            await webhooks.put(tx, office.vault, make.SETTINGS, office.app_id, url)
    assert refused.value.detail["parameter"] == "url"


async def test_the_operator_may_allow_private_addresses(office: Office) -> None:
    settings = replace(make.SETTINGS, webhook_private_addresses=True)
    async with office.database.transaction() as tx:
        assert await webhooks.put(tx, office.vault, settings, office.app_id, "http://127.0.0.1:9000/")
