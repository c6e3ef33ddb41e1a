"""How a client is set up, and what it does not send."""

import pathlib
import ssl
import subprocess
from typing import Any

import pytest
from answers import client, ok, propose
from conftest import Hostile, Service

import openexec
from openexec import Client


@pytest.mark.parametrize("url", [
    "http://example.com", "http://10.0.0.1:5000", "http://localhost.:5000", "http://127.0.0.1.evil.example", "http://2130706433", "ftp://localhost",
    "localhost:5000", "http://", "http://user:secret@localhost", "http://localhost/path", "http://localhost?x", "http://localhost:99999", "http://localhost:x",
    "https://\u0435xample.com", "http://localhost\r\nX: y", "http://0.0.0.0:5000", "http://[::ffff:10.0.0.1]:5000", "x",
])
def test_urls_that_are_not_taken(url: str) -> None:
    with pytest.raises(openexec.ConfigurationError) as refused:
        Client(url)
    assert "secret" not in str(refused.value)


def test_urls_that_are() -> None:
    for url in ("http://localhost", "http://127.0.0.1:1/", "http://[::1]:5000", "https://example.com", "https://[2001:db8::1]", "unix:/run/x"):
        Client(url)
    Client("http://openexec:5000", plain_http=True)


def test_tokens(tmp_path: pathlib.Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    for text in ("", " \n", "a b", "a\nb", "a\r\nX-Evil: 1", "\u00e9", "x" * 600):
        file.write_text(text)
        with pytest.raises(openexec.ConfigurationError) as refused:
            Client(token_file=file)
        assert text.strip() == "" or text not in str(refused.value)
        if text:
            with pytest.raises(openexec.ConfigurationError):
                Client(token=text)
    with pytest.raises(openexec.ConfigurationError):
        Client(token_file=tmp_path / "none")
    with pytest.raises(openexec.ConfigurationError):
        Client(token="x", token_file=file)
    # As it is at each request: the operator may change it.
    hostile.answers = [ok()]
    file.write_text("openexec_one\n")
    one = client(hostile.url, token_file=file)
    propose(one)
    file.write_text("openexec_two\n")
    propose(one)
    assert b"Bearer openexec_one\r\n" in hostile.heard[0] and b"Bearer openexec_two\r\n" in hostile.heard[1]
    assert "openexec_" not in repr(one) + repr(vars(one)["_transport"])
    monkeypatch.setenv("OPENEXEC_TOKEN", "openexec_three")
    monkeypatch.setenv("OPENEXEC_URL", hostile.url)
    propose(Client())
    assert b"Bearer openexec_three\r\n" in hostile.heard[2]
    monkeypatch.setenv("OPENEXEC_TOKEN_FILE", str(file))
    with pytest.raises(openexec.ConfigurationError):
        Client()


@pytest.mark.parametrize("changes", [
    {"nonce": ""}, {"nonce": 8841}, {"nonce": None}, {"nonce": b"n"}, {"nonce": "x" * 257}, {"nonce": "\u20ac" * 86}, {"nonce": "a\nb"}, {"nonce": "a\x85b"}, {"nonce": "\ud800"},
    {"payload": []}, {"payload": "[]"}, {"payload": "{"}, {"payload": '{"a":1,"a":2}'}, {"payload": {"a": 2**53}}, {"payload": '{"a":1e-999}'},
    {"payload": {"x": "y" * 1_100_000}}, {"payload": '{"x":"' + "y" * 10_000_000 + '"}'}, {"payload": {"x": "\U0001f600" * 300_000}},
])
def test_what_is_not_sent(hostile: Hostile, changes: dict[str, Any]) -> None:
    with pytest.raises(openexec.Unsendable):
        client(hostile.url).propose("echo", **({"payload": {}, "nonce": "n"} | changes))
    assert hostile.heard == []


@pytest.mark.parametrize("id", ["", "x", "0" * 63, "A" * 64, "../execute", "0" * 64 + "\n", None])
def test_ids_that_are_none(hostile: Hostile, id: Any) -> None:
    one = client(hostile.url)
    for ask in (one.proposal, one.withdraw, lambda id: one.wait(id, timeout_seconds=1)):
        with pytest.raises(openexec.Unsendable):
            ask(id)
    assert hostile.heard == []


# HTTPS and sockets.


def certificate(at: pathlib.Path, name: str, *, alternative: str) -> tuple[pathlib.Path, pathlib.Path]:
    key, made = at / f"{name}.key", at / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(made), "-days", "2", "-subj", "/CN=x"]
    subprocess.run([*command, "-addext", f"subjectAltName={alternative}"], check=True, capture_output=True)
    return made, key


def test_https(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, key = certificate(tmp_path, "good", alternative="DNS:localhost")
    other, _ = certificate(tmp_path, "other", alternative="DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(good, key)
    hostile = Hostile(context)
    hostile.answers = [ok()]
    url = hostile.url.replace("http://127.0.0.1", "https://localhost")
    assert propose(client(url, ca_file=good, token="openexec_t")).state == "executed"
    monkeypatch.setenv("OPENEXEC_CA_FILE", str(good))
    assert propose(client(url)).state == "executed"
    heard = len(hostile.heard)
    for address, ca in ((url, other), (url.replace("localhost", "127.0.0.1"), good)):
        with pytest.raises(openexec.ConfigurationError, match="not trusted"):
            propose(client(address, ca_file=ca, token="openexec_t"))
    monkeypatch.delenv("OPENEXEC_CA_FILE")
    with pytest.raises(openexec.ConfigurationError, match="not trusted"):
        propose(client(url, token="openexec_t"))
    for ca in (key, tmp_path / "none"):
        with pytest.raises(openexec.ConfigurationError, match="CA file"):
            Client(url, ca_file=ca)
    with pytest.raises(openexec.NoAnswer):
        propose(client(url.replace("https", "http"), token="openexec_t"))
    assert len(hostile.heard) == heard


def test_a_socket(service: Service) -> None:
    at = service.at / "socket"
    service.one.stop()
    listen = service.one.environment["OPENEXEC_LISTEN"]
    service.one.environment["OPENEXEC_LISTEN"] = f"{service.url.removeprefix('http://')},unix:{at}"
    service.one.start()
    made = Client(f"unix:{at}", token_file=service.at / "agent.token").propose("refund", service.refund(), nonce="by a socket")
    assert made.state == "pending"
    service.one.stop()
    service.one.environment["OPENEXEC_LISTEN"] = listen
    service.one.start()
    service.url = service.one.url
