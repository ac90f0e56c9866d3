"""No two sealed values share a nonce: under AES-GCM that would show both."""

import multiprocessing
from multiprocessing.connection import Connection

import pytest

from hongyan import vault
from hongyan.vault import NONCE_OCTETS, Secret, Vault, VaultError, make_wrapped

MASTER = Secret(bytes(32))


def a_vault() -> Vault:
    return Vault(
        MASTER, {name: make_wrapped(MASTER, name) for name in ("index", "secrets", "tenant:1", "tenant:2")}
    )


def nonces_of(keys: Vault, count: int) -> set[bytes]:
    return {keys.seal(1, b"plain")[:NONCE_OCTETS] for _ in range(count)}


def test_what_was_sealed_is_read_again_by_its_tenant_only() -> None:
    keys = a_vault()
    sealed = keys.seal(1, "验证码为:1234".encode())
    assert keys.unseal(1, sealed).decode() == "验证码为:1234"
    with pytest.raises(VaultError):
        keys.unseal(2, sealed)
    with pytest.raises(VaultError):
        keys.unseal(1, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_no_nonce_comes_twice_not_even_when_the_counter_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "COUNTER_OCTETS", 1)
    vault._nonces.renew()
    try:
        assert len(nonces_of(a_vault(), 1_000)) == 1_000
    finally:
        monkeypatch.undo()
        vault._nonces.renew()


def test_a_forked_process_takes_nonces_of_its_own() -> None:
    keys = a_vault()
    before = nonces_of(keys, 10)

    def child(pipe: Connection) -> None:
        pipe.send(nonces_of(keys, 100))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    there = ours.recv()
    process.join(20)
    here = nonces_of(keys, 100)
    assert len(before | there | here) == 210
